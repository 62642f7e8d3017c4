"""What jobs use is sampled while they run, kept when they have ended, and shown."""
import json
import signal

import pytest

from conftest import wait_for
from parts import Parts

MIB = 1 << 20

# Takes 120 MiB, one CPU and a second process for as long as the file is not there, and writes 4 MiB to a disk.
BUSY = r'''
import os, sys, time
held = bytearray(120 << 20)
for i in range(0, len(held), 4096): held[i] = 1
with open(sys.argv[1] + '.written', 'wb') as f:
    f.write(b'x' * (4 << 20))
    f.flush()
    os.fsync(f.fileno())
os.system('sleep 60 &')
while not os.path.exists(sys.argv[1]):
    for i in range(100000): pass
os.system('pkill -P %d sleep' % os.getpid())
'''


@pytest.fixture
def parts(tmp_path):
    cluster = Parts(str(tmp_path / 'cluster'))
    cluster.start_master()
    cluster.start_worker(1, '--cpus', '4')
    cluster.wait_nodes(1)
    yield cluster
    cluster.stop()


def usage(cluster, job):
    import json
    import urllib.request
    token = open(cluster.environment['ROTA_TOKEN_FILE'], encoding='ascii').read().strip()
    request = urllib.request.Request(f'http://127.0.0.1:{cluster.port}/v1/jobs/{job}/usage', headers={'Authorization': 'Bearer ' + token})
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.load(reply)


def check_points(points):
    for before, after in zip(points, points[1:]):
        assert after['at_s'] > before['at_s']
        for counter in ('cpu_s', 'read_bytes', 'written_bytes'):
            assert after[counter] >= before[counter], (counter, points)
    for point in points:
        assert point['mem_max_bytes'] >= point['mem_bytes']


def test_samples_of_a_running_job_survive_everybody(parts, tmp_path):
    done = str(tmp_path / 'done')
    job = int(parts.ok('submit', '--mem', '1G', '--', '/usr/bin/python3', '-c', BUSY, done))
    live = wait_for(lambda: (lambda u: u if u['now'] and len(u['samples']['points']) >= 3 else None)(usage(parts, job)), 'samples')
    assert live['now']['attempts'] == 1
    assert 120 * MIB <= live['now']['mem_bytes'] < 400 * MIB
    assert live['now']['processes'] >= 2
    assert live['samples']['attempt'] == 1
    points = live['samples']['points']
    check_points(points)
    assert points[0]['at_s'] >= 1, 'nothing is sampled in the first second'
    assert points[-1]['cpu_s'] > 0.5
    assert points[-1]['written_bytes'] >= 4 * MIB or points[-1]['written_bytes'] == 0  # 0: the file system has no disk
    shown = parts.ok('show', str(job))
    assert ' of 1G memory' in shown and 'processes now' in shown, shown

    parts.crash('worker-1')  # the master keeps what it was told
    parts.start_worker(1)
    begun = len(points)
    wait_for(lambda: len(usage(parts, job)['samples']['points']) > begun + 1, 'samples by the next worker')
    assert usage(parts, job)['samples']['points'][0] == points[0]
    parts.crash('master')  # the worker tells the next one what it has
    parts.start_master()
    again = wait_for(lambda: (lambda u: u if u['now'] else None)(usage(parts, job)), 'samples at the next master')
    check_points(again['samples']['points'])
    assert len(again['samples']['points']) >= 2

    open(done, 'w', encoding='ascii').close()
    parts.ok('wait', str(job))
    kept = usage(parts, job)
    assert kept['now'] is None and kept['rss_max_bytes'] >= 120 * MIB
    assert kept['cpu_s'] >= kept['samples']['points'][-1]['cpu_s'] - 0.01
    check_points(kept['samples']['points'])
    for options in ((), ('--snapshot-records', '1')):  # from the journal, and from a snapshot
        parts.crash('master', signal.SIGTERM)
        parts.start_master(*options)
        assert usage(parts, job)['samples'] == kept['samples']


HOLDS = 'import sys; held = bytearray(int(sys.argv[1]) << 20)\nfor i in range(0, len(held), 4096): held[i] = 1'


def holds(cluster, name, mib, *options):
    job = int(cluster.ok('submit', '--name', name, *options, '--', '/usr/bin/python3', '-c', HOLDS, str(mib)))
    cluster.rota('wait', str(job))
    return cluster.json('show', job)


def test_what_would_suit_jobs_of_a_name(parts):
    """Three runs tell what to ask for: of those that had too little, more than they asked; and a restart forgets nothing of it."""
    sizes = (40, 120, 30)
    shown = [holds(parts, 'sized', mib, '--mem', '1G') for mib in sizes]
    assert [job['state'] for job in shown] == ['succeeded'] * 3
    assert shown[0]['suggestion'] is None and shown[1]['suggestion'] is None
    suggestion = wait_for(lambda: parts.json('show', shown[0]['id'])['suggestion'], 'a suggestion')
    assert (suggestion['runs'], suggestion['ooms']) == (3, 0)
    assert suggestion['mem_max_bytes'] >= 120 * MIB
    assert 1.15 * suggestion['mem_max_bytes'] - 1 <= suggestion['mem_bytes'] <= 1.15 * suggestion['mem_max_bytes'] + 64 * MIB
    text = parts.ok('show', str(shown[2]['id']))
    assert f'--mem {suggestion["mem_bytes"] // MIB}M (asked 1G, used at most ' in text and 'would do, by 3 runs of this name' in text, text
    suits = holds(parts, 'sized', 1, '--mem', str(suggestion['mem_bytes']))
    assert '--mem' not in parts.ok('show', str(suits['id'])), 'it asked for just that'

    poor = [holds(parts, 'poor', 200, '--mem', '64M') for _ in range(3)]
    if poor[0]['reason'] == 'oom':  # where limits are enforced so that it can be told
        wanted = wait_for(lambda: parts.json('show', poor[0]['id'])['suggestion'], 'a suggestion')
        assert wanted['ooms'] == 3 and wanted['mem_bytes'] >= 96 * MIB
        assert '3 of them had too little memory' in parts.ok('show', str(poor[0]['id']))

    array = int(parts.ok('submit', '--name', 'wide', '--array', '1-3', '--', 'true'))
    parts.ok('wait', str(array))
    assert wait_for(lambda: parts.json('show', array)['suggestion'], 'each task is a run')['runs'] == 3
    before = parts.json('show', shown[0]['id'])['suggestion']
    for options in ((), ('--snapshot-records', '1')):
        parts.crash('master')
        parts.start_master(*options)
        assert parts.json('show', shown[0]['id'])['suggestion'] == before


def test_memory_is_raised_step_by_step(parts):
    """What runs out of memory is tried again with twice as much, which is no retry; the master may die meanwhile. Up to what was allowed."""
    if parts.json('show', holds(parts, 'probe', 200, '--mem', '64M')['id'])['reason'] != 'oom':
        pytest.skip('this machine holds nobody to a limit of memory in a way that could be told')
    job = holds(parts, 'grows', 200, '--mem', '64M', '--mem-max', '1G')
    assert (job['state'], job['attempts'], job['mem_bytes'], job['mem_max_bytes']) == ('succeeded', 3, 256 * MIB, 1024 * MIB)
    grown = [event['mem_bytes'] // MIB for event in (json.loads(line) for line in parts.ok('events', '--since', '0', '--json').splitlines()) if event['event'] == 'job.grown']
    assert grown == [128, 256]
    text = parts.ok('show', str(job['id']))
    assert '256M memory' in text and 'up to 1G' in text, text
    parts.crash('master')
    parts.start_master('--snapshot-records', '1')
    assert parts.json('show', job['id'])['mem_bytes'] == 256 * MIB
    poor = holds(parts, 'poor too', 400, '--mem', '64M', '--mem-max', '128M')
    assert (poor['state'], poor['reason'], poor['attempts'], poor['mem_bytes']) == ('failed', 'oom', 2, 128 * MIB)
    for options, why in ((('--mem-max', '1G'), 'nothing to raise'), (('--mem', '2G', '--mem-max', '1G'), 'nothing to raise'),
                         (('--mem', '1G', '--mem-max', '2G', '--array', '1-2'), 'ask for the same')):
        refused = parts.rota('submit', *options, '--', 'true')
        assert refused.returncode == 2 and 'mem_max' in refused.stderr and why in refused.stderr, refused


def test_memory_that_is_taken_from_earlier_runs(parts):
    """What was taken is said, enforced, kept with the job, and the same job to whoever submits it again under its key."""
    def submit(mem, *more):
        result = parts.rota('submit', '--name', 'sized', '--mem', mem, *more, '--', '/usr/bin/python3', '-c', HOLDS, '100')
        assert result.returncode == 0, result.stderr
        job = int(result.stdout)
        parts.rota('wait', str(job))
        return parts.json('show', job), result.stderr
    first, said = submit('auto')
    assert (first['mem_bytes'], first['mem_auto']) == (1024 * MIB, {'runs': 0})
    assert said == 'rota: 1G memory (auto: too few runs of this name are known)\n'
    second, _ = submit('auto:512M', '--key', 'second')
    assert (second['mem_bytes'], second['mem_auto']) == (512 * MIB, {'runs': 0})
    third, said = submit('512M')
    assert (third['mem_bytes'], third['mem_auto'], said) == (512 * MIB, None, '')
    suggested = third['suggestion']['mem_bytes']
    assert 100 * MIB < suggested < 256 * MIB
    fourth, said = submit('auto:512M')
    assert (fourth['mem_bytes'], fourth['mem_auto'], fourth['state']) == (suggested, {'runs': 3}, 'succeeded')
    assert said == f'rota: {suggested // MIB}M memory (auto: from 3 runs of this name)\n'
    assert f'1 CPU, {suggested // MIB}M memory (auto: from 3 runs of this name)' in parts.ok('show', str(fourth['id']))
    again, said = submit('auto:512M', '--key', 'second')
    assert again['id'] == second['id'] and 'too few' in said, 'a job that is known by its key is left as it is'
    spec = {'name': 'sized', 'command': ['true'], 'mem': 'auto', 'hold': True}
    held, = parts.submit_many([spec])
    kept = parts.json('show', held)
    assert (kept['mem_bytes'], kept['mem_auto']) == (suggested, {'runs': 4})
    parts.crash('master')
    parts.start_master()
    assert {key: parts.json('show', held)[key] for key in ('mem_bytes', 'mem_auto', 'state')} == {key: kept[key] for key in ('mem_bytes', 'mem_auto', 'state')}
    parts.ok('cancel', str(held))
    parts.ok('retry', str(held))
    retried = parts.json('show', 'last')
    assert retried['retry_of'] == held and retried['mem_auto']['runs'] >= 4, 'who runs it again asks again'
    parts.ok('wait', str(retried['id']))
    ran = parts.rota('run', '--name', 'anew', '--mem', 'auto:64M', '--', 'true')
    assert (ran.returncode, 'rota: 64M memory (auto: too few runs of this name are known)' in ran.stderr) == (0, True), ran.stderr


def test_no_more_is_taken_than_a_node_has(tmp_path):
    cluster = Parts(str(tmp_path / 'cluster'))
    cluster.start_master()
    cluster.start_worker(1, '--cpus', '4', '--mem', '100M')
    cluster.wait_nodes(1)
    try:
        for _ in range(3):
            job = holds(cluster, 'large', 100)  # no claim, no limit
        assert job['state'] == 'succeeded'
        assert job['suggestion']['mem_bytes'] > 100 * MIB
        assert holds(cluster, 'large', 1, '--mem', 'auto')['mem_bytes'] == 100 * MIB
    finally:
        cluster.stop()


def test_short_jobs_and_arrays(parts):
    job = int(parts.ok('submit', '--wait', '--', 'true'))
    short = usage(parts, job)
    assert short['samples'] is None and short['now'] is None and short['attempts'] == 1
    array = int(parts.ok('submit', '--array', '1-2', '--', 'sleep', '60'))
    both = wait_for(lambda: (lambda u: u if u['now'] and u['now']['attempts'] == 2 else None)(usage(parts, array)), 'both tasks')
    assert both['samples'] is None and both['now']['processes'] == 2
    one = usage(parts, f'{array}_2')
    assert one['now']['attempts'] == 1 and one['samples']['points'][-1]['processes'] == 1
    parts.ok('cancel', str(array))
    parts.rota('wait', str(array))
    wait_for(lambda: usage(parts, array)['now'] is None, 'nothing runs')
    assert usage(parts, f'{array}_2')['samples']['points']
