#include "core/model/record.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/check.h"
#include "core/model/states.h"

static const char *const names[EV_KINDS] = {
    [EV_NONE] = "none",
#define EVENT(KIND, kind, name, FIELDS) [EV_##KIND] = name,
    EVENTS(EVENT)
#undef EVENT
};

const char *event_name(enum event_kind kind)
{
    check(kind < EV_KINDS);
    return names[kind];
}

/* --- encoding: one function per field type, one per event kind --- */

static void put_U64(struct buf *out, const uint64_t *v) { buf_varint(out, *v); }
static void put_U32(struct buf *out, const uint32_t *v) { buf_varint(out, *v); }
static void put_I64(struct buf *out, const int64_t *v) { buf_varint(out, zigzag(*v)); }
static void put_STR(struct buf *out, const struct bytes *v)
{
    buf_varint(out, v->size);
    buf_add(out, v->data, v->size);
}
static void put_RES(struct buf *out, const struct resources *v)
{
    int dims = RES_DIMS;
    while (dims > 0 && !v->v[dims - 1])
        dims--;
    buf_varint(out, (uint64_t)dims);
    for (int d = 0; d < dims; d++)
        buf_varint(out, v->v[d]);
}
static void put_MAC(struct buf *out, const struct mac128 *v) { buf_add(out, v, sizeof *v); }

#define PUT(type, field) put_##type(out, &e->field);
#define EVENT(KIND, kind, name, FIELDS)                                                                                \
    static void put_event_##kind(struct buf *out, const struct ev_##kind *e) { FIELDS(PUT) }
EVENTS(EVENT)
#undef EVENT

void record_encode(struct buf *out, const struct record *r)
{
    /* Room for the length is taken from the front afterwards: a record is nearly always shorter than 128 bytes. */
    size_t start = out->size;
    buf_char(out, 0);
    buf_varint(out, r->kind);
    buf_varint(out, r->seq);
    buf_varint(out, zigzag(r->at_wall_ms));
    switch (r->kind) {
#define EVENT(KIND, kind_, name, FIELDS)                                                                               \
    case EV_##KIND:                                                                                                    \
        put_event_##kind_(out, &r->kind_);                                                                             \
        break;
        EVENTS(EVENT)
#undef EVENT
    default:
        check_unreachable();
    }
    size_t body = out->size - start - 1;
    check(body <= RECORD_BYTES_MAX);
    if (body < 128) {
        out->data[start] = (char)body;
        return;
    }
    struct buf length = BUF_INIT;
    buf_varint(&length, body);
    buf_reserve(out, length.size - 1);
    memmove(out->data + start + length.size, out->data + start + 1, body + 1);
    memcpy(out->data + start, length.data, length.size);
    out->size += length.size - 1;
    buf_fini(&length);
}

/* --- decoding --- */

struct reader {
    const uint8_t *at, *end;
    size_t str_max;
    bool bad;
};

static uint64_t take(struct reader *in)
{
    uint64_t v = 0;
    if (in->at == in->end)
        return 0; /* Written before this field existed. */
    if (!varint_read(&in->at, in->end, &v))
        in->bad = true;
    return in->bad ? 0 : v;
}

static void get_U64(struct reader *in, uint64_t *v) { *v = take(in); }
static void get_U32(struct reader *in, uint32_t *v)
{
    uint64_t wide = take(in);
    if (wide > UINT32_MAX)
        in->bad = true;
    *v = (uint32_t)wide;
}
static void get_I64(struct reader *in, int64_t *v) { *v = unzigzag(take(in)); }
static void get_STR(struct reader *in, struct bytes *v)
{
    uint64_t size = take(in);
    *v = (struct bytes){ "", 0 };
    if (in->bad || size > in->str_max || size > (uint64_t)(in->end - in->at)) {
        in->bad = true;
        return;
    }
    if (size)
        *v = bytes_of(in->at, (size_t)size);
    in->at += size;
}
static void get_RES(struct reader *in, struct resources *v)
{
    uint64_t dims = take(in);
    *v = (struct resources){ 0 };
    if (dims > RES_DIMS) {
        in->bad = true;
        return;
    }
    for (uint64_t d = 0; d < dims; d++)
        v->v[d] = take(in);
}
static void get_MAC(struct reader *in, struct mac128 *v)
{
    *v = (struct mac128){ 0, 0 };
    if (in->at == in->end)
        return;
    if ((size_t)(in->end - in->at) < sizeof *v) {
        in->bad = true;
        return;
    }
    memcpy(v, in->at, sizeof *v);
    in->at += sizeof *v;
}

#define GET(type, field) get_##type(in, &e->field);
#define EVENT(KIND, kind, name, FIELDS)                                                                                \
    static void get_event_##kind(struct reader *in, struct ev_##kind *e) { FIELDS(GET) }
EVENTS(EVENT)
#undef EVENT

int record_decode(const uint8_t **at, const uint8_t *end, struct record *out, struct err *err)
{
    uint64_t body;
    if (!varint_read(at, end, &body) || body > RECORD_BYTES_MAX || body > (uint64_t)(end - *at))
        return err_set(err, ERR_CORRUPT, "a record is cut short or longer than it can be");
    struct reader in = { *at, *at + body, RECORD_STR_MAX, false };
    *at += body;
    uint64_t kind = take(&in);
    *out = (struct record){ .kind = EV_NONE };
    out->seq = take(&in);
    out->at_wall_ms = unzigzag(take(&in));
    if (in.bad || kind == EV_NONE || kind >= EV_KINDS)
        return err_set(err, ERR_CORRUPT, "a record is of unknown kind %" PRIu64, kind);
    out->kind = (enum event_kind)kind;
    if (kind == EV_W_ACCEPTED)
        in.str_max = RECORD_SPEC_MAX;
    switch (out->kind) {
#define EVENT(KIND, kind_, name, FIELDS)                                                                               \
    case EV_##KIND:                                                                                                    \
        get_event_##kind_(&in, &out->kind_);                                                                           \
        break;
        EVENTS(EVENT)
#undef EVENT
    default:
        check_unreachable();
    }
    if (in.bad)
        return err_set(err, ERR_CORRUPT, "record %" PRIu64 " (%s) has a field that does not fit", out->seq,
                       names[out->kind]);
    return 0;
}

/* --- visiting --- */

#define VISIT_U64(n, v) if (visitor->u64) visitor->u64(arg, n, v);
#define VISIT_U32(n, v) if (visitor->u64) visitor->u64(arg, n, v);
#define VISIT_I64(n, v) if (visitor->i64) visitor->i64(arg, n, v);
#define VISIT_STR(n, v) if (visitor->str) visitor->str(arg, n, v);
#define VISIT_RES(n, v) if (visitor->res) visitor->res(arg, n, &v);
#define VISIT_MAC(n, v) if (visitor->mac) visitor->mac(arg, n, v);
#define VISIT(type, field) VISIT_##type(#field, e->field)
#define EVENT(KIND, kind, name, FIELDS)                                                                                \
    static void visit_##kind(const struct ev_##kind *e, const struct record_visitor *visitor, void *arg)              \
    {                                                                                                                  \
        FIELDS(VISIT)                                                                                                  \
    }
EVENTS(EVENT)
#undef EVENT

void record_visit(const struct record *r, const struct record_visitor *visitor, void *arg)
{
    switch (r->kind) {
#define EVENT(KIND, kind_, name, FIELDS)                                                                               \
    case EV_##KIND:                                                                                                    \
        visit_##kind_(&r->kind_, visitor, arg);                                                                        \
        break;
        EVENTS(EVENT)
#undef EVENT
    default:
        check_unreachable();
    }
}

static void print_u64(void *arg, const char *name, uint64_t value)
{
    if (strcmp(name, "task") == 0 && value >= TASK_ALL)
        buf_printf(arg, " task=%s", value == TASK_ALL ? "all" : "-");
    else if (strcmp(name, "task") == 0)
        buf_printf(arg, " task=%" PRIu64, value);
    else if (value)
        buf_printf(arg, " %s=%" PRIu64, name, value);
}
static void print_i64(void *arg, const char *name, int64_t value)
{
    if (value)
        buf_printf(arg, " %s=%" PRId64, name, value);
}
static void print_str(void *arg, const char *name, struct bytes value)
{
    if (!value.size)
        return;
    buf_printf(arg, " %s=\"", name);
    for (size_t i = 0; i < value.size && i < 64; i++) {
        unsigned char c = (unsigned char)value.data[i];
        buf_char(arg, c < 32 || c == 127 ? '?' : c == '"' ? '\'' : value.data[i]); /* so that the value has an end */
    }
    buf_char(arg, '"');
}
static void print_res(void *arg, const char *name, const struct resources *value)
{
    buf_printf(arg, " %s=", name);
    for (int d = 0; d < RES_DIMS; d++)
        if (value->v[d] || d < RES_NAMED)
            buf_printf(arg, "%s%" PRIu64, d ? "/" : "", value->v[d]);
}
static void print_mac(void *arg, const char *name, struct mac128 value)
{
    (void)arg;
    (void)name;
    (void)value; /* A secret. */
}

void record_print(struct buf *out, const struct record *r)
{
    static const struct record_visitor printer = { print_u64, print_i64, print_str, print_res, print_mac };
    buf_str(out, event_name(r->kind));
    record_visit(r, &printer, out);
}

enum job_state attempt_final(uint32_t final, uint32_t reason, uint32_t flags)
{
    if (final || !(flags & END_OF_GANG) || reason >= REASONS)
        return final < JOB_STATES ? (enum job_state)final : JOB_NONE;
    if (reason == REASON_NONE)
        return JOB_SUCCEEDED;
    if (reason == REASON_GANG || reason == REASON_CANCELLED)
        return JOB_CANCELLED;
    return reason_infra((enum reason)reason) ? JOB_NONE : JOB_FAILED;
}

struct record_subject record_subject(const struct record *r)
{
    struct record_subject s = { .task = TASK_SINGLE };
#define JOB(e) s.job.n = (e).job
#define ATTEMPT(e) JOB(e), s.task = (e).task, s.attempt = (e).attempt
#define NODE(e) s.node.n = (e).node
    switch (r->kind) {
    case EV_SUBMITTED: JOB(r->submitted); break;
    case EV_HELD: JOB(r->held); break;
    case EV_RELEASED: JOB(r->released); break;
    case EV_UNBLOCKED: JOB(r->unblocked); break;
    case EV_UPDATED: JOB(r->updated); break;
    case EV_GROWN: JOB(r->grown); break;
    case EV_GANG_ENDED: JOB(r->gang_ended); break;
    case EV_ASSIGNED: ATTEMPT(r->assigned), NODE(r->assigned); break;
    case EV_STARTED: ATTEMPT(r->started), NODE(r->started); break;
    case EV_REVOKED:
        ATTEMPT(r->revoked), NODE(r->revoked);
        s.terminal = r->revoked.final;
        break;
    case EV_ENDED:
        ATTEMPT(r->ended), NODE(r->ended);
        s.terminal = r->ended.final;
        break;
    case EV_UNCERTAIN: ATTEMPT(r->uncertain), NODE(r->uncertain); break;
    case EV_RECOVERED: ATTEMPT(r->recovered), NODE(r->recovered); break;
    case EV_RETRY_DUE: JOB(r->retry_due), s.task = r->retry_due.task; break;
    case EV_CANCEL:
        JOB(r->cancel), s.task = r->cancel.task;
        s.terminal = r->cancel.final ? JOB_CANCELLED : 0;
        break;
    case EV_EXPIRED:
        JOB(r->expired);
        s.terminal = r->expired.final ? JOB_EXPIRED : 0;
        break;
    case EV_DEPENDENCY_FAILED: JOB(r->dependency_failed), s.terminal = JOB_FAILED; break;
    case EV_ARRAY_ENDED:
        JOB(r->array_ended), s.terminal = r->array_ended.final, s.whole_job = true;
        s.task = TASK_ALL;
        break;
    case EV_SUPERSEDED: ATTEMPT(r->superseded), NODE(r->superseded); break;
    case EV_NOTIFIED: JOB(r->notified); break;
    case EV_NODE_SEEN: NODE(r->node_seen); break;
    case EV_NODE_STATE: NODE(r->node_state); break;
    case EV_W_ACCEPTED: ATTEMPT(r->w_accepted); break;
    case EV_W_ENDED: ATTEMPT(r->w_ended); break;
    case EV_W_ACKED: ATTEMPT(r->w_acked); break;
    case EV_W_TOMBSTONE: ATTEMPT(r->w_tombstone); break;
    case EV_W_DEVICES: ATTEMPT(r->w_devices); break;
    default: break;
    }
#undef JOB
#undef ATTEMPT
#undef NODE
    if (s.terminal && (s.task == TASK_SINGLE || s.task == TASK_ALL))
        s.whole_job = true;
    return s;
}
