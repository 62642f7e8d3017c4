"""kill -9 of the master, of a worker and of both at random moments, while jobs run that keep their own ledger.

After it every accepted job has ended exactly once, no attempt ran twice, none was disturbed, and the store says what the ledger says.
ROTA_KILLS sets how many (200; `make soak` takes 2,000), ROTA_SEED which moments.
"""
import collections
import os
import random
import shutil
import tempfile
import time

import pytest

from conftest import wait_for
from parts import Parts

KILLS = int(os.environ.get('ROTA_KILLS', '200'))
SEED = int(os.environ.get('ROTA_SEED', '1'))
JOBS = 2000

# One write each, appended: lines of several processes never mix.
LEDGER_JOB = '''echo "$ROTA_JOB_ID ${{ROTA_TASK_ID:--}} $ROTA_ATTEMPT start" >> "$LEDGER"
sleep {sleep}
echo "$ROTA_JOB_ID ${{ROTA_TASK_ID:--}} $ROTA_ATTEMPT end {code}" >> "$LEDGER"
exit {code}'''


@pytest.fixture
def parts():
    p = Parts(tempfile.mkdtemp(prefix='rota-kills-'))
    yield p
    p.stop()
    shutil.rmtree(p.directory, ignore_errors=True)


def read_ledger(path):
    starts, ends = collections.Counter(), {}
    with open(path, encoding='utf-8') as f:
        for line in f:
            job, task, attempt, what, *code = line.split()
            key = (int(job), task, int(attempt))
            if what == 'start':
                starts[key] += 1
            else:
                assert key not in ends, f'{key} ended twice'
                ends[key] = int(code[0])
    return starts, ends


def not_ended(p):
    return sum(n for state, n in p.json('stats')['jobs'].items() if state not in ('succeeded', 'failed', 'cancelled', 'expired'))


def kill_and_start_again(p, rng, both_pause_s):
    what = rng.choice(['master', 'worker-1', 'worker-2', 'both', 'all'])
    names = {'both': ['master', 'worker-1'], 'all': ['master', 'worker-1', 'worker-2']}.get(what, [what])
    rng.shuffle(names)
    for name in names:
        p.crash(name)
    time.sleep(rng.random() * both_pause_s)
    for name in sorted(names, key=lambda _: rng.random()):
        if name == 'master':
            p.start_master()
        else:
            p.start_worker(int(name[-1]))


def test_kills_lose_nothing_and_repeat_nothing(parts):
    p, rng = parts, random.Random(SEED)
    ledger = os.path.join(p.directory, 'ledger')
    open(ledger, 'w', encoding='utf-8').close()
    p.start_master('--snapshot-records', '100')  # most starts are from one, and many die while they make one
    for number in (1, 2):
        p.start_worker(number, '--cpus', '4')
    p.wait_nodes(2)
    expected = {}
    submitted = 0
    for kill in range(KILLS):
        # There is always work: the next part is submitted while things die.
        want = min(JOBS, (kill + 1) * JOBS // max(1, KILLS) + 40)
        if want > submitted:
            jobs = []
            for _ in range(want - submitted):
                code = rng.choice([0, 0, 0, 1, 7])
                jobs.append({'name': f'code-{code}', 'cpus': 0.5, 'env': {'LEDGER': ledger},
                             'command': ['sh', '-c', LEDGER_JOB.format(sleep=round(rng.random() * 0.4, 3), code=code)]})
            for job, i in zip(jobs, p.submit_many(jobs)):
                assert i not in expected, f'id {i} was given twice'
                expected[i] = int(job['name'][5:])
            submitted = want
        time.sleep(rng.random() * 0.3)
        kill_and_start_again(p, rng, 0.2)
    assert len(expected) == submitted
    wait_for(lambda: not_ended(p) == 0, 'all jobs to end', patience_s=600, pause_s=0.5)

    starts, ends = read_ledger(ledger)
    assert not [key for key, n in starts.items() if n > 1], 'an attempt ran twice'
    assert set(starts) == set(ends), 'a running job was disturbed'
    runs = collections.Counter(job for job, _, _ in starts)
    assert set(runs) == set(expected), 'a job did not run, or one ran that was not accepted'
    assert not [job for job, n in runs.items() if n > 1], 'a job ran twice'
    shown = {job['id']: job for job in p.json('ls')['jobs']}
    assert set(shown) == set(expected)
    for job, code in expected.items():
        view = shown[job]
        assert view['state'] == ('failed' if code else 'succeeded'), view
        assert view['exit_code'] == code
    for (job, _, _), code in ends.items():
        assert expected[job] == code
    assert 'snapshot_seq=0' not in p.log_of('master').split('store replayed')[-1]
    report = p.ok('inspect', os.path.join(p.state, 'master'))
    for check in ('structure ok', 'checksums ok', 'replay ok', 'views ok'):
        assert check in report, report
