#include "worker/worker_logs.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "io/clock.h"
#include "io/loop.h"
#include "worker/log_keeper.h"

struct world {
    struct exec exec; /* first: the executor of the test */
    struct loop *loop;
    struct worker_logs *logs;
    char dir[64];
    bool has_file;
    enum attempt_phase phase;
    size_t answers;
    struct message last;
    struct buf data;
    struct buf held;
};

static bool log_path(struct exec *x, struct attempt_ref ref, enum exec_stream stream, char *path, size_t size)
{
    struct world *w = (struct world *)x;
    snprintf(path, size, "%s/%llu.%s", w->dir, (unsigned long long)ref.job.n, stream == EXEC_STDERR ? "err" : "out");
    return w->has_file;
}

static const struct exec_ops ops = { .name = "test", .log_path = log_path };

static void phases(void *arg, const struct attempt_ref *refs, enum attempt_phase *out, size_t count)
{
    struct world *w = arg;
    for (size_t i = 0; i < count; i++)
        out[i] = refs[i].job.n == 1 ? w->phase : PHASE_NONE;
}

static void take_chunk(void *arg, const struct message *chunk)
{
    struct world *w = arg;
    w->answers++;
    w->last = *chunk;
    buf_clear(&w->data);
    buf_add(&w->data, chunk->log_chunk.data.data, chunk->log_chunk.data.size);
}

static int setup(void **state)
{
    struct world *w = mem_zero(1, sizeof *w);
    w->exec.ops = &ops;
    w->loop = loop_new();
    snprintf(w->dir, sizeof w->dir, "/tmp/rota-logs-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    struct worker_logs_port port = { w, &w->exec, phases, take_chunk };
    w->logs = worker_logs_new(w->loop, &port);
    w->has_file = true;
    w->phase = PHASE_RUNNING;
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", w->dir);
    worker_logs_free(w->logs);
    loop_free(w->loop);
    buf_fini(&w->data);
    buf_fini(&w->held);
    free(w);
    return system(command);
}

static void put(struct world *w, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", w->dir, name);
    FILE *f = fopen(path, "a");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void ask(struct world *w, uint64_t job, uint64_t offset, uint32_t bytes_max, int64_t wait_ms)
{
    struct message m = { .kind = MSG_LOG_READ };
    m.log_read.request = 77;
    m.log_read.ref = (struct attempt_ref){ { job }, TASK_SINGLE, 1 };
    m.log_read.offset = offset;
    m.log_read.bytes_max = bytes_max;
    m.log_read.wait_ms = wait_ms;
    worker_logs_read(w->logs, &m, clock_now_ms());
}

static void turn_until_answers(struct world *w, size_t answers)
{
    while (w->answers < answers)
        loop_turn(w->loop, 1000);
}

static void reads_pieces(void **state)
{
    struct world *w = *state;
    put(w, "1.out", "hello world\n");
    ask(w, 1, 0, 5, 0);
    assert_int_equal(w->answers, 1);
    assert_string_equal(w->data.data, "hello");
    assert_int_equal(w->last.log_chunk.request, 77);
    assert_int_equal(w->last.log_chunk.offset, 0);
    assert_false(w->last.log_chunk.ended);
    ask(w, 1, 6, 1000, 0);
    assert_string_equal(w->data.data, "world\n");
    assert_false(w->last.log_chunk.ended);
    w->phase = PHASE_ENDED;
    ask(w, 1, 6, 3, 0);
    assert_false(w->last.log_chunk.ended); /* there is more */
    ask(w, 1, 9, 1000, 0);
    assert_true(w->last.log_chunk.ended);
    ask(w, 1, 12, 1000, 5000);
    assert_true(w->last.log_chunk.ended);
    assert_int_equal(w->last.log_chunk.data.size, 0);
    ask(w, 1, UINT64_MAX, 1000, 0);
    assert_int_equal(w->last.log_chunk.data.size, 0);
    assert_int_equal(w->answers, 6);
}

static void waits_for_more(void **state)
{
    struct world *w = *state;
    put(w, "1.out", "a");
    ask(w, 1, 1, 100, 30000);
    assert_int_equal(w->answers, 0);
    assert_int_equal(worker_logs_waiting(w->logs), 1);
    put(w, "1.out", "bc");
    turn_until_answers(w, 1);
    assert_string_equal(w->data.data, "bc");
    assert_int_equal(worker_logs_waiting(w->logs), 0);

    ask(w, 1, 3, 100, 30000);
    w->phase = PHASE_ENDED;
    turn_until_answers(w, 2);
    assert_true(w->last.log_chunk.ended);

    w->phase = PHASE_RUNNING;
    ask(w, 1, 3, 100, 60); /* nothing comes: its time is up */
    turn_until_answers(w, 3);
    assert_int_equal(w->last.log_chunk.data.size, 0);
    assert_false(w->last.log_chunk.ended);

    w->phase = PHASE_ACCEPTED;
    w->has_file = false;
    ask(w, 1, 0, 100, 30000); /* not started yet */
    assert_int_equal(worker_logs_waiting(w->logs), 1);
    w->has_file = true;
    turn_until_answers(w, 4);
    assert_string_equal(w->data.data, "abc");
}

static void unknown_is_told(void **state)
{
    struct world *w = *state;
    ask(w, 2, 0, 100, 30000);
    assert_int_equal(w->answers, 1);
    assert_true(w->last.log_chunk.unknown);
    put(w, "2.out", "kept after its report was acknowledged");
    ask(w, 2, 0, 4, 0);
    assert_false(w->last.log_chunk.unknown);
    assert_string_equal(w->data.data, "kept");
}

static void waiting_reads_are_bounded(void **state)
{
    struct world *w = *state;
    put(w, "1.out", "");
    for (size_t i = 0; i < LOG_WAITS_MAX; i++)
        ask(w, 1, 0, 100, 30000);
    assert_int_equal(w->answers, 0);
    ask(w, 1, 0, 100, 30000);
    assert_int_equal(w->answers, 1);
    assert_int_equal(worker_logs_waiting(w->logs), LOG_WAITS_MAX);
    put(w, "1.out", "x");
    turn_until_answers(w, 1 + LOG_WAITS_MAX);
}

static void only_regular_files_are_opened(void **state)
{
    struct world *w = *state;
    char path[128];
    snprintf(path, sizeof path, "%s/1.out", w->dir);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    ask(w, 1, 0, 100, 0);
    assert_int_equal(w->last.log_chunk.data.size, 0);
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    ask(w, 1, 0, 100, 0); /* does not hang */
    assert_int_equal(w->last.log_chunk.data.size, 0);
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    ask(w, 1, 0, 100, 0);
    assert_int_equal(w->last.log_chunk.data.size, 0);
    assert_int_equal(log_file_open("/dev/null"), -1);
}

static void tails(void **state)
{
    struct world *w = *state;
    struct attempt_ref ref = { { 1 }, TASK_SINGLE, 1 };
    struct buf tail = BUF_INIT;
    log_tail(&w->exec, ref, EXEC_STDERR, 5, &tail);
    assert_int_equal(tail.size, 0);
    put(w, "1.err", "0123456789");
    log_tail(&w->exec, ref, EXEC_STDERR, 4, &tail);
    assert_string_equal(tail.data, "6789");
    log_tail(&w->exec, ref, EXEC_STDERR, 400, &tail);
    assert_string_equal(tail.data, "0123456789");
    buf_fini(&tail);
}

/* --- the keeper --- */

static void held(void *arg, struct buf *paths)
{
    struct world *w = arg;
    buf_add(paths, w->held.data, w->held.size);
}

static void put_old(struct world *w, const char *name, size_t bytes, int age_s)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", w->dir, name);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    char *data = mem_zero(1, bytes);
    memset(data, 'x', bytes);
    assert_int_equal(write(fd, data, bytes), (ssize_t)bytes);
    free(data);
    struct timespec times[2] = { { .tv_sec = 1000000000 - age_s }, { .tv_sec = 1000000000 - age_s } };
    assert_int_equal(futimens(fd, times), 0);
    close(fd);
}

static bool exists(struct world *w, const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", w->dir, name);
    return access(path, F_OK) == 0;
}

static void oldest_output_goes_first(void **state)
{
    struct world *w = *state;
    char path[160];
    snprintf(path, sizeof path, "%s/sub", w->dir);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/slots", w->dir);
    assert_int_equal(mkdir(path, 0700), 0);
    put_old(w, "slots/1.out", 65536, 5000);
    put_old(w, "new", 8192, 1);
    put_old(w, "sub/oldest", 8192, 900);
    put_old(w, "running", 8192, 800);
    put_old(w, "sub/old", 8192, 700);
    put_old(w, "middle", 8192, 500);
    snprintf(path, sizeof path, "%s/running", w->dir);
    buf_add(&w->held, path, strlen(path) + 1);

    struct log_keeper_config config = { w->dir, "slots", 5 * 8192, 1000, 3600000, w, held };
    struct log_keeper *k = log_keeper_new(w->loop, &config);
    log_keeper_look(k);
    while (log_keeper_busy(k))
        loop_turn(w->loop, 1000);
    assert_int_equal(log_keeper_removed(k), 0);
    assert_int_equal(log_keeper_bytes(k), 5 * 8192);

    put_old(w, "newest", 8192, 0); /* one too many: down to 7/8 of 40 KiB, which is four files of 8 KiB */
    log_keeper_look(k);
    while (log_keeper_busy(k))
        loop_turn(w->loop, 1000);
    assert_int_equal(log_keeper_removed(k), 2);
    assert_false(exists(w, "sub/oldest"));
    assert_true(exists(w, "running"));
    assert_false(exists(w, "sub/old"));
    assert_true(exists(w, "middle"));
    assert_true(exists(w, "new"));
    assert_true(exists(w, "newest"));
    log_keeper_free(k);

    config.bytes_max = 1 << 30;
    config.files_max = 2;
    k = log_keeper_new(w->loop, &config);
    log_keeper_look(k);
    log_keeper_free(k); /* while it looks: waits for it */
    k = log_keeper_new(w->loop, &config);
    log_keeper_look(k);
    while (log_keeper_busy(k))
        loop_turn(w->loop, 1000);
    assert_true(exists(w, "running"));
    assert_false(exists(w, "middle"));
    assert_true(exists(w, "slots/1.out"));
    log_keeper_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(reads_pieces),
        T(waits_for_more),
        T(unknown_is_told),
        T(waiting_reads_are_bounded),
        T(only_regular_files_are_opened),
        T(tails),
        T(oldest_output_goes_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
