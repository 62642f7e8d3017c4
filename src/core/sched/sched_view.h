/* sched_view.h: asking the master's brain, apart from stepping it. Everything is const and borrowed until the next step. */
#ifndef ROTA_CORE_SCHED_VIEW_H
#define ROTA_CORE_SCHED_VIEW_H

#include "core/sched/sched.h"

struct job_view {
    job_id id;
    enum job_state state;            /* of an array: of the whole */
    struct bytes user, queue, name;
    int64_t priority;
    struct resources need;
    bool array;
    uint32_t tasks, first, step, limit;
    uint32_t counts[JOB_STATES];     /* tasks in each state; a single job counts 1 */
    int64_t submit_wall_ms, start_wall_ms, end_wall_ms; /* first start; 0: not yet */
    int64_t begin_wall_ms, deadline_wall_ms;
    int64_t time_limit_ms, grace_ms;
    uint32_t retries;
    uint32_t attempts;               /* of a single job */
    node_id node;                    /* of a single job: where it is or last was */
    enum reason reason;              /* of a single job that failed */
    uint32_t exit_code, signal;
    uint32_t after_left;             /* dependencies not yet met */
    job_id retry_of;
};

struct task_view {
    uint32_t task;                   /* position, TASK_SINGLE for a single job */
    uint32_t index;                  /* what the user sees */
    enum job_state state;
    uint32_t attempt;                /* number of the last one; 0: none yet */
    node_id node;                    /* of the open attempt */
    int64_t start_wall_ms;           /* of the open attempt; 0: not started */
    enum reason reason; uint32_t exit_code, signal; /* of the last end */
};

struct node_view {
    node_id id;
    struct bytes name, version, reason; /* reason: why it is not READY */
    enum node_state state;
    struct resources capacity, allocated;
    uint32_t running, waiting;       /* attempts that run; that wait there for a free place */
    int64_t heard_ago_ms;            /* -1: never in this master's life */
    uint64_t session;                /* 0: none */
    uint64_t cpu_used_milli, mem_used_bytes;
    uint32_t load_milli;
};

struct why_dim { const char *name; uint64_t need, free_most, capacity_most; uint32_t nodes_refused; };
struct why_report {
    enum why primary;
    enum why all[WHYS]; size_t all_count;       /* in order of precedence, primary first */
    size_t nodes_ready, nodes_total;
    struct why_dim dims[RES_DIMS]; size_t dims_count; /* dimensions in which at least one ready node refuses */
    job_id blocked_by;                          /* WHY_ORDER: the first job in the way; WHY_DEPENDENCY: the first unmet */
    uint32_t jobs_before;                       /* pending jobs of the same shape that go first */
    int64_t due_in_ms;                          /* WHY_BEGIN, WHY_BACKOFF: how long it still waits */
};

struct sched_stats {
    uint64_t jobs[JOB_STATES];       /* jobs by state (an array counts once) */
    uint64_t tasks[JOB_STATES];      /* tasks by state */
    uint64_t nodes[NODE_STATES];
    uint64_t submitted, started, succeeded, failed, cancelled, retried; /* tasks, since the store was made */
    uint64_t cycles, placements, shapes, stale_messages;
    struct resources capacity, allocated; /* of READY nodes */
    uint64_t epoch;
    job_id job_last;
    uint64_t memory_bytes;           /* of the job table and indexes */
};

bool sched_view_job(const struct sched *s, job_id id, struct job_view *out);          /* false: not in memory */
bool sched_view_task(const struct sched *s, job_id id, uint32_t task, struct task_view *out);
/* The next job in memory after `from` (forward) or before it (backward; from 0 = the last). id 0: there is none. */
job_id sched_view_next(const struct sched *s, job_id from, bool backward);
/* Up to `max` task positions of a job in `state` (JOB_STATES: any), from position `from` on. Returns how many. */
size_t sched_view_tasks(const struct sched *s, job_id id, enum job_state state, uint32_t from, uint32_t *out, size_t max);
size_t sched_view_after(const struct sched *s, job_id id, struct after *out, size_t max);
size_t sched_view_nodes(const struct sched *s);                                       /* node ids are 1 .. this */
bool sched_view_node(const struct sched *s, node_id id, struct node_view *out);
node_id sched_view_node_named(const struct sched *s, struct bytes name);              /* 0: none */
const char *sched_view_dim(const struct sched *s, int dim);                           /* "cpus", "mem_bytes", "gpus", ...; NULL unused */
bool sched_view_why(const struct sched *s, job_id id, uint32_t task, struct why_report *out);
void sched_view_stats(const struct sched *s, struct sched_stats *out);
/* A hash of the durable state: two brains that applied the same records have the same. */
uint64_t sched_view_hash(const struct sched *s);
void sched_view_dump(const struct sched *s, struct buf *out);                         /* text, for /debug/state */

#endif
