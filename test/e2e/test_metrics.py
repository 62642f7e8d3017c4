"""What is measured: every row of schema/metrics.def is fed, moves when what it counts happens, and pleases promtool.

ROTA_UPDATE_GOLDEN=1 writes docs/metrics.md anew.
"""
import collections
import errno
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request

import pytest

from conftest import ROOT, ROTA, wait_for
from parts import Parts
from preload import Point

with open(os.path.join(ROOT, 'schema/metrics.def'), encoding='utf-8') as file:
    TABLE = file.read()
Row = collections.namedtuple('Row', 'id role kind name help labels section')


def rows():
    section, found = '', []
    for line in TABLE.splitlines():
        title = re.fullmatch(r'/\* --- (.*) --- \*/', line)
        row = re.fullmatch(r'METRIC\((\w+), (\w+), (\w+), "([^"]+)", "([^"]+)", (NULL|"[^"]+")\)', line)
        section = title.group(1) if title else section
        if row:
            found.append(Row(*row.groups()[:5], '' if row.group(6) == 'NULL' else row.group(6).strip('"'), section))
    assert len(found) == TABLE.count('\nMETRIC(')
    return found


ROWS = rows()


def read_text(url, token=None):
    request = urllib.request.Request(url, headers={'Authorization': f'Bearer {token}'} if token else {})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read().decode()


def samples(text):
    """'name{labels}' -> value"""
    found = {}
    for line in text.splitlines():
        if line and not line.startswith('#'):
            series, value = line.rsplit(' ', 1)
            assert series not in found, f'twice: {series}'
            found[series] = float(value)
    return found


def promtool(*arguments, text=None):
    assert shutil.which('promtool'), 'promtool is not there: tools/install test'
    return subprocess.run(['promtool', *arguments], input=text, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=120)


class Watched(Parts):
    def token(self):
        with open(self.environment['ROTA_TOKEN_FILE'], encoding='ascii') as token:
            return token.read().strip()

    def get(self, path):
        return read_text(self.environment['ROTA_MASTER'] + path, self.token())

    def targets(self):
        """name of the node, '' for the master -> HOST:PORT"""
        return {t['labels']['__meta_rota_node']: t['targets'][0] for t in json.loads(self.get('/v1/sd/prometheus'))}

    def master_text(self):
        return self.get('/metrics')

    def worker_text(self, number=1):
        return read_text(f'http://{self.targets()[f"worker-{number}"]}/metrics')

    def value(self, series):
        return samples(self.master_text()).get(series, 0)

    def moves(self, series, least=1):
        return wait_for(lambda: self.value(series) >= least, f'{series} does not reach {least}')


@pytest.fixture
def watched():
    directory = tempfile.mkdtemp(prefix='rota-metrics-')
    cluster = Watched(directory)
    cluster.start_master('--heartbeat', '200ms', '--suspect', '1s')
    try:
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)


# --- the table ---

def test_the_table_is_documented():
    lines = ['# Metrics', '', 'Made from schema/metrics.def; a test compares the two. The master serves them at `/metrics` of its API (role'
             ' viewer), each worker on its', 'own port; where that is, `/v1/sd/prometheus` tells. Counters that say "since the store was made" survive'
             ' a restart; the others begin again', 'at 0, as Prometheus expects. Histograms have the buckets 0.5 ms to 1 h. Every process also has the'
             ' usual `process_*`.', '']
    for section in dict.fromkeys(row.section for row in ROWS):
        lines += [f'## {section}', '', '| name | kind | labels | what |', '|---|---|---|---|']
        lines += [f'| `{r.name}` | {r.kind.lower()} | {r.labels.replace(",", ", ")} | {r.help} |' for r in ROWS if r.section == section]
        lines.append('')
    text = '\n'.join(lines)
    path = os.path.join(ROOT, 'docs/metrics.md')
    if os.environ.get('ROTA_UPDATE_GOLDEN'):
        with open(path, 'w', encoding='utf-8') as out:
            out.write(text)
    with open(path, encoding='utf-8') as kept:
        assert kept.read() == text, 'docs/metrics.md is not what schema/metrics.def says: ROTA_UPDATE_GOLDEN=1'


def test_every_metric_is_fed_by_those_who_show_it():
    fed = collections.defaultdict(set)
    for folder in ('master', 'worker'):
        for here, _, names in os.walk(os.path.join(ROOT, 'src', folder)):
            for name in names:
                if name.endswith('.c') and not name.endswith('_test.c'):
                    with open(os.path.join(here, name), encoding='utf-8') as source:
                        for used in re.findall(r'\bM_(\w+)', source.read()):
                            fed[used].add(folder.upper())
    for row in ROWS:
        wanted = {'MASTER', 'WORKER'} if row.role == 'BOTH' else {row.role}
        assert fed[row.id] == wanted, f'{row.name} is fed by {fed[row.id]}, the table says {row.role}'


# --- the text ---

def test_promtool_has_nothing_to_say(watched):
    watched.start_worker(1)
    watched.wait_nodes(1)
    watched.ok('run', '--', 'true')
    for text, role in ((watched.master_text(), 'MASTER'), (watched.worker_text(), 'WORKER')):
        result = promtool('check', 'metrics', text=text)
        assert (result.returncode, result.stdout) == (0, '')
        shown = set(re.findall(r'^# TYPE (rota_\w+)', text, re.M))
        assert shown == {r.name for r in ROWS if r.role in (role, 'BOTH')}
    assert promtool('check', 'metrics', text='# HELP a_total x\n# TYPE a_total gauge\na_total 1\n').returncode != 0


def test_no_name_of_a_job_or_user_becomes_a_label(watched):
    watched.start_worker(1)
    watched.wait_nodes(1)
    for number in range(100):
        watched.ok('submit', '--hold', '--name', f'secret-{number}', '--queue', f'queue-{number}', '--', 'true')
    text = watched.master_text()
    assert 'secret' not in text
    pending = {s: v for s, v in samples(text).items() if s.startswith('rota_pending_jobs')}
    assert len(pending) == 64 and sum(pending.values()) == 100
    assert pending['rota_pending_jobs{queue="other",reason="held"}'] == 100 - 63


# --- the values ---

def test_waiting_tasks_are_counted_by_queue_and_reason(watched):
    ids = {}
    watched.ok('submit', '--', 'true')
    watched.moves('rota_pending_jobs{queue="default",reason="no_nodes"}')
    watched.start_worker(1, '--cpus', '2')
    watched.wait_nodes(1)
    watched.moves('rota_jobs_finished_total{outcome="succeeded"}')

    def submit(key, *options):
        ids[key] = watched.ok('submit', *options).strip()

    submit('blocker', '--queue', 'night', '--cpus', '2', '--', 'sleep', '600')
    watched.moves('rota_queue_jobs{queue="night",state="running"}')
    submit('too_big', '--cpus', '64', '--', 'true')
    submit('resources', '--cpus', '2', '--array', '1-5', '--', 'true')
    submit('held', '--hold', '--', 'true')
    submit('held_array', '--hold', '--array', '1-7', '--', 'true')
    submit('dependency', '--after', ids['held'], '--', 'true')
    submit('begin', '--begin', 'now+1h', '--', 'true')
    expected = {'too_big': 1, 'resources': 5, 'held': 8, 'dependency': 1, 'begin': 1, 'no_nodes': 0}
    now = samples(watched.master_text())
    for reason, count in expected.items():
        assert now.get(f'rota_pending_jobs{{queue="default",reason="{reason}"}}', 0) == count, reason
    assert now['rota_queue_jobs{queue="night",state="running"}'] == 1 and now['rota_jobs{state="running"}'] == 1
    assert now['rota_oldest_wait_seconds{queue="night"}'] == 0
    first = now['rota_oldest_wait_seconds{queue="default"}']
    wait_for(lambda: watched.value('rota_oldest_wait_seconds{queue="default"}') > first, 'the oldest wait does not grow')
    # What is said of one job and what is counted agree.
    for key in ('too_big', 'resources', 'held', 'dependency', 'begin'):
        assert watched.json('why', ids[key])['reason'] == key
    watched.ok('cancel', 'all')
    watched.moves('rota_jobs_finished_total{outcome="cancelled"}', 1 + 1 + 5 + 1 + 7 + 1)
    ended = ('rota_jobs_finished_total{outcome="cancelled"}', 'rota_jobs_finished_total{outcome="failed"}')
    wait_for(lambda: sum(map(watched.value, ended)) == 17, 'the one that waited for a cancelled job does not end')
    now = samples(watched.master_text())
    assert not any(v for s, v in now.items() if s.startswith(('rota_pending_jobs', 'rota_jobs{', 'rota_queue_jobs', 'rota_oldest')))


def nvidia_smi(directory, line):
    """The environment of a worker that finds a tool that says this of its GPUs."""
    folder = os.path.join(directory, 'bin')
    os.mkdir(folder)
    path = os.path.join(folder, 'nvidia-smi')
    with open(path, 'w', encoding='ascii') as f:
        f.write(f"#!/bin/sh\necho '{line}'\n")
    os.chmod(path, 0o755)
    return {'PATH': folder + ':' + os.environ['PATH']}


def test_everything_moves(watched):
    watched.start_worker(1, '--cpus', '2', '--gpus', '1', extra_env=nvidia_smi(watched.directory, '50, 100, 16384'))
    watched.start_worker(2, '--cpus', '1')
    watched.wait_nodes(2)
    watched.ok('run', '--cpus', '1', '--', 'sleep', '1')
    watched.rota('run', '--gpus', '1', '--', 'sh', '-c', 'exit 3')
    watched.rota('run', '--gpus', '1', '--', '/no/such/command')
    watched.rota('run', '--retries', '1', '--backoff', '10ms', '--', 'false')
    master = watched.environment['ROTA_MASTER']
    for token, status in (('rota_' + 'x' * 43, 401), (watched.token(), 400)):
        request = urllib.request.Request(master + '/v1/jobs', b'{}', {'Authorization': f'Bearer {token}', 'Content-Type': 'application/json'})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=60)
        assert refused.value.code == status
    with socket.create_connection(('127.0.0.1', watched.port)) as garbage:
        garbage.sendall(b'nonsense\r\n\r\n')
        garbage.recv(1000)
    stream = urllib.request.urlopen(urllib.request.Request(master + '/v1/events', headers={'Authorization': f'Bearer {watched.token()}'}), timeout=60)
    job = watched.ok('submit', '--gpus', '1', '--mem', '64M', '--', 'sh', '-c', 'while :; do :; done').strip()
    watched.moves('rota_jobs{state="running"}')
    watched.moves('rota_cpu_used_cores', 0.01)
    watched.ok('submit', '--cpus', '3', '--', 'true')
    watched.moves('rota_gpu_memory_used_bytes')
    gpus = watched.json('nodes', 'worker-1')['machine']['gpus']
    assert gpus == {'count': 1, 'used': 0.5, 'mem_used_bytes': 100 << 20, 'mem_bytes': 16384 << 20}
    assert '0.50 of 1 GPUs with 100M of 16G' in watched.ok('nodes', 'worker-1')
    watched.crash('worker-2')
    watched.moves('rota_node_changes_total{state="suspect"}')
    moved_master = {}

    def with_the_node_ready():  # on a busy machine it is silent for too long at times
        moved_master.update(samples(watched.master_text()))
        return moved_master['rota_cpu_used_cores'] > 0

    wait_for(with_the_node_ready, 'the use of CPUs does not move')
    stream.close()
    moved_worker = samples(watched.worker_text(1))
    elsewhere = {  # move in the next tests, in test_cron.py, test_notify.py, test_plan.py and test_hostile_input.py
        ('MASTER', 'rota_store_low'), ('WORKER', 'rota_worker_disk_low'), ('WORKER', 'rota_bus_reconnects_total'),
        ('WORKER', 'rota_worker_reports_unacknowledged'), ('MASTER', 'rota_notices_pending'), ('MASTER', 'rota_notices_total'),
        ('MASTER', 'rota_cron_entries'), ('MASTER', 'rota_cron_due_total'),
        ('MASTER', 'rota_store_errors_total'), ('MASTER', 'rota_store_pending_records'), ('WORKER', 'rota_http_refused_total'),
        ('WORKER', 'rota_worker_spool_bytes'), ('MASTER', 'rota_sse_gaps_total'),
        ('MASTER', 'rota_start_estimate_error_seconds'),
    }
    only_when_ill = {  # a lost race, a broker's faults: test_amqp.py, but for what is dropped
        ('MASTER', 'rota_stale_messages_total'), ('MASTER', 'rota_bus_reconnects_total'), ('MASTER', 'rota_bus_dropped_messages_total'),
        ('WORKER', 'rota_bus_dropped_messages_total'),
    }
    for row in ROWS:
        for role, values in (('MASTER', moved_master), ('WORKER', moved_worker)):
            if row.role in (role, 'BOTH') and (role, row.name) not in elsewhere | only_when_ill:
                name = row.name + ('_count' if row.kind == 'HISTOGRAM' else '')
                assert any(v > 0 for s, v in values.items() if s.split('{')[0] == name), f'{name} of the {role.lower()} does not move'
    assert moved_master['rota_jobs_failed_total{reason="exit"}'] == 2
    assert moved_master['rota_jobs_failed_total{reason="spawn"}'] == 1
    assert moved_master['rota_attempts_retried_total{reason="exit"}'] == 1
    assert moved_master['rota_gpu_allocated'] == 1 and moved_worker['rota_worker_gpu_allocated'] == 1
    assert moved_worker['rota_worker_spawn_failures_total{reason="spawn"}'] == 1
    watched.ok('cancel', job)


def test_what_goes_wrong_is_counted(watched):
    watched.start_worker(1)
    watched.wait_nodes(1)
    watched.ok('run', '--', 'sh', '-c', 'head -c 5000 /dev/zero')
    watched.crash('worker-1')
    watched.start_worker(1)  # which looks at what its jobs have left
    watched.wait_nodes(1)
    host, port = watched.targets()['worker-1'].split(':')
    with socket.create_connection((host, int(port))) as garbage:
        garbage.sendall(b'nonsense\r\n\r\n')
        garbage.recv(1000)
    worker = samples(watched.worker_text())
    assert worker['rota_http_refused_total'] == 1
    wait_for(lambda: samples(watched.worker_text())['rota_worker_spool_bytes'] >= 5000, 'what jobs have left is not counted')

    watched.crash('master')
    slow = Point(os.path.join(watched.directory, 'slow'), 'master', fault=('fdatasync', 6, 1000, 0), delay_ms=300)
    watched.start_master(extra_env=slow.environment())
    submitting = []

    def something_waits_for_the_disk():
        submitting.append(subprocess.Popen([ROTA, 'submit', '--', 'true'], env=watched.environment, stdout=subprocess.DEVNULL))
        return watched.value('rota_store_pending_records')

    wait_for(something_waits_for_the_disk, 'what is not durable yet is not counted')
    assert not any(process.wait(timeout=120) for process in submitting)

    watched.crash('master')
    full = Point(os.path.join(watched.directory, 'full'), 'master', fault=('pwrite64', 150, 1, errno.ENOSPC))
    watched.start_master(extra_env=full.environment())
    for _ in range(200):
        if full.faults() >= 150:
            break
        watched.rota('submit', '--hold', '--', 'true')
    watched.moves('rota_store_errors_total')


def test_restart_keeps_what_is_in_the_store_and_begins_the_rest_again(watched):
    watched.start_worker(1)
    watched.wait_nodes(1)
    for _ in range(3):
        watched.ok('run', '--', 'true')
    watched.rota('run', '--', 'false')
    watched.ok('submit', '--hold', '--queue', 'night', '--array', '1-9', '--', 'true')
    flag = os.path.join(watched.directory, 'go')
    watched.ok('submit', '--', 'sh', '-c', f'while [ ! -e {flag} ]; do sleep 0.05; done')
    watched.moves('rota_jobs{state="running"}')
    before = samples(watched.master_text())
    worker = watched.targets()['worker-1']

    def of_worker(name):
        return samples(read_text(f'http://{worker}/metrics'))[name]

    watched.crash('master')
    with open(flag, 'w', encoding='ascii'):
        pass
    wait_for(lambda: of_worker('rota_worker_reports_unacknowledged') == 1, 'the end that nobody hears of is not counted')
    assert of_worker('rota_worker_master_connected') == 0
    watched.start_master()
    watched.wait_nodes(1)
    wait_for(lambda: of_worker('rota_worker_reports_unacknowledged') == 0, 'the end is not confirmed')
    assert of_worker('rota_bus_reconnects_total') >= 1 and of_worker('rota_worker_master_connected') == 1
    after = samples(watched.master_text())
    assert after['rota_jobs_finished_total{outcome="succeeded"}'] == before['rota_jobs_finished_total{outcome="succeeded"}'] + 1
    for series in ('rota_jobs_submitted_total', 'rota_jobs_failed_total{reason="exit"}',
                   'rota_attempts_started_total', 'rota_pending_jobs{queue="night",reason="held"}'):
        assert before[series] == after[series] > 0, series
    assert before['rota_run_seconds_count'] == 4 and after['rota_run_seconds_count'] == 1
    assert after['process_start_time_seconds'] > before['process_start_time_seconds']


def test_low_disks_are_shown():
    directory = tempfile.mkdtemp(prefix='rota-metrics-')
    cluster = Watched(directory)
    try:
        cluster.start_master('--store-reserve', '1T')
        cluster.start_worker(1, '--disk-reserve', '1T')
        wait_for(lambda: len(cluster.targets()) == 2, 'the worker is not heard of')
        cluster.moves('rota_store_low')
        assert samples(cluster.worker_text())['rota_worker_disk_low'] == 1
        assert cluster.rota('submit', '--', 'true', timeout=60).returncode != 0
        cluster.moves('rota_jobs_rejected_total{reason="no_space"}')
    finally:
        cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)


# --- where they are ---

def test_targets_appear_and_stay_while_their_node_is_known(watched):
    assert list(watched.targets()) == ['']
    assert 'rota_leader 1' in read_text(f'http://{watched.targets()[""]}/metrics', watched.token())
    watched.start_worker(1)
    watched.start_worker(2, '--metrics-port', '0')
    watched.start_worker(3, '--no-metrics')
    watched.wait_nodes(3)
    assert set(watched.targets()) == {'', 'worker-1', 'worker-2'}
    for number in (1, 2):
        assert 'rota_worker_master_connected 1' in watched.worker_text(number)
    watched.crash('worker-2')
    wait_for(lambda: any(t['labels']['__meta_rota_node_state'] == 'suspect' for t in json.loads(watched.get('/v1/sd/prometheus'))),
             'the state of a node that is gone is not told')
    assert 'worker-2' in watched.targets()


def test_only_a_loopback_address_unless_told_otherwise(watched):
    worker = watched.start_worker(1, '--metrics-address', '0.0.0.0')
    assert worker.wait(timeout=60) == 78
    assert 'can be reached from other machines' in watched.log_of('worker-1')
    watched.processes.pop('worker-1')
