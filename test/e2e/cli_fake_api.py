"""A master that is not one: answers the API from a script, so that the client meets every answer and every fault.

Each request is kept in `requests`. `answers` maps "METHOD /path" (without query) to a list of answers, the last of which is
used for ever; an answer is a dict with status, json or text, headers, or one of the faults: 'cut' (close before answering),
'half' (close in the middle of the body), 'chunks' (a list of pieces, 'cut' among them closes).
"""
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *_):
        pass

    def body(self):
        if self.headers.get('Transfer-Encoding') == 'chunked':
            whole = b''
            while True:
                size = int(self.rfile.readline(), 16)
                whole += self.rfile.read(size)
                self.rfile.readline()
                if size == 0:
                    return whole
        return self.rfile.read(int(self.headers.get('Content-Length') or 0))

    def close_now(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def answer(self):
        api, parts = self.server.api, urlsplit(self.path)
        request = {'method': self.command, 'path': unquote(parts.path), 'query': {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()},
                   'headers': dict(self.headers), 'body': self.body()}
        with api.lock:
            api.requests.append(request)
            found = api.answers.get(f'{self.command} {request["path"]}') or api.answers.get(self.command) or [{'status': 404, 'json': {'detail': 'no such thing'}}]
            given = found.pop(0) if isinstance(found, list) and len(found) > 1 else found[0] if isinstance(found, list) else found
        if callable(given):
            given = given(request)
        if given == 'cut':
            return self.close_now()
        if 'chunks' in given:
            self.send_response(given.get('status', 200))
            self.send_header('Content-Type', given.get('type', 'text/plain'))
            for name, value in given.get('headers', {}).items():
                self.send_header(name, value)
            self.send_header('Transfer-Encoding', 'chunked')
            self.end_headers()
            for piece in given['chunks']:
                if piece == 'cut':
                    return self.close_now()
                if callable(piece):
                    piece()
                    continue
                self.wfile.write(b'%x\r\n%s\r\n' % (len(piece), piece))
                self.wfile.flush()
            self.wfile.write(b'0\r\n\r\n')
            return None
        body = given['text'].encode() if 'text' in given else json.dumps(given.get('json', {})).encode()
        status = given.get('status', 200)
        self.send_response(status)
        self.send_header('Content-Type', 'application/json' if status < 400 else 'application/problem+json')
        for name, value in given.get('headers', {}).items():
            self.send_header(name, value)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if given.get('fault') == 'half':
            self.wfile.write(body[:len(body) // 2])
            return self.close_now()
        self.wfile.write(body)
        return None

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = answer


class FakeApi:
    def __init__(self):
        self.requests, self.answers, self.lock = [], {}, threading.Lock()
        self.server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.server.daemon_threads = True
        self.server.api = self
        self.url = f'http://127.0.0.1:{self.server.server_port}'
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def on(self, what, *answers):
        self.answers[what] = list(answers)

    def asked(self, what):
        method, path = what.split(' ', 1)
        return [r for r in self.requests if r['method'] == method and r['path'] == path]
