#include "store/store_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <xxhash.h>

#include "base/buf.h"
#include "base/mem.h"

#define LOCK_NAME "store.lock"
/* Far behind any page: SQLite locks bytes around 1 GiB, and a store never grows this long. */
#define DATABASE_LOCK_BYTE ((off_t)0x7fffffffffff0000)

struct lock_note { /* the contents of store.lock; read and written whole */
    char magic[8];
    uint64_t pid;
    uint64_t seq;
    uint64_t epoch;
    uint64_t sum;
};
static const char lock_magic[8] = "rotalck2";

struct store_lock {
    int fd, database_fd;
    struct lock_note note;
    bool used;
};

static uint64_t note_sum(const struct lock_note *n)
{
    return XXH3_64bits(n, offsetof(struct lock_note, sum));
}

static bool note_read(int fd, struct lock_note *out)
{
    if (pread(fd, out, sizeof *out, 0) != sizeof *out || memcmp(out->magic, lock_magic, sizeof lock_magic) != 0 ||
        out->sum != note_sum(out)) {
        *out = (struct lock_note){ .pid = 0 };
        memcpy(out->magic, lock_magic, sizeof lock_magic);
        return false;
    }
    return true;
}

static void note_write(struct store_lock *l)
{
    l->note.sum = note_sum(&l->note);
    /* A failure leaves an older number, which is allowed. */
    if (pwrite(l->fd, &l->note, sizeof l->note, 0) < 0)
        return;
}

static int take(int fd, off_t at, const char *what, uint64_t holder, struct err *err)
{
    struct flock range = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1 };
    if (fcntl(fd, F_OFD_SETLK, &range) == 0)
        return 0;
    if (errno != EAGAIN && errno != EACCES)
        return err_errno(err, "lock %s", what);
    if (holder)
        return err_set(err, ERR_LOCKED, "%s is in use by process %" PRIu64, what, holder);
    return err_set(err, ERR_LOCKED, "%s is in use by another process", what);
}

struct store_lock *store_lock_new(const char *dir, struct err *err)
{
    autobuf struct buf path = BUF_INIT;
    buf_printf(&path, "%s/" LOCK_NAME, dir);
    int fd = open(path.data, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        err_errno(err, "open %s", path.data);
        return NULL;
    }
    struct store_lock *l = mem_zero(1, sizeof *l);
    l->fd = fd;
    l->database_fd = -1;
    struct stat st;
    l->used = fstat(fd, &st) == 0 && st.st_size > 0;
    note_read(fd, &l->note);
    if (take(fd, 0, dir, l->note.pid, err) < 0) {
        store_lock_free(l);
        return NULL;
    }
    note_read(fd, &l->note); /* Once more: until now somebody else may have written it. */
    return l;
}

void store_lock_free(struct store_lock *l)
{
    if (!l)
        return;
    if (l->database_fd >= 0)
        close(l->database_fd);
    close(l->fd);
    free(l);
}

int store_lock_database(struct store_lock *l, const char *path, struct err *err)
{
    l->database_fd = open(path, O_RDWR | O_CLOEXEC);
    if (l->database_fd < 0)
        return err_errno(err, "open %s", path);
    struct stat st;
    if (fstat(l->database_fd, &st) < 0)
        return err_errno(err, "stat %s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_CORRUPT, "%s is no regular file", path);
    int rc = take(l->database_fd, DATABASE_LOCK_BYTE, path, 0, err);
    if (rc < 0)
        return rc;
    /* The log is found by the name of the database: opened under its other name the file would be read without it. */
    if (st.st_nlink != 1)
        return err_field(
            err, ERR_CORRUPT, NULL, "remove the other name of the file, or copy the store with `rota backup`",
            "%s has %ju names (hard links), and its log belongs to only one of them", path, (uintmax_t)st.st_nlink);
    l->note.pid = (uint64_t)getpid();
    note_write(l);
    return 0;
}

int store_lock_database_fd(const struct store_lock *l)
{
    return l->database_fd;
}

bool store_lock_used(const struct store_lock *l)
{
    return l->used;
}

uint64_t store_lock_seq(const struct store_lock *l)
{
    return l->note.seq;
}

void store_lock_set_seq(struct store_lock *l, uint64_t seq)
{
    l->note.seq = seq;
    note_write(l);
}

uint64_t store_lock_epoch(const struct store_lock *l)
{
    return l->note.epoch;
}

void store_lock_set_epoch(struct store_lock *l, uint64_t epoch)
{
    l->note.epoch = epoch;
    note_write(l);
}

bool store_lock_held(const char *dir)
{
    autobuf struct buf path = BUF_INIT;
    buf_printf(&path, "%s/" LOCK_NAME, dir);
    autoclose int fd = open(path.data, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct flock range = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };
    return fd >= 0 && fcntl(fd, F_OFD_GETLK, &range) == 0 && range.l_type != F_UNLCK;
}

bool store_reserve_full(const struct store_reserve *r)
{
    struct stat st;
    return r->bytes && stat(r->path, &st) == 0 && (uint64_t)st.st_size >= r->bytes;
}

bool store_reserve_use(struct store_reserve *r)
{
    return r->bytes && unlink(r->path) == 0;
}

bool store_reserve_fill(struct store_reserve *r)
{
    if (!r->bytes || store_reserve_full(r))
        return true;
    unlink(r->path); /* One of another size, or half a one. */
    autoclose int fd = open(r->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return false;
    struct statvfs fs;
    if (fstatvfs(fd, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize >= 2 * r->bytes &&
        posix_fallocate(fd, 0, (off_t)r->bytes) == 0)
        return true;
    unlink(r->path);
    return false;
}
