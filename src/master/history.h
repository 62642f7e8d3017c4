/* history.h: jobs that ended so long ago that the brain has forgotten them: made again from the journal. */
#ifndef ROTA_MASTER_HISTORY_H
#define ROTA_MASTER_HISTORY_H

#include "base/arena.h"
#include "core/sched/sched_view.h"
#include "store/store.h"

#define HISTORY_RECORDS_MAX 100000u /* of one job: of larger arrays only the totals at their end are known */

/* The job as it was at its end. Texts live in the arena. False: there never was such a job, or it can not be read. */
bool history_job(struct store *store, struct arena *arena, job_id job, struct job_view *out);
/* The last attempt of a task that the store knows of; 0: none. */
uint32_t history_last_attempt(struct store *store, job_id job, uint32_t task);

#endif
