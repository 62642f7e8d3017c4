#include "exec/exec_conformance.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/mem.h"
#include "io/clock.h"

#define WAIT_MS_MAX 60000

const char *exec_world_image = NULL;
int exec_world_thrift = 1;
struct exec_container_config exec_world_container = { 0 };
struct exec_process_config exec_world_process;

static struct seen *seen_of(struct world *w, struct attempt_ref ref)
{
    assert_in_range(ref.job.n, 1, WORLD_JOBS_MAX - 1);
    assert_int_equal(ref.task, TASK_SINGLE);
    return &w->seen[ref.job.n];
}

static void on_started(void *arg, struct attempt_ref ref)
{
    struct seen *s = seen_of(arg, ref);
    assert_true(s->ended < ref.attempt); /* before its own end, after that of the attempt before */
    s->started++;
}

static void on_vacated(void *arg, struct attempt_ref ref, struct attempt_ref passed_to)
{
    struct seen *s = seen_of(arg, ref);
    if (passed_to.job.n) {
        struct seen *next = seen_of(arg, passed_to);
        assert_int_equal(next->started + next->ended, 0); /* before anything is said of that one */
        next->got_place_of = ref.job.n;
    }
    assert_true(s->ended < ref.attempt); /* before its own end, after that of the attempt before */
    s->vacated++;
}

static void on_ended(void *arg, struct attempt_ref ref, const struct attempt_result *result, bool started,
                     const char *text)
{
    struct world *w = arg;
    struct seen *s = seen_of(w, ref);
    s->ended++;
    s->result = *result;
    s->had_process = started;
    snprintf(s->text, sizeof s->text, "%s", text);
    if (w->on_end)
        w->on_end(w, ref);
}

static void on_recovered(void *arg, struct attempt_ref ref, enum attempt_phase phase, int64_t ran_ms,
                         const struct attempt_result *result)
{
    struct seen *s = seen_of(arg, ref);
    s->recovered++;
    s->recovered_as = phase;
    s->ran_ms = ran_ms;
    s->result = *result;
}

void world_init(struct world *w, exec_open_fn *open)
{
    memset(w, 0, sizeof *w);
    w->open = open;
    const char *tmp = getenv("TMPDIR");
    assert_true(snprintf(w->dir, sizeof w->dir, "%s/exec.XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp") <
                (int)sizeof w->dir);
    assert_non_null(mkdtemp(w->dir));
    snprintf(w->state_dir, sizeof w->state_dir, "%s/state", w->dir);
    world_open(w);
}

void world_open(struct world *w)
{
    struct err err = { 0 };
    struct exec_config config = { .state_dir = w->state_dir, .container = exec_world_container, .process = exec_world_process };
    struct exec_events events = { w, on_started, on_ended, on_vacated, on_recovered, NULL, NULL };
    w->loop = loop_new();
    w->exec = w->open(w->loop, &config, &events, &err);
    if (!w->exec)
        fail_msg("open: %s", err.text);
}

/* Whether close ends the nursery is said at open, so to end it another executor takes its place. */
void world_close(struct world *w, bool shut_down)
{
    w->exec->ops->close(w->exec);
    if (shut_down) {
        struct err err = { 0 };
        struct exec_config config = { .state_dir = w->state_dir, .shutdown_nursery = true };
        struct exec_events events = { w, on_started, on_ended, NULL, on_recovered, NULL, NULL };
        struct seen *kept = mem_copy(w->seen, sizeof w->seen);
        w->exec = w->open(w->loop, &config, &events, &err);
        assert_non_null(w->exec);
        w->exec->ops->close(w->exec);
        memcpy(w->seen, kept, sizeof w->seen);
        free(kept);
    }
    loop_free(w->loop);
    w->exec = NULL;
    w->loop = NULL;
}

void world_fini(struct world *w)
{
    if (w->exec)
        world_close(w, true);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", w->dir);
    assert_int_equal(system(command), 0);
}

struct attempt_ref world_ref(uint64_t job)
{
    return (struct attempt_ref){ .job = { job }, .task = TASK_SINGLE, .attempt = 1 };
}

uint64_t world_start(struct world *w, struct exec_job job)
{
    static char *small_env[] = { (char *)(uintptr_t) "PATH=/usr/local/bin:/usr/bin:/bin", NULL };
    struct err err = { 0 };
    job.ref = world_ref(++w->jobs);
    job.index = TASK_SINGLE;
    if (!job.env)
        job.env = small_env;
    if (!job.image)
        job.image = exec_world_image;
    if (w->exec->ops->start(w->exec, &job, &err) < 0)
        fail_msg("start: %s", err.text);
    return w->jobs;
}

uint64_t world_sh(struct world *w, const char *script)
{
    char *argv[] = { (char *)(uintptr_t) "/bin/sh", (char *)(uintptr_t) "-c", (char *)(uintptr_t)script, NULL };
    return world_start(w, (struct exec_job){ .argv = argv, .workdir = w->dir });
}

void world_turn(struct world *w)
{
    int64_t before_ms = clock_now_ms();
    loop_turn(w->loop, WAIT_MS_MAX);
    if (clock_now_ms() - before_ms >= WAIT_MS_MAX)
        fail_msg("nothing has happened for a minute");
}

struct seen *world_wait(struct world *w, uint64_t job)
{
    while (!w->seen[job].ended)
        world_turn(w);
    return &w->seen[job];
}

/* --- the suite --- */

static exec_open_fn *open_under_test;

static int setup(void **state)
{
    struct world *w = mem_alloc(sizeof *w);
    world_init(w, open_under_test);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world_fini(*state);
    free(*state);
    return 0;
}

/* A job that does the same in every executor. */
static uint64_t start_simple(struct world *w, int64_t ms, int code)
{
    char script[64];
    snprintf(script, sizeof script, "sleep %lld.%03lld; exit %d", (long long)ms / 1000, (long long)ms % 1000, code);
    char *argv[] = { (char *)(uintptr_t) "/bin/sh", (char *)(uintptr_t) "-c", script, NULL };
    return world_start(w, (struct exec_job){ .argv = argv, .simulated_ms = ms, .simulated_exit = code });
}

static void reports_start_and_end_once(void **state)
{
    struct world *w = *state;
    uint64_t job = start_simple(w, 0, 0);
    assert_int_equal(w->seen[job].started + w->seen[job].ended, 0); /* not inside start() */
    struct seen *s = world_wait(w, job);
    assert_int_equal(s->started, 1);
    assert_int_equal(s->vacated, 1);
    assert_int_equal(s->ended, 1);
    assert_true(s->had_process);
    assert_int_equal(s->result.reason, REASON_NONE);
    assert_int_equal(s->result.flags, 0);
    w->exec->ops->remove(w->exec, world_ref(job));
    world_wait(w, start_simple(w, 0, 0));
    assert_int_equal(s->started + s->vacated + s->ended, 3);
}

static void tells_every_exit_code(void **state)
{
    struct world *w = *state;
    const int step = exec_world_thrift > 1 ? 51 : 1; /* 0 and 255 are among them */
    for (int code = 0; code < 256; code += step)
        start_simple(w, 0, code);
    for (uint32_t code = 0; code < 256; code += (uint32_t)step) {
        struct seen *s = world_wait(w, code / (uint32_t)step + 1);
        assert_int_equal(s->result.exit_code, code);
        assert_int_equal(s->result.signal, 0);
        assert_int_equal(s->result.reason, code ? REASON_EXIT : REASON_NONE);
    }
}

/* --- the line --- */

static uint64_t start_in_line(struct world *w, uint64_t mem_bytes, const char *script)
{
    char *argv[] = { (char *)(uintptr_t) "/bin/sh", (char *)(uintptr_t) "-c", (char *)(uintptr_t)script, NULL };
    return world_start(w, (struct exec_job){ .argv = argv,
                                             .workdir = w->dir,
                                             .in_line = true,
                                             .need = { .v = { [RES_CPU] = 1000, [RES_MEM] = mem_bytes } } });
}

static uint64_t start_with_need(struct world *w, uint64_t mem_bytes, const char *script)
{
    char *argv[] = { (char *)(uintptr_t) "/bin/sh", (char *)(uintptr_t) "-c", (char *)(uintptr_t)script, NULL };
    return world_start(w, (struct exec_job){ .argv = argv,
                                             .workdir = w->dir,
                                             .need = { .v = { [RES_CPU] = 1000, [RES_MEM] = mem_bytes } } });
}

#define MIB(n) ((uint64_t)(n) << 20)

static void a_place_passes_down_the_line(void **state)
{
    struct world *w = *state;
    uint64_t first = start_with_need(w, MIB(64), "sleep 0.05; exit 1"), last = first;
    for (int i = 0; i < 10; i++)
        last = start_in_line(w, MIB(64), "exit 2");
    for (uint64_t job = first; job <= last; job++) {
        struct seen *s = world_wait(w, job);
        assert_int_equal(s->result.exit_code, job == first ? 1 : 2);
        assert_int_equal(s->started + s->vacated + s->ended, 3);
        assert_int_equal(s->got_place_of, job == first ? 0 : job - 1);
    }
}

static void only_an_equal_need_gets_the_place(void **state)
{
    struct world *w = *state;
    uint64_t first = start_with_need(w, MIB(64), "exit 1");
    uint64_t larger = start_in_line(w, MIB(65), "exit 2"), equal = start_in_line(w, MIB(64), "exit 3");
    assert_int_equal(world_wait(w, first)->result.exit_code, 1);
    assert_int_equal(world_wait(w, equal)->result.exit_code, 3);
    assert_int_equal(w->seen[larger].started + w->seen[larger].ended, 0);
    w->exec->ops->line(w->exec, world_ref(larger), LINE_CALL);
    w->exec->ops->line(w->exec, world_ref(larger), LINE_CALL);
    assert_int_equal(world_wait(w, larger)->result.exit_code, 2);
    assert_int_equal(w->seen[larger].started, 1);
}

static void who_cannot_start_does_not_keep_the_place(void **state)
{
    struct world *w = *state;
    char *missing[] = { (char *)(uintptr_t) "/no/such/program", NULL };
    uint64_t first = start_with_need(w, 0, "sleep 0.05");
    uint64_t bad = world_start(
        w, (struct exec_job){ .argv = missing, .in_line = true, .need = { .v = { [RES_CPU] = 1000 } } });
    uint64_t good = start_in_line(w, 0, "exit 4");
    assert_int_equal(world_wait(w, good)->result.exit_code, 4);
    assert_int_equal(w->seen[good].got_place_of, first);
    assert_int_equal(world_wait(w, bad)->result.reason, REASON_SPAWN);
    assert_false(w->seen[bad].had_process);
}

static void who_is_withdrawn_never_starts(void **state)
{
    struct world *w = *state;
    uint64_t first = start_with_need(w, 0, "sleep 0.2");
    uint64_t withdrawn = start_in_line(w, 0, "echo >ran1"), killed = start_in_line(w, 0, "echo >ran2");
    uint64_t next = start_in_line(w, 0, "exit 6");
    w->exec->ops->line(w->exec, world_ref(withdrawn), LINE_WITHDRAW);
    w->exec->ops->signal(w->exec, world_ref(killed), false);
    assert_int_equal(world_wait(w, withdrawn)->result.reason, REASON_NEVER_STARTED);
    assert_int_equal(world_wait(w, killed)->result.reason, REASON_NEVER_STARTED);
    assert_int_equal(world_wait(w, next)->result.exit_code, 6);
    assert_int_equal(w->seen[next].got_place_of, first);
    w->exec->ops->line(w->exec, world_ref(next), LINE_WITHDRAW); /* has ended: nothing happens */
    char path[4096];
    for (int i = 1; i <= 2; i++) {
        snprintf(path, sizeof path, "%s/ran%d", w->dir, i);
        assert_int_equal(access(path, F_OK), -1);
    }
    assert_false(w->seen[withdrawn].had_process || w->seen[killed].had_process);
}

static void a_line_does_not_outlive_the_worker(void **state)
{
    struct world *w = *state;
    uint64_t first = start_with_need(w, 0, "sleep 0.3");
    uint64_t waits = start_in_line(w, 0, "echo >ran");
    while (!w->seen[first].started)
        world_turn(w);
    world_close(w, false);
    world_open(w);
    assert_int_equal(world_wait(w, first)->result.reason, REASON_NONE);
    assert_int_equal(w->seen[first].recovered, 1);
    assert_int_equal(w->seen[waits].recovered + w->seen[waits].started + w->seen[waits].ended, 0);
    assert_int_equal(world_wait(w, start_with_need(w, 0, "test ! -e ran"))->result.exit_code, 0);
}

static void refuses_an_attempt_it_knows(void **state)
{
    struct world *w = *state;
    struct err err = { 0 };
    char *argv[] = { (char *)(uintptr_t) "/bin/true", NULL };
    char *env[] = { NULL };
    uint64_t job = start_simple(w, 0, 3);
    struct exec_job again = { .ref = world_ref(job), .argv = argv, .env = env, .image = exec_world_image };
    assert_int_equal(w->exec->ops->start(w->exec, &again, &err), -ERR_CONFLICT);
    world_wait(w, job);
    assert_int_equal(w->exec->ops->start(w->exec, &again, &err), -ERR_CONFLICT);
    assert_int_equal(w->seen[job].result.exit_code, 3);
    assert_int_equal(w->seen[job].ended, 1);
    again.ref.attempt = 2; /* the next attempt is another one */
    assert_int_equal(w->exec->ops->start(w->exec, &again, &err), 0);
    while (w->seen[job].ended < 2)
        world_turn(w);
}

static void ends_by_signal(void **state)
{
    struct world *w = *state;
    for (int kill = 0; kill < 2; kill++) {
        uint64_t job = start_simple(w, 3600000, 0);
        while (!w->seen[job].started)
            world_turn(w);
        w->exec->ops->signal(w->exec, world_ref(job), kill);
        struct seen *s = world_wait(w, job);
        assert_int_equal(s->result.reason, REASON_SIGNAL);
        assert_int_equal(s->result.signal, kill ? 9 : 15);
        assert_int_equal(s->result.exit_code, 0);
        assert_in_range(s->result.run_ms, 0, 3599999);
        w->exec->ops->signal(w->exec, world_ref(job), kill); /* ended: no-op */
    }
}

static void signal_at_once_reaches_it(void **state)
{
    struct world *w = *state;
    uint64_t job = start_simple(w, 3600000, 0);
    w->exec->ops->signal(w->exec, world_ref(job), true);
    assert_int_equal(world_wait(w, job)->result.signal, 9);
}

static void ignores_what_it_does_not_know(void **state)
{
    struct world *w = *state;
    struct exec_usage usage;
    char path[4096];
    w->exec->ops->signal(w->exec, world_ref(4711), true);
    w->exec->ops->remove(w->exec, world_ref(4711));
    w->exec->ops->remove(w->exec, world_ref(4711));
    assert_false(w->exec->ops->usage(w->exec, world_ref(4711), &usage));
    assert_false(w->exec->ops->log_path(w->exec, world_ref(4711), EXEC_STDOUT, path, sizeof path));
    assert_true(strlen(w->exec->ops->enforces(w->exec)) > 0);
    uint64_t job = start_simple(w, 3600000, 0);
    w->exec->ops->remove(w->exec, world_ref(job)); /* has not ended: stays */
    w->exec->ops->signal(w->exec, world_ref(job), true);
    world_wait(w, job);
    w->exec->ops->remove(w->exec, world_ref(job));
    w->exec->ops->remove(w->exec, world_ref(job));
}

static void start_next(struct world *w, struct attempt_ref ref)
{
    w->exec->ops->remove(w->exec, ref);
    if (w->jobs < (uint64_t)(300 / exec_world_thrift))
        start_simple(w, 0, (int)(w->jobs % 7));
}

static void may_be_called_from_callbacks(void **state)
{
    struct world *w = *state;
    w->on_end = start_next;
    for (int i = 0; i < 4; i++)
        start_simple(w, 0, (int)(w->jobs % 7));
    const uint64_t jobs = (uint64_t)(300 / exec_world_thrift);
    for (uint64_t job = 1; job <= jobs; job++) {
        struct seen *s = world_wait(w, job);
        assert_int_equal(s->result.exit_code, (job - 1) % 7);
        assert_int_equal(s->started, 1);
    }
    for (uint64_t job = 1; job <= jobs; job++)
        assert_int_equal(w->seen[job].ended, 1);
}

static void measures_time(void **state)
{
    struct world *w = *state;
    struct seen *s = world_wait(w, start_simple(w, 50, 0));
    assert_in_range(s->result.run_ms, 50, 60000);
}

/* --- the lease --- */

static uint64_t start_leased(struct world *w, int64_t ms)
{
    char script[64];
    snprintf(script, sizeof script, "sleep %lld.%03lld", (long long)ms / 1000, (long long)ms % 1000);
    char *argv[] = { (char *)(uintptr_t) "/bin/sh", (char *)(uintptr_t) "-c", script, NULL };
    return world_start(w, (struct exec_job){ .argv = argv, .simulated_ms = ms, .overlap_never = true });
}

static void lease_for(struct world *w, int64_t ms)
{
    w->exec->ops->lease(w->exec, clock_now_ms() + ms);
}

static void what_may_not_overlap_ends_with_the_lease(void **state)
{
    struct world *w = *state;
    lease_for(w, 1000);
    uint64_t others = start_simple(w, 1800, 3), leased = start_leased(w, 60000);
    struct seen *s = world_wait(w, leased);
    assert_int_equal(s->result.reason, REASON_LEASE_LOST);
    assert_in_range(s->result.run_ms, 100, 30000);
    assert_int_equal(s->started + s->vacated + s->ended, 3);
    assert_int_equal(world_wait(w, others)->result.exit_code, 3);
}

static void a_renewed_lease_goes_on(void **state)
{
    struct world *w = *state;
    lease_for(w, 20000);
    uint64_t leased = start_leased(w, 700);
    lease_for(w, 100); /* never moves it back */
    assert_int_equal(world_wait(w, leased)->result.reason, REASON_NONE);
}

static void a_lease_that_ran_out_keeps_nobody(void **state)
{
    struct world *w = *state;
    int64_t until_ms = clock_now_ms() + 1000;
    w->exec->ops->lease(w->exec, until_ms);
    uint64_t before = start_leased(w, 60000);
    while (!w->seen[before].started)
        world_turn(w);
    while (clock_now_ms() < until_ms + 20)
        ; /* the worker hears of nothing meanwhile, and renews too late */
    lease_for(w, 60000);
    uint64_t after = start_leased(w, 10);
    assert_int_equal(world_wait(w, before)->result.reason, REASON_LEASE_LOST);
    assert_int_equal(world_wait(w, after)->result.reason, REASON_NONE);
}

size_t exec_conformance(exec_open_fn *open, struct CMUnitTest *out)
{
    open_under_test = open;
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(reports_start_and_end_once),   CASE(tells_every_exit_code),
        CASE(refuses_an_attempt_it_knows),  CASE(ends_by_signal),
        CASE(signal_at_once_reaches_it),    CASE(ignores_what_it_does_not_know),
        CASE(may_be_called_from_callbacks), CASE(measures_time),
    };
    check(sizeof tests / sizeof *tests <= EXEC_CONFORMANCE_TESTS_MAX);
    memcpy(out, tests, sizeof tests);
    return sizeof tests / sizeof *tests;
}

size_t exec_conformance_lease(exec_open_fn *open, struct CMUnitTest *out)
{
    open_under_test = open;
    const struct CMUnitTest tests[] = {
        CASE(what_may_not_overlap_ends_with_the_lease),
        CASE(a_renewed_lease_goes_on),
        CASE(a_lease_that_ran_out_keeps_nobody),
    };
    check(sizeof tests / sizeof *tests <= EXEC_CONFORMANCE_TESTS_MAX);
    memcpy(out, tests, sizeof tests);
    return sizeof tests / sizeof *tests;
}

size_t exec_conformance_line(exec_open_fn *open, struct CMUnitTest *out)
{
    open_under_test = open;
    const struct CMUnitTest tests[] = {
        CASE(a_place_passes_down_the_line),
        CASE(only_an_equal_need_gets_the_place),
        CASE(who_cannot_start_does_not_keep_the_place),
        CASE(who_is_withdrawn_never_starts),
        CASE(a_line_does_not_outlive_the_worker),
    };
    check(sizeof tests / sizeof *tests <= EXEC_CONFORMANCE_TESTS_MAX);
    memcpy(out, tests, sizeof tests);
    return sizeof tests / sizeof *tests;
}
