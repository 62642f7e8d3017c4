#include "store/store_conformance.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs the four above. */
#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/prng.h"
#include "io/loop.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* --- the rig --- */

static void on_commit(void *arg, enum store_outcome outcome, const struct err *err)
{
    struct store_rig *rig = arg;
    rig->commits++;
    rig->outcome = outcome;
    assert_int_equal(err == NULL, outcome == STORE_COMMITTED);
    rig->err = err ? *err : (struct err){ .code = ERR_OK };
    void (*then)(struct store_rig *) = rig->then;
    rig->then = NULL;
    if (then)
        then(rig);
}

void rig_open(struct store_rig *rig)
{
    struct store_events events = { rig, on_commit };
    struct store_meta meta;
    struct err err = { .code = ERR_OK };
    rig->store = rig->world->open(rig->place, rig->loop, &events, &err);
    if (!rig->store)
        fail_msg("open: %s", err.text);
    rig->store->ops->meta(rig->store, &meta);
    rig->seq = meta.last_seq;
    rig->epoch = meta.epoch;
}

void rig_close(struct store_rig *rig)
{
    rig->store->ops->close(rig->store);
    rig->store = NULL;
}

void rig_reopen(struct store_rig *rig)
{
    rig_close(rig);
    rig_open(rig);
}

void rig_begin(struct store_rig *rig, const struct store_batch *batch)
{
    rig->commits = 0;
    rig->store->ops->append(rig->store, batch);
}

enum store_outcome rig_wait(struct store_rig *rig)
{
    while (rig->commits == 0)
        loop_turn(rig->loop, -1);
    assert_int_equal(rig->commits, 1);
    return rig->outcome;
}

enum store_outcome rig_append(struct store_rig *rig, const struct store_batch *batch)
{
    rig_begin(rig, batch);
    return rig_wait(rig);
}

void rig_number(struct store_rig *rig, struct record *records, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        records[i].seq = ++rig->seq;
        records[i].at_wall_ms = 1000 * (int64_t)rig->seq;
    }
}

void rig_commit(struct store_rig *rig, struct record *records, size_t count, const struct store_job *jobs,
                size_t jobs_count)
{
    rig_number(rig, records, count);
    struct store_batch batch = { .records = records, .records_count = count, .jobs = jobs, .jobs_count = jobs_count,
                                 .epoch = rig->epoch };
    if (rig_append(rig, &batch) != STORE_COMMITTED)
        fail_msg("not committed: %s", rig->err.text);
}

void rig_lead(struct store_rig *rig, uint64_t epoch)
{
    struct record r = { .kind = EV_EPOCH, .epoch = { .epoch = epoch, .version = bytes_str("test") } };
    rig->epoch = epoch;
    rig_commit(rig, &r, 1, NULL, 0);
}

struct record t_submitted(uint64_t job, uint32_t tasks)
{
    return (struct record){ .kind = EV_SUBMITTED, .submitted = { .job = job, .tasks = tasks, .name = bytes_str("n") } };
}

struct record t_assigned(uint64_t job, uint32_t task, uint32_t attempt, uint32_t node)
{
    return (struct record){ .kind = EV_ASSIGNED, .assigned = { job, task, attempt, node, 0, RULE_BESIDE, 7 } };
}

struct record t_started(uint64_t job, uint32_t task, uint32_t attempt, uint32_t node)
{
    return (struct record){ .kind = EV_STARTED, .started = { job, task, attempt, node } };
}

struct record t_ended(uint64_t job, uint32_t task, uint32_t attempt, uint32_t node, uint32_t final)
{
    return (struct record){ .kind = EV_ENDED,
                            .ended = { .job = job, .task = task, .attempt = attempt, .node = node, .final = final,
                                       .exit_code = attempt, .run_ms = 7, .cpu_ms = 5, .rss_max_bytes = 4096,
                                       .stdout_bytes = 11, .stderr_bytes = 12, .reason = final == JOB_FAILED } };
}

struct store_job t_job(uint64_t job, const char *spec, const char *owner, const char *key)
{
    return (struct store_job){
        { job }, bytes_str(spec), bytes_str(owner), bytes_str(key), bytes_str(key ? "digest" : NULL)
    };
}

static struct record t_cancel(uint64_t job, uint32_t task, uint32_t final)
{
    return (struct record){ .kind = EV_CANCEL, .cancel = { .job = job, .task = task, .final = final } };
}

static struct record t_held(uint64_t job)
{
    return (struct record){ .kind = EV_HELD, .held = { .job = job, .reason = bytes_str("wait") } };
}

static struct record t_array_ended(uint64_t job)
{
    return (struct record){ .kind = EV_ARRAY_ENDED, .array_ended = { .job = job, .final = JOB_FAILED } };
}

/* --- comparing --- */

struct seen {
    uint64_t numbers[4096];
    size_t count;
    struct buf bytes; /* the records, encoded */
    size_t stop_at;   /* fail at this one; 0: never */
};

static int see(void *arg, const struct record *r, struct err *err)
{
    struct seen *s = arg;
    if (s->stop_at && s->count + 1 == s->stop_at)
        return err_set(err, ERR_TIMEOUT, "enough");
    check(s->count < COUNT(s->numbers));
    s->numbers[s->count++] = r->seq;
    record_encode(&s->bytes, r);
    return 0;
}

static void see_event(void *arg, const struct record *r)
{
    see(arg, r, NULL);
}

static void replay_all(struct store_rig *rig, struct seen *s)
{
    struct err err;
    *s = (struct seen){ .count = 0 };
    if (rig->store->ops->replay(rig->store, 1, 0, see, s, &err) < 0)
        fail_msg("replay: %s", err.text);
    for (size_t i = 0; i < s->count; i++)
        assert_int_equal(s->numbers[i], i + 1);
}

static size_t stored(struct store_rig *rig)
{
    struct seen *s = mem_alloc(sizeof *s);
    replay_all(rig, s);
    size_t count = s->count;
    buf_fini(&s->bytes);
    free(s);
    return count;
}

/* --- tests --- */

static void test_fresh(void **state)
{
    struct store_rig *rig = *state;
    struct store_meta meta, again;
    rig->store->ops->meta(rig->store, &meta);
    assert_true(meta.created);
    assert_int_equal(meta.epoch, 0);
    assert_int_equal(meta.last_seq, 0);
    assert_int_equal(stored(rig), 0);
    rig_reopen(rig);
    rig->store->ops->meta(rig->store, &again);
    assert_false(again.created);
    assert_memory_equal(meta.cluster, again.cluster, sizeof meta.cluster);
    assert_memory_equal(meta.token_key, again.token_key, sizeof meta.token_key);
    assert_memory_not_equal(meta.cluster, meta.token_key, sizeof meta.cluster);
}

static void test_order(void **state)
{
    struct store_rig *rig = *state;
    struct buf expected = BUF_INIT;
    rig_lead(rig, 1);
    autofree char *longest = mem_zero(1, RECORD_STR_MAX);
    memset(longest, 'x', RECORD_STR_MAX);
    autofree struct record *records = mem_zero(1500, sizeof *records);
    for (size_t i = 0; i < 1500; i++) {
        if (i % 100 == 99)
            records[i] =
                (struct record){ .kind = EV_NODE_STATE, .node_state = { 7, NODE_READY, bytes_of(longest, i * 40) } };
        else
            records[i] = t_submitted(i + 1, 0);
    }
    rig_commit(rig, records, 1500, NULL, 0);
    struct record *first = &(struct record){ .kind = EV_EPOCH, .seq = 1, .at_wall_ms = 1000,
                                             .epoch = { .epoch = 1, .version = bytes_str("test") } };
    record_encode(&expected, first);
    for (size_t i = 0; i < 1500; i++)
        record_encode(&expected, &records[i]);
    for (int round = 0; round < 2; round++) {
        struct seen *s = mem_alloc(sizeof *s);
        replay_all(rig, s);
        assert_int_equal(s->count, 1501);
        assert_true(bytes_equal(buf_bytes(&s->bytes), buf_bytes(&expected)));
        buf_fini(&s->bytes);
        free(s);
        rig_reopen(rig);
    }
    buf_fini(&expected);
}

static void test_replay_bounds(void **state)
{
    struct store_rig *rig = *state;
    struct record records[1000];
    rig_lead(rig, 1);
    for (int batch = 0; batch < 3; batch++) {
        for (size_t i = 0; i < COUNT(records); i++)
            records[i] = t_submitted((uint64_t)batch * 1000 + i + 1, 0);
        rig_commit(rig, records, COUNT(records), NULL, 0);
    }
    static const struct { uint64_t from, max; size_t count; } cases[] = {
        { 0, 0, 3001 }, { 1, UINT64_MAX, 3001 }, { 1, 1, 1 }, { 700, 10, 10 }, { 3000, 10, 2 }, { 3001, 0, 1 },
        { 3002, 0, 0 }, { UINT64_MAX, 0, 0 },
    };
    struct seen *s = mem_alloc(sizeof *s);
    for (size_t i = 0; i < COUNT(cases); i++) {
        *s = (struct seen){ .count = 0 };
        assert_int_equal(rig->store->ops->replay(rig->store, cases[i].from, cases[i].max, see, s, NULL), 0);
        assert_int_equal(s->count, cases[i].count);
        for (size_t k = 0; k < s->count; k++)
            assert_int_equal(s->numbers[k], (cases[i].from ? cases[i].from : 1) + k);
        buf_fini(&s->bytes);
    }
    struct err err = { .code = ERR_OK };
    *s = (struct seen){ .stop_at = 600 };
    assert_int_equal(rig->store->ops->replay(rig->store, 1, 0, see, s, &err), -(int)ERR_TIMEOUT);
    assert_int_equal(err.code, ERR_TIMEOUT);
    assert_string_equal(err.text, "enough");
    assert_int_equal(s->count, 599);
    buf_fini(&s->bytes);
    free(s);
}

static void test_epoch(void **state)
{
    struct store_rig *rig = *state;
    struct store_meta meta;
    struct record r = t_held(1);
    struct store_batch batch = { .records = &r, .records_count = 1, .epoch = 1 };
    r.seq = 1;
    assert_int_equal(rig_append(rig, &batch), STORE_STALE); /* Nobody leads yet. */
    rig_lead(rig, 3);
    r.seq = 2;
    batch.epoch = 2;
    assert_int_equal(rig_append(rig, &batch), STORE_STALE);
    assert_int_equal(rig->err.code, ERR_STALE);
    batch.epoch = 4;
    assert_int_equal(rig_append(rig, &batch), STORE_STALE);
    struct record lower = { .kind = EV_EPOCH, .seq = 2, .epoch = { .epoch = 2 } };
    struct store_batch take = { .records = &lower, .records_count = 1, .epoch = 2 };
    assert_int_equal(rig_append(rig, &take), STORE_STALE);
    batch.epoch = 3;
    assert_int_equal(rig_append(rig, &batch), STORE_COMMITTED);
    rig->seq = 2;
    rig_lead(rig, 9);
    batch.epoch = 3;
    r.seq = 4;
    assert_int_equal(rig_append(rig, &batch), STORE_STALE);
    rig->store->ops->meta(rig->store, &meta);
    assert_int_equal(meta.epoch, 9);
    assert_int_equal(meta.last_seq, 3);
    assert_int_equal(stored(rig), 3);
    rig_reopen(rig);
    assert_int_equal(rig->epoch, 9);
    assert_int_equal(rig->seq, 3);
}

/* The batch is a bug of its maker: nothing of it is kept, and nothing is taken any more. */
static void expect_refused(struct store_rig *rig, struct record *records, size_t count, const struct store_job *jobs,
                           size_t jobs_count, const struct store_tail *tails, size_t tails_count)
{
    struct store_meta before, after;
    rig->store->ops->meta(rig->store, &before);
    struct store_batch batch = { .records = records, .records_count = count, .jobs = jobs, .jobs_count = jobs_count,
                                 .tails = tails, .tails_count = tails_count, .epoch = rig->epoch };
    assert_int_equal(rig_append(rig, &batch), STORE_UNKNOWN);
    assert_int_equal(rig->err.code, ERR_INTERNAL);
    struct record good = { .kind = EV_NODE_STATE, .seq = before.last_seq + 1, .node_state = { .node = 1 } };
    batch = (struct store_batch){ .records = &good, .records_count = 1, .epoch = rig->epoch };
    assert_int_equal(rig_append(rig, &batch), STORE_UNKNOWN);
    assert_int_equal(rig->err.code, ERR_INTERNAL);
    rig_reopen(rig);
    rig->store->ops->meta(rig->store, &after);
    assert_int_equal(after.last_seq, before.last_seq);
    assert_int_equal(stored(rig), before.last_seq);
    struct buf out = BUF_INIT;
    assert_int_equal(rig->store->ops->spec(rig->store, (job_id){ 99 }, &out, NULL), -(int)ERR_NOT_FOUND);
    job_id job;
    assert_int_equal(rig->store->ops->key(rig->store, bytes_str("eve"), bytes_str("k99"), &job, &out, NULL),
                     -(int)ERR_NOT_FOUND);
    buf_fini(&out);
}

static void refused(struct store_rig *rig, struct record bad)
{
    /* A good job before the bad record: it must vanish with it. */
    struct record records[2] = { t_submitted(99, 0), bad };
    struct store_job job = t_job(99, "spec", "eve", "k99");
    rig_number(rig, records, 2);
    expect_refused(rig, records, 2, &job, 1, NULL, 0);
}

static void test_rules_of_attempts(void **state)
{
    struct store_rig *rig = *state;
    rig_lead(rig, 1);
    struct record records[] = {
        t_submitted(1, 0), t_assigned(1, TASK_SINGLE, 1, 1),
        t_submitted(2, 9), t_assigned(2, 0, 1, 1), t_assigned(2, 1, 1, 1),
        t_submitted(3, 0), t_assigned(3, TASK_SINGLE, 1, 1), t_ended(3, TASK_SINGLE, 1, 1, 0),
    };
    rig_commit(rig, records, COUNT(records), NULL, 0);
    refused(rig, t_assigned(1, TASK_SINGLE, 2, 2));                /* one open attempt per task */
    refused(rig, t_assigned(2, 1, 2, 2));
    refused(rig, t_assigned(3, TASK_SINGLE, 1, 1));                /* one row per attempt */
    refused(rig, t_ended(1, TASK_SINGLE, 2, 1, 0));                /* another attempt than the open one */
    refused(rig, t_ended(2, 2, 1, 1, 0));                          /* none is open */
    refused(rig, t_ended(3, TASK_SINGLE, 1, 1, JOB_SUCCEEDED));    /* ended already */
    struct record revoked = { .kind = EV_REVOKED, .revoked = { .job = 3, .task = TASK_SINGLE, .attempt = 1 } };
    refused(rig, revoked);
    struct record good[] = { t_assigned(2, 2, 1, 1), t_ended(2, 0, 1, 1, 0), t_assigned(2, 0, 2, 1),
                             t_assigned(3, TASK_SINGLE, 2, 1), t_ended(3, TASK_SINGLE, 2, 1, JOB_SUCCEEDED) };
    rig_commit(rig, good, COUNT(good), NULL, 0);
}

static void test_rules_of_ends(void **state)
{
    struct store_rig *rig = *state;
    rig_lead(rig, 1);
    struct record records[] = {
        t_submitted(1, 0),
        t_assigned(1, TASK_SINGLE, 1, 1),
        t_ended(1, TASK_SINGLE, 1, 1, JOB_FAILED),
        t_submitted(2, 9),
        t_assigned(2, 4, 1, 1),
        t_ended(2, 4, 1, 1, JOB_SUCCEEDED),
        t_cancel(2, 5, 1),
        t_array_ended(2),
        t_submitted(3, 0),
        t_cancel(3, TASK_SINGLE, 1),
        t_submitted(4, 0),
        t_cancel(4, TASK_ALL, 0),
        t_submitted(5, 9),
        t_cancel(5, TASK_ALL, 1),
    };
    rig_commit(rig, records, COUNT(records), NULL, 0);
    refused(rig, t_cancel(1, TASK_SINGLE, 1));
    refused(rig, t_cancel(1, TASK_ALL, 1));
    refused(rig, (struct record){ .kind = EV_EXPIRED, .expired = { 1, 1 } });
    refused(rig, t_cancel(2, 4, 1));
    refused(rig, t_cancel(2, 5, 1));
    refused(rig, t_array_ended(2));
    refused(rig, t_cancel(2, TASK_ALL, 1));
    refused(rig, t_cancel(3, TASK_ALL, 1));
    refused(rig, (struct record){ .kind = EV_DEPENDENCY_FAILED, .dependency_failed = { 3, 1 } });
    refused(rig, t_array_ended(5));
    struct record again[] = { t_assigned(3, TASK_SINGLE, 1, 1) };
    rig_commit(rig, again, 1, NULL, 0);
    refused(rig, t_ended(3, TASK_SINGLE, 1, 1, JOB_SUCCEEDED)); /* ended by the cancel */
    struct record good[] = { t_cancel(4, TASK_ALL, 1), t_cancel(2, 6, 1), t_ended(3, TASK_SINGLE, 1, 1, 0) };
    rig_commit(rig, good, COUNT(good), NULL, 0);
}

static void test_rules_of_jobs(void **state)
{
    struct store_rig *rig = *state;
    rig_lead(rig, 1);
    struct record records[] = { t_submitted(1, 0), t_submitted(2, 0), t_submitted(3, 0) };
    struct store_job jobs[] = { t_job(2, "two", "bob", "k1"), t_job(1, "one", "alice", "k1"),
                                t_job(3, "three", "alice", NULL) };
    rig_commit(rig, records, 3, jobs, 3);
    refused(rig, t_submitted(1, 0));
    struct record batch[2] = { t_submitted(99, 0), t_submitted(98, 0) };
    struct store_job same_key[2] = { t_job(99, "spec", "alice", "k1"), t_job(98, "spec", "eve", NULL) };
    rig_number(rig, batch, 2);
    expect_refused(rig, batch, 2, same_key, 2, NULL, 0);
    struct store_job twice[2] = { t_job(99, "spec", "eve", "k99"), t_job(98, "spec", "eve", "k99") };
    rig_number(rig, batch, 2);
    expect_refused(rig, batch, 2, twice, 2, NULL, 0);
    struct store_job stray[2] = { t_job(99, "spec", "eve", "k99"), t_job(97, "spec", "eve", NULL) };
    rig_number(rig, batch, 2);
    expect_refused(rig, batch, 2, stray, 2, NULL, 0);
    struct store_tail tail = { { { 99 }, TASK_SINGLE, 1 }, bytes_str("a"), bytes_str("b"), bytes_str("") };
    rig_number(rig, batch, 2);
    expect_refused(rig, batch, 2, NULL, 0, &tail, 1);
    batch[0].seq = rig->seq + 2; /* a hole */
    batch[1].seq = rig->seq + 3;
    expect_refused(rig, batch, 2, NULL, 0, NULL, 0);
    batch[0].seq = rig->seq;     /* a number used before */
    batch[1].seq = rig->seq + 1;
    expect_refused(rig, batch, 2, NULL, 0, NULL, 0);
}

static bool begins(struct store_rig *rig, const char *owner, const char *beginning)
{
    bool used = false;
    struct err err;
    assert_int_equal(rig->store->ops->key_begins(rig->store, bytes_str(owner), bytes_str(beginning), &used, &err), 0);
    return used;
}

static void test_specs_and_keys(void **state)
{
    struct store_rig *rig = *state;
    const struct store_ops *ops = rig->store->ops;
    rig_lead(rig, 1);
    static char big[300000];
    memset(big, 'z', sizeof big);
    struct record records[] = { t_submitted(1, 0), t_submitted(2, 0), t_submitted(3, 0), t_submitted(4, 0) };
    struct store_job jobs[] = { t_job(1, "one", "alice", "key"), t_job(2, "two", "bob", "key"),
                                t_job(3, "three", "alice", NULL) };
    jobs[2].spec = bytes_of(big, sizeof big);
    rig_commit(rig, records, 4, jobs, 3);
    for (int round = 0; round < 4; round++) {
        struct buf out = BUF_INIT;
        job_id job;
        if (round % 2)
            ops->hold(rig->store, true);
        assert_int_equal(ops->spec(rig->store, (job_id){ 1 }, &out, NULL), 0);
        assert_string_equal(out.data, "one");
        assert_int_equal(ops->spec(rig->store, (job_id){ 3 }, &out, NULL), 0); /* adds */
        assert_int_equal(out.size, 3 + sizeof big);
        assert_memory_equal(out.data + 3, big, sizeof big);
        buf_clear(&out);
        assert_int_equal(ops->spec(rig->store, (job_id){ 4 }, &out, NULL), -(int)ERR_NOT_FOUND); /* came without */
        assert_int_equal(ops->spec(rig->store, (job_id){ 5 }, &out, NULL), -(int)ERR_NOT_FOUND);
        assert_int_equal(ops->key(rig->store, bytes_str("bob"), bytes_str("key"), &job, &out, NULL), 0);
        assert_int_equal(job.n, 2);
        assert_string_equal(out.data, "digest");
        assert_int_equal(ops->key(rig->store, bytes_str("alice"), bytes_str("key"), &job, NULL, NULL), 0);
        assert_int_equal(job.n, 1);
        struct err err = { .code = ERR_OK };
        assert_int_equal(ops->key(rig->store, bytes_str("carol"), bytes_str("key"), &job, NULL, &err),
                         -(int)ERR_NOT_FOUND);
        assert_int_equal(err.code, ERR_NOT_FOUND);
        assert_int_equal(ops->key(rig->store, bytes_str("alice"), bytes_str(""), &job, NULL, NULL),
                         -(int)ERR_NOT_FOUND);
        assert_true(begins(rig, "alice", "k"));
        assert_true(begins(rig, "alice", "key"));
        assert_false(begins(rig, "alice", "key1"));
        assert_false(begins(rig, "alice", "j"));
        assert_false(begins(rig, "alice", "l"));
        assert_false(begins(rig, "carol", "key"));
        assert_true(begins(rig, "bob", "key"));
        if (round % 2)
            ops->hold(rig->store, false);
        buf_fini(&out);
        rig_reopen(rig);
        ops = rig->store->ops;
    }
}

struct rows {
    struct store_attempt row[64];
    size_t count;
};

static void add_row(void *arg, const struct store_attempt *a)
{
    struct rows *rows = arg;
    check(rows->count < COUNT(rows->row));
    rows->row[rows->count++] = *a;
}

static struct rows attempts_of(struct store_rig *rig, uint64_t job, uint32_t task, uint32_t attempt, size_t max,
                               bool page)
{
    struct rows rows = { .count = 0 };
    struct attempt_ref from = { { job }, task, attempt };
    const struct store_ops *ops = rig->store->ops;
    assert_int_equal((page ? ops->attempts_page : ops->attempts)(rig->store, from, max, add_row, &rows, NULL), 0);
    return rows;
}

static void test_attempts(void **state)
{
    struct store_rig *rig = *state;
    rig_lead(rig, 1);
    struct record first[] = { t_submitted(1, 0), t_submitted(2, 0), t_assigned(1, TASK_SINGLE, 1, 5),
                              t_assigned(2, TASK_SINGLE, 1, 6) };
    struct record second[] = { t_started(1, TASK_SINGLE, 1, 5) };
    struct record third[] = { t_started(1, TASK_SINGLE, 1, 5), t_ended(1, TASK_SINGLE, 1, 5, 0),
                              t_assigned(1, TASK_SINGLE, 2, 7), t_started(1, TASK_SINGLE, 2, 7),
                              t_ended(1, TASK_SINGLE, 2, 7, JOB_FAILED) };
    struct record fourth[] = { { .kind = EV_REVOKED, .revoked = { 2, TASK_SINGLE, 1, 6, REASON_NEVER_STARTED, 0 } },
                               t_assigned(2, TASK_SINGLE, 2, 8) };
    rig_commit(rig, first, COUNT(first), NULL, 0);
    rig_commit(rig, second, COUNT(second), NULL, 0);
    rig_commit(rig, third, COUNT(third), NULL, 0);
    rig_commit(rig, fourth, COUNT(fourth), NULL, 0);
    for (int round = 0; round < 2; round++) {
        struct rows rows = attempts_of(rig, 1, TASK_SINGLE, 0, 10, false);
        assert_int_equal(rows.count, 2);
        struct store_attempt *a = &rows.row[0];
        assert_int_equal(a->ref.attempt, 1);
        assert_int_equal(a->ref.task, TASK_SINGLE);
        assert_int_equal(a->node.n, 5);
        assert_int_equal(a->rule, RULE_BESIDE);
        assert_int_equal(a->over.n, 7);
        assert_int_equal(a->assigned_wall_ms, first[2].at_wall_ms);
        assert_int_equal(a->started_wall_ms, second[0].at_wall_ms); /* the first one counts */
        assert_int_equal(a->ended_wall_ms, third[1].at_wall_ms);
        assert_int_equal(a->final, 0);
        a = &rows.row[1];
        assert_int_equal(a->ref.attempt, 2);
        assert_int_equal(a->started_wall_ms, third[3].at_wall_ms);
        assert_int_equal(a->final, JOB_FAILED);
        assert_int_equal(a->reason, 1);
        assert_int_equal(a->exit_code, 2);
        assert_int_equal(a->run_ms, 7);
        assert_int_equal(a->cpu_ms, 5);
        assert_int_equal(a->rss_max_bytes, 4096);
        assert_int_equal(a->stdout_bytes, 11);
        assert_int_equal(a->stderr_bytes, 12);
        assert_int_equal(attempts_of(rig, 1, TASK_SINGLE, 2, 10, false).row[0].ref.attempt, 2);
        assert_int_equal(attempts_of(rig, 1, TASK_SINGLE, 0, 1, false).count, 1);
        assert_int_equal(attempts_of(rig, 1, TASK_SINGLE, 3, 9, false).count, 0);
        assert_int_equal(attempts_of(rig, 3, TASK_SINGLE, 0, 9, false).count, 0);
        rows = attempts_of(rig, 2, TASK_ALL, 0, 9, false);
        assert_int_equal(rows.count, 2);
        assert_int_equal(rows.row[0].reason, REASON_NEVER_STARTED);
        assert_int_equal(rows.row[0].started_wall_ms, 0);
        assert_int_equal(rows.row[1].node.n, 8); /* still open */
        assert_int_equal(rows.row[1].ended_wall_ms, 0);
        rig_reopen(rig);
    }
}

static void test_attempts_of_arrays(void **state)
{
    struct store_rig *rig = *state;
    rig_lead(rig, 1);
    struct record records[64];
    size_t count = 0;
    records[count++] = t_submitted(1, 10);
    records[count++] = t_submitted(2, 10);
    for (uint32_t task = 10; task-- > 0;) {
        for (uint32_t n = 1; n <= task % 3; n++) {
            records[count++] = t_assigned(1, task, n, 1);
            records[count++] = t_ended(1, task, n, 1, n == task % 3 ? JOB_SUCCEEDED : 0);
        }
        records[count++] = t_assigned(2, task, 1, 1);
    }
    records[count++] = t_cancel(1, 0, 1); /* an end, but no attempt */
    rig_commit(rig, records, count, NULL, 0);
    struct rows all = attempts_of(rig, 1, TASK_ALL, 0, 99, false);
    assert_int_equal(all.count, 9); /* 1+2 for each of the tasks 1 2, 4 5, 7 8 */
    for (size_t i = 1; i < all.count; i++)
        assert_true(
            all.row[i].ref.task > all.row[i - 1].ref.task ||
            (all.row[i].ref.task == all.row[i - 1].ref.task && all.row[i].ref.attempt > all.row[i - 1].ref.attempt));
    assert_int_equal(attempts_of(rig, 1, 5, 0, 99, false).count, 2);
    assert_int_equal(attempts_of(rig, 1, 5, 2, 99, false).count, 1);
    assert_int_equal(attempts_of(rig, 1, 0, 0, 99, false).count, 0);
    assert_int_equal(attempts_of(rig, 2, TASK_ALL, 7, 99, false).count, 10);
    struct attempt_ref at = { { 1 }, 0, 0 };
    size_t paged = 0;
    for (;;) {
        struct rows page = attempts_of(rig, 1, at.task, at.attempt, 2, true);
        for (size_t i = 0; i < page.count; i++, paged++)
            assert_true(attempt_equal(page.row[i].ref, all.row[paged].ref));
        if (page.count < 2)
            break;
        at = page.row[page.count - 1].ref;
        at.attempt++;
    }
    assert_int_equal(paged, all.count);
}

static void test_tails(void **state)
{
    struct store_rig *rig = *state;
    rig_lead(rig, 1);
    struct record records[] = {
        t_submitted(1, 9),      t_assigned(1, 0, 1, 1),          t_assigned(1, 1, 1, 1),         t_assigned(1, 2, 1, 1),
        t_ended(1, 0, 1, 1, 0), t_ended(1, 1, 1, 1, JOB_FAILED), t_ended(1, 2, 1, 1, JOB_FAILED)
    };
    static char big[65536];
    memset(big, 'o', sizeof big);
    struct store_tail tails[] = { { { { 1 }, 2, 1 }, bytes_of(big, sizeof big), bytes_str(""), bytes_str("") },
                                  { { { 1 }, 0, 1 }, bytes_str("out"), bytes_str("err"), bytes_str("") },
                                  { { { 1 }, 1, 1 }, bytes_str(""), bytes_str(""), bytes_str("series") } };
    rig_number(rig, records, COUNT(records));
    struct store_batch batch = { .records = records, .records_count = COUNT(records), .tails = tails, .tails_count = 3,
                                 .epoch = 1 };
    assert_int_equal(rig_append(rig, &batch), STORE_COMMITTED);
    for (int round = 0; round < 2; round++) {
        struct buf out = BUF_INIT, errs = BUF_INIT;
        const struct store_ops *ops = rig->store->ops;
        assert_int_equal(ops->tails(rig->store, (struct attempt_ref){ { 1 }, 0, 1 }, &out, &errs, NULL), 0);
        assert_string_equal(out.data, "out");
        assert_string_equal(errs.data, "err");
        buf_clear(&out);
        buf_clear(&errs);
        assert_int_equal(ops->tails(rig->store, (struct attempt_ref){ { 1 }, 2, 1 }, &out, &errs, NULL), 0);
        assert_int_equal(out.size, sizeof big);
        assert_int_equal(errs.size, 0);
        assert_int_equal(ops->tails(rig->store, (struct attempt_ref){ { 1 }, 1, 1 }, &out, &errs, NULL),
                         -(int)ERR_NOT_FOUND);
        assert_int_equal(ops->tails(rig->store, (struct attempt_ref){ { 2 }, 0, 1 }, &out, &errs, NULL),
                         -(int)ERR_NOT_FOUND);
        buf_clear(&out);
        assert_int_equal(ops->usage(rig->store, (struct attempt_ref){ { 1 }, 1, 1 }, &out, NULL), 0);
        assert_string_equal(out.data, "series");
        assert_int_equal(ops->usage(rig->store, (struct attempt_ref){ { 1 }, 0, 1 }, &out, NULL), -(int)ERR_NOT_FOUND);
        assert_int_equal(ops->usage(rig->store, (struct attempt_ref){ { 2 }, 0, 1 }, &out, NULL), -(int)ERR_NOT_FOUND);
        buf_fini(&out);
        buf_fini(&errs);
        rig_reopen(rig);
    }
}

static void append_again(struct store_rig *rig)
{
    static struct record r; /* borrowed until it is committed */
    r = t_held(1);
    rig_number(rig, &r, 1);
    struct store_batch batch = { .records = &r, .records_count = 1, .epoch = 1 };
    assert_int_equal(rig->outcome, STORE_COMMITTED);
    rig->store->ops->append(rig->store, &batch);
}

static void test_append_inside_commit(void **state)
{
    struct store_rig *rig = *state;
    rig_lead(rig, 1);
    rig->then = append_again;
    struct record r = t_submitted(1, 0);
    rig_number(rig, &r, 1);
    struct store_batch batch = { .records = &r, .records_count = 1, .epoch = 1 };
    rig_begin(rig, &batch);
    while (rig->commits < 2)
        loop_turn(rig->loop, -1);
    assert_int_equal(rig->outcome, STORE_COMMITTED);
    assert_int_equal(stored(rig), 3);
}

static void test_close_in_flight(void **state)
{
    struct store_rig *rig = *state;
    rig_lead(rig, 1);
    struct record r = t_submitted(1, 0);
    rig_number(rig, &r, 1);
    {
        struct store_batch batch = { .records = &r, .records_count = 1, .epoch = 1 };
        rig_begin(rig, &batch);
        memset(&batch, 0xff, sizeof batch); /* borrowed only during the call */
    }
    rig_close(rig);
    assert_int_equal(rig->commits, 1);
    assert_int_equal(rig->outcome, STORE_COMMITTED);
    rig_open(rig);
    assert_int_equal(stored(rig), 2);
}

static void ignore_commit(void *arg, enum store_outcome outcome, const struct err *err)
{
    (void)arg, (void)outcome, (void)err;
}

static void test_second_opener(void **state)
{
    struct store_rig *rig = *state;
    struct store_events events = { NULL, ignore_commit };
    struct err err = { .code = ERR_OK };
    rig_lead(rig, 1);
    assert_null(rig->world->open(rig->place, rig->loop, &events, &err));
    assert_int_equal(err.code, ERR_LOCKED);
    rig_lead(rig, 2); /* The first one has not noticed. */
    assert_int_equal(stored(rig), 2);
}

static void test_stats(void **state)
{
    struct store_rig *rig = *state;
    struct store_stats stats;
    rig_lead(rig, 1);
    struct record records[] = { t_submitted(1, 0), t_submitted(2, 0) };
    rig_commit(rig, records, 2, NULL, 0);
    rig->store->ops->stats(rig->store, &stats);
    assert_int_equal(stats.commits, 2);
    assert_int_equal(stats.records, 3);
    assert_int_equal(stats.errors, 0);
    assert_true(stats.bytes > 0);
    assert_true(stats.free_bytes > 0);
    assert_false(stats.low);
    assert_true(rig->store->ops->refill_reserve(rig->store));
    assert_false(rig->store->ops->use_reserve(rig->store));
}

/* --- a long random history, checked against the journal itself --- */

#define HISTORY_JOBS 12
#define HISTORY_TASKS 5

struct history {
    struct prng prng;
    struct record records[700];
    size_t count;
    uint64_t jobs;
    struct {
        bool array, over;
        struct {
            uint32_t attempt;
            bool open, over;
        } task[HISTORY_TASKS];
    } job[HISTORY_JOBS + 1];
};

static void history_task(struct history *h, uint64_t job, struct record *r)
{
    bool array = h->job[job].array;
    uint32_t place = array ? (uint32_t)prng_below(&h->prng, HISTORY_TASKS) : 0, task = array ? place : TASK_SINGLE;
    uint32_t node = 1 + (uint32_t)prng_below(&h->prng, 9);
    if (h->job[job].task[place].over) {
        *r = t_held(job);
    } else if (!h->job[job].task[place].open) {
        *r = t_assigned(job, task, ++h->job[job].task[place].attempt, node);
        h->job[job].task[place].open = true;
    } else if (prng_chance(&h->prng, 0.3)) {
        *r = t_started(job, task, h->job[job].task[place].attempt, node); /* sometimes more than once */
    } else {
        bool final = prng_chance(&h->prng, 0.05);
        *r = t_ended(job, task, h->job[job].task[place].attempt, node, final ? JOB_FAILED : 0);
        h->job[job].task[place].open = false;
        h->job[job].task[place].over = final;
    }
}

static void history_next(struct history *h)
{
    struct record *r = &h->records[h->count++];
    if (h->jobs < HISTORY_JOBS && (h->jobs == 0 || prng_chance(&h->prng, 0.02))) {
        h->job[++h->jobs].array = prng_chance(&h->prng, 0.5);
        *r = t_submitted(h->jobs, h->job[h->jobs].array ? HISTORY_TASKS : 0);
        return;
    }
    uint64_t job = 1 + prng_below(&h->prng, h->jobs);
    if (prng_chance(&h->prng, 0.1))
        *r = (struct record){ .kind = EV_NODE_STATE, .node_state = { (uint32_t)job, NODE_READY, { NULL, 0 } } };
    else if (prng_chance(&h->prng, 0.1))
        *r = prng_chance(&h->prng, 0.5) ? t_held(job) : t_cancel(job, TASK_ALL, 0);
    else
        history_task(h, job, r);
}

struct filter {
    uint64_t job, from;
    size_t max;
    struct seen seen;
};

static int filter_record(void *arg, const struct record *r, struct err *err)
{
    struct filter *f = arg;
    if (record_subject(r).job.n == f->job && r->seq >= f->from && f->seen.count < f->max)
        return see(&f->seen, r, err);
    return 0;
}

static void compare_events(struct store_rig *rig, uint64_t job, uint64_t from, size_t max)
{
    struct filter *expected = mem_zero(1, sizeof *expected);
    struct seen *got = mem_zero(1, sizeof *got);
    expected->job = job;
    expected->from = from;
    expected->max = max;
    struct err err = { .code = ERR_OK };
    assert_int_equal(rig->store->ops->replay(rig->store, 1, 0, filter_record, expected, NULL), 0);
    if (rig->store->ops->job_events(rig->store, (job_id){ job }, from, max, see_event, got, &err) < 0)
        fail_msg("events of job %" PRIu64 ": %s", job, err.text);
    assert_int_equal(got->count, expected->seen.count);
    assert_true(bytes_equal(buf_bytes(&got->bytes), buf_bytes(&expected->seen.bytes)));
    buf_fini(&got->bytes);
    buf_fini(&expected->seen.bytes);
    free(got);
    free(expected);
}

static void test_random_history(void **state)
{
    struct store_rig *rig = *state;
    struct history *h = mem_zero(1, sizeof *h);
    prng_seed(&h->prng, 20261123);
    rig_lead(rig, 1);
    for (int batch = 0; batch < 40; batch++) {
        size_t count = prng_chance(&h->prng, 0.1) ? COUNT(h->records) : 1 + prng_below(&h->prng, 40);
        h->count = 0;
        while (h->count < count)
            history_next(h);
        rig_commit(rig, h->records, count, NULL, 0);
        if (batch % 13 == 7)
            rig_reopen(rig);
    }
    for (uint64_t job = 1; job <= h->jobs + 1; job++) {
        compare_events(rig, job, 0, SIZE_MAX);
        for (int i = 0; i < 5; i++)
            compare_events(rig, job, 1 + prng_below(&h->prng, rig->seq + 10), 1 + (size_t)prng_below(&h->prng, 50));
    }
    free(h);
}

/* --- running them --- */

static const struct store_world *world_now;
static bool loop_now;

static int setup(void **state)
{
    struct store_rig *rig = mem_zero(1, sizeof *rig);
    rig->world = world_now;
    rig->place = world_now->make();
    rig->loop = loop_now ? loop_new() : NULL;
    rig_open(rig);
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct store_rig *rig = *state;
    if (rig->store)
        rig_close(rig);
    loop_free(rig->loop);
    rig->world->drop(rig->place);
    free(rig);
    return 0;
}

/* --- snapshots --- */

struct pieces {
    struct buf bytes;
    size_t count, stop_at;
};

static void three_pieces(void *arg, void (*emit)(void *to, struct bytes piece), void *to)
{
    const char *text = arg;
    emit(to, bytes_of(text, 1));
    emit(to, bytes_of(text + 1, 2));
    autofree char *large = mem_zero(1, 300000);
    emit(to, bytes_of(large, 300000));
}

static int see_piece(void *arg, struct bytes piece, struct err *err)
{
    struct pieces *p = arg;
    if (p->stop_at && p->count + 1 == p->stop_at)
        return err_set(err, ERR_TIMEOUT, "enough");
    p->count++;
    buf_add(&p->bytes, piece.data, piece.size);
    return 0;
}

static void expect_snapshot(struct store_rig *rig, uint64_t expected_seq, const char *start)
{
    struct pieces p = { .count = 0 };
    struct err err;
    uint64_t seq = 0;
    if (rig->store->ops->snapshot_load(rig->store, &seq, see_piece, &p, &err) < 0)
        fail_msg("%s", err.text);
    assert_true(seq == expected_seq && p.count == 3 && p.bytes.size == 300003);
    assert_memory_equal(p.bytes.data, start, 3);
    buf_fini(&p.bytes);
}

static void test_snapshots(void **state)
{
    struct store_rig *rig = *state;
    const struct store_ops *ops = rig->store->ops;
    struct err err;
    uint64_t seq;
    struct pieces p = { .count = 0 };
    char abc[] = "abc", xyz[] = "xyz";
    assert_int_equal(ops->snapshot_load(rig->store, &seq, see_piece, &p, &err), -(int)ERR_NOT_FOUND);
    rig_lead(rig, 1);
    struct record two[] = { t_submitted(1, 0), t_submitted(2, 0) };
    struct store_job jobs[] = { t_job(1, "a", "", NULL), t_job(2, "b", "", NULL) };
    rig_commit(rig, two, 2, jobs, 2);
    /* Of a moment that was: the end of a batch. */
    assert_int_equal(ops->snapshot_save(rig->store, 2, three_pieces, abc, &err), -(int)ERR_CORRUPT);
    assert_int_equal(ops->snapshot_save(rig->store, 4, three_pieces, abc, &err), -(int)ERR_CORRUPT);
    assert_int_equal(ops->snapshot_save(rig->store, 3, three_pieces, abc, &err), 0);
    expect_snapshot(rig, 3, "abc");
    struct record more[] = { t_submitted(3, 0) };
    struct store_job more_jobs[] = { t_job(3, "c", "", NULL) };
    rig_commit(rig, more, 1, more_jobs, 1);
    expect_snapshot(rig, 3, "abc");
    assert_int_equal(ops->snapshot_save(rig->store, 4, three_pieces, xyz, &err), 0);
    rig_reopen(rig);
    expect_snapshot(rig, 4, "xyz");
    p.stop_at = 2;
    assert_int_equal(rig->store->ops->snapshot_load(rig->store, &seq, see_piece, &p, &err), -(int)ERR_TIMEOUT);
    buf_fini(&p.bytes);
    struct seen s = { .count = 0 };
    assert_int_equal(rig->store->ops->replay_apart(rig->store, 3, 1, see, &s, &err), 0);
    assert_true(s.count == 1 && s.numbers[0] == 3);
    buf_fini(&s.bytes);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int store_conformance(const struct store_world *world)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_fresh),
        TEST(test_order),
        TEST(test_replay_bounds),
        TEST(test_epoch),
        TEST(test_rules_of_attempts),
        TEST(test_rules_of_ends),
        TEST(test_rules_of_jobs),
        TEST(test_specs_and_keys),
        TEST(test_attempts),
        TEST(test_attempts_of_arrays),
        TEST(test_tails),
        TEST(test_append_inside_commit),
        TEST(test_close_in_flight),
        TEST(test_second_opener),
        TEST(test_stats),
        TEST(test_random_history),
        TEST(test_snapshots),
    };
    char name[64];
    int failed = 0;
    world_now = world;
    for (int looped = 0; looped < 2; looped++) {
        loop_now = looped;
        snprintf(name, sizeof name, "%s%s", world->name, looped ? "_loop" : "");
        failed += _cmocka_run_group_tests(name, tests, COUNT(tests), NULL, NULL);
    }
    return failed;
}
