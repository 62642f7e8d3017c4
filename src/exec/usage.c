#include "exec/usage.h"

void usage_add_process(struct exec_usage *u, const struct proc_stat *stat)
{
    uint64_t read_bytes = 0, written_bytes = 0;
    u->cpu_ms += stat->cpu_ms;
    u->rss_bytes += stat->rss_bytes;
    u->processes++;
    if (proc_io_read(stat->pid, &read_bytes, &written_bytes)) {
        u->read_bytes += read_bytes;
        u->written_bytes += written_bytes;
    }
}

void usage_add_pid(void *usage, int pid)
{
    struct proc_stat stat;
    if (proc_stat_read(pid, &stat))
        usage_add_process(usage, &stat);
}
