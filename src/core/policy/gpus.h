/* gpus.h: where a job goes when GPUs are counted one by one. Pure functions of numbers.
 *
 * A GPU is given out whole, or in parts to several jobs, each of which has its part of one GPU. So half a GPU free on each of two
 * is not one GPU free: capacity that is there and fits nobody is fragmented.
 *
 * Fragmentation (Weng and others, "Beware of fragmentation", ATC'23): a node's free GPU capacity that a job of the workload could
 * not use, as the mean over the workload's jobs. Their measure asks whether one such job still fits. Ours is the mean of that and of
 * how far CPUs and memory go for as many as the GPUs have room for (`gpus_stranded`): so a node whose CPUs run low beside its GPUs
 * counts as fragmented before nothing fits any more. */
#ifndef ROTA_CORE_POLICY_GPUS_H
#define ROTA_CORE_POLICY_GPUS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/model/resources.h"

#define GPUS_ON_NODE_MAX 16u
#define GPU_WHOLE 1000u

struct gpus_node {
    uint32_t number;
    uint32_t count;                     /* GPUs; up to GPUS_ON_NODE_MAX */
    uint64_t model;                     /* one bit; 0: none */
    struct resources capacity, free;    /* free.v[RES_GPU] is the sum of free_milli */
    uint16_t free_milli[GPUS_ON_NODE_MAX];
};

struct gpus_need {
    struct resources total; /* v[RES_GPU] is count * milli */
    uint32_t count;         /* GPUs */
    uint32_t milli;         /* of each: 1 .. 1000; less than 1000 only with count 1 */
    uint64_t models;        /* bits of those that will do; 0: any */
};

/* The workload as far as it is known: how many jobs asked what. */
struct gpus_shape {
    struct gpus_need need;
    uint64_t jobs;
};
struct gpus_mix {
    const struct gpus_shape *shapes;
    size_t count;
    uint64_t jobs; /* sum over the shapes; > 0 if count is */
};

/* Numbers are positions; append only. */
enum gpus_policy { GPUS_BINPACK, GPUS_SPREAD, GPUS_DOTPROD, GPUS_FRAGMENTATION, GPUS_RANDOM, GPUS_ROUNDROBIN, GPUS_POLICIES };
#define GPUS_POLICY_WORDS "binpack|spread|dotprod|fragmentation|random|roundrobin" /* by their places */
extern const char *const gpus_policy_names[GPUS_POLICIES];

bool gpus_fit(const struct gpus_node *n, const struct gpus_need *need);

/* Expected free GPU capacity, in thousandths, that jobs of the mix could not use: 0 .. free. */
double gpus_stranded(const struct gpus_node *n, const struct gpus_mix *mix);

/* How good a node is for a job that fits it; the node with the highest score is taken, of equals the one with the lowest number.
 *   binpack, spread   as scorer_binpack and scorer_spread (place.h)
 *   dotprod           the request and what is free point the same way (Tetris: Grandl and others, SIGCOMM'14)
 *   fragmentation     how little gpus_stranded grows; of equals the fuller node
 * 0 for random and roundrobin, which are the caller's: one choice out of all that fit, or the next by number.
 * *device: for a part of a GPU, the one to take it from. */
double gpus_score(enum gpus_policy policy, const struct gpus_node *n, const struct gpus_need *need, const struct gpus_mix *mix,
                  uint32_t *device);

/* Takes what was found to fit. Whole GPUs are the lowest that are idle; `device` is for parts. */
void gpus_take(struct gpus_node *n, const struct gpus_need *need, uint32_t device, uint32_t *taken);
/* `taken` is what gpus_take said: bit d for GPU d. */
void gpus_give_back(struct gpus_node *n, const struct gpus_need *need, uint32_t taken);

#endif
