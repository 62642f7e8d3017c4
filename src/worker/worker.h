/* worker.h: the worker's shell: turns bus and executor into events, steps the agent, performs its effects through the gate.
 *
 * State directory: <state>/ lock, journal (records of events.def with checksums), logs/, and the executor's own files.
 * A second worker on the same directory exits 75. SIGTERM, SIGINT: the worker ends, its jobs run on and are adopted by the
 * next worker on the directory. Exit codes as the master's. */
#ifndef ROTA_WORKER_H
#define ROTA_WORKER_H

#include "core/agent/agent.h"
#include "exec/exec.h"

#define METRICS_PORT 7683

enum worker_run_as { RUN_AS_WORKER, RUN_AS_SUBMITTER };

struct worker_config {
    const char *state_dir;
    const char *bus_url;            /* required */
    const char *name;               /* NULL: host name */
    const char *labels;             /* core/model/where.h; NULL: none */
    const char *exec;               /* "process", "docker" (both: see exec_both_open) or "fake" */
    const char *engine, *container_user, *container_network; /* "docker"; NULL or "": as in exec.h */
    const char *container_mounts;   /* "DIR[:ro],DIR..."; NULL or "": none */
    uint32_t container_pids;        /* 0: default */
    uint64_t container_tmp_bytes;   /* 0: default */
    struct exec_process_config process; /* limits of jobs that are processes */
    bool pin_cpus;                  /* each job gets CPUs of its own */
    enum worker_run_as run_as;      /* SUBMITTER: only as root */
    uint32_t run_as_uid_min;        /* SUBMITTER: no user with a lower id */
    struct resources capacity;      /* 0 in a dimension: detected (CPUs from the affinity mask and cgroup, memory from the machine) */
    struct named_resource named[RES_NAMED_MAX]; size_t named_count;
    uint32_t window;                /* 0: default 8192 */
    uint64_t log_bytes_max;         /* per stream and attempt; 0: default 64 MiB */
    uint64_t disk_reserve_bytes;    /* below it nothing new starts; default 64 MiB */
    bool stop_jobs;                 /* at SIGTERM end the jobs and the nursery too (`rota up`) */
    bool no_metrics;                /* serve none */
    int metrics_port;               /* -1: METRICS_PORT, or any free one if that is taken; 0: any free one */
    const char *metrics_address;    /* NULL: 127.0.0.1 */
    bool anywhere;                  /* the address need not be a loopback */
};
void worker_config_default(struct worker_config *c);
int worker_run(const struct worker_config *config, struct err *err);

#endif
