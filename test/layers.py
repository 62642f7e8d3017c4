#!/usr/bin/python3
"""Holds the tree to its layers (docs/ARCHITECTURE.md): who may include whom, and that src/core is pure.

    cli -> master worker sim -> api bus store exec wire -> io obs core/model calendar -> base

1. Every #include "folder/file.h" below src goes from left to right; adapters do not include each other.
2. src/core compiles with nothing but src/core, src/base and schema in sight.
3. What the core calls cannot read a clock, a file, a socket or chance.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SHARED = {'base', 'core/model', 'io', 'obs'}
ADAPTERS = {'api', 'bus', 'store', 'exec', 'wire'}
SHELLS = {'master', 'worker', 'sim'}
BRAINS = {'core/sched', 'core/agent', 'core/policy'}

MAY = {
    'base': set(),
    'core/model': {'base'},
    'core/policy': {'base', 'core/model'},
    'core/sched': {'base', 'core/model', 'core/policy'},
    'core/agent': {'base', 'core/model', 'core/policy'},
    'io': {'base'},
    'obs': {'base', 'io'},
    'calendar': {'base'},
    **{adapter: SHARED for adapter in ADAPTERS},
    **{shell: SHARED | ADAPTERS | BRAINS | {'calendar'} for shell in SHELLS},
    'cli': SHARED | ADAPTERS | SHELLS,
}
# (folder, file): the exceptions, each with its reason.
EXCEPTIONS = {
    ('api', 'core/sched/sched_view.h'),  # the API answers from the views of the scheduler
    ('wire', 'core/sched/sched.h'),      # a job spec holds the request that the scheduler takes
}
# Functions that only I/O, clocks, threads and chance need. None of them may be called in src/core.
IMPURE = set('''
    open open64 openat openat64 creat creat64 read write pread pread64 pwrite pwrite64 close fopen fopen64 fread fwrite printf
    fprintf puts putchar unlink rename mkdir stat fstat socket connect bind listen accept send recv sendto recvfrom poll select
    epoll_wait fork vfork execve posix_spawn kill waitpid pthread_create sleep usleep nanosleep clock_gettime clock gettimeofday
    time localtime gmtime rand random srand drand48 getrandom getentropy getenv getpid gethostname signal sigaction mmap mmap64
'''.split())


def folder_of(path):
    parts = path.split('/')
    return '/'.join(parts[:2]) if parts[0] == 'core' else parts[0]


def includes():
    for here, _, names in os.walk(os.path.join(ROOT, 'src')):
        for name in sorted(names):
            if not name.endswith(('.c', '.h')):
                continue
            path = os.path.join(here, name)
            with open(path, encoding='utf-8') as f:
                for number, line in enumerate(f, 1):
                    m = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
                    if m:
                        yield os.path.relpath(path, os.path.join(ROOT, 'src')), number, m.group(1)


def check_includes():
    faults = []
    count = 0
    for path, number, target in includes():
        if '/' not in target or target.startswith('.'):
            if target.startswith('.'):
                faults.append(f'src/{path}:{number}: "{target}": write the path from src/')
            continue  # from schema/ or made by the build
        count += 1
        source, goal = folder_of(path), folder_of(target)
        if source not in MAY:
            faults.append(f'src/{path}:{number}: the folder {source} has no place in the layers')
        elif source != goal and goal not in MAY[source] and (source, target) not in EXCEPTIONS:
            faults.append(f'src/{path}:{number}: {source} may not include {target}')
    if count == 0:
        faults.append('no #include was found at all')
    return faults


def check_core():
    faults = []
    compiler = os.environ.get('CC', 'cc').split()
    with tempfile.TemporaryDirectory(prefix='rota-layers-') as temp:
        for part in ('src/core', 'src/base', 'schema'):
            shutil.copytree(os.path.join(ROOT, part), os.path.join(temp, part))
        count = 0
        for here, _, names in os.walk(os.path.join(temp, 'src/core')):
            for name in sorted(names):
                if not name.endswith('.c') or name.endswith('_test.c'):
                    continue
                count += 1
                source = os.path.join(here, name)
                result = subprocess.run(
                    [*compiler, '-std=gnu17', '-D_GNU_SOURCE', '-O1', '-c', '-Isrc', '-Ischema', source, '-o', source + '.o'],
                    cwd=temp, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                shown = os.path.relpath(source, temp)
                if result.returncode != 0:
                    faults.append(f'{shown} does not compile with src/core, src/base and schema alone:\n{result.stdout[:2000]}')
                    continue
                symbols = subprocess.run(['nm', '-u', source + '.o'], stdout=subprocess.PIPE, text=True, check=True).stdout
                called = {line.split()[-1].split('@')[0] for line in symbols.splitlines() if line.strip()}
                for symbol in sorted(called & IMPURE):
                    faults.append(f'{shown} calls {symbol}: the core has no I/O, no clock and no chance')
        if count == 0:
            faults.append('src/core holds no source file')
    return faults


def main():
    faults = check_includes() + check_core()
    for fault in faults:
        print(fault)
    print(f'layers: {len(faults)} faults')
    return 1 if faults else 0


if __name__ == '__main__':
    sys.exit(main())
