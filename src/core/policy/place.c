#include "core/policy/place.h"

#include <math.h>

static double share_after(const struct resources *need, const struct resources *allocated,
                          const struct resources *capacity)
{
    struct resources after = *allocated;
    resources_add(&after, need);
    return resources_share(&after, capacity);
}

/* Each step of share_after grows with what is allocated and falls with the capacity, also in floating point: so nodes
 * that are all alike have exactly the bound. */
static double share_after_most(const struct resources *need, const struct node_span *span)
{
    for (int d = 0; d < RES_DIMS; d++)
        if (!span->capacity_min.v[d] && span->capacity_max.v[d])
            return INFINITY;
    return share_after(need, &span->allocated_max, &span->capacity_min);
}

static double share_after_least(const struct resources *need, const struct node_span *span)
{
    double most = 0;
    for (int d = 0; d < RES_DIMS; d++) {
        if (!span->capacity_min.v[d])
            continue; /* A node without it has no share of it. */
        double share = (double)(span->allocated_min.v[d] + need->v[d]) / (double)span->capacity_max.v[d];
        most = share > most ? share : most;
    }
    return most;
}

const struct scorer scorer_binpack = { .name = "binpack", .score = share_after, .bound = share_after_most };

static double emptiness(const struct resources *need, const struct resources *allocated,
                        const struct resources *capacity)
{
    return -share_after(need, allocated, capacity);
}

static double emptiness_most(const struct resources *need, const struct node_span *span)
{
    return -share_after_least(need, span);
}

const struct scorer scorer_spread = { .name = "spread", .score = emptiness, .bound = emptiness_most };
