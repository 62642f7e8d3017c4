"""A cluster under steady work: descriptors and memory stay where they are, and nothing is left of it when it has ended.

ROTA_STEADY_S sets how long (`make soak`: minutes); memory is judged from five minutes on, when it has settled.
"""
import collections
import json
import os
import re
import shutil
import signal
import statistics
import tempfile
import time

import pytest

from conftest import PATIENCE_S, processes_with, wait_for
from parts import Parts

STEADY_S = int(os.environ.get('ROTA_STEADY_S', '10'))
BATCH = 40
FDS_MORE_MAX = 3                    # connections that are about to close
PLACES_FDS_MAX = 3 * BATCH          # a nursery keeps the control groups of the most jobs that it ever had at the same time
SLOPE_MAX_BYTES_PER_S = (1 << 20) / 600
ENDED_BYTES_MAX = 400               # what a master may keep in memory of a job that has ended


@pytest.fixture
def parts():
    p = Parts(tempfile.mkdtemp(prefix='rota-steady-'))
    yield p
    p.stop()
    shutil.rmtree(p.directory, ignore_errors=True)


def batch(number):
    """Jobs that end well, fail, are killed by a signal, talk a lot, and leave a child behind."""
    kinds = ['true', 'exit 3', 'kill -9 $$', 'head -c 100000 /dev/zero', '(sleep 0.2 &) ; true']
    return [{'name': f'b{number}', 'cpus': 0.5, 'command': ['sh', '-c', kinds[i % len(kinds)]]} for i in range(BATCH)]


def roles(p):
    """'master', 'worker', '__nursery' -> pid"""
    found = {}
    for pid, line in processes_with(p.state).items():
        match = re.search(r'rota (master|worker|__nursery) ', line + ' ')
        if match:
            assert match.group(1) not in found, f'two of them: {line}'
            found[match.group(1)] = pid
    return found


def fds(pid):
    return len(os.listdir(f'/proc/{pid}/fd'))


def resident(pid):
    with open(f'/proc/{pid}/statm', encoding='ascii') as f:
        return int(f.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')


def control_groups(pid):
    """Of the nursery, as it holds them open."""
    links = [os.readlink(f'/proc/{pid}/fd/{fd}') for fd in os.listdir(f'/proc/{pid}/fd')]
    return {match.group(0) for match in (re.match(r'/sys/fs/cgroup/\S*/rota-[0-9a-f]+', link) for link in links) if match}


def slope(samples):
    """Bytes per second, by the medians of the second and the last third: a peak does not count."""
    third = len(samples) // 3
    early, late = samples[third:2 * third], samples[2 * third:]
    seconds = statistics.median(t for t, _, _ in late) - statistics.median(t for t, _, _ in early)
    jobs = statistics.median(n for _, n, _ in late) - statistics.median(n for _, n, _ in early)
    return (statistics.median(b for _, _, b in late) - statistics.median(b for _, _, b in early)) / seconds, jobs / seconds


def test_steady_work(parts):
    p = parts
    p.start_master()
    p.start_worker(1, '--cpus', '4', '--stop-jobs')
    p.wait_nodes(1)
    memory, descriptors = collections.defaultdict(list), collections.defaultdict(list)
    groups = set()
    begun, number = time.monotonic(), 0
    while time.monotonic() - begun < STEADY_S or number < 6:
        ids = p.submit_many(batch(number))
        number += 1
        p.rota('wait', f'{ids[0]}-{ids[-1]}')
        p.rota('logs', ids[0])
        p.ok('ls', '--json', '--name', f'b{number}')
        now = roles(p)
        assert set(now) == {'master', 'worker', '__nursery'}, now
        groups |= control_groups(now['__nursery'])
        for role, pid in now.items():
            descriptors[role].append(fds(pid))
            memory[role].append((time.monotonic() - begun, number * BATCH, resident(pid)))
    counts = p.json('stats')['jobs']
    assert counts['failed'] == 2 * number * BATCH // 5 and sum(counts.values()) == number * BATCH, counts
    for role, seen in descriptors.items():
        warm, late = max(seen[2:2 + len(seen) // 3]), min(seen[-3:])
        more = PLACES_FDS_MAX if role == '__nursery' else FDS_MORE_MAX
        assert late <= warm + more, f'{role}: descriptors {seen[:5]} ... {seen[-5:]}'
        print(f'{role}: {seen[0]} descriptors at first, {seen[-1]} after {number * BATCH} jobs')
    for role, samples in memory.items():
        grows, jobs_per_s = slope(samples)
        kept = jobs_per_s * ENDED_BYTES_MAX if role == 'master' else 0
        print(f'{role}: {samples[0][2] >> 10} KiB at first, {samples[-1][2] >> 10} KiB at the end, {grows:+.0f} B/s at {jobs_per_s:.0f} jobs/s')
        if STEADY_S >= 300:
            assert grows <= SLOPE_MAX_BYTES_PER_S + kept, f'{role} grows by {grows:.0f} B/s'

    # Nothing is left: no process, no control group.
    assert p.crash('worker-1', signal.SIGTERM) == 0
    assert p.crash('master', signal.SIGTERM) == 0
    wait_for(lambda: not processes_with(p.state), 'every process to end', patience_s=PATIENCE_S)
    wait_for(lambda: not [g for g in groups if os.path.exists(g)], f'control groups to go: {groups}')
    print(json.dumps({'jobs': number * BATCH, 'seconds': round(time.monotonic() - begun)}))
