/* balance.h: how evenly a placement policy loads nodes: mixed jobs on nodes of three sizes, that come and go on a virtual clock.
 *
 * The workload is made from the seed: jobs arrive at random (Poisson), ask for CPUs, memory and at times GPUs, and run for times that
 * differ a hundredfold. Who fits nowhere waits; at each end those who wait are tried in order. Of each node the dominant share is
 * looked at; what is told are means over time, while jobs arrive. */
#ifndef ROTA_SIM_BALANCE_H
#define ROTA_SIM_BALANCE_H

#include "core/policy/gpus.h"

struct balance_result {
    uint64_t jobs, waited;
    double share_mean;  /* of the dominant shares of all nodes */
    double share_sd;    /* standard deviation over the nodes */
    double nodes_empty; /* nodes without a job */
};

/* `nodes`: a multiple of 5, at most 100,000. The jobs are the same for every policy. */
void balance_run(enum gpus_policy policy, uint32_t nodes, uint32_t jobs, uint64_t seed, struct balance_result *out);

#endif
