/* commands.h: the one table of what `rota` can do, for main, help, completion and the documentation. */
#ifndef ROTA_CLI_COMMANDS_H
#define ROTA_CLI_COMMANDS_H

#include "cli/args.h"

extern const struct command *const commands[]; /* in the order of the help; ends with NULL */
const struct command *command_named(const char *name); /* NULL: there is none */

/* One per subcommand, defined in the file that runs it. */
#define COMMANDS(COMMAND) \
    COMMAND(up) COMMAND(down) COMMAND(master) COMMAND(worker) COMMAND(check_config) COMMAND(inspect) COMMAND(backup) \
    COMMAND(submit) COMMAND(run) COMMAND(ls) COMMAND(show) COMMAND(why) COMMAND(whatif) COMMAND(logs) COMMAND(wait) \
    COMMAND(cancel) COMMAND(hold) COMMAND(release) COMMAND(retry) COMMAND(update) COMMAND(cron) \
    COMMAND(nodes) COMMAND(drain) COMMAND(resume) COMMAND(queues) COMMAND(queue) COMMAND(limit) COMMAND(top) COMMAND(events) COMMAND(stats) \
    COMMAND(dashboard) \
    COMMAND(sim) COMMAND(login) COMMAND(token) COMMAND(help) COMMAND(completion) COMMAND(version) \
    COMMAND(complete) COMMAND(man) COMMAND(docs)
#define COMMAND(name) extern const struct command command_##name;
COMMANDS(COMMAND)
#undef COMMAND

#endif
