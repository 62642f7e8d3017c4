/* sched_change.c: the smallest change that would start a waiting job at once, found by the rules that a cycle goes by.
 *
 * What is said here starts the job if nothing else happens meanwhile (sched_change_test.c applies it to thousands of random
 * states). Where there is doubt nothing is said. Asking for less means a second job: it goes behind all that wait, so that it
 * takes nothing from them, and the first one is cancelled after it has started. */
#include "core/sched/sched_state.h"

/* What a job that comes last has to leave to others. */
struct door {
    const struct sched *s;
    const struct job *head;        /* the first that waits for room; NULL: nobody does */
    bool closed;                   /* nothing passes it */
    struct reservation kept;       /* BACKFILL_EASY: its place, if it has one */
};

/* A limit has room again for somebody who was not looked at since: he may take what there is. */
static bool somebody_comes(const struct sched *s)
{
    struct refusal r;
    for (size_t i = 0; i < s->shapes_count; i++)
        if (s->shapes[i]->blocked_by && s->shapes[i]->pending.count && !sched_refusals(s, s->shapes[i], &r, 1))
            return true;
    return false;
}

static struct door door_of(const struct sched *s)
{
    struct door d = { .s = s };
    struct walked *walked;
    bool deeper;
    size_t count = sched_walk(s, 1000, &walked, &deeper);
    for (size_t i = 0; i < count && !d.head; i++)
        if (sched_gang_fits(s, job_class(s, walked[i].job)->shape->demand, true))
            d.head = walked[i].job;
    free(walked);
    d.closed = (deeper && !d.head) || somebody_comes(s);
    if (!d.head || d.closed)
        return d;
    int64_t waits_ms = s->wall_ms - d.head->submit_wall_ms;
    d.closed = s->config.backfill == BACKFILL_NONE ||
               (s->config.backfill == BACKFILL_GREEDY && s->config.starve_ms && waits_ms > s->config.starve_ms);
    if (s->config.backfill == BACKFILL_EASY)
        sched_reserve(s, job_class(s, d.head)->shape->demand, &d.kept);
    return d;
}

static uint64_t left(uint64_t most, uint64_t taken)
{
    return most > taken ? most - taken : 0;
}

static struct resources free_on(const struct node *n)
{
    struct resources room = { 0 };
    for (int d = 0; d < RES_DIMS; d++)
        room.v[d] = left(n->capacity.v[d], n->allocated.v[d]);
    return room;
}

static void at_most(struct resources *room, const struct resources *most)
{
    for (int d = 0; d < RES_DIMS; d++)
        if (most->v[d] < room->v[d])
            room->v[d] = most->v[d];
}

/* The next round looks at the node anew, and somebody may move to it. */
static bool unsettled(const struct sched *s, const struct node *n)
{
    return n->plan.stale || n->plan.better_next || (n->ends_count && n->ends[0]->end_wall_ms <= s->wall_ms);
}

/* What a job that comes last may take on the node now, for so long. False: nothing. */
static bool room_on(const struct door *door, const struct node *n, int64_t length_ms, struct resources *room)
{
    const struct sched *s = door->s;
    if (!sched_node_takes_work(n) || door->closed || (s->config.backfill == BACKFILL_CONSERVATIVE && unsettled(s, n)))
        return false;
    *room = free_on(n);
    if (n->kept && length_ms > door->kept.at_wall_ms - s->wall_ms)
        at_most(room, &door->kept.kept[n->kept - 1].extra);
    const struct timeline *t = &n->plan.line;
    if (s->config.backfill != BACKFILL_CONSERVATIVE || !n->plan.slots)
        return true;
    for (size_t i = 0; i < t->count; i++) {
        int64_t until_ms = i + 1 < t->count ? t->steps[i + 1].from_ms : TIMELINE_NEVER;
        if (until_ms <= s->wall_ms || t->steps[i].from_ms - s->wall_ms >= length_ms)
            continue;
        struct resources then = { 0 };
        for (int d = 0; d < RES_DIMS; d++)
            then.v[d] = left(n->capacity.v[d], t->steps[i].taken.v[d]);
        at_most(room, &then);
    }
    return true;
}

/* For how long a job that comes last may have its place, at most; 0: for no time. */
static int64_t longest_on(const struct door *door, const struct node *n, const struct resources *need)
{
    const struct sched *s = door->s;
    struct resources room;
    int64_t best_ms = 0;
    if (!sched_node_suits(n, need) || !room_on(door, n, 0, &room))
        return 0;
    if (n->kept)
        best_ms = door->kept.at_wall_ms - s->wall_ms;
    for (size_t i = 1; i < n->plan.line.count; i++) {
        int64_t length_ms = n->plan.line.steps[i].from_ms - s->wall_ms;
        if (length_ms > best_ms && room_on(door, n, length_ms, &room) && resources_fit(need, &room))
            best_ms = length_ms;
    }
    return room_on(door, n, best_ms, &room) && resources_fit(need, &room) ? best_ms : 0;
}

/* On how many nodes. */
static uint32_t fits_now(const struct door *door, const struct resources *need, int64_t length_ms)
{
    struct resources room;
    uint32_t nodes = 0;
    for (size_t i = 0; i < door->s->nodes_count; i++)
        nodes += sched_node_suits(door->s->nodes[i], need) && room_on(door, door->s->nodes[i], length_ms, &room) && resources_fit(need, &room);
    return nodes;
}

/* --- each kind of change --- */

static bool by_priority(const struct door *door, const struct job *j, struct why_change *c)
{
    const struct sched *s = door->s;
    const struct order *order = &orders[sched_order_of(s, job_class(s, j)->shape)];
    if (!door->head || somebody_comes(s) || door->head == j || s->lanes || !order->ranks || order->shares || s->config.aging_ms ||
        s->config.backfill == BACKFILL_CONSERVATIVE || door->head->priority >= 1000000 || j->priority > door->head->priority ||
        !sched_gang_fits(s, job_class(s, j)->shape->demand, false))
        return false;
    c->kind = CHANGE_PRIORITY;
    c->priority = door->head->priority + 1;
    return true;
}

static bool by_time(const struct door *door, const struct job *j, struct why_change *c)
{
    const struct sched *s = door->s;
    const struct class *class = job_class(s, j);
    if (class->nodes > 1)
        return false;
    int64_t best_ms = 0, slack_ms = s->config.backfill == BACKFILL_CONSERVATIVE ? s->config.plan_slack_ms : 0;
    for (size_t i = 0; i < s->nodes_count; i++) {
        int64_t length_ms = longest_on(door, s->nodes[i], &class->need) - slack_ms;
        best_ms = length_ms > best_ms ? length_ms : best_ms;
    }
    best_ms -= best_ms % 1000;
    if (best_ms <= 0 || (class->time_limit_ms && best_ms >= class->time_limit_ms))
        return false;
    c->kind = CHANGE_TIME;
    c->time_limit_ms = best_ms;
    return true;
}

/* The most of it that has room; false: in a dimension there is none. *cost: the sum of what is given up, each as a share. */
static bool lessen(const struct resources *need, const struct resources *room, struct resources *less, double *cost)
{
    *less = *need;
    *cost = 0;
    for (int d = 0; d < RES_DIMS; d++) {
        if (need->v[d] <= room->v[d])
            continue;
        uint64_t unit = d == RES_GPU && need->v[d] % 1000 == 0 ? 1000 : d == RES_CPU && room->v[d] >= 100 ? 100 : 1;
        less->v[d] = room->v[d] - room->v[d] % unit;
        if (!less->v[d])
            return false;
        *cost += 1 - (double)less->v[d] / (double)need->v[d];
    }
    return true;
}

static bool by_less(const struct door *door, const struct job *j, int64_t length_ms, struct why_change *c)
{
    const struct sched *s = door->s;
    double best = 0;
    bool found = false;
    if (job_class(s, j)->nodes > 1)
        return false;
    for (size_t i = 0; i < s->nodes_count; i++) {
        struct resources room, less;
        double cost;
        if (!sched_node_suits(s->nodes[i], &job_class(s, j)->need) || !room_on(door, s->nodes[i], length_ms, &room) || !lessen(&job_class(s, j)->need, &room, &less, &cost) ||
            (found && cost >= best))
            continue;
        found = true;
        best = cost;
        c->kind = CHANGE_LESS;
        c->need = less;
    }
    return found;
}

/* The same on as many nodes as have room. */
static bool by_fewer_nodes(const struct door *door, const struct job *j, int64_t length_ms, struct why_change *c)
{
    const struct class *class = job_class(door->s, j);
    uint32_t nodes = class->nodes > 1 ? fits_now(door, &class->need, length_ms) : 0;
    if (!nodes || nodes >= class->nodes)
        return false;
    c->kind = CHANGE_NODES;
    c->nodes = nodes;
    return true;
}

/* Less of it, and for a shorter time: until the place of the first that waits is needed. */
static bool by_less_and_time(const struct door *door, const struct job *j, struct why_change *c)
{
    if (!door->kept.count)
        return false;
    int64_t length_ms = door->kept.at_wall_ms - door->s->wall_ms;
    length_ms -= length_ms % 1000;
    if (length_ms <= 0 || !by_less(door, j, length_ms, c))
        return false;
    c->time_limit_ms = length_ms;
    return true;
}

/* How long it counts for those who keep places free. What has no limit of its own is taken to last: a new kind of job has no usual time. */
static int64_t length_of(const struct sched *s, const struct job *j)
{
    int64_t limit_ms = job_class(s, j)->time_limit_ms;
    if (limit_ms <= 0 || limit_ms > INT64_MAX - s->config.plan_slack_ms)
        return INT64_MAX;
    return s->config.backfill == BACKFILL_CONSERVATIVE ? limit_ms + s->config.plan_slack_ms : limit_ms;
}

static bool in_the_way_of_none(const struct sched *s, const struct job *j, uint32_t task)
{
    enum job_state state = !j->is_array || task == TASK_ALL ? (enum job_state)j->state : sched_task_state(j, task);
    return (state == JOB_QUEUED || state == JOB_HELD) && !j->after_left && !(j->extra && j->extra->begin_open) && !s->store_low &&
           !s->transport_down && !(j->is_array && j->array->limit && j->array->open >= j->array->limit);
}

/* Whether it would be the first that a raised limit lets in: else another would take that. */
static bool first_let_in(const struct sched *s, const struct job *j)
{
    const struct shape *shape = job_class(s, j)->shape;
    struct refusal all[WHY_LIMITS_MAX];
    size_t count = sched_refusals(s, shape, all, WHY_LIMITS_MAX);
    for (size_t i = 0; i < count; i++) {
        struct heap_node *first = heap_first(&all[i].party->blocked);
        bool own = heap_has(&j->pending) && shape_first(shape) == j && first == &shape->node;
        if (first && !own)
            return false;
    }
    return true;
}

static void find(const struct door *door, const struct job *j, int64_t length_ms, struct why_change *c)
{
    const struct class *class = job_class(door->s, j);
    if ((c->raise || c->release) && fits_now(door, &class->need, length_ms) >= class->nodes) {
        c->kind = CHANGE_ALLOW;
        return;
    }
    if (c->raise) { /* Another of those that are kept out may take what is raised. */
        c->raise = c->release = false;
        return;
    }
    if (!by_priority(door, j, c) && !by_fewer_nodes(door, j, length_ms, c) && !by_time(door, j, c) && !by_less(door, j, length_ms, c) &&
        !by_less_and_time(door, j, c))
        c->release = false;
    if (c->kind == CHANGE_TIME || c->kind == CHANGE_LESS || c->kind == CHANGE_NODES)
        c->release = false; /* It is another job. */
}

void sched_change_find(const struct sched *s, const struct job *j, uint32_t task, struct why_change *c)
{
    *c = (struct why_change){ .kind = CHANGE_NONE };
    if (!in_the_way_of_none(s, j, task))
        return;
    const struct class *class = job_class(s, j);
    struct refusal r;
    c->raise = sched_refusals(s, class->shape, &r, 1) > 0;
    c->release = j->held;
    if (c->raise && !first_let_in(s, j)) {
        c->raise = c->release = false;
        return;
    }
    struct door door = door_of(s);
    int64_t length_ms = length_of(s, j);
    find(&door, j, length_ms, c);
    sched_reserve_drop(&door.kept);
}
