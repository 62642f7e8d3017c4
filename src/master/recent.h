/* recent.h: the last hour in numbers and the last attempts that ended, for charts. Made from records as they are
 * replayed and committed, so that a restart forgets nothing of it. Pure. */
#ifndef ROTA_MASTER_RECENT_H
#define ROTA_MASTER_RECENT_H

#include <stdbool.h>

#include "core/model/record.h"
#include "core/model/states.h"

#define RECENT_MINUTES 61u /* the one that is not over, and an hour */
#define RECENT_ATTEMPTS_MAX 20000u
#define WAIT_BUCKETS 128u /* of waits, four to a doubling, from 1 ms on: up to a month */

struct recent_minute {
    int64_t minute;                                          /* Unix time in minutes; 0: nothing */
    uint32_t submitted;                                      /* tasks */
    uint32_t started, succeeded, failed, cancelled, retried; /* attempts, by how they ended */
    uint32_t waits[WAIT_BUCKETS], waits_count; /* of first attempts, from submission (or begin time) to start */
};

struct recent_attempt {
    struct attempt_ref ref;
    node_id node;
    int64_t start_wall_ms, end_wall_ms;
    enum job_state final; /* the task's end; JOB_NONE: it is tried again */
    enum reason reason;
    uint32_t exit_code, signal;
};

struct recent;
struct recent *recent_new(void);
void recent_free(struct recent *r);
/* eligible_wall_ms: of a STARTED or ENDED record of a first attempt, when its job could have started; 0: not known. */
void recent_add(struct recent *r, const struct record *record, int64_t eligible_wall_ms);
/* The minute that holds this time and the ones before it; ago 0 .. RECENT_MINUTES - 1. NULL: nothing happened then. */
const struct recent_minute *recent_minute(const struct recent *r, int64_t wall_ms, uint32_t ago);
/* How long the given share of the minute's first attempts waited at most; -1: none started. */
int64_t recent_wait_ms(const struct recent_minute *m, double share);
/* Attempts that ended, newest first; NULL: there are no more. */
const struct recent_attempt *recent_attempt(const struct recent *r, size_t index);

#endif
