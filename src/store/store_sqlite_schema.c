#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "store/store_sqlite_int.h"
#include "store/store_vfs.h"

/* The journal is the truth; the views below it hold numbers of records, not copies of them, so that a job costs few and
 * short rows: one when it is submitted, one when an attempt is assigned, and a change of that when it ends. Keys rise
 * with time in every table, so inserts touch the right edge of a tree only (idempotency keys, which users choose,
 * excepted).
 *
 * Events of a job (job_events) are found without an index of their own: the numbers in job and attempt lead to the
 * records of a plain job, and what they do not cover (holds, changes, everything about arrays) leaves a mark, at most
 * one per job and chunk. A row per record would cost as much as everything else together; scanning the journal from the
 * submit record on takes time without a bound. */
static const char schema_sql[] =
    "CREATE TABLE meta(id INTEGER PRIMARY KEY CHECK(id=1), cluster BLOB NOT NULL, token_key BLOB NOT NULL) STRICT;"
    "CREATE TABLE leader(id INTEGER PRIMARY KEY CHECK(id=1), epoch INTEGER NOT NULL, last_seq INTEGER NOT NULL,"
    " beat INTEGER NOT NULL) STRICT;"
    "CREATE TABLE journal(first_seq INTEGER PRIMARY KEY, count INTEGER NOT NULL, sum INTEGER NOT NULL,"
    " body BLOB NOT NULL)"
    " STRICT;"
    "CREATE TABLE job(id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, sum INTEGER NOT NULL, owner BLOB, idem_key BLOB,"
    " key_digest BLOB, spec BLOB) STRICT;"
    "CREATE UNIQUE INDEX one_job_per_key ON job(owner, idem_key) WHERE idem_key IS NOT NULL;"
    /* Of an attempt: its ASSIGNED, STARTED and ENDED or REVOKED records. n 0 is no attempt: the record that ended the
     * whole job or the task without one. Task -1: the one task of a plain job, and an array as a whole, which has no
     * attempts. */
    "CREATE TABLE attempt(job INTEGER NOT NULL, task INTEGER NOT NULL, n INTEGER NOT NULL, assigned INTEGER NOT NULL,"
    " started INTEGER NOT NULL, ended INTEGER NOT NULL, final INTEGER NOT NULL, PRIMARY KEY(job, task, n))"
    " STRICT, WITHOUT ROWID;"
    "CREATE UNIQUE INDEX one_open_attempt ON attempt(job, task) WHERE ended=0;"
    "CREATE UNIQUE INDEX one_terminal_state ON attempt(job, task) WHERE final<>0;"
    "CREATE TABLE mark(job INTEGER NOT NULL, first_seq INTEGER NOT NULL, PRIMARY KEY(job, first_seq))"
    " STRICT, WITHOUT ROWID;"
    /* Of an attempt whose ENDED record has this number. */
    "CREATE TABLE tail(seq INTEGER PRIMARY KEY, sum INTEGER NOT NULL, stdout_tail BLOB, stderr_tail BLOB,"
    " usage BLOB) STRICT;";

#define OBJECTS_SQL "SELECT count(*) FROM sqlite_schema WHERE name IN ('meta', 'leader', 'journal', 'job', 'attempt'," \
    " 'mark', 'tail', 'one_job_per_key', 'one_open_attempt', 'one_terminal_state')"
#define OBJECTS_COUNT 10

static int fill(sqlite3 *db, struct err *err)
{
    uint8_t secret[32];
    if (getrandom(secret, sizeof secret, 0) != sizeof secret)
        return err_errno(err, "random numbers");
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(db, "INSERT INTO meta VALUES(1, ?, ?)", -1, &stmt, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_bind_blob(stmt, 1, secret, 16, SQLITE_STATIC);
        sqlite3_bind_blob(stmt, 2, secret + 16, 16, SQLITE_STATIC);
        rc = sqlite3_step(stmt);
    }
    int result = rc == SQLITE_DONE ? 0 : store_db_error(db, rc, err, "fill the new store");
    sqlite3_finalize(stmt);
    return result;
}

static int make_tables(sqlite3 *db, struct err *err)
{
    int reserve = STORE_VFS_SUM_BYTES;
    int rc = sqlite3_file_control(db, "main", SQLITE_FCNTL_RESERVE_BYTES, &reserve);
    if (rc != SQLITE_OK)
        return store_db_error(db, rc, err, "reserve room for checksums");
    rc =
        store_db_exec(db, "PRAGMA page_size=4096; BEGIN; PRAGMA application_id=0x526f7461; PRAGMA user_version=2", err);
    if (rc < 0 || (rc = store_db_exec(db, schema_sql, err)) < 0)
        return rc;
    if ((rc = store_db_exec(db, "INSERT INTO leader VALUES(1, 0, 0, 0)", err)) < 0 || (rc = fill(db, err)) < 0)
        return rc;
    return store_db_exec(db, "COMMIT; PRAGMA journal_mode=WAL", err);
}

int store_schema_make(const char *path, struct err *err)
{
    autoclose int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_errno(err, "make %s", path);
    sqlite3 *db = NULL;
    int rc = store_db_open(&db, path, DB_MAKER, err);
    if (rc < 0)
        return rc;
    rc = make_tables(db, err);
    store_db_close(db, false);
    if (rc < 0)
        return rc;
    if (fsync(fd) < 0)
        return err_errno(err, "sync %s", path);
    return 0;
}

static uint32_t be32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* Offsets are those of https://www.sqlite.org/fileformat.html, section 1.3. */
int store_schema_check_head(int fd, bool *backup, struct err *err)
{
    static const char restore[] = "restore the store from a backup, or move the file away to start with an empty store";
    uint8_t head[100];
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_errno(err, "stat");
    if (st.st_size == 0)
        return err_field(err, ERR_CORRUPT, NULL, restore, "the file is empty");
    ssize_t got = pread(fd, head, sizeof head, 0);
    if (got < 0)
        return err_errno(err, "read");
    if (got >= 16 && memcmp(head, "SQLite format 3", 16) != 0)
        return err_field(err, ERR_CORRUPT, NULL, restore, "the file is no Rota store");
    if (got < (ssize_t)sizeof head || st.st_size < STORE_PAGE_BYTES)
        return err_field(err, ERR_CORRUPT, NULL, restore, "the file is cut short: it has %jd bytes",
                         (intmax_t)st.st_size);
    if (be32(head + 68) != STORE_APPLICATION_ID)
        return err_field(err, ERR_CORRUPT, NULL, restore, "the file is a database, but no Rota store");
    if (be32(head + 60) > STORE_VERSION)
        return err_field(err, ERR_CORRUPT, NULL, "use the version of rota that made it, or a newer one",
                         "the store has version %" PRIu32 ", this program knows %d", be32(head + 60), STORE_VERSION);
    if (be32(head + 60) == 0 || (head[16] << 8 | head[17]) != STORE_PAGE_BYTES ||
        head[20] != STORE_VFS_SUM_BYTES)
        return err_field(err, ERR_CORRUPT, NULL, restore, "the head of the file is damaged");
    if (backup)
        *backup = head[18] == 1; /* 2: with a log */
    return 0;
}

int store_schema_revive(sqlite3 *db, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(db, "PRAGMA journal_mode=WAL", -1, &stmt, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    const char *mode = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
    int result = 0;
    if (rc != SQLITE_ROW)
        result = store_db_error(db, rc, err, "turn the log on");
    else if (!mode || strcmp(mode, "wal") != 0)
        result = err_set(err, ERR_IO, "the log of the store cannot be turned on");
    sqlite3_finalize(stmt);
    return result;
}

int store_schema_upgrade(sqlite3 *db, struct err *err)
{
    int64_t version = 0;
    int rc = store_db_number(db, "PRAGMA user_version", &version, err);
    if (rc < 0 || version == STORE_VERSION)
        return rc;
    return store_db_exec(
        db, "BEGIN IMMEDIATE; ALTER TABLE tail ADD COLUMN usage BLOB; PRAGMA user_version=2; COMMIT", err);
}

static int check_structure(sqlite3 *db, enum store_structure structure, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(
        db, structure == STRUCTURE_ALL ? "PRAGMA integrity_check(1)" : "PRAGMA quick_check(1)", -1, &stmt, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    const char *said = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
    int result = 0;
    if (rc != SQLITE_ROW)
        result = store_db_error(db, rc, err, "check the structure");
    else if (!said || strcmp(said, "ok") != 0)
        result = err_field(err, ERR_CORRUPT, NULL, "restore the store from a backup", "the structure is damaged: %s",
                           said ? said : "no memory");
    sqlite3_finalize(stmt);
    return result;
}

static int read_meta(sqlite3 *db, struct store_meta *meta, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(
        db, "SELECT cluster, token_key, epoch, last_seq FROM meta, leader WHERE meta.id=1 AND leader.id=1", -1, &stmt,
        NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    int result = 0;
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
        result = store_db_error(db, rc, err, "read meta");
    } else if (rc == SQLITE_DONE || sqlite3_column_bytes(stmt, 0) != 16 || sqlite3_column_bytes(stmt, 1) != 16 ||
               sqlite3_column_int64(stmt, 2) < 0 || sqlite3_column_int64(stmt, 3) < 0) {
        result = err_set(err, ERR_CORRUPT, "the identity of the store is damaged");
    } else {
        memcpy(meta->cluster, sqlite3_column_blob(stmt, 0), 16);
        memcpy(meta->token_key, sqlite3_column_blob(stmt, 1), 16);
        meta->epoch = (uint64_t)sqlite3_column_int64(stmt, 2);
        meta->last_seq = (uint64_t)sqlite3_column_int64(stmt, 3);
    }
    sqlite3_finalize(stmt);
    return result;
}

int store_schema_check(sqlite3 *db, enum store_structure structure, struct store_meta *meta, struct err *err)
{
    int64_t objects = 0, last_seq = 0;
    int rc = store_db_number(db, OBJECTS_SQL, &objects, err);
    if (rc < 0)
        return rc;
    if (objects != OBJECTS_COUNT)
        return err_set(err, ERR_CORRUPT, "tables of the store are missing");
    if (structure != STRUCTURE_TRUST && (rc = check_structure(db, structure, err)) < 0)
        return rc;
    if ((rc = read_meta(db, meta, err)) < 0)
        return rc;
    rc = store_db_number(
        db, "SELECT ifnull((SELECT first_seq + count - 1 FROM journal ORDER BY first_seq DESC LIMIT 1), 0)", &last_seq,
        err);
    if (rc < 0)
        return rc;
    if ((uint64_t)last_seq != meta->last_seq)
        return err_set(err, ERR_CORRUPT, "the journal ends at record %" PRId64 ", %" PRIu64 " was the last one written",
                       last_seq, meta->last_seq);
    return 0;
}

int store_schema_last_chunk(sqlite3 *db, int (*each)(void *arg, const struct record *r, struct err *err), void *arg,
                            struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(db, "SELECT first_seq, count, sum, body FROM journal ORDER BY first_seq DESC LIMIT 1",
                                -1, &stmt, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    int result = 0;
    if (rc == SQLITE_ROW) {
        struct store_chunk c = {
            .first_seq = (uint64_t)sqlite3_column_int64(stmt, 0),
            .count = (uint64_t)sqlite3_column_int64(stmt, 1),
            .sum = (uint64_t)sqlite3_column_int64(stmt, 2),
            .body = store_db_blob(stmt, 3),
        };
        result = store_chunk_walk(&c, 0, each, arg, err);
    } else if (rc != SQLITE_DONE) {
        result = store_db_error(db, rc, err, "read the journal");
    }
    sqlite3_finalize(stmt);
    return result;
}
