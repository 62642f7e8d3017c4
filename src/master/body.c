#include "master/body.h"

#include <math.h>
#include <stdio.h>

#include "base/parse.h"
#include "wire/json_in.h"

#define LIST_DEPTH_MAX 64

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool no_controls(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return false;
    return true;
}

static struct body_field *field_named(struct body_field *fields, size_t count, struct bytes name)
{
    for (size_t i = 0; i < count; i++)
        if (bytes_equal(bytes_str(fields[i].name), name))
            return &fields[i];
    return NULL;
}

static int unknown_key(struct body_field *fields, size_t count, struct bytes key, struct err *err)
{
    char name[65];
    snprintf(name, sizeof name, "%.*s", (int)key.size, key.data);
    char remedy[160] = "send {}";
    const char *nearest = NULL;
    unsigned best = UINT32_MAX;
    for (size_t i = 0; i < count; i++) {
        unsigned distance = parse_distance(name, fields[i].name);
        if (distance < best) {
            best = distance;
            nearest = fields[i].name;
        }
    }
    if (nearest)
        snprintf(remedy, sizeof remedy, "did you mean \"%s\"?", nearest);
    return err_field(err, ERR_INVALID, name, remedy, "unknown key \"%s\"", name);
}

static int read_value(struct bytes json, struct body_field *f, const struct json_value *value, struct err *err)
{
    if (value->kind == JSON_KIND_NULL && f->nullable) {
        f->given = f->null = true;
        return 0;
    }
    if (f->type == BODY_OBJECT) {
        f->text = body_member(json, f->name);
        if (value->kind != JSON_KIND_MAP || !f->text.size)
            return err_field(err, ERR_INVALID, f->name, NULL, "%s must be an object", f->name);
    } else if (f->type == BODY_BOOL) {
        if (value->kind != JSON_KIND_BOOL)
            return err_field(err, ERR_INVALID, f->name, "write true or false", "%s must be true or false", f->name);
        f->integer = value->boolean;
    } else if (f->type == BODY_MILLI) {
        if (value->kind != JSON_KIND_INTEGER && value->kind != JSON_KIND_REAL)
            return err_field(err, ERR_INVALID, f->name, NULL, "%s must be a number", f->name);
        double milli = value->kind == JSON_KIND_REAL ? value->real * 1000 : (double)value->integer * 1000;
        if (!(milli >= (double)f->min && milli <= (double)f->max))
            return err_field(err, ERR_INVALID, f->name, NULL, "%s must be from %g to %g", f->name, (double)f->min / 1000,
                             (double)f->max / 1000);
        f->integer = llround(milli);
    } else if (f->type == BODY_INTEGER) {
        if (value->kind != JSON_KIND_INTEGER)
            return err_field(err, ERR_INVALID, f->name, NULL, "%s must be a whole number", f->name);
        f->integer = value->integer;
        if (f->integer < f->min || f->integer > f->max)
            return err_field(err, ERR_INVALID, f->name, NULL, "%s must be from %lld to %lld", f->name,
                             (long long)f->min, (long long)f->max);
    } else {
        if (value->kind != JSON_KIND_TEXT)
            return err_field(err, ERR_INVALID, f->name, NULL, "%s must be a text", f->name);
        if (value->text.size > (size_t)f->max)
            return err_field(err, ERR_INVALID, f->name, NULL, "%s is longer than %lld bytes", f->name,
                             (long long)f->max);
        if (!no_controls(value->text.data, value->text.size))
            return err_field(err, ERR_INVALID, f->name, NULL, "%s has control characters in it", f->name);
        f->text = value->text; /* followed by a zero byte */
    }
    f->given = true;
    return 0;
}

static int read_object(struct bytes json, const struct json_value *object, struct body_field *fields, size_t count, struct err *err)
{
    for (size_t i = 0; i < object->map.count; i++) {
        const struct json_member *member = &object->map.members[i];
        struct body_field *f = field_named(fields, count, member->name);
        int rc = f ? read_value(json, f, &member->value, err) : unknown_key(fields, count, member->name, err);
        if (rc < 0)
            return rc;
    }
    for (size_t i = 0; i < count; i++)
        if (fields[i].required && !fields[i].given)
            return err_field(err, ERR_INVALID, fields[i].name, NULL, "%s is missing", fields[i].name);
    return 0;
}

int body_read(struct arena *arena, struct bytes json, struct body_field *fields, size_t count, struct err *err)
{
    struct json_limits limits = { BODY_BYTES_MAX, 8, 64, BODY_BYTES_MAX, false };
    for (size_t i = 0; i < count; i++)
        if (fields[i].type == BODY_OBJECT)
            limits = (struct json_limits){ BODY_BYTES_MAX, 32, 10000, BODY_BYTES_MAX, false };
    bool empty = true;
    for (size_t i = 0; i < json.size && empty; i++)
        empty = blank(json.data[i]);
    struct json_value object = { .kind = JSON_KIND_MAP };
    if (!empty && json_in_parse(arena, json, &limits, &object, err) < 0) {
        char detail[sizeof err->text];
        snprintf(detail, sizeof detail, "%s", err->text);
        return err_field(err, err->code, "body", "send one JSON object", "the body can not be read: %s", detail);
    }
    if (object.kind != JSON_KIND_MAP)
        return err_field(err, ERR_INVALID, "body", "send one JSON object", "the body is not a JSON object");
    return read_object(json, &object, fields, count, err);
}

static const char *skip_blanks(const char *at, const char *end)
{
    while (at < end && blank(*at))
        at++;
    return at;
}

bool body_is_list(struct bytes json)
{
    const char *end = json.data + json.size;
    const char *at = json.size ? skip_blanks(json.data, end) : end;
    return at < end && *at == '[';
}

void body_list_start(struct body_list *l, struct bytes json)
{
    const char *end = json.data + json.size;
    *l = (struct body_list){ .at = skip_blanks(json.data, end) + 1, .end = end, .open = true };
}

/* The end of the text that begins at the opening quote, or NULL. */
static const char *quote_end(const char *at, const char *end)
{
    for (at++; at < end; at++) {
        if (*at == '"')
            return at + 1;
        if (*at == '\\')
            at++;
    }
    return NULL;
}

/* The place of the comma or bracket that ends the element at `at`, or NULL. */
static const char *element_end(const char *at, const char *end)
{
    int depth = 0;
    while (at && at < end) {
        if (*at == '"') {
            at = quote_end(at, end);
            continue;
        }
        if (depth == 0 && (*at == ',' || *at == ']' || *at == '}'))
            return at;
        if (*at == '{' || *at == '[')
            depth++;
        if (*at == '}' || *at == ']')
            depth--;
        if (depth < 0 || depth > LIST_DEPTH_MAX)
            return NULL;
        at++;
    }
    return NULL;
}

struct bytes body_member(struct bytes object, const char *name)
{
    const char *end = object.data + object.size, *at = skip_blanks(object.data, end) + 1;
    while (at < end) {
        const char *key = skip_blanks(at, end), *key_end = key < end && *key == '"' ? quote_end(key, end) : NULL;
        if (!key_end)
            break;
        const char *value = skip_blanks(skip_blanks(key_end, end) + 1, end), *value_end = element_end(value, end);
        if (!value_end)
            break;
        at = value_end + 1;
        if (!bytes_equal(bytes_of(key + 1, (size_t)(key_end - key) - 2), bytes_str(name)))
            continue;
        while (value_end > value && blank(value_end[-1]))
            value_end--;
        return bytes_of(value, (size_t)(value_end - value));
    }
    return bytes_of(NULL, 0);
}

static int list_broken(const struct body_list *l, struct err *err)
{
    return err_field(err, ERR_INVALID, "body", "send [{...}, {...}]", "the list of jobs is broken after element %zu",
                     l->count);
}

int body_list_next(struct body_list *l, struct bytes *element, struct err *err)
{
    l->at = skip_blanks(l->at, l->end);
    if (l->open && l->count == 0 && l->at < l->end && *l->at == ']') {
        l->open = false;
        l->at++;
    }
    if (!l->open) {
        l->at = skip_blanks(l->at, l->end);
        return l->at == l->end ? 0 : list_broken(l, err);
    }
    const char *stop = element_end(l->at, l->end);
    if (!stop || *stop == '}')
        return list_broken(l, err);
    const char *last = stop;
    while (last > l->at && blank(last[-1]))
        last--;
    if (last == l->at)
        return list_broken(l, err);
    *element = bytes_of(l->at, (size_t)(last - l->at));
    l->open = *stop == ',';
    l->at = stop + 1;
    l->count++;
    return 1;
}
