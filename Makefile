# Rota: see README.md. Everything here is a short way to meson, ninja, pytest and the scripts in tools/.
BUILD = build
PYTHON = /usr/bin/python3

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD) src/cli/rota src/sim/rota-sim

$(BUILD)/build.ninja:
	@tools/install
	@meson setup $(BUILD) --buildtype=release -Ddebug=true >/dev/null

run:            ## the example of the README: a cluster on this machine, and words counted on it
	@tools/install
	@$(MAKE) --no-print-directory all
	@examples/wordcount/run

test:           ## unit tests with sanitizers, then whole programs; the last line counts them
	@tools/install test
	@tools/test

bench: all      ## measures side by side with other ways to run jobs
	@tools/install bench
	@ninja -C $(BUILD) --quiet bench/bare_loop bench/cycle_bench bench/stamp src/wire/wire_bench src/store/store_bench src/bus/bus_bench src/exec/spawn_bench
	@bench/run $(BUILD)

soak: all       ## KILLS=200 workers killed under containers; a loaded cluster and a fault every few seconds; MINUTES=10
	@tools/install test
	@ROTA=$(BUILD)/src/cli/rota ROTA_TEST_DOCKER_KILLS=$(or $(KILLS),200) PYTHONDONTWRITEBYTECODE=1 \
	    $(PYTHON) -m pytest -q -p no:cacheprovider test/e2e/test_docker.py -k killed_anywhere
	@ninja -C $(BUILD) --quiet src/core/sched_change_test && ROTA_TEST_STATES=$(or $(STATES),100000) $(BUILD)/src/core/sched_change_test
	@$(PYTHON) test/soak.py --rota $(BUILD)/src/cli/rota --minutes $(or $(MINUTES),10)

fuzz:           ## every parser of outside bytes; FUZZ_SECONDS=30 each
	@tools/fuzz

lint:           ## layers of the tree, cppcheck, shellcheck
	@tools/install lint
	@tools/lint

format:         ## clang-format over all sources
	@find src fuzz bench -name '*.[ch]' -exec clang-format -i {} +

clean:
	@-test ! -x $(BUILD)/src/cli/rota || examples/wordcount/run --stop >/dev/null 2>&1
	@rm -rf build build-asan build-fuzz build-lint build-tsan

help:
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/:[^#]*## +/\t/'

.PHONY: all run test bench soak fuzz lint format clean help
