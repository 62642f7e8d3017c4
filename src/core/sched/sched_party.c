/* sched_party.c: who has limits and shares: queues, users, accounts, tokens, and users within accounts.
 *
 * Every open attempt is held against the party of its queue, of its user, of its user within its account, of that account and
 * the accounts above it, and of its tokens. What a limit refuses leaves the queue's heaps as a whole shape and waits in a heap
 * of the party that refused it; it comes back when that party has less, or its limit is changed. So a job that a limit keeps
 * out costs nothing in a cycle, however many there are like it, and holds up nobody. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/bug.h"
#include "core/policy/fairshare.h"
#include "core/sched/sched_state.h"

void party_settings_default(struct party_settings *set)
{
    *set = (struct party_settings){ .limits = limits_none, .order = ORDERS };
}

/* --- parties --- */

static void party_init(struct party *p, enum party_kind kind, uint32_t number)
{
    *p = (struct party){ .kind = kind, .number = number };
    party_settings_default(&p->set);
    heap_init(&p->blocked, sched_shape_before);
    list_init(&p->loosened);
}

static void party_fini(struct party *p)
{
    heap_fini(&p->blocked);
    free((char *)p->set.reason.data);
    free((char *)p->set.parent.data);
}

void sched_party_init(struct sched *s)
{
    list_init(&s->loosened);
    party_init(&s->common, PARTY_QUEUE, UINT32_MAX);
}

void sched_party_fini(struct sched *s)
{
    for (int kind = 0; kind < PARTY_KINDS; kind++) {
        for (size_t i = 0; i < s->parties[kind].count; i++) {
            party_fini(s->parties[kind].all[i]);
            free(s->parties[kind].all[i]);
        }
        free(s->parties[kind].all);
    }
    party_fini(&s->common);
    intern_fini(&s->accounts);
    intern_fini(&s->tokens);
    intern_fini(&s->members);
}

struct intern *sched_party_names(struct sched *s, enum party_kind kind)
{
    struct intern *const names[PARTY_KINDS] = { [PARTY_QUEUE] = &s->queues,
                                                [PARTY_USER] = &s->users,
                                                [PARTY_ACCOUNT] = &s->accounts,
                                                [PARTY_TOKEN] = &s->tokens,
                                                [PARTY_MEMBER] = &s->members };
    return names[kind];
}

static struct bytes name_of(const struct sched *s, enum party_kind kind, uint32_t number)
{
    const struct intern *const names[PARTY_KINDS] = {
        [PARTY_QUEUE] = &s->queues, [PARTY_USER] = &s->users, [PARTY_ACCOUNT] = &s->accounts, [PARTY_TOKEN] = &s->tokens
    };
    return names[kind] && number < names[kind]->count ? intern_text(names[kind], number) : bytes_of("", 0);
}

struct party *sched_party(struct sched *s, enum party_kind kind, uint32_t number)
{
    while (s->parties[kind].count <= number) {
        uint32_t next = (uint32_t)s->parties[kind].count;
        struct party *p = mem_alloc(sizeof *p);
        party_init(p, kind, next);
        if (kind == PARTY_QUEUE) {
            p->parent = &s->common;
            sched_count_queue(s, next);
        }
        s->parties[kind].all = mem_grow(s->parties[kind].all, &s->parties[kind].cap, next + 1, sizeof *s->parties[kind].all);
        s->parties[kind].all[s->parties[kind].count++] = p;
    }
    return s->parties[kind].all[number];
}

/* NULL: nobody has heard of it. */
static struct party *party_named(const struct sched *s, enum party_kind kind, struct bytes name)
{
    uint32_t number = intern_find(sched_party_names((struct sched *)(uintptr_t)s, kind), name);
    return number < s->parties[kind].count ? s->parties[kind].all[number] : NULL;
}

struct member_key { uint32_t account, user; };

static struct party *member_of(struct sched *s, uint32_t account, uint32_t user)
{
    const struct member_key key = { account, user };
    struct party *p = sched_party(s, PARTY_MEMBER, intern_add(&s->members, bytes_of(&key, sizeof key)));
    p->parent = sched_party(s, PARTY_ACCOUNT, account);
    return p;
}

static struct member_key member_key(const struct sched *s, const struct party *p)
{
    struct member_key key;
    memcpy(&key, intern_text(&s->members, p->number).data, sizeof key);
    return key;
}

void sched_party_shape(struct sched *s, struct shape *shape)
{
    shape->queue_party = sched_party(s, PARTY_QUEUE, shape->queue);
    shape->user_party = sched_party(s, PARTY_USER, shape->user);
    shape->member_party = member_of(s, shape->account, shape->user);
    for (uint32_t t = 0; t < TOKENS_MAX; t++)
        if (shape->tokens[t]) {
            shape->needs_tokens = true;
            sched_party(s, PARTY_TOKEN, t);
        }
}

/* --- what is held --- */

/* A shape's parties: its queue and what that is part of, its user, its user within its account and the accounts above. */
#define CHAINS 3
#define CHAINS_OF(shape) { (shape)->queue_party, (shape)->user_party, (shape)->member_party }

void sched_capacity(struct sched *s, const struct node *n, bool add)
{
    if (n->state == NODE_NONE || n->state == NODE_DOWN || n->state == NODE_REMOVED)
        return;
    if (add)
        resources_add(&s->capacity, &n->capacity);
    else
        resources_sub(&s->capacity, &n->capacity);
}

static double share_of(const struct sched *s, const struct held *held)
{
    return resources_share(&held->resources, &s->capacity);
}

/* Time has passed while it held what it holds. */
static void charge(const struct sched *s, struct party *p)
{
    p->had = fair_had(p->had, share_of(s, &p->held), s->record_wall_ms - p->had_wall_ms, s->config.half_life_ms);
    p->had_wall_ms = s->record_wall_ms;
    p->ratio_clock = 0;
}

static void loosen(struct sched *s, struct party *p)
{
    if (!p->blocked.count || list_linked(&p->loosened))
        return;
    list_append(&s->loosened, &p->loosened);
    s->dirty = true;
}

void sched_party_take(struct sched *s, const struct shape *shape)
{
    struct party *const chains[CHAINS] = CHAINS_OF(shape);
    for (int i = 0; i < CHAINS; i++)
        for (struct party *p = chains[i]; p; p = p->parent) {
            charge(s, p);
            p->held.attempts++;
            resources_add(&p->held.resources, &shape->demand->need);
        }
    for (uint32_t t = 0; shape->needs_tokens && t < TOKENS_MAX; t++)
        if (shape->tokens[t])
            s->parties[PARTY_TOKEN].all[t]->held.attempts += shape->tokens[t];
}

void sched_party_give(struct sched *s, const struct shape *shape)
{
    struct party *const chains[CHAINS] = CHAINS_OF(shape);
    for (int i = 0; i < CHAINS; i++)
        for (struct party *p = chains[i]; p; p = p->parent) {
            charge(s, p);
            p->held.attempts--;
            resources_sub(&p->held.resources, &shape->demand->need);
            loosen(s, p);
        }
    for (uint32_t t = 0; shape->needs_tokens && t < TOKENS_MAX; t++)
        if (shape->tokens[t]) {
            struct party *p = s->parties[PARTY_TOKEN].all[t];
            p->held.attempts -= shape->tokens[t];
            if (!BUG(token_not_woken))
                loosen(s, p);
        }
}

void sched_party_waits(struct sched *s, const struct shape *shape, int64_t tasks)
{
    struct party *const chains[CHAINS] = CHAINS_OF(shape);
    (void)s;
    for (int i = 0; i < CHAINS; i++)
        for (struct party *p = chains[i]; p; p = p->parent)
            p->waiting += (uint64_t)tasks;
}

/* --- limits --- */

/* Its own limit, else that of all others of its kind. */
static uint64_t most_of(const struct sched *s, const struct party *p, enum limit limit)
{
    uint64_t own = p->set.limits.most[limit];
    if (own != LIMIT_NONE || (p->kind != PARTY_USER && p->kind != PARTY_ACCOUNT))
        return own;
    const struct party *others = party_named(s, p->kind, bytes_str(PARTY_OTHERS));
    return others ? others->set.limits.most[limit] : LIMIT_NONE;
}

static struct limits limits_of(const struct sched *s, const struct party *p)
{
    struct limits all = p->set.limits;
    if (p->kind == PARTY_USER || p->kind == PARTY_ACCOUNT)
        for (int i = 0; i < LIMITS; i++)
            all.most[i] = most_of(s, p, (enum limit)i);
    return all;
}

size_t sched_refusals(const struct sched *s, const struct shape *shape, struct refusal *out, size_t max)
{
    const struct party *const chains[CHAINS] = CHAINS_OF(shape);
    size_t count = 0;
    if (!s->limited && !shape->needs_tokens)
        return 0;
    if (shape->queue_party->set.paused && count < max && !BUG(paused_runs))
        out[count++] = (struct refusal){ shape->queue_party, LIMITS, 0, 0, 0 };
    for (int i = 0; i < CHAINS && s->limited; i++)
        for (const struct party *p = chains[i]; p && count < max; p = p->parent) {
            if (p->kind == PARTY_MEMBER || p == &s->common)
                continue;
            struct limits limits = limits_of(s, p);
            struct held held = p->held;
            held.attempts += shape->demand->nodes - 1; /* All of a gang come at once. */
            for (int d = 0; shape->demand->nodes > 1 && d < RES_DIMS; d++)
                held.resources.v[d] += shape->demand->need.v[d] * (shape->demand->nodes - 1);
            if (BUG(limit_off_by_one) && held.attempts)
                held.attempts--;
            for (enum limit l = 0; count < max && (l = limits_refuse(&limits, &held, &shape->demand->need, l)) < LIMITS; l++)
                out[count++] = (struct refusal){ p, l, limit_used(l, &p->held),
                                                 limit_asked(l, &shape->demand->need) * shape->demand->nodes, limits.most[l] };
        }
    for (uint32_t t = 0; shape->needs_tokens && t < TOKENS_MAX && count < max; t++) {
        if (!shape->tokens[t])
            continue;
        const struct party *p = s->parties[PARTY_TOKEN].all[t];
        uint64_t asked = (uint64_t)shape->tokens[t] * shape->demand->nodes;
        if (p->held.attempts + asked > p->set.total)
            out[count++] = (struct refusal){ p, LIMITS, p->held.attempts, asked, p->set.total };
    }
    return count;
}

enum why sched_refusal_kind(const struct refusal *r)
{
    return r->party->kind == PARTY_TOKEN ? WHY_TOKENS : r->limit == LIMITS ? WHY_PAUSED : WHY_LIMIT;
}

void sched_refusal_why(const struct sched *s, const struct refusal *r, struct why_limit *out)
{
    *out = (struct why_limit){ .why = sched_refusal_kind(r),
                               .kind = r->party->kind,
                               .name = name_of(s, r->party->kind, r->party->number),
                               .limit = r->limit < LIMITS ? limit_name(r->limit) : r->party->kind == PARTY_TOKEN ? "total" : "",
                               .used = r->used,
                               .asked = r->asked,
                               .most = r->most,
                               .reason = r->party->kind == PARTY_QUEUE ? r->party->set.reason : bytes_of("", 0) };
}

/* --- shapes that limits keep out --- */

static void tried(struct shape *shape)
{
    struct party *const chains[CHAINS] = CHAINS_OF(shape);
    for (int i = 0; i < CHAINS; i++)
        for (struct party *p = chains[i]; p; p = p->parent)
            if (p->woken == shape)
                p->woken = NULL;
}

static void tokens_tried(struct sched *s, struct shape *shape)
{
    for (uint32_t t = 0; shape->needs_tokens && t < TOKENS_MAX; t++)
        if (shape->tokens[t] && s->parties[PARTY_TOKEN].all[t]->woken == shape)
            s->parties[PARTY_TOKEN].all[t]->woken = NULL;
}

static void block(struct shape *shape, const struct party *by)
{
    shape->blocked_by = (struct party *)(uintptr_t)by;
    heap_push(&shape->blocked_by->blocked, &shape->node);
}

bool sched_shape_limited(struct sched *s, struct shape *shape)
{
    struct refusal r;
    struct demand *d = shape->demand;
    if (!s->limited && !shape->needs_tokens)
        return false;
    tried(shape);
    tokens_tried(s, shape);
    if (!sched_refusals(s, shape, &r, 1))
        return false;
    struct heap *home = sched_demand_home(s, d);
    heap_remove(home, &d->node);
    heap_remove(&d->shapes, &shape->node);
    if (d->shapes.count)
        heap_push(home, &d->node);
    block(shape, r.party);
    return true;
}

void sched_shape_unblock(struct shape *shape)
{
    heap_remove(&shape->blocked_by->blocked, &shape->node);
    shape->blocked_by = NULL;
}

/* The first in order of those below `at` that nothing keeps out any more, if it is before `best`. */
static struct heap_node *first_let_in(const struct sched *s, const struct heap *h, size_t at, struct heap_node *best)
{
    struct refusal r;
    if (at >= h->count || (best && !sched_shape_before(h->nodes[at], best)))
        return best;
    if (!sched_refusals(s, heap_entry(h->nodes[at], struct shape, node), &r, 1))
        return h->nodes[at];
    best = first_let_in(s, h, 2 * at + 1, best);
    return first_let_in(s, h, 2 * at + 2, best);
}

/* Whether it lets in nobody at all. */
static bool full(const struct sched *s, const struct party *p)
{
    if (p->kind == PARTY_TOKEN)
        return p->held.attempts >= p->set.total;
    return p->set.paused || p->held.attempts >= most_of(s, p, LIMIT_RUNNING);
}

/* Those that this party does not keep out wait for whoever does. */
static void pass_on(const struct sched *s, struct party *p)
{
    struct { struct shape *shape; const struct party *to; } *moves = mem_alloc((p->blocked.count + 1) * sizeof *moves);
    size_t moves_count = 0;
    for (size_t i = 0; i < p->blocked.count; i++) {
        struct shape *shape = heap_entry(p->blocked.nodes[i], struct shape, node);
        struct refusal all[WHY_LIMITS_MAX];
        size_t count = sched_refusals(s, shape, all, WHY_LIMITS_MAX);
        bool ours = false;
        for (size_t k = 0; k < count; k++)
            ours |= all[k].party == p;
        if (count && !ours) {
            moves[moves_count].shape = shape;
            moves[moves_count++].to = all[0].party;
        }
    }
    for (size_t i = 0; i < moves_count; i++) {
        sched_shape_unblock(moves[i].shape);
        block(moves[i].shape, moves[i].to);
    }
    free(moves);
}

/* It stands among those that may fit, and will be looked at. */
static bool untried(const struct shape *shape)
{
    return heap_has(&shape->node) && !shape->blocked_by && !shape->demand->parked && heap_has(&shape->demand->node);
}

void sched_party_wake(struct sched *s)
{
    list_each_safe(at, &s->loosened) {
        struct party *p = list_entry(at, struct party, loosened);
        if (p->woken && untried(p->woken))
            continue;
        struct heap_node *first = full(s, p) ? NULL : first_let_in(s, &p->blocked, 0, NULL);
        if (!first) {
            if (!full(s, p))
                pass_on(s, p);
            list_remove(&p->loosened);
            continue;
        }
        struct shape *shape = heap_entry(first, struct shape, node);
        if (sched_shape_stale(s, shape)) { /* Ranks only get worse within a cycle: perhaps it is another one's turn. */
            heap_moved(&p->blocked, first);
            at_next = at;
            continue;
        }
        sched_shape_unblock(shape);
        sched_shape_moved(s, shape);
        p->woken = shape;
        if (!p->blocked.count)
            list_remove(&p->loosened);
    }
}

/* --- shares --- */

static double weight_of(const struct sched *s, const struct party *p)
{
    uint64_t milli = p->set.weight_milli;
    if (p->kind == PARTY_MEMBER)
        milli = s->parties[PARTY_USER].all[member_key(s, p).user]->set.weight_milli;
    return milli ? (double)milli / 1000 : 1;
}

static double had_now(const struct sched *s, const struct party *p)
{
    return fair_had(p->had, share_of(s, &p->held), s->wall_ms - p->had_wall_ms, s->config.half_life_ms);
}

static double ratio_of(const struct sched *s, struct party *p)
{
    if (p->ratio_clock != s->fair_clock) {
        p->ratio = (had_now(s, p) + share_of(s, &p->held)) / weight_of(s, p);
        p->ratio_clock = s->fair_clock;
    }
    return p->ratio;
}

bool sched_party_rank(const struct sched *s, const struct shape *shape, bool fair, double rank[RANKS_MAX])
{
    struct party *levels[ACCOUNT_DEPTH_MAX + 1], *q = shape->queue_party;
    size_t depth = 0;
    double before[RANKS_MAX];
    memcpy(before, rank, sizeof before);
    memset(rank, 0, RANKS_MAX * sizeof *rank);
    rank[0] = 0 - (double)q->set.priority;
    if (s->lanes) {
        rank[1] = ratio_of(s, q->parent ? q->parent : q);
        rank[2] = q->parent ? -1.0 : (double)q->number;
    }
    for (struct party *p = shape->member_party; fair && p && depth <= ACCOUNT_DEPTH_MAX; p = p->parent)
        levels[depth++] = p;
    for (size_t i = 0; i < depth; i++)
        rank[RANKS + i] = ratio_of(s, levels[depth - 1 - i]);
    return memcmp(before, rank, sizeof before) != 0;
}

/* --- settings --- */

static unsigned depth_of(const struct party *p)
{
    unsigned depth = 0;
    for (; p; p = p->parent)
        depth++;
    return depth;
}

/* What is held is counted again, after somebody has got another parent. */
static void recount(struct sched *s)
{
    for (int kind = 0; kind < PARTY_KINDS; kind++)
        for (size_t i = 0; i < s->parties[kind].count; i++) {
            struct party *p = s->parties[kind].all[i];
            charge(s, p);
            p->held = (struct held){ 0 };
            p->waiting = 0;
        }
    charge(s, &s->common);
    s->common.held = (struct held){ 0 };
    s->common.waiting = 0;
    for (size_t i = 0; i < s->nodes_count; i++)
        list_each(at, &s->nodes[i]->runs)
            sched_party_take(s, job_class(s, list_entry(at, struct run, on_node)->job)->shape);
    for (job_id id = sched_view_next(s, (job_id){ 0 }, false); id.n; id = sched_view_next(s, id, false)) {
        const struct job *j = sched_job(s, id);
        sched_party_waits(s, job_class(s, j)->shape, sched_tasks_waiting(j));
    }
}

static void loosen_all(struct sched *s, enum party_kind kind)
{
    for (size_t i = 0; i < s->parties[kind].count; i++)
        loosen(s, s->parties[kind].all[i]);
}

static uint64_t limit_from(uint64_t kept)
{
    return kept ? kept - 1 : LIMIT_NONE;
}

static uint64_t limit_to(uint64_t most)
{
    return most == LIMIT_NONE ? 0 : most + 1;
}

int sched_party_apply(struct sched *s, const struct ev_settings *e, struct err *err)
{
    if (e->kind >= PARTY_MEMBER || !e->name.size || e->order > ORDERS ||
        (e->kind == PARTY_TOKEN && intern_find(&s->tokens, e->name) == INTERN_NONE && s->tokens.count >= TOKENS_MAX))
        return err_set(err, ERR_CORRUPT, "settings of kind %u make no sense", e->kind);
    enum party_kind kind = (enum party_kind)e->kind;
    struct party *p = sched_party(s, kind, intern_add(sched_party_names(s, kind), e->name));
    struct party *parent = kind == PARTY_QUEUE && !e->weight_milli && !e->order ? &s->common : NULL;
    if (kind == PARTY_ACCOUNT && e->parent.size)
        parent = sched_party(s, PARTY_ACCOUNT, intern_add(&s->accounts, e->parent));
    for (const struct party *above = parent; above; above = above->parent)
        if (above == p)
            return err_set(err, ERR_CORRUPT, "an account is above itself");
    p->is_set = true;
    p->set.limits = (struct limits){ { limit_from(e->running), limit_from(e->cpu_milli), limit_from(e->mem_bytes),
                                       limit_from(e->gpu_milli), limit_from(e->pending), limit_from(e->submits_per_minute) } };
    p->set.weight_milli = e->weight_milli;
    enum order_kind order = e->order ? (enum order_kind)(e->order - 1) : ORDERS;
    bool reordered = order != p->set.order;
    p->set.order = order;
    p->set.priority = e->priority;
    p->set.paused = e->paused != 0;
    p->set.reason = sched_own(p->set.reason, e->reason);
    p->set.parent = sched_own(p->set.parent, e->parent);
    p->set.total = e->total;
    s->limited = true;
    if ((kind == PARTY_QUEUE || kind == PARTY_ACCOUNT) && parent != p->parent) {
        s->lanes += (size_t)(kind == PARTY_QUEUE && !parent);
        s->lanes -= (size_t)(kind == PARTY_QUEUE && parent);
        p->parent = parent;
        recount(s);
        loosen_all(s, PARTY_ACCOUNT); /* Who was kept out by somebody above may not be below him any more. */
    }
    loosen(s, p);
    if (bytes_equal(e->name, bytes_str(PARTY_OTHERS)))
        loosen_all(s, kind);
    s->fair_clock++;
    sched_queue_settings(s, kind == PARTY_QUEUE && reordered ? p : NULL);
    s->dirty = true;
    return 0;
}

void sched_party_settings_record(const struct sched *s, const struct party *p, struct record *r)
{
    const uint64_t *most = p->set.limits.most;
    *r = (struct record){ .kind = EV_SETTINGS };
    r->settings = (struct ev_settings){ .kind = p->kind,
                                        .name = name_of(s, p->kind, p->number),
                                        .running = limit_to(most[LIMIT_RUNNING]),
                                        .cpu_milli = limit_to(most[LIMIT_CPUS]),
                                        .mem_bytes = limit_to(most[LIMIT_MEM]),
                                        .gpu_milli = limit_to(most[LIMIT_GPUS]),
                                        .pending = limit_to(most[LIMIT_PENDING]),
                                        .submits_per_minute = limit_to(most[LIMIT_SUBMITS]),
                                        .weight_milli = p->set.weight_milli,
                                        .order = p->set.order < ORDERS ? p->set.order + 1u : 0,
                                        .priority = p->set.priority,
                                        .paused = p->set.paused,
                                        .reason = p->set.reason,
                                        .parent = p->set.parent,
                                        .total = p->set.total };
}

/* --- commands --- */

static const char *const kind_words[] = {
    [PARTY_QUEUE] = "queue", [PARTY_USER] = "user", [PARTY_ACCOUNT] = "account", [PARTY_TOKEN] = "token"
};

static int check_account(const struct sched *s, const struct sched_event *ev, struct err *err)
{
    const struct party_settings *set = ev->set.settings;
    const struct party *p = party_named(s, PARTY_ACCOUNT, ev->set.name), *parent = party_named(s, PARTY_ACCOUNT, set->parent);
    if (bytes_equal(set->parent, ev->set.name))
        return err_field(err, ERR_INVALID, "parent", "name another account", "an account can not be above itself");
    for (const struct party *above = parent; above && p; above = above->parent)
        if (above == p)
            return err_field(err, ERR_INVALID, "parent", "give that account another parent first",
                             "account \"%.*s\" is below this one", (int)set->parent.size, set->parent.data);
    unsigned below = 1;
    for (size_t i = 0; p && i < s->parties[PARTY_ACCOUNT].count; i++) {
        unsigned depth = 1;
        for (const struct party *at = s->parties[PARTY_ACCOUNT].all[i]; at && at != p; at = at->parent)
            depth = at->parent ? depth + 1 : 0;
        below = depth > below ? depth : below;
    }
    if ((set->parent.size ? (parent ? depth_of(parent) : 1u) : 0u) + below > ACCOUNT_DEPTH_MAX)
        return err_field(err, ERR_INVALID, "parent", "use fewer levels", "accounts have at most %d levels", ACCOUNT_DEPTH_MAX);
    return 0;
}

static int check_settings(const struct sched *s, const struct sched_event *ev, struct err *err)
{
    const struct party_settings *set = ev->set.settings;
    const struct intern *names = sched_party_names((struct sched *)(uintptr_t)s, ev->set.kind);
    size_t longest = ev->set.kind == PARTY_TOKEN ? RES_NAME_BYTES - 1 : 64;
    if (!ev->set.name.size || ev->set.name.size > longest)
        return err_field(err, ERR_INVALID, "name", NULL, "the name of a %s has 1 to %zu bytes", kind_words[ev->set.kind], longest);
    if (set->parent.size > 64)
        return err_field(err, ERR_INVALID, "parent", NULL, "the name of an account has at most 64 bytes");
    if (set->reason.size > 256)
        return err_field(err, ERR_INVALID, "reason", NULL, "a reason has at most 256 bytes");
    if (set->weight_milli > WEIGHT_MILLI_MAX)
        return err_field(err, ERR_INVALID, "weight", "write 0.001 to 1000000", "the weight is out of range");
    if (set->order > ORDERS)
        return err_field(err, ERR_INVALID, "order", NULL, "there is no such order");
    if (set->priority < -1000000 || set->priority > 1000000)
        return err_field(err, ERR_INVALID, "priority", "write -1000000 to 1000000", "the priority is out of range");
    if (set->total > TOKEN_TOTAL_MAX)
        return err_field(err, ERR_INVALID, "total", "write 0 to 1000000000", "so many of a token can not be");
    const size_t most = ev->set.kind == PARTY_TOKEN ? TOKENS_MAX : PARTIES_MAX;
    if (intern_find(names, ev->set.name) == INTERN_NONE && names->count >= most)
        return err_field(err, ERR_INVALID, "name", "use one of those there are", "there are %zu of kind %s already, more can not be",
                         names->count, kind_words[ev->set.kind]);
    return ev->set.kind == PARTY_ACCOUNT ? check_account(s, ev, err) : 0;
}

static bool same_settings(const struct party_settings *a, const struct party_settings *b)
{
    return memcmp(&a->limits, &b->limits, sizeof a->limits) == 0 && a->weight_milli == b->weight_milli && a->order == b->order &&
           a->priority == b->priority && a->paused == b->paused && bytes_equal(a->reason, b->reason) &&
           bytes_equal(a->parent, b->parent) && a->total == b->total;
}

void sched_set(struct sched *s, const struct sched_event *ev, struct sched_result *result)
{
    check(ev->set.kind < PARTY_MEMBER);
    if (check_settings(s, ev, &result->err) < 0)
        return;
    const struct party *p = party_named(s, ev->set.kind, ev->set.name);
    if (p && p->is_set && same_settings(&p->set, ev->set.settings))
        return;
    struct party now = { .kind = ev->set.kind, .set = *ev->set.settings, .number = UINT32_MAX };
    struct record r;
    sched_party_settings_record(s, &now, &r);
    r.settings.name = arena_bytes(&s->turn, ev->set.name);
    r.settings.reason = arena_bytes(&s->turn, now.set.reason);
    r.settings.parent = arena_bytes(&s->turn, now.set.parent);
    r.settings.actor = arena_bytes(&s->turn, ev->set.actor);
    sched_emit(s, &r);
    result->changed = true;
}

/* --- submissions --- */

static int admit(const struct sched *s, const struct party *p, enum party_kind kind, struct bytes name, uint64_t tasks, struct err *err)
{
    const struct party unknown = { .kind = kind, .set.limits = limits_none };
    const struct party *who = p ? p : &unknown;
    uint64_t pending = most_of(s, who, LIMIT_PENDING), submits = most_of(s, who, LIMIT_SUBMITS);
    if (pending != LIMIT_NONE && (tasks > pending || who->waiting > pending - tasks))
        return err_field(err, ERR_FULL, "pending", "wait until some have started, or have the limit raised",
                         "%s %.*s has %" PRIu64 " of at most %" PRIu64 " waiting tasks, and %" PRIu64 " more are asked for",
                         kind_words[kind], (int)name.size, name.data, who->waiting, pending, tasks);
    if (submits != LIMIT_NONE && rate_used(&who->rate, submits, s->wall_ms) + 1 > (double)submits)
        return err_field(err, ERR_FULL, "submits_per_minute", "submit more slowly, or use an array: it counts as one job",
                         "%s %.*s submits at most %" PRIu64 " jobs a minute", kind_words[kind], (int)name.size, name.data, submits);
    return 0;
}

int sched_party_admit(const struct sched *s, const struct job_request *q, struct err *err)
{
    const uint64_t tasks = q->nodes > 1 ? q->nodes : q->tasks ? q->tasks : 1;
    const struct bytes account = q->account.size ? q->account : bytes_str(ACCOUNT_DEFAULT);
    int rc = 0;
    for (size_t i = 0; i < q->tokens_count; i++) {
        struct bytes name = bytes_str(q->tokens[i].name);
        const struct party *token = party_named(s, PARTY_TOKEN, name);
        if (!token || !token->is_set)
            return err_field(err, ERR_INVALID, "tokens", "see rota limits for those there are",
                             "the cluster has no token \"%s\"", q->tokens[i].name);
        if (!q->tokens[i].count || q->tokens[i].count > TOKEN_TOTAL_MAX)
            return err_field(err, ERR_INVALID, "tokens", "write 1 to 1000000000", "so many of token \"%s\" can not be asked for",
                             q->tokens[i].name);
    }
    if (!s->limited)
        return 0;
    rc = admit(s, party_named(s, PARTY_QUEUE, q->queue), PARTY_QUEUE, q->queue, tasks, err);
    if (rc == 0)
        rc = admit(s, party_named(s, PARTY_USER, q->user), PARTY_USER, q->user, tasks, err);
    const struct party *p = party_named(s, PARTY_ACCOUNT, account);
    if (rc == 0)
        rc = admit(s, p, PARTY_ACCOUNT, account, tasks, err);
    for (p = p ? p->parent : NULL; rc == 0 && p; p = p->parent)
        rc = admit(s, p, PARTY_ACCOUNT, name_of(s, PARTY_ACCOUNT, p->number), tasks, err);
    return rc;
}

void sched_party_submitted(struct sched *s, const struct shape *shape)
{
    struct party *const chains[CHAINS] = CHAINS_OF(shape);
    for (int i = 0; i < CHAINS && s->limited; i++)
        for (struct party *p = chains[i]; p; p = p->parent) {
            uint64_t per_minute = p->kind == PARTY_MEMBER || p == &s->common ? LIMIT_NONE : most_of(s, p, LIMIT_SUBMITS);
            if (per_minute != LIMIT_NONE)
                rate_take(&p->rate, per_minute, s->record_wall_ms);
        }
}

/* --- asking --- */

size_t sched_view_parties(const struct sched *s, enum party_kind kind)
{
    return s->parties[kind].count;
}

static bool counts(const struct party *p)
{
    return p->waiting || p->held.attempts || p->had > 1e-6;
}

/* Its siblings are those that it competes with: of the same parent. */
static bool siblings(const struct party *a, const struct party *b)
{
    bool tree = (a->kind == PARTY_ACCOUNT || a->kind == PARTY_MEMBER) && (b->kind == PARTY_ACCOUNT || b->kind == PARTY_MEMBER);
    return (tree || a->kind == b->kind) && a->parent == b->parent;
}

void sched_view_party(const struct sched *s, enum party_kind kind, uint32_t number, struct party_view *out)
{
    check(number < s->parties[kind].count);
    struct party *p = s->parties[kind].all[number];
    *out = (struct party_view){ .kind = kind, .name = name_of(s, kind, number), .set = p->is_set, .settings = p->set,
                                .limits = limits_of(s, p), .held = p->held, .waiting = p->waiting };
    if (kind == PARTY_MEMBER) {
        struct member_key key = member_key(s, p);
        out->name = name_of(s, PARTY_ACCOUNT, key.account);
        out->user = name_of(s, PARTY_USER, key.user);
    }
    if (kind == PARTY_TOKEN)
        return;
    out->held_share = share_of(s, &p->held);
    if (kind == PARTY_USER)
        return;
    out->weight = kind == PARTY_QUEUE && p->parent ? 0 : weight_of(s, p);
    out->had_share = had_now(s, p);
    out->ratio = out->weight > 0 ? (out->had_share + out->held_share) / out->weight : 0;
    double weights = 0, had = 0;
    const enum party_kind kinds[] = { kind == PARTY_QUEUE ? PARTY_QUEUE : PARTY_ACCOUNT, PARTY_MEMBER };
    for (size_t k = 0; k < (kind == PARTY_QUEUE ? 1u : 2u); k++)
        for (size_t i = 0; i < s->parties[kinds[k]].count; i++) {
            const struct party *q = s->parties[kinds[k]].all[i];
            if (!siblings(p, q) || !counts(q))
                continue;
            weights += weight_of(s, q);
            had += had_now(s, q);
        }
    if (kind == PARTY_QUEUE && !p->parent && counts(&s->common)) {
        weights += 1;
        had += had_now(s, &s->common);
    }
    out->target = weights > 0 && out->weight > 0 && counts(p) ? out->weight / weights : 0;
    out->used = had > 0 ? out->had_share / had : 0;
}

bool sched_view_party_named(const struct sched *s, enum party_kind kind, struct bytes name, struct party_view *out)
{
    const struct party *p = party_named(s, kind, name);
    if (p)
        sched_view_party(s, kind, p->number, out);
    return p != NULL;
}

/* --- sched_check --- */

static void check_party(const struct sched *s, const struct party *p, const struct party *counted)
{
    check(p->held.attempts == counted->held.attempts && p->waiting == counted->waiting);
    check(resources_equal(&p->held.resources, &counted->held.resources));
    check(p->kind == PARTY_TOKEN || p->kind == PARTY_MEMBER || p->had >= 0);
    for (size_t i = 0; i < p->blocked.count; i++) {
        const struct shape *shape = heap_entry(p->blocked.nodes[i], struct shape, node);
        struct refusal all[WHY_LIMITS_MAX];
        size_t count = sched_refusals(s, shape, all, WHY_LIMITS_MAX);
        bool refused = list_linked(&p->loosened);
        for (size_t k = 0; k < count; k++)
            refused |= all[k].party == p;
        check(shape->blocked_by == p && shape->pending.count && refused);
    }
}

void sched_party_check(const struct sched *s)
{
    struct party *counted[PARTY_KINDS], common = { .kind = PARTY_QUEUE };
    for (int kind = 0; kind < PARTY_KINDS; kind++)
        counted[kind] = mem_zero(s->parties[kind].count + 1, sizeof *counted[kind]);
#define SUM(shape_, add_held, add_waiting)                                                                             \
    do {                                                                                                               \
        const struct party *const chains[CHAINS] = CHAINS_OF(shape_);                                                  \
        for (int i_ = 0; i_ < CHAINS; i_++)                                                                            \
            for (const struct party *p_ = chains[i_]; p_; p_ = p_->parent) {                                           \
                struct party *to = p_ == &s->common ? &common : &counted[p_->kind][p_->number];                        \
                to->waiting += (uint64_t)(add_waiting);                                                                \
                if (add_held) {                                                                                        \
                    to->held.attempts++;                                                                               \
                    resources_add(&to->held.resources, &(shape_)->demand->need);                                       \
                }                                                                                                      \
            }                                                                                                          \
    } while (0)
    struct resources capacity = { 0 };
    for (size_t i = 0; i < s->nodes_count; i++) {
        const struct node *n = s->nodes[i];
        if (n->state != NODE_NONE && n->state != NODE_DOWN && n->state != NODE_REMOVED)
            resources_add(&capacity, &n->capacity);
        list_each(at, &n->runs) {
            const struct shape *shape = job_class(s, list_entry(at, struct run, on_node)->job)->shape;
            SUM(shape, true, 0);
            for (uint32_t t = 0; t < TOKENS_MAX; t++)
                if (shape->tokens[t])
                    counted[PARTY_TOKEN][t].held.attempts += shape->tokens[t];
        }
    }
    check(resources_equal(&capacity, &s->capacity));
    for (job_id id = sched_view_next(s, (job_id){ 0 }, false); id.n; id = sched_view_next(s, id, false)) {
        const struct job *j = sched_job(s, id);
        SUM(job_class(s, j)->shape, false, sched_tasks_waiting(j));
    }
#undef SUM
    check_party(s, &s->common, &common);
    for (int kind = 0; kind < PARTY_KINDS; kind++) {
        for (size_t i = 0; i < s->parties[kind].count; i++)
            check_party(s, s->parties[kind].all[i], &counted[kind][i]);
        free(counted[kind]);
    }
}
