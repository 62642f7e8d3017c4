/* Records as JSON, for the live stream, `rota events` and the archive. One function per type of field, made for each
 * field of schema/events.def: what is said here of a name is settled when compiling. */
#include "wire/wire.h"

#include "base/check.h"
#include "core/model/record.h"
#include "core/model/states.h"
#include "core/sched/sched.h"
#include "wire/json_out.h"

struct names {
    struct record_words words;
    job_id job; /* of the record */
};

#define inline_always static inline __attribute__((always_inline))
#define IS(word) (__builtin_strcmp(name, word) == 0)

inline_always void field_U64(struct json_out *j, enum event_kind kind, const char *name, const uint64_t *v,
                             const struct names *names)
{
    (void)names;
    /* Two random halves of a worker's id: no reader of JSON keeps 64 bits of a number. */
    if (IS("worker_high") || IS("worker_low")) {
        static const char hex[] = "0123456789abcdef";
        char text[16];
        for (int i = 0; i < 16; i++)
            text[i] = hex[*v >> (60 - 4 * i) & 15];
        json_str(j, name, bytes_of(text, sizeof text));
    } else if (kind == EV_SETTINGS && !IS("weight_milli") && !IS("total")) {
        if (*v) /* a limit */
            json_u64(j, name, *v - 1);
        else
            json_null(j, name);
    } else {
        json_u64(j, name, *v);
    }
}

/* There only when the record is about one task of an array. */
static void task(struct json_out *j, const char *name, uint32_t position, const struct names *names)
{
    if (position == TASK_SINGLE || position == TASK_ALL)
        return;
    const struct record_words *w = &names->words;
    uint32_t index = w->index ? w->index(w->arg, names->job, position) : position;
    if (index == TASK_SINGLE)
        json_null(j, name);
    else
        json_u64(j, name, index);
}

inline_always void field_U32(struct json_out *j, enum event_kind kind, const char *name, const uint32_t *v,
                             const struct names *names)
{
    if (IS("task")) {
        task(j, name, *v, names);
    } else if (IS("node")) {
        const char *node = names->words.node && *v ? names->words.node(names->words.arg, *v) : NULL;
        if (node)
            json_cstr(j, name, node);
        else
            json_u64(j, name, *v);
    } else if (IS("rule")) {
        json_cstr(j, name, *v && *v < RULES ? rule_name((enum rule)(*v)) : NULL);
    } else if (IS("reason")) {
        json_cstr(j, name, *v < REASONS ? reason_name((enum reason)(*v)) : NULL);
    } else if (IS("final") && (kind == EV_CANCEL || kind == EV_EXPIRED)) {
        json_bool(j, name, *v != 0);
    } else if (IS("final")) {
        json_cstr(j, name, *v && *v < JOB_STATES ? job_state_name((enum job_state)(*v)) : NULL);
    } else if (IS("state")) {
        json_cstr(j, name, *v < NODE_STATES ? node_state_name((enum node_state)(*v)) : NULL);
    } else if (IS("index")) {
        if (*v != TASK_SINGLE)
            json_u64(j, name, *v);
    } else if (kind == EV_SETTINGS && IS("kind")) {
        static const char *const kinds[] = { "queue", "user", "account", "token" };
        json_cstr(j, name, *v < sizeof kinds / sizeof *kinds ? kinds[*v] : NULL);
    } else if (kind == EV_SETTINGS && IS("order")) {
        json_cstr(j, name, *v && *v <= ORDERS ? orders[*v - 1].name : NULL);
    } else if (IS("overlap")) {
        json_choice(j, name, *v, CRON_OVERLAP_WORDS);
    } else if (IS("missed")) {
        json_choice(j, name, *v, CRON_MISSED_WORDS);
    } else if (IS("passed_for")) {
        json_choice(j, name, *v, CRON_PASS_WORDS);
    } else if (IS("paused")) {
        json_bool(j, name, *v != 0);
    } else if (IS("held") || IS("counted") || IS("running") || IS("never_started") || IS("notify") || IS("overlap_never")) {
        json_bool(j, name, *v != 0);
    } else {
        json_u64(j, name, *v);
    }
}

inline_always void field_I64(struct json_out *j, enum event_kind kind, const char *name, const int64_t *v,
                             const struct names *names)
{
    (void)names;
    if (kind != EV_SUBMITTED || !IS("due_wall_ms") || *v)
        json_i64(j, name, *v);
}

/* Tokens are packed as varints: number, how many; records SETTINGS tell the names, in the order of the numbers. */
static void tokens(struct json_out *j, const char *name, struct bytes packed)
{
    const uint8_t *at = (const uint8_t *)packed.data, *end = at + packed.size;
    uint64_t number, count;
    json_open(j, name, '[');
    while (at < end && varint_read(&at, end, &number) && varint_read(&at, end, &count)) {
        json_open(j, NULL, '{');
        json_u64(j, "number", number);
        json_u64(j, "count", count);
        json_close(j, '}');
    }
    json_close(j, ']');
}

/* Dependencies are packed as varints: job, when, verdict at that time. */
static void after(struct json_out *j, const char *name, struct bytes packed)
{
    static const char *const when_names[] = { "ok", "any", "fail" };
    const uint8_t *at = (const uint8_t *)packed.data, *end = at + packed.size;
    uint64_t job, when, verdict;
    json_open(j, name, '[');
    while (at < end && varint_read(&at, end, &job) && varint_read(&at, end, &when) && varint_read(&at, end, &verdict)) {
        json_open(j, NULL, '{');
        json_u64(j, "job", job);
        json_cstr(j, "when", when < sizeof when_names / sizeof *when_names ? when_names[when] : NULL);
        json_close(j, '}');
    }
    json_close(j, ']');
}

inline_always void field_STR(struct json_out *j, enum event_kind kind, const char *name, const struct bytes *v,
                             const struct names *names)
{
    (void)names;
    if (kind == EV_SUBMITTED && IS("after"))
        after(j, name, *v);
    else if (kind == EV_CLASS && IS("tokens"))
        tokens(j, name, *v);
    else if (IS("spec"))
        json_u64(j, "spec_bytes", v->size); /* no text, or long */
    else if (kind == EV_SUBMITTED && IS("cron")) {
        if (v->size)
            json_str(j, name, *v);
    }
    else
        json_str(j, name, *v);
}

inline_always void field_RES(struct json_out *j, enum event_kind kind, const char *name, const struct resources *v,
                             const struct names *names)
{
    (void)kind, (void)names;
    json_open(j, name, '{');
    json_u64(j, "cpu_milli", v->v[RES_CPU]);
    json_u64(j, "mem_bytes", v->v[RES_MEM]);
    json_u64(j, "gpu_milli", v->v[RES_GPU]);
    int dims = RES_DIMS;
    while (dims > RES_NAMED && !v->v[dims - 1])
        dims--;
    if (dims > RES_NAMED) {
        json_open(j, "named", '['); /* by number: record RESOURCE tells the names */
        for (int d = RES_NAMED; d < dims; d++)
            json_u64(j, NULL, v->v[d]);
        json_close(j, ']');
    }
    json_close(j, '}');
}

inline_always void field_MAC(struct json_out *j, enum event_kind kind, const char *name, const struct mac128 *v,
                             const struct names *names)
{
    (void)j, (void)kind, (void)name, (void)v, (void)names; /* A secret: who knows it can report for the attempt. */
}

#define FIELD(type, field) field_##type(j, kind, #field, &e->field, names);
#define EVENT(KIND, kind_, dotted, FIELDS)                                                                             \
    static void event_##kind_(struct json_out *j, const struct ev_##kind_ *e, const struct names *names)               \
    {                                                                                                                  \
        const enum event_kind kind = EV_##KIND;                                                                        \
        FIELDS(FIELD)                                                                                                  \
    }
EVENTS(EVENT)
#undef EVENT

void wire_record_json(struct buf *out, const struct record *r, const struct record_words *words)
{
    struct json_out j = json_out_to(out);
    struct names names = { .job = record_subject(r).job };
    if (words)
        names.words = *words;
    json_open(&j, NULL, '{');
    json_u64(&j, "seq", r->seq);
    json_time(&j, "at", r->at_wall_ms);
    json_cstr(&j, "event", event_name(r->kind));
    switch (r->kind) {
#define EVENT(KIND, kind, dotted, FIELDS)                                                                              \
    case EV_##KIND:                                                                                                    \
        event_##kind(&j, &r->kind, &names);                                                                            \
        break;
        EVENTS(EVENT)
#undef EVENT
    default:
        check_unreachable();
    }
    json_close(&j, '}');
}
