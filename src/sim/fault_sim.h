/* fault_sim.h: master, workers, bus, store and processes in one thread on a virtual clock, with faults drawn from a seed.
 *
 * The brains and the gate are the real ones; what surrounds them is a model that may lose, double, delay and reorder messages,
 * cut links one way or both, crash and restart the master or a worker between any two of its effects, reboot a node, kill its
 * nursery, pause a process, make wall clocks jump, and fail a commit (rolled back for want of space, or unknown: there or not).
 * After each event the invariants of the guarantees are checked: I1 what was acknowledged is there, I2 one terminal state, I3 the
 * committed end is the one the process had, I4 one spawn per attempt, I5 attempts that may not overlap do not, I6 everything ends once the faults do, I7 no node is
 * overbooked, I8 attempts within their limits and infrastructure not counted, I9 nothing is dispatched after a cancel, I10 records
 * without holes; and that the replayed journal gives the state that is live. The same seed gives the same run, byte for byte. */
#ifndef ROTA_SIM_FAULT_SIM_H
#define ROTA_SIM_FAULT_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

struct fault_sim_options {
    uint64_t seed;
    bool trace;            /* tell every event in *out */
    bool quiet;            /* say nothing unless a check fails */
};

struct fault_sim_stats {
    uint64_t events, messages, lost, doubled, commits, records, master_crashes, worker_crashes, reboots, broker_faults, renewed, fenced, partitions, pauses,
        clock_steps, commit_errors, jobs, gangs, tasks, attempts, spawns;
    int64_t virtual_ms;
};

/* 0: every invariant held. Otherwise 1, and *out ends in one line that says which check failed and how to see it again.
 * A check() inside a brain aborts the process instead. */
int fault_sim_run(const struct fault_sim_options *options, struct fault_sim_stats *stats, struct buf *out);

#endif
