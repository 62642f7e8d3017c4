#!/usr/bin/python3
"""A real RabbitMQ of a test's own: its own ports, epmd, directories and cookie; loopback only; ended by pid.

In pytest: `with Broker(directory) as broker: ... broker.url('master')`. For other programs:

    broker.py run DIRECTORY     starts one, prints `PORT CTL-PREFIX-FILE`, and ends it when standard input ends

The users are those of deploy/rabbitmq, `master`, `worker` and `client`, each with its name as password, `guest`, and `peer` with
no rights at all.
"""
import glob
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time

START_S = 120


def free_port(address='127.0.0.1'):
    """Below the range that outgoing connections are given: what is free now stays so until the broker listens there."""
    for _ in range(1000):
        port = random.randrange(15000, 32000)
        with socket.socket() as s:
            try:
                s.bind((address, port))
                return port
            except OSError:
                continue
    raise RuntimeError('no port is free')


def server_home():
    homes = sorted(glob.glob('/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin'))
    if not homes:
        raise RuntimeError('there is no RabbitMQ: apt-get install rabbitmq-server')
    return homes[-1]


def rights_of_roles():
    """role -> configure, write, read: what deploy/rabbitmq gives it."""
    path = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), 'deploy/rabbitmq/definitions.json')
    with open(path, encoding='utf-8') as f:
        return {p['user'].removeprefix('rota-'): (p['configure'], p['write'], p['read']) for p in json.load(f)['permissions']}


RIGHTS = rights_of_roles()
ANSWERS = '''import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5) as s:
    s.sendall(b"AMQP\\0\\0\\x09\\x01")
    sys.exit(s.recv(1) != b"\\x01")'''


class Broker:
    """`others`: the addresses of a cluster's nodes, this one's among them, each a host of its own (`wrapper`)."""

    def __init__(self, directory, address='127.0.0.1', port=0, name='rota', settings='', wrapper=(), tls=None, others=()):
        self.directory = os.path.abspath(directory)
        self.address, self.wrapper, self.settings, self.tls = address, list(wrapper), settings, tls
        self.port = port or (5672 if self.wrapper else free_port())
        self.tls_port = free_port() if tls else 0
        self.epmd_port = free_port()
        self.node = f'{name}@localhost'
        self.process = self.epmd = None
        os.makedirs(self.directory, exist_ok=True)
        self.environment = {
            'PATH': os.environ.get('PATH', '/usr/sbin:/usr/bin:/sbin:/bin'), 'HOME': self.directory, 'LANG': 'C.UTF-8',
            'RABBITMQ_NODENAME': self.node, 'RABBITMQ_MNESIA_BASE': os.path.join(self.directory, 'data'),
            'RABBITMQ_LOG_BASE': os.path.join(self.directory, 'log'), 'RABBITMQ_CONFIG_FILE': os.path.join(self.directory, 'rabbitmq.conf'),
            'RABBITMQ_ENABLED_PLUGINS_FILE': os.path.join(self.directory, 'plugins'), 'RABBITMQ_CONF_ENV_FILE': '/dev/null',
            'RABBITMQ_DIST_PORT': str(free_port()), 'ERL_EPMD_PORT': str(self.epmd_port), 'ERL_EPMD_ADDRESS': '127.0.0.1',
            'RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS': '-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none',
            'RABBITMQ_CTL_ERL_ARGS': '-kernel inet_dist_use_interface {127,0,0,1}', 'ERL_CRASH_DUMP_SECONDS': '0',
        }
        if others:
            self.join(name, others)

    def join(self, name, others):
        """One cookie, one port of epmd and one of the nodes' own traffic on all hosts; who is silent for 8 s is away."""
        self.node, self.epmd_port = f'{name}@{self.address}', 4369
        nodes = ''.join(f'cluster_formation.classic_config.nodes.{i} = {name}@{other}\n' for i, other in enumerate(others, 1))
        self.settings += ('cluster_formation.peer_discovery_backend = classic_config\ncluster_partition_handling = pause_minority\n'
                          + nodes)
        self.environment.update({
            'RABBITMQ_NODENAME': self.node, 'RABBITMQ_USE_LONGNAME': 'true', 'RABBITMQ_DIST_PORT': '25672', 'ERL_EPMD_PORT': '4369',
            'ERL_EPMD_ADDRESS': self.address, 'RABBITMQ_CTL_ERL_ARGS': '',
            'RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS': '-kernel net_ticktime 8 +S 1:1 +sbwt none'})
        cookie = os.path.join(self.directory, '.erlang.cookie')
        with open(os.open(cookie, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o400), 'w', encoding='ascii') as f:
            f.write('a cookie of the tests'.replace(' ', '').upper())

    def write_settings(self):
        lines = [f'listeners.tcp.1 = {self.address}:{self.port}', 'loopback_users = none', 'disk_free_limit.absolute = 64MB',
                 'log.console = false', 'vm_memory_high_watermark.relative = 0.4']
        if self.tls:
            lines += [f'listeners.ssl.1 = {self.address}:{self.tls_port}', f"ssl_options.cacertfile = {self.tls['ca']}",
                      f"ssl_options.certfile = {self.tls['cert']}", f"ssl_options.keyfile = {self.tls['key']}",
                      'ssl_options.verify = verify_none', 'ssl_options.fail_if_no_peer_cert = false']
        with open(self.environment['RABBITMQ_CONFIG_FILE'], 'w', encoding='utf-8') as f:
            f.write('\n'.join(lines) + '\n' + self.settings)
        with open(self.environment['RABBITMQ_ENABLED_PLUGINS_FILE'], 'w', encoding='utf-8') as f:
            f.write('[].\n')

    def launch(self):
        """Starts the processes; returns at once."""
        self.write_settings()
        if (self.epmd is None or self.epmd.poll() is not None):
            self.epmd = subprocess.Popen([*self.wrapper, 'epmd', '-port', str(self.epmd_port), '-address', self.environment['ERL_EPMD_ADDRESS']],
                                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                         start_new_session=True)
        with open(os.path.join(self.directory, 'server.log'), 'ab') as log:
            self.process = subprocess.Popen([*self.wrapper, os.path.join(server_home(), 'rabbitmq-server')], env=self.environment,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory,
                                            start_new_session=True)
        return self

    def start(self):
        for tries_left in (2, 1, 0):
            self.launch()
            try:
                self.wait()
                return self
            except RuntimeError as error:  # another test's broker may have been quicker
                if 'could not bind to distribution port' not in str(error) or not tries_left:
                    raise
                self.kill()
                self.environment['RABBITMQ_DIST_PORT'] = str(free_port())

    def wait(self):
        end = time.monotonic() + START_S
        pidfile = os.path.join(self.directory, 'data', self.node + '.pid')
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f'RabbitMQ ended with {self.process.returncode}:\n{self.log()}')
            if os.path.exists(pidfile) and self.answers():
                return
            if time.monotonic() > end:
                raise RuntimeError(f'RabbitMQ does not start:\n{self.log()}')
            time.sleep(0.1)

    def answers(self):
        """Whether it speaks AMQP: the first frame of a greeting comes."""
        if self.wrapper:  # in a network namespace that is not ours
            return subprocess.run([*self.wrapper, '/usr/bin/python3', '-c', ANSWERS, self.address, str(self.port)], check=False,
                                  stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
        try:
            with self.connect() as s:
                s.sendall(b'AMQP\0\0\x09\x01')
                return s.recv(1) == b'\x01'
        except OSError:
            return False

    def connect(self):
        return socket.create_connection((self.address, self.port), timeout=5)

    def log(self):
        text = ''
        for path in [os.path.join(self.directory, 'server.log'), *glob.glob(os.path.join(self.directory, 'log', '*.log'))]:
            with open(path, encoding='utf-8', errors='replace') as f:
                text += f.read()[-6000:]
        return text

    def eval(self, expression, patience_s=60):
        """Evaluates Erlang in the broker: much faster than rabbitmqctl, which starts a machine of its own. Returns its text."""
        return self.ctl('eval', expression, patience_s=patience_s)

    def ctl_path(self):
        return os.path.join(server_home(), 'rabbitmqctl')

    def ctl(self, *arguments, patience_s=60):
        result = subprocess.run([*self.wrapper, self.ctl_path(), '-q', *arguments], env=self.environment,
                                text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                timeout=patience_s, check=False)
        if result.returncode:
            raise RuntimeError(f'rabbitmqctl {arguments}: exit {result.returncode}\n{result.stdout}')
        return result.stdout.strip()

    def add_users(self):
        """All users and rights in one call."""
        words = []
        for user in (*RIGHTS, 'peer'):
            words.append(f'rabbit_auth_backend_internal:add_user(<<"{user}">>, <<"{user}">>, <<"test">>)')
        for user, rights in RIGHTS.items():
            words.append(f'rabbit_auth_backend_internal:set_permissions(<<"{user}">>, <<"/">>, '
                         + ', '.join('<<"' + right.replace('\\', '\\\\') + '">>' for right in rights) + ', <<"test">>)')
        self.eval(', '.join(words) + '.')
        for user in (*RIGHTS, 'peer'):
            self.password_file(user, user)
        return self

    def password_file(self, user, password):
        path = os.path.join(self.directory, user + '.password')
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 'w', encoding='utf-8') as f:
            f.write(password + '\n')
        return path

    def url(self, user='', host='', tls=False):
        who, what = (f'{user}@', f"?password_file={os.path.join(self.directory, user + '.password')}") if user else ('', '')
        return f"{'amqps' if tls else 'amqp'}://{who}{host or self.address}:{self.tls_port if tls else self.port}{what}"

    # --- ends and faults ---

    def beam(self):
        """The pid of the Erlang machine: the start script execs it, or is its parent."""
        pidfile = os.path.join(self.directory, 'data', self.node + '.pid')
        try:
            with open(pidfile, encoding='utf-8') as f:
                return int(f.read())
        except (OSError, ValueError):
            return None

    def members(self):
        """Every process of the server's session, by /proc."""
        found = []
        for name in os.listdir('/proc'):
            if name.isdigit() and self.process:
                try:
                    with open(f'/proc/{name}/stat', encoding='utf-8', errors='replace') as f:
                        fields = f.read().rsplit(')', 1)[1].split()
                except OSError:
                    continue
                if int(fields[3]) == self.process.pid:
                    found.append(int(name))
        return found

    def signal(self, signo):
        for pid in self.members():
            try:
                os.kill(pid, signo)
            except ProcessLookupError:
                pass

    def kill(self):
        """As if the power went: nothing is flushed."""
        if self.process is None:
            return
        self.signal(signal.SIGKILL)
        self.process.wait(timeout=30)
        self.process = None

    def stop(self):
        self.kill()
        if self.epmd is not None:
            self.epmd.kill()
            self.epmd.wait(timeout=30)
            self.epmd = None

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_):
        self.stop()


def main():
    if len(sys.argv) != 3 or sys.argv[1] != 'run':
        sys.exit(__doc__)
    directory = sys.argv[2]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with Broker(directory) as broker:
            broker.add_users()
            print(broker.port, flush=True)
            sys.stdin.read()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == '__main__':
    main()
