/* master_metrics.c: what the master counts, and what it looks up when its metrics are read. */
#include <stdio.h>

#include "base/mem.h"
#include "master/master_int.h"
#include "obs/log.h"

/* What people read the log for: nodes that come and go. Jobs are many; each of their records is there with --log-level debug. */
static void log_record(const struct master *m, const struct record *r)
{
    if (r->kind == EV_NODE_STATE && r->node_state.state < NODE_STATES) {
        struct node_view v = { 0 };
        enum node_state state = (enum node_state)r->node_state.state;
        bool bad = state == NODE_SUSPECT || state == NODE_DOWN || state == NODE_QUARANTINED;
        sched_view_node(m->sched, (node_id){ r->node_state.node }, &v);
        log_write(bad ? LOG_WARN : LOG_INFO, "node is %s: node=%.*s state=%s reason=\"%.*s\"", node_state_name(state), (int)v.name.size,
                  v.name.data, node_state_name(state), (int)r->node_state.reason.size, r->node_state.reason.data);
        return;
    }
    if (!log_shows(LOG_DEBUG))
        return;
    autobuf struct buf text = BUF_INIT;
    record_print(&text, r);
    log_debug("%s", text.data);
}

void metrics_count(struct master *m, const struct gate_batch *batch)
{
    bool every = log_shows(LOG_DEBUG);
    for (size_t i = 0; i < batch->records_count; i++) {
        const struct record *r = &batch->records[i];
        if (every || r->kind == EV_NODE_STATE)
            log_record(m, r);
        if (r->kind == EV_ENDED)
            metric_observe(M_RUN_SECONDS, (double)r->ended.run_ms / 1000);
        else if (r->kind == EV_NODE_STATE && r->node_state.state < NODE_STATES)
            m->counts.node_changes[r->node_state.state]++;
        else if (r->kind == EV_SUBMITTED && r->submitted.cron.size)
            m->counts.cron_due[CRON_PASS_NEVER]++;
        else if (r->kind == EV_CRON_PASSED)
            m->counts.cron_due[r->cron_passed.passed_for] += r->cron_passed.count;
    }
}

/* --- starts, told by the brain --- */

static void queue_text(const struct master *m, uint32_t queue, char text[72])
{
    struct bytes name = sched_view_queue_name(m->sched, queue);
    snprintf(text, 72, "%.*s", (int)name.size, name.data);
}

static struct metric_series *waits_of(struct master *m, uint32_t queue)
{
    struct master_counts *c = &m->counts;
    if (queue >= c->waits_count) {
        size_t count = queue + 16u;
        struct metric_series **grown = mem_zero(count, sizeof *grown);
        if (c->waits_count)
            memcpy(grown, c->waits, c->waits_count * sizeof *grown);
        free(c->waits);
        c->waits = grown;
        c->waits_count = count;
    }
    if (!c->waits[queue]) {
        char text[72];
        queue_text(m, queue, text);
        c->waits[queue] = metric_series(M_QUEUE_WAIT_SECONDS, text);
    }
    return c->waits[queue];
}

void metrics_starts(struct master *m, const struct effects *fx)
{
    for (size_t i = 0; i < fx->starts_count; i++) {
        const struct start_note *note = &fx->starts[i];
        if (note->wait_ms >= 0)
            metric_observe_in(waits_of(m, note->queue), (double)note->wait_ms / 1000);
        if (note->dispatch_ms >= 0)
            metric_observe(M_DISPATCH_SECONDS, (double)note->dispatch_ms / 1000);
        if (note->estimate_error_ms >= 0)
            metric_observe(M_RUN_ESTIMATE_ERROR_SECONDS, (double)note->estimate_error_ms / 1000);
        if (note->start_error_ms >= 0)
            metric_observe(M_START_ESTIMATE_ERROR_SECONDS, (double)note->start_error_ms / 1000);
    }
}

/* --- when somebody reads --- */

static void jobs_refresh(const struct sched_stats *s)
{
    /* Shown before it happens: Prometheus sees no increase in a series that begins with its first event. */
    static const char *const refusals[] = { "invalid", "full", "busy", "no_space" };
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++)
        metric_add_label(M_JOBS_REJECTED, refusals[i], 0);
    for (int state = JOB_NONE + 1; state < JOB_STATES; state++) {
        const char *name = job_state_name((enum job_state)state);
        if (job_state_terminal((enum job_state)state))
            metric_total_label(M_JOBS_FINISHED, name, (double)s->ended[state]);
        else
            metric_set_label(M_JOBS, name, (double)s->tasks[state]);
    }
    metric_total(M_JOBS_SUBMITTED, (double)s->submitted);
    metric_total(M_ATTEMPTS_STARTED, (double)s->started);
    for (int reason = REASON_NONE + 1; reason < REASONS; reason++) {
        const char *name = reason_name((enum reason)reason);
        metric_total_label(M_JOBS_FAILED, name, (double)s->failed_for[reason]);
        metric_total_label(M_ATTEMPTS_RETRIED, name, (double)s->retried_for[reason]);
    }
}

static void queue_refresh(const struct master *m, uint32_t queue, const struct queue_view *v)
{
    char name[72];
    queue_text(m, queue, name);
    for (int state = JOB_NONE + 1; state < JOB_STATES; state++)
        if (v->tasks[state] && !job_state_terminal((enum job_state)state))
            metric_gather(M_QUEUE_JOBS, name, job_state_name((enum job_state)state), (double)v->tasks[state]);
    for (int why = WHY_NOTHING + 1; why < WHYS; why++)
        if (v->waiting[why])
            metric_gather(M_PENDING_JOBS, name, why_name((enum why)why), (double)v->waiting[why]);
    metric_gather_max(M_OLDEST_WAIT_SECONDS, name, (double)v->oldest_wait_ms / 1000);
}

static void queues_refresh(const struct master *m)
{
    size_t count = sched_view_queues(m->sched);
    struct queue_view *views = mem_zero(count ? count : 1, sizeof *views);
    sched_view_queue_counts(m->sched, views);
    metric_clear(M_QUEUE_JOBS);
    metric_clear(M_PENDING_JOBS);
    metric_clear(M_OLDEST_WAIT_SECONDS);
    for (size_t i = 0; i < count; i++)
        queue_refresh(m, (uint32_t)i, &views[i]);
    free(views);
}

static void nodes_refresh(struct master *m)
{
    double used_milli = 0, used_bytes = 0, gpu_milli = 0, gpu_bytes = 0, silent_ms = 0;
    size_t count = sched_view_nodes(m->sched);
    for (uint32_t id = 1; id <= count; id++) {
        struct node_view v;
        if (!sched_view_node(m->sched, (node_id){ id }, &v))
            continue;
        if (v.state == NODE_READY) {
            used_milli += (double)v.cpu_used_milli;
            used_bytes += (double)v.mem_used_bytes;
            const struct node_report *told = node_reports_of(m->reports, v.id);
            gpu_milli += told ? (double)told->gpu_used_milli : 0;
            gpu_bytes += told ? (double)told->gpu_mem_used_bytes : 0;
        }
        bool wanted = v.state != NODE_REMOVED && v.state != NODE_DRAINED;
        if (wanted && (double)v.heard_ago_ms > silent_ms)
            silent_ms = (double)v.heard_ago_ms;
    }
    metric_set(M_CPU_USED_CORES, used_milli / 1000);
    metric_set(M_MEMORY_USED_BYTES, used_bytes);
    metric_set(M_GPU_USED, gpu_milli / 1000);
    metric_set(M_GPU_MEMORY_USED_BYTES, gpu_bytes);
    metric_set(M_NODE_SILENT_SECONDS, silent_ms / 1000);
    for (int state = NODE_NONE + 1; state < NODE_STATES; state++)
        metric_total_label(M_NODE_CHANGES, node_state_name((enum node_state)state),
                           (double)m->counts.node_changes[state]);
}

static void sched_refresh(const struct sched_stats *s)
{
    for (int state = NODE_NONE + 1; state < NODE_STATES; state++)
        metric_set_label(M_NODES, node_state_name((enum node_state)state), (double)s->nodes[state]);
    metric_total(M_SCHEDULER_PLACEMENTS, (double)s->placements);
    metric_total(M_STALE_MESSAGES, (double)s->stale_messages);
    metric_set(M_SCHEDULER_SHAPES, (double)s->shapes);
    metric_set(M_SCHEDULER_MEMORY_BYTES, (double)s->memory_bytes);
    metric_set(M_CPU_CAPACITY_CORES, (double)s->capacity.v[RES_CPU] / 1000);
    metric_set(M_CPU_ALLOCATED_CORES, (double)s->allocated.v[RES_CPU] / 1000);
    metric_set(M_MEMORY_CAPACITY_BYTES, (double)s->capacity.v[RES_MEM]);
    metric_set(M_MEMORY_ALLOCATED_BYTES, (double)s->allocated.v[RES_MEM]);
    metric_set(M_GPU_CAPACITY, (double)s->capacity.v[RES_GPU] / 1000);
    metric_set(M_GPU_ALLOCATED, (double)s->allocated.v[RES_GPU] / 1000);
}

static void store_refresh(const struct master *m)
{
    struct store_stats store = { 0 };
    m->store->ops->stats(m->store, &store);
    metric_total(M_STORE_COMMITS, (double)store.commits);
    metric_total(M_STORE_RECORDS, (double)store.records);
    metric_total(M_STORE_ERRORS, (double)store.errors);
    metric_set(M_STORE_BYTES, (double)store.bytes);
    metric_set(M_STORE_WAL_BYTES, (double)store.wal_bytes);
    metric_set(M_DISK_FREE_BYTES, (double)store.free_bytes);
    metric_set(M_STORE_LOW, m->store_low || m->batch_full);
    metric_set(M_STORE_PENDING_RECORDS, (double)gate_pending(m->gate));
}

static void transport_refresh(const struct master *m)
{
    const struct master_counts *c = &m->counts;
    struct bus_stats bus = { 0 };
    m->bus->ops->stats(m->bus, &bus);
    metric_set(M_BUS_UP, bus.up);
    metric_total(M_BUS_RECONNECTS, (double)bus.reconnects);
    metric_total_label(M_BUS_MESSAGES, "in", (double)c->messages_in);
    metric_total_label(M_BUS_MESSAGES, "out", (double)c->messages_out);
    metric_total_label(M_BUS_BYTES, "in", (double)c->bytes_in);
    metric_total_label(M_BUS_BYTES, "out", (double)c->bytes_out);
    metric_total_label(M_BUS_DROPPED, "gone", (double)bus.dropped);
    metric_total_label(M_BUS_DROPPED, "refused", (double)bus.refused);
    metric_total(M_HEARTBEATS, (double)c->heartbeats);
}

static void http_refresh(const struct master *m)
{
    static const char *const classes[] = { "1xx", "2xx", "3xx", "4xx", "5xx" };
    struct http_server_stats http;
    http_server_stats(m->http, &http);
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        metric_total_label(M_HTTP_REQUESTS, classes[i], (double)m->counts.http_classes[i]);
    metric_total(M_HTTP_REFUSED, (double)http.refused);
    metric_set(M_HTTP_CONNECTIONS, (double)http.connections);
    metric_set(M_SSE_CLIENTS, (double)m->feed.readers_count);
    metric_total(M_SSE_GAPS, (double)m->feed.gaps);
}

/* --- where everybody's metrics are --- */

static void target_json(struct json_out *j, struct bytes target, const char *role, struct bytes node, const char *state)
{
    json_open(j, NULL, '{');
    json_open(j, "targets", '[');
    json_str(j, NULL, target);
    json_close(j, ']');
    json_open(j, "labels", '{');
    json_cstr(j, "__meta_rota_role", role);
    json_str(j, "__meta_rota_node", node);
    json_cstr(j, "__meta_rota_node_state", state);
    json_close(j, '}');
    json_close(j, '}');
}

/* A worker's own word: no more than an address, whatever it says. */
static bool is_address(struct bytes text)
{
    static const char may[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:[]_";
    for (size_t i = 0; i < text.size; i++)
        if (!text.data[i] || !strchr(may, text.data[i]))
            return false;
    return text.size > 0 && text.size < 128;
}

/* Prometheus keeps a node's target while the node is known, so that its silence is seen. */
void api_sd_prometheus(struct exchange *x)
{
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '[');
    const char *host = http_header(x->r, "Host"); /* the name by which whoever asks reaches this master */
    target_json(&j, bytes_str(host ? host : ""), "master", bytes_of("", 0), "");
    size_t count = sched_view_nodes(x->m->sched);
    for (uint32_t id = 1; id <= count; id++) {
        struct node_view v;
        if (sched_view_node(x->m->sched, (node_id){ id }, &v) && v.state != NODE_REMOVED && is_address(v.metrics))
            target_json(&j, v.metrics, "worker", v.name, node_state_name(v.state));
    }
    json_close(&j, ']');
    buf_char(&x->answer, '\n');
    exchange_reply_now(x, 200, "application/json");
}

static void crons_refresh(const struct master *m)
{
    size_t active = 0;
    for (size_t i = 0; i < sched_view_crons(m->sched); i++) {
        struct cron_view v;
        sched_view_cron(m->sched, i, &v);
        active += !v.settings.paused;
    }
    metric_set(M_CRON_ENTRIES, (double)active);
    metric_total_label(M_CRON_DUE, "submitted", (double)m->counts.cron_due[CRON_PASS_NEVER]);
    metric_total_label(M_CRON_DUE, "overlap", (double)m->counts.cron_due[CRON_PASS_OVERLAP]);
    metric_total_label(M_CRON_DUE, "missed", (double)m->counts.cron_due[CRON_PASS_MISSED]);
    metric_total_label(M_CRON_DUE, "refused", (double)m->counts.cron_due[CRON_PASS_REFUSED]);
}

void metrics_refresh(struct master *m)
{
    struct sched_stats s;
    sched_view_stats(m->sched, &s);
    jobs_refresh(&s);
    sched_refresh(&s);
    queues_refresh(m);
    nodes_refresh(m);
    store_refresh(m);
    transport_refresh(m);
    http_refresh(m);
    notify_metrics(m);
    crons_refresh(m);
}
