#include "bus/bus_conformance.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "bus/bus_fault.h"
#include "io/loop.h"

static char url[64];

static void begin(void *arg)
{
    static unsigned worlds;
    (void)arg;
    snprintf(url, sizeof url, "mem:fault-%u", ++worlds);
}

static void end(void *arg)
{
    (void)arg;
}

static uint64_t seed;

static struct bus *open_end(void *arg, struct loop *loop, enum bus_role role, const char *name,
                            const struct bus_events *events, struct err *err)
{
    (void)arg;
    struct bus_address address = { .role = role, .url = url, .name = name };
    return bus_fault_open(loop, &address, events, seed, err);
}

static struct bus_rig rig = { .begin = begin, .end = end, .open = open_end };

/* --- a master that sends numbers to a worker whose bus has faults --- */

enum { COUNT = 2000 };

struct seen {
    uint16_t times[COUNT];
    uint64_t order[COUNT * 3];
    size_t count;
};

static void note(struct test_end *e, uint64_t session, struct bytes body, uint64_t delivery)
{
    (void)session, (void)delivery;
    struct seen *s = e->arg;
    uint64_t n;
    memcpy(&n, body.data, sizeof n);
    assert_true(n < COUNT && s->count < sizeof s->order / sizeof *s->order);
    s->times[n]++;
    s->order[s->count++] = n;
}

struct world {
    struct test_end master, worker;
    struct seen *seen;
};

static void world_open(struct world *w, uint64_t with_seed)
{
    *w = (struct world){ 0 };
    begin(NULL);
    seed = with_seed;
    w->seen = mem_zero(1, sizeof *w->seen);
    end_open(&w->master, &rig, BUS_ROLE_MASTER, "master", NULL);
    end_open(&w->worker, &rig, BUS_ROLE_WORKER, "worker", NULL);
    w->worker.on_message = note;
    w->worker.arg = w->seen;
    UNTIL(end_is_up, &w->master, &w->master, &w->worker);
    UNTIL(end_is_up, &w->worker, &w->master, &w->worker);
}

static void world_close(struct world *w)
{
    struct test_end *ends[] = { &w->worker, &w->master };
    for (int i = 0; i < 2; i++) {
        end_close(ends[i]);
        loop_free(ends[i]->loop);
        free(ends[i]->last_data);
    }
    free(w->seen);
}

static void numbers_send(struct world *w)
{
    for (uint64_t i = 0; i < COUNT; i++)
        assert_int_equal(end_send(&w->master, w->master.session, bytes_of(&i, sizeof i), NULL), 0);
    SETTLE(&w->master, &w->worker);
}

static size_t missing(const struct seen *s)
{
    size_t n = 0;
    for (size_t i = 0; i < COUNT; i++)
        n += s->times[i] == 0;
    return n;
}

static size_t out_of_order(const struct seen *s)
{
    size_t n = 0;
    for (size_t i = 1; i < s->count; i++)
        n += s->order[i] < s->order[i - 1];
    return n;
}

static void test_lose(void **state)
{
    (void)state;
    for (int d = 0; d < BUS_DIRECTIONS; d++) {
        struct world w;
        world_open(&w, 7);
        struct bus *b = d == BUS_OUT ? w.master.bus : w.worker.bus;
        bus_fault_set(b, d, &(struct bus_fault_rates){ .lose = 0.25 });
        numbers_send(&w);
        struct bus_fault_counts counts;
        bus_fault_counts(b, d, &counts);
        assert_int_equal(missing(w.seen), counts.lost);
        assert_in_range(counts.lost, COUNT / 8, COUNT / 2);
        assert_int_equal(counts.lost + counts.passed, COUNT);
        assert_int_equal(out_of_order(w.seen), 0);
        world_close(&w);
    }
}

static void test_twice(void **state)
{
    (void)state;
    for (int d = 0; d < BUS_DIRECTIONS; d++) {
        struct world w;
        world_open(&w, 8);
        bus_fault_set(d == BUS_OUT ? w.master.bus : w.worker.bus, d, &(struct bus_fault_rates){ .twice = 1 });
        numbers_send(&w);
        assert_int_equal(w.seen->count, 2 * COUNT);
        for (size_t i = 0; i < COUNT; i++)
            assert_int_equal(w.seen->times[i], 2);
        world_close(&w);
    }
}

static void test_reorder_and_delay(void **state)
{
    (void)state;
    for (int d = 0; d < BUS_DIRECTIONS * 2; d++) {
        struct world w;
        world_open(&w, 9);
        struct bus_fault_rates reorder = { .reorder = 0.3 }, delay = { .delay = 0.3, .delay_ms_max = 30 };
        enum bus_direction direction = d % 2 ? BUS_OUT : BUS_IN;
        bus_fault_set(direction == BUS_OUT ? w.master.bus : w.worker.bus, direction, d < 2 ? &reorder : &delay);
        numbers_send(&w);
        struct test_end *ends[] = { &w.master, &w.worker };
        while (w.seen->count < COUNT)
            ends_settle(ends, 2);
        assert_int_equal(missing(w.seen), 0);
        assert_int_equal(w.seen->count, COUNT);
        assert_true(out_of_order(w.seen) >
                    (d < 2 ? COUNT / 20 : 0)); /* How many delays overlap depends on the machine. */
        world_close(&w);
    }
}

static void test_same_seed_same_faults(void **state)
{
    (void)state;
    struct seen *first = NULL;
    struct bus_fault_rates rates = { .lose = 0.1, .twice = 0.1, .reorder = 0.2 };
    for (int run = 0; run < 3; run++) {
        struct world w;
        world_open(&w, run < 2 ? 11 : 12);
        bus_fault_set(w.worker.bus, BUS_IN, &rates);
        numbers_send(&w);
        if (!first) {
            first = mem_copy(w.seen, sizeof *w.seen);
        } else if (run == 1) {
            assert_int_equal(w.seen->count, first->count);
            assert_memory_equal(w.seen->times, first->times, sizeof first->times);
        } else {
            assert_memory_not_equal(w.seen->times, first->times, sizeof first->times);
        }
        world_close(&w);
    }
    free(first);
}

static void test_partition(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 13);
    bus_fault_partition(w.worker.bus, BUS_OUT, true);
    for (uint64_t i = 0; i < 50; i++)
        assert_int_equal(end_send(&w.worker, BUS_MASTER, bytes_of(&i, sizeof i), NULL), 0);
    numbers_send(&w); /* the other direction is whole */
    assert_int_equal(w.seen->count, COUNT);
    assert_int_equal(w.master.messages, 0);
    assert_int_equal(w.master.downs + w.worker.downs, 0);
    bus_fault_partition(w.worker.bus, BUS_OUT, false);
    uint64_t n = 50;
    assert_int_equal(end_send(&w.worker, BUS_MASTER, bytes_of(&n, sizeof n), NULL), 0);
    SETTLE(&w.master, &w.worker);
    assert_int_equal(w.master.messages, 1);
    assert_memory_equal(w.master.last.data, &n, sizeof n);
    world_close(&w);
}

static void test_held_end_with_their_session(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 14);
    struct bus_fault_rates late = { .delay = 1, .delay_ms_max = 80 };
    bus_fault_set(w.worker.bus, BUS_IN, &late);
    for (uint64_t i = 0; i < COUNT; i++)
        assert_int_equal(end_send(&w.master, w.master.session, bytes_of(&i, sizeof i), NULL), 0);
    loop_turn(w.master.loop, 0);
    loop_turn(w.worker.loop, 0);
    end_kick(&w.worker, BUS_MASTER);
    size_t before = w.worker.messages;
    assert_true(before < COUNT);
    while (w.worker.ups < 2)
        loop_turn(w.master.loop, 1), loop_turn(w.worker.loop, 1);
    SETTLE(&w.master, &w.worker);
    assert_int_equal(w.worker.messages, before);
    world_close(&w);
}

static void test_held_are_bounded(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 15);
    w.worker.on_message = NULL;
    bus_fault_set(w.master.bus, BUS_OUT, &(struct bus_fault_rates){ .delay = 1, .delay_ms_max = 3600000 });
    char *body = mem_zero(1, 1u << 20);
    size_t sent = 0;
    int rc;
    while ((rc = end_send(&w.master, w.master.session, bytes_of(body, 1u << 20), NULL)) == 0 && sent < 1000)
        sent++;
    assert_int_equal(rc, -ERR_FULL);
    assert_in_range(sent, 32, 64);
    free(body);
    world_close(&w);
}

int main(void)
{
    struct CMUnitTest own[] = {
        cmocka_unit_test(test_lose),
        cmocka_unit_test(test_twice),
        cmocka_unit_test(test_reorder_and_delay),
        cmocka_unit_test(test_same_seed_same_faults),
        cmocka_unit_test(test_partition),
        cmocka_unit_test(test_held_end_with_their_session),
        cmocka_unit_test(test_held_are_bounded),
    };
    struct CMUnitTest tests[BUS_CONFORMANCE_TESTS_MAX + sizeof own / sizeof *own];
    size_t count = bus_conformance(tests, &rig); /* without rates it is the bus inside */
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        tests[count++] = own[i];
    return _cmocka_run_group_tests("bus_fault", tests, count, NULL, NULL);
}
