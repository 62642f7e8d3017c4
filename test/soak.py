#!/usr/bin/python3
"""Long runs: 2,000 kills under load, then 20,000 seeds of the fault simulator. --rota BINARY; --minutes bounds the kills."""
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
    print(f'soak: {kills} kills, seed {options.seed}', flush=True)
    code = subprocess.run([sys.executable, '-m', 'pytest', '-q', '-x', '-p', 'no:cacheprovider', 'test/e2e/test_kills.py'], cwd=ROOT,
                          env={**os.environ, 'ROTA': rota, 'ROTA_KILLS': kills, 'ROTA_SEED': options.seed}).returncode
    if code:
        return code
    print('soak: 20000 seeds of the simulator', flush=True)
    return subprocess.run([os.path.join(os.path.dirname(os.path.dirname(rota)), 'sim/rota-sim'), '1', '20000'], check=False).returncode


if __name__ == '__main__':
    sys.exit(main())
