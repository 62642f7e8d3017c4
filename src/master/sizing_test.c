#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "master/sizing.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static void succeeded(struct sizing *z, const char *name, uint64_t mem, uint64_t cpu_ms, int64_t run_ms)
{
    struct sizing_run run = { .mem_max_bytes = mem, .mem_asked_bytes = 64 * GIB, .cpu_ms = cpu_ms, .run_ms = run_ms };
    sizing_add(z, bytes_str("ann"), bytes_str(name), &run);
}

static void ran_out(struct sizing *z, const char *name, uint64_t mem, uint64_t asked)
{
    struct sizing_run run = { .oom = true, .mem_max_bytes = mem, .mem_asked_bytes = asked, .run_ms = 5000 };
    sizing_add(z, bytes_str("ann"), bytes_str(name), &run);
}

static struct sizing_advice of(const struct sizing *z, const char *name)
{
    struct sizing_advice a;
    assert_true(sizing_find(z, bytes_str("ann"), bytes_str(name), &a));
    return a;
}

static void speaks_from_the_third_run_on(void **state)
{
    (void)state;
    struct sizing *z = sizing_new();
    struct sizing_advice a;
    assert_false(sizing_find(z, bytes_str("ann"), bytes_str("train"), &a));
    succeeded(z, "train", 1229 * MIB, 0, 10);
    succeeded(z, "train", 400 * MIB, 0, 10);
    succeeded(z, "train", 0, 0, 10); /* nobody measured it */
    assert_false(sizing_find(z, bytes_str("ann"), bytes_str("train"), &a));
    assert_int_equal(a.runs, 2);
    succeeded(z, "train", 800 * MIB, 0, 10);
    a = of(z, "train");
    assert_int_equal(a.runs, 3);
    assert_int_equal(a.mem_max_bytes, 1229 * MIB);
    assert_int_equal(a.mem_bytes, 1536 * MIB);
    assert_int_equal(a.cpu_milli, 0); /* all were too short */
    assert_false(sizing_find(z, bytes_str("bob"), bytes_str("train"), &a));
    assert_false(sizing_find(z, bytes_str("ann"), bytes_str("trai"), &a));
    assert_false(sizing_find(z, bytes_str("annt"), bytes_str("rain"), &a));
    sizing_free(z);
}

static void a_run_that_had_too_little_counts_for_more(void **state)
{
    (void)state;
    struct sizing *z = sizing_new();
    for (int i = 0; i < 3; i++)
        succeeded(z, "train", GIB, 0, 10);
    assert_int_equal(of(z, "train").mem_bytes, 1536 * MIB);
    ran_out(z, "train", 900 * MIB, 2 * GIB); /* it was killed at what it had asked for */
    struct sizing_advice a = of(z, "train");
    assert_int_equal(a.ooms, 1);
    assert_int_equal(a.mem_max_bytes, 2 * GIB);
    assert_int_equal(a.mem_bytes, 3 * GIB);
    sizing_free(z);
}

static void only_the_last_runs_count(void **state)
{
    (void)state;
    struct sizing *z = sizing_new();
    succeeded(z, "train", 50 * GIB, 0, 10);
    for (unsigned i = 0; i < SIZING_RUNS - 1; i++)
        succeeded(z, "train", 10 * MIB, 0, 10);
    assert_int_equal(of(z, "train").mem_bytes, 58 * GIB);
    succeeded(z, "train", 10 * MIB, 0, 10);
    assert_int_equal(of(z, "train").runs, SIZING_RUNS);
    assert_int_equal(of(z, "train").mem_bytes, 16 * MIB);
    sizing_free(z);
}

static uint64_t cpus_for(uint64_t cpu_ms)
{
    struct sizing *z = sizing_new();
    for (int i = 0; i < 2; i++)
        succeeded(z, "train", MIB, 0, 10000);
    succeeded(z, "train", MIB, 99000, 999); /* too short to tell */
    assert_int_equal(of(z, "train").cpu_milli, 0);
    succeeded(z, "train", MIB, cpu_ms, 10000);
    uint64_t milli = of(z, "train").cpu_milli;
    sizing_free(z);
    return milli;
}

static void cpus_are_the_largest_mean(void **state)
{
    (void)state;
    assert_int_equal(cpus_for(0), 100);
    assert_int_equal(cpus_for(3900), 400);
    assert_int_equal(cpus_for(10000), 1000);
    assert_int_equal(cpus_for(10400), 1000); /* measured a little more than there was */
    assert_int_equal(cpus_for(15000), 1500);
    assert_int_equal(cpus_for(52000), 5000);
    assert_int_equal(cpus_for(UINT64_MAX), 4080219000); /* a worker that lies */
}

static void sizes_are_neat(void **state)
{
    (void)state;
    static const struct { uint64_t most, suggested; } cases[] = {
        { 1, 16 * MIB }, { 100 * MIB, 128 * MIB }, { 300 * MIB, 384 * MIB }, { 6 * GIB, 7 * GIB },
        { 10 * GIB, 12 * GIB }, { UINT64_MAX, (UINT64_C(1) << 53) / 100 * 115 / GIB * GIB + GIB },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sizing *z = sizing_new();
        for (int run = 0; run < 3; run++)
            succeeded(z, "train", cases[i].most, 0, 10);
        assert_int_equal(of(z, "train").mem_bytes, cases[i].suggested);
        sizing_free(z);
    }
}

static void the_name_that_rested_longest_is_forgotten(void **state)
{
    (void)state;
    struct sizing *z = sizing_new();
    struct sizing_advice a;
    char name[32];
    for (unsigned i = 0; i <= SIZING_NAMES_MAX; i++) {
        snprintf(name, sizeof name, "job-%u", i);
        for (int run = 0; run < 3; run++)
            succeeded(z, name, MIB, 0, 10);
        succeeded(z, "always", MIB, 0, 10);
    }
    assert_false(sizing_find(z, bytes_str("ann"), bytes_str("job-0"), &a));
    assert_false(sizing_find(z, bytes_str("ann"), bytes_str("job-1"), &a));
    assert_int_equal(of(z, "job-2").runs, 3);
    assert_int_equal(of(z, name).runs, 3);
    assert_int_equal(of(z, "always").runs, SIZING_RUNS);
    sizing_free(z);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(speaks_from_the_third_run_on),
        cmocka_unit_test(a_run_that_had_too_little_counts_for_more),
        cmocka_unit_test(only_the_last_runs_count),
        cmocka_unit_test(cpus_are_the_largest_mean),
        cmocka_unit_test(sizes_are_neat),
        cmocka_unit_test(the_name_that_rested_longest_is_forgotten),
    };
    return cmocka_run_group_tests_name("sizing", tests, NULL, NULL);
}
