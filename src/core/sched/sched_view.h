/* sched_view.h: asking the master's brain, apart from stepping it. Everything is const and borrowed until the next step. */
#ifndef ROTA_CORE_SCHED_VIEW_H
#define ROTA_CORE_SCHED_VIEW_H

#include "core/sched/sched.h"

struct job_view {
    job_id id;
    enum job_state state;            /* of an array: of the whole */
    struct bytes user, queue, account, name;
    int64_t priority;
    struct resources need;
    bool array;
    uint32_t nodes;                  /* at the same time; more than 1: a gang, which has as many tasks (array is true) */
    uint32_t tasks, first, step, limit;
    uint32_t counts[JOB_STATES];     /* tasks in each state, as sched_view_task tells it; a single job counts 1 */
    int64_t submit_wall_ms, start_wall_ms, end_wall_ms; /* first start; 0: not yet */
    int64_t begin_wall_ms, deadline_wall_ms;
    int64_t time_limit_ms, grace_ms;
    uint32_t retries;
    uint32_t attempts;               /* of a single job */
    node_id node;                    /* of a single job: where it is or last was */
    enum reason reason;              /* of a single job that failed */
    uint32_t exit_code, signal;
    uint64_t mem_max_bytes;          /* up to this it asks for more after it ran out of memory; 0: it does not */
    uint32_t after_left;             /* dependencies not yet met */
    job_id retry_of;
};

struct task_view {
    uint32_t task;                   /* position, TASK_SINGLE for a single job */
    uint32_t index;                  /* what the user sees */
    enum job_state state;            /* HELD or BLOCKED when it waits and the array as a whole is */
    uint32_t attempt;                /* number of the last one; 0: none yet */
    node_id node;                    /* of the open attempt */
    int64_t start_wall_ms;           /* of the open attempt; 0: not started */
    enum reason reason; uint32_t exit_code, signal; /* of the last end */
};

struct node_view {
    node_id id;
    struct bytes name, version, reason; /* reason: why it is not READY */
    struct bytes labels;
    struct bytes metrics;            /* HOST:PORT as its worker said; empty: it serves none, or was not heard of yet */
    enum node_state state;
    struct resources capacity, allocated;
    uint32_t running, waiting;       /* attempts that run; that wait there for a free place */
    int64_t heard_ago_ms;            /* -1: never in this master's life */
    int64_t renewed_ago_ms;          /* its lease, by HTTP; -1: not since it was heard of last */
    uint64_t session;                /* 0: none */
    uint64_t cpu_used_milli, mem_used_bytes;
    uint32_t load_milli;
    size_t orphans; /* attempts it holds that the store, which was put back in time, does not know */
};

struct why_dim { const char *name; uint64_t need, free_most, capacity_most; uint32_t nodes_refused; };
#define WHY_LIMITS_MAX 16u
/* A limit that refuses. Of a paused queue most and used are 0 and `limit` is empty; of a token `limit` is "total". */
struct why_limit {
    enum why why;                               /* WHY_PAUSED, WHY_LIMIT, WHY_TOKENS */
    enum party_kind kind; struct bytes name;    /* whose */
    const char *limit;                          /* "running", "cpus", ... */
    uint64_t used, asked, most;                 /* in units, thousandths (CPUs, GPUs), or bytes */
    struct bytes reason;                        /* why the queue is paused */
};
/* The smallest change that would start it at once, if nothing else happens meanwhile. */
enum change_kind {
    CHANGE_NONE,      /* none is known */
    CHANGE_ALLOW,     /* release it, or raise what refuses it, or both */
    CHANGE_PRIORITY,  /* a higher priority: there is room, and somebody before it waits for more */
    CHANGE_TIME,      /* submitted with this time limit it would end before its place is needed */
    CHANGE_LESS,      /* submitted with this need, and time limit unless that is 0, it would have room */
    CHANGE_NODES      /* of a gang: submitted for so many nodes it would have room */
};
struct why_change {
    enum change_kind kind;
    bool release, raise;                        /* beside it: it has to be released; all of why_report.limits have to be raised */
    int64_t priority, time_limit_ms;
    struct resources need;
    uint32_t nodes;
};
struct why_report {
    enum why primary;
    enum why all[WHYS]; size_t all_count;       /* in order of precedence, primary first */
    size_t nodes_ready, nodes_total;
    uint32_t nodes_asked;            /* at the same time: 1, or of a gang more */
    uint32_t nodes_now, nodes_ever;  /* ready ones with enough free, and large enough */
    size_t nodes_unsuited;           /* ready ones that do not meet its constraint; they are not among nodes_refused */
    struct bytes where;              /* that constraint; empty: none */
    struct why_dim dims[RES_DIMS]; size_t dims_count; /* dimensions in which at least one ready node refuses */
    struct why_limit limits[WHY_LIMITS_MAX]; size_t limits_count;
    job_id blocked_by;                          /* WHY_ORDER: the first job in the way; WHY_DEPENDENCY: the first unmet */
    uint32_t jobs_before;                       /* pending jobs of the same shape that go first */
    int64_t due_in_ms;                          /* WHY_BEGIN, WHY_BACKOFF: how long it still waits */
    node_id room_node;                          /* WHY_RESOURCES, WHY_ORDER: where room for it is first (of a gang: one of the nodes); 0: not known */
    struct why_change change;
    uint32_t nodes_out[NODE_STATES];            /* nodes that take no work, by their state; READY: those without a connection */
    int64_t room_in_ms;                         /* in how long, if what runs there ends by its estimate and nobody goes before it */
};

/* How well the lengths of those are known that have to end first. Larger is worse. */
enum plan_basis {
    BASIS_LIMITS,                /* all have a time limit, or nobody has to end first */
    BASIS_USUAL,                 /* for some it is the mean of those like it that ended */
    BASIS_NONE,                  /* of one nothing is known: config.estimate_ms was assumed */
    BASES
};

/* Why nothing is said of the start of a task. */
#define NO_ESTIMATE_LIST(NONE) \
    NONE(NO_ESTIMATE_KNOWN, "known", "it has one") \
    NONE(NO_ESTIMATE_NOT_WAITING, "not_waiting", "it does not wait") \
    NONE(NO_ESTIMATE_HELD, "held", "it is held") \
    NONE(NO_ESTIMATE_DEPENDENCY, "dependency", "it waits for other jobs to end") \
    NONE(NO_ESTIMATE_BEGIN, "begin", "its begin time has not come") \
    NONE(NO_ESTIMATE_BACKOFF, "backoff", "it failed and waits before it is tried again") \
    NONE(NO_ESTIMATE_ARRAY_LIMIT, "array_limit", "as many tasks of its array run as its limit allows") \
    NONE(NO_ESTIMATE_LIMIT, "limit", "a limit keeps it out, and when that has room is not planned") \
    NONE(NO_ESTIMATE_STORE, "store", "the master's store is low on space, nothing is started") \
    NONE(NO_ESTIMATE_NO_NODES, "no_nodes", "no node is ready") \
    NONE(NO_ESTIMATE_TOO_BIG, "too_big", "no node that it may run on is large enough, even when empty") \
    NONE(NO_ESTIMATE_TOO_FEW, "too_few", "there are fewer nodes than it needs at the same time that are large enough") \
    NONE(NO_ESTIMATE_DEPTH, "depth", "it is behind those that the plan looks at (plan_depth)") \
    NONE(NO_ESTIMATE_WORK, "work", "the plan had to stop before it found a place for it") \
    NONE(NO_ESTIMATE_SOON, "soon", "the plan has not looked at it yet") \
    NONE(NO_ESTIMATE_NO_PLAN, "no_plan", "this master makes no plan (plan_depth is 0)")
enum no_estimate {
#define NONE(code, name, text) code,
    NO_ESTIMATE_LIST(NONE)
#undef NONE
    NO_ESTIMATES
};
const char *no_estimate_name(enum no_estimate none);
const char *no_estimate_text(enum no_estimate none);

struct estimate_note { int64_t made_wall_ms, start_wall_ms; };
#define ESTIMATE_NOTES 8u
/* When a task is to start, if what runs and what goes before it takes as long as is expected of it. Of an array: the next task. */
struct estimate_view {
    enum no_estimate none;                       /* NO_ESTIMATE_KNOWN: there is one, */
    int64_t start_wall_ms, end_wall_ms;
    node_id node;
    enum plan_basis basis;
    job_id basis_job;                            /* BASIS_NONE: the job of which nothing is known */
    int64_t made_wall_ms;                        /* when the plan was made; 0: never */
    uint32_t depth;                              /* how many waiting tasks the plan looks at */
    struct estimate_note notes[ESTIMATE_NOTES];  /* the first one, and the last ones that were different, oldest first */
    size_t notes_count;
    uint32_t changes;                            /* how often it changed; may be more than there are notes */
    int64_t started_wall_ms;                     /* its first start; 0: not yet */
};
/* A waiting task that has a place in the plan. */
struct planned { job_id job; bool array; node_id node; int64_t start_wall_ms, end_wall_ms; };

struct sched_stats {
    uint64_t jobs[JOB_STATES];       /* jobs by state (an array counts once) */
    uint64_t tasks[JOB_STATES];      /* tasks by state */
    uint64_t partly[JOB_STATES];     /* arrays that are in another state as a whole and have tasks in this one */
    uint64_t nodes[NODE_STATES];
    uint64_t submitted, started, succeeded, failed, cancelled, retried; /* tasks, since the store was made */
    uint64_t ended[JOB_STATES], failed_for[REASONS];                    /* tasks by end, and failed ones by reason */
    uint64_t retried_for[REASONS];                                      /* attempts that are followed by another */
    uint64_t cycles, placements, shapes, stale_messages;
    struct resources capacity, allocated; /* of READY nodes */
    uint64_t epoch;
    job_id job_last;
    uint64_t memory_bytes;           /* of the job table and indexes */
};

struct run_view {                    /* an open attempt */
    struct attempt_ref ref;
    int64_t start_wall_ms;           /* 0: not started */
    enum job_state state;            /* dispatched, running, uncertain or cancelling */
};

/* Tasks of one queue that have not ended, and how long they wait. */
struct queue_view {
    struct bytes name;
    uint64_t tasks[JOB_STATES];
    uint64_t waiting[WHYS];          /* tasks by what they wait for first */
    int64_t oldest_wait_ms;          /* of the task that could run for the longest time and waits; 0: none does */
};
/* A queue, user, account, token, or member (a user within an account), as limits and shares see it. */
struct party_view {
    enum party_kind kind;
    struct bytes name;
    struct bytes user;               /* of a member; its name is that of the account */
    bool set;                        /* somebody has set something of it */
    struct party_settings settings;  /* borrowed */
    struct limits limits;            /* that count: its own, else those of PARTY_OTHERS */
    struct held held;
    uint64_t waiting;                /* tasks */
    double weight;                   /* 0: it has no share (of a queue) */
    double held_share, had_share;    /* of the cluster, dominant: now; mean with half-life */
    double ratio;                    /* (had + held) / weight: the smaller the sooner */
    double target, used;             /* among its siblings that have or want anything: by weight; of what they had. 0 .. 1 */
};

/* An entry of jobs that come again. */
struct cron_view {
    struct bytes name;
    struct cron_settings settings;
    int64_t last_wall_ms;            /* due times up to this one have been dealt with, or came before it was made */
    job_id last; bool active;        /* the last one submitted, 0: none; it has not ended */
    uint64_t submitted, passed;      /* due times */
    enum cron_pass passed_for; int64_t passed_wall_ms; struct bytes passed_text; /* the last one passed over; CRON_PASS_NEVER: none was */
};
size_t sched_view_crons(const struct sched *s);                                       /* in order of their names */
uint64_t sched_view_crons_changed(const struct sched *s);                             /* another number: some were set or removed since */
void sched_view_cron(const struct sched *s, size_t i, struct cron_view *out);
bool sched_view_cron_named(const struct sched *s, struct bytes name, struct cron_view *out);

size_t sched_view_parties(const struct sched *s, enum party_kind kind);               /* numbers are 0 .. this - 1 */
void sched_view_party(const struct sched *s, enum party_kind kind, uint32_t number, struct party_view *out);
bool sched_view_party_named(const struct sched *s, enum party_kind kind, struct bytes name, struct party_view *out);

size_t sched_view_queues(const struct sched *s);                                      /* queues are 0 .. this - 1 */
struct bytes sched_view_queue_name(const struct sched *s, uint32_t queue);
/* All of them. Costs by shapes and by pages of jobs, not by jobs. */
void sched_view_queue_counts(const struct sched *s, struct queue_view *out);

bool sched_view_job(const struct sched *s, job_id id, struct job_view *out);          /* false: not in memory */
bool sched_view_owes_word(const struct sched *s, job_id id); /* job_request.notify, and no SCHED_NOTIFIED yet */
bool sched_view_task(const struct sched *s, job_id id, uint32_t task, struct task_view *out);
/* Of a gang: where that part of it was last sent; 0: not known (any more). */
node_id sched_view_member(const struct sched *s, job_id id, uint32_t rank);
/* The index by which the user knows a task of an array. False: it is no array in memory, or has no such task. */
bool sched_view_index(const struct sched *s, job_id id, uint32_t task, uint32_t *index);
/* The next job in memory after `from` (forward) or before it (backward; from 0 = the last). id 0: there is none. */
job_id sched_view_next(const struct sched *s, job_id from, bool backward);
/* Up to `max` task positions of a job in `state` (JOB_STATES: any), from position `from` on. Returns how many. */
size_t sched_view_tasks(const struct sched *s, job_id id, enum job_state state, uint32_t from, uint32_t *out, size_t max);
size_t sched_view_after(const struct sched *s, job_id id, struct after *out, size_t max);
size_t sched_view_nodes(const struct sched *s);                                       /* node ids are 1 .. this */
bool sched_view_node(const struct sched *s, node_id id, struct node_view *out);
bool sched_view_orphan(const struct sched *s, node_id id, size_t index, struct attempt_ref *ref,
                       enum attempt_phase *phase);                                    /* false: there are not so many */
node_id sched_view_node_named(const struct sched *s, struct bytes name);              /* 0: none */
const char *sched_view_dim(const struct sched *s, int dim);                           /* "cpus", "mem_bytes", "gpus", ...; NULL unused */
bool sched_view_why(const struct sched *s, job_id id, uint32_t task, struct why_report *out);
/* These two look at the plan, and make it anew if it is old: some 10 ms at most; nothing is decided by it. False: no such job or task. */
bool sched_view_estimate(struct sched *s, job_id id, uint32_t task, struct estimate_view *out);
/* Those of the plan in the order of the queue, at most `max`. Returns how many; *more: there are others that wait. */
size_t sched_view_plan(struct sched *s, struct planned *out, size_t max, int64_t *made_wall_ms, bool *more);
/* The open attempts on a node, at most `max`, those that were given to it first first. Returns how many. */
size_t sched_view_runs(const struct sched *s, node_id node, struct run_view *out, size_t max);
void sched_view_stats(const struct sched *s, struct sched_stats *out);
/* A hash of the durable state: two brains that applied the same records have the same. */
uint64_t sched_view_hash(const struct sched *s);
void sched_view_dump(const struct sched *s, struct buf *out);                         /* text, for /debug/state */

#endif
