/* starve_test.c: a job that needs a whole node, or all nodes at once, under a stream of small ones that never ends, starts at its first estimate or before. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// cmocka.h wants the headers above.
#include <cmocka.h>

#include "base/mem.h"
#include "base/prng.h"
#include "core/sched/sched_view.h"

#define START_MS 1700000000000
#define NODES 3u
#define NODE_CPUS 4u
#define JOBS_MAX 4096u
#define OPEN_MAX 64u

struct open { struct attempt_ref ref; struct mac128 token; int64_t end_ms; uint64_t session; };

static struct sched *s;
static struct prng prng;
static int64_t now_ms, wake_ms;
static struct open open_[OPEN_MAX];
static size_t open_count;
static int64_t run_ms[JOBS_MAX], started_ms[JOBS_MAX];

static struct sched_result step(struct sched_event ev)
{
    struct effects fx;
    struct sched_result result;
    ev.now_ms = now_ms;
    ev.wall_ms = START_MS + now_ms;
    sched_step(s, &ev, &fx, &result);
    wake_ms = fx.wake_at_ms;
    for (size_t i = 0; i < fx.sends_count; i++) {
        const struct message *m = &fx.sends[i].message;
        if (m->kind != MSG_START)
            continue;
        assert_true(open_count < OPEN_MAX);
        uint64_t job = m->start.ref.job.n;
        open_[open_count++] = (struct open){ m->start.ref, m->start.token, now_ms + run_ms[job], fx.sends[i].session };
        started_ms[job] = now_ms;
    }
    return result;
}

static void say(uint64_t session, const struct message *m)
{
    struct sched_event ev = { .kind = SCHED_MESSAGE };
    ev.message.session = session;
    ev.message.message = m;
    step(ev);
}

static void cycle(void)
{
    do
        step((struct sched_event){ .kind = SCHED_TICK });
    while (wake_ms <= now_ms);
}

static void begin(enum sched_backfill backfill, uint64_t seed)
{
    struct effects fx;
    struct sched_config config;
    sched_config_default(&config);
    config.backfill = backfill;
    config.ahead_max = 0;
    config.suspect_ms = config.down_ms = config.resend_ms = config.lease_ms = config.grace_start_ms = INT64_MAX / 4;
    prng_seed(&prng, seed);
    now_ms = 0;
    open_count = 0;
    memset(started_ms, 0xff, sizeof started_ms);
    s = sched_new(&config);
    sched_start(s, 1, "test", 1, now_ms, START_MS, &fx);
    for (uint32_t i = 1; i <= NODES; i++) {
        char name[8];
        snprintf(name, sizeof name, "n%u", i);
        struct message m = { .kind = MSG_HELLO };
        m.hello.worker = (struct worker_id){ 1, i };
        m.hello.incarnation = 1;
        m.hello.name = bytes_str(name);
        m.hello.boot = m.hello.version = bytes_str("b");
        m.hello.capacity.v[RES_CPU] = 1000 * NODE_CPUS;
        m.hello.window = UINT32_MAX;
        m.hello.nonce = 1;
        say(i, &m);
    }
}

static uint64_t submit(uint64_t cpus, uint32_t nodes, int64_t limit_ms, int64_t runs_ms, int64_t priority)
{
    struct sched_event ev = { .kind = SCHED_SUBMIT };
    ev.submit = (struct job_request){ .nodes = nodes, .user = bytes_str("ann"), .queue = bytes_str("default"), .priority = priority,
                                      .time_limit_ms = limit_ms };
    ev.submit.need.v[RES_CPU] = cpus * 1000;
    struct sched_result result = step(ev);
    assert_int_equal(result.err.code, ERR_OK);
    assert_true(result.job.n < JOBS_MAX);
    run_ms[result.job.n] = runs_ms;
    return result.job.n;
}

/* They take some of what they are given, seldom all; together more than there is room for. */
static void small_ones(size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int64_t limit_ms = 1000 * (int64_t)(5 + prng_below(&prng, 120));
        submit(1 + prng_below(&prng, 3), 1, limit_ms, prng_below(&prng, 3) ? limit_ms / 2 : limit_ms, 0);
    }
}

static void one_second(void)
{
    now_ms += 1000;
    for (size_t i = 0; i < open_count;) {
        if (open_[i].end_ms > now_ms) {
            i++;
            continue;
        }
        struct open o = open_[i];
        open_[i] = open_[--open_count];
        struct message m = { .kind = MSG_FINISHED };
        m.finished.ref = o.ref;
        m.finished.token = o.token;
        m.finished.result.run_ms = run_ms[o.ref.job.n];
        say(o.session, &m);
    }
    if (prng_below(&prng, 3) == 0)
        small_ones(1);
    cycle();
}

/* One that needs a whole node, or so many; with a priority above theirs nobody waits before it. */
static void starts_in_time(enum sched_backfill backfill, uint32_t nodes, uint64_t seed, int64_t priority)
{
    begin(backfill, seed);
    small_ones(20);
    cycle();
    for (int i = 0; i < 30; i++)
        one_second();
    uint64_t wide = submit(NODE_CPUS, nodes, 100000, 50000, priority);
    cycle();
    struct estimate_view e;
    assert_true(sched_view_estimate(s, (job_id){ wide }, nodes > 1 ? TASK_ALL : TASK_SINGLE, &e));
    if (started_ms[wide] < 0)
        assert_int_equal(e.none, NO_ESTIMATE_KNOWN);
    int64_t first_ms = e.start_wall_ms - START_MS;
    for (int i = 0; i < 1500 && started_ms[wide] < 0; i++)
        one_second();
    if (started_ms[wide] < 0 || (e.none == NO_ESTIMATE_KNOWN && started_ms[wide] > first_ms + 999)) /* Seconds are looked at. */
        fail_msg("backfill %d, %u nodes, seed %" PRIu64 ": estimated %" PRId64 ", started %" PRId64, (int)backfill, nodes, seed, first_ms, started_ms[wide]);
    sched_free(s);
}

static void test_easy_keeps_the_place_of_the_head(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 100; seed++)
        starts_in_time(BACKFILL_EASY, 1, seed, 1);
}

static void test_conservative_keeps_every_place(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++)
        starts_in_time(BACKFILL_CONSERVATIVE, 1, seed, (int64_t)(seed % 2));
}

static void test_a_gang_of_all_nodes_starts_in_time(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++)
        for (uint32_t nodes = 2; nodes <= NODES; nodes++) {
            starts_in_time(BACKFILL_EASY, nodes, seed, 1);
            starts_in_time(BACKFILL_CONSERVATIVE, nodes, seed, (int64_t)(seed % 2));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_easy_keeps_the_place_of_the_head),
        cmocka_unit_test(test_conservative_keeps_every_place),
        cmocka_unit_test(test_a_gang_of_all_nodes_starts_in_time),
    };
    return cmocka_run_group_tests_name("starve", tests, NULL, NULL);
}
