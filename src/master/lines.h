/* lines.h: the last lines of a text that arrives in pieces. */
#ifndef ROTA_MASTER_LINES_H
#define ROTA_MASTER_LINES_H

#include "base/buf.h"

#define LINES_BYTES_MAX (4u * 1024 * 1024) /* of last lines; longer ones are cut at the front */

/* Drops all but the last `lines` lines of the window; a last line without an end counts. */
void lines_keep_last(struct buf *window, uint64_t lines);

#endif
