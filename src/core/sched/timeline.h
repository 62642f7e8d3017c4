/* timeline.h: what of one node is taken when, as far as the plan knows: a list of steps.
 *
 * Step i holds from steps[i].from_ms until the next one begins; the last one holds for ever. There is always a first step,
 * and before it nothing is asked. Finding, taking and giving back cost one walk over the steps. Neighbours differ: the
 * list is never longer than the number of different times at which something begins or ends. */
#ifndef ROTA_CORE_SCHED_TIMELINE_H
#define ROTA_CORE_SCHED_TIMELINE_H

#include <stddef.h>

#include "core/model/resources.h"

#define TIMELINE_NEVER INT64_MAX

static inline int64_t timeline_later(int64_t at_ms, int64_t by_ms)
{
    return at_ms > TIMELINE_NEVER - by_ms ? TIMELINE_NEVER : at_ms + by_ms;
}

struct timeline_step {
    int64_t from_ms;
    struct resources taken;
};

struct timeline {
    struct timeline_step *steps; size_t count, cap;
};

void timeline_fini(struct timeline *t);
/* From now_ms on, `taken` for ever; whatever was there is forgotten. */
void timeline_begin(struct timeline *t, int64_t now_ms, const struct resources *taken);
void timeline_trim(struct timeline *t, int64_t now_ms); /* what was before now_ms is not asked for any more */
/* `more` is taken in [from_ms, until_ms), or what was taken there is given back; TIMELINE_NEVER: without end. What lies before the
 * first step is left out. */
void timeline_take(struct timeline *t, int64_t from_ms, int64_t until_ms, const struct resources *more);
void timeline_give(struct timeline *t, int64_t from_ms, int64_t until_ms, const struct resources *less);
/* What is given back at a time that is not before the last step, without end: this one costs nothing. */
void timeline_end(struct timeline *t, int64_t at_ms, const struct resources *less);
/* The first time in [from_ms, limit_ms) from which on `need` fits beside what is taken for duration_ms; TIMELINE_NEVER: there is
 * none. A dimension that is not asked for never refuses. *work is raised by the number of steps looked at. */
int64_t timeline_first(const struct timeline *t, const struct resources *capacity, const struct resources *need, int64_t from_ms,
                       int64_t duration_ms, int64_t limit_ms, uint64_t *work);

#endif
