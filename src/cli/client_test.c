#include "cli/test.h"

#include "cli/client.h"
#include "cli/select.h"
#include "cli/verb.h"
#include "cli/why.h"

static void statuses_have_their_exit_codes(void **state)
{
    (void)state;
    static const struct {
        long status;
        int code;
    } expected[] = {
        { 400, 2 }, { 401, 6 }, { 403, 6 }, { 404, 3 }, { 405, 2 }, { 409, 2 }, { 413, 2 }, { 418, 2 },
        { 421, 6 }, { 429, 2 }, { 500, 5 }, { 502, 5 }, { 503, 5 }, { 504, 4 }, { 507, 5 },
    };
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        if (err_exit_code(status_error(expected[i].status)) != expected[i].code)
            fail_msg("%ld", expected[i].status);
}

static void paths_are_escaped(void **state)
{
    (void)state;
    autobuf struct buf path = BUF_INIT;
    buf_str(&path, "/v1/jobs/");
    url_escape(&path, "train-*/../x?y#z 7_3,9 %\xC3\xA4");
    assert_string_equal(path.data, "/v1/jobs/train-%2A%2F..%2Fx%3Fy%23z%207_3,9%20%25%C3%A4");
    buf_clear(&path);
    buf_str(&path, "/v1/jobs");
    url_query(&path, "user", NULL);
    url_query(&path, "state", "running");
    url_query(&path, "name", "a&b=c");
    assert_string_equal(path.data, "/v1/jobs?state=running&name=a%26b%3Dc");
}

/* --- server-sent events --- */

static void note(void *arg, const char *id, const char *event, struct bytes data)
{
    buf_printf(arg, "[%s|%s|%.*s]", id, event, (int)data.size, data.data);
}

static void events_are(const char *text, const char *expected)
{
    for (int piecewise = 0; piecewise < 2; piecewise++) {
        autobuf struct buf seen = BUF_INIT;
        struct sse s = { .on_event = note, .arg = &seen };
        for (size_t i = 0; piecewise && text[i]; i++)
            sse_feed(&s, bytes_of(text + i, 1));
        if (!piecewise)
            sse_feed(&s, bytes_str(text));
        sse_fini(&s);
        assert_string_equal(seen.data ? seen.data : "", expected);
    }
}

static void server_sent_events_are_read_whatever_their_pieces(void **state)
{
    (void)state;
    events_are("id: 7\nevent: job.ended\ndata: {\"a\":1}\n\n", "[7|job.ended|{\"a\":1}]");
    events_are(": heartbeat\n\nretry: 1000\n\ndata: x\n\n", "[|message|x]");
    events_are("id: 1\ndata: a\ndata: b\n\ndata: c\n\n", "[1|message|a\nb][1|message|c]");
    events_are("id:1\r\nevent:e\r\ndata:x\r\n\r\n", "[1|e|x]");
    events_are("data: cut off\n", "");
    events_are("event: e\n\ndata: x\n\n", "[|message|x]");
    events_are("data\ndata\n\ndata:\n\n", "[|message|\n][|message|]");
}

static void zero_bytes_in_a_stream_do_no_harm(void **state)
{
    (void)state;
    static const char text[] = "data\0\ndata: a\0b\nid\0: 7\nevent: e\n\n";
    autobuf struct buf seen = BUF_INIT;
    struct sse s = { .on_event = note, .arg = &seen };
    sse_feed(&s, bytes_of(text, sizeof text - 1));
    sse_fini(&s);
    assert_int_equal(strncmp(seen.data, "[|e|a", 5), 0);
}

static void an_endless_event_is_dropped_and_the_next_one_read(void **state)
{
    (void)state;
    autobuf struct buf seen = BUF_INIT;
    struct sse s = { .on_event = note, .arg = &seen };
    char block[4096];
    memset(block, 'x', sizeof block);
    sse_feed(&s, bytes_str("data: "));
    for (size_t i = 0; i < 2 * SSE_EVENT_MAX / sizeof block; i++)
        sse_feed(&s, bytes_of(block, sizeof block));
    assert_true(s.line.size <= SSE_EVENT_MAX + 1);
    sse_feed(&s, bytes_str("\n\ndata: y\n\n"));
    assert_string_equal(seen.data, "[|message|y]");
    sse_fini(&s);
}

/* --- selectors --- */

static void lists_are_known_from_names(void **state)
{
    (void)state;
    static const char *const lists[] = { "7", "7_3", "5-9", "5-9,12", "1,2,3", "7_3,9" };
    static const char *const names[] = { "",   "last", "all",  "train-*", "7a", "5-",    "-5",
                                         "5,", ",5",   "5,,6", "7_",      "_7", "1-2-3", " 7" };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        assert_true(select_is_list(lists[i]));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (select_is_list(names[i]))
            fail_msg("\"%s\"", names[i]);
}

static void operands_become_few_selectors(void **state)
{
    (void)state;
    autobuf struct buf lines = BUF_INIT;
    char *operands[] = { "7", "9-12", "train-*", "1_2", "3,4", "last" };
    assert_int_equal(select_join(&lines, operands, 6), 4);
    static const char *const expected[] = { "7,9-12", "train-*", "1_2,3,4", "last" };
    const char *selector;
    size_t at = 0, count = 0;
    while (select_next(&lines, &at, &selector))
        assert_string_equal(selector, expected[count++]);
    assert_int_equal(count, 4);
    /* No selector is longer than the API takes. */
    autobuf struct buf many = BUF_INIT;
    char *ids[1000];
    for (size_t i = 0; i < 1000; i++)
        ids[i] = "1234567890";
    assert_true(select_join(&many, ids, 1000) > 1);
    for (at = 0; select_next(&many, &at, &selector);)
        assert_true(strlen(selector) <= SELECT_TEXT_MAX);
}

static void references_print_as_they_are_typed(void **state)
{
    (void)state;
    autobuf struct buf out = BUF_INIT;
    job_ref_text(&out, &(struct job_ref){ .job = 7 });
    buf_char(&out, ' ');
    job_ref_text(&out, &(struct job_ref){ .job = 7, .has_index = true, .index = 3 });
    assert_string_equal(out.data, "7 7_3");
}

/* --- sentences --- */

static void why_is(const char *json, const char *expected)
{
    autobuf struct buf out = BUF_INIT;
    json_t *why = json_loads(json, 0, NULL);
    assert_non_null(why);
    why_sentences(why, &out);
    json_decref(why);
    assert_string_equal(out.data, expected);
}

static void reasons_become_sentences_with_numbers(void **state)
{
    (void)state;
    why_is("{\"id\":7,\"state\":\"running\",\"reason\":\"nothing\",\"text\":\"it does not wait\",\"all\":[]}",
           "Job 7 is running: it does not wait.\n");
    why_is(
        "{\"id\":7,\"state\":\"queued\",\"reason\":\"too_big\",\"text\":\"no node is large enough, even when "
        "empty\",\"nodes_ready\":2,"
        "\"dims\":[{\"name\":\"cpus\",\"need\":64000,\"free_most\":1000,\"capacity_most\":8000,\"nodes_refused\":2}]}",
        "Job 7 waits: no node is large enough, even when empty.\nIt needs 64 CPUs; the largest node has 8; every ready "
        "node refuses it for that.\n");
    why_is("{\"id\":7,\"state\":\"queued\",\"reason\":\"resources\",\"text\":\"no node has enough "
           "free\",\"nodes_ready\":3,\"jobs_before\":1,"
           "\"dims\":[{\"name\":\"mem_bytes\",\"need\":4294967296,\"free_most\":1073741824,\"capacity_most\":"
           "8589934592,\"nodes_refused\":1}]}",
           "Job 7 waits: no node has enough free.\nIt needs 4G of memory; the most that is free on one node is 1G (the "
           "largest has 8G); 1 of 3 ready nodes "
           "refuses it for that.\n1 job with the same needs goes first.\n");
    why_is("{\"id\":7,\"state\":\"queued\",\"reason\":\"resources\",\"text\":\"no node has enough "
           "free\",\"room_node\":\"n1\",\"room_in_s\":90.0}",
           "Job 7 waits: no node has enough free.\nNode n1 has room for it first, in 1m30s, if what runs there takes its "
           "time limit or its usual time.\n");
    why_is("{\"id\":7,\"state\":\"blocked\",\"reason\":\"dependency\",\"text\":\"it waits for other jobs to "
           "end\",\"blocked_by\":5,"
           "\"all\":[{\"reason\":\"dependency\",\"text\":\"it waits for other jobs to "
           "end\"},{\"reason\":\"begin\",\"text\":\"its begin time has not come\"}],"
           "\"due_in_s\":90.0}",
           "Job 7 waits: it waits for other jobs to end.\nThe first that has not ended as asked is job 5; `rota why 5` "
           "goes on from there.\n"
           "Also: its begin time has not come.\nThat is over in 1m30s.\n");
    why_is("{\"id\":7,\"state\":\"queued\",\"reason\":\"no_nodes\",\"text\":\"no node is "
           "ready\",\"nodes_ready\":0,\"nodes_total\":2}",
           "Job 7 waits: no node is ready.\n0 of 2 nodes are ready; `rota nodes` shows them.\n");
}

static void exit_code_is(const char *json, int expected)
{
    json_t *job = json_loads(json, 0, NULL);
    assert_non_null(job);
    assert_int_equal(job_exit_code(job), expected);
    json_decref(job);
}

static void jobs_have_the_exit_code_of_a_shell(void **state)
{
    (void)state;
    exit_code_is("{\"state\":\"succeeded\",\"exit_code\":0}", 0);
    exit_code_is("{\"state\":\"failed\",\"exit_code\":7}", 7);
    exit_code_is("{\"state\":\"failed\",\"signal\":9,\"exit_code\":null}", 137);
    exit_code_is("{\"state\":\"failed\",\"reason\":\"spawn\",\"exit_code\":null}", 1);
    exit_code_is("{\"state\":\"failed\",\"exit_code\":0,\"reason\":\"oom\"}", 1);
    exit_code_is("{\"state\":\"cancelled\"}", 1);
    exit_code_is("{\"state\":\"expired\"}", 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statuses_have_their_exit_codes),
        cmocka_unit_test(paths_are_escaped),
        cmocka_unit_test(server_sent_events_are_read_whatever_their_pieces),
        cmocka_unit_test(zero_bytes_in_a_stream_do_no_harm),
        cmocka_unit_test(an_endless_event_is_dropped_and_the_next_one_read),
        cmocka_unit_test(lists_are_known_from_names),
        cmocka_unit_test(operands_become_few_selectors),
        cmocka_unit_test(references_print_as_they_are_typed),
        cmocka_unit_test(reasons_become_sentences_with_numbers),
        cmocka_unit_test(jobs_have_the_exit_code_of_a_shell),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
