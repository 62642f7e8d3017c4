/* keys.h: idempotency keys of submissions that are decided but not durable yet. The store knows the durable ones. */
#ifndef ROTA_MASTER_KEYS_H
#define ROTA_MASTER_KEYS_H

#include "base/arena.h"
#include "base/list.h"
#include "core/model/ids.h"

/* Of the job as it was understood, and of the text as it came: a repeat is the same job if one of the two is the same.
 * (The first forgives other spelling, the second times such as now+2h, which mean something else when they are sent
 * again.) It tells a repeat from a mistake; who looks for two jobs with one digest can only mislead himself. */
#define KEY_DIGEST_BYTES 32

struct key_entry {
    struct list_node bucket;
    struct list_node ride; /* with the others of its batch */
    uint64_t hash, base_hash;
    struct bytes owner, key;
    uint8_t digest[KEY_DIGEST_BYTES];
    job_id job;
};

struct key_table;
struct key_table *keys_new(void);
void keys_free(struct key_table *t);
const struct key_entry *keys_find(const struct key_table *t, struct bytes owner, struct bytes key);
/* Everything is copied into the arena, which lives until the entry is removed. The first base_size bytes of the key are
 * shared by the jobs of one request. */
void keys_add(struct key_table *t, struct arena *arena, struct list_node *ride, struct bytes owner, struct bytes key,
              size_t base_size, const uint8_t digest[KEY_DIGEST_BYTES], job_id job);
/* False: no key in the table has this base. (True may be wrong.) */
bool keys_base(const struct key_table *t, struct bytes owner, struct bytes base);
void keys_remove_all(struct key_table *t, struct list_node *ride); /* the batch is durable */

#endif
