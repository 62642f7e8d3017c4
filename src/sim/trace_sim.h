/* trace_sim.h: a workload replayed through the master's brain on a virtual clock.
 *
 * The machine is one node of P processors, processors are the only resource, starting is free: a job started at t runs in
 * [t, t + run). Time is in whole seconds. At one instant first every job that ends then releases its processors, then every
 * job submitted then joins the queue, then one scheduling cycle runs; none runs at any other instant. Orders, backfilling
 * and placement are those of core/, called as the master calls them. */
#ifndef ROTA_SIM_TRACE_SIM_H
#define ROTA_SIM_TRACE_SIM_H

#include "core/sched/sched.h"
#include "sim/swf.h"

struct trace_policy {
    enum order_kind order;
    enum sched_backfill backfill;
    enum order_kind backfill_order; /* ORDERS: as `order` */
    bool predict;                   /* struct sched_config */
    bool one_by_one;                /* a cycle after each arrival and each end, as the pyss simulator does */
};

struct trace_stats {
    uint64_t cycles, steps, queue_most;
};

/* Fills start_s of every job. `progress` may be NULL. */
void trace_sim_run(struct swf_job *jobs, size_t count, int64_t procs, const struct trace_policy *policy, struct trace_stats *stats,
                   void (*progress)(void *arg, size_t ended), void *arg);

struct trace_metrics {
    size_t jobs;
    double wait_avg_s;
    int64_t wait_p50_s, wait_p95_s, wait_p99_s, wait_max_s;
    double slowdown_avg, slowdown_p95, slowdown_max; /* bounded: max(1, (wait + run) / max(run, 10 s)) */
    double utilisation;                              /* sum of run * processors / (P * makespan) */
    int64_t makespan_s;                              /* last end - first submission */
};
/* Percentiles are nearest-rank. Checks on the way that no processor was given out twice; aborts if one was. */
void trace_metrics(const struct swf_job *jobs, size_t count, int64_t procs, struct trace_metrics *out);

#endif
