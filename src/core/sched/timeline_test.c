/* timeline_test.c: the list of steps against a table with one row for each millisecond. */
#include "core/sched/timeline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
// cmocka.h wants the headers above.
#include <cmocka.h>

#include "base/prng.h"

#define SPAN 60

static const struct resources capacity = { .v = { 10, 5, 0, 3 } };

struct taken {
    int64_t from_ms, until_ms;
    struct resources need;
    bool there;
};

static struct resources draw_need(struct prng *p)
{
    return (struct resources){ .v = { prng_below(p, 8), prng_below(p, 4), 0, prng_below(p, 2) } };
}

static void add_all(struct resources table[SPAN], const struct taken *all, size_t count)
{
    for (int ms = 0; ms < SPAN; ms++) {
        table[ms] = (struct resources){ 0 };
        for (size_t i = 0; i < count; i++)
            if (all[i].there && ms >= all[i].from_ms && ms < all[i].until_ms)
                resources_add(&table[ms], &all[i].need);
    }
}

static bool fits_at(const struct resources table[SPAN], const struct resources *need, int64_t at_ms, int64_t duration_ms)
{
    for (int64_t ms = at_ms; ms < at_ms + duration_ms; ms++)
        for (int d = 0; d < RES_DIMS; d++)
            if (need->v[d] && table[ms < SPAN ? ms : SPAN - 1].v[d] + need->v[d] > capacity.v[d])
                return false;
    return true;
}

static int64_t first_of_table(const struct resources table[SPAN], const struct resources *need, int64_t from_ms, int64_t duration_ms,
                              int64_t limit_ms)
{
    for (int64_t ms = from_ms; ms < limit_ms && ms < 2 * SPAN; ms++)
        if (fits_at(table, need, ms, duration_ms))
            return ms;
    return TIMELINE_NEVER;
}

static void test_random(void **state)
{
    (void)state;
    struct prng p;
    prng_seed(&p, 7);
    for (int round = 0; round < 400; round++) {
        struct taken all[40] = { 0 };
        struct timeline t = { 0 };
        size_t count = 0;
        int64_t now_ms = 0;
        timeline_begin(&t, 0, &(struct resources){ 0 });
        for (int step = 0; step < 60; step++) {
            struct resources table[SPAN], need = draw_need(&p);
            add_all(table, all, count);
            int64_t duration_ms = 1 + (int64_t)prng_below(&p, 12), from_ms = now_ms + (int64_t)prng_below(&p, 20);
            int64_t limit_ms = prng_below(&p, 2) ? TIMELINE_NEVER : from_ms + (int64_t)prng_below(&p, 20);
            uint64_t work = 0;
            int64_t at_ms = timeline_first(&t, &capacity, &need, from_ms, duration_ms, limit_ms, &work);
            assert_int_equal(at_ms, first_of_table(table, &need, from_ms, duration_ms, limit_ms));
            assert_true(work <= t.count);
            if (at_ms < SPAN - duration_ms && count < 40) {
                bool endless = prng_below(&p, 20) == 0 && fits_at(table, &need, at_ms, SPAN);
                all[count] = (struct taken){ at_ms, endless ? TIMELINE_NEVER : at_ms + duration_ms, need, true };
                timeline_take(&t, all[count].from_ms, all[count].until_ms, &need);
                count++;
            }
            size_t which = prng_below(&p, 40);
            if (prng_below(&p, 3) == 0 && all[which].there) {
                timeline_give(&t, all[which].from_ms, all[which].until_ms, &all[which].need);
                all[which].there = false;
            }
            if (prng_below(&p, 5) == 0)
                timeline_trim(&t, now_ms += (int64_t)prng_below(&p, 4));
            for (size_t i = 1; i < t.count; i++) {
                assert_true(t.steps[i - 1].from_ms < t.steps[i].from_ms);
                assert_false(resources_equal(&t.steps[i - 1].taken, &t.steps[i].taken));
            }
        }
        timeline_fini(&t);
    }
}

static void test_what_is_not_asked_for_never_refuses(void **state)
{
    (void)state;
    struct timeline t = { 0 };
    uint64_t work = 0;
    timeline_begin(&t, 100, &(struct resources){ .v = { 12, 0, 4 } }); /* More is taken than there is: the node shrank. */
    assert_int_equal(timeline_first(&t, &capacity, &(struct resources){ .v = { 0, 5 } }, 0, 10, TIMELINE_NEVER, &work), 100);
    assert_int_equal(timeline_first(&t, &capacity, &(struct resources){ .v = { 1 } }, 0, 10, TIMELINE_NEVER, &work), TIMELINE_NEVER);
    timeline_give(&t, 200, TIMELINE_NEVER, &(struct resources){ .v = { 3 } });
    assert_int_equal(timeline_first(&t, &capacity, &(struct resources){ .v = { 1 } }, 0, 10, TIMELINE_NEVER, &work), 200);
    timeline_end(&t, 200, &(struct resources){ .v = { 2 } });
    timeline_end(&t, 300, &(struct resources){ .v = { 7 } });
    assert_int_equal(t.count, 3);
    assert_int_equal(timeline_first(&t, &capacity, &(struct resources){ .v = { 10 } }, 0, 10, TIMELINE_NEVER, &work), 300);
    timeline_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_what_is_not_asked_for_never_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
