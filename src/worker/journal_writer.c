#include "worker/journal_writer.h"

#include <pthread.h>

#include "base/check.h"
#include "base/mem.h"
#include "io/clock.h"
#include "io/loop.h"
#include "io/thread.h"

struct journal_writer {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t work;
    bool busy;    /* given and not yet done: written by the loop's thread only */
    bool given;   /* under the mutex, as all below */
    bool written;
    bool stop;
    const struct record *records;
    size_t count;
    struct journal_snapshot snapshot;
    struct journal_written result;

    struct journal *journal; /* the thread's own */
    struct loop_wake *wake;
    void (*done)(void *arg, const struct journal_written *result);
    void *arg;
};

static void write_batch(struct journal_writer *w, struct journal_written *out)
{
    int64_t start = clock_now_ns();
    *out = (struct journal_written){ 0 };
    int rc = -(int)ERR_NO_SPACE;
    if (w->snapshot.records) {
        uint64_t next_seq = w->count ? w->records[w->count - 1].seq + 1 : 0;
        check(next_seq);
        rc = journal_replace(w->journal, &w->snapshot, next_seq, &out->err);
        out->replaced_bytes = rc == 0 ? journal_bytes(w->journal) : 0;
        journal_snapshot_fini(&w->snapshot);
    }
    if (rc == -(int)ERR_NO_SPACE) {
        out->err = (struct err){ 0 };
        journal_append(w->journal, w->records, w->count, &out->err);
    }
    out->bytes = journal_bytes(w->journal);
    out->low = journal_low(w->journal);
    out->took_ns = clock_now_ns() - start;
}

static void *run(void *arg)
{
    struct journal_writer *w = arg;
    pthread_mutex_lock(&w->mutex);
    for (;;) {
        while (!w->given && !w->stop)
            pthread_cond_wait(&w->work, &w->mutex);
        if (!w->given)
            break;
        pthread_mutex_unlock(&w->mutex);
        struct journal_written result;
        write_batch(w, &result);
        pthread_mutex_lock(&w->mutex);
        w->result = result;
        w->given = false;
        w->written = true;
        loop_wake(w->wake);
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

static void on_wake(void *arg)
{
    struct journal_writer *w = arg;
    pthread_mutex_lock(&w->mutex);
    bool written = w->written;
    w->written = false;
    struct journal_written result = w->result;
    pthread_mutex_unlock(&w->mutex);
    if (!written)
        return;
    w->busy = false;
    w->done(w->arg, &result);
}

struct journal_writer *journal_writer_new(struct loop *loop, struct journal *j,
                                          void (*done)(void *arg, const struct journal_written *result), void *arg)
{
    struct journal_writer *w = mem_zero(1, sizeof *w);
    w->journal = j;
    w->done = done;
    w->arg = arg;
    w->wake = loop_wake_add(loop, on_wake, w);
    check(pthread_mutex_init(&w->mutex, NULL) == 0 && pthread_cond_init(&w->work, NULL) == 0);
    check(thread_start(&w->thread, NULL, run, w) == 0);
    return w;
}

void journal_writer_write(struct journal_writer *w, const struct record *records, size_t count,
                          struct journal_snapshot *snapshot)
{
    check(!w->busy && count);
    w->busy = true;
    pthread_mutex_lock(&w->mutex);
    check(!w->given && !w->written);
    w->records = records;
    w->count = count;
    if (snapshot) {
        w->snapshot = *snapshot;
        *snapshot = (struct journal_snapshot){ 0 };
    }
    w->given = true;
    pthread_cond_signal(&w->work);
    pthread_mutex_unlock(&w->mutex);
}

void journal_writer_free(struct journal_writer *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->mutex);
    w->stop = true;
    pthread_cond_signal(&w->work);
    pthread_mutex_unlock(&w->mutex);
    pthread_join(w->thread, NULL);
    loop_wake_remove(w->wake);
    journal_snapshot_fini(&w->snapshot);
    journal_close(w->journal);
    pthread_cond_destroy(&w->work);
    pthread_mutex_destroy(&w->mutex);
    free(w);
}
