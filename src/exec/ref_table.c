#include "exec/ref_table.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/mem.h"

static uint32_t bucket_of(const struct ref_table *t, struct attempt_ref ref)
{
    uint64_t h = ref.job.n * 0x9e3779b97f4a7c15u;
    h ^= (h >> 29) + ((uint64_t)ref.task << 17) + ref.attempt;
    h *= 0xbf58476d1ce4e5b9u;
    return (uint32_t)(h >> 32) & (t->cap - 1);
}

void ref_table_init(struct ref_table *t, uint32_t cap)
{
    check(cap && (cap & (cap - 1)) == 0);
    *t = (struct ref_table){ .cap = cap };
    t->refs = mem_zero(cap, sizeof *t->refs);
    t->next = mem_alloc(cap * sizeof *t->next);
    t->buckets = mem_alloc(cap * sizeof *t->buckets);
    for (uint32_t i = 0; i < cap; i++) {
        t->next[i] = i + 1 < cap ? i + 1 : REF_NONE;
        t->buckets[i] = REF_NONE;
    }
}

void ref_table_fini(struct ref_table *t)
{
    free(t->refs);
    free(t->next);
    free(t->buckets);
    *t = (struct ref_table){ 0 };
}

uint32_t ref_table_find(const struct ref_table *t, struct attempt_ref ref)
{
    uint32_t number = t->buckets[bucket_of(t, ref)];
    while (number != REF_NONE && !attempt_equal(t->refs[number], ref))
        number = t->next[number];
    return number;
}

uint32_t ref_table_add(struct ref_table *t, struct attempt_ref ref)
{
    check(ref.job.n != 0 && ref_table_find(t, ref) == REF_NONE);
    uint32_t number = t->free_first;
    if (number == REF_NONE)
        return REF_NONE;
    uint32_t *bucket = &t->buckets[bucket_of(t, ref)];
    t->free_first = t->next[number];
    t->refs[number] = ref;
    t->next[number] = *bucket;
    *bucket = number;
    t->count++;
    return number;
}

void ref_table_remove(struct ref_table *t, uint32_t number)
{
    check(number < t->cap && ref_table_used(t, number));
    uint32_t *place = &t->buckets[bucket_of(t, t->refs[number])];
    while (*place != number)
        place = &t->next[*place];
    *place = t->next[number];
    t->refs[number] = (struct attempt_ref){ 0 };
    t->next[number] = t->free_first;
    t->free_first = number;
    t->count--;
}
