/* sched_state.h: the state of the master's brain, private to core/sched.
 *
 * Durable state (jobs, open attempts, nodes as the journal knows them) changes only in sched_apply.c. Soft state (sessions,
 * timers, what a cycle remembers) changes elsewhere and is rebuilt after a restart.
 * Hot and cold: a pending job costs sizeof(struct job) and its place in a heap; what few jobs have is in struct job_extra. */
#ifndef ROTA_CORE_SCHED_STATE_H
#define ROTA_CORE_SCHED_STATE_H

#include "base/arena.h"
#include "base/check.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/mac.h"
#include "base/mem.h"
#include "base/prng.h"
#include "core/model/states.h"
#include "core/sched/intern.h"
#include "core/sched/sched_view.h"

/* Pending jobs that ask the same, in the same queue: what does not fit for one does not fit for any. */
struct shape {
    struct heap_node node;       /* in sched.active: by its first job */
    struct resources need;
    uint32_t queue;
    struct heap pending;         /* of struct job.pending */
    uint64_t refused_version;    /* sched.free_version at which no node had room; 0: not known */
    bool too_big;                /* with refused_version: no ready node is large enough, even when empty */
};

/* What jobs of one kind share beyond the shape. Number = position. */
struct class {
    struct shape *shape;
    uint32_t user, queue;
    struct resources need;
    int64_t time_limit_ms, grace_ms, lost_after_ms, backoff_ms, backoff_max_ms;
    uint32_t retries;
    bool overlap_never;
    double run_ms_mean;          /* moving mean of how long attempts ran; negative: none ended yet. Soft. */
};

/* What makes two classes the same; without gaps, so that its bytes can be compared. */
struct class_key {
    struct resources need;
    int64_t times[5];
    uint32_t user, queue, retries, overlap_never;
};

/* One element of an array. state JOB_NONE means QUEUED and never tried: fresh memory is a fresh task. */
struct cell {
    uint8_t state, reason, exit_code, signal;
    uint16_t attempt, failures;
    uint8_t infra, lost;
};

struct array {
    uint32_t tasks, first, step, limit;
    uint32_t counts[JOB_STATES];
    uint32_t fresh;              /* positions from here on were never tried */
    uint32_t open;               /* tasks with an open attempt */
    uint32_t *returned;          /* positions below fresh that wait again; stale entries are skipped */
    size_t returned_count, returned_cap;
    struct cell cells[];
};

enum run_state { RUN_ASSIGNED, RUN_RUNNING };

/* One open attempt: the master's half of a lease. */
struct run {
    struct run *hash_next;
    struct job *job;
    struct node *node;
    struct list_node on_node;    /* node.runs */
    struct list_node waiting;    /* node.waiting, while `ahead` */
    struct list_node unanswered; /* sched.unanswered, while no word came back of START */
    struct attempt_ref ref;
    enum run_state state;
    bool ahead;                  /* assigned beyond what the node has free: waits there for a place */
    bool uncertain;
    bool cancelling;
    uint8_t missing;             /* inventories in a row that did not list it */
    uint64_t since_seq;          /* inventories up to this one may have been made before it ran */
    uint8_t resends;
    int64_t sent_ms;             /* when START was last sent */
    int64_t start_wall_ms;
};

struct dependent { job_id job; enum after_when when; };

struct job_extra {
    int64_t begin_wall_ms, deadline_wall_ms;
    job_id retry_of;
    struct dependent *dependents; size_t dependents_count, dependents_cap; /* jobs that wait for this one */
    struct after *after; size_t after_count;                               /* what this one was submitted with */
    job_id failed_on;            /* a dependency that can no longer be met */
    bool begin_open;             /* the begin time has not been acted on */
};

struct job {
    job_id id;
    int64_t order_key;           /* smaller goes first; ties by id */
    int64_t submit_wall_ms, start_wall_ms, end_wall_ms;
    union {
        struct run *run;         /* single job with an open attempt */
        struct array *array;
    };
    struct job_extra *extra;     /* NULL for most */
    struct timer *timer;         /* single job in RETRY_WAIT */
    uint32_t class, name;
    int32_t priority;
    struct heap_node pending;    /* in its shape's heap */
    uint32_t after_left;
    uint32_t attempt;            /* of a single job */
    uint32_t node;               /* of a single job */
    uint16_t failures;
    uint8_t infra, lost;
    uint8_t state;               /* enum job_state; of an array: of the whole */
    uint8_t reason, exit_code, signal;
    bool is_array, held, cancelled;
};
_Static_assert(sizeof(struct job) <= 192, "a pending job must stay small");

struct timer {
    struct heap_node node;
    int64_t due_ms;
    job_id job;
    uint32_t task;
};

/* Begin times and deadlines: by the wall clock, which may jump. */
struct appointment {
    struct heap_node node;
    int64_t wall_ms;
    job_id job;
};

struct node {
    node_id id;
    struct bytes name, boot, version, reason; /* owned */
    struct worker_id worker;
    uint64_t incarnation;
    enum node_state state;
    bool drained_by_user;
    struct resources capacity, allocated;
    struct list_node runs, waiting;
    uint32_t runs_count, waiting_count, running_count, cancelling_count;
    /* soft */
    uint64_t session;
    uint32_t window;
    int64_t heard_ms;
    bool heard;
    uint64_t heartbeat_seq, inventory_seq, nonce;
    uint64_t session_last;       /* greetings of earlier sessions are late */
    uint32_t class_last;
    int64_t infra_at_ms[5];
    int64_t quarantined_until_ms; /* then it is tried again; one more failure sets it aside for longer */
    unsigned quarantines;        /* in a row: doubles the time */
    uint64_t cpu_used_milli, mem_used_bytes;
    uint32_t load_milli;
};

#define JOB_PAGE 1024u
struct job_page { uint32_t live; struct job jobs[JOB_PAGE]; };

struct sched {
    struct sched_config config;
    struct mac *mac;
    struct prng prng;
    uint64_t epoch;
    bool started;                /* sched_start was called: decisions may be made */
    int64_t now_ms, wall_ms;

    struct intern users, queues, names, class_keys, shape_keys;
    struct class *classes; size_t classes_count, classes_cap;
    struct shape **shapes; size_t shapes_count, shapes_cap;
    char named[RES_NAMED_MAX][RES_NAME_BYTES];

    struct job_page **pages; size_t pages_count, pages_cap;
    uint64_t job_last, jobs_live, jobs_open; /* in memory; not ended */
    uint64_t *ended; size_t ended_head, ended_count, ended_cap; /* ring of ended jobs, oldest first */

    struct run **runs; size_t runs_slots, runs_count;
    struct node **nodes; size_t nodes_count, nodes_cap;

    struct heap active;          /* shapes with pending jobs */
    uint64_t free_version;       /* counts every event that could make room */
    bool dirty;                  /* a cycle is due */
    bool store_low, transport_down;
    int64_t transport_down_since_ms;
    struct heap timers, calendar;
    struct list_node unanswered; /* runs by sent_ms */
    int64_t sweep_at_ms;
    int64_t start_ms;
    uint64_t *ripe; size_t ripe_count, ripe_cap; /* jobs whose dependencies or array may have settled */

    struct sched_stats stats;
    /* effects of the step under way */
    struct arena turn;
    struct record *records; size_t records_count, records_cap;
    struct send *sends; size_t sends_count, sends_cap;
};

/* sched_apply.c */
struct job *sched_job(const struct sched *s, job_id id);               /* NULL: not in memory */
struct run *sched_run(const struct sched *s, job_id id, uint32_t task); /* the task's open attempt, or NULL */
struct node *sched_node(const struct sched *s, node_id id);
void sched_class_key(struct class_key *key, const struct ev_class *e, uint32_t user, uint32_t queue);
void sched_emit(struct sched *s, const struct record *r);              /* decide: append to the effects and apply */
bool sched_job_eligible(const struct job *j);
enum job_state sched_task_state(const struct job *j, uint32_t task);
uint32_t sched_array_next(const struct array *a);                      /* next position to run; tasks if none */

/* sched_cycle.c */
bool sched_job_before(const struct heap_node *a, const struct heap_node *b);     /* the order of the queue: total */
bool sched_cycle(struct sched *s);                                     /* true: stopped at its bound, go on soon */

/* sched_node.c */
struct send *sched_send(struct sched *s, struct node *n, enum message_kind kind);
void sched_send_start(struct sched *s, struct run *r);
void sched_send_kill(struct sched *s, struct run *r);
void sched_message(struct sched *s, uint64_t session, const struct message *m);
void sched_session_closed(struct sched *s, uint64_t session);
void sched_sweep(struct sched *s);                                     /* silent nodes, lost attempts, unanswered STARTs */
void sched_node_state(struct sched *s, struct node *n, enum node_state state, const char *reason);
void sched_node_drain(struct sched *s, struct node *n, bool on, struct bytes reason);
int64_t sched_heartbeat_ms(const struct sched *s);

/* sched.c */
int sched_named_dim(struct sched *s, const char *name); /* makes it if there is room; -1: no room */
void sched_end_attempt(struct sched *s, struct run *r, const struct attempt_result *result);
void sched_revoke(struct sched *s, struct run *r, enum reason reason);

static inline struct class *job_class(const struct sched *s, const struct job *j) { return &s->classes[j->class]; }
static inline uint32_t job_user_index(const struct array *a, uint32_t position) { return a->first + position * a->step; }

#endif
