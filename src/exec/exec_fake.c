/* exec_fake: attempts that only take time. For tests, load and simulation: no process, no file, thousands per turn.
 * Attempts live in the worker process and end with it. */
#include <stdlib.h>

#include "base/heap.h"
#include "base/mem.h"
#include "exec/exec.h"
#include "exec/ref_table.h"
#include "io/clock.h"
#include "io/loop.h"

#define ATTEMPTS_MAX 131072u

enum fake_phase { FAKE_FRESH, FAKE_RUNNING, FAKE_ENDED };

struct fake_attempt {
    struct heap_node due; /* FRESH and RUNNING: in the heap, by when something is to be reported */
    enum fake_phase phase;
    uint32_t number;
    int64_t due_ms;
    uint64_t order; /* of start: decides between equal times */
    int64_t started_ms;
    int64_t run_ms;
    uint32_t exit_code, signal;
    bool overlap_never, fenced;
};

struct exec_fake {
    struct exec base;
    struct exec_events events;
    struct loop_timer *timer;
    int64_t timer_ms; /* when it is due; INT64_MAX: not armed */
    struct ref_table refs;
    struct fake_attempt *attempts; /* at the attempt's number */
    struct heap due;
    uint64_t order;
    struct loop_timer *lease_timer;
    int64_t lease_until_ms;
    bool reporting; /* inside report(), which arms the timer at its end */
};

static struct exec_fake *fake_of(struct exec *x)
{
    return (struct exec_fake *)x;
}

static bool due_before(const struct heap_node *a, const struct heap_node *b)
{
    const struct fake_attempt *x = heap_entry(a, struct fake_attempt, due),
                              *y = heap_entry(b, struct fake_attempt, due);
    return x->due_ms != y->due_ms ? x->due_ms < y->due_ms : x->order < y->order;
}

static void arm(struct exec_fake *f, int64_t now_ms)
{
    struct heap_node *first = heap_first(&f->due);
    int64_t due_ms = first ? heap_entry(first, struct fake_attempt, due)->due_ms : INT64_MAX;
    if (f->reporting || due_ms >= f->timer_ms)
        return;
    f->timer_ms = due_ms;
    loop_timer_set(f->timer, due_ms > now_ms ? due_ms - now_ms : 0);
}

static void fake_ended(struct exec_fake *f, struct fake_attempt *a)
{
    struct attempt_result result = { .exit_code = a->exit_code, .signal = a->signal, .run_ms = a->run_ms };
    result.reason = a->fenced ? REASON_LEASE_LOST : a->signal ? REASON_SIGNAL : a->exit_code ? REASON_EXIT : REASON_NONE;
    struct attempt_ref ref = f->refs.refs[a->number];
    a->phase = FAKE_ENDED;
    if (f->events.on_vacated)
        f->events.on_vacated(f->events.arg, ref, (struct attempt_ref){ { 0 }, 0, 0 });
    f->events.on_ended(f->events.arg, ref, &result, true, "");
}

/* Reports what is due: of the attempts started before this call, so that one that starts another is no endless loop. */
static void report(void *arg)
{
    struct exec_fake *f = arg;
    int64_t now_ms = clock_now_ms();
    uint64_t until = f->order;
    struct heap_node *first;
    f->reporting = true;
    f->timer_ms = INT64_MAX;
    while ((first = heap_first(&f->due))) {
        struct fake_attempt *a = heap_entry(first, struct fake_attempt, due);
        if (a->due_ms > now_ms || a->order >= until)
            break;
        heap_remove(&f->due, &a->due);
        if (a->phase == FAKE_RUNNING) {
            fake_ended(f, a);
            continue;
        }
        a->phase = FAKE_RUNNING;
        a->started_ms = now_ms;
        a->due_ms = now_ms + a->run_ms;
        heap_push(&f->due, &a->due);
        if (f->events.on_started)
            f->events.on_started(f->events.arg, f->refs.refs[a->number]);
    }
    f->reporting = false;
    arm(f, now_ms);
}

static int fake_start(struct exec *x, const struct exec_job *job, struct err *err)
{
    struct exec_fake *f = fake_of(x);
    if (ref_table_find(&f->refs, job->ref) != REF_NONE)
        return err_set(err, ERR_CONFLICT, "attempt %u of job %llu was started before", job->ref.attempt,
                       (unsigned long long)job->ref.job.n);
    if (job->overlap_never && clock_now_ms() >= f->lease_until_ms)
        return err_set(err, ERR_STALE, "the lease of its node had run out");
    uint32_t number = ref_table_add(&f->refs, job->ref);
    if (number == REF_NONE)
        return err_set(err, ERR_FULL, "as many attempts are held as fit");
    struct fake_attempt *a = &f->attempts[number];
    int64_t now_ms = clock_now_ms();
    *a = (struct fake_attempt){ .phase = FAKE_FRESH,
                                .number = number,
                                .due_ms = now_ms,
                                .order = f->order++,
                                .run_ms = job->simulated_ms > 0 ? job->simulated_ms : 0,
                                .exit_code = (uint32_t)job->simulated_exit & 255,
                                .overlap_never = job->overlap_never };
    heap_node_init(&a->due);
    heap_push(&f->due, &a->due);
    arm(f, now_ms);
    return 0;
}

static struct fake_attempt *find(struct exec_fake *f, struct attempt_ref ref)
{
    uint32_t number = ref_table_find(&f->refs, ref);
    return number == REF_NONE ? NULL : &f->attempts[number];
}

static void fake_signal(struct exec *x, struct attempt_ref ref, bool kill)
{
    struct exec_fake *f = fake_of(x);
    struct fake_attempt *a = find(f, ref);
    if (!a || a->phase == FAKE_ENDED)
        return;
    int64_t now_ms = clock_now_ms();
    a->signal = kill ? 9 : 15;
    a->exit_code = 0;
    a->run_ms = a->phase == FAKE_FRESH ? 0 : now_ms - a->started_ms;
    a->due_ms = now_ms;
    heap_moved(&f->due, &a->due);
    arm(f, now_ms);
}

/* Before it is moved, too: what has run out stays so. */
static void lease_due(void *arg)
{
    struct exec_fake *f = arg;
    int64_t now_ms = clock_now_ms();
    if (now_ms < f->lease_until_ms)
        return;
    for (uint32_t i = 0; i < f->refs.cap; i++) {
        struct fake_attempt *a = &f->attempts[i];
        if (!ref_table_used(&f->refs, i) || a->phase == FAKE_ENDED || !a->overlap_never)
            continue;
        a->fenced = true;
        fake_signal(&f->base, f->refs.refs[i], true);
    }
}

static void fake_lease(struct exec *x, int64_t until_ms)
{
    struct exec_fake *f = fake_of(x);
    int64_t now_ms = clock_now_ms();
    if (until_ms <= f->lease_until_ms || until_ms <= now_ms)
        return;
    lease_due(f);
    f->lease_until_ms = until_ms;
    loop_timer_set(f->lease_timer, until_ms - now_ms);
}

static void fake_remove(struct exec *x, struct attempt_ref ref)
{
    struct exec_fake *f = fake_of(x);
    struct fake_attempt *a = find(f, ref);
    if (a && a->phase == FAKE_ENDED)
        ref_table_remove(&f->refs, a->number);
}

static bool fake_log_path(struct exec *x, struct attempt_ref ref, enum exec_stream stream, char *path, size_t size)
{
    (void)x, (void)ref, (void)stream, (void)path, (void)size;
    return false;
}

static bool fake_usage(struct exec *x, struct attempt_ref ref, struct exec_usage *out)
{
    *out = (struct exec_usage){ 0 };
    struct fake_attempt *a = find(fake_of(x), ref);
    return a && a->phase == FAKE_RUNNING;
}

static const char *fake_enforces(struct exec *x)
{
    (void)x;
    return "nothing is run: attempts are simulated";
}

static void fake_close(struct exec *x)
{
    struct exec_fake *f = fake_of(x);
    loop_timer_remove(f->timer);
    loop_timer_remove(f->lease_timer);
    heap_fini(&f->due);
    ref_table_fini(&f->refs);
    free(f->attempts);
    free(f);
}

static const struct exec_ops fake_ops = {
    .name = "fake",
    .start = fake_start,
    .signal = fake_signal,
    .lease = fake_lease,
    .remove = fake_remove,
    .log_path = fake_log_path,
    .usage = fake_usage,
    .enforces = fake_enforces,
    .close = fake_close,
};

struct exec *exec_fake_open(struct loop *loop, const struct exec_config *config, const struct exec_events *events,
                            struct err *err)
{
    (void)config, (void)err;
    struct exec_fake *f = mem_zero(1, sizeof *f);
    f->base.ops = &fake_ops;
    f->events = *events;
    f->timer_ms = INT64_MAX;
    ref_table_init(&f->refs, ATTEMPTS_MAX);
    f->attempts = mem_zero(ATTEMPTS_MAX, sizeof *f->attempts);
    heap_init(&f->due, due_before);
    f->timer = loop_timer_add(loop, report, f);
    f->lease_timer = loop_timer_add(loop, lease_due, f);
    return &f->base;
}
