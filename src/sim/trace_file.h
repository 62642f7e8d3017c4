/* trace_file.h: a log to replay, read whole. */
#ifndef ROTA_SIM_TRACE_FILE_H
#define ROTA_SIM_TRACE_FILE_H

#include "base/buf.h"
#include "base/err.h"

#define TRACE_FILE_BYTES_MAX (UINT64_C(1) << 30)

/* Adds the text to `out`; gzip or not is told by its first bytes. */
int trace_file_read(struct buf *out, const char *path, struct err *err);

#endif
