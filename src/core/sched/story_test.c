/* story_test.c: stories of the master's brain: a script of events in, what it records and says out, compared line by line.
 * Builders make each event one line. */
#include "core/sched/sched.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// cmocka.h wants the headers above.
#include <cmocka.h>

#include "base/mac.h"
#include "base/mem.h"
#include "core/sched/sched_snapshot.h"
#include "core/sched/sched_view.h"
#include "core/sched/sched_whatif.h"

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

static void begin_config(struct story *t, const struct sched_config *config)
{
    struct effects fx;
    *t = (struct story){ .now_ms = 1000, .config = *config };
    t->s = sched_new(&t->config);
    t->mac = mac_new(t->config.token_key);
    sched_start(t->s, 1, "test", 1, t->now_ms, 1000000 + t->now_ms, &fx);
    tell(t, &fx);
}

static void begin_with(struct story *t, enum sched_backfill backfill, enum order_kind order)
{
    struct sched_config config;
    sched_config_default(&config);
    config.backfill = backfill;
    config.order = order;
    begin_config(t, &config);
}

static void begin_as(struct story *t, enum sched_backfill backfill)
{
    begin_with(t, backfill, ORDER_PRIORITY);
}

static void begin(struct story *t)
{
    begin_as(t, BACKFILL_GREEDY);
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

static void add_piece(void *arg, struct bytes piece)
{
    buf_add(arg, piece.data, piece.size);
}

static struct sched *restored(struct story *t, struct bytes snapshot)
{
    struct err err = { 0 };
    struct sched *s = sched_new(&t->config);
    struct sched_restore *r = sched_restore_new(s);
    if (sched_restore_piece(r, snapshot, &err) < 0 || sched_restore_end(r, &err) < 0)
        fail_msg("%s", err.text);
    sched_restore_free(r);
    sched_check(s);
    return s;
}

/* The journal up to each record in turn as a snapshot, and the rest of it applied: always the same state. */
static void snapshots(struct story *t, const struct buf *whole)
{
    struct sched *growing = sched_new(&t->config);
    const uint8_t *at = (const uint8_t *)t->journal.data, *end = at + t->journal.size;
    struct record r;
    while (at < end) {
        assert_int_equal(record_decode(&at, end, &r, NULL), 0);
        assert_int_equal(sched_apply(growing, &r, NULL), 0);
        struct buf first = BUF_INIT, second = BUF_INIT;
        sched_snapshot(growing, add_piece, &first);
        struct sched *s = restored(t, buf_bytes(&first));
        sched_snapshot(s, add_piece, &second);
        assert_true(bytes_equal(buf_bytes(&first), buf_bytes(&second)));
        for (const uint8_t *rest = at; rest < end;) {
            assert_int_equal(record_decode(&rest, end, &r, NULL), 0);
            assert_int_equal(sched_apply(s, &r, NULL), 0);
        }
        buf_clear(&second);
        sched_snapshot(s, add_piece, &second);
        assert_true(bytes_equal(buf_bytes(whole), buf_bytes(&second)));
        sched_free(s);
        buf_fini(&first);
        buf_fini(&second);
    }
    sched_free(growing);
}

static void end(struct story *t)
{
    struct sched *again = replayed(t);
    assert_true(sched_view_hash(again) == sched_view_hash(t->s));
    sched_check(again);
    struct buf whole = BUF_INIT;
    sched_snapshot(again, add_piece, &whole);
    snapshots(t, &whole);
    buf_fini(&whole);
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

/* A worker of 8 GiB; who it is comes from the first letter of its name. */
static struct message hello(uint64_t incarnation, const char *name, uint64_t cpus, const char *labels)
{
    struct message m = { .kind = MSG_HELLO };
    m.hello.worker = (struct worker_id){ 1, (uint64_t)(unsigned char)name[0] };
    m.hello.incarnation = m.hello.nonce = incarnation;
    m.hello.name = bytes_str(name);
    m.hello.boot = bytes_str("boot");
    m.hello.version = bytes_str("1");
    m.hello.labels = bytes_str(labels);
    m.hello.capacity.v[RES_CPU] = cpus * 1000;
    m.hello.capacity.v[RES_MEM] = 8ull << 30;
    m.hello.window = 1000;
    return m;
}

static void join(struct story *t, uint64_t session, const char *name, uint64_t cpus)
{
    hear(t, session, hello(session, name, cpus, ""));
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
    told(&t, "job.dispatched job=1 task=- attempt=1 node=1 rule=1\n-> START 1/-1/1\n");
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

static void cron_set(struct story *t, enum cron_overlap overlap, bool paused)
{
    struct cron_settings set = { .user = bytes_str("ada"), .schedule = bytes_str("* * * * *"), .zone = bytes_str("UTC"), .spec = bytes_str("{}"),
                                 .overlap = overlap, .paused = paused };
    struct sched_event ev = { .kind = SCHED_CRON_SET };
    ev.cron.name = bytes_str("each");
    ev.cron.actor = bytes_str("ada");
    ev.cron.settings = &set;
    step(t, ev);
    assert_int_equal(t->result.err.code, ERR_OK);
}

static enum err_code due(struct story *t, int64_t due_wall_ms)
{
    submit(t, REQUEST(.cron = bytes_str("each"), .due_wall_ms = due_wall_ms));
    return t->result.err.code;
}

static struct cron_view cron_of(struct story *t)
{
    struct cron_view v;
    assert_true(sched_view_cron_named(t->s, bytes_str("each"), &v));
    return v;
}

static void each_due_time_comes_once(void **state)
{
    (void)state;
    struct story t;
    begin(&t);
    join(&t, 1, "a", 8);
    assert_int_equal(due(&t, 2000000), ERR_NOT_FOUND);
    buf_clear(&t.told);
    cron_set(&t, CRON_SKIP, false);
    told(&t, "cron.set name=\"each\" user=\"ada\" schedule=\"* * * * *\" zone=\"UTC\" spec=\"{}\" from_wall_ms=1001000 actor=\"ada\"\n");
    cron_set(&t, CRON_SKIP, false); /* as it was */
    told(&t, "");
    assert_int_equal(due(&t, 1001000), ERR_CONFLICT); /* not after it was made */
    assert_int_equal(due(&t, 2000000), ERR_OK);
    assert_int_equal(t.result.job.n, 1);
    told(&t, "job.submitted job=1 name=\"x\" cron=\"each\" due_wall_ms=2000000\n");
    assert_int_equal(due(&t, 2000000), ERR_CONFLICT);
    assert_int_equal(due(&t, 1900000), ERR_CONFLICT);
    told(&t, "");
    assert_true(cron_of(&t).active && cron_of(&t).last.n == 1);

    assert_int_equal(due(&t, 2060000), ERR_OK); /* it still waits: skipped */
    assert_int_equal(t.result.job.n, 0);
    told(&t, "cron.passed name=\"each\" due_wall_ms=2060000 count=1 passed_for=1 text=\"job 1 has not ended\"\n");

    cron_set(&t, CRON_WAIT, false);
    buf_clear(&t.told);
    assert_int_equal(due(&t, 2120000), ERR_OK);
    assert_int_equal(state_of(&t, 2), JOB_BLOCKED);
    assert_int_equal(due(&t, 2180000), ERR_OK);
    assert_int_equal(state_of(&t, 3), JOB_BLOCKED);
    tick(&t, 0);
    finish(&t, 1, single(1, 1), REASON_EXIT, 1);
    assert_int_equal(state_of(&t, 2), JOB_QUEUED); /* whatever became of the first */
    assert_int_equal(state_of(&t, 3), JOB_BLOCKED);
    tick(&t, 0);

    cron_set(&t, CRON_ALLOW, false);
    assert_int_equal(due(&t, 2240000), ERR_OK);
    assert_int_equal(state_of(&t, 4), JOB_QUEUED);
    tick(&t, 0);
    start(&t, 1, single(4, 1));

    cron_set(&t, CRON_REPLACE, false);
    buf_clear(&t.told);
    assert_int_equal(due(&t, 2300000), ERR_OK);
    told(&t, "job.cancel job=4 task=- actor=\"ada\" reason=\"replaced by the next one of its entry\"\n"
             "job.submitted job=5 name=\"x\" cron=\"each\" due_wall_ms=2300000\n-> KILL 4/-1/1\n");
    assert_int_equal(state_of(&t, 5), JOB_QUEUED);
    assert_int_equal(due(&t, 2360000), ERR_OK);
    assert_int_equal(state_of(&t, 5), JOB_CANCELLED); /* it had not begun */

    cron_set(&t, CRON_REPLACE, true);
    assert_int_equal(due(&t, 2420000), ERR_CONFLICT); /* paused */
    t.now_ms += 10000000;
    cron_set(&t, CRON_REPLACE, false); /* goes on from now: what passed meanwhile is not made up for */
    assert_int_equal(cron_of(&t).last_wall_ms, 1000000 + t.now_ms);
    assert_int_equal(cron_of(&t).submitted, 6);
    assert_int_equal(cron_of(&t).passed, 1);

    /* What is refused before it comes leaves the one before it alone. */
    assert_int_equal(due(&t, 1000001 + t.now_ms), ERR_OK);
    uint64_t last = t.result.job.n;
    submit(&t, REQUEST(.cron = bytes_str("each"), .due_wall_ms = 1000002 + t.now_ms, .priority = 10000000));
    assert_int_equal(t.result.err.code, ERR_INVALID);
    assert_int_equal(state_of(&t, last), JOB_QUEUED);

    struct sched_event pass = { .kind = SCHED_CRON_PASS };
    pass.cron_pass.name = bytes_str("each");
    pass.cron_pass.due_wall_ms = 1000003 + t.now_ms;
    pass.cron_pass.count = 7;
    pass.cron_pass.passed_for = CRON_PASS_MISSED;
    step(&t, pass);
    assert_int_equal(cron_of(&t).passed, 8);
    step(&t, pass);
    assert_int_equal(t.result.err.code, ERR_CONFLICT);

    struct sched_event gone = { .kind = SCHED_CRON_REMOVE };
    gone.cron.name = bytes_str("each");
    step(&t, gone);
    assert_int_equal(sched_view_crons(t.s), 0);
    assert_int_equal(state_of(&t, last), JOB_QUEUED);
    step(&t, gone);
    assert_int_equal(t.result.err.code, ERR_NOT_FOUND);
    end(&t);
}

static void more_memory_is_asked_for_step_by_step(void **state)
{
    (void)state;
    struct story t;
    begin(&t);
    join(&t, 1, "a", 8); /* of 8 GiB */
    const uint64_t gib = 1ull << 30;
    submit(&t, REQUEST(.need.v[RES_MEM] = 3 * gib, .mem_max_bytes = 100 * gib, .held = true, .tasks = 2));
    assert_string_equal(t.result.err.field, "mem_max");
    submit(&t, REQUEST(.mem_max_bytes = gib));
    assert_string_equal(t.result.err.field, "mem_max");
    submit(&t, REQUEST(.need.v[RES_MEM] = 2 * gib, .mem_max_bytes = gib));
    assert_string_equal(t.result.err.field, "mem_max");
    submit(&t, REQUEST(.need.v[RES_MEM] = 3 * gib, .mem_max_bytes = 100 * gib));
    submit(&t, REQUEST(.need.v[RES_MEM] = gib)); /* holds some of it meanwhile */
    tick(&t, 0);
    start(&t, 1, single(1, 1));
    buf_clear(&t.told);
    finish(&t, 1, single(1, 1), REASON_OOM, 137);
    told(&t, "job.ended job=1 task=- attempt=1 node=1 reason=3 exit_code=137\njob.grown job=1 class=2 mem_bytes=6442450944\n-> REPORT_ACK\n");
    assert_int_equal(state_of(&t, 1), JOB_RETRY_WAIT);
    tick(&t, 0);
    tick(&t, 0);
    assert_int_equal(state_of(&t, 1), JOB_DISPATCHED); /* without its time as a retry: it has none */
    struct node_view n;
    sched_view_node(t.s, (node_id){ 1 }, &n);
    assert_int_equal(n.allocated.v[RES_MEM], 7 * gib);
    finish(&t, 1, single(1, 2), REASON_OOM, 137);
    struct job_view v;
    sched_view_job(t.s, (job_id){ 1 }, &v);
    assert_int_equal(v.need.v[RES_MEM], 8 * gib); /* no node has more */
    finish(&t, 1, single(2, 1), REASON_NONE, 0);
    tick(&t, 0);
    tick(&t, 0);
    sched_view_node(t.s, (node_id){ 1 }, &n);
    assert_int_equal(n.allocated.v[RES_MEM], 8 * gib);
    finish(&t, 1, single(1, 3), REASON_OOM, 137);
    assert_int_equal(state_of(&t, 1), JOB_FAILED);
    /* Up to what was allowed; what else goes wrong is as ever; and a cancel is the end. */
    submit(&t, REQUEST(.need.v[RES_MEM] = 3 * gib, .mem_max_bytes = 4 * gib, .retries = 1, .backoff_ms = 1000, .backoff_max_ms = 1000));
    tick(&t, 0);
    finish(&t, 1, single(3, 1), REASON_OOM, 137);
    sched_view_job(t.s, (job_id){ 3 }, &v);
    assert_int_equal(v.need.v[RES_MEM], 4 * gib);
    tick(&t, 0);
    tick(&t, 0);
    finish(&t, 1, single(3, 2), REASON_OOM, 137); /* its retry */
    assert_int_equal(state_of(&t, 3), JOB_RETRY_WAIT);
    tick(&t, 1000);
    tick(&t, 0);
    finish(&t, 1, single(3, 3), REASON_OOM, 137);
    assert_int_equal(state_of(&t, 3), JOB_FAILED);
    submit(&t, REQUEST(.need.v[RES_MEM] = gib, .mem_max_bytes = 4 * gib));
    tick(&t, 0);
    struct sched_event cancel = { .kind = SCHED_CANCEL, .cancel = { { 4 }, TASK_ALL, bytes_str("ada"), bytes_str("") } };
    step(&t, cancel);
    finish(&t, 1, single(4, 1), REASON_OOM, 137);
    assert_int_equal(state_of(&t, 4), JOB_CANCELLED);
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

static void expect_tasks(struct story *t, uint64_t job, enum job_state state, uint32_t count)
{
    struct job_view v;
    struct sched_stats stats;
    struct task_view task;
    uint32_t positions[8];
    assert_true(sched_view_job(t->s, (job_id){ job }, &v));
    assert_int_equal(v.counts[state], count);
    assert_int_equal(sched_view_tasks(t->s, (job_id){ job }, state, 0, positions, 8), count);
    for (uint32_t i = 0; i < count; i++) {
        assert_true(sched_view_task(t->s, (job_id){ job }, positions[i], &task));
        assert_int_equal(task.state, state);
    }
    sched_view_stats(t->s, &stats);
    assert_int_equal(stats.tasks[state], count);
}

/* Tasks that wait in an array that is held or blocked are held or blocked, wherever one asks. */
static void tasks_wait_as_their_array_does(void **state)
{
    (void)state;
    struct story t;
    begin(&t);
    join(&t, 1, "a", 2);
    submit(&t, REQUEST(.tasks = 5, .step = 1, .held = true));
    expect_tasks(&t, 1, JOB_HELD, 5);
    expect_tasks(&t, 1, JOB_QUEUED, 0);
    step(&t, (struct sched_event){ .kind = SCHED_RELEASE, .cancel = { { 1 }, TASK_ALL, bytes_str("ada"), bytes_str("") } });
    expect_tasks(&t, 1, JOB_HELD, 0);
    expect_tasks(&t, 1, JOB_QUEUED, 5);
    tick(&t, 0);
    expect_tasks(&t, 1, JOB_DISPATCHED, 2);
    /* While some run the array is not held as a whole: the others are only kept from starting. */
    step(&t, (struct sched_event){ .kind = SCHED_HOLD, .cancel = { { 1 }, TASK_ALL, bytes_str("ada"), bytes_str("") } });
    expect_tasks(&t, 1, JOB_QUEUED, 3);
    finish(&t, 1, (struct attempt_ref){ { 1 }, 0, 1 }, REASON_NONE, 0);
    finish(&t, 1, (struct attempt_ref){ { 1 }, 1, 1 }, REASON_NONE, 0);
    expect_tasks(&t, 1, JOB_HELD, 3);
    expect_tasks(&t, 1, JOB_SUCCEEDED, 2);
    step(&t, (struct sched_event){ .kind = SCHED_CANCEL, .cancel = { { 1 }, 2, bytes_str("ada"), bytes_str("") } });
    expect_tasks(&t, 1, JOB_HELD, 2);
    submit(&t, REQUEST(.tasks = 4, .step = 1, .after = &(struct after){ { 1 }, AFTER_ANY }, .after_count = 1));
    expect_tasks(&t, 2, JOB_BLOCKED, 4);
    step(&t, (struct sched_event){ .kind = SCHED_CANCEL, .cancel = { { 1 }, TASK_ALL, bytes_str("ada"), bytes_str("") } });
    expect_tasks(&t, 2, JOB_BLOCKED, 0);
    expect_tasks(&t, 2, JOB_QUEUED, 4);
    expect_tasks(&t, 1, JOB_HELD, 0);
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

/* --- gangs --- */

static struct attempt_ref part(uint64_t job, uint32_t rank, uint32_t attempt)
{
    return (struct attempt_ref){ { job }, rank, attempt };
}

static struct task_view part_of(struct story *t, uint64_t job, uint32_t rank)
{
    struct task_view v;
    assert_true(sched_view_task(t->s, (job_id){ job }, rank, &v));
    return v;
}

/* Three nodes of 2, job 1 has one of b. Job 2 asks for 2 of each of them. */
static void gang_world(struct story *t, uint32_t retries)
{
    begin(t);
    join(t, 1, "a", 2);
    join(t, 2, "b", 2);
    join(t, 3, "c", 2);
    submit(t, REQUEST(.where = bytes_str("node=b")));
    tick(t, 0);
    start(t, 2, single(1, 1));
    submit(t, REQUEST(.need.v[RES_CPU] = 2000, .nodes = 3, .retries = retries, .backoff_ms = 1000, .backoff_max_ms = 1000));
    buf_clear(&t->told);
    tick(t, 0);
    told(t, "");
}

static void gang_starts(struct story *t)
{
    finish(t, 2, single(1, 1), REASON_NONE, 0);
    buf_clear(&t->told);
    tick(t, 0);
    told(t, "job.dispatched job=2 task=0 attempt=1 node=1 rule=1\njob.dispatched job=2 task=1 attempt=1 node=2 rule=1\n"
            "job.dispatched job=2 task=2 attempt=1 node=3 rule=1\n-> START 2/0/1\n-> START 2/1/1\n-> START 2/2/1\n");
    for (uint32_t rank = 0; rank < 3; rank++)
        start(t, rank + 1, part(2, rank, 1));
    buf_clear(&t->told);
}

static void a_gang_starts_as_a_whole(void **state)
{
    (void)state;
    struct story t;
    gang_world(&t, 0);
    struct why_report why;
    assert_true(sched_view_why(t.s, (job_id){ 2 }, TASK_ALL, &why));
    assert_int_equal(why.primary, WHY_GANG);
    assert_int_equal(why.nodes_asked, 3);
    assert_int_equal(why.nodes_now, 2);
    assert_int_equal(why.nodes_ever, 3);
    assert_int_equal(why.change.kind, CHANGE_NODES);
    assert_int_equal(why.change.nodes, 2);
    gang_starts(&t);
    finish(&t, 1, part(2, 0, 1), REASON_NONE, 0);
    told(&t, "job.ended job=2 task=0 attempt=1 node=1 flags=16\n-> REPORT_ACK\n");
    assert_int_equal(part_of(&t, 2, 0).state, JOB_RUNNING); /* It is not over before all are. */
    submit(&t, REQUEST(.need.v[RES_CPU] = 2000));
    tick(&t, 0);
    assert_int_equal(state_of(&t, 3), JOB_DISPATCHED); /* Its place is free, though. */
    finish(&t, 3, part(2, 2, 1), REASON_NONE, 0);
    assert_int_equal(state_of(&t, 2), JOB_RUNNING);
    buf_clear(&t.told);
    finish(&t, 2, part(2, 1, 1), REASON_NONE, 0);
    told(&t, "job.ended job=2 task=1 attempt=1 node=2 flags=16\njob.gang_ended job=2 final=9\njob.array_ended job=2 final=9 succeeded=3\n-> REPORT_ACK\n");
    assert_int_equal(state_of(&t, 2), JOB_SUCCEEDED);
    /* More nodes than there are never have room. */
    submit(&t, REQUEST(.nodes = 4));
    tick(&t, 0);
    assert_true(sched_view_why(t.s, (job_id){ 4 }, TASK_ALL, &why));
    assert_int_equal(why.primary, WHY_TOO_FEW);
    end(&t);
}

static void a_gang_fails_and_is_tried_again_as_a_whole(void **state)
{
    (void)state;
    struct story t;
    gang_world(&t, 1);
    gang_starts(&t);
    finish(&t, 1, part(2, 0, 1), REASON_NONE, 0);
    buf_clear(&t.told);
    finish(&t, 2, part(2, 1, 1), REASON_EXIT, 7);
    told(&t, "job.ended job=2 task=1 attempt=1 node=2 reason=1 exit_code=7 flags=16\n-> KILL 2/2/1\n-> REPORT_ACK\n");
    tick(&t, 1000);
    assert_int_equal(state_of(&t, 2), JOB_RUNNING); /* Not before the last of it is gone. */
    finish(&t, 3, part(2, 2, 1), REASON_SIGNAL, 0);
    assert_int_equal(part_of(&t, 2, 2).reason, REASON_GANG);
    for (uint32_t rank = 0; rank < 3; rank++)
        assert_int_equal(part_of(&t, 2, rank).state, JOB_RETRY_WAIT);
    tick(&t, 1000);
    tick(&t, 0);
    for (uint32_t rank = 0; rank < 3; rank++) {
        assert_int_equal(part_of(&t, 2, rank).state, JOB_DISPATCHED);
        assert_int_equal(part_of(&t, 2, rank).attempt, 2);
    }
    /* Its one more try is used up: who failed has failed, what was ended for it was cancelled. */
    finish(&t, 3, part(2, 2, 2), REASON_EXIT, 8);
    finish(&t, 1, part(2, 0, 2), REASON_SIGNAL, 0);
    finish(&t, 2, part(2, 1, 2), REASON_NONE, 0);
    assert_int_equal(state_of(&t, 2), JOB_FAILED);
    assert_int_equal(part_of(&t, 2, 0).state, JOB_CANCELLED);
    assert_int_equal(part_of(&t, 2, 1).state, JOB_SUCCEEDED);
    assert_int_equal(part_of(&t, 2, 2).state, JOB_FAILED);
    assert_int_equal(part_of(&t, 2, 2).exit_code, 8);
    end(&t);
}

static void a_gang_survives_its_nodes(void **state)
{
    (void)state;
    struct story t;
    gang_world(&t, 0);
    gang_starts(&t);
    for (int i = 0; i < 450; i++) { /* b is silent until it is given up. */
        tick(&t, 1000);
        for (uint64_t session = 1; session <= 3; session += 2) {
            struct message m = { .kind = MSG_HEARTBEAT, .heartbeat.seq = (uint64_t)i + 1 };
            hear(&t, session, m);
        }
    }
    assert_int_equal(part_of(&t, 2, 0).state, JOB_RUNNING);
    finish(&t, 1, part(2, 0, 1), REASON_SIGNAL, 0); /* Told to end when b was given up. */
    finish(&t, 3, part(2, 2, 1), REASON_EXIT, 1);   /* Failed by itself, when the other did not answer; b is to blame. */
    assert_int_equal(state_of(&t, 2), JOB_RETRY_WAIT);
    for (int i = 0; i < 3; i++)
        tick(&t, 1000);
    assert_int_equal(state_of(&t, 2), JOB_QUEUED); /* There are two nodes left. */
    join(&t, 4, "d", 2);
    tick(&t, 0);
    assert_int_equal(state_of(&t, 2), JOB_DISPATCHED);
    /* One is not started by its node: all come back, and nothing counts against the job. */
    struct message m = { .kind = MSG_NEVER_STARTED };
    m.never_started.ref = part(2, 2, 2);
    m.never_started.token = token(&t, part(2, 2, 2));
    buf_clear(&t.told);
    hear(&t, 4, m);
    assert_non_null(strstr(t.told.data, "-> KILL 2/0/2\n-> KILL 2/1/2\n"));
    finish(&t, 1, part(2, 0, 2), REASON_CANCELLED, 0);
    assert_int_equal(part_of(&t, 2, 0).state, JOB_RUNNING);
    finish(&t, 3, part(2, 1, 2), REASON_CANCELLED, 0);
    assert_int_equal(part_of(&t, 2, 0).state, JOB_RETRY_WAIT);
    assert_int_equal(part_of(&t, 2, 2).state, JOB_QUEUED);
    for (int i = 0; i < 5; i++)
        tick(&t, 1000);
    for (uint32_t rank = 0; rank < 3; rank++)
        assert_int_equal(part_of(&t, 2, rank).attempt, 3);
    end(&t);
}

static void a_gang_is_cancelled_as_a_whole(void **state)
{
    (void)state;
    struct story t;
    gang_world(&t, 3);
    gang_starts(&t);
    step(&t, (struct sched_event){ .kind = SCHED_CANCEL, .cancel = { { 2 }, 1, bytes_str("ada"), bytes_str("") } });
    assert_int_equal(t.result.err.code, ERR_CONFLICT);
    finish(&t, 1, part(2, 0, 1), REASON_NONE, 0);
    buf_clear(&t.told);
    step(&t, (struct sched_event){ .kind = SCHED_CANCEL, .cancel = { { 2 }, TASK_ALL, bytes_str("ada"), bytes_str("") } });
    told(&t, "job.cancel job=2 task=all actor=\"ada\"\n-> KILL 2/1/1\n-> KILL 2/2/1\n");
    assert_int_equal(state_of(&t, 2), JOB_CANCELLING);
    finish(&t, 2, part(2, 1, 1), REASON_CANCELLED, 0);
    finish(&t, 3, part(2, 2, 1), REASON_CANCELLED, 0);
    assert_int_equal(state_of(&t, 2), JOB_CANCELLED);
    assert_int_equal(part_of(&t, 2, 0).state, JOB_SUCCEEDED);
    assert_int_equal(part_of(&t, 2, 1).state, JOB_CANCELLED);
    /* One that waits. */
    submit(&t, REQUEST(.nodes = 3, .held = true));
    step(&t, (struct sched_event){ .kind = SCHED_CANCEL, .cancel = { { 3 }, TASK_ALL, bytes_str("ada"), bytes_str("") } });
    assert_int_equal(state_of(&t, 3), JOB_CANCELLED);
    end(&t);
}

static void a_gang_counts_as_many_against_limits(void **state)
{
    (void)state;
    struct story t;
    struct party_settings set;
    struct why_report why;
    gang_world(&t, 0);
    party_settings_default(&set);
    set.limits.most[LIMIT_RUNNING] = 3;
    step(&t, (struct sched_event){ .kind = SCHED_SET, .set = { PARTY_USER, bytes_str("ada"), bytes_str("root"), &set } });
    submit(&t, REQUEST(.where = bytes_str("node=c"), .priority = 9));
    tick(&t, 0);
    finish(&t, 2, single(1, 1), REASON_NONE, 0);
    tick(&t, 0);
    assert_int_equal(state_of(&t, 3), JOB_DISPATCHED);
    assert_true(sched_view_why(t.s, (job_id){ 2 }, TASK_ALL, &why));
    assert_int_equal(why.primary, WHY_LIMIT);
    assert_int_equal(why.limits[0].asked, 3);
    finish(&t, 3, single(3, 1), REASON_NONE, 0);
    tick(&t, 0);
    assert_int_equal(state_of(&t, 2), JOB_DISPATCHED);
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

static enum err_code renew(struct story *t, uint64_t worker, uint64_t incarnation, uint64_t wrong)
{
    uint64_t numbers[4] = { 1, worker, incarnation, 0x6c65617365 };
    struct sched_event ev = { .kind = SCHED_LEASE, .lease = { { 1, worker }, incarnation, mac_numbers(t->mac, numbers, 4) } };
    ev.lease.token.low ^= wrong;
    step(t, ev);
    return t->result.err.code;
}

static enum node_state node_state_of(struct story *t)
{
    struct node_view n;
    assert_true(sched_view_node(t->s, (node_id){ 1 }, &n));
    return n.state;
}

static void a_lease_is_kept_another_way(void **state)
{
    (void)state;
    struct story t;
    begin(&t);
    join(&t, 1, "a", 1);
    submit(&t, REQUEST());
    tick(&t, 0);
    start(&t, 1, single(1, 1));
    assert_int_equal(renew(&t, 'a', 1, 1), ERR_UNAUTH);
    assert_int_equal(renew(&t, 'a', 2, 0), ERR_NOT_FOUND); /* another life of it */
    assert_int_equal(renew(&t, 'b', 1, 0), ERR_NOT_FOUND);
    for (int i = 0; i < 600; i++) {
        tick(&t, 1000);
        if (i % 30 == 0)
            assert_int_equal(renew(&t, 'a', 1, 0), ERR_OK);
    }
    assert_int_equal(node_state_of(&t), NODE_SUSPECT); /* It gets nothing new, */
    assert_int_equal(state_of(&t, 1), JOB_RUNNING);    /* and keeps what it has. */
    for (int i = 0; i < 500; i++)
        tick(&t, 1000);
    assert_int_equal(node_state_of(&t), NODE_DOWN);
    assert_int_equal(state_of(&t, 1), JOB_QUEUED);
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

#define CPUS(n, minutes) REQUEST(.need.v[RES_CPU] = (n) * 1000, .time_limit_ms = (minutes) * 60000)

static void nothing_passes_when_asked(void **state)
{
    (void)state;
    struct story t;
    begin_as(&t, BACKFILL_NONE);
    join(&t, 1, "a", 2);
    submit(&t, CPUS(1, 60));
    tick(&t, 0);
    submit(&t, CPUS(2, 1));
    submit(&t, CPUS(1, 1));
    tick(&t, 0);
    assert_int_equal(state_of(&t, 3), JOB_QUEUED);
    submit(&t, CPUS(9, 1)); /* No node will ever have so much: it holds up nobody, though it is behind 2 anyway. */
    finish(&t, 1, single(1, 1), REASON_NONE, 0);
    tick(&t, 0);
    assert_int_equal(state_of(&t, 2), JOB_DISPATCHED);
    finish(&t, 1, single(2, 1), REASON_NONE, 0);
    tick(&t, 0);
    assert_int_equal(state_of(&t, 3), JOB_DISPATCHED);
    submit(&t, CPUS(1, 1));
    tick(&t, 0);
    assert_int_equal(state_of(&t, 5), JOB_DISPATCHED);
    end(&t);
}

/* What the journal says of the last time that the job was dispatched. */
/* Ada's first start puts her other job behind bob's, which has room, too: it must not count as one that has not. */
static void shares_change_whose_turn_it_is_within_a_cycle(void **state)
{
    (void)state;
    struct story t;
    begin_with(&t, BACKFILL_NONE, ORDER_FAIRSHARE);
    join(&t, 1, "a", 4);
    struct job_request all = REQUEST(.need.v[RES_CPU] = 4000), bobs = REQUEST(.need.v[RES_CPU] = 1500);
    all.user = bytes_str("cyd");
    bobs.user = bytes_str("bob");
    submit(&t, all);
    tick(&t, 0);
    submit(&t, REQUEST(.need.v[RES_CPU] = 1000));
    submit(&t, bobs);
    tick(&t, 0);
    finish(&t, 1, single(1, 1), REASON_NONE, 0);
    submit(&t, REQUEST(.need.v[RES_CPU] = 500, .priority = 1));
    tick(&t, 0);
    for (uint64_t job = 2; job <= 4; job++)
        assert_int_equal(state_of(&t, job), JOB_DISPATCHED);
    end(&t);
}

static void let_in(struct story *t, uint64_t job, enum rule rule, uint64_t over)
{
    const uint8_t *at = (const uint8_t *)t->journal.data, *end = at + t->journal.size;
    struct ev_assigned last = { 0 };
    struct record r;
    while (at < end) {
        assert_int_equal(record_decode(&at, end, &r, NULL), 0);
        if (r.kind == EV_ASSIGNED && r.assigned.job == job)
            last = r.assigned;
    }
    assert_string_equal(rule_name((enum rule)last.rule), rule_name(rule));
    assert_int_equal(last.over, over);
    assert_int_equal(rule_parse(rule_name(rule)), rule);
}

static void greedy_lets_pass_whatever_has_room(void **state)
{
    (void)state;
    struct story t;
    begin(&t);
    join(&t, 1, "a", 4);
    submit(&t, CPUS(3, 10));
    tick(&t, 0);
    submit(&t, CPUS(2, 10));
    submit(&t, CPUS(1, 10));
    tick(&t, 0);
    let_in(&t, 1, RULE_TURN, 0);
    let_in(&t, 3, RULE_PASSED, 2);
    finish(&t, 1, single(1, 1), REASON_NONE, 0);
    tick(&t, 0);
    let_in(&t, 2, RULE_TURN, 0);
    end(&t);
}

static void a_plan_lets_in_whom_it_has_a_place_for(void **state)
{
    (void)state;
    struct story t;
    begin_as(&t, BACKFILL_CONSERVATIVE);
    sched_free(t.s);
    t.config.plan_depth = 1;
    t.s = sched_new(&t.config);
    buf_clear(&t.journal);
    t.seq = 0;
    struct effects fx;
    sched_start(t.s, 1, "test", 1, t.now_ms, 1000000 + t.now_ms, &fx);
    tell(&t, &fx);
    join(&t, 1, "a", 4);
    submit(&t, CPUS(3, 10));
    tick(&t, 0);
    submit(&t, CPUS(4, 10));
    submit(&t, CPUS(1, 9));
    tick(&t, 0);
    let_in(&t, 1, RULE_PLANNED, 0);
    let_in(&t, 3, RULE_UNPLANNED, 0);
    end(&t);
}

/* Two nodes of 4: job 1 holds all of a for 60 min, job 2 three of b for 10 min. */
static void easy_world(struct story *t)
{
    begin_as(t, BACKFILL_EASY);
    join(t, 1, "a", 4);
    join(t, 2, "b", 4);
    submit(t, CPUS(4, 60));
    submit(t, CPUS(3, 10));
    tick(t, 0);
    submit(t, CPUS(3, 60)); /* The head: it waits for b, in 10 min. */
    tick(t, 0);
    struct why_report why;
    assert_true(sched_view_why(t->s, (job_id){ 3 }, TASK_SINGLE, &why));
    assert_int_equal(why.primary, WHY_RESOURCES);
    assert_int_equal(why.room_node.n, 2);
    assert_int_equal(why.room_in_ms, 600000);
    assert_int_equal(state_of(t, 1), JOB_DISPATCHED);
    assert_int_equal(state_of(t, 2), JOB_DISPATCHED);
    assert_int_equal(state_of(t, 3), JOB_QUEUED);
}

static void easy_lets_pass_what_ends_in_time(void **state)
{
    (void)state;
    struct story t;
    easy_world(&t);
    submit(&t, CPUS(1, 10));
    tick(&t, 0);
    assert_int_equal(state_of(&t, 4), JOB_DISPATCHED);
    let_in(&t, 4, RULE_IN_TIME, 3);
    end(&t);
}

static void easy_lets_pass_what_needs_no_more_than_is_over(void **state)
{
    (void)state;
    struct story t;
    easy_world(&t);
    submit(&t, REQUEST(.need.v[RES_CPU] = 500, .time_limit_ms = 3600000));
    submit(&t, REQUEST(.need.v[RES_CPU] = 500, .time_limit_ms = 3600000));
    submit(&t, REQUEST(.need.v[RES_CPU] = 500, .time_limit_ms = 3600000));
    tick(&t, 0);
    /* One CPU of b is over when the head has its three: two halves fill it. */
    assert_int_equal(state_of(&t, 4), JOB_DISPATCHED);
    assert_int_equal(state_of(&t, 5), JOB_DISPATCHED);
    assert_int_equal(state_of(&t, 6), JOB_QUEUED);
    let_in(&t, 5, RULE_BESIDE, 3);
    finish(&t, 2, single(2, 1), REASON_NONE, 0);
    tick(&t, 1000);
    assert_int_equal(state_of(&t, 3), JOB_DISPATCHED);
    assert_int_equal(state_of(&t, 6), JOB_QUEUED);
    end(&t);
}

static void easy_holds_back_what_would_delay_the_head(void **state)
{
    (void)state;
    struct story t;
    begin_as(&t, BACKFILL_EASY);
    join(&t, 1, "a", 4);
    submit(&t, CPUS(3, 10));
    tick(&t, 0);
    submit(&t, CPUS(4, 60)); /* The head: all of a, in 10 min. */
    for (int i = 0; i < 5; i++)
        submit(&t, CPUS(1, 11));
    tick(&t, 10000);
    for (uint64_t id = 3; id < 8; id++)
        assert_int_equal(state_of(&t, id), JOB_QUEUED);
    submit(&t, CPUS(1, 9)); /* The same request for less time: another shape of the demand. */
    tick(&t, 0);
    assert_int_equal(state_of(&t, 8), JOB_DISPATCHED);
    finish(&t, 1, single(8, 1), REASON_NONE, 0);
    finish(&t, 1, single(1, 1), REASON_NONE, 0);
    tick(&t, 1000);
    assert_int_equal(state_of(&t, 2), JOB_DISPATCHED);
    end(&t);
}

/* Ada says an hour and takes ten minutes. */
static void places_are_kept_by_what_a_user_usually_takes(void **state)
{
    (void)state;
    struct story t;
    struct sched_config config;
    struct why_report why;
    sched_config_default(&config);
    config.backfill = BACKFILL_EASY;
    config.predict = true;
    config.suspect_ms = config.down_ms = config.lease_ms = config.resend_ms = INT64_MAX / 4; /* Time passes at once here. */
    begin_config(&t, &config);
    join(&t, 1, "a", 4);
    for (uint64_t job = 1; job <= 3; job++) {
        submit(&t, CPUS(3, 60));
        tick(&t, 0);
        start(&t, 1, single(job, 1));
        if (job == 3)
            break;
        struct message m = { .kind = MSG_FINISHED, .finished = { .ref = single(job, 1), .token = token(&t, single(job, 1)), .result.run_ms = 600000 } };
        hear(&t, 1, m);
    }
    submit(&t, CPUS(4, 60)); /* The head. */
    submit(&t, CPUS(1, 60)); /* It will take as long as what runs: not longer than until the head's turn. */
    tick(&t, 0);
    assert_int_equal(state_of(&t, 5), JOB_DISPATCHED);
    start(&t, 1, single(5, 1));
    assert_true(sched_view_why(t.s, (job_id){ 4 }, TASK_SINGLE, &why));
    assert_int_equal(why.room_in_ms, 600000);
    /* They run on: for some minutes more, then for some more, but not beyond their time limit. */
    submit(&t, CPUS(4, 60));
    t.now_ms += 660000;
    tick(&t, 0);
    submit(&t, REQUEST());
    tick(&t, 0);
    assert_true(sched_view_why(t.s, (job_id){ 4 }, TASK_SINGLE, &why));
    assert_int_equal(why.room_in_ms, 300000);
    t.now_ms += 2900000;
    submit(&t, REQUEST());
    tick(&t, 0);
    assert_true(sched_view_why(t.s, (job_id){ 4 }, TASK_SINGLE, &why));
    assert_int_equal(why.room_in_ms, 40000);
    end(&t);
}

/* --- nodes that suit --- */

static uint32_t node_of(struct story *t, uint64_t job)
{
    struct job_view v;
    assert_true(sched_view_job(t->s, (job_id){ job }, &v));
    return v.state == JOB_DISPATCHED ? v.node.n : 0;
}

static void jobs_go_only_where_they_may(void **state)
{
    (void)state;
    for (int backfill = 0; backfill < BACKFILLS; backfill++) {
        struct story t;
        begin_as(&t, (enum sched_backfill)backfill);
        hear(&t, 1, hello(1, "a", 8, "zone=a"));
        hear(&t, 2, hello(2, "b", 2, "zone=b,ssd"));
        submit(&t, REQUEST(.need.v[RES_CPU] = 1000, .where = bytes_str("ssd")));
        submit(&t, REQUEST(.need.v[RES_CPU] = 1000, .where = bytes_str("zone!=b")));
        submit(&t, REQUEST(.need.v[RES_CPU] = 1000, .where = bytes_str("node=b & cpus<4")));
        submit(&t, REQUEST(.need.v[RES_CPU] = 1000, .where = bytes_str("zone=c")));
        submit(&t, REQUEST(.need.v[RES_CPU] = 1000, .where = bytes_str("ssd")));
        submit(&t, REQUEST(.need.v[RES_CPU] = 1000));
        tick(&t, 0);
        assert_int_equal(node_of(&t, 1), 2);
        assert_int_equal(node_of(&t, 2), 1);
        assert_int_equal(node_of(&t, 3), 2);
        assert_int_equal(node_of(&t, 4), 0);
        assert_int_equal(node_of(&t, 5), 0);
        if (backfill != BACKFILL_NONE) /* There 5 waits for room and goes first; 4 can run nowhere and holds up nobody. */
            assert_int_equal(node_of(&t, 6), 1);
        struct why_report why;
        struct estimate_view estimate;
        assert_true(sched_view_why(t.s, (job_id){ 4 }, TASK_SINGLE, &why));
        assert_int_equal(why.primary, WHY_TOO_BIG);
        assert_int_equal(why.nodes_unsuited, 2);
        assert_int_equal(why.dims_count, 0);
        assert_true(bytes_equal(why.where, bytes_str("zone=c")));
        assert_true(sched_view_estimate(t.s, (job_id){ 4 }, TASK_SINGLE, &estimate));
        assert_int_equal(estimate.none, NO_ESTIMATE_TOO_BIG);
        assert_true(sched_view_why(t.s, (job_id){ 5 }, TASK_SINGLE, &why));
        assert_int_equal(why.primary, WHY_RESOURCES);
        assert_int_equal(why.nodes_unsuited, 1);
        assert_int_equal(why.room_node.n, 2);
        /* Where one ends there is room; a node that comes may be what another waits for. */
        finish(&t, 2, single(1, 1), REASON_NONE, 0);
        tick(&t, 1000);
        assert_int_equal(node_of(&t, 5), 2);
        hear(&t, 3, hello(3, "c", 1, "zone=c"));
        tick(&t, 1000);
        assert_int_equal(node_of(&t, 4), 3);
        end(&t);
    }
}

static void labels_change_with_their_worker(void **state)
{
    (void)state;
    for (int backfill = 0; backfill < BACKFILLS; backfill++) {
        struct story t;
        begin_as(&t, (enum sched_backfill)backfill);
        hear(&t, 1, hello(1, "a", 1, "zone=a"));
        submit(&t, REQUEST(.need.v[RES_CPU] = 1000, .time_limit_ms = 60000, .where = bytes_str("zone=b")));
        tick(&t, 0);
        assert_int_equal(node_of(&t, 1), 0);
        hear(&t, 4, hello(4, "a", 1, "zone=b"));
        tick(&t, 1000);
        assert_int_equal(node_of(&t, 1), 1);
        /* One that waits for its place there has none any more when the label is gone. */
        submit(&t, REQUEST(.need.v[RES_CPU] = 1000, .time_limit_ms = 60000, .where = bytes_str("zone=b")));
        tick(&t, 1000);
        struct inventory_item item = { single(1, 1), token(&t, single(1, 1)), PHASE_RUNNING };
        struct message m = hello(5, "a", 1, "");
        m.hello.items = &item;
        m.hello.items_count = 1;
        hear(&t, 5, m);
        finish(&t, 5, single(1, 1), REASON_NONE, 0);
        tick(&t, 1000);
        tick(&t, 100000);
        assert_int_equal(node_of(&t, 2), 0);
        hear(&t, 6, hello(6, "b", 1, "zone=b"));
        tick(&t, 1000);
        assert_int_equal(node_of(&t, 2), 2);
        end(&t);
    }
}

/* --- what if --- */

/* The plan of another brain that read the same journal; the members of `w` are changed in it. */
static struct whatif_plan forked(struct story *t, struct whatif w)
{
    struct err err = { 0 };
    struct whatif_plan p;
    struct sched *s = replayed(t);
    if (sched_whatif(s, &w, 1000000 + t->now_ms, &p, &err) < 0)
        fail_msg("%s: %s", err.field, err.text);
    sched_free(s);
    return p;
}

/* From now on; -1: it has no place, -2: it is not in the plan. */
static int64_t starts_in(const struct whatif_plan *p, const struct story *t, uint64_t job)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->starts[i].job.n == job)
            return p->starts[i].placed ? p->starts[i].first_wall_ms - 1000000 - t->now_ms : -1;
    return -2;
}

static int64_t starts_if(struct story *t, struct whatif w, uint64_t job)
{
    struct whatif_plan p = forked(t, w);
    int64_t ms = starts_in(&p, t, job);
    free(p.starts);
    return ms;
}

/* A node of 4 with 3 in use for 10 minutes; behind them a job for all of it, a short one, and one too big. */
static void whatif_world(struct story *t)
{
    begin_as(t, BACKFILL_EASY);
    join(t, 1, "a", 4);
    submit(t, CPUS(3, 10));
    tick(t, 0);
    start(t, 1, single(1, 1));
    submit(t, CPUS(4, 20));
    submit(t, CPUS(2, 60));
    submit(t, CPUS(8, 5));
    submit(t, REQUEST(.need.v[RES_CPU] = 1000, .time_limit_ms = 60000, .held = true));
    tick(t, 0);
}

#define MIN(n) ((n) * 60000)
#define SOON(ms, minutes) assert_in_range((ms), MIN(minutes), MIN(minutes) + 10000) /* each place is kept a second longer */

static void what_if_nothing_changes_it_is_the_plan(void **state)
{
    (void)state;
    struct story t;
    whatif_world(&t);
    struct whatif_plan p = forked(&t, (struct whatif){ 0 });
    assert_int_equal(p.count, 3);
    assert_false(p.deeper);
    for (size_t i = 0; i < p.count; i++) {
        struct estimate_view v;
        assert_true(sched_view_estimate(t.s, p.starts[i].job, TASK_SINGLE, &v));
        assert_int_equal(p.starts[i].placed ? p.starts[i].first_wall_ms : 0, v.none == NO_ESTIMATE_KNOWN ? v.start_wall_ms : 0);
    }
    SOON(starts_in(&p, &t, 2), 10);
    SOON(starts_in(&p, &t, 3), 30);
    assert_int_equal(starts_in(&p, &t, 4), -1);
    assert_int_equal(starts_in(&p, &t, 5), -2);
    free(p.starts);
    end(&t);
}

static void what_if_there_were_more_nodes(void **state)
{
    (void)state;
    struct story t;
    whatif_world(&t);
    struct whatif_nodes one = { .count = 1, .capacity = { .v[RES_CPU] = 8000, .v[RES_MEM] = 8ull << 30 } };
    struct whatif w = { .add = &one, .add_count = 1 };
    assert_int_equal(starts_if(&t, w, 2), 0);
    assert_int_equal(starts_if(&t, w, 3), 0);
    SOON(starts_if(&t, w, 4), 60);
    /* And so it is. */
    join(&t, 2, "b", 8);
    tick(&t, 0);
    assert_int_equal(state_of(&t, 2), JOB_DISPATCHED);
    assert_int_equal(state_of(&t, 3), JOB_DISPATCHED);
    assert_int_equal(state_of(&t, 4), JOB_QUEUED);
    end(&t);
}

static void what_if_a_node_was_gone(void **state)
{
    (void)state;
    struct story t;
    whatif_world(&t);
    join(&t, 2, "b", 2);
    tick(&t, 0);
    assert_int_equal(state_of(&t, 3), JOB_DISPATCHED);
    struct whatif w = { .without = &(node_id){ 1 }, .without_count = 1 };
    assert_int_equal(starts_if(&t, w, 1), -1); /* It waits again, and b is too small. */
    assert_int_equal(starts_if(&t, w, 2), -1);
    assert_int_equal(starts_if(&t, w, 3), -2); /* It runs. */
    w.without = &(node_id){ 2 };
    SOON(starts_if(&t, w, 3), 30);
    end(&t);
}

static void what_if_jobs_were_cancelled_raised_released_or_tried(void **state)
{
    (void)state;
    struct story t;
    whatif_world(&t);
    assert_int_equal(starts_if(&t, (struct whatif){ .cancel = &(job_id){ 1 }, .cancel_count = 1 }, 2), 0);
    SOON(starts_if(&t, (struct whatif){ .cancel = &(job_id){ 2 }, .cancel_count = 1 }, 3), 10);
    assert_int_equal(starts_if(&t, (struct whatif){ .cancel = &(job_id){ 2 }, .cancel_count = 1 }, 2), -2);
    assert_int_equal(starts_if(&t, (struct whatif){ .release = &(job_id){ 5 }, .release_count = 1 }, 5), 0);
    struct whatif_priority up = { { 3 }, 5 };
    struct whatif w = { .priorities = &up, .priorities_count = 1 };
    SOON(starts_if(&t, w, 3), 10);
    SOON(starts_if(&t, w, 2), 70);
    struct whatif_trial trial = { .user = bytes_str("eve"), .queue = bytes_str("default"), .need.v[RES_CPU] = 1000, .time_limit_ms = MIN(9) };
    struct whatif_plan p = forked(&t, (struct whatif){ .trial = &trial });
    assert_int_equal(p.trial.n, 6);
    assert_int_equal(starts_in(&p, &t, 6), 0);
    free(p.starts);
    end(&t);
}

static void what_if_tells_what_is_not_there(void **state)
{
    (void)state;
    struct story t;
    whatif_world(&t);
    step(&t, (struct sched_event){ .kind = SCHED_CANCEL, .cancel = { { 3 }, TASK_ALL, { 0 }, { 0 } } });
    struct whatif_priority nobody = { { 99 }, 1 };
    const struct { struct whatif w; const char *field; enum err_code code; } bad[] = {
        { { .cancel = &(job_id){ 99 }, .cancel_count = 1 }, "cancel", ERR_NOT_FOUND },
        { { .cancel = &(job_id){ 3 }, .cancel_count = 1 }, "cancel", ERR_CONFLICT },
        { { .release = &(job_id){ 2 }, .release_count = 1 }, "release", ERR_CONFLICT },
        { { .without = &(node_id){ 7 }, .without_count = 1 }, "without", ERR_NOT_FOUND },
        { { .priorities = &nobody, .priorities_count = 1 }, "priorities", ERR_NOT_FOUND },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err err = { 0 };
        struct whatif_plan p;
        struct sched *s = replayed(&t);
        assert_true(sched_whatif(s, &bad[i].w, 1000000, &p, &err) < 0);
        assert_string_equal(err.field, bad[i].field);
        assert_int_equal(err.code, bad[i].code);
        assert_true(err.remedy[0]);
        sched_free(s);
    }
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
    let_in(&t, 2, RULE_TURN, 0);
    let_in(&t, 3, RULE_AHEAD, 0);
    assert_int_equal(n.allocated.v[RES_CPU], 1000); /* never more than there is */
    end(&t);
}

/* Work of a kind that was short once stays so, whatever came after: a snapshot has to tell. */
static void short_work_becomes_long(void **state)
{
    (void)state;
    struct story t;
    begin(&t);
    join(&t, 1, "a", 1);
    for (uint64_t job = 1; job <= 3; job++) {
        submit(&t, REQUEST());
        tick(&t, 0);
        struct message m = { .kind = MSG_FINISHED };
        m.finished.ref = single(job, 1);
        m.finished.token = token(&t, single(job, 1));
        m.finished.result.run_ms = job == 1 ? 0 : 3600000;
        hear(&t, 1, m);
        assert_int_equal(state_of(&t, job), JOB_SUCCEEDED);
    }
    end(&t);
}

/* The journal up to `records`, as an old backup holds it; then a master that accepts that. */
static void put_back(struct story *t, uint64_t records)
{
    const uint8_t *start = (const uint8_t *)t->journal.data, *at = start, *stop = at + t->journal.size;
    struct record r = { 0 };
    while (r.seq < records)
        assert_int_equal(record_decode(&at, stop, &r, NULL), 0);
    t->journal.size = (size_t)(at - start);
    t->seq = records;
    t->config.rollback_jobs = ROLLBACK_JOBS;
    sched_free(t->s);
    t->s = replayed(t);
    struct effects fx;
    sched_start(t->s, 1 + ROLLBACK_EPOCHS, "test", 1, t->now_ms, 1000000 + t->now_ms, &fx);
    tell(t, &fx);
    buf_clear(&t->told);
}

static void inventory(struct story *t, uint64_t session, const struct attempt_ref *refs, size_t count)
{
    static uint64_t seq = 100;
    struct inventory_item items[4];
    for (size_t i = 0; i < count; i++)
        items[i] = (struct inventory_item){ .ref = refs[i], .token = token(t, refs[i]), .phase = PHASE_RUNNING };
    struct message m = { .kind = MSG_INVENTORY };
    m.inventory.seq = ++seq;
    m.inventory.epoch_seen = 1000000000;
    m.inventory.items = items;
    m.inventory.items_count = count;
    hear(t, session, m);
}

static void what_an_old_backup_forgot_is_spared(void **state)
{
    (void)state;
    struct story t;
    struct node_view n;
    begin(&t);
    join(&t, 1, "a", 4);
    submit(&t, REQUEST(.retries = 3));
    submit(&t, REQUEST(.tasks = 2));
    tick(&t, 0);
    finish(&t, 1, single(1, 1), REASON_EXIT, 1);
    uint64_t backup = t.seq;
    tick(&t, 5000);
    tick(&t, 0);
    submit(&t, REQUEST());
    tick(&t, 0);
    assert_int_equal(state_of(&t, 1), JOB_DISPATCHED);
    assert_int_equal(state_of(&t, 3), JOB_DISPATCHED); /* attempt 2 of job 1, and job 3, are not in the backup */
    put_back(&t, backup);
    join(&t, 2, "a", 4);
    buf_clear(&t.told);
    struct attempt_ref held[] = { single(3, 1), single(1, 2), { { 2 }, 0, 1 }, single(1, 1) };
    inventory(&t, 2, held, 4);
    /* What it knows goes on, what it knows to be over is ended, what it does not know is left alone. */
    told(&t, "job.started job=2 task=0 attempt=1 node=1\n-> KILL 1/-1/1\n");
    assert_true(sched_view_node(t.s, (node_id){ 1 }, &n));
    assert_int_equal(n.orphans, 2);
    struct attempt_ref ref;
    enum attempt_phase phase;
    assert_true(sched_view_orphan(t.s, (node_id){ 1 }, 1, &ref, &phase));
    assert_true(attempt_equal(ref, single(1, 2)) && phase == PHASE_RUNNING);
    assert_false(sched_view_orphan(t.s, (node_id){ 1 }, 2, &ref, &phase));
    /* It needs the token of a master of this cluster: else anybody could hide from a kill. */
    struct inventory_item liar = { .ref = single(77, 1), .phase = PHASE_RUNNING };
    struct message m = { .kind = MSG_INVENTORY };
    m.inventory.seq = 1000;
    m.inventory.epoch_seen = 1000000000;
    m.inventory.items = &liar;
    m.inventory.items_count = 1;
    hear(&t, 2, m);
    told(&t, "-> KILL 77/-1/1\n-> START 2/1/1\n");
    assert_true(sched_view_node(t.s, (node_id){ 1 }, &n) && n.orphans == 0);
    /* Their ends are history. */
    finish(&t, 2, single(3, 1), REASON_NONE, 0);
    told(&t, "job.superseded job=3 task=- attempt=1 node=1\n-> REPORT_ACK\n");
    /* Numbers go on where none can have been given. */
    tick(&t, 5000);
    buf_clear(&t.told);
    tick(&t, 0);
    tick(&t, 0);
    struct job_view v;
    sched_view_job(t.s, (job_id){ 1 }, &v);
    assert_int_equal(v.attempts, 1001);
    assert_int_equal(submit(&t, REQUEST()), 2 + ROLLBACK_JOBS + 1);
    tick(&t, 0);
    sched_view_job(t.s, (job_id){ 2 + ROLLBACK_JOBS + 1 }, &v);
    assert_int_equal(v.attempts, 1); /* a job that was made since begins as any */
    finish(&t, 2, single(1, 1001), REASON_EXIT, 1);
    tick(&t, 5000);
    tick(&t, 0);
    sched_view_job(t.s, (job_id){ 1 }, &v);
    assert_int_equal(v.attempts, 1002);
    /* Nobody knows any more that attempt 2 is not an old one: when in doubt, it is left alone. */
    m.inventory.seq = 1001;
    liar = (struct inventory_item){ .ref = single(1, 2), .token = token(&t, single(1, 2)), .phase = PHASE_RUNNING };
    buf_clear(&t.told);
    hear(&t, 2, m);
    assert_null(t.told.size ? strstr(t.told.data, "KILL") : NULL);
    assert_true(sched_view_node(t.s, (node_id){ 1 }, &n) && n.orphans == 1);
    end(&t);
}

/* Lists that were under way since before a master began: what runs now was started after they were made. */
static void an_old_list_takes_nothing_away(void **state)
{
    (void)state;
    struct story t;
    begin(&t);
    join(&t, 1, "a", 2);
    submit(&t, REQUEST());
    tick(&t, 0);
    start(&t, 1, single(1, 1));
    for (uint64_t session = 2; session <= 5; session++) {
        struct message m = hello(1, "a", 2, "");
        m.hello.nonce = m.hello.inventory_seq = session;
        hear(&t, session, m);
        m = (struct message){ .kind = MSG_INVENTORY, .inventory.seq = 10 * session };
        hear(&t, session, m);
    }
    assert_int_equal(state_of(&t, 1), JOB_RUNNING);
    /* One that has heard of this master and does not have it has lost it. */
    for (uint64_t seq = 100; seq <= 101; seq++) {
        struct message m = { .kind = MSG_INVENTORY, .inventory = { .seq = seq, .epoch_seen = 1 } };
        hear(&t, 5, m);
    }
    assert_int_equal(state_of(&t, 1), JOB_RETRY_WAIT);
    end(&t);
}

/* What the simulator does not do to nodes; its end() takes a snapshot after each record. */
static void a_drained_node_stays_drained(void **state)
{
    (void)state;
    struct story t;
    struct node_view n;
    begin(&t);
    join(&t, 1, "a", 2);
    join(&t, 2, "b", 2);
    submit(&t, REQUEST());
    tick(&t, 0);
    sched_view_node(t.s, (node_id){ 1 }, &n);
    uint32_t busy = n.running ? 1 : 2;
    step(&t, (struct sched_event){ .kind = SCHED_DRAIN, .node = { { busy }, bytes_str("disk") } });
    step(&t, (struct sched_event){ .kind = SCHED_DRAIN, .node = { { 3 - busy }, bytes_str("") } });
    /* Its worker goes and comes back: drained all the same. */
    step(&t, (struct sched_event){ .kind = SCHED_SESSION_CLOSED, .session.session = busy });
    join(&t, 3, busy == 1 ? "a" : "b", 2);
    sched_view_node(t.s, (node_id){ busy }, &n);
    assert_true(n.state == NODE_DRAINING || n.state == NODE_DRAINED);
    step(&t, (struct sched_event){ .kind = SCHED_RESUME, .node = { { 3 - busy }, bytes_str("") } });
    sched_view_node(t.s, (node_id){ 3 - busy }, &n);
    assert_int_equal(n.state, NODE_READY);
    end(&t);
}

static int try_restore(struct story *t, struct bytes bytes)
{
    struct err err = { 0 };
    struct sched *s = sched_new(&t->config);
    struct sched_restore *r = sched_restore_new(s);
    int rc = sched_restore_piece(r, bytes, &err);
    if (rc == 0)
        rc = sched_restore_end(r, &err);
    assert_true(rc == 0 || err.text[0]);
    sched_restore_free(r);
    sched_free(s);
    return rc;
}

/* Checksums are the store's affair: here nothing may be read or written that is not there. */
static void a_damaged_snapshot_does_no_harm(void **state)
{
    (void)state;
    struct story t;
    begin(&t);
    join(&t, 1, "a", 3);
    submit(&t, REQUEST(.tasks = 6, .limit = 4, .retries = 2, .backoff_ms = 100000, .backoff_max_ms = 100000));
    submit(&t, REQUEST(.after = &(struct after){ { 1 }, AFTER_ANY }, .after_count = 1));
    submit(&t, REQUEST(.begin_wall_ms = 5000000, .deadline_wall_ms = 9000000, .held = true));
    submit(&t, REQUEST(.priority = 9));
    tick(&t, 0);
    finish(&t, 1, (struct attempt_ref){ { 1 }, 0, 1 }, REASON_EXIT, 3);
    finish(&t, 1, single(4, 1), REASON_NONE, 0);
    struct sched *again = replayed(&t);
    struct buf whole = BUF_INIT;
    sched_snapshot(again, add_piece, &whole);
    sched_free(again);
    for (size_t cut = 0; cut < whole.size; cut++)
        assert_true(try_restore(&t, bytes_of(whole.data, cut)) < 0);
    for (size_t at = 0; at < whole.size; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            autofree char *copy = mem_copy(whole.data, whole.size);
            copy[at] = (char)(copy[at] ^ (1 << bit));
            try_restore(&t, bytes_of(copy, whole.size));
        }
    whole.data[1]++; /* the version */
    assert_int_equal(try_restore(&t, buf_bytes(&whole)), -(int)ERR_STALE);
    buf_fini(&whole);
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
        cmocka_unit_test(each_due_time_comes_once),
        cmocka_unit_test(more_memory_is_asked_for_step_by_step),
        cmocka_unit_test(an_array_keeps_its_limit),
        cmocka_unit_test(tasks_wait_as_their_array_does),
        cmocka_unit_test(dependencies_open_and_close),
        cmocka_unit_test(a_cancel_is_final),
        cmocka_unit_test(a_gang_starts_as_a_whole),
        cmocka_unit_test(a_gang_fails_and_is_tried_again_as_a_whole),
        cmocka_unit_test(a_gang_survives_its_nodes),
        cmocka_unit_test(a_gang_is_cancelled_as_a_whole),
        cmocka_unit_test(a_gang_counts_as_many_against_limits),
        cmocka_unit_test(a_silent_node_is_waited_for_then_left),
        cmocka_unit_test(priority_goes_first_and_nobody_starves),
        cmocka_unit_test(nothing_passes_when_asked),
        cmocka_unit_test(shares_change_whose_turn_it_is_within_a_cycle),
        cmocka_unit_test(easy_lets_pass_what_ends_in_time),
        cmocka_unit_test(easy_lets_pass_what_needs_no_more_than_is_over),
        cmocka_unit_test(easy_holds_back_what_would_delay_the_head),
        cmocka_unit_test(why_names_dimension_and_numbers),
        cmocka_unit_test(bad_requests_are_refused_by_field),
        cmocka_unit_test(greedy_lets_pass_whatever_has_room),
        cmocka_unit_test(a_plan_lets_in_whom_it_has_a_place_for),
        cmocka_unit_test(places_are_kept_by_what_a_user_usually_takes),
        cmocka_unit_test(jobs_go_only_where_they_may),
        cmocka_unit_test(labels_change_with_their_worker),
        cmocka_unit_test(what_if_nothing_changes_it_is_the_plan),
        cmocka_unit_test(what_if_there_were_more_nodes),
        cmocka_unit_test(what_if_a_node_was_gone),
        cmocka_unit_test(what_if_jobs_were_cancelled_raised_released_or_tried),
        cmocka_unit_test(what_if_tells_what_is_not_there),
        cmocka_unit_test(short_work_is_sent_ahead),
        cmocka_unit_test(short_work_becomes_long),
        cmocka_unit_test(a_lease_is_kept_another_way),
        cmocka_unit_test(what_an_old_backup_forgot_is_spared),
        cmocka_unit_test(an_old_list_takes_nothing_away),
        cmocka_unit_test(a_drained_node_stays_drained),
        cmocka_unit_test(a_damaged_snapshot_does_no_harm),
        cmocka_unit_test(job_table_is_total),
        cmocka_unit_test(records_survive_their_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
