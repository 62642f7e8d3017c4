/* store_sqlite_int.h: what the files of the SQLite store share. Nobody else includes it.
 *
 * Who touches what. The writer's connection belongs to the writer's thread (to the caller of append when there is no
 * loop): it alone writes and it alone checkpoints. That is a rule of correctness: SQLite 3.7.0 to 3.51.2 can corrupt a
 * WAL database when two connections write or checkpoint at the same instant. Every other connection is read-only and
 * never checkpoints, not even when it is closed last.
 *
 * Files in the state directory: store.db, store.db-wal, store.db-shm (SQLite's), store.lock (store_lock.h),
 * store.snapshot (store_snapshot.h), store.reserve. */
#ifndef ROTA_STORE_SQLITE_INT_H
#define ROTA_STORE_SQLITE_INT_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>

#include "store/store.h"
#include "store/store_chunk.h"

#define STORE_DB_NAME "store.db"
#define STORE_APPLICATION_ID 0x526f7461 /* "Rota" */
#define STORE_VERSION 2                 /* user_version: of the tables below; a store of version 1 is brought up */
#define STORE_PAGE_BYTES 4096
#define STORE_BUSY_MS 5000              /* how long a connection waits for a lock; readers never hold one for long */

/* --- store_sqlite_db.c: connections and statements --- */

enum store_db_role {
    DB_WRITER,
    DB_READER,         /* of a store that some process has open */
    DB_READER_FROZEN,  /* of a file that nobody writes and that has no log: touches nothing */
    DB_READER_CRASHED, /* of a store that nobody has open but whose log was left behind: touches nothing */
    DB_MAKER           /* makes a new file; the caller has made it empty */
};
int store_db_open(sqlite3 **out, const char *path, enum store_db_role role, struct err *err);
void store_db_close(sqlite3 *db, bool checkpoint);
/* Turns a result code of SQLite into an error; always returns a negative code. */
int store_db_error(sqlite3 *db, int rc, struct err *err, const char *doing);
int store_db_exec(sqlite3 *db, const char *sql, struct err *err); /* constant text, several statements, rows ignored */
int store_db_number(sqlite3 *db, const char *sql, int64_t *out, struct err *err); /* first column of the first row */
int store_db_prepare(sqlite3 *db, const char *const *sql, sqlite3_stmt **out, size_t count, struct err *err);
void store_db_finalize(sqlite3_stmt **stmts, size_t count);
struct bytes store_db_blob(sqlite3_stmt *stmt, int column); /* valid until the next step or reset */
int store_db_bind_blob(sqlite3_stmt *stmt, int index, struct bytes value); /* borrowed until reset; no data: NULL */

/* Tasks in the tables: TASK_SINGLE is -1 and TASK_ALL -2, so that they take one byte and come first. */
int64_t store_db_task(uint32_t task);
uint32_t store_db_task_back(int64_t task);

/* --- store_sqlite_schema.c: tables, and what must be true of them --- */

/* Makes a new store file at path. */
int store_schema_make(const char *path, struct err *err);
/* Reads the head of the file without SQLite: is it a Rota store, whole, and of a version that we know? *backup (may be
 * NULL): it is a copy made by store_sqlite_backup that has not been opened since. */
int store_schema_check_head(int fd, bool *backup, struct err *err);
/* Turns the log of a backup on, so that it is a store again. */
int store_schema_revive(sqlite3 *db, struct err *err);
/* Brings a store that an older program made up to our version. */
int store_schema_upgrade(sqlite3 *db, struct err *err);
/* The last records, in order: those of the last chunk. */
int store_schema_last_chunk(sqlite3 *db, int (*each)(void *arg, const struct record *r, struct err *err), void *arg,
                            struct err *err);
enum store_structure { STRUCTURE_TRUST, STRUCTURE_QUICK, STRUCTURE_ALL }; /* nothing, quick_check, integrity_check */
/* The tables are ours, meta and leader can be read, and the structure is sound as far as asked. */
int store_schema_check(sqlite3 *db, enum store_structure structure, struct store_meta *meta, struct err *err);

/* --- store_sqlite_writer.c --- */

struct store_writer;
struct store_writer *store_writer_new(sqlite3 *db, uint64_t epoch, uint64_t last_seq, struct err *err); /* takes db */
/* With checkpoint, moves the log into the file and removes it, unless an outcome was unknown. Else writes nothing. */
void store_writer_free(struct store_writer *w, bool checkpoint);
enum store_outcome store_writer_append(struct store_writer *w, const struct store_batch *batch, struct err *err);
/* Moves pages from the log to the file when there are at least store_checkpoint_frames (when idle: a part of that). Set
 * for all stores of the process before the first is opened; tests make it small. */
extern uint64_t store_checkpoint_frames;
void store_writer_checkpoint(struct store_writer *w, bool idle);
/* A commit that makes the log longer waits for the file's new size too, and that takes several times as long as writing over
 * what is there. So zeros are written behind the log's end when there is time; SQLite takes them for no frames. */
bool store_writer_wants_room(const struct store_writer *w);
void store_writer_make_room(struct store_writer *w);
struct store_writer_stats { uint64_t epoch, last_seq, wal_bytes, errors; };
void store_writer_stats(const struct store_writer *w, struct store_writer_stats *out); /* on the writer's thread */

/* --- store_sqlite_reader.c --- */

struct store_reader;
struct store_reader *store_reader_new(sqlite3 *db, struct err *err); /* takes db */
void store_reader_free(struct store_reader *r);
/* Until released, everything read is of one state of the store. */
int store_reader_hold(struct store_reader *r, struct err *err);
void store_reader_release(struct store_reader *r);
int store_reader_replay(struct store_reader *r, uint64_t from_seq, uint64_t max,
                        int (*each)(void *arg, const struct record *r, struct err *err), void *arg, struct err *err);
int store_reader_spec(struct store_reader *r, job_id job, struct buf *out, struct err *err);
int store_reader_key(struct store_reader *r, struct bytes owner, struct bytes key, job_id *job, struct buf *digest,
                     struct err *err);
int store_reader_key_begins(struct store_reader *r, struct bytes owner, struct bytes beginning, bool *used,
                            struct err *err);
int store_reader_attempts(struct store_reader *r, struct attempt_ref from, bool all_tasks, size_t max,
                          void (*each)(void *arg, const struct store_attempt *a), void *arg, struct err *err);
int store_reader_tails(struct store_reader *r, struct attempt_ref ref, struct buf *stdout_tail, struct buf *stderr_tail,
                       struct err *err);
int store_reader_usage(struct store_reader *r, struct attempt_ref ref, struct buf *out, struct err *err);
int store_reader_job_events(struct store_reader *r, job_id job, uint64_t from_seq, size_t max,
                            void (*each)(void *arg, const struct record *r), void *arg, struct err *err);

/* Sums of the rows that have one; the same on both sides. */
uint64_t store_job_sum(job_id job, uint64_t seq, struct bytes owner, struct bytes key, struct bytes digest,
                       struct bytes spec);
uint64_t store_tail_sum(uint64_t seq, struct bytes out, struct bytes errs, struct bytes usage);
/* Column 4 of a row of tail: a store of version 1 has none. */
struct bytes store_tail_usage(sqlite3_stmt *stmt);

/* --- store_sqlite_backup.c --- */

int store_sqlite_backup(const char *source_path, const char *path, struct err *err);
/* Everything that can be checked of an open database: structure, checksums, numbering, views against the journal. */
struct store_counts {
    uint64_t records, chunks, jobs, open_attempts, attempts, tails;
    uint64_t ended[JOB_STATES]; /* jobs by terminal state */
};
int store_sqlite_verify(sqlite3 *db, struct store_reader *r, enum store_structure structure, struct store_meta *meta,
                        struct store_counts *counts,
                        int (*each)(void *arg, const struct record *r, struct err *err), void *arg, struct err *err);

#endif
