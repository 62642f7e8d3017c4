/* sched_slots.c: the plan: a slot, that is a node and a time, for each of the first config.plan_depth waiting tasks.
 *
 * Conservative backfill (Feitelson and Weil 1998; compression as in Mu'alem and Feitelson 2001): a task gets the first place in which
 * it takes nothing from those that have one, and keeps it. When something ends before it was expected to, each in the order of
 * the queue may move forward, never back, until nobody can any more. So no task starts later than it was first promised, unless what has to end first does
 * not end by its estimate, a node goes, or somebody with a higher rank (priority) comes: those behind him are then planned anew.
 *
 * What a round costs: only nodes where something has become free are looked at again, and a task without a slot shares its
 * search with all that ask the same: a heap of nodes by the first time at which each has room. As long as the round only takes,
 * such a time can only be too early, so it is enough to look again at the first one (lazy evaluation). Where something is
 * given back, the node goes into the heaps once more. A round stops looking at PLAN_WORK_MAX steps of timelines; who got no
 * slot by then has none. */
#include "core/sched/sched_state.h"

#define PLAN_WORK_MAX 2000000u /* steps of timelines in one round: some 10 ms */

struct candidate {
    int64_t at_wall_ms;  /* not before this time */
    struct node *node;
    uint32_t changes;    /* of the node's line when this was found out */
    bool looked_at;
};

/* The nodes for one need and length, by the first time at which they have room. */
struct search {
    const struct demand *demand;
    int64_t length_ms;
    struct candidate *heap; size_t count, cap;
};

struct round {
    struct sched *s;
    struct plan *plan;
    bool keep;           /* BACKFILL_CONSERVATIVE: the plan is kept and acted on */
    int64_t now_ms;      /* wall */
    uint64_t work_left;
    struct search *searches; size_t searches_count, searches_cap;
    struct node **better; size_t better_count, better_cap;
    size_t started, most;
    bool moved;          /* a slot left its place: somebody before it in the queue may want that */
};

void sched_slots_fini(struct sched *s)
{
    free(s->plan.slots);
    free(s->plan.before);
    free(s->plan.by_job);
    for (size_t i = 0; i < s->nodes_count; i++)
        timeline_fini(&s->nodes[i]->plan.line);
}

static bool takes_part(const struct node *n)
{
    return node_state_dispatches(n->state) && n->session;
}

/* How long a place is kept for it: a bit longer than it should take, since a start takes a moment. */
static int64_t length_of(const struct sched *s, const struct shape *shape)
{
    return timeline_later(sched_length_ms(s, shape), s->config.plan_slack_ms);
}

/* --- slots by job --- */

static size_t job_place(const struct plan *p, uint64_t id)
{
    return (size_t)(id * 0x9e3779b97f4a7c15ULL >> 20) & (p->by_job_slots - 1);
}

static size_t first_slot(const struct plan *p, const struct slot *slots, uint64_t id)
{
    if (!p->by_job_slots)
        return SIZE_MAX;
    for (size_t i = job_place(p, id);; i = (i + 1) & (p->by_job_slots - 1)) {
        if (!p->by_job[i])
            return SIZE_MAX;
        if (slots[p->by_job[i] - 1].id == id)
            return p->by_job[i] - 1;
    }
}

static void index_slots(struct plan *p, const struct slot *slots, size_t count)
{
    size_t wanted = 64;
    while (wanted < 2 * count + 2)
        wanted *= 2;
    if (p->by_job_slots != wanted) {
        free(p->by_job);
        p->by_job = mem_zero(wanted, sizeof *p->by_job);
        p->by_job_slots = wanted;
    } else {
        memset(p->by_job, 0, wanted * sizeof *p->by_job);
    }
    for (size_t i = 0; i < count; i++) {
        if (i && slots[i].id == slots[i - 1].id)
            continue;
        size_t at = job_place(p, slots[i].id);
        while (p->by_job[at])
            at = (at + 1) & (wanted - 1);
        p->by_job[at] = (uint32_t)i + 1;
    }
}

const struct slot *sched_slot(const struct sched *s, uint64_t job, uint32_t nth)
{
    const struct plan *p = &s->plan;
    size_t first = first_slot(p, p->slots, job);
    if (first == SIZE_MAX || first + nth >= p->count || p->slots[first + nth].id != job)
        return NULL;
    return &p->slots[first + nth];
}

/* --- lines of nodes --- */

static void slot_in(struct slot *slot)
{
    struct node *n = slot->node;
    timeline_take(&n->plan.line, slot->at_wall_ms, slot->until_wall_ms, &slot->need);
    n->plan.changes++;
    n->plan.slots++;
}

static void mark_better(struct round *r, struct node *n)
{
    if (n->plan.better)
        return;
    n->plan.better = true;
    r->better = mem_grow(r->better, &r->better_cap, r->better_count + 1, sizeof *r->better);
    r->better[r->better_count++] = n;
}

static void candidate_put(struct search *h, struct candidate c);

/* Its place is free for others: for those that come after it in this round, for all in the next. */
static void slot_out(struct round *r, struct slot *slot)
{
    struct node *n = slot->node;
    timeline_give(&n->plan.line, slot->at_wall_ms, slot->until_wall_ms, &slot->need);
    n->plan.changes++;
    n->plan.slots--;
    n->plan.better_next = true;
    r->moved = true;
    mark_better(r, n);
    for (size_t i = 0; i < r->searches_count; i++)
        if (resources_could(&r->searches[i].demand->need, &n->capacity))
            candidate_put(&r->searches[i], (struct candidate){ r->now_ms, n, 0, false });
    slot->node = NULL;
}

/* When it should end. The longer it has outlived that, the longer it may go on. */
static int64_t end_of(const struct round *r, const struct run *run)
{
    int64_t late_ms = r->now_ms - run->end_wall_ms;
    return late_ms < 0 ? run->end_wall_ms : r->now_ms + 1 + late_ms / 8;
}

/* What runs there, until it should end. */
static void line_of_runs(struct round *r, struct node *n)
{
    timeline_begin(&n->plan.line, r->now_ms, &n->allocated);
    int64_t last_ms = r->now_ms;
    for (size_t i = 0; i < n->ends_count; i++) {
        int64_t end_ms = end_of(r, n->ends[i]);
        if (end_ms < last_ms) /* A late one may come after one that is not. */
            timeline_give(&n->plan.line, end_ms, TIMELINE_NEVER, &job_class(r->s, n->ends[i]->job)->need);
        else
            timeline_end(&n->plan.line, end_ms, &job_class(r->s, n->ends[i]->job)->need);
        last_ms = end_ms > last_ms ? end_ms : last_ms;
    }
    n->plan.changes++;
    n->plan.stale = false;
}

/* --- how sure it is --- */

static enum plan_basis basis_of(const struct shape *shape)
{
    return shape->time_limit_ms > 0 ? BASIS_LIMITS : shape->run_ms_mean >= 0 ? BASIS_USUAL : BASIS_NONE;
}

static void doubt(struct node *n, enum plan_basis basis, int64_t end_ms, uint64_t job)
{
    if (basis == BASIS_LIMITS || end_ms >= n->plan.doubts[basis])
        return;
    n->plan.doubts[basis] = end_ms;
    if (basis == BASIS_NONE)
        n->plan.doubts_job = job;
}

/* The slot's place is found: whose end does it count on? */
static void slot_settled(struct round *r, struct slot *slot)
{
    struct node *n = slot->node;
    const struct shape *shape = job_class(r->s, slot->job)->shape;
    if (n->plan.doubts_round != r->plan->rounds) {
        n->plan.doubts_round = r->plan->rounds;
        for (int b = 0; b < BASES; b++)
            n->plan.doubts[b] = TIMELINE_NEVER;
        for (size_t i = 0; i < n->ends_count; i++)
            doubt(n, basis_of(job_class(r->s, n->ends[i]->job)->shape), end_of(r, n->ends[i]), n->ends[i]->job->id.n);
    }
    slot->basis = BASIS_LIMITS;
    for (enum plan_basis b = BASIS_USUAL; b < BASES; b++)
        if (n->plan.doubts[b] <= slot->at_wall_ms)
            slot->basis = b;
    slot->basis_job = slot->basis == BASIS_NONE ? n->plan.doubts_job : 0;
    enum plan_basis own = basis_of(shape);
    doubt(n, own > slot->basis ? own : slot->basis, slot->until_wall_ms, own == BASIS_NONE ? slot->id : slot->basis_job);
}

/* --- the first place for one that has none --- */

static bool candidate_before(const struct candidate *a, const struct candidate *b)
{
    return a->at_wall_ms != b->at_wall_ms ? a->at_wall_ms < b->at_wall_ms : a->node->id.n < b->node->id.n;
}

static int candidate_first(const void *a, const void *b)
{
    return candidate_before(a, b) ? -1 : candidate_before(b, a);
}

static void candidate_put(struct search *h, struct candidate c)
{
    h->heap = mem_grow(h->heap, &h->cap, h->count + 1, sizeof *h->heap);
    size_t i = h->count++;
    for (size_t up; i > 0 && candidate_before(&c, &h->heap[up = (i - 1) / 2]); i = up)
        h->heap[i] = h->heap[up];
    h->heap[i] = c;
}

/* The first of the heap has another time now, a later one; TIMELINE_NEVER takes it out. */
static void candidate_moved(struct search *h, struct candidate c)
{
    if (c.at_wall_ms == TIMELINE_NEVER)
        c = h->heap[--h->count];
    size_t i = 0;
    for (size_t down; (down = 2 * i + 1) < h->count; i = down) {
        if (down + 1 < h->count && candidate_before(&h->heap[down + 1], &h->heap[down]))
            down++;
        if (!candidate_before(&h->heap[down], &c))
            break;
        h->heap[i] = h->heap[down];
    }
    if (h->count)
        h->heap[i] = c;
}

static struct search *search_for(struct round *r, const struct demand *d, int64_t length_ms)
{
    for (size_t i = r->searches_count; i > 0; i--)
        if (r->searches[i - 1].demand == d && r->searches[i - 1].length_ms == length_ms)
            return &r->searches[i - 1];
    r->searches = mem_grow(r->searches, &r->searches_cap, r->searches_count + 1, sizeof *r->searches);
    struct search *h = &r->searches[r->searches_count++];
    *h = (struct search){ .demand = d, .length_ms = length_ms };
    if (!r->keep) /* What is only to be told must not take long, however different those that wait are. */
        r->work_left -= r->work_left < r->s->nodes_count / 4 ? r->work_left : r->s->nodes_count / 4;
    for (size_t i = 0; i < r->s->nodes_count; i++) {
        struct node *n = r->s->nodes[i];
        if (takes_part(n) && resources_could(&d->need, &n->capacity))
            candidate_put(h, (struct candidate){ r->now_ms, n, 0, false });
    }
    return h;
}

static int64_t first_on(struct round *r, const struct node *n, const struct resources *need, int64_t from_ms, int64_t length_ms,
                        int64_t limit_ms)
{
    uint64_t work = 1;
    int64_t at_ms = timeline_first(&n->plan.line, &n->capacity, need, from_ms, length_ms, limit_ms, &work);
    r->work_left = work < r->work_left ? r->work_left - work : 0;
    return at_ms;
}

/* The node that has room first, not before from_ms; of equals the one with the lowest number. NULL: none, or no more looking. */
static struct node *search_first(struct round *r, struct search *h, int64_t from_ms, int64_t *at_ms)
{
    while (h->count && r->work_left) {
        struct candidate c = h->heap[0];
        if (c.looked_at && c.changes == c.node->plan.changes && c.at_wall_ms >= from_ms) {
            *at_ms = c.at_wall_ms;
            return c.node;
        }
        int64_t not_before_ms = c.at_wall_ms > from_ms ? c.at_wall_ms : from_ms;
        c.at_wall_ms = first_on(r, c.node, &h->demand->need, not_before_ms, h->length_ms, TIMELINE_NEVER);
        c.changes = c.node->plan.changes;
        c.looked_at = true;
        candidate_moved(h, c);
    }
    return NULL;
}

/* The first time at which as many nodes as the gang needs have room at once, before limit_ms; those, in out. False: there is none,
 * or no more looking. A time at which less have room is passed over for the next at which so many may (each node's time is the first
 * from there on), so none is missed. */
static bool gang_first(struct round *r, const struct demand *d, int64_t from_ms, int64_t length_ms, int64_t limit_ms, struct node **out,
                       int64_t *at_ms)
{
    autofree struct candidate *c = mem_alloc((r->s->nodes_count + 1) * sizeof *c);
    size_t count = 0;
    for (size_t i = 0; i < r->s->nodes_count; i++)
        if (takes_part(r->s->nodes[i]) && resources_could(&d->need, &r->s->nodes[i]->capacity))
            c[count++] = (struct candidate){ .at_wall_ms = from_ms, .node = r->s->nodes[i] };
    *at_ms = from_ms;
    for (bool all = count >= d->nodes; all;) {
        uint32_t at_once = 0;
        for (size_t i = 0; i < count && r->work_left; i++) {
            if (!c[i].looked_at || c[i].at_wall_ms < *at_ms)
                c[i].at_wall_ms = first_on(r, c[i].node, &d->need, *at_ms, length_ms, limit_ms);
            c[i].looked_at = true;
            if (c[i].at_wall_ms == *at_ms && at_once < d->nodes)
                out[at_once++] = c[i].node;
        }
        if (at_once == d->nodes)
            return true;
        qsort(c, count, sizeof *c, candidate_first);
        *at_ms = c[d->nodes - 1].at_wall_ms;
        all = r->work_left && *at_ms != TIMELINE_NEVER && *at_ms < limit_ms;
    }
    return false;
}

/* --- who may start now --- */

struct admission {
    const struct sched *s;
    const struct resources *need;
    int64_t length_ms;
};

static bool admits(const struct sched *s, const struct node *n, const struct resources *need, int64_t length_ms)
{
    uint64_t work = 0;
    if (!n->plan.slots) /* What runs there only ends: who has room now keeps it. */
        return true;
    return n->plan.line.count && timeline_first(&n->plan.line, &n->capacity, need, s->wall_ms, length_ms, s->wall_ms + 1, &work) == s->wall_ms;
}

static bool index_admits(void *arg, const struct index_node *place)
{
    const struct admission *a = arg;
    return admits(a->s, index_entry(place, struct node, place), a->need, a->length_ms);
}

bool sched_slots_admit(const struct sched *s, const struct node *n, const struct shape *shape)
{
    return admits(s, n, &shape->demand->need, length_of(s, shape));
}

/* Starts it now on the node. */
static void start(struct round *r, const struct slot *slot, struct node *n, int64_t length_ms)
{
    timeline_take(&n->plan.line, r->now_ms, timeline_later(r->now_ms, length_ms), &slot->need);
    n->plan.changes++;
    sched_dispatch(r->s, slot->job, n, RULE_PLANNED, NULL);
    r->started++;
}

/* --- a round --- */

static void plan_slot_add(struct plan *p, const struct slot *slot)
{
    p->slots = mem_grow(p->slots, &p->cap, p->count + 1, sizeof *p->slots);
    p->slots[p->count++] = *slot;
}

/* The waiting tasks in order, those that had a slot with it. Slots of tasks that wait no more are left over: node is set in them. */
static void tasks_in_order(struct round *r)
{
    struct plan *p = r->plan;
    struct slot *swap = p->before;
    size_t swap_cap = p->before_cap;
    p->before = p->slots, p->before_count = p->count, p->before_cap = p->cap;
    p->slots = swap, p->count = 0, p->cap = swap_cap;
    if (!r->keep || !p->promised)
        p->before_count = 0;
    index_slots(p, p->before, p->before_count);
    struct walked *walked;
    size_t count = sched_walk(r->s, r->s->config.plan_depth, &walked, &p->deeper);
    for (size_t i = 0; i < count; i++) {
        struct job *j = walked[i].job;
        const struct shape *shape = job_class(r->s, j)->shape;
        size_t before = first_slot(p, p->before, j->id.n);
        for (uint32_t k = 0; k < walked[i].tasks; k++) {
            struct slot slot = { .job = j, .id = j->id.n, .need = shape->demand->need, .order_key = j->order_key,
                                 .queue_rank = shape->ranked ? shape->rank[0] : 0 };
            if (before != SIZE_MAX && before < p->before_count && p->before[before].id == j->id.n) {
                slot.node = p->before[before].node;
                slot.at_wall_ms = p->before[before].at_wall_ms;
                slot.until_wall_ms = p->before[before].until_wall_ms;
                p->before[before++].node = NULL;
            }
            plan_slot_add(p, &slot);
        }
    }
    free(walked);
}

static bool part_taken(const struct slot *slot, const struct round *r)
{
    return slot->until_wall_ms > r->now_ms;
}

/* The lines of all nodes as of now; those made anew (node_plan.anew) are still without slots. */
static void lines_now(struct round *r)
{
    bool all_anew = !r->keep || !r->plan->promised;
    for (size_t i = 0; i < r->s->nodes_count; i++) {
        struct node *n = r->s->nodes[i];
        struct node_plan *p = &n->plan;
        bool overdue = n->ends_count && n->ends[0]->end_wall_ms <= r->now_ms;
        p->stale |= all_anew || overdue || !p->line.count || p->line.steps[0].from_ms > r->now_ms || !takes_part(n);
        p->anew = p->stale;
        bool better = p->better_next || p->anew;
        p->better = p->better_next = false;
        if (!takes_part(n))
            continue;
        if (p->anew)
            line_of_runs(r, n);
        else
            timeline_trim(&p->line, r->now_ms);
        if (p->anew)
            p->slots = 0;
        if (better)
            mark_better(r, n);
    }
}

/* So many slots of the plan, from this one on, are of one gang; else 1. */
static uint32_t slots_together(const struct sched *s, const struct slot *slot)
{
    return job_class(s, slot->job)->nodes;
}

/* A gang of which a part has lost its place has lost all. */
static void gangs_whole(struct round *r)
{
    for (size_t i = 0; i < r->plan->count; i += slots_together(r->s, &r->plan->slots[i])) {
        struct slot *slots = &r->plan->slots[i];
        uint32_t count = slots_together(r->s, slots), placed = 0;
        for (uint32_t k = 0; k < count; k++)
            placed += slots[k].node != NULL;
        for (uint32_t k = 0; k < count && placed < count; k++)
            if (slots[k].node)
                slot_out(r, &slots[k]);
    }
}

/* Where a line was made anew the slots are taken again, in order; what no longer fits has lost its place. */
static void slots_again(struct round *r)
{
    for (size_t i = 0; i < r->plan->before_count; i++) {
        struct slot *left = &r->plan->before[i]; /* Waits no more. */
        if (left->node && !left->node->plan.anew)
            slot_out(r, left);
    }
    for (size_t i = 0; i < r->plan->count; i++) {
        struct slot *slot = &r->plan->slots[i];
        struct node *n = slot->node;
        if (!n || !n->plan.anew)
            continue;
        int64_t from_ms = slot->at_wall_ms > r->now_ms ? slot->at_wall_ms : r->now_ms;
        if (takes_part(n) && sched_node_suits(n, &slot->need) && part_taken(slot, r) &&
            first_on(r, n, &slot->need, from_ms, slot->until_wall_ms - from_ms, from_ms + 1) == from_ms)
            slot_in(slot);
        else
            slot->node = NULL;
    }
    gangs_whole(r);
}

/* Someone without a slot goes before those of lower rank that have one: these are planned after him. */
static void lower_ranks_wait(struct round *r, size_t from)
{
    const struct slot *one = &r->plan->slots[from];
    for (size_t i = r->plan->count; i > from + 1; i--) {
        struct slot *other = &r->plan->slots[i - 1];
        if (other->node && (other->queue_rank > one->queue_rank ||
                            (other->queue_rank == one->queue_rank && other->order_key > one->order_key)))
            slot_out(r, other);
    }
}

/* The first place, before the one that it has, on a node where something has become free; NULL: none. Its own is free meanwhile. */
static struct node *better_place(struct round *r, const struct slot *slot, int64_t length_ms, int64_t *at_ms)
{
    struct node *best = NULL;
    *at_ms = slot->at_wall_ms;
    for (size_t i = 0; i < r->better_count && r->work_left; i++) {
        struct node *n = r->better[i];
        if (!takes_part(n) || !resources_could(&slot->need, &n->capacity))
            continue;
        int64_t first_ms = first_on(r, n, &slot->need, r->now_ms, length_ms, *at_ms);
        if (first_ms == TIMELINE_NEVER)
            continue;
        best = n;
        *at_ms = first_ms;
    }
    return best;
}

/* A slot may move forward, or its time has come. True: its task was started. */
static bool keep_slot(struct round *r, struct slot *slot, int64_t length_ms)
{
    struct node *old = slot->node, *best = NULL;
    int64_t at_ms = r->now_ms;
    bool due = slot->at_wall_ms <= r->now_ms;
    if (!due && !r->better_count)
        return false;
    timeline_give(&old->plan.line, slot->at_wall_ms, slot->until_wall_ms, &slot->need);
    if (!due)
        best = better_place(r, slot, length_ms, &at_ms);
    else if (slot->until_wall_ms > r->now_ms &&
             first_on(r, old, &slot->need, r->now_ms, slot->until_wall_ms - r->now_ms, r->now_ms + 1) == r->now_ms)
        best = old; /* It has its place for as long as was promised, even if it is expected to take longer by now. */
    timeline_take(&old->plan.line, slot->at_wall_ms, slot->until_wall_ms, &slot->need);
    if (!best && !due)
        return false;
    if (best && at_ms == r->now_ms && r->started < r->most && sched_node_takes_work(best)) {
        slot_out(r, slot);
        start(r, slot, best, length_ms);
        return true;
    }
    if (best && due)
        return false; /* It waits for its node to take work, or for the next step. */
    slot_out(r, slot);
    if (!best)
        return false; /* Its time has come and there is no room: it looks for another place. */
    slot->node = best;
    slot->at_wall_ms = at_ms;
    slot->until_wall_ms = timeline_later(at_ms, length_ms);
    slot_in(slot);
    return false;
}

/* True: its task was started. */
static bool find_slot(struct round *r, struct slot *slot, int64_t not_before_ms, int64_t length_ms)
{
    struct sched *s = r->s;
    if (r->keep && r->started < r->most) {
        struct admission a = { s, &slot->need, length_ms };
        struct node *n = sched_place(s, &slot->need, index_admits, &a);
        if (n) {
            start(r, slot, n, length_ms);
            return true;
        }
    }
    struct search *h = search_for(r, job_class(s, slot->job)->shape->demand, length_ms);
    slot->node = search_first(r, h, not_before_ms, &slot->at_wall_ms);
    if (!slot->node)
        return false;
    slot->until_wall_ms = timeline_later(slot->at_wall_ms, length_ms);
    slot_in(slot);
    return false;
}

/* --- a gang: its slots are at the same time, each on a node of its own --- */

static void gang_taken(const struct slot *slots, uint32_t count, bool take)
{
    for (uint32_t k = 0; k < count; k++) {
        const struct slot *slot = &slots[k];
        if (take)
            timeline_take(&slot->node->plan.line, slot->at_wall_ms, slot->until_wall_ms, &slot->need);
        else
            timeline_give(&slot->node->plan.line, slot->at_wall_ms, slot->until_wall_ms, &slot->need);
    }
}

static void gang_out(struct round *r, struct slot *slots, uint32_t count)
{
    for (uint32_t k = 0; k < count; k++)
        if (slots[k].node)
            slot_out(r, &slots[k]);
}

static void gang_in(struct slot *slots, uint32_t count, struct node *const *nodes, int64_t at_ms, int64_t length_ms)
{
    for (uint32_t k = 0; k < count; k++) {
        slots[k].node = nodes[k];
        slots[k].at_wall_ms = at_ms;
        slots[k].until_wall_ms = timeline_later(at_ms, length_ms);
        slot_in(&slots[k]);
    }
}

static bool gang_start(struct round *r, const struct slot *slots, uint32_t count, struct node *const *nodes, int64_t length_ms)
{
    for (uint32_t k = 0; k < count; k++) {
        timeline_take(&nodes[k]->plan.line, r->now_ms, timeline_later(r->now_ms, length_ms), &slots[k].need);
        nodes[k]->plan.changes++;
    }
    sched_gang_dispatch(r->s, slots[0].job, nodes, RULE_PLANNED, NULL);
    r->started += count;
    return true;
}

static bool all_take_work(struct node *const *nodes, uint32_t count)
{
    uint32_t ready = 0;
    while (ready < count && sched_node_takes_work(nodes[ready]))
        ready++;
    return ready == count;
}

/* As keep_slot. */
static bool keep_gang(struct round *r, struct slot *slots, uint32_t count, struct node **nodes, int64_t length_ms)
{
    const struct demand *d = job_class(r->s, slots[0].job)->shape->demand;
    bool due = slots[0].at_wall_ms <= r->now_ms, found = false;
    int64_t at_ms = r->now_ms;
    if (!due && !r->better_count)
        return false;
    gang_taken(slots, count, false);
    if (!due) {
        found = gang_first(r, d, r->now_ms, length_ms, slots[0].at_wall_ms, nodes, &at_ms);
    } else {
        found = slots[0].until_wall_ms > r->now_ms;
        for (uint32_t k = 0; k < count; k++) {
            nodes[k] = slots[k].node;
            found = found && first_on(r, nodes[k], &d->need, r->now_ms, slots[k].until_wall_ms - r->now_ms, r->now_ms + 1) == r->now_ms;
        }
    }
    gang_taken(slots, count, true);
    if (!found && !due)
        return false;
    if (found && at_ms == r->now_ms && r->started < r->most && all_take_work(nodes, count)) {
        gang_out(r, slots, count);
        return gang_start(r, slots, count, nodes, length_ms);
    }
    if (found && due)
        return false;
    gang_out(r, slots, count);
    if (found)
        gang_in(slots, count, nodes, at_ms, length_ms);
    return false;
}

static bool find_gang(struct round *r, struct slot *slots, uint32_t count, struct node **nodes, int64_t not_before_ms, int64_t length_ms)
{
    const struct demand *d = job_class(r->s, slots[0].job)->shape->demand;
    struct admission a = { r->s, &d->need, length_ms };
    if (r->keep && r->started < r->most && sched_gang_place(r->s, d, index_admits, &a, nodes))
        return gang_start(r, slots, count, nodes, length_ms);
    int64_t at_ms;
    if (gang_first(r, d, not_before_ms, length_ms, TIMELINE_NEVER, nodes, &at_ms))
        gang_in(slots, count, nodes, at_ms, length_ms);
    return false;
}

/* The gang whose first slot is at i. True: it was started. */
static bool one_gang(struct round *r, size_t i, int64_t not_before_ms)
{
    struct slot *slots = &r->plan->slots[i];
    struct shape *shape = job_class(r->s, slots[0].job)->shape;
    uint32_t count = shape->demand->nodes;
    int64_t length_ms = length_of(r->s, shape);
    autofree struct node **nodes = mem_alloc(count * sizeof *nodes);
    if (shape->blocked_by || (r->keep && sched_shape_limited(r->s, shape))) {
        gang_out(r, slots, count);
        return false;
    }
    if (slots[0].node && keep_gang(r, slots, count, nodes, length_ms))
        return true;
    if (!slots[0].node) {
        if (r->keep && r->work_left && sched_gang_fits(r->s, shape->demand, true))
            lower_ranks_wait(r, i);
        if (find_gang(r, slots, count, nodes, not_before_ms, length_ms))
            return true;
    }
    for (uint32_t k = 0; k < count && slots[0].node; k++)
        slot_settled(r, &slots[k]);
    return false;
}

/* The slot at i in its turn. True: its task was started. */
static bool one_task(struct round *r, size_t i, int64_t not_before_ms)
{
    struct slot *slot = &r->plan->slots[i];
    struct shape *shape = job_class(r->s, slot->job)->shape;
    int64_t length_ms = length_of(r->s, shape);
    if (shape->blocked_by || (r->keep && sched_shape_limited(r->s, shape))) {
        if (slot->node)
            slot_out(r, slot); /* A limit keeps it out: it has no place while it does. */
        return false;
    }
    if (slot->node && keep_slot(r, slot, length_ms))
        return true;
    if (!slot->node) {
        if (r->keep && r->work_left && search_for(r, shape->demand, length_ms)->count)
            lower_ranks_wait(r, i);
        if (find_slot(r, slot, not_before_ms, length_ms))
            return true;
    }
    if (slot->node)
        slot_settled(r, slot);
    return false;
}

static void round_run(struct round *r)
{
    struct plan *p = r->plan;
    p->rounds++;
    tasks_in_order(r);
    lines_now(r);
    slots_again(r);
    r->moved = false; /* So far everybody has still to be asked. */
    int64_t not_before_ms = r->now_ms;
    size_t kept = 0;
    for (size_t i = 0, next; i < p->count; i = next) {
        next = i + slots_together(r->s, &p->slots[i]);
        if (next > i + 1 ? one_gang(r, i, not_before_ms) : one_task(r, i, not_before_ms))
            continue;
        if (p->slots[i].node && r->s->config.backfill == BACKFILL_NONE)
            not_before_ms = p->slots[i].at_wall_ms;
        while (i < next)
            p->slots[kept++] = p->slots[i++];
    }
    p->count = kept;
    p->next_wall_ms = TIMELINE_NEVER;
    for (size_t i = 0; i < kept; i++)
        if (p->slots[i].node && p->slots[i].at_wall_ms > r->now_ms && p->slots[i].at_wall_ms < p->next_wall_ms)
            p->next_wall_ms = p->slots[i].at_wall_ms;
    p->promised = r->keep;
    p->made_wall_ms = r->now_ms;
    index_slots(p, p->slots, p->count);
    for (size_t i = 0; i < r->searches_count; i++)
        free(r->searches[i].heap);
    free(r->searches);
    free(r->better);
}

size_t sched_slots_keep(struct sched *s, size_t most, bool *again)
{
    struct round r = { .s = s, .plan = &s->plan, .keep = true, .now_ms = s->wall_ms, .work_left = PLAN_WORK_MAX, .most = most };
    round_run(&r);
    *again = r.started == most || (r.moved && r.work_left);
    return r.started;
}

void sched_slots_expect(struct sched *s)
{
    struct round r = { .s = s, .plan = &s->plan, .now_ms = s->wall_ms, .work_left = PLAN_WORK_MAX };
    round_run(&r);
    for (size_t i = 0; i < s->nodes_count; i++)
        timeline_fini(&s->nodes[i]->plan.line); /* Made anew each time anyway. */
}

void sched_slots_check(const struct sched *s)
{
    const struct plan *p = &s->plan;
    if (!p->promised)
        return;
    uint32_t *slots = mem_zero(s->nodes_count + 1, sizeof *slots);
    for (size_t i = 0; i < p->count; i++) {
        if (p->slots[i].node)
            slots[p->slots[i].node->id.n]++;
    }
    for (size_t i = 0; i < s->nodes_count; i++) {
        const struct node *n = s->nodes[i];
        if (n->plan.stale || !takes_part(n))
            continue;
        check(n->plan.slots == slots[n->id.n]);
        for (size_t k = 0; k < n->plan.line.count; k++)
            for (int d = 0; d < RES_DIMS; d++)
                check(n->plan.line.steps[k].taken.v[d] <= n->capacity.v[d] || n->allocated.v[d] > n->capacity.v[d]);
    }
    free(slots);
}
