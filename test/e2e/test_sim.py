"""The fault simulator: many seeds hold, one seed is one run, and bugs that are planted are found.

The numbers beside the planted bugs are the seeds that found them when they were planted; a change of the program changes what a
seed does, so the test asks only that some seed below the limit finds each.
"""
import os
import re
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ROTA = os.path.abspath(os.environ.get('ROTA', os.path.join(ROOT, 'build-asan/src/cli/rota')))
SIM = os.path.join(os.path.dirname(os.path.dirname(ROTA)), 'sim', 'rota-sim')
SEEDS = 500
LIMIT = 10000

PLANTED = {  # the seed from which it is looked for: where it is rare, the one that is known to find it
    'reply_before_commit': 2,
    'send_before_commit': 42,
    'commit_not_synced': 6,
    'no_fence': 2,
    'no_token': 6,
    'old_orders': 8,
    'start_twice': 11,
    'spawn_before_journal': 9,
    'exec_again': 1,
    'retry_cancelled': 5,
    'release_not_journalled': 1,
    'leak_resources': 2,
    'no_resend': 2,
    'infra_counts': 2,
    'overbook': 2,
    'place_twice': 2,
    'forget_returned': 2,
    'invent_success': 2,
    'snapshot_forgets': 1,
    'lease_from_answer': 3988,
    'start_unleased': 3331,
    'hold_ignored': 4,
    'renewal_forgotten': 4,
    'limit_off_by_one': 4,
    'paused_runs': 4,
    'token_not_woken': 11,
    'due_again': 2,
    'gang_torn': 1,
    'gang_of_one': 1,
}


def sim(program, *arguments):
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=1800)


def test_seeds_hold():
    done = sim(SIM, 1, SEEDS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f'{SEEDS} seeds from 1 on: every invariant held' in done.stdout


def test_a_seed_is_a_run():
    for seed in (3, 17, 42):
        first, second = sim(SIM, seed, 1, '--trace'), sim(SIM, seed, 1, '--trace')
        assert first.stdout == second.stdout
        assert first.stdout.count('\n') > 100
    assert sim(SIM, 3, 1, '--trace').stdout != sim(SIM, 4, 1, '--trace').stdout


def test_every_bug_that_can_be_planted_is_listed():
    with open(os.path.join(ROOT, 'src/base/bug.h'), encoding='utf-8') as f:
        assert set(re.findall(r'^\s+B\((\w+)', f.read(), re.M)) == set(PLANTED)


@pytest.fixture(scope='module')
def planted(tmp_path_factory):
    """A simulator of its own, with the bugs built in but switched off."""
    folder = str(tmp_path_factory.mktemp('planted'))
    for command in (['meson', 'setup', folder, '-Dplant_bugs=true'], ['ninja', '-C', folder, 'src/sim/rota-sim']):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return os.path.join(folder, 'src/sim/rota-sim')


def test_without_a_bug_it_holds(planted):
    assert sim(planted, 1, 100).returncode == 0


@pytest.mark.parametrize('bug', sorted(PLANTED))
def test_planted_bug_is_found(planted, bug):
    done = sim(planted, PLANTED[bug], LIMIT, '--bug', bug)
    assert done.returncode == 1, f'{bug} was not found in {LIMIT} seeds: {done.stdout[-500:]}'
    assert re.search(r'--seed \d+|in seed \d+', done.stdout)
