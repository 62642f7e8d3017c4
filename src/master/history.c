#include "master/history.h"

#include "wire/spec.h"

static bool single(const struct job_view *v)
{
    return !v->array;
}

static void job_ended(struct job_view *v, const struct record *r, enum job_state state)
{
    v->state = state;
    v->end_wall_ms = r->at_wall_ms;
    if (single(v)) {
        for (int i = 0; i < JOB_STATES; i++)
            v->counts[i] = 0;
        v->counts[state] = 1;
    }
}

static void array_ended(struct job_view *v, const struct record *r)
{
    job_ended(v, r, (enum job_state)r->array_ended.final);
    v->counts[JOB_SUCCEEDED] = r->array_ended.succeeded;
    v->counts[JOB_FAILED] = r->array_ended.failed;
    v->counts[JOB_CANCELLED] = r->array_ended.cancelled;
}

static void submitted(struct job_view *v, const struct record *r)
{
    v->submit_wall_ms = r->at_wall_ms;
    v->priority = r->submitted.priority;
    v->array = r->submitted.tasks > 0;
    v->tasks = v->array ? r->submitted.tasks : 1;
    v->first = r->submitted.first;
    v->step = r->submitted.step;
    v->limit = r->submitted.limit;
    v->begin_wall_ms = r->submitted.begin_wall_ms;
    v->deadline_wall_ms = r->submitted.deadline_wall_ms;
    v->retry_of.n = r->submitted.retry_of;
    v->mem_max_bytes = r->submitted.mem_max_bytes;
}

static void attempt_ended(struct job_view *v, const struct record *r)
{
    if (!v->start_wall_ms) /* so short that nobody told its start */
        v->start_wall_ms = r->at_wall_ms - r->ended.run_ms;
    if (!single(v))
        return;
    v->attempts = r->ended.attempt;
    v->node.n = r->ended.node;
    if (!r->ended.final || r->ended.final >= JOB_STATES || r->ended.reason >= REASONS)
        return;
    v->reason = (enum reason)r->ended.reason;
    v->exit_code = r->ended.exit_code;
    v->signal = r->ended.signal;
    job_ended(v, r, (enum job_state)r->ended.final);
}

static void fold(void *arg, const struct record *r)
{
    struct job_view *v = arg;
    struct record_subject subject = record_subject(r);
    switch (r->kind) {
    case EV_SUBMITTED:
        submitted(v, r);
        return;
    case EV_UPDATED:
        v->priority = r->updated.priority;
        return;
    case EV_GROWN:
        v->need.v[RES_MEM] = r->grown.mem_bytes;
        return;
    case EV_ASSIGNED:
        if (single(v)) {
            v->attempts = r->assigned.attempt;
            v->node.n = r->assigned.node;
        }
        return;
    case EV_STARTED:
        if (!v->start_wall_ms)
            v->start_wall_ms = r->at_wall_ms;
        return;
    case EV_ENDED:
        attempt_ended(v, r);
        return;
    case EV_ARRAY_ENDED:
        array_ended(v, r);
        return;
    case EV_DEPENDENCY_FAILED:
        v->reason = REASON_DEPENDENCY;
        break;
    default:
        break;
    }
    if (subject.terminal && subject.terminal < JOB_STATES && (single(v) || subject.whole_job))
        job_ended(v, r, (enum job_state)subject.terminal);
}

bool history_job(struct store *store, struct arena *arena, job_id job, struct job_view *out)
{
    autobuf struct buf encoded = BUF_INIT;
    struct job_spec spec;
    struct err err;
    *out = (struct job_view){ .id = job };
    if (store->ops->spec(store, job, &encoded, &err) < 0 ||
        spec_decode(arena, arena_bytes(arena, buf_bytes(&encoded)), &spec, &err) < 0)
        return false;
    out->user = spec.request.user;
    out->queue = spec.request.queue;
    out->account = spec.request.account;
    out->name = spec.request.name;
    out->need = spec.request.need;
    out->time_limit_ms = spec.request.time_limit_ms;
    out->grace_ms = spec.request.grace_ms;
    out->retries = spec.request.retries;
    out->nodes = spec.request.nodes;
    return store->ops->job_events(store, job, 0, HISTORY_RECORDS_MAX, fold, out, &err) == 0 &&
           job_state_terminal(out->state);
}

static void keep_last(void *arg, const struct store_attempt *a)
{
    *(uint32_t *)arg = a->ref.attempt;
}

uint32_t history_last_attempt(struct store *store, job_id job, uint32_t task)
{
    uint32_t last = 0;
    struct err err;
    if (store->ops->attempts(store, (struct attempt_ref){ job, task, 1 }, SIZE_MAX, keep_last, &last, &err) < 0)
        return 0;
    return last;
}
