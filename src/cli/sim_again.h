/* sim_again.h: `rota sim STATE --again`. */
#ifndef ROTA_CLI_SIM_AGAIN_H
#define ROTA_CLI_SIM_AGAIN_H

#include "cli/args.h"

int sim_again(const struct args *args, const char *state); /* the exit code: 1 when a start differs */

#endif
