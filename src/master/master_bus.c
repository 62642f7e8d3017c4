#include <inttypes.h>
#include <stdio.h>

#include "base/check.h"
#include "base/mem.h"
#include "master/master_int.h"
#include "obs/log.h"
#include "obs/metrics.h"

#define EXIT_ROLLED_BACK 65
#define EPOCHS_BELIEVED 1000000000u /* starts and accepted rollbacks that a fleet can have seen and our store not */
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
    /* Its series may be there already (master_usage.c). */
    struct store_tail *last = ride->tails_count ? &ride->tails[ride->tails_count - 1] : NULL;
    ride->bytes += out.size + errs.size;
    if (last && attempt_equal(last->ref, ref)) {
        last->stdout_tail = arena_bytes(&ride->arena, out);
        last->stderr_tail = arena_bytes(&ride->arena, errs);
        return;
    }
    ride->tails = mem_grow(ride->tails, &ride->tails_cap, ride->tails_count + 1, sizeof *ride->tails);
    ride->tails[ride->tails_count++] =
        (struct store_tail){ ref, arena_bytes(&ride->arena, out), arena_bytes(&ride->arena, errs), { 0 } };
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
            keep_tail(master_ride(m), ref, msg, attempt_final(r->ended.final, r->ended.reason, r->ended.flags) == JOB_SUCCEEDED);
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

/* The highest epoch that the sender has seen, and who it is. */
static uint64_t epoch_seen(const struct wire_batch *batch, struct buf *who)
{
    uint64_t seen = batch->head.epoch;
    for (size_t i = 0; i < batch->count; i++)
        if (batch->messages[i].kind == MSG_HELLO) {
            const struct bytes *name = &batch->messages[i].hello.name;
            if (batch->messages[i].hello.epoch_seen > seen)
                seen = batch->messages[i].hello.epoch_seen;
            buf_clear(who);
            buf_printf(who, "worker %.*s", (int)name->size, name->data);
        }
    return seen;
}

/* A worker that has seen a higher epoch has been led by a younger store than ours: ours was put back in time. */
static void rolled_back(struct master *m, const char *who, uint64_t epoch)
{
    struct err err;
    err_field(&err, ERR_STALE, NULL,
              "put the newest store or backup there; to go on without what is lost, start once with --accept-rollback",
              "the store is older than the fleet: %.80s has seen epoch %" PRIu64 ", this master leads epoch %" PRIu64,
              who, epoch, m->epoch);
    /* Each start raises the epoch: without this a few more would look as young as the fleet. */
    if (m->store->ops->note_epoch)
        m->store->ops->note_epoch(m->store, epoch);
    master_fail(m, EXIT_ROLLED_BACK, &err);
}

static bool belongs_here(struct master *m, uint64_t session, const struct wire_batch *batch)
{
    const struct wire_head *head = &batch->head;
    if (!zero(head->cluster, sizeof head->cluster) &&
        memcmp(head->cluster, m->meta.cluster, sizeof head->cluster) != 0) {
        metric_add_label(M_BUS_DROPPED, "cluster", 1);
        log_warn("a worker of another cluster was sent away session=%" PRIu64, session);
        go_away(m, session, "this worker's state directory belongs to another cluster");
        return false;
    }
    autobuf struct buf who = BUF_INIT;
    buf_str(&who, "a worker");
    uint64_t seen = epoch_seen(batch, &who);
    if (seen <= m->epoch)
        return true;
    if (seen - m->epoch > EPOCHS_BELIEVED) {
        metric_add_label(M_BUS_DROPPED, "corrupt", 1);
        log_warn("%s claims epoch %" PRIu64 ", which no master can have led; it was sent away", who.data, seen);
        go_away(m, session, "this worker's state directory is damaged: it holds an epoch that no master can have led");
        return false;
    }
    rolled_back(m, who.data, seen);
    return false;
}

static void tell_orphans(struct master *m, const struct message *hello)
{
    struct node_view node;
    node_id id = sched_view_node_named(m->sched, hello->hello.name);
    if (id.n && sched_view_node(m->sched, id, &node) && node.orphans)
        log_warn("node %.*s holds %zu attempts that the store does not know; they are not killed: rota nodes %.*s "
                 "lists them",
                 (int)node.name.size, node.name.data, node.orphans, (int)node.name.size, node.name.data);
}

/* A worker speaks for its own node only. */
static void report_heard(struct master *m, uint64_t session, const struct message *msg)
{
    struct node_view node;
    node_id id = sched_view_node_named(m->sched, msg->node_report.name);
    if (id.n && sched_view_node(m->sched, id, &node) && node.session == session)
        node_reports_note(m->reports, id, msg);
}

static void on_message(void *arg, uint64_t session, struct bytes body, uint64_t delivery)
{
    struct master *m = arg;
    if (m->exit_code >= 0)
        return;
    arena_reset(&m->inbound);
    struct wire_batch batch;
    struct err err;
    m->counts.messages_in++;
    m->counts.bytes_in += body.size;
    if (wire_decode(&m->inbound, body, &batch, &err) < 0) {
        metric_add_label(M_BUS_DROPPED, "corrupt", 1);
        log_warn("a message was dropped session=%" PRIu64 ": %s", session, err.text);
        bus_ack(m->bus, delivery);
        return;
    }
    if (batch.skipped)
        metric_add_label(M_BUS_DROPPED, "unknown_type", (double)batch.skipped);
    if (!belongs_here(m, session, &batch)) {
        bus_ack(m->bus, delivery);
        return;
    }
    for (size_t i = 0; i < batch.count && m->exit_code < 0; i++) {
        const struct message *msg = &batch.messages[i];
        if (msg->kind == MSG_LOG_CHUNK) {
            logs_chunk(m, session, msg);
            continue;
        }
        if (msg->kind == MSG_NODE_REPORT) {
            report_heard(m, session, msg);
            continue;
        }
        if (msg->kind == MSG_USAGE) {
            usage_heard(m, session, msg);
            continue;
        }
        if (msg->kind == MSG_NOTE) {
            note_heard(m, session, msg);
            continue;
        }
        if (msg->kind == MSG_HEARTBEAT)
            m->counts.heartbeats++;
        struct sched_event ev = { .kind = SCHED_MESSAGE, .message = { session, msg } };
        master_step(m, &ev, NULL);
        if (msg->kind == MSG_FINISHED)
            keep_tails(m, msg);
        if (msg->kind == MSG_HELLO)
            tell_orphans(m, msg);
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

void master_transport(struct master *m, bool up)
{
    struct sched_event ev = { .kind = SCHED_TRANSPORT_DOWN, .flag.on = !up };
    master_step(m, &ev, NULL);
}

/* --- those who are no workers --- */

/* The gate holds the answer back until the job is durable. */
struct bus_request {
    struct list_node node;
    uint64_t request;
    struct buf answer;
};

static void on_request(void *arg, uint64_t request, const char *user, const char *key, struct bytes body)
{
    struct master *m = arg;
    if (m->exit_code >= 0 || m->stopping)
        return; /* It comes again. */
    struct auth_identity who = { .role = API_ROLE_SUBMITTER };
    snprintf(who.user, sizeof who.user, "%s", user[0] ? user : "amqp");
    struct bus_request *r = mem_zero(1, sizeof *r);
    struct err err;
    job_id job;
    r->request = request;
    list_append(&m->requests, &r->node);
    if (submit_request(m, &who, bytes_str(key), body, &job, &err) < 0)
        problem_json(&r->answer, &err, bytes_of("", 0));
    else
        buf_printf(&r->answer, "{\"id\":%" PRIu64 "}", job.n);
    gate_add_reply(m->gate, &m->requests, request);
}

void request_answer(struct master *m, uint64_t request)
{
    list_each(node, &m->requests) {
        struct bus_request *r = list_entry(node, struct bus_request, node);
        if (r->request != request)
            continue;
        if (m->bus->ops->answer)
            m->bus->ops->answer(m->bus, request, buf_bytes(&r->answer));
        list_remove(&r->node);
        buf_fini(&r->answer);
        free(r);
        return;
    }
}

void requests_free(struct master *m)
{
    while (!list_empty(&m->requests)) {
        struct bus_request *r = list_entry(m->requests.next, struct bus_request, node);
        list_remove(&r->node);
        buf_fini(&r->answer);
        free(r);
    }
}

/* "job.succeeded", "node.down": what became of it, where the record says so; else the name of the event. */
static bool topic_of(const struct record *r, char *out, size_t size)
{
    const char *name = event_name(r->kind);
    if (r->kind == EV_ENDED && r->ended.final)
        snprintf(out, size, "job.%s", job_state_name((enum job_state)r->ended.final));
    else if (r->kind == EV_CANCEL && r->cancel.final)
        snprintf(out, size, "job.%s", job_state_name(JOB_CANCELLED));
    else if (r->kind == EV_NODE_STATE)
        snprintf(out, size, "node.%s", node_state_name((enum node_state)r->node_state.state));
    else
        snprintf(out, size, "%s", name);
    return strncmp(out, "job.", 4) == 0 || strncmp(out, "node.", 5) == 0;
}

void master_told(struct master *m, const struct gate_batch *batch)
{
    if (!m->bus->ops->tell)
        return;
    struct record_words words = master_words(m);
    autobuf struct buf json = BUF_INIT;
    char topic[48];
    for (size_t i = 0; i < batch->records_count; i++) {
        if (!topic_of(&batch->records[i], topic, sizeof topic))
            continue;
        buf_clear(&json);
        wire_record_json(&json, &batch->records[i], &words);
        m->bus->ops->tell(m->bus, topic, buf_bytes(&json));
    }
}

static void on_transport(void *arg, bool up)
{
    struct master *m = arg;
    if (m->exit_code < 0 && !m->stopping)
        master_transport(m, up);
}

void master_bus_events(struct master *m, struct bus_events *events)
{
    *events =
        (struct bus_events){ .arg = m, .on_message = on_message, .on_link = on_link, .on_transport = on_transport, .on_request = on_request };
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
    bool reading;              /* specs from the store, all in one go */
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
    m->counts.messages_out++;
    m->counts.bytes_out += body.size;
    if (bus_send(m->bus, session, body, &err) < 0) {
        /* Nothing depends on it: what is still true is said again. */
        metric_add_label(M_BUS_DROPPED, err.code == ERR_FULL ? "full" : "closed", 1);
        log_debug("messages not sent session=%" PRIu64 ": %s", session, err.text);
    }
}

/* Of a job on several nodes: which these are, behind its spec. */
static void add_members(struct master *m, struct message *msg)
{
    struct job_view v;
    if (!sched_view_job(m->sched, msg->start.ref.job, &v) || v.nodes <= 1)
        return;
    autobuf struct buf spec = BUF_INIT;
    buf_add(&spec, msg->start.spec.data, msg->start.spec.size);
    for (uint32_t rank = 0; rank < v.nodes; rank++) {
        struct node_view node = { .name = bytes_str("") };
        sched_view_node(m->sched, sched_view_member(m->sched, v.id, rank), &node);
        spec_add_member(&spec, node.name);
    }
    msg->start.spec = arena_bytes(&m->turn, buf_bytes(&spec));
}

/* Fills in what the brain does not keep: the spec, and the names of named resources. False: the spec can not be had. */
static bool complete_start(struct master *m, struct message *msg)
{
    job_id job = msg->start.ref.job;
    if (!spec_cache_find(m->specs, job, &msg->start.spec)) {
        autobuf struct buf spec = BUF_INIT;
        struct err err;
        if (!m->out->reading)
            m->store->ops->hold(m->store, true);
        m->out->reading = true;
        if (m->store->ops->spec(m->store, job, &spec, &err) < 0) {
            log_error("no spec for job=%" PRIu64 ": %s", job.n, err.text);
            return false;
        }
        msg->start.spec = spec_cache_put(m->specs, job, buf_bytes(&spec));
    }
    add_members(m, msg);
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
        if (msg.kind == MSG_WELCOME)
            msg.welcome.lease_url = lease_url(m);
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
    if (o->reading)
        m->store->ops->hold(m->store, false);
    o->reading = false;
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
