/* master_usage.c: what jobs used: samples of attempts from their workers to the store, and GET /v1/jobs/{id}/usage. */
#include <inttypes.h>

#include "base/mem.h"
#include "base/parse.h"
#include "master/master_int.h"
#include "obs/log.h"

#define USAGE_ATTEMPTS_MAX 5000u
#define LARGEST_NODE_MS 1000
#define SIZING_START_BYTES (UINT64_C(1) << 30) /* of mem_auto, while nothing is known */

/* --- from workers to the store --- */

/* Whether the attempt is open and on the node that this session is of: a worker speaks for its own attempts only. */
static bool speaks_for(struct master *m, uint64_t session, struct attempt_ref ref)
{
    struct task_view t;
    struct node_view node;
    return sched_view_task(m->sched, ref.job, ref.task, &t) && t.attempt == ref.attempt && t.node.n &&
           sched_view_node(m->sched, t.node, &node) && node.session == session;
}

void usage_heard(struct master *m, uint64_t session, const struct message *msg)
{
    if (!speaks_for(m, session, msg->usage.ref))
        return;
    if (!live_usage_note(m->usage, msg->usage.ref, msg->usage.series))
        metric_add_label(M_BUS_DROPPED, "corrupt", 1);
}

void note_heard(struct master *m, uint64_t session, const struct message *msg)
{
    struct bytes text = msg->note.text;
    if (!speaks_for(m, session, msg->note.ref))
        return;
    if (text.size && !parse_name_ok(text, WIRE_TEXT_MAX))
        metric_add_label(M_BUS_DROPPED, "corrupt", 1);
    else
        live_usage_say(m->usage, msg->note.ref, text);
}

static void keep(struct master *m, struct attempt_ref ref)
{
    const struct usage_series *s = live_usage_find(m->usage, ref);
    if (!s)
        return;
    struct ride *ride = master_ride(m);
    autobuf struct buf encoded = BUF_INIT;
    usage_encode(&encoded, s->points, s->count);
    ride->tails = mem_grow(ride->tails, &ride->tails_cap, ride->tails_count + 1, sizeof *ride->tails);
    ride->tails[ride->tails_count++] =
        (struct store_tail){ ref, { 0 }, { 0 }, arena_bytes(&ride->arena, buf_bytes(&encoded)) };
    ride->bytes += encoded.size;
    live_usage_drop(m->usage, ref);
}

void usage_learn(struct master *m, const struct effects *fx)
{
    for (size_t i = 0; i < fx->records_count; i++) {
        const struct record *r = &fx->records[i];
        if (r->kind == EV_ENDED)
            keep(m, (struct attempt_ref){ { r->ended.job }, r->ended.task, r->ended.attempt });
        else if (r->kind == EV_STARTED)
            live_usage_say(m->usage, (struct attempt_ref){ { r->started.job }, r->started.task, r->started.attempt }, bytes_of(NULL, 0));
        else if (r->kind == EV_REVOKED)
            live_usage_drop(m->usage, (struct attempt_ref){ { r->revoked.job }, r->revoked.task, r->revoked.attempt });
    }
}

/* --- what would suit jobs of the same name --- */

void sizing_learn(struct master *m, const struct record *r)
{
    struct job_view v;
    if (r->kind != EV_ENDED || !r->ended.rss_max_bytes || (r->ended.reason != REASON_NONE && r->ended.reason != REASON_OOM) ||
        !sched_view_job(m->sched, (job_id){ r->ended.job }, &v))
        return;
    struct sizing_run run = { .oom = r->ended.reason == REASON_OOM,
                              .mem_max_bytes = r->ended.rss_max_bytes,
                              /* One that may ask for more does so by now: it had what it used up. */
                              .mem_asked_bytes = v.mem_max_bytes && r->ended.reason == REASON_OOM ? r->ended.rss_max_bytes : v.need.v[RES_MEM],
                              .cpu_ms = r->ended.cpu_ms,
                              .run_ms = r->ended.run_ms };
    sizing_add(m->sizing, v.user, v.name, &run);
}

/* Looked for once a second: there may be 10,000. 0: there is none. */
static uint64_t largest_node(struct master *m)
{
    if (master_now_ms(m) < m->largest_node.until_ms)
        return m->largest_node.mem_bytes;
    m->largest_node.until_ms = m->now_ms + LARGEST_NODE_MS;
    m->largest_node.mem_bytes = 0;
    struct node_view v;
    for (uint32_t id = 1; id <= sched_view_nodes(m->sched); id++)
        if (sched_view_node(m->sched, (node_id){ id }, &v) && v.state != NODE_DOWN &&
            v.capacity.v[RES_MEM] > m->largest_node.mem_bytes)
            m->largest_node.mem_bytes = v.capacity.v[RES_MEM];
    return m->largest_node.mem_bytes;
}

uint64_t sizing_memory(struct master *m, struct bytes user, struct bytes name, uint64_t start_bytes, uint32_t *runs)
{
    struct sizing_advice a;
    *runs = 0;
    if (!sizing_find(m->sizing, user, name, &a))
        return start_bytes ? start_bytes : SIZING_START_BYTES;
    *runs = a.runs;
    uint64_t most = largest_node(m);
    return most && most < a.mem_bytes ? most : a.mem_bytes;
}

void sizing_json(struct master *m, struct json_out *j, const char *key, const struct job_view *v)
{
    struct sizing_advice a;
    if (!sizing_find(m->sizing, v->user, v->name, &a)) {
        json_null(j, key);
        return;
    }
    json_open(j, key, '{');
    json_u64(j, "runs", a.runs);
    json_u64(j, "ooms", a.ooms);
    json_u64(j, "mem_max_bytes", a.mem_max_bytes);
    json_u64(j, "mem_bytes", a.mem_bytes);
    if (a.cpu_milli) {
        json_num(j, "cpus_max", (double)a.cpu_max_milli / 1000, 3);
        json_num(j, "cpus", (double)a.cpu_milli / 1000, 3);
    } else {
        json_null(j, "cpus_max");
        json_null(j, "cpus");
    }
    json_close(j, '}');
}

/* --- the API --- */

struct usage {
    uint64_t attempts, cpu_ms, rss_max_bytes, stdout_bytes, stderr_bytes;
    int64_t run_ms;
    uint32_t task, wanted;           /* attempt whose samples are asked for; 0: the last */
    struct attempt_ref sampled;      /* attempt 0: none */
    int64_t sampled_start_wall_ms;
};

static void add_usage(void *arg, const struct store_attempt *a)
{
    struct usage *u = arg;
    if (u->task != TASK_ALL && a->ref.task != u->task)
        return;
    u->attempts++;
    u->cpu_ms += a->cpu_ms;
    u->run_ms += a->run_ms;
    u->stdout_bytes += a->stdout_bytes;
    u->stderr_bytes += a->stderr_bytes;
    if (a->rss_max_bytes > u->rss_max_bytes)
        u->rss_max_bytes = a->rss_max_bytes;
    if (u->task != TASK_ALL && (!u->wanted || a->ref.attempt == u->wanted)) {
        u->sampled = a->ref;
        u->sampled_start_wall_ms = a->started_wall_ms;
    }
}

struct now {
    uint32_t task;
    uint64_t attempts, mem_bytes, mem_max_bytes, processes;
    double cpus;
};

/* CPUs in use between the last two points, or from the start to the first. */
static double cpus_now(const struct usage_series *s)
{
    const struct usage_point *p = &s->points[s->count - 1], *before = s->count > 1 ? p - 1 : NULL;
    int64_t ms = p->at_ms - (before ? before->at_ms : 0);
    return ms > 0 ? (double)(p->cpu_ms - (before ? before->cpu_ms : 0)) / (double)ms : 0;
}

static void add_now(void *arg, struct attempt_ref ref, const struct usage_series *s)
{
    struct now *n = arg;
    if (n->task != TASK_ALL && ref.task != n->task)
        return;
    uint64_t peak = usage_series_peak(s);
    n->attempts++;
    n->mem_bytes += s->points[s->count - 1].mem_bytes;
    n->processes += s->points[s->count - 1].processes;
    n->cpus += cpus_now(s);
    if (peak > n->mem_max_bytes)
        n->mem_max_bytes = peak;
}

static void points_json(struct json_out *j, const struct usage_point *points, size_t count)
{
    json_open(j, "points", '[');
    for (size_t i = 0; i < count; i++) {
        json_open(j, NULL, '{');
        json_num(j, "at_s", (double)points[i].at_ms / 1000, 3);
        json_num(j, "cpu_s", (double)points[i].cpu_ms / 1000, 3);
        json_u64(j, "mem_bytes", points[i].mem_bytes);
        json_u64(j, "mem_max_bytes", points[i].mem_max_bytes);
        json_u64(j, "read_bytes", points[i].read_bytes);
        json_u64(j, "written_bytes", points[i].written_bytes);
        json_u64(j, "processes", points[i].processes);
        json_close(j, '}');
    }
    json_close(j, ']');
}

/* Of the attempt that runs from memory, of one that has ended from the store. */
static int samples_json(struct master *m, struct json_out *j, const struct usage *u, struct err *err)
{
    const struct usage_series *s = u->sampled.attempt ? live_usage_find(m->usage, u->sampled) : NULL;
    struct usage_point *points = s ? s->points : NULL;
    size_t count = s ? s->count : 0;
    if (u->sampled.attempt && !s) {
        autobuf struct buf encoded = BUF_INIT;
        int rc = m->store->ops->usage(m->store, u->sampled, &encoded, err);
        if (rc < 0 && rc != -(int)ERR_NOT_FOUND)
            return rc;
        points = arena_alloc(&m->turn, USAGE_POINTS_MAX * sizeof *points);
        if (rc == 0 && !usage_decode(buf_bytes(&encoded), points, &count))
            return err_set(err, ERR_CORRUPT, "the samples of job %" PRIu64 " cannot be read", u->sampled.job.n);
    }
    if (!count) {
        json_null(j, "samples");
        return 0;
    }
    json_open(j, "samples", '{');
    json_u64(j, "attempt", u->sampled.attempt);
    json_time(j, "started_at", u->sampled_start_wall_ms);
    points_json(j, points, count);
    json_close(j, '}');
    return 0;
}

static void now_json(struct master *m, struct json_out *j, job_id job, struct usage *u)
{
    struct now n = { .task = u->task };
    live_usage_each(m->usage, job, add_now, &n);
    if (n.mem_max_bytes > u->rss_max_bytes)
        u->rss_max_bytes = n.mem_max_bytes;
    if (!n.attempts) {
        json_null(j, "now");
        return;
    }
    json_open(j, "now", '{');
    json_u64(j, "attempts", n.attempts);
    json_num(j, "cpus", n.cpus, 3);
    json_u64(j, "mem_bytes", n.mem_bytes);
    json_u64(j, "processes", n.processes);
    json_close(j, '}');
}

void api_job_usage(struct exchange *x)
{
    job_id job;
    struct usage u = { 0 };
    struct job_view v;
    struct err err;
    uint64_t wanted;
    if (job_ref_parse(x, &job, &u.task, &v, &err) < 0 ||
        exchange_query_u64(x, "attempt", 1, UINT32_MAX, 0, &wanted, &err) < 0) {
        exchange_error(x, &err);
        return;
    }
    u.wanted = (uint32_t)wanted;
    if (x->m->store->ops->attempts(x->m->store, (struct attempt_ref){ job, u.task, 1 }, USAGE_ATTEMPTS_MAX, add_usage,
                                   &u, &err) < 0) {
        exchange_error(x, &err);
        return;
    }
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    json_u64(&j, "id", job.n);
    json_open(&j, "requested", '{');
    resources_json(x->m, &j, &v.need);
    json_seconds(&j, "time_limit_s", v.time_limit_ms);
    json_close(&j, '}');
    json_u64(&j, "attempts", u.attempts);
    json_num(&j, "run_s", (double)u.run_ms / 1000, 3);
    json_num(&j, "cpu_s", (double)u.cpu_ms / 1000, 3);
    now_json(x->m, &j, job, &u);
    json_u64(&j, "rss_max_bytes", u.rss_max_bytes);
    json_u64(&j, "stdout_bytes", u.stdout_bytes);
    json_u64(&j, "stderr_bytes", u.stderr_bytes);
    json_bool(&j, "cut", u.attempts >= USAGE_ATTEMPTS_MAX);
    if (samples_json(x->m, &j, &u, &err) < 0) {
        buf_clear(&x->answer);
        exchange_error(x, &err);
        return;
    }
    json_close(&j, '}');
    exchange_json(x, 200);
}
