#include "wire/json_in.h"

#include <setjmp.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"

static struct arena arena;

static int reset(void **state)
{
    (void)state;
    arena_reset(&arena);
    return 0;
}

static int done(void **state)
{
    (void)state;
    arena_fini(&arena);
    return 0;
}

static void a_tree(void **state)
{
    (void)state;
    struct json_value v;
    struct err e;
    struct json_limits limits = JSON_LIMITS_DEFAULT;
    limits.positions = true;
    const char *text =
        "{\"a\": [1, -2.5, true, false, null],\n  \"\xc3\xa9\": {\"deep\": \"x\\n\\ud83d\\ude00\"},\n \"z\":\"end\"}";
    assert_int_equal(json_in_parse(&arena, bytes_str(text), &limits, &v, &e), 0);
    assert_int_equal(v.kind, JSON_KIND_MAP);
    assert_int_equal(v.map.count, 3);
    const struct json_value *a = json_in_get(&v, "a");
    assert_int_equal(a->kind, JSON_KIND_LIST);
    assert_int_equal(a->list.count, 5);
    assert_int_equal(a->list.items[0].kind, JSON_KIND_INTEGER);
    assert_int_equal(a->list.items[0].integer, 1);
    assert_int_equal(a->list.items[1].kind, JSON_KIND_REAL);
    assert_true(a->list.items[1].real == -2.5);
    assert_true(a->list.items[2].kind == JSON_KIND_BOOL && a->list.items[2].boolean);
    assert_true(a->list.items[3].kind == JSON_KIND_BOOL && !a->list.items[3].boolean);
    assert_int_equal(a->list.items[4].kind, JSON_KIND_NULL);
    const struct json_value *deep = json_in_get(&v.map.members[1].value, "deep");
    assert_string_equal(deep->text.data, "x\n\xf0\x9f\x98\x80");
    assert_null(json_in_get(&v, "nothing"));
    assert_null(json_in_get(a, "a"));
    /* places: keys and values, columns in characters */
    assert_int_equal(v.map.members[0].line, 1);
    assert_int_equal(v.map.members[0].column, 2);
    assert_int_equal(a->list.items[1].column, 11);
    assert_int_equal(v.map.members[1].line, 2);
    assert_int_equal(v.map.members[1].column, 3);
    assert_int_equal(deep->line, 2);
    assert_int_equal(deep->column, 17);
    assert_int_equal(v.map.members[2].line, 3);
    assert_int_equal(v.map.members[2].value.column, 6);
}

static void assert_refused(struct bytes text, const char *place)
{
    struct json_value v = { .kind = JSON_KIND_TEXT };
    struct err e = { .code = ERR_OK };
    int rc = json_in_parse(&arena, text, NULL, &v, &e);
    if (rc != -ERR_INVALID)
        print_message("# not refused: %.*s\n", (int)(text.size < 60 ? text.size : 60), text.data);
    assert_int_equal(rc, -ERR_INVALID);
    assert_int_equal(v.kind, JSON_KIND_TEXT); /* untouched */
    for (const char *at = e.text; *at; at++)
        assert_true((unsigned char)*at >= 0x20);
    if (place && strncmp(e.text, place, strlen(place)) != 0)
        print_message("# %s, not at %s\n", e.text, place);
    if (place)
        assert_int_equal(strncmp(e.text, place, strlen(place)), 0);
    arena_reset(&arena);
}

static void what_is_not_json(void **state)
{
    (void)state;
    static const struct {
        const char *text, *place;
    } bad[] = {
        { "", "1:1: " },
        { " ", NULL },
        { "{", NULL },
        { "}", NULL },
        { "[1,]", "1:4: " },
        { "{\"a\":1,}", NULL },
        { "{'a':1}", "1:2: " },
        { "[1] 2", NULL },
        { "[1]]", NULL },
        { "// x\n[]", NULL },
        { "[NaN]", "1:4: " },
        { "[Infinity]", NULL },
        { "[-Infinity]", NULL },
        { "[1e999]", NULL },
        { "[-1e999]", NULL },
        { "[01]", NULL },
        { "[+1]", NULL },
        { "[.5]", NULL },
        { "[1.]", NULL },
        { "[0x10]", NULL },
        { "[\"\n\"]", NULL },
        { "[\"\\u0000\"]", NULL },
        { "[\"\\ud800\"]", NULL },
        { "[\"\\udc00\"]", NULL },
        { "[\"\\ud800x\"]", NULL },
        { "[\"\\ud800\\ud800\"]", NULL },
        { "[\"\xff\"]", NULL },
        { "[\"\xc0\x80\"]", NULL },
        { "[\"\xed\xa0\x80\"]", NULL },
        { "[\"\xf4\x90\x80\x80\"]", NULL },
        { "[\"\\x\"]", NULL },
        { "[\"", NULL },
        { "[\"\\", NULL },
        { "[tru]", NULL },
        { "[nul", NULL },
        { "{\"a\":1,\"a\":2}", NULL },
        { "{\"a\":1,\"\\u0061\":2}", NULL },
        { "{1:2}", NULL },
        { "{\"a\" 1}", NULL },
        { "1", NULL },
        { "\"x\"", NULL },
        { "null", NULL },
        { "[9007199254740993]", "1:2: " },
        { "[1,\n -9007199254740993]", "2:2: " },
        { "[99999999999999999999]", NULL },
        { "\xef\xbb\xbf[]", NULL },
        { "[1]\f", NULL },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_refused(bytes_str(bad[i].text), bad[i].place);
    assert_refused(bytes_of("[1\0]", 4), NULL);
    assert_refused(bytes_of("[]\0", 3), NULL);
    struct json_value v;
    assert_int_equal(
        json_in_parse(&arena, bytes_str(" [9007199254740992, -9007199254740992, 1e308, 0.1e-400]\n"), NULL, &v, NULL),
        0);
}

static void limits_hold(void **state)
{
    (void)state;
    autobuf struct buf b = BUF_INIT;
    struct json_value v;
    struct err e;
    /* depth 32 goes, 33 does not; nor do a hundred thousand, closed or not */
    for (int i = 0; i < 32; i++)
        buf_char(&b, '[');
    for (int i = 0; i < 32; i++)
        buf_char(&b, ']');
    assert_int_equal(json_in_parse(&arena, buf_bytes(&b), NULL, &v, &e), 0);
    buf_clear(&b);
    for (int i = 0; i < 33; i++)
        buf_char(&b, '[');
    for (int i = 0; i < 33; i++)
        buf_char(&b, ']');
    assert_refused(buf_bytes(&b), "1:33: more than 32");
    buf_clear(&b);
    for (int i = 0; i < 100000; i++)
        buf_str(&b, "{\"a\":[");
    assert_refused(buf_bytes(&b), "1:");
    /* brackets in text do not count */
    buf_clear(&b);
    buf_str(&b, "[\"\\\"");
    for (int i = 0; i < 1000; i++)
        buf_char(&b, '[');
    buf_str(&b, "\"]");
    assert_int_equal(json_in_parse(&arena, buf_bytes(&b), NULL, &v, &e), 0);
    /* members */
    buf_clear(&b);
    buf_str(&b, "[1");
    for (int i = 1; i < 10000; i++)
        buf_str(&b, ",1");
    buf_char(&b, ']');
    assert_int_equal(json_in_parse(&arena, buf_bytes(&b), NULL, &v, &e), 0);
    assert_int_equal(v.list.count, 10000);
    b.size--;
    buf_str(&b, ",1]");
    assert_refused(buf_bytes(&b), "1:");
    buf_clear(&b);
    buf_char(&b, '{');
    for (int i = 0; i < 70000; i++)
        buf_printf(&b, "%s\"k%d\":%d", i ? "," : "", i, i);
    buf_char(&b, '}');
    assert_refused(buf_bytes(&b), "1:");
    /* one string, as a value and as a key */
    buf_clear(&b);
    buf_str(&b, "[\"");
    for (int i = 0; i < 65536; i++)
        buf_char(&b, 'x');
    buf_str(&b, "\"]");
    assert_int_equal(json_in_parse(&arena, buf_bytes(&b), NULL, &v, &e), 0);
    b.size -= 2;
    buf_str(&b, "x\"]");
    assert_refused(buf_bytes(&b), "1:2: ");
    b.data[0] = '{';
    b.size--;
    buf_str(&b, ":1}");
    assert_refused(buf_bytes(&b), "1:2: ");
    /* the whole */
    buf_clear(&b);
    while (b.size <= 1048576)
        buf_char(&b, ' ');
    assert_int_equal(json_in_parse(&arena, buf_bytes(&b), NULL, &v, &e), -ERR_TOO_LARGE);
}

/* Lines of a stream cut at every possible place are the same lines. */
static void lines_in_pieces(void **state)
{
    (void)state;
    static const char stream[] = "{\"a\":1}\n\r\n  \n{\"b\":2}\r\n\n[3]\nlast";
    static const struct {
        const char *text;
        uint64_t number;
    } expected[] = { { "{\"a\":1}", 1 }, { "{\"b\":2}", 4 }, { "[3]", 6 }, { "last", 7 } };
    for (size_t piece = 1; piece <= sizeof stream; piece++) {
        struct ndjson n;
        ndjson_init(&n, 0);
        size_t found = 0;
        struct bytes line;
        uint64_t number = 0;
        struct err e;
        for (size_t at = 0; at < sizeof stream - 1; at += piece) {
            size_t left = sizeof stream - 1 - at;
            ndjson_feed(&n, bytes_of(stream + at, left < piece ? left : piece));
            while (ndjson_next(&n, &line, &number, &e) == 1) {
                assert_true(bytes_equal(line, bytes_str(expected[found].text)));
                assert_int_equal(number, expected[found++].number);
            }
        }
        assert_int_equal(ndjson_end(&n, &line, &number, &e), 1);
        assert_true(bytes_equal(line, bytes_str(expected[found].text)));
        assert_int_equal(number, expected[found++].number);
        assert_int_equal(found, 4);
        assert_int_equal(ndjson_end(&n, &line, &number, &e), 0);
        ndjson_fini(&n);
    }
}

static void lines_too_long(void **state)
{
    (void)state;
    struct ndjson n;
    struct bytes line;
    uint64_t number = 0;
    struct err e;
    ndjson_init(&n, 10);
    ndjson_feed(&n, bytes_str("1234567890\n1234567"));
    assert_int_equal(ndjson_next(&n, &line, &number, &e), 1);
    assert_int_equal(line.size, 10);
    assert_int_equal(ndjson_next(&n, &line, &number, &e), 0);
    for (int i = 0; i < 3; i++) {
        ndjson_feed(&n, bytes_str("8"));
        assert_int_equal(ndjson_next(&n, &line, &number, &e), 0);
    }
    ndjson_feed(&n, bytes_str("9\n{}\n"));
    assert_int_equal(ndjson_next(&n, &line, &number, &e), -ERR_TOO_LARGE);
    assert_non_null(strstr(e.text, "line 2 "));
    assert_int_equal(ndjson_next(&n, &line, &number, &e), -ERR_TOO_LARGE); /* for good: where would it go on? */
    assert_int_equal(ndjson_end(&n, &line, &number, &e), -ERR_TOO_LARGE);
    ndjson_fini(&n);
    /* an endless line takes no more memory than the limit */
    ndjson_init(&n, 1000);
    int rc = 0;
    for (int i = 0; i < 100000 && rc == 0; i++) {
        ndjson_feed(&n, bytes_str("x"));
        rc = ndjson_next(&n, &line, &number, &e);
        assert_true(n.kept.cap < 4096);
    }
    assert_int_equal(rc, -ERR_TOO_LARGE);
    ndjson_fini(&n);
    ndjson_init(&n, 0);
    assert_int_equal(ndjson_end(&n, &line, &number, &e), 0); /* nothing came */
    ndjson_feed(&n, bytes_str("a\n"));
    assert_int_equal(ndjson_next(&n, &line, &number, &e), 1);
    assert_int_equal(ndjson_next(&n, &line, &number, &e), 0);
    assert_int_equal(ndjson_end(&n, &line, &number, &e), 0);
    ndjson_fini(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_tree, reset),         cmocka_unit_test_setup(what_is_not_json, reset),
        cmocka_unit_test_setup(limits_hold, reset),    cmocka_unit_test_setup(lines_in_pieces, reset),
        cmocka_unit_test_setup(lines_too_long, reset),
    };
    return cmocka_run_group_tests_name("json_in", tests, NULL, done);
}
