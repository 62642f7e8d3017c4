/* record.h: one fact of schema/events.def in memory, and its bytes.
 *
 * Encoded: varint length of what follows, then kind, seq, at_wall_ms (zigzag), then per field in order: numbers as
 * varint (signed ones zigzag), STR as varint length + bytes, RES as a count and that many varints, MAC as 16 bytes.
 * A record that ends early has zero in the fields that are missing; bytes after the last known field are skipped. */
#ifndef ROTA_CORE_MODEL_RECORD_H
#define ROTA_CORE_MODEL_RECORD_H

#include "base/buf.h"
#include "base/err.h"
#include "base/mac.h"
#include "core/model/ids.h"
#include "core/model/resources.h"
#include "core/model/states.h"
#include "events.def"

enum event_kind {
    EV_NONE,
#define EVENT(KIND, kind, name, FIELDS) EV_##KIND,
    EVENTS(EVENT)
#undef EVENT
    EV_KINDS
};

#define RECORD_STR_MAX 65536u   /* bytes of one STR field when decoding (W_ACCEPTED.spec: RECORD_SPEC_MAX) */
#define RECORD_SPEC_MAX 524288u
#define RECORD_BYTES_MAX (RECORD_SPEC_MAX + 4096u)

#define EV_TYPE_U64 uint64_t
#define EV_TYPE_U32 uint32_t
#define EV_TYPE_I64 int64_t
#define EV_TYPE_STR struct bytes
#define EV_TYPE_RES struct resources
#define EV_TYPE_MAC struct mac128
#define EV_MEMBER(type, field) EV_TYPE_##type field;
#define EVENT(KIND, kind, name, FIELDS) struct ev_##kind { FIELDS(EV_MEMBER) };
EVENTS(EVENT)
#undef EVENT

struct record {
    enum event_kind kind;
    uint64_t seq;       /* place in the journal, 1 .. without holes; 0 until it has one */
    int64_t at_wall_ms; /* Unix time on the writer's clock: for people, never compared between machines */
    union {
#define EVENT(KIND, kind, name, FIELDS) struct ev_##kind kind;
        EVENTS(EVENT)
#undef EVENT
    };
};

/* ENDED.flags, W_ENDED.flags and exec_exit.flags */
enum end_flags {
    END_STDOUT_GAP = 1,      /* output was cut at the cap; a mark in the file says how much is missing */
    END_STDERR_GAP = 2,
    END_MAY_HAVE_RUN = 4,    /* nobody saw how it ended; it may have had effects */
    END_CANCEL_LOST_RACE = 8, /* it was being cancelled but finished first */
    END_OF_GANG = 16         /* of a gang: what becomes of the task is decided when all of them have ended (GANG_ENDED) */
};

/* How an attempt ended, for those who look at attempts: of a part of a gang it is not decided with its end what becomes of the task.
 * JOB_NONE: it is tried again. */
enum job_state attempt_final(uint32_t final, uint32_t reason, uint32_t flags);

const char *event_name(enum event_kind kind); /* "job.started" */
void record_encode(struct buf *out, const struct record *r);
/* Decodes the record at *at (before end) and moves *at behind it. STR fields borrow from the input.
 * ERR_CORRUPT: cut short, too long, of an unknown kind, or with a field that does not fit its type. */
int record_decode(const uint8_t **at, const uint8_t *end, struct record *out, struct err *err);
/* One line for people and golden tests: "job.started job=7 task=- attempt=1 node=2". */
void record_print(struct buf *out, const struct record *r);

/* Visits the fields of a record in order. */
struct record_visitor {
    void (*u64)(void *arg, const char *name, uint64_t value);
    void (*i64)(void *arg, const char *name, int64_t value);
    void (*str)(void *arg, const char *name, struct bytes value);
    void (*res)(void *arg, const char *name, const struct resources *value);
    void (*mac)(void *arg, const char *name, struct mac128 value);
};
void record_visit(const struct record *r, const struct record_visitor *visitor, void *arg);
/* The job, task, node and terminal state a record is about; zero fields where it has none. */
struct record_subject {
    job_id job;
    uint32_t task;      /* TASK_SINGLE when the record has no task */
    uint32_t attempt;
    node_id node;
    uint32_t terminal;  /* enum job_state when this record ends the job or the one task; else 0 */
    bool whole_job;     /* terminal applies to the job, not only to one task of an array: "one terminal state per job" is
                         * then keyed by the job alone, whatever `task` says */
};
struct record_subject record_subject(const struct record *r);

#endif
