#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "api/feed.h"

struct client {
    struct feed_reader reader;
    struct buf got;
    size_t unsent;
};

static void client_write(void *arg, struct bytes text)
{
    struct client *c = arg;
    buf_add(&c->got, text.data, text.size);
    c->unsent += text.size;
}

static size_t client_unsent(void *arg)
{
    return ((struct client *)arg)->unsent;
}

static void add(struct feed *f, uint64_t seq, uint64_t job, const char *data)
{
    feed_add(f, &(struct feed_event){ .seq = seq, .job = job, .name = "job.started", .data = bytes_str(data) });
}

static void leave(struct feed *f, struct client *c)
{
    feed_leave(f, &c->reader);
    buf_fini(&c->got);
}

static void gives_events_to_all(void **state)
{
    (void)state;
    struct feed f;
    struct client a = { 0 }, b = { 0 };
    feed_init(&f, client_write, client_unsent);
    assert_false(feed_wanted(&f));
    assert_true(feed_join(&f, &a.reader, 0, 5, 5, &a));
    assert_true(feed_join(&f, &b.reader, 2, 5, 5, &b));
    assert_true(feed_wanted(&f));
    add(&f, 5, 1, "{\"n\":5}");
    add(&f, 6, 2, "{\"n\":6}");
    add(&f, 7, 1, "{\"n\":7}");
    add(&f, 8, 2, "{\"n\":8}");
    feed_flush(&f);
    assert_string_equal(a.got.data,
                        "id: 5\nevent: job.started\ndata: {\"n\":5}\n\nid: 6\nevent: job.started\ndata: {\"n\":6}\n\n"
                        "id: 7\nevent: job.started\ndata: {\"n\":7}\n\nid: 8\nevent: job.started\ndata: {\"n\":8}\n\n");
    assert_string_equal(b.got.data,
                        "id: 6\nevent: job.started\ndata: {\"n\":6}\n\nid: 8\nevent: job.started\ndata: {\"n\":8}\n\n");
    feed_flush(&f);
    assert_int_equal(b.reader.next_seq, 9);
    leave(&f, &a);
    leave(&f, &b);
    feed_fini(&f);
}

/* A reader that does not read costs at most the bound, and is told what it missed. */
static void a_slow_reader_gets_a_gap(void **state)
{
    (void)state;
    struct feed f;
    struct client slow = { 0 }, fast = { 0 };
    feed_init(&f, client_write, client_unsent);
    assert_true(feed_join(&f, &slow.reader, 0, 1, 1, &slow));
    assert_true(feed_join(&f, &fast.reader, 0, 1, 1, &fast));
    char data[1001];
    memset(data, 'x', 1000);
    data[1000] = 0;
    for (uint64_t seq = 1; seq <= 1000; seq++) {
        add(&f, seq, 1, data);
        if (seq % 10 == 0) {
            feed_flush(&f);
            fast.unsent = 0;
        }
    }
    assert_true(slow.unsent <= FEED_UNSENT_MAX);
    assert_true(slow.reader.gap_first > 200 && slow.reader.gap_first < 300);
    assert_int_equal(slow.reader.gap_last, 1000);
    assert_int_equal(fast.reader.gap_first, 0);
    assert_int_equal(f.gaps, 1);

    uint64_t first = slow.reader.gap_first;
    buf_clear(&slow.got);
    slow.unsent = 0;
    feed_drained(&f, &slow.reader);
    char text[128];
    snprintf(text, sizeof text, "event: gap\ndata: {\"first\":%u,\"last\":1000}\n\n", (unsigned)first);
    assert_string_equal(slow.got.data, text);
    buf_clear(&slow.got);
    add(&f, 1001, 1, "{}");
    feed_flush(&f);
    assert_string_equal(slow.got.data, "id: 1001\nevent: job.started\ndata: {}\n\n");
    leave(&f, &slow);
    leave(&f, &fast);
    feed_fini(&f);
}

/* However many do not read, what is held for them together is bounded; and whoever reads misses nothing. */
static void many_slow_readers_share_a_bound(void **state)
{
    (void)state;
    static struct client clients[FEED_READERS_MAX];
    struct feed f;
    feed_init(&f, client_write, client_unsent);
    for (size_t i = 0; i < FEED_READERS_MAX; i++)
        assert_true(feed_join(&f, &clients[i].reader, i % 2 ? 0 : 1, 1, 1, &clients[i]));
    assert_int_equal(feed_bound(&f), FEED_HELD_MAX / FEED_READERS_MAX);
    char data[1001];
    memset(data, 'x', 1000);
    data[1000] = 0;
    size_t read = 0;
    for (uint64_t seq = 1; seq <= 1000; seq++) {
        add(&f, seq, 1, data);
        if (seq % 10 != 0)
            continue;
        feed_flush(&f);
        read += clients[7].got.size;
        buf_clear(&clients[7].got);
        clients[7].unsent = 0;
    }
    assert_int_equal(clients[7].reader.gap_first, 0);
    assert_in_range(read, 1000 * 1000, 1000 * 1100);
    size_t held = 0;
    for (size_t i = 0; i < FEED_READERS_MAX; i++) {
        held += clients[i].unsent;
        assert_true(i == 7 || (clients[i].reader.gap_first && clients[i].reader.gap_last == 1000));
    }
    assert_in_range(held, FEED_HELD_MAX / 2, FEED_HELD_MAX);
    assert_int_equal(f.gaps, FEED_READERS_MAX - 1);
    for (size_t i = 0; i < FEED_READERS_MAX; i++)
        leave(&f, &clients[i]);
    feed_fini(&f);
}

static void catches_up_from_the_journal(void **state)
{
    (void)state;
    struct feed f;
    struct client c = { 0 };
    feed_init(&f, client_write, client_unsent);
    assert_true(feed_join(&f, &c.reader, 3, 10, 13, &c));
    assert_true(c.reader.behind);
    assert_false(feed_wanted(&f));
    for (uint64_t seq = 10; seq < 13; seq++)
        assert_true(feed_catch_up(
            &f, &c.reader, &(struct feed_event){ .seq = seq, .job = seq - 8, .name = "e", .data = bytes_str("{}") }));
    /* What is published meanwhile is not for a reader that is behind: it comes from the journal. */
    add(&f, 13, 3, "{}");
    feed_flush(&f);
    assert_string_equal(c.got.data, "id: 11\nevent: e\ndata: {}\n\n");
    assert_true(feed_catch_up(&f, &c.reader,
                              &(struct feed_event){ .seq = 13, .job = 3, .name = "e", .data = bytes_str("{}") }));
    feed_caught_up(&c.reader, 14);
    buf_clear(&c.got);
    add(&f, 14, 3, "{}");
    feed_flush(&f);
    assert_string_equal(c.got.data, "id: 14\nevent: job.started\ndata: {}\n\n");
    leave(&f, &c);
    feed_fini(&f);
}

static void catching_up_stops_when_full(void **state)
{
    (void)state;
    struct feed f;
    struct client c = { .unsent = FEED_UNSENT_MAX };
    feed_init(&f, client_write, client_unsent);
    assert_true(feed_join(&f, &c.reader, 0, 1, 3, &c));
    struct feed_event e = { .seq = 1, .name = "e", .data = bytes_str("{}") };
    assert_false(feed_catch_up(&f, &c.reader, &e));
    assert_int_equal(c.reader.next_seq, 1);
    c.unsent = 0;
    assert_true(feed_catch_up(&f, &c.reader, &e));
    assert_true(feed_catch_up(&f, &c.reader, &e)); /* again: it has it already */
    assert_string_equal(c.got.data, "id: 1\nevent: e\ndata: {}\n\n");
    leave(&f, &c);
    feed_fini(&f);
}

static void readers_are_bounded(void **state)
{
    (void)state;
    static struct client clients[FEED_READERS_MAX + 1];
    struct feed f;
    feed_init(&f, client_write, client_unsent);
    for (size_t i = 0; i < FEED_READERS_MAX; i++)
        assert_true(feed_join(&f, &clients[i].reader, 0, 1, 1, &clients[i]));
    assert_false(feed_join(&f, &clients[FEED_READERS_MAX].reader, 0, 1, 1, &clients[FEED_READERS_MAX]));
    feed_leave(&f, &clients[0].reader);
    assert_true(feed_join(&f, &clients[FEED_READERS_MAX].reader, 0, 1, 1, &clients[FEED_READERS_MAX]));
    clients[5].unsent = FEED_UNSENT_MAX;
    feed_heartbeat(&f);
    assert_string_equal(clients[1].got.data, ": alive\n\n");
    assert_null(clients[5].got.data);
    for (size_t i = 1; i <= FEED_READERS_MAX; i++)
        leave(&f, &clients[i]);
    feed_fini(&f);
}

static void a_notice_is_no_event(void **state)
{
    (void)state;
    static struct client clients[3];
    struct feed f;
    feed_init(&f, client_write, client_unsent);
    for (size_t i = 0; i < 3; i++)
        assert_true(feed_join(&f, &clients[i].reader, i == 1 ? 7 : 0, 1, 1, &clients[i]));
    clients[2].unsent = FEED_UNSENT_MAX;
    feed_notice(&f, "health", bytes_str("{}"));
    assert_string_equal(clients[0].got.data, "event: health\ndata: {}\n\n");
    assert_int_equal(clients[0].reader.next_seq, 1);
    assert_null(clients[1].got.data); /* one job's reader does not ask for it */
    assert_null(clients[2].got.data);
    assert_int_equal(clients[2].reader.gap_first, 0);
    for (size_t i = 0; i < 3; i++)
        leave(&f, &clients[i]);
    feed_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_events_to_all),
        cmocka_unit_test(a_slow_reader_gets_a_gap),
        cmocka_unit_test(many_slow_readers_share_a_bound),
        cmocka_unit_test(catches_up_from_the_journal),
        cmocka_unit_test(catching_up_stops_when_full),
        cmocka_unit_test(readers_are_bounded),
        cmocka_unit_test(a_notice_is_no_event),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
