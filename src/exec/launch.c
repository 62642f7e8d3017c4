#include "exec/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <linux/close_range.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
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
    STAGE_OUTPUT,
    STAGE_USER,
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
    bool inside; /* started in its v2 group */
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

static int join_cgroups(const struct child *c)
{
    const struct launch_plan *p = c->plan;
    for (int i = 0; i < LAUNCH_TREES; i++)
        if (p->cgroup_tasks[i] >= 0 && write(p->cgroup_tasks[i], "0", 1) != 1)
            return -1;
    if (p->cgroup < 0 || c->inside)
        return 0;
    int procs = openat(p->cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    if (procs < 0)
        return -1;
    ssize_t written = write(procs, "0", 1);
    close(procs);
    return written == 1 ? 0 : -1;
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
    if (p->file_bytes_max && setrlimit(RLIMIT_FSIZE, &(struct rlimit){ p->file_bytes_max, p->file_bytes_max }) < 0)
        return -1;
    if (p->cpus && sched_setaffinity(0, sizeof *p->cpus, p->cpus) < 0)
        return -1;
    return setrlimit(RLIMIT_NOFILE, &p->files_max);
}

/* The order is that of the guarantees: groups, group, user, each checked, then what is true is looked at. By system call: the C
 * library would have all threads of the nursery, whose memory this is, change with us. */
static int become(const struct launch_plan *p)
{
    uid_t uids[3];
    gid_t gids[3];
    if (!p->run_as)
        return 0;
    if (syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC) < 0 && errno != ENOSYS)
        return -1;
    for (int capability = 0; prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0; capability++)
        ;
    if (errno != EINVAL) /* beyond the last one */
        return -1;
    if (syscall(SYS_setgroups, p->groups_count, p->groups) < 0 || syscall(SYS_setresgid, p->gid, p->gid, p->gid) < 0 ||
        syscall(SYS_setresuid, p->uid, p->uid, p->uid) < 0)
        return -1;
    if (syscall(SYS_getresuid, &uids[0], &uids[1], &uids[2]) < 0 || syscall(SYS_getresgid, &gids[0], &gids[1], &gids[2]) < 0)
        return -1;
    for (int i = 0; i < 3; i++)
        if (uids[i] != p->uid || gids[i] != p->gid) {
            errno = EPERM;
            return -1;
        }
    if (p->uid != 0 && syscall(SYS_setuid, 0) == 0) {
        errno = ENOTRECOVERABLE; /* root could be had again */
        return -1;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -1;
    umask(077);
    return 0;
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

static int open_log(const struct launch_plan *p, int stream)
{
    if (!(p->own_streams & (1u << stream)))
        return 0;
    int fd = openat(p->logs_dir, p->output_paths[stream], O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    /* Its own, so that it can be opened again as /dev/stderr; no other user comes by its directory. */
    if (fd < 0 || (p->run_as && fchown(fd, p->uid, p->gid) < 0))
        return -1;
    return dup2(fd, stream + 1);
}

static int redirect_output(const struct launch_plan *p, int stream)
{
    if (p->own_streams & (1u << stream))
        return 0;
    int fd = open_given(p->output_paths[stream], O_WRONLY | O_CREAT | O_APPEND);
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
    STEP(STAGE_CGROUP, join_cgroups(c)); /* before anything that is the job's */
    STEP(STAGE_SESSION, setsid());
    STEP(STAGE_LIMITS, set_limits(p));
    STEP(STAGE_OUTPUT, open_log(p, 0));
    STEP(STAGE_OUTPUT, open_log(p, 1));
    STEP(STAGE_USER, become(p)); /* nothing that the job names is touched before */
    if (p->ends_with_us)
        STEP(STAGE_LIMITS, prctl(PR_SET_PDEATHSIG, SIGKILL));
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
        [STAGE_LIMITS] = "limits",        [STAGE_OUTPUT] = "output file",
        [STAGE_USER] = "change to the user", [STAGE_WORKDIR] = "working directory",
        [STAGE_STDIN] = "stdin",          [STAGE_STDOUT] = "stdout",
        [STAGE_STDERR] = "stderr",        [STAGE_EXEC] = "command",
    };
    const char *names[] = {
        [STAGE_WORKDIR] = p->workdir,        [STAGE_STDIN] = p->stdin_path, [STAGE_STDOUT] = p->output_paths[0],
        [STAGE_STDERR] = p->output_paths[1], [STAGE_EXEC] = p->argv[0],
    };
    if (c->stage < STAGE_WORKDIR || out_of_resources(c->error))
        launch_failure_set(f, REASON_INFRA, subjects[c->stage], names[c->stage], c->error);
    else if (c->stage == STAGE_EXEC)
        explain_exec(c, f);
    else
        launch_failure_set(f, REASON_SPAWN, subjects[c->stage], names[c->stage], c->error);
}

/* The C library has no clone3 that runs a function on a stack of its own. fn never returns. */
static pid_t clone3_call(const struct clone_args *args, int (*fn)(void *), void *arg)
{
#if defined __x86_64__
    long result;
    register int (*child_fn)(void *) __asm__("r8") = fn;
    register void *child_arg __asm__("r9") = arg;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "mov %%r9, %%rdi\n\t"
                     "call *%%r8\n\t"
                     "hlt\n"
                     "1:"
                     : "=a"(result)
                     : "a"((long)SYS_clone3), "D"(args), "S"(sizeof *args), "r"(child_fn), "r"(child_arg)
                     : "rcx", "r11", "memory");
#elif defined __aarch64__
    register long result __asm__("x0") = (long)args;
    register long size __asm__("x1") = sizeof *args;
    register long number __asm__("x8") = SYS_clone3;
    register int (*child_fn)(void *) __asm__("x9") = fn;
    register void *child_arg __asm__("x10") = arg;
    __asm__ volatile("svc #0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x29, #0\n\t"
                     "mov x0, x10\n\t"
                     "blr x9\n\t"
                     "brk #1\n"
                     "1:"
                     : "+r"(result)
                     : "r"(size), "r"(number), "r"(child_fn), "r"(child_arg)
                     : "memory");
#else
    long result = -ENOSYS;
#endif
    if (result >= 0)
        return (pid_t)result;
    errno = (int)-result;
    return -1;
}

/* Whether clone3 cannot be had at all: an old kernel, or a filter of system calls that hides it. */
static bool no_clone3(int error)
{
    return error == ENOSYS || error == EPERM || error == E2BIG || error == EINVAL;
}

static pid_t clone_child(struct child *c)
{
    static char stack[CHILD_STACK_BYTES] __attribute__((aligned(16)));
    static bool unknown; /* asked once; the nursery has one thread that spawns */
    if (c->plan->cgroup >= 0 && !unknown) {
        struct clone_args args = {
            .flags = CLONE_VM | CLONE_VFORK | CLONE_INTO_CGROUP,
            .exit_signal = SIGCHLD,
            .stack = (uintptr_t)stack,
            .stack_size = sizeof stack,
            .cgroup = (uint64_t)c->plan->cgroup,
        };
        c->inside = true;
        pid_t pid = clone3_call(&args, child_main, c);
        if (pid > 0 || !no_clone3(errno))
            return pid;
        unknown = true;
    }
    c->inside = false;
    return clone(child_main, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, c);
}

pid_t launch_process(const struct launch_plan *plan, struct launch_failure *failure)
{
    char found[PATH_MAX];
    const char *program = find_program(plan, found, failure);
    if (!program)
        return -1;
    struct child c = { .plan = plan, .program = program };
    pid_t pid = clone_child(&c);
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
