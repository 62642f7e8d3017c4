#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "master/recent.h"

#define HOUR_MS 3600000LL
#define T0 (500000 * HOUR_MS)

static void submitted(struct recent *r, int64_t at, uint32_t tasks)
{
    struct record e = { .kind = EV_SUBMITTED, .at_wall_ms = at, .submitted = { .job = 1, .tasks = tasks } };
    recent_add(r, &e, 0);
}

static uint64_t started_last;

static void started(struct recent *r, int64_t at, int64_t eligible)
{
    struct record e = { .kind = EV_STARTED,
                        .at_wall_ms = at,
                        .started = { .job = ++started_last + 1000000, .attempt = 2 } };
    recent_add(r, &e, eligible);
}

static void ended(struct recent *r, uint64_t job, int64_t at, enum job_state final, int64_t run_ms)
{
    struct record e = { .kind = EV_ENDED,
                        .at_wall_ms = at,
                        .ended = {
                            .job = job, .attempt = 2, .node = 7, .final = final, .run_ms = run_ms, .exit_code = 3 } };
    recent_add(r, &e, 0);
}

static void counts_by_minute(void **state)
{
    (void)state;
    struct recent *r = recent_new();
    assert_null(recent_minute(r, T0, 0));
    submitted(r, T0, 0);
    submitted(r, T0 + 1, 500);
    started(r, T0 + 60000, 0);
    ended(r, 1, T0 + 90001, JOB_SUCCEEDED, 10);
    ended(r, 2, T0 + 90002, JOB_FAILED, 10);
    ended(r, 2, T0 + 90003, JOB_NONE, 10);
    const struct recent_minute *first = recent_minute(r, T0 + 60000, 1), *second = recent_minute(r, T0 + 60000, 0);
    assert_int_equal(first->submitted, 501);
    assert_int_equal(first->started, 0);
    assert_int_equal(second->started, 4); /* three of them told of their start only when they ended */
    assert_int_equal(second->succeeded, 1);
    assert_int_equal(second->failed, 1);
    assert_int_equal(second->retried, 1);
    assert_int_equal(recent_wait_ms(second, 0.5), -1);
    recent_free(r);
}

static void an_hour_later_it_is_gone(void **state)
{
    (void)state;
    struct recent *r = recent_new();
    submitted(r, T0, 1);
    int64_t later = T0 + RECENT_MINUTES * 60000LL;
    assert_non_null(recent_minute(r, later - 60000, RECENT_MINUTES - 1));
    submitted(r, later, 5); /* the same place */
    assert_null(recent_minute(r, later, RECENT_MINUTES));
    assert_int_equal(recent_minute(r, later, 0)->submitted, 5);
    submitted(r, T0, 1); /* the clock was set back: it does not spoil what is newer */
    assert_int_equal(recent_minute(r, later, 0)->submitted, 5);
    recent_free(r);
}

static void waits_have_percentiles(void **state)
{
    (void)state;
    struct recent *r = recent_new();
    for (int i = 0; i < 98; i++)
        started(r, T0 + 1000, T0);      /* 1 s */
    started(r, T0 + 10000, T0 - 90000); /* 100 s */
    started(r, T0 + 10000, T0 + 20000); /* the clock was set back */
    const struct recent_minute *m = recent_minute(r, T0, 0);
    assert_int_equal(m->waits_count, 100);
    assert_int_equal(recent_wait_ms(m, 0.001), 1);
    assert_in_range(recent_wait_ms(m, 0.5), 1000, 1200);
    assert_in_range(recent_wait_ms(m, 0.99), 1000, 1200);
    assert_in_range(recent_wait_ms(m, 1), 100000, 120000);
    recent_free(r);
}

static void keeps_the_last_attempts(void **state)
{
    (void)state;
    struct recent *r = recent_new();
    assert_null(recent_attempt(r, 0));
    ended(r, 1, T0, JOB_FAILED, 250);
    const struct recent_attempt *a = recent_attempt(r, 0);
    assert_int_equal(a->ref.job.n, 1);
    assert_int_equal(a->ref.attempt, 2);
    assert_int_equal(a->node.n, 7);
    assert_int_equal(a->start_wall_ms, T0 - 250);
    assert_int_equal(a->end_wall_ms, T0);
    assert_int_equal(a->final, JOB_FAILED);
    assert_int_equal(a->exit_code, 3);
    assert_null(recent_attempt(r, 1));
    for (uint64_t i = 2; i <= RECENT_ATTEMPTS_MAX + 5; i++)
        ended(r, i, T0, JOB_SUCCEEDED, 1);
    assert_int_equal(recent_attempt(r, 0)->ref.job.n, RECENT_ATTEMPTS_MAX + 5);
    assert_int_equal(recent_attempt(r, RECENT_ATTEMPTS_MAX - 1)->ref.job.n, 6);
    assert_null(recent_attempt(r, RECENT_ATTEMPTS_MAX));
    recent_free(r);
}

static void a_start_counts_once(void **state)
{
    (void)state;
    struct recent *r = recent_new();
    started(r, T0, T0 - 8000);
    started(r, T0, T0 - 8000);
    ended(r, started_last + 1000000, T0 + 20, JOB_SUCCEEDED, 20);
    assert_int_equal(recent_minute(r, T0, 0)->started, 2);
    struct record revoked = { .kind = EV_REVOKED,
                              .at_wall_ms = T0,
                              .revoked = { .job = started_last + 999999, .attempt = 2 } };
    recent_add(r, &revoked, 0);
    struct record late = { .kind = EV_ENDED,
                           .at_wall_ms = T0 + 5000,
                           .ended = { .job = 5, .attempt = 1, .final = JOB_SUCCEEDED, .run_ms = 1000 } };
    recent_add(r, &late, T0);
    const struct recent_minute *m = recent_minute(r, T0, 0);
    assert_int_equal(m->started, 3);
    assert_int_equal(m->waits_count, 3);
    assert_in_range(recent_wait_ms(m, 0.3), 4000, 4800); /* it started a second before its end */
    struct record lost = { .kind = EV_ENDED,
                           .at_wall_ms = T0,
                           .ended = { .job = 6, .attempt = 1, .reason = REASON_NODE_LOST } };
    recent_add(r, &lost, T0);
    assert_int_equal(m->started, 3);
    recent_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_by_minute),         cmocka_unit_test(a_start_counts_once),
        cmocka_unit_test(an_hour_later_it_is_gone), cmocka_unit_test(waits_have_percentiles),
        cmocka_unit_test(keeps_the_last_attempts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
