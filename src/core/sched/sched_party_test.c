/* sched_party_test.c: limits, tokens, paused queues and shares, on a small cluster with a virtual clock. At the end of each test
 * the journal and a snapshot of it must give the same brain again. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// cmocka.h wants the headers above.
#include <cmocka.h>

#include "base/mem.h"
#include "core/sched/sched_snapshot.h"
#include "core/sched/sched_view.h"

#define START_MS 1700000000000
#define OPEN_MAX 4096

struct open {
    struct attempt_ref ref;
    struct mac128 token;
    int64_t end_ms;
    size_t kind;
};

/* Who submits what: the jobs of one kind have ids of their own. */
struct kind {
    const char *user, *account, *queue, *tokens;
    uint64_t cpus_milli;
    int64_t run_ms, begun;
    double cpu_s; /* used until now */
    int64_t open;
};

static struct sched_config config;
static struct sched *s;
static struct buf journal;
static int64_t now_ms, wake_ms;
static struct open open_[OPEN_MAX];
static size_t open_count;
static struct kind kinds[32];
static size_t kinds_count;
static uint8_t *kind_of_job;
static size_t kind_of_job_cap;
static uint64_t starts_last; /* attempts begun by the last step */

static void effects(const struct effects *fx)
{
    wake_ms = fx->wake_at_ms;
    starts_last = 0;
    for (size_t i = 0; i < fx->records_count; i++)
        record_encode(&journal, &fx->records[i]);
    for (size_t i = 0; i < fx->sends_count; i++) {
        const struct message *m = &fx->sends[i].message;
        if (m->kind != MSG_START)
            continue;
        assert_true(open_count < OPEN_MAX);
        struct kind *k = &kinds[kind_of_job[m->start.ref.job.n]];
        open_[open_count++] =
            (struct open){ m->start.ref, m->start.token, now_ms + k->run_ms, kind_of_job[m->start.ref.job.n] };
        k->begun++;
        k->open++;
        starts_last++;
    }
}

static struct sched_result step(struct sched_event ev)
{
    struct effects fx;
    struct sched_result result;
    ev.now_ms = now_ms;
    ev.wall_ms = START_MS + now_ms;
    sched_step(s, &ev, &fx, &result);
    effects(&fx);
    return result;
}

static void say(const struct message *m)
{
    struct sched_event ev = { .kind = SCHED_MESSAGE };
    ev.message.session = 1;
    ev.message.message = m;
    step(ev);
}

static void begin(uint64_t cpus)
{
    struct effects fx;
    config.ahead_max = 0;
    config.suspect_ms = config.down_ms = config.resend_ms = config.lease_ms = config.grace_start_ms = INT64_MAX / 4;
    s = sched_new(&config);
    sched_start(s, 1, "test", 1, now_ms, START_MS, &fx);
    effects(&fx);
    struct message m = { .kind = MSG_HELLO };
    m.hello.worker = (struct worker_id){ 1, 1 };
    m.hello.incarnation = 1;
    m.hello.name = bytes_str("n1");
    m.hello.boot = m.hello.version = bytes_str("b");
    m.hello.capacity.v[RES_CPU] = cpus * 1000;
    m.hello.capacity.v[RES_MEM] = 1000;
    m.hello.window = UINT32_MAX;
    m.hello.nonce = 1;
    say(&m);
}

static void cycle(void)
{
    do
        step((struct sched_event){ .kind = SCHED_TICK });
    while (wake_ms <= now_ms);
}

static void finish_at(size_t i)
{
    struct open o = open_[i];
    struct message m = { .kind = MSG_FINISHED };
    open_[i] = open_[--open_count];
    kinds[o.kind].open--;
    m.finished.ref = o.ref;
    m.finished.token = o.token;
    m.finished.result.run_ms = kinds[o.kind].run_ms;
    say(&m);
}

/* Whatever ends until then ends, a cycle runs after each instant. */
static void run_until(int64_t to_ms)
{
    cycle();
    for (;;) {
        int64_t next = to_ms;
        for (size_t i = 0; i < open_count; i++)
            next = open_[i].end_ms < next ? open_[i].end_ms : next;
        for (size_t k = 0; k < kinds_count; k++)
            kinds[k].cpu_s += (double)(next - now_ms) / 1000 * (double)kinds[k].open * (double)kinds[k].cpus_milli / 1000;
        now_ms = next;
        for (size_t i = 0; i < open_count;)
            if (open_[i].end_ms <= now_ms)
                finish_at(i);
            else
                i++;
        cycle();
        if (now_ms >= to_ms)
            return;
    }
}

static size_t kind_new(struct kind k)
{
    kinds[kinds_count] = k;
    return kinds_count++;
}

static struct sched_result submit(size_t kind, int64_t priority)
{
    const struct kind *k = &kinds[kind];
    struct sched_event ev = { .kind = SCHED_SUBMIT };
    struct named_resource token = { .count = 1 };
    ev.submit = (struct job_request){ .user = bytes_str(k->user), .queue = bytes_str(k->queue ? k->queue : "default"),
                                      .account = bytes_str(k->account ? k->account : ""), .priority = priority,
                                      .lost_after_ms = INT64_MAX / 2 };
    ev.submit.need.v[RES_CPU] = k->cpus_milli;
    if (k->tokens) {
        snprintf(token.name, sizeof token.name, "%s", k->tokens);
        ev.submit.tokens = &token;
        ev.submit.tokens_count = 1;
    }
    struct sched_result result = step(ev);
    if (result.err.code == ERR_OK) {
        kind_of_job = mem_grow(kind_of_job, &kind_of_job_cap, result.job.n + 1, 1);
        kind_of_job[result.job.n] = (uint8_t)kind;
    }
    return result;
}

static void submit_many(size_t kind, size_t count)
{
    for (size_t i = 0; i < count; i++)
        assert_int_equal(submit(kind, 0).err.code, ERR_OK);
}

static struct sched_result set(enum party_kind kind, const char *name, struct party_settings settings)
{
    struct sched_event ev = { .kind = SCHED_SET };
    ev.set.kind = kind;
    ev.set.name = bytes_str(name);
    ev.set.settings = &settings;
    return step(ev);
}

static struct party_settings plain(void)
{
    struct party_settings set;
    party_settings_default(&set);
    return set;
}

static void set_limit(enum party_kind kind, const char *name, enum limit limit, uint64_t most)
{
    struct party_settings one = plain();
    one.limits.most[limit] = most;
    assert_int_equal(set(kind, name, one).err.code, ERR_OK);
}

/* --- the same brain again --- */

static void take_piece(void *arg, struct bytes piece)
{
    buf_add(arg, piece.data, piece.size);
}

static struct sched *replayed(void)
{
    struct sched *again = sched_new(&config);
    const uint8_t *at = (const uint8_t *)journal.data, *end = at + journal.size;
    struct err err;
    uint64_t seq = 0;
    while (at < end) {
        struct record r;
        assert_int_equal(record_decode(&at, end, &r, &err), 0);
        r.seq = ++seq;
        if (sched_apply(again, &r, &err) < 0)
            fail_msg("%s", err.text);
    }
    return again;
}

static void same_again(void)
{
    struct sched *again = replayed();
    sched_check(again);
    assert_true(sched_view_hash(again) == sched_view_hash(s));
    autobuf struct buf first = BUF_INIT, second = BUF_INIT;
    struct err err;
    sched_snapshot(again, take_piece, &first);
    struct sched *restored = sched_new(&config);
    struct sched_restore *r = sched_restore_new(restored);
    if (sched_restore_piece(r, buf_bytes(&first), &err) < 0 || sched_restore_end(r, &err) < 0)
        fail_msg("%s", err.text);
    sched_restore_free(r);
    sched_check(restored);
    assert_true(sched_view_hash(restored) == sched_view_hash(s));
    sched_snapshot(restored, take_piece, &second);
    assert_true(bytes_equal(buf_bytes(&first), buf_bytes(&second)));
    sched_free(again);
    sched_free(restored);
}

static int setup(void **state)
{
    (void)state;
    sched_config_default(&config);
    config.backfill = BACKFILL_GREEDY;
    now_ms = 0;
    open_count = kinds_count = 0;
    buf_clear(&journal);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sched_check(s);
    same_again();
    sched_free(s);
    buf_fini(&journal);
    free(kind_of_job);
    kind_of_job = NULL;
    kind_of_job_cap = 0;
    return 0;
}

static struct why_report why(uint64_t job)
{
    struct why_report w;
    assert_true(sched_view_why(s, (job_id){ job }, TASK_SINGLE, &w));
    return w;
}

/* --- limits --- */

static void a_paused_queue_starts_nothing(void **state)
{
    (void)state;
    begin(4);
    size_t night = kind_new((struct kind){ .user = "ann", .queue = "night", .cpus_milli = 1000, .run_ms = 1000 });
    size_t other = kind_new((struct kind){ .user = "ann", .cpus_milli = 1000, .run_ms = 1000 });
    struct party_settings paused = plain();
    paused.paused = true;
    paused.reason = bytes_str("maintenance");
    assert_true(set(PARTY_QUEUE, "night", paused).changed);
    assert_false(set(PARTY_QUEUE, "night", paused).changed);
    submit_many(night, 3);
    submit_many(other, 2);
    run_until(10000);
    assert_int_equal(kinds[night].begun, 0);
    assert_int_equal(kinds[other].begun, 2);
    struct why_report w = why(1);
    assert_int_equal(w.primary, WHY_PAUSED);
    assert_true(bytes_equal(w.limits[0].name, bytes_str("night")) && bytes_equal(w.limits[0].reason, bytes_str("maintenance")));
    assert_true(set(PARTY_QUEUE, "night", plain()).changed);
    run_until(10001);
    assert_int_equal(kinds[night].begun, 3);
}

/* A limit on running attempts is kept; what it refuses is told with numbers; raised live it lets in at once. */
static void running_attempts_of_a_user(void **state)
{
    (void)state;
    begin(100);
    size_t ann = kind_new((struct kind){ .user = "ann", .cpus_milli = 1000, .run_ms = 1000 });
    size_t bob = kind_new((struct kind){ .user = "bob", .cpus_milli = 1000, .run_ms = 1000 });
    set_limit(PARTY_USER, "ann", LIMIT_RUNNING, 10);
    submit_many(ann, 50);
    submit_many(bob, 5);
    run_until(500);
    assert_int_equal(kinds[ann].open, 10);
    assert_int_equal(kinds[bob].open, 5);
    struct why_report w = why(11);
    assert_int_equal(w.primary, WHY_LIMIT);
    assert_int_equal(w.limits_count, 1);
    assert_true(w.limits[0].kind == PARTY_USER && bytes_equal(w.limits[0].name, bytes_str("ann")));
    assert_string_equal(w.limits[0].limit, "running");
    assert_true(w.limits[0].used == 10 && w.limits[0].asked == 1 && w.limits[0].most == 10);
    run_until(1000);
    assert_int_equal(kinds[ann].begun, 20);
    assert_int_equal(kinds[ann].open, 10);
    set_limit(PARTY_USER, "ann", LIMIT_RUNNING, 25);
    cycle();
    assert_int_equal(kinds[ann].open, 25);
    set_limit(PARTY_USER, "ann", LIMIT_RUNNING, 5); /* What runs is left alone. */
    run_until(1999);
    assert_int_equal(kinds[ann].open, 25);
    run_until(2000);
    assert_int_equal(kinds[ann].open, 5);
    run_until(60000);
    assert_int_equal(kinds[ann].begun, 50);
}

/* Limits of others, of accounts and those above them, of CPUs; a smaller job of the same user may pass. */
static void limits_of_accounts(void **state)
{
    (void)state;
    begin(100);
    struct party_settings below = plain();
    below.parent = bytes_str("science");
    assert_int_equal(set(PARTY_ACCOUNT, "physics", below).err.code, ERR_OK);
    set_limit(PARTY_ACCOUNT, "science", LIMIT_CPUS, 10000);
    set_limit(PARTY_USER, PARTY_OTHERS, LIMIT_RUNNING, 3);
    size_t wide = kind_new((struct kind){ .user = "ann", .account = "physics", .cpus_milli = 6000, .run_ms = 1000 });
    size_t slim = kind_new((struct kind){ .user = "bob", .account = "physics", .cpus_milli = 1000, .run_ms = 1000 });
    size_t free_ = kind_new((struct kind){ .user = "eve", .cpus_milli = 1000, .run_ms = 1000 });
    submit_many(wide, 2);
    submit_many(slim, 5);
    submit_many(free_, 5);
    run_until(1);
    assert_int_equal(kinds[wide].open, 1);
    assert_int_equal(kinds[slim].open, 3);
    assert_int_equal(kinds[free_].open, 3);
    struct why_report w = why(2);
    assert_true(w.limits[0].kind == PARTY_ACCOUNT && bytes_equal(w.limits[0].name, bytes_str("science")));
    assert_string_equal(w.limits[0].limit, "cpus");
    assert_true(w.limits[0].used == 9000 && w.limits[0].asked == 6000 && w.limits[0].most == 10000);
    set_limit(PARTY_USER, "bob", LIMIT_RUNNING, 1000); /* His own limit counts, not that of the others. */
    cycle();
    assert_int_equal(kinds[slim].open, 4);
    assert_int_equal(set(PARTY_ACCOUNT, "physics", plain()).err.code, ERR_OK); /* Not below science any more. */
    cycle();
    assert_int_equal(kinds[wide].open, 2);
    run_until(20000);
}

static void tokens_are_never_overbooked(void **state)
{
    (void)state;
    begin(100);
    size_t ann = kind_new((struct kind){ .user = "ann", .tokens = "matlab", .cpus_milli = 1000, .run_ms = 1000 });
    assert_int_equal(submit(ann, 0).err.code, ERR_INVALID); /* There is none. */
    struct party_settings two = plain();
    two.total = 2;
    assert_int_equal(set(PARTY_TOKEN, "matlab", two).err.code, ERR_OK);
    submit_many(ann, 7);
    run_until(1);
    assert_int_equal(kinds[ann].open, 2);
    struct why_report w = why(3);
    assert_int_equal(w.primary, WHY_TOKENS);
    assert_true(w.limits[0].used == 2 && w.limits[0].asked == 1 && w.limits[0].most == 2);
    run_until(1500);
    assert_int_equal(kinds[ann].begun, 4);
    two.total = 3;
    set(PARTY_TOKEN, "matlab", two);
    cycle();
    assert_int_equal(kinds[ann].open, 3);
    run_until(10000);
    assert_int_equal(kinds[ann].begun, 7);
}

static void submissions_are_refused(void **state)
{
    (void)state;
    begin(1);
    struct party_settings both = plain();
    both.limits.most[LIMIT_PENDING] = 5;
    set(PARTY_QUEUE, "short", both);
    size_t ann = kind_new((struct kind){ .user = "ann", .queue = "short", .cpus_milli = 1000, .run_ms = 3600000 });
    submit_many(ann, 5);
    struct sched_result full = submit(ann, 0);
    assert_int_equal(full.err.code, ERR_FULL);
    assert_string_equal(full.err.field, "pending");
    assert_non_null(strstr(full.err.text, "queue short has 5 of at most 5 waiting tasks"));
    cycle(); /* One starts. */
    submit_many(ann, 1);
    size_t bob = kind_new((struct kind){ .user = "bob", .cpus_milli = 1000, .run_ms = 3600000 });
    set_limit(PARTY_USER, "bob", LIMIT_SUBMITS, 3);
    submit_many(bob, 3);
    assert_string_equal(submit(bob, 0).err.field, "submits_per_minute");
    run_until(20000); /* A third of a minute: one more. */
    submit_many(bob, 1);
    assert_int_equal(submit(bob, 0).err.code, ERR_FULL);
}

static void settings_are_checked(void **state)
{
    (void)state;
    begin(1);
    struct party_settings bad = plain();
    bad.parent = bytes_str("a");
    assert_string_equal(set(PARTY_ACCOUNT, "a", bad).err.field, "parent");
    assert_int_equal(set(PARTY_ACCOUNT, "b", bad).err.code, ERR_OK);
    bad.parent = bytes_str("b");
    assert_string_equal(set(PARTY_ACCOUNT, "a", bad).err.field, "parent"); /* A loop. */
    assert_int_equal(set(PARTY_ACCOUNT, "c", bad).err.code, ERR_OK);
    bad.parent = bytes_str("c");
    assert_int_equal(set(PARTY_ACCOUNT, "d", bad).err.code, ERR_OK);
    bad.parent = bytes_str("d");
    assert_string_equal(set(PARTY_ACCOUNT, "e", bad).err.field, "parent"); /* Too deep. */
    bad = plain();
    bad.priority = 2000000;
    assert_string_equal(set(PARTY_QUEUE, "q", bad).err.field, "priority");
    bad = plain();
    bad.weight_milli = UINT64_MAX;
    assert_string_equal(set(PARTY_USER, "u", bad).err.field, "weight");
    for (int i = 0; i < TOKENS_MAX; i++) {
        char name[8];
        snprintf(name, sizeof name, "t%d", i);
        assert_int_equal(set(PARTY_TOKEN, name, plain()).err.code, ERR_OK);
    }
    assert_string_equal(set(PARTY_TOKEN, "more", plain()).err.field, "name");
}

/* --- orders of queues --- */

static void queues_by_priority_and_order(void **state)
{
    (void)state;
    begin(1);
    struct party_settings urgent = plain();
    urgent.priority = 5;
    set(PARTY_QUEUE, "urgent", urgent);
    size_t usual = kind_new((struct kind){ .user = "ann", .cpus_milli = 1000, .run_ms = 1000 });
    size_t first = kind_new((struct kind){ .user = "ann", .queue = "urgent", .cpus_milli = 1000, .run_ms = 1000 });
    submit(usual, 100);
    submit(first, 0);
    submit(first, 7);
    run_until(0);
    assert_int_equal(open_[0].ref.job.n, 3); /* Within the queue by priority. */
    run_until(1000);
    assert_int_equal(open_[0].ref.job.n, 2);
    run_until(2000);
    assert_int_equal(open_[0].ref.job.n, 1);
    /* Another order for jobs that wait already. */
    submit(first, 0);
    submit(first, 7);
    urgent.order = ORDER_FIFO;
    set(PARTY_QUEUE, "urgent", urgent);
    run_until(3000);
    assert_int_equal(open_[0].ref.job.n, 4);
    run_until(9000);
}

/* --- shares --- */

/* Somebody comes late to a cluster that another one keeps busy: at the first slot that becomes free it is his turn. */
static void who_comes_late_starts_next(void **state)
{
    (void)state;
    config.order = ORDER_FAIRSHARE;
    begin(20);
    size_t many = kind_new((struct kind){ .user = "ann", .cpus_milli = 1000, .run_ms = 60000 });
    size_t late = kind_new((struct kind){ .user = "bob", .cpus_milli = 1000, .run_ms = 60000 });
    submit_many(many, 100000);
    for (int i = 0; i < 20; i++) /* Ends are spread over the minute. */
        if (cycle(), i < (int)open_count)
            open_[i].end_ms = now_ms + 3000 * (i + 1);
    run_until(90001);
    int64_t before = kinds[many].begun;
    submit_many(late, 10);
    cycle();
    assert_int_equal(kinds[late].open, 0); /* There is no room. */
    while (kinds[late].open == 0)
        run_until(now_ms + 1);
    assert_int_equal(kinds[many].begun, before);        /* Nobody was put before him... */
    assert_int_equal(kinds[late].open, 1);
    run_until(now_ms + 45000);
    assert_int_equal(kinds[late].begun, 10);            /* ... and it goes on until all of his have started. */
}

static double part(size_t a, size_t b)
{
    return kinds[a].cpu_s / (kinds[a].cpu_s + kinds[b].cpu_s);
}

/* Weights 3 to 1, run times and widths that differ: what they get comes to the weights. */
static void shares_come_to_weights(void **state)
{
    (void)state;
    config.order = ORDER_FAIRSHARE;
    config.half_life_ms = 3600000;
    begin(40);
    struct party_settings three = plain();
    three.weight_milli = 3000;
    set(PARTY_USER, "ann", three);
    size_t ann = kind_new((struct kind){ .user = "ann", .cpus_milli = 1000, .run_ms = 70000 });
    size_t bob = kind_new((struct kind){ .user = "bob", .cpus_milli = 2000, .run_ms = 45000 });
    submit_many(bob, 7000);
    run_until(1800000); /* He was alone for half an hour. */
    submit_many(ann, 24000);
    run_until(8 * 3600000);
    kinds[ann].cpu_s = kinds[bob].cpu_s = 0;
    run_until(14 * 3600000);
    double got = part(ann, bob);
    if (fabs(got - 0.75) > 0.02 * 0.75)
        fail_msg("%.4f of the CPU time instead of 0.75", got);
    struct party_view v;
    assert_true(sched_view_party_named(s, PARTY_USER, bytes_str("ann"), &v));
    sched_view_party(s, PARTY_MEMBER, 1, &v);
    assert_true(bytes_equal(v.user, bytes_str("ann")) && fabs(v.target - 0.75) < 1e-9 && fabs(v.used - 0.75) < 0.02);
}

/* A tree: science has twice the weight of arts, and within it two users are alike although one asks for much more. */
static void shares_of_a_tree(void **state)
{
    (void)state;
    config.order = ORDER_FAIRSHARE;
    config.half_life_ms = 3600000;
    begin(60);
    struct party_settings two = plain(), below = plain();
    two.weight_milli = 2000;
    below.parent = bytes_str("science");
    set(PARTY_ACCOUNT, "science", two);
    set(PARTY_ACCOUNT, "physics", below);
    set(PARTY_ACCOUNT, "biology", below);
    size_t ann = kind_new((struct kind){ .user = "ann", .account = "physics", .cpus_milli = 1000, .run_ms = 50000 });
    size_t bob = kind_new((struct kind){ .user = "bob", .account = "biology", .cpus_milli = 1000, .run_ms = 50000 });
    size_t cy = kind_new((struct kind){ .user = "cy", .account = "biology", .cpus_milli = 1000, .run_ms = 50000 });
    size_t eve = kind_new((struct kind){ .user = "eve", .account = "arts", .cpus_milli = 1000, .run_ms = 50000 });
    submit_many(eve, 20000);
    submit_many(cy, 20000);
    submit_many(bob, 20000);
    submit_many(ann, 20000);
    run_until(4 * 3600000);
    double all = kinds[ann].cpu_s + kinds[bob].cpu_s + kinds[cy].cpu_s + kinds[eve].cpu_s;
    assert_true(fabs(kinds[ann].cpu_s / all - 1.0 / 3) < 0.02 / 3);
    assert_true(fabs(kinds[bob].cpu_s / all - 1.0 / 6) < 0.02 / 6);
    assert_true(fabs(kinds[cy].cpu_s / all - 1.0 / 6) < 0.02 / 6);
    assert_true(fabs(kinds[eve].cpu_s / all - 1.0 / 3) < 0.02 / 3);
}

/* Queues with a share of their own, beside all others together. */
static void shares_of_queues(void **state)
{
    (void)state;
    config.half_life_ms = 3600000;
    begin(40);
    struct party_settings three = plain();
    three.weight_milli = 3000;
    set(PARTY_QUEUE, "big", three);
    size_t big = kind_new((struct kind){ .user = "ann", .queue = "big", .cpus_milli = 1000, .run_ms = 60000 });
    size_t rest = kind_new((struct kind){ .user = "ann", .cpus_milli = 1000, .run_ms = 60000 });
    submit_many(rest, 10000);
    submit_many(big, 10000);
    run_until(3 * 3600000);
    assert_true(fabs(part(big, rest) - 0.75) < 0.02 * 0.75);
}

/* With aging a job of the least priority is not passed for ever by a stream of better ones. */
static void aging_ends_starvation(void **state)
{
    (void)state;
    config.aging_ms = 10000; /* a step of priority for each ten seconds */
    begin(1);
    size_t low = kind_new((struct kind){ .user = "ann", .cpus_milli = 1000, .run_ms = 1000 });
    size_t high = kind_new((struct kind){ .user = "bob", .cpus_milli = 1000, .run_ms = 1000 });
    submit(high, 10);
    submit(low, 0);
    for (int i = 0; i < 300 && !kinds[low].begun; i++) {
        submit(high, 10); /* As fast as they run. */
        run_until(now_ms + 1000);
    }
    assert_int_equal(kinds[low].begun, 1);
    assert_in_range(now_ms, 100000, 103000);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = { T(a_paused_queue_starts_nothing), T(running_attempts_of_a_user),
                                        T(limits_of_accounts), T(tokens_are_never_overbooked),
                                        T(submissions_are_refused), T(settings_are_checked),
                                        T(queues_by_priority_and_order), T(who_comes_late_starts_next),
                                        T(shares_come_to_weights), T(shares_of_a_tree),
                                        T(shares_of_queues), T(aging_ends_starvation) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
