#!/usr/bin/python3
"""Long runs: 200 kills for each of --minutes under load, as many minutes of steady work, a queue of a million jobs and an array of
a million tasks, RabbitMQ's faults at full length, 20,000 seeds of the fault simulator. --rota BINARY.
"""
import argparse
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--rota', required=True)
    parser.add_argument('--minutes', type=int, default=10)
    parser.add_argument('--seed', default='1')
    options = parser.parse_args()
    rota = os.path.abspath(options.rota)
    kills = str(options.minutes * 200)
    for what, tests, more in (
            (f'{kills} kills, seed {options.seed}', ['test_kills.py'], {'ROTA_KILLS': kills, 'ROTA_SEED': options.seed}),
            (f'{options.minutes} minutes of steady work', ['test_steady.py'], {'ROTA_STEADY_S': str(options.minutes * 60)}),
            ('a queue of 1,000,000 jobs and an array of as many', ['test_queue.py'], {'ROTA_QUEUE': '1000000'}),
            ('RabbitMQ: its faults at the times of the design with 300 jobs/s, 5000 jobs on three hosts, partitions of 30 to 400 s, '
             'a cluster of three, messages lost and shuffled (about an hour; ROTA_RATE=N jobs/s)', ['test_amqp.py', 'test_hosts.py', 'test_amqp_cluster.py'],
             {'ROTA_FAULTS': 'full', 'ROTA_HOSTS_JOBS': '5000', 'ROTA_TEST_MAX_S': '3600'})):
        print(f'soak: {what}', flush=True)
        code = subprocess.run([sys.executable, '-m', 'pytest', '-q', '-x', '-s', '-p', 'no:cacheprovider',
                               *(f'test/e2e/{test}' for test in tests)], cwd=ROOT,
                              env={**os.environ, 'ROTA': rota, 'ROTA_TEST_MAX_S': str(options.minutes * 600), **more}).returncode
        if code:
            return code
    print('soak: 20000 seeds of the simulator', flush=True)
    return subprocess.run([os.path.join(os.path.dirname(os.path.dirname(rota)), 'sim/rota-sim'), '1', '20000'], check=False).returncode


if __name__ == '__main__':
    sys.exit(main())
