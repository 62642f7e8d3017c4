/* sched_why.c: why a task waits. Reads what the brain decides by; nothing here is guessed. */
#include "core/sched/sched_state.h"

static void add(struct why_report *w, enum why why)
{
    for (size_t i = 0; i < w->all_count; i++)
        if (w->all[i] == why)
            return;
    w->all[w->all_count++] = why;
}

/* Per dimension: how much is asked, the most that is free and that there is on one node, and how many nodes refuse. */
static void why_nodes(const struct sched *s, const struct resources *need, struct why_report *w)
{
    uint64_t free_most[RES_DIMS] = { 0 }, capacity_most[RES_DIMS] = { 0 };
    uint32_t refused[RES_DIMS] = { 0 };
    for (size_t i = 0; i < s->nodes_count; i++) {
        const struct node *n = s->nodes[i];
        if (n->state == NODE_REMOVED)
            continue;
        w->nodes_total++;
        if (!node_state_dispatches(n->state) || !n->session) {
            w->nodes_out[n->state]++;
            continue;
        }
        w->nodes_ready++;
        if (!sched_node_suits(n, need)) {
            w->nodes_unsuited++;
            continue;
        }
        bool now = true;
        for (int d = 0; d < RES_DIMS; d++) {
            uint64_t spare = n->capacity.v[d] > n->allocated.v[d] ? n->capacity.v[d] - n->allocated.v[d] : 0;
            free_most[d] = spare > free_most[d] ? spare : free_most[d];
            capacity_most[d] = n->capacity.v[d] > capacity_most[d] ? n->capacity.v[d] : capacity_most[d];
            if (need->v[d] > spare) {
                refused[d]++;
                now = false;
            }
        }
        w->nodes_now += now;
        w->nodes_ever += resources_fit(need, &n->capacity);
    }
    for (int d = 0; d < RES_DIMS; d++) {
        if (!refused[d])
            continue;
        w->dims[w->dims_count++] = (struct why_dim){ sched_view_dim(s, d), need->v[d], free_most[d], capacity_most[d], refused[d] };
    }
}

/* The first of all waiting jobs. */
static const struct job *first_in_queue(const struct sched *s)
{
    const struct heap *const heaps[] = { &s->active, &s->parked, &s->brief };
    const struct heap_node *first = NULL;
    for (size_t i = 0; i < 3; i++) {
        const struct heap_node *n = heap_first(heaps[i]);
        if (n && (!first || sched_demand_before(n, first)))
            first = n;
    }
    return first ? shape_first(demand_first(heap_entry(first, struct demand, node))) : NULL;
}

static void why_limits(const struct sched *s, const struct shape *shape, struct why_report *w)
{
    struct refusal all[WHY_LIMITS_MAX];
    w->limits_count = sched_refusals(s, shape, all, WHY_LIMITS_MAX);
    for (size_t i = 0; i < w->limits_count; i++) {
        sched_refusal_why(s, &all[i], &w->limits[i]);
        add(w, w->limits[i].why);
    }
}

static void why_queued(const struct sched *s, const struct job *j, struct why_report *w)
{
    const struct class *c = job_class(s, j);
    if (j->is_array && j->array->limit && j->array->open >= j->array->limit)
        add(w, WHY_ARRAY_LIMIT);
    why_limits(s, c->shape, w);
    if (s->store_low)
        add(w, WHY_STORE);
    w->where = sched_where_text(s, c->need.where);
    w->nodes_asked = c->nodes;
    why_nodes(s, &c->need, w);
    bool fits_ever = w->nodes_ever >= c->nodes;
    if (!w->nodes_ready)
        add(w, WHY_NO_NODES);
    else if (!fits_ever)
        add(w, c->nodes > 1 ? WHY_TOO_FEW : WHY_TOO_BIG);
    else if (w->nodes_now < c->nodes)
        add(w, c->nodes > 1 ? WHY_GANG : WHY_RESOURCES);
    struct reservation room;
    if (w->nodes_ready && fits_ever && sched_reserve(s, c->shape->demand, &room)) {
        w->room_node = room.kept[0].node->id;
        w->room_in_ms = room.at_wall_ms - s->wall_ms;
        sched_reserve_drop(&room);
    }
    const struct shape *shape = c->shape;
    for (size_t i = 0; i < shape->pending.count; i++) {
        const struct job *other = heap_entry(shape->pending.nodes[i], struct job, pending);
        if (other != j && sched_job_before(&other->pending, &j->pending))
            w->jobs_before++;
    }
    const struct job *first = first_in_queue(s);
    if (first && first != j && heap_has(&j->pending)) { /* It is before all that wait. */
        add(w, WHY_ORDER);
        w->blocked_by = first->id;
    }
}

static int64_t backoff_left(const struct sched *s, const struct job *j, uint32_t task)
{
    for (size_t i = 0; i < s->timers.count; i++) {
        const struct timer *t = heap_entry(s->timers.nodes[i], struct timer, node);
        if (t->job.n == j->id.n && (task == TASK_ALL || t->task == task))
            return t->due_ms > s->now_ms ? t->due_ms - s->now_ms : 0;
    }
    return 0;
}

/* The first dependency that has not ended. */
static job_id unmet(const struct sched *s, const struct job *j)
{
    for (size_t i = 0; j->extra && i < j->extra->after_count; i++) {
        const struct job *on = sched_job(s, j->extra->after[i].job);
        if (on && !job_state_terminal((enum job_state)on->state))
            return on->id;
    }
    return (job_id){ 0 };
}

bool sched_view_why(const struct sched *s, job_id id, uint32_t task, struct why_report *w)
{
    const struct job *j = sched_job(s, id);
    *w = (struct why_report){ .primary = WHY_NOTHING };
    if (!j)
        return false;
    if (!j->is_array)
        task = TASK_SINGLE;
    else if (task != TASK_ALL && task >= j->array->tasks)
        return false;
    enum job_state state = task == TASK_ALL ? (enum job_state)j->state : sched_task_state(j, task);
    bool tasks_wait = j->is_array && task == TASK_ALL && !job_state_terminal((enum job_state)j->state) &&
                      j->array->counts[JOB_QUEUED] + j->array->counts[JOB_RETRY_WAIT] > 0;
    if (j->held && !job_state_terminal(state))
        add(w, WHY_HELD);
    if (j->after_left) {
        add(w, WHY_DEPENDENCY);
        w->blocked_by = unmet(s, j);
    }
    if (j->extra && j->extra->begin_open && !job_state_terminal((enum job_state)j->state)) {
        add(w, WHY_BEGIN);
        w->due_in_ms = j->extra->begin_wall_ms > s->wall_ms ? j->extra->begin_wall_ms - s->wall_ms : 0;
    }
    if (state == JOB_RETRY_WAIT) {
        add(w, WHY_BACKOFF);
        w->due_in_ms = backoff_left(s, j, task);
    }
    if (state == JOB_QUEUED || state == JOB_HELD || state == JOB_BLOCKED || tasks_wait)
        why_queued(s, j, w);
    if (state == JOB_CANCELLING)
        add(w, WHY_CANCELLING);
    if (state == JOB_UNCERTAIN)
        add(w, WHY_CONTACT);
    sched_change_find(s, j, task, &w->change);
    w->primary = w->all_count ? w->all[0] : WHY_NOTHING;
    return true;
}
