/* webhook.h: POST requests that leave the master, on a thread of their own with libcurl, so that the loop never waits
 * for a stranger. No redirect is followed, no proxy of the environment used. Used by master/notify.c only. */
#ifndef ROTA_MASTER_WEBHOOK_H
#define ROTA_MASTER_WEBHOOK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define WEBHOOKS_MAX 16u /* under way at the same time */
#define WEBHOOK_MS 15000 /* how long one may take */

struct loop;
struct webhooks;
/* on_done comes on the loop's thread: status of the answer, or 0 and why there was none. */
struct webhooks *webhooks_new(struct loop *loop, void (*on_done)(void *arg, uint64_t id, long status, const char *why),
                              void *arg);
/* Gives up what is under way; no on_done in it or after it. NULL is fine. */
void webhooks_free(struct webhooks *w);
/* Copies all. False: WEBHOOKS_MAX are under way. */
bool webhook_post(struct webhooks *w, uint64_t id, const char *url, const char *delivery, struct bytes body);

/* The host of an http or https URL without user and password, as libcurl reads it. */
int webhook_host(const char *url, char *host, size_t size, struct err *err);

#endif
