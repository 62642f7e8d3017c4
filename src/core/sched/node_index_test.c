/* node_index_test.c: what the index finds is what a look at every node would find; and it does not look at every node.
 */
#include "core/sched/node_index.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
// cmocka.h wants the headers above.
#include <cmocka.h>

#include "base/mem.h"
#include "base/prng.h"

#define NODES 10000u

struct machine {
    struct resources capacity, allocated;
    struct index_node place;
    bool out;
};

static struct resources some(uint64_t cpu, uint64_t mem, uint64_t gpu)
{
    return (struct resources){ .v = { [RES_CPU] = cpu, [RES_MEM] = mem, [RES_GPU] = gpu } };
}

static bool has_room(const struct machine *m, const struct resources *need)
{
    for (int d = 0; d < RES_DIMS; d++)
        if (m->allocated.v[d] + need->v[d] > m->capacity.v[d] && need->v[d])
            return false;
    return true;
}

static bool odd(void *arg, const struct index_node *n)
{
    (void)arg;
    return n->number % 2 == 1;
}

/* The best of all, by looking at each. */
static struct machine *look_at_all(struct machine *machines, size_t count, const struct scorer *scorer,
                                   const struct resources *need, bool only_odd)
{
    struct machine *best = NULL;
    double best_score = 0;
    for (size_t i = 0; i < count; i++) {
        struct machine *m = &machines[i];
        if (m->out || !has_room(m, need) || (only_odd && m->place.number % 2 == 0))
            continue;
        double score = scorer->score(need, &m->allocated, &m->capacity);
        if (best && score <= best_score)
            continue;
        best = m;
        best_score = score;
    }
    return best;
}

static bool any_fits_empty(const struct machine *machines, size_t count, const struct resources *need)
{
    for (size_t i = 0; i < count; i++)
        if (!machines[i].out && resources_fit(need, &machines[i].capacity))
            return true;
    return false;
}

/* Few kinds and coarse requests make ties; many of both make none. */
static void shake(struct prng *p, struct machine *m, uint64_t kinds, uint64_t steps)
{
    uint64_t kind = prng_below(p, kinds);
    m->capacity = some(1000 * (4 + 4 * (kind % 16)), (1u << 30) * (8 + kind % 7) + kind, kind % 3 == 0 ? 4000 : 0);
    for (int d = 0; d < RES_DIMS; d++)
        m->allocated.v[d] = m->capacity.v[d] / steps * prng_below(p, steps + 1);
}

static void compare(uint64_t seed, size_t count, uint64_t kinds, uint64_t steps)
{
    static const struct scorer *const scorers[] = { &scorer_binpack, &scorer_spread };
    struct prng p;
    prng_seed(&p, seed);
    struct node_index x = { NULL };
    struct machine *machines = mem_zero(count, sizeof *machines);
    size_t in = count;
    for (uint32_t i = 0; i < count; i++) {
        shake(&p, &machines[i], kinds, steps);
        node_index_put(&x, &machines[i].place, i + 1, &machines[i].capacity, &machines[i].allocated);
    }
    for (int round = 0; round < 400; round++) {
        uint32_t i = (uint32_t)prng_below(&p, count);
        struct machine *m = &machines[i];
        in -= !m->out;
        m->out = prng_chance(&p, 0.2);
        in += !m->out;
        shake(&p, m, kinds, steps);
        if (m->out)
            node_index_remove(&x, &m->place);
        else
            node_index_put(&x, &m->place, i + 1, &m->capacity, &m->allocated);
        if (round % 16 == 0)
            assert_int_equal(node_index_check(&x), in);
        struct resources need = some(1000 * prng_below(&p, 70), (1u << 28) * prng_below(&p, 70),
                                     prng_chance(&p, 0.2) ? 1000 * prng_below(&p, 6) : 0);
        const struct scorer *scorer = scorers[prng_below(&p, 2)];
        bool only_odd = prng_chance(&p, 0.3);
        struct machine *expected = look_at_all(machines, count, scorer, &need, only_odd);
        struct index_node *found = node_index_best(&x, scorer, &need, only_odd ? odd : NULL, NULL);
        assert_ptr_equal(found, expected ? &expected->place : NULL);
        assert_int_equal(node_index_fits_empty(&x, &need), any_fits_empty(machines, count, &need));
    }
    for (uint32_t i = 0; i < count; i++)
        node_index_remove(&x, &machines[i].place);
    assert_null(x.root);
    free(machines);
}

static void finds_the_best(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        compare(seed, 1 + seed * 7, 1 + seed % 3, 4);
        compare(100 + seed, 300, 16 + seed, 1000);
        compare(200 + seed, 200, 1000, 1000000);
    }
}

/* A node that shrank has less than what is allocated there. */
static void takes_nothing_beyond_capacity(void **state)
{
    (void)state;
    struct node_index x = { NULL };
    struct index_node small = { 0 }, bare = { 0 };
    struct resources capacity = some(1000, 10, 0), allocated = some(2000, 5, 0), nothing = some(0, 0, 0);
    node_index_put(&x, &small, 1, &capacity, &allocated);
    node_index_put(&x, &bare, 2, &nothing, &nothing);
    struct resources need = some(1, 0, 0);
    assert_null(node_index_best(&x, &scorer_binpack, &need, NULL, NULL));
    assert_true(node_index_fits_empty(&x, &need));
    need = some(0, 5, 0);
    assert_ptr_equal(node_index_best(&x, &scorer_binpack, &need, NULL, NULL), &small);
    need = some(0, 6, 0);
    assert_null(node_index_best(&x, &scorer_spread, &need, NULL, NULL));
    assert_ptr_equal(node_index_best(&x, &scorer_spread, &nothing, NULL, NULL), &bare);
}

/* --- how many nodes are looked at --- */

static size_t looks;
static const struct scorer *counted;

static double count_score(const struct resources *need, const struct resources *allocated,
                          const struct resources *capacity)
{
    looks++;
    return counted->score(need, allocated, capacity);
}

static double count_bound(const struct resources *need, const struct node_span *span)
{
    looks++;
    return counted->bound(need, span);
}

static void looks_at_few(void **state)
{
    (void)state;
    static const struct scorer *const scorers[] = { &scorer_binpack, &scorer_spread };
    static const struct scorer counting = { "counting", count_score, count_bound };
    struct prng p;
    prng_seed(&p, 7);
    struct node_index x = { NULL };
    struct machine *machines = mem_zero(NODES, sizeof *machines);
    for (uint32_t i = 0; i < NODES; i++) {
        machines[i].capacity = some(i % 3 ? 64000 : 16000, (64u << 20) + i, i % 10 ? 0 : 8000);
        node_index_put(&x, &machines[i].place, i + 1, &machines[i].capacity, &machines[i].allocated);
    }
    size_t most = 0;
    for (int job = 0; job < 50000; job++) {
        static const uint64_t cpus[] = { 1000, 2000, 4000, 8000 };
        struct resources need =
            some(cpus[prng_below(&p, 4)], (1u << 20) * (1 + prng_below(&p, 4)), prng_below(&p, 20) ? 0 : 1000);
        counted = scorers[job / 25000];
        looks = 0;
        struct index_node *found = node_index_best(&x, &counting, &need, NULL, NULL);
        assert_non_null(found);
        most = looks > most ? looks : most;
        struct machine *m = index_entry(found, struct machine, place);
        resources_add(&m->allocated, &need);
        node_index_put(&x, &m->place, m->place.number, &m->capacity, &m->allocated);
    }
    assert_in_range(most, 1, NODES / 20);
    free(machines);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(finds_the_best),
                                        cmocka_unit_test(takes_nothing_beyond_capacity),
                                        cmocka_unit_test(looks_at_few) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
