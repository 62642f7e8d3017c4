/* err.h: errors are values with a path.
 *
 * A function that can fail returns 0, or a negative -code, and then has filled *err (which may be NULL) and changed
 * nothing else. On success *err is untouched. Whoever stops passing an error on reports it, once. */
#ifndef ROTA_BASE_ERR_H
#define ROTA_BASE_ERR_H

enum err_code {
    ERR_OK = 0,
#define ERR(code, http, exit, title) code,
#include "base/err.def"
#undef ERR
    ERR_CODES
};

struct err {
    enum err_code code;
    char field[96];   /* which part of the input is wrong, e.g. "array" or "jobs[3].mem"; "" if none */
    char text[320];   /* what is wrong, in one sentence without a final full stop */
    char remedy[192]; /* what to do about it; "" if there is nothing useful to say */
};

/* Sets *err and returns -code. */
int err_set(struct err *err, enum err_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The same with the field that is wrong and the remedy (either may be NULL). */
int err_field(struct err *err, enum err_code code, const char *field, const char *remedy, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* Sets *err from errno: "TEXT: No such file or directory". ENOSPC and EDQUOT become ERR_NO_SPACE, others ERR_IO. */
int err_errno(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Puts "PREFIX: " before the text of *err and returns -err->code. */
int err_wrap(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

const char *err_title(enum err_code code);     /* "no such thing" */
int err_http_status(enum err_code code);       /* 404 */
int err_exit_code(enum err_code code);         /* exit code of the command line, design: 2..6 */

#endif
