"""A master and workers as single processes that a test starts, kills and starts again."""
import json
import os
import re
import select
import signal
import subprocess
import time

from conftest import PATIENCE_S, ROTA, Cluster, wait_for


class Parts(Cluster):
    """Like Cluster, but without `rota up`: nobody starts again what the test kills."""

    def __init__(self, directory):
        super().__init__(directory)
        self.processes = {}
        self.master_options = []
        self.worker_options = {}
        self.buses = {}  # 'master', 'worker': URL; by default the master's socket
        self.port = 0
        self.environment['ROTA_TOKEN_FILE'] = os.path.join(self.state, 'master', 'token')
        os.makedirs(self.state)

    def spawn(self, name, *arguments, pass_fds=(), extra_env=None, wrapper=()):
        with open(os.path.join(self.directory, name + '.log'), 'ab') as log:
            self.processes[name] = subprocess.Popen(
                [*wrapper, ROTA, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**self.environment, **(extra_env or {})}, cwd=self.directory, pass_fds=pass_fds, start_new_session=True)
        return self.processes[name]

    def start_master(self, *options, ready=True, extra_env=None, wrapper=()):
        if options:
            self.master_options = list(options)
        read_end, write_end = os.pipe()
        process = self.spawn('master', 'master', '--state', os.path.join(self.state, 'master'), '--port', str(self.port),
                             '--ready-fd', str(write_end), *(['--bus', self.buses['master']] if self.buses else []),
                             *self.master_options, pass_fds=(write_end,), extra_env=extra_env,
                             wrapper=wrapper)
        os.close(write_end)
        try:
            if ready:
                assert select.select([read_end], [], [], PATIENCE_S)[0], 'the master does not get ready'
                line = os.read(read_end, 200).decode()
                assert line.startswith('http'), f'the master ended: {process.poll()}\n{self.log_of("master")}'
                self.environment['ROTA_MASTER'] = line.strip()
                self.port = int(re.search(r':(\d+)', line.split('//')[1]).group(1))
        finally:
            os.close(read_end)
        return process

    def start_worker(self, number=1, *options, extra_env=None, wrapper=()):
        name = f'worker-{number}'
        if options:
            self.worker_options[number] = list(options)
        bus = self.buses.get('worker') or 'unix:' + os.path.join(self.state, 'master', 'bus.sock')
        return self.spawn(name, 'worker', '--state', os.path.join(self.state, name), '--bus', bus, '--name', name,
                          *self.worker_options.get(number, []), extra_env=extra_env, wrapper=wrapper)

    def crash(self, name, signo=signal.SIGKILL):
        process = self.processes.pop(name)
        process.send_signal(signo)
        return process.wait(timeout=PATIENCE_S)

    def log_of(self, name):
        with open(os.path.join(self.directory, name + '.log'), encoding='utf-8', errors='replace') as f:
            return f.read()[-6000:]

    def stop(self):
        for name in sorted(self.processes, reverse=True):  # workers first
            process = self.processes[name]
            if process.poll() is None:
                process.kill()
            process.wait(timeout=PATIENCE_S)
        self.processes = {}
        self.sweep()

    def submit_many(self, jobs):
        """Submits job objects as NDJSON; returns their ids."""
        lines = ''.join(json.dumps(job) + '\n' for job in jobs)
        answer = json.loads(self.ok('submit', '-f', '-', '--json', input=lines))
        return list(range(answer['first'], answer['last'] + 1)) if 'first' in answer else answer['ids']

    def wait_nodes(self, count, state='ready', patience_s=PATIENCE_S):
        wait_for(lambda: sum(n['state'] == state for n in self.json('nodes')['nodes']) >= count, f'{count} nodes {state}', patience_s,
                 pause_s=0.05 if count < 100 else 1)


def pause(seconds):
    time.sleep(seconds)
