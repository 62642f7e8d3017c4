/* Queues, users, accounts and tokens: what is set of them, what they have, and changing it. */
#include <inttypes.h>
#include <math.h>

#include "base/parse.h"
#include "core/policy/order.h"
#include "master/body.h"
#include "master/master_int.h"

static const char *const kind_words[] = {
    [PARTY_QUEUE] = "queue", [PARTY_USER] = "user", [PARTY_ACCOUNT] = "account", [PARTY_TOKEN] = "token"
};

/* --- telling --- */

static void limit_json(struct json_out *j, const char *key, uint64_t most, unsigned unit)
{
    if (most == LIMIT_NONE)
        json_null(j, key);
    else if (unit > 1)
        json_num(j, key, (double)most / unit, 3);
    else
        json_u64(j, key, most);
}

static unsigned unit_of(enum limit limit)
{
    return limit == LIMIT_CPUS || limit == LIMIT_GPUS ? 1000 : 1;
}

static void held_json(struct json_out *j, const struct party_view *v)
{
    json_open(j, "held", '{');
    json_u64(j, "running", v->held.attempts);
    json_num(j, "cpus", (double)v->held.resources.v[RES_CPU] / 1000, 3);
    json_u64(j, "mem_bytes", v->held.resources.v[RES_MEM]);
    json_num(j, "gpus", (double)v->held.resources.v[RES_GPU] / 1000, 3);
    json_close(j, '}');
}

static void share_json(struct json_out *j, const struct party_view *v)
{
    json_num(j, "weight", v->weight, 3);
    json_num(j, "target_share", v->target, 6);
    json_num(j, "used_share", v->used, 6);
    json_num(j, "had", v->had_share, 6);
    json_num(j, "held_now", v->held_share, 6);
}

static void party_json(struct json_out *j, const struct party_view *v)
{
    const struct party_settings *set = &v->settings;
    json_cstr(j, "kind", kind_words[v->kind]);
    json_str(j, "name", v->name);
    json_bool(j, "set", v->set);
    if (v->kind == PARTY_TOKEN) {
        json_u64(j, "total", set->total);
        json_u64(j, "taken", v->held.attempts);
        return;
    }
    json_open(j, "limits", '{');
    for (int l = 0; l < LIMITS; l++)
        limit_json(j, limit_name((enum limit)l), v->limits.most[l], unit_of((enum limit)l));
    json_close(j, '}');
    held_json(j, v);
    json_u64(j, "waiting", v->waiting);
    if (set->weight_milli)
        json_num(j, "weight", (double)set->weight_milli / 1000, 3);
    else
        json_null(j, "weight");
    if (v->kind == PARTY_QUEUE) {
        json_cstr(j, "order", set->order < ORDERS ? orders[set->order].name : NULL);
        json_i64(j, "priority", set->priority);
        json_bool(j, "paused", set->paused);
        json_bytes(j, "reason", set->reason);
    }
    if (v->kind == PARTY_ACCOUNT) {
        json_bytes(j, "parent", set->parent);
    }
}

void party_settings_json(struct master *m, struct json_out *j, enum party_kind kind, struct bytes name)
{
    struct party_view v = { .kind = kind, .name = name, .limits = limits_none };
    party_settings_default(&v.settings);
    sched_view_party_named(m->sched, kind, name, &v);
    party_json(j, &v);
}

/* Those that are set, and of users and accounts those that have or want anything. */
static void parties_json(struct master *m, struct json_out *j, const char *key, enum party_kind kind)
{
    json_open(j, key, '[');
    for (size_t i = 0; i < sched_view_parties(m->sched, kind); i++) {
        struct party_view v;
        sched_view_party(m->sched, kind, (uint32_t)i, &v);
        if (!v.set && (kind == PARTY_TOKEN || (!v.held.attempts && !v.waiting)))
            continue;
        json_open(j, NULL, '{');
        party_json(j, &v);
        json_close(j, '}');
    }
    json_close(j, ']');
}

void api_limits_list(struct exchange *x)
{
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    parties_json(x->m, &j, "queues", PARTY_QUEUE);
    parties_json(x->m, &j, "users", PARTY_USER);
    parties_json(x->m, &j, "accounts", PARTY_ACCOUNT);
    parties_json(x->m, &j, "tokens", PARTY_TOKEN);
    json_close(&j, '}');
    exchange_json(x, 200);
}

/* Whoever has had, has or wants something: shares beside targets. */
static void shares_json(struct master *m, struct json_out *j, enum party_kind kind)
{
    for (size_t i = 0; i < sched_view_parties(m->sched, kind); i++) {
        struct party_view v;
        sched_view_party(m->sched, kind, (uint32_t)i, &v);
        if (!v.set && !v.held.attempts && !v.waiting && v.had_share < 1e-6)
            continue;
        json_open(j, NULL, '{');
        if (kind == PARTY_QUEUE) {
            json_str(j, "queue", v.name);
        } else {
            json_str(j, "account", v.name);
            if (kind == PARTY_ACCOUNT && v.settings.parent.size)
                json_str(j, "parent", v.settings.parent);
            else
                json_null(j, "parent");
            if (kind == PARTY_MEMBER)
                json_str(j, "user", v.user);
            else
                json_null(j, "user");
        }
        share_json(j, &v);
        held_json(j, &v);
        json_u64(j, "waiting", v.waiting);
        json_close(j, '}');
    }
}

void api_shares_list(struct exchange *x)
{
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    json_num(&j, "half_life_s", (double)x->m->sched_config.half_life_ms / 1000, 3);
    json_open(&j, "accounts", '[');
    shares_json(x->m, &j, PARTY_ACCOUNT);
    json_close(&j, ']');
    json_open(&j, "users", '[');
    shares_json(x->m, &j, PARTY_MEMBER);
    json_close(&j, ']');
    json_open(&j, "queues", '[');
    shares_json(x->m, &j, PARTY_QUEUE);
    json_close(&j, ']');
    json_close(&j, '}');
    exchange_json(x, 200);
}

static void show(struct exchange *x, enum party_kind kind)
{
    struct party_view v;
    struct err err;
    if (!sched_view_party_named(x->m->sched, kind, bytes_str(x->arg), &v)) {
        err_field(&err, ERR_NOT_FOUND, "name", "rota limit and rota queues list those there are", "there is no %s \"%s\"",
                  kind_words[kind], x->arg);
        exchange_error(x, &err);
        return;
    }
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    party_json(&j, &v);
    json_close(&j, '}');
    exchange_json(x, 200);
}

void api_queue_show(struct exchange *x) { show(x, PARTY_QUEUE); }
void api_limit_user_show(struct exchange *x) { show(x, PARTY_USER); }
void api_limit_account_show(struct exchange *x) { show(x, PARTY_ACCOUNT); }
void api_limit_token_show(struct exchange *x) { show(x, PARTY_TOKEN); }

/* --- changing --- */

enum { F_RUNNING, F_CPUS, F_MEM, F_GPUS, F_PENDING, F_SUBMITS, F_WEIGHT, F_ORDER, F_PRIORITY, F_PAUSED, F_REASON, F_PARENT,
       F_TOTAL, FIELDS };
_Static_assert((int)F_SUBMITS == (int)LIMIT_SUBMITS, "limits come first, in their order");

#define MANY 1000000000000000
static const struct body_field all_fields[FIELDS] = {
    [F_RUNNING] = { .name = "running", .type = BODY_INTEGER, .nullable = true, .max = MANY },
    [F_CPUS] = { .name = "cpus", .type = BODY_MILLI, .nullable = true, .max = MANY },
    [F_MEM] = { .name = "mem_bytes", .type = BODY_INTEGER, .nullable = true, .max = INT64_MAX / 2 },
    [F_GPUS] = { .name = "gpus", .type = BODY_MILLI, .nullable = true, .max = MANY },
    [F_PENDING] = { .name = "pending", .type = BODY_INTEGER, .nullable = true, .max = MANY },
    [F_SUBMITS] = { .name = "submits_per_minute", .type = BODY_INTEGER, .nullable = true, .min = 1, .max = 1000000000 },
    [F_WEIGHT] = { .name = "weight", .type = BODY_MILLI, .nullable = true, .min = 1, .max = WEIGHT_MILLI_MAX },
    [F_ORDER] = { .name = "order", .type = BODY_TEXT, .nullable = true, .max = 32 },
    [F_PRIORITY] = { .name = "priority", .type = BODY_INTEGER, .min = -1000000, .max = 1000000 },
    [F_PAUSED] = { .name = "paused", .type = BODY_BOOL },
    [F_REASON] = { .name = "reason", .type = BODY_TEXT, .nullable = true, .max = 256 },
    [F_PARENT] = { .name = "parent", .type = BODY_TEXT, .nullable = true, .max = 64 },
    [F_TOTAL] = { .name = "total", .type = BODY_INTEGER, .max = TOKEN_TOTAL_MAX },
};

static bool field_of(enum party_kind kind, int field)
{
    switch (kind) {
    case PARTY_QUEUE: return field <= F_REASON;
    case PARTY_USER: return field <= F_WEIGHT;
    case PARTY_ACCOUNT: return field <= F_WEIGHT || field == F_PARENT;
    default: return field == F_TOTAL;
    }
}

static int order_from(const struct body_field *f, enum order_kind *order, struct err *err)
{
    int place = f->null ? ORDERS : parse_choice(f->text, ORDER_WORDS);
    if (place >= 0) {
        *order = (enum order_kind)place;
        return 0;
    }
    return err_field(err, ERR_INVALID, "order", "write one of " ORDER_WORDS ", or null for the master's", "there is no order \"%.32s\"",
                     f->text.data);
}

/* What is given replaces what was set; null takes it away. */
static int overlay(struct party_settings *set, const struct body_field fields[FIELDS], struct err *err)
{
    for (int l = 0; l < LIMITS; l++)
        if (fields[l].given)
            set->limits.most[l] = fields[l].null ? LIMIT_NONE : (uint64_t)fields[l].integer;
    if (fields[F_WEIGHT].given)
        set->weight_milli = fields[F_WEIGHT].null ? 0 : (uint64_t)fields[F_WEIGHT].integer;
    if (fields[F_ORDER].given && order_from(&fields[F_ORDER], &set->order, err) < 0)
        return -(int)err->code;
    if (fields[F_PRIORITY].given)
        set->priority = fields[F_PRIORITY].integer;
    if (fields[F_PAUSED].given) {
        set->paused = fields[F_PAUSED].integer != 0;
        set->reason = bytes_of("", 0); /* That of the last time. */
    }
    if (fields[F_REASON].given)
        set->reason = fields[F_REASON].null ? bytes_of("", 0) : fields[F_REASON].text;
    if (fields[F_PARENT].given)
        set->parent = fields[F_PARENT].null ? bytes_of("", 0) : fields[F_PARENT].text;
    if (fields[F_TOTAL].given)
        set->total = (uint64_t)fields[F_TOTAL].integer;
    return 0;
}

static int read_settings(struct exchange *x, enum party_kind kind, struct party_settings *set, struct err *err)
{
    struct body_field some[FIELDS], fields[FIELDS] = { 0 };
    size_t count = 0;
    for (int i = 0; i < FIELDS; i++)
        if (field_of(kind, i))
            some[count++] = all_fields[i];
    int rc = body_read(&x->m->turn, buf_bytes(&x->body), some, count, err);
    if (rc < 0)
        return rc;
    for (int i = 0, k = 0; i < FIELDS; i++)
        if (field_of(kind, i))
            fields[i] = some[k++];
    return overlay(set, fields, err);
}

static void set(struct exchange *x, enum party_kind kind)
{
    struct party_settings settings;
    struct party_view v;
    struct err err;
    struct bytes name = bytes_str(x->arg);
    party_settings_default(&settings);
    if (sched_view_party_named(x->m->sched, kind, name, &v))
        settings = v.settings;
    if (!parse_name_ok(name, 64)) {
        err_field(&err, ERR_INVALID, "name", "use 1 to 64 bytes of printable UTF-8", "this is not the name of a %s", kind_words[kind]);
        exchange_error(x, &err);
        return;
    }
    if (read_settings(x, kind, &settings, &err) < 0) {
        exchange_error(x, &err);
        return;
    }
    struct sched_event ev = { .kind = SCHED_SET };
    ev.set.kind = kind;
    ev.set.name = name;
    ev.set.actor = bytes_str(x->who->user);
    ev.set.settings = &settings;
    struct sched_result result;
    master_step(x->m, &ev, &result);
    if (result.err.code) {
        exchange_error(x, &result.err);
        return;
    }
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    party_settings_json(x->m, &j, kind, name);
    json_bool(&j, "changed", result.changed);
    json_close(&j, '}');
    exchange_json(x, 200);
}

void api_queue_set(struct exchange *x) { set(x, PARTY_QUEUE); }
void api_limit_user_set(struct exchange *x) { set(x, PARTY_USER); }
void api_limit_account_set(struct exchange *x) { set(x, PARTY_ACCOUNT); }
void api_limit_token_set(struct exchange *x) { set(x, PARTY_TOKEN); }
