"""A live run's journal, replayed: the scheduler decides its starts again, and starts the same; and it is a workload log for other policies."""
import json
import random
import shutil
import tempfile
import time

import pytest

from conftest import wait_for
from parts import Parts

ROUNDS, JOBS = 5, 20


def mixed_job(rng, earlier):
    job = {'command': ['x'], 'name': f'kind-{rng.randrange(5)}', 'cpus': rng.choice([0.5, 1, 2, 4]), 'mem': f'{rng.randrange(1, 4)}G', 'priority': rng.randrange(3),
           'simulate': {'run_s': round(1.1 + rng.random() * 0.5, 2), 'exit_code': int(rng.random() < 0.1)}, 'hold': rng.random() < 0.05}
    if rng.random() < 0.2:
        job['array'] = '1-5%3'
    elif rng.random() < 0.15:
        job['nodes'] = rng.choice([2, 3])
    if rng.random() < 0.3:
        job['time'] = '1s'
    if earlier and rng.random() < 0.1:
        job['after'] = [{'job': rng.choice(earlier), 'when': 'any'}]
    return job


@pytest.fixture(scope='module', params=[(), ('--order', 'sjf', '--backfill', 'easy')], ids=' '.join)
def ran(request):
    """A cluster on which some hundred jobs of all kinds ran, while nodes were drained, jobs cancelled, and the master killed."""
    parts = Parts(tempfile.mkdtemp(prefix='rota-again-'))
    rng, jobs = random.Random(7), []
    try:
        parts.start_master(*request.param)
        for number in (1, 2, 3):
            parts.start_worker(number, '--exec', 'fake', '--cpus', str(4 * number), '--mem', '8G')
        parts.wait_nodes(3)
        for turn in range(ROUNDS):
            ids = parts.submit_many(mixed_job(rng, jobs) for _ in range(JOBS))
            jobs += ids
            parts.rota('cancel', str(rng.choice(ids)))
            time.sleep(0.3)
            if turn == 2:  # that a worker is not yet connected to a new master is in no journal: nothing starts meanwhile
                parts.ok('queue', 'pause', 'default')
                parts.crash('master')
                parts.start_master()
                wait_for(lambda: all(node['connected'] for node in parts.json('nodes')['nodes']), 'the workers are back')
                parts.ok('queue', 'resume', 'default')
            if turn == 3:
                parts.ok('drain', 'worker-2')
        parts.ok('resume', 'worker-2')
        parts.ok('release', 'all')
        wait_for(lambda: {s for s, n in parts.json('stats')['jobs'].items() if n} <= {'succeeded', 'failed', 'cancelled'}, 'not all end')
        yield parts, [word.replace('--order', '--policy') for word in request.param]
    finally:
        parts.stop()
        shutil.rmtree(parts.directory, ignore_errors=True)


def test_every_start_is_decided_again(ran):
    """With the master running and writing, and after it."""
    parts, options = ran
    state = parts.state + '/master'
    result = parts.rota('sim', state, '--again', '--json', *options)
    told = json.loads(result.stdout)
    # Nearly always all of them: a cycle that started nothing, of which no journal tells, can turn one (journal_again.h).
    assert 0.98 * told['starts'] <= told['same'] <= told['starts'], result
    assert result.returncode == (told['same'] < told['starts']), result
    assert told['starts'] + told['ahead'] >= parts.json('stats')['totals']['started'] > ROUNDS * JOBS and told['masters'] == 2
    assert told['ahead_same'] >= 0.9 * told['ahead'] and told['starts'] > told['ahead']
    again = parts.rota('sim', state, '--again', *options)
    assert f'{told["starts"]} starts decided again, {told["same"]} just as they were' in again.stderr
    assert bool(again.stdout) == (told['same'] < told['starts'])
    # Another policy starts others, and says which: the comparison can fail.
    other = parts.rota('sim', state, '--again', '--policy', 'fifo' if 'sjf' in options else 'sjf', '--backfill', 'none')
    assert other.returncode == 1 and 'again: ' in other.stdout, other
    wrong = parts.rota('sim', state, '--again', '--policy', 'sjf,fifo')
    assert wrong.returncode == 2 and 'name the one that the master used' in wrong.stderr


def test_it_is_a_workload_log(ran):
    parts, _ = ran
    state = parts.state + '/master'
    lines = [json.loads(line) for line in parts.ok('sim', state, '--policy', 'priority,sjf', '--backfill', 'easy', '--json').splitlines()]
    ended = sum(parts.json('stats')['tasks'][s] for s in ('succeeded', 'failed', 'cancelled'))
    assert [line['policy'] for line in lines] == ['priority', 'sjf']
    for line in lines:
        assert line['procs'] == 24 and ROUNDS * JOBS < line['jobs'] <= ended
    nothing = parts.rota('sim', parts.directory, '--again')
    assert nothing.returncode != 0 and nothing.stderr.startswith('rota: '), nothing
