#include "cli/args.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/parse.h"
#include "io/clock.h"

#define OPTIONS_MAX 96 /* of one command; checked */
#define LONG_ONLY 256  /* val of an option without a letter: LONG_ONLY + index */

static const struct option_row client_rows[] = {
    { .name = "master",
      .kind = OPTION_TEXT,
      .argument = "URL",
      .group = "Common",
      .fallback = "$ROTA_MASTER, else the profile",
      .help = "where the master is" },
    { .name = "token-file",
      .kind = OPTION_FILE,
      .argument = "FILE",
      .group = "Common",
      .fallback = "$ROTA_TOKEN_FILE, else the profile's",
      .help = "file that holds the token" },
    { .name = "json", .kind = OPTION_FLAG, .group = "Common", .help = "print what the API answers, as JSON" },
    { .name = NULL },
};
static const struct option_row common_rows[] = {
    { .name = "help", .letter = 'h', .kind = OPTION_FLAG, .group = "Common", .help = "show this help" },
    { .name = NULL },
};

static size_t rows_count(const struct option_row *rows)
{
    size_t count = 0;
    while (rows && rows[count].name)
        count++;
    return count;
}

const struct option_row *command_option(const struct command *c, size_t index)
{
    const struct option_row *tables[] = { c->options_made ? c->options_made() : c->options,
                                          c->flags & COMMAND_CLIENT ? client_rows : NULL, common_rows };
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++) {
        size_t count = rows_count(tables[t]);
        if (index < count)
            return &tables[t][index];
        index -= count;
    }
    return NULL;
}

const struct option_row *command_option_named(const struct command *c, const char *name, size_t size)
{
    const struct option_row *row;
    for (size_t i = 0; (row = command_option(c, i)); i++)
        if (strlen(row->name) == size && memcmp(row->name, name, size) == 0)
            return row;
    return NULL;
}

const char *nearest(const char *word, const char *(*item)(const void *arg, size_t index), const void *arg, size_t count)
{
    const char *best = NULL;
    size_t length = strlen(word);
    unsigned best_distance = length < 3 ? 2 : length < 6 ? 3 : 4; /* must be beaten */
    for (size_t i = 0; i < count; i++) {
        const char *candidate = item(arg, i);
        unsigned distance = parse_distance(word, candidate);
        size_t candidate_length = strlen(candidate), common = length < candidate_length ? length : candidate_length;
        if (common >= 2 && strncmp(word, candidate, common) == 0 && distance > 1)
            distance = 1; /* "memory" for "mem", "prio" for "priority" */
        if (distance < best_distance) {
            best_distance = distance;
            best = candidate;
        }
    }
    return best;
}

static const char *option_name_at(const void *command, size_t index)
{
    return command_option(command, index)->name;
}

static int unknown_option(const struct command *c, const char *name, size_t size, struct err *err)
{
    char word[64];
    snprintf(word, sizeof word, "%.*s", size < sizeof word ? (int)size : (int)sizeof word - 1, name);
    size_t count = 0;
    while (command_option(c, count))
        count++;
    const char *near = nearest(word, option_name_at, c, count);
    char remedy[160];
    if (near)
        snprintf(remedy, sizeof remedy, "did you mean --%s?", near);
    else
        snprintf(remedy, sizeof remedy, "rota %s --help lists them", c->name);
    return err_field(err, ERR_INVALID, NULL, remedy, "--%s is not an option of rota %s", word, c->name);
}

static void choice_list(const char *choices, char *out, size_t size)
{
    struct buf list = BUF_INIT;
    buf_str(&list, "write ");
    for (const char *at = choices; *at; at++) {
        if (*at != '|')
            buf_char(&list, *at);
        else
            buf_str(&list, strchr(at + 1, '|') ? ", " : " or ");
    }
    snprintf(out, size, "%s", list.data);
    buf_fini(&list);
}

static int backoff_value(const char *text, struct err *err)
{
    char *copy = mem_str(text);
    char *dots = strstr(copy, "..");
    if (dots)
        *dots = '\0';
    int64_t low = 0, high = 0;
    int rc = parse_duration(copy, &low, err);
    if (rc == 0 && dots) {
        rc = parse_duration(dots + 2, &high, err);
        if (rc == 0 && high < low)
            rc = err_field(err, ERR_INVALID, NULL, "write the shorter one first, as in 1s..5min",
                           "\"%s\" ends before it begins", text);
    }
    free(copy);
    return rc;
}

static int bounds(const struct option_row *row, const char *text, double value, struct err *err)
{
    if (row->min == row->max || (value >= (double)row->min && value <= (double)row->max))
        return 0;
    struct buf low = BUF_INIT, high = BUF_INIT;
    if (row->kind == OPTION_SIZE) {
        format_size(&low, (uint64_t)row->min);
        format_size(&high, (uint64_t)row->max);
    } else if (row->kind == OPTION_DURATION) {
        format_duration(&low, row->min);
        format_duration(&high, row->max);
    } else if (row->kind == OPTION_MILLI) {
        format_milli(&low, (uint64_t)row->min);
        format_milli(&high, (uint64_t)row->max);
    } else {
        buf_i64(&low, row->min);
        buf_i64(&high, row->max);
    }
    char remedy[160];
    snprintf(remedy, sizeof remedy, "write %s to %s", low.data, high.data);
    buf_fini(&low);
    buf_fini(&high);
    return err_field(err, ERR_INVALID, NULL, remedy, "\"%s\" is out of range", text);
}

int option_value(const struct option_row *row, const char *text, struct given *out, struct err *err)
{
    struct given value = { .row = row, .text = text };
    char remedy[160];
    int rc = 0;
    uint32_t array[4];
    double number = 0;
    bool automatic;
    switch (row->kind) {
    case OPTION_FLAG:
    case OPTION_TEXT:
        break;
    case OPTION_NAME:
        if (!parse_name_ok(bytes_str(text), 256))
            rc = err_field(err, ERR_INVALID, NULL, "write 1 to 256 bytes of UTF-8 without control characters",
                           "not a name");
        break;
    case OPTION_FILE:
    case OPTION_DIR:
        if (!*text)
            rc = err_field(err, ERR_INVALID, NULL, "write a path", "the path is empty");
        break;
    case OPTION_CHOICE:
        choice_list(row->choices, remedy, sizeof remedy);
        if (parse_choice(bytes_str(text), row->choices) < 0)
            rc = err_field(err, ERR_INVALID, NULL, remedy, "\"%s\" is not one of its values", text);
        break;
    case OPTION_COUNT:
        rc = parse_u64(text, row->max ? (uint64_t)row->min : 0, row->max ? (uint64_t)row->max : UINT64_MAX, &value.u64,
                       err);
        break;
    case OPTION_NUMBER:
        rc = parse_i64(text, row->max ? row->min : INT64_MIN, row->max ? row->max : INT64_MAX, &value.i64, err);
        break;
    case OPTION_SIZE:
        rc = parse_size(text, &value.u64, err);
        number = (double)value.u64;
        break;
    case OPTION_MEM:
        rc = parse_mem(text, &automatic, &value.u64, err);
        break;
    case OPTION_DURATION:
        rc = parse_duration(text, &value.i64, err);
        number = (double)value.i64;
        break;
    case OPTION_MILLI:
        rc = parse_milli(text, &value.u64, err);
        number = (double)value.u64;
        break;
    case OPTION_BACKOFF:
        rc = backoff_value(text, err);
        break;
    case OPTION_TIME:
        rc = parse_time(text, clock_wall_ms(), &value.i64, err);
        break;
    case OPTION_ARRAY:
        rc = parse_array(text, &array[0], &array[1], &array[2], &array[3], err);
        break;
    case OPTION_PAIR:
        if (!strchr(text, '=') || *text == '=')
            rc = err_field(err, ERR_INVALID, NULL, "write NAME=VALUE", "\"%s\" has no name or no value", text);
        break;
    case OPTION_KINDS:
        check_unreachable();
    }
    if (rc == 0 && (row->kind == OPTION_SIZE || row->kind == OPTION_DURATION || row->kind == OPTION_MILLI))
        rc = bounds(row, text, number, err);
    if (rc == 0)
        *out = value;
    return rc;
}

static void add_operand(struct args *args, char *text)
{
    args->operands = mem_grow(args->operands, &args->operands_cap, args->operands_count + 1, sizeof *args->operands);
    args->operands[args->operands_count++] = text;
}

static int add_given(struct args *args, const struct option_row *row, const char *text, struct err *err)
{
    struct given value = { .row = row, .text = text };
    char field[96];
    snprintf(field, sizeof field, "--%s", row->name);
    if (!(row->flags & OPTION_REPEATED) && args_find(args, row->name))
        return err_field(err, ERR_INVALID, field, "give it once", "given twice");
    if (text && row->kind != OPTION_FLAG) {
        int rc = option_value(row, text, &value, err);
        if (rc < 0) {
            if (err)
                snprintf(err->field, sizeof err->field, "%s", field);
            return rc;
        }
    }
    args->given = mem_grow(args->given, &args->given_cap, args->given_count + 1, sizeof *args->given);
    args->given[args->given_count++] = value;
    return 0;
}

static int operand_count(const struct args *args, struct err *err)
{
    const struct command *c = args->command;
    char remedy[160];
    snprintf(remedy, sizeof remedy, "usage: rota %s%s%s", c->name, *c->operands ? " " : "", c->operands);
    if (args->operands_count < (size_t)c->operands_min)
        return err_field(err, ERR_INVALID, c->name, remedy, "something is missing");
    if (c->operands_max >= 0 && args->operands_count > (size_t)c->operands_max)
        return err_field(err, ERR_INVALID, c->name, remedy, "\"%s\" is one too many", args->operands[c->operands_max]);
    return 0;
}

/* getopt_long takes any unique beginning of a name; we do not: a script that says --prio must not change its meaning
 * when
 * --priority-class is added. */
static int exact_name(const struct command *c, const char *word, struct err *err)
{
    size_t size = strcspn(word + 2, "=");
    return command_option_named(c, word + 2, size) ? 0 : unknown_option(c, word + 2, size, err);
}

static int bad_option(const struct command *c, int answer, char **argv, struct err *err)
{
    const struct option_row *row = optopt >= LONG_ONLY ? command_option(c, (size_t)(optopt - LONG_ONLY)) : NULL;
    for (size_t i = 0; !row && optopt && command_option(c, i); i++)
        if (command_option(c, i)->letter == optopt)
            row = command_option(c, i);
    char field[96];
    snprintf(field, sizeof field, "--%s", row ? row->name : "");
    if (row && answer == ':')
        return err_field(err, ERR_INVALID, field, NULL, "it needs a value: %s", row->argument);
    if (row)
        return err_field(err, ERR_INVALID, field, NULL, "it takes no value, but got one in \"%s\"", argv[optind - 1]);
    char remedy[96];
    snprintf(remedy, sizeof remedy, "rota %s --help lists them", c->name);
    if (optopt > ' ' && optopt < 127)
        return err_field(err, ERR_INVALID, NULL, remedy, "-%c is not an option of rota %s", optopt, c->name);
    return err_field(err, ERR_INVALID, NULL, remedy, "not an option of rota %s", c->name);
}

int args_parse(struct args *args, const struct command *command, int argc, char **argv, struct err *err)
{
    *args = (struct args){ .command = command };
    struct option longs[OPTIONS_MAX + 1] = { 0 };
    char letters[2 + 3 * OPTIONS_MAX + 1] = "+:";
    size_t used = 2, count = 0;
    const struct option_row *row;
    for (; (row = command_option(command, count)); count++) {
        check(count < OPTIONS_MAX);
        int takes = row->kind == OPTION_FLAG    ? no_argument
                    : row->flags & OPTION_MAYBE ? optional_argument
                                                : required_argument;
        longs[count] = (struct option){ row->name, takes, NULL, row->letter ? row->letter : LONG_ONLY + (int)count };
        if (row->letter) {
            letters[used++] = row->letter;
            for (int i = 0; i < takes; i++)
                letters[used++] = ':';
        }
    }
    optind = 0; /* glibc: begin anew */
    opterr = 0;
    int rc = 0, start = 1;
    while (rc == 0 && start < argc) {
        int at = optind ? optind : start;
        if (at >= argc)
            break;
        if (strcmp(argv[at], "--") == 0) {
            args->dashes = true;
            for (at++; at < argc; at++)
                add_operand(args, argv[at]);
            break;
        }
        if (argv[at][0] != '-' || argv[at][1] == '\0') {
            if (command->flags & COMMAND_TAIL) {
                for (; at < argc; at++)
                    add_operand(args, argv[at]);
                break;
            }
            add_operand(args, argv[at]);
            /* The part behind it is read as a line of its own: a shift of argv keeps getopt's state simple. */
            argv += at;
            argc -= at;
            optind = 0;
            continue;
        }
        if (strncmp(argv[at], "--", 2) == 0 && (rc = exact_name(command, argv[at], err)) < 0)
            break;
        int index = -1, answer = getopt_long(argc, argv, letters, longs, &index);
        if (answer == -1)
            break;
        if (answer == '?' || answer == ':') {
            rc = bad_option(command, answer, argv, err);
            break;
        }
        for (size_t i = 0; index < 0 && i < count; i++)
            if (longs[i].val == answer)
                index = (int)i;
        check(index >= 0);
        rc = add_given(args, command_option(command, (size_t)index), optarg, err);
        if (rc == 0 && args_has(args, "help"))
            return 0;
    }
    return rc == 0 ? operand_count(args, err) : rc;
}

void args_fini(struct args *args)
{
    free(args->given);
    free(args->operands);
    *args = (struct args){ 0 };
}

const struct given *args_find(const struct args *args, const char *name)
{
    for (size_t i = args->given_count; i > 0; i--)
        if (strcmp(args->given[i - 1].row->name, name) == 0)
            return &args->given[i - 1];
    return NULL;
}

const struct given *args_next(const struct args *args, const char *name, const struct given *after)
{
    for (size_t i = after ? (size_t)(after - args->given) + 1 : 0; i < args->given_count; i++)
        if (strcmp(args->given[i].row->name, name) == 0)
            return &args->given[i];
    return NULL;
}

bool args_has(const struct args *args, const char *name)
{
    return args_find(args, name) != NULL;
}

bool args_mem_auto(const struct args *args)
{
    const char *text = args_text(args, "mem", "");
    return strncmp(text, "auto", 4) == 0;
}

const char *args_text(const struct args *args, const char *name, const char *fallback)
{
    const struct given *g = args_find(args, name);
    return g && g->text ? g->text : fallback;
}

uint64_t args_u64(const struct args *args, const char *name, uint64_t fallback)
{
    const struct given *g = args_find(args, name);
    return g ? g->u64 : fallback;
}

int64_t args_i64(const struct args *args, const char *name, int64_t fallback)
{
    const struct given *g = args_find(args, name);
    return g ? g->i64 : fallback;
}
