/* journal_writer.h: the thread that makes batches durable, so that the loop never waits for a disk. One batch at a time. */
#ifndef ROTA_WORKER_JOURNAL_WRITER_H
#define ROTA_WORKER_JOURNAL_WRITER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "worker/journal.h"

struct loop;
struct journal_writer;

struct journal_written {
    struct err err;          /* code ERR_OK: durable. Else the process must end: nobody knows what is on disk */
    uint64_t bytes;          /* size of the journal now */
    uint64_t replaced_bytes; /* size right after it was replaced; 0: it was not */
    bool low;                /* no room could be kept behind its end */
    int64_t took_ns;
};

/* Takes the journal. `done` comes on the loop's thread after each write. */
struct journal_writer *journal_writer_new(struct loop *loop, struct journal *j,
                                          void (*done)(void *arg, const struct journal_written *result), void *arg);
/* Appends the records, or, with a snapshot, puts a new journal in place that already tells what they tell. If the disk is too
 * full for a new journal the records are appended. Records stay the caller's and must live until `done`; the snapshot is taken. */
void journal_writer_write(struct journal_writer *w, const struct record *records, size_t count,
                          struct journal_snapshot *snapshot);
/* Waits for the write in flight, closes the journal. No callback after it. */
void journal_writer_free(struct journal_writer *w);

#endif
