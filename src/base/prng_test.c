#include "base/prng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* The authors' sequences: splitmix64 from 0 as seed, xoshiro256** from the state 1, 2, 3, 4. */
static void equals_the_reference(void **state)
{
    (void)state;
    struct prng p;
    prng_seed(&p, 0);
    assert_true(p.s[0] == 0xe220a8397b1dcdafu && p.s[1] == 0x6e789e6aa1b965f4u);
    assert_true(p.s[2] == 0x06c45d188009454fu && p.s[3] == 0xf88bb8a8724c81ecu);
    p = (struct prng){ { 1, 2, 3, 4 } };
    static const uint64_t expected[] = { 11520, 0, 1509978240, 1215971899390074240u };
    for (size_t i = 0; i < 4; i++)
        assert_true(prng_u64(&p) == expected[i]);
}

static void same_seed_same_numbers(void **state)
{
    (void)state;
    struct prng a, b, c;
    prng_seed(&a, 42);
    prng_seed(&b, 42);
    prng_seed(&c, 43);
    bool differs = false;
    for (int i = 0; i < 100; i++) {
        uint64_t x = prng_u64(&a);
        assert_true(x == prng_u64(&b));
        differs |= x != prng_u64(&c);
    }
    assert_true(differs);
}

static void bounds_hold_and_are_reached(void **state)
{
    (void)state;
    struct prng p;
    prng_seed(&p, 1);
    unsigned seen[7] = { 0 };
    for (int i = 0; i < 70000; i++) {
        uint64_t n = prng_below(&p, 7);
        assert_true(n < 7);
        seen[n]++;
        int64_t b = prng_between(&p, -3, 3);
        assert_in_range(b + 3, 0, 6);
        double u = prng_unit(&p);
        assert_true(u >= 0 && u < 1);
    }
    for (int i = 0; i < 7; i++)
        assert_in_range(seen[i], 9500, 10500); /* the seed is fixed: this cannot fail by chance */
    assert_int_equal(prng_below(&p, 1), 0);
    assert_int_equal(prng_between(&p, 5, 5), 5);
    prng_between(&p, INT64_MIN, INT64_MAX);
    assert_true(prng_between(&p, INT64_MAX, INT64_MAX) == INT64_MAX);
    for (int i = 0; i < 1000; i++)
        assert_true(prng_below(&p, UINT64_MAX) < UINT64_MAX);
    unsigned hits = 0;
    for (int i = 0; i < 100000; i++)
        hits += prng_chance(&p, 0.25);
    assert_in_range(hits, 24500, 25500);
    assert_false(prng_chance(&p, 0));
    assert_true(prng_chance(&p, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_reference),
        cmocka_unit_test(same_seed_same_numbers),
        cmocka_unit_test(bounds_hold_and_are_reached),
    };
    return cmocka_run_group_tests_name("prng", tests, NULL, NULL);
}
