/* journal_log.h: a master's journal as a workload log: what was submitted, when, and for how long it ran, to be replayed under other policies.
 *
 * A row for each task that ran to an end. It is submitted when it could run first (after its dependencies, its begin time, or its release); it ran for as long
 * as its last attempt; its estimate is its time limit. All nodes together are one pool of processors, a task takes the CPUs it asked for, in whole ones:
 * other resources, and where there is room for them, are left out. */
#ifndef ROTA_SIM_JOURNAL_LOG_H
#define ROTA_SIM_JOURNAL_LOG_H

#include "sim/swf.h"

/* dir_or_file: a state directory or its store, also of a master that runs: it is only read. procs: the CPUs of all nodes that were there at the same time, at
 * most. On failure *out is empty. */
int journal_log_read(struct swf *out, const char *dir_or_file, struct err *err);

#endif
