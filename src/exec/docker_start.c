#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/parse.h"
#include "exec/docker_int.h"
#include "io/loop.h"
#include "obs/log.h"

#define PULL_STALL_MS 120000
#define PULL_TELL_MS 10000
#define PULL_NOTE_MS 1000
#define START_TRIES_MAX 5

static void send_create(struct box *b);
static void box_pull(struct box *b);

/* --- the copy of a job --- */

static char **copy_strings(struct arena *memory, char *const *strings)
{
    size_t count = 0;
    while (strings && strings[count])
        count++;
    char **copy = arena_alloc(memory, (count + 1) * sizeof *copy);
    for (size_t i = 0; i < count; i++)
        copy[i] = arena_str(memory, bytes_str(strings[i]));
    copy[count] = NULL;
    return copy;
}

static const char *copy_text(struct arena *memory, const char *text)
{
    return text ? arena_str(memory, bytes_str(text)) : NULL;
}

struct exec_job *docker_job_copy(struct arena *memory, const struct exec_job *job)
{
    struct exec_job *copy = arena_copy(memory, job, sizeof *job);
    copy->argv = copy_strings(memory, job->argv);
    copy->env = copy_strings(memory, job->env);
    copy->workdir = copy_text(memory, job->workdir);
    copy->stdin_path = copy_text(memory, job->stdin_path);
    copy->stdout_path = copy_text(memory, job->stdout_path);
    copy->stderr_path = copy_text(memory, job->stderr_path);
    copy->image = copy_text(memory, job->image);
    copy->gpus = copy_text(memory, job->gpus);
    copy->cpus = copy_text(memory, job->cpus);
    copy->account = job->account ? arena_copy(memory, job->account, sizeof *job->account) : NULL;
    return copy;
}

/* --- asking the engine --- */

static struct engine_call *call(struct box *b, const char *method, const char *what, int64_t timeout_ms,
                                struct bytes body, bool fresh,
                                void (*on_done)(void *arg, const struct engine_reply *reply))
{
    char path[160];
    snprintf(path, sizeof path, "/containers/%s/%s", b->name, what);
    return engine_send(b->docker->engine, &(struct engine_request){ .method = method,
                                                                    .path = path,
                                                                    .body = body,
                                                                    .timeout_ms = timeout_ms,
                                                                    .fresh = fresh,
                                                                    .arg = b,
                                                                    .on_done = on_done });
}

/* No answer, or one that says that the engine itself is in trouble: later again, for a while. */
static void try_later(struct box *b, const struct engine_reply *reply)
{
    if (!reply->status)
        docker_link_suspect(b->docker);
    if (++b->tries > START_TRIES_MAX) {
        char text[200];
        snprintf(text, sizeof text, "container engine: %.150s", reply->error);
        docker_engine_failed(b->docker, reply->error);
        box_end_unstarted(b, b->start_sent ? REASON_INFRA : REASON_NEVER_STARTED, text);
        return;
    }
    b->retry_ms = docker_now(b->docker) + LOOK_AGAIN_MS;
}

static bool ended_before_start(struct box *b)
{
    if (!b->termed && !b->killed)
        return false;
    box_end_unstarted(b, REASON_SIGNAL, "");
    return true;
}

/* --- starting --- */

void box_without_shim(struct box *b, const char *why)
{
    log_warn("an image refuses our first process, its jobs run without: image=%s why=\"%s\"", b->job->image, why);
    b->plain = b->again = true;
    b->start_sent = false;
    container_note_set(&b->docker->home, b->name, "plain", "");
    box_abort(b);
}

/* The engine has said that it could not start it. */
static void start_refused(struct box *b, const struct engine_reply *reply)
{
    char text[200];
    struct shim_record record;
    bool begun = !b->plain && container_record(&b->docker->home, b->name, &record);
    if (begun) {
        b->retry_ms = docker_now(b->docker) + LOOK_AGAIN_MS; /* it did, whatever the engine says */
        return;
    }
    if (!b->plain && b->job) {
        /* If the fault is another one than the shim it is met again, and told then. */
        box_without_shim(b, reply->error);
        return;
    }
    snprintf(text, sizeof text, "container: %.180s", reply->error);
    if (reply->status >= 500)
        docker_engine_failed(b->docker, reply->error);
    box_end_unstarted(b, reply->status < 500 ? REASON_SPAWN : REASON_NEVER_STARTED, text);
}

static void start_done(void *arg, const struct engine_reply *reply)
{
    struct box *b = arg;
    b->call = NULL;
    if (reply->status == 204 || reply->status == 304) {
        box_started(b);
        if (b->exit_told && !box_settle_by_record(b))
            box_look(b);
    } else if (reply->status) {
        start_refused(b, reply);
    } else {
        /* Whether it runs is not known. It is never started again when it was. */
        docker_link_suspect(b->docker);
        b->retry_ms = docker_now(b->docker) + LOOK_AGAIN_MS;
    }
}

static void send_start(struct box *b)
{
    if (ended_before_start(b))
        return;
    if (b->plain && b->start_sent) {
        /* Without the shim a second start could run it twice. */
        box_abort(b);
        return;
    }
    box_phase_set(b, BOX_STARTING);
    b->start_sent = true;
    if (b->plain)
        container_note_set(&b->docker->home, b->name, "started", "");
    b->call = call(b, "POST", "start", START_MS, bytes_of("", 0), true, start_done);
}

static void wait_head(void *arg, int status)
{
    struct box *b = arg;
    if (status == 200 && b->phase == BOX_OPENING && !b->call)
        send_start(b);
}

static void wait_done(void *arg, const struct engine_reply *reply)
{
    struct box *b = arg;
    b->wait = NULL;
    bool told = reply->status == 200 && engine_json_exit(reply->body, &b->exit_code);
    b->exit_told |= told;
    if (!told) {
        b->continuous = false;
        if (!reply->status)
            docker_link_suspect(b->docker);
    }
    if (b->phase == BOX_OPENING)
        b->retry_ms = docker_now(b->docker) + LOOK_AGAIN_MS; /* before its start: to be looked at */
    else if (b->phase == BOX_RUNNING && !told)
        b->retry_ms = docker_now(b->docker) + LOOK_AGAIN_MS;
    else if (b->phase == BOX_RUNNING && !box_settle_by_record(b))
        box_look(b);
}

void docker_wait_open(struct box *b, bool before_start)
{
    char path[160];
    snprintf(path, sizeof path, "/containers/%s/wait?condition=%s", b->name,
             before_start ? "next-exit" : "not-running");
    if (b->wait)
        return;
    b->continuous = before_start;
    b->exit_told = false;
    if (before_start)
        box_phase_set(b, BOX_OPENING);
    b->wait = engine_send(b->docker->engine,
                          &(struct engine_request){
                              .method = "POST", .path = path, .arg = b, .on_head = wait_head, .on_done = wait_done });
}

/* --- creating --- */

static size_t shim_entrypoint(const struct exec_job *job, char *out[10])
{
    size_t n = 0;
    const struct {
        const char *option, *path;
    } streams[] = { { "-i", job->stdin_path }, { "-o", job->stdout_path }, { "-e", job->stderr_path } };
    out[n++] = (char *)(uintptr_t)SHIM_PROGRAM;
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++) {
        if (!streams[i].path)
            continue;
        out[n++] = (char *)(uintptr_t)streams[i].option;
        out[n++] = (char *)(uintptr_t)streams[i].path;
    }
    out[n++] = (char *)(uintptr_t) "--";
    out[n] = NULL;
    return n;
}

static int make_body(struct box *b, struct buf *out, struct err *err)
{
    struct docker *d = b->docker;
    char user[32], box_path[PATH_MAX + 128], shim_path[PATH_MAX + 16], *entrypoint[10], *nothing[] = { NULL };
    struct engine_mount mounts[EXEC_MOUNTS_MAX + 2];
    snprintf(box_path, sizeof box_path, "%s/run/%s/box", d->home.path, b->name);
    snprintf(shim_path, sizeof shim_path, "%s/shim", d->home.path);
    /* Who submitted it, unless the operator named somebody for all containers. */
    if (b->job->account && b->job->account->uid != 0 && (!d->config.user || !*d->config.user))
        snprintf(user, sizeof user, "%u:%u", b->job->account->uid, b->job->account->gid);
    else
        snprintf(user, sizeof user, "%s", d->user);
    struct engine_container c = {
        .image = b->job->image,
        .workdir = b->job->workdir,
        .user = user,
        .network = d->config.network,
        .entrypoint = b->plain ? b->job->argv : entrypoint,
        .command = b->plain ? nothing : b->job->argv,
        .env = b->job->env,
        .labels.ref = box_ref(b),
        .mounts = mounts,
        .mem_bytes = b->job->need.v[RES_MEM],
        .cpu_milli = b->job->need.v[RES_CPU],
        .gpus = b->job->gpus,
        .cpus = b->job->cpus,
        .pids_max = d->config.pids_max,
        .tmp_bytes = d->config.tmp_bytes,
        .log_bytes = b->plain ? (b->output_bytes_max ? 4 * b->output_bytes_max : 1ull << 30) + (1u << 20) : 0,
        .init = b->plain,
    };
    snprintf(c.labels.worker, sizeof c.labels.worker, "%s", d->home.worker);
    shim_entrypoint(b->job, entrypoint);
    if (!b->plain) {
        mounts[c.mounts_count++] = (struct engine_mount){ shim_path, SHIM_PROGRAM, true };
        mounts[c.mounts_count++] = (struct engine_mount){ box_path, SHIM_HERE, false };
    }
    for (size_t i = 0; i < d->config.mounts_count; i++)
        mounts[c.mounts_count++] =
            (struct engine_mount){ d->mounts[i].path, d->mounts[i].path, d->mounts[i].read_only };
    return engine_json_create(&c, out, err);
}

static void image_missing(struct box *b)
{
    char text[200];
    if (b->job->pull != EXEC_PULL_NEVER && !b->pulled) {
        box_pull(b);
        return;
    }
    snprintf(text, sizeof text, "image \"%.100s\" is not on this node%s", b->job->image,
             b->pulled ? ", though it was just pulled" : ", and it is not to be pulled");
    box_end_unstarted(b, REASON_IMAGE, text);
}

static void create_refused(struct box *b, const struct engine_reply *reply)
{
    char text[200];
    if (reply->status == 404) {
        image_missing(b);
    } else if (reply->status == 409 || (reply->status == 500 && strstr(reply->error, "already in use"))) { /* 500: Podman */
        box_look(b); /* our own, from a call whose answer was lost; or somebody else's */
    } else if (strstr(reply->error, "bind source path does not exist") && !b->plain) {
        /* The engine is on another machine, or sees other files. */
        b->plain = true;
        container_note_set(&b->docker->home, b->name, "plain", "");
        send_create(b);
    } else if (reply->status == 400) {
        bool image = strstr(reply->error, "reference format") || strstr(reply->error, "invalid reference");
        snprintf(text, sizeof text, "%s%.100s%s: %.90s", image ? "image \"" : "container", image ? b->job->image : "",
                 image ? "\"" : "", reply->error);
        box_end_unstarted(b, image ? REASON_IMAGE : REASON_SPAWN, text);
    } else {
        try_later(b, reply);
    }
}

static void create_done(void *arg, const struct engine_reply *reply)
{
    struct box *b = arg;
    b->call = NULL;
    b->mine |= reply->status == 201;
    if (reply->status == 201)
        docker_wait_open(b, true);
    else
        create_refused(b, reply);
}

static void send_create(struct box *b)
{
    struct docker *d = b->docker;
    autobuf struct buf body = BUF_INIT;
    struct err err = { 0 };
    char path[128];
    box_phase_set(b, BOX_CREATING);
    if (ended_before_start(b))
        return;
    if (b->plain && (b->job->stdin_path || b->job->stdout_path || b->job->stderr_path)) {
        box_end_unstarted(b, REASON_SPAWN,
                          "stdin, stdout and stderr can not be files here: the image refuses our first process");
        return;
    }
    if (make_body(b, &body, &err) < 0) {
        box_end_unstarted(b, REASON_SPAWN, err.text);
        return;
    }
    if (!b->asked && !container_note_set(&d->home, b->name, "asked", "")) {
        box_end_unstarted(b, REASON_INFRA, "the files of the container can not be written");
        return;
    }
    b->asked = true;
    snprintf(path, sizeof path, "/containers/create?name=%s", b->name);
    b->call = engine_send(d->engine, &(struct engine_request){ .method = "POST",
                                                               .path = path,
                                                               .body = buf_bytes(&body),
                                                               .timeout_ms = CREATE_MS,
                                                               .arg = b,
                                                               .on_done = create_done });
}

/* --- pulling: one at a time per image --- */

static struct pull *pull_find(struct docker *d, const char *image)
{
    list_each(node, &d->pulls)
    {
        struct pull *p = list_entry(node, struct pull, node);
        if (strcmp(p->image, image) == 0)
            return p;
    }
    return NULL;
}

static void layer_learn(struct pull *p, const struct engine_pull_line *l)
{
    size_t i = 0;
    if (!*l->id || (!l->total && !l->done))
        return;
    while (i < p->layers_count && strcmp(p->layers[i].id, l->id) != 0)
        i++;
    if (i == PULL_LAYERS_MAX)
        return;
    struct pull_layer *layer = &p->layers[i];
    if (i == p->layers_count) {
        *layer = (struct pull_layer){ .id = "" };
        snprintf(layer->id, sizeof layer->id, "%s", l->id);
        p->layers_count++;
    }
    if (l->done)
        layer->current = layer->total;
    else if (l->total)
        layer->current = l->current, layer->total = l->total;
}

/* Those who wait for the image are told how far it is. */
static void pull_note(struct pull *p, int64_t now_ms)
{
    const struct exec_events *events = &p->docker->events;
    uint64_t current = 0, total = 0;
    char text[200];
    if (!events->on_note || now_ms - p->noted_ms < PULL_NOTE_MS)
        return;
    p->noted_ms = now_ms;
    for (size_t i = 0; i < p->layers_count; i++)
        current += p->layers[i].current, total += p->layers[i].total;
    autobuf struct buf sizes = BUF_INIT;
    if (total) {
        format_size(&sizes, current >> 20 << 20);
        buf_str(&sizes, " of ");
        format_size(&sizes, total >> 20 << 20);
        snprintf(text, sizeof text, "pulling the image %.80s: %u %%, %s", p->image, (unsigned)(100 * current / total), sizes.data);
    } else {
        snprintf(text, sizeof text, "pulling the image %.80s: %.80s", p->image, p->status);
    }
    list_each(node, &p->boxes)
        events->on_note(events->arg, box_ref(list_entry(node, struct box, node)), text);
}

static void pull_line(void *arg, struct bytes line)
{
    struct pull *p = arg;
    struct engine_pull_line l;
    if (!engine_json_pull(line, &l))
        return;
    if (*l.error && !*p->error)
        snprintf(p->error, sizeof p->error, "%s", l.error);
    snprintf(p->status, sizeof p->status, "%s", l.status);
    layer_learn(p, &l);
    int64_t now_ms = docker_now(p->docker);
    pull_note(p, now_ms);
    if (now_ms - p->told_ms < PULL_TELL_MS)
        return;
    p->told_ms = now_ms;
    log_info("image is pulled: image=%s status=\"%s\" bytes=%" PRIu64 " of=%" PRIu64, p->image, l.status, l.current,
             l.total);
}

static void pull_data(void *arg, struct bytes piece)
{
    struct pull *p = arg;
    engine_lines_take(&p->lines, piece, pull_line, p);
}

/* Everybody who waited goes on, or ends. */
static void pull_over(struct pull *p, enum reason reason, const char *why)
{
    list_remove(&p->node);
    engine_cancel(p->call);
    while (!list_empty(&p->boxes)) {
        struct box *b = list_entry(list_first(&p->boxes), struct box, node);
        char text[200];
        list_remove(&b->node);
        list_append(&p->docker->queue, &b->node);
        b->pulled = true;
        if (p->docker->events.on_note)
            p->docker->events.on_note(p->docker->events.arg, box_ref(b), "");
        box_phase_set(b, BOX_QUEUED);
        if (reason == REASON_NONE)
            continue;
        snprintf(text, sizeof text, "image \"%.80s\": %.100s", p->image, why);
        box_end_unstarted(b, reason, text);
    }
    docker_kick(p->docker);
    buf_fini(&p->lines.line);
    free(p->image);
    free(p);
}

static void pull_done(void *arg, const struct engine_reply *reply)
{
    struct pull *p = arg;
    p->call = NULL;
    engine_lines_end(&p->lines, pull_line, p);
    const char *why = *p->error ? p->error : reply->error;
    if (reply->status == 200 && !*p->error) {
        log_info("image was pulled: image=%s status=\"%s\"", p->image, p->status);
        pull_over(p, REASON_NONE, "");
        return;
    }
    log_warn("image could not be pulled: image=%s why=\"%s\"", p->image, why);
    bool engine_gone = !reply->status && !reply->timed_out && !*p->error;
    if (engine_gone)
        docker_link_suspect(p->docker);
    pull_over(p, engine_gone ? REASON_NEVER_STARTED : REASON_IMAGE, why);
}

static bool path_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._~", c);
}

/* A name without tag and digest means "latest", and not all there are. */
static void pull_path(struct buf *path, const char *image)
{
    const char *slash = strrchr(image, '/');
    bool named = strchr(image, '@') || strchr(slash ? slash : image, ':');
    buf_str(path, "/images/create?fromImage=");
    for (const char *c = image; *c; c++) {
        if (path_char(*c))
            buf_char(path, *c);
        else
            buf_printf(path, "%%%02X", (unsigned char)*c);
    }
    if (!named)
        buf_str(path, "&tag=latest");
}

static struct pull *pull_start(struct docker *d, const char *image)
{
    struct pull *p = mem_zero(1, sizeof *p);
    autobuf struct buf path = BUF_INIT;
    p->docker = d;
    p->image = mem_str(image);
    p->told_ms = docker_now(d);
    list_init(&p->boxes);
    list_append(&d->pulls, &p->node);
    pull_path(&path, image);
    log_info("image is pulled: image=%s", image);
    p->call = engine_send(d->engine, &(struct engine_request){ .method = "POST",
                                                               .path = path.data,
                                                               .stall_ms = PULL_STALL_MS,
                                                               .fresh = true,
                                                               .arg = p,
                                                               .on_data = pull_data,
                                                               .on_done = pull_done });
    return p;
}

static void box_pull(struct box *b)
{
    struct pull *p = pull_find(b->docker, b->job->image);
    if (!p)
        p = pull_start(b->docker, b->job->image);
    box_phase_set(b, BOX_PULLING);
    list_remove(&b->node);
    list_append(&p->boxes, &b->node);
}

/* --- the queue --- */

static void begin(struct box *b)
{
    struct docker *d = b->docker;
    list_remove(&b->node);
    list_append(&d->busy, &b->node);
    if (b->job->pull == EXEC_PULL_ALWAYS && !b->pulled)
        box_pull(b);
    else
        send_create(b);
}

void docker_run_queue(struct docker *d)
{
    while (docker_able(d) && d->starting < STARTING_MAX && !list_empty(&d->queue))
        begin(list_entry(list_first(&d->queue), struct box, node));
}

void docker_retry_start(struct box *b)
{
    if (b->phase == BOX_CREATING)
        send_create(b);
    else if (b->phase == BOX_OPENING || b->phase == BOX_STARTING)
        box_look(b);
}
