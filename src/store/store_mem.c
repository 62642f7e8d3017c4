#include "store/store.h"

#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <xxhash.h>

#include "base/check.h"
#include "base/mem.h"
#include "io/loop.h"
#include "store/store_chunk.h"
#include "store/store_map.h"
#include "store/store_views.h"

struct mem_chunk {
    struct store_chunk chunk; /* body is owned */
    uint32_t *offsets;
};

struct mem_job {
    job_id job;
    uint64_t seq;
    struct buf spec, owner, key, digest;
    bool has_spec;
    uint64_t *events; size_t events_count, events_cap;       /* numbers of the job's records */
    size_t *attempts; size_t attempts_count, attempts_cap;   /* indices into mem_data.attempts, as assigned */
};

struct mem_attempt { struct attempt_ref ref; uint64_t assigned, started, ended; };
struct mem_tail { struct attempt_ref ref; uint64_t seq; struct buf out, errs, usage; };

/* What is stored; outlives its handles if it has a name. */
struct mem_data {
    struct mem_data *next;
    char *name;
    bool open;
    struct store_meta meta;
    struct store_stats stats;
    struct mem_chunk *chunks; size_t chunks_count, chunks_cap;
    struct mem_job *jobs; size_t jobs_count, jobs_cap;
    struct mem_tail *tails; size_t tails_count, tails_cap;
    /* Views, all made from the above. */
    struct mem_attempt *attempts; size_t attempts_count, attempts_cap;
    struct store_map job_at, key_at, tail_at;  /* indices */
    struct store_map open_at, attempt_at;      /* indices of attempts, by (job, task) and (job, task and attempt) */
    struct store_map terminal;
    /* The snapshot: pieces, each behind its size. */
    struct buf snapshot;
    uint64_t snapshot_seq; /* 0: there is none */
};

struct store_mem {
    struct store base;
    struct loop *loop;
    struct loop_wake *wake;
    struct store_events events;
    struct mem_data *data;
    struct store_batch batch; /* in flight if in_flight */
    bool in_flight, broken;
    struct err why;
    const struct store_batch *applying;
    size_t job_next, jobs_used, tails_used;
};

static pthread_mutex_t names_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct mem_data *names;

static struct store_mem *self(const struct store *s)
{
    return (struct store_mem *)(uintptr_t)s;
}

static struct store_map_key key_job(job_id job) { return (struct store_map_key){ job.n, 0 }; }
static struct store_map_key key_task(job_id job, uint32_t task) { return (struct store_map_key){ job.n, task }; }
static struct store_map_key key_attempt(struct attempt_ref ref)
{
    return (struct store_map_key){ ref.job.n, (uint64_t)ref.task << 32 | ref.attempt };
}
/* 128 bits of hash stand for the key: this store is for simulation and tests, where nobody looks for collisions. */
static struct store_map_key key_idem(struct bytes owner, struct bytes key)
{
    XXH128_hash_t h = XXH3_128bits_withSeed(key.data, key.size, XXH3_64bits(owner.data ? owner.data : "", owner.size));
    return (struct store_map_key){ h.low64, h.high64 };
}

/* --- views --- */

static void job_fini(struct mem_job *j)
{
    buf_fini(&j->spec);
    buf_fini(&j->owner);
    buf_fini(&j->key);
    buf_fini(&j->digest);
    free(j->events);
    free(j->attempts);
}

static void tail_fini(struct mem_tail *t)
{
    buf_fini(&t->out);
    buf_fini(&t->errs);
    buf_fini(&t->usage);
}

static void views_fini(struct mem_data *d)
{
    store_map_fini(&d->job_at);
    store_map_fini(&d->key_at);
    store_map_fini(&d->tail_at);
    store_map_fini(&d->open_at);
    store_map_fini(&d->attempt_at);
    store_map_fini(&d->terminal);
    d->attempts_count = 0;
    for (size_t i = 0; i < d->jobs_count; i++)
        d->jobs[i].events_count = d->jobs[i].attempts_count = 0;
}

static struct mem_job *job_find(const struct mem_data *d, job_id job)
{
    uint64_t *at = store_map_get(&d->job_at, key_job(job));
    return at ? &d->jobs[*at] : NULL;
}

static void job_event(struct mem_data *d, job_id job, uint64_t seq)
{
    struct mem_job *j = job_find(d, job);
    if (!j)
        return;
    j->events = mem_grow(j->events, &j->events_cap, j->events_count + 1, sizeof *j->events);
    j->events[j->events_count++] = seq;
}

static const struct store_job *job_of(struct store_mem *s, job_id job)
{
    const struct store_batch *b = s->applying;
    for (size_t i = 0; i < b->jobs_count; i++) {
        size_t at = (s->job_next + i) % b->jobs_count;
        if (b->jobs[at].job.n == job.n) {
            s->job_next = at + 1;
            s->jobs_used++;
            return &b->jobs[at];
        }
    }
    return NULL;
}

static struct mem_job *job_add(struct store_mem *s, job_id job, uint64_t seq)
{
    struct mem_data *d = s->data;
    const struct store_job *from = job_of(s, job);
    d->jobs = mem_grow(d->jobs, &d->jobs_cap, d->jobs_count + 1, sizeof *d->jobs);
    struct mem_job *j = &d->jobs[d->jobs_count++];
    *j = (struct mem_job){ .job = job, .seq = seq };
    if (from) {
        j->has_spec = from->spec.data != NULL;
        buf_add(&j->spec, from->spec.data, from->spec.size);
        buf_add(&j->owner, from->owner.data, from->owner.size);
        buf_add(&j->key, from->key.data, from->key.size);
        buf_add(&j->digest, from->key_digest.data, from->key_digest.size);
    }
    return j;
}

static int job_index(struct mem_data *d, size_t index, struct err *err)
{
    struct mem_job *j = &d->jobs[index];
    if (!store_map_put(&d->job_at, key_job(j->job), index) ||
        (j->key.size && !store_map_put(&d->key_at, key_idem(buf_bytes(&j->owner), buf_bytes(&j->key)), index)))
        return err_set(err, ERR_INTERNAL, "job %" PRIu64 " or its key is there already", j->job.n);
    return 0;
}

static int on_submitted(void *arg, job_id job, uint64_t seq, struct err *err)
{
    struct store_mem *s = arg;
    if (!s->applying) /* The views are made again from what is there. */
        return 0;
    job_add(s, job, seq);
    return job_index(s->data, s->data->jobs_count - 1, err);
}

static int on_assigned(void *arg, struct attempt_ref ref, uint64_t seq, struct err *err)
{
    struct mem_data *d = ((struct store_mem *)arg)->data;
    if (!store_map_put(&d->attempt_at, key_attempt(ref), d->attempts_count) ||
        !store_map_put(&d->open_at, key_task(ref.job, ref.task), d->attempts_count))
        return err_set(err, ERR_INTERNAL, "job %" PRIu64 " task %" PRIu32 " has that attempt, or an open one, already",
                       ref.job.n, ref.task);
    d->attempts = mem_grow(d->attempts, &d->attempts_cap, d->attempts_count + 1, sizeof *d->attempts);
    d->attempts[d->attempts_count] = (struct mem_attempt){ .ref = ref, .assigned = seq };
    struct mem_job *j = job_find(d, ref.job);
    if (j) {
        j->attempts = mem_grow(j->attempts, &j->attempts_cap, j->attempts_count + 1, sizeof *j->attempts);
        j->attempts[j->attempts_count++] = d->attempts_count;
    }
    d->attempts_count++;
    return 0;
}

static struct mem_attempt *attempt_open(const struct mem_data *d, struct attempt_ref ref)
{
    uint64_t *at = store_map_get(&d->open_at, key_task(ref.job, ref.task));
    return at && d->attempts[*at].ref.attempt == ref.attempt ? &d->attempts[*at] : NULL;
}

static int on_started(void *arg, struct attempt_ref ref, uint64_t seq, bool *kept, struct err *err)
{
    (void)err;
    struct mem_attempt *a = attempt_open(((struct store_mem *)arg)->data, ref);
    *kept = a && !a->started;
    if (*kept)
        a->started = seq;
    return 0;
}

static void tail_add(struct store_mem *s, struct attempt_ref ref, uint64_t seq)
{
    struct mem_data *d = s->data;
    for (size_t i = 0; s->applying && i < s->applying->tails_count; i++) {
        const struct store_tail *from = &s->applying->tails[i];
        if (!attempt_equal(from->ref, ref))
            continue;
        s->tails_used++;
        d->tails = mem_grow(d->tails, &d->tails_cap, d->tails_count + 1, sizeof *d->tails);
        struct mem_tail *t = &d->tails[d->tails_count];
        *t = (struct mem_tail){ .ref = ref, .seq = seq };
        buf_add(&t->out, from->stdout_tail.data, from->stdout_tail.size);
        buf_add(&t->errs, from->stderr_tail.data, from->stderr_tail.size);
        buf_add(&t->usage, from->usage.data, from->usage.size);
        store_map_put(&d->tail_at, key_attempt(ref), d->tails_count++);
        return;
    }
}

static int on_ended(void *arg, struct attempt_ref ref, uint64_t seq, uint32_t final, struct err *err)
{
    struct store_mem *s = arg;
    struct mem_data *d = s->data;
    struct mem_attempt *a = attempt_open(d, ref);
    if (!a)
        return err_set(err, ERR_INTERNAL,
                       "attempt %" PRIu32 " of job %" PRIu64 " task %" PRIu32 " ends but is not open", ref.attempt,
                       ref.job.n, ref.task);
    if (final && !store_map_put(&d->terminal, key_task(ref.job, ref.task), seq))
        return err_set(err, ERR_INTERNAL, "job %" PRIu64 " task %" PRIu32 " ends twice", ref.job.n, ref.task);
    store_map_remove(&d->open_at, key_task(ref.job, ref.task));
    a->ended = seq;
    tail_add(s, ref, seq);
    return 0;
}

static int on_terminal(void *arg, job_id job, uint32_t task, uint32_t state, uint64_t seq, struct err *err)
{
    (void)state;
    struct mem_data *d = ((struct store_mem *)arg)->data;
    if (store_map_put(&d->terminal, key_task(job, task), seq))
        return 0;
    return err_set(err, ERR_INTERNAL, "job %" PRIu64 " task %" PRIu32 " ends twice", job.n, task);
}

static int on_mark(void *arg, job_id job, struct err *err)
{
    (void)arg, (void)job, (void)err; /* Every event is listed with its job. */
    return 0;
}

static int apply(struct store_mem *s, const struct record *r, struct err *err)
{
    static const struct store_view_ops ops = { on_submitted, on_assigned, on_started, on_ended, on_terminal, on_mark };
    int rc = store_views_apply(&ops, s, r, err);
    struct record_subject subject = record_subject(r);
    if (rc == 0 && subject.job.n && (r->kind < EV_W_IDENTITY || r->kind > EV_W_TOMBSTONE))
        job_event(s->data, subject.job, r->seq);
    return rc;
}

static int apply_again(void *arg, const struct record *r, struct err *err)
{
    return apply(arg, r, err);
}

/* A batch broke a rule half-way: drop what it added and make the views again from what was there. Slow, and a bug's way
 * only. */
static void roll_back(struct store_mem *s, size_t jobs_count, size_t tails_count)
{
    struct mem_data *d = s->data;
    while (d->jobs_count > jobs_count)
        job_fini(&d->jobs[--d->jobs_count]);
    while (d->tails_count > tails_count)
        tail_fini(&d->tails[--d->tails_count]);
    views_fini(d);
    s->applying = NULL;
    for (size_t i = 0; i < d->jobs_count; i++)
        check(job_index(d, i, NULL) == 0);
    for (size_t i = 0; i < d->tails_count; i++)
        check(store_map_put(&d->tail_at, key_attempt(d->tails[i].ref), i));
    for (size_t i = 0; i < d->chunks_count; i++)
        check(store_chunk_walk(&d->chunks[i].chunk, 0, apply_again, s, NULL) == 0);
}

/* --- appending --- */

static void chunks_add(struct mem_data *d, const struct record *records, size_t count)
{
    struct buf body = BUF_INIT;
    for (size_t done = 0; done < count;) {
        size_t taken = store_chunk_encode(&body, records + done, count - done);
        d->chunks = mem_grow(d->chunks, &d->chunks_cap, d->chunks_count + 1, sizeof *d->chunks);
        struct mem_chunk *c = &d->chunks[d->chunks_count++];
        uint64_t first_seq = records[done].seq;
        struct bytes kept = bytes_of(mem_copy(body.data, body.size), body.size);
        *c = (struct mem_chunk){ { first_seq, taken, store_chunk_sum(first_seq, taken, kept), kept },
                                 mem_alloc(taken * sizeof *c->offsets) };
        const uint8_t *start = (const uint8_t *)kept.data, *at = start;
        for (size_t i = 0; i < taken; i++) {
            uint64_t size = 0;
            c->offsets[i] = (uint32_t)(at - start);
            check(varint_read(&at, start + kept.size, &size));
            at += size;
        }
        d->stats.bytes += kept.size;
        done += taken;
    }
    buf_fini(&body);
}

static int apply_batch(struct store_mem *s, const struct store_batch *b, struct err *err)
{
    struct mem_data *d = s->data;
    size_t jobs_count = d->jobs_count, tails_count = d->tails_count;
    int rc = 0;
    s->applying = b;
    s->job_next = s->jobs_used = s->tails_used = 0;
    for (size_t i = 0; i < b->records_count && rc == 0; i++) {
        if (b->records[i].seq == d->meta.last_seq + 1 + i)
            rc = apply(s, &b->records[i], err);
        else
            rc = err_set(err, ERR_INTERNAL, "record %" PRIu64 " does not follow record %" PRIu64, b->records[i].seq,
                         d->meta.last_seq + i);
    }
    if (rc == 0 && s->jobs_used != b->jobs_count)
        rc = err_set(err, ERR_INTERNAL, "%zu jobs came without their records", b->jobs_count - s->jobs_used);
    if (rc == 0 && s->tails_used != b->tails_count)
        rc = err_set(err, ERR_INTERNAL, "%zu outputs came without their records", b->tails_count - s->tails_used);
    if (rc < 0)
        roll_back(s, jobs_count, tails_count);
    s->applying = NULL;
    return rc;
}

static enum store_outcome commit(struct store_mem *s, const struct store_batch *b, struct err *err)
{
    struct mem_data *d = s->data;
    check(b->records_count > 0);
    if (s->broken) {
        *err = s->why;
        return STORE_UNKNOWN;
    }
    const struct record *first = &b->records[0];
    bool leads = first->kind == EV_EPOCH && first->epoch.epoch > d->meta.epoch;
    if (!leads && b->epoch != d->meta.epoch) {
        err_set(err, ERR_STALE, "another master leads: the store is not at epoch %" PRIu64, b->epoch);
        return STORE_STALE;
    }
    if (apply_batch(s, b, err) < 0) {
        s->broken = true;
        s->why = *err;
        d->stats.errors++;
        return STORE_UNKNOWN;
    }
    if (leads)
        d->meta.epoch = first->epoch.epoch;
    chunks_add(d, b->records, b->records_count);
    d->meta.last_seq += b->records_count;
    d->stats.commits++;
    d->stats.records += b->records_count;
    return STORE_COMMITTED;
}

/* Calls out last: the store may be appended to in it, or closed. */
static void finish(struct store_mem *s)
{
    struct err err = { .code = ERR_OK };
    if (!s->in_flight)
        return;
    enum store_outcome outcome = commit(s, &s->batch, &err);
    s->in_flight = false;
    s->events.on_commit(s->events.arg, outcome, outcome == STORE_COMMITTED ? NULL : &err);
}

static void woken(void *arg)
{
    finish(arg);
}

static void mem_append(struct store *base, const struct store_batch *batch)
{
    struct store_mem *s = self(base);
    check(!s->in_flight);
    s->batch = *batch;
    s->in_flight = true;
    if (s->loop)
        loop_wake(s->wake);
    else
        finish(s);
}

/* --- reading --- */

static void mem_meta(const struct store *base, struct store_meta *out)
{
    *out = self(base)->data->meta;
}

/* The chunk with the record, or the one behind it. */
static size_t chunk_at(const struct mem_data *d, uint64_t seq)
{
    size_t low = 0, high = d->chunks_count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const struct store_chunk *c = &d->chunks[mid].chunk;
        if (c->first_seq + c->count <= seq)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static void record_at(const struct mem_data *d, uint64_t seq, struct record *out)
{
    const struct mem_chunk *c = &d->chunks[chunk_at(d, seq)];
    const uint8_t *start = (const uint8_t *)c->chunk.body.data, *at = start + c->offsets[seq - c->chunk.first_seq];
    check(record_decode(&at, start + c->chunk.body.size, out, NULL) == 0 && out->seq == seq);
}

static int mem_replay(struct store *base, uint64_t from_seq, uint64_t max,
                      int (*each)(void *arg, const struct record *r, struct err *err), void *arg, struct err *err)
{
    const struct mem_data *d = self(base)->data;
    uint64_t left = max ? max : UINT64_MAX;
    for (uint64_t seq = from_seq ? from_seq : 1; seq <= d->meta.last_seq && left; seq++, left--) {
        struct record r;
        record_at(d, seq, &r);
        int rc = each ? each(arg, &r, err) : 0;
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int mem_spec(struct store *base, job_id job, struct buf *out, struct err *err)
{
    const struct mem_job *j = job_find(self(base)->data, job);
    if (!j || !j->has_spec)
        return err_set(err, ERR_NOT_FOUND, "there is no job %" PRIu64, job.n);
    buf_add(out, j->spec.data, j->spec.size);
    return 0;
}

static int mem_key(struct store *base, struct bytes owner, struct bytes key, job_id *job, struct buf *digest,
                   struct err *err)
{
    const struct mem_data *d = self(base)->data;
    uint64_t *at = key.size ? store_map_get(&d->key_at, key_idem(owner, key)) : NULL;
    if (!at)
        return err_set(err, ERR_NOT_FOUND, "the key has not been used");
    *job = d->jobs[*at].job;
    if (digest)
        buf_add(digest, d->jobs[*at].digest.data, d->jobs[*at].digest.size);
    return 0;
}

static bool begins(const struct buf *text, struct bytes beginning)
{
    return text->size >= beginning.size && memcmp(text->data, beginning.data, beginning.size) == 0;
}

/* Nothing is committed within a turn. */
static void mem_hold(struct store *base, bool on)
{
    (void)base, (void)on;
}

static int mem_key_begins(struct store *base, struct bytes owner, struct bytes beginning, bool *used, struct err *err)
{
    (void)err;
    const struct mem_data *d = self(base)->data;
    check(beginning.size && (uint8_t)beginning.data[beginning.size - 1] < 255);
    *used = false;
    for (size_t i = 0; i < d->jobs_count && !*used; i++)
        *used = bytes_equal(buf_bytes(&d->jobs[i].owner), owner) && begins(&d->jobs[i].key, beginning);
    return 0;
}

static int64_t task_order(uint32_t task)
{
    return task >= TASK_ALL ? -1 : (int64_t)task;
}

static int ref_compare(struct attempt_ref a, struct attempt_ref b)
{
    int64_t at = task_order(a.task), bt = task_order(b.task);
    if (at != bt)
        return at < bt ? -1 : 1;
    return (a.attempt > b.attempt) - (a.attempt < b.attempt);
}

static int attempt_compare(const void *a, const void *b)
{
    return ref_compare((*(const struct mem_attempt *const *)a)->ref, (*(const struct mem_attempt *const *)b)->ref);
}

static void attempt_tell(const struct mem_data *d, const struct mem_attempt *from, struct store_attempt *to)
{
    uint64_t numbers[3] = { from->assigned, from->started, from->ended };
    *to = (struct store_attempt){ .ref = from->ref };
    for (size_t i = 0; i < 3; i++) {
        struct record r;
        if (!numbers[i])
            continue;
        record_at(d, numbers[i], &r);
        store_attempt_add(to, &r);
    }
}

static int attempts(struct store *base, struct attempt_ref from, bool all_tasks, size_t max,
                    void (*each)(void *arg, const struct store_attempt *a), void *arg)
{
    const struct mem_data *d = self(base)->data;
    const struct mem_job *j = job_find(d, from.job);
    if (!j)
        return 0;
    autofree const struct mem_attempt **rows = mem_alloc(j->attempts_count * sizeof *rows);
    size_t count = 0;
    for (size_t i = 0; i < j->attempts_count; i++) {
        const struct mem_attempt *a = &d->attempts[j->attempts[i]];
        if (ref_compare(a->ref, from) >= 0 && (all_tasks || a->ref.task == from.task))
            rows[count++] = a;
    }
    qsort(rows, count, sizeof *rows, attempt_compare);
    for (size_t i = 0; i < count && i < max; i++) {
        struct store_attempt row;
        attempt_tell(d, rows[i], &row);
        each(arg, &row);
    }
    return 0;
}

static int mem_attempts(struct store *base, struct attempt_ref from, size_t max,
                        void (*each)(void *arg, const struct store_attempt *a), void *arg, struct err *err)
{
    (void)err;
    bool all = from.task == TASK_ALL;
    return attempts(base, all ? (struct attempt_ref){ from.job, TASK_ALL, 0 } : from, all, max, each, arg);
}

static int mem_attempts_page(struct store *base, struct attempt_ref from, size_t max,
                             void (*each)(void *arg, const struct store_attempt *a), void *arg, struct err *err)
{
    (void)err;
    return attempts(base, from, true, max, each, arg);
}

static int mem_tails(struct store *base, struct attempt_ref ref, struct buf *stdout_tail, struct buf *stderr_tail,
                     struct err *err)
{
    const struct mem_data *d = self(base)->data;
    uint64_t *at = store_map_get(&d->tail_at, key_attempt(ref));
    if (!at || d->tails[*at].out.size + d->tails[*at].errs.size == 0)
        return err_set(err, ERR_NOT_FOUND, "no output is kept of attempt %" PRIu32 " of job %" PRIu64, ref.attempt,
                       ref.job.n);
    buf_add(stdout_tail, d->tails[*at].out.data, d->tails[*at].out.size);
    buf_add(stderr_tail, d->tails[*at].errs.data, d->tails[*at].errs.size);
    return 0;
}

static int mem_usage(struct store *base, struct attempt_ref ref, struct buf *out, struct err *err)
{
    const struct mem_data *d = self(base)->data;
    uint64_t *at = store_map_get(&d->tail_at, key_attempt(ref));
    if (!at || !d->tails[*at].usage.size)
        return err_set(err, ERR_NOT_FOUND, "no samples are kept of attempt %" PRIu32 " of job %" PRIu64, ref.attempt,
                       ref.job.n);
    buf_add(out, d->tails[*at].usage.data, d->tails[*at].usage.size);
    return 0;
}

static int mem_job_events(struct store *base, job_id job, uint64_t from_seq, size_t max,
                          void (*each)(void *arg, const struct record *r), void *arg, struct err *err)
{
    (void)err;
    const struct mem_data *d = self(base)->data;
    const struct mem_job *j = job_find(d, job);
    for (size_t i = 0; j && i < j->events_count && max; i++) {
        struct record r;
        if (j->events[i] < from_seq)
            continue;
        record_at(d, j->events[i], &r);
        each(arg, &r);
        max--;
    }
    return 0;
}

/* --- snapshots --- */

static void add_piece(void *to, struct bytes piece)
{
    struct buf *out = to;
    buf_add(out, &piece.size, sizeof piece.size);
    buf_add(out, piece.data, piece.size);
}

static int mem_snapshot_save(struct store *base, uint64_t seq, store_snapshot_write *write, void *arg, struct err *err)
{
    struct mem_data *d = self(base)->data;
    bool ends = false;
    for (size_t i = 0; i < d->chunks_count && !ends; i++)
        ends = d->chunks[i].chunk.first_seq + d->chunks[i].chunk.count == seq + 1;
    if (!ends)
        return err_set(err, ERR_CORRUPT, "no batch of the journal ends with record %" PRIu64, seq);
    buf_clear(&d->snapshot);
    write(arg, add_piece, &d->snapshot);
    d->snapshot_seq = seq;
    return 0;
}

static int mem_snapshot_load(struct store *base, uint64_t *seq,
                             int (*each)(void *arg, struct bytes piece, struct err *err), void *arg, struct err *err)
{
    const struct mem_data *d = self(base)->data;
    if (!d->snapshot_seq)
        return err_set(err, ERR_NOT_FOUND, "there is no snapshot");
    *seq = d->snapshot_seq;
    for (size_t at = 0, size; at < d->snapshot.size; at += sizeof size + size) {
        memcpy(&size, d->snapshot.data + at, sizeof size);
        int rc = each(arg, bytes_of(d->snapshot.data + at + sizeof size, size), err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* --- the rest --- */

static bool mem_use_reserve(struct store *base)
{
    (void)base;
    return false;
}

static bool mem_refill_reserve(struct store *base)
{
    (void)base;
    return true;
}

static int mem_backup(struct store *base, const char *path, struct err *err)
{
    (void)base;
    return err_set(err, ERR_INVALID, "%s: a store in memory has no backup", path);
}

static void mem_stats(const struct store *base, struct store_stats *out)
{
    *out = self(base)->data->stats;
    out->free_bytes = UINT64_MAX;
}

static void data_free(struct mem_data *d)
{
    views_fini(d);
    for (size_t i = 0; i < d->jobs_count; i++)
        job_fini(&d->jobs[i]);
    for (size_t i = 0; i < d->tails_count; i++)
        tail_fini(&d->tails[i]);
    for (size_t i = 0; i < d->chunks_count; i++) {
        free((void *)(uintptr_t)d->chunks[i].chunk.body.data);
        free(d->chunks[i].offsets);
    }
    free(d->jobs);
    free(d->tails);
    free(d->chunks);
    free(d->attempts);
    buf_fini(&d->snapshot);
    free(d->name);
    free(d);
}

void store_mem_crash(struct store *base)
{
    struct store_mem *s = self(base);
    check(s->base.ops->name && strcmp(s->base.ops->name, "mem") == 0);
    if (s->wake)
        loop_wake_remove(s->wake);
    pthread_mutex_lock(&names_mutex);
    s->data->open = false;
    pthread_mutex_unlock(&names_mutex);
    if (!s->data->name)
        data_free(s->data);
    free(s);
}

static void mem_close(struct store *base)
{
    finish(self(base));
    store_mem_crash(base);
}

static const struct store_ops mem_ops = {
    .name = "mem",
    .meta = mem_meta,
    .replay = mem_replay,
    .append = mem_append,
    .use_reserve = mem_use_reserve,
    .refill_reserve = mem_refill_reserve,
    .spec = mem_spec,
    .key = mem_key,
    .key_begins = mem_key_begins,
    .hold = mem_hold,
    .attempts = mem_attempts,
    .tails = mem_tails,
    .usage = mem_usage,
    .job_events = mem_job_events,
    .backup = mem_backup,
    .stats = mem_stats,
    .close = mem_close,
    .attempts_page = mem_attempts_page,
    .replay_apart = mem_replay,
    .snapshot_save = mem_snapshot_save,
    .snapshot_load = mem_snapshot_load,
};

static struct mem_data *data_new(const char *name)
{
    struct mem_data *d = mem_zero(1, sizeof *d);
    d->name = mem_str(name);
    d->meta.created = true;
    /* From the name, so that a simulation is the same each time. */
    const char *text = name ? name : "";
    XXH128_hash_t cluster = XXH3_128bits_withSeed(text, strlen(text), 1),
                  token = XXH3_128bits_withSeed(text, strlen(text), 2);
    memcpy(d->meta.cluster, &cluster, sizeof d->meta.cluster);
    memcpy(d->meta.token_key, &token, sizeof d->meta.token_key);
    return d;
}

static struct mem_data *data_named(const char *name)
{
    struct mem_data *d = names;
    while (d && strcmp(d->name, name) != 0)
        d = d->next;
    if (d) {
        d->meta.created = false;
        return d;
    }
    d = data_new(name);
    d->next = names;
    names = d;
    return d;
}

struct store *store_mem_open(struct loop *loop, const char *name, const struct store_events *events, struct err *err)
{
    struct mem_data *d;
    if (name) {
        pthread_mutex_lock(&names_mutex);
        d = data_named(name);
        bool open = d->open;
        d->open = true;
        pthread_mutex_unlock(&names_mutex);
        if (open) {
            err_set(err, ERR_LOCKED, "the store %s is open already", name);
            return NULL;
        }
    } else {
        d = data_new(NULL);
    }
    struct store_mem *s = mem_zero(1, sizeof *s);
    s->base.ops = &mem_ops;
    s->loop = loop;
    s->events = *events;
    s->data = d;
    if (loop)
        s->wake = loop_wake_add(loop, woken, s);
    return &s->base;
}

void store_mem_drop(const char *name)
{
    pthread_mutex_lock(&names_mutex);
    for (struct mem_data **at = &names; *at; at = &(*at)->next) {
        if (strcmp((*at)->name, name) != 0)
            continue;
        struct mem_data *d = *at;
        check(!d->open);
        *at = d->next;
        data_free(d);
        break;
    }
    pthread_mutex_unlock(&names_mutex);
}
