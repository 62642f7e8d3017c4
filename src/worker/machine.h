/* machine.h: what this machine has and how busy it is, as far as it is ours: CPU affinity and cgroup limits count. */
#ifndef ROTA_WORKER_MACHINE_H
#define ROTA_WORKER_MACHINE_H

#include "base/buf.h"
#include "core/model/resources.h"

/* CPUs (thousandths), memory and GPUs a worker here can give out. `root` is put before /proc and /sys: "" but in tests. */
void machine_capacity(const char *root, struct resources *out);

/* Numbers of the CPUs that this process may run on, at most max, rising. Returns how many. */
size_t machine_cpu_ids(uint32_t *out, size_t max);

struct machine_load {
    uint64_t cpu_used_milli; /* busy CPUs since the last call, in thousandths; 0 at the first */
    uint64_t mem_used_bytes;
    uint32_t load_milli;     /* 1-minute load average */
};
struct machine_meter {
    uint64_t busy_ticks, wall_ms; /* of the last reading */
};
void machine_load(struct machine_meter *m, const char *root, int64_t now_ms, struct machine_load *out);

struct machine_pressure {
    uint32_t cpu, memory, io; /* 10-second average of time in which something waited, in hundredths of a percent */
};
bool machine_pressure(const char *root, struct machine_pressure *out); /* false: the kernel does not tell */

/* Bytes an ordinary user may still write below the open directory. UINT64_MAX: unknown. */
uint64_t machine_free_bytes(int dir);
uint64_t machine_disk_bytes(int dir); /* its disk's size; 0: unknown */
/* Kernel boot id: 36 characters; "unknown" where there is none. */
void machine_boot_id(const char *root, char *out, size_t size);
/* The host's name, or `name`, as a node name: [a-z0-9.-], 1..63 characters. */
void machine_node_name(const char *name, char out[64]);

#endif
