/* message.h: what master and workers say to each other, as the brains see it (guarantees: table of messages).
 *
 * Every message may be lost, doubled, late or reordered; each handler is idempotent. Strings and blobs are borrowed from
 * whoever hands the message over and live as long as the call. wire/ turns batches of these into bytes. */
#ifndef ROTA_CORE_MODEL_MESSAGE_H
#define ROTA_CORE_MODEL_MESSAGE_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/mac.h"
#include "core/model/ids.h"
#include "core/model/resources.h"
#include "core/model/states.h"
#include "core/model/usage.h"

enum message_kind {
    MSG_NONE,
    /* worker -> master */
    MSG_HELLO, MSG_HEARTBEAT, MSG_INVENTORY, MSG_STARTED, MSG_FINISHED, MSG_NEVER_STARTED, MSG_GOODBYE,
    /* master -> worker */
    MSG_WELCOME, MSG_HEARTBEAT_ACK, MSG_START, MSG_KILL, MSG_REVOKE, MSG_REPORT_ACK, MSG_DRAIN, MSG_GO_AWAY,
    /* between the shells only; the brains ignore them */
    MSG_LOG_READ,  /* master -> worker */
    MSG_LOG_CHUNK, /* worker -> master */
    MSG_USAGE,     /* worker -> master */
    MSG_NODE_REPORT, /* worker -> master */
    MSG_NOTE,      /* worker -> master */
    MSG_KINDS
};

/* What a worker knows of one attempt. Order is the lattice: a later state never goes back. */
enum attempt_phase { PHASE_NONE, PHASE_ACCEPTED, PHASE_RUNNING, PHASE_ENDED };

struct inventory_item {
    struct attempt_ref ref;
    struct mac128 token;
    enum attempt_phase phase;
};

struct named_resource {
    char name[RES_NAME_BYTES];
    uint64_t count;
};

/* What the kernel tells of time in which something waited: the 10-second average, in hundredths of a percent. */
enum pressure { PRESSURE_CPU, PRESSURE_MEMORY, PRESSURE_IO, PRESSURES };

struct attempt_result {
    enum reason reason;      /* REASON_NONE: exit code 0 and nothing wrong */
    uint32_t exit_code;      /* 0 .. 255 */
    uint32_t signal;         /* the signal that ended it, or 0 */
    int64_t run_ms;
    uint64_t cpu_ms;
    uint64_t rss_max_bytes;
    uint64_t stdout_bytes;   /* written by the job, including what a cap threw away */
    uint64_t stderr_bytes;
    uint32_t flags;          /* enum end_flags */
};

#define INVENTORY_MAX 100000u
#define ATTEMPT_TAIL_BYTES 65536u

struct message {
    enum message_kind kind;
    union {
        struct {
            struct worker_id worker;
            uint64_t incarnation;
            struct bytes name;       /* node name: [a-z0-9.-], 1..63 */
            struct bytes boot;       /* kernel boot id */
            struct bytes version;
            struct bytes metrics;    /* "HOST:PORT" where it serves /metrics; empty: nowhere */
            struct bytes labels;     /* core/model/where.h */
            struct resources capacity;                          /* fixed dimensions only */
            const struct named_resource *named; size_t named_count;
            const struct inventory_item *items; size_t items_count;
            uint64_t epoch_seen;     /* highest epoch this worker ever saw */
            uint32_t window;         /* attempts it is willing to hold at once, >= 1 */
            bool draining;
            uint64_t nonce;          /* of this greeting: WELCOME repeats it, so that an old WELCOME is known */
            uint64_t inventory_seq;  /* number of the inventory in it */
            uint64_t heartbeat_seq;  /* of the last heartbeat before it; never goes back in the life of a worker process */
        } hello;
        struct {
            uint64_t seq;
            int64_t sent_ms;         /* the worker's clock: echoed, never compared */
            uint64_t digest;         /* inventory_digest() of what it holds */
            uint32_t count;
            uint64_t cpu_used_milli, mem_used_bytes; /* of the machine, for people */
            uint32_t load_milli;                     /* 1-minute load average */
        } heartbeat;
        struct { const struct inventory_item *items; size_t items_count; uint64_t seq, epoch_seen; } inventory; /* epoch_seen: as of hello */
        struct { struct attempt_ref ref; struct mac128 token; uint64_t inventory_seq; /* last one that can not list it as running */ } started;
        struct {
            struct attempt_ref ref; struct mac128 token;
            struct attempt_result result;
            struct bytes stdout_tail, stderr_tail; /* at most ATTEMPT_TAIL_BYTES each */
        } finished;
        struct { struct attempt_ref ref; struct mac128 token; enum reason reason; struct bytes text; } never_started;

        struct {
            uint64_t epoch;
            uint64_t session;        /* number of this session at the master */
            int64_t heartbeat_ms, lease_ms;
            uint32_t node;
            uint64_t nonce;
            struct bytes lease_url;  /* where the lease may be renewed by HTTP while the bus is silent; empty: nowhere */
            struct mac128 lease_token;
        } welcome;
        struct { uint64_t seq; int64_t sent_ms; bool want_inventory; } heartbeat_ack;
        struct {
            struct attempt_ref ref; struct mac128 token;
            uint32_t index;          /* the array index the user sees, or TASK_SINGLE */
            struct resources need;
            const struct named_resource *named; size_t named_count; /* filled by the shell from need's named dimensions */
            int64_t time_limit_ms;   /* 0: none */
            int64_t grace_ms;
            int64_t start_ttl_ms;    /* not started this long after receipt: answer NEVER_STARTED */
            bool overlap_never;
            uint64_t heard_seq;      /* last heartbeat of this session that the master had heard: tells a START that was long under way */
            struct bytes spec;       /* encoded job spec: added by the master's shell, opaque to both brains */
        } start;
        struct { struct attempt_ref ref; struct mac128 token; int64_t grace_ms; } kill; /* end it if it runs; never start it */
        struct { struct attempt_ref ref; struct mac128 token; } revoke; /* do not start it; answer NEVER_STARTED if it has not */
        struct { struct attempt_ref ref; } report_ack;               /* committed: evidence may go */
        struct { bool on; } drain;
        struct { enum reason reason; struct bytes text; } go_away;   /* identity refused: text says why */

        /* Pull of an attempt's output: answered by one LOG_CHUNK with the same request number; with `wait` not before
         * there is something new, or the attempt has ended, or wait_ms have passed. */
        struct {
            uint64_t request; struct attempt_ref ref; uint32_t stream; /* enum exec_stream */
            uint64_t offset; uint32_t bytes_max; int64_t wait_ms;
        } log_read;
        struct {
            uint64_t request; struct attempt_ref ref; uint32_t stream;
            uint64_t offset; struct bytes data;
            bool ended;              /* the attempt has ended and data reaches its end */
            bool unknown;            /* no output is kept of that attempt */
        } log_chunk;
        /* An encoded series (usage.h): the latest reading of an attempt that runs, or, before its FINISHED and when a
         * master is new, all that its worker has of it. */
        struct { struct attempt_ref ref; struct bytes series; } usage;
        /* Why an attempt has not begun, for people: "pulling the image x: 37 %". The latest counts; empty: nothing keeps it. */
        struct { struct attempt_ref ref; struct bytes text; } note;
        /* What a node is like, for people. */
        struct {
            struct bytes name;       /* of the node */
            struct bytes enforces;   /* "memory: held to the request (cgroup); ...": what jobs can be held to there */
            uint64_t disk_bytes, disk_free_bytes; /* of the state directory; 0: unknown */
            uint32_t pressure[PRESSURES];
            bool has_pressure;
            uint32_t gpus; /* that tell of their use; 0: it is not known */
            uint64_t gpu_used_milli, gpu_mem_used_bytes, gpu_mem_bytes; /* of all together; a busy one counts 1000 */
        } node_report;
    };
};

/* Makes the message own nothing outside the arena: what it points to is copied there. */
void message_keep(struct arena *arena, struct message *m);
const char *message_name(enum message_kind kind); /* "START" */
/* Sum over items of a hash of (job, task, attempt, phase): does not depend on their order. */
uint64_t inventory_digest_add(uint64_t digest, struct attempt_ref ref, enum attempt_phase phase);

#endif
