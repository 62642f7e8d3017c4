/* sim_outcome.h: what came of replays of one workload, as a table or as lines of JSON. */
#ifndef ROTA_CLI_SIM_OUTCOME_H
#define ROTA_CLI_SIM_OUTCOME_H

#include "sim/trace_report.h"
#include "sim/trace_sim.h"

#define OUTCOMES_MAX 64

/* What outcomes are compared by, in the order of the columns. */
enum measure { MEASURE_WAIT_AVG, MEASURE_WAIT_P95, MEASURE_WAIT_MAX, MEASURE_SLOWDOWN, MEASURE_UTILISATION, MEASURE_MAKESPAN, MEASURES };

struct outcome {
    struct trace_policy policy;
    struct trace_stats stats;
    struct trace_metrics metrics;
    double cpu_s;             /* what the replay cost */
    double *start_s;          /* of each job; yours to free; NULL: not kept */
    bool best[MEASURES];      /* nobody's is better, as far as it is printed; false for all where all are equal */
};

extern const char *const backfill_names[BACKFILLS];

void outcomes_best(struct outcome *all, size_t count);           /* fills `best` of each */
void outcomes_table(const struct outcome *all, size_t count);    /* to stdout */
void outcomes_compared(const struct outcome *all, size_t count); /* to stdout: the measures alone, what is best with a star */
/* One line to stdout. `best`: also the names of the measures in which it is best; NULL: not. */
void outcome_json(const struct outcome *o, const char *trace, int64_t procs, const bool *best);

/* All of it as a page in the file `path`. Wants start_s of each. */
int outcomes_report(struct outcome *all, size_t count, const char *trace, const struct report_job *jobs, size_t jobs_count,
                    const char *path, struct err *err);

#endif
