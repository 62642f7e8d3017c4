#!/bin/sh
# Submits a job over RabbitMQ and prints the answer: submit.sh amqp://USER:PASSWORD@HOST/ '{"command": ["true"]}'
# (amqp-tools take the password in their arguments, where others on this host can see it.)
set -eu
inbox=$(amqp-declare-queue --url="$1" --queue="rota-client-$(cat /proc/sys/kernel/random/uuid)")
trap 'amqp-delete-queue --url="$1" --queue="$inbox" >/dev/null' EXIT
amqp-publish --url="$1" --exchange=rota.submit --persistent --reply-to="$inbox" --body="$2"
amqp-consume --url="$1" --queue="$inbox" --count=1 cat
echo
