"""tools/limit, by which tools/test ends what hangs: a program and all it started, in whatever session."""
import os
import subprocess

import pytest

from conftest import ROOT, processes_with

LIMIT = os.path.join(ROOT, 'tools/limit')


def limit(seconds, script):
    # Its output is read to the end: nobody may hold the pipe any more.
    return subprocess.run([LIMIT, str(seconds), 'sh', '-c', script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=100, check=False)


@pytest.mark.parametrize('script, code', [('exit 0', 0), ('exit 3', 3), ('kill -9 $$', 137), ('exec /nosuch', 127)])
def test_the_exit_code_is_the_programs(script, code):
    assert limit(60, script).returncode == code


def test_what_hangs_is_ended_with_all_that_it_started():
    result = limit(1, 'setsid sleep 98765 & sleep 98765')
    assert result.returncode == 124 and 'longer than 1 s' in result.stdout, result
    assert not processes_with('sleep 98765')


def test_what_is_left_behind_is_ended_and_is_a_failure():
    result = limit(60, '(setsid sleep 87654 &); echo done')
    assert result.returncode == 125 and 'left behind' in result.stdout and 'sleep 87654' in result.stdout, result
    assert not processes_with('sleep 87654')
    # A failure of the program's own counts first.
    assert limit(60, '(setsid sleep 87654 &); exit 7').returncode == 7


def test_a_child_that_ends_soon_is_waited_for():
    assert limit(60, '(setsid sleep 0.5 &); exit 0').returncode == 0
