/* sim_trace.h: `rota sim TRACE`: a workload log replayed through the scheduler. */
#ifndef ROTA_CLI_SIM_TRACE_H
#define ROTA_CLI_SIM_TRACE_H

#include "cli/args.h"

int sim_trace(const struct args *args, const char *path); /* the exit code */

#endif
