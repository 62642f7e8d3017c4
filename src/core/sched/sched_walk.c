/* sched_walk.c: the queue in order without taking anything out of it.
 *
 * A walk over the three levels of heaps (sched_queue.c) with a heap of places to go on from. What is below an element of a
 * heap comes after it, and a demand or a shape is where its first job is: so the first N jobs cost N log N, however many
 * wait behind them. */
#include "core/sched/sched_state.h"

enum level { AT_DEMAND, AT_SHAPE, AT_JOB };

struct place {
    const struct heap *heap;
    uint32_t at;
    enum level level;
    const struct shape *shape; /* of its first job: nothing that is reached through it comes before that */
    const struct job *job;
    double key;
};

struct frontier {
    const struct sched *s;
    struct place *places; size_t count, cap; /* a heap */
};

static bool before(const struct place *x, const struct place *y)
{
    int ranks = sched_shape_ranks(x->shape, y->shape);
    if (ranks)
        return ranks < 0;
    if (x->job->order_key != y->job->order_key)
        return x->job->order_key < y->job->order_key;
    return x->key != y->key ? x->key < y->key : x->job->id.n < y->job->id.n;
}

static void put(struct frontier *f, enum level level, const struct heap *heap, const struct shape *shape, size_t at)
{
    if (at >= heap->count)
        return;
    struct heap_node *n = heap->nodes[at];
    struct place p = { .heap = heap, .at = (uint32_t)at, .level = level, .shape = shape };
    if (level != AT_JOB)
        p.shape = level == AT_SHAPE ? heap_entry(n, struct shape, node) : demand_first(heap_entry(n, struct demand, node));
    p.job = level == AT_JOB ? heap_entry(n, struct job, pending) : shape_first(p.shape);
    p.key = level == AT_JOB && at ? sched_shape_key(f->s, shape, p.job) : p.shape->key;
    f->places = mem_grow(f->places, &f->cap, f->count + 1, sizeof *f->places);
    size_t i = f->count++;
    for (size_t up; i > 0 && before(&p, &f->places[up = (i - 1) / 2]); i = up)
        f->places[i] = f->places[up];
    f->places[i] = p;
}

static struct place take(struct frontier *f)
{
    struct place first = f->places[0], last = f->places[--f->count];
    size_t i = 0;
    for (size_t down; (down = 2 * i + 1) < f->count; i = down) {
        if (down + 1 < f->count && before(&f->places[down + 1], &f->places[down]))
            down++;
        if (!before(&f->places[down], &last))
            break;
        f->places[i] = f->places[down];
    }
    f->places[i] = last;
    return first;
}

static uint32_t tasks_of(const struct job *j)
{
    if (!j->is_array)
        return 1;
    const struct array *a = j->array;
    uint32_t waiting = a->counts[JOB_QUEUED];
    return a->limit && a->limit - a->open < waiting ? a->limit - a->open : waiting;
}

size_t sched_walk(const struct sched *s, size_t tasks_max, struct walked **out, bool *deeper)
{
    struct frontier f = { .s = s };
    struct walked *walked = NULL;
    size_t count = 0, cap = 0, tasks = 0;
    put(&f, AT_DEMAND, &s->active, NULL, 0);
    put(&f, AT_DEMAND, &s->parked, NULL, 0);
    put(&f, AT_DEMAND, &s->brief, NULL, 0);
    while (f.count && tasks < tasks_max) {
        struct place p = take(&f);
        put(&f, p.level, p.heap, p.shape, 2 * (size_t)p.at + 1);
        put(&f, p.level, p.heap, p.shape, 2 * (size_t)p.at + 2);
        struct heap_node *n = p.heap->nodes[p.at];
        if (p.level == AT_DEMAND) {
            put(&f, AT_SHAPE, &heap_entry(n, struct demand, node)->shapes, NULL, 0);
        } else if (p.level == AT_SHAPE) {
            const struct shape *shape = heap_entry(n, struct shape, node);
            put(&f, AT_JOB, &shape->pending, shape, 0);
        } else {
            struct job *j = heap_entry(n, struct job, pending);
            uint32_t of_job = tasks_of(j);
            walked = mem_grow(walked, &cap, count + 1, sizeof *walked);
            walked[count++] = (struct walked){ j, of_job };
            tasks += of_job;
        }
    }
    *deeper = f.count > 0 || tasks > tasks_max;
    bool gang = count && job_is_gang(walked[count - 1].job);
    if (tasks > tasks_max && !gang)
        walked[count - 1].tasks -= (uint32_t)(tasks - tasks_max);
    else if (tasks > tasks_max && count > 1)
        count--; /* Of a gang there is no part; that of the head is looked at however large it is. */
    free(f.places);
    *out = walked;
    return count;
}
