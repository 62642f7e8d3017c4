"""What the command line does without a master: help, usage errors, exit codes, completion, the manual, the documentation.

ROTA_UPDATE_GOLDEN=1 writes test/golden/help and docs/cli.md anew; read the difference before you keep it.
"""
import glob
import os
import re
import shutil
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ROTA = os.path.abspath(os.environ.get('ROTA', os.path.join(ROOT, 'build-asan/src/cli/rota')))
GOLDEN = os.path.join(ROOT, 'test/golden/help')
UPDATE = os.environ.get('ROTA_UPDATE_GOLDEN') == '1'


@pytest.fixture
def environment(tmp_path):
    keep = {key: value for key, value in os.environ.items() if key in ('PATH', 'ASAN_OPTIONS', 'UBSAN_OPTIONS', 'LSAN_OPTIONS')}
    return {**keep, 'HOME': str(tmp_path), 'XDG_CONFIG_HOME': str(tmp_path / 'config'), 'XDG_STATE_HOME': str(tmp_path / 'state'),
            'TMPDIR': str(tmp_path), 'LC_ALL': 'C.UTF-8'}


@pytest.fixture
def rota(environment, tmp_path):
    def run(*arguments, program=ROTA, **more):
        more.setdefault('stdin', subprocess.DEVNULL if 'input' not in more else None)
        if 'input' in more:
            more.pop('stdin')
        return subprocess.run([program, *arguments], env={**environment, **more.pop('env', {})}, cwd=tmp_path, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120, **more)
    return run


def verbs():
    text = subprocess.run([ROTA, 'help'], text=True, stdout=subprocess.PIPE, check=True).stdout
    return re.findall(r'^  ([a-z-]+) +\S', text, re.M)


def golden(path, text):
    if UPDATE:
        with open(path, 'w', encoding='utf-8') as f:
            f.write(text)
    with open(path, encoding='utf-8') as f:
        assert text == f.read(), f'{path} differs; ROTA_UPDATE_GOLDEN=1 writes it anew'


# --- help ---

def test_help_texts_are_as_kept(rota):
    golden(os.path.join(GOLDEN, 'rota.txt'), rota('--help').stdout)
    for verb in verbs():
        golden(os.path.join(GOLDEN, verb + '.txt'), rota(verb, '--help').stdout)


def test_no_golden_text_is_left_over():
    kept = {os.path.basename(path)[:-4] for path in glob.glob(os.path.join(GOLDEN, '*.txt'))}
    assert kept == set(verbs()) | {'rota'}


def test_help_is_the_same_however_it_is_asked_for(rota):
    assert rota('help').stdout == rota('--help').stdout == rota('-h').stdout
    for verb in verbs():
        result = rota('help', verb)
        assert result.returncode == 0 and result.stderr == ''
        assert result.stdout == rota(verb, '--help').stdout == rota(verb, '-h').stdout
        assert max(map(len, result.stdout.split('\n'))) <= 100


def test_without_a_verb_the_help_is_an_error(rota):
    result = rota()
    assert (result.returncode, result.stdout) == (2, '')
    assert 'usage: rota VERB' in result.stderr


def test_help_needs_no_master_and_no_arguments(rota):
    assert rota('wait', '--help', '--nonsense').returncode == 0
    assert rota('drain', '-h').returncode == 0


# --- mistakes ---

@pytest.mark.parametrize('arguments, text', [
    (['submit', '--mem', '4Q', '--', 'true'], r'^rota: --mem: "4Q" is not a size; write 4G or 512M'),
    (['submit', '--time', '1x', '--', 'true'], r'^rota: --time: "1x" is not a duration; '),
    (['submit', '--cpus', '-1', '--', 'true'], r'^rota: --cpus: "-1" is not '),
    (['submit', '--array', '1-3,5', '--', 'true'], r'^rota: --array: .*; submit one array for each range'),
    (['submit', '--after', 'x', '--', 'true'], r'^rota: --after: "x" does not name jobs; write ids'),
    (['submit', '--spread', 'a', '--', 'true'], r'^rota: --spread: spreading by label is not in this version'),
    (['submit', '--begin', 'soon', '--', 'true'], r'^rota: --begin: "soon" is not a time'),
    (['submit', '--memm', '4G', '--', 'true'], r'^rota: --memm is not an option of rota submit; did you mean --mem\?'),
    (['submit', '--pri', '4', '--', 'true'], r'^rota: --pri is not an option of rota submit; did you mean --priority\?'),
    (['submit'], r'^rota: there is no command; usage: rota submit'),
    (['submit', '-f', 'x.yaml', '--', 'true'], r'^rota: a job file and a command do not go together'),
    (['submit', '-f', 'x.yaml', '--mem', '1G'], r'^rota: --mem: write it into the job file'),
    (['run'], r'^rota: there is no command; usage: rota run'),
    (['wait'], r'^rota: wait: something is missing; usage: rota wait SELECTOR'),
    (['version', 'x'], r'^rota: version: "x" is one too many'),
    (['ls', '--state', 'runing'], r'^rota: --state: "runing" is not one of its values; write held, blocked, .* or expired'),
    (['ls', '--json=yes'], r'^rota: --json: it takes no value'),
    (['update', '7'], r'^rota: nothing to change; write --priority N'),
    (['submti'], r'^rota: there is no verb "submti"; did you mean submit\?'),
    (['frobnicate'], r'^rota: there is no verb "frobnicate"; `rota help` lists them'),
    (['help', 'canel'], r'^rota: there is no verb "canel"; did you mean cancel\?'),
    (['completion', 'tcsh'], r'^rota: completion: "tcsh" is not a shell'),
    (['token', 'create'], r'^rota: token create: not in this version of Rota'),
    (['top'], r'^rota: rota top needs a terminal'),
    (['ls', '--watch'], r'^rota: --watch: standard output is no terminal'),
    (['ls', '--master', 'localhost'], r'^rota: --master: "localhost" is not a URL; write http://HOST:7682'),
    (['--nonsense'], r'^rota: --nonsense is not an option here'),
])
def test_bad_usage_is_explained_and_exits_2(rota, arguments, text):
    result = rota(*arguments)
    assert result.returncode == 2, result.stderr
    assert result.stdout == ''
    assert re.search(text, result.stderr), result.stderr


def test_what_was_typed_cannot_drive_the_terminal(rota):
    for arguments in (['ls', '--\x1b]0;x\x07'], ['\x1b[31m'], ['submit', '--mem', '\x1b[2J', '--', 'true'], ['submit', '--name', '\u202e', '--', 'true']):
        result = rota(*arguments)
        assert result.returncode == 2
        assert not re.search(r'[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]', result.stderr), repr(result.stderr)


# --- no master ---

def test_without_a_profile_it_says_how_to_get_a_master(rota):
    result = rota('ls')
    assert (result.returncode, result.stdout) == (5, '')
    assert 'no master is known here; start one with `rota up`' in result.stderr


def test_a_master_that_is_not_there_is_exit_5(rota):
    for arguments in (['ls'], ['stats'], ['show', '1'], ['events'], ['cancel', '1'], ['nodes']):
        result = rota(*arguments, '--master', 'http://127.0.0.1:1')
        assert result.returncode == 5, result.stderr
        assert 'the master at http://127.0.0.1:1 cannot be reached: Connection refused' in result.stderr


def test_where_the_master_is(rota, tmp_path):
    def asked(**more):
        return re.search(r'master at (\S+) cannot', rota('stats', **more).stderr).group(1)
    profile = tmp_path / 'config/rota/client.yaml'
    profile.parent.mkdir(parents=True)
    profile.write_text('url: "http://127.0.0.1:1"\n')
    assert asked() == 'http://127.0.0.1:1'
    assert asked(env={'ROTA_MASTER': 'http://127.0.0.1:2'}) == 'http://127.0.0.1:2'
    other = tmp_path / 'other.yaml'
    other.write_text('{url: http://127.0.0.1:3}')
    assert asked(env={'ROTA_PROFILE': str(other)}) == 'http://127.0.0.1:3'
    result = rota('stats', '--master', 'http://127.0.0.1:4', env={'ROTA_MASTER': 'http://127.0.0.1:2'})
    assert 'http://127.0.0.1:4 ' in result.stderr
    assert 'http://127.0.0.1:5 ' in rota('--master', 'http://127.0.0.1:5', 'stats').stderr


def test_a_broken_profile_is_named_with_its_place(rota, tmp_path):
    profile = tmp_path / 'config/rota/client.yaml'
    profile.parent.mkdir(parents=True)
    for text, fault in (('url: [1]\n', ':1:6: write one text'), ('urll: x\n', ':1:1: unknown key'), ('a: {\n', ':2:1: '), ('- x\n', ':1:1: ')):
        profile.write_text(text)
        result = rota('stats')
        assert result.returncode == 2
        assert f'client.yaml{fault}' in result.stderr, result.stderr


def test_a_token_that_others_may_read_is_not_used(rota, tmp_path):
    token = tmp_path / 'token'
    token.write_text('secret\n')
    token.chmod(0o644)
    result = rota('stats', '--master', 'http://127.0.0.1:1', '--token-file', str(token))
    assert result.returncode == 6
    assert f'chmod 600 {token}' in result.stderr and 'secret\n' not in result.stderr
    token.chmod(0o600)
    assert rota('stats', '--master', 'http://127.0.0.1:1', '--token-file', str(token)).returncode == 5


# --- files ---

def test_job_file_faults_have_their_place_and_nothing_is_sent(rota, tmp_path):
    (tmp_path / 'bad.yaml').write_text('command: [true]\nnmae: x\nmem: 4Q\n')
    result = rota('submit', '-f', 'bad.yaml', '--master', 'http://127.0.0.1:1')
    assert result.returncode == 2, result.stderr
    assert 'rota: bad.yaml:2:1: ' in result.stderr and 'did you mean name?' in result.stderr
    assert 'rota: bad.yaml:3:6: ' in result.stderr
    assert rota('submit', '-f', 'nosuch.yaml', '--master', 'http://127.0.0.1:1').returncode == 3


def test_check_config_reports_every_fault_and_exits_78(rota, tmp_path):
    (tmp_path / 'bad.yaml').write_text('master:\n  heartbeet: 5s\n  port: 99999\n  lease: 1s\nworker:\n  exec: dokcer\n')
    result = rota('check-config', 'bad.yaml')
    assert result.returncode == 78
    assert result.stderr.count('rota: bad.yaml:') == 3
    assert 'bad.yaml:2:3: there is no setting "heartbeet" of the master; did you mean heartbeat?' in result.stderr
    (tmp_path / 'order.yaml').write_text('master: {lease: 1s}\n')
    assert 'must be shorter than' in rota('check-config', 'order.yaml').stderr
    for role, url, fault in (('master', 'amqp://me@a,,c/v', 'master: bus: a host of the bus has no name: ""; write amqp://USER@HOST[,HOST...]/VHOST'),
                             ('worker', 'amqps://a,b,a', 'worker: bus: the URL of the bus names a host twice: "a"'),
                             ('worker', 'kafka://a', 'worker: bus: "kafka://a" names no transport that rota knows')):
        (tmp_path / 'bus.yaml').write_text(f'{role}: {{bus: "{url}"}}\n')
        assert fault in rota('check-config', 'bus.yaml').stderr
    (tmp_path / 'good.yaml').write_text('master: {port: 0, lease: 70s}\nworker: {cpus: 2}\n')
    (tmp_path / 'job.yaml').write_text('command: ["true"]\n')
    result = rota('check-config', 'good.yaml', 'job.yaml')
    assert result.returncode == 0 and result.stderr.count('no fault found') == 2


@pytest.mark.parametrize('daemon', ['master', 'worker'])
def test_daemons_with_bad_settings_exit_78_and_start_nothing(rota, tmp_path, daemon):
    (tmp_path / 'bad.yaml').write_text(f'{daemon}: {{stat: x}}\n')
    result = rota(daemon, '--config', 'bad.yaml', '--state', str(tmp_path / 'made'))
    assert result.returncode == 78, result.stderr
    assert 'did you mean state?' in result.stderr
    assert not (tmp_path / 'made').exists()
    assert rota(daemon, '--config', 'nosuch.yaml').returncode == 78


def test_master_refuses_time_outs_out_of_order_and_open_addresses(rota, tmp_path):
    state = str(tmp_path / 'made')
    for arguments, text in ((['--lease', '10s'], 'suspect (15s) must be shorter than lease (10s)'), (['--address', '0.0.0.0'], 'insecure_bind')):
        result = rota('master', '--state', state, *arguments)
        assert result.returncode == 78 and text in result.stderr
    assert not os.path.exists(state)


def test_inspect_of_nothing_is_exit_3(rota):
    assert rota('inspect', '/nonexistent').returncode == 3


def test_down_without_a_cluster_is_exit_3(rota, tmp_path):
    assert rota('down').returncode == 3
    state = tmp_path / 'state/rota'
    state.mkdir(parents=True)
    # A process that has the number but began at another time is somebody else.
    (state / 'up.pid').write_text(f'{os.getpid()} 1\n')
    result = rota('down')
    assert result.returncode == 3 and 'is gone' in result.stderr


# --- completion ---

def complete_bash(environment, *words):
    """What bash offers for the last word, the way it calls the function: words parted at = and : as readline does."""
    parted = []
    for word in words:
        parted += [part for part in re.split(r'([=:])', word) if part] or ['']
    script = '''
        source <("$ROTA" completion bash)
        rota() { "$ROTA" "$@"; }
        COMP_WORDS=(%s); COMP_CWORD=%d
        _rota
        printf '%%s\\n' "${COMPREPLY[@]}"
    ''' % (' '.join("'" + part + "'" for part in [ROTA, *parted]), len(parted))
    result = subprocess.run(['bash', '-c', script], env={**environment, 'ROTA': ROTA}, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, timeout=120)
    assert result.returncode == 0, result.stderr
    return [line for line in result.stdout.split('\n') if line]


def test_bash_completes_verbs_options_and_values(environment, tmp_path):
    assert complete_bash(environment, 'sub') == ['submit']
    assert set(complete_bash(environment, 're')) == {'release', 'retry', 'resume'}
    assert complete_bash(environment, 'submit', '--prio') == ['--priority']
    assert '--mem' in complete_bash(environment, 'submit', '--')
    assert complete_bash(environment, 'ls', '--state', 'ru') == ['running']
    assert complete_bash(environment, 'ls', '--state=ru') == ['running']
    assert complete_bash(environment, 'help', 'wai') == ['wait']
    assert complete_bash(environment, 'completion', '') == ['bash', 'zsh', 'fish']
    assert complete_bash(environment, 'submit', '--mem', '') == []
    assert not any(word.startswith('_') for word in complete_bash(environment, ''))


def test_bash_completes_files_and_commands(environment, tmp_path):
    (tmp_path / 'jobs.yaml').write_text('')
    assert complete_bash(environment, 'submit', '-f', f'{tmp_path}/jo') == [f'{tmp_path}/jobs.yaml']
    assert complete_bash(environment, 'submit', f'--file={tmp_path}/jo') == [f'{tmp_path}/jobs.yaml']
    assert 'seq' in complete_bash(environment, 'run', '--', 'se')


@pytest.mark.parametrize('shell', ['bash', 'zsh', 'fish'])
def test_completion_scripts_are_read_by_their_shells(environment, rota, tmp_path, shell):
    text = rota('completion', shell).stdout
    assert '__complete' in text
    if not shutil.which(shell):
        pytest.skip(f'{shell} is not installed here')
    path = tmp_path / 'script'
    path.write_text(text)
    result = subprocess.run([shell, '-n', str(path)], env=environment, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(not shutil.which('fish'), reason='fish is not installed here')
def test_fish_completes(environment, rota, tmp_path):
    (tmp_path / 'rota.fish').write_text(rota('completion', 'fish').stdout)
    link = tmp_path / 'bin'
    link.mkdir()
    (link / 'rota').symlink_to(ROTA)
    result = subprocess.run(['fish', '--no-config', '-c', f'source {tmp_path}/rota.fish; complete -C "rota ls --state ru"; complete -C "rota subm"'],
                            env={**environment, 'PATH': f'{link}:{environment["PATH"]}'}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert [line.split('\t')[0] for line in result.stdout.split('\n') if line] == ['running', 'submit'], result.stderr


@pytest.mark.skipif(not shutil.which('zsh'), reason='zsh is not installed here')
def test_zsh_completes(environment):
    # The completion system itself needs a terminal: its functions are replaced by ones that print what they get.
    script = """
        compdef() { : }
        _describe() { local name=$4; print -l -- ${(P)name} }
        _files() { print files }
        eval "$("$ROTA" completion zsh)"
        words=("$ROTA" ls --state ru); CURRENT=4; _rota
        words=("$ROTA" subm); CURRENT=2; _rota
        words=("$ROTA" submit -f x); CURRENT=4; _rota
    """
    result = subprocess.run(['zsh', '-f', '-c', script], env={**environment, 'ROTA': ROTA}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert [line.split(':')[0] for line in result.stdout.split('\n') if line] == ['running', 'submit', 'files'], result.stdout + result.stderr


# --- documents ---

def test_docs_are_made_from_the_tables(rota):
    golden(os.path.join(ROOT, 'docs/cli.md'), rota('__docs').stdout)


def test_every_verb_and_option_is_in_the_documents(rota):
    docs, man = rota('__docs').stdout, rota('__man').stdout
    for verb in verbs():
        assert f'### rota {verb}\n' in docs
        assert f'## rota {verb} ' in man
        for option in re.findall(r'^ +(?:-\w, )?(--[a-z-]+)', rota('help', verb).stdout, re.M):
            assert option in docs, f'{verb} {option}'


@pytest.mark.skipif(not shutil.which('scdoc'), reason='scdoc is not installed here')
def test_the_manual_is_good_scdoc_and_good_troff(rota, environment):
    troff = subprocess.run(['scdoc'], input=rota('__man').stdout, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert troff.returncode == 0, troff.stderr
    assert '.TH "rota" "1"' in troff.stdout
    if shutil.which('man'):
        page = subprocess.run(['man', '--warnings', '-l', '-'], input=troff.stdout, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env={**environment, 'MANWIDTH': '100', 'PAGER': 'cat'})
        assert page.stderr == ''
        assert 'rota submit [OPTION...] -- CMD [ARG...]' in page.stdout


def test_version(rota):
    assert re.fullmatch(r'rota \d+\.\d+\.\d+\n', rota('version').stdout)
    assert rota('--version').stdout == rota('version').stdout


# --- links ---

@pytest.mark.parametrize('name', ['sbatch', 'squeue', 'scancel', 'sinfo', 'srun'])
def test_slurm_links(rota, tmp_path, name):
    link = tmp_path / name
    link.symlink_to(ROTA)
    result = rota('--help', program=str(link))
    assert result.returncode == 0 and result.stdout.startswith(f'usage: {name} ')
    assert rota('--nonsense', program=str(link)).returncode == 2


def test_sbatch_refuses_what_it_cannot_do(rota, tmp_path):
    link = tmp_path / 'sbatch'
    link.symlink_to(ROTA)
    script = tmp_path / 'job.sh'
    for text, fault in (('#!/bin/sh\n#SBATCH --nonsense\n', 'SBATCH in job.sh'), ('#!/bin/sh\n#SBATCH --time=x\n', '--time: "x" is not a time'),
                        ('#!/bin/sh\n#SBATCH --ntasks=4\n', 'several tasks'), ('#!/bin/sh\n#SBATCH --nodes=2\n', 'srun --nodes'), ('#!/bin/sh\n#SBATCH --job-name="x\n', 'quote'), ('echo\n', 'begins with #!')):
        script.write_text(text)
        result = rota('job.sh', program=str(link), env={'ROTA_MASTER': 'http://127.0.0.1:1'})
        assert result.returncode == 2 and fault in result.stderr, result.stderr
