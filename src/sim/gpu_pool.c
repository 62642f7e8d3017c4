#include "sim/gpu_pool.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/mem.h"

/* The mix is made of the requests that most ask, until they are this part of all; it is made anew when a quarter more asked. */
#define MIX_COVERS 0.95
#define MIX_FIRST 16u

struct pool_class {
    struct gpus_need need;
    uint64_t jobs;
    double *scores;     /* by node; -INFINITY: it does not fit. NULL: nothing known yet */
    uint8_t *devices;
    size_t seen;        /* how much of `changed` they know */
    uint64_t epoch;
};

void pool_init(struct gpu_pool *p, enum gpus_policy policy, uint64_t seed, const struct gpus_node *nodes, uint32_t nodes_count,
               const struct gpus_need *needs, uint32_t needs_count)
{
    *p = (struct gpu_pool){ .policy = policy, .nodes_count = nodes_count, .classes_count = needs_count, .mix_due = MIX_FIRST };
    prng_seed(&p->prng, seed);
    p->nodes = mem_copy(nodes, nodes_count * sizeof *nodes);
    p->classes = mem_zero(needs_count + 1, sizeof *p->classes);
    for (uint32_t i = 0; i < needs_count; i++)
        p->classes[i].need = needs[i];
    p->shapes = mem_zero(needs_count + 1, sizeof *p->shapes);
    p->mix.shapes = p->shapes;
}

void pool_fini(struct gpu_pool *p)
{
    for (uint32_t i = 0; i < p->classes_count; i++) {
        free(p->classes[i].scores);
        free(p->classes[i].devices);
    }
    free(p->classes);
    free(p->shapes);
    free(p->changed);
    free(p->nodes);
    *p = (struct gpu_pool){ 0 };
}

/* --- the mix --- */

static int more_first(const void *a, const void *b)
{
    const struct pool_class *x = *(struct pool_class *const *)a, *y = *(struct pool_class *const *)b;
    if (x->jobs != y->jobs)
        return x->jobs > y->jobs ? -1 : 1;
    return x < y ? -1 : x > y;
}

static void make_mix(struct gpu_pool *p)
{
    autofree struct pool_class **by_jobs = mem_zero(p->classes_count + 1, sizeof *by_jobs);
    for (uint32_t i = 0; i < p->classes_count; i++)
        by_jobs[i] = &p->classes[i];
    qsort(by_jobs, p->classes_count, sizeof *by_jobs, more_first);
    p->mix.count = 0;
    p->mix.jobs = 0;
    for (uint32_t i = 0; i < p->classes_count && by_jobs[i]->jobs && (double)p->mix.jobs < MIX_COVERS * (double)p->asked; i++) {
        p->shapes[p->mix.count++] = (struct gpus_shape){ by_jobs[i]->need, by_jobs[i]->jobs };
        p->mix.jobs += by_jobs[i]->jobs;
    }
    p->epoch++;
}

void pool_asked(struct gpu_pool *p, uint32_t need)
{
    check(need < p->classes_count);
    p->classes[need].jobs++;
    if (++p->asked < p->mix_due && p->asked > MIX_FIRST)
        return;
    if (p->asked >= p->mix_due)
        p->mix_due += p->mix_due / 4;
    if (p->policy == GPUS_FRAGMENTATION)
        make_mix(p);
}

/* --- choosing --- */

static void score(struct gpu_pool *p, struct pool_class *c, uint32_t i)
{
    uint32_t device = 0;
    const struct gpus_node *n = &p->nodes[i];
    c->scores[i] = gpus_fit(n, &c->need) ? gpus_score(p->policy, n, &c->need, &p->mix, &device) : -INFINITY;
    c->devices[i] = (uint8_t)device;
}

static void bring_up_to_date(struct gpu_pool *p, struct pool_class *c)
{
    if (!c->scores || c->epoch != p->epoch || p->changed_count - c->seen > p->nodes_count) {
        if (!c->scores) {
            c->scores = mem_alloc((p->nodes_count + 1) * sizeof *c->scores);
            c->devices = mem_alloc((p->nodes_count + 1) * sizeof *c->devices);
        }
        for (uint32_t i = 0; i < p->nodes_count; i++)
            score(p, c, i);
    } else {
        for (size_t k = c->seen; k < p->changed_count; k++)
            score(p, c, p->changed[k]);
    }
    c->seen = p->changed_count;
    c->epoch = p->epoch;
}

static uint32_t highest(const struct gpu_pool *p, const struct pool_class *c)
{
    uint32_t best = POOL_NONE;
    for (uint32_t i = 0; i < p->nodes_count; i++)
        if (c->scores[i] > -INFINITY && (best == POOL_NONE || c->scores[i] > c->scores[best]))
            best = i;
    return best;
}

static uint32_t any(struct gpu_pool *p, const struct pool_class *c)
{
    uint32_t chosen = POOL_NONE;
    uint64_t fit = 0;
    for (uint32_t i = 0; i < p->nodes_count; i++)
        if (c->scores[i] > -INFINITY && prng_below(&p->prng, ++fit) == 0)
            chosen = i;
    return chosen;
}

static uint32_t next(struct gpu_pool *p, const struct pool_class *c)
{
    for (uint32_t k = 0; k < p->nodes_count; k++) {
        uint32_t i = (p->next + k) % p->nodes_count;
        if (c->scores[i] > -INFINITY) {
            p->next = (i + 1) % p->nodes_count;
            return i;
        }
    }
    return POOL_NONE;
}

static void note_change(struct gpu_pool *p, uint32_t node)
{
    p->changed = mem_grow(p->changed, &p->changed_cap, p->changed_count + 1, sizeof *p->changed);
    p->changed[p->changed_count++] = node;
}

uint32_t pool_place(struct gpu_pool *p, uint32_t need, uint32_t *taken)
{
    check(need < p->classes_count);
    struct pool_class *c = &p->classes[need];
    bring_up_to_date(p, c);
    uint32_t i = p->policy == GPUS_RANDOM ? any(p, c) : p->policy == GPUS_ROUNDROBIN ? next(p, c) : highest(p, c);
    *taken = 0;
    if (i == POOL_NONE)
        return i;
    gpus_take(&p->nodes[i], &c->need, c->devices[i], taken);
    note_change(p, i);
    return i;
}

void pool_give_back(struct gpu_pool *p, uint32_t need, uint32_t node, uint32_t taken)
{
    check(need < p->classes_count && node < p->nodes_count);
    gpus_give_back(&p->nodes[node], &p->classes[need].need, taken);
    note_change(p, node);
}
