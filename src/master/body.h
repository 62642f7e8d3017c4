/* body.h: reading request bodies: small flat JSON objects by a table of their keys, and lists of jobs. Pure. */
#ifndef ROTA_MASTER_BODY_H
#define ROTA_MASTER_BODY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

#define BODY_BYTES_MAX 65536u /* of a small object */

enum body_type { BODY_TEXT, BODY_INTEGER, BODY_MILLI, BODY_BOOL, BODY_OBJECT /* as it was sent: who takes it reads it */ };
struct body_field {
    const char *name;
    enum body_type type;
    bool required;
    bool nullable;        /* null may be given */
    int64_t min, max;     /* BODY_INTEGER, BODY_MILLI (in thousandths): its bounds; BODY_TEXT: max is the longest text in bytes */
    /* filled */
    bool given, null;
    int64_t integer;      /* BODY_MILLI: in thousandths; BODY_BOOL: 0 or 1 */
    struct bytes text;    /* in the arena; valid UTF-8 without control characters. BODY_OBJECT: JSON, borrowed from the body */
};

/* An object with just these keys. No body at all reads as {}. Unknown and repeated keys, wrong types, and values out of
 * bounds are refused by name. */
int body_read(struct arena *arena, struct bytes json, struct body_field *fields, size_t count, struct err *err);
/* The value of that name in an object that was read before, as it was written; empty: it is not there, or its name is written with escapes. */
struct bytes body_member(struct bytes object, const char *name);

/* Takes the elements out of a JSON list one by one without understanding them: brackets and quotes are followed, no
 * more. Each element still has to be read by a parser that refuses what is wrong in it. */
struct body_list {
    const char *at, *end;
    size_t count;         /* elements given out so far */
    bool open;
};
bool body_is_list(struct bytes json);                    /* the first thing in it is a [ */
void body_list_start(struct body_list *l, struct bytes json);
/* 1: *element is the next one; 0: the list has ended properly; negative: ERR_INVALID, it is no list. */
int body_list_next(struct body_list *l, struct bytes *element, struct err *err);

#endif
