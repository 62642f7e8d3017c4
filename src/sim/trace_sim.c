#include "sim/trace_sim.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/mem.h"
#include "core/sched/sched_view.h"

#define SLOWDOWN_FLOOR_S 10
#define SESSION 1

struct replayed {
    struct heap_node node;  /* in world.running, by (end, order of start) */
    struct swf_job *job;
    int64_t end_s;
    uint64_t started;       /* order of start */
    struct attempt_ref ref;
    struct mac128 token;
};

struct world {
    struct sched *sched;
    const struct trace_policy *policy;
    struct replayed *jobs; /* index = job id - 1 */
    struct heap running;
    struct replayed **fresh; size_t fresh_count, fresh_cap; /* STARTs of the last step */
    int64_t now_s;
    uint64_t started, waiting;
    struct trace_stats *stats;
};

static bool ends_before(const struct heap_node *a, const struct heap_node *b)
{
    const struct replayed *x = heap_entry(a, struct replayed, node), *y = heap_entry(b, struct replayed, node);
    return x->end_s != y->end_s ? x->end_s < y->end_s : x->started < y->started;
}

static int64_t step(struct world *w, struct sched_event ev, struct sched_result *result)
{
    struct effects fx;
    ev.now_ms = ev.wall_ms = w->now_s * 1000;
    sched_step(w->sched, &ev, &fx, result);
    w->stats->steps++;
    for (size_t i = 0; i < fx.sends_count; i++) {
        const struct message *m = &fx.sends[i].message;
        if (m->kind != MSG_START)
            continue;
        struct replayed *r = &w->jobs[m->start.ref.job.n - 1];
        r->ref = m->start.ref;
        r->token = m->start.token;
        w->fresh = mem_grow(w->fresh, &w->fresh_cap, w->fresh_count + 1, sizeof *w->fresh);
        w->fresh[w->fresh_count++] = r;
    }
    return fx.wake_at_ms;
}

static int64_t say(struct world *w, const struct message *m)
{
    struct sched_event ev = { .kind = SCHED_MESSAGE };
    ev.message.session = SESSION;
    ev.message.message = m;
    return step(w, ev, NULL);
}

/* The executor: whatever was sent starts now. */
static void start_fresh(struct world *w)
{
    for (size_t i = 0; i < w->fresh_count; i++) {
        struct replayed *r = w->fresh[i];
        check(r->job->start_s < 0);
        r->job->start_s = w->now_s;
        r->end_s = w->now_s + r->job->run_s;
        r->started = w->started++;
        heap_push(&w->running, &r->node);
        w->waiting--;
    }
    size_t count = w->fresh_count;
    w->fresh_count = 0;
    for (size_t i = 0; i < count; i++) {
        struct message m = { .kind = MSG_STARTED };
        m.started.ref = w->fresh[i]->ref;
        m.started.token = w->fresh[i]->token;
        say(w, &m);
        check(w->fresh_count == 0); /* Word of a start starts nothing. */
    }
}

static void cycle(struct world *w)
{
    if (w->waiting > w->stats->queue_most)
        w->stats->queue_most = w->waiting;
    int64_t wake_at_ms;
    do { /* Again when it stopped at its bound. */
        wake_at_ms = step(w, (struct sched_event){ .kind = SCHED_TICK }, NULL);
        start_fresh(w);
    } while (wake_at_ms <= w->now_s * 1000);
    w->stats->cycles++;
}

static void finish(struct world *w, struct replayed *r)
{
    struct message m = { .kind = MSG_FINISHED };
    m.finished.ref = r->ref;
    m.finished.token = r->token;
    m.finished.result.run_ms = r->job->run_s * 1000;
    say(w, &m);
}

static void submit(struct world *w, struct replayed *r)
{
    char user[32];
    snprintf(user, sizeof user, "u%" PRId64, r->job->user);
    struct sched_event ev = { .kind = SCHED_SUBMIT };
    ev.submit = (struct job_request){ .user = bytes_str(user), .queue = bytes_str("default"), .lost_after_ms = INT64_MAX / 2,
                                      .time_limit_ms = r->job->estimate_s * 1000 };
    ev.submit.need.v[RES_CPU] = (uint64_t)r->job->procs * 1000;
    struct sched_result result;
    step(w, ev, &result);
    check(result.err.code == ERR_OK && result.job.n == (uint64_t)(r - w->jobs) + 1);
    w->waiting++;
}

/* pyss: what ends by its estimate releases first; then each arrival alone; then each other end alone. */
static void instant_one_by_one(struct world *w, struct replayed **ends, size_t ends_count, struct replayed *arrivals,
                               size_t arrivals_count)
{
    for (size_t i = 0; i < ends_count; i++)
        if (ends[i]->job->start_s + ends[i]->job->estimate_s <= w->now_s)
            finish(w, ends[i]);
    for (size_t i = 0; i < arrivals_count; i++) {
        submit(w, &arrivals[i]);
        cycle(w);
    }
    for (size_t i = 0; i < ends_count; i++) {
        if (ends[i]->job->start_s + ends[i]->job->estimate_s > w->now_s)
            finish(w, ends[i]);
        cycle(w);
    }
}

static void instant(struct world *w, struct replayed **ends, size_t ends_count, struct replayed *arrivals, size_t arrivals_count)
{
    if (w->policy->one_by_one) {
        instant_one_by_one(w, ends, ends_count, arrivals, arrivals_count);
        return;
    }
    for (size_t i = 0; i < ends_count; i++)
        finish(w, ends[i]);
    for (size_t i = 0; i < arrivals_count; i++)
        submit(w, &arrivals[i]);
    cycle(w);
}

static struct sched *brain(const struct trace_policy *policy)
{
    struct sched_config config;
    sched_config_default(&config);
    config.order = policy->order;
    config.backfill = policy->backfill;
    config.backfill_order = policy->backfill_order;
    config.plan_depth = policy->backfill == BACKFILL_CONSERVATIVE ? UINT32_MAX : 0;
    config.plan_slack_ms = 0;
    config.predict = policy->predict;
    config.origin_zero = true;
    config.ahead_max = 0;
    config.ended_max = 0;
    config.jobs_max = UINT64_MAX;
    /* Nothing is ever late here. */
    config.suspect_ms = config.down_ms = config.resend_ms = config.lease_ms = config.grace_start_ms = INT64_MAX / 4;
    return sched_new(&config);
}

static void world_begin(struct world *w, int64_t first_s, int64_t procs)
{
    struct effects fx;
    w->now_s = first_s;
    sched_start(w->sched, 1, "sim", 1, first_s * 1000, first_s * 1000, &fx);
    struct message m = { .kind = MSG_HELLO };
    m.hello.worker = (struct worker_id){ 1, 1 };
    m.hello.incarnation = 1;
    m.hello.name = bytes_str("machine");
    m.hello.boot = m.hello.version = bytes_str("sim");
    m.hello.capacity.v[RES_CPU] = (uint64_t)procs * 1000;
    m.hello.window = UINT32_MAX;
    m.hello.nonce = 1;
    say(w, &m);
}

void trace_sim_run(struct swf_job *jobs, size_t count, int64_t procs, const struct trace_policy *policy, struct trace_stats *stats,
                   void (*progress)(void *arg, size_t ended), void *arg)
{
    *stats = (struct trace_stats){ 0 };
    struct world w = { .sched = brain(policy), .policy = policy, .stats = stats, .jobs = mem_zero(count, sizeof *w.jobs) };
    heap_init(&w.running, ends_before);
    for (size_t i = 0; i < count; i++) {
        heap_node_init(&w.jobs[i].node);
        w.jobs[i].job = &jobs[i];
        jobs[i].start_s = -1;
    }
    if (count)
        world_begin(&w, jobs[0].submit_s, procs);
    struct replayed **ends = NULL;
    size_t arrived = 0, ended = 0, ends_cap = 0;
    while (ended < count) {
        struct heap_node *first = heap_first(&w.running);
        check(first || arrived < count); /* Somebody waits for ever: the machine is large enough for everybody. */
        w.now_s = first ? heap_entry(first, struct replayed, node)->end_s : jobs[arrived].submit_s;
        if (arrived < count && jobs[arrived].submit_s < w.now_s)
            w.now_s = jobs[arrived].submit_s;
        size_t ends_count = 0, arrivals = 0;
        while ((first = heap_first(&w.running)) && heap_entry(first, struct replayed, node)->end_s == w.now_s) {
            heap_remove(&w.running, first);
            ends = mem_grow(ends, &ends_cap, ends_count + 1, sizeof *ends);
            ends[ends_count++] = heap_entry(first, struct replayed, node);
        }
        while (arrived + arrivals < count && jobs[arrived + arrivals].submit_s == w.now_s)
            arrivals++;
        instant(&w, ends, ends_count, w.jobs + arrived, arrivals);
        arrived += arrivals;
        ended += ends_count;
        if (progress)
            progress(arg, ended);
    }
    free(ends);
    free(w.fresh);
    free(w.jobs);
    heap_fini(&w.running);
    sched_free(w.sched);
}

/* --- what came of it --- */

static int by_number(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double rank(const double *sorted, size_t count, double percent)
{
    double place = ceil(percent / 100 * (double)count) - 1;
    return sorted[place > 0 ? (size_t)place : 0];
}

struct change {
    int64_t at_s, procs;
};

static int by_time(const void *a, const void *b)
{
    const struct change *x = a, *y = b;
    if (x->at_s != y->at_s)
        return x->at_s < y->at_s ? -1 : 1;
    return x->procs < y->procs ? -1 : x->procs > y->procs; /* What is given back comes first. */
}

static void check_capacity(const struct swf_job *jobs, size_t count, int64_t procs)
{
    autofree struct change *changes = mem_alloc(count * 2 * sizeof *changes);
    for (size_t i = 0; i < count; i++) {
        check(jobs[i].start_s >= jobs[i].submit_s);
        changes[2 * i] = (struct change){ jobs[i].start_s, jobs[i].procs };
        changes[2 * i + 1] = (struct change){ jobs[i].start_s + jobs[i].run_s, -jobs[i].procs };
    }
    qsort(changes, count * 2, sizeof *changes, by_time);
    int64_t used = 0;
    for (size_t i = 0; i < count * 2; i++) {
        used += changes[i].procs;
        check(used >= 0 && used <= procs);
    }
}

void trace_metrics(const struct swf_job *jobs, size_t count, int64_t procs, struct trace_metrics *out)
{
    *out = (struct trace_metrics){ .jobs = count };
    if (!count)
        return;
    check_capacity(jobs, count, procs);
    autofree double *waits = mem_alloc(count * sizeof *waits), *slowdowns = mem_alloc(count * sizeof *slowdowns);
    int64_t first_s = jobs[0].submit_s, last_s = first_s;
    double work = 0;
    for (size_t i = 0; i < count; i++) {
        const struct swf_job *j = &jobs[i];
        double wait = (double)(j->start_s - j->submit_s), run = (double)j->run_s;
        double slowdown = (wait + run) / (run > SLOWDOWN_FLOOR_S ? run : SLOWDOWN_FLOOR_S);
        waits[i] = wait;
        slowdowns[i] = slowdown > 1 ? slowdown : 1;
        work += run * (double)j->procs;
        first_s = j->submit_s < first_s ? j->submit_s : first_s;
        last_s = j->start_s + j->run_s > last_s ? j->start_s + j->run_s : last_s;
    }
    qsort(waits, count, sizeof *waits, by_number);
    qsort(slowdowns, count, sizeof *slowdowns, by_number);
    double wait_sum = 0, slowdown_sum = 0;
    for (size_t i = 0; i < count; i++) {
        wait_sum += waits[i];
        slowdown_sum += slowdowns[i];
    }
    out->wait_avg_s = wait_sum / (double)count;
    out->wait_p50_s = (int64_t)rank(waits, count, 50);
    out->wait_p95_s = (int64_t)rank(waits, count, 95);
    out->wait_p99_s = (int64_t)rank(waits, count, 99);
    out->wait_max_s = (int64_t)waits[count - 1];
    out->slowdown_avg = slowdown_sum / (double)count;
    out->slowdown_p95 = rank(slowdowns, count, 95);
    out->slowdown_max = slowdowns[count - 1];
    out->makespan_s = last_s - first_s;
    out->utilisation = out->makespan_s ? work / ((double)procs * (double)out->makespan_s) : 0;
}
