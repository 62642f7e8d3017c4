#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "master/body.h"

static int read_body(struct arena *arena, const char *json, struct body_field *fields, struct err *err)
{
    fields[0] = (struct body_field){ .name = "reason", .type = BODY_TEXT, .max = 8 };
    fields[1] = (struct body_field){ .name = "priority", .type = BODY_INTEGER, .min = -5, .max = 5, .required = true };
    return body_read(arena, bytes_str(json), fields, 2, err);
}

static void reads_objects(void **state)
{
    (void)state;
    struct arena arena = ARENA_INIT;
    struct body_field f[2];
    struct err err;
    assert_int_equal(read_body(&arena, " { \"priority\": -5 } ", f, &err), 0);
    assert_true(f[1].given);
    assert_int_equal(f[1].integer, -5);
    assert_false(f[0].given);
    assert_int_equal(read_body(&arena, "{\"reason\":\"caf\xc3\xa9\",\"priority\":3}", f, &err), 0);
    assert_string_equal(f[0].text.data, "caf\xc3\xa9");
    arena_fini(&arena);
}

static void an_empty_body_is_an_empty_object(void **state)
{
    (void)state;
    struct arena arena = ARENA_INIT;
    struct body_field f = { .name = "reason", .type = BODY_TEXT, .max = 8 };
    struct err err;
    assert_int_equal(body_read(&arena, bytes_of(NULL, 0), &f, 1, &err), 0);
    assert_int_equal(body_read(&arena, bytes_str(" \r\n"), &f, 1, &err), 0);
    assert_false(f.given);
    arena_fini(&arena);
}

static void names_what_is_wrong(void **state)
{
    (void)state;
    static const struct { const char *json, *field;
    } cases[] = {
        { "", "priority" },
        { "{}", "priority" },
        { "[]", "body" },
        { "7", "body" },
        { "{\"priority\":1", "body" },
        { "{\"priority\":\"1\"}", "priority" },
        { "{\"priority\":1.5}", "priority" },
        { "{\"priority\":6}", "priority" },
        { "{\"priority\":1,\"reason\":7}", "reason" },
        { "{\"priority\":1,\"reason\":\"123456789\"}", "reason" },
        { "{\"priority\":1,\"reason\":\"a\\nb\"}", "reason" },
        { "{\"priority\":1,\"reasom\":\"a\"}", "reasom" },
        { "{\"priority\":1,\"priority\":1}", "body" },
        { "{\"priority\":1e99}", "priority" },
        { "{\"priority\":1}x", "body" },
    };
    struct arena arena = ARENA_INIT;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct body_field f[2];
        struct err err;
        assert_int_equal(read_body(&arena, cases[i].json, f, &err), -ERR_INVALID);
        assert_string_equal(err.field, cases[i].field);
    }
    struct body_field f[2];
    struct err err;
    read_body(&arena, "{\"reasom\":1}", f, &err);
    assert_string_equal(err.remedy, "did you mean \"reason\"?");
    arena_fini(&arena);
}

/* The elements of a list, each followed by a bar; then how it ended. */
static void expect_list(const char *json, const char *elements, int end)
{
    struct body_list l;
    struct bytes element;
    struct err err;
    autobuf struct buf got = BUF_INIT;
    int rc;
    buf_str(&got, "");
    assert_true(body_is_list(bytes_str(json)));
    body_list_start(&l, bytes_str(json));
    while ((rc = body_list_next(&l, &element, &err)) > 0) {
        buf_add(&got, element.data, element.size);
        buf_char(&got, '|');
    }
    assert_int_equal(rc, end);
    assert_string_equal(got.size ? got.data : "", elements);
}

static void takes_lists_apart(void **state)
{
    (void)state;
    expect_list("[]", "", 0);
    expect_list(" [ ] ", "", 0);
    expect_list("[{}]", "{}|", 0);
    expect_list("[ {\"a\":[1,2,{\"b\":3}]} ,\n{\"c\":\"],[\\\"\"} ]\n", "{\"a\":[1,2,{\"b\":3}]}|{\"c\":\"],[\\\"\"}|",
                0);
    expect_list("[1,\"two\",null]", "1|\"two\"|null|", 0);
    expect_list("[", "", -ERR_INVALID);
    expect_list("[1", "", -ERR_INVALID);
    expect_list("[1,", "1|", -ERR_INVALID);
    expect_list("[1,]", "1|", -ERR_INVALID);
    expect_list("[,1]", "", -ERR_INVALID);
    expect_list("[1]x", "1|", -ERR_INVALID);
    expect_list("[}]", "", -ERR_INVALID);
    expect_list("[\"abc", "", -ERR_INVALID);
    expect_list("[\"abc\\", "", -ERR_INVALID);
    assert_false(body_is_list(bytes_str("{}")));
    assert_false(body_is_list(bytes_str("")));
    assert_false(body_is_list(bytes_of(NULL, 0)));
}

static void objects_are_taken_as_they_are(void **state)
{
    (void)state;
    struct arena arena = ARENA_INIT;
    struct err err;
    struct bytes body = bytes_str("{ \"a\" : \"}],{\", \"job\" : {\"x\": [1, {\"job\": 2}], \"y\": \"\\\"}\"} , \"b\":true}");
    struct body_field f[] = { { .name = "a", .type = BODY_TEXT, .max = 10 }, { .name = "job", .type = BODY_OBJECT }, { .name = "b", .type = BODY_BOOL } };
    assert_int_equal(body_read(&arena, body, f, 3, &err), 0);
    assert_true(bytes_equal(f[1].text, bytes_str("{\"x\": [1, {\"job\": 2}], \"y\": \"\\\"}\"}")));
    assert_true(f[2].given && f[2].integer);
    assert_true(bytes_equal(body_member(bytes_str("{\"n\":7}"), "n"), bytes_str("7")));
    assert_int_equal(body_member(bytes_str("{}"), "n").size, 0);
    assert_int_equal(body_member(bytes_str("{\"m\":{\"n\":7}}"), "n").size, 0);
    static const char *const wrong[] = { "{\"job\":[1]}", "{\"job\":\"{}\"}", "{\"job\":null}", "{\"\\u006aob\":{}}" };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct body_field job = { .name = "job", .type = BODY_OBJECT };
        assert_int_equal(body_read(&arena, bytes_str(wrong[i]), &job, 1, &err), -ERR_INVALID);
        assert_string_equal(err.field, "job");
    }
    arena_fini(&arena);
}

static void depth_is_bounded(void **state)
{
    (void)state;
    autobuf struct buf deep = BUF_INIT;
    for (int i = 0; i < 100; i++)
        buf_char(&deep, '[');
    for (int i = 0; i < 100; i++)
        buf_char(&deep, ']');
    expect_list(deep.data, "", -ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_objects),
        cmocka_unit_test(an_empty_body_is_an_empty_object),
        cmocka_unit_test(names_what_is_wrong),
        cmocka_unit_test(takes_lists_apart),
        cmocka_unit_test(objects_are_taken_as_they_are),
        cmocka_unit_test(depth_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
