/* cgroup.h: the control groups that hold the processes of jobs.
 *
 * In the unified (v2) tree, also where it has no controllers, one group per slot: it says whether any process of a job
 * is left, and ends all of them at once (cgroup.kill). Memory is held by the memory controller, of v2 where it is
 * there, else of v1, with a group per slot of its own. Groups are made when a slot is first used and stay: using one
 * again costs nothing. All of it is optional: what is missing shows in cgroup_can_kill and cgroup_can_limit_memory. */
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
};

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

/* The groups of one slot. */
struct cgroup_slot {
    int procs, events; /* -1: not open */
    int memory_procs;  /* v1 */
    uint64_t memory_limit, oom_kills;
};
#define CGROUP_SLOT_NONE ((struct cgroup_slot){ -1, -1, -1, 0, 0 })

/* Opens, or makes, the group of the slot. False with errno: it cannot. */
bool cgroup_slot_open(struct cgroup_home *home, struct cgroup_slot *s, uint32_t slot);
/* Sets the limit (0: none) for the next job. False with errno: it cannot. */
bool cgroup_slot_limit(struct cgroup_home *home, struct cgroup_slot *s, uint32_t slot, uint64_t mem_bytes);
bool cgroup_slot_empty(const struct cgroup_slot *s);
void cgroup_slot_signal(const struct cgroup_slot *s, int signo); /* each process in it */
void cgroup_slot_kill(const struct cgroup_home *home, const struct cgroup_slot *s, uint32_t slot);
/* Whether a process of the job was killed for want of memory; to be asked once, after its end. */
bool cgroup_slot_oom(struct cgroup_home *home, struct cgroup_slot *s, uint32_t slot);

/* Visits the pids in the group of a slot below `path`; for who is not the nursery. False: no such group. */
bool cgroup_each_pid(const char *path, uint32_t slot, void (*visit)(void *arg, int pid), void *arg);

#endif
