"""Jobs that come again: each time of a schedule once, through kills, pauses and clocks that jump. The wall clock of the master is the
test's own (test/preload/wallclock.c), so that nobody waits for minutes to pass."""
import datetime
import http.client
import json
import shutil
import tempfile
import time

import pytest

from conftest import PATIENCE_S, wait_for
from preload import WallClock
from test_metrics import Watched

MINUTE = 60


class Cron(Watched):
    """A master whose wall clock is ours, and a worker that only pretends to run. The clock stands a while before a full minute, so that
    none comes by itself."""

    def __init__(self, *worker):
        super().__init__(tempfile.mkdtemp(prefix='rota-cron-'))
        self.clock = WallClock(f'{self.directory}/clock')
        self.base = (int(time.time()) // 3600 + 1) * 3600  # a full hour, UTC
        self.clock.move_to(self.base - 0.5 * MINUTE)
        self.start()
        self.start_worker(1, *(worker or ('--exec', 'fake')), '--cpus', '8')
        self.wait_nodes(1)

    def start(self):
        environment = self.clock.environment()
        # Jobs are submitted on behalf of somebody who made no request: nothing of theirs may be left on a stack.
        environment['ASAN_OPTIONS'] += ':detect_stack_use_after_return=1'
        return self.start_master(extra_env=environment)

    def add(self, name='each', at='* * * * *', *options, body=('--', 'true')):
        return self.ok('cron', 'add', name, '--at', at, '--tz', 'UTC', *options, *body)

    def entry(self, name='each'):
        return self.json('cron', 'show', name)

    def come(self, minute):
        """It is `minute` minutes after the full hour, and the master knows. (Any change of an entry makes it look.)"""
        self.clock.move_to(self.base + minute * MINUTE + 1)
        self.ok('cron', 'add', f'look-{minute}', '--at', '0 0 1 1 *', '--', 'true')
        self.ok('cron', 'rm', f'look-{minute}')

    def due_times(self, name='each'):
        """Minutes after the full hour of the jobs that were submitted, by job."""
        return {event['job']: (event['due_wall_ms'] / 1000 - self.base) / MINUTE for event in self.events() if event.get('cron') == name}

    def call(self, method, path, body):
        """Status and answer."""
        with open(self.environment['ROTA_TOKEN_FILE'], encoding='ascii') as f:
            token = f.read().strip()
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=PATIENCE_S)
        connection.request(method, path, json.dumps(body), {'Authorization': f'Bearer {token}', 'Content-Type': 'application/json'})
        reply = connection.getresponse()
        answer = json.loads(reply.read())
        connection.close()
        return reply.status, answer

    def events(self):
        return [json.loads(line) for line in self.ok('events', '--since', '0', '--json').splitlines()]


@pytest.fixture
def cron():
    made = []

    def make(*worker):
        made.append(Cron(*worker))
        return made[-1]

    yield make
    for one in made:
        one.stop()
        shutil.rmtree(one.directory, ignore_errors=True)


def submitted(c, count, name='each'):
    return wait_for(lambda: c.entry(name)['submitted'] == count and c.entry(name), f'{name} has not submitted {count}: {c.entry(name)}')


def test_each_minute(cron):
    """It comes by itself at the full minute; name and environment of the job say by what and for when."""
    c = cron('--exec', 'process')
    c.add(body=('--cpus', '0.5', '--', 'sh', '-c', 'echo $ROTA_CRON $ROTA_CRON_DUE'))
    full = datetime.datetime.fromtimestamp(c.base, datetime.timezone.utc)
    stamp = lambda minute: (full + datetime.timedelta(minutes=minute)).strftime('%Y-%m-%dT%H:%M:%S.000Z')
    assert c.entry()['next'] == [stamp(0), stamp(1), stamp(2)]
    c.clock.move_to(c.base - 2)
    c.ok('cron', 'set', 'each', '--if-running', 'allow')  # it looks at the clock
    job = str(submitted(c, 1)['last_job'])
    assert c.rota('wait', job).returncode == 0
    assert c.ok('logs', job) == f'each {stamp(0)}\n'
    shown = c.json('show', job)
    assert shown['name'] == 'each' and shown['cron'] == 'each' and shown['cron_due'] == stamp(0) and shown['cpus'] == 0.5
    assert f'cron due     {stamp(0)}' in c.ok('show', job)
    c.come(1)
    submitted(c, 2)
    assert list(c.due_times().values()) == [0, 1]


@pytest.mark.parametrize('missed,late_s,due,passed', [('last', 0, [0, 7], 6), ('none', 20, [0, 7], 6), ('none', 70, [0], 7),
                                                      ('all', 0, [0, 1, 2, 3, 4, 5, 6, 7], 0)])
def test_no_master_for_minutes(cron, missed, late_s, due, passed):
    c = cron()
    c.add('each', '* 0-23 * * *', '--missed', missed, '--if-running', 'allow')
    c.ok('cron', 'set', 'each', '--at', '* * * * *')
    c.come(0)
    submitted(c, 1)
    if late_s > MINUTE:  # the last one is too late, and there is none after it
        c.ok('cron', 'set', 'each', '--at', '1-7 * * * *')
    c.crash('master')
    c.clock.move_to(c.base + 7 * MINUTE + late_s + 1)
    c.start()
    wait_for(lambda: c.entry()['submitted'] == len(due) and c.entry()['passed'] == passed, f'{c.entry()}')
    assert list(c.due_times().values()) == due
    if passed:
        told = next(event for event in c.events() if event['event'] == 'cron.passed')
        assert told['passed_for'] == 'missed' and told['count'] == passed


def test_away_for_a_year(cron):
    """More due times than are counted: only the last one comes, and a master that starts does not stand still for it."""
    c = cron()
    c.add('each', '* * * * *')
    c.add('week', '0 12 * * sun')
    c.crash('master')
    c.clock.move(400 * 24 * 3600)
    c.start()
    entry = submitted(c, 1)
    week = submitted(c, 1, 'week')
    assert entry['passed'] == 999 and week['passed'] in (56, 57)
    now = c.clock.now()
    due = {event['cron']: event['due_wall_ms'] / 1000 for event in c.events() if event.get('cron')}
    assert 0 <= now - due['each'] < 2 * MINUTE and 0 <= now - due['week'] <= 7 * 24 * 3600
    assert time.gmtime(due['week'])[3:7] == (12, 0, 0, 6)


def test_killed_around_the_full_minute(cron):
    """However often the master is killed, each due time has one job: it goes on where the journal ends."""
    c = cron()
    c.add('each', '* * * * *', '--missed', 'all', '--if-running', 'allow')
    for minute in range(6):
        c.clock.move_to(c.base + minute * MINUTE - 0.3)
        c.crash('master')
        c.start()
        c.rota('cron')  # it answers, and looks
        time.sleep(0.1 * minute)
    c.clock.move_to(c.base + 5 * MINUTE + 2)
    c.crash('master')
    c.start()
    submitted(c, 6)
    assert list(c.due_times().values()) == [0, 1, 2, 3, 4, 5]
    wait_for(lambda: c.json('stats')['tasks']['succeeded'] == 6, 'not all run')


def test_the_job_before_still_runs(cron):
    c = cron()
    job = '{"command": ["x"], "simulate": {"run_s": 600}}'
    c.call('PUT', '/v1/cron/each', {'schedule': '* * * * *', 'job': json.loads(job)})
    c.come(0)
    first = submitted(c, 1)['last_job']
    c.come(1)
    entry = wait_for(lambda: c.entry()['passed'] == 1 and c.entry(), 'not passed')
    assert entry['last_passed']['reason'] == 'overlap' and entry['last_passed']['text'] == f'job {first} has not ended'
    assert f'overlap: job {first} has not ended' in c.ok('cron', 'show', 'each')
    c.ok('cron', 'set', 'each', '--if-running', 'wait')
    c.come(2)
    second = submitted(c, 2)['last_job']
    assert c.json('show', second)['state'] == 'blocked' and c.json('show', second)['after'] == [{'job': first, 'when': 'any'}]
    c.ok('cron', 'set', 'each', '--if-running', 'replace')
    c.come(3)
    third = submitted(c, 3)['last_job']
    assert c.json('show', second)['state'] == 'cancelled' and c.json('show', third)['state'] in ('queued', 'dispatched', 'running')
    c.ok('cron', 'set', 'each', '--if-running', 'allow')
    c.come(4)
    submitted(c, 4)
    wait_for(lambda: c.json('stats')['tasks'].get('running') == 3, 'they do not run beside each other')


def test_pause_change_and_remove(cron):
    c = cron()
    c.add()
    c.ok('cron', 'pause', 'each')
    assert c.entry()['next'] == [] and 'paused' in c.ok('cron')
    c.come(3)
    c.ok('cron', 'resume', 'each')
    c.come(4)
    submitted(c, 1)
    assert list(c.due_times().values()) == [4]  # what passed meanwhile is not made up for
    c.ok('cron', 'set', 'each', '--at', '*/10 * * * *')
    c.come(9)
    assert c.entry()['submitted'] == 1
    c.come(10)
    submitted(c, 2)
    assert c.rota('cron', 'rm', 'each').returncode == 0
    assert c.rota('cron', 'show', 'each').returncode == 3
    assert c.json('cron')['entries'] == []
    assert [event['event'] for event in c.events() if event.get('name') == 'each' and event['event'].startswith('cron')] == [
        'cron.set', 'cron.set', 'cron.set', 'cron.set', 'cron.removed']


def test_a_clock_that_is_set(cron):
    """Back: nothing comes twice."""
    c = cron()
    c.add('each', '* * * * *', '--if-running', 'allow')
    c.come(5)
    submitted(c, 1)
    c.clock.move_to(c.base + 2 * MINUTE + 50)
    c.come(4)
    c.come(5)
    assert c.entry()['submitted'] == 1
    c.come(6)
    submitted(c, 2)
    assert list(c.due_times().values()) == [5, 6]


def test_a_job_that_is_refused_is_told(cron):
    c = cron()
    c.add('each', '* * * * *', body=('--queue', 'full', '--', 'true'))
    c.ok('queue', 'create', 'full', '--pending', '0')
    c.come(0)
    entry = wait_for(lambda: c.entry()['passed'] and c.entry(), 'not passed')
    assert entry['last_passed']['reason'] == 'refused' and 'full' in entry['last_passed']['text'], entry
    assert c.value('rota_cron_due_total{result="refused"}') == 1 and c.value('rota_cron_due_total{result="submitted"}') == 0
    c.ok('queue', 'set', 'full', '--pending', 'none')
    c.come(1)
    submitted(c, 1)
    assert c.value('rota_cron_due_total{result="submitted"}') == 1 and c.value('rota_cron_entries') == 1


def test_wrong_entries(cron):
    c = cron()
    wrong = [({'schedule': '* * *', 'job': {'command': ['x']}}, 'schedule'), ({'schedule': '0 0 31 2 *', 'job': {'command': ['x']}}, 'schedule'),
             ({'job': {'command': ['x']}}, 'schedule'), ({'schedule': '* * * * *'}, 'job'), ({'schedule': '* * * * *', 'job': {}}, 'job.command'),
             ({'schedule': '* * * * *', 'job': {'command': ['x'], 'cpuz': 1}}, 'job.cpuz'), ({'schedule': '* * * * *', 'job': ['x']}, 'job'),
             ({'schedule': '* * * * *', 'zone': 'Mars/Olympus', 'job': {'command': ['x']}}, 'zone'),
             ({'schedule': '* * * * *', 'overlap': 'maybe', 'job': {'command': ['x']}}, 'overlap'),
             ({'schedule': '* * * * *', 'missed': 'some', 'job': {'command': ['x']}}, 'missed'),
             ({'schedule': '* * * * *', 'job': {'command': ['x'], 'key': 'k'}}, 'job.key'),
             ({'schedule': '* * * * *', 'job': {'command': ['x'], 'env': {'BIG': 'x' * 62000}}}, 'job'),
             ({'schedule': '* * * * *', 'jib': 1, 'job': {'command': ['x']}}, 'jib')]
    for body, field in wrong:
        status, answer = c.call('PUT', '/v1/cron/each', body)
        assert 400 <= status < 500 and answer['field'] == field, (body, status, answer)
    assert c.json('cron')['entries'] == []
    status, answer = c.call('PUT', '/v1/cron/' + 'n' * 65, {'schedule': '* * * * *', 'job': {'command': ['x']}})
    assert status == 400 and answer['field'] == 'name'
    for words in (['cron', 'add', 'x'], ['cron', 'add', 'x', '--', 'true'], ['cron', 'frobnicate'], ['cron', 'ls', 'x'], ['cron', 'rm'],
                  ['cron', 'show', 'x', '--at', '@daily'], ['cron', 'set', 'nosuch', '--at', '@daily'], ['cron', 'set', 'nosuch', '--cpus', '2']):
        result = c.rota(*words)
        assert result.returncode in (2, 3) and result.stderr.startswith('rota: '), (words, result)
