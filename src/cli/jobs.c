#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/parse.h"
#include "cli/verb.h"
#include "cli/why.h"
#include "core/model/states.h"
#include "io/clock.h"

#define PAGE 1000
#define WATCH_S 2

static const char state_choices[] =
    "held|blocked|queued|dispatched|running|uncertain|retry_wait|cancelling|succeeded|failed|cancelled|expired";

/* --- ls --- */

static struct table *jobs_table(void)
{
    struct table *t = table_new();
    table_column(t, "ID", TABLE_RIGHT);
    table_column(t, "NAME", TABLE_CUT);
    table_column(t, "USER", TABLE_CUT);
    table_column(t, "QUEUE", TABLE_CUT);
    table_column(t, "STATE", 0);
    table_column(t, "TASKS", TABLE_RIGHT);
    table_column(t, "CPUS", TABLE_RIGHT);
    table_column(t, "MEM", TABLE_RIGHT);
    table_column(t, "AGE", TABLE_RIGHT);
    table_column(t, "TIME", TABLE_RIGHT);
    table_column(t, "NODE", 0);
    table_column(t, "NOTE", TABLE_CUT);
    return t;
}

/* "12/100": ended of all. */
static void tasks_text(const json_t *job, struct buf *out)
{
    int64_t tasks = json_int(job, "tasks", 0), ended = 0;
    const char *state;
    json_t *count;
    if (!json_is_true(json_object_get(job, "array"))) {
        buf_char(out, '1');
        return;
    }
    json_object_foreach(json_object_get(job, "counts"), state, count) if (state_ended(state)) ended +=
        json_integer_value(count);
    buf_printf(out, "%lld/%lld", (long long)ended, (long long)tasks);
}

static void note_text(const json_t *job, struct buf *out)
{
    const char *state = json_text(job, "state", ""), *reason = json_text(job, "reason", "none");
    if (strcmp(state, "failed") == 0 && strcmp(reason, "exit") == 0)
        buf_printf(out, "exit %lld", (long long)json_int(job, "exit_code", 0));
    else if (strcmp(state, "failed") == 0 && strcmp(reason, "signal") == 0)
        buf_printf(out, "signal %lld", (long long)json_int(job, "signal", 0));
    else if (strcmp(reason, "none") != 0 && strcmp(reason, state) != 0)
        buf_str(out, reason);
    else
        buf_char(out, '-');
}

static void add_job(struct table *t, const json_t *job, int64_t now_ms)
{
    autobuf struct buf text = BUF_INIT;
    const char *state = json_text(job, "state", "-");
    int64_t submitted = time_of(job, "submitted_at"), started = time_of(job, "started_at"),
            ended = time_of(job, "ended_at");
    table_row(t);
    table_cell(t, "%lld", (long long)json_int(job, "id", 0));
    table_cell(t, "%s", json_text(job, "name", "-"));
    table_cell(t, "%s", json_text(job, "user", "-"));
    table_cell(t, "%s", json_text(job, "queue", "-"));
    table_cell(t, "%s", state);
    if (state_colour(state))
        table_colour(t, state_colour(state));
    tasks_text(job, &text);
    table_cell(t, "%s", text.data);
    table_cell(t, "%g", json_real_of(job, "cpus", 0));
    buf_clear(&text);
    if (json_int(job, "mem_bytes", 0) > 0)
        human_size(&text, job, "mem_bytes");
    else
        buf_char(&text, '-');
    table_cell(t, "%s", text.data);
    buf_clear(&text);
    human_duration(&text, submitted ? (double)(now_ms - submitted) / 1000 : -1);
    table_cell(t, "%s", text.data);
    buf_clear(&text);
    human_duration(&text, started ? (double)((ended ? ended : now_ms) - started) / 1000 : -1);
    table_cell(t, "%s", text.data);
    table_cell(t, "%s", json_text(job, "node", "-"));
    buf_clear(&text);
    note_text(job, &text);
    table_cell(t, "%s", text.data);
}

static void say_counts(json_t *counts)
{
    autobuf struct buf line = BUF_INIT;
    const char *state;
    json_t *count;
    json_object_foreach(counts, state, count) if (json_integer_value(count) > 0)
        buf_printf(&line, "%s%lld %s", line.size ? ", " : "", (long long)json_integer_value(count), state);
    say("%s", line.size ? line.data : "no jobs");
}

static void list_path(const struct args *args, const char *cursor, int64_t left, struct buf *path)
{
    char limit[32];
    buf_clear(path);
    buf_str(path, "/v1/jobs");
    static const char *const filters[] = { "state", "user", "queue", "name", "label", "order" };
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        url_query(path, filters[i], args_text(args, filters[i], NULL));
    autobuf struct buf selectors = BUF_INIT;
    if (args->operands_count) {
        for (size_t i = 0; i < args->operands_count; i++)
            buf_printf(&selectors, "%s%s", i ? "," : "", args->operands[i]);
        url_query(path, "selector", selectors.data);
    }
    snprintf(limit, sizeof limit, "%lld", (long long)(left >= 0 && left < PAGE ? left : PAGE));
    url_query(path, "limit", limit);
    url_query(path, "cursor", cursor);
}

static void flush_json(struct buf *text)
{
    autobuf struct buf clean = BUF_INIT;
    if (term_stdout())
        json_clean(&clean, buf_bytes(text));
    out_bytes(term_stdout() ? buf_bytes(&clean) : buf_bytes(text));
    buf_clear(text);
}

/* So many jobs as the terminal has lines for, when it is to be looked at again and again. */
static int64_t rows_wanted(const struct args *args)
{
    struct winsize size;
    int64_t limit = args_has(args, "limit") ? (int64_t)args_u64(args, "limit", 0) : -1;
    if (!args_has(args, "watch") || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_row < 5)
        return limit;
    int64_t rows = size.ws_row - 3;
    return limit >= 0 && limit < rows ? limit : rows;
}

/* Page by page, so that a million jobs take no more memory than a thousand. */
static int list_once(struct client *c, const struct args *args)
{
    struct err err;
    bool json = args_has(args, "json");
    int64_t left = rows_wanted(args);
    struct table *t = jobs_table();
    autobuf struct buf path = BUF_INIT, cursor = BUF_INIT, text = BUF_INIT;
    json_t *counts = NULL;
    int rc = 0;
    size_t printed = 0;
    buf_str(&text, "{\"jobs\":[");
    do {
        autojson json_t *page = NULL;
        list_path(args, cursor.size ? cursor.data : NULL, left, &path);
        rc = client_json(c, "GET", path.data, bytes_of(NULL, 0), &page, &err);
        if (rc < 0)
            break;
        const json_t *jobs = json_object_get(page, "jobs"), *job;
        size_t i;
        int64_t now_ms = clock_wall_ms();
        json_array_foreach(jobs, i, job)
        {
            if (json) {
                char *one = json_dumps(job, JSON_COMPACT | JSON_REAL_PRECISION(15));
                buf_printf(&text, "%s\n%s", printed ? "," : "", one);
                free(one);
            } else {
                add_job(t, job, now_ms);
            }
            printed++;
        }
        if (json)
            flush_json(&text);
        else
            table_print(t);
        if (left > 0)
            left -= (int64_t)json_array_size(jobs) < left ? (int64_t)json_array_size(jobs) : left;
        buf_clear(&cursor);
        buf_str(&cursor, json_text(page, "next", ""));
        json_decref(counts);
        counts = json_incref(json_object_get(page, "counts"));
    } while (cursor.size && left != 0);
    if (rc == 0 && json) {
        char *one = counts ? json_dumps(counts, JSON_COMPACT) : NULL;
        buf_printf(&text, "],\"next\":%s%s%s%s%s}\n", cursor.size ? "\"" : "null", cursor.size ? cursor.data : "",
                   cursor.size ? "\"" : "", one ? ",\"counts\":" : "", one ? one : "");
        free(one);
        flush_json(&text);
    } else if (rc == 0) {
        say_counts(counts);
    }
    json_decref(counts);
    table_free(t);
    return rc < 0 ? say_error(&err) : 0;
}

static int run_ls(const struct args *args)
{
    int code = 0;
    const int unreachable = err_exit_code(ERR_UNAVAILABLE);
    bool watch = args_has(args, "watch");
    if (watch && !term_stdout()) {
        say("--watch: standard output is no terminal; call rota ls again instead, or rota events");
        return 2;
    }
    autoclient struct client *c = verb_client(args, &code);
    if (!c)
        return code;
    do {
        if (watch)
            out_bytes(bytes_str("\x1b[H\x1b[2J"));
        code = list_once(c, args);
        if (watch && (code == 0 || code == unreachable))
            nanosleep(&(struct timespec){ WATCH_S, 0 }, NULL);
    } while (watch && (code == 0 || code == unreachable)); /* a master that starts again is no reason to end */
    return code;
}

static const struct option_row ls_options[] = {
    { .name = "state",
      .kind = OPTION_CHOICE,
      .argument = "STATE",
      .choices = state_choices,
      .group = "Options",
      .help = "only jobs in this state" },
    { .name = "user", .kind = OPTION_NAME, .argument = "USER", .group = "Options", .help = "only jobs of this user" },
    { .name = "queue",
      .kind = OPTION_NAME,
      .argument = "QUEUE",
      .group = "Options",
      .help = "only jobs of this queue" },
    { .name = "name",
      .kind = OPTION_NAME,
      .argument = "NAME",
      .group = "Options",
      .help = "only jobs with this name, or a glob" },
    { .name = "label",
      .kind = OPTION_TEXT,
      .argument = "K=V",
      .group = "Options",
      .help = "only jobs with this label" },
    { .name = "order",
      .kind = OPTION_CHOICE,
      .argument = "ORDER",
      .choices = "asc|desc",
      .group = "Options",
      .fallback = "desc",
      .help = "by id: the oldest or the newest first" },
    { .name = "limit",
      .kind = OPTION_COUNT,
      .argument = "N",
      .min = 1,
      .max = 1000000000,
      .group = "Options",
      .fallback = "all",
      .help = "at most so many" },
    { .name = "watch", .kind = OPTION_FLAG, .group = "Options", .help = "again every 2 seconds, on a terminal, as many as fit" },
    { .name = NULL },
};
const struct command command_ls = {
    .name = "ls",
    .group = "Jobs",
    .operands = "[SELECTOR...]",
    .operands_min = 0,
    .operands_max = -1,
    .flags = COMMAND_CLIENT | COMMAND_JOBS,
    .summary = "list jobs",
    .text = "A table on a terminal; else columns separated by tabs, whole. How many jobs are in which state is said on "
            "standard error. "
            "With --json one object with all jobs, read page by page.",
    .examples = "rota ls\nrota ls --state running --user ada\nrota ls 5-9,12\nrota ls --json | jq '.jobs[].id'",
    .options = ls_options,
    .run = run_ls,
};

/* --- show --- */

static void line_text(struct buf *out, const char *label, struct bytes value)
{
    autobuf struct buf clean = BUF_INIT;
    if (term_stdout())
        text_clean(&clean, value);
    else
        buf_add(&clean, value.data, value.size);
    buf_printf(out, "%-12s %s\n", label, clean.size ? clean.data : "-");
}

static void line_time(struct buf *out, const char *label, const json_t *job, const char *key)
{
    const char *text = json_text(job, key, NULL);
    if (text)
        line_text(out, label, bytes_str(text));
}

static void command_text(const json_t *job, struct buf *out)
{
    size_t i;
    json_t *word;
    json_array_foreach(json_object_get(job, "command"), i, word)
    {
        const char *text = json_string_value(word);
        bool plain =
            text && *text &&
            strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+./:=@,%{}") == strlen(text);
        if (i)
            buf_char(out, ' ');
        if (plain) {
            buf_str(out, text);
            continue;
        }
        buf_char(out, '\'');
        for (const char *at = text ? text : ""; *at; at++)
            buf_str(out, *at == '\'' ? "'\\''" : (char[]){ *at, '\0' });
        buf_char(out, '\'');
    }
}

static void pairs_text(const json_t *object, struct buf *out)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)object, name, value)
    {
        buf_printf(out, "%s%s=", out->size ? " " : "", name);
        if (json_is_string(value))
            buf_str(out, json_string_value(value));
        else
            buf_printf(out, "%g", json_number_value(value));
    }
}

void mem_auto_text(const json_t *job, struct buf *out)
{
    const json_t *automatic = json_object_get(job, "mem_auto");
    long long runs = (long long)json_int(automatic, "runs", 0);
    if (runs)
        buf_printf(out, " (auto: from %lld runs of this name)", runs);
    else if (json_is_object(automatic))
        buf_str(out, " (auto: too few runs of this name are known)");
}

static void needs_text(const json_t *job, struct buf *out)
{
    double cpus = json_real_of(job, "cpus", 0);
    buf_printf(out, "%g CPU%s", cpus, cpus == 1 ? "" : "s");
    if (json_int(job, "mem_bytes", 0) > 0) {
        buf_str(out, ", ");
        human_size(out, job, "mem_bytes");
        buf_str(out, " memory");
    }
    mem_auto_text(job, out);
    if (json_int(job, "mem_max_bytes", 0) > 0) {
        buf_str(out, " (after it ran out of it up to ");
        human_size(out, job, "mem_max_bytes");
        buf_char(out, ')');
    }
    if (json_real_of(job, "gpus", 0) > 0)
        buf_printf(out, ", %g GPUs", json_real_of(job, "gpus", 0));
    autobuf struct buf more = BUF_INIT;
    pairs_text(json_object_get(job, "resources"), &more);
    if (more.size)
        buf_printf(out, ", %s", more.data);
}

void state_sentence(const json_t *job, struct buf *out)
{
    const char *state = json_text(job, "state", "-"), *reason = json_text(job, "reason", "none");
    buf_str(out, state);
    if (strcmp(state, "failed") == 0 && strcmp(reason, "exit") == 0)
        buf_printf(out, ": ended with exit code %lld", (long long)json_int(job, "exit_code", 0));
    else if (strcmp(state, "failed") == 0 && strcmp(reason, "signal") == 0)
        buf_printf(out, ": ended by signal %lld", (long long)json_int(job, "signal", 0));
    else if (strcmp(reason, "none") != 0 && strcmp(reason, state) != 0)
        for (int i = 0; i < REASONS; i++)
            if (strcmp(reason_name((enum reason)i), reason) == 0)
                buf_printf(out, ": %s", reason_text((enum reason)i));
}

static void counts_text(const json_t *counts, struct buf *out)
{
    const char *state;
    json_t *count;
    json_object_foreach((json_t *)counts, state, count) if (json_integer_value(count) > 0)
        buf_printf(out, "%s%lld %s", out->size ? ", " : "", (long long)json_integer_value(count), state);
}

static void after_text(const json_t *job, struct buf *out)
{
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(job, "after"), i, one)
    {
        if (json_is_object(one))
            buf_printf(out, "%s%lld (%s)", i ? ", " : "", (long long)json_int(one, "job", 0),
                       json_text(one, "when", "ok"));
    }
}

/* "1-1000:3%50" */
static void array_text(const json_t *job, struct buf *out)
{
    int64_t first = json_int(job, "first", 0), step = json_int(job, "step", 1), tasks = json_int(job, "tasks", 1);
    buf_printf(out, "%lld-%lld", (long long)first, (long long)(first + (tasks - 1) * step));
    if (step != 1)
        buf_printf(out, ":%lld", (long long)step);
    if (json_int(job, "limit", 0))
        buf_printf(out, "%%%lld", (long long)json_int(job, "limit", 0));
}

static void attempts_text(const json_t *job, struct buf *out)
{
    buf_i64(out, json_int(job, "attempts", 0));
    if (json_int(job, "retries", 0))
        buf_printf(out, " (at most %lld that fail)", (long long)json_int(job, "retries", 0) + 1);
}

static void show_job(const json_t *job, struct buf *out)
{
    autobuf struct buf text = BUF_INIT;
    char number[48];
    if (json_object_get(job, "index"))
        snprintf(number, sizeof number, "%lld_%lld", (long long)json_int(job, "job", 0),
                 (long long)json_int(job, "index", 0));
    else
        snprintf(number, sizeof number, "%lld", (long long)json_int(job, "id", 0));
    line_text(out, "job", bytes_str(number));
    static const char *const plain[][2] = { { "name", "name" }, { "user", "user" }, { "queue", "queue" } };
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (json_text(job, plain[i][1], NULL))
            line_text(out, plain[i][0], bytes_str(json_text(job, plain[i][1], NULL)));
    state_sentence(job, &text);
    line_text(out, "state", buf_bytes(&text));
#define LINE(label, call)                                                                                              \
    do {                                                                                                               \
        buf_clear(&text);                                                                                              \
        call;                                                                                                          \
        if (text.size)                                                                                                 \
            line_text(out, label, buf_bytes(&text));                                                                   \
    } while (0)
    LINE("command", command_text(job, &text));
    if (json_int(job, "nodes", 1) > 1) {
        LINE("nodes", buf_printf(&text, "%lld at the same time", (long long)json_int(job, "nodes", 1)));
        LINE("parts", counts_text(json_object_get(job, "counts"), &text));
    } else if (json_is_true(json_object_get(job, "array"))) {
        LINE("array", array_text(job, &text));
        LINE("tasks", counts_text(json_object_get(job, "counts"), &text));
    }
    if (json_object_get(job, "cpus"))
        LINE("needs", needs_text(job, &text));
    if (json_object_get(job, "priority"))
        LINE("priority", buf_i64(&text, json_int(job, "priority", 0)));
    if (json_real_of(job, "time_limit_s", 0) > 0)
        LINE("time limit", format_duration(&text, (int64_t)(json_real_of(job, "time_limit_s", 0) * 1000)));
    LINE("after", after_text(job, &text));
    line_time(out, "submitted", job, "submitted_at");
    line_time(out, "begins", job, "begin_at");
    line_time(out, "deadline", job, "deadline_at");
    line_time(out, "cron due", job, "cron_due");
    line_time(out, "started", job, "started_at");
    line_time(out, "ended", job, "ended_at");
    int64_t started = time_of(job, "started_at"), ended = time_of(job, "ended_at");
    if (started)
        LINE("ran", human_duration(&text, (double)((ended ? ended : clock_wall_ms()) - started) / 1000));
    if (json_text(job, "node", NULL))
        line_text(out, "node", bytes_str(json_text(job, "node", NULL)));
    if (json_text(job, "note", NULL))
        line_text(out, "its node", bytes_str(json_text(job, "note", NULL)));
    if (json_int(job, "attempts", 0))
        LINE("attempts", attempts_text(job, &text));
    if (json_is_true(json_object_get(job, "overlap_never")))
        line_text(out, "overlap", bytes_str("never"));
    static const char *const files[] = { "workdir", "stdin", "stdout", "stderr", "image", "where", "cron" };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (json_text(job, files[i], NULL))
            line_text(out, files[i], bytes_str(json_text(job, files[i], NULL)));
    LINE("env", pairs_text(json_object_get(job, "env"), &text));
    LINE("labels", pairs_text(json_object_get(job, "labels"), &text));
#undef LINE
}

static void path_of(struct buf *out, const struct job_ref *ref, const char *what)
{
    buf_printf(out, "/v1/jobs/%llu/%s", (unsigned long long)ref->job, what);
    if (ref->has_index)
        buf_printf(out, "?task=%u", ref->index);
}

/* What let an attempt go: "it was the first that waits". */
static void rule_line(const json_t *attempt, struct buf *out)
{
    autobuf struct buf text = BUF_INIT;
    enum rule rule = rule_parse(json_text(attempt, "rule", ""));
    if (rule == RULE_NONE || rule == RULES)
        return;
    buf_str(&text, rule_text(rule));
    if (json_int(attempt, "over", 0))
        buf_printf(&text, " (job %lld)", (long long)json_int(attempt, "over", 0));
    line_text(out, "let in", buf_bytes(&text));
}

static void show_attempts(struct client *c, const struct job_ref *ref, struct buf *out)
{
    autobuf struct buf path = BUF_INIT, text = BUF_INIT;
    autojson json_t *answer = NULL;
    path_of(&path, ref, "attempts");
    if (client_json(c, "GET", path.data, bytes_of(NULL, 0), &answer, NULL) < 0)
        return;
    const json_t *list = json_object_get(answer, "attempts"), *one;
    size_t i;
    if (json_array_size(list) == 1)
        rule_line(json_array_get(list, 0), out);
    if (json_array_size(list) < 2)
        return;
    json_array_foreach(list, i, one)
    {
        buf_clear(&text);
        if (json_object_get(one, "task") && !json_is_null(json_object_get(one, "task")))
            buf_printf(&text, "%lld, task %lld on ", (long long)json_int(one, "attempt", 0), (long long)json_int(one, "task", 0));
        else
            buf_printf(&text, "%lld on ", (long long)json_int(one, "attempt", 0));
        text_clean(&text, bytes_str(json_text(one, "node", "-")));
        buf_printf(&text, ", started %s", json_text(one, "started_at", "never"));
        const char *reason = json_text(one, "reason", NULL);
        if (json_text(one, "ended_at", NULL))
            buf_printf(&text, ", ended %s: %s", json_text(one, "ended_at", ""), reason ? reason : "succeeded");
        if (json_int(one, "exit_code", 0))
            buf_printf(&text, " (exit code %lld)", (long long)json_int(one, "exit_code", 0));
        if (json_int(one, "signal", 0))
            buf_printf(&text, " (signal %lld)", (long long)json_int(one, "signal", 0));
        line_text(out, "  attempt", buf_bytes(&text));
        rule_line(one, out);
    }
}

/* "1.2 of 4G": the unit once where it is the same. */
static void size_of(const json_t *used, const char *key, int64_t requested, struct buf *out)
{
    autobuf struct buf asked = BUF_INIT;
    human_size(out, used, key);
    if (requested <= 0)
        return;
    format_size(&asked, (uint64_t)requested);
    if (out->size && out->data[out->size - 1] == asked.data[asked.size - 1] && asked.data[asked.size - 1] > '9')
        out->data[--out->size] = 0;
    buf_printf(out, " of %s", asked.data);
}

/* What its attempts used, beside what it asked for: of those that run now, and the most of all. */
static void show_usage(struct client *c, const struct job_ref *ref, struct buf *out)
{
    autobuf struct buf path = BUF_INIT, text = BUF_INIT;
    autojson json_t *usage = NULL;
    path_of(&path, ref, "usage");
    if (client_json(c, "GET", path.data, bytes_of(NULL, 0), &usage, NULL) < 0 || !json_int(usage, "attempts", 0))
        return;
    const json_t *now = json_object_get(usage, "now"), *asked = json_object_get(usage, "requested");
    int64_t attempts = json_int(now, "attempts", 0), mem_bytes = json_int(asked, "mem_bytes", 0);
    if (attempts) {
        size_of(now, "mem_bytes", mem_bytes * attempts, &text);
        buf_printf(&text, " memory, %.2f of %g CPUs, %lld processes now; ", json_real_of(now, "cpus", 0),
                   json_real_of(asked, "cpus", 0) * (double)attempts, (long long)json_int(now, "processes", 0));
        human_size(&text, usage, "rss_max_bytes");
    } else {
        size_of(usage, "rss_max_bytes", mem_bytes, &text);
    }
    buf_str(&text, " memory at most");
    if (json_real_of(usage, "run_s", 0) > 0) {
        buf_str(&text, ", ");
        human_duration(&text, json_real_of(usage, "cpu_s", 0));
        buf_str(&text, " of CPU");
    }
    line_text(out, "used", buf_bytes(&text));
}

/* What would suit it, by what others of its name used; nothing where it asked for just that. */
static void show_suggestion(const json_t *job, struct buf *out)
{
    autobuf struct buf text = BUF_INIT, asked = BUF_INIT;
    const json_t *suggestion = json_object_get(job, "suggestion");
    int64_t mem_bytes = json_int(suggestion, "mem_bytes", 0), mem_asked_bytes = json_int(job, "mem_bytes", 0);
    int64_t ooms = json_int(suggestion, "ooms", 0);
    double cpus = json_real_of(suggestion, "cpus", 0), cpus_asked = json_real_of(job, "cpus", 0);
    if (mem_bytes && mem_bytes != mem_asked_bytes) {
        buf_str(&text, "--mem ");
        human_size(&text, suggestion, "mem_bytes");
        if (mem_asked_bytes)
            format_size(&asked, (uint64_t)mem_asked_bytes);
        buf_printf(&text, " (asked %s, used at most ", mem_asked_bytes ? asked.data : "nothing");
        human_size(&text, suggestion, "mem_max_bytes");
        buf_char(&text, ')');
    }
    if (cpus > 0 && (cpus > cpus_asked || cpus < cpus_asked))
        buf_printf(&text, "%s--cpus %g (asked %g, used at most %.2f)", text.size ? ", " : "", cpus, cpus_asked,
                   json_real_of(suggestion, "cpus_max", 0));
    if (!text.size)
        return;
    buf_printf(&text, " would do, by %lld runs of this name", (long long)json_int(suggestion, "runs", 0));
    if (ooms)
        buf_printf(&text, "; %lld of them had too little memory", (long long)ooms);
    line_text(out, "suggested", buf_bytes(&text));
}

/* When it is to start; of one that has started, how far off that was. */
static void show_estimate(struct client *c, const struct job_ref *ref, struct buf *out)
{
    autobuf struct buf path = BUF_INIT, text = BUF_INIT;
    autojson json_t *estimate = NULL;
    buf_printf(&path, "/v1/estimate/%llu", (unsigned long long)ref->job);
    if (ref->has_index)
        buf_printf(&path, "?task=%u", ref->index);
    if (client_json(c, "GET", path.data, bytes_of(NULL, 0), &estimate, NULL) < 0)
        return;
    const json_t *history = json_object_get(estimate, "history");
    if (strcmp(json_text(json_object_get(estimate, "because"), "reason", ""), "not_waiting") != 0) {
        estimate_words(estimate, &text);
        line_text(out, "start", buf_bytes(&text));
        buf_clear(&text);
    }
    if (!json_array_size(history))
        return;
    buf_printf(&text, "%s at first", json_text(json_array_get(history, 0), "start_at", "?"));
    if (json_int(estimate, "changes", 0))
        buf_printf(&text, ", changed %lld time%s", (long long)json_int(estimate, "changes", 0),
                   json_int(estimate, "changes", 0) == 1 ? "" : "s");
    if (json_is_number(json_object_get(estimate, "error_s"))) {
        double error_s = json_real_of(estimate, "error_s", 0);
        buf_str(&text, "; it started ");
        human_duration(&text, error_s < 0 ? -error_s : error_s);
        buf_str(&text, error_s < 0 ? " sooner" : " later");
    }
    line_text(out, "estimated", buf_bytes(&text));
}

static int show_one(struct client *c, const struct args *args, const char *operand, bool again)
{
    struct err err;
    struct job_ref ref;
    if (select_one(c, operand, &ref, &err) < 0)
        return say_error(&err);
    autobuf struct buf path = BUF_INIT, out = BUF_INIT;
    buf_str(&path, "/v1/jobs/");
    job_ref_text(&path, &ref);
    autojson json_t *job = NULL;
    int code = verb_json(c, args, "GET", path.data, bytes_of(NULL, 0), &job);
    if (code || !job)
        return code;
    if (again)
        buf_char(&out, '\n');
    show_job(job, &out);
    show_estimate(c, &ref, &out);
    show_usage(c, &ref, &out);
    show_suggestion(job, &out);
    show_attempts(c, &ref, &out);
    out_flush(&out);
    return 0;
}

static int each_operand(const struct args *args, int (*one)(struct client *, const struct args *, const char *, bool))
{
    int code = 0;
    autoclient struct client *c = verb_client(args, &code);
    for (size_t i = 0; c && i < args->operands_count; i++) {
        int rc = one(c, args, args->operands[i], i > 0);
        code = code ? code : rc;
    }
    return code;
}

static int run_show(const struct args *args)
{
    return each_operand(args, show_one);
}

const struct command command_show = {
    .name = "show",
    .group = "Jobs",
    .operands = "JOB...",
    .operands_min = 1,
    .operands_max = -1,
    .flags = COMMAND_CLIENT | COMMAND_JOBS,
    .summary = "show everything about a job or a task",
    .examples = "rota show 7\nrota show 7_3\nrota show last --json",
    .run = run_show,
};

/* --- why --- */

static int why_one(struct client *c, const struct args *args, const char *operand, bool again)
{
    struct err err;
    struct job_ref ref;
    (void)again;
    if (select_one(c, operand, &ref, &err) < 0)
        return say_error(&err);
    autobuf struct buf path = BUF_INIT, out = BUF_INIT, clean = BUF_INIT;
    path_of(&path, &ref, "why");
    autojson json_t *why = NULL;
    int code = verb_json(c, args, "GET", path.data, bytes_of(NULL, 0), &why);
    if (code || !why)
        return code;
    why_sentences(why, &out);
    for (char *at = out.data; at && *at;) {
        size_t size = strcspn(at, "\n");
        if (term_stdout())
            text_clean(&clean, bytes_of(at, size));
        else
            buf_add(&clean, at, size);
        buf_char(&clean, '\n');
        at += size + (at[size] == '\n');
    }
    out_flush(&clean);
    return 0;
}

static int run_why(const struct args *args)
{
    return each_operand(args, why_one);
}

const struct command command_why = {
    .name = "why",
    .group = "Jobs",
    .operands = "JOB...",
    .operands_min = 1,
    .operands_max = -1,
    .flags = COMMAND_CLIENT | COMMAND_JOBS,
    .summary = "say why a job has not started",
    .text = "The master knows it exactly: which limit, which resource, how many nodes refuse it and for what.",
    .examples = "rota why 7\nrota why last --json",
    .run = run_why,
};
