/* rota cron: jobs that come again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/job_json.h"
#include "cli/verb.h"
#include "master/master.h"

#define ZONES "/usr/share/zoneinfo/"

static const struct option_row first[] = {
    { .name = "at", .kind = OPTION_TEXT, .argument = "SCHEDULE", .group = "When",
      .help = "MINUTE HOUR DAY MONTH WEEKDAY as in crontab(5): '30 2 * * mon-fri'; or @hourly, @daily, @weekly, @monthly, @yearly" },
    { .name = "tz", .kind = OPTION_NAME, .argument = "ZONE", .group = "When", .fallback = "that of this machine",
      .help = "time zone of the schedule: Europe/Berlin" },
    { .name = "if-running", .kind = OPTION_CHOICE, .argument = "WHAT", .choices = CRON_OVERLAP_WORDS, .group = "When", .fallback = "skip",
      .help = "when the job before it has not ended: skip this time, allow both, wait for it, or replace it" },
    { .name = "missed", .kind = OPTION_CHOICE, .argument = "WHICH", .choices = CRON_MISSED_WORDS, .group = "When", .fallback = "last",
      .help = "of times that came while no master ran" },
    { 0 },
};

static const struct option_row *options(void)
{
    static struct option_row rows[JOB_OPTIONS_MAX];
    return job_options_after(rows, first);
}

/* The name of this machine's time zone: of TZ, or of where /etc/localtime points to. */
static void local_zone(char *out, size_t size)
{
    char target[256];
    const char *tz = getenv("TZ");
    ssize_t got = readlink("/etc/localtime", target, sizeof target - 1);
    target[got > 0 ? got : 0] = '\0';
    const char *zones = strstr(target, ZONES);
    if (tz && *tz == ':')
        tz++;
    if (tz && *tz && *tz != '/' && !strchr(tz, ','))
        snprintf(out, size, "%s", tz);
    else
        snprintf(out, size, "%s", zones ? zones + sizeof ZONES - 1 : "UTC");
    if (strcmp(out, "Etc/UTC") == 0 || strncmp(out, "UTC", 3) == 0)
        snprintf(out, size, "UTC");
}

static void path_of(struct buf *path, const char *name)
{
    buf_clear(path);
    buf_str(path, "/v1/cron/");
    url_escape(path, name);
}

/* --- showing --- */

static void next_text(struct buf *out, const json_t *entry)
{
    buf_clear(out);
    if (json_is_true(json_object_get(entry, "paused")))
        buf_str(out, "paused");
    else if (json_text(entry, "problem", NULL))
        buf_str(out, "never");
    else
        human_time(out, json_string_value(json_array_get(json_object_get(entry, "next"), 0)));
}

static void last_text(struct buf *out, const json_t *entry)
{
    buf_clear(out);
    if (json_int(entry, "last_job", 0))
        buf_printf(out, "%lld%s", (long long)json_int(entry, "last_job", 0), json_is_true(json_object_get(entry, "last_job_open")) ? " (open)" : "");
    else
        buf_char(out, '-');
}

static void command_text(struct buf *out, const json_t *entry)
{
    const json_t *command = json_object_get(json_object_get(entry, "job"), "command"), *word;
    size_t i;
    buf_clear(out);
    json_array_foreach(command, i, word)
        buf_printf(out, "%s%s", i ? " " : "", json_is_string(word) ? json_string_value(word) : "?");
}

static int list(struct client *c, const struct args *args)
{
    autojson json_t *answer = NULL;
    int code = verb_json(c, args, "GET", "/v1/cron", bytes_of(NULL, 0), &answer);
    const json_t *entries = json_object_get(answer, "entries"), *entry;
    size_t i;
    if (code || !answer)
        return code;
    if (!json_array_size(entries)) {
        say("no jobs come again; make an entry with `rota cron add NAME --at SCHEDULE -- CMD`");
        return 0;
    }
    struct table *t = table_new();
    static const char *const columns[] = { "NAME", "SCHEDULE", "ZONE", "NEXT", "LAST JOB", "SUBMITTED", "PASSED", "USER", "COMMAND" };
    for (i = 0; i < sizeof columns / sizeof *columns; i++)
        table_column(t, columns[i], i == 5 || i == 6 ? TABLE_RIGHT : i == 8 ? TABLE_CUT : 0);
    autobuf struct buf text = BUF_INIT;
    json_array_foreach(entries, i, entry)
    {
        table_row(t);
        table_cell(t, "%s", json_text(entry, "name", "?"));
        table_cell(t, "%s", json_text(entry, "schedule", "?"));
        table_cell(t, "%s", json_text(entry, "zone", "?"));
        next_text(&text, entry);
        table_cell_bytes(t, buf_bytes(&text));
        last_text(&text, entry);
        table_cell_bytes(t, buf_bytes(&text));
        table_cell(t, "%lld", (long long)json_int(entry, "submitted", 0));
        table_cell(t, "%lld", (long long)json_int(entry, "passed", 0));
        table_cell(t, "%s", json_text(entry, "user", "?"));
        command_text(&text, entry);
        table_cell_bytes(t, buf_bytes(&text));
    }
    table_print(t);
    table_free(t);
    return 0;
}

static void line(struct buf *out, const char *label, const char *text)
{
    buf_printf(out, "%-10s %s\n", label, text);
}

static void show_entry(const json_t *entry)
{
    static const struct { const char *word, *text; } running[] = { { "skip", "this time is skipped" },
                                                                   { "allow", "both run" },
                                                                   { "wait", "the new one waits for it" },
                                                                   { "replace", "it is cancelled" } };
    static const struct { const char *word, *text; } missed[] = { { "last", "only the last one" }, { "none", "none of them" }, { "all", "all of them" } };
    const json_t *next = json_object_get(entry, "next"), *at, *passed = json_object_get(entry, "last_passed");
    autobuf struct buf out = BUF_INIT, text = BUF_INIT;
    size_t i;
    line(&out, "name", json_text(entry, "name", "?"));
    buf_printf(&out, "%-10s %s (%s)\n", "schedule", json_text(entry, "schedule", "?"), json_text(entry, "zone", "?"));
    if (json_text(entry, "problem", NULL))
        line(&out, "problem", json_text(entry, "problem", ""));
    if (json_is_true(json_object_get(entry, "paused")))
        line(&out, "next", "paused; go on with `rota cron resume`");
    json_array_foreach(next, i, at)
    {
        buf_clear(&text);
        human_time(&text, json_string_value(at));
        line(&out, i ? "" : "next", text.data);
    }
    last_text(&text, entry);
    line(&out, "last job", text.data);
    buf_printf(&out, "%-10s %lld submitted, %lld passed over\n", "so far", (long long)json_int(entry, "submitted", 0), (long long)json_int(entry, "passed", 0));
    if (json_is_object(passed)) {
        buf_clear(&text);
        human_time(&text, json_text(passed, "due", NULL));
        buf_printf(&out, "%-10s at %s: %s%s%s\n", "last pass", text.data, json_text(passed, "reason", "?"), json_text(passed, "text", NULL) ? ": " : "",
                   json_text(passed, "text", ""));
    }
    for (i = 0; i < sizeof running / sizeof *running; i++)
        if (strcmp(running[i].word, json_text(entry, "overlap", "")) == 0)
            buf_printf(&out, "%-10s if the job before it has not ended, %s (%s)\n", "overlap", running[i].text, running[i].word);
    for (i = 0; i < sizeof missed / sizeof *missed; i++)
        if (strcmp(missed[i].word, json_text(entry, "missed", "")) == 0)
            buf_printf(&out, "%-10s of times that came while no master ran, %s (%s)\n", "missed", missed[i].text, missed[i].word);
    line(&out, "user", json_text(entry, "user", "?"));
    autofree char *job = json_dumps(json_object_get(entry, "job"), JSON_INDENT(2));
    buf_printf(&out, "%-10s %s\n", "job", job ? job : "?");
    out_flush(&out);
}

static int show(struct client *c, const struct args *args, const char *name)
{
    autobuf struct buf path = BUF_INIT;
    autojson json_t *answer = NULL;
    path_of(&path, name);
    int code = verb_json(c, args, "GET", path.data, bytes_of(NULL, 0), &answer);
    if (answer)
        show_entry(answer);
    return code;
}

/* --- changing --- */

static bool there(struct client *c, const char *path, struct err *err)
{
    struct reply reply = { 0 };
    autojson json_t *entry = NULL;
    int rc = client_call(c, &(struct call){ .method = "GET", .path = path }, &reply, err);
    if (rc == 0)
        rc = reply_json(&reply, &entry, err);
    reply_fini(&reply);
    return rc == 0;
}

static int body_of(const struct args *args, bool add, json_t **out, struct err *err)
{
    json_t *body = *out = json_object();
    struct args job = *args;
    job.operands += 2;
    job.operands_count -= 2;
    char zone[128];
    local_zone(zone, sizeof zone);
    if (add && !args_has(args, "at"))
        return err_field(err, ERR_INVALID, "--at", "write for example --at '30 2 * * *'", "say when it comes");
    if (args_has(args, "at"))
        json_object_set_new(body, "schedule", json_string(args_text(args, "at", "")));
    if (add || args_has(args, "tz"))
        json_object_set_new(body, "zone", json_string(args_text(args, "tz", zone)));
    if (args_has(args, "if-running"))
        json_object_set_new(body, "overlap", json_string(args_text(args, "if-running", "")));
    if (args_has(args, "missed"))
        json_object_set_new(body, "missed", json_string(args_text(args, "missed", "")));
    if (!add && !job.operands_count && job_option_given(args))
        return err_field(err, ERR_INVALID, "command", "give the whole job: its options, --, and its command", "an option of the job needs its command");
    if (add || job.operands_count) {
        autobuf struct buf text = BUF_INIT;
        int rc = job_json_from(&job, &text, err);
        json_t *read = rc < 0 ? NULL : json_loads(text.data, 0, NULL);
        if (rc < 0)
            return rc;
        json_object_set_new(body, "job", read);
    }
    return 0;
}

static int put(struct client *c, const struct args *args, const char *name, const json_t *body)
{
    autobuf struct buf path = BUF_INIT, next = BUF_INIT;
    autojson json_t *answer = NULL;
    autofree char *text = json_dumps(body, JSON_COMPACT);
    path_of(&path, name);
    int code = verb_json(c, args, "PUT", path.data, bytes_str(text), &answer);
    if (!answer)
        return code;
    next_text(&next, answer);
    bool paused = json_is_true(json_object_get(answer, "paused"));
    say("%s: %s%s%s%s", name, paused ? "" : "next at ", next.data, paused ? "" : json_text(answer, "problem", NULL) ? ": " : "",
        json_is_false(json_object_get(answer, "changed")) ? ", as it was" : "");
    return code;
}

static int define(struct client *c, const struct args *args, bool add)
{
    struct err err;
    autobuf struct buf path = BUF_INIT;
    autojson json_t *body = NULL;
    const char *name = args->operands[1];
    path_of(&path, name);
    if (body_of(args, add, &body, &err) < 0)
        return say_error(&err);
    bool is_there = there(c, path.data, &err);
    if (!is_there && err.code != ERR_NOT_FOUND)
        return say_error(&err);
    if (add && is_there) {
        say("%s is there already; change it with `rota cron set %s ...`", name, name);
        return 2;
    }
    if (!add && !is_there)
        return say_error(&err);
    return put(c, args, name, body);
}

static int pause_entry(struct client *c, const struct args *args, const char *name, bool pause)
{
    struct err err;
    autobuf struct buf path = BUF_INIT;
    autojson json_t *body = json_object();
    path_of(&path, name);
    if (!there(c, path.data, &err))
        return say_error(&err);
    json_object_set_new(body, "paused", json_boolean(pause));
    return put(c, args, name, body);
}

static int remove_entry(struct client *c, const struct args *args, const char *name)
{
    autobuf struct buf path = BUF_INIT;
    autojson json_t *answer = NULL;
    path_of(&path, name);
    int code = verb_json(c, args, "DELETE", path.data, bytes_of(NULL, 0), &answer);
    if (answer)
        say("%s: removed", name);
    return code;
}

static int run_cron(const struct args *args)
{
    static const struct { const char *word; int min, max; } verbs[] = {
        { "ls", 1, 1 }, { "show", 2, -1 }, { "add", 3, -1 }, { "set", 2, -1 }, { "rm", 2, -1 }, { "pause", 2, -1 }, { "resume", 2, -1 },
    };
    const char *what = args->operands_count ? args->operands[0] : "ls";
    size_t verb = 0;
    const size_t count = sizeof verbs / sizeof *verbs;
    while (verb < count && strcmp(what, verbs[verb].word) != 0)
        verb++;
    if (verb == count) {
        say("\"%s\" is not ls, show, add, set, rm, pause or resume; see `rota help cron`", what);
        return 2;
    }
    bool defines = strcmp(what, "add") == 0 || strcmp(what, "set") == 0;
    if (args->operands_count && (int)args->operands_count < verbs[verb].min) {
        say("%s: %s", what, args->operands_count > 1 ? "the command is missing: -- CMD [ARG...]" : "the name of an entry is missing");
        return 2;
    }
    if (verbs[verb].max > 0 && (int)args->operands_count > verbs[verb].max) {
        say("ls takes no names; `rota cron show NAME` shows one entry");
        return 2;
    }
    if (!defines && (job_option_given(args) || args_has(args, "at") || args_has(args, "tz") || args_has(args, "if-running") || args_has(args, "missed"))) {
        say("%s takes no options of a job or a schedule; add and set do", what);
        return 2;
    }
    int code = 0;
    autoclient struct client *c = verb_client(args, &code);
    if (!c)
        return code;
    if (strcmp(what, "ls") == 0)
        return list(c, args);
    if (defines)
        return define(c, args, strcmp(what, "add") == 0);
    for (size_t i = 1; i < args->operands_count; i++) {
        const char *name = args->operands[i];
        int one = strcmp(what, "show") == 0 ? show(c, args, name)
                  : strcmp(what, "rm") == 0 ? remove_entry(c, args, name)
                                            : pause_entry(c, args, name, strcmp(what, "pause") == 0);
        code = code ? code : one;
    }
    return code;
}

const struct command command_cron = {
    .name = "cron",
    .group = "Jobs",
    .operands = "[ls] | show|rm|pause|resume NAME... | add|set NAME [-- CMD [ARG...]]",
    .operands_min = 0,
    .operands_max = -1,
    .flags = COMMAND_CLIENT,
    .summary = "jobs that come again, by a schedule",
    .text = "The master submits the job at each time of the schedule, once, whatever happens to it meanwhile; ROTA_CRON is the name of the entry and "
            "ROTA_CRON_DUE the time for which it is. With set, what is not named stays as it is; a job is given whole.\n\n"
            "When clocks are put forward, a job of the hour that is left out comes as soon as that is over; when they are put back, one of the "
            "hour that comes twice comes in the first. A schedule with * for the hour takes both.",
    .examples = "rota cron add nightly --at '30 2 * * *' --tz Europe/Berlin --cpus 4 -- ./backup --full\n"
                "rota cron add poll --at '*/5 * * * *' --if-running wait -- ./poll\n"
                "rota cron set nightly --at '0 3 * * mon-fri'\nrota cron pause nightly",
    .options_made = options,
    .run = run_cron,
};
