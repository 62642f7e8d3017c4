/* gpus_test.c: GPUs one by one: fitting, fragmentation and scores against a plain look at every way. */
#include "core/policy/gpus.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
// cmocka.h wants the headers above.
#include <cmocka.h>

#include "base/prng.h"

static struct gpus_need need_of(uint64_t cpu, uint32_t count, uint32_t milli)
{
    struct gpus_need need = { .count = count, .milli = count ? milli : 0 };
    need.total.v[RES_CPU] = cpu;
    need.total.v[RES_GPU] = (uint64_t)need.count * need.milli;
    return need;
}

static struct gpus_node node_of(uint64_t cpu, uint32_t count)
{
    struct gpus_node n = { .count = count, .model = 1 };
    n.capacity.v[RES_CPU] = cpu;
    n.capacity.v[RES_GPU] = count * GPU_WHOLE;
    n.free = n.capacity;
    for (uint32_t d = 0; d < count; d++)
        n.free_milli[d] = GPU_WHOLE;
    return n;
}

static struct gpus_need some_need(struct prng *p)
{
    static const uint32_t parts[] = { 100, 250, 460, 500, 810, 1000 };
    uint32_t count = (uint32_t)prng_below(p, 5);
    struct gpus_need need = need_of(500 * prng_below(p, 16), count, count == 1 ? parts[prng_below(p, 6)] : GPU_WHOLE);
    need.models = prng_chance(p, 0.2) ? 1 + prng_below(p, 3) : 0;
    return need;
}

static struct gpus_node some_node(struct prng *p)
{
    struct gpus_node n = node_of(8000 + 8000 * prng_below(p, 4), (uint32_t)prng_below(p, 9));
    n.model = UINT64_C(1) << prng_below(p, 2);
    for (int i = 0; i < 6; i++) {
        struct gpus_need need = some_need(p);
        uint32_t device, taken;
        if (!gpus_fit(&n, &need))
            continue;
        gpus_score(prng_chance(p, 0.5) ? GPUS_BINPACK : GPUS_SPREAD, &n, &need, &(struct gpus_mix){ 0 }, &device);
        gpus_take(&n, &need, device, &taken);
    }
    return n;
}

static void halves_of_two_are_not_one(void **state)
{
    (void)state;
    struct gpus_node n = node_of(8000, 2);
    n.free_milli[0] = n.free_milli[1] = 500;
    n.free.v[RES_GPU] = 1000;
    assert_false(gpus_fit(&n, &(struct gpus_need){ .total.v[RES_GPU] = 1000, .count = 1, .milli = 1000 }));
    struct gpus_need half = need_of(0, 1, 500);
    assert_true(gpus_fit(&n, &half));
    half.models = 2;
    assert_false(gpus_fit(&n, &half));
}

/* By hand: four GPUs, CPUs for two jobs that want one CPU and one GPU; half of the two GPUs that those strand counts. A job
 * without GPUs strands all. */
static void cpus_that_run_low_strand_gpus(void **state)
{
    (void)state;
    struct gpus_node n = node_of(2000, 4);
    struct gpus_shape shapes[2] = { { need_of(1000, 1, 1000), 3 }, { need_of(1000, 0, 0), 1 } };
    assert_true(gpus_stranded(&n, &(struct gpus_mix){ shapes, 1, 3 }) == 1000);
    assert_true(gpus_stranded(&n, &(struct gpus_mix){ shapes, 2, 4 }) == (3 * 1000 + 4000) / 4.0);
    n.free.v[RES_CPU] = 999;
    assert_true(gpus_stranded(&n, &(struct gpus_mix){ shapes, 1, 3 }) == 4000);
}

static double stranded_plainly(const struct gpus_node *n, const struct gpus_shape *s)
{
    double free = (double)n->free.v[RES_GPU], room = 0;
    uint32_t slots = 0;
    if (!gpus_fit(n, &s->need) || !s->need.count)
        return free;
    for (uint32_t d = 0; d < n->count; d++) {
        room += n->free_milli[d] >= s->need.milli ? n->free_milli[d] : 0;
        for (uint32_t left = n->free_milli[d]; left >= s->need.milli; left -= s->need.milli)
            slots++;
    }
    double gangs = slots / s->need.count, by_cpu = (double)n->free.v[RES_CPU] / (double)s->need.total.v[RES_CPU];
    return free - room * (s->need.total.v[RES_CPU] && by_cpu < gangs ? 0.5 + 0.5 * by_cpu / gangs : 1);
}

static void stranded_is_what_a_plain_count_says(void **state)
{
    (void)state;
    struct prng p;
    prng_seed(&p, 5);
    for (int i = 0; i < 3000; i++) {
        struct gpus_node n = some_node(&p);
        struct gpus_shape shapes[4];
        struct gpus_mix mix = { shapes, 4, 0 };
        double sum = 0;
        for (int k = 0; k < 4; k++) {
            shapes[k] = (struct gpus_shape){ some_need(&p), 1 + prng_below(&p, 9) };
            mix.jobs += shapes[k].jobs;
            sum += (double)shapes[k].jobs * stranded_plainly(&n, &shapes[k]);
        }
        double got = gpus_stranded(&n, &mix);
        assert_true(fabs(got - sum / (double)mix.jobs) < 1e-6);
        assert_true(got >= -1e-6 && got <= (double)n.free.v[RES_GPU] + 1e-6);
    }
}

/* The device that `fragmentation` takes is the best of all it could take; binpack's has least left, spread's most. */
static void the_device_is_the_best_of_all(void **state)
{
    (void)state;
    struct prng p;
    prng_seed(&p, 6);
    for (int i = 0; i < 3000; i++) {
        struct gpus_node n = some_node(&p);
        struct gpus_need need = some_need(&p);
        struct gpus_shape shapes[2] = { { some_need(&p), 2 }, { some_need(&p), 1 } };
        struct gpus_mix mix = { shapes, 2, 3 };
        uint32_t device, least, most, taken;
        if (need.count != 1 || need.milli == GPU_WHOLE || !gpus_fit(&n, &need))
            continue;
        gpus_score(GPUS_FRAGMENTATION, &n, &need, &mix, &device);
        gpus_score(GPUS_BINPACK, &n, &need, &mix, &least);
        gpus_score(GPUS_SPREAD, &n, &need, &mix, &most);
        struct gpus_node chosen = n;
        gpus_take(&chosen, &need, device, &taken);
        assert_int_equal(taken, 1u << device);
        for (uint32_t d = 0; d < n.count; d++) {
            if (n.free_milli[d] < need.milli)
                continue;
            struct gpus_node other = n;
            gpus_take(&other, &need, d, &taken);
            assert_true(gpus_stranded(&chosen, &mix) <= gpus_stranded(&other, &mix) + 1e-9);
            assert_true(n.free_milli[least] <= n.free_milli[d] && n.free_milli[most] >= n.free_milli[d]);
        }
    }
}

static void what_is_given_back_is_there_again(void **state)
{
    (void)state;
    struct prng p;
    prng_seed(&p, 7);
    for (int i = 0; i < 1000; i++) {
        struct gpus_node n = some_node(&p), before = n;
        struct gpus_need need = some_need(&p);
        uint32_t device, taken;
        if (!gpus_fit(&n, &need))
            continue;
        gpus_score(GPUS_DOTPROD, &n, &need, &(struct gpus_mix){ 0 }, &device);
        gpus_take(&n, &need, device, &taken);
        uint64_t sum = 0;
        for (uint32_t d = 0; d < n.count; d++)
            sum += n.free_milli[d];
        assert_int_equal(sum, n.free.v[RES_GPU]);
        gpus_give_back(&n, &need, taken);
        assert_memory_equal(&n, &before, sizeof n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(halves_of_two_are_not_one),
        cmocka_unit_test(cpus_that_run_low_strand_gpus),
        cmocka_unit_test(stranded_is_what_a_plain_count_says),
        cmocka_unit_test(the_device_is_the_best_of_all),
        cmocka_unit_test(what_is_given_back_is_there_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
