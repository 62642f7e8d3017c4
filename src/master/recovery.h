/* recovery.h: the master's brain from what is stored: the last snapshot and the records after it, else the whole
 * journal. */
#ifndef ROTA_MASTER_RECOVERY_H
#define ROTA_MASTER_RECOVERY_H

#include <stdatomic.h>

#include "core/sched/sched.h"
#include "store/store.h"

struct recovery {
    struct store *store;
    const struct sched_config *config;
    uint64_t to_seq;         /* the last record to apply */
    bool apart;              /* not on the loop's thread */
    bool whole;              /* do not look for a snapshot */
    const atomic_bool *stop; /* true: give up with ERR_CLOSED; may be NULL */
    /* what was found */
    uint64_t snapshot_seq; /* it began with the snapshot of this record; 0: with nothing */
    struct err refused;    /* a snapshot that was there and could not be used; code 0: none */
};
/* The brain after record to_seq, not started; yours to free. NULL: *err. */
struct sched *recovery_run(struct recovery *r, struct err *err);

#endif
