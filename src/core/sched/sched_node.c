/* sched_node.c: what the master hears from workers and says to them; silent nodes; lost attempts.
 *
 * Every handler is idempotent and none relies on order: a report counts only for the current open attempt of its task, on the
 * node it was assigned to, with its token (the commit fence). What no longer counts is answered so that the worker can clean up. */
#include <stdio.h>
#include <stdlib.h>

#include "base/bug.h"
#include "core/sched/sched_state.h"

#define HEARTBEATS_PER_S 200       /* over all workers: the heartbeat grows with their number */
#define HEARTBEAT_MS_MAX 30000
#define MISSING_MAX 2              /* inventories in a row without a running attempt before it counts as gone */
#define INFRA_WINDOW_MS 600000     /* five failures of the node within this time set it aside */
#define TRANSPORT_PAUSE_MS 600000  /* how long a broken transport excuses silence */
#define QUARANTINE_MS 60000       /* first time set aside; doubles each time in a row */
#define QUARANTINE_MS_MAX 1800000
#define LEASE_MARGIN_MS 5000
#define AHEAD_TTL_MS 2000          /* work that waits behind other work goes back sooner */

struct send *sched_send(struct sched *s, struct node *n, enum message_kind kind)
{
    s->sends = mem_grow(s->sends, &s->sends_cap, s->sends_count + 1, sizeof *s->sends);
    struct send *send = &s->sends[s->sends_count++];
    *send = (struct send){ .session = n->session, .message = { .kind = kind } };
    return send;
}

static struct mac128 token_of(const struct sched *s, struct attempt_ref ref)
{
    uint64_t numbers[3] = { ref.job.n, ref.task, ref.attempt };
    return mac_numbers(s->mac, numbers, 3);
}

void sched_send_start(struct sched *s, struct run *r)
{
    if (!r->node->session || r->cancelling)
        return;
    const struct class *c = job_class(s, r->job);
    struct send *send = sched_send(s, r->node, MSG_START);
    send->message.start.ref = r->ref;
    send->message.start.token = token_of(s, r->ref);
    send->message.start.index = r->job->is_array ? job_user_index(r->job->array, r->ref.task) : TASK_SINGLE;
    send->message.start.need = c->need;
    send->message.start.time_limit_ms = c->time_limit_ms;
    send->message.start.grace_ms = c->grace_ms;
    send->message.start.start_ttl_ms = r->ahead ? AHEAD_TTL_MS : s->config.start_ttl_ms;
    send->message.start.overlap_never = c->overlap_never;
    send->message.start.heard_seq = r->node->heartbeat_seq;
    r->sent_ms = s->now_ms;
    if (list_linked(&r->unanswered)) { /* The list is in order of sent_ms. */
        list_remove(&r->unanswered);
        list_append(&s->unanswered, &r->unanswered);
    }
}

void sched_send_kill(struct sched *s, struct run *r)
{
    if (!r->node->session)
        return; /* HELLO brings it up again. */
    struct send *send = sched_send(s, r->node, MSG_KILL);
    send->message.kill.ref = r->ref;
    send->message.kill.token = token_of(s, r->ref);
    send->message.kill.grace_ms = job_class(s, r->job)->grace_ms;
}

static void send_kill_stale(struct sched *s, struct node *n, struct attempt_ref ref)
{
    struct send *send = sched_send(s, n, MSG_KILL);
    send->message.kill.ref = ref;
    send->message.kill.token = token_of(s, ref);
    send->message.kill.grace_ms = s->config.kill_grace_ms;
}

static void send_report_ack(struct sched *s, struct node *n, struct attempt_ref ref)
{
    sched_send(s, n, MSG_REPORT_ACK)->message.report_ack.ref = ref;
}

void sched_node_state(struct sched *s, struct node *n, enum node_state state, const char *reason)
{
    if (n->state == state)
        return;
    struct record rec = { .kind = EV_NODE_STATE };
    rec.node_state = (struct ev_node_state){ n->id.n, state, arena_bytes(&s->turn, bytes_str(reason)) };
    sched_emit(s, &rec);
}

int64_t sched_heartbeat_ms(const struct sched *s)
{
    int64_t ms = (int64_t)s->nodes_count * 1000 / HEARTBEATS_PER_S;
    if (ms < s->config.heartbeat_ms)
        ms = s->config.heartbeat_ms;
    return ms > HEARTBEAT_MS_MAX && s->config.heartbeat_ms < HEARTBEAT_MS_MAX ? HEARTBEAT_MS_MAX : ms;
}

/* READY, or the state of draining it was in. */
static void node_comes_back(struct sched *s, struct node *n)
{
    if (n->state == NODE_QUARANTINED)
        return;
    if (n->drained_by_user)
        sched_node_state(s, n, n->runs_count ? NODE_DRAINING : NODE_DRAINED, "drained");
    else
        sched_node_state(s, n, NODE_READY, "");
}

void sched_node_drain(struct sched *s, struct node *n, bool on, struct bytes reason)
{
    if (on) {
        char text[200];
        snprintf(text, sizeof text, "%.*s", (int)(reason.size < 190 ? reason.size : 190), reason.size ? reason.data : "drained");
        if (n->state == NODE_DRAINING || n->state == NODE_DRAINED)
            return;
        sched_node_state(s, n, n->runs_count ? NODE_DRAINING : NODE_DRAINED, text);
    } else if (n->state == NODE_DRAINING || n->state == NODE_DRAINED || n->state == NODE_QUARANTINED) {
        memset(n->infra_at_ms, 0, sizeof n->infra_at_ms);
        n->quarantines = 0;
        sched_node_state(s, n, NODE_READY, "");
        if (!n->session)
            sched_node_state(s, n, NODE_SUSPECT, "its worker is not connected");
    }
}

static struct node **session_slot(const struct sched *s, uint64_t session)
{
    return &s->sessions[(session * 0x9e3779b97f4a7c15u >> 32) & (s->sessions_slots - 1)];
}

struct node *sched_node_by_session(const struct sched *s, uint64_t session)
{
    if (!session || !s->sessions_slots)
        return NULL;
    for (struct node *n = *session_slot(s, session); n; n = n->session_next)
        if (n->session == session)
            return n;
    return NULL;
}

static void sessions_grow(struct sched *s)
{
    free(s->sessions);
    s->sessions_slots = s->sessions_slots ? s->sessions_slots * 2 : 64;
    s->sessions = mem_zero(s->sessions_slots, sizeof *s->sessions);
    for (size_t i = 0; i < s->nodes_count; i++) {
        struct node *n = s->nodes[i];
        if (!n->session)
            continue;
        struct node **slot = session_slot(s, n->session);
        n->session_next = *slot;
        *slot = n;
    }
}

void sched_node_session(struct sched *s, struct node *n, uint64_t session)
{
    sched_node_touched(s, n);
    if (n->session == session)
        return;
    if (n->session) {
        struct node **at = session_slot(s, n->session);
        while (*at != n)
            at = &(*at)->session_next;
        *at = n->session_next;
        s->sessions_count--;
    }
    n->session = 0;
    if (!session)
        return;
    if (s->sessions_count == s->sessions_slots)
        sessions_grow(s);
    n->session = session;
    struct node **slot = session_slot(s, session);
    n->session_next = *slot;
    *slot = n;
    s->sessions_count++;
}

static void heard(struct sched *s, struct node *n)
{
    n->heard = true;
    n->heard_ms = s->now_ms;
    if (n->state == NODE_SUSPECT)
        node_comes_back(s, n);
}

/* --- ends and starts, from whatever message they were learnt --- */

/* The open attempt that the words are about, if they may count: the commit fence. */
static struct run *fenced(struct sched *s, struct node *n, struct attempt_ref ref, struct mac128 token)
{
    struct run *r = sched_run(s, ref.job, ref.task);
    if (!r || (r->ref.attempt != ref.attempt && !BUG(no_fence)))
        return NULL;
    if ((r->node != n && !BUG(no_fence)) || (!mac_equal(token, token_of(s, ref)) && !BUG(no_token))) {
        s->stats.stale_messages++;
        return NULL;
    }
    return r;
}

static void attempt_started(struct sched *s, struct run *r)
{
    struct record rec;
    if (r->uncertain) {
        rec = (struct record){ .kind = EV_RECOVERED };
        rec.recovered = (struct ev_recovered){ r->job->id.n, r->ref.task, r->ref.attempt, r->node->id.n, 1 };
    } else if (r->state == RUN_ASSIGNED) {
        rec = (struct record){ .kind = EV_STARTED };
        rec.started = (struct ev_started){ r->job->id.n, r->ref.task, r->ref.attempt, r->node->id.n };
    } else {
        return;
    }
    sched_emit(s, &rec);
}

static void attempt_accepted(struct sched *s, struct run *r)
{
    list_remove(&r->unanswered);
    if (!r->uncertain)
        return;
    struct record rec = { .kind = EV_RECOVERED };
    rec.recovered = (struct ev_recovered){ r->job->id.n, r->ref.task, r->ref.attempt, r->node->id.n, 0 };
    sched_emit(s, &rec);
}

static void node_infra(struct sched *s, struct node *n)
{
    const size_t most = sizeof n->infra_at_ms / sizeof *n->infra_at_ms;
    memmove(n->infra_at_ms, n->infra_at_ms + 1, (most - 1) * sizeof *n->infra_at_ms);
    n->infra_at_ms[most - 1] = s->now_ms;
    int64_t oldest = n->infra_at_ms[0]; /* 0: there were fewer */
    if (!node_state_dispatches(n->state) || (!n->quarantines && !(oldest && s->now_ms - oldest < INFRA_WINDOW_MS)))
        return;
    int64_t pause_ms = QUARANTINE_MS;
    for (unsigned i = 0; i < n->quarantines && pause_ms < QUARANTINE_MS_MAX; i++)
        pause_ms *= 2;
    n->quarantines++;
    n->quarantined_until_ms = s->now_ms + pause_ms;
    memset(n->infra_at_ms, 0, sizeof n->infra_at_ms);
    sched_node_state(s, n, NODE_QUARANTINED, "attempts failed there for want of the node itself");
}

static void drained_if_empty(struct sched *s, struct node *n)
{
    if (n->state == NODE_DRAINING && !n->runs_count)
        sched_node_state(s, n, NODE_DRAINED, "drained");
}

static void on_finished(struct sched *s, struct node *n, const struct message *m)
{
    struct attempt_ref ref = m->finished.ref;
    struct run *r = sched_run(s, ref.job, ref.task);
    if (r && (r->ref.attempt == ref.attempt || BUG(no_fence))) {
        if (!fenced(s, n, ref, m->finished.token))
            return; /* Not its reporter: no answer, no change. */
        if (m->finished.result.reason == REASON_INFRA)
            node_infra(s, n);
        sched_end_attempt(s, r, &m->finished.result);
        drained_if_empty(s, n);
    } else if (mac_equal(m->finished.token, token_of(s, ref))) {
        const struct job *j = sched_job(s, ref.job);
        bool known = j && (j->is_array ? ref.task < j->array->tasks : ref.task == TASK_SINGLE);
        uint32_t last = !known ? 0 : j->is_array ? j->array->cells[ref.task].attempt : j->attempt;
        uint32_t reason = !known ? 0 : j->is_array ? j->array->cells[ref.task].reason : j->reason;
        if ((known && last == ref.attempt && (reason == REASON_NODE_LOST || reason == REASON_POISON)) ||
            sched_orphan(s, ref)) {
            struct record rec = { .kind = EV_SUPERSEDED };
            rec.superseded = (struct ev_superseded){ ref.job.n, ref.task, ref.attempt, n->id.n, m->finished.result.reason,
                                                     m->finished.result.exit_code, m->finished.result.signal };
            sched_emit(s, &rec);
        }
    } else {
        s->stats.stale_messages++;
        return;
    }
    send_report_ack(s, n, ref);
}

static void on_never_started(struct sched *s, struct node *n, const struct message *m)
{
    struct attempt_ref ref = m->never_started.ref;
    struct run *r = sched_run(s, ref.job, ref.task);
    if (r && r->ref.attempt == ref.attempt) {
        if (!fenced(s, n, ref, m->never_started.token))
            return;
        if (r->state == RUN_RUNNING) {
            s->stats.stale_messages++; /* It did start: it may have had effects. */
            return;
        }
        if (m->never_started.reason == REASON_INFRA)
            node_infra(s, n);
        sched_revoke(s, r, m->never_started.reason);
        drained_if_empty(s, n);
    }
    send_report_ack(s, n, ref);
}

/* --- inventory: what the worker holds against what the master thinks it holds --- */

/* True: nobody may kill it, for nobody knows what it is to its user. */
static bool spared(struct sched *s, struct node *n, const struct inventory_item *item)
{
    if (!sched_orphan(s, item->ref) || !mac_equal(item->token, token_of(s, item->ref)))
        return false;
    n->orphans = mem_grow(n->orphans, &n->orphans_cap, n->orphans_count + 1, sizeof *n->orphans);
    n->orphans[n->orphans_count++] = (struct orphan){ item->ref, item->phase };
    return true;
}

/* What was made before its worker heard of this master (epoch_seen) tells what there is, and not what is missing: it may be so old
 * that what it does not list was started since. Once the worker has heard, it starts nothing more that another master sent. */
static void reconcile(struct sched *s, struct node *n, const struct inventory_item *items, size_t count, uint64_t seq, uint64_t epoch_seen)
{
    n->inventory_seq = seq;
    n->orphans_count = 0;
    list_each(at, &n->runs) {
        struct run *r = list_entry(at, struct run, on_node);
        if (r->missing < UINT8_MAX && seq > r->since_seq && epoch_seen >= s->epoch)
            r->missing++;
    }
    for (size_t i = 0; i < count; i++) {
        const struct inventory_item *item = &items[i];
        struct run *r = sched_run(s, item->ref.job, item->ref.task);
        if (!r || r->ref.attempt != item->ref.attempt || r->node != n) {
            /* Fenced: its end, if there is one, comes as a report and is answered there. */
            if (!spared(s, n, item) && item->phase != PHASE_ENDED)
                send_kill_stale(s, n, item->ref);
            continue;
        }
        if (!mac_equal(item->token, token_of(s, item->ref))) {
            s->stats.stale_messages++;
            continue;
        }
        r->missing = 0;
        r->since_seq = seq;
        if (r->cancelling)
            sched_send_kill(s, r);
        if (item->phase == PHASE_RUNNING)
            attempt_started(s, r);
        else
            attempt_accepted(s, r);
    }
    list_each_safe(at, &n->runs) {
        struct run *r = list_entry(at, struct run, on_node);
        if (!r->missing || seq <= r->since_seq || epoch_seen < s->epoch)
            continue;
        if (r->state == RUN_ASSIGNED && BUG(no_resend))
            continue;
        if (r->state == RUN_ASSIGNED) {
            /* START was lost: the same attempt again; the worker takes it once. */
            if (r->missing > 1 || list_empty(&r->unanswered) || r->uncertain) {
                if (r->cancelling)
                    sched_send_kill(s, r);
                else
                    sched_send_start(s, r);
            }
        } else if (r->missing >= MISSING_MAX) {
            struct attempt_result gone = { .reason = REASON_INFRA, .flags = END_MAY_HAVE_RUN };
            sched_end_attempt(s, r, &gone);
        }
    }
}

static struct node *node_by_worker(const struct sched *s, struct worker_id worker)
{
    for (size_t i = 0; i < s->nodes_count; i++)
        if (s->nodes[i]->worker.high == worker.high && s->nodes[i]->worker.low == worker.low &&
            s->nodes[i]->state != NODE_REMOVED)
            return s->nodes[i];
    return NULL;
}

static void go_away(struct sched *s, uint64_t session, enum reason reason, const char *text)
{
    struct node nobody = { .session = session };
    struct send *send = sched_send(s, &nobody, MSG_GO_AWAY);
    send->message.go_away.reason = reason;
    send->message.go_away.text = arena_bytes(&s->turn, bytes_str(text));
}

/* Four numbers: no attempt's token is like it. */
static struct mac128 lease_token(const struct sched *s, struct worker_id worker, uint64_t incarnation)
{
    uint64_t numbers[4] = { worker.high, worker.low, incarnation, 0x6c65617365 };
    return mac_numbers(s->mac, numbers, 4);
}

/* It stays SUSPECT, for no order reaches it; but it is there, and so are its attempts. */
void sched_lease(struct sched *s, const struct sched_event *ev, struct sched_result *result)
{
    struct node *n = node_by_worker(s, ev->lease.worker);
    if (!mac_equal(ev->lease.token, lease_token(s, ev->lease.worker, ev->lease.incarnation)))
        err_field(&result->err, ERR_UNAUTH, "token", "the one that WELCOME gave", "this is not the token of this worker");
    else if (!n || n->incarnation != ev->lease.incarnation)
        err_field(&result->err, ERR_NOT_FOUND, "worker", "say HELLO on the bus", "there is no such worker, or it has been started again");
    else
        n->renewed_ms = s->now_ms;
}

static void on_hello(struct sched *s, uint64_t session, const struct message *m)
{
    struct node *n = node_by_worker(s, m->hello.worker);
    if (n && (session < n->session_last || (session == n->session_last && session != n->session))) {
        s->stats.stale_messages++; /* Of a session that is over: there is a later one, or will be. */
        return;
    }
    if (n && session == n->session && m->hello.nonce != n->nonce && m->hello.heartbeat_seq < n->heartbeat_seq) {
        s->stats.stale_messages++; /* An earlier greeting that was long under way: so is its inventory. */
        return;
    }
    if (n && m->hello.incarnation < n->incarnation) {
        go_away(s, session, REASON_CANCELLED, "a newer worker runs on the same state directory");
        return;
    }
    for (size_t i = 0; i < s->nodes_count; i++) {
        struct node *other = s->nodes[i];
        if (other == n || other->state == NODE_REMOVED || !bytes_equal(other->name, m->hello.name))
            continue;
        if (other->session || other->runs_count) {
            go_away(s, session, REASON_NONE, "another worker has this node name; give one of them another --name");
            return;
        }
        sched_node_state(s, other, NODE_REMOVED, "replaced by another worker of the same name");
    }
    struct resources capacity = m->hello.capacity;
    for (size_t i = 0; i < m->hello.named_count; i++) {
        int dim = sched_named_dim(s, m->hello.named[i].name);
        if (dim >= 0)
            capacity.v[dim] = m->hello.named[i].count;
    }
    if (!n && s->nodes_count >= NODES_MAX) {
        go_away(s, session, REASON_NONE, "the cluster has its maximum of nodes");
        return;
    }
    if (!n || n->incarnation != m->hello.incarnation || !resources_equal(&n->capacity, &capacity) ||
        !bytes_equal(n->name, m->hello.name) || !bytes_equal(n->version, m->hello.version) ||
        !bytes_equal(n->labels, m->hello.labels)) {
        struct record rec = { .kind = EV_NODE_SEEN };
        rec.node_seen = (struct ev_node_seen){ .node = n ? n->id.n : (uint32_t)s->nodes_count + 1,
                                               .name = arena_bytes(&s->turn, m->hello.name),
                                               .worker_high = m->hello.worker.high,
                                               .worker_low = m->hello.worker.low,
                                               .incarnation = m->hello.incarnation,
                                               .boot = arena_bytes(&s->turn, m->hello.boot),
                                               .capacity = capacity,
                                               .version = arena_bytes(&s->turn, m->hello.version),
                                               .labels = arena_bytes(&s->turn, m->hello.labels) };
        sched_emit(s, &rec);
        n = sched_node(s, (node_id){ rec.node_seen.node });
    }
    bool again = session == n->session && m->hello.nonce == n->nonce; /* The same greeting: its inventory is old by now. */
    struct node *had = sched_node_by_session(s, session);
    if (had && had != n)
        sched_node_session(s, had, 0);
    sched_node_session(s, n, session);
    free((char *)n->metrics.data);
    n->metrics = bytes_of(mem_copy(m->hello.metrics.data, m->hello.metrics.size), m->hello.metrics.size);
    n->session_last = session;
    n->nonce = m->hello.nonce;
    n->window = m->hello.window ? m->hello.window : 1;
    heard(s, n);
    struct send *send = sched_send(s, n, MSG_WELCOME);
    send->message.welcome.epoch = s->epoch;
    send->message.welcome.session = session;
    send->message.welcome.heartbeat_ms = sched_heartbeat_ms(s);
    send->message.welcome.lease_ms = s->config.lease_ms;
    send->message.welcome.node = n->id.n;
    send->message.welcome.nonce = m->hello.nonce;
    send->message.welcome.lease_token = lease_token(s, m->hello.worker, m->hello.incarnation);
    if (again)
        return;
    n->heartbeat_seq = m->hello.heartbeat_seq;
    list_each(at, &n->runs)
        list_entry(at, struct run, on_node)->since_seq = 0;
    if (n->state != NODE_QUARANTINED && n->state != NODE_DRAINING && n->state != NODE_DRAINED)
        sched_node_state(s, n, NODE_JOINING, "");
    reconcile(s, n, m->hello.items, m->hello.items_count, m->hello.inventory_seq, m->hello.epoch_seen);
    if (m->hello.draining)
        sched_node_drain(s, n, true, bytes_str("its worker is stopping"));
    else
        node_comes_back(s, n);
    sched_node_freed(s, n);
}

static uint64_t expected_digest(const struct node *n, uint32_t *count)
{
    uint64_t digest = 0;
    *count = 0;
    list_each(at, &n->runs) {
        const struct run *r = list_entry(at, struct run, on_node);
        digest = inventory_digest_add(digest, r->ref, r->state == RUN_RUNNING ? PHASE_RUNNING : PHASE_ACCEPTED);
        ++*count;
    }
    for (size_t i = 0; i < n->orphans_count; i++, ++*count)
        digest = inventory_digest_add(digest, n->orphans[i].ref, n->orphans[i].phase);
    return digest;
}

static void on_heartbeat(struct sched *s, struct node *n, const struct message *m)
{
    if (m->heartbeat.seq <= n->heartbeat_seq) {
        s->stats.stale_messages++;
        return;
    }
    n->heartbeat_seq = m->heartbeat.seq;
    n->cpu_used_milli = m->heartbeat.cpu_used_milli;
    n->mem_used_bytes = m->heartbeat.mem_used_bytes;
    n->load_milli = m->heartbeat.load_milli;
    heard(s, n);
    uint32_t count;
    bool differs = expected_digest(n, &count) != m->heartbeat.digest || count != m->heartbeat.count;
    struct send *send = sched_send(s, n, MSG_HEARTBEAT_ACK);
    send->message.heartbeat_ack.seq = m->heartbeat.seq;
    send->message.heartbeat_ack.sent_ms = m->heartbeat.sent_ms;
    send->message.heartbeat_ack.want_inventory = differs || n->state == NODE_DOWN;
    if (n->cancelling_count)
        list_each(at, &n->runs) {
            struct run *r = list_entry(at, struct run, on_node);
            if (r->cancelling)
                sched_send_kill(s, r);
        }
}

void sched_message(struct sched *s, uint64_t session, const struct message *m)
{
    if (m->kind == MSG_HELLO) {
        on_hello(s, session, m);
        return;
    }
    struct node *n = sched_node_by_session(s, session);
    if (!n) {
        s->stats.stale_messages++; /* The worker says HELLO again until it is welcomed. */
        return;
    }
    switch (m->kind) {
    case MSG_HEARTBEAT: on_heartbeat(s, n, m); break;
    case MSG_INVENTORY:
        if (m->inventory.seq <= n->inventory_seq) {
            s->stats.stale_messages++;
            break;
        }
        heard(s, n);
        if (n->state == NODE_DOWN)
            sched_node_state(s, n, NODE_JOINING, "");
        reconcile(s, n, m->inventory.items, m->inventory.items_count, m->inventory.seq, m->inventory.epoch_seen);
        if (n->state == NODE_JOINING)
            node_comes_back(s, n);
        drained_if_empty(s, n);
        break;
    case MSG_STARTED: {
        struct run *r = fenced(s, n, m->started.ref, m->started.token);
        if (r) {
            if (m->started.inventory_seq > r->since_seq)
                r->since_seq = m->started.inventory_seq;
            r->missing = 0; /* those without it had been made before it was there */
            attempt_started(s, r);
        }
        break;
    }
    case MSG_FINISHED: on_finished(s, n, m); break;
    case MSG_NEVER_STARTED: on_never_started(s, n, m); break;
    case MSG_GOODBYE: sched_session_closed(s, session); break;
    default: s->stats.stale_messages++; break;
    }
}

void sched_session_closed(struct sched *s, uint64_t session)
{
    struct node *n = sched_node_by_session(s, session);
    if (!n)
        return;
    sched_node_session(s, n, 0);
    if (n->state == NODE_READY || n->state == NODE_JOINING)
        sched_node_state(s, n, NODE_SUSPECT, "its worker is not connected");
}

/* --- time --- */

static void node_down(struct sched *s, struct node *n)
{
    sched_node_state(s, n, NODE_DOWN, "nothing was heard from it");
    list_each(at, &n->runs) {
        struct run *r = list_entry(at, struct run, on_node);
        if (r->uncertain)
            continue;
        struct record rec = { .kind = EV_UNCERTAIN };
        rec.uncertain = (struct ev_uncertain){ r->job->id.n, r->ref.task, r->ref.attempt, n->id.n };
        sched_emit(s, &rec);
    }
}

/* From then on no attempt that may not overlap runs on a node that was silent for so long: what the worker sent last, it had
 * sent before we heard it, and its lease counts from there. One clock may be 1 % slower; what is killed takes its time to go. */
static int64_t hold_ms(const struct sched *s)
{
    return s->config.lease_ms + s->config.lease_ms / 100 + s->config.kill_grace_ms + LEASE_MARGIN_MS;
}

/* How long nothing has been known of it, by any way. */
static int64_t unknown_ms(const struct sched *s, const struct node *n)
{
    return s->now_ms - (n->renewed_ms > n->heard_ms && !BUG(renewal_forgotten) ? n->renewed_ms : n->heard_ms);
}

static bool given_up(const struct sched *s, const struct run *r, int64_t silent_ms)
{
    const struct class *c = job_class(s, r->job);
    if (c->overlap_never && BUG(hold_ignored))
        return true;
    return silent_ms >= c->lost_after_ms && (!c->overlap_never || silent_ms >= hold_ms(s));
}

static void lose_attempts(struct sched *s, struct node *n, int64_t silent_ms)
{
    list_each_safe(at, &n->runs) {
        struct run *r = list_entry(at, struct run, on_node);
        if (!r->uncertain || !given_up(s, r, silent_ms))
            continue;
        struct attempt_result lost = { .reason = BUG(invent_success) ? REASON_NONE : REASON_NODE_LOST, .flags = END_MAY_HAVE_RUN };
        sched_end_attempt(s, r, &lost);
    }
}

void sched_sweep(struct sched *s)
{
    bool excused = s->transport_down && s->now_ms - s->transport_down_since_ms < TRANSPORT_PAUSE_MS;
    bool grace = s->now_ms - s->start_ms < s->config.grace_start_ms;
    for (size_t i = 0; i < s->nodes_count; i++) {
        struct node *n = s->nodes[i];
        if (n->state == NODE_REMOVED || n->state == NODE_NONE)
            continue;
        if (excused) {
            n->heard_ms = s->now_ms;
            continue;
        }
        int64_t silent_ms = unknown_ms(s, n);
        if (s->now_ms - n->heard_ms >= s->config.suspect_ms && (n->state == NODE_READY || n->state == NODE_JOINING))
            sched_node_state(s, n, NODE_SUSPECT, "it missed its heartbeats");
        if (silent_ms >= (BUG(hold_ignored) ? s->config.suspect_ms : s->config.down_ms) && !grace && n->state != NODE_DOWN)
            node_down(s, n);
        if (n->state == NODE_DOWN)
            lose_attempts(s, n, silent_ms);
        if (n->state == NODE_QUARANTINED && n->session && s->now_ms >= n->quarantined_until_ms)
            sched_node_state(s, n, NODE_READY, "");
        /* Ten quiet minutes wipe the slate. */
        if (n->state == NODE_READY && n->quarantines && s->now_ms - n->quarantined_until_ms > INFRA_WINDOW_MS)
            n->quarantines = 0;
    }
    while (!list_empty(&s->unanswered)) {
        struct run *r = list_entry(list_first(&s->unanswered), struct run, unanswered);
        if (s->now_ms - r->sent_ms < s->config.resend_ms || BUG(no_resend))
            break;
        if (r->node->session && !r->cancelling) {
            sched_send_start(s, r);
        } else {
            r->sent_ms = s->now_ms;
            list_remove(&r->unanswered);
            list_append(&s->unanswered, &r->unanswered);
        }
    }
}
