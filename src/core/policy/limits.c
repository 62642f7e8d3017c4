#include "core/policy/limits.h"

#include "base/check.h"

const struct limits limits_none = { { LIMIT_NONE, LIMIT_NONE, LIMIT_NONE, LIMIT_NONE, LIMIT_NONE, LIMIT_NONE } };
_Static_assert(LIMITS == 6, "limits_none names them all");

const char *limit_name(enum limit limit)
{
    static const char *const names[LIMITS] = { [LIMIT_RUNNING] = "running", [LIMIT_CPUS] = "cpus",
                                               [LIMIT_MEM] = "mem_bytes",   [LIMIT_GPUS] = "gpus",
                                               [LIMIT_PENDING] = "pending", [LIMIT_SUBMITS] = "submits_per_minute" };
    check(limit < LIMITS);
    return names[limit];
}

static int dim_of(enum limit limit)
{
    return limit == LIMIT_CPUS ? RES_CPU : limit == LIMIT_MEM ? RES_MEM : RES_GPU;
}

uint64_t limit_used(enum limit limit, const struct held *held)
{
    check(limit <= LIMIT_GPUS);
    return limit == LIMIT_RUNNING ? held->attempts : held->resources.v[dim_of(limit)];
}

uint64_t limit_asked(enum limit limit, const struct resources *need)
{
    check(limit <= LIMIT_GPUS);
    return limit == LIMIT_RUNNING ? 1 : need->v[dim_of(limit)];
}

enum limit limits_refuse(const struct limits *limits, const struct held *held, const struct resources *need, enum limit from)
{
    for (enum limit limit = from; limit <= LIMIT_GPUS; limit++) {
        uint64_t most = limits->most[limit], asked = limit_asked(limit, need);
        if (most != LIMIT_NONE && asked && (asked > most || limit_used(limit, held) > most - asked))
            return limit;
    }
    return LIMITS;
}

double rate_used(const struct rate *rate, uint64_t per_minute, int64_t wall_ms)
{
    double back_ms = wall_ms > rate->at_wall_ms ? (double)wall_ms - (double)rate->at_wall_ms : 0;
    double used = rate->used - back_ms * (double)per_minute / 60000;
    return used > 0 ? used : 0;
}

void rate_take(struct rate *rate, uint64_t per_minute, int64_t wall_ms)
{
    rate->used = rate_used(rate, per_minute, wall_ms) + 1;
    rate->at_wall_ms = wall_ms;
}
