#include "wire/spec.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"

static struct arena arena;

static int reset(void **state)
{
    (void)state;
    arena_reset(&arena);
    return 0;
}

static int done(void **state)
{
    (void)state;
    arena_fini(&arena);
    return 0;
}

static struct job_spec read_good(const char *json)
{
    struct job_spec spec;
    struct err e = { .code = ERR_OK };
    int rc = spec_from_json(&arena, bytes_str(json), &spec, &e);
    if (rc < 0)
        print_message("# %s: %s: %s\n", json, e.field, e.text);
    assert_int_equal(rc, 0);
    return spec;
}

/* --- equality, the hard way: every member --- */

static void pairs_equal(const struct spec_pair *a, size_t a_count, const struct spec_pair *b, size_t b_count)
{
    assert_int_equal(a_count, b_count);
    for (size_t i = 0; i < a_count; i++)
        assert_true(bytes_equal(a[i].name, b[i].name) && bytes_equal(a[i].value, b[i].value));
}

static void assert_equal(const struct job_spec *a, const struct job_spec *b)
{
    const struct job_request *x = &a->request, *y = &b->request;
    assert_true(bytes_equal(x->user, y->user) && bytes_equal(x->queue, y->queue) && bytes_equal(x->name, y->name));
    assert_true(bytes_equal(x->account, y->account));
    assert_true(bytes_equal(x->where, y->where));
    assert_int_equal(x->mem_max_bytes, y->mem_max_bytes);
    assert_true(bytes_equal(a->cron, b->cron) && a->cron_due_wall_ms == b->cron_due_wall_ms);
    assert_true(resources_equal(&x->need, &y->need));
    assert_int_equal(x->tokens_count, y->tokens_count);
    for (size_t i = 0; i < x->tokens_count; i++) {
        assert_string_equal(x->tokens[i].name, y->tokens[i].name);
        assert_int_equal(x->tokens[i].count, y->tokens[i].count);
    }
    assert_int_equal(x->named_count, y->named_count);
    for (size_t i = 0; i < x->named_count; i++) {
        assert_string_equal(x->named[i].name, y->named[i].name);
        assert_int_equal(x->named[i].count, y->named[i].count);
    }
    assert_int_equal(x->priority, y->priority);
    assert_true(x->tasks == y->tasks && x->first == y->first && x->step == y->step && x->limit == y->limit);
    assert_int_equal(x->time_limit_ms, y->time_limit_ms);
    assert_int_equal(x->grace_ms, y->grace_ms);
    assert_int_equal(x->lost_after_ms, y->lost_after_ms);
    assert_int_equal(x->retries, y->retries);
    assert_int_equal(x->backoff_ms, y->backoff_ms);
    assert_int_equal(x->backoff_max_ms, y->backoff_max_ms);
    assert_int_equal(x->begin_wall_ms, y->begin_wall_ms);
    assert_int_equal(x->deadline_wall_ms, y->deadline_wall_ms);
    assert_true(x->held == y->held && x->overlap_never == y->overlap_never);
    assert_int_equal(x->after_count, y->after_count);
    for (size_t i = 0; i < x->after_count; i++)
        assert_true(x->after[i].job.n == y->after[i].job.n && x->after[i].when == y->after[i].when);
    assert_int_equal(x->retry_of.n, y->retry_of.n);
    assert_int_equal(a->command_count, b->command_count);
    for (size_t i = 0; i < a->command_count; i++)
        assert_true(bytes_equal(a->command[i], b->command[i]));
    pairs_equal(a->env, a->env_count, b->env, b->env_count);
    pairs_equal(a->labels, a->labels_count, b->labels, b->labels_count);
    assert_true(bytes_equal(a->workdir, b->workdir) && bytes_equal(a->stdin_path, b->stdin_path) &&
                bytes_equal(a->stdout_path, b->stdout_path) && bytes_equal(a->stderr_path, b->stderr_path) &&
                bytes_equal(a->image, b->image) && bytes_equal(a->key, b->key));
    assert_int_equal(a->output_bytes_max, b->output_bytes_max);
    assert_int_equal(a->pull, b->pull);
    assert_int_equal(a->simulated_ms, b->simulated_ms);
    assert_int_equal(a->simulated_exit, b->simulated_exit);
}

/* --- generated specs --- */

static struct prng prng;

static bool often(void)
{
    return prng_chance(&prng, 0.5);
}

static struct bytes random_text(size_t max, bool plain)
{
    static const char *const plain_pieces[] = { "a",       "B",  "7",  " ",        "/",
                                                "\"",      "\\", "{}", "\xc3\xa9", "\xf0\x9f\x98\x80",
                                                "<script>" };
    static const char *const wild_pieces[] = { "a", "\n", "\x1b",     "\x7f", "\xe2\x80\xa8", "'",
                                               "=", "\t", "\xc2\x9b", "$(x)", "\xe2\x80\xae" };
    char text[600];
    size_t size = 0;
    for (uint64_t n = prng_below(&prng, 12); size == 0 || n--;) {
        uint64_t k = prng_below(&prng, 11);
        const char *piece = plain || often() ? plain_pieces[k] : wild_pieces[k];
        if (size + strlen(piece) > max)
            break;
        memcpy(text + size, piece, strlen(piece));
        size += strlen(piece);
    }
    return arena_bytes(&arena, bytes_of(text, size));
}

static void random_pairs(const struct spec_pair **out, size_t *count, bool env)
{
    size_t n = prng_below(&prng, 6);
    struct spec_pair *pairs = arena_alloc(&arena, n * sizeof *pairs);
    for (size_t i = 0; i < n; i++) {
        char name[32];
        int size =
            snprintf(name, sizeof name, env ? "V_%c%zu" : "l\xc3\xa9.%c/%zu", 'a' + (int)prng_below(&prng, 26), i);
        pairs[i].name = arena_bytes(&arena, bytes_of(name, (size_t)size));
        pairs[i].value = often() ? random_text(200, !env) : (struct bytes){ "", 0 };
    }
    *out = pairs;
    *count = n;
}

static int64_t random_ms(int64_t max_ms)
{
    return often() ? prng_between(&prng, 0, max_ms) : often() ? prng_between(&prng, 0, 100000) : 0;
}

static void random_request(struct job_request *r)
{
    if (often())
        r->user = random_text(64, true);
    if (often())
        r->queue = random_text(64, true);
    if (often())
        r->account = random_text(64, true);
    if (often())
        r->where = bytes_str("zone=a & !ssd");
    r->need.v[RES_CPU] = often() ? prng_below(&prng, 1000000001) : prng_below(&prng, 8) * 500;
    r->need.v[RES_MEM] = often() ? prng_below(&prng, 9007199254740993) : 0;
    r->mem_max_bytes = often() ? prng_below(&prng, 9007199254740993) : 0;
    r->need.v[RES_GPU] = often() ? prng_below(&prng, 5000) : 0;
    r->priority = often() ? prng_between(&prng, -1000000, 1000000) : 0;
    if (often()) {
        r->step = (uint32_t)prng_between(&prng, 1, often() ? 1 : 100);
        r->tasks = (uint32_t)prng_between(&prng, 1, often() ? 10 : ARRAY_TASKS_MAX);
        r->first = (uint32_t)prng_below(&prng, 1000000);
        r->limit = often() ? (uint32_t)prng_below(&prng, 1000) : 0;
        if (r->tasks == 1)
            r->step = 1; /* "7-7:3" has one task whatever the step */
    }
    r->time_limit_ms = random_ms(3155760000000);
    r->grace_ms = random_ms(86400000);
    r->lost_after_ms = often() ? prng_between(&prng, 80000, 604800000) : 0;
    r->retries = often() ? (uint32_t)prng_below(&prng, 1001) : 0;
    r->backoff_max_ms = random_ms(604800000);
    r->backoff_ms =
        r->backoff_max_ms ? prng_between(&prng, 0, r->backoff_max_ms > 86400000 ? 86400000 : r->backoff_max_ms) : 0;
    r->begin_wall_ms = often() ? prng_between(&prng, 1, 253402300000000) : 0;
    r->deadline_wall_ms = often() ? prng_between(&prng, r->begin_wall_ms + 1, 253402300799999) : 0;
    r->held = often();
    r->overlap_never = often();
    size_t n = often() ? prng_below(&prng, 5) : 0;
    struct after *after = arena_alloc(&arena, n * sizeof *after);
    for (size_t i = 0; i < n; i++)
        after[i] = (struct after){ { 1 + prng_below(&prng, 9007199254740992) }, (enum after_when)prng_below(&prng, 3) };
    r->after = after;
    r->after_count = n;
    n = often() ? prng_below(&prng, RES_NAMED_MAX + 1) : 0;
    struct named_resource *named = arena_alloc(&arena, n * sizeof *named);
    for (size_t i = 0; i < n; i++) {
        named[i] = (struct named_resource){ .count = 1 + prng_below(&prng, SPEC_COUNT_MAX) };
        snprintf(named[i].name, sizeof named[i].name, "lic%zu.%c_x-y", i, 'a' + (int)prng_below(&prng, 26));
    }
    r->named = r->tokens = named;
    r->tokens_count = often() ? n : 0;
    r->named_count = n;
}

static struct job_spec random_spec(void)
{
    struct job_spec s;
    spec_init(&s);
    random_request(&s.request);
    s.command_count = 1 + prng_below(&prng, 5);
    struct bytes *command = arena_alloc(&arena, s.command_count * sizeof *command);
    for (size_t i = 0; i < s.command_count; i++)
        command[i] = i && prng_chance(&prng, 0.2) ? (struct bytes){ "", 0 } : random_text(400, false);
    s.command = command;
    if (often())
        s.request.name = random_text(SPEC_NAME_MAX, true);
    random_pairs(&s.env, &s.env_count, true);
    random_pairs(&s.labels, &s.labels_count, false);
    if (often())
        s.workdir = bytes_str("/srv/a b/\xc3\xa9\n");
    if (often())
        s.stdin_path = random_text(400, false);
    if (often())
        s.stdout_path = random_text(400, false);
    if (often())
        s.stderr_path = random_text(400, false);
    if (often())
        s.image = s.request.overlap_never ? bytes_of(NULL, 0) : bytes_str("registry.example:5000/a/b@sha256:0");
    if (often())
        s.key = random_text(255, true);
    s.output_bytes_max = often() ? prng_below(&prng, 1125899906842625) : 0;
    s.pull = (enum spec_pull)prng_below(&prng, 3);
    s.simulated_ms = random_ms(31557600000);
    s.simulated_exit = often() ? (int32_t)prng_below(&prng, 256) : 0;
    spec_complete(&arena, &s);
    return s;
}

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    prng_seed(&prng, 2026);
    autobuf struct buf json = BUF_INIT, again = BUF_INIT, encoded = BUF_INIT;
    for (int i = 0; i < 5000; i++) {
        arena_reset(&arena);
        struct job_spec spec = random_spec(), back;
        struct err e = { .code = ERR_OK };
        int rc = spec_check(&spec, &e);
        if (rc < 0)
            print_message("# generated: %s: %s\n", e.field, e.text);
        assert_int_equal(rc, 0);

        buf_clear(&json);
        spec_to_json(&json, &spec);
        rc = spec_from_json(&arena, buf_bytes(&json), &back, &e);
        if (rc < 0)
            print_message("# %s\n# %s: %s\n", json.data, e.field, e.text);
        assert_int_equal(rc, 0);
        assert_equal(&spec, &back);
        buf_clear(&again);
        spec_to_json(&again, &back);
        assert_string_equal(json.data, again.data);

        spec.request.retry_of.n = often() ? prng_u64(&prng) : 0; /* set by the master, not by users: not in JSON */
        spec.cron = often() ? bytes_str("nightly") : bytes_of(NULL, 0);
        spec.cron_due_wall_ms = spec.cron.size ? prng_between(&prng, 1, 253402300000000) : 0;
        buf_clear(&encoded);
        spec_encode(&encoded, &spec);
        assert_true(encoded.size <= SPEC_BYTES_MAX);
        assert_int_equal(spec_decode(&arena, buf_bytes(&encoded), &back, &e), 0);
        assert_equal(&spec, &back);
    }
}

static void defaults(void **state)
{
    (void)state;
    struct job_spec s = read_good("{\"command\":[\"/usr/bin/env\",\"true\"]}");
    assert_true(bytes_equal(s.request.name, bytes_str("env")));
    assert_true(bytes_equal(s.request.queue, bytes_str("default")));
    assert_int_equal(s.request.user.size, 0);
    assert_int_equal(s.request.need.v[RES_CPU], 1000);
    assert_int_equal(s.request.need.v[RES_MEM], 0);
    assert_int_equal(s.request.tasks, 0);
    assert_int_equal(s.request.step, 1);
    assert_false(s.request.held || s.request.overlap_never);
    assert_int_equal(s.request.retries, 0);
    autobuf struct buf b = BUF_INIT;
    spec_to_json(&b, &s);
    assert_string_equal(b.data, "{\"command\":[\"/usr/bin/env\",\"true\"]}");
    /* a file name that cannot be a name */
    s = read_good("{\"command\":[\"/bin/a\\nb\"]}");
    assert_true(bytes_equal(s.request.name, bytes_str("job")));
    s = read_good("{\"command\":[\"dir/\"]}");
    assert_true(bytes_equal(s.request.name, bytes_str("job")));
    autobuf struct buf big = BUF_INIT;
    buf_str(&big, "{\"command\":[\"");
    for (int i = 0; i < 300; i++)
        buf_str(&big, "\xc3\xa9");
    buf_str(&big, "\"]}");
    s = read_good(big.data);
    assert_int_equal(s.request.name.size, 256); /* cut between characters */
}

static void every_key(void **state)
{
    (void)state;
    struct job_spec s =
        read_good("{\"name\":\"n\",\"queue\":\"q\",\"user\":\"u\",\"priority\":-7,\"command\":[\"a\",\"{}\",\"\"],"
                  "\"env\":{\"A\":\"1\",\"_b\":\"\"},\"workdir\":\"/w\","
                  "\"stdin\":\"i\",\"stdout\":\"o\",\"stderr\":\"e\",\"cpus\":0.5,\"mem\":\"1.5G\",\"gpus\":2,"
                  "\"resources\":{\"matlab\":3},\"time\":\"2h30m\","
                  "\"grace_s\":1.25,\"retries\":3,\"backoff\":\"2s\",\"backoff_max\":60,\"after\":[{\"job\":7},{"
                  "\"job\":8,\"when\":\"any\"},{\"job\":9,\"when\":\"fail\"}],"
                  "\"array\":\"1-1000:3%50\",\"begin\":\"2026-11-23 "
                  "10:00\",\"deadline\":\"2026-11-24T10:00:00.5+01:00\",\"hold\":true,\"overlap\":\"allow\","
                  "\"labels\":{\"team\":\"x "
                  "y\"},\"image\":\"busybox\",\"output_max\":\"1M\",\"key\":\"k1\",\"lost_after_s\":80,\"simulate\":{"
                  "\"run_s\":0.25,\"exit_code\":3},"
                  "\"nodes\":1}");
    const struct job_request *r = &s.request;
    assert_true(bytes_equal(r->name, bytes_str("n")) && bytes_equal(r->queue, bytes_str("q")) &&
                bytes_equal(r->user, bytes_str("u")));
    assert_int_equal(r->priority, -7);
    assert_int_equal(s.command_count, 3);
    assert_true(bytes_equal(s.command[1], bytes_str("{}")) && s.command[2].size == 0);
    assert_int_equal(s.env_count, 2);
    assert_true(bytes_equal(s.env[1].name, bytes_str("_b")) && s.env[1].value.size == 0);
    assert_true(bytes_equal(s.workdir, bytes_str("/w")) && bytes_equal(s.stdin_path, bytes_str("i")));
    assert_true(bytes_equal(s.stdout_path, bytes_str("o")) && bytes_equal(s.stderr_path, bytes_str("e")));
    assert_int_equal(r->need.v[RES_CPU], 500);
    assert_int_equal(r->need.v[RES_MEM], 3ll << 29);
    assert_int_equal(r->need.v[RES_GPU], 2000);
    assert_true(r->named_count == 1 && r->named[0].count == 3);
    assert_string_equal(r->named[0].name, "matlab");
    assert_int_equal(r->time_limit_ms, 9000000);
    assert_int_equal(r->grace_ms, 1250);
    assert_int_equal(r->retries, 3);
    assert_true(r->backoff_ms == 2000 && r->backoff_max_ms == 60000);
    assert_int_equal(r->after_count, 3);
    assert_true(r->after[0].job.n == 7 && r->after[0].when == AFTER_OK && r->after[1].when == AFTER_ANY &&
                r->after[2].when == AFTER_FAIL);
    assert_true(r->tasks == 334 && r->first == 1 && r->step == 3 && r->limit == 50);
    assert_int_equal(r->begin_wall_ms, 1795428000000);
    assert_int_equal(r->deadline_wall_ms, 1795510800500);
    assert_true(r->held && !r->overlap_never);
    assert_true(s.labels_count == 1 && bytes_equal(s.labels[0].value, bytes_str("x y")));
    assert_true(bytes_equal(s.image, bytes_str("busybox")) && bytes_equal(s.key, bytes_str("k1")));
    assert_int_equal(s.output_bytes_max, 1048576);
    assert_int_equal(r->lost_after_ms, 80000);
    assert_true(s.simulated_ms == 250 && s.simulated_exit == 3);
}

static void memory_from_earlier_runs(void **state)
{
    (void)state;
    struct job_spec s = read_good("{\"command\":[\"a\"],\"mem\":\"auto\"}");
    assert_true(s.mem_auto && s.request.need.v[RES_MEM] == 0);
    s = read_good("{\"command\":[\"a\"],\"mem\":\"auto:2G\"}");
    assert_true(s.mem_auto && s.request.need.v[RES_MEM] == 2ull << 30);
    s = read_good("{\"command\":[\"a\"],\"mem\":\"2G\"}");
    assert_false(s.mem_auto);
    s = read_good("{\"command\":[\"a\"],\"mem_auto\":true,\"mem_bytes\":7}");
    assert_true(s.mem_auto && s.request.need.v[RES_MEM] == 7);
    s = read_good("{\"command\":[\"a\"],\"mem\":\"auto\",\"mem_auto\":false}");
    assert_true(s.mem_auto);
    s = read_good("{\"command\":[\"a\"],\"mem_auto\":false,\"mem\":\"auto\"}");
    assert_true(s.mem_auto);
    autobuf struct buf lines = BUF_INIT, faults = BUF_INIT;
    struct err file_err;
    const char *file = "defaults: {mem: auto, command: [a]}\njobs: [{name: x}, {name: y, mem: 2G}, {name: z, mem_bytes: 7}]\n";
    assert_int_equal(spec_from_yaml("f", bytes_str(file), &lines, &faults, &file_err), 0);
    assert_string_equal(lines.data, "{\"name\":\"x\",\"command\":[\"a\"],\"mem_auto\":true}\n"
                                    "{\"name\":\"y\",\"command\":[\"a\"],\"mem_bytes\":2147483648}\n"
                                    "{\"name\":\"z\",\"command\":[\"a\"],\"mem_bytes\":7}\n");
    s = read_good("{\"command\":[\"a\"],\"mem_auto\":true,\"mem_bytes\":7}");
    autobuf struct buf encoded = BUF_INIT, json = BUF_INIT;
    struct job_spec back;
    struct err e;
    spec_to_json(&json, &s);
    assert_non_null(strstr(json.data, "\"mem_auto\":true"));
    s.mem_runs = 12;
    s.mem_start_bytes = 9;
    spec_encode(&encoded, &s);
    assert_int_equal(spec_decode(&arena, buf_bytes(&encoded), &back, &e), 0);
    assert_true(back.mem_auto && back.mem_runs == 12 && back.mem_start_bytes == 9);
}

static void bad_jobs(void **state)
{
    (void)state;
    /* C stands for a command; the field that is blamed; a piece of the text or the remedy */
    static const struct {
        const char *json, *field, *says;
    } bad[] = {
        { "{}", "command", "no command" },
        { "[]", "", "must be a map" },
        { "{\"mem\":\"auto:\",C}", "mem", "not a size" },
        { "{\"mem\":\"auto\",\"mem_bytes\":1,C}", "mem_bytes", "given twice" },
        { "{\"output_max\":\"auto\",C}", "output_max", "not a size" },
        { "{\"command\":[]}", "command", "no command" },
        { "{\"command\":[\"\"]}", "command[0]", "empty" },
        { "{\"command\":\"ls -l\"}", "command", "[\"program\", \"argument\"]" },
        { "{\"command\":[\"a\",1]}", "command[1]", "text" },
        { "{\"command\":[\"a\",null]}", "command[1]", "no value" },
        { "{\"command\":[\"a\",[\"b\"]]}", "command[1]", "a list" },
        { "{C,\"cpu\":1}", "cpu", "did you mean cpus?" },
        { "{C,\"memory\":1}", "memory", "no key" },
        { "{C,\"retires\":1}", "retires", "did you mean retries?" },
        { "{C,\"simulate.run_s\":1}", "simulate.run_s", "no key" },
        { "{C,\"\":1}", "", "no key" },
        { "{C,\"a\\u001b[2J\":1}", "a?[2J", "no key" },
        { "{C,\"mem\":\"4Q\"}", "mem", "write 4G or 512M" },
        { "{C,\"mem\":4096}", "mem", "write a unit" },
        { "{C,\"mem\":\"-1\"}", "mem", "not a size" },
        { "{C,\"mem\":\"8191P\"}", "mem", "too big" },
        { "{C,\"mem_bytes\":\"4G\"}", "mem_bytes", "whole number" },
        { "{C,\"mem_bytes\":-1}", "mem_bytes", "at least 0" },
        { "{C,\"mem_bytes\":1.5}", "mem_bytes", "not a decimal number" },
        { "{C,\"mem\":\"4G\",\"mem_bytes\":4294967296}", "mem_bytes", "twice" },
        { "{C,\"time\":\"5y\"}", "time", "write 90s, 2h30m or 15days" },
        { "{C,\"time\":\"90s\",\"time_limit_s\":90}", "time_limit_s", "twice" },
        { "{C,\"time\":\"2000000d\"}", "time", "thousand years" },
        { "{C,\"time\":1e30}", "time", "at most" },
        { "{C,\"time_limit_s\":\"90s\"}", "time_limit_s", "without quotes" },
        { "{C,\"time_limit_s\":-1}", "time_limit_s", "at least 0" },
        { "{C,\"time_limit_s\":0.0001}", "time_limit_s", "three decimals" },
        { "{C,\"cpus\":\"0.5\"}", "cpus", "without quotes" },
        { "{C,\"cpus\":-0.5}", "cpus", "at least 0" },
        { "{C,\"cpus\":1000001}", "cpus", "at most 1000000" },
        { "{C,\"cpus\":1e300}", "cpus", "at most 1000000" },
        { "{C,\"cpus\":0.3333}", "cpus", "three decimals" },
        { "{C,\"cpus\":true}", "cpus", "true or false" },
        { "{C,\"gpus\":100001}", "gpus", "at most" },
        { "{C,\"priority\":1000001}", "priority", "at most 1000000" },
        { "{C,\"priority\":-1000001}", "priority", "at least -1000000" },
        { "{C,\"priority\":1.5}", "priority", "whole number" },
        { "{C,\"retries\":1001}", "retries", "at most 1000" },
        { "{C,\"lost_after_s\":79}", "lost_after_s", "at least 80" },
        { "{C,\"lost_after_s\":604801}", "lost_after_s", "at most 604800" },
        { "{C,\"lost_after\":\"1s\"}", "lost_after", "between 80 and 604800" },
        { "{C,\"backoff_s\":10,\"backoff_max_s\":5}", "backoff_max_s", "less than" },
        { "{C,\"nodes\":513}", "nodes", "at most 512" },
        { "{C,\"nodes\":0}", "nodes", "at least 1" },
        { "{C,\"nodes\":2,\"array\":\"1-3\"}", "nodes", "an array" },
        { "{C,\"nodes\":2,\"mem\":\"1G\",\"mem_max\":\"2G\"}", "mem_max", "several nodes" },
        { "{C,\"nodes\":\"1\"}", "nodes", "without quotes" },
        { "{C,\"array\":\"0-1000000000\"}", "array", "1000000001 tasks is more than 10000000" },
        { "{C,\"array\":\"1-3,7\"}", "array", "one array for each range" },
        { "{C,\"array\":\"5-1\"}", "array", "before its start" },
        { "{C,\"array\":7}", "array", "1-1000" },
        { "{C,\"begin\":\"tomorrow\"}", "begin", "not a time" },
        { "{C,\"begin\":1795434000}", "begin", "2026-11-23T10:00:00Z" },
        { "{C,\"begin\":\"2026-11-23\",\"deadline\":\"2026-11-22\"}", "deadline", "never start" },
        { "{C,\"hold\":1}", "hold", "true or false" },
        { "{C,\"hold\":\"yes\"}", "hold", "true or false" },
        { "{C,\"overlap\":\"sometimes\"}", "overlap", "allow or never" },
        { "{C,\"overlap\":true}", "overlap", "allow or never" },
        { "{C,\"where\":\"zone=\"}", "where", "write zone=a" },
        { "{C,\"where\":\"\"}", "where", "" },
        { "{C,\"where\":7}", "where", "" },
        { "{C,\"overlap\":\"never\",\"image\":\"busybox\"}", "overlap", "leave overlap or image out" },
        { "{C,\"name\":\"\"}", "name", "empty" },
        { "{C,\"name\":null}", "name", "leave the key out" },
        { "{C,\"name\":\"a\\nb\"}", "name", "control characters" },
        { "{C,\"name\":\"a\\u202eb\"}", "name", "control characters" },
        { "{C,\"name\":7}", "name", "text" },
        { "{C,\"queue\":\"qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq\"}", "queue",
          "more than 64" },
        { "{C,\"user\":\"\\u0007\"}", "user", "control" },
        { "{C,\"workdir\":\"relative\"}", "workdir", "absolute" },
        { "{C,\"env\":[\"A=1\"]}", "env", "{NAME: \"value\"}" },
        { "{C,\"env\":{\"A\":1}}", "env.A", "quotes" },
        { "{C,\"env\":{\"1A\":\"x\"}}", "env.1A", "letters, digits and _" },
        { "{C,\"env\":{\"A=B\":\"x\"}}", "env.A=B", "letters, digits and _" },
        { "{C,\"env\":{\"\":\"x\"}}", "env.", "letters, digits and _" },
        { "{C,\"env\":{\"ROTA_JOB_ID\":\"7\"}}", "env.ROTA_JOB_ID", "set by Rota" },
        { "{C,\"env\":{\"LD_PRELOAD\":\"/x.so\"}}", "env.LD_PRELOAD", "inside the job" },
        { "{C,\"env\":{\"LD_AUDIT\":\"/x.so\"}}", "env.LD_AUDIT", "inside the job" },
        { "{C,\"env\":{\"BASH_ENV\":\"/x\"}}", "env.BASH_ENV", "inside the job" },
        { "{C,\"labels\":{\"\":\"x\"}}", "labels.", "label" },
        { "{C,\"labels\":{\"a\":\"b\\u009b\"}}", "labels.a", "label" },
        { "{C,\"labels\":{\"a\":1}}", "labels.a", "text" },
        { "{C,\"resources\":{\"lic\":0}}", "resources.lic", "between 1 and" },
        { "{C,\"resources\":{\"lic\":1.5}}", "resources.lic", "whole number" },
        { "{C,\"resources\":{\"lic\":1000000001}}", "resources.lic", "between 1 and" },
        { "{C,\"resources\":{\"a b\":1}}", "resources.a b", "name of a resource" },
        { "{C,\"resources\":{\"cpus\":1}}", "resources.cpus", "use the keys" },
        { "{C,\"resources\":{\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\":1}}",
          "resources.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "31 bytes" },
        { "{C,\"resources\":{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1}}", "resources", "more than 5" },
        { "{C,\"after\":7}", "after", "[{job: 7}]" },
        { "{C,\"after\":[7]}", "after[0]", "{job: 7}" },
        { "{C,\"after\":[{}]}", "after[0]", "either job or name" },
        { "{C,\"after\":[{\"job\":7,\"name\":\"x\"}]}", "after[0]", "either job or name" },
        { "{C,\"after\":[{\"job\":7},{\"job\":0}]}", "after[1].job", "at least 1" },
        { "{C,\"after\":[{\"job\":7,\"when\":\"done\"}]}", "after[0].when", "ok, fail or any" },
        { "{C,\"after\":[{\"job\":7,\"wen\":\"ok\"}]}", "after[0].wen", "job, name and when" },
        { "{C,\"after\":[{\"name\":\"build\"}]}", "after[0].name", "id of the job" },
        { "{C,\"simulate\":5}", "simulate", "run_s" },
        { "{C,\"simulate\":{\"run\":5}}", "simulate.run", "run_s and exit_code" },
        { "{C,\"simulate\":{\"exit_code\":256}}", "simulate.exit_code", "at most 255" },
        { "{C,\"simulate\":{\"run_s\":-1}}", "simulate.run_s", "at least 0" },
        { "{C,\"key\":\"\"}", "key", "empty" },
        { "{C,\"a\":1,\"a\":2}", "", "duplicate" },
        { "{C,\"cpus\":NaN}", "", "not JSON" },
        { "{C,\"cpus\":1e999}", "", "overflow" },
        { "{C,\"priority\":9007199254740993}", "", "2^53" },
        { "{C,\"name\":\"\\u0000\"}", "", "NUL" },
        { "{C,\"name\":\"\\ud800\"}", "", "not JSON" },
        { "{C,\"name\":\"\xff\"}", "", "not JSON" },
        { "{C}{C}", "", "not JSON" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        autobuf struct buf json = BUF_INIT;
        for (const char *at = bad[i].json; *at; at++) {
            if (*at == 'C' && (at[1] == ',' || at[1] == '}'))
                buf_str(&json, "\"command\":[\"x\"]");
            else
                buf_char(&json, *at);
        }
        struct job_spec spec = { .simulated_exit = 99 };
        struct err e = { .code = ERR_OK };
        int rc = spec_from_json(&arena, buf_bytes(&json), &spec, &e);
        const char *says = bad[i].says;
        if (rc != -ERR_INVALID || strcmp(e.field, bad[i].field) != 0 ||
            (!strstr(e.text, says) && !strstr(e.remedy, says)))
            print_message("# %s\n#   rc %d field \"%s\" text \"%s\" remedy \"%s\"\n", json.data, rc, e.field, e.text,
                          e.remedy);
        assert_int_equal(rc, -ERR_INVALID);
        assert_string_equal(e.field, bad[i].field);
        assert_true(strstr(e.text, says) || strstr(e.remedy, says));
        assert_int_equal(spec.simulated_exit, 99); /* untouched */
        assert_int_equal(spec_from_json(&arena, buf_bytes(&json), &spec, NULL), -ERR_INVALID);
    }
}

static void big_jobs(void **state)
{
    (void)state;
    autobuf struct buf b = BUF_INIT;
    struct job_spec spec;
    struct err e;
    /* a name of 1 MiB is refused by the reader, one of 257 bytes by the rule */
    buf_str(&b, "{\"command\":[\"x\"],\"name\":\"");
    while (b.size < 1000000)
        buf_char(&b, 'x');
    buf_str(&b, "\"}");
    assert_int_equal(spec_from_json(&arena, buf_bytes(&b), &spec, &e), -ERR_INVALID);
    while (b.size < 1100000)
        buf_char(&b, ' ');
    assert_int_equal(spec_from_json(&arena, buf_bytes(&b), &spec, &e), -ERR_TOO_LARGE);
    buf_clear(&b);
    buf_str(&b, "{\"command\":[\"x\"],\"name\":\"");
    for (int i = 0; i < 257; i++)
        buf_char(&b, 'x');
    buf_str(&b, "\"}");
    assert_int_equal(spec_from_json(&arena, buf_bytes(&b), &spec, &e), -ERR_INVALID);
    assert_string_equal(e.field, "name");
    /* arguments and environment together */
    buf_clear(&b);
    buf_str(&b, "{\"command\":[\"x\"],\"env\":{\"A\":\"");
    for (int i = 0; i < 65000; i++)
        buf_char(&b, 'x');
    buf_str(&b, "\",\"B\":\"");
    for (int i = 0; i < 65000; i++)
        buf_char(&b, 'x');
    buf_str(&b, "\"}}");
    assert_int_equal(spec_from_json(&arena, buf_bytes(&b), &spec, &e), 0);
    b.size -= 3;
    for (int i = 0; i < 530; i++)
        buf_char(&b, 'y');
    buf_str(&b, "\",\"C\":\"");
    for (int i = 0; i < 2000; i++)
        buf_char(&b, 'x');
    buf_str(&b, "\"}}");
    assert_int_equal(spec_from_json(&arena, buf_bytes(&b), &spec, &e), -ERR_INVALID);
    assert_string_equal(e.field, "command");
    assert_non_null(strstr(e.text, "more than 131072"));
    /* depth */
    buf_clear(&b);
    for (int i = 0; i < 100000; i++)
        buf_str(&b, "{\"a\":");
    assert_int_equal(spec_from_json(&arena, buf_bytes(&b), &spec, &e), -ERR_INVALID);
    /* dependencies */
    buf_clear(&b);
    buf_str(&b, "{\"command\":[\"x\"],\"after\":[");
    for (int i = 1; i <= 1001; i++)
        buf_printf(&b, "%s{\"job\":%d}", i > 1 ? "," : "", i);
    buf_str(&b, "]}");
    assert_int_equal(spec_from_json(&arena, buf_bytes(&b), &spec, &e), -ERR_INVALID);
    assert_string_equal(e.field, "after");
}

/* The biggest spec that passes the check still fits into its encoded bound, and comes back. */
static void biggest_encoded(void **state)
{
    (void)state;
    struct job_spec s, back;
    struct err e;
    spec_init(&s);
    static char path[SPEC_PATH_MAX];
    memset(path, 'p', sizeof path);
    path[0] = '/';
    struct bytes long_path = bytes_of(path, sizeof path);
    s.workdir = s.stdin_path = s.stdout_path = s.stderr_path = long_path;
    struct spec_pair *labels = arena_alloc(&arena, SPEC_LABELS_MAX * sizeof *labels);
    for (size_t i = 0; i < SPEC_LABELS_MAX; i++) {
        char *name = arena_alloc(&arena, 64);
        memset(name, 'n', 64);
        name[0] = (char)('0' + i);
        labels[i] = (struct spec_pair){ bytes_of(name, 64), bytes_of(path, 256) };
    }
    s.labels = labels;
    s.labels_count = SPEC_LABELS_MAX;
    struct after *after = arena_alloc(&arena, AFTER_MAX * sizeof *after);
    for (size_t i = 0; i < AFTER_MAX; i++)
        after[i] = (struct after){ { 9007199254740992 }, AFTER_FAIL };
    s.request.after = after;
    s.request.after_count = AFTER_MAX;
    /* many small arguments cost the most bytes around them */
    struct spec_pair *env = arena_alloc(&arena, SPEC_ENV_MAX * sizeof *env);
    for (size_t i = 0; i < SPEC_ENV_MAX; i++) {
        char name[8];
        snprintf(name, sizeof name, "V%zu", i);
        env[i] = (struct spec_pair){ bytes_str(arena_str(&arena, bytes_str(name))), { "", 0 } };
    }
    struct bytes *command = arena_alloc(&arena, SPEC_ARGC_MAX * sizeof *command);
    s.command = command;
    for (s.command_count = 0; s.command_count < 7000; s.command_count++)
        command[s.command_count] = bytes_str(s.command_count ? "" : "x");
    s.env = env;
    s.env_count = SPEC_ENV_MAX;
    spec_complete(&arena, &s);
    assert_int_equal(spec_check(&s, &e), 0);
    autobuf struct buf b = BUF_INIT;
    spec_encode(&b, &s);
    assert_true(b.size <= SPEC_BYTES_MAX);
    assert_int_equal(spec_decode(&arena, buf_bytes(&b), &back, &e), 0);
    assert_equal(&s, &back);
    s.command_count = SPEC_ARGC_MAX + 1;
    assert_int_equal(spec_check(&s, &e), -ERR_INVALID);
}

static void hostile_bytes(void **state)
{
    (void)state;
    struct job_spec s = read_good("{\"command\":[\"x\",\"y\"],\"env\":{\"A\":\"1\"},\"labels\":{\"l\":\"v\"},\"after\":"
                                  "[{\"job\":3}],\"resources\":{\"r\":1}}"),
                    back;
    struct err e;
    autobuf struct buf good = BUF_INIT;
    spec_encode(&good, &s);
    /* cut anywhere: refused, or a shorter valid spec; never anything else */
    for (size_t size = 0; size < good.size; size++) {
        int rc = spec_decode(&arena, bytes_of(good.data, size), &back, &e);
        assert_true(rc == 0 || rc == -ERR_CORRUPT);
        if (rc == 0)
            assert_int_equal(spec_check(&back, &e), 0);
    }
    /* one byte changed */
    struct prng p;
    prng_seed(&p, 4);
    for (int i = 0; i < 20000; i++) {
        char bytes[512];
        memcpy(bytes, good.data, good.size);
        bytes[prng_below(&p, good.size)] = (char)prng_u64(&p);
        int rc = spec_decode(&arena, bytes_of(bytes, good.size), &back, &e);
        assert_true(rc == 0 || rc == -ERR_CORRUPT);
        if (rc == 0)
            assert_int_equal(spec_check(&back, &e), 0);
        arena_reset(&arena);
    }
    /* many empty arguments in few bytes: more memory than a job may take */
    autobuf struct buf bomb = BUF_INIT;
    while (bomb.size + 4 < SPEC_BYTES_MAX)
        buf_add(&bomb, "\x9a\x02\x00", 3); /* env: an empty pair */
    int rc = spec_decode(&arena, buf_bytes(&bomb), &back, &e);
    assert_int_equal(rc, -ERR_CORRUPT);
    buf_reserve(&bomb, SPEC_BYTES_MAX + SPEC_MEMBERS_BYTES_MAX);
    assert_int_equal(spec_decode(&arena, bytes_of(bomb.data, SPEC_BYTES_MAX + SPEC_MEMBERS_BYTES_MAX + 1), &back, &e), -ERR_TOO_LARGE);
    assert_int_equal(spec_decode(&arena, bytes_of(NULL, 0), &back, &e), -ERR_CORRUPT); /* no command */
}

/* What a caller may put together by hand is held to the same rules. */
static void made_by_hand(void **state)
{
    (void)state;
    struct job_spec s;
    struct err e;
    const struct bytes nul[] = { { "x", 1 }, { "a\0b", 3 } }, latin[] = { { "x", 1 }, { "\xe9", 1 } };
    const struct spec_pair twice[] = { { { "A", 1 }, { "1", 1 } },
                                       { { "B", 1 }, { "1", 1 } },
                                       { { "A", 1 }, { "2", 1 } } };
    spec_init(&s);
    assert_int_equal(spec_check(&s, &e), -ERR_INVALID);
    s.command = nul;
    s.command_count = 2;
    spec_complete(&arena, &s);
    assert_int_equal(spec_check(&s, &e), -ERR_INVALID);
    assert_string_equal(e.field, "command[1]");
    assert_non_null(strstr(e.text, "NUL"));
    s.command = latin;
    assert_int_equal(spec_check(&s, &e), -ERR_INVALID);
    assert_non_null(strstr(e.text, "UTF-8"));
    s.command_count = 1;
    assert_int_equal(spec_check(&s, &e), 0);
    s.env = twice;
    s.env_count = 3;
    assert_int_equal(spec_check(&s, &e), -ERR_INVALID);
    assert_string_equal(e.field, "env.A");
    s.env_count = 2;
    s.request.need.v[RES_MEM] = UINT64_MAX;
    assert_int_equal(spec_check(&s, &e), -ERR_INVALID);
    assert_string_equal(e.field, "mem_bytes");
    s.request.need.v[RES_MEM] = 0;
    s.request.tasks = 2;
    s.request.first = UINT32_MAX - 2;
    assert_int_equal(spec_check(&s, &e), -ERR_INVALID);
    assert_string_equal(e.field, "array");
    s.request.first = UINT32_MAX - 3;
    assert_int_equal(spec_check(&s, &e), 0);
    s.request.name = (struct bytes){ "", 0 };
    assert_int_equal(spec_check(&s, &e), -ERR_INVALID);
    assert_string_equal(e.field, "name");
}

static bool find_job(void *arg, struct bytes name, job_id *out)
{
    out->n = *(uint64_t *)arg;
    return bytes_equal(name, bytes_str("build"));
}

static void names_and_relative_times(void **state)
{
    (void)state;
    uint64_t id = 77;
    struct spec_reader reader = { .now_wall_ms = 1795434000000, .job_by_name = find_job, .arg = &id };
    struct job_spec s;
    struct err e;
    const char *json = "{\"command\":[\"x\"],\"after\":[{\"name\":\"build\",\"when\":\"any\"}],\"begin\":\"now+2h\"}";
    assert_int_equal(spec_from_json_with(&arena, bytes_str(json), &reader, &s, &e), 0);
    assert_true(s.request.after_count == 1 && s.request.after[0].job.n == 77 && s.request.after[0].when == AFTER_ANY);
    assert_int_equal(s.request.begin_wall_ms, 1795441200000);
    json = "{\"command\":[\"x\"],\"after\":[{\"name\":\"other\"}]}";
    assert_int_equal(spec_from_json_with(&arena, bytes_str(json), &reader, &s, &e), -ERR_INVALID);
    assert_string_equal(e.field, "after[0].name");
    json = "{\"command\":[\"x\"],\"begin\":\"+2h\"}";
    assert_int_equal(spec_from_json_with(&arena, bytes_str(json), NULL, &s, &e), -ERR_INVALID);
    assert_string_equal(e.field, "begin");
    assert_int_equal(spec_from_json(&arena, bytes_str(json), &s, &e), 0);
    assert_true(s.request.begin_wall_ms > 1700000000000);
}

static void the_table(void **state)
{
    (void)state;
    size_t count;
    const struct spec_key *keys = spec_keys(&count);
    assert_in_range(count, 40, 64);
    for (size_t i = 0; i < count; i++) {
        assert_true(strlen(keys[i].name) == keys[i].name_size);
        assert_true(strlen(keys[i].help) > 10 || *keys[i].same_as);
        assert_true(keys[i].help[strlen(keys[i].help) - 1] == '.');
        assert_true(keys[i].min <= keys[i].max);
        assert_true(*spec_type_text(keys[i].type));
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(keys[i].name, keys[k].name);
        if (!*keys[i].same_as)
            continue;
        const struct spec_key *other = NULL;
        for (size_t k = 0; k < count; k++)
            if (strcmp(keys[k].name, keys[i].same_as) == 0)
                other = &keys[k];
        assert_true(other && other->offset == keys[i].offset && other->min == keys[i].min &&
                    other->max == keys[i].max && !*other->same_as);
    }
    assert_string_equal(spec_nearest_key("cpu"), "cpus");
    assert_string_equal(spec_nearest_key("comand"), "command");
    assert_null(spec_nearest_key("xyzzy"));
    assert_null(spec_nearest_key(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_is_written_is_read_back, reset),
        cmocka_unit_test_setup(defaults, reset),
        cmocka_unit_test_setup(every_key, reset),
        cmocka_unit_test_setup(memory_from_earlier_runs, reset),
        cmocka_unit_test_setup(bad_jobs, reset),
        cmocka_unit_test_setup(big_jobs, reset),
        cmocka_unit_test_setup(biggest_encoded, reset),
        cmocka_unit_test_setup(hostile_bytes, reset),
        cmocka_unit_test_setup(made_by_hand, reset),
        cmocka_unit_test_setup(names_and_relative_times, reset),
        cmocka_unit_test_setup(the_table, reset),
    };
    return cmocka_run_group_tests_name("spec", tests, NULL, done);
}
