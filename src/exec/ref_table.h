/* ref_table.h: numbers for attempts: a fixed table that gives each attempt it holds a small number and finds it again.
 * The owner keeps what it knows of an attempt in arrays of its own, at that number. Nothing is allocated after init. */
#ifndef ROTA_EXEC_REF_TABLE_H
#define ROTA_EXEC_REF_TABLE_H

#include "core/model/ids.h"

#define REF_NONE UINT32_MAX

struct ref_table {
    struct attempt_ref *refs; /* job 0: the number is free */
    uint32_t *next;           /* in its bucket, or in the list of free numbers */
    uint32_t *buckets;
    uint32_t free_first;
    uint32_t cap, count;
};

void ref_table_init(struct ref_table *t, uint32_t cap); /* cap: a power of two */
void ref_table_fini(struct ref_table *t);
uint32_t ref_table_find(const struct ref_table *t, struct attempt_ref ref); /* REF_NONE: not held */
uint32_t ref_table_add(struct ref_table *t, struct attempt_ref ref);        /* not held yet; REF_NONE: full */
void ref_table_remove(struct ref_table *t, uint32_t number);
static inline bool ref_table_used(const struct ref_table *t, uint32_t number)
{
    return t->refs[number].job.n != 0;
}

#endif
