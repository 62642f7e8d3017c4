#include "store/store_fault.h"

#include "base/check.h"
#include "base/mem.h"
#include "base/prng.h"

struct store_fault {
    struct store base;
    struct store_events events, inner_events;
    struct store *inner;
    uint64_t countdown; /* appends until `kind` hits; 0: it never does */
    enum store_fault_kind kind;
    struct prng prng;
    double chance[STORE_FAULT_KINDS];
    uint64_t counts[STORE_FAULT_KINDS];

    enum store_fault_kind now; /* of the append in flight */
    bool held, committed;      /* its outcome waits for release; it is known */
    bool broken;
    struct store_batch batch;
    enum store_outcome outcome;
    struct err err;
};

static struct store_fault *self(const struct store *s)
{
    return (struct store_fault *)(uintptr_t)s;
}

static struct store *inner(const struct store *s)
{
    return self(s)->inner;
}

static void tell(struct store_fault *f, enum store_outcome outcome, const struct err *err)
{
    struct store_events events = f->events;
    struct err copy = { .code = ERR_OK };
    if (err)
        copy = *err;
    events.on_commit(events.arg, outcome, outcome == STORE_COMMITTED ? NULL : &copy);
}

static void tell_fault(struct store_fault *f, enum store_outcome outcome)
{
    struct err err;
    if (outcome == STORE_FULL)
        err_set(&err, ERR_NO_SPACE, "injected: the disk is full");
    else
        err_set(&err, ERR_IO, "injected: the sync failed");
    f->broken |= outcome == STORE_UNKNOWN;
    tell(f, outcome, &err);
}

static void inner_committed(void *arg, enum store_outcome outcome, const struct err *err)
{
    struct store_fault *f = arg;
    if (f->now == STORE_FAULT_UNKNOWN_PRESENT && outcome == STORE_COMMITTED) {
        tell_fault(f, STORE_UNKNOWN);
    } else if (f->held) {
        f->committed = true;
        f->outcome = outcome;
        if (err)
            f->err = *err;
    } else {
        tell(f, outcome, err);
    }
}

static enum store_fault_kind draw(struct store_fault *f)
{
    if (f->countdown && --f->countdown == 0)
        return f->kind;
    double at = prng_unit(&f->prng);
    for (int kind = STORE_FAULT_NONE + 1; kind < STORE_FAULT_KINDS; kind++) {
        if (at < f->chance[kind])
            return (enum store_fault_kind)kind;
        at -= f->chance[kind];
    }
    return STORE_FAULT_NONE;
}

static void fault_append(struct store *base, const struct store_batch *batch)
{
    struct store_fault *f = self(base);
    check(!f->held);
    if (f->broken) {
        tell_fault(f, STORE_UNKNOWN);
        return;
    }
    f->now = draw(f);
    f->counts[f->now]++;
    f->held = f->now == STORE_FAULT_LATE_ABSENT || f->now == STORE_FAULT_LATE_PRESENT;
    f->committed = false;
    f->batch = *batch;
    if (f->now == STORE_FAULT_FULL)
        tell_fault(f, STORE_FULL);
    else if (f->now == STORE_FAULT_UNKNOWN_ABSENT)
        tell_fault(f, STORE_UNKNOWN);
    else if (f->now != STORE_FAULT_LATE_ABSENT)
        f->inner->ops->append(f->inner, batch);
}

void store_fault_release(struct store *base)
{
    struct store_fault *f = self(base);
    check(f->held);
    f->held = false;
    if (f->now == STORE_FAULT_LATE_ABSENT)
        f->inner->ops->append(f->inner, &f->batch);
    else if (f->committed)
        tell(f, f->outcome, &f->err);
    /* Else the inner store has not said yet; it will. */
}

static void fault_meta(const struct store *s, struct store_meta *out)
{
    inner(s)->ops->meta(inner(s), out);
}

static int fault_replay(struct store *s, uint64_t from_seq, uint64_t max,
                        int (*each)(void *arg, const struct record *r, struct err *err), void *arg, struct err *err)
{
    return inner(s)->ops->replay(inner(s), from_seq, max, each, arg, err);
}

static bool fault_use_reserve(struct store *s)
{
    return inner(s)->ops->use_reserve(inner(s));
}

static bool fault_refill_reserve(struct store *s)
{
    return inner(s)->ops->refill_reserve(inner(s));
}

static int fault_spec(struct store *s, job_id job, struct buf *out, struct err *err)
{
    return inner(s)->ops->spec(inner(s), job, out, err);
}

static int fault_key(struct store *s, struct bytes owner, struct bytes key, job_id *job, struct buf *digest,
                     struct err *err)
{
    return inner(s)->ops->key(inner(s), owner, key, job, digest, err);
}

static void fault_hold(struct store *s, bool on)
{
    inner(s)->ops->hold(inner(s), on);
}

static int fault_key_begins(struct store *s, struct bytes owner, struct bytes beginning, bool *used, struct err *err)
{
    return inner(s)->ops->key_begins(inner(s), owner, beginning, used, err);
}

static int fault_attempts(struct store *s, struct attempt_ref from, size_t max,
                          void (*each)(void *arg, const struct store_attempt *a), void *arg, struct err *err)
{
    return inner(s)->ops->attempts(inner(s), from, max, each, arg, err);
}

static int fault_attempts_page(struct store *s, struct attempt_ref from, size_t max,
                               void (*each)(void *arg, const struct store_attempt *a), void *arg, struct err *err)
{
    return inner(s)->ops->attempts_page(inner(s), from, max, each, arg, err);
}

static int fault_replay_apart(struct store *s, uint64_t from_seq, uint64_t max,
                              int (*each)(void *arg, const struct record *r, struct err *err), void *arg,
                              struct err *err)
{
    return inner(s)->ops->replay_apart(inner(s), from_seq, max, each, arg, err);
}

static int fault_snapshot_save(struct store *s, uint64_t seq, store_snapshot_write *write, void *arg, struct err *err)
{
    return inner(s)->ops->snapshot_save(inner(s), seq, write, arg, err);
}

static int fault_snapshot_load(struct store *s, uint64_t *seq,
                               int (*each)(void *arg, struct bytes piece, struct err *err), void *arg, struct err *err)
{
    return inner(s)->ops->snapshot_load(inner(s), seq, each, arg, err);
}

static void fault_note_epoch(struct store *s, uint64_t epoch)
{
    if (inner(s)->ops->note_epoch)
        inner(s)->ops->note_epoch(inner(s), epoch);
}

static int fault_tails(struct store *s, struct attempt_ref ref, struct buf *stdout_tail, struct buf *stderr_tail,
                       struct err *err)
{
    return inner(s)->ops->tails(inner(s), ref, stdout_tail, stderr_tail, err);
}

static int fault_usage(struct store *s, struct attempt_ref ref, struct buf *out, struct err *err)
{
    return inner(s)->ops->usage(inner(s), ref, out, err);
}

static int fault_job_events(struct store *s, job_id job, uint64_t from_seq, size_t max,
                            void (*each)(void *arg, const struct record *r), void *arg, struct err *err)
{
    return inner(s)->ops->job_events(inner(s), job, from_seq, max, each, arg, err);
}

static int fault_backup(struct store *s, const char *path, struct err *err)
{
    return inner(s)->ops->backup(inner(s), path, err);
}

static void fault_stats(const struct store *s, struct store_stats *out)
{
    inner(s)->ops->stats(inner(s), out);
}

static void fault_close(struct store *s)
{
    if (store_fault_held(s))
        store_fault_release(s);
    inner(s)->ops->close(inner(s));
    free(self(s));
}

static const struct store_ops fault_ops = {
    .name = "fault",
    .meta = fault_meta,
    .replay = fault_replay,
    .append = fault_append,
    .use_reserve = fault_use_reserve,
    .refill_reserve = fault_refill_reserve,
    .spec = fault_spec,
    .key = fault_key,
    .key_begins = fault_key_begins,
    .hold = fault_hold,
    .attempts = fault_attempts,
    .tails = fault_tails,
    .usage = fault_usage,
    .job_events = fault_job_events,
    .backup = fault_backup,
    .stats = fault_stats,
    .close = fault_close,
    .replay_apart = fault_replay_apart,
    .snapshot_save = fault_snapshot_save,
    .snapshot_load = fault_snapshot_load,
    .note_epoch = fault_note_epoch,
    .attempts_page = fault_attempts_page,
};

struct store_fault *store_fault_new(const struct store_events *events)
{
    struct store_fault *f = mem_zero(1, sizeof *f);
    f->base.ops = &fault_ops;
    f->events = *events;
    f->inner_events = (struct store_events){ f, inner_committed };
    prng_seed(&f->prng, 0);
    return f;
}

const struct store_events *store_fault_events(struct store_fault *f)
{
    return &f->inner_events;
}

struct store *store_fault_wrap(struct store_fault *f, struct store *wrapped)
{
    if (!wrapped) {
        free(f);
        return NULL;
    }
    f->inner = wrapped;
    return &f->base;
}

void store_fault_at(struct store *s, uint64_t k, enum store_fault_kind kind)
{
    check(s->ops == &fault_ops && k > 0);
    self(s)->kind = kind;
    self(s)->countdown = kind == STORE_FAULT_NONE ? 0 : k;
}

void store_fault_chance(struct store *s, uint64_t seed, const double chance[STORE_FAULT_KINDS])
{
    check(s->ops == &fault_ops);
    prng_seed(&self(s)->prng, seed);
    for (int kind = 0; kind < STORE_FAULT_KINDS; kind++)
        self(s)->chance[kind] = chance[kind];
}

bool store_fault_held(const struct store *s)
{
    check(s->ops == &fault_ops);
    return self(s)->held;
}

uint64_t store_fault_count(const struct store *s, enum store_fault_kind kind)
{
    check(s->ops == &fault_ops && kind < STORE_FAULT_KINDS);
    return self(s)->counts[kind];
}

void store_fault_crash(struct store *s, void (*crash)(struct store *inner))
{
    check(s->ops == &fault_ops);
    crash(inner(s));
    free(self(s));
}
