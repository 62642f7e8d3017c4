#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/parse.h"
#include "io/clock.h"
#include "wire/json_in.h"
#include "wire/spec.h"
#include "wire/spec_walk.h"

#define FILE_BYTES_MAX (16u * 1024 * 1024)
#define DEPTH_MAX 32u
#define NODES_MAX_FILE 1000000u
#define TEXT_BYTES_MAX 65536u
#define FAULTS_SHOWN_MAX 100u

/* Faults are found in several passes and shown in the order of the file. */
struct found {
    uint32_t line, column;
    size_t order;     /* of equal places: as they were found */
    const char *text; /* in the arena */
};

struct reader {
    struct arena *arena;
    struct bytes text;
    struct found found[FAULTS_SHOWN_MAX];
    size_t faults_count;
    yaml_parser_t parser;
    size_t depth, nodes;
};

static void add_fault(void *arg, uint32_t line, uint32_t column, const struct err *fault)
{
    struct reader *r = arg;
    size_t order = r->faults_count++;
    if (order >= FAULTS_SHOWN_MAX)
        return;
    autobuf struct buf text = BUF_INIT;
    size_t field = strlen(fault->field);
    if (field && strncmp(fault->text, fault->field, field) != 0)
        buf_printf(&text, "%s: ", fault->field);
    buf_str(&text, fault->text);
    if (*fault->remedy)
        buf_printf(&text, "; %s", fault->remedy);
    spec_harmless(text.data);
    r->found[order] =
        (struct found){ line ? line : 1, column ? column : 1, order, arena_str(r->arena, buf_bytes(&text)) };
}

static int compare_found(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    if (x->line != y->line)
        return x->line < y->line ? -1 : 1;
    if (x->column != y->column)
        return x->column < y->column ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

static void show_faults(struct reader *r, const char *file_name, struct buf *out)
{
    size_t shown = r->faults_count < FAULTS_SHOWN_MAX ? r->faults_count : FAULTS_SHOWN_MAX;
    qsort(r->found, shown, sizeof *r->found, compare_found);
    for (size_t i = 0; i < shown; i++)
        buf_printf(out, "%s:%u:%u: %s\n", file_name, r->found[i].line, r->found[i].column, r->found[i].text);
    if (r->faults_count > shown)
        buf_printf(out, "%s: and %zu more faults\n", file_name, r->faults_count - shown);
}

static void fault_at(struct reader *r, yaml_mark_t mark, const char *remedy, const char *text)
{
    struct err e;
    err_field(&e, ERR_INVALID, NULL, remedy, "%s", text);
    add_fault(r, (uint32_t)mark.line + 1, (uint32_t)mark.column + 1, &e);
}

/* --- scalars: JSON's numbers, true, false and null; all else is text, whatever YAML 1.1 makes of it --- */

static size_t digits(const char *text)
{
    size_t n = 0;
    while (text[n] >= '0' && text[n] <= '9')
        n++;
    return n;
}

/* -?(0|[1-9][0-9_]*) */
static bool is_integer(const char *text)
{
    const char *at = text + (*text == '-');
    return *at >= '0' && *at <= '9' && (*at != '0' || at[1] == 0);
}

/* -?(0|[1-9][0-9]*)(.[0-9]+)?([eE][+-]?[0-9]+)? with at least one of the last two. */
static bool is_real(const char *text)
{
    const char *at = text + (*text == '-');
    size_t whole = digits(at);
    if (!whole || (whole > 1 && *at == '0'))
        return false;
    at += whole;
    const char *after_whole = at;
    if (*at == '.') {
        size_t fraction = digits(at + 1);
        if (!fraction)
            return false;
        at += 1 + fraction;
    }
    if (*at == 'e' || *at == 'E') {
        at += at[1] == '+' || at[1] == '-' ? 2 : 1;
        size_t exponent = digits(at);
        if (!exponent)
            return false;
        at += exponent;
    }
    return *at == 0 && at > after_whole;
}

/* strtod follows the locale's decimal point; a number of this grammar is small enough to be summed up exactly enough.
 */
static double read_real(const char *text)
{
    bool negative = *text == '-';
    double value = 0;
    int places = 0, exponent = 0, sign = 1;
    text += negative;
    for (; *text >= '0' && *text <= '9'; text++)
        value = value * 10 + (*text - '0');
    if (*text == '.')
        for (text++; *text >= '0' && *text <= '9'; text++, places++)
            value = value * 10 + (*text - '0');
    if (*text == 'e' || *text == 'E') {
        text++;
        if (*text == '+' || *text == '-')
            sign = *text++ == '-' ? -1 : 1;
        for (; *text >= '0' && *text <= '9'; text++)
            exponent = exponent < 100000 ? exponent * 10 + (*text - '0') : exponent;
    }
    exponent = sign * exponent - places;
    value = exponent < 0 ? value / pow(10, -exponent) : value * pow(10, exponent);
    return negative ? -value : value;
}

static void resolve_plain(struct json_value *v)
{
    static const int64_t most = 9007199254740992;
    const char *text = v->text.data;
    v->plain = true;
    if (!*text || strcmp(text, "~") == 0 || strcmp(text, "null") == 0) {
        v->kind = JSON_KIND_NULL;
    } else if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0) {
        v->kind = JSON_KIND_BOOL;
        v->boolean = *text == 't';
    } else if (is_integer(text)) {
        int64_t value = 0;
        if (parse_i64(text, -most, most, &value, NULL) < 0)
            return; /* text such as 12abc; too big a number is text too, and no key of a number takes it */
        v->kind = JSON_KIND_INTEGER;
        v->integer = value;
    } else if (is_real(text)) {
        double value = read_real(text);
        if (!isfinite(value))
            return;
        v->kind = JSON_KIND_REAL;
        v->real = value;
    }
}

static void scalar(struct reader *r, const yaml_event_t *ev, struct json_value *v)
{
    size_t size = ev->data.scalar.length;
    const char *text = (const char *)ev->data.scalar.value;
    v->kind = JSON_KIND_TEXT;
    v->text = (struct bytes){ "", 0 };
    if (size > TEXT_BYTES_MAX) {
        fault_at(r, ev->start_mark, "put long text in a file of its own", "text of more than 65536 bytes");
        return;
    }
    if (memchr(text, 0, size)) {
        fault_at(r, ev->start_mark, "leave it out", "a NUL in text");
        return;
    }
    v->text = bytes_of(arena_str(r->arena, bytes_of(text, size)), size);
    if (ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
        resolve_plain(v);
}

/* --- events to a tree --- */

/* Where a byte of the file stands; the reader below the parser only knows offsets. */
static yaml_mark_t mark_of(const struct reader *r, size_t offset)
{
    yaml_mark_t mark = { .index = offset };
    for (size_t i = 0; i < offset && i < r->text.size; i++) {
        bool line_end = r->text.data[i] == '\n';
        mark.line += line_end;
        mark.column = line_end ? 0 : mark.column + (((unsigned char)r->text.data[i] & 0xc0) != 0x80);
    }
    return mark;
}

static bool next_event(struct reader *r, yaml_event_t *ev)
{
    if (yaml_parser_parse(&r->parser, ev))
        return true;
    struct err e;
    yaml_mark_t mark = r->parser.problem_mark;
    if (r->parser.error == YAML_READER_ERROR) {
        err_field(&e, ERR_INVALID, NULL, "save the file as UTF-8 text", "%s",
                  r->parser.problem ? r->parser.problem : "cannot be read");
        mark = mark_of(r, r->parser.problem_offset);
    } else {
        err_field(&e, ERR_INVALID, NULL, NULL, "not YAML: %s%s%s", r->parser.context ? r->parser.context : "",
                  r->parser.context ? ", " : "", r->parser.problem ? r->parser.problem : "cannot be read");
    }
    add_fault(r, (uint32_t)mark.line + 1, (uint32_t)mark.column + 1, &e);
    return false;
}

/* Anchors and tags are refused: with aliases a small file can stand for a huge one, and no key needs them. */
static void no_extras(struct reader *r, yaml_mark_t mark, const yaml_char_t *anchor, const yaml_char_t *tag)
{
    if (anchor)
        fault_at(r, mark, "use defaults: for what all jobs share", "anchors are not used in job files");
    if (tag && strcmp((const char *)tag, "!") != 0)
        fault_at(r, mark, "write the value without it", "tags are not used in job files");
}

static bool read_node(struct reader *r, yaml_event_t *ev, struct json_value *out);

/* Growing arrays live in the arena: what they outgrow stays there until the end, at most as much again. */
static void *grow(struct arena *arena, void *array, size_t count, size_t *cap, size_t bytes)
{
    if (count < *cap)
        return array;
    size_t grown = *cap ? *cap * 2 : 8;
    void *more = arena_alloc(arena, grown * bytes);
    if (count)
        memcpy(more, array, count * bytes);
    *cap = grown;
    return more;
}

static bool read_list(struct reader *r, struct json_value *out)
{
    size_t cap = 0;
    out->kind = JSON_KIND_LIST;
    out->list.items = NULL;
    out->list.count = 0;
    for (;;) {
        yaml_event_t ev;
        if (!next_event(r, &ev))
            return false;
        if (ev.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&ev);
            return true;
        }
        struct json_value item;
        if (!read_node(r, &ev, &item))
            return false;
        out->list.items = grow(r->arena, out->list.items, out->list.count, &cap, sizeof *out->list.items);
        out->list.items[out->list.count++] = item;
    }
}

static int compare_members(const void *a, const void *b)
{
    const struct json_member *x = *(const struct json_member *const *)a, *y = *(const struct json_member *const *)b;
    int order = strcmp(x->name.data, y->name.data);
    return order ? order : (x > y) - (x < y);
}

/* The first of equal names stays. */
static void refuse_duplicates(struct reader *r, struct json_value *map)
{
    size_t count = map->map.count;
    if (count < 2)
        return;
    autofree struct json_member **sorted = mem_zero(count, sizeof *sorted);
    for (size_t i = 0; i < count; i++)
        sorted[i] = &map->map.members[i];
    qsort(sorted, count, sizeof *sorted, compare_members);
    size_t twice = 0;
    for (size_t i = 1; i < count; i++) {
        if (!bytes_equal(sorted[i - 1]->name, sorted[i]->name))
            continue;
        struct err e;
        err_field(&e, ERR_INVALID, NULL, "remove one", "the key \"%.60s\" stands here a second time",
                  sorted[i]->name.data);
        add_fault(r, sorted[i]->line, sorted[i]->column, &e);
        sorted[i]->value.kind = JSON_KIND_NULL;
        sorted[i]->line = 0; /* marks it for removal; its name is still compared */
        twice++;
    }
    if (!twice)
        return;
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (map->map.members[i].line)
            map->map.members[kept++] = map->map.members[i];
    map->map.count = kept;
}

static bool read_map(struct reader *r, struct json_value *out)
{
    size_t cap = 0;
    out->kind = JSON_KIND_MAP;
    out->map.members = NULL;
    out->map.count = 0;
    for (;;) {
        yaml_event_t ev;
        if (!next_event(r, &ev))
            return false;
        if (ev.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&ev);
            refuse_duplicates(r, out);
            return true;
        }
        struct json_value name;
        struct json_member member;
        yaml_mark_t mark = ev.start_mark;
        if (!read_node(r, &ev, &name))
            return false;
        if (name.kind == JSON_KIND_LIST || name.kind == JSON_KIND_MAP || !name.text.size) {
            fault_at(r, mark, "write a word before the colon", "a key must be text");
            name.text = (struct bytes){ "", 0 };
        }
        if (!next_event(r, &ev) || !read_node(r, &ev, &member.value))
            return false;
        if (!name.text.size)
            continue;
        member.name = name.text;
        member.line = name.line;
        member.column = name.column;
        out->map.members = grow(r->arena, out->map.members, out->map.count, &cap, sizeof *out->map.members);
        out->map.members[out->map.count++] = member;
    }
}

/* Reads the node that starts with *ev, and deletes *ev. False: the file cannot be read further. */
static bool read_node(struct reader *r, yaml_event_t *ev, struct json_value *out)
{
    yaml_mark_t mark = ev->start_mark;
    *out = (struct json_value){ .kind = JSON_KIND_NULL,
                                .line = (uint32_t)mark.line + 1,
                                .column = (uint32_t)mark.column + 1 };
    yaml_event_type_t type = ev->type;
    if (type == YAML_SCALAR_EVENT) {
        no_extras(r, mark, ev->data.scalar.anchor, ev->data.scalar.tag);
        scalar(r, ev, out);
    } else if (type == YAML_SEQUENCE_START_EVENT) {
        no_extras(r, mark, ev->data.sequence_start.anchor, ev->data.sequence_start.tag);
    } else if (type == YAML_MAPPING_START_EVENT) {
        no_extras(r, mark, ev->data.mapping_start.anchor, ev->data.mapping_start.tag);
    } else if (type == YAML_ALIAS_EVENT) {
        fault_at(r, mark, "write it out, or use defaults:", "aliases are not used in job files");
    }
    yaml_event_delete(ev);
    if (++r->nodes > NODES_MAX_FILE) {
        fault_at(r, mark, "submit bulk work as an array, or as NDJSON", "the file has more than 1000000 values");
        return false;
    }
    if (type != YAML_SEQUENCE_START_EVENT && type != YAML_MAPPING_START_EVENT)
        return true;
    if (r->depth == DEPTH_MAX) {
        fault_at(r, mark, "make the file flatter", "more than 32 lists and maps in each other");
        return false;
    }
    r->depth++;
    bool whole = type == YAML_SEQUENCE_START_EVENT ? read_list(r, out) : read_map(r, out);
    r->depth--;
    return whole;
}

/* The one document of the stream. False: there is no tree; a fault says why. */
static bool read_document(struct reader *r, struct json_value *out)
{
    yaml_event_t ev;
    bool seen = false;
    for (;;) {
        if (!next_event(r, &ev))
            return false;
        yaml_mark_t mark = ev.start_mark;
        yaml_event_type_t type = ev.type;
        if (type == YAML_STREAM_START_EVENT || type == YAML_DOCUMENT_END_EVENT) {
            yaml_event_delete(&ev);
        } else if (type == YAML_STREAM_END_EVENT) {
            yaml_event_delete(&ev);
            if (!seen)
                fault_at(r, mark, "write a job: command: [program, argument]", "the file is empty");
            return seen;
        } else if (type == YAML_DOCUMENT_START_EVENT) {
            bool tags = ev.data.document_start.tag_directives.start != ev.data.document_start.tag_directives.end;
            yaml_event_delete(&ev);
            if (seen) {
                fault_at(r, mark, "put the jobs into one list: jobs: [...]", "a second document in the same file");
                return true;
            }
            if (tags)
                fault_at(r, mark, "leave the line out", "tags are not used in job files");
        } else {
            seen = true;
            if (!read_node(r, &ev, out))
                return false;
        }
    }
}

static bool read_yaml(struct reader *r, struct bytes text, struct json_value *out)
{
    int made = yaml_parser_initialize(&r->parser);
    check(made);
    yaml_parser_set_encoding(&r->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r->parser, (const unsigned char *)text.data, text.size);
    bool whole = read_document(r, out);
    yaml_parser_delete(&r->parser);
    return whole;
}

static const struct json_limits file_limits = { FILE_BYTES_MAX, DEPTH_MAX, NODES_MAX_FILE, TEXT_BYTES_MAX, true };

static bool starts_json(struct bytes text)
{
    size_t at = 0;
    while (at < text.size && memchr(" \t\r\n", text.data[at], 4))
        at++;
    return at < text.size && (text.data[at] == '{' || text.data[at] == '[');
}

/* JSON proper is read as JSON: YAML knows no \ud83d\ude00. What is only nearly JSON is left to YAML and its positions.
 */
static bool read_json(struct reader *r, struct bytes text, struct json_value *out)
{
    return starts_json(text) && json_in_parse(r->arena, text, &file_limits, out, NULL) == 0;
}

static void move_lines(struct json_value *v, uint32_t by)
{
    v->line += by;
    for (size_t i = 0; v->kind == JSON_KIND_LIST && i < v->list.count; i++)
        move_lines(&v->list.items[i], by);
    for (size_t i = 0; v->kind == JSON_KIND_MAP && i < v->map.count; i++) {
        v->map.members[i].line += by;
        move_lines(&v->map.members[i].value, by);
    }
}

/* The reader of one line says "1:COLUMN: text". */
static void line_fault(struct reader *r, uint32_t line, const struct err *fault)
{
    struct err e = *fault;
    unsigned column = 1;
    int skip = 0;
    if (sscanf(fault->text, "1:%u: %n", &column, &skip) == 1 && skip > 0)
        memmove(e.text, e.text + skip, strlen(e.text + skip) + 1);
    add_fault(r, line, column, &e);
}

/* NDJSON: the first line is a whole JSON object, and more follow. Then a line that is not one is a fault of its own. */
static bool read_ndjson(struct reader *r, struct bytes text, struct json_value *out)
{
    struct ndjson lines;
    struct bytes line;
    uint64_t number = 0;
    size_t cap = 0;
    if (!starts_json(text))
        return false;
    *out = (struct json_value){ .kind = JSON_KIND_LIST, .line = 1, .column = 1 };
    ndjson_init(&lines, FILE_BYTES_MAX);
    ndjson_feed(&lines, text);
    while (ndjson_next(&lines, &line, &number, NULL) == 1 || ndjson_end(&lines, &line, &number, NULL) == 1) {
        struct err e;
        struct json_value item;
        bool first = out->list.count == 0;
        if (json_in_parse(r->arena, line, &file_limits, &item, &e) < 0) {
            if (first)
                break;
            line_fault(r, (uint32_t)number, &e);
            continue;
        }
        if (first && item.kind != JSON_KIND_MAP)
            break; /* a list in the first line: not NDJSON */
        move_lines(&item, (uint32_t)number - 1);
        out->list.items = grow(r->arena, out->list.items, out->list.count, &cap, sizeof *out->list.items);
        out->list.items[out->list.count++] = item;
    }
    ndjson_fini(&lines);
    return out->list.count > 0;
}

/* --- names of the jobs so far --- */

struct names {
    struct {
        struct bytes name;
        bool twice;
    } * slots;         /* open addressing; empty: name.data NULL */
    size_t count, cap; /* cap: a power of two */
};

static size_t name_slot(const struct names *n, struct bytes name)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < name.size; i++)
        hash = (hash ^ (unsigned char)name.data[i]) * 1099511628211u;
    size_t at = (size_t)(hash ^ hash >> 32) & (n->cap - 1);
    while (n->slots[at].name.data && !bytes_equal(n->slots[at].name, name))
        at = (at + 1) & (n->cap - 1);
    return at;
}

static void names_init(struct names *n, size_t jobs)
{
    n->count = 0;
    n->cap = 16;
    while (n->cap < jobs * 2)
        n->cap *= 2;
    n->slots = mem_zero(n->cap, sizeof *n->slots);
}

static void names_add(struct names *n, struct bytes name)
{
    size_t at = name_slot(n, name);
    n->slots[at].twice = n->slots[at].name.data != NULL;
    n->slots[at].name = name;
}

static const char *nearest_name(const struct names *n, struct bytes name)
{
    const char *best = NULL;
    unsigned least = 3;
    for (size_t i = 0; i < n->cap && n->cap <= 65536; i++) {
        const char *other = n->slots[i].name.data;
        unsigned distance = other ? parse_distance(other, name.data) : least;
        if (distance < least) {
            least = distance;
            best = other;
        }
    }
    return best;
}

static void check_names(struct reader *r, const struct names *names, const struct spec_walk *w)
{
    for (size_t i = 0; i < w->names_count; i++) {
        const struct spec_after_name *after = &w->names[i];
        size_t at = name_slot(names, after->name);
        struct err e;
        if (!names->slots[at].name.data) {
            const char *near = nearest_name(names, after->name);
            char remedy[96] = "put that job before this one";
            if (near)
                snprintf(remedy, sizeof remedy, "did you mean %.60s?", near);
            err_field(&e, ERR_INVALID, "after", remedy, "no job named \"%.60s\" stands before this one",
                      after->name.data);
        } else if (names->slots[at].twice) {
            err_field(&e, ERR_INVALID, "after", "give the jobs different names",
                      "several jobs before this one are named \"%.60s\"", after->name.data);
        } else {
            continue;
        }
        add_fault(r, after->line, after->column, &e);
    }
}

/* --- from the tree to jobs --- */

struct job_file {
    struct json_value *jobs;
    size_t count;
    const struct json_value *defaults; /* NULL: none */
};

static bool find_jobs(struct reader *r, struct json_value *root, struct job_file *out)
{
    *out = (struct job_file){ .jobs = root, .count = 1 };
    struct err e;
    if (root->kind == JSON_KIND_LIST) {
        out->jobs = root->list.items;
        out->count = root->list.count;
    } else if (root->kind != JSON_KIND_MAP) {
        err_field(&e, ERR_INVALID, NULL, "write a job: command: [program, argument]",
                  "a job file is a map or a list, not %s", json_kind_text(root->kind));
        add_fault(r, root->line, root->column, &e);
        return false;
    } else if (json_in_get(root, "jobs") || json_in_get(root, "defaults")) {
        out->count = 0;
        for (size_t i = 0; i < root->map.count; i++) {
            struct json_member *m = &root->map.members[i];
            if (strcmp(m->name.data, "defaults") == 0) {
                out->defaults = &m->value;
            } else if (strcmp(m->name.data, "jobs") == 0 && m->value.kind == JSON_KIND_LIST) {
                out->jobs = m->value.list.items;
                out->count = m->value.list.count;
            } else if (strcmp(m->name.data, "jobs") == 0) {
                err_field(&e, ERR_INVALID, "jobs", "write one job per \"- \"", "jobs must be a list, not %s",
                          json_kind_text(m->value.kind));
                add_fault(r, m->value.line, m->value.column, &e);
                return false;
            } else {
                err_field(&e, ERR_INVALID, NULL, "put keys of a job below jobs: or defaults:",
                          "there is no key \"%.60s\" beside jobs and defaults", m->name.data);
                add_fault(r, m->line, m->column, &e);
            }
        }
    }
    if (!out->count && !r->faults_count) {
        err_field(&e, ERR_INVALID, NULL, "write a job: command: [program, argument]", "the file has no jobs");
        add_fault(r, root->line, root->column, &e);
    }
    return out->count > 0;
}

static void write_jobs(struct reader *r, const struct job_file *file, struct buf *out)
{
    struct spec_walk w = {
        .arena = r->arena, .now_wall_ms = clock_wall_ms(), .keep_names = true, .fault = add_fault, .fault_arg = r
    };
    struct job_spec base;
    spec_init(&base);
    if (file->defaults)
        spec_walk_map(&w, file->defaults, &base);
    const struct spec_after_name *base_names = w.names;
    size_t base_names_count = w.names_count;
    struct names names;
    names_init(&names, file->count);
    for (size_t i = 0; i < file->count; i++) {
        struct job_spec spec = base;
        w.names = base_names;
        w.names_count = base_names_count;
        w.faults = 0;
        w.command_refused = false;
        spec_walk_map(&w, &file->jobs[i], &spec);
        spec_walk_end(&w, &file->jobs[i], &spec);
        check_names(r, &names, &w);
        names_add(&names, spec.request.name);
        if (!r->faults_count)
            spec_write_line(out, &spec, w.names, w.names_count);
    }
    free(names.slots);
}

int spec_from_yaml(const char *file_name, struct bytes text, struct buf *out, struct buf *faults, struct err *err)
{
    if (text.size > FILE_BYTES_MAX)
        return err_field(err, ERR_TOO_LARGE, NULL, "submit bulk work as an array, or as NDJSON",
                         "%s has %zu bytes, more than %u", file_name, text.size, FILE_BYTES_MAX);
    if (text.size >= 3 && memcmp(text.data, "\xef\xbb\xbf", 3) == 0)
        text = bytes_of(text.data + 3, text.size - 3); /* libyaml counts the byte order mark as a column */
    struct arena arena = ARENA_INIT;
    struct reader r = { .arena = &arena, .text = text };
    size_t out_before = out->size;
    struct json_value root;
    struct job_file file;
    if ((read_json(&r, text, &root) || read_ndjson(&r, text, &root) || read_yaml(&r, text, &root)) &&
        find_jobs(&r, &root, &file))
        write_jobs(&r, &file, out);
    show_faults(&r, file_name, faults);
    arena_fini(&arena);
    if (!r.faults_count)
        return 0;
    if (out->data) {
        out->size = out_before;
        out->data[out_before] = 0;
    }
    return err_set(err, ERR_INVALID, "%s has %zu fault%s", file_name, r.faults_count, r.faults_count == 1 ? "" : "s");
}
