/* spec_walk.h: from a tree of plain values to a job, driven by schema/jobspec.def. Inside wire/ only. */
#ifndef ROTA_WIRE_SPEC_WALK_H
#define ROTA_WIRE_SPEC_WALK_H

#include "wire/json_in.h"
#include "wire/spec.h"

#define SPEC_SAME_ROW_MAX 64 /* rows of the table that a walk can tell apart: bits of a mask */

/* `after` by the name of a job of the same file. */
struct spec_after_name {
    struct bytes name;
    enum after_when when;
    uint32_t line, column;
};

struct spec_walk {
    struct arena *arena;
    int64_t now_wall_ms;        /* 0: relative times are refused */
    bool (*job_by_name)(void *arg, struct bytes name, job_id *out);
    void *arg;
    bool keep_names;            /* put `after` by name into names instead of resolving it */
    const struct spec_after_name *names; size_t names_count;
    /* Called for every fault. Walking goes on, so that one run finds them all. */
    void (*fault)(void *fault_arg, uint32_t line, uint32_t column, const struct err *fault);
    void *fault_arg;
    size_t faults;
    bool command_refused;       /* a command was given, but not as it must be: it is not missing too */
};

/* Reads the members of `map` into *spec, over what is there: maps are merged, the rest is replaced. */
void spec_walk_map(struct spec_walk *w, const struct json_value *map, struct job_spec *spec);
/* Fills in what follows from the rest and checks the whole; faults are placed by looking up their field in `map`. */
void spec_walk_end(struct spec_walk *w, const struct json_value *map, struct job_spec *spec);
void spec_walk_fault(struct spec_walk *w, const struct json_value *at, const struct err *fault);
/* spec_to_json for a line of a job file: with dependencies by name, and with the name that others may refer to. */
void spec_write_line(struct buf *out, const struct job_spec *spec, const struct spec_after_name *names,
                     size_t names_count);

/* A message may quote the input: what could steer a terminal (C0, DEL, C1) becomes a question mark. */
void spec_harmless(char *text);

/* Parts of spec.c that the walk and the writer share. */
/* prefix: "" at the top, else "simulate." or "after[].". NULL: there is no such key. */
const struct spec_key *spec_key_find(const char *prefix, struct bytes name);
/* The file name of command[0], or "job" if that cannot be a name; borrowed. */
struct bytes spec_default_name(const struct job_spec *spec);
int spec_check_joined(const struct job_spec *spec, struct err *err); /* rules that join several keys */
/* One variable or label. */
bool spec_key_tokens(const struct spec_key *key); /* of type SPEC_COUNTS: tokens of the cluster, not resources of a node */
int spec_check_pair(const struct spec_key *key, const struct spec_pair *pair, struct err *err);
int spec_check_key(const struct spec_key *key, const struct job_spec *spec, struct err *err);
/* Numbers, in the spec's own unit. */
int64_t spec_load(const struct spec_key *key, const struct job_spec *spec);
void spec_store(const struct spec_key *key, struct job_spec *spec, int64_t value);
int64_t spec_key_scale(const struct spec_key *key); /* own units per unit of the key: 1 or 1000 */
/* Other spellings share the field of their key; the keys inside `after` have none. */
static inline bool spec_key_checked(const struct spec_key *key)
{
    return !*key->same_as && !(key->inner && key->size == sizeof(struct job_request));
}
static inline struct bytes *spec_text(const struct spec_key *key, const struct job_spec *spec)
{
    return (struct bytes *)((char *)(uintptr_t)spec + key->offset);
}

#endif
