#include "exec/procfs.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/mem.h"

#define STAT_BYTES 1024
#define ENVIRON_BYTES (256 * 1024)
#define CHILDREN_BYTES (128 * 1024)
#define TICK_MS_SLACK 20 /* start times in /proc are rounded to ticks of 10 ms */

static ssize_t read_file(pid_t pid, const char *name, char *out, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    size_t got = 0;
    ssize_t n;
    while (got < size - 1 && (n = read(fd, out + got, size - 1 - got)) > 0)
        got += (size_t)n;
    out[got] = 0;
    return (ssize_t)got;
}

bool proc_stat_read(pid_t pid, struct proc_stat *out)
{
    char text[STAT_BYTES];
    if (read_file(pid, "stat", text, sizeof text) <= 0)
        return false;
    /* The name of the program may hold anything, so what follows is counted from its last parenthesis. */
    char *rest = strrchr(text, ')');
    if (!rest)
        return false;
    int parent, group, session;
    unsigned long long user, system, start;
    long long user_children, system_children, rss_pages;
    if (sscanf(rest + 1, " %c %d %d %d %*d %*d %*u %*u %*u %*u %*u %llu %llu %lld %lld %*d %*d %*d %*d %llu %*u %lld",
               &out->state, &parent, &group, &session, &user, &system, &user_children, &system_children, &start,
               &rss_pages) != 10)
        return false;
    uint64_t tick_ms = 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
    out->pid = pid;
    out->parent = parent;
    out->group = group;
    out->session = session;
    out->cpu_ms = (user + system + (uint64_t)(user_children + system_children)) * tick_ms;
    out->started_ms = (int64_t)(start * tick_ms);
    out->rss_bytes = rss_pages > 0 ? (uint64_t)rss_pages * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
    return true;
}

bool proc_io_read(pid_t pid, uint64_t *read_bytes, uint64_t *written_bytes)
{
    char text[STAT_BYTES];
    unsigned long long got, put;
    if (read_file(pid, "io", text, sizeof text) <= 0)
        return false;
    const char *from = strstr(text, "\nread_bytes: "), *to = strstr(text, "\nwrite_bytes: ");
    if (!from || !to || sscanf(from, "\nread_bytes: %llu", &got) != 1 || sscanf(to, "\nwrite_bytes: %llu", &put) != 1)
        return false;
    *read_bytes = got;
    *written_bytes = put;
    return true;
}

void proc_each(void (*visit)(void *arg, const struct proc_stat *stat), void *arg)
{
    DIR *d = opendir("/proc");
    if (!d)
        return;
    struct dirent *entry;
    while ((entry = readdir(d))) {
        struct proc_stat stat;
        if (isdigit((unsigned char)entry->d_name[0]) && proc_stat_read((pid_t)strtol(entry->d_name, NULL, 10), &stat))
            visit(arg, &stat);
    }
    closedir(d);
}

struct child_visit {
    void (*visit)(void *arg, const struct proc_stat *stat);
    void *arg;
    pid_t self;
};

static void visit_child(void *arg, const struct proc_stat *stat)
{
    struct child_visit *v = arg;
    if (stat->parent == v->self)
        v->visit(v->arg, stat);
}

void proc_each_child(void (*visit)(void *arg, const struct proc_stat *stat), void *arg)
{
    static char text[CHILDREN_BYTES];
    struct child_visit v = { visit, arg, getpid() };
    char name[64];
    snprintf(name, sizeof name, "task/%d/children", (int)v.self);
    /* Kernels without CONFIG_PROC_CHILDREN have no such file. */
    if (read_file(v.self, name, text, sizeof text) < 0) {
        proc_each(visit_child, &v);
        return;
    }
    struct proc_stat stat;
    for (char *at = text, *end; *at; at = *end ? end + 1 : end) {
        pid_t pid = (pid_t)strtol(at, &end, 10);
        if (end == at)
            break;
        if (proc_stat_read(pid, &stat))
            visit_child(&v, &stat);
    }
}

uint64_t proc_fence_hash(const char *variable)
{
    return XXH3_64bits(variable, strlen(variable)) | 1;
}

uint64_t proc_fence(pid_t pid)
{
    static char environment[ENVIRON_BYTES];
    ssize_t size = read_file(pid, "environ", environment, sizeof environment);
    for (const char *at = environment; at < environment + size; at += strlen(at) + 1)
        if (strncmp(at, PROC_FENCE, strlen(PROC_FENCE)) == 0)
            return proc_fence_hash(at);
    return 0;
}

bool proc_of_job(const struct proc_stat *stat, const struct proc_job *job)
{
    if (stat->state == 'Z')
        return false;
    /* Processes of the session began after its leader; a session of that number that began before is another one. */
    bool time_fits = stat->started_ms >= job->started_from_ms - TICK_MS_SLACK;
    if (job->main && stat->pid == job->main)
        return time_fits && stat->started_ms <= job->started_until_ms + TICK_MS_SLACK;
    if (job->main && stat->session == job->main && time_fits)
        return true;
    return job->fence && time_fits && proc_fence(stat->pid) == job->fence;
}

struct signal_visit {
    const struct proc_job *job;
    int signo;
    uint32_t count;
};

static void signal_one(void *arg, const struct proc_stat *stat)
{
    struct signal_visit *v = arg;
    if (stat->pid == getpid() || !proc_of_job(stat, v->job))
        return;
    /* The number may have been given to another process since it was looked at: hold the process, look again, then
     * signal. */
    autoclose int pidfd = (int)syscall(SYS_pidfd_open, stat->pid, 0);
    struct proc_stat again;
    if (pidfd < 0 || !proc_stat_read(stat->pid, &again) || again.started_ms != stat->started_ms)
        return;
    if (syscall(SYS_pidfd_send_signal, pidfd, v->signo, NULL, 0) == 0)
        v->count++;
}

uint32_t proc_signal_job(const struct proc_job *job, int signo)
{
    struct signal_visit v = { job, signo, 0 };
    proc_each(signal_one, &v);
    return v.count;
}
