#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/parse.h"
#include "io/clock.h"
#include "io/loop.h"
#include "io/thread.h"
#include "store/store_lock.h"
#include "store/store_snapshot.h"
#include "store/store_sqlite_int.h"

/* The whole structure is checked at start when that is quick. A bigger store is checked where it is read: every page
 * has a checksum (store_vfs.h), the replay that follows reads all of the journal and of the jobs, `rota inspect` and
 * each backup read everything. */
#define STRUCTURE_CHECK_BYTES (64 * 1024 * 1024)
#define OPEN_BYTES (1024 * 1024)
#define ROOM_NS 3000000   /* without work: then there is time to make room in the log, if it is wanted */
#define IDLE_NS 500000000 /* then the log is moved into the file, if it is worth it */
#define ROOM_FREE_BYTES (64 * 1024 * 1024) /* no room is made when less than that is free */

struct store_sqlite {
    struct store base;
    struct loop *loop; /* NULL: append commits on the caller's thread */
    struct store_events events;
    struct store_meta meta;
    struct store_lock *lock;
    struct store_reserve reserve;
    char *dir, *path;
    struct store_writer *writer; /* the writer's thread's own, once that runs */
    struct store_reader *reader;
    bool reads_held;

    struct loop_wake *wake;
    pthread_t thread;
    bool threaded;
    bool opened;   /* else what is there is left as it is */
    bool accept_loss;
    /* Between the threads, under the mutex. */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct store_batch batch;
    enum { STORE_IDLE, STORE_GIVEN, STORE_DONE } state;
    bool quit;
    enum store_outcome outcome, last_outcome;
    struct err err;
    struct store_stats stats;
    struct store_writer_stats writer_stats;
};

static struct store_sqlite *self(const struct store *s)
{
    return (struct store_sqlite *)(uintptr_t)s;
}

/* --- appending --- */

static enum store_outcome commit(struct store_sqlite *s, struct err *err)
{
    int64_t begun_ns = clock_now_ns();
    enum store_outcome outcome = store_writer_append(s->writer, &s->batch, err);
    int64_t took_ns = clock_now_ns() - begun_ns;
    struct store_writer_stats w;
    store_writer_stats(s->writer, &w);
    pthread_mutex_lock(&s->mutex);
    if (outcome == STORE_COMMITTED)
        store_lock_set_seq(s->lock, w.last_seq); /* Before anybody hears of it. */
    if (outcome == STORE_COMMITTED) {
        s->stats.commits++;
        s->stats.records += s->batch.records_count;
    }
    s->stats.commit_ns_last = (uint64_t)took_ns;
    if (s->stats.commit_ns_max < s->stats.commit_ns_last)
        s->stats.commit_ns_max = s->stats.commit_ns_last;
    s->writer_stats = w;
    s->last_outcome = outcome;
    pthread_mutex_unlock(&s->mutex);
    return outcome;
}

static void checkpoint(struct store_sqlite *s, bool idle)
{
    store_writer_checkpoint(s->writer, idle);
    pthread_mutex_lock(&s->mutex);
    store_writer_stats(s->writer, &s->writer_stats);
    pthread_mutex_unlock(&s->mutex);
}

static uint64_t free_bytes(const struct store_sqlite *s)
{
    struct statvfs fs;
    return statvfs(s->dir, &fs) == 0 ? (uint64_t)fs.f_bavail * fs.f_frsize : 0;
}

static void make_room(struct store_sqlite *s)
{
    if (free_bytes(s) > s->reserve.bytes + ROOM_FREE_BYTES)
        store_writer_make_room(s->writer);
}

/* True: nothing was given until then. */
static bool idle_until(struct store_sqlite *s, int64_t ns)
{
    struct timespec until = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
    int rc = 0;
    while (rc != ETIMEDOUT && s->state != STORE_GIVEN && !s->quit)
        rc = pthread_cond_timedwait(&s->changed, &s->mutex, &until);
    return s->state != STORE_GIVEN && !s->quit;
}

static void while_idle(struct store_sqlite *s, int64_t ns, void (*work)(struct store_sqlite *s))
{
    if (!idle_until(s, ns))
        return;
    pthread_mutex_unlock(&s->mutex);
    work(s);
    pthread_mutex_lock(&s->mutex);
}

static void checkpoint_idle(struct store_sqlite *s)
{
    checkpoint(s, true);
}

static void wait_for_work(struct store_sqlite *s)
{
    int64_t begun_ns = clock_now_ns();
    if (store_writer_wants_room(s->writer))
        while_idle(s, begun_ns + ROOM_NS, make_room);
    while_idle(s, begun_ns + IDLE_NS, checkpoint_idle);
    while (s->state != STORE_GIVEN && !s->quit)
        pthread_cond_wait(&s->changed, &s->mutex);
}

static void *writer_thread(void *arg)
{
    struct store_sqlite *s = arg;
    pthread_mutex_lock(&s->mutex);
    for (;;) {
        wait_for_work(s);
        if (s->state != STORE_GIVEN)
            break;
        pthread_mutex_unlock(&s->mutex);
        struct err err = { .code = ERR_OK };
        enum store_outcome outcome = commit(s, &err);
        pthread_mutex_lock(&s->mutex);
        s->outcome = outcome;
        s->err = err;
        s->state = STORE_DONE;
        pthread_cond_broadcast(&s->changed);
        loop_wake(s->wake);
        pthread_mutex_unlock(&s->mutex);
        checkpoint(s, false); /* While the loop acts on the commit. */
        pthread_mutex_lock(&s->mutex);
    }
    pthread_mutex_unlock(&s->mutex);
    return NULL;
}

/* Calls out: the store may be appended to in it, or closed, so it comes last. */
static void tell(struct store_sqlite *s, enum store_outcome outcome, const struct err *err)
{
    struct err copy = *err;
    struct store_events events = s->events;
    events.on_commit(events.arg, outcome, outcome == STORE_COMMITTED ? NULL : &copy);
}

static void woken(void *arg)
{
    struct store_sqlite *s = arg;
    pthread_mutex_lock(&s->mutex);
    bool done = s->state == STORE_DONE;
    enum store_outcome outcome = s->outcome;
    struct err err = s->err;
    if (done)
        s->state = STORE_IDLE;
    pthread_mutex_unlock(&s->mutex);
    if (done)
        tell(s, outcome, &err);
}

static void sqlite_append(struct store *base, const struct store_batch *batch)
{
    struct store_sqlite *s = self(base);
    pthread_mutex_lock(&s->mutex);
    check(s->state == STORE_IDLE);
    s->batch = *batch;
    s->state = STORE_GIVEN;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->mutex);
    if (s->threaded)
        return;
    struct err err = { .code = ERR_OK };
    enum store_outcome outcome = commit(s, &err);
    checkpoint(s, false);
    s->state = STORE_IDLE;
    tell(s, outcome, &err);
}

/* --- reading: on the caller's thread --- */

#define NEVER_NULL(err) struct err unused_##err; if (!err) err = &unused_##err

static void sqlite_meta(const struct store *base, struct store_meta *out)
{
    struct store_sqlite *s = self(base);
    *out = s->meta;
    pthread_mutex_lock(&s->mutex);
    out->epoch = s->writer_stats.epoch;
    out->last_seq = s->writer_stats.last_seq;
    pthread_mutex_unlock(&s->mutex);
}

static int sqlite_replay(struct store *base, uint64_t from_seq, uint64_t max,
                         int (*each)(void *arg, const struct record *r, struct err *err), void *arg, struct err *err)
{
    NEVER_NULL(err);
    return store_reader_replay(self(base)->reader, from_seq, max, each, arg, err);
}

static int sqlite_spec(struct store *base, job_id job, struct buf *out, struct err *err)
{
    NEVER_NULL(err);
    return store_reader_spec(self(base)->reader, job, out, err);
}

static int sqlite_key(struct store *base, struct bytes owner, struct bytes key, job_id *job, struct buf *digest,
                      struct err *err)
{
    NEVER_NULL(err);
    return store_reader_key(self(base)->reader, owner, key, job, digest, err);
}

static void sqlite_hold(struct store *base, bool on)
{
    struct store_sqlite *s = self(base);
    struct err err;
    if (on)
        s->reads_held = store_reader_hold(s->reader, &err) == 0; /* Else each read has the error for itself. */
    else if (s->reads_held)
        store_reader_release(s->reader);
}

static int sqlite_key_begins(struct store *base, struct bytes owner, struct bytes beginning, bool *used,
                             struct err *err)
{
    NEVER_NULL(err);
    return store_reader_key_begins(self(base)->reader, owner, beginning, used, err);
}

static int sqlite_attempts(struct store *base, struct attempt_ref from, size_t max,
                           void (*each)(void *arg, const struct store_attempt *a), void *arg, struct err *err)
{
    NEVER_NULL(err);
    bool all = from.task == TASK_ALL;
    return store_reader_attempts(self(base)->reader, all ? (struct attempt_ref){ from.job, TASK_ALL, 0 } : from, all,
                                 max, each, arg, err);
}

static int sqlite_attempts_page(struct store *base, struct attempt_ref from, size_t max,
                                void (*each)(void *arg, const struct store_attempt *a), void *arg, struct err *err)
{
    NEVER_NULL(err);
    return store_reader_attempts(self(base)->reader, from, true, max, each, arg, err);
}

static int sqlite_tails(struct store *base, struct attempt_ref ref, struct buf *stdout_tail, struct buf *stderr_tail,
                        struct err *err)
{
    NEVER_NULL(err);
    return store_reader_tails(self(base)->reader, ref, stdout_tail, stderr_tail, err);
}

static int sqlite_usage(struct store *base, struct attempt_ref ref, struct buf *out, struct err *err)
{
    NEVER_NULL(err);
    return store_reader_usage(self(base)->reader, ref, out, err);
}

static int sqlite_job_events(struct store *base, job_id job, uint64_t from_seq, size_t max,
                             void (*each)(void *arg, const struct record *r), void *arg, struct err *err)
{
    NEVER_NULL(err);
    return store_reader_job_events(self(base)->reader, job, from_seq, max, each, arg, err);
}

static int sqlite_backup(struct store *base, const char *path, struct err *err)
{
    NEVER_NULL(err);
    return store_sqlite_backup(self(base)->path, path, err);
}

/* --- on any thread: on a connection of its own --- */

static int sqlite_replay_apart(struct store *base, uint64_t from_seq, uint64_t max,
                               int (*each)(void *arg, const struct record *r, struct err *err), void *arg,
                               struct err *err)
{
    NEVER_NULL(err);
    sqlite3 *db = NULL;
    int rc = store_db_open(&db, self(base)->path, DB_READER, err);
    if (rc < 0)
        return rc;
    struct store_reader *r = store_reader_new(db, err);
    if (!r)
        return -(int)err->code;
    rc = store_reader_replay(r, from_seq, max, each, arg, err);
    store_reader_free(r);
    return rc;
}

static int sqlite_snapshot_save(struct store *base, uint64_t seq, store_snapshot_write *write, void *arg,
                                struct err *err)
{
    NEVER_NULL(err);
    struct store_sqlite *s = self(base);
    sqlite3 *db = NULL;
    int rc = store_db_open(&db, s->path, DB_READER, err);
    if (rc < 0)
        return rc;
    rc = store_snapshot_save(db, s->dir, s->meta.cluster, seq, write, arg, err);
    store_db_close(db, false);
    return rc;
}

static int sqlite_snapshot_load(struct store *base, uint64_t *seq,
                                int (*each)(void *arg, struct bytes piece, struct err *err), void *arg, struct err *err)
{
    NEVER_NULL(err);
    struct store_sqlite *s = self(base);
    sqlite3 *db = NULL;
    int rc = store_db_open(&db, s->path, DB_READER, err);
    if (rc < 0)
        return rc;
    rc = store_snapshot_load(db, s->dir, s->meta.cluster, seq, each, arg, err);
    store_db_close(db, false);
    return rc;
}

/* --- room --- */

static bool sqlite_use_reserve(struct store *base)
{
    return store_reserve_use(&self(base)->reserve);
}

static bool sqlite_refill_reserve(struct store *base)
{
    struct store_sqlite *s = self(base);
    return store_reserve_fill(&s->reserve) && free_bytes(s) >= s->reserve.bytes;
}

static void sqlite_note_epoch(struct store *base, uint64_t epoch)
{
    struct store_sqlite *s = self(base);
    pthread_mutex_lock(&s->mutex);
    store_lock_set_epoch(s->lock, epoch);
    pthread_mutex_unlock(&s->mutex);
}

static void sqlite_stats(const struct store *base, struct store_stats *out)
{
    struct store_sqlite *s = self(base);
    struct stat st;
    pthread_mutex_lock(&s->mutex);
    *out = s->stats;
    out->wal_bytes = s->writer_stats.wal_bytes;
    out->errors = s->writer_stats.errors;
    bool full = s->last_outcome == STORE_FULL;
    pthread_mutex_unlock(&s->mutex);
    out->bytes = fstat(store_lock_database_fd(s->lock), &st) == 0 ? (uint64_t)st.st_size : 0;
    out->free_bytes = free_bytes(s);
    out->low = full || (s->reserve.bytes && (!store_reserve_full(&s->reserve) || out->free_bytes < s->reserve.bytes));
}

/* --- opening and closing --- */

static void sqlite_close(struct store *base)
{
    struct store_sqlite *s = self(base);
    if (s->threaded) {
        pthread_mutex_lock(&s->mutex);
        while (s->state == STORE_GIVEN)
            pthread_cond_wait(&s->changed, &s->mutex);
        s->quit = true;
        pthread_cond_broadcast(&s->changed);
        pthread_mutex_unlock(&s->mutex);
        check(pthread_join(s->thread, NULL) == 0);
        s->threaded = false; /* What the callback may append now is committed on this thread. */
    }
    if (s->state == STORE_DONE) {
        s->state = STORE_IDLE;
        tell(s, s->outcome, &s->err);
    }
    if (s->wake)
        loop_wake_remove(s->wake);
    /* The writer last, so that nobody else is there when it empties the log; then the lock. */
    store_reader_free(s->reader);
    store_writer_free(s->writer, s->opened);
    store_lock_free(s->lock);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->mutex);
    free(s->reserve.path);
    free(s->path);
    free(s->dir);
    free(s);
}

static const struct store_ops sqlite_ops = {
    .name = "sqlite",
    .meta = sqlite_meta,
    .replay = sqlite_replay,
    .append = sqlite_append,
    .use_reserve = sqlite_use_reserve,
    .refill_reserve = sqlite_refill_reserve,
    .spec = sqlite_spec,
    .key = sqlite_key,
    .key_begins = sqlite_key_begins,
    .hold = sqlite_hold,
    .attempts = sqlite_attempts,
    .tails = sqlite_tails,
    .usage = sqlite_usage,
    .job_events = sqlite_job_events,
    .backup = sqlite_backup,
    .stats = sqlite_stats,
    .close = sqlite_close,
    .attempts_page = sqlite_attempts_page,
    .replay_apart = sqlite_replay_apart,
    .snapshot_save = sqlite_snapshot_save,
    .snapshot_load = sqlite_snapshot_load,
    .note_epoch = sqlite_note_epoch,
};

/* Descriptors 0 to 2 must not become the database: a stray message would be written into it. */
static int keep_low_fds(struct err *err)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
            return err_errno(err, "open /dev/null as descriptor %d", fd);
    return 0;
}

static int make_dir(const char *dir, struct err *err)
{
    autofree char *path = mem_str(dir);
    for (char *at = path + 1; *at; at++)
        if (*at == '/') {
            *at = 0;
            if (mkdir(path, 0700) < 0 && errno != EEXIST)
                return err_errno(err, "make the directory %s", path);
            *at = '/';
        }
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return err_errno(err, "make the directory %s", path);
    struct stat st;
    if (stat(path, &st) < 0)
        return err_errno(err, "%s", path);
    if (!S_ISDIR(st.st_mode))
        return err_set(err, ERR_INVALID, "%s is no directory", path);
    return 0;
}

static int sync_dir(const char *dir, struct err *err)
{
    autoclose int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 && fsync(fd) == 0 ? 0 : err_errno(err, "sync %s", dir);
}

static bool exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

/* Made under another name and renamed when whole, so that a crash leaves no half store. */
static int make_store(struct store_sqlite *s, struct err *err)
{
    autobuf struct buf path = BUF_INIT;
    buf_printf(&path, "%s-wal", s->path);
    if (store_lock_used(s->lock) || exists(path.data))
        return err_field(err, ERR_CORRUPT, NULL,
                         "restore " STORE_DB_NAME
                         " from a backup, or move the other store.* files away to start with an empty store",
                         "%s is missing, but there was one", s->path);
    static const char *const leftovers[] = { "", "-journal", "-wal", "-shm" };
    for (size_t i = 0; i < sizeof leftovers / sizeof *leftovers; i++) {
        buf_clear(&path);
        buf_printf(&path, "%s.new%s", s->path, leftovers[i]);
        unlink(path.data);
    }
    buf_clear(&path);
    buf_printf(&path, "%s.new", s->path);
    int rc = store_schema_make(path.data, err);
    if (rc < 0)
        return rc;
    if (rename(path.data, s->path) < 0)
        return err_errno(err, "rename %s", path.data);
    s->meta.created = true;
    return sync_dir(s->dir, err);
}

#define REMEDY_LOSS                                                                                                    \
    "put the newest store or backup there; to go on without what is lost, start once with --accept-rollback"

static int note_wall(void *arg, const struct record *r, struct err *err)
{
    (void)err;
    struct store_meta *meta = arg;
    meta->last_wall_ms = r->at_wall_ms;
    return 0;
}

/* What was acknowledged must be there: SQLite drops the end of a damaged or missing log without a word, and an older
 * copy of the store looks like the store. The promise stands until something is written: should a loss be accepted and
 * nothing come of it, it is told again. */
static int check_promise(struct store_sqlite *s, sqlite3 *db, struct err *err)
{
    uint64_t promised = store_lock_seq(s->lock), epoch = store_lock_epoch(s->lock);
    if (epoch > s->meta.epoch && !s->accept_loss)
        return err_field(err, ERR_CORRUPT, NULL, REMEDY_LOSS,
                         "the store is older than the fleet: a worker has seen epoch %" PRIu64
                         ", the store is at epoch %" PRIu64,
                         epoch, s->meta.epoch);
    if (s->meta.last_seq >= promised) {
        store_lock_set_seq(s->lock, s->meta.last_seq);
        return 0;
    }
    s->meta.lost_seq = promised;
    int rc = store_schema_last_chunk(db, note_wall, &s->meta, err);
    if (rc < 0 || s->accept_loss)
        return rc;
    autobuf struct buf when = BUF_INIT;
    if (s->meta.last_wall_ms) {
        buf_str(&when, " of ");
        format_time(&when, s->meta.last_wall_ms);
    }
    return err_field(err, ERR_CORRUPT, NULL, REMEDY_LOSS,
                     "the %s ends at record %" PRIu64 "%s, but records up to %" PRIu64 " were acknowledged: %s",
                     s->meta.restored ? "backup" : "store", s->meta.last_seq, when.size ? when.data : "", promised,
                     s->meta.restored ? "it was made before them"
                                      : "its log is damaged or missing, or the store was replaced by an older one");
}

static int open_writer(struct store_sqlite *s, struct err *err)
{
    struct stat st;
    sqlite3 *db = NULL;
    if (fstat(store_lock_database_fd(s->lock), &st) < 0)
        return err_errno(err, "stat %s", s->path);
    int rc = store_db_open(&db, s->path, DB_WRITER, err);
    if (rc < 0)
        return rc;
    enum store_structure structure = st.st_size <= STRUCTURE_CHECK_BYTES ? STRUCTURE_QUICK : STRUCTURE_TRUST;
    rc = store_schema_check(db, structure, &s->meta, err);
    if (rc == 0)
        rc = check_promise(s, db, err);
    if (rc == 0 && s->meta.restored)
        rc = store_schema_revive(db, err);
    if (rc == 0)
        rc = store_schema_upgrade(db, err);
    if (rc < 0) {
        store_db_close(db, false);
        return rc;
    }
    s->writer = store_writer_new(db, s->meta.epoch, s->meta.last_seq, err);
    return s->writer ? 0 : -(int)err->code;
}

static int open_reader(struct store_sqlite *s, struct err *err)
{
    sqlite3 *db = NULL;
    int rc = store_db_open(&db, s->path, DB_READER, err);
    if (rc < 0)
        return rc;
    s->reader = store_reader_new(db, err);
    return s->reader ? 0 : -(int)err->code;
}

/* The log of the store that a backup was put in the place of would be taken for its own. */
static int check_restored(struct store_sqlite *s, struct err *err)
{
    autobuf struct buf path = BUF_INIT;
    struct stat st;
    buf_printf(&path, "%s-wal", s->path);
    if (!s->meta.restored || stat(path.data, &st) < 0 || st.st_size == 0)
        return 0;
    return err_field(err, ERR_CORRUPT, NULL,
                     "move " STORE_DB_NAME "-wal and " STORE_DB_NAME "-shm away, then start again",
                     "the file is a backup, but the log of another store lies beside it");
}

static int start_thread(struct store_sqlite *s, struct err *err)
{
    if (!s->loop)
        return 0;
    s->wake = loop_wake_add(s->loop, woken, s);
    int rc = thread_start(&s->thread, NULL, writer_thread, s);
    if (rc != 0)
        return err_set(err, ERR_INTERNAL, "start the thread of the store: %s", strerror(rc));
    s->threaded = true;
    return 0;
}

static int open_files(struct store_sqlite *s, struct err *err)
{
    int rc = keep_low_fds(err);
    if (rc < 0 || (rc = make_dir(s->dir, err)) < 0)
        return rc;
    if (!(s->lock = store_lock_new(s->dir, err)))
        return -(int)err->code;
    if (!exists(s->path) && (rc = make_store(s, err)) < 0)
        return rc;
    if ((rc = store_lock_database(s->lock, s->path, err)) < 0)
        return rc;
    if ((rc = store_schema_check_head(store_lock_database_fd(s->lock), &s->meta.restored, err)) < 0 ||
        (rc = check_restored(s, err)) < 0)
        return err_wrap(err, "%s", s->path);
    rc = open_writer(s, err);
    /* Even reading the log takes some room. */
    if ((rc == -(int)ERR_NO_SPACE || rc == -(int)ERR_IO) && free_bytes(s) < OPEN_BYTES &&
        store_reserve_use(&s->reserve))
        rc = open_writer(s, err);
    if (rc < 0)
        return err_wrap(err, "%s", s->path);
    return open_reader(s, err);
}

struct store *store_sqlite_open(struct loop *loop, const char *dir, const struct store_limits *limits,
                                const struct store_events *events, struct err *err)
{
    NEVER_NULL(err);
    struct store_sqlite *s = mem_zero(1, sizeof *s);
    s->base.ops = &sqlite_ops;
    s->loop = loop;
    s->events = *events;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&s->mutex, NULL);
    autobuf struct buf path = BUF_INIT;
    buf_printf(&path, "%s/" STORE_DB_NAME, dir);
    s->dir = mem_str(dir);
    s->path = buf_take(&path);
    buf_printf(&path, "%s/store.reserve", dir);
    s->accept_loss = limits && limits->accept_loss;
    s->reserve = (struct store_reserve){ buf_take(&path), limits ? limits->reserve_bytes : 0 };
    if (open_files(s, err) < 0 || start_thread(s, err) < 0) {
        s->threaded = false;
        sqlite_close(&s->base);
        return NULL;
    }
    s->opened = true;
    store_writer_stats(s->writer, &s->writer_stats);
    store_reserve_fill(&s->reserve); /* Without room the store is low, which stats tell. */
    return &s->base;
}
