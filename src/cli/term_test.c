#include "cli/test.h"

#include "cli/term.h"

static void cleaned(const char *in, size_t size, const char *expected)
{
    autobuf struct buf out = BUF_INIT;
    text_clean(&out, bytes_of(in, size));
    assert_string_equal(out.data ? out.data : "", expected);
}
#define CLEAN(in, expected) cleaned(in, sizeof in - 1, expected)

static void text_for_people_cannot_drive_the_terminal(void **state)
{
    (void)state;
    CLEAN("plain text, \xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80", "plain text, \xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80");
    CLEAN("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m");
    CLEAN("a\0b\r\n\t\x7f", "a\\x00b\\x0d\\x0a\\x09\\x7f");
    CLEAN("\xC2\x9B"
          "31m",
          "\\x9b31m"); /* C1 CSI */
    CLEAN("a\xE2\x80\xAE"
          "b",
          "a\\u202eb"); /* right-to-left override */
    CLEAN("\xE2\x81\xA6x\xEF\xBB\xBF", "\\u2066x\\ufeff");
    CLEAN("bad \xff\xc3 \xed\xa0\x80", "bad \\xff\\xc3 \\xed\\xa0\\x80"); /* not UTF-8, cut, a surrogate */
    CLEAN("\xC0\xAF", "\\xc0\\xaf");                                      /* overlong */
}

static void json_for_a_terminal_stays_the_same_json(void **state)
{
    (void)state;
    autobuf struct buf out = BUF_INIT;
    json_clean(&out, bytes_str("{\"a\":\"x\xC2\x9By\xE2\x80\xAEz\x7f\"}\n"));
    assert_string_equal(out.data, "{\"a\":\"x\\u009by\\u202ez\\u007f\"}\n");
}

/* The whole at once, and byte by byte: the same must come out. */
static void logged(const char *in, size_t size, const char *expected)
{
    for (int piecewise = 0; piecewise < 2; piecewise++) {
        struct log_clean c = { 0 };
        autobuf struct buf out = BUF_INIT;
        for (size_t i = 0; piecewise && i < size; i++)
            log_clean(&c, &out, bytes_of(in + i, 1));
        if (!piecewise)
            log_clean(&c, &out, bytes_of(in, size));
        if (strcmp(out.data ? out.data : "", expected) != 0)
            fail_msg("piecewise %d: got \"%s\", not \"%s\"", piecewise, out.data, expected);
    }
}
#define LOG(in, expected) logged(in, sizeof in - 1, expected)

static void logs_keep_lines_and_colours_and_nothing_else(void **state)
{
    (void)state;
    LOG("a\tb\nc\n", "a\tb\nc\n");
    LOG("\x1b[1;31mred\x1b[0m\x1b[m", "\x1b[1;31mred\x1b[0m\x1b[m");
    LOG("\x1b[38;5;196mx", "\x1b[38;5;196mx");
    LOG("\x1b[2Jx\x1b[Hy\x1b[?25lz", "xyz");                      /* erase, move, hide the cursor */
    LOG("\x1b[>4;2mx\x1b[ 3mx", "xx");                            /* private and intermediate: not SGR */
    LOG("\x1b]0;title\x07x\x1b]52;c;aGk=\x1b\\y", "xy");          /* OSC: title, clipboard */
    LOG("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link");   /* OSC 8 */
    LOG("\x1bP1$r0m\x1b\\x\x1b_apc\x1b\\y\x1b^pm\x1b\\z", "xyz"); /* DCS, APC, PM */
    LOG("\x1b"
        "cx\x1b(0y\x1b#8z",
        "xyz"); /* reset, character sets, alignment */
    LOG("\x1b]never ended\nnext line\n", "\nnext line\n");
    LOG("\xC2\x9B"
        "31mx",
        "\x1b[31mx"); /* C1 CSI is a CSI */
    LOG("\xC2\x9D"
        "0;t\x07x",
        "x"); /* C1 OSC */
    LOG("\x07\x08\x00\x0e\x7f"
        "a",
        "a");
    LOG("10%\r20%\r\ndone\r\n", "10%\n20%\ndone\n");
    LOG("\xff\xC3(\xE2\x82", "\xEF\xBF\xBD\xEF\xBF\xBD(");
    LOG("\xE2\x80\xAE"
        "abc",
        "abc");
    LOG("\x1b[1\x1b[2mx", "\x1b[2mx");
    LOG("\x1b[1111111111111111111111111111111111111111111111mx", "x"); /* longer than any colour */
    LOG("\x1b\x1b\x1b[31mx", "\x1b[31mx");
}

static void a_log_ends_in_plain_colour(void **state)
{
    (void)state;
    struct log_clean c = { 0 };
    autobuf struct buf out = BUF_INIT;
    log_clean(&c, &out, bytes_str("\x1b[31mred\xE2\x82"));
    log_clean_end(&c, &out);
    assert_string_equal(out.data, "\x1b[31mred\xEF\xBF\xBD\x1b[0m");
}

static void errors_are_one_clean_line(void **state)
{
    (void)state;
    struct err err = {
        .code = ERR_INVALID, .field = "--mem", .text = "\"4Q\" is not a size", .remedy = "write 4G or 512M"
    };
    autobuf struct buf out = BUF_INIT;
    error_line(&out, &err);
    assert_string_equal(out.data, "--mem: \"4Q\" is not a size; write 4G or 512M");
    buf_clear(&out);
    err = (struct err){ .code = ERR_NOT_FOUND, .text = "no job \x1b[31m" };
    error_line(&out, &err);
    assert_string_equal(out.data, "no job \\x1b[31m");
    buf_clear(&out);
    error_line(&out, &(struct err){ .code = ERR_DENIED });
    assert_string_equal(out.data, "not allowed");
}

static void progress_says_where_it_is(void **state)
{
    (void)state;
    struct progress p;
    autobuf struct buf out = BUF_INIT;
    progress_start(&p, PROGRESS_NONE, "jobs", 1000);
    progress_set(&p, 0, 1000, 0, 1000);
    progress_set(&p, 250, 1000, 3, 11000);
    progress_line(&p, 11000, 0, &out);
    assert_string_equal(out.data, "250/1000 jobs 25%  25.0/s  30s left  3 failed");
    buf_clear(&out);
    progress_line(&p, 11000, 80, &out);
    assert_int_equal(out.data[0], '[');
    assert_true(out.size <= 80);
    buf_clear(&out);
    /* A part that is not done is never shown as all of it. */
    progress_set(&p, 99999, 100000, 0, 12000);
    progress_line(&p, 12000, 0, &out);
    assert_non_null(strstr(out.data, "99999/100000 jobs 99%"));
    buf_clear(&out);
    progress_set(&p, 100000, 100000, 0, 12000);
    progress_line(&p, 12000, 0, &out);
    assert_non_null(strstr(out.data, "100000/100000 jobs 100%"));
    assert_null(strstr(out.data, "left"));
    buf_clear(&out);
    /* What was done before it began is not its rate. */
    progress_start(&p, PROGRESS_NONE, "jobs", 0);
    progress_set(&p, 500, 1000, 0, 0);
    progress_set(&p, 510, 1000, 0, 10000);
    progress_line(&p, 10000, 0, &out);
    assert_non_null(strstr(out.data, "1.0/s"));
    buf_clear(&out);
    progress_start(&p, PROGRESS_NONE, "jobs", 0);
    progress_set(&p, 7, 0, 0, 1000);
    progress_line(&p, 1000, 0, &out);
    assert_non_null(strstr(out.data, "7 jobs"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_for_people_cannot_drive_the_terminal),
        cmocka_unit_test(json_for_a_terminal_stays_the_same_json),
        cmocka_unit_test(logs_keep_lines_and_colours_and_nothing_else),
        cmocka_unit_test(a_log_ends_in_plain_colour),
        cmocka_unit_test(errors_are_one_clean_line),
        cmocka_unit_test(progress_says_where_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
