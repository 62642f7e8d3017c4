#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/parse.h"
#include "store/store_lock.h"
#include "store/store_snapshot.h"
#include "store/store_sqlite_int.h"

#define LAST_RECORDS 10

struct inspect {
    struct buf path, dir;
    bool live;                    /* a master has the store open */
    uint64_t file_bytes, log_bytes;
    struct store_meta meta;
    struct store_counts counts;
    struct buf last[LAST_RECORDS]; /* a ring of the last records as text; last_count were put in */
    uint64_t last_count;
    const struct store_inspector *inspector;
    uint64_t snapshot_seq; /* 0: there is none */
};

static uint64_t file_bytes(const char *path, const char *suffix, bool *exists)
{
    autobuf struct buf name = BUF_INIT;
    buf_printf(&name, "%s%s", path, suffix);
    struct stat st;
    bool there = stat(name.data, &st) == 0;
    if (exists)
        *exists = there;
    return there ? (uint64_t)st.st_size : 0;
}

static int locate(struct inspect *in, const char *dir_or_file, struct err *err)
{
    struct stat st;
    if (stat(dir_or_file, &st) < 0)
        return err_field(err, ERR_NOT_FOUND, NULL, "name a state directory, a store or a backup", "no such file");
    if (S_ISDIR(st.st_mode)) {
        buf_str(&in->dir, dir_or_file);
        buf_printf(&in->path, "%s/" STORE_DB_NAME, dir_or_file);
    } else {
        autofree char *name = mem_str(dir_or_file);
        buf_str(&in->dir, dirname(name));
        buf_str(&in->path, dir_or_file);
    }
    autoclose int fd = open(in->path.data, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "open");
    return store_schema_check_head(fd, NULL, err);
}

static int note_record(void *arg, const struct record *r, struct err *err)
{
    struct inspect *in = arg;
    int rc = in->inspector ? in->inspector->each(in->inspector->arg, r, err) : 0;
    if (rc < 0)
        return rc;
    /* Printing all to show ten would take longer than everything else. */
    if (in->meta.last_seq - r->seq >= LAST_RECORDS)
        return 0;
    struct buf *line = &in->last[in->last_count++ % LAST_RECORDS];
    buf_clear(line);
    buf_printf(line, "%" PRIu64 " ", r->seq);
    format_time(line, r->at_wall_ms);
    buf_char(line, ' ');
    record_print(line, r);
    if (!utf8_valid(buf_bytes(line)))
        for (size_t i = 0; i < line->size; i++)
            line->data[i] = (unsigned char)line->data[i] < 0x80 ? line->data[i] : '?';
    return 0;
}

/* Before the journal: what is there now is no younger than what is read then. */
static int look_at_snapshot(struct inspect *in, sqlite3 *db, struct err *err)
{
    const struct store_inspector *with = in->inspector;
    struct store_meta meta;
    struct err refused = { .code = ERR_OK };
    in->snapshot_seq = 0;
    if (!with)
        return 0;
    with->begin(with->arg);
    if (!with->snapshot)
        return 0;
    int rc = store_schema_check(db, STRUCTURE_TRUST, &meta, err);
    if (rc < 0)
        return rc;
    uint64_t seq = 0;
    rc = store_snapshot_load(db, in->dir.data, meta.cluster, &seq, with->piece, with->arg, &refused);
    in->snapshot_seq = rc == 0 ? seq : 0;
    return with->snapshot(with->arg, seq, rc < 0 ? &refused : NULL, err);
}

static int look(struct inspect *in, struct err *err)
{
    bool index;
    in->file_bytes = file_bytes(in->path.data, "", NULL);
    in->log_bytes = file_bytes(in->path.data, "-wal", NULL);
    file_bytes(in->path.data, "-shm", &index);
    enum store_db_role role = DB_READER;
    if (!in->live && in->log_bytes == 0)
        role = DB_READER_FROZEN;
    else if (!in->live && index)
        role = DB_READER_CRASHED;
    sqlite3 *db = NULL;
    in->last_count = 0;
    int rc = store_db_open(&db, in->path.data, role, err);
    if (rc < 0)
        return rc;
    struct store_reader *r = store_reader_new(db, err);
    if (!r)
        return -(int)err->code;
    if ((rc = look_at_snapshot(in, db, err)) == 0)
        rc = store_sqlite_verify(db, r, STRUCTURE_ALL, &in->meta, &in->counts, note_record, in, err);
    if (rc == 0 && in->inspector && in->inspector->end)
        rc = in->inspector->end(in->inspector->arg, err);
    store_reader_free(r);
    return rc;
}

/* --- printing --- */

static void put_hex(struct buf *out, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        buf_printf(out, "%02x", (unsigned)data[i]);
}

static void put_json_text(struct buf *out, struct bytes text)
{
    buf_char(out, '"');
    for (size_t i = 0; i < text.size; i++)
        if ((unsigned char)text.data[i] < 32)
            buf_printf(out, "\\u%04x", (unsigned)(unsigned char)text.data[i]);
        else if (text.data[i] == '"' || text.data[i] == '\\')
            buf_printf(out, "\\%c", text.data[i]);
        else
            buf_char(out, text.data[i]);
    buf_char(out, '"');
}

static uint64_t jobs_ended(const struct inspect *in)
{
    uint64_t ended = 0;
    for (int state = 0; state < JOB_STATES; state++)
        ended += in->counts.ended[state];
    return ended;
}

static struct bytes last_line(const struct inspect *in, size_t i)
{
    size_t count = in->last_count < LAST_RECORDS ? (size_t)in->last_count : LAST_RECORDS;
    return i < count ? buf_bytes(&in->last[(in->last_count - count + i) % LAST_RECORDS]) : (struct bytes){ NULL, 0 };
}

static void print_text(const struct inspect *in, struct buf *out)
{
    const struct store_counts *c = &in->counts;
    buf_printf(out, "store         %s%s\ncluster       ", in->path.data, in->live ? " (a master has it open)" : "");
    put_hex(out, in->meta.cluster, sizeof in->meta.cluster);
    buf_printf(out, "\nepoch         %" PRIu64 "\nrecords       %" PRIu64 " in %" PRIu64 " chunks\n", in->meta.epoch,
               c->records, c->chunks);
    buf_printf(out, "size          %" PRIu64 " bytes, log %" PRIu64 " bytes\n", in->file_bytes, in->log_bytes);
    buf_printf(out, "jobs          %" PRIu64 ", of them not ended %" PRIu64, c->jobs, c->jobs - jobs_ended(in));
    for (int state = 0; state < JOB_STATES; state++)
        if (job_state_terminal(state))
            buf_printf(out, ", %s %" PRIu64, job_state_name(state), c->ended[state]);
    buf_printf(out, "\nattempts      %" PRIu64 " ended, %" PRIu64 " open, %" PRIu64 " with output\nlast records\n",
               c->attempts, c->open_attempts, c->tails);
    for (size_t i = 0; i < LAST_RECORDS && last_line(in, i).data; i++)
        buf_printf(out, "  %.*s\n", (int)last_line(in, i).size, last_line(in, i).data);
    if (in->inspector && in->snapshot_seq)
        buf_printf(out, "snapshot      of record %" PRIu64 ", gives what the whole journal gives\n", in->snapshot_seq);
    else if (in->inspector)
        buf_str(out, "snapshot      none\n");
    buf_str(out, "checks        structure ok, checksums ok, replay ok, views ok\n");
}

static void print_json(const struct inspect *in, struct buf *out)
{
    const struct store_counts *c = &in->counts;
    buf_str(out, "{\"path\":");
    if (utf8_valid(buf_bytes(&in->path)))
        put_json_text(out, buf_bytes(&in->path));
    else
        buf_str(out, "null");
    buf_printf(out, ",\"live\":%s,\"cluster\":\"", in->live ? "true" : "false");
    put_hex(out, in->meta.cluster, sizeof in->meta.cluster);
    buf_printf(out, "\",\"epoch\":%" PRIu64 ",\"last_seq\":%" PRIu64 ",\"chunks\":%" PRIu64, in->meta.epoch,
               in->meta.last_seq, c->chunks);
    buf_printf(
        out, ",\"bytes\":%" PRIu64 ",\"log_bytes\":%" PRIu64 ",\"jobs\":{\"total\":%" PRIu64 ",\"not_ended\":%" PRIu64,
        in->file_bytes, in->log_bytes, c->jobs, c->jobs - jobs_ended(in));
    for (int state = 0; state < JOB_STATES; state++)
        if (job_state_terminal(state))
            buf_printf(out, ",\"%s\":%" PRIu64, job_state_name(state), c->ended[state]);
    buf_printf(out,
               "},\"attempts\":{\"ended\":%" PRIu64 ",\"open\":%" PRIu64 ",\"with_output\":%" PRIu64
               "},\"last_records\":[",
               c->attempts, c->open_attempts, c->tails);
    for (size_t i = 0; i < LAST_RECORDS && last_line(in, i).data; i++) {
        if (i)
            buf_char(out, ',');
        put_json_text(out, last_line(in, i));
    }
    if (in->inspector && in->snapshot_seq)
        buf_printf(out, "],\"snapshot_seq\":%" PRIu64, in->snapshot_seq);
    else
        buf_str(out, "],\"snapshot_seq\":null");
    buf_str(out, ",\"checks\":{\"structure\":\"ok\",\"checksums\":\"ok\",\"replay\":\"ok\",\"views\":\"ok\"}}\n");
}

int store_sqlite_inspect(const char *dir_or_file, const struct store_inspector *inspector, struct buf *out, bool json,
                         struct err *err)
{
    struct err unused;
    if (!err)
        err = &unused;
    struct inspect in = { .inspector = inspector };
    int rc = locate(&in, dir_or_file, err);
    if (rc == 0) {
        in.live = store_lock_held(in.dir.data);
        rc = look(&in, err);
        /* A master that started in between makes a frozen view of the file look damaged. */
        if (rc < 0 && !in.live && store_lock_held(in.dir.data)) {
            in.live = true;
            rc = look(&in, err);
        }
    }
    if (rc < 0)
        rc = err_wrap(err, "%s", in.path.size ? in.path.data : dir_or_file);
    else if (json)
        print_json(&in, out);
    else
        print_text(&in, out);
    buf_fini(&in.path);
    buf_fini(&in.dir);
    for (size_t i = 0; i < LAST_RECORDS; i++)
        buf_fini(&in.last[i]);
    return rc;
}
