#include "exec/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"

#define PATH_DEFAULT "/usr/local/bin:/usr/bin:/bin"
#define CHILD_STACK_BYTES (256 * 1024)

/* What the child was about to do when it failed. */
enum stage {
    STAGE_CGROUP,
    STAGE_SESSION,
    STAGE_LIMITS,
    STAGE_WORKDIR,
    STAGE_STDIN,
    STAGE_STDOUT,
    STAGE_STDERR,
    STAGE_EXEC
};

/* Shared with the child, which runs in our memory until exec. */
struct child {
    const struct launch_plan *plan;
    const char *program;
    enum stage stage;
    int error; /* 0: it has come to exec */
};

void launch_failure_set(struct launch_failure *f, enum reason reason, const char *subject, const char *name, int error)
{
    f->reason = reason;
    if (name)
        snprintf(f->text, sizeof f->text, "%s \"%.100s\": %s", subject, name, strerror(error));
    else
        snprintf(f->text, sizeof f->text, "%s: %s", subject, strerror(error));
    for (char *c = f->text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
}

static int join_cgroups(const struct launch_plan *p)
{
    for (int i = 0; i < 2; i++)
        if (p->cgroups[i] >= 0 && write(p->cgroups[i], "0", 1) != 1)
            return -1;
    return 0;
}

/* Some systems forbid it; that is no reason not to run. */
static void set_oom_score(const char *text)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    ssize_t written = fd < 0 ? 0 : write(fd, text, strlen(text));
    (void)written;
    if (fd >= 0)
        close(fd);
}

static int set_limits(const struct launch_plan *p)
{
    if (p->oom_score_adj)
        set_oom_score(p->oom_score_adj);
    return setrlimit(RLIMIT_NOFILE, &p->files_max);
}

/* Opens a path that a user gave: without waiting for the other side of a pipe, which would stop every other start. */
static int open_given(const char *path, int flags)
{
    int fd = open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0644);
    if (fd < 0)
        return -1;
    int status = fcntl(fd, F_GETFL);
    return status < 0 || fcntl(fd, F_SETFL, status & ~O_NONBLOCK) < 0 ? -1 : fd;
}

static int redirect_input(const struct launch_plan *p)
{
    if (!p->stdin_path)
        return 0;
    int fd = open_given(p->stdin_path, O_RDONLY);
    return fd < 0 ? -1 : dup2(fd, STDIN_FILENO);
}

static int redirect_output(const struct launch_plan *p, int stream)
{
    const char *path = p->output_paths[stream];
    int fd = p->own_streams & (1u << stream)
                 ? openat(p->logs_dir, path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600)
                 : open_given(path, O_WRONLY | O_CREAT | O_APPEND);
    return fd < 0 ? -1 : dup2(fd, stream + 1);
}

/* A script without #! is given to the shell, as execvp does. */
static void exec_program(struct child *c)
{
    char **argv = c->plan->argv;
    execve(c->program, argv, c->plan->env);
    if (errno != ENOEXEC)
        return;
    char *first = argv[0];
    argv[-1] = (char *)(uintptr_t) "sh";
    argv[0] = (char *)(uintptr_t)c->program;
    execve("/bin/sh", argv - 1, c->plan->env);
    argv[0] = first;
    errno = ENOEXEC;
}

#define STEP(step, call)                                                                                               \
    do {                                                                                                               \
        c->stage = step;                                                                                               \
        if ((call) < 0)                                                                                                \
            goto failed;                                                                                               \
    } while (0)

/* Runs in the memory of the nursery, which waits until exec or _exit: only system calls here.
 * Its frames lie on a stack of its own and are abandoned by exec, which a checker of stacks cannot know. */
__attribute__((no_sanitize("address", "undefined"))) static int child_main(void *arg)
{
    struct child *c = arg;
    const struct launch_plan *p = c->plan;
    sigset_t none;
    STEP(STAGE_CGROUP, join_cgroups(p)); /* before anything that is the job's */
    STEP(STAGE_SESSION, setsid());
    STEP(STAGE_LIMITS, set_limits(p));
    if (p->workdir)
        STEP(STAGE_WORKDIR, chdir(p->workdir));
    STEP(STAGE_STDIN, redirect_input(p));
    STEP(STAGE_STDOUT, redirect_output(p, 0));
    STEP(STAGE_STDERR, redirect_output(p, 1));
    sigemptyset(&none);
    STEP(STAGE_EXEC, sigprocmask(SIG_SETMASK, &none, NULL));
    exec_program(c);
failed:
    c->error = errno ? errno : EIO;
    _exit(127);
}

static const char *variable(char *const *env, const char *name)
{
    size_t length = strlen(name);
    for (; *env; env++)
        if (strncmp(*env, name, length) == 0 && (*env)[length] == '=')
            return *env + length + 1;
    return NULL;
}

/* `path` as the job will see it: relative ones from its working directory. */
static bool from_workdir(const struct launch_plan *p, const char *path, char *out, size_t size)
{
    int n =
        *path == '/' || !p->workdir ? snprintf(out, size, "%s", path) : snprintf(out, size, "%s/%s", p->workdir, path);
    return n >= 0 && n < (int)size;
}

static bool is_program(const struct launch_plan *p, const char *path, int *error)
{
    char place[PATH_MAX];
    struct stat st;
    if (!from_workdir(p, path, place, sizeof place))
        return false;
    if (faccessat(AT_FDCWD, place, X_OK, AT_EACCESS) < 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            *error = errno;
        return false;
    }
    return stat(place, &st) == 0 && S_ISREG(st.st_mode);
}

/* Finds the program in the job's PATH, before there is a process. */
static const char *find_program(const struct launch_plan *p, char found[PATH_MAX], struct launch_failure *f)
{
    const char *name = p->argv[0], *path = variable(p->env, "PATH");
    if (strchr(name, '/'))
        return name;
    int error = ENOENT;
    for (const char *at = path ? path : PATH_DEFAULT; *name && at;) {
        size_t length = strcspn(at, ":");
        if (snprintf(found, PATH_MAX, "%.*s/%s", length ? (int)length : 1, length ? at : ".", name) < PATH_MAX &&
            is_program(p, found, &error))
            return found;
        at = at[length] ? at + length + 1 : NULL;
    }
    launch_failure_set(f, REASON_SPAWN, error == ENOENT ? "command not found in PATH" : "command", name, error);
    if (error == ENOENT)
        *strrchr(f->text, ':') = 0; /* says it already */
    return NULL;
}

static bool out_of_resources(int error)
{
    return error == EAGAIN || error == ENOMEM || error == EMFILE || error == ENFILE || error == ENOSPC ||
           error == EIO || error == EDQUOT;
}

/* exec says ENOENT for a missing interpreter too, and EACCES for a directory. */
static void explain_exec(const struct child *c, struct launch_failure *f)
{
    char place[PATH_MAX];
    struct stat st;
    const char *name = c->plan->argv[0];
    bool there = from_workdir(c->plan, c->program, place, sizeof place) && stat(place, &st) == 0;
    if (c->error == EACCES && there && S_ISDIR(st.st_mode))
        launch_failure_set(f, REASON_SPAWN, "command", name, EISDIR);
    else if (c->error == ENOENT && there)
        launch_failure_set(f, REASON_SPAWN, "interpreter (first line) of command", name, ENOENT);
    else if (c->error == EACCES && there && !(st.st_mode & 0111))
        launch_failure_set(f, REASON_SPAWN, "command is not executable", name, EACCES);
    else
        launch_failure_set(f, REASON_SPAWN, "command", name, c->error);
}

static void explain(const struct child *c, struct launch_failure *f)
{
    const struct launch_plan *p = c->plan;
    static const char *const subjects[] = {
        [STAGE_CGROUP] = "control group", [STAGE_SESSION] = "session",
        [STAGE_LIMITS] = "limits",        [STAGE_WORKDIR] = "working directory",
        [STAGE_STDIN] = "stdin",          [STAGE_STDOUT] = "stdout",
        [STAGE_STDERR] = "stderr",        [STAGE_EXEC] = "command",
    };
    const char *names[] = {
        [STAGE_WORKDIR] = p->workdir,        [STAGE_STDIN] = p->stdin_path, [STAGE_STDOUT] = p->output_paths[0],
        [STAGE_STDERR] = p->output_paths[1], [STAGE_EXEC] = p->argv[0],
    };
    bool own = (c->stage == STAGE_STDOUT && p->own_streams & 1) || (c->stage == STAGE_STDERR && p->own_streams & 2);
    if (c->stage < STAGE_WORKDIR || own || out_of_resources(c->error))
        launch_failure_set(f, REASON_INFRA, subjects[c->stage], names[c->stage], c->error);
    else if (c->stage == STAGE_EXEC)
        explain_exec(c, f);
    else
        launch_failure_set(f, REASON_SPAWN, subjects[c->stage], names[c->stage], c->error);
}

pid_t launch_process(const struct launch_plan *plan, struct launch_failure *failure)
{
    static char stack[CHILD_STACK_BYTES] __attribute__((aligned(16)));
    char found[PATH_MAX];
    const char *program = find_program(plan, found, failure);
    if (!program)
        return -1;
    struct child c = { .plan = plan, .program = program };
    pid_t pid = clone(child_main, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &c);
    if (pid < 0) {
        launch_failure_set(failure, REASON_INFRA, "new process", NULL, errno);
        return -1;
    }
    if (!c.error)
        return pid;
    /* It has said why and is gone: only its number is left to be given back. */
    int status;
    check(waitpid(pid, &status, 0) == pid);
    explain(&c, failure);
    return -1;
}
