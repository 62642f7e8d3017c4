#include <inttypes.h>
#include <string.h>

#include "core/sched/sched_snapshot.h"
#include "master/master.h"
#include "store/store.h"

#define REMEDY "remove store.snapshot: the master reads the whole journal then"

/* Two brains beside each other: one reads everything, one begins with the snapshot. */
struct inspection {
    struct sched_config config;
    struct buf pieces; /* of the snapshot, one behind the other: none is cut within an item */
    uint64_t seq;      /* of the snapshot; 0: none */
    struct sched *whole, *rest;
};

static void begin(void *arg)
{
    struct inspection *in = arg;
    sched_free(in->whole);
    sched_free(in->rest);
    in->whole = in->rest = NULL;
    in->seq = 0;
    buf_clear(&in->pieces);
    sched_config_default(&in->config);
}

static int take_piece(void *arg, struct bytes piece, struct err *err)
{
    (void)err;
    struct inspection *in = arg;
    buf_add(&in->pieces, piece.data, piece.size);
    return 0;
}

/* NULL: *err. How many ended jobs were kept is told in any case. */
static struct sched *restore(struct inspection *in, uint64_t *ended_max, struct err *err)
{
    struct sched *s = sched_new(&in->config);
    struct sched_restore *r = sched_restore_new(s);
    int rc = sched_restore_piece(r, buf_bytes(&in->pieces), err);
    if (rc == 0)
        rc = sched_restore_end(r, err);
    *ended_max = sched_restore_ended_max(r);
    sched_restore_free(r);
    if (rc == 0)
        return s;
    sched_free(s);
    return NULL;
}

static int take_snapshot(void *arg, uint64_t seq, const struct err *refused, struct err *err)
{
    struct inspection *in = arg;
    struct err why = { .code = ERR_OK };
    if (refused && refused->code != ERR_NOT_FOUND)
        return err_field(err, ERR_CORRUPT, NULL, REMEDY, "%s", refused->text);
    if (!refused) {
        /* How much is kept in memory is the master's setting: the same here, or the states differ. */
        uint64_t ended_max = in->config.ended_max;
        struct sched *look = restore(in, &ended_max, &why);
        sched_free(look);
        if (look) {
            in->config.ended_max = ended_max;
            in->rest = restore(in, &ended_max, &why);
            in->seq = seq;
        }
    }
    in->whole = sched_new(&in->config);
    /* One of another version of the program is not wrong, only of no use. */
    return why.code == ERR_CORRUPT ? err_field(err, ERR_CORRUPT, NULL, REMEDY, "%s", why.text) : 0;
}

static int take_record(void *arg, const struct record *r, struct err *err)
{
    struct inspection *in = arg;
    int rc = sched_apply(in->whole, r, err);
    if (rc == 0 && in->rest && r->seq > in->seq)
        rc = sched_apply(in->rest, r, err);
    return rc < 0 ? err_wrap(err, "record %" PRIu64 " (%s)", r->seq, event_name(r->kind)) : 0;
}

static void add_piece(void *arg, struct bytes piece)
{
    buf_add(arg, piece.data, piece.size);
}

static int end(void *arg, struct err *err)
{
    struct inspection *in = arg;
    autobuf struct buf whole = BUF_INIT, rest = BUF_INIT;
    if (!in->rest)
        return 0;
    sched_snapshot(in->whole, add_piece, &whole);
    sched_snapshot(in->rest, add_piece, &rest);
    if (bytes_equal(buf_bytes(&whole), buf_bytes(&rest)))
        return 0;
    return err_field(err, ERR_CORRUPT, NULL, "stop the master, " REMEDY,
                     "the snapshot of record %" PRIu64 " does not give the state that the journal gives", in->seq);
}

int master_inspect(const char *dir_or_file, struct buf *out, bool json, struct err *err)
{
    struct inspection in = { .seq = 0 };
    struct store_inspector with = { &in, begin, take_piece, take_snapshot, take_record, end };
    int rc = store_sqlite_inspect(dir_or_file, &with, out, json, err);
    sched_free(in.whole);
    sched_free(in.rest);
    buf_fini(&in.pieces);
    return rc;
}
