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

static void on_vacated(void *arg, struct attempt_ref ref)
{
    struct seen *s = seen_of(arg, ref);
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
    struct exec_config config = { .state_dir = w->state_dir };
    struct exec_events events = { w, on_started, on_ended, on_vacated, on_recovered };
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
        struct exec_events events = { w, on_started, on_ended, NULL, on_recovered };
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
    for (int code = 0; code < 256; code++)
        start_simple(w, 0, code);
    for (uint32_t code = 0; code < 256; code++) {
        struct seen *s = world_wait(w, code + 1);
        assert_int_equal(s->result.exit_code, code);
        assert_int_equal(s->result.signal, 0);
        assert_int_equal(s->result.reason, code ? REASON_EXIT : REASON_NONE);
    }
}

static void refuses_an_attempt_it_knows(void **state)
{
    struct world *w = *state;
    struct err err = { 0 };
    char *argv[] = { (char *)(uintptr_t) "/bin/true", NULL };
    char *env[] = { NULL };
    uint64_t job = start_simple(w, 0, 3);
    struct exec_job again = { .ref = world_ref(job), .argv = argv, .env = env };
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
    if (w->jobs < 300)
        start_simple(w, 0, (int)(w->jobs % 7));
}

static void may_be_called_from_callbacks(void **state)
{
    struct world *w = *state;
    w->on_end = start_next;
    for (int i = 0; i < 4; i++)
        start_simple(w, 0, (int)(w->jobs % 7));
    for (uint64_t job = 1; job <= 300; job++) {
        struct seen *s = world_wait(w, job);
        assert_int_equal(s->result.exit_code, (job - 1) % 7);
        assert_int_equal(s->started, 1);
    }
    for (uint64_t job = 1; job <= 300; job++)
        assert_int_equal(w->seen[job].ended, 1);
}

static void measures_time(void **state)
{
    struct world *w = *state;
    struct seen *s = world_wait(w, start_simple(w, 50, 0));
    assert_in_range(s->result.run_ms, 50, 60000);
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
