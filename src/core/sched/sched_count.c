/* sched_count.c: what waits, by queue and reason, counted as it changes, so that asking costs nothing by jobs.
 *
 * Each job remembers under which heading its waiting tasks are counted (job.counted) and is moved when that changes.
 * Tasks that could run are counted by shape: why those wait is what the last cycle found out about the shape. */
#include "core/sched/sched_state.h"

#define OLDEST_LOOKED_AT                                                                                               \
    1000u /* jobs of a queue that came to wait later than they were submitted, before it is enough */

void sched_count_queue(struct sched *s, uint32_t queue)
{
    size_t before = s->queue_counts_count;
    if (queue < before)
        return;
    s->queue_counts = mem_grow(s->queue_counts, &s->queue_counts_cap, queue + 1, sizeof *s->queue_counts);
    memset(s->queue_counts + before, 0, (queue + 1 - before) * sizeof *s->queue_counts);
    s->queue_counts_count = queue + 1;
}

static int waits(enum job_state state)
{
    return state == JOB_HELD || state == JOB_BLOCKED || state == JOB_QUEUED || state == JOB_RETRY_WAIT;
}

void sched_count_state(struct sched *s, const struct job *j, enum job_state from, enum job_state to, uint64_t tasks)
{
    uint64_t *counts = s->queue_counts[job_class(s, j)->queue].tasks;
    if (waits(to) != waits(from))
        sched_party_waits(s, job_class(s, j)->shape, waits(to) ? (int64_t)tasks : -(int64_t)tasks);
    if (from != JOB_NONE)
        counts[from] -= tasks;
    counts[to] += tasks;
}

static enum why blocked_by(const struct job *j)
{
    if (j->held)
        return WHY_HELD;
    return j->after_left || !(j->extra && j->extra->begin_open) ? WHY_DEPENDENCY : WHY_BEGIN;
}

/* WHYS: its tasks could run. WHY_NOTHING: none waits in the queue. */
static enum why waits_for(const struct job *j)
{
    if (sched_job_eligible(j))
        return WHYS;
    if (!j->is_array)
        return j->state == JOB_HELD || j->state == JOB_BLOCKED ? blocked_by(j) : WHY_NOTHING;
    if (j->cancelled || job_state_terminal((enum job_state)j->state) || !j->array->counts[JOB_QUEUED])
        return WHY_NOTHING;
    bool blocked = j->held || j->after_left || (j->extra && j->extra->begin_open);
    return blocked ? blocked_by(j) : WHY_ARRAY_LIMIT;
}

static uint32_t waiting_tasks(const struct job *j, enum why why)
{
    return why == WHY_NOTHING ? 0 : j->is_array ? j->array->counts[JOB_QUEUED] : 1;
}

static uint64_t *counter(struct sched *s, const struct job *j, enum why why)
{
    const struct class *c = job_class(s, j);
    return why == WHYS ? &c->shape->eligible : &s->queue_counts[c->queue].waiting[why];
}

static void became_eligible(struct sched *s, struct job *j)
{
    struct job_page *page = s->pages[j->id.n / JOB_PAGE];
    page->eligible++;
    page->queues |= 1ull << (job_class(s, j)->queue % 64);
    if (s->record_wall_ms == j->submit_wall_ms)
        return;
    if (!j->extra)
        j->extra = mem_zero(1, sizeof *j->extra);
    j->extra->eligible_wall_ms = s->record_wall_ms;
}

void sched_count_job(struct sched *s, struct job *j)
{
    enum why before = (enum why)j->counted, why = waits_for(j);
    uint32_t tasks = waiting_tasks(j, why);
    uint32_t tasks_before = j->is_array ? j->array->counted : before != WHY_NOTHING;
    if (before == why && tasks_before == tasks)
        return;
    if (tasks_before)
        *counter(s, j, before) -= tasks_before;
    if (tasks)
        *counter(s, j, why) += tasks;
    if (before == WHYS && why != WHYS)
        s->pages[j->id.n / JOB_PAGE]->eligible--;
    else if (before != WHYS && why == WHYS)
        became_eligible(s, j);
    j->counted = (uint8_t)why;
    if (j->is_array)
        j->array->counted = tasks;
}

uint16_t sched_partly(const struct job *j)
{
    uint16_t partly = 0;
    for (int state = 0; j->is_array && state < JOB_STATES; state++)
        if (j->array->counts[state])
            partly |= (uint16_t)(1u << job_task_shown(j, (enum job_state)state));
    return partly & (uint16_t)~(1u << j->state);
}

void sched_count_partly(struct sched *s, struct job *j, uint16_t partly)
{
    if (!j->is_array || j->array->partly == partly)
        return;
    for (int state = 0; state < JOB_STATES; state++) {
        s->stats.partly[state] -= j->array->partly >> state & 1;
        s->stats.partly[state] += partly >> state & 1;
    }
    j->array->partly = partly;
}

static int64_t eligible_since(const struct job *j)
{
    return j->extra && j->extra->eligible_wall_ms ? j->extra->eligible_wall_ms : j->submit_wall_ms;
}

static int64_t not_negative(int64_t ms)
{
    return ms < 0 ? 0 : ms;
}

void sched_note_start(struct sched *s, const struct run *r, int64_t ran_ms)
{
    if (!s->started)
        return;
    const struct job *j = r->job;
    struct start_note note = {
        .queue = job_class(s, j)->queue, .wait_ms = -1, .dispatch_ms = -1, .estimate_error_ms = -1, .start_error_ms = -1
    };
    if (r->ref.attempt == 1 && (r->ref.task == 0 || !job_is_gang(j))) { /* A gang has waited once. */
        note.wait_ms = not_negative(s->wall_ms - ran_ms - eligible_since(j));
        note.start_error_ms = sched_estimate_error_ms(s, j, s->wall_ms - ran_ms);
    }
    if (r->assigned_ms >= 0)
        note.dispatch_ms = not_negative(s->now_ms - ran_ms - r->assigned_ms);
    s->starts = mem_grow(s->starts, &s->starts_cap, s->starts_count + 1, sizeof *s->starts);
    s->starts[s->starts_count++] = note;
}

void sched_note_end(struct sched *s, const struct run *r)
{
    if (!s->started || r->state != RUN_RUNNING || !r->end_wall_ms)
        return;
    int64_t error_ms = s->wall_ms - r->end_wall_ms;
    struct start_note note = { .queue = job_class(s, r->job)->queue,
                               .wait_ms = -1,
                               .dispatch_ms = -1,
                               .start_error_ms = -1,
                               .estimate_error_ms = error_ms < 0 ? -error_ms : error_ms };
    s->starts = mem_grow(s->starts, &s->starts_cap, s->starts_count + 1, sizeof *s->starts);
    s->starts[s->starts_count++] = note;
}

/* --- asking --- */

size_t sched_view_queues(const struct sched *s)
{
    return s->queue_counts_count;
}

struct bytes sched_view_queue_name(const struct sched *s, uint32_t queue)
{
    return intern_text(&s->queues, queue);
}

static enum why shape_waits_for(const struct sched *s, const struct shape *shape)
{
    struct refusal r;
    if (sched_refusals(s, shape, &r, 1))
        return sched_refusal_kind(&r);
    if (s->store_low)
        return WHY_STORE;
    if (!s->stats.nodes[NODE_READY])
        return WHY_NO_NODES;
    if (!shape->demand->parked)
        return WHY_ORDER;
    if (shape->demand->nodes > 1)
        return shape->demand->too_big ? WHY_TOO_FEW : WHY_GANG;
    return shape->demand->too_big ? WHY_TOO_BIG : WHY_RESOURCES;
}

struct oldest {
    struct queue_view *out;
    uint32_t *left;  /* jobs of the queue still to be looked at; 0: enough is known */
    uint64_t wanted; /* bits of the queues with something left */
    size_t queues;
};

static void oldest_wanted(struct oldest *o)
{
    o->wanted = 0;
    for (size_t q = 0; q < o->queues; q++)
        o->wanted |= o->left[q] ? 1ull << (q % 64) : 0;
}

/* Jobs of a page come in the order in which they were submitted: the first that has waited ever since is the oldest. */
static void oldest_in_page(const struct sched *s, const struct job_page *page, struct oldest *o)
{
    uint32_t found = 0;
    for (size_t i = 0; i < JOB_PAGE && found < page->eligible && o->wanted; i++) {
        const struct job *j = &page->jobs[i];
        if (j->counted != WHYS)
            continue;
        found++;
        uint32_t queue = job_class(s, j)->queue;
        if (!o->left[queue])
            continue;
        int64_t wait_ms = not_negative(s->wall_ms - eligible_since(j));
        if (wait_ms > o->out[queue].oldest_wait_ms)
            o->out[queue].oldest_wait_ms = wait_ms;
        bool ever_since = !(j->extra && j->extra->eligible_wall_ms);
        o->left[queue] = ever_since ? 0 : o->left[queue] - 1;
        if (!o->left[queue])
            oldest_wanted(o);
    }
}

static void find_oldest(const struct sched *s, struct queue_view *out, const uint64_t *eligible)
{
    struct oldest o = { .out = out, .queues = s->queue_counts_count };
    o.left = mem_zero(o.queues ? o.queues : 1, sizeof *o.left);
    for (size_t q = 0; q < o.queues; q++)
        o.left[q] = eligible[q] ? OLDEST_LOOKED_AT : 0;
    oldest_wanted(&o);
    for (size_t p = 0; p < s->pages_count && o.wanted; p++)
        if (s->pages[p] && s->pages[p]->eligible && (s->pages[p]->queues & o.wanted))
            oldest_in_page(s, s->pages[p], &o);
    free(o.left);
}

void sched_view_queue_counts(const struct sched *s, struct queue_view *out)
{
    size_t queues = s->queue_counts_count;
    uint64_t *eligible = mem_zero(queues ? queues : 1, sizeof *eligible);
    for (size_t q = 0; q < queues; q++) {
        const struct queue_counts *c = &s->queue_counts[q];
        out[q] = (struct queue_view){ .name = intern_text(&s->queues, (uint32_t)q) };
        memcpy(out[q].tasks, c->tasks, sizeof out[q].tasks);
        memcpy(out[q].waiting, c->waiting, sizeof out[q].waiting);
        out[q].waiting[WHY_BACKOFF] = c->tasks[JOB_RETRY_WAIT];
        out[q].waiting[WHY_CANCELLING] = c->tasks[JOB_CANCELLING];
        out[q].waiting[WHY_CONTACT] = c->tasks[JOB_UNCERTAIN];
    }
    for (size_t i = 0; i < s->shapes_count; i++) {
        const struct shape *shape = s->shapes[i];
        if (!shape->eligible)
            continue;
        out[shape->queue].waiting[shape_waits_for(s, shape)] += shape->eligible;
        eligible[shape->queue] += shape->eligible;
    }
    find_oldest(s, out, eligible);
    free(eligible);
}

/* --- sched_check --- */

void sched_count_check(const struct sched *s)
{
    struct queue_counts *counts = mem_zero(s->queue_counts_count + 1, sizeof *counts);
    uint64_t eligible = 0, in_shapes = 0;
    for (size_t p = 0; p < s->pages_count; p++) {
        uint32_t in_page = 0;
        for (size_t i = 0; s->pages[p] && i < JOB_PAGE; i++) {
            const struct job *j = &s->pages[p]->jobs[i];
            if (!j->id.n)
                continue;
            struct queue_counts *c = &counts[job_class(s, j)->queue];
            enum why why = waits_for(j);
            check(j->counted == why);
            check(!j->is_array || j->array->counted == waiting_tasks(j, why));
            in_page += why == WHYS;
            if (why == WHYS)
                eligible += waiting_tasks(j, why);
            else
                c->waiting[why] += waiting_tasks(j, why);
            for (int state = 0; state < JOB_STATES; state++)
                c->tasks[job_task_shown(j, (enum job_state)state)] +=
                    j->is_array ? j->array->counts[state] : (uint32_t)(j->state == state);
        }
        check(!s->pages[p] || s->pages[p]->eligible == in_page);
    }
    for (size_t i = 0; i < s->shapes_count; i++)
        in_shapes += s->shapes[i]->eligible;
    check(eligible == in_shapes);
    for (size_t q = 0; q < s->queue_counts_count; q++) {
        check(memcmp(counts[q].waiting, s->queue_counts[q].waiting, sizeof counts[q].waiting) == 0);
        for (int state = 0; state < JOB_STATES; state++)
            check(job_state_terminal((enum job_state)state) ||
                  counts[q].tasks[state] == s->queue_counts[q].tasks[state]);
    }
    free(counts);
}
