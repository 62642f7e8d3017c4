#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/verb.h"
#include "core/model/states.h"
#include "io/clock.h"

#define POLL_S 30         /* the API answers after at most this long */
#define POLL_PROGRESS_S 1 /* somebody looks at a bar */
#define LOST_MS 60000     /* a master that is away for this long is given up */

const char progress_choices[] = "auto|plain|none";

enum progress_mode progress_mode_of(const struct args *args)
{
    const struct given *g = args_find(args, "progress");
    if (!g)
        return PROGRESS_NONE;
    if (g->text && strcmp(g->text, "plain") == 0)
        return PROGRESS_PLAIN;
    return term_stderr() && !(g->text && strcmp(g->text, "none") == 0) ? PROGRESS_BAR : PROGRESS_NONE;
}

struct counts {
    uint64_t done, total, failed;
};

static struct counts counts_of(const json_t *answer)
{
    struct counts sum = { 0 };
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(answer, "counts"), name, value)
    {
        uint64_t count = (uint64_t)json_integer_value(value);
        sum.total += count;
        if (state_ended(name))
            sum.done += count;
        if (state_ended(name) && strcmp(name, "succeeded") != 0)
            sum.failed += count;
    }
    return sum;
}

static void pause_ms(int64_t ms)
{
    struct timespec t = { ms / 1000, ms % 1000 * 1000000 };
    nanosleep(&t, NULL);
}

/* One call of the API. 0 and *answer; -1: try again (*lost_ms: since when there is no master); else an exit code. */
static int poll_once(struct client *c, struct waiting *w, struct reply *reply, json_t **answer, int64_t *lost_since_ms)
{
    int64_t now_ms = clock_now_ms(), left_ms = w->until_ms < 0 ? INT64_MAX : w->until_ms - now_ms;
    int64_t poll_s = w->progress.mode == PROGRESS_NONE ? POLL_S : POLL_PROGRESS_S;
    char timeout[32];
    snprintf(timeout, sizeof timeout, "%lld",
             (long long)(left_ms / 1000 < poll_s ? left_ms > 0 ? (left_ms + 999) / 1000 : 0 : poll_s));
    autobuf struct buf path = BUF_INIT;
    buf_str(&path, "/v1/jobs/wait");
    url_query(&path, "selector", w->selector);
    url_query(&path, "timeout_s", timeout);
    struct err err;
    int rc = client_call(c, &(struct call){ .method = "GET", .path = path.data }, reply, &err);
    if (rc == 0)
        rc = reply_json(reply, answer, &err);
    if (rc == 0) {
        *lost_since_ms = -1;
        return 0;
    }
    bool lost = reply->status == 0 || (reply->status >= 502 && reply->status <= 504);
    if (!lost || (*lost_since_ms >= 0 && now_ms - *lost_since_ms > LOST_MS)) {
        progress_end(&w->progress, now_ms);
        return say_error(&err);
    }
    if (*lost_since_ms < 0) {
        autobuf struct buf line = BUF_INIT;
        err.remedy[0] = '\0';
        error_line(&line, &err);
        say("%s; waiting for it to come back", line.data);
        *lost_since_ms = now_ms;
    }
    pause_ms(500);
    return -1;
}

static int ended_code(const struct waiting *w, const json_t *answer, struct counts counts)
{
    int64_t code = json_int(answer, "exit_code", -1);
    if (counts.failed && !w->quiet)
        say("%llu of %llu did not succeed", (unsigned long long)counts.failed, (unsigned long long)counts.total);
    if (code >= 0 && code < 256)
        return (int)code;
    return counts.failed ? 1 : 0;
}

int wait_for(struct client *c, struct waiting *w)
{
    int64_t lost_since_ms = -1;
    for (;;) {
        struct reply reply = { 0 };
        autojson json_t *answer = NULL;
        int rc = poll_once(c, w, &reply, &answer, &lost_since_ms);
        int64_t now_ms = clock_now_ms();
        struct counts counts = counts_of(answer);
        bool done = rc == 0 && json_is_true(json_object_get(answer, "done"));
        bool late = rc <= 0 && !done && w->until_ms >= 0 && now_ms >= w->until_ms;
        if (rc == 0)
            progress_set(&w->progress, counts.done, counts.total, counts.failed, now_ms);
        if (done || late || rc > 0)
            progress_end(&w->progress, now_ms);
        if ((done || late) && rc == 0 && w->json)
            print_json(buf_bytes(&reply.body));
        reply_fini(&reply);
        if (rc > 0)
            return rc;
        if (done)
            return ended_code(w, answer, counts);
        if (late) {
            say("%s: the time is up, %lld of %llu not ended", w->selector, (long long)json_int(answer, "left", 0),
                (unsigned long long)counts.total);
            return err_exit_code(ERR_TIMEOUT);
        }
    }
}

static int run_wait(const struct args *args)
{
    int code = 0;
    autoclient struct client *c = verb_client(args, &code);
    if (!c)
        return code;
    autobuf struct buf lines = BUF_INIT;
    select_join(&lines, args->operands, args->operands_count);
    struct waiting w = { .until_ms = args_has(args, "timeout") ? clock_now_ms() + args_i64(args, "timeout", 0) : -1,
                         .json = args_has(args, "json") };
    size_t at = 0;
    while (select_next(&lines, &at, &w.selector)) {
        progress_start(&w.progress, progress_mode_of(args), "done", clock_now_ms());
        int one = wait_for(c, &w);
        if (one > code)
            code = one;
    }
    return code;
}

static const struct option_row wait_options[] = {
    { .name = "timeout",
      .kind = OPTION_DURATION,
      .argument = "D",
      .group = "Options",
      .fallback = "none",
      .help = "give up after this long, with exit code 4" },
    { .name = "progress",
      .kind = OPTION_CHOICE,
      .flags = OPTION_MAYBE,
      .argument = "HOW",
      .choices = progress_choices,
      .group = "Options",
      .help = "show how far it is, on standard error" },
    { .name = NULL },
};
const struct command command_wait = {
    .name = "wait",
    .group = "Jobs",
    .operands = "SELECTOR...",
    .operands_min = 1,
    .operands_max = -1,
    .flags = COMMAND_CLIENT | COMMAND_JOBS,
    .summary = "wait until jobs have ended",
    .text = "Exits with the job's own code (128+signal if it was killed); with several, 1 if one of them failed.",
    .examples = "rota wait last\nrota wait 5-9 12 --timeout 10m\nrota wait 'train-*' --progress",
    .options = wait_options,
    .run = run_wait,
};
