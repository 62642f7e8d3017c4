#include "cli/verb.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/parse.h"
#include "core/model/states.h"
#include "io/clock.h"

void print_json(struct bytes body)
{
    autobuf struct buf text = BUF_INIT;
    if (term_stdout())
        json_clean(&text, body);
    else
        buf_add(&text, body.data, body.size);
    if (text.size == 0 || text.data[text.size - 1] != '\n')
        buf_char(&text, '\n');
    out_bytes(buf_bytes(&text));
}

int verb_json(struct client *c, const struct args *args, const char *method, const char *path, struct bytes body,
              json_t **out)
{
    struct err err;
    struct reply reply = { 0 };
    *out = NULL;
    int rc = client_call(c, &(struct call){ .method = method, .path = path, .body = body }, &reply, &err);
    if (rc == 0 && args_has(args, "json"))
        print_json(buf_bytes(&reply.body));
    else if (rc == 0)
        rc = reply_json(&reply, out, &err);
    reply_fini(&reply);
    return rc < 0 ? say_error(&err) : 0;
}

struct client *verb_client(const struct args *args, int *exit_code)
{
    struct client *c = NULL;
    struct err err;
    if (client_open(&c, args, &err) < 0)
        *exit_code = say_error(&err);
    return c;
}

void human_size(struct buf *out, const json_t *object, const char *key)
{
    int64_t bytes = json_int(object, key, -1);
    if (bytes < 0)
        buf_char(out, '-');
    else
        format_size(out, (uint64_t)bytes);
}

void human_duration(struct buf *out, double seconds)
{
    int64_t s = (int64_t)seconds;
    if (seconds < 0)
        buf_char(out, '-');
    else if (s >= 86400)
        buf_printf(out, "%lldd%02lldh", (long long)(s / 86400), (long long)(s % 86400 / 3600));
    else if (s >= 3600)
        buf_printf(out, "%lldh%02lldm", (long long)(s / 3600), (long long)(s % 3600 / 60));
    else if (s >= 60)
        buf_printf(out, "%lldm%02llds", (long long)(s / 60), (long long)(s % 60));
    else if (s >= 10)
        buf_printf(out, "%llds", (long long)s);
    else
        buf_printf(out, "%.1fs", seconds);
}

int64_t time_of(const json_t *object, const char *key)
{
    const char *text = json_text(object, key, NULL);
    int64_t ms = 0;
    return text && parse_time(text, clock_wall_ms(), &ms, NULL) == 0 ? ms : 0;
}

void human_time(struct buf *out, const char *rfc3339)
{
    int64_t ms = 0, now = clock_wall_ms();
    if (!rfc3339 || parse_time(rfc3339, now, &ms, NULL) < 0) {
        buf_char(out, '-');
        return;
    }
    time_t seconds = (time_t)(ms / 1000), today = (time_t)(now / 1000);
    struct tm then, here;
    char text[64];
    localtime_r(&seconds, &then);
    localtime_r(&today, &here);
    bool same_day = then.tm_year == here.tm_year && then.tm_yday == here.tm_yday;
    strftime(text, sizeof text, same_day ? "%H:%M:%S" : "%Y-%m-%d %H:%M", &then);
    buf_str(out, text);
}

const char *state_colour(const char *state)
{
    static const struct {
        const char *state, *colour;
    } colours[] = {
        { "running", "green" },  { "succeeded", "green" },  { "failed", "red" },        { "expired", "red" },
        { "down", "red" },       { "uncertain", "yellow" }, { "retry_wait", "yellow" }, { "cancelling", "yellow" },
        { "suspect", "yellow" }, { "draining", "yellow" },  { "quarantined", "red" },   { "ready", "green" },
        { "drained", "yellow" },
    };
    for (size_t i = 0; i < sizeof colours / sizeof *colours; i++)
        if (strcmp(colours[i].state, state) == 0)
            return colours[i].colour;
    return NULL;
}

bool state_ended(const char *state)
{
    enum job_state s = job_state_parse(state);
    return s != JOB_STATES && job_state_terminal(s);
}

int job_exit_code(const json_t *job)
{
    const char *state = json_text(job, "state", "");
    if (strcmp(state, "succeeded") == 0)
        return 0;
    int64_t code = json_int(job, "exit_code", 0), signal = json_int(job, "signal", 0);
    if (signal > 0 && signal < 128)
        return 128 + (int)signal;
    return code > 0 && code < 256 ? (int)code : 1;
}
