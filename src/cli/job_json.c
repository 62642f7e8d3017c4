#include "cli/job_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cli/profile.h"
#include "wire/json_out.h"

#define WHAT "What to run"
#define WHERE "Where it waits"
#define NEEDS "What it needs"
#define TIMES "Time and retries"
#define LATER "Not in this version (refused)"

const struct option_row job_options[] = {
    { .name = "name",
      .kind = OPTION_NAME,
      .argument = "NAME",
      .group = WHAT,
      .fallback = "the command's file name",
      .help = "name in lists" },
    { .name = "array",
      .kind = OPTION_ARRAY,
      .argument = "SPEC",
      .group = WHAT,
      .help = "run once per index: 1-1000, 0-9:3 (every third), 1-1000%50 (at most 50 at once); {} in arguments is the "
              "index" },
    { .name = "env",
      .kind = OPTION_PAIR,
      .flags = OPTION_REPEATED,
      .argument = "K=V",
      .group = WHAT,
      .help = "environment variable" },
    { .name = "workdir",
      .kind = OPTION_DIR,
      .argument = "DIR",
      .group = WHAT,
      .fallback = "a new empty directory",
      .help = "directory to start in, on the worker; a relative path counts from here" },
    { .name = "stdin",
      .kind = OPTION_FILE,
      .argument = "FILE",
      .group = WHAT,
      .fallback = "/dev/null",
      .help = "its standard input" },
    { .name = "stdout",
      .kind = OPTION_FILE,
      .argument = "FILE",
      .group = WHAT,
      .fallback = "kept by the worker, see rota logs",
      .help = "append standard output to this file on the worker" },
    { .name = "stderr",
      .kind = OPTION_FILE,
      .argument = "FILE",
      .group = WHAT,
      .fallback = "kept by the worker, see rota logs",
      .help = "append standard error to this file on the worker" },
    { .name = "image",
      .kind = OPTION_NAME,
      .argument = "IMG",
      .group = WHAT,
      .fallback = "none: a process",
      .help = "run it in a container of this image, on a node with a container engine" },
    { .name = "pull",
      .kind = OPTION_CHOICE,
      .argument = "POLICY",
      .choices = "missing|always|never",
      .group = WHAT,
      .fallback = "missing",
      .help = "when the image is fetched" },
    { .name = "notify",
      .kind = OPTION_NAME,
      .argument = "URL",
      .group = WHAT,
      .fallback = "nobody",
      .help = "POST the job as JSON to this URL when it has ended" },
    { .name = "label",
      .kind = OPTION_PAIR,
      .flags = OPTION_REPEATED,
      .argument = "K=V",
      .group = WHAT,
      .help = "label to find it by" },

    { .name = "queue",
      .kind = OPTION_NAME,
      .argument = "QUEUE",
      .group = WHERE,
      .fallback = "default",
      .help = "queue to wait in" },
    { .name = "where",
      .kind = OPTION_NAME,
      .argument = "EXPR",
      .group = WHERE,
      .help = "nodes to run on: zone=a, zone=a|b, zone!=a, ssd, !ssd, rack>=3 of labels; node=NAME, cpus>=16, mem>=64G; with & all must hold" },
    { .name = "account",
      .kind = OPTION_NAME,
      .argument = "ACCOUNT",
      .group = WHERE,
      .fallback = "default",
      .help = "account whose share and limits it counts against" },
    { .name = "priority",
      .kind = OPTION_NUMBER,
      .argument = "N",
      .min = -1000000,
      .max = 1000000,
      .group = WHERE,
      .fallback = "0",
      .help = "higher goes first" },
    { .name = "hold", .kind = OPTION_FLAG, .group = WHERE, .help = "wait until rota release" },
    { .name = "after",
      .kind = OPTION_TEXT,
      .flags = OPTION_REPEATED,
      .argument = "IDS[:HOW]",
      .group = WHERE,
      .help = "start after these jobs: 7,9 or 7:any; HOW they must end is ok (the default), any or fail" },
    { .name = "begin",
      .kind = OPTION_TIME,
      .argument = "TIME",
      .group = WHERE,
      .fallback = "at once",
      .help = "not before: RFC 3339, \"2026-11-23 10:00\" (UTC), now+2h" },
    { .name = "deadline",
      .kind = OPTION_TIME,
      .argument = "TIME",
      .group = WHERE,
      .fallback = "none",
      .help = "expires if it has not started by then" },

    { .name = "cpus",
      .kind = OPTION_MILLI,
      .argument = "X",
      .group = NEEDS,
      .fallback = "1",
      .help = "CPUs, also in parts: 0.5" },
    { .name = "mem",
      .kind = OPTION_MEM,
      .argument = "SIZE",
      .group = NEEDS,
      .fallback = "no claim, no limit",
      .help = "memory, claimed and enforced: 512M, 1.5G; auto: what would have suited the last runs of this name, "
              "auto:2G: and 2G (else 1G) while too few are known" },
    { .name = "mem-max",
      .kind = OPTION_SIZE,
      .argument = "SIZE",
      .group = NEEDS,
      .fallback = "it fails",
      .help = "an attempt that ran out of memory is tried again with twice as much, up to this; not for arrays" },
    { .name = "gpus", .kind = OPTION_MILLI, .argument = "N", .group = NEEDS, .fallback = "0", .help = "GPUs" },
    { .name = "nodes",
      .kind = OPTION_COUNT,
      .argument = "N",
      .min = 1,
      .max = 512,
      .group = NEEDS,
      .fallback = "1",
      .help = "run on N nodes at the same time, once on each and with all of that on each, or not at all; ROTA_NODE_RANK and ROTA_NODES tell "
              "each where it is" },
    { .name = "resource",
      .kind = OPTION_PAIR,
      .flags = OPTION_REPEATED,
      .argument = "NAME=N",
      .group = NEEDS,
      .help = "units of a named resource of a node, such as a disk" },
    { .name = "token",
      .kind = OPTION_PAIR,
      .flags = OPTION_REPEATED,
      .argument = "NAME=N",
      .group = NEEDS,
      .help = "tokens of the cluster that it takes while it runs, such as floating licences" },

    { .name = "time",
      .kind = OPTION_DURATION,
      .argument = "D",
      .group = TIMES,
      .fallback = "none",
      .help = "the attempt is ended after this long: 90s, 2h30m" },
    { .name = "grace",
      .kind = OPTION_DURATION,
      .argument = "D",
      .group = TIMES,
      .fallback = "set by the master",
      .help = "between SIGTERM and SIGKILL" },
    { .name = "retries",
      .kind = OPTION_COUNT,
      .argument = "N",
      .min = 0,
      .max = 1000,
      .group = TIMES,
      .fallback = "0",
      .help = "further attempts after one that failed" },
    { .name = "backoff",
      .kind = OPTION_BACKOFF,
      .argument = "D[..D]",
      .group = TIMES,
      .fallback = "1s..5min",
      .help = "wait before a retry; doubles each time up to the second D" },
    { .name = "overlap",
      .kind = OPTION_CHOICE,
      .argument = "HOW",
      .choices = "allow|never",
      .group = TIMES,
      .fallback = "allow",
      .help = "may a new attempt start while a lost one may still run" },

    { .name = "spread",
      .kind = OPTION_TEXT,
      .argument = "LABEL",
      .group = LATER,
      .help = "spread over values of a node label" },
    { .name = NULL },
};

const struct option_row *job_options_after(struct option_row rows[JOB_OPTIONS_MAX], const struct option_row *first)
{
    size_t count = 0;
    if (rows[0].name)
        return rows;
    for (size_t i = 0; first[i].name; i++)
        rows[count++] = first[i];
    for (size_t i = 0; job_options[i].name; i++) {
        check(count + 1 < JOB_OPTIONS_MAX);
        rows[count++] = job_options[i];
    }
    return rows;
}

static bool is_job_option(const struct option_row *row)
{
    for (size_t i = 0; job_options[i].name; i++)
        if (strcmp(row->name, job_options[i].name) == 0)
            return true;
    return false;
}

const struct given *job_option_given(const struct args *args)
{
    for (size_t i = 0; i < args->given_count; i++)
        if (is_job_option(args->given[i].row))
            return &args->given[i];
    return NULL;
}

static int not_there_yet(const struct args *args, struct err *err)
{
    static const struct {
        const char *name, *what;
    } later[] = {
        { "spread", "spreading by label is" },
    };
    for (size_t i = 0; i < sizeof later / sizeof *later; i++)
        if (args_has(args, later[i].name)) {
            char field[32];
            snprintf(field, sizeof field, "--%s", later[i].name);
            return err_field(err, ERR_INVALID, field, "submit without it", "%s not in this version of Rota",
                             later[i].what);
        }
    return 0;
}

static void pairs(struct json_out *j, const struct args *args, const char *option, const char *key)
{
    const struct given *g = NULL;
    if (!args_has(args, option))
        return;
    json_open(j, key, '{');
    while ((g = args_next(args, option, g))) {
        const char *equals = strchr(g->text, '=');
        autofree char *name = mem_copy(g->text, (size_t)(equals - g->text) + 1);
        name[equals - g->text] = '\0';
        json_cstr(j, name, equals + 1);
    }
    json_close(j, '}');
}

static int counts(struct json_out *j, const struct args *args, const char *option, const char *key, struct err *err)
{
    const struct given *g = NULL;
    if (!args_has(args, option))
        return 0;
    json_open(j, key, '{');
    while ((g = args_next(args, option, g))) {
        const char *equals = strchr(g->text, '=');
        autofree char *name = mem_copy(g->text, (size_t)(equals - g->text) + 1);
        name[equals - g->text] = '\0';
        uint64_t units = 0;
        if (parse_u64(equals + 1, 0, INT64_MAX, &units, err) < 0) {
            if (err)
                snprintf(err->field, sizeof err->field, "--%s %.60s", option, name);
            return -ERR_INVALID;
        }
        json_u64(j, name, units);
    }
    json_close(j, '}');
    return 0;
}

/* "7,9:any" */
static int after_one(struct json_out *j, const char *text, struct err *err)
{
    autofree char *copy = mem_str(text);
    char *colon = strrchr(copy, ':');
    const char *when = "ok";
    if (colon) {
        *colon = '\0';
        when = colon + 1;
        if (strcmp(when, "ok") != 0 && strcmp(when, "any") != 0 && strcmp(when, "fail") != 0)
            return err_field(err, ERR_INVALID, "--after", "write ok, any or fail behind the colon",
                             "\"%s\" is not how a job ends", when);
    }
    for (char *save = NULL, *id = strtok_r(copy, ",", &save); id; id = strtok_r(NULL, ",", &save)) {
        uint64_t job = 0;
        char *dash = strchr(id, '-');
        if (dash)
            *dash = '\0';
        uint64_t last = 0;
        if (parse_u64(id, 1, INT64_MAX, &job, NULL) < 0 ||
            (dash && (parse_u64(dash + 1, 1, INT64_MAX, &last, NULL) < 0 || last < job)))
            return err_field(err, ERR_INVALID, "--after", "write ids, such as 7,9 or 7-9:any",
                             "\"%s\" does not name jobs", text);
        if (!dash)
            last = job;
        if (last - job >= 1000)
            return err_field(err, ERR_INVALID, "--after", "wait for an array instead", "\"%s\" is more than 1000 jobs",
                             text);
        for (; job <= last; job++) {
            json_open(j, NULL, '{');
            json_u64(j, "job", job);
            if (strcmp(when, "ok") != 0)
                json_cstr(j, "when", when);
            json_close(j, '}');
        }
    }
    return 0;
}

static int after(struct json_out *j, const struct args *args, struct err *err)
{
    const struct given *g = NULL;
    int rc = 0;
    if (!args_has(args, "after"))
        return 0;
    json_open(j, "after", '[');
    while (rc == 0 && (g = args_next(args, "after", g)))
        rc = after_one(j, g->text, err);
    json_close(j, ']');
    return rc;
}

static void path_text(struct json_out *j, const struct args *args, const char *option)
{
    const char *text = args_text(args, option, NULL);
    autofree char *path = text ? path_absolute(text) : NULL;
    if (path)
        json_cstr(j, option, path);
}

static void seconds(struct json_out *j, const char *key, int64_t ms)
{
    json_num(j, key, (double)ms / 1000, ms % 1000 ? 3 : 0);
}

static void milli(struct json_out *j, const struct args *args, const char *option)
{
    const struct given *g = args_find(args, option);
    if (g)
        json_num(j, option, (double)g->u64 / 1000, g->u64 % 1000 ? 3 : 0);
}

static void times(struct json_out *j, const struct args *args)
{
    if (args_has(args, "time"))
        seconds(j, "time_limit_s", args_i64(args, "time", 0));
    if (args_has(args, "grace"))
        seconds(j, "grace_s", args_i64(args, "grace", 0));
    if (args_has(args, "retries"))
        json_u64(j, "retries", args_u64(args, "retries", 0));
    const char *backoff = args_text(args, "backoff", NULL);
    if (backoff) { /* it was checked when the line was read */
        autofree char *copy = mem_str(backoff);
        char *dots = strstr(copy, "..");
        int64_t ms = 0;
        if (dots)
            *dots = '\0';
        if (parse_duration(copy, &ms, NULL) == 0)
            seconds(j, "backoff_s", ms);
        if (dots && parse_duration(dots + 2, &ms, NULL) == 0)
            seconds(j, "backoff_max_s", ms);
    }
}

static void time_text(struct json_out *j, const struct args *args, const char *option)
{
    if (!args_has(args, option))
        return;
    autobuf struct buf text = BUF_INIT;
    format_time(&text, args_i64(args, option, 0));
    json_cstr(j, option, text.data);
}

int job_json_from(const struct args *args, struct buf *out, struct err *err)
{
    static const char *const texts[] = { "name", "image", "pull", "notify", "queue", "where", "account", "overlap", "array" };
    static const char *const paths[] = { "workdir", "stdin", "stdout", "stderr" };
    int rc = not_there_yet(args, err);
    if (rc < 0)
        return rc;
    struct json_out j = json_out_to(out);
    json_open(&j, NULL, '{');
    json_open(&j, "command", '[');
    for (size_t i = 0; i < args->operands_count; i++)
        json_cstr(&j, NULL, args->operands[i]);
    json_close(&j, ']');
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (args_text(args, texts[i], NULL))
            json_cstr(&j, texts[i], args_text(args, texts[i], NULL));
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        path_text(&j, args, paths[i]);
    pairs(&j, args, "env", "env");
    pairs(&j, args, "label", "labels");
    if (args_has(args, "priority"))
        json_i64(&j, "priority", args_i64(args, "priority", 0));
    if (args_has(args, "hold"))
        json_bool(&j, "hold", true);
    rc = after(&j, args, err);
    time_text(&j, args, "begin");
    time_text(&j, args, "deadline");
    milli(&j, args, "cpus");
    milli(&j, args, "gpus");
    if (args_has(args, "mem"))
        json_u64(&j, "mem_bytes", args_u64(args, "mem", 0));
    if (args_mem_auto(args))
        json_bool(&j, "mem_auto", true);
    if (args_has(args, "mem-max"))
        json_u64(&j, "mem_max_bytes", args_u64(args, "mem-max", 0));
    if (args_has(args, "nodes"))
        json_u64(&j, "nodes", args_u64(args, "nodes", 1));
    if (rc == 0)
        rc = counts(&j, args, "resource", "resources", err);
    if (rc == 0)
        rc = counts(&j, args, "token", "tokens", err);
    times(&j, args);
    json_close(&j, '}');
    return rc;
}

void json_one(struct buf *out, const char *key, const char *text)
{
    struct json_out j = json_out_to(out);
    json_open(&j, NULL, '{');
    if (text)
        json_cstr(&j, key, text);
    json_close(&j, '}');
}
