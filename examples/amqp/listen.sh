#!/bin/sh
# Prints so many events as lines of JSON: listen.sh amqp://USER:PASSWORD@HOST/ 'job.succeeded' 10
set -eu
exec amqp-consume --exclusive --url="$1" --exchange=rota.events --routing-key="$2" --count="${3:-1000000}" -- sh -c 'cat; echo'
