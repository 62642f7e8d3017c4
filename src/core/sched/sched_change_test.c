/* sched_change_test.c: random small clusters: what is said of a waiting job is compared with a look at every node, and the change that
 * is said to start it is applied, to a cluster with the same past, and must. ROTA_TEST_STATES says how many clusters. */
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
#define JOBS_MAX 40u
#define GIB (1ull << 30)

struct asked { uint64_t cpu_milli, mem; int64_t limit_ms, priority; bool held; uint32_t user, where, nodes; };
struct world {
    struct sched *s;
    struct prng prng;
    int64_t now_ms, wake_ms;
    uint64_t seed;
    enum sched_backfill backfill;
    struct { struct attempt_ref ref; struct mac128 token; uint64_t session; } open[JOBS_MAX * 4];
    size_t open_count;
    struct asked asked[JOBS_MAX + 2]; /* by id */
    uint32_t zones[8];                /* of the nodes, by number: 0 has none */
    uint64_t jobs;
};

static const char *const users[] = { "ann", "bob" };
static const char *const labels[] = { "", "zone=a", "zone=b" };
static const char *const wheres[] = { "", "zone=a", "zone!=a" };

static bool suits(const struct world *w, uint32_t node, uint32_t where)
{
    return where == 0 || (w->zones[node] == 1) == (where == 1);
}

static struct sched_result step(struct world *w, struct sched_event ev)
{
    struct effects fx;
    struct sched_result result;
    ev.now_ms = w->now_ms;
    ev.wall_ms = START_MS + w->now_ms;
    sched_step(w->s, &ev, &fx, &result);
    w->wake_ms = fx.wake_at_ms;
    for (size_t i = 0; i < fx.sends_count; i++) {
        const struct message *m = &fx.sends[i].message;
        if (m->kind != MSG_START)
            continue;
        /* One that was not submitted yet is only known when the step is over. */
        if (m->start.ref.job.n <= w->jobs && !suits(w, (uint32_t)fx.sends[i].session, w->asked[m->start.ref.job.n].where))
            fail_msg("seed %" PRIu64 ": job %" PRIu64 " is sent where it may not run", w->seed, m->start.ref.job.n);
        w->open[w->open_count].ref = m->start.ref;
        w->open[w->open_count].session = fx.sends[i].session;
        w->open[w->open_count++].token = m->start.token;
    }
    return result;
}

static void say(struct world *w, uint64_t session, const struct message *m)
{
    struct sched_event ev = { .kind = SCHED_MESSAGE };
    ev.message.session = session;
    ev.message.message = m;
    step(w, ev);
}

static void settle(struct world *w)
{
    do
        step(w, (struct sched_event){ .kind = SCHED_TICK });
    while (w->wake_ms <= w->now_ms);
}

static uint64_t below(struct world *w, uint64_t n) { return prng_below(&w->prng, n); }

static uint64_t submit(struct world *w, const struct asked *a)
{
    struct sched_event ev = { .kind = SCHED_SUBMIT };
    ev.submit = (struct job_request){ .user = bytes_str(users[a->user]), .queue = bytes_str("default"), .priority = a->priority,
                                      .nodes = a->nodes, .time_limit_ms = a->limit_ms, .held = a->held, .where = bytes_str(wheres[a->where]) };
    ev.submit.need.v[RES_CPU] = a->cpu_milli;
    ev.submit.need.v[RES_MEM] = a->mem;
    struct sched_result result = step(w, ev);
    assert_int_equal(result.err.code, ERR_OK);
    w->asked[result.job.n] = *a;
    w->jobs = result.job.n;
    return result.job.n;
}

static void node_joins(struct world *w, uint32_t number)
{
    char name[8];
    snprintf(name, sizeof name, "n%u", number);
    struct message m = { .kind = MSG_HELLO };
    m.hello.worker = (struct worker_id){ 1, number };
    m.hello.incarnation = 1;
    m.hello.name = bytes_str(name);
    m.hello.boot = m.hello.version = bytes_str("b");
    w->zones[number] = w->seed % 2 ? (uint32_t)below(w, 3) : 0;
    m.hello.labels = bytes_str(labels[w->zones[number]]);
    m.hello.capacity.v[RES_CPU] = 1000 * (1 + below(w, 8));
    m.hello.capacity.v[RES_MEM] = GIB * (1 + below(w, 8));
    m.hello.window = UINT32_MAX;
    m.hello.nonce = 1;
    say(w, number, &m);
}

static void limit_running(struct world *w, uint32_t user, uint64_t most)
{
    struct party_settings set;
    party_settings_default(&set);
    set.limits.most[LIMIT_RUNNING] = most;
    struct sched_event ev = { .kind = SCHED_SET };
    ev.set.kind = PARTY_USER;
    ev.set.name = bytes_str(users[user]);
    ev.set.actor = bytes_str("root");
    ev.set.settings = &set;
    assert_int_equal(step(w, ev).err.code, ERR_OK);
}

static void finish_one(struct world *w)
{
    size_t i = below(w, w->open_count);
    struct message m = { .kind = MSG_FINISHED };
    m.finished.ref = w->open[i].ref;
    m.finished.token = w->open[i].token;
    m.finished.result.run_ms = 1000;
    uint64_t session = w->open[i].session;
    w->open[i] = w->open[--w->open_count];
    say(w, session, &m);
}

static void some_time(struct world *w)
{
    switch (below(w, 8)) {
    case 0: w->now_ms += (int64_t)below(w, 100000); break;
    case 1:
    case 2:
        if (w->open_count)
            finish_one(w);
        break;
    case 3: limit_running(w, (uint32_t)below(w, 2), 1 + below(w, 4)); break;
    default: {
        struct asked a = { .cpu_milli = 500 * (1 + below(w, 16)), .mem = GIB / 2 * (1 + below(w, 16)), .user = (uint32_t)below(w, 2),
                           .priority = below(w, 4) ? 0 : (int64_t)below(w, 3), .held = below(w, 12) == 0,
                           .limit_ms = below(w, 4) ? 1000 * (int64_t)(1 + below(w, 600)) : 0 };
        a.nodes = below(w, 6) ? 1 : 2 + (uint32_t)below(w, 2);
        if (w->seed % 2)
            a.where = below(w, 2) ? (uint32_t)below(w, 3) : 0;
        if (w->jobs < JOBS_MAX)
            submit(w, &a);
    }
    }
    settle(w);
}

/* The same seed gives the same cluster. */
static void world_make(struct world *w, uint64_t seed)
{
    struct effects fx;
    *w = (struct world){ .seed = seed };
    prng_seed(&w->prng, seed);
    struct sched_config config;
    sched_config_default(&config);
    config.backfill = (enum sched_backfill)below(w, BACKFILLS);
    w->backfill = config.backfill;
    config.order = below(w, 2) ? ORDER_PRIORITY : ORDER_FIFO;
    config.place = (enum sched_place)below(w, 2);
    config.ahead_max = 0;
    config.suspect_ms = config.down_ms = config.resend_ms = config.lease_ms = config.grace_start_ms = INT64_MAX / 4;
    w->s = sched_new(&config);
    sched_start(w->s, 1, "test", 1, w->now_ms, START_MS, &fx);
    uint32_t nodes = 1 + (uint32_t)below(w, 4);
    for (uint32_t i = 1; i <= nodes; i++)
        node_joins(w, i);
    size_t steps = 5 + below(w, 30);
    for (size_t i = 0; i < steps; i++)
        some_time(w);
    sched_check(w->s);
}

static enum job_state state_of(struct world *w, uint64_t job)
{
    struct job_view v;
    assert_true(sched_view_job(w->s, (job_id){ job }, &v));
    return v.state;
}

/* --- what is said of nodes --- */

static void nodes_are_right(struct world *w, uint64_t job, const struct why_report *r)
{
    const struct asked *a = &w->asked[job];
    uint32_t refused[2] = { 0 }, fit = 0, large = 0, unsuited = 0;
    for (uint32_t i = 1; i <= sched_view_nodes(w->s); i++) {
        struct node_view n;
        sched_view_node(w->s, (node_id){ i }, &n);
        if (!suits(w, i, a->where)) {
            unsuited++;
            continue;
        }
        bool cpu = n.allocated.v[RES_CPU] + a->cpu_milli > n.capacity.v[RES_CPU];
        bool mem = n.allocated.v[RES_MEM] + a->mem > n.capacity.v[RES_MEM];
        refused[0] += cpu;
        refused[1] += mem;
        fit += !cpu && !mem;
        large += a->cpu_milli <= n.capacity.v[RES_CPU] && a->mem <= n.capacity.v[RES_MEM];
    }
    assert_int_equal(r->nodes_unsuited, unsuited);
    uint32_t told[2] = { 0 };
    for (size_t i = 0; i < r->dims_count; i++)
        told[strcmp(r->dims[i].name, "cpus") != 0] = r->dims[i].nodes_refused;
    assert_int_equal(told[0], refused[0]);
    assert_int_equal(told[1], refused[1]);
    bool resources = false, too_big = false, held = false;
    assert_int_equal(r->nodes_asked, a->nodes);
    assert_int_equal(r->nodes_now, fit);
    assert_int_equal(r->nodes_ever, large);
    for (size_t i = 0; i < r->all_count; i++) {
        resources |= r->all[i] == (a->nodes > 1 ? WHY_GANG : WHY_RESOURCES);
        too_big |= r->all[i] == (a->nodes > 1 ? WHY_TOO_FEW : WHY_TOO_BIG);
        held |= r->all[i] == WHY_HELD;
    }
    assert_true(resources == (large >= a->nodes && fit < a->nodes));
    assert_true(too_big == (large < a->nodes));
    assert_true(held == a->held);
}

/* --- the change --- */

static void apply(struct world *w, uint64_t job, const struct why_report *r, uint64_t *starts)
{
    const struct why_change *c = &r->change;
    struct asked less = w->asked[job];
    *starts = job;
    if (c->raise) {
        for (size_t i = 0; i < r->limits_count; i++) {
            assert_int_equal(r->limits[i].kind, PARTY_USER);
            limit_running(w, w->asked[job].user, r->limits[i].used + r->limits[i].asked);
        }
    }
    if (c->release)
        step(w, (struct sched_event){ .kind = SCHED_RELEASE, .cancel = { .job = { job }, .task = TASK_ALL, .actor = bytes_str("root") } });
    if (c->kind == CHANGE_PRIORITY)
        step(w, (struct sched_event){ .kind = SCHED_UPDATE, .update = { { job }, c->priority } });
    less.held = false;
    if (c->time_limit_ms)
        less.limit_ms = c->time_limit_ms;
    if (c->kind == CHANGE_LESS)
        less.cpu_milli = c->need.v[RES_CPU], less.mem = c->need.v[RES_MEM];
    if (c->kind == CHANGE_NODES)
        less.nodes = c->nodes;
    if (c->kind == CHANGE_TIME || c->kind == CHANGE_LESS || c->kind == CHANGE_NODES)
        *starts = submit(w, &less);
    settle(w);
}

static void change_starts_it(uint64_t seed, uint64_t job, const struct why_report *told)
{
    struct world w;
    uint64_t starts;
    struct why_report r;
    world_make(&w, seed);
    assert_true(sched_view_why(w.s, (job_id){ job }, TASK_ALL, &r));
    assert_int_equal(r.change.kind, told->change.kind);
    apply(&w, job, &r, &starts);
    if (state_of(&w, starts) != JOB_DISPATCHED)
        fail_msg("backfill %d, seed %" PRIu64 " job %" PRIu64 ": change %d (release %d, raise %d) does not start it", (int)w.backfill, seed, job, (int)r.change.kind,
                 r.change.release, r.change.raise);
    sched_free(w.s);
}

static size_t changes[CHANGE_NODES + 1];

static void one_state(uint64_t seed)
{
    struct world w;
    world_make(&w, seed);
    uint64_t waiting[JOBS_MAX], count = 0;
    for (uint64_t job = 1; job <= w.jobs; job++) {
        enum job_state state = state_of(&w, job);
        if (state != JOB_QUEUED && state != JOB_HELD)
            continue;
        struct why_report r;
        assert_true(sched_view_why(w.s, (job_id){ job }, TASK_ALL, &r));
        nodes_are_right(&w, job, &r);
        waiting[count++] = job;
    }
    if (count) {
        uint64_t job = waiting[below(&w, count)];
        struct why_report r;
        sched_view_why(w.s, (job_id){ job }, TASK_ALL, &r);
        changes[r.change.kind]++;
        if (r.change.kind != CHANGE_NONE)
            change_starts_it(seed, job, &r);
    }
    sched_free(w.s);
}

static void test_the_change_starts_it(void **state)
{
    (void)state;
    const char *wanted = getenv("ROTA_TEST_STATES");
    uint64_t states = wanted ? strtoull(wanted, NULL, 10) : 2000;
    for (uint64_t seed = 1; seed <= states; seed++)
        one_state(seed);
    print_message("# %" PRIu64 " states: no change %zu, allow %zu, priority %zu, time %zu, less %zu, nodes %zu\n", states, changes[CHANGE_NONE],
                  changes[CHANGE_ALLOW], changes[CHANGE_PRIORITY], changes[CHANGE_TIME], changes[CHANGE_LESS], changes[CHANGE_NODES]);
    for (enum change_kind kind = CHANGE_ALLOW; kind <= CHANGE_NODES; kind++)
        assert_true(changes[kind] > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_the_change_starts_it) };
    return cmocka_run_group_tests_name("sched_change", tests, NULL, NULL);
}
