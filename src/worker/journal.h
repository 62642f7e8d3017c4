/* journal.h: what a worker knows across crashes: one append-only file of records (schema/events.def).
 *
 * File `journal` in the state directory: a header of 32 bytes (magic, the sequence number of the first appended record, how many
 * snapshot records come first, hash), then entries: mark (4), size (4), XXH3 of the record's bytes seeded with the size (8), and
 * the bytes of record_encode. Numbers are little-endian. Snapshot records carry sequence number 0, appended ones count without holes.
 *
 * A record is on disk when journal_append has returned 0. What a crash leaves behind the last append is torn: it is cut off
 * when the file is opened. Anything else that is unreadable is damage: records around it that prove themselves by
 * their hash are kept, the file as it was is put aside, and the worker says so. A journal is replaced as a whole: written
 * beside the old one, synced, renamed, directory synced; a crash at each step leaves the old one or the new one. */
#ifndef ROTA_WORKER_JOURNAL_H
#define ROTA_WORKER_JOURNAL_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "core/model/record.h"

#define JOURNAL_HEADER_BYTES 32u
#define JOURNAL_ENTRY_BYTES 16u        /* before the record's own bytes */
#define JOURNAL_FILE_MAX (1u << 30)    /* a larger file is not ours */
#define JOURNAL_RESERVE_BYTES (2u << 20) /* kept allocated behind the end, so that ends fit when the disk is full */

struct journal_scan {
    uint64_t records;        /* valid ones, all handed to visit */
    uint64_t next_seq;       /* of the next record to append */
    uint64_t end;            /* bytes up to the end of the last valid entry: what follows is torn */
    uint64_t torn_bytes;     /* bytes behind `end` */
    uint64_t damaged_bytes;  /* unreadable bytes before `end` */
    uint64_t missing;        /* sequence numbers that ought to be there and are not, or stand twice */
    bool damaged;            /* the header, the middle or the order is not as it was written */
};

typedef void journal_visit(void *arg, const struct record *r);

/* Reads the bytes of a journal. Never fails: what is not valid is counted. Records borrow from `file`. visit may be NULL. */
void journal_scan(struct bytes file, journal_visit *visit, void *arg, struct journal_scan *out);

/* Reads the journal in the directory into *file. ERR_NOT_FOUND: there is none. ERR_TOO_LARGE, ERR_IO. */
int journal_load(int dir, struct buf *file, struct err *err);

/* The records of a new journal, gathered in memory for journal_create and journal_replace. */
struct journal_snapshot {
    struct buf bytes;
    uint64_t records;
};
void journal_snapshot_add(struct journal_snapshot *s, const struct record *r);
void journal_snapshot_fini(struct journal_snapshot *s);

struct journal;
/* Opens the journal that was loaded and scanned: cuts what is torn. The scan must not be damaged. */
struct journal *journal_open(int dir, const struct journal_scan *scan, struct err *err);
/* Writes a new journal in place of the one there, if any; with keep_damaged that one is kept as `journal.damaged-N`. */
struct journal *journal_create(int dir, const struct journal_snapshot *s, uint64_t next_seq, const char *keep_damaged,
                               struct err *err);
void journal_close(struct journal *j); /* NULL is fine */

/* Appends the records, whose seq must follow on, and syncs. After an error nobody knows what is on disk: end the process. */
int journal_append(struct journal *j, const struct record *records, size_t count, struct err *err);
/* Puts a new journal in the place of this one. ERR_NO_SPACE: the old one is in use as before; any other error: end the process. */
int journal_replace(struct journal *j, const struct journal_snapshot *s, uint64_t next_seq, struct err *err);
uint64_t journal_bytes(const struct journal *j);
/* The room kept behind the end could not be had at the last append. */
bool journal_low(const struct journal *j);

#endif
