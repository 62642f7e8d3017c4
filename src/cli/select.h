/* select.h: how jobs are named on the command line. The API understands all of it (7, 7_3, 5-9,12, last, all, name,
 * glob); here several operands become as few selectors as possible, and verbs about one job find it. */
#ifndef ROTA_CLI_SELECT_H
#define ROTA_CLI_SELECT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct client;

/* Only ids, tasks and ranges, separated by commas: such texts may be joined by a comma. */
bool select_is_list(const char *text);
/* Operands as selectors, ids and ranges joined (at most SELECT_TEXT_MAX bytes each), in order of first appearance; each
 * ends with '\n' in *out. The result is how many. */
#define SELECT_TEXT_MAX 2000u
size_t select_join(struct buf *out, char *const *operands, size_t count);
/* The next of the lines made by select_join; false at the end. The line is terminated in place. */
bool select_next(struct buf *lines, size_t *at, const char **selector);

struct job_ref { uint64_t job; bool has_index; uint32_t index; };
/* The one job that is meant: an id or a task itself, else asked of the master; several or none are refused. */
int select_one(struct client *c, const char *text, struct job_ref *out, struct err *err);
void job_ref_text(struct buf *out, const struct job_ref *ref);  /* "7" or "7_3" */

#endif
