/* json_out.h: append-only JSON writer. Keeps commas right; the caller keeps objects and arrays balanced.
 * Text is written as UTF-8; control characters, quotes, backslash, U+2028/9 are escaped; bytes that are not UTF-8 become U+FFFD. */
#ifndef ROTA_WIRE_JSON_OUT_H
#define ROTA_WIRE_JSON_OUT_H

#include <stdbool.h>

#include "base/buf.h"

struct json_out { struct buf *to; bool comma; };
static inline struct json_out json_out_to(struct buf *b) { return (struct json_out){ b, false }; }
void json_open(struct json_out *j, const char *key, char bracket);   /* '{' or '['; key NULL inside an array or at the top */
void json_close(struct json_out *j, char bracket);                   /* '}' or ']' */
void json_str(struct json_out *j, const char *key, struct bytes text);
void json_pair(struct json_out *j, struct bytes key, struct bytes text); /* json_str; the key needs no final zero */
void json_cstr(struct json_out *j, const char *key, const char *text); /* NULL: null */
void json_u64(struct json_out *j, const char *key, uint64_t v);
void json_i64(struct json_out *j, const char *key, int64_t v);
void json_num(struct json_out *j, const char *key, double v, int decimals); /* not finite: null */
void json_bool(struct json_out *j, const char *key, bool v);
void json_raw(struct json_out *j, const char *key, struct bytes json);      /* already JSON */
/* Inline, because libjansson calls its own json_null() by name: a global one of ours would be called in its place. */
static inline void json_null(struct json_out *j, const char *key) { json_raw(j, key, bytes_str("null")); }
/* Nothing known is null: an empty text, the number 0. */
static inline void json_bytes(struct json_out *j, const char *key, struct bytes text)
{
    if (text.size)
        json_str(j, key, text);
    else
        json_null(j, key);
}
static inline void json_id(struct json_out *j, const char *key, uint64_t id)
{
    if (id)
        json_u64(j, key, id);
    else
        json_null(j, key);
}
void json_choice(struct json_out *j, const char *key, size_t place, const char *choices); /* that word of "a|b|c"; null: there are not so many */
void json_time(struct json_out *j, const char *key, int64_t wall_ms);       /* RFC 3339 UTC with milliseconds; 0: null */

#endif
