/* trace_report_test.c: classes of waits, and what a page has in it. */
#include "sim/trace_report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
// cmocka.h wants the headers above.
#include <cmocka.h>

static void test_waits_fall_into_classes(void **state)
{
    (void)state;
    const struct { double wait_s; const char *name; } cases[] = {
        { 0, "none" }, { 0.2, "less than 1 s" }, { 1, "1 s to 3 s" }, { 29.9, "10 s to 30 s" }, { 30, "30 s to 1 min" }, { 59, "30 s to 1 min" },
        { 3600, "1 h to 3 h" }, { 86399, "10 h to 1 d" }, { 86400, "1 d to 3 d" }, { 25919999, "100 d to 300 d" }, { 25920000, "300 d or more" },
        { 1e12, "300 d or more" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(wait_class_name(wait_class(cases[i].wait_s)), cases[i].name);
}

static void report_of(struct buf *out, const char *title, const struct report_job *jobs, size_t jobs_count, const struct report_run *runs,
                      size_t runs_count)
{
    const char *const columns[] = { "wait" }, *const cells[] = { "1", "2" };
    const bool best[] = { true, false };
    const struct report r = { title, "two jobs", jobs, jobs_count, runs, runs_count, { columns, 1, cells, best } };
    trace_report(&r, out);
    buf_char(out, 0);
}

static void test_a_page_has_every_picture_and_nothing_from_elsewhere(void **state)
{
    (void)state;
    const struct report_job jobs[] = { { 100, 50, 1 }, { 110, 50, 0.5 } };
    const double a[] = { 100, 150 }, b[] = { 100, 210 };
    const struct report_run runs[] = { { "one", a }, { "other", b } };
    autobuf struct buf out = BUF_INIT;
    report_of(&out, "a <b> & \"c\"", jobs, 2, runs, 2);
    assert_non_null(strstr(out.data, "<h1>a &lt;b&gt; &amp; &quot;c&quot;</h1>"));
    assert_null(strstr(out.data, "a <b>"));
    assert_null(strstr(out.data, "<script"));
    assert_null(strstr(out.data, "http"));
    assert_non_null(strstr(out.data, "seconds since the first submission"));
    assert_non_null(strstr(out.data, "<td class=\"best\">1"));
    assert_non_null(strstr(out.data, "none: 1 jobs, 50.0 %"));
    assert_non_null(strstr(out.data, "30 s to 1 min: 1 jobs, 50.0 %"));  /* 40 s */
    assert_non_null(strstr(out.data, "1 min to 3 min: 1 jobs, 50.0 %")); /* 100 s, in the other */
    assert_null(strstr(out.data, "nan"));
}

static void test_a_page_of_nothing(void **state)
{
    (void)state;
    const struct report_run run = { "one", NULL };
    autobuf struct buf out = BUF_INIT;
    report_of(&out, "none", NULL, 0, &run, 1);
    assert_null(strstr(out.data, "nan"));
    assert_null(strstr(out.data, "inf"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waits_fall_into_classes),
        cmocka_unit_test(test_a_page_has_every_picture_and_nothing_from_elsewhere),
        cmocka_unit_test(test_a_page_of_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
