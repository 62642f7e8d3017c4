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
#include "core/sched/node_index.h"
#include "core/sched/sched_view.h"
#include "core/sched/timeline.h"

/* What is asked of a node: what no node has room for is not tried again before a node that has was freed. */
struct demand {
    struct heap_node node;       /* in sched.active, sched.parked or sched.brief: by its first shape */
    struct resources need;
    uint32_t nodes;              /* that it asks this of at the same time; more than 1: of a gang (sched_gang.c) */
    struct heap shapes;          /* of struct shape.node: those with pending jobs */
    bool parked;                 /* no node that takes work has room for it */
    bool too_big;                /* with parked: no such node is large enough, even when empty */
    bool brief;                  /* work of this kind was short: it may wait on a node */
};

#define AHEAD_ROUNDS_MAX 20      /* work is short when it takes at most this many times config.ahead_target_ms */

#define RANKS 3u /* of a shape's queue: priority, share, number; behind them the shares of account and user */
#define RANKS_MAX (RANKS + ACCOUNT_DEPTH_MAX + 1)

/* Somebody who has limits or a share, or both: see sched_party.c. */
struct party {
    enum party_kind kind;
    uint32_t number;
    struct party *parent;        /* whose limits and share count, too: see sched_party_of */
    struct party_settings set;   /* its texts are owned */
    bool is_set;
    struct held held;            /* of open attempts; of a token: attempts are units */
    int64_t ran_ms[2];           /* of a user: how long the last two attempts that ended by themselves took, + 1; 0: there was none */
    uint64_t waiting;            /* tasks that wait: held, blocked, queued, or before they are tried again */
    struct rate rate;
    double had;                  /* mean share it had, as of had_wall_ms (policy/fairshare.h) */
    int64_t had_wall_ms;
    struct heap blocked;         /* of struct shape.node: those with pending jobs that its limits keep out */
    struct list_node loosened;   /* in sched.loosened: some of `blocked` may be let in now */
    struct shape *woken;         /* was let in, and was not yet tried */
    double ratio;                /* soft: (had + held) / weight, as of sched.fair_clock == ratio_clock */
    uint64_t ratio_clock;
};

/* Pending jobs that ask the same for the same time, of the same user in the same queue: only the first of them is looked at. */
struct shape {
    struct heap_node node;       /* in demand.shapes or blocked_by->blocked: by its first job */
    struct demand *demand;
    uint32_t queue, user, account;
    struct party *queue_party, *user_party, *member_party;
    uint32_t tokens[TOKENS_MAX]; /* by number */
    bool needs_tokens;
    struct party *blocked_by;    /* whose limit keeps it out; NULL: none, as far as it was looked at */
    bool ranked;                 /* `rank` counts */
    double rank[RANKS_MAX];      /* what is compared first, smaller goes first */
    int64_t time_limit_ms;       /* 0: none */
    double run_ms_mean;          /* moving mean of how long attempts ran; negative: none ended yet. Soft. */
    double key;                  /* what the order says of its first job */
    struct heap pending;         /* of struct job.pending */
    uint64_t eligible;           /* tasks that could run */
};

/* An entry of jobs that come again: sched_cron.c. */
struct cron_entry {
    struct bytes name;           /* owned, as all texts of it */
    struct cron_settings set;
    int64_t last_wall_ms;        /* due times up to this one have been dealt with */
    job_id last;                 /* the job of the last one that was submitted; 0: none */
    uint64_t submitted, passed;
    enum cron_pass passed_for;   /* of the last one that was passed over */
    int64_t passed_wall_ms;
    struct bytes passed_text;
};

/* The first job that does not fit has a place kept for it, of a gang one on each of its nodes: nothing may delay its start there. */
struct kept_room {
    struct node *node;           /* node.kept tells which this is */
    struct resources extra;      /* free there at that time, beside it */
};
struct reservation {
    const struct job *job;       /* NULL: there is none */
    struct kept_room *kept; size_t count; /* none: it has no place, whatever ends */
    int64_t at_wall_ms;          /* when it can start at the latest, as far as the estimates hold */
};

/* One waiting task in the plan (sched_slots.c). */
struct slot {
    struct job *job;             /* valid for the round only; later go by id */
    uint64_t id;
    struct node *node;           /* NULL: it has no place in the plan */
    int64_t at_wall_ms, until_wall_ms;
    struct resources need;
    double queue_rank;           /* by which somebody may go before those who were here first: the queue's priority, */
    int64_t order_key;           /* and what people said of the job */
    enum plan_basis basis;
    uint64_t basis_job;          /* BASIS_NONE: the job of which nothing is known */
};

/* Where and when each of the first waiting tasks is to start. Soft: made anew after a restart. Under BACKFILL_CONSERVATIVE a slot
 * is a promise, kept from cycle to cycle; otherwise the plan only tells what is to be expected. */
struct plan {
    struct slot *slots; size_t count, cap; /* in the order of the queue */
    struct slot *before; size_t before_count, before_cap; /* those of the round before */
    uint32_t *by_job; size_t by_job_slots; /* hash of id: number of the first slot of the job + 1 */
    bool deeper;                 /* more wait than were looked at */
    bool promised;               /* made by BACKFILL_CONSERVATIVE */
    uint64_t rounds;
    int64_t made_wall_ms;        /* 0: never */
    int64_t next_wall_ms;        /* when the first of those slots comes that have not come yet */
};

/* What the plan knows of a node. */
struct node_plan {
    struct timeline line;
    uint32_t slots;              /* in the plan, there */
    uint32_t changes;            /* of line: tells whether what was found there still holds */
    bool stale;                  /* what runs there has changed since line was made */
    bool anew;                   /* line was made anew in this round */
    bool better, better_next;    /* something has become free that was taken: in this round; to be looked at in the next */
    uint64_t doubts_round;       /* the round that `doubts` is of */
    int64_t doubts[BASES];       /* the first end of something there whose length is known so badly */
    uint64_t doubts_job;         /* whose BASIS_NONE it is */
};

/* The tasks of one queue, counted as they change (sched_count.c). Number = that of the queue's name. */
struct queue_counts {
    uint64_t tasks[JOB_STATES];  /* those that have not ended, by state */
    uint64_t waiting[WHYS];      /* queued ones by what they wait for; what could run is counted by shape instead */
};

/* What jobs of one kind share beyond the shape. Number = position. */
struct class {
    struct shape *shape;
    uint32_t user, queue;
    uint32_t nodes;              /* as of its demand */
    struct resources need;
    int64_t time_limit_ms, grace_ms, lost_after_ms, backoff_ms, backoff_max_ms;
    uint32_t retries;
    bool overlap_never;
    double run_ms_mean;          /* moving mean of how long attempts ran; negative: none ended yet. Soft. */
    struct heap ahead;           /* of struct node.ahead: nodes that take work and were last given this class. Soft. */
};

/* What makes two classes the same; without gaps, so that its bytes can be compared. */
struct class_key {
    struct resources need;
    int64_t times[5];
    uint32_t user, queue, retries, overlap_never, account, nodes;
    uint32_t tokens[TOKENS_MAX];
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
    uint32_t counted;            /* tasks that wait, as counted under job.counted */
    uint32_t fresh;              /* positions from here on were never tried */
    uint32_t open;               /* tasks with an open attempt */
    uint16_t partly;             /* bits of the states for which it counts in stats.partly */
    bool gang;                   /* all of it runs at the same time, each on a node of its own: see sched_gang.c */
    node_id *members;            /* of a gang: where each was last sent; soft: of those that are not open it may be 0 */
    uint32_t *returned;          /* positions below fresh that wait again; stale entries are skipped */
    size_t returned_count, returned_cap;
    struct cell cells[];
};

/* The store was put back in time: ids in (job_last, job_floor] and, of jobs up to job_last, attempts that it does not
 * know may have been given before. None is given again. */
struct rollback {
    uint64_t job_last, job_floor;
};
#define ROLLBACK_ATTEMPTS 1000u /* left out of each task's numbers, per rollback */

/* An attempt that a worker holds, with our token, and that the journal does not know. */
struct orphan {
    struct attempt_ref ref;
    enum attempt_phase phase;
};

enum run_state { RUN_ASSIGNED, RUN_RUNNING };

/* One open attempt: the master's half of a lease. */
struct run {
    struct run *hash_next;
    struct job *job;
    struct node *node;
    struct list_node on_node;    /* node.runs */
    struct list_node waiting;    /* node.waiting, while `ahead` */
    int64_t end_wall_ms;         /* when it should end by its estimate; place in node.ends, unless `ahead` */
    uint8_t outlived;            /* how often that was moved since it ran on (config.predict); soft */
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
    int64_t assigned_ms;         /* when it was decided; -1: in the life of another master */
    int64_t start_wall_ms;
};

struct dependent { job_id job; enum after_when when; };

struct job_extra {
    int64_t begin_wall_ms, deadline_wall_ms;
    job_id retry_of;
    uint64_t mem_max_bytes;
    struct dependent *dependents; size_t dependents_count, dependents_cap; /* jobs that wait for this one */
    struct after *after; size_t after_count;                               /* what this one was submitted with */
    job_id failed_on;            /* a dependency that can no longer be met */
    bool begin_open;             /* the begin time has not been acted on */
    bool notify;                 /* word of its end is owed */
    int64_t eligible_wall_ms;    /* when it came to wait for a node only, if that was not when it was submitted */
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
    uint8_t counted;             /* enum why under which its waiting tasks are counted; WHY_NOTHING: none, WHYS: could run */
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
    struct bytes name, boot, version, reason, labels; /* owned */
    struct traits traits;        /* what capacity.traits points to */
    struct worker_id worker;
    uint64_t incarnation;
    enum node_state state;
    bool drained_by_user;
    struct resources capacity, allocated;
    struct list_node runs, waiting;
    struct run **ends; size_t ends_count, ends_cap; /* runs that hold resources, in order of end_wall_ms */
    struct node_plan plan;       /* soft */
    uint32_t runs_count, waiting_count, running_count, cancelling_count;
    /* soft */
    struct bytes metrics;        /* owned: where it serves /metrics */
    bool freed;                  /* in sched.freed */
    uint64_t session;
    uint32_t window;
    int64_t heard_ms;
    int64_t renewed_ms;          /* its lease, another way than by the transport; 0: never */
    bool heard;
    uint32_t kept;               /* its place in the reservation under way + 1; 0: it is not in it */
    uint64_t heartbeat_seq, inventory_seq, nonce;
    uint64_t session_last;       /* greetings of earlier sessions are late */
    struct node *session_next;   /* in its slot of sched.sessions */
    uint32_t class_last;
    struct list_node touched;    /* in sched.touched: changed since it was refreshed. When it was: */
    struct index_node place;     /* in sched.places */
    struct heap_node ahead;      /* in the heap of ahead_class, by ahead_waiting for each of ahead_slots */
    uint32_t ahead_class, ahead_waiting, ahead_slots;
    int64_t infra_at_ms[5];
    int64_t quarantined_until_ms; /* then it is tried again; one more failure sets it aside for longer */
    unsigned quarantines;        /* in a row: doubles the time */
    uint64_t cpu_used_milli, mem_used_bytes;
    uint32_t load_milli;
    struct orphan *orphans;
    size_t orphans_count, orphans_cap; /* of the last inventory */
};

#define JOB_PAGE 1024u
/* `eligible` and `queues` let those who look for the longest wait pass over pages that have nothing for them. */
struct job_page {
    uint32_t live;
    uint32_t eligible;           /* jobs in it that could run */
    uint64_t queues;             /* bit q % 64 for every queue q that a job in it is or was in */
    struct job jobs[JOB_PAGE];
};

struct sched {
    struct sched_config config;
    struct mac *mac;
    struct prng prng;
    uint64_t epoch;
    struct rollback *rollbacks;
    size_t rollbacks_count, rollbacks_cap;
    bool started;                /* sched_start was called: decisions may be made */
    int64_t now_ms, wall_ms;

    struct intern wheres;        /* constraints: a number is the place + 1 */
    struct intern users, queues, names, class_keys, shape_keys, demand_keys, accounts, tokens, members;
    struct { struct party **all; size_t count, cap; } parties[PARTY_KINDS]; /* by number, the place of its name in its intern */
    struct party common;         /* all queues that have no share of their own */
    struct list_node loosened;   /* of struct party.loosened */
    bool limited;                /* somebody has a limit, or had one */
    size_t lanes;                /* queues that have a share of their own */
    bool moves;                  /* keys and ranks change while jobs wait */
    bool ranked;                 /* shapes have ranks: shares or priorities of queues, or fair share */
    struct resources capacity;   /* of nodes that are not down */
    uint64_t fair_clock;         /* counts cycles, and whatever else makes ratios old */
    struct class *classes; size_t classes_count, classes_cap;
    struct queue_counts *queue_counts; size_t queue_counts_count, queue_counts_cap;
    struct shape **shapes; size_t shapes_count, shapes_cap;
    struct demand **demands; size_t demands_count, demands_cap;
    char named[RES_NAMED_MAX][RES_NAME_BYTES];

    struct cron_entry **crons; size_t crons_count, crons_cap; /* in order of their names */
    uint64_t crons_changed;      /* how often any was set or removed; soft */

    struct job_page **pages; size_t pages_count, pages_cap;
    uint64_t job_last, jobs_live, jobs_open; /* in memory; not ended */
    uint64_t *ended; size_t ended_head, ended_count, ended_cap; /* ring of ended jobs, oldest first */

    struct run **runs; size_t runs_slots, runs_count;
    struct node **nodes; size_t nodes_count, nodes_cap;
    struct node **sessions; size_t sessions_slots, sessions_count; /* nodes with a session, by it */
    struct node_index places;    /* nodes that take work; behind by what is in `touched` */
    struct list_node touched;

    double backlog_s;            /* order_facts: as of the last look; soft */
    struct heap active, parked, brief; /* demands with pending jobs: that may fit; that are known not to; of those, the brief */
    struct node **freed; size_t freed_count, freed_cap; /* nodes that may have room since the last cycle */
    struct demand least;         /* need: not more than any parked demand's, if least_known */
    bool least_known;
    struct plan plan;
    struct estimates *estimates; /* sched_estimate.c; NULL: nobody asked yet */
    enum order_kind order_now;   /* by which shape.key is made: config.order, while passing the head config.backfill_order */
    int64_t origin_wall_ms;      /* of submit_s: the first submission; 0: none yet */
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
    struct start_note *starts; size_t starts_count, starts_cap;
    int64_t record_wall_ms;      /* of the record being applied */
};

/* sched_apply.c */
struct job *sched_job(const struct sched *s, job_id id);               /* NULL: not in memory */
struct run *sched_run(const struct sched *s, job_id id, uint32_t task); /* the task's open attempt, or NULL */
struct node *sched_node(const struct sched *s, node_id id);
bool sched_class_key(struct class_key *key, const struct ev_class *e, uint64_t where, uint32_t user, uint32_t queue, uint32_t account); /* false: tokens do not decode */
uint32_t sched_attempt_next(const struct sched *s, const struct job *j, uint32_t task); /* number of its next attempt */
bool sched_orphan(const struct sched *s, struct attempt_ref ref);      /* may be an attempt that a rollback forgot */
/* A class as the journal has it; its texts are borrowed, its tokens are in *tokens. */
void sched_class_event(const struct sched *s, uint32_t number, struct ev_class *e, struct buf *tokens);
void sched_class_mean(struct sched *s, struct class *c, double run_ms_mean);
void sched_emit(struct sched *s, const struct record *r);              /* decide: append to the effects and apply */
bool sched_job_eligible(const struct job *j);
enum job_state sched_task_state(const struct job *j, uint32_t task);
int64_t sched_order_key(const struct sched *s, const struct job *j);
uint32_t sched_array_next(const struct array *a);                      /* next position to run; tasks if none */

void sched_node_touched(struct sched *s, struct node *n);              /* what it has free, or whether it takes work, changed */
struct bytes sched_own(struct bytes old, struct bytes text);           /* a copy; frees the old one */
/* sched_cron.c */
enum cron_turn { CRON_TURN_NONE, CRON_TURN_GO, CRON_TURN_REPLACE };
void sched_cron_fini(struct sched *s);
int sched_cron_apply(struct sched *s, const struct ev_cron *e, struct err *err);
int sched_cron_apply_removed(struct sched *s, const struct ev_cron_removed *e, struct err *err);
int sched_cron_apply_passed(struct sched *s, const struct ev_cron_passed *e, struct err *err);
int sched_cron_apply_submitted(struct sched *s, const struct ev_submitted *e, struct err *err);
void sched_cron_record(const struct sched *s, size_t i, struct record *r); /* borrows */
void sched_cron_set(struct sched *s, const struct sched_event *ev, struct sched_result *result);
void sched_cron_remove(struct sched *s, const struct sched_event *ev, struct sched_result *result);
void sched_cron_pass(struct sched *s, const struct sched_event *ev, struct sched_result *result);
/* Whether a submission may go on as its entry wants it; *q may get a dependency more. REPLACE: *before is to be cancelled first. */
enum cron_turn sched_cron_turn(struct sched *s, struct job_request *q, job_id *before, struct sched_result *result);

/* sched_party.c: limits and shares */
struct refusal {                                                       /* one limit that keeps a shape out */
    const struct party *party;
    enum limit limit;                                                  /* LIMITS: its queue is paused, or it is a token */
    uint64_t used, asked, most;
};
void sched_party_init(struct sched *s);
void sched_party_fini(struct sched *s);
struct party *sched_party(struct sched *s, enum party_kind kind, uint32_t number); /* made if it is not there yet */
struct intern *sched_party_names(struct sched *s, enum party_kind kind);
void sched_party_shape(struct sched *s, struct shape *shape);          /* a new one: finds whose it is */
int sched_party_apply(struct sched *s, const struct ev_settings *e, struct err *err);
void sched_party_waits(struct sched *s, const struct shape *shape, int64_t tasks); /* so many more wait */
void sched_party_take(struct sched *s, const struct shape *shape);     /* an attempt is opened */
void sched_party_give(struct sched *s, const struct shape *shape);     /* ... and closed */
void sched_party_submitted(struct sched *s, const struct shape *shape);
int sched_party_admit(const struct sched *s, const struct job_request *q, struct err *err); /* at submission */
void sched_set(struct sched *s, const struct sched_event *ev, struct sched_result *result);
size_t sched_refusals(const struct sched *s, const struct shape *shape, struct refusal *out, size_t max); /* how many */
void sched_refusal_why(const struct sched *s, const struct refusal *r, struct why_limit *out);
enum why sched_refusal_kind(const struct refusal *r);
bool sched_shape_limited(struct sched *s, struct shape *shape);        /* true: a limit keeps it out, it has left the heaps */
void sched_party_wake(struct sched *s);                                /* shapes that limits let in again are back */
void sched_shape_unblock(struct shape *shape);
/* What of a shape is compared first: its queue's priority and share; `fair`: those of its account and user, too. True: it has changed. */
bool sched_party_rank(const struct sched *s, const struct shape *shape, bool fair, double rank[RANKS_MAX]);
void sched_capacity(struct sched *s, const struct node *n, bool add);  /* before and after its state or size changes */
void sched_party_settings_record(const struct sched *s, const struct party *p, struct record *r); /* borrows */
void sched_party_check(const struct sched *s);

/* sched_count.c */
void sched_count_queue(struct sched *s, uint32_t queue);               /* makes room for it */
void sched_count_state(struct sched *s, const struct job *j, enum job_state from, enum job_state to, uint64_t tasks);
void sched_count_job(struct sched *s, struct job *j);                  /* whether it waits, and for what, may have changed */
uint16_t sched_partly(const struct job *j);                            /* struct array.partly as it should be */
void sched_count_partly(struct sched *s, struct job *j, uint16_t partly); /* counts it as that from now on */
void sched_note_start(struct sched *s, const struct run *r, int64_t ran_ms);
void sched_note_end(struct sched *s, const struct run *r);             /* as it was before its end */
void sched_count_check(const struct sched *s);

/* sched_apply.c, for sched_snapshot.c: what applying does, by the piece */
struct job *sched_load_job(struct sched *s, job_id id);  /* id is larger than any before */
void sched_load_pending(struct sched *s, struct job *j); /* all else of it is there, or an attempt of it more */
struct node *sched_load_node(struct sched *s);
struct run *sched_load_run(struct sched *s, struct job *j, struct node *n, uint32_t task, uint32_t attempt, bool ahead);
void sched_load_timer(struct sched *s, struct job *j, uint32_t task, int64_t due_ms);
void sched_load_appointment(struct sched *s, job_id job, int64_t wall_ms);
void sched_load_ended(struct sched *s, job_id job);
void sched_load_done(struct sched *s);

/* sched_queue.c */
enum order_kind sched_order_of(const struct sched *s, const struct shape *shape);   /* its queue's, or the master's */
bool sched_queue_moves(const struct sched *s);                         /* keys change while jobs wait, or with what is held */
void sched_queue_settings(struct sched *s, const struct party *queue); /* those of somebody changed; the order of `queue`, or NULL */
bool sched_shape_stale(const struct sched *s, struct shape *shape);    /* its rank was old; it is made anew */
void sched_queue_rekey_all(struct sched *s);                           /* the backlog, too; of all that wait */
void sched_queue_rekey_limited(struct sched *s);                       /* as sched_queue_rekey, those that limits keep out */
bool sched_queue_stale(struct sched *s, struct demand *d);             /* true: its rank was old, it has another place now */
void sched_queue_init(struct sched *s);
void sched_queue_fini(struct sched *s);
bool sched_job_before(const struct heap_node *a, const struct heap_node *b);     /* within a shape: total */
bool sched_demand_before(const struct heap_node *a, const struct heap_node *b);  /* by their first jobs: total */
void sched_queue_refresh(struct sched *s, struct job *j);              /* in or out, as it is eligible */
void sched_queue_moved(struct sched *s, struct job *j);                /* its order_key has changed */
struct shape *sched_shape(struct sched *s, const struct class_key *key, int64_t time_limit_ms);
bool sched_shape_before(const struct heap_node *a, const struct heap_node *b);   /* by their first jobs: total */
struct heap *sched_demand_home(struct sched *s, const struct demand *d); /* the heap it is in, or belongs to */
void sched_queue_backlog(struct sched *s); /* looks at it anew, where an order in use wants to know; O(shapes + nodes + runs) */
void sched_demand_brief(struct sched *s, struct demand *d);            /* work of this kind was short */
void sched_demand_back(struct sched *s, struct demand *d);             /* into its heap, after it was taken out of it */
void sched_demand_park(struct sched *s, struct demand *d, bool too_big);
/* The first parked demand with room on a node of sched.freed becomes active. NULL: there is none, and sched.freed is empty. */
struct demand *sched_queue_wake(struct sched *s);
void sched_shape_moved(struct sched *s, struct shape *shape);          /* its first job, or what its key is made from, changed */
void sched_queue_rekey(struct sched *s, struct heap *demands);         /* keys as of now, by order_now */
int64_t sched_estimate_ms(const struct sched *s, const struct shape *shape); /* > 0; what people said, or what its like took: orders go by it */
int64_t sched_length_ms(const struct sched *s, const struct shape *shape);   /* > 0; how long a place is kept for it: that, or less (config.predict) */
double sched_shape_key(const struct sched *s, const struct shape *shape, const struct job *j); /* of a job of it, as of now */
int sched_shape_ranks(const struct shape *x, const struct shape *y);   /* < 0: x goes before y, whatever their jobs are */
static inline struct shape *demand_first(const struct demand *d) { return heap_entry(d->shapes.nodes[0], struct shape, node); }
static inline struct job *shape_first(const struct shape *shape)
{
    return heap_entry(shape->pending.nodes[0], struct job, pending);
}
/* sched_plan.c */
void sched_ends_add(struct run *r, int64_t end_wall_ms);
void sched_ends_drop(struct run *r);
void sched_ends_move(struct run *r, int64_t end_wall_ms); /* of a run that is not `ahead`; else only noted */
void sched_outlived(struct sched *s); /* config.predict: what runs on though it should have ended is expected to run for some time more */
/* When something that asks so much of so many nodes can start, given what runs and when it should end; the nodes are marked
 * (node.kept) until it is dropped, and there is but one at a time. False: there are not so many that take work and are large enough. */
bool sched_reserve(const struct sched *s, const struct demand *d, struct reservation *out);
void sched_reserve_drop(struct reservation *r);

/* sched_walk.c */
struct walked { struct job *job; uint32_t tasks; }; /* tasks that could run now, if there was room */
/* The first jobs that wait, in order, until they have tasks_max tasks; the last one may be cut, a gang is left out. Returns how many; true in *deeper:
 * more wait. *out is the caller's to free. */
size_t sched_walk(const struct sched *s, size_t tasks_max, struct walked **out, bool *deeper);

/* sched_slots.c */
void sched_slots_fini(struct sched *s);
/* BACKFILL_CONSERVATIVE: keeps the plan and starts whoever's time has come. Returns how many were started, at most `most`;
 * *again: another round may start more. */
size_t sched_slots_keep(struct sched *s, size_t most, bool *again);
void sched_slots_expect(struct sched *s);                              /* the plan of the other modes, made anew */
const struct slot *sched_slot(const struct sched *s, uint64_t job, uint32_t nth); /* of the nth waiting task; NULL: not in the plan */
void sched_slots_check(const struct sched *s);
/* Whether a job that has no slot may start on the node now without taking what was promised. */
bool sched_slots_admit(const struct sched *s, const struct node *n, const struct shape *shape);

/* sched_change.c */
void sched_change_find(const struct sched *s, const struct job *j, uint32_t task, struct why_change *c);

/* sched_estimate.c */
void sched_estimates_fini(struct sched *s);
void sched_estimates_tick(struct sched *s);                            /* looks at the plan now and then while anybody waits */
/* Between the first estimate of its start and the start; -1: there was none. */
int64_t sched_estimate_error_ms(struct sched *s, const struct job *j, int64_t start_wall_ms);

/* sched_where.c: which nodes meet which constraints */
void sched_where_fini(struct sched *s);
uint64_t sched_where(struct sched *s, struct bytes where);             /* its number, made if it is new; 0: none */
struct bytes sched_where_text(const struct sched *s, uint64_t number); /* empty: none */
bool sched_where_node(struct sched *s, struct node *n);                /* its name, labels or size are new. True: it meets others now */

/* sched_cycle.c */
/* The best node that has room now, among those that `accepts` (NULL: all); NULL: there is none. */
struct node *sched_place(struct sched *s, const struct resources *need, bool (*accepts)(void *arg, const struct index_node *n), void *arg);
const struct scorer *sched_scorer(const struct sched *s);              /* by which nodes are chosen */
/* over: the job before it that did not fit, where the rule is about one. */
void sched_dispatch(struct sched *s, struct job *j, struct node *n, enum rule rule, const struct job *over);
bool sched_node_ahead_before(const struct heap_node *a, const struct heap_node *b);
void sched_refresh_nodes(struct sched *s);                             /* before sched.places or class.ahead are looked at */
bool sched_cycle(struct sched *s);                                     /* true: stopped at its bound, go on soon */
bool sched_node_takes_work(const struct node *n);
bool sched_node_has_room(const struct node *n, const struct resources *need); /* it suits, too */
static inline bool sched_node_suits(const struct node *n, const struct resources *need) { return resources_suit(need, &n->capacity); }
void sched_node_freed(struct sched *s, struct node *n);                /* it may have room now: look at it in the next cycle */

/* sched_gang.c */
bool sched_gang_may_start(const struct job *j);                        /* every one of its tasks waits for nodes */
/* Nodes with room for it now, each but once, the best first; up to d->nodes of them in out. How many: d->nodes, or 0. */
size_t sched_gang_place(struct sched *s, const struct demand *d, bool (*accepts)(void *arg, const struct index_node *n), void *arg,
                        struct node **out);
bool sched_gang_fits(const struct sched *s, const struct demand *d, bool empty); /* on nodes that take work, as they are or `empty` */
void sched_gang_dispatch(struct sched *s, struct job *j, struct node *const *nodes, enum rule rule, const struct job *over);
/* What the end of an attempt of it is called: what ended because another did is not to blame. */
enum reason sched_gang_reason(const struct run *r, enum reason reason);
void sched_gang_broken(struct sched *s, struct job *j);                /* applied: what runs of it is to be ended */
void sched_gang_kill(struct sched *s, const struct job *j);            /* ... and its nodes are told */
void sched_gang_settle(struct sched *s, struct job *j);                /* all have ended: what becomes of it */

/* sched_node.c */
struct send *sched_send(struct sched *s, struct node *n, enum message_kind kind);
void sched_send_start(struct sched *s, struct run *r);
void sched_send_kill(struct sched *s, struct run *r);
void sched_message(struct sched *s, uint64_t session, const struct message *m);
void sched_session_closed(struct sched *s, uint64_t session);
void sched_lease(struct sched *s, const struct sched_event *ev, struct sched_result *result);
void sched_sweep(struct sched *s);                                     /* silent nodes, lost attempts, unanswered STARTs */
void sched_node_state(struct sched *s, struct node *n, enum node_state state, const char *reason);
void sched_node_drain(struct sched *s, struct node *n, bool on, struct bytes reason);
int64_t sched_heartbeat_ms(const struct sched *s);
struct node *sched_node_by_session(const struct sched *s, uint64_t session); /* NULL: of none */
void sched_node_session(struct sched *s, struct node *n, uint64_t session);  /* 0: it has none any more */

/* sched.c */
int sched_named_dim(struct sched *s, const char *name); /* makes it if there is room; -1: no room */
void sched_end_attempt(struct sched *s, struct run *r, const struct attempt_result *result);
void sched_revoke(struct sched *s, struct run *r, enum reason reason);
/* What may be tried again after which failure; and after what time. */
bool sched_may_retry(const struct sched *s, const struct job *j, uint32_t task, enum reason reason);
int64_t sched_backoff(struct sched *s, const struct job *j, uint32_t task, bool counted);

/* Tasks that wait, for whatever. */
static inline uint32_t sched_tasks_waiting(const struct job *j)
{
    if (j->is_array)
        return j->array->counts[JOB_QUEUED] + j->array->counts[JOB_RETRY_WAIT];
    return j->state == JOB_HELD || j->state == JOB_BLOCKED || j->state == JOB_QUEUED || j->state == JOB_RETRY_WAIT;
}
static inline bool job_is_gang(const struct job *j) { return j->is_array && j->array->gang; }
static inline struct class *job_class(const struct sched *s, const struct job *j) { return &s->classes[j->class]; }
/* As what a task counts that is in `state`: when an array is held or blocked, so are its tasks that wait. */
static inline enum job_state job_task_shown(const struct job *j, enum job_state state)
{
    bool waits_whole = j->is_array && (j->state == JOB_HELD || j->state == JOB_BLOCKED);
    return waits_whole && state == JOB_QUEUED ? (enum job_state)j->state : state;
}
static inline uint32_t job_user_index(const struct array *a, uint32_t position) { return a->first + position * a->step; }

#endif
