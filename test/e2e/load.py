#!/usr/bin/python3
"""Submits jobs at a steady pace over one connection, and takes down how long each answer took.

    load.py RATE JOB.json        to ROTA_MASTER with the token in ROTA_TOKEN_FILE, until standard input ends

RATE jobs in a second, in ten requests. What was not answered, or not with success, is sent again with the same idempotency key and
counted as failed. Prints at the end, as JSON: `ranges` of accepted ids, `jobs`, `requests`, `failed`, `slowest_s` and when it was
(`slowest_at_s` after the start), `late_s` (by how much the pace was missed at worst), `seconds`; for each of LAGS_S `turns_over`: turns of
the master's loop that took longer, and `pauses_over`: how often a program that only sleeps was held up for longer, by the machine.

A program of its own because the master may be in another network namespace.
"""
import http.client
import json
import os
import re
import select
import sys
import threading
import time
import uuid

REQUESTS_PER_S = 10
ANSWER_MAX_S = 60
LAGS_S = ('0.05', '0.1', '0.25', '1')  # bounds of rota_loop_delay_seconds
TICK_S = 0.005


class Metronome(threading.Thread):
    """How often the machine gives nobody a turn for so long."""

    def __init__(self):
        super().__init__(daemon=True)
        self.over = {lag: 0 for lag in LAGS_S}

    def run(self):
        while True:
            begun = time.monotonic()
            time.sleep(TICK_S)
            held_s = time.monotonic() - begun - TICK_S
            for lag in LAGS_S:
                self.over[lag] += held_s > float(lag)


class Client:
    def __init__(self):
        self.place = os.environ['ROTA_MASTER'].split('//')[1].rstrip('/')
        self.token_file = os.environ['ROTA_TOKEN_FILE']
        self.connection = None

    def turns_over(self):
        """Of the master's loop, from its metrics."""
        with open(self.token_file, encoding='ascii') as f:
            token = f.read().strip()
        connection = http.client.HTTPConnection(self.place, timeout=ANSWER_MAX_S)
        connection.request('GET', '/metrics', headers={'Authorization': 'Bearer ' + token})
        below = dict(re.findall(r'^rota_loop_delay_seconds_bucket\{le="(.*?)"\} (\d+)$', connection.getresponse().read().decode(), re.MULTILINE))
        return {lag: int(below['+Inf']) - int(below[lag]) for lag in LAGS_S}

    def post(self, body, key):
        """The accepted ranges, or None."""
        try:
            if self.connection is None:
                self.connection = http.client.HTTPConnection(self.place, timeout=ANSWER_MAX_S)
            with open(self.token_file, encoding='ascii') as f:
                token = f.read().strip()
            self.connection.request('POST', '/v1/jobs', body, {
                'Content-Type': 'application/x-ndjson', 'Idempotency-Key': key, 'Authorization': 'Bearer ' + token})
            reply = self.connection.getresponse()
            answer = json.loads(reply.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            print(f'load: {error!r}', file=sys.stderr, flush=True)
            self.connection = None
            return None
        if reply.status not in (200, 201):
            print(f'load: {reply.status} {answer}', file=sys.stderr, flush=True)
            return None
        return answer['ranges'] if 'ranges' in answer else [[answer['first'], answer['last']]]


def main():
    rate = int(sys.argv[1])
    with open(sys.argv[2], encoding='utf-8') as f:
        line = json.dumps(json.load(f)) + '\n'
    client, run = Client(), uuid.uuid4().hex
    told = {'ranges': [], 'jobs': 0, 'requests': 0, 'failed': 0, 'slowest_s': 0.0, 'slowest_at_s': 0.0, 'late_s': 0.0}
    metronome = Metronome()
    metronome.start()
    begun = time.monotonic()
    sent = 0
    while True:
        due = begun + told['requests'] / REQUESTS_PER_S
        now = time.monotonic()
        if select.select([sys.stdin], [], [], max(0, due - now))[0]:
            break
        told['late_s'] = max(told['late_s'], time.monotonic() - due)
        count = (told['requests'] + 1) * rate // REQUESTS_PER_S - sent
        told['requests'] += 1
        if not count:
            continue
        sent += count
        ranges = None
        while ranges is None:
            asked = time.monotonic()
            ranges = client.post(line * count, f'{run}-{told["requests"]}')
            took = time.monotonic() - asked
            if took > told['slowest_s']:
                told['slowest_s'], told['slowest_at_s'] = took, asked - begun
            if ranges is None:
                told['failed'] += 1
                time.sleep(0.2)
        for first, last in ranges:
            told['jobs'] += last - first + 1
            if told['ranges'] and told['ranges'][-1][1] + 1 == first:
                told['ranges'][-1][1] = last
            else:
                told['ranges'].append([first, last])
    told['seconds'] = time.monotonic() - begun
    told['turns_over'], told['pauses_over'] = client.turns_over(), metronome.over
    print(json.dumps(told), flush=True)


if __name__ == '__main__':
    main()
