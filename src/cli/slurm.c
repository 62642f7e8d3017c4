#include "cli/slurm.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cli/profile.h"
#include "cli/submit.h"
#include "cli/verb.h"
#include "io/clock.h"

#define SCRIPT_MAX 122880u /* with the rest of the command it has to fit into the arguments of a process */
#define WORDS_MAX 128

/* --- what is written differently --- */

int slurm_time(const char *text, int64_t *seconds, struct err *err)
{
    const char *at = text;
    int64_t days = 0, part[3] = { 0 };
    size_t count = 0;
    const char *dash = strchr(text, '-');
    bool ok = *text != '\0';
    if (dash) {
        char *end;
        days = strtoll(text, &end, 10);
        ok = end == dash && end > text && days >= 0 && days < 100000;
        at = dash + 1;
    }
    while (ok && count < 3) {
        char *end;
        ok = *at >= '0' && *at <= '9';
        part[count] = ok ? strtoll(at, &end, 10) : 0;
        ok = ok && part[count] < 100000000;
        if (!ok)
            break;
        count++;
        at = end;
        if (*at != ':')
            break;
        at++;
    }
    if (!ok || *at != '\0' || count == 0 || at[-1] == ':')
        return err_field(err, ERR_INVALID, NULL, "write minutes, HH:MM:SS or D-HH:MM", "\"%s\" is not a time", text);
    if (dash)
        *seconds = days * 86400 + part[0] * 3600 + part[1] * 60 + part[2];
    else if (count == 1)
        *seconds = part[0] * 60;
    else if (count == 2)
        *seconds = part[0] * 60 + part[1];
    else
        *seconds = part[0] * 3600 + part[1] * 60 + part[2];
    return 0;
}

int slurm_dependency(const char *text, struct buf *lines, struct err *err)
{
    static const struct {
        const char *name, *when;
    } kinds[] = { { "afterok", "" }, { "afterany", ":any" }, { "afternotok", ":fail" } };
    autofree char *copy = mem_str(text);
    for (char *save = NULL, *part = strtok_r(copy, ",", &save); part; part = strtok_r(NULL, ",", &save)) {
        char *colon = strchr(part, ':');
        const char *when = NULL;
        if (colon)
            *colon = '\0';
        for (size_t i = 0; colon && i < sizeof kinds / sizeof *kinds; i++)
            if (strcmp(part, kinds[i].name) == 0)
                when = kinds[i].when;
        if (!when)
            return err_field(err, ERR_INVALID, NULL, "write afterok:ID, afterany:ID or afternotok:ID",
                             "\"%s\" is not a dependency", text);
        for (char *at = colon + 1; *at; at++)
            if (*at == ':')
                *at = ',';
        buf_printf(lines, "%s%s\n", colon + 1, when);
    }
    if (lines->size == 0)
        return err_field(err, ERR_INVALID, NULL, "write afterok:ID", "\"%s\" is not a dependency", text);
    return 0;
}

static void shell_quoted(struct buf *word, const char *text, size_t size)
{
    buf_char(word, '\'');
    for (size_t i = 0; i < size; i++)
        if (text[i] == '\'')
            buf_str(word, "'\\''");
        else
            buf_char(word, text[i]);
    buf_char(word, '\'');
}

void slurm_pattern(struct buf *word, const char *pattern, const char *name)
{
    for (const char *at = pattern; *at;) {
        size_t plain = strcspn(at, "%");
        if (plain)
            shell_quoted(word, at, plain);
        at += plain;
        if (!*at)
            break;
        at++;
        while (*at >= '0' && *at <= '9') /* a width: numbers are not padded */
            at++;
        if (*at == 'j' || *at == 'A')
            buf_str(word, "\"$ROTA_JOB_ID\"");
        else if (*at == 'a')
            buf_str(word, "\"$ROTA_TASK_ID\"");
        else if (*at == 'x')
            shell_quoted(word, name, strlen(name));
        else if (*at == 'u')
            buf_str(word, "\"$USER\"");
        else if (*at == 'N' || *at == 'n')
            buf_str(word, *at == 'N' ? "\"$ROTA_NODE\"" : "0");
        else if (*at)
            shell_quoted(word, at, 1);
        if (*at)
            at++;
    }
}

/* --- sbatch and srun: options --- */

static int never(const struct args *args)
{
    (void)args;
    check_unreachable();
}

#define G "Options"
#define JOB_ROWS                                                                                                       \
    { .name = "job-name",                                                                                              \
      .letter = 'J',                                                                                                   \
      .kind = OPTION_NAME,                                                                                             \
      .argument = "NAME",                                                                                              \
      .group = G,                                                                                                      \
      .help = "name of the job" },                                                                                     \
        { .name = "time",                                                                                              \
          .letter = 't',                                                                                               \
          .kind = OPTION_TEXT,                                                                                         \
          .argument = "TIME",                                                                                          \
          .group = G,                                                                                                  \
          .help = "time limit: minutes, HH:MM:SS, D-HH:MM" },                                                          \
        { .name = "mem", .kind = OPTION_TEXT, .argument = "SIZE", .group = G, .help = "memory; a bare number is MB" }, \
        { .name = "cpus-per-task",                                                                                     \
          .letter = 'c',                                                                                               \
          .kind = OPTION_COUNT,                                                                                        \
          .argument = "N",                                                                                             \
          .min = 1,                                                                                                    \
          .max = 100000,                                                                                               \
          .group = G,                                                                                                  \
          .help = "CPUs" },                                                                                            \
        { .name = "ntasks",                                                                                            \
          .letter = 'n',                                                                                               \
          .kind = OPTION_COUNT,                                                                                        \
          .argument = "N",                                                                                             \
          .min = 1,                                                                                                    \
          .max = 100000,                                                                                               \
          .group = G,                                                                                                  \
          .help = "as many as nodes" },                                                                                \
        { .name = "nodes",                                                                                             \
          .letter = 'N',                                                                                               \
          .kind = OPTION_COUNT,                                                                                        \
          .argument = "N",                                                                                             \
          .min = 1,                                                                                                    \
          .max = 100000,                                                                                               \
          .group = G,                                                                                                  \
          .help = "nodes to run on at the same time, for srun: the command runs once on each" },                       \
        { .name = "gpus",                                                                                              \
          .letter = 'G',                                                                                               \
          .kind = OPTION_COUNT,                                                                                        \
          .argument = "N",                                                                                             \
          .min = 0,                                                                                                    \
          .max = 1000,                                                                                                 \
          .group = G,                                                                                                  \
          .help = "GPUs" },                                                                                            \
        { .name = "gres", .kind = OPTION_TEXT, .argument = "gpu:N", .group = G, .help = "GPUs" },                      \
        { .name = "constraint", .letter = 'C', .kind = OPTION_NAME, .argument = "EXPR", .group = G, .help = "nodes to run on, as --where of rota submit" }, \
        { .name = "nodelist", .letter = 'w', .kind = OPTION_NAME, .argument = "NODE,...", .group = G, .help = "nodes to run on, by name" }, \
        { .name = "partition", .letter = 'p', .kind = OPTION_NAME, .argument = "QUEUE", .group = G, .help = "queue" }, \
        { .name = "dependency",                                                                                        \
          .letter = 'd',                                                                                               \
          .kind = OPTION_TEXT,                                                                                         \
          .argument = "LIST",                                                                                          \
          .group = G,                                                                                                  \
          .help = "afterok:ID[:ID], afterany:ID, afternotok:ID" },                                                     \
        { .name = "begin", .letter = 'b', .kind = OPTION_TIME, .argument = "TIME", .group = G, .help = "not before" }, \
        { .name = "hold", .letter = 'H', .kind = OPTION_FLAG, .group = G, .help = "wait until it is released" },       \
        { .name = "nice",                                                                                              \
          .kind = OPTION_COUNT,                                                                                        \
          .argument = "N",                                                                                             \
          .min = 0,                                                                                                    \
          .max = 1000000,                                                                                              \
          .group = G,                                                                                                  \
          .help = "lower priority" },                                                                                  \
        { .name = "priority",                                                                                          \
          .kind = OPTION_NUMBER,                                                                                       \
          .argument = "N",                                                                                             \
          .min = -1000000,                                                                                             \
          .max = 1000000,                                                                                              \
          .group = G,                                                                                                  \
          .help = "higher goes first" },                                                                               \
        { .name = "chdir",                                                                                             \
          .letter = 'D',                                                                                               \
          .kind = OPTION_DIR,                                                                                          \
          .argument = "DIR",                                                                                           \
          .group = G,                                                                                                  \
          .fallback = "here",                                                                                          \
          .help = "directory to start in" },                                                                           \
        { .name = "output",                                                                                            \
          .letter = 'o',                                                                                               \
          .kind = OPTION_TEXT,                                                                                         \
          .argument = "FILE",                                                                                          \
          .group = G,                                                                                                  \
          .help = "file for the output; %j, %A, %a, %x" },                                                             \
        { .name = "error",                                                                                             \
          .letter = 'e',                                                                                               \
          .kind = OPTION_TEXT,                                                                                         \
          .argument = "FILE",                                                                                          \
          .group = G,                                                                                                  \
          .help = "file for standard error" },                                                                         \
        { .name = "export",                                                                                            \
          .kind = OPTION_TEXT,                                                                                         \
          .argument = "LIST",                                                                                          \
          .group = G,                                                                                                  \
          .fallback = "PATH,HOME,USER,LOGNAME,LANG",                                                                   \
          .help = "environment: NAME, NAME=VALUE, NONE" },                                                             \
        { .name = "account",                                                                                           \
          .letter = 'A',                                                                                               \
          .kind = OPTION_TEXT,                                                                                         \
          .argument = "NAME",                                                                                          \
          .group = G,                                                                                                  \
          .help = "passed over" },                                                                                     \
        { .name = "qos", .letter = 'q', .kind = OPTION_TEXT, .argument = "NAME", .group = G, .help = "passed over" },  \
        { .name = "mail-type", .kind = OPTION_TEXT, .argument = "TYPE", .group = G, .help = "passed over" },           \
        { .name = "mail-user", .kind = OPTION_TEXT, .argument = "USER", .group = G, .help = "passed over" },           \
        { .name = "comment", .kind = OPTION_TEXT, .argument = "TEXT", .group = G, .help = "passed over" },             \
    {                                                                                                                  \
        .name = "ntasks-per-node", .kind = OPTION_COUNT, .argument = "N", .min = 1, .max = 100000, .group = G,         \
        .help = "only 1 is possible"                                                                                   \
    }

static const struct option_row sbatch_rows[] = {
    JOB_ROWS,
    { .name = "array",
      .letter = 'a',
      .kind = OPTION_ARRAY,
      .argument = "SPEC",
      .group = G,
      .help = "once per index: 1-10, 0-9:3, 1-100%5" },
    { .name = "wrap",
      .kind = OPTION_TEXT,
      .argument = "COMMAND",
      .group = G,
      .help = "run this command of the shell instead of a script" },
    { .name = "wait",
      .letter = 'W',
      .kind = OPTION_FLAG,
      .group = G,
      .help = "return when it has ended, with its exit code" },
    { .name = "parsable", .kind = OPTION_FLAG, .group = G, .help = "print the id alone" },
    { .name = "requeue", .kind = OPTION_FLAG, .group = G, .help = "always so: attempts lost to a node run again" },
    { .name = NULL },
};
static const struct option_row srun_rows[] = { JOB_ROWS, { .name = NULL } };

static const struct command command_sbatch = {
    .name = "sbatch",
    .operands = "SCRIPT [ARG...]",
    .operands_min = 0,
    .operands_max = -1,
    .flags = COMMAND_TAIL,
    .summary = "queue a script with its #SBATCH lines",
    .options = sbatch_rows,
    .run = never,
};
static const struct command command_srun = {
    .name = "srun",
    .operands = "CMD [ARG...]",
    .operands_min = 0,
    .operands_max = -1,
    .flags = COMMAND_TAIL,
    .summary = "run a command as a job and wait for it",
    .options = srun_rows,
    .run = never,
};

/* A line of words, as it is built up. */
struct words {
    char *word[WORDS_MAX];
    int count;
};

static void add(struct words *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(struct words *w, const char *fmt, ...)
{
    struct buf text = BUF_INIT;
    va_list args;
    va_start(args, fmt);
    buf_vprintf(&text, fmt, args);
    va_end(args);
    if (w->count + 1 < WORDS_MAX) {
        w->word[w->count++] = text.data ? buf_take(&text) : mem_str("");
        w->word[w->count] = NULL;
    }
    buf_fini(&text);
}

static void words_fini(struct words *w)
{
    for (int i = 0; i < w->count; i++)
        free(w->word[i]);
    w->count = 0;
}

/* The options of the command line, then those of the script: the first that has one counts. */
struct options {
    struct args line, script;
};

static const struct given *option(const struct options *o, const char *name)
{
    const struct given *g = args_find(&o->line, name);
    return g ? g : args_find(&o->script, name);
}

static const char *option_text(const struct options *o, const char *name)
{
    const struct given *g = option(o, name);
    return g ? g->text : NULL;
}

static uint64_t option_u64(const struct options *o, const char *name, uint64_t fallback)
{
    const struct given *g = option(o, name);
    return g ? g->u64 : fallback;
}

static int refuse(struct err *err, const char *field, const char *text)
{
    return err_field(err, ERR_INVALID, field, NULL, "%s", text);
}

static int size_words(const struct options *o, struct words *w, struct err *err)
{
    const char *mem = option_text(o, "mem");
    static const char digits[] = "0123456789";
    struct given value;
    if (!mem || strcmp(mem, "0") == 0)
        return 0;
    autobuf struct buf text = BUF_INIT;
    buf_printf(&text, "%s%s", mem, strspn(mem, digits) == strlen(mem) ? "M" : "");
    if (option_value(&(struct option_row){ .kind = OPTION_SIZE }, text.data, &value, err) < 0) {
        snprintf(err->field, sizeof err->field, "--mem");
        return -ERR_INVALID;
    }
    add(w, "--mem");
    add(w, "%s", text.data);
    return 0;
}

static int gpu_words(const struct options *o, struct words *w, struct err *err)
{
    const char *gres = option_text(o, "gres");
    uint64_t gpus = option_u64(o, "gpus", 0);
    if (gres) {
        const char *colon = strrchr(gres, ':');
        if (strncmp(gres, "gpu", 3) != 0 || (gres[3] && !colon) ||
            (colon && parse_u64(colon + 1, 0, 1000, &gpus, NULL) < 0))
            return refuse(err, "--gres",
                          "only gpu:N is known here; other resources are --resource NAME=N of rota submit");
        gpus = colon ? gpus : 1;
    }
    if (gpus) {
        add(w, "--gpus");
        add(w, "%llu", (unsigned long long)gpus);
    }
    return 0;
}

static int dependency_words(const struct options *o, struct words *w, struct err *err)
{
    const char *text = option_text(o, "dependency");
    autobuf struct buf lines = BUF_INIT;
    if (!text)
        return 0;
    if (slurm_dependency(text, &lines, err) < 0) {
        snprintf(err->field, sizeof err->field, "--dependency");
        return -ERR_INVALID;
    }
    for (char *save = NULL, *line = strtok_r(lines.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        add(w, "--after");
        add(w, "%s", line);
    }
    return 0;
}

static bool env_word(struct words *w, const char *name)
{
    const char *value = getenv(name);
    if (!value || strchr(value, '\n'))
        return false;
    add(w, "--env");
    add(w, "%s=%s", name, value);
    return true;
}

static int env_words(const struct options *o, struct words *w, struct err *err)
{
    const char *text = option_text(o, "export");
    autofree char *list = mem_str(text && strcmp(text, "ALL") != 0 ? text : "PATH,HOME,USER,LOGNAME,LANG");
    if (strcmp(list, "NONE") == 0)
        return 0;
    for (char *save = NULL, *name = strtok_r(list, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
        if (strcmp(name, "ALL") == 0) {
            static const char *const usual[] = { "PATH", "HOME", "USER", "LOGNAME", "LANG" };
            for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
                env_word(w, usual[i]);
        } else if (strchr(name, '=')) {
            if (*name == '=')
                return refuse(err, "--export", "a variable has no name");
            add(w, "--env");
            add(w, "%s", name);
        } else {
            env_word(w, name);
        }
    }
    return 0;
}

static void note_passed_over(const struct options *o)
{
    static const char *const names[] = { "account", "qos", "mail-type", "mail-user", "comment" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (option(o, names[i]))
            say("--%s has no meaning here and is passed over", names[i]);
}

/* --constraint ssd --nodelist a,b: "ssd&node=a|b" */
static void where_words(const struct options *o, struct words *w)
{
    const char *constraint = option_text(o, "constraint"), *nodes = option_text(o, "nodelist");
    autobuf struct buf text = BUF_INIT;
    if (!constraint && !nodes)
        return;
    buf_printf(&text, "%s%s%s", constraint ? constraint : "", constraint && nodes ? "&" : "", nodes ? "node=" : "");
    for (const char *at = nodes; at && *at; at++)
        buf_char(&text, *at == ',' ? '|' : *at);
    add(w, "--where");
    add(w, "%.*s", (int)text.size, text.data);
}

/* What sbatch and srun share, as options of `rota submit`. */
static int job_words(const struct options *o, struct words *w, const char *name, bool step, struct err *err)
{
    int64_t seconds = 0;
    uint64_t nodes = option_u64(o, "nodes", 1), tasks = option_u64(o, "ntasks", nodes);
    if (tasks != nodes || option_u64(o, "ntasks-per-node", 1) != 1)
        return refuse(err, "--ntasks", "several tasks on one node are not in this version of Rota; use --array, or srun with as many --nodes");
    if (nodes > 1 && !step)
        return refuse(err, "--nodes", "sbatch would run its script on the first node only; srun --nodes and rota submit --nodes run a command on each");
    if (nodes > 1) {
        add(w, "--nodes");
        add(w, "%llu", (unsigned long long)nodes);
    }
    note_passed_over(o);
    add(w, "--name");
    add(w, "%s", option_text(o, "job-name") ? option_text(o, "job-name") : name);
    if (option_text(o, "time")) {
        if (slurm_time(option_text(o, "time"), &seconds, err) < 0) {
            snprintf(err->field, sizeof err->field, "--time");
            return -ERR_INVALID;
        }
        add(w, "--time");
        add(w, "%llds", (long long)seconds);
    }
    static const struct {
        const char *from, *to;
    } same[] = {
        { "cpus-per-task", "--cpus" }, { "partition", "--queue" }, { "begin", "--begin" },
        { "priority", "--priority" },  { "array", "--array" },
    };
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        if (option_text(o, same[i].from)) {
            add(w, "%s", same[i].to);
            add(w, "%s", option_text(o, same[i].from));
        }
    where_words(o, w);
    if (option(o, "nice") && !option(o, "priority")) {
        add(w, "--priority");
        add(w, "-%s", option_text(o, "nice"));
    }
    if (option(o, "hold"))
        add(w, "--hold");
    autofree char *dir = path_absolute(option_text(o, "chdir") ? option_text(o, "chdir") : ".");
    size_t size = strlen(dir);
    if (size > 2 && strcmp(dir + size - 2, "/.") == 0)
        dir[size - 2] = '\0';
    add(w, "--workdir");
    add(w, "%s", dir);
    int rc = size_words(o, w, err);
    rc = rc < 0 ? rc : gpu_words(o, w, err);
    rc = rc < 0 ? rc : dependency_words(o, w, err);
    return rc < 0 ? rc : env_words(o, w, err);
}

/* --- sbatch --- */

/* One #SBATCH line as words: blanks part them, quotes keep together. */
static bool split(char *line, struct words *w)
{
    char *at = line;
    for (;;) {
        at += strspn(at, " \t\r");
        if (!*at || *at == '#')
            return true;
        autobuf struct buf word = BUF_INIT;
        for (char quote = 0; *at && (quote || !strchr(" \t\r", *at)); at++) {
            if (quote ? *at == quote : *at == '\'' || *at == '"')
                quote = quote ? 0 : *at;
            else if (*at == '\\' && at[1] && quote != '\'')
                buf_char(&word, *++at);
            else
                buf_char(&word, *at);
            if (quote && !at[1])
                return false;
        }
        add(w, "%s", word.data ? word.data : "");
    }
}

/* The #SBATCH lines stand before the first line that is neither empty nor a comment. */
static int script_words(const struct buf *script, struct words *w, struct err *err)
{
    unsigned number = 1;
    for (const char *at = script->data; at && *at; number++) {
        size_t size = strcspn(at, "\n");
        const char *text = at + strspn(at, " \t");
        if (strncmp(at, "#SBATCH", 7) == 0) {
            autofree char *line = mem_copy(at + 7, size - 7 + 1);
            line[size - 7] = '\0';
            if (!split(line, w))
                return err_set(err, ERR_INVALID, "line %u: a quote is not closed", number);
        } else if (text < at + size && *text != '#' && *text != '\r') {
            break;
        }
        at += size + (at[size] == '\n');
    }
    return 0;
}

/* The script is written to a file of its own where it runs; $0 is the name, then the script, then its arguments. */
static void shell_prelude(struct buf *shell, const struct options *o, const char *name, bool array)
{
    const char *output = option_text(o, "output"), *error = option_text(o, "error");
    buf_str(shell, "export SLURM_JOB_ID=\"$ROTA_JOB_ID\" SLURM_SUBMIT_DIR=\"$PWD\" SLURM_CPUS_PER_TASK=\"$ROTA_CPUS\" "
                   "SLURMD_NODENAME=\"$ROTA_NODE\" SLURM_JOB_NAME=");
    shell_quoted(shell, name, strlen(name));
    if (array)
        buf_str(shell, " SLURM_ARRAY_JOB_ID=\"$ROTA_JOB_ID\" SLURM_ARRAY_TASK_ID=\"$ROTA_TASK_ID\"");
    buf_str(shell, "\nexec >");
    slurm_pattern(shell, output ? output : array ? "slurm-%A_%a.out" : "slurm-%j.out", name);
    buf_str(shell, " || exit 1\nexec 2>");
    if (error)
        slurm_pattern(shell, error, name);
    else
        buf_str(shell, "&1");
    buf_str(shell, " || exit 1\n");
}

static const char script_runner[] = "f=$(mktemp) || exit 1\n"
                                    "printf '%s' \"$1\" >\"$f\" && chmod 700 \"$f\" || exit 1\n"
                                    "shift\n"
                                    "\"$f\" \"$@\"\n"
                                    "r=$?\n"
                                    "rm -f \"$f\"\n"
                                    "exit $r\n";

static int run_words(struct words *w, const struct command *command, int (*run)(const struct args *, void *), void *arg)
{
    struct args args;
    struct err err;
    int code;
    if (w->count + 1 >= WORDS_MAX) {
        say("too many arguments");
        return 2;
    }
    if (args_parse(&args, command, w->count, w->word, &err) < 0)
        code = say_error(&err);
    else
        code = run(&args, arg);
    args_fini(&args);
    return code;
}

struct batch {
    bool parsable, wait;
};

static int submit_batch(const struct args *args, void *arg)
{
    const struct batch *b = arg;
    uint64_t id = 0;
    int code = submit_one(args, &id);
    if (code)
        return code;
    autobuf struct buf line = BUF_INIT;
    buf_printf(&line, b->parsable ? "%llu\n" : "Submitted batch job %llu\n", (unsigned long long)id);
    out_flush(&line);
    if (!b->wait)
        return 0;
    autoclient struct client *c = verb_client(args, &code);
    buf_printf(&line, "%llu", (unsigned long long)id);
    struct waiting w = { .selector = line.data, .until_ms = -1 };
    return c ? wait_for(c, &w) : code;
}

static int help_wanted(const struct args *args, const struct command *c)
{
    if (!args_has(args, "help"))
        return 0;
    autobuf struct buf out = BUF_INIT;
    buf_printf(&out, "usage: %s [OPTION...] %s\n\nOptions:\n", c->name, c->operands);
    const struct option_row *row;
    for (size_t i = 0; (row = command_option(c, i)); i++) {
        autobuf struct buf left = BUF_INIT;
        if (row->letter)
            buf_printf(&left, "-%c, ", row->letter);
        buf_printf(&left, "--%s%s%s", row->name, row->argument ? " " : "", row->argument ? row->argument : "");
        buf_printf(&out, "  %-30s %s\n", left.data, row->help);
    }
    buf_str(&out, "\nA link to rota, for fingers that know Slurm; `rota help` shows everything.\n");
    out_flush(&out);
    return 1;
}

static int sbatch_with(struct options *o)
{
    struct err err;
    autobuf struct buf script = BUF_INIT, shell = BUF_INIT;
    struct words from_script = { 0 }, w = { 0 };
    const char *wrap = args_text(&o->line, "wrap", NULL), *file = o->line.operands_count ? o->line.operands[0] : "-";
    const char *slash = strrchr(file, '/'), *name = wrap                     ? "wrap"
                                                    : strcmp(file, "-") == 0 ? "sbatch"
                                                    : slash                  ? slash + 1
                                                                             : file;
    if (wrap && o->line.operands_count) {
        say("--wrap and a script do not go together");
        return 2;
    }
    if (wrap)
        buf_printf(&script, "#!/bin/sh\n%s\n", wrap);
    else if (file_read(file, SCRIPT_MAX, &script, &err) < 0)
        return say_error(&err);
    if (script.size > SCRIPT_MAX || !script.data || strncmp(script.data, "#!", 2) != 0 ||
        strlen(script.data) != script.size) {
        say("%s: a script begins with #!, such as #!/bin/sh, is text, and has at most %u bytes", name, SCRIPT_MAX);
        return 2;
    }
    add(&from_script, "sbatch");
    int code = 0;
    if (script_words(&script, &from_script, &err) < 0 ||
        args_parse(&o->script, &command_sbatch, from_script.count, from_script.word, &err) < 0) {
        snprintf(err.field + strlen(err.field), sizeof err.field - strlen(err.field), "%s#SBATCH in %.40s",
                 err.field[0] ? " of " : "", name);
        code = say_error(&err);
    }
    add(&w, "submit");
    if (code == 0 && job_words(o, &w, name, false, &err) < 0)
        code = say_error(&err);
    if (code == 0) {
        shell_prelude(&shell, o, option_text(o, "job-name") ? option_text(o, "job-name") : name, option(o, "array"));
        buf_str(&shell, script_runner);
        add(&w, "--");
        add(&w, "/bin/sh");
        add(&w, "-c");
        add(&w, "%s", shell.data);
        add(&w, "%s", name);
        add(&w, "%s", script.data);
        for (size_t i = 1; i < o->line.operands_count; i++)
            add(&w, "%s", o->line.operands[i]);
        code =
            run_words(&w, &command_submit, submit_batch, &(struct batch){ option(o, "parsable"), option(o, "wait") });
    }
    words_fini(&w);
    args_fini(&o->script);
    words_fini(&from_script);
    return code;
}

/* --- srun --- */

static int run_job(const struct args *args, void *arg)
{
    (void)arg;
    return command_run.run(args);
}

static int srun_with(struct options *o)
{
    struct err err;
    struct words w = { 0 };
    if (o->line.operands_count == 0) {
        say("there is no command; usage: srun [OPTION...] CMD [ARG...]");
        return 2;
    }
    const char *slash = strrchr(o->line.operands[0], '/');
    add(&w, "run");
    int code = job_words(o, &w, slash ? slash + 1 : o->line.operands[0], true, &err) < 0 ? say_error(&err) : 0;
    static const struct {
        const char *from, *to;
    } files[] = { { "output", "--stdout" }, { "error", "--stderr" } };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (option_text(o, files[i].from)) {
            add(&w, "%s", files[i].to);
            add(&w, "%s", option_text(o, files[i].from));
        }
    add(&w, "--");
    for (size_t i = 0; i < o->line.operands_count; i++)
        add(&w, "%s", o->line.operands[i]);
    if (code == 0)
        code = run_words(&w, &command_run, run_job, NULL);
    words_fini(&w);
    return code;
}

/* --- squeue --- */

static const struct option_row squeue_rows[] = {
    { .name = "jobs", .letter = 'j', .kind = OPTION_TEXT, .argument = "IDS", .group = G, .help = "only these" },
    { .name = "user", .letter = 'u', .kind = OPTION_NAME, .argument = "USER", .group = G, .help = "only this user's" },
    { .name = "me", .kind = OPTION_FLAG, .group = G, .help = "only mine" },
    { .name = "name",
      .letter = 'n',
      .kind = OPTION_NAME,
      .argument = "NAME",
      .group = G,
      .help = "only with this name" },
    { .name = "partition",
      .letter = 'p',
      .kind = OPTION_NAME,
      .argument = "QUEUE",
      .group = G,
      .help = "only in this queue" },
    { .name = "states",
      .letter = 't',
      .kind = OPTION_TEXT,
      .argument = "STATES",
      .group = G,
      .help = "PD, R, CG, or all" },
    { .name = "noheader", .letter = 'h', .kind = OPTION_FLAG, .group = G, .help = "no head line" },
    { .name = "long", .letter = 'l', .kind = OPTION_FLAG, .group = G, .help = "passed over" },
    { .name = NULL },
};
static const struct command command_squeue = {
    .name = "squeue",
    .operands = "",
    .operands_min = 0,
    .operands_max = 0,
    .summary = "list jobs that have not ended",
    .options = squeue_rows,
    .run = never,
};

static const char *code_of(const char *state)
{
    static const struct {
        const char *state, *code;
    } codes[] = {
        { "held", "PD" },      { "blocked", "PD" },  { "queued", "PD" },     { "dispatched", "CF" },
        { "running", "R" },    { "uncertain", "R" }, { "retry_wait", "PD" }, { "cancelling", "CG" },
        { "succeeded", "CD" }, { "failed", "F" },    { "cancelled", "CA" },  { "expired", "DL" },
    };
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (strcmp(codes[i].state, state) == 0)
            return codes[i].code;
    return "?";
}

static void slurm_duration(struct buf *out, int64_t s)
{
    if (s >= 86400)
        buf_printf(out, "%lld-%02lld:%02lld:%02lld", (long long)(s / 86400), (long long)(s / 3600 % 24),
                   (long long)(s / 60 % 60), (long long)(s % 60));
    else if (s >= 3600)
        buf_printf(out, "%lld:%02lld:%02lld", (long long)(s / 3600), (long long)(s / 60 % 60), (long long)(s % 60));
    else
        buf_printf(out, "%lld:%02lld", (long long)(s / 60), (long long)(s % 60));
}

static void squeue_line(struct buf *out, const json_t *job, int64_t now_ms)
{
    autobuf struct buf time = BUF_INIT, where = BUF_INIT, name = BUF_INIT, user = BUF_INIT, queue = BUF_INIT;
    const char *state = json_text(job, "state", "?"), *node = json_text(job, "node", NULL);
    int64_t started = time_of(job, "started_at"), ended = time_of(job, "ended_at");
    slurm_duration(&time, started ? ((ended ? ended : now_ms) - started) / 1000 : 0);
    if (node && strcmp(code_of(state), "PD") != 0)
        text_clean(&where, bytes_str(node));
    else
        buf_printf(&where, "(%s)",
                   strcmp(state, "held") == 0      ? "JobHeldUser"
                   : strcmp(state, "blocked") == 0 ? "Dependency"
                   : strcmp(state, "queued") == 0  ? "Resources"
                                                   : state);
    text_clean(&name, bytes_str(json_text(job, "name", "")));
    text_clean(&user, bytes_str(json_text(job, "user", "")));
    text_clean(&queue, bytes_str(json_text(job, "queue", "")));
    buf_printf(out, "%18lld %9.9s %8.8s %8.8s %2s %10s %6d %s\n", (long long)json_int(job, "id", 0), queue.data,
               name.data ? name.data : "", user.data, code_of(state), time.data, 1, where.data);
}

static bool state_wanted(const char *states, const char *state)
{
    static const char *const words[][2] = { { "PENDING", "PD" },   { "RUNNING", "R" }, { "COMPLETING", "CG" },
                                            { "COMPLETED", "CD" }, { "FAILED", "F" },  { "CANCELLED", "CA" } };
    if (!states)
        return !state_ended(state);
    if (strcasecmp(states, "all") == 0)
        return true;
    autofree char *list = mem_str(states);
    for (char *save = NULL, *one = strtok_r(list, ",", &save); one; one = strtok_r(NULL, ",", &save)) {
        if (strcasecmp(one, code_of(state)) == 0)
            return true;
        for (size_t i = 0; i < sizeof words / sizeof *words; i++)
            if (strcasecmp(one, words[i][0]) == 0 && strcmp(words[i][1], code_of(state)) == 0)
                return true;
    }
    return false;
}

static const char *my_name(void)
{
    struct passwd *p = getpwuid(geteuid());
    return p ? p->pw_name : getenv("USER");
}

static int squeue_with(const struct args *args)
{
    int code = 0;
    autoclient struct client *c = verb_client(args, &code);
    if (!c)
        return code;
    autobuf struct buf out = BUF_INIT, cursor = BUF_INIT;
    if (!args_has(args, "noheader"))
        buf_printf(&out, "%18s %9s %8s %8s %2s %10s %6s %s\n", "JOBID", "PARTITION", "NAME", "USER", "ST", "TIME",
                   "NODES", "NODELIST(REASON)");
    do {
        struct err err;
        autojson json_t *page = NULL;
        autobuf struct buf path = BUF_INIT;
        buf_str(&path, "/v1/jobs?limit=500&order=asc");
        url_query(&path, "selector", args_text(args, "jobs", NULL));
        url_query(&path, "user", args_has(args, "me") ? my_name() : args_text(args, "user", NULL));
        url_query(&path, "name", args_text(args, "name", NULL));
        url_query(&path, "queue", args_text(args, "partition", NULL));
        url_query(&path, "cursor", cursor.size ? cursor.data : NULL);
        if (client_json(c, "GET", path.data, bytes_of(NULL, 0), &page, &err) < 0)
            return say_error(&err);
        size_t i;
        const json_t *job;
        int64_t now_ms = clock_wall_ms();
        json_array_foreach(json_object_get(page, "jobs"), i,
                           job) if (state_wanted(args_text(args, "states", NULL), json_text(job, "state", "?")))
            squeue_line(&out, job, now_ms);
        out_flush(&out);
        buf_clear(&cursor);
        buf_str(&cursor, json_text(page, "next", ""));
    } while (cursor.size);
    return 0;
}

/* --- scancel --- */

static const struct option_row scancel_rows[] = {
    { .name = "name",
      .letter = 'n',
      .kind = OPTION_NAME,
      .argument = "NAME",
      .group = G,
      .help = "all with this name" },
    { .name = "quiet", .letter = 'Q', .kind = OPTION_FLAG, .group = G, .help = "passed over" },
    { .name = NULL },
};
static const struct command command_scancel = {
    .name = "scancel",
    .operands = "ID...",
    .operands_min = 0,
    .operands_max = -1,
    .summary = "cancel jobs",
    .options = scancel_rows,
    .run = never,
};

static int cancel_job(const struct args *args, void *arg)
{
    (void)arg;
    return command_cancel.run(args);
}

static int scancel_with(const struct args *args)
{
    struct words w = { 0 };
    add(&w, "cancel");
    add(&w, "--");
    for (size_t i = 0; i < args->operands_count; i++)
        add(&w, "%s", args->operands[i]);
    if (args_text(args, "name", NULL))
        add(&w, "%s", args_text(args, "name", NULL));
    if (w.count == 2) {
        say("no job is named; usage: scancel ID...");
        words_fini(&w);
        return 2;
    }
    int code = run_words(&w, &command_cancel, cancel_job, NULL);
    words_fini(&w);
    return code;
}

/* --- sinfo --- */

static const struct option_row sinfo_rows[] = {
    { .name = "Node", .letter = 'N', .kind = OPTION_FLAG, .group = G, .help = "a line per node" },
    { .name = "noheader", .letter = 'h', .kind = OPTION_FLAG, .group = G, .help = "no head line" },
    { .name = NULL },
};
static const struct command command_sinfo = {
    .name = "sinfo",
    .operands = "",
    .operands_min = 0,
    .operands_max = 0,
    .summary = "list nodes by state",
    .options = sinfo_rows,
    .run = never,
};

static const char *node_word(const json_t *node)
{
    const char *state = json_text(node, "state", "?");
    if (strcmp(state, "ready") != 0)
        return strcmp(state, "draining") == 0 ? "drng" : strcmp(state, "drained") == 0 ? "drain" : state;
    double used = json_real_of(json_object_get(node, "allocated"), "cpus", 0),
           all = json_real_of(json_object_get(node, "capacity"), "cpus", 0);
    return used <= 0 ? "idle" : used >= all ? "alloc" : "mix";
}

static int sinfo_with(const struct args *args)
{
    int code = 0;
    struct err err;
    autoclient struct client *c = verb_client(args, &code);
    autojson json_t *answer = NULL;
    if (!c)
        return code;
    if (client_json(c, "GET", "/v1/nodes", bytes_of(NULL, 0), &answer, &err) < 0)
        return say_error(&err);
    const json_t *nodes = json_object_get(answer, "nodes"), *node;
    autobuf struct buf out = BUF_INIT;
    size_t i, k;
    bool each = args_has(args, "Node");
    if (!args_has(args, "noheader") && each)
        buf_printf(&out, "%-20s %6s %-10s %s\n", "NODELIST", "NODES", "PARTITION", "STATE");
    else if (!args_has(args, "noheader"))
        buf_printf(&out, "%-10s %5s %10s %6s %7s %s\n", "PARTITION", "AVAIL", "TIMELIMIT", "NODES", "STATE",
                   "NODELIST");
    json_array_foreach(nodes, i, node)
    {
        autobuf struct buf names = BUF_INIT;
        size_t count = 0;
        bool told = false;
        const json_t *other;
        json_array_foreach(nodes, k, other)
        {
            bool same = strcmp(node_word(other), node_word(node)) == 0;
            told = told || (same && k < i);
            if ((each && k != i) || (!each && !same))
                continue;
            buf_str(&names, count++ ? "," : "");
            text_clean(&names, bytes_str(json_text(other, "name", "?")));
        }
        if (each)
            buf_printf(&out, "%-20s %6d %-10s %s\n", names.data, 1, "default*", node_word(node));
        else if (!told)
            buf_printf(&out, "%-10s %5s %10s %6zu %7s %s\n", "default*", "up", "infinite", count, node_word(node),
                       names.data);
    }
    out_flush(&out);
    return 0;
}

/* --- which --- */

static const struct command *const links[] = { &command_sbatch, &command_squeue, &command_scancel, &command_sinfo,
                                               &command_srun };

bool slurm_name(const char *name)
{
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        if (strcmp(links[i]->name, name) == 0)
            return true;
    return false;
}

int slurm_main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0];
    const struct command *c = NULL;
    struct options o = { .script = { 0 } };
    struct err err;
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        if (strcmp(links[i]->name, name) == 0)
            c = links[i];
    check(c);
    int code = 0;
    if (args_parse(&o.line, c, argc, argv, &err) < 0)
        code = say_error(&err);
    else if (help_wanted(&o.line, c))
        code = 0;
    else if (c == &command_sbatch)
        code = sbatch_with(&o);
    else if (c == &command_srun)
        code = srun_with(&o);
    else if (c == &command_squeue)
        code = squeue_with(&o.line);
    else if (c == &command_scancel)
        code = scancel_with(&o.line);
    else
        code = sinfo_with(&o.line);
    args_fini(&o.line);
    return code;
}
