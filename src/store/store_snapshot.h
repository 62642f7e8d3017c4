/* store_snapshot.h: the file store.snapshot beside the store: what the master's brain was after some record.
 *
 * A file of its own, and not a table, because there is one writer: megabytes on their way through its log would hold up
 * the commits of everybody. It is written under another name, synced, and renamed; it is tied to the journal by the
 * chunk it ends with, and each piece has a checksum. Nothing depends on it: without it the whole journal is read. */
#ifndef ROTA_STORE_SNAPSHOT_H
#define ROTA_STORE_SNAPSHOT_H

#include "store/store_sqlite_int.h"

#define STORE_SNAPSHOT_NAME "store.snapshot"

/* See store.h. db: a connection that reads the store the snapshot is of. */
int store_snapshot_save(sqlite3 *db, const char *dir, const uint8_t cluster[16], uint64_t seq,
                        store_snapshot_write *write, void *arg, struct err *err);
int store_snapshot_load(sqlite3 *db, const char *dir, const uint8_t cluster[16], uint64_t *seq,
                        int (*each)(void *arg, struct bytes piece, struct err *err), void *arg, struct err *err);

#endif
