"""Engines that are not as they should be, on a unix socket: one that never answers, one of another version, one whose pull fails inside a
good answer. Each request is told to `requests`."""
import json
import os
import socketserver
import threading
from http.server import BaseHTTPRequestHandler


class FakeEngine:
    """script: what to answer, {(method, path without version and query): (status, body, headers)}; None as a body: never answer; a function: it
    gives the pieces of the body one by one."""

    def __init__(self, path, script, api='1.41'):
        self.path, self.script, self.api = path, script, api
        self.requests = []
        self.closing = threading.Event()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def address_string(self):
                return 'unix'

            def log_message(self, *_):
                pass

            def answer(self):
                if fake.closing.is_set():  # a connection that was kept must not outlive us
                    self.close_connection = True
                    return
                length = int(self.headers.get('Content-Length') or 0)
                body = self.rfile.read(length)
                path = self.path.split('?')[0]
                if path.startswith('/v1.'):
                    path = '/' + path.split('/', 2)[2]
                fake.requests.append((self.command, self.path, body))
                status, reply, headers = fake.find(self.command, path)
                if reply is None:
                    fake.closing.wait()
                    return
                if callable(reply):
                    self.send_response(status)
                    self.send_header('Transfer-Encoding', 'chunked')
                    self.end_headers()
                    for piece in reply():
                        self.wfile.write(b'%x\r\n%s\r\n' % (len(piece), piece))
                        self.wfile.flush()
                    self.wfile.write(b'0\r\n\r\n')
                    return
                if not isinstance(reply, bytes):
                    reply = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header('Content-Length', str(len(reply)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply)

            do_GET = do_POST = do_DELETE = answer

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True
            block_on_close = False

        if os.path.exists(path):
            os.unlink(path)
        self.server = Server(path, Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={'poll_interval': 0.05})
        self.thread.start()

    def find(self, method, path):
        for (wanted, place), answer in self.script.items():
            if wanted == method and (path == place or (place.endswith('*') and path.startswith(place[:-1]))):
                status, body, *more = answer
                return status, body, more[0] if more else {}
        if path == '/_ping':
            return 200, b'OK', {'Api-Version': self.api}
        return 404, {'message': 'there is no such thing here'}, {}

    def close(self):
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
        if os.path.exists(self.path):
            os.unlink(self.path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
