/* worker.h: the worker's shell: turns bus and executor into events, steps the agent, performs its effects through the gate.
 *
 * State directory: <state>/ lock, journal (records of events.def with checksums), logs/, and the executor's own files.
 * A second worker on the same directory exits 75. SIGTERM, SIGINT: the worker ends, its jobs run on and are adopted by the
 * next worker on the directory. Exit codes as the master's. */
#ifndef ROTA_WORKER_H
#define ROTA_WORKER_H

#include "core/agent/agent.h"

struct worker_config {
    const char *state_dir;
    const char *bus_url;            /* required */
    const char *name;               /* NULL: host name */
    const char *exec;               /* "process" or "fake" */
    struct resources capacity;      /* 0 in a dimension: detected (CPUs from the affinity mask and cgroup, memory from the machine) */
    struct named_resource named[RES_NAMED_MAX]; size_t named_count;
    uint32_t window;                /* 0: default 8192 */
    uint64_t log_bytes_max;         /* per stream and attempt; 0: default 64 MiB */
    uint64_t disk_reserve_bytes;    /* below it nothing new starts; default 64 MiB */
    bool stop_jobs;                 /* at SIGTERM end the jobs and the nursery too (`rota up`) */
    int metrics_port;               /* -1: none */
};
void worker_config_default(struct worker_config *c);
int worker_run(const struct worker_config *config, struct err *err);

#endif
