#include "core/sched/sched.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "core/sched/sched_view.h"

#define QUEUES 70 /* more than bits in the mask of a page */

static struct sched *s;
static uint64_t seq;

static void apply(struct record r, int64_t at_wall_ms)
{
    struct err err = { 0 };
    r.seq = ++seq;
    r.at_wall_ms = at_wall_ms;
    if (sched_apply(s, &r, &err) < 0)
        fail_msg("%s: %s", event_name(r.kind), err.text);
}

static void class_of_queue(uint32_t number)
{
    char name[16];
    struct record r = { .kind = EV_CLASS };
    snprintf(name, sizeof name, "q%u", number);
    r.class = (struct ev_class){
        .class = number, .user = bytes_str("u"), .queue = bytes_str(name), .backoff_ms = 1000, .backoff_max_ms = 1000
    };
    r.class.need.v[RES_CPU] = 1000;
    apply(r, 0);
}

static void submit(uint64_t job, uint32_t queue, uint32_t tasks, bool held, int64_t at_wall_ms)
{
    struct record r = { .kind = EV_SUBMITTED };
    r.submitted = (struct ev_submitted){
        .job = job, .class = queue, .name = bytes_str("n"), .tasks = tasks, .step = 1, .held = held
    };
    apply(r, at_wall_ms);
}

static void assign(uint64_t job, uint32_t attempt, int64_t at_wall_ms)
{
    apply((struct record){ .kind = EV_ASSIGNED, .assigned = { job, TASK_SINGLE, attempt, 1, 0 } }, at_wall_ms);
}

static int setup(void **state)
{
    (void)state;
    struct sched_config config;
    sched_config_default(&config);
    s = sched_new(&config);
    seq = 0;
    for (uint32_t q = 0; q < QUEUES; q++)
        class_of_queue(q);
    struct record node = { .kind = EV_NODE_SEEN };
    node.node_seen = (struct ev_node_seen){ .node = 1, .name = bytes_str("n1"), .worker_high = 1, .incarnation = 1 };
    node.node_seen.capacity.v[RES_CPU] = 4000;
    apply(node, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sched_check(s);
    sched_free(s);
    return 0;
}

static struct queue_view looked_at[QUEUES];

static void start_and_look(int64_t wall_ms)
{
    struct effects fx;
    sched_start(s, 1, "t", 1, 0, wall_ms, &fx);
    assert_int_equal(sched_view_queues(s), QUEUES);
    sched_view_queue_counts(s, looked_at);
    sched_check(s);
}

static void counted_by_reason(void **state)
{
    (void)state;
    submit(1, 0, 0, false, 1000);
    submit(2, 0, 5, false, 1000);
    submit(3, 0, 0, true, 1000);
    submit(4, 1, 9, true, 1000);
    start_and_look(10000);
    assert_int_equal(looked_at[0].waiting[WHY_NO_NODES], 6);
    assert_int_equal(looked_at[0].waiting[WHY_HELD], 1);
    assert_int_equal(looked_at[0].tasks[JOB_QUEUED] + looked_at[0].tasks[JOB_HELD], 7);
    assert_int_equal(looked_at[1].waiting[WHY_HELD], 9);
    assert_int_equal(looked_at[1].oldest_wait_ms, 0); /* what is held does not wait for a node */
    assert_int_equal(looked_at[2].waiting[WHY_NO_NODES], 0);
}

/* Queues that share a bit of the mask are told apart. */
static void oldest_of_every_queue(void **state)
{
    (void)state;
    for (uint32_t q = 0; q < QUEUES; q++)
        submit(q + 1, q, 0, false, 1000 + q);
    for (uint64_t job = QUEUES + 1; job < 5000; job++)
        submit(job, (uint32_t)(job % 3), 0, false, 5000);
    start_and_look(10000);
    for (uint32_t q = 0; q < QUEUES; q++)
        assert_int_equal(looked_at[q].oldest_wait_ms, 9000 - q);
}

/* It has waited since it could run, which need not be since it was submitted. */
static void waits_since_it_could_run(void **state)
{
    (void)state;
    submit(1, 0, 0, true, 1000);
    apply((struct record){ .kind = EV_RELEASED, .released = { 1 } }, 6000);
    submit(2, 1, 0, false, 1000);
    assign(2, 1, 2000);
    apply((struct record){ .kind = EV_REVOKED, .revoked = { 2, TASK_SINGLE, 1, 1, REASON_NEVER_STARTED, 0 } }, 7000);
    submit(3, 2, 0, false, 1000);
    assign(3, 1, 2000);
    start_and_look(10000);
    assert_int_equal(looked_at[0].oldest_wait_ms, 4000);
    assert_int_equal(looked_at[1].oldest_wait_ms, 3000);
    assert_int_equal(looked_at[2].oldest_wait_ms, 0);
    assert_int_equal(looked_at[2].tasks[JOB_DISPATCHED], 1);
}

static void totals_are_kept(void **state)
{
    (void)state;
    submit(1, 0, 3, false, 1000);
    submit(2, 0, 0, false, 1000);
    assign(2, 1, 1000);
    struct record end = { .kind = EV_ENDED };
    end.ended = (struct ev_ended){
        .job = 2, .task = TASK_SINGLE, .attempt = 1, .node = 1, .final = JOB_FAILED, .reason = REASON_OOM, .counted = 1
    };
    apply(end, 2000);
    apply((struct record){ .kind = EV_CANCEL, .cancel = { 1, TASK_ALL, 1, bytes_str("u"), bytes_str("") } }, 3000);
    start_and_look(10000);
    struct sched_stats stats;
    sched_view_stats(s, &stats);
    assert_int_equal(stats.ended[JOB_CANCELLED], 3);
    assert_int_equal(stats.ended[JOB_FAILED], 1);
    assert_int_equal(stats.failed_for[REASON_OOM], 1);
    assert_int_equal(looked_at[0].waiting[WHY_NO_NODES], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(counted_by_reason, setup, teardown),
        cmocka_unit_test_setup_teardown(oldest_of_every_queue, setup, teardown),
        cmocka_unit_test_setup_teardown(waits_since_it_could_run, setup, teardown),
        cmocka_unit_test_setup_teardown(totals_are_kept, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
