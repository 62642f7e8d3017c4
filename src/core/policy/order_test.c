/* order_test.c: the formulas, by hand; and what the queue relies on: jobs of one shape keep the order of submission. */
#include "core/policy/order.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
// cmocka.h wants the headers above.
#include <cmocka.h>

#include "base/prng.h"

static double key(enum order_kind order, double submit_s, double wait_s, double estimate_s, double cpus)
{
    return orders[order].key(&(struct order_facts){ submit_s, wait_s, estimate_s, cpus, .backlog_s = 5000 });
}

static void formulas(void **state)
{
    (void)state;
    assert_true(key(ORDER_FIFO, 5, 6, 7, 8) == key(ORDER_FIFO, 1, 2, 3, 4));
    assert_true(key(ORDER_SJF, 9, 9, 60, 4) == 60);
    assert_true(key(ORDER_SAF, 9, 9, 60, 4) == 240);
    assert_true(key(ORDER_F1, 100, 9, 1000, 4) == 3 * 4 + 870 * 2);
    assert_true(key(ORDER_F1, 0, 9, 0.5, 4) == 0); /* logarithms from 1 on */
    assert_true(key(ORDER_WFP3, 9, 120, 60, 4) == -32);
    assert_true(key(ORDER_UNICEP, 9, 120, 60, 4) == -1);
    assert_true(key(ORDER_UNICEP, 9, 1, 60, 1) < key(ORDER_UNICEP, 9, 1e6, 60, 2)); /* one CPU comes first */
    assert_true(fabs(key(ORDER_HANDICAP, 9, 100, 20, 256) - (0.4 * 5000 * log(10) - 100)) < 1e-9);
    assert_true(key(ORDER_HANDICAP, 9, 100, 0.5, 1) == -100);
    assert_true(isfinite(key(ORDER_UNICEP, 0, 0, 1, 0.5)));
}

static void one_shape_keeps_its_order(void **state)
{
    (void)state;
    struct prng p;
    prng_seed(&p, 1);
    for (int i = 0; i < 100000; i++) {
        double first_s = (double)prng_below(&p, 1000000), second_s = first_s + (double)prng_below(&p, 10000) / 8;
        double now_s = second_s + (double)prng_below(&p, 1000000);
        double estimate_s = (double)prng_between(&p, 1, 1000000) / 8, cpus = (double)prng_between(&p, 1, 4096) / 4;
        for (int order = 0; order < ORDERS; order++) {
            double first = key((enum order_kind)order, first_s, now_s - first_s, estimate_s, cpus);
            double second = key((enum order_kind)order, second_s, now_s - second_s, estimate_s, cpus);
            assert_true(first <= second && !isnan(first));
        }
    }
}

static void only_what_moves_moves(void **state)
{
    (void)state;
    for (int order = 0; order < ORDERS; order++) {
        bool same = key((enum order_kind)order, 100, 1, 60, 4) == key((enum order_kind)order, 100, 900, 60, 4);
        assert_int_equal(same, !orders[order].moves);
        assert_non_null(orders[order].formula);
        assert_non_null(orders[order].use);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(formulas), cmocka_unit_test(one_shape_keeps_its_order),
                                        cmocka_unit_test(only_what_moves_moves) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
