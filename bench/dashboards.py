#!/usr/bin/python3
"""bench/dashboards.py ADDRESS TOKEN COUNT SECONDS: what COUNT open overviews of the dashboard ask of a master, without the browsers.

Each holds the stream of events and, whenever something came by it, fetches what the overview shows, no more often than the page does
(web/src/state.ts, pages/overview.tsx). Prints the events and answers taken, and the slowest answer.
"""
import asyncio
import json
import sys
import time
from urllib.parse import urlsplit

# path -> seconds between two fetches, given the number of nodes
FETCHES = {'/v1/stats': lambda nodes: 1, '/v1/nodes': lambda nodes: max(1, nodes / 200), '/v1/history': lambda nodes: 2,
           '/v1/pending': lambda nodes: 1.2}


class Dashboard:
    def __init__(self, host, port, token):
        self.host, self.port = host, port
        self.head = f'Host: {host}:{port}\r\nAuthorization: Bearer {token}\r\n'
        self.nodes, self.events, self.answers, self.slowest, self.bytes = 1, 0, 0, 0, 0
        self.news = asyncio.Event()

    async def follow(self):
        reader, writer = await asyncio.open_connection(self.host, self.port, limit=1 << 22)
        writer.write(f'GET /v1/events HTTP/1.1\r\n{self.head}\r\n'.encode())
        while True:
            data = await reader.read(1 << 20)
            if not data:
                raise ConnectionError('the stream of events ended')
            self.events += data.count(b'\nid: ')
            self.news.set()

    async def fetch(self):
        reader, writer = await asyncio.open_connection(self.host, self.port, limit=1 << 22)
        last = dict.fromkeys(FETCHES, 0)
        asked = 0
        while True:
            await self.news.wait()
            self.news.clear()
            for path, pause in FETCHES.items():
                if time.monotonic() < last[path] + pause(self.nodes):
                    continue
                if asked == 900:  # a connection serves 1,000 requests
                    reader, writer = await asyncio.open_connection(self.host, self.port, limit=1 << 22)
                    asked = 0
                asked += 1
                last[path] = time.monotonic()
                writer.write(f'GET {path} HTTP/1.1\r\n{self.head}\r\n'.encode())
                answer = await reader.readuntil(b'\r\n\r\n')
                assert answer.startswith(b'HTTP/1.1 200 '), answer
                body = await self.body(reader, answer.lower())
                if path == '/v1/nodes':
                    self.nodes = len(json.loads(body)['nodes'])
                self.answers += 1
                self.bytes += len(body)
                self.slowest = max(self.slowest, time.monotonic() - last[path])
            await asyncio.sleep(0.1)
            self.news.set()

    @staticmethod
    async def body(reader, head):
        if b'content-length: ' in head:
            return await reader.readexactly(int(head.split(b'content-length: ')[1].split(b'\r\n')[0]))
        whole = b''
        while True:
            size = int(await reader.readline(), 16)
            whole += await reader.readexactly(size)
            await reader.readexactly(2)
            if not size:
                return whole


async def main():
    address, token, count, seconds = urlsplit(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    boards = [Dashboard(address.hostname, address.port, token) for _ in range(count)]
    tasks = [asyncio.create_task(work) for b in boards for work in (b.follow(), b.fetch())]
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        task.result()
    print(json.dumps({'events': sum(b.events for b in boards), 'answers': sum(b.answers for b in boards),
                      'mib': sum(b.bytes for b in boards) / 1048576, 'slowest_s': max(b.slowest for b in boards)}))
    for task in tasks:
        task.cancel()


asyncio.run(main())
