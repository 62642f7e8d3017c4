"""Webhooks: a URL is told of the end of a job, at least once, whatever fails in between. Only the loopback is called."""
import http.server
import json
import shutil
import tempfile
import threading

import pytest

from conftest import PATIENCE_S, wait_for
from test_metrics import Watched


class Receiver:
    """Keeps what is posted; answers what it is told to, path by path, at last 200."""

    def __init__(self, port=0):
        self.posts, self.answers, self.gate = [], {}, threading.Event()
        self.gate.set()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers['Content-Length']))
                receiver.gate.wait(PATIENCE_S)
                receiver.posts.append((self.path, dict(self.headers), json.loads(body)))
                answers = receiver.answers.get(self.path, [])
                status = answers.pop(0) if answers else 200
                self.send_response(status)
                if status == 302:
                    self.send_header('Location', '/elsewhere')
                self.send_header('Content-Length', '0')
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, path):
        return f'http://127.0.0.1:{self.port}{path}'

    def of(self, path):
        return [post for post in self.posts if post[0] == path]

    def close(self):
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver():
    one = Receiver()
    yield one
    one.close()


@pytest.fixture
def parts():
    directory = tempfile.mkdtemp(prefix='rota-notify-')
    cluster = Watched(directory)
    cluster.start_master('--notify-hosts', '127.0.0.1')
    cluster.start_worker(1)
    cluster.wait_nodes(1)
    try:
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)


def notified(cluster, job):
    """The record that says how it went; waits for it."""
    def found():
        lines = cluster.ok('events', '--job', job, '--json').splitlines()
        return [e for e in map(json.loads, lines) if e['event'] == 'job.notified']

    return wait_for(found, f'nothing is recorded about word of job {job}')[0]


def test_every_kind_of_end_is_told_once(parts, receiver):
    jobs = {
        'good': ['--', 'true'], 'bad': ['--', 'sh', '-c', 'exit 7'], 'array': ['--array', '1-3', '--', 'true'],
        'cancelled': ['--hold', '--', 'true'],
    }
    ids = {name: parts.ok('submit', '--name', name, '--notify', receiver.url('/' + name), *rest).strip() for name, rest in jobs.items()}
    parts.ok('cancel', ids['cancelled'])
    for name, job in ids.items():
        record = notified(parts, job)
        assert (record['status'], record['tries']) == (200, 1)
        (path, headers, body), = receiver.of('/' + name)
        assert headers['Content-Type'] == 'application/json' and headers['Rota-Event'] == 'job.ended'
        assert headers['Rota-Delivery'] == body['delivery'] and body['delivery'].endswith(f'-{job}')
        assert body['event'] == 'job.ended' and body['job']['id'] == int(job) and body['job']['name'] == name
    of = {name: receiver.of('/' + name)[0][2]['job'] for name in ids}
    assert (of['good']['state'], of['bad']['state'], of['cancelled']['state']) == ('succeeded', 'failed', 'cancelled')
    assert of['bad']['exit_code'] == 7 and of['array']['counts']['succeeded'] == 3
    assert len({post[2]['delivery'] for post in receiver.posts}) == len(ids)
    assert parts.value('rota_notices_total{result="delivered"}') == len(ids)


def test_tried_again_when_that_may_help(parts, receiver):
    receiver.answers = {'/busy': [503, 429], '/gone': [404], '/moved': [302]}
    ids = {path: parts.ok('submit', '--notify', receiver.url(path), '--', 'true').strip() for path in ('/busy', '/gone', '/moved')}
    assert {path: (notified(parts, job)['status'], notified(parts, job)['tries']) for path, job in ids.items()} == {
        '/busy': (200, 3), '/gone': (404, 1), '/moved': (302, 1)}
    assert parts.value('rota_notices_total{result="given_up"}') == 2
    assert len(receiver.of('/busy')) == 3 and not receiver.of('/elsewhere')
    assert len({headers['Rota-Delivery'] for _, headers, _ in receiver.of('/busy')}) == 1


def test_survives_a_master_that_is_killed(parts):
    closed = Receiver()
    closed.close()
    job = parts.ok('submit', '--notify', closed.url('/later'), '--', 'true').strip()
    waiting = parts.ok('submit', '--notify', closed.url('/waiting'), '--hold', '--', 'true').strip()
    parts.ok('wait', job)
    parts.crash('master')
    opened = Receiver(closed.port)
    try:
        parts.start_master()
        assert notified(parts, job)['status'] == 200
        assert [post[2]['job']['id'] for post in opened.of('/later')] == [int(job)]
        parts.ok('release', waiting)
        assert notified(parts, waiting)['status'] == 200
        # What was told is not told again.
        parts.crash('master')
        parts.start_master()
        other = parts.ok('submit', '--notify', opened.url('/other'), '--', 'true').strip()
        assert notified(parts, other)['status'] == 200
        assert len(opened.of('/later')) == len(opened.of('/waiting')) == 1
    finally:
        opened.close()


def test_a_slow_receiver_stops_nobody(parts, receiver):
    receiver.gate.clear()
    held = [parts.ok('submit', '--notify', receiver.url(f'/{n}'), '--', 'true').strip() for n in range(40)]
    parts.ok('wait', *held)
    parts.ok('run', '--', 'true')
    assert receiver.posts == [] and parts.value('rota_notices_pending') == 40
    receiver.gate.set()
    for job in held:
        assert notified(parts, job)['status'] == 200
    assert sorted(path for path, _, _ in receiver.posts) == sorted(f'/{n}' for n in range(40))


def test_only_hosts_that_the_operator_allows(parts):
    for url, remedy in (('http://localhost:1/', 'does not call localhost'), ('http://169.254.169.254/latest', 'does not call'),
                        ('file:///etc/passwd', 'not spoken'), ('http://u:p@127.0.0.1/', 'holds a user'), ('nonsense', 'does not call nonsense|no URL'),
                        ('http://127.0.0.1@169.254.169.254/', 'holds a user')):
        result = parts.rota('submit', '--notify', url, '--', 'true')
        assert result.returncode in (2, 6) and 'notify' in result.stderr, (url, result.stderr)
    assert parts.json('ls')['jobs'] == []
