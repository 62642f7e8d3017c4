#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "api/session.h"

static const uint8_t token_a[32] = "token of ann", token_b[32] = "token of bob";

static void opens_and_closes(void **state)
{
    (void)state;
    struct sessions *s = sessions_new();
    struct err err;
    char one[SESSION_TEXT_BYTES], two[SESSION_TEXT_BYTES];
    uint8_t token[32];
    assert_int_equal(session_open(s, token_a, 1000, one, &err), 0);
    assert_int_equal(session_open(s, token_b, 1000, two, &err), 0);
    assert_int_equal(strlen(one), SESSION_TEXT_BYTES - 1);
    assert_string_not_equal(one, two);
    assert_true(session_check(s, bytes_str(one), 2000, token));
    assert_memory_equal(token, token_a, 32);
    assert_true(session_check(s, bytes_str(two), 2000, token));
    assert_memory_equal(token, token_b, 32);
    assert_false(session_check(s, bytes_of(one, strlen(one) - 1), 2000, token));
    assert_false(session_check(s, bytes_str(""), 2000, token));
    session_close(s, bytes_str(one));
    session_close(s, bytes_str("nobody"));
    assert_false(session_check(s, bytes_str(one), 2000, token));
    assert_true(session_alive(s, bytes_str(two), 2000));
    sessions_free(s);
}

static void ends_when_idle(void **state)
{
    (void)state;
    struct sessions *s = sessions_new();
    struct err err;
    char text[SESSION_TEXT_BYTES];
    uint8_t token[32];
    assert_int_equal(session_open(s, token_a, 1000, text, &err), 0);
    int64_t now_ms = 1000 + SESSION_IDLE_MS - 1;
    assert_true(session_check(s, bytes_str(text), now_ms, token)); /* counts as use */
    now_ms += SESSION_IDLE_MS - 1;
    assert_true(session_alive(s, bytes_str(text), now_ms)); /* does not */
    now_ms += 1;
    assert_false(session_alive(s, bytes_str(text), now_ms));
    assert_false(session_check(s, bytes_str(text), now_ms, token));
    sessions_free(s);
}

static void is_bounded(void **state)
{
    (void)state;
    struct sessions *s = sessions_new();
    struct err err;
    char first[SESSION_TEXT_BYTES], second[SESSION_TEXT_BYTES], text[SESSION_TEXT_BYTES];
    assert_int_equal(session_open(s, token_a, 1000, first, &err), 0);
    assert_int_equal(session_open(s, token_a, 1001, second, &err), 0);
    for (unsigned i = 2; i <= SESSIONS_MAX; i++)
        assert_int_equal(session_open(s, token_a, 1001 + i, text, &err), 0);
    assert_false(session_alive(s, bytes_str(first), 5000));
    assert_true(session_alive(s, bytes_str(second), 5000));
    assert_true(session_alive(s, bytes_str(text), 5000));
    sessions_free(s);
}

static void tickets_work_once(void **state)
{
    (void)state;
    struct sessions *s = sessions_new();
    struct err err;
    char text[SESSION_TEXT_BYTES], late[SESSION_TEXT_BYTES];
    uint8_t token[32];
    assert_int_equal(ticket_make(s, token_a, 1000, text, &err), 0);
    assert_int_equal(ticket_make(s, token_a, 1000, late, &err), 0);
    assert_false(session_alive(s, bytes_str(text), 1000));
    assert_true(ticket_use(s, bytes_str(text), 2000, token));
    assert_memory_equal(token, token_a, 32);
    assert_false(ticket_use(s, bytes_str(text), 2000, token));
    assert_false(ticket_use(s, bytes_str(late), 1000 + TICKET_MS, token));
    sessions_free(s);
}

static void finds_its_cookie(void **state)
{
    (void)state;
    assert_true(bytes_equal(cookie_find("rota_1=a; rota_12=b;rota_2=", "rota_12"), bytes_str("b")));
    assert_true(bytes_equal(cookie_find("rota_1=a; rota_12=b", "rota_1"), bytes_str("a")));
    assert_int_equal(cookie_find("rota_2=", "rota_2").size, 0);
    assert_int_equal(cookie_find("xrota_1=a", "rota_1").size, 0);
    assert_int_equal(cookie_find("rota_1", "rota_1").size, 0);
    assert_int_equal(cookie_find(NULL, "rota_1").size, 0);
    assert_int_equal(cookie_find(";;; ", "rota_1").size, 0);
}

static void outlives_the_process(void **state)
{
    (void)state;
    struct sessions *s = sessions_new(), *again = sessions_new();
    struct err err;
    char text[SESSION_TEXT_BYTES], ticket[SESSION_TEXT_BYTES];
    uint8_t token[32];
    autobuf struct buf out = BUF_INIT;
    uint64_t changes = sessions_changes(s);
    assert_int_equal(session_open(s, token_a, 1000, text, &err), 0);
    assert_true(sessions_changes(s) > changes);
    assert_int_equal(ticket_make(s, token_a, 1000, ticket, &err), 0);
    buf_str(&out, "not a line\n\n");
    for (int i = 0; i < 40; i++)
        buf_str(&out, "0123456789abcdef0123456789abcdef");
    buf_char(&out, '\n');
    sessions_write(s, &out);
    assert_null(strstr(out.data, text)); /* a digest only */
    buf_str(&out, "cut of");
    sessions_read(again, buf_bytes(&out));
    assert_true(session_check(again, bytes_str(text), 2000, token));
    assert_memory_equal(token, token_a, 32);
    assert_false(ticket_use(again, bytes_str(ticket), 1000, token));
    sessions_free(s);
    sessions_free(again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_and_closes),  cmocka_unit_test(ends_when_idle),   cmocka_unit_test(is_bounded),
        cmocka_unit_test(tickets_work_once), cmocka_unit_test(finds_its_cookie), cmocka_unit_test(outlives_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
