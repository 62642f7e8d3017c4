#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "store/store_map.h"
#include "store/store_sqlite_int.h"
#include "store/store_views.h"

/* Often enough to bound the log and the time of a recovery, seldom enough that pages written again and again (the right
 * edges of the tables) are moved once. */
uint64_t store_checkpoint_frames = 4096;
#define CHECKPOINT_FRAMES_IDLE (store_checkpoint_frames / 16)
/* A log that long has been kept from starting anew by readers: wait for them, for BUSY_RESTART_MS at most. */
#define CHECKPOINT_FRAMES_RESTART (16 * store_checkpoint_frames)
#define BUSY_RESTART_MS 100
#define FRAME_BYTES (STORE_PAGE_BYTES + 24)
/* Written behind the log's end at a time, and how little of it may be left before that is done again. */
#define ROOM_BYTES (2u * 1024 * 1024)
#define ROOM_BYTES_MIN (ROOM_BYTES / 4)

/* Rows of one kind that follow each other are inserted this many at a time: a statement costs more than its row. */
#define GROUP 8
#define ROWS(row) row "," row "," row "," row "," row "," row "," row "," row

enum writer_sql { W_BEGIN, W_COMMIT, W_ROLLBACK, W_GUARD, W_LEAD, W_LAST_SEQ, W_CHUNK, W_JOB, W_JOBS, W_ASSIGNED,
                  W_ASSIGNEDS, W_STARTED, W_ENDED, W_TERMINAL, W_TERMINALS, W_MARK, W_TAIL, W_COUNT };
static const char *const writer_sql[W_COUNT] = {
    [W_BEGIN] = "BEGIN IMMEDIATE",
    [W_COMMIT] = "COMMIT",
    [W_ROLLBACK] = "ROLLBACK",
    [W_GUARD] = "UPDATE leader SET beat=beat+1, last_seq=?2 WHERE epoch=?1",
    [W_LEAD] = "UPDATE leader SET beat=beat+1, last_seq=?2, epoch=?1 WHERE epoch<?1",
    [W_LAST_SEQ] = "SELECT last_seq FROM leader",
    [W_CHUNK] = "INSERT INTO journal VALUES(?, ?, ?, ?)",
    [W_JOB] = "INSERT INTO job VALUES(?, ?, ?, ?, ?, ?, ?)",
    [W_JOBS] = "INSERT INTO job VALUES" ROWS("(?, ?, ?, ?, ?, ?, ?)"),
    [W_ASSIGNED] = "INSERT INTO attempt VALUES(?, ?, ?, ?, 0, 0, 0)",
    [W_ASSIGNEDS] = "INSERT INTO attempt VALUES" ROWS("(?, ?, ?, ?, 0, 0, 0)"),
    [W_STARTED] = "UPDATE attempt SET started=?4 WHERE job=?1 AND task=?2 AND n=?3 AND ended=0 AND started=0",
    [W_ENDED] = "UPDATE attempt SET started=iif(started=0, ?5, started), ended=?4, final=?6"
                " WHERE job=?1 AND task=?2 AND n=?3 AND ended=0",
    [W_TERMINAL] = "INSERT INTO attempt VALUES(?, ?, 0, 0, 0, ?, ?)",
    [W_TERMINALS] = "INSERT INTO attempt VALUES" ROWS("(?, ?, 0, 0, 0, ?, ?)"),
    [W_MARK] = "INSERT OR IGNORE INTO mark VALUES(?, ?)",
    [W_TAIL] = "INSERT INTO tail VALUES(?, ?, ?, ?, ?)",
};

struct store_writer {
    sqlite3 *db;
    sqlite3_stmt *sql[W_COUNT];
    struct store_writer_stats stats;
    uint64_t moved_frames;  /* length of the log at the last checkpoint; 0: it was started anew since */
    uint64_t room_bytes;    /* how long the file of the log is, at least */
    bool broken;            /* an outcome was unknown: nothing is written any more */
    struct err why;         /* of broken */

    /* One batch. */
    const struct store_batch *batch;
    size_t job_next, jobs_used;   /* where the next SUBMITTED is likely to find its job */
    size_t tail_next, tails_used;
    uint64_t chunk_first_seq;
    job_id marked;                /* last job marked in this chunk */
    struct buf body;
    struct store_map start_at;    /* STARTED records of this chunk: (job, task) to index in starts */
    struct start { struct attempt_ref ref; uint64_t seq; bool done; } starts[STORE_CHUNK_RECORDS];
    size_t starts_count;
    struct new_job { job_id job; uint64_t seq; const struct store_job *with; } jobs[GROUP]; /* not yet inserted */
    struct new_attempt { struct attempt_ref ref; uint64_t seq; } opens[GROUP];
    struct new_end { job_id job; uint32_t task, state; uint64_t seq; } ends[GROUP];
    size_t jobs_count, opens_count, ends_count;
};

static int count_frames(void *arg, sqlite3 *db, const char *name, int frames)
{
    (void)db, (void)name;
    struct store_writer *w = arg;
    w->stats.wal_bytes = (uint64_t)frames * FRAME_BYTES;
    if ((uint64_t)frames < w->moved_frames)
        w->moved_frames = 0; /* The log has been started anew. */
    return SQLITE_OK;
}

struct store_writer *store_writer_new(sqlite3 *db, uint64_t epoch, uint64_t last_seq, struct err *err)
{
    struct store_writer *w = mem_zero(1, sizeof *w);
    w->db = db;
    w->stats = (struct store_writer_stats){ .epoch = epoch, .last_seq = last_seq };
    sqlite3_wal_hook(db, count_frames, w);
    if (store_db_prepare(db, writer_sql, w->sql, W_COUNT, err) == 0)
        return w;
    store_db_close(db, false);
    free(w);
    return NULL;
}

void store_writer_free(struct store_writer *w, bool checkpoint)
{
    if (!w)
        return;
    store_db_finalize(w->sql, W_COUNT);
    store_db_close(w->db, checkpoint && !w->broken);
    buf_fini(&w->body);
    store_map_fini(&w->start_at);
    free(w);
}

void store_writer_stats(const struct store_writer *w, struct store_writer_stats *out)
{
    *out = w->stats;
}

/* --- one row at a time --- */

static int run(struct store_writer *w, enum writer_sql which, struct err *err, const char *doing)
{
    int rc = sqlite3_step(w->sql[which]);
    int result = rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : store_db_error(w->db, rc, err, doing);
    sqlite3_reset(w->sql[which]);
    return result;
}

static void bind_attempt(sqlite3_stmt *stmt, int at, struct attempt_ref ref, uint64_t seq)
{
    sqlite3_bind_int64(stmt, at + 1, (int64_t)ref.job.n);
    sqlite3_bind_int64(stmt, at + 2, store_db_task(ref.task));
    sqlite3_bind_int64(stmt, at + 3, ref.attempt);
    sqlite3_bind_int64(stmt, at + 4, (int64_t)seq);
}

uint64_t store_job_sum(job_id job, uint64_t seq, struct bytes owner, struct bytes key, struct bytes digest,
                       struct bytes spec)
{
    struct bytes parts[] = { owner, key, digest, spec };
    return store_sum(job.n * 0x9e3779b97f4a7c15u + seq, parts, 4);
}

uint64_t store_tail_sum(uint64_t seq, struct bytes out, struct bytes errs, struct bytes usage)
{
    struct bytes parts[] = { out, errs, usage };
    return store_sum(seq, parts, usage.size ? 3 : 2); /* as it was when there was no usage */
}

/* What came with the SUBMITTED record: nearly always the next one in the batch. NULL: the record came alone. */
static const struct store_job *job_of(struct store_writer *w, job_id job)
{
    const struct store_batch *b = w->batch;
    for (size_t i = 0; i < b->jobs_count; i++) {
        size_t at = (w->job_next + i) % b->jobs_count;
        if (b->jobs[at].job.n == job.n) {
            w->job_next = at + 1;
            w->jobs_used++;
            return &b->jobs[at];
        }
    }
    return NULL;
}

static void bind_job(sqlite3_stmt *stmt, int row, const struct new_job *n)
{
    static const struct store_job alone;
    const struct store_job *j = n->with ? n->with : &alone;
    struct bytes key = j->key.size ? j->key : (struct bytes){ NULL, 0 };
    int at = 7 * row;
    uint64_t sum = store_job_sum(n->job, n->seq, j->owner, key, j->key_digest, j->spec);
    sqlite3_bind_int64(stmt, at + 1, (int64_t)n->job.n);
    sqlite3_bind_int64(stmt, at + 2, (int64_t)n->seq);
    sqlite3_bind_int64(stmt, at + 3, (int64_t)sum);
    store_db_bind_blob(stmt, at + 4, j->owner);
    store_db_bind_blob(stmt, at + 5, key);
    store_db_bind_blob(stmt, at + 6, j->key_digest);
    store_db_bind_blob(stmt, at + 7, j->spec);
}

static int write_jobs(struct store_writer *w, struct err *err)
{
    size_t rows = w->jobs_count == GROUP ? GROUP : 1;
    enum writer_sql which = rows == GROUP ? W_JOBS : W_JOB;
    for (size_t i = 0; i < w->jobs_count; i += rows) {
        for (size_t row = 0; row < rows; row++)
            bind_job(w->sql[which], (int)row, &w->jobs[i + row]);
        int rc = run(w, which, err, "job");
        if (rc == -(int)ERR_INTERNAL)
            return err_wrap(err, "one of the jobs %" PRIu64 " to %" PRIu64 ", or its key, is there already",
                            w->jobs[i].job.n, w->jobs[i + rows - 1].job.n);
        if (rc < 0)
            return rc;
    }
    w->jobs_count = 0;
    return 0;
}

static int on_submitted(void *arg, job_id job, uint64_t seq, struct err *err)
{
    struct store_writer *w = arg;
    w->jobs[w->jobs_count++] = (struct new_job){ job, seq, job_of(w, job) };
    return w->jobs_count == GROUP ? write_jobs(w, err) : 0;
}

/* Before anything else is done to the attempts: the order of what happens to one must stay. */
static int write_opens(struct store_writer *w, struct err *err)
{
    size_t rows = w->opens_count == GROUP ? GROUP : 1;
    enum writer_sql which = rows == GROUP ? W_ASSIGNEDS : W_ASSIGNED;
    for (size_t i = 0; i < w->opens_count; i += rows) {
        for (size_t row = 0; row < rows; row++)
            bind_attempt(w->sql[which], 4 * (int)row, w->opens[i + row].ref, w->opens[i + row].seq);
        int rc = run(w, which, err, "new attempt");
        if (rc == -(int)ERR_INTERNAL)
            return err_wrap(err,
                            "one of the tasks of jobs %" PRIu64 " to %" PRIu64 " has that or an open attempt already",
                            w->opens[i].ref.job.n, w->opens[i + rows - 1].ref.job.n);
        if (rc < 0)
            return rc;
    }
    w->opens_count = 0;
    return 0;
}

static int on_assigned(void *arg, struct attempt_ref ref, uint64_t seq, struct err *err)
{
    struct store_writer *w = arg;
    w->opens[w->opens_count++] = (struct new_attempt){ ref, seq };
    return w->opens_count == GROUP ? write_opens(w, err) : 0;
}

/* Short tasks start and end in the same chunk: then the start is written with the end, not by itself. */
static int on_started(void *arg, struct attempt_ref ref, uint64_t seq, bool *kept, struct err *err)
{
    struct store_writer *w = arg;
    (void)err;
    struct store_map_key key = { ref.job.n, ref.task };
    uint64_t *at = store_map_get(&w->start_at, key);
    *kept = !at || w->starts[*at].done; /* Else it is the second one of this attempt. */
    if (!*kept)
        return 0;
    if (at)
        *at = w->starts_count;
    else
        store_map_put(&w->start_at, key, w->starts_count);
    w->starts[w->starts_count++] = (struct start){ ref, seq, false };
    return 0;
}

static uint64_t take_start(struct store_writer *w, struct attempt_ref ref)
{
    uint64_t *at = w->starts_count ? store_map_get(&w->start_at, (struct store_map_key){ ref.job.n, ref.task }) : NULL;
    if (!at || !attempt_equal(w->starts[*at].ref, ref))
        return 0;
    w->starts[*at].done = true;
    return w->starts[*at].seq;
}

static int on_mark(void *arg, job_id job, struct err *err)
{
    struct store_writer *w = arg;
    if (w->marked.n == job.n)
        return 0;
    w->marked = job;
    sqlite3_bind_int64(w->sql[W_MARK], 1, (int64_t)job.n);
    sqlite3_bind_int64(w->sql[W_MARK], 2, (int64_t)w->chunk_first_seq);
    return run(w, W_MARK, err, "mark");
}

static int write_starts(struct store_writer *w, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; i < w->starts_count && rc == 0; i++) {
        const struct start *s = &w->starts[i];
        if (s->done)
            continue;
        bind_attempt(w->sql[W_STARTED], 0, s->ref, s->seq);
        rc = run(w, W_STARTED, err, "start of an attempt");
        if (rc == 0 && sqlite3_changes(w->db) != 1)
            rc = on_mark(w, s->ref.job, err);
    }
    if (w->starts_count)
        store_map_clear(&w->start_at);
    w->starts_count = 0;
    return rc;
}

static int keep_tail(struct store_writer *w, struct attempt_ref ref, uint64_t seq, struct err *err)
{
    const struct store_batch *b = w->batch;
    for (size_t i = 0; i < b->tails_count; i++) {
        size_t at = (w->tail_next + i) % b->tails_count;
        const struct store_tail *t = &b->tails[at];
        if (!attempt_equal(t->ref, ref))
            continue;
        w->tail_next = at + 1;
        w->tails_used++;
        sqlite3_stmt *stmt = w->sql[W_TAIL];
        sqlite3_bind_int64(stmt, 1, (int64_t)seq);
        sqlite3_bind_int64(stmt, 2, (int64_t)store_tail_sum(seq, t->stdout_tail, t->stderr_tail, t->usage));
        store_db_bind_blob(stmt, 3, t->stdout_tail);
        store_db_bind_blob(stmt, 4, t->stderr_tail);
        store_db_bind_blob(stmt, 5, t->usage.size ? t->usage : bytes_of(NULL, 0));
        return run(w, W_TAIL, err, "output of an attempt");
    }
    return 0;
}

static int on_ended(void *arg, struct attempt_ref ref, uint64_t seq, uint32_t final, struct err *err)
{
    struct store_writer *w = arg;
    int rc = write_opens(w, err);
    if (rc < 0)
        return rc;
    bind_attempt(w->sql[W_ENDED], 0, ref, seq);
    sqlite3_bind_int64(w->sql[W_ENDED], 5, (int64_t)take_start(w, ref));
    sqlite3_bind_int64(w->sql[W_ENDED], 6, final);
    rc = run(w, W_ENDED, err, "end of an attempt");
    if (rc == 0 && sqlite3_changes(w->db) != 1)
        rc = err_set(err, ERR_INTERNAL, "it is not open");
    if (rc == -(int)ERR_INTERNAL)
        return err_wrap(err, "attempt %" PRIu32 " of job %" PRIu64 " task %" PRId64 " cannot end", ref.attempt,
                        ref.job.n, store_db_task(ref.task));
    return rc == 0 && w->tails_used < w->batch->tails_count ? keep_tail(w, ref, seq, err) : rc;
}

/* Terminal states without an attempt touch no other row, so they may wait until a group is there. */
static int write_ends(struct store_writer *w, struct err *err)
{
    size_t rows = w->ends_count == GROUP ? GROUP : 1;
    enum writer_sql which = rows == GROUP ? W_TERMINALS : W_TERMINAL;
    for (size_t i = 0; i < w->ends_count; i += rows) {
        for (size_t row = 0; row < rows; row++) {
            const struct new_end *e = &w->ends[i + row];
            int at = 4 * (int)row;
            sqlite3_bind_int64(w->sql[which], at + 1, (int64_t)e->job.n);
            sqlite3_bind_int64(w->sql[which], at + 2, store_db_task(e->task));
            sqlite3_bind_int64(w->sql[which], at + 3, (int64_t)e->seq);
            sqlite3_bind_int64(w->sql[which], at + 4, e->state);
        }
        int rc = run(w, which, err, "terminal state");
        if (rc == -(int)ERR_INTERNAL)
            return err_wrap(err, "one of the jobs %" PRIu64 " to %" PRIu64 ", or a task of it, ends twice",
                            w->ends[i].job.n, w->ends[i + rows - 1].job.n);
        if (rc < 0)
            return rc;
    }
    w->ends_count = 0;
    return 0;
}

static int on_terminal(void *arg, job_id job, uint32_t task, uint32_t state, uint64_t seq, struct err *err)
{
    struct store_writer *w = arg;
    w->ends[w->ends_count++] = (struct new_end){ job, task, state, seq };
    return w->ends_count == GROUP ? write_ends(w, err) : 0;
}

static const struct store_view_ops view_ops = { on_submitted, on_assigned, on_started, on_ended, on_terminal, on_mark };

/* --- one batch --- */

/* Only the master whose epoch the store has may write; a new one takes over by its first record. */
static int guard(struct store_writer *w, bool *stale, struct err *err)
{
    const struct store_batch *b = w->batch;
    const struct record *first = &b->records[0];
    uint64_t last_seq = b->records[b->records_count - 1].seq;
    bool leads = first->kind == EV_EPOCH && first->epoch.epoch > w->stats.epoch;
    enum writer_sql which = leads ? W_LEAD : W_GUARD;
    sqlite3_bind_int64(w->sql[which], 1, (int64_t)(leads ? first->epoch.epoch : b->epoch));
    sqlite3_bind_int64(w->sql[which], 2, (int64_t)last_seq);
    int rc = run(w, which, err, "epoch");
    if (rc < 0)
        return rc;
    *stale = sqlite3_changes(w->db) != 1;
    return *stale ? err_set(err, ERR_STALE, "another master leads: the store is not at epoch %" PRIu64, b->epoch) : 0;
}

static int write_chunk(struct store_writer *w, const struct record *records, size_t count, struct err *err)
{
    struct bytes body = buf_bytes(&w->body);
    w->chunk_first_seq = records[0].seq;
    w->marked = (job_id){ 0 };
    sqlite3_stmt *stmt = w->sql[W_CHUNK];
    sqlite3_bind_int64(stmt, 1, (int64_t)w->chunk_first_seq);
    sqlite3_bind_int64(stmt, 2, (int64_t)count);
    sqlite3_bind_int64(stmt, 3, (int64_t)store_chunk_sum(w->chunk_first_seq, count, body));
    store_db_bind_blob(stmt, 4, body);
    int rc = run(w, W_CHUNK, err, "journal");
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = store_views_apply(&view_ops, w, &records[i], err);
    if (rc == 0 && (rc = write_jobs(w, err)) == 0 && (rc = write_opens(w, err)) == 0 &&
        (rc = write_ends(w, err)) == 0)
        rc = write_starts(w, err);
    return rc;
}

static int write_rows(struct store_writer *w, struct err *err)
{
    const struct store_batch *b = w->batch;
    w->job_next = w->jobs_used = w->tail_next = w->tails_used = 0;
    w->jobs_count = w->opens_count = w->ends_count = w->starts_count = 0; /* of a batch that failed */
    store_map_clear(&w->start_at);
    for (size_t i = 0; i < b->records_count; i++)
        if (b->records[i].seq != w->stats.last_seq + 1 + i)
            return err_set(err, ERR_INTERNAL, "record %" PRIu64 " does not follow record %" PRIu64, b->records[i].seq,
                           w->stats.last_seq + i);
    for (size_t done = 0; done < b->records_count;) {
        size_t taken = store_chunk_encode(&w->body, b->records + done, b->records_count - done);
        int rc = write_chunk(w, b->records + done, taken, err);
        if (rc < 0)
            return rc;
        done += taken;
    }
    if (w->jobs_used != b->jobs_count)
        return err_set(err, ERR_INTERNAL, "%zu jobs came without their records", b->jobs_count - w->jobs_used);
    if (w->tails_used != b->tails_count)
        return err_set(err, ERR_INTERNAL, "%zu outputs came without their records", b->tails_count - w->tails_used);
    return 0;
}

/* Believed only when seen: no transaction is open, and the store still ends where it ended. */
static bool rolled_back(struct store_writer *w)
{
    if (!sqlite3_get_autocommit(w->db))
        run(w, W_ROLLBACK, NULL, "roll back");
    if (!sqlite3_get_autocommit(w->db))
        return false;
    bool same = sqlite3_step(w->sql[W_LAST_SEQ]) == SQLITE_ROW &&
                (uint64_t)sqlite3_column_int64(w->sql[W_LAST_SEQ], 0) == w->stats.last_seq;
    sqlite3_reset(w->sql[W_LAST_SEQ]);
    return same;
}

static enum store_outcome unknown(struct store_writer *w, const struct err *err)
{
    w->broken = true;
    w->why = *err;
    w->stats.errors++;
    return STORE_UNKNOWN;
}

/* A full disk is reported before the commit record is written, so then nothing is there. Any other failure of COMMIT
 * leaves it open: a commit whose sync failed was found in the store after a crash (guarantees, section 2.9). */
static enum store_outcome failed(struct store_writer *w, bool stale, struct err *err)
{
    if (stale && rolled_back(w))
        return STORE_STALE;
    if (err->code == ERR_NO_SPACE && rolled_back(w)) {
        w->stats.errors++;
        return STORE_FULL;
    }
    if (!sqlite3_get_autocommit(w->db))
        run(w, W_ROLLBACK, NULL, "roll back");
    return unknown(w, err);
}

enum store_outcome store_writer_append(struct store_writer *w, const struct store_batch *batch, struct err *err)
{
    bool stale = false;
    check(batch->records_count > 0);
    if (w->broken) {
        *err = w->why;
        return STORE_UNKNOWN;
    }
    w->batch = batch;
    int rc = run(w, W_BEGIN, err, "begin");
    if (rc == 0 && (rc = guard(w, &stale, err)) == 0 && (rc = write_rows(w, err)) == 0)
        rc = run(w, W_COMMIT, err, "commit");
    w->batch = NULL;
    if (rc < 0)
        return failed(w, stale, err);
    const struct record *first = &batch->records[0];
    if (first->kind == EV_EPOCH && first->epoch.epoch > w->stats.epoch)
        w->stats.epoch = first->epoch.epoch;
    w->stats.last_seq += batch->records_count;
    return STORE_COMMITTED;
}

/* --- the log --- */

/* How long the file should be to have that much room; never longer than the log gets before it is started anew. */
static uint64_t log_with_room(const struct store_writer *w, uint64_t bytes)
{
    uint64_t most = store_checkpoint_frames * FRAME_BYTES;
    return w->stats.wal_bytes + bytes < most ? w->stats.wal_bytes + bytes : most;
}

bool store_writer_wants_room(const struct store_writer *w)
{
    return !w->broken && w->room_bytes < log_with_room(w, ROOM_BYTES_MIN);
}

void store_writer_make_room(struct store_writer *w)
{
    static const char zeros[65536];
    sqlite3_file *log = NULL;
    sqlite3_int64 size = 0;
    uint64_t until = log_with_room(w, ROOM_BYTES);
    w->room_bytes = until; /* Whatever happens, not at once again. */
    if (sqlite3_file_control(w->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log) != SQLITE_OK || !log ||
        !log->pMethods || log->pMethods->xFileSize(log, &size) != SQLITE_OK || (uint64_t)size >= until)
        return;
    for (uint64_t at = (uint64_t)size; at < until; at += sizeof zeros)
        if (log->pMethods->xWrite(log, zeros, sizeof zeros, (sqlite3_int64)at) != SQLITE_OK)
            return;
    int rc = log->pMethods->xSync(log, SQLITE_SYNC_NORMAL);
    if (rc == SQLITE_OK)
        return;
    struct err err; /* What a failed sync means is said below. */
    store_db_error(w->db, rc, &err, "make room in the log");
    unknown(w, &err);
}

static int move_pages(struct store_writer *w, int mode, struct err *err)
{
    int frames = 0, moved = 0;
    int rc = sqlite3_wal_checkpoint_v2(w->db, "main", mode, &frames, &moved);
    if (rc == SQLITE_OK && frames == moved)
        w->stats.wal_bytes = 0; /* The next commit starts the log anew, if no reader is in it. */
    if (rc == SQLITE_OK || rc == SQLITE_BUSY || rc == SQLITE_LOCKED)
        return 0;
    return store_db_error(w->db, rc, err, "move the log into the database");
}

void store_writer_checkpoint(struct store_writer *w, bool idle)
{
    uint64_t frames = w->stats.wal_bytes / FRAME_BYTES;
    /* Counted from the last checkpoint: while a reader keeps the log from starting anew, not every commit needs
     * another. */
    if (w->broken || frames < w->moved_frames + (idle ? CHECKPOINT_FRAMES_IDLE : store_checkpoint_frames))
        return;
    w->moved_frames = frames;
    struct err err;
    int rc = move_pages(w, SQLITE_CHECKPOINT_PASSIVE, &err);
    if (rc == 0 && frames >= CHECKPOINT_FRAMES_RESTART) {
        sqlite3_busy_timeout(w->db, BUSY_RESTART_MS);
        rc = move_pages(w, SQLITE_CHECKPOINT_RESTART, &err);
        sqlite3_busy_timeout(w->db, STORE_BUSY_MS);
    }
    /* A full disk delays it. After a failed sync, though, nobody knows what of the file reached the disk, and the next
     * sync would not tell: the log must not be started anew, so nothing more is written. */
    if (rc < 0 && err.code != ERR_NO_SPACE)
        unknown(w, &err);
}
