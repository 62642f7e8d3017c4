/* Snapshots are made by a thread of their own that reads the journal as a start would: from the last snapshot on, into
 * a second brain. So the one that decides is never paused, and each snapshot is a proof that the journal up to it can
 * be read. It costs the memory of a second brain while it works, and a part of a CPU, which is bounded by a pause after
 * each. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/mem.h"
#include "core/sched/sched_snapshot.h"
#include "io/clock.h"
#include "io/thread.h"
#include "master/master_int.h"
#include "master/recovery.h"
#include "obs/log.h"

#define NICE 10
#define PAUSE_MS_MIN 2000 /* after a snapshot: ten times as long as it took, within these */
#define PAUSE_MS_MAX 60000
#define PAUSE_TIMES 10

struct snapshotter {
    struct master *m;
    struct loop_wake *wake;
    pthread_t thread;
    bool running;
    atomic_bool stop;
    uint64_t done_seq; /* of the last one */
    int64_t next_at_ms;
    /* the thread's own while it runs */
    uint64_t seq;
    int rc;
    int64_t took_ms;
    struct err err, refused;
};

static void write_pieces(void *arg, void (*emit)(void *to, struct bytes piece), void *to)
{
    sched_snapshot(arg, emit, to);
}

static void *make(void *arg)
{
    struct snapshotter *n = arg;
    struct master *m = n->m;
    int64_t begun_ns = clock_now_ns();
    setpriority(PRIO_PROCESS, (id_t)gettid(), NICE); /* Of this thread. A failure costs others a little. */
    struct recovery r = {
        .store = m->store, .config = &m->sched_config, .to_seq = n->seq, .apart = true, .stop = &n->stop
    };
    struct sched *s = recovery_run(&r, &n->err);
    n->refused = r.refused;
    n->rc = s ? m->store->ops->snapshot_save(m->store, n->seq, write_pieces, s, &n->err) : -(int)n->err.code;
    sched_free(s);
    n->took_ms = (clock_now_ns() - begun_ns) / 1000000;
    loop_wake(n->wake);
    return NULL;
}

static void on_made(void *arg)
{
    struct snapshotter *n = arg;
    pthread_join(n->thread, NULL);
    n->running = false;
    int64_t pause_ms = n->took_ms * PAUSE_TIMES;
    pause_ms = pause_ms < PAUSE_MS_MIN ? PAUSE_MS_MIN : pause_ms > PAUSE_MS_MAX ? PAUSE_MS_MAX : pause_ms;
    n->next_at_ms = clock_now_ms() + pause_ms;
    if (n->refused.code)
        log_warn("the last snapshot was no use: %s", n->refused.text);
    if (n->rc < 0) {
        log_warn("no snapshot: %s", n->err.text);
        return;
    }
    n->done_seq = n->seq;
    log_info("snapshot seq=%llu ms=%lld", (unsigned long long)n->seq, (long long)n->took_ms);
}

void snapshots_begin(struct master *m, uint64_t last_seq)
{
    struct snapshotter *n = m->snapshots = mem_zero(1, sizeof *n);
    n->m = m;
    n->done_seq = last_seq;
    n->wake = loop_wake_add(m->loop, on_made, n);
}

void snapshots_run(struct master *m)
{
    struct snapshotter *n = m->snapshots;
    uint64_t every = m->config->snapshot_records;
    if (!every || n->running || !m->ready || m->stopping || m->store_low || m->committed_seq - n->done_seq < every ||
        clock_now_ms() < n->next_at_ms)
        return;
    n->seq = m->committed_seq;
    n->err = n->refused = (struct err){ .code = ERR_OK };
    n->running = thread_start(&n->thread, NULL, make, n) == 0;
    if (!n->running) {
        log_warn("no snapshot: no thread for it");
        n->next_at_ms = clock_now_ms() + PAUSE_MS_MAX;
    }
}

void snapshots_end(struct master *m)
{
    struct snapshotter *n = m->snapshots;
    if (!n)
        return;
    atomic_store(&n->stop, true);
    if (n->running)
        pthread_join(n->thread, NULL);
    loop_wake_remove(n->wake);
    free(n);
    m->snapshots = NULL;
}
