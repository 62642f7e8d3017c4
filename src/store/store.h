/* store.h: port for the durable journal of the master and the views made from it.
 *
 * The journal is the truth. store_append() makes a batch of records durable as a whole or not at all, and keeps the
 * views (job, open attempts, attempts, terminal states, idempotency keys) in the same transaction; unique indexes there
 * make "one open attempt per task", "one row per attempt", "one terminal state per job and task" and "one job per key"
 * facts of the store. Appends are done by a thread of the store's own; the outcome comes back on the loop through
 * on_commit. Reads are synchronous, on a read-only connection, and see committed data only; their callbacks must not
 * call the store. One process may have a store open for writing: another one gets ERR_LOCKED at once, before anything
 * is touched. */
#ifndef ROTA_STORE_H
#define ROTA_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "core/model/record.h"
#include "core/model/states.h"

struct loop;

/* What goes with a SUBMITTED record and is kept once. */
struct store_job {
    job_id job;
    struct bytes spec;                 /* encoded job spec */
    struct bytes owner, key;           /* idempotency key, size 0: none */
    struct bytes key_digest;           /* of the request body, to tell a repeat from a misuse */
};

struct store_tail { struct attempt_ref ref; struct bytes stdout_tail, stderr_tail, usage; }; /* goes with an ENDED record; usage: an encoded series (core/model/usage.h) */

struct store_batch {
    const struct record *records; size_t records_count;  /* seq rising by one from the last */
    const struct store_job *jobs; size_t jobs_count;
    const struct store_tail *tails; size_t tails_count;
    uint64_t epoch; /* must be the store's, except for a batch whose first record is EPOCH with a higher one */
};

enum store_outcome {
    STORE_COMMITTED,   /* on disk */
    STORE_FULL,        /* rolled back, nothing of it is there; the same batch may be appended again */
    STORE_STALE,       /* another master leads: exit 75 */
    STORE_UNKNOWN      /* it may or may not be there (failed sync, I/O error): exit 74, start again, look */
};

struct store_events {
    void *arg;
    void (*on_commit)(void *arg, enum store_outcome outcome, const struct err *err); /* one per append, in order */
};

struct store_meta {
    uint8_t cluster[16];               /* made at first open */
    uint8_t token_key[16];
    uint64_t epoch;                    /* last one that led; 0: none */
    uint64_t last_seq;
    bool created;                      /* this open made the store */
    bool restored;                     /* what was opened is a backup that was put in the place of the store */
    uint64_t lost_seq;    /* records after last_seq up to this one were acknowledged here and are lost; 0: none */
    int64_t last_wall_ms; /* lost_seq: when the last record that is there was written */
};

struct store_limits {
    uint64_t reserve_bytes; /* free space kept by a reserve file; 0: none */
    bool accept_loss;       /* open a store that has lost what was acknowledged, too (meta.lost_seq says how much) */
};
struct store_stats {
    uint64_t commits, records, bytes, wal_bytes, commit_ns_last, commit_ns_max, errors;
    bool low;
    uint64_t free_bytes;
};

struct store_attempt {                 /* one row of history */
    struct attempt_ref ref;
    node_id node;
    int64_t assigned_wall_ms, started_wall_ms, ended_wall_ms; /* 0: unknown */
    uint32_t final;                    /* enum job_state if it ended the task, else 0 */
    uint32_t reason, exit_code, signal, flags;
    uint32_t rule; job_id over;        /* as in the record ASSIGNED */
    int64_t run_ms; uint64_t cpu_ms, rss_max_bytes, stdout_bytes, stderr_bytes;
};

/* Makes the pieces of a snapshot, in order, by calling emit for each. */
typedef void store_snapshot_write(void *arg, void (*emit)(void *to, struct bytes piece), void *to);

struct store;
struct store_ops {
    const char *name;
    void (*meta)(const struct store *s, struct store_meta *out);
    /* Every record in order, at most max (0: no limit). ERR_CORRUPT names what is wrong; the callback's error stops it
     * and is passed on. A replay from the first record on checks what goes with them too (specs, ends of the
     * numbering). */
    int (*replay)(struct store *s, uint64_t from_seq, uint64_t max,
                  int (*each)(void *arg, const struct record *r, struct err *err), void *arg, struct err *err);
    /* What *batch points to is borrowed until on_commit, *batch itself only during the call. One at a time; never
     * blocks. A batch that breaks a rule of the views, or whose numbers do not follow, is a bug of the caller: nothing
     * of it is kept, the outcome is STORE_UNKNOWN with ERR_INTERNAL. After STORE_UNKNOWN all appends have that outcome. */
    void (*append)(struct store *s, const struct store_batch *batch);
    /* Frees the reserve file so that what runs can still be recorded. True if there was one. */
    bool (*use_reserve)(struct store *s);
    /* Fills the reserve again when there is room. True when it is full, i.e. space is not low. */
    bool (*refill_reserve)(struct store *s);
    int (*spec)(struct store *s, job_id job, struct buf *out, struct err *err);            /* ERR_NOT_FOUND */
    /* 0 and *job, and the digest, if the owner has used the key; ERR_NOT_FOUND. */
    int (*key)(struct store *s, struct bytes owner, struct bytes key, job_id *job, struct buf *digest, struct err *err);
    /* Attempts of a task, from from.attempt on, or of all tasks (TASK_ALL; from.attempt is not looked at), in order, at
     * most max. To page through all tasks: attempts_page. A job or task without attempts has none: that is no error. */
    int (*attempts)(struct store *s, struct attempt_ref from, size_t max,
                    void (*each)(void *arg, const struct store_attempt *a), void *arg, struct err *err);
    int (*tails)(struct store *s, struct attempt_ref ref, struct buf *stdout_tail, struct buf *stderr_tail,
                 struct err *err); /* ERR_NOT_FOUND */
    int (*usage)(struct store *s, struct attempt_ref ref, struct buf *out, struct err *err); /* ERR_NOT_FOUND */
    /* Events of one job, in order, from_seq on, at most max. */
    int (*job_events)(struct store *s, job_id job, uint64_t from_seq, size_t max,
                      void (*each)(void *arg, const struct record *r), void *arg, struct err *err);
    /* Online; verified before it gets its name. May be called on any thread while the store is open. */
    int (*backup)(struct store *s, const char *path, struct err *err);
    void (*stats)(const struct store *s, struct store_stats *out);
    /* Waits for the append in flight and hands out its outcome; frees. */
    void (*close)(struct store *s);
    /* Attempts of all tasks in order, at most max, from (task, attempt) on: the cursor is one behind the last seen. */
    int (*attempts_page)(struct store *s, struct attempt_ref from, size_t max,
                         void (*each)(void *arg, const struct store_attempt *a), void *arg, struct err *err);
    /* The same as replay, on any thread while the store is open (in memory: on the loop's). */
    int (*replay_apart)(struct store *s, uint64_t from_seq, uint64_t max,
                        int (*each)(void *arg, const struct record *r, struct err *err), void *arg, struct err *err);
    /* What the master's brain was after record seq, the last of a committed batch, as pieces that only it understands.
     * One is kept, whole or not at all. On any thread, one at a time, while the store is open. */
    int (*snapshot_save)(struct store *s, uint64_t seq, store_snapshot_write *write, void *arg, struct err *err);
    /* *seq, then the pieces. ERR_NOT_FOUND: there is none. ERR_CORRUPT: it is damaged, or of another journal; pieces
     * may have been handed out before that is known. The error of each stops it and is passed on. On any thread. */
    int (*snapshot_load)(struct store *s, uint64_t *seq, int (*each)(void *arg, struct bytes piece, struct err *err),
                         void *arg, struct err *err);
    /* Somebody was led by a later epoch than the store's, so the store is an old copy: until it leads a later one
     * still, it is opened with accept_loss only (else ERR_CORRUPT). NULL: not kept. */
    void (*note_epoch)(struct store *s, uint64_t epoch);
    /* From hold(true) to hold(false), which come in pairs on the loop's thread and within one turn of it, all reads see one
     * state of the store, and many small ones cost less. */
    void (*hold)(struct store *s, bool on);
    /* Whether the owner has used a key with this beginning: not empty, and its last byte is not 255. */
    int (*key_begins)(struct store *s, struct bytes owner, struct bytes beginning, bool *used, struct err *err);
};
struct store { const struct store_ops *ops; }; /* first member of every implementation */

/* dir: the state directory, made if it is not there (0700). loop may be NULL: then append commits before it returns and
 * on_commit is called inside it. */
struct store *store_sqlite_open(struct loop *loop, const char *dir, const struct store_limits *limits,
                                const struct store_events *events, struct err *err);
/* In memory, for the simulator and tests. What is stored under a name outlives the handle: opening the name again finds
 * it. NULL: a nameless one that ends with its handle. With a loop an append commits on a later turn. */
struct store *store_mem_open(struct loop *loop, const char *name, const struct store_events *events, struct err *err);
/* Forgets what is stored; nobody may have it open; an unknown name is fine. */
void store_mem_drop(const char *name);
/* Frees the handle as kill -9 would: an append in flight vanishes, without on_commit. */
void store_mem_crash(struct store *s);
/* What somebody else checks on the way: what the records mean, and the snapshot. */
struct store_inspector {
    void *arg;
    void (*begin)(void *arg); /* may come twice; then all that came before is void */
    /* The snapshot; both NULL: it is of no interest, and not read. */
    int (*piece)(void *arg, struct bytes piece, struct err *err);
    /* That of record seq is complete; or, refused not NULL, it cannot be used (ERR_NOT_FOUND: there is none).
     */
    int (*snapshot)(void *arg, uint64_t seq, const struct err *refused, struct err *err);
    int (*each)(void *arg, const struct record *r, struct err *err);
    int (*end)(void *arg, struct err *err); /* may be NULL */
};
/* Opens for reading only, checks everything (structure, checksums, replay) and prints; never changes a byte. An error
 * of the inspector (may be NULL) is one of the store. Not for a process that has the store open. */
int store_sqlite_inspect(const char *dir_or_file, const struct store_inspector *inspector, struct buf *out, bool json,
                         struct err *err);

#endif
