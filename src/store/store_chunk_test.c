#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs the four above. */
#include <cmocka.h>
#include <string.h>

#include "store/store_chunk.h"

static struct record numbered(uint64_t seq)
{
    return (struct record){ .kind = EV_HELD, .seq = seq, .held = { seq, bytes_str("because") } };
}

static struct store_chunk chunk_of(uint64_t first_seq, uint64_t count, const struct buf *body)
{
    return (struct store_chunk){ first_seq, count, store_chunk_sum(first_seq, count, buf_bytes(body)),
                                 buf_bytes(body) };
}

static int count_record(void *arg, const struct record *r, struct err *err)
{
    uint64_t *count = arg;
    if (*count == 7)
        return err_set(err, ERR_FULL, "record %d is one too many", (int)r->seq);
    ++*count;
    return 0;
}

static void test_bounds(void **state)
{
    (void)state;
    static struct record records[2000];
    static char text[60000];
    struct buf body = BUF_INIT;
    memset(text, 't', sizeof text);
    for (size_t i = 0; i < 2000; i++)
        records[i] = numbered(i + 1);
    assert_int_equal(store_chunk_encode(&body, records, 2000), STORE_CHUNK_RECORDS);
    assert_int_equal(store_chunk_encode(&body, records, 3), 3);
    for (size_t i = 0; i < 3; i++)
        records[i].held.reason = bytes_of(text, sizeof text);
    assert_int_equal(store_chunk_encode(&body, records, 2000), 1); /* at least one, however long */
    assert_true(body.size > sizeof text);
    buf_fini(&body);
}

static void test_walk(void **state)
{
    (void)state;
    struct record records[10];
    struct buf body = BUF_INIT;
    struct err err;
    for (size_t i = 0; i < 10; i++)
        records[i] = numbered(100 + i);
    assert_int_equal(store_chunk_encode(&body, records, 10), 10);
    struct store_chunk c = chunk_of(100, 10, &body);
    uint64_t count = 0;
    assert_int_equal(store_chunk_walk(&c, 104, count_record, &count, &err), 0);
    assert_int_equal(count, 6);
    count = 0;
    assert_int_equal(store_chunk_walk(&c, 0, count_record, &count, &err), -(int)ERR_FULL);
    assert_string_equal(err.text, "record 107 is one too many");
    assert_int_equal(store_chunk_walk(&c, 0, NULL, NULL, &err), 0);

    c = chunk_of(101, 10, &body); /* in the wrong place */
    assert_int_equal(store_chunk_walk(&c, 0, NULL, NULL, &err), -(int)ERR_CORRUPT);
    c = chunk_of(100, 11, &body);
    assert_int_equal(store_chunk_walk(&c, 0, NULL, NULL, &err), -(int)ERR_CORRUPT);
    c = chunk_of(100, 9, &body);
    assert_int_equal(store_chunk_walk(&c, 0, NULL, NULL, &err), -(int)ERR_CORRUPT);
    c = chunk_of(100, 10, &body);
    c.first_seq = 99; /* the sum knows the place */
    assert_int_equal(store_chunk_walk(&c, 0, NULL, NULL, &err), -(int)ERR_CORRUPT);
    buf_char(&body, 0);
    c = chunk_of(100, 10, &body);
    assert_int_equal(store_chunk_walk(&c, 0, NULL, NULL, &err), -(int)ERR_CORRUPT);
    buf_fini(&body);
}

static void test_every_flipped_bit_is_found(void **state)
{
    (void)state;
    struct record records[3] = { numbered(1), numbered(2), numbered(3) };
    struct buf body = BUF_INIT;
    store_chunk_encode(&body, records, 3);
    struct store_chunk c = chunk_of(1, 3, &body);
    assert_int_equal(store_chunk_walk(&c, 0, NULL, NULL, NULL), 0);
    for (size_t bit = 0; bit < body.size * 8; bit++) {
        body.data[bit / 8] ^= (char)(1 << bit % 8);
        assert_int_equal(store_chunk_walk(&c, 0, NULL, NULL, NULL), -(int)ERR_CORRUPT);
        body.data[bit / 8] ^= (char)(1 << bit % 8);
    }
    buf_fini(&body);
}

static void test_sum_of_parts(void **state)
{
    (void)state;
    struct bytes a[] = { bytes_str("ab"), bytes_str("c") }, b[] = { bytes_str("a"), bytes_str("bc") };
    struct bytes c[] = { { NULL, 0 }, bytes_str("abc") }, d[] = { bytes_str(""), bytes_str("abc") };
    assert_true(store_sum(1, a, 2) != store_sum(1, b, 2));
    assert_true(store_sum(1, a, 2) != store_sum(2, a, 2));
    assert_true(store_sum(1, c, 2) == store_sum(1, d, 2));
    assert_true(store_sum(1, c, 2) != store_sum(1, a, 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_walk),
        cmocka_unit_test(test_every_flipped_bit_is_found),
        cmocka_unit_test(test_sum_of_parts),
    };
    return cmocka_run_group_tests_name("chunk", tests, NULL, NULL);
}
