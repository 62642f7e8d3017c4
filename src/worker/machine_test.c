#include "worker/machine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64];

static void put(const char *path, const char *text)
{
    char command[512];
    snprintf(command, sizeof command, "mkdir -p \"$(dirname %s/%s)\"", root, path);
    assert_int_equal(system(command), 0);
    snprintf(command, sizeof command, "%s/%s", root, path);
    FILE *f = fopen(command, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int setup(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/rota-machine-XXXXXX");
    assert_non_null(mkdtemp(root));
    put("proc/meminfo", "MemTotal:        2097152 kB\nMemFree: 5 kB\nMemAvailable:    1048576 kB\n");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

static void without_cgroups_the_machine_counts(void **state)
{
    (void)state;
    struct resources have;
    machine_capacity(root, &have);
    assert_true(have.v[RES_CPU] >= 1000 && have.v[RES_CPU] % 1000 == 0);
    assert_int_equal(have.v[RES_MEM], 2147483648u);
    assert_int_equal(have.v[RES_GPU], 0);
}

static void v2_limits_anywhere_on_the_way_hold(void **state)
{
    (void)state;
    struct resources have;
    put("proc/self/cgroup", "0::/a/b\n");
    put("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    put("sys/fs/cgroup/a/cpu.max", "50000 100000\n");
    put("sys/fs/cgroup/a/b/memory.max", "536870912\n");
    put("sys/fs/cgroup/a/memory.max", "max\n");
    machine_capacity(root, &have);
    assert_int_equal(have.v[RES_CPU], 500);
    assert_int_equal(have.v[RES_MEM], 536870912);
}

static void v1_limits_hold(void **state)
{
    (void)state;
    struct resources have;
    put("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/x/y\n0::/\n");
    put("sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "-1\n");
    put("sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n");
    put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "75000\n");
    put("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    put("sys/fs/cgroup/memory/x/y/memory.limit_in_bytes", "9223372036854771712\n");
    put("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "268435456\n");
    machine_capacity(root, &have);
    assert_int_equal(have.v[RES_CPU], 750);
    assert_int_equal(have.v[RES_MEM], 268435456);
}

static void load_is_what_passed_between(void **state)
{
    (void)state;
    struct machine_meter meter = { 0 };
    struct machine_load load;
    long hertz = sysconf(_SC_CLK_TCK);
    char text[128];
    put("proc/loadavg", "1.25 0.50 0.10 1/200 4711\n");
    put("proc/stat", "cpu  0 0 0 1000 0 0 0 0 0 0\ncpu0 1 2 3\n");
    machine_load(&meter, root, 1000, &load);
    assert_int_equal(load.cpu_used_milli, 0);
    assert_int_equal(load.mem_used_bytes, 1073741824);
    assert_int_equal(load.load_milli, 1250);
    snprintf(text, sizeof text, "cpu  %ld 0 %ld 9999 77 0 0 0 0 0\n", 2 * hertz, hertz);
    put("proc/stat", text); /* 3 seconds of work in 2 seconds */
    machine_load(&meter, root, 3000, &load);
    assert_int_equal(load.cpu_used_milli, 1500);
}

static void pressure_is_told_where_it_is(void **state)
{
    (void)state;
    struct machine_pressure p;
    assert_false(machine_pressure(root, &p));
    put("proc/pressure/cpu", "some avg10=12.34 avg60=1.00 avg300=0.00 total=5\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n");
    put("proc/pressure/memory", "nonsense\n");
    put("proc/pressure/io", "some avg10=100.00 avg60=0.00 avg300=0.00 total=1\n");
    assert_true(machine_pressure(root, &p));
    assert_int_equal(p.cpu, 1234);
    assert_int_equal(p.memory, 0);
    assert_int_equal(p.io, 10000);
}

static void names_are_made_fit(void **state)
{
    (void)state;
    char name[64];
    machine_node_name("Rack_7.Example", name);
    assert_string_equal(name, "rack-7.example");
    machine_node_name("", name);
    assert_string_equal(name, "worker");
    machine_node_name("aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggggggggg", name);
    assert_int_equal(strlen(name), 63);
    machine_node_name(NULL, name);
    assert_true(strlen(name) > 0);
    char boot[64];
    put("proc/sys/kernel/random/boot_id", "01234567-89ab-cdef-0123-456789abcdef\n");
    machine_boot_id(root, boot, sizeof boot);
    assert_string_equal(boot, "01234567-89ab-cdef-0123-456789abcdef");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(without_cgroups_the_machine_counts),
        T(v2_limits_anywhere_on_the_way_hold),
        T(v1_limits_hold),
        T(load_is_what_passed_between),
        T(pressure_is_told_where_it_is),
        T(names_are_made_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
