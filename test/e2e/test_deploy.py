"""deploy/: what docs/cluster.md tells people to use, used."""
import configparser
import os
import re
import subprocess

import yaml

from broker import RIGHTS, Broker
from conftest import ROOT
from test_amqp import World

DEPLOY = os.path.join(ROOT, 'deploy')


def test_definitions_and_passwords(tmp_path):
    """The definitions are imported at start, the script gives passwords, and with these a job runs; without them nobody signs in."""
    directory = str(tmp_path)
    settings = ('definitions.import_backend = local_filesystem\n'
                f"definitions.local.path = {os.path.join(DEPLOY, 'rabbitmq', 'definitions.json')}\n")
    with Broker(os.path.join(directory, 'broker'), settings=settings) as broker:
        secrets = os.path.join(directory, 'secrets')
        script = [os.path.join(DEPLOY, 'rabbitmq', 'passwords'), secrets]
        environment = {**broker.environment, 'RABBITMQCTL': broker.ctl_path()}
        at = f'127.0.0.1:{broker.port}/rota'

        def urls(role):
            return f'amqp://rota-{role}@{at}?password_file={secrets}/rota-{role}.password'

        w = World(broker, workers=0, master=f'amqp://rota-master@{at}?password_file={secrets}/rota-master.password', worker=urls('worker'))
        try:
            w.wait_log('master', 'name the file that holds the broker\'s password')
            subprocess.run(script, env=environment, check=True)
            assert os.stat(os.path.join(secrets, 'rota-master.password')).st_mode & 0o777 == 0o600
            w.start_worker(1)
            w.wait_nodes(1)
            w.submit(3)
            w.wait_ends()
            w.check()
            with open(os.path.join(secrets, 'rota-master.password'), encoding='utf-8') as f:
                kept = f.read()
            subprocess.run(script, env=environment, check=True)  # again: nothing changes
            with open(os.path.join(secrets, 'rota-master.password'), encoding='utf-8') as f:
                assert f.read() == kept
        finally:
            w.remove()
        assert set(RIGHTS) == {'master', 'worker', 'client'}


def test_compose_names_what_is_there():
    """No Docker and no registry is needed to see that every file it mounts, builds from and every option exists."""
    with open(os.path.join(DEPLOY, 'compose.yaml'), encoding='utf-8') as f:
        compose = yaml.safe_load(f)
    assert set(compose['services']) == {'rabbitmq', 'master', 'worker', 'prometheus', 'grafana'}
    for service in compose['services'].values():
        for volume in service.get('volumes', ()):
            source = volume.split(':')[0]
            if source.startswith('./') and source != './secrets':
                assert os.path.exists(os.path.join(DEPLOY, source)), source
        assert set(service.get('depends_on', ())) <= set(compose['services'])
    for role in ('master', 'worker'):
        with open(os.path.join(ROOT, 'test', 'golden', 'help', role + '.txt'), encoding='utf-8') as f:
            text = f.read()
        for option in compose['services'][role]['command'][1:]:
            assert option.split('=')[0] + ' ' in text.replace('\n', ' '), option


def test_grafana_finds_its_dashboards_in_compose():
    """What is provisioned is mounted where the provisioning looks for it, each dashboard, and the source has the name it has elsewhere."""
    def load(path):
        with open(os.path.join(DEPLOY, path), encoding='utf-8') as f:
            return yaml.safe_load(f)

    services = load('compose.yaml')['services']
    mounts = {to: os.path.normpath(source) for source, to, _ in (v.split(':') for v in services['grafana']['volumes'])}
    for provider in load('grafana/provisioning/dashboards/rota.yaml')['providers']:
        folder = mounts[provider['options']['path']]
        assert any(name.endswith('.json') for name in os.listdir(os.path.join(DEPLOY, folder)))
    assert mounts['/etc/grafana/provisioning'] == 'grafana/provisioning'
    [source], [elsewhere] = (load(path)['datasources'] for path in (mounts['/etc/grafana/provisioning/datasources/rota.yaml'],
                                                                    'grafana/provisioning/datasources/rota.yaml'))
    assert source['url'] == 'http://prometheus:9090' and source['isDefault'] and source['uid'] == elsewhere['uid']
    assert '--web.listen-address' not in ' '.join(services['prometheus']['command'])  # 9090 is where it listens unless told otherwise


def test_units():
    for role in ('master', 'worker'):
        path = os.path.join(DEPLOY, 'systemd', f'rota-{role}.service')
        unit = configparser.RawConfigParser(strict=False)
        unit.optionxform = str
        unit.read(path)
        assert re.search(rf'/rota {role} --config \S+ --state \S+$', unit['Service']['ExecStart'])
        assert unit['Install']['WantedBy'] == 'multi-user.target'
    assert unit['Service']['KillMode'] == 'process'  # the worker's: its jobs run on
