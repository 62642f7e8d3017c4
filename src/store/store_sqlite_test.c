#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs the four above. */
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "io/loop.h"
#include "store/store_sqlite_int.h"
#include "store/store_test_dir.h"

static void ignore_commit(void *arg, enum store_outcome outcome, const struct err *err)
{
    (void)arg, (void)outcome, (void)err;
}

static struct store *try_open(const char *dir, struct err *err)
{
    struct store_events events = { NULL, ignore_commit };
    *err = (struct err){ .code = ERR_OK };
    return store_sqlite_open(NULL, dir, NULL, &events, err);
}

static enum err_code open_code(const char *dir)
{
    struct err err;
    struct store *s = try_open(dir, &err);
    if (s)
        s->ops->close(s);
    return err.code;
}

static void expect_intact(const char *dir, const struct buf *expected)
{
    struct err err;
    autobuf struct buf digest = BUF_INIT;
    struct store *s = try_open(dir, &err);
    if (!s)
        fail_msg("%s", err.text);
    if (test_digest(s, &digest, &err) < 0)
        fail_msg("%s", err.text);
    assert_true(bytes_equal(buf_bytes(&digest), buf_bytes(expected)));
    s->ops->close(s);
}

static void digest_of(const char *dir, struct buf *out)
{
    struct err err;
    struct store *s = try_open(dir, &err);
    assert_non_null(s);
    assert_int_equal(test_digest(s, out, &err), 0);
    s->ops->close(s);
}

/* --- opening --- */

static void test_makes_directories(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    autofree char *deep = test_path(dir, "a/b/c"), *db = test_path(deep, "store.db");
    assert_int_equal(open_code(deep), ERR_OK);
    struct stat st;
    assert_int_equal(stat(deep, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(stat(db, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    autofree char *in_file = test_path(deep, "store.db/x");
    assert_int_equal(open_code(in_file), ERR_IO);
    test_dir_drop(dir);
}

static void database_and_log(const char *dir, struct buf *out)
{
    static const char *const names[] = { "store.db", "store.db-wal" };
    for (size_t i = 0; i < 2; i++) {
        autofree char *path = test_path(dir, names[i]);
        if (test_exists(path))
            test_read(path, out);
    }
}

static void expect_refused(const char *dir, const char *what)
{
    struct err err;
    autobuf struct buf before = BUF_INIT, after = BUF_INIT;
    database_and_log(dir, &before);
    assert_null(try_open(dir, &err));
    if (err.code != ERR_CORRUPT || !strstr(err.text, what) || !err.remedy[0])
        fail_msg("expected %s, got %s: %s (%s)", what, err_title(err.code), err.text, err.remedy);
    database_and_log(dir, &after);
    assert_true(bytes_equal(buf_bytes(&before), buf_bytes(&after)));
}

static void test_refuses_what_is_no_store(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    autofree char *path = test_path(dir, "store.db"), *wal = test_path(dir, "store.db-wal");
    test_write(path, bytes_str(""));
    expect_refused(dir, "empty");
    test_write(path, bytes_str("SQLite format 3"));
    expect_refused(dir, "cut short");
    autobuf struct buf text = BUF_INIT;
    for (int i = 0; i < 2000; i++)
        buf_str(&text, "this is a text\n");
    test_write(path, buf_bytes(&text));
    expect_refused(dir, "no Rota store");
    unlink(path);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "CREATE TABLE t(x)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    expect_refused(dir, "a database, but no Rota store");
    unlink(path);
    test_write(wal, bytes_str("left alone"));
    expect_refused(dir, "is missing, but there was one");
    test_dir_drop(dir);
}

static void test_refuses_a_cut_store(void **state)
{
    (void)state;
    char *dir = test_dir_make(), *copy;
    autofree char *whole = test_path(dir, "whole");
    test_fill(whole, false);
    autofree char *path = test_path(whole, "store.db");
    autobuf struct buf db = BUF_INIT;
    test_read(path, &db);
    static const double parts[] = { 0.03, 0.1, 0.3, 0.5, 0.9, 0.999 };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        copy = test_path(dir, "copy");
        test_copy_dir(whole, copy);
        autofree char *cut = test_path(copy, "store.db");
        assert_int_equal(truncate(cut, (off_t)((double)db.size * parts[i])), 0);
        assert_int_equal(open_code(copy), ERR_CORRUPT);
        test_dir_drop(copy);
    }
    copy = test_path(dir, "copy");
    test_copy_dir(whole, copy);
    autofree char *gone = test_path(copy, "store.db");
    unlink(gone);
    expect_refused(copy, "is missing, but there was one");
    test_write(gone, buf_bytes(&db));
    db.data[63]++; /* user_version, which the page's checksum guards, too */
    test_write(gone, buf_bytes(&db));
    expect_refused(copy, "version");
    test_dir_drop(copy);
    test_dir_drop(dir);
}

/* Version 1 had no samples in the table of outputs. */
static void test_brings_up_a_store_of_version_1(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    autofree char *whole = test_path(dir, "whole"), *path = test_path(whole, "store.db");
    autobuf struct buf expected = BUF_INIT, text = BUF_INIT;
    test_fill(whole, false);
    digest_of(whole, &expected);
    struct err err = { .code = ERR_OK };
    sqlite3 *db = NULL;
    assert_int_equal(store_db_open(&db, path, DB_WRITER, &err), 0);
    assert_int_equal(store_db_exec(db, "BEGIN; ALTER TABLE tail DROP COLUMN usage; PRAGMA user_version=1; COMMIT", &err), 0);
    store_db_close(db, true);
    if (store_sqlite_inspect(whole, NULL, &text, false, &err) < 0) /* reads it as it is */
        fail_msg("%s", err.text);
    expect_intact(whole, &expected);
    expect_intact(whole, &expected); /* now of our version */
    db = NULL;
    int64_t version = 0;
    assert_int_equal(store_db_open(&db, path, DB_READER, &err), 0);
    assert_int_equal(store_db_number(db, "PRAGMA user_version", &version, &err), 0);
    assert_int_equal(version, STORE_VERSION);
    store_db_close(db, false);
    test_dir_drop(dir);
}

static struct store *open_accepting(const char *dir, struct err *err)
{
    struct store_events events = { NULL, ignore_commit };
    struct store_limits limits = { .accept_loss = true };
    return store_sqlite_open(NULL, dir, &limits, &events, err);
}

static void test_refuses_a_lost_log(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    autofree char *crashed = test_path(dir, "crashed"), *copy = test_path(dir, "copy"),
                  *db = test_path(copy, "store.db");
    autofree char *old = test_path(dir, "old"), *old_db = test_path(old, "store.db");
    autobuf struct buf expected = BUF_INIT, older = BUF_INIT;
    assert_int_equal(open_code(old), ERR_OK);
    test_read(old_db, &older);
    test_fill(crashed, true);
    test_copy_dir(crashed, copy);
    digest_of(copy, &expected);
    expect_intact(copy, &expected);
    /* Over the file, and another file in its place: it is not the file that was promised, but what is in it. */
    int fd = open(db, O_WRONLY | O_TRUNC);
    assert_int_equal(write(fd, older.data, older.size), older.size);
    close(fd);
    expect_refused(copy, "were acknowledged");
    unlink(db);
    test_write(db, buf_bytes(&older));
    expect_refused(copy, "were acknowledged");
    /* The remedy. The promise stands until something new is acknowledged. */
    struct err err;
    struct store_meta meta;
    for (int i = 0; i < 2; i++) {
        struct store *s = open_accepting(copy, &err);
        assert_non_null(s);
        s->ops->meta(s, &meta);
        assert_true(meta.last_seq == 0 && meta.lost_seq > 0 && !meta.restored);
        s->ops->close(s);
        expect_refused(copy, "were acknowledged");
    }
    struct store *s = open_accepting(copy, &err);
    struct record lead = { .kind = EV_EPOCH, .seq = 1, .epoch = { .epoch = 8 } };
    struct store_batch batch = { .records = &lead, .records_count = 1, .epoch = 8 };
    s->ops->append(s, &batch);
    s->ops->close(s);
    assert_int_equal(open_code(copy), ERR_OK);
    /* The same for a log that is taken away. */
    autofree char *crashed_wal = test_path(crashed, "store.db-wal");
    unlink(crashed_wal);
    expect_refused(crashed, "were acknowledged");
    test_dir_drop(dir);
}

static void test_refuses_what_others_have_overtaken(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    struct err err;
    struct store *s = try_open(dir, &err);
    assert_non_null(s);
    s->ops->note_epoch(s, 7);
    s->ops->close(s);
    expect_refused(dir, "has seen epoch 7");
    s = open_accepting(dir, &err);
    assert_non_null(s);
    struct record lead = { .kind = EV_EPOCH, .seq = 1, .epoch = { .epoch = 8 } };
    struct store_batch batch = { .records = &lead, .records_count = 1, .epoch = 8 };
    s->ops->append(s, &batch);
    s->ops->close(s);
    assert_int_equal(open_code(dir), ERR_OK); /* It is the latest again. */
    test_dir_drop(dir);
}

static off_t size_of(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? st.st_size : 0;
}

/* An idle store writes zeros behind the end of its log. They are no part of it, whatever is there when it crashes. */
static void test_room_in_the_log(void **state)
{
    (void)state;
    struct store_rig rig = { .world = &test_sqlite_world, .place = test_dir_make(), .loop = loop_new() };
    autofree char *wal = test_path(rig.place, "store.db-wal"), *copy = test_path(rig.place, "copy");
    rig_open(&rig);
    rig_lead(&rig, 1);
    struct record r = t_submitted(1, 0);
    rig_commit(&rig, &r, 1, NULL, 0);
    for (int i = 0; i < 10000 && size_of(wal) < 2 * 1024 * 1024; i++)
        usleep(1000);
    off_t room = size_of(wal);
    assert_true(room >= 2 * 1024 * 1024);
    for (uint64_t job = 2; job <= 20; job++) {
        r = t_submitted(job, 0);
        rig_commit(&rig, &r, 1, NULL, 0);
    }
    assert_true(size_of(wal) == room); /* It was used. */
    test_copy_dir(rig.place, copy);
    struct err err;
    struct store *s = try_open(copy, &err);
    if (!s)
        fail_msg("%s", err.text);
    struct store_meta meta;
    s->ops->meta(s, &meta);
    assert_int_equal(meta.last_seq, rig.seq);
    s->ops->close(s);
    rig_reopen(&rig);
    rig_close(&rig);
    assert_false(test_exists(wal)); /* A clean close leaves one file. */
    loop_free(rig.loop);
    test_dir_drop(rig.place);
}

static void test_low_descriptors(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    pid_t child = fork();
    check(child >= 0);
    if (child == 0) {
        for (int fd = 0; fd <= 2; fd++)
            close(fd);
        struct err err;
        struct stat st, null;
        if (!try_open(dir, &err) || stat("/dev/null", &null) < 0)
            _exit(1);
        for (int fd = 0; fd <= 2; fd++)
            if (fstat(fd, &st) < 0 || st.st_rdev != null.st_rdev)
                _exit(2);
        _exit(0);
    }
    int status;
    check(waitpid(child, &status, 0) == child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    test_dir_drop(dir);
}

/* --- one opener --- */

struct holder {
    pid_t pid;
    int up[2], down[2];
};

/* Another process that has the store open until let_go. */
static void hold(struct holder *h, const char *dir, bool crash)
{
    check(pipe(h->up) == 0 && pipe(h->down) == 0);
    h->pid = fork();
    check(h->pid >= 0);
    if (h->pid == 0) {
        struct store_rig rig = { .world = &test_sqlite_world, .place = mem_str(dir) };
        char byte = 0;
        close(h->down[1]);
        rig_open(&rig);
        rig_lead(&rig, rig.epoch + 1);
        if (write(h->up[1], "x", 1) != 1 || read(h->down[0], &byte, 1) < 0)
            _exit(1);
        if (crash)
            kill(getpid(), SIGKILL);
        rig_lead(&rig, rig.epoch + 1);
        rig_close(&rig);
        _exit(0);
    }
    char byte;
    close(h->down[0]);
    close(h->up[1]);
    check(read(h->up[0], &byte, 1) == 1);
}

static void let_go(struct holder *h)
{
    int status;
    close(h->down[1]);
    check(waitpid(h->pid, &status, 0) == h->pid);
    close(h->up[0]);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
}

static void test_one_opener(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    autofree char *real = test_path(dir, "real"), *soft = test_path(dir, "soft"), *db = test_path(real, "store.db");
    autofree char *other = test_path(dir, "other"), *other_db = test_path(other, "store.db");
    autofree char *lock = test_path(real, "store.lock"), *far = test_path(dir, "far"),
                  *far_db = test_path(far, "store.db");
    struct holder h;
    hold(&h, real, false);
    assert_int_equal(open_code(real), ERR_LOCKED);
    assert_int_equal(symlink(real, soft), 0);
    assert_int_equal(open_code(soft), ERR_LOCKED);
    assert_int_equal(mkdir(other, 0700), 0);
    assert_int_equal(symlink(db, other_db), 0);
    assert_int_equal(open_code(other), ERR_LOCKED);
    assert_int_equal(mkdir(far, 0700), 0);
    assert_int_equal(link(db, far_db), 0);
    assert_int_equal(open_code(far), ERR_LOCKED);
    unlink(far_db);
    unlink(lock);
    assert_int_equal(open_code(real), ERR_LOCKED);
    struct err err;
    assert_null(try_open(real, &err));
    assert_non_null(strstr(err.text, "in use"));
    let_go(&h);
    assert_int_equal(open_code(real), ERR_OK);
    assert_int_equal(link(db, far_db), 0); /* Its log would be looked for beside either name. */
    assert_int_equal(open_code(far), ERR_CORRUPT);
    assert_int_equal(open_code(real), ERR_CORRUPT);
    unlink(far_db);
    assert_int_equal(open_code(real), ERR_OK);
    test_dir_drop(dir);
}

static void test_one_opener_through_a_bind_mount(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    autofree char *real = test_path(dir, "real"), *bound = test_path(dir, "bound");
    assert_int_equal(mkdir(real, 0700), 0);
    assert_int_equal(mkdir(bound, 0700), 0);
    struct holder h;
    hold(&h, real, false);
    pid_t child = fork();
    check(child >= 0);
    if (child == 0) {
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount(real, bound, NULL, MS_BIND, NULL) < 0)
            _exit(77);
        _exit((int)open_code(bound));
    }
    int status;
    check(waitpid(child, &status, 0) == child);
    let_go(&h);
    test_dir_drop(dir);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip(); /* Mounting takes root. */
    assert_int_equal(WEXITSTATUS(status), ERR_LOCKED);
}

static void test_lock_ends_with_its_process(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    struct holder h;
    hold(&h, dir, true);
    assert_int_equal(open_code(dir), ERR_LOCKED);
    let_go(&h);
    assert_int_equal(open_code(dir), ERR_OK);
    test_dir_drop(dir);
}

/* --- snapshots --- */

static void write_pieces(void *arg, void (*emit)(void *to, struct bytes piece), void *to)
{
    (void)arg;
    emit(to, bytes_str("one"));
    emit(to, bytes_str("another piece, which is longer"));
}

static int count_piece(void *arg, struct bytes piece, struct err *err)
{
    (void)piece, (void)err;
    ++*(int *)arg;
    return 0;
}

static int load_snapshot(struct store *s, struct err *err)
{
    uint64_t seq = 0;
    int pieces = 0;
    int rc = s->ops->snapshot_load(s, &seq, count_piece, &pieces, err);
    assert_true(rc < 0 || pieces == 2);
    return rc;
}

static uint64_t last_seq(struct store *s)
{
    struct store_meta meta;
    s->ops->meta(s, &meta);
    return meta.last_seq;
}

static void test_snapshot_is_whole_or_refused(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    autofree char *live = test_path(dir, "live"), *path = test_path(live, "store.snapshot");
    autofree char *part = test_path(live, "store.snapshot.part");
    test_fill(live, false);
    struct err err;
    struct store *s = try_open(live, &err);
    assert_non_null(s);
    assert_int_equal(s->ops->snapshot_save(s, last_seq(s), write_pieces, NULL, &err), 0);
    assert_int_equal(load_snapshot(s, &err), 0);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_false(test_exists(part));
    autobuf struct buf whole = BUF_INIT;
    test_read(path, &whole);
    for (size_t at = 0; at < whole.size; at++) {
        autofree char *bad = mem_copy(whole.data, whole.size);
        bad[at] = (char)(bad[at] ^ (1 << at % 8));
        test_write(path, bytes_of(bad, whole.size));
        assert_int_equal(load_snapshot(s, &err), -(int)ERR_CORRUPT);
        assert_non_null(strstr(err.text, "store.snapshot"));
        test_write(path, bytes_of(whole.data, at));
        assert_int_equal(load_snapshot(s, &err), -(int)ERR_CORRUPT);
    }
    test_write(path, buf_bytes(&whole));
    assert_int_equal(load_snapshot(s, &err), 0);
    s->ops->close(s);
    test_dir_drop(dir);
}

/* Beside a store that was put back in time, or beside another one. */
static void test_snapshot_of_another_journal(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    autofree char *live = test_path(dir, "live"), *copy = test_path(dir, "copy"), *other = test_path(dir, "other");
    autofree char *snapshot = test_path(live, "store.snapshot"), *copied = test_path(copy, "store.snapshot");
    autofree char *foreign = test_path(other, "store.snapshot");
    test_fill(live, false);
    test_copy_dir(live, copy);
    test_fill(other, false);
    struct store_rig rig = { .world = &test_sqlite_world, .place = live },
                     rig_copy = { .world = &test_sqlite_world, .place = copy };
    rig_open(&rig);
    rig_lead(&rig, rig.epoch + 1);
    struct err err;
    assert_int_equal(rig.store->ops->snapshot_save(rig.store, rig.seq, write_pieces, NULL, &err), 0);
    rig_close(&rig);
    autobuf struct buf bytes = BUF_INIT;
    test_read(snapshot, &bytes);
    test_write(copied, buf_bytes(&bytes));
    rig_open(&rig_copy);
    assert_int_equal(load_snapshot(rig_copy.store, &err), -(int)ERR_CORRUPT); /* behind its end */
    rig_lead(&rig_copy, rig_copy.epoch + 7);
    assert_true(rig_copy.seq == rig.seq);
    assert_int_equal(load_snapshot(rig_copy.store, &err), -(int)ERR_CORRUPT);
    assert_non_null(strstr(err.text, "of another journal"));
    rig_close(&rig_copy);
    test_write(foreign, buf_bytes(&bytes));
    struct store *s = try_open(other, &err);
    assert_non_null(s);
    assert_int_equal(load_snapshot(s, &err), -(int)ERR_CORRUPT);
    assert_non_null(strstr(err.text, "of another store"));
    s->ops->close(s);
    test_dir_drop(dir);
}

/* --- backup and inspect --- */

static void test_backup(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    autofree char *live = test_path(dir, "live"), *copy = test_path(dir, "copy.db"), *back = test_path(dir, "back");
    autofree char *back_db = test_path(back, "store.db"), *part = test_path(dir, "copy.db.part");
    autofree char *nowhere = test_path(dir, "none/copy.db"), *journal = test_path(dir, "copy.db.part-journal");
    test_fill(live, true);
    autobuf struct buf expected = BUF_INIT, first = BUF_INIT;
    struct err err;
    struct store *s = try_open(live, &err);
    assert_non_null(s);
    assert_int_equal(test_digest(s, &expected, &err), 0);
    for (int round = 0; round < 2; round++) { /* the second time over the first */
        if (s->ops->backup(s, copy, &err) < 0)
            fail_msg("%s", err.text);
        assert_false(test_exists(part));
        assert_false(test_exists(journal));
    }
    assert_int_equal(s->ops->backup(s, nowhere, &err), -(int)ERR_IO);
    s->ops->close(s);
    struct stat st;
    assert_int_equal(stat(copy, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(mkdir(back, 0700), 0);
    test_read(copy, &first);
    assert_int_equal(rename(copy, back_db), 0);
    expect_intact(back, &expected);
    struct store_rig rig = { .world = &test_sqlite_world, .place = back };
    rig_open(&rig);
    rig_lead(&rig, 5); /* It is a store again, with a log. */
    autofree char *back_wal = test_path(back, "store.db-wal");
    assert_true(test_exists(back_wal));
    rig_close(&rig);
    assert_false(test_exists(back_wal));

    /* In the very place of a store that has gone on since. */
    autofree char *db = test_path(live, "store.db"), *wal = test_path(live, "store.db-wal");
    struct holder h;
    hold(&h, live, true);
    let_go(&h);
    int fd = open(db, O_WRONLY | O_TRUNC);
    assert_int_equal(write(fd, first.data, first.size), first.size);
    close(fd);
    expect_refused(live, "the log of another store");
    unlink(wal);
    expect_refused(live, "the backup ends at record");
    expect_refused(live, "the backup ends at record"); /* A refusal leaves it as it is. */
    autobuf struct buf digest = BUF_INIT;
    struct store_meta meta;
    assert_non_null(s = open_accepting(live, &err));
    s->ops->meta(s, &meta);
    assert_true(meta.restored && meta.lost_seq > meta.last_seq && meta.last_wall_ms != 0);
    assert_int_equal(test_digest(s, &digest, &err), 0);
    assert_true(bytes_equal(buf_bytes(&digest), buf_bytes(&expected)));
    s->ops->close(s);
    expect_refused(live, "were acknowledged"); /* Nothing has come of it yet. */
    test_dir_drop(dir);
}

static void test_backup_of_a_damaged_store(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    autofree char *live = test_path(dir, "live"), *copy = test_path(dir, "copy.db"), *db = test_path(live, "store.db");
    autofree char *part = test_path(dir, "copy.db.part");
    test_fill(live, false);
    struct err err;
    struct store *s = try_open(live, &err);
    assert_non_null(s);
    test_write(copy, bytes_str("an older backup"));
    struct stat st;
    assert_int_equal(stat(db, &st), 0);
    int fd = open(db, O_RDWR);
    for (off_t at = 5 * 4096 + 100; at < st.st_size; at += 4096)
        assert_int_equal(pwrite(fd, "????", 4, at), 4);
    assert_int_equal(s->ops->backup(s, copy, &err), -(int)ERR_CORRUPT);
    autobuf struct buf kept = BUF_INIT;
    test_read(copy, &kept);
    assert_string_equal(kept.data, "an older backup");
    assert_false(test_exists(part));
    s->ops->close(s);
    close(fd);
    test_dir_drop(dir);
}

static void inspect_unchanged(const char *dir, const char *what, const char *expected)
{
    autobuf struct buf before = BUF_INIT, after = BUF_INIT, text = BUF_INIT, json = BUF_INIT;
    struct err err = { .code = ERR_OK };
    test_dir_contents(dir, NULL, &before);
    if (store_sqlite_inspect(what, NULL, &text, false, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(store_sqlite_inspect(what, NULL, &json, true, &err), 0);
    test_dir_contents(dir, NULL, &after);
    assert_true(bytes_equal(buf_bytes(&before), buf_bytes(&after)));
    assert_non_null(strstr(text.data, expected));
    assert_non_null(strstr(json.data, "\"not_ended\":24,"));
    assert_non_null(strstr(json.data, "\"succeeded\":96,"));
    assert_non_null(strstr(json.data, "\"attempts\":{\"ended\":96,\"open\":24,\"with_output\":96}"));
}

static void test_inspect(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    autofree char *clean = test_path(dir, "clean"), *crashed = test_path(dir, "crashed"),
                  *db = test_path(clean, "store.db");
    test_fill(clean, false);
    test_fill(crashed, true);
    inspect_unchanged(clean, clean, "jobs          120, of them not ended 24, succeeded 96, failed 0");
    inspect_unchanged(clean, db, "job.ended job=119");
    inspect_unchanged(crashed, crashed, "checks        structure ok, checksums ok, replay ok, views ok");
    struct err err;
    autobuf struct buf out = BUF_INIT;
    autofree char *none = test_path(dir, "none");
    assert_int_equal(store_sqlite_inspect(none, NULL, &out, false, &err), -(int)ERR_NOT_FOUND);
    int fd = open(db, O_RDWR);
    assert_int_equal(pwrite(fd, "????", 4, 7 * 4096 + 50), 4);
    close(fd);
    assert_int_equal(store_sqlite_inspect(clean, NULL, &out, true, &err), -(int)ERR_CORRUPT);
    assert_int_equal(out.size, 0);
    test_dir_drop(dir);
}

static void test_inspect_while_a_master_runs(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    autofree char *live = test_path(dir, "live");
    struct holder h;
    test_fill(live, false);
    hold(&h, live, false);
    autobuf struct buf text = BUF_INIT;
    struct err err;
    if (store_sqlite_inspect(live, NULL, &text, false, &err) < 0)
        fail_msg("%s", err.text);
    assert_non_null(strstr(text.data, "a master has it open"));
    assert_non_null(strstr(text.data, "epoch         2\n")); /* what is in the log only */
    let_go(&h);
    assert_int_equal(open_code(live), ERR_OK);
    test_dir_drop(dir);
}

static void test_reserve(void **state)
{
    (void)state;
    char *dir = test_dir_make();
    struct store_limits limits = { .reserve_bytes = 300000 };
    struct store_events events = { NULL, ignore_commit };
    struct store_stats stats;
    struct stat st;
    struct store *s = store_sqlite_open(NULL, dir, &limits, &events, NULL);
    assert_non_null(s);
    autofree char *path = test_path(dir, "store.reserve");
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size == 300000 && st.st_blocks * 512 >= 300000);
    s->ops->stats(s, &stats);
    assert_false(stats.low);
    assert_true(s->ops->use_reserve(s));
    assert_false(s->ops->use_reserve(s));
    assert_false(test_exists(path));
    s->ops->stats(s, &stats);
    assert_true(stats.low);
    assert_true(s->ops->refill_reserve(s));
    assert_true(s->ops->refill_reserve(s));
    s->ops->stats(s, &stats);
    assert_false(stats.low);
    s->ops->close(s);
    test_dir_drop(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_makes_directories),
        cmocka_unit_test(test_refuses_what_is_no_store),
        cmocka_unit_test(test_refuses_a_cut_store),
        cmocka_unit_test(test_brings_up_a_store_of_version_1),
        cmocka_unit_test(test_refuses_a_lost_log),
        cmocka_unit_test(test_refuses_what_others_have_overtaken),
        cmocka_unit_test(test_room_in_the_log),
        cmocka_unit_test(test_low_descriptors),
        cmocka_unit_test(test_one_opener),
        cmocka_unit_test(test_one_opener_through_a_bind_mount),
        cmocka_unit_test(test_lock_ends_with_its_process),
        cmocka_unit_test(test_snapshot_is_whole_or_refused),
        cmocka_unit_test(test_snapshot_of_another_journal),
        cmocka_unit_test(test_backup),
        cmocka_unit_test(test_backup_of_a_damaged_store),
        cmocka_unit_test(test_inspect),
        cmocka_unit_test(test_inspect_while_a_master_runs),
        cmocka_unit_test(test_reserve),
    };
    int failed = store_conformance(&test_sqlite_world);
    return failed + cmocka_run_group_tests_name("sqlite_own", tests, NULL, NULL);
}
