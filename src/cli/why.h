/* why.h: the answer of /why as sentences with numbers. Pure. */
#ifndef ROTA_CLI_WHY_H
#define ROTA_CLI_WHY_H

#include <jansson.h>

#include "base/buf.h"

/* One sentence or more, each on a line of its own. */
void why_sentences(const json_t *why, struct buf *out);
/* When it is to start, or why that is not known: words without an end. */
void estimate_words(const json_t *estimate, struct buf *out);

#endif
