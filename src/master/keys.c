#include "master/keys.h"

#include <stdlib.h>

#include "base/mem.h"

#define BUCKETS 16384u

struct key_table {
    struct list_node buckets[BUCKETS];
    uint32_t bases[BUCKETS]; /* entries whose base has this hash */
};

struct key_table *keys_new(void)
{
    struct key_table *t = mem_alloc(sizeof *t);
    for (size_t i = 0; i < BUCKETS; i++) {
        list_init(&t->buckets[i]);
        t->bases[i] = 0;
    }
    return t;
}

void keys_free(struct key_table *t)
{
    free(t);
}

/* FNV-1a; whoever submits can only slow down the owner's own submissions with it. */
static uint64_t hash_of(struct bytes owner, struct bytes key)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < owner.size; i++)
        hash = (hash ^ (uint8_t)owner.data[i]) * 0x100000001b3u;
    hash = (hash ^ 0xff) * 0x100000001b3u;
    for (size_t i = 0; i < key.size; i++)
        hash = (hash ^ (uint8_t)key.data[i]) * 0x100000001b3u;
    return hash;
}

const struct key_entry *keys_find(const struct key_table *t, struct bytes owner, struct bytes key)
{
    uint64_t hash = hash_of(owner, key);
    const struct list_node *bucket = &t->buckets[hash % BUCKETS];
    list_each(node, bucket)
    {
        const struct key_entry *e = list_entry(node, struct key_entry, bucket);
        if (e->hash == hash && bytes_equal(e->key, key) && bytes_equal(e->owner, owner))
            return e;
    }
    return NULL;
}

void keys_add(struct key_table *t, struct arena *arena, struct list_node *ride, struct bytes owner, struct bytes key,
              size_t base_size, const uint8_t digest[KEY_DIGEST_BYTES], job_id job)
{
    struct key_entry *e = arena_alloc(arena, sizeof *e);
    e->hash = hash_of(owner, key);
    e->base_hash = hash_of(owner, bytes_of(key.data, base_size));
    e->owner = arena_bytes(arena, owner);
    e->key = arena_bytes(arena, key);
    memcpy(e->digest, digest, sizeof e->digest);
    e->job = job;
    list_append(&t->buckets[e->hash % BUCKETS], &e->bucket);
    list_append(ride, &e->ride);
    t->bases[e->base_hash % BUCKETS]++;
}

bool keys_base(const struct key_table *t, struct bytes owner, struct bytes base)
{
    return t->bases[hash_of(owner, base) % BUCKETS] > 0;
}

void keys_remove_all(struct key_table *t, struct list_node *ride)
{
    list_each_safe(node, ride)
    {
        struct key_entry *e = list_entry(node, struct key_entry, ride);
        list_remove(&e->bucket);
        list_remove(&e->ride);
        t->bases[e->base_hash % BUCKETS]--;
    }
}
