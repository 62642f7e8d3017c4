#include "core/sched/timeline.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"

void timeline_fini(struct timeline *t)
{
    free(t->steps);
    *t = (struct timeline){ 0 };
}

void timeline_begin(struct timeline *t, int64_t now_ms, const struct resources *taken)
{
    t->steps = mem_grow(t->steps, &t->cap, 1, sizeof *t->steps);
    t->steps[0] = (struct timeline_step){ now_ms, *taken };
    t->count = 1;
}

/* The step in which the time lies; the first one for what is before it. */
static size_t step_at(const struct timeline *t, int64_t at_ms)
{
    size_t low = 0, high = t->count; /* steps[low].from_ms <= at_ms, or low is 0 */
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (t->steps[middle].from_ms <= at_ms)
            low = middle;
        else
            high = middle;
    }
    return low;
}

void timeline_trim(struct timeline *t, int64_t now_ms)
{
    check(t->count);
    size_t first = step_at(t, now_ms);
    if (first) {
        memmove(t->steps, t->steps + first, (t->count - first) * sizeof *t->steps);
        t->count -= first;
    }
    if (t->steps[0].from_ms < now_ms)
        t->steps[0].from_ms = now_ms;
}

/* A step begins at the time; which one. t->count: the time never comes. */
static size_t split(struct timeline *t, int64_t at_ms)
{
    if (at_ms == TIMELINE_NEVER)
        return t->count;
    if (at_ms <= t->steps[0].from_ms)
        return 0;
    size_t i = step_at(t, at_ms);
    if (t->steps[i].from_ms == at_ms)
        return i;
    t->steps = mem_grow(t->steps, &t->cap, t->count + 1, sizeof *t->steps);
    memmove(t->steps + i + 2, t->steps + i + 1, (t->count - i - 1) * sizeof *t->steps);
    t->steps[i + 1] = (struct timeline_step){ at_ms, t->steps[i].taken };
    t->count++;
    return i + 1;
}

/* Two neighbours that are equal become one. */
static void join(struct timeline *t, size_t i)
{
    if (i == 0 || i >= t->count || !resources_equal(&t->steps[i - 1].taken, &t->steps[i].taken))
        return;
    memmove(t->steps + i, t->steps + i + 1, (t->count - i - 1) * sizeof *t->steps);
    t->count--;
}

static void change(struct timeline *t, int64_t from_ms, int64_t until_ms, const struct resources *by, bool take)
{
    check(t->count);
    if (until_ms <= t->steps[0].from_ms || from_ms >= until_ms)
        return;
    size_t first = split(t, from_ms), end = split(t, until_ms);
    for (size_t i = first; i < end; i++) {
        if (take)
            resources_add(&t->steps[i].taken, by);
        else
            resources_sub(&t->steps[i].taken, by);
    }
    join(t, end);
    join(t, first);
}

void timeline_take(struct timeline *t, int64_t from_ms, int64_t until_ms, const struct resources *more)
{
    change(t, from_ms, until_ms, more, true);
}

void timeline_give(struct timeline *t, int64_t from_ms, int64_t until_ms, const struct resources *less)
{
    change(t, from_ms, until_ms, less, false);
}

void timeline_end(struct timeline *t, int64_t at_ms, const struct resources *less)
{
    check(t->count && at_ms >= t->steps[t->count - 1].from_ms);
    if (at_ms > t->steps[t->count - 1].from_ms) {
        t->steps = mem_grow(t->steps, &t->cap, t->count + 1, sizeof *t->steps);
        t->steps[t->count] = (struct timeline_step){ at_ms, t->steps[t->count - 1].taken };
        t->count++;
    }
    resources_sub(&t->steps[t->count - 1].taken, less);
}

static bool fits(const struct resources *need, const struct resources *taken, const struct resources *capacity)
{
    for (int d = 0; d < RES_DIMS; d++)
        if (need->v[d] && taken->v[d] + need->v[d] > capacity->v[d])
            return false;
    return true;
}

int64_t timeline_first(const struct timeline *t, const struct resources *capacity, const struct resources *need, int64_t from_ms,
                       int64_t duration_ms, int64_t limit_ms, uint64_t *work)
{
    check(t->count);
    int64_t start_ms = from_ms > t->steps[0].from_ms ? from_ms : t->steps[0].from_ms;
    for (size_t i = step_at(t, start_ms); start_ms < limit_ms; i++) {
        ++*work;
        bool last = i + 1 == t->count;
        if (!fits(need, &t->steps[i].taken, capacity)) {
            if (last)
                break;
            start_ms = t->steps[i + 1].from_ms;
        } else if (last || t->steps[i + 1].from_ms - start_ms >= duration_ms) {
            return start_ms;
        }
    }
    return TIMELINE_NEVER;
}
