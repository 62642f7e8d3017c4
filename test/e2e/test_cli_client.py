"""The command line against a master that gives every answer and every fault (cli_fake_api.py)."""
import json
import os
import pty
import re
import resource
import select
import signal
import subprocess
import time

import pytest

from cli_fake_api import FakeApi

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ROTA = os.path.abspath(os.environ.get('ROTA', os.path.join(ROOT, 'build-asan/src/cli/rota')))
TOKEN = 'rota_test_0123456789abcdef'


@pytest.fixture
def api():
    api = FakeApi()
    yield api
    api.close()


@pytest.fixture
def environment(api, tmp_path):
    token = tmp_path / 'token'
    token.write_text(TOKEN + '\n')
    token.chmod(0o600)
    keep = {key: value for key, value in os.environ.items() if key in ('PATH', 'ASAN_OPTIONS', 'UBSAN_OPTIONS', 'LSAN_OPTIONS')}
    return {**keep, 'HOME': str(tmp_path), 'XDG_CONFIG_HOME': str(tmp_path / 'config'), 'TMPDIR': str(tmp_path), 'ROTA_MASTER': api.url,
            'ROTA_TOKEN_FILE': str(token), 'LC_ALL': 'C.UTF-8', 'TZ': 'UTC'}


@pytest.fixture
def rota(environment, tmp_path):
    def run(*arguments, program=ROTA, **more):
        if 'input' not in more:
            more.setdefault('stdin', subprocess.DEVNULL)
        return subprocess.run([program, *arguments], env={**environment, **more.pop('env', {})}, cwd=tmp_path, text=more.pop('text', True),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120, **more)
    return run


def on_terminal(environment, *arguments, more=lambda fd: None):
    """Output and exit code of a command whose stdin, stdout and stderr are a terminal."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(ROTA, [ROTA, *arguments], {**environment, 'TERM': 'xterm', 'COLUMNS': '120'})
    seen = b''
    more(fd)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if not select.select([fd], [], [], 0.2)[0]:
            continue
        try:
            piece = os.read(fd, 65536)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    os.close(fd)
    return seen.decode('utf-8', 'surrogateescape').replace('\r\n', '\n'), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def job(number, state='queued', **more):
    return {'id': number, 'name': 'n', 'user': 'u', 'queue': 'default', 'state': state, 'priority': 0, 'cpus': 1, 'mem_bytes': 0, 'gpus': 0, 'resources': {},
            'array': False, 'tasks': 1, 'counts': {state: 1}, 'submitted_at': '2026-11-23T10:00:00.000Z', 'started_at': None, 'ended_at': None,
            'attempts': 0, 'node': None, 'reason': None, 'exit_code': None, 'signal': None, **more}


# --- requests ---

def test_every_request_carries_the_token_and_no_other_host_gets_it(rota, api, tmp_path):
    api.on('GET /v1/stats', {'json': {}})
    assert rota('stats').returncode == 0
    assert api.requests[0]['headers']['Authorization'] == f'Bearer {TOKEN}'
    # The token of the profile belongs to the master of the profile.
    profile = tmp_path / 'profile.yaml'
    profile.write_text(f'url: http://127.0.0.1:1\ntoken_file: {tmp_path}/token\n')
    env = {'ROTA_PROFILE': str(profile), 'ROTA_TOKEN_FILE': ''}
    assert rota('stats', env=env).returncode == 0
    assert 'Authorization' not in api.requests[-1]['headers']
    profile.write_text(f'url: {api.url}/\ntoken_file: {tmp_path}/token\n')
    rota('stats', env=env)
    assert api.requests[-1]['headers']['Authorization'] == f'Bearer {TOKEN}'


@pytest.mark.parametrize('status, code', [(400, 2), (401, 6), (403, 6), (404, 3), (405, 2), (409, 2), (413, 2), (421, 6), (429, 2), (500, 5), (503, 5), (504, 4)])
def test_problems_are_told_and_have_their_exit_codes(rota, api, status, code):
    api.on('GET /v1/stats', {'status': status, 'json': {'title': 't', 'status': status, 'field': 'f', 'detail': 'what is wrong', 'remedy': 'do this'}})
    result = rota('stats')
    assert (result.returncode, result.stdout, result.stderr) == (code, '', 'rota: f: what is wrong; do this\n')


def test_answers_that_are_not_ours_are_survived(rota, api):
    for text in ('', '<html>', '{"a":', '[1,2', '{"id": 99999999999999999999999}', '\x00\xff'):
        for status in (200, 404, 500):
            api.on('GET /v1/stats', {'status': status, 'text': text})
            result = rota('stats')
            assert result.returncode in (2, 3, 5) and result.stderr.startswith('rota: '), (text, status, result)
    for wrong in ([], 7, None, 'x', {'jobs': 7}, {'jobs': [7, None, {'id': 'x', 'counts': 3, 'submitted_at': 'yesterday'}], 'counts': [1], 'next': 3}):
        api.on('GET', {'json': wrong})
        for arguments in (['ls'], ['show', '1'], ['why', '1'], ['nodes'], ['queues'], ['stats'], ['show', 'last'], ['events', '--job', '1']):
            assert rota(*arguments).returncode in (0, 2, 3, 5), arguments


# --- submit ---

def test_submit_sends_one_job_and_prints_the_id_alone(rota, api):
    api.on('POST /v1/jobs', {'status': 201, 'json': {'id': 7, 'state': 'queued'}})
    result = rota('submit', '--name', 'n', '--mem', '1.5G', '--env', 'A=b=c', '--', 'echo', 'ä', '')
    assert (result.returncode, result.stdout, result.stderr) == (0, '7\n', '')
    sent = api.requests[0]
    assert json.loads(sent['body']) == {'command': ['echo', 'ä', ''], 'name': 'n', 'mem_bytes': 3 << 29, 'env': {'A': 'b=c'}}
    assert sent['headers']['Content-Type'] == 'application/json'
    assert re.fullmatch('cli-[0-9a-f]{32}', sent['headers']['Idempotency-Key'])
    rota('submit', '--', 'true')
    assert api.requests[1]['headers']['Idempotency-Key'] != sent['headers']['Idempotency-Key']
    rota('submit', '--key', 'mine', '--', 'true')
    assert api.requests[2]['headers']['Idempotency-Key'] == 'mine'


def test_lost_connections_are_tried_again_with_the_same_key(rota, api):
    api.on('POST /v1/jobs', 'cut', {'status': 503, 'json': {'detail': 'starting'}}, {'status': 201, 'json': {'id': 7}, 'fault': 'half'}, {'status': 200, 'json': {'id': 7}})
    result = rota('submit', '--', 'true')
    assert (result.returncode, result.stdout) == (0, '7\n')
    assert len(api.requests) == 4
    assert len({r['headers']['Idempotency-Key'] for r in api.requests}) == 1
    assert len({r['body'] for r in api.requests}) == 1
    assert result.stderr.count('trying again') == 1


def test_refusals_are_not_tried_again(rota, api):
    for status, code in ((400, 2), (409, 2), (429, 2), (401, 6)):
        api.requests.clear()
        api.on('POST /v1/jobs', {'status': status, 'json': {'detail': 'no'}})
        assert rota('submit', '--', 'true').returncode == code
        assert len(api.requests) == 1


def test_a_stream_of_jobs_goes_through_whole_and_can_be_repeated(rota, api):
    lines = ''.join(json.dumps({'command': ['echo', str(i)]}) + '\n' for i in range(20000))
    api.on('POST /v1/jobs', {'status': 503, 'json': {}}, {'status': 201, 'json': {'count': 20000, 'first': 5, 'last': 20004, 'ranges': [[5, 20004]]}})
    result = rota('submit', '-f', '-', input=lines)
    assert (result.returncode, result.stdout) == (0, '5-20004\n'), result.stderr
    assert '20000 jobs queued, first 5, last 20004' in result.stderr
    assert [r['body'].decode() == lines for r in api.requests] == [True, True]
    assert api.requests[0]['headers']['Content-Type'] == 'application/x-ndjson'


def test_a_stream_of_jobs_takes_bounded_memory(environment, api, tmp_path):
    api.on('POST /v1/jobs', {'status': 201, 'json': {'count': 1, 'ranges': [[1, 400000]]}})
    line = json.dumps({'command': ['echo', 'x' * 200]}) + '\n'
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    process = subprocess.Popen([ROTA, 'submit', '-f', '-'], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for _ in range(400):
        process.stdin.write(line * 1000)
    out = process.communicate()[0]
    assert process.returncode == 0 and out == '1-400000\n'
    assert len(api.requests[0]['body']) == 400000 * len(line)
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    if 'asan' not in ROTA and before < used:
        assert used < 64 * 1024, f'{used} KiB for {400000 * len(line) >> 20} MiB of jobs'


def test_ids_are_printed_one_per_line_up_to_a_thousand(rota, api, tmp_path):
    (tmp_path / 'jobs.ndjson').write_text('{"command":["true"]}\n' * 3)
    api.on('POST /v1/jobs', {'status': 201, 'json': {'count': 3, 'ranges': [[4, 5], [9, 9]]}})
    assert rota('submit', '-f', 'jobs.ndjson').stdout == '4\n5\n9\n'
    answer = {'count': 1, 'ranges': [[4, 4]], 'more': 'fields'}
    api.on('POST /v1/jobs', {'status': 201, 'json': answer})
    assert json.loads(rota('submit', '-f', 'jobs.ndjson', '--json').stdout) == answer


def test_a_refused_line_says_what_was_taken_and_how_to_go_on(rota, api, tmp_path):
    api.on('POST /v1/jobs', {'status': 400, 'json': {'detail': '"4Q" is not a size', 'field': 'line 3: mem', 'accepted': 2, 'ranges': [[7, 8]]}})
    result = rota('submit', '-f', '-', input='{"command":["true"]}\n' * 3)
    assert (result.returncode, result.stdout) == (2, '')
    assert 'rota: line 3: mem: "4Q" is not a size' in result.stderr
    assert 'queued before that: 2 (7-8)' in result.stderr
    key = api.requests[0]['headers']['Idempotency-Key']
    assert f'--key {key}' in result.stderr


def test_job_files_go_as_one_list_and_names_become_ids(rota, api, tmp_path):
    (tmp_path / 'two.yaml').write_text('- {name: a, command: [x]}\n- {name: b, command: [y]}\n')
    api.on('POST /v1/jobs', {'status': 201, 'json': {'count': 2, 'ids': [7, 8]}})
    assert rota('submit', '-f', 'two.yaml').stdout == '7\n8\n'
    assert [j['name'] for j in json.loads(api.requests[0]['body'])] == ['a', 'b']
    (tmp_path / 'one.yaml').write_text('command: [x]\n')
    api.on('POST /v1/jobs', {'status': 201, 'json': {'id': 9}})
    assert rota('submit', '-f', 'one.yaml').stdout == '9\n'
    assert isinstance(json.loads(api.requests[1]['body']), dict)
    api.requests.clear()
    (tmp_path / 'chain.yaml').write_text('- {name: a, command: [x]}\n- {name: b, command: [y]}\n- {name: c, command: [z], after: [{name: a}, {name: b, when: any}]}\n'
                                         '- {command: [w], after: [{name: c}]}\n')
    api.on('POST /v1/jobs', {'status': 201, 'json': {'ids': [7, 8]}}, {'status': 201, 'json': {'ids': [9]}}, {'status': 201, 'json': {'ids': [10]}})
    result = rota('submit', '-f', 'chain.yaml')
    assert result.stdout == '7\n8\n9\n10\n', result.stderr
    bodies = [json.loads(r['body']) for r in api.requests]
    assert bodies[1][0]['after'] == [{'job': 7}, {'job': 8, 'when': 'any'}]
    assert bodies[2][0]['after'] == [{'job': 9}]
    assert len({r['headers']['Idempotency-Key'] for r in api.requests}) == 3


def test_submit_wait_returns_the_jobs_code_and_counts_progress(rota, api):
    api.on('POST /v1/jobs', {'status': 201, 'json': {'id': 7}})
    api.on('GET /v1/jobs/wait', {'json': {'done': False, 'left': 1, 'counts': {'running': 1, 'succeeded': 9}, 'exit_code': 0}},
           {'json': {'done': True, 'left': 0, 'counts': {'succeeded': 9, 'failed': 1}, 'exit_code': 7}})
    result = rota('submit', '--progress=plain', '--', 'true')
    assert (result.returncode, result.stdout) == (7, '7\n')
    assert '10/10 done 100%' in result.stderr and '1 failed' in result.stderr
    assert '\x1b' not in result.stderr and '\r' not in result.stderr
    assert api.asked('GET /v1/jobs/wait')[0]['query']['selector'] == '7'


def test_no_progress_where_no_terminal_is(rota, api):
    api.on('POST /v1/jobs', {'status': 201, 'json': {'id': 7}})
    api.on('GET /v1/jobs/wait', {'json': {'done': True, 'left': 0, 'counts': {'succeeded': 1}, 'exit_code': 0}})
    assert rota('submit', '--progress', '--', 'true').stderr == ''


def test_progress_is_a_bar_on_a_terminal(environment, api):
    api.on('GET /v1/jobs/wait', {'json': {'done': False, 'left': 1, 'counts': {'running': 1, 'succeeded': 3}, 'exit_code': 0}},
           {'json': {'done': True, 'left': 0, 'counts': {'succeeded': 4}, 'exit_code': 0}})
    out, code = on_terminal(environment, 'wait', '7', '--progress')
    assert code == 0
    assert re.search(r'\[#+\.+\] 3/4 done 75%', out) and '] 4/4 done 100%' in out


# --- wait ---

def test_wait_joins_ids_asks_names_apart_and_takes_the_worst_code(rota, api):
    def answer(request):
        return {'json': {'done': True, 'left': 0, 'counts': {'succeeded': 1}, 'exit_code': 3 if request['query']['selector'] == 'train-*' else 0}}
    api.on('GET /v1/jobs/wait', answer)
    assert rota('wait', '7', '9-12', 'train-*', 'last').returncode == 3
    assert [r['query']['selector'] for r in api.requests] == ['7,9-12', 'train-*', 'last']


def test_wait_times_out_with_4(rota, api):
    api.on('GET /v1/jobs/wait', {'json': {'done': False, 'left': 2, 'counts': {'running': 2}, 'exit_code': 0}})
    result = rota('wait', '7', '--timeout', '10ms')
    assert result.returncode == 4 and 'the time is up, 2 of 2 not ended' in result.stderr
    assert all(int(r['query']['timeout_s']) <= 30 for r in api.requests)


def test_wait_outlives_a_restart_of_the_master(rota, api):
    api.on('GET /v1/jobs/wait', 'cut', {'status': 503, 'json': {'detail': 'starting'}}, {'json': {'done': True, 'left': 0, 'counts': {'succeeded': 1}, 'exit_code': 0}})
    result = rota('wait', '7')
    assert result.returncode == 0 and result.stderr.count('waiting for it to come back') == 1


def test_wait_for_nothing_is_exit_3(rota, api):
    assert rota('wait', 'nosuch').returncode == 3


# --- logs and run ---

def logs(pieces, attempt=1):
    return {'chunks': pieces, 'headers': {'Rota-Attempt': str(attempt)}}


def script_run(api, rounds, final):
    """rounds: (stdout pieces, stderr pieces) per attempt; the job as it is after each."""
    def answer(request):
        number = int(request['query'].get('attempt', 1))
        offset = int(request['query'].get('offset', 0))
        out = rounds[number - 1][0 if request['query']['stream'] == 'stdout' else 1]
        return logs([b''.join(out)[offset:]] if b''.join(out)[offset:] else [], number)
    api.on('POST /v1/jobs', {'status': 201, 'json': {'id': 7}})
    api.on('GET /v1/jobs/7/logs', answer)
    api.on('GET /v1/jobs/wait', {'json': {'done': True, 'left': 0, 'counts': {'failed': 1}, 'exit_code': 1}})
    api.on('GET /v1/jobs/7', *final)


@pytest.mark.parametrize('end, code', [
    ({'state': 'succeeded', 'exit_code': 0}, 0), ({'state': 'failed', 'reason': 'exit', 'exit_code': 42}, 42),
    ({'state': 'failed', 'reason': 'signal', 'signal': 9}, 137), ({'state': 'failed', 'reason': 'spawn'}, 1), ({'state': 'cancelled', 'reason': 'cancelled'}, 1)])
def test_run_has_the_streams_and_the_code_of_the_job(rota, api, end, code):
    script_run(api, [([b'out\n', b'\x00\xff\n'], [b'err\n'])], [{'json': job(7, attempts=1, **end)}])
    result = rota('run', '--', 'true', text=False)
    assert result.returncode == code, result.stderr
    assert result.stdout == b'out\n\x00\xff\n' and b'err\n' in result.stderr


def test_run_follows_through_the_attempts(rota, api):
    script_run(api, [([b'one\n'], []), ([b'two\n'], [])],
               [{'json': job(7, 'retry_wait', attempts=1)}, {'json': job(7, 'running', attempts=2)}, {'json': job(7, 'succeeded', attempts=2, exit_code=0)}])
    result = rota('run', '--', 'true')
    assert (result.returncode, result.stdout) == (0, 'one\ntwo\n'), result.stderr
    assert 'attempt 2' in result.stderr


def test_output_goes_on_where_a_lost_connection_left_it(rota, api):
    def answer(request):
        if request['query']['stream'] == 'stderr':
            return logs([])
        if 'offset' not in request['query']:
            return logs([b'first\n', 'cut'])
        assert request['query']['offset'] == '6'
        return logs([b'second\n'])
    script_run(api, [([], [])], [{'json': job(7, 'succeeded', attempts=1, exit_code=0)}])
    api.on('GET /v1/jobs/7/logs', answer)
    result = rota('run', '--', 'true')
    assert (result.returncode, result.stdout) == (0, 'first\nsecond\n'), result.stderr


def test_logs_asks_for_what_was_said(rota, api):
    api.on('GET /v1/jobs/7/logs', logs([b'x\n']))
    assert rota('logs', '7_3', '--stderr', '--attempt', '2', '--tail', '5').stderr == 'x\n'
    assert len(api.requests) == 1
    assert api.requests[0]['query'] == {'stream': 'stderr', 'task': '3', 'attempt': '2', 'tail': '5'}
    api.requests.clear()
    assert rota('logs', '7', '--stdout').stdout == 'x\n'
    assert api.requests[0]['query'] == {'stream': 'stdout'}


def test_ctrl_c_leaves_the_job_and_a_second_one_cancels_it(environment, api, tmp_path):
    def hang():
        time.sleep(20)

    def start():
        process = subprocess.Popen([ROTA, 'run', '--', 'sleep', '30'], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout.readline() == 'go\n'
        process.send_signal(signal.SIGINT)
        assert 'job 7' in process.stderr.readline()
        while 'Ctrl-C again' not in process.stderr.readline():
            assert process.poll() is None
        return process
    script_run(api, [([], [])], [{'json': job(7, 'running', attempts=1)}])
    api.on('GET /v1/jobs/7/logs', lambda r: logs([b'go\n', hang] if r['query']['stream'] == 'stdout' else [hang]))
    api.on('POST /v1/jobs/7/cancel', {'json': {'matched': 1, 'changed': 1}})
    process = start()
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and 'job 7 runs on; `rota logs 7 -f`' in err and '`rota cancel 7`' in err
    assert not api.asked('POST /v1/jobs/7/cancel')
    process = start()
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and 'being cancelled' in err
    assert len(api.asked('POST /v1/jobs/7/cancel')) == 1


# --- lists ---

def test_ls_pages_and_is_plain_columns_without_a_terminal(rota, api):
    pages = {None: {'jobs': [job(9), job(8, 'failed', reason='exit', exit_code=3)], 'next': 'd8', 'counts': {'queued': 1, 'failed': 2}},
             'd8': {'jobs': [], 'next': 'd5', 'counts': {}},
             'd5': {'jobs': [job(5, 'running', array=True, tasks=10, counts={'succeeded': 4, 'running': 6})], 'next': None, 'counts': {'queued': 1, 'failed': 2, 'running': 1}}}
    api.on('GET /v1/jobs', lambda r: {'json': pages[r['query'].get('cursor')]})
    result = rota('ls')
    rows = [line.split('\t') for line in result.stdout.split('\n') if line]
    assert rows[0][:5] == ['ID', 'NAME', 'USER', 'QUEUE', 'STATE']
    assert [(row[0], row[4], row[5], row[-1]) for row in rows[1:]] == [('9', 'queued', '1', '-'), ('8', 'failed', '1', 'exit 3'), ('5', 'running', '4/10', '-')]
    assert result.stderr == 'rota: 1 queued, 2 failed, 1 running\n'
    listed = json.loads(rota('ls', '--json').stdout)
    assert [j['id'] for j in listed['jobs']] == [9, 8, 5] and listed['counts']['running'] == 1 and listed['next'] is None
    assert [j['id'] for j in json.loads(rota('ls', '--json', '--limit', '2').stdout)['jobs']] == [9, 8]


def test_ls_takes_bounded_memory(environment, api):
    page = [job(i) for i in range(1000)]

    def answer(request):
        number = int(request['query'].get('cursor', '0'))
        return {'json': {'jobs': page, 'next': str(number + 1) if number < 49 else None, 'counts': {'queued': 50000}}}
    api.on('GET /v1/jobs', answer)
    result = subprocess.run(['/usr/bin/env', 'python3', '-c', 'import resource,subprocess,sys\n'
                             'out=subprocess.run(sys.argv[1:],stdout=subprocess.PIPE).stdout\n'
                             'print(out.count(b"\\n"), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)', ROTA, 'ls'],
                            env=environment, stdout=subprocess.PIPE, text=True, check=True)
    lines, kib = map(int, result.stdout.split())
    assert lines == 50001
    assert kib < (64 if 'asan' not in ROTA else 512) * 1024


def test_filters_and_selectors_reach_the_api(rota, api):
    api.on('GET /v1/jobs', {'json': {'jobs': [], 'next': None, 'counts': {}}})
    rota('ls', '--state', 'running', '--user', 'ada l', '--queue', 'q', '--name', 'train-*', '--label', 'a=b&c', '--limit', '5')
    assert api.requests[0]['query'] == {'state': 'running', 'user': 'ada l', 'queue': 'q', 'name': 'train-*', 'label': 'a=b&c', 'limit': '5'}
    rota('ls', '5-9', '12')
    assert api.requests[1]['query']['selector'] == '5-9,12'


def test_hostile_names_do_nothing_on_a_terminal(environment, api):
    key = 'x\x1b]0;owned\x07\x1b[2J\u009b31m\u202etxt\r\n'
    evil = key + '\x00'
    api.on('GET /v1/jobs', {'json': {'jobs': [job(7, name=evil, user=evil, node=evil)], 'next': None, 'counts': {key: 1}}})
    api.on('GET /v1/jobs/7', {'json': job(7, name=evil, command=['echo', evil], env={key: evil}, workdir=evil)})
    api.on('GET /v1/jobs/7/why', {'json': {'id': 7, 'state': evil, 'reason': 'held', 'text': evil, 'all': []}})
    api.on('GET /v1/nodes', {'json': {'nodes': [{'name': evil, 'state': 'ready', 'reason': evil, 'capacity': {}, 'allocated': {}}]}})
    api.on('GET /v1/jobs/9', {'status': 404, 'json': {'detail': evil, 'field': evil, 'remedy': evil}})
    for arguments in (['ls'], ['show', '7'], ['show', '7', '--json'], ['why', '7'], ['nodes'], ['nodes', '--json'], ['ls', '--json'], ['show', '9']):
        out, _ = on_terminal(environment, *arguments)
        assert 'x' in out
        left = re.sub(r'\x1b\[[0-9;]*m', '', out)  # our own colours
        assert not re.search('[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]', left), (arguments, left)


def test_hostile_logs_do_nothing_on_a_terminal_and_are_whole_elsewhere(environment, rota, api):
    evil = b'\x1b[31mred\x1b[0m \x1b]52;c;aGk=\x07\x1b[2J\x1b[10;10Hx\x9b\xc2\x9b2Jy\x07\xff\n'
    api.on('GET /v1/jobs/7/logs', lambda r: logs([evil[:9], evil[9:]] if r['query']['stream'] == 'stdout' else []))
    assert rota('logs', '7', text=False).stdout == evil
    out, code = on_terminal(environment, 'logs', '7')
    assert code == 0 and '\x1b[31mred\x1b[0m' in out
    left = re.sub(r'\x1b\[[0-9;]*m', '', out)
    assert not re.search('[\x00-\x08\x0b-\x1f\x7f-\x9f]', left), repr(left)


def test_nothing_is_coloured_without_a_terminal_or_with_no_color(environment, rota, api):
    api.on('GET /v1/jobs', {'json': {'jobs': [job(7, 'failed')], 'next': None, 'counts': {}}})
    assert '\x1b' not in rota('ls').stdout
    assert '\x1b[' in on_terminal(environment, 'ls')[0]
    assert '\x1b' not in on_terminal({**environment, 'NO_COLOR': '1'}, 'ls')[0]


def test_json_on_every_verb_is_what_the_api_says(rota, api):
    answer = {'zeta': 1, 'alpha': [1, 2.5, 'ä\u202e'], 'text': 'x' * 5000}
    for method in ('GET', 'POST', 'PATCH'):
        api.on(method, {'json': answer})
    for arguments in (['show', '7'], ['why', '7'], ['nodes'], ['nodes', 'a'], ['queues'], ['stats'], ['cancel', '7'], ['hold', '7'], ['release', '7'],
                      ['retry', '7'], ['update', '7', '--priority', '1'], ['drain', 'a'], ['resume', 'a'], ['backup', '/x'], ['submit', '--', 'true']):
        result = rota(arguments[0], '--json', *arguments[1:])
        assert result.returncode == 0, (arguments, result.stderr)
        assert result.stdout and json.loads(result.stdout) == answer, arguments


# --- changes ---

def test_changes_reach_the_api(rota, api):
    api.on('POST', {'json': {'matched': 3, 'changed': 2, 'ids': [], 'problem': None}})
    result = rota('cancel', '7', '9-12', 'a/b c*', '--reason', 'why "not"')
    assert [r['path'] for r in api.requests] == ['/v1/jobs/7,9-12/cancel', '/v1/jobs/a/b c*/cancel']
    assert json.loads(api.requests[0]['body']) == {'reason': 'why "not"'}
    assert '2 of 3 cancelled' in result.stderr and result.stdout == ''
    rota('drain', 'n 1', '--reason', 'disk')
    assert api.requests[-1]['path'] == '/v1/nodes/n 1/drain'
    api.on('PATCH /v1/jobs/7', {'json': {'id': 7, 'priority': -3, 'changed': True}})
    assert 'priority -3' in rota('update', '7', '--priority', '-3').stderr
    assert json.loads(api.requests[-1]['body']) == {'priority': -3}


def test_verbs_about_one_job_find_it_by_name(rota, api):
    api.on('GET /v1/jobs', {'json': {'jobs': [], 'next': 'd5'}}, {'json': {'jobs': [job(7)], 'next': None}})
    api.on('GET /v1/jobs/7', {'json': job(7)})
    assert 'job          7' in rota('show', 'train').stdout
    api.on('GET /v1/jobs', {'json': {'jobs': [job(7), job(8)], 'next': None}})
    result = rota('show', 'train-*')
    assert result.returncode == 2 and 'means several jobs' in result.stderr
    api.on('GET /v1/jobs', {'json': {'jobs': [], 'next': None}})
    assert rota('why', 'nosuch').returncode == 3


# --- events ---

def event(number, **more):
    return f'id: {number}\nevent: job.ended\ndata: {json.dumps({"seq": number, "at": "2026-11-23T10:00:00.000Z", "event": "job.ended", "job": 7, **more})}\n\n'.encode()


def test_events_end_with_what_was_there(rota, api):
    api.on('GET /v1/stats', {'json': {'store': {'last_seq': 250}}})
    api.on('GET /v1/events', {'chunks': [b'retry: 1000\n\n', event(249), b': beat\n\n', event(250, name='a b'), event(251), lambda: time.sleep(5)], 'type': 'text/event-stream'})
    result = rota('events')
    assert [line.split()[0] for line in result.stdout.split('\n') if line] == ['249', '250']
    assert 'job=7' in result.stdout and 'name="a b"' in result.stdout
    assert api.asked('GET /v1/events')[0]['headers']['Last-Event-ID'] == '150'
    assert [json.loads(line)['seq'] for line in rota('events', '--json', '--since', '249').stdout.split('\n') if line] == [249, 250]


def test_events_go_on_behind_the_last_one_after_a_broken_stream(environment, api):
    api.on('GET /v1/stats', {'json': {'store': {'last_seq': 10}}})
    api.on('GET /v1/events', {'chunks': [event(11), 'cut']}, {'chunks': [event(12), lambda: time.sleep(20)]})
    process = subprocess.Popen([ROTA, 'events', '-f', '--json'], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert [json.loads(process.stdout.readline())['seq'] for _ in range(2)] == [11, 12]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert [r['headers']['Last-Event-ID'] for r in api.asked('GET /v1/events')] == ['10', '11']


# --- login ---

def test_login_tries_the_token_before_it_writes_anything(rota, api, tmp_path):
    profile = tmp_path / 'config/rota/client.yaml'
    api.on('GET /v1/stats', {'status': 401, 'json': {'detail': 'not signed in'}})
    env = {'ROTA_TOKEN_FILE': '', 'ROTA_MASTER': ''}
    assert rota('login', api.url, input='secret-token\n', env=env).returncode == 6
    assert not profile.exists()
    api.on('GET /v1/stats', {'json': {'version': '9'}})
    result = rota('login', api.url, input='secret-token\n', env=env)
    assert result.returncode == 0 and 'secret' not in result.stderr + result.stdout
    assert profile.stat().st_mode & 0o777 == 0o600
    kept = tmp_path / 'config/rota/token'
    assert kept.read_text() == 'secret-token' and kept.stat().st_mode & 0o777 == 0o600
    rota('stats', env=env)
    assert api.requests[-1]['headers']['Authorization'] == 'Bearer secret-token'
    assert rota('token', 'ls', env=env).stdout == f'{kept}\n'
    assert sorted(os.listdir(profile.parent)) == ['client.yaml', 'token']


# --- a reader that goes away ---

def test_a_closed_pipe_ends_it_quietly(environment, api):
    api.on('GET /v1/jobs', {'json': {'jobs': [job(i) for i in range(1000)], 'next': 'x', 'counts': {}}})
    result = subprocess.run(['bash', '-c', '"$0" ls | head -n 1; echo "${PIPESTATUS[0]}"', ROTA], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    assert result.stdout.split('\n')[1] == '0' and result.stderr == ''


# --- links ---

@pytest.fixture
def link(tmp_path):
    def make(name):
        path = tmp_path / 'bin' / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.symlink_to(ROTA)
        return str(path)
    return make


def test_sbatch_sends_the_script_with_its_lines(rota, api, link, tmp_path):
    api.on('POST /v1/jobs', {'status': 201, 'json': {'id': 7}})
    script = tmp_path / 'job.sh'
    script.write_text('#!/bin/bash\n# a comment\n#SBATCH --job-name="my job" --time=1:30:00\n#SBATCH --mem=500 -c 4 -C ssd -w n1,n2\n#SBATCH --array=1-10%2\n\n'
                      '#SBATCH --dependency=afterok:3:4,afterany:5\n#SBATCH -o out-%A_%a.txt\n#SBATCH --mail-type=END\necho hi\n#SBATCH --mem=9G\n')
    result = rota('--time=10', 'job.sh', 'arg one', program=link('sbatch'))
    assert (result.returncode, result.stdout) == (0, 'Submitted batch job 7\n'), result.stderr
    assert '--mail-type has no meaning here' in result.stderr
    sent = json.loads(api.requests[0]['body'])
    assert (sent['name'], sent['time_limit_s'], sent['mem_bytes'], sent['cpus'], sent['array']) == ('my job', 600, 500 << 20, 4, '1-10%2')
    assert sent['where'] == 'ssd&node=n1|n2'
    assert sent['after'] == [{'job': 3}, {'job': 4}, {'job': 5, 'when': 'any'}]
    assert sent['workdir'] == str(tmp_path) and 'PATH' in sent['env']
    # What is sent does what the script says, here as well.
    run = subprocess.run(sent['command'], cwd=tmp_path, env={'PATH': os.environ['PATH'], 'ROTA_JOB_ID': '7', 'ROTA_TASK_ID': '3'}, stdout=subprocess.PIPE, text=True)
    assert run.returncode == 0 and run.stdout == ''
    assert (tmp_path / 'out-7_3.txt').read_text() == 'hi\n'


def test_sbatch_wrap_passes_the_code_on(rota, api, link, tmp_path):
    api.on('POST /v1/jobs', {'status': 201, 'json': {'id': 8}})
    assert rota('--wrap', 'echo $SLURM_JOB_ID; exit 3', '--parsable', program=link('sbatch')).stdout == '8\n'
    sent = json.loads(api.requests[0]['body'])
    run = subprocess.run(sent['command'], cwd=tmp_path, env={'PATH': os.environ['PATH'], 'ROTA_JOB_ID': '8'})
    assert run.returncode == 3 and (tmp_path / 'slurm-8.out').read_text() == '8\n'


def test_squeue_sinfo_and_scancel(rota, api, link):
    api.on('GET /v1/jobs', {'json': {'jobs': [job(7, 'running', node='w1', started_at='2026-11-23T10:00:00.000Z'), job(8, 'held'), job(9, 'succeeded')], 'next': None}})
    out = rota(program=link('squeue')).stdout.split('\n')
    assert out[0].split() == ['JOBID', 'PARTITION', 'NAME', 'USER', 'ST', 'TIME', 'NODES', 'NODELIST(REASON)']
    assert [line.split()[0] for line in out[1:] if line] == ['7', '8']
    assert out[1].split()[4] == 'R' and out[2].split()[-1] == '(JobHeldUser)'
    assert [line.split()[0] for line in rota('-h', '-t', 'all', program=link('squeue')).stdout.split('\n') if line] == ['7', '8', '9']
    nodes = [{'name': f'w{i}', 'state': 'ready', 'capacity': {'cpus': 4}, 'allocated': {'cpus': used}} for i, used in ((1, 0), (2, 0), (3, 4))]
    api.on('GET /v1/nodes', {'json': {'nodes': nodes}})
    assert [line.split()[3:] for line in rota('-h', program=link('sinfo')).stdout.split('\n') if line] == [['2', 'idle', 'w1,w2'], ['1', 'alloc', 'w3']]
    api.on('POST', {'json': {'matched': 1, 'changed': 1}})
    assert rota('7', '8_3', program=link('scancel')).returncode == 0
    assert api.requests[-1]['path'] == '/v1/jobs/7,8_3/cancel'
    assert rota(program=link('scancel')).returncode == 2
