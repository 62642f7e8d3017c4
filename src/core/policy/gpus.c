#include "core/policy/gpus.h"

#include "base/check.h"
#include "core/policy/place.h"

const char *const gpus_policy_names[GPUS_POLICIES] = { "binpack", "spread", "dotprod", "fragmentation", "random", "roundrobin" };

static uint32_t devices_with(const struct gpus_node *n, uint32_t milli)
{
    uint32_t count = 0;
    for (uint32_t d = 0; d < n->count; d++)
        count += n->free_milli[d] >= milli;
    return count;
}

bool gpus_fit(const struct gpus_node *n, const struct gpus_need *need)
{
    if (!resources_fit(&need->total, &n->free))
        return false;
    if (!need->count)
        return true;
    return (!need->models || (n->model & need->models)) && devices_with(n, need->milli) >= need->count;
}

/* --- fragmentation --- */

/* How many such jobs the other resources are enough for, as a fraction; `most` at most; 0 if not for one. */
static double copies(const struct gpus_node *n, const struct gpus_need *need, double most)
{
    for (int d = 0; d < RES_DIMS; d++) {
        double jobs = need->total.v[d] ? (double)n->free.v[d] / (double)need->total.v[d] : most;
        if (d != RES_GPU && jobs < most)
            most = jobs;
    }
    return most < 1 ? 0 : most;
}

/* What such jobs could use of the free GPUs: of those with room for one, the mean of all (one fits) and of how far CPUs and memory
 * go. What one leaves on a GPU may serve smaller parts. */
static double usable(const struct gpus_node *n, const struct gpus_need *need)
{
    if (!need->count || (need->models && !(n->model & need->models)))
        return 0;
    uint32_t room = 0, jobs = 0;
    for (uint32_t d = 0; d < n->count; d++)
        if (n->free_milli[d] >= need->milli) {
            room += n->free_milli[d];
            jobs += n->free_milli[d] / need->milli;
        }
    jobs /= need->count;
    double fit = jobs ? copies(n, need, jobs) : 0;
    return fit > 0 ? room * (1 + fit / jobs) / 2 : 0;
}

double gpus_stranded(const struct gpus_node *n, const struct gpus_mix *mix)
{
    double sum = 0;
    if (!n->free.v[RES_GPU])
        return 0;
    for (size_t i = 0; i < mix->count; i++)
        sum += (double)mix->shapes[i].jobs * ((double)n->free.v[RES_GPU] - usable(n, &mix->shapes[i].need));
    return mix->jobs ? sum / (double)mix->jobs : 0;
}

/* --- scores --- */

static struct resources allocated(const struct gpus_node *n)
{
    struct resources a = n->capacity;
    resources_sub(&a, &n->free);
    return a;
}

/* Of those that a part fits on: the one with least left, or with most. */
static uint32_t device_by_room(const struct gpus_node *n, uint32_t milli, bool most)
{
    uint32_t best = GPUS_ON_NODE_MAX;
    for (uint32_t d = 0; d < n->count; d++) {
        if (n->free_milli[d] < milli)
            continue;
        if (best == GPUS_ON_NODE_MAX || (most ? n->free_milli[d] > n->free_milli[best] : n->free_milli[d] < n->free_milli[best]))
            best = d;
    }
    return best;
}

static double alignment(const struct gpus_node *n, const struct gpus_need *need)
{
    double sum = 0;
    for (int d = 0; d < RES_DIMS; d++)
        if (n->capacity.v[d]) {
            double whole = (double)n->capacity.v[d];
            sum += (double)need->total.v[d] / whole * ((double)n->free.v[d] / whole);
        }
    return sum;
}

static bool is_part(const struct gpus_need *need)
{
    return need->count == 1 && need->milli < GPU_WHOLE;
}

static double stranded_after(const struct gpus_node *n, const struct gpus_need *need, uint32_t device, const struct gpus_mix *mix)
{
    struct gpus_node after = *n;
    uint32_t taken;
    gpus_take(&after, need, device, &taken);
    return gpus_stranded(&after, mix);
}

static bool seen_before(const struct gpus_node *n, uint32_t device)
{
    for (uint32_t d = 0; d < device; d++)
        if (n->free_milli[d] == n->free_milli[device])
            return true;
    return false;
}

/* A tie is broken by fullness: its weight is below what one job of a million makes. */
#define TIE 1e-3

static double least_stranded(const struct gpus_node *n, const struct gpus_need *need, const struct gpus_mix *mix, uint32_t *device)
{
    struct resources a = allocated(n);
    double before = gpus_stranded(n, mix), best = 0;
    double fuller = TIE * scorer_binpack.score(&need->total, &a, &n->capacity);
    if (!is_part(need))
        return before - stranded_after(n, need, 0, mix) + fuller;
    bool found = false;
    for (uint32_t d = 0; d < n->count; d++) {
        if (n->free_milli[d] < need->milli || seen_before(n, d))
            continue;
        double score = before - stranded_after(n, need, d, mix);
        if (!found || score > best) {
            best = score;
            *device = d;
            found = true;
        }
    }
    check(found);
    return best + fuller;
}

double gpus_score(enum gpus_policy policy, const struct gpus_node *n, const struct gpus_need *need, const struct gpus_mix *mix,
                  uint32_t *device)
{
    struct resources a = allocated(n);
    *device = is_part(need) ? device_by_room(n, need->milli, policy == GPUS_SPREAD) : 0;
    switch (policy) {
    case GPUS_BINPACK:
        return scorer_binpack.score(&need->total, &a, &n->capacity);
    case GPUS_SPREAD:
        return scorer_spread.score(&need->total, &a, &n->capacity);
    case GPUS_DOTPROD:
        return alignment(n, need);
    case GPUS_FRAGMENTATION:
        return least_stranded(n, need, mix, device);
    case GPUS_RANDOM:
    case GPUS_ROUNDROBIN:
    case GPUS_POLICIES:
        break;
    }
    return 0;
}

/* --- taking --- */

void gpus_take(struct gpus_node *n, const struct gpus_need *need, uint32_t device, uint32_t *taken)
{
    *taken = 0;
    uint32_t left = need->count;
    for (uint32_t d = is_part(need) ? device : 0; left && d < n->count; d++)
        if (n->free_milli[d] >= need->milli) {
            n->free_milli[d] = (uint16_t)(n->free_milli[d] - need->milli);
            *taken |= 1u << d;
            left--;
        }
    check(!left && resources_fit(&need->total, &n->free));
    resources_sub(&n->free, &need->total);
}

void gpus_give_back(struct gpus_node *n, const struct gpus_need *need, uint32_t taken)
{
    for (uint32_t d = 0; d < n->count; d++)
        if (taken & 1u << d) {
            n->free_milli[d] = (uint16_t)(n->free_milli[d] + need->milli);
            check(n->free_milli[d] <= GPU_WHOLE);
        }
    resources_add(&n->free, &need->total);
    check(resources_fit(&n->free, &n->capacity));
}
