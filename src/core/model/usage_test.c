#include "core/model/usage.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct usage_point reading(int64_t at_ms, uint64_t mem)
{
    return (struct usage_point){ at_ms, (uint64_t)at_ms / 2, mem, mem, (uint64_t)at_ms, (uint64_t)at_ms * 3, 2 };
}

static void stays_bounded_and_keeps_the_peak(void **state)
{
    (void)state;
    struct usage_series s = USAGE_SERIES_INIT;
    for (int64_t i = 1; i <= 100000; i++) {
        struct usage_point p = reading(i * 500, i == 777 ? 5000000 : 1000);
        usage_series_add(&s, &p);
        assert_true(s.count <= USAGE_POINTS_MAX);
    }
    assert_true(s.count >= USAGE_POINTS_MAX / 2 - 1);
    assert_int_equal(s.points[s.count - 1].at_ms, 50000000);
    assert_int_equal(s.points[s.count - 1].cpu_ms, 25000000);
    assert_int_equal(usage_series_peak(&s), 5000000);
    for (size_t i = 1; i < s.count; i++) {
        assert_true(s.points[i].at_ms > s.points[i - 1].at_ms);
        assert_true(s.points[i].cpu_ms >= s.points[i - 1].cpu_ms);
    }
    usage_series_fini(&s);
}

static void readings_out_of_order_change_nothing_and_counters_never_go_back(void **state)
{
    (void)state;
    struct usage_series s = USAGE_SERIES_INIT;
    struct usage_point p = reading(5000, 10);
    usage_series_add(&s, &p);
    usage_series_add(&s, &p);
    p = reading(4000, 99);
    usage_series_add(&s, &p);
    assert_int_equal(s.count, 1);
    assert_int_equal(usage_series_peak(&s), 10);
    p = (struct usage_point){ .at_ms = 9000, .cpu_ms = 1, .mem_bytes = 3, .processes = 1 };
    usage_series_add(&s, &p); /* a process with most of the time has gone */
    assert_int_equal(s.count, 2);
    assert_int_equal(s.points[1].cpu_ms, 2500);
    assert_int_equal(s.points[1].mem_max_bytes, 3);
    usage_series_fini(&s);
}

static void bytes_and_back(void **state)
{
    (void)state;
    struct usage_series s = USAGE_SERIES_INIT;
    struct usage_point back[USAGE_POINTS_MAX];
    size_t count = 99;
    autobuf struct buf b = BUF_INIT;
    usage_encode(&b, NULL, 0);
    assert_true(usage_decode(buf_bytes(&b), back, &count));
    assert_int_equal(count, 0);
    for (int64_t i = 1; i <= 500; i++) {
        struct usage_point p = reading(i * 1000, (uint64_t)(i % 7) << 40);
        usage_series_add(&s, &p);
    }
    buf_clear(&b);
    usage_encode(&b, s.points, s.count);
    assert_true(b.size <= USAGE_BYTES_MAX);
    assert_true(usage_decode(buf_bytes(&b), back, &count));
    assert_int_equal(count, s.count);
    autobuf struct buf again = BUF_INIT;
    usage_encode(&again, back, count);
    assert_int_equal(again.size, b.size);
    assert_memory_equal(again.data, b.data, b.size);
    assert_int_equal(back[count - 1].mem_max_bytes, s.points[count - 1].mem_max_bytes);
    for (size_t size = 0; size < b.size; size++) /* cut short */
        assert_false(usage_decode(bytes_of(b.data, size), back, &count));
    buf_char(&b, 1); /* too long */
    assert_false(usage_decode(buf_bytes(&b), back, &count));
    usage_series_fini(&s);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = { "\x02\x01", "\x01\x79", "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\x01" };
    struct usage_point out[USAGE_POINTS_MAX];
    size_t count;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(usage_decode(bytes_str(bad[i]), out, &count));
    autobuf struct buf b = BUF_INIT;
    struct usage_point p[2] = { { .at_ms = 5, .cpu_ms = UINT64_MAX }, { .at_ms = 6, .cpu_ms = UINT64_MAX - 1 } };
    usage_encode(&b, p, 2); /* a counter that overflows */
    assert_false(usage_decode(buf_bytes(&b), out, &count));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stays_bounded_and_keeps_the_peak),
        cmocka_unit_test(readings_out_of_order_change_nothing_and_counters_never_go_back),
        cmocka_unit_test(bytes_and_back),
        cmocka_unit_test(nonsense_is_refused),
    };
    return cmocka_run_group_tests_name("usage", tests, NULL, NULL);
}
