#include "worker/worker.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/prng.h"
#include "bus/bus.h"
#include "core/model/gate.h"
#include "core/model/where.h"
#include "exec/exec.h"
#include "io/clock.h"
#include "io/loop.h"
#include "obs/log.h"
#include "obs/metrics.h"
#include "wire/spec.h"
#include "wire/wire.h"
#include "worker/account.h"
#include "worker/environment.h"
#include "worker/gpu_meter.h"
#include "worker/journal_writer.h"
#include "worker/lease_line.h"
#include "worker/log_keeper.h"
#include "worker/machine.h"
#include "worker/usage_keeper.h"
#include "worker/worker_logs.h"
#include "worker/worker_serve.h"
#include "worker/worker_state.h"

enum { EXIT_CODE_CORRUPT = 65, EXIT_CODE_IO = 74, EXIT_CODE_LOCKED = 75, EXIT_CODE_CONFIG = 78 };

#define WINDOW_DEFAULT 8192u
#define LOG_BYTES_DEFAULT (64ull << 20)
#define DISK_RESERVE_DEFAULT (64ull << 20)
#define LOGS_KEPT_BYTES (1ull << 30)
#define LOGS_KEPT_FILES 200000u
#define LOGS_LOOK_MS 30000
#define SPACE_LOOK_MS 1000
#define LOAD_LOOK_MS 2000
#define NODE_REPORT_MS 10000
#define CONTAINERS_MAX 1024u
#define JOB_PIDS_DEFAULT 4096u
#define SPAWN_TEXTS 1024u  /* texts of failed starts that are kept for reports */
#define WARN_EVERY_MS 10000
#define SPAWNS_TIMED 64u   /* orders to start whose time is measured at once */

/* Why an attempt could not be started, in words, until its report is acknowledged or many others have failed since. */
struct spawn_text {
    struct attempt_ref ref;
    char text[160];
};

struct worker {
    const struct worker_config *config;
    struct worker_state state;
    struct loop *loop;
    struct agent *agent;
    struct gate *gate;
    struct journal_writer *writer;
    struct exec *exec;
    uint64_t containers_max; /* offered while an engine answers */
    struct bus *bus;
    struct wire_writer *wire;
    struct worker_logs *logs;
    struct log_keeper *keeper;
    struct usage_keeper *usage;
    struct worker_serve *serve;
    char metrics[80];     /* where it is served: HOST:PORT, or "" */
    struct environment environment;
    struct accounts *accounts; /* NULL: all jobs run as we do */

    /* One turn of the loop: its time, and memory that ends with it. */
    int64_t now_ms, wall_ms;
    bool now_known;
    struct arena decode;  /* of the message being handled */
    struct arena sending; /* of what waits in the wire batch */
    struct arena job;     /* of the job being started */
    struct arena mounts;  /* of the settings of containers */
    struct buf tail;
    struct effects fx;
    int64_t wake_at_ms;
    int64_t flush_at_ms;    /* what has gathered waits until then for more; INT64_MAX: nothing waits */

    bool wire_open;       /* a batch has begun */
    bool linked;
    struct arena spec_arena; /* the spec decoded last: the tasks of an array share it */
    struct buf spec_bytes;
    struct job_spec spec;
    bool spec_valid;

    struct resources capacity; /* that it offers */
    uint64_t journal_bytes, snapshot_bytes;
    bool journal_low, space_low;
    struct loop_timer *space_timer, *report_timer;
    struct gpu_meter *gpus; /* NULL: there are none */
    struct lease_line *lease;
    struct machine_meter meter;
    struct machine_load load;
    int64_t load_at_ms;

    struct spawn_text *spawn_texts;
    size_t spawn_texts_count;

    struct { struct attempt_ref ref; int64_t begun_ns; } spawns[SPAWNS_TIMED]; /* ring; begun_ns 0: done */
    uint64_t spawns_first, spawns_next;
    uint64_t exits[REASONS], foreign, undecodable;
    uint64_t spawn_failures[REASONS], commits;
    int64_t warned_ms;
    bool stop;
    int exit_code;
    struct err *err;
};

void worker_config_default(struct worker_config *c)
{
    *c = (struct worker_config){
        .exec = "process",
        .window = WINDOW_DEFAULT,
        .log_bytes_max = LOG_BYTES_DEFAULT,
        .disk_reserve_bytes = DISK_RESERVE_DEFAULT,
        .metrics_port = -1,
        .process = { .pids_max = JOB_PIDS_DEFAULT },
        .run_as_uid_min = 1000,
    };
}

/* --- time --- */

static int64_t now_ms(struct worker *w)
{
    if (!w->now_known) {
        w->now_ms = clock_now_ms();
        w->wall_ms = clock_wall_ms();
        w->now_known = true;
    }
    return w->now_ms;
}

static bool may_warn(struct worker *w)
{
    if (w->warned_ms && now_ms(w) - w->warned_ms < WARN_EVERY_MS)
        return false;
    w->warned_ms = now_ms(w);
    return true;
}

static void end(struct worker *w, int exit_code, const struct err *why)
{
    if (w->stop)
        return;
    w->stop = true;
    w->exit_code = exit_code;
    if (exit_code && w->err)
        *w->err = *why;
}

/* --- deciding --- */

static void take_effects(struct worker *w)
{
    char hex[2 * CLUSTER_BYTES + 1];
    for (size_t i = 0; i < w->fx.records_count; i++) {
        struct record *r = &w->fx.records[i];
        if (r->kind == EV_W_EPOCH && cluster_known(w->state.cluster)) {
            /* The brain knows epochs; which cluster they count in is known here. */
            cluster_print(w->state.cluster, hex);
            r->w_epoch.cluster = bytes_of(hex, 2 * CLUSTER_BYTES);
        }
    }
    gate_add(w->gate, &w->fx);
    w->wake_at_ms = w->fx.wake_at_ms;
}

static void step(struct worker *w, struct agent_event *ev)
{
    ev->now_ms = now_ms(w);
    ev->wall_ms = w->wall_ms;
    agent_step(w->agent, ev, &w->fx);
    take_effects(w);
}

static void step_exec(struct worker *w, enum agent_event_kind kind, struct attempt_ref ref,
                      const struct attempt_result *result)
{
    struct agent_event ev = { .kind = kind };
    ev.exec.ref = ref;
    if (result)
        ev.exec.result = *result;
    step(w, &ev);
}

static void tick(struct worker *w)
{
    if (!w->load_at_ms || now_ms(w) - w->load_at_ms >= LOAD_LOOK_MS) {
        machine_load(&w->meter, "", w->now_ms, &w->load);
        w->load_at_ms = w->now_ms;
    }
    struct agent_event ev = { .kind = AGENT_TICK };
    ev.tick.cpu_used_milli = w->load.cpu_used_milli;
    ev.tick.mem_used_bytes = w->load.mem_used_bytes;
    ev.tick.load_milli = w->load.load_milli;
    step(w, &ev);
}

/* --- sending: one batch per turn --- */

static void wire_flush(struct worker *w)
{
    if (w->wire_open) {
        struct err why;
        if (bus_send(w->bus, BUS_MASTER, wire_end(w->wire), &why) < 0 && why.code != ERR_CLOSED && may_warn(w))
            log_warn("a batch to the master was not sent, it will be repeated: why=\"%s\"", why.text);
        w->wire_open = false;
    }
    arena_reset(&w->sending);
}

static void wire_open(struct worker *w)
{
    struct agent_stats stats;
    agent_view_stats(w->agent, &stats);
    struct wire_head head = { .epoch = stats.epoch, .worker = w->state.worker, .incarnation = w->state.incarnation };
    memcpy(head.cluster, w->state.cluster, CLUSTER_BYTES);
    wire_begin(w->wire, &head);
    w->wire_open = true;
}

/* The message's strings live until wire_flush: in w->sending or in the gate's batch. */
static void wire_put(struct worker *w, struct message *m)
{
    if (!w->linked)
        return; /* Nothing is owed to a master that is not there: what matters is repeated. */
    if (!w->wire_open)
        wire_open(w);
    if (wire_add(w->wire, m))
        return;
    struct bytes text = wire_count(w->wire) ? wire_end(w->wire) : bytes_of("", 0);
    struct err why;
    if (text.size && bus_send(w->bus, BUS_MASTER, text, &why) < 0 && why.code != ERR_CLOSED && may_warn(w))
        log_warn("a batch to the master was not sent, it will be repeated: why=\"%s\"", why.text);
    wire_open(w);
    if (!wire_add(w->wire, m))
        log_error("a message is too large for any batch: kind=%s", message_name(m->kind));
}

/* --- reports --- */

static struct bytes spawn_text_of(struct worker *w, struct attempt_ref ref)
{
    size_t kept = w->spawn_texts_count < SPAWN_TEXTS ? w->spawn_texts_count : SPAWN_TEXTS;
    for (size_t i = 0; i < kept; i++)
        if (attempt_equal(w->spawn_texts[i].ref, ref))
            return arena_bytes(&w->sending, bytes_str(w->spawn_texts[i].text));
    return bytes_of("", 0);
}

static void spawn_done(struct worker *w, struct attempt_ref ref, bool started);

static void keep_text(struct worker *w, struct attempt_ref ref, const char *text)
{
    if (!text || !*text)
        return;
    struct spawn_text *t = &w->spawn_texts[w->spawn_texts_count++ % SPAWN_TEXTS];
    t->ref = ref;
    snprintf(t->text, sizeof t->text, "%s", text);
}

static void spawn_failed(struct worker *w, struct attempt_ref ref, const struct attempt_result *result, const char *text)
{
    spawn_done(w, ref, false);
    keep_text(w, ref, text);
    if (result->reason < REASONS)
        w->spawn_failures[result->reason]++;
    log_debug("attempt not started: job=%" PRIu64 " task=%" PRIu32 " attempt=%" PRIu32 " reason=%s why=\"%s\"",
              ref.job.n, ref.task, ref.attempt, reason_name(result->reason), text ? text : "");
    step_exec(w, AGENT_SPAWN_FAILED, ref, result);
}

static struct bytes tail_of(struct worker *w, struct attempt_ref ref, enum exec_stream stream)
{
    log_tail(w->exec, ref, stream, ATTEMPT_TAIL_BYTES, &w->tail);
    return arena_bytes(&w->sending, buf_bytes(&w->tail));
}

static bool may_have_text(enum reason reason)
{
    return reason == REASON_SPAWN || reason == REASON_INFRA || reason == REASON_IMAGE || reason == REASON_NEVER_STARTED;
}

static void send_message(struct worker *w, const struct message *from)
{
    if (!w->linked)
        return;
    struct message m = *from;
    if (m.kind == MSG_FINISHED) {
        usage_keeper_tell(w->usage, m.finished.ref); /* before it, so that it is kept with the end */
        const struct attempt_result *result = &m.finished.result;
        if (result->stdout_bytes)
            m.finished.stdout_tail = tail_of(w, m.finished.ref, EXEC_STDOUT);
        if (result->stderr_bytes)
            m.finished.stderr_tail = tail_of(w, m.finished.ref, EXEC_STDERR);
        if (!m.finished.stderr_tail.size && may_have_text(result->reason))
            m.finished.stderr_tail = spawn_text_of(w, m.finished.ref);
    } else if (m.kind == MSG_NEVER_STARTED && !m.never_started.text.size && may_have_text(m.never_started.reason)) {
        m.never_started.text = spawn_text_of(w, m.never_started.ref);
    }
    wire_put(w, &m);
}

/* --- starting --- */

static void spawn_begins(struct worker *w, struct attempt_ref ref)
{
    if (w->spawns_next - w->spawns_first == SPAWNS_TIMED)
        w->spawns_first++;
    w->spawns[w->spawns_next % SPAWNS_TIMED].ref = ref;
    w->spawns[w->spawns_next++ % SPAWNS_TIMED].begun_ns = clock_now_ns();
}

/* Starts are told in their order but for those that failed: the one looked for is nearly always the first. */
static void spawn_done(struct worker *w, struct attempt_ref ref, bool started)
{
    for (uint64_t i = w->spawns_first; i < w->spawns_next; i++) {
        int64_t begun_ns = w->spawns[i % SPAWNS_TIMED].begun_ns;
        if (!begun_ns || !attempt_equal(w->spawns[i % SPAWNS_TIMED].ref, ref))
            continue;
        if (started)
            metric_observe(M_WORKER_SPAWN_SECONDS, (double)(clock_now_ns() - begun_ns) / 1e9);
        w->spawns[i % SPAWNS_TIMED].begun_ns = 0;
        break;
    }
    while (w->spawns_first < w->spawns_next && !w->spawns[w->spawns_first % SPAWNS_TIMED].begun_ns)
        w->spawns_first++;
}

static int decode_spec(struct worker *w, struct bytes encoded, struct err *err)
{
    if (w->spec_valid && bytes_equal(buf_bytes(&w->spec_bytes), encoded))
        return 0;
    w->spec_valid = false;
    arena_reset(&w->spec_arena);
    buf_clear(&w->spec_bytes);
    buf_add(&w->spec_bytes, encoded.data, encoded.size);
    int rc = spec_decode(&w->spec_arena, buf_bytes(&w->spec_bytes), &w->spec, err);
    if (rc == 0 && w->spec.command_count == 0)
        rc = err_set(err, ERR_CORRUPT, "the job has no command");
    w->spec_valid = rc == 0;
    return rc;
}

static enum reason start_reason(enum err_code code)
{
    switch (code) {
    case ERR_INVALID:
    case ERR_NOT_FOUND:
    case ERR_DENIED:
    case ERR_TOO_LARGE:
    case ERR_CORRUPT:
        return REASON_SPAWN;
    case ERR_STALE:
        return REASON_NEVER_STARTED;
    default:
        return REASON_INFRA;
    }
}

static void start_attempt(struct worker *w, const struct exec_command *command)
{
    struct err why = { 0 };
    int rc = decode_spec(w, command->spec, &why);
    if (rc == 0) {
        struct exec_job job;
        arena_reset(&w->job);
        const struct account *account = w->accounts ? accounts_find(w->accounts, w->spec.request.user, now_ms(w), &why) : NULL;
        if (!w->accounts || account) {
            environment_job(&w->job, &w->environment, &w->spec, command, account, &job);
            job.in_line = command->verb == EXEC_LINE_UP;
            if (!job.in_line)
                spawn_begins(w, command->ref);
            rc = w->exec->ops->start(w->exec, &job, &why);
        } else {
            rc = -(int)why.code;
        }
    }
    if (rc < 0) {
        struct attempt_result result = { .reason = start_reason(why.code) };
        spawn_failed(w, command->ref, &result, why.text);
    }
}

static void perform_exec(struct worker *w, const struct exec_command *command)
{
    switch (command->verb) {
    case EXEC_START:
    case EXEC_LINE_UP:
        start_attempt(w, command);
        break;
    case EXEC_CALL:
    case EXEC_WITHDRAW:
        w->exec->ops->line(w->exec, command->ref, command->verb == EXEC_CALL ? LINE_CALL : LINE_WITHDRAW);
        break;
    case EXEC_TERM:
    case EXEC_KILL:
        w->exec->ops->signal(w->exec, command->ref, command->verb == EXEC_KILL);
        break;
    case EXEC_REMOVE:
        usage_keeper_forget(w->usage, command->ref);
        w->exec->ops->remove(w->exec, command->ref);
        break;
    case EXEC_LEASE:
        if (w->exec->ops->lease)
            w->exec->ops->lease(w->exec, command->lease_until_ms);
        break;
    }
}

/* --- durable, then act --- */

static void perform(struct worker *w, const struct gate_batch *batch)
{
    for (size_t i = 0; i < batch->items_count; i++) {
        const struct gate_item *item = &batch->items[i];
        switch (item->kind) {
        case GATE_SEND:
            send_message(w, &item->send.message);
            break;
        case GATE_EXEC:
            perform_exec(w, &item->exec);
            break;
        case GATE_REPLY:
            bus_ack(w->bus, item->reply.value);
            break;
        }
    }
    wire_flush(w); /* Strings of the batch end with it. */
}

static bool compaction_due(const struct worker *w)
{
    return w->journal_bytes >= JOURNAL_COMPACT_BYTES && w->journal_bytes >= 4 * w->snapshot_bytes;
}

static void advance(struct worker *w)
{
    int64_t now = now_ms(w), pace_ms = gate_pace(w->gate, now);
    w->flush_at_ms = pace_ms ? now + pace_ms : INT64_MAX;
    if (pace_ms)
        return;
    while (!w->stop && !gate_in_flight(w->gate)) {
        const struct gate_batch *batch = gate_seal(w->gate);
        if (!batch)
            return;
        if (!batch->records_count) {
            perform(w, gate_commit(w->gate));
            continue;
        }
        struct journal_snapshot snapshot = { .bytes = BUF_INIT };
        bool compact = compaction_due(w);
        /* Nothing has been decided since the seal: the snapshot tells what the batch tells, and all before it. */
        if (compact)
            worker_state_snapshot(&w->state, w->agent, w->wall_ms, &snapshot);
        journal_writer_write(w->writer, batch->records, batch->records_count, compact ? &snapshot : NULL);
    }
}

static void set_space_low(struct worker *w, bool low)
{
    if (low == w->space_low)
        return;
    w->space_low = low;
    if (low)
        log_warn("the disk is nearly full: nothing new is started");
    else
        log_info("there is room on the disk again");
    struct agent_event ev = { .kind = AGENT_SPACE_LOW, .flag = { low } };
    step(w, &ev);
}

static void on_written(void *arg, const struct journal_written *result)
{
    struct worker *w = arg;
    if (result->err.code != ERR_OK) {
        /* Nobody knows what is on disk: no further word to anybody. Jobs run on; the next start reads what is there. */
        log_error("the journal could not be written, this worker ends and its jobs run on: why=\"%s\"", result->err.text);
        _exit(EXIT_CODE_IO);
    }
    metric_observe(M_STORE_COMMIT_SECONDS, (double)result->took_ns / 1e9);
    w->commits++;
    w->journal_bytes = result->bytes;
    if (result->replaced_bytes) {
        w->snapshot_bytes = result->replaced_bytes;
        log_info("journal compacted: bytes=%" PRIu64, result->replaced_bytes);
    } else if (compaction_due(w) && result->low) {
        w->snapshot_bytes = w->journal_bytes / 3; /* No room for a new one now: not at every batch again. */
    }
    w->journal_low = result->low;
    if (w->journal_low)
        set_space_low(w, true);
    perform(w, gate_commit(w->gate));
}

static void look_at_space(void *arg)
{
    struct worker *w = arg;
    uint64_t reserve = w->config->disk_reserve_bytes, free_bytes = machine_free_bytes(w->state.dir);
    if (free_bytes < reserve)
        set_space_low(w, true);
    else if (w->space_low && free_bytes >= reserve + reserve / 4 + JOURNAL_COMPACT_BYTES)
        set_space_low(w, w->journal_low = false);
    loop_timer_set(w->space_timer, SPACE_LOOK_MS);
}

/* --- what comes in: executor --- */

static void on_started(void *arg, struct attempt_ref ref)
{
    struct worker *w = arg;
    spawn_done(w, ref, true);
    usage_keeper_wake(w->usage);
    step_exec(w, AGENT_SPAWNED, ref, NULL);
}

static void on_vacated(void *arg, struct attempt_ref ref, struct attempt_ref passed_to)
{
    struct agent_event ev = { .kind = AGENT_VACATED };
    ev.exec.ref = ref;
    ev.exec.passed_to = passed_to;
    step(arg, &ev);
}

static void on_ended(void *arg, struct attempt_ref ref, const struct attempt_result *result, bool started, const char *text)
{
    struct worker *w = arg;
    if (started && result->reason < REASONS)
        w->exits[result->reason]++;
    if (!started) {
        spawn_failed(w, ref, result, text);
        return;
    }
    keep_text(w, ref, text);
    struct attempt_result completed = *result;
    usage_keeper_ended(w->usage, ref, &completed);
    step_exec(w, AGENT_EXITED, ref, &completed);
}

/* Jobs with an image come here while a container engine answers. */
static void on_note(void *arg, struct attempt_ref ref, const char *text)
{
    struct worker *w = arg;
    struct message m = { .kind = MSG_NOTE, .note = { ref, arena_bytes(&w->sending, bytes_str(text)) } };
    wire_put(w, &m);
}

static void on_containers(void *arg, bool able)
{
    struct worker *w = arg;
    struct agent_event ev = { .kind = AGENT_NAMED };
    ev.named.name = RES_CONTAINERS;
    ev.named.count = able ? w->containers_max : 0;
    if (able)
        log_info("this node can do: %s", w->exec->ops->enforces(w->exec));
    step(w, &ev);
}

static void on_recovered(void *arg, struct attempt_ref ref, enum attempt_phase phase, int64_t ran_ms,
                         const struct attempt_result *result)
{
    struct worker *w = arg;
    struct agent_event ev = { .kind = AGENT_RECOVERED };
    ev.exec.ref = ref;
    ev.exec.phase = phase;
    ev.exec.ran_ms = ran_ms;
    if (result)
        ev.exec.result = *result;
    step(w, &ev);
}

/* --- what comes in: bus --- */

static void on_link(void *arg, uint64_t session, bool up)
{
    struct worker *w = arg;
    (void)session;
    w->linked = up;
    if (!up && w->wire_open) {
        wire_end(w->wire);
        w->wire_open = false;
    }
    if (!up)
        worker_logs_forget(w->logs); /* Who asked has gone with the session. */
    log_info("%s", up ? "connected to the bus" : "connection to the bus lost, jobs run on");
    struct agent_event ev = { .kind = up ? AGENT_LINK_UP : AGENT_LINK_DOWN };
    step(w, &ev);
}

/* Whether the batch may give orders here: from our cluster, and from no master that has been replaced. */
static bool may_order(struct worker *w, const struct wire_head *head)
{
    if (cluster_known(w->state.cluster) && memcmp(head->cluster, w->state.cluster, CLUSTER_BYTES) != 0) {
        struct err why;
        char ours[2 * CLUSTER_BYTES + 1], theirs[2 * CLUSTER_BYTES + 1];
        cluster_print(w->state.cluster, ours);
        cluster_print(head->cluster, theirs);
        err_field(&why, ERR_DENIED, "bus", "give this worker another --state directory, or the bus of its own cluster",
                  "this worker belongs to cluster %s, the master on the bus leads %s", ours, theirs);
        log_error("%s", why.text);
        end(w, EXIT_CODE_CONFIG, &why);
        w->foreign++;
        return false;
    }
    struct agent_stats stats;
    agent_view_stats(w->agent, &stats);
    if (head->epoch && head->epoch < stats.epoch) {
        w->foreign++;
        if (may_warn(w))
            log_warn("orders of a master that has been replaced are ignored: epoch=%" PRIu64 " newest=%" PRIu64,
                     head->epoch, stats.epoch);
        return false;
    }
    return true;
}

static void on_order(struct worker *w, const struct wire_head *head, const struct message *m)
{
    if (m->kind == MSG_LOG_READ) {
        worker_logs_read(w->logs, m, now_ms(w));
        return;
    }
    if (m->kind == MSG_WELCOME && !cluster_known(w->state.cluster))
        memcpy(w->state.cluster, head->cluster, CLUSTER_BYTES);
    struct agent_event ev = { .kind = AGENT_MESSAGE, .epoch = head->epoch, .session = head->session, .message = m };
    step(w, &ev);
    if (m->kind == MSG_WELCOME) {
        lease_line_set(w->lease, m->welcome.lease_url, m->welcome.lease_token);
        usage_keeper_tell_all(w->usage);
        loop_timer_set(w->report_timer, 0);
    }
}

static void on_message(void *arg, uint64_t session, struct bytes body, uint64_t delivery)
{
    struct worker *w = arg;
    (void)session;
    struct wire_batch batch;
    struct err why;
    arena_reset(&w->decode);
    if (wire_decode(&w->decode, body, &batch, &why) < 0) {
        w->undecodable++;
        if (may_warn(w))
            log_warn("a message cannot be read and is ignored: bytes=%zu why=\"%s\"", body.size, why.text);
    } else if (may_order(w, &batch.head)) {
        for (size_t i = 0; i < batch.count && !w->stop; i++)
            on_order(w, &batch.head, &batch.messages[i]);
    }
    gate_add_reply(w->gate, NULL, delivery);
}

/* --- logs --- */

struct phase_query {
    const struct attempt_ref *refs;
    enum attempt_phase *out;
    size_t count;
};

static void find_phase(void *arg, const struct agent_attempt_view *view)
{
    struct phase_query *q = arg;
    for (size_t i = 0; i < q->count; i++)
        if (attempt_equal(q->refs[i], view->ref))
            q->out[i] = view->phase;
}

static void phases_of(void *arg, const struct attempt_ref *refs, enum attempt_phase *out, size_t count)
{
    struct worker *w = arg;
    struct phase_query q = { refs, out, count };
    for (size_t i = 0; i < count; i++)
        out[i] = PHASE_NONE;
    agent_view_attempts(w->agent, find_phase, &q);
}

static void send_chunk(void *arg, const struct message *chunk)
{
    struct worker *w = arg;
    struct message m = *chunk;
    m.log_chunk.data = arena_bytes(&w->sending, m.log_chunk.data);
    wire_put(w, &m);
}

static void send_usage(void *arg, const struct message *usage)
{
    struct worker *w = arg;
    struct message m = *usage;
    m.usage.series = arena_bytes(&w->sending, m.usage.series);
    wire_put(w, &m);
}

static int64_t clock_of(void *arg)
{
    return now_ms(arg);
}

static void lease_renewed(void *arg, int64_t sent_ms)
{
    struct agent_event ev = { .kind = AGENT_LEASE_RENEWED, .lease.sent_ms = sent_ms };
    step(arg, &ev);
}

/* What people want to know of this node and nothing is decided by. */
static void report_node(void *arg)
{
    struct worker *w = arg;
    struct machine_pressure pressure;
    char name[64];
    uint64_t free_bytes = machine_free_bytes(w->state.dir);
    machine_node_name(w->config->name, name);
    struct message m = { .kind = MSG_NODE_REPORT };
    m.node_report.name = arena_bytes(&w->sending, bytes_str(name));
    m.node_report.enforces = arena_bytes(&w->sending, bytes_str(w->exec->ops->enforces(w->exec)));
    m.node_report.disk_bytes = machine_disk_bytes(w->state.dir);
    m.node_report.disk_free_bytes = free_bytes == UINT64_MAX ? 0 : free_bytes;
    struct gpu_load gpus = gpu_meter_load(w->gpus);
    m.node_report.gpus = gpus.count;
    m.node_report.gpu_used_milli = gpus.used_milli;
    m.node_report.gpu_mem_used_bytes = gpus.mem_used_bytes;
    m.node_report.gpu_mem_bytes = gpus.mem_bytes;
    m.node_report.has_pressure = machine_pressure("", &pressure);
    m.node_report.pressure[PRESSURE_CPU] = pressure.cpu;
    m.node_report.pressure[PRESSURE_MEMORY] = pressure.memory;
    m.node_report.pressure[PRESSURE_IO] = pressure.io;
    wire_put(w, &m);
    loop_timer_set(w->report_timer, NODE_REPORT_MS);
}

struct held_query {
    struct worker *worker;
    struct buf *paths;
};

static void add_held(void *arg, const struct agent_attempt_view *view)
{
    struct held_query *q = arg;
    struct exec *exec = q->worker->exec;
    char path[PATH_MAX];
    for (int stream = EXEC_STDOUT; stream <= EXEC_STDERR; stream++)
        if (exec->ops->log_path(exec, view->ref, (enum exec_stream)stream, path, sizeof path))
            buf_add(q->paths, path, strlen(path) + 1);
}

static void held_logs(void *arg, struct buf *paths)
{
    struct worker *w = arg;
    struct held_query q = { w, paths };
    agent_view_attempts(w->agent, add_held, &q);
}

/* --- watching --- */

static void show_resources(const struct worker *w, const struct agent_stats *stats)
{
    const struct resources *have = &w->capacity, *given = &stats->used;
    metric_set(M_WORKER_CPU_CAPACITY_CORES, (double)have->v[RES_CPU] / 1000);
    metric_set(M_WORKER_CPU_ALLOCATED_CORES, (double)given->v[RES_CPU] / 1000);
    metric_set(M_WORKER_CPU_USED_CORES, (double)w->load.cpu_used_milli / 1000);
    metric_set(M_WORKER_LOAD, (double)w->load.load_milli / 1000);
    metric_set(M_WORKER_MEMORY_CAPACITY_BYTES, (double)have->v[RES_MEM]);
    metric_set(M_WORKER_MEMORY_ALLOCATED_BYTES, (double)given->v[RES_MEM]);
    metric_set(M_WORKER_MEMORY_USED_BYTES, (double)w->load.mem_used_bytes);
    metric_set(M_WORKER_GPU_CAPACITY, (double)have->v[RES_GPU] / 1000);
    metric_set(M_WORKER_GPU_ALLOCATED, (double)given->v[RES_GPU] / 1000);
    struct gpu_load gpus = gpu_meter_load(w->gpus);
    metric_set(M_WORKER_GPU_USED, (double)gpus.used_milli / 1000);
    metric_set(M_WORKER_GPU_MEMORY_USED_BYTES, (double)gpus.mem_used_bytes);
    metric_set(M_DISK_FREE_BYTES, (double)machine_free_bytes(w->state.dir));
    metric_set(M_WORKER_DISK_BYTES, (double)machine_disk_bytes(w->state.dir));
    metric_set(M_WORKER_DISK_LOW, w->space_low);
}

static void show_bus(const struct worker *w)
{
    struct bus_stats bus = { 0 };
    w->bus->ops->stats(w->bus, &bus);
    metric_set(M_BUS_UP, w->linked);
    metric_total(M_BUS_RECONNECTS, (double)bus.reconnects);
    metric_total_label(M_BUS_MESSAGES, "in", (double)bus.received);
    metric_total_label(M_BUS_MESSAGES, "out", (double)bus.sent);
    metric_total_label(M_BUS_BYTES, "in", (double)bus.bytes_received);
    metric_total_label(M_BUS_BYTES, "out", (double)bus.bytes_sent);
    metric_total_label(M_BUS_DROPPED, "gone", (double)bus.dropped);
    metric_total_label(M_BUS_DROPPED, "stale", (double)w->foreign);
    metric_total_label(M_BUS_DROPPED, "undecodable", (double)w->undecodable);
}

static void refresh_metrics(void *arg)
{
    struct worker *w = arg;
    struct agent_stats stats;
    agent_view_stats(w->agent, &stats);
    metric_set_label(M_WORKER_ATTEMPTS, "accepted", stats.accepted);
    metric_set_label(M_WORKER_ATTEMPTS, "running", stats.running);
    metric_set_label(M_WORKER_ATTEMPTS, "ended", stats.ended);
    metric_set(M_WORKER_REPORTS_UNACKNOWLEDGED, stats.ended);
    metric_set(M_WORKER_MASTER_CONNECTED, w->linked && stats.welcome);
    metric_set(M_WORKER_SPOOL_BYTES, (double)log_keeper_bytes(w->keeper));
    metric_set(M_STORE_BYTES, (double)w->journal_bytes);
    metric_total(M_STORE_COMMITS, (double)w->commits);
    for (int reason = 0; reason < REASONS; reason++) {
        const char *name = reason_name((enum reason)reason);
        metric_total_label(M_WORKER_EXITS, name, (double)w->exits[reason]);
        if (may_have_text((enum reason)reason))
            metric_total_label(M_WORKER_SPAWN_FAILURES, name, (double)w->spawn_failures[reason]);
    }
    show_resources(w, &stats);
    show_bus(w);
}

static bool is_healthy(void *arg, const char **why)
{
    struct worker *w = arg;
    struct agent_stats stats;
    agent_view_stats(w->agent, &stats);
    *why = w->space_low ? "disk nearly full" : !w->linked ? "no way to the master" : !stats.welcome ? "not welcomed" : "ok";
    return !w->space_low && w->linked && stats.welcome;
}

/* --- life --- */

static void on_signal(void *arg, int signo)
{
    struct worker *w = arg;
    log_info("asked to stop: signal=%d jobs=%s", signo, w->config->stop_jobs ? "ended" : "run on");
    end(w, 0, NULL);
}

static void check_refusal(struct worker *w)
{
    struct agent_stats stats;
    agent_view_stats(w->agent, &stats);
    if (!stats.refused || w->stop)
        return;
    struct err why;
    err_set(&why, ERR_DENIED, "the master refuses this worker: %s", stats.refusal);
    log_error("%s", why.text);
    /* Another process with our identity and a higher incarnation has taken our place; all else is for people to mend. */
    end(w, strstr(stats.refusal, "incarnation") ? EXIT_CODE_LOCKED : EXIT_CODE_CONFIG, &why);
}

static void run(struct worker *w)
{
    while (!w->stop) {
        w->now_known = false;
        int64_t due_ms = w->wake_at_ms < w->flush_at_ms ? w->wake_at_ms : w->flush_at_ms;
        int64_t wait_ms = due_ms == INT64_MAX ? -1 : due_ms - now_ms(w);
        if (wait_ms < 0 && due_ms != INT64_MAX)
            wait_ms = 0;
        w->now_known = false;
        loop_turn(w->loop, wait_ms);
        int64_t begun_ns = clock_now_ns();
        w->now_known = false;
        if (now_ms(w) >= w->wake_at_ms)
            tick(w);
        advance(w);
        wire_flush(w);
        check_refusal(w);
        metric_observe(M_LOOP_DELAY_SECONDS, (double)(clock_now_ns() - begun_ns) / 1e9);
    }
}

static int open_metrics(struct worker *w, struct err *err)
{
    const struct worker_config *config = w->config;
    struct worker_serve_port port = { w, refresh_metrics, is_healthy };
    if (config->no_metrics)
        return 0;
    uint16_t number = config->metrics_port < 0 ? METRICS_PORT : (uint16_t)config->metrics_port;
    w->serve = worker_serve_new(w->loop, config->metrics_address, number, config->anywhere, &port, err);
    if (!w->serve && config->metrics_port < 0) /* several workers on one machine: the master tells where each is */
        w->serve = worker_serve_new(w->loop, config->metrics_address, 0, config->anywhere, &port, err);
    if (!w->serve)
        return -(int)(err ? err->code : ERR_IO);
    worker_serve_where(w->serve, w->metrics, sizeof w->metrics);
    log_info("metrics are served: url=http://%s/metrics", w->metrics);
    return 0;
}

static bool is_fake(const struct worker_config *config)
{
    return config->exec && strcmp(config->exec, "fake") == 0;
}

/* Whoever gives the resource `containers` a number bounds it. There are none until an engine has answered. */
static void offer_containers(struct worker *w, struct agent_config *c)
{
    const char *exec = w->config->exec ? w->config->exec : "process";
    bool docker = strcmp(exec, "docker") == 0, fake = strcmp(exec, "fake") == 0;
    struct named_resource *mine = NULL;
    for (size_t i = 0; i < c->named_count; i++)
        if (strcmp(c->named[i].name, RES_CONTAINERS) == 0)
            mine = &c->named[i];
    if (!mine && docker && c->named_count < RES_NAMED_MAX) {
        mine = &c->named[c->named_count++];
        *mine = (struct named_resource){ RES_CONTAINERS, CONTAINERS_MAX };
    }
    if (!mine || fake)
        return;
    w->containers_max = mine->count;
    mine->count = 0;
}

static void configure_agent(struct worker *w, struct agent_config *c)
{
    const struct worker_config *config = w->config;
    agent_config_default(c);
    c->worker = w->state.worker;
    c->incarnation = w->state.incarnation;
    machine_node_name(config->name, c->name);
    snprintf(c->boot, sizeof c->boot, "%s", w->state.boot);
    snprintf(c->version, sizeof c->version, "%s", ROTA_VERSION);
    snprintf(c->metrics, sizeof c->metrics, "%s", w->metrics);
    snprintf(c->labels, sizeof c->labels, "%s", config->labels ? config->labels : "");
    machine_capacity("", &c->capacity);
    for (int d = 0; d < RES_DIMS; d++)
        if (config->capacity.v[d])
            c->capacity.v[d] = config->capacity.v[d];
    check(config->named_count <= RES_NAMED_MAX);
    memcpy(c->named, config->named, config->named_count * sizeof *config->named);
    c->named_count = config->named_count;
    offer_containers(w, c);
    if (config->pin_cpus)
        c->cpu_ids_count = machine_cpu_ids(c->cpu_ids, DEVICES_MAX);
    c->window = config->window ? config->window : WINDOW_DEFAULT;
    c->line_max = is_fake(config) ? 0 : EXEC_LINE_MAX;
    c->line_spec_bytes = EXEC_LINE_SPEC_BYTES;
}

static int open_agent(struct worker *w, struct err *err)
{
    struct agent_config c;
    if (labels_check(bytes_str(w->config->labels), err) < 0) {
        snprintf(err->field, sizeof err->field, "labels");
        return -(int)err->code;
    }
    configure_agent(w, &c);
    if (w->config->pin_cpus && c.capacity.v[RES_CPU] > c.cpu_ids_count * 1000)
        return err_field(err, ERR_INVALID, "cpus", "offer fewer, or leave out pin_cpus", "%.3g CPUs are offered to be given by number, there are %zu",
                         (double)c.capacity.v[RES_CPU] / 1000, c.cpu_ids_count);
    uint64_t next_seq, seed = w->state.worker.low ^ w->state.incarnation * 0x9e3779b97f4a7c15ull;
    w->agent = agent_new(&c, seed);
    worker_state_replay(&w->state, w->agent);
    struct journal *j =
        worker_state_begin(&w->state, w->agent, clock_wall_ms(), &next_seq, &w->snapshot_bytes, err);
    if (!j)
        return -(int)(err ? err->code : ERR_IO);
    w->journal_bytes = journal_bytes(j);
    w->writer = journal_writer_new(w->loop, j, on_written, w);
    w->gate = gate_new(next_seq);
    w->capacity = c.capacity;
    environment_init(&w->environment, c.name);
    w->environment.gpus = c.capacity.v[RES_GPU] > 0;
    char cpus[32], worker[40];
    snprintf(cpus, sizeof cpus, "%.3g", (double)c.capacity.v[RES_CPU] / 1000);
    snprintf(worker, sizeof worker, "%016" PRIx64 "%016" PRIx64, c.worker.high, c.worker.low);
    log_info("worker starts: node=%s id=%s incarnation=%" PRIu64 " cpus=%s mem_bytes=%" PRIu64 " window=%" PRIu32, c.name,
             worker, c.incarnation, cpus, c.capacity.v[RES_MEM], c.window);
    return 0;
}

/* DIR[:ro],DIR[:ro]...: the strings are in the arena, which lives as long as the executor. */
static int read_mounts(struct arena *arena, const char *text, struct exec_mount out[EXEC_MOUNTS_MAX], size_t *count,
                       struct err *err)
{
    *count = 0;
    if (!text || !*text)
        return 0;
    char *rest = arena_str(arena, bytes_str(text)), *one;
    while ((one = strsep(&rest, ","))) {
        size_t size = strlen(one);
        bool read_only = size > 3 && strcmp(one + size - 3, ":ro") == 0;
        if (read_only)
            one[size - 3] = 0;
        if (*count == EXEC_MOUNTS_MAX)
            return err_field(err, ERR_INVALID, "container_mounts", "name a directory that holds some of them",
                             "more than %d directories", EXEC_MOUNTS_MAX);
        out[(*count)++] = (struct exec_mount){ one, read_only };
    }
    return 0;
}

static int open_exec(struct worker *w, struct err *err)
{
    const struct worker_config *config = w->config;
    struct exec_config c = {
        .state_dir = w->state.path,
        .log_bytes_max = config->log_bytes_max ? config->log_bytes_max : LOG_BYTES_DEFAULT,
        .shutdown_nursery = config->stop_jobs,
    };
    struct exec_events events = { .arg = w, .on_started = on_started, .on_ended = on_ended, .on_vacated = on_vacated, .on_recovered = on_recovered,
                                  .on_containers = on_containers, .on_note = on_note };
    c.process = config->process;
    struct exec_mount mounts[EXEC_MOUNTS_MAX];
    c.container = (struct exec_container_config){ .engine = config->engine,
                                                  .user = config->container_user,
                                                  .network = config->container_network,
                                                  .pids_max = config->container_pids,
                                                  .tmp_bytes = config->container_tmp_bytes,
                                                  .mounts = mounts };
    if (read_mounts(&w->mounts, config->container_mounts, mounts, &c.container.mounts_count, err) < 0)
        return -ERR_INVALID;
    const char *name = config->exec ? config->exec : "process";
    if (is_fake(config))
        w->exec = exec_fake_open(w->loop, &c, &events, err);
    else if (strcmp(name, "process") == 0)
        w->exec = exec_proc_open(w->loop, &c, &events, err);
    else if (strcmp(name, "docker") == 0)
        w->exec = exec_both_open(w->loop, &c, &events, err);
    else
        return err_field(err, ERR_INVALID, "exec", "write process, docker or fake", "\"%s\" is no executor", name);
    metric_set_label(M_WORKER_INFO, name, 1);
    metric_set_label(M_BUILD_INFO, ROTA_VERSION, 1);
    if (!w->exec)
        return -(int)(err ? err->code : ERR_IO);
    log_info("this node can do: %s", w->exec->ops->enforces(w->exec));
    return 0;
}

static int open_rest(struct worker *w, struct err *err)
{
    struct worker_logs_port logs = { w, w->exec, phases_of, send_chunk };
    w->logs = worker_logs_new(w->loop, &logs);
    autobuf struct buf directory = BUF_INIT;
    buf_printf(&directory, "%s/logs", w->state.path);
    struct log_keeper_config keeper = {
        directory.data, "slots", LOGS_KEPT_BYTES, LOGS_KEPT_FILES, LOGS_LOOK_MS, w, held_logs,
    };
    w->keeper = log_keeper_new(w->loop, &keeper);
    log_keeper_look(w->keeper); /* What there is of earlier jobs counts from the first minute. */
    w->space_timer = loop_timer_add(w->loop, look_at_space, w);
    w->report_timer = loop_timer_add(w->loop, report_node, w);
    if (w->capacity.v[RES_GPU] && !is_fake(w->config))
        w->gpus = gpu_meter_new(w->loop);
    look_at_space(w);

    struct bus_address address = { .role = BUS_ROLE_WORKER, .url = w->config->bus_url };
    char name[64];
    machine_node_name(w->config->name, name);
    address.name = name;
    memcpy(address.cluster, w->state.cluster, CLUSTER_BYTES);
    struct bus_events events = { .arg = w, .on_message = on_message, .on_link = on_link };
    w->bus = bus_open(w->loop, &address, &events, err);
    if (!w->bus)
        return -(int)(err ? err->code : ERR_IO);
    return 0;
}

/* Whom jobs run as, said where everybody reads it. */
static int open_accounts(struct worker *w, struct err *err)
{
    const struct worker_config *config = w->config;
    bool root = geteuid() == 0;
    if (config->run_as == RUN_AS_SUBMITTER && !root)
        return err_field(err, ERR_INVALID, "run_as", "start the worker as root, or write worker",
                         "only a worker that is root can run jobs as others");
    if (config->run_as == RUN_AS_SUBMITTER) {
        w->accounts = accounts_new(config->run_as_uid_min);
        log_info("jobs run as who submitted them: least_uid=%" PRIu32, config->run_as_uid_min);
    } else if (root && !is_fake(config)) {
        log_warn("jobs run as root, the user of this worker: --run-as submitter runs them as who submitted them");
    } else {
        log_info("jobs run as the user of this worker: uid=%u", (unsigned)geteuid());
    }
    return 0;
}

static int start(struct worker *w, struct err *err)
{
    int rc = worker_state_open(&w->state, w->config->state_dir, err);
    if (rc == 0)
        rc = open_accounts(w, err);
    if (rc == 0)
        rc = open_metrics(w, err);
    if (rc == 0)
        rc = open_agent(w, err);
    if (rc < 0)
        return rc;
    agent_start(w->agent, now_ms(w), w->wall_ms, &w->fx);
    take_effects(w);
    rc = open_exec(w, err);
    if (rc < 0)
        return rc;
    struct usage_keeper_port usage = { w, w->exec, w->agent, send_usage };
    w->usage = usage_keeper_new(w->loop, &usage);
    struct lease_line_port lease = { w, w->agent, w->state.worker, w->state.incarnation, clock_of, lease_renewed };
    w->lease = lease_line_new(w->loop, &lease);
    struct agent_event done = { .kind = AGENT_RECOVERY_DONE };
    step(w, &done);
    return open_rest(w, err);
}

static void stop(struct worker *w)
{
    if (w->writer)
        journal_writer_free(w->writer); /* The write in flight ends; nobody is told of it, which is what a crash does too. */
    worker_serve_free(w->serve);
    bus_close(w->bus);
    worker_logs_free(w->logs);
    log_keeper_free(w->keeper);
    usage_keeper_free(w->usage);
    loop_timer_remove(w->space_timer);
    loop_timer_remove(w->report_timer);
    gpu_meter_free(w->gpus);
    lease_line_free(w->lease);
    if (w->exec)
        w->exec->ops->close(w->exec);
    agent_free(w->agent);
    gate_free(w->gate);
    environment_fini(&w->environment);
    accounts_free(w->accounts);
    worker_state_close(&w->state);
}

static int exit_code_of(enum err_code code)
{
    switch (code) {
    case ERR_LOCKED:
        return EXIT_CODE_LOCKED;
    case ERR_CORRUPT:
        return EXIT_CODE_CORRUPT;
    case ERR_IO:
    case ERR_NO_SPACE:
        return EXIT_CODE_IO;
    default:
        return EXIT_CODE_CONFIG;
    }
}

int worker_run(const struct worker_config *config, struct err *err)
{
    check(config->state_dir && config->bus_url);
    struct err local = { 0 };
    struct worker w = {
        .config = config, .loop = loop_new(), .wire = wire_writer_new(), .wake_at_ms = INT64_MAX, .flush_at_ms = INT64_MAX, .err = err,
        .decode = ARENA_INIT, .sending = ARENA_INIT, .job = ARENA_INIT, .mounts = ARENA_INIT, .spec_arena = ARENA_INIT,
        .tail = BUF_INIT, .spec_bytes = BUF_INIT, .spawn_texts = mem_zero(SPAWN_TEXTS, sizeof(struct spawn_text)),
    };
    w.state.dir = w.state.lock = -1;
    signal(SIGPIPE, SIG_IGN);
    metrics_show(METRICS_WORKER);
    struct loop_signal *term = loop_signal_add(w.loop, SIGTERM, on_signal, &w);
    struct loop_signal *interrupt = loop_signal_add(w.loop, SIGINT, on_signal, &w);

    int rc = start(&w, &local);
    if (rc < 0) {
        w.exit_code = exit_code_of(local.code);
        if (err)
            *err = local;
    } else {
        run(&w);
    }
    stop(&w);

    loop_signal_remove(term);
    loop_signal_remove(interrupt);
    loop_free(w.loop);
    wire_writer_free(w.wire);
    arena_fini(&w.decode);
    arena_fini(&w.sending);
    arena_fini(&w.job);
    arena_fini(&w.mounts);
    arena_fini(&w.spec_arena);
    buf_fini(&w.tail);
    buf_fini(&w.spec_bytes);
    free(w.spawn_texts);
    return w.exit_code;
}
