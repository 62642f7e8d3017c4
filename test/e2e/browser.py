"""Drives Debian's Chromium over a pipe with its debugging protocol: no driver program, no port, no other package.

A page of the browser notes what must not happen: errors on its console, and requests to anywhere but its own origin.
"""
import base64
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

from conftest import PATIENCE_S

FLAGS = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
         '--disable-component-update', '--disable-sync', '--disable-default-apps', '--disable-extensions', '--disable-dev-shm-usage',
         '--hide-scrollbars', '--mute-audio', '--force-color-profile=srgb', '--remote-debugging-pipe', '--no-proxy-server',
         '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1']
KEYS = {'Enter': ('Enter', 13, '\r'), 'Escape': ('Escape', 27, ''), 'Tab': ('Tab', 9, '')}


class BrowserError(Exception):
    pass


class Browser:
    def __init__(self):
        program = shutil.which('chromium')
        assert program, 'chromium is not installed: tools/install test'
        self.profile = tempfile.mkdtemp(prefix='rota-browser-')
        to_read, self.to = os.pipe()
        self.back, back_write = os.pipe()

        def fds():  # the browser reads commands from 3 and answers on 4
            first, second = os.dup(to_read), os.dup(back_write)
            os.dup2(first, 3)
            os.dup2(second, 4)

        high = [os.dup(to_read), os.dup(back_write)]
        self.process = subprocess.Popen(
            [program, *FLAGS, f'--user-data-dir={self.profile}', 'about:blank'], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, preexec_fn=fds, close_fds=False, start_new_session=True)
        for fd in (to_read, back_write, *high):
            os.close(fd)
        self.buffer = b''
        self.last = 0
        self.answers = {}
        self.pages = {}

    def close(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        os.close(self.to)
        os.close(self.back)
        shutil.rmtree(self.profile, ignore_errors=True)

    def _read(self, until):
        left = until - time.monotonic()
        if left <= 0 or not select.select([self.back], [], [], left)[0]:
            return False
        data = os.read(self.back, 1 << 20)
        if not data:
            raise BrowserError('the browser is gone')
        *messages, self.buffer = (self.buffer + data).split(b'\0')
        for message in messages:
            self._take(json.loads(message))
        return True

    def _take(self, message):
        if 'id' in message:
            self.answers[message['id']] = message
        elif message.get('sessionId') in self.pages:
            self.pages[message['sessionId']].hear(message['method'], message['params'])

    def call(self, method, session=None, **params):
        self.last += 1
        number = self.last
        message = {'id': number, 'method': method, 'params': params, **({'sessionId': session} if session else {})}
        os.write(self.to, json.dumps(message).encode() + b'\0')
        until = time.monotonic() + PATIENCE_S
        while number not in self.answers:
            if not self._read(until) and time.monotonic() > until:
                raise BrowserError(f'no answer to {method}')
        answer = self.answers.pop(number)
        if 'error' in answer:
            raise BrowserError(f'{method}: {answer["error"]}')
        return answer['result']

    def idle(self, seconds):
        """Takes in what the browser tells for so long."""
        until = time.monotonic() + seconds
        while self._read(until):
            pass

    def page(self, origin, width=1280, height=800, dark=False):
        context = self.call('Target.createBrowserContext')['browserContextId']
        target = self.call('Target.createTarget', url='about:blank', browserContextId=context)['targetId']
        session = self.call('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        return Page(self, session, target, context, origin, width, height, dark)


class Page:
    def __init__(self, browser, session, target, context, origin, width, height, dark):
        self.browser, self.session, self.target, self.context, self.origin = browser, session, target, context, origin
        self.faults = []     # errors on the console, refused by the policy, thrown
        self.foreign = []    # requests that left the origin
        self.requests = []   # (method, path)
        self.expected = ()   # parts of faults that the test provokes
        browser.pages[session] = self
        for domain in ('Page', 'Runtime', 'Network', 'Log'):
            self.call(f'{domain}.enable')
        self.size(width, height)
        self.colours(dark)

    def hear(self, method, params):
        if method == 'Runtime.exceptionThrown':
            self.faults.append('thrown: ' + json.dumps(params['exceptionDetails'])[:2000])
        elif method == 'Runtime.consoleAPICalled' and params['type'] in ('error', 'warning', 'assert'):
            self.faults.append('console: ' + json.dumps(params['args'])[:2000])
        elif method == 'Log.entryAdded' and params['entry']['level'] in ('error', 'warning'):
            self.faults.append('log: ' + json.dumps(params['entry'])[:2000])
        elif method == 'Network.requestWillBeSent':
            url = params['request']['url']
            if url.startswith(self.origin + '/'):
                self.requests.append((params['request']['method'], url[len(self.origin):]))
            elif not url.startswith('about:'):
                self.foreign.append(url)

    def check(self):
        """Nothing happened that must not."""
        self.browser.idle(0.05)
        left = [f for f in self.faults if not any(e in f for e in self.expected)]
        assert not left, left
        assert not self.foreign, self.foreign

    def close(self):
        self.browser.call('Target.disposeBrowserContext', browserContextId=self.context)
        self.browser.pages.pop(self.session, None)

    def call(self, method, **params):
        return self.browser.call(method, self.session, **params)

    def size(self, width, height):
        self.call('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def colours(self, dark):
        self.call('Emulation.setEmulatedMedia', features=[{'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}])

    def open(self, path='/'):
        self.call('Page.navigate', url=self.origin + path)

    def go(self, hash_path):
        self.run('location.hash = ' + json.dumps(hash_path))

    def run(self, expression):
        """The value of an expression (a promise is waited for)."""
        answer = self.call('Runtime.evaluate', expression=expression, returnByValue=True, awaitPromise=True)
        if 'exceptionDetails' in answer:
            raise BrowserError(answer['exceptionDetails'].get('exception', {}).get('description') or str(answer['exceptionDetails']))
        return answer['result'].get('value')

    def wait(self, expression, what=None):
        """The first true value of the expression."""
        until = time.monotonic() + PATIENCE_S
        while True:
            value = self.run(expression)
            if value:
                return value
            if time.monotonic() > until:
                raise AssertionError(f'gave up: {what or expression}\n{self.text()[:4000]}\n{self.faults}')
            self.browser.idle(0.05)

    def wait_text(self, text, selector='body'):
        return self.wait(f'(document.querySelector({json.dumps(selector)})?.innerText ?? "").includes({json.dumps(text)})',
                         f'{text!r} in {selector}')

    def wait_no_text(self, text, selector='body'):
        return self.wait(f'!(document.querySelector({json.dumps(selector)})?.innerText ?? "").includes({json.dumps(text)})',
                         f'no {text!r} in {selector}')

    def text(self, selector='body'):
        return self.run(f'document.querySelector({json.dumps(selector)})?.innerText ?? ""')

    def click(self, selector, text=None):
        """Clicks what the selector finds, and holds the text if one is given, where it is seen."""
        find = (f'[...document.querySelectorAll({json.dumps(selector)})].find(e => '
                f'{json.dumps(text)} === null || e.innerText.trim().startsWith({json.dumps(text)}))')
        self.wait(f'Boolean({find})', f'{selector} {text or ""}')
        box = self.run(f'(() => {{ const e = {find}; e.scrollIntoView({{block: "center"}}); const r = e.getBoundingClientRect(); '
                       'return [r.x + r.width / 2, r.y + r.height / 2] })()')
        for kind in ('mousePressed', 'mouseReleased'):
            self.call('Input.dispatchMouseEvent', type=kind, x=box[0], y=box[1], button='left', clickCount=1)

    def type(self, selector, text):
        self.wait(f'Boolean(document.querySelector({json.dumps(selector)}))', selector)
        self.run(f'(() => {{ const e = document.querySelector({json.dumps(selector)}); e.focus(); e.select?.() }})()')
        self.call('Input.insertText', text=text)

    def key(self, *names):
        for name in names:
            key, code, text = KEYS.get(name, (name, ord(name[0].upper()), name))
            for kind in ('keyDown', 'keyUp'):
                self.call('Input.dispatchKeyEvent', type=kind, key=key, windowsVirtualKeyCode=code, text=text if kind == 'keyDown' else '')

    def picture(self, path):
        data = self.call('Page.captureScreenshot', format='png')['data']
        with open(path, 'wb') as file:
            file.write(base64.b64decode(data))

    def sign_in(self, token):
        self.open('/')
        self.wait('Boolean(document.querySelector("input[type=password]"))', 'the sign-in form')
        self.type('input[type=password]', token)
        self.key('Enter')
        self.wait('Boolean(document.querySelector(".nav"))', 'signed in')
