#include "wire/json_in.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

#define INTEGER_MAX 9007199254740992 /* 2^53: up to here a double holds every whole number */

/* --- positions and limits by a scan over the tokens; grammar is left to jansson --- */

struct scan {
    const char *text;
    size_t size, at;
    size_t depth, members;
};

/* The start of the next token (a string, an atom or an opening bracket), or size at the end. */
static size_t scan_next(struct scan *s)
{
    while (s->at < s->size) {
        size_t start = s->at++;
        switch (s->text[start]) {
        case ' ':
        case '\t':
        case '\n':
        case '\r':
        case ':': break;
        case ',': s->members++; break;
        case '{':
        case '[':
            s->depth++;
            s->members++;
            return start;
        case '}':
        case ']': s->depth -= s->depth > 0; break;
        case '"':
            while (s->at < s->size && s->text[s->at] != '"')
                s->at += s->text[s->at] == '\\' ? 2 : 1;
            s->at = s->at < s->size ? s->at + 1 : s->size;
            return start;
        default:
            while (s->at < s->size && !memchr(" \t\n\r:,{}[]\"", s->text[s->at], 11))
                s->at++;
            return start;
        }
    }
    return s->size;
}

struct place {
    uint32_t line, column;
};

/* Moves `place` from offset `from` on to offset `to`. Columns count characters. */
static void place_move(struct place *place, const char *text, size_t from, size_t to)
{
    for (; from < to; from++) {
        if (text[from] == '\n') {
            place->line++;
            place->column = 1;
        } else if (((unsigned char)text[from] & 0xc0) != 0x80) {
            place->column++;
        }
    }
}

static struct place place_of(struct bytes text, size_t offset)
{
    struct place place = { 1, 1 };
    place_move(&place, text.data, 0, offset);
    return place;
}

static int scan_limits(struct bytes text, const struct json_limits *limits, struct err *err)
{
    struct scan s = { text.data, text.size, 0, 0, 0 };
    for (;;) {
        size_t at = scan_next(&s);
        if (s.depth > limits->depth) {
            struct place place = place_of(text, at);
            return err_field(err, ERR_INVALID, NULL, "make the document flatter",
                             "%u:%u: more than %zu lists and maps in each other", place.line, place.column,
                             limits->depth);
        }
        if (s.members > limits->members) {
            struct place place = place_of(text, at);
            return err_field(err, ERR_INVALID, NULL, "split it; for many jobs send one per line (NDJSON)",
                             "%u:%u: more than %zu members in one document", place.line, place.column, limits->members);
        }
        if (at == s.size)
            return 0;
    }
}

/* --- jansson's tree to ours --- */

struct convert {
    struct arena *arena;
    struct bytes text;
    const struct json_limits *limits;
    struct err *err;
    struct scan scan; /* follows the tokens when positions are wanted */
    size_t place_offset;
    struct place place;
    size_t ordinal; /* of the next token */
};

/* Counts one token and gives its place if places are wanted. */
static struct place token(struct convert *c)
{
    c->ordinal++;
    if (!c->limits->positions)
        return (struct place){ 0, 0 };
    size_t at = scan_next(&c->scan);
    place_move(&c->place, c->text.data, c->place_offset, at);
    c->place_offset = at;
    return c->place;
}

static int convert_fail(struct convert *c, const char *what, const char *remedy)
{
    struct scan s = { c->text.data, c->text.size, 0, 0, 0 };
    size_t at = 0;
    for (size_t i = 0; i < c->ordinal; i++)
        at = scan_next(&s);
    struct place place = place_of(c->text, at);
    return err_field(c->err, ERR_INVALID, NULL, remedy, "%u:%u: %s", place.line, place.column, what);
}

static int convert_text(struct convert *c, const char *text, size_t size, struct bytes *out)
{
    if (size > c->limits->text_bytes)
        return convert_fail(c, "a string is too long", "a string may have 65536 bytes");
    *out = bytes_of(arena_str(c->arena, bytes_of(text, size)), size);
    return 0;
}

static int convert_value(struct convert *c, json_t *from, struct json_value *to);

static int convert_list(struct convert *c, json_t *from, struct json_value *to)
{
    to->kind = JSON_KIND_LIST;
    to->list.count = json_array_size(from);
    to->list.items = arena_alloc(c->arena, to->list.count * sizeof *to->list.items);
    for (size_t i = 0; i < to->list.count; i++) {
        int rc = convert_value(c, json_array_get(from, i), &to->list.items[i]);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int convert_map(struct convert *c, json_t *from, struct json_value *to)
{
    to->kind = JSON_KIND_MAP;
    to->map.count = json_object_size(from);
    to->map.members = arena_alloc(c->arena, to->map.count * sizeof *to->map.members);
    struct json_member *member = to->map.members;
    /* jansson keeps members in the order of the document, and so do the tokens that `token` counts. */
    for (void *at = json_object_iter(from); at; at = json_object_iter_next(from, at), member++) {
        struct place place = token(c);
        member->line = place.line;
        member->column = place.column;
        const char *name = json_object_iter_key(at);
        int rc = convert_text(c, name, strlen(name), &member->name);
        if (rc == 0)
            rc = convert_value(c, json_object_iter_value(at), &member->value);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Depth is bounded by the scan before. */
static int convert_value(struct convert *c, json_t *from, struct json_value *to)
{
    struct place place = token(c);
    *to = (struct json_value){ .kind = JSON_KIND_NULL, .line = place.line, .column = place.column };
    switch (json_typeof(from)) {
    case JSON_OBJECT: return convert_map(c, from, to);
    case JSON_ARRAY: return convert_list(c, from, to);
    case JSON_STRING:
        to->kind = JSON_KIND_TEXT;
        return convert_text(c, json_string_value(from), json_string_length(from), &to->text);
    case JSON_INTEGER:
        to->kind = JSON_KIND_INTEGER;
        to->integer = json_integer_value(from);
        if (to->integer > INTEGER_MAX || to->integer < -INTEGER_MAX)
            return convert_fail(c, "a whole number beyond 2^53 is not exact in JSON", "write a smaller number");
        return 0;
    case JSON_REAL:
        to->kind = JSON_KIND_REAL;
        to->real = json_real_value(from);
        if (!isfinite(to->real))
            return convert_fail(c, "a number is too big", "write a smaller number");
        return 0;
    case JSON_TRUE:
    case JSON_FALSE:
        to->kind = JSON_KIND_BOOL;
        to->boolean = json_typeof(from) == JSON_TRUE;
        return 0;
    case JSON_NULL: return 0;
    }
    check_unreachable();
}

/* jansson's text quotes the input: whatever is not printable ASCII there becomes a question mark. */
static int syntax_error(const json_error_t *e, struct err *err)
{
    char text[JSON_ERROR_TEXT_LENGTH];
    size_t n = 0;
    for (; n + 1 < sizeof text && e->text[n]; n++)
        text[n] = e->text[n] >= 0x20 && e->text[n] < 0x7f ? e->text[n] : '?';
    text[n] = 0;
    const char *prefix = "not JSON: ";
    enum json_error_code code = json_error_code(e);
    if (code == json_error_null_character) {
        snprintf(text, sizeof text, "a NUL in text");
        prefix = "";
    } else if (code == json_error_duplicate_key || code == json_error_numeric_overflow) {
        prefix = "";
    }
    return err_field(err, ERR_INVALID, NULL, NULL, "%d:%d: %s%s", e->line > 0 ? e->line : 1,
                     e->column > 0 ? e->column : 1, prefix, text);
}

int json_in_parse(struct arena *arena, struct bytes text, const struct json_limits *limits, struct json_value *out,
                  struct err *err)
{
    struct json_limits standard = JSON_LIMITS_DEFAULT;
    if (!limits)
        limits = &standard;
    if (text.size > limits->bytes)
        return err_field(err, ERR_TOO_LARGE, NULL, "send less at once; for many jobs send one per line (NDJSON)",
                         "%zu bytes are more than the %zu that are read at once", text.size, limits->bytes);
    if (text.size == 0)
        return err_field(err, ERR_INVALID, NULL, "send a JSON object", "1:1: the document is empty");
    int rc = scan_limits(text, limits, err);
    if (rc < 0)
        return rc;
    const char *nul = memchr(text.data, 0, text.size); /* jansson skips one after a number */
    if (nul) {
        struct place place = place_of(text, (size_t)(nul - text.data));
        return err_field(err, ERR_INVALID, NULL, NULL, "%u:%u: not JSON: a NUL byte", place.line, place.column);
    }
    json_error_t e;
    json_t *root = json_loadb(text.data, text.size, JSON_REJECT_DUPLICATES, &e);
    if (!root)
        return syntax_error(&e, err);
    struct convert c = { .arena = arena,
                         .text = text,
                         .limits = limits,
                         .err = err,
                         .scan = { text.data, text.size, 0, 0, 0 },
                         .place = { 1, 1 } };
    struct json_value value;
    rc = convert_value(&c, root, &value);
    json_decref(root);
    if (rc == 0)
        *out = value;
    return rc;
}

const struct json_value *json_in_get(const struct json_value *map, const char *name)
{
    if (map->kind != JSON_KIND_MAP)
        return NULL;
    for (size_t i = 0; i < map->map.count; i++)
        if (bytes_equal(map->map.members[i].name, bytes_str(name)))
            return &map->map.members[i].value;
    return NULL;
}

const char *json_kind_text(enum json_kind kind)
{
    static const char *const names[] = { "null", "true or false", "a whole number", "a decimal number",
                                         "text", "a list",        "a map" };
    check((size_t)kind < sizeof names / sizeof *names);
    return names[kind];
}

void ndjson_init(struct ndjson *n, size_t line_bytes_max)
{
    *n = (struct ndjson){ .kept = BUF_INIT, .line_bytes_max = line_bytes_max ? line_bytes_max : NDJSON_LINE_MAX };
}

void ndjson_fini(struct ndjson *n)
{
    buf_fini(&n->kept);
}

void ndjson_feed(struct ndjson *n, struct bytes piece)
{
    check(n->piece.size == 0);
    n->piece = piece;
}

/* Counts the line; false if it is empty. */
static bool line_given(struct ndjson *n, struct bytes *line, uint64_t *number)
{
    n->line++;
    if (line->size && line->data[line->size - 1] == '\r')
        line->size--;
    *number = n->line;
    for (size_t i = 0; i < line->size; i++)
        if (line->data[i] != ' ' && line->data[i] != '\t')
            return true;
    return false;
}

static int too_long(struct ndjson *n, struct err *err)
{
    n->failed = true;
    n->piece.size = 0;
    buf_fini(&n->kept);
    return err_field(err, ERR_TOO_LARGE, NULL, "write one job per line", "line %llu has more than %zu bytes",
                     (unsigned long long)n->line + 1, n->line_bytes_max);
}

int ndjson_next(struct ndjson *n, struct bytes *line, uint64_t *number, struct err *err)
{
    if (n->failed)
        return too_long(n, err);
    if (n->handed) {
        buf_clear(&n->kept);
        n->handed = false;
    }
    while (n->piece.size) {
        const char *end = memchr(n->piece.data, '\n', n->piece.size);
        struct bytes part = bytes_of(n->piece.data, end ? (size_t)(end - n->piece.data) : n->piece.size);
        if (n->kept.size + part.size > n->line_bytes_max)
            return too_long(n, err);
        size_t used = part.size + (end ? 1 : 0);
        n->piece = bytes_of(n->piece.data + used, n->piece.size - used);
        if (!end || n->kept.size)
            buf_add(&n->kept, part.data, part.size);
        if (!end)
            break;
        bool was_kept = n->kept.size > 0;
        *line = was_kept ? buf_bytes(&n->kept) : part;
        if (line_given(n, line, number)) {
            n->handed = was_kept;
            return 1;
        }
        buf_clear(&n->kept);
    }
    return 0;
}

int ndjson_end(struct ndjson *n, struct bytes *line, uint64_t *number, struct err *err)
{
    if (n->failed)
        return too_long(n, err);
    check(n->piece.size == 0);
    if (n->handed || !n->kept.size)
        return 0;
    *line = buf_bytes(&n->kept);
    n->handed = true;
    return line_given(n, line, number) ? 1 : 0;
}
