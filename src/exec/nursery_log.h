/* nursery_log.h: the nursery's journal, and the one thread that syncs it.
 *
 * Space for records is allocated ahead, so that the end of everything that runs can be written although the disk is
 * full. A record that cannot be written, or synced, ends the process at once (exit 74): what is on the disk then is the
 * truth. */
#ifndef ROTA_EXEC_NURSERY_LOG_H
#define ROTA_EXEC_NURSERY_LOG_H

#include <pthread.h>

#include "base/err.h"
#include "exec/exit_record.h"

/* Output to be brought down to its cap before its end is told; done by the sync thread, as it may take its time. */
struct log_squeeze {
    struct attempt_ref ref;
    uint32_t stream;
    uint64_t written, cap;
};
#define LOG_SQUEEZES_MAX 64

struct nursery_log {
    int dir;      /* the state directory; borrowed */
    int logs_dir; /* for squeezes; borrowed */
    int fd;
    uint64_t used, room; /* bytes written; allocated */
    uint64_t compacted;  /* bytes when it was last rewritten */
    char boot[EXIT_RECORD_BOOT_BYTES];

    /* The sync thread. syncing: it works on fd and squeezes, which stay as they are until it is done. */
    bool syncing;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool asked;  /* under the lock */
    int done_fd; /* eventfd: readable when a sync is done */
    struct log_squeeze squeezes[LOG_SQUEEZES_MAX];
    uint32_t squeezes_count;
};

/* Reads the journal that is there and calls `visit` for each record; `rebooted`: it was written under another boot.
 * Returns how many places were no records: 0 also for a record cut short at the end. */
uint32_t nursery_log_read(int dir, void (*visit)(void *arg, const struct exit_record *r, bool rebooted), void *arg);
/* Writes a new journal with what `emit` adds (by nursery_log_add; at most `records`), syncs it and puts it in the place
 * of the old one. Not while a sync is under way. On failure the old one stays in use. */
int nursery_log_rewrite(struct nursery_log *l, uint32_t records, void (*emit)(void *arg, struct nursery_log *l),
                        void *arg, struct err *err);
int nursery_log_open(struct nursery_log *l, int dir, int logs_dir,
                     struct err *err); /* starts the thread; then rewrite */

/* Whether a SPAWNING record may be added: there is room for it and for the ends of `running` attempts and itself. */
bool nursery_log_ready(struct nursery_log *l, uint32_t running);
void nursery_log_add(struct nursery_log *l, const struct exit_record *r);
bool nursery_log_wants_rewrite(const struct nursery_log *l);

/* Starts a sync of everything added so far, and the squeezes that were put into l->squeezes. Not while one is under
 * way. */
void nursery_log_sync(struct nursery_log *l);
void nursery_log_sync_done(struct nursery_log *l); /* after done_fd was readable */

#endif
