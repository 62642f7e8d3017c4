#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "exec/engine_json.h"
#include "exec/engine_stream.h"

struct heard {
    struct buf of[4];
};

static void hear(void *arg, enum engine_frame type, struct bytes data)
{
    struct heard *h = arg;
    buf_add(&h->of[type], data.data, data.size);
}

static void heard_fini(struct heard *h)
{
    for (int i = 0; i < 4; i++)
        buf_fini(&h->of[i]);
}

static void frames_in_any_pieces(void **state)
{
    static const char stream[] =
        "\1\0\0\0\0\0\0\3a\nb\2\0\0\0\0\0\0\1E\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\2\0\377\3\0\0\0\0\0\0\4oops";
    const size_t size = sizeof stream - 1;
    (void)state;
    for (size_t cut = 0; cut <= size; cut++) {
        struct engine_frames f = { 0 };
        struct heard h = { 0 };
        engine_frames_take(&f, bytes_of(stream, cut), hear, &h);
        for (size_t i = cut; i < size; i++)
            engine_frames_take(&f, bytes_of(stream + i, 1), hear, &h);
        assert_false(f.broken);
        assert_int_equal(h.of[FRAME_STDOUT].size, 5);
        assert_memory_equal(h.of[FRAME_STDOUT].data, "a\nb\0\377", 5);
        assert_string_equal(h.of[FRAME_STDERR].data, "E");
        assert_string_equal(h.of[FRAME_ENGINE].data, "oops");
        heard_fini(&h);
    }
}

static void a_length_is_never_believed(void **state)
{
    (void)state;
    struct engine_frames f = { 0 };
    struct heard h = { 0 };
    engine_frames_take(&f, bytes_of("\1\0\0\0\377\377\377\377abc", 11), hear, &h);
    assert_string_equal(h.of[FRAME_STDOUT].data, "abc");
    assert_false(f.broken);
    heard_fini(&h);
    f = (struct engine_frames){ 0 };
    engine_frames_take(&f, bytes_of("plain text, no frames", 21), hear, &h);
    assert_true(f.broken);
    assert_int_equal(h.of[FRAME_STDOUT].size, 0);
    heard_fini(&h);
}

static void add_line(void *arg, struct bytes line)
{
    struct buf *out = arg;
    buf_add(out, line.data, line.size);
    buf_char(out, '|');
}

static void lines_in_any_pieces(void **state)
{
    static const char text[] = "one\r\n\ntwo\nthree";
    (void)state;
    for (size_t cut = 0; cut < sizeof text; cut++) {
        struct engine_lines l = { 0 };
        autobuf struct buf out = BUF_INIT;
        engine_lines_take(&l, bytes_of(text, cut), add_line, &out);
        engine_lines_take(&l, bytes_of(text + cut, sizeof text - 1 - cut), add_line, &out);
        engine_lines_end(&l, add_line, &out);
        assert_string_equal(out.data, "one\r|two|three|");
        buf_fini(&l.line);
    }
}

static void a_line_without_end_is_dropped(void **state)
{
    struct engine_lines l = { 0 };
    autobuf struct buf out = BUF_INIT, long_one = BUF_INIT;
    (void)state;
    for (unsigned i = 0; i <= ENGINE_LINE_BYTES_MAX; i++)
        buf_char(&long_one, 'x');
    for (int i = 0; i < 3; i++)
        engine_lines_take(&l, buf_bytes(&long_one), add_line, &out);
    assert_int_equal(l.line.size, 0);
    engine_lines_take(&l, bytes_str("\nnext\n"), add_line, &out);
    assert_string_equal(out.data, "next|");
    buf_fini(&l.line);
}

/* --- JSON --- */

static void an_error_inside_a_good_answer(void **state)
{
    struct engine_pull_line l;
    (void)state;
    assert_true(
        engine_json_pull(bytes_str("{\"errorDetail\":{\"message\":\"no\\u0007 such\"},\"error\":\"no such\"}"), &l));
    assert_string_equal(l.error, "no  such");
    assert_true(engine_json_pull(bytes_str("{\"error\":\"gone\"}"), &l));
    assert_string_equal(l.error, "gone");
    assert_true(engine_json_pull(bytes_str("{\"error\":{}}"), &l));
    assert_true(strlen(l.error) > 0);
    assert_true(
        engine_json_pull(bytes_str("{\"status\":\"Downloading\",\"progressDetail\":{\"current\":5,\"total\":9}}"), &l));
    assert_string_equal(l.error, "");
    assert_string_equal(l.status, "Downloading");
    assert_int_equal(l.current, 5);
    assert_int_equal(l.total, 9);
    assert_false(engine_json_pull(bytes_str("]"), &l));
    assert_false(engine_json_pull(bytes_str(""), &l));
}

static void whose_a_container_is(void **state)
{
    struct engine_state s;
    (void)state;
    assert_true(engine_json_state(
        bytes_str("{\"State\":{\"Status\":\"exited\",\"OOMKilled\":true,\"ExitCode\":137,"
                  "\"StartedAt\":\"2026-01-01T00:00:00Z\"},\"Config\":{\"Labels\":{\"rota.worker\":\"ab\","
                  "\"rota.job\":\"7\",\"rota.task\":\"3\",\"rota.attempt\":\"2\"}}}"),
        &s));
    assert_int_equal(s.status, ENGINE_EXITED);
    assert_true(s.oom_killed && s.started);
    assert_string_equal(s.labels.worker, "ab");
    assert_true(attempt_equal(s.labels.ref, (struct attempt_ref){ { 7 }, 3, 2 }));
    static const char *const odd[] = { "{}",
                                       "{\"rota.job\":\"7x\",\"rota.attempt\":\"1\"}",
                                       "{\"rota.job\":\"-7\",\"rota.attempt\":\"1\"}",
                                       "{\"rota.job\":\"7\",\"rota.attempt\":\"4294967296\"}",
                                       "[]",
                                       "null" };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        autobuf struct buf text = BUF_INIT;
        buf_printf(
            &text,
            "{\"State\":{\"Status\":\"created\",\"StartedAt\":\"0001-01-01T00:00:00Z\"},\"Config\":{\"Labels\":%s}}",
            odd[i]);
        assert_true(engine_json_state(buf_bytes(&text), &s));
        assert_int_equal(s.status, ENGINE_CREATED);
        assert_false(s.started);
        assert_int_equal(s.labels.ref.job.n, 0);
    }
    assert_false(engine_json_state(bytes_str("{\"State\":7}"), &s));
    assert_false(engine_json_state(bytes_str("not JSON"), &s));
}

static void what_is_asked_for(void **state)
{
    char *argv[] = { (char *)(uintptr_t) "a\"b", (char *)(uintptr_t) "\xff", NULL }, *none[] = { NULL };
    struct engine_container c = { .image = "i",
                                  .user = "1:1",
                                  .network = "none",
                                  .entrypoint = none,
                                  .command = argv,
                                  .env = none,
                                  .mem_bytes = 1 << 20,
                                  .cpu_milli = 1500,
                                  .pids_max = 9 };
    struct err err = { 0 };
    autobuf struct buf out = BUF_INIT;
    (void)state;
    assert_int_equal(engine_json_create(&c, &out, &err), -ERR_INVALID); /* not UTF-8 */
    argv[1] = NULL;
    assert_int_equal(engine_json_create(&c, &out, &err), 0);
    static const char *const wanted[] = {
        "\"Cmd\":[\"a\\\"b\"]",    "\"CapDrop\":[\"ALL\"]",    "\"SecurityOpt\":[\"no-new-privileges\"]",
        "\"ReadonlyRootfs\":true", "\"NetworkMode\":\"none\"", "\"Memory\":1048576",
        "\"MemorySwap\":1048576",  "\"NanoCpus\":1500000000",  "\"PidsLimit\":9",
        "\"IpcMode\":\"private\"", "\"User\":\"1:1\""
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (!strstr(out.data, wanted[i]))
            fail_msg("%s is not in %s", wanted[i], out.data);
    static const char *const never[] = { "Privileged", "Devices", "PidMode", "AutoRemove", "CapAdd" };
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        assert_null(strstr(out.data, never[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_in_any_pieces),
        cmocka_unit_test(a_length_is_never_believed),
        cmocka_unit_test(lines_in_any_pieces),
        cmocka_unit_test(a_line_without_end_is_dropped),
        cmocka_unit_test(an_error_inside_a_good_answer),
        cmocka_unit_test(whose_a_container_is),
        cmocka_unit_test(what_is_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
