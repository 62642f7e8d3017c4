#include "core/sched/node_index.h"

#include <string.h>

#include "base/check.h"

/* --- what holds for a part of the tree --- */

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}
static uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static void span_of(const struct index_node *n, struct node_span *span)
{
    span->capacity_min = span->capacity_max = n->capacity;
    span->allocated_min = span->allocated_max = n->allocated;
    for (int d = 0; d < RES_DIMS; d++)
        span->free_max.v[d] = n->capacity.v[d] > n->allocated.v[d] ? n->capacity.v[d] - n->allocated.v[d] : 0;
    span->number_min = n->number;
}

static void span_add(struct node_span *span, const struct node_span *more)
{
    for (int d = 0; d < RES_DIMS; d++) {
        span->capacity_min.v[d] = least(span->capacity_min.v[d], more->capacity_min.v[d]);
        span->capacity_max.v[d] = most(span->capacity_max.v[d], more->capacity_max.v[d]);
        span->allocated_min.v[d] = least(span->allocated_min.v[d], more->allocated_min.v[d]);
        span->allocated_max.v[d] = most(span->allocated_max.v[d], more->allocated_max.v[d]);
        span->free_max.v[d] = most(span->free_max.v[d], more->free_max.v[d]);
    }
    if (more->number_min < span->number_min)
        span->number_min = more->number_min;
}

static struct index_node *summed(struct index_node *n)
{
    span_of(n, &n->span);
    if (n->left)
        span_add(&n->span, &n->left->span);
    if (n->right)
        span_add(&n->span, &n->right->span);
    return n;
}

/* --- the tree --- */

/* The finalizer of splitmix64 (Steele, Lea and Flood, 2014). */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* Capacities that agree in their first five binary digits are of one kind: machines differ by what their firmware
 * keeps. */
static uint64_t kind_of(const struct resources *capacity)
{
    uint64_t kind = 0;
    for (int d = 0; d < RES_DIMS; d++) {
        uint64_t v = capacity->v[d];
        int shift = v >= 32 ? 59 - __builtin_clzll(v) : 0;
        kind = mix(kind + (v >> shift << shift));
    }
    return kind;
}

static bool before(const struct index_node *a, const struct index_node *b)
{
    if (a->kind != b->kind)
        return a->kind < b->kind;
    return a->fullness != b->fullness ? a->fullness < b->fullness : a->number < b->number;
}

static bool above(const struct index_node *a, const struct index_node *b)
{
    return mix(a->number) > mix(b->number); /* Different numbers never have the same. */
}

static struct index_node *merge(struct index_node *a, struct index_node *b)
{
    if (!a || !b)
        return a ? a : b;
    if (above(a, b)) {
        a->right = merge(a->right, b);
        return summed(a);
    }
    b->left = merge(a, b->left);
    return summed(b);
}

/* What goes before `at` and what does not. */
static void split(struct index_node *t, const struct index_node *at, struct index_node **first,
                  struct index_node **second)
{
    if (!t) {
        *first = *second = NULL;
    } else if (before(t, at)) {
        split(t->right, at, &t->right, second);
        *first = summed(t);
    } else {
        split(t->left, at, first, &t->left);
        *second = summed(t);
    }
}

static struct index_node *with(struct index_node *t, struct index_node *n)
{
    if (!t || above(n, t)) {
        split(t, n, &n->left, &n->right);
        return summed(n);
    }
    if (before(n, t))
        t->left = with(t->left, n);
    else
        t->right = with(t->right, n);
    return summed(t);
}

static struct index_node *without(struct index_node *t, struct index_node *n)
{
    check(t);
    if (t == n)
        return merge(t->left, t->right);
    if (before(n, t))
        t->left = without(t->left, n);
    else
        t->right = without(t->right, n);
    return summed(t);
}

void node_index_remove(struct node_index *x, struct index_node *n)
{
    if (!n->in)
        return;
    x->root = without(x->root, n);
    n->left = n->right = NULL;
    n->in = false;
}

void node_index_put(struct node_index *x, struct index_node *n, uint32_t number, const struct resources *capacity,
                    const struct resources *allocated)
{
    if (n->in && resources_equal(&n->capacity, capacity) && resources_equal(&n->allocated, allocated))
        return;
    node_index_remove(x, n);
    n->number = number;
    n->kind = kind_of(capacity);
    n->fullness = resources_share(allocated, capacity);
    n->capacity = *capacity;
    n->allocated = *allocated;
    n->in = true;
    x->root = with(x->root, n);
}

/* --- finding --- */

struct search {
    const struct scorer *scorer;
    const struct resources *need;
    bool (*accepts)(void *arg, const struct index_node *n);
    void *arg;
    struct index_node *best;
    double score;
};

static bool better(const struct search *q, double score, uint32_t number)
{
    return !q->best || score > q->score || (score == q->score && number < q->best->number);
}

static void look(struct search *q, struct index_node *n)
{
    if (!resources_suit(q->need, &n->capacity) || !resources_beside(q->need, &n->allocated, &n->capacity))
        return;
    double score = q->scorer->score(q->need, &n->allocated, &n->capacity);
    if (!better(q, score, n->number) || (q->accepts && !q->accepts(q->arg, n)))
        return;
    q->best = n;
    q->score = score;
}

static void visit(struct search *q, struct index_node *n)
{
    look(q, n);
    struct index_node *sides[2] = { n->left, n->right };
    double bounds[2] = { 0, 0 };
    for (int i = 0; i < 2; i++) {
        if (sides[i] && !resources_fit(q->need, &sides[i]->span.free_max))
            sides[i] = NULL;
        if (sides[i])
            bounds[i] = q->scorer->bound(q->need, &sides[i]->span);
    }
    int first = sides[1] && (!sides[0] || bounds[1] > bounds[0]);
    for (int i = 0; i < 2; i++) {
        int side = i ? !first : first;
        if (sides[side] && better(q, bounds[side], sides[side]->span.number_min))
            visit(q, sides[side]);
    }
}

struct index_node *node_index_best(const struct node_index *x, const struct scorer *scorer,
                                   const struct resources *need, bool (*accepts)(void *arg, const struct index_node *n),
                                   void *arg)
{
    struct search q = { .scorer = scorer, .need = need, .accepts = accepts, .arg = arg };
    if (x->root && resources_fit(need, &x->root->span.free_max))
        visit(&q, x->root);
    return q.best;
}

static bool fits_empty(const struct index_node *n, const struct resources *need)
{
    if (!n || !resources_fit(need, &n->span.capacity_max))
        return false;
    return resources_could(need, &n->capacity) || fits_empty(n->left, need) || fits_empty(n->right, need);
}

bool node_index_fits_empty(const struct node_index *x, const struct resources *need)
{
    return fits_empty(x->root, need);
}

/* --- node_index_check --- */

static size_t check_part(const struct index_node *n, const struct index_node *after, const struct index_node *until)
{
    if (!n)
        return 0;
    check(n->in && (!after || before(after, n)) && (!until || before(n, until)));
    check((!n->left || above(n, n->left)) && (!n->right || above(n, n->right)));
    struct index_node copy = *n;
    check(memcmp(&summed(&copy)->span, &n->span, sizeof n->span) == 0);
    return 1 + check_part(n->left, after, n) + check_part(n->right, n, until);
}

size_t node_index_check(const struct node_index *x)
{
    return check_part(x->root, NULL, NULL);
}
