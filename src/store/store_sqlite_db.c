#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "store/store_sqlite_int.h"
#include "store/store_vfs.h"

#define WRITER_CACHE "PRAGMA cache_size=-16384"
#define READER_CACHE "PRAGMA cache_size=-8192"

int store_db_error(sqlite3 *db, int rc, struct err *err, const char *doing)
{
    enum err_code code;
    int extended = db ? sqlite3_extended_errcode(db) : rc;
    if ((extended & 0xff) != (rc & 0xff))
        extended = rc;
    switch (extended & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        code = ERR_CORRUPT;
        break;
    case SQLITE_FULL:
        code = ERR_NO_SPACE;
        break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        code = ERR_LOCKED;
        break;
    case SQLITE_IOERR:
        code = extended == SQLITE_IOERR_DATA ? ERR_CORRUPT : ERR_IO;
        break;
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_READONLY:
        code = ERR_IO;
        break;
    default:
        code = ERR_INTERNAL;
    }
    if (extended == SQLITE_IOERR_DATA)
        return err_field(err, code, NULL, "stop the master and restore the store from a backup",
                         "%s: a page of the database has a wrong checksum", doing);
    int os = db ? sqlite3_system_errno(db) : 0;
    bool tell = os && (code == ERR_IO || code == ERR_NO_SPACE);
    return err_set(err, code, "%s: %s (%d)%s%s", doing, db ? sqlite3_errmsg(db) : sqlite3_errstr(rc), extended,
                   tell ? ": " : "", tell ? strerror(os) : "");
}

int store_db_exec(sqlite3 *db, const char *sql, struct err *err)
{
    while (*sql) {
        sqlite3_stmt *stmt = NULL;
        const char *rest;
        int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, &rest);
        if (rc == SQLITE_OK && stmt)
            do
                rc = sqlite3_step(stmt);
            while (rc == SQLITE_ROW);
        if (rc != SQLITE_OK && rc != SQLITE_DONE) {
            int result = store_db_error(db, rc, err, sql);
            sqlite3_finalize(stmt);
            return result;
        }
        sqlite3_finalize(stmt);
        sql = rest;
    }
    return 0;
}

int store_db_number(sqlite3 *db, const char *sql, int64_t *out, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    int result = 0;
    if (rc == SQLITE_ROW)
        *out = sqlite3_column_int64(stmt, 0);
    else if (rc == SQLITE_DONE)
        result = err_set(err, ERR_CORRUPT, "a row of the store is missing: %s", sql);
    else
        result = store_db_error(db, rc, err, sql);
    sqlite3_finalize(stmt);
    return result;
}

/* A path inside file:... where ? # and % mean something. */
static void uri_path(struct buf *out, const char *path)
{
    buf_str(out, "file:");
    for (; *path; path++)
        if (strchr("?#%", *path))
            buf_printf(out, "%%%02x", (unsigned)(unsigned char)*path);
        else
            buf_char(out, *path);
}

static int configure(sqlite3 *db, enum store_db_role role, struct err *err)
{
    sqlite3_extended_result_codes(db, 1);
    sqlite3_busy_timeout(db, STORE_BUSY_MS);
    sqlite3_wal_autocheckpoint(db, 0);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    /* The writer checkpoints by hand before it closes. */
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, role != DB_MAKER, NULL);
    int rc = store_db_exec(db, "PRAGMA mmap_size=0; PRAGMA cell_size_check=ON; PRAGMA temp_store=MEMORY", err);
    if (rc < 0)
        return rc;
    if (role == DB_WRITER)
        return store_db_exec(db, WRITER_CACHE "; PRAGMA synchronous=FULL", err);
    if (role == DB_MAKER)
        return store_db_exec(db, "PRAGMA synchronous=OFF", err);
    return store_db_exec(db, READER_CACHE "; PRAGMA query_only=ON", err);
}

int store_db_open(sqlite3 **out, const char *path, enum store_db_role role, struct err *err)
{
    store_vfs_register();
    autobuf struct buf uri = BUF_INIT;
    uri_path(&uri, path);
    if (role == DB_READER_FROZEN)
        buf_str(&uri, "?immutable=1");
    else if (role == DB_READER_CRASHED)
        buf_str(&uri, "?readonly_shm=1");
    int access = role == DB_WRITER || role == DB_MAKER ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY;
    sqlite3 *db = NULL;
    int rc = sqlite3_open_v2(uri.data, &db, access | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, STORE_VFS_NAME);
    int result = rc == SQLITE_OK ? configure(db, role, err) : store_db_error(db, rc, err, "open the database");
    if (result < 0) {
        sqlite3_close(db);
        return result;
    }
    *out = db;
    return 0;
}

void store_db_close(sqlite3 *db, bool checkpoint)
{
    if (!db)
        return;
    if (checkpoint)
        sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
    check(sqlite3_close(db) == SQLITE_OK); /* Everything prepared on it has been finalized. */
}

int store_db_prepare(sqlite3 *db, const char *const *sql, sqlite3_stmt **out, size_t count, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        int rc = sqlite3_prepare_v3(db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &out[i], NULL);
        if (rc != SQLITE_OK) {
            int result = store_db_error(db, rc, err, sql[i]);
            store_db_finalize(out, i);
            return result;
        }
    }
    return 0;
}

void store_db_finalize(sqlite3_stmt **stmts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        sqlite3_finalize(stmts[i]);
        stmts[i] = NULL;
    }
}

struct bytes store_db_blob(sqlite3_stmt *stmt, int column)
{
    const void *data = sqlite3_column_blob(stmt, column);
    return bytes_of(data, data ? (size_t)sqlite3_column_bytes(stmt, column) : 0);
}

int store_db_bind_blob(sqlite3_stmt *stmt, int index, struct bytes value)
{
    return sqlite3_bind_blob64(stmt, index, value.data, value.size, SQLITE_STATIC);
}

int64_t store_db_task(uint32_t task)
{
    return task >= TASK_ALL ? (int64_t)task - (int64_t)UINT32_MAX - 1 : (int64_t)task;
}

uint32_t store_db_task_back(int64_t task)
{
    return (uint32_t)task; /* -1 and -2 wrap to TASK_SINGLE and TASK_ALL. */
}
