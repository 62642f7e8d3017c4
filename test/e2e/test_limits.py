"""Queues, limits, tokens and shares, set live on the command line and kept over restarts, from the journal and from a snapshot."""
import json
import shutil
import tempfile

import pytest

from conftest import wait_for
from parts import Parts


@pytest.fixture
def parts():
    made = Parts(tempfile.mkdtemp(prefix='rota-limits-'))
    yield made
    made.stop()
    shutil.rmtree(made.directory, ignore_errors=True)


def submit(parts, run_s, *options, cpus='1', user=None):
    job = {'command': ['true'], 'cpus': float(cpus), 'simulate': {'run_s': run_s}}
    for option, value in zip(options[::2], options[1::2]):
        job[option] = value
    if user:
        job['user'] = user
    return int(parts.ok('submit', '-f', '-', input=json.dumps(job)))


def state_of(parts, job):
    return parts.json('show', str(job))['state']


def running(parts, jobs):
    return sum(state_of(parts, job) in ('running', 'dispatched') for job in jobs)


def test_queues_limits_and_tokens(parts):
    parts.start_master('--order', 'fairshare')
    parts.start_worker(1, '--exec', 'fake', '--cpus', '8')
    parts.wait_nodes(1)

    # A queue: made once, changed, paused with a reason, told by why.
    parts.ok('queue', 'create', 'night', '--order', 'sjf', '--weight', '2', '--cpus', '6', '--pending', '50')
    assert parts.rota('queue', 'create', 'night').returncode == 2
    assert parts.rota('queue', 'set', 'nihgt', '--priority', '1').returncode == 3
    parts.ok('queue', 'pause', 'night', '--reason', 'storage is moved')
    late = submit(parts, 0.05, 'queue', 'night')
    wait_for(lambda: parts.json('why', str(late))['reason'] == 'queue_paused', 'a reason')
    assert 'Queue night is paused: storage is moved.' in parts.ok('why', str(late))
    listed = {q['name']: q for q in parts.json('queues')['queues']}['night']
    assert listed['settings']['paused'] and listed['settings']['order'] == 'sjf' and listed['settings']['weight'] == 2
    assert listed['settings']['limits']['cpus'] == 6 and listed['settings']['limits']['running'] is None

    # A limit of a user, with numbers; tokens; an account.
    parts.ok('limit', 'user:ann', '--running', '2', '--weight', '3')
    parts.ok('limit', 'token:matlab', '--total', '1')
    parts.ok('limit', 'account:physics', '--parent', 'science', '--mem', '1G')
    jobs = [submit(parts, 3600, user='ann') for _ in range(4)]
    wait_for(lambda: running(parts, jobs) == 2, 'two of ann run')
    assert 'User ann runs 2 of at most 2 jobs.' in parts.ok('why', str(jobs[3]))
    licensed = [submit(parts, 3600, 'tokens', {'matlab': 1}, 'account', 'physics') for _ in range(2)]
    wait_for(lambda: running(parts, licensed) == 1, 'one has the token')
    assert 'Token matlab: 1 of 1 are taken, and it needs 1.' in parts.ok('why', str(licensed[1]))
    assert parts.json('show', str(licensed[0]))['account'] == 'physics'
    shares = parts.json('queues', '--shares')
    ann = next(s for s in shares['users'] if s['user'] == 'ann')
    assert ann['weight'] == 3 and ann['held']['running'] == 2 and ann['held_now'] == pytest.approx(0.25)
    assert 'ann' in parts.ok('queues', '--shares') and 'user:ann' in parts.ok('limit')

    # What is wrong is said by name.
    for line, text in (
            (['limit', 'user:ann', '--cpus', 'many'], '--cpus'), (['limit', 'ann', '--cpus', '1'], 'user:NAME'),
            (['queue', 'set', 'night', '--order', 'lifo'], 'there is no order "lifo"'),
            (['queue', 'set', 'night', '--weight', '0'], 'weight must be from 0.001'),
            (['limit', 'account:science', '--parent', 'physics'], 'below this one'),
            (['submit', '--token', 'mathlab=1', '--', 'true'], 'no token "mathlab"'), (['queue', 'stop', 'night'], 'is not create')):
        result = parts.rota(*line)
        assert result.returncode == 2 and text in result.stderr, (line, result.stderr)

    # Pending tasks and the rate of submissions are refused at the door.
    assert parts.rota('submit', '--queue', 'night', '--array', '1-60', '--', 'true').returncode != 0
    assert 'queue night has 1 of at most 50 waiting tasks' in parts.rota('submit', '--queue', 'night', '--array', '1-60', '--', 'true').stderr
    parts.ok('limit', 'user:*', '--submits', '100000')

    def kept():
        limits, queue = parts.json('limit'), parts.json('queues')['queues']
        return ([q['settings'] for q in queue if q['name'] == 'night'], [u['limits'] for u in limits['users'] if u['name'] in ('ann', '*')],
                [a['parent'] for a in limits['accounts'] if a['name'] == 'physics'], limits['tokens'])

    # From the journal.
    before = kept()
    assert before[2] == ['science'] and before[3] == [{'kind': 'token', 'name': 'matlab', 'set': True, 'total': 1, 'taken': 1}]
    parts.crash('master')
    parts.start_master('--order', 'fairshare')
    assert kept() == before
    # From a snapshot, which is made of what is there after so many records.
    parts.crash('master')
    parts.start_master('--order', 'fairshare', '--snapshot-records', '1')
    submit(parts, 0.01)
    wait_for(lambda: 'snapshot' in parts.log_of('master'), 'a snapshot')
    parts.crash('master')
    parts.start_master('--order', 'fairshare')
    assert kept() == before
    wait_for(lambda: parts.json('nodes')['nodes'][0]['state'] == 'ready', 'the node')

    # Live: the pause ends, the limit is raised, a token more.
    parts.ok('queue', 'resume', 'night')
    wait_for(lambda: state_of(parts, late) == 'succeeded', 'the job of the night')
    parts.ok('limit', 'user:ann', '--running', '3')
    wait_for(lambda: running(parts, jobs) == 3, 'three of ann run')
    parts.ok('limit', 'user:ann', '--running', 'none')
    wait_for(lambda: running(parts, jobs) == 4, 'four of ann run')
    parts.ok('limit', 'token:matlab', '--total', '2')
    wait_for(lambda: running(parts, licensed) == 2, 'both have a token')


def test_who_comes_late_is_next(parts):
    """One user has thousands of jobs queued; another comes with ten, and is given the next places."""
    parts.start_master('--order', 'fairshare')
    parts.start_worker(1, '--exec', 'fake', '--cpus', '4')
    parts.wait_nodes(1)
    many = [{'command': ['true'], 'user': 'ann', 'simulate': {'run_s': 0.4}}] * 5000
    parts.submit_many(many)
    wait_for(lambda: parts.json('stats')['tasks'].get('running', 0) > 0, 'jobs of ann')
    late = [submit(parts, 0.4, user='bob') for _ in range(10)]
    wait_for(lambda: all(state_of(parts, job) == 'succeeded' for job in late), 'all of bob')
    done = parts.json('stats')['tasks']['succeeded']
    assert done < 2000, done  # in turns with those of ann, not behind them
