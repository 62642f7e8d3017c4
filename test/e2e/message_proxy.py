"""A proxy for Rota's messages over a real RabbitMQ, which loses, repeats, delays and shuffles them.

The master lives in one virtual host of the broker and the workers in another, so nothing passes from one to the other but through this
proxy: it takes what the master publishes for workers and publishes it again in theirs, and the other way round. For each worker's
queue that it hears of it binds its own under the same key on the master's side, and for each instance of the master on the workers'.
What the broker returns because nobody is there any more takes that binding away, so that the sender is told the next time.
"""
import collections
import heapq
import itertools
import random
import threading
import time

import pika

EXCHANGES = {'rota.dispatch': 'direct', 'rota.report': 'direct', 'rota.control': 'fanout'}
TO_WORKERS = ('rota.dispatch', 'rota.control')


class Faults:
    """Of the messages `lost` never arrive; of the others `again` come 1 to `copies` times, each after 0 to `delay_s`, so in any order."""

    def __init__(self, lost=0.0, again=0.0, copies=5, delay_s=10.0):
        self.lost, self.again, self.copies, self.delay_s = lost, again, copies, delay_s


class Side(threading.Thread):
    """One virtual host, in a thread that owns its connection."""

    def __init__(self, proxy, port, vhost, name):
        super().__init__(daemon=True)
        self.proxy, self.name, self.other = proxy, name, None
        self.port, self.vhost = port, vhost
        self.due, self.lock, self.number = [], threading.Lock(), itertools.count()
        self.ready, self.stopping, self.error = threading.Event(), False, None

    def run(self):
        try:
            self.connection = pika.BlockingConnection(pika.ConnectionParameters('127.0.0.1', self.port, self.vhost))
            self.channel = self.connection.channel()
            self.channel.add_on_return_callback(self.returned)
            for exchange, kind in EXCHANGES.items():
                self.channel.exchange_declare(exchange, kind, durable=True)
            self.queue = self.channel.queue_declare('', exclusive=True).method.queue
            if self.name == 'master':
                self.channel.queue_bind(self.queue, 'rota.control', '')
            else:
                self.channel.queue_bind(self.queue, 'rota.report', 'master')
            self.channel.basic_consume(self.queue, self.taken, auto_ack=True)
            self.ready.set()
            while not self.stopping:
                self.connection.process_data_events(time_limit=0.01)
                self.publish_due()
            self.connection.close()
        except Exception as error:  # told by Proxy.stop
            self.error = error
            self.ready.set()

    def taken(self, _channel, method, properties, body):
        if properties.type == 'beacon' and method.exchange != 'rota.control':
            return  # what the master sends to itself
        self.proxy.pass_on(self.other, method.exchange, method.routing_key, properties, body)

    def put(self, at, *message):
        with self.lock:
            heapq.heappush(self.due, (at, next(self.number), message))

    def publish_due(self):
        while True:
            with self.lock:
                if not self.due or self.due[0][0] > time.monotonic():
                    return
                _, _, (exchange, key, properties, body) = heapq.heappop(self.due)
            # Whoever speaks is to be answered: bind its name on this side.
            if self.name == 'master' and properties.type == 'knock':
                self.channel.queue_bind(self.queue, 'rota.dispatch', properties.reply_to)
            if self.name == 'worker' and properties.type in ('welcome', 'beacon'):
                self.channel.queue_bind(self.queue, 'rota.report', properties.reply_to)
            self.channel.basic_publish(exchange, key, body, properties, mandatory=True)

    def returned(self, _channel, method, _properties, _body):
        self.proxy.counts['returned'] += 1
        other = self.other
        if method.routing_key not in ('', 'master'):
            other.connection.add_callback_threadsafe(lambda: other.channel.queue_unbind(other.queue, method.exchange, method.routing_key))


class Proxy:
    def __init__(self, port, master_vhost, worker_vhost, seed):
        self.random, self.faults, self.counts = random.Random(seed), Faults(), collections.Counter()
        self.lock = threading.Lock()
        self.sides = [Side(self, port, master_vhost, 'master'), Side(self, port, worker_vhost, 'worker')]
        for side, other in zip(self.sides, reversed(self.sides)):
            side.other = other
        for side in self.sides:
            side.start()
        for side in self.sides:
            side.ready.wait()
            assert side.error is None, side.error

    def pass_on(self, side, *message):
        """The fate of one message follows from the seed and its place among all."""
        now = time.monotonic()
        with self.lock:
            f = self.faults
            if self.random.random() < f.lost:
                self.counts['lost'] += 1
                return
            times = [0.0]
            if self.random.random() < f.again:
                times = [self.random.uniform(0, f.delay_s) for _ in range(self.random.randint(1, f.copies))]
                self.counts['delayed'] += 1
                self.counts['repeats'] += len(times) - 1
            self.counts['messages'] += 1
        for after in times:
            side.put(now + after, *message)

    def stop(self):
        for side in self.sides:
            side.stopping = True
        for side in self.sides:
            side.join(timeout=30)
            assert side.error is None, side.error
