/* sched_estimate.c: when a task that waits is to start, as the plan (sched_slots.c) has it; what was said of it before; and, when
 * it has started, how far that was off. All of it is soft: it decides nothing, and is made anew after a restart. */
#include "core/sched/sched_state.h"

#define AGE_MAX_MS 250    /* an older plan is made anew for whoever asks */
#define EVERY_MS 5000     /* and without being asked, while anybody waits */
#define KEPT_SLOTS 16384u /* jobs whose estimates are kept; a job has its place by its id */

/* What was estimated of one job: the first, and the last ones that were different. */
struct kept {
    uint64_t job;
    uint32_t changes;
    uint8_t count;
    struct estimate_note notes[ESTIMATE_NOTES];
};

struct estimates {
    uint64_t job_last;    /* jobs up to this one had been submitted when the plan was made */
    int64_t next_ms;      /* when it is made anew without being asked */
    struct kept kept[KEPT_SLOTS];
};

static const char *const names[] = {
#define NONE(code, name, text) name,
    NO_ESTIMATE_LIST(NONE)
#undef NONE
};
static const char *const texts[] = {
#define NONE(code, name, text) text,
    NO_ESTIMATE_LIST(NONE)
#undef NONE
};

const char *no_estimate_name(enum no_estimate none) { return names[none]; }
const char *no_estimate_text(enum no_estimate none) { return texts[none]; }

static struct estimates *of(struct sched *s)
{
    if (!s->estimates)
        s->estimates = mem_zero(1, sizeof *s->estimates);
    return s->estimates;
}

void sched_estimates_fini(struct sched *s)
{
    free(s->estimates);
}

/* --- what was said --- */

static struct kept *kept_of(struct estimates *e, uint64_t job)
{
    struct kept *k = &e->kept[job % KEPT_SLOTS];
    return k->job == job ? k : NULL;
}

static bool differs(const struct kept *k, int64_t made_wall_ms, int64_t start_wall_ms)
{
    const struct estimate_note *last = &k->notes[k->count - 1];
    int64_t by_ms = start_wall_ms > last->start_wall_ms ? start_wall_ms - last->start_wall_ms : last->start_wall_ms - start_wall_ms;
    return by_ms > 1000 + (start_wall_ms - made_wall_ms) / 100;
}

static void note(struct sched *s, uint64_t job, int64_t made_wall_ms, int64_t start_wall_ms)
{
    struct kept *k = &of(s)->kept[job % KEPT_SLOTS];
    if (k->job != job) {
        if (k->job && sched_slot(s, k->job, 0))
            return; /* Who has the place still waits. */
        *k = (struct kept){ .job = job };
    }
    if (k->count && !differs(k, made_wall_ms, start_wall_ms))
        return;
    if (k->count == ESTIMATE_NOTES) {
        memmove(k->notes + 1, k->notes + 2, (ESTIMATE_NOTES - 2) * sizeof *k->notes);
        k->count--;
    }
    k->changes += k->count > 0;
    k->notes[k->count++] = (struct estimate_note){ made_wall_ms, start_wall_ms };
}

static void note_all(struct sched *s)
{
    const struct plan *p = &s->plan;
    for (size_t i = 0; i < p->count; i++)
        if (p->slots[i].node && (i == 0 || p->slots[i - 1].id != p->slots[i].id))
            note(s, p->slots[i].id, p->promised ? s->wall_ms : p->made_wall_ms, p->slots[i].at_wall_ms);
}

int64_t sched_estimate_error_ms(struct sched *s, const struct job *j, int64_t start_wall_ms)
{
    const struct kept *k = s->estimates ? kept_of(s->estimates, j->id.n) : NULL;
    if (!k || (j->is_array && !job_is_gang(j)))
        return -1;
    int64_t error_ms = start_wall_ms - k->notes[0].start_wall_ms;
    return error_ms < 0 ? -error_ms : error_ms;
}

/* --- the plan as of now --- */

static bool anybody_waits(const struct sched *s)
{
    return s->active.count + s->parked.count + s->brief.count > 0;
}

static void refresh(struct sched *s, int64_t age_max_ms)
{
    struct estimates *e = of(s);
    int64_t age_ms = s->wall_ms - s->plan.made_wall_ms;
    if (s->config.backfill != BACKFILL_CONSERVATIVE) { /* There it is kept from cycle to cycle. */
        if (age_ms >= 0 && age_ms < age_max_ms && s->job_last == e->job_last)
            return;
        e->job_last = s->job_last;
        sched_slots_expect(s);
    }
    note_all(s);
}

void sched_estimates_tick(struct sched *s)
{
    if (!s->config.plan_depth || !anybody_waits(s) || s->now_ms < of(s)->next_ms)
        return;
    of(s)->next_ms = s->now_ms + EVERY_MS;
    refresh(s, AGE_MAX_MS);
}

/* --- asking --- */

/* Its place among the tasks of its array that wait. */
static uint32_t nth_of(const struct job *j, uint32_t task)
{
    if (!j->is_array || task == TASK_ALL || task < j->array->fresh)
        return 0;
    const struct array *a = j->array;
    uint32_t fresh = a->tasks - a->fresh, waiting = a->counts[JOB_QUEUED];
    return (waiting > fresh ? waiting - fresh : 0) + task - a->fresh;
}

/* Why it does not stand in line, whatever the plan says. */
static enum no_estimate not_in_line(const struct sched *s, const struct job *j, uint32_t task)
{
    enum job_state state = !j->is_array || task == TASK_ALL ? (enum job_state)j->state : sched_task_state(j, task);
    bool tasks_wait = j->is_array && task == TASK_ALL && !job_state_terminal(state) && sched_tasks_waiting(j);
    if (state == JOB_RETRY_WAIT || (tasks_wait && !j->array->counts[JOB_QUEUED]))
        return NO_ESTIMATE_BACKOFF;
    if (!tasks_wait && state != JOB_QUEUED && state != JOB_HELD && state != JOB_BLOCKED)
        return NO_ESTIMATE_NOT_WAITING;
    if (j->held)
        return NO_ESTIMATE_HELD;
    if (j->after_left)
        return NO_ESTIMATE_DEPENDENCY;
    if (j->extra && j->extra->begin_open)
        return NO_ESTIMATE_BEGIN;
    if (j->is_array && j->array->limit && j->array->open >= j->array->limit)
        return NO_ESTIMATE_ARRAY_LIMIT;
    struct refusal r;
    if (sched_refusals(s, job_class(s, j)->shape, &r, 1))
        return NO_ESTIMATE_LIMIT;
    if (s->store_low)
        return NO_ESTIMATE_STORE;
    return s->config.plan_depth ? NO_ESTIMATE_KNOWN : NO_ESTIMATE_NO_PLAN;
}

/* It has a turn in the plan and no place there. */
static enum no_estimate no_place(const struct sched *s, const struct demand *d)
{
    size_t ready = 0, large = 0;
    for (size_t i = 0; i < s->nodes_count; i++) {
        const struct node *n = s->nodes[i];
        if (!node_state_dispatches(n->state) || !n->session)
            continue;
        ready++;
        large += resources_could(&d->need, &n->capacity);
        if (large == d->nodes)
            return NO_ESTIMATE_WORK;
    }
    return !ready ? NO_ESTIMATE_NO_NODES : d->nodes > 1 ? NO_ESTIMATE_TOO_FEW : NO_ESTIMATE_TOO_BIG;
}

static void look_up(const struct sched *s, const struct job *j, uint32_t task, struct estimate_view *v)
{
    v->made_wall_ms = s->plan.promised ? s->wall_ms : s->plan.made_wall_ms; /* What is promised holds as of now. */
    const struct slot *slot = sched_slot(s, j->id.n, nth_of(j, task));
    if (!slot) {
        v->none = s->plan.deeper || j->is_array ? NO_ESTIMATE_DEPTH : NO_ESTIMATE_SOON;
    } else if (!slot->node) {
        v->none = no_place(s, job_class(s, j)->shape->demand);
    } else {
        int64_t now_ms = s->wall_ms;
        int64_t length_ms = sched_length_ms(s, job_class(s, j)->shape);
        v->start_wall_ms = slot->at_wall_ms > now_ms ? slot->at_wall_ms : now_ms;
        v->end_wall_ms = timeline_later(v->start_wall_ms, length_ms);
        v->node = slot->node->id;
        v->basis = slot->basis;
        v->basis_job.n = slot->basis_job;
    }
}

bool sched_view_estimate(struct sched *s, job_id id, uint32_t task, struct estimate_view *v)
{
    const struct job *j = sched_job(s, id);
    *v = (struct estimate_view){ .none = NO_ESTIMATE_NOT_WAITING };
    if (!j || (j->is_array && task != TASK_ALL && task >= j->array->tasks))
        return false;
    v->none = not_in_line(s, j, j->is_array ? task : TASK_SINGLE);
    if (v->none == NO_ESTIMATE_KNOWN) {
        refresh(s, AGE_MAX_MS);
        look_up(s, j, j->is_array ? task : TASK_SINGLE, v);
    }
    v->depth = s->config.plan_depth;
    v->started_wall_ms = j->start_wall_ms;
    const struct kept *k = s->estimates && (!j->is_array || task == TASK_ALL) ? kept_of(s->estimates, id.n) : NULL;
    if (k) {
        v->notes_count = k->count;
        v->changes = k->changes;
        memcpy(v->notes, k->notes, k->count * sizeof *k->notes);
    }
    return true;
}

size_t sched_view_plan(struct sched *s, struct planned *out, size_t max, int64_t *made_wall_ms, bool *more)
{
    if (s->config.plan_depth && anybody_waits(s))
        refresh(s, AGE_MAX_MS);
    size_t count = 0;
    *made_wall_ms = s->plan.made_wall_ms;
    *more = s->plan.deeper;
    for (size_t i = 0; i < s->plan.count; i++) {
        const struct slot *slot = &s->plan.slots[i];
        const struct job *j = sched_job(s, (job_id){ slot->id });
        if (!slot->node || !j || !sched_tasks_waiting(j)) /* It may have started since. */
            continue;
        if (count == max) {
            *more = true;
            break;
        }
        int64_t length_ms = sched_length_ms(s, job_class(s, j)->shape);
        out[count++] = (struct planned){ j->id, j->is_array, slot->node->id, slot->at_wall_ms,
                                         timeline_later(slot->at_wall_ms, length_ms) };
    }
    return count;
}
