/* fairshare.h: what somebody has had lately, as a share of the cluster. Pure functions of numbers.
 *
 * `had` is the mean of the dominant share that was held, in which the past counts for half as much per half-life: held for ever,
 * a share of 0.3 is a mean of 0.3. Who goes first is decided by (had + held) / weight, smallest first: past and present count
 * alike, so that within one cycle those with the same past take turns, and who had too little catches up without locking the
 * others out.
 *
 * Sources: decay by half-life and accounts as a tree, compared level by level: Slurm's multifactor priority and Fair Tree (its
 * documentation); fair share over a window of time: Maui (Jackson, Snell, Clement, JSSPP 2001); the dominant share as the measure
 * and the progressive filling by it: DRF (Ghodsi and others, NSDI 2011). The sum of past and present is our own. */
#ifndef ROTA_CORE_POLICY_FAIRSHARE_H
#define ROTA_CORE_POLICY_FAIRSHARE_H

#include <stdint.h>

/* `had` after `held` was held for ms more. half_life_ms > 0; ms below 0 counts as 0. */
double fair_had(double had, double held, int64_t ms, int64_t half_life_ms);

#endif
