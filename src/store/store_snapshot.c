#include "store/store_snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "base/mem.h"

#define PIECE_MAX (4u << 20) /* larger ones are damage */
#define WRITE_BYTES (256u << 10)

struct head {
    char magic[8];
    uint8_t cluster[16];
    uint64_t seq;
    uint64_t chunk_seq, chunk_sum; /* of the chunk that ends with record seq */
    uint64_t sum;                  /* of the above */
};
static const char magic[8] = "rotasnp1";

struct piece_head {
    uint64_t size; /* 0: the end; then sum is over how many there were */
    uint64_t sum;
};

static uint64_t head_sum(const struct head *h)
{
    return XXH3_64bits(h, offsetof(struct head, sum));
}

/* Of the piece in its place in this very file. */
static uint64_t piece_sum(const struct head *h, uint64_t place, struct bytes piece)
{
    return store_sum(h->sum + place * 0x9e3779b97f4a7c15u, &piece, 1);
}

/* The chunk that ends with record seq. */
static int find_chunk(sqlite3 *db, uint64_t seq, uint64_t *first, uint64_t *sum, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(
        db, "SELECT first_seq, count, sum FROM journal WHERE first_seq<=? ORDER BY first_seq DESC LIMIT 1", -1, &stmt,
        NULL);
    if (rc == SQLITE_OK) {
        sqlite3_bind_int64(stmt, 1, (int64_t)seq);
        rc = sqlite3_step(stmt);
    }
    int result = 0;
    if (rc == SQLITE_ROW) {
        *first = (uint64_t)sqlite3_column_int64(stmt, 0);
        *sum = (uint64_t)sqlite3_column_int64(stmt, 2);
        if (*first + (uint64_t)sqlite3_column_int64(stmt, 1) != seq + 1)
            rc = SQLITE_DONE;
    }
    if (rc == SQLITE_DONE)
        result = err_set(err, ERR_CORRUPT, "no batch of the journal ends with record %" PRIu64, seq);
    else if (rc != SQLITE_ROW)
        result = store_db_error(db, rc, err, "read the journal");
    sqlite3_finalize(stmt);
    return result;
}

/* --- saving --- */

struct saving {
    int fd;
    struct head head;
    uint64_t pieces;
    struct buf out;
    int error; /* errno of the first write that failed; 0: none */
};

static void flush(struct saving *s)
{
    for (size_t done = 0; done < s->out.size && !s->error;) {
        ssize_t wrote = write(s->fd, s->out.data + done, s->out.size - done);
        if (wrote < 0 && errno != EINTR)
            s->error = errno;
        done += wrote > 0 ? (size_t)wrote : 0;
    }
    buf_clear(&s->out);
}

static void save_piece(void *arg, struct bytes piece)
{
    struct saving *s = arg;
    struct piece_head h = { piece.size, piece_sum(&s->head, s->pieces, piece) };
    if (!piece.size)
        return;
    s->pieces++;
    buf_add(&s->out, &h, sizeof h);
    buf_add(&s->out, piece.data, piece.size);
    if (s->out.size >= WRITE_BYTES)
        flush(s);
}

static int write_file(struct saving *s, const char *path, store_snapshot_write *write_pieces, void *arg,
                      struct err *err)
{
    buf_add(&s->out, &s->head, sizeof s->head);
    write_pieces(arg, save_piece, s);
    struct piece_head end = { 0, piece_sum(&s->head, s->pieces, bytes_of(NULL, 0)) };
    buf_add(&s->out, &end, sizeof end);
    flush(s);
    if (!s->error && fsync(s->fd) < 0)
        s->error = errno;
    errno = s->error;
    return s->error ? err_errno(err, "write %s", path) : 0;
}

static int sync_directory(const char *dir, struct err *err)
{
    autoclose int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 && fsync(fd) == 0 ? 0 : err_errno(err, "sync %s", dir);
}

int store_snapshot_save(sqlite3 *db, const char *dir, const uint8_t cluster[16], uint64_t seq,
                        store_snapshot_write *write, void *arg, struct err *err)
{
    autobuf struct buf path = BUF_INIT, part = BUF_INIT;
    struct saving s = { .head.seq = seq };
    buf_printf(&path, "%s/" STORE_SNAPSHOT_NAME, dir);
    buf_printf(&part, "%s.part", path.data);
    memcpy(s.head.magic, magic, sizeof magic);
    memcpy(s.head.cluster, cluster, sizeof s.head.cluster);
    int rc = find_chunk(db, seq, &s.head.chunk_seq, &s.head.chunk_sum, err);
    if (rc < 0)
        return rc;
    s.head.sum = head_sum(&s.head);
    unlink(part.data);
    autoclose int fd = open(part.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_errno(err, "make %s", part.data);
    s.fd = fd;
    rc = write_file(&s, part.data, write, arg, err);
    buf_fini(&s.out);
    if (rc == 0 && rename(part.data, path.data) < 0)
        rc = err_errno(err, "rename %s", part.data);
    if (rc < 0)
        unlink(part.data);
    return rc < 0 ? rc : sync_directory(dir, err);
}

/* --- loading --- */

/* Exactly so many bytes, or the file ends too early. */
static int read_whole(int fd, void *out, size_t size, struct err *err)
{
    for (size_t done = 0; done < size;) {
        ssize_t got = read(fd, (char *)out + done, size - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno(err, "read");
        if (got == 0)
            return err_set(err, ERR_CORRUPT, "the file is cut short");
        done += (size_t)got;
    }
    return 0;
}

static int check_head(sqlite3 *db, const struct head *h, const uint8_t cluster[16], struct err *err)
{
    if (memcmp(h->magic, magic, sizeof magic) != 0 || h->sum != head_sum(h))
        return err_set(err, ERR_CORRUPT, "its head is damaged");
    if (memcmp(h->cluster, cluster, sizeof h->cluster) != 0)
        return err_set(err, ERR_CORRUPT, "it is of another store");
    uint64_t first = 0, sum = 0;
    int rc = find_chunk(db, h->seq, &first, &sum, err);
    if (rc < 0)
        return rc;
    return first == h->chunk_seq && sum == h->chunk_sum ? 0 : err_set(err, ERR_CORRUPT, "it is of another journal");
}

static int load_pieces(int fd, const struct head *h, int (*each)(void *arg, struct bytes piece, struct err *err),
                       void *arg, struct err *err)
{
    autobuf struct buf piece = BUF_INIT;
    for (uint64_t place = 0;; place++) {
        struct piece_head p;
        int rc = read_whole(fd, &p, sizeof p, err);
        if (rc < 0)
            return rc;
        if (p.size > PIECE_MAX)
            return err_set(err, ERR_CORRUPT, "piece %" PRIu64 " is damaged", place);
        buf_clear(&piece);
        buf_reserve(&piece, p.size);
        if (p.size && (rc = read_whole(fd, piece.data, p.size, err)) < 0)
            return rc;
        struct bytes bytes = bytes_of(piece.data, p.size);
        if (p.sum != piece_sum(h, place, p.size ? bytes : bytes_of(NULL, 0)))
            return err_set(err, ERR_CORRUPT, "the checksum of piece %" PRIu64 " is wrong", place);
        if (p.size == 0)
            return 0;
        if ((rc = each(arg, bytes, err)) < 0)
            return rc;
    }
}

int store_snapshot_load(sqlite3 *db, const char *dir, const uint8_t cluster[16], uint64_t *seq,
                        int (*each)(void *arg, struct bytes piece, struct err *err), void *arg, struct err *err)
{
    autobuf struct buf path = BUF_INIT;
    struct head h;
    buf_printf(&path, "%s/" STORE_SNAPSHOT_NAME, dir);
    autoclose int fd = open(path.data, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        return err_set(err, ERR_NOT_FOUND, "there is no snapshot");
    if (fd < 0)
        return err_errno(err, "open %s", path.data);
    int rc = read_whole(fd, &h, sizeof h, err);
    if (rc == 0 && (rc = check_head(db, &h, cluster, err)) == 0) {
        *seq = h.seq;
        rc = load_pieces(fd, &h, each, arg, err);
    }
    return rc < 0 ? err_wrap(err, "%s", path.data) : 0;
}
