"""A backup put in the place of the store: what is lost is told, nothing is used twice, nothing that runs is killed."""
import os
import shutil
import tempfile

import pytest

from conftest import PATIENCE_S, wait_for
from parts import Parts

JUMP = 1000000  # ROLLBACK_JOBS in core/sched/sched.h


@pytest.fixture
def parts():
    made = Parts(tempfile.mkdtemp(prefix='rota-e2e-'))
    yield made
    made.stop()
    shutil.rmtree(made.directory, ignore_errors=True)


def store_of(parts, name='store.db'):
    return os.path.join(parts.state, 'master', name)


def put_back(parts, backup):
    """What `rota backup --help` says."""
    for name in ('store.db', 'store.db-wal', 'store.db-shm'):
        if os.path.exists(store_of(parts, name)):
            os.rename(store_of(parts, name), store_of(parts, name) + '.old')
    shutil.copy(backup, store_of(parts))


def refused(parts, *options):
    """Starts a master that must not lead; its last words."""
    process = parts.start_master(*options, ready=False)
    assert process.wait(timeout=PATIENCE_S) == 65, parts.log_of('master')
    del parts.processes['master']
    return parts.log_of('master').strip().splitlines()[-1]


def bystander(parts, name):
    """A job that runs until its file is there, and its file."""
    path = os.path.join(parts.directory, name)
    job = int(parts.ok('submit', '--name', name, '--', 'sh', '-c', f'until [ -e {path} ]; do sleep 0.1; done; exit 7'))
    wait_for(lambda: parts.json('show', job)['state'] == 'running', f'{name} runs')
    return job, path


def test_a_backup_that_holds_everything_is_a_store(parts):
    parts.start_master()
    job = int(parts.ok('submit', '--hold', '--', 'true'))
    backup = os.path.join(parts.directory, 'b.db')
    assert 'checked' in parts.rota('backup', backup).stderr
    parts.crash('master')
    put_back(parts, backup)
    parts.start_master()
    assert 'a backup that was put in its place; nothing is known to be lost' in parts.log_of('master')
    assert parts.json('show', job)['state'] == 'held'
    assert int(parts.ok('submit', '--hold', '--', 'true')) == job + 1


def test_what_was_recorded_since_is_told_and_must_be_accepted(parts):
    parts.start_master()
    parts.start_worker(1, '--cpus', '8')
    parts.wait_nodes(1)
    queued = int(parts.ok('submit', '--cpus', '1000', '--', 'true'))
    old, old_file = bystander(parts, 'old')
    held = int(parts.ok('submit', '--hold', '--name', 'again', '--', 'sh', '-c', 'echo $ROTA_ATTEMPT'))
    backup = os.path.join(parts.directory, 'b.db')
    parts.ok('backup', backup)
    parts.ok('release', held)  # its first attempt is not in the backup
    assert parts.rota('wait', held).returncode == 0
    young, young_file = bystander(parts, 'young')
    parts.crash('master')

    # The log of the old store would be taken for its own: not touched, refused.
    shutil.copy(store_of(parts), store_of(parts, 'old.db'))
    shutil.copy(backup, store_of(parts))
    assert 'the log of another store lies beside it' in refused(parts)
    shutil.copy(store_of(parts, 'old.db'), store_of(parts))
    put_back(parts, backup)
    words = refused(parts)
    assert 'the backup ends at record' in words and 'were acknowledged' in words and '--accept-rollback' in words
    assert refused(parts) == words  # as often as it is tried

    parts.start_master('--accept-rollback')
    log = parts.log_of('master')
    assert 'are lost: the store goes on behind record' in log and 'rollback accepted' in log
    parts.wait_nodes(1)
    # What it knows goes on; what it does not know runs on and is listed.
    assert parts.json('show', queued)['state'] == 'queued'
    orphans = wait_for(lambda: parts.json('nodes', 'worker-1')['orphans'], 'the orphan is listed')
    assert [(o['job'], o['task'], o['attempt'], o['phase']) for o in orphans] == [(young, None, 1, 'running')]
    assert f'job {young}, attempt 1, running' in parts.rota('nodes', 'worker-1').stderr
    assert 'holds 1 attempts that the store does not know' in parts.log_of('master')
    # No number is used twice: neither of a job nor of an attempt.
    assert int(parts.ok('submit', '--hold', '--', 'true')) > JUMP
    parts.ok('release', held)
    assert parts.rota('wait', held).returncode == 0
    assert parts.ok('logs', held).strip() == '1001'
    # Both end as they would have; the end of the orphan is in the journal, and its worker lets go of it.
    open(young_file, 'w').close()
    wait_for(lambda: not parts.json('nodes', 'worker-1')['orphans'], 'the orphan is gone')
    assert 'superseded' in parts.ok('events', '--since', '0')
    open(old_file, 'w').close()
    assert parts.rota('wait', old).returncode == 7
    # The next start needs nothing special, and what was left out stays left out.
    parts.crash('master')
    parts.start_master('--log-level', 'info')
    assert int(parts.ok('submit', '--hold', '--', 'true')) == JUMP + held + 2
    parts.crash('master')
    assert 'ok' in parts.ok('inspect', os.path.join(parts.state, 'master'))


def test_workers_that_know_better_stop_a_master_with_an_older_store(parts):
    """The whole directory was put back: only the workers can tell."""
    parts.start_master()
    parts.start_worker(1, '--cpus', '2')
    parts.wait_nodes(1)
    backup = os.path.join(parts.directory, 'b.db')
    parts.ok('backup', backup)
    for _ in range(2):
        parts.crash('master')
        parts.start_master()
        parts.wait_nodes(1)
    job, path = bystander(parts, 'young')
    parts.crash('master')
    put_back(parts, backup)
    os.unlink(store_of(parts, 'store.lock'))
    words = refused(parts)
    assert 'the store is older than the fleet: worker worker-1 has seen epoch 3, this master leads epoch 2' in words
    assert '--accept-rollback' in words
    # A start raises the epoch: this one would lead the one that the worker has seen, but not of this store.
    assert 'the store is older than the fleet' in refused(parts)
    parts.start_master('--accept-rollback')
    parts.wait_nodes(1)
    orphans = wait_for(lambda: parts.json('nodes', 'worker-1')['orphans'], 'the orphan is listed')
    assert orphans[0]['job'] == job
    assert parts.json('stats')['epoch'] > JUMP
    open(path, 'w').close()
    wait_for(lambda: not parts.json('nodes', 'worker-1')['orphans'], 'the orphan is gone')
    assert int(parts.ok('submit', '--', 'true')) > JUMP
