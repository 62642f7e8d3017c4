#include "worker/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/check.h"
#include "base/mem.h"

#define FILE_NAME "journal"
#define NEW_NAME "journal.new"
#define ENTRY_MARK 0x4a574552u /* "REWJ" */
#define ALLOCATE_BYTES (4u << 20)
/* When entries are unreadable the next valid one is searched for; this much hashing is spent on it at most. */
#define SEARCH_BYTES_MAX (256u << 20)

static const char magic[8] = { 'R', 'O', 'T', 'A', 'W', 'J', '0', '1' };

struct journal {
    int dir;            /* borrowed */
    int fd;
    uint64_t end;       /* where the next entry goes */
    uint64_t allocated; /* room up to here is ours, as far as the file system can say */
    uint64_t next_seq;
    bool low;
    struct buf out;     /* entries of one append */
};

static void put_u32(char *to, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        to[i] = (char)(v >> (8 * i));
}

static void put_u64(char *to, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        to[i] = (char)(v >> (8 * i));
}

static uint64_t get_le(const char *from, int bytes)
{
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++)
        v |= (uint64_t)(uint8_t)from[i] << (8 * i);
    return v;
}

static uint64_t entry_hash(const void *record, size_t size)
{
    return XXH3_64bits_withSeed(record, size, size);
}

static void add_entry(struct buf *out, const struct record *r)
{
    static const char blank[JOURNAL_ENTRY_BYTES];
    size_t start = out->size;
    buf_add(out, blank, sizeof blank);
    record_encode(out, r);
    char *entry = out->data + start;
    size_t size = out->size - start - JOURNAL_ENTRY_BYTES;
    put_u32(entry, ENTRY_MARK);
    put_u32(entry + 4, (uint32_t)size);
    put_u64(entry + 8, entry_hash(entry + JOURNAL_ENTRY_BYTES, size));
}

static void make_header(char out[JOURNAL_HEADER_BYTES], uint64_t next_seq, uint64_t snapshot_records)
{
    memcpy(out, magic, sizeof magic);
    put_u64(out + 8, next_seq);
    put_u64(out + 16, snapshot_records);
    put_u64(out + 24, entry_hash(out, 24));
}

/* --- reading --- */

/* The entry at `at` if it is whole and true: its size in the file, else 0. */
static size_t read_entry(struct bytes file, size_t at, uint64_t *search_left, struct record *out)
{
    if (file.size - at <= JOURNAL_ENTRY_BYTES)
        return 0;
    const char *entry = file.data + at;
    size_t size = get_le(entry + 4, 4);
    if (get_le(entry, 4) != ENTRY_MARK || size == 0 || size > RECORD_BYTES_MAX + 10 ||
        size > file.size - at - JOURNAL_ENTRY_BYTES)
        return 0;
    if (search_left) {
        if (*search_left < size) {
            *search_left = 0;
            return 0;
        }
        *search_left -= size;
    }
    if (get_le(entry + 8, 8) != entry_hash(entry + JOURNAL_ENTRY_BYTES, size))
        return 0;
    const uint8_t *body = (const uint8_t *)entry + JOURNAL_ENTRY_BYTES, *end = body + size;
    if (record_decode(&body, end, out, NULL) < 0 || body != end || out->seq == UINT64_MAX)
        return 0;
    return JOURNAL_ENTRY_BYTES + size;
}

static size_t find_entry(struct bytes file, size_t at, uint64_t *search_left, struct record *out)
{
    static const char first = (char)(ENTRY_MARK & 0xff);
    while (at < file.size && *search_left) {
        const char *hit = memchr(file.data + at, first, file.size - at);
        if (!hit)
            break;
        at = (size_t)(hit - file.data);
        if (read_entry(file, at, search_left, out))
            return at;
        at++;
    }
    return file.size;
}

static bool read_header(struct bytes file, uint64_t *next_seq, uint64_t *snapshot_records)
{
    if (file.size < JOURNAL_HEADER_BYTES || memcmp(file.data, magic, sizeof magic) != 0 ||
        get_le(file.data + 24, 8) != entry_hash(file.data, 24))
        return false;
    *next_seq = get_le(file.data + 8, 8);
    *snapshot_records = get_le(file.data + 16, 8);
    return *next_seq > 0;
}

/* Holds a record against what must come next; false: it stands for the second time. */
static bool in_order(struct journal_scan *scan, const struct record *r, uint64_t *snapshot_left)
{
    if (r->seq == 0) {
        if (*snapshot_left)
            (*snapshot_left)--;
        else
            scan->missing++;
        return true;
    }
    scan->missing += *snapshot_left;
    *snapshot_left = 0;
    if (scan->next_seq && r->seq < scan->next_seq) {
        scan->missing++;
        return false;
    }
    if (scan->next_seq)
        scan->missing += r->seq - scan->next_seq;
    scan->next_seq = r->seq + 1;
    return true;
}

void journal_scan(struct bytes file, journal_visit *visit, void *arg, struct journal_scan *out)
{
    *out = (struct journal_scan){ 0 };
    uint64_t snapshot_left = 0, search_left = SEARCH_BYTES_MAX;
    size_t at = JOURNAL_HEADER_BYTES;
    if (!read_header(file, &out->next_seq, &snapshot_left)) {
        out->damaged = true;
        at = 0;
    } else {
        out->end = at;
    }
    while (at < file.size) {
        struct record r;
        size_t size = read_entry(file, at, NULL, &r);
        if (!size) {
            at = find_entry(file, at + 1, &search_left, &r);
            if (at == file.size)
                break;
            out->damaged_bytes += at - out->end;
            size = read_entry(file, at, NULL, &r);
        }
        at += size;
        out->end = at;
        if (!in_order(out, &r, &snapshot_left))
            continue;
        out->records++;
        if (visit)
            visit(arg, &r);
    }
    out->missing += snapshot_left;
    out->torn_bytes = file.size - out->end;
    /* Whoever gave up the search does not know that nothing valid follows. */
    out->damaged |= out->damaged_bytes || out->missing || !search_left;
    if (!out->next_seq)
        out->next_seq = 1;
}

int journal_load(int dir, struct buf *file, struct err *err)
{
    autoclose int fd = openat(dir, FILE_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        return err_set(err, ERR_NOT_FOUND, "there is no journal");
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(err, "open the journal");
    if (!S_ISREG(st.st_mode) || st.st_size > (off_t)JOURNAL_FILE_MAX)
        return err_set(err, ERR_TOO_LARGE, "the journal is no file or larger than it can be");
    buf_clear(file);
    buf_reserve(file, (size_t)st.st_size);
    while (file->size < (size_t)st.st_size) {
        ssize_t n = read(fd, file->data + file->size, (size_t)st.st_size - file->size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, "read the journal");
        if (n == 0)
            break;
        file->size += (size_t)n;
    }
    if (file->data)
        file->data[file->size] = 0;
    return 0;
}

/* --- writing --- */

void journal_snapshot_add(struct journal_snapshot *s, const struct record *r)
{
    struct record copy = *r;
    copy.seq = 0;
    add_entry(&s->bytes, &copy);
    s->records++;
}

void journal_snapshot_fini(struct journal_snapshot *s)
{
    buf_fini(&s->bytes);
    s->records = 0;
}

static int write_all(int fd, const char *data, size_t size, uint64_t at)
{
    while (size) {
        ssize_t n = pwrite(fd, data, size, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        data += n;
        size -= (size_t)n;
        at += (uint64_t)n;
    }
    return 0;
}

/* Keeps room behind the end. A file system without fallocate promises nothing, and is not asked again. */
static void keep_room(struct journal *j, size_t more)
{
    if (j->end + more + JOURNAL_RESERVE_BYTES <= j->allocated && !j->low)
        return;
    uint64_t want = j->end + more + JOURNAL_RESERVE_BYTES + ALLOCATE_BYTES;
    if (fallocate(j->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)want) == 0) {
        j->allocated = want;
        j->low = false;
    } else if (errno == EOPNOTSUPP || errno == ENOSYS) {
        j->allocated = UINT64_MAX;
    } else if (errno != EINTR) {
        j->low = true;
    }
}

static struct journal *journal_new(int dir, int fd, uint64_t end, uint64_t next_seq)
{
    struct journal *j = mem_zero(1, sizeof *j);
    *j = (struct journal){ .dir = dir, .fd = fd, .end = end, .allocated = end, .next_seq = next_seq };
    keep_room(j, 0);
    return j;
}

struct journal *journal_open(int dir, const struct journal_scan *scan, struct err *err)
{
    check(!scan->damaged);
    int fd = openat(dir, FILE_NAME, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        err_errno(err, "open the journal");
        return NULL;
    }
    if (scan->torn_bytes && (ftruncate(fd, (off_t)scan->end) < 0 || fdatasync(fd) < 0)) {
        err_errno(err, "cut the torn end of the journal");
        close(fd);
        return NULL;
    }
    return journal_new(dir, fd, scan->end, scan->next_seq);
}

/* Writes the whole new journal beside the old one. Returns its fd, synced, or -1. */
static int write_new(int dir, const struct journal_snapshot *s, uint64_t next_seq, uint64_t *end, struct err *err)
{
    int fd = openat(dir, NEW_NAME, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        err_errno(err, "create the new journal");
        return -1;
    }
    char header[JOURNAL_HEADER_BYTES];
    make_header(header, next_seq, s->records);
    *end = sizeof header + s->bytes.size;
    if (write_all(fd, header, sizeof header, 0) < 0 ||
        write_all(fd, s->bytes.data, s->bytes.size, sizeof header) < 0) {
        err_errno(err, "write the new journal");
        unlinkat(dir, NEW_NAME, 0);
    } else if (fsync(fd) < 0) {
        err_errno(err, "sync the new journal");
        if (err && err->code == ERR_NO_SPACE)
            err->code = ERR_IO; /* The kernel may have dropped what it could not write: no second try. */
    } else {
        return fd;
    }
    close(fd);
    return -1;
}

static int put_in_place(int dir, struct err *err)
{
    if (renameat(dir, NEW_NAME, dir, FILE_NAME) < 0)
        return err_errno(err, "put the new journal in place");
    if (fsync(dir) < 0)
        return err_errno(err, "sync the state directory");
    return 0;
}

struct journal *journal_create(int dir, const struct journal_snapshot *s, uint64_t next_seq, const char *keep_damaged,
                               struct err *err)
{
    uint64_t end;
    int fd = write_new(dir, s, next_seq, &end, err);
    if (fd < 0)
        return NULL;
    if (keep_damaged && linkat(dir, FILE_NAME, dir, keep_damaged, 0) < 0 && errno != EEXIST && errno != ENOENT) {
        err_errno(err, "keep the damaged journal");
        close(fd);
        return NULL;
    }
    if (put_in_place(dir, err) < 0) {
        close(fd);
        return NULL;
    }
    return journal_new(dir, fd, end, next_seq);
}

int journal_replace(struct journal *j, const struct journal_snapshot *s, uint64_t next_seq, struct err *err)
{
    uint64_t end;
    struct err why = { 0 };
    int fd = write_new(j->dir, s, next_seq, &end, &why);
    if (fd < 0) {
        if (err)
            *err = why;
        return -(int)why.code;
    }
    if (put_in_place(j->dir, &why) < 0) {
        if (err)
            *err = why;
        if (err && err->code == ERR_NO_SPACE)
            err->code = ERR_IO;
        close(fd);
        return -(int)(why.code == ERR_NO_SPACE ? ERR_IO : why.code);
    }
    close(j->fd);
    j->fd = fd;
    j->end = j->allocated = end;
    j->next_seq = next_seq;
    keep_room(j, 0);
    return 0;
}

void journal_close(struct journal *j)
{
    if (!j)
        return;
    close(j->fd);
    buf_fini(&j->out);
    free(j);
}

int journal_append(struct journal *j, const struct record *records, size_t count, struct err *err)
{
    buf_clear(&j->out);
    for (size_t i = 0; i < count; i++) {
        check(records[i].seq == j->next_seq + i);
        add_entry(&j->out, &records[i]);
    }
    keep_room(j, j->out.size);
    if (write_all(j->fd, j->out.data, j->out.size, j->end) < 0)
        return err_errno(err, "append to the journal");
    if (fdatasync(j->fd) < 0)
        return err_errno(err, "sync the journal");
    j->end += j->out.size;
    j->next_seq += count;
    return 0;
}

uint64_t journal_bytes(const struct journal *j)
{
    return j->end;
}

bool journal_low(const struct journal *j)
{
    return j->low;
}
