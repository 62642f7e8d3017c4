/* sim_pods.h: `rota sim PODS.csv --nodes NODES.csv`: a list of pods placed on a list of nodes; `rota sim --balance`: how evenly nodes
 * are loaded. */
#ifndef ROTA_CLI_SIM_PODS_H
#define ROTA_CLI_SIM_PODS_H

#include "cli/args.h"

int sim_pods(const struct args *args, const char *path); /* the exit code */
int sim_balance(const struct args *args);

#endif
