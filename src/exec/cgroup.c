#include "exec/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/mem.h"
#include "io/clock.h"
#include "obs/log.h"

#define HOME_PREFIX "rota-"
#define SLOT_PREFIX "slot"
#define ABANDONED_MS (10 * 60 * 1000)
#define SMALL_FILE_BYTES 4096
#define PIDS_BYTES 65536

static bool write_at(int dir, const char *name, const char *text)
{
    autoclose int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

/* The number behind `key ` at the start of a line of a file, or 0. */
static uint64_t read_counter(int dir, const char *name, const char *key)
{
    char text[SMALL_FILE_BYTES];
    autoclose int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (size <= 0)
        return 0;
    text[size] = 0;
    size_t length = strlen(key);
    for (char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (strncmp(line, key, length) == 0 && line[length] == ' ')
            return strtoull(line + length, NULL, 10);
    return 0;
}

/* Where the unified tree (type "cgroup2") or the v1 tree with the option `controller` is mounted. */
static bool mount_point(const char *type, const char *controller, char *out, size_t size)
{
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    if (!mounts)
        return false;
    struct mntent *m;
    bool found = false;
    while (!found && (m = getmntent(mounts))) {
        if (strcmp(m->mnt_type, type) != 0 || (controller && !hasmntopt(m, controller)))
            continue;
        snprintf(out, size, "%s", m->mnt_dir);
        found = true;
    }
    endmntent(mounts);
    return found;
}

/* The group that this process is in: the line "N:controller,...:PATH" of /proc/self/cgroup; "" names the unified tree.
 */
static bool own_group(const char *controller, char *out, size_t size)
{
    FILE *groups = fopen("/proc/self/cgroup", "re");
    if (!groups)
        return false;
    char line[PATH_MAX];
    bool found = false;
    while (!found && fgets(line, sizeof line, groups)) {
        char *save = NULL;
        char *list = strchr(line, ':');
        char *path = list ? strchr(list + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = 0;
        path[strcspn(path, "\n")] = 0;
        list++;
        found = !*controller && !*list;
        for (char *name = strtok_r(list, ",", &save); name && !found && *controller; name = strtok_r(NULL, ",", &save))
            found = strcmp(name, controller) == 0;
        if (found)
            snprintf(out, size, "%s", strcmp(path, "/") == 0 ? "" : path);
    }
    fclose(groups);
    return found;
}

/* Names our group after the state directory: two nurseries on one machine never share one. */
static bool group_name(const char *state_dir, char *out, size_t size)
{
    struct stat st;
    if (stat(state_dir, &st) < 0)
        return false;
    uint64_t place[2] = { st.st_dev, st.st_ino };
    snprintf(out, size, HOME_PREFIX "%016llx", (unsigned long long)XXH3_64bits(place, sizeof place));
    return true;
}

/* Calls `each` with the directory and name of every group in it whose name begins so. */
static void each_group(int home, const char *prefix, bool (*each)(int home, const char *name))
{
    int fd = openat(home, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d)
        return;
    struct dirent *entry;
    while ((entry = readdir(d)))
        if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0)
            each(home, entry->d_name);
    closedir(d);
}

static bool group_remove(int home, const char *name)
{
    return unlinkat(home, name, AT_REMOVEDIR) == 0;
}

/* Removes the groups of a nursery that was killed and whose state directory nobody opened again. One that lives holds a
 * lock on its groups; one that is being made is young; one with processes in it cannot be removed. */
static bool remove_abandoned(int parent, const char *name)
{
    struct stat st;
    autoclose int dir = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || fstat(dir, &st) < 0 || clock_wall_ms() - st.st_mtime * 1000 < ABANDONED_MS ||
        flock(dir, LOCK_EX | LOCK_NB) < 0)
        return false;
    each_group(dir, SLOT_PREFIX, group_remove);
    return group_remove(parent, name);
}

/* Makes and opens `tree`/`own group`/`name`, writes its path and holds a lock on it. -1: it cannot be had. */
static int group_open(const char *tree, const char *own, const char *name, char *path, size_t size)
{
    struct stat opened, there;
    int parent =
        snprintf(path, size, "%s%s", tree, own) < (int)size ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (parent >= 0) {
        each_group(parent, HOME_PREFIX, remove_abandoned);
        close(parent);
    }
    for (int tries = 0; tries < 3; tries++) {
        if (snprintf(path, size, "%s%s/%s", tree, own, name) >= (int)size || (mkdir(path, 0755) < 0 && errno != EEXIST))
            break;
        int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0)
            break;
        /* Another nursery may have taken it for abandoned before the lock was ours. */
        if (flock(dir, LOCK_SH | LOCK_NB) == 0 && fstat(dir, &opened) == 0 && stat(path, &there) == 0 &&
            opened.st_ino == there.st_ino)
            return dir;
        close(dir);
    }
    path[0] = 0;
    return -1;
}

static bool can_move_into(int dir)
{
    return faccessat(dir, "cgroup.procs", W_OK, AT_EACCESS) == 0;
}

static void home_drop(int *dir, char *path)
{
    if (*dir < 0)
        return;
    close(*dir);
    *dir = -1;
    rmdir(path);
    path[0] = 0;
}

/* Where the group we are in may hand its controller down, groups of slots get one. */
static bool hand_down(struct cgroup_home *home, const char *controller)
{
    autoclose int parent = openat(home->dir, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent >= 0)
        write_at(parent, "cgroup.subtree_control", controller);
    return write_at(home->dir, "cgroup.subtree_control", controller);
}

static void unified_open(struct cgroup_home *home, const char *name)
{
    char tree[PATH_MAX / 2], own[PATH_MAX / 2 - 64];
    if (!mount_point("cgroup2", NULL, tree, sizeof tree) || !own_group("", own, sizeof own))
        return;
    home->dir = group_open(tree, own, name, home->path, sizeof home->path);
    if (home->dir < 0)
        return;
    /* cgroup.kill came with Linux 5.14; without it a group cannot be emptied for certain. */
    if (!can_move_into(home->dir) || faccessat(home->dir, "cgroup.kill", W_OK, AT_EACCESS) < 0) {
        home_drop(&home->dir, home->path);
        return;
    }
    home->memory_unified = hand_down(home, "+memory");
    home->more[CGROUP_CPU].unified = hand_down(home, "+cpu");
    home->more[CGROUP_PIDS].unified = hand_down(home, "+pids");
}

static void v1_open(const char *controller, const char *name, int *dir, char path[PATH_MAX])
{
    char tree[PATH_MAX / 2], own[PATH_MAX / 2 - 64];
    if (!mount_point("cgroup", controller, tree, sizeof tree) || !own_group(controller, own, sizeof own))
        return;
    *dir = group_open(tree, own, name, path, PATH_MAX);
    if (*dir >= 0 && !can_move_into(*dir))
        home_drop(dir, path);
}

void cgroup_home_open(struct cgroup_home *home, const char *state_dir)
{
    *home = (struct cgroup_home){ .dir = -1, .memory_dir = -1, .more = { { .dir = -1 }, { .dir = -1 } } };
    char name[64];
    const char *wanted = getenv("ROTA_CGROUP");
    if ((wanted && strcmp(wanted, "off") == 0) || !group_name(state_dir, name, sizeof name))
        return;
    unified_open(home, name);
    if (!home->memory_unified)
        v1_open("memory", name, &home->memory_dir, home->memory_path);
    static const char *const controllers[] = { [CGROUP_CPU] = "cpu", [CGROUP_PIDS] = "pids" };
    for (int i = 0; i < CGROUP_MORE; i++)
        if (!home->more[i].unified)
            v1_open(controllers[i], name, &home->more[i].dir, home->more[i].path);
}

static bool group_kill(int home, const char *name)
{
    char file[300];
    snprintf(file, sizeof file, "%s/cgroup.kill", name);
    return write_at(home, file, "1");
}

void cgroup_home_clear(struct cgroup_home *home, int64_t wait_ms)
{
    if (home->dir < 0)
        return;
    int64_t until_ms = clock_now_ms() + wait_ms;
    while (read_counter(home->dir, "cgroup.events", "populated")) {
        each_group(home->dir, SLOT_PREFIX, group_kill);
        if (clock_now_ms() >= until_ms)
            return;
        usleep(1000);
    }
}

/* A process that has been waited for may still be on its way out of its group. */
static void home_remove(int dir, const char *path)
{
    for (int tries = 0; dir >= 0 && tries < 100; tries++) {
        each_group(dir, SLOT_PREFIX, group_remove);
        if (rmdir(path) == 0 || errno == ENOENT)
            return;
        if (tries == 99)
            log_warn("%s stays: %s", path, strerror(errno));
        usleep(1000);
    }
}

void cgroup_home_remove(struct cgroup_home *home)
{
    home_remove(home->dir, home->path);
    home_remove(home->memory_dir, home->memory_path);
    for (int i = 0; i < CGROUP_MORE; i++)
        home_remove(home->more[i].dir, home->more[i].path);
}

void cgroup_home_close(struct cgroup_home *home)
{
    if (home->dir >= 0)
        close(home->dir);
    if (home->memory_dir >= 0)
        close(home->memory_dir);
    home->dir = home->memory_dir = -1;
    for (int i = 0; i < CGROUP_MORE; i++) {
        if (home->more[i].dir >= 0)
            close(home->more[i].dir);
        home->more[i].dir = -1;
    }
}

static bool slot_open(const struct cgroup_home *home, struct cgroup_slot *s, const char *name)
{
    int dir = openat(home->dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return false;
    int events = openat(dir, "cgroup.events", O_RDONLY | O_CLOEXEC);
    if (events < 0) {
        close(dir);
        return false;
    }
    s->dir = dir;
    s->events = events;
    return true;
}

static void slot_close(struct cgroup_slot *s)
{
    if (s->events < 0)
        return;
    close(s->events);
    close(s->dir);
    s->events = s->dir = -1;
}

/* Linux 6.18 compares how often the parent's group was killed with how often the child's was, and takes a difference for
 * a kill that came during the fork: what is started in a group in which somebody was killed before dies at once. So one
 * that was killed is made anew, and so is one that a nursery before this one has left. */
bool cgroup_slot_open(struct cgroup_home *home, struct cgroup_slot *s, uint32_t slot)
{
    if (home->dir < 0 || (s->events >= 0 && !s->killed))
        return true;
    char name[32];
    snprintf(name, sizeof name, SLOT_PREFIX "%u", slot);
    slot_close(s);
    if (!group_remove(home->dir, name) && errno != ENOENT) {
        int error = errno;
        s->killed = slot_open(home, s, name);
        errno = error;
        return false;
    }
    s->killed = false;
    if (home->memory_unified)
        s->memory_limit = s->oom_kills = 0;
    for (int i = 0; i < CGROUP_MORE; i++)
        if (home->more[i].unified)
            s->more[i].limit = s->more[i].weight = 0;
    return mkdirat(home->dir, name, 0755) == 0 && slot_open(home, s, name);
}

static bool write_limit(int dir, const char *slot, const char *file, uint64_t bytes, const char *unlimited)
{
    char path[64], text[32];
    snprintf(path, sizeof path, "%s/%s", slot, file);
    snprintf(text, sizeof text, "%llu", (unsigned long long)bytes);
    return write_at(dir, path, bytes ? text : unlimited);
}

static bool limit_unified(struct cgroup_home *home, const char *slot, uint64_t mem_bytes)
{
    write_limit(home->dir, slot, "memory.swap.max", 0, mem_bytes ? "0" : "max");
    return write_limit(home->dir, slot, "memory.max", mem_bytes, "max");
}

/* The group of the slot in a tree of its own, made when it is first used. */
static bool v1_slot_open(int dir, const char *slot, int *tasks)
{
    char file[64];
    if (*tasks >= 0)
        return true;
    if (mkdirat(dir, slot, 0755) < 0 && errno != EEXIST)
        return false;
    snprintf(file, sizeof file, "%s/tasks", slot);
    *tasks = openat(dir, file, O_WRONLY | O_CLOEXEC);
    return *tasks >= 0;
}

static bool limit_v1(struct cgroup_home *home, struct cgroup_slot *s, const char *slot, uint64_t mem_bytes)
{
    if (!v1_slot_open(home->memory_dir, slot, &s->memory_tasks))
        return false;
    /* Memory with swap may never be the smaller limit: it goes first when both go up, last when both go down. */
    write_limit(home->memory_dir, slot, "memory.memsw.limit_in_bytes", 0, "-1");
    if (!write_limit(home->memory_dir, slot, "memory.limit_in_bytes", mem_bytes, "-1")) {
        /* What the job before left in the page cache counts until it is dropped. */
        write_limit(home->memory_dir, slot, "memory.force_empty", 0, "0");
        if (!write_limit(home->memory_dir, slot, "memory.limit_in_bytes", mem_bytes, "-1"))
            return false;
    }
    write_limit(home->memory_dir, slot, "memory.memsw.limit_in_bytes", mem_bytes, "-1");
    return true;
}

static uint64_t oom_kills(const struct cgroup_home *home, uint32_t slot)
{
    char file[64];
    snprintf(file, sizeof file,
             home->memory_unified ? SLOT_PREFIX "%u/memory.events" : SLOT_PREFIX "%u/memory.oom_control", slot);
    return read_counter(home->memory_unified ? home->dir : home->memory_dir, file, "oom_kill");
}

bool cgroup_slot_limit(struct cgroup_home *home, struct cgroup_slot *s, uint32_t slot, uint64_t mem_bytes)
{
    if (!cgroup_can_limit_memory(home) || mem_bytes == s->memory_limit)
        return true;
    char name[32];
    snprintf(name, sizeof name, SLOT_PREFIX "%u", slot);
    if (!(home->memory_unified ? limit_unified(home, name, mem_bytes) : limit_v1(home, s, name, mem_bytes)))
        return false;
    s->memory_limit = mem_bytes;
    s->oom_kills = oom_kills(home, slot);
    return true;
}

#define CPU_PERIOD_US 100000u
#define CPU_QUOTA_US_MIN 1000u /* the kernel takes no less */

static bool cpus_unified(struct cgroup_home *home, const char *slot, uint64_t weight_milli, uint64_t quota_us)
{
    char path[64], text[48];
    uint64_t weight = weight_milli / 10 < 1 ? 1 : weight_milli / 10 > 10000 ? 10000 : weight_milli / 10;
    if (quota_us)
        snprintf(text, sizeof text, "%llu %u", (unsigned long long)quota_us, CPU_PERIOD_US);
    else
        snprintf(text, sizeof text, "max %u", CPU_PERIOD_US);
    snprintf(path, sizeof path, "%s/cpu.max", slot);
    return write_limit(home->dir, slot, "cpu.weight", weight_milli ? weight : 100, "") && write_at(home->dir, path, text);
}

static bool cpus_v1(int dir, const char *slot, uint64_t weight_milli, uint64_t quota_us)
{
    uint64_t shares = weight_milli * 1024 / 1000 < 2 ? 2 : weight_milli * 1024 / 1000;
    return write_limit(dir, slot, "cpu.shares", weight_milli ? shares : 1024, "") &&
           write_limit(dir, slot, "cpu.cfs_period_us", CPU_PERIOD_US, "") &&
           write_limit(dir, slot, "cpu.cfs_quota_us", quota_us, "-1");
}

bool cgroup_slot_cpus(struct cgroup_home *home, struct cgroup_slot *s, uint32_t slot, uint32_t weight_milli, uint32_t quota_milli)
{
    if (!cgroup_can_limit(home, CGROUP_CPU) ||
        (s->more[CGROUP_CPU].weight == weight_milli && s->more[CGROUP_CPU].limit == quota_milli))
        return true;
    char name[32];
    uint64_t quota_us = (uint64_t)quota_milli * (CPU_PERIOD_US / 1000);
    if (quota_us && quota_us < CPU_QUOTA_US_MIN)
        quota_us = CPU_QUOTA_US_MIN;
    snprintf(name, sizeof name, SLOT_PREFIX "%u", slot);
    bool done = home->more[CGROUP_CPU].unified
                    ? cpus_unified(home, name, weight_milli, quota_us)
                    : v1_slot_open(home->more[CGROUP_CPU].dir, name, &s->more[CGROUP_CPU].tasks) &&
                          cpus_v1(home->more[CGROUP_CPU].dir, name, weight_milli, quota_us);
    if (done) {
        s->more[CGROUP_CPU].weight = weight_milli;
        s->more[CGROUP_CPU].limit = quota_milli;
    }
    return done;
}

bool cgroup_slot_pids(struct cgroup_home *home, struct cgroup_slot *s, uint32_t slot, uint32_t pids_max)
{
    if (!cgroup_can_limit(home, CGROUP_PIDS) || s->more[CGROUP_PIDS].limit == pids_max)
        return true;
    char name[32];
    snprintf(name, sizeof name, SLOT_PREFIX "%u", slot);
    if (!home->more[CGROUP_PIDS].unified && !v1_slot_open(home->more[CGROUP_PIDS].dir, name, &s->more[CGROUP_PIDS].tasks))
        return false;
    if (!write_limit(home->more[CGROUP_PIDS].unified ? home->dir : home->more[CGROUP_PIDS].dir, name, "pids.max", pids_max, "max"))
        return false;
    s->more[CGROUP_PIDS].limit = pids_max;
    return true;
}

bool cgroup_slot_empty(const struct cgroup_slot *s)
{
    char text[256];
    ssize_t size = pread(s->events, text, sizeof text - 1, 0);
    if (size <= 0)
        return false;
    text[size] = 0;
    return strstr(text, "populated 0") != NULL;
}

static bool each_pid(int procs, void (*visit)(void *arg, int pid), void *arg)
{
    static char text[PIDS_BYTES];
    size_t got = 0;
    ssize_t n;
    /* A group that holds more than fits is visited again by whoever wants it empty. */
    while (got < sizeof text - 1 && (n = pread(procs, text + got, sizeof text - 1 - got, (off_t)got)) > 0)
        got += (size_t)n;
    text[got] = 0;
    for (char *at = text, *end; *at; at = end + 1) {
        long pid = strtol(at, &end, 10);
        if (*end != '\n')
            break;
        if (pid > 0)
            visit(arg, (int)pid);
    }
    return true;
}

static void signal_pid(void *arg, int pid)
{
    kill(pid, *(int *)arg);
}

void cgroup_slot_signal(const struct cgroup_slot *s, int signo)
{
    autoclose int procs = openat(s->dir, "cgroup.procs", O_RDONLY | O_CLOEXEC);
    if (procs >= 0)
        each_pid(procs, signal_pid, &signo);
}

void cgroup_slot_kill(struct cgroup_slot *s)
{
    if (s->events < 0)
        return;
    write_at(s->dir, "cgroup.kill", "1");
    s->killed = true;
}

bool cgroup_slot_oom(struct cgroup_home *home, struct cgroup_slot *s, uint32_t slot)
{
    if (!s->memory_limit)
        return false;
    uint64_t before = s->oom_kills;
    s->oom_kills = oom_kills(home, slot);
    return s->oom_kills > before;
}

bool cgroup_each_pid(const char *path, uint32_t slot, void (*visit)(void *arg, int pid), void *arg)
{
    char file[PATH_MAX];
    if (!*path || snprintf(file, sizeof file, "%s/" SLOT_PREFIX "%u/cgroup.procs", path, slot) >= (int)sizeof file)
        return false;
    autoclose int fd = open(file, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && each_pid(fd, visit, arg);
}
