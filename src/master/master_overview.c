/* master_overview.c: what the dashboard shows of the whole: what waits and why, the last hour, what ran where, what
 * failed. */
#include <inttypes.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/parse.h"
#include "io/clock.h"
#include "master/master_int.h"
#include "master/signature.h"
#include "obs/log.h"

#define PENDING_MS 1000
#define PENDING_QUEUES_MAX 1000u
#define REMEMBERED_RECORDS 60000u /* of the end of the journal, read at start: a few tens of milliseconds */
#define GANTT_SECONDS 3600u
#define GANTT_LIMIT 5000u
#define GANTT_LIMIT_MAX 20000u
#define FAILURES_LIMIT 200u
#define FAILURES_LIMIT_MAX 1000u
#define FAILURES_TURN_NS 8000000
#define FAILED_TASKS_MAX 1000u /* shown of one array */
#define NODE_RUNS_LIMIT 200u
#define NODE_RUNS_LIMIT_MAX 2000u

/* --- what waits --- */

/* Made once a second however many dashboards are open: it costs by shapes and by pages of jobs. */
static void pending_json(struct master *m, struct buf *out)
{
    size_t count = sched_view_queues(m->sched);
    struct queue_view *queues = arena_alloc(&m->turn, (count + 1) * sizeof *queues);
    sched_view_queue_counts(m->sched, queues);
    struct json_out j = json_out_to(out);
    json_open(&j, NULL, '{');
    json_open(&j, "reasons", '[');
    for (int why = WHY_NOTHING + 1; why < WHYS; why++) {
        uint64_t tasks = 0;
        for (size_t q = 0; q < count; q++)
            tasks += queues[q].waiting[why];
        if (!tasks)
            continue;
        json_open(&j, NULL, '{');
        json_cstr(&j, "reason", why_name((enum why)why));
        json_cstr(&j, "text", why_text((enum why)why));
        json_u64(&j, "tasks", tasks);
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_open(&j, "queues", '[');
    for (size_t q = 0; q < count && q < PENDING_QUEUES_MAX; q++) {
        json_open(&j, NULL, '{');
        json_str(&j, "name", queues[q].name);
        json_open(&j, "waiting", '{');
        for (int why = WHY_NOTHING + 1; why < WHYS; why++)
            if (queues[q].waiting[why])
                json_u64(&j, why_name((enum why)why), queues[q].waiting[why]);
        json_close(&j, '}');
        json_num(&j, "oldest_wait_s", (double)queues[q].oldest_wait_ms / 1000, 3);
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_close(&j, '}');
}

void api_pending(struct exchange *x)
{
    struct master *m = x->m;
    if (!m->pending.size || master_now_ms(m) >= m->pending_until_ms) {
        buf_clear(&m->pending);
        pending_json(m, &m->pending);
        m->pending_until_ms = master_now_ms(m) + PENDING_MS;
    }
    buf_add(&x->answer, m->pending.data, m->pending.size);
    exchange_json(x, 200);
}

/* --- the last hour --- */

static void recent_learn(struct master *m, const struct record *r)
{
    uint64_t first = 0; /* the job, of its first attempt */
    if (r->kind == EV_STARTED && r->started.attempt == 1)
        first = r->started.job;
    else if (r->kind == EV_ENDED && r->ended.attempt == 1)
        first = r->ended.job;
    int64_t eligible_wall_ms = 0;
    struct job_view v;
    if (first && sched_view_job(m->sched, (job_id){ first }, &v))
        eligible_wall_ms = v.begin_wall_ms > v.submit_wall_ms ? v.begin_wall_ms : v.submit_wall_ms;
    recent_add(m->recent, r, eligible_wall_ms);
}

void records_learn(struct master *m, const struct record *r)
{
    recent_learn(m, r);
    sizing_learn(m, r);
}

static int learn_again(void *arg, const struct record *r, struct err *err)
{
    (void)err;
    records_learn(arg, r);
    return 0;
}

void records_remember(struct master *m)
{
    struct err err;
    uint64_t last = m->meta.last_seq;
    uint64_t from = last > REMEMBERED_RECORDS ? last - REMEMBERED_RECORDS + 1 : 1;
    if (last && m->store->ops->replay(m->store, from, last - from + 1, learn_again, m, &err) < 0)
        log_warn("the last hour and the use of jobs of the same name are not known: %s", err.text);
}

static void wait_json(struct json_out *j, const char *key, const struct recent_minute *minute, double share)
{
    int64_t wait_ms = minute ? recent_wait_ms(minute, share) : -1;
    if (wait_ms < 0)
        json_null(j, key);
    else
        json_num(j, key, (double)wait_ms / 1000, 3);
}

void api_history(struct exchange *x)
{
    static const struct recent_minute nothing;
    struct master *m = x->m;
    master_now_ms(m);
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    json_open(&j, "minutes", '[');
    for (uint32_t ago = RECENT_MINUTES; ago-- > 0;) {
        const struct recent_minute *found = recent_minute(m->recent, m->wall_ms, ago);
        const struct recent_minute *minute = found ? found : &nothing;
        json_open(&j, NULL, '{');
        json_time(&j, "at", (m->wall_ms / 60000 - ago) * 60000);
        json_u64(&j, "submitted", minute->submitted);
        json_u64(&j, "started", minute->started);
        json_u64(&j, "succeeded", minute->succeeded);
        json_u64(&j, "failed", minute->failed);
        json_u64(&j, "cancelled", minute->cancelled);
        json_u64(&j, "retried", minute->retried);
        wait_json(&j, "wait_p50_s", found, 0.5);
        wait_json(&j, "wait_p90_s", found, 0.9);
        wait_json(&j, "wait_p99_s", found, 0.99);
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_close(&j, '}');
    exchange_json(x, 200);
}

/* --- what runs and ran where --- */

/* The index that users see of a task; null for a job that is no array. */
static void index_json(struct master *m, struct json_out *j, struct attempt_ref ref)
{
    struct job_view v;
    if (ref.task == TASK_SINGLE)
        json_null(j, "task");
    else if (sched_view_job(m->sched, ref.job, &v))
        json_u64(j, "task", v.first + ref.task * v.step);
    else
        json_u64(j, "task", ref.task);
}

static void run_json(struct master *m, struct json_out *j, node_id node, const struct run_view *r)
{
    json_open(j, NULL, '{');
    json_u64(j, "job", r->ref.job.n);
    index_json(m, j, r->ref);
    json_u64(j, "attempt", r->ref.attempt);
    json_cstr(j, "node", node_name_text(m, node.n));
    json_time(j, "started_at", r->start_wall_ms);
    json_null(j, "ended_at");
    json_cstr(j, "state", job_state_name(r->state));
    json_null(j, "reason");
    json_close(j, '}');
}

static void ended_json(struct master *m, struct json_out *j, const struct recent_attempt *a)
{
    json_open(j, NULL, '{');
    json_u64(j, "job", a->ref.job.n);
    index_json(m, j, a->ref);
    json_u64(j, "attempt", a->ref.attempt);
    json_cstr(j, "node", node_name_text(m, a->node.n));
    json_time(j, "started_at", a->start_wall_ms);
    json_time(j, "ended_at", a->end_wall_ms);
    json_cstr(j, "state", job_state_name(a->final == JOB_NONE ? JOB_RETRY_WAIT : a->final));
    json_cstr(j, "reason", a->reason ? reason_name(a->reason) : NULL);
    json_close(j, '}');
}

void api_gantt(struct exchange *x)
{
    struct master *m = x->m;
    uint64_t since_s, limit;
    struct err err;
    if (exchange_query_u64(x, "since_s", 1, 86400, GANTT_SECONDS, &since_s, &err) < 0 ||
        exchange_query_u64(x, "limit", 1, GANTT_LIMIT_MAX, GANTT_LIMIT, &limit, &err) < 0) {
        exchange_error(x, &err);
        return;
    }
    master_now_ms(m);
    int64_t from_wall_ms = m->wall_ms - (int64_t)since_s * 1000;
    struct run_view *runs = arena_alloc(&m->turn, limit * sizeof *runs);
    uint64_t left = limit;
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    json_time(&j, "from", from_wall_ms);
    json_time(&j, "now", m->wall_ms);
    json_open(&j, "spans", '[');
    size_t nodes = sched_view_nodes(m->sched);
    for (uint32_t id = 1; id <= nodes && left; id++) {
        size_t count = sched_view_runs(m->sched, (node_id){ id }, runs, left);
        for (size_t i = 0; i < count; i++)
            if (runs[i].start_wall_ms)
                run_json(m, &j, (node_id){ id }, &runs[i]);
        left -= count;
    }
    const struct recent_attempt *a = NULL;
    for (size_t i = 0; left && (a = recent_attempt(m->recent, i)) && a->end_wall_ms >= from_wall_ms; i++, left--)
        ended_json(m, &j, a);
    json_close(&j, ']');
    json_bool(&j, "cut", left == 0);
    json_close(&j, '}');
    exchange_json(x, 200);
}

void api_node_attempts(struct exchange *x)
{
    struct master *m = x->m;
    uint64_t limit;
    struct err err;
    node_id node = sched_view_node_named(m->sched, bytes_str(x->arg));
    if (!node.n) {
        err_field(&err, ERR_NOT_FOUND, "name", "rota nodes shows the nodes there are", "there is no node \"%.64s\"",
                  x->arg);
        exchange_error(x, &err);
        return;
    }
    if (exchange_query_u64(x, "limit", 1, NODE_RUNS_LIMIT_MAX, NODE_RUNS_LIMIT, &limit, &err) < 0) {
        exchange_error(x, &err);
        return;
    }
    struct run_view *runs = arena_alloc(&m->turn, (limit + 1) * sizeof *runs);
    size_t count = sched_view_runs(m->sched, node, runs, limit + 1);
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    json_open(&j, "attempts", '[');
    for (size_t i = 0; i < count && i < limit; i++)
        run_json(m, &j, node, &runs[i]);
    json_close(&j, ']');
    json_bool(&j, "cut", count > limit);
    json_close(&j, '}');
    exchange_json(x, 200);
}

/* --- what failed --- */

/* What it said last, on standard error or else on standard output, and what of that is the same in others. */
static void message_json(struct master *m, struct json_out *j, struct attempt_ref ref)
{
    autobuf struct buf out = BUF_INIT;
    autobuf struct buf errs = BUF_INIT;
    autobuf struct buf alike = BUF_INIT;
    struct err err;
    struct bytes line = bytes_of("", 0);
    if (ref.attempt && m->store->ops->tails(m->store, ref, &out, &errs, &err) == 0) {
        line = last_line(buf_bytes(&errs));
        if (!line.size)
            line = last_line(buf_bytes(&out));
    }
    signature_of(line, &alike);
    json_str(j, "message", line);
    json_str(j, "signature", alike.size ? buf_bytes(&alike) : bytes_str(""));
}

struct last_attempt {
    node_id node;
    int64_t ended_wall_ms;
};

static void take_last(void *arg, const struct store_attempt *a)
{
    *(struct last_attempt *)arg = (struct last_attempt){ a->node, a->ended_wall_ms };
}

static void failure_json(struct master *m, struct json_out *j, const struct job_view *v, const struct task_view *t)
{
    struct last_attempt last = { .ended_wall_ms = v->end_wall_ms };
    struct attempt_ref ref = { v->id, t->task, t->attempt };
    struct err err;
    if (t->attempt) /* when it can not be read, the place stays unknown: what failed is told all the same */
        (void)m->store->ops->attempts(m->store, ref, 1, take_last, &last, &err);
    char id[48];
    if (v->array)
        snprintf(id, sizeof id, "%" PRIu64 "_%u", v->id.n, t->index);
    else
        snprintf(id, sizeof id, "%" PRIu64, v->id.n);
    json_open(j, NULL, '{');
    json_cstr(j, "id", id);
    json_u64(j, "job", v->id.n);
    json_bytes(j, "name", v->name);
    json_str(j, "user", v->user);
    json_u64(j, "attempts", t->attempt);
    json_cstr(j, "node", node_name_text(m, last.node.n));
    json_cstr(j, "reason", t->reason ? reason_name(t->reason) : NULL);
    bool exited = !t->signal && (t->reason == REASON_NONE || t->reason == REASON_EXIT);
    if (exited)
        json_u64(j, "exit_code", t->exit_code);
    else
        json_null(j, "exit_code");
    if (t->signal)
        json_u64(j, "signal", t->signal);
    else
        json_null(j, "signal");
    json_time(j, "ended_at", last.ended_wall_ms);
    message_json(m, j, ref);
    json_close(j, '}');
}

/* Where a page begins and ends: before a job, and within it from the position of a task on. */
struct failures_at {
    uint64_t job;
    uint32_t task;
};

static int failures_cursor(struct exchange *x, struct failures_at *at, struct err *err)
{
    const char *text = http_query(x->r, "cursor");
    char rest;
    *at = (struct failures_at){ 0 };
    if (!text || (sscanf(text, "%" SCNu64 ".%" SCNu32 "%c", &at->job, &at->task, &rest) == 2 && at->job))
        return 0;
    return err_field(err, ERR_INVALID, "cursor", "take the value of \"next\" as it is",
                     "this cursor is not one of ours");
}

struct failures {
    struct master *m;
    struct json_out j;
    uint64_t limit, count;
    int64_t until_ns;
};

/* True: the page is full; *from is where to go on. */
static bool failures_of(struct failures *f, const struct job_view *v, uint32_t *from)
{
    struct task_view t;
    if (!v->array) {
        if (v->state == JOB_FAILED && sched_view_task(f->m->sched, v->id, TASK_SINGLE, &t)) {
            failure_json(f->m, &f->j, v, &t);
            f->count++;
        }
        return false;
    }
    while (*from < v->tasks && v->counts[JOB_FAILED]) {
        uint32_t task;
        if (f->count >= f->limit || clock_now_ns() > f->until_ns)
            return true;
        if (!sched_view_tasks(f->m->sched, v->id, JOB_FAILED, *from, &task, 1) ||
            !sched_view_task(f->m->sched, v->id, task, &t))
            return false;
        failure_json(f->m, &f->j, v, &t);
        f->count++;
        *from = task + 1;
    }
    return false;
}

static void failures_page(struct failures *f, struct failures_at *at)
{
    struct master *m = f->m;
    uint64_t job = at->job ? at->job : sched_view_next(m->sched, (job_id){ 0 }, true).n;
    uint32_t task = at->task;
    for (uint64_t looked = 0; job; job = sched_view_next(m->sched, (job_id){ job }, true).n, task = 0) {
        struct job_view v;
        bool full = f->count >= f->limit || (++looked % 64 == 0 && clock_now_ns() > f->until_ns);
        full = full || (sched_view_job(m->sched, (job_id){ job }, &v) && failures_of(f, &v, &task));
        if (full)
            break;
    }
    *at = (struct failures_at){ job, task };
}

void api_failures(struct exchange *x)
{
    struct failures f = { .m = x->m, .until_ns = clock_now_ns() + FAILURES_TURN_NS };
    struct failures_at at;
    struct err err;
    if (exchange_query_u64(x, "limit", 1, FAILURES_LIMIT_MAX, FAILURES_LIMIT, &f.limit, &err) < 0 ||
        failures_cursor(x, &at, &err) < 0) {
        exchange_error(x, &err);
        return;
    }
    f.j = json_out_to(&x->answer);
    json_open(&f.j, NULL, '{');
    json_open(&f.j, "failures", '[');
    failures_page(&f, &at);
    json_close(&f.j, ']');
    char next[48];
    snprintf(next, sizeof next, "%" PRIu64 ".%" PRIu32, at.job, at.task);
    json_cstr(&f.j, "next", at.job ? next : NULL);
    json_close(&f.j, '}');
    exchange_json(x, 200);
}
