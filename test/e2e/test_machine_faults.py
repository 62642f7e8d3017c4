"""What a machine does to a program: full disks, no descriptors left, failing syncs, wrong bytes, a second one of it, stops."""
import collections
import errno
import http.client
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

from conftest import PATIENCE_S, ROTA, processes_with, wait_for
from parts import Parts
from preload import Point

SEED = int(os.environ.get('ROTA_SEED', '1'))
ENDED = ('succeeded', 'failed', 'cancelled', 'expired')
# Short, but a machine that is busy must not be taken for one that is gone.
FAST = ['--heartbeat', '300ms', '--resend', '1s']
SHORT = [*FAST, '--store-reserve', '1M', '--suspect', '1s', '--lease', '2s', '--down', '3s', '--grace-start', '0s']
CORRUPT, UNKNOWN, SECOND, CONFIG = 65, 74, 75, 78


class Site(Parts):
    """A master and workers, with a client of its own."""

    def __init__(self):
        super().__init__(tempfile.mkdtemp(prefix='rota-machine-'))
        self.mounts = []
        self.master_options = [*FAST, '--store-reserve', '1M']
        self.ledger = os.path.join(self.directory, 'ledger')
        self.gate = os.path.join(self.directory, 'gate')
        open(self.ledger, 'w', encoding='utf-8').close()

    def close(self):
        self.stop()
        for place in reversed(self.mounts):
            subprocess.run(['umount', '-l', place], check=False)
        shutil.rmtree(self.directory, ignore_errors=True)

    def mount(self, place, *options):
        """Mounts at the place until the test ends. Without the right to do so there is nothing to test here."""
        os.makedirs(place, exist_ok=True)
        result = subprocess.run(['mount', *options, place], stderr=subprocess.PIPE, text=True, check=False)
        assert result.returncode == 0, f'this test mounts file systems, which only root may: {result.stderr}'
        self.mounts.append(place)

    def master_dir(self):
        return os.path.join(self.state, 'master')

    def token(self):
        with open(os.path.join(self.master_dir(), 'token'), encoding='ascii') as f:
            return f.read().strip()

    def connect(self):
        return http.client.HTTPConnection('127.0.0.1', self.port, timeout=PATIENCE_S)

    def ask(self, method, path, body=None, key=None, connection=None):
        """(status, document); OSError or HTTPException when there was no whole answer."""
        headers = {'Authorization': 'Bearer ' + self.token(), 'Content-Type': 'application/json'}
        if key:
            headers['Idempotency-Key'] = key
        use = connection or self.connect()
        try:
            use.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = use.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            if connection is None:
                use.close()

    def submit(self, *command, key=None, **more):
        return self.ask('POST', '/v1/jobs', {'command': list(command), 'cpus': 0.1, **more}, key)

    def accepted(self, *command, **more):
        status, answer = self.submit(*command, **more)
        assert status == 201, answer
        return answer['id']

    def keeper(self, wait, code=0):
        """A command that notes its start and end."""
        return ('sh', '-c', f'echo "$ROTA_JOB_ID $ROTA_ATTEMPT start" >> {self.ledger}; {wait}; '
                            f'echo "$ROTA_JOB_ID $ROTA_ATTEMPT end" >> {self.ledger}; exit {code}')

    def at_gate(self):
        return f'while [ ! -e {self.gate} ]; do sleep 0.05; done'

    def lines(self, what):
        with open(self.ledger, encoding='utf-8') as f:
            return [tuple(map(int, line.split()[:2])) for line in f if line.split()[2] == what]

    def jobs(self):
        status, answer = self.ask('GET', '/v1/jobs?limit=500')
        assert status == 200, answer
        return {j['id']: j for j in answer['jobs']}

    def wait_ended(self, ids):
        def ended():
            shown = self.jobs()
            return all(shown[i]['state'] in ENDED for i in ids) and shown
        return wait_for(ended, f'{len(ids)} jobs to end', pause_s=0.1)

    def check_store(self):
        if 'master' in self.processes:
            self.crash('master')
        report = self.ok('inspect', self.master_dir())
        for what in ('structure ok', 'checksums ok', 'replay ok', 'views ok'):
            assert what in report, report


@pytest.fixture
def site():
    s = Site()
    yield s
    s.close()


def fill(directory, name='filler'):
    """Writes until there is no room at all."""
    with open(os.path.join(directory, name), 'ab', buffering=0) as f:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    f.write(bytes(size))
            except OSError as error:
                assert error.errno == errno.ENOSPC, error


def copy_of(directory):
    """Another directory with the same files; sockets stay behind."""
    place = tempfile.mkdtemp(prefix='copy-', dir=os.path.dirname(directory))
    for here, _, names in os.walk(directory):
        target = os.path.join(place, os.path.relpath(here, directory))
        os.makedirs(target, exist_ok=True)
        for name in names:
            path = os.path.join(here, name)
            if os.path.isfile(path) and name != 'store.reserve':
                shutil.copy2(path, os.path.join(target, name))
    return place


# --- full disks ---

def test_disk_of_the_store_full(site):
    site.mount(site.master_dir(), '-t', 'tmpfs', '-o', 'size=24m,mode=700', 'tmpfs')
    site.start_master(*FAST, '--store-reserve', '4M')
    site.start_worker(1, '--cpus', '4')
    site.wait_nodes(1)
    running = [site.accepted(*site.keeper(site.at_gate(), code)) for code in (0, 3, 0, 7)]
    waiting = [site.accepted('true', cpus=1000)]
    wait_for(lambda: len(site.lines('start')) == 4, 'four jobs to run')

    fill(site.master_dir())

    def refused():
        status, answer = site.submit('true')
        if status == 201:
            waiting.append(answer['id'])
        return status == 507 and answer
    problem = wait_for(refused, 'submissions to be refused')
    assert problem['remedy'], problem
    refusal = site.rota('submit', '--', 'true')
    assert refusal.returncode != 0 and 'disk' in refusal.stderr and 'free' in refusal.stderr, refusal.stderr

    # What runs ends and is recorded, by the reserve.
    open(site.gate, 'w', encoding='utf-8').close()
    wait_for(lambda: len(site.lines('end')) == 4, 'four jobs to end')

    def recorded():
        answers = [site.ask('GET', f'/v1/jobs/{i}') for i in running]
        return all(status == 200 and job['state'] in ENDED for status, job in answers) and [job for _, job in answers]
    assert [job['exit_code'] for job in wait_for(recorded, 'ends to be recorded on a full disk')] == [0, 3, 0, 7]
    assert site.processes['master'].poll() is None

    # And when the reserve is eaten too, it lives on.
    fill(site.master_dir(), 'more')
    status, _ = site.submit('true')
    assert status == 507
    assert site.processes['master'].poll() is None

    for name in ('filler', 'more'):
        os.unlink(os.path.join(site.master_dir(), name))

    def taken():
        status, answer = site.submit('true')
        return status == 201 and answer['id']
    again = wait_for(taken, 'submissions to be accepted again')
    site.wait_ended([again])
    site.crash('master')
    site.start_master()
    shown = site.wait_ended(running + [again])
    assert set(running + waiting + [again]) <= set(shown)
    assert len(set(site.lines('start'))) == 4 == len(site.lines('start'))
    site.check_store()


@pytest.mark.parametrize('then', ['there is room', 'the master is killed'])
def test_disk_of_the_store_full_without_a_reserve(site, then):
    """No moment of warning. 201 is kept, 507 left nothing behind, 504 is not known: the same key tells, and gives one job."""
    site.mount(site.master_dir(), '-t', 'tmpfs', '-o', 'size=16m,mode=700', 'tmpfs')
    site.start_master(*FAST, '--store-reserve', '0')
    keys = collections.defaultdict(list)  # by status: what was sent
    ids = {}

    def send(i):
        status, answer = site.submit('true', 'x' * 2000, key=f'key-{i}', name=f'n{i}')
        assert status in (201, 504, 507), answer
        assert status == 201 or answer['remedy'], answer
        keys[status].append(i)
        ids[i] = answer.get('id')
        return status
    assert {send(i) for i in range(20)} == {201}
    fill(site.master_dir())
    sent = 20
    while not keys[507]:
        assert sent < 200, keys
        send(sent)
        sent += 1
    assert len(keys[504]) == 1, keys
    unknown = keys[504][0]
    # Still not known, and no second job; while what has no job yet is refused.
    assert send(unknown) == 504 and send(sent) == 507
    assert site.submit('true')[0] == 507
    assert site.ask('GET', '/v1/jobs')[0] == 507

    if then == 'there is room':
        os.unlink(os.path.join(site.master_dir(), 'filler'))
    else:
        site.crash('master')
        os.unlink(os.path.join(site.master_dir(), 'filler'))
        site.start_master()
    status, answer = wait_for(lambda: (lambda s, a: s in (200, 201) and (s, a))(
        *site.submit('true', 'x' * 2000, key=f'key-{unknown}', name=f'n{unknown}')), 'room again')
    assert status == (200 if then == 'there is room' else 201)
    ids[unknown] = answer['id']
    wait_for(lambda: site.submit('true', key='last', name='last')[0] in (200, 201), 'submissions to be accepted')
    names = sorted(job['name'] for job in site.jobs().values())
    assert names == sorted([f'n{i}' for i in {*keys[201], unknown}] + ['last'])
    site.crash('master')
    site.start_master()
    shown = {job['name']: i for i, job in site.jobs().items()}
    assert {i: shown.get(f'n{i}') for i in {*keys[201], unknown}} == {i: ids[i] for i in {*keys[201], unknown}}
    site.check_store()


def test_disk_of_the_worker_full(site):
    place = os.path.join(site.state, 'worker-1')
    site.mount(place, '-t', 'tmpfs', '-o', 'size=64m,mode=700', 'tmpfs')
    site.start_master()
    site.start_worker(1, '--cpus', '4', '--disk-reserve', '2M', '--log-max', '64K')
    site.wait_nodes(1)
    running = [site.accepted(*site.keeper(site.at_gate() + '; echo said', code)) for code in (0, 5)]
    wait_for(lambda: len(site.lines('start')) == 2, 'two jobs to run')
    fill(place)
    wait_for(lambda: 'nearly full' in site.log_of('worker-1') or site.processes['worker-1'].poll() is not None,
             'the worker to notice')
    assert site.processes['worker-1'].poll() is None, site.log_of('worker-1')
    later = [site.accepted(*site.keeper('true')) for _ in range(3)]
    open(site.gate, 'w', encoding='utf-8').close()
    shown = site.wait_ended(running)
    assert [shown[i]['exit_code'] for i in running] == [0, 5]
    assert site.processes['worker-1'].poll() is None, site.log_of('worker-1')
    os.unlink(os.path.join(place, 'filler'))
    shown = site.wait_ended(later)
    assert all(shown[i]['state'] == 'succeeded' for i in later)
    starts = site.lines('start')
    assert len(starts) == len(set(starts)) and {job for job, _ in starts} == set(running + later)


# --- descriptors ---

def cpu_s(pid):
    with open(f'/proc/{pid}/stat', encoding='ascii') as f:
        fields = f.read().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def test_no_descriptors_left(site):
    master = site.start_master(wrapper=['prlimit', '--nofile=64:64'])
    site.start_worker(1, '--cpus', '2')
    site.wait_nodes(1)
    job = site.accepted(*site.keeper(site.at_gate()))
    session = site.connect()
    assert site.ask('GET', '/v1/stats', connection=session)[0] == 200
    idle = []
    try:
        for _ in range(200):
            s = socket.socket()
            s.setblocking(False)
            try:
                s.connect(('127.0.0.1', site.port))
            except BlockingIOError:
                pass
            idle.append(s)
        time.sleep(1)
        before, begun = cpu_s(master.pid), time.monotonic()
        time.sleep(3)
        used = (cpu_s(master.pid) - before) / (time.monotonic() - begun)
        assert used < 0.2, f'{used:.0%} of a CPU with nothing to do'
        # Who is in is served, and so are the workers.
        assert site.ask('GET', '/v1/nodes', connection=session)[0] == 200
        open(site.gate, 'w', encoding='utf-8').close()
        wait_for(lambda: site.ask('GET', f'/v1/jobs/{job}', connection=session)[1]['state'] == 'succeeded', 'the job to end')
    finally:
        for s in idle:
            s.close()
        session.close()
    assert master.poll() is None
    wait_for(lambda: site.rota('ls').returncode == 0, 'the command line to get in again')
    assert site.wait_ended([site.accepted('true')])


def rota_processes(site, role):
    return [pid for pid, line in processes_with(site.state).items() if f'rota {role} ' in line + ' ']


def test_no_descriptors_left_for_a_worker(site):
    """Its starts fail for want of the node: no failure of the job, and all is well when there are some again."""
    site.start_master()
    site.start_worker(1, '--cpus', '2')
    site.wait_nodes(1)
    running = site.accepted(*site.keeper(site.at_gate(), 3))
    wait_for(lambda: site.lines('start'), 'a job to run')
    nurseries = rota_processes(site, '__nursery')
    assert len(nurseries) == 1
    before = {}
    for pid in nurseries:
        most = max(int(name) for name in os.listdir(f'/proc/{pid}/fd')) + 1
        before[pid] = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, before[pid][1]))
    later = [site.accepted(*site.keeper('true')) for _ in range(2)]
    wait_for(lambda: node_state(site, 'worker-1') == 'quarantined', 'the node to be set aside')
    assert {site.jobs()[i]['state'] for i in later} <= {'queued', 'retry_wait'}, site.jobs()
    open(site.gate, 'w', encoding='utf-8').close()
    assert site.wait_ended([running])[running]['exit_code'] == 3
    for pid, limits in before.items():
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    site.ok('resume', 'worker-1')
    shown = site.wait_ended(later)
    assert {(shown[i]['state'], shown[i]['exit_code']) for i in later} == {('succeeded', 0)}
    assert sorted(job for job, _ in site.lines('start')) == sorted([running, *later]), 'a job ran twice'
    assert site.processes['worker-1'].poll() is None


# --- processes ---

def test_fork_that_fails(site):
    """Five failures set the node aside; none of them counts against the job, which has no retries."""
    site.start_master()
    point = Point(os.path.join(site.directory, 'point'), '__nursery', fault=('clone', 1, 5, errno.EAGAIN))
    site.start_worker(1, '--cpus', '1', extra_env=point.environment())
    site.wait_nodes(1)
    job = site.accepted(*site.keeper('true'), cpus=1)
    wait_for(lambda: node_state(site, 'worker-1') == 'quarantined', 'the node to be set aside')
    assert point.faults() == 5
    shown = site.jobs()[job]
    assert shown['state'] in ('queued', 'retry_wait') and shown['attempts'] == 5, shown
    why = site.ok('why', str(job))
    assert 'no node is ready' in why and 'rota nodes' in why, why
    attempts = site.ask('GET', f'/v1/jobs/{job}/attempts')[1]['attempts']
    assert [(a['reason']) for a in attempts] == ['infra'] * 5, attempts
    assert not site.lines('start')
    site.ok('resume', 'worker-1')
    shown = site.wait_ended([job])[job]
    assert (shown['state'], shown['exit_code'], shown['attempts']) == ('succeeded', 0, 6)
    assert site.lines('start') == [(job, 6)]


# --- wrong bytes ---

def made_store(site):
    """A store with jobs of all kinds, and its log: the master was killed."""
    site.start_master()
    site.start_worker(1, '--cpus', '8')
    site.wait_nodes(1)
    ids = [site.accepted('sh', '-c', f'echo out {i}; exit {i % 3}', name=f'n{i}', key=f'key-{i}') for i in range(30)]
    ids.append(site.accepted('true', array='1-50', cpus=0.5))
    site.wait_ended(ids)
    site.accepted('true', cpus=1000)
    for name in ('master', 'worker-1'):
        site.crash(name)
    site.sweep()
    return site.master_dir()


def judge_store(site, directory, what):
    """Whether a master on this directory works or refuses, both as promised; says which. Never a death by signal."""
    reader, writer = os.pipe()
    with open(os.path.join(directory, 'said'), 'wb') as said:
        process = subprocess.Popen(
            [ROTA, 'master', '--state', directory, '--port', '0', '--ready-fd', str(writer), '--store-reserve', '0'],
            stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=site.environment, pass_fds=(writer,), start_new_session=True)
    os.close(writer)
    try:
        with os.fdopen(reader) as ready:
            line = ready.readline().strip()
        if line:
            environment = {**site.environment, 'ROTA_MASTER': line, 'ROTA_TOKEN_FILE': os.path.join(directory, 'token')}
            for verb in (['ls', '--json'], ['show', '3', '--json'], ['show', '31', '--json']):
                result = subprocess.run([ROTA, *verb], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, timeout=PATIENCE_S, check=False)
                assert result.returncode >= 0, f'{what}: rota {verb} died: {result}'
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=PATIENCE_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    with open(os.path.join(directory, 'said'), encoding='utf-8', errors='replace') as f:
        text = f.read()
    assert code >= 0 and 'Sanitizer' not in text and 'runtime error' not in text, f'{what}: exit {code}\n{text[-3000:]}'
    assert code in ((0, CORRUPT) if line else (CORRUPT, CONFIG)), f'{what}: exit {code}\n{text[-3000:]}'
    if code:
        assert re.search(r'restore|move|remove|chmod|backup|use the version', text), f'{what}: no remedy in\n{text[-2000:]}'
    result = subprocess.run([ROTA, 'inspect', directory], env=site.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, timeout=PATIENCE_S, check=False)
    assert result.returncode >= 0 and b'Sanitizer' not in result.stderr, f'{what}: inspect {result}'
    return 'works' if code == 0 else 'refuses'


def flip(path, at, mask):
    with open(path, 'r+b') as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ mask]))


def test_flipped_bytes_in_the_store(site):
    """Few of them, through the whole program; store_sqlite_fault_test flips hundreds."""
    directory = made_store(site)
    rng = random.Random(SEED)
    cases = []
    for name, count in (('store.db', 14), ('store.db-wal', 8), ('store.lock', 2), ('bus.key', 1)):
        size = os.path.getsize(os.path.join(directory, name))
        cases += [(name, rng.randrange(min(size, 100) if i < 4 else size), 1 << rng.randrange(8)) for i in range(count)]
    verdicts = {'works': 0, 'refuses': 0}
    for name, at, mask in cases:
        copy = copy_of(directory)
        flip(os.path.join(copy, name), at, mask)
        verdicts[judge_store(site, copy, f'{name} byte {at} xor {mask}')] += 1
        shutil.rmtree(copy)
    print(verdicts)
    assert verdicts['works'] and verdicts['refuses'], verdicts


def test_cut_files_of_the_store(site):
    directory = made_store(site)
    rng = random.Random(SEED)
    for name in ('store.db', 'store.db-wal', 'store.lock', 'bus.key', 'token'):
        size = os.path.getsize(os.path.join(directory, name))
        for length in sorted({0, size - 1, rng.randrange(size)}):
            copy = copy_of(directory)
            os.truncate(os.path.join(copy, name), length)
            judge_store(site, copy, f'{name} cut to {length} of {size}')
            shutil.rmtree(copy)


def judge_worker(site, directory, what):
    """Whether a worker on this directory starts or refuses; never a death by signal."""
    said = os.path.join(directory, 'said')
    with open(said, 'wb') as out:
        process = subprocess.Popen(
            [ROTA, 'worker', '--state', directory, '--bus', f'unix:{directory}/nobody.sock', '--name', 'w', '--stop-jobs'],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=site.environment, start_new_session=True)

    def text():
        with open(said, encoding='utf-8', errors='replace') as f:
            return f.read()
    try:
        # It serves when it has a nursery.
        wait_for(lambda: process.poll() is not None or os.path.exists(os.path.join(directory, 'nursery.sock')), f'{what}: {text()}')
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=PATIENCE_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    errors = text()
    nursery = os.path.join(directory, 'nursery.err')
    if os.path.exists(nursery):
        with open(nursery, encoding='utf-8', errors='replace') as f:
            errors += f.read()
    assert code in (0, CORRUPT, -signal.SIGTERM) and 'Sanitizer' not in errors and 'runtime error' not in errors, \
        f'{what}: exit {code}\n{errors[-3000:]}'
    assert code != CORRUPT or 'restore the journal' in errors, f'{what}: no remedy in\n{errors}'
    return 'works' if code <= 0 else 'refuses'


def test_wrong_bytes_in_the_journals_of_a_worker(site):
    site.start_master()
    site.start_worker(1, '--cpus', '8')
    site.wait_nodes(1)
    # Unfinished business: the master goes first, so ends stay in the journals.
    jobs = [site.accepted(*site.keeper(site.at_gate(), i % 2)) for i in range(12)]
    wait_for(lambda: len(site.lines('start')) == len(jobs), 'jobs to run')
    site.crash('master')
    open(site.gate, 'w', encoding='utf-8').close()
    wait_for(lambda: len(site.lines('end')) == len(jobs), 'jobs to end')
    time.sleep(0.5)
    site.crash('worker-1')
    site.sweep()
    directory = os.path.join(site.state, 'worker-1')
    rng = random.Random(SEED)
    cases = []
    for name in ('journal', 'nursery.log'):
        with open(os.path.join(directory, name), 'rb') as f:
            used = len(f.read().rstrip(b'\0'))  # room is allocated ahead
        assert used > 100, name
        cases += [(name, 'flip', rng.randrange(min(used, 32) if i < 3 else used)) for i in range(8)]
        cases += [(name, 'cut', at) for at in sorted({0, 1, 31, used // 2, used - 1})]
    verdicts = collections.Counter()
    for name, how, at in cases:
        copy = copy_of(directory)
        for leftover in ('nursery.sock', 'nursery.err', 'nursery.lock'):
            if os.path.exists(os.path.join(copy, leftover)):
                os.unlink(os.path.join(copy, leftover))
        if how == 'flip':
            flip(os.path.join(copy, name), at, 1 << rng.randrange(8))
        else:
            os.truncate(os.path.join(copy, name), at)
        verdicts[name, judge_worker(site, copy, f'{name} {how} {at}')] += 1
        shutil.rmtree(copy)
    print(dict(verdicts))
    # Only a journal that no longer tells whose it is may be refused.
    assert not verdicts['nursery.log', 'refuses'] and verdicts['journal', 'works'] > verdicts['journal', 'refuses'], verdicts


def test_worker_whose_journal_is_gone_invents_nothing(site):
    """It does not know who it is and says so; its jobs are given up and run elsewhere, each attempt once."""
    site.start_master(*SHORT, '--lost-after', '4s')
    site.start_worker(1, '--cpus', '8')
    site.wait_nodes(1)
    jobs = [site.accepted(*site.keeper(site.at_gate(), 3)) for _ in range(4)]
    wait_for(lambda: len(site.lines('start')) == 4, 'jobs to run')
    site.crash('worker-1')
    os.truncate(os.path.join(site.state, 'worker-1', 'journal'), 0)
    assert site.start_worker(1).wait(PATIENCE_S) == CORRUPT
    assert 'restore the journal' in site.log_of('worker-1')
    site.start_worker(2, '--cpus', '8')
    wait_for(lambda: len(site.lines('start')) == 8, 'second attempts')
    open(site.gate, 'w', encoding='utf-8').close()
    shown = site.wait_ended(jobs)
    assert {(shown[i]['state'], shown[i]['exit_code'], shown[i]['attempts']) for i in jobs} == {('failed', 3, 2)}
    starts = site.lines('start')
    assert len(starts) == len(set(starts)), 'an attempt ran twice'
    site.check_store()


# --- a second one ---

def test_second_master_on_the_same_state(site):
    site.start_master()
    places = [site.master_dir(), os.path.join(site.directory, 'link')]
    os.symlink(site.master_dir(), places[1])
    if os.geteuid() == 0:
        places.append(os.path.join(site.directory, 'bound'))
        site.mount(places[2], '--bind', site.master_dir())
    for place in places:
        result = site.rota('master', '--state', place, '--port', '0', timeout=30)
        assert result.returncode == SECOND and 'in use' in result.stderr, (place, result)
    # The database by another name, in another directory.
    other = os.path.join(site.directory, 'other')
    os.makedirs(other)
    os.link(os.path.join(site.master_dir(), 'store.db'), os.path.join(other, 'store.db'))
    result = site.rota('master', '--state', other, '--port', '0', timeout=30)
    assert result.returncode in (SECOND, CORRUPT) and 'store.db' in result.stderr, result
    os.unlink(os.path.join(other, 'store.db'))
    assert site.accepted('true')
    site.check_store()


def test_second_worker_on_the_same_state(site):
    site.start_master()
    site.start_worker(1, '--cpus', '2')
    site.wait_nodes(1)
    link = os.path.join(site.directory, 'link')
    os.symlink(os.path.join(site.state, 'worker-1'), link)
    bus = 'unix:' + os.path.join(site.master_dir(), 'bus.sock')
    for place in (os.path.join(site.state, 'worker-1'), link):
        result = site.rota('worker', '--state', place, '--bus', bus, '--name', 'worker-1', timeout=30)
        assert result.returncode == SECOND, (place, result)
        assert result.stderr.strip(), 'it says nothing'
    site.wait_ended([site.accepted('true')])
    assert site.processes['worker-1'].poll() is None


# --- stops ---

def test_stop_of_the_master_under_running_jobs(site):
    site.start_master()
    site.start_worker(1, '--cpus', '8')
    site.wait_nodes(1)
    jobs = [site.accepted(*site.keeper(site.at_gate(), i % 2)) for i in range(50)]
    wait_for(lambda: len(site.lines('start')) == 50, 'fifty jobs to run')
    begun = time.monotonic()
    assert site.crash('master', signal.SIGTERM) == 0
    took = time.monotonic() - begun
    assert took <= 5, f'it took {took:.1f} s to stop'
    open(site.gate, 'w', encoding='utf-8').close()
    wait_for(lambda: len(site.lines('end')) == 50, 'the jobs to run on')
    site.start_master()
    shown = site.wait_ended(jobs)
    assert [shown[i]['exit_code'] for i in jobs] == [i % 2 for i in range(50)]
    assert {shown[i]['attempts'] for i in jobs} == {1}
    assert len(site.lines('start')) == 50
    site.check_store()


def node_state(site, name):
    return {n['name']: n['state'] for n in site.ask('GET', '/v1/nodes')[1]['nodes']}.get(name)


def test_worker_stopped_and_continued(site):
    """Longer than until it is down, but not until it is given up: nothing is run again."""
    site.start_master(*SHORT, '--lost-after', '10min')
    worker = site.start_worker(1, '--cpus', '8')
    site.wait_nodes(1)
    jobs = [site.accepted(*site.keeper(site.at_gate(), 4)) for _ in range(5)]
    wait_for(lambda: len(site.lines('start')) == 5, 'jobs to run')
    worker.send_signal(signal.SIGSTOP)
    wait_for(lambda: node_state(site, 'worker-1') == 'down', 'the node to be down')
    assert site.ask('GET', '/v1/nodes')[1]['nodes'][0]['used'] is None  # what it told last is not how it is
    assert 'used: not known' in site.ok('nodes', 'worker-1')
    wait_for(lambda: {job['state'] for job in site.jobs().values()} == {'uncertain'}, 'jobs to be uncertain')
    open(site.gate, 'w', encoding='utf-8').close()
    wait_for(lambda: len(site.lines('end')) == 5, 'the jobs to run on under a stopped worker')
    worker.send_signal(signal.SIGCONT)
    shown = site.wait_ended(jobs)
    assert {(shown[i]['state'], shown[i]['exit_code'], shown[i]['attempts']) for i in jobs} == {('failed', 4, 1)}
    assert len(site.lines('start')) == 5
    wait_for(lambda: node_state(site, 'worker-1') == 'ready', 'the node to be ready again')
    wait_for(lambda: site.ask('GET', '/v1/nodes')[1]['nodes'][0]['used'], 'what it uses is known again')


def test_worker_stopped_until_it_is_given_up(site):
    """Others run its jobs; what it says when it comes back does not count."""
    site.start_master(*SHORT, '--lost-after', '4s')
    stopped = site.start_worker(1, '--cpus', '8')
    site.wait_nodes(1)
    # The first attempts fail at the gate, the second ones succeed.
    command = ('sh', '-c', f'echo "$ROTA_JOB_ID $ROTA_ATTEMPT start" >> {site.ledger}; [ $ROTA_ATTEMPT -gt 1 ] && exit 0; '
                           f'{site.at_gate()}; echo "$ROTA_JOB_ID $ROTA_ATTEMPT end" >> {site.ledger}; exit 9')
    jobs = [site.accepted(*command) for _ in range(5)]
    wait_for(lambda: len(site.lines('start')) == 5, 'jobs to run')
    stopped.send_signal(signal.SIGSTOP)
    site.start_worker(2, '--cpus', '8')
    shown = site.wait_ended(jobs)
    assert {(shown[i]['state'], shown[i]['exit_code']) for i in jobs} == {('succeeded', 0)}, shown
    attempts = {i: shown[i]['attempts'] for i in jobs}
    open(site.gate, 'w', encoding='utf-8').close()
    stopped.send_signal(signal.SIGCONT)
    wait_for(lambda: node_state(site, 'worker-1') in ('ready', 'quarantined'), 'the node to come back')
    # Its reports come with it: they were handled when a job sent after them has run there.
    site.ask('POST', '/v1/nodes/worker-1/resume', {})
    site.ask('POST', '/v1/nodes/worker-2/drain', {})
    site.wait_ended([site.accepted('true')])
    shown = site.jobs()
    assert {(shown[i]['state'], shown[i]['exit_code']) for i in jobs} == {('succeeded', 0)}, shown
    assert {i: shown[i]['attempts'] for i in jobs} == attempts
    starts = site.lines('start')
    assert len(starts) == len(set(starts)), 'an attempt ran twice'
    site.check_store()


# --- calls that fail ---

def submit_through_a_fault(site, point, calls=25):
    """Keys sent one by one to a master that may end; returns (its exit code or None, key -> id). Started again without a fault."""
    acknowledged, code = {}, None
    process = site.start_master(ready=False, extra_env=point.environment())
    deadline = time.monotonic() + PATIENCE_S
    for i in range(calls):
        while f'key-{i}' not in acknowledged:
            assert time.monotonic() < deadline, site.log_of('master')
            try:
                status, answer = site.submit('true', key=f'key-{i}', name=f'n{i}')
                assert status in (200, 201, 503, 507), answer  # 503: it is starting
                if status >= 500:
                    time.sleep(0.1)
                    continue
                acknowledged[f'key-{i}'] = answer['id']
            except (OSError, http.client.HTTPException):
                if process.poll() is None:
                    time.sleep(0.02)  # it is not up yet, or about to end
                    continue
                assert code is None, f'it ended twice:\n{site.log_of("master")}'
                code = process.returncode
                process = site.start_master()
    if process.poll() is not None and code is None:
        code = process.returncode
    return code, acknowledged


# Each failing call costs a master; the kill points (test_killpoints.py) see to the calls between.
STEPS = {('fsync', 'EIO'): 1, ('fdatasync', 'EIO'): 5, ('pwrite64', 'EIO'): 23, ('pwrite64', 'ENOSPC'): 31}


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


@pytest.mark.parametrize('call, number', [('fdatasync', 'EIO'), ('fsync', 'EIO'), ('pwrite64', 'EIO'), ('pwrite64', 'ENOSPC')])
def test_calls_of_the_master_that_fail(call, number):
    """Exit 74 because nobody knows, or as if nothing had been; and nothing acknowledged is lost."""
    at, exits, reached = 1, {}, True
    while reached and at < 200:
        site = Site()
        try:
            site.port = free_port()
            point = Point(os.path.join(site.directory, 'point'), 'master', fault=(call, at, 1, getattr(errno, number)))
            code, acknowledged = submit_through_a_fault(site, point)
            reached = point.faults() >= at
            allowed = (None, UNKNOWN) if number == 'EIO' else (None, UNKNOWN, CONFIG)
            what = f'{call} number {at} fails with {number}: exit {code}'
            assert code in allowed + (CONFIG,), f'{what}\n{site.log_of("master")}'
            if code is None and call == 'fdatasync' and reached:
                # The only sync that may fail unnoticed is none.
                pytest.fail(f'{what}: it goes on after a sync that failed\n{site.log_of("master")}')
            site.crash('master')
            site.start_master()
            shown = {'key-' + job['name'][1:]: i for i, job in site.jobs().items()}
            assert shown == acknowledged, f'{what}\n{site.log_of("master")}'
            site.check_store()
            exits[code] = exits.get(code, 0) + 1
        except OSError as error:
            pytest.fail(f'{call} number {at} fails with {number}: {error}\n{site.log_of("master")}')
        finally:
            site.close()
        at += STEPS[call, number]
    print(call, number, exits)
    if number == 'EIO' and call != 'fsync':
        assert exits.get(UNKNOWN), exits


@pytest.mark.parametrize('at', [1, 2, 4, 7])
def test_sync_of_the_worker_that_fails(site, at):
    site.start_master()
    point = Point(os.path.join(site.directory, 'point'), 'worker', fault=('fdatasync', at, 1, errno.EIO))
    worker = site.start_worker(1, '--cpus', '8', extra_env=point.environment())
    jobs, code = [], None

    def ended():
        nonlocal code
        if site.processes['worker-1'].poll() is not None:
            assert code is None, site.log_of('worker-1')
            code = worker.returncode
            site.start_worker(1)
        if len(jobs) < 20:
            jobs.append(site.accepted(*site.keeper('sleep 0.1', len(jobs) % 2)))
            return False
        shown = site.jobs()
        return all(job['state'] in ENDED for job in shown.values()) and shown
    shown = wait_for(ended, 'jobs to end')
    assert code == UNKNOWN, f'exit {code}, {point.faults()} syncs\n{site.log_of("worker-1")}'
    assert [shown[i]['exit_code'] for i in jobs] == [i % 2 for i in range(20)]
    assert sorted(job for job, _ in site.lines('start')) == sorted(jobs), 'a job ran twice'
