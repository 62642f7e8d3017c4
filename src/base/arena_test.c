#include "base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void allocations_are_aligned_and_apart(void **state)
{
    (void)state;
    struct arena a = ARENA_INIT;
    char *all[200];
    for (size_t i = 0; i < 200; i++) {
        all[i] = arena_alloc(&a, i * 37);
        assert_int_equal((uintptr_t)all[i] % 16, 0);
        memset(all[i], (int)i, i * 37);
    }
    for (size_t i = 0; i < 200; i++)
        for (size_t k = 0; k < i * 37; k++)
            assert_int_equal((unsigned char)all[i][k], i);
    arena_fini(&a);
}

static void bigger_than_a_block(void **state)
{
    (void)state;
    struct arena a = ARENA_INIT;
    char *small = arena_alloc(&a, 10);
    char *big = arena_alloc(&a, 1000000);
    memset(big, 1, 1000000);
    memset(small, 2, 10);
    assert_int_equal(big[999999], 1);
    arena_reset(&a);
    char *again = arena_alloc(&a, 900000); /* skips the first block, which is too small */
    assert_ptr_equal(again, big);
    arena_fini(&a);
    assert_null(a.first);
    assert_non_null(arena_alloc(&a, 1)); /* usable after fini */
    arena_fini(&a);
}

static void reset_keeps_memory(void **state)
{
    (void)state;
    struct arena a = ARENA_INIT;
    void *first = arena_alloc(&a, 100);
    for (int i = 0; i < 1000; i++)
        arena_alloc(&a, 1000);
    const struct arena_block *last = a.now;
    arena_reset(&a);
    assert_ptr_equal(arena_alloc(&a, 100), first);
    for (int i = 0; i < 1000; i++)
        arena_alloc(&a, 1000);
    assert_ptr_equal(a.now, last); /* the same blocks, in the same order */
    arena_fini(&a);
}

static void copies(void **state)
{
    (void)state;
    struct arena a = ARENA_INIT;
    char text[] = "hello";
    struct bytes b = arena_bytes(&a, bytes_str(text));
    char *s = arena_str(&a, bytes_of(text, 4));
    text[0] = 'j';
    assert_true(bytes_equal(b, bytes_str("hello")));
    assert_string_equal(s, "hell");
    struct bytes none = arena_bytes(&a, bytes_of(NULL, 0));
    assert_int_equal(none.size, 0);
    assert_non_null(none.data);
    assert_string_equal(arena_str(&a, bytes_of(NULL, 0)), "");
    assert_non_null(arena_copy(&a, NULL, 0));
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocations_are_aligned_and_apart),
        cmocka_unit_test(bigger_than_a_block),
        cmocka_unit_test(reset_keeps_memory),
        cmocka_unit_test(copies),
    };
    return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
