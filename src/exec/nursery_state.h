/* nursery_state.h: the inside of the nursery, shared by its four files and by nobody else:
 *   nursery.c       the process: start, loop, end           nursery_jobs.c  attempts and slots: starting, ending
 *   nursery_link.c  what the worker asks and is told        nursery_ends.c  making ends durable, and recovery */
#ifndef ROTA_EXEC_NURSERY_STATE_H
#define ROTA_EXEC_NURSERY_STATE_H

#include <sys/resource.h>
#include <sys/types.h>

#include "base/list.h"
#include "exec/cgroup.h"
#include "exec/nursery_log.h"
#include "exec/nursery_msg.h"
#include "exec/output.h"
#include "exec/ref_table.h"

#define LAZY_MS 2         /* how long what nobody waits for may wait for company */
#define CLEAR_MS_MAX 5000 /* for what a nursery left that died */
#define PID_BUCKETS 16384u
#define OUT_BYTES 65536
#define LINE_DEEP 8      /* with so many in line nobody is in a hurry: */
#define LAZY_DEEP_MS 8   /* what there is to tell may wait for more company */

enum { TELL_ATTEMPT = 1, TELL_STARTED = 2, TELL_VACATED = 4, TELL_ENDED = 8 };

/* What is known of an attempt, at its number in the table. */
struct attempt {
    struct list_node tell;      /* has events that were not sent */
    struct list_node undurable; /* has ended; its EXIT record was not synced */
    unsigned tells;             /* which events, TELL_... */
    bool ended, durable;        /* durable: its end may be told */
    bool started, vacated, rebooted;
    bool exclusive, fenced;     /* runs under the lease; was killed when that ran out */
    uint32_t slot, pid, own_streams;
    uint64_t place;
    struct attempt_ref passed_to; /* has its place now */
    int64_t begun_ms;
    uint64_t fence, output_bytes_max;
    struct attempt_result result;
    char text[EXIT_RECORD_TEXT_BYTES];
};

/* FREE -> RUNNING -> SETTLING (main process gone, others may be left) -> COOLING (the worker may still think of its
 * files as the old attempt's) -> FREE. A slot whose leftovers do not die stays SETTLING without an attempt. */
enum slot_state { SLOT_FREE, SLOT_RUNNING, SLOT_SETTLING, SLOT_COOLING };

struct slot {
    struct list_node node; /* in the list of its state; COOLING: from when the worker was told */
    enum slot_state state;
    uint32_t attempt; /* its number; REF_NONE: none (any more) */
    uint32_t last;    /* the attempt that used it last */
    pid_t pid;
    uint32_t pid_next; /* in its bucket of pids */
    int status;
    int64_t ended_ms;
    uint64_t cpu_ms, rss_max_bytes;
    uint64_t cooled_at; /* the event that told the worker */
    uint64_t hole_end[OUTPUT_STREAMS];
    bool leftovers; /* the last look found some (without cgroups) */
    struct cgroup_slot cgroup;
};

/* A start that waits for a place. Its attempt is in the table and nowhere else: not journalled, not told. */
struct waiting {
    struct list_node node; /* in nursery.line or nursery.line_free */
    struct nursery_request request; /* its strings are in `strings` */
    char strings[NURSERY_LINE_BYTES_MAX];
};

struct nursery {
    int state_dir, logs_dir, lock, epoll, signals, listener;
    struct cgroup_home cgroups;
    struct rlimit files_max; /* of jobs: as it was when we started */
    bool protected;          /* from the killer of processes when memory is short; jobs are not */
    struct nursery_log log;
    uint32_t syncing_count; /* of undurable: whose end the sync under way makes durable */

    struct ref_table refs;
    struct attempt *attempts; /* NURSERY_ATTEMPTS_MAX */
    struct slot *slots;       /* NURSERY_SLOTS_MAX */
    uint32_t slots_used;      /* so many have ever been used */
    uint32_t busy_count;      /* RUNNING or SETTLING */
    uint32_t *pid_buckets;
    struct list_node free, running, settling, cooling;
    struct list_node tell, undurable;
    struct waiting *waiting; /* EXEC_LINE_MAX */
    struct list_node line, line_free;
    uint32_t line_count;
    bool leased;            /* exclusive attempts may run, until lease_until_ms */
    int64_t lease_until_ms;
    int64_t now_ms;
    int64_t watch_ms, settle_ms, idle_ms; /* when next due */
    int64_t lazy_ms, sync_ms;             /* when events that are not urgent, and ends, have waited long enough */
    bool urgent;                          /* somebody waits for an event */

    int worker; /* its connection; -1: none */
    bool greeted, wants_vacated, writing, stopping;
    uint32_t listing; /* attempts still to be listed after HELLO; then LISTED */
    bool listed;
    uint64_t events_sent;
    uint8_t in[NURSERY_PACKET_BYTES_MAX];
    struct nursery_packet packet; /* being worked on, in `in` */
    bool packet_open;
    uint8_t out[OUT_BYTES];
    size_t out_size;
    char *strings[NURSERY_STRINGS_MAX + NURSERY_PATHS_COUNT + 3]; /* and one before argv, two NULLs */
};

static inline struct attempt_ref nursery_ref_of(const struct nursery *n, const struct attempt *a)
{
    return n->refs.refs[a - n->attempts];
}

static inline uint32_t nursery_slot_number(const struct nursery *n, const struct slot *s)
{
    return (uint32_t)(s - n->slots);
}

/* nursery_jobs.c */
struct attempt *nursery_attempt_add(struct nursery *n, struct attempt_ref ref); /* NULL: the table is full */
struct attempt *nursery_attempt_find(struct nursery *n, struct attempt_ref ref);
void nursery_attempt_remove(struct nursery *n, struct attempt *a);
struct exit_record nursery_spawning_record(const struct nursery *n, const struct attempt *a);
struct exit_record nursery_exit_record(const struct nursery *n, const struct attempt *a);
/* The number of bytes of each stream, its final name, and whether the cap cut it. */
void nursery_collect_output(struct nursery *n, struct attempt *a);
void nursery_slot_free(struct nursery *n, struct slot *s);
/* From the event just made on the worker knows that the slot's files are no longer the attempt's. */
void nursery_slot_told(struct nursery *n, const struct attempt *a);
void nursery_slots_cooled(struct nursery *n, uint64_t events_seen);
void nursery_line_drop(struct nursery *n);                          /* forgets all that wait in line */
void nursery_line_call(struct nursery *n, struct attempt_ref ref);  /* starts it now if it waits in line */
bool nursery_line_withdraw(struct nursery *n, struct attempt_ref ref); /* ends it unstarted; false: not in line */
/* False: the worker asks for more than it was told there is. */
bool nursery_spawn(struct nursery *n, const struct nursery_request *r);
void nursery_signal(struct nursery *n, struct attempt_ref ref, bool kill_it);
void nursery_lease(struct nursery *n, int64_t until_ms); /* moves it, unless it has run out */
void nursery_fence(struct nursery *n);  /* ends what runs under a lease that has run out; before any word that could renew it */
void nursery_stop(struct nursery *n);   /* kills everything; the nursery ends when it is gone */
void nursery_reap(struct nursery *n);   /* takes the ends of processes */
void nursery_settle(struct nursery *n); /* ends what jobs left, and then the jobs */
void nursery_watch(struct nursery *n);  /* looks at the output of what runs, some slots at a time */

/* nursery_link.c */
void nursery_tell(struct nursery *n, struct attempt *a, unsigned what);
void nursery_worker_accept(struct nursery *n);
void nursery_worker_read(struct nursery *n);
void nursery_work(struct nursery *n); /* on the packet at hand, some starts at a time */
void nursery_flush(struct nursery *n);

/* nursery_ends.c */
void nursery_sync_ends(struct nursery *n); /* starts a sync when one is due */
void nursery_synced(struct nursery *n);    /* it is done: tells them */
void nursery_compact(struct nursery *n);
/* Before anything else: resolves what the nursery before this one left. */
int nursery_recover(struct nursery *n, struct err *err);

#endif
