#include <math.h>
#include <stdio.h>

#include "base/check.h"
#include "base/parse.h"
#include "io/clock.h"
#include "wire/json_out.h"
#include "wire/spec.h"
#include "wire/spec_walk.h"

#define FIELD_BYTES sizeof(((struct err *)0)->field)

/* --- reading --- */

void spec_walk_fault(struct spec_walk *w, const struct json_value *at, const struct err *fault)
{
    struct err e = *fault;
    spec_harmless(e.field);
    spec_harmless(e.text);
    spec_harmless(e.remedy);
    w->faults++;
    w->fault(w->fault_arg, at->line, at->column, &e);
}

/* Where in the job a value stands: base, base[index], base.sub or base[index].sub. */
struct where {
    const struct json_value *at;
    const char *base;
    size_t index;     /* SIZE_MAX: none */
    struct bytes sub; /* size 0: none */
};

struct field {
    char text[FIELD_BYTES];
};

static struct field field_of(const struct where *where)
{
    struct field f;
    size_t shown = where->sub.size > 40 ? 40 : where->sub.size;
    const char *dot = where->sub.size ? "." : "";
    if (where->index == SIZE_MAX)
        snprintf(f.text, sizeof f.text, "%.30s%s%.*s", where->base, dot, (int)shown, shown ? where->sub.data : "");
    else
        snprintf(f.text, sizeof f.text, "%.30s[%u]%s%.*s", where->base, (unsigned)where->index, dot, (int)shown,
                 shown ? where->sub.data : "");
    return f;
}

static struct where where_key(const struct json_value *at, const char *base)
{
    return (struct where){ .at = at, .base = base, .index = SIZE_MAX };
}

static struct where where_item(const struct json_value *at, const char *base, size_t index)
{
    return (struct where){ .at = at, .base = base, .index = index };
}

/* A member of the map at `outer`. */
static struct where where_sub(const struct json_value *at, const struct where *outer, struct bytes name)
{
    return (struct where){ .at = at, .base = outer->base, .index = outer->index, .sub = name };
}

static void __attribute__((format(printf, 4, 5)))
fault(struct spec_walk *w, const struct where *where, const char *remedy, const char *fmt, ...)
{
    struct err e;
    char text[sizeof e.text];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    err_field(&e, ERR_INVALID, field_of(where).text, remedy, "%s", text);
    spec_walk_fault(w, where->at, &e);
}

/* The value is of another type than it must be. */
static bool wrong_type(struct spec_walk *w, const struct where *where, const char *must, const char *remedy)
{
    const struct json_value *v = where->at;
    if (v->kind == JSON_KIND_NULL)
        fault(w, where, "write a value, or leave the key out", "%s has no value", field_of(where).text);
    else if (v->plain && v->text.size > 15 && strspn(v->text.data, "-0123456789_") == v->text.size)
        fault(w, where, "write a smaller number", "%s is beyond all bounds", field_of(where).text);
    else
        fault(w, where, remedy, "%s must be %s, not %s", field_of(where).text, must, json_kind_text(v->kind));
    return false;
}

/* Text; in YAML also a number, true or false without quotes, exactly as written. */
static bool read_text(struct spec_walk *w, const struct where *where, const char *must, const char *remedy,
                      struct bytes *out)
{
    const struct json_value *v = where->at;
    bool written = v->plain && (v->kind == JSON_KIND_INTEGER || v->kind == JSON_KIND_REAL || v->kind == JSON_KIND_BOOL);
    if (v->kind != JSON_KIND_TEXT && !written)
        return wrong_type(w, where, must, remedy);
    *out = v->text;
    return true;
}

static const char *number_remedy(const struct json_value *v)
{
    return v->kind == JSON_KIND_TEXT && !v->plain ? "write the number without quotes" : "write a number such as 4";
}

static bool read_integer(struct spec_walk *w, const struct spec_key *key, const struct where *where, int64_t *out)
{
    if (where->at->kind != JSON_KIND_INTEGER)
        return wrong_type(w, where, spec_type_text(key->type), number_remedy(where->at));
    int64_t value = where->at->integer;
    if (value < key->min || value > key->max) {
        bool low = value < key->min;
        if (value == key->fallback && key->fallback < key->min) {
            *out = value;
            return true;
        }
        fault(w, where, NULL, "%s must be %s %lld, not %lld", field_of(where).text, low ? "at least" : "at most",
              (long long)(low ? key->min : key->max), (long long)value);
        return false;
    }
    *out = value;
    return true;
}

/* A number kept in thousandths. */
static bool read_thousandths(struct spec_walk *w, const struct spec_key *key, const struct where *where, int64_t *out)
{
    const struct json_value *v = where->at;
    if (v->kind == JSON_KIND_INTEGER) {
        int64_t whole = 0;
        if (!read_integer(w, key, where, &whole))
            return false;
        *out = whole * 1000;
        return true;
    }
    if (v->kind != JSON_KIND_REAL)
        return wrong_type(w, where, spec_type_text(key->type), number_remedy(v));
    if (v->real < (double)key->min || v->real > (double)key->max) {
        bool low = v->real < (double)key->min;
        fault(w, where, NULL, "%s must be %s %lld %s", field_of(where).text, low ? "at least" : "at most",
              (long long)(low ? key->min : key->max), key->type == SPEC_DURATION ? "s" : key->unit);
        return false;
    }
    double thousandths = v->real * 1000;
    if (fabs(thousandths - nearbyint(thousandths)) > 1e-6 * fmax(1, fabs(thousandths) * 1e-6)) {
        fault(w, where, "round it to thousandths", "%s has more than three decimals", field_of(where).text);
        return false;
    }
    *out = llround(thousandths);
    return true;
}

/* A parser of base/parse.h refused: its text and remedy, our field. */
static bool refused(struct spec_walk *w, const struct where *where, const struct err *inner)
{
    struct err e = *inner;
    memcpy(e.field, field_of(where).text, sizeof e.field);
    spec_walk_fault(w, where->at, &e);
    return false;
}

static bool read_size(struct spec_walk *w, const struct spec_key *key, const struct where *where, int64_t *out)
{
    struct err e;
    uint64_t bytes = 0;
    /* A bare number would be bytes, and is nearly always meant as something else. */
    if (where->at->kind != JSON_KIND_TEXT)
        return wrong_type(w, where, spec_type_text(key->type),
                          "write a unit, such as 512M; or use the key that ends in _bytes");
    bool mem = key->offset == offsetof(struct job_spec, request.need.v[RES_MEM]), automatic = false;
    int rc = mem ? parse_mem(where->at->text.data, &automatic, &bytes, &e) : parse_size(where->at->text.data, &bytes, &e);
    if (rc < 0)
        return refused(w, where, &e);
    if (bytes > (uint64_t)key->max) {
        fault(w, where, NULL, "%s is too big", field_of(where).text);
        return false;
    }
    *out = (int64_t)bytes;
    return true;
}

static bool read_duration(struct spec_walk *w, const struct spec_key *key, const struct where *where, int64_t *out)
{
    const struct json_value *v = where->at;
    if (v->kind == JSON_KIND_INTEGER || v->kind == JSON_KIND_REAL)
        return read_thousandths(w, key, where, out);
    if (v->kind != JSON_KIND_TEXT)
        return wrong_type(w, where, spec_type_text(key->type), "write 90s, 2h30m or 15days");
    struct err e;
    int64_t ms = 0;
    if (parse_duration(v->text.data, &ms, &e) < 0)
        return refused(w, where, &e);
    bool unset = ms == key->fallback * 1000;
    if (!unset && (ms < key->min * 1000 || ms > key->max * 1000)) {
        fault(w, where, NULL, "%s must be between %lld and %lld seconds", field_of(where).text, (long long)key->min,
              (long long)key->max);
        return false;
    }
    *out = ms;
    return true;
}

static bool read_time(struct spec_walk *w, const struct spec_key *key, const struct where *where, int64_t *out)
{
    struct bytes text = { "", 0 };
    if (!read_text(w, where, spec_type_text(key->type), "write 2026-11-23T10:00:00Z or now+2h", &text))
        return false;
    bool relative = text.size && (text.data[0] == 'n' || text.data[0] == '+' || text.data[0] == '-');
    if (relative && !w->now_wall_ms) {
        fault(w, where, "write it as 2026-11-23T10:00:00Z", "relative times are not understood here");
        return false;
    }
    struct err e;
    if (parse_time(text.data, w->now_wall_ms, out, &e) < 0)
        return refused(w, where, &e);
    if (*out == 0)
        *out = 1; /* 0 says "none" */
    return true;
}

static void read_array(struct spec_walk *w, const struct spec_key *key, const struct where *where,
                       struct job_request *r)
{
    struct bytes text = { "", 0 };
    struct err e;
    uint32_t first, step, count, limit;
    if (!read_text(w, where, spec_type_text(key->type), "write \"1-1000\" or \"1-1000%50\"", &text))
        return;
    if (parse_array(text.data, &first, &step, &count, &limit, &e) < 0) {
        refused(w, where, &e);
        return;
    }
    if (count > ARRAY_TASKS_MAX) {
        fault(w, where, "submit several arrays", "an array of %u tasks is more than %u", count, ARRAY_TASKS_MAX);
        return;
    }
    r->tasks = count;
    r->first = first;
    r->step = step;
    r->limit = limit;
}

/* One of `words`, which are separated by commas; its index, or -1 after a fault. */
static int read_word(struct spec_walk *w, const struct where *where, const char *const *words, size_t count,
                     const char *remedy)
{
    struct bytes text = { "", 0 };
    if (!read_text(w, where, "a word", remedy, &text))
        return -1;
    for (size_t i = 0; i < count; i++)
        if (bytes_equal(text, bytes_str(words[i])))
            return (int)i;
    fault(w, where, remedy, "\"%.40s\" is not known here", text.data);
    return -1;
}

static void read_command(struct spec_walk *w, const struct where *where, struct job_spec *spec)
{
    const struct json_value *v = where->at;
    w->command_refused = true;
    if (v->kind != JSON_KIND_LIST) {
        wrong_type(w, where, "a list of strings",
                   "write [\"program\", \"argument\"], or [\"sh\", \"-c\", \"...\"] for a shell");
        return;
    }
    struct bytes *argv = arena_alloc(w->arena, v->list.count * sizeof *argv);
    for (size_t i = 0; i < v->list.count; i++) {
        struct where item = where_item(&v->list.items[i], where->base, i);
        if (!read_text(w, &item, "text", "write the argument in quotes", &argv[i]))
            return;
    }
    spec->command = argv;
    spec->command_count = v->list.count;
    w->command_refused = false;
}

/* Entries of the map replace those of the same name and follow the others. */
static void read_pairs(struct spec_walk *w, const struct spec_key *key, const struct where *where,
                       const struct spec_pair **pairs, size_t *count)
{
    struct err e;
    const struct json_value *v = where->at;
    if (v->kind != JSON_KIND_MAP) {
        wrong_type(w, where, "a map of strings", "write {NAME: \"value\"}");
        return;
    }
    struct spec_pair *all = arena_alloc(w->arena, (*count + v->map.count) * sizeof *all);
    size_t before = *count, used = before;
    if (before)
        memcpy(all, *pairs, before * sizeof *all);
    for (size_t i = 0; i < v->map.count; i++) {
        const struct json_member *m = &v->map.members[i];
        struct where entry = where_sub(&m->value, where, m->name);
        struct spec_pair pair = { .name = m->name };
        if (!read_text(w, &entry, "text", "write the value in quotes", &pair.value))
            continue;
        if (spec_check_pair(key, &pair, &e) < 0) {
            spec_walk_fault(w, &m->value, &e);
            continue;
        }
        size_t at = 0;
        while (at < before && !bytes_equal(all[at].name, pair.name))
            at++;
        all[at < before ? at : used++] = pair;
    }
    *pairs = all;
    *count = used;
}

static void read_counts(struct spec_walk *w, const struct where *where, const struct named_resource **counts, size_t *count)
{
    const struct json_value *v = where->at;
    if (v->kind != JSON_KIND_MAP) {
        wrong_type(w, where, "a map of whole numbers", "write {licence: 2}");
        return;
    }
    struct named_resource *all = arena_alloc(w->arena, (*count + v->map.count) * sizeof *all);
    size_t before = *count, used = before;
    if (before)
        memcpy(all, *counts, before * sizeof *all);
    for (size_t i = 0; i < v->map.count; i++) {
        const struct json_member *m = &v->map.members[i];
        struct where entry = where_sub(&m->value, where, m->name);
        if (m->value.kind != JSON_KIND_INTEGER) {
            wrong_type(w, &entry, "a whole number", number_remedy(&m->value));
            continue;
        }
        if (m->name.size >= RES_NAME_BYTES || m->value.integer < 1 || m->value.integer > SPEC_COUNT_MAX) {
            fault(w, &entry, NULL,
                  m->name.size >= RES_NAME_BYTES ? "its name has at most 31 bytes"
                                                 : "the amount must be between 1 and 1000000000");
            continue;
        }
        struct named_resource one = { .count = (uint64_t)m->value.integer };
        memcpy(one.name, m->name.data, m->name.size);
        size_t at = 0;
        while (at < before && strcmp(all[at].name, one.name) != 0)
            at++;
        all[at < before ? at : used++] = one;
    }
    *counts = all;
    *count = used;
}

/* outer NULL: at the top of the job. */
static void unknown_key(struct spec_walk *w, const struct where *outer, const struct json_member *m)
{
    struct json_value at = { .kind = JSON_KIND_TEXT, .line = m->line, .column = m->column };
    struct where where = outer ? where_sub(&at, outer, m->name) : where_key(&at, m->name.data);
    const char *near = outer ? NULL : spec_nearest_key(m->name.data);
    char remedy[96] = "the keys of a job are listed in docs/jobfile.md";
    if (near)
        snprintf(remedy, sizeof remedy, "did you mean %s?", near);
    else if (outer)
        snprintf(remedy, sizeof remedy, "%s",
                 outer->index == SIZE_MAX ? "simulate has the keys run_s and exit_code"
                                          : "a dependency has the keys job, name and when");
    else if (bytes_equal(m->name, bytes_str("<<")))
        snprintf(remedy, sizeof remedy, "use defaults: for what all jobs share");
    if (near && strcmp(near, "command") == 0)
        w->command_refused = true;
    fault(w, &where, remedy, "there is no key \"%.60s\"", m->name.data);
}

static const char *const when_words[] = { [AFTER_OK] = "ok", [AFTER_ANY] = "any", [AFTER_FAIL] = "fail" };

/* One item of `after`: {job: 7} or {name: "build"}, and when. */
static bool read_dependency(struct spec_walk *w, const struct where *where, struct after *out,
                            struct spec_after_name *out_name)
{
    const struct json_value *v = where->at, *job = NULL, *name = NULL, *when = NULL;
    if (v->kind != JSON_KIND_MAP)
        return wrong_type(w, where, "a map", "write {job: 7} or {name: build, when: any}");
    for (size_t i = 0; i < v->map.count; i++) {
        const struct json_member *m = &v->map.members[i];
        if (bytes_equal(m->name, bytes_str("job")))
            job = &m->value;
        else if (bytes_equal(m->name, bytes_str("name")))
            name = &m->value;
        else if (bytes_equal(m->name, bytes_str("when")))
            when = &m->value;
        else
            return unknown_key(w, where, m), false;
    }
    if (!job == !name) {
        fault(w, where, "write {job: 7} or {name: build}", "%s must have either job or name", field_of(where).text);
        return false;
    }
    *out = (struct after){ .when = AFTER_OK };
    *out_name = (struct spec_after_name){ .line = v->line, .column = v->column };
    if (when) {
        struct where at = where_sub(when, where, bytes_str("when"));
        int word = read_word(w, &at, when_words, 3, "write ok, fail or any");
        if (word < 0)
            return false;
        out->when = out_name->when = (enum after_when)word;
    }
    if (job) {
        struct where at = where_sub(job, where, bytes_str("job"));
        int64_t id = 0;
        if (!read_integer(w, spec_key_find("after[].", bytes_str("job")), &at, &id))
            return false;
        out->job.n = (uint64_t)id;
        return true;
    }
    struct where at = where_sub(name, where, bytes_str("name"));
    if (!read_text(w, &at, "text", "write the name of a job", &out_name->name))
        return false;
    if (!parse_name_ok(out_name->name, SPEC_NAME_MAX)) {
        fault(w, &at, "write the name of a job", "this is not the name of a job");
        return false;
    }
    if (w->keep_names)
        return true;
    if (!w->job_by_name) {
        fault(w, &at, "give the id of the job; names are for job files that are submitted as one",
              "a job cannot be found by name here");
        return false;
    }
    if (!w->job_by_name(w->arg, out_name->name, &out->job)) {
        fault(w, &at, "name a job that stands before this one", "no job \"%.60s\" stands before this one",
              out_name->name.data);
        return false;
    }
    return true;
}

static void read_after(struct spec_walk *w, const struct where *where, struct job_request *r)
{
    const struct json_value *v = where->at;
    if (v->kind != JSON_KIND_LIST) {
        wrong_type(w, where, "a list of maps", "write [{job: 7}] or [{name: build, when: any}]");
        return;
    }
    struct after *ids = arena_alloc(w->arena, v->list.count * sizeof *ids);
    struct spec_after_name *names = arena_alloc(w->arena, v->list.count * sizeof *names);
    size_t ids_count = 0, names_count = 0;
    for (size_t i = 0; i < v->list.count; i++) {
        struct where item = where_item(&v->list.items[i], where->base, i);
        if (!read_dependency(w, &item, &ids[ids_count], &names[names_count]))
            continue;
        if (ids[ids_count].job.n)
            ids_count++;
        else
            names_count++;
    }
    if (ids_count + names_count > AFTER_MAX)
        fault(w, where, "wait for one job that itself waits for these", "after has more than %u entries", AFTER_MAX);
    r->after = ids;
    r->after_count = ids_count;
    w->names = names;
    w->names_count = names_count;
}

static void read_key(struct spec_walk *w, const struct spec_key *key, const struct where *where, struct job_spec *spec);

static void read_simulate(struct spec_walk *w, const struct where *where, struct job_spec *spec)
{
    const struct json_value *v = where->at;
    if (v->kind != JSON_KIND_MAP) {
        wrong_type(w, where, "a map", "write {run_s: 1.5, exit_code: 0}");
        return;
    }
    for (size_t i = 0; i < v->map.count; i++) {
        const struct json_member *m = &v->map.members[i];
        const struct spec_key *key = spec_key_find("simulate.", m->name);
        if (!key) {
            unknown_key(w, where, m);
            continue;
        }
        struct where sub = where_sub(&m->value, where, m->name);
        read_key(w, key, &sub, spec);
    }
}

static bool read_bool(struct spec_walk *w, const struct spec_key *key, const struct where *where, int64_t *out)
{
    if (where->at->kind != JSON_KIND_BOOL)
        return wrong_type(w, where, spec_type_text(key->type), "write true or false, without quotes");
    *out = where->at->boolean;
    return true;
}

static void read_name(struct spec_walk *w, const struct spec_key *key, const struct where *where, struct job_spec *spec)
{
    struct bytes text = { "", 0 };
    if (!read_text(w, where, spec_type_text(key->type), "write it in quotes", &text))
        return;
    if (text.size == 0)
        fault(w, where, "write a value, or leave the key out", "%s is empty", field_of(where).text);
    else
        *spec_text(key, spec) = text;
}

static void read_overlap(struct spec_walk *w, const struct where *where, struct job_request *r)
{
    static const char *const words[] = { "allow", "never" };
    int word = read_word(w, where, words, 2, "write allow or never");
    if (word >= 0)
        r->overlap_never = word == 1;
}

static const char *const pull_words[] = { [SPEC_PULL_MISSING] = "missing", [SPEC_PULL_ALWAYS] = "always", [SPEC_PULL_NEVER] = "never" };

static bool is_pull(const struct spec_key *key)
{
    return strcmp(key->name, "pull") == 0;
}

static void read_one_word(struct spec_walk *w, const struct spec_key *key, const struct where *where, struct job_spec *spec)
{
    if (!is_pull(key)) {
        read_overlap(w, where, &spec->request);
        return;
    }
    int word = read_word(w, where, pull_words, 3, "write missing, always or never");
    if (word >= 0)
        spec->pull = (enum spec_pull)word;
}

/* What is kept as one number, in the spec's own unit. */
static bool read_number(struct spec_walk *w, const struct spec_key *key, const struct where *where, int64_t *out)
{
    switch (key->type) {
    case SPEC_INTEGER: return read_integer(w, key, where, out);
    case SPEC_BOOL: return read_bool(w, key, where, out);
    case SPEC_SIZE: return read_size(w, key, where, out);
    case SPEC_DURATION: return read_duration(w, key, where, out);
    case SPEC_TIME: return read_time(w, key, where, out);
    default: return read_thousandths(w, key, where, out);
    }
}

static void read_key(struct spec_walk *w, const struct spec_key *key, const struct where *where, struct job_spec *spec)
{
    int64_t number = 0;
    switch (key->type) {
    case SPEC_NAME:
    case SPEC_PATH: read_name(w, key, where, spec); break;
    case SPEC_INTEGER:
    case SPEC_MILLI:
    case SPEC_SECONDS:
    case SPEC_BOOL:
    case SPEC_SIZE:
    case SPEC_DURATION:
    case SPEC_TIME:
        if (read_number(w, key, where, &number))
            spec_store(key, spec, number);
        break;
    case SPEC_WORD: read_one_word(w, key, where, spec); break;
    case SPEC_ARRAY: read_array(w, key, where, &spec->request); break;
    case SPEC_COMMAND: read_command(w, where, spec); break;
    case SPEC_ENV: read_pairs(w, key, where, &spec->env, &spec->env_count); break;
    case SPEC_LABELS: read_pairs(w, key, where, &spec->labels, &spec->labels_count); break;
    case SPEC_COUNTS:
        if (spec_key_tokens(key))
            read_counts(w, where, &spec->request.tokens, &spec->request.tokens_count);
        else
            read_counts(w, where, &spec->request.named, &spec->request.named_count);
        break;
    case SPEC_AFTER: read_after(w, where, &spec->request); break;
    case SPEC_SIMULATE: read_simulate(w, where, spec); break;
    case SPEC_TYPES: check_unreachable();
    }
}

/* The row that stands for a key and all its spellings. */
static size_t canonical_row(const struct spec_key *key)
{
    size_t count;
    const struct spec_key *rows = spec_keys(&count);
    return (size_t)((*key->same_as ? spec_key_find("", bytes_str(key->same_as)) : key) - rows);
}

/* Whichever of its keys a job uses for memory, it replaces what the defaults of its file say of it. */
static void settle_mem_auto(const struct json_value *map, struct job_spec *spec)
{
    const struct json_value *mem = json_in_get(map, "mem");
    bool automatic = false;
    uint64_t bytes;
    struct err unused; /* a size that cannot be read is a fault already */
    if (mem && mem->kind == JSON_KIND_TEXT && parse_mem(mem->text.data, &automatic, &bytes, &unused) == 0 && automatic)
        spec->mem_auto = true;
    else if ((mem || json_in_get(map, "mem_bytes")) && !json_in_get(map, "mem_auto"))
        spec->mem_auto = false;
}

void spec_walk_map(struct spec_walk *w, const struct json_value *map, struct job_spec *spec)
{
    uint64_t seen = 0;
    if (map->kind != JSON_KIND_MAP) {
        struct where where = where_key(map, "");
        w->command_refused = true;
        fault(w, &where, "write {\"command\": [\"program\", \"argument\"]}", "a job must be a map, not %s",
              json_kind_text(map->kind));
        return;
    }
    for (size_t i = 0; i < map->map.count; i++) {
        const struct json_member *m = &map->map.members[i];
        const struct spec_key *key = spec_key_find("", m->name);
        if (!key) {
            unknown_key(w, NULL, m);
            continue;
        }
        struct where where = where_key(&m->value, key->name);
        uint64_t bit = (uint64_t)1 << canonical_row(key);
        if (seen & bit) {
            fault(w, &where, "remove one of them", "%s is given twice, once under another spelling",
                  *key->same_as ? key->same_as : key->name);
            continue;
        }
        seen |= bit;
        read_key(w, key, &where, spec);
    }
    settle_mem_auto(map, spec);
}

/* The value that a field such as "env.PATH" or "command[3]" names, or the nearest one around it. */
static const struct json_value *locate(const struct json_value *map, const char *field)
{
    size_t size = strcspn(field, ".[");
    if (map->kind != JSON_KIND_MAP || !size)
        return map;
    for (size_t i = 0; i < map->map.count; i++) {
        const struct json_member *m = &map->map.members[i];
        const struct spec_key *key = spec_key_find("", m->name);
        bool same = m->name.size == size && memcmp(m->name.data, field, size) == 0;
        bool alias = key && *key->same_as && strlen(key->same_as) == size && memcmp(key->same_as, field, size) == 0;
        if (!same && !alias)
            continue;
        if (field[size] == '.' && m->value.kind == JSON_KIND_MAP) {
            const struct json_value *inner = json_in_get(&m->value, field + size + 1);
            return inner ? inner : &m->value;
        }
        return &m->value;
    }
    return map;
}

void spec_walk_end(struct spec_walk *w, const struct json_value *map, struct job_spec *spec)
{
    struct err e;
    size_t count;
    const struct spec_key *keys = spec_keys(&count);
    spec_complete(w->arena, spec);
    /* What was refused above has its default here, and passes. */
    for (size_t i = 0; i < count; i++) {
        bool skip = keys[i].type == SPEC_COMMAND && w->command_refused;
        if (!skip && spec_key_checked(&keys[i]) && spec_check_key(&keys[i], spec, &e) < 0)
            spec_walk_fault(w, locate(map, e.field), &e);
    }
    if (!w->faults && spec_check_joined(spec, &e) < 0)
        spec_walk_fault(w, locate(map, e.field), &e);
}

struct first_fault {
    struct err *err;
    bool taken;
};

static void take_first(void *arg, uint32_t line, uint32_t column, const struct err *fault)
{
    struct first_fault *first = arg;
    (void)line, (void)column;
    if (first->err && !first->taken)
        *first->err = *fault;
    first->taken = true;
}

int spec_from_json_with(struct arena *arena, struct bytes json, const struct spec_reader *reader, struct job_spec *out,
                        struct err *err)
{
    struct json_value root;
    int rc = json_in_parse(arena, json, NULL, &root, err);
    if (rc < 0)
        return rc;
    struct first_fault first = { .err = err };
    struct spec_walk w = { .arena = arena, .fault = take_first, .fault_arg = &first };
    if (reader) {
        w.now_wall_ms = reader->now_wall_ms;
        w.job_by_name = reader->job_by_name;
        w.arg = reader->arg;
    }
    struct job_spec spec;
    spec_init(&spec);
    spec_walk_map(&w, &root, &spec);
    spec_walk_end(&w, &root, &spec);
    if (w.faults)
        return -(int)ERR_INVALID;
    *out = spec;
    return 0;
}

int spec_from_json(struct arena *arena, struct bytes json, struct job_spec *out, struct err *err)
{
    struct spec_reader reader = { .now_wall_ms = clock_wall_ms() };
    return spec_from_json_with(arena, json, &reader, out, err);
}

/* --- writing --- */

static void write_pairs(struct json_out *j, const char *key, const struct spec_pair *pairs, size_t count)
{
    if (!count)
        return;
    json_open(j, key, '{');
    for (size_t i = 0; i < count; i++)
        json_pair(j, pairs[i].name, pairs[i].value);
    json_close(j, '}');
}

static void write_command(struct json_out *j, const char *key, const struct job_spec *spec)
{
    json_open(j, key, '[');
    for (size_t i = 0; i < spec->command_count; i++)
        json_str(j, NULL, spec->command[i]);
    json_close(j, ']');
}

static void write_counts(struct json_out *j, const char *key, const struct named_resource *counts, size_t count)
{
    if (!count)
        return;
    json_open(j, key, '{');
    for (size_t i = 0; i < count; i++)
        json_u64(j, counts[i].name, counts[i].count);
    json_close(j, '}');
}

static void write_array(struct json_out *j, const char *key, const struct job_request *r)
{
    if (!r->tasks)
        return;
    char text[64];
    int n = snprintf(text, sizeof text, "%u-%u", r->first, r->first + (r->tasks - 1) * r->step);
    if (r->step > 1)
        n += snprintf(text + n, sizeof text - (size_t)n, ":%u", r->step);
    if (r->limit)
        n += snprintf(text + n, sizeof text - (size_t)n, "%%%u", r->limit);
    json_str(j, key, bytes_of(text, (size_t)n));
}

static void write_when(struct json_out *j, enum after_when when)
{
    if (when != AFTER_OK)
        json_cstr(j, "when", when_words[when]);
}

static void write_after(struct json_out *j, const char *key, const struct job_request *r,
                        const struct spec_after_name *names, size_t names_count)
{
    if (!r->after_count && !names_count)
        return;
    json_open(j, key, '[');
    for (size_t i = 0; i < r->after_count; i++) {
        json_open(j, NULL, '{');
        json_u64(j, "job", r->after[i].job.n);
        write_when(j, r->after[i].when);
        json_close(j, '}');
    }
    for (size_t i = 0; i < names_count; i++) {
        json_open(j, NULL, '{');
        json_str(j, "name", names[i].name);
        write_when(j, names[i].when);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void write_simulate(struct json_out *j, const char *key, const struct job_spec *spec)
{
    if (!spec->simulated_ms && !spec->simulated_exit)
        return;
    json_open(j, key, '{');
    if (spec->simulated_ms)
        json_num(j, "run_s", (double)spec->simulated_ms / 1000, 3);
    if (spec->simulated_exit)
        json_i64(j, "exit_code", spec->simulated_exit);
    json_close(j, '}');
}

static void write_number(struct json_out *j, const struct spec_key *key, int64_t value)
{
    int64_t scale = spec_key_scale(key);
    if (value == key->fallback * scale)
        return;
    if (scale == 1)
        json_i64(j, key->name, value);
    else
        json_num(j, key->name, (double)value / (double)scale, 3);
}

static bool text_is_default(const struct spec_key *key, const struct job_spec *spec, struct bytes text)
{
    if (!text.size)
        return true;
    if (key->offset == offsetof(struct job_spec, request.queue))
        return bytes_equal(text, bytes_str("default"));
    if (key->offset == offsetof(struct job_spec, request.account))
        return bytes_equal(text, bytes_str(ACCOUNT_DEFAULT));
    if (key->offset == offsetof(struct job_spec, request.name))
        return bytes_equal(text, spec_default_name(spec));
    return false;
}

static void write_key(struct json_out *j, const struct spec_key *key, const struct job_spec *spec)
{
    switch (key->type) {
    case SPEC_NAME:
    case SPEC_PATH:
        if (!text_is_default(key, spec, *spec_text(key, spec)))
            json_str(j, key->name, *spec_text(key, spec));
        break;
    case SPEC_INTEGER:
    case SPEC_MILLI:
    case SPEC_SECONDS: write_number(j, key, spec_load(key, spec)); break;
    case SPEC_BOOL:
        if (spec_load(key, spec))
            json_bool(j, key->name, true);
        break;
    case SPEC_TIME:
        if (spec_load(key, spec))
            json_time(j, key->name, spec_load(key, spec));
        break;
    case SPEC_WORD:
        if (is_pull(key) && spec->pull)
            json_cstr(j, key->name, pull_words[spec->pull]);
        else if (!is_pull(key) && spec->request.overlap_never)
            json_cstr(j, key->name, "never");
        break;
    case SPEC_COMMAND: write_command(j, key->name, spec); break;
    case SPEC_ENV: write_pairs(j, key->name, spec->env, spec->env_count); break;
    case SPEC_LABELS: write_pairs(j, key->name, spec->labels, spec->labels_count); break;
    case SPEC_COUNTS:
        if (spec_key_tokens(key))
            write_counts(j, key->name, spec->request.tokens, spec->request.tokens_count);
        else
            write_counts(j, key->name, spec->request.named, spec->request.named_count);
        break;
    case SPEC_ARRAY: write_array(j, key->name, &spec->request); break;
    case SPEC_SIMULATE: write_simulate(j, key->name, spec); break;
    case SPEC_AFTER: /* written by write_spec, which knows the names */
    case SPEC_SIZE:
    case SPEC_DURATION:
    case SPEC_TYPES: break;
    }
}

static void write_spec(struct buf *out, const struct job_spec *spec, bool with_name,
                       const struct spec_after_name *names, size_t names_count)
{
    size_t count;
    const struct spec_key *keys = spec_keys(&count);
    struct json_out j = json_out_to(out);
    json_open(&j, NULL, '{');
    for (size_t i = 0; i < count; i++) {
        if (*keys[i].same_as || keys[i].inner)
            continue;
        if (keys[i].type == SPEC_AFTER)
            write_after(&j, keys[i].name, &spec->request, names, names_count);
        else if (with_name && keys[i].offset == offsetof(struct job_spec, request.name))
            json_str(&j, keys[i].name, spec->request.name);
        else
            write_key(&j, &keys[i], spec);
    }
    json_close(&j, '}');
}

void spec_write_line(struct buf *out, const struct job_spec *spec, const struct spec_after_name *names,
                     size_t names_count)
{
    write_spec(out, spec, true, names, names_count);
    buf_char(out, '\n');
}

void spec_to_json(struct buf *out, const struct job_spec *spec)
{
    write_spec(out, spec, false, NULL, 0);
}
