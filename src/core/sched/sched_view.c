#include "core/sched/sched_view.h"

#include <inttypes.h>

#include "core/sched/sched_state.h"

static const char *const dim_names[RES_NAMED] = { "cpus", "mem_bytes", "gpus" };

const char *sched_view_dim(const struct sched *s, int dim)
{
    if (dim < RES_NAMED)
        return dim_names[dim];
    return s->named[dim - RES_NAMED][0] ? s->named[dim - RES_NAMED] : NULL;
}

bool sched_view_job(const struct sched *s, job_id id, struct job_view *out)
{
    const struct job *j = sched_job(s, id);
    if (!j)
        return false;
    const struct class *c = job_class(s, j);
    *out = (struct job_view){ .id = id,
                              .state = (enum job_state)j->state,
                              .user = intern_text(&s->users, c->user),
                              .queue = intern_text(&s->queues, c->queue),
                              .account = intern_text(&s->accounts, c->shape->account),
                              .name = intern_text(&s->names, j->name),
                              .priority = j->priority,
                              .need = c->need,
                              .array = j->is_array,
                              .nodes = c->nodes,
                              .submit_wall_ms = j->submit_wall_ms,
                              .start_wall_ms = j->start_wall_ms,
                              .end_wall_ms = j->end_wall_ms,
                              .time_limit_ms = c->time_limit_ms,
                              .grace_ms = c->grace_ms,
                              .retries = c->retries,
                              .after_left = j->after_left };
    if (j->extra) {
        out->begin_wall_ms = j->extra->begin_wall_ms;
        out->deadline_wall_ms = j->extra->deadline_wall_ms;
        out->retry_of = j->extra->retry_of;
        out->mem_max_bytes = j->extra->mem_max_bytes;
    }
    if (j->is_array) {
        out->tasks = j->array->tasks;
        out->first = j->array->first;
        out->step = j->array->step;
        out->limit = j->array->limit;
        for (int state = 0; state < JOB_STATES; state++)
            out->counts[job_task_shown(j, (enum job_state)state)] += j->array->counts[state];
        out->reason = (enum reason)j->reason;
    } else {
        out->tasks = 1;
        out->counts[j->state] = 1;
        out->attempts = j->attempt;
        out->node.n = j->node;
        out->reason = (enum reason)j->reason;
        out->exit_code = j->exit_code;
        out->signal = j->signal;
    }
    return true;
}

bool sched_view_owes_word(const struct sched *s, job_id id)
{
    const struct job *j = sched_job(s, id);
    return j && j->extra && j->extra->notify;
}

bool sched_view_task(const struct sched *s, job_id id, uint32_t task, struct task_view *out)
{
    const struct job *j = sched_job(s, id);
    if (!j || (j->is_array ? task >= j->array->tasks : task != TASK_SINGLE))
        return false;
    *out = (struct task_view){ .task = task, .index = TASK_SINGLE, .state = job_task_shown(j, sched_task_state(j, task)) };
    if (j->is_array) {
        const struct cell *c = &j->array->cells[task];
        out->index = job_user_index(j->array, task);
        out->attempt = c->attempt;
        out->reason = (enum reason)c->reason;
        out->exit_code = c->exit_code;
        out->signal = c->signal;
    } else {
        out->attempt = j->attempt;
        out->reason = (enum reason)j->reason;
        out->exit_code = j->exit_code;
        out->signal = j->signal;
    }
    const struct run *r = sched_run(s, id, task);
    if (r) {
        out->node = r->node->id;
        out->start_wall_ms = r->start_wall_ms;
    }
    return true;
}

node_id sched_view_member(const struct sched *s, job_id id, uint32_t rank)
{
    const struct job *j = sched_job(s, id);
    bool known = j && j->is_array && j->array->members && rank < j->array->tasks;
    return known ? j->array->members[rank] : (node_id){ 0 };
}

size_t sched_view_runs(const struct sched *s, node_id node, struct run_view *out, size_t max)
{
    const struct node *n = sched_node(s, node);
    size_t count = 0;
    if (!n)
        return 0;
    list_each(at, &n->runs) {
        const struct run *r = list_entry(at, struct run, on_node);
        if (count == max)
            break;
        enum job_state state = r->state == RUN_RUNNING ? JOB_RUNNING : JOB_DISPATCHED;
        out[count++] = (struct run_view){ r->ref, r->start_wall_ms,
                                          r->cancelling ? JOB_CANCELLING : r->uncertain ? JOB_UNCERTAIN : state };
    }
    return count;
}

bool sched_view_index(const struct sched *s, job_id id, uint32_t task, uint32_t *index)
{
    const struct job *j = sched_job(s, id);
    if (!j || !j->is_array || task >= j->array->tasks)
        return false;
    *index = job_user_index(j->array, task);
    return true;
}

job_id sched_view_next(const struct sched *s, job_id from, bool backward)
{
    uint64_t n = backward ? (from.n ? from.n - 1 : s->job_last) : from.n + 1;
    while (n >= 1 && n <= s->job_last) {
        size_t page = n / JOB_PAGE;
        if (page >= s->pages_count)
            return (job_id){ 0 };
        if (!s->pages[page]) {
            n = backward ? page * JOB_PAGE - 1 : (page + 1) * JOB_PAGE;
            if (backward && page == 0)
                break;
            continue;
        }
        if (s->pages[page]->jobs[n % JOB_PAGE].id.n)
            return (job_id){ n };
        n = backward ? n - 1 : n + 1;
    }
    return (job_id){ 0 };
}

size_t sched_view_tasks(const struct sched *s, job_id id, enum job_state state, uint32_t from, uint32_t *out, size_t max)
{
    const struct job *j = sched_job(s, id);
    size_t count = 0;
    if (!j || !max)
        return 0;
    if (!j->is_array) {
        if (from == 0 && (state == JOB_STATES || j->state == state))
            out[count++] = TASK_SINGLE;
        return count;
    }
    for (uint32_t p = from; p < j->array->tasks && count < max; p++)
        if (state == JOB_STATES || job_task_shown(j, sched_task_state(j, p)) == state)
            out[count++] = p;
    return count;
}

size_t sched_view_after(const struct sched *s, job_id id, struct after *out, size_t max)
{
    const struct job *j = sched_job(s, id);
    size_t count = j && j->extra ? j->extra->after_count : 0;
    if (count > max)
        count = max;
    for (size_t i = 0; i < count; i++)
        out[i] = j->extra->after[i];
    return count;
}

size_t sched_view_nodes(const struct sched *s)
{
    return s->nodes_count;
}

bool sched_view_node(const struct sched *s, node_id id, struct node_view *out)
{
    const struct node *n = sched_node(s, id);
    if (!n)
        return false;
    *out = (struct node_view){ .id = id,
                               .name = n->name,
                               .version = n->version,
                               .reason = n->reason,
                               .labels = n->labels,
                               .metrics = n->metrics,
                               .state = n->state,
                               .capacity = n->capacity,
                               .allocated = n->allocated,
                               .running = n->runs_count - n->waiting_count,
                               .waiting = n->waiting_count,
                               .heard_ago_ms = n->heard ? s->now_ms - n->heard_ms : -1,
                               .renewed_ago_ms = n->renewed_ms > n->heard_ms ? s->now_ms - n->renewed_ms : -1,
                               .session = n->session,
                               .cpu_used_milli = n->cpu_used_milli,
                               .mem_used_bytes = n->mem_used_bytes,
                               .load_milli = n->load_milli,
                               .orphans = n->orphans_count };
    return true;
}

bool sched_view_orphan(const struct sched *s, node_id id, size_t index, struct attempt_ref *ref,
                       enum attempt_phase *phase)
{
    const struct node *n = sched_node(s, id);
    if (!n || index >= n->orphans_count)
        return false;
    *ref = n->orphans[index].ref;
    *phase = n->orphans[index].phase;
    return true;
}

node_id sched_view_node_named(const struct sched *s, struct bytes name)
{
    for (size_t i = 0; i < s->nodes_count; i++)
        if (s->nodes[i]->state != NODE_REMOVED && bytes_equal(s->nodes[i]->name, name))
            return s->nodes[i]->id;
    return (node_id){ 0 };
}

static size_t memory_of(const struct sched *s)
{
    size_t bytes = intern_memory(&s->names) + s->pages_cap * sizeof *s->pages + s->ended_cap * sizeof *s->ended;
    for (size_t p = 0; p < s->pages_count; p++)
        bytes += s->pages[p] ? sizeof **s->pages : 0;
    for (size_t i = 0; i < s->shapes_count; i++)
        bytes += sizeof *s->shapes[i] + s->shapes[i]->pending.cap * sizeof(void *);
    return bytes + s->classes_cap * sizeof *s->classes;
}

void sched_view_stats(const struct sched *s, struct sched_stats *out)
{
    *out = s->stats;
    out->shapes = s->shapes_count;
    out->epoch = s->epoch;
    out->job_last.n = s->job_last;
    out->memory_bytes = memory_of(s);
    out->capacity = out->allocated = (struct resources){ 0 };
    for (size_t i = 0; i < s->nodes_count; i++) {
        if (s->nodes[i]->state != NODE_READY)
            continue;
        resources_add(&out->capacity, &s->nodes[i]->capacity);
        resources_add(&out->allocated, &s->nodes[i]->allocated);
    }
}

static uint64_t hash_number(uint64_t hash, uint64_t number)
{
    hash = (hash ^ number) * 0x9e3779b97f4a7c15ULL;
    return hash ^ (hash >> 32);
}

static uint64_t hash_party(uint64_t hash, const struct party *p)
{
    uint64_t had;
    memcpy(&had, &p->had, sizeof had);
    hash = hash_number(hash_number(hash, had), (uint64_t)p->had_wall_ms);
    for (int i = 0; i < LIMITS; i++)
        hash = hash_number(hash, p->set.limits.most[i]);
    hash = hash_number(hash, p->set.weight_milli << 8 | (uint64_t)p->set.order << 1 | p->set.paused);
    hash = hash_number(hash, p->set.total ^ (uint64_t)p->set.priority << 32);
    return hash_number(hash, p->held.attempts);
}

uint64_t sched_view_hash(const struct sched *s)
{
    uint64_t hash = hash_number(s->epoch, s->job_last);
    for (job_id id = sched_view_next(s, (job_id){ 0 }, false); id.n; id = sched_view_next(s, id, false)) {
        const struct job *j = sched_job(s, id);
        hash = hash_number(hash, id.n);
        hash = hash_number(hash, j->state | (uint64_t)j->reason << 8 | (uint64_t)j->exit_code << 16 |
                                     (uint64_t)j->held << 24 | (uint64_t)(j->extra && j->extra->notify) << 26 | (uint64_t)j->cancelled << 25);
        hash = hash_number(hash, (uint64_t)j->attempt << 32 | j->failures);
        hash = hash_number(hash, (uint64_t)j->priority << 32 | j->after_left);
        if (j->is_array)
            for (uint32_t p = 0; p < j->array->tasks; p++) {
                const struct cell *c = &j->array->cells[p];
                hash = hash_number(hash, (uint64_t)sched_task_state(j, p) | (uint64_t)c->attempt << 8 |
                                             (uint64_t)c->failures << 24 | (uint64_t)c->reason << 40 |
                                             (uint64_t)c->exit_code << 48);
            }
    }
    for (int kind = 0; kind < PARTY_KINDS; kind++)
        for (size_t i = 0; i < s->parties[kind].count; i++)
            hash = hash_party(hash, s->parties[kind].all[i]);
    for (size_t i = 0; i < s->crons_count; i++) {
        const struct cron_entry *c = s->crons[i];
        hash = hash_number(hash, (uint64_t)c->last_wall_ms);
        hash = hash_number(hash, c->last.n << 3 | (uint64_t)c->set.overlap << 1 | c->set.paused);
        hash = hash_number(hash, c->submitted << 32 | c->passed);
    }
    for (size_t i = 0; i < s->nodes_count; i++) {
        const struct node *n = s->nodes[i];
        hash = hash_number(hash, n->state | (uint64_t)n->runs_count << 8 | (uint64_t)n->waiting_count << 32);
        hash = hash_number(hash, n->incarnation);
        for (int d = 0; d < RES_DIMS; d++)
            hash = hash_number(hash, n->allocated.v[d]);
    }
    return hash;
}

void sched_view_dump(const struct sched *s, struct buf *out)
{
    buf_printf(out, "epoch %" PRIu64 " jobs %" PRIu64 " open %" PRIu64 " last %" PRIu64 " runs %zu nodes %zu shapes %zu "
               "classes %zu timers %zu calendar %zu active %zu parked %zu brief %zu%s\n", s->epoch, s->jobs_live, s->jobs_open,
               s->job_last, s->runs_count, s->nodes_count, s->shapes_count, s->classes_count, s->timers.count,
               s->calendar.count, s->active.count, s->parked.count, s->brief.count, s->store_low ? " store-low" : "");
    for (size_t i = 0; i < s->nodes_count; i++) {
        const struct node *n = s->nodes[i];
        buf_printf(out, "node %u %.*s %s session %" PRIu64 " runs %u waiting %u allocated", n->id.n, (int)n->name.size,
                   n->name.data, node_state_name(n->state), n->session, n->runs_count, n->waiting_count);
        for (int d = 0; d < RES_DIMS; d++)
            if (n->capacity.v[d])
                buf_printf(out, " %" PRIu64 "/%" PRIu64, n->allocated.v[d], n->capacity.v[d]);
        buf_char(out, '\n');
    }
    for (size_t i = 0; i < s->shapes_count && i < 1000; i++)
        if (s->shapes[i]->pending.count) {
            const struct shape *shape = s->shapes[i];
            buf_printf(out, "shape %zu pending %zu first %" PRIu64 " key %.17g%s%s%s", i, shape->pending.count, shape_first(shape)->id.n,
                       shape->key, shape->demand->parked ? " parked" : "", shape->demand->too_big ? " too big" : "",
                       shape->blocked_by ? " limited" : "");
            for (size_t r = 0; shape->ranked && r < RANKS_MAX; r++)
                buf_printf(out, " %.17g", shape->rank[r]);
            buf_char(out, '\n');
        }
    size_t shown = 0;
    for (size_t i = 0; i < s->runs_slots && shown < 1000; i++)
        for (const struct run *r = s->runs[i]; r && shown < 1000; r = r->hash_next, shown++)
            buf_printf(out, "attempt %" PRIu64 "/%d/%u node %u %s%s%s%s\n", r->ref.job.n, (int)r->ref.task, r->ref.attempt,
                       r->node->id.n, r->state == RUN_RUNNING ? "running" : "assigned", r->ahead ? " ahead" : "",
                       r->uncertain ? " uncertain" : "", r->cancelling ? " cancelling" : "");
}

/* --- sched_check --- */

/* All of it or nothing: where one waits none runs, unless that is being ended; and no two are on the same node. Between the
 * records of one step, as a replay may leave it, part of it is there. */
static void check_gang(const struct sched *s, const struct job *j)
{
    const struct array *a = j->array;
    check(a->tasks == job_class(s, j)->nodes && a->tasks == job_class(s, j)->shape->demand->nodes);
    check(!s->started || a->open || !(a->counts[JOB_DISPATCHED] + a->counts[JOB_RUNNING] + a->counts[JOB_UNCERTAIN] + a->counts[JOB_CANCELLING]));
    bool goes_on = true;
    for (uint32_t p = 0; p < a->tasks; p++)
        goes_on &= a->cells[p].state != JOB_RUNNING || a->cells[p].reason == REASON_NONE || sched_run(s, j->id, p);
    for (uint32_t p = 0; p < a->tasks; p++) {
        const struct run *r = sched_run(s, j->id, p);
        check(!r || r->cancelling || goes_on);
        check(!r || r->cancelling || !s->started || a->counts[JOB_QUEUED] + a->counts[JOB_RETRY_WAIT] == 0);
        check(!r || !r->ahead);
        for (uint32_t q = 0; r && q < p && a->tasks <= 16; q++) {
            const struct run *other = sched_run(s, j->id, q);
            check(!other || other->node != r->node);
        }
    }
}

static void check_job(const struct sched *s, const struct job *j, uint64_t *tasks)
{
    check(j->id.n <= s->job_last && j->class < s->classes_count && j->state > JOB_NONE && j->state < JOB_STATES);
    check(heap_has(&j->pending) == sched_job_eligible(j));
    if (!j->is_array) {
        tasks[j->state]++;
        bool open = j->state == JOB_DISPATCHED || j->state == JOB_RUNNING || j->state == JOB_UNCERTAIN ||
                    j->state == JOB_CANCELLING;
        check(open == (j->run != NULL));
        check((j->state == JOB_RETRY_WAIT) == (j->timer != NULL));
        check(!j->run || (j->run->job == j && j->run->ref.attempt == j->attempt));
        return;
    }
    const struct array *a = j->array;
    uint32_t counts[JOB_STATES] = { 0 }, open = 0;
    check(a->partly == sched_partly(j));
    for (uint32_t p = 0; p < a->tasks; p++) {
        enum job_state state = sched_task_state(j, p);
        bool is_open = state == JOB_DISPATCHED || state == JOB_RUNNING || state == JOB_UNCERTAIN || state == JOB_CANCELLING;
        counts[state]++;
        open += is_open && (!a->gang || sched_run(s, j->id, p));
        check(p < a->fresh || a->cells[p].state == JOB_NONE || job_state_terminal(state));
    }
    for (int state = 0; state < JOB_STATES; state++) {
        check(counts[state] == a->counts[state]);
        tasks[job_task_shown(j, (enum job_state)state)] += counts[state];
    }
    check(open == a->open);
    if (a->gang)
        check_gang(s, j);
    check(!a->limit || a->open <= a->limit);
    check(!a->counts[JOB_QUEUED] || j->cancelled || sched_array_next(a) < a->tasks);
}

/* What the index and the heaps say of a node holds, unless it was touched since. */
static void check_refreshed(const struct sched *s, const struct node *n)
{
    check(sched_node_by_session(s, n->session) == (n->session ? n : NULL));
    if (list_linked(&n->touched))
        return;
    check(n->place.in == sched_node_takes_work(n));
    check(!n->place.in || (resources_equal(&n->place.capacity, &n->capacity) &&
                           resources_equal(&n->place.allocated, &n->allocated)));
    check(!heap_has(&n->ahead) || (n->place.in && n->ahead_class == n->class_last && n->ahead_waiting == n->waiting_count));
}

static void check_places(const struct sched *s)
{
    size_t in = 0, ahead = 0, in_heaps = 0;
    for (size_t i = 0; i < s->nodes_count; i++) {
        in += s->nodes[i]->place.in;
        ahead += heap_has(&s->nodes[i]->ahead);
    }
    check(node_index_check(&s->places) == in);
    for (size_t i = 0; i < s->classes_count; i++)
        in_heaps += s->classes[i].ahead.count;
    check(in_heaps == ahead);
}

void sched_check(const struct sched *s)
{
    uint64_t tasks[JOB_STATES] = { 0 }, jobs = 0, open_jobs = 0;
    for (job_id id = sched_view_next(s, (job_id){ 0 }, false); id.n; id = sched_view_next(s, id, false)) {
        const struct job *j = sched_job(s, id);
        check_job(s, j, tasks);
        jobs++;
        open_jobs += !job_state_terminal((enum job_state)j->state);
    }
    check(jobs == s->jobs_live && open_jobs == s->jobs_open);
    for (int state = 0; state < JOB_STATES; state++)
        check(tasks[state] == s->stats.tasks[state]);
    size_t runs = 0;
    for (size_t i = 0; i < s->nodes_count; i++) {
        const struct node *n = s->nodes[i];
        struct resources allocated = { 0 };
        uint32_t count = 0, waiting = 0, running = 0, cancelling = 0;
        for (size_t k = 0; k < n->ends_count; k++) {
            check(n->ends[k]->node == n && !n->ends[k]->ahead);
            check(k == 0 || n->ends[k - 1]->end_wall_ms <= n->ends[k]->end_wall_ms);
        }
        list_each(at, &n->runs) {
            const struct run *r = list_entry(at, struct run, on_node);
            check(r->node == n && sched_run(s, r->ref.job, r->ref.task) == r);
            count++;
            waiting += r->ahead;
            running += r->state == RUN_RUNNING;
            cancelling += r->cancelling;
            check(!(r->ahead && r->state == RUN_RUNNING));
            if (!r->ahead)
                resources_add(&allocated, &job_class(s, r->job)->need);
        }
        check(count == n->runs_count && waiting == n->waiting_count && running == n->running_count &&
              cancelling == n->cancelling_count);
        check(resources_equal(&allocated, &n->allocated));
        check_refreshed(s, n);
        check(n->ends_count == count - waiting);
        runs += count;
    }
    check(runs == s->runs_count);
    check_places(s);
    for (size_t i = 0; i < s->shapes_count; i++)
        check(heap_has(&s->shapes[i]->node) == (s->shapes[i]->pending.count > 0));
    sched_count_check(s);
    sched_party_check(s);
    sched_slots_check(s);
    for (size_t i = 0; i < s->demands_count; i++) {
        const struct demand *d = s->demands[i];
        const struct heap *in = !d->parked ? &s->active : d->brief ? &s->brief : &s->parked;
        check(heap_has(&d->node) == (d->shapes.count > 0));
        check(!heap_has(&d->node) || in->nodes[d->node.index] == &d->node);
        check(!heap_has(&d->node) || !d->parked || !s->least_known || resources_fit(&s->least.need, &d->need));
    }
}
