/* effects.h: what a brain wants done after one step, to be performed in this order:
 *   1. make `records` durable, 2. then sends and executor commands, in their order, 3. step again at wake_at_ms.
 * Everything belongs to the brain and is valid until its next step: who keeps it copies it (gate.h does). */
#ifndef ROTA_CORE_MODEL_EFFECTS_H
#define ROTA_CORE_MODEL_EFFECTS_H

#include "core/model/message.h"
#include "core/model/record.h"

enum exec_verb {
    EXEC_START,    /* run the attempt; its spec is in the W_ACCEPTED record of the attempt */
    EXEC_LINE_UP,  /* the same, when one of equal need ends and passes its place on (exec.h) */
    EXEC_CALL,     /* start it now if it is still in line */
    EXEC_WITHDRAW, /* take it out of line if it is still there: it ends unstarted, REASON_NEVER_STARTED */
    EXEC_TERM,     /* ask it to end: SIGTERM to all its processes; in line: WITHDRAW */
    EXEC_KILL,     /* end it: SIGKILL to all its processes; in line: WITHDRAW */
    EXEC_REMOVE,   /* its report is acknowledged: evidence may go, logs stay under their own rule */
    EXEC_LEASE     /* of all attempts that may not overlap: they end at lease_until_ms unless it is moved before (exec.h) */
};

struct exec_command {
    enum exec_verb verb;
    struct attempt_ref ref;
    /* START, LINE_UP: */
    uint32_t index;            /* the array index the user sees, or TASK_SINGLE */
    struct resources need;
    struct mac128 token;       /* becomes ROTA_FENCE */
    int64_t time_limit_ms;
    bool overlap_never;
    struct bytes spec;
    int64_t lease_until_ms;    /* LEASE: CLOCK_BOOTTIME; there is no ref */
    struct bytes gpus, cpus;   /* numbers of those it has, "0,2" (agent/devices.h); empty: none, any */
};

struct send {
    uint64_t session;          /* the master's number of the worker session; 0 from a worker: the master */
    struct message message;
};

/* What a step has learnt of an attempt that started or ended. For metrics only: not kept, not told again. */
struct start_note {
    uint32_t queue;            /* number of the queue: sched_view_queue */
    int64_t wait_ms;           /* from when its task could run to its start; -1: it is not the task's first attempt */
    int64_t dispatch_ms;       /* from the decision to its start; -1: another master decided, or it ended */
    int64_t estimate_error_ms; /* between the end that was expected when it started and its end; -1: it started */
    int64_t start_error_ms;    /* between the first estimate of its start and its start; -1: there was none, or it ended */
};

struct effects {
    struct record *records; size_t records_count;
    struct send *sends; size_t sends_count;
    struct exec_command *execs; size_t execs_count;
    const struct start_note *starts; size_t starts_count;
    int64_t wake_at_ms;        /* INT64_MAX: nothing is due */
};

#endif
