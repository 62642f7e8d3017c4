#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "store/store_sqlite_int.h"
#include "store/store_views.h"

/* Chunks never change, so the last ones read are kept: the records of an attempt, and of its neighbours, are close
 * together. */
#define CACHE_CHUNKS 16

enum reader_sql {
    R_BEGIN,
    R_END,
    R_CHUNKS,
    R_CHUNK_OF,
    R_LAST_SEQ,
    R_JOBS,
    R_SPEC,
    R_KEY,
    R_KEYS,
    R_ATTEMPTS,
    R_TAIL,
    R_EVENTS,
    R_COUNT
};

static const char *const reader_sql[R_COUNT] = {
    [R_BEGIN] = "BEGIN",
    [R_END] = "COMMIT",
    [R_CHUNKS] = "SELECT first_seq, count, sum, body FROM journal WHERE first_seq>="
                 "ifnull((SELECT max(first_seq) FROM journal WHERE first_seq<=?1), 0) ORDER BY first_seq",
    [R_CHUNK_OF] = "SELECT first_seq, count, sum, body FROM journal WHERE first_seq<=? ORDER BY first_seq DESC LIMIT 1",
    [R_LAST_SEQ] = "SELECT last_seq FROM leader",
    [R_JOBS] = "SELECT id, seq, sum, owner, idem_key, key_digest, spec FROM job WHERE id>=? ORDER BY id",
    [R_SPEC] = "SELECT id, seq, sum, owner, idem_key, key_digest, spec FROM job WHERE id=?",
    [R_KEY] = "SELECT id, seq, sum, owner, idem_key, key_digest, spec FROM job WHERE owner=?1 AND idem_key=?2"
              " AND idem_key IS NOT NULL",
    [R_KEYS] = "SELECT 1 FROM job WHERE owner=?1 AND idem_key>=?2 AND idem_key<?3 LIMIT 1",
    /* Of job ?1 from (task ?2, attempt ?3) on, up to task ?4. */
    [R_ATTEMPTS] =
        "SELECT task, n, assigned, started, ended FROM attempt WHERE job=?1 AND (task, n)>=(?2, ?3) AND task<=?4"
        " AND n>0 ORDER BY task, n LIMIT ?5",
    [R_TAIL] = "SELECT * FROM tail WHERE seq="
               "(SELECT ended FROM attempt WHERE job=?1 AND task=?2 AND n=?3)",
    /* Numbers that lie in chunks with records of job ?1, from ?2 on. */
    [R_EVENTS] = "SELECT * FROM (SELECT seq FROM job WHERE id=?1"
                 " UNION ALL SELECT assigned FROM attempt WHERE job=?1 AND task=-1"
                 " UNION ALL SELECT started FROM attempt WHERE job=?1 AND task=-1"
                 " UNION ALL SELECT ended FROM attempt WHERE job=?1 AND task=-1"
                 " UNION ALL SELECT first_seq FROM mark WHERE job=?1 AND first_seq>=?2)"
                 " WHERE seq>=?2 AND seq>0 ORDER BY 1",
};

struct cached_chunk {
    uint64_t first_seq, count; /* count 0: empty */
    uint64_t used;             /* the least used one is replaced */
    struct buf body;
    uint32_t *offsets;         /* of each record in body */
    size_t offsets_cap;
};

struct store_reader {
    sqlite3 *db;
    sqlite3_stmt *sql[R_COUNT];
    struct cached_chunk cache[CACHE_CHUNKS];
    uint64_t uses;
    unsigned held;
};

struct store_reader *store_reader_new(sqlite3 *db, struct err *err)
{
    struct store_reader *r = mem_zero(1, sizeof *r);
    r->db = db;
    if (store_db_prepare(db, reader_sql, r->sql, R_COUNT, err) == 0)
        return r;
    store_db_close(db, false);
    free(r);
    return NULL;
}

void store_reader_free(struct store_reader *r)
{
    if (!r)
        return;
    store_db_finalize(r->sql, R_COUNT);
    store_db_close(r->db, false);
    for (size_t i = 0; i < CACHE_CHUNKS; i++) {
        buf_fini(&r->cache[i].body);
        free(r->cache[i].offsets);
    }
    free(r);
}

/* Steps once: 1 a row, 0 none, or the error. */
static int next(struct store_reader *r, enum reader_sql which, struct err *err, const char *doing)
{
    int rc = sqlite3_step(r->sql[which]);
    if (rc == SQLITE_ROW)
        return 1;
    return rc == SQLITE_DONE ? 0 : store_db_error(r->db, rc, err, doing);
}

static void done(struct store_reader *r, enum reader_sql which)
{
    sqlite3_reset(r->sql[which]);
    sqlite3_clear_bindings(r->sql[which]);
}

int store_reader_hold(struct store_reader *r, struct err *err)
{
    if (r->held++)
        return 0;
    int rc = next(r, R_BEGIN, err, "begin to read");
    done(r, R_BEGIN);
    if (rc < 0)
        r->held--;
    return rc;
}

void store_reader_release(struct store_reader *r)
{
    check(r->held > 0);
    if (--r->held)
        return;
    next(r, R_END, NULL, "end reading");
    done(r, R_END);
}

/* --- the journal --- */

static struct store_chunk chunk_row(sqlite3_stmt *stmt)
{
    return (struct store_chunk){
        .first_seq = (uint64_t)sqlite3_column_int64(stmt, 0), .count = (uint64_t)sqlite3_column_int64(stmt, 1),
        .sum = (uint64_t)sqlite3_column_int64(stmt, 2), .body = store_db_blob(stmt, 3),
    };
}

struct replay {
    struct store_reader *reader;
    uint64_t expected;  /* number of the next record; 0 before the first chunk */
    uint64_t left;      /* records still wanted */
    bool jobs;          /* check the rows of the jobs on the way */
    uint64_t job_at;    /* the row of R_JOBS that is current; 0: none */
    int (*each)(void *arg, const struct record *r, struct err *err);
    void *arg;
};

static int check_job_row(sqlite3_stmt *stmt, struct err *err)
{
    job_id job = { (uint64_t)sqlite3_column_int64(stmt, 0) };
    uint64_t seq = (uint64_t)sqlite3_column_int64(stmt, 1);
    uint64_t sum = store_job_sum(job, seq, store_db_blob(stmt, 3), store_db_blob(stmt, 4), store_db_blob(stmt, 5),
                                 store_db_blob(stmt, 6));
    if (sum != (uint64_t)sqlite3_column_int64(stmt, 2))
        return err_field(err, ERR_CORRUPT, NULL, "restore the store from a backup",
                         "the checksum of the specification of job %" PRIu64 " is wrong", job.n);
    return 0;
}

/* Jobs are submitted in the order of their ids, so the rows are walked beside the journal. */
static int check_job(struct replay *p, const struct record *rec, struct err *err)
{
    sqlite3_stmt *stmt = p->reader->sql[R_JOBS];
    uint64_t job = rec->submitted.job;
    int row = 0;
    if (p->job_at && (row = next(p->reader, R_JOBS, err, "read the jobs")) < 0)
        return row;
    if (!row || (uint64_t)sqlite3_column_int64(stmt, 0) != job) {
        done(p->reader, R_JOBS);
        sqlite3_bind_int64(stmt, 1, (int64_t)job);
        if ((row = next(p->reader, R_JOBS, err, "read the jobs")) < 0)
            return row;
    }
    if (!row || (uint64_t)sqlite3_column_int64(stmt, 0) != job || (uint64_t)sqlite3_column_int64(stmt, 1) != rec->seq)
        return err_set(err, ERR_CORRUPT, "job %" PRIu64 " of record %" PRIu64 " is missing", job, rec->seq);
    p->job_at = job;
    return check_job_row(stmt, err);
}

static int replay_record(void *arg, const struct record *rec, struct err *err)
{
    struct replay *p = arg;
    if (!p->left)
        return 0;
    p->left--;
    if (rec->kind == EV_SUBMITTED && p->jobs) {
        int rc = check_job(p, rec, err);
        if (rc < 0)
            return rc;
    }
    return p->each ? p->each(p->arg, rec, err) : 0;
}

static int replay_chunks(struct replay *p, uint64_t from_seq, struct err *err)
{
    int row;
    sqlite3_bind_int64(p->reader->sql[R_CHUNKS], 1, (int64_t)from_seq);
    while (p->left && (row = next(p->reader, R_CHUNKS, err, "read the journal")) != 0) {
        if (row < 0)
            return row;
        struct store_chunk c = chunk_row(p->reader->sql[R_CHUNKS]);
        bool first = !p->expected;
        if (c.first_seq > from_seq && c.first_seq != (first ? from_seq : p->expected))
            return err_set(err, ERR_CORRUPT, "records %" PRIu64 " to %" PRIu64 " are missing",
                           first ? from_seq : p->expected, c.first_seq - 1);
        if ((row = store_chunk_walk(&c, from_seq, replay_record, p, err)) < 0)
            return row;
        p->expected = c.first_seq + c.count;
    }
    return 0;
}

/* Nothing may be missing at the end either. */
static int check_end(struct replay *p, struct err *err)
{
    int row = next(p->reader, R_LAST_SEQ, err, "read the leader");
    uint64_t last = row > 0 ? (uint64_t)sqlite3_column_int64(p->reader->sql[R_LAST_SEQ], 0) : 0;
    done(p->reader, R_LAST_SEQ);
    if (row < 0)
        return row;
    uint64_t seen = p->expected ? p->expected - 1 : 0;
    return seen == last ? 0
                        : err_set(err, ERR_CORRUPT, "the journal ends at record %" PRIu64 ", %" PRIu64
                                  " was the last one written", seen, last);
}

int store_reader_replay(struct store_reader *r, uint64_t from_seq, uint64_t max,
                        int (*each)(void *arg, const struct record *r, struct err *err), void *arg, struct err *err)
{
    struct replay p = { .reader = r, .left = max ? max : UINT64_MAX, .each = each, .arg = arg };
    if (from_seq == 0)
        from_seq = 1;
    if (from_seq > INT64_MAX)
        return 0;
    p.jobs = from_seq == 1;
    int rc = store_reader_hold(r, err);
    if (rc < 0)
        return rc;
    rc = replay_chunks(&p, from_seq, err);
    if (rc == 0 && p.left)
        rc = check_end(&p, err);
    done(r, R_CHUNKS);
    done(r, R_JOBS);
    store_reader_release(r);
    return rc;
}

/* The chunk with record `seq`, checked, in the cache. */
static int cached(struct store_reader *r, uint64_t seq, struct cached_chunk **out, struct err *err)
{
    struct cached_chunk *slot = &r->cache[0];
    for (size_t i = 0; i < CACHE_CHUNKS; i++) {
        struct cached_chunk *c = &r->cache[i];
        if (seq >= c->first_seq && seq - c->first_seq < c->count) {
            c->used = ++r->uses;
            *out = c;
            return 0;
        }
        if (c->used < slot->used)
            slot = c;
    }
    sqlite3_bind_int64(r->sql[R_CHUNK_OF], 1, (int64_t)seq);
    int rc = next(r, R_CHUNK_OF, err, "read the journal");
    if (rc > 0) {
        struct store_chunk c = chunk_row(r->sql[R_CHUNK_OF]);
        rc = store_chunk_walk(&c, UINT64_MAX, NULL, NULL, err);
        if (rc == 0 && seq - c.first_seq >= c.count)
            rc = err_set(err, ERR_CORRUPT, "record %" PRIu64 " is missing", seq);
        if (rc == 0) {
            buf_clear(&slot->body);
            buf_add(&slot->body, c.body.data, c.body.size);
            slot->first_seq = c.first_seq;
            slot->count = c.count;
            slot->used = ++r->uses;
            slot->offsets = mem_grow(slot->offsets, &slot->offsets_cap, c.count, sizeof *slot->offsets);
            const uint8_t *start = (const uint8_t *)slot->body.data, *at = start;
            for (uint64_t i = 0; i < c.count; i++) {
                uint64_t size = 0;
                slot->offsets[i] = (uint32_t)(at - start);
                check(varint_read(&at, start + slot->body.size, &size));
                at += size;
            }
            *out = slot;
        }
    } else if (rc == 0) {
        rc = err_set(err, ERR_CORRUPT, "record %" PRIu64 " is missing", seq);
    }
    done(r, R_CHUNK_OF);
    return rc;
}

static int cached_record(const struct cached_chunk *c, uint64_t seq, struct record *out, struct err *err)
{
    const uint8_t *start = (const uint8_t *)c->body.data, *at = start + c->offsets[seq - c->first_seq];
    return record_decode(&at, start + c->body.size, out, err);
}

/* --- jobs --- */

int store_reader_spec(struct store_reader *r, job_id job, struct buf *out, struct err *err)
{
    sqlite3_stmt *stmt = r->sql[R_SPEC];
    sqlite3_bind_int64(stmt, 1, (int64_t)job.n);
    int rc = next(r, R_SPEC, err, "read the specification");
    if (rc == 0 || (rc > 0 && sqlite3_column_type(stmt, 6) == SQLITE_NULL))
        rc = err_set(err, ERR_NOT_FOUND, "there is no job %" PRIu64, job.n);
    else if (rc > 0 && (rc = check_job_row(stmt, err)) == 0) {
        struct bytes spec = store_db_blob(stmt, 6);
        buf_add(out, spec.data, spec.size);
    }
    done(r, R_SPEC);
    return rc;
}

int store_reader_key(struct store_reader *r, struct bytes owner, struct bytes key, job_id *job, struct buf *digest,
                     struct err *err)
{
    sqlite3_stmt *stmt = r->sql[R_KEY];
    store_db_bind_blob(stmt, 1, bytes_of(owner.data ? owner.data : "", owner.size));
    store_db_bind_blob(stmt, 2, bytes_of(key.data ? key.data : "", key.size));
    int rc = next(r, R_KEY, err, "look up the key");
    if (rc == 0)
        rc = err_set(err, ERR_NOT_FOUND, "the key has not been used");
    else if (rc > 0 && (rc = check_job_row(stmt, err)) == 0) {
        job->n = (uint64_t)sqlite3_column_int64(stmt, 0);
        struct bytes kept = store_db_blob(stmt, 5);
        if (digest)
            buf_add(digest, kept.data, kept.size);
    }
    done(r, R_KEY);
    return rc;
}

int store_reader_key_begins(struct store_reader *r, struct bytes owner, struct bytes beginning, bool *used,
                            struct err *err)
{
    check(beginning.size && (uint8_t)beginning.data[beginning.size - 1] < 255);
    autobuf struct buf end = BUF_INIT;
    buf_add(&end, beginning.data, beginning.size);
    end.data[end.size - 1]++;
    sqlite3_stmt *stmt = r->sql[R_KEYS];
    store_db_bind_blob(stmt, 1, bytes_of(owner.data ? owner.data : "", owner.size));
    store_db_bind_blob(stmt, 2, beginning);
    store_db_bind_blob(stmt, 3, buf_bytes(&end));
    int rc = next(r, R_KEYS, err, "look for keys");
    *used = rc > 0;
    done(r, R_KEYS);
    return rc < 0 ? rc : 0;
}

/* --- attempts --- */

static int wrong_number(struct attempt_ref ref, uint64_t seq, struct err *err)
{
    return err_set(err, ERR_CORRUPT,
                   "record %" PRIu64 " is not of attempt %" PRIu32 " of job %" PRIu64 " as it should be", seq,
                   ref.attempt, ref.job.n);
}

/* Fills in what record `seq` tells; 0 means there is none yet. */
static int tell(struct store_reader *r, uint64_t seq, struct store_attempt *a, struct err *err)
{
    struct cached_chunk *c;
    struct record rec;
    if (seq == 0)
        return 0;
    int rc = cached(r, seq, &c, err);
    if (rc < 0 || (rc = cached_record(c, seq, &rec, err)) < 0)
        return rc;
    struct record_subject s = record_subject(&rec);
    if (!attempt_equal((struct attempt_ref){ s.job, s.task, s.attempt }, a->ref))
        return wrong_number(a->ref, seq, err);
    store_attempt_add(a, &rec);
    return 0;
}

static int attempt_row(struct store_reader *r, job_id job, struct store_attempt *a, struct err *err)
{
    sqlite3_stmt *stmt = r->sql[R_ATTEMPTS];
    *a = (struct store_attempt){
        .ref = { job, store_db_task_back(sqlite3_column_int64(stmt, 0)), (uint32_t)sqlite3_column_int64(stmt, 1) },
    };
    for (int column = 2; column <= 4; column++) {
        int rc = tell(r, (uint64_t)sqlite3_column_int64(stmt, column), a, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int store_reader_attempts(struct store_reader *r, struct attempt_ref from, bool all_tasks, size_t max,
                          void (*each)(void *arg, const struct store_attempt *a), void *arg, struct err *err)
{
    sqlite3_stmt *stmt = r->sql[R_ATTEMPTS];
    int64_t task = store_db_task(from.task);
    sqlite3_bind_int64(stmt, 1, (int64_t)from.job.n);
    sqlite3_bind_int64(stmt, 2, task);
    sqlite3_bind_int64(stmt, 3, from.attempt);
    sqlite3_bind_int64(stmt, 4, all_tasks ? INT64_MAX : task);
    sqlite3_bind_int64(stmt, 5, max > INT64_MAX ? INT64_MAX : (int64_t)max);
    int rc;
    while ((rc = next(r, R_ATTEMPTS, err, "read the attempts")) > 0) {
        struct store_attempt a;
        if ((rc = attempt_row(r, from.job, &a, err)) < 0)
            break;
        each(arg, &a);
    }
    done(r, R_ATTEMPTS);
    return rc;
}

struct bytes store_tail_usage(sqlite3_stmt *stmt)
{
    return sqlite3_column_count(stmt) > 4 ? store_db_blob(stmt, 4) : bytes_of(NULL, 0);
}

/* 1: the row is there and sound, to be ended by done(); 0: there is none. */
static int tail_row(struct store_reader *r, struct attempt_ref ref, struct err *err)
{
    sqlite3_stmt *stmt = r->sql[R_TAIL];
    sqlite3_bind_int64(stmt, 1, (int64_t)ref.job.n);
    sqlite3_bind_int64(stmt, 2, store_db_task(ref.task));
    sqlite3_bind_int64(stmt, 3, ref.attempt);
    int rc = next(r, R_TAIL, err, "read the output");
    if (rc <= 0)
        return rc;
    uint64_t sum = store_tail_sum((uint64_t)sqlite3_column_int64(stmt, 0), store_db_blob(stmt, 2),
                                  store_db_blob(stmt, 3), store_tail_usage(stmt));
    if (sum != (uint64_t)sqlite3_column_int64(stmt, 1))
        return err_set(err, ERR_CORRUPT, "the checksum of the output of job %" PRIu64 " is wrong", ref.job.n);
    return 1;
}

int store_reader_tails(struct store_reader *r, struct attempt_ref ref, struct buf *stdout_tail, struct buf *stderr_tail,
                       struct err *err)
{
    int rc = tail_row(r, ref, err);
    struct bytes out = { 0 }, errs = { 0 };
    if (rc > 0)
        out = store_db_blob(r->sql[R_TAIL], 2), errs = store_db_blob(r->sql[R_TAIL], 3);
    if (rc >= 0 && out.size + errs.size == 0)
        rc = err_set(err, ERR_NOT_FOUND, "no output is kept of attempt %" PRIu32 " of job %" PRIu64, ref.attempt,
                     ref.job.n);
    if (rc > 0) {
        buf_add(stdout_tail, out.data, out.size), buf_add(stderr_tail, errs.data, errs.size);
        rc = 0;
    }
    done(r, R_TAIL);
    return rc;
}

int store_reader_usage(struct store_reader *r, struct attempt_ref ref, struct buf *out, struct err *err)
{
    int rc = tail_row(r, ref, err);
    struct bytes usage = { 0 };
    if (rc > 0)
        usage = store_tail_usage(r->sql[R_TAIL]);
    if (rc >= 0 && usage.size == 0)
        rc = err_set(err, ERR_NOT_FOUND, "no samples are kept of attempt %" PRIu32 " of job %" PRIu64, ref.attempt,
                     ref.job.n);
    if (rc > 0) {
        buf_add(out, usage.data, usage.size);
        rc = 0;
    }
    done(r, R_TAIL);
    return rc;
}

/* --- events of a job --- */

struct job_walk {
    job_id job;
    uint64_t from_seq;
    size_t left;
    void (*each)(void *arg, const struct record *r);
    void *arg;
};

static int walk_chunk(struct job_walk *walk, const struct cached_chunk *c, struct err *err)
{
    uint64_t seq = c->first_seq > walk->from_seq ? c->first_seq : walk->from_seq;
    for (; seq < c->first_seq + c->count && walk->left; seq++) {
        struct record rec;
        int rc = cached_record(c, seq, &rec, err);
        if (rc < 0)
            return rc;
        if (record_subject(&rec).job.n != walk->job.n)
            continue;
        walk->left--;
        walk->each(walk->arg, &rec);
    }
    return 0;
}

static int walk_job(struct store_reader *r, struct job_walk *walk, struct err *err)
{
    struct cached_chunk *c;
    uint64_t low = 0;
    if (walk->from_seq > 1) { /* A mark is the number of the first record of its chunk. */
        int64_t last = 0;
        int rc = store_db_number(r->db, "SELECT last_seq FROM leader", &last, err);
        if (rc < 0 || walk->from_seq > (uint64_t)last || (rc = cached(r, walk->from_seq, &c, err)) < 0)
            return rc;
        low = c->first_seq;
    }
    sqlite3_bind_int64(r->sql[R_EVENTS], 1, (int64_t)walk->job.n);
    sqlite3_bind_int64(r->sql[R_EVENTS], 2, (int64_t)low);
    uint64_t walked = 0; /* records before this one are done with */
    int rc;
    while (walk->left && (rc = next(r, R_EVENTS, err, "read the events")) != 0) {
        if (rc < 0)
            return rc;
        uint64_t seq = (uint64_t)sqlite3_column_int64(r->sql[R_EVENTS], 0);
        if (seq < walked)
            continue;
        if ((rc = cached(r, seq, &c, err)) < 0)
            return rc;
        walked = c->first_seq + c->count;
        if ((rc = walk_chunk(walk, c, err)) < 0)
            return rc;
    }
    return 0;
}

int store_reader_job_events(struct store_reader *r, job_id job, uint64_t from_seq, size_t max,
                            void (*each)(void *arg, const struct record *r), void *arg, struct err *err)
{
    struct job_walk walk = { job, from_seq, max, each, arg };
    int rc = store_reader_hold(r, err);
    if (rc < 0)
        return rc;
    rc = walk_job(r, &walk, err);
    done(r, R_EVENTS);
    store_reader_release(r);
    return rc;
}
