/* sizing.h: what jobs of the same user and name used, and the request that would have suited them. Made from the ends of
 * attempts as they are replayed at start and committed. Pure; bounded: of each name the last SIZING_RUNS runs, of names
 * those SIZING_NAMES_MAX that a run of ended last.
 *
 * The rule. Runs that succeeded count with their peak of memory, and runs that ended for want of memory, whose peak is at
 * least what they asked for; other ends tell nothing, the peak may have been still to come. With SIZING_RUNS_MIN runs or
 * more the memory suggested is the larger of
 *   the largest peak of those that succeeded, and 15 % more,
 *   the largest peak of those that had too little, and 50 % more,
 * rounded up: to 16 MiB below 256 MiB, to 64 MiB below 1 GiB, to 512 MiB below 8 GiB, else to 1 GiB.
 * CPUs are suggested if SIZING_RUNS_MIN of the runs that succeeded took a second or more: the largest mean of a run, less
 * 5 % for what is measured badly, rounded up to 0.1 below 1, to 0.5 below 4, else to 1. They need no margin: who has too
 * few is slower, and lives. */
#ifndef ROTA_MASTER_SIZING_H
#define ROTA_MASTER_SIZING_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

#define SIZING_RUNS 20u
#define SIZING_RUNS_MIN 3u
#define SIZING_NAMES_MAX 4096u /* some 2 MiB in all */
#define SIZING_CPU_RUN_MS 1000 /* of shorter runs the mean of CPUs tells little */

struct sizing_run {
    bool oom;                /* else it succeeded */
    uint64_t mem_max_bytes;  /* 0: not known, the run does not count */
    uint64_t mem_asked_bytes;
    uint64_t cpu_ms;
    int64_t run_ms;
};

struct sizing_advice {
    uint32_t runs, ooms;         /* that count, and of them those that had too little memory */
    uint64_t mem_max_bytes;      /* the most that one of them used */
    uint64_t mem_bytes;          /* suggested */
    uint64_t cpu_max_milli;      /* the largest mean of a run */
    uint64_t cpu_milli;          /* suggested; 0: nothing is */
};

struct sizing;
struct sizing *sizing_new(void);
void sizing_free(struct sizing *z); /* NULL is fine */
void sizing_add(struct sizing *z, struct bytes user, struct bytes name, const struct sizing_run *run);
/* False: too few runs are known; *out says how many. */
bool sizing_find(const struct sizing *z, struct bytes user, struct bytes name, struct sizing_advice *out);

#endif
