#include <inttypes.h>

#include "base/check.h"
#include "base/mem.h"
#include "master/master_int.h"
#include "obs/log.h"
#include "obs/metrics.h"

#define EXIT_ROLLED_BACK 65
#define TAIL_BYTES_SUCCEEDED 4096u /* kept of each stream of an attempt that succeeded; of others all that came */

/* --- from workers --- */

static void keep_tail(struct ride *ride, struct attempt_ref ref, const struct message *msg, bool succeeded)
{
    struct bytes out = msg->finished.stdout_tail, errs = msg->finished.stderr_tail;
    size_t max = succeeded ? TAIL_BYTES_SUCCEEDED : ATTEMPT_TAIL_BYTES;
    if (out.size > max)
        out = bytes_of(out.data + (out.size - max), max);
    if (errs.size > max)
        errs = bytes_of(errs.data + (errs.size - max), max);
    if (out.size + errs.size == 0)
        return;
    ride->tails = mem_grow(ride->tails, &ride->tails_cap, ride->tails_count + 1, sizeof *ride->tails);
    ride->tails[ride->tails_count++] =
        (struct store_tail){ ref, arena_bytes(&ride->arena, out), arena_bytes(&ride->arena, errs) };
    ride->bytes += out.size + errs.size;
}

/* The end of the attempt is among the records just decided: its tails go to the store with it. */
static void keep_tails(struct master *m, const struct message *msg)
{
    for (size_t i = 0; i < m->fx->records_count; i++) {
        const struct record *r = &m->fx->records[i];
        if (r->kind != EV_ENDED)
            continue;
        struct attempt_ref ref = { { r->ended.job }, r->ended.task, r->ended.attempt };
        if (attempt_equal(ref, msg->finished.ref))
            keep_tail(master_ride(m), ref, msg, r->ended.final == JOB_SUCCEEDED);
    }
}

static void go_away(struct master *m, uint64_t session, const char *text)
{
    struct message msg = { .kind = MSG_GO_AWAY, .go_away = { .reason = REASON_INFRA, .text = bytes_str(text) } };
    master_send(m, session, &msg);
}

static bool zero(const uint8_t *bytes, size_t size)
{
    uint8_t all = 0;
    for (size_t i = 0; i < size; i++)
        all |= bytes[i];
    return all == 0;
}

/* A worker that has seen a higher epoch has been led by a younger store than ours: ours was put back in time. */
static void rolled_back(struct master *m, uint64_t epoch)
{
    struct err err;
    err_field(&err, ERR_STALE, "store", "restore the newest backup, or start with --accept-rollback",
              "the store is older than the fleet: a worker has seen epoch %" PRIu64
              ", this master leads epoch %" PRIu64,
              epoch, m->epoch);
    log_error("%s", err.text);
    master_fail(m, EXIT_ROLLED_BACK, &err);
}

static bool belongs_here(struct master *m, uint64_t session, const struct wire_head *head)
{
    if (!zero(head->cluster, sizeof head->cluster) &&
        memcmp(head->cluster, m->meta.cluster, sizeof head->cluster) != 0) {
        metric_add_label(M_BUS_DROPPED, "cluster", 1);
        log_warn("a worker of another cluster was sent away session=%" PRIu64, session);
        go_away(m, session, "this worker's state directory belongs to another cluster");
        return false;
    }
    if (head->epoch > m->epoch) {
        rolled_back(m, head->epoch);
        return false;
    }
    return true;
}

static void on_message(void *arg, uint64_t session, struct bytes body, uint64_t delivery)
{
    struct master *m = arg;
    if (m->exit_code >= 0)
        return;
    arena_reset(&m->inbound);
    struct wire_batch batch;
    struct err err;
    metric_add_label(M_BUS_MESSAGES, "in", 1);
    metric_add_label(M_BUS_BYTES, "in", (double)body.size);
    if (wire_decode(&m->inbound, body, &batch, &err) < 0) {
        metric_add_label(M_BUS_DROPPED, "corrupt", 1);
        log_warn("a message was dropped session=%" PRIu64 ": %s", session, err.text);
        bus_ack(m->bus, delivery);
        return;
    }
    if (batch.skipped)
        metric_add_label(M_BUS_DROPPED, "unknown_type", (double)batch.skipped);
    if (!belongs_here(m, session, &batch.head))
        return;
    for (size_t i = 0; i < batch.count && m->exit_code < 0; i++) {
        const struct message *msg = &batch.messages[i];
        if (msg->kind == MSG_LOG_CHUNK) {
            logs_chunk(m, session, msg);
            continue;
        }
        if (msg->kind == MSG_HELLO && msg->hello.epoch_seen > m->epoch) {
            rolled_back(m, msg->hello.epoch_seen);
            return;
        }
        if (msg->kind == MSG_HEARTBEAT)
            metric_add_label(M_HEARTBEATS, "ok", 1);
        struct sched_event ev = { .kind = SCHED_MESSAGE, .message = { session, msg } };
        master_step(m, &ev, NULL);
        if (msg->kind == MSG_FINISHED)
            keep_tails(m, msg);
    }
    gate_add_reply(m->gate, m, delivery);
}

static void on_link(void *arg, uint64_t session, bool up)
{
    struct master *m = arg;
    if (m->exit_code >= 0 || m->stopping)
        return;
    log_debug("worker session=%" PRIu64 " %s", session, up ? "up" : "down");
    if (up)
        return;
    struct sched_event ev = { .kind = SCHED_SESSION_CLOSED, .session.session = session };
    master_step(m, &ev, NULL);
    logs_session_gone(m, session);
}

void master_bus_events(struct master *m, struct bus_events *events)
{
    *events = (struct bus_events){ .arg = m, .on_message = on_message, .on_link = on_link };
}

/* --- to workers: what one batch sends, grouped by session, in order within each --- */

struct outbound_item {
    const struct send *send;
    size_t next;               /* index + 1 of the next item of the session; 0: last */
};

struct outbound_session {
    uint64_t session;          /* 0: free */
    size_t first, last;        /* index + 1 of items */
};

struct outbound {
    struct outbound_item *items; size_t items_count, items_cap;
    struct outbound_session *sessions; /* in order of first use */
    size_t sessions_count, sessions_cap;
    uint32_t *table;           /* hash of the session -> index + 1 in sessions */
    size_t table_size;         /* a power of two */
};

struct outbound *outbound_new(void)
{
    struct outbound *o = mem_zero(1, sizeof *o);
    o->table_size = 256;
    o->table = mem_zero(o->table_size, sizeof *o->table);
    return o;
}

void outbound_free(struct outbound *o)
{
    if (!o)
        return;
    free(o->items);
    free(o->sessions);
    free(o->table);
    free(o);
}

static uint32_t *table_place(struct outbound *o, uint64_t session)
{
    size_t at = (session * 0x9e3779b97f4a7c15u) >> 32 & (o->table_size - 1);
    while (o->table[at] && o->sessions[o->table[at] - 1].session != session)
        at = (at + 1) & (o->table_size - 1);
    return &o->table[at];
}

static struct outbound_session *session_of(struct outbound *o, uint64_t session)
{
    uint32_t *place = table_place(o, session);
    if (*place)
        return &o->sessions[*place - 1];
    if (o->sessions_count * 2 >= o->table_size) {
        free(o->table);
        o->table_size *= 2;
        o->table = mem_zero(o->table_size, sizeof *o->table);
        for (size_t i = 0; i < o->sessions_count; i++)
            *table_place(o, o->sessions[i].session) = (uint32_t)i + 1;
        place = table_place(o, session);
    }
    o->sessions = mem_grow(o->sessions, &o->sessions_cap, o->sessions_count + 1, sizeof *o->sessions);
    o->sessions[o->sessions_count++] = (struct outbound_session){ .session = session };
    *place = (uint32_t)o->sessions_count;
    return &o->sessions[o->sessions_count - 1];
}

void outbound_add(struct outbound *o, const struct send *send)
{
    struct outbound_session *s = session_of(o, send->session);
    o->items = mem_grow(o->items, &o->items_cap, o->items_count + 1, sizeof *o->items);
    o->items[o->items_count++] = (struct outbound_item){ send, 0 };
    if (s->last)
        o->items[s->last - 1].next = o->items_count;
    else
        s->first = o->items_count;
    s->last = o->items_count;
}

static void outbound_clear(struct outbound *o)
{
    memset(o->table, 0, o->table_size * sizeof *o->table);
    o->items_count = o->sessions_count = 0;
}

static void begin(struct master *m, uint64_t session)
{
    struct wire_head head = { .epoch = m->epoch, .session = session };
    memcpy(head.cluster, m->meta.cluster, sizeof head.cluster);
    wire_begin(m->wire, &head);
}

static void end(struct master *m, uint64_t session)
{
    if (wire_count(m->wire) == 0)
        return;
    struct bytes body = wire_end(m->wire);
    struct err err;
    metric_add_label(M_BUS_MESSAGES, "out", 1);
    metric_add_label(M_BUS_BYTES, "out", (double)body.size);
    if (bus_send(m->bus, session, body, &err) < 0) {
        /* Nothing depends on it: what is still true is said again. */
        metric_add_label(M_BUS_DROPPED, err.code == ERR_FULL ? "full" : "closed", 1);
        log_debug("messages not sent session=%" PRIu64 ": %s", session, err.text);
    }
}

/* Fills in what the brain does not keep: the spec, and the names of named resources. False: the spec can not be had. */
static bool complete_start(struct master *m, struct message *msg)
{
    job_id job = msg->start.ref.job;
    if (!spec_cache_find(m->specs, job, &msg->start.spec)) {
        autobuf struct buf spec = BUF_INIT;
        struct err err;
        if (m->store->ops->spec(m->store, job, &spec, &err) < 0) {
            log_error("no spec for job=%" PRIu64 ": %s", job.n, err.text);
            return false;
        }
        msg->start.spec = spec_cache_put(m->specs, job, buf_bytes(&spec));
    }
    size_t count = 0;
    struct named_resource *named = NULL;
    for (int dim = RES_NAMED; dim < RES_DIMS; dim++) {
        const char *name = msg->start.need.v[dim] ? sched_view_dim(m->sched, dim) : NULL;
        if (!name)
            continue;
        if (!named)
            named = arena_alloc(&m->turn, RES_NAMED_MAX * sizeof *named);
        memset(&named[count], 0, sizeof *named);
        memcpy(named[count].name, name, strnlen(name, RES_NAME_BYTES - 1));
        named[count++].count = msg->start.need.v[dim];
    }
    msg->start.named = named;
    msg->start.named_count = count;
    return true;
}

static void send_to(struct master *m, const struct outbound_session *s)
{
    begin(m, s->session);
    for (size_t at = s->first; at; at = m->out->items[at - 1].next) {
        struct message msg = m->out->items[at - 1].send->message;
        if (msg.kind == MSG_START && !complete_start(m, &msg))
            continue;
        if (wire_add(m->wire, &msg))
            continue;
        end(m, s->session);
        begin(m, s->session);
        if (!wire_add(m->wire, &msg))
            log_error("a message is too large to send kind=%s session=%" PRIu64, message_name(msg.kind), s->session);
    }
    end(m, s->session);
}

void outbound_flush(struct master *m)
{
    struct outbound *o = m->out;
    for (size_t i = 0; i < o->sessions_count; i++)
        send_to(m, &o->sessions[i]);
    /* The spec of a single job is used once, unless it is tried again: make room for those that come. */
    for (size_t i = 0; i < o->items_count; i++) {
        const struct message *msg = &o->items[i].send->message;
        if (msg->kind == MSG_START && msg->start.ref.task == TASK_SINGLE)
            spec_cache_drop(m->specs, msg->start.ref.job);
    }
    spec_cache_trim(m->specs);
    if (o->sessions_count)
        outbound_clear(o);
}

void master_send(struct master *m, uint64_t session, const struct message *message)
{
    begin(m, session);
    if (wire_add(m->wire, message))
        end(m, session);
}
