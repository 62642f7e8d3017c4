"""`rota sim PODS.csv --nodes NODES.csv`: pods placed on GPUs that are counted one by one; `rota sim --balance`: how evenly nodes are loaded.

Without traces: a workload made here from a seed, `binpack` against `pack` below, which shares nothing with the scheduler, and the
policies against each other. With TRACES=DIR (the openb lists): how much the fragmentation policy allocates on both node lists.
"""
import gzip
import json
import os
import random
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ROTA = os.path.abspath(os.environ.get('ROTA', os.path.join(ROOT, 'build-asan/src/cli/rota')))
TRACES = os.environ.get('TRACES')
PLACES = ['binpack', 'spread', 'dotprod', 'fragmentation', 'random', 'roundrobin']
NODES = 'sn,cpu_milli,memory_mib,gpu,model\n'
PODS = 'name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,creation_time\n'


def sim(pods, nodes, *arguments, code=0):
    done = subprocess.run([ROTA, 'sim', str(pods), '--nodes', str(nodes), *map(str, arguments)], capture_output=True, text=True,
                          timeout=1200)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def results(pods, nodes, *arguments):
    lines = sim(pods, nodes, '--json', *arguments).stdout.splitlines()
    return {r['place']: r for r in map(json.loads, lines)}


def workload(seed):
    """Machines of four kinds, and pods that ask for about all their GPUs in wholes and in parts. CPUs run low before GPUs do."""
    rng = random.Random(seed)
    nodes = [(rng.choice([(96000, 393216, 8, 'A'), (64000, 262144, 4, 'B'), (48000, 196608, 2, 'A'), (32000, 131072, 0, '')]))
             for _ in range(40)]
    gpus = sum(n[2] for n in nodes)
    pods, asked = [], 0
    while asked < gpus:
        count, milli = rng.choice([(1, 1000), (1, 1000), (1, rng.choice([200, 350, 500, 700])), (1, 500), (2, 1000), (8, 1000), (0, 0)])
        if count == 8 and rng.random() < 0.7:
            continue
        model = 'B' if count == 1 and rng.random() < 0.05 else ''
        pods.append((rng.choice([6000, 10000, 12000, 16000]) * max(1, count // 2), rng.choice([4096, 16384, 32768]), count, milli, model))
        asked += count * milli / 1000
    return nodes, pods


@pytest.fixture(scope='module')
def lists(tmp_path_factory):
    where = tmp_path_factory.mktemp('pods')
    nodes, pods = workload(11)
    with open(where / 'nodes.csv', 'w', encoding='utf-8') as f:
        f.write(NODES + ''.join(f'n{i:03},{n[0]},{n[1]},{n[2]},{n[3]}\n' for i, n in enumerate(nodes)))
    lines = [f'p{i:05},{p[0]},{p[1]},{p[2]},{p[3]},{p[4]},{i // 3}\n' for i, p in enumerate(pods)]
    random.Random(1).shuffle(lines)
    with gzip.open(where / 'pods.csv.gz', 'wt', encoding='utf-8') as f:
        f.write(PODS + ''.join(lines))
    return where / 'pods.csv.gz', where / 'nodes.csv', nodes, pods


def pack(nodes, pods):
    """Each pod on the node with the highest dominant share afterwards; parts where least is left. Failed pods, and part of GPUs used."""
    free = [[n[0], n[1], [1000] * n[2]] for n in nodes]
    failed = used = 0
    for cpu, mem, count, milli, model in pods:
        best = None
        for i, (c, m, gpus) in enumerate(free):
            if c < cpu or m < mem or (count and model and nodes[i][3] != model) or sum(g >= milli for g in gpus if count) < count:
                continue
            size = nodes[i]
            share = max((size[0] - c + cpu) / size[0], (size[1] - m + mem) / size[1],
                        (1000 * size[2] - sum(gpus) + count * milli) / (1000 * size[2]) if size[2] else 0)
            if best is None or share > best[0]:
                best = (share, i)
        if not best:
            failed += 1
            continue
        node = free[best[1]]
        node[0] -= cpu
        node[1] -= mem
        for _ in range(count):
            d = min((d for d, g in enumerate(node[2]) if g >= milli), key=lambda d: (node[2][d], d))
            node[2][d] -= milli
        used += count * milli
    return failed, used / sum(1000 * n[2] for n in nodes)


def test_binpack_places_as_a_plain_search_does(lists):
    pods, nodes, *plain = lists
    got = results(pods, nodes, '--place', 'binpack')['binpack']
    failed, used = pack(*plain)
    assert failed > 0
    assert (got['failed'], got['gpu_percent']) == (failed, pytest.approx(100 * used, abs=1e-3))


def test_fragmentation_leaves_less_over(lists):
    got = results(*lists[:2], '--mode', 'inflate', '--seeds', 10)
    assert list(got) == PLACES
    for place in PLACES:
        assert place in ('fragmentation', 'binpack') or got['fragmentation']['gpu_percent'] > got[place]['gpu_percent'], place


def test_inflate_is_drawn_from_the_seed(lists):
    pods, nodes = lists[:2]
    options = ['--mode', 'inflate', '--seeds', 3, '--place', 'fragmentation,random']
    first, again, other = results(pods, nodes, *options), results(pods, nodes, *options), results(pods, nodes, *options, '--seed', 77)
    assert first == again
    assert first != other
    assert first['fragmentation']['gpu_percent'] > first['random']['gpu_percent']
    assert 'fragmentation' in sim(pods, nodes, *options, '--progress', 'plain').stdout


@pytest.mark.parametrize('text, says', [
    ('', 'names the columns'),
    ('name,cpu_milli\n', 'no column memory_mib'),
    (PODS, 'nothing is listed'),
    (PODS + 'a,1,1,99,1,,0\n', 'num_gpu'),
    (PODS + 'a,x,1,1,1,,0\n', 'cpu_milli'),
    (PODS + 'a,1\n', 'memory_mib'),
])
def test_what_is_wrong_is_named(lists, tmp_path, text, says):
    path = tmp_path / 'pods.csv'
    path.write_text(text, encoding='utf-8')
    assert says in sim(path, lists[1], code=2).stderr


def test_an_unknown_policy_is_named(lists):
    assert 'best' in sim(lists[0], lists[1], '--place', 'binpack,best', code=2).stderr


@pytest.mark.parametrize('seed', [1, 2, 3])
def test_spread_is_even_and_binpack_leaves_nodes_empty(seed):
    done = subprocess.run([ROTA, 'sim', '--balance', '--json', '--seed', str(seed)], capture_output=True, text=True, timeout=300, check=True)
    got = {r['place']: r for r in map(json.loads, done.stdout.splitlines())}
    assert list(got) == PLACES
    assert all((r['nodes'], r['jobs']) == (100, 10000) for r in got.values())
    for other in ('random', 'roundrobin'):
        assert got['spread']['share_sd'] < 0.75 * got[other]['share_sd']
        assert got['binpack']['nodes_empty'] > 2 * got[other]['nodes_empty']


@pytest.mark.skipif(not TRACES, reason='needs TRACES=DIR with the openb lists')
@pytest.mark.parametrize('nodes', ['gpu', 'all'])
def test_openb(nodes):
    pods, nodes = f'{TRACES}/openb_pod_list_default.csv.gz', f'{TRACES}/openb_node_list_{nodes}_node.csv.gz'
    arrival = results(pods, nodes, '--place', 'fragmentation')['fragmentation']
    assert arrival['gpu_percent'] >= 93.5 and arrival['failed'] < 165
    inflated = results(pods, nodes, '--place', 'fragmentation', '--mode', 'inflate', '--seeds', 10)['fragmentation']
    assert inflated['gpu_percent'] >= 95.4
