#include "cli/config.h"

#include <arpa/inet.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/parse.h"
#include "bus/bus.h"
#include "cli/profile.h"
#include "cli/yaml_doc.h"

enum config_type {
    TYPE_TEXT,
    TYPE_DIR,
    TYPE_FILE,
    TYPE_SIZE,
    TYPE_DURATION,
    TYPE_COUNT,
    TYPE_MILLI,
    TYPE_FLAG,
    TYPE_LIST,
    TYPE_CHOICE,
    TYPE_WORD,
    TYPE_UNITS
};

static const struct config_row {
    enum config_role role;
    const char *name;
    enum config_type type;
    size_t offset, bytes;
    const char *fallback, *min, *max, *help;
} rows[] = {
#define CONFIG(role, name, type, field, fallback, min, max, help)                                                      \
    { CONFIG_##role,                                                                                                   \
      #name,                                                                                                           \
      TYPE_##type,                                                                                                     \
      offsetof(struct settings, field),                                                                                \
      sizeof(((struct settings *)0)->field),                                                                           \
      fallback,                                                                                                        \
      min,                                                                                                             \
      max,                                                                                                             \
      help },
#include "config.def"
#undef CONFIG
};
#define ROWS (sizeof rows / sizeof *rows)
_Static_assert(ROWS <= 128, "struct settings has one bit per row");

/* --- rows as options --- */

static int64_t bound(const struct config_row *row, const char *text)
{
    uint64_t u64 = 0;
    int64_t i64 = 0;
    int rc = 0;
    if (row->type == TYPE_SIZE)
        rc = parse_size(text, &u64, NULL);
    else if (row->type == TYPE_DURATION)
        rc = parse_duration(text, &i64, NULL);
    else if (row->type == TYPE_MILLI)
        rc = parse_milli(text, &u64, NULL);
    else
        rc = parse_u64(text, 0, INT64_MAX, &u64, NULL);
    check(rc == 0); /* the table */
    return row->type == TYPE_DURATION ? i64 : (int64_t)u64;
}

static void option_of(const struct config_row *row, struct option_row *out)
{
    static const struct {
        enum option_kind kind;
        const char *argument;
    } kinds[] = {
        [TYPE_TEXT] = { OPTION_TEXT, "TEXT" },      [TYPE_DIR] = { OPTION_DIR, "DIR" },
        [TYPE_FILE] = { OPTION_FILE, "FILE" },      [TYPE_SIZE] = { OPTION_SIZE, "SIZE" },
        [TYPE_DURATION] = { OPTION_DURATION, "D" }, [TYPE_COUNT] = { OPTION_COUNT, "N" },
        [TYPE_MILLI] = { OPTION_MILLI, "X" },       [TYPE_FLAG] = { OPTION_FLAG, NULL },
        [TYPE_LIST] = { OPTION_TEXT, "TEXT" },      [TYPE_CHOICE] = { OPTION_CHOICE, "WORD" },
        [TYPE_WORD] = { OPTION_CHOICE, "WORD" },    [TYPE_UNITS] = { OPTION_PAIR, "NAME=N" },
    };
    char *name = mem_str(row->name), *help = mem_str(row->help); /* for the life of the program */
    for (char *at = name; *at; at++)
        if (*at == '_')
            *at = '-';
    if (help[0] >= 'A' && help[0] <= 'Z' && !(help[1] >= 'A' && help[1] <= 'Z'))
        help[0] += 32;
    if (help[strlen(help) - 1] == '.')
        help[strlen(help) - 1] = '\0';
    *out = (struct option_row){ .name = name,
                                .kind = kinds[row->type].kind,
                                .argument = kinds[row->type].argument,
                                .group = "Settings",
                                .fallback = row->fallback[0] ? row->fallback : NULL,
                                .help = help };
    if (row->type == TYPE_CHOICE || row->type == TYPE_WORD)
        out->choices = row->max;
    if (row->type == TYPE_LIST || row->type == TYPE_UNITS)
        out->flags = OPTION_REPEATED;
    if (row->type == TYPE_SIZE || row->type == TYPE_DURATION || row->type == TYPE_COUNT || row->type == TYPE_MILLI) {
        out->min = bound(row, row->min);
        out->max = bound(row, row->max);
    }
}

static struct option_row *option_table(enum config_role role)
{
    static struct option_row tables[2][ROWS + 1];
    struct option_row *table = tables[role];
    bool made = table[0].name != NULL;
    for (size_t i = 0, count = 0; !made && i < ROWS; i++)
        if (rows[i].role == role)
            option_of(&rows[i], &table[count++]);
    return table;
}

const struct option_row *config_options(enum config_role role)
{
    return option_table(role);
}

/* The option that stands for a row, by counting: both tables have one order. */
static const struct option_row *option_at(size_t row)
{
    size_t place = 0;
    for (size_t i = 0; i < row; i++)
        place += rows[i].role == rows[row].role;
    return &option_table(rows[row].role)[place];
}

/* --- keeping values --- */

static const char *keep_text(struct settings *s, const char *text)
{
    return arena_str(&s->arena, bytes_str(text));
}

static void put_integer(struct settings *s, const struct config_row *row, uint64_t value)
{
    char *place = (char *)s + row->offset;
    switch (row->bytes) {
    case 1:
        *(uint8_t *)place = (uint8_t)value;
        break;
    case 2:
        *(uint16_t *)place = (uint16_t)value;
        break;
    case 4:
        *(uint32_t *)place = (uint32_t)value;
        break;
    case 8:
        *(uint64_t *)place = value;
        break;
    default:
        check_unreachable();
    }
}

static uint64_t choice_place(const char *choices, const char *word)
{
    int place = parse_choice(bytes_str(word), choices);
    check(place >= 0);
    return (uint64_t)place;
}

static const char **list_of(struct settings *s, const struct config_row *row)
{
    return row->offset == offsetof(struct settings, master.hosts) ? s->host_list : s->notify_list;
}

static int add_to_list(struct settings *s, const struct config_row *row, const char *text, struct err *err)
{
    const char **list = list_of(s, row);
    size_t count = 0;
    while (list[count])
        count++;
    if (count == HOSTS_MAX)
        return err_set(err, ERR_INVALID, "more than %d names", HOSTS_MAX);
    list[count] = keep_text(s, text);
    *(const char *const **)((char *)s + row->offset) = list;
    return 0;
}

static int add_resource(struct settings *s, const char *name, const char *units, struct err *err)
{
    struct worker_config *w = &s->worker;
    uint64_t value = 0;
    if (parse_u64(units, 0, INT64_MAX, &value, err) < 0)
        return -ERR_INVALID;
    if (!parse_name_ok(bytes_str(name), RES_NAME_BYTES - 1))
        return err_field(err, ERR_INVALID, NULL, "write 1 to 31 bytes", "\"%.40s\" is not the name of a resource",
                         name);
    if (strcmp(name, "cpus") == 0 || strcmp(name, "mem") == 0 || strcmp(name, "gpus") == 0 ||
        strcmp(name, "mem_bytes") == 0)
        return err_set(err, ERR_INVALID, "%s is a setting of its own", name);
    if (w->named_count == RES_NAMED_MAX)
        return err_set(err, ERR_INVALID, "more than %d named resources", RES_NAMED_MAX);
    for (size_t i = 0; i < w->named_count; i++)
        if (strcmp(w->named[i].name, name) == 0)
            return err_set(err, ERR_INVALID, "\"%s\" is there twice", name);
    snprintf(w->named[w->named_count].name, RES_NAME_BYTES, "%s", name);
    w->named[w->named_count++].count = value;
    return 0;
}

/* One value of one row, as text. */
static int put(struct settings *s, size_t index, const char *text, struct err *err)
{
    const struct config_row *row = &rows[index];
    const struct option_row *option = option_at(index);
    struct given value;
    if (row->type == TYPE_FLAG) {
        bool yes = strcmp(text, "true") == 0 || strcmp(text, "yes") == 0 || strcmp(text, "on") == 0;
        if (!yes && strcmp(text, "false") != 0 && strcmp(text, "no") != 0 && strcmp(text, "off") != 0)
            return err_field(err, ERR_INVALID, NULL, "write true or false", "\"%s\" is neither true nor false", text);
        put_integer(s, row, yes);
        return 0;
    }
    int rc = option_value(option, text, &value, err);
    if (rc < 0)
        return rc;
    switch (row->type) {
    case TYPE_TEXT:
    case TYPE_DIR:
    case TYPE_FILE:
        if (!*text)
            return err_field(err, ERR_INVALID, NULL, "write it, or leave the setting out", "the text is empty");
        if (row->max[0] && !parse_name_ok(bytes_str(text), (size_t)atoi(row->max)))
            return err_field(err, ERR_INVALID, NULL, "write 1 to 63 bytes of UTF-8 without control characters",
                             "not a name");
        *(const char **)((char *)s + row->offset) = keep_text(s, text);
        return 0;
    case TYPE_WORD:
        *(const char **)((char *)s + row->offset) = keep_text(s, text);
        return 0;
    case TYPE_CHOICE:
        put_integer(s, row, choice_place(row->max, text));
        return 0;
    case TYPE_DURATION:
        put_integer(s, row, (uint64_t)value.i64);
        return 0;
    case TYPE_SIZE:
    case TYPE_COUNT:
    case TYPE_MILLI:
        put_integer(s, row, value.u64);
        return 0;
    case TYPE_LIST:
        return add_to_list(s, row, text, err);
    case TYPE_UNITS: {
        const char *equals = strchr(text, '=');
        autofree char *name = mem_copy(text, (size_t)(equals - text) + 1);
        name[equals - text] = '\0';
        return add_resource(s, name, equals + 1, err);
    }
    case TYPE_FLAG:
        break;
    }
    check_unreachable();
}

void settings_init(struct settings *s)
{
    memset(s, 0, sizeof *s);
    master_config_default(&s->master);
    worker_config_default(&s->worker);
    for (size_t i = 0; i < ROWS; i++)
        if (rows[i].fallback[0])
            check(put(s, i, rows[i].fallback, NULL) == 0);
    memset(s->set, 0, sizeof s->set);
}

void settings_fini(struct settings *s)
{
    arena_fini(&s->arena);
}

/* --- from YAML --- */

static void fault(struct yaml_doc *doc, size_t node, struct buf *faults, const char *name, const struct err *err)
{
    yaml_doc_fault(doc, node, faults, "%s: %s%s%s", name, err->text, err->remedy[0] ? "; " : "", err->remedy);
}

static void read_list(struct settings *s, size_t row, struct yaml_doc *doc, size_t value, struct buf *faults)
{
    struct err err;
    for (size_t i = 0; i < yaml_doc_count(doc, value); i++) {
        size_t item = yaml_doc_item(doc, value, i);
        const char *text = yaml_doc_text(doc, item);
        if (!text)
            yaml_doc_fault(doc, item, faults, "%s: write a text", rows[row].name);
        else if (put(s, row, text, &err) < 0)
            fault(doc, item, faults, rows[row].name, &err);
    }
}

static void read_units(struct settings *s, size_t row, struct yaml_doc *doc, size_t value, struct buf *faults)
{
    struct err err;
    if (yaml_doc_kind(doc, value) != YAML_DOC_MAP) {
        yaml_doc_fault(doc, value, faults, "%s: write a map of NAME: N", rows[row].name);
        return;
    }
    for (size_t i = 0; i < yaml_doc_count(doc, value); i++) {
        size_t key = yaml_doc_key(doc, value, i), item = yaml_doc_item(doc, value, i);
        const char *name = yaml_doc_text(doc, key), *units = yaml_doc_text(doc, item);
        if (!name || !units)
            yaml_doc_fault(doc, key, faults, "%s: write NAME: N", rows[row].name);
        else if (add_resource(s, name, units, &err) < 0)
            fault(doc, item, faults, rows[row].name, &err);
    }
}

static void read_setting(struct settings *s, size_t row, struct yaml_doc *doc, size_t key, size_t value,
                         struct buf *faults)
{
    struct err err;
    const char *text = yaml_doc_text(doc, value);
    if (s->set[row / 64] & 1ull << row % 64) {
        yaml_doc_fault(doc, key, faults, "%s: given twice", rows[row].name);
        return;
    }
    s->set[row / 64] |= 1ull << row % 64;
    if (rows[row].type == TYPE_LIST && yaml_doc_kind(doc, value) == YAML_DOC_LIST)
        read_list(s, row, doc, value, faults);
    else if (rows[row].type == TYPE_UNITS)
        read_units(s, row, doc, value, faults);
    else if (!text)
        yaml_doc_fault(doc, value, faults, "%s: write one value", rows[row].name);
    else if (put(s, row, text, &err) < 0)
        fault(doc, value, faults, rows[row].name, &err);
}

struct role_rows {
    enum config_role role;
};

static const char *row_name_at(const void *arg, size_t index)
{
    const struct role_rows *r = arg;
    for (size_t i = 0; i < ROWS; i++)
        if (rows[i].role == r->role && index-- == 0)
            return rows[i].name;
    check_unreachable();
}

static size_t rows_of(enum config_role role)
{
    size_t count = 0;
    for (size_t i = 0; i < ROWS; i++)
        count += rows[i].role == role;
    return count;
}

static void read_section(struct settings *s, enum config_role role, struct yaml_doc *doc, size_t section,
                         struct buf *faults)
{
    const char *role_name = role == CONFIG_master ? "master" : "worker";
    const char *empty = yaml_doc_text(doc, section);
    if (empty && (!*empty || strcmp(empty, "~") == 0 || strcmp(empty, "null") == 0))
        return;
    if (yaml_doc_kind(doc, section) != YAML_DOC_MAP) {
        yaml_doc_fault(doc, section, faults, "%s: write a map of settings", role_name);
        return;
    }
    for (size_t i = 0; i < yaml_doc_count(doc, section); i++) {
        size_t key = yaml_doc_key(doc, section, i), row = 0;
        const char *name = yaml_doc_text(doc, key);
        while (row < ROWS && !(rows[row].role == role && name && strcmp(rows[row].name, name) == 0))
            row++;
        if (row < ROWS) {
            read_setting(s, row, doc, key, yaml_doc_item(doc, section, i), faults);
            continue;
        }
        const char *near = name ? nearest(name, row_name_at, &(struct role_rows){ role }, rows_of(role)) : NULL;
        if (near)
            yaml_doc_fault(doc, key, faults, "there is no setting \"%s\" of the %s; did you mean %s?", name, role_name,
                           near);
        else
            yaml_doc_fault(doc, key, faults, "there is no setting \"%s\" of the %s; rota %s --help lists them",
                           name ? name : "?", role_name, role_name);
    }
}

static const char *role_at(const void *arg, size_t index)
{
    (void)arg;
    return index ? "worker" : "master";
}

int settings_from_yaml(struct settings *s, const char *file, struct bytes text, struct buf *faults)
{
    size_t before = faults->size;
    struct yaml_doc *doc = yaml_doc_read(file, text, faults);
    size_t root = doc ? yaml_doc_root(doc) : 0;
    bool seen[2] = { false, false };
    if (root && yaml_doc_kind(doc, root) != YAML_DOC_MAP) {
        yaml_doc_fault(doc, root, faults, "a settings file is a map with the sections master and worker");
        root = 0;
    }
    for (size_t i = 0; root && i < yaml_doc_count(doc, root); i++) {
        size_t key = yaml_doc_key(doc, root, i);
        const char *name = yaml_doc_text(doc, key);
        int role = !name                         ? -1
                   : strcmp(name, "master") == 0 ? CONFIG_master
                   : strcmp(name, "worker") == 0 ? CONFIG_worker
                                                 : -1;
        if (role < 0) {
            const char *near = name ? nearest(name, role_at, NULL, 2) : NULL;
            yaml_doc_fault(doc, key, faults, "there is no section \"%s\"; %s%s", name ? name : "?",
                           near ? "did you mean " : "write master or worker", near ? near : "");
        } else if (seen[role]) {
            yaml_doc_fault(doc, key, faults, "the section %s is there twice", name);
        } else {
            seen[role] = true;
            read_section(s, (enum config_role)role, doc, yaml_doc_item(doc, root, i), faults);
        }
    }
    yaml_doc_free(doc);
    return faults->size > before ? -ERR_INVALID : 0;
}

/* --- from options --- */

int settings_from_args(struct settings *s, enum config_role role, const struct args *args, struct err *err)
{
    for (size_t i = 0; i < ROWS; i++) {
        const struct option_row *option = option_at(i);
        const struct given *g = NULL;
        if (rows[i].role != role)
            continue;
        if (args_has(args, option->name) && rows[i].type == TYPE_LIST)
            memset(list_of(s, &rows[i]), 0, sizeof s->host_list); /* the options replace the file's list */
        if (args_has(args, option->name) && rows[i].type == TYPE_UNITS)
            s->worker.named_count = 0;
        while ((g = args_next(args, option->name, g))) {
            int rc = put(s, i, g->text ? g->text : "true", err);
            if (rc < 0) {
                if (err)
                    snprintf(err->field, sizeof err->field, "--%s", option->name);
                return rc;
            }
            s->set[i / 64] |= 1ull << i % 64;
        }
    }
    return 0;
}

/* --- the whole --- */

static bool address_loopback(const char *text)
{
    struct in_addr four;
    struct in6_addr six;
    if (strcmp(text, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, text, &four) == 1)
        return ntohl(four.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, text, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}

static void in_order(struct buf *faults, const char *low, int64_t low_ms, const char *high, int64_t high_ms,
                     bool equal_ok)
{
    if (low_ms < high_ms || (equal_ok && low_ms == high_ms))
        return;
    buf_printf(faults, "master: %s (", low);
    format_duration(faults, low_ms);
    buf_printf(faults, ") must be %s %s (", equal_ok ? "at most" : "shorter than", high);
    format_duration(faults, high_ms);
    buf_str(faults, ")\n");
}

static void check_bus(enum config_role role, const char *url, struct buf *faults)
{
    struct err err = { 0 };
    if (url && bus_check(url, &err) < 0)
        buf_printf(faults, "%s: bus: %s; %s\n", role == CONFIG_master ? "master" : "worker", err.text, err.remedy);
}

int settings_check(const struct settings *s, enum config_role role, struct buf *faults)
{
    size_t before = faults->size;
    const struct sched_config *c = &s->master.sched;
    if (role == CONFIG_master) {
        /* guarantees: HB < SUSPECT < LEASE < HOLD <= LOST_AFTER: a worker must notice before its master acts on it. */
        in_order(faults, "heartbeat", c->heartbeat_ms, "suspect", c->suspect_ms, false);
        in_order(faults, "suspect", c->suspect_ms, "lease", c->lease_ms, false);
        in_order(faults, "lease", c->lease_ms, "down", c->down_ms, false);
        in_order(faults, "down", c->down_ms, "lost_after", c->lost_after_ms, true);
        if (s->master.address && !address_loopback(s->master.address) && !s->master.anywhere)
            buf_printf(faults,
                       "master: address %s can be reached by others, and there is no TLS; set insecure_bind to true if "
                       "you trust the network\n",
                       s->master.address);
    }
    check_bus(role, role == CONFIG_master ? s->master.bus_url : s->worker.bus_url, faults);
    return faults->size > before ? -ERR_INVALID : 0;
}

void settings_complete(struct settings *s)
{
    autofree char *base = state_dir_default();
    autobuf struct buf path = BUF_INIT;
    if (!s->master.state_dir) {
        buf_printf(&path, "%s/master", base);
        s->master.state_dir = keep_text(s, path.data);
    }
    if (!s->worker.state_dir) {
        buf_clear(&path);
        buf_printf(&path, "%s/worker", base);
        s->worker.state_dir = keep_text(s, path.data);
    }
    if (!s->worker.bus_url) {
        buf_clear(&path);
        buf_printf(&path, "unix:%s/master/bus.sock", base);
        s->worker.bus_url = keep_text(s, path.data);
    }
    s->master.queue_max = s->master.sched.jobs_max;
}
