#include "obs/log.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char line[32768];
static int reader, old_stderr;

/* A packet pipe keeps the pieces of several writes apart. */
static void capture(void)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_DIRECT | O_NONBLOCK | O_CLOEXEC), 0);
    old_stderr = dup(STDERR_FILENO);
    assert_true(old_stderr >= 0 && dup2(ends[1], STDERR_FILENO) >= 0);
    close(ends[1]);
    reader = ends[0];
}

/* How many writes there were; the first is in `line`. */
static unsigned captured(void)
{
    dup2(old_stderr, STDERR_FILENO);
    close(old_stderr);
    unsigned count = 0;
    char rest[8192];
    ssize_t n = read(reader, line, sizeof line - 1);
    line[n > 0 ? n : 0] = 0;
    while (n > 0) {
        count++;
        n = read(reader, rest, sizeof rest);
    }
    close(reader);
    return count;
}

#define LOGGED(...) (capture(), log_write(__VA_ARGS__), captured())

static void text_line(void **state)
{
    (void)state;
    log_init("master", LOG_INFO, false);
    assert_int_equal(LOGGED(LOG_WARN, "node is late node=%s silent_s=%d", "n1", 15), 1);
    int year, month, day, hour, minute, second, ms, end = 0;
    assert_int_equal(
        sscanf(line, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ%n", &year, &month, &day, &hour, &minute, &second, &ms, &end), 7);
    assert_true(year >= 2024 && month >= 1 && month <= 12 && day >= 1 && day <= 31);
    assert_int_equal(end, 24);
    assert_string_equal(line + end, " WARN master node is late node=n1 silent_s=15\n");
}

static void levels(void **state)
{
    (void)state;
    log_init("w", LOG_WARN, false);
    assert_int_equal(LOGGED(LOG_DEBUG, "x"), 0);
    assert_int_equal(LOGGED(LOG_INFO, "x"), 0);
    assert_int_equal(LOGGED(LOG_ERROR, "x"), 1);
    assert_non_null(strstr(line, " ERROR w x\n"));
    log_init("w", LOG_DEBUG, false);
    assert_int_equal(LOGGED(LOG_DEBUG, "x"), 1);
}

static void no_control_byte_gets_through(void **state)
{
    (void)state;
    log_init("m\x1b[31m", LOG_INFO, false);
    assert_int_equal(LOGGED(LOG_INFO, "%s",
                            "a\nb\rc\td\x1b]52;c;x\x07\x7f \xc2\x9b"
                            "31m \xe2\x80\xae"
                            "evil \xff\xc3( caf\xc3\xa9 \xf0\x9f\x98\x80"),
                     1);
    assert_non_null(strstr(line,
                           " INFO m\\x1b[31m a\\nb\\rc\\td\\x1b]52;c;x\\x07\\x7f \\x9b31m \\u202eevil \\xff\\xc3( "
                           "caf\xc3\xa9 \xf0\x9f\x98\x80\n"));
    /* Any bytes: one line, no control byte. */
    for (int first = 1; first < 256; first++) {
        char text[4] = { (char)first, (char)(first * 7 % 255 + 1), (char)(first * 31 % 255 + 1), 0 };
        assert_int_equal(LOGGED(LOG_INFO, "%s", text), 1);
        size_t size = strlen(line);
        assert_int_equal(line[size - 1], '\n');
        for (size_t i = 0; i < size - 1; i++)
            assert_true((unsigned char)line[i] >= 0x20 && line[i] != 0x7f);
    }
}

static const char *member(json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static json_t *logged_json(const char *text)
{
    json_error_t error;
    assert_int_equal(LOGGED(LOG_INFO, "%s", text), 1);
    json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, &error);
    if (!object)
        fail_msg("%s in %s", error.text, line);
    return object;
}

static void json_members(void **state)
{
    (void)state;
    log_init("w", LOG_INFO, true);
    json_t *o = logged_json("node is down: node=n-1 state=down job=7 code=007 why=\"no word; it \x1b[31m\" task=-");
    assert_string_equal(member(o, "message"), "node is down");
    assert_string_equal(member(o, "node"), "n-1");
    assert_string_equal(member(o, "why"), "no word; it \x1b[31m");
    assert_string_equal(member(o, "task"), "-");
    assert_string_equal(member(o, "code"), "007");
    assert_int_equal(json_integer_value(json_object_get(o, "job")), 7);
    assert_null(strchr(line, '\x1b'));
    json_decref(o);
    /* No pairs, or not only pairs, or one that would hide what is ours or said twice: words. */
    static const char *const words[] = { "a=1 and b", "say message=hi", "a=1 level=INFO", "x a=\"open", "a=", "a=1 b=2 a=3 b=", "=" };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        o = logged_json(words[i]);
        assert_string_equal(member(o, "message"), words[i]);
        json_decref(o);
    }
    o = logged_json("twice a=1 b=2 a=3"); /* the longest end without a repeat */
    assert_string_equal(member(o, "message"), "twice a=1");
    assert_int_equal(json_integer_value(json_object_get(o, "a")), 3);
    json_decref(o);
    o = logged_json("job.ended job=7 task=- attempt=2");
    assert_string_equal(member(o, "message"), "job.ended");
    assert_int_equal(json_object_size(o), 7);
    json_decref(o);
}

static void json_line(void **state)
{
    (void)state;
    log_init("worker-\"1\"", LOG_INFO, true);
    for (int first = 1; first < 256; first++) {
        char text[64];
        snprintf(text, sizeof text, "say \"hi\" \\ %c\n\x1b \xc2\x85 \xe2\x80\xa8 \xe2\x82\xac %c%c", first,
                 first * 7 % 255 + 1, first);
        assert_int_equal(LOGGED(LOG_ERROR, "%s", text), 1);
        assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
        json_error_t error;
        json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, &error);
        if (!object)
            fail_msg("%s in %s", error.text, line);
        assert_string_equal(json_string_value(json_object_get(object, "level")), "ERROR");
        assert_string_equal(json_string_value(json_object_get(object, "role")), "worker-\"1\"");
        const char *message = json_string_value(json_object_get(object, "message"));
        assert_non_null(strstr(message, "say \"hi\" \\ "));
        assert_non_null(strstr(message, "\n\x1b \xc2\x85 \xe2\x80\xa8 \xe2\x82\xac "));
        assert_int_equal(strlen(json_string_value(json_object_get(object, "time"))), 24);
        json_decref(object);
    }
}

static void long_and_unwritable(void **state)
{
    (void)state;
    log_init("m", LOG_INFO, false);
    char *text = malloc(20001);
    assert_non_null(text);
    memset(text, 'x', 20000);
    text[20000] = 0;
    capture();
    log_write(LOG_INFO, "%s", text);
    captured(); /* beyond PIPE_BUF the kernel may split; the whole is cut and says so */
    assert_true(strlen(line) < 9000);
    free(text);
    /* Nobody reads: nothing happens, and errno stays. */
    capture();
    int flags = fcntl(STDERR_FILENO, F_GETFL);
    assert_int_equal(fcntl(STDERR_FILENO, F_SETFL, flags | O_NONBLOCK), 0);
    errno = EDOM;
    for (int i = 0; i < 5000; i++)
        log_write(LOG_INFO, "fills the pipe");
    assert_int_equal(errno, EDOM);
    assert_true(captured() < 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_line),
        cmocka_unit_test(levels),
        cmocka_unit_test(no_control_byte_gets_through),
        cmocka_unit_test(json_line), cmocka_unit_test(json_members),
        cmocka_unit_test(long_and_unwritable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
