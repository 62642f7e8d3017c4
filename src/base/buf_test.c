#include "base/buf.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/prng.h"

static void grows_and_stays_a_string(void **state)
{
    (void)state;
    autobuf struct buf b = BUF_INIT;
    for (int i = 0; i < 1000; i++) {
        buf_char(&b, (char)('a' + i % 26));
        assert_int_equal(b.data[b.size], 0);
    }
    assert_int_equal(b.size, 1000);
    assert_int_equal(strlen(b.data), 1000);
    buf_clear(&b);
    assert_string_equal(b.data, "");
    buf_str(&b, "abc");
    buf_add(&b, NULL, 0);
    buf_printf(&b, "%d-%s", 7, "x");
    assert_string_equal(b.data, "abc7-x");
}

static void printf_longer_than_the_room(void **state)
{
    (void)state;
    autobuf struct buf b = BUF_INIT;
    buf_printf(&b, "%0500d", 5);
    buf_printf(&b, "%s", "");
    assert_int_equal(b.size, 500);
    assert_int_equal(b.data[499], '5');
    assert_int_equal(b.data[500], 0);
}

static void numbers(void **state)
{
    (void)state;
    static const int64_t values[] = { 0, 1, -1, 9, 10, -10, INT64_MAX, INT64_MIN, 1234567890123 };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        autobuf struct buf b = BUF_INIT;
        char text[32];
        snprintf(text, sizeof text, "%lld", (long long)values[i]);
        buf_i64(&b, values[i]);
        assert_string_equal(b.data, text);
    }
    autobuf struct buf b = BUF_INIT;
    buf_u64(&b, UINT64_MAX);
    assert_string_equal(b.data, "18446744073709551615");
}

static void consume_and_take(void **state)
{
    (void)state;
    struct buf b = BUF_INIT;
    buf_str(&b, "hello world");
    buf_consume(&b, 6);
    assert_string_equal(b.data, "world");
    buf_consume(&b, 0);
    buf_consume(&b, 5);
    assert_int_equal(b.size, 0);
    buf_str(&b, "x");
    char *text = buf_take(&b);
    assert_string_equal(text, "x");
    assert_null(b.data);
    free(text);
    text = buf_take(&b); /* of an empty one: still a string */
    assert_string_equal(text, "");
    free(text);
    buf_fini(&b);
    buf_consume(&b, 0);
}

static void equality(void **state)
{
    (void)state;
    assert_true(bytes_equal(bytes_str("a"), bytes_of("ab", 1)));
    assert_false(bytes_equal(bytes_str("a"), bytes_str("b")));
    assert_false(bytes_equal(bytes_str("a"), bytes_str("")));
    assert_true(bytes_equal(bytes_of(NULL, 0), bytes_str("")));
    assert_true(bytes_equal(bytes_str(NULL), bytes_str("")));
}

static void varints_come_back(void **state)
{
    (void)state;
    struct prng p;
    prng_seed(&p, 3);
    for (int i = 0; i < 20000; i++) {
        uint64_t value = prng_u64(&p) >> prng_below(&p, 64), back = 0;
        autobuf struct buf b = BUF_INIT;
        buf_varint(&b, value);
        const uint8_t *at = (const uint8_t *)b.data, *end = at + b.size;
        assert_true(varint_read(&at, end, &back));
        assert_ptr_equal(at, end);
        assert_int_equal(value, back);
        at = (const uint8_t *)b.data;
        assert_false(varint_read(&at, end - 1, &back)); /* cut short */
        int64_t number = (int64_t)value;
        assert_int_equal(unzigzag(zigzag(number)), number);
        assert_int_equal(unzigzag(zigzag(-number)), -number);
    }
    assert_int_equal(unzigzag(zigzag(INT64_MIN)), INT64_MIN);
    assert_int_equal(zigzag(-1), 1);
}

static void varints_too_long(void **state)
{
    (void)state;
    static const uint8_t over[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02 };
    static const uint8_t eleven[] = { 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00 };
    static const uint8_t most[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01 };
    uint64_t value = 0;
    const uint8_t *at = over;
    assert_false(varint_read(&at, over + sizeof over, &value));
    at = eleven;
    assert_false(varint_read(&at, eleven + sizeof eleven, &value));
    at = most;
    assert_true(varint_read(&at, most + sizeof most, &value));
    assert_true(value == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows_and_stays_a_string),
        cmocka_unit_test(printf_longer_than_the_room),
        cmocka_unit_test(numbers),
        cmocka_unit_test(consume_and_take),
        cmocka_unit_test(equality),
        cmocka_unit_test(varints_come_back),
        cmocka_unit_test(varints_too_long),
    };
    return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
