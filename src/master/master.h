/* master.h: the master's shell: turns I/O into events, steps the brain, performs its effects through the gate.
 *
 * State directory: <state>/ store.db, store.db-wal, store.db-shm, store.lock, store.snapshot, store.reserve; token
 * (0600, the admin's bearer token), bus.sock, bus.key (0600). Exit codes: 0 asked to stop; 65 store corrupt or not
 * ours; 74 commit unknown (start again); 75 another master leads; 78 bad configuration. */
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
    const char *const *notify_hosts; /* NULL-terminated, hosts that jobs may have called; "*": any; NULL: none */
    const char *advertise;          /* URL by which workers reach the API, to keep their leases while the bus is silent; NULL: they cannot */
    int ready_fd;                   /* -1, or: one line "http://127.0.0.1:PORT\n" is written there when the API serves, then closed */
    uint64_t store_reserve_bytes;   /* default 64 MiB */
    uint64_t snapshot_records;      /* default 200,000: after so many a snapshot of the state is taken; 0: never */
    uint64_t queue_max;             /* = sched.jobs_max */
    bool
        accept_rollback; /* go on with a store that has lost what was acknowledged, or is older than the workers know */
    struct sched_config sched;
};
void master_config_default(struct master_config *c);
/* Runs until SIGTERM or SIGINT (jobs run on) and returns the exit code; *err says why if it is not 0. */
int master_run(const struct master_config *config, struct err *err);

/* Checks the store in a state directory, or a backup, without changing a byte, and prints what is in it: everything the
 * store can check of itself, that the records make sense to the brain, and that the snapshot and the records after it
 * give the state that all records give. ERR_CORRUPT: not so. Not for a process that has the store open. */
int master_inspect(const char *dir_or_file, struct buf *out, bool json, struct err *err);

#endif
