#include "core/sched/sched_whatif.h"

#include <inttypes.h>
#include <stdlib.h>

#include "core/sched/sched_state.h"

#define TRIAL_RETRIES UINT32_MAX /* more than any job may have: so its class is a new one */

static int record(struct sched *s, struct record r, struct err *err)
{
    r.at_wall_ms = s->wall_ms;
    return sched_apply(s, &r, err);
}

static struct job *open_job(struct sched *s, job_id id, const char *field, struct err *err)
{
    struct job *j = sched_job(s, id);
    if (j && !job_state_terminal((enum job_state)j->state))
        return j;
    err_field(err, j ? ERR_CONFLICT : ERR_NOT_FOUND, field, "name jobs that have not ended", "job %" PRIu64 " %s", id.n,
              j ? "has ended" : "is not there, or ended long ago");
    return NULL;
}

/* As the loss of its node ends it: nothing is learnt of how long such jobs take. */
static int end_run(struct sched *s, const struct run *r, enum job_state final, struct err *err)
{
    struct record rec = { .kind = EV_ENDED };
    rec.ended = (struct ev_ended){ .job = r->job->id.n, .task = r->ref.task, .attempt = r->ref.attempt, .node = r->node->id.n,
                                   .final = final, .reason = REASON_NODE_LOST, .flags = END_MAY_HAVE_RUN };
    return record(s, rec, err);
}

static int cancel(struct sched *s, job_id id, struct err *err)
{
    struct job *j = open_job(s, id, "cancel", err);
    if (!j)
        return -(int)err->code;
    uint32_t open = j->is_array ? j->array->open : j->run != NULL;
    struct record rec = { .kind = EV_CANCEL };
    rec.cancel = (struct ev_cancel){ .job = id.n, .task = TASK_ALL, .final = !open };
    int rc = record(s, rec, err);
    for (size_t i = 0; rc == 0 && open && i < s->nodes_count; i++)
        list_each_safe(at, &s->nodes[i]->runs) {
            const struct run *r = list_entry(at, struct run, on_node);
            if (rc == 0 && r->job == j)
                rc = end_run(s, r, JOB_CANCELLED, err);
        }
    return rc;
}

static int release(struct sched *s, job_id id, struct err *err)
{
    struct job *j = open_job(s, id, "release", err);
    if (!j)
        return -(int)err->code;
    if (!j->held)
        return err_field(err, ERR_CONFLICT, "release", "name jobs that are held", "job %" PRIu64 " is not held", id.n);
    return record(s, (struct record){ .kind = EV_RELEASED, .released = { id.n } }, err);
}

static int raise(struct sched *s, const struct whatif_priority *p, struct err *err)
{
    if (!open_job(s, p->job, "priorities", err))
        return -(int)err->code;
    return record(s, (struct record){ .kind = EV_UPDATED, .updated = { p->job.n, p->priority } }, err);
}

/* A gang of which a node goes: all of it waits again. */
static int gang_again(struct sched *s, struct job *j, struct err *err)
{
    int rc = 0;
    for (uint32_t p = 0; p < j->array->tasks && rc == 0; p++) {
        const struct run *r = sched_run(s, j->id, p);
        struct record ended = { .kind = EV_ENDED };
        if (!r)
            continue;
        ended.ended = (struct ev_ended){ .job = j->id.n, .task = p, .attempt = r->ref.attempt, .node = r->node->id.n,
                                         .reason = REASON_NODE_LOST, .flags = END_MAY_HAVE_RUN | END_OF_GANG };
        rc = record(s, ended, err);
    }
    if (rc == 0)
        rc = record(s, (struct record){ .kind = EV_GANG_ENDED, .gang_ended = { j->id.n, 0, REASON_NODE_LOST, 0, 0 } }, err);
    for (uint32_t p = 0; p < j->array->tasks && rc == 0; p++)
        if (j->array->cells[p].state == JOB_RETRY_WAIT)
            rc = record(s, (struct record){ .kind = EV_RETRY_DUE, .retry_due = { j->id.n, p } }, err);
    return rc;
}

/* What runs there waits again, from its begin on. */
static int without(struct sched *s, node_id id, struct err *err)
{
    struct node *n = sched_node(s, id);
    if (!n || n->state == NODE_REMOVED)
        return err_field(err, ERR_NOT_FOUND, "without", "see rota nodes", "node %u is not there", id.n);
    int rc = 0;
    list_each_safe(at, &n->runs) {
        const struct run *r = list_entry(at, struct run, on_node);
        uint64_t job = r->job->id.n;
        uint32_t task = r->ref.task;
        bool goes = r->cancelling;
        if (job_is_gang(r->job) && !goes) {
            rc = rc == 0 ? gang_again(s, r->job, err) : rc;
            continue;
        }
        if (rc == 0)
            rc = end_run(s, r, goes ? JOB_CANCELLED : JOB_NONE, err);
        if (rc == 0 && !goes)
            rc = record(s, (struct record){ .kind = EV_RETRY_DUE, .retry_due = { job, task } }, err);
    }
    if (rc == 0 && node_state_dispatches(n->state))
        rc = record(s, (struct record){ .kind = EV_NODE_STATE, .node_state = { id.n, NODE_SUSPECT, { 0 } } }, err);
    return rc;
}

static int add(struct sched *s, const struct whatif_nodes *more, struct err *err)
{
    int rc = 0;
    for (uint32_t i = 0; i < more->count && rc == 0; i++) {
        struct record seen = { .kind = EV_NODE_SEEN };
        seen.node_seen = (struct ev_node_seen){ .node = (uint32_t)s->nodes_count + 1, .name = bytes_str("added"), .capacity = more->capacity, .labels = more->labels };
        rc = record(s, seen, err);
        for (enum node_state state = NODE_JOINING; state <= NODE_READY && rc == 0; state++)
            rc = record(s, (struct record){ .kind = EV_NODE_STATE, .node_state = { seen.node_seen.node, state, { 0 } } }, err);
    }
    return rc;
}

static int try(struct sched *s, const struct whatif_trial *t, job_id *id, struct err *err)
{
    struct record class = { .kind = EV_CLASS }, job = { .kind = EV_SUBMITTED };
    class.class = (struct ev_class){ .class = (uint32_t)s->classes_count, .user = t->user, .queue = t->queue, .account = t->account,
                                     .need = t->need, .where = t->where, .time_limit_ms = t->time_limit_ms, .retries = TRIAL_RETRIES, .nodes = t->nodes > 1 ? t->nodes : 0 };
    id->n = s->job_last + 1;
    job.submitted = (struct ev_submitted){ .job = id->n, .class = class.class.class, .priority = t->priority, .tasks = t->nodes > 1 ? t->nodes : 0 };
    int rc = record(s, class, err);
    return rc < 0 ? rc : record(s, job, err);
}

static int change(struct sched *s, const struct whatif *w, struct whatif_plan *out, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; i < w->without_count && rc == 0; i++)
        rc = without(s, w->without[i], err);
    for (size_t i = 0; i < w->add_count && rc == 0; i++)
        rc = add(s, &w->add[i], err);
    for (size_t i = 0; i < w->cancel_count && rc == 0; i++)
        rc = cancel(s, w->cancel[i], err);
    for (size_t i = 0; i < w->release_count && rc == 0; i++)
        rc = release(s, w->release[i], err);
    for (size_t i = 0; i < w->priorities_count && rc == 0; i++)
        rc = raise(s, &w->priorities[i], err);
    if (w->trial && rc == 0)
        rc = try(s, w->trial, &out->trial, err);
    return rc;
}

/* What a started brain has of its own: nodes that are there, an order as of now, limits that keep somebody out. */
static void settle(struct sched *s)
{
    for (size_t i = 0; i < s->nodes_count; i++)
        if (node_state_dispatches(s->nodes[i]->state))
            sched_node_session(s, s->nodes[i], s->nodes[i]->id.n);
    s->fair_clock++;
    sched_queue_rekey_all(s);
    for (size_t i = 0; i < s->shapes_count; i++)
        if (heap_has(&s->shapes[i]->node) && !s->shapes[i]->blocked_by)
            sched_shape_limited(s, s->shapes[i]);
}

static int by_job(const void *a, const void *b)
{
    const struct whatif_start *x = a, *y = b;
    return (x->job.n > y->job.n) - (x->job.n < y->job.n);
}

static void gather(struct sched *s, struct whatif_plan *out)
{
    const struct plan *p = &s->plan;
    out->starts = mem_zero(p->count + 1, sizeof *out->starts);
    out->deeper = p->deeper;
    for (size_t i = 0; i < p->count; i++) {
        const struct slot *slot = &p->slots[i];
        struct whatif_start *at = out->count ? &out->starts[out->count - 1] : NULL;
        if (!at || at->job.n != slot->id) {
            at = &out->starts[out->count++];
            at->job.n = slot->id;
        }
        at->tasks++;
        if (!slot->node)
            continue;
        if (!at->placed++ || slot->at_wall_ms < at->first_wall_ms)
            at->first_wall_ms = slot->at_wall_ms;
        int64_t end_ms = timeline_later(slot->at_wall_ms, sched_length_ms(s, job_class(s, sched_job(s, at->job))->shape));
        at->last_wall_ms = slot->at_wall_ms > at->last_wall_ms ? slot->at_wall_ms : at->last_wall_ms;
        at->end_wall_ms = end_ms > at->end_wall_ms ? end_ms : at->end_wall_ms;
    }
    qsort(out->starts, out->count, sizeof *out->starts, by_job);
}

int sched_whatif(struct sched *s, const struct whatif *w, int64_t wall_ms, struct whatif_plan *out, struct err *err)
{
    check(!s->started);
    *out = (struct whatif_plan){ 0 };
    s->wall_ms = wall_ms;
    int rc = change(s, w, out, err);
    if (rc < 0)
        return rc;
    settle(s);
    sched_slots_expect(s);
    gather(s, out);
    return 0;
}
