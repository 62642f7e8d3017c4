"""What somebody types in the first minutes must do what the README says."""
import os
import re
import subprocess

from conftest import ROOT, ROTA


def test_run_prints_and_passes_the_exit_code_on(shared_cluster):
    result = shared_cluster.rota('run', '--', 'sh', '-c', 'echo hi; exit 3')
    assert (result.stdout, result.returncode) == ('hi\n', 3), result.stderr


def test_run_keeps_the_two_streams_apart(shared_cluster):
    result = shared_cluster.rota('run', '--', 'sh', '-c', 'echo out; echo err >&2')
    assert result.returncode == 0
    assert result.stdout == 'out\n'
    assert 'err\n' in result.stderr


def test_run_of_a_command_that_is_not_there_says_so(shared_cluster):
    result = shared_cluster.rota('run', '--', 'no-such-command-anywhere')
    assert result.returncode != 0
    assert 'no-such-command-anywhere' in result.stderr


def test_submit_prints_the_bare_id(shared_cluster):
    out = shared_cluster.ok('submit', '--', 'sleep', '1')
    assert re.fullmatch(r'[1-9][0-9]*\n', out)
    assert shared_cluster.rota('wait', out.strip()).returncode == 0
    assert shared_cluster.json('show', out.strip())['state'] == 'succeeded'


def test_a_job_file_with_keys_is_the_same_jobs_again(shared_cluster):
    """The command line gives each request a key; those in the file count more."""
    one, two = (os.path.join(shared_cluster.directory, name) for name in ('one.yaml', 'two.yaml'))
    with open(one, 'w', encoding='utf-8') as f:
        f.write('command: ["true"]\nkey: nightly\n')
    with open(two, 'w', encoding='utf-8') as f:
        f.write('jobs:\n- command: ["true"]\n  key: n1\n- command: ["true"]\n  key: n2\n')
    lines = '{"command":["true"],"key":"n1"}\n{"command":["true"],"key":"n3"}\n'
    for path in (one, two):
        first = shared_cluster.ok('submit', '-f', path).split()
        assert len(set(first)) == (1 if path == one else 2)
        assert shared_cluster.ok('submit', '-f', path).split() == first
    streamed = shared_cluster.ok('submit', '-f', '-', input=lines).split()
    assert streamed[0] == first[0] and streamed[1] not in first
    refused = shared_cluster.rota('submit', '-f', one, '--key', 'another')
    assert refused.returncode == 2 and 'give only one of them' in refused.stderr


def test_array_with_failures_is_counted(shared_cluster):
    result = shared_cluster.rota('submit', '--array', '1-1000%50', '--wait', '--progress', '--',
                                 'sh', '-c', 'exit $(( {} % 7 == 0 ))', timeout=600)
    assert result.returncode == 1, result.stderr
    job = result.stdout.split()[0]
    shown = shared_cluster.json('show', job)
    counts = shown.get('counts') or shown.get('tasks')
    assert counts['succeeded'] == 858 and counts['failed'] == 142, shown


def test_why_names_the_dimension_and_the_numbers(shared_cluster):
    job = shared_cluster.ok('submit', '--cpus', '1000', '--', 'true').strip()
    try:
        text = shared_cluster.ok('why', job)
        assert re.search(r'\bcpu', text, re.IGNORECASE), text
        assert '1000' in text, text
        told = shared_cluster.json('why', job)
        assert 'too_big' in str(told), told
    finally:
        shared_cluster.ok('cancel', job)


def test_jobs_see_who_they_are(shared_cluster):
    job = shared_cluster.ok('submit', '--array', '5-6', '--cpus', '0.5', '--wait', '--', 'sh', '-c',
                            'echo $ROTA_JOB_ID $ROTA_TASK_ID $ROTA_ATTEMPT $ROTA_CPUS ${#ROTA_FENCE} [$SECRET] {}',
                            ).split()[0]
    assert shared_cluster.ok('logs', f'{job}_6').split() == [job, '6', '1', '0.5', '32', '[]', '6']


def test_words_are_counted_as_by_a_plain_pipeline(shared_cluster):
    """The example, on a part of its input: the same script, with the sanitized binary and this cluster."""
    files = subprocess.run(['find', '/usr/share/common-licenses', '-type', 'f'], stdout=subprocess.PIPE, text=True,
                           check=True).stdout.split('\n')
    files = sorted(name for name in files if name)
    assert files, 'no licences on this machine'
    listing = os.path.join(shared_cluster.directory, 'files')
    with open(listing, 'w', encoding='utf-8') as f:
        f.write('\n'.join(files) + '\n')
    work = os.path.join(shared_cluster.directory, 'wordcount')
    result = subprocess.run(
        [os.path.join(ROOT, 'examples/wordcount/run')], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=600,
        env={**shared_cluster.environment, 'ROTA': ROTA, 'WORDCOUNT_WORK': work, 'WORDCOUNT_FILES': listing,
             'WORDCOUNT_CHUNK': '2', 'WORDCOUNT_CONFIG': shared_cluster.environment['XDG_CONFIG_HOME'],
             'WORDCOUNT_STATE': shared_cluster.state})
    assert result.returncode == 0, result.stderr
    assert 'equal to a plain pipeline' in result.stdout
    with open(os.path.join(work, 'result'), encoding='utf-8') as f:
        counted = dict(line.split() for line in f)
    assert int(counted['the']) > 100
