/* sched_apply.c: the only place where durable state changes, live and on restart alike. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/bug.h"
#include "core/model/where.h"
#include "core/sched/sched_state.h"

/* --- lookup --- */

struct job *sched_job(const struct sched *s, job_id id)
{
    size_t page = id.n / JOB_PAGE;
    if (page >= s->pages_count || !s->pages[page])
        return NULL;
    struct job *j = &s->pages[page]->jobs[id.n % JOB_PAGE];
    return j->id.n ? j : NULL;
}

struct node *sched_node(const struct sched *s, node_id id)
{
    return id.n >= 1 && id.n <= s->nodes_count ? s->nodes[id.n - 1] : NULL;
}

static size_t run_slot(const struct sched *s, job_id id, uint32_t task)
{
    uint64_t x = (id.n * 0x9e3779b97f4a7c15ULL) ^ ((uint64_t)task * 0xc2b2ae3d27d4eb4fULL);
    return (x ^ (x >> 31)) & (s->runs_slots - 1);
}

struct run *sched_run(const struct sched *s, job_id id, uint32_t task)
{
    if (!s->runs_slots)
        return NULL;
    for (struct run *r = s->runs[run_slot(s, id, task)]; r; r = r->hash_next)
        if (r->ref.job.n == id.n && r->ref.task == task)
            return r;
    return NULL;
}

static void runs_grow(struct sched *s)
{
    size_t old_slots = s->runs_slots;
    struct run **old = s->runs;
    s->runs_slots = old_slots ? old_slots * 2 : 256;
    s->runs = mem_zero(s->runs_slots, sizeof *s->runs);
    for (size_t i = 0; i < old_slots; i++)
        for (struct run *r = old[i], *next; r; r = next) {
            next = r->hash_next;
            size_t slot = run_slot(s, r->ref.job, r->ref.task);
            r->hash_next = s->runs[slot];
            s->runs[slot] = r;
        }
    free(old);
}

/* --- states of tasks and jobs --- */

enum job_state sched_task_state(const struct job *j, uint32_t task)
{
    if (!j->is_array)
        return (enum job_state)j->state;
    enum job_state state = (enum job_state)j->array->cells[task].state;
    return state == JOB_NONE ? JOB_QUEUED : state;
}

uint32_t sched_array_next(const struct array *a)
{
    for (size_t i = a->returned_count; i > 0; i--) {
        uint32_t position = a->returned[i - 1];
        if (a->cells[position].state == JOB_QUEUED)
            return position;
    }
    for (uint32_t position = a->fresh; position < a->tasks; position++)
        if (a->cells[position].state == JOB_NONE)
            return position;
    return a->tasks;
}

bool sched_job_eligible(const struct job *j)
{
    if (j->held || j->cancelled || j->after_left || (j->extra && j->extra->begin_open))
        return false;
    if (!j->is_array)
        return j->state == JOB_QUEUED;
    const struct array *a = j->array;
    if (a->gang && !sched_gang_may_start(j))
        return false;
    return !job_state_terminal(j->state) && a->counts[JOB_QUEUED] && (!a->limit || a->open < a->limit);
}

static enum job_state array_state(const struct job *j)
{
    const struct array *a = j->array;
    const uint32_t *n = a->counts;
    if (n[JOB_RUNNING])
        return JOB_RUNNING;
    if (n[JOB_UNCERTAIN])
        return JOB_UNCERTAIN;
    if (n[JOB_DISPATCHED])
        return JOB_DISPATCHED;
    if (n[JOB_CANCELLING])
        return JOB_CANCELLING;
    if (n[JOB_QUEUED] || n[JOB_RETRY_WAIT]) {
        if (j->held)
            return JOB_HELD;
        if (j->after_left || (j->extra && j->extra->begin_open))
            return JOB_BLOCKED;
        return n[JOB_QUEUED] ? JOB_QUEUED : JOB_RETRY_WAIT;
    }
    return (enum job_state)j->state; /* All tasks ended: ARRAY_ENDED decides. */
}

static void count_tasks(struct sched *s, const struct job *j, enum job_state from, enum job_state to, uint32_t tasks)
{
    if (from == to)
        return;
    s->stats.tasks[from] -= tasks;
    s->stats.tasks[to] += tasks;
    sched_count_state(s, j, from, to, tasks);
}

static void set_job_state(struct sched *s, struct job *j, enum job_state to)
{
    if (j->state == to)
        return;
    s->stats.jobs[j->state]--;
    s->stats.jobs[to]++;
    enum job_state shown = job_task_shown(j, JOB_QUEUED);
    j->state = (uint8_t)to;
    if (j->is_array)
        count_tasks(s, j, shown, job_task_shown(j, JOB_QUEUED), j->array->counts[JOB_QUEUED]);
}

/* The one place where a task changes state. */
static void set_task_state(struct sched *s, struct job *j, uint32_t task, enum job_state to)
{
    enum job_state from = sched_task_state(j, task);
    if (from == to)
        return;
    check(job_state_may(from, to));
    count_tasks(s, j, job_task_shown(j, from), job_task_shown(j, to), 1);
    if (!j->is_array) {
        set_job_state(s, j, to);
        return;
    }
    struct array *a = j->array;
    a->counts[from]--;
    a->counts[to]++;
    a->cells[task].state = (uint8_t)to;
}

static void job_changed(struct sched *s, struct job *j)
{
    if (j->is_array && !job_state_terminal(j->state))
        set_job_state(s, j, array_state(j));
    sched_count_partly(s, j, sched_partly(j));
    sched_queue_refresh(s, j);
}

static void ripen(struct sched *s, job_id id)
{
    s->ripe = mem_grow(s->ripe, &s->ripe_cap, s->ripe_count + 1, sizeof *s->ripe);
    s->ripe[s->ripe_count++] = id.n;
}

static void job_free(struct sched *s, struct job *j)
{
    struct job_page *page = s->pages[j->id.n / JOB_PAGE];
    size_t page_index = j->id.n / JOB_PAGE;
    if (j->extra) {
        free(j->extra->dependents);
        free(j->extra->after);
        free(j->extra);
    }
    if (j->is_array) {
        free(j->array->members);
        free(j->array->returned);
        free(j->array);
    }
    memset(j, 0, sizeof *j);
    s->jobs_live--;
    if (--page->live == 0) {
        free(page);
        s->pages[page_index] = NULL;
    }
}

/* The oldest ended job leaves memory; it stays in the store. */
static void evict(struct sched *s)
{
    while (s->ended_count > s->config.ended_max) {
        struct job *j = sched_job(s, (job_id){ s->ended[s->ended_head] });
        s->ended_head = (s->ended_head + 1) % s->ended_cap;
        s->ended_count--;
        check(j && job_state_terminal(j->state));
        sched_count_partly(s, j, 0);
        s->stats.jobs[j->state]--;
        if (j->is_array)
            for (int state = 0; state < JOB_STATES; state++)
                s->stats.tasks[state] -= j->array->counts[state];
        else
            s->stats.tasks[j->state]--;
        job_free(s, j);
    }
}

static void ended_push(struct sched *s, uint64_t id)
{
    if (s->ended_count == s->ended_cap) {
        size_t cap = s->ended_cap ? s->ended_cap * 2 : 1024;
        uint64_t *grown = mem_alloc(cap * sizeof *grown);
        for (size_t i = 0; i < s->ended_count; i++)
            grown[i] = s->ended[(s->ended_head + i) % s->ended_cap];
        free(s->ended);
        s->ended = grown;
        s->ended_cap = cap;
        s->ended_head = 0;
    }
    s->ended[(s->ended_head + s->ended_count++) % s->ended_cap] = id;
}

static bool after_met(enum after_when when, enum job_state end)
{
    return when == AFTER_ANY || (when == AFTER_OK) == (end == JOB_SUCCEEDED);
}

/* The job as a whole has ended: tell those who wait for it. */
static void job_ended(struct sched *s, struct job *j, enum job_state end, int64_t at_wall_ms)
{
    set_job_state(s, j, end);
    sched_count_partly(s, j, sched_partly(j));
    j->end_wall_ms = at_wall_ms;
    s->jobs_open--;
    sched_queue_refresh(s, j);
    check(!heap_has(&j->pending));
    if (j->extra) {
        for (size_t i = 0; i < j->extra->dependents_count; i++) {
            struct dependent d = j->extra->dependents[i];
            struct job *waiter = sched_job(s, d.job);
            if (!waiter || job_state_terminal(waiter->state))
                continue;
            check(waiter->after_left > 0);
            if (after_met(d.when, end))
                waiter->after_left--;
            else if (!waiter->extra->failed_on.n)
                waiter->extra->failed_on = j->id;
            job_changed(s, waiter);
            ripen(s, d.job);
        }
        free(j->extra->dependents);
        j->extra->dependents = NULL;
        j->extra->dependents_count = j->extra->dependents_cap = 0;
    }
    ended_push(s, j->id.n);
    evict(s);
}

/* --- timers --- */

static void timer_drop(struct sched *s, struct timer *t)
{
    if (!t)
        return;
    heap_remove(&s->timers, &t->node);
    free(t);
}

/* Retry timers of an array are found by a scan: tasks of one array that wait for their back-off are few. */
static void array_timer_drop(struct sched *s, job_id job, uint32_t task)
{
    for (size_t i = 0; i < s->timers.count; i++) {
        struct timer *t = heap_entry(s->timers.nodes[i], struct timer, node);
        if (t->job.n == job.n && t->task == task) {
            timer_drop(s, t);
            return;
        }
    }
}

static void timer_new(struct sched *s, struct job *j, uint32_t task, int64_t due_ms)
{
    struct timer *t = mem_zero(1, sizeof *t);
    heap_node_init(&t->node);
    t->due_ms = due_ms;
    t->job = j->id;
    t->task = task;
    heap_push(&s->timers, &t->node);
    if (!j->is_array)
        j->timer = t;
}

static void retry_wait(struct sched *s, struct job *j, uint32_t task, int64_t at_wall_ms, int64_t retry_ms)
{
    /* While the journal is replayed there is no clock: sched_start turns wall time into what is left. */
    timer_new(s, j, task, (s->started ? s->now_ms : at_wall_ms) + retry_ms);
    set_task_state(s, j, task, JOB_RETRY_WAIT);
}

static void leave_retry_wait(struct sched *s, struct job *j, uint32_t task)
{
    if (!j->is_array) {
        timer_drop(s, j->timer);
        j->timer = NULL;
    } else {
        array_timer_drop(s, j->id, task);
    }
}

/* --- nodes and runs --- */

void sched_node_touched(struct sched *s, struct node *n)
{
    n->plan.stale = true;
    if (!list_linked(&n->touched))
        list_append(&s->touched, &n->touched);
}

static void promote(struct sched *s, struct run *r)
{
    check(r->ahead);
    r->ahead = false;
    list_remove(&r->waiting);
    r->node->waiting_count--;
    resources_add(&r->node->allocated, &job_class(s, r->job)->need);
    sched_node_touched(s, r->node);
    sched_ends_add(r, s->record_wall_ms + sched_length_ms(s, job_class(s, r->job)->shape));
}

static void node_freed(struct sched *s, struct node *n)
{
    /* The worker starts what waits there in order, as soon as it fits: follow it. */
    while (!list_empty(&n->waiting)) {
        struct run *r = list_entry(list_first(&n->waiting), struct run, waiting);
        if (!resources_beside(&job_class(s, r->job)->need, &n->allocated, &n->capacity)) /* Its labels may have changed since. */
            break;
        promote(s, r);
    }
    sched_node_freed(s, n);
}

static void run_open(struct sched *s, struct job *j, const struct ev_assigned *e)
{
    struct node *n = sched_node(s, (node_id){ e->node });
    check(n);
    if (s->runs_count >= s->runs_slots)
        runs_grow(s);
    struct run *r = mem_zero(1, sizeof *r);
    r->job = j;
    r->node = n;
    r->ref = (struct attempt_ref){ j->id, e->task, e->attempt };
    r->state = RUN_ASSIGNED;
    r->assigned_ms = s->started ? s->now_ms : -1;
    list_init(&r->waiting);
    list_init(&r->unanswered);
    list_append(&n->runs, &r->on_node);
    n->runs_count++;
    size_t slot = run_slot(s, j->id, e->task);
    r->hash_next = s->runs[slot];
    s->runs[slot] = r;
    s->runs_count++;
    if (e->ahead) {
        r->ahead = true;
        list_append(&n->waiting, &r->waiting);
        n->waiting_count++;
    } else {
        resources_add(&n->allocated, &job_class(s, j)->need);
        sched_ends_add(r, s->record_wall_ms + sched_length_ms(s, job_class(s, j)->shape));
    }
    sched_party_take(s, job_class(s, j)->shape);
    sched_node_touched(s, n);
    list_append(&s->unanswered, &r->unanswered);
    r->sent_ms = s->now_ms;
    if (j->is_array)
        j->array->open++;
    else
        j->run = r;
    if (job_is_gang(j)) {
        if (!j->array->members)
            j->array->members = mem_zero(j->array->tasks, sizeof *j->array->members);
        j->array->members[e->task] = n->id;
    }
}

static void run_close(struct sched *s, struct run *r)
{
    struct node *n = r->node;
    struct job *j = r->job;
    struct run **place = &s->runs[run_slot(s, r->ref.job, r->ref.task)];
    while (*place != r)
        place = &(*place)->hash_next;
    *place = r->hash_next;
    s->runs_count--;
    list_remove(&r->on_node);
    list_remove(&r->unanswered);
    n->runs_count--;
    if (r->state == RUN_RUNNING)
        n->running_count--;
    if (r->cancelling)
        n->cancelling_count--;
    if (r->ahead) {
        list_remove(&r->waiting);
        n->waiting_count--;
    } else {
        if (!BUG(leak_resources) || !r->uncertain)
            resources_sub(&n->allocated, &job_class(s, j)->need);
        sched_ends_drop(r);
    }
    sched_party_give(s, job_class(s, j)->shape);
    if (j->is_array)
        j->array->open--;
    else
        j->run = NULL;
    free(r);
    node_freed(s, n);
}

static void returned_push(struct array *a, uint32_t task)
{
    a->returned = mem_grow(a->returned, &a->returned_cap, a->returned_count + 1, sizeof *a->returned);
    a->returned[a->returned_count++] = task;
}

static void task_requeue(struct sched *s, struct job *j, uint32_t task)
{
    if (j->is_array) {
        set_task_state(s, j, task, JOB_QUEUED);
        if (!BUG(forget_returned))
            returned_push(j->array, task);
    } else {
        set_task_state(s, j, task, j->held ? JOB_HELD : JOB_QUEUED);
    }
}

/* A task reached its end; for a single job that is the job's. */
static void task_ended(struct sched *s, struct job *j, uint32_t task, enum job_state end, enum reason reason,
                       int64_t at_wall_ms)
{
    set_task_state(s, j, task, end);
    s->stats.ended[end]++;
    if (end == JOB_FAILED)
        s->stats.failed_for[reason]++;
    if (end == JOB_SUCCEEDED)
        s->stats.succeeded++;
    else if (end == JOB_CANCELLED)
        s->stats.cancelled++;
    else
        s->stats.failed++;
    if (!j->is_array) {
        job_ended(s, j, end, at_wall_ms);
        return;
    }
    const uint32_t *n = j->array->counts;
    if (n[JOB_SUCCEEDED] + n[JOB_FAILED] + n[JOB_CANCELLED] + n[JOB_EXPIRED] == j->array->tasks)
        ripen(s, j->id);
}

/* Ends every task that has no open attempt. */
static void end_waiting_tasks(struct sched *s, struct job *j, enum job_state end, enum reason reason,
                              int64_t at_wall_ms)
{
    if (!j->is_array) {
        if (j->state == JOB_RETRY_WAIT)
            leave_retry_wait(s, j, TASK_SINGLE);
        task_ended(s, j, TASK_SINGLE, end, reason, at_wall_ms);
        return;
    }
    struct array *a = j->array;
    for (uint32_t p = 0; p < a->tasks; p++) {
        enum job_state state = sched_task_state(j, p);
        if (state == JOB_RETRY_WAIT)
            leave_retry_wait(s, j, p);
        if (state == JOB_QUEUED || state == JOB_RETRY_WAIT)
            task_ended(s, j, p, end, reason, at_wall_ms);
    }
    a->fresh = a->tasks;
    a->returned_count = 0;
}

/* --- a store that was put back in time --- */

static uint32_t attempt_floor(const struct sched *s)
{
    uint64_t floor = (uint64_t)ROLLBACK_ATTEMPTS * s->rollbacks_count;
    return floor > UINT16_MAX / 2 ? UINT16_MAX / 2 : (uint32_t)floor;
}

static uint32_t attempt_last(const struct job *j, uint32_t task)
{
    return j->is_array ? j->array->cells[task].attempt : j->attempt;
}

static uint64_t rollback_job_last(const struct sched *s)
{
    return s->rollbacks_count ? s->rollbacks[s->rollbacks_count - 1].job_last : 0;
}

uint32_t sched_attempt_next(const struct sched *s, const struct job *j, uint32_t task)
{
    uint32_t next = attempt_last(j, task) + 1;
    return j->id.n <= rollback_job_last(s) && next <= attempt_floor(s) ? attempt_floor(s) + 1 : next;
}

bool sched_orphan(const struct sched *s, struct attempt_ref ref)
{
    for (size_t i = 0; i < s->rollbacks_count; i++)
        if (ref.job.n > s->rollbacks[i].job_last && ref.job.n <= s->rollbacks[i].job_floor)
            return true;
    const struct job *j = sched_job(s, ref.job);
    if (!j || ref.job.n > rollback_job_last(s) || ref.attempt > attempt_floor(s) ||
        (j->is_array ? ref.task >= j->array->tasks : ref.task != TASK_SINGLE))
        return false;
    /* Once a task was dispatched after the rollback, nobody knows how far it had come before: when in doubt, not
     * killed. */
    uint32_t last = attempt_last(j, ref.task);
    return ref.attempt > last || last > attempt_floor(s);
}

/* --- one function per record --- */

#define REFUSE(...) return err_set(err, ERR_CORRUPT, __VA_ARGS__)

static bool unpack_tokens(struct bytes packed, uint32_t tokens[TOKENS_MAX])
{
    const uint8_t *at = (const uint8_t *)packed.data, *end = at + packed.size;
    while (at < end) {
        uint64_t number, count;
        if (!varint_read(&at, end, &number) || !varint_read(&at, end, &count) || number >= TOKENS_MAX || count > TOKEN_TOTAL_MAX)
            return false;
        tokens[number] = (uint32_t)count;
    }
    return true;
}

bool sched_class_key(struct class_key *key, const struct ev_class *e, uint64_t where, uint32_t user, uint32_t queue, uint32_t account)
{
    memset(key, 0, sizeof *key);
    key->account = account;
    key->user = user;
    key->queue = queue;
    memcpy(key->need.v, e->need.v, sizeof key->need.v);
    key->need.where = where;
    key->times[0] = e->time_limit_ms;
    key->times[1] = e->grace_ms;
    key->times[2] = e->lost_after_ms;
    key->times[3] = e->backoff_ms;
    key->times[4] = e->backoff_max_ms;
    key->retries = e->retries;
    key->overlap_never = e->overlap_never != 0;
    key->nodes = e->nodes > 1 ? e->nodes : 0;
    return unpack_tokens(e->tokens, key->tokens);
}

void sched_class_event(const struct sched *s, uint32_t number, struct ev_class *e, struct buf *tokens)
{
    const struct class *c = &s->classes[number];
    struct bytes account = intern_text(&s->accounts, c->shape->account);
    for (uint32_t t = 0; t < TOKENS_MAX; t++)
        if (c->shape->tokens[t]) {
            buf_varint(tokens, t);
            buf_varint(tokens, c->shape->tokens[t]);
        }
    *e = (struct ev_class){ .class = number,
                            .user = intern_text(&s->users, c->user),
                            .queue = intern_text(&s->queues, c->queue),
                            .need = c->need,
                            .time_limit_ms = c->time_limit_ms,
                            .grace_ms = c->grace_ms,
                            .lost_after_ms = c->lost_after_ms,
                            .retries = c->retries,
                            .backoff_ms = c->backoff_ms,
                            .backoff_max_ms = c->backoff_max_ms,
                            .overlap_never = c->overlap_never,
                            .account = bytes_equal(account, bytes_str(ACCOUNT_DEFAULT)) ? bytes_of("", 0) : account,
                            .tokens = buf_bytes(tokens),
                            .where = sched_where_text(s, c->need.where),
                            .nodes = c->nodes > 1 ? c->nodes : 0 };
}

static int apply_class(struct sched *s, const struct record *rec, struct err *err)
{
    const struct ev_class *e = &rec->class;
    struct class_key class_key;
    const struct bytes account = e->account.size ? e->account : bytes_str(ACCOUNT_DEFAULT);
    if (where_check(e->where, NULL) < 0)
        REFUSE("the constraint of class %u cannot be read", e->class);
    if (e->nodes > GANG_NODES_MAX)
        REFUSE("class %u asks for %u nodes", e->class, e->nodes);
    if (!sched_class_key(&class_key, e, sched_where(s, e->where), intern_add(&s->users, e->user), intern_add(&s->queues, e->queue),
                         intern_add(&s->accounts, account)))
        REFUSE("the tokens of class %u do not decode", e->class);
    if (e->class != s->classes_count || intern_add(&s->class_keys, bytes_of(&class_key, sizeof class_key)) != e->class)
        REFUSE("class %u does not follow class %zu", e->class, s->classes_count);
    struct class c = { .user = class_key.user,
                       .queue = class_key.queue,
                       .nodes = e->nodes > 1 ? e->nodes : 1,
                       .need = class_key.need,
                       .time_limit_ms = e->time_limit_ms,
                       .grace_ms = e->grace_ms,
                       .lost_after_ms = e->lost_after_ms,
                       .backoff_ms = e->backoff_ms,
                       .backoff_max_ms = e->backoff_max_ms,
                       .retries = e->retries,
                       .overlap_never = e->overlap_never,
                       .run_ms_mean = -1 };
    heap_init(&c.ahead, sched_node_ahead_before);
    sched_count_queue(s, c.queue);
    c.shape = sched_shape(s, &class_key, e->time_limit_ms);
    s->classes = mem_grow(s->classes, &s->classes_cap, s->classes_count + 1, sizeof *s->classes);
    s->classes[s->classes_count++] = c;
    return 0;
}

static struct job *job_place(struct sched *s, job_id id)
{
    size_t page = id.n / JOB_PAGE;
    if (page >= s->pages_count) {
        s->pages = mem_grow(s->pages, &s->pages_cap, page + 1, sizeof *s->pages);
        memset(s->pages + s->pages_count, 0, (s->pages_cap - s->pages_count) * sizeof *s->pages);
        s->pages_count = page + 1;
    }
    if (!s->pages[page])
        s->pages[page] = mem_zero(1, sizeof **s->pages);
    s->pages[page]->live++;
    s->jobs_live++;
    return &s->pages[page]->jobs[id.n % JOB_PAGE];
}

static struct job_extra *job_extra(struct job *j)
{
    if (!j->extra)
        j->extra = mem_zero(1, sizeof *j->extra);
    return j->extra;
}

static void appoint(struct sched *s, job_id job, int64_t wall_ms)
{
    struct appointment *a = mem_zero(1, sizeof *a);
    heap_node_init(&a->node);
    a->wall_ms = wall_ms;
    a->job = job;
    heap_push(&s->calendar, &a->node);
}

/* after: per dependency varint job, varint when, varint verdict (0 open, 1 met, 2 failed when it was submitted). */
static int apply_after(struct sched *s, struct job *j, struct bytes packed, struct err *err)
{
    const uint8_t *at = (const uint8_t *)packed.data, *end = at + packed.size;
    struct job_extra *x = job_extra(j);
    size_t cap = 0;
    while (at < end) {
        uint64_t on, when, verdict;
        if (!varint_read(&at, end, &on) || !varint_read(&at, end, &when) || !varint_read(&at, end, &verdict) ||
            when > AFTER_FAIL || verdict > 2 || x->after_count >= AFTER_MAX)
            REFUSE("job %" PRIu64 " has a dependency list that does not decode", j->id.n);
        x->after = mem_grow(x->after, &cap, x->after_count + 1, sizeof *x->after);
        x->after[x->after_count++] = (struct after){ { on }, (enum after_when)when };
        if (verdict == 2 && !x->failed_on.n)
            x->failed_on.n = on;
        if (verdict == 2)
            j->after_left++;
        if (verdict)
            continue;
        struct job *target = sched_job(s, (job_id){ on });
        if (!target || job_state_terminal(target->state))
            REFUSE("job %" PRIu64 " waits for job %" PRIu64 ", which is not there", j->id.n, on);
        struct job_extra *tx = job_extra(target);
        tx->dependents = mem_grow(tx->dependents, &tx->dependents_cap, tx->dependents_count + 1, sizeof *tx->dependents);
        tx->dependents[tx->dependents_count++] = (struct dependent){ j->id, (enum after_when)when };
        j->after_left++;
    }
    if (x->failed_on.n)
        ripen(s, j->id);
    return 0;
}

int64_t sched_order_key(const struct sched *s, const struct job *j)
{
    enum order_kind order = sched_order_of(s, job_class(s, j)->shape);
    if (!orders[order].ranks)
        return 0;
    if ((order != ORDER_PRIORITY && order != ORDER_FAIRSHARE) || !s->config.aging_ms)
        return -(int64_t)j->priority;
    /* Everybody ages at the same pace, so who goes first never changes while they wait. */
    return j->submit_wall_ms - (int64_t)j->priority * s->config.aging_ms;
}

static int apply_submitted(struct sched *s, const struct record *rec, struct err *err)
{
    const struct ev_submitted *e = &rec->submitted;
    if (e->job <= s->job_last || e->job > s->job_last + (1u << 24))
        REFUSE("job %" PRIu64 " does not follow job %" PRIu64, e->job, s->job_last);
    if (e->class >= s->classes_count || e->tasks > ARRAY_TASKS_MAX)
        REFUSE("job %" PRIu64 " is of unknown class %u or too large", e->job, e->class);
    if (s->classes[e->class].nodes > 1 && e->tasks != s->classes[e->class].nodes)
        REFUSE("job %" PRIu64 " has not as many parts as nodes", e->job);
    job_id id = { e->job };
    struct job *j = job_place(s, id);
    s->job_last = e->job;
    j->id = id;
    j->class = e->class;
    j->name = intern_add(&s->names, e->name);
    j->priority = (int32_t)e->priority;
    j->submit_wall_ms = rec->at_wall_ms;
    if (!s->origin_wall_ms)
        s->origin_wall_ms = rec->at_wall_ms;
    j->order_key = sched_order_key(s, j);
    j->held = e->held;
    heap_node_init(&j->pending);
    uint32_t tasks = 1;
    if (e->tasks) {
        tasks = e->tasks;
        j->is_array = true;
        j->array = mem_zero(1, sizeof *j->array + (size_t)e->tasks * sizeof *j->array->cells);
        j->array->tasks = e->tasks;
        j->array->first = e->first;
        j->array->step = e->step ? e->step : 1;
        j->array->limit = e->limit;
        j->array->gang = s->classes[e->class].nodes > 1;
        j->array->counts[JOB_QUEUED] = e->tasks;
    }
    if (e->begin_wall_ms || e->deadline_wall_ms || e->retry_of || e->notify || e->mem_max_bytes) {
        struct job_extra *x = job_extra(j);
        x->notify = e->notify != 0;
        x->begin_wall_ms = e->begin_wall_ms;
        x->begin_open = e->begin_wall_ms != 0;
        x->deadline_wall_ms = e->deadline_wall_ms;
        x->retry_of.n = e->retry_of;
        x->mem_max_bytes = e->mem_max_bytes;
        if (e->begin_wall_ms)
            appoint(s, id, e->begin_wall_ms);
        if (e->deadline_wall_ms)
            appoint(s, id, e->deadline_wall_ms);
    }
    if (e->cron.size && sched_cron_apply_submitted(s, e, err) < 0)
        return -(int)err->code;
    if (e->after.size) {
        int rc = apply_after(s, j, e->after, err);
        if (rc < 0)
            return rc;
    }
    enum job_state state = JOB_QUEUED;
    if (j->held)
        state = JOB_HELD;
    else if (j->after_left || (j->extra && j->extra->begin_open))
        state = JOB_BLOCKED;
    j->state = (uint8_t)state;
    s->stats.jobs[state]++;
    s->stats.tasks[state] += tasks;
    sched_count_state(s, j, JOB_NONE, state, tasks);
    s->stats.submitted += tasks;
    s->jobs_open++;
    sched_party_submitted(s, job_class(s, j)->shape);
    sched_queue_refresh(s, j);
    return 0;
}

/* Finds the job of a record that needs one which has not ended. */
static struct job *live_job(struct sched *s, uint64_t id, const struct record *rec, struct err *err)
{
    struct job *j = sched_job(s, (job_id){ id });
    if (j && !job_state_terminal(j->state))
        return j;
    err_set(err, ERR_CORRUPT, "record %" PRIu64 " (%s) is about job %" PRIu64 ", which %s", rec->seq,
            event_name(rec->kind), id, j ? "has ended" : "is not there");
    return NULL;
}

static bool task_in(const struct job *j, uint32_t task)
{
    return j->is_array ? task < j->array->tasks : task == TASK_SINGLE;
}

static void back_to_waiting(struct sched *s, struct job *j)
{
    if (!j->is_array && (j->state == JOB_HELD || j->state == JOB_BLOCKED || j->state == JOB_QUEUED)) {
        enum job_state state = JOB_QUEUED;
        if (j->held)
            state = JOB_HELD;
        else if (j->after_left || (j->extra && j->extra->begin_open))
            state = JOB_BLOCKED;
        set_task_state(s, j, TASK_SINGLE, state);
    }
    job_changed(s, j);
}

static int apply_assigned(struct sched *s, const struct record *rec, struct err *err)
{
    const struct ev_assigned *e = &rec->assigned;
    struct job *j = live_job(s, e->job, rec, err);
    if (!j)
        return -(int)ERR_CORRUPT;
    if (!task_in(j, e->task) || sched_task_state(j, e->task) != JOB_QUEUED || !sched_node(s, (node_id){ e->node }))
        REFUSE("attempt %u of job %" PRIu64 " can not be dispatched now", e->attempt, e->job);
    uint32_t expected = sched_attempt_next(s, j, e->task);
    if (e->attempt != expected)
        REFUSE("attempt %u of job %" PRIu64 " is not attempt %u", e->attempt, e->job, expected);
    if (j->is_array) {
        struct array *a = j->array;
        a->cells[e->task].attempt = (uint16_t)e->attempt;
        if (e->task >= a->fresh) {
            a->fresh = e->task + 1;
        } else {
            for (size_t i = a->returned_count; i > 0; i--)
                if (a->returned[i - 1] == e->task) {
                    memmove(a->returned + i - 1, a->returned + i, (a->returned_count - i) * sizeof *a->returned);
                    a->returned_count--;
                    break;
                }
        }
    } else {
        j->attempt = e->attempt;
        j->node = e->node;
    }
    set_task_state(s, j, e->task, JOB_DISPATCHED);
    run_open(s, j, e);
    job_changed(s, j);
    return 0;
}

/* Finds the open attempt a record is about. */
static struct run *live_run(struct sched *s, uint64_t job, uint32_t task, uint32_t attempt, const struct record *rec,
                            struct err *err)
{
    struct run *r = sched_run(s, (job_id){ job }, task);
    if (r && r->ref.attempt == attempt)
        return r;
    err_set(err, ERR_CORRUPT, "record %" PRIu64 " (%s) is about attempt %u of job %" PRIu64 ", which is not open",
            rec->seq, event_name(rec->kind), attempt, job);
    return NULL;
}

static void run_started(struct sched *s, struct run *r, int64_t at_wall_ms)
{
    if (r->state == RUN_RUNNING)
        return;
    r->state = RUN_RUNNING;
    r->node->running_count++;
    r->start_wall_ms = at_wall_ms;
    list_remove(&r->unanswered);
    sched_note_start(s, r, 0);
    if (r->ahead) {
        promote(s, r);
    } else {
        sched_ends_move(r, at_wall_ms + sched_length_ms(s, job_class(s, r->job)->shape));
    }
    if (!r->job->start_wall_ms)
        r->job->start_wall_ms = at_wall_ms;
    s->stats.started++;
}

static int apply_started(struct sched *s, const struct record *rec, struct err *err)
{
    const struct ev_started *e = &rec->started;
    struct run *r = live_run(s, e->job, e->task, e->attempt, rec, err);
    if (!r)
        return -(int)ERR_CORRUPT;
    run_started(s, r, rec->at_wall_ms);
    if (sched_task_state(r->job, e->task) == JOB_DISPATCHED)
        set_task_state(s, r->job, e->task, JOB_RUNNING);
    job_changed(s, r->job);
    return 0;
}

static int apply_revoked(struct sched *s, const struct record *rec, struct err *err)
{
    const struct ev_revoked *e = &rec->revoked;
    struct run *r = live_run(s, e->job, e->task, e->attempt, rec, err);
    if (!r)
        return -(int)ERR_CORRUPT;
    struct job *j = r->job;
    run_close(s, r);
    if (e->final)
        task_ended(s, j, e->task, (enum job_state)e->final, (enum reason)(e->reason < REASONS ? e->reason : REASON_NONE),
                   rec->at_wall_ms);
    else
        task_requeue(s, j, e->task);
    if (job_is_gang(j))
        sched_gang_broken(s, j);
    if (sched_job(s, (job_id){ e->job }))
        job_changed(s, j);
    return 0;
}

static uint16_t add16(uint16_t a, uint16_t b) { return (uint16_t)(a > UINT16_MAX - b ? UINT16_MAX : a + b); }
static uint8_t add8(uint8_t a) { return a == UINT8_MAX ? a : (uint8_t)(a + 1); }

void sched_class_mean(struct sched *s, struct class *c, double run_ms_mean)
{
    c->run_ms_mean = c->shape->run_ms_mean = run_ms_mean;
    if (s->config.ahead_max && run_ms_mean <= AHEAD_ROUNDS_MAX * (double)s->config.ahead_target_ms)
        sched_demand_brief(s, c->shape->demand);
    if (c->shape->pending.count && !c->shape->time_limit_ms)
        sched_shape_moved(s, c->shape); /* Its estimate is another one now. */
}

static int apply_ended(struct sched *s, const struct record *rec, struct err *err)
{
    const struct ev_ended *e = &rec->ended;
    struct run *r = live_run(s, e->job, e->task, e->attempt, rec, err);
    if (!r)
        return -(int)ERR_CORRUPT;
    if (e->reason >= REASONS || e->final >= JOB_STATES || (e->final && !job_state_terminal((enum job_state)e->final)))
        REFUSE("the end of attempt %u of job %" PRIu64 " makes no sense", e->attempt, e->job);
    struct job *j = r->job;
    bool of_gang = e->flags & END_OF_GANG;
    if (of_gang && (!job_is_gang(j) || e->final))
        REFUSE("attempt %u of job %" PRIu64 " is not one of a gang", e->attempt, e->job);
    bool lost = e->reason == REASON_NODE_LOST || e->reason == REASON_NODE_REBOOTED;
    if (!j->start_wall_ms && !(e->flags & END_MAY_HAVE_RUN))
        j->start_wall_ms = rec->at_wall_ms - e->run_ms;
    if (r->state != RUN_RUNNING && !lost) {
        s->stats.started++; /* Its end came before word of its start. */
        if (!(e->flags & END_MAY_HAVE_RUN))
            sched_note_start(s, r, e->run_ms);
    }
    if (!lost && !(e->flags & END_MAY_HAVE_RUN))
        sched_note_end(s, r);
    if (j->is_array) {
        struct cell *c = &j->array->cells[e->task];
        c->reason = (uint8_t)e->reason;
        c->exit_code = (uint8_t)e->exit_code;
        c->signal = (uint8_t)e->signal;
        c->failures = add16(c->failures, e->counted ? 1 : 0);
        if (reason_infra((enum reason)e->reason) && !e->counted)
            c->infra = add8(c->infra);
        if (lost)
            c->lost = add8(c->lost);
    } else {
        j->reason = (uint8_t)e->reason;
        j->exit_code = (uint8_t)e->exit_code;
        j->signal = (uint8_t)e->signal;
        j->failures = add16(j->failures, e->counted ? 1 : 0);
        if (reason_infra((enum reason)e->reason) && !e->counted)
            j->infra = add8(j->infra);
        if (lost)
            j->lost = add8(j->lost);
    }
    struct class *c = job_class(s, j);
    if (!lost)
        sched_class_mean(s, c, c->run_ms_mean < 0 ? (double)e->run_ms : c->run_ms_mean * 0.8 + (double)e->run_ms * 0.2);
    if (!lost && !r->cancelling) {
        int64_t *ran_ms = c->shape->user_party->ran_ms;
        ran_ms[1] = ran_ms[0];
        ran_ms[0] = (e->run_ms > 0 ? e->run_ms : 0) + 1;
    }
    run_close(s, r);
    if (e->final) {
        task_ended(s, j, e->task, (enum job_state)e->final, (enum reason)e->reason, rec->at_wall_ms);
    } else if (of_gang) {
        if (sched_task_state(j, e->task) != JOB_CANCELLING)
            set_task_state(s, j, e->task, JOB_RUNNING); /* It counts as that until all have ended. */
        if (e->reason != REASON_NONE)
            sched_gang_broken(s, j);
        ripen(s, j->id);
    } else {
        retry_wait(s, j, e->task, rec->at_wall_ms, e->retry_ms);
        s->stats.retried++;
        s->stats.retried_for[e->reason]++;
    }
    if (sched_job(s, (job_id){ e->job }))
        job_changed(s, j);
    return 0;
}

static int apply_uncertain(struct sched *s, const struct record *rec, struct err *err)
{
    const struct ev_uncertain *e = &rec->uncertain;
    struct run *r = live_run(s, e->job, e->task, e->attempt, rec, err);
    if (!r)
        return -(int)ERR_CORRUPT;
    r->uncertain = true;
    if (!r->cancelling)
        set_task_state(s, r->job, e->task, JOB_UNCERTAIN);
    job_changed(s, r->job);
    return 0;
}

static int apply_recovered(struct sched *s, const struct record *rec, struct err *err)
{
    const struct ev_recovered *e = &rec->recovered;
    struct run *r = live_run(s, e->job, e->task, e->attempt, rec, err);
    if (!r)
        return -(int)ERR_CORRUPT;
    r->uncertain = false;
    if (e->running)
        run_started(s, r, rec->at_wall_ms);
    if (!r->cancelling)
        set_task_state(s, r->job, e->task, r->state == RUN_RUNNING ? JOB_RUNNING : JOB_DISPATCHED);
    job_changed(s, r->job);
    return 0;
}

static int apply_retry_due(struct sched *s, const struct record *rec, struct err *err)
{
    const struct ev_retry_due *e = &rec->retry_due;
    struct job *j = live_job(s, e->job, rec, err);
    if (!j)
        return -(int)ERR_CORRUPT;
    if (!task_in(j, e->task) || sched_task_state(j, e->task) != JOB_RETRY_WAIT)
        REFUSE("job %" PRIu64 " does not wait for a retry", e->job);
    leave_retry_wait(s, j, e->task);
    task_requeue(s, j, e->task);
    job_changed(s, j);
    return 0;
}

static void end_run(struct run *r)
{
    r->node->cancelling_count += !r->cancelling;
    r->cancelling = true;
}

static void cancel_run(struct sched *s, struct run *r)
{
    end_run(r);
    set_task_state(s, r->job, r->ref.task, JOB_CANCELLING);
}

void sched_gang_broken(struct sched *s, struct job *j)
{
    for (uint32_t p = 0; j->array->open && p < j->array->tasks; p++) {
        struct run *r = sched_run(s, j->id, p);
        if (r)
            end_run(r);
    }
    ripen(s, j->id);
}

/* How one part of a gang ended that has ended as a whole. */
static enum job_state part_end(const struct cell *c, const struct ev_gang_ended *e)
{
    enum reason reason = (enum reason)c->reason;
    if (c->state == JOB_QUEUED) /* Its node did not start it. */
        return (enum job_state)e->final;
    return reason == REASON_NONE ? JOB_SUCCEEDED : reason == REASON_GANG || e->final == JOB_CANCELLED ? JOB_CANCELLED : JOB_FAILED;
}

static int apply_gang_ended(struct sched *s, const struct record *rec, struct err *err)
{
    const struct ev_gang_ended *e = &rec->gang_ended;
    struct job *j = live_job(s, e->job, rec, err);
    if (!j)
        return -(int)ERR_CORRUPT;
    if (!job_is_gang(j) || j->array->open || e->reason >= REASONS || e->final >= JOB_STATES ||
        (e->final && !job_state_terminal((enum job_state)e->final)))
        REFUSE("gang %" PRIu64 " can not have ended", e->job);
    struct cell *first = &j->array->cells[0]; /* Counts for all of them. */
    first->failures = add16(first->failures, e->counted ? 1 : 0);
    if (reason_infra((enum reason)e->reason) && !e->counted)
        first->infra = add8(first->infra);
    for (uint32_t p = 0; p < j->array->tasks; p++) {
        struct cell *c = &j->array->cells[p];
        bool waits = c->state == JOB_QUEUED;
        if (job_state_terminal((enum job_state)c->state))
            continue;
        if (e->final) {
            enum job_state end = part_end(c, e);
            c->reason = waits ? (uint8_t)e->reason : c->reason;
            task_ended(s, j, p, end, (enum reason)c->reason, rec->at_wall_ms);
        } else if (!waits) {
            retry_wait(s, j, p, rec->at_wall_ms, e->retry_ms);
            s->stats.retried++;
            s->stats.retried_for[e->reason]++;
        }
    }
    job_changed(s, j);
    return 0;
}

static int apply_cancel(struct sched *s, const struct record *rec, struct err *err)
{
    const struct ev_cancel *e = &rec->cancel;
    struct job *j = live_job(s, e->job, rec, err);
    if (!j)
        return -(int)ERR_CORRUPT;
    bool one = j->is_array && e->task != TASK_ALL;
    if (one && !task_in(j, e->task))
        REFUSE("job %" PRIu64 " has no task %u to cancel", e->job, e->task);
    if (one) {
        struct run *r = sched_run(s, j->id, e->task);
        if (r) {
            cancel_run(s, r);
        } else {
            if (sched_task_state(j, e->task) == JOB_RETRY_WAIT)
                leave_retry_wait(s, j, e->task);
            j->array->cells[e->task].reason = REASON_CANCELLED;
            task_ended(s, j, e->task, JOB_CANCELLED, REASON_CANCELLED, rec->at_wall_ms);
        }
        job_changed(s, j);
        return 0;
    }
    j->cancelled = true;
    if (j->is_array) {
        struct array *a = j->array;
        if (a->open)
            for (uint32_t p = 0; p < a->tasks; p++) {
                struct run *r = a->cells[p].state >= JOB_DISPATCHED && a->cells[p].state <= JOB_CANCELLING
                                    ? sched_run(s, j->id, p) : NULL;
                if (r)
                    cancel_run(s, r);
                else if (a->gang && a->cells[p].state == JOB_RUNNING) /* It has ended, and waits for the others. */
                    set_task_state(s, j, p, JOB_CANCELLING);
            }
        end_waiting_tasks(s, j, JOB_CANCELLED, REASON_CANCELLED, rec->at_wall_ms);
        if (e->final)
            job_ended(s, j, JOB_CANCELLED, rec->at_wall_ms);
    } else if (j->run) {
        cancel_run(s, j->run);
    } else {
        j->reason = REASON_CANCELLED;
        end_waiting_tasks(s, j, JOB_CANCELLED, REASON_CANCELLED, rec->at_wall_ms);
    }
    if (sched_job(s, (job_id){ e->job }))
        job_changed(s, j);
    return 0;
}

/* A job that will not start any more: EXPIRED at its deadline, FAILED for a dependency. */
static int apply_never(struct sched *s, uint64_t id, enum job_state end, enum reason reason, bool final,
                       const struct record *rec, struct err *err)
{
    struct job *j = live_job(s, id, rec, err);
    if (!j)
        return -(int)ERR_CORRUPT;
    j->reason = (uint8_t)reason; /* Tasks that have started in time go on, and are tried again as usual. */
    end_waiting_tasks(s, j, end, reason, rec->at_wall_ms);
    if (j->is_array && final)
        job_ended(s, j, end, rec->at_wall_ms);
    if (sched_job(s, (job_id){ id }))
        job_changed(s, j);
    return 0;
}

static int apply_array_ended(struct sched *s, const struct record *rec, struct err *err)
{
    const struct ev_array_ended *e = &rec->array_ended;
    struct job *j = live_job(s, e->job, rec, err);
    if (!j)
        return -(int)ERR_CORRUPT;
    if (!j->is_array || j->array->open || j->array->counts[JOB_QUEUED] || j->array->counts[JOB_RETRY_WAIT] ||
        e->final >= JOB_STATES || !job_state_terminal((enum job_state)e->final))
        REFUSE("array %" PRIu64 " can not have ended", e->job);
    job_ended(s, j, (enum job_state)e->final, rec->at_wall_ms);
    return 0;
}

struct bytes sched_own(struct bytes old, struct bytes text)
{
    char *copy = mem_copy(text.data, text.size);
    free((char *)old.data);
    return bytes_of(copy, text.size);
}

static struct node *node_new(struct sched *s)
{
    struct node *n = mem_zero(1, sizeof *n);
    n->id.n = (uint32_t)s->nodes_count + 1;
    list_init(&n->runs);
    list_init(&n->waiting);
    list_init(&n->touched);
    heap_node_init(&n->ahead);
    s->nodes = mem_grow(s->nodes, &s->nodes_cap, s->nodes_count + 1, sizeof *s->nodes);
    s->nodes[s->nodes_count++] = n;
    s->stats.nodes[NODE_NONE]++;
    return n;
}

static int apply_node_seen(struct sched *s, const struct record *rec, struct err *err)
{
    const struct ev_node_seen *e = &rec->node_seen;
    if (e->node == 0 || e->node > s->nodes_count + 1 || e->node > NODES_MAX)
        REFUSE("node %u does not follow node %zu", e->node, s->nodes_count);
    struct node *n;
    if (e->node == s->nodes_count + 1) {
        n = node_new(s);
    } else {
        n = s->nodes[e->node - 1];
    }
    n->name = sched_own(n->name, e->name);
    n->boot = sched_own(n->boot, e->boot);
    n->version = sched_own(n->version, e->version);
    n->worker = (struct worker_id){ e->worker_high, e->worker_low };
    n->incarnation = e->incarnation;
    sched_capacity(s, n, false);
    memcpy(n->capacity.v, e->capacity.v, sizeof n->capacity.v);
    n->labels = sched_own(n->labels, e->labels);
    n->plan.stale |= sched_where_node(s, n); /* Who has a place there may have to look for another. */
    sched_capacity(s, n, true);
    node_freed(s, n);
    return 0;
}

static int apply_node_state(struct sched *s, const struct record *rec, struct err *err)
{
    const struct ev_node_state *e = &rec->node_state;
    struct node *n = sched_node(s, (node_id){ e->node });
    if (!n || e->state >= NODE_STATES || !node_state_may(n->state, (enum node_state)e->state))
        REFUSE("node %u can not become state %u", e->node, e->state);
    s->stats.nodes[n->state]--;
    s->stats.nodes[e->state]++;
    sched_capacity(s, n, false);
    n->state = (enum node_state)e->state;
    sched_capacity(s, n, true);
    n->drained_by_user = e->state == NODE_DRAINING || e->state == NODE_DRAINED ||
                         (n->drained_by_user && e->state != NODE_READY);
    n->reason = sched_own(n->reason, e->reason);
    sched_node_freed(s, n);
    return 0;
}

static int apply_resource(struct sched *s, const struct record *rec, struct err *err)
{
    const struct ev_resource *e = &rec->resource;
    if (e->dim < RES_NAMED || e->dim >= RES_DIMS || e->name.size == 0 || e->name.size >= RES_NAME_BYTES)
        REFUSE("resource dimension %u is out of range", e->dim);
    memcpy(s->named[e->dim - RES_NAMED], e->name.data, e->name.size);
    s->named[e->dim - RES_NAMED][e->name.size] = 0;
    return 0;
}

static int apply_job_simple(struct sched *s, const struct record *rec, struct err *err)
{
    struct job *j = live_job(s, record_subject(rec).job.n, rec, err);
    if (!j)
        return -(int)ERR_CORRUPT;
    switch (rec->kind) {
    case EV_HELD:
        j->held = true;
        if (j->state == JOB_RETRY_WAIT && !j->is_array) {
            leave_retry_wait(s, j, TASK_SINGLE);
            set_task_state(s, j, TASK_SINGLE, JOB_HELD);
        }
        break;
    case EV_RELEASED:
        j->held = false;
        break;
    case EV_UNBLOCKED:
        if (j->extra)
            j->extra->begin_open = false;
        break;
    case EV_UPDATED:
        j->priority = (int32_t)rec->updated.priority;
        j->order_key = sched_order_key(s, j);
        sched_queue_moved(s, j);
        break;
    default:
        check_unreachable();
    }
    back_to_waiting(s, j);
    return 0;
}

/* Of a single job without an open attempt: nothing is held by what it asked for. Who it is of stays, and so do limits, shares and counts. */
static int apply_grown(struct sched *s, const struct record *rec, struct err *err)
{
    const struct ev_grown *e = &rec->grown;
    struct job *j = live_job(s, e->job, rec, err);
    if (!j)
        return -(int)ERR_CORRUPT;
    if (j->is_array || j->run || e->class >= s->classes_count || sched_job_eligible(j))
        REFUSE("job %" PRIu64 " cannot ask for more now", e->job);
    const struct class *was = job_class(s, j), *now = &s->classes[e->class];
    if (was->user != now->user || was->queue != now->queue || was->shape->account != now->shape->account)
        REFUSE("job %" PRIu64 " cannot become somebody else's", e->job);
    j->class = e->class;
    j->order_key = sched_order_key(s, j);
    return 0;
}

static int apply_rollback(struct sched *s, const struct record *rec, struct err *err)
{
    uint64_t floor = rec->epoch.job_floor;
    if (floor < s->job_last || floor - s->job_last > (1u << 24))
        REFUSE("job ids cannot go on behind %" PRIu64 ", the last one is %" PRIu64, floor, s->job_last);
    s->rollbacks = mem_grow(s->rollbacks, &s->rollbacks_cap, s->rollbacks_count + 1, sizeof *s->rollbacks);
    s->rollbacks[s->rollbacks_count++] = (struct rollback){ s->job_last, floor };
    s->job_last = floor;
    return 0;
}

/* The job may have left memory since. */
static int apply_notified(struct sched *s, const struct record *rec)
{
    struct job *j = sched_job(s, (job_id){ rec->notified.job });
    if (j && j->extra)
        j->extra->notify = false;
    return 0;
}

int sched_apply(struct sched *s, const struct record *rec, struct err *err)
{
    s->record_wall_ms = rec->at_wall_ms;
    switch (rec->kind) {
    case EV_EPOCH:
        if (rec->epoch.epoch <= s->epoch)
            REFUSE("epoch %" PRIu64 " does not follow epoch %" PRIu64, rec->epoch.epoch, s->epoch);
        s->epoch = rec->epoch.epoch;
        return rec->epoch.job_floor ? apply_rollback(s, rec, err) : 0;
    case EV_RESOURCE: return apply_resource(s, rec, err);
    case EV_CLASS: return apply_class(s, rec, err);
    case EV_SUBMITTED: return apply_submitted(s, rec, err);
    case EV_HELD:
    case EV_RELEASED:
    case EV_UNBLOCKED:
    case EV_UPDATED: return apply_job_simple(s, rec, err);
    case EV_GROWN: return apply_grown(s, rec, err);
    case EV_GANG_ENDED: return apply_gang_ended(s, rec, err);
    case EV_ASSIGNED: return apply_assigned(s, rec, err);
    case EV_STARTED: return apply_started(s, rec, err);
    case EV_REVOKED: return apply_revoked(s, rec, err);
    case EV_ENDED: return apply_ended(s, rec, err);
    case EV_UNCERTAIN: return apply_uncertain(s, rec, err);
    case EV_RECOVERED: return apply_recovered(s, rec, err);
    case EV_RETRY_DUE: return apply_retry_due(s, rec, err);
    case EV_CANCEL: return apply_cancel(s, rec, err);
    case EV_EXPIRED:
        return apply_never(s, rec->expired.job, JOB_EXPIRED, REASON_DEADLINE, rec->expired.final, rec, err);
    case EV_DEPENDENCY_FAILED:
        return apply_never(s, rec->dependency_failed.job, JOB_FAILED, REASON_DEPENDENCY, true, rec, err);
    case EV_ARRAY_ENDED: return apply_array_ended(s, rec, err);
    case EV_SUPERSEDED: return 0;
    case EV_NOTIFIED: return apply_notified(s, rec);
    case EV_SETTINGS: return sched_party_apply(s, &rec->settings, err);
    case EV_CRON: return sched_cron_apply(s, &rec->cron, err);
    case EV_CRON_REMOVED: return sched_cron_apply_removed(s, &rec->cron_removed, err);
    case EV_CRON_PASSED: return sched_cron_apply_passed(s, &rec->cron_passed, err);
    case EV_NODE_SEEN: return apply_node_seen(s, rec, err);
    case EV_NODE_STATE: return apply_node_state(s, rec, err);
    default:
        REFUSE("record %" PRIu64 " (%s) does not belong into a master's journal", rec->seq, event_name(rec->kind));
    }
}

void sched_emit(struct sched *s, const struct record *rec)
{
    s->records = mem_grow(s->records, &s->records_cap, s->records_count + 1, sizeof *s->records);
    struct record *kept = &s->records[s->records_count++];
    *kept = *rec;
    kept->at_wall_ms = s->wall_ms;
    struct err err = { 0 };
    if (sched_apply(s, kept, &err) < 0) {
        /* A decision that its own state refuses is a bug. */
        struct buf text = BUF_INIT;
        record_print(&text, kept);
        check_failed(err.text, text.data, 0, "sched_emit");
    }
}

/* --- parts of the above, for a state that comes from a snapshot --- */

struct job *sched_load_job(struct sched *s, job_id id)
{
    struct job *j = job_place(s, id);
    j->id = id;
    heap_node_init(&j->pending);
    return j;
}

void sched_load_pending(struct sched *s, struct job *j)
{
    j->order_key = sched_order_key(s, j);
    sched_count_partly(s, j, sched_partly(j));
    s->record_wall_ms = j->submit_wall_ms; /* When it came to wait is known already. */
    sched_queue_refresh(s, j);
}

struct node *sched_load_node(struct sched *s)
{
    struct node *n = node_new(s);
    sched_node_touched(s, n);
    return n;
}

struct run *sched_load_run(struct sched *s, struct job *j, struct node *n, uint32_t task, uint32_t attempt, bool ahead)
{
    struct ev_assigned e = { .job = j->id.n, .task = task, .attempt = attempt, .node = n->id.n, .ahead = ahead };
    run_open(s, j, &e);
    return sched_run(s, j->id, task);
}

void sched_load_timer(struct sched *s, struct job *j, uint32_t task, int64_t due_ms)
{
    timer_new(s, j, task, due_ms);
}

void sched_load_appointment(struct sched *s, job_id job, int64_t wall_ms)
{
    appoint(s, job, wall_ms);
}

void sched_load_ended(struct sched *s, job_id job)
{
    ended_push(s, job.n);
}

void sched_load_done(struct sched *s)
{
    evict(s); /* Fewer may be kept now. */
    s->dirty = true;
}
