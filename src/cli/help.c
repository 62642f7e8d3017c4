#include "cli/help.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "cli/commands.h"

#define HELP_COLUMN 28 /* where descriptions begin */

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static const char *command_name_at(const void *list, size_t index)
{
    const struct command *const *table = list;
    return table[index]->name;
}

const char *help_nearest_command(const char *word)
{
    size_t count = 0;
    while (commands[count] && !(commands[count]->flags & COMMAND_HIDDEN))
        count++; /* hidden ones stand at the end of the table */
    return nearest(word, command_name_at, commands, count);
}

/* Columns taken by UTF-8 text: our own texts hold no wide or combining characters. */
static size_t columns(const char *text, size_t size)
{
    size_t count = 0;
    for (size_t i = 0; i < size; i++)
        count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}

/* Adds text broken at blanks into lines of at most HELP_WIDTH columns; the cursor stands at `at`, later lines are
 * indented. */
static void wrap(struct buf *out, const char *text, size_t at, size_t indent)
{
    bool fresh = true;
    while (*text) {
        size_t size = strcspn(text, " \n"), width = columns(text, size);
        if (!fresh && at + 1 + width > HELP_WIDTH) {
            buf_printf(out, "\n%*s", (int)indent, "");
            at = indent;
            fresh = true;
        }
        if (!fresh) {
            buf_char(out, ' ');
            at++;
        }
        buf_add(out, text, size);
        at += width;
        fresh = false;
        text += size;
        if (text[0] == '\n' && text[1] == '\n') {
            buf_printf(out, "\n\n%*s", (int)indent, "");
            at = indent;
            fresh = true;
            text += 2;
        } else if (*text) {
            text++;
        }
    }
    buf_char(out, '\n');
}

static void option_left(struct buf *out, const struct option_row *row)
{
    if (row->letter)
        buf_printf(out, "-%c, ", row->letter);
    buf_printf(out, "--%s", row->name);
    if (row->kind != OPTION_FLAG)
        buf_printf(out, row->flags & OPTION_MAYBE ? "[=%s]" : " %s", row->argument);
}

/* "memory of the job (default: none)". */
static void option_right(struct buf *out, const struct option_row *row)
{
    buf_str(out, row->help);
    if (row->kind == OPTION_CHOICE && !strchr(row->argument, '|')) {
        buf_str(out, ": ");
        for (const char *at = row->choices; *at; at++) {
            if (*at == '|')
                buf_str(out, ", ");
            else
                buf_char(out, *at);
        }
    }
    if (row->flags & OPTION_REPEATED)
        buf_str(out, "; may be repeated");
    if (row->fallback)
        buf_printf(out, " (default: %s)", row->fallback);
}

static void option_help(struct buf *out, const struct option_row *row)
{
    autobuf struct buf left = BUF_INIT, right = BUF_INIT;
    buf_str(&left, row->letter ? "  " : "      ");
    option_left(&left, row);
    option_right(&right, row);
    buf_str(out, left.data);
    if (left.size + 2 > HELP_COLUMN)
        buf_printf(out, "\n%*s", HELP_COLUMN, "");
    else
        buf_printf(out, "%*s", (int)(HELP_COLUMN - left.size), "");
    wrap(out, right.data, HELP_COLUMN, HELP_COLUMN);
}

static void usage_line(struct buf *out, const struct command *c)
{
    buf_printf(out, "rota %s [OPTION...]", c->name);
    if (*c->operands)
        buf_printf(out, " %s", c->operands);
}

static void examples_indented(struct buf *out, const char *text)
{
    for (const char *at = text; *at;) {
        size_t size = strcspn(at, "\n");
        buf_printf(out, "  %.*s\n", (int)size, at);
        at += size + (at[size] == '\n');
    }
}

void help_command(struct buf *out, const struct command *c)
{
    buf_str(out, "usage: ");
    usage_line(out, c);
    buf_str(out, "\n\n");
    autobuf struct buf text = BUF_INIT;
    buf_printf(&text, "%c%s.", c->summary[0] >= 'a' && c->summary[0] <= 'z' ? c->summary[0] - 32 : c->summary[0],
               c->summary + 1);
    if (c->text)
        buf_printf(&text, " %s", c->text);
    wrap(out, text.data, 0, 0);
    const char *group = "";
    const struct option_row *row;
    for (size_t i = 0; (row = command_option(c, i)); i++) {
        const char *heading = row->group ? row->group : i == 0 || group[0] == '\0' ? "Options" : group;
        bool common = strcmp(row->name, "help") == 0;
        if (!(common && group[0]) && !same_text(heading, group))
            buf_printf(out, "\n%s:\n", heading);
        group = heading;
        option_help(out, row);
    }
    if (c->examples) {
        buf_str(out, "\nExamples:\n");
        examples_indented(out, c->examples);
    }
}

void help_top(struct buf *out)
{
    buf_str(out, "usage: rota VERB [OPTION...] [ARGUMENT...]\n\n"
                 "Rota runs jobs on many machines: submit a command, and it runs where there is room.\n"
                 "Begin with `rota up` in one terminal and `rota run -- echo hello` in another.\n");
    const char *group = "";
    for (size_t i = 0; commands[i]; i++) {
        const struct command *c = commands[i];
        if (c->flags & COMMAND_HIDDEN)
            continue;
        if (!same_text(group, c->group))
            buf_printf(out, "\n%s:\n", c->group);
        group = c->group;
        buf_printf(out, "  %-14s %s\n", c->name, c->summary);
    }
    buf_str(
        out,
        "\nJobs are named by id (7), task of an array (7_3), range (5-9,12), last, all, name, or glob ('train-*').\n"
        "`rota help VERB` shows the options of a verb. Options: --help, --version, --master URL before any verb.\n"
        "\nExit codes: 0 done; 1 the job failed (run, wait and submit --wait: the job's own code, 128+signal if it\n"
        "was killed); 2 bad usage or refused; 3 no such thing; 4 the wait timed out; 5 the master cannot be\n"
        "reached; 6 not allowed. master and worker: 65 store corrupt; 74 unknown commit; 75 in use; 78 bad "
        "settings.\n");
}

/* --- man page and markdown --- */

/* scdoc: * and _ are markup, a backslash takes that away. */
static void man_text(struct buf *out, const char *text)
{
    for (; *text; text++) {
        if (strchr("*_\\", *text))
            buf_char(out, '\\');
        buf_char(out, *text);
    }
}

static void man_command(struct buf *out, const struct command *c)
{
    autobuf struct buf line = BUF_INIT;
    usage_line(&line, c);
    buf_str(out, "## ");
    man_text(out, line.data);
    buf_printf(out, "\n\n%c", c->summary[0] - (c->summary[0] >= 'a' && c->summary[0] <= 'z' ? 32 : 0));
    man_text(out, c->summary + 1);
    buf_char(out, '.');
    if (c->text) {
        buf_char(out, ' ');
        man_text(out, c->text);
    }
    buf_str(out, "\n\n");
    const struct option_row *row;
    for (size_t i = 0; (row = command_option(c, i)); i++) {
        if (strcmp(row->name, "help") == 0 || (row->group && strcmp(row->group, "Common") == 0))
            continue; /* said once, in OPTIONS */
        buf_clear(&line);
        option_left(&line, row);
        buf_char(out, '*');
        man_text(out, line.data);
        buf_str(out, "*\n\t");
        buf_clear(&line);
        option_right(&line, row);
        man_text(out, line.data);
        buf_str(out, ".\n\n");
    }
    if (!c->examples || !*c->examples)
        return;
    buf_str(out, "```\n");
    for (const char *at = c->examples; *at;) {
        size_t size = strcspn(at, "\n");
        buf_printf(out, "%.*s\n", (int)size, at);
        at += size + (at[size] == '\n');
    }
    buf_str(out, "```\n\n");
}

static const char files_text[] =
    "$XDG\\_CONFIG\\_HOME/rota/client.yaml (~/.config/rota/client.yaml)\n"
    "\tThe profile: where the master is and which token file to use. Written by *rota up* and *rota login*.\n\n"
    "$XDG\\_STATE\\_HOME/rota (~/.local/state/rota, as root /var/lib/rota)\n"
    "\tThe state of *rota up*: master/, worker-1/, their logs.\n\n";

void help_man(struct buf *out)
{
    buf_str(out, "rota(1)\n\n# NAME\n\nrota - distributed job scheduler\n\n# SYNOPSIS\n\n*rota* _VERB_ [_OPTION_...] "
                 "[_ARGUMENT_...]\n\n"
                 "# DESCRIPTION\n\nRota runs jobs on many machines: submit a command, and it runs where there is room. "
                 "The one binary is master, worker and command line.\n\n"
                 "Jobs are named by id (7), task of an array (7\\_3), range (5-9,12), *last*, *all*, name, or glob "
                 "('train-\\*').\n\n"
                 "# OPTIONS\n\n"
                 "*--master URL*\n\tWhere the master is. Default: $ROTA\\_MASTER, else the profile.\n\n"
                 "*--json*\n\tPrint what the API answers, as JSON, whole. On every verb that talks to the master.\n\n"
                 "*-h, --help*\n\tShow the help of the verb.\n\n# VERBS\n\n");
    for (size_t i = 0; commands[i]; i++)
        if (!(commands[i]->flags & COMMAND_HIDDEN))
            man_command(out, commands[i]);
    buf_str(out, "# ENVIRONMENT\n\n"
                 "*ROTA\\_MASTER*\n\tURL of the master.\n\n"
                 "*ROTA\\_TOKEN\\_FILE*\n\tFile that holds the token, instead of the one the profile names.\n\n"
                 "*ROTA\\_PROFILE*\n\tThe profile, instead of the one below the configuration directory.\n\n"
                 "*NO\\_COLOR*\n\tIf set and not empty, no colour.\n\n# FILES\n\n");
    buf_str(out, files_text);
    buf_str(out, "# EXIT STATUS\n\n0 done; 1 the job failed (*run*, *wait* and *submit --wait* return the job's own "
                 "code, 128+signal if it was "
                 "killed); 2 bad usage or refused; 3 no such thing; 4 time-out of the wait; 5 master unreachable; 6 "
                 "not allowed. "
                 "*master* and *worker*: 65 the store is corrupt or not ours; 74 a commit is unknown; 75 in use; 78 "
                 "bad settings.\n");
}

static void markdown_cell(struct buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '|' || *text == '<')
            buf_char(out, '\\');
        buf_char(out, *text);
    }
}

static void markdown_command(struct buf *out, const struct command *c)
{
    buf_printf(out, "### rota %s\n\n```\n", c->name);
    usage_line(out, c);
    buf_printf(out, "\n```\n\n%c%s.", c->summary[0] - (c->summary[0] >= 'a' && c->summary[0] <= 'z' ? 32 : 0),
               c->summary + 1);
    if (c->text)
        buf_printf(out, " %s", c->text);
    buf_str(out, "\n\n");
    bool any = false;
    const struct option_row *row;
    autobuf struct buf cell = BUF_INIT;
    for (size_t i = 0; (row = command_option(c, i)); i++) {
        if (strcmp(row->name, "help") == 0 || (row->group && strcmp(row->group, "Common") == 0))
            continue;
        if (!any)
            buf_str(out, "| option | meaning |\n|---|---|\n");
        any = true;
        buf_clear(&cell);
        option_left(&cell, row);
        buf_str(out, "| `");
        for (const char *at = cell.data; *at; at++)
            buf_str(out, *at == '|' ? "\\|" : (char[]){ *at, '\0' });
        buf_str(out, "` | ");
        buf_clear(&cell);
        option_right(&cell, row);
        markdown_cell(out, cell.data);
        buf_str(out, " |\n");
    }
    if (any)
        buf_char(out, '\n');
    if (c->examples) {
        buf_printf(out, "```sh\n%s", c->examples);
        if (c->examples[strlen(c->examples) - 1] != '\n')
            buf_char(out, '\n');
        buf_str(out, "```\n\n");
    }
}

void help_markdown(struct buf *out)
{
    buf_str(
        out,
        "# The command line\n\n"
        "Made from the tables in `src/cli` by `rota __docs`; a test compares the two.\n\n"
        "Jobs are named by id (`7`), task of an array (`7_3`), range (`5-9,12`), `last`, `all`, name, or glob "
        "(`'train-*'`). "
        "Every verb that talks to the master takes `--master URL` and `--json`, every verb takes `--help`. "
        "Data goes to standard output, talk to standard error.\n\n"
        "Where the master is: `--master`, else `ROTA_MASTER`, else the profile that `rota up` and `rota login` write "
        "to "
        "`~/.config/rota/client.yaml`. `ROTA_PROFILE` names another profile, `ROTA_TOKEN_FILE` another token file.\n\n"
        "| exit code | meaning |\n|---|---|\n"
        "| 0 | done |\n"
        "| 1 | the job failed; `run`, `wait` and `submit --wait` return the job's own code, 128+signal if it was "
        "killed |\n"
        "| 2 | bad usage, or refused |\n| 3 | no such thing |\n| 4 | the wait timed out |\n| 5 | the master cannot be "
        "reached |\n"
        "| 6 | not allowed |\n"
        "| 65, 74, 75, 78 | `master`, `worker`, `up`: store corrupt or not ours; commit unknown; in use; bad settings "
        "|\n\n");
    const char *group = "";
    for (size_t i = 0; commands[i]; i++) {
        const struct command *c = commands[i];
        if (c->flags & COMMAND_HIDDEN)
            continue;
        if (!same_text(group, c->group))
            buf_printf(out, "## %s\n\n", c->group);
        group = c->group;
        markdown_command(out, c);
    }
    while (out->size > 1 && out->data[out->size - 1] == '\n' && out->data[out->size - 2] == '\n')
        out->data[--out->size] = '\0';
}

/* --- completion --- */

/* The shells ask `rota __complete WORD...`, so that there is one source of answers. Its last line is ":WHAT": what else
 * may stand there (files, dirs, command, nothing). */
static const char bash_text[] = "# bash completion of rota: eval \"$(rota completion bash)\"\n"
                                "_rota() {\n"
                                "    local -a words=() answers=()\n"
                                "    local i word cut='' line kind='' current\n"
                                "    # readline breaks words at = and :; put --name=value together again.\n"
                                "    for ((i = 1; i <= COMP_CWORD; i++)); do\n"
                                "        word=${COMP_WORDS[i]}\n"
                                "        if ((${#words[@]})) && [[ $word == = || ${words[-1]} == --*= ]]; then\n"
                                "            words[-1]+=$word\n"
                                "        else\n"
                                "            words+=(\"$word\")\n"
                                "        fi\n"
                                "    done\n"
                                "    current=${words[-1]}\n"
                                "    [[ $current == --*=* ]] && cut=${current%%=*}=\n"
                                "    COMPREPLY=()\n"
                                "    while IFS= read -r line; do\n"
                                "        if [[ $line == :* ]]; then\n"
                                "            kind=${line#:}\n"
                                "        else\n"
                                "            line=${line%%$'\\t'*}\n"
                                "            COMPREPLY+=(\"${line#\"$cut\"}\")\n"
                                "        fi\n"
                                "    done < <(\"${COMP_WORDS[0]}\" __complete \"${words[@]}\" 2>/dev/null)\n"
                                "    case $kind in\n"
                                "    files) mapfile -t answers < <(compgen -f -- \"${current#\"$cut\"}\") ;;\n"
                                "    dirs) mapfile -t answers < <(compgen -d -- \"${current#\"$cut\"}\") ;;\n"
                                "    command) mapfile -t answers < <(compgen -c -- \"$current\") ;;\n"
                                "    esac\n"
                                "    COMPREPLY+=(\"${answers[@]}\")\n"
                                "    if ((${#COMPREPLY[@]} == 1)) && [[ ${COMPREPLY[0]} == *= ]]; then\n"
                                "        compopt -o nospace 2>/dev/null\n"
                                "    fi\n"
                                "    [[ $kind == files || $kind == dirs ]] && compopt -o filenames 2>/dev/null\n"
                                "    return 0\n"
                                "}\n"
                                "complete -F _rota rota\n";

static const char zsh_text[] =
    "#compdef rota\n"
    "# zsh completion of rota: put this into a file _rota on your fpath, or eval \"$(rota completion zsh)\"\n"
    "_rota() {\n"
    "    local line kind='' tab=$'\\t'\n"
    "    local -a found\n"
    "    for line in \"${(@f)$(\"${words[1]}\" __complete \"${(@)words[2,CURRENT]}\" 2>/dev/null)}\"; do\n"
    "        if [[ $line == :* ]]; then\n"
    "            kind=${line#:}\n"
    "        else\n"
    "            found+=(\"${${line%%$tab*}//:/\\\\:}:${line#*$tab}\")\n"
    "        fi\n"
    "    done\n"
    "    (( $#found )) && _describe -t rota rota found\n"
    "    case $kind in\n"
    "        files) _files ;;\n"
    "        dirs) _files -/ ;;\n"
    "        command) _command_names -e ;;\n"
    "    esac\n"
    "}\n"
    "if [[ $funcstack[1] == _rota ]]; then _rota \"$@\"; else compdef _rota rota; fi\n";

static const char fish_text[] =
    "# fish completion of rota: rota completion fish > ~/.config/fish/completions/rota.fish\n"
    "function __rota_complete\n"
    "    set -l words (commandline -opc)\n"
    "    set -l current (commandline -ct)\n"
    "    set -l kind\n"
    "    for line in ($words[1] __complete $words[2..-1] \"$current\" 2>/dev/null)\n"
    "        if string match -q ':*' -- $line\n"
    "            set kind (string sub -s 2 -- $line)\n"
    "        else\n"
    "            echo $line\n"
    "        end\n"
    "    end\n"
    "    switch \"$kind\"\n"
    "        case files\n"
    "            __fish_complete_path \"$current\"\n"
    "        case dirs\n"
    "            __fish_complete_directories \"$current\"\n"
    "        case command\n"
    "            __fish_complete_command\n"
    "    end\n"
    "end\n"
    "complete -c rota -f -a '(__rota_complete)'\n";

bool help_completion(struct buf *out, const char *shell)
{
    static const struct {
        const char *name, *text;
    } shells[] = {
        { "bash", bash_text },
        { "zsh", zsh_text },
        { "fish", fish_text },
    };
    for (size_t i = 0; i < sizeof shells / sizeof *shells; i++)
        if (strcmp(shells[i].name, shell) == 0) {
            buf_str(out, shells[i].text);
            return true;
        }
    return false;
}

static void candidate(struct buf *out, struct bytes prefix, const char *word, size_t size, const char *help)
{
    buf_add(out, prefix.data, prefix.size);
    buf_add(out, word, size);
    buf_printf(out, "\t%s\n", help);
}

static enum complete_kind complete_value(struct buf *out, const struct option_row *row, const char *typed,
                                         struct bytes prefix)
{
    switch (row->kind) {
    case OPTION_CHOICE:
        for (const char *at = row->choices; *at;) {
            size_t size = strcspn(at, "|");
            if (size >= strlen(typed) && strncmp(at, typed, strlen(typed)) == 0)
                candidate(out, prefix, at, size, row->help);
            at += size + (at[size] == '|');
        }
        return COMPLETE_WORDS;
    case OPTION_FILE:
        return COMPLETE_FILES;
    case OPTION_DIR:
        return COMPLETE_DIRS;
    default:
        return COMPLETE_WORDS;
    }
}

static void complete_options(struct buf *out, const struct command *c, const char *typed)
{
    const struct option_row *row;
    for (size_t i = 0; (row = command_option(c, i)); i++) {
        char word[80];
        snprintf(word, sizeof word, "--%s", row->name);
        if (strncmp(word, typed, strlen(typed)) == 0)
            candidate(out, bytes_of("", 0), word, strlen(word), row->help);
    }
}

static void complete_verbs(struct buf *out, const char *typed)
{
    for (size_t i = 0; commands[i]; i++)
        if (!(commands[i]->flags & COMMAND_HIDDEN) && strncmp(commands[i]->name, typed, strlen(typed)) == 0)
            candidate(out, bytes_of("", 0), commands[i]->name, strlen(commands[i]->name), commands[i]->summary);
}

static const struct option_row *option_word(const struct command *c, const char *word)
{
    if (strncmp(word, "--", 2) == 0)
        return command_option_named(c, word + 2, strlen(word + 2));
    const struct option_row *row;
    for (size_t i = 0; word[0] == '-' && word[1] && !word[2] && (row = command_option(c, i)); i++)
        if (row->letter == word[1])
            return row;
    return NULL;
}

static enum complete_kind complete_operand(struct buf *out, const struct command *c, const char *typed)
{
    static const char *const shells[] = { "bash", "zsh", "fish" };
    if (strcmp(c->name, "help") == 0)
        complete_verbs(out, typed);
    for (size_t i = 0; strcmp(c->name, "completion") == 0 && i < 3; i++)
        if (strncmp(shells[i], typed, strlen(typed)) == 0)
            candidate(out, bytes_of("", 0), shells[i], strlen(shells[i]), "shell");
    return c->flags & COMMAND_TAIL    ? COMPLETE_COMMAND
           : c->flags & COMMAND_JOBS  ? COMPLETE_JOBS
           : c->flags & COMMAND_NODES ? COMPLETE_NODES
           : c->flags & COMMAND_FILES ? COMPLETE_FILES
                                      : COMPLETE_WORDS;
}

enum complete_kind help_complete(struct buf *out, char *const *words, size_t count, struct bytes *prefix)
{
    *prefix = bytes_of("", 0);
    const char *typed = count ? words[count - 1] : "";
    if (count <= 1) {
        complete_verbs(out, typed);
        return COMPLETE_WORDS;
    }
    const struct command *c = command_named(words[0]);
    if (!c)
        return COMPLETE_WORDS;
    const struct option_row *open = NULL; /* an option that waits for its value */
    for (size_t i = 1; i + 1 < count; i++) {
        if (open) {
            open = NULL;
        } else if (strcmp(words[i], "--") == 0) {
            return c->flags & COMMAND_TAIL && i + 2 < count ? COMPLETE_FILES : complete_operand(out, c, typed);
        } else if (words[i][0] == '-' && words[i][1]) {
            const struct option_row *row = option_word(c, words[i]);
            open = row && row->kind != OPTION_FLAG && !(row->flags & OPTION_MAYBE) ? row : NULL;
        } else if (c->flags & COMMAND_TAIL) {
            return COMPLETE_FILES;
        }
    }
    if (open)
        return complete_value(out, open, typed, *prefix);
    const char *equals = strncmp(typed, "--", 2) == 0 ? strchr(typed, '=') : NULL;
    if (equals) {
        const struct option_row *row = command_option_named(c, typed + 2, (size_t)(equals - typed - 2));
        *prefix = bytes_of(typed, (size_t)(equals + 1 - typed));
        return row && row->kind != OPTION_FLAG ? complete_value(out, row, equals + 1, *prefix) : COMPLETE_WORDS;
    }
    if (typed[0] == '-') {
        complete_options(out, c, typed);
        return COMPLETE_WORDS;
    }
    return complete_operand(out, c, typed);
}
