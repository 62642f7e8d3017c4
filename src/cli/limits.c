/* rota queue and rota limit: what administrators set, live; rota queues is in nodes.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/parse.h"
#include "cli/job_json.h"
#include "cli/verb.h"

#define LIMIT "Limits (N, or none)"

#define LIMIT_OPTIONS                                                                                                  \
    { .name = "running", .kind = OPTION_TEXT, .argument = "N", .group = LIMIT, .help = "attempts at the same time" },  \
        { .name = "cpus", .kind = OPTION_TEXT, .argument = "X", .group = LIMIT, .help = "CPUs at the same time" },     \
        { .name = "mem", .kind = OPTION_TEXT, .argument = "SIZE", .group = LIMIT, .help = "memory at the same time" }, \
        { .name = "gpus", .kind = OPTION_TEXT, .argument = "X", .group = LIMIT, .help = "GPUs at the same time" },     \
        { .name = "pending",                                                                                           \
          .kind = OPTION_TEXT,                                                                                         \
          .argument = "N",                                                                                             \
          .group = LIMIT,                                                                                              \
          .help = "tasks that wait; more are refused when they are submitted" },                                       \
    {                                                                                                                  \
        .name = "submits", .kind = OPTION_TEXT, .argument = "N", .group = LIMIT,                                       \
        .help = "jobs submitted in a minute; more are refused"                                                         \
    }

static int wrong(struct err *err, const char *option)
{
    snprintf(err->field, sizeof err->field, "--%s", option);
    return -(int)err->code;
}

/* One option as one key; "none" is null. */
static int number(json_t *body, const struct args *args, const char *option, const char *key, enum option_kind kind,
                  struct err *err)
{
    const char *text = args_text(args, option, NULL);
    uint64_t value = 0;
    if (!text)
        return 0;
    if (strcmp(text, "none") == 0) {
        json_object_set_new(body, key, json_null());
        return 0;
    }
    int rc = kind == OPTION_MILLI  ? parse_milli(text, &value, err)
             : kind == OPTION_SIZE ? parse_size(text, &value, err)
                                   : parse_u64(text, 0, INT64_MAX, &value, err);
    if (rc < 0)
        return wrong(err, option);
    json_object_set_new(body, key,
                        kind == OPTION_MILLI && value % 1000 ? json_real((double)value / 1000)
                                                             : json_integer((json_int_t)(kind == OPTION_MILLI ? value / 1000 : value)));
    return 0;
}

static int limits_json(json_t *body, const struct args *args, struct err *err)
{
    static const struct { const char *option, *key; enum option_kind kind; } rows[] = {
        { "running", "running", OPTION_COUNT }, { "cpus", "cpus", OPTION_MILLI },
        { "mem", "mem_bytes", OPTION_SIZE },    { "gpus", "gpus", OPTION_MILLI },
        { "pending", "pending", OPTION_COUNT }, { "submits", "submits_per_minute", OPTION_COUNT },
        { "weight", "weight", OPTION_MILLI },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (number(body, args, rows[i].option, rows[i].key, rows[i].kind, err) < 0)
            return -(int)err->code;
    return 0;
}

/* "running 10, cpus 64" of what was answered. */
void limits_text(struct buf *out, const json_t *limits)
{
    static const struct { const char *key, *word; bool size; } rows[] = { { "running", "running", false },
                                                                          { "cpus", "cpus", false },
                                                                          { "mem_bytes", "mem", true },
                                                                          { "gpus", "gpus", false },
                                                                          { "pending", "pending", false },
                                                                          { "submits_per_minute", "submits/min", false } };
    buf_clear(out);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const json_t *value = json_object_get(limits, rows[i].key);
        if (!json_is_number(value))
            continue;
        buf_printf(out, "%s%s ", out->size ? ", " : "", rows[i].word);
        if (rows[i].size)
            human_size(out, limits, rows[i].key);
        else
            buf_printf(out, "%.10g", json_number_value(value));
    }
    if (!out->size)
        buf_char(out, '-');
}

/* --- rota queue --- */

static void queue_path(struct buf *path, const char *base, const char *name)
{
    buf_clear(path);
    buf_str(path, base);
    url_escape(path, name);
}

static void text_or_none(json_t *body, const struct args *args, const char *option)
{
    const char *text = args_text(args, option, NULL);
    if (text)
        json_object_set_new(body, option, strcmp(text, "none") == 0 ? json_null() : json_string(text));
}

static int queue_body(json_t *body, const struct args *args, const char *what, struct err *err)
{
    bool pause = strcmp(what, "pause") == 0, resume = strcmp(what, "resume") == 0;
    if (limits_json(body, args, err) < 0)
        return -(int)err->code;
    text_or_none(body, args, "order");
    if (args_has(args, "priority"))
        json_object_set_new(body, "priority", json_integer(args_i64(args, "priority", 0)));
    if (pause || resume)
        json_object_set_new(body, "paused", json_boolean(pause));
    text_or_none(body, args, "reason");
    return 0;
}

/* What was asked and did not hold: create of what is there, and the others of what is not. */
static int queue_there(struct client *c, const char *what, const char *name, const char *path)
{
    struct reply reply = { 0 };
    struct err err;
    bool create = strcmp(what, "create") == 0;
    autojson json_t *queue = NULL;
    int rc = client_call(c, &(struct call){ .method = "GET", .path = path }, &reply, &err);
    if (rc == 0)
        rc = reply_json(&reply, &queue, &err);
    reply_fini(&reply);
    if (rc < 0 && err.code != ERR_NOT_FOUND)
        return say_error(&err);
    bool there = queue && (json_is_true(json_object_get(queue, "set")) || !create);
    if (there == !create)
        return 0;
    if (create)
        say("queue %s is there already; change it with `rota queue set %s ...`", name, name);
    else
        say("there is no queue %s; make it with `rota queue create %s`, and see `rota queues`", name, name);
    return create ? 2 : 3;
}

static int put(struct client *c, const struct args *args, const char *path, const json_t *body, json_t **answer)
{
    char *text = json_dumps(body, JSON_COMPACT);
    int code = verb_json(c, args, "PUT", path, bytes_str(text), answer);
    free(text);
    return code;
}

static int run_queue(const struct args *args)
{
    static const char *const verbs[] = { "create", "set", "pause", "resume" };
    const char *what = args->operands[0];
    bool known = false;
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        known |= strcmp(what, verbs[i]) == 0;
    if (!known) {
        say("\"%s\" is not create, set, pause or resume; `rota queues` lists the queues", what);
        return 2;
    }
    int code = 0;
    autoclient struct client *c = verb_client(args, &code);
    for (size_t i = 1; c && i < args->operands_count; i++) {
        autobuf struct buf path = BUF_INIT;
        autojson json_t *answer = NULL, *body = json_object();
        struct err err;
        if (queue_body(body, args, what, &err) < 0)
            return say_error(&err);
        queue_path(&path, "/v1/queues/", args->operands[i]);
        int one = queue_there(c, what, args->operands[i], path.data);
        if (one == 0)
            one = put(c, args, path.data, body, &answer);
        if (answer)
            say("queue %s: %s%s", args->operands[i], json_is_true(json_object_get(answer, "paused")) ? "paused" : "open",
                json_is_false(json_object_get(answer, "changed")) ? ", as it was" : "");
        code = code ? code : one;
    }
    return code;
}

static const struct option_row queue_options[] = {
    { .name = "order", .kind = OPTION_TEXT, .argument = "ORDER", .group = "Options", .fallback = "the master's",
      .help = "which of its jobs goes first (docs/policies.md); none: the master's" },
    { .name = "weight", .kind = OPTION_TEXT, .argument = "X", .group = "Options", .fallback = "none",
      .help = "share of its own beside all other queues, which have 1 together; none: no share of its own" },
    { .name = "priority", .kind = OPTION_NUMBER, .argument = "N", .min = -1000000, .max = 1000000, .group = "Options",
      .fallback = "0", .help = "queues of higher priority go first" },
    { .name = "reason", .kind = OPTION_TEXT, .argument = "TEXT", .group = "Options", .help = "with pause: shown by rota why" },
    LIMIT_OPTIONS,
    { .name = NULL },
};
const struct command command_queue = {
    .name = "queue",
    .group = "Cluster",
    .operands = "create|set|pause|resume NAME...",
    .operands_min = 2,
    .operands_max = -1,
    .flags = COMMAND_CLIENT,
    .summary = "make a queue, change it, pause it, let it go on",
    .text = "What is not named stays as it is. Nothing starts from a paused queue; what runs goes on. A limit that refuses a job is told by "
            "rota why. A queue that a job names is there without this, with no limits.",
    .examples = "rota queue create night --priority -10 --running 100\n"
                "rota queue set night --cpus 64 --order sjf\n"
                "rota queue pause night --reason 'storage is moved'",
    .options = queue_options,
    .run = run_queue,
};

/* --- rota limit --- */

static const char *const kinds[][2] = { { "user", "/v1/limits/users/" }, { "account", "/v1/limits/accounts/" },
                                        { "token", "/v1/limits/tokens/" } };

static void limit_row(struct table *t, const json_t *party)
{
    autobuf struct buf text = BUF_INIT;
    bool token = strcmp(json_text(party, "kind", ""), "token") == 0;
    const json_t *held = json_object_get(party, "held"), *weight = json_object_get(party, "weight");
    table_row(t);
    table_cell(t, "%s:%s", json_text(party, "kind", "?"), json_text(party, "name", "?"));
    if (token) {
        table_cell(t, "%lld", (long long)json_int(party, "taken", 0));
        table_cell(t, "-");
        table_cell(t, "-");
        table_cell(t, "-");
        table_cell(t, "total %lld", (long long)json_int(party, "total", 0));
        return;
    }
    table_cell(t, "%lld", (long long)json_int(held, "running", 0));
    table_cell(t, "%g", json_real_of(held, "cpus", 0));
    table_cell(t, "%lld", (long long)json_int(party, "waiting", 0));
    table_cell(t, json_is_number(weight) ? "%g" : "-", json_number_value(weight));
    limits_text(&text, json_object_get(party, "limits"));
    if (json_text(party, "parent", NULL))
        buf_printf(&text, "; below %s", json_text(party, "parent", ""));
    table_cell(t, "%s", text.data);
}

static int list_limits(struct client *c, const struct args *args)
{
    static const char *const lists[] = { "queues", "users", "accounts", "tokens" };
    autojson json_t *answer = NULL;
    int code = verb_json(c, args, "GET", "/v1/limits", bytes_of(NULL, 0), &answer);
    if (code || !answer)
        return code;
    struct table *t = table_new();
    table_column(t, "WHO", 0);
    table_column(t, "RUNNING", TABLE_RIGHT);
    table_column(t, "CPUS", TABLE_RIGHT);
    table_column(t, "WAITING", TABLE_RIGHT);
    table_column(t, "WEIGHT", TABLE_RIGHT);
    table_column(t, "LIMITS", TABLE_CUT);
    size_t i, rows = 0;
    const json_t *party;
    for (size_t k = 0; k < sizeof lists / sizeof *lists; k++)
        json_array_foreach(json_object_get(answer, lists[k]), i, party) limit_row(t, party), rows++;
    if (rows)
        table_print(t);
    else
        say("nobody has limits, and nobody has jobs");
    table_free(t);
    return 0;
}

static int limit_body(json_t *body, const struct args *args, struct err *err)
{
    if (limits_json(body, args, err) < 0)
        return -(int)err->code;
    text_or_none(body, args, "parent");
    if (args_has(args, "total"))
        json_object_set_new(body, "total", json_integer((json_int_t)args_u64(args, "total", 0)));
    return 0;
}

static int set_limit(struct client *c, const struct args *args, const char *who)
{
    autobuf struct buf path = BUF_INIT;
    autojson json_t *answer = NULL, *body = json_object();
    struct err err;
    const char *colon = strchr(who, ':'), *base = NULL;
    for (size_t i = 0; colon && i < sizeof kinds / sizeof *kinds; i++)
        if (strlen(kinds[i][0]) == (size_t)(colon - who) && strncmp(who, kinds[i][0], (size_t)(colon - who)) == 0)
            base = kinds[i][1];
    if (!base || !colon[1]) {
        say("\"%s\" names nobody; write user:NAME, account:NAME or token:NAME, and `rota queue set NAME` for a queue", who);
        return 2;
    }
    if (limit_body(body, args, &err) < 0)
        return say_error(&err);
    queue_path(&path, base, colon + 1);
    int code = json_object_size(body) ? put(c, args, path.data, body, &answer)
                                      : verb_json(c, args, "GET", path.data, bytes_of(NULL, 0), &answer);
    if (!answer)
        return code;
    autobuf struct buf text = BUF_INIT;
    if (json_object_get(answer, "total"))
        buf_printf(&text, "%lld of %lld taken", (long long)json_int(answer, "taken", 0), (long long)json_int(answer, "total", 0));
    else
        limits_text(&text, json_object_get(answer, "limits"));
    say("%s: %s%s", who, strcmp(text.data, "-") == 0 ? "no limits" : text.data,
        json_is_false(json_object_get(answer, "changed")) ? ", as it was" : "");
    return code;
}

static int run_limit(const struct args *args)
{
    int code = 0;
    autoclient struct client *c = verb_client(args, &code);
    if (c && !args->operands_count)
        return list_limits(c, args);
    for (size_t i = 0; c && i < args->operands_count; i++) {
        int one = set_limit(c, args, args->operands[i]);
        code = code ? code : one;
    }
    return code;
}

static const struct option_row limit_options[] = {
    LIMIT_OPTIONS,
    { .name = "weight", .kind = OPTION_TEXT, .argument = "X", .group = "Shares", .fallback = "1",
      .help = "its share beside its siblings, under the order fairshare" },
    { .name = "parent", .kind = OPTION_TEXT, .argument = "ACCOUNT", .group = "Shares", .fallback = "none",
      .help = "of an account: the one above it, whose limits and share count, too" },
    { .name = "total", .kind = OPTION_COUNT, .argument = "N", .min = 0, .max = 1000000000, .group = "Shares",
      .help = "of a token: how many there are in the cluster" },
    { .name = NULL },
};
const struct command command_limit = {
    .name = "limit",
    .group = "Cluster",
    .operands = "[user:NAME|account:NAME|token:NAME]...",
    .operands_min = 0,
    .operands_max = -1,
    .flags = COMMAND_CLIENT,
    .summary = "show and set limits of users and accounts, their weights, and tokens",
    .text = "Without a name all are listed. What is not named stays as it is; none takes a limit away. user:* stands for users that have no such "
            "limit of their own. A job counts against its user, its account and the accounts above it, and its queue; `rota submit --token NAME=N` "
            "takes tokens while it runs.",
    .examples = "rota limit\nrota limit user:ann --running 10 --cpus 64\nrota limit 'user:*' --submits 600\n"
                "rota limit account:physics --parent science --weight 2\nrota limit token:matlab --total 5",
    .options = limit_options,
    .run = run_limit,
};
