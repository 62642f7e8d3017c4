/* log.h: one line per fact on stderr: "TIME LEVEL ROLE message key=value ...", or JSON, where the pairs at the end of the
 * message are members of their own (key="..." for values with blanks; job=, task=, attempt=, node= name what it is about). Written by shells; the brains tell
 * by effects. Values are escaped: no control byte and no newline reaches the terminal. Lines are written with one
 * write(2). */
#ifndef ROTA_OBS_LOG_H
#define ROTA_OBS_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
void log_init(const char *role, enum log_level level, bool json); /* role: "master", "worker-1": part of each line */
/* fmt is the message; it may end in key=value pairs made by the caller with %s for values that are known to be clean.
 */
void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool log_shows(enum log_level level); /* for what costs something to say */
#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_write(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)

#endif
