#include "bus/bus_conformance.h"

#include <stdlib.h>
#include <time.h>

#include "base/check.h"
#include "base/mem.h"
#include "io/clock.h"
#include "io/loop.h"

#define HANG_MS 60000 /* a condition that has not come true by then never will */

/* --- ends --- */

static void told_message(void *arg, uint64_t session, struct bytes body, uint64_t delivery)
{
    struct test_end *e = arg;
    assert_false(e->in_call);
    assert_true(e->up);
    e->messages++;
    e->body_bytes += body.size;
    free(e->last_data);
    e->last_data = mem_copy(body.data, body.size);
    e->last = bytes_of(e->last_data, body.size);
    e->last_delivery = delivery;
    e->last_from = session;
    if (e->on_message)
        e->on_message(e, session, body, delivery);
    if (e->bus && !e->keeps)
        bus_ack(e->bus, delivery);
}

static void told_link(void *arg, uint64_t session, bool up)
{
    struct test_end *e = arg;
    assert_false(e->in_call);
    if (up)
        e->ups++;
    else
        e->downs++;
    assert_true(e->ups >= e->downs);
    e->up = e->ups > e->downs;
    if (up)
        e->session = session;
    if (e->on_link)
        e->on_link(e, session, up);
}

int end_try_open(struct test_end *e, struct bus_rig *rig, enum bus_role role, const char *name, struct loop *loop,
                 struct err *err)
{
    struct bus_events events = { .arg = e, .on_message = told_message, .on_link = told_link };
    if (!e->loop) {
        e->own_loop = !loop;
        e->loop = loop ? loop : loop_new();
    }
    e->in_call = true;
    e->bus = rig->open(rig->arg, e->loop, role, name, &events, err);
    e->in_call = false;
    return e->bus ? 0 : -1;
}

void end_open(struct test_end *e, struct bus_rig *rig, enum bus_role role, const char *name, struct loop *loop)
{
    struct err err = { 0 };
    if (end_try_open(e, rig, role, name, loop, &err) < 0)
        fail_msg("cannot open: %s", err.text);
}

void end_close(struct test_end *e)
{
    e->in_call = true;
    bus_close(e->bus);
    e->in_call = false;
    e->bus = NULL;
}

static void end_fini(struct test_end *e)
{
    end_close(e);
    if (e->own_loop)
        loop_free(e->loop);
    free(e->last_data);
    *e = (struct test_end){ 0 };
}

int end_send(struct test_end *e, uint64_t session, struct bytes body, struct err *err)
{
    bool nested = e->in_call;
    e->in_call = true;
    int rc = bus_send(e->bus, session, body, err);
    e->in_call = nested;
    return rc;
}

void end_kick(struct test_end *e, uint64_t session)
{
    e->in_call = true;
    bus_kick(e->bus, session);
    e->in_call = false;
}

struct bus_stats end_stats(struct test_end *e)
{
    struct bus_stats stats;
    e->bus->ops->stats(e->bus, &stats);
    return stats;
}

static void turn_all(struct test_end *const *ends, size_t count)
{
    for (size_t i = 0; i < count; i++)
        loop_turn(ends[i]->loop, 0);
    nanosleep(&(struct timespec){ 0, 20000 }, NULL);
}

void ends_until(struct test_end *const *ends, size_t count, bool (*done)(void *arg), void *arg)
{
    int64_t start_ms = clock_now_ms();
    while (!done(arg)) {
        turn_all(ends, count);
        if (clock_now_ms() - start_ms > HANG_MS)
            fail_msg("what was waited for never came");
    }
}

void ends_settle(struct test_end *const *ends, size_t count)
{
    int64_t start_ms = clock_now_ms();
    for (int i = 0; i < 50 || clock_now_ms() - start_ms < 100; i++)
        turn_all(ends, count);
}

bool end_is_up(void *end)
{
    return ((struct test_end *)end)->up;
}

bool end_is_down(void *end)
{
    return !((struct test_end *)end)->up;
}

/* --- conditions --- */

struct reach {
    const size_t *value;
    size_t least;
};
static bool reached(void *arg)
{
    const struct reach *r = arg;
    return *r->value >= r->least;
}
#define UNTIL_COUNT(counter, n, ...) UNTIL(reached, (&(struct reach){ &(counter), (n) }), __VA_ARGS__)

struct pair {
    struct test_end master, worker;
};

static void pair_open(struct pair *p, struct bus_rig *rig)
{
    *p = (struct pair){ 0 };
    rig->begin(rig->arg);
    end_open(&p->master, rig, BUS_ROLE_MASTER, "master", NULL);
    end_open(&p->worker, rig, BUS_ROLE_WORKER, "worker", NULL);
    UNTIL(end_is_up, &p->master, &p->master, &p->worker);
    UNTIL(end_is_up, &p->worker, &p->master, &p->worker);
}

static void pair_close(struct pair *p, struct bus_rig *rig)
{
    end_fini(&p->worker);
    end_fini(&p->master);
    rig->end(rig->arg);
}

static struct bytes number(uint64_t *n)
{
    return bytes_of(n, sizeof *n);
}

/* --- the suite --- */

static void test_links(void **state)
{
    struct bus_rig *rig = *state;
    struct pair p;
    pair_open(&p, rig);
    uint64_t first = p.master.session;
    assert_int_equal(p.worker.session, BUS_MASTER);
    assert_int_not_equal(first, BUS_MASTER);
    assert_true(end_stats(&p.master).up);
    assert_true(end_stats(&p.worker).up);

    end_close(&p.worker);
    UNTIL(end_is_down, &p.master, &p.master);
    assert_int_equal(p.master.downs, 1);

    p.worker.ups = p.worker.downs = 0;
    p.worker.up = false;
    end_open(&p.worker, rig, BUS_ROLE_WORKER, "worker", NULL);
    UNTIL(end_is_up, &p.master, &p.master, &p.worker);
    UNTIL(end_is_up, &p.worker, &p.master, &p.worker);
    assert_int_not_equal(p.master.session, first);
    pair_close(&p, rig);
}

static void test_worker_first(void **state)
{
    struct bus_rig *rig = *state;
    struct pair p = { 0 };
    rig->begin(rig->arg);
    end_open(&p.worker, rig, BUS_ROLE_WORKER, "worker", NULL);
    struct err err = { 0 };
    assert_int_equal(end_send(&p.worker, BUS_MASTER, bytes_str("early"), &err), -ERR_CLOSED);
    assert_int_equal(err.code, ERR_CLOSED);
    SETTLE(&p.worker);
    assert_int_equal(p.worker.ups, 0);
    assert_false(end_stats(&p.worker).up);
    end_open(&p.master, rig, BUS_ROLE_MASTER, "master", NULL);
    UNTIL(end_is_up, &p.master, &p.master, &p.worker);
    UNTIL(end_is_up, &p.worker, &p.master, &p.worker);
    assert_int_equal(p.master.messages, 0);
    pair_close(&p, rig);
}

static void expect_next(struct test_end *e, uint64_t session, struct bytes body, uint64_t delivery)
{
    uint64_t *next = e->arg, got;
    (void)session, (void)delivery;
    assert_true(body.size >= sizeof got);
    memcpy(&got, body.data, sizeof got);
    if (got != (*next)++)
        e->errors++;
}

static void test_order(void **state)
{
    struct bus_rig *rig = *state;
    struct pair p;
    uint64_t next_up = 0, next_down = 0;
    enum { COUNT = 5000 };
    pair_open(&p, rig);
    p.master.on_message = p.worker.on_message = expect_next;
    p.master.arg = &next_up;
    p.worker.arg = &next_down;
    char body[3000] = { 0 };
    for (uint64_t i = 0; i < COUNT; i++) {
        memcpy(body, &i, sizeof i);
        size_t size = sizeof i + (size_t)(i * 7919 % (sizeof body - sizeof i));
        assert_int_equal(end_send(&p.worker, BUS_MASTER, bytes_of(body, size), NULL), 0);
        assert_int_equal(end_send(&p.master, p.master.session, bytes_of(body, size), NULL), 0);
        if (i % 97 == 0) {
            loop_turn(p.worker.loop, 0);
            loop_turn(p.master.loop, 0);
        }
    }
    UNTIL_COUNT(p.master.messages, COUNT, &p.master, &p.worker);
    UNTIL_COUNT(p.worker.messages, COUNT, &p.master, &p.worker);
    SETTLE(&p.master, &p.worker);
    assert_int_equal(p.master.messages, COUNT);
    assert_int_equal(p.worker.messages, COUNT);
    assert_int_equal(p.master.errors + p.worker.errors, 0);
    assert_int_equal(p.master.last_from, p.master.session);
    assert_int_equal(p.worker.last_from, BUS_MASTER);
    struct bus_stats stats = end_stats(&p.master);
    assert_int_equal(stats.sent, COUNT);
    assert_int_equal(stats.received, COUNT);
    assert_int_equal(stats.bytes_received, p.master.body_bytes);
    pair_close(&p, rig);
}

static void test_sizes(void **state)
{
    struct bus_rig *rig = *state;
    struct pair p;
    pair_open(&p, rig);
    static const size_t sizes[] = { 0,           1,     3,      4,      5,      65531,    65532,
                                    65533,       65536, 262139, 262140, 262144, 1u << 20, BUS_BODY_MAX - 1,
                                    BUS_BODY_MAX };
    char *body = mem_alloc(BUS_BODY_MAX + 1);
    for (size_t i = 0; i <= BUS_BODY_MAX; i++)
        body[i] = (char)(i * 31 + (i >> 9));
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct bytes sent = bytes_of(body, sizes[i]);
        assert_int_equal(end_send(&p.worker, BUS_MASTER, sent, NULL), 0);
        assert_int_equal(end_send(&p.master, p.master.session, sent, NULL), 0);
        UNTIL_COUNT(p.master.messages, i + 1, &p.master, &p.worker);
        UNTIL_COUNT(p.worker.messages, i + 1, &p.master, &p.worker);
        assert_true(bytes_equal(p.master.last, sent));
        assert_true(bytes_equal(p.worker.last, sent));
    }
    size_t count = sizeof sizes / sizeof *sizes;
    struct err err = { 0 };
    assert_int_equal(end_send(&p.worker, BUS_MASTER, bytes_of(body, BUS_BODY_MAX + 1), &err), -ERR_TOO_LARGE);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_int_equal(end_send(&p.master, p.master.session, bytes_of(body, BUS_BODY_MAX + 1), NULL), -ERR_TOO_LARGE);
    assert_int_equal(end_send(&p.worker, BUS_MASTER, bytes_str("after"), NULL), 0);
    UNTIL_COUNT(p.master.messages, count + 1, &p.master, &p.worker);
    assert_true(bytes_equal(p.master.last, bytes_str("after")));
    assert_int_equal(p.worker.messages, count);
    free(body);
    pair_close(&p, rig);
}

static void echo(struct test_end *e, uint64_t session, struct bytes body, uint64_t delivery)
{
    if (bus_send(e->bus, session, body, NULL) < 0)
        e->errors++;
    bus_ack(e->bus, delivery);
}

static void test_many_workers(void **state)
{
    struct bus_rig *rig = *state;
    enum { WORKERS = 100, ROUNDS = 20 };
    struct test_end master = { .on_message = echo }, crowd = { 0 };
    struct test_end *workers = mem_zero(WORKERS, sizeof *workers);
    rig->begin(rig->arg);
    crowd.loop = loop_new();
    crowd.own_loop = true;
    end_open(&master, rig, BUS_ROLE_MASTER, "master", NULL);
    for (size_t i = 0; i < WORKERS; i++)
        end_open(&workers[i], rig, BUS_ROLE_WORKER, "worker", crowd.loop);
    UNTIL_COUNT(master.ups, WORKERS, &master, &crowd);
    for (size_t i = 0; i < WORKERS; i++)
        UNTIL(end_is_up, &workers[i], &master, &crowd);
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        for (uint64_t i = 0; i < WORKERS; i++) {
            uint64_t text = i * 1000 + round;
            assert_int_equal(end_send(&workers[i], BUS_MASTER, number(&text), NULL), 0);
        }
        for (uint64_t i = 0; i < WORKERS; i++) {
            uint64_t text = i * 1000 + round;
            UNTIL_COUNT(workers[i].messages, round, &master, &crowd);
            assert_int_equal(workers[i].messages, round);
            assert_true(bytes_equal(workers[i].last, number(&text)));
        }
    }
    assert_int_equal(master.messages, WORKERS * ROUNDS);
    assert_int_equal(master.errors, 0);
    for (size_t i = 0; i < WORKERS; i++)
        end_fini(&workers[i]);
    UNTIL_COUNT(master.downs, WORKERS, &master);
    end_fini(&master);
    end_fini(&crowd);
    free(workers);
    rig->end(rig->arg);
}

static void test_closed_session(void **state)
{
    struct bus_rig *rig = *state;
    struct pair p;
    struct err err = { 0 };
    pair_open(&p, rig);
    uint64_t session = p.master.session;
    assert_int_equal(end_send(&p.master, session + 12345, bytes_str("x"), &err), -ERR_CLOSED);
    assert_int_equal(err.code, ERR_CLOSED);
    assert_int_equal(end_send(&p.master, BUS_MASTER, bytes_str("x"), NULL), -ERR_CLOSED);
    assert_int_equal(end_send(&p.worker, session, bytes_str("x"), NULL), -ERR_CLOSED);
    end_close(&p.worker);
    UNTIL(end_is_down, &p.master, &p.master);
    assert_int_equal(end_send(&p.master, session, bytes_str("x"), NULL), -ERR_CLOSED);
    end_kick(&p.master, session);
    SETTLE(&p.master);
    assert_int_equal(p.master.downs, 1);
    pair_close(&p, rig);
}

static void test_kick(void **state)
{
    struct bus_rig *rig = *state;
    struct pair p;
    pair_open(&p, rig);
    uint64_t session = p.master.session;
    /* What the worker has sent is on its way or even here: after the kick it must not be delivered. */
    for (uint64_t i = 0; i < 100; i++)
        assert_int_equal(end_send(&p.worker, BUS_MASTER, number(&i), NULL), 0);
    loop_turn(p.worker.loop, 0);
    loop_turn(p.worker.loop, 0);
    size_t before = p.master.messages;
    end_kick(&p.master, session);
    end_kick(&p.master, session);
    assert_int_equal(end_send(&p.master, session, bytes_str("x"), NULL), -ERR_CLOSED);
    assert_int_equal(p.master.downs, 0);
    UNTIL_COUNT(p.master.downs, 1, &p.master);
    UNTIL_COUNT(p.worker.downs, 1, &p.master, &p.worker);
    UNTIL_COUNT(p.worker.ups, 2, &p.master, &p.worker);
    UNTIL_COUNT(p.master.ups, 2, &p.master, &p.worker);
    assert_int_not_equal(p.master.session, session);
    assert_int_equal(p.master.downs, 1);
    assert_int_equal(p.master.messages, before);
    assert_int_equal(end_stats(&p.worker).reconnects, 1);
    assert_int_equal(end_send(&p.worker, BUS_MASTER, bytes_str("new"), NULL), 0);
    UNTIL_COUNT(p.master.messages, before + 1, &p.master, &p.worker);
    assert_true(bytes_equal(p.master.last, bytes_str("new")));
    assert_int_equal(p.master.last_from, p.master.session);
    pair_close(&p, rig);
}

static void test_worker_hangs_up(void **state)
{
    struct bus_rig *rig = *state;
    struct pair p;
    pair_open(&p, rig);
    end_kick(&p.worker, BUS_MASTER);
    assert_int_equal(end_send(&p.worker, BUS_MASTER, bytes_str("x"), NULL), -ERR_CLOSED);
    UNTIL_COUNT(p.worker.downs, 1, &p.master, &p.worker);
    UNTIL_COUNT(p.worker.ups, 2, &p.master, &p.worker);
    UNTIL_COUNT(p.master.ups, 2, &p.master, &p.worker);
    pair_close(&p, rig);
}

/* What an end sent before it kicked or closed still arrives. */
static void test_last_words(void **state)
{
    struct bus_rig *rig = *state;
    struct pair p;
    pair_open(&p, rig);
    assert_int_equal(end_send(&p.master, p.master.session, bytes_str("go away"), NULL), 0);
    end_kick(&p.master, p.master.session);
    UNTIL_COUNT(p.worker.downs, 1, &p.master, &p.worker);
    assert_true(bytes_equal(p.worker.last, bytes_str("go away")));
    pair_close(&p, rig);
}

/* Also when the other end is just writing to it, or has been for long. */
static void test_last_words_while_written_to(void **state)
{
    struct bus_rig *rig = *state;
    char *large = mem_zero(1, 1u << 20);
    for (int blocked = 0; blocked < 2; blocked++) {
        struct pair p;
        pair_open(&p, rig);
        for (int i = 0; blocked && i < 8; i++) {
            assert_int_equal(end_send(&p.master, p.master.session, bytes_of(large, 1u << 20), NULL), 0);
            loop_turn(p.master.loop, 0);
        }
        for (uint64_t i = 0; i < 1000; i++)
            assert_int_equal(end_send(&p.worker, BUS_MASTER, number(&i), NULL), 0);
        end_close(&p.worker);
        for (uint64_t i = 0; i < 10; i++)
            end_send(&p.master, p.master.session, number(&i), NULL); /* It may or may not know yet. */
        UNTIL_COUNT(p.master.downs, 1, &p.master);
        assert_int_equal(p.master.messages, 1000);
        pair_close(&p, rig);
    }
    free(large);
}

static void test_master_restart(void **state)
{
    struct bus_rig *rig = *state;
    struct pair p;
    pair_open(&p, rig);
    for (size_t round = 1; round <= 3; round++) {
        end_close(&p.master);
        UNTIL_COUNT(p.worker.downs, round, &p.worker);
        assert_int_equal(end_send(&p.worker, BUS_MASTER, bytes_str("x"), NULL), -ERR_CLOSED);
        p.master.ups = p.master.downs = 0;
        p.master.up = false;
        end_open(&p.master, rig, BUS_ROLE_MASTER, "master", NULL);
        UNTIL_COUNT(p.worker.ups, round + 1, &p.master, &p.worker);
        UNTIL(end_is_up, &p.master, &p.master, &p.worker);
        uint64_t text = round;
        assert_int_equal(end_send(&p.worker, BUS_MASTER, number(&text), NULL), 0);
        UNTIL_COUNT(p.master.messages, round, &p.master, &p.worker);
        assert_true(bytes_equal(p.master.last, number(&text)));
    }
    assert_int_equal(end_stats(&p.worker).reconnects, 3);
    pair_close(&p, rig);
}

static void test_ack(void **state)
{
    struct bus_rig *rig = *state;
    struct pair p;
    pair_open(&p, rig);
    p.master.keeps = true;
    assert_int_equal(end_send(&p.worker, BUS_MASTER, bytes_str("a"), NULL), 0);
    UNTIL_COUNT(p.master.messages, 1, &p.master, &p.worker);
    uint64_t first = p.master.last_delivery;
    bus_ack(p.master.bus, first);
    bus_ack(p.master.bus, first);
    bus_ack(p.master.bus, 0);
    bus_ack(p.master.bus, UINT64_MAX);
    assert_int_equal(end_send(&p.worker, BUS_MASTER, bytes_str("b"), NULL), 0);
    UNTIL_COUNT(p.master.messages, 2, &p.master, &p.worker);
    assert_int_not_equal(p.master.last_delivery, first);
    SETTLE(&p.master, &p.worker);
    assert_int_equal(p.master.messages, 2);
    pair_close(&p, rig);
}

struct attempt {
    struct test_end *end;
    uint64_t session;
    struct bytes body;
};

/* The sender may learn a little later than its peer that there is room. */
static bool sent_at_last(void *arg)
{
    struct attempt *a = arg;
    int rc = end_send(a->end, a->session, a->body, NULL);
    assert_true(rc == 0 || rc == -ERR_FULL);
    return rc == 0;
}

static void test_full(void **state)
{
    struct bus_rig *rig = *state;
    struct pair p;
    struct test_end other = { 0 };
    uint64_t next = 0, sent = 0;
    enum { BODY = 100000 };
    pair_open(&p, rig);
    uint64_t slow = p.master.session;
    end_open(&other, rig, BUS_ROLE_WORKER, "other", NULL);
    UNTIL_COUNT(p.master.ups, 2, &p.master, &other);
    UNTIL(end_is_up, &other, &p.master, &other);

    p.worker.on_message = expect_next;
    p.worker.arg = &next;
    char *body = mem_zero(1, BODY);
    struct err err = { 0 };
    int rc = 0;
    /* The slow worker's loop is not turned. Enough rounds to be sure that it is full for good. */
    for (size_t tries = 0; tries < 4 * BUS_QUEUE_MAX / BODY; tries++) {
        memcpy(body, &sent, sizeof sent);
        rc = end_send(&p.master, slow, bytes_of(body, BODY), &err);
        if (rc == 0)
            sent++;
        else
            assert_int_equal(rc, -ERR_FULL);
        if (tries % 16 == 0)
            loop_turn(p.master.loop, 0);
    }
    assert_int_equal(rc, -ERR_FULL);
    assert_int_equal(err.code, ERR_FULL);
    assert_in_range(sent * BODY, BUS_QUEUE_MAX / 2, BUS_QUEUE_MAX + rig->queue_slack);
    /* Others are served meanwhile, and the slow one is not cut off. */
    assert_int_equal(end_send(&p.master, p.master.session, bytes_str("still here"), NULL), 0);
    UNTIL_COUNT(other.messages, 1, &p.master, &other);
    assert_int_equal(p.master.downs, 0);
    /* It reads again: all that was taken arrives in order, and there is room. */
    UNTIL_COUNT(p.worker.messages, sent, &p.master, &p.worker);
    assert_int_equal(p.worker.errors, 0);
    memcpy(body, &sent, sizeof sent);
    struct attempt attempt = { &p.master, slow, bytes_of(body, BODY) };
    UNTIL(sent_at_last, &attempt, &p.master, &p.worker);
    UNTIL_COUNT(p.worker.messages, sent + 1, &p.master, &p.worker);
    assert_int_equal(p.worker.errors, 0);
    free(body);
    end_fini(&other);
    pair_close(&p, rig);
}

static void test_close_is_silent(void **state)
{
    struct bus_rig *rig = *state;
    struct pair p;
    pair_open(&p, rig);
    for (uint64_t i = 0; i < 100; i++) {
        assert_int_equal(end_send(&p.worker, BUS_MASTER, number(&i), NULL), 0);
        assert_int_equal(end_send(&p.master, p.master.session, number(&i), NULL), 0);
    }
    loop_turn(p.master.loop, 0);
    struct test_end *ends[] = { &p.worker, &p.master };
    for (size_t i = 0; i < 2; i++) {
        size_t messages = ends[i]->messages, ups = ends[i]->ups, downs = ends[i]->downs;
        end_close(ends[i]);
        end_close(ends[i]); /* NULL by now */
        SETTLE(&p.master, &p.worker);
        assert_int_equal(ends[i]->messages, messages);
        assert_int_equal(ends[i]->ups, ups);
        assert_int_equal(ends[i]->downs, downs);
    }
    pair_close(&p, rig);
}

static void close_now(struct test_end *e, uint64_t session, struct bytes body, uint64_t delivery)
{
    (void)session, (void)body, (void)delivery;
    end_close(e);
}

static void close_on_link(struct test_end *e, uint64_t session, bool up)
{
    (void)session, (void)up;
    if (e->bus)
        end_close(e);
}

static void kick_now(struct test_end *e, uint64_t session, struct bytes body, uint64_t delivery)
{
    (void)body, (void)delivery;
    end_kick(e, session);
    assert_int_equal(end_send(e, session, bytes_str("x"), NULL), -ERR_CLOSED);
}

static bool is_closed(void *end)
{
    return !((struct test_end *)end)->bus;
}

static void test_close_in_callback(void **state)
{
    struct bus_rig *rig = *state;
    for (int who = 0; who < 3; who++) {
        struct pair p;
        pair_open(&p, rig);
        struct test_end *closes = who == 0 ? &p.master : &p.worker, *other = who == 0 ? &p.worker : &p.master;
        if (who < 2)
            closes->on_message = close_now;
        else
            closes->on_link = close_on_link;
        if (who < 2)
            for (uint64_t i = 0; i < 10; i++)
                assert_int_equal(end_send(other, who == 0 ? BUS_MASTER : p.master.session, number(&i), NULL), 0);
        else
            end_kick(&p.master, p.master.session);
        UNTIL(is_closed, closes, &p.master, &p.worker);
        UNTIL_COUNT(other->downs, 1, &p.master, &p.worker);
        assert_int_equal(closes->messages, who < 2 ? 1 : 0);
        pair_close(&p, rig);
    }
}

static void test_kick_in_callback(void **state)
{
    struct bus_rig *rig = *state;
    struct pair p;
    pair_open(&p, rig);
    p.master.on_message = kick_now;
    for (uint64_t i = 0; i < 10; i++)
        assert_int_equal(end_send(&p.worker, BUS_MASTER, number(&i), NULL), 0);
    UNTIL_COUNT(p.master.downs, 1, &p.master, &p.worker);
    assert_int_equal(p.master.messages, 1);
    UNTIL_COUNT(p.worker.ups, 2, &p.master, &p.worker);
    pair_close(&p, rig);
}

static void test_second_master(void **state)
{
    struct bus_rig *rig = *state;
    struct pair p;
    struct test_end second = { 0 };
    struct err err = { 0 };
    pair_open(&p, rig);
    if (!rig->second_master_waits) {
        assert_int_equal(end_try_open(&second, rig, BUS_ROLE_MASTER, "second", NULL, &err), -1);
        assert_int_equal(err.code, ERR_LOCKED);
    } else {
        end_open(&second, rig, BUS_ROLE_MASTER, "second", NULL);
    }
    SETTLE(&p.master, &p.worker);
    assert_int_equal(p.master.downs + p.worker.downs, 0);
    if (rig->second_master_waits) {
        assert_false(end_stats(&second).up);
        end_close(&p.master);
        UNTIL(end_is_up, &second, &second, &p.worker);
        UNTIL_COUNT(p.worker.ups, 2, &second, &p.worker);
        assert_int_equal(end_send(&p.worker, BUS_MASTER, bytes_str("you now"), NULL), 0);
        UNTIL_COUNT(second.messages, 1, &second, &p.worker);
    }
    end_fini(&second);
    pair_close(&p, rig);
}

size_t bus_conformance(struct CMUnitTest tests[BUS_CONFORMANCE_TESTS_MAX], struct bus_rig *rig)
{
    const struct CMUnitTest suite[] = {
        cmocka_unit_test(test_links),
        cmocka_unit_test(test_worker_first),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_many_workers),
        cmocka_unit_test(test_closed_session),
        cmocka_unit_test(test_kick),
        cmocka_unit_test(test_worker_hangs_up),
        cmocka_unit_test(test_last_words),
        cmocka_unit_test(test_last_words_while_written_to),
        cmocka_unit_test(test_master_restart),
        cmocka_unit_test(test_ack),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_close_is_silent),
        cmocka_unit_test(test_close_in_callback),
        cmocka_unit_test(test_kick_in_callback),
        cmocka_unit_test(test_second_master),
    };
    size_t count = sizeof suite / sizeof *suite;
    check(count <= BUS_CONFORMANCE_TESTS_MAX);
    for (size_t i = 0; i < count; i++) {
        tests[i] = suite[i];
        tests[i].initial_state = rig;
    }
    return count;
}
