"""The preload libraries of test/preload for programs under test: kills at the k-th visible call, calls that fail; another wall clock."""
import errno
import os
import struct
import subprocess
import tempfile
import time

from conftest import ROOT, ROTA

MODES = ('any', 'before', 'after', 'half')
_made = {}


def library(name='killpoint'):
    """Beside the binary under test, where ninja puts it; made here when the build was of the binary alone."""
    source = os.path.join(ROOT, f'test/preload/{name}.c')
    built = os.path.join(os.path.dirname(ROTA), f'../../test/preload/lib{name}.so')
    if os.path.exists(built) and os.path.getmtime(built) >= os.path.getmtime(source):
        return os.path.abspath(built)
    if name not in _made:
        _made[name] = os.path.join(tempfile.mkdtemp(prefix='rota-preload-'), f'lib{name}.so')
        subprocess.run([*os.environ.get('CC', 'cc').split(), '-std=gnu17', '-D_GNU_SOURCE', '-O1', '-shared', '-fPIC', '-pthread', '-o',
                        _made[name], source], check=True)
    return _made[name]


# The runtime of the sanitizers wants to be first; the libraries ask nothing of it.
def preloaded(name):
    return {'LD_PRELOAD': library(name), 'ASAN_OPTIONS': ':'.join(filter(None, [os.environ.get('ASAN_OPTIONS'), 'verify_asan_link_order=0']))}


class WallClock:
    """The wall clock of processes that are started with its environment."""

    def __init__(self, path):
        self.path = path
        self.ahead_ms = 0
        self.move(0)

    def environment(self):
        return {**preloaded('wallclock'), 'WALLCLOCK_FILE': self.path}

    def move(self, seconds):
        self.ahead_ms += round(seconds * 1000)
        with open(self.path, 'r+b' if os.path.exists(self.path) else 'wb') as f:
            f.write(struct.pack('=q', self.ahead_ms))

    def now(self):
        return time.time() + self.ahead_ms / 1000

    def move_to(self, when):
        """Unix time."""
        self.move(when - self.now())


class Point:
    """What one process (of a role, with what it forks) is to suffer, and what it has counted."""

    def __init__(self, path, role, at=0, mode='any', fault=None, delay_ms=0):
        self.path, self.role, self.at, self.mode, self.delay_ms = path, role, at, mode, delay_ms
        self.fault = fault  # (call, at, count, errno); with delay_ms the calls are late instead

    def environment(self):
        env = {**preloaded('killpoint'), 'KILLPOINT_ROLE': self.role, 'KILLPOINT_FILE': self.path, 'KILLPOINT_AT': str(self.at)}
        if self.mode != 'any':
            env['KILLPOINT_MODE'] = self.mode
        if self.fault:
            call, at, count, number = self.fault
            env.update(FAULT_CALL=call, FAULT_AT=str(at), FAULT_COUNT=str(count), FAULT_ERRNO=str(number or errno.EIO),
                       FAULT_DELAY_MS=str(self.delay_ms))
        return env

    def _read(self):
        try:
            with open(self.path, 'rb') as f:
                data = f.read()
        except FileNotFoundError:
            data = b''
        return struct.unpack('=QQQ32s16s', data.ljust(72, b'\0')[:72])

    def calls(self):
        return self._read()[0]

    def faults(self):
        return self._read()[1]

    def killed(self):
        """'k CALL before|after|half', or None."""
        _, _, at, name, how = self._read()
        return f'{at} {how.rstrip(bytes(1)).decode()} {name.rstrip(bytes(1)).decode()}' if at else None
