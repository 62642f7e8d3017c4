/* spec_cache.h: encoded specs of recent jobs, so that dispatching one does not read the store.
 *
 * Bounded in bytes. Specs enter at submission while there is room (the jobs that wait longest are dispatched first, so
 * pushing them out for younger ones would be of no use) and when they were read for a dispatch (then the least recently
 * used make way). Pieces given out stay valid until spec_cache_trim or spec_cache_drop. */
#ifndef ROTA_MASTER_SPEC_CACHE_H
#define ROTA_MASTER_SPEC_CACHE_H

#include <stdbool.h>

#include "base/buf.h"
#include "core/model/ids.h"

#define SPEC_CACHE_BYTES (16u * 1024 * 1024)
#define SPEC_CACHE_ENTRY_BYTES 96u /* what an entry costs beside its bytes */

struct spec_cache;
struct spec_cache *spec_cache_new(size_t bytes_max);
void spec_cache_free(struct spec_cache *c);
bool spec_cache_find(struct spec_cache *c, job_id job, struct bytes *spec);      /* becomes the most recently used */
bool spec_cache_offer(struct spec_cache *c, job_id job, struct bytes spec);      /* copies; false: no room */
struct bytes spec_cache_put(struct spec_cache *c, job_id job,
                            struct bytes spec); /* copies; may exceed the bound until trim */
void spec_cache_drop(struct spec_cache *c, job_id job);
void spec_cache_trim(struct spec_cache *c);                                      /* back below the bound */
size_t spec_cache_bytes(const struct spec_cache *c);

#endif
