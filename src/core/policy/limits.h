/* limits.h: how much a user, an account or a queue may have at the same time. Pure functions of numbers.
 *
 * What counts against a limit is every open attempt, from the decision to start it until its end is known: also one whose
 * node is out of reach, and short work that was sent ahead. So a limit can not be exceeded by what nobody sees. */
#ifndef ROTA_CORE_POLICY_LIMITS_H
#define ROTA_CORE_POLICY_LIMITS_H

#include "core/model/resources.h"

/* Numbers are positions: journals keep them; append only. */
enum limit {
    LIMIT_RUNNING, /* open attempts */
    LIMIT_CPUS,    /* thousandths of a CPU that they ask for */
    LIMIT_MEM,     /* bytes */
    LIMIT_GPUS,    /* thousandths of a GPU */
    LIMIT_PENDING, /* tasks that wait; more are refused when they are submitted */
    LIMIT_SUBMITS, /* jobs submitted in a minute; more are refused */
    LIMITS
};
#define LIMIT_NONE UINT64_MAX

struct limits {
    uint64_t most[LIMITS]; /* LIMIT_NONE: no limit */
};
extern const struct limits limits_none;

/* What somebody has. */
struct held {
    uint64_t attempts;
    struct resources resources;
};

const char *limit_name(enum limit limit); /* "running" */

/* The first limit, from `from` on, that one more attempt with `need` would break; LIMITS: none. Only what is held at the same
 * time is looked at (LIMIT_RUNNING .. LIMIT_GPUS). */
enum limit limits_refuse(const struct limits *limits, const struct held *held, const struct resources *need, enum limit from);
/* What counts against a limit of those: now, and of one attempt more. */
uint64_t limit_used(enum limit limit, const struct held *held);
uint64_t limit_asked(enum limit limit, const struct resources *need);

/* The rate of submissions: a bucket of `per_minute` drops, one for each job, that fills again within a minute (token bucket).
 * Times may jump: a step back adds nothing, a step ahead fills it once. */
struct rate {
    double used;          /* drops that are missing */
    int64_t at_wall_ms;   /* as of */
};
double rate_used(const struct rate *rate, uint64_t per_minute, int64_t wall_ms);
void rate_take(struct rate *rate, uint64_t per_minute, int64_t wall_ms);

#endif
