#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/parse.h"
#include "master/master_int.h"
#include "obs/metrics.h"

#define HEARTBEAT_MS 15000
#define CATCH_UP_RECORDS 500u   /* read from the journal for one reader in one turn */

struct sse_client {
    struct list_node node;      /* in m->sse */
    struct feed_reader reader;
    struct exchange *x;
    bool ended;                 /* the answer is over */
};

static void sse_write(void *arg, struct bytes text)
{
    struct sse_client *c = arg;
    if (!c->ended)
        http_write(c->x->r, text);
}

static size_t sse_unsent(void *arg)
{
    const struct sse_client *c = arg;
    return http_unsent(c->x->r);
}

void events_init(struct master *m)
{
    feed_init(&m->feed, sse_write, sse_unsent);
    m->heartbeat_at_ms = master_now_ms(m) + HEARTBEAT_MS;
}

static struct feed_event event_of(struct master *m, const struct record *r, struct buf *text)
{
    buf_clear(text);
    wire_record_json(text, r, node_name_text, m);
    return (struct feed_event){ .seq = r->seq, .job = record_subject(r).job.n, .name = event_name(r->kind),
                                .data = buf_bytes(text) };
}

void events_publish(struct master *m, const struct gate_batch *batch)
{
    if (!feed_wanted(&m->feed))
        return;
    autobuf struct buf text = BUF_INIT;
    for (size_t i = 0; i < batch->records_count; i++) {
        struct feed_event e = event_of(m, &batch->records[i], &text);
        feed_add(&m->feed, &e);
    }
    feed_flush(&m->feed);
}

/* --- readers that are behind --- */

struct catch_up { struct sse_client *c; struct buf text; bool full; };

static int catch_up_one(void *arg, const struct record *r, struct err *err)
{
    struct catch_up *up = arg;
    struct master *m = up->c->x->m;
    struct feed_event e = { .seq = r->seq, .job = record_subject(r).job.n };
    if (up->c->reader.job == 0 || up->c->reader.job == e.job)
        e = event_of(m, r, &up->text);
    if (feed_catch_up(&m->feed, &up->c->reader, &e))
        return 0;
    up->full = true;
    return err_set(err, ERR_FULL, "the reader is full");
}

/* True: there is more for it at once. */
static bool catch_up(struct sse_client *c)
{
    struct master *m = c->x->m;
    struct catch_up up = { .c = c };
    struct err err;
    if (c->reader.next_seq <= m->committed_seq && http_unsent(c->x->r) < FEED_UNSENT_MAX / 2) {
        int rc = m->store->ops->replay(m->store, c->reader.next_seq, CATCH_UP_RECORDS, catch_up_one, &up, &err);
        buf_fini(&up.text);
        if (rc < 0 && !up.full) {
            c->ended = true;
            http_reply_end(c->x->r); /* it may connect again */
            return false;
        }
    }
    if (c->reader.next_seq <= m->committed_seq)
        return !up.full;
    feed_caught_up(&c->reader, m->committed_seq + 1);
    return false;
}

static void on_drained(void *arg, struct http_request *r)
{
    (void)r;
    struct sse_client *c = arg;
    feed_drained(&c->x->m->feed, &c->reader);
}

bool sse_run(struct master *m)
{
    bool more = false;
    list_each_safe(node, &m->sse) {
        struct sse_client *c = list_entry(node, struct sse_client, node);
        if (c->reader.behind && !c->ended)
            more |= catch_up(c);
    }
    if (master_now_ms(m) >= m->heartbeat_at_ms) {
        feed_heartbeat(&m->feed);
        m->heartbeat_at_ms = master_now_ms(m) + HEARTBEAT_MS;
    }
    return more;
}

void sse_gone(struct exchange *x)
{
    struct sse_client *c = x->sse;
    feed_leave(&x->m->feed, &c->reader);
    list_remove(&c->node);
    free(c);
    x->sse = NULL;
}

/* Where to begin: after the last event the client has seen, or with the next one. */
static int first_wanted(struct exchange *x, uint64_t *seq, struct err *err)
{
    struct master *m = x->m;
    const char *last = http_header(x->r, "Last-Event-ID");
    const char *since = http_query(x->r, "since");
    const char *text = last ? last : since;
    *seq = m->committed_seq + 1;
    if (!text)
        return 0;
    uint64_t seen;
    if (parse_u64(text, 0, UINT64_MAX - 1, &seen, err) < 0) {
        snprintf(err->field, sizeof err->field, "%s", last ? "Last-Event-ID" : "since");
        return -(int)err->code;
    }
    if (seen < m->committed_seq)
        *seq = seen + 1;
    return 0;
}

void api_events(struct exchange *x)
{
    struct master *m = x->m;
    struct err err;
    uint64_t job, from;
    if (exchange_query_u64(x, "job", 1, UINT64_MAX, 0, &job, &err) < 0 || first_wanted(x, &from, &err) < 0) {
        exchange_error_now(x, &err);
        return;
    }
    struct sse_client *c = mem_zero(1, sizeof *c);
    if (!feed_join(&m->feed, &c->reader, job, from, m->committed_seq + 1, c)) {
        free(c);
        err_field(&err, ERR_UNAVAILABLE, NULL, "close some of them", "there are %u event streams already",
                  FEED_READERS_MAX);
        exchange_error_now(x, &err);
        return;
    }
    c->x = x;
    x->sse = c;
    x->answered = true;
    list_append(&m->sse, &c->node);
    http_reply_start(x->r, 200, "text/event-stream");
    http_write(x->r, bytes_str("retry: 1000\n\n"));
    http_on_drained(x->r, FEED_UNSENT_MAX / 4, on_drained, c);
}

/* --- metrics --- */

static void count_record(const struct record *r)
{
    switch (r->kind) {
    case EV_SUBMITTED:
        metric_add(M_JOBS_SUBMITTED, r->submitted.tasks ? r->submitted.tasks : 1);
        break;
    case EV_ASSIGNED:
        metric_add(M_SCHEDULER_PLACEMENTS, 1);
        break;
    case EV_STARTED:
        metric_add(M_ATTEMPTS_STARTED, 1);
        break;
    case EV_ENDED:
        metric_observe(M_RUN_SECONDS, (double)r->ended.run_ms / 1000);
        if (r->ended.final && r->ended.final < JOB_STATES)
            metric_add_label(M_JOBS_FINISHED, job_state_name((enum job_state)r->ended.final), 1);
        else if (r->ended.reason < REASONS)
            metric_add_label(M_ATTEMPTS_RETRIED, reason_name((enum reason)r->ended.reason), 1);
        if (r->ended.final == JOB_FAILED && r->ended.reason < REASONS)
            metric_add_label(M_JOBS_FAILED, reason_name((enum reason)r->ended.reason), 1);
        break;
    case EV_CANCEL:
        if (r->cancel.final && r->cancel.task != TASK_ALL)
            metric_add_label(M_JOBS_FINISHED, "cancelled", 1);
        break;
    case EV_EXPIRED:
        metric_add_label(M_JOBS_FINISHED, "expired", 1);
        break;
    case EV_DEPENDENCY_FAILED:
        metric_add_label(M_JOBS_FINISHED, "failed", 1);
        metric_add_label(M_JOBS_FAILED, "dependency", 1);
        break;
    case EV_NODE_STATE:
        if (r->node_state.state == NODE_DOWN)
            metric_add(M_NODE_LOST, 1);
        break;
    default:
        break;
    }
}

void events_count(struct master *m, const struct gate_batch *batch)
{
    (void)m;
    metric_add(M_STORE_COMMITS, 1);
    metric_add(M_STORE_RECORDS, (double)batch->records_count);
    for (size_t i = 0; i < batch->records_count; i++)
        count_record(&batch->records[i]);
}

static void nodes_refresh(struct master *m)
{
    double used_milli = 0, used_bytes = 0;
    size_t count = sched_view_nodes(m->sched);
    for (uint32_t id = 1; id <= count; id++) {
        struct node_view v;
        if (!sched_view_node(m->sched, (node_id){ id }, &v) || v.session == 0)
            continue;
        used_milli += (double)v.cpu_used_milli;
        used_bytes += (double)v.mem_used_bytes;
    }
    metric_set(M_CPU_USED_CORES, used_milli / 1000);
    metric_set(M_MEMORY_USED_BYTES, used_bytes);
}

void metrics_refresh(struct master *m)
{
    struct sched_stats s;
    sched_view_stats(m->sched, &s);
    for (int state = JOB_NONE + 1; state < JOB_STATES; state++)
        if (!job_state_terminal((enum job_state)state))
            metric_set_label(M_JOBS, job_state_name((enum job_state)state), (double)s.tasks[state]);
    metric_set(M_UNCERTAIN_ATTEMPTS, (double)s.tasks[JOB_UNCERTAIN]);
    for (int state = NODE_NONE + 1; state < NODE_STATES; state++)
        metric_set_label(M_NODES, node_state_name((enum node_state)state), (double)s.nodes[state]);
    metric_set(M_SCHEDULER_SHAPES, (double)s.shapes);
    metric_set(M_CPU_CAPACITY_CORES, (double)s.capacity.v[RES_CPU] / 1000);
    metric_set(M_CPU_ALLOCATED_CORES, (double)s.allocated.v[RES_CPU] / 1000);
    metric_set(M_MEMORY_CAPACITY_BYTES, (double)s.capacity.v[RES_MEM]);
    metric_set(M_MEMORY_ALLOCATED_BYTES, (double)s.allocated.v[RES_MEM]);
    metric_set(M_GPU_CAPACITY, (double)s.capacity.v[RES_GPU] / 1000);
    metric_set(M_GPU_ALLOCATED, (double)s.allocated.v[RES_GPU] / 1000);
    nodes_refresh(m);

    struct store_stats store = { 0 };
    m->store->ops->stats(m->store, &store);
    metric_set(M_STORE_BYTES, (double)store.bytes);
    metric_set(M_STORE_WAL_BYTES, (double)store.wal_bytes);
    struct bus_stats bus = { 0 };
    m->bus->ops->stats(m->bus, &bus);
    metric_set(M_BUS_UP, bus.up ? 1 : 0);
    struct http_server_stats http;
    http_server_stats(m->http, &http);
    metric_add(M_HTTP_REFUSED, (double)(http.refused - m->http_refused_seen));
    m->http_refused_seen = http.refused;
    metric_set(M_HTTP_CONNECTIONS, (double)http.connections);
    metric_set(M_SSE_CLIENTS, (double)m->feed.readers_count);
    metric_add(M_SSE_GAPS, (double)(m->feed.gaps - m->feed_gaps_seen));
    m->feed_gaps_seen = m->feed.gaps;
}
