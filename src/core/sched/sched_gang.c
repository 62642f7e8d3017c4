/* sched_gang.c: a job on several nodes at the same time (a gang): all of it starts in one cycle, or none of it.
 *
 * A gang is an array of which every task has a node of its own. What it asks for is one demand with the number of nodes in it
 * (struct demand), so that it waits as one, is limited as one, and has its places in the plan as one (sched_slots.c).
 * Its parts end as one, too. One that has ended keeps its task "running" until the others have ended; one that has not
 * succeeded, or that its node did not start, has all others ended (REASON_GANG). When the last open attempt is closed it
 * is decided, in one record, what becomes of all: an end, or all of them are tried again. */
#include "base/bug.h"
#include "core/sched/sched_state.h"

bool sched_gang_may_start(const struct job *j)
{
    return !j->array->open && j->array->counts[JOB_QUEUED] == j->array->tasks;
}

/* --- places --- */

struct scored { double score; struct node *node; };

static int better_first(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (x->score < y->score || x->score > y->score)
        return x->score > y->score ? -1 : 1;
    return x->node->id.n < y->node->id.n ? -1 : 1;
}

size_t sched_gang_place(struct sched *s, const struct demand *d, bool (*accepts)(void *arg, const struct index_node *n), void *arg,
                        struct node **out)
{
    autofree struct scored *found = mem_alloc((s->nodes_count + 1) * sizeof *found);
    const struct scorer *scorer = sched_scorer(s);
    size_t count = 0;
    for (size_t i = 0; i < s->nodes_count; i++) {
        struct node *n = s->nodes[i];
        if (sched_node_takes_work(n) && sched_node_has_room(n, &d->need) && (!accepts || accepts(arg, &n->place)))
            found[count++] = (struct scored){ scorer->score(&d->need, &n->allocated, &n->capacity), n };
    }
    if (count < d->nodes)
        return 0;
    qsort(found, count, sizeof *found, better_first);
    for (size_t i = 0; i < d->nodes; i++)
        out[i] = found[i].node;
    return d->nodes;
}

bool sched_gang_fits(const struct sched *s, const struct demand *d, bool empty)
{
    uint32_t count = 0;
    for (size_t i = 0; i < s->nodes_count && count < d->nodes; i++) {
        const struct node *n = s->nodes[i];
        count += sched_node_takes_work(n) && (empty ? resources_could(&d->need, &n->capacity) : sched_node_has_room(n, &d->need));
    }
    return count == d->nodes;
}

void sched_gang_dispatch(struct sched *s, struct job *j, struct node *const *nodes, enum rule rule, const struct job *over)
{
    check(sched_gang_may_start(j));
    uint32_t parts = j->array->tasks - (BUG(gang_torn) ? 1 : 0);
    for (uint32_t p = 0; p < parts; p++) {
        struct record rec = { .kind = EV_ASSIGNED };
        rec.assigned = (struct ev_assigned){ j->id.n, p, sched_attempt_next(s, j, p), nodes[p]->id.n, 0, rule, over ? over->id.n : 0 };
        nodes[p]->class_last = j->class;
        sched_emit(s, &rec);
        s->stats.placements++;
    }
    for (uint32_t p = 0; p < parts; p++) /* Each is told where the others are. */
        sched_send_start(s, sched_run(s, j->id, p));
}

/* --- ends --- */

enum reason sched_gang_reason(const struct run *r, enum reason reason)
{
    bool lost = reason == REASON_NODE_LOST || reason == REASON_NODE_REBOOTED;
    if (reason == REASON_NONE || lost || !r->cancelling)
        return reason;
    return r->job->cancelled ? REASON_CANCELLED : REASON_GANG;
}

void sched_gang_kill(struct sched *s, const struct job *j)
{
    for (uint32_t p = 0; j->array->open && p < j->array->tasks; p++) {
        struct run *r = sched_run(s, j->id, p);
        if (r)
            sched_send_kill(s, r);
    }
}

/* Why it did not succeed. Where a node was lost, that is why the others failed as well. */
static enum reason blame(const struct sched *s, const struct array *a)
{
    enum reason first = REASON_NONE;
    bool lost_for_good = false;
    for (uint32_t p = 0; p < a->tasks; p++) {
        enum reason reason = a->cells[p].state == JOB_QUEUED ? REASON_NEVER_STARTED : (enum reason)a->cells[p].reason;
        if (reason == REASON_NONE || reason == REASON_GANG || reason == REASON_CANCELLED)
            continue;
        bool lost = reason == REASON_NODE_LOST || reason == REASON_NODE_REBOOTED;
        lost_for_good |= lost && a->cells[p].lost >= s->config.poison_nodes;
        if (first == REASON_NONE || (reason_infra(reason) && !reason_infra(first)))
            first = reason;
    }
    return lost_for_good ? REASON_POISON : first;
}

void sched_gang_settle(struct sched *s, struct job *j)
{
    const struct array *a = j->array;
    if (a->open || !(a->counts[JOB_RUNNING] + a->counts[JOB_CANCELLING]))
        return;
    struct record rec = { .kind = EV_GANG_ENDED, .gang_ended.job = j->id.n };
    struct ev_gang_ended *e = &rec.gang_ended;
    enum reason reason = blame(s, a);
    e->counted = reason != REASON_NONE && !reason_infra(reason) && !j->cancelled;
    if (j->cancelled) {
        e->final = JOB_CANCELLED;
        reason = REASON_CANCELLED;
    } else if (reason == REASON_NONE || BUG(gang_of_one)) {
        e->final = JOB_SUCCEEDED;
    } else if (sched_may_retry(s, j, 0, reason)) {
        e->retry_ms = sched_backoff(s, j, 0, e->counted);
    } else {
        e->final = JOB_FAILED;
    }
    e->reason = reason;
    sched_emit(s, &rec);
}
