/* The reader of batches (schema/messages.proto). Bytes come from another process, which may be of another version,
 * broken or hostile: structure that cannot be is ERR_CORRUPT for the whole batch, words that only a newer version knows
 * cost only the message that has them. */
#include "wire/wire.h"

#include "base/check.h"
#include "core/model/record.h"
#include "core/model/where.h"
#include "messages.pb-c.h"

/* Unpacked against packed, with something for each message: what a writer can make always fits. */
#define MEMORY_PER_BYTE 16u
#define MEMORY_MIN (256u * WIRE_MESSAGES_MAX)
#define AMOUNT_MAX (1ull << 53) /* of any resource: sums over all nodes cannot overflow */
#define SIGNAL_MAX 255u

/* --- memory with a limit --- */

struct limited {
    struct arena *arena;
    size_t left;
    bool exceeded;
};

static void *limited_alloc(void *arg, size_t size)
{
    struct limited *l = arg;
    if (size > l->left) {
        l->exceeded = true;
        return NULL;
    }
    l->left -= size;
    return arena_alloc(l->arena, size);
}

static void limited_free(void *arg, void *memory)
{
    (void)arg, (void)memory; /* The arena ends it. */
}

/* --- the state of one decoding --- */

struct decoder {
    struct arena *arena;
    const Rota__Batch *in;
    size_t
        next[MSG_KINDS]; /* how many messages of each kind were read: their entry in columns and lists of their own */
    size_t token;        /* entries of `token` used */
    const struct resources *needs; /* of all_terms */
    const struct named_resource *const *named;
};

enum verdict { TAKE, SKIP, BAD };

/* Every version so far writes all columns; one that is added later may also have no entries, and then reads as zeros.
 */
#define COLUMN_FITS(message, column, count) ((message)->n_##column == (count))

static struct bytes bytes_from(const ProtobufCBinaryData *data)
{
    return data->len ? bytes_of(data->data, data->len) : (struct bytes){ "", 0 };
}

static struct attempt_ref ref_at(const struct decoder *d, size_t row)
{
    return (struct attempt_ref){ { d->in->job[row] }, d->in->task[row] - 1, d->in->attempt[row] };
}

static bool ref_valid(struct attempt_ref ref)
{
    return ref.job.n && ref.attempt && (ref.task < ARRAY_TASKS_MAX || ref.task == TASK_SINGLE);
}

static bool take_ref(const struct decoder *d, size_t row, struct attempt_ref *out)
{
    *out = ref_at(d, row);
    return ref_valid(*out);
}

static bool take_token(struct decoder *d, struct mac128 *out)
{
    if (d->in->n_token - d->token < 2)
        return false;
    *out = (struct mac128){ .low = d->in->token[d->token], .high = d->in->token[d->token + 1] };
    d->token += 2;
    return true;
}

static bool take_resources(const uint64_t *v, size_t count, struct resources *out)
{
    *out = (struct resources){ 0 };
    if (count > RES_DIMS)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (v[i] > AMOUNT_MAX)
            return false;
        out->v[i] = v[i];
    }
    return true;
}

static bool take_named(struct decoder *d, Rota__NamedResource *const *in, size_t count,
                       const struct named_resource **out)
{
    *out = NULL;
    if (count > RES_NAMED_MAX)
        return false;
    struct named_resource *list = arena_alloc(d->arena, count * sizeof *list);
    for (size_t i = 0; i < count; i++) {
        struct bytes name = bytes_from(&in[i]->name);
        if (!name.size || name.size >= RES_NAME_BYTES || memchr(name.data, 0, name.size) || in[i]->count > AMOUNT_MAX)
            return false;
        list[i] = (struct named_resource){ .count = in[i]->count };
        memcpy(list[i].name, name.data, name.size);
    }
    *out = list;
    return true;
}

static enum verdict take_inventory(struct decoder *d, const Rota__Inventory *in, const struct inventory_item **items,
                                   size_t *count)
{
    *items = NULL;
    *count = 0;
    if (!in)
        return TAKE;
    size_t n = in->n_job;
    if (n > INVENTORY_MAX || in->n_task != n || in->n_attempt != n || in->n_phase != n || in->n_token != 2 * n)
        return BAD;
    struct inventory_item *list = arena_alloc(d->arena, n * sizeof *list);
    enum verdict verdict = TAKE;
    for (size_t i = 0; i < n; i++) {
        struct attempt_ref ref = { { in->job[i] }, in->task[i] - 1, in->attempt[i] };
        if (!ref_valid(ref) || in->phase[i] == PHASE_NONE)
            return BAD;
        if (in->phase[i] > PHASE_ENDED)
            verdict = SKIP;
        list[i] = (struct inventory_item){ ref,
                                           { in->token[2 * i], in->token[2 * i + 1] },
                                           (enum attempt_phase)in->phase[i] };
    }
    *items = list;
    *count = n;
    return verdict;
}

static bool node_name_valid(struct bytes name)
{
    if (!name.size || name.size > 63)
        return false;
    for (size_t i = 0; i < name.size; i++) {
        char c = name.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-'))
            return false;
    }
    return true;
}

static bool take_text(const ProtobufCBinaryData *data, struct bytes *out)
{
    *out = bytes_from(data);
    return out->size <= WIRE_TEXT_MAX;
}

/* --- one function per kind; `at` counts messages of that kind --- */

static enum verdict take_hello(struct decoder *d, size_t row, size_t at, struct message *m)
{
    (void)row;
    const Rota__Hello *in = d->in->hello[at];
    m->hello.worker = (struct worker_id){ .high = in->worker_high, .low = in->worker_low };
    m->hello.incarnation = in->incarnation;
    m->hello.name = bytes_from(&in->name);
    m->hello.named_count = in->n_named;
    m->hello.epoch_seen = in->epoch_seen;
    m->hello.window = in->window;
    m->hello.draining = in->draining != 0;
    m->hello.nonce = in->nonce;
    m->hello.heartbeat_seq = in->heartbeat_seq;
    m->hello.inventory_seq = in->inventory ? in->inventory->seq : 0;
    m->hello.labels = bytes_from(&in->labels);
    if (!node_name_valid(m->hello.name) || labels_check(m->hello.labels, NULL) < 0 || !take_text(&in->boot, &m->hello.boot) ||
        !take_text(&in->version, &m->hello.version) || !take_text(&in->metrics, &m->hello.metrics) ||
        !take_resources(in->capacity, in->n_capacity, &m->hello.capacity) || !in->window ||
        !take_named(d, in->named, in->n_named, &m->hello.named))
        return BAD;
    return take_inventory(d, in->inventory, &m->hello.items, &m->hello.items_count);
}

static enum verdict take_heartbeat(struct decoder *d, size_t row, size_t at, struct message *m)
{
    (void)row;
    const Rota__Heartbeat *in = d->in->heartbeat[at];
    m->heartbeat.seq = in->seq;
    m->heartbeat.sent_ms = in->sent_ms;
    m->heartbeat.digest = in->digest;
    m->heartbeat.count = in->count;
    m->heartbeat.cpu_used_milli = in->cpu_used_milli;
    m->heartbeat.mem_used_bytes = in->mem_used_bytes;
    m->heartbeat.load_milli = in->load_milli;
    return in->cpu_used_milli <= AMOUNT_MAX && in->mem_used_bytes <= AMOUNT_MAX ? TAKE : BAD;
}

static enum verdict take_inventory_message(struct decoder *d, size_t row, size_t at, struct message *m)
{
    (void)row;
    m->inventory.seq = d->in->inventory[at]->seq;
    m->inventory.epoch_seen = d->in->inventory[at]->epoch_seen;
    return take_inventory(d, d->in->inventory[at], &m->inventory.items, &m->inventory.items_count);
}

static enum verdict take_started(struct decoder *d, size_t row, size_t at, struct message *m)
{
    m->started.inventory_seq = d->in->started_inventory_seq[at];
    return take_ref(d, row, &m->started.ref) && take_token(d, &m->started.token) ? TAKE : BAD;
}

static enum verdict take_finished(struct decoder *d, size_t row, size_t at, struct message *m)
{
    const Rota__Finished *in = d->in->finished;
    if (!take_ref(d, row, &m->finished.ref) || !take_token(d, &m->finished.token))
        return BAD;
    uint32_t reason = in->reason[at];
    m->finished.result = (struct attempt_result){
        .reason = reason < REASONS ? (enum reason)reason : REASON_NONE,
        .exit_code = in->exit_code[at],
        .signal = in->signal[at],
        .run_ms = in->run_ms[at],
        .cpu_ms = in->cpu_ms[at],
        .rss_max_bytes = in->rss_max_bytes[at],
        .stdout_bytes = in->stdout_bytes[at],
        .stderr_bytes = in->stderr_bytes[at],
        .flags = in->flags[at],
    };
    const struct attempt_result *r = &m->finished.result;
    m->finished.stdout_tail = m->finished.stderr_tail = (struct bytes){ "", 0 };
    if (r->exit_code > 255 || r->signal > SIGNAL_MAX || r->run_ms < 0)
        return BAD;
    return reason < REASONS ? TAKE : SKIP;
}

static enum verdict take_words(const Rota__Words *in, enum reason *reason, struct bytes *text)
{
    if (!take_text(&in->text, text))
        return BAD;
    *reason = in->reason < REASONS ? (enum reason)in->reason : REASON_NONE;
    return in->reason < REASONS ? TAKE : SKIP;
}

static enum verdict take_never_started(struct decoder *d, size_t row, size_t at, struct message *m)
{
    if (!take_ref(d, row, &m->never_started.ref) || !take_token(d, &m->never_started.token))
        return BAD;
    return take_words(d->in->never_started[at], &m->never_started.reason, &m->never_started.text);
}

static enum verdict take_go_away(struct decoder *d, size_t row, size_t at, struct message *m)
{
    (void)row;
    return take_words(d->in->go_away[at], &m->go_away.reason, &m->go_away.text);
}

static enum verdict take_goodbye(struct decoder *d, size_t row, size_t at, struct message *m)
{
    (void)d, (void)row, (void)at, (void)m;
    return TAKE;
}

static enum verdict take_welcome(struct decoder *d, size_t row, size_t at, struct message *m)
{
    (void)row;
    const Rota__Welcome *in = d->in->welcome[at];
    m->welcome.epoch = in->epoch;
    m->welcome.session = in->session;
    m->welcome.heartbeat_ms = in->heartbeat_ms;
    m->welcome.lease_ms = in->lease_ms;
    m->welcome.node = in->node;
    m->welcome.nonce = in->nonce;
    m->welcome.lease_url = bytes_from(&in->lease_url);
    m->welcome.lease_token = (struct mac128){ in->lease_token_low, in->lease_token_high };
    return in->lease_url.len <= WIRE_TEXT_MAX && in->heartbeat_ms > 0 && in->lease_ms > 0 && in->node <= NODES_MAX ? TAKE : BAD;
}

static enum verdict take_heartbeat_ack(struct decoder *d, size_t row, size_t at, struct message *m)
{
    (void)row;
    const Rota__HeartbeatAck *in = d->in->heartbeat_ack[at];
    m->heartbeat_ack.seq = in->seq;
    m->heartbeat_ack.sent_ms = in->sent_ms;
    m->heartbeat_ack.want_inventory = in->want_inventory != 0;
    return TAKE;
}

static enum verdict take_start(struct decoder *d, size_t row, size_t at, struct message *m)
{
    const Rota__Starts *in = d->in->starts;
    if (!take_ref(d, row, &m->start.ref) || !take_token(d, &m->start.token))
        return BAD;
    uint32_t which = in->terms[at], spec = in->spec[at];
    if (which >= in->n_all_terms || spec > in->n_all_specs)
        return BAD;
    const Rota__Terms *terms = in->all_terms[which];
    m->start.index = in->index[at] - 1;
    m->start.need = d->needs[which];
    m->start.named = d->named[which];
    m->start.named_count = terms->n_named;
    m->start.time_limit_ms = terms->time_limit_ms;
    m->start.grace_ms = terms->grace_ms;
    m->start.start_ttl_ms = terms->start_ttl_ms;
    m->start.overlap_never = terms->overlap_never != 0;
    m->start.heard_seq = terms->heard_seq;
    m->start.spec = spec ? bytes_from(&in->all_specs[spec - 1]) : (struct bytes){ "", 0 };
    return TAKE;
}

static enum verdict take_kill(struct decoder *d, size_t row, size_t at, struct message *m)
{
    m->kill.grace_ms = d->in->kill_grace_ms[at];
    return take_ref(d, row, &m->kill.ref) && take_token(d, &m->kill.token) && m->kill.grace_ms >= 0 ? TAKE : BAD;
}

static enum verdict take_revoke(struct decoder *d, size_t row, size_t at, struct message *m)
{
    (void)at;
    return take_ref(d, row, &m->revoke.ref) && take_token(d, &m->revoke.token) ? TAKE : BAD;
}

static enum verdict take_report_ack(struct decoder *d, size_t row, size_t at, struct message *m)
{
    (void)at;
    return take_ref(d, row, &m->report_ack.ref) ? TAKE : BAD;
}

static enum verdict take_drain(struct decoder *d, size_t row, size_t at, struct message *m)
{
    (void)row;
    m->drain.on = d->in->drain_on[at] != 0;
    return TAKE;
}

static enum verdict take_log_read(struct decoder *d, size_t row, size_t at, struct message *m)
{
    const Rota__LogRead *in = d->in->log_read[at];
    m->log_read.request = in->request;
    m->log_read.stream = in->stream;
    m->log_read.offset = in->offset;
    m->log_read.bytes_max = in->bytes_max;
    m->log_read.wait_ms = in->wait_ms;
    return take_ref(d, row, &m->log_read.ref) && in->stream <= 1 && in->wait_ms >= 0 ? TAKE : BAD;
}

static enum verdict take_log_chunk(struct decoder *d, size_t row, size_t at, struct message *m)
{
    const Rota__LogChunk *in = d->in->log_chunk[at];
    m->log_chunk.request = in->request;
    m->log_chunk.stream = in->stream;
    m->log_chunk.offset = in->offset;
    m->log_chunk.data = bytes_from(&in->data);
    m->log_chunk.ended = in->ended != 0;
    m->log_chunk.unknown = in->unknown != 0;
    return take_ref(d, row, &m->log_chunk.ref) && in->stream <= 1 && in->data.len <= WIRE_LOG_MAX ? TAKE : BAD;
}

static enum verdict take_usage(struct decoder *d, size_t row, size_t at, struct message *m)
{
    m->usage.series = bytes_from(&d->in->usage[at]);
    return take_ref(d, row, &m->usage.ref) && m->usage.series.size <= USAGE_BYTES_MAX ? TAKE : BAD;
}

static enum verdict take_note(struct decoder *d, size_t row, size_t at, struct message *m)
{
    m->note.text = bytes_from(&d->in->note[at]);
    return take_ref(d, row, &m->note.ref) && m->note.text.size <= WIRE_TEXT_MAX ? TAKE : BAD;
}

static enum verdict take_node_report(struct decoder *d, size_t row, size_t at, struct message *m)
{
    const Rota__NodeReport *in = d->in->node_report[at];
    (void)row;
    if (in->name.len > WIRE_TEXT_MAX || in->enforces.len > WIRE_TEXT_MAX || (in->n_pressure && in->n_pressure != PRESSURES))
        return BAD;
    m->node_report.name = bytes_from(&in->name);
    m->node_report.enforces = bytes_from(&in->enforces);
    m->node_report.disk_bytes = in->disk_bytes;
    m->node_report.disk_free_bytes = in->disk_free_bytes;
    m->node_report.gpus = in->gpus;
    m->node_report.gpu_used_milli = in->gpu_used_milli;
    m->node_report.gpu_mem_used_bytes = in->gpu_mem_used_bytes;
    m->node_report.gpu_mem_bytes = in->gpu_mem_bytes;
    m->node_report.has_pressure = in->n_pressure != 0;
    for (size_t i = 0; i < PRESSURES; i++)
        m->node_report.pressure[i] = in->n_pressure ? in->pressure[i] : 0;
    return TAKE;
}

static enum verdict (*const takers[MSG_KINDS])(struct decoder *, size_t row, size_t at, struct message *) = {
    [MSG_HELLO] = take_hello,           [MSG_HEARTBEAT] = take_heartbeat, [MSG_INVENTORY] = take_inventory_message,
    [MSG_STARTED] = take_started,       [MSG_FINISHED] = take_finished,   [MSG_NEVER_STARTED] = take_never_started,
    [MSG_GOODBYE] = take_goodbye,       [MSG_WELCOME] = take_welcome,     [MSG_HEARTBEAT_ACK] = take_heartbeat_ack,
    [MSG_START] = take_start,           [MSG_KILL] = take_kill,           [MSG_REVOKE] = take_revoke,
    [MSG_REPORT_ACK] = take_report_ack, [MSG_DRAIN] = take_drain,         [MSG_GO_AWAY] = take_go_away,
    [MSG_LOG_READ] = take_log_read,     [MSG_LOG_CHUNK] = take_log_chunk, [MSG_USAGE] = take_usage,
    [MSG_NODE_REPORT] = take_node_report, [MSG_NOTE] = take_note,
};

/* --- checks of the whole, before the first message is read --- */

/* Every list and column has as many entries as there are messages of its kind, so that the takers may index them. */
static const char *counts_wrong(const Rota__Batch *in, const size_t count[MSG_KINDS])
{
    const struct {
        size_t have, need;
    } lists[] = {
        { in->n_hello, count[MSG_HELLO] },
        { in->n_heartbeat, count[MSG_HEARTBEAT] },
        { in->n_inventory, count[MSG_INVENTORY] },
        { in->n_never_started, count[MSG_NEVER_STARTED] },
        { in->n_welcome, count[MSG_WELCOME] },
        { in->n_heartbeat_ack, count[MSG_HEARTBEAT_ACK] },
        { in->n_go_away, count[MSG_GO_AWAY] },
        { in->n_log_read, count[MSG_LOG_READ] },
        { in->n_log_chunk, count[MSG_LOG_CHUNK] },
        { in->n_usage, count[MSG_USAGE] },
        { in->n_node_report, count[MSG_NODE_REPORT] },
        { in->n_note, count[MSG_NOTE] },
        { in->n_token, 2 * (count[MSG_START] + count[MSG_STARTED] + count[MSG_FINISHED] + count[MSG_NEVER_STARTED] +
                            count[MSG_KILL] + count[MSG_REVOKE]) },
    };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (lists[i].have != lists[i].need)
            return "a list is not as long as there are messages of its kind";
    if (!COLUMN_FITS(in, kill_grace_ms, count[MSG_KILL]) || !COLUMN_FITS(in, drain_on, count[MSG_DRAIN]) ||
        !COLUMN_FITS(in, started_inventory_seq, count[MSG_STARTED]))
        return "a column is not as long as there are messages of its kind";
    return NULL;
}

static const char *finished_wrong(const Rota__Finished *in, size_t count)
{
    if (!in)
        return count ? "FINISHED without results" : NULL;
    if (!COLUMN_FITS(in, reason, count) || !COLUMN_FITS(in, exit_code, count) || !COLUMN_FITS(in, signal, count) ||
        !COLUMN_FITS(in, run_ms, count) || !COLUMN_FITS(in, cpu_ms, count) || !COLUMN_FITS(in, rss_max_bytes, count) ||
        !COLUMN_FITS(in, stdout_bytes, count) || !COLUMN_FITS(in, stderr_bytes, count) ||
        !COLUMN_FITS(in, flags, count))
        return "a column of results is not as long as there are FINISHED";
    for (size_t i = 0; i < in->n_tails; i++) {
        const Rota__Tail *tail = in->tails[i];
        if (tail->at >= count || (i && tail->at <= in->tails[i - 1]->at))
            return "an output tail belongs to no FINISHED";
        if (tail->stdout_tail.len > ATTEMPT_TAIL_BYTES || tail->stderr_tail.len > ATTEMPT_TAIL_BYTES)
            return "an output tail is too long";
    }
    return NULL;
}

static const char *starts_wrong(struct decoder *d, const Rota__Starts *in, size_t count)
{
    if (!in)
        return count ? "START without terms" : NULL;
    if (!COLUMN_FITS(in, index, count) || !COLUMN_FITS(in, terms, count) || !COLUMN_FITS(in, spec, count))
        return "a column of starts is not as long as there are START";
    for (size_t i = 0; i < in->n_all_specs; i++)
        if (in->all_specs[i].len > RECORD_SPEC_MAX)
            return "a job spec is too long";
    if (in->n_all_terms > count)
        return "more terms than START";
    struct resources *needs = arena_alloc(d->arena, in->n_all_terms * sizeof *needs);
    const struct named_resource **named = arena_alloc(d->arena, in->n_all_terms * sizeof *named);
    for (size_t i = 0; i < in->n_all_terms; i++) {
        const Rota__Terms *terms = in->all_terms[i];
        if (!take_resources(terms->need, terms->n_need, &needs[i]) ||
            !take_named(d, terms->named, terms->n_named, &named[i]))
            return "resources that cannot be";
        if (terms->time_limit_ms < 0 || terms->grace_ms < 0 || terms->start_ttl_ms < 0)
            return "a negative duration";
    }
    d->needs = needs;
    d->named = named;
    return NULL;
}

static const char *batch_wrong(struct decoder *d)
{
    const Rota__Batch *in = d->in;
    size_t rows = in->n_kind, count[MSG_KINDS] = { 0 };
    if (in->cluster.len != sizeof((struct wire_head *)0)->cluster)
        return "the cluster id is not 16 bytes";
    if (!COLUMN_FITS(in, job, rows) || !COLUMN_FITS(in, task, rows) || !COLUMN_FITS(in, attempt, rows))
        return "a column is not as long as there are messages";
    for (size_t row = 0; row < rows; row++)
        if (in->kind[row] < MSG_KINDS)
            count[in->kind[row]]++;
    if (count[MSG_NONE])
        return "a message without a kind";
    const char *wrong = counts_wrong(in, count);
    if (!wrong)
        wrong = finished_wrong(in->finished, count[MSG_FINISHED]);
    return wrong ? wrong : starts_wrong(d, in->starts, count[MSG_START]);
}

/* Output tails are sparse: they are put into the FINISHED they belong to as these come by. */
static void take_tail(const Rota__Finished *in, size_t *tail, size_t at, struct message *m)
{
    if (*tail == in->n_tails || in->tails[*tail]->at != at)
        return;
    m->finished.stdout_tail = bytes_from(&in->tails[*tail]->stdout_tail);
    m->finished.stderr_tail = bytes_from(&in->tails[*tail]->stderr_tail);
    (*tail)++;
}

static int take_messages(struct decoder *d, struct wire_batch *out, struct err *err)
{
    size_t rows = d->in->n_kind, tail = 0;
    struct message *list = arena_alloc(d->arena, rows * sizeof *list), *m = list;
    for (size_t row = 0; row < rows; row++) {
        uint32_t kind = d->in->kind[row];
        if (kind >= MSG_KINDS) {
            out->skipped++;
            continue;
        }
        size_t at = d->next[kind]++;
        m->kind = (enum message_kind)kind;
        enum verdict verdict = takers[kind](d, row, at, m);
        if (verdict == BAD)
            return err_set(err, ERR_CORRUPT, "message %zu of the batch, a %s, has values that cannot be", row,
                           message_name(m->kind));
        if (kind == MSG_FINISHED)
            take_tail(d->in->finished, &tail, at, m);
        if (verdict == TAKE)
            m++;
        else
            out->skipped++;
    }
    out->messages = list;
    out->count = (size_t)(m - list);
    return 0;
}

int wire_decode(struct arena *arena, struct bytes body, struct wire_batch *out, struct err *err)
{
    if (body.size > WIRE_BATCH_MAX)
        return err_set(err, ERR_TOO_LARGE, "a batch of %zu bytes; at most %u are allowed", body.size, WIRE_BATCH_MAX);
    struct limited limited = { arena, MEMORY_MIN + MEMORY_PER_BYTE * body.size, false };
    ProtobufCAllocator allocator = { limited_alloc, limited_free, &limited };
    const Rota__Batch *in = rota__batch__unpack(&allocator, body.size, (const uint8_t *)(body.data ? body.data : ""));
    if (!in)
        return limited.exceeded ? err_set(err, ERR_TOO_LARGE, "a batch that takes too much memory to unpack")
                                : err_set(err, ERR_CORRUPT, "a batch that is no valid protobuf");
    if (in->n_kind > WIRE_MESSAGES_MAX)
        return err_set(err, ERR_TOO_LARGE, "a batch of %zu messages; at most %u are allowed", in->n_kind,
                       WIRE_MESSAGES_MAX);
    struct decoder d = { .arena = arena, .in = in };
    const char *wrong = batch_wrong(&d);
    if (wrong)
        return err_set(err, ERR_CORRUPT, "a batch with %s", wrong);
    struct wire_batch batch = { .head = {
                                    .epoch = in->epoch,
                                    .session = in->session,
                                    .worker = { .high = in->worker_high, .low = in->worker_low },
                                    .incarnation = in->incarnation,
                                } };
    memcpy(batch.head.cluster, in->cluster.data, sizeof batch.head.cluster);
    int rc = take_messages(&d, &batch, err);
    if (rc == 0)
        *out = batch;
    return rc;
}
