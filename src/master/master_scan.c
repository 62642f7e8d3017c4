/* Walks over many jobs in slices: bulk changes, waits, and the summary of queues. A walk looks at jobs for at most
 * SCAN_TURN_NS per turn of the loop, all walks together, so that a million jobs can be cancelled while others are
 * served.
 *
 * A wait walks until it meets a job that has not ended and then sleeps until that job has: whatever the number of jobs
 * waited for, each is passed once, and a commit costs one look per waiter. */
#include <inttypes.h>
#include <stdio.h>

#include "base/check.h"
#include "base/mem.h"
#include "io/clock.h"
#include "master/body.h"
#include "master/history.h"
#include "master/master_int.h"

#define IDS_TOLD_MAX 1000u
#define RETRY_RUNS_MAX 1000u     /* new arrays that the retry of one array may make */
#define RETRY_TASKS_SLICE 4096u
#define QUEUES_MAX 1000u
#define WAIT_S 30u
#define WAIT_S_MAX 3600u

enum scan_kind { SCAN_CANCEL, SCAN_HOLD, SCAN_RELEASE, SCAN_RETRY, SCAN_WAIT, SCAN_QUEUES };

struct queue_sum {
    char name[65];
    uint64_t jobs[JOB_STATES], tasks[JOB_STATES];
};

struct scan {
    struct list_node node;       /* in m->scans, or m->blocked while it sleeps */
    struct exchange *x;          /* held */
    enum scan_kind kind;
    struct selector selector;
    struct select_walk walk;
    char reason[257];
    uint64_t matched, changed, made;
    uint64_t ids[IDS_TOLD_MAX]; size_t ids_count;
    struct err err;              /* the first refusal of a change */
    /* retry of the tasks of an ended array: where it is */
    job_id retry_job;
    uint32_t retry_at, retry_from; /* first position of the run; TASK_SINGLE: none is open */
    uint32_t retry_runs;
    /* wait */
    bool asleep;                 /* in m->blocked, until this has ended: */
    job_id on_job;
    uint32_t on_task;
    bool expired;                /* time is up: what is left is only counted */
    int64_t deadline_ms;
    uint64_t left, counts[JOB_STATES];
    uint32_t exit_code;
    bool exit_known;
    /* queues */
    struct queue_sum *queues; size_t queues_count, queues_cap;
};

static void scan_free(struct scan *sc)
{
    struct exchange *x = sc->x;
    list_remove(&sc->node);
    x->m->scans_count--;
    selector_fini(&sc->selector);
    free(sc->queues);
    free(sc);
    x->scan = NULL;
    exchange_drop(x);
}

static struct scan *scan_new(struct exchange *x, enum scan_kind kind, const char *selector, struct err *err)
{
    struct master *m = x->m;
    struct selector parsed;
    if (selector_parse(bytes_str(selector), &parsed, err) < 0)
        return NULL;
    if (m->scans_count >= SCANS_MAX) {
        selector_fini(&parsed);
        err_field(err, ERR_UNAVAILABLE, NULL, "try again in a second", "too many such requests at once");
        return NULL;
    }
    struct scan *sc = mem_zero(1, sizeof *sc);
    sc->x = x;
    sc->kind = kind;
    sc->selector = parsed;
    sc->retry_from = TASK_SINGLE;
    select_walk_start(&sc->walk, &sc->selector, m->sched, bytes_str(x->who->user));
    list_append(&m->scans, &sc->node);
    m->scans_count++;
    x->scan = sc;
    exchange_hold(x);
    return sc;
}

/* --- changes --- */

static void tell_id(struct scan *sc, job_id job)
{
    if (sc->ids_count < IDS_TOLD_MAX)
        sc->ids[sc->ids_count++] = job.n;
}

static void change(struct scan *sc, enum sched_event_kind kind, job_id job, uint32_t task)
{
    struct sched_event ev = { .kind = kind };
    ev.cancel.job = job;
    ev.cancel.task = task;
    ev.cancel.actor = bytes_str(sc->x->who->user);
    ev.cancel.reason = bytes_str(sc->reason);
    struct sched_result result;
    master_step(sc->x->m, &ev, &result);
    if (result.err.code) {
        /* Of many jobs the ones that can be changed are; a single one is answered for. */
        if (!sc->err.code)
            sc->err = result.err;
        return;
    }
    if (result.changed) {
        sc->changed++;
        tell_id(sc, job);
    }
}

static void run_again(struct scan *sc, const struct job_view *v, uint32_t first, uint32_t tasks)
{
    job_id job;
    struct err err;
    uint32_t index = tasks ? v->first + first * v->step : 0;
    if (submit_again(sc->x->m, sc->x->who, v->id, index, v->step ? v->step : 1, tasks, &job, &err) < 0) {
        if (!sc->err.code)
            sc->err = err;
        return;
    }
    sc->made++;
    sc->changed++;
    tell_id(sc, job);
}

static bool worth_again(enum job_state state)
{
    return state == JOB_FAILED || state == JOB_CANCELLED || state == JOB_EXPIRED;
}

static void close_run(struct scan *sc, const struct job_view *v, uint32_t end)
{
    if (sc->retry_from == TASK_SINGLE)
        return;
    if (sc->retry_runs == RETRY_RUNS_MAX) {
        if (!sc->err.code)
            err_field(&sc->err, ERR_FULL, NULL, "retry the other tasks by their index",
                      "the failed tasks of job %" PRIu64 " are in more than %u pieces", v->id.n, RETRY_RUNS_MAX);
    } else {
        sc->retry_runs++;
        run_again(sc, v, sc->retry_from, end - sc->retry_from);
    }
    sc->retry_from = TASK_SINGLE;
}

/* Each run of neighbouring tasks that did not succeed becomes one new array. One slice of it. */
static void retry_array(struct scan *sc)
{
    struct job_view v;
    if (!sched_view_job(sc->x->m->sched, sc->retry_job, &v)) {
        sc->retry_job.n = 0;
        return;
    }
    uint32_t end = v.tasks - sc->retry_at > RETRY_TASKS_SLICE ? sc->retry_at + RETRY_TASKS_SLICE : v.tasks;
    for (; sc->retry_at < end; sc->retry_at++) {
        struct task_view t;
        bool again = sched_view_task(sc->x->m->sched, v.id, sc->retry_at, &t) && worth_again(t.state);
        if (again && sc->retry_from == TASK_SINGLE)
            sc->retry_from = sc->retry_at;
        else if (!again)
            close_run(sc, &v, sc->retry_at);
    }
    if (end < v.tasks)
        return;
    close_run(sc, &v, end);
    sc->retry_job.n = 0;
}

static void retry_one(struct scan *sc, const struct job_view *v, uint32_t task)
{
    struct master *m = sc->x->m;
    struct task_view t;
    if (task != TASK_ALL) {
        if (!sched_view_task(m->sched, v->id, task, &t))
            return;
        if (t.state == JOB_RETRY_WAIT)
            change(sc, SCHED_RETRY_NOW, v->id, task);
        else if (worth_again(t.state) && v->nodes > 1) /* All of it or none. */
            run_again(sc, v, 0, 0);
        else if (worth_again(t.state))
            run_again(sc, v, task, 1);
        return;
    }
    if (v->counts[JOB_RETRY_WAIT])
        change(sc, SCHED_RETRY_NOW, v->id, TASK_ALL);
    if (!job_state_terminal(v->state) || !worth_again(v->state))
        return;
    if (!v->array || v->nodes > 1) {
        run_again(sc, v, 0, 0);
        return;
    }
    sc->retry_job = v->id;
    sc->retry_at = 0;
    sc->retry_runs = 0;
}

/* "all" and names mean the jobs that can still be changed. */
static bool concerns(const struct scan *sc, const struct job_view *v)
{
    if (selector_explicit(&sc->selector))
        return true;
    if (sc->kind == SCAN_RETRY)
        return worth_again(v->state) || v->counts[JOB_RETRY_WAIT];
    return !job_state_terminal(v->state);
}

static void change_found(struct scan *sc, const struct job_view *v, uint32_t task)
{
    if (!concerns(sc, v))
        return;
    sc->matched++;
    switch (sc->kind) {
    case SCAN_CANCEL:
        change(sc, SCHED_CANCEL, v->id, task);
        return;
    case SCAN_HOLD:
        change(sc, SCHED_HOLD, v->id, task);
        return;
    case SCAN_RELEASE:
        change(sc, SCHED_RELEASE, v->id, task);
        return;
    default:
        retry_one(sc, v, task);
    }
}

static void answer_nothing(struct scan *sc)
{
    struct err err;
    err_field(&err, ERR_NOT_FOUND, "selector", "rota ls shows the jobs there are", "there is no such job");
    exchange_error(sc->x, &err);
}

static void change_end(struct scan *sc)
{
    struct exchange *x = sc->x;
    if (sc->matched == 0 && sc->selector.kind != SELECT_ALL) {
        answer_nothing(sc);
        return;
    }
    if (sc->err.code && sc->changed == 0 && selector_explicit(&sc->selector)) {
        exchange_error(x, &sc->err);
        return;
    }
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    json_u64(&j, "matched", sc->matched);
    json_u64(&j, "changed", sc->changed);
    json_open(&j, "ids", '[');
    for (size_t i = 0; i < sc->ids_count; i++)
        json_u64(&j, NULL, sc->ids[i]);
    json_close(&j, ']');
    if (sc->kind == SCAN_RETRY)
        json_u64(&j, "submitted", sc->made);
    json_cstr(&j, "problem", sc->err.code ? sc->err.text : NULL);
    json_close(&j, '}');
    exchange_json(x, 200);
}

/* --- waits --- */

/* 0 if it succeeded, else what the command line shall end with. */
static uint32_t exit_code_of(enum job_state state, enum reason reason, uint32_t exit_code, uint32_t signal)
{
    if (state == JOB_SUCCEEDED)
        return 0;
    if (signal)
        return 128 + signal;
    return reason == REASON_EXIT && exit_code ? exit_code : 1;
}

static void note_exit(struct scan *sc, uint32_t exit_code)
{
    if (exit_code && !sc->exit_known) {
        sc->exit_known = true;
        sc->exit_code = exit_code;
    }
}

/* Counts one job or task; false: it has not ended. */
static bool wait_count(struct scan *sc, const struct job_view *v, uint32_t task, bool only_if_ended)
{
    if (task != TASK_ALL) {
        struct task_view t;
        if (!sched_view_task(sc->x->m->sched, v->id, task, &t))
            return true;
        bool ended = job_state_terminal(t.state);
        if (only_if_ended && !ended)
            return false;
        sc->counts[t.state]++;
        if (ended)
            note_exit(sc, exit_code_of(t.state, t.reason, t.exit_code, t.signal));
        return ended;
    }
    bool ended = job_state_terminal(v->state);
    if (only_if_ended && !ended)
        return false;
    for (int state = 0; state < JOB_STATES; state++)
        sc->counts[state] += v->counts[state];
    if (ended)
        note_exit(sc, exit_code_of(v->state, v->reason, v->exit_code, v->signal));
    return ended;
}

static void block(struct scan *sc, job_id job, uint32_t task)
{
    sc->on_job = job;
    sc->on_task = task;
    sc->asleep = true;
    list_remove(&sc->node);
    list_append(&sc->x->m->blocked, &sc->node);
}

static void wait_found(struct scan *sc, const struct job_view *v, uint32_t task)
{
    sc->matched++;
    if (sc->expired)
        sc->left += !wait_count(sc, v, task, false);
    else if (!wait_count(sc, v, task, true))
        block(sc, v->id, task);
}

static void unblock(struct scan *sc)
{
    sc->asleep = false;
    list_remove(&sc->node);
    list_append(&sc->x->m->scans, &sc->node);
}

/* The job slept on may have ended. */
static void wait_look(struct scan *sc)
{
    struct job_view v;
    bool here = sched_view_job(sc->x->m->sched, sc->on_job, &v);
    if (here && !wait_count(sc, &v, sc->on_task, true))
        return;
    unblock(sc);
}

static void wait_expire(struct scan *sc)
{
    struct job_view v;
    sc->expired = true;
    if (sched_view_job(sc->x->m->sched, sc->on_job, &v))
        sc->left += !wait_count(sc, &v, sc->on_task, false);
    unblock(sc);
}

static void wait_end(struct scan *sc)
{
    struct exchange *x = sc->x;
    if (sc->matched == 0 && sc->selector.kind != SELECT_ALL) {
        answer_nothing(sc);
        return;
    }
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    json_bool(&j, "done", sc->left == 0);
    json_u64(&j, "left", sc->left);
    json_u64(&j, "matched", sc->matched);
    json_open(&j, "counts", '{');
    for (int state = JOB_NONE + 1; state < JOB_STATES; state++)
        if (sc->counts[state])
            json_u64(&j, job_state_name((enum job_state)state), sc->counts[state]);
    json_close(&j, '}');
    json_u64(&j, "exit_code", sc->exit_code);
    json_close(&j, '}');
    exchange_json(x, 200);
}

/* --- queues --- */

static void queue_found(struct scan *sc, const struct job_view *v)
{
    struct queue_sum *q = NULL;
    for (size_t i = 0; i < sc->queues_count && !q; i++)
        if (bytes_equal(bytes_str(sc->queues[i].name), v->queue))
            q = &sc->queues[i];
    if (!q) {
        if (sc->queues_count == QUEUES_MAX)
            return;
        sc->queues = mem_grow(sc->queues, &sc->queues_cap, sc->queues_count + 1, sizeof *sc->queues);
        q = &sc->queues[sc->queues_count++];
        *q = (struct queue_sum){ 0 };
        snprintf(q->name, sizeof q->name, "%.*s", (int)v->queue.size, v->queue.data);
    }
    q->jobs[v->state]++;
    for (int state = 0; state < JOB_STATES; state++)
        q->tasks[state] += v->counts[state];
}

static void sums_json(struct json_out *j, const char *key, const uint64_t *counts)
{
    json_open(j, key, '{');
    for (int state = JOB_NONE + 1; state < JOB_STATES; state++)
        if (counts[state])
            json_u64(j, job_state_name((enum job_state)state), counts[state]);
    json_close(j, '}');
}

static void queue_settings_json(struct master *m, struct json_out *j, struct bytes name)
{
    json_open(j, "settings", '{');
    party_settings_json(m, j, PARTY_QUEUE, name);
    json_close(j, '}');
}

static bool queue_listed(const struct scan *sc, struct bytes name)
{
    for (size_t i = 0; i < sc->queues_count; i++)
        if (bytes_equal(bytes_str(sc->queues[i].name), name))
            return true;
    return false;
}

static void queues_end(struct scan *sc)
{
    struct json_out j = json_out_to(&sc->x->answer);
    json_open(&j, NULL, '{');
    json_open(&j, "queues", '[');
    for (size_t i = 0; i < sc->queues_count; i++) {
        json_open(&j, NULL, '{');
        json_cstr(&j, "name", sc->queues[i].name);
        sums_json(&j, "jobs", sc->queues[i].jobs);
        sums_json(&j, "tasks", sc->queues[i].tasks);
        queue_settings_json(sc->x->m, &j, bytes_str(sc->queues[i].name));
        json_close(&j, '}');
    }
    for (size_t q = 0; q < sched_view_parties(sc->x->m->sched, PARTY_QUEUE) && q < QUEUES_MAX; q++) { /* Set, without jobs. */
        struct party_view v;
        sched_view_party(sc->x->m->sched, PARTY_QUEUE, (uint32_t)q, &v);
        if (!v.set || queue_listed(sc, v.name))
            continue;
        static const uint64_t none[JOB_STATES];
        json_open(&j, NULL, '{');
        json_str(&j, "name", v.name);
        sums_json(&j, "jobs", none);
        sums_json(&j, "tasks", none);
        queue_settings_json(sc->x->m, &j, v.name);
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_close(&j, '}');
    exchange_json(sc->x, 200);
}

/* --- slices --- */

static void found(struct scan *sc, const struct job_view *v, uint32_t task)
{
    switch (sc->kind) {
    case SCAN_WAIT:
        wait_found(sc, v, task);
        return;
    case SCAN_QUEUES:
        queue_found(sc, v);
        return;
    default:
        change_found(sc, v, task);
    }
}

/* It has ended long ago: it can be waited for and run again; there is nothing else to change. */
static void found_in_history(struct scan *sc, const struct job_view *v)
{
    if (sc->kind == SCAN_WAIT || (sc->kind == SCAN_RETRY && !v->array))
        found(sc, v, TASK_ALL);
    else
        sc->matched++;
    if (sc->kind == SCAN_RETRY && v->array && !sc->err.code)
        err_field(&sc->err, ERR_CONFLICT, "selector", "submit the tasks again", "array %" PRIu64 " ended too long ago",
                  v->id.n);
}

static void end(struct scan *sc)
{
    switch (sc->kind) {
    case SCAN_WAIT:
        wait_end(sc);
        break;
    case SCAN_QUEUES:
        queues_end(sc);
        break;
    default:
        change_end(sc);
    }
    scan_free(sc);
}

static bool changes(const struct scan *sc)
{
    return sc->kind != SCAN_WAIT && sc->kind != SCAN_QUEUES;
}

/* Goes on with one walk until `until_ns`. False: it is at its end, asleep, or gone. */
static bool slice(struct scan *sc, int64_t until_ns)
{
    struct master *m = sc->x->m;
    for (unsigned looked = 0;; looked++) {
        if ((looked & 63) == 63 && clock_now_ns() >= until_ns)
            return true;
        if (changes(sc) && master_crowded(m))
            return true;
        if (sc->retry_job.n) {
            retry_array(sc);
            continue;
        }
        struct job_view v;
        uint32_t task;
        switch (select_walk_next(&sc->walk, m->sched, &v, &task)) {
        case SELECT_PASSED:
            if (sc->walk.missing && history_job(m->store, &m->turn, (job_id){ sc->walk.missing }, &v))
                found_in_history(sc, &v);
            continue;
        case SELECT_ENDED:
            end(sc);
            return false;
        case SELECT_FOUND:
            found(sc, &v, task);
            if (sc->asleep)
                return false;
        }
    }
}

bool scans_run(struct master *m)
{
    int64_t now_ns = clock_now_ns();
    int64_t until_ns = now_ns + SCAN_TURN_NS;
    list_each_safe(b, &m->blocked) {
        struct scan *sc = list_entry(b, struct scan, node);
        if (sc->deadline_ms <= master_now_ms(m))
            wait_expire(sc);
    }
    /* Each has its share of the turn; what is left over goes to the next. */
    size_t left = 0;
    list_each(n, &m->scans)
        left++;
    bool more = false;
    list_each_safe(node, &m->scans) {
        int64_t at_ns = clock_now_ns();
        int64_t share_ns = left ? (until_ns - at_ns) / (int64_t)left : 0;
        left -= left > 0;
        more |= slice(list_entry(node, struct scan, node), at_ns + (share_ns > 0 ? share_ns : 0));
    }
    return more && !master_crowded(m);
}

void scans_committed(struct master *m, const struct gate_batch *batch)
{
    if (list_empty(&m->blocked))
        return;
    bool ended = false;
    for (size_t i = 0; i < batch->records_count && !ended; i++)
        ended = record_subject(&batch->records[i]).terminal != 0;
    if (!ended)
        return;
    list_each_safe(node, &m->blocked)
        wait_look(list_entry(node, struct scan, node));
}

int64_t scans_due_ms(struct master *m)
{
    int64_t due_ms = INT64_MAX;
    list_each(node, &m->blocked) {
        const struct scan *sc = list_entry(node, struct scan, node);
        if (sc->deadline_ms < due_ms)
            due_ms = sc->deadline_ms;
    }
    return due_ms;
}

/* Nobody waits for a wait any more; a change that was asked for is made to its end. */
void scan_gone(struct exchange *x)
{
    if (!changes(x->scan) || x->m->stopping)
        scan_free(x->scan);
}

void scans_free(struct master *m)
{
    list_each_safe(node, &m->scans)
        scan_free(list_entry(node, struct scan, node));
    list_each_safe(asleep, &m->blocked)
        scan_free(list_entry(asleep, struct scan, node));
}

/* --- handlers --- */

static void start_change(struct exchange *x, enum scan_kind kind)
{
    struct body_field fields[] = { { .name = "reason", .type = BODY_TEXT, .max = 256 } };
    struct err err;
    struct scan *sc = NULL;
    if (body_read(&x->m->turn, buf_bytes(&x->body), fields, 1, &err) == 0)
        sc = scan_new(x, kind, x->arg, &err);
    if (!sc) {
        exchange_error(x, &err);
        return;
    }
    snprintf(sc->reason, sizeof sc->reason, "%.*s", (int)fields[0].text.size,
             fields[0].text.data ? fields[0].text.data : "");
}

void api_jobs_cancel(struct exchange *x)
{
    start_change(x, SCAN_CANCEL);
}

void api_jobs_hold(struct exchange *x)
{
    start_change(x, SCAN_HOLD);
}

void api_jobs_release(struct exchange *x)
{
    start_change(x, SCAN_RELEASE);
}

void api_jobs_retry(struct exchange *x)
{
    start_change(x, SCAN_RETRY);
}

void api_jobs_wait(struct exchange *x)
{
    struct err err;
    uint64_t timeout_s;
    const char *selector = http_query(x->r, "selector");
    struct scan *sc = NULL;
    if (!selector)
        err_field(&err, ERR_INVALID, "selector", "write ?selector=7", "no job is named");
    else if (exchange_query_u64(x, "timeout_s", 0, WAIT_S_MAX, WAIT_S, &timeout_s, &err) == 0)
        sc = scan_new(x, SCAN_WAIT, selector, &err);
    if (!sc) {
        exchange_error(x, &err);
        return;
    }
    sc->deadline_ms = master_now_ms(x->m) + (int64_t)timeout_s * 1000;
}

void api_queues_list(struct exchange *x)
{
    struct err err;
    if (!scan_new(x, SCAN_QUEUES, "all", &err))
        exchange_error(x, &err);
}
