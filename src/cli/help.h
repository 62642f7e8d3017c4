/* help.h: texts made from the tables of args.h: help, man page, docs/cli.md, completion. Pure: they only add to a
 * buffer. */
#ifndef ROTA_CLI_HELP_H
#define ROTA_CLI_HELP_H

#include "cli/args.h"

#define HELP_WIDTH 100

void help_top(struct buf *out);                               /* rota --help */
void help_command(struct buf *out, const struct command *c);  /* rota VERB --help */
void help_man(struct buf *out);                               /* rota(1) as scdoc */
void help_markdown(struct buf *out);                          /* docs/cli.md */
bool help_completion(struct buf *out, const char *shell);     /* false: no such shell */

enum complete_kind { COMPLETE_WORDS, COMPLETE_FILES, COMPLETE_DIRS, COMPLETE_JOBS, COMPLETE_NODES, COMPLETE_COMMAND };
/* Candidates for the last of the words that stand behind `rota`: "WORD\tDESCRIPTION\n" each, appended to *out. The
 * result says what else may stand there: the caller adds files, jobs or nodes. *prefix: the beginning "--option=" of
 * the last word that belongs before every candidate (borrowed from words), or size 0. */
enum complete_kind help_complete(struct buf *out, char *const *words, size_t count, struct bytes *prefix);

/* For args "help" and mistyped verbs. */
const char *help_nearest_command(const char *word);

#endif
