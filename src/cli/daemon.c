#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "cli/config.h"
#include "cli/daemon.h"
#include "cli/profile.h"
#include "cli/verb.h"
#include "obs/log.h"
#include "wire/spec.h"

#define CONFIG_BYTES_MAX (1u << 20)
#define DAEMON_ROWS_MAX 64

static void print_faults(const struct buf *faults)
{
    for (const char *at = faults->data; at && *at;) {
        size_t size = strcspn(at, "\n");
        autobuf struct buf line = BUF_INIT;
        text_clean(&line, bytes_of(at, size));
        fprintf(stderr, "rota: %s\n", line.data);
        at += size + (at[size] == '\n');
    }
}

/* Defaults, file, options, and what only the whole can say. 0, or the exit code. */
static int read_settings(const struct args *args, enum config_role role, struct settings *s)
{
    struct err err;
    autobuf struct buf text = BUF_INIT, faults = BUF_INIT;
    const char *file = args_text(args, "config", NULL);
    settings_init(s);
    if (file && file_read(file, CONFIG_BYTES_MAX, &text, &err) < 0) {
        say_error(&err);
        return EXIT_SETTINGS;
    }
    if (file)
        settings_from_yaml(s, file, buf_bytes(&text), &faults);
    if (settings_from_args(s, role, args, &err) < 0) {
        buf_printf(&faults, "%s: %s%s%s\n", err.field, err.text, err.remedy[0] ? "; " : "", err.remedy);
    }
    if (faults.size == 0)
        settings_check(s, role, &faults);
    print_faults(&faults);
    settings_complete(s);
    return faults.size ? EXIT_SETTINGS : 0;
}

static int finished(int code, const struct err *err)
{
    if (code)
        say_error(err);
    return code;
}

static int run_master(const struct args *args)
{
    struct settings s;
    struct err err = { .code = ERR_INTERNAL, .text = "the master ended without saying why" };
    int code = read_settings(args, CONFIG_master, &s);
    s.master.ready_fd = args_has(args, "ready-fd") ? (int)args_u64(args, "ready-fd", 0) : -1;
    s.master.accept_rollback = args_has(args, "accept-rollback");
    if (code == 0 && s.master.ready_fd >= 0)
        fcntl(s.master.ready_fd, F_SETFD, FD_CLOEXEC);
    if (code == 0) {
        log_init("master", (enum log_level)s.master_log.level, s.master_log.json);
        code = finished(master_run(&s.master, &err), &err);
    }
    settings_fini(&s);
    return code;
}

static int run_worker(const struct args *args)
{
    struct settings s;
    struct err err = { .code = ERR_INTERNAL, .text = "the worker ended without saying why" };
    int code = read_settings(args, CONFIG_worker, &s);
    if (code == 0) {
        log_init(s.worker.name ? s.worker.name : "worker", (enum log_level)s.worker_log.level, s.worker_log.json);
        code = finished(worker_run(&s.worker, &err), &err);
    }
    settings_fini(&s);
    return code;
}

static const struct option_row config_row = { .name = "config",
                                              .kind = OPTION_FILE,
                                              .argument = "FILE",
                                              .group = "Settings",
                                              .help = "settings file; options count more (see rota check-config)" };
static const struct option_row ready_row = { .name = "ready-fd",
                                             .kind = OPTION_COUNT,
                                             .argument = "FD",
                                             .min = 3,
                                             .max = 65535,
                                             .group = "Settings",
                                             .help = "write the URL to this descriptor when it serves" };

static const struct option_row rollback_row = { .name = "accept-rollback",
                                                .kind = OPTION_FLAG,
                                                .group = "Settings",
                                                .help = "go on with a store that was put back in time; what was "
                                                        "recorded since is lost" };

static const struct option_row *daemon_options(struct option_row *table, enum config_role role)
{
    size_t count = 0;
    if (table[0].name)
        return table;
    table[count++] = config_row;
    if (role == CONFIG_master)
        table[count++] = ready_row, table[count++] = rollback_row;
    for (const struct option_row *row = config_options(role); row->name; row++) {
        check(count + 1 < DAEMON_ROWS_MAX);
        table[count++] = *row;
    }
    return table;
}

static const struct option_row *master_options(void)
{
    static struct option_row table[DAEMON_ROWS_MAX];
    return daemon_options(table, CONFIG_master);
}

static const struct option_row *worker_options(void)
{
    static struct option_row table[DAEMON_ROWS_MAX];
    return daemon_options(table, CONFIG_worker);
}

const struct command command_master = {
    .name = "master",
    .group = "Daemons",
    .operands = "",
    .operands_min = 0,
    .operands_max = 0,
    .summary = "run the master: scheduler, store and API",
    .text = "Runs until SIGTERM or SIGINT; jobs run on. Its token is in STATE/token. Settings come from options, then "
            "from the section master of "
            "the settings file, then from the defaults.",
    .examples = "rota master --state /srv/rota/master\nrota master --config /etc/rota.yaml",
    .options_made = master_options,
    .run = run_master,
};
const struct command command_worker = {
    .name = "worker",
    .group = "Daemons",
    .operands = "",
    .operands_min = 0,
    .operands_max = 0,
    .summary = "run a worker: it runs jobs on this machine",
    .text = "Runs until SIGTERM or SIGINT; its jobs run on and are adopted by the next worker on the same state "
            "directory, unless --stop-jobs.",
    .examples = "rota worker --bus unix:/srv/rota/master/bus.sock --state /srv/rota/worker-1 --cpus 8\nrota worker "
                "--config /etc/rota.yaml",
    .options_made = worker_options,
    .run = run_worker,
};

/* --- check-config --- */

/* A job file has jobs, or is a job: it is told from settings by its keys. */
static bool looks_like_jobs(const char *text)
{
    return strstr(text, "command:") != NULL || strstr(text, "\"command\"") != NULL;
}

static int run_check_config(const struct args *args)
{
    int code = 0;
    for (size_t i = 0; i < args->operands_count; i++) {
        const char *file = args->operands[i];
        struct err err;
        struct settings s;
        autobuf struct buf text = BUF_INIT, faults = BUF_INIT, lines = BUF_INIT;
        if (file_read(file, 64u << 20, &text, &err) < 0) {
            code = say_error(&err);
            continue;
        }
        if (text.size && looks_like_jobs(text.data)) {
            if (spec_from_yaml(file, buf_bytes(&text), &lines, &faults, &err) < 0 && faults.size == 0)
                buf_printf(&faults, "%s: %s\n", file, err.text);
        } else {
            settings_init(&s);
            settings_from_yaml(&s, file, buf_bytes(&text), &faults);
            if (faults.size == 0) {
                autobuf struct buf whole = BUF_INIT;
                settings_check(&s, CONFIG_master, &whole);
                settings_check(&s, CONFIG_worker, &whole);
                for (const char *at = whole.data; at && *at;) {
                    size_t size = strcspn(at, "\n");
                    buf_printf(&faults, "%s: %.*s\n", file, (int)size, at);
                    at += size + (at[size] == '\n');
                }
            }
            settings_fini(&s);
        }
        print_faults(&faults);
        if (faults.size)
            code = EXIT_SETTINGS;
        else
            say("%s: no fault found", file);
    }
    return code;
}
const struct command command_check_config = {
    .name = "check-config",
    .group = "Daemons",
    .operands = "FILE...",
    .operands_min = 1,
    .operands_max = -1,
    .flags = COMMAND_FILES,
    .summary = "check settings files and job files",
    .text = "Every fault is reported as FILE:LINE:COLUMN; then the exit code is 78. A settings file is a map with the "
            "sections master and worker; "
            "the names in them are those of the options, with _ for -.",
    .examples = "rota check-config /etc/rota.yaml\nrota check-config jobs.yaml",
    .run = run_check_config,
};
