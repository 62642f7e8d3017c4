/* log_keeper.h: holds the output that finished attempts left on this worker to a total: the oldest files go first.
 * A thread looks at the directory from time to time; nothing is done per job. Files of attempts that are still held stay. */
#ifndef ROTA_WORKER_LOG_KEEPER_H
#define ROTA_WORKER_LOG_KEEPER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

struct loop;
struct log_keeper;

struct log_keeper_config {
    const char *directory;     /* everything below it is output, */
    const char *skip;          /* but for this directory in it, whose files change their owner; NULL: none */
    uint64_t bytes_max;        /* in all; when passed, files go until 7/8 of it are left */
    uint64_t files_max;        /* likewise */
    int64_t every_ms;
    void *arg;
    /* Adds the paths that must stay, each ended by a zero byte; called on the loop's thread, only when files have to go. */
    void (*held)(void *arg, struct buf *paths);
};

struct log_keeper *log_keeper_new(struct loop *loop, const struct log_keeper_config *config);
void log_keeper_free(struct log_keeper *k);
void log_keeper_look(struct log_keeper *k);              /* look now, not only when it is time */
uint64_t log_keeper_bytes(const struct log_keeper *k);   /* at the last look, after removal */
uint64_t log_keeper_removed(const struct log_keeper *k); /* files removed so far */
bool log_keeper_busy(const struct log_keeper *k);

#endif
