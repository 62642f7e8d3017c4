"""The dashboard as a client of HTTP sees it: what is served, who may sign in, and that no other site can act through a browser."""
import gzip
import json
import os
import re
import stat
import subprocess

import pytest

from conftest import ROOT, wait_for
from test_api import Master, api  # noqa: F401  (api: a fixture)

OWN = {'Sec-Fetch-Site': 'same-origin'}


def cookie_of(reply):
    return reply.headers['set-cookie'].split(';')[0]


def sign_in(api, body=None, **more):
    return api.call('POST', '/v1/session', {'token': api.token} if body is None else body, headers=OWN, token=None, **more)


def browse(api, cookie, method, path, body=None, headers=None):
    return api.call(method, path, body, headers={'Cookie': cookie, **({} if method == 'GET' else OWN), **(headers or {})}, token=None)


# --- what is served ---

def test_the_page_and_its_files(api):
    page = api.call('GET', '/', token=None)
    text = page.body.decode()
    files = re.findall(r'(?:src|href)="(/[^"]+)"', text)
    assert any(f.endswith('.js') for f in files) and any(f.endswith('.css') for f in files), text
    policy = page.headers['content-security-policy']
    assert policy == ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
                      "base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
    assert page.headers['cache-control'] == 'no-cache'
    assert page.headers['cross-origin-opener-policy'] == page.headers['cross-origin-resource-policy'] == 'same-origin'
    for file in files:
        assert file.startswith('/assets/')
        plain = api.call('GET', file, token=None)
        packed = api.call('GET', file, headers={'Accept-Encoding': 'br, gzip'}, token=None)
        assert (plain.status, packed.status) == (200, 200)
        assert 'content-encoding' not in plain.headers and packed.headers['content-encoding'] == 'gzip'
        assert gzip.decompress(packed.body) == plain.body
        assert packed.headers['cache-control'] == 'public, max-age=31536000, immutable'
        assert packed.headers['vary'] == 'Accept-Encoding'
        again = api.call('GET', file, headers={'If-None-Match': f'"x", {plain.headers["etag"]}'}, token=None, check=False)
        assert (again.status, again.body) == (304, b'')
    assert api.call('GET', '/assets/..%2fstate', token=None).status in (400, 404)
    assert api.call('GET', '/assets/none.js', token=None).status == 404


def test_the_page_is_small(api):
    files = re.findall(r'(?:src|href)="(/[^"]+)"', api.call('GET', '/', token=None).body.decode())
    sizes = {f: len(api.call('GET', f, headers={'Accept-Encoding': 'gzip'}, token=None).body) for f in files}
    assert sum(sizes.values()) < 150_000, sizes


def test_the_types_of_the_page_hold():
    checked = subprocess.run(['node', 'node_modules/typescript/bin/tsc', '--noEmit'], cwd=os.path.join(ROOT, 'web'), stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600, check=False)
    assert checked.returncode == 0, checked.stdout.decode()


# --- signing in and out ---

def test_sign_in_and_out(api):
    reply = sign_in(api)
    assert reply.status == 200 and reply.json()['role'] == 'admin'
    attributes = [a.strip() for a in reply.headers['set-cookie'].split(';')]
    assert attributes[0].startswith(f'rota_{api.port}=') and {'HttpOnly', 'SameSite=Strict', 'Path=/'} <= set(attributes)
    cookie = cookie_of(reply)
    assert len(cookie.split('=')[1]) == 43
    assert browse(api, cookie, 'GET', '/v1/session').json() == reply.json()
    job = browse(api, 'other=1; ' + cookie, 'POST', '/v1/jobs', {'command': ['true']})
    assert job.status == 201
    out = browse(api, cookie, 'DELETE', '/v1/session')
    assert out.status == 200 and 'Max-Age=0' in out.headers['set-cookie']
    assert browse(api, cookie, 'GET', '/v1/session').json() == {'user': None, 'role': None}
    assert browse(api, cookie, 'GET', '/v1/jobs').status == 401


def test_wrong_tokens_do_not_sign_in(api):
    for body, field in (({'token': 'rota_' + 'A' * 43}, 'token'), ({'ticket': 'A' * 43}, 'ticket'), ({}, 'token'),
                        ({'token': 'a', 'ticket': 'b'}, 'token'), ({'password': 'x'}, 'password')):
        reply = sign_in(api, body, source='127.7.0.1')
        assert reply.status in (400, 401) and 'set-cookie' not in reply.headers
        assert reply.json()['field'] == field
    for cookie in ('', f'rota_{api.port}=', f'rota_{api.port}=' + 'A' * 43, f'rota_1={api.token}'):
        assert browse(api, cookie, 'GET', '/v1/jobs').status == 401


def test_a_ticket_signs_in_once(api):
    ticket = api.call('POST', '/v1/session/ticket', {}).json()['ticket']
    reply = sign_in(api, {'ticket': ticket})
    assert reply.status == 200
    assert browse(api, cookie_of(reply), 'GET', '/v1/stats').status == 200
    assert sign_in(api, {'ticket': ticket}, source='127.7.0.2').status == 401
    assert api.call('GET', '/v1/jobs', token=ticket, source='127.7.0.3').status == 401  # it is no token


def test_a_restart_of_the_master_signs_nobody_out():
    master = Master()
    try:
        master.start()
        cookie = cookie_of(sign_in(master))
        kept = os.path.join(master.state, 'sessions')
        assert stat.S_IMODE(os.stat(kept).st_mode) == 0o600
        with open(kept, encoding='ascii') as file:
            assert cookie.split('=')[1] not in file.read()
        master.master.kill()
        master.master.wait()
        master.start()
        assert browse(master, cookie, 'GET', '/v1/jobs').status == 200
        with open(kept, 'w', encoding='ascii') as file:
            file.write('rubbish\n' * 1000)
        master.master.kill()
        master.master.wait()
        master.start()
        assert browse(master, cookie, 'GET', '/v1/jobs').status == 401
        os.unlink(os.path.join(master.state, 'token'))  # another token: sessions of the old one end
        cookie = cookie_of(sign_in(master))
        master.master.kill()
        master.master.wait()
        master.start()
        assert browse(master, cookie, 'GET', '/v1/jobs').status == 401
    finally:
        master.stop()


# --- other sites ---

FOREIGN = [
    {}, {'Origin': 'http://evil.example'}, {'Origin': 'null'}, {'Sec-Fetch-Site': 'cross-site'}, {'Sec-Fetch-Site': 'same-site'},
    {'Sec-Fetch-Site': 'same-origin', 'Origin': 'http://evil.example'}, {'Origin': 'https://127.0.0.1:{port}'}, {'Origin': 'http://127.0.0.1:1'},
]


@pytest.mark.parametrize('headers', FOREIGN, ids=str)
@pytest.mark.parametrize('method,path', [('POST', '/v1/jobs'), ('POST', '/v1/jobs/all/cancel'), ('PATCH', '/v1/jobs/1'), ('DELETE', '/v1/session'),
                                         ('POST', '/v1/nodes/n1/drain'), ('POST', '/v1/session'), ('POST', '/v1/session/ticket')])
def test_no_other_site_can_act(api, method, path, headers):
    cookie = test_no_other_site_can_act.__dict__.setdefault(f'cookie {api.port}', None) or cookie_of(sign_in(api))
    test_no_other_site_can_act.__dict__[f'cookie {api.port}'] = cookie
    before = api.get('/v1/stats')['job_last']
    headers = {name: value.format(port=api.port) for name, value in headers.items()}
    body = {'token': api.token} if path == '/v1/session' else {'command': ['true']} if path == '/v1/jobs' else {}
    reply = api.call(method, path, None if method == 'DELETE' else body, headers={'Cookie': cookie, **headers}, token=None)
    assert reply.status == 403 and 'set-cookie' not in reply.headers
    assert api.get('/v1/stats')['job_last'] == before
    assert browse(api, cookie, 'GET', '/v1/jobs').status == 200
    assert api.get('/v1/nodes')['nodes'][0]['state'] == 'ready'


def test_our_own_page_can_act(api):
    cookie = cookie_of(sign_in(api))
    for headers in (OWN, {'Sec-Fetch-Site': 'none'}, {'Origin': f'http://127.0.0.1:{api.port}'}):
        reply = api.call('POST', '/v1/jobs', {'command': ['true']}, headers={'Cookie': cookie, **headers}, token=None)
        assert reply.status == 201
    for kind in ('text/plain', 'application/x-www-form-urlencoded', 'application/x-ndjson'):
        reply = browse(api, cookie, 'POST', '/v1/jobs', '{"command":["true"]}', {'Content-Type': kind})
        assert reply.status == 403 and reply.json()['field'] == 'content-type'
    assert api.call('GET', '/v1/jobs', headers={'Cookie': cookie, 'Host': 'evil.example'}, token=None, check=False).status == 421


# --- a stream of events ends with the session ---

def test_events_by_cookie(api):
    cookie = cookie_of(sign_in(api))
    connection = api.connection()
    connection.request('GET', '/v1/events?since=0', headers={'Cookie': cookie})
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.readline().startswith(b'retry:')
    browse(api, cookie, 'DELETE', '/v1/session')
    wait_for(lambda: answer.read1(65536) == b'', 'the stream goes on after signing out')
    connection.close()


# --- what the pages are made of ---

def test_pending_by_reason(api):
    held = api.call('POST', '/v1/jobs', {'command': ['true'], 'hold': True, 'array': '1-7'}).json()['id']
    blocked = api.call('POST', '/v1/jobs', {'command': ['true'], 'after': [{'job': held}]}).json()['id']
    big = api.call('POST', '/v1/jobs', {'command': ['true'], 'cpus': 1000}).json()['id']
    busy = [api.call('POST', '/v1/jobs', {'command': ['sleep', '1000'], 'cpus': 3}).json()['id'] for _ in range(3)]

    def reasons():
        return {r['reason']: r['tasks'] for r in api.get('/v1/pending')['reasons']}

    wait_for(lambda: reasons() == {'held': 7, 'dependency': 1, 'too_big': 1, 'resources': 2}, 'the reasons')
    for job in (held, blocked, big, *busy):
        api.call('POST', f'/v1/jobs/{job}/cancel', {})
    wait_for(lambda: reasons() == {}, 'nothing waits')


def test_history_gantt_and_failures(api):
    failed = [api.call('POST', '/v1/jobs', {'command': ['sh', '-c', f'echo start; echo "cannot open part-{n}.csv" >&2; exit 3'], 'name': f'f{n}'}).json()['id']
              for n in range(3)]
    array = api.call('POST', '/v1/jobs', {'command': ['sh', '-c', 'echo done {}; test {} != 4'], 'array': '2-6:2'}).json()['id']
    running = api.call('POST', '/v1/jobs', {'command': ['sleep', '1000']}).json()['id']
    api.get(f'/v1/jobs/wait?selector={",".join(map(str, [*failed, array]))}')
    wait_for(lambda: api.get(f'/v1/jobs/{running}')['state'] == 'running', 'it runs')

    minutes = api.get('/v1/history')['minutes']
    totals = api.get('/v1/stats')['totals']
    for key in ('submitted', 'started'):
        assert sum(m[key] for m in minutes) == totals[key], key
    assert sum(m['failed'] for m in minutes) == 4
    assert any(m['wait_p50_s'] is not None and m['wait_p50_s'] <= m['wait_p99_s'] for m in minutes)

    spans = {(s['job'], s['task']): s for s in api.get('/v1/gantt?since_s=600')['spans']}
    assert spans[running, None]['state'] == 'running' and spans[running, None]['ended_at'] is None
    assert spans[failed[0], None]['state'] == 'failed' and spans[array, 4]['state'] == 'failed' and spans[array, 2]['state'] == 'succeeded'
    assert spans[failed[0], None]['node'] == 'n1'
    assert api.get('/v1/gantt?limit=1')['cut'] is True
    on_node = api.get('/v1/nodes/n1/attempts')['attempts']
    assert [(a['job'], a['state']) for a in on_node] == [(running, 'running')]
    assert api.call('GET', '/v1/nodes/nobody/attempts').status == 404

    found = []
    cursor = ''
    while cursor is not None:
        page = api.get('/v1/failures?limit=2' + (f'&cursor={cursor}' if cursor else ''))
        assert len(page['failures']) <= 2
        found += page['failures']
        cursor = page['next']
    assert [f['id'] for f in found][:4] == [f'{array}_4', *map(str, reversed(failed))]
    assert {f['signature'] for f in found[1:4]} == {'cannot open part-#.csv'}
    assert [f['message'] for f in found[:4]] == ['done 4', 'cannot open part-2.csv', 'cannot open part-1.csv', 'cannot open part-0.csv']
    assert {(f['reason'], f['exit_code']) for f in found[1:4]} == {('exit', 3)}
    assert {f['node'] for f in found[:4]} == {'n1'} and all(f['ended_at'] for f in found[:4])
    assert api.call('GET', '/v1/failures?cursor=7').status == 400
    api.call('POST', f'/v1/jobs/{running}/cancel', {})


def test_history_outlives_the_master():
    master = Master()
    try:
        master.start()
        master.worker(execute='fake')
        job = master.call('POST', '/v1/jobs', {'command': ['x'], 'array': '1-50'}).json()['id']
        master.get(f'/v1/jobs/wait?selector={job}')
        before = {(s['job'], s['task'], s['state']) for s in master.get('/v1/gantt')['spans']}
        assert len(before) == 50
        master.master.kill()
        master.master.wait()
        master.start()
        assert {(s['job'], s['task'], s['state']) for s in master.get('/v1/gantt')['spans']} == before
        assert sum(m['succeeded'] for m in master.get('/v1/history')['minutes']) == 50
    finally:
        master.stop()


def test_without_the_page_it_says_how_to_get_it(tmp_path):
    here = os.path.dirname(os.path.abspath(__file__))
    script = os.path.join(here, '../../tools/build-web')
    table, code = tmp_path / 'table.c', tmp_path / 'bytes.S'
    subprocess.run([script, '--mode', 'disabled', '--work', tmp_path, '--table', table, '--bytes', code], check=True)
    assert '-Dweb=disabled' in table.read_text()
    no_npm = {'PATH': str(tmp_path)}
    os.symlink('/usr/bin/python3', tmp_path / 'python3')
    made = subprocess.run(['/usr/bin/python3', script, '--mode', 'auto', '--work', tmp_path, '--table', table, '--bytes', code], env=no_npm,
                          stderr=subprocess.PIPE, text=True, check=True)
    assert 'is not installed' in made.stderr and 'is not installed' in table.read_text()
    made = subprocess.run(['/usr/bin/python3', script, '--mode', 'enabled', '--work', tmp_path, '--table', table, '--bytes', code], env=no_npm,
                          stderr=subprocess.PIPE, text=True, check=False)
    assert made.returncode != 0 and '-Dweb=disabled' in made.stderr


def test_the_lock_file_names_no_place_to_download_from():
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, '../../web/package-lock.json'), encoding='utf-8') as file:
        lock = json.load(file)
    for name, package in lock['packages'].items():
        assert 'resolved' not in package, name
        assert not name or package.get('integrity'), name
