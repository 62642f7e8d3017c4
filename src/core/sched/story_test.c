/* story_test.c: stories of the master's brain: a script of events in, what it records and says out, compared line by line.
 * Builders make each event one line. */
#include "core/sched/sched.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// cmocka.h wants the headers above.
#include <cmocka.h>

#include "base/mac.h"
#include "base/mem.h"
#include "core/sched/sched_view.h"

struct story {
    struct sched *s;
    struct sched_config config;
    struct buf told, journal;
    int64_t now_ms;
    struct sched_result result;
    int64_t wake_at_ms;
    uint64_t seq;
    struct mac *mac;
};

static void tell(struct story *t, const struct effects *fx)
{
    for (size_t i = 0; i < fx->records_count; i++) {
        struct record r = fx->records[i];
        r.seq = ++t->seq;
        record_encode(&t->journal, &r);
        if (r.kind == EV_CLASS || r.kind == EV_EPOCH)
            continue;
        record_print(&t->told, &r);
        buf_char(&t->told, '\n');
    }
    for (size_t i = 0; i < fx->sends_count; i++) {
        const struct message *m = &fx->sends[i].message;
        buf_printf(&t->told, "-> %s", message_name(m->kind));
        if (m->kind == MSG_START)
            buf_printf(&t->told, " %" PRIu64 "/%d/%u", m->start.ref.job.n, (int)m->start.ref.task, m->start.ref.attempt);
        if (m->kind == MSG_KILL)
            buf_printf(&t->told, " %" PRIu64 "/%d/%u", m->kill.ref.job.n, (int)m->kill.ref.task, m->kill.ref.attempt);
        buf_char(&t->told, '\n');
    }
    t->wake_at_ms = fx->wake_at_ms;
    sched_check(t->s);
}

static void step(struct story *t, struct sched_event ev)
{
    struct effects fx;
    ev.now_ms = t->now_ms;
    ev.wall_ms = 1000000 + t->now_ms;
    sched_step(t->s, &ev, &fx, &t->result);
    tell(t, &fx);
}

static void tick(struct story *t, int64_t ms)
{
    t->now_ms += ms;
    step(t, (struct sched_event){ .kind = SCHED_TICK });
}

static void begin(struct story *t)
{
    struct effects fx;
    *t = (struct story){ .now_ms = 1000 };
    sched_config_default(&t->config);
    t->s = sched_new(&t->config);
    t->mac = mac_new(t->config.token_key);
    sched_start(t->s, 1, "test", 1, t->now_ms, 1000000 + t->now_ms, &fx);
    tell(t, &fx);
}

static struct sched *replayed(struct story *t)
{
    struct sched *s = sched_new(&t->config);
    const uint8_t *at = (const uint8_t *)t->journal.data, *end = at + t->journal.size;
    while (at < end) {
        struct record r;
        struct err err = { 0 };
        assert_int_equal(record_decode(&at, end, &r, &err), 0);
        if (sched_apply(s, &r, &err) < 0)
            fail_msg("replay: %s", err.text);
    }
    return s;
}

static void end(struct story *t)
{
    struct sched *again = replayed(t);
    assert_true(sched_view_hash(again) == sched_view_hash(t->s));
    sched_check(again);
    sched_free(again);
    sched_free(t->s);
    mac_free(t->mac);
    buf_fini(&t->told);
    buf_fini(&t->journal);
}

static void told(struct story *t, const char *expected)
{
    assert_string_equal(t->told.size ? t->told.data : "", expected);
    buf_clear(&t->told);
}

static struct mac128 token(struct story *t, struct attempt_ref ref)
{
    uint64_t n[3] = { ref.job.n, ref.task, ref.attempt };
    return mac_numbers(t->mac, n, 3);
}

static void hear(struct story *t, uint64_t session, struct message m)
{
    struct sched_event ev = { .kind = SCHED_MESSAGE };
    ev.message.session = session;
    ev.message.message = &m;
    step(t, ev);
}

static void join(struct story *t, uint64_t session, const char *name, uint64_t cpus)
{
    struct message m = { .kind = MSG_HELLO };
    m.hello.worker = (struct worker_id){ 1, (uint64_t)(unsigned char)name[0] };
    m.hello.incarnation = session;
    m.hello.name = bytes_str(name);
    m.hello.boot = bytes_str("boot");
    m.hello.version = bytes_str("1");
    m.hello.capacity.v[RES_CPU] = cpus * 1000;
    m.hello.capacity.v[RES_MEM] = 8ull << 30;
    m.hello.window = 1000;
    m.hello.nonce = session;
    hear(t, session, m);
}

#define REQUEST(...)                                                                                                   \
    (struct job_request)                                                                                               \
    {                                                                                                                  \
        .user = bytes_str("ada"), .queue = bytes_str("default"), .name = bytes_str("x"),                              \
        .need.v[RES_CPU] = 1000, __VA_ARGS__                                                                           \
    }

static uint64_t submit(struct story *t, struct job_request q)
{
    step(t, (struct sched_event){ .kind = SCHED_SUBMIT, .submit = q });
    return t->result.job.n;
}

static void finish(struct story *t, uint64_t session, struct attempt_ref ref, enum reason reason, uint32_t code)
{
    struct message m = { .kind = MSG_FINISHED };
    m.finished.ref = ref;
    m.finished.token = token(t, ref);
    m.finished.result.reason = reason;
    m.finished.result.exit_code = code;
    hear(t, session, m);
}

static void start(struct story *t, uint64_t session, struct attempt_ref ref)
{
    struct message m = { .kind = MSG_STARTED };
    m.started.ref = ref;
    m.started.token = token(t, ref);
    hear(t, session, m);
}

static struct attempt_ref single(uint64_t job, uint32_t attempt)
{
    return (struct attempt_ref){ { job }, TASK_SINGLE, attempt };
}

static enum job_state state_of(struct story *t, uint64_t job)
{
    struct job_view v;
    assert_true(sched_view_job(t->s, (job_id){ job }, &v));
    return v.state;
}

/* --- stories --- */

static void a_job_runs(void **state)
{
    (void)state;
    struct story t;
    begin(&t);
    join(&t, 1, "a", 2);
    told(&t, "node.seen node=1 name=\"a\" worker_high=1 worker_low=97 incarnation=1 boot=\"boot\" capacity=2000/8589934592/0 "
             "version=\"1\"\nnode.state node=1 state=1\nnode.state node=1 state=2\n-> WELCOME\n");
    assert_int_equal(submit(&t, REQUEST(.priority = 3)), 1);
    told(&t, "job.submitted job=1 name=\"x\" priority=3\n");
    tick(&t, 0);
    told(&t, "job.dispatched job=1 task=- attempt=1 node=1\n-> START 1/-1/1\n");
    start(&t, 1, single(1, 1));
    told(&t, "job.started job=1 task=- attempt=1 node=1\n");
    assert_int_equal(state_of(&t, 1), JOB_RUNNING);
    finish(&t, 1, single(1, 1), REASON_NONE, 0);
    told(&t, "job.ended job=1 task=- attempt=1 node=1 final=9\n-> REPORT_ACK\n");
    /* The same report again changes nothing and is answered again. */
    finish(&t, 1, single(1, 1), REASON_NONE, 0);
    told(&t, "-> REPORT_ACK\n");
    end(&t);
}

static void only_the_right_reporter_counts(void **state)
{
    (void)state;
    struct story t;
    begin(&t);
    join(&t, 1, "a", 2);
    join(&t, 2, "b", 2);
    submit(&t, REQUEST());
    tick(&t, 0);
    buf_clear(&t.told);
    struct message m = { .kind = MSG_FINISHED };
    m.finished.ref = single(1, 1);
    hear(&t, 1, m); /* no token */
    told(&t, "");
    m.finished.token = token(&t, single(1, 1));
    hear(&t, 2, m); /* another node */
    told(&t, "");
    m.finished.ref.attempt = 2;
    m.finished.token = token(&t, single(1, 2));
    hear(&t, 1, m); /* an attempt that was never made: answered so that the worker forgets it, nothing changes */
    told(&t, "-> REPORT_ACK\n");
    assert_int_equal(state_of(&t, 1), JOB_DISPATCHED);
    end(&t);
}

static void failures_are_retried_as_asked(void **state)
{
    (void)state;
    struct story t;
    begin(&t);
    join(&t, 1, "a", 2);
    submit(&t, REQUEST(.retries = 1, .backoff_ms = 1000, .backoff_max_ms = 1000));
    tick(&t, 0);
    finish(&t, 1, single(1, 1), REASON_EXIT, 5);
    assert_int_equal(state_of(&t, 1), JOB_RETRY_WAIT);
    tick(&t, 1000);
    tick(&t, 0);
    assert_int_equal(state_of(&t, 1), JOB_DISPATCHED);
    /* What the infrastructure did does not count. */
    finish(&t, 1, single(1, 2), REASON_INFRA, 0);
    assert_int_equal(state_of(&t, 1), JOB_RETRY_WAIT);
    tick(&t, 10000);
    tick(&t, 0);
    finish(&t, 1, single(1, 3), REASON_EXIT, 6);
    assert_int_equal(state_of(&t, 1), JOB_FAILED);
    struct job_view v;
    sched_view_job(t.s, (job_id){ 1 }, &v);
    assert_int_equal(v.exit_code, 6);
    assert_int_equal(v.attempts, 3);
    /* A command that does not exist is not tried again. */
    submit(&t, REQUEST(.retries = 5));
    tick(&t, 0);
    finish(&t, 1, single(2, 1), REASON_SPAWN, 0);
    assert_int_equal(state_of(&t, 2), JOB_FAILED);
    end(&t);
}

static void an_array_keeps_its_limit(void **state)
{
    (void)state;
    struct story t;
    begin(&t);
    join(&t, 1, "a", 8);
    submit(&t, REQUEST(.tasks = 5, .first = 1, .step = 1, .limit = 2));
    tick(&t, 0);
    struct job_view v;
    sched_view_job(t.s, (job_id){ 1 }, &v);
    assert_int_equal(v.counts[JOB_DISPATCHED], 2);
    assert_int_equal(v.counts[JOB_QUEUED], 3);
    struct why_report why;
    assert_true(sched_view_why(t.s, (job_id){ 1 }, 4, &why));
    assert_int_equal(why.primary, WHY_ARRAY_LIMIT);
    for (uint32_t p = 0; p < 5; p++) {
        finish(&t, 1, (struct attempt_ref){ { 1 }, p, 1 }, p == 3 ? REASON_EXIT : REASON_NONE, p == 3);
        tick(&t, 0);
    }
    sched_view_job(t.s, (job_id){ 1 }, &v);
    assert_int_equal(v.state, JOB_FAILED);
    assert_int_equal(v.counts[JOB_SUCCEEDED], 4);
    assert_int_equal(v.counts[JOB_FAILED], 1);
    end(&t);
}

static void dependencies_open_and_close(void **state)
{
    (void)state;
    struct story t;
    begin(&t);
    join(&t, 1, "a", 8);
    submit(&t, REQUEST());
    submit(&t, REQUEST(.after = &(struct after){ { 1 }, AFTER_OK }, .after_count = 1));
    submit(&t, REQUEST(.after = &(struct after){ { 1 }, AFTER_FAIL }, .after_count = 1));
    submit(&t, REQUEST(.after = &(struct after){ { 3 }, AFTER_ANY }, .after_count = 1));
    assert_int_equal(state_of(&t, 2), JOB_BLOCKED);
    tick(&t, 0);
    finish(&t, 1, single(1, 1), REASON_NONE, 0);
    assert_int_equal(state_of(&t, 2), JOB_QUEUED);
    assert_int_equal(state_of(&t, 3), JOB_FAILED);
    assert_int_equal(state_of(&t, 4), JOB_QUEUED);
    /* On a job that has ended already: the verdict is known at once. */
    submit(&t, REQUEST(.after = &(struct after){ { 1 }, AFTER_OK }, .after_count = 1));
    assert_int_equal(state_of(&t, 5), JOB_QUEUED);
    submit(&t, REQUEST(.after = &(struct after){ { 1 }, AFTER_FAIL }, .after_count = 1));
    assert_int_equal(state_of(&t, 6), JOB_FAILED);
    submit(&t, REQUEST(.after = &(struct after){ { 99 }, AFTER_OK }, .after_count = 1));
    assert_int_equal(t.result.err.code, ERR_NOT_FOUND);
    assert_string_equal(t.result.err.field, "after");
    end(&t);
}

static void a_cancel_is_final(void **state)
{
    (void)state;
    struct story t;
    begin(&t);
    join(&t, 1, "a", 1);
    submit(&t, REQUEST(.retries = 3));
    submit(&t, REQUEST());
    tick(&t, 0);
    start(&t, 1, single(1, 1));
    buf_clear(&t.told);
    step(&t, (struct sched_event){ .kind = SCHED_CANCEL, .cancel = { { 1 }, TASK_ALL, bytes_str("ada"), bytes_str("") } });
    told(&t, "job.cancel job=1 task=- actor=\"ada\"\n-> KILL 1/-1/1\n");
    assert_int_equal(state_of(&t, 1), JOB_CANCELLING);
    step(&t, (struct sched_event){ .kind = SCHED_CANCEL, .cancel = { { 1 }, TASK_ALL, bytes_str("ada"), bytes_str("") } });
    assert_false(t.result.changed);
    finish(&t, 1, single(1, 1), REASON_CANCELLED, 0);
    assert_int_equal(state_of(&t, 1), JOB_CANCELLED);
    step(&t, (struct sched_event){ .kind = SCHED_CANCEL, .cancel = { { 2 }, TASK_ALL, bytes_str("ada"), bytes_str("") } });
    assert_int_equal(state_of(&t, 2), JOB_CANCELLED);
    tick(&t, 100000);
    assert_int_equal(state_of(&t, 1), JOB_CANCELLED);
    end(&t);
}

static void a_silent_node_is_waited_for_then_left(void **state)
{
    (void)state;
    struct story t;
    begin(&t);
    join(&t, 1, "a", 1);
    submit(&t, REQUEST());
    tick(&t, 0);
    start(&t, 1, single(1, 1));
    for (int i = 0; i < 130; i++)
        tick(&t, 1000);
    assert_int_equal(state_of(&t, 1), JOB_UNCERTAIN);
    struct why_report why;
    sched_view_why(t.s, (job_id){ 1 }, TASK_SINGLE, &why);
    assert_int_equal(why.primary, WHY_CONTACT);
    for (int i = 0; i < 300; i++)
        tick(&t, 1000);
    assert_int_equal(state_of(&t, 1), JOB_QUEUED);
    /* The node comes back with the old attempt: it is told to end it, its report is history. */
    join(&t, 2, "a", 1);
    buf_clear(&t.told);
    finish(&t, 2, single(1, 1), REASON_NONE, 0);
    told(&t, "job.superseded job=1 task=- attempt=1 node=1\n-> REPORT_ACK\n");
    tick(&t, 0);
    finish(&t, 2, single(1, 2), REASON_NONE, 0);
    assert_int_equal(state_of(&t, 1), JOB_SUCCEEDED);
    end(&t);
}

static void priority_goes_first_and_nobody_starves(void **state)
{
    (void)state;
    struct story t;
    begin(&t);
    join(&t, 1, "a", 2);
    submit(&t, REQUEST());
    submit(&t, REQUEST());
    tick(&t, 0); /* the node is full */
    submit(&t, REQUEST(.need.v[RES_CPU] = 2000));
    submit(&t, REQUEST(.priority = -1));
    submit(&t, REQUEST(.priority = 5));
    finish(&t, 1, single(1, 1), REASON_NONE, 0);
    tick(&t, 0);
    assert_int_equal(state_of(&t, 5), JOB_DISPATCHED);
    finish(&t, 1, single(2, 1), REASON_NONE, 0);
    tick(&t, 0); /* 3 does not fit, 4 may pass it */
    assert_int_equal(state_of(&t, 4), JOB_DISPATCHED);
    for (int i = 0; i < 601; i++) {
        struct message beat = { .kind = MSG_HEARTBEAT };
        beat.heartbeat.seq = (uint64_t)i + 1;
        hear(&t, 1, beat);
        tick(&t, 1000);
    }
    submit(&t, REQUEST());
    finish(&t, 1, single(4, 1), REASON_NONE, 0);
    tick(&t, 0);
    assert_int_equal(state_of(&t, 6), JOB_QUEUED); /* 3 was passed over for too long */
    finish(&t, 1, single(5, 1), REASON_NONE, 0);
    tick(&t, 0);
    assert_int_equal(state_of(&t, 3), JOB_DISPATCHED);
    end(&t);
}

static void why_names_dimension_and_numbers(void **state)
{
    (void)state;
    struct story t;
    begin(&t);
    struct why_report why;
    submit(&t, REQUEST(.need.v[RES_CPU] = 1000000));
    tick(&t, 0);
    assert_true(sched_view_why(t.s, (job_id){ 1 }, TASK_SINGLE, &why));
    assert_int_equal(why.primary, WHY_NO_NODES);
    join(&t, 1, "a", 2);
    tick(&t, 0);
    assert_true(sched_view_why(t.s, (job_id){ 1 }, TASK_SINGLE, &why));
    assert_int_equal(why.primary, WHY_TOO_BIG);
    assert_int_equal(why.dims_count, 1);
    assert_string_equal(why.dims[0].name, "cpus");
    assert_int_equal(why.dims[0].need, 1000000);
    assert_int_equal(why.dims[0].capacity_most, 2000);
    end(&t);
}

static void bad_requests_are_refused_by_field(void **state)
{
    (void)state;
    struct story t;
    begin(&t);
    submit(&t, REQUEST(.tasks = 1000000000));
    assert_string_equal(t.result.err.field, "array");
    assert_true(t.result.err.remedy[0]);
    submit(&t, REQUEST(.priority = 2000000));
    assert_string_equal(t.result.err.field, "priority");
    submit(&t, REQUEST(.retries = 5000));
    assert_string_equal(t.result.err.field, "retries");
    step(&t, (struct sched_event){ .kind = SCHED_CANCEL, .cancel = { { 7 }, TASK_ALL, { 0 }, { 0 } } });
    assert_int_equal(t.result.err.code, ERR_NOT_FOUND);
    told(&t, "");
    t.config.jobs_max = 1;
    sched_free(t.s);
    t.s = sched_new(&t.config);
    struct effects fx;
    sched_start(t.s, 1, "test", 1, t.now_ms, 0, &fx);
    buf_clear(&t.journal);
    t.seq = 0;
    tell(&t, &fx);
    submit(&t, REQUEST());
    submit(&t, REQUEST());
    assert_int_equal(t.result.err.code, ERR_FULL);
    end(&t);
}

static void short_work_is_sent_ahead(void **state)
{
    (void)state;
    struct story t;
    begin(&t);
    join(&t, 1, "a", 1);
    for (int i = 0; i < 50; i++)
        submit(&t, REQUEST());
    tick(&t, 0);
    assert_int_equal(state_of(&t, 2), JOB_QUEUED); /* nothing is known of the job's length yet */
    finish(&t, 1, single(1, 1), REASON_NONE, 0);
    tick(&t, 0);
    struct node_view n;
    sched_view_node(t.s, (node_id){ 1 }, &n);
    assert_int_equal(n.running, 1);
    assert_true(n.waiting > 10);
    assert_int_equal(n.allocated.v[RES_CPU], 1000); /* never more than there is */
    end(&t);
}

static void job_table_is_total(void **state)
{
    (void)state;
    for (int from = JOB_NONE; from < JOB_STATES; from++) {
        bool any = false;
        for (int to = JOB_NONE; to < JOB_STATES; to++)
            any |= job_state_may((enum job_state)from, (enum job_state)to);
        assert_int_equal(any, !job_state_terminal((enum job_state)from)); /* an end is an end */
        assert_false(job_state_may((enum job_state)from, JOB_NONE));
    }
    assert_int_equal(job_state_parse("running"), JOB_RUNNING);
    assert_int_equal(job_state_parse("nonsense"), JOB_STATES);
}

static void records_survive_their_bytes(void **state)
{
    (void)state;
    struct buf bytes = BUF_INIT;
    struct record r = { .kind = EV_ENDED, .seq = 77, .at_wall_ms = -5 };
    r.ended = (struct ev_ended){ .job = 1ull << 40, .task = TASK_SINGLE, .attempt = 3, .retry_ms = -9, .flags = 4 };
    record_encode(&bytes, &r);
    char name[300];
    memset(name, 'n', sizeof name);
    struct record long_one = { .kind = EV_SUBMITTED, .seq = 78 };
    long_one.submitted.name = bytes_of(name, sizeof name);
    long_one.submitted.job = 5;
    record_encode(&bytes, &long_one);
    const uint8_t *at = (const uint8_t *)bytes.data, *end_at = at + bytes.size;
    struct record back;
    struct err err;
    assert_int_equal(record_decode(&at, end_at, &back, &err), 0);
    assert_int_equal(back.seq, 77);
    assert_true(back.at_wall_ms == -5 && back.ended.retry_ms == -9 && back.ended.job == 1ull << 40);
    assert_int_equal(record_decode(&at, end_at, &back, &err), 0);
    assert_true(bytes_equal(back.submitted.name, bytes_of(name, sizeof name)));
    assert_ptr_equal(at, end_at);
    /* Cut anywhere: refused, never read beyond the end. */
    for (size_t cut = 0; cut < bytes.size; cut++) {
        uint8_t *copy = mem_copy(bytes.data, cut);
        at = copy;
        while (at < copy + cut && record_decode(&at, copy + cut, &back, &err) == 0)
            continue;
        free(copy);
    }
    buf_fini(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_runs),
        cmocka_unit_test(only_the_right_reporter_counts),
        cmocka_unit_test(failures_are_retried_as_asked),
        cmocka_unit_test(an_array_keeps_its_limit),
        cmocka_unit_test(dependencies_open_and_close),
        cmocka_unit_test(a_cancel_is_final),
        cmocka_unit_test(a_silent_node_is_waited_for_then_left),
        cmocka_unit_test(priority_goes_first_and_nobody_starves),
        cmocka_unit_test(why_names_dimension_and_numbers),
        cmocka_unit_test(bad_requests_are_refused_by_field),
        cmocka_unit_test(short_work_is_sent_ahead),
        cmocka_unit_test(job_table_is_total),
        cmocka_unit_test(records_survive_their_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
