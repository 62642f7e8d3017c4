/* agent.h: the worker's brain. Decides; never acts.
 *
 * Keeps what it holds of each attempt (accepted, running, ended), starts accepted ones when their resources are free,
 * gives GPUs and CPUs out by number, enforces time limits, repeats reports until they are acknowledged, and answers for its inventory.
 * One spawn per attempt: an attempt is accepted once, by a W_ACCEPTED record; EXEC_START follows it at most once in the life
 * of the worker's state directory. What ended and was acknowledged is remembered for longer than a START can be under way: each START says
 * which heartbeat the master had heard, and one that is too many heartbeats old is refused, so that memory stays bounded without a clock.
 * The record holds no spec: an attempt that was accepted and not spawned before a restart is never spawned at all. Start-up: agent_new, agent_apply for every journal record in order, then
 * agent_start, one AGENT_RECOVERED per attempt the executor still knows, AGENT_RECOVERY_DONE, then events. */
#ifndef ROTA_CORE_AGENT_H
#define ROTA_CORE_AGENT_H

#include "base/err.h"
#include "core/agent/devices.h"
#include "core/model/effects.h"
#include "core/model/where.h"

struct agent_config {
    struct worker_id worker;
    uint64_t incarnation;            /* this start's; W_IDENTITY has been journalled with it by the shell */
    char name[64];
    char boot[64];
    char version[32];
    char metrics[80];                /* HOST:PORT of its /metrics; "": none */
    char labels[LABELS_MAX + 1];
    struct resources capacity;       /* fixed dimensions */
    struct named_resource named[RES_NAMED_MAX]; size_t named_count;
    uint32_t window;                 /* attempts held at once, >= 1 */
    uint32_t cpu_ids[DEVICES_MAX]; size_t cpu_ids_count; /* jobs get CPUs of their own, of these; 0: they do not */
    uint32_t line_max;               /* attempts in the executor's line at once; 0: it has none */
    size_t line_spec_bytes;          /* none with a longer spec may be in it */
    int64_t report_min_ms, report_max_ms; /* 1 s, 30 s: repetition of reports, full jitter */
    int64_t default_grace_ms;        /* 10 s */
};
void agent_config_default(struct agent_config *c);

enum agent_event_kind {
    AGENT_TICK,
    AGENT_LINK_UP, AGENT_LINK_DOWN,  /* the transport to the master */
    AGENT_MESSAGE,
    AGENT_SPAWNED,                   /* the attempt's process exists */
    AGENT_VACATED,                   /* it is gone and has its place no more; its end follows. passed_to: who has it now, or job 0 */
    AGENT_EXITED,                    /* it ended; result is filled */
    AGENT_SPAWN_FAILED,              /* it never existed; result.reason says why (SPAWN: the job's fault, INFRA: ours,
                                        NEVER_STARTED: it was taken out of line, or only this job can not be had here) */
    AGENT_RECOVERED,                 /* at start: the executor knows this attempt: phase RUNNING or ENDED */
    AGENT_RECOVERY_DONE,             /* every attempt accepted and not recovered was never started */
    AGENT_DRAIN,                     /* take nothing new */
    AGENT_NAMED,                     /* how much there is of a named resource has changed: the master is greeted anew */
    AGENT_SPACE_LOW,                 /* on: start nothing new, the disk is nearly full */
    AGENT_LEASE_RENEWED              /* the master has said, another way than by the transport, that it heard what we sent at sent_ms */
};

struct agent_event {
    int64_t now_ms;                  /* CLOCK_BOOTTIME */
    int64_t wall_ms;
    enum agent_event_kind kind;
    uint64_t epoch, session;         /* AGENT_MESSAGE: from the head of the batch it came in */
    union {
        const struct message *message;
        struct {
            struct attempt_ref ref, passed_to;
            enum attempt_phase phase;
            int64_t ran_ms;
            struct attempt_result result;
        } exec;
        struct { bool on; } flag;
        struct { int64_t sent_ms; } lease;
        struct { const char *name; uint64_t count; } named; /* one of config.named */
        struct { uint64_t cpu_used_milli, mem_used_bytes; uint32_t load_milli; } tick; /* for heartbeats */
    };
};

struct agent_stats {
    uint32_t accepted, running, ended; /* attempts in each phase; ended: report not acknowledged */
    struct resources used;
    uint64_t epoch;
    uint64_t stale_messages, starts, reports;
    bool welcome;                    /* a master has accepted this session */
    int64_t lease_ms, lease_until_ms; /* how long a contact is good for, and until when the last one is; 0: there was none */
    bool draining;
    bool refused;                    /* the master said GO_AWAY: refusal says why; the shell exits */
    char refusal[200];
};

struct agent;
struct agent *agent_new(const struct agent_config *config, uint64_t seed);
void agent_free(struct agent *a);
/* A record of the worker's journal. ERR_CORRUPT: it cannot follow what came before. */
int agent_apply(struct agent *a, const struct record *r, struct err *err);
void agent_start(struct agent *a, int64_t now_ms, int64_t wall_ms, struct effects *fx);
void agent_step(struct agent *a, const struct agent_event *ev, struct effects *fx);
void agent_check(const struct agent *a);
void agent_view_stats(const struct agent *a, struct agent_stats *out);
/* Visits every attempt held; for inventories, tests and compaction of the journal. */
struct agent_attempt_view { struct attempt_ref ref; enum attempt_phase phase; bool spawned; int64_t started_ms; struct resources need; };
void agent_view_attempts(const struct agent *a, void (*visit)(void *arg, const struct agent_attempt_view *), void *arg);
/* Writes the records that rebuild the durable state: the journal's compacted form. */
void agent_snapshot(const struct agent *a, void (*emit)(void *arg, const struct record *), void *arg);

#endif
