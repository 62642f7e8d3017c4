"""When what waits is to start: the plan, estimates with their history and error, and why there is none."""
import datetime
import json
import re
import shutil
import tempfile
import urllib.request

import pytest

from conftest import wait_for
from parts import Parts


class Planned(Parts):
    def http(self, path):
        with open(self.environment['ROTA_TOKEN_FILE'], encoding='ascii') as token:
            request = urllib.request.Request(self.environment['ROTA_MASTER'] + path, headers={'Authorization': f'Bearer {token.read().strip()}'})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode()

    def get(self, path):
        return json.loads(self.http(path))


@pytest.fixture
def parts():
    made = Planned(tempfile.mkdtemp(prefix='rota-plan-'))
    yield made
    made.stop()
    shutil.rmtree(made.directory, ignore_errors=True)


def submit(parts, cpus, run_s, limit_s=None, **more):
    job = {'command': ['true'], 'cpus': cpus, 'simulate': {'run_s': run_s}, **more}
    if limit_s:
        job['time_limit_s'] = limit_s
    return int(parts.ok('submit', '-f', '-', input=json.dumps(job)))


def begin(parts, cpus, *options):
    """A cluster with one node of 4 CPUs, of which a job has so many for ten minutes. Its id."""
    parts.start_master('--backfill', 'easy', *options)
    parts.start_worker(1, '--exec', 'fake', '--cpus', '4')
    parts.wait_nodes(1)
    runs = submit(parts, cpus, 3600, 600)
    wait_for(lambda: parts.json('show', str(runs))['state'] == 'running', 'it runs')
    return runs


def metric(parts, name):
    text = parts.http('/metrics')
    return float(re.search(rf'^{name} (\S+)$', text, re.M).group(1))


def test_estimates_from_submission_to_start(parts):
    runs = begin(parts, 4, '--plan-depth', '4')
    wide, behind = submit(parts, 4, 1, 1200), submit(parts, 3, 1, 60)
    first = parts.json('why', str(wide))['estimate']
    second = parts.json('why', str(behind))['estimate']
    assert first['because'] is None and first['basis'] == 'limits' and first['start_at'] <= second['start_at']
    assert first['end_at'] <= second['start_at'], 'it does not fit beside the wide one'
    assert re.search(r'Start: in (9m|10m).* .* at the latest', parts.ok('why', str(wide))), parts.ok('why', str(wide))
    assert re.search(r'^start +in ', parts.ok('show', str(wide)), re.M)

    # What would let it in at once: nothing of one that needs all, less or shorter ones else.
    assert parts.json('why', str(wide))['change'] is None

    # Why there is none, in words.
    held = submit(parts, 1, 1, hold=True)
    huge = submit(parts, 64, 1)
    far = [submit(parts, 4, 0, 60) for _ in range(4)][-1]
    for job, reason in ((held, 'held'), (huge, 'too_big'), (far, 'depth'), (runs, 'not_waiting')):
        estimate = parts.get(f'/v1/estimate/{job}')
        assert estimate['because']['reason'] == reason and estimate['start_at'] is None, (reason, estimate)
    assert 'no estimate, because it is behind those that the plan looks at (plan_depth): 4' in parts.ok('why', str(far))
    plan = parts.get('/v1/plan?limit=2')
    assert [slot['job'] for slot in plan['slots']] == [wide, behind] and plan['more']

    # What runs ends long before its limit: the estimate follows, and how far the first one was off is kept and measured.
    parts.ok('cancel', str(runs))
    wait_for(lambda: parts.json('show', str(wide))['state'] == 'succeeded', 'it ran')
    after = parts.get(f'/v1/estimate/{wide}')
    assert after['because']['reason'] == 'not_waiting' and after['history'][0]['start_at'][:16] == first['start_at'][:16]
    assert -610 < after['error_s'] < -300
    assert re.search(r'^estimated +.*it started .* sooner$', parts.ok('show', str(wide)), re.M)
    assert metric(parts, 'rota_start_estimate_error_seconds_count') >= 1


def test_the_smallest_change_starts_it(parts):
    runs = begin(parts, 2)
    wide, long = submit(parts, 4, 3600, 1200), submit(parts, 1, 3600, 9000)
    change = parts.json('why', str(wide))['change']
    assert change['kind'] == 'less' and change['submit_again'] and change['cpus'] == 2 and 300 < change['time_limit_s'] <= 600
    wait_for(lambda: parts.json('why', str(long))['change'], 'a change')
    change = parts.json('why', str(long))['change']
    assert change['kind'] == 'priority' and change['priority'] == 1
    assert f'It would start now: with a higher priority (`rota update {long} --priority 1`).' in parts.ok('why', str(long))
    parts.ok('update', str(long), '--priority', '1')
    wait_for(lambda: parts.json('show', str(long))['state'] == 'running', 'it runs')

    parts.ok('limit', 'user:ann', '--cpus', '0.5')
    poor = submit(parts, 1, 3600, 60, user='ann')
    change = parts.json('why', str(poor))['change']
    assert change['kind'] == 'allow' and change['raise_limits'] and not change['release']
    assert 'It would start now: user ann with cpus raised to 1.' in parts.ok('why', str(poor))
    parts.ok('limit', 'user:ann', '--cpus', '1')
    wait_for(lambda: parts.json('show', str(poor))['state'] == 'running', 'it runs')


def test_each_start_tells_the_rule_that_let_it_in(parts):
    first = begin(parts, 3)
    wide = submit(parts, 4, 1, 60)
    quick = submit(parts, 1, 1, 60)
    wait_for(lambda: parts.json('show', str(quick))['state'] == 'succeeded', 'it ran in the gap')
    for job, rule, over, text in ((first, 'turn', None, 'it was the first that waits'),
                                  (quick, 'in_time', wide, f'it should end before the place kept for one before it is needed (job {wide})')):
        attempt, = parts.get(f'/v1/jobs/{job}/attempts')['attempts']
        assert (attempt['rule'], attempt['over']) == (rule, over)
        assert re.search(rf'^let in +{re.escape(text)}$', parts.ok('show', str(job)), re.M), parts.ok('show', str(job))
        sent, = [e for e in map(json.loads, parts.ok('events', '--job', str(job), '--json').splitlines()) if e['event'] == 'job.dispatched']
        assert sent['rule'] == rule and sent['over'] == (over or 0)


def test_what_if(parts):
    runs = begin(parts, 3)
    wide, short = submit(parts, 4, 3600, 1200, name='wide'), submit(parts, 4, 3600, 300)
    many = submit(parts, 2, 3600, 600, array='1-4')
    held = submit(parts, 1, 3600, 60, hold=True)

    def minutes(answer, job, key):
        told, = [j for j in answer['jobs'] if j['job'] == job]
        made, at = (datetime.datetime.fromisoformat(t.replace('Z', '+00:00')) for t in (answer['made_at'], told[key]))
        return round((at - made).total_seconds() / 60)

    more = parts.json('whatif', '--add-nodes', 'worker-1;1*cpus=8,mem=1G')
    assert {job: (minutes(more, job, 'start_at'), minutes(more, job, 'then_at')) for job in (wide, short)} == {wide: (10, 0), short: (30, 0)}
    assert (more['now']['tasks'], more['then']['tasks_placed'], more['sooner'], more['later']) == (6, 6, 3, 0)
    assert minutes(more, many, 'start_at') == 35 and [j['tasks'] for j in more['jobs'] if j['job'] == many] == [4]

    order = parts.json('whatif', '--policy', 'sjf')
    assert minutes(order, short, 'then_at') < minutes(order, wide, 'then_at') and (order['sooner'], order['later']) == (2, 1)
    assert minutes(parts.json('whatif', '--priority', f'{short}=7'), short, 'then_at') == 10
    gone = parts.json('whatif', '--cancel', f'{runs},{wide}')
    assert minutes(gone, short, 'then_at') == 0 and gone['gone'] == 1
    without = parts.json('whatif', '--without', 'worker-1')
    assert (without['lost'], without['again'], without['then']['tasks_placed']) == (3, 1, 0)
    released = parts.json('whatif', '--release', str(held))
    assert minutes(released, held, 'then_at') == 0 and released['again'] == 1
    trial = parts.json('whatif', '--job', 'cpus=1,time=5m,queue=other', '--limit', '0')
    assert [j['job'] for j in trial['jobs']] == [None] and minutes(trial, None, 'then_at') == 0

    text = parts.ok('whatif', '--policy', 'sjf')
    assert re.search(rf'^{wide}\twide\t\S+\t1\tin 9m\S+\tin \S+\t.* later$', text, re.M), text
    assert 'Of the jobs, 2 would start sooner, 1 later.' in text
    assert 'No job that waits would start at another time.' in parts.ok('whatif', '--backfill', 'easy')

    # Nothing has changed, and what is wrong is named.
    assert parts.json('show', str(wide))['state'] == 'queued' and len(parts.json('nodes')['nodes']) == 1
    for options, field, code in ((['--add-nodes', '2*nix'], 'add_nodes', 2), (['--add-nodes', '0*cpus=1'], 'add_nodes', 2),
                                 (['--add-nodes', 'mem=4G'], 'add_nodes', 2), (['--add-nodes', '10000*cpus=1;1*cpus=1'], 'add_nodes', 2),
                                 (['--add-nodes', 'cpus=1,disk=3'], 'add_nodes', 2), (['--add-nodes', ''], 'add_nodes', 2),
                                 (['--without', 'worker-1,nix'], 'without', 3), (['--cancel', 'a'], 'cancel', 2), (['--cancel', '99'], 'cancel', 3),
                                 (['--cancel', ','.join('1' * 1001)], 'cancel', 2), (['--release', str(wide)], 'release', 2),
                                 (['--priority', '7'], 'priorities', 2), (['--priority', '7=x'], 'priorities', 2),
                                 (['--job', 'cpu=4'], 'trial', 2), (['--job', 'time=soon'], 'trial', 2), (['--job', 'queue='], 'trial', 2),
                                 (['--policy', 'best'], '--policy', 2), ([], 'nothing would be different', 2)):
        done = parts.rota('whatif', *options)
        assert (done.returncode, done.stderr.startswith(f'rota: {field}')) == (code, True), (options, done)


def test_where_a_job_may_run(parts):
    parts.start_master('--backfill', 'easy')
    parts.start_worker(1, '--exec', 'fake', '--cpus', '4', '--labels', 'zone=a,rack=3')
    parts.start_worker(2, '--exec', 'fake', '--cpus', '2', '--labels', 'zone=b,ssd')
    parts.start_worker(3, '--exec', 'fake', '--cpus', '2')
    parts.wait_nodes(3)
    assert {n['name']: n['labels'] for n in parts.json('nodes')['nodes']} == {'worker-1': 'zone=a,rack=3', 'worker-2': 'zone=b,ssd', 'worker-3': ''}
    assert re.search(r'^  labels: zone=b,ssd$', parts.ok('nodes', 'worker-2'), re.M)
    for where, node in (('ssd', 'worker-2'), ('zone=a & rack>=3', 'worker-1'), ('!zone', 'worker-3'), ('node=worker-1|nix', 'worker-1'),
                        ('cpus<4 & zone', 'worker-2')):
        job = submit(parts, 1, 0, where=where)
        shown = wait_for(lambda: (j := parts.json('show', str(job)))['state'] == 'succeeded' and j, f'{where} runs')
        assert (shown['node'], shown['where']) == (node, where)
        assert re.search(rf'^where +{re.escape(where)}$', parts.ok('show', str(job)), re.M)
    job = parts.ok('submit', '--where', 'zone=b', '--', 'true').split()[0]
    assert wait_for(lambda: (j := parts.json('show', job))['state'] == 'succeeded' and j, 'it runs')['node'] == 'worker-2'

    # What waits says so, and goes on when a node comes.
    none = submit(parts, 1, 0, where='zone=c')
    why = wait_for(lambda: (w := parts.json('why', str(none)))['reason'] == 'too_big' and w, 'it waits')
    assert (why['nodes_unsuited'], why['where'], why['dims']) == (3, 'zone=c', [])
    assert 'No ready node meets its --where: zone=c.' in parts.ok('why', str(none))
    assert parts.json('whatif', '--add-nodes', 'worker-1')['gained'] == 0
    wide = submit(parts, 4, 0, where='ssd')
    wait_for(lambda: parts.json('why', str(wide))['reason'] == 'too_big', 'it waits')
    text = parts.ok('why', str(wide))
    assert '2 of 3 ready nodes do not meet its --where: ssd.' in text and 'It needs 4 CPUs; the largest node has 2' in text
    parts.start_worker(4, '--exec', 'fake', '--cpus', '1', '--labels', 'zone=c')
    wait_for(lambda: parts.json('show', str(none))['state'] == 'succeeded', 'it runs there')
    trial = parts.json('whatif', '--job', 'where=zone=c')
    assert trial['jobs'][0]['change'] == 'again' and trial['then']['tasks_placed'] == trial['now']['tasks_placed'] + 1

    for options, field in ((['--where', 'zone='], 'where'), (['--where', 'zone=a b'], 'where'), (['--where', 'mem>much'], 'where')):
        done = parts.rota('submit', *options, '--', 'true')
        assert done.returncode == 2 and done.stderr.startswith(f'rota: {field}: "') and 'write zone=a' in done.stderr, done
    done = parts.rota('worker', '--state', parts.directory + '/bad', '--bus', 'unix:/nix', '--labels', 'node=x')
    assert done.returncode == 78 and 'labels: every node has "node" by itself' in done.stderr, done
