/* config.h: settings of the daemons (schema/config.def), from a YAML file and from options. Precedence: option, file,
 * default.
 *
 * A settings file is a map with the sections `master` and `worker`; each is a map of settings by name. Every fault in
 * it is reported with file, line and column; an unknown setting with the nearest name. */
#ifndef ROTA_CLI_CONFIG_H
#define ROTA_CLI_CONFIG_H

#include "base/arena.h"
#include "cli/args.h"
#include "master/master.h"
#include "worker/worker.h"

#define HOSTS_MAX 32

struct settings {
    struct master_config master;
    struct worker_config worker;
    struct daemon_log { int level; bool json; } master_log, worker_log;
    struct arena arena;              /* texts */
    const char *host_list[HOSTS_MAX + 1], *notify_list[HOSTS_MAX + 1];
    uint64_t set[2];                 /* one bit per row of config.def that was given */
};

enum config_role { CONFIG_master, CONFIG_worker };

void settings_init(struct settings *s);            /* the defaults of the table */
void settings_fini(struct settings *s);
/* The rows of a role as options, ending with a row without name. */
const struct option_row *config_options(enum config_role role);
/* The result is 0 when *faults got nothing added. */
int settings_from_yaml(struct settings *s, const char *file, struct bytes text, struct buf *faults);
int settings_from_args(struct settings *s, enum config_role role, const struct args *args, struct err *err);
/* What only the whole can say: the order of the time-outs, an address that others can reach. Adds lines to *faults. */
int settings_check(const struct settings *s, enum config_role role, struct buf *faults);
/* Fills what is decided at the start: directories, the bus. */
void settings_complete(struct settings *s);

#endif
