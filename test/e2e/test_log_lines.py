"""What the daemons write to standard error: one line per fact, to be searched by job and node."""
import json
import os
import shutil
import tempfile

import pytest

from conftest import wait_for
from parts import Parts


@pytest.fixture
def parts():
    directory = tempfile.mkdtemp(prefix='rota-lines-')
    cluster = Parts(directory)
    try:
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)


def lines_of(cluster, name):
    with open(os.path.join(cluster.directory, name + '.log'), encoding='utf-8') as log:
        return log.read().splitlines()


def test_json_lines_name_jobs_and_nodes(parts):
    parts.start_master('--log-json', '--log-level', 'debug', '--suspect', '1s', '--heartbeat', '200ms')
    parts.start_worker(1, '--log-json')
    parts.wait_nodes(1)
    job = int(parts.ok('submit', '--name', 'sh "quoted" \\ name', '--', 'false'))
    parts.rota('wait', job)
    parts.crash('worker-1')
    wait_for(lambda: any('"suspect"' in line for line in lines_of(parts, 'master')), 'the log does not tell of the node')
    facts = [json.loads(line) for line in lines_of(parts, 'master')]
    assert all({'time', 'level', 'role', 'message'} <= set(fact) for fact in facts)
    nodes = [(fact['level'], fact['message'], fact['state']) for fact in facts if fact.get('node') == 'worker-1' and 'state' in fact]
    assert [state for _, _, state in nodes] == ['joining', 'ready', 'suspect']
    assert nodes[1][:2] == ('INFO', 'node is ready') and nodes[2][0] == 'WARN'
    mine = [fact['message'] for fact in facts if fact.get('job') == job]
    assert mine[0].startswith('job.submitted') and {'job.dispatched', 'job.ended'} <= set(mine)
    assert all(json.loads(line)['role'] for line in lines_of(parts, 'worker-1'))


def test_jobs_are_not_in_the_log_unless_asked_for(parts):
    parts.start_master()
    parts.start_worker(1)
    parts.wait_nodes(1)
    parts.ok('run', '--', 'true')
    text = '\n'.join(lines_of(parts, 'master'))
    assert 'INFO master node is ready: node=worker-1 state=ready' in text and 'job.ended' not in text
