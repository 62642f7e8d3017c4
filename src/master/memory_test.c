/* What the master keeps in memory beside the brain: idempotency keys, recent specs, last lines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "base/mem.h"
#include "master/keys.h"
#include "master/lines.h"
#include "master/spec_cache.h"

static struct bytes b(const char *text)
{
    return bytes_str(text);
}

static void keys_belong_to_their_owner_and_batch(void **state)
{
    (void)state;
    struct key_table *t = keys_new();
    struct arena arena = ARENA_INIT;
    struct list_node first, second;
    uint8_t digest[KEY_DIGEST_BYTES] = { 1 };
    list_init(&first);
    list_init(&second);
    keys_add(t, &arena, &first, b("ann"), b("k1"), 2, digest, (job_id){ 7 });
    keys_add(t, &arena, &second, b("ann"), b("k2"), 1, digest, (job_id){ 8 });
    assert_int_equal(keys_find(t, b("ann"), b("k1"))->job.n, 7);
    assert_int_equal(keys_find(t, b("ann"), b("k1"))->digest[0], 1);
    assert_null(keys_find(t, b("bob"), b("k1")));
    assert_null(keys_find(t, b("annk"), b("1")));
    assert_true(keys_base(t, b("ann"), b("k1")));
    assert_true(keys_base(t, b("ann"), b("k")));
    assert_false(keys_base(t, b("ann"), b("k2")));
    assert_false(keys_base(t, b("bob"), b("k")));
    keys_remove_all(t, &first);
    assert_false(keys_base(t, b("ann"), b("k1")));
    assert_true(keys_base(t, b("ann"), b("k")));
    assert_null(keys_find(t, b("ann"), b("k1")));
    assert_int_equal(keys_find(t, b("ann"), b("k2"))->job.n, 8);
    keys_remove_all(t, &second);
    assert_false(keys_base(t, b("ann"), b("k")));
    assert_true(list_empty(&second));
    arena_fini(&arena);
    keys_free(t);
}

static void many_keys(void **state)
{
    (void)state;
    struct key_table *t = keys_new();
    struct arena arena = ARENA_INIT;
    struct list_node ride;
    uint8_t digest[KEY_DIGEST_BYTES] = { 0 };
    char key[32];
    list_init(&ride);
    for (unsigned i = 0; i < 50000; i++) {
        snprintf(key, sizeof key, "key-%u", i);
        keys_add(t, &arena, &ride, b("ann"), b(key), 4, digest, (job_id){ i });
    }
    for (unsigned i = 0; i < 50000; i += 997) {
        snprintf(key, sizeof key, "key-%u", i);
        assert_int_equal(keys_find(t, b("ann"), b(key))->job.n, i);
    }
    keys_remove_all(t, &ride);
    assert_null(keys_find(t, b("ann"), b("key-997")));
    arena_fini(&arena);
    keys_free(t);
}

static void the_cache_is_bounded_and_keeps_what_is_used(void **state)
{
    (void)state;
    char spec[100];
    memset(spec, 's', sizeof spec);
    struct bytes found;
    struct spec_cache *c = spec_cache_new(10 * (sizeof spec + SPEC_CACHE_ENTRY_BYTES));
    for (uint64_t id = 1; id <= 10; id++)
        assert_true(spec_cache_offer(c, (job_id){ id }, bytes_of(spec, sizeof spec)));
    /* At submission nothing that waits is pushed out. */
    assert_false(spec_cache_offer(c, (job_id){ 11 }, bytes_of(spec, sizeof spec)));
    assert_true(spec_cache_find(c, (job_id){ 1 }, &found));
    assert_int_equal(found.size, sizeof spec);
    /* For a dispatch the least recently used makes way, but not before trim. */
    struct bytes kept = spec_cache_put(c, (job_id){ 11 }, bytes_of(spec, sizeof spec));
    assert_true(spec_cache_find(c, (job_id){ 2 }, &found));
    assert_memory_equal(kept.data, spec, sizeof spec);
    spec_cache_trim(c);
    assert_true(spec_cache_bytes(c) <= 10 * (sizeof spec + SPEC_CACHE_ENTRY_BYTES));
    assert_false(spec_cache_find(c, (job_id){ 3 }, &found));
    assert_true(spec_cache_find(c, (job_id){ 1 }, &found));
    assert_true(spec_cache_find(c, (job_id){ 2 }, &found));
    assert_true(spec_cache_find(c, (job_id){ 11 }, &found));
    spec_cache_drop(c, (job_id){ 11 });
    spec_cache_drop(c, (job_id){ 11 });
    assert_false(spec_cache_find(c, (job_id){ 11 }, &found));
    spec_cache_free(c);
}

static void the_cache_grows_its_table(void **state)
{
    (void)state;
    struct spec_cache *c = spec_cache_new(64 * 1024 * 1024);
    struct bytes found;
    for (uint64_t id = 1; id <= 20000; id++)
        assert_true(spec_cache_offer(c, (job_id){ id * 3 }, bytes_of(&id, sizeof id)));
    for (uint64_t id = 1; id <= 20000; id++) {
        assert_true(spec_cache_find(c, (job_id){ id * 3 }, &found));
        assert_memory_equal(found.data, &id, sizeof id);
    }
    assert_false(spec_cache_find(c, (job_id){ 4 }, &found));
    for (uint64_t id = 1; id <= 20000; id++)
        spec_cache_drop(c, (job_id){ id * 3 });
    assert_int_equal(spec_cache_bytes(c), 0);
    spec_cache_free(c);
}

static void replacing_a_spec(void **state)
{
    (void)state;
    struct spec_cache *c = spec_cache_new(1000);
    struct bytes found;
    spec_cache_put(c, (job_id){ 1 }, b("old"));
    spec_cache_put(c, (job_id){ 1 }, b("newer"));
    assert_true(spec_cache_find(c, (job_id){ 1 }, &found));
    assert_true(bytes_equal(found, b("newer")));
    assert_int_equal(spec_cache_bytes(c), 5 + SPEC_CACHE_ENTRY_BYTES);
    spec_cache_free(c);
}

static void expect_lines(const char *text, uint64_t lines, const char *kept)
{
    autobuf struct buf window = BUF_INIT;
    buf_str(&window, text);
    lines_keep_last(&window, lines);
    assert_int_equal(window.size, strlen(kept));
    assert_memory_equal(window.size ? window.data : "", kept, window.size);
}

static void last_lines(void **state)
{
    (void)state;
    expect_lines("", 3, "");
    expect_lines("a\nb\nc\n", 0, "");
    expect_lines("a\nb\nc\n", 1, "c\n");
    expect_lines("a\nb\nc\n", 2, "b\nc\n");
    expect_lines("a\nb\nc\n", 3, "a\nb\nc\n");
    expect_lines("a\nb\nc\n", 9, "a\nb\nc\n");
    expect_lines("a\nb\nc", 1, "c");
    expect_lines("a\nb\nc", 2, "b\nc");
    expect_lines("\n\n\n", 2, "\n\n");
    expect_lines("abc", 1, "abc");
    expect_lines("\n", 1, "\n");
}

static void last_lines_are_bounded(void **state)
{
    (void)state;
    autobuf struct buf window = BUF_INIT;
    autofree char *block = mem_alloc(LINES_BYTES_MAX);
    memset(block, 'x', LINES_BYTES_MAX);
    buf_add(&window, block, LINES_BYTES_MAX);
    buf_add(&window, block, LINES_BYTES_MAX);
    lines_keep_last(&window, 1);
    assert_int_equal(window.size, LINES_BYTES_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_belong_to_their_owner_and_batch),
        cmocka_unit_test(many_keys),
        cmocka_unit_test(the_cache_is_bounded_and_keeps_what_is_used),
        cmocka_unit_test(the_cache_grows_its_table),
        cmocka_unit_test(replacing_a_spec),
        cmocka_unit_test(last_lines),
        cmocka_unit_test(last_lines_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
