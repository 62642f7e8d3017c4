#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "core/model/record.h"
#include "exec/exit_record.h"
#include "exec/nursery_msg.h"
#include "exec/ref_table.h"

static const char strings[] = "/bin/echo\0a\0\0PATH=/bin\0/tmp\0/out";

static struct nursery_request spawn_request(void)
{
    return (struct nursery_request){ .verb = NURSERY_SPAWN,
                                     .ref = { { 7 }, 3, 2 },
                                     .mem_bytes = 5,
                                     .output_bytes_max = 6,
                                     .file_bytes_max = 11,
                                     .cpu_weight_milli = 12,
                                     .cpu_quota_milli = 13,
                                     .pids_max = 14,
                                     .run_as = true,
                                     .uid = 15,
                                     .gid = 16,
                                     .argc = 3,
                                     .envc = 1,
                                     .paths = NURSERY_WORKDIR | NURSERY_STDOUT,
                                     .strings = { strings, sizeof strings } };
}

static void packet_of(struct buf *b, const struct nursery_request *r)
{
    nursery_packet_begin(b);
    nursery_request_add(b, r);
    nursery_packet_seal(b, 42);
}

static void requests_come_back(void **state)
{
    (void)state;
    autobuf struct buf b = BUF_INIT;
    struct nursery_request r = spawn_request(), got;
    nursery_packet_begin(&b);
    nursery_request_add(&b, &(struct nursery_request){ .verb = NURSERY_HELLO, .version = 1, .wants_vacated = true });
    nursery_request_add(&b, &r);
    nursery_request_add(&b, &(struct nursery_request){ .verb = NURSERY_KILL, .ref = { { 9 }, TASK_SINGLE, 1 } });
    nursery_request_add(&b, &(struct nursery_request){ .verb = NURSERY_LEASE, .lease_until_ms = 1ll << 40 });
    nursery_packet_seal(&b, 42);
    struct nursery_packet p;
    assert_true(nursery_packet_open(&p, (uint8_t *)b.data, b.size));
    assert_int_equal(p.events_seen, 42);
    assert_int_equal(nursery_packet_next(&p, &got), 1);
    assert_true(got.verb == NURSERY_HELLO && got.wants_vacated && got.version == 1);
    assert_int_equal(nursery_packet_next(&p, &got), 1);
    assert_true(got.verb == NURSERY_SPAWN && attempt_equal(got.ref, r.ref) && got.mem_bytes == 5);
    assert_true(got.file_bytes_max == 11 && got.cpu_weight_milli == 12 && got.cpu_quota_milli == 13 && got.pids_max == 14);
    assert_true(got.run_as && got.uid == 15 && got.gid == 16);
    char *places[6];
    nursery_request_strings(&got, places);
    const char *expected[] = { "/bin/echo", "a", "", "PATH=/bin", "/tmp", "/out" };
    for (int i = 0; i < 6; i++)
        assert_string_equal(places[i], expected[i]);
    assert_int_equal(nursery_packet_next(&p, &got), 1);
    assert_true(got.verb == NURSERY_KILL && got.ref.job.n == 9 && got.ref.task == TASK_SINGLE);
    assert_int_equal(nursery_packet_next(&p, &got), 1);
    assert_true(got.verb == NURSERY_LEASE && got.lease_until_ms == 1ll << 40);
    assert_int_equal(nursery_packet_next(&p, &got), 0);
}

static void refuse(const struct nursery_request *r)
{
    autobuf struct buf b = BUF_INIT;
    struct nursery_packet p;
    struct nursery_request got;
    packet_of(&b, r);
    assert_true(nursery_packet_open(&p, (uint8_t *)b.data, b.size));
    assert_int_equal(nursery_packet_next(&p, &got), -1);
}

static void malformed_requests_are_refused(void **state)
{
    (void)state;
    struct nursery_request r = { .verb = NURSERY_LEASE };
    refuse(&r);
    r.lease_until_ms = -1;
    refuse(&r);
    r = spawn_request();
    r.argc = 2; /* one string too many */
    refuse(&r);
    r.argc = 4;
    refuse(&r);
    r.argc = UINT32_MAX;
    r.envc = 5; /* the sum would fit */
    refuse(&r);
    r = spawn_request();
    r.argc = 0;
    r.envc = 4;
    refuse(&r);
    r = spawn_request();
    r.paths = 64;
    refuse(&r);
    r = spawn_request();
    r.uid = UINT32_MAX; /* would leave it as it is */
    refuse(&r);
    r = spawn_request();
    r.run_as = false;
    r.paths = NURSERY_WORKDIR | NURSERY_GROUPS; /* groups of nobody */
    refuse(&r);
    r = spawn_request();
    r.strings.size -= 1; /* not ended by zero */
    refuse(&r);
    r = spawn_request();
    r.ref.job.n = 0;
    refuse(&r);
    r = spawn_request();
    r.verb = NURSERY_TERM;
    refuse(&r);
    r = (struct nursery_request){ .verb = (enum nursery_verb)77 };
    refuse(&r);
}

static void cut_packets_are_refused(void **state)
{
    (void)state;
    autobuf struct buf b = BUF_INIT;
    struct nursery_request r = spawn_request(), got;
    struct nursery_packet p;
    packet_of(&b, &r);
    for (size_t size = 0; size < b.size; size++)
        assert_false(nursery_packet_open(&p, (uint8_t *)b.data, size));
    for (size_t size = 16; size < b.size; size += 8) { /* cut, and sealed again */
        struct buf part = BUF_INIT;
        buf_add(&part, b.data, size);
        nursery_packet_seal(&part, 0);
        assert_true(nursery_packet_open(&p, (uint8_t *)part.data, part.size));
        assert_int_equal(nursery_packet_next(&p, &got), size == 16 ? 0 : -1);
        buf_fini(&part);
    }
}

static void events_come_back(void **state)
{
    (void)state;
    struct nursery_event e = { .kind = NURSERY_ENDED,
                               .ref = { { 5 }, TASK_SINGLE, 3 },
                               .started = true,
                               .vacated = true,
                               .own_streams = 2,
                               .slot = 17,
                               .pid = 99,
                               .begun_ms = 1234,
                               .text = "why",
                               .result = { REASON_EXIT, 7, 0, 10, 20, 30, 40, 50, END_STDERR_GAP } };
    struct nursery_event got;
    uint8_t bytes[2 * NURSERY_EVENT_BYTES_MAX];
    size_t size = nursery_event_encode(&e, bytes), at = 0;
    e.text[0] = 0;
    size += nursery_event_encode(&e, bytes + size);
    assert_true(nursery_event_decode(bytes, size, &at, &got));
    assert_string_equal(got.text, "why");
    got.text[0] = got.text[1] = got.text[2] = 0;
    assert_memory_equal(&got.result, &e.result, sizeof e.result);
    assert_true(got.started && got.vacated && got.own_streams == 2 && got.slot == 17 && got.pid == 99);
    assert_true(nursery_event_decode(bytes, size, &at, &got));
    assert_int_equal(at, size);
    assert_false(nursery_event_decode(bytes, size, &at, &got));
    for (size_t cut = 0; cut < 112; cut++) {
        at = 0;
        assert_false(nursery_event_decode(bytes, cut, &at, &got));
    }
    at = 0;
    bytes[4] = 99; /* kind */
    assert_false(nursery_event_decode(bytes, size, &at, &got));
}

static struct exit_record sample(enum exit_record_kind kind, uint64_t job)
{
    struct exit_record r = { .kind = kind, .ref = { { job }, TASK_SINGLE, 1 } };
    switch (kind) {
    case LOG_BOOT:
        r.ref = (struct attempt_ref){ 0 };
        memcpy(r.boot, "0f0f-boot", 10);
        break;
    case LOG_SPAWNING:
        r.slot = 3;
        r.fence = 0xabcdef;
        r.begun_ms = 77;
        r.own_streams = 3;
        break;
    case LOG_SPAWNED:
        r.pid = 4242;
        break;
    case LOG_EXIT:
        r.started = true;
        r.own_streams = 1;
        r.output_bytes_max = 1000;
        r.result = (struct attempt_result){ REASON_SIGNAL, 0, 9, 1, 2, 3, 4, 5, END_STDOUT_GAP };
        memcpy(r.text, "text that is a little longer", 29);
        break;
    case LOG_REMOVED:
        break;
    }
    return r;
}

/* One of each kind, then zeros; returns the bytes of the records. */
static size_t write_log(uint8_t *out, size_t cap, size_t at[6])
{
    memset(out, 0, cap);
    at[0] = 0;
    for (int kind = LOG_BOOT; kind <= LOG_REMOVED; kind++) {
        struct exit_record r = sample(kind, 10 + (uint64_t)kind);
        uint8_t bytes[EXIT_RECORD_BYTES_MAX];
        size_t size = exit_record_encode(&r, bytes);
        memcpy(out + at[kind - 1], bytes, size);
        at[kind] = at[kind - 1] + size;
    }
    return at[5];
}

static void records_come_back(void **state)
{
    (void)state;
    uint8_t log[4096];
    size_t at = 0, places[6];
    write_log(log, sizeof log, places);
    struct exit_record got;
    for (int kind = LOG_BOOT; kind <= LOG_REMOVED; kind++) {
        struct exit_record expected = sample(kind, 10 + (uint64_t)kind);
        assert_int_equal(exit_record_decode(log, sizeof log, &at, &got), LOG_FOUND);
        assert_memory_equal(&got, &expected, sizeof got);
        assert_int_equal(at, places[kind]);
    }
    assert_int_equal(exit_record_decode(log, sizeof log, &at, &got), LOG_END);
}

static void every_flipped_bit_is_noticed(void **state)
{
    (void)state;
    uint8_t log[4096];
    size_t places[6], size = write_log(log, sizeof log, places);
    for (size_t bit = 0; bit < 8 * size; bit++) {
        log[bit / 8] ^= (uint8_t)(1u << bit % 8);
        struct exit_record got;
        int found = 0, bad = 0;
        enum exit_record_found what;
        for (size_t at = 0; (what = exit_record_decode(log, sizeof log, &at, &got)) != LOG_END && at < sizeof log;)
            what == LOG_FOUND ? found++ : bad++;
        assert_int_equal(found, 4);
        assert_true(bad == 1 || (what == LOG_BAD && bit / 8 >= places[4])); /* the last one looks cut short */
        log[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void a_torn_tail_is_the_end(void **state)
{
    (void)state;
    uint8_t log[4096];
    size_t places[6], size = write_log(log, sizeof log, places);
    for (size_t cut = places[4]; cut < size; cut++) {
        write_log(log, sizeof log, places);
        memset(log + cut, 0, sizeof log - cut);
        size_t at = 0;
        struct exit_record got;
        for (int i = 0; i < 4; i++)
            assert_int_equal(exit_record_decode(log, sizeof log, &at, &got), LOG_FOUND);
        if (cut > size - 8)
            continue; /* what it ends in is zero anyway */
        assert_int_not_equal(exit_record_decode(log, sizeof log, &at, &got), LOG_FOUND);
        assert_true(cut == places[4] || at == sizeof log);
    }
}

static void the_table_finds_and_forgets(void **state)
{
    (void)state;
    struct ref_table t;
    ref_table_init(&t, 64);
    for (uint64_t job = 1; job <= 64; job++)
        assert_int_not_equal(ref_table_add(&t, (struct attempt_ref){ { job }, (uint32_t)job % 3, 1 }), REF_NONE);
    assert_int_equal(ref_table_add(&t, (struct attempt_ref){ { 65 }, 0, 1 }), REF_NONE);
    for (uint64_t job = 1; job <= 64; job += 2)
        ref_table_remove(&t, ref_table_find(&t, (struct attempt_ref){ { job }, (uint32_t)job % 3, 1 }));
    for (uint64_t job = 1; job <= 64; job++)
        assert_int_equal(ref_table_find(&t, (struct attempt_ref){ { job }, (uint32_t)job % 3, 1 }) == REF_NONE,
                         job % 2);
    assert_int_equal(ref_table_find(&t, (struct attempt_ref){ { 2 }, 2, 2 }), REF_NONE);
    assert_int_equal(t.count, 32);
    ref_table_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_come_back),      cmocka_unit_test(malformed_requests_are_refused),
        cmocka_unit_test(cut_packets_are_refused), cmocka_unit_test(events_come_back),
        cmocka_unit_test(records_come_back),       cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(a_torn_tail_is_the_end),  cmocka_unit_test(the_table_finds_and_forgets),
    };
    return cmocka_run_group_tests_name("nursery formats", tests, NULL, NULL);
}
