/* live_usage.h: what running attempts use, and what keeps others from running, as their workers tell it (core/model/usage.h). In memory only: a worker tells
 * a new master all that it has, and the series goes to the store with the end of the attempt. */
#ifndef ROTA_MASTER_LIVE_USAGE_H
#define ROTA_MASTER_LIVE_USAGE_H

#include "core/model/ids.h"
#include "core/model/usage.h"

#define LIVE_USAGE_MAX 16384u /* attempts; of others only what comes with their end is kept */

struct live_usage;
struct live_usage *live_usage_new(void);
void live_usage_free(struct live_usage *l);
size_t live_usage_count(const struct live_usage *l);
/* Why it has not begun, as its worker says; empty: nothing keeps it. */
void live_usage_say(struct live_usage *l, struct attempt_ref ref, struct bytes text);
struct bytes live_usage_said(const struct live_usage *l, struct attempt_ref ref); /* borrowed; empty: nothing */
/* Adds the readings of an encoded series. False: it is none. */
bool live_usage_note(struct live_usage *l, struct attempt_ref ref, struct bytes series);
const struct usage_series *live_usage_find(const struct live_usage *l, struct attempt_ref ref); /* NULL: none is known */
void live_usage_drop(struct live_usage *l, struct attempt_ref ref);
/* Visits those of a job. */
void live_usage_each(const struct live_usage *l, job_id job,
                     void (*visit)(void *arg, struct attempt_ref ref, const struct usage_series *s), void *arg);

#endif
