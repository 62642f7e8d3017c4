#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "api/select.h"

/* A brain with a few jobs, as far as walking over them goes. Job 0 ends the list. */
static const struct { uint64_t id; const char *user, *name; uint32_t tasks;
} jobs[] = {
    { 3, "ann", "build", 0 },  { 5, "ann", "build-docs", 0 }, { 6, "bob", "", 0 },
    { 7, "bob", "array", 10 }, { 9, "ann", "train", 0 },
};
#define JOBS (sizeof jobs / sizeof jobs[0])

job_id sched_view_next(const struct sched *s, job_id from, bool backward)
{
    (void)s;
    for (size_t i = 0; i < JOBS; i++) {
        size_t at = backward ? JOBS - 1 - i : i;
        if (backward ? (from.n == 0 || jobs[at].id < from.n) : jobs[at].id > from.n)
            return (job_id){ jobs[at].id };
    }
    return (job_id){ 0 };
}

bool sched_view_job(const struct sched *s, job_id id, struct job_view *out)
{
    (void)s;
    for (size_t i = 0; i < JOBS; i++)
        if (jobs[i].id == id.n) {
            *out = (struct job_view){ .id = id, .user = bytes_str(jobs[i].user), .name = bytes_str(jobs[i].name),
                                      .array = jobs[i].tasks > 0, .tasks = jobs[i].tasks, .first = 10, .step = 2 };
            return true;
        }
    return false;
}

/* The jobs that `text` names, as text: "3 7/2 ". */
static void expect(const char *text, const char *user, const char *ids)
{
    struct selector s;
    struct err err;
    struct select_walk w;
    autobuf struct buf got = BUF_INIT;
    buf_str(&got, "");
    assert_int_equal(selector_parse(bytes_str(text), &s, &err), 0);
    select_walk_start(&w, &s, NULL, bytes_str(user));
    for (int steps = 0;; steps++) {
        struct job_view job;
        uint32_t task;
        assert_true(steps < 100);
        enum select_step step = select_walk_next(&w, NULL, &job, &task);
        if (step == SELECT_ENDED)
            break;
        if (step == SELECT_PASSED)
            continue;
        buf_u64(&got, job.id.n);
        if (task != TASK_ALL)
            buf_printf(&got, "/%u", task);
        buf_char(&got, ' ');
    }
    assert_string_equal(got.size ? got.data : "", ids);
    selector_fini(&s);
}

static void walks(void **state)
{
    (void)state;
    expect("3", "ann", "3 ");
    expect("4", "ann", "");
    expect("1-6", "ann", "3 5 6 ");
    expect("5-9,3", "ann", "3 5 6 7 9 ");
    expect("3,3,3-3", "ann", "3 ");
    expect("5-7,6-9", "ann", "5 6 7 9 ");
    expect("8-1000000000", "ann", "9 ");
    expect("all", "ann", "3 5 6 7 9 ");
    expect("last", "ann", "9 ");
    expect("last", "bob", "7 ");
    expect("last", "eve", "");
    expect("build", "ann", "3 ");
    expect("build*", "ann", "3 5 ");
    expect("[bt]*", "ann", "3 5 9 ");
    expect("*", "ann", "3 5 7 9 ");
    expect("nothing", "ann", "");
    expect("a,b", "ann", "");
}

static void tasks_are_named_by_index(void **state)
{
    (void)state;
    expect("7_10", "ann", "7/0 ");
    expect("7_28", "ann", "7/9 ");
    expect("7_11", "ann", "");
    expect("7_30", "ann", "");
    expect("7_8", "ann", "");
    expect("3_0", "ann", "");
    expect("7_10,7_12,7_10", "ann", "7/0 7/1 ");
    expect("7,7_10", "ann", "7 ");
    expect("7_10,5-9", "ann", "5 6 7 9 ");
}

static void refuses(void **state)
{
    (void)state;
    static const char *const texts[] = { "", "9-5", "1,9-5", "a\nb", "\xff\xfe" };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct selector s;
        struct err err;
        assert_int_equal(selector_parse(bytes_str(texts[i]), &s, &err), -ERR_INVALID);
        assert_string_equal(err.field, "selector");
    }
    autobuf struct buf many = BUF_INIT;
    for (unsigned i = 1; i <= SELECT_PARTS_MAX + 1; i++)
        buf_printf(&many, "%s%u", i > 1 ? "," : "", i);
    struct selector s;
    struct err err;
    assert_true(selector_parse(buf_bytes(&many), &s, &err) < 0);
}

static void numbers_that_are_none_are_names(void **state)
{
    (void)state;
    static const char *const texts[] = { "0", "1-", "-1", "7_", "7_x", "99999999999999999999", "1,,2", "build-7" };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct selector s;
        struct err err;
        assert_int_equal(selector_parse(bytes_str(texts[i]), &s, &err), 0);
        assert_int_equal(s.kind, SELECT_NAME);
        assert_null(s.parts);
        selector_fini(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(walks),
        cmocka_unit_test(tasks_are_named_by_index),
        cmocka_unit_test(refuses),
        cmocka_unit_test(numbers_that_are_none_are_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
