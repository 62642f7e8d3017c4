/* sched_whatif.h: when what waits would start if something was different: the plan (sched_slots.c) of a second brain.
 *
 * The brain is one that read the journal and was not started, as for a snapshot; another order or backfill than the master's is in
 * the configuration it was made with. It is changed for good and can only be freed afterwards. As each plan does, it takes for
 * granted that everything takes its time limit, or what its like took; and jobs that wait for others or for a time are not in it. */
#ifndef ROTA_CORE_SCHED_WHATIF_H
#define ROTA_CORE_SCHED_WHATIF_H

#include "core/sched/sched.h"

#define WHATIF_NODES_MAX 10000u /* added, in sum */

struct whatif_nodes {
    uint32_t count;
    struct resources capacity;
    struct bytes labels;
};
struct whatif_priority {
    job_id job;
    int64_t priority;
};
struct whatif_trial {                 /* a job that was not submitted */
    struct bytes user, queue, account; /* as in struct job_request */
    struct resources need;
    uint32_t nodes;                   /* at the same time */
    struct bytes where;
    int64_t priority, time_limit_ms;  /* 0: as long as its like took */
};

struct whatif {
    const struct whatif_nodes *add; size_t add_count;
    const node_id *without; size_t without_count;   /* nodes that are gone, with what runs there: it waits again */
    const job_id *cancel; size_t cancel_count;      /* whole jobs, those that run too */
    const job_id *release; size_t release_count;
    const struct whatif_priority *priorities; size_t priorities_count;
    const struct whatif_trial *trial;               /* NULL: none */
};

/* What the plan has of a job: so many tasks of it were looked at. Times are 0 when none of them has a place. */
struct whatif_start {
    job_id job;
    uint32_t tasks, placed;
    int64_t first_wall_ms, last_wall_ms, end_wall_ms; /* of the first and the last start; of the last end */
};

struct whatif_plan {
    struct whatif_start *starts; size_t count;      /* by job, ascending; yours to free */
    job_id trial;                                   /* what it would have as its number */
    bool deeper;                                    /* more wait than the plan looked at */
};

/* ERR_NOT_FOUND, ERR_CONFLICT (a job that has ended, ...): err->field is the name of the member above. */
int sched_whatif(struct sched *s, const struct whatif *w, int64_t wall_ms, struct whatif_plan *out, struct err *err);

#endif
