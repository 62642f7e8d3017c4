#include "worker/journal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/prng.h"

/* --- faults: the calls that change the disk go through here (linker option --wrap; with 64-bit offsets some have other names) --- */

static int calls_left = -1; /* -1: no fault; else so many calls succeed and then the process dies, or the call fails */
static int fail_errno;      /* 0: die */

static bool fault(void)
{
    if (calls_left < 0 || calls_left-- > 0)
        return false;
    if (!fail_errno)
        _exit(42);
    errno = fail_errno;
    return true;
}

ssize_t __real_pwrite64(int fd, const void *data, size_t size, off_t at);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t size, off_t at);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t size, off_t at)
{
    if (calls_left == 0 && !fail_errno && size > 1) /* The worst kind of death: half of it is written. */
        (void)!__real_pwrite64(fd, data, size / 2, at);
    return fault() ? -1 : __real_pwrite64(fd, data, size, at);
}

#define WRAP(name, args, call)                                                                                         \
    int __real_##name args;                                                                                            \
    int __wrap_##name args;                                                                                            \
    int __wrap_##name args                                                                                             \
    {                                                                                                                  \
        return fault() ? -1 : __real_##name call;                                                                      \
    }
WRAP(fsync, (int fd), (fd))
WRAP(fdatasync, (int fd), (fd))
WRAP(ftruncate64, (int fd, off_t size), (fd, size))
WRAP(renameat, (int d, const char *from, int e, const char *to), (d, from, e, to))
WRAP(linkat, (int d, const char *from, int e, const char *to, int flags), (d, from, e, to, flags))
WRAP(unlinkat, (int d, const char *path, int flags), (d, path, flags))

static bool no_room; /* fallocate says the disk is full */

int __real_fallocate64(int fd, int mode, off_t at, off_t size);
int __wrap_fallocate64(int fd, int mode, off_t at, off_t size);
int __wrap_fallocate64(int fd, int mode, off_t at, off_t size)
{
    if (!no_room)
        return __real_fallocate64(fd, mode, at, size);
    errno = ENOSPC;
    return -1;
}

/* --- fixture --- */

struct fixture {
    char path[64];
    int dir;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    snprintf(f->path, sizeof f->path, "/tmp/rota-journal-XXXXXX");
    assert_non_null(mkdtemp(f->path));
    f->dir = open(f->path, O_RDONLY | O_DIRECTORY);
    assert_true(f->dir >= 0);
    *state = f;
    return 0;
}

static void empty_directory(struct fixture *f)
{
    DIR *d = opendir(f->path);
    struct dirent *entry;
    while ((entry = readdir(d)))
        if (entry->d_name[0] != '.')
            unlinkat(f->dir, entry->d_name, 0);
    closedir(d);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    calls_left = -1;
    no_room = false;
    empty_directory(f);
    close(f->dir);
    rmdir(f->path);
    free(f);
    return 0;
}

static struct record identity(uint64_t incarnation)
{
    struct record r = { .kind = EV_W_IDENTITY };
    r.w_identity.worker_high = 7;
    r.w_identity.incarnation = incarnation;
    r.w_identity.boot = bytes_str("boot");
    return r;
}

static struct record accepted(uint64_t seq, uint64_t job)
{
    struct record r = { .kind = EV_W_ACCEPTED, .seq = seq };
    r.w_accepted.job = job;
    r.w_accepted.task = TASK_SINGLE;
    r.w_accepted.attempt = 1;
    r.w_accepted.spec = bytes_str("a spec of some length, so that entries differ");
    return r;
}

static struct record acked(uint64_t seq, uint64_t job)
{
    struct record r = { .kind = EV_W_ACKED, .seq = seq };
    r.w_acked.job = job;
    r.w_acked.task = TASK_SINGLE;
    r.w_acked.attempt = 1;
    return r;
}

/* What a scan found: kinds and jobs in order. */
struct story {
    struct buf text;
};

static void tell(void *arg, const struct record *r)
{
    struct story *s = arg;
    struct record_subject subject = record_subject(r);
    buf_printf(&s->text, "%s:%" PRIu64 ":%" PRIu64 " ", event_name(r->kind), r->seq, subject.job.n);
}

static struct journal_scan scan_file(struct fixture *f, struct story *story)
{
    struct buf file = BUF_INIT;
    struct journal_scan scan;
    struct err err = { 0 };
    assert_int_equal(journal_load(f->dir, &file, &err), 0);
    buf_clear(&story->text);
    buf_str(&story->text, "");
    journal_scan(buf_bytes(&file), tell, story, &scan);
    buf_fini(&file);
    return scan;
}

static struct journal *create(struct fixture *f)
{
    struct journal_snapshot s = { .bytes = BUF_INIT };
    struct record r = identity(1);
    struct err err = { 0 };
    journal_snapshot_add(&s, &r);
    struct journal *j = journal_create(f->dir, &s, 1, NULL, &err);
    journal_snapshot_fini(&s);
    assert_non_null(j);
    return j;
}

static void append_jobs(struct journal *j, uint64_t first, size_t count)
{
    struct err err = { 0 };
    struct record records[8];
    for (size_t i = 0; i < count; i++)
        records[i] = accepted(first + i, 100 + first + i);
    assert_int_equal(journal_append(j, records, count, &err), 0);
}

/* --- tests --- */

static void reads_what_was_written(void **state)
{
    struct fixture *f = *state;
    struct story story = { BUF_INIT };
    struct buf file = BUF_INIT;
    struct err err = { 0 };
    assert_int_equal(journal_load(f->dir, &file, &err), -ERR_NOT_FOUND);
    struct journal *j = create(f);
    append_jobs(j, 1, 2);
    append_jobs(j, 3, 1);
    journal_close(j);
    struct journal_scan scan = scan_file(f, &story);
    assert_string_equal(story.text.data, "worker.identity:0:0 worker.accepted:1:101 worker.accepted:2:102 worker.accepted:3:103 ");
    assert_false(scan.damaged);
    assert_int_equal(scan.torn_bytes, 0);
    assert_int_equal(scan.next_seq, 4);
    assert_int_equal(scan.records, 4);

    j = journal_open(f->dir, &scan, &err);
    assert_non_null(j);
    append_jobs(j, 4, 1);
    journal_close(j);
    scan = scan_file(f, &story);
    assert_int_equal(scan.records, 5);
    assert_int_equal(scan.next_seq, 5);
    buf_fini(&story.text);
    buf_fini(&file);
}

static void write_file(struct fixture *f, const char *data, size_t size)
{
    int fd = openat(f->dir, "journal", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size), (ssize_t)size);
    close(fd);
}

/* Sizes of the file after each append, to know what must survive a cut. */
static void cut_at_every_byte(void **state)
{
    struct fixture *f = *state;
    struct story story = { BUF_INIT };
    struct err err = { 0 };
    uint64_t ends[6];
    struct journal *j = create(f);
    ends[0] = journal_bytes(j);
    for (uint64_t i = 1; i <= 5; i++) {
        append_jobs(j, i, 1);
        ends[i] = journal_bytes(j);
    }
    journal_close(j);
    struct buf whole = BUF_INIT;
    assert_int_equal(journal_load(f->dir, &whole, &err), 0);
    assert_int_equal(whole.size, ends[5]);
    for (size_t size = ends[0]; size <= whole.size; size++) {
        write_file(f, whole.data, size);
        struct journal_scan scan = scan_file(f, &story);
        uint64_t kept = 0;
        while (kept < 5 && ends[kept + 1] <= size)
            kept++;
        assert_false(scan.damaged);
        assert_int_equal(scan.records, kept + 1);
        assert_int_equal(scan.end, ends[kept]);
        assert_int_equal(scan.torn_bytes, size - ends[kept]);
        j = journal_open(f->dir, &scan, &err);
        assert_non_null(j);
        append_jobs(j, kept + 1, 1);
        journal_close(j);
        scan = scan_file(f, &story);
        assert_false(scan.damaged);
        assert_int_equal(scan.torn_bytes, 0);
        assert_int_equal(scan.records, kept + 2);
    }
    /* A tail of zeros, as a file system leaves behind room that was never written. */
    buf_reserve(&whole, 4096);
    memset(whole.data + whole.size, 0, 4096);
    write_file(f, whole.data, whole.size + 4096);
    struct journal_scan scan = scan_file(f, &story);
    assert_false(scan.damaged);
    assert_int_equal(scan.torn_bytes, 4096);
    assert_int_equal(scan.records, 6);
    /* Cut inside the header or the snapshot, which were synced before they got their name: damage. */
    for (size_t size = 0; size < ends[0]; size++) {
        write_file(f, whole.data, size);
        scan = scan_file(f, &story);
        assert_true(scan.damaged);
    }
    buf_fini(&whole);
    buf_fini(&story.text);
}

static void flip_every_byte(void **state)
{
    struct fixture *f = *state;
    struct story story = { BUF_INIT };
    struct err err = { 0 };
    struct journal *j = create(f);
    uint64_t before_last = 0;
    for (uint64_t i = 1; i <= 5; i++) {
        before_last = journal_bytes(j);
        append_jobs(j, i, 1);
    }
    journal_close(j);
    struct buf whole = BUF_INIT;
    assert_int_equal(journal_load(f->dir, &whole, &err), 0);
    for (size_t at = 0; at < whole.size; at++)
        for (int bit = 0; bit < 8; bit++) {
            whole.data[at] ^= (char)(1 << bit);
            struct journal_scan scan;
            buf_clear(&story.text);
            journal_scan(buf_bytes(&whole), tell, &story, &scan);
            /* One entry is lost at most, and it is noticed. In the last one it looks like a torn end. */
            assert_true(scan.records >= 5);
            if (at < before_last)
                assert_true(scan.damaged);
            else
                assert_int_equal(scan.torn_bytes, whole.size - before_last);
            whole.data[at] ^= (char)(1 << bit);
        }
    buf_fini(&whole);
    buf_fini(&story.text);
}

static void a_hole_keeps_both_sides(void **state)
{
    struct fixture *f = *state;
    struct story story = { BUF_INIT };
    struct err err = { 0 };
    struct journal *j = create(f);
    append_jobs(j, 1, 1);
    uint64_t hole = journal_bytes(j);
    append_jobs(j, 2, 2);
    uint64_t hole_end = journal_bytes(j);
    append_jobs(j, 4, 2);
    journal_close(j);
    struct buf whole = BUF_INIT;
    assert_int_equal(journal_load(f->dir, &whole, &err), 0);
    memset(whole.data + hole, 'R', hole_end - hole); /* 'R' begins an entry's mark: the search stops at each. */
    write_file(f, whole.data, whole.size);
    struct journal_scan scan = scan_file(f, &story);
    assert_string_equal(story.text.data, "worker.identity:0:0 worker.accepted:1:101 worker.accepted:4:104 worker.accepted:5:105 ");
    assert_true(scan.damaged);
    assert_int_equal(scan.missing, 2);
    assert_int_equal(scan.damaged_bytes, hole_end - hole);
    assert_int_equal(scan.next_seq, 6);

    /* It is put aside whole, and the new one begins with what is known. */
    struct journal_snapshot s = { .bytes = BUF_INIT };
    struct record r = identity(2);
    journal_snapshot_add(&s, &r);
    j = journal_create(f->dir, &s, scan.next_seq, "journal.damaged-2", &err);
    assert_non_null(j);
    append_jobs(j, 6, 1);
    journal_close(j);
    journal_snapshot_fini(&s);
    scan = scan_file(f, &story);
    assert_false(scan.damaged);
    assert_string_equal(story.text.data, "worker.identity:0:0 worker.accepted:6:106 ");
    struct stat st;
    assert_int_equal(fstatat(f->dir, "journal.damaged-2", &st, 0), 0);
    assert_int_equal(st.st_size, whole.size);
    buf_fini(&whole);
    buf_fini(&story.text);
}

static void a_block_written_twice_counts_once(void **state)
{
    struct fixture *f = *state;
    struct story story = { BUF_INIT };
    struct err err = { 0 };
    struct journal *j = create(f);
    append_jobs(j, 1, 1);
    uint64_t from = journal_bytes(j);
    append_jobs(j, 2, 1);
    journal_close(j);
    struct buf whole = BUF_INIT;
    assert_int_equal(journal_load(f->dir, &whole, &err), 0);
    struct buf twice = BUF_INIT;
    buf_add(&twice, whole.data, whole.size);
    buf_add(&twice, whole.data + from, whole.size - from);
    write_file(f, twice.data, twice.size);
    struct journal_scan scan = scan_file(f, &story);
    assert_string_equal(story.text.data, "worker.identity:0:0 worker.accepted:1:101 worker.accepted:2:102 ");
    assert_true(scan.damaged);
    buf_fini(&whole);
    buf_fini(&twice);
    buf_fini(&story.text);
}

static void sizes_that_lie_are_refused(void **state)
{
    (void)state;
    struct journal_scan scan;
    struct buf file = BUF_INIT;
    static const char mark[] = { 'R', 'E', 'W', 'J' };
    for (int i = 0; i < 20000; i++) { /* Each is the start of an entry that claims nearly all that follows. */
        uint32_t size = (uint32_t)(20000 - i) * 8;
        buf_add(&file, mark, sizeof mark);
        buf_add(&file, &size, sizeof size);
    }
    journal_scan(buf_bytes(&file), NULL, NULL, &scan);
    assert_true(scan.damaged);
    assert_int_equal(scan.records, 0);
    buf_fini(&file);
}

/* The process dies at the k-th call of a replacement: then the journal is the old one or the new one, whole. */
static void replacement_survives_death_at_every_call(void **state)
{
    struct fixture *f = *state;
    struct story story = { BUF_INIT };
    int died = 0;
    for (int k = 0;; k++) {
        empty_directory(f);
        struct journal *j = create(f);
        append_jobs(j, 1, 3);
        struct journal_snapshot s = { .bytes = BUF_INIT };
        struct record r = identity(1), live = accepted(0, 103);
        journal_snapshot_add(&s, &r);
        journal_snapshot_add(&s, &live);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            struct err err;
            calls_left = k;
            fail_errno = 0;
            int rc = journal_replace(j, &s, 4, &err);
            calls_left = -1;
            struct record more = acked(4, 103);
            rc |= journal_append(j, &more, 1, &err);
            _exit(rc ? 1 : 0);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && (WEXITSTATUS(status) == 42 || WEXITSTATUS(status) == 0));
        struct journal_scan scan = scan_file(f, &story);
        assert_false(scan.damaged);
        assert_int_equal(scan.torn_bytes, 0);
        if (WEXITSTATUS(status) == 0) {
            assert_string_equal(story.text.data, "worker.identity:0:0 worker.accepted:0:103 worker.acked:4:103 ");
            assert_int_equal(scan.next_seq, 5);
        } else if (scan.records == 4) {
            assert_string_equal(story.text.data, "worker.identity:0:0 worker.accepted:1:101 worker.accepted:2:102 worker.accepted:3:103 ");
        } else {
            assert_string_equal(story.text.data, "worker.identity:0:0 worker.accepted:0:103 ");
        }
        assert_int_equal(scan.next_seq, WEXITSTATUS(status) == 0 ? 5 : 4);
        journal_close(j);
        journal_snapshot_fini(&s);
        if (WEXITSTATUS(status) == 0)
            break;
        died++;
        /* And a worker that starts over it goes on as if nothing had been. */
        struct err err;
        j = journal_open(f->dir, &scan, &err);
        assert_non_null(j);
        append_jobs(j, 4, 1);
        journal_close(j);
        scan = scan_file(f, &story);
        assert_false(scan.damaged);
    }
    assert_true(died >= 5); /* two writes, fsync, rename, fsync of the directory */
    buf_fini(&story.text);
}

static void full_disk_keeps_the_old_journal(void **state)
{
    struct fixture *f = *state;
    struct story story = { BUF_INIT };
    struct err err = { 0 };
    for (int k = 0; k < 2; k++) {
        empty_directory(f);
        struct journal *j = create(f);
        append_jobs(j, 1, 3);
        struct journal_snapshot s = { .bytes = BUF_INIT };
        struct record r = identity(1);
        journal_snapshot_add(&s, &r);
        calls_left = k;
        fail_errno = ENOSPC;
        assert_int_equal(journal_replace(j, &s, 4, &err), -ERR_NO_SPACE);
        calls_left = -1;
        append_jobs(j, 4, 1);
        journal_close(j);
        journal_snapshot_fini(&s);
        struct journal_scan scan = scan_file(f, &story);
        assert_false(scan.damaged);
        assert_int_equal(scan.records, 5);
        struct stat st;
        assert_int_equal(fstatat(f->dir, "journal.new", &st, 0), -1);
    }
    buf_fini(&story.text);
}

static void errors_of_the_disk_are_told(void **state)
{
    struct fixture *f = *state;
    struct err err = { 0 };
    for (int k = 0; k < 2; k++) {
        empty_directory(f);
        struct journal *j = create(f);
        struct record r = accepted(1, 1);
        calls_left = k;
        fail_errno = EIO;
        assert_int_equal(journal_append(j, &r, 1, &err), -ERR_IO);
        calls_left = -1;
        journal_close(j);
    }
    /* A sync that failed for want of space is no "try again": pages may be gone. */
    empty_directory(f);
    struct journal *j = create(f);
    struct journal_snapshot s = { .bytes = BUF_INIT };
    struct record r = identity(1);
    journal_snapshot_add(&s, &r);
    calls_left = 2;
    fail_errno = ENOSPC;
    assert_int_equal(journal_replace(j, &s, 1, &err), -ERR_IO);
    calls_left = -1;
    journal_close(j);
    journal_snapshot_fini(&s);
}

static void room_is_kept_and_its_lack_is_told(void **state)
{
    struct fixture *f = *state;
    struct journal *j = create(f);
    append_jobs(j, 1, 1);
    assert_false(journal_low(j));
    struct stat st;
    assert_int_equal(fstatat(f->dir, "journal", &st, 0), 0);
    assert_int_equal(st.st_size, journal_bytes(j));
    assert_true((uint64_t)st.st_blocks * 512 >= JOURNAL_RESERVE_BYTES);
    no_room = true;
    uint64_t seq = 2;
    while (!journal_low(j)) { /* Until the room got at the start is used up to the reserve. */
        append_jobs(j, seq, 8);
        seq += 8;
        assert_true(seq < 1000000);
    }
    append_jobs(j, seq, 8); /* Ends of attempts still fit. */
    seq += 8;
    no_room = false;
    append_jobs(j, seq, 1);
    assert_false(journal_low(j));
    journal_close(j);
}

static void a_link_is_no_journal(void **state)
{
    struct fixture *f = *state;
    struct buf file = BUF_INIT;
    struct err err = { 0 };
    assert_int_equal(symlinkat("/etc/passwd", f->dir, "journal"), 0);
    assert_int_equal(journal_load(f->dir, &file, &err), -ERR_IO);
    buf_fini(&file);
}

static void random_damage_never_crashes(void **state)
{
    struct fixture *f = *state;
    struct err err = { 0 };
    struct journal *j = create(f);
    for (uint64_t i = 0; i < 10; i++)
        append_jobs(j, 1 + 5 * i, 5);
    journal_close(j);
    struct buf whole = BUF_INIT;
    assert_int_equal(journal_load(f->dir, &whole, &err), 0);
    struct prng prng;
    prng_seed(&prng, 1);
    for (int round = 0; round < 2000; round++) {
        struct buf copy = BUF_INIT;
        buf_add(&copy, whole.data, whole.size);
        for (uint64_t n = prng_below(&prng, 20) + 1; n; n--) {
            size_t at = prng_below(&prng, copy.size);
            if (prng_chance(&prng, 0.5))
                copy.data[at] = (char)prng_u64(&prng);
            else
                copy.size = prng_chance(&prng, 0.1) ? at + 1 : copy.size;
        }
        struct journal_scan scan;
        journal_scan(buf_bytes(&copy), NULL, NULL, &scan);
        assert_true(scan.records <= 51 && scan.end <= copy.size && scan.end + scan.torn_bytes == copy.size);
        buf_fini(&copy);
    }
    buf_fini(&whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(reads_what_was_written),
        T(cut_at_every_byte),
        T(flip_every_byte),
        T(a_hole_keeps_both_sides),
        T(a_block_written_twice_counts_once),
        T(sizes_that_lie_are_refused),
        T(replacement_survives_death_at_every_call),
        T(full_disk_keeps_the_old_journal),
        T(errors_of_the_disk_are_told),
        T(room_is_kept_and_its_lack_is_told),
        T(a_link_is_no_journal),
        T(random_damage_never_crashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
