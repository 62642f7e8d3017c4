"""Jobs on several nodes at the same time (gangs): all of one starts or nothing of it, and it ends and is tried again as one, also when
workers and the master are killed meanwhile. Every part keeps its own ledger."""
import collections
import os
import random
import shutil
import subprocess
import tempfile
import time

import pytest

from conftest import PATIENCE_S, ROTA, wait_for
from test_plan import Planned

KILLS = int(os.environ.get('ROTA_GANG_KILLS', '25'))
SEED = int(os.environ.get('ROTA_SEED', '1'))


@pytest.fixture
def cluster():
    p = Planned(tempfile.mkdtemp(prefix='rota-gang-'))
    p.start_master()
    for number in (1, 2, 3):
        p.start_worker(number, '--cpus', '2')
    p.wait_nodes(3)
    yield p
    p.stop()
    shutil.rmtree(p.directory, ignore_errors=True)


def submit(p, *options, code='0'):
    return p.ok('submit', *options, '--', 'sh', '-c', code).strip()


def state(p, job):
    return p.json('show', job)['state']


def parts_of(p, job):
    """By rank: state, exit code, node."""
    tasks = p.get(f'/v1/jobs/{job}/tasks')['tasks']
    return {t['index']: t for t in tasks}


def test_each_part_knows_where_it_is(cluster):
    p = cluster
    job = submit(p, '--nodes', '3', code='echo $ROTA_NODE_RANK/$ROTA_NODE_COUNT $ROTA_NODE $ROTA_NODES {}')
    p.ok('wait', job)
    lines = [p.ok('logs', f'{job}_{rank}').split() for rank in range(3)]
    nodes = [words[1] for words in lines]
    assert sorted(nodes) == ['worker-1', 'worker-2', 'worker-3']
    assert lines == [[f'{rank}/3', nodes[rank], ','.join(nodes), str(rank)] for rank in range(3)]
    shown = p.json('show', job)
    assert shown['nodes'] == 3 and shown['tasks'] == 3 and shown['counts'] == {'succeeded': 3}
    assert '3 at the same time' in p.ok('show', job)
    # One that is on one node has none of that.
    job = submit(p, code='echo ${ROTA_NODES-none} ${ROTA_NODE_RANK-none}')
    p.ok('wait', job)
    assert p.ok('logs', job) == 'none none\n'


def test_run_prints_rank_0_and_ends_as_the_whole(cluster):
    done = cluster.rota('run', '--nodes', '2', '--', 'sh', '-c', 'echo i am $ROTA_NODE_RANK; sleep 0.5; exit $ROTA_NODE_RANK')
    assert done.stdout == 'i am 0\n' and done.returncode == 1, done
    srun = os.path.join(cluster.directory, 'srun')
    os.symlink(ROTA, srun)
    done = subprocess.run([srun, '-N', '2', 'sh', '-c', 'echo $ROTA_NODE_COUNT'], env=cluster.environment, cwd=cluster.directory, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=PATIENCE_S)
    assert done.stdout == '2\n' and done.returncode == 0, done


def test_nothing_of_it_starts_before_all_of_it_can(cluster):
    p = cluster
    busy = submit(p, '--cpus', '2', '--where', 'node=worker-2', '--time', '1h', code='sleep 1000')
    wait_for(lambda: state(p, busy) == 'running', 'one node is busy')
    job = submit(p, '--nodes', '3', '--cpus', '2', code='true')
    why = wait_for(lambda: (w := p.json('why', job))['reason'] == 'gang' and w, 'it waits')
    assert (why['nodes_asked'], why['nodes_now'], why['nodes_ever']) == (3, 2, 3)
    assert why['change']['kind'] == 'nodes' and why['change']['nodes'] == 2 and why['change']['submit_again']
    assert 3500 < why['room_in_s'] <= 3600 and why['estimate']['start_at']
    said = p.ok('why', job)
    assert 'It needs 3 nodes at the same time; 2 have room for it now, 3 would have it when they are empty.' in said
    assert f'submitted again with --nodes 2, and `rota cancel {job}` after that' in said
    # What is said starts it.
    fewer = submit(p, '--nodes', '2', '--cpus', '2', code='true')
    p.ok('wait', fewer)
    time.sleep(0.5)
    assert state(p, job) == 'queued' and p.json('show', job)['counts'] == {'queued': 3}
    # As it would be without what is in its way; and another like it.
    moved = p.json('whatif', '--cancel', busy, '--limit', '10')['jobs']
    assert [(str(j['job']), j['change']) for j in moved if j['change'] == 'sooner'] == [(job, 'sooner')]
    trial = p.json('whatif', '--job', 'nodes=2,cpus=2,time=1m')['jobs']
    assert [j['then_at'] is not None for j in trial if j['job'] is None] == [True]
    p.ok('cancel', busy)
    p.ok('wait', job)
    started = [a['assigned_at'] for a in p.get(f'/v1/jobs/{job}/attempts')['attempts']]
    assert len(started) == 3 and len(set(started)) == 1
    # More nodes than there are.
    many = submit(p, '--nodes', '4', code='true')
    wait_for(lambda: p.json('why', many)['reason'] == 'too_few', 'it is said that there are too few')
    p.ok('cancel', many)


def test_one_that_fails_ends_the_others(cluster):
    p = cluster
    job = submit(p, '--nodes', '3', '--retries', '1', '--backoff', '1s', code='test $ROTA_NODE_RANK != 1 || exit 7; sleep 1000')
    done = p.rota('wait', job)
    assert done.returncode == 1, done
    assert p.json('show', job)['counts'] == {'failed': 1, 'cancelled': 2}
    tasks = parts_of(p, job)
    assert tasks[1]['exit_code'] == 7 and {tasks[r]['reason'] for r in (0, 2)} == {'gang'}
    assert {t['attempts'] for t in tasks.values()} == {2}
    # Again: all of it, not what failed.
    again = p.ok('retry', f'{job}_1').strip()
    assert p.json('show', again)['nodes'] == 3
    p.ok('cancel', again)
    # A part by itself can not be cancelled.
    job = submit(p, '--nodes', '2', code='sleep 1000')
    wait_for(lambda: state(p, job) == 'running', 'it runs')
    assert 'run together or not at all' in p.rota('cancel', f'{job}_0').stderr
    p.ok('cancel', job)
    wait_for(lambda: state(p, job) == 'cancelled', 'it is cancelled')


def test_bad_requests_name_their_field(cluster):
    for options, field in ((('--nodes', '0'), '--nodes'), (('--nodes', '513'), '--nodes'), (('--nodes', '2', '--array', '1-3'), 'nodes'),
                           (('--nodes', '2', '--mem', '1G', '--mem-max', '2G'), 'mem_max')):
        done = cluster.rota('submit', *options, '--', 'true')
        assert done.returncode == 2 and field in done.stderr, done


LEDGER = '''echo "$ROTA_JOB_ID $ROTA_ATTEMPT ${{ROTA_NODE_RANK:-0}} start" >> "$LEDGER"
sleep {sleep}
test {fails} != $ROTA_NODE_RANK/$ROTA_ATTEMPT || exit 3
echo "$ROTA_JOB_ID $ROTA_ATTEMPT ${{ROTA_NODE_RANK:-0}} end" >> "$LEDGER"'''


def test_kills_leave_none_in_part(cluster):
    """Whatever dies: each gang ends; in the round that succeeded all parts started once and came to their end."""
    p, rng = cluster, random.Random(SEED)
    ledger = os.path.join(p.directory, 'ledger')
    open(ledger, 'w', encoding='utf-8').close()
    jobs = {}
    for kill in range(KILLS):
        wanted = []
        for _ in range(4):
            nodes = rng.choice((1, 2, 2, 3))
            fails = rng.choice(('none', 'none', f'{rng.randrange(nodes)}/1'))
            wanted.append({'command': ['sh', '-c', LEDGER.format(sleep=rng.choice((0, 0.1, 0.5)), fails=fails)], 'nodes': nodes, 'retries': 3,
                           'backoff': 1, 'lost_after': 80, 'env': {'LEDGER': ledger}})
        jobs.update(zip(p.submit_many(wanted), wanted))
        time.sleep(rng.random() * 0.4)
        name = rng.choice(('master', 'worker-1', 'worker-2', 'worker-3'))
        p.crash(name)
        time.sleep(rng.random() * 0.3)
        if name == 'master':
            p.start_master()
        else:
            p.start_worker(int(name[-1]))
    p.wait_nodes(3)
    assert p.rota('wait', 'all', timeout=4 * PATIENCE_S).returncode in (0, 1)
    starts, ends = collections.Counter(), collections.Counter()
    with open(ledger, encoding='utf-8') as f:
        for line in f:
            job, attempt, rank, what = line.split()
            (starts if what == 'start' else ends)[int(job), int(attempt), int(rank)] += 1
    assert max(starts.values()) == 1, 'a part was started twice'
    for job, asked in jobs.items():
        shown = p.json('show', str(job))
        assert shown['state'] == 'succeeded', shown
        if asked['nodes'] == 1:
            continue
        last = {t['attempts'] for t in parts_of(p, job).values()}
        assert len(last) == 1, f'the parts of job {job} were not tried together: {last}'
        for rank in range(asked['nodes']):
            assert ends[job, min(last), rank] == 1, f'job {job} succeeded without part {rank}'
