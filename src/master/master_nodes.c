#include <inttypes.h>
#include <stdio.h>

#include "base/parse.h"
#include "master/body.h"
#include "master/master_int.h"
#include "obs/metrics.h"

static void orphans_json(struct master *m, struct json_out *j, const struct node_view *v)
{
    static const char *const phases[] = { "unknown", "accepted", "running", "ended" };
    json_open(j, "orphans", '[');
    for (size_t i = 0; i < v->orphans; i++) {
        struct attempt_ref ref;
        enum attempt_phase phase;
        sched_view_orphan(m->sched, v->id, i, &ref, &phase);
        json_open(j, NULL, '{');
        json_u64(j, "job", ref.job.n);
        if (ref.task == TASK_SINGLE)
            json_null(j, "task");
        else
            json_u64(j, "task", ref.task);
        json_u64(j, "attempt", ref.attempt);
        json_cstr(j, "phase", phases[phase <= PHASE_ENDED ? phase : PHASE_NONE]);
        json_close(j, '}');
    }
    json_close(j, ']');
}

/* What its worker told of the machine. */
static void report_json(struct master *m, struct json_out *j, node_id id)
{
    static const char *const kinds[] = { [PRESSURE_CPU] = "cpu", [PRESSURE_MEMORY] = "memory", [PRESSURE_IO] = "io" };
    const struct node_report *r = node_reports_of(m->reports, id);
    if (!r) {
        json_null(j, "machine");
        return;
    }
    json_open(j, "machine", '{');
    json_cstr(j, "enforces", r->enforces);
    json_u64(j, "disk_bytes", r->disk_bytes);
    json_u64(j, "disk_free_bytes", r->disk_free_bytes);
    if (r->has_pressure) {
        json_open(j, "pressure_percent", '{');
        for (int i = 0; i < PRESSURES; i++)
            json_num(j, kinds[i], (double)r->pressure[i] / 100, 2);
        json_close(j, '}');
    } else {
        json_null(j, "pressure_percent");
    }
    if (r->gpus) {
        json_open(j, "gpus", '{');
        json_u64(j, "count", r->gpus);
        json_num(j, "used", (double)r->gpu_used_milli / 1000, 3);
        json_u64(j, "mem_used_bytes", r->gpu_mem_used_bytes);
        json_u64(j, "mem_bytes", r->gpu_mem_bytes);
        json_close(j, '}');
    } else {
        json_null(j, "gpus");
    }
    json_close(j, '}');
}

static void node_json(struct master *m, struct json_out *j, const struct node_view *v)
{
    json_open(j, NULL, '{');
    json_str(j, "name", v->name);
    json_u64(j, "id", v->id.n);
    json_cstr(j, "state", node_state_name(v->state));
    json_bytes(j, "reason", v->reason);
    json_str(j, "version", v->version);
    json_str(j, "labels", v->labels);
    json_open(j, "capacity", '{');
    resources_json(m, j, &v->capacity);
    json_close(j, '}');
    json_open(j, "allocated", '{');
    resources_json(m, j, &v->allocated);
    json_close(j, '}');
    if (v->session && v->state != NODE_DOWN && v->state != NODE_REMOVED) {
        json_open(j, "used", '{');
        json_num(j, "cpus", (double)v->cpu_used_milli / 1000, 3);
        json_u64(j, "mem_bytes", v->mem_used_bytes);
        json_num(j, "load", (double)v->load_milli / 1000, 2);
        json_close(j, '}');
    } else {
        json_null(j, "used"); /* What it told last is not how it is. */
    }
    json_u64(j, "running", v->running);
    json_u64(j, "waiting", v->waiting);
    if (v->heard_ago_ms < 0)
        json_null(j, "heard_ago_s");
    else
        json_num(j, "heard_ago_s", (double)v->heard_ago_ms / 1000, 3);
    if (v->renewed_ago_ms < 0)
        json_null(j, "lease_renewed_ago_s");
    else
        json_num(j, "lease_renewed_ago_s", (double)v->renewed_ago_ms / 1000, 3);
    json_bool(j, "connected", v->session != 0);
    report_json(m, j, v->id);
    orphans_json(m, j, v);
    json_close(j, '}');
}

static enum node_state node_state_of(const char *name)
{
    for (int state = NODE_NONE + 1; state < NODE_STATES; state++)
        if (strcmp(name, node_state_name((enum node_state)state)) == 0)
            return (enum node_state)state;
    return NODE_STATES;
}

void api_nodes_list(struct exchange *x)
{
    const char *text = http_query(x->r, "state");
    enum node_state only = text ? node_state_of(text) : NODE_NONE;
    if (only == NODE_STATES) {
        struct err err;
        err_field(&err, ERR_INVALID, "state",
                  "joining, ready, suspect, down, draining, drained, quarantined or removed",
                  "there is no state \"%.32s\"", text);
        exchange_error(x, &err);
        return;
    }
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    json_open(&j, "nodes", '[');
    size_t count = sched_view_nodes(x->m->sched);
    for (uint32_t id = 1; id <= count; id++) {
        struct node_view v;
        if (sched_view_node(x->m->sched, (node_id){ id }, &v) && (only == NODE_NONE || v.state == only))
            node_json(x->m, &j, &v);
    }
    json_close(&j, ']');
    json_close(&j, '}');
    exchange_json(x, 200);
}

static bool find_node(struct exchange *x, struct node_view *v)
{
    node_id id = sched_view_node_named(x->m->sched, bytes_str(x->arg));
    if (id.n && sched_view_node(x->m->sched, id, v))
        return true;
    struct err err;
    err_field(&err, ERR_NOT_FOUND, "name", "rota nodes shows the nodes there are", "there is no node \"%.64s\"",
              x->arg);
    exchange_error(x, &err);
    return false;
}

void api_node_show(struct exchange *x)
{
    struct node_view v;
    if (!find_node(x, &v))
        return;
    struct json_out j = json_out_to(&x->answer);
    node_json(x->m, &j, &v);
    exchange_json(x, 200);
}

static void change_node(struct exchange *x, enum sched_event_kind kind)
{
    struct body_field fields[] = { { .name = "reason", .type = BODY_TEXT, .max = 256 } };
    struct node_view v;
    struct err err;
    if (!find_node(x, &v))
        return;
    if (body_read(&x->m->turn, buf_bytes(&x->body), fields, 1, &err) < 0) {
        exchange_error(x, &err);
        return;
    }
    struct sched_event ev = { .kind = kind, .node = { v.id, fields[0].text } };
    struct sched_result result;
    node_id id = v.id;
    master_step(x->m, &ev, &result);
    if (result.err.code) {
        exchange_error(x, &result.err);
        return;
    }
    sched_view_node(x->m->sched, id, &v);
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    json_str(&j, "name", v.name);
    json_cstr(&j, "state", node_state_name(v.state));
    json_bool(&j, "changed", result.changed);
    json_close(&j, '}');
    exchange_json(x, 200);
}

void api_node_drain(struct exchange *x)
{
    change_node(x, SCHED_DRAIN);
}

void api_node_resume(struct exchange *x)
{
    change_node(x, SCHED_RESUME);
}

/* --- the whole --- */

static void state_counts_json(struct json_out *j, const char *key, const uint64_t counts[JOB_STATES])
{
    json_open(j, key, '{');
    for (int state = JOB_NONE + 1; state < JOB_STATES; state++)
        json_u64(j, job_state_name((enum job_state)state), counts[state]);
    json_close(j, '}');
}

static void shell_json(struct master *m, struct json_out *j)
{
    struct store_stats store = { 0 };
    m->store->ops->stats(m->store, &store);
    json_open(j, "store", '{');
    json_u64(j, "last_seq", m->committed_seq);
    json_u64(j, "commits", store.commits);
    json_u64(j, "records", store.records);
    json_u64(j, "bytes", store.bytes);
    json_u64(j, "wal_bytes", store.wal_bytes);
    json_num(j, "commit_s_last", (double)store.commit_ns_last / 1e9, 6);
    json_num(j, "commit_s_max", (double)store.commit_ns_max / 1e9, 6);
    json_u64(j, "errors", store.errors);
    json_bool(j, "low", m->store_low || store.low);
    json_u64(j, "free_bytes", store.free_bytes);
    json_close(j, '}');
    struct bus_stats bus = { 0 };
    m->bus->ops->stats(m->bus, &bus);
    json_open(j, "bus", '{');
    json_cstr(j, "kind", m->bus->ops->name);
    json_bool(j, "up", bus.up);
    json_u64(j, "sent", bus.sent);
    json_u64(j, "received", bus.received);
    json_u64(j, "dropped", bus.dropped);
    json_u64(j, "sent_bytes", bus.bytes_sent);
    json_u64(j, "received_bytes", bus.bytes_received);
    json_close(j, '}');
    struct http_server_stats http;
    http_server_stats(m->http, &http);
    json_open(j, "http", '{');
    json_u64(j, "requests", http.requests);
    json_u64(j, "refused", http.refused);
    json_u64(j, "connections", http.connections);
    json_u64(j, "event_streams", m->feed.readers_count);
    json_u64(j, "event_gaps", m->feed.gaps);
    json_close(j, '}');
}

void api_stats(struct exchange *x)
{
    struct master *m = x->m;
    struct sched_stats s;
    sched_view_stats(m->sched, &s);
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    json_cstr(&j, "version", ROTA_VERSION);
    json_u64(&j, "epoch", s.epoch);
    json_time(&j, "started_at", m->started_wall_ms);
    json_bool(&j, "ready", m->ready);
    json_u64(&j, "job_last", s.job_last.n);
    state_counts_json(&j, "jobs", s.jobs);
    state_counts_json(&j, "tasks", s.tasks);
    json_open(&j, "nodes", '{');
    for (int state = NODE_NONE + 1; state < NODE_STATES; state++)
        json_u64(&j, node_state_name((enum node_state)state), s.nodes[state]);
    json_close(&j, '}');
    json_open(&j, "totals", '{');
    json_u64(&j, "submitted", s.submitted);
    json_u64(&j, "started", s.started);
    json_u64(&j, "succeeded", s.succeeded);
    json_u64(&j, "failed", s.failed);
    json_u64(&j, "cancelled", s.cancelled);
    json_u64(&j, "retried", s.retried);
    json_close(&j, '}');
    json_open(&j, "scheduler", '{');
    json_u64(&j, "cycles", s.cycles);
    json_u64(&j, "placements", s.placements);
    json_u64(&j, "shapes", s.shapes);
    json_u64(&j, "stale_messages", s.stale_messages);
    json_u64(&j, "memory_bytes", s.memory_bytes);
    json_close(&j, '}');
    json_open(&j, "capacity", '{');
    resources_json(m, &j, &s.capacity);
    json_close(&j, '}');
    json_open(&j, "allocated", '{');
    resources_json(m, &j, &s.allocated);
    json_close(&j, '}');
    shell_json(m, &j);
    json_close(&j, '}');
    buf_char(&x->answer, '\n');
    exchange_reply_now(x, 200, "application/json");
}

void api_metrics(struct exchange *x)
{
    metrics_refresh(x->m);
    metrics_text(&x->answer);
    exchange_reply_now(x, 200, "text/plain; version=0.0.4; charset=utf-8");
}

void api_healthz(struct exchange *x)
{
    buf_str(&x->answer, "{\"status\":\"ok\"}\n");
    exchange_reply_now(x, 200, "application/json");
}

const char *master_store_word(const struct master *m)
{
    return m->batch_full ? "full" : m->store_low ? "low" : m->ready ? "ok" : "starting";
}

void api_readyz(struct exchange *x)
{
    struct master *m = x->m;
    struct bus_stats bus = { .up = true };
    m->bus->ops->stats(m->bus, &bus);
    bool ready = m->ready && !m->store_low && !m->batch_full && !m->stopping;
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    json_bool(&j, "ready", ready);
    json_cstr(&j, "store", master_store_word(m));
    json_cstr(&j, "transport", bus.up ? "up" : "down");
    json_bool(&j, "stopping", m->stopping);
    json_close(&j, '}');
    buf_char(&x->answer, '\n');
    exchange_reply_now(x, ready ? 200 : 503, "application/json");
}

void api_debug_state(struct exchange *x)
{
    struct master *m = x->m;
    buf_printf(&x->answer,
               "master version=%s epoch=%" PRIu64 " ready=%d committed_seq=%" PRIu64 " next_seq=%" PRIu64 "\n",
               ROTA_VERSION, m->epoch, m->ready, m->committed_seq, gate_next_seq(m->gate));
    buf_printf(&x->answer, "gate pending=%zu in_flight=%d full=%d low=%d\n", gate_pending(m->gate),
               gate_in_flight(m->gate), m->batch_full, m->store_low);
    buf_printf(&x->answer, "spec_cache bytes=%zu\nscans=%zu logs=%zu streams=%zu delayed=%zu\n\n",
               spec_cache_bytes(m->specs), m->scans_count, m->logs_count, m->feed.readers_count, m->delayed_count);
    sched_view_dump(m->sched, &x->answer);
    exchange_reply_now(x, 200, "text/plain; charset=utf-8");
}
