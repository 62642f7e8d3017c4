/* sched.h: the master's brain. Decides; never acts, never reads a clock, never fails for want of memory.
 *
 * sched_step() takes one event and fills *fx. Commands of users fill *result. Durable state changes only inside
 * sched_apply(), live and on restart alike; what sched_step adds is soft (sessions, timers) and is rebuilt from HELLO.
 * Start-up: sched_new, sched_apply for every record of the store in order, sched_start, then events.
 * The event belongs to the caller, the effects to the brain until its next step. */
#ifndef ROTA_CORE_SCHED_H
#define ROTA_CORE_SCHED_H

#include "base/err.h"
#include "core/model/effects.h"
#include "core/policy/limits.h"
#include "core/policy/order.h"

/* What may pass a job that does not fit now. Numbers are positions: append only. */
enum sched_backfill {
    BACKFILL_NONE,         /* nothing */
    BACKFILL_GREEDY,       /* whatever fits, until it was passed over for starve_ms */
    BACKFILL_EASY,         /* what does not delay the first job that waits: it has a reservation */
    BACKFILL_CONSERVATIVE, /* what delays nobody: the first plan_depth tasks that wait have a reservation each */
    BACKFILLS
};
#define BACKFILL_WORDS "none|greedy|easy|conservative"
enum sched_place { PLACE_BINPACK, PLACE_SPREAD, PLACES };

struct sched_config {
    enum order_kind order;          /* default ORDER_PRIORITY: priority, then id */
    enum order_kind backfill_order; /* in which those that pass the head are tried; ORDERS: as `order` (default) */
    enum sched_backfill backfill;   /* default BACKFILL_GREEDY */
    enum sched_place place;         /* default PLACE_BINPACK */
    int64_t starve_ms;              /* BACKFILL_GREEDY: a job passed over for this long lets nothing pass it any more; 600 s */
    int64_t estimate_ms;            /* run time assumed of a job without a time limit before any like it ended; 1 h */
    bool predict;                   /* places are kept by what the user's last two attempts took, instead of by the time limit */
    uint32_t plan_depth;            /* 1000: waiting tasks that the plan looks at; 0: there is no plan */
    int64_t plan_slack_ms;          /* 1 s: the plan keeps places for this much longer, since starts and ends take a moment */
    bool origin_zero;               /* submit_s of the orders counts from the Unix epoch instead of the first submission */
    int64_t aging_ms;               /* one step of priority for each such time waited; 0: none */
    int64_t half_life_ms;           /* fair share: what was had so long ago counts for half; 7 days */
    int64_t heartbeat_ms;           /* 5 s: floor; grows with the number of nodes to keep 200 heartbeats/s, cap 30 s */
    int64_t suspect_ms;             /* 15 s without a heartbeat */
    int64_t lease_ms;               /* 60 s: how long a worker may keep an attempt that may not overlap without our answer */
    int64_t down_ms;                /* 80 s */
    int64_t lost_after_ms;          /* 300 s, counted from DOWN's last contact */
    int64_t grace_start_ms;         /* 120 s after start of this master no node goes DOWN */
    int64_t resend_ms;              /* 10 s: START without an answer is sent again */
    int64_t start_ttl_ms;           /* 30 s */
    int64_t kill_grace_ms;          /* 10 s default grace between TERM and KILL */
    int64_t ahead_target_ms;        /* 50 ms: how much short work may wait on a node behind what runs there */
    uint32_t ahead_max;             /* 4096: most attempts waiting on one node */
    uint32_t infra_retries_max;     /* 20: attempts lost to infrastructure before a task fails */
    uint32_t poison_nodes;          /* 3: worker crashes with the same task running that make it poison */
    uint64_t jobs_max;              /* 10,000,000 jobs not ended; more are refused (429) */
    uint64_t ended_max;             /* 1,000,000 ended jobs kept in memory; older ones only in the store */
    uint64_t rollback_jobs;         /* 0, or the store was put back in time: sched_start leaves out this many job ids */
    uint8_t token_key[MAC_KEY_BYTES];
};
#define ROLLBACK_JOBS 1000000u /* what a rollback leaves out: more than could have been given since the backup */
#define ROLLBACK_EPOCHS 1000000u
#define GANG_NODES_MAX 512u
void sched_config_default(struct sched_config *c);

enum after_when { AFTER_OK, AFTER_ANY, AFTER_FAIL };
struct after { job_id job; enum after_when when; };
#define AFTER_MAX 1000u

/* --- what administrators set, live: of a queue, a user, an account (they form a tree), or a token --- */

/* Who has limits or a share. Numbers are positions: journals keep them; append only. */
enum party_kind {
    PARTY_QUEUE,
    PARTY_USER,
    PARTY_ACCOUNT,
    PARTY_TOKEN,  /* a licence or the like: so many there are in the whole cluster, on no node */
    PARTY_MEMBER, /* a user within an account: has a share, and no settings of its own */
    PARTY_KINDS
};
#define PARTY_WORDS "queue|user|account|token" /* by their places: those that have settings */
#define PARTY_OTHERS "*"        /* as the name of a user or account: limits of those that have no such limit of their own */
#define ACCOUNT_DEFAULT "default"
#define ACCOUNT_DEPTH_MAX 4     /* levels of accounts */
#define TOKENS_MAX 16           /* kinds of tokens */
#define TOKEN_TOTAL_MAX 1000000000u
#define WEIGHT_MILLI_MAX 1000000000u
#define PARTIES_MAX 100000u     /* of a kind that may be set */

struct party_settings {
    struct limits limits;          /* not of tokens */
    uint64_t weight_milli;         /* of its share beside its siblings; 0: 1, of a queue: it has no share of its own */
    enum order_kind order;         /* of a queue; ORDERS: the master's */
    int64_t priority;              /* of a queue: those of higher ones go first */
    bool paused;                   /* a queue of which nothing starts */
    struct bytes reason;           /* why it is paused; at most 256 bytes */
    struct bytes parent;           /* of an account: the one above it; empty: none */
    uint64_t total;                /* of a token */
};
void party_settings_default(struct party_settings *set);

/* --- jobs that come again --- */

/* What is done at a due time when the job of the one before has not ended. Numbers are positions, here and below: append only. */
enum cron_overlap {
    CRON_SKIP,    /* nothing */
    CRON_ALLOW,   /* it is submitted, and both may run */
    CRON_WAIT,    /* it is submitted, and starts when that one has ended */
    CRON_REPLACE, /* that one is cancelled */
    CRON_OVERLAPS
};
#define CRON_OVERLAP_WORDS "skip|allow|wait|replace"
/* Of due times that came while there was no master: */
enum cron_missed { CRON_LAST, CRON_NONE, CRON_ALL, CRON_MISSEDS };
#define CRON_MISSED_WORDS "last|none|all"
enum cron_pass { CRON_PASS_NEVER, CRON_PASS_OVERLAP, CRON_PASS_MISSED, CRON_PASS_REFUSED, CRON_PASSES };
#define CRON_PASS_WORDS "never|overlap|missed|refused"
#define CRONS_MAX 10000u
#define CRON_SPEC_MAX 60000u
struct cron_settings {
    struct bytes user;                    /* whose jobs they are */
    struct bytes schedule, zone;          /* calendar/cron.h; the brain does not read them */
    struct bytes spec;                    /* the job as JSON, as in POST /v1/jobs; the brain does not read it */
    enum cron_overlap overlap;
    enum cron_missed missed;
    bool paused;                          /* its due times pass; going on it begins with the next one */
};

struct job_request {
    struct bytes user, queue, name;       /* 1..64, 1..64, 0..256 bytes */
    struct bytes account;                 /* whose share it takes; 0..64 bytes, empty: "default" */
    const struct named_resource *tokens; size_t tokens_count; /* of the cluster, taken while an attempt is open */
    struct resources need;                /* fixed dimensions */
    struct bytes where;                   /* nodes it may run on (core/model/where.h); empty: all */
    const struct named_resource *named; size_t named_count;
    int64_t priority;                     /* -1,000,000 .. 1,000,000 */
    uint32_t nodes;                       /* more than 1: a gang, that is one job on so many nodes at the same time, `need` on each; no array */
    uint32_t tasks;                       /* 0: no array; else 1 .. ARRAY_TASKS_MAX */
    uint32_t first, step;                 /* index of position p is first + p*step; step >= 1 */
    uint32_t limit;                       /* tasks of the array at the same time; 0: no limit */
    int64_t time_limit_ms, grace_ms;      /* 0: none / default */
    int64_t lost_after_ms;                /* 0: default */
    uint32_t retries;                     /* attempts after the first; 0 .. 1000 */
    int64_t backoff_ms, backoff_max_ms;   /* 0: defaults 1 s and 5 min; doubles each time, full jitter */
    int64_t begin_wall_ms, deadline_wall_ms; /* 0: none */
    bool held, overlap_never;
    bool notify;                          /* somebody is to be told of its end: SCHED_NOTIFIED when that is done */
    const struct after *after; size_t after_count;
    job_id retry_of;
    uint64_t mem_max_bytes;               /* an attempt that ran out of memory is tried again with more, up to this; 0: it is not. No arrays */
    struct bytes cron;                    /* the entry by which it comes; empty: none */
    int64_t due_wall_ms;                  /* for which of its due times: each but once, and in their order */
};

enum sched_event_kind {
    SCHED_TICK,           /* timers and one scheduling cycle; due at fx->wake_at_ms */
    SCHED_SUBMIT,
    SCHED_CANCEL, SCHED_HOLD, SCHED_RELEASE, SCHED_UPDATE, SCHED_RETRY_NOW, /* one job or task each */
    SCHED_NOTIFIED,       /* word of the job's end was given, or given up */
    SCHED_DRAIN, SCHED_RESUME, SCHED_REMOVE,                                /* a node */
    SCHED_MESSAGE,        /* from a worker */
    SCHED_SESSION_CLOSED, /* the transport lost the session */
    SCHED_SET,            /* settings of a queue, user, account or token */
    SCHED_CRON_SET, SCHED_CRON_REMOVE, SCHED_CRON_PASS, /* an entry of jobs that come again; a due time for which nothing is submitted */
    SCHED_STORE_LOW,      /* on: start nothing new */
    SCHED_TRANSPORT_DOWN, /* on: nobody can be heard, so nobody is called DOWN for it */
    SCHED_LEASE           /* a worker that the transport does not bring here has asked another way to keep its attempts */
};

struct sched_event {
    int64_t now_ms;       /* CLOCK_BOOTTIME of this machine; never goes back */
    int64_t wall_ms;      /* Unix time, for people; may jump */
    enum sched_event_kind kind;
    union {
        struct job_request submit;
        struct { job_id job; uint32_t task; struct bytes actor, reason; } cancel; /* HOLD, RELEASE, RETRY_NOW: the same */
        struct { job_id job; int64_t priority; } update;
        struct { job_id job; uint32_t status, tries; struct bytes text; } notified;
        struct { node_id node; struct bytes reason; } node;
        struct { enum party_kind kind; struct bytes name, actor; const struct party_settings *settings; } set;
        struct { struct bytes name, actor; const struct cron_settings *settings; } cron; /* REMOVE: no settings */
        struct { struct bytes name; int64_t due_wall_ms; uint32_t count; enum cron_pass passed_for; struct bytes text; } cron_pass;
        struct { uint64_t session; const struct message *message; } message;
        struct { uint64_t session; } session;
        struct { bool on; } flag;
        /* ERR_NOT_FOUND: no such worker, or an earlier life of it; ERR_UNAUTH: not the token of its WELCOME */
        struct { struct worker_id worker; uint64_t incarnation; struct mac128 token; } lease;
    };
};

struct sched_result {
    struct err err;       /* code ERR_OK: the command is done */
    job_id job;           /* SUBMIT: the new job; 0 and no error: its entry skips what overlaps */
    bool changed;         /* false: it was so already */
};

struct sched;
struct sched *sched_new(const struct sched_config *config);
void sched_free(struct sched *s);
/* One record of the store, in order of seq. ERR_CORRUPT: it cannot follow what came before. */
int sched_apply(struct sched *s, const struct record *r, struct err *err);
/* All records are in. Takes leadership as `epoch` (the effects hold the EPOCH record) and starts the clocks. */
void sched_start(struct sched *s, uint64_t epoch, const char *version, uint64_t seed, int64_t now_ms, int64_t wall_ms,
                 struct effects *fx);
void sched_step(struct sched *s, const struct sched_event *ev, struct effects *fx, struct sched_result *result);
/* Verifies every invariant of the state; aborts with a message on the first that is broken. For tests and simulation. */
void sched_check(const struct sched *s);

#endif
