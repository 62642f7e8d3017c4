/* swf_test.c: what is read from a log, what is refused and where, and which jobs are left. */
#include "sim/swf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
// cmocka.h wants the headers above.
#include <cmocka.h>

#define REST " -1 -1 -1 -1 -1 -1"

static struct swf reads(const char *text)
{
    struct swf w;
    struct err err = { 0 };
    if (swf_parse(&w, "t", bytes_str(text), &err) < 0)
        fail_msg("%s: %s", err.field, err.text);
    return w;
}

static void fields_are_where_they_belong(void **state)
{
    (void)state;
    struct swf w = reads("; Version: 2\n;MaxProcs:\t128 \r\n; MaxNodes: 7\n\n"
                         "  1\t2.9  3 4 5 6 7 8 9 10 11 12" REST "\r\n"
                         "-1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1" REST);
    assert_int_equal(w.procs, 128);
    assert_int_equal(w.count, 2);
    assert_memory_equal(&w.rows[0], (&(struct swf_row){ 1, 2, 4, 5, 8, 9, 12 }), sizeof *w.rows);
    assert_memory_equal(&w.rows[1], (&(struct swf_row){ -1, -1, -1, -1, -1, -1, -1 }), sizeof *w.rows);
    swf_fini(&w);
    w = reads("; MaxNodes: 256\n; MaxProcs: unknown\n");
    assert_int_equal(w.procs, 256);
    swf_fini(&w);
    w = reads("");
    assert_int_equal(w.procs, 0);
    swf_fini(&w);
}

static void refused(const char *text, const char *field, const char *message)
{
    struct swf w;
    struct err err = { 0 };
    assert_true(swf_parse(&w, "t", bytes_str(text), &err) < 0);
    assert_string_equal(err.field, field);
    assert_string_equal(err.text, message);
    assert_true(err.remedy[0] != 0);
    assert_null(w.rows);
}

static void what_is_no_line_is_refused(void **state)
{
    (void)state;
    refused("1 2 3 4 5 6 7 8 9 10 11 12" REST "\n1 2 3", "run time", "t:2: the line ends after 3 of 18 fields");
    refused("\n1 2 3 4x", "run time", "t:2: \"4x\" is not a number that can be used");
    refused("1 -", "submit time", "t:1: \"-\" is not a number that can be used");
    refused("1 2 3 4 5 6 7 8 9 10 11 1e3" REST, "user", "t:1: \"1e3\" is not a number that can be used");
    refused("1 2 3 4 5 6 7 8 9 10 11 nan" REST, "user", "t:1: \"nan\" is not a number that can be used");
    refused("1 2 3.5.5", "wait time", "t:1: \"3.5.5\" is not a number that can be used");
    refused("1000000000001", "job number", "t:1: \"1000000000001\" is not a number that can be used");
}

static void jobs_come_in_order_of_submission(void **state)
{
    (void)state;
    struct swf w = reads("1 20 -1 4 2 -1 -1 -1 -1 -1 1 1" REST "\n" /* no request: what was used; no estimate: its run time */
                         "2 10 -1 9 1 -1 -1 3 5 -1 1 1" REST "\n"
                         "3 20 -1 4 1 -1 -1 1 5 -1 1 1" REST "\n"
                         "4 30 -1 4 1 -1 -1 5 5 -1 1 1" REST "\n");
    struct swf_choice choice = { .procs = 4 };
    struct swf_job *jobs;
    struct swf_counts n;
    struct err err;
    size_t count;
    int64_t procs;
    assert_int_equal(swf_choose(&w, &choice, &jobs, &count, &procs, &n, &err), 0);
    assert_int_equal(count, 3);
    assert_int_equal(procs, 4);
    assert_int_equal(n.too_wide, 1);
    assert_int_equal(n.no_estimate, 1);
    assert_int_equal(n.overrun, 1);
    const int64_t ids[] = { 2, 1, 3 }, estimates[] = { 5, 4, 5 }, widths[] = { 3, 2, 1 };
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(jobs[i].id, ids[i]);
        assert_int_equal(jobs[i].estimate_s, estimates[i]);
        assert_int_equal(jobs[i].procs, widths[i]);
        assert_int_equal(jobs[i].start_s, -1);
    }
    free(jobs);
    choice.first = 3;
    assert_true(swf_choose(&w, &choice, &jobs, &count, &procs, &n, &err) < 0);
    choice.procs = 0;
    assert_true(swf_choose(&w, &choice, &jobs, &count, &procs, &n, &err) < 0);
    assert_string_equal(err.field, "--procs");
    swf_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(fields_are_where_they_belong),
                                        cmocka_unit_test(what_is_no_line_is_refused),
                                        cmocka_unit_test(jobs_come_in_order_of_submission) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
