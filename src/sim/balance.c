#include "sim/balance.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/mem.h"
#include "sim/gpu_pool.h"

#define GIB (UINT64_C(1) << 30)
#define LOAD 0.5          /* of the CPUs, on average */
#define RUN_MEAN_S 1800.0

struct balance_job {
    struct heap_node node;
    double arrival_s, run_s, end_s;
    uint32_t need, number, on, taken;
};

struct world {
    struct gpu_pool pool;
    struct heap running;
    struct balance_job *jobs;
    uint32_t *waiting;              /* numbers, in order */
    uint32_t waiting_count;
    double *shares;                 /* by node, and their sums, so that an instant costs no look at all nodes */
    double sum, squares, now_s;
    uint32_t empty;
    struct balance_result *out;
    double time, mean_time, sd_time, empty_time;
};

/* --- the workload --- */

static const uint64_t node_sizes[3][3] = { { 16, 64, 0 }, { 32, 128, 4 }, { 64, 512, 8 } }; /* CPUs, GiB, GPUs */
static const struct {
    uint32_t cpu_milli, mem_gib, gpus, milli;
} requests[] = { { 500, 1, 0, 0 },  { 1000, 2, 0, 0 },     { 1000, 8, 0, 0 },    { 2000, 4, 0, 0 },  { 4000, 8, 0, 0 },
                 { 4000, 32, 0, 0 }, { 2000, 16, 1, 500 }, { 4000, 32, 1, 1000 }, { 8000, 64, 2, 1000 }, { 8000, 16, 0, 0 } };
#define REQUESTS (sizeof requests / sizeof *requests)

static void make_needs(struct gpus_need *needs)
{
    for (size_t i = 0; i < REQUESTS; i++) {
        needs[i] = (struct gpus_need){ .count = requests[i].gpus, .milli = requests[i].milli };
        needs[i].total.v[RES_CPU] = requests[i].cpu_milli;
        needs[i].total.v[RES_MEM] = requests[i].mem_gib * GIB;
        needs[i].total.v[RES_GPU] = (uint64_t)requests[i].gpus * requests[i].milli;
    }
}

/* Two fifths each small and middle, a fifth large. CPUs of all, in thousandths. */
static double make_nodes(struct gpus_node *nodes, uint32_t count)
{
    double cpus = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t *size = node_sizes[i % 5 == 4 ? 2 : i % 5 % 2];
        struct gpus_node *n = &nodes[i];
        *n = (struct gpus_node){ .number = i, .count = (uint32_t)size[2] };
        n->capacity.v[RES_CPU] = size[0] * 1000;
        n->capacity.v[RES_MEM] = size[1] * GIB;
        n->capacity.v[RES_GPU] = size[2] * GPU_WHOLE;
        n->free = n->capacity;
        for (uint32_t d = 0; d < n->count; d++)
            n->free_milli[d] = GPU_WHOLE;
        cpus += (double)n->capacity.v[RES_CPU];
    }
    return cpus;
}

static double exponential(struct prng *p, double mean)
{
    return -mean * log(1 - prng_unit(p));
}

static void make_jobs(struct balance_job *jobs, uint32_t count, double cpus, struct prng *p)
{
    double asked = 0, now_s = 0;
    for (size_t i = 0; i < REQUESTS; i++)
        asked += requests[i].cpu_milli / (double)REQUESTS;
    double between_s = asked * RUN_MEAN_S / (LOAD * cpus);
    for (uint32_t i = 0; i < count; i++) {
        now_s += exponential(p, between_s);
        heap_node_init(&jobs[i].node);
        jobs[i].number = i;
        jobs[i].need = (uint32_t)prng_below(p, REQUESTS);
        jobs[i].arrival_s = now_s;
        jobs[i].run_s = prng_chance(p, 0.5) ? exponential(p, 0.1 * RUN_MEAN_S) : exponential(p, 1.9 * RUN_MEAN_S);
    }
}

/* --- what is looked at --- */

static void look(struct world *w, uint32_t node)
{
    const struct gpus_node *n = &w->pool.nodes[node];
    struct resources allocated = n->capacity;
    resources_sub(&allocated, &n->free);
    double before = w->shares[node], share = resources_share(&allocated, &n->capacity);
    w->empty += (share == 0) - (before == 0);
    w->sum += share - before;
    w->squares += share * share - before * before;
    w->shares[node] = share;
}

static void pass_time(struct world *w, double until_s)
{
    double n = w->pool.nodes_count, mean = w->sum / n, variance = w->squares / n - mean * mean, s = until_s - w->now_s;
    w->time += s;
    w->mean_time += s * mean;
    w->sd_time += s * (variance > 0 ? sqrt(variance) : 0);
    w->empty_time += s * w->empty;
    w->now_s = until_s;
}

/* --- coming and going --- */

static bool ends_before(const struct heap_node *a, const struct heap_node *b)
{
    const struct balance_job *x = heap_entry(a, struct balance_job, node), *y = heap_entry(b, struct balance_job, node);
    return x->end_s != y->end_s ? x->end_s < y->end_s : x->number < y->number;
}

static bool start(struct world *w, struct balance_job *j)
{
    j->on = pool_place(&w->pool, j->need, &j->taken);
    if (j->on == POOL_NONE)
        return false;
    j->end_s = w->now_s + j->run_s;
    heap_push(&w->running, &j->node);
    look(w, j->on);
    return true;
}

static void arrive(struct world *w, struct balance_job *j)
{
    pool_asked(&w->pool, j->need);
    if (start(w, j))
        return;
    w->waiting[w->waiting_count++] = j->number;
    w->out->waited++;
}

static void end(struct world *w, struct balance_job *j)
{
    heap_remove(&w->running, &j->node);
    pool_give_back(&w->pool, j->need, j->on, j->taken);
    look(w, j->on);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < w->waiting_count; i++)
        if (!start(w, &w->jobs[w->waiting[i]]))
            w->waiting[kept++] = w->waiting[i];
    w->waiting_count = kept;
}

void balance_run(enum gpus_policy policy, uint32_t nodes_count, uint32_t jobs_count, uint64_t seed, struct balance_result *out)
{
    struct prng prng;
    struct gpus_need needs[REQUESTS];
    *out = (struct balance_result){ .jobs = jobs_count };
    prng_seed(&prng, seed);
    autofree struct gpus_node *nodes = mem_alloc(nodes_count * sizeof *nodes);
    autofree struct balance_job *jobs = mem_zero(jobs_count, sizeof *jobs);
    autofree uint32_t *waiting = mem_zero(jobs_count, sizeof *waiting);
    autofree double *shares = mem_zero(nodes_count, sizeof *shares);
    make_needs(needs);
    make_jobs(jobs, jobs_count, make_nodes(nodes, nodes_count), &prng);
    struct world w = { .jobs = jobs, .waiting = waiting, .shares = shares, .empty = nodes_count, .out = out };
    pool_init(&w.pool, policy, prng_u64(&prng), nodes, nodes_count, needs, REQUESTS);
    heap_init(&w.running, ends_before);
    for (uint32_t i = 0; i < jobs_count; i++) {
        struct heap_node *first;
        while ((first = heap_first(&w.running)) && heap_entry(first, struct balance_job, node)->end_s <= jobs[i].arrival_s) {
            struct balance_job *j = heap_entry(first, struct balance_job, node);
            pass_time(&w, j->end_s);
            end(&w, j);
        }
        pass_time(&w, jobs[i].arrival_s);
        arrive(&w, &jobs[i]);
    }
    out->share_mean = w.mean_time / w.time;
    out->share_sd = w.sd_time / w.time;
    out->nodes_empty = w.empty_time / w.time;
    heap_fini(&w.running);
    pool_fini(&w.pool);
}
