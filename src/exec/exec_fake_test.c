#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "exec/exec_conformance.h"

static void thousands_in_few_turns(void **state)
{
    (void)state;
    struct world *w = mem_alloc(sizeof *w);
    world_init(w, exec_fake_open);
    for (int i = 0; i < 5000; i++)
        world_start(w, (struct exec_job){ 0 });
    int turns = 0;
    for (; !w->seen[5000].ended; turns++)
        world_turn(w);
    assert_in_range(turns, 1, 10);
    for (int i = 1; i <= 5000; i++)
        assert_int_equal(w->seen[i].ended, 1);
    world_fini(w);
    free(w);
}

static void ends_in_order_of_time(void **state)
{
    (void)state;
    struct world *w = mem_alloc(sizeof *w);
    world_init(w, exec_fake_open);
    uint64_t late = world_start(w, (struct exec_job){ .simulated_ms = 60 });
    uint64_t soon = world_start(w, (struct exec_job){ .simulated_ms = 20, .simulated_exit = 9 });
    assert_int_equal(world_wait(w, soon)->result.exit_code, 9);
    assert_int_equal(w->seen[late].ended, 0);
    world_wait(w, late);
    world_fini(w);
    free(w);
}

int main(void)
{
    struct CMUnitTest tests[2 * EXEC_CONFORMANCE_TESTS_MAX + 2];
    const struct CMUnitTest own[] = { cmocka_unit_test(thousands_in_few_turns),
                                      cmocka_unit_test(ends_in_order_of_time) };
    size_t count = exec_conformance(exec_fake_open, tests);
    count += exec_conformance_lease(exec_fake_open, tests + count);
    memcpy(tests + count, own, sizeof own);
    return _cmocka_run_group_tests("exec_fake", tests, count + sizeof own / sizeof *own, NULL, NULL);
}
