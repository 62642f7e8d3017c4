#include "core/agent/devices.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/prng.h"

static void whole_ones_and_parts(void **state)
{
    (void)state;
    struct devices d;
    char a[DEVICES_TEXT_BYTES], b[DEVICES_TEXT_BYTES], c[DEVICES_TEXT_BYTES];
    devices_init(&d, NULL, 4);
    assert_true(devices_take(&d, 500, a));
    assert_string_equal(a, "0");
    assert_true(devices_take(&d, 1500, b)); /* one to itself, and the other half of the shared one */
    assert_string_equal(b, "1,0");
    assert_true(devices_take(&d, 2000, c));
    assert_string_equal(c, "2,3");
    char none[DEVICES_TEXT_BYTES];
    assert_false(devices_take(&d, 1, none));
    devices_give_back(&d, bytes_str(b), 1500);
    assert_true(devices_have(&d, 1000) && devices_have(&d, 500) && devices_have(&d, 1500) && !devices_have(&d, 2000) && !devices_have(&d, 1501));
    devices_give_back(&d, bytes_str(a), 500);
    devices_give_back(&d, bytes_str(c), 2000);
    assert_true(devices_have(&d, 4000) && !devices_have(&d, 4001));
}

static void enough_but_not_in_one_piece(void **state)
{
    (void)state;
    struct devices d;
    char a[DEVICES_TEXT_BYTES], b[DEVICES_TEXT_BYTES];
    devices_init(&d, NULL, 2);
    assert_true(devices_take(&d, 600, a) && devices_take(&d, 600, b));
    assert_string_equal(b, "1");
    assert_false(devices_have(&d, 800));
    assert_true(devices_have(&d, 400));
}

static void numbers_of_its_own_and_after_a_restart(void **state)
{
    (void)state;
    static const uint32_t ids[] = { 3, 5, 77, 20000 };
    struct devices d;
    char text[DEVICES_TEXT_BYTES];
    devices_init(&d, ids, 4);
    assert_int_equal(d.count, 3);
    devices_claim(&d, bytes_str("5"), 1000);
    assert_true(devices_take(&d, 2000, text));
    assert_string_equal(text, "3,77");
    devices_claim(&d, bytes_str("9,3"), 1000); /* one that is gone: nothing; one that is not free: what there is */
    devices_give_back(&d, bytes_str("5"), 1000);
    assert_true(devices_take(&d, 1000, text));
    assert_string_equal(text, "5");
}

/* No unit is ever given out twice, and everything comes back. */
static void random_use(void **state)
{
    (void)state;
    struct prng p;
    struct devices d;
    static struct { char text[DEVICES_TEXT_BYTES]; uint64_t milli; } held[64];
    uint64_t total = 0;
    prng_seed(&p, 7);
    devices_init(&d, NULL, 16);
    for (int i = 0; i < 20000; i++) {
        size_t at = prng_below(&p, 64);
        if (held[at].milli) {
            devices_give_back(&d, bytes_str(held[at].text), held[at].milli);
            total -= held[at].milli;
            held[at].milli = 0;
        } else {
            uint64_t milli = prng_chance(&p, 0.5) ? 1000 * (1 + prng_below(&p, 3)) : 1 + prng_below(&p, 2500);
            if (devices_take(&d, milli, held[at].text)) {
                held[at].milli = milli;
                total += milli;
            }
        }
        uint64_t left = 0;
        for (size_t u = 0; u < d.count; u++) {
            assert_true(d.free_milli[u] <= 1000);
            left += d.free_milli[u];
        }
        assert_int_equal(left + total, 16000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_ones_and_parts),
        cmocka_unit_test(enough_but_not_in_one_piece),
        cmocka_unit_test(numbers_of_its_own_and_after_a_restart),
        cmocka_unit_test(random_use),
    };
    return cmocka_run_group_tests_name("devices", tests, NULL, NULL);
}
