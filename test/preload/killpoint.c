/* killpoint.so, for LD_PRELOAD: ends a process with SIGKILL at its k-th call that others could see, or makes calls fail.
 *
 * Counted are the calls by which a process changes the world outside: writes, syncs, names, sizes, messages, new processes,
 * signals. Two calls of one thread with none of these between them leave the same world behind, so kills at every counted
 * call are kills at every instant that matters.
 *
 *   KILLPOINT_ROLE=WORD   only the process whose first argument is WORD (master, worker, __nursery); needed
 *   KILLPOINT_FILE=PATH   needed: struct point below, shared by the process and what it forks; made when it is not there. It says
 *                         how many calls there were and, once somebody was killed, at which. Then no more is done
 *                         here: what is started again with the same environment lives.
 *   KILLPOINT_AT=K        kill at call K, counted from 1: K % 3 == 0 before the call, 1 after it, 2 in the middle of a write:
 *                         half of its bytes are written (other calls: before)
 *   KILLPOINT_MODE=M      before, after or half, for every K
 *   FAULT_CALL=NAME FAULT_AT=K FAULT_COUNT=N FAULT_ERRNO=E    calls K to K + N - 1 of this name fail with E and do nothing
 *   FAULT_DELAY_MS=T      with FAULT_CALL: they do not fail, they come late by so much
 *
 * A child that shares memory with its parent until it executes something else (vfork) is not the process: its calls pass. */
/* Programs call the functions for large files by both their names: here they are different ones. */
#undef _FILE_OFFSET_BITS
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct point {
    _Atomic uint64_t calls;       /* so far */
    _Atomic uint64_t faults;      /* calls of the name FAULT_CALL so far */
    _Atomic uint64_t killed_at;   /* 0: nobody yet */
    char killed_in[32], how[16];
};

enum mode { MODE_ANY, MODE_BEFORE, MODE_AFTER, MODE_HALF };

static struct point *point;
static pid_t self;
static uint64_t kill_at, fault_at, fault_count, fault_delay_ms;
static int fault_errno;
static const char *fault_call;
static enum mode mode_given;

static uint64_t number(const char *name, uint64_t fallback)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 10) : fallback;
}

static int is_role(const char *role)
{
    char line[4096];
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, line, sizeof line - 1);
    if (fd >= 0)
        close(fd);
    if (size <= 0)
        return 0;
    line[size] = 0;
    size_t first = strlen(line) + 1;
    return first < (size_t)size && strcmp(line + first, role) == 0;
}

static void forked(void) { self = getpid(); }

/* A nursery makes its children by a bare clone3, which no library sees. Where there is none it uses the function clone. */
static int hide_clone3(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof code / sizeof *code, code };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

__attribute__((constructor)) static void begin(void)
{
    const char *role = getenv("KILLPOINT_ROLE"), *path = getenv("KILLPOINT_FILE"), *mode = getenv("KILLPOINT_MODE");
    if (!role || !path || !is_role(role))
        return;
    kill_at = number("KILLPOINT_AT", 0);
    fault_call = getenv("FAULT_CALL");
    fault_at = number("FAULT_AT", 1);
    fault_count = number("FAULT_COUNT", 1);
    fault_errno = (int)number("FAULT_ERRNO", EIO);
    fault_delay_ms = number("FAULT_DELAY_MS", 0);
    if (mode)
        mode_given = *mode == 'b' ? MODE_BEFORE : *mode == 'a' ? MODE_AFTER : MODE_HALF;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof *point) < 0)
        _exit(99);
    struct point *p = mmap(NULL, sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p == MAP_FAILED || pthread_atfork(NULL, NULL, forked) != 0)
        _exit(99);
    if (strcmp(role, "__nursery") == 0 && hide_clone3() < 0)
        _exit(99);
    if (!atomic_load(&p->killed_at))
        atomic_store(&p->calls, 0);
    self = getpid();
    point = p;
}

static _Noreturn void die(uint64_t k, const char *name, const char *how)
{
    snprintf(point->killed_in, sizeof point->killed_in, "%s", name);
    snprintf(point->how, sizeof point->how, "%s", how);
    atomic_store(&point->killed_at, k);
    int (*real)(pid_t, int) = (int (*)(pid_t, int))(uintptr_t)dlsym(RTLD_NEXT, "kill");
    real(self, SIGKILL);
    for (;;)
        pause();
}

/* What is to be done at this call. When it is to die before it, it does. */
enum turn { TURN_PASS, TURN_DIE_AFTER, TURN_HALF, TURN_FAIL };

static enum turn turn_of(const char *name, uint64_t *k)
{
    if (!point || atomic_load(&point->killed_at) || getpid() != self)
        return TURN_PASS;
    if (fault_call && strcmp(fault_call, name) == 0) {
        uint64_t n = atomic_fetch_add(&point->faults, 1) + 1;
        int struck = n >= fault_at && n - fault_at < fault_count;
        if (struck && !fault_delay_ms)
            return TURN_FAIL;
        if (struck)
            usleep((useconds_t)fault_delay_ms * 1000);
    }
    *k = atomic_fetch_add(&point->calls, 1) + 1;
    if (!kill_at || *k != kill_at)
        return TURN_PASS;
    enum mode mode = mode_given ? mode_given : (enum mode)(*k % 3 + 1);
    if (mode == MODE_AFTER)
        return TURN_DIE_AFTER;
    if (mode == MODE_HALF)
        return TURN_HALF;
    die(*k, name, "before");
}

#define REAL(type, name, params)                                                \
    static type(*real) params;                                                  \
    if (!real)                                                                  \
        real = (type(*) params)(uintptr_t)dlsym(RTLD_NEXT, #name)

/* CALL(type, name, params, args): a call that is whole or not at all. */
#define CALL(type, name, params, args)                                          \
    __attribute__((visibility("default"))) type name params                     \
    {                                                                           \
        REAL(type, name, params);                                               \
        uint64_t k = 0;                                                         \
        enum turn turn = turn_of(#name, &k);                                    \
        if (turn == TURN_FAIL) {                                                \
            errno = fault_errno;                                                \
            return (type)-1;                                                    \
        }                                                                       \
        if (turn == TURN_HALF)                                                  \
            die(k, #name, "before");                                            \
        type result = real args;                                                \
        if (turn == TURN_DIE_AFTER)                                             \
            die(k, #name, "after");                                             \
        return result;                                                          \
    }

/* WRITE: the same, of `size` bytes; half of them can be written. */
#define WRITE(name, params, args, half_args)                                    \
    __attribute__((visibility("default"))) ssize_t name params                  \
    {                                                                           \
        REAL(ssize_t, name, params);                                            \
        uint64_t k = 0;                                                         \
        enum turn turn = turn_of(#name, &k);                                    \
        if (turn == TURN_FAIL) {                                                \
            errno = fault_errno;                                                \
            return -1;                                                          \
        }                                                                       \
        if (turn == TURN_HALF) {                                                \
            if (size > 1)                                                       \
                real half_args;                                                 \
            die(k, #name, "half");                                              \
        }                                                                       \
        ssize_t result = real args;                                             \
        if (turn == TURN_DIE_AFTER)                                             \
            die(k, #name, "after");                                             \
        return result;                                                          \
    }

WRITE(write, (int fd, const void *data, size_t size), (fd, data, size), (fd, data, size / 2))
WRITE(pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at), (fd, data, size / 2, at))
WRITE(pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at), (fd, data, size / 2, at))
WRITE(send, (int fd, const void *data, size_t size, int flags), (fd, data, size, flags), (fd, data, size / 2, flags))
CALL(ssize_t, writev, (int fd, const struct iovec *parts, int count), (fd, parts, count))
CALL(ssize_t, pwritev, (int fd, const struct iovec *parts, int count, off_t at), (fd, parts, count, at))
CALL(ssize_t, pwritev64, (int fd, const struct iovec *parts, int count, off64_t at), (fd, parts, count, at))
CALL(ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags))
CALL(ssize_t, sendto, (int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t to_size),
     (fd, data, size, flags, to, to_size))
CALL(int, connect, (int fd, const struct sockaddr *to, socklen_t size), (fd, to, size))
CALL(int, bind, (int fd, const struct sockaddr *to, socklen_t size), (fd, to, size))
CALL(int, fsync, (int fd), (fd))
CALL(int, fdatasync, (int fd), (fd))
CALL(int, ftruncate, (int fd, off_t size), (fd, size))
CALL(int, ftruncate64, (int fd, off64_t size), (fd, size))
CALL(int, fallocate, (int fd, int how, off_t at, off_t size), (fd, how, at, size))
CALL(int, fallocate64, (int fd, int how, off64_t at, off64_t size), (fd, how, at, size))
CALL(int, rename, (const char *from, const char *to), (from, to))
CALL(int, renameat, (int from_dir, const char *from, int to_dir, const char *to), (from_dir, from, to_dir, to))
CALL(int, renameat2, (int from_dir, const char *from, int to_dir, const char *to, unsigned flags),
     (from_dir, from, to_dir, to, flags))
CALL(int, unlink, (const char *path), (path))
CALL(int, unlinkat, (int dir, const char *path, int flags), (dir, path, flags))
CALL(int, linkat, (int from_dir, const char *from, int to_dir, const char *to, int flags), (from_dir, from, to_dir, to, flags))
CALL(int, mkdir, (const char *path, mode_t mode), (path, mode))
CALL(int, mkdirat, (int dir, const char *path, mode_t mode), (dir, path, mode))
CALL(int, fchmod, (int fd, mode_t mode), (fd, mode))
CALL(int, kill, (pid_t pid, int signo), (pid, signo))
CALL(pid_t, fork, (void), ())

/* posix_fallocate and posix_spawn return what went wrong. */
#define RETURNS_ERROR(name, params, args)                                       \
    __attribute__((visibility("default"))) int name params                      \
    {                                                                           \
        REAL(int, name, params);                                                \
        uint64_t k = 0;                                                         \
        enum turn turn = turn_of(#name, &k);                                    \
        if (turn == TURN_FAIL)                                                  \
            return fault_errno;                                                 \
        if (turn == TURN_HALF)                                                  \
            die(k, #name, "before");                                            \
        int result = real args;                                                 \
        if (turn == TURN_DIE_AFTER)                                             \
            die(k, #name, "after");                                             \
        return result;                                                          \
    }
RETURNS_ERROR(posix_fallocate, (int fd, off_t at, off_t size), (fd, at, size))
RETURNS_ERROR(posix_fallocate64, (int fd, off64_t at, off64_t size), (fd, at, size))
RETURNS_ERROR(posix_spawn,
              (pid_t *restrict pid, const char *restrict path, const posix_spawn_file_actions_t *actions,
               const posix_spawnattr_t *restrict attributes, char *const argv[restrict], char *const env[restrict]),
              (pid, path, actions, attributes, argv, env))

/* Opening counts when it may make or change a file. */
#define OPEN(name, params, pass, args)                                          \
    __attribute__((visibility("default"))) int name params                      \
    {                                                                           \
        REAL(int, name, pass);                                                  \
        mode_t mode = 0;                                                        \
        if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) {              \
            va_list list;                                                       \
            va_start(list, flags);                                              \
            mode = va_arg(list, mode_t);                                        \
            va_end(list);                                                       \
        }                                                                       \
        uint64_t k = 0;                                                         \
        enum turn turn = flags & (O_CREAT | O_TRUNC) ? turn_of(#name, &k) : TURN_PASS; \
        if (turn == TURN_FAIL) {                                                \
            errno = fault_errno;                                                \
            return -1;                                                          \
        }                                                                       \
        if (turn == TURN_HALF)                                                  \
            die(k, #name, "before");                                            \
        int result = real args;                                                 \
        if (turn == TURN_DIE_AFTER)                                             \
            die(k, #name, "after");                                             \
        return result;                                                          \
    }
OPEN(open, (const char *path, int flags, ...), (const char *, int, ...), (path, flags, mode))
OPEN(open64, (const char *path, int flags, ...), (const char *, int, ...), (path, flags, mode))
OPEN(openat, (int dir, const char *path, int flags, ...), (int, const char *, int, ...), (dir, path, flags, mode))
OPEN(openat64, (int dir, const char *path, int flags, ...), (int, const char *, int, ...), (dir, path, flags, mode))

/* The child runs `start` and does not come back here. */
__attribute__((visibility("default"))) int clone(int (*start)(void *), void *stack, int flags, void *arg, ...)
{
    REAL(int, clone, (int (*)(void *), void *, int, void *, ...));
    uint64_t k = 0;
    enum turn turn = turn_of("clone", &k);
    if (turn == TURN_FAIL) {
        errno = fault_errno;
        return -1;
    }
    if (turn == TURN_HALF)
        die(k, "clone", "before");
    va_list list;
    va_start(list, arg);
    pid_t *parent_tid = flags & (CLONE_PARENT_SETTID | CLONE_PIDFD) ? va_arg(list, pid_t *) : NULL;
    void *tls = flags & CLONE_SETTLS ? va_arg(list, void *) : NULL;
    pid_t *child_tid = flags & (CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID) ? va_arg(list, pid_t *) : NULL;
    va_end(list);
    int result = real(start, stack, flags, arg, parent_tid, tls, child_tid);
    if (turn == TURN_DIE_AFTER)
        die(k, "clone", "after");
    return result;
}
