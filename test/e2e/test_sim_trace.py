"""`rota sim TRACE`: every start equals that of an independent simulation.

Without traces: workloads made here from seeds, against `replay` below, which is written to be obviously right and shares nothing
with the scheduler. With TRACES=DIR (lublin-1.swf.gz and sdsc-sp2.swf.gz): both logs whole, against golden/trace_starts.json: one
SHA-256 per replay over the starts of all jobs ("index,start" per line), made with a reference simulator in Python whose EASY equals
the schedules published with Gaussier et al., SC'15.
"""
import gzip
import hashlib
import html.parser
import json
import math
import os
import random
import re
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ROTA = os.path.abspath(os.environ.get('ROTA', os.path.join(ROOT, 'build-asan/src/cli/rota')))
TRACES = os.environ.get('TRACES')
GOLDEN = os.path.join(ROOT, 'test/golden/trace_starts.json')
POLICIES = ['fifo', 'sjf', 'saf', 'f1', 'wfp3', 'unicep', 'handicap']


def rota(*arguments, code=0):
    done = subprocess.run([ROTA, 'sim', *map(str, arguments)], capture_output=True, text=True, timeout=600)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def starts_of(path):
    with open(path, encoding='utf-8') as f:
        assert f.readline() == 'index,id,submit,start,run,est,procs\n'
        return [int(line.split(',')[3]) for line in f]


# --- the independent simulation ---

def log10(x):
    return math.log10(max(x, 1))


KEYS = {  # of (submit, run, estimate, processors) at time t; backlog as in src/core/policy/order.h
    'fifo': lambda j, t, backlog: 0,
    'sjf': lambda j, t, backlog: j[2],
    'saf': lambda j, t, backlog: j[2] * j[3],
    'f1': lambda j, t, backlog: log10(j[2]) * j[3] + 870 * log10(j[0]),
    'wfp3': lambda j, t, backlog: -((t - j[0]) / j[2]) ** 3 * j[3],
    'unicep': lambda j, t, backlog: -(t - j[0]) / (max(math.log2(j[3]), 1e-15) * j[2]),
    'handicap': lambda j, t, backlog: 0.4 * backlog * math.log(max(j[2] / j[3] ** 0.125, 1)) - (t - j[0]),
}


LONGER_S = [60 * minutes for minutes in (1, 5, 15, 30, 60, 120, 300, 600, 1200, 3000, 6000)]
USERS = 7  # job i is of user i % USERS


def replay(jobs, machine, policy, backfill, candidates=None, predict=False):
    start, length = {}, {}

    def predicted(i, t):
        """The mean of the user's last two that have ended."""
        done = sorted((s + jobs[k][1], k) for k, s in start.items() if k % USERS == i % USERS and s + jobs[k][1] <= t)[-2:]
        return min(jobs[i][2], sum(jobs[k][1] for _, k in done) / 2) if predict and len(done) == 2 else jobs[i][2]

    def expected_end(i, t):
        end, last, longer = start[i] + length[i], start[i] + jobs[i][2], iter(LONGER_S)
        while predict and end <= t and end < last:
            end = min(end + next(longer), last)
        return end

    times = {j[0] for j in jobs}
    while len(start) < len(jobs):
        t = min(x for x in times if x >= 0)
        times.discard(t)
        running = [i for i, s in start.items() if s + jobs[i][1] > t]
        free = machine - sum(jobs[i][3] for i in running)
        queue = [i for i, j in enumerate(jobs) if j[0] <= t and i not in start]
        work = sum(jobs[i][2] * jobs[i][3] for i in queue) + sum(max(start[i] + jobs[i][2] - t, 0) * jobs[i][3] for i in running)
        backlog = work * 1e6 / (machine * 1000) / 1000  # in the program's units, so that rounding is the same
        queue.sort(key=lambda i: (KEYS[policy](jobs[i], t, backlog), i))

        def begin(i):
            length[i] = predicted(i, t)
            start[i] = t
            times.add(t + jobs[i][1])
            running.append(i)

        while queue and jobs[queue[0]][3] <= free:
            free -= jobs[queue[0]][3]
            begin(queue.pop(0))
        if not queue or backfill == 'none':
            continue
        head = jobs[queue.pop(0)]
        back = sorted((max(expected_end(i, t), t), jobs[i][3]) for i in running)
        there = free
        for end, procs in back:
            there += procs
            if there >= head[3]:
                shadow = end
                break
        extra = free + sum(procs for end, procs in back if end <= shadow) - head[3]
        if candidates:
            queue.sort(key=lambda i: (KEYS[candidates](jobs[i], t, backlog), i))
        for i in queue:
            procs, in_time = jobs[i][3], t + predicted(i, t) <= shadow
            if procs > free or (not in_time and procs > extra):
                continue
            free -= procs
            extra -= 0 if in_time else procs
            begin(i)
    return [start[i] for i in range(len(jobs))]


def conservative(jobs, machine, policy):
    """Conservative backfilling on one machine, in milliseconds: the starts, and the start that each job was first promised."""
    start, promised, times, slots = {}, {}, {j[0] for j in jobs}, {}
    length = [j[2] * 1000 for j in jobs]
    while len(start) < len(jobs):
        t = min(times)
        times.discard(t)
        now = t * 1000
        running = [i for i, s in start.items() if s + jobs[i][1] > t]

        def end(i):  # the longer it has outlived its estimate, the longer it may go on
            late = now - start[i] * 1000 - length[i]
            return now - late if late < 0 else now + 1 + late // 8

        def used(at, but=None):
            total = sum(jobs[i][3] for i in running if end(i) > at)
            return total + sum(jobs[i][3] for i, s in slots.items() if i != but and max(s, now) <= at < s + length[i])

        def fits(i, at, until):
            moments = [at] + [m for m in changes() if at < m < until]
            return all(used(m, i) + jobs[i][3] <= machine for m in moments)

        def changes():
            return [end(i) for i in running] + [m for i, s in slots.items() for m in (s, s + length[i])]

        def begin(i):
            slots.pop(i, None)
            start[i] = t
            promised.setdefault(i, now)
            times.add(t + jobs[i][1])
            running.append(i)

        queue = [i for i, j in enumerate(jobs) if j[0] <= t and i not in start]
        queue.sort(key=lambda i: (KEYS[policy](jobs[i], t, 0), i))
        moved = True
        while moved:  # who moves forward leaves room, perhaps for somebody before him
            moved, kept, slots = False, slots, {}
            queue = [i for i in queue if i not in start]
            for i in queue:  # what runs comes first: a slot that is no longer free is lost
                if i in kept and kept[i] + length[i] > now and fits(i, max(kept[i], now), kept[i] + length[i]):
                    slots[i] = kept[i]
            for i in queue:
                old = slots.get(i)
                if old is not None and old <= now < old + length[i] and fits(i, now, old + length[i]):
                    begin(i)
                    moved = True
                    continue
                if old is not None and old <= now:
                    slots.pop(i)
                    moved = True
                at = next(m for m in sorted({now, *(m for m in changes() if m > now)}) if fits(i, m, m + length[i]))
                if i in slots and at >= old:
                    continue
                moved |= i in slots
                if at == now:
                    begin(i)
                else:
                    slots[i] = at
                    promised.setdefault(i, at)
    return [start[i] for i in range(len(jobs))], [promised[i] / 1000 for i in range(len(jobs))]


def workload(seed, count, machine, exact):
    """Bursts and lulls, many equal numbers (ties), estimates that are round, too long, or (exact) the run time itself."""
    draw = random.Random(seed)
    jobs, now = [], draw.randrange(5)
    for _ in range(count):
        now += draw.choice([0, 0, 1, 5, draw.randrange(400)])
        run = draw.choice([1, 10, 60, draw.randrange(1, 3000)])
        estimate = run if exact else draw.choice([run, 60, 600, 3600, run * 2, max(1, run // 2)])
        jobs.append((now, run, estimate, draw.choice([1, 1, 2, machine // 2, machine, draw.randrange(1, machine + 1)])))
    return jobs


def swf(path, jobs, machine):
    with open(path, 'w', encoding='ascii') as f:
        f.write(f'; MaxProcs: {machine}\n; Note: made by a test\n')
        for i, (submit, run, estimate, procs) in enumerate(jobs):
            f.write(f'{i + 1} {submit} -1 {run} {procs} -1 -1 {procs} {estimate} -1 1 {i % USERS} -1 -1 -1 -1 -1 -1\n')
    return path


@pytest.mark.parametrize('seed', range(6))
def test_every_start_is_that_of_the_oracle(tmp_path, seed):
    machine = [4, 16, 100][seed % 3]
    jobs = workload(seed, 160, machine, exact=seed % 2 == 0)
    path = swf(tmp_path / 'w.swf', jobs, machine)
    for policy in POLICIES:
        for backfill in ('none', 'easy'):
            rota(path, '--policy', policy, '--backfill', backfill, '--dump', tmp_path / 'd')
            assert starts_of(tmp_path / 'd') == replay(jobs, machine, policy, backfill), (seed, policy, backfill)
    rota(path, '--policy', 'fifo', '--backfill', 'easy', '--backfill-order', 'sjf', '--dump', tmp_path / 'd')
    assert starts_of(tmp_path / 'd') == replay(jobs, machine, 'fifo', 'easy', 'sjf'), seed
    for policy in ('fifo', 'wfp3'):
        rota(path, '--policy', policy, '--backfill', 'easy', '--predict', '--dump', tmp_path / 'd')
        assert starts_of(tmp_path / 'd') == replay(jobs, machine, policy, 'easy', predict=True), (seed, policy)


@pytest.mark.parametrize('seed', range(3))
def test_conservative_is_that_of_the_oracle(tmp_path, seed):
    machine = [4, 16, 100][seed % 3]
    jobs = workload(seed + 20, 45, machine, exact=False)
    path = swf(tmp_path / 'w.swf', jobs, machine)
    for policy in ('fifo', 'sjf', 'wfp3'):
        rota(path, '--policy', policy, '--backfill', 'conservative', '--dump', tmp_path / 'd')
        assert starts_of(tmp_path / 'd') == conservative(jobs, machine, policy)[0], (seed, policy)


@pytest.mark.parametrize('seed', range(2))
def test_conservative_keeps_its_promises(tmp_path, seed):
    """Where nothing runs longer than it said, nobody starts later than at the first time it was promised; EASY delays some."""
    machine, delayed = 16, 0
    jobs = [(s, r, max(r, e), p) for s, r, e, p in workload(seed + 40, 45, machine, exact=False)]
    path = swf(tmp_path / 'w.swf', jobs, machine)
    for policy in ('fifo', 'unicep'):
        starts, promised = conservative(jobs, machine, policy)
        assert all(s <= p for s, p in zip(starts, promised))
        rota(path, '--policy', policy, '--backfill', 'conservative', '--dump', tmp_path / 'd')
        assert starts_of(tmp_path / 'd') == starts, (seed, policy)
        delayed += sum(s > p for s, p in zip(replay(jobs, machine, policy, 'easy'), promised))
    assert delayed  # else the promise would say nothing


def test_nobody_starves(tmp_path):
    """A job that needs the whole machine, under an endless stream of small ones: it starts at its first estimate or before. Where
    whatever fits may pass, it does not."""
    draw, machine, at = random.Random(5), 16, 2000
    small = [(t, run, max(run, draw.choice([run, 100, 300])), draw.choice([1, 1, 2, 3]))
             for t in range(0, at + 20000, 4) for run in [draw.randrange(1, 60)]]
    jobs = sorted(small + [(at, 500, 600, machine)])
    big = jobs.index((at, 500, 600, machine))
    path = swf(tmp_path / 'w.swf', jobs, machine)
    before = jobs[:big + 1]
    promised = conservative(before, machine, 'fifo')[1][big]  # what comes later is not known then
    running = [(s, j) for j, s in zip(before, replay(before, machine, 'fifo', 'easy')) if s <= at < s + j[1]]
    assert len(before) > len(running) + 100 and promised == max(s + j[2] for s, j in running) > at  # nobody else waits
    starts = {}
    for backfill in ('easy', 'conservative', 'greedy'):
        rota(path, '--policy', 'fifo', '--backfill', backfill, '--dump', tmp_path / 'd')
        starts[backfill] = starts_of(tmp_path / 'd')[big]
    assert at < starts['easy'] <= promised and at < starts['conservative'] <= promised
    assert starts['greedy'] > promised


def test_the_workload_tells_policies_apart(tmp_path):
    """A comparison that every order passes would show nothing."""
    jobs = workload(3, 160, 16, exact=False)
    seen = {tuple(replay(jobs, 16, policy, backfill)) for policy in POLICIES for backfill in ('none', 'easy')}
    assert len(seen) == 2 * len(POLICIES)


def test_metrics_are_those_of_the_definition(tmp_path):
    jobs = [(0, 100, 100, 2), (0, 5, 5, 4), (10, 50, 60, 2)]
    done = rota(swf(tmp_path / 'm.swf', jobs, 4), '--policy', 'fcfs', '--backfill', 'easy', '--json')
    got = json.loads(done.stdout)
    # 0 runs 0..100, 1 waits for all four until 100, 2 passes it at 10 (it ends by 70).
    assert (got['wait_avg_s'], got['wait_max_s'], got['wait_p50_s']) == (pytest.approx(100 / 3, abs=1e-6), 100, 0)
    assert got['bounded_slowdown_avg'] == pytest.approx((1 + 105 / 10 + 1) / 3, abs=1e-6)
    assert got['makespan_s'] == 105
    assert got['utilisation'] == pytest.approx((200 + 20 + 100) / (4 * 105), abs=1e-6)
    assert (got['policy'], got['backfill'], got['jobs'], got['procs']) == ('fifo', 'easy', 3, 4)


MEASURES = {'WAIT_AVG_S': 'wait_avg_s', 'WAIT_P95_S': 'wait_p95_s', 'WAIT_MAX_S': 'wait_max_s', 'SLOWDOWN': 'bounded_slowdown_avg',
            'UTIL': 'utilisation', 'MAKESPAN_S': 'makespan_s'}


def test_a_comparison_marks_the_best_of_each_column(tmp_path):
    path = swf(tmp_path / 'w.swf', workload(3, 160, 16, exact=False), 16)
    chosen = ['fifo', 'sjf', 'saf', 'f1']
    alone = [json.loads(line) for line in rota(path, '--policy', ','.join(chosen), '--backfill', 'easy', '--json').stdout.splitlines()]
    both = [json.loads(line) for line in rota(path, '--compare', ','.join(chosen), '--backfill', 'easy', '--json').stdout.splitlines()]
    head, *rows = [line.split('\t') for line in rota(path, '--compare', ','.join(chosen), '--backfill', 'easy').stdout.splitlines()]
    assert head == ['POLICY', 'BACKFILL', *MEASURES] and [row[:2] for row in rows] == [[policy, 'easy'] for policy in chosen]
    starred = 0
    for column, name in MEASURES.items():
        values = [float(row[head.index(column)].rstrip('*')) for row in rows]
        best = (max if name == 'utilisation' else min)(values)
        for row, value, one, ours in zip(rows, values, alone, both):
            mark = value == best and len(set(values)) > 1
            starred += mark
            assert row[head.index(column)].endswith('*') == mark == (name in ours['best']), (column, row)
            assert ours[name] == one[name] == pytest.approx(value, abs=0.006)
    assert starred >= 4
    # Nothing is best where there is nothing to compare with; and two lists of policies are one too many.
    assert json.loads(rota(path, '--compare', 'sjf', '--backfill', 'easy', '--json').stdout)['best'] == []
    assert 'leave --policy out' in rota(path, '--compare', 'sjf', '--policy', 'fifo', code=2).stderr
    assert '--compare: "lifo" is not one of them' in rota(path, '--compare', 'lifo', code=2).stderr


class Page(html.parser.HTMLParser):
    """What a page shows and loads; its tags must be closed in turn."""
    VOID = {'meta', 'link', 'br', 'img', 'input'}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.loads, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in ('src', 'href', 'data', 'onload')]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data):
        self.words += data.split()


@pytest.mark.parametrize('choice', [('--compare', 'fifo,sjf,saf,f1,wfp3', '--backfill', 'none,easy'), ('--policy', 'sjf', '--json')])
def test_a_report_is_a_page_complete_in_itself(tmp_path, choice):
    path = swf(tmp_path / 'a<b>&"c.swf', workload(5, 160, 16, exact=False), 16)
    told = rota(path, *choice, '--report', tmp_path / 'page.html').stdout
    if '--json' not in choice:
        assert f'{len(told.splitlines())} lines' == f'{len(rota(path, *choice).stdout.splitlines())} lines'
    text = (tmp_path / 'page.html').read_text(encoding='utf-8')
    page = Page(text)
    assert not page.loads and 'script' not in page.tags and 'http' not in text.replace('http://www.w3.org/2000/svg', '')
    runs = len(choice[1].split(',')) * 2
    assert page.tags.count('h2') == 3 and text.count('role="img"') == 1 + 2 * runs and 'a<b>&"c.swf' in page.words and 'a<b>' not in text
    for name in choice[1].split(','):
        assert any(word.startswith(name) for word in page.words), name
    (tmp_path / 'page.html').write_text('kept')
    rota(tmp_path / 'none.swf', *choice, '--report', tmp_path / 'page.html', code=2)
    assert (tmp_path / 'page.html').read_text() == 'kept'


@pytest.mark.parametrize('option', ['--report', '--dump'])
def test_a_file_that_cannot_be_written_is_told_before_the_replay(tmp_path, option):
    path = swf(tmp_path / 'w.swf', workload(5, 20, 16, exact=False), 16)
    done = rota(path, '--policy', 'fifo', '--backfill', 'easy', option, tmp_path / 'no/such/file', code=2)
    assert 'no/such/file' in done.stderr and 'No such file' in done.stderr and not done.stdout


def test_window_filter_and_overrun(tmp_path):
    jobs = [(5, 10, 4, 1), (6, 10, 10, 9), (7, 10, 0, 1), (8, 0, 5, 1), (9, 3, 3, 1)]
    path = swf(tmp_path / 'w.swf', jobs, 4)

    def dump(*more):
        done = rota(path, '--policy', 'fifo', '--backfill', 'none', '--dump', tmp_path / 'd', *more)
        with open(tmp_path / 'd', encoding='utf-8') as f:
            return done.stderr, [tuple(map(int, line.split(','))) for line in f.read().split('\n')[1:-1]]
    told, rows = dump()
    assert '1 without a run time left out' in told and '1 wider than the machine left out' in told
    assert [r[1] for r in rows] == [1, 3, 5] and [r[5] for r in rows] == [4, 10, 3] and rows[0][4] == 10
    assert [r[4] for r in dump('--overrun', 'kill')[1]] == [4, 10, 3]
    told, rows = dump('--filter', 'sc15')
    assert [r[1] for r in rows] == [1, 5] and '1 without an estimate left out' in told
    assert [r[2] for r in dump('--start', 1, '--jobs', 1, '--rebase')[1]] == [0]


@pytest.mark.parametrize('text, message', [
    ('1 0 -1 5 1\n', ':2: the line ends after 5 of 18 fields; give all 18 fields, -1 for what is not known'),
    ('1 0 -1 x 1 -1 -1 1 5 -1 1 1 1 1 1 1 1 1\n', 'run time: '),
    ('1 0 -1 99999999999999 1 -1 -1 1 5 -1 1 1 1 1 1 1 1 1\n', '"99999999999999" is not a number that can be used; '),
    ('', 'no job is left to replay'),
])
def test_bad_lines_are_named(tmp_path, text, message):
    path = tmp_path / 'bad.swf'
    path.write_text('; MaxProcs: 4\n' + text)
    done = rota(path, code=2)
    assert message in done.stderr and done.stdout == ''
    if text:
        assert f'{path}:2: ' in done.stderr


def test_bad_files_and_options(tmp_path):
    rota(tmp_path / 'none.swf', code=2)
    path = tmp_path / 'noheader.swf'
    path.write_text('1 0 -1 5 1 -1 -1 1 5 -1 1 1 1 1 1 1 1 1\n')
    assert 'give --procs N' in rota(path, code=2).stderr
    cut = tmp_path / 'cut.swf.gz'
    cut.write_bytes(gzip.compress(path.read_bytes() * 5000)[:-30])
    assert 'cut short or damaged' in rota(cut, '--procs', 4, code=2).stderr
    assert '"lifo" is not one of them' in rota(path, '--procs', 4, '--policy', 'sjf,lifo', code=2).stderr
    assert 'give one --policy' in rota(path, '--procs', 4, '--dump', tmp_path / 'd', code=2).stderr
    assert 'gives places in the order of --policy' in rota(path, '--procs', 4, '--backfill', 'easy,conservative', '--backfill-order', 'sjf', code=2).stderr
    assert 'name a workload log' in rota(code=2).stderr


def test_the_documentation_has_every_formula():
    with open(os.path.join(ROOT, 'src/core/policy/order.c'), encoding='utf-8') as f:
        rows = re.findall(r'\.name = "(\w+)"[^"]+\.formula = "([^"]+)",\s*\.use = "([^"]+)" \}', f.read())
    with open(os.path.join(ROOT, 'docs/policies.md'), encoding='utf-8') as f:
        text = f.read()
    assert len(rows) >= 8
    for name, formula, use in rows:
        assert f'| `{name}` | {formula} | {use} |' in text


# --- the published logs ---

def digest(path):
    lines = ''.join(f'{i},{start}\n' for i, start in enumerate(starts_of(path)))
    return hashlib.sha256(lines.encode()).hexdigest()


def golden():
    with open(GOLDEN, encoding='utf-8') as f:
        return json.load(f)


@pytest.mark.parametrize('case', sorted(golden()))
def test_every_start_on_the_published_logs(tmp_path, case):
    if not TRACES:
        pytest.skip('set TRACES to the folder with lublin-1.swf.gz and sdsc-sp2.swf.gz')
    trace, *options = case.split()
    rota(os.path.join(TRACES, trace + '.swf.gz'), *options, '--dump', tmp_path / 'd')
    assert digest(tmp_path / 'd') == golden()[case]


@pytest.mark.parametrize('trace', ['lublin-1', 'sdsc-sp2'])
def test_handicap_on_the_published_logs(trace):
    """What docs/policies.md says of it: a fraction of the slowdown under fifo, with EASY both, and no worse 95th percentile of the wait."""
    if not TRACES:
        pytest.skip('set TRACES to the folder with lublin-1.swf.gz and sdsc-sp2.swf.gz')
    path = os.path.join(TRACES, trace + '.swf.gz')
    fifo, ours, wfp3 = (json.loads(line) for line in rota(path, '--policy', 'fifo,handicap,wfp3', '--backfill', 'easy', '--json').stdout.splitlines())
    assert ours['policy'] == 'handicap'
    assert ours['bounded_slowdown_avg'] < min(0.6 * fifo['bounded_slowdown_avg'], wfp3['bounded_slowdown_avg'])
    assert ours['wait_p95_s'] < fifo['wait_p95_s']
    assert ours['wait_max_s'] < wfp3['wait_max_s'] and ours['wait_max_s'] < 1.75 * fifo['wait_max_s']
