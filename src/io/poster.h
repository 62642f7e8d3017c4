/* poster.h: POST requests of a daemon, on a thread of their own with libcurl, so that the loop never waits for whom it asks. No
 * redirect is followed, no proxy of the environment used; a server's certificate is verified. */
#ifndef ROTA_IO_POSTER_H
#define ROTA_IO_POSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

#define POSTS_MAX 16u /* under way at the same time */

struct loop;
struct poster;
/* on_done comes on the loop's thread: status of the answer, or 0 and why there was none. */
struct poster *poster_new(struct loop *loop, void (*on_done)(void *arg, uint64_t id, long status, const char *why), void *arg);
/* Gives up what is under way; no on_done in it or after it. NULL is fine. */
void poster_free(struct poster *w);
/* Copies all. The body is JSON; headers, "Name: value", end with NULL; NULL: no more than usual. False: POSTS_MAX are under way. */
bool poster_post(struct poster *w, uint64_t id, const char *url, const char *const *headers, struct bytes body, int64_t takes_ms_max);

#endif
