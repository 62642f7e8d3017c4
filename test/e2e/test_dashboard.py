"""The dashboard in a real browser, against a live cluster: what it shows is what the API tells, what it does is done, and nothing that
anybody writes into a name or a log runs or breaks it."""
import json
import os
import shlex
import subprocess
import time

import pytest

from browser import Browser
from conftest import PATIENCE_S, ROTA, wait_for
from test_api import Master

HOSTILE = '<img src=x onerror=alert(1)>"\'&\u05d0\u05d1\u05d2 \u0627\u0644</script><script>alert(2)</script>'  # bidi controls the API refuses
TOUCH_PX = 40
TURNED = '\u202egnp.exe\u2066\u200b'


@pytest.fixture(scope='module')
def browser():
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture(scope='module')
def api():
    master = Master()
    try:
        master.start()
        master.worker('n1', cpus=4)
        master.worker('n2', cpus=2)
        yield master
    finally:
        master.stop()


@pytest.fixture
def page(browser, api):
    """Signed in, and checked at the end."""
    page = browser.page(f'http://127.0.0.1:{api.port}')
    page.sign_in(api.token)
    page.wait_text('live', '.top')
    yield page
    page.check()
    page.close()


def submit(api, command, **more):
    reply = api.call('POST', '/v1/jobs', {'command': ['sh', '-c', command], **more})
    assert reply.status == 201, reply
    return reply.json()['id']


def state_of(api, job):
    return api.get(f'/v1/jobs/{job}')['state']


def wait_state(api, job, state):
    wait_for(lambda: state_of(api, job) == state, f'job {job} is {state}')


def ended(api, *jobs):
    api.get('/v1/jobs/wait?timeout_s=100&selector=' + ','.join(map(str, jobs)))


def confirm(page, reason, command):
    """In the dialog: the command is shown, the reason goes along."""
    page.wait('Boolean(document.querySelector(".dialog"))', 'the dialog')
    page.type('.dialog input', reason)
    page.wait_text(command, '.dialog .command')
    page.wait_text(f'--reason {shlex.quote(reason)}', '.dialog .command')
    page.key('Enter')
    page.wait('!document.querySelector(".dialog")', 'the dialog closes')


# --- signing in ---

def test_signing_in_and_out(browser, api):
    page = browser.page(f'http://127.0.0.1:{api.port}')
    page.open('/#/nodes/n1')
    page.expected = ('401',)
    page.type('input[type=password]', 'rota_wrong')
    page.key('Enter')
    page.wait_text('this token is not known', '.signin')
    page.type('input[type=password]', api.token)
    page.key('Enter')
    page.wait_text('Node n1', 'h1')  # the address that was asked for
    assert page.run('document.cookie') == ''  # no script can read it
    assert api.token not in page.run('JSON.stringify([localStorage, sessionStorage, location.href])')
    page.click('button[aria-label="Sign out"]')
    page.wait('Boolean(document.querySelector("input[type=password]"))', 'signed out')
    page.open('/')
    page.wait('Boolean(document.querySelector("input[type=password]"))', 'still signed out')
    page.check()
    page.close()


def test_the_address_of_rota_dashboard_signs_in(browser, api):
    origin = f'http://127.0.0.1:{api.port}'
    made = subprocess.run([ROTA, 'dashboard', '--master', origin, '--token-file', os.path.join(api.state, 'token')], stdout=subprocess.PIPE, text=True,
                          timeout=PATIENCE_S, check=True)
    address = made.stdout.strip()
    assert address.startswith(origin + '/#ticket=') and api.token not in address
    page = browser.page(origin)
    page.open(address[len(origin):])
    page.wait('Boolean(document.querySelector(".nav"))', 'signed in')
    assert 'ticket' not in page.run('location.href')
    other = browser.page(origin)
    other.expected = ('401',)
    other.open(address[len(origin):])
    other.wait('Boolean(document.querySelector("input[type=password]"))', 'it works once')
    other.check()
    other.close()
    page.check()
    page.close()


# --- pages show what the API tells ---

def test_overview(page, api):
    job = submit(api, 'sleep 1000', cpus=3, name='long')
    big = submit(api, 'true', cpus=1000)
    wait_state(api, job, 'running')
    page.go('#/overview')
    page.wait_text('2 / 2', '.tiles')
    page.wait('document.querySelectorAll(".heat-rows tbody tr").length === 2', 'both nodes')
    page.wait_text('3 / 4', '.heat-rows')
    page.wait_text('too big', '.bars')
    page.wait('document.querySelectorAll(".chart canvas").length === 2', 'two charts')
    stats = api.get('/v1/stats')
    page.wait_text(f'of {stats["totals"]["submitted"]} submitted', '.tiles')
    api.call('POST', f'/v1/jobs/{job},{big}/cancel', {})
    page.wait_text('Nothing waits')
    page.wait_text('0 / 4', '.heat-rows')


def seen_after(page, do, text, where):
    """Seconds from what somebody else does until the page shows it."""
    begun = time.monotonic()
    do()
    page.wait_text(text, where)
    return time.monotonic() - begun


def soon(waits):
    """Within a second: the median, since one of them may meet whatever else the machine has to do."""
    waits = sorted(waits)
    print(f'seen after {waits[len(waits) // 2]:.2f} s (median of {len(waits)}), at most {waits[-1]:.2f} s')
    assert waits[len(waits) // 2] < 1, waits


def test_jobs_that_others_submit_appear(page, api):
    page.go('#/jobs')
    page.wait('Boolean(document.querySelector(".table"))', 'the list')
    soon([seen_after(page, lambda: submit(api, 'true', name=f'seen-{n}-live'), f'seen-{n}-live', '.rows') for n in range(9)])
    job = submit(api, 'sleep 1000', name='seen-live')
    page.wait_text('seen-live', '.rows')
    page.wait(f'[...document.querySelectorAll(".rows .job-row")].some(r => r.innerText.includes("seen-live") && r.innerText.includes("running"))', 'it runs')
    api.call('POST', f'/v1/jobs/{job}/cancel', {})
    page.wait(f'[...document.querySelectorAll(".rows .job-row")].some(r => r.innerText.includes("seen-live") && r.innerText.includes("cancelled"))', 'it was cancelled')


def test_jobs_filters_and_addresses(page, api):
    jobs = [submit(api, 'exit 3' if n % 2 else 'true', name=f'filter-{n}', queue='night' if n < 3 else 'day', labels={'n': str(n)}) for n in range(6)]
    ended(api, *jobs)
    page.go('#/jobs?name=filter-*&state=failed')
    page.wait('document.querySelectorAll(".rows .job-row").length === 3', 'the failed ones')
    ids = page.run('[...document.querySelectorAll(".rows .c-id")].map(e => Number(e.innerText))')
    assert ids == [j['id'] for j in api.get('/v1/jobs?name=filter-*&state=failed')['jobs']]
    page.go('#/jobs?name=filter-*&queue=night&label=n=2')
    page.wait('document.querySelectorAll(".rows .job-row").length === 1', 'one by its label')
    page.go('#/jobs?name=filter-*')
    page.wait('document.querySelectorAll(".rows .job-row").length === 6', 'all of them')
    page.click('.tabs button', 'failed')
    page.wait('location.hash.includes("state=failed")', 'the filter is in the address')
    page.click('.fields button', 'newest first')
    page.wait('(ids => ids.length > 1 && ids[0] < ids[ids.length - 1])([...document.querySelectorAll(".rows .c-id")].map(e => Number(e.innerText)))',
              'oldest first')
    page.go('#/jobs?name=nobody-has-this-name')
    page.wait_text('No job matches')


def test_a_tab_says_how_many_its_list_has(page, api):
    """An array is listed under each state that a task of it is in."""
    blocker = submit(api, 'sleep 1000', cpus=1, name='tabs-blocker')
    mixed = submit(api, 'test $ROTA_TASK_ID != 1 || exit 1; test $ROTA_TASK_ID = 2 || exit 0; sleep 1000', array='1-4%1', name='tabs-mixed')
    wait_for(lambda: api.get(f'/v1/jobs/{mixed}')['counts'] == {'failed': 1, 'running': 1, 'queued': 2}, 'one failed, one runs, two wait')
    page.go('#/jobs')
    page.wait_text('tabs-mixed', '.rows')
    tabs = ('(() => Object.fromEntries([...document.querySelectorAll(".tabs button")].map(b => [b.innerText.replace(/[^a-z ]/g, "").trim(), Number(b.querySelector("b").innerText)])))()')
    listed = lambda state: len(api.get(f'/v1/jobs?limit=1000&state={state}')['jobs'])
    page.wait(f'({tabs})["queued"] === {listed("queued")}', 'the tab of those that wait')
    shown = page.run(tabs)
    for state in ('running', 'queued', 'failed', 'succeeded'):
        assert shown.get(state, 0) == listed(state), (state, shown)
    assert shown['all'] == len(api.get('/v1/jobs?limit=1000')['jobs'])
    for job in (blocker, mixed):
        api.call('POST', f'/v1/jobs/{job}/cancel', {})


def test_rows_stay_old_until_they_are_fetched(page, api):
    """More rows than one request takes, and the first of them fails: none is forgotten."""
    lines = ''.join(json.dumps({'command': ['true'], 'hold': True, 'name': f'old-{n}'}) + '\n' for n in range(700)).encode()
    ids = api.post('/v1/jobs', lines, 201, headers={'Content-Type': 'application/x-ndjson'})
    page.go('#/jobs?name=old-*')
    page.wait('document.querySelectorAll(".rows .job-row").length > 5', 'the list')
    page.run('document.querySelector(".rows").scrollTop = 1e6')
    for _ in range(6):
        page.browser.idle(0.5)
        page.run('document.querySelector(".rows").scrollTop = 1e6')
    page.wait('document.querySelector(".foot").innerText.startsWith("700 rows")', 'all rows are there')
    page.run('window.fetched = window.fetch; window.fetch = (path, ...more) => path.includes("selector=") ? Promise.reject(new TypeError("x")) : window.fetched(path, ...more)')
    api.post(f'/v1/jobs/{ids["first"]}-{ids["last"]}/cancel')
    page.wait_text('the master does not answer', '.failure')
    page.run('window.fetch = window.fetched')
    page.wait('!document.querySelector(".failure")', 'the error goes')
    for top in (0, 1e6, 9000):
        page.run(f'document.querySelector(".rows").scrollTop = {top}')
        page.wait('(rows => rows.length > 5 && rows.every(r => r.innerText.includes("cancelled")))([...document.querySelectorAll(".rows .job-row")])', 'all are fetched anew')


def test_what_a_job_page_can_not_fetch_it_says(page, api):
    job = submit(api, 'true', array='1-3')
    ended(api, job)
    page.go('#/overview')
    page.run('window.fetched = window.fetch; window.fetch = (path, ...more) => /tasks|events\\?limit/.test(path) ? Promise.reject(new TypeError("x")) : window.fetched(path, ...more)')
    page.go(f'#/jobs/{job}')
    page.wait('document.querySelectorAll(".failure").length === 2', 'the tasks and the events could not be fetched')
    page.run('window.fetch = window.fetched')
    page.run('[...document.querySelectorAll(".failure button")].forEach(b => b.click())')
    page.wait('!document.querySelector(".failure")', 'the errors go')
    page.wait('document.querySelectorAll(".task-row").length === 3', 'the tasks')
    page.wait_text('job.array_ended')


def test_jobs_keys_and_bulk(page, api):
    jobs = [submit(api, 'true', name=f'bulk-{n}', hold=True) for n in range(4)]
    page.go('#/jobs?name=bulk-*')
    page.wait('document.querySelectorAll(".rows .job-row").length === 4', 'the jobs')
    page.key('j', 'x', 'j', 'j', 'x')
    page.wait_text('2 jobs chosen')
    page.click('.bulk button', 'Release')
    confirm(page, 'it is time', f'rota release {jobs[1]},{jobs[3]}')
    ended(api, jobs[1], jobs[3])
    assert [state_of(api, j) for j in jobs] == ['held', 'succeeded', 'held', 'succeeded']
    page.wait('[...document.querySelectorAll(".rows .state")].filter(e => e.innerText === "succeeded").length === 2', 'the page knows')
    page.click('.head input')
    page.wait_text('4 jobs chosen')
    page.click('.bulk button', 'Cancel')
    confirm(page, 'enough', f'rota cancel {jobs[0]}-{jobs[3]}')
    wait_for(lambda: [state_of(api, j) for j in jobs] == ['cancelled', 'succeeded', 'cancelled', 'succeeded'], 'cancelled')
    events = api.get(f'/v1/jobs/{jobs[0]}/events')['events']
    assert any(e.get('reason') == 'enough' for e in events), events
    page.key('k', 'Enter')
    page.wait(f'/#.jobs.\\d+$/.test(location.hash)', 'Enter opens the row')


def test_keys_go_everywhere(page):
    for key, hash_path in (('n', '#/nodes'), ('q', '#/queues'), ('t', '#/gantt'), ('f', '#/failures'), ('e', '#/events'), ('j', '#/jobs'), ('o', '#/overview')):
        page.key('g', key)
        page.wait(f'location.hash === "{hash_path}"', key)
    page.key('?')
    page.wait_text('previous row', '.dialog')
    page.key('Escape')
    page.wait('!document.querySelector(".dialog")', 'the help closes')
    page.key('/')
    page.wait('document.activeElement.id === "search"', 'the search')
    page.key('Escape', 'c')
    page.wait('location.hash === "#/submit"', 'the form')


def test_a_key_at_once_after_a_dialog_is_not_the_dialogs(page):
    page.go('#/overview')
    page.wait_text('Nodes ready')
    state = page.run('''(async () => {
        const key = async (name) => {
            document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: name, bubbles: true }))
            await new Promise((ready) => setTimeout(ready)) // long enough to draw, too short for a frame to be shown
        }
        for (const name of ['?', 'Escape', '/']) await key(name)
        const search = document.activeElement.id
        await key('Escape')
        return [Boolean(document.querySelector('.dialog')), search, document.activeElement.tagName]
    })()''')
    assert state == [False, 'search', 'BODY'], state


def test_search(page, api):
    job = submit(api, 'true', name='needle-in-hay')
    page.key('/')
    page.type('#search', str(job))
    page.key('Enter')
    page.wait_text('needle-in-hay', 'h1')
    page.type('#search', 'edle-in')
    page.key('Enter')
    page.wait('document.querySelectorAll(".rows .job-row").length === 1', 'found by a part of its name')


# --- a job ---

def test_a_job_as_it_runs(page, api, tmp_path):
    gate = tmp_path / 'gate'
    os.mkfifo(gate)
    job = submit(api, f'echo first line; while read line; do echo "$line"; [ "$line" = end ] && exit 5; done < {gate}', name='gated', mem='64M')
    pipe = open(gate, 'w', encoding='utf-8')  # waits for the job

    def write(text):
        pipe.write(text + '\n')
        pipe.flush()

    page.go(f'#/jobs/{job}')
    page.wait_text('gated', 'h1')
    page.wait_text('running', '.title')
    page.wait_text('first line', '.log')
    soon([seen_after(page, lambda: write(f'line {n} of them'), f'line {n} of them', '.log') for n in range(9)])
    write('\x1b[32mgreen\x1b[0m and plain')
    page.wait_text('green and plain', '.log')
    assert page.run('[...document.querySelectorAll(".log .f-2")].map(e => e.innerText)') == ['green']
    write('end')
    pipe.close()
    page.wait_text('failed', '.title')
    page.wait_text('exit 5', '.title')
    page.wait_text('exit 5', '.timeline')
    detail = api.get(f'/v1/jobs/{job}')
    page.wait_text(detail['node'], '.timeline')
    page.wait_text('64 MiB', '.facts')
    page.wait_text('of 64 MiB', '.use')
    page.wait_text('job.ended', '.job')
    page.key('r')
    confirm(page, 'once more', f'rota retry {job}')
    again = lambda: [j['id'] for j in api.get('/v1/jobs?limit=5')['jobs'] if j['id'] > job]  # noqa: E731
    wait_for(again, 'there is a new job')
    newest = again()[0]
    assert api.get(f'/v1/jobs/{newest}')['retry_of'] == job
    api.call('POST', f'/v1/jobs/{newest}/cancel', {})


def test_what_failed_is_read_where_it_said_something(page, api):
    for command, stream, said in (('echo only there >&2; exit 3', 'stderr', 'only there'), ('echo here; echo and there >&2; exit 3', 'stdout', 'here'),
                                  ('echo well >&2', 'stdout', 'It wrote nothing')):
        job = submit(api, command)
        ended(api, job)
        page.go(f'#/jobs/{job}')
        page.wait_text(said, '.log')
        assert page.run('document.querySelector(".panel .tabs .on, .log-bar .on, button.on")?.innerText').strip().startswith(stream), stream


def test_a_gang_says_what_it_waits_for(page, api):
    blocker = submit(api, 'sleep 1000', cpus=2, where='node=n2')
    wait_state(api, blocker, 'running')
    job = submit(api, 'true', nodes=2, cpus=1, name='on-both')
    page.go(f'#/jobs/{job}')
    page.wait_text('2 nodes at the same time: 1 have room for it now, 2 would have it', '.why')
    page.wait_text('submitted again for 1 node', '.why')
    page.wait_text('2 at the same time, with that on each', '.facts')
    page.go('#/jobs')
    page.wait_text('on 2 nodes', '.rows')
    api.call('POST', f'/v1/jobs/{blocker}/cancel', {})
    page.go(f'#/jobs/{job}')
    page.wait_text('succeeded', '.title')
    page.wait('document.querySelectorAll(".task-row").length === 2', 'its parts')
    # One part fails, and the other is ended for it; the answers are as their schema says.
    job = submit(api, 'test $ROTA_NODE_RANK != 1 || exit 3; sleep 1000', nodes=2)
    ended(api, job)
    attempts = api.get(f'/v1/jobs/{job}/attempts')['attempts']
    assert {(a['task'], a['final'], a['reason']) for a in attempts} == {(0, 'cancelled', 'gang'), (1, 'failed', 'exit')}
    assert {t['state'] for t in api.get(f'/v1/jobs/{job}/tasks')['tasks']} == {'cancelled', 'failed'}
    assert 'job.gang_ended' in {e['event'] for e in api.get(f'/v1/jobs/{job}/events')['events']}
    assert {(s['task'], s['state']) for s in api.get('/v1/gantt?since_s=60')['spans'] if s['job'] == job} == {(0, 'cancelled'), (1, 'failed')}
    page.go('#/failures')
    page.wait_text('exit 3', '.group')


def test_the_use_of_a_job_is_drawn_while_it_runs(page, api):
    job = submit(api, 'sleep 60 & while :; do :; done', name='busy', mem='1G')
    page.go(f'#/jobs/{job}')
    page.wait_text('Use over time', '.job')
    for label in ('CPUs', 'Memory', 'Disk, bytes a second', 'Processes'):
        page.wait_text(label, '.charts')
    assert page.run('document.querySelectorAll(".charts canvas").length') == 4
    page.wait_text('asked for', '.charts')
    api.call('POST', f'/v1/jobs/{job}/cancel', {})
    wait_state(api, job, 'cancelled')
    page.wait_text('cancelled', '.title')
    page.wait_text('Use over time', '.job')  # it is kept


def test_a_job_says_why_it_waits(page, api):
    big = submit(api, 'true', cpus=99, mem='1M', name='too-big')
    after = submit(api, 'true', after=[{'job': big, 'when': 'any'}])
    page.go(f'#/jobs/{big}')
    page.wait_text(api.get(f'/v1/jobs/{big}/why')['text'], '.why')
    page.wait_text('99', '.why-panel .grid')
    page.go(f'#/jobs/{after}')
    page.wait_text(f'job {big}', '.why')
    page.click('.acts button', 'Priority')
    page.type('.dialog input', '77')
    page.wait_text(f'rota update {after} --priority 77', '.dialog')
    page.click('.dialog .primary')
    wait_for(lambda: api.get(f'/v1/jobs/{after}')['priority'] == 77, 'the priority')
    page.go(f'#/jobs/{big}')
    page.wait_text('99', '.why-panel .grid')
    page.key('a')
    confirm(page, 'it can never run', f'rota cancel {big}')
    page.wait_text('cancelled', '.title')
    wait_state(api, after, 'succeeded')


def test_an_array_and_a_task(page, api):
    job = submit(api, 'echo task {}; test {} != 13', array='10-14', name='sweep')
    ended(api, job)
    page.go('#/jobs?name=sweep')
    page.wait_text('[5]', '.rows')
    page.wait_text('1 failed', '.rows')
    page.go(f'#/jobs/{job}')
    page.wait('document.querySelectorAll(".task-row").length === 5', 'its tasks')
    page.click('.panel .tabs button', 'failed')
    page.wait('document.querySelectorAll(".task-row").length === 1', 'the one that failed')
    page.click('.task-row a')
    page.wait_text('task 13', '.log')
    page.wait_text('exit 1', '.title')


def test_submitting_by_the_form(page, api):
    page.go('#/submit')
    page.type('textarea[name=command]', "echo 'from the page'; exit 0")
    page.type('input[name=name]', 'by form')
    page.type('input[name=cpus]', '0.5')
    page.type('input[name=mem]', '32Q')
    page.type('textarea[name=labels]', 'team=a b')
    page.wait_text("rota submit --name 'by form' --cpus 0.5 --mem 32Q --label 'team=a b' -- sh -c 'echo '\\''from the page'\\''; exit 0'", '.command')
    page.expected = ('400',)
    page.click('form .primary')
    page.wait_text('is not a size', '.failure')  # the server's own words, with the remedy
    page.type('input[name=mem]', '32M')
    page.click('form .primary')
    page.wait_text('from the page', '.log')
    job = api.get('/v1/jobs?name=by form'.replace(' ', '%20'))['jobs'][0]
    detail = api.get(f'/v1/jobs/{job["id"]}')
    assert (detail['cpus'], detail['mem_bytes'], detail['labels'], detail['command']) == (0.5, 32 << 20, {'team': 'a b'}, ['sh', '-c', "echo 'from the page'; exit 0"])
    page.click('.acts a', 'Submit a copy')
    page.wait('document.querySelector("textarea[name=command]")?.value.includes("from the page")', 'a copy')


# --- nodes, queues, timeline, failures, events ---

def test_nodes(page, api):
    job = submit(api, 'sleep 1000', cpus=4)
    wait_state(api, job, 'running')
    page.go('#/nodes')
    page.wait('document.querySelectorAll(".rows .node-row").length === 2', 'both')
    page.wait_text('4 / 4', '.rows')
    page.go('#/nodes/n1')
    page.wait_text(str(job), '.grid')
    page.click('.acts button', 'Drain')
    confirm(page, 'new memory', 'rota drain n1')
    page.wait_text('draining', '.title')
    page.wait_text('new memory', '.notice')
    assert api.get('/v1/nodes/n1')['state'] == 'draining'
    api.call('POST', f'/v1/jobs/{job}/cancel', {})
    page.wait_text('drained', '.title')
    page.wait_text('Nothing runs here')
    page.click('.acts button', 'Resume')
    confirm(page, 'done', 'rota resume n1')
    page.wait_text('ready', '.title')
    wait_for(lambda: api.get('/v1/nodes/n1')['state'] == 'ready', 'it is back')
    page.expected = ('404',)
    page.go('#/nodes/nobody')
    page.wait_text('there is no node "nobody"', '.failure')


def test_a_node_that_is_lost(browser):
    master = Master()
    try:
        master.start('--heartbeat', '200ms', '--suspect', '600ms', '--lease', '1500ms', '--down', '2s', '--grace-start', '0s')
        master.worker('n1')
        lost = master.worker('n2')
        page = browser.page(f'http://127.0.0.1:{master.port}')
        page.sign_in(master.token)
        page.go('#/nodes')
        page.wait('document.querySelectorAll(".rows .node-row").length === 2', 'both')
        lost.kill()
        lost.wait()
        page.wait_text('down', '.rows')
        page.wait('[...document.querySelectorAll(".rows .node-row span")].some(e => e.title.includes("nobody knows how many used"))', 'nothing is made up')
        page.wait('document.querySelectorAll(".rows .node-row").length === 2', 'both are still there')
        page.go('#/nodes/n2')
        page.wait_text('not known now', '.facts')
        page.wait_text('not connected', '.title')
        page.check()
        page.close()
    finally:
        master.stop()


def test_queues(page, api):
    jobs = [submit(api, 'true', queue='nightly', hold=True) for _ in range(3)]
    page.go('#/queues')
    page.wait_text('nightly', '.queues')
    page.wait('[...document.querySelectorAll(".queues tr")].some(r => r.innerText.includes("nightly") && r.innerText.includes("held 3"))', 'what it waits for')
    # What is counted as queued is what the link lists; those that wait for somebody or something else stand beside it.
    page.wait('[...document.querySelectorAll(".queues tr")].some(r => r.innerText.includes("nightly") && r.cells[3].innerText.trim() === "0 +3" && r.cells[3].querySelector("a").hash.endsWith("state=queued"))', 'queued and held')
    api.call('POST', f'/v1/jobs/{jobs[0]}-{jobs[-1]}/cancel', {})
    page.wait_no_text('held 3', '.queues')
    page.wait_text('Shares')


def test_an_error_is_of_what_failed(page, api):
    """One answer is refused and the others come: the page says so, keeps what it has, and is well again when that one is."""
    job = submit(api, 'sleep 1000')
    wait_state(api, job, 'running')
    page.go('#/queues')
    page.wait_text('Holds now')
    page.run('window.fetched = window.fetch; window.fetch = (path, ...more) => path.startsWith("/v1/shares") ? Promise.reject(new TypeError("x")) : window.fetched(path, ...more)')
    api.call('POST', f"/v1/jobs/{submit(api, 'true', queue='seen-beside-an-error', hold=True)}/cancel", {})
    page.wait_text('the master does not answer', '.failure')
    page.wait_text('seen-beside-an-error', '.queues')  # what came anew
    page.wait_text('Holds now')                         # what was there
    ended(api, submit(api, 'true'))
    page.browser.idle(2.5)  # others have come again: that says nothing of this one
    assert page.run('document.querySelectorAll(".failure").length') == 1
    page.run('window.fetch = window.fetched')
    page.click('.failure button')
    page.wait('!document.querySelector(".failure")', 'the error goes')
    api.call('POST', f'/v1/jobs/{job}/cancel', {})


def test_a_job_says_what_would_do_and_what_let_it_in(page, api):
    for _ in range(3):
        ended(api, submit(api, "python3 -c 'b = bytearray(30_000_000)'", name='sized', mem='1G'))
    job = submit(api, 'true', name='sized', mem='1G')
    ended(api, job)
    page.go(f'#/jobs/{job}')
    suggestion = api.get(f'/v1/jobs/{job}')['suggestion']
    page.wait_text(f'by {suggestion["runs"]} runs of this name', '.suggestion')
    option = page.text('.suggestion code')
    assert option == f'--mem {-(-suggestion["mem_bytes"] // 2**20)}M', option
    page.wait_text('first that waited', '.timeline')


def test_jobs_that_come_again(page, api):
    page.go('#/cron')
    page.wait_text('No job comes again')
    made = api.call('PUT', '/v1/cron/' + HOSTILE[:30].replace('/', '-'), {'schedule': '30 2 29 2 *', 'zone': 'Europe/Berlin', 'job': {'command': ['./backup', HOSTILE]}}).json()
    page.wait_text('30 2 29 2 *', '.cron')
    page.wait_text('Europe/Berlin', '.cron')
    assert page.run('document.querySelector(".cron tbody tr td").innerText') == made['name']
    page.click('.cron button', 'Pause')
    page.wait_text('rota cron pause ', '.dialog .command')
    page.key('Enter')
    page.wait_text('paused', '.cron')
    entry = api.get('/v1/cron')['entries'][0]
    assert entry['paused'] and entry['next'] == []
    page.click('.cron button', 'Resume')
    page.click('.dialog button', 'Resume')
    page.wait_no_text('paused', '.cron')
    page.click('.cron button', 'Remove')
    page.click('.dialog button', 'Remove')
    page.wait_text('No job comes again')
    assert api.get('/v1/cron')['entries'] == []


def test_gpu_use_is_shown_where_it_is_measured(page, api):
    page.go('#/nodes/n1')
    page.wait_text('Allocated, and used')
    told = {'name': 'n1', 'capacity': {'gpus': 2}, 'allocated': {'gpus': 1}}
    for measured, text in ((None, '1 of 2'), ({'count': 2, 'used': 0.5, 'mem_used_bytes': 0, 'mem_bytes': 1}, '1 of 2, 0.5 used')):
        patch = f"""window.fetched ??= window.fetch; window.fetch = async (path, ...more) => {{ const answer = await window.fetched(path, ...more)
            if (!path.endsWith('/v1/nodes/n1')) return answer
            const node = await answer.json(); node.capacity.gpus = {told['capacity']['gpus']}; node.allocated.gpus = {told['allocated']['gpus']}
            node.machine = {{ ...node.machine, gpus: {json.dumps(measured)} }}
            return new Response(JSON.stringify(node), {{ headers: {{ 'Content-Type': 'application/json' }} }}) }}"""
        page.run(f'(() => {{ {patch} }})()')
        ended(api, *[submit(api, 'true') for _ in range(3)])  # the page asks anew
        page.wait(f'[...document.querySelectorAll(".use small")].some(e => e.innerText === {json.dumps(text)})', text)


def test_copy_where_there_is_no_clipboard(page, api):
    """At an address that is not secure, browsers give a page none: a selection is copied, or the text is shown."""
    page.go(f"#/nodes/{api.get('/v1/nodes')['nodes'][0]['name']}")
    page.wait_text('Copy command')
    page.wait('(Object.defineProperty(navigator, "clipboard", { value: undefined, configurable: true }), navigator.clipboard === undefined)')
    page.click('button', 'Copy command')
    page.wait_text('Copied')
    page.wait('(document.execCommand = () => false, true)')
    page.wait_text('Copy command')
    page.click('button', 'Copy command')
    page.wait_text('The text is: rota nodes ', '.toasts')


def test_gantt(page, api):
    job = submit(api, 'sleep 1000', name='on-the-chart')
    wait_state(api, job, 'running')
    page.go('#/gantt?window=300&plan=no')
    spans = {s['node'] for s in api.get('/v1/gantt?since_s=300')['spans']}
    page.wait_text(f'on {len(spans)} node', '.title')
    page.browser.idle(1.5)  # What ended a moment ago is at the right end, too.
    # The bar of what runs is at the right end of its node's first lanes: a click there opens the job.
    page.wait('''(() => { const c = document.querySelector('.gantt canvas'); if (!c) return false
        for (let y = 24; y < c.clientHeight; y += 7) {
            const e = new MouseEvent('click', { bubbles: true, clientX: c.getBoundingClientRect().x + c.clientWidth - 12, clientY: c.getBoundingClientRect().y + y })
            c.dispatchEvent(e); if (location.hash.startsWith('#/jobs/')) return true } return false })()''', 'a bar that can be clicked')
    page.wait_text('on-the-chart', 'h1')
    # What waits is drawn where it is planned, after what runs.
    capacity = max(n['capacity']['cpus'] for n in api.get('/v1/nodes')['nodes'])
    waits = [submit(api, 'sleep 1000', cpus=capacity, name='planned', time_limit_s=60) for _ in range(3)]  # There are two nodes.
    wait_for(lambda: waits[2] in [s['job'] for s in api.get('/v1/plan')['slots']], 'it is planned')
    page.go('#/gantt?window=300')
    page.wait_text('planned', '.legend')
    page.go(f'#/jobs/{waits[2]}')
    page.wait_text('Should start in', '.why-panel')
    for one in [*waits, job]:
        api.call('POST', f'/v1/jobs/{one}/cancel', {})


def test_failures_are_retried_by_kind(page, api):
    jobs = [submit(api, f'echo "disk {n} is full" >&2; exit 28', name=f'backup-{n}') for n in range(3)]
    other = submit(api, 'echo "something else" >&2; exit 29')
    ended(api, *jobs, other)
    page.go('#/failures')
    page.wait_text('exit 28 disk # is full')
    page.wait_text('exit 29 something else')
    before = api.get('/v1/stats')['job_last']
    page.run('[...document.querySelectorAll(".group")].find(g => g.innerText.includes("exit 28")).querySelector("button").click()')
    confirm(page, 'there is room again', f'rota retry {jobs[0]}-{jobs[2]}')
    wait_for(lambda: api.get('/v1/stats')['job_last'] == before + 3, 'three new jobs')
    assert {api.get(f'/v1/jobs/{before + n}')['retry_of'] for n in (1, 2, 3)} == set(jobs)
    ended(api, before + 1, before + 2, before + 3)
    page.wait('[...document.querySelectorAll(".group")].find(g => g.innerText.includes("exit 28"))?.querySelector("b").innerText === "6"', 'and they fail again, live')
    page.click('.acts button', 'by node')
    page.wait('[...document.querySelectorAll(".group h3")].every(e => ["n1", "n2"].includes(e.innerText))', 'grouped by node')


def test_events(page, api):
    page.go('#/events')
    job = submit(api, 'true', name='evented')
    page.wait(f'[...document.querySelectorAll(".event-row")].some(r => r.innerText.includes("job.ended") && r.innerText.includes("{job}"))', 'its end')
    page.go('#/events?kind=node.')
    page.wait_text('No event matches')


# --- what other people write ---

def test_hostile_names_and_output(page, api):
    queue = 'q<b>'
    job = submit(api, r'''printf '\033]0;title\007<script>alert(3)</script>\033[31mred\033[0m\033]8;;http://evil.example\033\\link\033]8;;\033\\\033[2J\033[1;1H\233m\001\n'
        printf 'left \342\200\256right\n'; head -c 1048576 /dev/zero | tr '\0' x; echo; printf '\377\376 last\n'; echo "$(printf '%s' '<img src=x onerror=alert(4)>')" >&2; exit 9''',
                 name=HOSTILE, queue=queue, labels={'<i>': '<img src=x onerror=alert(5)>'}, env={'A': TURNED})
    ended(api, job)
    title = page.run('document.title')
    for hash_path, where in ((f'#/jobs/{job}', 'h1'), ('#/jobs?selector=' + str(job), '.rows'), ('#/failures', '.page'), ('#/queues', '.queues'), ('#/events', '.page'), ('#/overview', '.page')):
        page.go(hash_path)
        page.wait(f'Boolean(document.querySelector({json.dumps(where)}))', hash_path)
        page.browser.idle(0.2)
        assert page.run('document.querySelectorAll("#app script, #app img, #app b b, #app iframe").length') == 0
        assert page.run('[...document.querySelectorAll("#app *")].some(e => [...e.attributes].some(a => a.name.startsWith("on")))') is False
        assert page.run('document.documentElement.scrollWidth <= innerWidth'), f'{hash_path} is too wide'
    page.go(f'#/jobs/{job}')
    page.wait_text('<script>alert(3)</script>', '.log')
    shown = page.text('.log')
    assert '‹202E›right' in shown and 'link' in shown and 'evil.example' not in shown and 'title' not in shown
    assert page.run('[...document.querySelectorAll(".log .f-1")].map(e => e.innerText)') == ['red']
    page.wait_text('more characters', '.log')
    page.wait_text('last', '.log')
    assert HOSTILE in page.text('h1') and page.run('getComputedStyle(document.querySelector("h1 bdi")).unicodeBidi') == 'isolate'
    page.wait_text('A=‹202E›gnp.exe', '.facts')
    assert '\u202e' not in page.text('body')
    assert page.run('document.title') == title


# --- when the master goes away ---

def test_the_page_survives_a_restart_of_the_master(browser):
    master = Master()
    try:
        master.start()
        worker = master.worker('n1', cpus=2)
        page = browser.page(f'http://127.0.0.1:{master.port}')
        page.sign_in(master.token)
        page.go('#/jobs')
        first = submit(master, 'sleep 1000', name='before')
        page.wait_text('before', '.rows')
        page.run('window.mark = 1')
        page.expected = ('ERR_', '503')
        master.master.kill()
        master.master.wait()
        page.wait('!document.querySelector(".l-live")', 'it is told that the master is away')
        page.go('#/overview')
        page.wait_text('silent', '.tile.bad')  # what it said last is not what is
        page.go('#/jobs')
        master.start()
        submit(master, 'true', name='while-away')
        master.call('POST', f'/v1/jobs/{first}/cancel', {})
        page.wait_text('while-away', '.rows')
        page.wait_text('live', '.top')
        page.wait('[...document.querySelectorAll(".rows .job-row")].some(r => r.innerText.includes("before") && r.innerText.includes("cancelled"))', 'it catches up')
        assert page.run('window.mark') == 1  # without a reload
        page.check()
        page.close()
        worker.terminate()
    finally:
        master.stop()


# --- how it looks ---

@pytest.mark.parametrize('width,dark', [(390, False), (768, True), (1920, True)], ids=str)
def test_every_page_fits(browser, api, width, dark):
    page = browser.page(f'http://127.0.0.1:{api.port}', width=width, dark=dark)
    page.sign_in(api.token)
    job = submit(api, 'echo hello', name='a-name-that-is-quite-long-' * 8)
    ended(api, job)
    assert page.run('document.documentElement.dataset.theme') == ('dark' if dark else 'light')
    for hash_path in ('#/overview', '#/jobs', f'#/jobs/{job}', '#/nodes', '#/nodes/n1', '#/queues', '#/cron', '#/gantt', '#/failures', '#/events', '#/submit', '#/nothing'):
        page.go(hash_path)
        page.browser.idle(0.2)
        assert page.run('document.documentElement.scrollWidth <= innerWidth'), f'{hash_path} is too wide at {width}'
        assert page.run('document.querySelector(".main").innerText.trim().length > 5'), hash_path
        if width < 600:  # what is touched: a finger is wider than a pointer
            small = page.run("""[...document.querySelectorAll('button, .button, .nav a, input:not([type=checkbox]), select')].filter(e => e.getClientRects().length)
                .map(e => [e.innerText || e.ariaLabel || e.placeholder, Math.round(e.getBoundingClientRect().height)]).filter(([, h]) => h < TOUCH_PX)""".replace('TOUCH_PX', str(TOUCH_PX)))
            assert not small, f'{hash_path}: hard to touch: {small}'
    page.click('button[aria-label="Switch colours"]')
    assert page.run('document.documentElement.dataset.theme') == ('light' if dark else 'dark')
    page.check()
    page.close()


# --- many ---

def test_twenty_thousand_jobs(browser):
    """The pages stay small in the document, whatever there is. How fast they are is measured by make bench."""
    master = Master()
    try:
        master.start()
        master.worker('fake', 'fake', cpus=8)
        for start in range(0, 20000, 5000):
            lines = '\n'.join(json.dumps({'command': ['x'], 'name': f'many-{start + n}', 'simulate': {'run_s': 3000}}) for n in range(5000))
            assert master.call('POST', '/v1/jobs', lines, {'Content-Type': 'application/x-ndjson'}).status == 201
        page = browser.page(f'http://127.0.0.1:{master.port}')
        page.sign_in(master.token)
        page.go('#/jobs')
        page.wait_text('many-19999', '.rows')
        for _ in range(8):
            page.run('(() => { const s = document.querySelector(".rows"); s.scrollTop = s.scrollHeight })()')
            page.browser.idle(0.15)
        rows = page.wait('(n => n > 500 && n)(Number(document.querySelector(".foot").innerText.match(/[\\d,]+/)[0].replace(/,/g, "")))', 'more rows come')
        assert page.run('document.querySelectorAll(".rows .job-row").length') < 100 < rows
        page.wait_text('20.0k', '.tabs')
        page.go('#/overview')
        page.wait_text('20.0k', '.tiles')
        page.check()
        page.close()
    finally:
        master.stop()
