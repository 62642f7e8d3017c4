/* Holds docs/jobfile.md to the program: its table of keys is the one of schema/jobspec.def, and its examples are valid
 * job files. Run with --write it puts the table into the file anew. Arguments: [--write] FILE */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "wire/spec.h"

#define TABLE_BEGIN "<!-- keys: made by spec_doc_test --write -->\n"
#define TABLE_END "<!-- end of keys -->\n"

static void write_bound(struct buf *out, int64_t value)
{
    for (int power = 40; power < 63; power++) {
        if (value == (int64_t)1 << power) {
            buf_printf(out, "2^%d", power);
            return;
        }
    }
    buf_i64(out, value);
}

static void write_range(struct buf *out, const struct spec_key *key, const char *unit)
{
    buf_str(out, ", ");
    write_bound(out, key->min);
    buf_str(out, " to ");
    write_bound(out, key->max);
    if (*unit)
        buf_printf(out, " %s", unit);
}

static void write_row(struct buf *out, const struct spec_key *key)
{
    buf_printf(out, "| `%s` | %s", key->name, spec_type_text(key->type));
    switch (key->type) {
    case SPEC_NAME:
    case SPEC_PATH: write_range(out, key, "bytes"); break;
    case SPEC_COMMAND:
    case SPEC_ENV:
    case SPEC_LABELS:
    case SPEC_COUNTS:
    case SPEC_AFTER: buf_printf(out, ", at most %lld", (long long)key->max); break;
    case SPEC_INTEGER:
    case SPEC_MILLI: write_range(out, key, key->unit); break;
    case SPEC_SECONDS:
    case SPEC_DURATION: write_range(out, key, "s"); break;
    case SPEC_ARRAY: write_range(out, key, "tasks"); break;
    case SPEC_WORD:
    case SPEC_BOOL:
    case SPEC_SIZE:
    case SPEC_TIME:
    case SPEC_SIMULATE:
    case SPEC_TYPES: break;
    }
    buf_printf(out, " | %s | %s |\n", key->fallback_text, key->help);
}

static void write_table(struct buf *out)
{
    size_t count;
    const struct spec_key *keys = spec_keys(&count);
    buf_str(out, TABLE_BEGIN "| key | value | default | |\n|---|---|---|---|\n");
    for (size_t i = 0; i < count; i++)
        write_row(out, &keys[i]);
    buf_str(out, TABLE_END);
}

static int read_file(const char *path, struct buf *out)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return -1;
    char piece[4096];
    for (size_t n; (n = fread(piece, 1, sizeof piece, f)) > 0;)
        buf_add(out, piece, n);
    return fclose(f);
}

static int compare_table(const char *found, size_t size, const struct buf *table)
{
    if (size == table->size && memcmp(found, table->data, size) == 0)
        return 0;
    size_t same = 0;
    while (same < size && same < table->size && found[same] == table->data[same])
        same++;
    while (same && table->data[same - 1] != '\n')
        same--;
    fprintf(stderr,
            "the table of keys is not that of schema/jobspec.def (run this with --write); first difference:\n  %.*s\n  "
            "%.*s\n",
            (int)strcspn(found + same, "\n"), found + same, (int)strcspn(table->data + same, "\n"), table->data + same);
    return 1;
}

/* Every block between ```yaml or ```json and ``` must be a job file. */
static int check_examples(const char *text)
{
    int bad = 0, seen = 0;
    for (const char *at = text; (at = strstr(at, "\n```")); at++) {
        at += 4;
        if (strncmp(at, "yaml\n", 5) != 0 && strncmp(at, "json\n", 5) != 0)
            continue;
        at += 5;
        const char *end = strstr(at, "\n```");
        if (!end)
            break;
        autobuf struct buf out = BUF_INIT, faults = BUF_INIT;
        struct err e;
        seen++;
        if (spec_from_yaml("example", bytes_of(at, (size_t)(end - at) + 1), &out, &faults, &e) < 0) {
            fprintf(stderr, "an example is no job file: %s\n%s%.*s\n", e.text, faults.data ? faults.data : "",
                    (int)(end - at), at);
            bad = 1;
        }
        at = end + 3;
    }
    if (seen < 3)
        fprintf(stderr, "only %d examples were found\n", seen);
    return bad || seen < 3;
}

static int write_file(const char *path, const struct buf *text)
{
    FILE *f = fopen(path, "we");
    if (!f)
        return -1;
    size_t n = fwrite(text->data, 1, text->size, f);
    return fclose(f) == 0 && n == text->size ? 0 : -1;
}

int main(int argc, char **argv)
{
    int write = argc == 3 && strcmp(argv[1], "--write") == 0;
    const char *path = argv[argc - 1];
    autobuf struct buf text = BUF_INIT, table = BUF_INIT;
    if (argc < 2 || read_file(path, &text) < 0 || !text.size) {
        fprintf(stderr, "usage: spec_doc_test [--write] FILE: %s\n", strerror(errno));
        return 2;
    }
    write_table(&table);
    const char *begin = strstr(text.data, TABLE_BEGIN), *end = begin ? strstr(begin, TABLE_END) : NULL;
    if (!end) {
        fprintf(stderr, "%s has no table of keys\n", path);
        return 1;
    }
    end += strlen(TABLE_END);
    if (write) {
        autobuf struct buf all = BUF_INIT;
        buf_add(&all, text.data, (size_t)(begin - text.data));
        buf_add(&all, table.data, table.size);
        buf_str(&all, end);
        return write_file(path, &all) < 0;
    }
    int table_bad = compare_table(begin, (size_t)(end - begin), &table);
    return check_examples(text.data) || table_bad;
}
