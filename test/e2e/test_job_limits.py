"""What jobs that are processes can not do: use more than they asked for, be somebody else, harm other jobs or those who run them."""
import json
import os
import shutil
import signal
import subprocess
import tempfile

import pytest

from conftest import ROTA, processes_with, wait_for
from parts import Parts

MIB = 1 << 20
NOBODY = 'nobody'  # user id 65534, in every Debian
root = pytest.mark.skipif(os.geteuid() != 0, reason='only root can run jobs as others')


@pytest.fixture
def parts():
    directory = tempfile.mkdtemp(prefix='rota-e2e-')
    os.chmod(directory, 0o755)
    cluster = Parts(directory)
    cluster.start_master()
    yield cluster
    cluster.stop()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def desk(parts):
    """A directory in which nobody may work."""
    path = os.path.join(parts.directory, 'desk')
    os.mkdir(path)
    shutil.chown(path, NOBODY, 'nogroup')
    return path


def start(parts, *options):
    parts.start_worker(1, '--cpus', '4', *options)
    parts.wait_nodes(1)


def run(parts, script, **more):
    """Of a job of nobody's: how it ended, and what it wrote."""
    job, = parts.submit_many([{'command': ['sh', '-c', script], 'user': NOBODY, 'workdir': os.path.join(parts.directory, 'desk'), **more}])
    parts.rota('wait', str(job))
    return parts.json('show', job), parts.rota('logs', str(job), '--stdout').stdout


@root
def test_jobs_run_as_who_submitted_them(parts, desk):
    start(parts, '--run-as', 'submitter')
    wait_for(lambda: 'jobs run as who submitted them' in parts.log_of('worker-1'), 'the worker says so')
    job, out = run(parts, 'id -un; pwd; echo $HOME $USER $LOGNAME; touch mine; stat -c %U mine')
    assert job['state'] == 'succeeded', job
    assert out.split('\n')[:4] == [NOBODY, desk, f'/ {NOBODY} {NOBODY}', NOBODY]
    # The admin of a test is root: user id 0 is below the least.
    job = int(parts.ok('submit', '--', 'true'))
    assert parts.rota('wait', str(job)).returncode != 0
    shown = parts.json('show', job)
    assert (shown['state'], shown['reason']) == ('failed', 'spawn')
    assert 'user id 0 is below 1000 (run_as_uid_min of the worker)' in shown['stderr_tail']
    for user, why in (('daemon', 'user id 1 is below 1000'), ('no-such-user-at-all', 'has no account on this node')):
        shown, _ = run(parts, 'true', **{'user': user})
        assert (shown['state'], shown['reason']) == ('failed', 'spawn') and why in shown['stderr_tail'], shown
    assert parts.json('nodes')['nodes'][0]['state'] == 'ready'
    # A worker that is started again finds the jobs of others too.
    job, = parts.submit_many([{'command': ['sh', '-c', 'while [ ! -e go ]; do sleep 0.1; done; id -un; exit 7'], 'user': NOBODY, 'workdir': desk}])
    wait_for(lambda: parts.json('show', job)['state'] == 'running', 'it runs')
    parts.crash('worker-1')
    parts.start_worker(1)
    open(os.path.join(desk, 'go'), 'w', encoding='ascii').close()
    assert parts.rota('wait', str(job)).returncode == 7
    assert parts.rota('logs', str(job), '--stdout').stdout == NOBODY + '\n'


def test_who_may_not_is_told_at_the_start(parts):
    """Only root can run jobs as others; and root without that option is told whom jobs run as."""
    if os.geteuid() == 0:
        state = os.path.join(parts.directory, 'theirs')
        os.mkdir(state)
        shutil.chown(state, NOBODY, 'nogroup')
        wrapper = ['setpriv', '--reuid', NOBODY, '--regid', 'nogroup', '--clear-groups']
        start(parts)
        wait_for(lambda: 'jobs run as root, the user of this worker' in parts.log_of('worker-1'), 'the warning')
    else:
        state, wrapper = os.path.join(parts.directory, 'theirs'), []
    shutil.copy(ROTA, os.path.join(parts.directory, 'rota-copy'))  # from where others may start it
    result = subprocess.run([*wrapper, os.path.join(parts.directory, 'rota-copy'), 'worker', '--state', state, '--bus', 'unix:/nowhere', '--run-as', 'submitter'],
                            env=parts.environment, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 78, result
    assert 'run_as: only a worker that is root can run jobs as others' in result.stderr


@root
def test_hostile_jobs_are_contained(parts, desk):
    """Each as it is meant, then nothing of it is left, the node is ready, and other jobs run."""
    start(parts, '--run-as', 'submitter', '--job-pids', '64')
    if 'end of a job: with all it started (cgroup)' not in parts.log_of('worker-1'):
        pytest.skip('this machine gives no control groups to jobs')
    nursery = next(pid for pid, line in processes_with(parts.state).items() if '__nursery' in line or 'rota-nursery' in open(f'/proc/{pid}/comm', encoding='ascii').read())
    victim, = parts.submit_many([{'command': ['sh', '-c', 'pwd; while [ ! -e stop ]; do sleep 0.1; done; exit 0'], 'user': NOBODY, 'workdir': desk, 'name': 'victim'}])
    wait_for(lambda: parts.json('show', victim)['state'] == 'running', 'the victim runs')
    logs = os.path.join(parts.state, 'worker-1', 'logs')

    hostile = {
        'fork bomb': 'b() { b | b & }; b; sleep 1; exit 0',
        'memory bomb': 'head -c 1000000000 /dev/zero | tail >/dev/null; exit 0',
        'many files': "/usr/bin/python3 -c 'for i in range(100000): open(f\"f{i}\", \"w\").close()'; ls | wc -l",
        'daemon': "(setsid sh -c 'trap \"\" TERM HUP INT; cd /; sleep 4711 & exec sleep 4712' >/dev/null 2>&1 &) ; exit 0",
        'setuid': "/usr/bin/python3 -c 'import os\ntry: os.setuid(0); print(\"ROOT\")\nexcept OSError: print(\"refused\")'; cp /bin/sh s; chmod 4755 s; ./s -pc 'id -u'",
        'ptrace': f"/usr/bin/python3 -c 'import ctypes; c=ctypes.CDLL(None); print(c.ptrace(16, {nursery}, 0, 0))'; cat /proc/{nursery}/environ /proc/{nursery}/mem 2>&1 | wc -c; ls /proc/{nursery}/fd 2>/dev/null | wc -l",
        'signals': f'for s in TERM KILL STOP SEGV; do kill -$s {nursery} 2>/dev/null && echo HIT; done; kill -9 $PPID 2>/dev/null && echo HIT; echo tried',
        'mount': 'mount -t tmpfs none /mnt 2>/dev/null && echo MOUNTED; unshare -m true 2>/dev/null && echo UNSHARED; echo tried',
        'others': f'ls {logs} 2>/dev/null && echo SEEN; echo x >{logs}/slots/0.out && echo WRITTEN; echo x >>{parts.state}/worker-1/nursery.log && echo WRITTEN; echo tried',
        'groups': 'for g in /sys/fs/cgroup/*/rota-*/slot*/cgroup.procs; do echo 1 2>/dev/null >$g && echo MOVED; done 2>/dev/null; echo tried',
    }
    ended = {name: run(parts, script, name=name, mem='64M' if name == 'memory bomb' else '256M', time='60s') for name, script in hostile.items()}
    said = {name: out for name, (_, out) in ended.items()}
    assert ended['memory bomb'][0]['reason'] == 'oom'
    assert said['many files'].strip() == '100000'
    assert said['setuid'].split() == ['refused', '65534'], said['setuid']
    assert said['ptrace'].split()[0] == '-1' and said['ptrace'].split()[-1] == '0', said['ptrace']
    for name in ('signals', 'mount', 'others', 'groups'):
        assert 'tried' in said[name]
        assert not any(word in said[name] for word in ('HIT', 'MOUNTED', 'SEEN', 'WRITTEN', 'MOVED')), (name, said[name])
    for name, (job, _) in ended.items():
        assert job['state'] in ('succeeded', 'failed'), (name, job)
    assert not processes_with('4711') and not processes_with('4712'), 'the daemon is ended with its job'
    os.kill(nursery, 0)
    assert parts.json('show', victim)['state'] == 'running'
    open(os.path.join(desk, 'stop'), 'w', encoding='ascii').close()
    assert parts.rota('wait', str(victim)).returncode == 0
    node, = parts.json('nodes')['nodes']
    assert node['state'] == 'ready' and node['running'] == 0
    assert run(parts, 'echo fine')[1] == 'fine\n'
    wait_for(lambda: not left_over(), 'nothing of the jobs is left')


def left_over():
    """Live processes of jobs of nobody's."""
    return [line for line in processes_with('ROTA_FENCE=', of='environ').values() if f'USER={NOBODY} ' in line]


def test_limits_are_told(parts):
    start(parts, '--cpu-limit', 'share', '--job-pids', '100', '--job-file-max', '1M')
    said = wait_for(lambda: next((line for line in parts.log_of('worker-1').splitlines() if 'this node can do' in line), None), 'the line at the start')
    for part in ('end of a job: ', 'memory: ', 'CPUs: ', 'processes of a job: ', 'files: at most 1048576 bytes each', 'GPUs: '):
        assert part in said, said
    node = wait_for(lambda: (lambda n: n if n['machine'] else None)(parts.json('nodes')['nodes'][0]), 'the node tells of its machine')
    assert node['machine']['enforces'] in said and node['machine']['disk_bytes'] > node['machine']['disk_free_bytes'] > 0
    shown = parts.ok('nodes', 'worker-1')
    assert 'it can do:\n    end of a job: ' in shown and ' free of ' in shown, shown
    parts.crash('master')  # the next one is told at once
    parts.start_master()
    wait_for(lambda: parts.json('nodes')['nodes'][0]['machine'], 'the next master is told')
    job = int(parts.ok('submit', '--', 'sh', '-c', 'head -c 3000000 /dev/zero >big; echo $?'))
    parts.rota('wait', str(job))
    assert json.loads(parts.ok('show', str(job), '--json'))['state'] in ('succeeded', 'failed')
    assert parts.rota('logs', str(job), '--stdout').stdout.strip() == str(128 + signal.SIGXFSZ)


# --- GPUs and CPUs by number ---

def devices(parts, job):
    """ROTA_GPUS, CUDA_VISIBLE_DEVICES and ROTA_GPU_COUNT as the job sees them."""
    text = wait_for(lambda: parts.rota('logs', str(job), '--stdout').stdout, f'job {job} writes')
    return text.strip().split('\n')[0].split('|')


TELL = 'echo "$ROTA_GPUS|$CUDA_VISIBLE_DEVICES|$ROTA_GPU_COUNT|$(grep Cpus_allowed_list /proc/self/status | cut -f2)"; while [ ! -e %s ]; do sleep 0.1; done'


def test_gpus_have_one_owner_through_every_restart(parts):
    """Four pretended GPUs, also in halves; worker and master are killed while jobs have them."""
    parts.start_worker(1, '--cpus', '64', '--gpus', '4')
    parts.wait_nodes(1)
    done = os.path.join(parts.directory, 'done')

    def job(gpus):
        number, = parts.submit_many([{'command': ['sh', '-c', TELL % f'{done}.{gpus}'], 'gpus': gpus, 'cpus': 0.1}])
        return number

    two, half, other_half = job(2), job(0.5), job(0.5)
    held = {number: devices(parts, number) for number in (two, half, other_half)}
    assert held[two][1] == held[two][0] and held[two][2] == '2'
    assert len(held[two][0].split(',')) == 2
    assert held[half][0] == held[other_half][0] and held[half][0] not in held[two][0].split(',')
    none = int(parts.ok('submit', '--cpus', '0.1', '--', 'sh', '-c', TELL % done))
    assert devices(parts, none)[:3] == ['', '', '0']
    waiting = job(2)  # one is left
    last = job(1)
    assert devices(parts, last)[0] not in ','.join(h[0] for h in held.values()).split(',')
    parts.crash('worker-1')
    parts.crash('master')
    parts.start_master()
    parts.start_worker(1)
    parts.wait_nodes(1)
    assert parts.json('show', waiting)['state'] == 'queued'
    open(f'{done}.0.5', 'w', encoding='ascii').close()  # both halves end: still one whole GPU only
    parts.ok('wait', str(half), str(other_half))
    one = job(1)
    assert devices(parts, one)[0] == held[half][0], 'the adopted jobs keep theirs'
    open(f'{done}.2', 'w', encoding='ascii').close()
    parts.ok('wait', str(two))
    assert set(devices(parts, waiting)[0].split(',')) == set(held[two][0].split(','))
    open(f'{done}.1', 'w', encoding='ascii').close()
    open(done, 'w', encoding='ascii').close()
    parts.ok('wait', str(waiting), str(one), str(last), str(none))


def test_pinned_jobs_have_cpus_of_their_own(parts):
    count = len(os.sched_getaffinity(0))
    if count < 2:
        pytest.skip('one CPU')
    parts.start_worker(1, '--cpus', '2', '--pin-cpus')
    parts.wait_nodes(1)
    done = os.path.join(parts.directory, 'done')
    jobs = parts.submit_many([{'command': ['sh', '-c', TELL % done], 'cpus': cpus} for cpus in (1, 0.5, 0.5)])
    seen = [devices(parts, job)[3] for job in jobs]
    assert seen[1] == seen[2] != seen[0], seen
    parts.crash('worker-1')
    parts.start_worker(1)
    parts.wait_nodes(1)
    open(done, 'w', encoding='ascii').close()
    for job in jobs:
        parts.ok('wait', str(job))
    result = subprocess.run([ROTA, 'worker', '--state', os.path.join(parts.directory, 'other'), '--bus', 'unix:/nowhere', '--pin-cpus', '--cpus', '999', '--no-metrics'],
                            env=parts.environment, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 78 and 'cpus: 999 CPUs are offered to be given by number' in result.stderr, result
