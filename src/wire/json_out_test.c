#include "wire/json_out.h"

#include <locale.h>
#include <math.h>
#include <setjmp.h>

#include <cmocka.h>

#include "base/prng.h"
#include "wire/json_in.h"

static void commas_and_brackets(void **state)
{
    (void)state;
    autobuf struct buf b = BUF_INIT;
    struct json_out j = json_out_to(&b);
    json_open(&j, NULL, '{');
    json_str(&j, "a", bytes_str("x"));
    json_cstr(&j, "b", NULL);
    json_open(&j, "c", '[');
    json_close(&j, ']');
    json_open(&j, "d", '[');
    json_u64(&j, NULL, UINT64_MAX);
    json_i64(&j, NULL, INT64_MIN);
    json_open(&j, NULL, '{');
    json_close(&j, '}');
    json_bool(&j, NULL, true);
    json_bool(&j, NULL, false);
    json_null(&j, NULL);
    json_raw(&j, NULL, bytes_str("{\"raw\":1}"));
    json_close(&j, ']');
    json_time(&j, "t", 1795434000007);
    json_time(&j, "u", 0);
    json_pair(&j, bytes_of("keyless", 3), bytes_of("value", 2));
    json_close(&j, '}');
    assert_string_equal(b.data, "{\"a\":\"x\",\"b\":null,\"c\":[],\"d\":[18446744073709551615,-9223372036854775808,{},"
                                "true,false,null,{\"raw\":1}],"
                                "\"t\":\"2026-11-23T11:40:00.007Z\",\"u\":null,\"key\":\"va\"}");
}

static const char *quoted(struct buf *b, struct bytes text)
{
    struct json_out j = json_out_to(b);
    buf_clear(b);
    json_str(&j, NULL, text);
    return b->data;
}

static void text_is_escaped(void **state)
{
    (void)state;
    autobuf struct buf b = BUF_INIT;
    assert_string_equal(quoted(&b, bytes_str("")), "\"\"");
    assert_string_equal(quoted(&b, bytes_of(NULL, 0)), "\"\"");
    assert_string_equal(quoted(&b, bytes_str("a\"b\\c/d")), "\"a\\\"b\\\\c/d\"");
    assert_string_equal(quoted(&b, bytes_of("\b\f\n\r\t\0\x1b\x7f", 8)), "\"\\b\\f\\n\\r\\t\\u0000\\u001b\\u007f\"");
    assert_string_equal(quoted(&b, bytes_str("d\xc3\xa9j\xc3\xa0 \xf0\x9f\x98\x80 \xe2\x82\xac")),
                        "\"d\xc3\xa9j\xc3\xa0 \xf0\x9f\x98\x80 \xe2\x82\xac\"");
    assert_string_equal(quoted(&b, bytes_str("\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xaa")),
                        "\"\\u2028\\u2029\xe2\x80\xaa\"");
    /* what is not UTF-8: one U+FFFD per byte */
#define BAD "\xef\xbf\xbd"
    assert_string_equal(quoted(&b, bytes_str("a\xff"
                                             "b")),
                        "\"a" BAD "b\"");
    assert_string_equal(quoted(&b, bytes_str("\xc3")), "\"" BAD "\"");
    assert_string_equal(quoted(&b, bytes_str("\xc0\x80")), "\"" BAD BAD "\"");
    assert_string_equal(quoted(&b, bytes_str("\xed\xa0\x80")), "\"" BAD BAD BAD "\"");
    assert_string_equal(quoted(&b, bytes_str("\xf4\x90\x80\x80x")), "\"" BAD BAD BAD BAD "x\"");
    assert_string_equal(quoted(&b, bytes_str("\xe2\x82")), "\"" BAD BAD "\"");
    assert_string_equal(quoted(&b, bytes_str("\xc3(")), "\"" BAD "(\"");
}

static const char *number(struct buf *b, double v, int decimals)
{
    struct json_out j = json_out_to(b);
    buf_clear(b);
    json_num(&j, NULL, v, decimals);
    return b->data;
}

static void numbers(void **state)
{
    (void)state;
    autobuf struct buf b = BUF_INIT;
    setlocale(LC_ALL, "de_DE.UTF-8"); /* where it is installed: no decimal comma */
    assert_string_equal(number(&b, 0, 3), "0");
    assert_string_equal(number(&b, 1.5, 3), "1.5");
    assert_string_equal(number(&b, -0.25, 3), "-0.25");
    assert_string_equal(number(&b, 0.0004, 3), "0");
    assert_string_equal(number(&b, -0.0004, 3), "0"); /* never -0 */
    assert_string_equal(number(&b, 0.0006, 3), "0.001");
    assert_string_equal(number(&b, 2.9999, 2), "3");
    assert_string_equal(number(&b, 1234567.891, 1), "1234567.9");
    assert_string_equal(number(&b, 7.7, 0), "8");
    assert_string_equal(number(&b, 1e300, 3)[0] == '1' ? "ok" : b.data, "ok");
    assert_string_equal(number(&b, 9007199254740992.0, 3), "9007199254740992");
    assert_string_equal(number(&b, NAN, 3), "null");
    assert_string_equal(number(&b, INFINITY, 3), "null");
    assert_string_equal(number(&b, -INFINITY, 3), "null");
    setlocale(LC_ALL, "C");
}

/* Whatever bytes are written, a strict reader takes them; valid UTF-8 without NUL comes back as it was. */
static void random_bytes_are_readable(void **state)
{
    (void)state;
    struct prng p;
    prng_seed(&p, 77);
    struct arena arena = ARENA_INIT;
    autobuf struct buf b = BUF_INIT;
    static const char *const pieces[] = { "a",    "\"",       "\\",           "\n",
                                          "\x01", "\xc3\xa9", "\xe2\x80\xa8", "\xf0\x9f\x98\x80",
                                          "\xff", "\xe2\x82", "\x7f",         "\xc2\x80" };
    for (int i = 0; i < 20000; i++) {
        char text[64];
        size_t size = 0;
        bool good = true;
        while (size < 40 && !prng_chance(&p, 0.05)) {
            uint64_t k = prng_below(&p, sizeof pieces / sizeof *pieces);
            good &= k != 8 && k != 9;
            memcpy(text + size, pieces[k], strlen(pieces[k]));
            size += strlen(pieces[k]);
        }
        buf_clear(&b);
        struct json_out j = json_out_to(&b);
        json_open(&j, NULL, '[');
        json_str(&j, NULL, bytes_of(text, size));
        json_close(&j, ']');
        struct json_value v;
        struct err e;
        assert_int_equal(json_in_parse(&arena, buf_bytes(&b), NULL, &v, &e), 0);
        if (good)
            assert_true(bytes_equal(v.list.items[0].text, bytes_of(text, size)));
        arena_reset(&arena);
    }
    arena_fini(&arena);
}

/* libjansson calls a function json_null by name; ours must not be taken for it. */
static void readers_null_is_not_ours(void **state)
{
    (void)state;
    struct arena arena = ARENA_INIT;
    struct json_value v;
    assert_int_equal(json_in_parse(&arena, bytes_str("[null]"), NULL, &v, NULL), 0);
    assert_int_equal(v.list.items[0].kind, JSON_KIND_NULL);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commas_and_brackets),
        cmocka_unit_test(text_is_escaped),
        cmocka_unit_test(numbers),
        cmocka_unit_test(random_bytes_are_readable),
        cmocka_unit_test(readers_null_is_not_ours),
    };
    return cmocka_run_group_tests_name("json_out", tests, NULL, NULL);
}
