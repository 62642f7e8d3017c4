"""rota up and rota down: one command that is a cluster, and what it does when parts of it end."""
import os
import signal
import subprocess
import time

from conftest import ROTA, processes_with, send_signal, wait_for


def stat_field(pid, number):
    with open(f'/proc/{pid}/stat', encoding='utf-8', errors='replace') as f:
        return f.read().rsplit(')', 1)[1].split()[number - 3]


def ready_nodes(cluster):
    return sum(node['state'] == 'ready' for node in cluster.json('nodes')['nodes'])


def test_up_writes_the_profile_and_stops_everything_with_its_jobs(bare_cluster):
    c = bare_cluster.start('--workers', '2')
    profile = os.path.join(c.environment['XDG_CONFIG_HOME'], 'rota/client.yaml')
    assert os.stat(profile).st_mode & 0o777 == 0o600
    with open(profile, encoding='utf-8') as f:
        text = f.read()
    assert f'token_file: "{c.state}/master/token"' in text and 'url: "http://127.0.0.1:' in text
    wait_for(lambda: ready_nodes(c) == 2, 'two nodes')
    assert sorted(node['name'] for node in c.json('nodes')['nodes']) == ['worker-1', 'worker-2']
    c.ok('submit', '--', 'sleep', '987')
    wait_for(lambda: processes_with('sleep 987'), 'the job runs')
    assert c.stop() == 0
    assert not processes_with('sleep 987')
    assert not processes_with(c.state)
    assert c.rota('ls').returncode == 5


def test_a_second_cluster_on_the_same_state_is_refused(cluster):
    result = cluster.rota('up', '--state', cluster.state, '--port', '0')
    assert result.returncode == 75
    assert 'a cluster is up already' in result.stderr and '`rota down`' in result.stderr
    assert cluster.rota('stats').returncode == 0


def test_detach_returns_when_it_is_up_and_down_stops_it(bare_cluster):
    c = bare_cluster
    result = c.rota('up', '--state', c.state, '--port', '0', '--workers', '1', '--detach')
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith('http://127.0.0.1:') and result.stdout.count('\n') == 1
    assert ready_nodes(c) == 1
    assert c.ok('run', '--', 'echo', 'hi') == 'hi\n'
    result = c.rota('down', '--state', c.state)
    assert result.returncode == 0, result.stderr
    assert not processes_with(c.state)
    assert c.rota('down', '--state', c.state).returncode == 3


def test_what_crashes_is_started_again_on_the_same_port(cluster):
    c = cluster
    wait_for(lambda: ready_nodes(c) == 2, 'two nodes')
    url = c.json('stats')
    job = c.ok('submit', '--', 'sh', '-c', 'sleep 3; echo survived').strip()
    wait_for(lambda: c.json('show', job)['state'] == 'running', 'the job runs')
    master = c.kill('master')
    workers = c.kill('worker')
    wait_for(lambda: c.pids('master') and c.pids('master') != master and len(c.pids('worker')) == 2, 'all started again')
    assert not set(c.pids('worker')) & set(workers)
    assert c.rota('wait', job).returncode == 0
    assert c.ok('logs', job) == 'survived\n'
    assert c.json('stats')['epoch'] > url['epoch']
    wait_for(lambda: ready_nodes(c) == 2, 'two nodes again')
    assert 'starting it again in 0.2 s' in c.log()


def test_a_worker_that_can_not_start_is_reported_and_left_alone(bare_cluster):
    c = bare_cluster
    os.makedirs(os.path.join(c.state))
    c.start('--workers', '2')
    wait_for(lambda: ready_nodes(c) == 2, 'two nodes')
    assert c.stop() == 0
    # Somebody else works in the directory of worker 2.
    other = subprocess.Popen([ROTA, 'worker', '--state', f'{c.state}/worker-2', '--bus', f'unix:{c.directory}/none.sock'], env=c.environment,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(1)
        c.start()
        wait_for(lambda: 'worker-2 ended with exit code 75 (in use by another process); it is not started again' in c.log(), 'the report')
        wait_for(lambda: ready_nodes(c) == 1, 'one node')
        assert c.ok('run', '--', 'echo', 'hi') == 'hi\n'
    finally:
        other.send_signal(signal.SIGTERM)
        other.wait(timeout=60)


def test_a_master_that_can_not_start_ends_it_with_its_code_and_words(bare_cluster):
    c = bare_cluster
    os.makedirs(f'{c.state}/master', mode=0o700)
    c.start('--workers', '1')
    c.stop()
    for name in os.listdir(f'{c.state}/master'):
        if name.endswith('.db'):
            with open(f'{c.state}/master/{name}', 'r+b') as f:
                f.write(b'this is no database at all' * 100)
    result = c.rota('up', '--state', c.state, '--port', '0')
    assert result.returncode == 65, result.stderr
    assert 'master ended with exit code 65 (the store is corrupt or not ours)' in result.stderr
    assert 'last words' in result.stderr and not processes_with(c.state)


def test_a_port_in_use_is_said_and_nothing_is_left(cluster, tmp_path):
    with open(os.path.join(cluster.environment['XDG_CONFIG_HOME'], 'rota/client.yaml'), encoding='utf-8') as f:
        port = f.read().split('127.0.0.1:')[1].split('"')[0]
    result = subprocess.run([ROTA, 'up', '--state', f'{tmp_path}/s', '--port', port], env={**cluster.environment, 'ROTA_PROFILE': f'{tmp_path}/p'},
                            text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    assert result.returncode not in (0, None)
    assert 'in use' in result.stderr.lower(), result.stderr
    assert not processes_with(f'{tmp_path}/s') and not os.path.exists(f'{tmp_path}/p')


def test_keep_lets_jobs_run_on_and_the_next_up_adopts_them(bare_cluster):
    c = bare_cluster.start('--workers', '1', '--keep')
    job = c.ok('submit', '--', 'sh', '-c', 'sleep 4; echo kept').strip()
    wait_for(lambda: c.json('show', job)['state'] == 'running', 'the job runs')
    c.up.send_signal(signal.SIGTERM)
    assert c.up.wait(timeout=120) == 0
    assert processes_with('echo kept')
    c.start()
    assert c.rota('wait', job).returncode == 0
    assert c.ok('logs', job) == 'kept\n'
    assert c.json('show', job)['attempts'] == 1


def test_when_up_itself_is_killed_master_and_workers_end(bare_cluster):
    c = bare_cluster.start('--workers', '1')
    wait_for(lambda: ready_nodes(c) == 1, 'a node')
    roles = c.pids('master') + c.pids('worker')
    assert len(roles) == 2
    c.up.kill()
    c.up.wait(timeout=60)
    wait_for(lambda: not set(c.pids('master') + c.pids('worker')) & set(roles), 'they end')
    c.start()
    assert c.ok('run', '--', 'echo', 'again') == 'again\n'


def test_ctrl_c_in_a_terminal_stops_workers_first(bare_cluster):
    """The terminal signals the whole foreground group: the children must not be in it."""
    c = bare_cluster.start('--workers', '1')
    pid = c.up.pid
    for child in c.pids('master') + c.pids('worker'):
        assert stat_field(child, 5) != stat_field(pid, 5)
    os.killpg(pid, signal.SIGINT)
    assert c.up.wait(timeout=120) == 0
    assert not c.pids('master') and not c.pids('worker')


def test_two_signals_are_enough_for_jobs_that_do_not_want_to_end(bare_cluster):
    c = bare_cluster.start('--workers', '1')
    job = c.ok('submit', '--grace', '1h', '--', 'sh', '-c', 'trap "" TERM INT; echo up; while :; do sleep 1; done').strip()
    wait_for(lambda: c.json('show', job)['state'] == 'running', 'the job runs')
    c.up.send_signal(signal.SIGINT)
    time.sleep(1)
    c.up.send_signal(signal.SIGINT)
    assert c.up.wait(timeout=120) == 0
    assert not c.pids('master') and not c.pids('worker')
    for pid in processes_with('trap "" TERM INT'):
        send_signal(pid, signal.SIGKILL)


def test_links_run_against_a_real_master(shared_cluster, tmp_path):
    c = shared_cluster
    for name in ('sbatch', 'squeue', 'srun', 'scancel', 'sinfo'):
        (tmp_path / name).symlink_to(ROTA)
    script = tmp_path / 'job.sh'
    script.write_text('#!/bin/sh\n#SBATCH --job-name=linked --array=1-2\necho "task $SLURM_ARRAY_TASK_ID"\n')
    run = lambda name, *arguments: subprocess.run([str(tmp_path / name), *arguments], env=c.environment, cwd=tmp_path, text=True, timeout=120,
                                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    result = run('sbatch', '--wait', 'job.sh')
    assert result.returncode == 0, result.stderr
    job = result.stdout.split()[-1]
    assert result.stdout == f'Submitted batch job {job}\n'
    assert (tmp_path / f'slurm-{job}_2.out').read_text() == 'task 2\n'
    result = run('srun', 'sh', '-c', 'echo here; pwd; exit 4')
    assert (result.returncode, result.stdout) == (4, f'here\n{tmp_path}\n')
    held = run('sbatch', '--hold', '--wrap', 'true', '--parsable').stdout.strip()
    assert held in run('squeue', '-h').stdout
    assert run('scancel', held).returncode == 0
    assert held not in run('squeue', '-h').stdout
    assert 'worker-1' in run('sinfo').stdout
