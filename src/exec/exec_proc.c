/* exec_proc: runs attempts as processes of the nursery, which it finds or starts. It keeps a mirror of what the nursery
 * knows; the nursery's list at each new connection is the truth. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <xxhash.h>

#include "base/check.h"
#include "base/list.h"
#include "base/mem.h"
#include "exec/cgroup.h"
#include "exec/exec.h"
#include "exec/nursery.h"
#include "exec/nursery_msg.h"
#include "exec/output.h"
#include "exec/procfs.h"
#include "exec/ref_table.h"
#include "exec/usage.h"
#include "io/clock.h"
#include "io/loop.h"
#include "obs/log.h"

#define OPEN_MS_MAX 30000
#define CLOSE_MS_MAX 10000
#define BUSY_RETRY_MS 20
#define RETRY_MS_MIN 100
#define RETRY_MS_MAX 5000
#define QUEUE_BYTES_MAX (64u << 20)
#define READS_PER_TURN 16

extern char **environ;

/* DOWN -> STARTING (a nursery was started and has not said "ok") -> LISTING (connected) -> UP. */
enum link { LINK_DOWN, LINK_STARTING, LINK_LISTING, LINK_UP };
enum known_phase { KNOWN_SENT, KNOWN_RUNNING, KNOWN_ENDED };

struct known {
    enum known_phase phase;
    bool vacated;
    uint32_t slot, pid, own_streams;
    uint32_t generation; /* of the link on which it was last heard of */
    int64_t begun_ms;
};

struct packet {
    struct list_node node;
    struct buf data;
};

struct exec_proc {
    struct exec base;
    struct exec_events events;
    struct loop *loop;
    char *state_dir;
    uint64_t log_bytes_max;
    struct exec_process_config limits;
    bool shutdown_nursery;
    bool opening; /* inside open or close: driven by poll, not by the loop */
    bool silent;  /* inside close: nothing is reported any more */

    enum link link;
    uint32_t generation;
    int fd, ready_fd;      /* -1: none */
    struct loop_fd *watch; /* of the one of them that is open */
    struct loop_timer *flush_timer, *retry_timer;
    int64_t retry_ms;
    struct err link_err; /* why it is down */
    uint32_t abilities;
    char cgroup_path[NURSERY_TEXT_BYTES];
    char enforces[512];

    struct ref_table refs;
    struct known *known;      /* at the attempt's number */
    int64_t lease_until_ms;   /* that was last given; 0: none */
    uint32_t occupied;        /* of NURSERY_SLOTS_MAX: sent or running, not vacated */
    struct list_node packets; /* to be sent; the last may still grow */
    size_t packets_bytes;
    uint64_t events_seen;
    uint8_t in[65536];
};

static struct exec_proc *proc_of(struct exec *x)
{
    return (struct exec_proc *)x;
}

/* --- requests --- */

static void packet_free(struct exec_proc *p, struct packet *packet)
{
    p->packets_bytes -= packet->data.size;
    list_remove(&packet->node);
    buf_fini(&packet->data);
    free(packet);
}

static void request(struct exec_proc *p, const struct nursery_request *r)
{
    struct packet *last = list_empty(&p->packets) ? NULL : list_entry(p->packets.prev, struct packet, node);
    if (!last || last->data.size + nursery_request_bytes(r) > NURSERY_PACKET_BYTES_MAX) {
        last = mem_zero(1, sizeof *last);
        nursery_packet_begin(&last->data);
        p->packets_bytes += last->data.size;
        list_append(&p->packets, &last->node);
    }
    size_t before = last->data.size;
    nursery_request_add(&last->data, r);
    p->packets_bytes += last->data.size - before;
    if (p->flush_timer)
        loop_timer_set(p->flush_timer, 0);
}

static void link_lost(struct exec_proc *p, const char *why);

static void flush(struct exec_proc *p)
{
    while (p->link == LINK_UP && !list_empty(&p->packets)) {
        struct packet *first = list_entry(p->packets.next, struct packet, node);
        nursery_packet_seal(&first->data, p->events_seen);
        ssize_t sent = send(p->fd, first->data.data, first->data.size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == EINTR)) {
            if (p->watch)
                loop_fd_set(p->watch, LOOP_READ | LOOP_WRITE);
            return;
        }
        if (sent < 0) {
            link_lost(p, strerror(errno));
            return;
        }
        packet_free(p, first);
    }
    if (p->watch)
        loop_fd_set(p->watch, LOOP_READ);
}

/* --- what the nursery tells --- */

static void occupy(struct exec_proc *p, struct known *k, bool on)
{
    if (k->vacated != on)
        return;
    k->vacated = !on;
    p->occupied += on ? 1 : UINT32_MAX;
}

static struct known *known_add(struct exec_proc *p, struct attempt_ref ref)
{
    uint32_t number = ref_table_add(&p->refs, ref);
    check(number != REF_NONE); /* both sides have the same bound */
    struct known *k = &p->known[number];
    *k = (struct known){ .vacated = true, .generation = p->generation };
    return k;
}

static struct known *known_find(struct exec_proc *p, struct attempt_ref ref)
{
    uint32_t number = ref_table_find(&p->refs, ref);
    return number == REF_NONE ? NULL : &p->known[number];
}

static void ended(struct exec_proc *p, struct known *k, struct attempt_ref ref, const struct attempt_result *result,
                  bool started, const char *text)
{
    occupy(p, k, false);
    k->phase = KNOWN_ENDED;
    if (!p->silent)
        p->events.on_ended(p->events.arg, ref, result, started, text);
}

static void tell_lease(struct exec_proc *p)
{
    if (p->link == LINK_UP && p->lease_until_ms)
        request(p, &(struct nursery_request){ .verb = NURSERY_LEASE, .lease_until_ms = p->lease_until_ms });
}

static void forget(struct exec_proc *p, struct attempt_ref ref)
{
    request(p, &(struct nursery_request){ .verb = NURSERY_REMOVE, .ref = ref });
}

static void listed_first(struct exec_proc *p, const struct nursery_event *e)
{
    struct known *k = known_add(p, e->ref);
    k->slot = e->slot;
    k->pid = e->pid;
    k->own_streams = e->own_streams;
    k->begun_ms = e->begun_ms;
    k->phase = e->phase == PHASE_ENDED ? KNOWN_ENDED : KNOWN_RUNNING;
    if (k->phase == KNOWN_RUNNING && !e->vacated)
        occupy(p, k, true);
    int64_t ran_ms = e->phase == PHASE_ENDED ? e->result.run_ms : clock_now_ms() - e->begun_ms;
    if (p->events.on_recovered)
        p->events.on_recovered(p->events.arg, e->ref, e->phase, ran_ms, &e->result);
}

/* A new nursery, after the death of one that we worked with, knows how each attempt ended or that nobody knows. */
static void listed_again(struct exec_proc *p, struct known *k, const struct nursery_event *e)
{
    k->generation = p->generation;
    if (e->phase == PHASE_ENDED && k->phase != KNOWN_ENDED)
        ended(p, k, e->ref, &e->result, e->started, e->text);
}

static void all_listed(struct exec_proc *p)
{
    p->link = LINK_UP;
    p->retry_ms = RETRY_MS_MIN;
    tell_lease(p);
    for (uint32_t i = 0; i < p->refs.cap && p->link == LINK_UP; i++) {
        struct known *k = &p->known[i];
        if (!ref_table_used(&p->refs, i) || k->generation == p->generation || k->phase == KNOWN_ENDED)
            continue;
        /* Its request never reached a nursery that would have journalled it before doing anything. */
        static const struct attempt_result never = { .reason = REASON_INFRA };
        ended(p, k, p->refs.refs[i], &never, false, "the process that was to start it died before");
    }
    flush(p);
}

static void on_event(struct exec_proc *p, const struct nursery_event *e)
{
    struct known *k = NULL;
    if (e->kind >= NURSERY_STARTED && !(k = known_find(p, e->ref)))
        return;
    switch (e->kind) {
    case NURSERY_WELCOME:
        p->abilities = e->abilities;
        memcpy(p->cgroup_path, e->text, sizeof p->cgroup_path);
        return;
    case NURSERY_ATTEMPT:
        if ((k = known_find(p, e->ref)))
            listed_again(p, k, e);
        else if (p->opening)
            listed_first(p, e);
        else
            forget(p, e->ref); /* our REMOVE was lost */
        return;
    case NURSERY_LISTED:
        all_listed(p);
        return;
    case NURSERY_STARTED:
        k->phase = KNOWN_RUNNING;
        k->slot = e->slot;
        k->pid = e->pid;
        k->own_streams = e->own_streams;
        k->begun_ms = e->begun_ms;
        if (p->events.on_started)
            p->events.on_started(p->events.arg, e->ref);
        return;
    case NURSERY_VACATED:
        occupy(p, k, false);
        if (p->events.on_vacated)
            p->events.on_vacated(p->events.arg, e->ref, e->passed_to);
        return;
    case NURSERY_ENDED:
        ended(p, k, e->ref, &e->result, e->started, e->text);
        return;
    }
}

/* False: there is hardly more to read, or the link is gone. */
static bool read_packet(struct exec_proc *p)
{
    ssize_t size = recv(p->fd, p->in, sizeof p->in, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (size <= 0) {
        link_lost(p, size < 0 ? strerror(errno) : "it has ended");
        return false;
    }
    uint32_t generation = p->generation;
    struct nursery_event e;
    for (size_t at = 0; at < (size_t)size && p->generation == generation;) {
        if (!nursery_event_decode(p->in, (size_t)size, &at, &e)) {
            link_lost(p, "it sent what is no event");
            return false;
        }
        p->events_seen++;
        if (!p->silent || e.kind == NURSERY_LISTED)
            on_event(p, &e);
    }
    return p->generation == generation && p->fd >= 0 && (size_t)size > sizeof p->in / 2;
}

/* --- the link to the nursery --- */

static void link_ready(void *arg, int fd, int events);

static void watch_fd(struct exec_proc *p, int fd)
{
    loop_fd_remove(p->watch);
    p->watch = fd < 0 || p->opening ? NULL : loop_fd_add(p->loop, fd, LOOP_READ, link_ready, p);
}

static void link_close(struct exec_proc *p)
{
    watch_fd(p, -1);
    if (p->fd >= 0)
        close(p->fd);
    if (p->ready_fd >= 0)
        close(p->ready_fd);
    p->fd = p->ready_fd = -1;
    p->link = LINK_DOWN;
}

static bool address_of(const struct exec_proc *p, struct sockaddr_un *address, int *dir)
{
    *address = (struct sockaddr_un){ .sun_family = AF_UNIX };
    int n = snprintf(address->sun_path, sizeof address->sun_path, "%s/" NURSERY_SOCKET, p->state_dir);
    if (n < (int)sizeof address->sun_path)
        return true;
    /* Longer than an address may be: go by the directory's descriptor. */
    *dir = open(p->state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/" NURSERY_SOCKET, *dir);
    return *dir >= 0;
}

/* Connects to a nursery that is there and asks for its list. False: there is none. */
static bool link_connect(struct exec_proc *p)
{
    struct sockaddr_un address;
    autoclose int dir = -1;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || !address_of(p, &address, &dir) || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    struct buf hello = BUF_INIT;
    nursery_packet_begin(&hello);
    nursery_request_add(&hello, &(struct nursery_request){ .verb = NURSERY_HELLO,
                                                           .version = NURSERY_VERSION,
                                                           .wants_vacated = p->events.on_vacated != NULL });
    nursery_packet_seal(&hello, 0);
    bool sent = send(fd, hello.data, hello.size, MSG_NOSIGNAL) == (ssize_t)hello.size;
    buf_fini(&hello);
    if (!sent) {
        close(fd);
        return false;
    }
    link_close(p);
    p->fd = fd;
    p->link = LINK_LISTING;
    p->generation++;
    p->events_seen = 0;
    watch_fd(p, fd);
    return true;
}

/* Starts a nursery. It tells on ready_fd when it serves. */
static int link_launch(struct exec_proc *p, struct err *err)
{
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return err_errno(err, "pipe");
    char *argv[] = { (char *)(uintptr_t) "rota", (char *)(uintptr_t)NURSERY_ARGUMENT, p->state_dir, NULL };
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipe_fds[1], NURSERY_READY_FD);
    pid_t pid;
    int error = posix_spawn(&pid, "/proc/self/exe", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(pipe_fds[1]);
    if (error) {
        close(pipe_fds[0]);
        errno = error;
        return err_errno(err, "start of the nursery");
    }
    int status; /* of the process that only makes the nursery and is gone in a moment */
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    link_close(p);
    p->ready_fd = pipe_fds[0];
    fcntl(p->ready_fd, F_SETFL, O_NONBLOCK);
    p->link = LINK_STARTING;
    watch_fd(p, p->ready_fd);
    return 0;
}

static void retry_later(struct exec_proc *p, int64_t delay_ms)
{
    link_close(p);
    if (p->retry_timer)
        loop_timer_set(p->retry_timer, delay_ms);
}

static void link_failed(struct exec_proc *p)
{
    log_error("nursery: %s", p->link_err.text);
    retry_later(p, p->retry_ms);
    p->retry_ms = p->retry_ms * 2 > RETRY_MS_MAX ? RETRY_MS_MAX : p->retry_ms * 2;
}

static void link_try(struct exec_proc *p)
{
    if (!link_connect(p) && link_launch(p, &p->link_err) < 0)
        link_failed(p);
}

static void retry_due(void *arg)
{
    struct exec_proc *p = arg;
    if (p->link == LINK_DOWN)
        link_try(p);
}

/* The nursery died, or our connection to it broke. What it had not read is known to nobody. */
static void link_lost(struct exec_proc *p, const char *why)
{
    if (!p->silent)
        log_warn("the nursery is lost: %s", why);
    link_close(p);
    while (!list_empty(&p->packets))
        packet_free(p, list_entry(p->packets.next, struct packet, node));
    if (!p->silent)
        retry_later(p, 0);
}

static void nursery_said(struct exec_proc *p)
{
    char text[512];
    ssize_t size = read(p->ready_fd, text, sizeof text - 1);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    text[size < 0 ? 0 : size] = 0;
    if (strcmp(text, "ok") == 0 && link_connect(p))
        return;
    if (strcmp(text, "ok") == 0 || strcmp(text, "busy") == 0) {
        retry_later(p, BUSY_RETRY_MS); /* another one starts, or ends, right now */
        return;
    }
    err_set(&p->link_err, ERR_UNAVAILABLE, "nursery: %s", *text ? text : "died at its start; see nursery.err");
    link_failed(p);
}

static void link_ready(void *arg, int fd, int events)
{
    struct exec_proc *p = arg;
    (void)fd;
    if (p->link == LINK_STARTING) {
        nursery_said(p);
        return;
    }
    if (events & LOOP_WRITE)
        flush(p);
    for (int i = 0; i < READS_PER_TURN && p->fd >= 0 && read_packet(p); i++)
        ;
}

/* Drives the link without the loop until it is up. */
static int link_wait(struct exec_proc *p, int64_t ms_max, struct err *err)
{
    int64_t until_ms = clock_now_ms() + ms_max;
    p->link_err = (struct err){ 0 };
    while (p->link != LINK_UP) {
        if (clock_now_ms() >= until_ms)
            return err_set(err, ERR_TIMEOUT, "the nursery of %s does not answer", p->state_dir);
        if (p->link == LINK_DOWN) {
            if (p->link_err.code) {
                *err = p->link_err;
                return -(int)err->code;
            }
            link_try(p);
            if (p->link == LINK_DOWN)
                poll(NULL, 0, BUSY_RETRY_MS);
            continue;
        }
        struct pollfd poll_fd = { .fd = p->link == LINK_STARTING ? p->ready_fd : p->fd, .events = POLLIN };
        poll(&poll_fd, 1, 100);
        if (poll_fd.revents)
            link_ready(p, poll_fd.fd, LOOP_READ);
    }
    return 0;
}

/* --- the port --- */

static void flush_due(void *arg)
{
    flush(arg);
}

static uint32_t add_strings(struct buf *out, char *const *strings)
{
    uint32_t count = 0;
    for (; strings && strings[count]; count++)
        buf_add(out, strings[count], strlen(strings[count]) + 1);
    return count;
}

static int proc_refuses(struct exec_proc *p, const struct exec_job *job, struct err *err)
{
    if (job->image)
        return err_set(err, ERR_INVALID, "this worker runs processes, not images");
    if (p->link != LINK_UP)
        return err_set(err, ERR_UNAVAILABLE, "the nursery is not there");
    if (known_find(p, job->ref))
        return err_set(err, ERR_CONFLICT, "attempt %u of job %llu was started before", job->ref.attempt,
                       (unsigned long long)job->ref.job.n);
    if (p->occupied >= NURSERY_SLOTS_MAX || p->refs.count >= NURSERY_ATTEMPTS_MAX)
        return err_set(err, ERR_FULL, "as many attempts are held as fit");
    if (p->packets_bytes > QUEUE_BYTES_MAX)
        return err_set(err, ERR_FULL, "the nursery is behind");
    if (!job->argv || !job->argv[0])
        return err_set(err, ERR_INVALID, "the command is empty");
    return 0;
}

/* What the request says of CPUs. A job that asks for less than one may use one while nobody else wants it. */
static void limit_cpus(const struct exec_proc *p, uint64_t milli, struct nursery_request *r)
{
    if (p->limits.cpu_limit == EXEC_CPUS_OFF || !milli)
        return;
    r->cpu_weight_milli = milli < UINT32_MAX ? (uint32_t)milli : UINT32_MAX;
    if (p->limits.cpu_limit == EXEC_CPUS_HOLD)
        r->cpu_quota_milli = r->cpu_weight_milli < 1000 ? 1000 : r->cpu_weight_milli;
}

static void groups_text(const struct exec_account *account, struct buf *out)
{
    for (uint32_t i = 0; i < account->groups_count; i++)
        buf_printf(out, "%s%u", i ? "," : "", account->groups[i]);
}

static int proc_start(struct exec *x, const struct exec_job *job, struct err *err)
{
    struct exec_proc *p = proc_of(x);
    if (proc_refuses(p, job, err) < 0)
        return -(int)err->code;
    autobuf struct buf strings = BUF_INIT;
    struct nursery_request r = { .verb = NURSERY_SPAWN,
                                 .ref = job->ref,
                                 .mem_bytes = job->need.v[RES_MEM],
                                 .place = XXH3_64bits(&job->need, sizeof job->need),
                                 .in_line = job->in_line,
                                 .overlap_never = job->overlap_never,
                                 .output_bytes_max = job->output_bytes_max ? job->output_bytes_max : p->log_bytes_max,
                                 .pids_max = p->limits.pids_max,
                                 .file_bytes_max = p->limits.file_bytes_max };
    r.argc = add_strings(&strings, job->argv);
    r.envc = add_strings(&strings, job->env);
    limit_cpus(p, job->need.v[RES_CPU], &r);
    autobuf struct buf groups = BUF_INIT;
    if (job->account) {
        r.run_as = true;
        r.uid = job->account->uid;
        r.gid = job->account->gid;
        groups_text(job->account, &groups);
    }
    const char *paths[NURSERY_PATHS_COUNT] = { job->workdir,     job->stdin_path, job->stdout_path,
                                               job->stderr_path, groups.data,     job->cpus };
    for (uint32_t i = 0; i < NURSERY_PATHS_COUNT; i++)
        if (paths[i]) {
            buf_add(&strings, paths[i], strlen(paths[i]) + 1);
            r.paths |= 1u << i;
        }
    r.strings = buf_bytes(&strings);
    if (r.in_line && nursery_request_bytes(&r) > NURSERY_LINE_BYTES_MAX)
        return err_set(err, ERR_INTERNAL, "%zu bytes of arguments and environment are too many for the line", strings.size);
    if (nursery_request_bytes(&r) > NURSERY_REQUEST_BYTES_MAX - 64 || (uint64_t)r.argc + r.envc > NURSERY_STRINGS_MAX)
        return err_set(err, ERR_TOO_LARGE, "arguments and environment are %zu bytes in %u strings; %u and %u fit",
                       strings.size, r.argc + r.envc, NURSERY_REQUEST_BYTES_MAX, NURSERY_STRINGS_MAX);
    occupy(p, known_add(p, job->ref), true);
    request(p, &r);
    return 0;
}

static void proc_signal(struct exec *x, struct attempt_ref ref, bool kill)
{
    struct exec_proc *p = proc_of(x);
    struct known *k = known_find(p, ref);
    if (k && k->phase != KNOWN_ENDED)
        request(p, &(struct nursery_request){ .verb = kill ? NURSERY_KILL : NURSERY_TERM, .ref = ref });
}

static void proc_line(struct exec *x, struct attempt_ref ref, enum exec_line what)
{
    struct exec_proc *p = proc_of(x);
    const struct known *k = known_find(p, ref);
    if (k && k->phase == KNOWN_SENT)
        request(p, &(struct nursery_request){ .verb = what == LINE_CALL ? NURSERY_CALL : NURSERY_WITHDRAW, .ref = ref });
}

static void proc_lease(struct exec *x, int64_t until_ms)
{
    struct exec_proc *p = proc_of(x);
    if (until_ms <= p->lease_until_ms)
        return;
    p->lease_until_ms = until_ms;
    tell_lease(p);
}

static void proc_remove(struct exec *x, struct attempt_ref ref)
{
    struct exec_proc *p = proc_of(x);
    struct known *k = known_find(p, ref);
    if (!k || k->phase != KNOWN_ENDED)
        return;
    ref_table_remove(&p->refs, (uint32_t)(k - p->known));
    forget(p, ref);
}

static bool proc_log_path(struct exec *x, struct attempt_ref ref, enum exec_stream stream, char *path, size_t size)
{
    struct exec_proc *p = proc_of(x);
    const struct known *k = known_find(p, ref);
    char name[OUTPUT_NAME_BYTES];
    struct stat st;
    output_name(name, ref, stream);
    if (snprintf(path, size, "%s/logs/%s", p->state_dir, name) >= (int)size)
        return false;
    if (lstat(path, &st) == 0)
        return S_ISREG(st.st_mode);
    if (!k || k->phase != KNOWN_RUNNING || k->vacated || !(k->own_streams & (1u << stream)))
        return false;
    output_slot_name(name, k->slot, stream);
    return snprintf(path, size, "%s/logs/%s", p->state_dir, name) < (int)size;
}

struct usage_visit {
    struct exec_usage *out;
    struct proc_job job;
};

static void usage_of_session(void *arg, const struct proc_stat *stat)
{
    struct usage_visit *v = arg;
    if (proc_of_job(stat, &v->job))
        usage_add_process(v->out, stat);
}

static bool proc_usage(struct exec *x, struct attempt_ref ref, struct exec_usage *out)
{
    struct exec_proc *p = proc_of(x);
    const struct known *k = known_find(p, ref);
    *out = (struct exec_usage){ 0 };
    if (!k || k->phase != KNOWN_RUNNING || k->vacated)
        return false;
    if (!cgroup_each_pid(p->cgroup_path, k->slot, usage_add_pid, out)) {
        struct usage_visit v = {
            out, { .main = (pid_t)k->pid, .started_from_ms = k->begun_ms, .started_until_ms = k->begun_ms + 1000 }
        };
        proc_each(usage_of_session, &v);
    }
    return out->processes > 0;
}

static const char *cpus_enforced(const struct exec_proc *p)
{
    if (p->limits.cpu_limit == EXEC_CPUS_OFF)
        return "counted only, as the settings say";
    if (!(p->abilities & NURSERY_CAN_LIMIT_CPUS))
        return "counted only (no cgroup)";
    return p->limits.cpu_limit == EXEC_CPUS_HOLD ? "held to the request, at least one (cgroup)"
                                                 : "by share when they are short (cgroup)";
}

static const char *proc_enforces(struct exec *x)
{
    struct exec_proc *p = proc_of(x);
    char pids[64] = "no limit", file[64] = "no limit";
    if (p->limits.pids_max && p->abilities & NURSERY_CAN_LIMIT_PIDS)
        snprintf(pids, sizeof pids, "at most %u (cgroup)", p->limits.pids_max);
    else if (p->limits.pids_max)
        snprintf(pids, sizeof pids, "no limit (no cgroup)");
    if (p->limits.file_bytes_max)
        snprintf(file, sizeof file, "at most %llu bytes each", (unsigned long long)p->limits.file_bytes_max);
    snprintf(p->enforces, sizeof p->enforces,
             "end of a job: %s; memory: %s; CPUs: %s; processes of a job: %s; output: cap per stream; files: %s; GPUs: given "
             "by number, not fenced",
             p->abilities & NURSERY_CAN_KILL
                 ? "with all it started (cgroup)"
                 : "found by session and fence, one that hides from both may outlive it",
             p->abilities & NURSERY_CAN_LIMIT_MEMORY ? "held to the request (cgroup)" : "counted only (no cgroup)",
             cpus_enforced(p), pids, file);
    return p->enforces;
}

/* Ends the nursery with all jobs. */
static void shut_down(struct exec_proc *p)
{
    struct err err;
    if (link_wait(p, CLOSE_MS_MAX, &err) < 0)
        return;
    request(p, &(struct nursery_request){ .verb = NURSERY_SHUTDOWN });
    flush(p);
    int64_t until_ms = clock_now_ms() + CLOSE_MS_MAX;
    while (p->fd >= 0 && clock_now_ms() < until_ms) {
        struct pollfd poll_fd = { .fd = p->fd, .events = POLLIN | (list_empty(&p->packets) ? 0 : POLLOUT) };
        poll(&poll_fd, 1, 100);
        flush(p);
        if (p->fd >= 0)
            read_packet(p);
    }
    if (p->fd >= 0)
        log_error("the nursery of %s does not end", p->state_dir);
}

static void proc_free(struct exec_proc *p)
{
    link_close(p);
    while (!list_empty(&p->packets))
        packet_free(p, list_entry(p->packets.next, struct packet, node));
    loop_timer_remove(p->flush_timer);
    loop_timer_remove(p->retry_timer);
    ref_table_fini(&p->refs);
    free(p->known);
    free(p->state_dir);
    free(p);
}

static void proc_close(struct exec *x)
{
    struct exec_proc *p = proc_of(x);
    p->opening = p->silent = true;
    watch_fd(p, -1);
    if (p->shutdown_nursery)
        shut_down(p);
    else
        flush(p);
    proc_free(p);
}

static const struct exec_ops proc_ops = {
    .name = "process",
    .start = proc_start,
    .signal = proc_signal,
    .line = proc_line,
    .lease = proc_lease,
    .remove = proc_remove,
    .log_path = proc_log_path,
    .usage = proc_usage,
    .enforces = proc_enforces,
    .close = proc_close,
};

struct exec *exec_proc_open(struct loop *loop, const struct exec_config *config, const struct exec_events *events,
                            struct err *err)
{
    if (mkdir(config->state_dir, 0700) < 0 && errno != EEXIST) {
        err_errno(err, "%s", config->state_dir);
        return NULL;
    }
    char *state_dir = realpath(config->state_dir, NULL);
    if (!state_dir) {
        err_errno(err, "%s", config->state_dir);
        return NULL;
    }
    struct exec_proc *p = mem_zero(1, sizeof *p);
    p->base.ops = &proc_ops;
    p->events = *events;
    p->loop = loop;
    p->state_dir = state_dir;
    p->log_bytes_max = config->log_bytes_max;
    p->limits = config->process;
    p->shutdown_nursery = config->shutdown_nursery;
    p->fd = p->ready_fd = -1;
    p->retry_ms = RETRY_MS_MIN;
    p->opening = true;
    list_init(&p->packets);
    ref_table_init(&p->refs, NURSERY_ATTEMPTS_MAX);
    p->known = mem_zero(NURSERY_ATTEMPTS_MAX, sizeof *p->known);
    struct err wait_err = { 0 };
    if (link_wait(p, OPEN_MS_MAX, &wait_err) < 0) {
        if (err)
            *err = wait_err;
        proc_free(p);
        return NULL;
    }
    p->opening = false;
    watch_fd(p, p->fd);
    p->flush_timer = loop_timer_add(loop, flush_due, p);
    p->retry_timer = loop_timer_add(loop, retry_due, p);
    return &p->base;
}
