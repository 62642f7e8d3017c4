/* place.h: where a job goes: how good a node is for what it asks. Pure functions of numbers.
 *
 * A scorer comes with a bound: what no node of a group scores more than, told from what holds for all of the group. The
 * index of nodes (core/sched/node_index.h) leaves out groups by it, so that the best of 10,000 nodes is found by
 * looking at a few. A bound that is too high costs time; one that is too low would be an error (node_index_test.c
 * compares with a look at every node). */
#ifndef ROTA_CORE_POLICY_PLACE_H
#define ROTA_CORE_POLICY_PLACE_H

#include "core/model/resources.h"

/* What holds for every node of a group, in each dimension. */
struct node_span {
    struct resources capacity_min, capacity_max, allocated_min, allocated_max;
    struct resources free_max;
    uint64_t number_min;
};

struct scorer {
    const char *name;
    /* The node with the highest score is taken; of equals the one with the lowest number. It has room for `need`. */
    double (*score)(const struct resources *need, const struct resources *allocated, const struct resources *capacity);
    /* Not less than the score of any node of the span that has room. */
    double (*bound)(const struct resources *need, const struct node_span *span);
};

extern const struct scorer scorer_binpack; /* best fit: the node that is fullest afterwards, by dominant share */
extern const struct scorer scorer_spread;  /* the node that is emptiest afterwards */

#endif
