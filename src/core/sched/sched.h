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

enum sched_order { ORDER_FIFO, ORDER_PRIORITY, ORDERS };
enum sched_place { PLACE_BINPACK, PLACE_SPREAD, PLACES };

struct sched_config {
    enum sched_order order;         /* default ORDER_PRIORITY: priority, then id */
    enum sched_place place;         /* default PLACE_BINPACK */
    bool strict;                    /* nothing passes a job that does not fit now; default false */
    int64_t starve_ms;              /* a job passed over for this long lets nothing pass it any more; default 600 s */
    int64_t aging_ms;               /* one step of priority for each such time waited; 0: none */
    int64_t heartbeat_ms;           /* 5 s: floor; grows with the number of nodes to keep 200 heartbeats/s, cap 30 s */
    int64_t suspect_ms;             /* 15 s without a heartbeat */
    int64_t lease_ms;               /* 60 s */
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
    uint8_t token_key[MAC_KEY_BYTES];
};
void sched_config_default(struct sched_config *c);

enum after_when { AFTER_OK, AFTER_ANY, AFTER_FAIL };
struct after { job_id job; enum after_when when; };
#define AFTER_MAX 1000u

struct job_request {
    struct bytes user, queue, name;       /* 1..64, 1..64, 0..256 bytes */
    struct resources need;                /* fixed dimensions */
    const struct named_resource *named; size_t named_count;
    int64_t priority;                     /* -1,000,000 .. 1,000,000 */
    uint32_t tasks;                       /* 0: no array; else 1 .. ARRAY_TASKS_MAX */
    uint32_t first, step;                 /* index of position p is first + p*step; step >= 1 */
    uint32_t limit;                       /* tasks of the array at the same time; 0: no limit */
    int64_t time_limit_ms, grace_ms;      /* 0: none / default */
    int64_t lost_after_ms;                /* 0: default */
    uint32_t retries;                     /* attempts after the first; 0 .. 1000 */
    int64_t backoff_ms, backoff_max_ms;   /* 0: defaults 1 s and 5 min; doubles each time, full jitter */
    int64_t begin_wall_ms, deadline_wall_ms; /* 0: none */
    bool held, overlap_never;
    const struct after *after; size_t after_count;
    job_id retry_of;
};

enum sched_event_kind {
    SCHED_TICK,           /* timers and one scheduling cycle; due at fx->wake_at_ms */
    SCHED_SUBMIT,
    SCHED_CANCEL, SCHED_HOLD, SCHED_RELEASE, SCHED_UPDATE, SCHED_RETRY_NOW, /* one job or task each */
    SCHED_DRAIN, SCHED_RESUME, SCHED_REMOVE,                                /* a node */
    SCHED_MESSAGE,        /* from a worker */
    SCHED_SESSION_CLOSED, /* the transport lost the session */
    SCHED_STORE_LOW,      /* on: start nothing new */
    SCHED_TRANSPORT_DOWN  /* on: nobody can be heard, so nobody is called DOWN for it */
};

struct sched_event {
    int64_t now_ms;       /* CLOCK_BOOTTIME of this machine; never goes back */
    int64_t wall_ms;      /* Unix time, for people; may jump */
    enum sched_event_kind kind;
    union {
        struct job_request submit;
        struct { job_id job; uint32_t task; struct bytes actor, reason; } cancel; /* HOLD, RELEASE, RETRY_NOW: the same */
        struct { job_id job; int64_t priority; } update;
        struct { node_id node; struct bytes reason; } node;
        struct { uint64_t session; const struct message *message; } message;
        struct { uint64_t session; } session;
        struct { bool on; } flag;
    };
};

struct sched_result {
    struct err err;       /* code ERR_OK: the command is done */
    job_id job;           /* SUBMIT: the new job */
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
