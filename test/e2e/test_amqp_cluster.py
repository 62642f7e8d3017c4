"""Three brokers as one cluster, each on a host of its own (a network namespace), with the master or a worker beside it; the node that all are
connected to is killed, and a node is cut off from the others.

Master and workers name all three in their bus URL, in the same order, so all of them use the same node.
"""
import re
import shutil
import tempfile
import time

import pytest

from broker import Broker
from conftest import wait_for
from test_amqp import FAST, FULL, World
from test_hosts import Hosts

NODES = ['10.213.7.1', '10.213.7.2', '10.213.7.3']


def all_running(node):
    wait_for(lambda: node.eval('length(rabbit_nodes:all_running()).') == '3', 'the nodes are not one cluster')


@pytest.fixture(scope='module')
def hosts():
    made = Hosts(3)
    yield made
    made.remove()


@pytest.fixture(scope='module')
def nodes(hosts):
    """Started at the same time, they find each other."""
    directory = tempfile.mkdtemp(prefix='rota-brokers-')
    made = [Broker(f'{directory}/{i}', address=address, wrapper=hosts.at(i), others=NODES) for i, address in enumerate(NODES)]
    try:
        for node in made:
            node.launch()
        for node in made:
            node.wait()
        all_running(made[0])
        made[0].add_users()
        yield made
    finally:
        for node in made:
            node.stop()
        shutil.rmtree(directory, ignore_errors=True)


def url(nodes, user):
    one = nodes[0].url(user)
    return one.replace(NODES[0] + ':5672', ','.join(NODES)) + '&heartbeat=3'


@pytest.fixture
def world(hosts, nodes):
    w = World(nodes[0], options=FAST, master=url(nodes, 'master'), worker=url(nodes, 'worker'),
              hosts={'master': hosts.at(0), 'worker-1': hosts.at(1), 'worker-2': hosts.at(2)})
    try:
        w.wait_nodes(2)
        yield w
    finally:
        hosts.heal()
        w.remove()


def node_of(w, name):
    """Where it was connected last, by its log."""
    return re.findall(r'connected to the broker, .*broker=([0-9.]+):', w.log_of(name))[-1]


def test_a_node_cut_off_from_the_others(world, nodes, hosts):
    """The smaller part stops serving (pause_minority); who was there goes to the larger one."""
    assert node_of(world, 'master') == NODES[0]
    world.begin_faults(12)
    for other in NODES[1:]:
        for port in ('--dport', '--sport'):
            for number in ('4369', '25672'):
                hosts.rule(0, 'INPUT', '-p', 'tcp', '-s', other, port, number)
                hosts.rule(0, 'OUTPUT', '-p', 'tcp', '-d', other, port, number)
    cut = time.monotonic()
    wait_for(lambda: node_of(world, 'master') != NODES[0], 'the master stays at a node that is alone')
    print(f'the master went after {time.monotonic() - cut:.1f} s, a new job has run after {world.runs_again(cut):.1f} s', flush=True)
    hosts.heal()
    world.end_faults('a node cut off from the others', time.monotonic())
    all_running(nodes[0])


def test_the_node_in_use_is_killed(world, nodes):
    """The one that all use; then (at full length), when it is back, the one where the master went."""
    assert {node_of(world, name) for name in ('master', 'worker-1', 'worker-2')} == {NODES[0]}
    world.begin_faults(25 if FULL else 8)
    for _ in range(2 if FULL else 1):
        victim = NODES.index(node_of(world, 'master'))
        nodes[victim].kill()
        killed = time.monotonic()
        print(f'node {victim + 1} killed: a new job has run after {world.runs_again(killed):.1f} s', flush=True)
        if FULL:
            nodes[victim].start()
            all_running(nodes[victim])
    world.end_faults('the node in use killed', time.monotonic())
