#include "wire/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/prng.h"
#include "core/model/where.h"
#include "core/model/record.h"
#include "messages.pb-c.h"

/* --- helpers --- */

static const struct wire_head head = {
    .cluster = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 },
    .epoch = 7,
    .session = 4097,
    .worker = { .high = 0xfedcba9876543210, .low = 5 },
    .incarnation = 3,
};

static struct attempt_ref ref(uint64_t job, uint32_t task, uint32_t attempt)
{
    return (struct attempt_ref){ { job }, task, attempt };
}

static struct mac128 mac(uint64_t n)
{
    return (struct mac128){ n * 0x9e3779b97f4a7c15, ~n };
}

static void expect_bytes(struct bytes a, struct bytes b)
{
    assert_int_equal(a.size, b.size);
    if (a.size)
        assert_memory_equal(a.data, b.data, a.size);
}

static void expect_ref(struct attempt_ref a, struct attempt_ref b)
{
    assert_true(attempt_equal(a, b));
}

static void expect_mac(struct mac128 a, struct mac128 b)
{
    assert_true(mac_equal(a, b));
}

static void expect_items(const struct inventory_item *a, size_t a_count, const struct inventory_item *b, size_t b_count)
{
    assert_int_equal(a_count, b_count);
    for (size_t i = 0; i < a_count; i++) {
        expect_ref(a[i].ref, b[i].ref);
        expect_mac(a[i].token, b[i].token);
        assert_int_equal(a[i].phase, b[i].phase);
    }
}

static void expect_named(const struct named_resource *a, size_t a_count, const struct named_resource *b, size_t b_count)
{
    assert_int_equal(a_count, b_count);
    for (size_t i = 0; i < a_count; i++) {
        assert_string_equal(a[i].name, b[i].name);
        assert_int_equal(a[i].count, b[i].count);
    }
}

static void expect_message(const struct message *a, const struct message *b)
{
    assert_int_equal(a->kind, b->kind);
    switch (a->kind) {
    case MSG_HELLO:
        assert_int_equal(a->hello.worker.high, b->hello.worker.high);
        assert_int_equal(a->hello.worker.low, b->hello.worker.low);
        assert_int_equal(a->hello.incarnation, b->hello.incarnation);
        expect_bytes(a->hello.name, b->hello.name);
        expect_bytes(a->hello.boot, b->hello.boot);
        expect_bytes(a->hello.version, b->hello.version);
        expect_bytes(a->hello.metrics, b->hello.metrics);
        expect_bytes(a->hello.labels, b->hello.labels);
        assert_true(resources_equal(&a->hello.capacity, &b->hello.capacity));
        expect_named(a->hello.named, a->hello.named_count, b->hello.named, b->hello.named_count);
        expect_items(a->hello.items, a->hello.items_count, b->hello.items, b->hello.items_count);
        assert_int_equal(a->hello.epoch_seen, b->hello.epoch_seen);
        assert_int_equal(a->hello.window, b->hello.window);
        assert_int_equal(a->hello.draining, b->hello.draining);
        assert_int_equal(a->hello.nonce, b->hello.nonce);
        assert_int_equal(a->hello.inventory_seq, b->hello.inventory_seq);
        assert_int_equal(a->hello.heartbeat_seq, b->hello.heartbeat_seq);
        return;
    case MSG_HEARTBEAT:
        assert_int_equal(a->heartbeat.seq, b->heartbeat.seq);
        assert_int_equal(a->heartbeat.sent_ms, b->heartbeat.sent_ms);
        assert_int_equal(a->heartbeat.digest, b->heartbeat.digest);
        assert_int_equal(a->heartbeat.count, b->heartbeat.count);
        assert_int_equal(a->heartbeat.cpu_used_milli, b->heartbeat.cpu_used_milli);
        assert_int_equal(a->heartbeat.mem_used_bytes, b->heartbeat.mem_used_bytes);
        assert_int_equal(a->heartbeat.load_milli, b->heartbeat.load_milli);
        return;
    case MSG_INVENTORY:
        assert_int_equal(a->inventory.seq, b->inventory.seq);
        assert_int_equal(a->inventory.epoch_seen, b->inventory.epoch_seen);
        expect_items(a->inventory.items, a->inventory.items_count, b->inventory.items, b->inventory.items_count);
        return;
    case MSG_STARTED:
        expect_ref(a->started.ref, b->started.ref);
        expect_mac(a->started.token, b->started.token);
        assert_int_equal(a->started.inventory_seq, b->started.inventory_seq);
        return;
    case MSG_FINISHED: {
        expect_ref(a->finished.ref, b->finished.ref);
        expect_mac(a->finished.token, b->finished.token);
        const struct attempt_result *x = &a->finished.result, *y = &b->finished.result;
        assert_int_equal(x->reason, y->reason);
        assert_int_equal(x->exit_code, y->exit_code);
        assert_int_equal(x->signal, y->signal);
        assert_int_equal(x->run_ms, y->run_ms);
        assert_int_equal(x->cpu_ms, y->cpu_ms);
        assert_int_equal(x->rss_max_bytes, y->rss_max_bytes);
        assert_int_equal(x->stdout_bytes, y->stdout_bytes);
        assert_int_equal(x->stderr_bytes, y->stderr_bytes);
        assert_int_equal(x->flags, y->flags);
        expect_bytes(a->finished.stdout_tail, b->finished.stdout_tail);
        expect_bytes(a->finished.stderr_tail, b->finished.stderr_tail);
        return;
    }
    case MSG_NEVER_STARTED:
        expect_ref(a->never_started.ref, b->never_started.ref);
        expect_mac(a->never_started.token, b->never_started.token);
        assert_int_equal(a->never_started.reason, b->never_started.reason);
        expect_bytes(a->never_started.text, b->never_started.text);
        return;
    case MSG_WELCOME:
        assert_int_equal(a->welcome.epoch, b->welcome.epoch);
        assert_int_equal(a->welcome.session, b->welcome.session);
        assert_int_equal(a->welcome.heartbeat_ms, b->welcome.heartbeat_ms);
        assert_int_equal(a->welcome.lease_ms, b->welcome.lease_ms);
        assert_int_equal(a->welcome.node, b->welcome.node);
        assert_int_equal(a->welcome.nonce, b->welcome.nonce);
        expect_bytes(a->welcome.lease_url, b->welcome.lease_url);
        assert_true(mac_equal(a->welcome.lease_token, b->welcome.lease_token));
        return;
    case MSG_HEARTBEAT_ACK:
        assert_int_equal(a->heartbeat_ack.seq, b->heartbeat_ack.seq);
        assert_int_equal(a->heartbeat_ack.sent_ms, b->heartbeat_ack.sent_ms);
        assert_int_equal(a->heartbeat_ack.want_inventory, b->heartbeat_ack.want_inventory);
        return;
    case MSG_START:
        expect_ref(a->start.ref, b->start.ref);
        expect_mac(a->start.token, b->start.token);
        assert_int_equal(a->start.index, b->start.index);
        assert_true(resources_equal(&a->start.need, &b->start.need));
        expect_named(a->start.named, a->start.named_count, b->start.named, b->start.named_count);
        assert_int_equal(a->start.time_limit_ms, b->start.time_limit_ms);
        assert_int_equal(a->start.grace_ms, b->start.grace_ms);
        assert_int_equal(a->start.start_ttl_ms, b->start.start_ttl_ms);
        assert_int_equal(a->start.overlap_never, b->start.overlap_never);
        assert_int_equal(a->start.heard_seq, b->start.heard_seq);
        expect_bytes(a->start.spec, b->start.spec);
        return;
    case MSG_KILL:
        expect_ref(a->kill.ref, b->kill.ref);
        expect_mac(a->kill.token, b->kill.token);
        assert_int_equal(a->kill.grace_ms, b->kill.grace_ms);
        return;
    case MSG_REVOKE:
        expect_ref(a->revoke.ref, b->revoke.ref);
        expect_mac(a->revoke.token, b->revoke.token);
        return;
    case MSG_REPORT_ACK:
        expect_ref(a->report_ack.ref, b->report_ack.ref);
        return;
    case MSG_DRAIN:
        assert_int_equal(a->drain.on, b->drain.on);
        return;
    case MSG_GO_AWAY:
        assert_int_equal(a->go_away.reason, b->go_away.reason);
        expect_bytes(a->go_away.text, b->go_away.text);
        return;
    case MSG_LOG_READ:
        expect_ref(a->log_read.ref, b->log_read.ref);
        assert_int_equal(a->log_read.request, b->log_read.request);
        assert_int_equal(a->log_read.stream, b->log_read.stream);
        assert_int_equal(a->log_read.offset, b->log_read.offset);
        assert_int_equal(a->log_read.bytes_max, b->log_read.bytes_max);
        assert_int_equal(a->log_read.wait_ms, b->log_read.wait_ms);
        return;
    case MSG_NODE_REPORT:
        expect_bytes(a->node_report.name, b->node_report.name);
        expect_bytes(a->node_report.enforces, b->node_report.enforces);
        assert_int_equal(a->node_report.disk_bytes, b->node_report.disk_bytes);
        assert_int_equal(a->node_report.disk_free_bytes, b->node_report.disk_free_bytes);
        assert_int_equal(a->node_report.has_pressure, b->node_report.has_pressure);
        assert_int_equal(a->node_report.gpus, b->node_report.gpus);
        assert_int_equal(a->node_report.gpu_used_milli, b->node_report.gpu_used_milli);
        assert_int_equal(a->node_report.gpu_mem_used_bytes, b->node_report.gpu_mem_used_bytes);
        assert_int_equal(a->node_report.gpu_mem_bytes, b->node_report.gpu_mem_bytes);
        assert_memory_equal(a->node_report.pressure, b->node_report.pressure, sizeof a->node_report.pressure);
        return;
    case MSG_NOTE:
        expect_ref(a->note.ref, b->note.ref);
        expect_bytes(a->note.text, b->note.text);
        break;
    case MSG_USAGE:
        expect_ref(a->usage.ref, b->usage.ref);
        expect_bytes(a->usage.series, b->usage.series);
        break;
    case MSG_LOG_CHUNK:
        expect_ref(a->log_chunk.ref, b->log_chunk.ref);
        assert_int_equal(a->log_chunk.request, b->log_chunk.request);
        assert_int_equal(a->log_chunk.stream, b->log_chunk.stream);
        assert_int_equal(a->log_chunk.offset, b->log_chunk.offset);
        expect_bytes(a->log_chunk.data, b->log_chunk.data);
        assert_int_equal(a->log_chunk.ended, b->log_chunk.ended);
        assert_int_equal(a->log_chunk.unknown, b->log_chunk.unknown);
        return;
    default:
        return;
    }
}

/* --- random messages: every field of every kind --- */

static uint64_t wide(struct prng *p)
{
    return prng_u64(p) >> prng_below(p, 64); /* all lengths of varint */
}

static struct bytes some_text(struct prng *p, struct arena *a, size_t max)
{
    size_t size = (size_t)prng_below(p, max + 1);
    char *text = arena_alloc(a, size + 1);
    for (size_t i = 0; i < size; i++)
        text[i] = (char)prng_u64(p);
    return bytes_of(text, size);
}

static struct attempt_ref some_ref(struct prng *p)
{
    uint64_t job = wide(p);
    uint32_t attempt = (uint32_t)wide(p);
    return ref(job ? job : 1, prng_chance(p, 0.3) ? TASK_SINGLE : (uint32_t)prng_below(p, ARRAY_TASKS_MAX),
               attempt ? attempt : 1);
}

static struct resources some_resources(struct prng *p)
{
    struct resources r = { 0 };
    for (size_t d = 0, dims = prng_below(p, RES_DIMS + 1); d < dims; d++)
        r.v[d] = wide(p) >> 11;
    return r;
}

static struct named_resource *some_named(struct prng *p, struct arena *a, size_t *count)
{
    *count = (size_t)prng_below(p, RES_NAMED_MAX + 1);
    struct named_resource *list = arena_alloc(a, *count * sizeof *list);
    for (size_t i = 0; i < *count; i++) {
        memset(&list[i], 0, sizeof list[i]);
        memset(list[i].name, 'a' + (int)i, 1 + (size_t)prng_below(p, RES_NAME_BYTES - 1));
        list[i].count = wide(p) >> 11;
    }
    return list;
}

static struct inventory_item *some_items(struct prng *p, struct arena *a, size_t max, size_t *count)
{
    *count = (size_t)prng_below(p, max + 1);
    struct inventory_item *list = arena_alloc(a, *count * sizeof *list);
    for (size_t i = 0; i < *count; i++)
        list[i] = (struct inventory_item){ some_ref(p), mac(wide(p)),
                                           (enum attempt_phase)prng_between(p, PHASE_ACCEPTED, PHASE_ENDED) };
    return list;
}

static enum reason some_reason(struct prng *p)
{
    return (enum reason)prng_below(p, REASONS);
}

static struct message some_message(struct prng *p, struct arena *a, enum message_kind kind)
{
    struct message m;
    memset(&m, 0, sizeof m);
    m.kind = kind;
    switch (kind) {
    case MSG_HELLO:
        m.hello.worker = (struct worker_id){ prng_u64(p), prng_u64(p) };
        m.hello.incarnation = wide(p);
        m.hello.name = bytes_str("node-1.example");
        m.hello.boot = some_text(p, a, 40);
        m.hello.version = some_text(p, a, 10);
        m.hello.metrics = some_text(p, a, 30);
        m.hello.labels = prng_chance(p, 0.5) ? bytes_str("zone=a,ssd") : bytes_of(NULL, 0);
        m.hello.capacity = some_resources(p);
        m.hello.named = some_named(p, a, &m.hello.named_count);
        m.hello.items = some_items(p, a, 50, &m.hello.items_count);
        m.hello.epoch_seen = wide(p);
        m.hello.window = 1 + (uint32_t)(wide(p) >> 33);
        m.hello.draining = prng_chance(p, 0.5);
        m.hello.nonce = wide(p);
        m.hello.inventory_seq = wide(p);
        m.hello.heartbeat_seq = wide(p);
        break;
    case MSG_HEARTBEAT:
        m.heartbeat.seq = wide(p);
        m.heartbeat.sent_ms = (int64_t)wide(p);
        m.heartbeat.digest = prng_u64(p);
        m.heartbeat.count = (uint32_t)wide(p);
        m.heartbeat.cpu_used_milli = wide(p) >> 11;
        m.heartbeat.mem_used_bytes = wide(p) >> 11;
        m.heartbeat.load_milli = (uint32_t)wide(p);
        break;
    case MSG_INVENTORY:
        m.inventory.items = some_items(p, a, 200, &m.inventory.items_count);
        m.inventory.seq = wide(p);
        m.inventory.epoch_seen = wide(p);
        break;
    case MSG_STARTED:
        m.started.ref = some_ref(p);
        m.started.token = mac(wide(p));
        m.started.inventory_seq = wide(p);
        break;
    case MSG_FINISHED:
        m.finished.ref = some_ref(p);
        m.finished.token = mac(wide(p));
        m.finished.result = (struct attempt_result){ some_reason(p),
                                                     (uint32_t)prng_below(p, 256),
                                                     (uint32_t)prng_below(p, 65),
                                                     (int64_t)(wide(p) >> 1),
                                                     wide(p),
                                                     wide(p),
                                                     wide(p),
                                                     wide(p),
                                                     (uint32_t)prng_below(p, 16) };
        m.finished.stdout_tail = some_text(p, a, prng_chance(p, 0.5) ? 0 : 300);
        m.finished.stderr_tail = some_text(p, a, prng_chance(p, 0.5) ? 0 : 300);
        break;
    case MSG_NEVER_STARTED:
        m.never_started.ref = some_ref(p);
        m.never_started.token = mac(wide(p));
        m.never_started.reason = some_reason(p);
        m.never_started.text = some_text(p, a, 100);
        break;
    case MSG_WELCOME:
        m.welcome.epoch = wide(p);
        m.welcome.session = wide(p);
        m.welcome.heartbeat_ms = prng_between(p, 1, INT64_MAX);
        m.welcome.lease_ms = prng_between(p, 1, 100000);
        m.welcome.node = (uint32_t)prng_below(p, NODES_MAX + 1);
        m.welcome.nonce = wide(p);
        m.welcome.lease_url = some_text(p, a, 200);
        m.welcome.lease_token = (struct mac128){ wide(p), wide(p) };
        break;
    case MSG_HEARTBEAT_ACK:
        m.heartbeat_ack.seq = wide(p);
        m.heartbeat_ack.sent_ms = (int64_t)prng_u64(p);
        m.heartbeat_ack.want_inventory = prng_chance(p, 0.5);
        break;
    case MSG_START:
        m.start.ref = some_ref(p);
        m.start.token = mac(wide(p));
        m.start.index = prng_chance(p, 0.3) ? TASK_SINGLE : (uint32_t)prng_below(p, UINT32_MAX - 1);
        m.start.need = some_resources(p);
        m.start.named = some_named(p, a, &m.start.named_count);
        m.start.time_limit_ms = (int64_t)(wide(p) >> 1);
        m.start.grace_ms = (int64_t)(wide(p) >> 1);
        m.start.start_ttl_ms = (int64_t)(wide(p) >> 1);
        m.start.overlap_never = prng_chance(p, 0.5);
        m.start.heard_seq = wide(p);
        m.start.spec = some_text(p, a, 500);
        break;
    case MSG_KILL:
        m.kill.ref = some_ref(p);
        m.kill.token = mac(wide(p));
        m.kill.grace_ms = (int64_t)(wide(p) >> 1);
        break;
    case MSG_REVOKE:
        m.revoke.ref = some_ref(p), m.revoke.token = mac(wide(p));
        break;
    case MSG_REPORT_ACK:
        m.report_ack.ref = some_ref(p);
        break;
    case MSG_DRAIN:
        m.drain.on = prng_chance(p, 0.5);
        break;
    case MSG_GO_AWAY:
        m.go_away.reason = some_reason(p), m.go_away.text = some_text(p, a, 100);
        break;
    case MSG_LOG_READ:
        m.log_read.request = wide(p);
        m.log_read.ref = some_ref(p);
        m.log_read.stream = (uint32_t)prng_below(p, 2);
        m.log_read.offset = wide(p);
        m.log_read.bytes_max = (uint32_t)wide(p);
        m.log_read.wait_ms = (int64_t)(wide(p) >> 1);
        break;
    case MSG_NODE_REPORT:
        m.node_report.name = some_text(p, a, 60);
        m.node_report.enforces = some_text(p, a, 600);
        m.node_report.disk_bytes = wide(p);
        m.node_report.disk_free_bytes = wide(p);
        m.node_report.gpus = (uint32_t)prng_below(p, 16);
        m.node_report.gpu_used_milli = wide(p);
        m.node_report.gpu_mem_used_bytes = wide(p);
        m.node_report.gpu_mem_bytes = wide(p);
        m.node_report.has_pressure = prng_chance(p, 0.5);
        for (int i = 0; i < PRESSURES; i++)
            m.node_report.pressure[i] = m.node_report.has_pressure ? (uint32_t)prng_below(p, 10001) : 0;
        break;
    case MSG_NOTE:
        m.note.ref = some_ref(p);
        m.note.text = some_text(p, a, 200);
        break;
    case MSG_USAGE:
        m.usage.ref = some_ref(p);
        m.usage.series = some_text(p, a, USAGE_BYTES_MAX);
        break;
    case MSG_LOG_CHUNK:
        m.log_chunk.request = wide(p);
        m.log_chunk.ref = some_ref(p);
        m.log_chunk.stream = (uint32_t)prng_below(p, 2);
        m.log_chunk.offset = wide(p);
        m.log_chunk.data = some_text(p, a, 2000);
        m.log_chunk.ended = prng_chance(p, 0.5);
        m.log_chunk.unknown = prng_chance(p, 0.5);
        break;
    default:
        break;
    }
    return m;
}

static void expect_round_trip(struct wire_writer *w, struct arena *a, const struct message *messages, size_t count)
{
    wire_begin(w, &head);
    for (size_t i = 0; i < count; i++)
        assert_true(wire_add(w, &messages[i]));
    assert_int_equal(wire_count(w), count);
    struct bytes body = wire_end(w);
    struct wire_batch batch = { .count = 99 };
    struct err err = { 0 };
    if (wire_decode(a, body, &batch, &err) < 0)
        fail_msg("%s", err.text);
    assert_memory_equal(&batch.head.cluster, head.cluster, sizeof head.cluster);
    assert_int_equal(batch.head.epoch, head.epoch);
    assert_int_equal(batch.head.session, head.session);
    assert_int_equal(batch.head.worker.high, head.worker.high);
    assert_int_equal(batch.head.worker.low, head.worker.low);
    assert_int_equal(batch.head.incarnation, head.incarnation);
    assert_int_equal(batch.skipped, 0);
    assert_int_equal(batch.count, count);
    for (size_t i = 0; i < count; i++)
        expect_message(&batch.messages[i], &messages[i]);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct wire_writer *w = wire_writer_new();
    struct arena a = ARENA_INIT;
    struct prng p;
    prng_seed(&p, 20261123);
    expect_round_trip(w, &a, NULL, 0);
    for (int kind = MSG_NONE + 1; kind < MSG_KINDS; kind++) {
        struct message m = some_message(&p, &a, (enum message_kind)kind);
        expect_round_trip(w, &a, &m, 1);
    }
    for (int round = 0; round < 300; round++) {
        struct message messages[60];
        size_t count = (size_t)prng_below(&p, 61);
        for (size_t i = 0; i < count; i++)
            messages[i] = some_message(&p, &a, (enum message_kind)prng_between(&p, MSG_NONE + 1, MSG_KINDS - 1));
        expect_round_trip(w, &a, messages, count);
        arena_reset(&a);
    }
    arena_fini(&a);
    wire_writer_free(w);
    wire_writer_free(NULL);
}

/* --- sharing --- */

static struct message start_of(uint64_t job, uint32_t task, struct bytes spec)
{
    struct message m = { .kind = MSG_START };
    m.start.ref = ref(job, task, 1);
    m.start.token = mac(job + task);
    m.start.index = task;
    m.start.need.v[RES_CPU] = 1000;
    m.start.spec = spec;
    return m;
}

static void test_spec_is_written_once(void **state)
{
    (void)state;
    struct wire_writer *w = wire_writer_new();
    struct arena a = ARENA_INIT;
    enum { TASKS = 1000, SPECS = 5 };
    static char specs[SPECS][3000];
    struct message messages[TASKS];
    for (size_t i = 0; i < SPECS; i++)
        memset(specs[i], 'a' + (int)i, sizeof specs[i]);
    for (uint32_t i = 0; i < TASKS; i++)
        messages[i] = start_of(1 + i % SPECS, i, bytes_of(specs[i % SPECS], sizeof *specs));
    expect_round_trip(w, &a, messages, TASKS);
    wire_begin(w, &head);
    for (uint32_t i = 0; i < TASKS; i++) {
        /* The same bytes at another place are the same spec. */
        messages[i].start.spec.data = arena_copy(&a, specs[i % SPECS], sizeof *specs);
        assert_true(wire_add(w, &messages[i]));
    }
    assert_true(wire_end(w).size < SPECS * sizeof *specs + TASKS * 30);
    /* The next batch knows nothing of the one before. */
    expect_round_trip(w, &a, messages, 3);
    arena_fini(&a);
    wire_writer_free(w);
}

/* --- limits --- */

static void test_full_batch(void **state)
{
    (void)state;
    struct wire_writer *w = wire_writer_new();
    struct arena a = ARENA_INIT;
    struct wire_batch batch;
    struct message started = { .kind = MSG_STARTED };
    started.started.ref = ref(UINT64_MAX, 5, UINT32_MAX);
    started.started.token = mac(1);
    wire_begin(w, &head);
    size_t added = 0;
    while (wire_add(w, &started))
        added++;
    assert_int_equal(added, wire_count(w));
    assert_int_equal(added, WIRE_MESSAGES_MAX);
    struct bytes body = wire_end(w);
    assert_true(body.size <= WIRE_BATCH_MAX);
    assert_int_equal(wire_decode(&a, body, &batch, NULL), 0);
    assert_int_equal(batch.count, added);

    char *tail = mem_zero(1, ATTEMPT_TAIL_BYTES);
    struct message finished = { .kind = MSG_FINISHED };
    finished.finished.ref = ref(1, TASK_SINGLE, 1);
    finished.finished.stdout_tail = finished.finished.stderr_tail = bytes_of(tail, ATTEMPT_TAIL_BYTES);
    wire_begin(w, &head);
    for (added = 0; wire_add(w, &finished); added++)
        ;
    assert_in_range(added, 31, 32);
    body = wire_end(w);
    assert_true(body.size <= WIRE_BATCH_MAX);
    assert_int_equal(wire_decode(&a, body, &batch, NULL), 0);
    assert_int_equal(batch.count, added);
    assert_int_equal(batch.messages[added - 1].finished.stderr_tail.size, ATTEMPT_TAIL_BYTES);
    free(tail);
    arena_fini(&a);
    wire_writer_free(w);
}

static void test_largest_of_each(void **state)
{
    (void)state;
    struct wire_writer *w = wire_writer_new();
    struct arena a = ARENA_INIT;
    struct inventory_item *items = mem_alloc(INVENTORY_MAX * sizeof *items);
    for (size_t i = 0; i < INVENTORY_MAX; i++)
        items[i] = (struct inventory_item){ ref(UINT64_MAX - i, ARRAY_TASKS_MAX - 1, UINT32_MAX), mac(i), PHASE_ENDED };
    struct message hello = { .kind = MSG_HELLO };
    hello.hello.name = bytes_str("n");
    hello.hello.window = 1;
    hello.hello.items = items;
    hello.hello.items_count = INVENTORY_MAX;
    expect_round_trip(w, &a, &hello, 1);
    struct message inventory = { .kind = MSG_INVENTORY };
    inventory.inventory.items = items;
    inventory.inventory.items_count = INVENTORY_MAX;
    expect_round_trip(w, &a, &inventory, 1);
    char *data = mem_zero(1, WIRE_LOG_MAX);
    struct message chunk = { .kind = MSG_LOG_CHUNK };
    chunk.log_chunk.ref = ref(1, 1, 1);
    chunk.log_chunk.data = bytes_of(data, WIRE_LOG_MAX);
    expect_round_trip(w, &a, &chunk, 1);
    struct message start = start_of(1, TASK_SINGLE, bytes_of(data, RECORD_SPEC_MAX));
    expect_round_trip(w, &a, &start, 1);
    /* Text that is too long is cut, not refused. */
    struct message go_away = { .kind = MSG_GO_AWAY };
    go_away.go_away.text = bytes_of(data, WIRE_TEXT_MAX + 500);
    struct wire_batch batch;
    wire_begin(w, &head);
    assert_true(wire_add(w, &go_away));
    assert_int_equal(wire_decode(&a, wire_end(w), &batch, NULL), 0);
    assert_int_equal(batch.messages[0].go_away.text.size, WIRE_TEXT_MAX);
    free(data);
    free(items);
    arena_fini(&a);
    wire_writer_free(w);
}

static void test_smallest_fit_into_the_memory(void **state)
{
    (void)state;
    struct wire_writer *w = wire_writer_new();
    struct arena a = ARENA_INIT;
    static const enum message_kind kinds[] = { MSG_GOODBYE,       MSG_HEARTBEAT, MSG_HEARTBEAT_ACK, MSG_DRAIN,
                                               MSG_WELCOME,       MSG_FINISHED,  MSG_START,         MSG_REPORT_ACK,
                                               MSG_NEVER_STARTED, MSG_INVENTORY, MSG_GO_AWAY,       MSG_LOG_READ,
                                               MSG_LOG_CHUNK,     MSG_USAGE,     MSG_NOTE };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        struct message m;
        struct wire_batch batch;
        memset(&m, 0, sizeof m);
        m.kind = kinds[k];
        if (m.kind == MSG_WELCOME)
            m.welcome.heartbeat_ms = m.welcome.lease_ms = 1;
        else if (m.kind == MSG_FINISHED)
            m.finished.ref = ref(1, TASK_SINGLE, 1);
        else if (m.kind == MSG_START)
            m.start.ref = ref(1, TASK_SINGLE, 1);
        else if (m.kind == MSG_REPORT_ACK)
            m.report_ack.ref = ref(1, TASK_SINGLE, 1);
        else if (m.kind == MSG_NEVER_STARTED)
            m.never_started.ref = ref(1, TASK_SINGLE, 1);
        else if (m.kind == MSG_LOG_READ)
            m.log_read.ref = ref(1, TASK_SINGLE, 1);
        else if (m.kind == MSG_LOG_CHUNK)
            m.log_chunk.ref = ref(1, TASK_SINGLE, 1);
        else if (m.kind == MSG_USAGE)
            m.usage.ref = ref(1, TASK_SINGLE, 1);
        else if (m.kind == MSG_NOTE)
            m.note.ref = ref(1, TASK_SINGLE, 1);
        wire_begin(w, &head);
        size_t added = 0;
        while (wire_add(w, &m))
            added++;
        assert_true(added > 30000);
        struct err err = { 0 };
        if (wire_decode(&a, wire_end(w), &batch, &err) < 0)
            fail_msg("%s: %s", message_name(m.kind), err.text);
        assert_int_equal(batch.count, added);
        arena_reset(&a);
    }
    arena_fini(&a);
    wire_writer_free(w);
}

static void test_largest_numbers_fit_into_the_batch(void **state)
{
    /* When the batch is full is decided by what things can take at most: wire_end checks that it was not too little. */
    (void)state;
    struct wire_writer *w = wire_writer_new();
    struct arena a = ARENA_INIT;
    char text[WIRE_TEXT_MAX], labels[LABELS_MAX];
    memset(text, 'x', sizeof text);
    memset(labels, 'x', sizeof labels);
    for (int kind = MSG_NONE + 1; kind < MSG_KINDS; kind++) {
        struct message m;
        struct wire_batch batch;
        memset(&m, 0xff, sizeof m);
        m.kind = (enum message_kind)kind;
        struct bytes empty = { "", 0 };
        switch (m.kind) {
        case MSG_HELLO:
            m.hello.name = bytes_of(text, 63);
            m.hello.boot = m.hello.version = m.hello.metrics = bytes_of(text, sizeof text);
            m.hello.labels = bytes_of(labels, sizeof labels);
            for (int d = 0; d < RES_DIMS; d++)
                m.hello.capacity.v[d] = 1ull << 53;
            m.hello.named_count = m.hello.items_count = 0;
            m.hello.draining = true;
            break;
        case MSG_INVENTORY:
            m.inventory.items_count = 0;
            break;
        case MSG_HEARTBEAT:
            m.heartbeat.cpu_used_milli = m.heartbeat.mem_used_bytes = 1ull << 53;
            break;
        case MSG_FINISHED:
            m.finished.ref.task = TASK_SINGLE;
            m.finished.result.reason = REASONS - 1;
            m.finished.result.exit_code = m.finished.result.signal = 255;
            m.finished.result.run_ms = INT64_MAX;
            m.finished.stdout_tail = m.finished.stderr_tail = empty;
            break;
        case MSG_NEVER_STARTED:
            m.never_started.reason = REASONS - 1, m.never_started.text = bytes_of(text, sizeof text);
            break;
        case MSG_GO_AWAY:
            m.go_away.reason = REASONS - 1, m.go_away.text = bytes_of(text, sizeof text);
            break;
        case MSG_WELCOME:
            m.welcome.heartbeat_ms = m.welcome.lease_ms = INT64_MAX, m.welcome.node = NODES_MAX;
            m.welcome.lease_url = bytes_of(text, sizeof text);
            m.welcome.lease_token = (struct mac128){ UINT64_MAX, UINT64_MAX };
            break;
        case MSG_HEARTBEAT_ACK:
            m.heartbeat_ack.want_inventory = true;
            break;
        case MSG_START:
            for (int d = 0; d < RES_DIMS; d++)
                m.start.need.v[d] = 1ull << 53;
            m.start.index = UINT32_MAX - 1;
            m.start.time_limit_ms = m.start.grace_ms = m.start.start_ttl_ms = INT64_MAX;
            m.start.overlap_never = true;
            m.start.named_count = 0;
            break;
        case MSG_KILL:
            m.kill.grace_ms = INT64_MAX;
            break;
        case MSG_DRAIN:
            m.drain.on = true;
            break;
        case MSG_LOG_READ:
            m.log_read.stream = 1, m.log_read.wait_ms = INT64_MAX;
            break;
        case MSG_NODE_REPORT:
            m.node_report.name = m.node_report.enforces = empty, m.node_report.has_pressure = true;
            break;
        case MSG_NOTE:
            m.note.text = bytes_of(text, sizeof text);
            break;
        case MSG_USAGE:
            m.usage.series = empty;
            break;
        case MSG_LOG_CHUNK:
            m.log_chunk.stream = 1, m.log_chunk.data = empty, m.log_chunk.ended = m.log_chunk.unknown = true;
            break;
        default:
            break;
        }
        wire_begin(w, &head);
        uint64_t n = 0;
        do {
            if (m.kind == MSG_START) { /* none like the one before */
                m.start.heard_seq = UINT64_MAX - n++;
                m.start.spec = bytes_of(arena_copy(&a, &m.start.heard_seq, 8), 8);
            }
        } while (wire_add(w, &m));
        size_t count = wire_count(w);
        struct err err = { 0 };
        if (wire_decode(&a, wire_end(w), &batch, &err) < 0)
            fail_msg("%s: %s", message_name(m.kind), err.text);
        assert_int_equal(batch.count, count);
        arena_reset(&a);
    }
    arena_fini(&a);
    wire_writer_free(w);
}

/* --- bytes of others --- */

struct forged {
    Rota__Batch batch;
    uint32_t kind[4], task[4], attempt[4], reason[4];
    uint64_t job[4], token[8], inventory_seq[4];
    uint8_t cluster[16];
};

/* Two STARTED as another program may write them. */
static void forge(struct forged *f)
{
    *f = (struct forged){ .kind = { MSG_STARTED, MSG_STARTED },
                          .job = { 7, 8 },
                          .task = { 0, 3 },
                          .attempt = { 1, 2 },
                          .token = { 1, 2, 3, 4 } };
    rota__batch__init(&f->batch);
    f->batch.cluster = (ProtobufCBinaryData){ sizeof f->cluster, f->cluster };
    f->batch.kind = f->kind, f->batch.n_kind = 2;
    f->batch.job = f->job, f->batch.n_job = 2;
    f->batch.task = f->task, f->batch.n_task = 2;
    f->batch.attempt = f->attempt, f->batch.n_attempt = 2;
    f->batch.token = f->token, f->batch.n_token = 4;
    f->batch.started_inventory_seq = f->inventory_seq, f->batch.n_started_inventory_seq = 2;
}

/* Results of two that ended well. */
static void finished_all(Rota__Finished *out)
{
    static uint32_t zeros[2];
    static uint64_t wide_zeros[2];
    static int64_t durations[2];
    rota__finished__init(out);
    out->reason = out->exit_code = out->signal = out->flags = zeros;
    out->n_reason = out->n_exit_code = out->n_signal = out->n_flags = 2;
    out->run_ms = durations;
    out->cpu_ms = out->rss_max_bytes = out->stdout_bytes = out->stderr_bytes = wide_zeros;
    out->n_run_ms = out->n_cpu_ms = out->n_rss_max_bytes = out->n_stdout_bytes = out->n_stderr_bytes = 2;
}

static int decode_more(const Rota__Batch *batch, struct arena *a, struct bytes more, struct wire_batch *out)
{
    size_t size = rota__batch__get_packed_size(batch);
    char *body = mem_alloc(size + more.size);
    rota__batch__pack(batch, (uint8_t *)body);
    if (more.size)
        memcpy(body + size, more.data, more.size);
    struct err err = { 0 };
    int rc = wire_decode(a, bytes_of(body, size + more.size), out, &err);
    assert_int_equal(rc, -(int)err.code);
    free(body); /* What was decoded does not borrow from it. */
    return rc;
}

static int decode(const struct forged *f, struct arena *a, struct wire_batch *out)
{
    return decode_more(&f->batch, a, bytes_of("", 0), out);
}

static void test_unknown_things_are_skipped(void **state)
{
    (void)state;
    struct arena a = ARENA_INIT;
    struct wire_batch out;
    struct forged f;
    forge(&f);
    assert_int_equal(decode(&f, &a, &out), 0);
    assert_int_equal(out.count, 2);
    assert_int_equal(out.messages[0].started.ref.task, TASK_SINGLE);
    assert_int_equal(out.messages[1].started.ref.task, 2);
    expect_mac(out.messages[1].started.token, (struct mac128){ 3, 4 });

    /* A kind of a newer version, between two that are known; it may be about no job. */
    f.kind[0] = MSG_STARTED, f.kind[1] = MSG_KINDS + 5, f.kind[2] = MSG_STARTED;
    f.job[1] = 0, f.job[2] = 8, f.attempt[2] = 2;
    f.batch.n_kind = f.batch.n_job = f.batch.n_task = f.batch.n_attempt = 3;
    /* Its content is in a field that is not known: number 100, bytes. */
    assert_int_equal(decode_more(&f.batch, &a, bytes_of("\xa2\x06\x03new", 6), &out), 0);
    assert_int_equal(out.count, 2);
    assert_int_equal(out.skipped, 1);
    assert_int_equal(out.messages[1].started.ref.job.n, 8);

    /* A reason of a newer version costs only its message. */
    forge(&f);
    Rota__Finished finished;
    finished_all(&finished);
    f.kind[0] = f.kind[1] = MSG_FINISHED;
    f.batch.n_started_inventory_seq = 0;
    f.reason[0] = REASONS, f.reason[1] = REASON_OOM;
    finished.reason = f.reason;
    f.batch.finished = &finished;
    assert_int_equal(decode(&f, &a, &out), 0);
    assert_int_equal(out.count, 1);
    assert_int_equal(out.skipped, 1);
    assert_int_equal(out.messages[0].finished.ref.job.n, 8);
    assert_int_equal(out.messages[0].finished.result.reason, REASON_OOM);
    arena_fini(&a);
}

static void test_corrupt(void **state)
{
    (void)state;
    struct arena a = ARENA_INIT;
    struct wire_batch out = { .count = 77 };
    struct forged f;
#define EXPECT_CORRUPT(...)                                                                                            \
    do {                                                                                                               \
        forge(&f);                                                                                                     \
        __VA_ARGS__;                                                                                                   \
        assert_int_equal(decode(&f, &a, &out), -ERR_CORRUPT);                                                          \
    } while (0)
    EXPECT_CORRUPT(f.batch.cluster.len = 15);
    EXPECT_CORRUPT(f.batch.cluster.len = 0);
    EXPECT_CORRUPT(f.kind[1] = MSG_NONE);
    EXPECT_CORRUPT(f.job[1] = 0);
    EXPECT_CORRUPT(f.attempt[0] = 0);
    EXPECT_CORRUPT(f.batch.n_attempt = 0);
    EXPECT_CORRUPT(f.batch.n_task = 0);
    EXPECT_CORRUPT(f.task[0] = ARRAY_TASKS_MAX + 1);
    EXPECT_CORRUPT(f.task[0] = UINT32_MAX);
    EXPECT_CORRUPT(f.batch.n_job = 1);
    EXPECT_CORRUPT(f.batch.n_job = 3);
    EXPECT_CORRUPT(f.batch.n_token = 3);
    EXPECT_CORRUPT(f.batch.n_token = 6);
    EXPECT_CORRUPT(f.batch.n_token = 0);
    EXPECT_CORRUPT(f.batch.n_started_inventory_seq = 1);
    EXPECT_CORRUPT(f.batch.n_started_inventory_seq = 0);
#define FIRST(of) (f.kind[0] = (of), f.batch.n_started_inventory_seq = 1)
    EXPECT_CORRUPT(FIRST(MSG_START));
    EXPECT_CORRUPT(FIRST(MSG_FINISHED));
    EXPECT_CORRUPT(FIRST(MSG_HELLO); f.batch.n_token = 2);
    EXPECT_CORRUPT(FIRST(MSG_NEVER_STARTED));
    int64_t grace[2] = { 5, 5 };
    forge(&f);
    FIRST(MSG_KILL);
    f.batch.kill_grace_ms = grace, f.batch.n_kill_grace_ms = 1;
    assert_int_equal(decode(&f, &a, &out), 0);
    assert_int_equal(out.messages[0].kill.grace_ms, 5);
    EXPECT_CORRUPT(FIRST(MSG_KILL); f.batch.kill_grace_ms = grace; f.batch.n_kill_grace_ms = 2);
    EXPECT_CORRUPT(FIRST(MSG_KILL));
    grace[0] = -1;
    EXPECT_CORRUPT(FIRST(MSG_KILL); f.batch.kill_grace_ms = grace; f.batch.n_kill_grace_ms = 1);

    Rota__Hello hello = ROTA__HELLO__INIT, *hellos[1] = { &hello };
    Rota__Inventory inventory = ROTA__INVENTORY__INIT;
    Rota__NamedResource named = ROTA__NAMED_RESOURCE__INIT,
                        *nameds[8] = { &named, &named, &named, &named, &named, &named, &named, &named };
    uint64_t amounts[9] = { 1, 1, 1, 1, 1, 1, 1, 1, 1 };
    uint64_t jobs[1] = { 1 }, tokens[2] = { 1, 2 };
    uint32_t ones[1] = { 1 };
#define HELLO                                                                                                          \
    (f.kind[0] = MSG_HELLO, f.batch.n_token = 2, f.batch.n_started_inventory_seq = 1, f.batch.hello = hellos,          \
     f.batch.n_hello = 1, hello = (Rota__Hello)ROTA__HELLO__INIT,                                                      \
     hello.name = (ProtobufCBinaryData){ 3, (uint8_t *)(uintptr_t) "n-1" }, hello.window = 1)
    forge(&f);
    HELLO;
    assert_int_equal(decode(&f, &a, &out), 0);
    assert_int_equal(out.count, 2);
    EXPECT_CORRUPT(HELLO; hello.window = 0);
    EXPECT_CORRUPT(HELLO; hello.name.len = 0);
    EXPECT_CORRUPT(HELLO; hello.name.data = (uint8_t *)(uintptr_t) "n/1");
    EXPECT_CORRUPT(HELLO; hello.name.data = (uint8_t *)(uintptr_t) "N-1");
    uint8_t *long_text = mem_zero(1, WIRE_TEXT_MAX + 1);
    memset(long_text, 'a', WIRE_TEXT_MAX + 1);
    EXPECT_CORRUPT(HELLO; hello.name = (ProtobufCBinaryData){ 64, long_text });
    EXPECT_CORRUPT(HELLO; hello.boot = (ProtobufCBinaryData){ WIRE_TEXT_MAX + 1, long_text });
    EXPECT_CORRUPT(HELLO; hello.labels = (ProtobufCBinaryData){ 3, (uint8_t *)"a b" });
    EXPECT_CORRUPT(HELLO; hello.metrics = (ProtobufCBinaryData){ WIRE_TEXT_MAX + 1, long_text });
    EXPECT_CORRUPT(HELLO; hello.capacity = amounts; hello.n_capacity = 9);
    EXPECT_CORRUPT(HELLO; amounts[0] = (1ull << 53) + 1; hello.capacity = amounts; hello.n_capacity = 1);
    EXPECT_CORRUPT(HELLO; hello.named = nameds; hello.n_named = 1);
    named.name = (ProtobufCBinaryData){ 3, (uint8_t *)(uintptr_t) "gpu" };
    EXPECT_CORRUPT(HELLO; hello.named = nameds; hello.n_named = RES_NAMED_MAX + 1);
    named.name = (ProtobufCBinaryData){ RES_NAME_BYTES, long_text };
    EXPECT_CORRUPT(HELLO; hello.named = nameds; hello.n_named = 1);
    named.name = (ProtobufCBinaryData){ 3, (uint8_t *)(uintptr_t) "a\0b" };
    EXPECT_CORRUPT(HELLO; hello.named = nameds; hello.n_named = 1);
    inventory.job = jobs, inventory.n_job = 1;
    EXPECT_CORRUPT(HELLO; hello.inventory = &inventory);
    uint32_t no_tasks[1] = { 0 };
    inventory.task = no_tasks, inventory.n_task = 1;
    inventory.attempt = inventory.phase = ones, inventory.n_attempt = inventory.n_phase = 1;
    inventory.token = tokens, inventory.n_token = 2;
    forge(&f);
    HELLO;
    hello.inventory = &inventory;
    assert_int_equal(decode(&f, &a, &out), 0);
    assert_int_equal(out.messages[0].hello.items_count, 1);
    ones[0] = 0;
    EXPECT_CORRUPT(HELLO; hello.inventory = &inventory);
    ones[0] = PHASE_ENDED + 1; /* of a newer version */
    forge(&f);
    HELLO;
    hello.inventory = &inventory;
    assert_int_equal(decode(&f, &a, &out), 0);
    assert_int_equal(out.skipped, 1);
    free(long_text);
    arena_fini(&a);
}

static void test_corrupt_results_and_starts(void **state)
{
    (void)state;
    struct arena a = ARENA_INIT;
    struct wire_batch out = { .count = 77 };
    struct forged f;
    Rota__Finished finished;
    Rota__Tail tail = ROTA__TAIL__INIT, *tails[2] = { &tail, &tail };
    uint32_t numbers[2] = { 256, 0 };
    int64_t negative[2] = { -1, 0 };
    uint8_t *data = mem_zero(1, RECORD_SPEC_MAX + 1);
#define FINISHED                                                                                                       \
    (f.kind[0] = f.kind[1] = MSG_FINISHED, f.batch.n_started_inventory_seq = 0, finished_all(&finished),               \
     f.batch.finished = &finished)
    forge(&f);
    FINISHED;
    assert_int_equal(decode(&f, &a, &out), 0);
    EXPECT_CORRUPT(FINISHED; finished.n_reason = 0); /* a success must not come about by leaving something out */
    EXPECT_CORRUPT(FINISHED; finished.n_exit_code = 1);
    EXPECT_CORRUPT(FINISHED; finished.exit_code = numbers; finished.n_exit_code = 2);
    EXPECT_CORRUPT(FINISHED; finished.signal = numbers; finished.n_signal = 2);
    EXPECT_CORRUPT(FINISHED; finished.run_ms = negative; finished.n_run_ms = 2);
    EXPECT_CORRUPT(FINISHED; finished.flags = numbers; finished.n_flags = 1);
    EXPECT_CORRUPT(FINISHED; finished.tails = tails; finished.n_tails = 2);
    EXPECT_CORRUPT(FINISHED; finished.tails = tails; finished.n_tails = 1; tail.at = 2);
    EXPECT_CORRUPT(FINISHED; finished.tails = tails; finished.n_tails = 1; tail.at = 0;
                   tail.stderr_tail = (ProtobufCBinaryData){ ATTEMPT_TAIL_BYTES + 1, data });

    Rota__Starts starts;
    Rota__Terms terms = ROTA__TERMS__INIT, *all_terms[3] = { &terms, &terms, &terms };
    ProtobufCBinaryData specs[1] = { { 3, data } };
    uint32_t which[2] = { 0, 1 }, none[2] = { 0, 0 };
#define STARTS                                                                                                         \
    (f.kind[0] = f.kind[1] = MSG_START, f.batch.n_started_inventory_seq = 0,                                           \
     starts = (Rota__Starts)ROTA__STARTS__INIT, f.batch.starts = &starts, starts.all_terms = all_terms,                \
     starts.n_all_terms = 1, starts.all_specs = specs, starts.n_all_specs = 1,                                         \
     starts.index = starts.terms = starts.spec = none, starts.n_index = starts.n_terms = starts.n_spec = 2)
    forge(&f);
    STARTS;
    starts.spec = which, starts.n_spec = 2;
    assert_int_equal(decode(&f, &a, &out), 0);
    assert_int_equal(out.messages[0].start.spec.size, 0);
    assert_int_equal(out.messages[1].start.spec.size, 3);
    assert_int_equal(out.messages[1].start.index, TASK_SINGLE);
    EXPECT_CORRUPT(STARTS; starts.n_all_terms = 0);
    EXPECT_CORRUPT(STARTS; starts.n_all_terms = 3);
    EXPECT_CORRUPT(STARTS; starts.terms = which; starts.n_terms = 2);
    EXPECT_CORRUPT(STARTS; starts.terms = which; starts.n_terms = 1);
    EXPECT_CORRUPT(STARTS; which[1] = 2; starts.spec = which; starts.n_spec = 2);
    EXPECT_CORRUPT(STARTS; specs[0].len = RECORD_SPEC_MAX + 1);
    specs[0].len = 1;
    EXPECT_CORRUPT(STARTS; terms.grace_ms = -1);
    free(data);
    arena_fini(&a);
}

static void test_bounds_of_bytes(void **state)
{
    (void)state;
    struct arena a = ARENA_INIT;
    struct wire_batch out;
    struct err err = { 0 };
    char *zeros = mem_zero(1, WIRE_BATCH_MAX + 1);
    assert_int_equal(wire_decode(&a, bytes_of(zeros, WIRE_BATCH_MAX + 1), &out, &err), -ERR_TOO_LARGE);
    assert_int_equal(wire_decode(&a, bytes_of(zeros, 100), &out, &err), -ERR_CORRUPT);
    assert_int_equal(wire_decode(&a, bytes_of(NULL, 0), &out, &err), -ERR_CORRUPT); /* no cluster */
    /* Millions of empty messages: small on the wire, large when unpacked. */
    size_t size = 0;
    for (; size + 3 <= WIRE_BATCH_MAX; size += 3)
        memcpy(zeros + size, "\x82\x01\0", 3); /* field 16, hello, 0 bytes */
    assert_int_equal(wire_decode(&a, bytes_of(zeros, size), &out, &err), -ERR_TOO_LARGE);
    arena_reset(&a);
    /* More rows than are allowed. */
    zeros[0] = (char)(8 << 3 | 2);                                 /* kind, packed */
    zeros[1] = (char)0x80, zeros[2] = (char)0x80, zeros[3] = 0x08; /* 131072 bytes */
    memset(zeros + 4, MSG_GOODBYE, 131072);
    assert_int_equal(wire_decode(&a, bytes_of(zeros, 4 + 131072), &out, &err), -ERR_TOO_LARGE);
    free(zeros);
    arena_fini(&a);
}

static void test_cut_and_flipped(void **state)
{
    /* Any damage is either refused or gives messages within all bounds; nothing is read outside (sanitizers watch). */
    (void)state;
    struct wire_writer *w = wire_writer_new();
    struct arena a = ARENA_INIT, b = ARENA_INIT;
    struct prng p;
    prng_seed(&p, 5);
    wire_begin(w, &head);
    for (int kind = MSG_NONE + 1; kind < MSG_KINDS; kind++)
        for (int i = 0; i < 3; i++) {
            struct message m = some_message(&p, &a, (enum message_kind)kind);
            assert_true(wire_add(w, &m));
        }
    struct bytes body = wire_end(w);
    struct wire_batch out;
    for (size_t size = 0; size < body.size; size++) {
        char *copy = mem_copy(body.data, size); /* of exactly that size, so that a read behind it is seen */
        /* Cut behind the head it is an empty batch; anywhere else it is refused, and never has some of the messages. */
        if (wire_decode(&b, bytes_of(copy, size), &out, NULL) == 0)
            assert_int_equal(out.count, 0);
        free(copy);
        arena_reset(&b);
    }
    char *copy = mem_copy(body.data, body.size);
    for (int i = 0; i < 20000; i++) {
        size_t at = (size_t)prng_below(&p, body.size);
        char old = copy[at];
        copy[at] = (char)(old ^ (1 << prng_below(&p, 8)));
        if (wire_decode(&b, bytes_of(copy, body.size), &out, NULL) == 0)
            for (size_t m = 0; m < out.count; m++)
                assert_in_range(out.messages[m].kind, MSG_NONE + 1, MSG_KINDS - 1);
        copy[at] = old;
        arena_reset(&b);
    }
    free(copy);
    arena_fini(&a);
    arena_fini(&b);
    wire_writer_free(w);
}

/* --- records as JSON --- */

static const char *node_name(void *arg, uint32_t node)
{
    return node == 2 ? arg : NULL;
}

/* Job 7 is an array whose first index is 10, of every second; of others nothing is known. */
static uint32_t index_of(void *arg, job_id job, uint32_t position)
{
    (void)arg;
    return job.n == 7 ? 10 + 2 * position : TASK_SINGLE;
}

static void expect_json(const struct record *r, const char *json)
{
    struct buf out = BUF_INIT;
    struct record_words words = { node_name, index_of, (void *)(uintptr_t) "n\"2" };
    wire_record_json(&out, r, &words);
    assert_string_equal(out.data, json);
    buf_fini(&out);
}

static void test_record_json(void **state)
{
    (void)state;
    struct record r = { .kind = EV_STARTED, .seq = 9, .at_wall_ms = 1763900000123 };
    r.started = (struct ev_started){ .job = 7, .task = TASK_SINGLE, .attempt = 1, .node = 2 };
    expect_json(&r, "{\"seq\":9,\"at\":\"2025-11-23T12:13:20.123Z\",\"event\":\"job.started\",\"job\":7,\"attempt\":1,"
                    "\"node\":\"n\\\"2\"}");
    r.started.task = 4, r.started.node = 3;
    expect_json(&r, "{\"seq\":9,\"at\":\"2025-11-23T12:13:20.123Z\",\"event\":\"job.started\",\"job\":7,\"task\":18,"
                    "\"attempt\":1,\"node\":3}");
    r.started.job = 8;
    expect_json(&r, "{\"seq\":9,\"at\":\"2025-11-23T12:13:20.123Z\",\"event\":\"job.started\",\"job\":8,\"task\":null,"
                    "\"attempt\":1,\"node\":3}");

    r = (struct record){ .kind = EV_CANCEL, .seq = 1 };
    r.cancel = (struct ev_cancel){
        .job = 7, .task = TASK_ALL, .final = 1, .actor = bytes_str("ann"), .reason = bytes_str("no\nneed")
    };
    expect_json(&r, "{\"seq\":1,\"at\":null,\"event\":\"job.cancel\",\"job\":7,\"final\":true,\"actor\":\"ann\","
                    "\"reason\":\"no\\nneed\"}");

    r = (struct record){ .kind = EV_ARRAY_ENDED, .seq = 2 };
    r.array_ended =
        (struct ev_array_ended){ .job = 7, .final = JOB_FAILED, .succeeded = 1, .failed = 2, .cancelled = 3 };
    expect_json(&r, "{\"seq\":2,\"at\":null,\"event\":\"job.array_ended\",\"job\":7,\"final\":\"failed\",\"succeeded\":"
                    "1,\"failed\":2,\"cancelled\":3}");

    r = (struct record){ .kind = EV_NODE_STATE, .seq = 3 };
    r.node_state = (struct ev_node_state){ .node = 2, .state = NODE_DRAINING, .reason = bytes_str("disk") };
    expect_json(&r, "{\"seq\":3,\"at\":null,\"event\":\"node.state\",\"node\":\"n\\\"2\",\"state\":\"draining\","
                    "\"reason\":\"disk\"}");

    r = (struct record){ .kind = EV_REVOKED, .seq = 4 };
    r.revoked = (struct ev_revoked){ .job = 7, .task = 0, .attempt = 2, .node = 2, .reason = REASON_NODE_LOST };
    expect_json(
        &r, "{\"seq\":4,\"at\":null,\"event\":\"job.revoked\",\"job\":7,\"task\":10,\"attempt\":2,\"node\":\"n\\\"2\","
            "\"reason\":\"node_lost\",\"final\":null}");
}

static void test_record_json_of_all(void **state)
{
    (void)state;
    for (int kind = EV_NONE + 1; kind < EV_KINDS; kind++) {
        struct record r;
        struct buf out = BUF_INIT;
        memset(&r, 0, sizeof r);
        r.kind = (enum event_kind)kind;
        wire_record_json(&out, &r, NULL);
        assert_int_equal(out.data[0], '{');
        assert_int_equal(out.data[out.size - 1], '}');
        assert_non_null(strstr(out.data, event_name(r.kind)));
        assert_null(strstr(out.data, "\"token\""));
        buf_fini(&out);
    }
    /* Dependencies are a list, resources an object, a worker's id text; the spec and the token of an attempt stay away.
     */
    struct buf out = BUF_INIT, after = BUF_INIT;
    buf_varint(&after, 5), buf_varint(&after, 2), buf_varint(&after, 0);
    struct record r = { .kind = EV_SUBMITTED };
    r.submitted.after = buf_bytes(&after);
    r.submitted.held = 1;
    wire_record_json(&out, &r, NULL);
    assert_non_null(strstr(out.data, "\"after\":[{\"job\":5,\"when\":\"fail\"}]"));
    assert_non_null(strstr(out.data, "\"held\":true"));
    buf_clear(&out);
    r = (struct record){ .kind = EV_NODE_SEEN };
    r.node_seen.worker_high = 0xfedcba9876543210;
    r.node_seen.capacity = (struct resources){ .v = { 1500, 2, 0, 0, 9 } };
    wire_record_json(&out, &r, NULL);
    assert_non_null(strstr(out.data, "\"worker_high\":\"fedcba9876543210\""));
    assert_non_null(
        strstr(out.data, "\"capacity\":{\"cpu_milli\":1500,\"mem_bytes\":2,\"gpu_milli\":0,\"named\":[0,9]}"));
    buf_clear(&out);
    r = (struct record){ .kind = EV_W_ACCEPTED };
    r.w_accepted.spec = bytes_str("secret");
    wire_record_json(&out, &r, NULL);
    assert_null(strstr(out.data, "secret"));
    assert_non_null(strstr(out.data, "\"spec_bytes\":6"));
    buf_fini(&out);
    buf_fini(&after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_spec_is_written_once),
        cmocka_unit_test(test_full_batch),
        cmocka_unit_test(test_largest_of_each),
        cmocka_unit_test(test_smallest_fit_into_the_memory),
        cmocka_unit_test(test_largest_numbers_fit_into_the_batch),
        cmocka_unit_test(test_unknown_things_are_skipped),
        cmocka_unit_test(test_corrupt),
        cmocka_unit_test(test_corrupt_results_and_starts),
        cmocka_unit_test(test_bounds_of_bytes),
        cmocka_unit_test(test_cut_and_flipped),
        cmocka_unit_test(test_record_json),
        cmocka_unit_test(test_record_json_of_all),
    };
    return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
