/* procfs.h: what /proc tells about processes: to find those of a job again, and to measure them. */
#ifndef ROTA_EXEC_PROCFS_H
#define ROTA_EXEC_PROCFS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct proc_stat {
    pid_t pid, parent, group, session;
    char state;         /* 'Z': a zombie */
    uint64_t cpu_ms;    /* its own and that of its children that were waited for */
    int64_t started_ms; /* CLOCK_BOOTTIME, in steps of 10 ms */
    uint64_t rss_bytes;
};

bool proc_stat_read(pid_t pid, struct proc_stat *out); /* false: there is no such process */
/* Bytes from and to disks. False: there is no such process, or it may not be asked. */
bool proc_io_read(pid_t pid, uint64_t *read_bytes, uint64_t *written_bytes);
void proc_each(void (*visit)(void *arg, const struct proc_stat *stat), void *arg);

/* The children of this process, made or adopted. */
void proc_each_child(void (*visit)(void *arg, const struct proc_stat *stat), void *arg);

/* A hash of NAME=VALUE, never 0; processes of one job carry the same ROTA_FENCE=... in their environment. */
uint64_t proc_fence_hash(const char *variable);
#define PROC_FENCE "ROTA_FENCE="
/* The hash of the process's ROTA_FENCE; 0: it has none, or may not be asked. */
uint64_t proc_fence(pid_t pid);

/* A job's processes, as far as they can be told without a cgroup: the session that its main process leads, and whoever
 * carries its fence. started_from_ms/until_ms: when the main process began, so that a number used again is not
 * mistaken. */
struct proc_job {
    pid_t main; /* 0: not known */
    int64_t started_from_ms, started_until_ms;
    uint64_t fence; /* 0: none */
};
bool proc_of_job(const struct proc_stat *stat, const struct proc_job *job);
/* Sends signo to each live process of the job; returns how many there were. */
uint32_t proc_signal_job(const struct proc_job *job, int signo);

#endif
