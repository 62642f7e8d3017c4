/* worker_state.h: the worker's state directory: one owner at a time, and who the worker is across restarts.
 *
 * Start-up in three calls: worker_state_open (lock, read the journal, learn the identity), worker_state_replay (records to the
 * agent), worker_state_begin (this start's identity record is durable, the journal is ready for appends). */
#ifndef ROTA_WORKER_STATE_H
#define ROTA_WORKER_STATE_H

#include "core/agent/agent.h"
#include "worker/journal.h"

#define CLUSTER_BYTES 16
#define JOURNAL_COMPACT_BYTES (16u << 20)

struct worker_state {
    char *path;                  /* of the directory, without links */
    int dir, lock;
    struct buf file;             /* the journal as found, until worker_state_begin */
    struct journal_scan scan;
    bool found;                  /* there was a journal: not the first start */

    struct worker_id worker;
    uint64_t incarnation;        /* of this start */
    char boot[64];               /* of this start */
    char boot_before[64];        /* of the last start; "" at the first */
    uint8_t cluster[CLUSTER_BYTES]; /* all zero: has never met a master */
    uint64_t refused_records;    /* that the agent could not follow */
};

/* ERR_LOCKED: another worker is at work here. ERR_CORRUPT: the directory has been used, but who it belongs to is lost. */
int worker_state_open(struct worker_state *s, const char *path, struct err *err);
void worker_state_close(struct worker_state *s);
void worker_state_replay(struct worker_state *s, struct agent *agent);
/* Returns the open journal; *next_seq: of the next record. Compacts a journal that has grown or that is damaged. */
struct journal *worker_state_begin(struct worker_state *s, const struct agent *agent, int64_t wall_ms, uint64_t *next_seq,
                                   uint64_t *snapshot_bytes, struct err *err);
/* Gathers the whole durable state: identity and what the agent tells. */
void worker_state_snapshot(const struct worker_state *s, const struct agent *agent, int64_t wall_ms,
                           struct journal_snapshot *out);

bool cluster_known(const uint8_t cluster[CLUSTER_BYTES]);
void cluster_print(const uint8_t cluster[CLUSTER_BYTES], char hex[2 * CLUSTER_BYTES + 1]);
bool cluster_parse(struct bytes hex, uint8_t cluster[CLUSTER_BYTES]);

#endif
