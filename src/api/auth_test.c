#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "api/auth.h"

static void knows_its_tokens(void **state)
{
    (void)state;
    struct auth *a = auth_new();
    char admin[AUTH_TOKEN_BYTES], viewer[AUTH_TOKEN_BYTES], header[80];
    struct err err;
    assert_int_equal(auth_token_make(admin, &err), 0);
    assert_int_equal(auth_token_make(viewer, &err), 0);
    assert_string_not_equal(admin, viewer);
    assert_int_equal(strlen(admin), AUTH_TOKEN_BYTES - 1);
    assert_memory_equal(admin, "rota_", 5);
    assert_int_equal(auth_add(a, admin, "ann", API_ROLE_ADMIN, &err), 0);
    assert_int_equal(auth_add(a, viewer, "bob", API_ROLE_VIEWER, &err), 0);

    const struct auth_identity *who = NULL;
    snprintf(header, sizeof header, "Bearer %s", viewer);
    assert_int_equal(auth_check(a, header, &who, &err), 0);
    assert_string_equal(who->user, "bob");
    assert_int_equal(who->role, API_ROLE_VIEWER);
    snprintf(header, sizeof header, "bEARER %s", admin);
    assert_int_equal(auth_check(a, header, &who, &err), 0);
    assert_string_equal(who->user, "ann");
    auth_free(a);
}

static void refuses_others(void **state)
{
    (void)state;
    struct auth *a = auth_new();
    char token[AUTH_TOKEN_BYTES], header[80];
    struct err err;
    assert_int_equal(auth_token_make(token, &err), 0);
    assert_int_equal(auth_add(a, token, "ann", API_ROLE_ADMIN, &err), 0);
    const struct auth_identity *who = NULL;
    assert_int_equal(auth_check(a, NULL, &who, &err), -ERR_UNAUTH);
    assert_int_equal(auth_check(a, "", &who, &err), -ERR_UNAUTH);
    assert_int_equal(auth_check(a, "Bearer ", &who, &err), -ERR_UNAUTH);
    assert_int_equal(auth_check(a, token, &who, &err), -ERR_UNAUTH);
    snprintf(header, sizeof header, "Basic %s", token);
    assert_int_equal(auth_check(a, header, &who, &err), -ERR_UNAUTH);
    snprintf(header, sizeof header, "Bearer %s", token);
    header[strlen(header) - 1] ^= 1;
    assert_int_equal(auth_check(a, header, &who, &err), -ERR_UNAUTH);
    snprintf(header, sizeof header, "Bearer %sx", token);
    assert_int_equal(auth_check(a, header, &who, &err), -ERR_UNAUTH);
    snprintf(header, sizeof header, "Bearer %.20s", token);
    assert_int_equal(auth_check(a, header, &who, &err), -ERR_UNAUTH);
    assert_null(who);
    assert_true(err.remedy[0]);
    auth_free(a);
}

static void an_empty_table_lets_nobody_in(void **state)
{
    (void)state;
    struct auth *a = auth_new();
    struct err err;
    const struct auth_identity *who = NULL;
    assert_int_equal(auth_check(a, "Bearer ", &who, &err), -ERR_UNAUTH);
    assert_int_equal(auth_add(a, "", "ann", API_ROLE_ADMIN, &err), -ERR_INVALID);
    assert_int_equal(auth_add(a, "rota_short", "ann", API_ROLE_ADMIN, &err), -ERR_INVALID);
    auth_free(a);
}

static void guessing_gets_slower_and_is_forgotten(void **state)
{
    (void)state;
    struct auth *a = auth_new();
    int64_t now_ms = 1000, last_ms = 0;
    for (unsigned i = 0; i < AUTH_FREE_FAILURES; i++)
        assert_int_equal(auth_failed(a, "10.0.0.1", now_ms), 0);
    for (int i = 0; i < 40; i++) {
        int64_t delay_ms = auth_failed(a, "10.0.0.1", now_ms);
        assert_true(delay_ms >= last_ms && delay_ms >= AUTH_DELAY_MIN_MS && delay_ms <= AUTH_DELAY_MAX_MS);
        last_ms = delay_ms;
    }
    assert_int_equal(last_ms, AUTH_DELAY_MAX_MS);
    assert_int_equal(auth_failed(a, "10.0.0.2", now_ms), 0); /* somebody else */
    now_ms += AUTH_FORGET_MS + 1;
    assert_int_equal(auth_failed(a, "10.0.0.1", now_ms), 0);
    auth_free(a);
}

static void the_table_of_sources_is_bounded(void **state)
{
    (void)state;
    struct auth *a = auth_new();
    char address[32];
    for (unsigned i = 0; i < 3 * AUTH_SOURCES_MAX; i++) {
        snprintf(address, sizeof address, "10.%u.%u.1", i >> 8, i & 255);
        assert_int_equal(auth_failed(a, address, i), 0);
    }
    /* One that keeps guessing is not pushed out by the others. */
    for (unsigned i = 0; i < 10; i++)
        auth_failed(a, "1.1.1.1", 5000 + i);
    for (unsigned i = 0; i < AUTH_SOURCES_MAX - 1; i++) {
        snprintf(address, sizeof address, "11.%u.%u.1", i >> 8, i & 255);
        auth_failed(a, address, 6000);
    }
    assert_true(auth_failed(a, "1.1.1.1", 6001) > AUTH_DELAY_MIN_MS);
    auth_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_its_tokens),
        cmocka_unit_test(refuses_others),
        cmocka_unit_test(an_empty_table_lets_nobody_in),
        cmocka_unit_test(guessing_gets_slower_and_is_forgotten),
        cmocka_unit_test(the_table_of_sources_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
