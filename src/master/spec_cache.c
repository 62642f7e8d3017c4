#include "master/spec_cache.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/list.h"
#include "base/mem.h"

struct entry {
    struct entry *next;        /* in its bucket */
    struct list_node use;      /* first: least recently used */
    uint64_t job;
    size_t size;
    char data[];
};

struct spec_cache {
    struct entry **buckets;
    size_t buckets_count;      /* a power of two */
    size_t count, bytes, bytes_max;
    struct list_node uses;
};

struct spec_cache *spec_cache_new(size_t bytes_max)
{
    struct spec_cache *c = mem_zero(1, sizeof *c);
    c->bytes_max = bytes_max;
    c->buckets_count = 1024;
    c->buckets = mem_zero(c->buckets_count, sizeof *c->buckets);
    list_init(&c->uses);
    return c;
}

void spec_cache_free(struct spec_cache *c)
{
    if (!c)
        return;
    list_each_safe(node, &c->uses)
        free(list_entry(node, struct entry, use));
    free(c->buckets);
    free(c);
}

/* Ids are consecutive: the low bits spread them perfectly. */
static struct entry **place_of(struct spec_cache *c, uint64_t job)
{
    struct entry **place = &c->buckets[job & (c->buckets_count - 1)];
    while (*place && (*place)->job != job)
        place = &(*place)->next;
    return place;
}

static void grow(struct spec_cache *c)
{
    struct entry **old = c->buckets;
    size_t old_count = c->buckets_count;
    c->buckets_count *= 2;
    c->buckets = mem_zero(c->buckets_count, sizeof *c->buckets);
    for (size_t i = 0; i < old_count; i++)
        for (struct entry *e = old[i], *next; e; e = next) {
            next = e->next;
            struct entry **place = &c->buckets[e->job & (c->buckets_count - 1)];
            e->next = *place;
            *place = e;
        }
    free(old);
}

static void drop_at(struct spec_cache *c, struct entry **place)
{
    struct entry *e = *place;
    check(e);
    *place = e->next;
    list_remove(&e->use);
    c->bytes -= e->size + SPEC_CACHE_ENTRY_BYTES;
    c->count--;
    free(e);
}

bool spec_cache_find(struct spec_cache *c, job_id job, struct bytes *spec)
{
    struct entry *e = *place_of(c, job.n);
    if (!e)
        return false;
    list_remove(&e->use);
    list_append(&c->uses, &e->use);
    *spec = bytes_of(e->data, e->size);
    return true;
}

struct bytes spec_cache_put(struct spec_cache *c, job_id job, struct bytes spec)
{
    struct entry **place = place_of(c, job.n);
    if (*place)
        drop_at(c, place);
    if (c->count >= c->buckets_count)
        grow(c);
    struct entry *e = mem_alloc(sizeof *e + spec.size);
    e->job = job.n;
    e->size = spec.size;
    if (spec.size)
        memcpy(e->data, spec.data, spec.size);
    place = place_of(c, job.n);
    e->next = NULL;
    *place = e;
    list_append(&c->uses, &e->use);
    c->bytes += e->size + SPEC_CACHE_ENTRY_BYTES;
    c->count++;
    return bytes_of(e->data, e->size);
}

bool spec_cache_offer(struct spec_cache *c, job_id job, struct bytes spec)
{
    if (c->bytes + spec.size + SPEC_CACHE_ENTRY_BYTES > c->bytes_max)
        return false;
    spec_cache_put(c, job, spec);
    return true;
}

void spec_cache_drop(struct spec_cache *c, job_id job)
{
    struct entry **place = place_of(c, job.n);
    if (*place)
        drop_at(c, place);
}

void spec_cache_trim(struct spec_cache *c)
{
    while (c->bytes > c->bytes_max && c->count)
        drop_at(c, place_of(c, list_entry(c->uses.next, struct entry, use)->job));
}

size_t spec_cache_bytes(const struct spec_cache *c)
{
    return c->bytes;
}
