#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "api/route.h"

static const struct route *found(const char *method, const char *path, const char *arg)
{
    struct route_match m;
    struct err err;
    assert_int_equal(route_find(method, bytes_str(path), &m, &err), 0);
    if (arg)
        assert_true(bytes_equal(m.arg, bytes_str(arg)));
    else
        assert_null(m.arg.data);
    return m.route;
}

static void finds_routes(void **state)
{
    (void)state;
    assert_int_equal(found("GET", "/", NULL)->handler, API_index);
    assert_int_equal(found("POST", "/v1/jobs", NULL)->handler, API_jobs_submit);
    assert_int_equal(found("GET", "/v1/jobs/7", "7")->handler, API_job_show);
    assert_int_equal(found("GET", "/v1/jobs/7_3/logs", "7_3")->handler, API_job_logs);
    assert_int_equal(found("POST", "/v1/jobs/5-9,12/cancel", "5-9,12")->handler, API_jobs_cancel);
    assert_int_equal(found("POST", "/v1/jobs/a b*/hold", "a b*")->handler, API_jobs_hold);
    assert_int_equal(found("PATCH", "/v1/jobs/7", "7")->handler, API_job_update);
}

static void words_go_before_placeholders(void **state)
{
    (void)state;
    assert_int_equal(found("GET", "/v1/jobs/wait", NULL)->handler, API_jobs_wait);
    assert_int_equal(found("POST", "/v1/jobs/wait/cancel", "wait")->handler, API_jobs_cancel);
}

static void refuses_paths(void **state)
{
    (void)state;
    static const char *const paths[] = { "",
                                         "/v1",
                                         "/v1/",
                                         "/v1/jobs/",
                                         "/v1/jobs//cancel",
                                         "/v1/jobs/7/",
                                         "/v1/jobs/7/8/cancel",
                                         "/v1/jobs/7/nothing",
                                         "/V1/jobs",
                                         "//",
                                         "/healthz/",
                                         "/v1/nodes/a/b/drain" };
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        struct route_match m;
        struct err err;
        assert_int_equal(route_find("GET", bytes_str(paths[i]), &m, &err), -ERR_NOT_FOUND);
        assert_null(m.route);
    }
}

static void names_the_methods_there_are(void **state)
{
    (void)state;
    struct route_match m;
    struct err err;
    assert_int_equal(route_find("DELETE", bytes_str("/v1/jobs"), &m, &err), -ERR_METHOD);
    assert_string_equal(m.allow, "POST, GET");
    assert_int_equal(route_find("POST", bytes_str("/v1/jobs/7"), &m, &err), -ERR_METHOD);
    assert_string_equal(m.allow, "GET, PATCH");
    assert_int_equal(route_find("PATCH", bytes_str("/v1/jobs/wait"), &m, &err), -ERR_METHOD);
    assert_string_equal(m.allow, "GET");
    assert_int_equal(route_find("get", bytes_str("/healthz"), &m, &err), -ERR_METHOD);
}

static void knows_query_parameters_whole(void **state)
{
    (void)state;
    const struct route *r = found("GET", "/v1/jobs", NULL);
    static const char *const known[] = { "state", "user", "cursor", "order" };
    static const char *const unknown[] = { "", "stat", "tate", "user queue", "states", "Order", "e" };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        assert_true(route_query_known(r, known[i]));
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
        assert_false(route_query_known(r, unknown[i]));
    assert_false(route_query_known(found("GET", "/healthz", NULL), "x"));
}

/* Only what tells nothing may be read without a token, and nothing that changes anything. */
static void open_routes_are_few(void **state)
{
    (void)state;
    for (int i = 0; i < API_HANDLERS; i++) {
        if (routes[i].role != API_ROLE_OPEN)
            continue;
        static const char *const open[] = { "GET /",       "GET /assets/{file}", "GET /healthz",
                                            "GET /readyz", "GET /v1/session",    "POST /v1/session",
                                            "POST /v1/lease" }; /* it has a token of its own */
        char text[80];
        bool expected = false;
        snprintf(text, sizeof text, "%s %s", routes[i].method, routes[i].pattern);
        for (size_t k = 0; k < sizeof open / sizeof open[0]; k++)
            expected |= strcmp(open[k], text) == 0;
        assert_true(expected);
    }
}

/* A method that changes something needs more than the right to look. */
static void changes_need_more_than_viewing(void **state)
{
    (void)state;
    for (int i = 0; i < API_HANDLERS; i++)
        if (strncmp(routes[i].pattern, "/v1/session", 11) == 0)
            continue; /* changes nothing but who is signed in */
        else if (strcmp(routes[i].pattern, "/v1/lease") == 0)
            continue; /* nothing but how long a node's attempts are waited for; with the token of that node */
        else if (strcmp(routes[i].method, "GET") != 0)
            assert_true(routes[i].role > API_ROLE_VIEWER);
        else
            assert_int_equal(routes[i].body, API_BODY_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_routes),
        cmocka_unit_test(words_go_before_placeholders),
        cmocka_unit_test(refuses_paths),
        cmocka_unit_test(names_the_methods_there_are),
        cmocka_unit_test(knows_query_parameters_whole),
        cmocka_unit_test(open_routes_are_few),
        cmocka_unit_test(changes_need_more_than_viewing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
