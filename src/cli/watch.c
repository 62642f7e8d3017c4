#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/parse.h"
#include "cli/verb.h"
#include "io/clock.h"

#define EVENTS_BACK 100u /* without --since and --follow: so many of the last */
#define LOST_MS 60000
#define AGAIN_MS 1000

struct watching {
    bool json, done;
    uint64_t until; /* stop behind this number; UINT64_MAX: never */
    uint64_t seen;  /* the last one printed */
    uint64_t gaps;
    struct buf out;
};

/* Zero, false and empty are what most fields are: --json has them all. */
static bool says_nothing(const json_t *value)
{
    return json_is_null(value) || json_is_false(value) || (json_is_number(value) && json_number_value(value) == 0) ||
           (json_is_string(value) && json_string_length(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0);
}

static void event_line(struct watching *w, const char *event, const json_t *data)
{
    autobuf struct buf line = BUF_INIT;
    buf_printf(&line, "%-8llu %s  %-18s", (unsigned long long)w->seen, json_text(data, "at", "-"), event);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)data, key, value)
    {
        if (strcmp(key, "seq") == 0 || strcmp(key, "at") == 0 || strcmp(key, "event") == 0 || says_nothing(value))
            continue;
        if (json_is_string(value)) {
            const char *text = json_string_value(value);
            bool plain = *text && strcspn(text, " \t\"=") == strlen(text);
            buf_printf(&line, plain ? " %s=%s" : " %s=\"%s\"", key, text);
        } else {
            char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
            buf_printf(&line, " %s=%s", key, text ? text : "?");
            free(text);
        }
    }
    text_clean(&w->out, buf_bytes(&line));
    buf_char(&w->out, '\n');
}

static void on_event(void *arg, const char *id, const char *event, struct bytes data)
{
    struct watching *w = arg;
    if (w->done)
        return;
    if (strcmp(event, "gap") == 0) {
        w->gaps++;
        say("we read too slowly, events are missing: %.*s", (int)data.size, data.data);
        return;
    }
    if (strcmp(event, "health") == 0) {
        say("the master's health: %.*s", (int)data.size, data.data);
        return;
    }
    if (*id)
        w->seen = strtoull(id, NULL, 10);
    if (w->seen > w->until) {
        w->done = true;
        return;
    }
    if (w->json) {
        if (term_stdout())
            json_clean(&w->out, data);
        else
            buf_add(&w->out, data.data, data.size);
        buf_char(&w->out, '\n');
    } else {
        json_t *object = json_loadb(data.data, data.size, JSON_ALLOW_NUL, NULL);
        event_line(w, event, object);
        json_decref(object);
    }
    w->done = w->seen >= w->until;
}

struct feed_ends {
    struct sse sse;
    struct watching *w;
};

static void on_piece(void *arg, struct bytes piece)
{
    struct feed_ends *f = arg;
    sse_feed(&f->sse, piece);
    out_flush(&f->w->out);
}

static int last_seq(struct client *c, uint64_t *seq)
{
    struct err err;
    autojson json_t *stats = NULL;
    if (client_json(c, "GET", "/v1/stats", bytes_of(NULL, 0), &stats, &err) < 0)
        return say_error(&err);
    *seq = (uint64_t)json_int(json_object_get(stats, "store"), "last_seq", 0);
    return 0;
}

static int watch(struct client *c, struct watching *w, const char *path, bool resume)
{
    int64_t lost_since_ms = -1;
    for (;;) {
        struct feed_ends f = { .w = w };
        f.sse.on_event = on_event;
        f.sse.arg = w;
        struct stream s = { .on_bytes = on_piece, .arg = &f };
        char id[32];
        snprintf(id, sizeof id, "%llu", (unsigned long long)w->seen);
        client_stream(c, &s, path, resume ? id : NULL);
        while (!s.ended && !w->done) {
            client_turn(c, 1000);
            if (s.received)
                lost_since_ms = -1;
        }
        client_stream_stop(c, &s);
        sse_fini(&f.sse);
        out_flush(&w->out);
        if (w->done)
            return 0;
        bool lost = s.err.code == ERR_OK || s.err.code == ERR_UNAVAILABLE || s.err.code == ERR_TIMEOUT;
        int64_t now_ms = clock_now_ms();
        if (!lost || (lost_since_ms >= 0 && now_ms - lost_since_ms > LOST_MS))
            return say_error(&s.err);
        if (lost_since_ms < 0) {
            say("the stream of events broke off; waiting for the master to come back");
            lost_since_ms = now_ms;
        }
        /* Without a number to go on from it would be live again: then what lies between is lost, and only then. */
        resume = resume || w->seen > 0;
        client_turn(c, AGAIN_MS);
    }
}

/* What happened to one job so far: a list that the store keeps, page by page. */
static int job_events(struct client *c, struct watching *w, const char *job)
{
    char cursor[32] = "";
    if (w->seen)
        snprintf(cursor, sizeof cursor, "%llu", (unsigned long long)w->seen + 1);
    do {
        struct err err;
        autojson json_t *page = NULL;
        autobuf struct buf path = BUF_INIT;
        buf_printf(&path, "/v1/jobs/%s/events", job);
        url_query(&path, "limit", "1000");
        url_query(&path, "cursor", *cursor ? cursor : NULL);
        if (client_json(c, "GET", path.data, bytes_of(NULL, 0), &page, &err) < 0)
            return say_error(&err);
        size_t i;
        const json_t *one;
        json_array_foreach(json_object_get(page, "events"), i, one)
        {
            char id[32];
            snprintf(id, sizeof id, "%lld", (long long)json_int(one, "seq", 0));
            char *text = json_dumps(one, JSON_COMPACT | JSON_REAL_PRECISION(15));
            on_event(w, id, json_text(one, "event", "?"), bytes_str(text));
            free(text);
        }
        out_flush(&w->out);
        snprintf(cursor, sizeof cursor, "%s", json_text(page, "next", ""));
    } while (*cursor);
    return 0;
}

static int run_events(const struct args *args)
{
    int code = 0;
    bool follow = args_has(args, "follow");
    autoclient struct client *c = verb_client(args, &code);
    if (!c)
        return code;
    struct watching w = { .json = args_has(args, "json"), .until = UINT64_MAX, .seen = args_u64(args, "since", 0) };
    if (!follow && args_has(args, "job")) {
        code = job_events(c, &w, args_text(args, "job", ""));
        buf_fini(&w.out);
        return code;
    }
    uint64_t last = 0;
    if ((code = last_seq(c, &last)))
        return code;
    w.seen = args_u64(args, "since", follow ? last : last > EVENTS_BACK ? last - EVENTS_BACK : 0);
    if (!follow) {
        w.until = last;
        if (w.seen >= last)
            return 0;
    }
    autobuf struct buf path = BUF_INIT;
    buf_str(&path, "/v1/events");
    url_query(&path, "job", args_text(args, "job", NULL));
    code = watch(c, &w, path.data, true);
    buf_fini(&w.out);
    return code;
}

static const struct option_row events_options[] = {
    { .name = "follow",
      .letter = 'f',
      .kind = OPTION_FLAG,
      .group = "Options",
      .help = "go on with what happens from now on" },
    { .name = "since",
      .kind = OPTION_COUNT,
      .argument = "SEQ",
      .group = "Options",
      .fallback = "100 back; with --follow none",
      .help = "begin behind this number" },
    { .name = "job", .kind = OPTION_COUNT, .argument = "ID", .group = "Options", .help = "only events of this job" },
    { .name = NULL },
};
const struct command command_events = {
    .name = "events",
    .group = "Cluster",
    .operands = "",
    .operands_min = 0,
    .operands_max = 0,
    .flags = COMMAND_CLIENT,
    .summary = "print what happened, one line per event",
    .text = "With --json each line is the event as the API sends it. A stream that breaks off goes on behind the last "
            "event.",
    .examples = "rota events\nrota events -f --json | jq -c 'select(.event==\"job.ended\")'\nrota events --since 0",
    .options = events_options,
    .run = run_events,
};

/* --- stats --- */

static void section(struct buf *out, const char *label, const json_t *object)
{
    const char *key;
    json_t *value;
    bool any = false;
    buf_printf(out, "%-12s", label);
    json_object_foreach((json_t *)object, key, value)
    {
        size_t length = strlen(key);
        bool size = length > 6 && strcmp(key + length - 6, "_bytes") == 0;
        if (json_is_object(value) || json_is_array(value) ||
            (json_is_number(value) && json_number_value(value) == 0 && !json_is_real(value)))
            continue;
        buf_printf(out, "%s%.*s ", any ? ", " : " ", (int)(size ? length - 6 : length), key);
        if (size || strcmp(key, "bytes") == 0)
            format_size(out, (uint64_t)json_integer_value(value));
        else if (json_is_integer(value))
            buf_i64(out, json_integer_value(value));
        else if (json_is_real(value))
            buf_printf(out, "%g", json_real_value(value));
        else if (json_is_string(value))
            buf_str(out, json_string_value(value));
        else
            buf_str(out, json_is_true(value) ? "yes" : "no");
        any = true;
    }
    buf_str(out, any ? "\n" : " none\n");
}

static int run_stats(const struct args *args)
{
    int code = 0;
    autoclient struct client *c = verb_client(args, &code);
    autojson json_t *stats = NULL;
    if (!c || (code = verb_json(c, args, "GET", "/v1/stats", bytes_of(NULL, 0), &stats)) || !stats)
        return code;
    autobuf struct buf out = BUF_INIT, clean = BUF_INIT;
    buf_printf(&out, "%-12s %s at %s, epoch %lld, since %s\n", "master", json_text(stats, "version", "?"),
               client_url(c), (long long)json_int(stats, "epoch", 0), json_text(stats, "started_at", "?"));
    static const char *const sections[] = { "nodes",  "capacity",  "allocated", "jobs", "tasks",
                                            "totals", "scheduler", "store",     "bus",  "http" };
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++)
        if (json_is_object(json_object_get(stats, sections[i])))
            section(&out, sections[i], json_object_get(stats, sections[i]));
    for (char *at = out.data; at && *at;) {
        size_t size = strcspn(at, "\n");
        text_clean(&clean, bytes_of(at, size));
        buf_char(&clean, '\n');
        at += size + (at[size] == '\n');
    }
    out_flush(&clean);
    return 0;
}
const struct command command_stats = {
    .name = "stats",
    .group = "Cluster",
    .operands = "",
    .operands_min = 0,
    .operands_max = 0,
    .flags = COMMAND_CLIENT,
    .summary = "show counts and sizes of the cluster and its master",
    .examples = "rota stats\nrota stats --json | jq .tasks",
    .run = run_stats,
};
