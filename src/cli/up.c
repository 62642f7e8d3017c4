#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "cli/daemon.h"
#include "cli/profile.h"
#include "cli/supervise.h"
#include "cli/verb.h"
#include "io/clock.h"
#include "master/master.h"

#define WORKERS_MAX 64
#define READY_MASTER_MS 120000 /* a store with millions of jobs takes its time */
#define READY_WORKERS_MS 30000
#define STOP_WORKERS_MS 45000 /* more than the grace of a job */
#define STOP_MASTER_MS 15000
#define LOG_BYTES_MAX (16u << 20) /* a log larger than this at the start is put aside */
#define ARGV_MAX 32

struct child {
    char name[40]; /* "master", "worker-3" */
    char *argv[ARGV_MAX];
    int argc;
    char *log_path;
    bool master;
    pid_t pid;  /* 0: does not run */
    bool final; /* ended in a way that starting again does not help */
    struct restarts restarts;
    int64_t start_at_ms; /* when it does not run: start it then; -1: never */
};

struct up {
    const struct args *args;
    char *state, *url, *token_file, *bus;
    struct child children[WORKERS_MAX + 1]; /* the master is the first */
    size_t count;
    int signals, ready, lock; /* fds; ready: the master's pipe, or -1 */
    struct buf ready_line;
    bool stopping, hurry; /* asked to stop; asked twice */
    bool was_ready;       /* the master has served */
    int fatal;            /* exit code of a master that can not go on */
    sigset_t old_mask;
};

/* --- children --- */

static void push(struct child *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void push(struct child *c, const char *fmt, ...)
{
    struct buf text = BUF_INIT;
    va_list args;
    va_start(args, fmt);
    buf_vprintf(&text, fmt, args);
    va_end(args);
    check(c->argc + 1 < ARGV_MAX);
    c->argv[c->argc++] = buf_take(&text);
    c->argv[c->argc] = NULL;
}

static int open_log(const char *path)
{
    struct stat st;
    if (stat(path, &st) == 0 && st.st_size > (off_t)LOG_BYTES_MAX) {
        autobuf struct buf old = BUF_INIT;
        buf_printf(&old, "%s.1", path);
        rename(path, old.data);
    }
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* In the child: its own process group, so that Ctrl-C reaches it through us only and in our order; and it ends when we
 * are killed, so that nothing is left that nobody looks after. */
static void become(struct up *u, struct child *c, int log, int ready)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    sigprocmask(SIG_SETMASK, &u->old_mask, NULL);
    int null = open("/dev/null", O_RDWR);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(log >= 0 ? log : null, STDOUT_FILENO) < 0 ||
        dup2(log >= 0 ? log : null, STDERR_FILENO) < 0)
        _exit(127);
    if (ready >= 0)
        fcntl(ready, F_SETFD, 0);
    execv("/proc/self/exe", c->argv);
    _exit(127);
}

static void start_child(struct up *u, struct child *c)
{
    int pipe_ends[2] = { -1, -1 };
    c->start_at_ms = -1;
    restarts_started(&c->restarts, clock_now_ms());
    int argc = c->argc;
    if (c->master) {
        if (u->ready >= 0)
            close(u->ready);
        u->ready = -1;
        buf_clear(&u->ready_line);
        if (pipe2(pipe_ends, O_CLOEXEC) == 0) {
            push(c, "--ready-fd");
            push(c, "%d", pipe_ends[1]);
        }
    }
    int log = open_log(c->log_path);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        if (getppid() != parent)
            _exit(127);
        become(u, c, log, pipe_ends[1]);
    }
    while (c->argc > argc) {
        free(c->argv[--c->argc]);
        c->argv[c->argc] = NULL;
    }
    if (log >= 0)
        close(log);
    if (pipe_ends[1] >= 0)
        close(pipe_ends[1]);
    u->ready = c->master ? pipe_ends[0] : u->ready;
    if (pid < 0) {
        say("%s can not be started: %s", c->name, strerror(errno));
        c->start_at_ms = clock_now_ms() + restarts_pause_ms(&c->restarts, clock_now_ms());
        return;
    }
    c->pid = pid;
}

/* The last line of a child's log that says something: why it ended. */
static void last_words(const char *path, struct buf *out)
{
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    char tail[2048];
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return;
    off_t from = st.st_size > (off_t)sizeof tail - 1 ? st.st_size - ((off_t)sizeof tail - 1) : 0;
    ssize_t got = pread(fd, tail, sizeof tail - 1, from);
    while (got > 0 && (tail[got - 1] == '\n' || tail[got - 1] == ' '))
        got--;
    if (got <= 0)
        return;
    tail[got] = '\0';
    const char *line = strrchr(tail, '\n');
    text_clean(out, bytes_str(line ? line + 1 : tail));
}

static void report_end(const struct child *c, int status, const char *then)
{
    autobuf struct buf words = BUF_INIT;
    last_words(c->log_path, &words);
    if (WIFSIGNALED(status))
        say("%s was ended by signal %d (%s)%s", c->name, WTERMSIG(status), strsignal(WTERMSIG(status)), then);
    else
        say("%s ended with exit code %d%s%s", c->name, WEXITSTATUS(status), exit_meaning(WEXITSTATUS(status)), then);
    if (words.size)
        say("%s: last words: %s", c->name, words.data);
    say("%s: its log is %s", c->name, c->log_path);
}

static void child_ended(struct up *u, struct child *c, int status)
{
    int64_t now_ms = clock_now_ms();
    c->pid = 0;
    if (u->stopping)
        return;
    bool first_start = c->master && !u->was_ready;
    c->final = exit_is_final(status) || (first_start && !(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_COMMIT));
    if (c->final) {
        report_end(c, status, c->master ? "" : "; it is not started again");
        if (c->master)
            u->fatal = WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : 2;
        return;
    }
    int64_t pause_ms = restarts_pause_ms(&c->restarts, now_ms);
    char then[64];
    snprintf(then, sizeof then, "; starting it again in %.1f s", (double)pause_ms / 1000);
    report_end(c, status, then);
    c->start_at_ms = now_ms + pause_ms;
}

static void reap(struct up *u)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (size_t i = 0; i < u->count; i++)
            if (u->children[i].pid == pid)
                child_ended(u, &u->children[i], status);
}

static void signal_child(const struct child *c, int signo)
{
    if (c->pid > 0)
        kill(c->pid, signo); /* our child, not yet waited for: the number is still its own */
}

/* --- one turn --- */

static void read_signals(struct up *u)
{
    struct signalfd_siginfo info;
    while (read(u->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGCHLD)
            continue;
        u->hurry = u->stopping;
        u->stopping = true;
    }
    reap(u);
}

/* The master's URL line, as it comes. */
static void read_ready(struct up *u)
{
    char text[256];
    ssize_t got = read(u->ready, text, sizeof text);
    if (got < 0 && errno == EINTR)
        return;
    if (got > 0 && u->ready_line.size < 1024)
        buf_add(&u->ready_line, text, (size_t)got);
    char *end = u->ready_line.size ? strchr(u->ready_line.data, '\n') : NULL;
    if (end) {
        *end = '\0';
        free(u->url);
        u->url = mem_str(u->ready_line.data);
        u->was_ready = true;
    }
    if (end || got <= 0) {
        close(u->ready);
        u->ready = -1;
    }
}

static void turn(struct up *u, int64_t timeout_ms)
{
    int64_t now_ms = clock_now_ms();
    for (size_t i = 0; i < u->count && !u->stopping; i++) {
        struct child *c = &u->children[i];
        if (c->pid == 0 && c->start_at_ms >= 0 && c->start_at_ms <= now_ms)
            start_child(u, c);
        if (c->pid == 0 && c->start_at_ms >= 0 && c->start_at_ms - now_ms < timeout_ms)
            timeout_ms = c->start_at_ms - now_ms;
    }
    struct pollfd fds[] = { { u->signals, POLLIN, 0 }, { u->ready, POLLIN, 0 } };
    poll(fds, u->ready >= 0 ? 2 : 1, timeout_ms < 0 ? 0 : (int)timeout_ms);
    if (u->ready >= 0 && fds[1].revents)
        read_ready(u);
    read_signals(u);
}

static bool any_worker(const struct up *u, bool running)
{
    for (size_t i = 1; i < u->count; i++)
        if (running ? u->children[i].pid > 0 : !u->children[i].final)
            return true;
    return false;
}

static void stop_all(struct up *u)
{
    u->stopping = true;
    for (size_t i = 1; i < u->count; i++)
        signal_child(&u->children[i], SIGTERM);
    for (int64_t until_ms = clock_now_ms() + STOP_WORKERS_MS; any_worker(u, true);) {
        turn(u, 200);
        if (u->hurry || clock_now_ms() > until_ms)
            for (size_t i = 1; i < u->count; i++)
                signal_child(&u->children[i], SIGKILL);
    }
    signal_child(&u->children[0], SIGTERM);
    for (int64_t until_ms = clock_now_ms() + STOP_MASTER_MS; u->children[0].pid;) {
        turn(u, 200);
        if (clock_now_ms() > until_ms)
            signal_child(&u->children[0], SIGKILL);
    }
}

/* --- what runs --- */

static void child_init(struct up *u, struct child *c, const char *name, const char *verb)
{
    struct buf path = BUF_INIT;
    snprintf(c->name, sizeof c->name, "%s", name);
    buf_printf(&path, "%s/%s.log", u->state, name);
    c->log_path = buf_take(&path);
    c->start_at_ms = -1;
    push(c, "rota");
    push(c, "%s", verb);
    if (args_text(u->args, "config", NULL)) {
        autofree char *config = path_absolute(args_text(u->args, "config", NULL));
        push(c, "--config");
        push(c, "%s", config);
    }
    push(c, "--state");
    push(c, "%s/%s", u->state, name);
    push(c, "--bus");
    push(c, "%s", u->bus);
    u->count++;
}

/* The CPUs of this process shared out in thousandths; the first workers get what is left over, each at least one CPU.
 */
static uint64_t cpus_of(uint64_t cpus, uint64_t workers, uint64_t index)
{
    uint64_t each = cpus / workers + (index < cpus % workers);
    return each ? each : 1;
}

static void plan(struct up *u)
{
    uint64_t workers = args_u64(u->args, "workers", 1);
    cpu_set_t set;
    uint64_t cpus = sched_getaffinity(0, sizeof set, &set) == 0 ? (uint64_t)CPU_COUNT(&set) : 1;
    uint64_t mem = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    struct child *m = &u->children[0];
    m->master = true;
    child_init(u, m, "master", "master");
    push(m, "--port");
    push(m, "%llu", (unsigned long long)args_u64(u->args, "port", 7682));
    if (!args_has(u->args, "config")) {
        push(m, "--notify-hosts"); /* who submits here is who started it: what he can call himself he may have called */
        push(m, "*");
    }
    static const char *const scheduling[] = { "order", "place", "backfill", "estimate" };
    for (size_t k = 0; k < sizeof scheduling / sizeof *scheduling; k++)
        if (args_has(u->args, scheduling[k])) {
            push(m, "--%s", scheduling[k]);
            push(m, "%s", args_text(u->args, scheduling[k], ""));
        }
    if (args_has(u->args, "accept-rollback"))
        push(m, "--accept-rollback");
    for (uint64_t i = 0; i < workers; i++) {
        struct child *w = &u->children[i + 1];
        char name[40];
        snprintf(name, sizeof name, "worker-%llu", (unsigned long long)i + 1);
        child_init(u, w, name, "worker");
        push(w, "--name");
        push(w, "%s", name);
        push(w, "--exec");
        push(w, "%s", args_text(u->args, "exec", "process"));
        static const char *const through[] = { "engine", "container-mounts" };
        for (size_t k = 0; k < sizeof through / sizeof *through; k++)
            if (args_text(u->args, through[k], NULL)) {
                push(w, "--%s", through[k]);
                push(w, "%s", args_text(u->args, through[k], ""));
            }
        if (args_has(u->args, "cpus")) {
            push(w, "--cpus");
            push(w, "%s", args_text(u->args, "cpus", "1"));
        } else if (workers > 1) {
            push(w, "--cpus");
            push(w, "%llu", (unsigned long long)cpus_of(cpus, workers, i));
        }
        if (args_has(u->args, "mem") || workers > 1) {
            push(w, "--mem");
            push(w, "%llu", (unsigned long long)args_u64(u->args, "mem", mem / workers));
        }
        if (!args_has(u->args, "keep"))
            push(w, "--stop-jobs");
    }
}

/* True: the master serves. False: it can not, or we were asked to stop. */
static bool wait_master(struct up *u)
{
    u->children[0].start_at_ms = clock_now_ms();
    for (int64_t until_ms = clock_now_ms() + READY_MASTER_MS; !u->was_ready && !u->stopping && !u->fatal; turn(u, 500))
        if (clock_now_ms() > until_ms) {
            say("the master does not serve after %d s; its log is %s", READY_MASTER_MS / 1000, u->children[0].log_path);
            u->fatal = 5;
        }
    return u->was_ready && !u->stopping && !u->fatal;
}

/* From now on the master is to come back where its clients know it. */
static void pin_port(struct up *u)
{
    const char *colon = strrchr(u->url, ':');
    struct child *m = &u->children[0];
    for (int i = 0; colon && i + 1 < m->argc; i++)
        if (strcmp(m->argv[i], "--port") == 0) {
            free(m->argv[i + 1]);
            m->argv[i + 1] = mem_str(colon + 1);
            m->argv[i + 1][strcspn(m->argv[i + 1], "/")] = '\0';
        }
    /* Accepted once: a later loss is to be told again. It was pushed last. */
    if (strcmp(m->argv[m->argc - 1], "--accept-rollback") == 0) {
        free(m->argv[--m->argc]);
        m->argv[m->argc] = NULL;
    }
}

static size_t ready_nodes(const struct up *u)
{
    autobuf struct buf token = BUF_INIT;
    struct reply reply = { 0 };
    struct err err;
    size_t ready = 0, i;
    if (secret_read(u->token_file, &token, &err) < 0)
        return 0;
    struct client *c = client_new(u->url, token.data);
    json_t *answer = NULL;
    const json_t *node;
    if (client_call(c, &(struct call){ .method = "GET", .path = "/v1/nodes", .timeout_ms = 2000 }, &reply, &err) == 0)
        reply_json(&reply, &answer, &err);
    json_array_foreach(json_object_get(answer, "nodes"), i, node) for (size_t k = 1; k < u->count; k++) ready +=
        strcmp(json_text(node, "name", ""), u->children[k].name) == 0 &&
        strcmp(json_text(node, "state", ""), "ready") == 0;
    json_decref(answer);
    reply_fini(&reply);
    client_free(c);
    return ready;
}

static void wait_workers(struct up *u)
{
    size_t ready = 0, workers = u->count - 1;
    for (size_t i = 1; i < u->count; i++)
        u->children[i].start_at_ms = clock_now_ms();
    int64_t until_ms = clock_now_ms() + READY_WORKERS_MS;
    while (ready < workers && any_worker(u, false) && !u->stopping && !u->fatal && clock_now_ms() < until_ms) {
        turn(u, 30);
        ready = ready_nodes(u);
    }
    if (ready < workers && !u->stopping && !u->fatal)
        say("%zu of %zu workers are ready; `rota nodes` shows them, the logs are in %s", ready, workers, u->state);
}

/* --- pid file --- */

static int write_pid(const struct up *u, struct err *err)
{
    autobuf struct buf path = BUF_INIT, text = BUF_INIT;
    buf_printf(&path, "%s/up.pid", u->state);
    buf_printf(&text, "%d %llu\n", (int)getpid(), (unsigned long long)process_start(getpid()));
    return file_replace(path.data, 0600, buf_bytes(&text), err);
}

static void remove_pid(const struct up *u)
{
    autobuf struct buf path = BUF_INIT;
    buf_printf(&path, "%s/up.pid", u->state);
    unlink(path.data);
}

static int take_lock(struct up *u, struct err *err)
{
    autobuf struct buf path = BUF_INIT;
    int rc = dir_make(u->state, err);
    if (rc < 0)
        return rc;
    buf_printf(&path, "%s/up.lock", u->state);
    u->lock = open(path.data, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (u->lock < 0)
        return err_errno(err, "open %s", path.data);
    if (flock(u->lock, LOCK_EX | LOCK_NB) < 0)
        return err_field(err, ERR_LOCKED, NULL, "`rota down` stops it; --state DIR starts another one elsewhere",
                         "a cluster is up already with the state in %s", u->state);
    return 0;
}

/* --- up --- */

static void announce(const struct up *u, bool detached)
{
    size_t workers = u->count - 1;
    autobuf struct buf line = BUF_INIT;
    buf_printf(&line, "%s\n", u->url);
    out_bytes(buf_bytes(&line));
    say("up with %zu worker%s; state and logs in %s", workers, workers == 1 ? "" : "s", u->state);
    say("try `rota run -- echo hello`%s, and `rota dashboard`; %s stops it%s", detached ? "" : " in another terminal",
        detached ? "`rota down`" : "Ctrl-C", args_has(u->args, "keep") ? ", jobs run on" : " and its jobs");
}

static int serve(struct up *u, int told)
{
    struct err err;
    if (wait_master(u)) {
        pin_port(u);
        wait_workers(u);
    }
    if (!u->fatal && !u->stopping && (profile_write(u->url, u->token_file, &err) < 0 || write_pid(u, &err) < 0))
        u->fatal = say_error(&err);
    if (!u->fatal && !u->stopping) {
        announce(u, told >= 0);
        if (told >= 0) { /* from here on nobody reads what we say but the log */
            autobuf struct buf path = BUF_INIT;
            buf_printf(&path, "%s/up.log", u->state);
            int log = open_log(path.data), null = open("/dev/null", O_RDWR | O_CLOEXEC);
            dup2(null, STDIN_FILENO);
            dup2(log >= 0 ? log : null, STDOUT_FILENO);
            dup2(log >= 0 ? log : null, STDERR_FILENO);
            if (write(told, "", 1) != 1 || chdir("/") < 0)
                say("the terminal is gone");
            close(told);
        }
        while (!u->stopping && !u->fatal)
            turn(u, 60000);
        if (!u->fatal)
            say("stopping");
    }
    stop_all(u);
    remove_pid(u);
    return u->fatal;
}

/* The parent of a detached cluster: waits for the word. */
static int wait_detached(pid_t pid, int told)
{
    char ok;
    ssize_t got;
    do
        got = read(told, &ok, 1);
    while (got < 0 && errno == EINTR);
    if (got == 1)
        return 0;
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : 2;
}

static void up_fini(struct up *u)
{
    for (size_t i = 0; i < u->count; i++) {
        for (int k = 0; k < u->children[i].argc; k++)
            free(u->children[i].argv[k]);
        free(u->children[i].log_path);
    }
    buf_fini(&u->ready_line);
    free(u->state);
    free(u->url);
    free(u->token_file);
    free(u->bus);
    if (u->ready >= 0)
        close(u->ready);
    if (u->signals >= 0)
        close(u->signals);
    if (u->lock >= 0)
        close(u->lock);
    free(u);
}

static void take_signals(struct up *u)
{
    sigset_t set;
    sigemptyset(&set);
    static const int taken[] = { SIGINT, SIGTERM, SIGHUP, SIGCHLD };
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        sigaddset(&set, taken[i]);
    sigprocmask(SIG_BLOCK, &set, &u->old_mask);
    u->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    check(u->signals >= 0);
    signal(SIGPIPE, SIG_IGN);
}

static char *state_of(const struct args *args)
{
    const char *state = args_text(args, "state", NULL);
    return state ? path_absolute(state) : state_dir_default();
}

static int run_up(const struct args *args)
{
    struct up *u = mem_zero(1, sizeof *u);
    struct err err;
    struct buf path = BUF_INIT;
    int code = 0, told[2] = { -1, -1 };
    u->args = args;
    u->signals = u->ready = u->lock = -1;
    u->state = state_of(args);
    buf_printf(&path, "%s/master/token", u->state);
    u->token_file = buf_take(&path);
    if (args_text(args, "bus", NULL))
        buf_str(&path, args_text(args, "bus", NULL));
    else
        buf_printf(&path, "unix:%s/master/bus.sock", u->state);
    u->bus = buf_take(&path);
    if (!args_has(args, "bus") && strlen(u->bus) - 5 > 107)
        code = (err_field(&err, ERR_INVALID, "--state", "name a shorter one",
                          "the path of the socket in it would be longer than 107 bytes"),
                say_error(&err));
    else if (take_lock(u, &err) < 0)
        code = err.code == ERR_LOCKED ? (say_error(&err), EXIT_IN_USE) : say_error(&err);
    if (code == 0 && args_has(args, "detach")) {
        fflush(NULL);
        pid_t pid = pipe2(told, O_CLOEXEC) < 0 ? -1 : fork();
        if (pid < 0) {
            err_errno(&err, "start in the background");
            code = say_error(&err);
        } else if (pid > 0) {
            close(told[1]);
            code = wait_detached(pid, told[0]);
            close(told[0]);
            up_fini(u);
            return code;
        } else {
            close(told[0]);
            setsid();
        }
    }
    if (code == 0) {
        take_signals(u);
        plan(u);
        code = serve(u, told[1]);
    }
    up_fini(u);
    return code;
}

static const struct option_row up_options[] = {
    { .name = "workers",
      .kind = OPTION_COUNT,
      .argument = "N",
      .min = 0,
      .max = WORKERS_MAX,
      .group = "Options",
      .fallback = "1",
      .help = "how many workers" },
    { .name = "state",
      .kind = OPTION_DIR,
      .argument = "DIR",
      .group = "Options",
      .fallback = "$XDG_STATE_HOME/rota, as root /var/lib/rota",
      .help = "where everything is kept" },
    { .name = "port",
      .kind = OPTION_COUNT,
      .argument = "P",
      .min = 0,
      .max = 65535,
      .group = "Options",
      .fallback = "7682",
      .help = "port of the API on the loopback; 0 takes any free one" },
    { .name = "bus",
      .kind = OPTION_TEXT,
      .argument = "URL",
      .group = "Options",
      .fallback = "a socket in the state directory",
      .help = "bus between master and workers; amqp[s]://USER@HOST[,HOST...]/VHOST?password_file=F is RabbitMQ" },
    { .name = "exec",
      .kind = OPTION_CHOICE,
      .argument = "HOW",
      .choices = "process|docker|fake",
      .group = "Options",
      .fallback = "process",
      .help = "how jobs run; docker: those with an image in containers; fake only pretends, for tests" },
    { .name = "engine",
      .kind = OPTION_TEXT,
      .argument = "URL",
      .group = "Options",
      .fallback = "$DOCKER_HOST, else /var/run/docker.sock",
      .help = "socket of the container engine" },
    { .name = "container-mounts",
      .kind = OPTION_TEXT,
      .argument = "DIR[:ro],...",
      .group = "Options",
      .fallback = "none",
      .help = "directories of this machine that containers see at the same path" },
    { .name = "cpus",
      .kind = OPTION_MILLI,
      .argument = "X",
      .min = 100,
      .max = 100000000,
      .group = "Options",
      .fallback = "this machine's, shared out",
      .help = "CPUs of each worker" },
    { .name = "mem",
      .kind = OPTION_SIZE,
      .argument = "SIZE",
      .group = "Options",
      .fallback = "this machine's, shared out",
      .help = "memory of each worker" },
    { .name = "order",
      .kind = OPTION_CHOICE,
      .argument = "WORD",
      .choices = ORDER_WORDS,
      .group = "Options",
      .fallback = "priority",
      .help = "which job goes first; docs/policies.md has the formulas" },
    { .name = "backfill",
      .kind = OPTION_CHOICE,
      .argument = "WORD",
      .choices = BACKFILL_WORDS,
      .group = "Options",
      .fallback = "greedy",
      .help = "what may pass a job that does not fit now" },
    { .name = "place",
      .kind = OPTION_CHOICE,
      .argument = "WORD",
      .choices = "binpack|spread",
      .group = "Options",
      .fallback = "binpack",
      .help = "on which node a job goes" },
    { .name = "estimate",
      .kind = OPTION_DURATION,
      .argument = "D",
      .min = 1000,
      .max = 30ll * 86400 * 1000,
      .group = "Options",
      .fallback = "1h",
      .help = "run time assumed of a job without a time limit before any like it ended" },
    { .name = "config",
      .kind = OPTION_FILE,
      .argument = "FILE",
      .group = "Options",
      .help = "settings file for master and workers" },
    { .name = "accept-rollback",
      .kind = OPTION_FLAG,
      .group = "Options",
      .help = "go on with a store that was put back in time; what was recorded since is lost" },
    { .name = "detach", .kind = OPTION_FLAG, .group = "Options", .help = "return when it is up; rota down stops it" },
    { .name = "keep",
      .kind = OPTION_FLAG,
      .group = "Options",
      .help = "let jobs run on when it is stopped; the next rota up adopts them" },
    { .name = NULL },
};
const struct command command_up = {
    .name = "up",
    .group = "Daemons",
    .operands = "",
    .operands_min = 0,
    .operands_max = 0,
    .summary = "run a whole cluster on this machine, in one terminal",
    .text = "Starts a master and its workers, waits until they are ready, prints the URL, and writes the profile that "
            "all other verbs use. What crashes "
            "is started again; Ctrl-C stops the workers with their jobs, then the master. If it is itself killed, "
            "master and workers stop too.",
    .examples = "rota up\nrota up --workers 4 --detach\nrota up --state /tmp/try --port 0 --exec fake",
    .options = up_options,
    .run = run_up,
};

/* --- down --- */

static int run_down(const struct args *args)
{
    autofree char *state = state_of(args);
    autobuf struct buf path = BUF_INIT, text = BUF_INIT;
    struct err err;
    int pid = 0;
    unsigned long long start = 0;
    buf_printf(&path, "%s/up.pid", state);
    if (file_read(path.data, 4096, &text, &err) < 0 || sscanf(text.data, "%d %llu", &pid, &start) != 2 || pid <= 1) {
        say("no cluster is up with the state in %s", state);
        return err_exit_code(ERR_NOT_FOUND);
    }
    /* The file may be older than a process that got the same number: open it first, then see whether it is the one. */
    autoclose int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0 || process_start(pid) != start) {
        say("no cluster is up with the state in %s; the last one (process %d) is gone", state, pid);
        unlink(path.data);
        return err_exit_code(ERR_NOT_FOUND);
    }
    if (syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0) < 0) {
        err_errno(&err, "stop process %d", pid);
        return say_error(&err);
    }
    struct pollfd p = { fd, POLLIN, 0 };
    int64_t until_ms = clock_now_ms() + STOP_WORKERS_MS + STOP_MASTER_MS + 5000;
    while (clock_now_ms() < until_ms)
        if (poll(&p, 1, (int)(until_ms - clock_now_ms())) > 0) {
            say("the cluster in %s is down", state);
            return 0;
        }
    say("process %d has not ended yet; its log is %s/up.log", pid, state);
    return err_exit_code(ERR_TIMEOUT);
}

static const struct option_row down_options[] = {
    { .name = "state",
      .kind = OPTION_DIR,
      .argument = "DIR",
      .group = "Options",
      .fallback = "$XDG_STATE_HOME/rota, as root /var/lib/rota",
      .help = "the state directory given to rota up" },
    { .name = NULL },
};
const struct command command_down = {
    .name = "down",
    .group = "Daemons",
    .operands = "",
    .operands_min = 0,
    .operands_max = 0,
    .summary = "stop a cluster that was started with rota up",
    .examples = "rota down\nrota down --state /tmp/try",
    .options = down_options,
    .run = run_down,
};
