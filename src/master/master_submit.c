#include <inttypes.h>
#include <stdio.h>
#include <xxhash.h>

#include "base/mem.h"
#include "base/parse.h"
#include "master/body.h"
#include "master/master_int.h"
#include "obs/metrics.h"
#include "wire/json_in.h"

#define KEY_BYTES_MAX 255u
#define KEY_LINE_SEPARATOR '\x1f' /* can not be in a key that users give */
#define LIST_JOBS_MAX 1000u       /* in one JSON list; more come as NDJSON */
#define RANGES_MAX 1000u          /* told of a stream's ids */

/* Who submits, with which key. */
struct submission {
    struct master *m;
    const struct auth_identity *who;
    struct bytes key; /* from the header; size 0: none */
    uint64_t number;  /* of the line or element, from 1; 0: the only job of the request */
    bool unused;      /* no other request with lines or elements has used the key: none of ours is known */
};

/* A job as it came and as it is kept. */
struct prepared {
    const struct job_spec *spec;
    struct bytes encoded;
    struct bytes own_key;  /* the job's own; size 0: none */
    const uint8_t *digest; /* KEY_DIGEST_BYTES */
};

/* --- one job --- */

static int check_key(struct bytes key, struct err *err)
{
    if (key.size > KEY_BYTES_MAX || !parse_name_ok(key, KEY_BYTES_MAX))
        return err_field(err, ERR_INVALID, "key", "use for example a UUID",
                         "an idempotency key has 1 to %u bytes and no control characters", KEY_BYTES_MAX);
    return 0;
}

/* What the keys of all jobs of one request begin with. */
static void key_base(struct bytes key, struct buf *base)
{
    buf_add(base, key.data, key.size);
    buf_char(base, KEY_LINE_SEPARATOR);
}

/* The key under which this job is known: its own, or the request's, made different for each of its jobs. The command
 * line gives every request a key; of a list or stream a job that has one keeps it. *base_size: how much of it others of
 * the request share. */
static int find_key(const struct submission *s, struct bytes own, struct buf *key, size_t *base_size, struct err *err)
{
    if (!s->number && s->key.size && own.size && !bytes_equal(s->key, own))
        return err_field(err, ERR_INVALID, "key", "give only one of them",
                         "the job has a key of its own beside the header Idempotency-Key");
    if (!s->key.size && !own.size)
        return 0;
    struct bytes base = own.size ? own : s->key;
    int rc = check_key(base, err);
    if (rc < 0)
        return rc;
    if (own.size || !s->number) {
        buf_add(key, base.data, base.size);
        *base_size = key->size;
        return 0;
    }
    key_base(base, key);
    *base_size = key->size;
    /* With the count of digits before them numbers are in order as text too: the store adds them at the end. */
    size_t at = key->size;
    buf_char(key, 0);
    buf_u64(key, s->number);
    key->data[at] = (char)('a' + (key->size - at - 2));
    return 0;
}

static bool same_digest(struct bytes known, const uint8_t digest[KEY_DIGEST_BYTES])
{
    const size_t half = KEY_DIGEST_BYTES / 2;
    return known.size == KEY_DIGEST_BYTES &&
           (memcmp(known.data, digest, half) == 0 || memcmp(known.data + half, digest + half, half) == 0);
}

/* 1: the key was used before, by the same job: *job is it. 0: the key is new. */
static int known_key(const struct submission *s, struct bytes key, bool own, const uint8_t digest[KEY_DIGEST_BYTES],
                     job_id *job, struct err *err)
{
    struct master *m = s->m;
    struct bytes owner = bytes_str(s->who->user);
    const struct key_entry *e = keys_find(m->keys, owner, key);
    bool same;
    if (e) {
        same = same_digest(bytes_of(e->digest, sizeof e->digest), digest);
        *job = e->job;
    } else if (s->unused && s->number && !own) {
        return 0;
    } else {
        autobuf struct buf stored = BUF_INIT;
        struct err why;
        if (m->store->ops->key(m->store, owner, key, job, &stored, &why) < 0) {
            if (why.code == ERR_NOT_FOUND)
                return 0;
            *err = why;
            return -(int)why.code;
        }
        same = same_digest(buf_bytes(&stored), digest);
    }
    if (!same)
        return err_field(err, ERR_CONFLICT, "key", "use a new key for a new job",
                         "this key was used for job %" PRIu64 ", which is another one", job->n);
    return 1;
}

int submit_no_space(struct err *err)
{
    metric_add_label(M_JOBS_REJECTED, "no_space", 1);
    return err_field(err, ERR_NO_SPACE, NULL, "free space on the disk of the state directory, then send it again",
                     "the disk of the store is nearly full: nothing new is accepted");
}

/* A job with an image goes where a container engine is. */
static int need_container(struct job_request *r, struct named_resource room[RES_NAMED_MAX], struct err *err)
{
    for (size_t i = 0; i < r->named_count; i++)
        if (strncmp(r->named[i].name, RES_CONTAINERS, RES_NAME_BYTES) == 0)
            return 0;
    if (r->named_count == RES_NAMED_MAX)
        return err_field(err, ERR_INVALID, "resources", "leave one out", "at most %d named resources beside an image",
                         RES_NAMED_MAX - 1);
    for (size_t i = 0; i < r->named_count; i++)
        room[i] = r->named[i];
    room[r->named_count] = (struct named_resource){ RES_CONTAINERS, 1 };
    r->named = room;
    r->named_count++;
    return 0;
}

/* The job with the memory that is taken for it; what it is known by stays what was asked. */
static void take_memory(struct master *m, const struct prepared *from, struct job_spec *spec, struct buf *encoded,
                        struct prepared *p)
{
    *p = *from;
    *spec = *from->spec;
    spec->key = bytes_of(NULL, 0);
    spec->mem_start_bytes = spec->request.need.v[RES_MEM];
    spec->request.need.v[RES_MEM] =
        sizing_memory(m, spec->request.user, spec->request.name, spec->mem_start_bytes, &spec->mem_runs);
    spec_encode(encoded, spec);
    p->spec = spec;
    p->encoded = buf_bytes(encoded);
}

/* Steps the brain and lets the spec ride with the record. */
static int enqueue(struct master *m, const struct auth_identity *who, const struct prepared *p, struct bytes key,
                   size_t base_size, job_id *job, struct err *err)
{
    struct prepared sized;
    struct job_spec spec;
    autobuf struct buf encoded = BUF_INIT;
    if (p->spec->mem_auto) {
        take_memory(m, p, &spec, &encoded, &sized);
        p = &sized;
    }
    if (p->encoded.size > SPEC_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "the job is larger than %u bytes", SPEC_BYTES_MAX);
    struct sched_event ev = { .kind = SCHED_SUBMIT, .submit = p->spec->request };
    struct named_resource named[RES_NAMED_MAX];
    if (p->spec->image.size && need_container(&ev.submit, named, err) < 0)
        return -(int)err->code;
    struct sched_result result;
    if (m->store_low)
        return submit_no_space(err);
    master_step(m, &ev, &result);
    if (result.err.code) {
        metric_add_label(M_JOBS_REJECTED, result.err.code == ERR_FULL ? "full" : "invalid", 1);
        *err = result.err;
        return -(int)result.err.code;
    }
    *job = result.job;
    if (!result.job.n)
        return 0;
    struct ride *ride = master_ride(m);
    ride->jobs = mem_grow(ride->jobs, &ride->jobs_cap, ride->jobs_count + 1, sizeof *ride->jobs);
    struct store_job *sj = &ride->jobs[ride->jobs_count++];
    *sj = (struct store_job){ .job = result.job,
                              .spec = arena_bytes(&ride->arena, p->encoded),
                              .owner = arena_bytes(&ride->arena, bytes_str(who->user)) };
    if (key.size) {
        sj->key = arena_bytes(&ride->arena, key);
        sj->key_digest = arena_bytes(&ride->arena, bytes_of(p->digest, KEY_DIGEST_BYTES));
        keys_add(m->keys, &ride->arena, &ride->keys, sj->owner, key, base_size, p->digest, result.job);
    }
    ride->bytes += p->encoded.size + key.size + 128;
    spec_cache_offer(m->specs, result.job, p->encoded);
    return 0;
}

static int fill_user(const struct auth_identity *who, struct job_request *request, struct err *err)
{
    struct bytes own = bytes_str(who->user);
    if (request->user.size == 0)
        request->user = own;
    if (!bytes_equal(request->user, own) && who->role < API_ROLE_ADMIN)
        return err_field(err, ERR_DENIED, "user", "leave it out", "only an admin submits for somebody else");
    return 0;
}

/* 1: known before, *job is it; 0: a new job. */
static int submit_prepared(const struct submission *s, const struct prepared *p, job_id *job, struct err *err)
{
    autobuf struct buf key = BUF_INIT;
    size_t base_size = 0;
    int rc = find_key(s, p->own_key, &key, &base_size, err);
    if (rc == 0 && key.size)
        rc = known_key(s, buf_bytes(&key), p->own_key.size > 0, p->digest, job, err);
    return rc ? rc : enqueue(s->m, s->who, p, buf_bytes(&key), base_size, job, err);
}

static void digest_half(struct bytes of, uint8_t *out)
{
    XXH128_canonical_t sum;
    XXH128_canonicalFromHash(&sum, XXH3_128bits(of.data, of.size));
    _Static_assert(sizeof sum == KEY_DIGEST_BYTES / 2, "one half for each");
    memcpy(out, &sum, sizeof sum);
}

/* encoded is cleared first; what *p points to are it, the spec and digest. The key is kept beside the spec, not in it:
 * it does not say what the job is. */
static void prepare(struct bytes json, const struct job_spec *spec, struct buf *encoded,
                    uint8_t digest[KEY_DIGEST_BYTES], struct prepared *p)
{
    struct job_spec plain = *spec;
    plain.key = bytes_of(NULL, 0);
    buf_clear(encoded);
    spec_encode(encoded, &plain);
    digest_half(buf_bytes(encoded), digest);
    digest_half(json, digest + KEY_DIGEST_BYTES / 2);
    *p = (struct prepared){ spec, buf_bytes(encoded), spec->key, digest };
}

static int read_spec(struct master *m, struct arena *arena, const struct auth_identity *who, struct bytes json, struct job_spec *spec,
                     struct err *err)
{
    int rc = spec_from_json(arena, json, spec, err);
    if (rc < 0) {
        metric_add_label(M_JOBS_REJECTED, "invalid", 1);
        if (!err->field[0])
            snprintf(err->field, sizeof err->field, "body");
        return rc;
    }
    if (spec->notify.size && (rc = notify_check(m, spec->notify, err)) < 0)
        return rc;
    spec->request.notify = spec->notify.size > 0;
    return fill_user(who, &spec->request, err);
}

/* A stream of jobs often repeats the same line: then it is read once. */
static int submit_json(const struct submission *s, struct bytes json, job_id *job, struct err *err)
{
    struct master *m = s->m;
    if (m->memo.valid && m->memo.who == s->who && bytes_equal(buf_bytes(&m->memo.line), json)) {
        struct prepared p = { &m->memo.spec, buf_bytes(&m->memo.encoded), m->memo.spec.key, m->memo.digest };
        return submit_prepared(s, &p, job, err);
    }
    m->memo.valid = false;
    arena_reset(&m->memo.arena);
    int rc = read_spec(m, &m->memo.arena, s->who, json, &m->memo.spec, err);
    if (rc < 0)
        return rc;
    struct prepared p;
    prepare(json, &m->memo.spec, &m->memo.encoded, m->memo.digest, &p);
    rc = submit_prepared(s, &p, job, err);
    if (rc < 0)
        return rc;
    buf_clear(&m->memo.line);
    buf_add(&m->memo.line, json.data, json.size);
    m->memo.who = s->who;
    m->memo.valid = true;
    return rc;
}

int submit_again(struct master *m, const struct auth_identity *who, job_id retry_of, uint32_t first, uint32_t step,
                 uint32_t tasks, job_id *job, struct err *err)
{
    arena_reset(&m->submit);
    struct bytes encoded;
    autobuf struct buf stored = BUF_INIT;
    if (!spec_cache_find(m->specs, retry_of, &encoded)) {
        int rc = m->store->ops->spec(m->store, retry_of, &stored, err);
        if (rc < 0)
            return err_wrap(err, "the spec of job %" PRIu64, retry_of.n);
        encoded = buf_bytes(&stored);
    }
    struct job_spec spec;
    int rc = spec_decode(&m->submit, encoded, &spec, err);
    if (rc < 0)
        return err_wrap(err, "the spec of job %" PRIu64, retry_of.n);
    /* It has waited once: what it waited for is over, and its dates may be. */
    spec.request.retry_of = retry_of;
    if (spec.mem_auto)
        spec.request.need.v[RES_MEM] = spec.mem_start_bytes;
    spec.request.after = NULL;
    spec.request.after_count = 0;
    spec.request.begin_wall_ms = spec.request.deadline_wall_ms = 0;
    spec.request.held = false;
    spec.key = bytes_of(NULL, 0);
    spec.request.notify = spec.notify.size > 0;
    if (tasks) {
        spec.request.first = first;
        spec.request.step = step;
        spec.request.tasks = tasks;
    }
    rc = fill_user(who, &spec.request, err);
    if (rc < 0)
        return rc;
    autobuf struct buf again = BUF_INIT;
    spec_encode(&again, &spec);
    struct prepared p = { .spec = &spec, .encoded = buf_bytes(&again) };
    return enqueue(m, who, &p, bytes_of(NULL, 0), 0, job, err);
}

int submit_check(struct master *m, const struct auth_identity *who, struct bytes json, struct bytes *user, struct err *err)
{
    struct job_spec spec;
    arena_reset(&m->submit);
    int rc = read_spec(m, &m->submit, who, json, &spec, err);
    if (rc < 0)
        return rc;
    if (spec.key.size)
        return err_field(err, ERR_INVALID, "key", "leave it out", "jobs that come again can not all have one idempotency key");
    *user = arena_bytes(&m->turn, spec.request.user);
    return 0;
}

int submit_cron(struct master *m, const struct auth_identity *who, struct bytes cron, int64_t due_wall_ms, struct bytes json, job_id *job,
                struct err *err)
{
    struct job_spec spec;
    arena_reset(&m->submit);
    int rc = read_spec(m, &m->submit, who, json, &spec, err);
    if (rc < 0)
        return rc;
    autobuf struct buf encoded = BUF_INIT;
    if (!body_member(json, "name").size)
        spec.request.name = cron;
    spec.cron = cron;
    spec.cron_due_wall_ms = due_wall_ms;
    spec.request.cron = cron;
    spec.request.due_wall_ms = due_wall_ms;
    spec_encode(&encoded, &spec);
    struct prepared p = { .spec = &spec, .encoded = buf_bytes(&encoded) };
    return enqueue(m, who, &p, bytes_of(NULL, 0), 0, job, err);
}

/* --- a stream of jobs --- */

struct bulk {
    struct list_node node;   /* in m->streams */
    struct list_node paused; /* in m->bulks */
    struct http_request *r;
    struct submission s;
    struct ndjson lines;
    uint64_t count, fresh; /* jobs accepted; of them not known before */
    struct {
        uint64_t first, last;
    } * ranges;
    size_t ranges_count, ranges_cap;
    bool ranges_cut;
    bool failed;
    struct err err;
    char *key;
};

/* Whether no job of any request has this key yet. From here on a stream with the same key can not be sure of that. */
static bool key_unused(struct master *m, const struct auth_identity *who, struct bytes key)
{
    bool unused = true;
    list_each(node, &m->streams)
    {
        struct bulk *b = list_entry(node, struct bulk, node);
        if (strcmp(b->s.who->user, who->user) != 0 || !bytes_equal(b->s.key, key))
            continue;
        b->s.unused = false;
        unused = false;
    }
    autobuf struct buf base = BUF_INIT;
    key_base(key, &base);
    bool used = true;
    struct err err;
    if (!unused || keys_base(m->keys, bytes_str(who->user), buf_bytes(&base)) ||
        m->store->ops->key_begins(m->store, bytes_str(who->user), buf_bytes(&base), &used, &err) < 0)
        return false; /* Whatever is wrong with the store is told by whoever looks up the key. */
    return !used;
}

static struct submission submission_of(struct exchange *x)
{
    struct bytes key = bytes_str(http_header(x->r, "Idempotency-Key"));
    return (
        struct submission){ .m = x->m, .who = x->who, .key = key, .unused = key.size && key_unused(x->m, x->who, key) };
}

static struct bulk *bulk_of(struct exchange *x)
{
    if (x->bulk)
        return x->bulk;
    struct bulk *b = mem_zero(1, sizeof *b);
    list_init(&b->paused);
    list_init(&b->node);
    ndjson_init(&b->lines, JOB_BODY_MAX);
    b->r = x->r;
    b->s = submission_of(x);
    b->key = b->s.key.data ? mem_str(b->s.key.data) : NULL;
    b->s.key = bytes_str(b->key);
    list_append(&x->m->streams, &b->node);
    x->bulk = b;
    return b;
}

static void note_id(struct bulk *b, uint64_t id)
{
    b->count++;
    if (b->ranges_count && b->ranges[b->ranges_count - 1].last + 1 == id) {
        b->ranges[b->ranges_count - 1].last = id;
        return;
    }
    if (b->ranges_count == RANGES_MAX) {
        b->ranges_cut = true;
        b->ranges[RANGES_MAX - 1].last = id;
        return;
    }
    b->ranges = mem_grow(b->ranges, &b->ranges_cap, b->ranges_count + 1, sizeof *b->ranges);
    b->ranges[b->ranges_count].first = b->ranges[b->ranges_count].last = id;
    b->ranges_count++;
}

static void bulk_fail(struct bulk *b, uint64_t number, const struct err *err)
{
    b->failed = true;
    b->err = *err;
    snprintf(b->err.field, sizeof b->err.field, "line %" PRIu64 "%s%.60s", number, err->field[0] ? ": " : "",
             err->field);
}

static void submit_line(struct bulk *b, struct bytes line, uint64_t number)
{
    struct err err;
    job_id job;
    b->s.number = number;
    int rc = submit_json(&b->s, line, &job, &err);
    if (rc < 0) {
        bulk_fail(b, number, &err);
        return;
    }
    b->fresh += rc == 0;
    note_id(b, job.n);
}

/* What comes after a line that was refused is read and thrown away, so that the client gets to read the answer. */
void submit_body(struct exchange *x, struct bytes piece)
{
    struct bulk *b = bulk_of(x);
    struct err err;
    struct bytes line;
    uint64_t number;
    if (b->failed)
        return;
    ndjson_feed(&b->lines, piece);
    int rc;
    while (!b->failed && (rc = ndjson_next(&b->lines, &line, &number, &err)) != 0) {
        if (rc < 0)
            bulk_fail(b, b->lines.line + 1, &err);
        else
            submit_line(b, line, number);
    }
    if (master_crowded(x->m) && !list_linked(&b->paused)) {
        http_pause(x->r, true);
        list_append(&x->m->bulks, &b->paused);
    }
}

void submit_resume(struct master *m)
{
    if (master_crowded(m))
        return;
    list_each_safe(node, &m->bulks)
    {
        struct bulk *b = list_entry(node, struct bulk, paused);
        list_remove(&b->paused);
        http_pause(b->r, false);
    }
}

void submit_gone(struct exchange *x)
{
    struct bulk *b = x->bulk;
    list_remove(&b->node);
    list_remove(&b->paused);
    ndjson_fini(&b->lines);
    free(b->ranges);
    free(b->key);
    free(b);
    x->bulk = NULL;
}

static void bulk_members(struct json_out *j, const struct bulk *b)
{
    if (b->count) {
        json_u64(j, "first", b->ranges[0].first);
        json_u64(j, "last", b->ranges[b->ranges_count - 1].last);
    }
    json_open(j, "ranges", '[');
    for (size_t i = 0; i < b->ranges_count; i++) {
        json_open(j, NULL, '[');
        json_u64(j, NULL, b->ranges[i].first);
        json_u64(j, NULL, b->ranges[i].last);
        json_close(j, ']');
    }
    json_close(j, ']');
    if (b->ranges_cut)
        json_bool(j, "ranges_cut", true);
}

/* The problem, and what was accepted before it. */
static void bulk_problem(struct exchange *x, const struct bulk *b)
{
    autobuf struct buf members = BUF_INIT;
    struct json_out j = json_out_to(&members);
    j.comma = true;
    json_u64(&j, "accepted", b->count);
    bulk_members(&j, b);
    problem_json(&x->answer, &b->err, buf_bytes(&members));
    exchange_json(x, err_http_status(b->err.code));
}

static void bulk_end(struct exchange *x)
{
    struct bulk *b = bulk_of(x);
    struct bytes line;
    uint64_t number;
    struct err err;
    if (!b->failed) {
        int rc = ndjson_end(&b->lines, &line, &number, &err);
        if (rc < 0)
            bulk_fail(b, b->lines.line + 1, &err);
        else if (rc > 0)
            submit_line(b, line, number);
    }
    if (!b->failed && b->count == 0) {
        err_field(&err, ERR_INVALID, "body", "send one JSON object per line", "there is no job in the body");
        exchange_error(x, &err);
        return;
    }
    if (b->failed) {
        bulk_problem(x, b);
        return;
    }
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    json_u64(&j, "count", b->count);
    bulk_members(&j, b);
    json_close(&j, '}');
    exchange_json(x, b->fresh ? 201 : 200);
}

/* --- a list of jobs, all of them read before the first is taken --- */

struct listed {
    struct job_spec *specs;
    struct bytes *texts;
    size_t count;
};

static void prefix_field(struct err *err, size_t index)
{
    char field[sizeof err->field];
    snprintf(field, sizeof field, "[%zu]%s%.80s", index, err->field[0] ? "." : "", err->field);
    memcpy(err->field, field, sizeof field);
}

static int read_list(struct exchange *x, struct listed *l, struct err *err)
{
    struct master *m = x->m;
    struct body_list list;
    struct bytes element;
    int rc;
    body_list_start(&list, buf_bytes(&x->body));
    l->specs = arena_alloc(&m->submit, LIST_JOBS_MAX * sizeof *l->specs);
    l->texts = arena_alloc(&m->submit, LIST_JOBS_MAX * sizeof *l->texts);
    while ((rc = body_list_next(&list, &element, err)) > 0) {
        if (l->count == LIST_JOBS_MAX)
            return err_field(err, ERR_TOO_LARGE, "body", "send them as application/x-ndjson, one job per line",
                             "more than %u jobs in one list", LIST_JOBS_MAX);
        rc = read_spec(m, &m->submit, x->who, element, &l->specs[l->count], err);
        if (rc < 0) {
            prefix_field(err, l->count);
            return rc;
        }
        l->texts[l->count++] = element;
    }
    if (rc == 0 && l->count == 0)
        return err_field(err, ERR_INVALID, "body", "send at least one job", "the list is empty");
    return rc;
}

static void ids_json(struct json_out *j, const uint64_t *ids, size_t count)
{
    json_open(j, "ids", '[');
    for (size_t i = 0; i < count; i++)
        json_u64(j, NULL, ids[i]);
    json_close(j, ']');
}

static void submit_list(struct exchange *x)
{
    struct listed l = { 0 };
    struct err err;
    arena_reset(&x->m->submit);
    if (read_list(x, &l, &err) < 0) {
        exchange_error(x, &err);
        return;
    }
    struct submission s = submission_of(x);
    uint64_t *ids = arena_alloc(&x->m->submit, l.count * sizeof *ids);
    size_t accepted = 0, fresh = 0;
    autobuf struct buf encoded = BUF_INIT;
    for (; accepted < l.count; accepted++) {
        job_id job;
        s.number = accepted + 1;
        struct prepared p;
        uint8_t digest[KEY_DIGEST_BYTES];
        prepare(l.texts[accepted], &l.specs[accepted], &encoded, digest, &p);
        int rc = submit_prepared(&s, &p, &job, &err);
        if (rc < 0)
            break;
        fresh += rc == 0;
        ids[accepted] = job.n;
    }
    if (accepted < l.count) {
        autobuf struct buf members = BUF_INIT;
        struct json_out j = json_out_to(&members);
        j.comma = true;
        json_u64(&j, "accepted", accepted);
        ids_json(&j, ids, accepted);
        prefix_field(&err, accepted);
        problem_json(&x->answer, &err, buf_bytes(&members));
        exchange_json(x, err_http_status(err.code));
        return;
    }
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    json_u64(&j, "count", accepted);
    ids_json(&j, ids, accepted);
    json_close(&j, '}');
    exchange_json(x, fresh ? 201 : 200);
}

static void submit_one(struct exchange *x)
{
    struct submission s = submission_of(x);
    struct err err;
    job_id job;
    int rc = submit_json(&s, buf_bytes(&x->body), &job, &err);
    if (rc < 0) {
        exchange_error(x, &err);
        return;
    }
    struct job_view v;
    bool found = sched_view_job(x->m->sched, job, &v);
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    json_u64(&j, "id", job.n);
    json_cstr(&j, "state", found ? job_state_name(v.state) : "ended");
    json_close(&j, '}');
    snprintf(x->location, sizeof x->location, "/v1/jobs/%" PRIu64, job.n);
    exchange_json(x, rc ? 200 : 201);
}

int submit_request(struct master *m, const struct auth_identity *who, struct bytes key, struct bytes json, job_id *job,
                   struct err *err)
{
    struct submission s = { .m = m, .who = who, .key = key };
    m->memo.valid = false; /* It remembers an identity by its place, and this one's is used again. */
    if (m->store_low)
        return err_field(err, ERR_NO_SPACE, NULL, "free space on the disk of the state directory",
                         "the disk of the store is nearly full: nothing new is accepted");
    if (master_full(m))
        return err_field(err, ERR_FULL, NULL, "send it again a little later", "more is submitted than the disk takes");
    int rc = key.size ? check_key(key, err) : 0;
    if (rc == 0)
        rc = submit_json(&s, json, job, err);
    m->memo.valid = false;
    return rc;
}

void api_jobs_submit(struct exchange *x)
{
    const char *key = http_header(x->r, "Idempotency-Key");
    struct err err;
    if (key && check_key(bytes_str(key), &err) < 0) {
        exchange_error(x, &err);
        return;
    }
    const char *type = http_header(x->r, "Content-Type");
    if (x->bulk || (type && strncmp(type, "application/x-ndjson", 20) == 0))
        bulk_end(x);
    else if (body_is_list(buf_bytes(&x->body)))
        submit_list(x);
    else
        submit_one(x);
}
