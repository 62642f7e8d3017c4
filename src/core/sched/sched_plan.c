/* sched_plan.c: what will be free when, as far as the estimates of what runs hold. */
#include "core/sched/sched_state.h"

/* The place of a run in node.ends: before it, everything that ends earlier; among equals, in order of arrival. */
static size_t place_of(const struct node *n, int64_t end_wall_ms)
{
    size_t low = 0, high = n->ends_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (n->ends[middle]->end_wall_ms <= end_wall_ms)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void sched_ends_add(struct run *r, int64_t end_wall_ms)
{
    struct node *n = r->node;
    r->end_wall_ms = end_wall_ms;
    n->plan.stale = true;
    n->ends = mem_grow(n->ends, &n->ends_cap, n->ends_count + 1, sizeof *n->ends);
    size_t at = place_of(n, end_wall_ms);
    memmove(n->ends + at + 1, n->ends + at, (n->ends_count - at) * sizeof *n->ends);
    n->ends[at] = r;
    n->ends_count++;
}

void sched_ends_drop(struct run *r)
{
    struct node *n = r->node;
    n->plan.stale = true;
    size_t at = place_of(n, r->end_wall_ms);
    do
        check(at > 0);
    while (n->ends[--at] != r);
    memmove(n->ends + at, n->ends + at + 1, (n->ends_count - at - 1) * sizeof *n->ends);
    n->ends_count--;
}

void sched_ends_move(struct run *r, int64_t end_wall_ms)
{
    if (r->ahead) {
        r->end_wall_ms = end_wall_ms;
        return;
    }
    sched_ends_drop(r);
    sched_ends_add(r, end_wall_ms);
}

/* The increments of Tsafrir, Etsion and Feitelson (sched_queue.c), in minutes; the last one again and again. */
static const int64_t longer_min[] = { 1, 5, 15, 30, 60, 120, 300, 600, 1200, 3000, 6000 };

static void outlived(struct sched *s, struct run *r)
{
    const struct shape *shape = job_class(s, r->job)->shape;
    int64_t end_ms = r->end_wall_ms, last_ms = r->start_wall_ms && shape->time_limit_ms ? r->start_wall_ms + shape->time_limit_ms : INT64_MAX;
    size_t steps = sizeof longer_min / sizeof *longer_min;
    while (end_ms <= s->wall_ms && end_ms < last_ms) {
        end_ms += longer_min[r->outlived < steps ? r->outlived : steps - 1] * 60000;
        end_ms = end_ms > last_ms ? last_ms : end_ms;
        r->outlived += r->outlived < steps;
    }
    if (end_ms != r->end_wall_ms)
        sched_ends_move(r, end_ms);
}

void sched_outlived(struct sched *s)
{
    for (size_t i = 0; i < s->nodes_count; i++) {
        struct node *n = s->nodes[i];
        for (size_t k = n->ends_count; k > 0; k--) /* Those that are moved go behind those that were looked at. */
            if (n->ends[k - 1]->end_wall_ms <= s->wall_ms)
                outlived(s, n->ends[k - 1]);
    }
}

/* The first time from `from_ms` on at which the node has room, if all that runs there ends by its estimate. */
static bool room_at(const struct sched *s, const struct node *n, const struct resources *need, int64_t from_ms, int64_t *at_wall_ms,
                    struct resources *extra)
{
    struct resources used = n->allocated;
    *at_wall_ms = from_ms;
    size_t i = 0;
    for (;; i++) {
        bool fits = true;
        for (int d = 0; d < RES_DIMS; d++)
            fits &= !need->v[d] || used.v[d] + need->v[d] <= n->capacity.v[d];
        if (fits)
            break;
        if (i == n->ends_count)
            return false;
        if (n->ends[i]->end_wall_ms > *at_wall_ms)
            *at_wall_ms = n->ends[i]->end_wall_ms;
        resources_sub(&used, &job_class(s, n->ends[i]->job)->need);
    }
    /* Whatever ends at the same time is free then too. */
    for (; i < n->ends_count && n->ends[i]->end_wall_ms <= *at_wall_ms; i++)
        resources_sub(&used, &job_class(s, n->ends[i]->job)->need);
    for (int d = 0; d < RES_DIMS; d++) {
        uint64_t taken = used.v[d] + need->v[d];
        extra->v[d] = n->capacity.v[d] > taken ? n->capacity.v[d] - taken : 0;
    }
    return true;
}

struct chance { int64_t at_wall_ms; struct node *node; };

static int sooner_first(const void *a, const void *b)
{
    const struct chance *x = a, *y = b;
    if (x->at_wall_ms != y->at_wall_ms)
        return x->at_wall_ms < y->at_wall_ms ? -1 : 1;
    return x->node->id.n < y->node->id.n ? -1 : x->node->id.n > y->node->id.n;
}

/* Each of those nodes at the time when the last of them has room. */
static void keep(const struct sched *s, const struct demand *d, const struct chance *chances, struct reservation *out)
{
    out->at_wall_ms = chances[d->nodes - 1].at_wall_ms;
    out->kept = mem_zero(d->nodes, sizeof *out->kept);
    for (; out->count < d->nodes; out->count++) {
        struct kept_room *k = &out->kept[out->count];
        *k = (struct kept_room){ .node = chances[out->count].node };
        int64_t at_wall_ms;
        room_at(s, k->node, &d->need, out->at_wall_ms, &at_wall_ms, &k->extra);
        k->node->kept = (uint32_t)out->count + 1;
    }
}

bool sched_reserve(const struct sched *s, const struct demand *d, struct reservation *out)
{
    *out = (struct reservation){ 0 };
    autofree struct chance *chances = mem_alloc((d->nodes > 1 ? s->nodes_count + 1 : 1) * sizeof *chances);
    size_t count = 0;
    for (size_t i = 0; i < s->nodes_count; i++) {
        struct chance c = { .node = s->nodes[i] };
        struct resources extra;
        if (!node_state_dispatches(c.node->state) || !c.node->session || !resources_could(&d->need, &c.node->capacity) ||
            !room_at(s, c.node, &d->need, s->wall_ms, &c.at_wall_ms, &extra))
            continue;
        if (d->nodes > 1)
            chances[count++] = c;
        else if (!count || c.at_wall_ms < chances[0].at_wall_ms)
            chances[0] = c, count = 1;
    }
    if (count < d->nodes)
        return false;
    qsort(chances, count, sizeof *chances, sooner_first);
    keep(s, d, chances, out);
    return true;
}

void sched_reserve_drop(struct reservation *r)
{
    for (size_t i = 0; i < r->count; i++)
        r->kept[i].node->kept = 0;
    free(r->kept);
    r->kept = NULL;
    r->count = 0;
}
