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
#include "store/store_map.h"

static void *mem_make(void)
{
    static int count;
    char name[32];
    snprintf(name, sizeof name, "store-%d", ++count);
    return mem_str(name);
}

static void mem_drop(void *place)
{
    store_mem_drop(place);
    free(place);
}

static struct store *mem_open(void *place, struct loop *loop, const struct store_events *events, struct err *err)
{
    return store_mem_open(loop, place, events, err);
}

static const struct store_world mem_world = { "mem", mem_make, mem_drop, mem_open };

static void test_crash_loses_what_is_in_flight(void **state)
{
    (void)state;
    struct store_rig rig = { .world = &mem_world, .place = mem_make(), .loop = loop_new() };
    rig_open(&rig);
    rig_lead(&rig, 1);
    struct record r = t_submitted(1, 0);
    struct store_job job = t_job(1, "spec", "alice", "key");
    rig_number(&rig, &r, 1);
    struct store_batch batch = { .records = &r, .records_count = 1, .jobs = &job, .jobs_count = 1, .epoch = 1 };
    rig_begin(&rig, &batch);
    store_mem_crash(rig.store);
    assert_int_equal(rig.commits, 0);
    rig_open(&rig);
    assert_int_equal(rig.seq, 1);
    job_id found;
    assert_int_equal(rig.store->ops->key(rig.store, bytes_str("alice"), bytes_str("key"), &found, NULL, NULL),
                     -(int)ERR_NOT_FOUND);
    rig_number(&rig, &r, 1);
    assert_int_equal(rig_append(&rig, &batch), STORE_COMMITTED);
    rig_close(&rig);
    loop_free(rig.loop);
    mem_drop(rig.place);
}

static void test_drop_forgets(void **state)
{
    (void)state;
    struct store_rig rig = { .world = &mem_world, .place = mem_make() };
    rig_open(&rig);
    rig_lead(&rig, 7);
    rig_close(&rig);
    store_mem_drop(rig.place);
    store_mem_drop(rig.place);
    rig_open(&rig);
    assert_int_equal(rig.epoch, 0);
    rig_close(&rig);
    mem_drop(rig.place);
}

static void ignore_commit(void *arg, enum store_outcome outcome, const struct err *err)
{
    (void)arg, (void)outcome, (void)err;
}

static void test_nameless(void **state)
{
    (void)state;
    struct store_events events = { NULL, ignore_commit };
    struct store *a = store_mem_open(NULL, NULL, &events, NULL), *b = store_mem_open(NULL, NULL, &events, NULL);
    assert_non_null(a);
    assert_non_null(b);
    struct err err;
    assert_int_equal(a->ops->backup(a, "x", &err), -(int)ERR_INVALID);
    a->ops->close(a);
    b->ops->close(b);
}

static void test_map(void **state)
{
    (void)state;
    struct store_map m = { .slots = NULL };
    assert_null(store_map_get(&m, (struct store_map_key){ 1, 2 }));
    assert_false(store_map_remove(&m, (struct store_map_key){ 1, 2 }));
    /* Many rounds of coming and going, so that graves are made and cleared away. */
    for (uint64_t round = 0; round < 50; round++) {
        for (uint64_t i = 0; i < 100; i++)
            assert_true(store_map_put(&m, (struct store_map_key){ i, round }, i * round));
        for (uint64_t i = 0; i < 100; i++) {
            assert_false(store_map_put(&m, (struct store_map_key){ i, round }, 0));
            assert_int_equal(*store_map_get(&m, (struct store_map_key){ i, round }), i * round);
        }
        for (uint64_t i = round % 2; i < 100; i++)
            assert_true(store_map_remove(&m, (struct store_map_key){ i, round }));
    }
    assert_int_equal(m.count, 25);
    for (uint64_t round = 0; round < 50; round++)
        assert_int_equal(store_map_get(&m, (struct store_map_key){ 0, round }) != NULL, round % 2);
    assert_true(m.cap <= 1024);
    store_map_clear(&m);
    assert_null(store_map_get(&m, (struct store_map_key){ 0, 1 }));
    store_map_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crash_loses_what_is_in_flight),
        cmocka_unit_test(test_drop_forgets),
        cmocka_unit_test(test_nameless),
        cmocka_unit_test(test_map),
    };
    int failed = store_conformance(&mem_world);
    return failed + cmocka_run_group_tests_name("mem_own", tests, NULL, NULL);
}
