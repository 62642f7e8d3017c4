/* rota whatif: when what waits would start, if something was different. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cli/job_json.h"
#include "cli/verb.h"
#include "master/master.h"

static const struct option_row options[] = {
    { .name = "policy", .kind = OPTION_CHOICE, .argument = "ORDER", .choices = ORDER_WORDS, .group = "What is different", .help = "the order in which jobs wait" },
    { .name = "backfill", .kind = OPTION_CHOICE, .argument = "HOW", .choices = BACKFILL_WORDS, .group = "What is different", .help = "what may pass a job that does not fit; a plan tells none from the others, which are one to it" },
    { .name = "add-nodes", .kind = OPTION_TEXT, .argument = "N*SHAPE", .group = "What is different", .help = "more nodes: 4*cpus=16,mem=64G,gpus=2, or 4*NAME for nodes like that one; several with ; between them" },
    { .name = "without", .kind = OPTION_TEXT, .argument = "NODES", .group = "What is different", .help = "nodes that are gone: what runs there waits again" },
    { .name = "cancel", .kind = OPTION_TEXT, .argument = "JOBS", .group = "What is different", .help = "numbers of jobs that are cancelled: 7,12" },
    { .name = "release", .kind = OPTION_TEXT, .argument = "JOBS", .group = "What is different", .help = "numbers of held jobs that are released" },
    { .name = "priority", .kind = OPTION_TEXT, .argument = "JOB=N,...", .group = "What is different", .help = "jobs with another priority: 7=5,12=-1" },
    { .name = "job", .kind = OPTION_TEXT, .argument = "SHAPE", .group = "What is different", .help = "a job more: cpus=4, mem=8G, gpus=1, nodes=2, time=1h, where=EXPR, queue=Q, account=A, priority=N: some of these, with commas and no blanks between" },
    { .name = "limit", .kind = OPTION_COUNT, .argument = "N", .fallback = "20", .group = "Output", .max = 1000, .help = "list so many jobs at most: those that change most come first" },
    { 0 },
};

static json_t *question(const struct args *args)
{
    static const char *const keys[][2] = {
        { "policy", "policy" }, { "backfill", "backfill" }, { "add-nodes", "add_nodes" },   { "without", "without" },
        { "cancel", "cancel" }, { "release", "release" },   { "priority", "priorities" }, { "job", "trial" },
    };
    json_t *body = json_object();
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (args_has(args, keys[i][0]))
            json_object_set_new(body, keys[i][1], json_string(args_text(args, keys[i][0], "")));
    if (args_has(args, "limit"))
        json_object_set_new(body, "limit", json_integer((json_int_t)args_u64(args, "limit", 0)));
    return body;
}

/* "in 2h30m", "now", "-": from the moment of the plan on. */
static void in_time(struct buf *out, const json_t *answer, const json_t *of, const char *key)
{
    int64_t at = time_of(of, key), made = time_of(answer, "made_at");
    buf_clear(out);
    if (!at) {
        buf_str(out, "-");
    } else if (at - made < 500) {
        buf_str(out, "now");
    } else {
        buf_str(out, "in ");
        human_duration(out, (double)(at - made) / 1000);
    }
}

static void row(struct table *t, const json_t *answer, const char *label, const char *key)
{
    static const char *const sides[] = { "now", "then" };
    autobuf struct buf text = BUF_INIT;
    table_row(t);
    table_cell(t, "%s", label);
    for (size_t i = 0; i < 2; i++) {
        const json_t *side = json_object_get(answer, sides[i]);
        buf_clear(&text);
        if (json_is_string(json_object_get(side, key)))
            in_time(&text, answer, side, key);
        else if (json_is_integer(json_object_get(side, key)))
            buf_printf(&text, "%lld", (long long)json_int(side, key, 0));
        else if (json_is_number(json_object_get(side, key)))
            human_duration(&text, json_real_of(side, key, 0));
        else
            buf_str(&text, "-");
        table_cell_bytes(t, buf_bytes(&text));
    }
}

static void sums(const json_t *answer)
{
    struct table *t = table_new();
    table_column(t, "PLAN", 0);
    table_column(t, "NOW", TABLE_RIGHT);
    table_column(t, "THEN", TABLE_RIGHT);
    row(t, answer, "jobs that wait", "jobs");
    row(t, answer, "their tasks", "tasks");
    row(t, answer, "with a place", "tasks_placed");
    row(t, answer, "mean wait from now", "wait_mean_s");
    row(t, answer, "last start", "last_start_at");
    row(t, answer, "all ended", "all_ended_at");
    table_print(t);
    table_free(t);
}

static const struct { const char *change, *cell, *sum, *colour; } changes[] = {
    { "sooner", NULL, "would start sooner", "green" },
    { "later", NULL, "later", "red" },
    { "gained", "has a place", "would have a place in the plan and have none", "green" },
    { "lost", "has no place", "would have none and have one", "red" },
    { "gone", "waits no more", "would wait no more", NULL },
    { "again", "comes to wait", "more would wait", "red" },
};

static void moved(struct table *t, const json_t *job)
{
    autobuf struct buf text = BUF_INIT;
    double s = json_real_of(job, "moved_s", 0);
    if (!json_is_integer(json_object_get(job, "job"))) {
        table_cell(t, "is new");
        return;
    }
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        if (strcmp(changes[i].change, json_text(job, "change", "")) != 0)
            continue;
        if (changes[i].cell) {
            buf_str(&text, changes[i].cell);
        } else {
            human_duration(&text, s < 0 ? -s : s);
            buf_printf(&text, " %s", changes[i].change);
        }
        table_cell_bytes(t, buf_bytes(&text));
        if (changes[i].colour)
            table_colour(t, changes[i].colour);
        return;
    }
    table_cell(t, "-");
}

static void list(const json_t *answer)
{
    const json_t *jobs = json_object_get(answer, "jobs"), *job;
    size_t i;
    autobuf struct buf text = BUF_INIT;
    if (!json_array_size(jobs))
        return;
    struct table *t = table_new();
    table_column(t, "JOB", TABLE_RIGHT);
    table_column(t, "NAME", TABLE_CUT);
    table_column(t, "USER", 0);
    table_column(t, "TASKS", TABLE_RIGHT);
    table_column(t, "STARTS", TABLE_RIGHT);
    table_column(t, "THEN", TABLE_RIGHT);
    table_column(t, "CHANGE", 0);
    json_array_foreach(jobs, i, job)
    {
        table_row(t);
        if (json_is_integer(json_object_get(job, "job")))
            table_cell(t, "%lld", (long long)json_int(job, "job", 0));
        else
            table_cell(t, "--job");
        table_cell(t, "%s", json_text(job, "name", "-"));
        table_cell(t, "%s", json_text(job, "user", "-"));
        table_cell(t, "%lld", (long long)json_int(job, "tasks", 0));
        in_time(&text, answer, job, "start_at");
        table_cell_bytes(t, buf_bytes(&text));
        in_time(&text, answer, job, "then_at");
        table_cell_bytes(t, buf_bytes(&text));
        moved(t, job);
    }
    table_print(t);
    table_free(t);
}

static void tell(const json_t *answer)
{
    autobuf struct buf line = BUF_INIT;
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++)
        if (json_int(answer, changes[i].change, 0))
            buf_printf(&line, "%s%lld %s", line.size ? ", " : "Of the jobs, ", (long long)json_int(answer, changes[i].change, 0), changes[i].sum);
    if (line.size)
        buf_char(&line, '.');
    else
        buf_str(&line, "No job that waits would start at another time.");
    bool more = json_is_true(json_object_get(json_object_get(answer, "now"), "more_wait")) || json_is_true(json_object_get(json_object_get(answer, "then"), "more_wait"));
    if (more)
        buf_str(&line, " More wait than the plan looks at (plan_depth).");
    buf_char(&line, '\n');
    out_flush(&line);
}

static int run_whatif(const struct args *args)
{
    int code = 0;
    autoclient struct client *c = verb_client(args, &code);
    autojson json_t *body = question(args), *answer = NULL;
    autofree char *text = json_dumps(body, JSON_COMPACT);
    if (!c || (code = verb_json(c, args, "POST", "/v1/whatif", bytes_str(text), &answer)) || !answer)
        return code;
    sums(answer);
    out_bytes(bytes_str("\n"));
    list(answer);
    tell(answer);
    return 0;
}

const struct command command_whatif = {
    .name = "whatif",
    .operands = "",
    .group = "Jobs",
    .flags = COMMAND_CLIENT,
    .summary = "when what waits would start, if something was different",
    .text = "The master makes the plan of what waits twice, as things are and with what is given here, and tells the difference. Nothing "
            "is changed. The plan takes for granted that each job takes its time limit, or without one what its like took, and that nobody else "
            "comes; jobs that wait for others, or for a time, are not in it.",
    .examples = "rota whatif --add-nodes '2*cpus=32,mem=128G'\nrota whatif --policy sjf --backfill easy\nrota whatif --cancel 17\n"
                "rota whatif --without node-3,node-4\nrota whatif --job cpus=16,mem=64G,time=2h",
    .options = options,
    .run = run_whatif,
};
