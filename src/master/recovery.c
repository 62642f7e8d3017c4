#include "master/recovery.h"

#include <inttypes.h>

#include "base/mem.h"
#include "core/sched/sched_snapshot.h"

#define SLICE_RECORDS 50000u /* apart: one read transaction. A long one keeps the store's log from starting anew. */

static int take_piece(void *arg, struct bytes piece, struct err *err)
{
    return sched_restore_piece(arg, piece, err);
}

/* NULL: there is none that can be used; r->refused says why if it is not for want of one. */
static struct sched *from_snapshot(struct recovery *r)
{
    struct err err = { .code = ERR_OK };
    uint64_t seq = 0;
    struct sched *s = sched_new(r->config);
    struct sched_restore *restore = sched_restore_new(s);
    int rc = r->store->ops->snapshot_load(r->store, &seq, take_piece, restore, &err);
    if (rc == 0)
        rc = sched_restore_end(restore, &err);
    sched_restore_free(restore);
    if (rc == 0 && seq > r->to_seq)
        rc = err_set(&err, ERR_CORRUPT, "the snapshot is of record %" PRIu64 ", the store ends at record %" PRIu64, seq,
                     r->to_seq);
    if (rc == 0) {
        r->snapshot_seq = seq;
        return s;
    }
    if (err.code != ERR_NOT_FOUND)
        r->refused = err;
    sched_free(s);
    return NULL;
}

static int apply_one(void *arg, const struct record *rec, struct err *err)
{
    int rc = sched_apply(arg, rec, err);
    return rc < 0 ? err_wrap(err, "record %" PRIu64 " (%s)", rec->seq, event_name(rec->kind)) : 0;
}

static int apply_rest(struct recovery *r, struct sched *s, struct err *err)
{
    uint64_t from = r->snapshot_seq + 1;
    if (!r->apart) /* As a whole: then it is checked as a whole. */
        return from > r->to_seq && from > 1 ? 0 : r->store->ops->replay(r->store, from, 0, apply_one, s, err);
    for (; from <= r->to_seq; from += SLICE_RECORDS) {
        uint64_t left = r->to_seq - from + 1;
        if (r->stop && atomic_load(r->stop))
            return err_set(err, ERR_CLOSED, "it is not wanted any more");
        int rc =
            r->store->ops->replay_apart(r->store, from, left < SLICE_RECORDS ? left : SLICE_RECORDS, apply_one, s, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

struct sched *recovery_run(struct recovery *r, struct err *err)
{
    struct sched *s = r->whole ? NULL : from_snapshot(r);
    if (s && apply_rest(r, s, err) == 0)
        return s;
    if (s) {
        sched_free(s);
        if (err->code != ERR_CORRUPT)
            return NULL;
        /* Whose fault it is shows when the journal is read without the snapshot. */
        r->refused = *err;
        r->snapshot_seq = 0;
    }
    s = sched_new(r->config);
    if (apply_rest(r, s, err) == 0)
        return s;
    sched_free(s);
    return NULL;
}
