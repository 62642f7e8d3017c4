#include "sim/trace_file.h"

#include <errno.h>
#include <zlib.h>

int trace_file_read(struct buf *out, const char *path, struct err *err)
{
    errno = 0;
    gzFile file = gzopen(path, "rbe");
    if (!file)
        return err_errno(err, "%s", path);
    int got;
    do {
        buf_reserve(out, 1u << 16);
        got = gzread(file, out->data + out->size, 1u << 16);
        if (got > 0)
            out->size += (size_t)got;
    } while (got > 0 && out->size <= TRACE_FILE_BYTES_MAX);
    int code = Z_OK;
    const char *why = gzerror(file, &code);
    int rc = 0;
    if (got < 0 || code == Z_BUF_ERROR)
        rc = code == Z_ERRNO ? err_errno(err, "%s", path)
                             : err_field(err, ERR_INVALID, "trace", "get the file again: it is cut short or damaged", "%s: %s", path,
                                         why);
    else if (out->size > TRACE_FILE_BYTES_MAX)
        rc = err_field(err, ERR_INVALID, "trace", "replay it in parts", "%s: more than 1 GiB of text", path);
    gzclose(file);
    return rc;
}
