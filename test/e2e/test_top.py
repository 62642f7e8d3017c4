"""`rota top` in a real terminal (tmux): what is on the screen is what the cluster is, and every key does what it says."""
import os
import re
import shutil
import subprocess
import tempfile
import unicodedata

import pytest

from conftest import PATIENCE_S, ROTA, wait_for
from parts import Parts


class Terminal:
    def __init__(self, cluster, *arguments, width=80, height=24):
        assert shutil.which('tmux'), 'tmux is not there: tools/install test'
        self.socket = os.path.join(cluster.directory, 'tmux.sock')
        self.environment = {**cluster.environment, 'LC_ALL': 'C.UTF-8', 'TERM': 'xterm'}
        self.tmux('-f', '/dev/null', 'new-session', '-d', '-x', str(width), '-y', str(height),
                  f'TERM=screen-256color {ROTA} {" ".join(arguments)}; echo "ended with $?"; exec sleep 600')

    def tmux(self, *arguments):
        return subprocess.run(['tmux', '-S', self.socket, *arguments], env=self.environment, text=True, check=True,
                              stdout=subprocess.PIPE, timeout=PATIENCE_S).stdout

    def screen(self):
        return self.tmux('capture-pane', '-p')

    def keys(self, *keys):
        self.tmux('send-keys', *keys)

    def write(self, text):
        self.tmux('send-keys', '-l', text)

    def shows(self, pattern):
        def found():
            screen = self.screen()
            return screen if re.search(pattern, screen, re.M) else None

        try:
            return wait_for(found, pattern)
        except pytest.fail.Exception:
            pytest.fail(f'{pattern!r} does not appear:\n{self.screen()}')

    def lacks(self, pattern):
        wait_for(lambda: not re.search(pattern, self.screen(), re.M), f'{pattern!r} does not go')

    def resize(self, width, height):
        self.tmux('resize-window', '-x', str(width), '-y', str(height))

    def close(self):
        subprocess.run(['tmux', '-S', self.socket, 'kill-server'], stderr=subprocess.DEVNULL, timeout=PATIENCE_S)


@pytest.fixture
def terminal(cluster):
    opened = []

    def open_it(*arguments, **more):
        opened.append(Terminal(cluster, *(arguments or ('top',)), **more))
        return opened[-1]

    yield open_it
    for one in opened:
        one.close()


@pytest.fixture
def terminal_of_parts():
    """A master that nobody starts again by himself, and a terminal on it."""
    directory = tempfile.mkdtemp(prefix='rota-top-')
    cluster = Parts(directory)
    cluster.start_master()
    top = Terminal(cluster, 'top')
    try:
        yield cluster, top
    finally:
        top.close()
        cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)


def row(name, state):
    return rf'\b{name}\b.* {state}\b'


def test_needs_a_terminal(cluster):
    result = cluster.rota('top')
    assert result.returncode == 2 and 'needs a terminal' in result.stderr


def test_shows_what_is_there_and_follows_it(cluster, terminal):
    top = terminal()
    top.shows(r'no jobs; rota submit')
    top.shows(r'2 of 2 nodes ready')
    top.shows(r'^worker-1 +ready')
    cluster.ok('submit', '--name', 'long', '--', 'sleep', '600')   # elsewhere: it appears by itself
    top.shows(row('long', 'running'))
    cluster.ok('submit', '--name', 'huge', '--cpus', '64', '--', 'true')
    cluster.rota('run', '--name', 'broken', '--', 'false')
    top.shows(row('huge', 'queued'))
    screen = top.shows(row('broken', 'failed'))
    assert re.search(r'1 running 1 queued', screen)
    rows = [re.search(r'(long|huge|broken)', line).group() for line in screen.splitlines() if re.search(r' (long|huge|broken) ', line)]
    assert rows == ['long', 'huge', 'broken']  # what happens, what waits, what is over
    top.keys('o')
    top.shows(r'by id$')
    rows = [re.search(r'(long|huge|broken)', line).group() for line in top.screen().splitlines() if re.search(r' (long|huge|broken) ', line)]
    assert rows == ['broken', 'huge', 'long']
    top.keys('r')
    top.shows(r'by id \(reverse\)')
    top.keys('2')
    top.shows(r'^worker-\d +ready +1')
    top.keys('Tab')
    top.shows(r'^default +1 +1 +0 +1 +0')
    top.keys('q')
    top.shows(r'^ended with 0')


def test_filters(cluster, terminal):
    for name in ('apple', 'apricot', 'banana'):
        cluster.ok('submit', '--hold', '--name', name, '--', 'true')
    cluster.rota('run', '--name', 'apex', '--', 'false')
    top = terminal()
    top.shows('banana')
    top.keys('/')
    top.write('apx')
    top.keys('BSpace')
    top.keys('Enter')
    top.shows(r'name \*ap\*')
    top.lacks('banana')
    assert all(name in top.shows('apex') for name in ('apple', 'apricot'))
    for _ in range(3):
        top.keys('f')
    top.shows('state held')
    top.lacks('apex')
    top.shows('apricot')
    top.keys('u')
    top.write('nobody')
    top.keys('Enter')
    top.shows('no job matches')


def test_log_why_and_cancel(cluster, terminal):
    job = cluster.ok('submit', '--name', 'talker', '--', 'sh', '-c',
                     'echo first; echo second >&2; printf "\\033[31mred\\033[0m \\033]0;owned\\007 \\033[2Jend\\n"; while [ ! -e stop ]; do sleep 0.1; done; echo last').strip()
    cluster.ok('submit', '--name', 'huge', '--cpus', '64', '--', 'true')
    top = terminal()
    top.shows(row('talker', 'running'))
    top.keys('l')
    screen = top.shows('second')
    assert f'output of job {job}' in screen and 'first' in screen
    assert re.search(r'^red +end', top.shows('red'), re.M)  # no colour, no title, nothing cleared
    assert 'owned' not in top.screen() + top.tmux('display-message', '-p', '#{pane_title}')
    top.keys('q')
    top.shows(row('huge', 'queued'))
    top.keys('Down')
    top.keys('w')
    top.shows('is large enough')
    top.keys('Up')
    top.keys('c')
    top.shows(rf'cancel job {job} \(talker\)\?')
    top.keys('n')
    top.shows('not cancelled')
    assert cluster.json('show', job)['state'] == 'running'
    top.keys('c')
    top.shows(rf'cancel job {job}')
    top.keys('y')
    top.shows(row('talker', 'cancelled'))
    assert cluster.json('show', job)['state'] == 'cancelled'
    top.keys('q')
    top.shows(r'^ended with 0')


def columns_of(screen, name):
    """Where STATE stands in the head, and what is there in the row of that name."""
    lines = screen.splitlines()
    head = next(line for line in lines if re.search(r'\bID\b.*\bSTATE\b', line))
    row_ = next(line for line in lines if name in line)
    at = width(head[:head.index('STATE')])
    shown = ''
    for char in row_:
        if width(shown) >= at:
            break
        shown += char
    return row_[len(shown):].split()[0]


def width(text):
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in 'WF' else 1 for c in text)


def test_what_others_write_breaks_nothing(cluster, terminal):
    """Names of others are theirs to choose: columns hold, and nothing of them is an order to the terminal."""
    names = {'markup': '<b>"\'&$(x)`', 'bidi': 'x\u05d0\u05d1\u05d2 \u0627\u0644', 'wide': '\u6f22\u5b57' * 20, 'marks': 'e' + '\u0301' * 60 + 'x', 'long': 'n' * 256,
             'percent': '%s%n%100d'}
    jobs = {key: cluster.ok('submit', '--hold', '--name', f'{key}-{name}'[:200], '--', 'true').strip() for key, name in names.items()}
    refused = cluster.rota('submit', '--name', 'a\x1b]0;owned\x07\u202eb', '--', 'true')
    assert refused.returncode == 2 and 'name' in refused.stderr
    hostile = cluster.ok('submit', '--name', 'noisy', '--', 'sh', '-c', r"""printf '\033[31mred\033[0m\033]0;owned\007\033]52;c;b3duZWQ=\007\033[2J\033[1;1H\033[?1049l\033c\001\033P1$r\033\\ after\n'
        printf 'left \342\200\256right\n\233m8bit\n\377\376 bytes\n'; head -c 1048576 /dev/zero | tr '\0' x; echo; echo the end; sleep 600""").strip()
    top = terminal()
    top.shows(row('noisy', 'running'))
    for key in names:
        screen = top.shows(f'{key}-')
        assert columns_of(screen, f'{key}-') == 'held', screen
    top.keys('l')
    top.shows('output of job')
    screen = top.shows('the end')
    assert all(width(line) <= 80 for line in screen.splitlines())
    top.keys('Home')
    seen = top.screen() + top.shows('after')
    assert 'owned' not in seen and 'owned' not in top.tmux('display-message', '-p', '#{pane_title}')
    assert '\u202e' not in seen and '\x1b' not in seen
    top.keys('q')
    top.shows(row('noisy', 'running'))  # still on its own screen, with its own colours
    top.keys('q')
    top.shows(r'^ended with 0')
    # The other views of the same.
    for words in (('ls',), ('ls', '--watch'), ('show', jobs['markup']), ('why', jobs['bidi']), ('logs', hostile), ('events', '--since', '0')):
        if '--watch' in words:
            watch = terminal(*words)
            assert columns_of(watch.shows('wide-'), 'wide-') == 'held'
            watch.keys('q')
            continue
        view = terminal(*words)
        shown = view.shows('ended with 0') + view.tmux('display-message', '-p', '#{pane_title}')
        assert 'owned' not in shown and '\u202e' not in shown
    for job in (*jobs.values(), hostile):
        cluster.ok('cancel', job)


def test_any_size(cluster, terminal):
    for number in range(40):
        cluster.ok('submit', '--hold', '--name', f'größe-{number}-日本', '--', 'true')
    top = terminal()
    top.shows('größe-39-日本')
    for width, height in ((40, 10), (20, 5), (10, 2), (3, 1), (250, 60), (80, 24)):
        top.resize(width, height)
        top.keys('Down')
        top.keys('2')
        top.keys('1')
    top.keys('Home')
    top.shows('größe-39-日本')
    assert max(map(len, top.screen().splitlines())) <= 80
    top.keys('End')
    top.shows('größe-0-日本')
    top.keys('q')
    top.shows(r'^ended with 0')


def test_survives_the_master(terminal_of_parts):
    cluster, top = terminal_of_parts
    cluster.ok('submit', '--hold', '--name', 'before', '--', 'true')
    top.shows('before')
    cluster.crash('master')
    top.shows('no answer for')
    assert 'before' in top.screen()
    cluster.start_master()
    cluster.ok('submit', '--hold', '--name', 'after', '--', 'true')
    top.shows(r'\bafter\b')
    top.lacks('no answer')


def test_ls_watch_fits_and_goes_on(cluster, terminal):
    for number in range(30):
        cluster.ok('submit', '--hold', '--name', f'job-{number}', '--', 'true')
    watched = terminal('ls', '--watch', width=100, height=12)
    screen = watched.shows('job-29')
    assert len(re.findall(r'job-\d+', screen)) == 9 and 'ID' in screen and '30 held' in screen
    cluster.ok('submit', '--hold', '--name', 'newest', '--', 'true')
    watched.shows('newest')
    cluster.kill('master')
    wait_for(lambda: cluster.rota('submit', '--hold', '--name', 'later', '--', 'true').returncode == 0, 'the master does not come back')
    watched.shows('later')


def test_progress_has_rate_and_time_left(cluster, terminal):
    flags = [os.path.join(cluster.directory, name) for name in ('half', 'all')]
    job = cluster.ok('submit', '--array', '1-8', '--cpus', '0.1', '--', 'sh', '-c',
                     f'flag={flags[0]}; [ {{}} -le 4 ] || flag={flags[1]}; while [ ! -e $flag ]; do sleep 0.2; done').strip()
    waiting = terminal('wait', '--progress', job, width=100)
    waiting.shows(r'\[\.+\] 0/8 done 0%')
    for flag, bar in zip(flags, (r'\[#+\.+\] 4/8 done 50%  [\d.]+/s  \S+ left', r'\[#+\] 8/8 done 100%')):
        with open(flag, 'w', encoding='ascii'):
            pass
        waiting.shows(bar)
    waiting.shows(r'^ended with 0')
