#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

static const struct {
    int http_status;
    int exit_code;
    const char *title;
} classes[ERR_CODES] = {
    [ERR_OK] = { 200, 0, "no error" },
#define ERR(code, http, exit, title) [code] = { http, exit, title },
#include "base/err.def"
#undef ERR
};

__attribute__((format(printf, 5, 0))) static int fill(struct err *err, enum err_code code, const char *field, const char *remedy, const char *fmt,
                va_list args)
{
    check(code > ERR_OK && code < ERR_CODES);
    if (err) {
        err->code = code;
        snprintf(err->field, sizeof err->field, "%s", field ? field : "");
        snprintf(err->remedy, sizeof err->remedy, "%s", remedy ? remedy : "");
        vsnprintf(err->text, sizeof err->text, fmt, args);
    }
    return -(int)code;
}

int err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int rc = fill(err, code, NULL, NULL, fmt, args);
    va_end(args);
    return rc;
}

int err_field(struct err *err, enum err_code code, const char *field, const char *remedy, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int rc = fill(err, code, field, remedy, fmt, args);
    va_end(args);
    return rc;
}

int err_errno(struct err *err, const char *fmt, ...)
{
    int saved = errno;
    enum err_code code = saved == ENOSPC || saved == EDQUOT ? ERR_NO_SPACE : ERR_IO;
    va_list args;
    va_start(args, fmt);
    int rc = fill(err, code, NULL, NULL, fmt, args);
    va_end(args);
    if (err) {
        size_t used = strlen(err->text);
        snprintf(err->text + used, sizeof err->text - used, ": %s", strerror(saved));
    }
    errno = saved;
    return rc;
}

int err_wrap(struct err *err, const char *fmt, ...)
{
    if (!err)
        return -(int)ERR_INTERNAL;
    char old[sizeof err->text];
    memcpy(old, err->text, sizeof old);
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    size_t used = strlen(err->text);
    snprintf(err->text + used, sizeof err->text - used, ": %s", old);
    return -(int)err->code;
}

const char *err_title(enum err_code code)
{
    check(code >= ERR_OK && code < ERR_CODES);
    return classes[code].title;
}

int err_http_status(enum err_code code)
{
    check(code >= ERR_OK && code < ERR_CODES);
    return classes[code].http_status;
}

int err_exit_code(enum err_code code)
{
    check(code >= ERR_OK && code < ERR_CODES);
    return classes[code].exit_code;
}
