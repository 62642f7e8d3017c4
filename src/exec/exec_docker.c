/* exec_docker: runs attempts as containers of an engine with Docker's API. What is known of an attempt is on disk, in
 * its directory, before the engine hears of it (container_dir.h); how it ended is written there by the container's own
 * first process (shim/shim.c). So the engine, and this worker, may die at any time, and what is told is what happened.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/check.h"
#include "base/mem.h"
#include "exec/docker_int.h"
#include "exec/usage.h"
#include "io/clock.h"
#include "io/loop.h"
#include "obs/log.h"

#define TICK_MS 1000
#define PING_MS 5000       /* an engine that answers is asked this often */
#define PING_AGAIN_MS 1000 /* one that does not */
#define PING_WAIT_MS 5000
#define QUEUE_MS_MAX 15000 /* an attempt waits so long for an engine that is not there */
#define CREATE_MS_MAX 60000
#define ORDER_MS 2000 /* for the shim to confirm an order */
#define LIST_MS 60000
#define FAILURES_MAX 3 /* in a row, and the engine is set aside */
#define ASIDE_MS 10000 /* for the first time; then twice as long each time, up to */
#define ASIDE_MS_MAX 600000
#define SWEEP_MS 30000
#define PIDS_MAX 512
#define TMP_BYTES (256ull << 20)
#define NOBODY "65534:65534"

static struct docker *docker_of(struct exec *x)
{
    return (struct docker *)x;
}

int64_t docker_now(struct docker *d)
{
    (void)d;
    return clock_now_ms();
}

void docker_kick(struct docker *d)
{
    loop_timer_set(d->kick_timer, 0);
}

/* --- the link --- */

static void describe(struct docker *d)
{
    if (docker_able(d))
        snprintf(
            d->enforces, sizeof d->enforces,
            "containers: engine %s, API 1.%u, cgroup v%s%s; CPUs, memory, number of processes: held to the request; "
            "user %s, network %s",
            *d->about.version ? d->about.version : "(unknown)", d->about.api, *d->about.cgroup ? d->about.cgroup : "?",
            *d->about.version && !d->about.live_restore ? ", no live-restore: a restart of the engine ends what runs"
                                                        : "",
            d->user, d->config.network);
    else
        snprintf(d->enforces, sizeof d->enforces, "containers: none, %s",
                 d->link == LINK_UNKNOWN ? "the engine has not answered yet" : d->link_why);
}

static void offer(struct docker *d)
{
    if (docker_able(d) == d->offered)
        return;
    d->offered = !d->offered;
    if (d->events.on_containers)
        d->events.on_containers(d->events.arg, d->offered);
}

void docker_engine_worked(struct docker *d)
{
    d->failures = d->set_asides = 0;
}

void docker_engine_failed(struct docker *d, const char *why)
{
    if (++d->failures < FAILURES_MAX || d->aside_until_ms)
        return;
    int64_t pause_ms = ASIDE_MS;
    for (unsigned i = 0; i < d->set_asides && pause_ms < ASIDE_MS_MAX; i++)
        pause_ms *= 2;
    d->set_asides++;
    d->failures = 0;
    d->aside_until_ms = docker_now(d) + pause_ms;
    snprintf(d->link_why, sizeof d->link_why, "the engine can not start containers: %.200s", why);
    describe(d);
    log_warn("the container engine is set aside: pause_s=%" PRId64 " why=\"%s\"", pause_ms / 1000, why);
    offer(d);
}

static void try_again(struct docker *d)
{
    d->aside_until_ms = 0;
    describe(d);
    log_info("the container engine is tried again");
    offer(d);
    docker_kick(d);
}

static void info_done(void *arg, const struct engine_reply *reply)
{
    struct docker *d = arg;
    unsigned api = d->about.api;
    d->info = NULL;
    if (reply->status != 200 || !engine_json_info(reply->body, &d->about))
        log_warn("the engine does not tell about itself: why=\"%s\"", reply->error);
    d->about.api = api;
    describe(d);
    log_info("%s", d->enforces);
}

static void link_up(struct docker *d, unsigned api)
{
    if (d->link == LINK_UP)
        return;
    d->link = LINK_UP;
    d->link_ms = docker_now(d);
    d->about = (struct engine_info){ .api = api < ENGINE_API_MAX ? api : ENGINE_API_MAX };
    engine_version_set(d->engine, d->about.api);
    describe(d);
    log_info("container engine is there: address=%s api=1.%u", engine_address(d->engine), d->about.api);
    engine_cancel(d->info);
    d->info = engine_send(
        d->engine, &(struct engine_request){
                       .method = "GET", .path = "/info", .timeout_ms = SHORT_MS, .arg = d, .on_done = info_done });
    docker_list(d);
    docker_kick(d);
    offer(d);
}

static void link_down(struct docker *d, const char *why)
{
    if (d->link == LINK_DOWN && strcmp(d->link_why, why) == 0)
        return;
    d->link = LINK_DOWN;
    d->link_ms = docker_now(d);
    snprintf(d->link_why, sizeof d->link_why, "%s", why);
    engine_version_set(d->engine, 0); /* what comes back may be another one */
    describe(d);
    log_warn("no container engine, jobs with an image can not start here: why=\"%s\"", why);
    offer(d);
}

static void ping_done(void *arg, const struct engine_reply *reply)
{
    struct docker *d = arg;
    char why[256];
    d->ping = NULL;
    if (reply->status == 200 && reply->api >= ENGINE_API_MIN) {
        link_up(d, reply->api);
        return;
    }
    if (reply->status == 200 && reply->api)
        snprintf(why, sizeof why, "the engine speaks API 1.%u, 1.%d or newer is needed", reply->api, ENGINE_API_MIN);
    else if (reply->status == 200)
        snprintf(why, sizeof why, "what answers at %s is no container engine", engine_address(d->engine));
    else
        snprintf(why, sizeof why, "%.200s", *reply->error ? reply->error : "the engine refuses to answer");
    link_down(d, why);
}

static void ping(struct docker *d)
{
    if (d->ping)
        return;
    d->ping_ms = docker_now(d);
    d->ping = engine_send(
        d->engine, &(struct engine_request){
                       .method = "GET", .path = "/_ping", .timeout_ms = PING_WAIT_MS, .arg = d, .on_done = ping_done });
}

void docker_link_suspect(struct docker *d)
{
    ping(d);
}

/* --- attempts --- */

static bool is_starting(enum box_phase phase)
{
    return phase == BOX_CREATING || phase == BOX_OPENING || phase == BOX_STARTING;
}

void box_phase_set(struct box *b, enum box_phase phase)
{
    struct docker *d = b->docker;
    bool counted = is_starting(phase);
    if (counted != b->counted)
        d->starting += counted ? 1 : UINT32_MAX;
    if (b->counted && !counted)
        docker_kick(d);
    if (phase == BOX_ENDED) {
        list_remove(&b->node);
        list_append(&d->ended, &b->node);
    } else if (phase != BOX_LINED && phase != BOX_QUEUED && phase != BOX_PULLING) {
        list_remove(&b->node);
        list_append(&d->busy, &b->node);
    }
    b->counted = counted;
    b->phase = phase;
    b->since_ms = docker_now(d);
    b->retry_ms = 0;
}

void box_started(struct box *b)
{
    struct docker *d = b->docker;
    bool again = b->told_started || b->recovered;
    box_phase_set(b, BOX_RUNNING);
    if (!b->begun_ms)
        b->begun_ms = b->since_ms;
    b->tries = 0;
    docker_engine_worked(d);
    if (!again) {
        b->told_started = true;
        if (d->events.on_started)
            d->events.on_started(d->events.arg, box_ref(b));
    }
    docker_deliver_orders(b);
    if (!b->wait || b->plain)
        b->retry_ms = b->since_ms; /* it may have ended already; the output of a plain one is to be followed */
}

static struct box *box_add(struct docker *d, struct attempt_ref ref)
{
    uint32_t number = ref_table_add(&d->refs, ref);
    if (number == REF_NONE)
        return NULL;
    struct box *b = mem_zero(1, sizeof *b);
    b->docker = d;
    b->number = number;
    b->memory = ARENA_INIT;
    b->orders = b->out_fds[0] = b->out_fds[1] = -1;
    list_init(&b->node);
    container_name(&d->home, ref, b->name);
    d->boxes[number] = b;
    return b;
}

void box_free(struct box *b)
{
    struct docker *d = b->docker;
    if (b->counted)
        d->starting--;
    list_remove(&b->node);
    engine_cancel(b->call);
    engine_cancel(b->wait);
    engine_cancel(b->logs);
    for (int stream = 0; stream < OUTPUT_STREAMS; stream++)
        if (b->out_fds[stream] >= 0)
            close(b->out_fds[stream]);
    if (b->orders >= 0)
        close(b->orders);
    arena_fini(&b->memory);
    d->boxes[b->number] = NULL;
    ref_table_remove(&d->refs, b->number);
    free(b);
}

static struct box *box_find(struct docker *d, struct attempt_ref ref)
{
    uint32_t number = ref_table_find(&d->refs, ref);
    return number == REF_NONE ? NULL : d->boxes[number];
}

/* --- orders to what runs --- */

static void kill_done(void *arg, const struct engine_reply *reply)
{
    struct docker *d = arg;
    if (!reply->status)
        docker_link_suspect(d);
}

/* The second way, when the shim does not listen. */
static void kill_by_engine(struct box *b, bool kill)
{
    char path[160];
    snprintf(path, sizeof path, "/containers/%s/kill?signal=%s", b->name, kill ? "SIGKILL" : "SIGTERM");
    engine_send(b->docker->engine,
                &(struct engine_request){
                    .method = "POST", .path = path, .timeout_ms = SHORT_MS, .arg = b->docker, .on_done = kill_done });
}

/* The first way, which needs no engine. The FIFO stays open: a shim that is about to start finds the order in it. */
static bool order(struct box *b, char what)
{
    struct stat st;
    if (b->plain)
        return false;
    if (b->orders < 0) {
        autoclose int box = container_box_open(&b->docker->home, b->name);
        b->orders = box < 0 ? -1 : openat(box, "ctl", O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (b->orders >= 0 && (fstat(b->orders, &st) < 0 || !S_ISFIFO(st.st_mode))) {
            close(b->orders);
            b->orders = -1;
        }
    }
    if (b->orders < 0 || write(b->orders, &what, 1) != 1)
        return false;
    b->order = what;
    b->ordered_ms = docker_now(b->docker);
    return true;
}

static void order_or_kill(struct box *b, bool kill)
{
    bool again = kill && b->order == SHIM_KILL; /* it was told, and is still there */
    if (again || !order(b, kill ? SHIM_KILL : SHIM_TERM))
        kill_by_engine(b, kill);
}

void docker_deliver_orders(struct box *b)
{
    if (b->termed && !b->killed)
        order_or_kill(b, false);
    if (b->killed)
        order_or_kill(b, true);
}

static void check_order(struct box *b, int64_t now_ms)
{
    struct shim_record r;
    if (!b->ordered_ms || now_ms - b->ordered_ms < ORDER_MS)
        return;
    uint32_t flag = b->order == SHIM_KILL ? SHIM_ORDERED_KILL : SHIM_ORDERED_TERM;
    b->ordered_ms = 0;
    if (!container_record(&b->docker->home, b->name, &r) || !(r.flags & flag))
        kill_by_engine(b, b->order == SHIM_KILL);
}

/* --- the clock --- */

static void hold_output(struct box *b)
{
    if (!b->output_bytes_max)
        return;
    autoclose int box = container_box_open(&b->docker->home, b->name);
    if (box < 0)
        return;
    output_punch_file(box, "out", b->output_bytes_max, &b->hole_end[EXEC_STDOUT]);
    output_punch_file(box, "err", b->output_bytes_max, &b->hole_end[EXEC_STDERR]);
}

static void tick_running(struct box *b, int64_t now_ms)
{
    bool up = b->docker->link == LINK_UP;
    if (box_settle_by_record(b))
        return;
    hold_output(b);
    check_order(b, now_ms);
    if (!b->pid && !b->pid_asked_ms && now_ms - b->since_ms >= TICK_MS) {
        b->pid_asked_ms = now_ms;
        b->retry_ms = now_ms;
    }
    if (!b->wait && !b->call && !b->retry_ms)
        b->retry_ms = now_ms;
    if (up && b->retry_ms && now_ms >= b->retry_ms)
        box_look(b);
}

static void tick_box(struct box *b, int64_t now_ms)
{
    bool up = b->docker->link == LINK_UP;
    bool due = up && !b->call && b->retry_ms && now_ms >= b->retry_ms;
    switch (b->phase) {
    case BOX_RUNNING:
        tick_running(b, now_ms);
        break;
    case BOX_CREATING:
        if (!b->call && (b->termed || b->killed))
            box_end_unstarted(b, REASON_SIGNAL, "");
        else if (!b->call && now_ms - b->since_ms > CREATE_MS_MAX)
            box_end_unstarted(b, REASON_NEVER_STARTED, b->docker->link_why);
        else if (due)
            docker_retry_start(b);
        break;
    case BOX_OPENING:
    case BOX_STARTING:
        if (due)
            docker_retry_start(b);
        break;
    case BOX_ABORTING:
        if (due)
            box_abort(b);
        break;
    case BOX_LINED:
    case BOX_QUEUED:
    case BOX_PULLING:
    case BOX_COLLECTING:
    case BOX_ENDED:
        break;
    }
}

/* Attempts that the engine has not heard of end by order at once, and do not wait for it for ever. */
static void tick_waiting(struct docker *d, struct list_node *boxes, bool may_expire)
{
    int64_t now_ms = docker_now(d);
    list_each_safe(node, boxes)
    {
        struct box *b = list_entry(node, struct box, node);
        if (b->termed || b->killed)
            box_end_unstarted(b, REASON_SIGNAL, "");
        else if (may_expire && !docker_able(d) && now_ms - b->since_ms > QUEUE_MS_MAX)
            box_end_unstarted(b, REASON_NEVER_STARTED, d->link_why);
    }
}

static void tick_lined(struct docker *d)
{
    list_each_safe(node, &d->lined)
    {
        struct box *b = list_entry(node, struct box, node);
        if (b->withdrawn || b->termed || b->killed)
            box_end_unstarted(b, REASON_NEVER_STARTED, "");
    }
}

static void work(struct docker *d)
{
    tick_lined(d);
    tick_waiting(d, &d->queue, true);
    list_each(node, &d->pulls) tick_waiting(d, &list_entry(node, struct pull, node)->boxes, false);
    docker_run_queue(d);
    docker_run_leaving(d);
}

static void kick_due(void *arg)
{
    work(arg);
}

static void tick_due(void *arg)
{
    struct docker *d = arg;
    int64_t now_ms = docker_now(d);
    loop_timer_set(d->tick_timer, TICK_MS);
    if (now_ms - d->ping_ms >= (d->link == LINK_UP ? PING_MS : PING_AGAIN_MS))
        ping(d);
    if (d->link == LINK_UP && now_ms - d->list_ms >= LIST_MS)
        docker_list(d);
    if (d->aside_until_ms && now_ms >= d->aside_until_ms)
        try_again(d);
    list_each_safe(node, &d->busy) tick_box(list_entry(node, struct box, node), now_ms);
    work(d);
}

/* --- the port --- */

static int refuses(struct docker *d, const struct exec_job *job, struct err *err)
{
    if (!job->image)
        return err_set(err, ERR_INVALID, "a job without an image is no container");
    if (!job->argv || !job->argv[0])
        return err_set(err, ERR_INVALID, "the command is empty");
    if (box_find(d, job->ref))
        return err_set(err, ERR_CONFLICT, "attempt %u of job %" PRIu64 " was started before", job->ref.attempt,
                       job->ref.job.n);
    if (d->refs.count >= DOCKER_ATTEMPTS_MAX)
        return err_set(err, ERR_FULL, "as many containers are held as fit");
    const char *paths[] = { job->workdir, job->stdin_path, job->stdout_path, job->stderr_path };
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (paths[i] && paths[i][0] != '/')
            return err_set(err, ERR_INVALID, "\"%.100s\" is not an absolute path", paths[i]);
    return 0;
}

static int docker_start(struct exec *x, const struct exec_job *job, struct err *err)
{
    struct docker *d = docker_of(x);
    char name[CONTAINER_NAME_BYTES], text[128];
    if (job->overlap_never)
        return err_set(err, ERR_INVALID, "nothing ends a container when the lease of its node runs out");
    if (refuses(d, job, err) < 0)
        return -(int)err->code;
    container_name(&d->home, job->ref, name);
    if (container_dir_make(&d->home, name, err) < 0)
        return -(int)err->code;
    struct box *b = box_add(d, job->ref);
    check(b);
    b->own_streams = (job->stdout_path ? 0u : 1u) | (job->stderr_path ? 0u : 2u);
    b->output_bytes_max = job->output_bytes_max ? job->output_bytes_max : d->log_bytes_max;
    b->job = docker_job_copy(&b->memory, job);
    b->plain = d->config.no_shim;
    snprintf(text, sizeof text, "%" PRIu32 " %" PRIu64 " %s", b->own_streams, b->output_bytes_max, d->boot);
    if (!container_note_set(&d->home, b->name, "job", text) ||
        (b->plain && !container_note_set(&d->home, b->name, "plain", ""))) {
        container_dir_leave(&d->home, b->name);
        docker_files_remove(d->files, b->name);
        box_free(b);
        return err_set(err, ERR_IO, "the files of a container can not be written");
    }
    list_append(job->in_line ? &d->lined : &d->queue, &b->node);
    b->phase = job->in_line ? BOX_LINED : BOX_QUEUED;
    b->since_ms = docker_now(d);
    docker_kick(d);
    return 0;
}

static void docker_signal(struct exec *x, struct attempt_ref ref, bool kill)
{
    struct docker *d = docker_of(x);
    struct box *b = box_find(d, ref);
    if (!b || b->phase == BOX_ENDED || b->phase == BOX_COLLECTING)
        return;
    /* A worker after us must know who ended it. */
    container_note_set(&d->home, b->name, kill ? "killed" : "termed", "");
    if (kill)
        b->killed = true;
    else
        b->termed = true;
    if (b->phase == BOX_RUNNING)
        order_or_kill(b, kill);
    else
        docker_kick(d);
}

/* Nobody is started here but by a call: places are not passed on. */
static void docker_line(struct exec *x, struct attempt_ref ref, enum exec_line what)
{
    struct docker *d = docker_of(x);
    struct box *b = box_find(d, ref);
    if (!b || b->phase != BOX_LINED || b->withdrawn)
        return;
    if (what == LINE_WITHDRAW) {
        b->withdrawn = true;
    } else {
        list_remove(&b->node);
        list_append(&d->queue, &b->node);
        box_phase_set(b, BOX_QUEUED);
    }
    docker_kick(d);
}

static void docker_remove(struct exec *x, struct attempt_ref ref)
{
    struct docker *d = docker_of(x);
    struct box *b = box_find(d, ref);
    if (!b || b->phase != BOX_ENDED)
        return;
    if (!container_dir_leave(&d->home, b->name)) {
        log_error("an attempt can not be put away: container=%s why=\"%s\"", b->name, strerror(errno));
        return;
    }
    if (b->asked && !b->foreign)
        docker_leave(d, b->name, b->mine);
    else
        docker_files_remove(d->files, b->name);
    box_free(b);
}

static bool docker_log_path(struct exec *x, struct attempt_ref ref, enum exec_stream stream, char *path, size_t size)
{
    struct docker *d = docker_of(x);
    const struct box *b = box_find(d, ref);
    char name[OUTPUT_NAME_BYTES];
    struct stat st;
    output_name(name, ref, stream);
    if (snprintf(path, size, "%s/logs/%s", d->state_dir, name) >= (int)size)
        return false;
    if (lstat(path, &st) == 0)
        return S_ISREG(st.st_mode);
    if (!b || b->phase == BOX_ENDED || !(b->own_streams & (1u << stream)))
        return false;
    int n = snprintf(path, size, "%s/run/%s/box/%s", d->home.path, b->name, stream == EXEC_STDOUT ? "out" : "err");
    return n < (int)size && lstat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* The file that lists the processes of the control group that `pid` is in. */
static bool procs_of(int pid, char *out, size_t size)
{
    char path[64], line[512];
    bool found = false;
    snprintf(path, sizeof path, "/proc/%d/cgroup", pid);
    FILE *f = fopen(path, "re");
    while (f && !found && fgets(line, sizeof line, f)) {
        char *group = strchr(line, ':');
        if (!group)
            continue;
        line[strcspn(line, "\n")] = 0;
        if (strncmp(group, ":memory:", 8) == 0)
            found = snprintf(out, size, "/sys/fs/cgroup/memory%s/cgroup.procs", group + 8) < (int)size;
        else if (strncmp(line, "0::", 3) == 0 && access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0)
            found = snprintf(out, size, "/sys/fs/cgroup%s/cgroup.procs", line + 3) < (int)size;
    }
    if (f)
        fclose(f);
    return found;
}

static bool docker_usage(struct exec *x, struct attempt_ref ref, struct exec_usage *out)
{
    struct box *b = box_find(docker_of(x), ref);
    char path[1024];
    int pid;
    *out = (struct exec_usage){ 0 };
    if (!b || b->phase != BOX_RUNNING || !b->pid || !procs_of(b->pid, path, sizeof path))
        return false;
    FILE *f = fopen(path, "re");
    while (f && fscanf(f, "%d", &pid) == 1)
        usage_add_pid(out, pid);
    if (f)
        fclose(f);
    return out->processes > 0;
}

static const char *docker_enforces(struct exec *x)
{
    return docker_of(x)->enforces;
}

static void docker_free(struct docker *d)
{
    for (uint32_t i = 0; i < d->refs.cap; i++)
        if (d->boxes[i])
            box_free(d->boxes[i]);
    while (!list_empty(&d->pulls)) {
        struct pull *p = list_entry(list_first(&d->pulls), struct pull, node);
        list_remove(&p->node);
        engine_cancel(p->call);
        buf_fini(&p->lines.line);
        free(p->image);
        free(p);
    }
    while (!list_empty(&d->leaving)) {
        struct leaving *l = list_entry(list_first(&d->leaving), struct leaving, node);
        list_remove(&l->node);
        engine_cancel(l->call);
        free(l);
    }
    engine_free(d->engine);
    if (d->files)
        docker_files_free(d->files);
    loop_timer_remove(d->tick_timer);
    loop_timer_remove(d->kick_timer);
    container_home_close(&d->home);
    if (d->logs_dir >= 0)
        close(d->logs_dir);
    ref_table_fini(&d->refs);
    free(d->boxes);
    free(d->state_dir);
    free(d->user);
    free(d);
}

static void docker_close(struct exec *x)
{
    struct docker *d = docker_of(x);
    if (d->shut_down)
        docker_sweep(d, SWEEP_MS);
    docker_free(d);
}

static const struct exec_ops docker_ops = {
    .name = "docker",
    .start = docker_start,
    .signal = docker_signal,
    .line = docker_line,
    .remove = docker_remove,
    .log_path = docker_log_path,
    .usage = docker_usage,
    .enforces = docker_enforces,
    .close = docker_close,
};

/* --- opening --- */

static int set_user(struct docker *d, struct err *err)
{
    const char *user = d->config.user;
    char own[32], *end;
    if (!user || !*user) {
        snprintf(own, sizeof own, "%u:%u", (unsigned)geteuid(), (unsigned)getegid());
        d->user = mem_str(geteuid() == 0 ? NOBODY : own);
        return 0;
    }
    unsigned long uid = strtoul(user, &end, 10);
    if (*user < '0' || *user > '9' || (*end && *end != ':') || strspn(end, ":0123456789") != strlen(end))
        return err_field(err, ERR_INVALID, "container_user", "write numbers, as in 1000:1000",
                         "\"%.60s\" is no user of containers", user);
    if (uid == 0)
        return err_field(err, ERR_INVALID, "container_user", "name another user, as in 1000:1000",
                         "jobs in containers do not run as root");
    d->user = mem_str(user);
    return 0;
}

static bool is_below(const char *path, const char *dir)
{
    size_t size = strlen(dir);
    return strncmp(path, dir, size) == 0 && (path[size] == '/' || path[size] == 0);
}

static int check_mount(struct docker *d, const struct exec_mount *m, struct err *err)
{
    struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS };
    struct stat st;
    if (m->path[0] != '/' || strlen(m->path) < 2)
        return err_field(err, ERR_INVALID, "container_mounts", "write an absolute path, and not the root",
                         "\"%.100s\" can not be shown to containers", m->path);
    autoclose int fd = (int)syscall(SYS_openat2, AT_FDCWD, m->path, &how, sizeof how);
    if (fd < 0 && errno == ELOOP)
        return err_field(err, ERR_INVALID, "container_mounts", "write the path without links, as realpath prints it",
                         "there is a symbolic link in \"%.100s\"", m->path);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(err, "container_mounts: %.100s", m->path);
    if (!S_ISDIR(st.st_mode))
        return err_field(err, ERR_INVALID, "container_mounts", "name a directory", "\"%.100s\" is no directory",
                         m->path);
    if (is_below(engine_address(d->engine), m->path) || is_below(d->state_dir, m->path) ||
        is_below(m->path, d->state_dir))
        return err_field(err, ERR_DENIED, "container_mounts",
                         "name a directory that holds neither the engine's socket nor the worker's state",
                         "\"%.100s\" would give containers power over this machine", m->path);
    return 0;
}

static int configure(struct docker *d, const struct exec_config *config, struct err *err)
{
    d->config = config->container;
    d->log_bytes_max = config->log_bytes_max;
    d->shut_down = config->shutdown_nursery;
    if (!d->config.network || !*d->config.network)
        d->config.network = "none";
    if (strcmp(d->config.network, "host") == 0 || strncmp(d->config.network, "container:", 10) == 0)
        return err_field(err, ERR_INVALID, "container_network",
                         "write none, bridge or the name of a network of the engine's",
                         "containers may not have the network of the machine");
    if (!d->config.pids_max)
        d->config.pids_max = PIDS_MAX;
    if (!d->config.tmp_bytes)
        d->config.tmp_bytes = TMP_BYTES;
    check(d->config.mounts_count <= EXEC_MOUNTS_MAX);
    for (size_t i = 0; i < d->config.mounts_count; i++) {
        d->mounts[i] = d->config.mounts[i];
        if (check_mount(d, &d->mounts[i], err) < 0)
            return -(int)err->code;
    }
    return set_user(d, err);
}

static int open_files(struct docker *d, const char *state_dir, struct err *err)
{
    if (mkdir(state_dir, 0700) < 0 && errno != EEXIST)
        return err_errno(err, "%s", state_dir);
    d->state_dir = realpath(state_dir, NULL);
    if (!d->state_dir)
        return err_errno(err, "%s", state_dir);
    autoclose int dir = open(d->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || (mkdirat(dir, "logs", 0700) < 0 && errno != EEXIST))
        return err_errno(err, "%s/logs", d->state_dir);
    d->logs_dir = openat(dir, "logs", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (d->logs_dir < 0)
        return err_errno(err, "%s/logs", d->state_dir);
    autoclose int boot = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (boot < 0 || read(boot, d->boot, 36) != 36)
        snprintf(d->boot, sizeof d->boot, "unknown");
    return container_home_open(&d->home, d->state_dir, err);
}

static void recover_gone(void *arg, const char *name, struct attempt_ref ref)
{
    (void)ref;
    docker_leave(arg, name, false);
}

static void recover_run(void *arg, const char *name, struct attempt_ref ref)
{
    struct docker *d = arg;
    char text[8];
    if (!container_note_get(&d->home, name, "asked", text, sizeof text)) {
        /* The engine never heard of it: it was never started, which the worker says of what we do not know. */
        if (container_dir_leave(&d->home, name))
            docker_files_remove(d->files, name);
        return;
    }
    struct box *b = box_add(d, ref);
    if (!b) {
        log_error("more containers than fit are left from before: container=%s", name);
        return;
    }
    box_restore(b);
    int64_t ran_ms = b->phase == BOX_ENDED ? b->result.run_ms : b->begun_ms ? docker_now(d) - b->begun_ms : 0;
    if (d->events.on_recovered)
        d->events.on_recovered(d->events.arg, ref, b->phase == BOX_ENDED ? PHASE_ENDED : PHASE_RUNNING,
                               ran_ms > 0 ? ran_ms : 0, &b->result);
}

static void squeezed(void *arg, struct attempt_ref ref)
{
    struct box *b = box_find(arg, ref);
    if (b && b->phase == BOX_COLLECTING)
        box_squeezed(b);
}

struct exec *exec_docker_open(struct loop *loop, const struct exec_config *config, const struct exec_events *events,
                              struct err *err)
{
    struct docker *d = mem_zero(1, sizeof *d);
    struct err local = { 0 };
    d->base.ops = &docker_ops;
    d->events = *events;
    d->loop = loop;
    d->logs_dir = d->home.run = d->home.gone = -1;
    list_init(&d->lined);
    list_init(&d->queue);
    list_init(&d->busy);
    list_init(&d->ended);
    list_init(&d->pulls);
    list_init(&d->leaving);
    ref_table_init(&d->refs, DOCKER_ATTEMPTS_MAX);
    d->boxes = mem_zero(DOCKER_ATTEMPTS_MAX, sizeof *d->boxes);
    d->tick_timer = loop_timer_add(loop, tick_due, d);
    d->kick_timer = loop_timer_add(loop, kick_due, d);
    d->engine = engine_new(loop, config->container.engine, &local);
    if (!d->engine || open_files(d, config->state_dir, &local) < 0 || configure(d, config, &local) < 0) {
        if (err)
            *err = local;
        docker_free(d);
        return NULL;
    }
    d->config.mounts = d->mounts;
    d->files = docker_files_new(d, squeezed);
    describe(d);
    container_each(&d->home, d->home.gone, recover_gone, d);
    container_each(&d->home, d->home.run, recover_run, d);
    ping(d);
    loop_timer_set(d->tick_timer, TICK_MS);
    return &d->base;
}
