/* gate_test.c: what was added comes out in order, behind its records; batches are paced only when they go on and on. */
#include "core/model/gate.h"

#include <setjmp.h>
#include <stdarg.h>
// cmocka.h wants the headers above.
#include <cmocka.h>

static void add_record(struct gate *g, uint64_t job, const char *reason)
{
    struct record r = { .kind = EV_HELD };
    char text[16];
    size_t size = strlen(reason);
    memcpy(text, reason, size);
    r.held = (struct ev_held){ job, bytes_of(text, size) };
    struct effects fx = { .records = &r, .records_count = 1 };
    gate_add(g, &fx);
    memset(text, 'x', sizeof text); /* the gate has copied it */
}

static void items_come_behind_their_records(void **state)
{
    (void)state;
    struct gate *g = gate_new(7);
    int first, second;
    assert_null(gate_seal(g));
    add_record(g, 1, "one");
    gate_add_reply(g, &first, 11);
    const struct gate_batch *b = gate_seal(g);
    assert_int_equal(b->records_count, 1);
    assert_int_equal(b->records[0].seq, 7);
    assert_int_equal(b->records[0].held.reason.size, 3);
    assert_memory_equal(b->records[0].held.reason.data, "one", 3);
    assert_true(gate_in_flight(g));
    gate_add_reply(g, &second, 12); /* rests on what is being written */
    assert_null(gate_seal(g));
    b = gate_commit(g);
    assert_int_equal(b->items_count, 1);
    assert_ptr_equal(b->items[0].reply.context, &first);
    b = gate_seal(g);
    assert_int_equal(b->records_count, 0);
    assert_int_equal(b->items_count, 1);
    assert_ptr_equal(gate_commit(g)->items[0].reply.context, &second);
    assert_int_equal(gate_next_seq(g), 8);
    gate_free(g);
}

/* One batch of `records` at now_ms, if it need not wait. */
static int64_t batch(struct gate *g, int64_t now_ms, unsigned records)
{
    while (gate_pending(g) < records)
        add_record(g, 1, "");
    int64_t wait_ms = gate_pace(g, now_ms);
    assert_in_range(wait_ms, 0, GATE_WINDOW_MS);
    if (!wait_ms) {
        gate_seal(g);
        gate_commit(g);
    }
    return wait_ms;
}

static void an_idle_gate_does_not_wait(void **state)
{
    (void)state;
    struct gate *g = gate_new(1);
    assert_int_equal(gate_pace(g, 500), 0); /* nothing has gathered */
    int64_t now_ms = 1000;
    for (int job = 0; job < 100; job++, now_ms += 50)
        for (int i = 0; i < GATE_BURST; i++)
            assert_int_equal(batch(g, now_ms, 1), 0);
    /* The clock begins wherever it likes. */
    struct gate *late = gate_new(1);
    for (int i = 0; i < GATE_BURST; i++)
        assert_int_equal(batch(late, (int64_t)1 << 50, 1), 0);
    assert_true(batch(late, (int64_t)1 << 50, 1) > 0);
    gate_free(late);
    gate_free(g);
}

static void a_busy_gate_makes_a_batch_per_window(void **state)
{
    (void)state;
    struct gate *g = gate_new(1);
    unsigned batches = 0;
    for (int64_t now_ms = 5000; now_ms < 6000; now_ms++)
        for (int i = 0; i < 10; i++)
            batches += batch(g, now_ms, 1) == 0;
    assert_in_range(batches, 1000 / GATE_WINDOW_MS, 1000 / GATE_WINDOW_MS + GATE_BURST);
    assert_true(batch(g, 5999, 1) > 0);
    assert_int_equal(batch(g, 5999, 512), 0); /* much has gathered */
    gate_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_come_behind_their_records),
        cmocka_unit_test(an_idle_gate_does_not_wait),
        cmocka_unit_test(a_busy_gate_makes_a_batch_per_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
