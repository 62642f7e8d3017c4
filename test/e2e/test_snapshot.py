"""Snapshots of the state: a start reads the last one and what came after; without a good one it reads the whole journal."""
import os
import re
import shutil
import tempfile

import pytest

from conftest import wait_for
from parts import Parts


@pytest.fixture
def parts():
    made = Parts(tempfile.mkdtemp(prefix='rota-snapshot-'))
    yield made
    made.stop()
    shutil.rmtree(made.directory, ignore_errors=True)


def snapshots(parts):
    return [int(seq) for seq in re.findall(r' snapshot seq=(\d+) ', parts.log_of('master'))]


def replayed(parts):
    """Of the last start: records read after the snapshot, and the snapshot's number."""
    return [int(n) for n in re.findall(r'store replayed records=(\d+) snapshot_seq=(\d+)', parts.log_of('master'))[-1]]


def everything(parts):
    """What users see of jobs, without what changes by itself."""
    answer = parts.json('ls')
    return [{key: job[key] for key in ('id', 'name', 'state', 'tasks', 'submitted_at') if key in job} for job in answer['jobs']]


def fill(parts):
    parts.start_master('--snapshot-records', '300')
    parts.start_worker(1, '--exec', 'fake', '--cpus', '4')
    parts.wait_nodes(1)
    parts.ok('submit', '--array', '1-400', '--', 'sleep', '0')
    parts.ok('wait', 'all')
    parts.ok('submit', '--hold', '--name', 'held', '--', 'true')
    parts.ok('submit', '--cpus', '1000', '--array', '1-5000%3', '--name', 'large', '--', 'true')
    wait_for(lambda: snapshots(parts), 'a snapshot is made')


def test_a_start_reads_what_came_after_the_snapshot(parts):
    fill(parts)
    seq = snapshots(parts)[-1]
    before = everything(parts)
    parts.ok('submit', '--hold', '--name', 'later', '--', 'true')
    parts.crash('master')
    checked = parts.ok('inspect', os.path.join(parts.state, 'master'))
    assert re.search(r'snapshot +of record \d+, gives what the whole journal gives', checked)
    parts.start_master()
    records, from_seq = replayed(parts)
    assert from_seq >= seq and records < 1000
    after = everything(parts)
    assert [job for job in after if job['name'] != 'later'] == before
    assert len(after) == len(before) + 1
    # And with the worker that ran on: what waits goes on.
    parts.wait_nodes(1)
    assert parts.rota('run', '--', 'sleep', '0').returncode == 0
    parts.crash('master')
    assert parts.json('inspect', os.path.join(parts.state, 'master'))['snapshot_seq'] >= seq


def test_a_damaged_snapshot_is_told_and_not_used(parts):
    fill(parts)
    before = everything(parts)
    parts.crash('master')
    path = os.path.join(parts.state, 'master', 'store.snapshot')
    with open(path, 'r+b') as f:
        f.seek(os.path.getsize(path) // 2)
        byte = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte[0] ^ 4]))
    found = parts.rota('inspect', os.path.join(parts.state, 'master'))
    assert found.returncode == 65 and 'store.snapshot' in found.stderr and 'remove store.snapshot' in found.stderr
    parts.start_master('--snapshot-records', '0')
    assert 'the snapshot is not used, the whole journal was read' in parts.log_of('master')
    assert replayed(parts)[1] == 0
    assert everything(parts) == before
    # The next one replaces it.
    parts.crash('master')
    parts.start_master('--snapshot-records', '300')
    wait_for(lambda: ' snapshot seq=' in parts.log_of('master').split('store replayed')[-1], 'a new one')
    parts.crash('master')
    assert 'gives what the whole journal gives' in parts.ok('inspect', os.path.join(parts.state, 'master'))
