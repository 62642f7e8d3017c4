/* sched_cycle.c: one scheduling cycle: the queue in order, each shape tried once, a node for whoever fits.
 *
 * order -> fit -> place. A shape that no node has room for is not tried again before something was freed (free_version), so
 * a cycle costs by shapes and by what changed, not by the length of the queue. Short work may be assigned ahead of room, so that
 * a node never waits for the master between two jobs (as in HyperQueue's prefilling). */
#include "core/sched/sched_state.h"

#define PLACEMENTS_MAX 4096 /* per cycle: bounds the length of a step */

bool sched_job_before(const struct heap_node *a, const struct heap_node *b)
{
    const struct job *x = heap_entry(a, struct job, pending), *y = heap_entry(b, struct job, pending);
    return x->order_key != y->order_key ? x->order_key < y->order_key : x->id.n < y->id.n;
}

static bool node_takes_work(const struct node *n)
{
    return node_state_dispatches(n->state) && n->session && n->runs_count < n->window;
}

static bool has_room(const struct node *n, const struct resources *need)
{
    for (int d = 0; d < RES_DIMS; d++)
        if (need->v[d] && n->allocated.v[d] + need->v[d] > n->capacity.v[d])
            return false;
    return true;
}

/* Best fit: the node that is fullest afterwards. Spread: the one that is emptiest. Ties: the lowest number. */
static struct node *place(const struct sched *s, const struct resources *need, bool *too_big)
{
    struct node *best = NULL;
    double best_share = 0;
    *too_big = true;
    for (size_t i = 0; i < s->nodes_count; i++) {
        struct node *n = s->nodes[i];
        if (!node_takes_work(n) || !resources_fit(need, &n->capacity))
            continue;
        *too_big = false;
        if (!has_room(n, need))
            continue;
        struct resources after = n->allocated;
        resources_add(&after, need);
        double share = resources_share(&after, &n->capacity);
        bool better = s->config.place == PLACE_SPREAD ? share < best_share : share > best_share;
        if (!best || better) {
            best = n;
            best_share = share;
        }
    }
    return best;
}

/* How many short jobs of a class may wait on a node: about ahead_target_ms of its work. */
static uint32_t ahead_depth(const struct sched *s, const struct class *c, const struct node *n)
{
    if (c->run_ms_mean < 0 || c->run_ms_mean > 20 * (double)s->config.ahead_target_ms)
        return 0;
    uint64_t slots = 1024;
    for (int d = 0; d < RES_DIMS; d++)
        if (c->need.v[d] && n->capacity.v[d] / c->need.v[d] < slots)
            slots = n->capacity.v[d] / c->need.v[d];
    double run_ms = c->run_ms_mean < 0.05 ? 0.05 : c->run_ms_mean;
    double rounds = (double)s->config.ahead_target_ms / run_ms;
    double depth = (double)slots * (rounds < 1 ? 1 : rounds);
    return depth > s->config.ahead_max ? s->config.ahead_max : (uint32_t)depth;
}

static struct node *place_ahead(const struct sched *s, const struct class *c, uint32_t class)
{
    struct node *best = NULL;
    for (size_t i = 0; i < s->nodes_count; i++) {
        struct node *n = s->nodes[i];
        if (!node_takes_work(n) || n->class_last != class || !resources_fit(&c->need, &n->capacity))
            continue;
        if (n->waiting_count < ahead_depth(s, c, n) && (!best || n->waiting_count < best->waiting_count))
            best = n;
    }
    return best;
}

static void dispatch(struct sched *s, struct job *j, struct node *n, bool ahead)
{
    uint32_t task = j->is_array ? sched_array_next(j->array) : TASK_SINGLE;
    check(!j->is_array || task < j->array->tasks);
    uint32_t attempt = (j->is_array ? j->array->cells[task].attempt : j->attempt) + 1;
    struct record rec = { .kind = EV_ASSIGNED };
    rec.assigned = (struct ev_assigned){ j->id.n, task, attempt, n->id.n, ahead };
    n->class_last = j->class;
    sched_emit(s, &rec);
    s->stats.placements++;
    sched_send_start(s, sched_run(s, j->id, task));
}

/* A job that was passed over for too long closes the door behind it, once any node is large enough for it. */
static bool starves(const struct sched *s, const struct shape *shape)
{
    if (shape->too_big)
        return false;
    const struct job *j = heap_entry(heap_first(&shape->pending), struct job, pending);
    return s->config.strict || (s->config.starve_ms && s->wall_ms - j->submit_wall_ms > s->config.starve_ms);
}

/* Tries the first job of the shape. True: it was dispatched. */
static bool try_shape(struct sched *s, struct shape *shape)
{
    struct job *j = heap_entry(heap_first(&shape->pending), struct job, pending);
    if (shape->refused_version != s->free_version) {
        bool too_big;
        struct node *n = place(s, &shape->need, &too_big);
        if (n) {
            dispatch(s, j, n, false);
            return true;
        }
        shape->refused_version = s->free_version;
        shape->too_big = too_big;
    }
    struct node *n = shape->too_big ? NULL : place_ahead(s, job_class(s, j), j->class);
    if (!n)
        return false;
    dispatch(s, j, n, true);
    return true;
}

bool sched_cycle(struct sched *s)
{
    s->stats.cycles++;
    if (s->store_low)
        return false;
    size_t placed = 0;
    bool stopped = false;
    struct shape **aside = NULL; /* refused in this cycle: out of the heap until it is over */
    size_t aside_count = 0, aside_cap = 0;
    struct heap_node *first;
    while ((first = heap_first(&s->active))) {
        struct shape *shape = heap_entry(first, struct shape, node);
        if (placed == PLACEMENTS_MAX) {
            stopped = true;
            break;
        }
        if (try_shape(s, shape)) {
            placed++;
            if (shape->pending.count)
                heap_moved(&s->active, &shape->node);
            continue;
        }
        heap_remove(&s->active, &shape->node);
        aside = mem_grow(aside, &aside_cap, aside_count + 1, sizeof *aside);
        aside[aside_count++] = shape;
        if (starves(s, shape))
            break;
    }
    for (size_t i = 0; i < aside_count; i++)
        heap_push(&s->active, &aside[i]->node);
    free(aside);
    return stopped;
}
