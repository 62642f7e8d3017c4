"""Jobs in containers, against a real dockerd that the module starts and ends, and against engines that misbehave."""
import json
import os
import queue
import random
import signal
import subprocess
import time

import pytest

from conftest import PATIENCE_S, ROOT, ROTA, Cluster, remove, wait_for
from dockerd import IMAGE, Engine
from fake_engine import FakeEngine
from parts import Parts

MIB = 1 << 20


@pytest.fixture(scope='module')
def engine():
    with Engine() as e:
        yield e


@pytest.fixture(scope='module')
def docker(engine):
    """A cluster of one worker that runs containers and processes."""
    cluster = make(Cluster)
    cluster.environment['DOCKER_HOST'] = engine.address
    try:
        cluster.start('--workers', '1', '--exec', 'docker', '--cpus', '8')
        yield cluster
    finally:
        remove(cluster)


def make(kind):
    import tempfile
    return kind(tempfile.mkdtemp(prefix='rota-e2e-'))


@pytest.fixture
def parts(engine):
    """Master and worker as single processes."""
    cluster = make(Parts)
    cluster.environment['DOCKER_HOST'] = engine.address
    yield cluster
    remove(cluster)


def submit(cluster, *arguments):
    return int(cluster.ok('submit', '--image', IMAGE, *arguments).strip())


def sh(cluster, script, *options):
    return submit(cluster, *options, '--', 'sh', '-c', script)


def show(cluster, job):
    return cluster.json('show', job)


def ended(cluster, job):
    cluster.rota('wait', str(job))
    return show(cluster, job)


def until_state(cluster, job, *states):
    return wait_for(lambda: (lambda j: j if j['state'] in states else None)(show(cluster, job)), f'job {job} is {states}')


def logs(cluster, job, *options):
    """Standard output of a job, in bytes."""
    result = subprocess.run([ROTA, 'logs', str(job), '--stdout', *options], env=cluster.environment, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def none_left(engine, cluster_note=''):
    wait_for(lambda: not engine.containers(), f'containers are left {cluster_note}: {engine.containers()}', patience_s=60)


# --- as a user meets them ---

def test_container_and_process_side_by_side(docker):
    inside = docker.ok('run', '--image', IMAGE, '--', 'sh', '-c', 'cat /etc/passwd | wc -l; ls -d /.rota').split()
    assert inside == ['2', '/.rota']
    outside = docker.ok('run', '--', 'sh', '-c', 'ls -d /.rota 2>/dev/null || echo none').split()
    assert outside == ['none']


def test_environment_is_the_images_and_ours(docker):
    out = docker.ok('run', '--image', IMAGE, '--env', 'MINE=1', '--cpus', '0.5', '--', 'env')
    names = {line.split('=')[0] for line in out.splitlines()}
    assert {'MINE', 'ROTA_JOB_ID', 'ROTA_FENCE', 'ROTA_CPUS', 'PATH'} <= names
    assert 'ROTA_CPUS=0.5' in out and 'MINE=1' in out
    assert '/root' not in out and 'XDG' not in out and 'TMPDIR' not in out  # nothing of the machine's


def test_logs_follow_live(docker):
    job = sh(docker, 'echo one; sleep 2; echo two')
    assert logs(docker, job, '-f') == b'one\ntwo\n'


def test_cancel(docker, engine):
    job = sh(docker, 'sleep 1000')
    until_state(docker, job, 'running')
    docker.ok('cancel', job)
    assert ended(docker, job)['state'] == 'cancelled'
    none_left(engine)


def test_cancel_of_one_that_ignores_term(docker, engine):
    job = sh(docker, "trap '' TERM; echo armed; while :; do sleep 1; done", '--grace', '1s')
    wait_for(lambda: logs(docker, job) == b'armed\n', 'the trap is set')
    docker.ok('cancel', job)
    assert ended(docker, job)['state'] == 'cancelled'
    none_left(engine)


def test_time_limit(docker):
    job = ended(docker, sh(docker, 'sleep 1000', '--time', '2s'))
    assert (job['state'], job['reason']) == ('failed', 'time_limit')


@pytest.mark.parametrize('script', ['exec tail -c 200000000 /dev/zero', 'tail -c 200000000 /dev/zero; exit 0'], ids=['main', 'child'])
def test_memory_beyond_the_request(docker, script):
    job = ended(docker, sh(docker, script, '--mem', '32M'))
    assert (job['state'], job['reason']) == ('failed', 'oom')
    assert 'of 32M memory at most' in docker.ok('show', job['id'])


def test_missing_image(docker):
    job = ended(docker, int(docker.ok('submit', '--image', 'rota-nobody:has', '--pull', 'never', '--', 'true')))
    assert (job['state'], job['reason']) == ('failed', 'image')
    result = docker.rota('run', '--image', 'localhost:1/rota-nobody:has', '--', 'true')  # nobody listens there
    assert result.returncode == 1 and 'image could not be had' in result.stderr


@pytest.mark.parametrize('command, words', [('/bin/there-is-none', 'No such file'), ('/bin/not-executable', 'Permission denied')])
def test_commands_that_do_not_start(docker, command, words):
    result = docker.rota('run', '--image', IMAGE, '--', command)
    assert result.returncode == 1
    assert words in result.stderr and command in result.stderr


def test_large_output(docker):
    """128 MiB, beyond the cap of 64 MiB: what is kept is the first and the last half of the cap, and the mark says the rest."""
    size = 128 * MIB
    job = sh(docker, f'yes 0123456789abcde | head -c {size}')
    assert ended(docker, job)['state'] == 'succeeded'
    line = b'0123456789abcde\n'
    kept = logs(docker, job)
    mark = f'\n[rota: {size - 64 * MIB} bytes left out here]\n'.encode()
    assert kept == line * (2 * MIB) + mark + line * (2 * MIB)


def test_binary_output_without_newline(docker):
    job = sh(docker, r"printf 'a\000\377\033[31mb'")
    assert ended(docker, job)['state'] == 'succeeded'
    assert logs(docker, job) == b'a\0\xff\x1b[31mb'


def test_array_in_containers(docker, engine):
    job = submit(docker, '--array', '1-20', '--cpus', '0.1', '--', 'sh', '-c', 'exit $((ROTA_TASK_ID == 7))')
    assert ended(docker, job)['state'] == 'failed'
    counts = show(docker, job)
    assert counts['counts']['succeeded'] == 19 and counts['counts']['failed'] == 1
    none_left(engine)


def test_hostile_jobs_are_held(docker, engine):
    bomb = sh(docker, 'b() { b | b & }; b; sleep 2; exit 0', '--mem', '64M', '--cpus', '0.5')
    files = sh(docker, 'i=0; while [ $i -lt 20000 ]; do : > /tmp/$i || break; i=$((i+1)); done; echo $i', '--mem', '64M')
    daemon = sh(docker, "setsid sh -c 'sleep 1000' & exit 0")
    power = sh(docker, 'mount -t tmpfs x /mnt 2>/dev/null; echo $?; kill -9 1; cat /proc/1/mem >/dev/null 2>&1; echo $?; : > /bin/x')
    for job in (bomb, files, daemon, power):
        ended(docker, job)
    assert show(docker, daemon)['state'] == 'succeeded'
    lines = logs(docker, power).split()
    assert lines[0] != b'0' and lines[1] != b'0'
    assert show(docker, power)['state'] == 'failed'
    none_left(engine)
    assert [n['state'] for n in docker.json('nodes')['nodes']] == ['ready']
    assert docker.ok('run', '--image', IMAGE, '--', 'echo', 'all well') == 'all well\n'


def test_the_example_runs_in_containers(engine):
    cluster = make(Cluster)
    try:
        files = cluster.directory + '/files'
        with open(files, 'w', encoding='utf-8') as f:
            for name in ('GPL-2', 'GPL-3', 'Apache-2.0', 'BSD'):
                f.write(f'/usr/share/common-licenses/{name}\n')
        environment = {**cluster.environment, 'DOCKER_HOST': engine.address, 'ROTA': ROTA, 'WORDCOUNT_STATE': cluster.state,
                       'WORDCOUNT_WORK': cluster.directory + '/work', 'WORDCOUNT_CONFIG': cluster.directory + '/config',
                       'WORDCOUNT_FILES': files, 'WORDCOUNT_CHUNK': '1', 'WORDCOUNT_WORKERS': '1'}
        run = os.path.join(ROOT, 'examples/wordcount/run')
        result = subprocess.run([run, '--image', IMAGE], env=environment, cwd=cluster.directory, text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, timeout=200, check=False)
        stop = subprocess.run([run, '--stop'], env=environment, cwd=cluster.directory, timeout=100, check=False, stdout=subprocess.DEVNULL)
        assert result.returncode == 0, result.stdout + result.stderr
        assert 'equal to a plain pipeline' in result.stdout
        assert stop.returncode == 0
        none_left(engine)
    finally:
        remove(cluster)


# --- no engine ---

def test_without_an_engine_it_waits_and_why_says_so(parts):
    parts.environment['DOCKER_HOST'] = 'unix://' + os.path.join(parts.directory, 'no.sock')
    parts.start_master()
    parts.start_worker(1, '--exec', 'docker')
    parts.wait_nodes(1)
    job = sh(parts, 'true')
    why = wait_for(lambda: (lambda w: w if 'container engine' in w else None)(parts.ok('why', job)), 'why names the engine')
    assert 'the one ready node has none that answers' in why
    assert parts.ok('run', '--', 'echo', 'process') == 'process\n'
    assert 'no container engine' in parts.log_of('worker-1')


def test_a_worker_without_containers_refuses_images(parts):
    parts.start_master()
    parts.start_worker(1)
    parts.wait_nodes(1)
    assert 'container engine' in parts.ok('why', sh(parts, 'true'))


def test_an_engine_that_never_answers(parts, engine):
    """It accepts and is silent. Processes go on; when a good engine is there its jobs run."""
    path = os.path.join(parts.directory, 'engine.sock')
    parts.environment['DOCKER_HOST'] = 'unix://' + path
    parts.start_master()
    with FakeEngine(path, {('GET', '/_ping'): (200, None)}) as fake:
        parts.start_worker(1, '--exec', 'docker')
        parts.wait_nodes(1)
        job = sh(parts, 'echo in the end')
        wait_for(lambda: 'no answer in time' in parts.log_of('worker-1'), 'the silence is noticed')
        assert parts.ok('run', '--', 'echo', 'process') == 'process\n'
        assert show(parts, job)['state'] == 'queued'
        assert fake.requests
    os.symlink(engine.socket, path)
    assert ended(parts, job)['state'] == 'succeeded'
    assert [n['state'] for n in parts.json('nodes')['nodes']] == ['ready']
    none_left(engine)


def test_an_engine_of_another_version(parts):
    path = os.path.join(parts.directory, 'engine.sock')
    parts.environment['DOCKER_HOST'] = 'unix://' + path
    parts.start_master()
    with FakeEngine(path, {}, api='1.24'):
        parts.start_worker(1, '--exec', 'docker')
        parts.wait_nodes(1)
        job = sh(parts, 'true')
        wait_for(lambda: 'speaks API 1.24, 1.30 or newer is needed' in parts.log_of('worker-1'), 'the version is told')
        assert show(parts, job)['state'] == 'queued'
    # A newer one than we know is asked in our newest words.
    with FakeEngine(path, {('GET', '/info'): (200, {'ServerVersion': '99'})}, api='1.99') as fake:
        wait_for(lambda: any('/v1.47/containers/create' in path for _, path, _ in fake.requests), 'it is asked for a container')


def test_an_error_inside_a_good_pull(parts):
    path = os.path.join(parts.directory, 'engine.sock')
    parts.environment['DOCKER_HOST'] = 'unix://' + path
    stream = b'{"status":"Pulling"}\r\n{"errorDetail":{"message":"manifest unknown"},"error":"manifest unknown"}\r\n'
    parts.start_master()
    with FakeEngine(path, {('POST', '/images/create'): (200, stream), ('POST', '/containers/create'): (404, {'message': 'No such image'})}) as fake:
        parts.start_worker(1, '--exec', 'docker')
        parts.wait_nodes(1)
        result = parts.rota('run', '--image', 'some/where', '--', 'true')
        assert result.returncode == 1 and 'manifest unknown' in result.stderr
        pulls = [path for method, path, _ in fake.requests if '/images/create' in path]
        assert len(pulls) == 1 and pulls[0].endswith('fromImage=some%2Fwhere&tag=latest')


def test_how_far_a_pull_is(parts):
    """Whoever waits for an image sees that, and how much of it is there."""
    path = os.path.join(parts.directory, 'engine.sock')
    parts.environment['DOCKER_HOST'] = 'unix://' + path
    steps = queue.Queue()
    line = lambda **keys: json.dumps(keys).encode() + b'\r\n'

    def stream():
        while (piece := steps.get(timeout=PATIENCE_S)) is not None:
            yield piece

    def layer(name, status, current=0, total=0):
        return line(status=status, id=name, progressDetail={'current': current << 20, 'total': total << 20} if total else {})

    def told(text):
        def there():
            if steps.empty():
                steps.put(line(status='Waiting', id='x'))  # what was told is told again with the next line, a second later
            return show(parts, job)['note'] == text
        wait_for(there, f'{text}: {show(parts, job)["note"]}', pause_s=0.2)

    parts.start_master()
    with FakeEngine(path, {('POST', '/images/create'): (200, stream), ('POST', '/containers/create'): (404, {'message': 'No such image'})}):
        parts.start_worker(1, '--exec', 'docker')
        parts.wait_nodes(1)
        job = int(parts.ok('submit', '--image', 'some/where:7', '--', 'true'))
        steps.put(line(status='Pulling from some/where', id='7'))
        told('pulling the image some/where:7: Waiting')
        steps.put(layer('aaa', 'Downloading', 10, 100) + layer('bbb', 'Downloading', 50, 300))
        told('pulling the image some/where:7: 15 %, 60M of 400M')
        assert 'Its node says: pulling the image some/where:7: 15 %, 60M of 400M.' in parts.ok('why', str(job))
        assert '15 %, 60M of 400M' in parts.ok('show', str(job))
        steps.put(layer('aaa', 'Download complete') + layer('bbb', 'Downloading', 150, 300))
        told('pulling the image some/where:7: 62 %, 250M of 400M')
        steps.put(line(errorDetail={'message': 'gone'}, error='gone'))
        steps.put(None)
        assert parts.rota('wait', str(job)).returncode != 0
        assert show(parts, job)['note'] is None


def test_gpus_and_cpus_are_asked_for_by_number(parts):
    path = os.path.join(parts.directory, 'engine.sock')
    parts.environment['DOCKER_HOST'] = 'unix://' + path
    parts.start_master()
    with FakeEngine(path, {('POST', '/containers/create'): (400, {'message': 'not here'})}) as fake:
        parts.start_worker(1, '--exec', 'docker', '--gpus', '3', '--cpus', '1', '--pin-cpus')
        parts.wait_nodes(1)
        for gpus in ('2', '0'):
            parts.rota('run', '--image', 'some', '--gpus', gpus, '--', 'true')
        bodies = [json.loads(body) for _, place, body in fake.requests if '/containers/create' in place]
        assert [b['HostConfig'].get('DeviceRequests') for b in bodies] == [
            [{'Driver': '', 'DeviceIDs': ['0', '1'], 'Capabilities': [['gpu']]}], None]
        assert all(b['HostConfig']['CpusetCpus'].isdigit() for b in bodies)
        assert 'CUDA_VISIBLE_DEVICES=0,1' in bodies[0]['Env'] and 'CUDA_VISIBLE_DEVICES=' in bodies[1]['Env']


def test_what_never_started_leaves_nothing(parts):
    """An engine in trouble: the attempt is given back, and its files go when that is acknowledged."""
    path = os.path.join(parts.directory, 'engine.sock')
    parts.environment['DOCKER_HOST'] = 'unix://' + path
    run = os.path.join(parts.state, 'worker-1/containers/run')
    parts.start_master()
    with FakeEngine(path, {('POST', '/containers/create'): (500, {'message': 'no space left on device'})}):
        parts.start_worker(1, '--exec', 'docker')
        parts.wait_nodes(1)
        job = sh(parts, 'true')
        wait_for(lambda: any(name.endswith(f'-{job}-2') for name in os.listdir(run)), 'it is tried again')
        wait_for(lambda: not any(name.endswith(f'-{job}-1') for name in os.listdir(run)), 'the files of the first attempt go')
        assert parts.ok('run', '--', 'echo', 'process') == 'process\n'


def test_an_engine_that_can_not_start_containers(parts, engine):
    """Its disk is full. It is set aside, processes go on, the node stays as good as it was; and it comes back."""
    path = os.path.join(parts.directory, 'engine.sock')
    parts.environment['DOCKER_HOST'] = 'unix://' + path
    parts.start_master()
    with FakeEngine(path, {('POST', '/containers/create'): (500, {'message': 'no space left on device'})}):
        parts.start_worker(1, '--exec', 'docker', '--cpus', '8')
        parts.wait_nodes(1)
        jobs = [sh(parts, 'echo in the end', '--cpus', '0.5') for _ in range(8)]
        wait_for(lambda: 'is set aside' in parts.log_of('worker-1'), 'the engine is set aside')
        wait_for(lambda: 'container engine' in parts.ok('why', jobs[-1]), 'why says so')
        assert parts.ok('run', '--', 'echo', 'process') == 'process\n'
        assert [n['state'] for n in parts.json('nodes')['nodes']] == ['ready']
    os.symlink(engine.socket, path)
    for job in jobs:
        assert ended(parts, job)['state'] == 'succeeded'
    none_left(engine)


def test_a_foreign_container_with_our_name(parts, engine):
    parts.start_master()
    worker = parts.start_worker(1, '--exec', 'docker')
    parts.wait_nodes(1)
    assert ended(parts, sh(parts, 'true'))['state'] == 'succeeded'
    with open(os.path.join(parts.state, 'worker-1/containers/id'), encoding='utf-8') as f:
        name = f'rota-{f.read()[:8]}-2-1'
    status, body = engine.call('POST', f'/v1.41/containers/create?name={name}', {'Image': IMAGE, 'Cmd': ['true'], 'Labels': {'whose': 'mine'}})
    assert status == 201, body
    foreign = json.loads(body)['Id']
    try:
        job = sh(parts, 'echo mine')
        assert job == 2
        # The first attempt fails for want of the node; the second has another name.
        after = ended(parts, job)
        assert after['state'] == 'succeeded' and after['attempts'] == 2
        assert engine.json(f'/v1.41/containers/{foreign}/json')['State']['Status'] == 'created'
        assert 'is not ours' in parts.log_of('worker-1')
    finally:
        engine.call('DELETE', f'/v1.41/containers/{foreign}?force=1')
    assert worker.poll() is None


@pytest.mark.parametrize('message', ['something is wrong', 'creating container storage: the container name "x" is already in use by 1f'])
def test_an_engine_that_calls_a_taken_name_something_else(parts, message):
    """Docker says 409, Podman 500. A container is ours by its labels, whatever was answered when we asked for it: nobody else's may go."""
    path = os.path.join(parts.directory, 'engine.sock')
    parts.environment['DOCKER_HOST'] = 'unix://' + path
    parts.start_master()
    theirs = {'Id': 'f' * 64, 'State': {'Status': 'running', 'Pid': 1, 'ExitCode': 0, 'OOMKilled': False, 'Error': ''},
              'Config': {'Labels': {'whose': 'theirs'}}}
    with FakeEngine(path, {('POST', '/containers/create'): (500, {'message': message}), ('GET', '/containers/rota-*'): (200, theirs),
                           ('GET', '/containers/json'): (200, []), ('DELETE', '/containers/*'): (204, b'')}) as fake:
        parts.start_worker(1, '--exec', 'docker')
        parts.wait_nodes(1)
        job = sh(parts, 'echo mine')
        wait_for(lambda: parts.json('show', job)['attempts'] >= 2, 'the first attempt is given up')
        wait_for(lambda: 'is not ours' in parts.log_of('worker-1'), 'the other container is seen')
        parts.ok('cancel', job)
        ended(parts, job)
        wait_for(lambda: not os.listdir(os.path.join(parts.state, 'worker-1/containers/run')), 'its files are gone')
        assert not [r for r in fake.requests if r[0] == 'DELETE'], 'a container that is not ours was removed'


# --- workers that die ---

def kill_points(parts, engine, count, seed, jobs_each=3):
    """kill -9 at instants between the start of a job and the end of its removal; each attempt runs at most once."""
    chance = random.Random(seed)
    ledger = os.path.join(parts.directory, 'shared')
    os.makedirs(ledger, exist_ok=True)
    os.chmod(ledger, 0o777)
    parts.start_master('--lost-after', '20s', '--heartbeat', '200ms', '--suspect', '2s', '--down', '10s', '--lease', '5s', '--resend', '1s')
    parts.start_worker(1, '--exec', 'docker', '--cpus', '4', '--container-mounts', ledger)
    parts.wait_nodes(1)
    jobs = []
    for _ in range(count):
        script = f'echo "$ROTA_JOB_ID $ROTA_ATTEMPT" >> {ledger}/ledger; echo before; sleep 0.2; echo after; exit $((ROTA_JOB_ID % 3 == 0))'
        jobs += [sh(parts, script, '--cpus', '0.5') for _ in range(jobs_each)]
        time.sleep(chance.uniform(0, 1.2))
        parts.crash('worker-1')
        parts.start_worker(1)
    for job in jobs:
        after = ended(parts, job)
        assert after['state'] == ('failed' if job % 3 == 0 else 'succeeded'), after
        assert job % 3 or after['reason'] == 'exit', after
        assert logs(parts, job) == b'before\nafter\n'
    with open(os.path.join(ledger, 'ledger'), encoding='utf-8') as f:
        runs = f.read().split('\n')[:-1]
    assert len(runs) == len(set(runs)), 'an attempt ran twice'
    assert {int(run.split()[0]) for run in runs} == set(jobs)
    none_left(engine)
    wait_for(lambda: not os.listdir(os.path.join(parts.state, 'worker-1/containers/run')) and
             not os.listdir(os.path.join(parts.state, 'worker-1/containers/gone')), 'no files of containers are left')


def test_worker_killed_anywhere(parts, engine):
    kill_points(parts, engine, int(os.environ.get('ROTA_TEST_DOCKER_KILLS', '5')), int(os.environ.get('ROTA_TEST_SEED', '1')))


# --- engines that die ---

@pytest.mark.parametrize('live_restore', [False, True], ids=['plain', 'live-restore'])
@pytest.mark.parametrize('how', ['KILL', 'TERM'])
def test_engine_dies_under_jobs(how, live_restore):
    """No false success, no lost output: what ends while the engine is away ends as it did; what the engine ends is run again."""
    with Engine(live_restore=live_restore) as engine:
        parts = make(Parts)
        parts.environment['DOCKER_HOST'] = engine.address
        try:
            parts.start_master()
            parts.start_worker(1, '--exec', 'docker', '--cpus', '8')
            parts.wait_nodes(1)
            again = '[ $ROTA_ATTEMPT -gt 1 ] && { echo again; exit 9; }; '
            good = sh(parts, again + 'echo start; sleep 3; echo done')
            bad = sh(parts, again + 'echo start; sleep 3; echo done; exit 5')
            trap = sh(parts, again + "trap 'echo trapped; exit 0' TERM; echo start; while :; do sleep 0.1; done")
            jobs = (good, bad, trap)
            for job in jobs:
                wait_for(lambda j=job: logs(parts, j) == b'start\n', f'job {job} has begun')
            engine.kill(signal.SIGKILL if how == 'KILL' else signal.SIGTERM)
            process = parts.ok('run', '--', 'echo', 'process')
            time.sleep(4)
            engine.start()
            if how == 'KILL' or live_restore:
                # The engine was away, and the containers were not.
                assert ended(parts, good)['state'] == 'succeeded'
                assert logs(parts, good) == b'start\ndone\n'
                after = ended(parts, bad)
                assert (after['state'], after['exit_code']) == ('failed', 5)
                assert logs(parts, bad) == b'start\ndone\n'
            else:
                # It stopped them when it went: nothing of that is a success, and each runs again.
                for job in (good, bad):
                    after = ended(parts, job)
                    assert (after['state'], after['exit_code'], after['attempts']) == ('failed', 9, 2), after
                    assert logs(parts, job) == b'again\n'
            if live_restore:
                assert show(parts, trap)['state'] == 'running'
                parts.ok('cancel', trap)
                assert ended(parts, trap)['state'] == 'cancelled'
                assert logs(parts, trap) == b'start\ntrapped\n'
            else:
                after = ended(parts, trap)
                assert (after['state'], after['exit_code'], after['attempts']) == ('failed', 9, 2), after
            assert process == 'process\n'
            none_left(engine)
        finally:
            remove(parts)
