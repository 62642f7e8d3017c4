/* args.h: what a command takes, as tables, and the reading of a command line by them.
 *
 * One row per option feeds the reader, --help, `rota help`, completion, the man page and docs/cli.md. Values are read
 * when the line is read, by the row's kind, so that every mistake is named with its option before anything is done. */
#ifndef ROTA_CLI_ARGS_H
#define ROTA_CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum option_kind {
    OPTION_FLAG,     /* no argument */
    OPTION_TEXT,
    OPTION_NAME,     /* 1..256 bytes of UTF-8 without control characters */
    OPTION_CHOICE,   /* one of row->choices, "a|b|c" */
    OPTION_COUNT,    /* whole number in [min, max], without a sign */
    OPTION_NUMBER,   /* whole number in [min, max] */
    OPTION_SIZE,     /* bytes: 512M */
    OPTION_DURATION, /* milliseconds: 90s */
    OPTION_BACKOFF,  /* D or D..D */
    OPTION_MEM,      /* SIZE, auto or auto:SIZE; bytes of u64, what 0 means is told by the text */
    OPTION_TIME,     /* Unix time in ms: RFC 3339, "2026-11-23 10:00", now+2h */
    OPTION_MILLI,    /* thousandths: 0.5 */
    OPTION_ARRAY,    /* 1-1000%50 */
    OPTION_PAIR,     /* NAME=VALUE */
    OPTION_FILE,
    OPTION_DIR,
    OPTION_KINDS
};

enum {
    OPTION_REPEATED = 1, /* may be given more than once; each counts */
    OPTION_MAYBE = 2,    /* the argument may be left out: --name or --name=VALUE */
};

struct option_row {
    const char *name;     /* without the dashes */
    char letter;          /* short form, or 0 */
    enum option_kind kind;
    unsigned flags;
    const char *argument; /* as shown: "SIZE"; NULL for a flag */
    const char *choices;  /* OPTION_CHOICE */
    const char *fallback; /* the default as shown to people, or NULL */
    const char *group;    /* heading in the help, or NULL */
    const char *help;
    int64_t min, max; /* OPTION_COUNT, OPTION_NUMBER, OPTION_DURATION (ms), OPTION_SIZE; both 0: no bounds of its own */
};

enum {
    COMMAND_CLIENT = 1, /* talks to the master: --master, --json */
    COMMAND_TAIL = 2,   /* options end at the first operand: the rest is somebody else's command line */
    COMMAND_HIDDEN = 4, /* not in lists */
    COMMAND_JOBS = 8,   /* operands name jobs */
    COMMAND_NODES = 16, /* operands name nodes */
    COMMAND_FILES = 32, /* operands name files */
};

struct args;
struct command {
    const char *name;
    const char *group;     /* heading in `rota help` */
    const char *operands;  /* as shown: "SELECTOR..." or "" */
    int operands_min, operands_max; /* max -1: any number */
    unsigned flags;
    const char *summary;   /* one line, a verb first, no full stop */
    const char *text;      /* more, or NULL; paragraphs are separated by an empty line */
    const char *examples;  /* lines, or NULL */
    const struct option_row *options;                        /* ends with a row without name; or NULL */
    const struct option_row *(*options_made)(void);          /* instead of options: made from another table */
    int (*run)(const struct args *args); /* the exit code */
};

struct given {
    const struct option_row *row;
    const char *text; /* NULL: no argument */
    union {
        uint64_t u64; /* OPTION_COUNT, OPTION_SIZE, OPTION_MILLI */
        int64_t i64;  /* OPTION_NUMBER, OPTION_DURATION, OPTION_TIME */
    };
};

struct args {
    const struct command *command;
    struct given *given; size_t given_count, given_cap;
    char **operands; size_t operands_count, operands_cap; /* borrowed texts of argv */
    bool dashes;  /* -- stood before (the rest of) the operands */
};

/* The rows of a command: its own, then the common ones. NULL at the end. */
const struct option_row *command_option(const struct command *c, size_t index);
const struct option_row *command_option_named(const struct command *c, const char *name, size_t size);

/* Reads argv[1..argc) by the command's table. On failure *err has the option as field and what to do. --help, when it
 * is given, ends the reading at once: args_has(args, "help"). Free with args_fini in either case. */
int args_parse(struct args *args, const struct command *command, int argc, char **argv, struct err *err);
void args_fini(struct args *args);

bool args_has(const struct args *args, const char *name);
bool args_mem_auto(const struct args *args); /* --mem auto, or auto:SIZE, was given */
const struct given *args_find(const struct args *args, const char *name); /* the last one, or NULL */
const char *args_text(const struct args *args, const char *name, const char *fallback);
uint64_t args_u64(const struct args *args, const char *name, uint64_t fallback);
int64_t args_i64(const struct args *args, const char *name, int64_t fallback);
/* The next one with that name after `after` (NULL: the first). */
const struct given *args_next(const struct args *args, const char *name, const struct given *after);

/* The value of one argument by its row; used for options, settings and #SBATCH lines alike. */
int option_value(const struct option_row *row, const char *text, struct given *out, struct err *err);

/* The nearest of `count` words to `word`, or NULL when none is near enough to be meant. */
const char *nearest(const char *word, const char *(*item)(const void *arg, size_t index), const void *arg,
                    size_t count);

#endif
