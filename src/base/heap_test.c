#include "base/heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"

struct item {
    struct heap_node node;
    int64_t key;
    uint32_t id;
    bool in;
};

static bool before(const struct heap_node *a, const struct heap_node *b)
{
    const struct item *x = heap_entry(a, const struct item, node), *y = heap_entry(b, const struct item, node);
    return x->key != y->key ? x->key < y->key : x->id < y->id;
}

static void check_heap(const struct heap *h)
{
    for (size_t i = 0; i < h->count; i++) {
        assert_int_equal(h->nodes[i]->index, i);
        if (i)
            assert_false(before(h->nodes[i], h->nodes[(i - 1) / 2]));
    }
}

/* A model that is too simple to be wrong: look at every item. */
static struct item *first_of(struct item *items, size_t count)
{
    struct item *first = NULL;
    for (size_t i = 0; i < count; i++)
        if (items[i].in && (!first || before(&items[i].node, &first->node)))
            first = &items[i];
    return first;
}

static void random_operations_equal_the_model(void **state)
{
    (void)state;
    enum { ITEMS = 64 };
    struct prng p;
    prng_seed(&p, 11);
    for (int round = 0; round < 20; round++) {
        struct item items[ITEMS];
        struct heap h;
        heap_init(&h, before);
        for (uint32_t i = 0; i < ITEMS; i++) {
            items[i] = (struct item){ .id = i };
            heap_node_init(&items[i].node);
        }
        for (int step = 0; step < 2000; step++) {
            struct item *it = &items[prng_below(&p, ITEMS)];
            assert_int_equal(heap_has(&it->node), it->in);
            if (!it->in) {
                it->key = prng_between(&p, -20, 20);
                heap_push(&h, &it->node);
                it->in = true;
            } else if (prng_chance(&p, 0.5)) {
                heap_remove(&h, &it->node);
                it->in = false;
            } else {
                it->key = prng_between(&p, -20, 20);
                heap_moved(&h, &it->node);
            }
            check_heap(&h);
            struct item *first = first_of(items, ITEMS);
            assert_ptr_equal(heap_first(&h), first ? &first->node : NULL);
        }
        heap_fini(&h);
    }
}

static void comes_out_in_order(void **state)
{
    (void)state;
    enum { ITEMS = 5000 };
    static struct item items[ITEMS];
    struct prng p;
    prng_seed(&p, 5);
    struct heap h;
    heap_init(&h, before);
    assert_null(heap_first(&h));
    for (uint32_t i = 0; i < ITEMS; i++) {
        items[i] = (struct item){ .id = i, .key = prng_between(&p, 0, 100) };
        heap_node_init(&items[i].node);
        heap_push(&h, &items[i].node);
    }
    const struct item *last = NULL;
    for (size_t i = 0; i < ITEMS; i++) {
        struct heap_node *n = heap_first(&h);
        if (last)
            assert_true(before(&last->node, n));
        last = heap_entry(n, struct item, node);
        heap_remove(&h, n);
        assert_false(heap_has(n));
    }
    assert_null(heap_first(&h));
    heap_fini(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_equal_the_model),
        cmocka_unit_test(comes_out_in_order),
    };
    return cmocka_run_group_tests_name("heap", tests, NULL, NULL);
}
