#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/daemon.h"
#include "cli/help.h"
#include "cli/job_json.h"
#include "cli/profile.h"
#include "cli/verb.h"
#include "master/master.h"

/* --- inspect --- */

static int run_inspect(const struct args *args)
{
    int code = 0;
    for (size_t i = 0; i < args->operands_count; i++) {
        struct err err;
        struct stat st;
        autobuf struct buf out = BUF_INIT;
        if (stat(args->operands[i], &st) < 0) {
            say("there is no file or directory %s", args->operands[i]);
            code = err_exit_code(ERR_NOT_FOUND);
            continue;
        }
        int rc = master_inspect(args->operands[i], &out, args_has(args, "json"), &err);
        if (out.size && args_has(args, "json"))
            print_json(buf_bytes(&out));
        else
            out_flush(&out);
        if (rc < 0) {
            code = say_error(&err);
            code = err.code == ERR_CORRUPT ? EXIT_STORE : code;
        }
    }
    return code;
}

static const struct option_row inspect_options[] = {
    { .name = "json", .kind = OPTION_FLAG, .group = "Options", .help = "as JSON" },
    { .name = NULL },
};
const struct command command_inspect = {
    .name = "inspect",
    .group = "Daemons",
    .operands = "STORE...",
    .operands_min = 1,
    .operands_max = -1,
    .flags = COMMAND_FILES,
    .summary = "check a store and print what is in it",
    .text = "STORE is a state directory of a master, or a backup. Nothing in it is changed. Checked are structure, "
            "checksums, "
            "that the records make sense one after the other, and that the snapshot gives the state that they give. "
            "Exit code "
            "65: it is corrupt.",
    .examples = "rota inspect /var/lib/rota/master\nrota inspect backup.db --json",
    .options = inspect_options,
    .run = run_inspect,
};

/* --- backup --- */

static int run_backup(const struct args *args)
{
    int code = 0;
    autoclient struct client *c = verb_client(args, &code);
    autofree char *path = path_absolute(args->operands[0]);
    autobuf struct buf body = BUF_INIT;
    autojson json_t *answer = NULL;
    json_one(&body, "path", path);
    if (!c || (code = verb_json(c, args, "POST", "/v1/backup", buf_bytes(&body), &answer)) || !answer)
        return code;
    say("%s holds everything up to event %lld, checked", path, (long long)json_int(answer, "last_seq", 0));
    return 0;
}
const struct command command_backup = {
    .name = "backup",
    .group = "Daemons",
    .operands = "FILE",
    .operands_min = 1,
    .operands_max = 1,
    .flags = COMMAND_CLIENT | COMMAND_FILES,
    .summary = "copy the store of the running master",
    .text =
        "The master writes FILE on its own machine, while it works; it gets its name when it is complete and "
        "checked. To use it: stop the master, move store.db, store.db-wal and store.db-shm out of the master's "
        "state directory, put the file there as store.db, start. If more was recorded since it was made, the master "
        "says so and refuses (exit 65) until it is started once with --accept-rollback: then job ids and epochs go on "
        "1000000 higher, so that none is used twice, and what workers run that the store does not know is listed by "
        "rota nodes NAME, not killed.",
    .examples = "rota backup /backup/rota-monday.db",
    .run = run_backup,
};

/* --- login, token --- */

static int read_token(struct buf *token, struct err *err)
{
    struct termios old, silent;
    bool terminal = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &old) == 0;
    char line[4096];
    if (terminal) {
        fprintf(stderr, "Token: ");
        silent = old;
        silent.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
    }
    char *got = fgets(line, sizeof line, stdin);
    if (terminal) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
        fputc('\n', stderr);
    }
    if (!got)
        return err_field(err, ERR_INVALID, NULL, "give it on standard input, or name its file with --token-file",
                         "there is no token");
    line[strcspn(line, "\r\n")] = '\0';
    buf_str(token, line);
    explicit_bzero(line, sizeof line);
    if (token->size == 0 ||
        strspn(token->data, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=") != token->size)
        return err_field(err, ERR_INVALID, NULL, "paste it as it is", "that is no token");
    return 0;
}

/* A token that was typed is kept beside the profile. */
static char *token_beside_profile(void)
{
    autofree char *profile = profile_path();
    char *slash = strrchr(profile, '/');
    struct buf path = BUF_INIT;
    if (slash)
        buf_add(&path, profile, (size_t)(slash + 1 - profile));
    buf_str(&path, "token");
    return buf_take(&path);
}

static int run_login(const struct args *args)
{
    struct err err;
    const char *url = args->operands[0], *file = args_text(args, "token-file", NULL);
    autobuf struct buf token = BUF_INIT;
    if (strncasecmp(url, "http://", 7) != 0 && strncasecmp(url, "https://", 8) != 0) {
        say("\"%s\" is not a URL; write http://HOST:7682", url);
        return 2;
    }
    if ((file ? secret_read(file, &token, &err) : read_token(&token, &err)) < 0)
        return say_error(&err);
    struct client *c = client_new(url, token.data);
    json_t *answer = NULL;
    int rc = client_json(c, "GET", "/v1/stats", bytes_of(NULL, 0), &answer, &err);
    client_free(c);
    autofree char *kept = file ? path_absolute(file) : token_beside_profile();
    if (rc == 0 && !file)
        rc = file_replace(kept, 0600, buf_bytes(&token), &err);
    if (rc == 0)
        rc = profile_write(url, kept, &err);
    explicit_bzero(token.data, token.size);
    if (rc == 0)
        say("%s answers (version %s); it is now the master of all verbs", url, json_text(answer, "version", "?"));
    json_decref(answer);
    return rc < 0 ? say_error(&err) : 0;
}

static const struct option_row login_options[] = {
    { .name = "token-file",
      .kind = OPTION_FILE,
      .argument = "FILE",
      .group = "Options",
      .fallback = "asked for, or read from standard input",
      .help = "use the token in this file, and go on using the file" },
    { .name = NULL },
};
const struct command command_login = {
    .name = "login",
    .group = "This program",
    .operands = "URL",
    .operands_min = 1,
    .operands_max = 1,
    .summary = "remember a master and a token for it",
    .text = "The token is tried before anything is written. It never stands in the arguments of a program.",
    .examples = "rota login http://rota.example:7682 < token\nrota login http://127.0.0.1:7682 --token-file "
                "/srv/rota/master/token",
    .options = login_options,
    .run = run_login,
};

static int run_token(const struct args *args)
{
    const char *what = args->operands[0];
    if (strcmp(what, "create") == 0 || strcmp(what, "revoke") == 0) {
        say("token %s: not in this version of Rota: a master has one token, in STATE/token; to change it, stop the "
            "master, remove the file, start it",
            what);
        return 2;
    }
    if (strcmp(what, "ls") != 0) {
        say("token: \"%s\" is nothing to do with tokens; write ls", what);
        return 2;
    }
    struct profile profile;
    struct err err;
    const char *env = getenv("ROTA_TOKEN_FILE");
    if (profile_read(&profile, &err) < 0)
        return say_error(&err);
    const char *file = env && *env ? env : profile.token_file;
    if (file) {
        autobuf struct buf line = BUF_INIT;
        buf_printf(&line, "%s\n", file);
        out_flush(&line);
        say("the admin's token of %s; tokens of other roles are not in this version of Rota",
            profile.url ? profile.url : "the master");
    } else {
        say("no token is known here; `rota up` or `rota login URL` store one");
    }
    int code = file ? 0 : err_exit_code(ERR_NOT_FOUND);
    profile_fini(&profile);
    return code;
}
const struct command command_token = {
    .name = "token",
    .group = "This program",
    .operands = "ls",
    .operands_min = 1,
    .operands_max = 2,
    .summary = "print the path of the token in use",
    .text = "In this version a master has one token, the admin's; creating and revoking tokens of other roles is not "
            "there yet and is refused.",
    .examples = "rota token ls",
    .run = run_token,
};

/* --- help, completion, version --- */

static int run_help(const struct args *args)
{
    autobuf struct buf out = BUF_INIT;
    const char *word = args->operands_count ? args->operands[0] : NULL;
    const struct command *c = word ? command_named(word) : NULL;
    if (word && !c) {
        const char *near = help_nearest_command(word);
        say("there is no verb \"%s\"%s%s%s", word, near ? "; did you mean " : "; `rota help` lists them",
            near ? near : "", near ? "?" : "");
        return 2;
    }
    if (c)
        help_command(&out, c);
    else
        help_top(&out);
    out_flush(&out);
    return 0;
}
const struct command command_help = {
    .name = "help",
    .group = "This program",
    .operands = "[VERB]",
    .operands_min = 0,
    .operands_max = 1,
    .summary = "show what a verb does and takes",
    .examples = "rota help submit",
    .run = run_help,
};

static int run_completion(const struct args *args)
{
    autobuf struct buf out = BUF_INIT;
    if (!help_completion(&out, args->operands[0])) {
        say("completion: \"%s\" is not a shell that is known here; write bash, zsh or fish", args->operands[0]);
        return 2;
    }
    out_flush(&out);
    return 0;
}
const struct command command_completion = {
    .name = "completion",
    .group = "This program",
    .operands = "bash|zsh|fish",
    .operands_min = 1,
    .operands_max = 1,
    .summary = "print the completion script of a shell",
    .examples = "eval \"$(rota completion bash)\"\nrota completion fish > ~/.config/fish/completions/rota.fish",
    .run = run_completion,
};

static int run_version(const struct args *args)
{
    (void)args;
    out_bytes(bytes_str("rota " ROTA_VERSION "\n"));
    return 0;
}
const struct command command_version = {
    .name = "version",
    .group = "This program",
    .operands = "",
    .operands_min = 0,
    .operands_max = 0,
    .summary = "print the version",
    .examples = "rota version",
    .run = run_version,
};

/* --- for shells and for the documentation --- */

#define COMPLETE_MS 300 /* a shell waits for it */

/* Names that only the master knows; quietly nothing when it does not answer at once. */
static void complete_from_master(struct buf *out, enum complete_kind kind, const char *typed)
{
    struct client *c = NULL;
    struct args none = { .command = &command_complete };
    struct reply reply = { 0 };
    json_t *answer = NULL;
    const json_t *one;
    size_t i;
    bool nodes = kind == COMPLETE_NODES;
    if (client_open(&c, &none, NULL) < 0)
        return;
    struct call call = { .method = "GET",
                         .path = nodes ? "/v1/nodes" : "/v1/jobs?limit=50",
                         .timeout_ms = COMPLETE_MS };
    if (client_call(c, &call, &reply, NULL) == 0)
        reply_json(&reply, &answer, NULL);
    json_array_foreach(json_object_get(answer, nodes ? "nodes" : "jobs"), i, one)
    {
        autobuf struct buf word = BUF_INIT, about = BUF_INIT;
        if (nodes)
            text_clean(&word, bytes_str(json_text(one, "name", "")));
        else
            buf_i64(&word, json_int(one, "id", 0));
        if (strncmp(word.data ? word.data : "", typed, strlen(typed)) != 0)
            continue;
        buf_printf(&about, "%s %s", json_text(one, "state", ""), nodes ? "" : json_text(one, "name", ""));
        buf_printf(out, "%s\t", word.data);
        text_clean(out, buf_bytes(&about));
        buf_char(out, '\n');
    }
    json_decref(answer);
    reply_fini(&reply);
    client_free(c);
}

static int run_complete(const struct args *args)
{
    static const char *const more[] = {
        [COMPLETE_FILES] = ":files\n", [COMPLETE_DIRS] = ":dirs\n", [COMPLETE_COMMAND] = ":command\n"
    };
    autobuf struct buf out = BUF_INIT;
    struct bytes prefix;
    enum complete_kind kind = help_complete(&out, args->operands, args->operands_count, &prefix);
    const char *typed = args->operands_count ? args->operands[args->operands_count - 1] : "";
    if (kind == COMPLETE_JOBS || kind == COMPLETE_NODES)
        complete_from_master(&out, kind, typed);
    else if (more[kind])
        buf_str(&out, more[kind]);
    out_flush(&out);
    return 0;
}
const struct command command_complete = {
    .name = "__complete",
    .group = "",
    .operands = "WORD...",
    .operands_min = 0,
    .operands_max = -1,
    .flags = COMMAND_HIDDEN | COMMAND_TAIL,
    .summary = "print what may stand in the place of the last word",
    .run = run_complete,
};

static int run_man(const struct args *args)
{
    (void)args;
    autobuf struct buf out = BUF_INIT;
    help_man(&out);
    out_flush(&out);
    return 0;
}
const struct command command_man = {
    .name = "__man",
    .group = "",
    .operands = "",
    .operands_min = 0,
    .operands_max = 0,
    .flags = COMMAND_HIDDEN,
    .summary = "print the manual page as scdoc",
    .run = run_man,
};

static int run_docs(const struct args *args)
{
    (void)args;
    autobuf struct buf out = BUF_INIT;
    help_markdown(&out);
    out_flush(&out);
    return 0;
}
const struct command command_docs = {
    .name = "__docs",
    .group = "",
    .operands = "",
    .operands_min = 0,
    .operands_max = 0,
    .flags = COMMAND_HIDDEN,
    .summary = "print docs/cli.md",
    .run = run_docs,
};
