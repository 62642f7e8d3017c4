#include "base/err.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void fields_and_codes(void **state)
{
    (void)state;
    struct err e;
    memset(&e, 'x', sizeof e);
    assert_int_equal(err_field(&e, ERR_NOT_FOUND, "jobs[3].mem", "write 4G", "no %s", "way"), -ERR_NOT_FOUND);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_string_equal(e.field, "jobs[3].mem");
    assert_string_equal(e.remedy, "write 4G");
    assert_string_equal(e.text, "no way");
    assert_int_equal(err_set(&e, ERR_INVALID, "bad"), -ERR_INVALID);
    assert_string_equal(e.field, "");
    assert_string_equal(e.remedy, "");
    assert_int_equal(err_set(NULL, ERR_FULL, "nobody listens"), -ERR_FULL);
    assert_int_equal(err_wrap(NULL, "nobody listens"), -ERR_INTERNAL);
}

static void wrapping_is_a_path_and_never_overflows(void **state)
{
    (void)state;
    struct err e;
    err_set(&e, ERR_NO_SPACE, "disk is full");
    assert_int_equal(err_wrap(&e, "insert"), -ERR_NO_SPACE);
    assert_int_equal(err_wrap(&e, "append %d records", 3), -ERR_NO_SPACE);
    assert_string_equal(e.text, "append 3 records: insert: disk is full");
    for (int i = 0; i < 200; i++)
        err_wrap(&e, "layer %d", i);
    assert_true(strlen(e.text) < sizeof e.text);
    assert_int_equal(strncmp(e.text, "layer 199: layer 198: ", 22), 0);
    err_set(&e, ERR_INVALID, "%0400d", 1);
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
}

static void errno_is_told_and_kept(void **state)
{
    (void)state;
    struct err e;
    errno = ENOENT;
    assert_int_equal(err_errno(&e, "open %s", "x"), -ERR_IO);
    assert_string_equal(e.text, "open x: No such file or directory");
    assert_int_equal(errno, ENOENT);
    errno = ENOSPC;
    assert_int_equal(err_errno(&e, "write"), -ERR_NO_SPACE);
    errno = EDQUOT;
    assert_int_equal(err_errno(&e, "write"), -ERR_NO_SPACE);
}

static void every_code_has_its_classes(void **state)
{
    (void)state;
    for (enum err_code c = ERR_INVALID; c < ERR_CODES; c++) {
        assert_true(*err_title(c));
        assert_in_range(err_http_status(c), 400, 599);
        assert_in_range(err_exit_code(c), 2, 6);
    }
    assert_int_equal(err_http_status(ERR_FULL), 429);
    assert_int_equal(err_exit_code(ERR_NOT_FOUND), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_and_codes),
        cmocka_unit_test(wrapping_is_a_path_and_never_overflows),
        cmocka_unit_test(errno_is_told_and_kept),
        cmocka_unit_test(every_code_has_its_classes),
    };
    return cmocka_run_group_tests_name("err", tests, NULL, NULL);
}
