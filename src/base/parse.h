/* parse.h: numbers, sizes, durations, times and index lists as people write them, and back.
 * Each parser takes the whole text; on failure *err says what is wrong and how to write it (field is left to the caller). */
#ifndef ROTA_BASE_PARSE_H
#define ROTA_BASE_PARSE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

int parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *out, struct err *err);   /* 1_000_000 */
int parse_i64(const char *text, int64_t min, int64_t max, int64_t *out, struct err *err);
int parse_size(const char *text, uint64_t *bytes, struct err *err);         /* 512M 1.5G 4096 2KiB; K M G T are 1024-based */
/* What a job asks of memory: a size, "auto", or "auto:" and a size to begin with. *bytes is 0 if none is named. */
int parse_mem(const char *text, bool *automatic, uint64_t *bytes, struct err *err);
int parse_duration(const char *text, int64_t *ms, struct err *err);         /* 90s 2h30m 15days 250ms; a bare number is seconds */
int parse_milli(const char *text, uint64_t *milli, struct err *err);        /* CPUs, GPUs: 0.5 4 -> 500 4000 */
int parse_time(const char *text, int64_t now_wall_ms, int64_t *wall_ms, struct err *err); /* RFC 3339, "2026-11-23 10:00", "now+2h", "+2h" */
/* "1-1000%50", "0-9:3", "7": first, step, count and limit (0: none). Lists with commas are refused with a remedy. */
int parse_array(const char *text, uint32_t *first, uint32_t *step, uint32_t *count, uint32_t *limit, struct err *err);
/* "A_7", "5-9,12", "last", "all" and names are selectors: see cli/select.h. This one: job id with optional _INDEX. */
int parse_job_ref(const char *text, uint64_t *job, bool *has_index, uint32_t *index, struct err *err);
int parse_choice(struct bytes word, const char *choices); /* its place in "a|b|c"; -1: it is not there */
struct bytes choice_word(const char *choices, size_t place); /* borrows from them; empty: there are not so many */
bool parse_name_ok(struct bytes name, size_t max);  /* valid UTF-8, 1..max bytes, no control characters (C0, C1, DEL), no bidi overrides */
bool utf8_valid(struct bytes text);

void format_size(struct buf *out, uint64_t bytes);         /* "1.5G" */
void format_duration(struct buf *out, int64_t ms);         /* "2h30m", "90s", "1.25s" */
void format_milli(struct buf *out, uint64_t milli);        /* "0.5", "4" */
void format_time(struct buf *out, int64_t wall_ms);        /* RFC 3339 UTC, milliseconds */
/* How far two words are apart (Damerau-Levenshtein), for "did you mean"; at most 32 bytes are compared. */
unsigned parse_distance(const char *a, const char *b);

#endif
