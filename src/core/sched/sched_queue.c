/* sched_queue.c: who waits, in order. Three levels of heaps, each by the first of the level below:
 *   sched.active, .parked, .brief  ->  struct demand (asks the same of a node)
 *   demand.shapes               ->  struct shape (and for the same time, of the same user and queue)
 *   shape.pending               ->  struct job
 * A demand that fits nowhere is parked: it costs nothing until a node that has room for it is freed. */
#include "core/sched/sched_state.h"

bool sched_job_before(const struct heap_node *a, const struct heap_node *b)
{
    const struct job *x = heap_entry(a, struct job, pending), *y = heap_entry(b, struct job, pending);
    return x->order_key != y->order_key ? x->order_key < y->order_key : x->id.n < y->id.n;
}

int sched_shape_ranks(const struct shape *x, const struct shape *y)
{
    for (size_t i = 0; i < RANKS_MAX && (x->ranked || y->ranked); i++)
        if (x->rank[i] < y->rank[i] || x->rank[i] > y->rank[i])
            return x->rank[i] < y->rank[i] ? -1 : 1;
    return 0;
}

bool sched_shape_before(const struct heap_node *a, const struct heap_node *b)
{
    const struct shape *x = heap_entry(a, struct shape, node), *y = heap_entry(b, struct shape, node);
    int ranks = sched_shape_ranks(x, y);
    if (ranks)
        return ranks < 0;
    const struct job *xj = shape_first(x), *yj = shape_first(y);
    if (xj->order_key != yj->order_key)
        return xj->order_key < yj->order_key;
    return x->key != y->key ? x->key < y->key : xj->id.n < yj->id.n;
}

bool sched_demand_before(const struct heap_node *a, const struct heap_node *b)
{
    const struct demand *x = heap_entry(a, struct demand, node), *y = heap_entry(b, struct demand, node);
    return sched_shape_before(x->shapes.nodes[0], y->shapes.nodes[0]);
}

static bool fair_order(enum order_kind order)
{
    return orders[order].shares;
}

/* Whether keys move, and whether there are ranks at all, as of now. */
static void look_at_orders(struct sched *s)
{
    s->moves = orders[s->config.order].moves;
    s->ranked = s->lanes > 0 || fair_order(s->config.order);
    for (size_t i = 0; i < s->parties[PARTY_QUEUE].count; i++) {
        const struct party_settings *set = &s->parties[PARTY_QUEUE].all[i]->set;
        s->ranked |= set->priority != 0 || (set->order < ORDERS && fair_order(set->order));
        s->moves |= set->order < ORDERS && orders[set->order].moves;
    }
    s->moves |= s->ranked;
}

void sched_queue_init(struct sched *s)
{
    heap_init(&s->active, sched_demand_before);
    heap_init(&s->parked, sched_demand_before);
    heap_init(&s->brief, sched_demand_before);
    s->order_now = s->config.order;
    look_at_orders(s);
}

void sched_queue_fini(struct sched *s)
{
    for (size_t i = 0; i < s->shapes_count; i++) {
        heap_fini(&s->shapes[i]->pending);
        free(s->shapes[i]);
    }
    for (size_t i = 0; i < s->demands_count; i++) {
        heap_fini(&s->demands[i]->shapes);
        free(s->demands[i]);
    }
    free(s->shapes);
    free(s->demands);
    free(s->freed);
    heap_fini(&s->active);
    heap_fini(&s->parked);
    heap_fini(&s->brief);
    intern_fini(&s->shape_keys);
    intern_fini(&s->demand_keys);
}

static struct demand *demand_of(struct sched *s, const struct resources *need, uint32_t nodes)
{
    const struct { struct resources need; uint64_t nodes; } key = { *need, nodes };
    uint32_t number = intern_add(&s->demand_keys, bytes_of(&key, sizeof key));
    if (number == s->demands_count) {
        struct demand *d = mem_zero(1, sizeof *d);
        heap_node_init(&d->node);
        heap_init(&d->shapes, sched_shape_before);
        d->need = *need;
        d->nodes = nodes;
        s->demands = mem_grow(s->demands, &s->demands_cap, s->demands_count + 1, sizeof *s->demands);
        s->demands[s->demands_count++] = d;
    }
    return s->demands[number];
}

struct shape *sched_shape(struct sched *s, const struct class_key *class, int64_t time_limit_ms)
{
    struct {
        struct resources need;
        int64_t time_limit_ms;
        uint32_t queue, user, account, nodes, tokens[TOKENS_MAX];
    } key = { class->need, time_limit_ms, class->queue, class->user, class->account, class->nodes, { 0 } };
    memcpy(key.tokens, class->tokens, sizeof key.tokens);
    uint32_t number = intern_add(&s->shape_keys, bytes_of(&key, sizeof key));
    if (number == s->shapes_count) {
        struct shape *shape = mem_zero(1, sizeof *shape);
        heap_node_init(&shape->node);
        heap_init(&shape->pending, sched_job_before);
        shape->demand = demand_of(s, &class->need, class->nodes > 1 ? class->nodes : 1);
        shape->queue = class->queue;
        shape->user = class->user;
        shape->account = class->account;
        memcpy(shape->tokens, class->tokens, sizeof shape->tokens);
        sched_party_shape(s, shape);
        shape->time_limit_ms = time_limit_ms;
        shape->run_ms_mean = -1;
        s->shapes = mem_grow(s->shapes, &s->shapes_cap, s->shapes_count + 1, sizeof *s->shapes);
        s->shapes[s->shapes_count++] = shape;
    }
    return s->shapes[number];
}

int64_t sched_estimate_ms(const struct sched *s, const struct shape *shape)
{
    if (shape->time_limit_ms > 0)
        return shape->time_limit_ms;
    if (shape->run_ms_mean < 0)
        return s->config.estimate_ms;
    return shape->run_ms_mean < 1 ? 1 : (int64_t)shape->run_ms_mean;
}

/* Tsafrir, Etsion and Feitelson, "Backfilling using system-generated predictions rather than user runtime estimates", IEEE TPDS 2007:
 * the mean of the last two of the user, not more than the time limit. */
int64_t sched_length_ms(const struct sched *s, const struct shape *shape)
{
    int64_t estimate_ms = sched_estimate_ms(s, shape);
    const int64_t *ran_ms = shape->user_party->ran_ms;
    if (!s->config.predict || !ran_ms[0] || !ran_ms[1] || (!shape->time_limit_ms && shape->run_ms_mean >= 0))
        return estimate_ms;
    int64_t mean_ms = (ran_ms[0] - 1) / 2 + (ran_ms[1] - 1) / 2;
    mean_ms = mean_ms < 1 ? 1 : mean_ms;
    return shape->time_limit_ms && mean_ms > estimate_ms ? estimate_ms : mean_ms;
}

enum order_kind sched_order_of(const struct sched *s, const struct shape *shape)
{
    enum order_kind own = shape->queue_party->set.order;
    return own < ORDERS ? own : s->config.order;
}

/* By which the shape's key is made now. */
static enum order_kind order_now(const struct sched *s, const struct shape *shape)
{
    enum order_kind own = shape->queue_party->set.order;
    return own < ORDERS ? own : s->order_now;
}

/* True: its rank has changed. */
static bool shape_rank(const struct sched *s, struct shape *shape)
{
    shape->ranked = s->ranked;
    return s->ranked && sched_party_rank(s, shape, fair_order(order_now(s, shape)), shape->rank);
}

bool sched_queue_moves(const struct sched *s)
{
    return s->moves;
}

bool sched_shape_stale(const struct sched *s, struct shape *shape)
{
    return s->ranked && shape_rank(s, shape);
}

bool sched_queue_stale(struct sched *s, struct demand *d)
{
    struct shape *shape = demand_first(d);
    if (!sched_shape_stale(s, shape))
        return false;
    heap_moved(&d->shapes, &shape->node);
    heap_moved(sched_demand_home(s, d), &d->node);
    return true;
}

double sched_shape_key(const struct sched *s, const struct shape *shape, const struct job *j)
{
    int64_t origin_ms = s->config.origin_zero ? 0 : s->origin_wall_ms;
    int64_t wait_ms = s->wall_ms > j->submit_wall_ms ? s->wall_ms - j->submit_wall_ms : 0;
    uint64_t cpus = shape->demand->need.v[RES_CPU];
    const struct order_facts facts = { .submit_s = (double)(j->submit_wall_ms - origin_ms) / 1000,
                                       .wait_s = (double)wait_ms / 1000,
                                       .estimate_s = (double)sched_estimate_ms(s, shape) / 1000,
                                       .cpus = cpus ? (double)cpus / 1000 : 1,
                                       .backlog_s = s->backlog_s };
    return orders[order_now(s, shape)].key(&facts);
}

static bool backlog_wanted(const struct sched *s)
{
    bool wanted = orders[s->config.order].backlog || (s->config.backfill_order < ORDERS && orders[s->config.backfill_order].backlog);
    for (size_t i = 0; i < s->parties[PARTY_QUEUE].count && !wanted; i++) {
        enum order_kind own = s->parties[PARTY_QUEUE].all[i]->set.order;
        wanted = own < ORDERS && orders[own].backlog;
    }
    return wanted;
}

void sched_queue_backlog(struct sched *s)
{
    if (!backlog_wanted(s))
        return;
    double work = 0, cpus = 0; /* thousandths of a CPU, times ms; thousandths */
    for (size_t i = 0; i < s->shapes_count; i++)
        work += (double)s->shapes[i]->eligible * (double)s->shapes[i]->demand->need.v[RES_CPU] * (double)sched_estimate_ms(s, s->shapes[i]);
    for (size_t i = 0; i < s->nodes_count; i++) {
        const struct node *n = s->nodes[i];
        cpus += n->state == NODE_READY ? (double)n->capacity.v[RES_CPU] : 0;
        for (size_t k = 0; k < n->ends_count; k++) {
            int64_t left_ms = n->ends[k]->end_wall_ms - s->wall_ms;
            if (left_ms > 0)
                work += (double)job_class(s, n->ends[k]->job)->need.v[RES_CPU] * (double)left_ms;
        }
    }
    s->backlog_s = cpus > 0 ? work / cpus / 1000 : 0;
}

static void shape_rekey(const struct sched *s, struct shape *shape)
{
    shape_rank(s, shape);
    shape->key = sched_shape_key(s, shape, shape_first(shape));
}

void sched_queue_rekey(struct sched *s, struct heap *demands)
{
    for (size_t i = 0; i < demands->count; i++) {
        struct demand *d = heap_entry(demands->nodes[i], struct demand, node);
        for (size_t k = 0; k < d->shapes.count; k++)
            shape_rekey(s, heap_entry(d->shapes.nodes[k], struct shape, node));
        heap_rebuild(&d->shapes);
    }
    heap_rebuild(demands);
}

void sched_queue_settings(struct sched *s, const struct party *queue)
{
    for (job_id id = { 0 }; queue && (id = sched_view_next(s, id, false)).n;) {
        struct job *j = sched_job(s, id);
        if (job_class(s, j)->queue == queue->number)
            j->order_key = sched_order_key(s, j);
    }
    look_at_orders(s);
    for (size_t i = 0; i < s->shapes_count; i++) {
        if (queue && s->shapes[i]->queue == queue->number)
            heap_rebuild(&s->shapes[i]->pending);
        if (s->shapes[i]->pending.count)
            shape_rekey(s, s->shapes[i]);
    }
    for (size_t i = 0; i < s->demands_count; i++)
        heap_rebuild(&s->demands[i]->shapes);
    for (int kind = 0; kind < PARTY_KINDS; kind++)
        for (size_t i = 0; i < s->parties[kind].count; i++)
            heap_rebuild(&s->parties[kind].all[i]->blocked);
    heap_rebuild(&s->active);
    heap_rebuild(&s->parked);
    heap_rebuild(&s->brief);
}

void sched_queue_rekey_limited(struct sched *s)
{
    for (int kind = 0; kind < PARTY_KINDS; kind++)
        for (size_t i = 0; i < s->parties[kind].count; i++) {
            struct heap *blocked = &s->parties[kind].all[i]->blocked;
            for (size_t k = 0; k < blocked->count; k++)
                shape_rekey(s, heap_entry(blocked->nodes[k], struct shape, node));
            heap_rebuild(blocked);
        }
}

void sched_queue_rekey_all(struct sched *s)
{
    sched_queue_backlog(s);
    sched_queue_rekey(s, &s->active);
    sched_queue_rekey(s, &s->parked);
    sched_queue_rekey(s, &s->brief);
    sched_queue_rekey_limited(s);
}

struct heap *sched_demand_home(struct sched *s, const struct demand *d)
{
    return !d->parked ? &s->active : d->brief ? &s->brief : &s->parked;
}

void sched_demand_brief(struct sched *s, struct demand *d)
{
    if (d->brief)
        return;
    bool in = heap_has(&d->node);
    if (in)
        heap_remove(sched_demand_home(s, d), &d->node);
    d->brief = true;
    if (in)
        heap_push(sched_demand_home(s, d), &d->node);
}

void sched_shape_moved(struct sched *s, struct shape *shape)
{
    struct demand *d = shape->demand;
    if (shape->blocked_by && shape->pending.count) {
        shape_rekey(s, shape);
        heap_moved(&shape->blocked_by->blocked, &shape->node);
        return;
    }
    if (shape->blocked_by) {
        sched_shape_unblock(shape);
        return;
    }
    bool had = d->shapes.count > 0;
    if (shape->pending.count) {
        shape_rekey(s, shape);
        if (heap_has(&shape->node))
            heap_moved(&d->shapes, &shape->node);
        else
            heap_push(&d->shapes, &shape->node);
    } else if (heap_has(&shape->node)) {
        /* Its empty heap can not be compared: the demand leaves first, and comes back by another shape. */
        if (heap_has(&d->node))
            heap_remove(sched_demand_home(s, d), &d->node);
        heap_remove(&d->shapes, &shape->node);
    }
    if (!d->shapes.count)
        return;
    if (heap_has(&d->node)) {
        heap_moved(sched_demand_home(s, d), &d->node);
        return;
    }
    if (!had)
        d->parked = false; /* While nobody asked, nobody looked at what was freed. */
    heap_push(sched_demand_home(s, d), &d->node);
}

void sched_queue_refresh(struct sched *s, struct job *j)
{
    struct shape *shape = job_class(s, j)->shape;
    bool want = sched_job_eligible(j);
    sched_count_job(s, j);
    if (want == heap_has(&j->pending))
        return;
    if (want) {
        heap_push(&shape->pending, &j->pending);
        s->dirty = true;
    } else {
        heap_remove(&shape->pending, &j->pending);
    }
    sched_shape_moved(s, shape);
}

void sched_queue_moved(struct sched *s, struct job *j)
{
    if (!heap_has(&j->pending))
        return;
    struct shape *shape = job_class(s, j)->shape;
    heap_moved(&shape->pending, &j->pending);
    sched_shape_moved(s, shape);
    s->dirty = true;
}

static void lower(struct resources *least, const struct resources *need)
{
    for (int d = 0; d < RES_DIMS; d++)
        if (need->v[d] < least->v[d])
            least->v[d] = need->v[d];
}

void sched_demand_back(struct sched *s, struct demand *d)
{
    if (d->parked)
        lower(&s->least.need, &d->need);
    heap_push(sched_demand_home(s, d), &d->node);
}

void sched_demand_park(struct sched *s, struct demand *d, bool too_big)
{
    check(!d->parked);
    heap_remove(&s->active, &d->node);
    d->parked = true;
    d->too_big = too_big;
    sched_demand_back(s, d);
}

#define FREED_LOOKED_AT 32 /* more freed nodes than this: ask the index of all nodes instead of each of them */

static bool one_has_room(const struct sched *s, const struct demand *d)
{
    if (s->freed_count > FREED_LOOKED_AT)
        return node_index_best(&s->places, &scorer_binpack, &d->need, NULL, NULL) != NULL;
    for (size_t i = 0; i < s->freed_count; i++)
        if (sched_node_takes_work(s->freed[i]) && sched_node_has_room(s->freed[i], &d->need))
            return true;
    return false;
}

/* Of a gang: it fits as a whole. */
static bool has_room_now(const struct sched *s, const struct demand *d)
{
    return one_has_room(s, d) && (d->nodes <= 1 || sched_gang_fits(s, d, false));
}

/* The first in order of those below `at` that have room, if it is before `best`. What is below a job in a heap comes after it,
 * so the walk ends where it fits: the more there are that fit, the fewer are looked at. */
static struct heap_node *first_with_room(const struct sched *s, const struct heap *h, size_t at, struct heap_node *best)
{
    if (at >= h->count || (best && !sched_demand_before(h->nodes[at], best)))
        return best;
    if (has_room_now(s, heap_entry(h->nodes[at], struct demand, node)))
        return h->nodes[at];
    best = first_with_room(s, h, 2 * at + 1, best);
    return first_with_room(s, h, 2 * at + 2, best);
}

/* What at least is asked by those that wait, in each dimension: where that has no room, nobody has. */
static bool least_has_room(struct sched *s)
{
    if (!s->least_known) {
        s->least_known = true;
        memset(s->least.need.v, 0xff, sizeof s->least.need.v);
        const struct heap *const heaps[] = { &s->parked, &s->brief };
        for (size_t h = 0; h < 2; h++)
            for (size_t i = 0; i < heaps[h]->count; i++)
                lower(&s->least.need, &heap_entry(heaps[h]->nodes[i], struct demand, node)->need);
    }
    return s->parked.count + s->brief.count > 0 && has_room_now(s, &s->least);
}

struct demand *sched_queue_wake(struct sched *s)
{
    if (!s->freed_count)
        return NULL;
    sched_refresh_nodes(s);
    struct heap_node *first = NULL;
    if (least_has_room(s)) {
        first = first_with_room(s, &s->brief, 0, first_with_room(s, &s->parked, 0, NULL));
        s->least_known &= first != NULL; /* It may be too low by now: those who asked for so little may be gone. */
    }
    if (first) {
        struct demand *d = heap_entry(first, struct demand, node);
        heap_remove(sched_demand_home(s, d), first);
        d->parked = false;
        heap_push(&s->active, first);
        return d;
    }
    for (size_t i = 0; i < s->freed_count; i++)
        s->freed[i]->freed = false;
    s->freed_count = 0;
    return NULL;
}
