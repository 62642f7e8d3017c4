/* The writer of batches. The reader is wire_decode.c; the form is explained in schema/messages.proto. */
#include "wire/wire.h"

#include <stdlib.h>
#include <xxhash.h>

#include "base/check.h"
#include "base/mem.h"
#include "core/model/record.h"
#include "core/model/where.h"
#include "messages.pb-c.h"

/* What things can take at most when encoded. The sum decides when a batch is full, so the real size is never above it.
 */
#define HEAD_COST 512u /* everything that is there once, and tag and length of each column and list */
#define ROW_COST (1 + 10 + 5 + 5)
#define TOKEN_COST 16u
#define NAMED_COST (16u + RES_NAME_BYTES)
#define DIMS_COST (RES_DIMS * 10u + 8u)
#define TERMS_COST (DIMS_COST + RES_NAMED_MAX * NAMED_COST + 80u)
#define ITEM_COST (10 + 5 + 5 + 1 + 16)
#define SMALL_COST 80u  /* one of the messages with a few numbers */
#define HELLO_COST 200u /* its numbers and those of the inventory in it */
#define RESULT_COST (1 + 5 + 5 + 10 + 10 + 10 + 10 + 10 + 5)

_Static_assert(HEAD_COST + ROW_COST + HELLO_COST + 4 * WIRE_TEXT_MAX + LABELS_MAX + DIMS_COST + RES_NAMED_MAX * NAMED_COST +
                       INVENTORY_MAX * ITEM_COST <=
                   WIRE_BATCH_MAX,
               "the largest HELLO fits into a batch");
_Static_assert(HEAD_COST + ROW_COST + SMALL_COST + RESULT_COST + 2 * ATTEMPT_TAIL_BYTES <= WIRE_BATCH_MAX,
               "so does a FINISHED");
_Static_assert(HEAD_COST + ROW_COST + TERMS_COST + RECORD_SPEC_MAX + 64 <= WIRE_BATCH_MAX, "and a START");
_Static_assert(HEAD_COST + ROW_COST + SMALL_COST + WIRE_LOG_MAX <= WIRE_BATCH_MAX, "and a LOG_CHUNK");

struct pointers {
    void **v;
    size_t n, cap;
};

/* Finds what was written before in the same batch, by the hash of its bytes. */
struct once_slot {
    uint64_t hash;
    uint32_t position;
    uint32_t turn; /* of another batch: free */
};
struct once {
    struct once_slot *slots;
    size_t cap, n;
    uint32_t turn;
};
#define ONCE_PROBES 8 /* texts that were made to collide cost space, not time */

struct terms_key {
    struct resources need;
    uint64_t heard_seq;
    int64_t time_limit_ms, grace_ms, start_ttl_ms;
    uint64_t overlap_never, named_count;
    struct named_resource named[RES_NAMED_MAX];
};

struct terms {
    Rota__Terms out; /* first, see pack */
    struct terms_key key;
};

struct wire_writer {
    struct arena arena;
    struct wire_head head;
    size_t cost;
    bool open;

    size_t rows, rows_cap;
    uint32_t *kind;
    uint64_t *job;
    uint32_t *task, *attempt;

    size_t tokens, tokens_cap;
    uint64_t *token;

    size_t finished, finished_cap;
    uint32_t *reason, *exit_code, *signal, *flags;
    int64_t *run_ms;
    uint64_t *cpu_ms, *rss_max_bytes, *stdout_bytes, *stderr_bytes;

    size_t starts, starts_cap;
    uint32_t *index, *start_terms, *start_spec;
    struct once terms_once, specs_once;
    struct pointers terms; /* struct terms */
    size_t specs, specs_cap;
    ProtobufCBinaryData *spec;

    size_t kills, kills_cap, starteds, starteds_cap;
    uint64_t *started_inventory_seq;
    int64_t *kill_grace_ms;
    size_t usages, usages_cap, notes, notes_cap;
    ProtobufCBinaryData *usage, *note;
    size_t drains, drains_cap;
    protobuf_c_boolean *drain_on;
    struct pointers tails, hello, heartbeat, inventory, never_started, welcome, heartbeat_ack, go_away, log_read,
        log_chunk, node_report;

    uint8_t *out;
    size_t out_cap;
};

/* --- columns --- */

static void *column_grow(void *column, size_t cap, size_t bytes)
{
    return mem_resize(column, cap, bytes);
}

#define GROW(w, column, cap) ((w)->column = column_grow((w)->column, cap, sizeof *(w)->column))

static size_t cap_next(size_t cap)
{
    return cap ? cap * 2 : 256;
}

static void rows_grow(struct wire_writer *w)
{
    size_t cap = w->rows_cap = cap_next(w->rows_cap);
    GROW(w, kind, cap);
    GROW(w, job, cap);
    GROW(w, task, cap);
    GROW(w, attempt, cap);
}

static void finished_grow(struct wire_writer *w)
{
    size_t cap = w->finished_cap = cap_next(w->finished_cap);
    GROW(w, reason, cap);
    GROW(w, exit_code, cap);
    GROW(w, signal, cap);
    GROW(w, flags, cap);
    GROW(w, run_ms, cap);
    GROW(w, cpu_ms, cap);
    GROW(w, rss_max_bytes, cap);
    GROW(w, stdout_bytes, cap);
    GROW(w, stderr_bytes, cap);
}

static void starts_grow(struct wire_writer *w)
{
    size_t cap = w->starts_cap = cap_next(w->starts_cap);
    GROW(w, index, cap);
    GROW(w, start_terms, cap);
    GROW(w, start_spec, cap);
}

static void pointers_add(struct pointers *p, void *item)
{
    p->v = mem_grow(p->v, &p->cap, p->n + 1, sizeof *p->v);
    p->v[p->n++] = item;
}

static void row_add(struct wire_writer *w, enum message_kind kind, struct attempt_ref ref)
{
    if (w->rows == w->rows_cap)
        rows_grow(w);
    size_t at = w->rows++;
    w->kind[at] = kind;
    w->job[at] = ref.job.n;
    w->task[at] = ref.task + 1; /* TASK_SINGLE is the largest number and becomes 0. */
    w->attempt[at] = ref.attempt;
}

static const struct attempt_ref no_ref = { .task = TASK_SINGLE };

static void ref_add(struct wire_writer *w, enum message_kind kind, struct attempt_ref ref)
{
    check(ref.job.n && ref.attempt);
    row_add(w, kind, ref);
}

static void token_add(struct wire_writer *w, struct mac128 token)
{
    w->token = mem_grow(w->token, &w->tokens_cap, w->tokens + 2, sizeof *w->token);
    w->token[w->tokens++] = token.low;
    w->token[w->tokens++] = token.high;
}

/* --- what is written once --- */

static void once_grow(struct once *o)
{
    struct once old = *o;
    o->cap = old.cap ? old.cap * 2 : 64;
    o->slots = mem_zero(o->cap, sizeof *o->slots);
    for (size_t i = 0; i < old.cap; i++) {
        if (old.slots[i].turn != o->turn)
            continue;
        for (size_t probe = 0; probe < ONCE_PROBES; probe++) {
            struct once_slot *slot = &o->slots[(old.slots[i].hash + probe) & (o->cap - 1)];
            if (slot->turn == o->turn)
                continue;
            *slot = old.slots[i];
            break;
        }
    }
    free(old.slots);
}

static void once_restart(struct once *o)
{
    o->n = 0;
    if (++o->turn)
        return;
    o->turn = 1; /* After 2^32 batches old marks would look new. */
    if (o->cap)
        memset(o->slots, 0, o->cap * sizeof *o->slots);
}

/* The position at which `same` holds, or UINT32_MAX; *free_slot is then where to put it, NULL if nowhere. */
static uint32_t once_find(struct once *o, uint64_t hash,
                          bool (*same)(const struct wire_writer *, uint32_t, const void *), const struct wire_writer *w,
                          const void *what, struct once_slot **free_slot)
{
    if (o->n * 2 >= o->cap)
        once_grow(o);
    *free_slot = NULL;
    for (size_t probe = 0; probe < ONCE_PROBES; probe++) {
        struct once_slot *slot = &o->slots[(hash + probe) & (o->cap - 1)];
        if (slot->turn != o->turn) {
            *free_slot = slot;
            return UINT32_MAX;
        }
        if (slot->hash == hash && same(w, slot->position, what))
            return slot->position;
    }
    return UINT32_MAX;
}

static void once_put(struct once *o, struct once_slot *slot, uint64_t hash, uint32_t position)
{
    if (!slot)
        return;
    *slot = (struct once_slot){ hash, position, o->turn };
    o->n++;
}

/* --- small parts --- */

static ProtobufCBinaryData data_of(struct bytes text)
{
    return (ProtobufCBinaryData){ .len = text.size, .data = (uint8_t *)(uintptr_t)text.data };
}

static struct bytes text_cut(struct bytes text)
{
    return bytes_of(text.data, text.size < WIRE_TEXT_MAX ? text.size : WIRE_TEXT_MAX);
}

static size_t dims_used(const struct resources *r)
{
    size_t dims = RES_DIMS;
    while (dims && !r->v[dims - 1])
        dims--;
    return dims;
}

static Rota__NamedResource **named_out(struct wire_writer *w, const struct named_resource *named, size_t count)
{
    Rota__NamedResource **list = arena_alloc(&w->arena, count * sizeof *list);
    for (size_t i = 0; i < count; i++) {
        list[i] = arena_alloc(&w->arena, sizeof **list);
        rota__named_resource__init(list[i]);
        list[i]->name = data_of(bytes_of(named[i].name, strnlen(named[i].name, RES_NAME_BYTES - 1)));
        list[i]->count = named[i].count;
    }
    return list;
}

static Rota__Inventory *inventory_out(struct wire_writer *w, const struct inventory_item *items, size_t count)
{
    check(count <= INVENTORY_MAX);
    Rota__Inventory *out = arena_alloc(&w->arena, sizeof *out);
    rota__inventory__init(out);
    out->n_job = out->n_task = out->n_attempt = out->n_phase = count;
    out->n_token = 2 * count;
    out->job = arena_alloc(&w->arena, count * sizeof *out->job);
    out->task = arena_alloc(&w->arena, count * sizeof *out->task);
    out->attempt = arena_alloc(&w->arena, count * sizeof *out->attempt);
    out->phase = arena_alloc(&w->arena, count * sizeof *out->phase);
    out->token = arena_alloc(&w->arena, 2 * count * sizeof *out->token);
    for (size_t i = 0; i < count; i++) {
        check(items[i].ref.job.n && items[i].ref.attempt);
        out->job[i] = items[i].ref.job.n;
        out->task[i] = items[i].ref.task + 1;
        out->attempt[i] = items[i].ref.attempt;
        out->phase[i] = items[i].phase;
        out->token[2 * i] = items[i].token.low;
        out->token[2 * i + 1] = items[i].token.high;
    }
    return out;
}

/* --- one function per kind. False: no room, nothing was added. --- */

static bool room(struct wire_writer *w, size_t cost)
{
    if (w->rows >= WIRE_MESSAGES_MAX || w->cost + ROW_COST + cost > WIRE_BATCH_MAX)
        return false;
    w->cost += ROW_COST + cost;
    return true;
}

static bool add_hello(struct wire_writer *w, const struct message *m)
{
    check(m->hello.named_count <= RES_NAMED_MAX && m->hello.window);
    struct bytes boot = text_cut(m->hello.boot), version = text_cut(m->hello.version), name = text_cut(m->hello.name);
    struct bytes metrics = text_cut(m->hello.metrics), labels = m->hello.labels;
    if (!room(w, HELLO_COST + name.size + boot.size + version.size + metrics.size + labels.size + DIMS_COST + m->hello.named_count * NAMED_COST +
                     m->hello.items_count * ITEM_COST))
        return false;
    row_add(w, m->kind, no_ref);
    Rota__Hello *out = arena_alloc(&w->arena, sizeof *out);
    rota__hello__init(out);
    out->worker_high = m->hello.worker.high;
    out->worker_low = m->hello.worker.low;
    out->incarnation = m->hello.incarnation;
    out->name = data_of(name);
    out->boot = data_of(boot);
    out->version = data_of(version);
    out->metrics = data_of(metrics);
    out->labels = data_of(labels);
    out->n_capacity = dims_used(&m->hello.capacity);
    out->capacity = arena_copy(&w->arena, m->hello.capacity.v, sizeof m->hello.capacity.v);
    out->n_named = m->hello.named_count;
    out->named = named_out(w, m->hello.named, m->hello.named_count);
    out->inventory = inventory_out(w, m->hello.items, m->hello.items_count);
    out->epoch_seen = m->hello.epoch_seen;
    out->window = m->hello.window;
    out->draining = m->hello.draining;
    out->nonce = m->hello.nonce;
    out->heartbeat_seq = m->hello.heartbeat_seq;
    if (out->inventory)
        out->inventory->seq = m->hello.inventory_seq;
    pointers_add(&w->hello, out);
    return true;
}

static bool add_heartbeat(struct wire_writer *w, const struct message *m)
{
    if (!room(w, SMALL_COST))
        return false;
    row_add(w, m->kind, no_ref);
    Rota__Heartbeat *out = arena_alloc(&w->arena, sizeof *out);
    rota__heartbeat__init(out);
    out->seq = m->heartbeat.seq;
    out->sent_ms = m->heartbeat.sent_ms;
    out->digest = m->heartbeat.digest;
    out->count = m->heartbeat.count;
    out->cpu_used_milli = m->heartbeat.cpu_used_milli;
    out->mem_used_bytes = m->heartbeat.mem_used_bytes;
    out->load_milli = m->heartbeat.load_milli;
    pointers_add(&w->heartbeat, out);
    return true;
}

static bool add_inventory(struct wire_writer *w, const struct message *m)
{
    if (!room(w, SMALL_COST + m->inventory.items_count * ITEM_COST))
        return false;
    row_add(w, m->kind, no_ref);
    Rota__Inventory *out = inventory_out(w, m->inventory.items, m->inventory.items_count);
    out->seq = m->inventory.seq;
    out->epoch_seen = m->inventory.epoch_seen;
    pointers_add(&w->inventory, out);
    return true;
}

static bool add_started(struct wire_writer *w, const struct message *m)
{
    if (!room(w, TOKEN_COST + 10))
        return false;
    ref_add(w, m->kind, m->started.ref);
    token_add(w, m->started.token);
    w->started_inventory_seq = mem_grow(w->started_inventory_seq, &w->starteds_cap, w->starteds + 1, sizeof(uint64_t));
    w->started_inventory_seq[w->starteds++] = m->started.inventory_seq;
    return true;
}

static void tail_add(struct wire_writer *w, size_t at, struct bytes stdout_tail, struct bytes stderr_tail)
{
    Rota__Tail *out = arena_alloc(&w->arena, sizeof *out);
    rota__tail__init(out);
    out->at = (uint32_t)at;
    out->stdout_tail = data_of(stdout_tail);
    out->stderr_tail = data_of(stderr_tail);
    pointers_add(&w->tails, out);
}

static bool add_finished(struct wire_writer *w, const struct message *m)
{
    const struct attempt_result *r = &m->finished.result;
    struct bytes tail_out = m->finished.stdout_tail, tail_err = m->finished.stderr_tail;
    check(tail_out.size <= ATTEMPT_TAIL_BYTES && tail_err.size <= ATTEMPT_TAIL_BYTES && r->reason < REASONS);
    bool tails = tail_out.size || tail_err.size;
    if (!room(w, TOKEN_COST + RESULT_COST + (tails ? SMALL_COST + tail_out.size + tail_err.size : 0)))
        return false;
    ref_add(w, m->kind, m->finished.ref);
    token_add(w, m->finished.token);
    if (w->finished == w->finished_cap)
        finished_grow(w);
    size_t at = w->finished++;
    w->reason[at] = r->reason;
    w->exit_code[at] = r->exit_code;
    w->signal[at] = r->signal;
    w->flags[at] = r->flags;
    w->run_ms[at] = r->run_ms > 0 ? r->run_ms : 0; /* A clock that went back must not make the report unreadable. */
    w->cpu_ms[at] = r->cpu_ms;
    w->rss_max_bytes[at] = r->rss_max_bytes;
    w->stdout_bytes[at] = r->stdout_bytes;
    w->stderr_bytes[at] = r->stderr_bytes;
    if (tails)
        tail_add(w, at, tail_out, tail_err);
    return true;
}

static Rota__Words *words_out(struct wire_writer *w, enum reason reason, struct bytes text)
{
    Rota__Words *out = arena_alloc(&w->arena, sizeof *out);
    rota__words__init(out);
    out->reason = reason;
    out->text = data_of(text);
    return out;
}

static bool add_never_started(struct wire_writer *w, const struct message *m)
{
    struct bytes text = text_cut(m->never_started.text);
    if (!room(w, TOKEN_COST + SMALL_COST + text.size))
        return false;
    ref_add(w, m->kind, m->never_started.ref);
    token_add(w, m->never_started.token);
    pointers_add(&w->never_started, words_out(w, m->never_started.reason, text));
    return true;
}

static bool add_go_away(struct wire_writer *w, const struct message *m)
{
    struct bytes text = text_cut(m->go_away.text);
    if (!room(w, SMALL_COST + text.size))
        return false;
    row_add(w, m->kind, no_ref);
    pointers_add(&w->go_away, words_out(w, m->go_away.reason, text));
    return true;
}

static bool add_plain(struct wire_writer *w, const struct message *m)
{
    if (!room(w, 0))
        return false;
    row_add(w, m->kind, no_ref);
    return true;
}

static bool add_welcome(struct wire_writer *w, const struct message *m)
{
    struct bytes url = text_cut(m->welcome.lease_url);
    if (!room(w, SMALL_COST + TOKEN_COST + url.size))
        return false;
    row_add(w, m->kind, no_ref);
    Rota__Welcome *out = arena_alloc(&w->arena, sizeof *out);
    rota__welcome__init(out);
    out->epoch = m->welcome.epoch;
    out->session = m->welcome.session;
    out->heartbeat_ms = m->welcome.heartbeat_ms;
    out->lease_ms = m->welcome.lease_ms;
    out->node = m->welcome.node;
    out->nonce = m->welcome.nonce;
    out->lease_url = data_of(url);
    out->lease_token_low = m->welcome.lease_token.low;
    out->lease_token_high = m->welcome.lease_token.high;
    pointers_add(&w->welcome, out);
    return true;
}

static bool add_heartbeat_ack(struct wire_writer *w, const struct message *m)
{
    if (!room(w, SMALL_COST))
        return false;
    row_add(w, m->kind, no_ref);
    Rota__HeartbeatAck *out = arena_alloc(&w->arena, sizeof *out);
    rota__heartbeat_ack__init(out);
    out->seq = m->heartbeat_ack.seq;
    out->sent_ms = m->heartbeat_ack.sent_ms;
    out->want_inventory = m->heartbeat_ack.want_inventory;
    pointers_add(&w->heartbeat_ack, out);
    return true;
}

/* --- START: terms and specs are shared --- */

static bool terms_same(const struct wire_writer *w, uint32_t position, const void *what)
{
    return memcmp(&((const struct terms *)w->terms.v[position])->key, what, sizeof(struct terms_key)) == 0;
}

static void terms_key_fill(struct terms_key *key, const struct message *m)
{
    check(m->start.named_count <= RES_NAMED_MAX);
    memset(key, 0, sizeof *key); /* It is compared by its bytes. */
    key->need = m->start.need;
    key->time_limit_ms = m->start.time_limit_ms;
    key->grace_ms = m->start.grace_ms;
    key->start_ttl_ms = m->start.start_ttl_ms;
    key->overlap_never = m->start.overlap_never;
    key->heard_seq = m->start.heard_seq;
    key->named_count = m->start.named_count;
    for (size_t i = 0; i < m->start.named_count; i++) {
        const struct named_resource *named = &m->start.named[i];
        memcpy(key->named[i].name, named->name, strnlen(named->name, sizeof named->name - 1));
        key->named[i].count = named->count;
    }
}

static uint32_t terms_add(struct wire_writer *w, const struct terms_key *key)
{
    struct terms *t = arena_alloc(&w->arena, sizeof *t);
    t->key = *key;
    rota__terms__init(&t->out);
    t->out.n_need = dims_used(&t->key.need);
    t->out.need = t->key.need.v;
    t->out.n_named = t->key.named_count;
    t->out.named = named_out(w, t->key.named, t->key.named_count);
    t->out.time_limit_ms = key->time_limit_ms;
    t->out.grace_ms = key->grace_ms;
    t->out.start_ttl_ms = key->start_ttl_ms;
    t->out.overlap_never = key->overlap_never != 0;
    t->out.heard_seq = key->heard_seq;
    pointers_add(&w->terms, t);
    return (uint32_t)w->terms.n - 1;
}

static struct bytes spec_at(const struct wire_writer *w, uint32_t position)
{
    return bytes_of(w->spec[position].data, w->spec[position].len);
}

static bool spec_same(const struct wire_writer *w, uint32_t position, const void *what)
{
    return bytes_equal(spec_at(w, position), *(const struct bytes *)what);
}

static uint32_t spec_add(struct wire_writer *w, struct bytes spec)
{
    w->spec = mem_grow(w->spec, &w->specs_cap, w->specs + 1, sizeof *w->spec);
    w->spec[w->specs] = data_of(spec);
    return (uint32_t)w->specs++;
}

static bool add_start(struct wire_writer *w, const struct message *m)
{
    struct bytes spec = m->start.spec;
    check(spec.size <= RECORD_SPEC_MAX);
    struct terms_key key;
    terms_key_fill(&key, m);
    struct once_slot *terms_slot = NULL, *spec_slot = NULL;
    uint64_t terms_hash = 0, spec_hash = 0;
    uint32_t terms = UINT32_MAX, at = UINT32_MAX;

    /* The tasks of an array come in a row and have both in common. */
    if (w->starts) {
        uint32_t last_terms = w->start_terms[w->starts - 1], last_spec = w->start_spec[w->starts - 1];
        if (terms_same(w, last_terms, &key))
            terms = last_terms;
        if (spec.size && last_spec && w->spec[last_spec - 1].data == (const uint8_t *)spec.data &&
            w->spec[last_spec - 1].len == spec.size)
            at = last_spec - 1;
    }
    if (terms == UINT32_MAX) {
        terms_hash = XXH3_64bits(&key, sizeof key);
        terms = once_find(&w->terms_once, terms_hash, terms_same, w, &key, &terms_slot);
    }
    if (spec.size && at == UINT32_MAX) {
        spec_hash = XXH3_64bits(spec.data, spec.size);
        at = once_find(&w->specs_once, spec_hash, spec_same, w, &spec, &spec_slot);
    }
    bool new_terms = terms == UINT32_MAX, new_spec = spec.size && at == UINT32_MAX;
    if (!room(w, TOKEN_COST + 15 + (new_terms ? TERMS_COST : 0) + (new_spec ? spec.size + 8 : 0)))
        return false;
    if (new_terms)
        once_put(&w->terms_once, terms_slot, terms_hash, terms = terms_add(w, &key));
    if (new_spec)
        once_put(&w->specs_once, spec_slot, spec_hash, at = spec_add(w, spec));

    ref_add(w, m->kind, m->start.ref);
    token_add(w, m->start.token);
    if (w->starts == w->starts_cap)
        starts_grow(w);
    w->index[w->starts] = m->start.index + 1;
    w->start_terms[w->starts] = terms;
    w->start_spec[w->starts++] = spec.size ? at + 1 : 0;
    return true;
}

static bool add_kill(struct wire_writer *w, const struct message *m)
{
    if (!room(w, TOKEN_COST + 10))
        return false;
    ref_add(w, m->kind, m->kill.ref);
    token_add(w, m->kill.token);
    w->kill_grace_ms = mem_grow(w->kill_grace_ms, &w->kills_cap, w->kills + 1, sizeof *w->kill_grace_ms);
    w->kill_grace_ms[w->kills++] = m->kill.grace_ms;
    return true;
}

static bool add_revoke(struct wire_writer *w, const struct message *m)
{
    if (!room(w, TOKEN_COST))
        return false;
    ref_add(w, m->kind, m->revoke.ref);
    token_add(w, m->revoke.token);
    return true;
}

static bool add_report_ack(struct wire_writer *w, const struct message *m)
{
    if (!room(w, 0))
        return false;
    ref_add(w, m->kind, m->report_ack.ref);
    return true;
}

static bool add_drain(struct wire_writer *w, const struct message *m)
{
    if (!room(w, 1))
        return false;
    row_add(w, m->kind, no_ref);
    w->drain_on = mem_grow(w->drain_on, &w->drains_cap, w->drains + 1, sizeof *w->drain_on);
    w->drain_on[w->drains++] = m->drain.on;
    return true;
}

static bool add_log_read(struct wire_writer *w, const struct message *m)
{
    if (!room(w, SMALL_COST))
        return false;
    ref_add(w, m->kind, m->log_read.ref);
    Rota__LogRead *out = arena_alloc(&w->arena, sizeof *out);
    rota__log_read__init(out);
    out->request = m->log_read.request;
    out->stream = m->log_read.stream;
    out->offset = m->log_read.offset;
    out->bytes_max = m->log_read.bytes_max;
    out->wait_ms = m->log_read.wait_ms;
    pointers_add(&w->log_read, out);
    return true;
}

static bool add_log_chunk(struct wire_writer *w, const struct message *m)
{
    check(m->log_chunk.data.size <= WIRE_LOG_MAX);
    if (!room(w, SMALL_COST + m->log_chunk.data.size))
        return false;
    ref_add(w, m->kind, m->log_chunk.ref);
    Rota__LogChunk *out = arena_alloc(&w->arena, sizeof *out);
    rota__log_chunk__init(out);
    out->request = m->log_chunk.request;
    out->stream = m->log_chunk.stream;
    out->offset = m->log_chunk.offset;
    out->data = data_of(m->log_chunk.data);
    out->ended = m->log_chunk.ended;
    out->unknown = m->log_chunk.unknown;
    pointers_add(&w->log_chunk, out);
    return true;
}

static bool add_usage(struct wire_writer *w, const struct message *m)
{
    check(m->usage.series.size <= USAGE_BYTES_MAX);
    if (!room(w, 8 + m->usage.series.size))
        return false;
    ref_add(w, m->kind, m->usage.ref);
    w->usage = mem_grow(w->usage, &w->usages_cap, w->usages + 1, sizeof *w->usage);
    w->usage[w->usages++] = data_of(m->usage.series);
    return true;
}

static bool add_note(struct wire_writer *w, const struct message *m)
{
    struct bytes text = text_cut(m->note.text);
    if (!room(w, 8 + text.size))
        return false;
    ref_add(w, m->kind, m->note.ref);
    w->note = mem_grow(w->note, &w->notes_cap, w->notes + 1, sizeof *w->note);
    w->note[w->notes++] = data_of(text);
    return true;
}

static bool add_node_report(struct wire_writer *w, const struct message *m)
{
    if (!room(w, SMALL_COST + 2 * WIRE_TEXT_MAX))
        return false;
    row_add(w, m->kind, no_ref);
    Rota__NodeReport *out = arena_alloc(&w->arena, sizeof *out);
    rota__node_report__init(out);
    out->name = data_of(text_cut(m->node_report.name));
    out->enforces = data_of(text_cut(m->node_report.enforces));
    out->disk_bytes = m->node_report.disk_bytes;
    out->disk_free_bytes = m->node_report.disk_free_bytes;
    out->gpus = m->node_report.gpus;
    out->gpu_used_milli = m->node_report.gpu_used_milli;
    out->gpu_mem_used_bytes = m->node_report.gpu_mem_used_bytes;
    out->gpu_mem_bytes = m->node_report.gpu_mem_bytes;
    if (m->node_report.has_pressure) {
        out->pressure = arena_copy(&w->arena, m->node_report.pressure, sizeof m->node_report.pressure);
        out->n_pressure = PRESSURES;
    }
    pointers_add(&w->node_report, out);
    return true;
}

static bool (*const adders[MSG_KINDS])(struct wire_writer *, const struct message *) = {
    [MSG_HELLO] = add_hello,           [MSG_HEARTBEAT] = add_heartbeat, [MSG_INVENTORY] = add_inventory,
    [MSG_STARTED] = add_started,       [MSG_FINISHED] = add_finished,   [MSG_NEVER_STARTED] = add_never_started,
    [MSG_GOODBYE] = add_plain,         [MSG_WELCOME] = add_welcome,     [MSG_HEARTBEAT_ACK] = add_heartbeat_ack,
    [MSG_START] = add_start,           [MSG_KILL] = add_kill,           [MSG_REVOKE] = add_revoke,
    [MSG_REPORT_ACK] = add_report_ack, [MSG_DRAIN] = add_drain,         [MSG_GO_AWAY] = add_go_away,
    [MSG_LOG_READ] = add_log_read,     [MSG_LOG_CHUNK] = add_log_chunk, [MSG_USAGE] = add_usage,
    [MSG_NODE_REPORT] = add_node_report, [MSG_NOTE] = add_note,
};

/* --- public --- */

struct wire_writer *wire_writer_new(void)
{
    struct wire_writer *w = mem_zero(1, sizeof *w);
    w->arena = ARENA_INIT;
    return w;
}

static void lists_each(struct wire_writer *w, void (*each)(struct pointers *))
{
    struct pointers *lists[] = { &w->terms,     &w->tails,         &w->hello,    &w->heartbeat,
                                 &w->inventory, &w->never_started, &w->welcome,  &w->heartbeat_ack,
                                 &w->go_away,   &w->log_read,      &w->log_chunk, &w->node_report };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        each(lists[i]);
}

static void list_fini(struct pointers *p)
{
    free(p->v);
}

static void list_reset(struct pointers *p)
{
    p->n = 0;
}

void wire_writer_free(struct wire_writer *w)
{
    if (!w)
        return;
    void *columns[] = { w->kind,
                        w->job,
                        w->task,
                        w->attempt,
                        w->token,
                        w->reason,
                        w->exit_code,
                        w->signal,
                        w->flags,
                        w->run_ms,
                        w->cpu_ms,
                        w->rss_max_bytes,
                        w->stdout_bytes,
                        w->stderr_bytes,
                        w->index,
                        w->start_terms,
                        w->start_spec,
                        w->spec,
                        w->kill_grace_ms,
                        w->started_inventory_seq,
                        w->usage,
                        w->note,
                        w->drain_on,
                        w->terms_once.slots,
                        w->specs_once.slots,
                        w->out };
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        free(columns[i]);
    lists_each(w, list_fini);
    arena_fini(&w->arena);
    free(w);
}

void wire_begin(struct wire_writer *w, const struct wire_head *head)
{
    arena_reset(&w->arena);
    w->head = *head;
    w->cost = HEAD_COST;
    w->rows = w->tokens = w->finished = w->starts = w->specs = w->kills = w->starteds = w->drains = w->usages = w->notes = 0;
    lists_each(w, list_reset);
    once_restart(&w->terms_once);
    once_restart(&w->specs_once);
    w->open = true;
}

bool wire_add(struct wire_writer *w, const struct message *m)
{
    check(w->open && m->kind > MSG_NONE && m->kind < MSG_KINDS && adders[m->kind]);
    bool added = adders[m->kind](w, m);
    check(added || w->rows); /* Every message fits into a batch of its own: the static assertions above. */
    return added;
}

size_t wire_count(const struct wire_writer *w)
{
    return w->rows;
}

#define COLUMN(to, field, from, count) ((to).n_##field = (count), (to).field = (from))
#define LIST(to, field, list) ((to).n_##field = (list).n, (to).field = (void *)(list).v)

struct bytes wire_end(struct wire_writer *w)
{
    check(w->open);
    w->open = false;
    Rota__Batch batch = ROTA__BATCH__INIT;
    Rota__Finished finished = ROTA__FINISHED__INIT;
    Rota__Starts starts = ROTA__STARTS__INIT;
    batch.cluster = data_of(bytes_of(w->head.cluster, sizeof w->head.cluster));
    batch.epoch = w->head.epoch;
    batch.session = w->head.session;
    batch.worker_high = w->head.worker.high;
    batch.worker_low = w->head.worker.low;
    batch.incarnation = w->head.incarnation;
    COLUMN(batch, kind, w->kind, w->rows);
    COLUMN(batch, job, w->job, w->rows);
    COLUMN(batch, task, w->task, w->rows);
    COLUMN(batch, attempt, w->attempt, w->rows);
    COLUMN(batch, token, w->token, w->tokens);
    LIST(batch, hello, w->hello);
    LIST(batch, heartbeat, w->heartbeat);
    LIST(batch, inventory, w->inventory);
    LIST(batch, never_started, w->never_started);
    LIST(batch, welcome, w->welcome);
    LIST(batch, heartbeat_ack, w->heartbeat_ack);
    LIST(batch, go_away, w->go_away);
    LIST(batch, log_read, w->log_read);
    LIST(batch, log_chunk, w->log_chunk);
    LIST(batch, node_report, w->node_report);
    COLUMN(batch, kill_grace_ms, w->kill_grace_ms, w->kills);
    COLUMN(batch, started_inventory_seq, w->started_inventory_seq, w->starteds);
    COLUMN(batch, drain_on, w->drain_on, w->drains);
    COLUMN(batch, usage, w->usage, w->usages);
    COLUMN(batch, note, w->note, w->notes);
    if (w->finished) {
        COLUMN(finished, reason, w->reason, w->finished);
        COLUMN(finished, exit_code, w->exit_code, w->finished);
        COLUMN(finished, signal, w->signal, w->finished);
        COLUMN(finished, run_ms, w->run_ms, w->finished);
        COLUMN(finished, cpu_ms, w->cpu_ms, w->finished);
        COLUMN(finished, rss_max_bytes, w->rss_max_bytes, w->finished);
        COLUMN(finished, stdout_bytes, w->stdout_bytes, w->finished);
        COLUMN(finished, stderr_bytes, w->stderr_bytes, w->finished);
        COLUMN(finished, flags, w->flags, w->finished);
        LIST(finished, tails, w->tails);
        batch.finished = &finished;
    }
    if (w->starts) {
        COLUMN(starts, index, w->index, w->starts);
        COLUMN(starts, terms, w->start_terms, w->starts);
        COLUMN(starts, spec, w->start_spec, w->starts);
        LIST(starts, all_terms, w->terms); /* Their first member is what is written. */
        COLUMN(starts, all_specs, w->spec, w->specs);
        batch.starts = &starts;
    }
    size_t size = rota__batch__get_packed_size(&batch);
    check(size <= w->cost && size <= WIRE_BATCH_MAX);
    w->out = mem_grow(w->out, &w->out_cap, size ? size : 1, 1);
    check(rota__batch__pack(&batch, w->out) == size);
    return bytes_of(w->out, size);
}
