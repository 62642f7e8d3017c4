"""SIGKILL at every single call by which a master, a worker or a nursery changes the world, in the paths where it matters.

Per scenario: a run without a kill counts the calls, then each run kills at one of them (test/preload/killpoint.c), starts again
what died, and looks at what is left. ROTA_KILLPOINTS says which:

    40 (default)        that many per scenario, drawn by ROTA_SEED, as long as ROTA_KILLPOINT_BUDGET_S allows
    all                 every one (make soak)
    worker:17           this one, which is what a failure prints to repeat it; several: worker:17,18,20-30
"""
import collections
import concurrent.futures
import http.client
import json
import os
import random
import shutil
import socket
import tempfile
import threading
import time

import pytest

from conftest import PATIENCE_S, wait_for
from parts import Parts
from preload import Point

WHICH = os.environ.get('ROTA_KILLPOINTS', '40')
BUDGET_S = float(os.environ.get('ROTA_KILLPOINT_BUDGET_S', '28'))
SEED = int(os.environ.get('ROTA_SEED', '1'))
MODE = os.environ.get('ROTA_KILLPOINT_MODE', 'any')  # before, after, half; any: by turns
AT_ONCE = int(os.environ.get('ROTA_KILLPOINT_JOBS', '4'))
LEAST = 8  # points that run however slow the machine is
KEYS = 10
JOBS = 20
ENDED = ('succeeded', 'failed', 'cancelled', 'expired')

# One write per line, appended: lines of several processes never mix.
LEDGER_JOB = '''echo "$ROTA_JOB_ID $ROTA_ATTEMPT start" >> "$LEDGER"
{wait}
echo "$ROTA_JOB_ID $ROTA_ATTEMPT end {code}" >> "$LEDGER"
exit {code}'''


class Broken(Exception):
    """The connection did not bring an answer: nobody knows."""


class Run(Parts):
    """A master and a worker, one of which dies at a point, with a client of its own that is fast."""

    def __init__(self, scenario, at):
        super().__init__(tempfile.mkdtemp(prefix='rota-point-'))
        self.scenario, self.at = scenario, at
        self.ledger = os.path.join(self.directory, 'ledger')
        self.gate = os.path.join(self.directory, 'gate')
        open(self.ledger, 'w', encoding='utf-8').close()
        self.point = Point(os.path.join(self.directory, 'point'), scenario.role, at, MODE)
        self.master_options = ['--store-reserve', '1M', '--heartbeat', '500ms', '--resend', '1s']
        self.codes = {}
        self.lock = threading.Lock()

    def close(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    # --- processes ---

    def master(self, point=False):
        """Starts the master; false when it died at its point before it served."""
        reader, writer = os.pipe()
        options = ['master', '--state', os.path.join(self.state, 'master'), '--port', str(self.port), '--ready-fd', str(writer),
                   *self.master_options]
        process = self.spawn('master', *options, pass_fds=(writer,), extra_env=self.point.environment() if point else None)
        os.close(writer)
        with os.fdopen(reader) as ready:  # the end of file tells of a death
            line = ready.readline().strip()
        if line:
            self.port = int(line.rsplit(':', 1)[1])
            return True
        code = process.wait(PATIENCE_S)
        assert point and code == -9 and self.point.killed(), f'the master ended by itself: {code}\n{self.log_of("master")}'
        return False

    def worker(self, point=False):
        return self.start_worker(1, '--cpus', '8', '--disk-reserve', '0', '--log-max', '1M',
                                 extra_env=self.point.environment() if point else None)

    def revive(self, name, start):
        """Starts again what died at its point; anything else that ended is a fault."""
        code = self.processes[name].poll()
        if code is None:
            return False
        excused = self.point.killed() and (code == -9 or self.scenario.role == '__nursery')
        assert excused, f'{name} ended by itself: {code}\n{self.log_of(name)}'
        start()
        return True

    # --- the client ---

    def ask(self, method, path, body=None, key=None):
        """(status, document); Broken when there was no whole answer."""
        with open(os.path.join(self.state, 'master', 'token'), encoding='ascii') as f:
            headers = {'Authorization': 'Bearer ' + f.read().strip(), 'Content-Type': 'application/json'}
        if key:
            headers['Idempotency-Key'] = key
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Broken(str(error)) from error
        finally:
            connection.close()
        return answer.status, json.loads(data)

    def get(self, path):
        status, document = self.ask('GET', path)
        assert status == 200, (path, status, document)
        return document

    def submit(self, wait):
        """JOBS jobs that keep the ledger, in one request."""
        jobs = []
        for i in range(JOBS):
            code = (0, 0, 1, 7)[i % 4]
            jobs.append({'name': f'code-{code}', 'cpus': 0.5, 'env': {'LEDGER': self.ledger, 'GATE': self.gate}, 'backoff': '50ms',
                         'command': ['sh', '-c', LEDGER_JOB.format(wait=wait, code=code)]})
        status, answer = self.ask('POST', '/v1/jobs', jobs)
        assert status == 201, answer
        self.codes = {job: int(jobs[i]['name'][5:]) for i, job in enumerate(answer['ids'])}

    # --- what is left ---

    def settle(self, name, start):
        """Starts again what died, until every job has ended. The master is not asked before there is something to hear."""
        end = time.monotonic() + PATIENCE_S
        while True:
            self.revive(name, start)
            try:
                if self.scenario.role == '__nursery':
                    self.resume_nodes()
                if len({job for job, _ in self.read_ledger()[1]}) < len(self.codes):
                    raise Broken('not yet')
                # Not /v1/stats, which tells what is not on disk yet.
                if all(j['state'] in ENDED for j in self.get('/v1/jobs?limit=100')['jobs']):
                    return
            except Broken:
                pass
            assert time.monotonic() < end, f'jobs do not end: {self.jobs()}\n{self.log_of("master")}\n{self.log_of("worker-1")}'
            time.sleep(0.05)

    def resume_nodes(self):
        """What an operator does: 16 attempts that go down with a nursery set the node aside for a minute."""
        for node in self.get('/v1/nodes')['nodes']:
            if node['state'] == 'quarantined':
                status, answer = self.ask('POST', f'/v1/nodes/{node["name"]}/resume', {})
                assert status == 200, answer

    def replace_master(self):
        """One that has no point, and has read all from the store."""
        self.crash('master')
        self.master()

    def jobs(self):
        try:
            return [(j['id'], j['state'], j['attempts']) for j in self.get('/v1/jobs?limit=100')['jobs']]
        except Broken as error:
            return str(error)

    def read_ledger(self):
        starts, ends = collections.Counter(), {}
        with open(self.ledger, encoding='utf-8') as f:
            for line in f:
                job, attempt, what, *code = line.split()
                key = (int(job), int(attempt))
                if what == 'start':
                    starts[key] += 1
                else:
                    assert key not in ends, f'attempt {key} ended twice'
                    ends[key] = int(code[0])
        return starts, ends

    def check(self, once):
        """Every job ended once, as it really did. once: each ran one single time, undisturbed."""
        starts, ends = self.read_ledger()
        assert not [key for key, n in starts.items() if n > 1], f'an attempt ran twice: {starts}'
        shown = {j['id']: j for j in self.get('/v1/jobs?limit=100')['jobs']}
        assert set(shown) == set(self.codes), f'{set(shown) ^ set(self.codes)} are lost or not ours'
        runs = collections.Counter(job for job, _ in starts)
        for job, code in self.codes.items():
            view = shown[job]
            attempts = self.get(f'/v1/jobs/{job}/attempts')['attempts']
            assert view['state'] == ('failed' if code else 'succeeded') and view['exit_code'] == code, (view, attempts)
            counted = [a for a in attempts if a['final'] in ('succeeded', 'failed') and a['reason'] in (None, 'none', 'exit')]
            assert len(counted) == 1, f'job {job} has {len(counted)} ends: {attempts}'
            ran = (job, counted[0]['attempt'])
            assert ends.get(ran) == code, f'invented end of {ran}: {attempts}, ledger {starts} {ends}'
            if once:
                assert runs[job] == 1, f'job {job} ran {runs[job]} times: {attempts}'
        if once:
            assert set(starts) == set(ends), 'a running job was disturbed'

    def inspect(self):
        self.crash('master')
        report = self.ok('inspect', os.path.join(self.state, 'master'))
        for what in ('structure ok', 'checksums ok', 'replay ok', 'views ok'):
            assert what in report, report


# --- scenarios: each runs once around a point (0: none) ---

class Submit:
    """A client submits with keys, one by one; what has no answer is sent again."""
    name, role = 'submit', 'master'

    def play(self, run):
        if not run.master(point=True):
            run.master()
        acknowledged = {}
        for i in range(KEYS):
            job = {'name': f'n{i}', 'command': ['true', str(i)]}
            while f'key-{i}' not in acknowledged:
                try:
                    status, answer = run.ask('POST', '/v1/jobs', job, f'key-{i}')
                    assert status in (200, 201), (status, answer)
                    acknowledged[f'key-{i}'] = answer['id']
                except Broken:
                    assert run.processes['master'].wait(PATIENCE_S) == -9, run.log_of('master')
                    run.revive('master', run.master)
        self.look(run, acknowledged)
        run.replace_master()
        self.look(run, acknowledged)
        for i in range(KEYS):
            status, answer = run.ask('POST', '/v1/jobs', {'name': f'n{i}', 'command': ['true', str(i)]}, f'key-{i}')
            assert (status, answer['id']) == (200, acknowledged[f'key-{i}']), (status, answer, acknowledged)
        run.inspect()

    def look(self, run, acknowledged):
        def listed():
            try:
                return run.get('/v1/jobs?limit=100')['jobs']
            except Broken:
                assert run.processes['master'].wait(PATIENCE_S) == -9, run.log_of('master')
                run.revive('master', run.master)
                return None
        jobs = wait_for(listed, 'a list of jobs')
        assert {j['name']: j['id'] for j in jobs} == {'n' + key[4:]: i for key, i in acknowledged.items()}
        assert len(jobs) == KEYS == len(set(acknowledged.values())), jobs


class Dispatch:
    """Jobs wait, a worker is there, a master takes over and dies."""
    name, role = 'dispatch', 'master'

    def play(self, run):
        run.master()
        run.submit('sleep 0.05')
        run.crash('master')
        run.worker()
        if not run.master(point=True):
            run.master()
        run.settle('master', run.master)
        run.replace_master()
        run.check(once=True)
        run.inspect()


class Report:
    """Jobs run and end just while a master takes over and dies."""
    name, role = 'report', 'master'

    def play(self, run):
        run.master()
        run.worker()
        run.submit('while [ ! -e "$GATE" ]; do sleep 0.02; done')
        wait_for(lambda: len(run.read_ledger()[0]) >= 16, '16 jobs to run')  # as many as fit
        run.crash('master')
        if run.at % 2:
            open(run.gate, 'w', encoding='utf-8').close()  # they end before it serves
        if not run.master(point=True):
            run.master()
        open(run.gate, 'w', encoding='utf-8').close()
        run.settle('master', run.master)
        run.replace_master()
        run.check(once=True)
        run.inspect()


class Worker:
    """Jobs wait, a worker takes them and dies."""
    name, role = 'worker', 'worker'

    def play(self, run):
        run.master()
        run.submit('sleep 0.05')
        run.worker(point=True)
        run.settle('worker-1', run.worker)
        run.check(once=True)
        run.inspect()


class Nursery:
    """The same, and the nursery dies, which takes the jobs with it."""
    name, role = 'nursery', '__nursery'

    def play(self, run):
        run.master()
        run.submit('sleep 0.05')
        run.worker(point=True)
        run.settle('worker-1', lambda: run.worker(point=True))
        run.check(once=False)
        run.inspect()


# --- points ---

def play(scenario, at):
    """Runs the scenario around a point. Returns (calls counted, where it died or None, what is wrong or None)."""
    run = Run(scenario, at)
    try:
        scenario.play(run)
        return run.point.calls(), run.point.killed(), None
    except (Exception, pytest.fail.Exception) as error:  # pylint: disable=broad-except
        return run.point.calls(), run.point.killed(), f'{type(error).__name__}: {error}\n{run.log_of("master")}'
    finally:
        run.close()


def numbers(text):
    for part in text.split(','):
        first, _, last = part.partition('-')
        yield from range(int(first), int(last or first) + 1)


def chosen(scenario, calls):
    """The points to kill at, and whether all of them have to be done."""
    if ':' in WHICH:
        name, _, text = WHICH.partition(':')
        return (list(numbers(text)), True) if name == scenario.name else ([], True)
    points = list(range(1, calls + 1))
    random.Random(f'{SEED} {scenario.name}').shuffle(points)
    return (points, True) if WHICH == 'all' else (points[:int(WHICH)], False)


@pytest.mark.parametrize('scenario', [Submit(), Dispatch(), Report(), Worker(), Nursery()], ids=lambda s: s.name)
def test_killed_at_every_call(scenario):
    begun = time.monotonic()
    calls, _, wrong = play(scenario, 0)
    assert not wrong, f'without a kill: {wrong}'
    assert calls > 20, 'the library counts nothing'
    points, whole = chosen(scenario, calls)
    failures, killed, done = [], collections.Counter(), 0

    def one(order, at):
        if not whole and order >= LEAST and time.monotonic() - begun > BUDGET_S:
            return at, None
        return at, play(scenario, at)

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for at, result in pool.map(lambda pair: one(*pair), enumerate(points)):
            if result is None:
                continue
            done += 1
            _, where, wrong = result
            killed[where.split(' ', 1)[1] if where else 'never: it made fewer calls'] += 1
            if wrong:
                failures.append(f'ROTA_KILLPOINT_MODE={MODE} ROTA_KILLPOINTS={scenario.name}:{at} python3 -m pytest -q test/e2e/test_killpoints.py '
                                f'-k {scenario.name}  # killed at {where}: {wrong}')
                print(failures[-1], flush=True)
    print(f'{scenario.name}: {calls} calls, {done} runs in {time.monotonic() - begun:.0f} s, killed {dict(killed)}')
    assert not failures, '\n'.join(failures)
    if points and ':' not in WHICH:
        assert sum(n for how, n in killed.items() if not how.startswith('never')) * 4 >= done, killed
