#!/usr/bin/python3
"""A container engine of a test's own: containerd and dockerd on private sockets and directories, no network, no registry.

    with Engine() as engine: engine.address, engine.kill(signal.SIGKILL), engine.start()
    dockerd.py run -- PROGRAM [ARGUMENT...]     runs a program beside one; ROTA_TEST_ENGINE is its address

Everything is started as a child, ended by pid and waited for: a dead dockerd that is not reaped stops the next one. What cannot be started
fails, with the end of the log: there is no test of containers without an engine.
"""
import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time

IMAGE = 'rota-test:latest'
BUSYBOX = '/bin/busybox'
# Of busybox, what the tests call; everything is a link to one static binary.
APPLETS = '''sh sleep cat true false echo kill dd head tail yes id mkdir touch seq nproc ls tr wc sort uniq printf trap
ps setsid nohup env pwd test ln rm cp mv grep sed awk mount ulimit date stat xargs cut find basename dirname paste join tee od cmp nl'''.split()
START_S = 90


class Connection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__('engine', timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def busybox_image():
    """The root file system of the test image, as a tar archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w') as tar:
        def add(name, kind, mode, data=b'', link=''):
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.size, info.linkname = kind, mode, len(data), link
            tar.addfile(info, io.BytesIO(data))

        for folder in ('bin', 'etc', 'usr', 'usr/bin', 'proc', 'sys', 'dev'):
            add(folder, tarfile.DIRTYPE, 0o755)
        add('tmp', tarfile.DIRTYPE, 0o1777)
        with open(BUSYBOX, 'rb') as f:
            add('bin/busybox', tarfile.REGTYPE, 0o755, f.read())
        for applet in APPLETS:
            add('bin/' + applet, tarfile.SYMTYPE, 0o777, link='busybox')
        add('etc/passwd', tarfile.REGTYPE, 0o644, b'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n')
        add('bin/not-executable', tarfile.REGTYPE, 0o644, b'#!/bin/sh\necho no\n')
    return out.getvalue()


class Engine:
    def __init__(self, live_restore=False):
        self.directory = tempfile.mkdtemp(prefix='rota-dd-', dir='/tmp')  # a socket's path is short
        self.socket = os.path.join(self.directory, 'docker.sock')
        self.address = 'unix://' + self.socket
        self.live_restore = live_restore
        self.containerd = self.dockerd = None

    def __enter__(self):
        try:
            self.start()
            self.import_image()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    # --- life ---

    def path(self, name):
        return os.path.join(self.directory, name)

    def spawn(self, name, command):
        if shutil.which(command[0]) is None:
            raise RuntimeError(f'{command[0]} is not installed: run tools/install test')
        with open(self.path(name + '.log'), 'ab') as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def log(self, name='dockerd'):
        try:
            with open(self.path(name + '.log'), encoding='utf-8', errors='replace') as f:
                return f.read()[-4000:]
        except OSError:
            return ''

    def start(self):
        """Starts what does not run, and returns when it answers."""
        if os.geteuid() != 0:
            raise RuntimeError('dockerd needs root: run the tests as root')
        if self.containerd is None:
            self.containerd = self.spawn('containerd', [
                'containerd', '--root', self.path('ctr-root'), '--state', self.path('ctr-state'), '--address', self.path('ctr.sock')])
            self.until(lambda: os.path.exists(self.path('ctr.sock')), 'containerd')
        if self.dockerd is None:
            command = ['dockerd', '--containerd', self.path('ctr.sock'), '--data-root', self.path('data'), '--exec-root', self.path('exec'),
                       '-H', self.address, '--pidfile', self.path('dockerd.pid'), '--bridge', 'none', '--iptables=false']
            if self.live_restore:
                command.append('--live-restore')
            self.dockerd = self.spawn('dockerd', command)
            self.until(self.answers, 'dockerd')
        return self

    def until(self, condition, name):
        end = time.monotonic() + START_S
        process = getattr(self, name)
        while not condition():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f'{name} does not start, exit code {process.poll()}:\n{self.log(name)}')
            time.sleep(0.05)

    def answers(self):
        try:
            return self.call('GET', '/_ping', timeout=5)[0] == 200
        except OSError:
            return False

    def kill(self, signo=signal.SIGKILL, timeout=60):
        """Ends dockerd, and waits for its end; containerd and the containers are what they are then."""
        self.dockerd.send_signal(signo)
        code = self.dockerd.wait(timeout=timeout)
        self.dockerd = None
        return code

    def restart(self):
        self.kill(signal.SIGTERM)
        return self.start()

    def stop(self):
        for name in ('dockerd', 'containerd'):
            process = getattr(self, name)
            if process is None:
                continue
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            setattr(self, name, None)
        self.sweep()

    def sweep(self):
        """Containers that outlived the engine, their mounts and files."""
        for _ in range(50):
            left = [pid for pid in map(int, filter(str.isdigit, os.listdir('/proc'))) if self.owns(pid)]
            if not left:
                break
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.1)
        with open('/proc/self/mountinfo', encoding='utf-8') as f:
            mounts = [line.split()[4] for line in f]
        for mount in reversed(mounts):
            if mount.startswith(self.directory + '/'):
                subprocess.run(['umount', '-l', mount], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(self.directory, ignore_errors=True)

    def owns(self, pid):
        try:
            with open(f'/proc/{pid}/cmdline', 'rb') as f:
                return self.directory.encode() in f.read() and pid != os.getpid()
        except OSError:
            return False

    # --- asking it ---

    def call(self, method, path, body=None, timeout=60, content='application/json'):
        connection = Connection(self.socket, timeout)
        try:
            if body is not None and not isinstance(body, bytes):
                body = json.dumps(body).encode()
            connection.request(method, path, body, {'Content-Type': content})
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def json(self, path):
        status, body = self.call('GET', path)
        assert status == 200, f'{path}: {status} {body[:200]}'
        return json.loads(body)

    def containers(self):
        """Names of all that there are."""
        return sorted(c['Names'][0].lstrip('/') for c in self.json('/v1.41/containers/json?all=1'))

    def import_image(self, name='rota-test', tag='latest'):
        status, body = self.call('POST', f'/v1.41/images/create?fromSrc=-&repo={name}&tag={tag}', busybox_image(), content='application/x-tar')
        assert status == 200 and b'"error"' not in body, f'import of the image: {status} {body[:300]}'


def main():
    if len(sys.argv) < 4 or sys.argv[1:3] != ['run', '--']:
        sys.exit(__doc__)
    for signo in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signo, lambda number, frame: sys.exit(128 + number))
    with Engine() as engine:
        code = subprocess.run(sys.argv[3:], env={**os.environ, 'ROTA_TEST_ENGINE': engine.address, 'ROTA_TEST_IMAGE': IMAGE}, check=False).returncode
        left = engine.containers()
    if left:
        print(f'# containers were left: {left}', file=sys.stderr)
        code = code or 1
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == '__main__':
    main()
