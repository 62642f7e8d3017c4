#include "exec/nursery.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "exec/nursery_state.h"
#include "io/clock.h"
#include "obs/log.h"

#define IDLE_MS_MAX 60000
#define OWN_OOM_SCORE_ADJ "-900"
#define EXIT_STALE 75

/* Opens a directory below `dir`, made if it is not there. */
static int directory(int dir, const char *name)
{
    if (mkdirat(dir, name, 0700) < 0 && errno != EEXIST)
        return -1;
    return openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int take_lock(struct nursery *n, struct err *err)
{
    n->lock = openat(n->state_dir, NURSERY_LOCK, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (n->lock < 0)
        return err_errno(err, NURSERY_LOCK);
    if (flock(n->lock, LOCK_EX | LOCK_NB) < 0)
        return err_set(err, ERR_LOCKED, "busy");
    char text[16];
    int size = snprintf(text, sizeof text, "%d\n", (int)getpid());
    if (ftruncate(n->lock, 0) < 0 || pwrite(n->lock, text, (size_t)size, 0) != size)
        return err_errno(err, NURSERY_LOCK);
    return 0;
}

static int open_directories(struct nursery *n, const char *state_dir, struct err *err)
{
    n->state_dir = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (n->state_dir < 0)
        return err_errno(err, "%s", state_dir);
    n->logs_dir = directory(n->state_dir, "logs");
    autoclose int slots = n->logs_dir < 0 ? -1 : directory(n->logs_dir, "slots");
    autoclose int scratch = slots < 0 ? -1 : directory(n->state_dir, "scratch");
    /* A job without a working directory of its own is started in ours. */
    if (scratch < 0 || fchdir(scratch) < 0)
        return err_errno(err, "%s/logs or scratch", state_dir);
    return 0;
}

/* The address of the socket: through /proc, as the path of a state directory may be longer than sun_path. */
static int listen_on(struct nursery *n, struct err *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/" NURSERY_SOCKET, n->state_dir);
    unlinkat(n->state_dir, NURSERY_SOCKET, 0); /* of one that died: we hold the lock */
    n->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t mask = umask(0177);
    int bound = n->listener < 0 ? -1 : bind(n->listener, (struct sockaddr *)&address, sizeof address);
    umask(mask);
    if (bound < 0 || listen(n->listener, 8) < 0)
        return err_errno(err, NURSERY_SOCKET);
    return 0;
}

static int poll_add(struct nursery *n, int fd)
{
    struct epoll_event ev = { .events = EPOLLIN, .data.fd = fd };
    return epoll_ctl(n->epoll, EPOLL_CTL_ADD, fd, &ev);
}

static int open_polls(struct nursery *n, struct err *err)
{
    sigset_t children;
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    n->signals = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
    n->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (n->signals < 0 || n->epoll < 0 || poll_add(n, n->signals) < 0 || poll_add(n, n->listener) < 0 ||
        poll_add(n, n->log.done_fd) < 0)
        return err_errno(err, "epoll");
    return 0;
}

static void init_tables(struct nursery *n)
{
    ref_table_init(&n->refs, NURSERY_ATTEMPTS_MAX);
    n->attempts = mem_zero(NURSERY_ATTEMPTS_MAX, sizeof *n->attempts);
    n->slots = mem_zero(NURSERY_SLOTS_MAX, sizeof *n->slots);
    n->pid_buckets = mem_alloc(PID_BUCKETS * sizeof *n->pid_buckets);
    for (uint32_t i = 0; i < PID_BUCKETS; i++)
        n->pid_buckets[i] = REF_NONE;
    struct list_node *lists[] = { &n->free, &n->running,   &n->settling, &n->cooling,
                                  &n->tell, &n->undurable, &n->line,     &n->line_free };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        list_init(lists[i]);
    n->waiting = mem_zero(EXEC_LINE_MAX, sizeof *n->waiting);
    for (uint32_t i = 0; i < EXEC_LINE_MAX; i++)
        list_append(&n->line_free, &n->waiting[i].node);
    n->watch_ms = n->settle_ms = n->lazy_ms = n->sync_ms = INT64_MAX;
    n->worker = n->lock = n->state_dir = n->logs_dir = n->epoll = n->signals = n->listener = -1;
}

static int nursery_open(struct nursery *n, const char *state_dir, struct err *err)
{
    init_tables(n);
    if (open_directories(n, state_dir, err) < 0 || take_lock(n, err) < 0)
        return -(int)err->code;
    cgroup_home_open(&n->cgroups, state_dir);
    if (nursery_log_open(&n->log, n->state_dir, n->logs_dir, err) < 0 || nursery_recover(n, err) < 0 ||
        listen_on(n, err) < 0 || open_polls(n, err) < 0)
        return -(int)err->code;
    return 0;
}

static int timeout_of(const struct nursery *n)
{
    if (n->packet_open)
        return 0;
    const int64_t dues_ms[] = {
        n->watch_ms,
        n->settle_ms,
        n->leased ? n->lease_until_ms : INT64_MAX,
        n->greeted && !n->writing ? n->lazy_ms : INT64_MAX,
        n->log.syncing ? INT64_MAX : n->sync_ms,
        n->worker < 0 && n->busy_count == 0 ? n->idle_ms : INT64_MAX,
    };
    int64_t due_ms = INT64_MAX;
    for (size_t i = 0; i < sizeof dues_ms / sizeof *dues_ms; i++)
        if (dues_ms[i] < due_ms)
            due_ms = dues_ms[i];
    if (due_ms == INT64_MAX)
        return -1;
    return due_ms <= n->now_ms ? 0 : (int)(due_ms - n->now_ms);
}

static bool finished(struct nursery *n)
{
    int64_t now_ms = n->now_ms;
    bool quiet = n->busy_count == 0 && list_empty(&n->undurable) && !n->log.syncing;
    if (n->worker >= 0 || !quiet)
        n->idle_ms = now_ms + IDLE_MS_MAX;
    return quiet && (n->stopping || now_ms >= n->idle_ms);
}

static void ready(struct nursery *n, const struct epoll_event *ev)
{
    struct signalfd_siginfo info;
    if (ev->data.fd == n->signals)
        check(read(n->signals, &info, sizeof info) > 0 || errno == EAGAIN || errno == EINTR);
    else if (ev->data.fd == n->listener)
        nursery_worker_accept(n);
    else if (ev->data.fd == n->log.done_fd)
        nursery_synced(n);
    else if (ev->data.fd == n->worker && ev->events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        nursery_worker_read(n);
}

static void serve(struct nursery *n)
{
    struct epoll_event events[8];
    n->now_ms = clock_now_ms();
    n->idle_ms = n->now_ms + IDLE_MS_MAX;
    while (!finished(n)) {
        int count = epoll_wait(n->epoll, events, 8, timeout_of(n));
        check(count >= 0 || errno == EINTR);
        n->now_ms = clock_now_ms();
        nursery_fence(n);
        for (int i = 0; i < count; i++)
            ready(n, &events[i]);
        nursery_reap(n);
        nursery_settle(n);
        nursery_work(n);
        nursery_watch(n);
        nursery_compact(n);
        nursery_sync_ends(n);
        nursery_flush(n);
    }
    unlinkat(n->state_dir, NURSERY_SOCKET, 0);
    cgroup_home_remove(&n->cgroups);
}

static bool protect(void)
{
    autoclose int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    return fd >= 0 && write(fd, OWN_OOM_SCORE_ADJ, strlen(OWN_OOM_SCORE_ADJ)) > 0;
}

/* Signals are blocked rather than ignored: jobs would inherit what is ignored, but they get a clean mask anyway. */
static void shield(struct nursery *n)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    /* By system call, as the C library keeps two signals to itself; all zero is SIG_DFL. */
    static const unsigned long action[4];
    for (int signo = 1; signo < NSIG; signo++)
        syscall(SYS_rt_sigaction, signo, action, NULL, 8);
    umask(022);
    n->protected = protect();
    prctl(PR_SET_NAME, "rota-nursery");
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_DUMPABLE, 0);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
    getrlimit(RLIMIT_NOFILE, &n->files_max);
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){ n->files_max.rlim_max, n->files_max.rlim_max });
}

static void own_descriptors(const char *state_dir)
{
    char path[PATH_MAX];
    close_range(NURSERY_READY_FD + 1, ~0u, 0);
    snprintf(path, sizeof path, "%s/nursery.err", state_dir);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int errors = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    dup2(null, 0);
    dup2(null, 1);
    dup2(errors >= 0 ? errors : null, 2);
    close(null);
    if (errors >= 0)
        close(errors);
}

static void say_ready(const char *text)
{
    ssize_t size = (ssize_t)strlen(text);
    if (write(NURSERY_READY_FD, text, (size_t)size) != size)
        log_warn("nobody waits for this nursery");
    close(NURSERY_READY_FD);
}

int nursery_main(int argc, char **argv)
{
    if (argc != 3 || fcntl(NURSERY_READY_FD, F_GETFD) < 0)
        return 2; /* for use by the executor only */
    pid_t child = fork();
    if (child != 0)
        return child < 0 ? 1 : 0;
    setsid();
    own_descriptors(argv[2]);
    fcntl(NURSERY_READY_FD, F_SETFD, FD_CLOEXEC);
    log_init("nursery", LOG_INFO, false);
    struct nursery *n = mem_zero(1, sizeof *n);
    struct err err = { 0 };
    shield(n);
    if (nursery_open(n, argv[2], &err) < 0) {
        say_ready(err.text);
        _exit(EXIT_STALE);
    }
    say_ready("ok");
    serve(n);
    _exit(0);
}
