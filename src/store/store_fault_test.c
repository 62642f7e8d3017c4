#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs the four above. */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "io/loop.h"
#include "store/store_conformance.h"
#include "store/store_fault.h"

static void *name_make(void)
{
    static int count;
    char name[32];
    snprintf(name, sizeof name, "faulty-%d", ++count);
    return mem_str(name);
}

static void name_drop(void *place)
{
    store_mem_drop(place);
    free(place);
}

static struct store *fault_open(void *place, struct loop *loop, const struct store_events *events, struct err *err)
{
    struct store_fault *f = store_fault_new(events);
    return store_fault_wrap(f, store_mem_open(loop, place, store_fault_events(f), err));
}

/* Without faults it is a store like any other. */
static const struct store_world fault_world = { "fault", name_make, name_drop, fault_open };

static struct record next_record;

static const struct store_batch *next_batch(struct store_rig *rig)
{
    static struct store_batch batch;
    next_record = t_submitted(rig->seq + 1, 0);
    rig_number(rig, &next_record, 1);
    batch = (struct store_batch){ .records = &next_record, .records_count = 1, .epoch = 1 };
    return &batch;
}

static int setup(void **state)
{
    struct store_rig *rig = mem_zero(1, sizeof *rig);
    rig->world = &fault_world;
    rig->place = name_make();
    rig_open(rig);
    rig_lead(rig, 1);
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct store_rig *rig = *state;
    if (rig->store)
        rig_close(rig);
    name_drop(rig->place);
    free(rig);
    return 0;
}

static void test_full(void **state)
{
    struct store_rig *rig = *state;
    store_fault_at(rig->store, 2, STORE_FAULT_FULL);
    assert_int_equal(rig_append(rig, next_batch(rig)), STORE_COMMITTED);
    const struct store_batch *batch = next_batch(rig);
    assert_int_equal(rig_append(rig, batch), STORE_FULL);
    assert_int_equal(rig->err.code, ERR_NO_SPACE);
    assert_int_equal(rig_append(rig, batch), STORE_COMMITTED); /* the same again */
    assert_int_equal(store_fault_count(rig->store, STORE_FAULT_FULL), 1);
    rig_reopen(rig);
    assert_int_equal(rig->seq, 3);
}

static void unknown(struct store_rig *rig, enum store_fault_kind kind, uint64_t last_seq)
{
    store_fault_at(rig->store, 1, kind);
    assert_int_equal(rig_append(rig, next_batch(rig)), STORE_UNKNOWN);
    assert_int_equal(rig->err.code, ERR_IO);
    assert_int_equal(rig_append(rig, next_batch(rig)), STORE_UNKNOWN); /* takes nothing any more */
    rig_reopen(rig);
    assert_int_equal(rig->seq, last_seq);
    assert_int_equal(rig_append(rig, next_batch(rig)), STORE_COMMITTED);
}

static void test_unknown_absent(void **state)
{
    unknown(*state, STORE_FAULT_UNKNOWN_ABSENT, 1);
}

static void test_unknown_present(void **state)
{
    unknown(*state, STORE_FAULT_UNKNOWN_PRESENT, 2);
}

static void late(struct store_rig *rig, enum store_fault_kind kind, uint64_t after_crash)
{
    store_fault_at(rig->store, 1, kind);
    rig_begin(rig, next_batch(rig));
    assert_int_equal(rig->commits, 0);
    assert_true(store_fault_held(rig->store));
    store_fault_release(rig->store);
    assert_int_equal(rig->commits, 1);
    assert_int_equal(rig->outcome, STORE_COMMITTED);
    assert_false(store_fault_held(rig->store));
    store_fault_at(rig->store, 1, kind);
    rig_begin(rig, next_batch(rig));
    store_fault_crash(rig->store, store_mem_crash);
    assert_int_equal(rig->commits, 0);
    rig_open(rig);
    assert_int_equal(rig->seq, after_crash);
    store_fault_at(rig->store, 1, kind);
    rig_begin(rig, next_batch(rig));
    rig_close(rig); /* waits for what is in flight */
    assert_int_equal(rig->commits, 1);
    rig_open(rig);
    assert_int_equal(rig->seq, after_crash + 1);
}

static void test_late_absent(void **state)
{
    late(*state, STORE_FAULT_LATE_ABSENT, 2);
}

static void test_late_present(void **state)
{
    late(*state, STORE_FAULT_LATE_PRESENT, 3);
}

static void test_chance_repeats(void **state)
{
    struct store_rig *rig = *state;
    static const double chance[STORE_FAULT_KINDS] = { [STORE_FAULT_FULL] = 0.3 };
    uint64_t full[2];
    for (int round = 0; round < 2; round++) {
        rig_reopen(rig);
        store_fault_chance(rig->store, 42, chance);
        uint64_t pattern = 0;
        for (int i = 0; i < 60; i++) {
            const struct store_batch *batch = next_batch(rig);
            bool is_full = rig_append(rig, batch) == STORE_FULL;
            pattern = pattern << 1 | is_full;
            rig->seq -= is_full;
        }
        full[round] = pattern;
        assert_in_range(store_fault_count(rig->store, STORE_FAULT_FULL), 5, 35);
    }
    assert_int_equal(full[0], full[1]);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_full), TEST(test_unknown_absent), TEST(test_unknown_present), TEST(test_late_absent),
        TEST(test_late_present), TEST(test_chance_repeats),
    };
    int failed = store_conformance(&fault_world);
    return failed + cmocka_run_group_tests_name("fault_own", tests, NULL, NULL);
}
