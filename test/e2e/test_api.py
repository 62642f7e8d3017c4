"""The HTTP API against its own description: every reply that a test here gets is held against schema/openapi.yaml.

A master and a worker run for the whole module; tests that stop or break something start their own.
"""
import http.client
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.parse
import warnings

import pytest
import yaml

from conftest import PATIENCE_S, ROOT, ROTA, wait_for
from preload import Point

with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    import jsonschema

with open(os.path.join(ROOT, 'schema/openapi.yaml'), encoding='utf-8') as file:
    OPENAPI = yaml.safe_load(file)
with open(os.path.join(ROOT, 'schema/api.def'), encoding='utf-8') as file:
    ROUTES = re.findall(r'^ROUTE\((\w+),\s*"([^"]+)",\s*(\w+),\s*(\w+),\s*(\w+),\s*"([^"]*)"', file.read(), re.M)
METHODS = ('GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE')
WORDS = {'{id}': '1', '{selector}': '1', '{name}': 'nobody', '{file}': 'nothing.js'}
OPEN_ANSWERS = {('POST', '/v1/session'): 403, ('GET', '/assets/{file}'): 404, ('POST', '/v1/lease'): 400}  # of a stranger; all others: 200


# --- the description, and holding replies against it ---

def deref(node):
    while '$ref' in node and len(node) == 1:
        target = OPENAPI
        for key in node['$ref'].split('/')[1:]:
            target = target[key]
        node = target
    return node


def operation_of(method, path):
    path = path.split('?')[0]
    for template in sorted(OPENAPI['paths'], key=lambda t: t.count('{')):
        pattern = re.sub(r'\\\{\w+\\\}', '[^/]+', re.escape(template))
        if re.fullmatch(pattern, path):
            return OPENAPI['paths'][template].get(method.lower())
    return None


def validator(schema):
    return jsonschema.Draft202012Validator(schema, resolver=jsonschema.RefResolver('', OPENAPI))


def check_reply(method, path, reply):
    operation = operation_of(method, path)
    if operation is None:
        assert reply.status in (401, 404, 405), (method, path, reply)
        response = OPENAPI['components']['responses']['Problem']
    else:
        responses = operation['responses']
        response = deref(responses.get(str(reply.status)) or responses.get('default') or {})
        assert response, f'{method} {path}: status {reply.status} is not described'
    kind = reply.headers['content-type'].split(';')[0]
    assert kind in response['content'], f'{method} {path} {reply.status}: {kind} is not described'
    if kind.endswith('json'):
        problems = sorted(map(str, validator(response['content'][kind]['schema']).iter_errors(reply.json())))
        assert not problems, f'{method} {path} {reply.status}: {reply.body[:2000]}\n' + '\n'.join(problems)
    if reply.status >= 400 and kind == 'application/problem+json':
        assert reply.json()['status'] == reply.status


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f'<{self.status} {self.headers.get("content-type")} {self.body[:500]!r}>'


# --- a master and workers ---

class Master:
    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix='rota-api-')
        self.state = os.path.join(self.directory, 'master')
        self.children = []
        self.port = 0
        self.token = None
        self.master = None

    def start(self, *options, environment=None):
        reader, writer = os.pipe()
        with open(os.path.join(self.directory, 'log'), 'ab') as log:
            self.master = subprocess.Popen(
                [ROTA, 'master', '--state', self.state, '--port', str(self.port), '--ready-fd', str(writer), *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[writer], cwd=self.directory,
                env={**os.environ, **(environment or {})})
        os.close(writer)
        self.children.append(self.master)
        with os.fdopen(reader) as ready:
            url = ready.readline().strip()
        assert re.fullmatch(r'http://127\.0\.0\.1:\d+', url), f'no ready line: {url!r}\n{self.log()}'
        self.port = int(url.rsplit(':', 1)[1])
        with open(os.path.join(self.state, 'token'), encoding='ascii') as token:
            self.token = token.read().strip()
        return self

    def worker(self, name='n1', execute='process', cpus=4, *options):
        with open(os.path.join(self.directory, 'log'), 'ab') as log:
            child = subprocess.Popen(
                [ROTA, 'worker', '--state', os.path.join(self.directory, name), '--bus', f'unix:{self.state}/bus.sock',
                 '--name', name, '--exec', execute, '--cpus', str(cpus), '--stop-jobs', *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory)
        self.children.append(child)
        wait_for(lambda: any(n['state'] == 'ready' for n in self.get('/v1/nodes')['nodes'] if n['name'] == name),
                 f'worker {name} is not ready')
        return child

    def log(self):
        with open(os.path.join(self.directory, 'log'), encoding='utf-8', errors='replace') as log:
            return log.read()

    def stop(self):
        for child in reversed(self.children):
            if child.poll() is None:
                child.terminate()
            try:
                child.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        log = self.log()
        shutil.rmtree(self.directory, ignore_errors=True)
        assert 'Sanitizer' not in log and 'runtime error' not in log, log

    # --- talking to it ---

    def connection(self, timeout=PATIENCE_S, source=None):
        return http.client.HTTPConnection('127.0.0.1', self.port, timeout=timeout, source_address=source and (source, 0))

    def call(self, method, path, body=None, headers=None, token='', check=True, timeout=PATIENCE_S, source=None):
        """token '': the right one; None: none. source: the address to call from: wrong tokens are delayed per source."""
        head = {'Content-Type': 'application/json'} if body is not None else {}
        if token is not None:
            head['Authorization'] = f'Bearer {token or self.token}'
        head.update(headers or {})
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        connection = self.connection(timeout, source)
        try:
            connection.request(method, urllib.parse.quote(path, safe='/?&=%*_-,+:[].'), body=body, headers=head)
            answer = connection.getresponse()
            reply = Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()
        if check:
            check_reply(method, path, reply)
        return reply

    def get(self, path, status=200):
        reply = self.call('GET', path)
        assert reply.status == status, (path, reply)
        return reply.json()

    def post(self, path, body=None, status=200, **more):
        reply = self.call('POST', path, body, **more)
        assert reply.status == status, (path, reply)
        return reply.json()

    def submit(self, *command, **keys):
        return self.post('/v1/jobs', {'command': list(command), **keys}, 201)['id']

    def wait(self, selector, timeout_s=60):
        answer = self.get(f'/v1/jobs/wait?selector={selector}&timeout_s={timeout_s}')
        assert answer['done'], answer
        return answer

    def refused(self, reply, status, field=None):
        assert reply.status == status, reply
        assert reply.headers['content-type'] == 'application/problem+json'
        if field is not None:
            assert reply.json().get('field') == field, reply
        return reply.json()


@pytest.fixture(scope='module')
def api():
    master = Master()
    try:
        master.start()
        master.worker()
        yield master
        assert master.master.poll() is None, f'the master ended\n{master.log()}'
    finally:
        master.stop()


@pytest.fixture
def bare():
    """A master without workers, started by the test."""
    master = Master()
    yield master
    master.stop()


# --- the description itself ---

def test_description_and_routes_agree():
    described = set()
    for path, item in OPENAPI['paths'].items():
        for method, operation in item.items():
            if method == 'parameters':
                continue
            parameters = map(deref, item.get('parameters', []) + operation.get('parameters', []))
            query = ' '.join(sorted(p['name'] for p in parameters if p['in'] == 'query'))
            described.add((method.upper(), path, operation['operationId'], query))
    assert described == {(m, p, h, ' '.join(sorted(q.split()))) for m, p, _, h, _, q in ROUTES}


def test_description_knows_every_key_of_a_job():
    with open(os.path.join(ROOT, 'schema/jobspec.def'), encoding='utf-8') as source:
        keys = {key for key in re.findall(r'^KEY\("([^"]+)"', source.read(), re.M) if '.' not in key}
    assert keys == set(OPENAPI['components']['schemas']['JobSpec']['properties'])


def test_description_is_a_valid_schema():
    for schema in OPENAPI['components']['schemas'].values():
        jsonschema.Draft202012Validator.check_schema(schema)


# --- who may ---

SOURCES = (f'127.1.{i // 250}.{i % 250 + 1}' for i in itertools.count())


def concrete(path):
    return re.sub(r'\{\w+\}', lambda m: WORDS[m.group()], path)


def test_entries_of_jobs_that_come_again(api):
    entry = {'schedule': '30 2 29 2 *', 'zone': 'Europe/Berlin', 'overlap': 'wait', 'missed': 'all', 'job': {'command': ['true'], 'cpus': 2}}
    made = api.call('PUT', '/v1/cron/leap day', entry).json()
    assert made['changed'] and {key: made[key] for key in entry} == entry
    assert [time.strftime('%m-%dT%H:%M', time.strptime(at[:16], '%Y-%m-%dT%H:%M')) for at in made['next']] == ['02-29T01:30'] * 3
    assert api.call('PUT', '/v1/cron/leap day', {}).json()['changed'] is False
    assert api.call('PUT', '/v1/cron/leap day', {'paused': True}).json()['next'] == []
    assert [one['name'] for one in api.get('/v1/cron')['entries']] == ['leap day']
    assert api.get('/v1/cron/leap day')['paused'] is True
    api.refused(api.call('PUT', '/v1/cron/leap day', {'zone': 'Nowhere'}), 400, 'zone')
    assert api.call('DELETE', '/v1/cron/leap day').json() == {'removed': True}
    api.refused(api.call('DELETE', '/v1/cron/leap day'), 404, 'name')
    api.refused(api.call('GET', '/v1/cron/leap day'), 404, 'name')


@pytest.mark.parametrize('method,path,role', [r[:3] for r in ROUTES])
def test_every_route_asks_who_is_there(api, method, path, role):
    open_answer = OPEN_ANSWERS.get((method, path), 200)
    path = concrete(path)
    for headers in ({}, {'Authorization': ''}, {'Authorization': 'Bearer'}, {'Authorization': f'Basic {api.token}'},
                    {'Authorization': f'Bearer {api.token[:-1]}'}, {'Authorization': f'Bearer {api.token}x'},
                    {'Authorization': api.token}):
        reply = api.call(method, path, headers=headers, token=None, source=next(SOURCES))
        if role == 'OPEN':
            assert reply.status == open_answer
        else:
            api.refused(reply, 401, 'authorization')
            assert reply.headers['www-authenticate'].startswith('Bearer')
    reply = api.call(method, path, headers={'Host': 'evil.example'}, check=False)
    assert reply.status == 421
    reply = api.call(method, path, headers={'Host': f'localhost:{api.port}'}, token='rota_' + 'A' * 43, source=next(SOURCES))
    assert reply.status == (open_answer if role == 'OPEN' else 401)


def test_a_body_of_a_stranger_is_not_read(api):
    before = api.get('/v1/stats')['job_last']
    body = b'{"command":["true"]}\n' * 100000
    for token in (None, 'rota_' + 'B' * 43):
        try:
            reply = api.call('POST', '/v1/jobs', body, {'Content-Type': 'application/x-ndjson'}, token=token, source=next(SOURCES))
            assert reply.status == 401
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert api.get('/v1/stats')['job_last'] == before


def test_guessing_gets_slower_but_the_right_token_does_not_wait(api):
    source = next(SOURCES)
    for _ in range(6):
        api.call('GET', '/v1/jobs', token='rota_' + 'C' * 43, source=source)
    results = []

    def guess():
        results.append(api.call('GET', '/v1/jobs', token='rota_' + 'D' * 43, source=source).status)

    guesses = [threading.Thread(target=guess) for _ in range(3)]
    for thread in guesses:
        thread.start()
    assert api.call('GET', '/v1/jobs', source=source).status == 200
    assert results == []
    for thread in guesses:
        thread.join()
    assert results == [401] * 3


def test_methods_and_paths_that_are_not_there(api):
    for path in sorted({r[1] for r in ROUTES}):
        allowed = {r[0] for r in ROUTES if r[1] == path}
        for method in METHODS:
            if method in allowed:
                continue
            reply = api.call(method, concrete(path), check=False)
            if method == 'TRACE' and reply.status in (400, 501):
                continue
            assert reply.status == 405, (method, path, reply)
            assert set(reply.headers['allow'].split(', ')) >= allowed
    for path in ('/v1', '/v1/', '/v1/job', '/v1/jobs/1/nothing', '/v1/jobs/', '/v2/jobs', '/metrics/', '/favicon.ico'):
        api.refused(api.call('GET', path), 404, 'path')


@pytest.mark.parametrize('method,path,query', [(r[0], r[1], r[5]) for r in ROUTES])
def test_unknown_query_parameters_are_refused_by_name(api, method, path, query):
    path = concrete(path)
    problem = api.refused(api.call(method, path + '?verbose=1', headers={'Sec-Fetch-Site': 'same-origin'}, check=path != '/' and 'z' not in path), 400, 'verbose')
    assert 'verbose' in problem['detail']
    for name in query.split():
        assert name in problem['remedy']


def test_answers_carry_security_headers(api):
    for path in ('/', '/healthz', '/v1/jobs', '/v1/jobs/99999999'):
        headers = api.call('GET', path).headers
        assert headers['x-content-type-options'] == 'nosniff'
        assert headers['referrer-policy'] == 'no-referrer'
        assert "default-src 'none'" in headers['content-security-policy']
    scripts = re.findall(rb'<script([^>]*)>(.*?)</script>', api.call('GET', '/').body, re.S)
    assert all(b'src="/assets/' in attributes and not text.strip() for attributes, text in scripts)  # nothing inline


# --- submitting: what is refused ---

BAD_JOBS = [
    ('', 'body'), ('{', None), ('null', None), ('7', None), ('"x"', None), ('{}', 'command'), ('{"command":[]}', 'command'),
    ('{"command":"ls"}', 'command'), ('{"command":[7]}', None), ('{"command":["ls"],"comand":1}', 'comand'),
    ('{"command":["ls"],"cpus":-1}', 'cpus'), ('{"command":["ls"],"cpus":"many"}', 'cpus'), ('{"command":["ls"],"cpus":1e999}', None),
    ('{"command":["ls"],"mem":"4Q"}', 'mem'), ('{"command":["ls"],"priority":1000001}', 'priority'),
    ('{"command":["ls"],"priority":1.5}', 'priority'), ('{"command":["ls"],"retries":1001}', 'retries'),
    ('{"command":["ls"],"array":"1-1000000000"}', 'array'), ('{"command":["ls"],"array":"5-1"}', 'array'),
    ('{"command":["ls"],"array":"1,2"}', 'array'),
    ('{"command":["ls"],"name":""}', 'name'), ('{"command":["ls"],"name":"a\\nb"}', 'name'),
    ('{"command":["ls"],"name":"' + 'x' * 257 + '"}', 'name'), ('{"command":["ls"],"command":["rm"]}', None),
    ('{"command":["ls"],"env":{"A=B":"c"}}', None), ('{"command":["ls"],"hold":"yes"}', 'hold'),
    ('{"command":["ls"],"nodes":513}', 'nodes'), ('{"command":["ls"],"nodes":2,"array":"1-2"}', 'nodes'), ('{"command":["ls\\u0000"]}', None), ('{"command":["\\ud800"]}', None),
    ('{"command":["ls"]} {"command":["ls"]}', None), ('[' * 100 + ']' * 100, None), ('[]', 'body'),
    ('[{"command":["ls"]},{"command":[]}]', '[1].command'), ('[{"command":["ls"]}', None), ('[{"command":["ls"]},]', None),
    ('\x00', None), ('{"command":["ls"],"key":""}', 'key'),
]


@pytest.mark.parametrize('body,field', BAD_JOBS, ids=[b[0][:40] for b in BAD_JOBS])
def test_bad_jobs_are_refused_with_field_and_change_nothing(api, body, field):
    before = api.get('/v1/stats')['job_last']
    problem = api.refused(api.call('POST', '/v1/jobs', body), 400, field)
    assert problem['detail']
    assert api.get('/v1/stats')['job_last'] == before


def test_bytes_that_are_no_utf8(api):
    api.refused(api.call('POST', '/v1/jobs', b'{"command":["\xff\xfe"]}'), 400)


def test_limits(api):
    mib = 'x' * (1024 * 1024)
    before = api.get('/v1/stats')['job_last']
    assert api.call('POST', '/v1/jobs', {'command': ['ls'], 'name': mib}).status == 413
    assert api.call('POST', '/v1/jobs', {'command': ['ls'], 'name': mib[:900000]}).status in (400, 413)
    assert api.call('POST', '/v1/jobs', {'command': ['ls', mib[:300000]]}).status in (400, 413)
    assert api.call('POST', '/v1/jobs', [{'command': ['ls']}] * 1001).status == 413
    assert api.call('POST', '/v1/jobs/1/cancel', {'reason': mib[:70000]}, check=False).status == 413
    api.refused(api.call('POST', '/v1/jobs', {'command': ['ls'], 'array': '1-10000001'}), 400, 'array')
    assert api.call('GET', '/v1/jobs?name=' + 'x' * 9000, check=False).status in (400, 414)
    line = b'{"command":["ls"],"name":"' + b'x' * (1024 * 1024) + b'"}\n'
    reply = api.call('POST', '/v1/jobs', line, {'Content-Type': 'application/x-ndjson'})
    assert reply.status in (400, 413) and reply.json()['accepted'] == 0
    assert api.get('/v1/stats')['job_last'] == before


@pytest.mark.parametrize('kind', ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data', 'application/jsonx', ''])
def test_other_content_types_are_refused(api, kind):
    api.refused(api.call('POST', '/v1/jobs', '{"command":["ls"]}', {'Content-Type': kind}), 400, 'content-type')
    api.refused(api.call('POST', '/v1/jobs/1/cancel', '{}', {'Content-Type': kind}), 400, 'content-type')
    api.refused(api.call('POST', '/v1/jobs/1/cancel', '{}', {'Content-Type': 'application/x-ndjson'}), 400, 'content-type')


def test_content_type_may_have_parameters(api):
    reply = api.call('POST', '/v1/jobs', '{"command":["true"]}', {'Content-Type': 'Application/JSON; charset=utf-8'})
    assert reply.status == 201


BAD_QUERIES = [
    ('/v1/jobs?limit=0', 'limit'), ('/v1/jobs?limit=1001', 'limit'), ('/v1/jobs?limit=x', 'limit'), ('/v1/jobs?state=done', 'state'),
    ('/v1/jobs?order=up', 'order'), ('/v1/jobs?cursor=x', 'cursor'), ('/v1/jobs?order=asc&cursor=d5', 'cursor'),
    ('/v1/jobs?cursor=d-1', 'cursor'), ('/v1/jobs?label==x', 'label'), ('/v1/jobs?selector=', 'selector'),
    ('/v1/jobs/wait', 'selector'), ('/v1/jobs/wait?selector=1&timeout_s=-1', 'timeout_s'),
    ('/v1/jobs/wait?selector=1&timeout_s=99999', 'timeout_s'), ('/v1/jobs/x', 'id'), ('/v1/jobs/0', 'id'), ('/v1/jobs/-1', 'id'),
    ('/v1/jobs/99999999999999999999999', 'id'), ('/v1/nodes?state=x', 'state'), ('/v1/events?job=x', 'job'),
    ('/v1/events?since=x', 'since'),
]


@pytest.mark.parametrize('path,field', BAD_QUERIES)
def test_bad_parameters_are_refused_by_name(api, path, field):
    api.refused(api.call('GET', path), 400, field)


def test_things_that_are_not_there(api):
    for path in ('/v1/jobs/99999999', '/v1/jobs/99999999/logs', '/v1/jobs/99999999/why', '/v1/jobs/99999999/events',
                 '/v1/jobs/99999999/attempts', '/v1/jobs/99999999/usage', '/v1/jobs/99999999/tasks', '/v1/nodes/nobody',
                 '/v1/jobs/wait?selector=99999999', '/v1/jobs/wait?selector=no-such-name'):
        api.refused(api.call('GET', path), 404)
    for action in ('cancel', 'hold', 'release', 'retry'):
        for selector in ('99999999', '99999990-99999999', 'no-such-name', 'no-such-*', '99999999_1'):
            api.refused(api.call('POST', f'/v1/jobs/{selector}/{action}'), 404, 'selector')
    api.refused(api.call('POST', '/v1/nodes/nobody/drain'), 404, 'name')
    api.refused(api.call('POST', '/v1/jobs', {'command': ['ls'], 'after': [{'job': 99999999}]}), 404, 'after')


# --- submitting: once and no more ---

def test_the_same_key_gives_the_same_job(api):
    first = api.call('POST', '/v1/jobs', '{"command":["true"],"cpus":0.5}', {'Idempotency-Key': 'k-1'})
    again = api.call('POST', '/v1/jobs', '{ "cpus" : 0.5, "command" : ["true"] }', {'Idempotency-Key': 'k-1'})
    in_job = api.call('POST', '/v1/jobs', {'command': ['true'], 'cpus': 0.5, 'key': 'k-1'})
    assert (first.status, again.status, in_job.status) == (201, 200, 200)
    assert first.json()['id'] == again.json()['id'] == in_job.json()['id']
    assert first.headers['location'] == f'/v1/jobs/{first.json()["id"]}'
    other = api.refused(api.call('POST', '/v1/jobs', {'command': ['false']}, {'Idempotency-Key': 'k-1'}), 409, 'key')
    assert str(first.json()['id']) in other['detail']
    api.refused(api.call('POST', '/v1/jobs', {'command': ['true'], 'key': 'a'}, {'Idempotency-Key': 'b'}), 400, 'key')
    api.refused(api.call('POST', '/v1/jobs', {'command': ['true']}, {'Idempotency-Key': 'x' * 256}), 400, 'key')
    api.refused(api.call('POST', '/v1/jobs', {'command': ['true']}, {'Idempotency-Key': ''}), 400, 'key')


def test_a_relative_time_is_the_same_when_it_is_sent_again(api):
    body = '{"command":["true"],"begin":"now+1h"}'
    first = api.post('/v1/jobs', body, 201, headers={'Idempotency-Key': 'k-2'})
    time.sleep(0.01)
    assert api.post('/v1/jobs', body, 200, headers={'Idempotency-Key': 'k-2'})['id'] == first['id']
    api.post(f'/v1/jobs/{first["id"]}/cancel')


def test_one_key_at_the_same_time(api):
    ids, barrier = [], threading.Barrier(8)

    def submit():
        barrier.wait()
        ids.append(api.call('POST', '/v1/jobs', {'command': ['true']}, {'Idempotency-Key': 'k-3'}))

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({r.json()['id'] for r in ids}) == 1
    assert sorted(r.status for r in ids) == [200] * 7 + [201]


def test_keys_of_lists_and_streams(api):
    jobs = [{'command': ['true'], 'name': f'key-list-{i}'} for i in range(3)]
    first = api.post('/v1/jobs', jobs, 201, headers={'Idempotency-Key': 'k-4'})
    again = api.post('/v1/jobs', jobs, 200, headers={'Idempotency-Key': 'k-4'})
    assert first == again and first['count'] == 3
    lines = '\n'.join(map(json.dumps, jobs))
    stream = {'Content-Type': 'application/x-ndjson', 'Idempotency-Key': 'k-5'}
    half = api.post('/v1/jobs', lines.split('\n')[0] + '\n', 201, headers=stream)
    whole = api.post('/v1/jobs', lines, 201, headers=stream)
    assert whole['count'] == 3 and whole['first'] == half['first']
    assert api.post('/v1/jobs', lines + '\n', 200, headers=stream) == whole
    problem = api.refused(api.call('POST', '/v1/jobs', lines.replace('key-list-1', 'other'), headers=stream), 409, 'line 2: key')
    assert problem['accepted'] == 1


def test_a_job_of_a_stream_keeps_a_key_of_its_own(api):
    stream = {'Content-Type': 'application/x-ndjson', 'Idempotency-Key': 'k-own-1'}
    lines = b'{"command":["true"],"key":"own-1"}\n{"command":["true"]}\n'
    first = api.post('/v1/jobs', lines, 201, headers=stream)
    assert first['count'] == 2
    # In another request, with another key: the one that has its own is known.
    again = api.post('/v1/jobs', lines, 201, headers={**stream, 'Idempotency-Key': 'k-own-2'})
    assert again['ranges'][0] == [first['first'], first['first']] and again['ranges'][-1][1] > first['last']
    assert api.post('/v1/jobs', lines, 200, headers={**stream, 'Idempotency-Key': 'k-own-2'}) == again
    other = b'{"command":["false"],"key":"own-1"}\n'
    api.refused(api.call('POST', '/v1/jobs', other, {**stream, 'Idempotency-Key': 'k-own-3'}), 409, 'line 1: key')


def test_a_key_of_a_stream_that_began_elsewhere(api):
    """Whatever was sent before under the key, line by line a job is there once."""
    lines = [json.dumps({'command': ['true'], 'name': f'key-line-{i}'}) for i in range(4)]
    stream = {'Content-Type': 'application/x-ndjson', 'Idempotency-Key': 'k-6'}
    later = api.post('/v1/jobs', '\n' + '\n'.join(lines[1:]), 201, headers=stream)  # nothing in line 1
    whole = api.post('/v1/jobs', '\n'.join(lines), 201, headers=stream)
    assert later['count'] == 3 and whole['count'] == 4
    assert whole['ranges'] == [[later['last'] + 1, later['last'] + 1], [later['first'], later['last']]]
    as_list = api.post('/v1/jobs', [json.loads(line) for line in lines], 200, headers={'Idempotency-Key': 'k-6'})
    assert as_list['ids'] == [later['last'] + 1, *range(later['first'], later['last'] + 1)]


def test_others_are_served_while_a_stream_waits_for_the_disk(bare):
    slow = Point(os.path.join(bare.directory, 'point'), 'master', fault=('fdatasync', 3, 6, 0), delay_ms=800)
    bare.start(environment=slow.environment())
    lines = b'{"command":["true"],"name":"of-a-stream"}\n' * 60000
    answers = []
    stream = threading.Thread(target=lambda: answers.append(bare.call('POST', '/v1/jobs', lines, {'Content-Type': 'application/x-ndjson'})))
    stream.start()
    singles = 0
    while stream.is_alive():
        time.sleep(0.4)  # the stream has filled what may wait by then
        bare.submit('true')
        singles += 1
    stream.join()
    assert answers[0].status == 201 and answers[0].json()['count'] == 60000
    assert bare.get('/v1/stats')['jobs']['queued'] == 60000 + singles


@pytest.mark.parametrize('other', ['stream', 'list'])
def test_two_requests_with_one_key_at_the_same_time(api, other):
    jobs = [{'command': ['true'], 'name': f'key-both-{i}'} for i in range(2000)]
    lines = b''.join(json.dumps(job).encode() + b'\n' for job in jobs)
    half = lines.index(b'key-both-1000')
    key = f'k-7-{other}'
    slow = http.client.HTTPConnection('127.0.0.1', api.port, timeout=PATIENCE_S)
    slow.putrequest('POST', '/v1/jobs')
    for name, value in {'Authorization': f'Bearer {api.token}', 'Content-Type': 'application/x-ndjson', 'Idempotency-Key': key,
                        'Content-Length': str(len(lines))}.items():
        slow.putheader(name, value)
    slow.endheaders(lines[:half])
    if other == 'stream':
        fast = api.call('POST', '/v1/jobs', lines, {'Content-Type': 'application/x-ndjson', 'Idempotency-Key': key}).json()
        ids = [n for first, last in fast['ranges'] for n in range(first, last + 1)]
    else:
        fast = api.call('POST', '/v1/jobs', jobs[:1000], {'Idempotency-Key': key}).json()
        ids = fast['ids']
    slow.send(lines[half:])
    answer = json.loads(slow.getresponse().read())
    slow.close()
    told = [n for first, last in answer['ranges'] for n in range(first, last + 1)]
    assert answer['count'] == 2000 and len(set(told)) == 2000
    assert told[:len(ids)] == ids
    assert api.post('/v1/jobs', lines, 200, headers={'Content-Type': 'application/x-ndjson', 'Idempotency-Key': key}) == answer


# --- streams of jobs ---

NDJSON = {'Content-Type': 'application/x-ndjson'}


def ids_of(answer):
    return [i for first, last in answer['ranges'] for i in range(first, last + 1)]


def test_a_stream_of_many_jobs(api):
    count = 20000
    body = b''.join(b'{"command":["true"],"hold":true,"name":"many-%d"}\r\n\n' % i for i in range(count))
    answer = api.post('/v1/jobs', body, 201, headers=NDJSON)
    assert answer['count'] == count and len(set(ids_of(answer))) == count
    ids = ids_of(answer)
    assert api.get(f'/v1/jobs/{ids[0]}')['name'] == 'many-0'
    assert api.get(f'/v1/jobs/{ids[-1]}')['name'] == f'many-{count - 1}'
    cancelled = api.post('/v1/jobs/many-*/cancel')
    assert cancelled['matched'] == cancelled['changed'] == count and len(cancelled['ids']) == 1000
    assert api.wait('many-*')['counts'] == {'cancelled': count}


def test_a_stream_in_odd_pieces(api):
    body = b''.join(b'{"command":["true"],"name":"piece-%d"}\n' % i for i in range(50)).rstrip(b'\n')

    def pieces():
        for size in itertools.cycle((1, 7, 30, 2)):
            nonlocal body
            if not body:
                return
            yield body[:size]
            body = body[size:]

    connection = api.connection()
    connection.request('POST', '/v1/jobs', body=pieces(), encode_chunked=True,
                       headers={**NDJSON, 'Authorization': f'Bearer {api.token}', 'Transfer-Encoding': 'chunked'})
    answer = connection.getresponse()
    assert answer.status == 201
    assert json.loads(answer.read())['count'] == 50
    connection.close()


@pytest.mark.parametrize('bad,field', [('{"command":[]}', 'command'), ('{"command"', ''), ('[]', ''), ('7', '')])
def test_a_bad_line_ends_a_stream_and_is_named(api, bad, field):
    good = '{"command":["true"],"name":"before-bad"}\n'
    problem = api.refused(api.call('POST', '/v1/jobs', good * 10 + bad + '\n' + good * 5000, NDJSON), 400)
    assert problem['field'].startswith('line 11') and problem['field'].endswith(field), problem
    assert problem['accepted'] == 10
    assert api.get(f'/v1/jobs/{problem["last"]}')['name'] == 'before-bad'
    assert api.get('/v1/stats')['job_last'] == problem['last']


def test_empty_streams(api):
    for body in ('', '\n', '\r\n\r\n'):
        api.refused(api.call('POST', '/v1/jobs', body, NDJSON), 400, 'body')


# --- the life of a job ---

def test_a_job_from_begin_to_end(api):
    job = api.submit('sh', '-c', 'echo out; echo err >&2', name='life', labels={'team': 'a'}, env={'X': 'y z'}, queue='q1', mem='10M',
                     time_limit_s=60)
    answer = api.wait(job)
    assert answer['counts'] == {'succeeded': 1} and answer['exit_code'] == 0 and answer['left'] == 0
    shown = api.get(f'/v1/jobs/{job}')
    assert shown['state'] == 'succeeded' and shown['exit_code'] == 0 and shown['node'] == 'n1' and shown['attempts'] == 1
    assert shown['command'] == ['sh', '-c', 'echo out; echo err >&2'] and shown['labels'] == {'team': 'a'}
    assert shown['env'] == {'X': 'y z'} and shown['queue'] == 'q1' and shown['mem_bytes'] == 10 << 20
    assert shown['time_limit_s'] == 60 and shown['submitted_at'] <= shown['started_at'] <= shown['ended_at']
    assert shown['user'] and shown['reason'] is None and shown['signal'] is None
    attempts = api.get(f'/v1/jobs/{job}/attempts')['attempts']
    assert [(a['attempt'], a['node'], a['final'], a['exit_code'], a['stdout_bytes']) for a in attempts] == [(1, 'n1', 'succeeded', 0, 4)]
    events = [e['event'] for e in api.get(f'/v1/jobs/{job}/events')['events']]
    assert events[0] == 'job.submitted' and events[-1] == 'job.ended' and 'job.dispatched' in events
    usage = api.get(f'/v1/jobs/{job}/usage')
    assert usage['attempts'] == 1 and usage['requested']['mem_bytes'] == 10 << 20 and usage['stdout_bytes'] == 4
    assert api.get(f'/v1/jobs/{job}/why')['reason'] == 'nothing'
    for stream, text in (('stdout', b'out\n'), ('stderr', b'err\n')):
        for more in ('', '&follow=1', '&attempt=1'):
            reply = api.call('GET', f'/v1/jobs/{job}/logs?stream={stream}{more}')
            assert reply.body == text
            assert reply.headers['content-type'] == 'text/plain; charset=utf-8'
            assert reply.headers['content-disposition'].startswith('attachment')
            assert 'sandbox' in reply.headers['content-security-policy']
            assert reply.headers['rota-attempt'] == '1'


def test_logs_by_offset_tail_and_attempt(api):
    job = api.submit('sh', '-c', 'for i in 1 2 3 4 5; do echo line$i; done; printf last')
    api.wait(job)

    def logs(query):
        return api.call('GET', f'/v1/jobs/{job}/logs{query}').body

    assert logs('') == b'line1\nline2\nline3\nline4\nline5\nlast'
    assert logs('?offset=24') == b'line5\nlast'
    assert logs('?offset=1000') == b''
    assert logs('?tail=2') == b'line5\nlast'
    assert logs('?tail=0') == b''
    assert logs('?tail=99&follow=1') == logs('')
    assert logs('?stream=stderr') == b''
    api.refused(api.call('GET', f'/v1/jobs/{job}/logs?attempt=2'), 404, 'attempt')
    api.refused(api.call('GET', f'/v1/jobs/{job}/logs?attempt=0'), 400, 'attempt')
    api.refused(api.call('GET', f'/v1/jobs/{job}/logs?stream=stdin'), 400, 'stream')
    api.refused(api.call('GET', f'/v1/jobs/{job}/logs?follow=yes'), 400, 'follow')
    api.refused(api.call('GET', f'/v1/jobs/{job}/logs?offset=-1'), 400, 'offset')


def test_following_a_job_from_before_it_starts(api):
    job = api.submit('sh', '-c', 'echo one; sleep 0.3; echo two', hold=True)
    got = []

    def follow():
        got.append(api.call('GET', f'/v1/jobs/{job}/logs?follow=1').body)

    thread = threading.Thread(target=follow)
    thread.start()
    time.sleep(0.1)
    assert api.call('GET', f'/v1/jobs/{job}/logs').body == b''
    api.post(f'/v1/jobs/{job}/release')
    thread.join(PATIENCE_S)
    assert got == [b'one\ntwo\n']


def test_a_large_output_comes_whole(api):
    job = api.submit('sh', '-c', 'seq 1 1000000')
    api.wait(job)
    body = api.call('GET', f'/v1/jobs/{job}/logs').body
    assert body == b''.join(b'%d\n' % i for i in range(1, 1000001))
    assert api.call('GET', f'/v1/jobs/{job}/logs?tail=3').body == b'999998\n999999\n1000000\n'


def test_a_job_that_fails_and_is_tried_again(api):
    job = api.submit('sh', '-c', 'echo bad; echo worse >&2; exit 3', retries=1, backoff_s=0.001, name='fails')
    answer = api.wait(job)
    assert answer['exit_code'] == 3 and answer['counts'] == {'failed': 1}
    shown = api.get(f'/v1/jobs/{job}')
    assert (shown['state'], shown['reason'], shown['exit_code'], shown['attempts']) == ('failed', 'exit', 3, 2)
    assert shown['stdout_tail'] == 'bad\n' and shown['stderr_tail'] == 'worse\n'
    attempts = api.get(f'/v1/jobs/{job}/attempts')['attempts']
    assert [a['final'] for a in attempts] == [None, 'failed']
    again = api.post(f'/v1/jobs/{job}/retry')
    assert again['submitted'] == 1
    new = api.get(f'/v1/jobs/{again["ids"][0]}')
    assert new['retry_of'] == job and new['command'] == shown['command'] and new['name'] == 'fails'
    assert api.wait(new['id'])['exit_code'] == 3


def test_a_job_that_a_signal_ends(api):
    job = api.submit('sh', '-c', 'kill -9 $$')
    assert api.wait(job)['exit_code'] == 128 + 9
    shown = api.get(f'/v1/jobs/{job}')
    assert (shown['reason'], shown['signal'], shown['exit_code']) == ('signal', 9, None)


def test_cancelling_what_runs(api):
    job = api.submit('sleep', '1000')
    wait_for(lambda: api.get(f'/v1/jobs/{job}')['state'] == 'running', 'it does not start')
    changed = api.post(f'/v1/jobs/{job}/cancel', {'reason': 'no longer needed'})
    assert (changed['matched'], changed['changed'], changed['ids']) == (1, 1, [job])
    assert api.wait(job)['counts'] == {'cancelled': 1}
    assert api.post(f'/v1/jobs/{job}/cancel')['changed'] == 0
    cancel = [e for e in api.get(f'/v1/jobs/{job}/events')['events'] if e['event'] == 'job.cancel']
    assert cancel[0]['reason'] == 'no longer needed' and cancel[0]['actor']


def test_holding_and_releasing_and_priority(api):
    job = api.submit('true', hold=True)
    assert api.get(f'/v1/jobs/{job}')['state'] == 'held'
    assert api.get(f'/v1/jobs/{job}/why')['reason'] == 'held'
    assert api.post(f'/v1/jobs/{job}/hold')['changed'] == 0
    updated = api.call('PATCH', f'/v1/jobs/{job}', {'priority': 7})
    assert updated.json() == {'id': job, 'priority': 7, 'changed': True}
    assert api.get(f'/v1/jobs/{job}')['priority'] == 7
    for body, field in (({}, 'priority'), ({'priority': '7'}, 'priority'), ({'priority': 10**7}, 'priority'), ({'prioritty': 1}, 'prioritty')):
        api.refused(api.call('PATCH', f'/v1/jobs/{job}', body), 400, field)
    assert api.post(f'/v1/jobs/{job}/release')['changed'] == 1
    assert api.wait(job)['exit_code'] == 0


def test_dependencies(api):
    first = api.submit('sh', '-c', 'exit 1', hold=True)
    ok, fail = (api.submit('true', after=[{'job': first, 'when': when}]) for when in ('ok', 'fail'))
    assert api.get(f'/v1/jobs/{ok}')['state'] == 'blocked'
    why = api.get(f'/v1/jobs/{ok}/why')
    assert why['reason'] == 'dependency' and why['blocked_by'] == first
    assert api.get(f'/v1/jobs/{ok}')['after'] == [{'job': first, 'when': 'ok'}]
    api.post(f'/v1/jobs/{first}/release')
    assert api.wait(f'{first},{ok},{fail}')['counts'] == {'failed': 2, 'succeeded': 1}
    assert api.get(f'/v1/jobs/{ok}')['reason'] == 'dependency'


def test_why_not(api):
    job = api.submit('true', cpus=1000, resources={'licence': 2})
    why = api.get(f'/v1/jobs/{job}/why')
    assert why['reason'] == 'too_big' and why['nodes_ready'] >= 1
    assert {d['name'] for d in why['dims']} >= {'cpus'}
    api.post(f'/v1/jobs/{job}/cancel')


# --- arrays ---

def tasks_of(events):
    return sorted({event['task'] for event in events if 'task' in event})


def told(api, job, last):
    """The events of a job from the first to one that is named so, as the stream tells them."""
    connection, answer = open_stream(api, f'/v1/events?job={job}&since=0')
    events = read_events(answer, lambda e: e[1] == last)
    connection.close()
    return [data for _, _, data in events]


def test_events_of_an_array_while_they_happen(api):
    connection, answer = open_stream(api, '/v1/events')
    job = api.submit('true', array='7-11:2')
    live = [data for _, name, data in read_events(answer, lambda e: e[1] == 'job.array_ended' and e[2]['job'] == job)
            if data.get('job') == job]
    connection.close()
    assert tasks_of(live) == [7, 9, 11]
    environment = {**os.environ, 'ROTA_MASTER': f'http://127.0.0.1:{api.port}', 'ROTA_TOKEN_FILE': os.path.join(api.state, 'token')}
    lines = subprocess.run([ROTA, 'events', '--json', '--job', str(job)], env=environment, capture_output=True, text=True,
                           timeout=PATIENCE_S, check=True).stdout.splitlines()
    assert [json.loads(line) for line in lines] == live


def test_an_array(api):
    job = api.submit('sh', '-c', 'echo task {}; test {} -ne 14', array='10-18:2', name='arr')
    answer = api.wait(job)
    assert answer['counts'] == {'succeeded': 4, 'failed': 1} and answer['exit_code'] == 1
    shown = api.get(f'/v1/jobs/{job}')
    assert shown['array'] and shown['tasks'] == 5 and (shown['first'], shown['step'], shown['limit']) == (10, 2, None)
    tasks = api.get(f'/v1/jobs/{job}/tasks')
    assert [t['index'] for t in tasks['tasks']] == [10, 12, 14, 16, 18]
    assert [t['id'] for t in api.get(f'/v1/jobs/{job}/tasks?state=failed')['tasks']] == [f'{job}_14']
    pages, cursor = [], ''
    while cursor is not None:
        page = api.get(f'/v1/jobs/{job}/tasks?limit=2' + (f'&cursor={cursor}' if cursor else ''))
        pages += [t['index'] for t in page['tasks']]
        cursor = page['next']
    assert pages == [10, 12, 14, 16, 18]
    task = api.get(f'/v1/jobs/{job}_14')
    assert task['exit_code'] == 1
    attempt = api.get(f'/v1/jobs/{job}_14/attempts')['attempts'][0]
    assert (task['node'], task['started_at']) == (attempt['node'], attempt['started_at']) and task['node']
    assert api.call('GET', f'/v1/jobs/{job}_12/logs').body == b'task 12\n'
    assert api.call('GET', f'/v1/jobs/{job}/logs?task=18').body == b'task 18\n'
    api.refused(api.call('GET', f'/v1/jobs/{job}/logs'), 400, 'task')
    api.refused(api.call('GET', f'/v1/jobs/{job}_11'), 404, 'id')
    api.refused(api.call('GET', f'/v1/jobs/{job}_10/why?task=12'), 400, 'task')
    attempts, cursor = [], ''
    while cursor is not None:
        page = api.get(f'/v1/jobs/{job}/attempts?limit=2' + (f'&cursor={cursor}' if cursor else ''))
        attempts += [a['task'] for a in page['attempts']]
        cursor = page['next']
    assert attempts == [10, 12, 14, 16, 18]
    assert [a['task'] for a in api.get(f'/v1/jobs/{job}_16/attempts')['attempts']] == [16]
    assert api.get(f'/v1/jobs/{job}/usage')['attempts'] == 5
    assert api.get(f'/v1/jobs/{job}/usage?task=10')['attempts'] == 1
    assert tasks_of(api.get(f'/v1/jobs/{job}/events')['events']) == [10, 12, 14, 16, 18]
    assert tasks_of(told(api, job, 'job.array_ended')) == [10, 12, 14, 16, 18]
    again = api.post(f'/v1/jobs/{job}/retry')
    assert again['submitted'] == 1
    new = api.get(f'/v1/jobs/{again["ids"][0]}')
    assert new['tasks'] == 1 and new['first'] == 14 and new['retry_of'] == job
    assert api.wait(f'{new["id"]}_14')['counts'] == {'failed': 1}


def test_one_task_of_an_array_can_be_cancelled(api):
    job = api.submit('true', array='1-10', hold=True)
    assert api.post(f'/v1/jobs/{job}_3,{job}_4/cancel')['matched'] == 2
    api.post(f'/v1/jobs/{job}/release')
    assert api.wait(job)['counts'] == {'succeeded': 8, 'cancelled': 2}
    assert api.get(f'/v1/jobs/{job}_3')['state'] == 'cancelled'


def test_a_huge_array_is_quick(api):
    job = api.submit('true', array='1-10000000', hold=True)
    assert api.get(f'/v1/jobs/{job}')['counts'] == {'held': 10000000}
    waited = api.get(f'/v1/jobs/wait?selector={job}&timeout_s=0')
    assert not waited['done'] and waited['left'] == 1 and waited['counts'] == {'held': 10000000}
    assert api.post(f'/v1/jobs/{job}/cancel')['changed'] == 1
    assert api.wait(job)['counts'] == {'cancelled': 10000000}


# --- selectors, lists ---

def test_selectors(api):
    ids = [api.submit('true', hold=True, name=f'sel-{n}') for n in ('a', 'b', 'a', 'c')]
    assert api.post(f'/v1/jobs/{ids[0]}-{ids[1]}/release')['matched'] == 2
    assert api.post('/v1/jobs/sel-a/release') == {'matched': 2, 'changed': 1, 'ids': [ids[2]], 'problem': None} or \
        api.get(f'/v1/jobs/{ids[2]}')['state'] != 'held'
    assert api.post('/v1/jobs/last/cancel')['ids'] == [ids[3]]
    api.wait('sel-*')
    states = [api.get(f'/v1/jobs/{i}')['state'] for i in ids]
    assert states == ['succeeded', 'succeeded', 'succeeded', 'cancelled']
    assert api.post('/v1/jobs/sel-a/cancel', check=False, status=404)
    api.refused(api.call('POST', '/v1/jobs/9-5/cancel'), 400, 'selector')
    for path in ('a%2Fb', '1%0A2', '1%002'):
        assert api.call('POST', f'/v1/jobs/{path}/cancel').status == 400


def pages(api, path):
    """The ids of all jobs of a list, page by page."""
    ids, cursor = [], None
    while True:
        page = api.get(path + (f'&cursor={cursor}' if cursor else ''))
        ids += [j['id'] for j in page['jobs']]
        cursor = page['next']
        if cursor is None:
            return ids


def test_pages_are_complete_in_both_orders(api):
    ids = [api.submit('true', name='page', labels={'n': str(i)}, queue='pages') for i in range(25)]
    for order, expected in (('asc', ids), ('desc', ids[::-1])):
        for limit in (1, 7, 25, 1000):
            assert pages(api, f'/v1/jobs?queue=pages&order={order}&limit={limit}') == expected
        selected = [i for i in expected if ids[3] <= i <= ids[5] or i == ids[9]]
        assert pages(api, f'/v1/jobs?selector={ids[3]}-{ids[5]},{ids[9]}&order={order}&limit=2') == selected
    assert len(api.get('/v1/jobs?limit=7')['jobs']) == 7
    assert pages(api, '/v1/jobs?name=page&label=n=7') == [ids[7]]
    assert pages(api, '/v1/jobs?name=pa*&label=n&queue=pages&order=asc') == ids
    assert pages(api, '/v1/jobs?user=nobody-at-all&queue=pages') == []
    assert pages(api, '/v1/jobs?selector=last') == [ids[-1]]
    assert pages(api, '/v1/jobs?selector=99999990-99999999') == []
    assert sum(api.get('/v1/jobs?limit=1')['counts'].values()) >= 25
    queues = {q['name']: q for q in api.get('/v1/queues')['queues']}
    assert sum(queues['pages']['tasks'].values()) == 25


# --- waiting, events ---

def test_waiting_has_a_limit(api):
    job = api.submit('true', hold=True)
    begun = time.monotonic()
    answer = api.get(f'/v1/jobs/wait?selector={job}&timeout_s=1')
    assert answer == {'done': False, 'left': 1, 'matched': 1, 'counts': {'held': 1}, 'exit_code': 0}
    assert time.monotonic() - begun >= 0.9
    api.post(f'/v1/jobs/{job}/cancel')


def test_many_wait_for_one(api):
    job = api.submit('true', hold=True)
    answers = []

    def wait():
        answers.append(api.get(f'/v1/jobs/wait?selector={job}&timeout_s=60'))

    threads = [threading.Thread(target=wait) for _ in range(50)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    api.post(f'/v1/jobs/{job}/release')
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(answers) == 50 and all(a['done'] and a['counts'] == {'succeeded': 1} for a in answers)


def open_stream(api, path, headers=None):
    connection = api.connection()
    connection.request('GET', path, headers={'Authorization': f'Bearer {api.token}', **(headers or {})})
    answer = connection.getresponse()
    assert answer.status == 200 and answer.getheader('content-type').startswith('text/event-stream')
    return connection, answer


def read_events(answer, until):
    """Events as (id, name, data) up to and including the first that `until` accepts."""
    event, events = {}, []
    while True:
        raw = answer.readline()
        assert raw, f'the stream ended after {events[-1:]}'
        line = raw.decode().rstrip('\n')
        if line.startswith(':') or line.startswith('retry:'):
            continue
        if line:
            key, value = line.split(': ', 1)
            event[key] = value
            continue
        if not event:
            continue
        events.append((int(event.get('id', 0)), event['event'], json.loads(event['data'])))
        event = {}
        if until(events[-1]):
            return events


EVENT = {'$ref': '#/components/schemas/Event'}


def test_events_live_and_resumed(api):
    connection, answer = open_stream(api, '/v1/events')
    job = api.submit('true')
    ended = lambda e: e[1] == 'job.ended' and e[2]['job'] == job  # noqa: E731
    live = read_events(answer, ended)
    connection.close()
    for seq, name, data in live:
        validator(EVENT).validate(data)
        assert (data['seq'], data['event']) == (seq, name)
    assert [e[0] for e in live] == list(range(live[0][0], live[0][0] + len(live)))
    middle = live[len(live) // 2][0]
    for path, headers in (('/v1/events', {'Last-Event-ID': str(middle)}), (f'/v1/events?since={middle}', {})):
        connection, answer = open_stream(api, path, headers)
        resumed = read_events(answer, ended)
        connection.close()
        assert resumed == [e for e in live if e[0] > middle]
    other = api.submit('true')
    connection, answer = open_stream(api, f'/v1/events?job={other}&since=0')
    mine = read_events(answer, lambda e: e[1] == 'job.ended')
    connection.close()
    assert {e[2]['job'] for e in mine} == {other}
    assert [e[2] for e in mine] == api.get(f'/v1/jobs/{other}/events')['events']


def test_many_streams_get_the_same_events_each_once(api):
    """For more than a few streams events of several commits go out together: whoever comes in between misses none."""
    since = api.get('/v1/stats')['store']['last_seq']
    streams = [open_stream(api, f'/v1/events?since={since}')]
    jobs = []
    for i in range(20):
        jobs.append(api.submit('true'))
        streams.append(open_stream(api, '/v1/events' if i % 2 else f'/v1/events?since={since}'))
    api.wait(f'{jobs[0]}-{jobs[-1]}')  # so that the last one ends last
    last = api.submit('true')
    whole = None
    for i, (connection, answer) in enumerate(streams):
        events = read_events(answer, lambda e: e[1] == 'job.ended' and e[2]['job'] == last)
        connection.close()
        whole = whole or events
        assert events == whole[-len(events):]
        if i and i % 2:
            assert len(events) == len(whole)
    assert [e[0] for e in whole] == list(range(since + 1, since + len(whole) + 1))
    assert sum(e[1] == 'job.ended' and e[2]['job'] in jobs for e in whole) == len(jobs)


def test_events_from_the_beginning_reach_the_present(api):
    connection, answer = open_stream(api, '/v1/events?since=0')
    job = api.submit('true')
    events = read_events(answer, lambda e: e[1] == 'job.ended' and e[2]['job'] == job)
    connection.close()
    assert events[0][1] == 'master.epoch'
    assert [e[0] for e in events] == list(range(1, len(events) + 1))


def test_streams_catch_up_with_a_journal_that_grows(api):
    """What the store has written, and the loop has not heard of yet, comes once, and in its place."""
    done, problems = threading.Event(), []

    def submit():
        try:
            while not done.is_set():
                api.submit('true', hold=True, name='grows-1')
        except Exception as problem:  # pylint: disable=broad-except
            problems.append(problem)

    threads = [threading.Thread(target=submit) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(100):
            since = api.get('/v1/stats')['store']['last_seq'] - 1
            connection, answer = open_stream(api, f'/v1/events?since={since}')
            events = read_events(answer, lambda e: e[0] > since + 4)  # pylint: disable=cell-var-from-loop
            connection.close()
            assert [e[0] for e in events] == list(range(since + 1, since + 1 + len(events)))
    finally:
        done.set()
        for thread in threads:
            thread.join()
        api.post('/v1/jobs/grows-*/cancel')
    assert not problems, problems


def test_a_stream_that_is_not_read_gets_a_gap_and_holds_up_nobody(api):
    connection, answer = open_stream(api, '/v1/events')
    body = b'{"command":["true"],"hold":true,"name":"gap-%s"}\n' % (b'x' * 200)
    lines = api.post('/v1/jobs', body * 40000, 201, headers=NDJSON)
    assert lines['count'] == 40000
    events = []

    def done(event):
        events.append(event)
        return event[1] == 'gap'

    read_events(answer, done)
    gap = events[-1][2]
    numbers = [e[0] for e in events[:-1] if e[1] != 'health']  # word of the master's health is no event, and has no number
    assert gap['first'] == numbers[-1] + 1 and gap['last'] > gap['first']
    connection.close()
    connection, answer = open_stream(api, '/v1/events', {'Last-Event-ID': str(gap['first'] - 1)})
    missed = read_events(answer, lambda e: e[0] == gap['last'])
    connection.close()
    assert [e[0] for e in missed if e[1] != 'health'] == list(range(gap['first'], gap['last'] + 1))
    api.post('/v1/jobs/gap-*/cancel')


# --- nodes and the whole ---

def test_nodes(api):
    node = api.get('/v1/nodes/n1')
    assert node['state'] == 'ready' and node['capacity']['cpus'] == 4 and node['connected']
    assert [n['name'] for n in api.get('/v1/nodes?state=ready')['nodes']] == ['n1']
    drained = api.post('/v1/nodes/n1/drain', {'reason': 'new memory'})
    assert drained['changed'] and drained['state'] in ('draining', 'drained')
    wait_for(lambda: api.get('/v1/nodes/n1')['state'] == 'drained', 'it does not drain')
    assert api.get('/v1/nodes/n1')['reason'] == 'new memory'
    job = api.submit('true')
    assert api.get(f'/v1/jobs/{job}/why')['reason'] == 'no_nodes'
    assert api.post('/v1/nodes/n1/resume')['changed']
    assert api.wait(job)['exit_code'] == 0
    api.refused(api.call('POST', '/v1/nodes/n1/drain', {'when': 'now'}), 400, 'when')


def test_stats_metrics_and_state(api):
    stats = api.get('/v1/stats')
    assert stats['ready'] and stats['epoch'] >= 1 and stats['nodes']['ready'] == 1
    metrics = api.call('GET', '/metrics')
    assert metrics.headers['content-type'].startswith('text/plain; version=0.0.4')
    text = metrics.body.decode()
    assert re.search(r'^rota_leader 1$', text, re.M) and re.search(r'^rota_jobs_submitted_total [1-9]', text, re.M)
    assert re.search(r'^rota_nodes\{state="ready"\} 1$', text, re.M)
    assert shutil.which('promtool'), 'promtool is not there: tools/install test'
    checked = subprocess.run(['promtool', 'check', 'metrics'], input=text, text=True, capture_output=True)
    assert checked.returncode == 0, checked.stderr
    assert b'epoch' in api.call('GET', '/debug/state').body
    assert api.get('/readyz') == {'ready': True, 'store': 'ok', 'transport': 'up', 'stopping': False}


def test_backup(api):
    path = os.path.join(api.directory, 'copy.db')
    answer = api.post('/v1/backup', {'path': path}, 201)
    assert answer['path'] == path and os.path.getsize(path) > 0
    api.refused(api.call('POST', '/v1/backup', {'path': 'relative.db'}), 400, 'path')
    api.refused(api.call('POST', '/v1/backup', {}), 400, 'path')
    assert api.call('POST', '/v1/backup', {'path': '/no/such/directory/copy.db'}).status >= 400


# --- the master alone ---

def test_what_was_answered_survives_sigkill(bare):
    bare.start()
    body = b''.join(b'{"command":["true"],"name":"kept-%d"}\n' % i for i in range(2000))
    many = bare.post('/v1/jobs', body, 201, headers={**NDJSON, 'Idempotency-Key': 'bulk'})
    one = bare.post('/v1/jobs', {'command': ['true']}, 201, headers={'Idempotency-Key': 'one'})['id']
    held = bare.submit('true', hold=True)
    cancelled = bare.submit('true')
    assert bare.post(f'/v1/jobs/{cancelled}/cancel')['changed'] == 1
    bare.master.send_signal(signal.SIGKILL)
    bare.master.wait()
    bare.start()
    assert bare.post('/v1/jobs', body, 200, headers={**NDJSON, 'Idempotency-Key': 'bulk'}) == many
    assert bare.post('/v1/jobs', {'command': ['true']}, 200, headers={'Idempotency-Key': 'one'})['id'] == one
    assert bare.get(f'/v1/jobs/{held}')['state'] == 'held'
    assert bare.get(f'/v1/jobs/{cancelled}')['state'] == 'cancelled'
    assert bare.get('/v1/stats')['epoch'] == 2
    assert bare.submit('true') > cancelled
    bare.worker(execute='fake')
    assert bare.wait('kept-*')['counts'] == {'succeeded': 2000}


def test_jobs_that_memory_has_forgotten(bare):
    bare.start('--ended-max', '3')
    bare.worker()
    old = bare.submit('sh', '-c', 'echo old; exit 4', name='old', queue='q', priority=3, cpus=0.5)
    array = bare.submit('sh', '-c', 'echo task{}; test {} -ne 2', array='1-3', name='old-array')
    bare.wait(f'{old},{array}')
    known = bare.get(f'/v1/jobs/{old}'), bare.get(f'/v1/jobs/{array}')
    bare.wait(f'{bare.submit("true")}-{[bare.submit("true") for _ in range(9)][-1]}')
    assert bare.get('/v1/jobs?selector=old')['jobs'] == []
    for job, before in zip((old, array), known):
        after = bare.get(f'/v1/jobs/{job}')
        assert after['started_at'] and after['ended_at'] == before['ended_at']
        # What the master filled in is not part of the job as it was submitted.
        assert {**after, 'started_at': 0, 'grace_s': 0} == {**before, 'started_at': 0, 'grace_s': 0}
    assert bare.get(f'/v1/jobs/{array}_2')['state'] == 'failed'
    assert bare.call('GET', f'/v1/jobs/{old}/logs').body == b'old\n'
    assert bare.call('GET', f'/v1/jobs/{array}_3/logs').body == b'task3\n'
    assert [a['task'] for a in bare.get(f'/v1/jobs/{array}/attempts')['attempts']] == [1, 2, 3]
    assert bare.get(f'/v1/jobs/{old}/events')['events'][-1]['event'] == 'job.ended'
    assert tasks_of(bare.get(f'/v1/jobs/{array}/events')['events']) == [1, 2, 3]
    assert tasks_of(told(bare, array, 'job.array_ended')) == [1, 2, 3]
    assert bare.get(f'/v1/jobs/{old}/usage')['attempts'] == 1
    waited = bare.get(f'/v1/jobs/wait?selector={old}')
    assert waited['done'] and waited['counts'] == {'failed': 1} and waited['exit_code'] == 4
    assert bare.post(f'/v1/jobs/{old}/cancel') == {'matched': 1, 'changed': 0, 'ids': [], 'problem': None}
    again = bare.post(f'/v1/jobs/{old}/retry')
    assert again['submitted'] == 1 and bare.get(f'/v1/jobs/{again["ids"][0]}')['retry_of'] == old


def test_token_file(bare):
    bare.start()
    path = os.path.join(bare.state, 'token')
    assert os.stat(path).st_mode & 0o777 == 0o600 and os.stat(bare.state).st_mode & 0o777 == 0o700
    assert re.fullmatch(r'rota_[A-Za-z0-9_-]{43}', bare.token)
    assert bare.token not in bare.log()
    first = bare.token
    bare.master.terminate()
    assert bare.master.wait(PATIENCE_S) == 0
    bare.start()
    assert bare.token == first
    bare.master.terminate()
    bare.master.wait(PATIENCE_S)
    os.chmod(path, 0o644)
    with pytest.raises(AssertionError):
        bare.start()
    assert bare.master.wait(PATIENCE_S) == 78
    os.chmod(path, 0o600)
    with open(path, 'w', encoding='ascii') as token:
        token.write('rota_short\n')
    with pytest.raises(AssertionError):
        bare.start()
    assert bare.master.wait(PATIENCE_S) == 78


def test_a_second_master_ends_before_it_takes_a_port(bare):
    bare.start()
    first, port = bare.master, bare.port
    bare.port = 0
    with pytest.raises(AssertionError):
        bare.start()
    assert bare.master.wait(PATIENCE_S) == 75
    bare.master, bare.port = first, port
    assert bare.get('/readyz')['ready']


def test_stored_output_when_the_node_is_gone(bare):
    bare.start()
    worker = bare.worker()
    job = bare.submit('sh', '-c', 'echo kept; exit 1')
    bare.wait(job)
    worker.terminate()
    worker.wait(PATIENCE_S)
    wait_for(lambda: not bare.get('/v1/nodes/n1')['connected'], 'the node does not go')
    assert bare.call('GET', f'/v1/jobs/{job}/logs').body == b'kept\n'
    assert bare.get(f'/v1/jobs/{job}')['stdout_tail'] == 'kept\n'


def fill(path):
    """Takes all space there is; returns the file to remove."""
    with open(path, 'wb', buffering=0) as out:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    out.write(b'x' * size)
            except OSError:
                pass
    return path


@pytest.fixture
def small_disk(bare):
    """The master's state on a disk of its own that a test can fill."""
    disk = os.path.join(bare.directory, 'disk')
    os.mkdir(disk)
    if os.geteuid() != 0 or subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', disk]).returncode != 0:
        pytest.skip('needs the right to mount')
    bare.state = os.path.join(disk, 'master')
    yield bare
    for child in bare.children:
        child.kill()
        child.wait()
    subprocess.run(['umount', disk], check=True)


def test_a_full_disk_refuses_new_work_and_loses_nothing(small_disk):
    api = small_disk.start('--store-reserve', '2M')
    name = 'x' * 200
    body = b''.join(b'{"command":["true"],"hold":true,"name":"%s-%d"}\n' % (name.encode(), i) for i in range(5000))
    assert api.post('/v1/jobs', body, 201, headers=NDJSON)['count'] == 5000
    filler = fill(os.path.join(api.directory, 'disk', 'filler'))
    wait_for(lambda: api.call('GET', '/readyz').status == 503, 'it does not see the disk fill')
    for kind in ('application/json', 'application/x-ndjson'):
        reply = api.call('POST', '/v1/jobs', '{"command":["true"]}', {'Content-Type': kind})
        assert api.refused(reply, 507)['remedy'] and 'retry-after' in reply.headers
    # What there is can still be changed and recorded, out of the reserve; in the end nothing fits any more.
    changed = 0
    while api.call('GET', '/readyz').json()['store'] != 'full':
        reply = api.call('POST', f"/v1/jobs/all/{('release', 'hold')[changed % 2]}")
        if reply.status == 504:
            break
        assert reply.json()['changed'] == 5000
        changed += 1
    assert changed >= 1
    wait_for(lambda: api.call('GET', '/readyz').json()['store'] == 'full', 'the disk is not full')
    # Nothing is answered that is not on disk.
    api.refused(api.call('GET', '/v1/jobs/1'), 507)
    assert api.call('GET', '/metrics').status == 200 and api.call('GET', '/v1/stats').status == 200
    assert api.refused(api.call('POST', '/v1/jobs/1/cancel'), 504)['remedy']
    os.unlink(filler)
    wait_for(lambda: api.call('GET', '/readyz').status == 200, 'it does not recover')
    assert api.post('/v1/jobs/1/cancel')['matched'] == 1
    assert api.get('/v1/jobs/1')['state'] == 'cancelled'
    job = api.submit('true')
    assert job == 5001
    api.master.kill()
    api.master.wait()
    api.start('--store-reserve', '2M')
    assert api.get('/v1/jobs/1')['state'] == 'cancelled'
    assert sum(api.get('/v1/jobs?limit=1')['counts'].values()) == 5001


def test_a_stop_while_streams_are_open(bare):
    bare.start()
    connection, _ = open_stream(bare, '/v1/events')
    waiting = bare.connection()
    job = bare.submit('true')
    waiting.request('GET', f'/v1/jobs/wait?selector={job}', headers={'Authorization': f'Bearer {bare.token}'})
    time.sleep(0.1)
    bare.master.terminate()
    assert bare.master.wait(PATIENCE_S) == 0
    connection.close()
    waiting.close()
