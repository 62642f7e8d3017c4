"""A real Prometheus with the configuration, rules and dashboards of deploy/, on a real cluster.

Grafana itself is not a package of Debian: its dashboards are held against the Dashboard type that Grafana publishes
(test/grafana/dashboard.schema.json), and every query of every panel and variable is run as Grafana would.
"""
import concurrent.futures
import glob
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import jsonschema
import pytest
import yaml

from conftest import PATIENCE_S, ROOT, wait_for
from test_metrics import Watched, promtool

DEPLOY = os.path.join(ROOT, 'deploy')
RULES = os.path.join(DEPLOY, 'prometheus/rules/rota.yml')
BOARDS = sorted(glob.glob(os.path.join(DEPLOY, 'grafana/dashboards/*.json')))


def load_yaml(path):
    with open(path, encoding='utf-8') as file:
        return yaml.safe_load(file)


def load_json(path):
    with open(path, encoding='utf-8') as file:
        return json.load(file)


def alerts():
    return [rule for group in load_yaml(RULES)['groups'] for rule in group['rules'] if 'alert' in rule]


# --- rules ---

def test_configuration_and_rules_are_valid(tmp_path):
    shutil.copytree(os.path.join(DEPLOY, 'prometheus'), tmp_path / 'prometheus')
    (tmp_path / 'prometheus/token').write_text('t')
    for arguments in (('check', 'config', tmp_path / 'prometheus/prometheus.yml'), ('check', 'rules', RULES)):
        result = promtool(*map(str, arguments))
        assert result.returncode == 0, result.stdout


def test_every_alert_fires_and_does_not_fire():
    result = promtool('test', 'rules', os.path.join(DEPLOY, 'prometheus/rules/rota_test.yml'))
    assert result.returncode == 0, result.stdout
    cases = {test['name']: test['promql_expr_test'] for test in load_yaml(os.path.join(DEPLOY, 'prometheus/rules/rota_test.yml'))['tests']}
    for alert in alerts():
        quiet, loud = cases[alert['alert']]
        for case, samples in ((quiet, 0), (loud, 1)):
            assert case['expr'] == f'count(ALERTS{{alertname="{alert["alert"]}", alertstate="firing"}})'
            assert len(case['exp_samples']) == samples


def test_every_alert_has_its_page_in_the_runbook():
    with open(os.path.join(ROOT, 'docs/runbook.md'), encoding='utf-8') as file:
        pages = re.split(r'^## (Rota\w+)\n', file.read(), flags=re.M)[1:]
    pages = dict(zip(pages[::2], pages[1::2]))
    assert list(pages) == [alert['alert'] for alert in alerts()]
    for alert in alerts():
        name = alert['alert']
        assert alert['annotations']['runbook'] == f'docs/runbook.md#{name.lower()}'
        assert alert['labels']['severity'] in ('critical', 'warning') and alert['annotations']['summary']
        assert len(pages[name].split()) > 20, f'the page of {name} says nothing'


# --- dashboards as files ---

def all_panels(board):
    return [p for p in board['panels'] if p['type'] != 'row']


def test_dashboards_are_what_their_source_says(tmp_path):
    spec = importlib.util.spec_from_file_location('dashboards', os.path.join(DEPLOY, 'grafana/dashboards.py'))
    source = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(source)
    source.main(str(tmp_path))
    for path in BOARDS:
        with open(path, encoding='utf-8') as kept, open(tmp_path / os.path.basename(path), encoding='utf-8') as made:
            assert kept.read() == made.read(), f'{path} was not written by deploy/grafana/dashboards.py'
    assert len(BOARDS) == len(os.listdir(tmp_path))


def test_dashboards_are_of_the_published_type():
    validator = jsonschema.Draft7Validator(load_json(os.path.join(ROOT, 'test/grafana/dashboard.schema.json')))
    for path in BOARDS:
        assert not [f'{list(e.path)}: {e.message}' for e in validator.iter_errors(load_json(path))], path
    wrong = load_json(BOARDS[0])
    wrong['panels'][1]['fieldConfig']['defaults']['unitt'] = 's'
    assert list(validator.iter_errors(wrong))
    assert list(validator.iter_errors({**load_json(BOARDS[0]), 'refresh': 5}))


def test_dashboards_keep_the_rules():
    uids = set()
    for path in BOARDS:
        board = load_json(path)
        uids.add(board['uid'])
        assert board['tags'] == ['rota'] and board['description']
        assert '${rota_url}/' in {link.get('url') for link in board['links']}
        known = {v['name'] for v in board['templating']['list']} | {'__rate_interval', '__range'}
        ids, taken = set(), set()
        for panel in board['panels']:
            assert panel['id'] not in ids and panel['title']
            ids.add(panel['id'])
            place = panel['gridPos']
            assert place['x'] + place['w'] <= 24
            cells = {(x, y) for x in range(place['x'], place['x'] + place['w']) for y in range(place['y'], place['y'] + place['h'])}
            assert not cells & taken, f'{path}: {panel["title"]} lies over another'
            taken |= cells
        for panel in all_panels(board):
            assert panel['description'] and panel['fieldConfig']['defaults']['unit'] and panel['targets']
            assert panel['datasource'] == {'type': 'prometheus', 'uid': '${datasource}'}
            for target in panel['targets']:
                assert set(re.findall(r'\$\{?(\w+)', target['expr'])) <= known, target['expr']
                assert not re.search(r'(rate|increase)\([^[]*\[(?!\$__rate_interval|\$__range|5m)', target['expr']), target['expr']
    assert len(uids) == len(BOARDS)


def test_provisioning_files():
    source = load_yaml(os.path.join(DEPLOY, 'grafana/provisioning/datasources/rota.yaml'))
    assert source['apiVersion'] == 1
    assert [(d['type'], d['access']) for d in source['datasources']] == [('prometheus', 'proxy')]
    boards = load_yaml(os.path.join(DEPLOY, 'grafana/provisioning/dashboards/rota.yaml'))
    assert boards['apiVersion'] == 1 and [p['type'] for p in boards['providers']] == ['file']


def test_the_files_for_compose_are_the_others_with_other_names():
    def lines(*path):
        with open(os.path.join(DEPLOY, *path), encoding='utf-8') as file:
            return [line for line in file.read().splitlines() if not line.startswith('#') and line]

    assert lines('prometheus/compose.yml') == [line.replace('127.0.0.1:7682', 'master:7682').replace('_file: token', '_file: /state/token')
                                               for line in lines('prometheus/prometheus.yml')]
    assert lines('grafana/compose-datasource.yaml') == [line.replace('//127.0.0.1:', '//prometheus:')
                                                        for line in lines('grafana/provisioning/datasources/rota.yaml')]
    path = load_yaml(os.path.join(DEPLOY, 'grafana/provisioning/dashboards/rota.yaml'))['providers'][0]['options']['path']
    mounts = load_yaml(os.path.join(DEPLOY, 'compose.yaml'))['services']['grafana']['volumes']
    assert f'./grafana/dashboards:{path}:ro' in mounts


# --- a real Prometheus ---

class Prometheus:
    def __init__(self, cluster):
        self.directory = os.path.join(cluster.directory, 'prometheus')
        shutil.copytree(os.path.join(DEPLOY, 'prometheus'), self.directory)
        shutil.copy(cluster.environment['ROTA_TOKEN_FILE'], os.path.join(self.directory, 'token'))
        self.config = os.path.join(self.directory, 'prometheus.yml')
        with open(self.config, encoding='utf-8') as file:
            text = file.read()
        host = cluster.environment['ROTA_MASTER'].split('//')[1]
        assert '127.0.0.1:7682' in text and text.count('15s') == 2 and '30s' in text
        text = text.replace('127.0.0.1:7682', host).replace('15s', '1s').replace('30s', '1s')
        with open(self.config, 'w', encoding='utf-8') as file:
            file.write(text)
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            self.url = f'http://127.0.0.1:{probe.getsockname()[1]}'
        with open(os.path.join(self.directory, 'log'), 'wb') as log:
            self.process = subprocess.Popen(
                ['prometheus', f'--config.file={self.config}', f'--storage.tsdb.path={self.directory}/data',
                 f'--web.listen-address={self.url[7:]}', '--log.level=warn'], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(self.is_ready, 'prometheus does not start')

    def is_ready(self):
        assert self.process.poll() is None, self.log()
        try:
            return urllib.request.urlopen(self.url + '/-/ready', timeout=10).status == 200
        except OSError:
            return False

    def log(self):
        with open(os.path.join(self.directory, 'log'), encoding='utf-8', errors='replace') as log:
            return log.read()[-3000:]

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=PATIENCE_S)

    def api(self, path, **parameters):
        url = f'{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters, doseq=True)}'
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)

    def now(self, expression):
        """labels -> value of an instant query"""
        answer = self.api('query', query=expression)
        assert answer['status'] == 'success', answer
        return {tuple(sorted(r['metric'].items())): float(r['value'][1]) for r in answer['data']['result']}

    def has_data(self, expression, since):
        """Why not, or None."""
        answer = self.api('query_range', query=expression, start=since, end=time.time(), step=1)
        if answer['status'] != 'success':
            return answer.get('error')
        values = [v for series in answer['data']['result'] for _, v in series['values']]
        if not values:
            return 'no data'
        return None if any(v not in ('NaN', '+Inf', '-Inf') for v in values) else 'nothing but NaN'


@pytest.fixture(scope='module')
def observed():
    """A cluster in which everything happens that a panel shows, and the Prometheus that watches it."""
    directory = tempfile.mkdtemp(prefix='rota-prometheus-')
    cluster = Watched(directory)
    prometheus = None
    try:
        cluster.start_master('--heartbeat', '200ms', '--suspect', '2s')
        cluster.start_worker(1, '--cpus', '2', '--gpus', '1')
        cluster.wait_nodes(1)
        prometheus = cluster.prometheus = Prometheus(cluster)
        cluster.since = time.time()
        wait_for(lambda: prometheus.now('rota_worker_info'), 'prometheus does not find the worker')
        yield cluster
    finally:
        if prometheus:
            prometheus.stop()
        cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)


def wait_for_an_estimate(cluster):
    """A job waits until it was told when it is to start, and starts. (Work that was short so far would be sent ahead of room.)"""
    gate = os.path.join(cluster.directory, 'gate')
    with open(gate, 'w', encoding='ascii'):
        pass
    cluster.ok('submit', '--time', '1m', '--', 'sh', '-c', f'while [ -e {gate} ]; do sleep 0.05; done')
    job = cluster.ok('submit', '--time', '2m', '--', 'sleep', '1.5').split()[0]
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        told = cluster.json('why', job)
        if told['state'] != 'queued' or told['estimate']['start_at']:
            break
        time.sleep(0.05)
    os.unlink(gate)


def live_a_little(cluster, stop):
    """Jobs of all kinds of fate, again and again."""
    cluster.ok('submit', '--hold', '--queue', 'night', '--', 'true')
    cluster.ok('submit', '--cpus', '64', '--', 'true')
    cluster.ok('submit', '--gpus', '1', '--', 'sleep', '600')
    while not stop.is_set():
        cluster.submit_many([{'command': ['true'], 'array': '1-5'}, {'command': ['sh', '-c', 'exit 3'], 'queue': 'night'},
                             {'command': ['/no/such/command']}, {'command': ['false'], 'retries': 1, 'backoff': '10ms'},
                             {'command': ['sleep', '0.2'], 'name': 'doomed'}])
        cluster.rota('submit', '--cpus', '1', '--after', '99999999', '--', 'true')
        cluster.rota('cancel', 'doomed')
        wait_for_an_estimate(cluster)
        request = urllib.request.Request(cluster.environment['ROTA_MASTER'] + '/v1/jobs', headers={'Authorization': 'Bearer rota_' + 'x' * 43})
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(request, timeout=60)
        stop.wait(0.5)


def expressions(board):
    for panel in all_panels(board):
        for target in panel['targets']:
            yield f'{board["title"]}: {panel["title"]}: {target["legendFormat"]}', target['expr']


def expand(expression):
    expression = expression.replace('$__rate_interval', '5s').replace('$__range', '60s')
    return re.sub(r'\$(queue|node)\b', '.*', expression)


def test_every_query_of_every_panel_returns_data(observed):
    prometheus = observed.prometheus
    stop = threading.Event()
    life = concurrent.futures.ThreadPoolExecutor(max_workers=1)
    lived = life.submit(live_a_little, observed, stop)
    try:
        left = {name: expand(expression) for path in BOARDS for name, expression in expressions(load_json(path))}
        assert len(left) > 80 and not any('$' in e for e in left.values())
        end = time.monotonic() + PATIENCE_S
        while left and not lived.done() and time.monotonic() < end:
            time.sleep(1)
            reasons = {name: prometheus.has_data(expression, observed.since) for name, expression in left.items()}
            broken = {name: why for name, why in reasons.items() if why and why not in ('no data', 'nothing but NaN')}
            assert not broken, broken
            left = {name: left[name] for name, why in reasons.items() if why}
        assert not left, {name: (reasons[name], expression) for name, expression in left.items()}
        for path in BOARDS:
            for variable in load_json(path)['templating']['list']:
                if variable['type'] == 'query':
                    metric, label = re.fullmatch(r'label_values\((\w+), (\w+)\)', variable['query']['query']).groups()
                    assert prometheus.api(f'label/{label}/values', **{'match[]': metric})['data']
    finally:
        stop.set()
        life.shutdown()
    lived.result()


def test_new_workers_are_found_by_themselves(observed):
    prometheus = observed.prometheus
    observed.start_worker(2)
    wait_for(lambda: any(v == 1 for v in prometheus.now('up{job="rota-worker", node="worker-2"}').values()), 'the new worker is not scraped')
    assert list(prometheus.now('up{job="rota-master"}').values()) == [1]
    # Gone without a word: its target stays, so that it is missed.
    observed.crash('worker-2')
    wait_for(lambda: any(v == 0 for v in prometheus.now('up{job="rota-worker", node="worker-2"}').values()), 'the silence is not seen')


def test_rules_are_evaluated_without_an_error(observed):
    def evaluated():
        groups = observed.prometheus.api('rules')['data']['groups']
        rules = [rule for group in groups for rule in group['rules']]
        return rules if all(rule['health'] != 'unknown' for rule in rules) else None

    rules = wait_for(evaluated, 'the rules are not evaluated')
    assert {r['name']: r.get('lastError') for r in rules if r['health'] != 'ok'} == {}
    assert {r['name'] for r in rules if r['type'] == 'alerting'} == {a['alert'] for a in alerts()}
    assert observed.prometheus.log() == ''
