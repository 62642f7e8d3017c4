"""RabbitMQ between master and workers: a real broker of the test's own, and everything that can happen to it.

Jobs keep a ledger of their own starts and ends, and are submitted at a steady pace all the time: through each fault submissions are
answered, and after it every accepted job has ended exactly once, no attempt ran twice, and no running job was disturbed.

ROTA_FAULTS=full takes the times of the design (`make soak`); else they are divided by about ten. ROTA_RATE: jobs in a second.
"""
import collections
import itertools
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import pika
import pytest

from broker import RIGHTS, Broker
from browser import Browser
from conftest import PATIENCE_S, ROOT, ROTA, wait_for
from message_proxy import Faults, Proxy
from parts import Parts

# One write each, appended: lines of several processes never mix.
LEDGER_JOB = '''echo "$ROTA_JOB_ID ${ROTA_TASK_ID:--} $ROTA_ATTEMPT start" >> "$LEDGER"
%s
echo "$ROTA_JOB_ID ${ROTA_TASK_ID:--} $ROTA_ATTEMPT end" >> "$LEDGER"'''
FULL = os.environ.get('ROTA_FAULTS') == 'full'
RATE = int(os.environ.get('ROTA_RATE', '300' if FULL else '30'))
# The times of the design, divided by about ten: what is tested is their order.
FAST = [] if FULL else ['--heartbeat', '500ms', '--suspect', '2s', '--lease', '6s', '--down', '8s', '--lost-after', '30s', '--grace-start', '12s',
                        '--resend', '1s', '--start-ttl', '3s']
BACK_S = 30          # after the broker's return jobs run again within
ANSWER_MAX_S = 10    # a loop that waits for the broker waits for ever
LAG_MAX_S = '0.05' if FULL else '1'  # one turn of the loop; one that waits for the broker takes seconds
MANY = int(os.environ.get('ROTA_WORKERS', '1000' if FULL else '40'))
OUTLIVES_A_CANCEL = 'sleep 120' if FULL else 'sleep 20'  # though word of it is lost or late several times
LONG_JOBS = 4        # that run through the whole fault


class World(Parts):
    """A master and workers on a broker."""

    def __init__(self, broker, workers=2, options=(), hosts=None, **urls):
        super().__init__(tempfile.mkdtemp(prefix='rota-amqp-'))
        self.hosts = hosts or {}  # name of a process -> command that takes it to its host
        self.buses = {'master': broker.url('master'), 'worker': broker.url('worker'), **urls}
        self.ledger = os.path.join(self.directory, 'ledger')
        open(self.ledger, 'w', encoding='utf-8').close()
        self.jobs = []
        self.long = []
        self.load = None
        self.start_master(*options)
        for number in range(1, workers + 1):
            self.start_worker(number, '--cpus', '4')

    def spawn(self, name, *arguments, wrapper=(), **more):
        return super().spawn(name, *arguments, wrapper=[*self.hosts.get(name, ()), *wrapper], **more)

    def rota(self, *arguments, **more):
        return super().rota(*arguments, wrapper=self.hosts.get('master', ()), **more)

    def job(self, body='true', **keys):
        return {'command': ['sh', '-c', LEDGER_JOB % body], 'cpus': 0.2, 'env': {'LEDGER': self.ledger}, **keys}

    def submit(self, count, body='true', **keys):
        ids = self.submit_many(self.job(body, **keys) for _ in range(count))
        self.jobs += ids
        return ids

    def begin_load(self, rate=RATE):
        """So many jobs in a second from now on."""
        path = os.path.join(self.directory, 'load.json')
        with open(path, 'w', encoding='utf-8') as f:
            json.dump(self.job(), f)
        with open(os.path.join(self.directory, 'load.log'), 'ab') as log:
            self.load = subprocess.Popen(
                [*self.hosts.get('master', ()), sys.executable, os.path.join(os.path.dirname(__file__), 'load.py'), str(rate), path],
                env=self.environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)

    def end_load(self):
        """What load.py tells; its jobs are ours."""
        out, _ = self.load.communicate(timeout=PATIENCE_S)
        assert self.load.returncode == 0, self.log_of('load')
        self.load = None
        told = json.loads(out)
        for first, last in told.pop('ranges'):
            self.jobs += range(first, last + 1)
        return told

    def begin_faults(self, seconds):
        """Jobs that run for so long, and a steady stream of short ones."""
        self.wait_nodes(2)
        self.long = self.submit(LONG_JOBS, f'sleep {seconds}')
        wait_for(lambda: self.counts().get('running') == LONG_JOBS, 'the long jobs do not run')
        self.begin_load()
        wait_for(lambda: self.counts().get('succeeded', 0) >= 10, 'nothing runs')

    def runs_again(self, since):
        """A job submitted now ends soon; seconds from `since` to its end."""
        probe = self.submit(1, priority=1000)[0]
        waited = self.rota('wait', probe, '--timeout', f'{2 * BACK_S}s')
        assert waited.returncode == 0, f"{waited.stderr}\n{self.ok('nodes')}\n{self.log_of('master')}\n{self.log_of('worker-1')}"
        took_s = time.monotonic() - since
        assert took_s < BACK_S
        return took_s

    def end_faults(self, what, back, undisturbed=True):
        """`back`: when the fault was over. All ends once, what is submitted now runs soon, and submissions were answered all the time."""
        again_s = self.runs_again(back)
        told = self.end_load()
        backlog = self.counts().get('queued', 0)
        self.wait_ends(7200 if FULL else 180)
        ended_s = time.monotonic() - back
        self.check(undisturbed)
        print(json.dumps({'fault': what, 'rate': RATE, 'jobs': len(self.jobs), 'submitting_s': round(told['seconds'], 1),
                          'slowest_answer_s': round(told['slowest_s'], 3), 'not_answered': told['failed'], 'late_s': round(told['late_s'], 3),
                          'running_again_s': round(again_s, 1), 'backlog_then': backlog, 'all_ended_s': round(ended_s, 1),
                          'turns_over': told['turns_over'], 'pauses_over': told['pauses_over']}), flush=True)
        assert told['failed'] == 0 and told['slowest_s'] < ANSWER_MAX_S, f"a submission was kept waiting: {told}\n{self.log_of('load')}"
        # A machine that gives nobody a turn holds up the loop, too.
        assert told['turns_over'][LAG_MAX_S] <= told['pauses_over'][LAG_MAX_S], f'the loop was held up: {told}'

    def nobody_down(self, seconds):
        """For so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert not [n for n in self.json('nodes')['nodes'] if n['state'] == 'down']
            time.sleep(min(5 if FULL else 1, max(0, end - time.monotonic())))

    def metric(self, name, worker=None):
        """Of the master or of a worker: the sum over all labels."""
        with open(self.environment['ROTA_TOKEN_FILE'], encoding='ascii') as file:
            token = file.read().strip()

        def read(url):
            return urllib.request.urlopen(urllib.request.Request(url, headers={'Authorization': f'Bearer {token}'}), timeout=60).read().decode()

        where = self.environment['ROTA_MASTER'] + '/metrics'
        if worker:
            targets = json.loads(read(self.environment['ROTA_MASTER'] + '/v1/sd/prometheus'))
            where = next('http://' + t['targets'][0] + '/metrics' for t in targets if t['labels']['__meta_rota_node'] == worker)
        return sum(float(line.split()[-1]) for line in read(where).splitlines() if line.split('{')[0].split(' ')[0] == name)

    def counts(self):
        return {state: n for state, n in self.json('stats')['jobs'].items() if n}

    def wait_ends(self, patience_s=120):
        def over():
            counts = self.counts()
            return sum(counts.values()) == len(self.jobs) and set(counts) <= {'succeeded', 'failed', 'cancelled', 'expired'}
        wait_for(over, 'not all jobs end', patience_s, pause_s=1 if FULL else 0.1)

    def runs(self):
        """job -> attempts that began, that came to their end: none of them twice."""
        runs = collections.defaultdict(lambda: (set(), set()))
        with open(self.ledger, encoding='utf-8') as f:
            for line in f:
                job, _, attempt, what = line.split()
                at = runs[int(job)][what == 'end']
                assert attempt not in at, f'attempt {attempt} of job {job}: {what} twice'
                at.add(attempt)
        return runs

    def check(self, undisturbed=True):
        """All succeeded, each ran once and to its end, and those that ran meanwhile in their first attempt. (A short one may be at another:
        an order that was lost on its way is taken back.) When a node is given up for lost its jobs run again elsewhere."""
        assert self.counts() == {'succeeded': len(self.jobs)}
        runs = self.runs()
        assert set(runs) == set(self.jobs)
        if undisturbed:
            bad = {job: run for job, run in runs.items() if len(run[0]) != 1 or run[0] != run[1]}
            assert not bad, f'not run exactly once: {bad}'
            assert all(runs[job][0] == {'1'} for job in self.long), 'a running job was disturbed'
        else:
            assert all(ends and ends <= starts for starts, ends in runs.values())

    def stop(self):
        if self.load is not None:
            self.load.kill()
            self.load.communicate()
        super().stop()

    def log_has(self, name, text):
        with open(os.path.join(self.directory, name + '.log'), encoding='utf-8', errors='replace') as f:
            return text in f.read()

    def wait_log(self, name, text, patience_s=60):
        wait_for(lambda: self.log_has(name, text), f'{name} does not say "{text}"\n{self.log_of(name)}', patience_s)

    def remove(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture(scope='module')
def broker():
    """One for all tests here: each leaves it running, with its users and without alarms."""
    directory = tempfile.mkdtemp(prefix='rota-broker-')
    try:
        with Broker(directory) as made:
            yield made.add_users()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def world(broker):
    """world(...): a World on that broker, which ends with the test."""
    made = []

    def make(**options):
        made.append(World(broker, **options))
        return made[-1]

    yield make
    for one in made:
        one.remove()


def test_up_over_a_broker(bare_cluster, broker):
    """`rota up --bus amqp://...` with the broker's default user: output and exit codes come back."""
    cluster = bare_cluster.start('--workers', '2', '--bus', broker.url())
    assert cluster.json('stats')['bus']['kind'] == 'amqp'
    result = cluster.rota('run', '--', 'sh', '-c', 'echo over the broker; exit 3')
    assert result.returncode == 3 and 'over the broker' in result.stdout
    job = cluster.ok('submit', '--array', '1-300', '--wait', '--', 'true').split()[0]
    assert cluster.json('show', job)['counts']['succeeded'] == 300
    assert cluster.stop() == 0


def test_users_with_the_least_rights(world):
    """Master and workers each with a user of its own that may do no more than its role needs."""
    w = world()
    w.wait_nodes(2)
    w.submit(300)
    w.wait_ends()
    w.check()


def test_broker_killed_and_started_again(world, broker):
    seconds = 90 if FULL else 9  # longer than `down`: the broker's silence is not the workers'
    w = world(options=FAST)
    w.begin_faults(seconds + 5)
    broker.kill()
    w.wait_nodes(2, 'suspect')
    assert w.json('stats')['bus']['up'] is False
    w.nobody_down(seconds)
    broker.start()
    w.end_faults('killed and started again', time.monotonic())
    assert w.metric('rota_bus_reconnects_total') >= 1 and w.metric('rota_bus_reconnects_total', 'worker-1') >= 1


def test_broker_frozen(world, broker):
    """Its sockets stay open and nobody answers: the loop goes on, and nobody is called down for it."""
    seconds = 90 if FULL else 16
    w = world(options=FAST)
    w.begin_faults(seconds + 5)
    broker.signal(signal.SIGSTOP)
    try:
        w.nobody_down(seconds)
    finally:
        broker.signal(signal.SIGCONT)
    w.end_faults('frozen', time.monotonic())


def test_a_page_that_is_open_shows_the_broker_go_and_return(world, broker):
    """Of neither is there an event in the journal: whoever follows the events is told of it as it happens."""
    w = world(options=FAST, workers=1)
    w.wait_nodes(1)
    followed = subprocess.Popen([ROTA, 'events', '-f', '--json'], env=w.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                start_new_session=True)
    browser = Browser()
    try:
        page = browser.page(f'http://127.0.0.1:{w.port}')
        with open(w.environment['ROTA_TOKEN_FILE'], encoding='utf-8') as f:
            page.sign_in(f.read().strip())
        tile = '[...document.querySelectorAll(".tile")].find(e => e.innerText.startsWith("Bus"))?.innerText.split("\\n")[1]'
        page.wait(f'{tile} === "up"', 'the bus is up')
        broker.kill()
        page.wait(f'{tile} === "down"', 'the bus is down')
        broker.start()
        page.wait(f'{tile} === "up"', 'the bus is up again')
        page.check()
    finally:
        browser.close()
        followed.terminate()
        out, told = followed.communicate(timeout=PATIENCE_S)
    assert all('seq' in json.loads(line) for line in out.splitlines()), out  # on standard output are events only
    assert 'health: {"transport":"down","store":"ok"}' in told and 'health: {"transport":"up","store":"ok"}' in told, told


@pytest.mark.parametrize('alarm', ['memory', 'disk'])
def test_broker_takes_nothing(world, broker, alarm):
    """An alarm: the broker stops reading what is published. Submissions are accepted, jobs run on."""
    set_alarm, clear = {
        'memory': (['set_vm_memory_high_watermark', '0'], ['set_vm_memory_high_watermark', '0.4']),
        'disk': (['set_disk_free_limit', '900GB'], ['set_disk_free_limit', '64MB']),
    }[alarm]
    seconds = 120 if FULL else 12  # longer than `down`
    w = world(options=FAST)
    w.begin_faults(seconds + 5)
    broker.ctl(*set_alarm)
    try:
        w.wait_log('master', 'the broker takes no messages')
        w.nobody_down(seconds)
        assert w.json('stats')['bus']['up'] is False
    finally:
        broker.ctl(*clear)
    back = time.monotonic()
    w.wait_log('master', 'the broker takes messages again')
    w.end_faults(f'{alarm} alarm', back)


def test_everything_at_the_broker_deleted(world, broker):
    """Each queue and exchange of the virtual host, as a tidy administrator would; twice, and single ones."""
    w = world(options=FAST)
    w.begin_faults(20)
    all_queues = '[rabbit_amqqueue:with(N, fun(Q) -> rabbit_amqqueue:delete(Q, false, false, <<"test">>) end) || N <- rabbit_amqqueue:list_names()]'
    one_exchange = 'rabbit_exchange:delete(rabbit_misc:r(<<"/">>, exchange, <<"{}">>), false, <<"test">>)'
    names = ['rota.dispatch', 'rota.report', 'rota.control', 'rota.events', 'rota.submit']
    for round_of in ([*names, 'queues'], ['queues'], *([name] for name in names)):
        broker.eval(', '.join(all_queues if what == 'queues' else one_exchange.format(what) for what in round_of) + '.')
        time.sleep(1)
    w.end_faults('all queues and exchanges deleted', time.monotonic())


def test_many_workers_come_back_at_once(world, broker):
    """All lose the broker in the same moment: each waits a random while before it tries again, and the master hears them all."""
    w = world(workers=0, options=FAST)
    for number in range(1, MANY + 1):
        w.start_worker(number, '--exec', 'fake', '--cpus', '4')
    w.wait_nodes(MANY, patience_s=10 + MANY / 5)
    job = w.submit_many([{'command': ['x'], 'array': f'1-{4 * MANY}', 'simulate': {'run_s': 20}}])[0]
    broker.kill()
    w.wait_nodes(MANY, 'suspect', patience_s=120)
    broker.start()
    back = time.monotonic()
    w.wait_nodes(MANY, patience_s=4 * BACK_S)
    took_s = time.monotonic() - back
    print(json.dumps({'fault': 'many workers come back at once', 'workers': MANY, 'all_ready_s': round(took_s, 1)}), flush=True)
    assert took_s < BACK_S
    assert w.rota('wait', job, '--timeout', '120s').returncode == 0
    assert w.json('show', job)['counts']['succeeded'] == 4 * MANY


def test_the_queue_for_jobs_does_not_answer(world, broker):
    """As when it has lost its leader: only what is sent to it waits, and is taken when it answers again."""
    w = world(workers=1)
    w.wait_nodes(1)
    w.crash('master')
    broker.eval("sys:suspend(whereis(list_to_atom(\"%2F_rota.submit\"))).")
    try:
        w.start_master()
        w.submit(5)
        w.wait_ends()
        w.wait_log('master', "jobs sent to the broker's queue rota.submit wait, trying on")
    finally:
        broker.eval("sys:resume(whereis(list_to_atom(\"%2F_rota.submit\"))).")
    w.wait_log('master', "jobs are taken from the broker's queue rota.submit again")
    assert example(w, 'submit.py', client_url(broker), '--', 'true').returncode == 0


def test_job_longer_than_the_consumer_timeout(world, broker):
    """Celery's users lose jobs here: ours are acked when they are journalled, not when they end."""
    broker.eval('application:set_env(rabbit, consumer_timeout, 3000).')
    try:
        w = world(options=FAST)
        w.wait_nodes(2)
        w.submit(4, 'sleep 15')
        w.wait_ends()
        w.check()
        assert w.json('stats')['bus']['dropped'] == 0
        assert not w.log_has('worker-1', 'connection to the bus lost')
    finally:
        broker.eval('application:set_env(rabbit, consumer_timeout, 1800000).')


# --- messages lost, repeated, late and in any order ---

MESSAGES_S = float(os.environ.get('ROTA_MESSAGES_S', '300' if FULL else '12'))
SEED = int(os.environ.get('ROTA_SEED', '1'))


@pytest.fixture
def between(broker):
    """A proxy between a virtual host for the master and one for the workers."""
    hosts = {role: f'{role}-{os.getpid()}' for role in ('master', 'worker')}
    broker.eval(', '.join(f'rabbit_vhost:add(<<"{host}">>, <<"test">>), rabbit_auth_backend_internal:set_permissions(<<"guest">>, '
                          f'<<"{host}">>, <<".*">>, <<".*">>, <<".*">>, <<"test">>)' for host in hosts.values()) + '.')
    proxy = Proxy(broker.port, hosts['master'], hosts['worker'], SEED)
    proxy.urls = {role: f'amqp://127.0.0.1:{broker.port}/{host}' for role, host in hosts.items()}
    yield proxy
    proxy.stop()
    broker.eval(', '.join(f'rabbit_vhost:delete(<<"{host}">>, <<"test">>)' for host in hosts.values()) + '.')


def mixed_jobs(w, counter):
    """One of each kind, and some of them cancelled at once: name -> id."""
    n = next(counter)
    ledger = {'env': {'LEDGER': w.ledger}, 'cpus': 0.2}
    jobs = {
        'short': w.job(), 'long': w.job(f'sleep {n % 7}'), 'fails': {**w.job('exit 3'), 'retries': 2, 'backoff': '0.2s'},
        'array': {**w.job('sleep 0.1'), 'array': '1-10'}, 'cancelled': w.job(OUTLIVES_A_CANCEL),
        'cancelled array': {**w.job(OUTLIVES_A_CANCEL), 'array': '1-10%4'},
        'signal': {'command': ['sh', '-c', LEDGER_JOB % 'kill -9 $$'], **ledger},
    }
    ids = dict(zip(jobs, w.submit_many(jobs.values())))
    w.jobs += ids.values()
    return ids


def journal(w):
    """Everything that was recorded, in order, as `rota events` prints it."""
    return [json.loads(line) for line in w.ok('events', '--since', '0', '--json').splitlines()]


def check_journal(w, events, kinds):
    """By the journal alone: each job and each task has one end, attempts follow one another, and nothing starts after a cancel or an end.
    The ledger of the processes agrees: what ran was dispatched, once."""
    ends, cancelled, attempts = collections.Counter(), set(), collections.defaultdict(int)
    for e in events:
        kind, job, at = e['event'], e.get('job'), (e.get('job'), e.get('task'))
        if kind == 'job.dispatched':
            attempts[at] += 1
            assert job not in cancelled and not ends[at] and not ends[job], f'started after its end: {e}'
            assert e['attempt'] == attempts[at], f'attempts without order: {e}'
        if kind == 'job.cancel' and at[1] is None:
            cancelled.add(job)
        if kind in ('job.ended', 'job.revoked'):
            assert e['attempt'] == attempts[at], f'not the current attempt: {e}'
        if e.get('final'):
            whole = kind in ('job.cancel', 'job.array_ended') or at[1] is None
            ends[job if whole else at] += 1
    assert {job for job in ends if isinstance(job, int)} == set(w.jobs) and max(ends.values()) == 1, 'not each has one end'
    ran = set()
    with open(w.ledger, encoding='utf-8') as f:
        for line in f:
            job, task, attempt, what = line.split()
            run = (int(job), None if task == '-' else int(task)), int(attempt)
            assert 1 <= run[1] <= attempts[run[0]], f'nobody dispatched it: {line}'
            assert (run, what) not in ran, f'an attempt ran twice: {line}'
            ran.add((run, what))
    assert len(ran) > len(w.jobs)
    for ids in kinds:
        for kind, job in ids.items():
            told = w.json('show', job)
            if kind in ('short', 'long'):
                assert told['state'] == 'succeeded', told
            elif kind == 'array':
                assert told['counts']['succeeded'] == 10, told
            elif kind.startswith('cancelled'):
                assert told['state'] == 'cancelled', told
            else:
                assert told['state'] == 'failed', told


def test_messages_lost_repeated_late_and_shuffled(world, broker, between):
    """A tenth of all messages between master and workers is lost, and of the others a third comes one to five times within 10 s."""
    times = [] if FULL else ['--heartbeat', '500ms', '--suspect', '4s', '--lease', '12s', '--down', '16s', '--lost-after', '40s',
                             '--resend', '2s', '--start-ttl', '6s', '--kill-grace', '1s']
    w = world(options=times, **between.urls)
    w.wait_nodes(2)
    between.faults = Faults(lost=0.1, again=0.33)
    kinds, counter, end = [], itertools.count(), time.monotonic() + MESSAGES_S
    while time.monotonic() < end:
        kinds.append(mixed_jobs(w, counter))
        if len(kinds) > 1:  # what runs by now
            for kind in ('cancelled', 'cancelled array'):
                w.ok('cancel', kinds[-2][kind])
        time.sleep(2 if FULL else 0.3)
    between.faults = Faults()
    for kind in ('cancelled', 'cancelled array'):
        w.ok('cancel', kinds[-1][kind])
    w.wait_ends(600)
    events = journal(w)
    check_journal(w, events, kinds)
    print(json.dumps({'jobs': len(w.jobs), 'events': len(events), 'seed': SEED, **between.counts}), flush=True)
    assert between.counts['lost'] > 10 and between.counts['repeats'] > 30 and between.counts['delayed'] > 20, between.counts
    assert w.metric('rota_stale_messages_total') > 0
    assert w.crash('master', signal.SIGTERM) == 0
    w.ok('inspect', os.path.join(w.state, 'master'))


# --- others at the broker ---

EXAMPLES = os.path.join(ROOT, 'examples', 'amqp')


def example(w, name, *arguments, patience_s=60):
    return subprocess.run([os.path.join(EXAMPLES, name), *arguments], env=w.environment, text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=patience_s, check=False)


def client_url(broker):
    return f'amqp://client:client@127.0.0.1:{broker.port}/%2F'


def test_examples_submit_and_listen(world, broker):
    w = world(workers=1)
    w.wait_nodes(1)
    done = example(w, 'submit.py', client_url(broker), '--', 'true')
    assert (done.returncode, done.stderr) == (0, '')
    job = int(done.stdout)
    assert w.json('show', job)['state'] == 'succeeded'
    assert w.json('show', job)['user'] == 'amqp'
    assert example(w, 'submit.py', client_url(broker), '--', 'false').returncode == 1

    listener = subprocess.Popen([os.path.join(EXAMPLES, 'listen.sh'), f'amqp://client:client@127.0.0.1:{broker.port}', 'job.succeeded', '1'],
                                env=w.environment, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: 'rota.events' in broker.ctl('list_bindings', 'source_name', 'routing_key', '--silent'), 'nobody listens')
        done = example(w, 'submit.sh', f'amqp://client:client@127.0.0.1:{broker.port}', '{"command": ["true"]}')
        assert done.returncode == 0, done.stderr
        job = json.loads(done.stdout)['id']
        told = json.loads(listener.communicate(timeout=60)[0])
        assert (told['event'], told['job'], told['final']) == ('job.ended', job, 'succeeded')
    finally:
        listener.kill()
        listener.wait()

    refused = example(w, 'submit.sh', f'amqp://client:client@127.0.0.1:{broker.port}', '{"command": ["true"], "prioriti": 1}')
    problem = json.loads(refused.stdout)
    assert problem['status'] == 400 and problem['field'] == 'prioriti' and problem['remedy']


def test_a_submission_repeated_is_one_job(world, broker):
    """Twice while there is no master, twice after: the message id is the idempotency key. Another job with it is refused."""
    w = world(workers=1)
    w.wait_nodes(1)
    w.crash('master')
    connection = pika.BlockingConnection(pika.URLParameters(client_url(broker)))
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        inbox = channel.queue_declare('', exclusive=True).method.queue
        about = pika.BasicProperties(reply_to=inbox, message_id='order-7', user_id='client', correlation_id='x' * 200, delivery_mode=2)
        for _ in range(2):
            channel.basic_publish('rota.submit', '', b'{"command": ["true"]}', about)
        w.start_master()
        for _ in range(2):
            channel.basic_publish('rota.submit', '', b'{"command": ["true"]}', about)
        channel.basic_publish('rota.submit', '', b'{"command": ["false"]}', about)
        answers = []
        for _, properties, body in channel.consume(inbox, auto_ack=True, inactivity_timeout=60):
            assert body, 'no answer comes'
            assert properties.correlation_id == 'x' * 200
            answers.append(json.loads(body))
            if len(answers) == 5:
                break
        assert [a.get('id') for a in answers[:4]] == [answers[0]['id']] * 4
        assert answers[4]['status'] == 409
        assert w.json('show', answers[0]['id'])['user'] == 'client'
        assert len(w.json('ls')['jobs']) == 1
    finally:
        connection.close()


# --- what is wrong is said in one line, and mended without a restart ---

def one_more_job_ends(w):
    w.wait_nodes(1)
    w.submit(1)
    w.wait_ends()
    w.check()


def test_wrong_password_then_the_right_one(world, broker):
    path = broker.password_file('mistyped', 'not the password')
    w = world(workers=0)
    w.buses['worker'] = f'amqp://worker@127.0.0.1:{broker.port}?password_file={path}'
    w.start_worker(1)
    w.wait_log('worker-1', 'the broker does not accept the user name or the password; mend the user in the bus URL, or its password')
    assert w.log_of('worker-1').count('does not accept') == 1  # said once, however often it is tried
    assert 'not the password' not in w.log_of('worker-1')
    broker.password_file('mistyped', 'worker')
    one_more_job_ends(w)


def test_missing_rights_then_given(world, broker):
    w = world(workers=0)
    w.buses['worker'] = broker.url('peer')
    w.start_worker(1)
    w.wait_log('worker-1', 'give the user rights in it')
    broker.ctl('set_permissions', 'peer', '^amq\\.gen-.*$', '^amq\\.gen-.*$', '.*')
    try:
        w.wait_log('worker-1', "access to exchange 'rota.report' in vhost '/' refused for user 'peer'; give the user the rights of its role")
        broker.ctl('set_permissions', 'peer', *RIGHTS['worker'])
        one_more_job_ends(w)
    finally:
        broker.ctl('clear_permissions', 'peer')


def test_a_worker_may_not_give_orders(broker):
    """With a worker's password: no message to another worker, nothing read of the master's."""
    def refused(action):
        connection = pika.BlockingConnection(pika.ConnectionParameters(
            '127.0.0.1', broker.port, credentials=pika.PlainCredentials('worker', 'worker')))
        try:
            channel = connection.channel()
            channel.confirm_delivery()
            with pytest.raises(pika.exceptions.ChannelClosedByBroker) as error:
                action(channel)
            assert error.value.reply_code == 403
        finally:
            connection.close()

    for exchange in ('rota.dispatch', 'rota.control', 'rota.events', 'rota.submit', ''):
        refused(lambda channel, exchange=exchange: channel.basic_publish(exchange, 'amq.gen-x', b'x'))
    refused(lambda channel: channel.basic_get('rota.submit'))
    refused(lambda channel: channel.queue_declare('rota.master', exclusive=True))
    refused(lambda channel: channel.queue_bind(channel.queue_declare('', exclusive=True).method.queue, 'rota.report', 'master'))


def test_nobody_there_then_somebody(world, broker):
    """The master starts without its broker, and takes jobs."""
    broker.kill()
    try:
        w = world(workers=1)
        w.wait_log('worker-1', 'is the broker running, and is the way to it open?')
        w.wait_log('master', 'is the broker running, and is the way to it open?')
        w.submit(1)
        assert w.json('stats')['bus']['up'] is False
    finally:
        broker.start()
    one_more_job_ends(w)


def test_a_broker_that_is_too_old(world):
    """A greeting of RabbitMQ 3.8, as far as rota looks at it."""
    def table(pairs):
        body = b''.join(bytes([len(k)]) + k + b'S' + struct.pack('>I', len(v)) + v for k, v in pairs)
        return struct.pack('>I', len(body)) + body

    def frame(channel, payload):
        return struct.pack('>BHI', 1, channel, len(payload)) + payload + b'\xce'

    start = struct.pack('>HHBB', 10, 10, 0, 9) + table([(b'product', b'RabbitMQ'), (b'version', b'3.8.9')])
    start += struct.pack('>I', 5) + b'PLAIN' + struct.pack('>I', 5) + b'en_US'

    def serve(connection):
        with connection:
            connection.settimeout(30)
            connection.recv(8)
            connection.sendall(frame(0, start))
            connection.recv(4096)
            connection.sendall(frame(0, struct.pack('>HHHIH', 10, 30, 2, 131072, 10)))
            connection.recv(4096)
            connection.sendall(frame(0, struct.pack('>HHB', 10, 41, 0)))
            connection.recv(4096)

    with socket.create_server(('127.0.0.1', 0)) as listener:
        def accept():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                try:
                    serve(connection)
                except OSError:
                    pass

        threading.Thread(target=accept, daemon=True).start()
        w = world(workers=0)
        w.buses['worker'] = f'amqp://127.0.0.1:{listener.getsockname()[1]}'
        w.start_worker(1)
        w.wait_log('worker-1', 'the broker is RabbitMQ 3.8.9: too old; upgrade it to 3.10 or newer')


def authority(directory, name):
    """Paths of the key and the certificate of a CA."""
    key, cert = (os.path.join(directory, f'{name}.{kind}') for kind in ('key', 'pem'))
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', f'/CN={name}', '-keyout', key,
                    '-out', cert], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return {'key': key, 'cert': cert}


def signed(directory, name, host, ca):
    """The same of a server with that name, signed by the CA."""
    key, request, cert = (os.path.join(directory, f'{name}.{kind}') for kind in ('key', 'csr', 'pem'))
    extensions = os.path.join(directory, name + '.ext')
    with open(extensions, 'w', encoding='utf-8') as f:
        f.write(f'subjectAltName={host}\n')
    quiet = {'check': True, 'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}
    subprocess.run(['openssl', 'req', '-newkey', 'rsa:2048', '-nodes', '-subj', f'/CN={name}', '-keyout', key, '-out', request], **quiet)
    subprocess.run(['openssl', 'x509', '-req', '-in', request, '-CA', ca['cert'], '-CAkey', ca['key'], '-CAcreateserial',
                    '-days', '2', '-extfile', extensions, '-out', cert], **quiet)
    os.chmod(key, 0o644)
    return {'key': key, 'cert': cert}


def test_tls_is_verified(tmp_path):
    """The right CA and name: jobs run. Another CA, then the right one in its place: mended. Another name: refused."""
    directory = str(tmp_path)
    ours, other = authority(directory, 'ours'), authority(directory, 'other')
    server = signed(directory, 'server', 'DNS:localhost', ours)
    with Broker(os.path.join(directory, 'broker'), tls={'ca': ours['cert'], **server}) as broker:
        broker.add_users()
        ca = os.path.join(directory, 'ca.pem')
        shutil.copy(other['cert'], ca)
        good = f'&cacert={ours["cert"]}'
        w = World(broker, workers=0, master=broker.url('master', 'localhost', tls=True) + good,
                  worker=broker.url('worker', 'localhost', tls=True) + f'&cacert={ca}')
        try:
            w.start_worker(1)
            w.wait_log('worker-1', 'name the CA of the broker\'s certificate with ?cacert=FILE')
            w.buses['worker'] = broker.url('worker', '127.0.0.1', tls=True) + good
            w.start_worker(2)
            w.wait_log('worker-2', 'write the host as the certificate names it')
            shutil.copy(ours['cert'], ca)
            one_more_job_ends(w)
        finally:
            w.remove()
