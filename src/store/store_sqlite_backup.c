#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "store/store_sqlite_int.h"
#include "store/store_views.h"

/* --- checking --- */

/* What the views must hold if they follow from the journal: counted beside the replay. */
struct verify {
    struct store_counts *counts;
    uint64_t opened, closed, terminals;
    int (*each)(void *arg, const struct record *r, struct err *err);
    void *arg;
};

static int v_submitted(void *arg, job_id job, uint64_t seq, struct err *err)
{
    struct verify *v = arg;
    (void)job, (void)seq, (void)err;
    v->counts->jobs++;
    return 0;
}

static int v_assigned(void *arg, struct attempt_ref ref, uint64_t seq, struct err *err)
{
    struct verify *v = arg;
    (void)ref, (void)seq, (void)err;
    v->opened++;
    return 0;
}

static int v_started(void *arg, struct attempt_ref ref, uint64_t seq, bool *kept, struct err *err)
{
    (void)arg, (void)ref, (void)seq, (void)kept, (void)err;
    return 0;
}

static void count_end(struct verify *v, uint32_t task, uint32_t state)
{
    v->terminals++;
    if (task == TASK_SINGLE && state < JOB_STATES)
        v->counts->ended[state]++;
}

static int v_ended(void *arg, struct attempt_ref ref, uint64_t seq, uint32_t final, struct err *err)
{
    struct verify *v = arg;
    (void)seq, (void)err;
    v->closed++;
    if (final)
        count_end(v, ref.task, final);
    return 0;
}

static int v_terminal(void *arg, job_id job, uint32_t task, uint32_t state, uint64_t seq, struct err *err)
{
    (void)job, (void)seq, (void)err;
    count_end(arg, task, state);
    return 0;
}

static int v_mark(void *arg, job_id job, struct err *err)
{
    (void)arg, (void)job, (void)err;
    return 0;
}

static int v_record(void *arg, const struct record *r, struct err *err)
{
    static const struct store_view_ops ops = { v_submitted, v_assigned, v_started, v_ended, v_terminal, v_mark };
    struct verify *v = arg;
    v->counts->records++;
    store_views_apply(&ops, v, r, err);
    return v->each ? v->each(v->arg, r, err) : 0;
}

static int check_count(sqlite3 *db, const char *sql, const char *what, uint64_t expected, uint64_t *out,
                       struct err *err)
{
    int64_t rows = 0;
    int rc = store_db_number(db, sql, &rows, err);
    if (rc < 0)
        return rc;
    if (out)
        *out = (uint64_t)rows;
    if ((uint64_t)rows == expected)
        return 0;
    return err_set(err, ERR_CORRUPT, "there are %" PRId64 " %s, by the journal there must be %" PRIu64, rows, what,
                   expected);
}

static int check_views(sqlite3 *db, const struct verify *v, struct err *err)
{
    struct store_counts *c = v->counts;
    int64_t rows = 0;
    int rc;
    if ((rc = check_count(db, "SELECT count(*) FROM job", "jobs", c->jobs, NULL, err)) < 0 ||
        (rc = check_count(db, "SELECT count(*) FROM attempt WHERE ended=0", "open attempts", v->opened - v->closed,
                          &c->open_attempts, err)) < 0 ||
        (rc = check_count(db, "SELECT count(*) FROM attempt WHERE ended<>0 AND n<>0", "ended attempts", v->closed,
                          &c->attempts, err)) < 0 ||
        (rc = check_count(db, "SELECT count(*) FROM attempt WHERE final<>0", "terminal states", v->terminals, NULL,
                          err)) < 0)
        return rc;
    if ((rc = store_db_number(db, "SELECT count(*) FROM tail", &rows, err)) < 0)
        return rc;
    c->tails = (uint64_t)rows;
    if ((rc = store_db_number(db, "SELECT count(*) FROM journal", &rows, err)) < 0)
        return rc;
    c->chunks = (uint64_t)rows;
    return 0;
}

static int check_tails(sqlite3 *db, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(db, "SELECT * FROM tail", -1, &stmt, NULL);
    int result = 0;
    while (rc == SQLITE_OK && result == 0 && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        rc = SQLITE_OK;
        uint64_t seq = (uint64_t)sqlite3_column_int64(stmt, 0);
        if (store_tail_sum(seq, store_db_blob(stmt, 2), store_db_blob(stmt, 3), store_tail_usage(stmt)) !=
            (uint64_t)sqlite3_column_int64(stmt, 1))
            result = err_set(err, ERR_CORRUPT, "the checksum of the output of record %" PRIu64 " is wrong", seq);
    }
    if (result == 0 && rc != SQLITE_OK && rc != SQLITE_DONE)
        result = store_db_error(db, rc, err, "read the outputs");
    sqlite3_finalize(stmt);
    return result;
}

int store_sqlite_verify(sqlite3 *db, struct store_reader *r, enum store_structure structure, struct store_meta *meta,
                        struct store_counts *counts,
                        int (*each)(void *arg, const struct record *r, struct err *err), void *arg, struct err *err)
{
    struct verify v = { .counts = counts, .each = each, .arg = arg };
    *counts = (struct store_counts){ 0 };
    int rc = store_reader_hold(r, err); /* One state of the store, whatever is written meanwhile. */
    if (rc < 0)
        return rc;
    if ((rc = store_schema_check(db, structure, meta, err)) == 0 &&
        (rc = store_reader_replay(r, 1, 0, v_record, &v, err)) == 0 && (rc = check_views(db, &v, err)) == 0)
        rc = check_tails(db, err);
    store_reader_release(r);
    return rc;
}

/* --- backup --- */

static int copy(const char *source_path, sqlite3 *to, struct err *err)
{
    sqlite3 *from = NULL;
    int rc = store_db_open(&from, source_path, DB_READER, err);
    if (rc < 0)
        return rc;
    sqlite3_backup *backup = sqlite3_backup_init(to, "main", from, "main");
    if (!backup) {
        rc = store_db_error(to, sqlite3_errcode(to), err, "begin the backup");
    } else {
        /* All at once: the copy is of one state, and a step that is not the last would start over after each commit. */
        sqlite3_backup_step(backup, -1);
        int result = sqlite3_backup_finish(backup);
        rc = result == SQLITE_OK ? 0 : store_db_error(to, result, err, "copy the store");
    }
    store_db_close(from, false);
    return rc;
}

static int make_copy(const char *source_path, const char *path, struct err *err)
{
    sqlite3 *to = NULL;
    int rc = store_db_open(&to, path, DB_MAKER, err);
    if (rc < 0)
        return rc;
    rc = copy(source_path, to, err);
    /* Without a log the copy is one file, and reading it needs no other. Opening it as a store turns the log on. */
    if (rc == 0)
        rc = store_db_exec(to, "PRAGMA journal_mode=DELETE", err);
    store_db_close(to, false);
    return rc;
}

static int verify_copy(const char *path, struct err *err)
{
    sqlite3 *db = NULL;
    struct store_meta meta;
    struct store_counts counts;
    int rc = store_db_open(&db, path, DB_READER_FROZEN, err);
    if (rc < 0)
        return rc;
    struct store_reader *r = store_reader_new(db, err);
    if (!r)
        return -(int)err->code;
    rc = store_sqlite_verify(db, r, STRUCTURE_ALL, &meta, &counts, NULL, NULL, err);
    store_reader_free(r);
    return rc < 0 ? err_wrap(err, "check the backup") : 0;
}

static int put_in_place(int fd, const char *temporary, const char *path, struct err *err)
{
    if (fsync(fd) < 0)
        return err_errno(err, "sync %s", temporary);
    if (rename(temporary, path) < 0)
        return err_errno(err, "rename %s to %s", temporary, path);
    autofree char *name = mem_str(path);
    autoclose int dir = open(dirname(name), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir >= 0 && fsync(dir) == 0 ? 0 : err_errno(err, "sync the directory of %s", path);
}

int store_sqlite_backup(const char *source_path, const char *path, struct err *err)
{
    autobuf struct buf temporary = BUF_INIT, journal = BUF_INIT;
    buf_printf(&temporary, "%s.part", path);
    buf_printf(&journal, "%s.part-journal", path);
    unlink(temporary.data);
    autoclose int fd = open(temporary.data, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_errno(err, "make %s", temporary.data);
    int rc = make_copy(source_path, temporary.data, err);
    if (rc == 0 && (rc = verify_copy(temporary.data, err)) == 0)
        rc = put_in_place(fd, temporary.data, path, err);
    if (rc < 0) {
        unlink(temporary.data);
        unlink(journal.data);
    }
    return rc;
}
