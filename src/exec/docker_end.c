#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "exec/docker_int.h"
#include "exec/launch.h"
#include "io/loop.h"
#include "obs/log.h"

#define LOGS_STALL_MS 30000

static const char *const stream_files[OUTPUT_STREAMS] = { [EXEC_STDOUT] = "out", [EXEC_STDERR] = "err" };

/* --- telling --- */

static void tell(struct box *b)
{
    struct docker *d = b->docker;
    struct attempt_ref ref = box_ref(b);
    struct attempt_result result = b->result;
    bool had_process = b->had_process;
    char text[sizeof b->text];
    memcpy(text, b->text, sizeof text);
    box_phase_set(b, BOX_ENDED);
    if (had_process && d->events.on_vacated)
        d->events.on_vacated(d->events.arg, ref, (struct attempt_ref){ 0 });
    d->events.on_ended(d->events.arg, ref, &result, had_process, text); /* may remove it */
}

/* The first end is the one that counts, also for a worker after this one. */
static void note_end(struct box *b)
{
    const struct attempt_result *r = &b->result;
    char text[512];
    snprintf(text, sizeof text,
             "%d %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRId64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
             " %d\n%s",
             (int)r->reason, r->exit_code, r->signal, r->flags, r->run_ms, r->cpu_ms, r->rss_max_bytes, r->stdout_bytes,
             r->stderr_bytes, b->had_process, b->text);
    if (!container_note_set(&b->docker->home, b->name, "end", text))
        log_error("the end of an attempt could not be noted: container=%s", b->name);
}

static bool read_end(struct box *b)
{
    struct attempt_result *r = &b->result;
    char text[512];
    int reason, had_process, at = 0;
    if (!container_note_get(&b->docker->home, b->name, "end", text, sizeof text) ||
        sscanf(text,
               "%d %" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNd64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
               " %d%n",
               &reason, &r->exit_code, &r->signal, &r->flags, &r->run_ms, &r->cpu_ms, &r->rss_max_bytes,
               &r->stdout_bytes, &r->stderr_bytes, &had_process, &at) != 10 ||
        text[at] != '\n' || reason < 0 || reason >= REASONS || r->run_ms < 0)
        return false;
    r->reason = (enum reason)reason;
    b->had_process = had_process;
    snprintf(b->text, sizeof b->text, "%s", text + at + 1);
    return true;
}

/* --- its output --- */

static void measure_output(struct box *b)
{
    static const uint32_t gap[OUTPUT_STREAMS] = { END_STDOUT_GAP, END_STDERR_GAP };
    uint64_t *bytes[OUTPUT_STREAMS] = { &b->result.stdout_bytes, &b->result.stderr_bytes };
    autoclose int box = container_box_open(&b->docker->home, b->name);
    b->result.flags |= b->gaps;
    for (enum exec_stream stream = 0; stream < OUTPUT_STREAMS; stream++) {
        if (!(b->own_streams & (1u << stream)) || box < 0)
            continue;
        *bytes[stream] = output_file_size(box, stream_files[stream]);
        if (output_over(*bytes[stream], b->output_bytes_max) || b->got_bytes[stream] < b->skip_bytes[stream])
            b->result.flags |= gap[stream];
    }
}

void box_publish(struct box *b)
{
    struct docker *d = b->docker;
    autoclose int box = container_box_open(&d->home, b->name);
    for (enum exec_stream stream = 0; stream < OUTPUT_STREAMS; stream++) {
        if (box < 0 || !(b->own_streams & (1u << stream)) || !output_file_size(box, stream_files[stream]))
            continue; /* nothing, or done before */
        if (!output_publish_file(box, stream_files[stream], d->logs_dir, stream, box_ref(b))) {
            log_error("output of an attempt is lost: container=%s stream=%s", b->name, stream_files[stream]);
            b->result.flags |= stream == EXEC_STDOUT ? END_STDOUT_GAP : END_STDERR_GAP;
        }
    }
}

/* --- ending --- */

static void drop_calls(struct box *b)
{
    engine_cancel(b->call);
    engine_cancel(b->wait);
    engine_cancel(b->logs);
    b->call = b->wait = b->logs = NULL;
    b->retry_ms = 0;
    for (int stream = 0; stream < OUTPUT_STREAMS; stream++) {
        if (b->out_fds[stream] >= 0)
            close(b->out_fds[stream]);
        b->out_fds[stream] = -1;
    }
}

/* result and text are there: makes them last and tells them. */
static void end(struct box *b)
{
    const uint64_t written[OUTPUT_STREAMS] = { b->result.stdout_bytes, b->result.stderr_bytes };
    drop_calls(b);
    note_end(b);
    box_publish(b);
    if (output_over(written[0], b->output_bytes_max) || output_over(written[1], b->output_bytes_max)) {
        box_phase_set(b, BOX_COLLECTING);
        docker_files_squeeze(b->docker->files, box_ref(b), written, b->output_bytes_max);
        return;
    }
    tell(b);
}

void box_squeezed(struct box *b)
{
    tell(b);
}

void box_end_unstarted(struct box *b, enum reason reason, const char *text)
{
    b->result = (struct attempt_result){ .reason = reason };
    /* Ended by order before it came to run: an end like any other. */
    b->had_process = b->told_started || b->recovered || reason == REASON_SIGNAL;
    if (reason == REASON_SIGNAL)
        b->result.signal = b->killed ? 9 : 15;
    if (b->start_sent && reason == REASON_INFRA)
        b->result.flags = END_MAY_HAVE_RUN;
    snprintf(b->text, sizeof b->text, "%s", text);
    end(b);
}

static void result_infra(struct box *b, bool may_have_run, const char *text)
{
    b->result.reason = b->other_boot ? REASON_NODE_REBOOTED : REASON_INFRA;
    b->result.exit_code = b->result.signal = 0;
    b->result.flags |= may_have_run ? END_MAY_HAVE_RUN : 0;
    snprintf(b->text, sizeof b->text, "%s", b->other_boot ? "the node was rebooted while it ran" : text);
}

static void result_signal(struct box *b, enum reason reason, uint32_t signo)
{
    b->result.reason = reason;
    b->result.signal = signo;
    b->result.exit_code = 0;
}

static void result_stage(struct box *b, const struct shim_record *r)
{
    static const char *const subjects[] = {
        [SHIM_STAGE_FILES] = "files",   [SHIM_STAGE_FORK] = "new process", [SHIM_STAGE_STDIN] = "stdin",
        [SHIM_STAGE_STDOUT] = "stdout", [SHIM_STAGE_STDERR] = "stderr",    [SHIM_STAGE_EXEC] = "command",
    };
    struct launch_failure f;
    bool ours = r->stage <= SHIM_STAGE_FORK;
    launch_failure_set(&f, ours ? REASON_INFRA : REASON_SPAWN, subjects[r->stage], *r->name ? r->name : NULL, r->error);
    b->result.reason = f.reason;
    snprintf(b->text, sizeof b->text, "%s", f.text);
}

/* The shim has told the end: nobody else knows better. */
static void result_of_record(struct box *b, const struct shim_record *r)
{
    struct attempt_result *out = &b->result;
    bool oom = r->oom_kills > 0 || (b->last_known && b->last.oom_killed);
    *out = (struct attempt_result){
        .exit_code = r->exit_code,
        .signal = r->signal,
        .run_ms = r->ended_ms - r->begun_ms,
        .cpu_ms = r->cpu_us / 1000,
        .rss_max_bytes = oom && r->mem_max_bytes ? r->mem_max_bytes : r->rss_max_bytes,
    };
    if (r->stage)
        result_stage(b, r);
    else if (oom)
        out->reason = REASON_OOM;
    else if ((r->flags & SHIM_FOREIGN_SIGNAL) && !b->termed && !b->killed)
        result_infra(b, true, "somebody else stopped its container, as the engine does when it is shut down");
    else
        out->reason = r->signal ? REASON_SIGNAL : r->exit_code ? REASON_EXIT : REASON_NONE;
}

/* The container is over and the shim has not told how: it was killed, or is not there. */
static void result_of_engine(struct box *b, const struct engine_state *s)
{
    struct shim_record r;
    bool begun = b->plain ? b->start_sent : container_record(&b->docker->home, b->name, &r);
    b->result = (struct attempt_result){ 0 };
    if (b->begun_ms && !b->other_boot)
        b->result.run_ms = docker_now(b->docker) - b->begun_ms;
    if (!s || s->status == ENGINE_CREATED) {
        if (b->killed)
            result_signal(b, REASON_SIGNAL, 9);
        else
            result_infra(b, begun,
                         s ? "its container was not started before the worker ended" : "its container is gone");
    } else if (s->oom_killed) {
        result_signal(b, REASON_OOM, 9);
    } else if (b->killed) {
        result_signal(b, REASON_SIGNAL, 9);
    } else if (!b->plain) {
        result_infra(b, begun, "its container was killed from outside, or the engine ended it");
    } else if (!b->continuous) {
        result_infra(
            b, true,
            "the engine, or this worker, was restarted while it ran: what the engine says of its end proves nothing");
    } else if (b->termed && s->exit_code == 128 + SIGTERM) {
        result_signal(b, REASON_SIGNAL, SIGTERM);
    } else {
        b->result.exit_code = (uint32_t)s->exit_code & 255;
        b->result.reason = s->exit_code ? REASON_EXIT : REASON_NONE;
    }
}

static void settle(struct box *b, const struct engine_state *s)
{
    struct shim_record r;
    char why[64];
    if (!b->plain && b->job && !b->killed && s && s->status == ENGINE_EXITED && !s->oom_killed &&
        !container_record(&b->docker->home, b->name, &r)) {
        snprintf(why, sizeof why, "it ended with exit code %d and did not begin", s->exit_code);
        box_without_shim(b, why);
        return;
    }
    b->had_process = true;
    *b->text = 0;
    if (!b->plain && container_record(&b->docker->home, b->name, &r) && r.phase == SHIM_ENDED)
        result_of_record(b, &r);
    else
        result_of_engine(b, s);
    measure_output(b);
    end(b);
}

bool box_settle_by_record(struct box *b)
{
    struct shim_record r;
    if (b->plain || !container_record(&b->docker->home, b->name, &r) || r.phase != SHIM_ENDED)
        return false;
    if (!(r.flags & SHIM_OOM_KNOWN) && b->docker->link == LINK_UP && !b->last_known)
        return false; /* the engine may know more */
    settle(b, b->last_known ? &b->last : NULL);
    return true;
}

/* --- output that goes through the engine --- */

static void take_output(void *arg, enum engine_frame type, struct bytes data)
{
    struct box *b = arg;
    if (type != FRAME_STDOUT && type != FRAME_STDERR)
        return;
    enum exec_stream stream = type == FRAME_STDOUT ? EXEC_STDOUT : EXEC_STDERR;
    uint64_t known = b->skip_bytes[stream] > b->got_bytes[stream] ? b->skip_bytes[stream] - b->got_bytes[stream] : 0;
    b->got_bytes[stream] += data.size;
    if (known >= data.size)
        return;
    data = bytes_of(data.data + known, data.size - known);
    while (data.size && b->out_fds[stream] >= 0) {
        ssize_t n = write(b->out_fds[stream], data.data, data.size);
        if (n <= 0) {
            b->gaps |= stream == EXEC_STDOUT ? END_STDOUT_GAP : END_STDERR_GAP;
            return;
        }
        data = bytes_of(data.data + n, data.size - (size_t)n);
    }
}

static void logs_data(void *arg, struct bytes piece)
{
    struct box *b = arg;
    engine_frames_take(&b->frames, piece, take_output, b);
}

static void logs_done(void *arg, const struct engine_reply *reply)
{
    struct box *b = arg;
    b->logs = NULL;
    if (b->phase != BOX_COLLECTING)
        return; /* live output has ended before its job: the rest is read at the end */
    if (reply->status != 200) {
        log_warn("output could not be read to its end: container=%s why=\"%s\"", b->name, reply->error);
        b->gaps |= END_STDOUT_GAP | END_STDERR_GAP;
    }
    settle(b, b->last_known ? &b->last : NULL);
}

/* Reads it from its beginning and leaves out what is there already. */
static void read_logs(struct box *b, bool follow)
{
    char path[200];
    autoclose int box = container_box_open(&b->docker->home, b->name);
    engine_cancel(b->logs);
    b->frames = (struct engine_frames){ 0 };
    for (int stream = 0; stream < OUTPUT_STREAMS; stream++) {
        if (b->out_fds[stream] < 0 && box >= 0)
            b->out_fds[stream] = openat(box, stream_files[stream], O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
        b->skip_bytes[stream] = box < 0 ? 0 : output_file_size(box, stream_files[stream]);
        b->got_bytes[stream] = 0;
    }
    snprintf(path, sizeof path, "/containers/%s/logs?stdout=1&stderr=1%s", b->name, follow ? "&follow=1" : "");
    b->logs = engine_send(b->docker->engine, &(struct engine_request){ .method = "GET",
                                                                       .path = path,
                                                                       .stall_ms = follow ? 0 : LOGS_STALL_MS,
                                                                       .fresh = true,
                                                                       .arg = b,
                                                                       .on_data = logs_data,
                                                                       .on_done = logs_done });
}

/* --- looking at its container --- */

static void abort_done(void *arg, const struct engine_reply *reply)
{
    struct box *b = arg;
    b->call = NULL;
    if (reply->status != 204 && reply->status != 404) {
        if (!reply->status)
            docker_link_suspect(b->docker);
        b->retry_ms = docker_now(b->docker) + LOOK_AGAIN_MS;
        return;
    }
    if (!b->again) {
        settle(b, NULL);
        return;
    }
    b->again = false;
    list_remove(&b->node);
    list_append(&b->docker->queue, &b->node);
    box_phase_set(b, BOX_QUEUED);
    docker_kick(b->docker);
}

void box_abort(struct box *b)
{
    char path[160];
    box_phase_set(b, BOX_ABORTING);
    engine_cancel(b->wait);
    engine_cancel(b->call);
    b->wait = NULL;
    snprintf(path, sizeof path, "/containers/%s?force=1&v=1", b->name);
    b->call =
        engine_send(b->docker->engine,
                    &(struct engine_request){
                        .method = "DELETE", .path = path, .timeout_ms = CREATE_MS, .arg = b, .on_done = abort_done });
}

static bool is_ours(const struct box *b, const struct engine_state *s)
{
    return strcmp(s->labels.worker, b->docker->home.worker) == 0 && attempt_equal(s->labels.ref, box_ref(b));
}

static void found_alive(struct box *b)
{
    if (b->phase != BOX_RUNNING)
        box_started(b);
    if (b->phase != BOX_RUNNING)
        return;
    if (b->exit_told) {
        b->retry_ms = docker_now(b->docker) + LOOK_AGAIN_MS; /* what we were shown is older than what we were told */
        return;
    }
    docker_wait_open(b, false);
    if (b->plain && !b->logs)
        read_logs(b, true);
}

static void found_exited(struct box *b)
{
    if (!b->told_started && !b->recovered && b->phase != BOX_RUNNING) {
        box_started(b);
        if (b->phase != BOX_RUNNING)
            return;
    }
    if (!b->plain) {
        settle(b, &b->last);
        return;
    }
    box_phase_set(b, BOX_COLLECTING);
    read_logs(b, false);
}

static void found(struct box *b, const struct engine_state *s)
{
    if (!is_ours(b, s)) {
        log_error("there is a container with our name that is not ours: container=%s", b->name);
        b->foreign = true;
        container_note_set(&b->docker->home, b->name, "foreign", "");
        box_end_unstarted(b, REASON_INFRA, "a container that is not ours has the name of its container");
        return;
    }
    b->mine = true;
    b->last = *s;
    b->last_known = s->status == ENGINE_EXITED;
    if (s->pid)
        b->pid = s->pid;
    switch (s->status) {
    case ENGINE_CREATED:
        if (b->job && !b->start_sent)
            docker_wait_open(b, true);
        else if (b->job && !b->plain)
            docker_wait_open(b, true); /* a second start is met by the shim, which runs nothing twice */
        else
            box_abort(b);
        return;
    case ENGINE_ALIVE:
        found_alive(b);
        return;
    case ENGINE_EXITED:
        found_exited(b);
        return;
    case ENGINE_GOING:
        b->retry_ms = docker_now(b->docker) + LOOK_AGAIN_MS;
        return;
    }
}

static void look_done(void *arg, const struct engine_reply *reply)
{
    struct box *b = arg;
    struct engine_state s;
    b->call = NULL;
    if (reply->status == 404 && b->job && !b->start_sent) {
        b->tries++;
        box_phase_set(b, BOX_CREATING);
        b->retry_ms = docker_now(b->docker);
    } else if (reply->status == 404) {
        settle(b, NULL);
    } else if (reply->status == 200 && engine_json_state(reply->body, &s)) {
        found(b, &s);
    } else {
        if (!reply->status)
            docker_link_suspect(b->docker);
        b->retry_ms = docker_now(b->docker) + LOOK_AGAIN_MS;
    }
}

void box_look(struct box *b)
{
    char path[160];
    if (b->call)
        return;
    b->retry_ms = 0;
    snprintf(path, sizeof path, "/containers/%s/json", b->name);
    b->call = engine_send(b->docker->engine,
                          &(struct engine_request){
                              .method = "GET", .path = path, .timeout_ms = SHORT_MS, .arg = b, .on_done = look_done });
}

/* --- after a restart of the worker --- */

static void restore_job(struct box *b)
{
    char text[128];
    b->own_streams = 3;
    if (container_note_get(&b->docker->home, b->name, "job", text, sizeof text)) {
        char boot[40] = "";
        sscanf(text, "%" SCNu32 " %" SCNu64 " %39s", &b->own_streams, &b->output_bytes_max, boot);
        b->other_boot = strcmp(boot, b->docker->boot) != 0;
    }
    b->plain = container_note_get(&b->docker->home, b->name, "plain", text, sizeof text);
    b->start_sent = !b->plain || container_note_get(&b->docker->home, b->name, "started", text, sizeof text);
    b->termed = container_note_get(&b->docker->home, b->name, "termed", text, sizeof text);
    b->killed = container_note_get(&b->docker->home, b->name, "killed", text, sizeof text);
    b->foreign = container_note_get(&b->docker->home, b->name, "foreign", text, sizeof text);
    b->asked = true;
}

void box_restore(struct box *b)
{
    struct docker *d = b->docker;
    struct shim_record r;
    restore_job(b);
    b->recovered = true;
    if (read_end(b)) {
        const uint64_t written[OUTPUT_STREAMS] = { b->result.stdout_bytes, b->result.stderr_bytes };
        box_publish(b);
        for (enum exec_stream stream = 0; stream < OUTPUT_STREAMS; stream++)
            output_squeeze(d->logs_dir, box_ref(b), stream, written[stream], b->output_bytes_max);
        box_phase_set(b, BOX_ENDED);
        return;
    }
    if (!b->plain && container_record(&d->home, b->name, &r) && !b->other_boot)
        b->begun_ms = r.begun_ms;
    box_phase_set(b, BOX_RUNNING);
    b->retry_ms = docker_now(d); /* to be looked at when the engine is there */
}

/* --- going --- */

static void leaving_free(struct leaving *l)
{
    list_remove(&l->node);
    engine_cancel(l->call);
    free(l);
}

static void removed(void *arg, const struct engine_reply *reply)
{
    struct leaving *l = arg;
    struct docker *d = l->docker;
    l->call = NULL;
    d->removing--;
    if (reply->status == 204 || reply->status == 404) {
        docker_files_remove(d->files, l->name);
        leaving_free(l);
    } else {
        if (!reply->status)
            docker_link_suspect(d);
        l->retry_ms = docker_now(d) + LOOK_AGAIN_MS;
        list_remove(&l->node); /* others first */
        list_append(&d->leaving, &l->node);
    }
    docker_kick(d);
}

/* A name alone does not make it ours: who answered our create with an error may have had it from somebody else. */
static void seen(void *arg, const struct engine_reply *reply)
{
    struct leaving *l = arg;
    struct engine_state s;
    struct attempt_ref ref;
    if (reply->status != 200 || !engine_json_state(reply->body, &s)) {
        removed(l, reply);
        return;
    }
    l->sure = container_ref(&l->docker->home, l->name, &ref) && strcmp(s.labels.worker, l->docker->home.worker) == 0 &&
              attempt_equal(s.labels.ref, ref);
    if (!l->sure) {
        log_error("there is a container with our name that is not ours, it is left alone: container=%s", l->name);
        removed(l, &(struct engine_reply){ .status = 404 });
        return;
    }
    l->call = NULL;
    l->docker->removing--;
    docker_kick(l->docker);
}

void docker_run_leaving(struct docker *d)
{
    int64_t now_ms = docker_now(d);
    list_each_safe(node, &d->leaving)
    {
        struct leaving *l = list_entry(node, struct leaving, node);
        if (d->link != LINK_UP || d->removing >= REMOVING_MAX)
            return;
        if (l->call || l->retry_ms > now_ms)
            continue;
        char path[160];
        snprintf(path, sizeof path, l->sure ? "/containers/%s?force=1&v=1" : "/containers/%s/json", l->name);
        d->removing++;
        l->call = engine_send(d->engine, &(struct engine_request){ .method = l->sure ? "DELETE" : "GET",
                                                                   .path = path,
                                                                   .timeout_ms = CREATE_MS,
                                                                   .arg = l,
                                                                   .on_done = l->sure ? removed : seen });
    }
}

void docker_leave(struct docker *d, const char *name, bool sure)
{
    struct leaving *l = mem_zero(1, sizeof *l);
    l->docker = d;
    l->sure = sure;
    snprintf(l->name, sizeof l->name, "%s", name);
    list_append(&d->leaving, &l->node);
    docker_kick(d);
}

/* --- strays --- */

static bool is_leaving(struct docker *d, const char *name)
{
    list_each(node, &d->leaving)
    {
        if (strcmp(list_entry(node, struct leaving, node)->name, name) == 0)
            return true;
    }
    return false;
}

/* Every container of ours has a directory from before it was asked for until after it is gone. One without was asked
 * for by a worker that died at once, and was made when nobody waited any more: it was never started. */
static void list_visit(void *arg, const char *name, enum engine_status status)
{
    struct docker *d = arg;
    struct attempt_ref ref;
    if (!container_ref(&d->home, name, &ref) || ref_table_find(&d->refs, ref) != REF_NONE || is_leaving(d, name))
        return;
    if (status == ENGINE_ALIVE) {
        log_warn("a container of ours runs that belongs to no attempt, it is left alone: container=%s", name);
        return;
    }
    log_info("a container of ours belongs to no attempt and goes: container=%s", name);
    docker_leave(d, name, true);
}

static void list_done(void *arg, const struct engine_reply *reply)
{
    struct docker *d = arg;
    d->list = NULL;
    if (reply->status == 200)
        engine_json_list(reply->body, list_visit, d);
}

void docker_list(struct docker *d)
{
    autobuf struct buf path = BUF_INIT;
    if (d->list)
        return;
    buf_str(&path, "/containers/json?all=1&filters=");
    engine_json_filter(&path, d->home.worker);
    d->list_ms = docker_now(d);
    d->list = engine_send(
        d->engine, &(struct engine_request){
                       .method = "GET", .path = path.data, .timeout_ms = SHORT_MS, .arg = d, .on_done = list_done });
}
