/* effects.h: what a brain wants done after one step, to be performed in this order:
 *   1. make `records` durable, 2. then sends and executor commands, in their order, 3. step again at wake_at_ms.
 * Everything belongs to the brain and is valid until its next step: who keeps it copies it (gate.h does). */
#ifndef ROTA_CORE_MODEL_EFFECTS_H
#define ROTA_CORE_MODEL_EFFECTS_H

#include "core/model/message.h"
#include "core/model/record.h"

enum exec_verb {
    EXEC_START,  /* run the attempt; its spec is in the W_ACCEPTED record of the attempt */
    EXEC_TERM,   /* ask it to end: SIGTERM to all its processes */
    EXEC_KILL,   /* end it: SIGKILL to all its processes */
    EXEC_REMOVE  /* its report is acknowledged: evidence may go, logs stay under their own rule */
};

struct exec_command {
    enum exec_verb verb;
    struct attempt_ref ref;
    uint32_t index;            /* START: the array index the user sees, or TASK_SINGLE */
    struct resources need;     /* START */
    struct mac128 token;       /* START: becomes ROTA_FENCE */
    int64_t time_limit_ms;     /* START */
    struct bytes spec;         /* START */
};

struct send {
    uint64_t session;          /* the master's number of the worker session; 0 from a worker: the master */
    struct message message;
};

struct effects {
    struct record *records; size_t records_count;
    struct send *sends; size_t sends_count;
    struct exec_command *execs; size_t execs_count;
    int64_t wake_at_ms;        /* INT64_MAX: nothing is due */
};

#endif
