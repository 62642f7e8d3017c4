/* store_bench: how fast is the store?
 *
 *     store_bench [DIR]            default: a new directory below $TMPDIR or /tmp, removed at the end
 *
 * Writes jobs through the store's thread, as the master does. A batch of size n has n SUBMITTED records with specs of
 * 200 bytes, n ASSIGNED of the jobs before and n STARTED and ENDED of those before them: 4 records per job, spread over
 * three commits, each with its sync. Then the time from opening a store with 1,000,000 pending jobs to the end of its
 * replay, after a clean close and after a kill. One line per measurement. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "io/clock.h"
#include "io/loop.h"
#include "store/store.h"

#define SPEC_BYTES 200
#define PENDING_JOBS 1000000u

struct wave {
    struct record *records;
    struct store_job *jobs;
    size_t records_count, jobs_count;
    char (*keys)[24];
};

struct bench {
    struct loop *loop;
    struct store *store;
    bool committed;
    uint64_t seq, jobs;
    char spec[SPEC_BYTES];
    bool keys;
};

static void on_commit(void *arg, enum store_outcome outcome, const struct err *err)
{
    struct bench *b = arg;
    if (outcome != STORE_COMMITTED) {
        fprintf(stderr, "store_bench: %s\n", err ? err->text : "not committed");
        exit(1);
    }
    b->committed = true;
}

static void bench_open(struct bench *b, const char *dir)
{
    struct err err;
    struct store_limits limits = { 0 };
    struct store_events events = { b, on_commit };
    b->loop = loop_new();
    b->store = store_sqlite_open(b->loop, dir, &limits, &events, &err);
    if (!b->store) {
        fprintf(stderr, "store_bench: %s\n", err.text);
        exit(1);
    }
    struct store_meta meta;
    b->store->ops->meta(b->store, &meta);
    b->seq = meta.last_seq;
}

static void bench_close(struct bench *b)
{
    b->store->ops->close(b->store);
    loop_free(b->loop);
}

static void begin(struct bench *b, const struct wave *w)
{
    struct store_batch batch = { .records = w->records, .records_count = w->records_count,
                                 .jobs = w->jobs, .jobs_count = w->jobs_count, .epoch = 1 };
    b->committed = false;
    b->store->ops->append(b->store, &batch);
}

static void finish(struct bench *b)
{
    while (!b->committed)
        loop_turn(b->loop, -1);
}

static void lead(struct bench *b)
{
    struct record r = { .kind = EV_EPOCH, .seq = ++b->seq, .epoch = { .epoch = 1 } };
    struct wave w = { .records = &r, .records_count = 1 };
    begin(b, &w);
    finish(b);
}

static void submit(struct bench *b, struct wave *w, uint64_t job, int64_t wall_ms)
{
    struct record *r = &w->records[w->records_count++];
    *r = (struct record){ .kind = EV_SUBMITTED, .seq = ++b->seq, .at_wall_ms = wall_ms };
    r->submitted = (struct ev_submitted){ .job = job, .class = 1, .name = bytes_str("bench"), .priority = 10 };
    struct store_job *j = &w->jobs[w->jobs_count];
    *j = (struct store_job){ { job }, bytes_of(b->spec, SPEC_BYTES), bytes_str("alice"), { NULL, 0 }, { NULL, 0 } };
    if (b->keys) {
        snprintf(w->keys[w->jobs_count], sizeof *w->keys, "%016" PRIx64, job * 0x9e3779b97f4a7c15u);
        j->key = bytes_str(w->keys[w->jobs_count]);
        j->key_digest = bytes_of(b->spec, 16);
    }
    w->jobs_count++;
}

static void run_job(struct bench *b, struct wave *w, uint64_t job, int stage, int64_t wall_ms)
{
    struct record *r = &w->records[w->records_count];
    if (stage == 1) {
        r[0] = (struct record){ .kind = EV_ASSIGNED, .seq = ++b->seq, .at_wall_ms = wall_ms };
        r[0].assigned =
            (struct ev_assigned){ .job = job, .task = TASK_SINGLE, .attempt = 1, .node = 1 + (uint32_t)(job % 100) };
        w->records_count++;
        return;
    }
    r[0] = (struct record){ .kind = EV_STARTED, .seq = ++b->seq, .at_wall_ms = wall_ms };
    r[0].started =
        (struct ev_started){ .job = job, .task = TASK_SINGLE, .attempt = 1, .node = 1 + (uint32_t)(job % 100) };
    r[1] = (struct record){ .kind = EV_ENDED, .seq = ++b->seq, .at_wall_ms = wall_ms };
    r[1].ended = (struct ev_ended){ .job = job, .task = TASK_SINGLE, .attempt = 1, .node = 1 + (uint32_t)(job % 100),
                                    .final = JOB_SUCCEEDED, .run_ms = 1234, .cpu_ms = 1000, .rss_max_bytes = 12345678,
                                    .stdout_bytes = 100, .counted = 1 };
    w->records_count += 2;
}

/* Jobs base+1 .. base+size are submitted, those of the two waves before are dispatched and ended. */
static void fill(struct bench *b, struct wave *w, uint64_t base, size_t size, size_t index)
{
    int64_t wall_ms = 1700000000000 + (int64_t)index;
    w->records_count = w->jobs_count = 0;
    for (size_t i = 1; i <= size; i++)
        submit(b, w, base + i, wall_ms);
    for (size_t i = 1; i <= size && index >= 1; i++)
        run_job(b, w, base - size + i, 1, wall_ms);
    for (size_t i = 1; i <= size && index >= 2; i++)
        run_job(b, w, base - 2 * size + i, 2, wall_ms);
}

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void measure(const char *dir, size_t size, uint64_t jobs, bool keys)
{
    struct bench b = { .keys = keys };
    char path[512];
    snprintf(path, sizeof path, "%s/batch-%zu%s", dir, size, keys ? "-keys" : "");
    bench_open(&b, path);
    lead(&b);
    struct wave waves[2];
    for (int i = 0; i < 2; i++)
        waves[i] = (struct wave){ mem_zero(4 * size, sizeof(struct record)), mem_zero(size, sizeof(struct store_job)),
                                  0, 0, mem_zero(size, sizeof *waves[i].keys) };
    double cpu_before = cpu_seconds();
    int64_t begun_ns = clock_now_ns();
    uint64_t records_before = b.seq, waves_count = jobs / size;
    for (size_t i = 0; i < waves_count; i++) {
        struct wave *w = &waves[i & 1];
        fill(&b, w, i * size, size, i); /* While the one before is being written. */
        if (i)
            finish(&b);
        begin(&b, w);
    }
    finish(&b);
    double seconds = (double)(clock_now_ns() - begun_ns) / 1e9;
    struct store_stats stats;
    b.store->ops->stats(b.store, &stats);
    printf("batch=%-6zu keys=%d jobs/s=%-9.0f records/s=%-9.0f commits/s=%-7.0f commit_ms_max=%.1f cpu=%.0f%% MB=%.0f "
           "wal_MB=%.0f\n",
           size, keys, (double)(waves_count * size) / seconds, (double)(b.seq - records_before) / seconds,
           (double)waves_count / seconds, (double)stats.commit_ns_max / 1e6,
           100 * (cpu_seconds() - cpu_before) / seconds, (double)stats.bytes / 1e6, (double)stats.wal_bytes / 1e6);
    fflush(stdout);
    bench_close(&b);
    for (int i = 0; i < 2; i++)
        free(waves[i].records), free(waves[i].jobs), free(waves[i].keys);
}

static int count_record(void *arg, const struct record *r, struct err *err)
{
    (void)r, (void)err;
    ++*(uint64_t *)arg;
    return 0;
}

static void restart(const char *dir, const char *how)
{
    struct bench b = { 0 };
    struct err err;
    uint64_t records = 0;
    int64_t begun_ns = clock_now_ns();
    bench_open(&b, dir);
    int64_t opened_ns = clock_now_ns();
    if (b.store->ops->replay(b.store, 1, 0, count_record, &records, &err) < 0) {
        fprintf(stderr, "store_bench: %s\n", err.text);
        exit(1);
    }
    int64_t end_ns = clock_now_ns();
    printf("restart after=%-5s records=%" PRIu64 " open_s=%.3f replay_s=%.3f total_s=%.3f\n", how, records,
           (double)(opened_ns - begun_ns) / 1e9, (double)(end_ns - opened_ns) / 1e9, (double)(end_ns - begun_ns) / 1e9);
    fflush(stdout);
    bench_close(&b);
}

static void measure_restart(const char *dir)
{
    char path[512];
    snprintf(path, sizeof path, "%s/restart", dir);
    pid_t child = fork();
    check(child >= 0);
    if (child == 0) {
        struct bench b = { 0 };
        struct wave w = { mem_zero(10000, sizeof(struct record)), mem_zero(10000, sizeof(struct store_job)), 0, 0,
                          NULL };
        bench_open(&b, path);
        lead(&b);
        for (uint64_t job = 0; job < PENDING_JOBS; job += 10000) {
            w.records_count = w.jobs_count = 0;
            for (uint64_t i = 1; i <= 10000; i++)
                submit(&b, &w, job + i, 1700000000000);
            begin(&b, &w);
            finish(&b);
        }
        kill(getpid(), SIGKILL);
    }
    int status;
    check(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    restart(path, "kill");
    restart(path, "close");
}

static void remove_tree(const char *dir)
{
    pid_t child = fork();
    check(child >= 0);
    if (child == 0) {
        execlp("rm", "rm", "-rf", "--", dir, (char *)NULL);
        _exit(127);
    }
    waitpid(child, NULL, 0);
}

int main(int argc, char **argv)
{
    char dir[256];
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/store_bench-XXXXXX", argc > 1 ? argv[1] : tmp ? tmp : "/tmp");
    if (!mkdtemp(dir)) {
        perror(dir);
        return 1;
    }
    if (argc > 2) { /* One measurement: DIR SIZE JOBS [keys]. */
        size_t size = strtoul(argv[2], NULL, 10);
        measure(dir, size, argc > 3 ? strtoul(argv[3], NULL, 10) : 1000000, argc > 4);
        remove_tree(dir);
        return 0;
    }
    measure(dir, 1, 10000, false);
    measure(dir, 100, 300000, false);
    measure(dir, 1000, 1000000, false);
    measure(dir, 10000, 1000000, false);
    measure(dir, 1000, 300000, true);
    measure_restart(dir);
    remove_tree(dir);
    return 0;
}
