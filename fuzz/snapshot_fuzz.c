/* Bytes as the rest of a snapshot of the master's brain, after a head that nobody would guess, a class and a node. What
 * is taken can be written again. */
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "core/sched/sched_snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void add_piece(void *arg, struct bytes piece)
{
    buf_add(arg, piece.data, piece.size);
}

static void begin(const struct sched_config *config, struct buf *out)
{
    struct sched *s = sched_new(config);
    struct record epoch = { .kind = EV_EPOCH, .epoch = { .epoch = 1, .job_floor = ROLLBACK_JOBS } };
    struct record class = { .kind = EV_CLASS, .class = { .user = bytes_str("u"), .queue = bytes_str("q") } };
    struct record node = { .kind = EV_NODE_SEEN, .node_seen = { .node = 1, .name = bytes_str("n") } };
    check(sched_apply(s, &epoch, NULL) == 0 && sched_apply(s, &class, NULL) == 0 && sched_apply(s, &node, NULL) == 0);
    sched_snapshot(s, add_piece, out);
    out->size -= 2; /* the end, and that there are no jobs */
    sched_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sched_config config;
    struct err err;
    autobuf struct buf whole = BUF_INIT, again = BUF_INIT;
    sched_config_default(&config);
    begin(&config, &whole);
    buf_add(&whole, data, size);
    struct sched *s = sched_new(&config);
    struct sched_restore *r = sched_restore_new(s);
    bool taken = sched_restore_piece(r, buf_bytes(&whole), &err) == 0 && sched_restore_end(r, &err) == 0;
    sched_restore_free(r);
    if (taken)
        sched_snapshot(s, add_piece, &again);
    sched_free(s);
    return 0;
}
