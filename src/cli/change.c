#include <stdio.h>
#include <string.h>

#include "cli/job_json.h"
#include "cli/verb.h"

struct change {
    const char *verb, *done;
};

static const struct change changes[] = {
    { "cancel", "cancelled" },
    { "hold", "held" },
    { "release", "released" },
    { "retry", "set to run again" },
};

static void say_change(const struct change *change, const char *selector, const json_t *answer)
{
    int64_t matched = json_int(answer, "matched", 0), changed = json_int(answer, "changed", 0);
    const char *problem = json_text(answer, "problem", NULL);
    if (matched == 1 && changed == 1)
        say("%s: %s", selector, change->done);
    else if (matched == 1)
        say("%s: nothing to do%s%s", selector, problem ? "; " : ", it was so already", problem ? problem : "");
    else
        say("%s: %lld of %lld %s%s%s", selector, (long long)changed, (long long)matched, change->done,
            problem ? "; first of the others: " : "", problem ? problem : "");
    if (json_int(answer, "submitted", 0))
        say("%lld new job%s", (long long)json_int(answer, "submitted", 0),
            json_int(answer, "submitted", 0) == 1 ? "" : "s");
}

static int run_change(const struct args *args)
{
    int code = 0;
    const struct change *change = NULL;
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++)
        if (strcmp(changes[i].verb, args->command->name) == 0)
            change = &changes[i];
    autoclient struct client *c = verb_client(args, &code);
    if (!c)
        return code;
    autobuf struct buf lines = BUF_INIT, body = BUF_INIT;
    json_one(&body, "reason", args_text(args, "reason", NULL));
    select_join(&lines, args->operands, args->operands_count);
    const char *selector;
    for (size_t at = 0; select_next(&lines, &at, &selector);) {
        autobuf struct buf path = BUF_INIT;
        autojson json_t *answer = NULL;
        buf_str(&path, "/v1/jobs/");
        url_escape(&path, selector);
        buf_printf(&path, "/%s", change->verb);
        int one = verb_json(c, args, "POST", path.data, buf_bytes(&body), &answer);
        if (answer)
            say_change(change, selector, answer);
        if (answer && strcmp(change->verb, "retry") == 0) { /* data: the ids of new jobs */
            size_t i;
            json_t *id;
            json_array_foreach(json_object_get(answer, "ids"), i, id)
            {
                autobuf struct buf line = BUF_INIT;
                buf_printf(&line, "%lld\n", (long long)json_integer_value(id));
                out_flush(&line);
            }
        }
        code = code ? code : one;
    }
    return code;
}

static const struct option_row change_options[] = {
    { .name = "reason",
      .kind = OPTION_TEXT,
      .argument = "TEXT",
      .group = "Options",
      .help = "kept with the event, for whoever asks later" },
    { .name = NULL },
};
#define CHANGE(verb, what, more, example)                                                                              \
    const struct command command_##verb = {                                                                            \
        .name = #verb,                                                                                                 \
        .group = "Jobs",                                                                                               \
        .operands = "SELECTOR...",                                                                                     \
        .operands_min = 1,                                                                                             \
        .operands_max = -1,                                                                                            \
        .flags = COMMAND_CLIENT | COMMAND_JOBS,                                                                        \
        .summary = what,                                                                                               \
        .text = more,                                                                                                  \
        .examples = example,                                                                                           \
        .options = change_options,                                                                                     \
        .run = run_change,                                                                                             \
    }
CHANGE(cancel, "cancel jobs or tasks",
       "When it returns, nothing of them will start any more; what runs gets SIGTERM, and SIGKILL after its grace.",
       "rota cancel 7\nrota cancel 7_3 9-12\nrota cancel 'train-*' --reason 'wrong data'");
CHANGE(hold, "keep waiting jobs from starting", "What runs goes on.", "rota hold 7\nrota hold all");
CHANGE(release, "let held jobs start", NULL, "rota release 7");
CHANGE(retry, "run failed and cancelled jobs again",
       "Jobs that have ended are submitted again, as new jobs whose ids are printed; those that wait to be tried again "
       "are tried at once.",
       "rota retry 7\nrota retry 7_3");

/* --- update --- */

static int run_update(const struct args *args)
{
    int code = 0;
    if (!args_has(args, "priority")) {
        say("nothing to change; write --priority N");
        return 2;
    }
    autoclient struct client *c = verb_client(args, &code);
    autobuf struct buf body = BUF_INIT;
    buf_printf(&body, "{\"priority\":%lld}", (long long)args_i64(args, "priority", 0));
    for (size_t i = 0; c && i < args->operands_count; i++) {
        struct job_ref ref;
        struct err err;
        autojson json_t *answer = NULL;
        autobuf struct buf path = BUF_INIT;
        buf_str(&path, "/v1/jobs/");
        int one = 0;
        if (select_one(c, args->operands[i], &ref, &err) < 0) {
            one = say_error(&err);
        } else {
            job_ref_text(&path, &ref);
            one = verb_json(c, args, "PATCH", path.data, buf_bytes(&body), &answer);
        }
        if (answer)
            say("job %llu: priority %lld%s", (unsigned long long)ref.job, (long long)json_int(answer, "priority", 0),
                json_is_false(json_object_get(answer, "changed")) ? ", as it was" : "");
        code = code ? code : one;
    }
    return code;
}

static const struct option_row update_options[] = {
    { .name = "priority",
      .kind = OPTION_NUMBER,
      .argument = "N",
      .min = -1000000,
      .max = 1000000,
      .group = "Options",
      .help = "higher goes first" },
    { .name = NULL },
};
const struct command command_update = {
    .name = "update",
    .group = "Jobs",
    .operands = "JOB...",
    .operands_min = 1,
    .operands_max = -1,
    .flags = COMMAND_CLIENT | COMMAND_JOBS,
    .summary = "change a job that has not ended",
    .examples = "rota update 7 --priority 100",
    .options = update_options,
    .run = run_update,
};
