/* json_in.h: strict JSON from strangers, read into a tree of plain values in an arena.
 *
 * Grammar by jansson; refused beyond it: too much of anything (limits below), duplicate keys, numbers that a double cannot
 * hold exactly (whole numbers beyond 2^53, 1e999, NaN), bad UTF-8, lone surrogates, NUL. Depth and members are counted by a scan
 * before any memory is taken, so what a document costs is bounded. The tree is what spec.h reads, from JSON and YAML alike. */
#ifndef ROTA_WIRE_JSON_IN_H
#define ROTA_WIRE_JSON_IN_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/err.h"

enum json_kind {
    JSON_KIND_NULL, JSON_KIND_BOOL, JSON_KIND_INTEGER, JSON_KIND_REAL, JSON_KIND_TEXT, JSON_KIND_LIST, JSON_KIND_MAP
};

struct json_member;
struct json_value {
    enum json_kind kind;
    bool plain;            /* YAML: an unquoted scalar; `text` is how it was written */
    uint32_t line, column; /* from 1; 0 if not asked for */
    struct bytes text;     /* TEXT; followed by a zero byte, and free of others */
    union {
        bool boolean;
        int64_t integer;   /* within +-2^53 */
        double real;       /* finite */
        struct { struct json_value *items; size_t count; } list;
        struct { struct json_member *members; size_t count; } map; /* in the order of the document, no name twice */
    };
};
struct json_member {
    struct bytes name;
    uint32_t line, column;
    struct json_value value;
};

struct json_limits {
    size_t bytes;      /* of the document */
    size_t depth;      /* of lists and maps in each other */
    size_t members;    /* items and members of all lists and maps together */
    size_t text_bytes; /* of one string */
    bool positions;    /* fill in line and column: costs a second pass */
};
#define JSON_LIMITS_DEFAULT ((struct json_limits){ 1048576, 32, 10000, 65536, false })

/* Reads one document, a list or map at the top. limits NULL: the default. ERR_TOO_LARGE: more bytes than the limit;
 * else ERR_INVALID with "LINE:COLUMN: what is wrong". Everything is copied into the arena. */
int json_in_parse(struct arena *arena, struct bytes text, const struct json_limits *limits, struct json_value *out,
                  struct err *err);
/* The member of that name, or NULL; also NULL if map is no map. */
const struct json_value *json_in_get(const struct json_value *map, const char *name);
const char *json_kind_text(enum json_kind kind); /* "a list" */

/* NDJSON: splits a stream that arrives in pieces of any size into its lines. Empty lines are skipped and counted; a CR
 * at the end belongs to the line end. */
struct ndjson {
    struct buf kept;      /* start of a line whose end has not come */
    struct bytes piece;   /* what is left of the last piece */
    size_t line_bytes_max;
    uint64_t line;        /* number of the last line given out or skipped */
    bool handed;          /* kept was given out as a line */
    bool failed;
};
#define NDJSON_LINE_MAX 1048576u
void ndjson_init(struct ndjson *n, size_t line_bytes_max); /* 0: NDJSON_LINE_MAX */
void ndjson_fini(struct ndjson *n);
/* Adds a piece; it is borrowed until ndjson_next has returned 0. */
void ndjson_feed(struct ndjson *n, struct bytes piece);
/* 1: a line and its number, borrowed until the next call. 0: feed more. ERR_TOO_LARGE: the line is too long, and the
 * stream has failed: every further call says so. */
int ndjson_next(struct ndjson *n, struct bytes *line, uint64_t *number, struct err *err);
/* The stream has ended: 1 with the last line if it had no line end, else 0. */
int ndjson_end(struct ndjson *n, struct bytes *line, uint64_t *number, struct err *err);

#endif
