#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/parse.h"
#include "io/clock.h"
#include "master/body.h"
#include "master/history.h"
#include "master/master_int.h"

#define LIST_LIMIT 100u
#define LIST_LIMIT_MAX 1000u
#define LIST_EXAMINED_MAX 50000u   /* jobs looked at for one page */
#define LIST_TURN_NS 8000000       /* time spent on one page: label filters read the specs */
#define OLD_EXAMINED_MAX 1000u     /* tasks of a forgotten array looked up in the store for one page */

/* --- parts --- */

const char *node_name_text(void *arg, uint32_t node)
{
    static char name[64];
    struct master *m = arg;
    struct node_view v;
    if (!node || !sched_view_node(m->sched, (node_id){ node }, &v))
        return NULL;
    snprintf(name, sizeof name, "%.*s", (int)v.name.size, v.name.data);
    return name;
}

void json_seconds(struct json_out *j, const char *key, int64_t ms)
{
    if (ms)
        json_num(j, key, (double)ms / 1000, 3);
    else
        json_null(j, key);
}

void resources_json(struct master *m, struct json_out *j, const struct resources *r)
{
    json_num(j, "cpus", (double)r->v[RES_CPU] / 1000, 3);
    json_u64(j, "mem_bytes", r->v[RES_MEM]);
    json_num(j, "gpus", (double)r->v[RES_GPU] / 1000, 3);
    json_open(j, "resources", '{');
    for (int dim = RES_NAMED; dim < RES_DIMS; dim++) {
        const char *name = r->v[dim] ? sched_view_dim(m->sched, dim) : NULL;
        if (name)
            json_u64(j, name, r->v[dim]);
    }
    json_close(j, '}');
}

static void end_json(struct json_out *j, enum job_state state, enum reason reason, uint32_t exit_code, uint32_t signal)
{
    bool ended = state == JOB_SUCCEEDED || state == JOB_FAILED;
    json_cstr(j, "reason", reason ? reason_name(reason) : NULL);
    if (signal == 0 && (ended || reason == REASON_EXIT) && (reason == REASON_NONE || reason == REASON_EXIT))
        json_u64(j, "exit_code", exit_code);
    else
        json_null(j, "exit_code");
    if (signal)
        json_u64(j, "signal", signal);
    else
        json_null(j, "signal");
}

void counts_json(struct json_out *j, const char *key, const uint32_t counts[JOB_STATES])
{
    json_open(j, key, '{');
    for (int state = JOB_NONE + 1; state < JOB_STATES; state++)
        if (counts[state])
            json_u64(j, job_state_name((enum job_state)state), counts[state]);
    json_close(j, '}');
}

void job_json(struct master *m, struct json_out *j, const struct job_view *v)
{
    json_u64(j, "id", v->id.n);
    json_bytes(j, "name", v->name);
    json_str(j, "user", v->user);
    json_str(j, "queue", v->queue);
    json_str(j, "account", v->account);
    json_cstr(j, "state", job_state_name(v->state));
    json_i64(j, "priority", v->priority);
    resources_json(m, j, &v->need);
    json_bool(j, "array", v->array);
    json_u64(j, "nodes", v->nodes);
    json_u64(j, "tasks", v->array ? v->tasks : 1);
    counts_json(j, "counts", v->counts);
    json_time(j, "submitted_at", v->submit_wall_ms);
    json_time(j, "started_at", v->start_wall_ms);
    json_time(j, "ended_at", v->end_wall_ms);
    json_u64(j, "attempts", v->attempts);
    json_cstr(j, "node", node_name_text(m, v->node.n));
    end_json(j, v->state, v->reason, v->exit_code, v->signal);
}

/* --- which job, which task --- */

int job_ref_parse(struct exchange *x, job_id *job, uint32_t *task, struct job_view *view, struct err *err)
{
    bool has_index = false;
    uint32_t index = 0;
    *task = TASK_SINGLE;
    if (parse_job_ref(x->arg, &job->n, &has_index, &index, err) < 0) {
        snprintf(err->field, sizeof err->field, "id");
        return -(int)err->code;
    }
    if (!sched_view_job(x->m->sched, *job, view) && !history_job(x->m->store, &x->m->turn, *job, view))
        return err_field(err, ERR_NOT_FOUND, "id", "rota ls shows the jobs there are", "there is no job %" PRIu64,
                         job->n);
    const char *text = x->r ? http_query(x->r, "task") : NULL;
    if (text) {
        uint64_t value;
        if (has_index)
            return err_field(err, ERR_INVALID, "task", "give only one of them", "the id names a task already");
        if (parse_u64(text, 0, UINT32_MAX, &value, err) < 0) {
            snprintf(err->field, sizeof err->field, "task");
            return -(int)err->code;
        }
        has_index = true;
        index = (uint32_t)value;
    }
    if (!has_index) {
        *task = view->array ? TASK_ALL : TASK_SINGLE;
        return 0;
    }
    if (!select_task_position(view, index, task))
        return err_field(err, ERR_NOT_FOUND, "id", NULL, "job %" PRIu64 " has no task %u", job->n, index);
    return 0;
}

static uint32_t index_of(const struct job_view *v, uint32_t position)
{
    return v->first + position * v->step;
}

/* The encoded spec, wherever it is: also of a job whose record is not durable yet. */
static int find_spec(struct master *m, job_id job, struct buf *stored, struct bytes *spec, struct err *err)
{
    if (spec_cache_find(m->specs, job, spec))
        return 0;
    for (int side = 0; side < 2; side++)
        for (size_t i = 0; i < m->rides[side].jobs_count; i++)
            if (m->rides[side].jobs[i].job.n == job.n) {
                *spec = m->rides[side].jobs[i].spec;
                return 0;
            }
    int rc = m->store->ops->spec(m->store, job, stored, err);
    *spec = buf_bytes(stored);
    return rc;
}

int master_spec(struct master *m, job_id job, struct job_spec *spec, struct err *err)
{
    autobuf struct buf stored = BUF_INIT;
    struct bytes encoded;
    arena_reset(&m->submit);
    int rc = find_spec(m, job, &stored, &encoded, err);
    if (rc < 0)
        return rc;
    return spec_decode(&m->submit, arena_bytes(&m->submit, encoded), spec, err);
}

/* --- one job --- */

static void pairs_json(struct json_out *j, const char *key, const struct spec_pair *pairs, size_t count)
{
    json_open(j, key, '{');
    for (size_t i = 0; i < count; i++)
        json_pair(j, pairs[i].name, pairs[i].value);
    json_close(j, '}');
}

static void spec_members(struct json_out *j, const struct job_spec *spec)
{
    json_open(j, "command", '[');
    for (size_t i = 0; i < spec->command_count; i++)
        json_str(j, NULL, spec->command[i]);
    json_close(j, ']');
    pairs_json(j, "env", spec->env, spec->env_count);
    pairs_json(j, "labels", spec->labels, spec->labels_count);
    json_bytes(j, "workdir", spec->workdir);
    json_bytes(j, "stdin", spec->stdin_path);
    json_bytes(j, "stdout", spec->stdout_path);
    json_bytes(j, "stderr", spec->stderr_path);
    json_bytes(j, "image", spec->image);
    json_bytes(j, "where", spec->request.where);
    json_bytes(j, "cron", spec->cron);
    json_time(j, "cron_due", spec->cron_due_wall_ms);
    if (spec->mem_auto) {
        json_open(j, "mem_auto", '{');
        json_u64(j, "runs", spec->mem_runs);
        json_close(j, '}');
    } else {
        json_null(j, "mem_auto");
    }
    json_bool(j, "overlap_never", spec->request.overlap_never);
}

static void after_json(struct master *m, struct json_out *j, job_id job)
{
    static const char *const words[] = { "ok", "any", "fail" };
    struct after *after = arena_alloc(&m->turn, AFTER_MAX * sizeof *after);
    size_t count = sched_view_after(m->sched, job, after, AFTER_MAX);
    json_open(j, "after", '[');
    for (size_t i = 0; i < count; i++) {
        json_open(j, NULL, '{');
        json_u64(j, "job", after[i].job.n);
        json_cstr(j, "when", words[after[i].when]);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void tails_json(struct master *m, struct json_out *j, struct attempt_ref ref)
{
    autobuf struct buf out = BUF_INIT;
    autobuf struct buf errs = BUF_INIT;
    struct err err;
    if (m->store->ops->tails(m->store, ref, &out, &errs, &err) < 0)
        return;
    json_str(j, "stdout_tail", buf_bytes(&out));
    json_str(j, "stderr_tail", buf_bytes(&errs));
}

/* A task of an array that the brain has forgotten: from its last attempt. */
static void old_task(void *arg, const struct store_attempt *a)
{
    struct task_view *t = arg;
    t->attempt = a->ref.attempt;
    t->node = a->node;
    t->start_wall_ms = a->started_wall_ms;
    t->reason = a->reason < REASONS ? (enum reason)a->reason : REASON_NONE;
    t->exit_code = a->exit_code;
    t->signal = a->signal;
    t->state = a->final && a->final < JOB_STATES ? (enum job_state)a->final : JOB_CANCELLED;
}

static void place_of_attempt(void *arg, const struct store_attempt *a)
{
    struct task_view *t = arg;
    t->node = a->node;
    t->start_wall_ms = a->started_wall_ms;
}

static bool find_task(struct master *m, const struct job_view *v, uint32_t task, struct task_view *t)
{
    struct err err;
    if (sched_view_task(m->sched, v->id, task, t))
        return true;
    /* What never had an attempt ended by being cancelled, or as its job did. */
    *t = (struct task_view){ .task = task, .index = index_of(v, task), .state = JOB_CANCELLED };
    return job_state_terminal(v->state) &&
           m->store->ops->attempts(m->store, (struct attempt_ref){ v->id, task, 1 }, SIZE_MAX, old_task, t, &err) == 0;
}

/* Why the attempt has not begun, where its worker has said so. */
static void note_json(struct master *m, struct json_out *j, job_id job, uint32_t task, uint32_t attempt, enum job_state state)
{
    json_bytes(j, "note", state == JOB_DISPATCHED ? live_usage_said(m->usage, (struct attempt_ref){ job, task, attempt }) : bytes_of(NULL, 0));
}

static void show_job(struct exchange *x, const struct job_view *v)
{
    struct master *m = x->m;
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    job_json(m, &j, v);
    if (v->array) {
        json_u64(&j, "first", v->first);
        json_u64(&j, "step", v->step);
        if (v->limit)
            json_u64(&j, "limit", v->limit);
        else
            json_null(&j, "limit");
    }
    json_seconds(&j, "time_limit_s", v->time_limit_ms);
    json_seconds(&j, "grace_s", v->grace_ms);
    json_u64(&j, "retries", v->retries);
    json_id(&j, "mem_max_bytes", v->mem_max_bytes);
    json_time(&j, "begin_at", v->begin_wall_ms);
    json_time(&j, "deadline_at", v->deadline_wall_ms);
    sizing_json(m, &j, "suggestion", v);
    after_json(m, &j, v->id);
    json_u64(&j, "after_left", v->after_left);
    json_id(&j, "retry_of", v->retry_of.n);
    note_json(m, &j, v->id, TASK_SINGLE, v->attempts, v->state);
    struct job_spec spec;
    struct err err;
    if (master_spec(m, v->id, &spec, &err) == 0)
        spec_members(&j, &spec);
    if (!v->array && v->state == JOB_FAILED && v->attempts)
        tails_json(m, &j, (struct attempt_ref){ v->id, TASK_SINGLE, v->attempts });
    json_close(&j, '}');
    exchange_json(x, 200);
}

static void task_json(struct master *m, struct json_out *j, const struct job_view *v, const struct task_view *t)
{
    char id[48];
    snprintf(id, sizeof id, "%" PRIu64 "_%u", v->id.n, t->index);
    json_open(j, NULL, '{');
    json_cstr(j, "id", id);
    json_u64(j, "job", v->id.n);
    json_u64(j, "index", t->index);
    json_bytes(j, "name", v->name);
    json_str(j, "user", v->user);
    json_str(j, "queue", v->queue);
    json_cstr(j, "state", job_state_name(t->state));
    json_u64(j, "attempts", t->attempt);
    json_cstr(j, "node", node_name_text(m, t->node.n));
    json_time(j, "started_at", t->start_wall_ms);
    end_json(j, t->state, t->reason, t->exit_code, t->signal);
    note_json(m, j, v->id, t->task, t->attempt, t->state);
    json_close(j, '}');
}

void api_job_show(struct exchange *x)
{
    job_id job;
    uint32_t task;
    struct job_view v;
    struct task_view t;
    struct err err;
    if (job_ref_parse(x, &job, &task, &v, &err) < 0) {
        exchange_error(x, &err);
        return;
    }
    if (!v.array || task == TASK_ALL) {
        show_job(x, &v);
        return;
    }
    if (!find_task(x->m, &v, task, &t)) {
        err_field(&err, ERR_NOT_FOUND, "id", NULL, "there is no task %s", x->arg);
        exchange_error(x, &err);
        return;
    }
    /* Of a task that has ended the brain keeps only how: where it ran is in the store. */
    if (job_state_terminal(t.state) && t.attempt && !t.node.n &&
        x->m->store->ops->attempts(x->m->store, (struct attempt_ref){ v.id, task, t.attempt }, 1, place_of_attempt, &t, &err) < 0) {
        exchange_error(x, &err);
        return;
    }
    struct json_out j = json_out_to(&x->answer);
    task_json(x->m, &j, &v, &t);
    exchange_json(x, 200);
}

void api_job_update(struct exchange *x)
{
    struct body_field fields[] = {
        { .name = "priority", .type = BODY_INTEGER, .required = true, .min = -1000000, .max = 1000000 }
    };
    job_id job;
    uint32_t task;
    struct job_view v;
    struct err err;
    if (job_ref_parse(x, &job, &task, &v, &err) < 0 ||
        body_read(&x->m->turn, buf_bytes(&x->body), fields, 1, &err) < 0) {
        exchange_error(x, &err);
        return;
    }
    if (task != TASK_SINGLE && task != TASK_ALL) {
        err_field(&err, ERR_INVALID, "id", "name the whole array", "a single task can not be changed");
        exchange_error(x, &err);
        return;
    }
    struct sched_event ev = { .kind = SCHED_UPDATE, .update = { job, fields[0].integer } };
    struct sched_result result;
    master_step(x->m, &ev, &result);
    if (result.err.code) {
        exchange_error(x, &result.err);
        return;
    }
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    json_u64(&j, "id", job.n);
    json_i64(&j, "priority", fields[0].integer);
    json_bool(&j, "changed", result.changed);
    json_close(&j, '}');
    exchange_json(x, 200);
}

/* --- pages --- */

static int parse_state(struct exchange *x, enum job_state *state, struct err *err)
{
    const char *text = http_query(x->r, "state");
    *state = JOB_STATES;
    if (!text)
        return 0;
    *state = job_state_parse(text);
    if (*state == JOB_STATES)
        return err_field(
            err, ERR_INVALID, "state",
            "held, blocked, queued, dispatched, running, uncertain, retry_wait, cancelling, succeeded, failed, "
            "cancelled or expired",
            "there is no state \"%.32s\"", text);
    return 0;
}

static int limit_of(struct exchange *x, uint64_t *limit, struct err *err)
{
    return exchange_query_u64(x, "limit", 1, LIST_LIMIT_MAX, LIST_LIMIT, limit, err);
}

static int bad_cursor(struct err *err)
{
    return err_field(err, ERR_INVALID, "cursor", "take the value of \"next\" as it is, with the same order",
                     "this cursor is not one of ours");
}

static void next_u64(struct json_out *j, bool more, uint64_t cursor)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, cursor);
    json_cstr(j, "next", more ? text : NULL);
}

void api_job_tasks(struct exchange *x)
{
    job_id job;
    uint32_t task;
    struct job_view v;
    struct err err;
    uint64_t limit, from;
    enum job_state state;
    if (job_ref_parse(x, &job, &task, &v, &err) < 0 || limit_of(x, &limit, &err) < 0 ||
        parse_state(x, &state, &err) < 0 || exchange_query_u64(x, "cursor", 0, UINT32_MAX, 0, &from, &err) < 0) {
        exchange_error(x, &err);
        return;
    }
    uint32_t *positions = arena_alloc(&x->m->turn, (LIST_LIMIT_MAX + 1) * sizeof *positions);
    size_t count = v.array && from < v.tasks
                       ? sched_view_tasks(x->m->sched, job, state, (uint32_t)from, positions, limit + 1) : 0;
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    json_open(&j, "tasks", '[');
    for (size_t i = 0; i < count && i < limit; i++) {
        struct task_view t;
        if (sched_view_task(x->m->sched, job, positions[i], &t))
            task_json(x->m, &j, &v, &t);
    }
    json_close(&j, ']');
    next_u64(&j, count > limit, count > limit ? positions[limit] : 0);
    counts_json(&j, "counts", v.counts);
    json_close(&j, '}');
    exchange_json(x, 200);
}

struct attempt_page {
    struct exchange *x;
    struct json_out j;
    struct job_view v;
    uint64_t limit, count;
    struct attempt_ref next; /* job 0: there is no more */
};

static void attempt_json(void *arg, const struct store_attempt *a)
{
    struct attempt_page *p = arg;
    struct json_out *j = &p->j;
    if (p->count++ >= p->limit) {
        p->next = a->ref;
        return;
    }
    json_open(j, NULL, '{');
    if (a->ref.task == TASK_SINGLE)
        json_null(j, "task");
    else
        json_u64(j, "task", index_of(&p->v, a->ref.task));
    json_u64(j, "attempt", a->ref.attempt);
    json_cstr(j, "node", node_name_text(p->x->m, a->node.n));
    json_time(j, "assigned_at", a->assigned_wall_ms);
    json_cstr(j, "rule", a->rule && a->rule < RULES ? rule_name((enum rule)a->rule) : NULL);
    json_id(j, "over", a->over.n);
    json_time(j, "started_at", a->started_wall_ms);
    json_time(j, "ended_at", a->ended_wall_ms);
    bool ended = a->ended_wall_ms != 0;
    enum job_state final = ended ? attempt_final(a->final, a->reason, a->flags) : JOB_NONE;
    json_cstr(j, "final", final ? job_state_name(final) : NULL);
    json_cstr(j, "reason", a->reason && a->reason < REASONS ? reason_name((enum reason)a->reason) : NULL);
    bool exited = ended && !a->signal && (a->reason == REASON_NONE || a->reason == REASON_EXIT);
    if (exited)
        json_u64(j, "exit_code", a->exit_code);
    else
        json_null(j, "exit_code");
    if (a->signal)
        json_u64(j, "signal", a->signal);
    else
        json_null(j, "signal");
    json_num(j, "run_s", (double)a->run_ms / 1000, 3);
    json_num(j, "cpu_s", (double)a->cpu_ms / 1000, 3);
    json_u64(j, "rss_max_bytes", a->rss_max_bytes);
    json_u64(j, "stdout_bytes", a->stdout_bytes);
    json_u64(j, "stderr_bytes", a->stderr_bytes);
    json_bool(j, "stdout_gap", a->flags & END_STDOUT_GAP);
    json_bool(j, "stderr_gap", a->flags & END_STDERR_GAP);
    json_bool(j, "may_have_run", a->flags & END_MAY_HAVE_RUN);
    json_close(j, '}');
}

static int attempt_cursor(struct exchange *x, struct attempt_ref *from, struct err *err)
{
    const char *text = http_query(x->r, "cursor");
    if (!text)
        return 0;
    unsigned task, attempt;
    char rest;
    if (sscanf(text, "%u.%u%c", &task, &attempt, &rest) != 2)
        return bad_cursor(err);
    from->task = task;
    from->attempt = attempt;
    return 0;
}

/* The attempts of an array, task by task; tasks that never had one cost no look into the store. */
static int array_attempts(struct attempt_page *p, struct attempt_ref from, struct err *err)
{
    struct master *m = p->x->m;
    for (uint32_t looked = 0; from.task < p->v.tasks && p->count <= p->limit; from.task++, from.attempt = 1) {
        struct task_view t;
        bool known = sched_view_task(m->sched, from.job, from.task, &t);
        if (++looked > (known ? LIST_EXAMINED_MAX : OLD_EXAMINED_MAX)) {
            p->next = from;
            return 0;
        }
        if (known && t.attempt == 0)
            continue;
        int rc = m->store->ops->attempts(m->store, from, p->limit + 1 - p->count, attempt_json, p, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

void api_job_attempts(struct exchange *x)
{
    struct attempt_page p = { .x = x };
    uint32_t task;
    struct err err;
    struct attempt_ref from = { .attempt = 1 };
    if (job_ref_parse(x, &from.job, &task, &p.v, &err) < 0 || limit_of(x, &p.limit, &err) < 0 ||
        (from.task = task == TASK_ALL ? 0 : task, attempt_cursor(x, &from, &err)) < 0) {
        exchange_error(x, &err);
        return;
    }
    p.j = json_out_to(&x->answer);
    json_open(&p.j, NULL, '{');
    json_open(&p.j, "attempts", '[');
    struct store *store = x->m->store;
    int rc = task == TASK_ALL ? array_attempts(&p, from, &err)
                              : store->ops->attempts(store, from, p.limit + 1, attempt_json, &p, &err);
    if (rc < 0) {
        buf_clear(&x->answer);
        exchange_error(x, &err);
        return;
    }
    json_close(&p.j, ']');
    char cursor[32];
    snprintf(cursor, sizeof cursor, "%u.%u", p.next.task, p.next.attempt);
    json_cstr(&p.j, "next", p.next.job.n ? cursor : NULL);
    json_close(&p.j, '}');
    exchange_json(x, 200);
}

struct event_page { struct exchange *x; struct json_out j; struct job_view v; uint64_t limit, count, next; };

/* All events of the page are of the job that was asked for. */
static uint32_t page_index(void *arg, job_id job, uint32_t position)
{
    const struct event_page *p = arg;
    (void)job;
    return index_of(&p->v, position);
}

static const char *page_node(void *arg, uint32_t node)
{
    const struct event_page *p = arg;
    return node_name_text(p->x->m, node);
}

static void event_json(void *arg, const struct record *r)
{
    struct event_page *p = arg;
    if (p->count++ >= p->limit) {
        p->next = r->seq;
        return;
    }
    autobuf struct buf one = BUF_INIT;
    struct record_words words = { page_node, page_index, p };
    wire_record_json(&one, r, &words);
    json_raw(&p->j, NULL, buf_bytes(&one));
}

void api_job_events(struct exchange *x)
{
    struct event_page p = { .x = x };
    job_id job;
    uint32_t task;
    uint64_t from;
    struct err err;
    if (job_ref_parse(x, &job, &task, &p.v, &err) < 0 || limit_of(x, &p.limit, &err) < 0 ||
        exchange_query_u64(x, "cursor", 0, UINT64_MAX, 0, &from, &err) < 0) {
        exchange_error(x, &err);
        return;
    }
    p.j = json_out_to(&x->answer);
    json_open(&p.j, NULL, '{');
    json_open(&p.j, "events", '[');
    if (x->m->store->ops->job_events(x->m->store, job, from, p.limit + 1, event_json, &p, &err) < 0) {
        buf_clear(&x->answer);
        exchange_error(x, &err);
        return;
    }
    json_close(&p.j, ']');
    next_u64(&p.j, p.next != 0, p.next);
    json_close(&p.j, '}');
    exchange_json(x, 200);
}

/* --- why --- */

static void why_dims_json(struct json_out *j, const struct why_report *r)
{
    json_open(j, "dims", '[');
    for (size_t i = 0; i < r->dims_count; i++) {
        json_open(j, NULL, '{');
        json_cstr(j, "name", r->dims[i].name);
        json_u64(j, "need", r->dims[i].need);
        json_u64(j, "free_most", r->dims[i].free_most);
        json_u64(j, "capacity_most", r->dims[i].capacity_most);
        json_u64(j, "nodes_refused", r->dims[i].nodes_refused);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void why_limits_json(struct json_out *j, const struct why_report *r)
{
    static const char *const kinds[] = {
        [PARTY_QUEUE] = "queue", [PARTY_USER] = "user", [PARTY_ACCOUNT] = "account", [PARTY_TOKEN] = "token"
    };
    json_open(j, "limits", '[');
    for (size_t i = 0; i < r->limits_count; i++) {
        const struct why_limit *l = &r->limits[i];
        json_open(j, NULL, '{');
        json_cstr(j, "reason", why_name(l->why));
        json_cstr(j, "kind", kinds[l->kind]);
        json_str(j, "name", l->name);
        json_cstr(j, "limit", *l->limit ? l->limit : NULL);
        json_u64(j, "used", l->used);
        json_u64(j, "asked", l->asked);
        json_u64(j, "most", l->most);
        json_bytes(j, "text", l->reason);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void why_change_json(struct master *m, struct json_out *j, const struct why_change *c)
{
    static const char *const kinds[] = {
        [CHANGE_ALLOW] = "allow", [CHANGE_PRIORITY] = "priority", [CHANGE_TIME] = "time_limit", [CHANGE_LESS] = "less",
        [CHANGE_NODES] = "nodes"
    };
    if (c->kind == CHANGE_NONE) {
        json_null(j, "change");
        return;
    }
    json_open(j, "change", '{');
    json_cstr(j, "kind", kinds[c->kind]);
    json_bool(j, "release", c->release);
    json_bool(j, "raise_limits", c->raise);
    json_bool(j, "submit_again", c->kind == CHANGE_TIME || c->kind == CHANGE_LESS || c->kind == CHANGE_NODES);
    if (c->kind == CHANGE_PRIORITY)
        json_i64(j, "priority", c->priority);
    if (c->time_limit_ms)
        json_seconds(j, "time_limit_s", c->time_limit_ms);
    if (c->kind == CHANGE_LESS)
        resources_json(m, j, &c->need);
    if (c->kind == CHANGE_NODES)
        json_u64(j, "nodes", c->nodes);
    json_close(j, '}');
}

/* Nodes that take no work, by why they do not. */
static void why_nodes_out_json(struct json_out *j, const struct why_report *r)
{
    json_open(j, "nodes_out", '{');
    for (int state = NODE_NONE + 1; state < NODE_STATES; state++)
        if (r->nodes_out[state])
            json_u64(j, state == NODE_READY ? "disconnected" : node_state_name((enum node_state)state), r->nodes_out[state]);
    json_close(j, '}');
}

void api_job_why(struct exchange *x)
{
    job_id job;
    uint32_t task;
    struct job_view v;
    struct err err;
    if (job_ref_parse(x, &job, &task, &v, &err) < 0) {
        exchange_error(x, &err);
        return;
    }
    struct why_report r = { 0 };
    if (!sched_view_why(x->m->sched, job, task, &r)) {
        err_field(&err, ERR_NOT_FOUND, "id", NULL, "there is no job or task %s", x->arg);
        exchange_error(x, &err);
        return;
    }
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    json_u64(&j, "id", job.n);
    json_cstr(&j, "state", job_state_name(v.state));
    json_cstr(&j, "reason", why_name(r.primary));
    json_cstr(&j, "text", why_text(r.primary));
    json_open(&j, "all", '[');
    for (size_t i = 0; i < r.all_count; i++) {
        json_open(&j, NULL, '{');
        json_cstr(&j, "reason", why_name(r.all[i]));
        json_cstr(&j, "text", why_text(r.all[i]));
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_u64(&j, "nodes_ready", r.nodes_ready);
    json_u64(&j, "nodes_total", r.nodes_total);
    json_u64(&j, "nodes_unsuited", r.nodes_unsuited);
    json_u64(&j, "nodes_asked", v.nodes);
    json_u64(&j, "nodes_now", r.nodes_now);
    json_u64(&j, "nodes_ever", r.nodes_ever);
    json_bytes(&j, "where", r.where);
    why_limits_json(&j, &r);
    why_dims_json(&j, &r);
    json_id(&j, "blocked_by", r.blocked_by.n);
    json_u64(&j, "jobs_before", r.jobs_before);
    json_seconds(&j, "due_in_s", r.due_in_ms);
    struct task_view t;
    bool one = task != TASK_ALL && sched_view_task(x->m->sched, job, task, &t);
    note_json(x->m, &j, job, task, one ? t.attempt : 0, one ? t.state : JOB_NONE);
    struct node_view node;
    if (sched_view_node(x->m->sched, r.room_node, &node)) {
        json_str(&j, "room_node", node.name);
        json_num(&j, "room_in_s", (double)r.room_in_ms / 1000, 3);
    } else {
        json_null(&j, "room_node");
        json_null(&j, "room_in_s");
    }
    why_nodes_out_json(&j, &r);
    why_change_json(x->m, &j, &r.change);
    struct estimate_view estimate;
    sched_view_estimate(x->m->sched, job, task, &estimate);
    json_open(&j, "estimate", '{');
    estimate_json(x->m, &j, &estimate);
    json_close(&j, '}');
    json_close(&j, '}');
    exchange_json(x, 200);
}

/* --- the list --- */

struct job_filter {
    enum job_state state;
    const char *user, *queue, *name;
    struct bytes label_name, label_value;  /* label_value.data NULL: any value */
    bool label;
    struct selector selector;
    bool selected;
    uint64_t low, high;                    /* ids that can match at all */
};

static int filter_read(struct exchange *x, struct job_filter *f, struct err *err)
{
    *f = (struct job_filter){ .user = http_query(x->r, "user"), .queue = http_query(x->r, "queue"),
                              .name = http_query(x->r, "name"), .low = 1, .high = UINT64_MAX };
    int rc = parse_state(x, &f->state, err);
    if (rc < 0)
        return rc;
    const char *label = http_query(x->r, "label");
    if (label) {
        const char *equals = strchr(label, '=');
        f->label = true;
        f->label_name = equals ? bytes_of(label, (size_t)(equals - label)) : bytes_str(label);
        f->label_value = equals ? bytes_str(equals + 1) : bytes_of(NULL, 0);
        if (f->label_name.size == 0)
            return err_field(err, ERR_INVALID, "label", "write NAME=VALUE or NAME", "the label has no name");
    }
    const char *selector = http_query(x->r, "selector");
    f->selected = selector;
    if (selector && (rc = selector_parse(bytes_str(selector), &f->selector, err)) < 0)
        return rc;
    if (selector && f->selector.kind == SELECT_IDS)
        f->low = f->selector.parts[0].first;
    for (size_t i = 0; i < f->selector.parts_count; i++)
        f->high = i == 0 || f->selector.parts[i].last > f->high ? f->selector.parts[i].last : f->high;
    return 0;
}

/* The next job that can match, in the order of the list; 0: there is none. */
static uint64_t next_candidate(struct master *m, const struct job_filter *f, uint64_t at, bool backward)
{
    if (backward && f->high < UINT64_MAX && (at == 0 || at > f->high))
        at = f->high + 1;
    else if (!backward && at < f->low)
        at = f->low - 1;
    uint64_t next = sched_view_next(m->sched, (job_id){ at }, backward).n;
    return next < f->low || next > f->high ? 0 : next;
}

static bool has_label(struct master *m, const struct job_filter *f, job_id job)
{
    struct job_spec spec;
    struct err err;
    if (master_spec(m, job, &spec, &err) < 0)
        return false;
    for (size_t i = 0; i < spec.labels_count; i++)
        if (bytes_equal(spec.labels[i].name, f->label_name))
            return !f->label_value.data || bytes_equal(spec.labels[i].value, f->label_value);
    return false;
}

static bool name_matches(const char *pattern, struct bytes name)
{
    char text[257];
    if (name.size >= sizeof text)
        return false;
    memcpy(text, name.data ? name.data : "", name.size);
    text[name.size] = 0;
    return strcmp(pattern, text) == 0 || fnmatch(pattern, text, 0) == 0;
}

static bool filter_selects(struct master *m, const struct job_filter *f, const struct job_view *v)
{
    switch (f->selected ? f->selector.kind : SELECT_ALL) {
    case SELECT_IDS:
        for (size_t i = 0; i < f->selector.parts_count; i++)
            if (v->id.n >= f->selector.parts[i].first && v->id.n <= f->selector.parts[i].last)
                return true;
        return false;
    case SELECT_ALL:
        return true;
    case SELECT_LAST:
        return v->id.n == sched_view_next(m->sched, (job_id){ 0 }, true).n;
    case SELECT_NAME:
    case SELECT_GLOB:
        return selector_matches_name(&f->selector, v->name);
    }
    return false;
}

static bool filter_matches(struct master *m, const struct job_filter *f, const struct job_view *v)
{
    bool state = f->state == JOB_STATES || v->state == f->state || (v->array && v->counts[f->state]);
    return state && (!f->user || bytes_equal(bytes_str(f->user), v->user)) &&
           (!f->queue || bytes_equal(bytes_str(f->queue), v->queue)) && (!f->name || name_matches(f->name, v->name)) &&
           filter_selects(m, f, v) && (!f->label || has_label(m, f, v->id));
}

static int order_read(struct exchange *x, bool *backward, uint64_t *from, struct err *err)
{
    const char *order = http_query(x->r, "order");
    *backward = !order || strcmp(order, "desc") == 0;
    *from = 0;
    if (order && !*backward && strcmp(order, "asc") != 0)
        return err_field(err, ERR_INVALID, "order", "asc or desc", "there is no order \"%.16s\"", order);
    const char *cursor = http_query(x->r, "cursor");
    if (!cursor)
        return 0;
    if (cursor[0] != (*backward ? 'd' : 'a') || parse_u64(cursor + 1, 1, UINT64_MAX, from, err) < 0)
        return bad_cursor(err);
    return 0;
}

/* One page: until it is full, or enough was looked at. */
static void list_page(struct exchange *x, const struct job_filter *f, bool backward, uint64_t from, uint64_t limit)
{
    struct master *m = x->m;
    struct json_out j = json_out_to(&x->answer);
    int64_t begun_ns = clock_now_ns();
    uint64_t found = 0, at = from;
    json_open(&j, NULL, '{');
    json_open(&j, "jobs", '[');
    for (uint64_t examined = 1; found < limit && examined <= LIST_EXAMINED_MAX; examined++) {
        struct job_view v;
        at = next_candidate(m, f, at, backward);
        if (!at)
            break;
        if (sched_view_job(m->sched, (job_id){ at }, &v) && filter_matches(m, f, &v)) {
            json_open(&j, NULL, '{');
            job_json(m, &j, &v);
            json_close(&j, '}');
            found++;
        }
        if ((f->label || examined % 256 == 0) && clock_now_ns() - begun_ns > LIST_TURN_NS)
            break;
    }
    json_close(&j, ']');
    bool more = at && next_candidate(m, f, at, backward);
    char cursor[32];
    snprintf(cursor, sizeof cursor, "%c%" PRIu64, backward ? 'd' : 'a', at);
    json_cstr(&j, "next", more ? cursor : NULL);
    struct sched_stats stats;
    sched_view_stats(m->sched, &stats);
    json_open(&j, "counts", '{');
    for (int state = JOB_NONE + 1; state < JOB_STATES; state++)
        if (stats.jobs[state])
            json_u64(&j, job_state_name((enum job_state)state), stats.jobs[state]);
    json_close(&j, '}');
    json_open(&j, "listed", '{');
    for (int state = JOB_NONE + 1; state < JOB_STATES; state++)
        if (stats.jobs[state] + stats.partly[state])
            json_u64(&j, job_state_name((enum job_state)state), stats.jobs[state] + stats.partly[state]);
    json_close(&j, '}');
    json_close(&j, '}');
    exchange_json(x, 200);
}

void api_jobs_list(struct exchange *x)
{
    struct job_filter f;
    struct err err;
    uint64_t limit, from;
    bool backward;
    if (filter_read(x, &f, &err) < 0 || limit_of(x, &limit, &err) < 0 || order_read(x, &backward, &from, &err) < 0)
        exchange_error(x, &err);
    else
        list_page(x, &f, backward, from, limit);
    selector_fini(&f.selector);
}
