/* term.h: what reaches people: clean text on terminals, tables, a progress bar, messages.
 *
 * Data goes to stdout, talk to stderr. What comes from the server or from a job may try to drive the terminal:
 * everything that is printed to one passes text_clean or log_clean. When stdout is no terminal, bytes go out as they
 * are. */
#ifndef ROTA_CLI_TERM_H
#define ROTA_CLI_TERM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

bool term_stdout(void);  /* stdout is a terminal */
bool term_stderr(void);
bool term_colour(void);  /* stdout is a terminal that may be coloured: NO_COLOR is not set, TERM is not dumb */

/* One line of text for people: control characters, bidi overrides and bytes that are not UTF-8 become visible marks
 * (\x1b, \u202e). */
void text_clean(struct buf *out, struct bytes text);
/* JSON for a terminal: what text_clean would mark becomes \u00xx inside strings, so that it stays the same JSON. */
void json_clean(struct buf *out, struct bytes json);

/* Output of a job for a terminal, piece by piece: lines, tabs and SGR colours pass; other control sequences are dropped
 * whole, other control bytes and overrides are dropped. A carriage return becomes a new line unless one follows. */
struct log_clean {
    uint8_t state;
    uint8_t held;      /* bytes in hold */
    char hold[40];     /* a sequence or a character that is not yet complete */
};
void log_clean(struct log_clean *c, struct buf *out, struct bytes piece);
void log_clean_end(struct log_clean *c, struct buf *out); /* back to plain colour, a last cut character as a mark */

/* "rota: FIELD: text; remedy" on stderr. Returns the exit code of the error. */
int say_error(const struct err *err);
void error_line(struct buf *out, const struct err *err);   /* the same text, without "rota: " and newline */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* "rota: ..." on stderr */
/* Writes all of it to stdout; a reader that went away (EPIPE) ends the program quietly, another failure with a message.
 */
void out_bytes(struct bytes text);
void out_flush(struct buf *b); /* out_bytes and clear */

/* A table: aligned by libsmartcols on a terminal, tabs between the columns else. Pages may follow each other; the names
 * of the columns are printed once. */
struct table;
enum { TABLE_RIGHT = 1, TABLE_CUT = 2 }; /* numbers; may be cut to fit the terminal */
struct table *table_new(void);
void table_column(struct table *t, const char *name, int flags);
void table_row(struct table *t);
void table_cell(struct table *t, const char *fmt, ...)
    __attribute__((format(printf, 2, 3))); /* cells of the row in order */
void table_cell_bytes(struct table *t, struct bytes text);
void table_colour(struct table *t, const char *colour); /* of the row's last cell: "green"; terminals only */
void table_print(struct table *t);                      /* and empties it, for the next page */
void table_free(struct table *t);

/* done/total, rate, time left and failures on one line of stderr; redrawn at most ten times a second. */
enum progress_mode { PROGRESS_NONE, PROGRESS_BAR, PROGRESS_PLAIN };
struct progress {
    enum progress_mode mode;
    const char *unit;           /* "jobs" */
    int64_t start_ms, drawn_ms;
    uint64_t first;             /* done when it began: the rate counts what came since */
    uint64_t done, total, failed; /* total 0: unknown */
    bool drawn;
};
void progress_start(struct progress *p, enum progress_mode mode, const char *unit, int64_t now_ms);
void progress_set(struct progress *p, uint64_t done, uint64_t total, uint64_t failed, int64_t now_ms);
void progress_end(struct progress *p, int64_t now_ms); /* the last line, with exact counts */
void progress_line(const struct progress *p, int64_t now_ms, int width,
                   struct buf *out); /* pure, for both and for tests */

#endif
