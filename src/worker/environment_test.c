#include "worker/environment.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct arena arena;
static struct environment environment;

static int setup(void **state)
{
    (void)state;
    static const char *const others[] = { "USER", "LOGNAME", "SHELL", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR" };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        unsetenv(others[i]);
    setenv("HOME", "/home/somebody", 1);
    setenv("LANG", "C.UTF-8", 1);
    setenv("PATH", "/evil", 1);
    setenv("LD_PRELOAD", "/evil.so", 1);
    setenv("SECRET_TOKEN", "x", 1);
    environment_init(&environment, "node-7");
    environment.gpus = true;
    setenv("PATH", "/usr/bin:/bin", 1);
    unsetenv("LD_PRELOAD"); /* taken from here on by nobody but what the test itself starts */
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    environment_fini(&environment);
    arena_fini(&arena);
    return 0;
}

static const char *value_of(char *const *env, const char *name)
{
    const char *found = NULL;
    size_t size = strlen(name);
    for (; *env; env++)
        if (strncmp(*env, name, size) == 0 && (*env)[size] == '=') {
            assert_null(found); /* A name stands once. */
            found = *env + size + 1;
        }
    return found;
}

static void assert_replaced(const char *text, uint32_t index, const char *expected)
{
    assert_string_equal(environment_replace(&arena, bytes_str(text), index), expected);
}

static void index_is_put_in(void **state)
{
    (void)state;
    assert_replaced("{}", 7, "7");
    assert_replaced("a{}b{}c", 12, "a12b12c");
    assert_replaced("{{}}", 3, "{3}");
    assert_replaced("{} {", 0, "0 {");
    assert_replaced("{ }", 5, "{ }");
    assert_replaced("", 5, "");
    assert_replaced("}{", 5, "}{");
    assert_replaced("{}", TASK_SINGLE, "{}");
    assert_replaced("{}", 4294967290u, "4294967290");
    assert_replaced("no places", 1, "no places");
}

static struct exec_job make(const struct job_spec *spec, uint32_t index)
{
    struct exec_command command = {
        .verb = EXEC_START,
        .ref = { { 42 }, index == TASK_SINGLE ? TASK_SINGLE : 3, 2 },
        .index = index,
        .need = { { [RES_CPU] = 1500, [RES_MEM] = 1073741824, [RES_GPU] = 2000 } },
        .gpus = bytes_str("1,3"),
        .cpus = bytes_str("0,2"),
        .token = { .low = 0xfedcba9876543210u, .high = 0x0123456789abcdefu },
    };
    struct exec_job job;
    environment_job(&arena, &environment, spec, &command, NULL, &job);
    return job;
}

static void environment_is_clean(void **state)
{
    (void)state;
    struct bytes argv[] = { bytes_str("work"), bytes_str("--part={}") };
    struct job_spec spec = { .command = argv, .command_count = 2, .cron = bytes_str("nightly"), .cron_due_wall_ms = 1795769160000 };
    struct exec_job job = make(&spec, 30);
    assert_string_equal(value_of(job.env, "ROTA_CRON"), "nightly");
    assert_string_equal(value_of(job.env, "ROTA_CRON_DUE"), "2026-11-27T08:46:00.000Z");
    assert_string_equal(job.argv[0], "work");
    assert_string_equal(job.argv[1], "--part=30");
    assert_null(job.argv[2]);
    assert_string_equal(value_of(job.env, "PATH"), "/usr/local/bin:/usr/bin:/bin");
    assert_string_equal(value_of(job.env, "HOME"), "/home/somebody");
    assert_string_equal(value_of(job.env, "LANG"), "C.UTF-8");
    assert_null(value_of(job.env, "LD_PRELOAD"));
    assert_null(value_of(job.env, "SECRET_TOKEN"));
    assert_string_equal(value_of(job.env, "ROTA_JOB_ID"), "42");
    assert_string_equal(value_of(job.env, "ROTA_TASK_ID"), "30");
    assert_string_equal(value_of(job.env, "ROTA_ATTEMPT"), "2");
    assert_string_equal(value_of(job.env, "ROTA_NODE"), "node-7");
    assert_string_equal(value_of(job.env, "ROTA_CPUS"), "1.5");
    assert_string_equal(value_of(job.env, "ROTA_MEM_BYTES"), "1073741824");
    assert_string_equal(value_of(job.env, "ROTA_GPUS"), "1,3");
    assert_string_equal(value_of(job.env, "CUDA_VISIBLE_DEVICES"), "1,3");
    assert_string_equal(value_of(job.env, "ROTA_GPU_COUNT"), "2");
    assert_string_equal(value_of(job.env, "ROTA_CPU_LIST"), "0,2");
    assert_string_equal(job.gpus, "1,3");
    assert_string_equal(job.cpus, "0,2");
    assert_string_equal(value_of(job.env, "ROTA_FENCE"), "0123456789abcdeffedcba9876543210");
    assert_null(job.workdir);
    assert_null(job.stdout_path);
    job = make(&spec, TASK_SINGLE);
    assert_null(value_of(job.env, "ROTA_TASK_ID"));
    assert_string_equal(job.argv[1], "--part={}");
}

static void jobs_add_but_not_everything(void **state)
{
    (void)state;
    struct bytes argv[] = { bytes_str("true") };
    struct spec_pair env[] = {
        { bytes_str("COLOUR"), bytes_str("blue=green") }, { bytes_str("EMPTY"), bytes_str("") },
        { bytes_str("HOME"), bytes_str("/elsewhere") },   { bytes_str("PATH"), bytes_str("/opt/bin:/bin") },
        { bytes_str("ROTA_FENCE"), bytes_str("forged") }, { bytes_str("ROTA_NEW"), bytes_str("x") },
        { bytes_str("LD_PRELOAD"), bytes_str("x.so") },   { bytes_str("BASH_ENV"), bytes_str("x") },
        { bytes_str("LD_LIBRARY_PATH"), bytes_str("/opt/lib") },
    };
    struct job_spec spec = {
        .command = argv, .command_count = 1, .env = env, .env_count = sizeof env / sizeof *env,
        .workdir = bytes_str("/data/{}"), .stdout_path = bytes_str("/data/out-{}.txt"),
    };
    struct exec_job job = make(&spec, 9);
    assert_string_equal(value_of(job.env, "COLOUR"), "blue=green");
    assert_string_equal(value_of(job.env, "EMPTY"), "");
    assert_string_equal(value_of(job.env, "HOME"), "/elsewhere");
    assert_string_equal(value_of(job.env, "PATH"), "/opt/bin:/bin");
    assert_string_equal(value_of(job.env, "LD_LIBRARY_PATH"), "/opt/lib");
    assert_string_equal(value_of(job.env, "ROTA_FENCE"), "0123456789abcdeffedcba9876543210");
    assert_null(value_of(job.env, "ROTA_NEW"));
    assert_null(value_of(job.env, "LD_PRELOAD"));
    assert_null(value_of(job.env, "BASH_ENV"));
    assert_string_equal(job.workdir, "/data/9");
    assert_string_equal(job.stdout_path, "/data/out-9.txt");
}

static void thousandths_are_written_as_people_do(void **state)
{
    (void)state;
    static const struct { uint64_t milli; const char *text; } cases[] = {
        { 0, "0" }, { 1, "0.001" }, { 10, "0.01" }, { 100, "0.1" }, { 250, "0.25" }, { 999, "0.999" }, { 1000, "1" },
        { 1050, "1.05" }, { 64000, "64" }, { 1234567, "1234.567" },
    };
    struct bytes argv[] = { bytes_str("true") };
    struct job_spec spec = { .command = argv, .command_count = 1 };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct exec_command command = { .index = TASK_SINGLE, .need = { { [RES_CPU] = cases[i].milli } } };
        struct exec_job job;
        environment_job(&arena, &environment, &spec, &command, NULL, &job);
        assert_string_equal(value_of(job.env, "ROTA_CPUS"), cases[i].text);
    }
}

static void names_that_are_refused(void **state)
{
    (void)state;
    assert_true(environment_allows(bytes_str("A")));
    assert_true(environment_allows(bytes_str("ENVIRONMENT")));
    assert_true(environment_allows(bytes_str("ROTATION")));
    assert_false(environment_allows(bytes_str("")));
    assert_false(environment_allows(bytes_str("A=B")));
    assert_false(environment_allows(bytes_of("A\0B", 3)));
    assert_false(environment_allows(bytes_str("ENV")));
    assert_false(environment_allows(bytes_str("ROTA_")));
    assert_false(environment_allows(bytes_str("BASH_FUNC_x%%")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(index_is_put_in),
        T(environment_is_clean),
        T(jobs_add_but_not_everything),
        T(thousandths_are_written_as_people_do),
        T(names_that_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
