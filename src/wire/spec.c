#include "wire/spec.h"

#include <stdio.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/parse.h"
#include "core/model/where.h"
#include "wire/spec_walk.h"

#define FIELD(member) offsetof(struct job_spec, member), sizeof(((struct job_spec *)0)->member)

static const struct spec_key keys[] = {
#define ROW(name, type, field, min, max, fallback, fallback_text, unit, same_as, help, inner)                            \
    {                                                                                                                    \
        name, SPEC_##type, min, max, fallback, fallback_text, unit, same_as, help, FIELD(field), sizeof(name) - 1, inner \
    },
#define KEY(...) ROW(__VA_ARGS__, false)
#define INNER(...) ROW(__VA_ARGS__, true)
#include "jobspec.def"
#undef KEY
#undef INNER
#undef ROW
};
#define KEYS (sizeof keys / sizeof *keys)
_Static_assert(KEYS <= SPEC_SAME_ROW_MAX, "a walk marks the rows it has seen in 64 bits");

const struct spec_key *spec_keys(size_t *count)
{
    *count = KEYS;
    return keys;
}

const char *spec_type_text(enum spec_type type)
{
    static const char *const texts[SPEC_TYPES] = {
        [SPEC_NAME] = "text",
        [SPEC_PATH] = "a path",
        [SPEC_WORD] = "a word",
        [SPEC_INTEGER] = "a whole number",
        [SPEC_MILLI] = "a number",
        [SPEC_SECONDS] = "a number of seconds",
        [SPEC_BOOL] = "true or false",
        [SPEC_SIZE] = "a size such as \"512M\"",
        [SPEC_DURATION] = "a duration such as \"2h30m\"",
        [SPEC_TIME] = "a time such as \"2026-11-23T10:00:00Z\"",
        [SPEC_ARRAY] = "an array such as \"1-1000\"",
        [SPEC_COMMAND] = "a list of strings",
        [SPEC_ENV] = "a map of strings",
        [SPEC_LABELS] = "a map of strings",
        [SPEC_COUNTS] = "a map of whole numbers",
        [SPEC_AFTER] = "a list of maps",
        [SPEC_SIMULATE] = "a map",
    };
    check(type < SPEC_TYPES);
    return texts[type];
}

const struct spec_key *spec_key_find(const char *prefix, struct bytes name)
{
    size_t prefix_size = strlen(prefix);
    if (!name.size || memchr(name.data, '.', name.size))
        return NULL;
    for (size_t i = 0; i < KEYS; i++) {
        const char *full = keys[i].name;
        if (keys[i].name_size == prefix_size + name.size && memcmp(full + prefix_size, name.data, name.size) == 0 &&
            memcmp(full, prefix, prefix_size) == 0)
            return &keys[i];
    }
    return NULL;
}

void spec_harmless(char *text)
{
    for (unsigned char *at = (unsigned char *)text; *at; at++) {
        if (*at < 0x20 || *at == 0x7f)
            *at = '?';
        else if (*at == 0xc2 && at[1] >= 0x80 && at[1] <= 0x9f)
            *at = at[1] = '?';
    }
}

const char *spec_nearest_key(const char *name)
{
    const char *best = NULL;
    unsigned best_distance = strlen(name) <= 4 ? 2 : 3; /* at least one further away than what is accepted */
    for (size_t i = 0; i < KEYS; i++) {
        unsigned distance = keys[i].inner ? best_distance : parse_distance(name, keys[i].name);
        if (distance < best_distance) {
            best = keys[i].name;
            best_distance = distance;
        }
    }
    return best;
}

int64_t spec_key_scale(const struct spec_key *key)
{
    return key->type == SPEC_MILLI || key->type == SPEC_SECONDS || key->type == SPEC_DURATION ? 1000 : 1;
}

int64_t spec_load(const struct spec_key *key, const struct job_spec *spec)
{
    const char *at = (const char *)spec + key->offset;
    if (key->size == sizeof(int64_t)) {
        int64_t value;
        memcpy(&value, at, sizeof value);
        return value;
    }
    if (key->size == sizeof(uint32_t)) {
        uint32_t value;
        memcpy(&value, at, sizeof value);
        return value;
    }
    check(key->size == sizeof(bool));
    return *(const bool *)at;
}

void spec_store(const struct spec_key *key, struct job_spec *spec, int64_t value)
{
    char *at = (char *)spec + key->offset;
    if (key->size == sizeof(int64_t)) {
        memcpy(at, &value, sizeof value);
    } else if (key->size == sizeof(uint32_t)) {
        uint32_t small = (uint32_t)value;
        memcpy(at, &small, sizeof small);
    } else {
        check(key->size == sizeof(bool));
        *(bool *)at = value != 0;
    }
}

void spec_init(struct job_spec *spec)
{
    *spec = (struct job_spec){ .request = { .queue = bytes_str("default"), .account = bytes_str(ACCOUNT_DEFAULT), .need.v[RES_CPU] = 1000, .nodes = 1, .step = 1 } };
}

struct bytes spec_default_name(const struct job_spec *spec)
{
    struct bytes name = spec->command_count ? spec->command[0] : bytes_str("");
    for (size_t i = name.size; i > 0; i--) {
        if (name.data[i - 1] == '/') {
            name = bytes_of(name.data + i, name.size - i);
            break;
        }
    }
    if (name.size > SPEC_NAME_MAX) {
        name.size = SPEC_NAME_MAX;
        while (name.size && ((unsigned char)name.data[name.size] & 0xc0) == 0x80)
            name.size--;
    }
    return parse_name_ok(name, SPEC_NAME_MAX) ? name : bytes_str("job");
}

void spec_complete(struct arena *arena, struct job_spec *spec)
{
    if (!spec->request.name.size)
        spec->request.name = arena_bytes(arena, spec_default_name(spec));
}

/* --- rules --- */

static int check_number(const struct spec_key *key, const struct job_spec *spec, struct err *err)
{
    int64_t scale = spec_key_scale(key), value = spec_load(key, spec), min = key->min, max = key->max;
    if (value == key->fallback * scale && key->fallback < min)
        return 0; /* the default may lie outside: it says "not given" */
    if (value >= min * scale && value <= max * scale)
        return 0;
    bool low = value < min * scale;
    return err_field(err, ERR_INVALID, key->name, NULL, "%s must be %s %lld%s%s", key->name,
                     low ? "at least" : "at most", (long long)(low ? min : max), *key->unit && scale == 1000 ? " " : "",
                     scale == 1                   ? ""
                     : key->type == SPEC_DURATION ? "s"
                                                  : key->unit);
}

static int check_name(const struct spec_key *key, struct bytes text, struct err *err)
{
    if (text.size == 0)
        return 0; /* not given */
    if (text.size > (size_t)key->max)
        return err_field(err, ERR_INVALID, key->name, "make it shorter", "%s has %zu bytes, more than %lld", key->name,
                         text.size, (long long)key->max);
    if (!parse_name_ok(text, text.size))
        return err_field(err, ERR_INVALID, key->name, "use printable UTF-8",
                         "%s has control characters or bytes that are not UTF-8", key->name);
    return 0;
}

static bool plain(struct bytes text)
{
    return !(text.size && memchr(text.data, 0, text.size)) && utf8_valid(text);
}

static int check_plain(const char *field, struct bytes text, struct err *err)
{
    if (text.size && memchr(text.data, 0, text.size))
        return err_field(err, ERR_INVALID, field, "leave it out", "%s has a NUL byte", field);
    if (!utf8_valid(text))
        return err_field(err, ERR_INVALID, field, "use UTF-8", "%s is not valid UTF-8", field);
    return 0;
}

static int check_path(const struct spec_key *key, struct bytes text, struct err *err)
{
    if (text.size > (size_t)key->max)
        return err_field(err, ERR_INVALID, key->name, NULL, "%s has %zu bytes, more than a path may have", key->name,
                         text.size);
    if (text.size && key->offset == offsetof(struct job_spec, workdir) && text.data[0] != '/')
        return err_field(err, ERR_INVALID, key->name, "write an absolute path such as /srv/data",
                         "workdir is not an absolute path");
    return check_plain(key->name, text, err);
}

static int too_many(const struct spec_key *key, size_t count, const char *remedy, struct err *err)
{
    if (count <= (size_t)key->max)
        return 0;
    return err_field(err, ERR_INVALID, key->name, remedy, "%s has %zu entries, more than %lld", key->name, count,
                     (long long)key->max);
}

static int check_command(const struct spec_key *key, const struct job_spec *spec, struct err *err)
{
    if (!spec->command_count)
        return err_field(err, ERR_INVALID, "command", "write command: [\"program\", \"argument\"]",
                         "the job has no command");
    if (!spec->command[0].size)
        return err_field(err, ERR_INVALID, "command[0]", "write the program to run",
                         "the program of the command is empty");
    int rc = too_many(key, spec->command_count, "pass a list of many things in a file", err);
    for (size_t i = 0; rc == 0 && i < spec->command_count; i++) {
        if (plain(spec->command[i]))
            continue;
        char field[40];
        snprintf(field, sizeof field, "command[%zu]", i);
        rc = check_plain(field, spec->command[i], err);
    }
    return rc;
}

/* Why a variable may not be given, or NULL. */
static const char *env_refused(struct bytes name)
{
    static const char *const loader[] = { "GCONV_PATH", "BASH_ENV", "ENV", "IFS", "SHELLOPTS", "BASHOPTS" };
    static const char *const allowed[] = { "LD_LIBRARY_PATH", "LD_BIND_NOW", "LD_RUN_PATH" };
    if (name.size >= 5 && memcmp(name.data, "ROTA_", 5) == 0)
        return "is set by Rota itself";
    for (size_t i = 0; i < sizeof loader / sizeof *loader; i++)
        if (bytes_equal(name, bytes_str(loader[i])))
            return "would change the programs that start the job, not only the job";
    if (name.size < 3 || memcmp(name.data, "LD_", 3) != 0)
        return NULL;
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
        if (bytes_equal(name, bytes_str(allowed[i])))
            return NULL;
    return "would be loaded into the programs that start the job, not only into the job";
}

static bool env_name_ok(struct bytes name)
{
    for (size_t i = 0; i < name.size; i++) {
        char c = name.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && !(i && c >= '0' && c <= '9'))
            return false;
    }
    return name.size > 0;
}

/* "env.PATH", cut to what fits into err.field. */
static const char *sub_field(char out[80], const char *key, struct bytes name)
{
    size_t shown = name.size > 60 ? 60 : name.size;
    snprintf(out, 80, "%.15s.%.*s", key, (int)shown, shown ? name.data : "");
    spec_harmless(out);
    return out;
}

static int compare_names(const void *a, const void *b)
{
    const struct spec_pair *x = *(const struct spec_pair *const *)a, *y = *(const struct spec_pair *const *)b;
    size_t shared = x->name.size < y->name.size ? x->name.size : y->name.size;
    int order = shared ? memcmp(x->name.data, y->name.data, shared) : 0;
    return order ? order : (x->name.size > y->name.size) - (x->name.size < y->name.size);
}

/* A pair whose name another one has too, or NULL. Sorted, because there may be thousands. */
static const struct spec_pair *named_twice(const struct spec_pair *pairs, size_t count)
{
    if (count <= 16) {
        for (size_t i = 1; i < count; i++)
            for (size_t k = 0; k < i; k++)
                if (bytes_equal(pairs[i].name, pairs[k].name))
                    return &pairs[i];
        return NULL;
    }
    autofree const struct spec_pair **sorted = mem_zero(count, sizeof *sorted);
    for (size_t i = 0; i < count; i++)
        sorted[i] = &pairs[i];
    qsort(sorted, count, sizeof *sorted, compare_names);
    for (size_t i = 1; i < count; i++)
        if (compare_names(&sorted[i - 1], &sorted[i]) == 0)
            return sorted[i];
    return NULL;
}

static int check_unique(const char *key, const struct spec_pair *pairs, size_t count, struct err *err)
{
    char field[80];
    const struct spec_pair *twice = named_twice(pairs, count);
    return !twice ? 0
                  : err_field(err, ERR_INVALID, sub_field(field, key, twice->name), "remove one",
                              "the name is given twice");
}

static int check_variable(const struct spec_pair *pair, struct err *err)
{
    char field[80];
    struct bytes name = pair->name;
    if (!env_name_ok(name))
        return err_field(err, ERR_INVALID, sub_field(field, "env", name),
                         "use letters, digits and _, not starting with a digit",
                         "this is not the name of an environment variable");
    const char *why = env_refused(name);
    if (why)
        return err_field(err, ERR_INVALID, sub_field(field, "env", name),
                         name.data[0] == 'R' ? "choose another name"
                                             : "set it inside the job: command: [env, NAME=VALUE, program]",
                         "%.*s %s", name.size > 60 ? 60 : (int)name.size, name.data, why);
    if (plain(pair->value))
        return 0;
    return check_plain(sub_field(field, "env", name), pair->value, err);
}

static int check_label(const struct spec_pair *pair, struct err *err)
{
    char field[80];
    if (!parse_name_ok(pair->name, 64))
        return err_field(err, ERR_INVALID, sub_field(field, "labels", pair->name),
                         "use 1 to 64 bytes of printable UTF-8", "this is not the name of a label");
    if (pair->value.size && !parse_name_ok(pair->value, 256))
        return err_field(err, ERR_INVALID, sub_field(field, "labels", pair->name),
                         "use at most 256 bytes of printable UTF-8", "this is not the value of a label");
    return 0;
}

int spec_check_pair(const struct spec_key *key, const struct spec_pair *pair, struct err *err)
{
    return key->type == SPEC_ENV ? check_variable(pair, err) : check_label(pair, err);
}

static int check_pairs(const struct spec_key *key, const struct spec_pair *pairs, size_t count, struct err *err)
{
    int rc = too_many(key, count, "pass a list of many things in a file", err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = spec_check_pair(key, &pairs[i], err);
    return rc < 0 ? rc : check_unique(key->name, pairs, count, err);
}

bool spec_key_tokens(const struct spec_key *key)
{
    return key->offset == offsetof(struct job_spec, request.tokens);
}

static int check_named(const struct spec_key *key, const struct job_spec *spec, struct err *err)
{
    static const char *const taken[] = { "cpu", "cpus", "mem", "memory", "mem_bytes", "gpu", "gpus" };
    char field[80];
    const struct job_request *r = &spec->request;
    bool tokens = spec_key_tokens(key);
    const struct named_resource *all = tokens ? r->tokens : r->named;
    size_t count = tokens ? r->tokens_count : r->named_count;
    int rc = too_many(key, count, tokens ? "use fewer kinds of tokens" : "use fewer kinds of resources", err);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        struct bytes name = bytes_of(all[i].name, strnlen(all[i].name, RES_NAME_BYTES));
        sub_field(field, key->name, name);
        bool ok = name.size > 0 && name.size < RES_NAME_BYTES;
        for (size_t k = 0; ok && k < name.size; k++)
            ok = (name.data[k] >= 'a' && name.data[k] <= 'z') || (name.data[k] >= 'A' && name.data[k] <= 'Z') ||
                 (name.data[k] >= '0' && name.data[k] <= '9') || (k && memchr("._-", name.data[k], 3));
        if (!ok)
            return err_field(err, ERR_INVALID, field, "use up to 31 letters, digits, dots, - and _",
                             tokens ? "this is not the name of a token" : "this is not the name of a resource");
        for (size_t k = 0; !tokens && k < sizeof taken / sizeof *taken; k++)
            if (bytes_equal(name, bytes_str(taken[k])))
                return err_field(err, ERR_INVALID, field, "use the keys cpus, mem_bytes and gpus",
                                 "\"%s\" is no named resource", taken[k]);
        for (size_t k = 0; k < i; k++)
            if (strncmp(all[k].name, all[i].name, RES_NAME_BYTES) == 0)
                return err_field(err, ERR_INVALID, field, "remove one", "it is given twice");
        if (all[i].count < 1 || all[i].count > SPEC_COUNT_MAX)
            return err_field(err, ERR_INVALID, field, NULL, "the amount must be between 1 and %llu",
                             (unsigned long long)SPEC_COUNT_MAX);
    }
    return rc;
}

static int check_after(const struct spec_key *key, const struct job_spec *spec, struct err *err)
{
    int rc = too_many(key, spec->request.after_count, "wait for one job that itself waits for these", err);
    for (size_t i = 0; rc == 0 && i < spec->request.after_count; i++) {
        const struct after *after = &spec->request.after[i];
        if (after->job.n >= 1 && after->job.n <= 9007199254740992 && after->when <= AFTER_FAIL)
            continue;
        char field[40];
        snprintf(field, sizeof field, "after[%zu].job", i);
        if (after->job.n < 1 || after->job.n > 9007199254740992)
            return err_field(err, ERR_INVALID, field, "write the id of a job", "this is not the id of a job");
        return err_field(err, ERR_INVALID, field, NULL, "the condition of the dependency is unknown");
    }
    return rc;
}

static int check_array(const struct spec_key *key, const struct job_spec *spec, struct err *err)
{
    const struct job_request *r = &spec->request;
    if (!r->tasks) {
        if (r->first || r->step > 1 || r->limit)
            return err_field(err, ERR_INVALID, key->name, NULL, "a job that is no array has no indices");
        return 0;
    }
    if (r->tasks > ARRAY_TASKS_MAX)
        return err_field(err, ERR_INVALID, key->name, "submit several arrays", "an array of %u tasks is more than %u",
                         r->tasks, ARRAY_TASKS_MAX);
    if (r->step < 1 || r->first + (uint64_t)(r->tasks - 1) * r->step > TASK_ALL - 1)
        return err_field(err, ERR_INVALID, key->name, "use smaller indices",
                         "the indices of the array are out of range");
    return 0;
}

static int check_time(const struct spec_key *key, const struct job_spec *spec, struct err *err)
{
    int64_t value = spec_load(key, spec);
    if (value < 0 || value > SPEC_WALL_MS_MAX)
        return err_field(err, ERR_INVALID, key->name, NULL, "%s is not between the years 1970 and 9999", key->name);
    return 0;
}

int spec_check_key(const struct spec_key *key, const struct job_spec *spec, struct err *err)
{
    switch (key->type) {
    case SPEC_NAME: return check_name(key, *spec_text(key, spec), err);
    case SPEC_PATH: return check_path(key, *spec_text(key, spec), err);
    case SPEC_INTEGER:
    case SPEC_MILLI:
    case SPEC_SECONDS:
    case SPEC_SIZE:
    case SPEC_DURATION: return check_number(key, spec, err);
    case SPEC_TIME: return check_time(key, spec, err);
    case SPEC_ARRAY: return check_array(key, spec, err);
    case SPEC_COMMAND: return check_command(key, spec, err);
    case SPEC_ENV: return check_pairs(key, spec->env, spec->env_count, err);
    case SPEC_LABELS: return check_pairs(key, spec->labels, spec->labels_count, err);
    case SPEC_COUNTS: return check_named(key, spec, err);
    case SPEC_AFTER: return check_after(key, spec, err);
    case SPEC_WORD:
    case SPEC_BOOL:
    case SPEC_SIMULATE:
    case SPEC_TYPES: break;
    }
    return 0;
}

int spec_check_joined(const struct job_spec *spec, struct err *err)
{
    const struct job_request *r = &spec->request;
    if (where_check(r->where, err) < 0) {
        snprintf(err->field, sizeof err->field, "where");
        return -(int)err->code;
    }
    if (!r->account.size)
        return err_field(err, ERR_INVALID, "account", NULL, "the account is empty");
    if (!r->name.size || !r->queue.size)
        return err_field(err, ERR_INVALID, r->name.size ? "queue" : "name", NULL, "the %s is empty",
                         r->name.size ? "queue" : "name");
    uint64_t words = 0;
    for (size_t i = 0; i < spec->command_count; i++)
        words += spec->command[i].size + SPEC_WORD_COST;
    for (size_t i = 0; i < spec->env_count; i++)
        words += spec->env[i].name.size + 1 + spec->env[i].value.size + SPEC_WORD_COST;
    if (words > SPEC_ARGS_MAX)
        return err_field(err, ERR_INVALID, "command", "pass long lists and data in a file",
                         "arguments and environment take %llu bytes, more than %u", (unsigned long long)words,
                         SPEC_ARGS_MAX);
    if (r->nodes > 1 && r->tasks)
        return err_field(err, ERR_INVALID, "nodes", "submit as many jobs with nodes as the array has tasks",
                         "an array can not be one job on several nodes as well");
    if (r->nodes > 1 && r->mem_max_bytes)
        return err_field(err, ERR_INVALID, "mem_max", "give it the memory that it needs",
                         "the parts of a job on several nodes ask for the same, none of them for more");
    if (r->begin_wall_ms && r->deadline_wall_ms && r->deadline_wall_ms <= r->begin_wall_ms)
        return err_field(err, ERR_INVALID, "deadline", "make the deadline later than begin",
                         "the job could never start: its deadline is not after its begin");
    if (r->overlap_never && spec->image.size)
        return err_field(err, ERR_INVALID, "overlap", "leave overlap or image out",
                         "a job with an image can not have overlap never: nothing would end its container on a node that is cut off");
    if (r->backoff_max_ms && r->backoff_ms > r->backoff_max_ms)
        return err_field(err, ERR_INVALID, "backoff_max_s", "make it at least backoff_s",
                         "backoff_max_s is less than backoff_s");
    return 0;
}

int spec_check(const struct job_spec *spec, struct err *err)
{
    for (size_t i = 0; i < KEYS; i++) {
        if (!spec_key_checked(&keys[i]))
            continue;
        int rc = spec_check_key(&keys[i], spec, err);
        if (rc < 0)
            return rc;
    }
    return spec_check_joined(spec, err);
}
