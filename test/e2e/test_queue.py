"""A long queue, of jobs and of one array: accepted in bulk with bounded memory, listed by pages, there after kill -9, ended by
`rota cancel all`. ROTA_QUEUE says how long: `make test` takes a short one, `make soak` 1,000,000."""
import http.client
import json
import os
import shutil
import subprocess
import tempfile

import pytest

from conftest import PATIENCE_S, ROTA
from parts import Parts

JOBS = int(os.environ.get('ROTA_QUEUE', '50000'))
PAGE = 1000
# Bounds that a program which keeps a copy of everything breaks, not measurements: those are in docs/performance.md. What the
# checking of memory itself takes comes on top.
SANITIZED = 'asan' in ROTA or 'ASAN_OPTIONS' in os.environ
JOB_BYTES = 8192 if SANITIZED else 2048
FIXED_BYTES = (1536 if SANITIZED else 384) << 20
SLOW_S = max(PATIENCE_S, JOBS / 200)


@pytest.fixture
def parts():
    made = Parts(tempfile.mkdtemp(prefix='rota-queue-'))
    yield made
    made.stop()
    shutil.rmtree(made.directory, ignore_errors=True)


def most_memory(pid):
    with open(f'/proc/{pid}/status', encoding='ascii') as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith('VmHWM:'))


def submit_in_bulk(parts):
    """Through the command line, from a pipe; the ids, and the most memory it took to send them."""
    client = subprocess.Popen([ROTA, 'submit', '-f', '-', '--json'], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              env=parts.environment, cwd=parts.directory)
    memory = 0
    for i in range(JOBS):
        client.stdin.write(b'{"command":["sleep","%d"],"name":"job-%d","cpus":1000,"priority":%d}\n' % (i % 100, i % 1000, i % 7))
        if i % 10000 == 9999:
            memory = max(memory, most_memory(client.pid))
    client.stdin.close()
    answer = json.loads(client.stdout.read())
    assert client.wait(timeout=SLOW_S) == 0, answer
    return answer, memory


def list_by_pages(parts):
    """Every job's id, as often as it is listed."""
    with open(parts.environment['ROTA_TOKEN_FILE'], encoding='ascii') as f:
        head = {'Authorization': 'Bearer ' + f.read().strip()}
    connection = http.client.HTTPConnection('127.0.0.1', parts.port, timeout=PATIENCE_S)
    ids, cursor = [], None
    while True:
        connection.request('GET', f'/v1/jobs?limit={PAGE}' + (f'&cursor={cursor}' if cursor else ''), headers=head)
        reply = connection.getresponse()
        page = json.loads(reply.read())
        assert reply.status == 200 and len(page['jobs']) <= PAGE, page
        ids += [job['id'] for job in page['jobs']]
        cursor = page['next']
        if not cursor:
            connection.close()
            return ids


def waiting(parts):
    tasks = parts.json('stats', timeout=SLOW_S)['tasks']
    return sum(tasks.get(state, 0) for state in ('held', 'blocked', 'queued', 'retry_wait'))


def test_a_long_queue(parts):
    parts.start_master('--log-level', 'info')
    before = most_memory(parts.processes['master'].pid)
    answer, client_memory = submit_in_bulk(parts)
    array = int(parts.ok('submit', '--array', f'1-{JOBS}', '--cpus', '1000', '--', 'true'))
    assert waiting(parts) == 2 * JOBS
    assert client_memory < FIXED_BYTES
    assert most_memory(parts.processes['master'].pid) - before < FIXED_BYTES + JOBS * JOB_BYTES

    ids = list_by_pages(parts)
    assert len(ids) == len(set(ids)) == JOBS + 1
    assert (min(ids), max(ids)) == (1, array)
    if 'first' in answer:
        assert (answer['first'], answer['last']) == (1, JOBS)

    parts.crash('master')
    parts.start_master()
    assert waiting(parts) == 2 * JOBS
    assert set(list_by_pages(parts)) == set(ids)
    assert most_memory(parts.processes['master'].pid) < FIXED_BYTES + JOBS * JOB_BYTES

    assert parts.rota('cancel', 'all', timeout=SLOW_S).returncode == 0
    assert waiting(parts) == 0
    assert parts.json('stats', timeout=SLOW_S)['totals']['cancelled'] == 2 * JOBS  # of jobs not all are kept in memory
    parts.crash('master')
    parts.start_master()
    assert waiting(parts) == 0
    assert parts.json('stats', timeout=SLOW_S)['totals']['cancelled'] == 2 * JOBS
    assert parts.json('show', array)['state'] == 'cancelled'
    parts.crash('master')
    assert 'views ok' in parts.ok('inspect', os.path.join(parts.state, 'master'), timeout=SLOW_S)
