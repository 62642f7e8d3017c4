/* master.h: the master's shell: turns I/O into events, steps the brain, performs its effects through the gate.
 *
 * State directory: <state>/ store.db (+ -wal, lock, reserve), token (0600, the admin's bearer token), bus.sock, bus.key (0600).
 * Exit codes: 0 asked to stop; 65 store corrupt or not ours; 74 commit unknown (start again); 75 another master leads; 78 bad configuration. */
#ifndef ROTA_MASTER_H
#define ROTA_MASTER_H

#include "core/sched/sched.h"

struct master_config {
    const char *state_dir;
    const char *bus_url;            /* NULL: unix:<state_dir>/bus.sock */
    const char *address;            /* NULL: 127.0.0.1 */
    uint16_t port;                  /* 0: any free one; default 7682 */
    bool anywhere;                  /* allow an address that is not loopback (needs --insecure-bind without TLS) */
    const char *const *hosts;       /* NULL-terminated, further Host names; may be NULL */
    int ready_fd;                   /* -1, or: one line "http://127.0.0.1:PORT\n" is written there when the API serves, then closed */
    uint64_t store_reserve_bytes;   /* default 64 MiB */
    uint64_t queue_max;             /* = sched.jobs_max */
    struct sched_config sched;
};
void master_config_default(struct master_config *c);
/* Runs until SIGTERM or SIGINT (jobs run on) and returns the exit code; *err says why if it is not 0. */
int master_run(const struct master_config *config, struct err *err);

#endif
