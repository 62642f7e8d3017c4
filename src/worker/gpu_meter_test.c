#include "worker/gpu_meter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/loop.h"
#include "obs/log.h"

static void expect(const char *text, uint32_t count, uint64_t used_milli, uint64_t used_mib, uint64_t mib)
{
    struct gpu_load load = gpu_load_parse(bytes_str(text));
    assert_int_equal(load.count, count);
    assert_int_equal(load.used_milli, used_milli);
    assert_int_equal(load.mem_used_bytes, used_mib << 20);
    assert_int_equal(load.mem_bytes, mib << 20);
}

static void test_lines(void **state)
{
    (void)state;
    expect("35, 1024, 16384\n", 1, 350, 1024, 16384);
    expect("100, 8, 16384\n0, 0, 16384\n", 2, 1000, 8, 32768);
    expect("[N/A], 12, 40960\n", 1, 0, 12, 40960); /* It is divided. */
    expect("", 0, 0, 0, 0);
    expect("35, 1024, 16384", 0, 0, 0, 0); /* cut off */
    expect("No devices were found\n", 0, 0, 0, 0);
    expect("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n\n\n", 0, 0, 0, 0);
    expect("101, 1, 2\n7, [N/A], [N/A]\n1 2\n50, 1, 2\n", 1, 500, 1, 2);
    expect("99999999999999999999999, 1, 2\n", 0, 0, 0, 0);
}

static char directory[64];

/* What the meter knows when a tool that does `script` has been asked. NULL: there is none. */
static struct gpu_load ask(const char *script, int turns)
{
    char path[128];
    snprintf(path, sizeof path, "%s/nvidia-smi", directory);
    unlink(path);
    if (script) {
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fprintf(f, "#!/bin/sh\n%s\n", script);
        fclose(f);
        assert_int_equal(chmod(path, 0755), 0);
    }
    struct loop *loop = loop_new();
    struct gpu_meter *m = gpu_meter_new(loop);
    struct gpu_load load = { 0 };
    for (int i = 0; i < turns && !load.count; i++) {
        loop_turn(loop, 20);
        load = gpu_meter_load(m);
    }
    gpu_meter_free(m);
    loop_free(loop);
    return load;
}

static void test_the_tool(void **state)
{
    (void)state;
    assert_int_equal(ask("test \"$1\" = --query-gpu=utilization.gpu,memory.used,memory.total && echo '40, 1, 2' && sleep 0.1 && "
                         "echo '60, 1, 2'", 1500).used_milli, 1000);
    assert_int_equal(ask("echo '40, 1, 2' | tr -d '\\n'", 20).count, 0);
    assert_int_equal(ask("while :; do echo nonsense; done", 50).count, 0); /* It is stopped. */
    assert_int_equal(ask("exec sleep 60", 5).count, 0);                    /* It is not waited for. */
    assert_int_equal(ask(NULL, 5).count, 0);
    assert_int_equal(gpu_meter_load(NULL).count, 0);
}

static int setup(void **state)
{
    (void)state;
    static char path[256];
    log_init("test", LOG_ERROR, false);
    snprintf(directory, sizeof directory, "/tmp/rota-gpu-XXXXXX");
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s:/usr/bin:/bin", directory); /* ours comes first */
    return setenv("PATH", path, 1);
}

static int teardown(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/nvidia-smi", directory);
    unlink(path);
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_lines), cmocka_unit_test(test_the_tool) };
    return cmocka_run_group_tests(tests, setup, teardown);
}
