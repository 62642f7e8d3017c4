/* ids.h: typed identities, so that mixing them does not compile.
 *
 * A job id is a sequence number that is never used again, also after a restore. A task is one element of a job: a job
 * without an array has the single task TASK_SINGLE. An attempt is one decision to run a task, counted from 1; its
 * number is the fencing number of the task. A node number is given by the master when a worker first says HELLO. */
#ifndef ROTA_CORE_MODEL_IDS_H
#define ROTA_CORE_MODEL_IDS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct { uint64_t n; } job_id;   /* 1 .. ; 0 is no job */
typedef struct { uint32_t n; } node_id;  /* 1 .. NODES_MAX; 0 is no node */

#define TASK_SINGLE UINT32_MAX       /* the task of a job that is no array */
#define TASK_ALL (UINT32_MAX - 1)    /* every task of a job */
#define ARRAY_TASKS_MAX 10000000u    /* tasks in one array */
#define NODES_MAX 100000u

/* One attempt of one task. task is the position 0 .. tasks-1 in the array (not the index the user sees), or TASK_SINGLE. */
struct attempt_ref {
    job_id job;
    uint32_t task;
    uint32_t attempt;
};

static inline bool attempt_equal(struct attempt_ref a, struct attempt_ref b)
{
    return a.job.n == b.job.n && a.task == b.task && a.attempt == b.attempt;
}

/* A worker for its whole life, kept in its state directory. */
struct worker_id {
    uint64_t high;
    uint64_t low;
};

#endif
