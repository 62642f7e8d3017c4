/* cgroup.h: the control groups that hold the processes of jobs.
 *
 * In the unified (v2) tree, also where it has no controllers, one group per slot: it says whether any process of a job
 * is left, and ends all of them at once (cgroup.kill). Memory is held by the memory controller, of v2 where it is
 * there, else of v1, with a group per slot of its own; and so are CPUs and the number of processes. Groups are made when a slot is first used and stay until somebody
 * is killed in them: using one again costs nothing. All of it is optional: what is missing shows in cgroup_can_kill and cgroup_can_limit_memory. */
#ifndef ROTA_EXEC_CGROUP_H
#define ROTA_EXEC_CGROUP_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cgroup_home {
    char path[PATH_MAX];        /* of our group in the unified tree; "": none */
    char memory_path[PATH_MAX]; /* in the v1 memory tree; "": none */
    int dir, memory_dir;        /* -1: none */
    bool memory_unified;        /* groups in the unified tree have memory.max */
    struct {
        char path[PATH_MAX]; /* in the v1 tree; "": none */
        int dir;             /* -1: none */
        bool unified;        /* groups in the unified tree have it */
    } more[2];               /* by enum cgroup_more */
};

enum cgroup_more { CGROUP_CPU, CGROUP_PIDS, CGROUP_MORE };

/* Finds or makes our groups for a state directory. Switched off by ROTA_CGROUP=off in the environment. */
void cgroup_home_open(struct cgroup_home *home, const char *state_dir);
/* Kills whatever a nursery before this one left in our groups and waits, at most wait_ms, until they are empty. */
void cgroup_home_clear(struct cgroup_home *home, int64_t wait_ms);
/* Removes our groups; those that are not empty stay. */
void cgroup_home_remove(struct cgroup_home *home);
void cgroup_home_close(struct cgroup_home *home);
static inline bool cgroup_can_kill(const struct cgroup_home *home)
{
    return home->dir >= 0;
}
static inline bool cgroup_can_limit_memory(const struct cgroup_home *home)
{
    return home->memory_unified || home->memory_dir >= 0;
}

static inline bool cgroup_can_limit(const struct cgroup_home *home, enum cgroup_more what)
{
    return home->more[what].unified || home->more[what].dir >= 0;
}

/* The groups of one slot. */
struct cgroup_slot {
    int dir, events; /* -1: not open */
    int memory_tasks; /* v1: a thread that writes "0" there joins, without the wait that cgroup.procs has; -1: not open */
    bool killed; /* by cgroup.kill: what is started in it later would be killed by some kernels (6.18 does) */
    uint64_t memory_limit, oom_kills;
    struct {
        int tasks; /* as memory_tasks */
        uint32_t limit, weight; /* that the group has now; 0: none */
    } more[CGROUP_MORE];
};
#define CGROUP_SLOT_NONE ((struct cgroup_slot){ -1, -1, -1, false, 0, 0, { { -1, 0, 0 }, { -1, 0, 0 } } })

/* Makes the group of the slot, anew after a kill. False with errno: it cannot; EBUSY: it is open, and others are in it. */
bool cgroup_slot_open(struct cgroup_home *home, struct cgroup_slot *s, uint32_t slot);
/* Sets the limit (0: none) for the next job. False with errno: it cannot. */
bool cgroup_slot_limit(struct cgroup_home *home, struct cgroup_slot *s, uint32_t slot, uint64_t mem_bytes);
/* Thousandths of CPUs: its share beside others when they are short, and what it never exceeds; 0: none. */
bool cgroup_slot_cpus(struct cgroup_home *home, struct cgroup_slot *s, uint32_t slot, uint32_t weight_milli, uint32_t quota_milli);
bool cgroup_slot_pids(struct cgroup_home *home, struct cgroup_slot *s, uint32_t slot, uint32_t pids_max);
bool cgroup_slot_empty(const struct cgroup_slot *s);
void cgroup_slot_signal(const struct cgroup_slot *s, int signo); /* each process in it */
void cgroup_slot_kill(struct cgroup_slot *s);
/* Whether a process of the job was killed for want of memory; to be asked once, after its end. */
bool cgroup_slot_oom(struct cgroup_home *home, struct cgroup_slot *s, uint32_t slot);

/* Visits the pids in the group of a slot below `path`; for who is not the nursery. False: no such group. */
bool cgroup_each_pid(const char *path, uint32_t slot, void (*visit)(void *arg, int pid), void *arg);

#endif
