/* sched_snapshot.h: the durable state of the master's brain as bytes, so that a start need not read the whole journal.
 *
 * A snapshot stands for the records that were applied: restoring it and applying what came after gives the state that
 * applying all of them gives. It is taken of a brain that has not been started (of a second one that read the journal,
 * never of the one that decides), and it is canonical: equal states give equal bytes. What it holds is what is in
 * memory: jobs that have not ended, the newest that have, nodes, open attempts; not history. Whoever adds durable state
 * adds it here, too: the fault simulator starts masters from snapshots and lets one that read everything make the same
 * decisions beside it. */
#ifndef ROTA_CORE_SCHED_SNAPSHOT_H
#define ROTA_CORE_SCHED_SNAPSHOT_H

#include "base/buf.h"
#include "core/sched/sched.h"

#define SCHED_SNAPSHOT_VERSION 7u /* raise it when the bytes below or what records do to the state change */

/* Hands the bytes out in pieces of some 64 KiB, each valid during its call. */
void sched_snapshot(const struct sched *s, void (*emit)(void *arg, struct bytes piece), void *arg);

/* Fills a new brain (sched_new, nothing applied) from the pieces, in their order. Each error is ERR_CORRUPT; then the
 * brain can only be freed. ERR_STALE of the first piece: another version of the program made it. */
struct sched_restore;
struct sched_restore *sched_restore_new(struct sched *s);
int sched_restore_piece(struct sched_restore *r, struct bytes piece, struct err *err);
int sched_restore_end(struct sched_restore *r, struct err *err); /* that was all */
/* How many ended jobs were kept in memory at most (sched_config) when it was made; after the first piece. */
uint64_t sched_restore_ended_max(const struct sched_restore *r);
void sched_restore_free(struct sched_restore *r);

#endif
