#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "master/signature.h"

static void same(const char *line, const char *expected)
{
    autobuf struct buf out = BUF_INIT;
    signature_of(bytes_str(line), &out);
    buf_char(&out, 0);
    assert_string_equal(out.data, expected);
}

static void what_differs_is_left_out(void **state)
{
    (void)state;
    same("worker 17: out of memory at 0x7f3Ab0", "worker #: out of memory at #");
    same("worker 4: out of memory at 0x11", "worker #: out of memory at #");
    same("file /data/part-00017.csv is missing", "file /data/part-#.csv is missing");
    same("commit 9fceb02d0ae5 failed, decade failed", "commit # failed, decade failed");
    same("3b1c2d4e-11aa-22bb-33cc-0123456789ab", "#-#aa-#bb-#cc-#");
    same("  two\t\twords  ", "two words");
    same("\033[1;31mred\033[0m\a text\033]0;title", "red text]#;title");
    same("na\xc3\xafve", "na\xc3\xafve");
    same("", "");
}

static void the_last_line_counts(void **state)
{
    (void)state;
    assert_true(bytes_equal(last_line(bytes_str("one\ntwo\n\n \r\n")), bytes_str("two")));
    assert_true(bytes_equal(last_line(bytes_str("10%\r20%\rthe end")), bytes_str("the end")));
    assert_int_equal(last_line(bytes_str(" \n\n\t")).size, 0);
    assert_int_equal(last_line(bytes_of(NULL, 0)).size, 0);
    char big[2000];
    memset(big, 'x', sizeof big);
    assert_int_equal(last_line(bytes_of(big, sizeof big)).size, SIGNATURE_BYTES_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(what_differs_is_left_out),
                                        cmocka_unit_test(the_last_line_counts) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
