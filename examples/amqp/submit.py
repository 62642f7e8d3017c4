#!/usr/bin/python3
"""Submits a job over RabbitMQ, prints its id, and waits for its end: submit.py amqp://USER:PASSWORD@HOST/ -- CMD [ARG...]"""
import json
import sys
import uuid

import pika

channel = pika.BlockingConnection(pika.URLParameters(sys.argv[1])).channel()
inbox = channel.queue_declare('', exclusive=True).method.queue
channel.queue_bind(inbox, 'rota.events', 'job.*')
properties = pika.BasicProperties(reply_to=inbox, message_id=str(uuid.uuid4()), delivery_mode=2)  # message_id: the idempotency key
channel.basic_publish('rota.submit', '', json.dumps({'command': sys.argv[3:]}), properties)
job, ends = None, {}
for _, about, body in channel.consume(inbox, auto_ack=True):
    message = json.loads(body)
    if about.type == 'answer':
        job = message.get('id') or sys.exit(f"refused: {message['detail']}")
        print(job, flush=True)
    elif message['event'] == 'job.ended' and message.get('final'):
        ends[message['job']] = message['final']
    if job in ends:
        sys.exit(0 if ends[job] == 'succeeded' else 1)
