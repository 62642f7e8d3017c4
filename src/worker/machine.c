#include "worker/machine.h"

#include <ctype.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/mem.h"

#define FILE_MAX 65536

/* The beginning of a small file below the root, with a final zero; empty if it cannot be read. */
static void read_small(const char *root, const char *path, char *out, size_t size)
{
    char full[PATH_MAX];
    out[0] = 0;
    if ((size_t)snprintf(full, sizeof full, "%s%s", root, path) >= sizeof full)
        return;
    autoclose int fd = open(full, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    size_t used = 0;
    while (used + 1 < size) {
        ssize_t n = read(fd, out + used, size - 1 - used);
        if (n <= 0)
            break;
        used += (size_t)n;
    }
    out[used] = 0;
}

/* --- memory --- */

/* "MemTotal:   24601234 kB" -> bytes; 0 if there is no such line. */
static uint64_t meminfo_bytes(const char *meminfo, const char *key)
{
    size_t key_size = strlen(key);
    for (const char *line = meminfo; line; line = strchr(line, '\n')) {
        if (*line == '\n')
            line++;
        if (strncmp(line, key, key_size) == 0 && line[key_size] == ':')
            return strtoull(line + key_size + 1, NULL, 10) * 1024;
    }
    return 0;
}

/* --- cgroups --- */

/* The path of this process in the hierarchy of a v1 controller, or in v2 when controller is "". */
static bool cgroup_path(const char *root, const char *controller, char *out, size_t size)
{
    char table[8192];
    read_small(root, "/proc/self/cgroup", table, sizeof table);
    char *save = NULL;
    for (char *line = strtok_r(table, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *names = strchr(line, ':');
        char *path = names ? strchr(names + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = 0;
        names++;
        bool found = strcmp(names, controller) == 0;
        char *list = NULL;
        for (char *name = strtok_r(names, ",", &list); name && !found; name = strtok_r(NULL, ",", &list))
            found = strcmp(name, controller) == 0;
        if (found)
            return (size_t)snprintf(out, size, "%s", path) < size;
    }
    return false;
}

/* Calls `each` for the group of this process and all groups above it: a limit anywhere on the way holds. */
static void cgroup_walk(const char *root, const char *controller, const char *mount,
                        void (*each)(void *arg, const char *root, const char *group), void *arg)
{
    char path[PATH_MAX], group[PATH_MAX + 64];
    if (!cgroup_path(root, controller, path, sizeof path))
        return;
    for (;;) {
        if ((size_t)snprintf(group, sizeof group, "%s%s", mount, strcmp(path, "/") == 0 ? "" : path) < sizeof group)
            each(arg, root, group);
        char *slash = strrchr(path, '/');
        if (!slash || path[0] == 0 || strcmp(path, "/") == 0)
            return;
        *slash = 0;
    }
}

static bool group_number(const char *root, const char *group, const char *file, int64_t *out)
{
    char path[PATH_MAX + 128], text[64];
    if ((size_t)snprintf(path, sizeof path, "%s/%s", group, file) >= sizeof path)
        return false;
    read_small(root, path, text, sizeof text);
    char *end;
    *out = strtoll(text, &end, 10);
    return end != text;
}

static void lower(uint64_t *value, uint64_t limit)
{
    if (limit && limit < *value)
        *value = limit;
}

static void each_v2(void *arg, const char *root, const char *group)
{
    struct resources *out = arg;
    char path[PATH_MAX + 128], text[64];
    snprintf(path, sizeof path, "%s/cpu.max", group); /* "max 100000" or "QUOTA PERIOD" in microseconds */
    read_small(root, path, text, sizeof text);
    char *end;
    uint64_t quota = strtoull(text, &end, 10);
    uint64_t period = end != text ? strtoull(end, NULL, 10) : 0;
    if (period)
        lower(&out->v[RES_CPU], quota * 1000 / period);
    int64_t bytes;
    if (group_number(root, group, "memory.max", &bytes) && bytes > 0)
        lower(&out->v[RES_MEM], (uint64_t)bytes);
}

static void each_v1_cpu(void *arg, const char *root, const char *group)
{
    struct resources *out = arg;
    int64_t quota, period;
    if (group_number(root, group, "cpu.cfs_quota_us", &quota) && quota > 0 &&
        group_number(root, group, "cpu.cfs_period_us", &period) && period > 0)
        lower(&out->v[RES_CPU], (uint64_t)quota * 1000 / (uint64_t)period);
}

static void each_v1_memory(void *arg, const char *root, const char *group)
{
    struct resources *out = arg;
    int64_t bytes;
    if (group_number(root, group, "memory.limit_in_bytes", &bytes) && bytes > 0)
        lower(&out->v[RES_MEM], (uint64_t)bytes);
}

/* --- capacity --- */

static uint64_t affinity_milli(void)
{
    /* The kernel refuses a mask smaller than its own: grow until it fits. */
    for (int cpus = 1024; cpus <= 1 << 16; cpus *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)cpus);
        if (!set)
            break;
        size_t size = CPU_ALLOC_SIZE((size_t)cpus);
        int got = sched_getaffinity(0, size, set) == 0 ? CPU_COUNT_S(size, set) : 0;
        CPU_FREE(set);
        if (got > 0)
            return (uint64_t)got * 1000;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return (uint64_t)(online > 0 ? online : 1) * 1000;
}

size_t machine_cpu_ids(uint32_t *out, size_t max)
{
    cpu_set_t set;
    size_t count = 0;
    if (sched_getaffinity(0, sizeof set, &set) < 0)
        return 0;
    for (uint32_t cpu = 0; cpu < CPU_SETSIZE && count < max; cpu++)
        if (CPU_ISSET(cpu, &set))
            out[count++] = cpu;
    return count;
}

static uint64_t gpus_milli(const char *root)
{
    char pattern[PATH_MAX];
    if ((size_t)snprintf(pattern, sizeof pattern, "%s/proc/driver/nvidia/gpus/*", root) >= sizeof pattern)
        return 0;
    glob_t found;
    uint64_t count = glob(pattern, GLOB_NOSORT, NULL, &found) == 0 ? found.gl_pathc : 0;
    globfree(&found);
    return count * 1000;
}

void machine_capacity(const char *root, struct resources *out)
{
    char *meminfo = mem_alloc(FILE_MAX);
    read_small(root, "/proc/meminfo", meminfo, FILE_MAX);
    *out = (struct resources){ 0 };
    out->v[RES_CPU] = affinity_milli();
    out->v[RES_MEM] = meminfo_bytes(meminfo, "MemTotal");
    out->v[RES_GPU] = gpus_milli(root);
    free(meminfo);
    cgroup_walk(root, "", "/sys/fs/cgroup", each_v2, out);
    cgroup_walk(root, "cpu", "/sys/fs/cgroup/cpu", each_v1_cpu, out);
    cgroup_walk(root, "memory", "/sys/fs/cgroup/memory", each_v1_memory, out);
    if (out->v[RES_CPU] == 0)
        out->v[RES_CPU] = 1;
}

/* --- load --- */

void machine_load(struct machine_meter *m, const char *root, int64_t now_ms, struct machine_load *out)
{
    char text[FILE_MAX / 8];
    *out = (struct machine_load){ 0 };

    read_small(root, "/proc/meminfo", text, sizeof text);
    uint64_t total = meminfo_bytes(text, "MemTotal"), available = meminfo_bytes(text, "MemAvailable");
    out->mem_used_bytes = total > available ? total - available : 0;

    read_small(root, "/proc/loadavg", text, sizeof text);
    double load = strtod(text, NULL);
    out->load_milli = load > 0 && load < 4e6 ? (uint32_t)(load * 1000) : 0;

    /* "cpu user nice system idle iowait irq softirq steal ...": busy is all but idle and iowait; guests are in user. */
    read_small(root, "/proc/stat", text, sizeof text);
    uint64_t busy = 0;
    if (strncmp(text, "cpu ", 4) == 0) {
        char *at = text + 4;
        for (int column = 0; column < 8; column++) {
            uint64_t ticks = strtoull(at, &at, 10);
            if (column != 3 && column != 4)
                busy += ticks;
        }
    }
    uint64_t passed_ms = (uint64_t)now_ms - m->wall_ms;
    if (m->wall_ms && passed_ms && busy >= m->busy_ticks)
        out->cpu_used_milli = (busy - m->busy_ticks) * 1000 * 1000 / (uint64_t)sysconf(_SC_CLK_TCK) / passed_ms;
    m->busy_ticks = busy;
    m->wall_ms = (uint64_t)now_ms;
}

/* "some avg10=1.23 avg60=..." (Linux, Documentation/accounting/psi.rst). */
static bool pressure_of(const char *root, const char *what, uint32_t *out)
{
    char path[64], text[256];
    double percent;
    snprintf(path, sizeof path, "/proc/pressure/%s", what);
    read_small(root, path, text, sizeof text);
    if (sscanf(text, "some avg10=%lf", &percent) != 1 || percent < 0 || percent > 100)
        return false;
    *out = (uint32_t)(percent * 100 + 0.5);
    return true;
}

bool machine_pressure(const char *root, struct machine_pressure *out)
{
    *out = (struct machine_pressure){ 0 };
    bool cpu = pressure_of(root, "cpu", &out->cpu), memory = pressure_of(root, "memory", &out->memory),
         io = pressure_of(root, "io", &out->io);
    return cpu || memory || io;
}

uint64_t machine_disk_bytes(int dir)
{
    struct statvfs v;
    return fstatvfs(dir, &v) < 0 ? 0 : (uint64_t)v.f_blocks * v.f_frsize;
}

uint64_t machine_free_bytes(int dir)
{
    struct statvfs v;
    return fstatvfs(dir, &v) < 0 ? UINT64_MAX : (uint64_t)v.f_bavail * v.f_frsize;
}

void machine_boot_id(const char *root, char *out, size_t size)
{
    read_small(root, "/proc/sys/kernel/random/boot_id", out, size);
    out[strcspn(out, "\n")] = 0;
    if (!out[0])
        snprintf(out, size, "unknown");
}

void machine_node_name(const char *name, char out[64])
{
    char host[256] = "";
    if (!name && gethostname(host, sizeof host - 1) == 0)
        name = host;
    size_t used = 0;
    for (const char *c = name ? name : ""; *c && used < 63; c++) {
        char small = (char)tolower((unsigned char)*c);
        out[used++] = (small >= 'a' && small <= 'z') || (small >= '0' && small <= '9') || small == '.' ? small : '-';
    }
    out[used] = 0;
    if (!used)
        snprintf(out, 64, "worker");
}
