"""Jobs with `overlap: never`: no second attempt while the first may still run, whoever is silent, stopped or dead.

Each attempt writes the time, by the clock of the one machine that all of them run on, every 20 ms into a file of its own: what is
in the files tells whether two ever ran at once. Times are a twentieth of what they are by default.
"""
import glob
import json
import os
import re
import select
import shutil
import signal
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest
from conftest import PATIENCE_S, wait_for
from parts import Parts

LEASE_S, HOLD_S = 3, 3 * 1.01 + 1 + 5  # docs/decisions/0062
SHORT = ['--heartbeat', '200ms', '--suspect', '1s', '--lease', '3s', '--down', '4s', '--lost-after', '5s', '--kill-grace', '1s',
         '--resend', '1s', '--grace-start', '2s']
DIARY = 'while :; do date +%s.%N; sleep 0.02; done >> DIRECTORY/NAME.$ROTA_ATTEMPT'


@pytest.fixture
def parts(tmp_path):
    p = Parts(str(tmp_path))
    p.start_master(*SHORT)
    p.start_worker(1, '--cpus', '4')
    p.wait_nodes(1)
    yield p
    p.stop()


def diary(parts, name, *options):
    script = DIARY.replace('DIRECTORY', parts.directory).replace('NAME', name)
    job = json.loads(parts.ok('submit', '--json', '--name', name, *options, '--', 'sh', '-c', script))['id']
    wait_for(lambda: times(parts, name, 1), f'{name} to run')
    return job


def times(parts, name, attempt):
    path = os.path.join(parts.directory, f'{name}.{attempt}')
    if not os.path.exists(path):
        return []
    with open(path, encoding='utf-8') as f:
        return [float(line) for line in f if line.endswith('\n')]


def never_at_once(parts, name):
    """The spans of all attempts that ran, none of which reaches into the next."""
    numbers = sorted(int(path.rsplit('.', 1)[1]) for path in glob.glob(os.path.join(parts.directory, name + '.*')))
    spans = [(t[0], t[-1]) for t in (times(parts, name, n) for n in numbers) if t]
    assert all(before[1] < after[0] for before, after in zip(spans, spans[1:])), spans
    return spans


def goes_on(parts, name, attempt=1):
    last = times(parts, name, attempt)[-1]
    wait_for(lambda: times(parts, name, attempt)[-1] > last + 0.2, f'{name} to go on')


@pytest.mark.parametrize('signo', [signal.SIGSTOP, signal.SIGKILL], ids=['stopped', 'dead'])
def test_worker_beyond_its_lease(parts, signo):
    alone, other = diary(parts, 'alone', '--overlap', 'never'), diary(parts, 'other')
    assert parts.json('show', str(alone))['overlap_never'] is True
    assert re.search(r'overlap +never', parts.ok('show', str(alone)))
    parts.start_worker(2, '--cpus', '4')
    parts.wait_nodes(2)
    silent = time.time()
    parts.processes['worker-1'].send_signal(signo)
    wait_for(lambda: len(times(parts, 'alone', 2)) > 20, 'the second attempt', 60)
    (_, ended), (again, _) = never_at_once(parts, 'alone')
    assert LEASE_S - 1 < ended - silent < LEASE_S + 5
    assert again - silent > HOLD_S - 1
    # The one that may overlap runs on unseen, beside its successor.
    wait_for(lambda: times(parts, 'other', 2), 'the second attempt of the other')
    goes_on(parts, 'other')
    if signo == signal.SIGSTOP:
        parts.processes['worker-1'].send_signal(signal.SIGCONT)
        parts.wait_nodes(2)
    else:
        parts.processes.pop('worker-1').wait()
        parts.start_worker(1)
        parts.wait_nodes(2)
    goes_on(parts, 'alone', 2)
    assert len(never_at_once(parts, 'alone')) == 2
    for job in (alone, other):
        parts.ok('cancel', str(job))
        wait_for(lambda job=job: parts.json('show', str(job))['state'] == 'cancelled', f'job {job} to end')


def test_worker_back_within_its_lease(parts):
    job = diary(parts, 'alone', '--overlap', 'never')
    for _ in range(3):
        parts.processes['worker-1'].send_signal(signal.SIGSTOP)
        time.sleep(LEASE_S / 2)
        parts.processes['worker-1'].send_signal(signal.SIGCONT)
        time.sleep(0.5)
    parts.crash('worker-1')
    parts.start_worker(1)
    time.sleep(LEASE_S + 1)
    goes_on(parts, 'alone')
    assert len(never_at_once(parts, 'alone')) == 1
    parts.ok('cancel', str(job))


def test_master_away_for_longer_than_the_lease(parts):
    """Nobody can say then whether another attempt was started: the job ends itself, and is tried again when the master is back."""
    job, other = diary(parts, 'alone', '--overlap', 'never'), diary(parts, 'other')
    away = time.time()
    parts.crash('master')
    wait_for(lambda: time.time() - times(parts, 'alone', 1)[-1] > 1, 'the job to be ended', PATIENCE_S)
    assert LEASE_S - 1 < times(parts, 'alone', 1)[-1] - away < LEASE_S + 5
    goes_on(parts, 'other')
    parts.start_master()
    wait_for(lambda: len(times(parts, 'alone', 2)) > 20, 'the second attempt', 60)
    assert len(never_at_once(parts, 'alone')) == 2
    assert re.search(r'1 on worker-1,.*(lease_lost|had not heard of the master)', parts.ok('show', str(job)))
    goes_on(parts, 'other')  # still its first attempt
    assert not times(parts, 'other', 2)
    for number in (job, other):
        parts.ok('cancel', str(number))


class Relay:
    """Between a worker and the master's socket; frozen, it takes everything and passes nothing on."""

    def __init__(self, folder, target):
        os.mkdir(folder)
        shutil.copy(os.path.join(os.path.dirname(target), 'bus.key'), folder)
        self.path, self.target = os.path.join(folder, 'bus.sock'), target
        self.frozen = self.over = False
        self.pairs = {}
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.over:
            ready, _, _ = select.select([self.listener, *([] if self.frozen else self.pairs)], [], [], 0.05)
            for one in ready:
                if one is self.listener:
                    near, far = self.listener.accept()[0], socket.socket(socket.AF_UNIX)
                    far.connect(self.target)
                    self.pairs.update({near: far, far: near})
                elif one in self.pairs:
                    self.move(one)

    def move(self, one):
        try:
            data = one.recv(1 << 16)
            self.pairs[one].sendall(data)
        except OSError:
            data = b''
        if not data:
            other = self.pairs.pop(one)
            self.pairs.pop(other)
            one.close()
            other.close()

    def stop(self):
        self.over = True
        self.thread.join()
        for one in [self.listener, *self.pairs]:
            one.close()


def test_a_silent_bus_and_a_lease_kept_over_http(parts):
    """The worker is cut off from the bus and not from the master's API: what runs there goes on, and nothing new comes."""
    parts.crash('master', signal.SIGTERM)
    parts.start_master(*SHORT, '--advertise', parts.environment['ROTA_MASTER'] + '/')
    parts.wait_nodes(1)
    relay = Relay(os.path.join(parts.directory, 'relay'), os.path.join(parts.state, 'master', 'bus.sock'))
    try:
        parts.buses['worker'] = 'unix:' + relay.path
        parts.start_worker(2, '--cpus', '4')
        parts.wait_nodes(2)
        parts.ok('drain', 'worker-1')
        alone, other = diary(parts, 'alone', '--overlap', 'never'), diary(parts, 'other')
        for job in (alone, other):  # as the master sees it: a diary is written before the report is there
            wait_for(lambda job=job: parts.json('show', str(job))['state'] == 'running', f'job {job} to be reported')
        relay.frozen = True
        wait_for(lambda: parts.json('nodes', 'worker-2')['state'] == 'suspect', 'the silence to be noticed')
        wait_for(lambda: parts.json('nodes', 'worker-2')['lease_renewed_ago_s'] is not None, 'the lease to be renewed')
        time.sleep(2 * HOLD_S)
        node = parts.json('nodes', 'worker-2')
        assert node['state'] == 'suspect' and node['lease_renewed_ago_s'] < 2 * LEASE_S
        assert 'lease: renewed over HTTP' in parts.ok('nodes', 'worker-2')
        for job, name in ((alone, 'alone'), (other, 'other')):
            assert parts.json('show', str(job))['state'] == 'running'
            goes_on(parts, name)
            assert not times(parts, name, 2)
        relay.frozen = False
        wait_for(lambda: parts.json('nodes', 'worker-2')['state'] == 'ready', 'the node to be back')
        assert parts.json('nodes', 'worker-2')['lease_renewed_ago_s'] is None
        goes_on(parts, 'alone')
        for job in (alone, other):
            parts.ok('cancel', str(job))
            wait_for(lambda job=job: parts.json('show', str(job))['state'] == 'cancelled', f'job {job} to end')
        assert len(never_at_once(parts, 'alone')) == 1
    finally:
        relay.stop()


@pytest.mark.parametrize('change,status,word', [
    ({}, 401, 'token'), ({'token': 'f' * 31}, 400, 'token'), ({'worker': 'X' * 32}, 400, 'worker'), ({'epoch': 10 ** 9}, 409, 'epoch'),
    ({'incarnation': 0}, 400, 'incarnation'), ({'more': 1}, 400, 'more')])
def test_a_lease_is_for_who_has_its_token(parts, change, status, word):
    body = {'worker': '0' * 32, 'token': '0' * 32, 'incarnation': 1, 'epoch': 1, **change}
    request = urllib.request.Request(parts.environment['ROTA_MASTER'] + '/v1/lease', json.dumps(body).encode(), {'Content-Type': 'application/json'})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)
    assert refused.value.code == status
    assert json.loads(refused.value.read())['field'] == word


def test_not_with_an_image(parts):
    result = parts.rota('submit', '--overlap', 'never', '--image', 'busybox', '--', 'true')
    assert result.returncode == 2
    assert 'overlap' in result.stderr and 'leave overlap or image out' in result.stderr
