"""What runs on a node at any moment fits into it: CPUs, memory, GPUs and a named resource, processes and containers together.

Each job appends a line when it begins and one when it ends to one file. A line is one write, so their order is the order of what
happened; what a job holds lies around its two lines, so nothing that is read here can be too much. 5,000 jobs; ROTA_CAPACITY_JOBS.
"""
import collections
import os
import random
import shutil
import tempfile

import pytest

from conftest import wait_for
from dockerd import IMAGE, Engine
from parts import Parts

JOBS = int(os.environ.get('ROTA_CAPACITY_JOBS', '5000'))
CONTAINERS = JOBS // 100
GIB = 1 << 30
NODES = {  # capacity
    'worker-1': {'cpus': 4, 'mem': 8 * GIB, 'gpus': 3, 'seat': 2},
    'worker-2': {'cpus': 2.5, 'mem': 3 * GIB, 'gpus': 0, 'seat': 5},
}
SCRIPT = ('echo "s $ROTA_JOB_ID $ROTA_NODE $ROTA_CPUS $ROTA_MEM_BYTES $ROTA_GPU_COUNT ${ROTA_GPUS:--} $SEAT" >> "$LEDGER"; '
          'eval "$LONG"; echo "e $ROTA_JOB_ID" >> "$LEDGER"')


@pytest.fixture
def parts():
    with Engine() as engine:
        cluster = Parts(tempfile.mkdtemp(prefix='rota-capacity-'))
        cluster.environment['DOCKER_HOST'] = engine.address
        yield cluster
        cluster.stop()
        shutil.rmtree(cluster.directory, ignore_errors=True)


def draw(rng, number, ledger):
    """A request that fits on one of the nodes at least."""
    seat = rng.choice((0, 0, 0, 1, 2))
    job = {'command': ['sh', '-c', SCRIPT], 'cpus': rng.choice((0.1, 0.5, 0.5, 1, 1, 2, 4)), 'mem': f'{rng.choice((16, 16, 256, 1024, 2900))}M',
           'env': {'LEDGER': ledger, 'SEAT': str(seat), 'LONG': ':' if rng.random() < 0.9 else 'sleep 0.1'}}
    if seat:
        job['resources'] = {'seat': seat}
    if rng.random() < 0.3:
        job['gpus'] = rng.choice((0.25, 0.5, 0.5, 1, 2, 3))
    if number % (JOBS // CONTAINERS) == 0:
        job.update(image=IMAGE, cpus=0.5, mem='64M')
        job.pop('gpus', None)  # this engine has no runtime for them
    return job


def test_nothing_runs_that_does_not_fit(parts):
    folder = os.path.join(parts.directory, 'shared')  # containers may see nothing of ours but this
    os.mkdir(folder)
    ledger = os.path.join(folder, 'ledger')
    with open(ledger, 'w', encoding='ascii'):
        os.chmod(ledger, 0o666)  # in a container a job is nobody
    os.chmod(parts.directory, 0o755)
    parts.start_master('--place', 'spread')
    for number, (name, has) in enumerate(NODES.items(), 1):
        parts.start_worker(number, '--exec', 'docker', '--cpus', str(has['cpus']), '--mem', str(has['mem']), '--gpus', str(has['gpus']),
                           '--resources', f"seat={has['seat']}", '--container-mounts', folder)
        assert name == f'worker-{number}'
    parts.wait_nodes(len(NODES))
    rng = random.Random(4)
    ids = parts.submit_many(draw(rng, number, ledger) for number in range(JOBS))
    assert len(ids) == JOBS

    def over():
        states = parts.json('stats')['jobs']
        return not any(states.get(s, 0) for s in ('queued', 'dispatched', 'running', 'retry_wait', 'blocked', 'held', 'uncertain'))

    wait_for(over, 'all jobs to end', patience_s=400)
    running, most = {}, collections.defaultdict(float)
    held = {name: collections.Counter() for name in NODES}
    units = {name: collections.Counter() for name in NODES}  # of each GPU, by number
    seen = set()
    with open(ledger, encoding='ascii') as f:
        for line in f:
            what, job, *more = line.split()
            if what == 's':
                node, cpus, mem, gpus, numbers, seat = more
                need = {'cpus': float(cpus), 'mem': int(mem), 'gpus': float(gpus), 'seat': int(seat)}
                numbers = [] if numbers == '-' else numbers.split(',')
                assert len(numbers) == -(-need['gpus'] // 1), line  # whole ones, or a part of one
                running[job] = node, need, numbers
                assert job not in seen, f'job {job} began twice'
                seen.add(job)
            else:
                node, need, numbers = running.pop(job)
            sign = 1 if what == 's' else -1
            for kind, amount in need.items():
                held[node][kind] += sign * amount
                assert held[node][kind] <= NODES[node][kind] + 1e-9, f'{node} has {NODES[node][kind]} {kind}, {held[node][kind]} run: {line}'
                most[node, kind] = max(most[node, kind], held[node][kind])
            for gpu in numbers:
                units[node][gpu] += sign * (need['gpus'] / len(numbers))
                assert units[node][gpu] <= 1 + 1e-9 and int(gpu) < NODES[node]['gpus'], f'GPU {gpu} of {node}: {line}'
    assert len(seen) == JOBS and not running
    totals = parts.json('stats')['totals']
    assert totals['succeeded'] == JOBS, totals
    for name, has in NODES.items():  # and it was full: else nothing was tried
        assert most[name, 'cpus'] > 0.8 * has['cpus'], most
    assert most['worker-1', 'gpus'] == 3 and most['worker-1', 'seat'] == 2, most
