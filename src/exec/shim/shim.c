/* shim.c: the first process of a container: `shim [-i FILE] [-o FILE] [-e FILE] -- COMMAND...`
 *
 * It starts the command, its output going straight to files, waits for it, ends whatever it left behind, and writes its
 * end where the worker finds it, so that neither depends on the container engine being there. A container that is
 * started a second time runs nothing: the record says that it has run. Linked statically; reads nothing but its
 * arguments, its directory and the kernel's counters; allocates nothing. */
#include "exec/shim/shim_record.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define EXIT_SPAWN 127
#define EXIT_REFUSED 125 /* it has run before, or has nowhere to write */
#define REAP_MS 20

struct shim {
    struct shim_record record;
    int record_fd, orders, signals;
    pid_t job;
    bool job_ended;
};

struct start {
    const char *paths[3]; /* stdin, stdout, stderr; NULL: as the container has it, and our files */
    char **command;
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool record_write(struct shim *s)
{
    s->record.magic = SHIM_MAGIC;
    s->record.sum = shim_record_sum(&s->record);
    return pwrite(s->record_fd, &s->record, sizeof s->record, 0) == (ssize_t)sizeof s->record;
}

/* --- the kernel's counters of this container --- */

static size_t read_file(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);
    if (fd >= 0)
        close(fd);
    out[n > 0 ? n : 0] = 0;
    return n > 0 ? (size_t)n : 0;
}

static uint64_t number(const char *text)
{
    uint64_t v = 0;
    for (; *text >= '0' && *text <= '9'; text++)
        v = v * 10 + (uint64_t)(*text - '0');
    return v;
}

static bool counter(const char *path, const char *key, uint64_t *out)
{
    char text[1024];
    if (!read_file(path, text, sizeof text))
        return false;
    const char *at = *key ? strstr(text, key) : text;
    if (!at)
        return false;
    *out = number(at + strlen(key));
    return true;
}

static void count_memory(struct shim_record *r)
{
    uint64_t kills = 0, most = 0;
    if (counter("/sys/fs/cgroup/memory/memory.oom_control", "oom_kill ", &kills) ||
        counter("/sys/fs/cgroup/memory.events", "oom_kill ", &kills))
        r->flags |= SHIM_OOM_KNOWN;
    if (!counter("/sys/fs/cgroup/memory/memory.max_usage_in_bytes", "", &most))
        counter("/sys/fs/cgroup/memory.peak", "", &most);
    r->oom_kills = (uint32_t)kills;
    r->mem_max_bytes = most;
}

/* --- starting --- */

static int parse(int argc, char **argv, struct start *start)
{
    static const char options[] = "ioe";
    int at = 1;
    for (; at + 1 < argc && argv[at][0] == '-' && argv[at][1] != '-'; at += 2) {
        const char *which = argv[at][1] ? strchr(options, argv[at][1]) : NULL;
        if (!which)
            return -1;
        start->paths[which - options] = argv[at + 1];
    }
    if (at >= argc || strcmp(argv[at], "--") != 0 || at + 1 >= argc)
        return -1;
    start->command = argv + at + 1;
    return 0;
}

struct failure {
    uint32_t stage;
    int32_t error;
};

static int open_stream(const struct start *start, int stream)
{
    if (start->paths[stream] && stream == 0)
        return open(start->paths[0], O_RDONLY);
    if (start->paths[stream])
        return open(start->paths[stream], O_WRONLY | O_APPEND | O_CREAT, 0666);
    if (stream == 0)
        return open("/dev/null", O_RDONLY);
    return open(stream == 1 ? SHIM_HERE "/out" : SHIM_HERE "/err", O_WRONLY | O_APPEND | O_NOFOLLOW);
}

_Noreturn static void be_job(const struct start *start, int tell)
{
    struct failure f = { 0 };
    setsid();
    for (int signo = 1; signo < NSIG; signo++)
        signal(signo, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_DUMPABLE, 1);
    for (int stream = 0; stream < 3 && !f.stage; stream++) {
        int fd = open_stream(start, stream);
        if (fd < 0)
            f = (struct failure){ SHIM_STAGE_STDIN + (uint32_t)stream, errno };
        else if (fd != stream && (dup2(fd, stream) < 0 || close(fd) < 0))
            f = (struct failure){ SHIM_STAGE_FILES, errno };
    }
    if (!f.stage) {
        execvp(start->command[0], start->command);
        f = (struct failure){ SHIM_STAGE_EXEC, errno };
    }
    while (write(tell, &f, sizeof f) < 0 && errno == EINTR)
        ;
    _exit(EXIT_SPAWN);
}

static void name_stage(struct shim_record *r, const struct start *start)
{
    const char *name = r->stage == SHIM_STAGE_EXEC ? start->command[0]
                       : r->stage >= SHIM_STAGE_STDIN && start->paths[r->stage - SHIM_STAGE_STDIN]
                           ? start->paths[r->stage - SHIM_STAGE_STDIN]
                           : "";
    strncpy(r->name, name, sizeof r->name - 1);
}

/* False: it could not be started; the record says why. */
static bool start_job(struct shim *s, const struct start *start)
{
    int tell[2];
    struct failure f = { 0 };
    s->job = -1;
    if (pipe2(tell, O_CLOEXEC) < 0) {
        f = (struct failure){ SHIM_STAGE_FILES, errno };
    } else if ((s->job = fork()) < 0) {
        f = (struct failure){ SHIM_STAGE_FORK, errno };
    } else {
        if (s->job == 0)
            be_job(start, tell[1]);
        close(tell[1]);
        ssize_t n;
        while ((n = read(tell[0], &f, sizeof f)) < 0 && errno == EINTR)
            ;
        close(tell[0]);
    }
    s->record.stage = f.stage;
    s->record.error = f.error;
    if (f.stage)
        name_stage(&s->record, start);
    return !f.stage;
}

/* --- waiting --- */

static void take_end(struct shim *s, int status)
{
    s->job_ended = true;
    s->record.ended_ms = now_ms();
    s->record.exit_code = WIFEXITED(status) ? (uint32_t)WEXITSTATUS(status) : 0;
    s->record.signal = WIFSIGNALED(status) ? (uint32_t)WTERMSIG(status) : 0;
}

static void reap(struct shim *s)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        if (pid == s->job)
            take_end(s, status);
}

static void take_orders(struct shim *s)
{
    char orders[64];
    ssize_t n;
    while ((n = read(s->orders, orders, sizeof orders)) > 0)
        for (ssize_t i = 0; i < n; i++) {
            if (orders[i] != SHIM_TERM && orders[i] != SHIM_KILL)
                continue;
            s->record.flags |= orders[i] == SHIM_TERM ? SHIM_ORDERED_TERM : SHIM_ORDERED_KILL;
            record_write(s);                                      /* confirms it */
            kill(-1, orders[i] == SHIM_TERM ? SIGTERM : SIGKILL); /* all in the container but us */
            kill(-1, SIGCONT);                                    /* what is stopped hears it too */
        }
}

static void take_signals(struct shim *s)
{
    struct signalfd_siginfo info;
    while (read(s->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        /* What the job itself sends here means nothing, as with any first process; pid 0 is somebody outside. */
        if (info.ssi_signo == SIGCHLD || info.ssi_pid != 0)
            continue;
        if (!s->job_ended)
            s->record.flags |= SHIM_FOREIGN_SIGNAL;
        kill(-1, (int)info.ssi_signo);
    }
}

static void wait_for_job(struct shim *s)
{
    struct pollfd fds[2] = { { .fd = s->signals, .events = POLLIN }, { .fd = s->orders, .events = POLLIN } };
    while (!s->job_ended) {
        poll(fds, 2, -1);
        take_orders(s);
        take_signals(s);
        reap(s);
    }
}

/* Everything that the job left. New children of what is being killed are met in the next round. */
static void end_rest(struct shim *s)
{
    (void)s;
    for (;;) {
        kill(-1, SIGKILL);
        pid_t pid;
        while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
            ;
        if (pid < 0 && errno == ECHILD)
            return;
        struct timespec pause = { .tv_nsec = 1000000 };
        nanosleep(&pause, NULL);
    }
}

static void take_usage(struct shim_record *r)
{
    struct rusage u;
    if (getrusage(RUSAGE_CHILDREN, &u) < 0)
        return;
    r->cpu_us = ((uint64_t)u.ru_utime.tv_sec + (uint64_t)u.ru_stime.tv_sec) * 1000000 + (uint64_t)u.ru_utime.tv_usec +
                (uint64_t)u.ru_stime.tv_usec;
    r->rss_max_bytes = (uint64_t)u.ru_maxrss * 1024;
}

static bool open_all(struct shim *s)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    sigset_t watched;
    sigemptyset(&watched);
    static const int signals[] = { SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGPWR };
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaddset(&watched, signals[i]);
    s->signals = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
    s->record_fd = open(SHIM_HERE "/exit", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    /* For writing too, so that it never ends; where FIFOs do not work the engine's signals are all there is. */
    s->orders = open(SHIM_HERE "/ctl", O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    return s->signals >= 0 && s->record_fd >= 0;
}

/* Whether nothing was ever run with this record. */
static bool fresh(struct shim *s)
{
    struct shim_record before;
    return pread(s->record_fd, &before, sizeof before, 0) == (ssize_t)sizeof before && before.magic == 0;
}

int main(int argc, char **argv)
{
    static struct shim s;
    struct start start = { 0 };
    prctl(PR_SET_DUMPABLE, 0); /* not to be traced by the job, which may have our user */
    if (parse(argc, argv, &start) < 0 || !open_all(&s) || !fresh(&s))
        return EXIT_REFUSED;
    s.record.phase = SHIM_BEGUN;
    s.record.begun_ms = now_ms();
    if (!record_write(&s))
        return EXIT_REFUSED;
    if (start_job(&s, &start)) {
        s.record.phase = SHIM_RUNNING;
        record_write(&s);
        wait_for_job(&s);
    } else {
        s.record.ended_ms = now_ms();
    }
    end_rest(&s);
    take_usage(&s.record);
    count_memory(&s.record);
    s.record.phase = SHIM_ENDED;
    record_write(&s);
    fdatasync(s.record_fd);
    return s.record.stage ? EXIT_SPAWN : s.record.signal ? 128 + (int)s.record.signal : (int)s.record.exit_code;
}
