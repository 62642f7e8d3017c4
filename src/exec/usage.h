/* usage.h: adds up what the processes of an attempt use. */
#ifndef ROTA_EXEC_USAGE_H
#define ROTA_EXEC_USAGE_H

#include "exec/exec.h"
#include "exec/procfs.h"

void usage_add_process(struct exec_usage *u, const struct proc_stat *stat);
void usage_add_pid(void *usage, int pid); /* struct exec_usage; a process that has gone adds nothing */

#endif
