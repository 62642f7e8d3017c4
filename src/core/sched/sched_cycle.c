/* sched_cycle.c: one scheduling cycle: the queue in order, each demand tried once, a node for whoever fits.
 *
 * order (sched_queue.c) -> fit -> place -> plan (sched_plan.c). What fits nowhere is parked until a node with room for it is
 * freed, so a cycle costs by what changed, not by the length of the queue. The first job that does not fit decides what may pass
 * it (config.backfill); under EASY (Lifka 1995) it has a reservation, and only what does not delay that may. Short work may be
 * assigned ahead of room, so that a node never waits for the master between two jobs (as in HyperQueue's prefilling). */
#include "core/sched/sched_state.h"

#define PLACEMENTS_MAX 4096 /* per cycle: bounds the length of a step */
#define SLOTS_MAX 1024      /* more places of one class on a node count as this many */

/* What a cycle knows: who waits at the head, and what was tried in vain and stays out of the heaps until it is over. */
struct cycle {
    struct reservation head;     /* job: the first that does not fit */
    bool planned;                /* the place was looked for */
    bool reordered;              /* candidates go by config.backfill_order now */
    const struct demand *woken;  /* was parked, may fit now, and was not yet tried: what else may fit comes after it */
    struct shape **shapes; size_t shapes_count, shapes_cap;
    struct demand **demands; size_t demands_count, demands_cap;
};

bool sched_node_takes_work(const struct node *n)
{
    return node_state_dispatches(n->state) && n->session && n->runs_count < n->window;
}

bool sched_node_has_room(const struct node *n, const struct resources *need)
{
    return sched_node_suits(n, need) && resources_beside(need, &n->allocated, &n->capacity);
}

void sched_node_freed(struct sched *s, struct node *n)
{
    s->dirty = true;
    sched_node_touched(s, n);
    if (n->freed)
        return;
    n->freed = true;
    s->freed = mem_grow(s->freed, &s->freed_cap, s->freed_count + 1, sizeof *s->freed);
    s->freed[s->freed_count++] = n;
}

/* --- the nodes, kept in order --- */

bool sched_node_ahead_before(const struct heap_node *a, const struct heap_node *b)
{
    const struct node *x = heap_entry(a, struct node, ahead), *y = heap_entry(b, struct node, ahead);
    uint64_t xs = (uint64_t)x->ahead_waiting * y->ahead_slots, ys = (uint64_t)y->ahead_waiting * x->ahead_slots;
    return xs != ys ? xs < ys : x->id.n < y->id.n;
}

/* How many of the class fit on the node at the same time, for all that matters here. */
static uint32_t slots_of(const struct resources *need, const struct node *n)
{
    uint64_t slots = SLOTS_MAX;
    for (int d = 0; d < RES_DIMS; d++)
        if (need->v[d] && n->capacity.v[d] / need->v[d] < slots)
            slots = n->capacity.v[d] / need->v[d];
    return (uint32_t)slots;
}

static void refresh_ahead(struct sched *s, struct node *n, bool takes_work)
{
    uint32_t slots = takes_work && n->class_last < s->classes_count ? slots_of(&s->classes[n->class_last].need, n) : 0;
    if (heap_has(&n->ahead))
        heap_remove(&s->classes[n->ahead_class].ahead, &n->ahead);
    if (!slots)
        return;
    n->ahead_class = n->class_last;
    n->ahead_waiting = n->waiting_count;
    n->ahead_slots = slots;
    heap_push(&s->classes[n->ahead_class].ahead, &n->ahead);
}

void sched_refresh_nodes(struct sched *s)
{
    list_each_safe(at, &s->touched) {
        struct node *n = list_entry(at, struct node, touched);
        list_remove(&n->touched);
        bool takes_work = sched_node_takes_work(n);
        if (takes_work)
            node_index_put(&s->places, &n->place, n->id.n, &n->capacity, &n->allocated);
        else
            node_index_remove(&s->places, &n->place);
        refresh_ahead(s, n, takes_work);
    }
}

/* --- a place for one job --- */

static const struct scorer *const scorers[PLACES] = { [PLACE_BINPACK] = &scorer_binpack, [PLACE_SPREAD] = &scorer_spread };

const struct scorer *sched_scorer(const struct sched *s) { return scorers[s->config.place]; }

struct node *sched_place(struct sched *s, const struct resources *need, bool (*accepts)(void *arg, const struct index_node *n), void *arg)
{
    sched_refresh_nodes(s);
    struct index_node *best = node_index_best(&s->places, sched_scorer(s), need, accepts, arg);
    return best ? index_entry(best, struct node, place) : NULL;
}

/* What somebody has to leave to the head of the queue. */
struct leave { const struct reservation *head; const struct resources *need; };

static bool leaves_enough(void *arg, const struct index_node *place)
{
    const struct leave *l = arg;
    const struct node *n = index_entry(place, struct node, place);
    return !n->kept || resources_fit(l->need, &l->head->kept[n->kept - 1].extra);
}

/* The node, or of a gang the nodes, where the demand has room, among those that `accepts` (NULL: all). How many: all that it asks
 * for, or 0. `out` has room for them. */
static size_t place(struct sched *s, const struct demand *d, bool (*accepts)(void *arg, const struct index_node *n), void *arg,
                    struct node **out)
{
    if (d->nodes > 1)
        return sched_gang_place(s, d, accepts, arg, out);
    out[0] = sched_place(s, &d->need, accepts, arg);
    return out[0] != NULL;
}

/* On nodes that take work, if they were empty. */
static bool could_fit_empty(struct sched *s, const struct demand *d)
{
    sched_refresh_nodes(s);
    return d->nodes > 1 ? sched_gang_fits(s, d, true) : node_index_fits_empty(&s->places, &d->need);
}

/* How many short jobs of a class may wait on a node: about ahead_target_ms of its work. */
static uint32_t ahead_depth(const struct sched *s, const struct class *c, const struct node *n)
{
    if (c->run_ms_mean < 0 || c->run_ms_mean > AHEAD_ROUNDS_MAX * (double)s->config.ahead_target_ms)
        return 0;
    double run_ms = c->run_ms_mean < 0.05 ? 0.05 : c->run_ms_mean;
    double rounds = (double)s->config.ahead_target_ms / run_ms;
    double depth = (double)n->ahead_slots * (rounds < 1 ? 1 : rounds);
    return depth > s->config.ahead_max ? s->config.ahead_max : (uint32_t)depth;
}

/* The node with the least waiting for its size, of those that worked on the class last; not one that is kept. */
static struct node *place_ahead(struct sched *s, const struct class *c)
{
    sched_refresh_nodes(s);
    struct heap_node *first = heap_first(&c->ahead);
    if (!first)
        return NULL;
    struct node *n = heap_entry(first, struct node, ahead);
    return !n->kept && sched_node_suits(n, &c->need) && n->waiting_count < ahead_depth(s, c, n) ? n : NULL;
}

void sched_dispatch(struct sched *s, struct job *j, struct node *n, enum rule rule, const struct job *over)
{
    uint32_t task = j->is_array ? sched_array_next(j->array) : TASK_SINGLE;
    check(!j->is_array || task < j->array->tasks);
    uint32_t attempt = sched_attempt_next(s, j, task);
    struct record rec = { .kind = EV_ASSIGNED };
    rec.assigned = (struct ev_assigned){ j->id.n, task, attempt, n->id.n, rule == RULE_AHEAD, rule, over ? over->id.n : 0 };
    n->class_last = j->class;
    sched_emit(s, &rec);
    s->stats.placements++;
    sched_send_start(s, sched_run(s, j->id, task));
}

/* All that the job's demand asks for. */
static void dispatch(struct sched *s, struct job *j, struct node *const *nodes, enum rule rule, const struct job *over)
{
    if (job_class(s, j)->nodes > 1)
        sched_gang_dispatch(s, j, nodes, rule, over);
    else
        sched_dispatch(s, j, nodes[0], rule, over);
}

/* Room for the nodes of a gang, in the arena of this step. */
static struct node **nodes_of(struct sched *s, const struct demand *d)
{
    return arena_alloc(&s->turn, d->nodes * sizeof(struct node *));
}

/* --- out of the heaps until the cycle is over --- */

static void demand_aside(struct sched *s, struct cycle *c, struct demand *d)
{
    heap_remove(sched_demand_home(s, d), &d->node);
    c->demands = mem_grow(c->demands, &c->demands_cap, c->demands_count + 1, sizeof *c->demands);
    c->demands[c->demands_count++] = d;
}

static void shape_aside(struct sched *s, struct cycle *c, struct demand *d)
{
    struct heap *home = sched_demand_home(s, d);
    struct shape *shape = demand_first(d);
    heap_remove(home, &d->node);
    heap_remove(&d->shapes, &shape->node);
    if (d->shapes.count)
        heap_push(home, &d->node);
    c->shapes = mem_grow(c->shapes, &c->shapes_cap, c->shapes_count + 1, sizeof *c->shapes);
    c->shapes[c->shapes_count++] = shape;
}

static void cycle_end(struct sched *s, struct cycle *c)
{
    for (size_t i = 0; i < c->demands_count; i++)
        if (!heap_has(&c->demands[i]->node)) /* A shape that a limit let in brought it back. */
            sched_demand_back(s, c->demands[i]);
    for (size_t i = 0; i < c->shapes_count; i++) {
        struct demand *d = c->shapes[i]->demand;
        if (heap_has(&d->node))
            heap_remove(sched_demand_home(s, d), &d->node);
        heap_push(&d->shapes, &c->shapes[i]->node);
        sched_demand_back(s, d);
    }
    free(c->demands);
    free(c->shapes);
    sched_reserve_drop(&c->head);
    if (c->reordered) {
        s->order_now = s->config.order;
        sched_queue_rekey_all(s); /* What was parked meanwhile has keys of the other order. */
    }
}

/* --- the head of the queue and those that pass it --- */

/* A head that was passed over for too long closes the door behind it. */
static bool starves(const struct sched *s, const struct job *j)
{
    return s->config.starve_ms && s->wall_ms - j->submit_wall_ms > s->config.starve_ms;
}

/* Whether any node that takes work is large enough: nodes may have come and gone since the demand was parked. */
static bool could_fit(struct sched *s, struct demand *d)
{
    d->too_big = !could_fit_empty(s, d);
    return !d->too_big;
}

/* The first job that does not fit: the head of those that wait. False: nothing may pass it. */
static bool may_pass(struct sched *s, struct cycle *c, struct demand *d)
{
    const struct job *j = shape_first(demand_first(d));
    c->head.job = j;
    if (s->config.backfill == BACKFILL_NONE)
        return false;
    if (s->config.backfill == BACKFILL_GREEDY)
        return !starves(s, j);
    if (s->config.backfill_order < ORDERS && s->config.backfill_order != s->config.order) {
        c->reordered = true;
        while (sched_queue_wake(s)) {
        }
        s->order_now = s->config.backfill_order;
        sched_queue_backlog(s);
        sched_queue_rekey(s, &s->active);
        sched_queue_rekey_limited(s);
    }
    return true;
}

/* True: the shape takes as long as to be in the way of the head of the queue, where a place is kept for that. */
static bool in_the_way(struct sched *s, struct cycle *c, const struct shape *shape)
{
    if (!c->head.job || s->config.backfill != BACKFILL_EASY)
        return false;
    if (!c->planned) {
        const struct job *job = c->head.job;
        sched_reserve(s, job_class(s, job)->shape->demand, &c->head);
        c->head.job = job;
        c->planned = true;
    }
    return c->head.count && s->wall_ms + sched_length_ms(s, shape) > c->head.at_wall_ms;
}

struct unplanned { struct sched *s; const struct shape *shape; };

static bool takes_no_slot(void *arg, const struct index_node *n)
{
    const struct unplanned *u = arg;
    return sched_slots_admit(u->s, index_entry(n, struct node, place), u->shape);
}

/* Conservative, and more wait than have slots: who has none may start where no slot is in the way. */
static bool try_unplanned(struct sched *s, struct cycle *c, struct demand *d)
{
    struct shape *shape = demand_first(d);
    struct job *j = shape_first(shape);
    struct unplanned u = { s, shape };
    if (sched_shape_limited(s, shape))
        return false;
    struct node *one = NULL, **nodes = d->nodes > 1 ? nodes_of(s, d) : &one;
    bool found = !sched_slot(s, j->id.n, 0) && place(s, d, takes_no_slot, &u, nodes);
    if (found)
        dispatch(s, j, nodes, RULE_UNPLANNED, NULL);
    else
        shape_aside(s, c, d);
    return found;
}

static enum rule rule_of(const struct cycle *c, bool in_time)
{
    return !c->head.job ? RULE_TURN : !c->head.count ? RULE_PASSED : in_time ? RULE_IN_TIME : RULE_BESIDE;
}

/* The first job of a demand that may fit. True: it was dispatched. */
static bool try_active(struct sched *s, struct cycle *c, struct demand *d)
{
    struct shape *shape = demand_first(d);
    struct job *j = shape_first(shape);
    bool late = in_the_way(s, c, shape);
    struct leave leave = { &c->head, &d->need };
    struct node *one = NULL, **nodes = d->nodes > 1 ? nodes_of(s, d) : &one;
    size_t count = place(s, d, late ? leaves_enough : NULL, &leave, nodes);
    for (size_t i = 0; i < count && late; i++)
        if (nodes[i]->kept)
            resources_sub(&c->head.kept[nodes[i]->kept - 1].extra, &d->need);
    if (count)
        dispatch(s, j, nodes, rule_of(c, !late), c->head.job);
    else if (late && place(s, d, NULL, NULL, nodes))
        shape_aside(s, c, d); /* Another shape of the demand may take less time. */
    else
        sched_demand_park(s, d, !could_fit_empty(s, d));
    return count > 0;
}

/* Whether the head could start on the node as soon as one such attempt ends there: its place must not be taken before. */
static bool head_is_next(const struct sched *s, const struct cycle *c, const struct node *n, const struct resources *need)
{
    if (!c->head.job)
        return false;
    const struct resources *wants = &job_class(s, c->head.job)->need;
    if (!sched_node_suits(n, wants))
        return false;
    for (int d = 0; d < RES_DIMS; d++)
        if (wants->v[d] && n->allocated.v[d] + wants->v[d] > n->capacity.v[d] + need->v[d])
            return false;
    return true;
}

/* The first job of a parked demand: short work may wait on a node. True: it was dispatched. */
static bool try_ahead(struct sched *s, struct cycle *c, struct demand *d)
{
    if (!d->brief || d->nodes > 1)
        return false;
    struct job *j = shape_first(demand_first(d));
    in_the_way(s, c, demand_first(d)); /* The head's place is known from here on. */
    struct node *n = place_ahead(s, job_class(s, j));
    if (!n || head_is_next(s, c, n, &d->need))
        return false;
    sched_dispatch(s, j, n, RULE_AHEAD, c->head.job);
    return true;
}

/* Where keys move with time they are made anew, but only if anybody can start. */
static bool prepare(struct sched *s)
{
    if (!sched_queue_moves(s))
        return true;
    s->fair_clock++; /* Time has passed since shares were looked at. */
    for (size_t i = 0; i < s->active.count;) {
        struct demand *d = heap_entry(s->active.nodes[i], struct demand, node);
        struct node *one;
        if (d->nodes > 1 ? sched_gang_fits(s, d, false) : place(s, d, NULL, NULL, &one)) {
            i++;
        } else {
            sched_demand_park(s, d, !could_fit_empty(s, d));
            i = 0; /* The heap has changed under the walk. */
        }
    }
    if (!s->active.count && !s->brief.count && list_empty(&s->loosened) && !sched_queue_wake(s))
        return false;
    sched_queue_rekey_all(s);
    return true;
}

/* The demand whose first job is next. Those that are parked are looked at until the head is known. */
static struct demand *next_demand(struct sched *s, struct cycle *c)
{
    if (!list_empty(&s->loosened))
        sched_party_wake(s);
    if (!c->woken)
        c->woken = sched_queue_wake(s);
    struct heap_node *first = heap_first(&s->active), *brief = c->reordered ? NULL : heap_first(&s->brief);
    if (!first || (brief && sched_demand_before(brief, first)))
        first = brief;
    struct heap_node *parked = c->head.job ? NULL : heap_first(&s->parked);
    if (first && parked && sched_demand_before(parked, first))
        first = parked;
    return first ? heap_entry(first, struct demand, node) : NULL;
}

/* Conservative: first those that have a slot, or get one; then the others, if there are any. */
static bool conservative_cycle(struct sched *s)
{
    if (!list_empty(&s->loosened))
        sched_party_wake(s);
    if (sched_queue_moves(s)) {
        s->fair_clock++;
        sched_queue_rekey_all(s);
    }
    bool again;
    size_t placed = sched_slots_keep(s, PLACEMENTS_MAX, &again);
    if (!s->plan.deeper || again)
        return again;
    struct cycle c = { 0 };
    while (sched_queue_wake(s)) {
    }
    while (s->active.count && placed < PLACEMENTS_MAX)
        placed += try_unplanned(s, &c, heap_entry(heap_first(&s->active), struct demand, node));
    cycle_end(s, &c);
    return placed == PLACEMENTS_MAX;
}

bool sched_cycle(struct sched *s)
{
    s->stats.cycles++;
    if (s->store_low)
        return false;
    if (s->config.predict)
        sched_outlived(s);
    if (s->config.backfill == BACKFILL_CONSERVATIVE)
        return conservative_cycle(s);
    if (!prepare(s))
        return false;
    struct cycle c = { 0 };
    size_t placed = 0;
    struct demand *d;
    while ((d = next_demand(s, &c)) && placed < PLACEMENTS_MAX) {
        bool stale = sched_queue_stale(s, d);
        if (d == c.woken) /* Tried; or it goes behind others, of whom one that is parked may fit as well. */
            c.woken = NULL;
        if (stale)
            continue;
        if (sched_shape_limited(s, demand_first(d)))
            continue;
        if (!d->parked) {
            placed += try_active(s, &c, d);
        } else if (try_ahead(s, &c, d)) {
            placed++;
        } else {
            if (!c.head.job && could_fit(s, d) && !may_pass(s, &c, d))
                break;
            if (d->brief)
                shape_aside(s, &c, d); /* Another shape of the demand may be short, too. */
            else
                demand_aside(s, &c, d);
        }
    }
    cycle_end(s, &c);
    return placed == PLACEMENTS_MAX;
}
