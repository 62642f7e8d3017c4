"""The preload library of test/preload for programs under test: kills at the k-th visible call, calls that fail."""
import errno
import os
import struct
import subprocess
import tempfile

from conftest import ROOT, ROTA

SOURCE = os.path.join(ROOT, 'test/preload/killpoint.c')
MODES = ('any', 'before', 'after', 'half')
_made = None


def library():
    """Beside the binary under test, where ninja puts it; made here when the build was of the binary alone."""
    global _made
    built = os.path.join(os.path.dirname(ROTA), '../../test/preload/libkillpoint.so')
    if os.path.exists(built) and os.path.getmtime(built) >= os.path.getmtime(SOURCE):
        return os.path.abspath(built)
    if _made is None:
        _made = os.path.join(tempfile.mkdtemp(prefix='rota-preload-'), 'libkillpoint.so')
        subprocess.run([os.environ.get('CC', 'cc'), '-std=gnu17', '-D_GNU_SOURCE', '-O1', '-shared', '-fPIC', '-pthread', '-o',
                        _made, SOURCE], check=True)
    return _made


class Point:
    """What one process (of a role, with what it forks) is to suffer, and what it has counted."""

    def __init__(self, path, role, at=0, mode='any', fault=None, delay_ms=0):
        self.path, self.role, self.at, self.mode, self.delay_ms = path, role, at, mode, delay_ms
        self.fault = fault  # (call, at, count, errno); with delay_ms the calls are late instead

    def environment(self):
        env = {'LD_PRELOAD': library(), 'KILLPOINT_ROLE': self.role, 'KILLPOINT_FILE': self.path, 'KILLPOINT_AT': str(self.at)}
        # The runtime of the sanitizers wants to be first; the library asks nothing of it.
        env['ASAN_OPTIONS'] = ':'.join(filter(None, [os.environ.get('ASAN_OPTIONS'), 'verify_asan_link_order=0']))
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
