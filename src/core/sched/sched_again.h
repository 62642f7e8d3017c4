/* sched_again.h: making decisions again that a journal holds: for replays beside it (sim/journal_again.h), never for a master that leads.
 *
 * The brain gets what the journal says by sched_apply, as at a start; what it decided is left out, and asked for instead. Sessions, which no
 * journal holds, are taken for granted: a node that was ready was connected. Timers are not looked at: what they did is in the journal. */
#ifndef ROTA_CORE_SCHED_AGAIN_H
#define ROTA_CORE_SCHED_AGAIN_H

#include "core/sched/sched.h"

/* It is that time for what is applied next. A clock that went back stands still. */
void sched_again_at(struct sched *s, int64_t wall_ms);
/* One scheduling cycle. What it starts is in *fx (records ASSIGNED), and is done. */
void sched_again_cycle(struct sched *s, struct effects *fx);

#endif
