/* whatif_words.h: what somebody asks of POST /v1/whatif, read from words. Pure but for the brain that is asked for nodes. */
#ifndef ROTA_MASTER_WHATIF_WORDS_H
#define ROTA_MASTER_WHATIF_WORDS_H

#include "base/arena.h"
#include "core/sched/sched_whatif.h"

#define WHATIF_ITEMS_MAX 1000u /* in each list */

/* Each fills its members of *w from the whole text, in the arena; text of the arena is borrowed. Errors name the member of the body. */
int whatif_add(struct arena *a, const struct sched *s, struct bytes text, struct whatif *w, struct err *err);     /* "2*cpus=16,mem=64G;node-1" */
int whatif_without(struct arena *a, const struct sched *s, struct bytes text, struct whatif *w, struct err *err); /* "node-1,node-2" */
int whatif_cancel(struct arena *a, struct bytes text, struct whatif *w, struct err *err);                         /* "7,12" */
int whatif_release(struct arena *a, struct bytes text, struct whatif *w, struct err *err);
int whatif_priorities(struct arena *a, struct bytes text, struct whatif *w, struct err *err);                     /* "7=5,12=-1" */
int whatif_trial(struct arena *a, struct bytes text, struct bytes user, struct whatif *w, struct err *err);       /* "cpus=4,mem=8G,time=1h" */

#endif
