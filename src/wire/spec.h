/* spec.h: a job as a user writes it, and its forms: JSON (API), YAML (job file, by the CLI), bytes (store and wire).
 *
 * schema/jobspec.def is the one table of its keys: type, bounds, unit, default, help. The JSON reader, the YAML reader, the
 * CLI's options, check-config, the OpenAPI file's test and docs/jobfile.md are made from it. Schemas are closed: an unknown
 * key is refused by name, with the nearest known key as remedy. */
#ifndef ROTA_WIRE_SPEC_H
#define ROTA_WIRE_SPEC_H

#include "base/arena.h"
#include "base/err.h"
#include "core/sched/sched.h"

struct spec_pair { struct bytes name, value; };

#define SPEC_BYTES_MAX 262144u      /* encoded spec */
#define SPEC_MEMBERS_BYTES_MAX (GANG_NODES_MAX * 68u) /* what spec_add_member adds to it, of all nodes */
#define SPEC_ARGS_MAX 131072u       /* argv + env together, below ARG_MAX */
#define SPEC_NAME_MAX 256u
#define SPEC_ARGC_MAX 10000u        /* arguments */
#define SPEC_ENV_MAX 4096u          /* variables */
#define SPEC_LABELS_MAX 64u
#define SPEC_PATH_MAX 4096u
#define SPEC_COUNT_MAX 1000000000u  /* units of one named resource */
#define SPEC_WALL_MS_MAX 253402300799999 /* the end of the year 9999 */
#define SPEC_WORD_COST 9u           /* of SPEC_ARGS_MAX for each argument and variable: final zero and pointer */

enum spec_pull { SPEC_PULL_MISSING, SPEC_PULL_ALWAYS, SPEC_PULL_NEVER };

struct job_spec {
    struct job_request request;      /* what the scheduler needs; strings borrowed from the arena */
    const struct bytes *command; size_t command_count;   /* argv, at least one; may hold {} for the array index */
    const struct spec_pair *env; size_t env_count;       /* NAME=VALUE added to the clean environment */
    const struct spec_pair *labels; size_t labels_count;
    struct bytes workdir, stdin_path, stdout_path, stderr_path, image, notify; /* size 0: not given */
    struct bytes key;                /* idempotency key from the job itself */
    uint64_t output_bytes_max;       /* 0: default */
    bool mem_auto;                   /* the memory comes from what earlier runs used. When the master has taken it: */
    uint32_t mem_runs;               /* from so many runs; 0: too few were known, it is */
    uint64_t mem_start_bytes;        /* what was asked for in that case; 0: default */
    enum spec_pull pull;             /* of the image */
    struct bytes cron;               /* the entry of jobs that come again by which it came; set by the master */
    int64_t cron_due_wall_ms;        /* for which of its times */
    const struct bytes *members; size_t members_count; /* of a job on several nodes, with an attempt of it: their names, by rank */
    int64_t simulated_ms;            /* "simulate": {"run_s":..,"exit_code":..}: used by exec_fake only */
    int32_t simulated_exit;
};

enum spec_type {
    SPEC_NAME,     /* text without control characters */
    SPEC_PATH,     /* file path; workdir absolute */
    SPEC_WORD,     /* one word of a few */
    SPEC_INTEGER,
    SPEC_MILLI,    /* number with at most three decimals; kept in thousandths */
    SPEC_SECONDS,  /* number of seconds; kept in ms */
    SPEC_BOOL,
    SPEC_SIZE,     /* "512M"; kept in bytes */
    SPEC_DURATION, /* "2h30m", or a number of seconds; kept in ms */
    SPEC_TIME,     /* kept in Unix ms */
    SPEC_ARRAY,    /* "1-1000%50" */
    SPEC_COMMAND,  /* list of strings */
    SPEC_ENV,      /* map of strings */
    SPEC_LABELS,   /* map of strings */
    SPEC_COUNTS,   /* map of whole numbers */
    SPEC_AFTER,    /* list of maps */
    SPEC_SIMULATE, /* map */
    SPEC_TYPES
};

/* A row of schema/jobspec.def. */
struct spec_key {
    const char *name;            /* "cpus"; "simulate.run_s" and "after[].job" are keys inside another */
    enum spec_type type;
    int64_t min, max;            /* in the unit of the key; bytes of text, entries of lists and maps */
    int64_t fallback;            /* default of numbers, in the unit of the key */
    const char *fallback_text;   /* for people; "" if there is none */
    const char *unit;            /* "bytes", "s", "CPUs", ...; "" if there is none */
    const char *same_as;         /* the canonical key that this is another spelling of, or "" */
    const char *help;            /* one or two sentences */
    size_t offset, size;         /* of the field in struct job_spec */
    size_t name_size;
    bool inner;                  /* a key inside another */
};
const struct spec_key *spec_keys(size_t *count);
const char *spec_type_text(enum spec_type type);  /* "a whole number" */
const char *spec_nearest_key(const char *name);   /* the key most like it, for "did you mean"; NULL if none is near */

/* A job with every default in place and no command; strings are constants. */
void spec_init(struct job_spec *spec);
/* Fills in what follows from the rest: the name. Call before spec_check when a spec was put together by hand. */
void spec_complete(struct arena *arena, struct job_spec *spec);
/* Holds a spec to every bound and rule. spec_from_json and spec_decode have done it. */
int spec_check(const struct job_spec *spec, struct err *err);

/* What reading a job may need from outside; NULL or zero members: not at hand, what needs them is refused. */
struct spec_reader {
    int64_t now_wall_ms;                                               /* for begin: now+2h */
    bool (*job_by_name)(void *arg, struct bytes name, job_id *out);    /* for after: [{name: ...}] */
    void *arg;
};
/* spec_from_json with the means to understand relative times (for which spec_from_json asks the clock) and `after` by name.
 * Whoever submits the lines of spec_from_yaml one by one reads each with this, submits spec_to_json() of it, and remembers
 * its id. */
int spec_from_json_with(struct arena *arena, struct bytes json, const struct spec_reader *reader, struct job_spec *out,
                        struct err *err);

/* One JSON object. field in *err is the path of the wrong key ("env.PATH"). Everything is copied into the arena. */
int spec_from_json(struct arena *arena, struct bytes json, struct job_spec *out, struct err *err);
/* Writes the canonical JSON object with every key that differs from its default. */
void spec_to_json(struct buf *out, const struct job_spec *spec);
/* A job file: YAML, JSON or NDJSON with one job, a list of jobs, or {jobs: [...], defaults: {...}}; names used in `after` refer
 * to jobs of the same file that stand before. Each job is written as a canonical JSON object on one line to *out (NDJSON),
 * always with its name; `after` by name becomes {"after":[{"name":...}]} and is resolved by the submitter. Every fault is
 * added to *faults as "FILE:LINE:COLUMN: text\n"; the result is 0 only when there is none, else *out is as it was. */
int spec_from_yaml(const char *file_name, struct bytes text, struct buf *out, struct buf *faults, struct err *err);

/* One more of job_spec.members, behind an encoded spec: what is put behind a protobuf message is part of it. */
void spec_add_member(struct buf *encoded, struct bytes name);
void spec_encode(struct buf *out, const struct job_spec *spec);                       /* protobuf JobSpec */
int spec_decode(struct arena *arena, struct bytes encoded, struct job_spec *out, struct err *err);

#endif
