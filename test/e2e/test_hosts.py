"""Three hosts, as network namespaces: broker and master on one, a worker on each of the others; and the network between them fails.

The times of the design are divided by ten, and so are those of the partitions (ROTA_PARTITIONS_S); ROTA_FAULTS=full takes all of them
as they are.
"""
import os
import shutil
import subprocess
import tempfile
import time

import pytest

from broker import Broker
from conftest import wait_for
from test_amqp import FAST, FULL, World

JOBS = int(os.environ.get('ROTA_HOSTS_JOBS', '500'))
PARTITIONS_S = [float(s) for s in os.environ.get('ROTA_PARTITIONS_S', '30,120,400' if FULL else '12').split(',')]
LOST_AFTER_S = 300 if FULL else 30


def ip(*arguments):
    subprocess.run(['ip', *arguments], check=True)


class Hosts:
    """Namespaces on one bridge, which lies in a namespace of its own: nothing of it is in ours."""

    def __init__(self, count):
        self.switch = f'rota-{os.getpid()}-switch'
        self.names = [f'rota-{os.getpid()}-{i}' for i in range(count)]
        self.made = []
        try:
            self.make(self.switch)
            ip('-n', self.switch, 'link', 'add', 'br0', 'type', 'bridge')
            ip('-n', self.switch, 'link', 'set', 'br0', 'up')
            for i, name in enumerate(self.names):
                self.make(name)
                ip('link', 'add', f'p{i}', 'netns', self.switch, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name)
                ip('-n', self.switch, 'link', 'set', f'p{i}', 'master', 'br0', 'up')
                ip('-n', name, 'addr', 'add', f'10.213.7.{i + 1}/24', 'dev', 'eth0')
                ip('-n', name, 'link', 'set', 'eth0', 'up')
        except BaseException:
            self.remove()
            raise

    def make(self, name):
        ip('netns', 'add', name)
        self.made.append(name)
        ip('-n', name, 'link', 'set', 'lo', 'up')

    def at(self, i):
        return ['ip', 'netns', 'exec', self.names[i]]

    def rule(self, i, chain, *match):
        """Drops what matches on host i."""
        subprocess.run([*self.at(i), 'iptables', '-A', chain, '-i' if chain == 'INPUT' else '-o', 'eth0', *match, '-j', 'DROP'], check=True)

    def heal(self):
        for i in range(len(self.names)):
            subprocess.run([*self.at(i), 'iptables', '-F'], check=True)

    def remove(self):
        for name in self.made:
            subprocess.run(['ip', 'netns', 'del', name], check=False)


@pytest.fixture(scope='module')
def hosts():
    made = Hosts(3)
    yield made
    made.remove()


@pytest.fixture(scope='module')
def broker(hosts):
    directory = tempfile.mkdtemp(prefix='rota-broker-')
    try:
        with Broker(directory, address='10.213.7.1', wrapper=hosts.at(0)) as made:
            yield made.add_users()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def world(hosts, broker):
    quick = '' if FULL else '&heartbeat=3'
    w = World(broker, options=FAST, master=broker.url('master') + quick, worker=broker.url('worker') + quick,
              hosts={'master': hosts.at(0), 'worker-1': hosts.at(1), 'worker-2': hosts.at(2)})
    try:
        w.wait_nodes(2)
        yield w
    finally:
        hosts.heal()
        w.remove()


def test_words_counted_on_three_hosts(world):
    """Map on two hosts, reduce after it, and many short jobs beside."""
    texts = os.path.join(world.directory, 'texts')
    os.makedirs(texts)
    for i in range(1, 9):
        with open(os.path.join(texts, f'{i}.txt'), 'w', encoding='utf-8') as f:
            f.write('the quick brown fox jumps over the lazy dog\n' * i)
    count = world.ok('submit', '--array', '1-8', '--workdir', texts, '--cpus', '1', '--', 'sh', '-c',
                     "tr ' ' '\\n' < $1.txt | sort | uniq -c > $1.count; echo $ROTA_NODE > $1.node; sleep 2", '-', '{}').strip()
    total = world.ok('submit', '--after', count, '--workdir', texts, '--wait', '--', 'sh', '-c',
                     "cat *.count | awk '{ n[$2] += $1 } END { for (w in n) print w, n[w] }' | sort > total").strip()
    assert world.json('show', total)['state'] == 'succeeded'
    with open(os.path.join(texts, 'total'), encoding='utf-8') as f:
        assert dict(line.split() for line in f)['the'] == str(2 * 36)
    assert {open(os.path.join(texts, f'{i}.node'), encoding='utf-8').read().strip() for i in range(1, 9)} == {'worker-1', 'worker-2'}
    world.submit(JOBS)
    done = lambda: world.json('stats')['tasks'].get('succeeded') == JOBS + 9
    wait_for(done, 'not all jobs end', 120 + JOBS / 20)


@pytest.mark.parametrize('chains', [('INPUT', 'OUTPUT'), ('INPUT',), ('OUTPUT',)], ids=['both ways', 'to the worker', 'from the worker'])
@pytest.mark.parametrize('seconds', PARTITIONS_S)
def test_a_worker_cut_off(world, hosts, seconds, chains):
    """The other worker goes on."""
    world.begin_faults(seconds + 4)
    for chain in chains:
        hosts.rule(1, chain)
    time.sleep(seconds)
    hosts.heal()
    back = time.monotonic()
    world.wait_nodes(2)
    nodes_s = time.monotonic() - back
    world.end_faults(f'a worker cut off for {seconds:.0f} s: {" and ".join(chains)}; ready again after {nodes_s:.1f} s', back,
                     undisturbed=seconds < LOST_AFTER_S)


@pytest.mark.parametrize('percent', [10, 20, 30] if FULL else [10, 30])
def test_packets_lost(world, hosts, percent):
    seconds = 60 if FULL else 6
    world.begin_faults(seconds + 4)
    for i in (1, 2):
        hosts.rule(i, 'INPUT', '-m', 'statistic', '--mode', 'random', '--probability', str(percent / 100))
    if percent == 10:
        world.nobody_down(seconds)
    else:
        time.sleep(seconds)
    hosts.heal()
    world.end_faults(f'{percent} % of packets to the workers lost', time.monotonic(), undisturbed=percent == 10)
