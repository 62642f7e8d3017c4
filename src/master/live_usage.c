#include "master/live_usage.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define BUCKETS 4096u

struct entry {
    struct entry *next;
    struct attempt_ref ref;
    struct usage_series series;
    char *said;
};

struct live_usage {
    struct entry *buckets[BUCKETS];
    size_t count;
    struct usage_point decoded[USAGE_POINTS_MAX];
};

/* The attempts of a job share a few buckets: those that its tasks are spread over. */
static size_t bucket_of(struct attempt_ref ref)
{
    return (ref.job.n * 0x9e3779b97f4a7c15u + ref.task * 0xff51afd7ed558ccdu) >> 32 & (BUCKETS - 1);
}

static struct entry **place_of(const struct live_usage *l, struct attempt_ref ref)
{
    struct entry **place = (struct entry **)&l->buckets[bucket_of(ref)];
    while (*place && !attempt_equal((*place)->ref, ref))
        place = &(*place)->next;
    return place;
}

struct live_usage *live_usage_new(void)
{
    return mem_zero(1, sizeof(struct live_usage));
}

void live_usage_free(struct live_usage *l)
{
    for (size_t i = 0; l && i < BUCKETS; i++)
        while (l->buckets[i])
            live_usage_drop(l, l->buckets[i]->ref);
    free(l);
}

size_t live_usage_count(const struct live_usage *l)
{
    return l->count;
}

static struct entry *entry_of(struct live_usage *l, struct attempt_ref ref)
{
    struct entry **place = place_of(l, ref), *e = *place;
    if (!e && l->count < LIVE_USAGE_MAX) {
        e = *place = mem_zero(1, sizeof *e);
        e->ref = ref;
        e->series = USAGE_SERIES_INIT;
        l->count++;
    }
    return e;
}

void live_usage_say(struct live_usage *l, struct attempt_ref ref, struct bytes text)
{
    struct entry *e = text.size ? entry_of(l, ref) : *place_of(l, ref);
    if (!e)
        return;
    free(e->said);
    e->said = NULL;
    if (text.size) {
        e->said = mem_alloc(text.size + 1);
        memcpy(e->said, text.data, text.size);
        e->said[text.size] = '\0';
    }
}

struct bytes live_usage_said(const struct live_usage *l, struct attempt_ref ref)
{
    const struct entry *e = *place_of(l, ref);
    return bytes_str(e ? e->said : NULL);
}

/* A worker that started again knows nothing of what was before: that is kept. One that tells all it has again tells
 * what is known: the series drops it. But a new master knows less than the worker. */
bool live_usage_note(struct live_usage *l, struct attempt_ref ref, struct bytes series)
{
    size_t count;
    if (!usage_decode(series, l->decoded, &count))
        return false;
    struct entry *e = entry_of(l, ref);
    if (!e)
        return true;
    if (count > 1 && (e->series.count == 0 || l->decoded[0].at_ms < e->series.points[0].at_ms))
        usage_series_fini(&e->series);
    for (size_t i = 0; i < count; i++)
        usage_series_add(&e->series, &l->decoded[i]);
    return true;
}

const struct usage_series *live_usage_find(const struct live_usage *l, struct attempt_ref ref)
{
    const struct entry *e = *place_of(l, ref);
    return e && e->series.count ? &e->series : NULL;
}

void live_usage_drop(struct live_usage *l, struct attempt_ref ref)
{
    struct entry **place = place_of(l, ref), *e = *place;
    if (!e)
        return;
    *place = e->next;
    usage_series_fini(&e->series);
    free(e->said);
    free(e);
    l->count--;
}

void live_usage_each(const struct live_usage *l, job_id job,
                     void (*visit)(void *arg, struct attempt_ref ref, const struct usage_series *s), void *arg)
{
    for (size_t i = 0; l->count && i < BUCKETS; i++)
        for (const struct entry *e = l->buckets[i]; e; e = e->next)
            if (e->ref.job.n == job.n && e->series.count)
                visit(arg, e->ref, &e->series);
}
