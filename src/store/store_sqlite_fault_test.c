/* What the SQLite store does when the disk, the file or its process fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs the four above. */
#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/prng.h"
#include "io/loop.h"
#include "store/store_sqlite_int.h"
#include "store/store_test_dir.h"

/* --- a VFS that watches and fails: below the store's own --- */

struct shim_file {
    sqlite3_file base;
    sqlite3_file *real;
    bool database, log; /* of the store, not of a backup */
};

static struct {
    sqlite3_vfs *real;
    long syncs, fail_sync_at;   /* the k-th sync since shim_reset fails once */
    long writes, full_from;     /* writes from the k-th on find the disk full */
    bool failed;
    bool watch;                 /* threads that write are compared */
    pthread_t owner;
    bool owned;
    sqlite3_file *writer;       /* the first database file opened for writing */
    atomic_int violations;      /* of "one connection, on one thread, writes and checkpoints" */
    atomic_int checkpoints;
} shim;

static void shim_reset(void)
{
    sqlite3_vfs *real = shim.real;
    memset(&shim, 0, sizeof shim);
    shim.real = real;
}

static sqlite3_file *real_of(sqlite3_file *file)
{
    return ((struct shim_file *)file)->real;
}

static void watch_write(const struct shim_file *f)
{
    if (!shim.watch || !(f->database || f->log))
        return;
    if (!shim.owned) {
        shim.owner = pthread_self();
        shim.owned = true;
    }
    if (!pthread_equal(shim.owner, pthread_self()) || (f->database && &f->base != shim.writer))
        shim.violations++;
}

static int shim_close(sqlite3_file *file)
{
    struct shim_file *f = (struct shim_file *)file;
    int rc = f->real->pMethods->xClose(f->real);
    free(f->real);
    return rc;
}

static int shim_read(sqlite3_file *file, void *data, int size, sqlite3_int64 at)
{
    return real_of(file)->pMethods->xRead(real_of(file), data, size, at);
}

static int shim_write(sqlite3_file *file, const void *data, int size, sqlite3_int64 at)
{
    watch_write((struct shim_file *)file);
    if (shim.full_from && ++shim.writes >= shim.full_from) {
        shim.failed = true;
        return SQLITE_FULL;
    }
    return real_of(file)->pMethods->xWrite(real_of(file), data, size, at);
}

static int shim_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    watch_write((struct shim_file *)file);
    return real_of(file)->pMethods->xTruncate(real_of(file), size);
}

static int shim_sync(sqlite3_file *file, int flags)
{
    if (++shim.syncs == shim.fail_sync_at) {
        shim.failed = true;
        return SQLITE_IOERR_FSYNC;
    }
    return real_of(file)->pMethods->xSync(real_of(file), flags);
}

static int shim_shm_lock(sqlite3_file *file, int offset, int count, int flags)
{
    /* Locks 0 to 2 of the index: to write, to checkpoint, to recover. The others are the readers' marks. */
    bool exclusive = (flags & (SQLITE_SHM_LOCK | SQLITE_SHM_EXCLUSIVE)) == (SQLITE_SHM_LOCK | SQLITE_SHM_EXCLUSIVE);
    if (exclusive && offset <= 2 && file != shim.writer && ((struct shim_file *)file)->database)
        shim.violations++;
    if (exclusive && offset <= 1 && offset + count > 1)
        shim.checkpoints++;
    return real_of(file)->pMethods->xShmLock(real_of(file), offset, count, flags);
}

#define PASS(name, params, ...)                                                                                        \
    static int shim_##name params { return real_of(file)->pMethods->name(real_of(file), ##__VA_ARGS__); }
PASS(xFileSize, (sqlite3_file * file, sqlite3_int64 *size), size)
PASS(xLock, (sqlite3_file * file, int lock), lock)
PASS(xUnlock, (sqlite3_file * file, int lock), lock)
PASS(xCheckReservedLock, (sqlite3_file * file, int *out), out)
PASS(xFileControl, (sqlite3_file * file, int op, void *arg), op, arg)
PASS(xSectorSize, (sqlite3_file * file))
PASS(xDeviceCharacteristics, (sqlite3_file * file))
PASS(xShmMap, (sqlite3_file * file, int page, int size, int extend, void volatile **out), page, size, extend, out)
PASS(xShmUnmap, (sqlite3_file * file, int delete_flag), delete_flag)
#undef PASS

static void shim_barrier(sqlite3_file *file)
{
    real_of(file)->pMethods->xShmBarrier(real_of(file));
}

static const sqlite3_io_methods shim_methods = {
    .iVersion = 2, .xClose = shim_close, .xRead = shim_read, .xWrite = shim_write, .xTruncate = shim_truncate,
    .xSync = shim_sync, .xFileSize = shim_xFileSize, .xLock = shim_xLock, .xUnlock = shim_xUnlock,
    .xCheckReservedLock = shim_xCheckReservedLock, .xFileControl = shim_xFileControl, .xSectorSize = shim_xSectorSize,
    .xDeviceCharacteristics = shim_xDeviceCharacteristics, .xShmMap = shim_xShmMap, .xShmLock = shim_shm_lock,
    .xShmBarrier = shim_barrier, .xShmUnmap = shim_xShmUnmap,
};

static bool ends_with(const char *name, const char *end)
{
    size_t size = name ? strlen(name) : 0, end_size = strlen(end);
    return size >= end_size && strcmp(name + size - end_size, end) == 0;
}

static int shim_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
    (void)vfs;
    struct shim_file *f = (struct shim_file *)file;
    *f = (struct shim_file){ .database = flags & SQLITE_OPEN_MAIN_DB && ends_with(name, "store.db"),
                             .log = flags & SQLITE_OPEN_WAL && ends_with(name, "store.db-wal") };
    f->real = mem_zero(1, (size_t)shim.real->szOsFile);
    int rc = shim.real->xOpen(shim.real, name, f->real, flags, out_flags);
    if (rc != SQLITE_OK) {
        free(f->real);
        return rc;
    }
    if (f->database && !(flags & SQLITE_OPEN_READONLY) && !shim.writer)
        shim.writer = file;
    f->base.pMethods = &shim_methods;
    return SQLITE_OK;
}

static sqlite3_vfs shim_vfs;

static void shim_register(void)
{
    shim.real = sqlite3_vfs_find("unix");
    check(shim.real);
    shim_vfs = *shim.real;
    shim_vfs.zName = "shim";
    shim_vfs.szOsFile = sizeof(struct shim_file);
    shim_vfs.xOpen = shim_open;
    check(sqlite3_vfs_register(&shim_vfs, 1) == SQLITE_OK);
}

/* --- work to disturb --- */

#define BIG_BYTES 20000
#define BIG_JOBS 14

/* A commit of 280 KB: the fourth one makes the log long enough for a checkpoint (main). */
static enum store_outcome append_big(struct store_rig *rig)
{
    static char spec[BIG_BYTES];
    struct record records[BIG_JOBS];
    struct store_job jobs[BIG_JOBS];
    memset(spec, 's', sizeof spec);
    for (int i = 0; i < BIG_JOBS; i++) {
        uint64_t job = rig->seq + 1 + (uint64_t)i;
        records[i] = t_submitted(job, 0);
        jobs[i] = t_job(job, "", "alice", NULL);
        jobs[i].spec = bytes_of(spec, sizeof spec);
    }
    rig_number(rig, records, BIG_JOBS);
    struct store_batch batch = { .records = records, .records_count = BIG_JOBS, .jobs = jobs, .jobs_count = BIG_JOBS,
                                 .epoch = rig->epoch };
    return rig_append(rig, &batch);
}

static enum store_outcome append_small(struct store_rig *rig)
{
    struct record r = t_submitted(rig->seq + 1, 0);
    struct store_job job = t_job(rig->seq + 1, "spec", "alice", NULL);
    rig_number(rig, &r, 1);
    struct store_batch batch = {
        .records = &r, .records_count = 1, .jobs = &job, .jobs_count = 1, .epoch = rig->epoch
    };
    return rig_append(rig, &batch);
}

static int count_record(void *arg, const struct record *r, struct err *err)
{
    (void)r, (void)err;
    ++*(uint64_t *)arg;
    return 0;
}

static void expect_records(struct store_rig *rig, uint64_t low, uint64_t high)
{
    uint64_t count = 0;
    struct err err;
    if (rig->store->ops->replay(rig->store, 1, 0, count_record, &count, &err) < 0)
        fail_msg("%s", err.text);
    assert_in_range(count, low, high);
}

/* --- a sync that fails --- */

static void ignore_commit(void *arg, enum store_outcome outcome, const struct err *err)
{
    (void)arg, (void)outcome, (void)err;
}

static struct store *try_open(struct store_rig *rig, struct err *err)
{
    static const struct store_events events = { NULL, ignore_commit };
    return rig->world->open(rig->place, NULL, &events, err);
}

/* Returns false when the k-th sync does not come any more. */
static bool disturb_sync(long k)
{
    struct store_rig rig = { .world = &test_sqlite_world, .place = test_dir_make() };
    struct err err = { .code = ERR_OK };
    uint64_t acked = 0;
    shim_reset();
    shim.fail_sync_at = k;
    struct store *s = try_open(&rig, &err);
    if (!s) {
        assert_true(shim.failed);
        assert_int_equal(err.code, ERR_IO);
    } else {
        s->ops->close(s);
        bool before = shim.failed;
        rig_open(&rig); /* A failure inside the close has left everything in the log. */
        rig.epoch = 1;
        struct record lead = { .kind = EV_EPOCH, .epoch = { .epoch = 1 } };
        rig_number(&rig, &lead, 1);
        struct store_batch batch = { .records = &lead, .records_count = 1, .epoch = 1 };
        enum store_outcome outcome = rig_append(&rig, &batch);
        for (int i = 0; i < 8 && outcome == STORE_COMMITTED; i++) {
            acked = rig.seq;
            outcome = i % 2 ? append_small(&rig) : append_big(&rig);
        }
        if (outcome == STORE_COMMITTED) {
            acked = rig.seq;
        } else {
            assert_true(shim.failed && !before);
            assert_int_equal(outcome, STORE_UNKNOWN);
            assert_int_equal(rig.err.code, ERR_IO);
            assert_int_equal(append_small(&rig), STORE_UNKNOWN);
        }
        rig_close(&rig);
    }
    bool failed = shim.failed;
    shim.fail_sync_at = 0;
    uint64_t tried = rig.seq;
    rig_open(&rig);
    expect_records(&rig, acked, tried);
    assert_int_equal(rig.epoch <= 1, 1);
    rig_lead(&rig, 2);
    assert_int_equal(append_small(&rig), STORE_COMMITTED);
    rig_close(&rig);
    test_dir_drop(rig.place);
    return failed;
}

static void test_every_sync_may_fail(void **state)
{
    (void)state;
    long k = 1;
    while (disturb_sync(k))
        k++;
    assert_true(k > 10); /* Making the store, the commits and two checkpoints were hit. */
}

/* --- a full disk --- */

static bool disturb_writes(long k)
{
    struct store_rig rig = { .world = &test_sqlite_world, .place = test_dir_make() };
    rig_open(&rig);
    rig_lead(&rig, 1);
    shim_reset();
    shim.full_from = k;
    uint64_t full = 0;
    for (int i = 0; i < 8; i++) {
        uint64_t before = rig.seq;
        enum store_outcome outcome = i % 2 ? append_small(&rig) : append_big(&rig);
        while (outcome == STORE_FULL) {
            struct store_stats stats;
            assert_int_equal(rig.err.code, ERR_NO_SPACE);
            rig.store->ops->stats(rig.store, &stats);
            assert_true(stats.low);
            expect_records(&rig, before, before);
            if (++full > 2)
                shim.full_from = 0; /* There is room again. */
            rig.seq = before;
            outcome = i % 2 ? append_small(&rig) : append_big(&rig);
        }
        assert_int_equal(outcome, STORE_COMMITTED);
    }
    bool failed = shim.failed;
    shim.full_from = 0;
    rig_reopen(&rig);
    expect_records(&rig, rig.seq, rig.seq);
    assert_int_equal(rig.seq, 1 + 4 * BIG_JOBS + 4);
    rig_close(&rig);
    test_dir_drop(rig.place);
    return failed;
}

static void test_every_write_may_find_the_disk_full(void **state)
{
    (void)state;
    unsigned hits = 0;
    for (long k = 1; k < 6000; k = k + 1 + k / 4)
        hits += disturb_writes(k);
    assert_true(hits > 15);
}

/* On a real file system of 8 MiB. 77: not allowed to mount. */
static int fill_small_disk(const char *dir)
{
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", dir, "tmpfs", 0, "size=8m") < 0)
        return 77;
    autofree char *ballast = test_path(dir, "ballast"), *state = test_path(dir, "state");
    autobuf struct buf weight = BUF_INIT, report = BUF_INIT;
    buf_reserve(&weight, 2 << 20);
    weight.size = 2 << 20;
    memset(weight.data, 'w', weight.size);
    test_write(ballast, buf_bytes(&weight));
    struct store_rig rig = { .world = &test_sqlite_world, .place = state };
    rig_open(&rig);
    rig_lead(&rig, 1);
    enum store_outcome outcome;
    unsigned commits = 0, reserved = 0;
    uint64_t acked = rig.seq;
    while ((outcome = append_small(&rig)) == STORE_COMMITTED || commits == 0) {
        acked = rig.seq;
        commits++;
    }
    if (outcome != STORE_FULL)
        return 10 + (int)outcome;
    unlink(ballast);
    rig.seq = acked;
    while ((outcome = append_small(&rig)) == STORE_COMMITTED && reserved < 50) {
        acked = rig.seq;
        reserved++;
    }
    if (outcome != STORE_COMMITTED || reserved < 50)
        return 20 + (int)outcome;
    rig_close(&rig);
    rig_open(&rig);
    if (rig.seq < acked)
        return 3;
    rig_close(&rig);
    struct err err;
    return store_sqlite_inspect(state, NULL, &report, false, &err) == 0 ? 0 : 4;
}

static void test_small_disk(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    shim_reset();
    pid_t child = fork();
    check(child >= 0);
    if (child == 0)
        _exit(fill_small_disk(dir));
    int status;
    check(waitpid(child, &status, 0) == child);
    test_dir_drop(dir);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip(); /* Mounting takes root; the test above stands for it. */
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* The reserve lets what runs be recorded, on a real file system. */
static int use_reserve_on_small_disk(const char *dir)
{
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", dir, "tmpfs", 0, "size=8m") < 0)
        return 77;
    struct store_rig rig = { .world = &test_sqlite_world, .place = test_path(dir, "state") };
    struct store_limits limits = { .reserve_bytes = 1 << 20 };
    struct store_events events = { NULL, ignore_commit };
    struct store_stats stats;
    rig_open(&rig);
    rig_lead(&rig, 1);
    rig_close(&rig);
    struct store *s = store_sqlite_open(NULL, rig.place, &limits, &events, NULL);
    s->ops->stats(s, &stats);
    if (stats.low)
        return 1;
    s->ops->close(s);
    rig_open(&rig); /* without the limit: the reserve stays where it is */
    uint64_t acked = rig.seq;
    while (append_small(&rig) == STORE_COMMITTED)
        acked = rig.seq;
    rig_close(&rig);
    s = store_sqlite_open(NULL, rig.place, &limits, &events, NULL);
    if (!s)
        return 2;
    s->ops->stats(s, &stats);
    if (!stats.low || !s->ops->use_reserve(s) || s->ops->refill_reserve(s))
        return 3;
    s->ops->close(s);
    rig_open(&rig);
    rig.seq = acked;
    int rc = append_small(&rig) == STORE_COMMITTED ? 0 : 4;
    rig_close(&rig);
    free(rig.place);
    return rc;
}

static void test_reserve_on_small_disk(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    shim_reset();
    pid_t child = fork();
    check(child >= 0);
    if (child == 0)
        _exit(use_reserve_on_small_disk(dir));
    int status;
    check(waitpid(child, &status, 0) == child);
    test_dir_drop(dir);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* --- kill -9 --- */

static void commit_until_killed(const char *dir, int to)
{
    struct store_rig rig = { .world = &test_sqlite_world, .place = mem_str(dir), .loop = loop_new() };
    rig_open(&rig);
    rig_lead(&rig, rig.epoch + 1);
    for (;;) {
        enum store_outcome outcome = rig.seq % 7 == 0 ? append_big(&rig) : append_small(&rig);
        if (outcome != STORE_COMMITTED || write(to, &rig.seq, sizeof rig.seq) != sizeof rig.seq)
            _exit(1);
    }
}

static void test_kill(void **state)
{
    (void)state;
    struct store_rig rig = { .world = &test_sqlite_world, .place = test_dir_make() };
    struct prng prng;
    prng_seed(&prng, 9);
    shim_reset();
    for (int round = 0; round < 25; round++) {
        int to[2];
        check(pipe(to) == 0);
        pid_t child = fork();
        check(child >= 0);
        if (child == 0)
            commit_until_killed(rig.place, to[1]);
        close(to[1]);
        uint64_t acked = 0, more;
        check(read(to[0], &acked, sizeof acked) == sizeof acked);
        usleep((useconds_t)prng_below(&prng, 30000));
        kill(child, SIGKILL);
        while (read(to[0], &more, sizeof more) == sizeof more)
            acked = more;
        int status;
        check(waitpid(child, &status, 0) == child);
        assert_true(WIFSIGNALED(status));
        close(to[0]);
        rig_open(&rig);
        assert_true(rig.seq >= acked);
        assert_true(rig.seq <= acked + BIG_JOBS);
        expect_records(&rig, rig.seq, rig.seq);
        rig_close(&rig);
    }
    autobuf struct buf report = BUF_INIT;
    struct err err;
    if (store_sqlite_inspect(rig.place, NULL, &report, false, &err) < 0)
        fail_msg("%s", err.text);
    test_dir_drop(rig.place);
}

/* --- flipped bytes --- */

enum { FLIP_INTACT, FLIP_REFUSED, FLIP_WRONG };

static int look_at(const char *dir, const struct buf *expected)
{
    struct store_events events = { NULL, ignore_commit };
    struct err err = { .code = ERR_OK };
    autobuf struct buf digest = BUF_INIT;
    struct store *s = store_sqlite_open(NULL, dir, NULL, &events, &err);
    if (!s || test_digest(s, &digest, &err) < 0)
        return err.code == ERR_CORRUPT ? FLIP_REFUSED : FLIP_WRONG;
    return bytes_equal(buf_bytes(&digest), buf_bytes(expected)) ? FLIP_INTACT : FLIP_WRONG;
}

static void flip(const char *dir, const char *name, const struct buf *expected, int times, unsigned seen[3])
{
    autofree char *path = test_path(dir, name);
    struct prng prng;
    struct stat st;
    prng_seed(&prng, 28);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    check(fd >= 0 && fstat(fd, &st) == 0);
    for (int i = 0; i < times; i++) {
        uint8_t byte, bad;
        off_t at = i < 100 ? (off_t)i : (off_t)prng_below(&prng, (uint64_t)st.st_size);
        check(pread(fd, &byte, 1, at) == 1);
        bad = (uint8_t)(byte ^ 1u << prng_below(&prng, 8));
        check(pwrite(fd, &bad, 1, at) == 1);
        pid_t child = fork();
        check(child >= 0);
        if (child == 0)
            _exit(look_at(dir, expected)); /* Leaves without closing, so that nothing is moved into the file. */
        int status;
        check(waitpid(child, &status, 0) == child);
        check(pwrite(fd, &byte, 1, at) == 1);
        if (!WIFEXITED(status) || WEXITSTATUS(status) >= FLIP_WRONG)
            fail_msg("%s: byte %jd: status %#x", name, (intmax_t)at, (unsigned)status);
        seen[WEXITSTATUS(status)]++;
    }
    close(fd);
}

static void test_flipped_bytes(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    autofree char *clean = test_path(dir, "clean"), *crashed = test_path(dir, "crashed");
    autobuf struct buf expected = BUF_INIT, expected_crashed = BUF_INIT;
    struct err err;
    struct store_events events = { NULL, ignore_commit };
    shim_reset();
    test_fill(clean, false);
    test_fill(crashed, true);
    struct store *s = store_sqlite_open(NULL, clean, NULL, &events, &err);
    assert_non_null(s);
    assert_int_equal(test_digest(s, &expected, &err), 0);
    s->ops->close(s);
    unsigned db[3] = { 0 }, wal[3] = { 0 }, shm[3] = { 0 }, lock[3] = { 0 };
    flip(clean, "store.db", &expected, 350, db);
    flip(clean, "store.lock", &expected, 40, lock);
    assert_true(db[FLIP_REFUSED] > 200); /* In pages that are in use every byte counts. */
    assert_int_equal(lock[FLIP_INTACT], 40);

    autofree char *twin = test_path(dir, "twin");
    test_copy_dir(crashed, twin);
    s = store_sqlite_open(NULL, twin, NULL, &events, &err);
    assert_non_null(s);
    assert_int_equal(test_digest(s, &expected_crashed, &err), 0);
    s->ops->close(s);
    flip(crashed, "store.db-wal", &expected_crashed, 350, wal);
    flip(crashed, "store.db-shm", &expected_crashed, 150, shm);
    assert_true(wal[FLIP_REFUSED] > 200);
    assert_int_equal(shm[FLIP_INTACT], 150);
    test_dir_drop(dir);
}

/* --- one connection writes and checkpoints --- */

static void see_attempt(void *arg, const struct store_attempt *a)
{
    (void)arg, (void)a;
}

static void test_only_the_writer_writes_and_checkpoints(void **state)
{
    (void)state;
    struct store_rig rig = { .world = &test_sqlite_world, .place = test_dir_make(), .loop = loop_new() };
    autofree char *copy = test_path(rig.place, "copy"), *db_path = test_path(rig.place, "store.db");
    autobuf struct buf out = BUF_INIT;
    struct err err;
    rig_open(&rig);
    rig_close(&rig);
    shim_reset();
    rig_open(&rig); /* The file is there, so the first one opened for writing is the writer's. */
    rig_lead(&rig, 1);
    int before = shim.checkpoints;
    shim.watch = true;
    for (int i = 0; i < 12; i++) {
        assert_int_equal(append_big(&rig), STORE_COMMITTED);
        assert_int_equal(append_small(&rig), STORE_COMMITTED);
        expect_records(&rig, rig.seq, rig.seq);
        buf_clear(&out);
        assert_int_equal(rig.store->ops->spec(rig.store, (job_id){ rig.seq }, &out, NULL), 0);
        struct attempt_ref all = { { 1 }, TASK_ALL, 0 };
        assert_int_equal(rig.store->ops->attempts(rig.store, all, 9, see_attempt, NULL, NULL), 0);
    }
    assert_true(shim.checkpoints > before);
    assert_int_equal(shim.violations, 0);
    assert_int_equal(rig.store->ops->backup(rig.store, copy, &err), 0);
    if (store_sqlite_inspect(rig.place, NULL, &out, false, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(shim.violations, 0);
    struct stat st;
    autofree char *wal = test_path(rig.place, "store.db-wal");
    assert_int_equal(stat(wal, &st), 0);
    assert_true(st.st_size < 2 << 20); /* Twice as much was written. */

    /* The watch works: a foreign connection that checkpoints is seen. */
    shim.watch = false;
    sqlite3 *rogue;
    assert_int_equal(sqlite3_open(db_path, &rogue), SQLITE_OK);
    assert_int_equal(sqlite3_exec(rogue, "SELECT count(*) FROM meta", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_wal_checkpoint_v2(rogue, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    assert_true(shim.violations > 0);
    sqlite3_db_config(rogue, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_close(rogue);
    rig_close(&rig);
    assert_false(test_exists(wal)); /* A clean close leaves one file. */
    loop_free(rig.loop);
    test_dir_drop(rig.place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_sync_may_fail),
        cmocka_unit_test(test_every_write_may_find_the_disk_full),
        cmocka_unit_test(test_small_disk),
        cmocka_unit_test(test_reserve_on_small_disk),
        cmocka_unit_test(test_kill),
        cmocka_unit_test(test_flipped_bytes),
        cmocka_unit_test(test_only_the_writer_writes_and_checkpoints),
    };
    shim_register();
    store_checkpoint_frames = 256;
    return cmocka_run_group_tests_name("sqlite_fault", tests, NULL, NULL);
}
