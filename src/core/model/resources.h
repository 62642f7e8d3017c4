/* resources.h: what a job needs and a node has, as a vector that is compared in every dimension.
 * The first three dimensions are fixed; the others are named resources (licences, disks), numbered by the master in the
 * order in which they first appear (record RESOURCE). */
#ifndef ROTA_CORE_MODEL_RESOURCES_H
#define ROTA_CORE_MODEL_RESOURCES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum resource_dim {
    RES_CPU,   /* thousandths of a CPU */
    RES_MEM,   /* bytes */
    RES_GPU,   /* thousandths of a GPU */
    RES_NAMED, /* first named resource, in units */
    RES_DIMS = 8
};
#define RES_NAMED_MAX (RES_DIMS - RES_NAMED)
/* The named resource that a job with an image takes one of; a node has it while a container engine answers there. */
#define RES_CONTAINERS "containers"
#define RES_NAME_BYTES 32 /* longest name of a named resource, with the final zero */

/* Which constraints (model/where.h) a node meets, by their numbers. */
struct traits {
    uint64_t *bits; /* owned */
    size_t words;
};

struct resources {
    uint64_t v[RES_DIMS];
    uint64_t where;              /* of what a job needs: the number of its constraint; 0: none */
    const struct traits *traits; /* of what a node has: borrowed; NULL: it meets none */
};

/* Whether a node with `has` may run it at all, however much it has. Sums and comparisons of amounts look at v only. */
static inline bool resources_suit(const struct resources *need, const struct resources *has)
{
    size_t word = need->where / 64;
    return !need->where || (has->traits && word < has->traits->words && (has->traits->bits[word] >> (need->where % 64) & 1));
}

static inline bool resources_fit(const struct resources *need, const struct resources *have)
{
    for (int d = 0; d < RES_DIMS; d++)
        if (need->v[d] > have->v[d])
            return false;
    return true;
}

/* Whether an empty node with `has` could run it: it suits, and has enough. */
static inline bool resources_could(const struct resources *need, const struct resources *has)
{
    return resources_suit(need, has) && resources_fit(need, has);
}

/* Whether the amounts have room in `has` beside what is taken. What is not asked for never refuses. */
static inline bool resources_beside(const struct resources *need, const struct resources *taken, const struct resources *has)
{
    for (int d = 0; d < RES_DIMS; d++)
        if (need->v[d] && taken->v[d] + need->v[d] > has->v[d])
            return false;
    return true;
}

static inline void resources_add(struct resources *to, const struct resources *more)
{
    for (int d = 0; d < RES_DIMS; d++)
        to->v[d] += more->v[d];
}

/* The caller knows that `less` fits. */
static inline void resources_sub(struct resources *from, const struct resources *less)
{
    for (int d = 0; d < RES_DIMS; d++)
        from->v[d] -= less->v[d];
}

static inline bool resources_equal(const struct resources *a, const struct resources *b)
{
    for (int d = 0; d < RES_DIMS; d++)
        if (a->v[d] != b->v[d])
            return false;
    return true;
}

/* The largest share of any dimension of `whole` that `part` takes (dominant share, Ghodsi et al. 2011); 0 .. 1. */
double resources_share(const struct resources *part, const struct resources *whole);

#endif
