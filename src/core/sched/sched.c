#include "core/sched/sched.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/bug.h"
#include "core/sched/sched_again.h"
#include "core/sched/sched_state.h"

#define CYCLE_SWEEP_MS 1000       /* how often silent nodes are looked for */
#define CALENDAR_LOOK_MS 60000    /* a jump of the wall clock is noticed within this time */
#define PRIORITY_MAX 1000000

void sched_config_default(struct sched_config *c)
{
    *c = (struct sched_config){
        .order = ORDER_PRIORITY,
        .backfill_order = ORDERS,
        .backfill = BACKFILL_GREEDY,
        .place = PLACE_BINPACK,
        .estimate_ms = 3600000,
        .half_life_ms = 7 * 86400000,
        .plan_depth = 1000,
        .plan_slack_ms = 1000,
        .starve_ms = 600000,
        .heartbeat_ms = 5000,
        .suspect_ms = 15000,
        .lease_ms = 60000,
        .down_ms = 80000,
        .lost_after_ms = 300000,
        .grace_start_ms = 120000,
        .resend_ms = 10000,
        .start_ttl_ms = 30000,
        .kill_grace_ms = 10000,
        .ahead_target_ms = 50,
        .ahead_max = 4096,
        .infra_retries_max = 20,
        .poison_nodes = 3,
        .jobs_max = 10000000,
        .ended_max = 1000000,
    };
}

static bool timer_before(const struct heap_node *a, const struct heap_node *b)
{
    const struct timer *x = heap_entry(a, struct timer, node), *y = heap_entry(b, struct timer, node);
    if (x->due_ms != y->due_ms)
        return x->due_ms < y->due_ms;
    return x->job.n != y->job.n ? x->job.n < y->job.n : x->task < y->task;
}

static bool appointment_before(const struct heap_node *a, const struct heap_node *b)
{
    const struct appointment *x = heap_entry(a, struct appointment, node), *y = heap_entry(b, struct appointment, node);
    return x->wall_ms != y->wall_ms ? x->wall_ms < y->wall_ms : x->job.n < y->job.n;
}

struct sched *sched_new(const struct sched_config *config)
{
    struct sched *s = mem_zero(1, sizeof *s);
    s->config = *config;
    s->mac = mac_new(config->token_key);
    s->fair_clock = 1;
    sched_party_init(s);
    sched_queue_init(s);
    heap_init(&s->timers, timer_before);
    heap_init(&s->calendar, appointment_before);
    list_init(&s->unanswered);
    list_init(&s->touched);
    prng_seed(&s->prng, 0);
    return s;
}

static void pages_free(struct sched *s)
{
    for (size_t p = 0; p < s->pages_count; p++) {
        if (!s->pages[p])
            continue;
        for (size_t i = 0; i < JOB_PAGE; i++) {
            struct job *j = &s->pages[p]->jobs[i];
            if (!j->id.n)
                continue;
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
        }
        free(s->pages[p]);
    }
    free(s->pages);
}

void sched_free(struct sched *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->runs_slots; i++)
        for (struct run *r = s->runs[i], *next; r; r = next) {
            next = r->hash_next;
            free(r);
        }
    free(s->runs);
    pages_free(s);
    sched_slots_fini(s);
    sched_estimates_fini(s);
    for (size_t i = 0; i < s->timers.count; i++)
        free(heap_entry(s->timers.nodes[i], struct timer, node));
    for (size_t i = 0; i < s->calendar.count; i++)
        free(heap_entry(s->calendar.nodes[i], struct appointment, node));
    sched_cron_fini(s);
    sched_where_fini(s);
    for (size_t i = 0; i < s->nodes_count; i++) {
        struct node *n = s->nodes[i];
        free((char *)n->name.data);
        free((char *)n->boot.data);
        free((char *)n->version.data);
        free((char *)n->metrics.data);
        free((char *)n->reason.data);
        free((char *)n->labels.data);
        free(n->orphans);
        free(n->ends);
        free(n);
    }
    for (size_t i = 0; i < s->classes_count; i++)
        heap_fini(&s->classes[i].ahead);
    sched_party_fini(s);
    sched_queue_fini(s);
    free(s->nodes);
    free(s->sessions);
    free(s->rollbacks);
    free(s->classes);
    free(s->ended);
    free(s->ripe);
    free(s->records);
    free(s->sends);
    free(s->starts);
    free(s->queue_counts);
    heap_fini(&s->timers);
    heap_fini(&s->calendar);
    intern_fini(&s->users);
    intern_fini(&s->queues);
    intern_fini(&s->names);
    intern_fini(&s->class_keys);
    arena_fini(&s->turn);
    mac_free(s->mac);
    free(s);
}

/* --- ends of attempts --- */

static uint16_t task_failures(const struct job *j, uint32_t task)
{
    return j->is_array ? j->array->cells[task].failures : j->failures;
}

static uint8_t task_infra(const struct job *j, uint32_t task)
{
    return j->is_array ? j->array->cells[task].infra : j->infra;
}

static uint8_t task_lost(const struct job *j, uint32_t task)
{
    return j->is_array ? j->array->cells[task].lost : j->lost;
}

/* Exponential back-off with full jitter: uniform below min(max, base * 2^failures). */
static int64_t backoff(struct sched *s, int64_t base_ms, int64_t max_ms, unsigned failures)
{
    int64_t top = base_ms;
    while (failures-- > 0 && top < max_ms)
        top *= 2;
    if (top > max_ms)
        top = max_ms;
    return top > 0 ? prng_between(&s->prng, top / 2, top) : 0;
}

/* What may be tried again after which failure: infrastructure always (bounded), what the job did up to its retries,
 * what would fail in the same way anywhere (its command does not exist, its image can not be had) never. */
bool sched_may_retry(const struct sched *s, const struct job *j, uint32_t task, enum reason reason)
{
    if (reason_infra(reason))
        return task_infra(j, task) < s->config.infra_retries_max;
    if (reason == REASON_SPAWN || reason == REASON_IMAGE || reason == REASON_POISON)
        return false;
    return task_failures(j, task) < s->classes[j->class].retries;
}

int64_t sched_backoff(struct sched *s, const struct job *j, uint32_t task, bool counted)
{
    const struct class *c = job_class(s, j);
    return counted ? backoff(s, c->backoff_ms, c->backoff_max_ms, task_failures(j, task)) : backoff(s, 1000, 60000, task_infra(j, task));
}

/* What a job that ran out of memory asks for next: twice as much, but not more than it may, nor than a node has. 0: there is no more. */
static uint64_t more_memory(const struct sched *s, const struct job *j)
{
    uint64_t has = job_class(s, j)->need.v[RES_MEM], most = 0;
    if (j->is_array || !j->extra || j->extra->mem_max_bytes <= has)
        return 0;
    for (size_t i = 0; i < s->nodes_count; i++)
        if (s->nodes[i]->state != NODE_REMOVED && sched_node_suits(s->nodes[i], &job_class(s, j)->need) && s->nodes[i]->capacity.v[RES_MEM] > most)
            most = s->nodes[i]->capacity.v[RES_MEM];
    if (most > j->extra->mem_max_bytes)
        most = j->extra->mem_max_bytes;
    if (most > 2 * has)
        most = 2 * has;
    return most > has ? most : 0;
}

/* A new class; what its texts are in need not outlive this. */
static uint32_t emit_class(struct sched *s, struct record *rec)
{
    struct ev_class *e = &rec->class;
    e->class = (uint32_t)s->classes_count;
    e->user = arena_bytes(&s->turn, e->user);
    e->queue = arena_bytes(&s->turn, e->queue);
    e->account = arena_bytes(&s->turn, e->account);
    e->where = arena_bytes(&s->turn, e->where);
    e->tokens = arena_bytes(&s->turn, e->tokens);
    sched_emit(s, rec);
    return e->class;
}

static void grow(struct sched *s, const struct job *j, uint64_t mem_bytes)
{
    const struct class *c = job_class(s, j);
    struct record rec = { .kind = EV_CLASS };
    struct ev_class *e = &rec.class;
    struct class_key key;
    autobuf struct buf tokens = BUF_INIT;
    sched_class_event(s, j->class, e, &tokens);
    e->need.v[RES_MEM] = mem_bytes;
    check(sched_class_key(&key, e, c->need.where, c->user, c->queue, c->shape->account));
    uint32_t number = intern_find(&s->class_keys, bytes_of(&key, sizeof key));
    if (number == INTERN_NONE)
        number = emit_class(s, &rec);
    struct record grown = { .kind = EV_GROWN, .grown = { j->id.n, number, mem_bytes } };
    sched_emit(s, &grown);
}

void sched_end_attempt(struct sched *s, struct run *r, const struct attempt_result *result)
{
    struct job *j = r->job;
    struct record rec = { .kind = EV_ENDED };
    struct ev_ended *e = &rec.ended;
    enum reason reason = result->reason;
    uint64_t more = 0;
    *e = (struct ev_ended){ .job = j->id.n,
                            .task = r->ref.task,
                            .attempt = r->ref.attempt,
                            .node = r->node->id.n,
                            .exit_code = result->exit_code,
                            .signal = result->signal,
                            .run_ms = result->run_ms,
                            .cpu_ms = result->cpu_ms,
                            .rss_max_bytes = result->rss_max_bytes,
                            .stdout_bytes = result->stdout_bytes,
                            .stderr_bytes = result->stderr_bytes,
                            .flags = result->flags };
    bool lost = reason == REASON_NODE_LOST || reason == REASON_NODE_REBOOTED;
    bool gang = job_is_gang(j), breaks = gang && reason != REASON_NONE && !r->cancelling;
    if (gang) {
        e->flags |= END_OF_GANG;
        reason = sched_gang_reason(r, reason);
    } else if (reason == REASON_NONE) {
        e->final = JOB_SUCCEEDED;
        if (r->cancelling)
            e->flags |= END_CANCEL_LOST_RACE;
    } else if (r->cancelling && !BUG(retry_cancelled)) {
        e->final = JOB_CANCELLED;
        if (!lost)
            reason = REASON_CANCELLED;
    } else {
        if (lost && task_lost(j, r->ref.task) + 1u >= s->config.poison_nodes)
            reason = REASON_POISON;
        e->counted = !reason_infra(reason) || BUG(infra_counts);
        more = reason == REASON_OOM ? more_memory(s, j) : 0;
        if (more) { /* What it did is not tried again: what is tried is another thing. */
            e->counted = 0;
        } else if (sched_may_retry(s, j, r->ref.task, reason)) {
            e->retry_ms = sched_backoff(s, j, r->ref.task, e->counted);
        } else {
            e->final = JOB_FAILED;
        }
    }
    e->reason = reason;
    sched_emit(s, &rec);
    if (more)
        grow(s, j, more);
    if (breaks)
        sched_gang_kill(s, j);
}

void sched_revoke(struct sched *s, struct run *r, enum reason reason)
{
    struct job *j = r->job;
    bool gang = job_is_gang(j), cancelled = gang ? j->cancelled : r->cancelling, breaks = gang && !r->cancelling;
    struct record rec = { .kind = EV_REVOKED };
    rec.revoked = (struct ev_revoked){ j->id.n, r->ref.task, r->ref.attempt, r->node->id.n, reason, cancelled ? JOB_CANCELLED : 0 };
    sched_emit(s, &rec);
    if (breaks)
        sched_gang_kill(s, j);
}

/* --- what follows by itself: dependencies, begin times, the end of arrays --- */

static void array_end(struct sched *s, struct job *j)
{
    const uint32_t *n = j->array->counts;
    enum job_state end = JOB_SUCCEEDED;
    if (n[JOB_FAILED])
        end = JOB_FAILED;
    else if (n[JOB_EXPIRED])
        end = JOB_EXPIRED;
    else if (n[JOB_CANCELLED])
        end = JOB_CANCELLED;
    struct record rec = { .kind = EV_ARRAY_ENDED };
    rec.array_ended = (struct ev_array_ended){ j->id.n, end, n[JOB_SUCCEEDED], n[JOB_FAILED] + n[JOB_EXPIRED], n[JOB_CANCELLED] };
    sched_emit(s, &rec);
}

static void settle_job(struct sched *s, struct job *j)
{
    if (job_state_terminal(j->state))
        return;
    if (j->extra && j->extra->failed_on.n) {
        struct record rec = { .kind = EV_DEPENDENCY_FAILED };
        rec.dependency_failed = (struct ev_dependency_failed){ j->id.n, j->extra->failed_on.n };
        sched_emit(s, &rec);
        return;
    }
    if (job_is_gang(j))
        sched_gang_settle(s, j);
    if (j->is_array) {
        const uint32_t *n = j->array->counts;
        if (n[JOB_SUCCEEDED] + n[JOB_FAILED] + n[JOB_CANCELLED] + n[JOB_EXPIRED] == j->array->tasks) {
            array_end(s, j);
            return;
        }
    }
    bool begin_waits = j->extra && j->extra->begin_open && j->extra->begin_wall_ms > s->wall_ms;
    bool begin_passed = j->extra && j->extra->begin_open && !begin_waits;
    /* A begin time that has come is noted even while something else holds the job: the clock may jump back later. */
    if (begin_passed || (!j->after_left && !begin_waits && !j->held && j->state == JOB_BLOCKED)) {
        struct record rec = { .kind = EV_UNBLOCKED };
        rec.unblocked.job = j->id.n;
        sched_emit(s, &rec);
    }
}

static void settle(struct sched *s)
{
    for (size_t i = 0; i < s->ripe_count; i++) { /* Settling may ripen others: the list grows under the loop. */
        struct job *j = sched_job(s, (job_id){ s->ripe[i] });
        if (j)
            settle_job(s, j);
    }
    s->ripe_count = 0;
}

static void expire(struct sched *s, struct job *j)
{
    bool single_waits = !j->is_array && (j->state == JOB_HELD || j->state == JOB_BLOCKED || j->state == JOB_QUEUED ||
                                         j->state == JOB_RETRY_WAIT);
    bool array_waits = j->is_array && !job_state_terminal(j->state) &&
                       (j->array->counts[JOB_QUEUED] || j->array->counts[JOB_RETRY_WAIT]);
    if (array_waits && j->array->gang && j->array->counts[JOB_QUEUED] + j->array->counts[JOB_RETRY_WAIT] < j->array->tasks)
        return; /* It has started in time. */
    if (!single_waits && !array_waits)
        return;
    struct record rec = { .kind = EV_EXPIRED };
    rec.expired.job = j->id.n;
    rec.expired.final = single_waits || !j->array->open;
    if (array_waits && j->array->counts[JOB_QUEUED] + j->array->counts[JOB_RETRY_WAIT] < j->array->tasks)
        rec.expired.final = 0; /* Some tasks ended another way: ARRAY_ENDED says how the whole did. */
    sched_emit(s, &rec);
}

static void due_timers(struct sched *s)
{
    struct heap_node *first;
    while ((first = heap_first(&s->timers)) && heap_entry(first, struct timer, node)->due_ms <= s->now_ms) {
        struct timer *t = heap_entry(first, struct timer, node);
        struct record rec = { .kind = EV_RETRY_DUE };
        rec.retry_due = (struct ev_retry_due){ t->job.n, t->task };
        sched_emit(s, &rec);
    }
    while ((first = heap_first(&s->calendar)) && heap_entry(first, struct appointment, node)->wall_ms <= s->wall_ms) {
        struct appointment *a = heap_entry(first, struct appointment, node);
        struct job *j = sched_job(s, a->job);
        int64_t wall_ms = a->wall_ms;
        heap_remove(&s->calendar, &a->node);
        free(a);
        if (!j || job_state_terminal(j->state) || !j->extra)
            continue;
        if (j->extra->deadline_wall_ms == wall_ms)
            expire(s, j);
        else
            settle_job(s, j);
    }
}

/* --- commands --- */

static int refuse(struct sched_result *result, enum err_code code, const char *field, const char *remedy, const char *text)
{
    return err_field(&result->err, code, field, remedy, "%s", text);
}

static int check_request(struct sched *s, const struct job_request *q, struct sched_result *result)
{
    if (q->user.size < 1 || q->user.size > 64)
        return refuse(result, ERR_INVALID, "user", "write 1 to 64 bytes", "the user's name is missing or too long");
    if (q->queue.size < 1 || q->queue.size > 64)
        return refuse(result, ERR_INVALID, "queue", "write 1 to 64 bytes", "the queue's name is missing or too long");
    if (q->account.size > 64)
        return refuse(result, ERR_INVALID, "account", "write at most 64 bytes", "the account's name is too long");
    if (q->name.size > 256)
        return refuse(result, ERR_INVALID, "name", "write at most 256 bytes", "the name is too long");
    if (q->priority < -PRIORITY_MAX || q->priority > PRIORITY_MAX)
        return refuse(result, ERR_INVALID, "priority", "write -1000000 to 1000000", "the priority is out of range");
    if (q->tasks > ARRAY_TASKS_MAX)
        return err_field(&result->err, ERR_INVALID, "array", "split it into several arrays",
                         "an array may have at most %u tasks, this one has %u", ARRAY_TASKS_MAX, q->tasks);
    if (q->nodes > GANG_NODES_MAX)
        return err_field(&result->err, ERR_INVALID, "nodes", "ask for fewer nodes", "a job may have at most %u nodes, this one asks for %u",
                         GANG_NODES_MAX, q->nodes);
    if (q->nodes > 1 && q->tasks)
        return refuse(result, ERR_INVALID, "nodes", "submit as many jobs with nodes as the array has tasks", "an array can not be one job on several nodes as well");
    if (q->nodes > 1 && q->mem_max_bytes)
        return refuse(result, ERR_INVALID, "mem_max", "give it the memory that it needs", "the parts of a job on several nodes ask for the same, none of them for more");
    if (q->tasks && (uint64_t)q->first + (uint64_t)(q->tasks - 1) * (q->step ? q->step : 1) >= TASK_ALL)
        return refuse(result, ERR_INVALID, "array", "use indexes below 4294967294", "the last index is too large");
    if (q->retries > 1000)
        return refuse(result, ERR_INVALID, "retries", "write 0 to 1000", "too many retries");
    if (q->after_count > AFTER_MAX)
        return refuse(result, ERR_INVALID, "after", "wait for an array instead of its many jobs", "too many dependencies");
    if (q->mem_max_bytes && q->tasks)
        return refuse(result, ERR_INVALID, "mem_max", "submit the tasks as jobs of their own", "the tasks of an array ask for the same, none of them for more");
    if (q->mem_max_bytes && (!q->need.v[RES_MEM] || q->mem_max_bytes < q->need.v[RES_MEM]))
        return refuse(result, ERR_INVALID, "mem_max", "give the memory to begin with, and a maximum that is not less", "there is nothing to raise");
    if (q->named_count > RES_NAMED_MAX)
        return refuse(result, ERR_INVALID, "resources", "use at most 5 named resources", "too many named resources");
    if (s->jobs_open >= s->config.jobs_max)
        return err_field(&result->err, ERR_FULL, "jobs", "wait for jobs to end, or use an array: it counts as one job",
                         "the queue holds its maximum of %" PRIu64 " jobs", s->config.jobs_max);
    return sched_party_admit(s, q, &result->err);
}

static int named_dim(struct sched *s, const char *name, struct sched_result *result)
{
    int empty = -1;
    for (int i = 0; i < RES_NAMED_MAX; i++) {
        if (strcmp(s->named[i], name) == 0)
            return RES_NAMED + i;
        if (!s->named[i][0] && empty < 0)
            empty = i;
    }
    if (empty < 0) {
        if (result)
            err_field(&result->err, ERR_INVALID, "resources", "use one of the names the cluster has",
                      "\"%s\" would be the %dth named resource; there is room for %d", name, RES_NAMED_MAX + 1, RES_NAMED_MAX);
        return -1;
    }
    struct record rec = { .kind = EV_RESOURCE };
    rec.resource.dim = (uint32_t)(RES_NAMED + empty);
    rec.resource.name = arena_bytes(&s->turn, bytes_str(name));
    sched_emit(s, &rec);
    return RES_NAMED + empty;
}

int sched_named_dim(struct sched *s, const char *name)
{
    return named_dim(s, name, NULL);
}

/* Packs the dependencies with their verdict as of now. */
static int pack_after(struct sched *s, const struct job_request *q, struct buf *out, struct sched_result *result)
{
    for (size_t i = 0; i < q->after_count; i++) {
        struct job *target = sched_job(s, q->after[i].job);
        if (!target)
            return err_field(&result->err, ERR_NOT_FOUND, "after", "name a job that has not been forgotten",
                             "job %" PRIu64 " is not there to wait for", q->after[i].job.n);
        uint64_t verdict = 0;
        if (job_state_terminal(target->state)) {
            bool ok = target->state == JOB_SUCCEEDED;
            verdict = q->after[i].when == AFTER_ANY || (q->after[i].when == AFTER_OK) == ok ? 1 : 2;
        }
        buf_varint(out, q->after[i].job.n);
        buf_varint(out, q->after[i].when);
        buf_varint(out, verdict);
    }
    return 0;
}

static int class_of(struct sched *s, const struct job_request *q, uint32_t *number, struct sched_result *result)
{
    struct record rec = { .kind = EV_CLASS };
    struct ev_class *e = &rec.class;
    *e = (struct ev_class){ .user = q->user,
                            .queue = q->queue,
                            .where = q->where,
                            .need = q->need,
                            .time_limit_ms = q->time_limit_ms,
                            .grace_ms = q->grace_ms ? q->grace_ms : s->config.kill_grace_ms,
                            .lost_after_ms = q->lost_after_ms ? q->lost_after_ms : s->config.lost_after_ms,
                            .retries = q->retries,
                            .backoff_ms = q->backoff_ms ? q->backoff_ms : 1000,
                            .backoff_max_ms = q->backoff_max_ms ? q->backoff_max_ms : 300000,
                            .overlap_never = q->overlap_never,
                            .nodes = q->nodes > 1 ? q->nodes : 0 };
    for (size_t i = 0; i < q->named_count; i++) {
        int dim = named_dim(s, q->named[i].name, result);
        if (dim < 0)
            return -(int)result->err.code;
        e->need.v[dim] = q->named[i].count;
    }
    autobuf struct buf tokens = BUF_INIT;
    for (size_t i = 0; i < q->tokens_count; i++) {
        buf_varint(&tokens, intern_find(&s->tokens, bytes_str(q->tokens[i].name)));
        buf_varint(&tokens, q->tokens[i].count);
    }
    e->tokens = buf_bytes(&tokens);
    const struct bytes account_name = q->account.size ? q->account : bytes_str(ACCOUNT_DEFAULT);
    e->account = bytes_equal(account_name, bytes_str(ACCOUNT_DEFAULT)) ? bytes_of("", 0) : account_name;
    uint32_t user = intern_find(&s->users, q->user), queue = intern_find(&s->queues, q->queue),
             account = intern_find(&s->accounts, account_name);
    uint32_t where = q->where.size ? intern_find(&s->wheres, q->where) : 0;
    if (user != INTERN_NONE && queue != INTERN_NONE && account != INTERN_NONE && where != INTERN_NONE) {
        struct class_key key;
        check(sched_class_key(&key, e, q->where.size ? where + 1ull : 0, user, queue, account));
        *number = intern_find(&s->class_keys, bytes_of(&key, sizeof key));
        if (*number != INTERN_NONE)
            return 0;
    }
    *number = emit_class(s, &rec);
    return 0;
}

static void cancel(struct sched *s, const struct sched_event *ev, struct sched_result *result);

/* Of an entry of jobs that come again: false: it ends here. */
static bool cron_turn(struct sched *s, struct job_request *q, struct sched_result *result)
{
    struct sched_event before = { .kind = SCHED_CANCEL, .cancel = { .task = TASK_ALL, .actor = q->user, .reason = bytes_str("replaced by the next one of its entry") } };
    struct sched_result cancelled = { 0 };
    enum cron_turn turn = sched_cron_turn(s, q, &before.cancel.job, result);
    if (turn == CRON_TURN_REPLACE)
        cancel(s, &before, &cancelled);
    return turn != CRON_TURN_NONE;
}

static void submit(struct sched *s, const struct job_request *asked, struct sched_result *result)
{
    struct job_request with = *asked, *q = &with;
    if (check_request(s, q, result) < 0 || (q->cron.size && !cron_turn(s, q, result)))
        return;
    autobuf struct buf after = BUF_INIT;
    if (pack_after(s, q, &after, result) < 0)
        return;
    uint32_t class = 0;
    if (class_of(s, q, &class, result) < 0)
        return;
    struct record rec = { .kind = EV_SUBMITTED };
    rec.submitted = (struct ev_submitted){ .job = s->job_last + 1,
                                           .class = class,
                                           .name = arena_bytes(&s->turn, q->name),
                                           .priority = q->priority,
                                           .tasks = q->nodes > 1 ? q->nodes : q->tasks,
                                           .first = q->first,
                                           .step = q->tasks && !q->step ? 1 : q->step,
                                           .limit = q->limit,
                                           .begin_wall_ms = q->begin_wall_ms,
                                           .deadline_wall_ms = q->deadline_wall_ms,
                                           .held = q->held,
                                           .after = arena_bytes(&s->turn, buf_bytes(&after)),
                                           .retry_of = q->retry_of.n,
                                           .notify = q->notify,
                                           .cron = arena_bytes(&s->turn, q->cron),
                                           .due_wall_ms = q->due_wall_ms,
                                           .mem_max_bytes = q->mem_max_bytes };
    sched_emit(s, &rec);
    result->job.n = rec.submitted.job;
    result->changed = true;
}

/* Finds the job of a command; a task that the job does not have is refused too. */
static struct job *command_job(struct sched *s, job_id id, uint32_t task, struct sched_result *result)
{
    struct job *j = sched_job(s, id);
    if (!j) {
        err_field(&result->err, ERR_NOT_FOUND, "job", "list the jobs there are", "there is no job %" PRIu64, id.n);
        return NULL;
    }
    if (task != TASK_ALL && (j->is_array ? task >= j->array->tasks : task != TASK_SINGLE)) {
        err_field(&result->err, ERR_NOT_FOUND, "task", "use an index of the array", "job %" PRIu64 " has no such task", id.n);
        return NULL;
    }
    return j;
}

static void cancel(struct sched *s, const struct sched_event *ev, struct sched_result *result)
{
    struct job *j = command_job(s, ev->cancel.job, ev->cancel.task, result);
    if (!j || job_state_terminal(j->state))
        return;
    uint32_t task = j->is_array ? ev->cancel.task : TASK_SINGLE;
    bool one = j->is_array && task != TASK_ALL;
    if (one && j->array->gang) {
        err_field(&result->err, ERR_CONFLICT, "task", "cancel the job", "the parts of job %" PRIu64 " run together or not at all", j->id.n);
        return;
    }
    if (one) {
        enum job_state state = sched_task_state(j, task);
        if (job_state_terminal(state) || state == JOB_CANCELLING)
            return;
    } else if (j->cancelled) {
        return;
    }
    bool all_wait = j->is_array && !one && !j->array->open &&
                    j->array->counts[JOB_QUEUED] + j->array->counts[JOB_RETRY_WAIT] == j->array->tasks;
    bool final = one ? !sched_run(s, j->id, task) : j->is_array ? all_wait : !j->run;
    struct record rec = { .kind = EV_CANCEL };
    rec.cancel = (struct ev_cancel){ j->id.n, task, final, arena_bytes(&s->turn, ev->cancel.actor),
                                     arena_bytes(&s->turn, ev->cancel.reason) };
    job_id id = j->id;
    sched_emit(s, &rec);
    result->changed = true;
    if (final)
        return;
    if (one) {
        sched_send_kill(s, sched_run(s, id, task));
    } else if (!j->is_array) {
        sched_send_kill(s, j->run);
    } else {
        for (size_t i = 0; i < s->nodes_count; i++)
            list_each(at, &s->nodes[i]->runs) {
                struct run *r = list_entry(at, struct run, on_node);
                if (r->job == j)
                    sched_send_kill(s, r);
            }
    }
}

static void hold(struct sched *s, const struct sched_event *ev, struct sched_result *result)
{
    struct job *j = command_job(s, ev->cancel.job, TASK_ALL, result);
    if (!j)
        return;
    if (job_state_terminal(j->state)) {
        err_field(&result->err, ERR_CONFLICT, "job", NULL, "job %" PRIu64 " has ended", j->id.n);
        return;
    }
    if (j->held || j->cancelled)
        return;
    struct record rec = { .kind = EV_HELD };
    rec.held = (struct ev_held){ j->id.n, arena_bytes(&s->turn, ev->cancel.reason) };
    sched_emit(s, &rec);
    result->changed = true;
}

static void release(struct sched *s, const struct sched_event *ev, struct sched_result *result)
{
    struct job *j = command_job(s, ev->cancel.job, TASK_ALL, result);
    if (!j || job_state_terminal(j->state) || !j->held)
        return;
    struct record rec = { .kind = EV_RELEASED };
    rec.released.job = j->id.n;
    sched_emit(s, &rec);
    if (BUG(release_not_journalled))
        s->records_count--;
    settle_job(s, j);
    result->changed = true;
}

static void update(struct sched *s, const struct sched_event *ev, struct sched_result *result)
{
    struct job *j = command_job(s, ev->update.job, TASK_ALL, result);
    if (!j)
        return;
    if (ev->update.priority < -PRIORITY_MAX || ev->update.priority > PRIORITY_MAX) {
        refuse(result, ERR_INVALID, "priority", "write -1000000 to 1000000", "the priority is out of range");
        return;
    }
    if (job_state_terminal(j->state)) {
        err_field(&result->err, ERR_CONFLICT, "job", NULL, "job %" PRIu64 " has ended", j->id.n);
        return;
    }
    if (j->priority == ev->update.priority)
        return;
    struct record rec = { .kind = EV_UPDATED };
    rec.updated = (struct ev_updated){ j->id.n, ev->update.priority };
    sched_emit(s, &rec);
    result->changed = true;
}

static void retry_now(struct sched *s, const struct sched_event *ev, struct sched_result *result)
{
    struct job *j = command_job(s, ev->cancel.job, ev->cancel.task, result);
    if (!j)
        return;
    uint32_t task = j->is_array ? ev->cancel.task : TASK_SINGLE;
    for (size_t i = 0; i < s->timers.count;) {
        struct timer *t = heap_entry(s->timers.nodes[i], struct timer, node);
        if (t->job.n != j->id.n || (task != TASK_ALL && t->task != task)) {
            i++;
            continue;
        }
        struct record rec = { .kind = EV_RETRY_DUE };
        rec.retry_due = (struct ev_retry_due){ t->job.n, t->task };
        sched_emit(s, &rec);
        result->changed = true;
        i = 0; /* The heap has changed under the walk. */
    }
}

static void notified(struct sched *s, const struct sched_event *ev, struct sched_result *result)
{
    struct record rec = { .kind = EV_NOTIFIED };
    rec.notified = (struct ev_notified){ ev->notified.job.n, ev->notified.status, ev->notified.tries,
                                         arena_bytes(&s->turn, ev->notified.text) };
    sched_emit(s, &rec);
    result->changed = true;
}

static void node_command(struct sched *s, const struct sched_event *ev, struct sched_result *result)
{
    struct node *n = sched_node(s, ev->node.node);
    if (!n || n->state == NODE_REMOVED) {
        err_field(&result->err, ERR_NOT_FOUND, "node", "list the nodes there are", "there is no such node");
        return;
    }
    if (ev->kind == SCHED_REMOVE) {
        if (n->runs_count || n->session) {
            err_field(&result->err, ERR_CONFLICT, "node", "drain it and stop its worker first",
                      "the node is connected or still has work");
            return;
        }
        sched_node_state(s, n, NODE_REMOVED, "removed");
    } else {
        sched_node_drain(s, n, ev->kind == SCHED_DRAIN, ev->node.reason);
    }
    result->changed = true;
}

/* --- steps --- */

static int64_t earlier(int64_t a, int64_t b) { return a < b ? a : b; }

static void finish(struct sched *s, struct effects *fx)
{
    *fx = (struct effects){ .records = s->records,
                            .records_count = s->records_count,
                            .sends = s->sends,
                            .sends_count = s->sends_count,
                            .starts = s->starts,
                            .starts_count = s->starts_count };
    int64_t wake = s->sweep_at_ms;
    bool all_count = s->config.backfill == BACKFILL_CONSERVATIVE; /* Its plan is of all that wait. */
    if (s->dirty && (s->active.count + s->brief.count + (all_count ? s->parked.count : 0) || !list_empty(&s->loosened)))
        wake = s->now_ms;
    if (s->plan.promised && s->plan.count && s->plan.next_wall_ms != TIMELINE_NEVER)
        wake = earlier(wake, s->now_ms + (s->plan.next_wall_ms > s->wall_ms ? s->plan.next_wall_ms - s->wall_ms : 0));
    struct heap_node *first = heap_first(&s->timers);
    if (first)
        wake = earlier(wake, heap_entry(first, struct timer, node)->due_ms);
    first = heap_first(&s->calendar);
    if (first) {
        int64_t wait = heap_entry(first, struct appointment, node)->wall_ms - s->wall_ms;
        wait = wait < 0 ? 0 : wait > CALENDAR_LOOK_MS ? CALENDAR_LOOK_MS : wait;
        wake = earlier(wake, s->now_ms + wait);
    }
    fx->wake_at_ms = wake;
}

static void begin(struct sched *s, int64_t now_ms, int64_t wall_ms)
{
    check(now_ms >= s->now_ms);
    s->now_ms = now_ms;
    s->wall_ms = wall_ms;
    s->records_count = s->sends_count = s->starts_count = 0;
    arena_reset(&s->turn);
}

void sched_start(struct sched *s, uint64_t epoch, const char *version, uint64_t seed, int64_t now_ms, int64_t wall_ms,
                 struct effects *fx)
{
    check(!s->started && epoch > s->epoch);
    s->now_ms = now_ms;
    begin(s, now_ms, wall_ms);
    prng_seed(&s->prng, seed);
    struct record rec = { .kind = EV_EPOCH };
    rec.epoch.epoch = epoch;
    rec.epoch.version = bytes_str(version);
    rec.epoch.job_floor = s->config.rollback_jobs ? s->job_last + s->config.rollback_jobs : 0;
    sched_emit(s, &rec);
    s->started = true;
    s->start_ms = now_ms;
    s->sweep_at_ms = now_ms + CYCLE_SWEEP_MS;
    /* Back-offs that were running: what is left of them, and never more than a back-off can last. */
    for (size_t i = 0; i < s->timers.count; i++) {
        struct timer *t = heap_entry(s->timers.nodes[i], struct timer, node);
        const struct class *c = job_class(s, sched_job(s, t->job));
        int64_t left = t->due_ms - wall_ms;
        int64_t most = c->backoff_max_ms > 60000 ? c->backoff_max_ms : 60000;
        t->due_ms = now_ms + (left < 0 ? 0 : left > most ? most : left);
    }
    struct heap old = s->timers;
    heap_init(&s->timers, timer_before);
    for (size_t i = 0; i < old.count; i++) {
        heap_node_init(old.nodes[i]);
        heap_push(&s->timers, old.nodes[i]);
    }
    heap_fini(&old);
    for (size_t i = 0; i < s->nodes_count; i++) {
        s->nodes[i]->heard_ms = now_ms;
        s->nodes[i]->quarantined_until_ms = now_ms + 60000;
    }
    list_each(at, &s->unanswered)
        list_entry(at, struct run, unanswered)->sent_ms = now_ms;
    settle(s);
    s->dirty = true;
    finish(s, fx);
}

static void tick(struct sched *s)
{
    due_timers(s);
    settle(s);
    if (s->now_ms >= s->sweep_at_ms) {
        sched_sweep(s);
        sched_estimates_tick(s);
        s->sweep_at_ms = s->now_ms + CYCLE_SWEEP_MS;
    }
    settle(s);
    if (s->plan.promised && s->plan.next_wall_ms <= s->wall_ms) { /* The time of a slot has come. */
        s->plan.next_wall_ms = TIMELINE_NEVER;
        s->dirty = true;
    }
    if (s->dirty)
        s->dirty = sched_cycle(s);
}

void sched_step(struct sched *s, const struct sched_event *ev, struct effects *fx, struct sched_result *result)
{
    check(s->started);
    begin(s, ev->now_ms, ev->wall_ms);
    struct sched_result ignored;
    if (!result)
        result = &ignored;
    *result = (struct sched_result){ .err.code = ERR_OK };
    switch (ev->kind) {
    case SCHED_TICK: tick(s); break;
    case SCHED_SUBMIT: submit(s, &ev->submit, result); break;
    case SCHED_CANCEL: cancel(s, ev, result); break;
    case SCHED_HOLD: hold(s, ev, result); break;
    case SCHED_RELEASE: release(s, ev, result); break;
    case SCHED_UPDATE: update(s, ev, result); break;
    case SCHED_RETRY_NOW: retry_now(s, ev, result); break;
    case SCHED_NOTIFIED: notified(s, ev, result); break;
    case SCHED_DRAIN:
    case SCHED_RESUME:
    case SCHED_REMOVE: node_command(s, ev, result); break;
    case SCHED_SET: sched_set(s, ev, result); break;
    case SCHED_CRON_SET: sched_cron_set(s, ev, result); break;
    case SCHED_CRON_REMOVE: sched_cron_remove(s, ev, result); break;
    case SCHED_CRON_PASS: sched_cron_pass(s, ev, result); break;
    case SCHED_MESSAGE: sched_message(s, ev->message.session, ev->message.message); break;
    case SCHED_SESSION_CLOSED: sched_session_closed(s, ev->session.session); break;
    case SCHED_LEASE: sched_lease(s, ev, result); break;
    case SCHED_STORE_LOW:
        s->store_low = ev->flag.on;
        s->dirty = true;
        break;
    case SCHED_TRANSPORT_DOWN:
        if (ev->flag.on && !s->transport_down)
            s->transport_down_since_ms = s->now_ms;
        s->transport_down = ev->flag.on;
        break;
    }
    settle(s);
    finish(s, fx);
}

/* --- decisions made again --- */

void sched_again_at(struct sched *s, int64_t wall_ms)
{
    s->now_ms += wall_ms > s->wall_ms ? wall_ms - s->wall_ms : 0;
    s->wall_ms = wall_ms;
}

void sched_again_cycle(struct sched *s, struct effects *fx)
{
    check(s->started);
    begin(s, s->now_ms, s->wall_ms);
    for (size_t i = 0; i < s->nodes_count; i++) {
        struct node *n = s->nodes[i];
        if (n->session || !node_state_dispatches(n->state))
            continue;
        n->window = UINT32_MAX;
        sched_node_session(s, n, n->id.n);
        sched_node_freed(s, n);
    }
    sched_cycle(s);
    finish(s, fx);
}
