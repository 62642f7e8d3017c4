/* journal_again.h: a master's journal, and every start in it decided again by the same code: are they the same?
 *
 * A second brain is given what the journal says, record by record; where attempts were dispatched it is asked to schedule, and what it starts is
 * compared: which task, which attempt, on which node, and by which rule. The settings of the master that are not in its journal (order, backfill,
 * placement) have to be what they were.
 *
 * What no journal tells may make a few starts differ: that a worker was not connected yet to a master that had just begun, and cycles that started
 * nothing. These matter little, but under BACKFILL_CONSERVATIVE, whose promises are made in them: there most starts differ. */
#ifndef ROTA_SIM_JOURNAL_AGAIN_H
#define ROTA_SIM_JOURNAL_AGAIN_H

#include "core/sched/sched.h"

#define AGAIN_TOLD 10u /* differences that are told in words */

struct again_result {
    uint64_t records, masters;   /* read; how often a master began to lead */
    uint64_t starts, same;       /* in the journal; made again just so */
    uint64_t ahead, ahead_same;  /* short work that was sent to wait on a node: how much of it goes with when cycles ran that started nothing,
                                  * of which a journal does not tell */
    struct buf told;             /* of the first ones that differ, a line each */
};

/* dir_or_file: a state directory or its store, also of a master that runs: it is only read. *out is the caller's to free (buf_fini of told), also
 * on failure. ERR_CORRUPT: the journal does not hold together. */
int journal_again(const char *dir_or_file, const struct sched_config *config, struct again_result *out, struct err *err);

#endif
