/* cycle_bench.c: the scheduling cycle on the pure core, without I/O: 10,000 full nodes, 1,000,000 pending jobs.
 *
 * cycle_bench [NODES [JOBS]]: for a queue of few and of many shapes, prints how long it takes to submit a job, to fill
 * the empty cluster, to place a job when one node was freed (report and cycle, each one step; p50, p99 and longest of
 * many), to look at everything again (all nodes freed of their order, each shape tried), and to cancel a job.
 *
 * cycle_bench --growth: the same of 100 to 10,000 nodes and 10,000 to 1,000,000 pending jobs of 1,000 shapes, as one table. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mac.h"
#include "base/mem.h"
#include "core/sched/sched.h"
#include "core/sched/sched_view.h"

#define NODE_CPUS 8u
#define FREED 2000u

struct world {
    struct sched *s;
    struct mac *mac;
    int64_t now_ms, wake_at_ms;
    uint64_t placed;
    /* What runs: the last START of each node, to report the end of. */
    struct attempt_ref *last;
    uint32_t nodes;
};

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void step(struct world *w, struct sched_event *ev)
{
    struct effects fx;
    struct sched_result result;
    ev->now_ms = w->now_ms;
    ev->wall_ms = 1700000000000 + w->now_ms;
    sched_step(w->s, ev, &fx, &result);
    if (result.err.code) {
        fprintf(stderr, "cycle_bench: %s\n", result.err.text);
        exit(1);
    }
    w->wake_at_ms = fx.wake_at_ms;
    for (size_t i = 0; i < fx.sends_count; i++)
        if (fx.sends[i].message.kind == MSG_START) {
            w->placed++;
            w->last[fx.sends[i].session - 1] = fx.sends[i].message.start.ref;
        }
}

static void cycles(struct world *w)
{
    do {
        struct sched_event tick = { .kind = SCHED_TICK };
        step(w, &tick);
    } while (w->wake_at_ms <= w->now_ms);
}

static void join_all(struct world *w)
{
    for (uint32_t i = 1; i <= w->nodes; i++) {
        char name[32];
        snprintf(name, sizeof name, "node-%05u", i);
        struct message hello = { .kind = MSG_HELLO };
        hello.hello.worker = (struct worker_id){ 1, i };
        hello.hello.name = bytes_str(name);
        hello.hello.boot = bytes_str("boot");
        hello.hello.version = bytes_str("1");
        hello.hello.incarnation = 1;
        hello.hello.window = 65536;
        hello.hello.capacity.v[RES_CPU] = 1000 * NODE_CPUS;
        hello.hello.capacity.v[RES_MEM] = (64ull << 30) + i % 8 * 4096;
        struct sched_event ev = { .kind = SCHED_MESSAGE, .message = { i, &hello } };
        step(w, &ev);
    }
}

/* Job number i of a queue of so many shapes: 1 to 4 CPUs, and as much memory as makes it its own shape. */
static void submit(struct world *w, uint64_t i, uint64_t shapes)
{
    uint64_t shape = i * 2654435761u % shapes;
    struct sched_event ev = { .kind = SCHED_SUBMIT };
    ev.submit.user = bytes_str("user");
    ev.submit.queue = bytes_str("default");
    ev.submit.need.v[RES_CPU] = 1000 * (1 + shape % 4);
    ev.submit.need.v[RES_MEM] = (1ull << 30) + (shape / 4) * 4096;
    step(w, &ev);
}

static void finish(struct world *w, uint32_t node)
{
    struct attempt_ref ref = w->last[node];
    uint64_t numbers[3] = { ref.job.n, ref.task, ref.attempt };
    struct message end = { .kind = MSG_FINISHED };
    end.finished.ref = ref;
    end.finished.token = mac_numbers(w->mac, numbers, 3);
    end.finished.result.run_ms = 60000;
    struct sched_event ev = { .kind = SCHED_MESSAGE, .message = { node + 1, &end } };
    step(w, &ev);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Every node becomes another one for the order, as after a restart: nothing is remembered. */
static double rebuild(struct world *w)
{
    for (uint32_t i = 1; i <= w->nodes; i++) {
        struct sched_event drain = { .kind = SCHED_DRAIN, .node = { { i }, bytes_str("bench") } };
        step(w, &drain);
    }
    struct sched_event tick = { .kind = SCHED_TICK };
    step(w, &tick);
    for (uint32_t i = 1; i <= w->nodes; i++) {
        struct sched_event resume = { .kind = SCHED_RESUME, .node = { { i }, bytes_str("") } };
        step(w, &resume);
    }
    double begun = seconds();
    cycles(w);
    return seconds() - begun;
}

struct figures {
    double join_s, place_s, again_s;                          /* all of it */
    double submit_us, cancel_us;                              /* each */
    double cycle_p50_us, cycle_p99_us, cycle_most_us, report_p50_us;
    uint64_t placed_first, placed;                            /* at the beginning, and for freed nodes */
    double bytes;                                             /* of the tables, per job */
};

static double percentile(double *values, size_t count, size_t percent)
{
    qsort(values, count, sizeof *values, by_size);
    return values[percent == 100 ? count - 1 : count * percent / 100] * 1e6;
}

/* One node after the other is freed, and given to the next. */
static void free_nodes(struct world *w, struct figures *f)
{
    double report[FREED], cycle[FREED];
    uint64_t placed = w->placed;
    for (uint32_t i = 0; i < FREED; i++) {
        w->now_ms += 1;
        double begun = seconds();
        finish(w, (uint32_t)((uint64_t)i * 7919 % w->nodes));
        double middle = seconds();
        struct sched_event tick = { .kind = SCHED_TICK };
        step(w, &tick);
        cycle[i] = seconds() - middle;
        report[i] = middle - begun;
    }
    f->placed = w->placed - placed;
    f->report_p50_us = percentile(report, FREED, 50);
    f->cycle_p50_us = percentile(cycle, FREED, 50);
    f->cycle_p99_us = percentile(cycle, FREED, 99);
    f->cycle_most_us = percentile(cycle, FREED, 100);
}

static void cancel_all(struct world *w, uint64_t jobs, struct figures *f)
{
    struct sched_stats stats;
    sched_view_stats(w->s, &stats);
    double begun = seconds();
    for (uint64_t id = stats.job_last.n; id > stats.job_last.n - jobs; id--) {
        struct sched_event cancel = { .kind = SCHED_CANCEL };
        cancel.cancel.job.n = id;
        cancel.cancel.task = TASK_ALL;
        step(w, &cancel);
    }
    f->cancel_us = (seconds() - begun) * 1e6 / (double)jobs;
    f->bytes = (double)stats.memory_bytes / (double)(jobs + w->nodes * NODE_CPUS);
}

static struct figures measure(uint32_t nodes, uint64_t jobs, uint64_t shapes)
{
    struct figures f = { 0 };
    struct sched_config config;
    sched_config_default(&config);
    struct world w = { .s = sched_new(&config), .mac = mac_new(config.token_key), .now_ms = 1000, .nodes = nodes };
    w.last = mem_zero(nodes, sizeof *w.last);
    struct effects fx;
    sched_start(w.s, 1, "bench", 1, w.now_ms, 1700000000000, &fx);
    double begun = seconds();
    join_all(&w);
    f.join_s = seconds() - begun;
    for (uint64_t i = 0; i < (uint64_t)nodes * NODE_CPUS; i++)
        submit(&w, i, shapes);
    begun = seconds();
    cycles(&w);
    f.place_s = seconds() - begun;
    f.placed_first = w.placed;
    begun = seconds();
    for (uint64_t i = 0; i < jobs; i++)
        submit(&w, i, shapes);
    f.submit_us = (seconds() - begun) * 1e6 / (double)jobs;
    cycles(&w);
    free_nodes(&w, &f);
    f.again_s = rebuild(&w);
    cancel_all(&w, jobs, &f);
    sched_free(w.s);
    mac_free(w.mac);
    free(w.last);
    return f;
}

static void tell_shapes(uint32_t nodes, uint64_t jobs)
{
    static const uint64_t shapes[] = { 4, 1000, 100000 };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct figures f = measure(nodes, jobs, shapes[i]);
        printf("%7" PRIu64 " shapes: %u nodes join %.2f s; %" PRIu64 " placed in %.3f s (%.2f us each); submit %.2f us\n", shapes[i],
               nodes, f.join_s, f.placed_first, f.place_s, f.place_s * 1e6 / (double)f.placed_first, f.submit_us);
        printf("                one node freed, %u times, %" PRIu64 " jobs placed: cycle p50 %.1f us, p99 %.1f us, longest %.1f us; "
               "report p50 %.1f us\n", FREED, f.placed, f.cycle_p50_us, f.cycle_p99_us, f.cycle_most_us, f.report_p50_us);
        printf("                everything again: %.3f s\n", f.again_s);
        printf("                cancel %.2f us; tables %.0f bytes/job\n", f.cancel_us, f.bytes);
        fflush(stdout);
    }
}

static void tell_growth(void)
{
    static const uint32_t nodes[] = { 100, 1000, 10000 };
    static const uint64_t jobs[] = { 10000, 100000, 1000000 };
    printf("  nodes   pending   cycle p50   p99 us   longest   everything again   submit us   bytes/job\n");
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++)
        for (size_t k = 0; k < sizeof jobs / sizeof *jobs; k++) {
            struct figures f = measure(nodes[i], jobs[k], 1000);
            printf("%7u %9" PRIu64 " %11.1f %8.1f %9.1f %16.1f ms %11.2f %11.0f\n", nodes[i], jobs[k], f.cycle_p50_us, f.cycle_p99_us,
                   f.cycle_most_us, f.again_s * 1000, f.submit_us, f.bytes);
            fflush(stdout);
        }
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--growth") == 0) {
        tell_growth();
        return 0;
    }
    uint32_t nodes = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 10000;
    uint64_t jobs = argc > 2 ? strtoull(argv[2], NULL, 10) : 1000000;
    if (!nodes || !jobs) {
        fprintf(stderr, "usage: cycle_bench [NODES [JOBS]] | --growth\n");
        return 2;
    }
    tell_shapes(nodes, jobs);
    return 0;
}
