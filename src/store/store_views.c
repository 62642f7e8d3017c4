#include "store/store_views.h"

/* Records of the one task of a plain job are found through its attempts. Those of arrays are not: an array has millions
 * of attempts, but few chunks. So each chunk with records of an array gets one mark, and a chunk is read as a whole
 * anyway. */
static int mark_unless_single(const struct store_view_ops *ops, void *arg, const struct record_subject *s,
                              struct err *err)
{
    return s->task == TASK_SINGLE ? 0 : ops->mark(arg, s->job, err);
}

static int attempt_record(const struct store_view_ops *ops, void *arg, const struct record *r,
                          const struct record_subject *s, struct err *err)
{
    struct attempt_ref ref = { s->job, s->task, s->attempt };
    bool kept = true;
    int rc;
    if (r->kind == EV_ASSIGNED)
        rc = ops->assigned(arg, ref, r->seq, err);
    else if (r->kind == EV_STARTED)
        rc = ops->started(arg, ref, r->seq, &kept, err);
    else
        rc = ops->ended(arg, ref, r->seq, s->terminal, err);
    if (rc < 0)
        return rc;
    return kept ? mark_unless_single(ops, arg, s, err) : ops->mark(arg, s->job, err);
}

int store_views_apply(const struct store_view_ops *ops, void *arg, const struct record *r, struct err *err)
{
    struct record_subject s = record_subject(r);
    if (s.job.n == 0 || (r->kind >= EV_W_IDENTITY && r->kind <= EV_W_TOMBSTONE))
        return 0;
    int rc = 0;
    uint32_t task;
    switch (r->kind) {
    case EV_SUBMITTED:
        return ops->submitted(arg, s.job, r->seq, err);
    case EV_ASSIGNED:
    case EV_STARTED:
    case EV_ENDED:
    case EV_REVOKED:
        return attempt_record(ops, arg, r, &s, err);
    default:
        /* The end of a job leads to its record as that of an attempt does. */
        task = s.whole_job ? TASK_SINGLE : s.task;
        if (!s.terminal || task != TASK_SINGLE)
            rc = ops->mark(arg, s.job, err);
        if (rc < 0 || !s.terminal)
            return rc;
        return ops->terminal(arg, s.job, task, s.terminal, r->seq, err);
    }
}

void store_attempt_add(struct store_attempt *a, const struct record *r)
{
    switch (r->kind) {
    case EV_ASSIGNED:
        a->assigned_wall_ms = r->at_wall_ms;
        a->node.n = r->assigned.node;
        a->rule = r->assigned.rule;
        a->over.n = r->assigned.over;
        break;
    case EV_STARTED:
        a->started_wall_ms = r->at_wall_ms;
        a->node.n = r->started.node;
        break;
    case EV_REVOKED:
        a->ended_wall_ms = r->at_wall_ms;
        a->final = r->revoked.final;
        a->reason = r->revoked.reason;
        break;
    case EV_ENDED:
        a->ended_wall_ms = r->at_wall_ms;
        a->final = r->ended.final;
        a->reason = r->ended.reason;
        a->exit_code = r->ended.exit_code;
        a->signal = r->ended.signal;
        a->flags = r->ended.flags;
        a->run_ms = r->ended.run_ms;
        a->cpu_ms = r->ended.cpu_ms;
        a->rss_max_bytes = r->ended.rss_max_bytes;
        a->stdout_bytes = r->ended.stdout_bytes;
        a->stderr_bytes = r->ended.stderr_bytes;
        break;
    default:
        break;
    }
}
