/* gpu_pool.h: nodes with numbered GPUs, and the choice among them by a placement policy of core/policy/gpus.h.
 * It finds what a look at every node would find; scores are kept per request and made anew for nodes that changed.
 * The mix that `fragmentation` looks at is what was asked up to now: nobody knows what comes. */
#ifndef ROTA_SIM_GPU_POOL_H
#define ROTA_SIM_GPU_POOL_H

#include "base/prng.h"
#include "core/policy/gpus.h"

#define POOL_NONE UINT32_MAX

struct pool_class; /* requests that are equal */

struct gpu_pool {
    enum gpus_policy policy;
    struct prng prng;            /* for random */
    struct gpus_node *nodes;     /* by number */
    uint32_t nodes_count, next;  /* next: where roundrobin goes on */
    struct pool_class *classes;
    uint32_t classes_count;
    uint32_t *changed;           /* nodes, in the order in which they changed */
    size_t changed_count, changed_cap;
    struct gpus_mix mix;
    struct gpus_shape *shapes;
    uint64_t asked, mix_due, epoch; /* how many asked; when the mix is made anew; how often it was */
};

/* Copies both. */
void pool_init(struct gpu_pool *p, enum gpus_policy policy, uint64_t seed, const struct gpus_node *nodes, uint32_t nodes_count,
               const struct gpus_need *needs, uint32_t needs_count);
void pool_fini(struct gpu_pool *p);
/* Counts the request in the mix. Once for each job. */
void pool_asked(struct gpu_pool *p, uint32_t need);
/* The node it was placed on, POOL_NONE: it fits nowhere. *taken: for pool_give_back. */
uint32_t pool_place(struct gpu_pool *p, uint32_t need, uint32_t *taken);
void pool_give_back(struct gpu_pool *p, uint32_t need, uint32_t node, uint32_t taken);

#endif
