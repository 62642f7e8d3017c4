/* submit.h: submitting what a command line of `rota submit` says, for those who print something else about it. */
#ifndef ROTA_CLI_SUBMIT_H
#define ROTA_CLI_SUBMIT_H

#include "cli/args.h"

/* args: of command_submit, with a command. Says errors itself. 0 and *id; or an exit code. */
int submit_one(const struct args *args, uint64_t *id);

#endif
