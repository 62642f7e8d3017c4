"""Whole programs: each test gets a cluster of its own, in a temporary directory, with its own port and profile.

ROTA names the binary (default: build-asan/src/cli/rota). Nothing outside the temporary directory is touched, and only processes
that belong to the test's own state directory are ended, by pid.
"""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ROTA = os.path.abspath(os.environ.get('ROTA', os.path.join(ROOT, 'build-asan/src/cli/rota')))
# Waiting has a limit so that a hanging test ends; it is never what a test measures.
PATIENCE_S = float(os.environ.get('ROTA_TEST_PATIENCE_S', '120'))


# One test that takes longer than this hangs, whatever it waits for.
TEST_MAX_S = int(os.environ.get('ROTA_TEST_MAX_S', '900'))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    def give_up(*_):
        signal.alarm(60)  # and the same for what the fixtures do then
        pytest.fail(f'{item.nodeid} ran longer than {TEST_MAX_S} s')
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(TEST_MAX_S)
    yield
    signal.alarm(0)


def wait_for(condition, what, patience_s=PATIENCE_S, pause_s=0.05):
    """The first true value of condition(); fails when there is none for too long."""
    end = time.monotonic() + patience_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(f'gave up after {patience_s:.0f} s: {what}')
        time.sleep(pause_s)


def processes_with(text, of='cmdline'):
    """pid -> command line (or environment, of='environ') of every live process where that holds the text."""
    found = {}
    for name in os.listdir('/proc'):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f'/proc/{name}/{of}', 'rb') as f:
                line = f.read().replace(b'\0', b' ').decode('utf-8', 'replace')
            with open(f'/proc/{name}/stat', 'rb') as f:
                state = f.read().rsplit(b')', 1)[1].split()[0]
        except OSError:
            continue
        if text in line and state != b'Z':
            found[int(name)] = line
    return found


def send_signal(pid, signo):
    try:
        os.kill(pid, signo)
    except ProcessLookupError:
        pass


class Cluster:
    def __init__(self, directory):
        self.directory = directory
        self.state = os.path.join(directory, 'state')
        self.log_path = os.path.join(directory, 'up.log')
        self.up = None
        self.options = []
        self.environment = {
            key: value for key, value in os.environ.items()
            if key in ('PATH', 'LANG', 'TZ', 'ASAN_OPTIONS', 'UBSAN_OPTIONS', 'LSAN_OPTIONS', 'TSAN_OPTIONS')
        }
        self.environment.update(
            HOME=os.path.join(directory, 'home'), XDG_CONFIG_HOME=os.path.join(directory, 'config'),
            XDG_STATE_HOME=os.path.join(directory, 'state-home'), TMPDIR=directory, NO_COLOR='1')
        os.makedirs(self.environment['HOME'])

    # --- life ---

    def start(self, *options):
        """`rota up` in the foreground, with two workers unless the options say otherwise; returns when it answers."""
        self.options = list(options) or self.options or ['--workers', '2']
        with open(self.log_path, 'ab') as log:
            self.up = subprocess.Popen(
                [ROTA, 'up', '--state', self.state, '--port', '0', *self.options], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, env=self.environment, cwd=self.directory, start_new_session=True)

        def ready():
            if self.up.poll() is not None:
                pytest.fail(f'rota up ended with {self.up.returncode}:\n{self.log()}')
            return self.rota('stats', timeout=30).returncode == 0

        wait_for(ready, 'rota up does not answer')
        return self

    def stop(self):
        """Ends the cluster as a user does; returns the exit code of `rota up`."""
        if self.up is None:
            return None
        if self.up.poll() is None:
            self.up.send_signal(signal.SIGTERM)
        try:
            return self.up.wait(timeout=PATIENCE_S)
        finally:
            self.sweep()
            self.up = None

    def sweep(self):
        """Whatever is left of this cluster, by pid: it alone has this directory in its command line, or, as a job whose nursery was
        killed, in its environment."""
        for _ in range(50):
            left = {**processes_with(self.directory), **processes_with(self.directory, of='environ')}
            if not left:
                return
            for pid in left:
                send_signal(pid, signal.SIGKILL)
            if self.up is not None:
                self.up.poll()
            time.sleep(0.05)

    # --- looking in ---

    def log(self):
        with open(self.log_path, encoding='utf-8', errors='replace') as f:
            return f.read()

    def pids(self, role):
        """The processes of this cluster that run as `rota ROLE`."""
        return sorted(pid for pid, line in processes_with(self.state).items() if f'rota {role} ' in line + ' ')

    def kill(self, role, signo=signal.SIGKILL):
        pids = self.pids(role)
        assert pids, f'no {role} runs'
        for pid in pids:
            send_signal(pid, signo)
        return pids

    # --- the command line ---

    def rota(self, *arguments, timeout=PATIENCE_S, wrapper=(), **more):
        return subprocess.run([*wrapper, ROTA, *map(str, arguments)], env=self.environment, cwd=self.directory, text=True,
                              stdin=more.pop('stdin', subprocess.DEVNULL) if 'input' not in more else None,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, **more)

    def ok(self, *arguments, **more):
        """Standard output of a command that must succeed."""
        result = self.rota(*arguments, **more)
        assert result.returncode == 0, f'rota {arguments}: exit {result.returncode}\n{result.stdout}\n{result.stderr}'
        return result.stdout

    def json(self, *arguments, **more):
        return json.loads(self.ok(*arguments, '--json', **more))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    setattr(item, 'report_' + report.when, report)
    cluster = getattr(item, 'funcargs', {}).get('cluster') or getattr(item, 'funcargs', {}).get('bare_cluster')
    if report.failed and isinstance(cluster, Cluster) and os.path.exists(cluster.log_path):
        report.sections.append(('cluster log', cluster.log()[-20000:]))


def new_cluster():
    assert os.access(ROTA, os.X_OK), f'{ROTA} is not there: build first, or set ROTA'
    return Cluster(tempfile.mkdtemp(prefix='rota-e2e-'))


def remove(cluster):
    cluster.stop()
    cluster.sweep()
    shutil.rmtree(cluster.directory, ignore_errors=True)


@pytest.fixture
def bare_cluster():
    """A cluster that the test starts itself."""
    cluster = new_cluster()
    yield cluster
    remove(cluster)


@pytest.fixture
def cluster():
    """A running cluster of two workers."""
    cluster = new_cluster()
    try:
        cluster.start()
        yield cluster
    finally:
        remove(cluster)


@pytest.fixture(scope='module')
def shared_cluster():
    """One for all tests of a module that leave it as they found it."""
    cluster = new_cluster()
    try:
        cluster.start()
        yield cluster
    finally:
        remove(cluster)
