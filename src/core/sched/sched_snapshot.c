#include "core/sched/sched_snapshot.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/bug.h"
#include "core/sched/sched_state.h"

/* The bytes: items of a varint tag and the varints of its fields, never cut by the end of a piece. The order of the
 * tags is the order in the snapshot; CELLS to DEPENDENTS belong to the JOB before them. */
enum tag {
    T_HEAD = 1,
    T_NAME,       /* of a queue, user, account, token or member: they keep their numbers */
    T_RECORD,     /* RESOURCE, SETTINGS, CRON or CLASS, as the journal has it */
    T_CLASS_MEAN, /* of the class before it */
    T_NODE,
    T_JOB,
    T_CELLS, /* so many equal cells of the array */
    T_RETURNED,
    T_AFTER,
    T_DEPENDENTS,
    T_RUN,
    T_UNANSWERED,
    T_PARTY, /* what it had, and how fast it submitted */
    T_TIMER,
    T_APPOINTMENT,
    T_RIPE,
    T_ENDED,
    T_END
};

enum job_flag { JF_ARRAY = 1, JF_HELD = 2, JF_CANCELLED = 4, JF_EXTRA = 8, JF_TOUCHED = 16, JF_BEGIN_OPEN = 32, JF_NOTIFY = 64 };
enum run_flag { RF_RUNNING = 1, RF_AHEAD = 2, RF_UNCERTAIN = 4, RF_CANCELLING = 8 };

#define PIECE_BYTES 65536u
#define LIST_MAX 1000u /* elements in one item */

/* Tells a program that lays the state out in another way, though nobody has thought of the version. */
static uint64_t fingerprint(void)
{
    uint64_t sizes[] = { sizeof(struct job),
                         sizeof(struct job_extra),
                         sizeof(struct array),
                         sizeof(struct cell),
                         sizeof(struct class),
                         sizeof(struct run),
                         sizeof(struct party),
                         PARTY_KINDS,
                         JOB_STATES,
                         EV_KINDS,
                         NODE_STATES,
                         REASONS,
                         RES_DIMS };
    uint64_t sum = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        sum = sum * 1000003 + sizes[i];
    return sum;
}

/* Counted since the store was made. */
#define TOTALS 10
#define TOTALS_OF(n)                                                                                                   \
    {                                                                                                                  \
        &(n)->submitted, &(n)->started, &(n)->succeeded, &(n)->failed, &(n)->cancelled, &(n)->retried,                 \
            &(n)->ended[JOB_SUCCEEDED], &(n)->ended[JOB_FAILED], &(n)->ended[JOB_CANCELLED], &(n)->ended[JOB_EXPIRED]  \
    }

/* --- writing --- */

struct writer {
    const struct sched *s;
    struct buf piece;
    uint32_t *names; /* number in s->names to number in the snapshot + 1; 0: not written yet */
    uint32_t names_count;
    uint64_t job_last;
    int64_t submit_last_ms;
    void (*emit)(void *arg, struct bytes piece);
    void *arg;
};

static void put(struct writer *w, uint64_t number)
{
    buf_varint(&w->piece, number);
}

static void put_signed(struct writer *w, int64_t number)
{
    put(w, zigzag(number));
}

static void put_text(struct writer *w, struct bytes text)
{
    put(w, text.size);
    if (text.size)
        buf_add(&w->piece, text.data, text.size);
}

static void put_resources(struct writer *w, const struct resources *r)
{
    for (int d = 0; d < RES_DIMS; d++)
        put(w, r->v[d]);
}

/* Between items: a piece that is long enough goes out. */
static void item(struct writer *w, enum tag tag)
{
    if (w->piece.size >= PIECE_BYTES) {
        w->emit(w->arg, buf_bytes(&w->piece));
        buf_clear(&w->piece);
    }
    put(w, tag);
}

static void put_record(struct writer *w, const struct record *r)
{
    item(w, T_RECORD);
    record_encode(&w->piece, r);
}

static void put_head(struct writer *w)
{
    const struct sched *s = w->s;
    item(w, T_HEAD);
    put(w, SCHED_SNAPSHOT_VERSION);
    put(w, fingerprint());
    put(w, s->epoch);
    put(w, s->job_last);
    put(w, s->config.ended_max);
    put_signed(w, s->origin_wall_ms);
    const struct sched_stats *n = &s->stats;
    const uint64_t *totals[TOTALS] = TOTALS_OF(n);
    for (size_t i = 0; i < TOTALS; i++)
        put(w, *totals[i]);
    for (size_t i = 0; i < REASONS; i++) {
        put(w, n->failed_for[i]);
        put(w, n->retried_for[i]);
    }
    put(w, s->rollbacks_count);
    for (size_t i = 0; i < s->rollbacks_count; i++) {
        put(w, s->rollbacks[i].job_last);
        put(w, s->rollbacks[i].job_floor);
    }
}

static void put_number(struct writer *w, double number)
{
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    put(w, bits);
}

static void put_names(struct writer *w)
{
    const struct sched *s = w->s;
    for (int kind = 0; kind < PARTY_KINDS; kind++) {
        const struct intern *names = sched_party_names((struct sched *)(uintptr_t)s, (enum party_kind)kind);
        for (uint32_t i = 0; i < names->count; i++) {
            item(w, T_NAME);
            put(w, (uint64_t)kind);
            put_text(w, intern_text(names, i));
        }
    }
}

static void put_party(struct writer *w, const struct party *p)
{
    if (p->had_wall_ms == 0 && p->rate.at_wall_ms == 0)
        return;
    item(w, T_PARTY);
    put(w, p->number == UINT32_MAX ? PARTY_KINDS : (uint64_t)p->kind);
    put(w, p->number);
    put_number(w, p->had);
    put_signed(w, p->had_wall_ms);
    put_number(w, p->rate.used);
    put_signed(w, p->rate.at_wall_ms);
    put_signed(w, p->ran_ms[0]);
    put_signed(w, p->ran_ms[1]);
}

static void put_parties(struct writer *w)
{
    for (int kind = 0; kind < PARTY_KINDS; kind++)
        for (size_t i = 0; i < w->s->parties[kind].count; i++)
            put_party(w, w->s->parties[kind].all[i]);
    put_party(w, &w->s->common);
}

static void put_vocabulary(struct writer *w)
{
    const struct sched *s = w->s;
    for (uint32_t i = 0; i < RES_NAMED_MAX; i++)
        if (s->named[i][0])
            put_record(w,
                       &(struct record){ .kind = EV_RESOURCE, .resource = { RES_NAMED + i, bytes_str(s->named[i]) } });
    for (int kind = 0; kind < PARTY_KINDS; kind++)
        for (size_t i = 0; i < s->parties[kind].count; i++) {
            struct record r;
            if (!s->parties[kind].all[i]->is_set)
                continue;
            sched_party_settings_record(s, s->parties[kind].all[i], &r);
            put_record(w, &r);
        }
    for (size_t i = 0; i < s->crons_count; i++) {
        struct record r;
        sched_cron_record(s, i, &r);
        put_record(w, &r);
    }
    for (uint32_t i = 0; i < s->classes_count; i++) {
        const struct class *c = &s->classes[i];
        struct record r = { .kind = EV_CLASS };
        autobuf struct buf tokens = BUF_INIT;
        sched_class_event(s, i, &r.class, &tokens);
        put_record(w, &r);
        if (c->run_ms_mean < 0)
            continue;
        item(w, T_CLASS_MEAN);
        put_number(w, c->run_ms_mean);
        put_number(w, c->shape->run_ms_mean);
        put(w, c->shape->demand->brief); /* Once short it stays so, whatever the mean became. */
    }
}

static void put_node(struct writer *w, const struct node *n)
{
    item(w, T_NODE);
    put_text(w, n->name);
    put_text(w, n->boot);
    put_text(w, n->version);
    put_text(w, n->reason);
    put_text(w, n->labels);
    put(w, n->worker.high);
    put(w, n->worker.low);
    put(w, n->incarnation);
    put(w, n->state);
    put(w, n->drained_by_user);
    put_resources(w, &n->capacity);
}

static void put_name(struct writer *w, uint32_t name)
{
    if (!w->names[name]) {
        put(w, w->names_count);
        put_text(w, intern_text(&w->s->names, name));
        w->names[name] = ++w->names_count;
        return;
    }
    put(w, w->names[name] - 1);
}

/* Times of a job are near that of its submission. */
static void put_time(struct writer *w, const struct job *j, int64_t wall_ms)
{
    put(w, wall_ms ? zigzag(wall_ms - j->submit_wall_ms) + 1 : 0);
}

static bool touched(const struct job *j)
{
    return j->start_wall_ms || j->end_wall_ms || j->after_left || j->attempt || j->node || j->failures || j->infra ||
           j->lost || j->reason || j->exit_code || j->signal;
}

static void put_touched(struct writer *w, const struct job *j)
{
    put_time(w, j, j->start_wall_ms);
    put_time(w, j, j->end_wall_ms);
    uint32_t numbers[] = { j->after_left, j->attempt, j->node,   BUG(snapshot_forgets) ? 0 : j->failures,
                           j->infra,      j->lost,    j->reason, j->exit_code,
                           j->signal };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        put(w, numbers[i]);
}

static void put_cells(struct writer *w, const struct array *a)
{
    for (uint32_t p = 0, next; p < a->tasks; p = next) {
        const struct cell *c = &a->cells[p];
        for (next = p + 1; next < a->tasks && memcmp(c, &a->cells[next], sizeof *c) == 0;)
            next++;
        item(w, T_CELLS);
        put(w, next - p);
        uint32_t numbers[] = {
            c->state, c->reason, c->exit_code, c->signal, c->attempt, c->failures, c->infra, c->lost
        };
        for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
            put(w, numbers[i]);
    }
    size_t left = 0; /* in the item under way */
    for (size_t i = 0; i < a->returned_count; i++) {
        if (a->cells[a->returned[i]].state != JOB_QUEUED)
            continue; /* Stale: skipped when it is looked at. */
        if (!left) {
            item(w, T_RETURNED);
            left = LIST_MAX;
        }
        put(w, (uint64_t)a->returned[i] + 1);
        if (--left == 0)
            put(w, 0);
    }
    if (left)
        put(w, 0);
}

static void put_dependencies(struct writer *w, const struct job_extra *x)
{
    if (x->after_count) {
        item(w, T_AFTER);
        put(w, x->after_count);
    }
    for (size_t i = 0; i < x->after_count; i++) {
        put(w, x->after[i].job.n);
        put(w, x->after[i].when);
    }
    for (size_t i = 0; i < x->dependents_count; i++) {
        const struct job *waiter = sched_job(w->s, x->dependents[i].job);
        if (!waiter || job_state_terminal(waiter->state))
            continue;
        item(w, T_DEPENDENTS);
        put(w, x->dependents[i].job.n);
        put(w, x->dependents[i].when);
    }
}

static void put_job(struct writer *w, const struct job *j)
{
    const struct job_extra *x = j->extra;
    uint64_t flags = (j->is_array ? JF_ARRAY : 0) | (j->held ? JF_HELD : 0) | (j->cancelled ? JF_CANCELLED : 0) |
                     (x ? JF_EXTRA : 0) | (touched(j) ? JF_TOUCHED : 0) | (x && x->begin_open ? JF_BEGIN_OPEN : 0) |
                     (x && x->notify ? JF_NOTIFY : 0);
    item(w, T_JOB);
    put(w, flags);
    put(w, j->id.n - w->job_last);
    put(w, j->state);
    put(w, j->class);
    put_name(w, j->name);
    put_signed(w, j->submit_wall_ms - w->submit_last_ms);
    put_signed(w, j->priority);
    w->job_last = j->id.n;
    w->submit_last_ms = j->submit_wall_ms;
    if (flags & JF_TOUCHED)
        put_touched(w, j);
    if (x) {
        put_signed(w, x->begin_wall_ms);
        put_signed(w, x->deadline_wall_ms);
        put(w, x->retry_of.n);
        put(w, x->mem_max_bytes);
        put(w, x->failed_on.n);
        put_time(w, j, x->eligible_wall_ms);
    }
    if (j->is_array) {
        uint32_t numbers[] = { j->array->tasks, j->array->first, j->array->step, j->array->limit, j->array->fresh };
        for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
            put(w, numbers[i]);
        put_cells(w, j->array);
    }
    if (x)
        put_dependencies(w, x);
}

static void put_ref(struct writer *w, job_id job, uint32_t task)
{
    put(w, job.n);
    put(w, (uint64_t)(task + 1)); /* TASK_SINGLE is 0 */
}

static void put_runs(struct writer *w)
{
    for (size_t i = 0; i < w->s->nodes_count; i++)
        list_each(at, &w->s->nodes[i]->runs)
        {
            const struct run *r = list_entry(at, struct run, on_node);
            item(w, T_RUN);
            put_ref(w, r->ref.job, r->ref.task);
            put(w, r->ref.attempt);
            put(w, r->node->id.n);
            put(w, (r->state == RUN_RUNNING ? RF_RUNNING : 0) | (r->ahead ? RF_AHEAD : 0) |
                       (r->uncertain ? RF_UNCERTAIN : 0) | (r->cancelling ? RF_CANCELLING : 0));
            put_signed(w, r->start_wall_ms);
            put_signed(w, r->end_wall_ms);
        }
    list_each(at, &w->s->unanswered)
    {
        const struct run *r = list_entry(at, struct run, unanswered);
        item(w, T_UNANSWERED);
        put_ref(w, r->ref.job, r->ref.task);
    }
}

static bool alive(const struct sched *s, uint64_t id)
{
    const struct job *j = sched_job(s, (job_id){ id });
    return j && !job_state_terminal(j->state);
}

static int by_time(const void *a, const void *b)
{
    const struct appointment *x = *(struct appointment *const *)a, *y = *(struct appointment *const *)b;
    if (x->wall_ms != y->wall_ms)
        return x->wall_ms < y->wall_ms ? -1 : 1;
    return x->job.n < y->job.n ? -1 : x->job.n > y->job.n;
}

/* Those of jobs that have ended stay in the heap until they are due, so its order says nothing. */
static void put_calendar(struct writer *w)
{
    const struct sched *s = w->s;
    autofree const struct appointment **all = mem_alloc((s->calendar.count + 1) * sizeof *all);
    size_t count = 0;
    for (size_t i = 0; i < s->calendar.count; i++) {
        const struct appointment *a = heap_entry(s->calendar.nodes[i], struct appointment, node);
        if (alive(s, a->job.n))
            all[count++] = a;
    }
    qsort(all, count, sizeof *all, by_time);
    for (size_t i = 0; i < count; i++) {
        item(w, T_APPOINTMENT);
        put_signed(w, all[i]->wall_ms);
        put(w, all[i]->job.n);
    }
}

static void put_lists(struct writer *w)
{
    const struct sched *s = w->s;
    /* In the order of the heap's array: pushed in this order they make the same array again. */
    for (size_t i = 0; i < s->timers.count; i++) {
        const struct timer *t = heap_entry(s->timers.nodes[i], struct timer, node);
        item(w, T_TIMER);
        put_ref(w, t->job, t->task);
        put_signed(w, t->due_ms);
    }
    put_calendar(w);
    uint64_t last = 0;
    for (size_t i = 0; i < s->ripe_count; i++)
        if (s->ripe[i] != last && alive(s, s->ripe[i])) {
            item(w, T_RIPE);
            put(w, last = s->ripe[i]);
        }
    last = 0;
    for (size_t i = 0; i < s->ended_count; i++) {
        uint64_t id = s->ended[(s->ended_head + i) % s->ended_cap];
        item(w, T_ENDED);
        put_signed(w, (int64_t)(id - last));
        last = id;
    }
}

void sched_snapshot(const struct sched *s, void (*emit)(void *arg, struct bytes piece), void *arg)
{
    check(!s->started); /* Else its timers count on another clock. */
    struct writer w = { .s = s, .emit = emit, .arg = arg };
    w.names = mem_zero(s->names.count + 1, sizeof *w.names);
    put_head(&w);
    put_names(&w);
    put_vocabulary(&w);
    for (size_t i = 0; i < s->nodes_count; i++)
        put_node(&w, s->nodes[i]);
    for (size_t page = 0; page < s->pages_count; page++)
        for (size_t i = 0; s->pages[page] && i < JOB_PAGE; i++)
            if (s->pages[page]->jobs[i].id.n)
                put_job(&w, &s->pages[page]->jobs[i]);
    put_runs(&w);
    put_parties(&w);
    put_lists(&w);
    item(&w, T_END);
    put(&w, s->jobs_live);
    w.emit(w.arg, buf_bytes(&w.piece));
    buf_fini(&w.piece);
    free(w.names);
}

/* --- reading --- */

struct sched_restore {
    struct sched *s;
    enum tag last;   /* of the item before */
    struct job *job; /* under way: its parts follow */
    uint64_t job_last;
    int64_t submit_last_ms;
    uint32_t cells; /* of its array that are there */
    uint64_t ended_last;
    uint64_t ended_max;
    uint64_t ended, open, waiting; /* seen: ended jobs, tasks with an open attempt, tasks that wait for a retry */
    uint64_t open_of_gangs;        /* of `open`: those of gangs, which count as that until all of it has ended */
    const uint8_t *at, *end;
    bool bad;
};

#define DAMAGED(...) return err_set(err, ERR_CORRUPT, "the snapshot is damaged: " __VA_ARGS__)
#define NEED(condition, ...)                                                                                           \
    do                                                                                                                 \
        if (!(condition) || r->bad)                                                                                    \
            DAMAGED(__VA_ARGS__);                                                                                      \
    while (0)

struct sched_restore *sched_restore_new(struct sched *s)
{
    struct sched_restore *r = mem_zero(1, sizeof *r);
    check(!s->started && !s->jobs_live && !s->classes_count && !s->nodes_count);
    r->s = s;
    return r;
}

void sched_restore_free(struct sched_restore *r)
{
    free(r);
}

uint64_t sched_restore_ended_max(const struct sched_restore *r)
{
    return r->ended_max;
}

static uint64_t get(struct sched_restore *r)
{
    uint64_t number = 0;
    if (r->bad || !varint_read(&r->at, r->end, &number))
        r->bad = true;
    return r->bad ? 0 : number;
}

static int64_t get_signed(struct sched_restore *r)
{
    return unzigzag(get(r));
}

/* A number of at most `most`. */
static uint64_t get_upto(struct sched_restore *r, uint64_t most)
{
    uint64_t number = get(r);
    if (number > most)
        r->bad = true;
    return r->bad ? 0 : number;
}

static struct bytes get_text(struct sched_restore *r)
{
    uint64_t size = get(r);
    if (r->bad || size > (size_t)(r->end - r->at)) {
        r->bad = true;
        return bytes_of(NULL, 0);
    }
    struct bytes text = bytes_of(r->at, (size_t)size);
    r->at += size;
    return text;
}

static struct bytes own_text(struct sched_restore *r)
{
    struct bytes text = get_text(r);
    return bytes_of(mem_copy(text.data, text.size), text.size);
}

static int take_head(struct sched_restore *r, struct err *err)
{
    struct sched *s = r->s;
    uint64_t version = get(r), print = get(r);
    NEED(true, "its head is cut short");
    if (version != SCHED_SNAPSHOT_VERSION || print != fingerprint())
        return err_set(err, ERR_STALE, "the snapshot was made by another version of rota");
    s->epoch = get(r);
    s->job_last = get(r);
    r->ended_max = get(r);
    s->origin_wall_ms = get_signed(r);
    struct sched_stats *n = &s->stats;
    uint64_t *totals[TOTALS] = TOTALS_OF(n);
    for (size_t i = 0; i < TOTALS; i++)
        *totals[i] = get(r);
    for (size_t i = 0; i < REASONS; i++) {
        n->failed_for[i] = get(r);
        n->retried_for[i] = get(r);
    }
    uint64_t count = get_upto(r, 1000000);
    for (uint64_t i = 0; i < count && !r->bad; i++) {
        struct rollback back = { get(r), 0 };
        back.job_floor = get(r);
        s->rollbacks = mem_grow(s->rollbacks, &s->rollbacks_cap, s->rollbacks_count + 1, sizeof *s->rollbacks);
        s->rollbacks[s->rollbacks_count++] = back;
    }
    NEED(true, "its head is cut short");
    return 0;
}

static int take_record(struct sched_restore *r, struct err *err)
{
    struct record rec;
    int rc = record_decode(&r->at, r->end, &rec, err);
    if (rc < 0)
        return rc;
    NEED(rec.kind == EV_RESOURCE || rec.kind == EV_CLASS || rec.kind == EV_SETTINGS || rec.kind == EV_CRON, "a record does not belong there");
    return sched_apply(r->s, &rec, err);
}

static double get_number(struct sched_restore *r)
{
    uint64_t bits = get(r);
    double number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

static int take_mean(struct sched_restore *r, struct err *err)
{
    double mean = get_number(r), shape_mean = get_number(r);
    NEED(r->s->classes_count, "a class is missing");
    NEED(mean >= 0 && mean < 1e18 && shape_mean >= 0 && shape_mean < 1e18, "a class is wrong");
    struct class *c = &r->s->classes[r->s->classes_count - 1];
    sched_class_mean(r->s, c, mean);
    c->shape->run_ms_mean = shape_mean;
    if (get_upto(r, 1) && r->s->config.ahead_max)
        sched_demand_brief(r->s, c->shape->demand);
    return 0;
}

static int take_name(struct sched_restore *r, struct err *err)
{
    enum party_kind kind = (enum party_kind)get_upto(r, PARTY_KINDS - 1);
    struct bytes text = get_text(r);
    NEED(text.size, "a name is missing");
    struct intern *names = sched_party_names(r->s, kind);
    NEED(intern_add(names, text) == names->count - 1, "a name is there twice");
    return 0;
}

static int take_party(struct sched_restore *r, struct err *err)
{
    struct sched *s = r->s;
    uint64_t kind = get_upto(r, PARTY_KINDS), number = get_upto(r, UINT32_MAX);
    bool known = kind == PARTY_KINDS || number < s->parties[kind].count ||
                 (kind == PARTY_ACCOUNT && number < s->accounts.count); /* It was above another one once. */
    NEED(known, "a share is of nobody");
    struct party *p = kind == PARTY_KINDS ? &s->common : sched_party(s, (enum party_kind)kind, (uint32_t)number);
    p->had = get_number(r);
    p->had_wall_ms = get_signed(r);
    p->rate.used = get_number(r);
    p->rate.at_wall_ms = get_signed(r);
    for (int i = 0; i < 2; i++)
        p->ran_ms[i] = get_signed(r);
    NEED(p->had >= 0 && p->had < 1e18 && p->rate.used >= 0 && p->rate.used < 1e18 && p->ran_ms[0] >= 0 && p->ran_ms[1] >= 0, "a share is wrong");
    p->ratio_clock = 0;
    return 0;
}

static int take_node(struct sched_restore *r, struct err *err)
{
    NEED(r->s->nodes_count < NODES_MAX, "too many nodes");
    struct node *n = sched_load_node(r->s);
    n->name = own_text(r);
    n->boot = own_text(r);
    n->version = own_text(r);
    n->reason = own_text(r);
    n->labels = own_text(r);
    n->worker.high = get(r);
    n->worker.low = get(r);
    n->incarnation = get(r);
    enum node_state state = (enum node_state)get_upto(r, NODE_STATES - 1);
    n->drained_by_user = get_upto(r, 1);
    for (int d = 0; d < RES_DIMS; d++)
        n->capacity.v[d] = get(r);
    sched_where_node(r->s, n);
    r->s->stats.nodes[n->state]--;
    r->s->stats.nodes[state]++;
    n->state = state;
    sched_capacity(r->s, n, true);
    NEED(true, "node %u is wrong", n->id.n);
    return 0;
}

/* --- jobs --- */

static int64_t get_time(struct sched_restore *r, const struct job *j)
{
    uint64_t number = get(r);
    return number ? j->submit_wall_ms + unzigzag(number - 1) : 0;
}

static void take_touched(struct sched_restore *r, struct job *j)
{
    j->start_wall_ms = get_time(r, j);
    j->end_wall_ms = get_time(r, j);
    j->after_left = (uint32_t)get_upto(r, UINT32_MAX);
    j->attempt = (uint32_t)get_upto(r, UINT32_MAX);
    j->node = (uint32_t)get_upto(r, r->s->nodes_count);
    j->failures = (uint16_t)get_upto(r, UINT16_MAX);
    j->infra = (uint8_t)get_upto(r, UINT8_MAX);
    j->lost = (uint8_t)get_upto(r, UINT8_MAX);
    j->reason = (uint8_t)get_upto(r, REASONS - 1);
    j->exit_code = (uint8_t)get_upto(r, UINT8_MAX);
    j->signal = (uint8_t)get_upto(r, UINT8_MAX);
}

static void take_extra(struct sched_restore *r, struct job *j, uint64_t flags)
{
    struct job_extra *x = j->extra = mem_zero(1, sizeof *x);
    x->begin_open = flags & JF_BEGIN_OPEN;
    x->notify = flags & JF_NOTIFY;
    x->begin_wall_ms = get_signed(r);
    x->deadline_wall_ms = get_signed(r);
    x->retry_of.n = get(r);
    x->mem_max_bytes = get(r);
    x->failed_on.n = get(r);
    x->eligible_wall_ms = get_time(r, j);
}

static void take_array(struct sched_restore *r, struct job *j)
{
    uint32_t tasks = (uint32_t)get_upto(r, ARRAY_TASKS_MAX);
    struct array *a = mem_zero(1, sizeof *a + (size_t)tasks * sizeof *a->cells);
    a->tasks = tasks;
    a->first = (uint32_t)get_upto(r, UINT32_MAX);
    a->step = (uint32_t)get_upto(r, UINT32_MAX);
    a->limit = (uint32_t)get_upto(r, UINT32_MAX);
    a->fresh = (uint32_t)get_upto(r, tasks);
    j->array = a;
    j->is_array = true;
    if (!tasks)
        r->bad = true;
}

static bool task_open(enum job_state state)
{
    return state == JOB_DISPATCHED || state == JOB_RUNNING || state == JOB_UNCERTAIN || state == JOB_CANCELLING;
}

/* Everything of the job is there. */
static int finish_job(struct sched_restore *r, struct err *err)
{
    struct sched *s = r->s;
    struct job *j = r->job;
    if (!j)
        return 0;
    r->job = NULL;
    uint32_t single[JOB_STATES] = { 0 };
    const uint32_t *counts = single;
    if (j->is_array) {
        counts = j->array->counts;
        NEED(r->cells == j->array->tasks, "tasks of array %" PRIu64 " are missing", j->id.n);
    } else {
        single[j->state] = 1;
    }
    for (int state = 0; state < JOB_STATES; state++) {
        enum job_state shown = job_task_shown(j, (enum job_state)state);
        s->stats.tasks[shown] += counts[state];
        sched_count_state(s, j, JOB_NONE, shown, counts[state]);
        uint32_t open = task_open((enum job_state)state) ? counts[state] : 0;
        r->open += open;
        r->open_of_gangs += job_is_gang(j) ? open : 0;
    }
    r->waiting += counts[JOB_RETRY_WAIT];
    s->stats.jobs[j->state]++;
    if (job_state_terminal(j->state))
        r->ended++;
    else
        s->jobs_open++;
    sched_load_pending(s, j);
    return 0;
}

static int take_job(struct sched_restore *r, struct err *err)
{
    struct sched *s = r->s;
    uint64_t flags = get(r), step = get(r);
    NEED(step > 0 && step <= s->job_last - r->job_last, "a job follows job %" PRIu64 " that cannot", r->job_last);
    struct job *j = sched_load_job(s, (job_id){ r->job_last + step });
    r->job_last = j->id.n;
    r->cells = 0;
    j->held = flags & JF_HELD;
    j->cancelled = flags & JF_CANCELLED;
    j->state = (uint8_t)get_upto(r, JOB_STATES - 1);
    j->class = (uint32_t)get(r);
    uint64_t name = get_upto(r, s->names.count);
    if (!r->bad && name == s->names.count) {
        struct bytes text = get_text(r);
        if (!r->bad && intern_add(&s->names, text) != name)
            r->bad = true;
    }
    j->name = (uint32_t)name;
    r->submit_last_ms += get_signed(r);
    j->submit_wall_ms = r->submit_last_ms;
    j->priority = (int32_t)get_signed(r);
    if (flags & JF_TOUCHED)
        take_touched(r, j);
    if (flags & JF_EXTRA)
        take_extra(r, j, flags);
    if (flags & JF_ARRAY)
        take_array(r, j);
    NEED(j->class < s->classes_count && j->state != JOB_NONE && (!j->after_left || j->extra) &&
             (job_class(s, j)->nodes <= 1 || (j->is_array && j->array->tasks == job_class(s, j)->nodes)),
         "job %" PRIu64 " is wrong", j->id.n);
    if (j->is_array)
        j->array->gang = job_class(s, j)->nodes > 1;
    r->job = j;
    return 0;
}

static int take_cells(struct sched_restore *r, struct err *err)
{
    struct cell c = { 0 };
    struct array *a = r->job && r->job->is_array ? r->job->array : NULL;
    uint64_t count = get(r);
    NEED(a && count && count <= a->tasks - r->cells, "tasks do not belong there");
    c.state = (uint8_t)get_upto(r, JOB_STATES - 1);
    c.reason = (uint8_t)get_upto(r, REASONS - 1);
    c.exit_code = (uint8_t)get_upto(r, UINT8_MAX);
    c.signal = (uint8_t)get_upto(r, UINT8_MAX);
    c.attempt = (uint16_t)get_upto(r, UINT16_MAX);
    c.failures = (uint16_t)get_upto(r, UINT16_MAX);
    c.infra = (uint8_t)get_upto(r, UINT8_MAX);
    c.lost = (uint8_t)get_upto(r, UINT8_MAX);
    NEED(c.state != JOB_HELD && c.state != JOB_BLOCKED, "a task is in a state that tasks have not");
    static const struct cell fresh;
    if (memcmp(&c, &fresh, sizeof c) != 0) /* New memory is left alone. */
        for (uint64_t i = 0; i < count; i++)
            a->cells[r->cells + i] = c;
    a->counts[c.state == JOB_NONE ? JOB_QUEUED : c.state] += (uint32_t)count;
    r->cells += (uint32_t)count;
    return 0;
}

static int take_returned(struct sched_restore *r, struct err *err)
{
    struct array *a = r->job && r->job->is_array ? r->job->array : NULL;
    NEED(a && r->cells == a->tasks, "tasks do not belong there");
    for (uint64_t task; (task = get_upto(r, a->tasks)) != 0;) {
        NEED(a->cells[task - 1].state == JOB_QUEUED, "a task does not wait");
        a->returned = mem_grow(a->returned, &a->returned_cap, a->returned_count + 1, sizeof *a->returned);
        a->returned[a->returned_count++] = (uint32_t)task - 1;
    }
    NEED(true, "tasks are missing");
    return 0;
}

static int take_after(struct sched_restore *r, struct err *err)
{
    struct job_extra *x = r->job ? r->job->extra : NULL;
    uint64_t count = get_upto(r, AFTER_MAX);
    NEED(x && !x->after, "dependencies do not belong there");
    x->after = mem_zero(count + 1, sizeof *x->after);
    for (x->after_count = 0; x->after_count < count; x->after_count++) {
        x->after[x->after_count].job.n = get(r);
        x->after[x->after_count].when = (enum after_when)get_upto(r, AFTER_FAIL);
    }
    NEED(true, "dependencies are missing");
    return 0;
}

static int take_dependent(struct sched_restore *r, struct err *err)
{
    struct job_extra *x = r->job ? r->job->extra : NULL;
    uint64_t job = get(r), when = get_upto(r, AFTER_FAIL);
    NEED(x && job > r->job->id.n, "a dependency does not belong there");
    x->dependents = mem_grow(x->dependents, &x->dependents_cap, x->dependents_count + 1, sizeof *x->dependents);
    x->dependents[x->dependents_count++] = (struct dependent){ { job }, (enum after_when)when };
    return 0;
}

/* --- attempts and lists --- */

static struct job *get_task(struct sched_restore *r, uint32_t *task)
{
    struct job *j = sched_job(r->s, (job_id){ get(r) });
    *task = (uint32_t)get_upto(r, UINT32_MAX) - 1;
    if (!j || (j->is_array ? *task >= j->array->tasks : *task != TASK_SINGLE))
        r->bad = true;
    return r->bad ? NULL : j;
}

static int take_run(struct sched_restore *r, struct err *err)
{
    uint32_t task = 0;
    struct job *j = get_task(r, &task);
    uint32_t attempt = (uint32_t)get_upto(r, UINT32_MAX);
    struct node *n = sched_node(r->s, (node_id){ (uint32_t)get_upto(r, NODES_MAX) });
    uint64_t flags = get(r);
    int64_t start_wall_ms = get_signed(r), end_wall_ms = get_signed(r);
    NEED(j && n && task_open(sched_task_state(j, task)) && !sched_run(r->s, j->id, task) &&
             !(flags & RF_AHEAD && flags & RF_RUNNING),
         "an attempt is wrong");
    struct run *run = sched_load_run(r->s, j, n, task, attempt, flags & RF_AHEAD);
    run->start_wall_ms = start_wall_ms;
    sched_ends_move(run, end_wall_ms);
    run->uncertain = flags & RF_UNCERTAIN;
    run->cancelling = flags & RF_CANCELLING;
    n->cancelling_count += run->cancelling;
    if (flags & RF_RUNNING) {
        run->state = RUN_RUNNING;
        n->running_count++;
    }
    list_remove(&run->unanswered);
    sched_load_pending(r->s, j);
    return 0;
}

static int take_unanswered(struct sched_restore *r, struct err *err)
{
    uint32_t task = 0;
    struct job *j = get_task(r, &task);
    struct run *run = j ? sched_run(r->s, j->id, task) : NULL;
    NEED(run && !list_linked(&run->unanswered), "an attempt is wrong");
    list_append(&r->s->unanswered, &run->unanswered);
    return 0;
}

static int take_timer(struct sched_restore *r, struct err *err)
{
    uint32_t task = 0;
    struct job *j = get_task(r, &task);
    int64_t due_ms = get_signed(r);
    NEED(j && sched_task_state(j, task) == JOB_RETRY_WAIT && (j->is_array || !j->timer), "a retry is wrong");
    sched_load_timer(r->s, j, task, due_ms);
    return 0;
}

static int take_appointment(struct sched_restore *r, struct err *err)
{
    int64_t wall_ms = get_signed(r);
    uint64_t job = get(r);
    NEED(alive(r->s, job) && sched_job(r->s, (job_id){ job })->extra, "an appointment is wrong");
    sched_load_appointment(r->s, (job_id){ job }, wall_ms);
    return 0;
}

static int take_ripe(struct sched_restore *r, struct err *err)
{
    struct sched *s = r->s;
    uint64_t job = get(r);
    NEED(alive(s, job), "a job is missing");
    s->ripe = mem_grow(s->ripe, &s->ripe_cap, s->ripe_count + 1, sizeof *s->ripe);
    s->ripe[s->ripe_count++] = job;
    return 0;
}

static int take_ended(struct sched_restore *r, struct err *err)
{
    r->ended_last += (uint64_t)get_signed(r);
    const struct job *j = sched_job(r->s, (job_id){ r->ended_last });
    NEED(j && job_state_terminal(j->state) && r->s->ended_count < r->ended, "an ended job is wrong");
    sched_load_ended(r->s, j->id);
    return 0;
}

static int take_end(struct sched_restore *r, struct err *err)
{
    struct sched *s = r->s;
    uint64_t jobs = get(r);
    NEED(jobs == s->jobs_live && r->ended == s->ended_count && r->open >= s->runs_count &&
             r->open - r->open_of_gangs <= s->runs_count && r->waiting == s->timers.count && r->at == r->end,
         "its parts do not fit together");
    sched_load_done(s);
    return 0;
}

static int take_item(struct sched_restore *r, enum tag tag, struct err *err)
{
    static int (*const takers[])(struct sched_restore * r, struct err * err) = {
        [T_HEAD] = take_head,
        [T_NAME] = take_name,
        [T_RECORD] = take_record,
        [T_CLASS_MEAN] = take_mean,
        [T_NODE] = take_node,
        [T_JOB] = take_job,
        [T_CELLS] = take_cells,
        [T_RETURNED] = take_returned,
        [T_AFTER] = take_after,
        [T_DEPENDENTS] = take_dependent,
        [T_RUN] = take_run,
        [T_UNANSWERED] = take_unanswered,
        [T_PARTY] = take_party,
        [T_TIMER] = take_timer,
        [T_APPOINTMENT] = take_appointment,
        [T_RIPE] = take_ripe,
        [T_ENDED] = take_ended,
        [T_END] = take_end,
    };
    bool part = tag >= T_CELLS && tag <= T_DEPENDENTS;
    NEED(tag >= T_HEAD && tag <= T_END && (tag == T_HEAD) == (r->last == 0) && r->last != T_END, "it is out of order");
    /* Classes and their means, and jobs and their parts, take turns; else the tags only rise. */
    bool turns = (tag == T_RECORD && r->last == T_CLASS_MEAN) || (tag == T_JOB && r->last <= T_DEPENDENTS);
    NEED(tag >= r->last || turns, "it is out of order");
    int rc = part ? 0 : finish_job(r, err);
    r->last = tag;
    return rc < 0 ? rc : takers[tag](r, err);
}

int sched_restore_piece(struct sched_restore *r, struct bytes piece, struct err *err)
{
    r->at = (const uint8_t *)piece.data;
    r->end = r->at + piece.size;
    while (r->at < r->end) {
        uint64_t tag = get(r);
        NEED(tag <= T_END, "it is out of order");
        int rc = take_item(r, (enum tag)tag, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int sched_restore_end(struct sched_restore *r, struct err *err)
{
    NEED(r->last == T_END, "its end is missing");
    return 0;
}
