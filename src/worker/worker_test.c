/* The whole worker against a master that the test plays: the worker in a process of its own, the bus a unix socket. */
#include "worker/worker.h"

#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/mem.h"
#include "bus/bus.h"
#include "exec/nursery.h"
#include "io/clock.h"
#include "io/loop.h"
#include "obs/log.h"
#include "wire/spec.h"
#include "wire/wire.h"
#include "worker/journal.h"

#define PATIENCE_MS (getenv("ROTA_TEST_PATIENCE_MS") ? atoi(getenv("ROTA_TEST_PATIENCE_MS")) : 60000)

/* What the master has heard. Strings are copied into the world's arena. */
struct world {
    char dir[64], state[80], url[96];
    struct loop *loop;
    struct bus *bus;
    struct wire_writer *wire;
    struct arena arena;
    uint64_t bus_session, epoch, session;
    uint8_t cluster[16];
    bool acks;             /* FINISHED and NEVER_STARTED are acknowledged at once */
    bool welcomes;
    unsigned heard[MSG_KINDS];
    unsigned hellos;
    struct message hello, finished, never_started, chunk;
    uint64_t awaited;      /* the report of this job is kept in `awaited_report` */
    struct message awaited_report;
    struct inventory_item *items; /* of the last HELLO */
    unsigned exits[256];
    pid_t worker;
};

/* --- the master's side --- */

static void say(struct world *w, const struct message *m)
{
    struct wire_head head = { .epoch = w->epoch, .session = w->session };
    memcpy(head.cluster, w->cluster, sizeof head.cluster);
    wire_begin(w->wire, &head);
    assert_true(wire_add(w->wire, m));
    struct err err;
    assert_int_equal(bus_send(w->bus, w->bus_session, wire_end(w->wire), &err), 0);
}

static void ack(struct world *w, struct attempt_ref ref)
{
    struct message m = { .kind = MSG_REPORT_ACK };
    m.report_ack.ref = ref;
    say(w, &m);
}

static void hear(struct world *w, const struct message *m)
{
    w->heard[m->kind]++;
    if (getenv("ROTA_TEST_LOG"))
        fprintf(stderr, "master hears %s\n", message_name(m->kind));
    switch (m->kind) {
    case MSG_HELLO:
        w->hello = *m;
        w->items = arena_copy(&w->arena, m->hello.items, m->hello.items_count * sizeof *m->hello.items);
        w->hello.hello.name = arena_bytes(&w->arena, m->hello.name);
        if (w->welcomes) {
            w->session++;
            struct message out = { .kind = MSG_WELCOME };
            out.welcome.epoch = w->epoch;
            out.welcome.session = w->session;
            out.welcome.heartbeat_ms = 200;
            out.welcome.lease_ms = 60000;
            out.welcome.node = 1;
            out.welcome.nonce = m->hello.nonce;
            say(w, &out);
        }
        break;
    case MSG_HEARTBEAT: {
        struct message out = { .kind = MSG_HEARTBEAT_ACK };
        out.heartbeat_ack.seq = m->heartbeat.seq;
        out.heartbeat_ack.sent_ms = m->heartbeat.sent_ms;
        say(w, &out);
        break;
    }
    case MSG_FINISHED:
        w->finished = *m;
        w->finished.finished.stdout_tail = arena_bytes(&w->arena, m->finished.stdout_tail);
        w->finished.finished.stderr_tail = arena_bytes(&w->arena, m->finished.stderr_tail);
        w->exits[m->finished.result.exit_code & 255]++;
        if (m->finished.ref.job.n == w->awaited)
            w->awaited_report = w->finished;
        if (w->acks)
            ack(w, m->finished.ref);
        break;
    case MSG_NEVER_STARTED:
        w->never_started = *m;
        w->never_started.never_started.text = arena_bytes(&w->arena, m->never_started.text);
        if (w->acks)
            ack(w, m->never_started.ref);
        break;
    case MSG_LOG_CHUNK:
        w->chunk = *m;
        w->chunk.log_chunk.data = arena_bytes(&w->arena, m->log_chunk.data);
        break;
    default:
        break;
    }
}

static void on_message(void *arg, uint64_t session, struct bytes body, uint64_t delivery)
{
    struct world *w = arg;
    struct arena arena = ARENA_INIT;
    struct wire_batch batch;
    struct err err;
    assert_int_equal(session, w->bus_session);
    assert_int_equal(wire_decode(&arena, body, &batch, &err), 0);
    for (size_t i = 0; i < batch.count; i++)
        hear(w, &batch.messages[i]);
    bus_ack(w->bus, delivery);
    arena_fini(&arena);
}

static void on_link(void *arg, uint64_t session, bool up)
{
    struct world *w = arg;
    if (up)
        w->bus_session = session;
}

static void until(struct world *w, const unsigned *counter, unsigned count)
{
    int64_t end_ms = clock_now_ms() + PATIENCE_MS;
    while (*counter < count) {
        assert_true(clock_now_ms() < end_ms);
        loop_turn(w->loop, 100);
    }
}

/* --- the worker's side --- */

static void start_worker(struct world *w, const char *exec)
{
    fflush(stdout);
    w->worker = fork();
    assert_true(w->worker >= 0);
    if (w->worker)
        return;
    struct worker_config c;
    struct err err = { 0 };
    worker_config_default(&c);
    c.state_dir = w->state;
    c.bus_url = w->url;
    c.name = "Test_1";
    c.exec = exec;
    c.capacity.v[RES_CPU] = 4000;
    c.window = 200000;
    c.disk_reserve_bytes = 1;
    log_init("worker", getenv("ROTA_TEST_LOG") ? LOG_DEBUG : LOG_ERROR + 1, false);
    int code = worker_run(&c, &err);
    _exit(code);
}

static int end_worker(struct world *w, int signo)
{
    int status;
    pid_t ended;
    if (signo)
        kill(w->worker, signo);
    while ((ended = waitpid(w->worker, &status, WNOHANG)) == 0)
        loop_turn(w->loop, 10);
    assert_int_equal(ended, w->worker);
    w->worker = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int setup(void **state)
{
    struct world *w = mem_zero(1, sizeof *w);
    snprintf(w->dir, sizeof w->dir, "/tmp/rota-worker-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(w->state, sizeof w->state, "%s/state", w->dir);
    snprintf(w->url, sizeof w->url, "unix:%s/bus.sock", w->dir);
    w->loop = loop_new();
    w->wire = wire_writer_new();
    w->epoch = 3;
    memset(w->cluster, 0xab, sizeof w->cluster);
    w->acks = w->welcomes = true;
    struct bus_address address = { .role = BUS_ROLE_MASTER, .url = w->url, .name = "master" };
    memcpy(address.cluster, w->cluster, sizeof w->cluster);
    struct bus_events events = { .arg = w, .on_message = on_message, .on_link = on_link };
    struct err err = { 0 };
    w->bus = bus_open(w->loop, &address, &events, &err);
    if (!w->bus)
        fail_msg("%s", err.text);
    *state = w;
    return 0;
}

/* The nursery of the test's directory, if there is one, ends with all its jobs, and its control groups go. By itself it
 * would wait a minute for another worker. */
static void end_nursery(struct world *w)
{
    static const char how[] = "homes=$(readlink /proc/%d/fd/* | grep -x '/sys/fs/cgroup/.*/rota-[0-9a-f]*'); kill -9 %d;"
                              "for home in $homes; do echo 1 2>/dev/null >$home/cgroup.kill;"
                              "  for try in 1 2 3 4 5 6 7 8 9; do rmdir $home/slot* $home 2>/dev/null && break; sleep 0.1; done;"
                              "done; true";
    char path[128], text[32] = "", command[sizeof how + 32];
    snprintf(path, sizeof path, "%s/" NURSERY_LOCK, w->state);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (read(fd, text, sizeof text - 1) > 0 && atoi(text) > 1 && kill(atoi(text), 0) == 0) {
        snprintf(command, sizeof command, how, atoi(text), atoi(text));
        assert_int_equal(system(command), 0);
    }
    close(fd);
}

static int teardown(void **state)
{
    struct world *w = *state;
    char command[128];
    if (w->worker)
        end_worker(w, SIGKILL);
    end_nursery(w);
    bus_close(w->bus);
    wire_writer_free(w->wire);
    loop_free(w->loop);
    arena_fini(&w->arena);
    snprintf(command, sizeof command, "rm -rf %s", w->dir);
    free(w);
    return system(command);
}

static struct message start_message(struct world *w, uint64_t job, const struct job_spec *spec, struct buf *encoded)
{
    (void)w;
    buf_clear(encoded);
    spec_encode(encoded, spec);
    struct message m = { .kind = MSG_START };
    m.start.ref = (struct attempt_ref){ { job }, TASK_SINGLE, 1 };
    m.start.token = (struct mac128){ job, ~job };
    m.start.index = TASK_SINGLE;
    m.start.need.v[RES_CPU] = 1000;
    m.start.start_ttl_ms = 30000;
    m.start.heard_seq = 1u << 30; /* the master has heard every heartbeat */
    m.start.spec = buf_bytes(encoded);
    return m;
}

static struct job_spec job_of(struct bytes *argv, size_t count)
{
    struct job_spec spec = { .command = argv, .command_count = count };
    spec.request.user = bytes_str("somebody");
    spec.request.queue = bytes_str("default");
    spec.request.name = argv[0];
    spec.request.step = 1;
    return spec;
}

static void start_shell(struct world *w, uint64_t job, const char *script)
{
    struct bytes argv[] = { bytes_str("sh"), bytes_str("-c"), bytes_str(script) };
    struct job_spec spec = job_of(argv, 3);
    struct buf encoded = BUF_INIT;
    struct message m = start_message(w, job, &spec, &encoded);
    say(w, &m);
    buf_fini(&encoded);
}

static void start_fake(struct world *w, uint64_t job, int64_t run_ms, int exit_code)
{
    struct bytes argv[] = { bytes_str("work") };
    struct job_spec spec = job_of(argv, 1);
    spec.simulated_ms = run_ms;
    spec.simulated_exit = exit_code;
    struct buf encoded = BUF_INIT;
    struct message m = start_message(w, job, &spec, &encoded);
    say(w, &m);
    buf_fini(&encoded);
}

static void start_worker_and_meet(struct world *w, const char *exec)
{
    unsigned sessions = (unsigned)w->session;
    start_worker(w, exec);
    int64_t end_ms = clock_now_ms() + PATIENCE_MS;
    while (w->session == sessions) {
        assert_true(clock_now_ms() < end_ms);
        loop_turn(w->loop, 100);
    }
}

/* What the journal on disk holds, by kind. */
static void count_kind(void *arg, const struct record *r)
{
    ((unsigned *)arg)[r->kind]++;
}

static struct journal_scan read_journal(struct world *w, unsigned counts[EV_KINDS])
{
    struct buf file = BUF_INIT;
    struct journal_scan scan;
    struct err err;
    int dir = open(w->state, O_RDONLY | O_DIRECTORY);
    assert_true(dir >= 0);
    assert_int_equal(journal_load(dir, &file, &err), 0);
    close(dir);
    memset(counts, 0, EV_KINDS * sizeof *counts);
    journal_scan(buf_bytes(&file), count_kind, counts, &scan);
    buf_fini(&file);
    return scan;
}

/* --- tests --- */

static void says_who_it_is(void **state)
{
    struct world *w = *state;
    unsigned counts[EV_KINDS];
    start_worker_and_meet(w, "fake");
    const struct message *hello = &w->hello;
    assert_int_equal(hello->hello.incarnation, 1);
    assert_memory_equal(hello->hello.name.data, "test-1", 6);
    assert_int_equal(hello->hello.capacity.v[RES_CPU], 4000);
    assert_true(hello->hello.capacity.v[RES_MEM] > 0);
    struct worker_id first = hello->hello.worker;
    until(w, &w->heard[MSG_HEARTBEAT], 1);
    assert_int_equal(end_worker(w, SIGTERM), 0);
    struct stat st;
    assert_int_equal(stat(w->state, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);

    start_worker_and_meet(w, "fake");
    assert_int_equal(w->hello.hello.incarnation, 2);
    assert_int_equal(w->hello.hello.worker.high, first.high);
    assert_int_equal(w->hello.hello.worker.low, first.low);
    assert_int_equal(end_worker(w, SIGKILL), 128 + SIGKILL);
    struct journal_scan scan = read_journal(w, counts);
    assert_false(scan.damaged);
    assert_int_equal(counts[EV_W_IDENTITY], 2);
}

static void two_cannot_share_a_directory(void **state)
{
    struct world *w = *state;
    start_worker_and_meet(w, "fake");
    pid_t first = w->worker;
    start_worker(w, "fake");
    assert_int_equal(end_worker(w, 0), 75);
    w->worker = first;
    assert_int_equal(end_worker(w, SIGTERM), 0);
}

static void jobs_run_and_are_reported_until_acknowledged(void **state)
{
    struct world *w = *state;
    unsigned counts[EV_KINDS];
    start_worker_and_meet(w, "fake");
    start_fake(w, 1, 0, 0);
    start_fake(w, 2, 5, 3);
    until(w, &w->heard[MSG_FINISHED], 2);
    assert_int_equal(w->exits[0], 1);
    assert_int_equal(w->exits[3], 1);
    start_fake(w, 1, 0, 0); /* twice: nothing happens */

    w->acks = false;
    start_fake(w, 3, 0, 7);
    until(w, &w->heard[MSG_FINISHED], 4); /* said again, as nobody answered */
    assert_int_equal(w->finished.finished.ref.job.n, 3);
    assert_int_equal(w->finished.finished.token.low, 3);
    assert_int_equal(w->exits[0], 1);
    /* On disk before it was said. */
    read_journal(w, counts);
    assert_int_equal(counts[EV_W_ACCEPTED], 3);
    assert_int_equal(counts[EV_W_ENDED], 3);
    end_worker(w, SIGKILL);

    /* Also by the next worker on the directory. */
    start_worker_and_meet(w, "fake");
    assert_int_equal(w->hello.hello.items_count, 1);
    assert_int_equal(w->items[0].phase, PHASE_ENDED);
    unsigned heard = w->heard[MSG_FINISHED];
    w->acks = true;
    until(w, &w->heard[MSG_FINISHED], heard + 1);
    assert_int_equal(w->finished.finished.result.exit_code, 7);
    until(w, &w->heard[MSG_HEARTBEAT], w->heard[MSG_HEARTBEAT] + 2);
    end_worker(w, SIGTERM);
    read_journal(w, counts);
    assert_int_equal(counts[EV_W_ACKED], 3);
}

static void what_was_not_started_is_told_after_a_crash(void **state)
{
    struct world *w = *state;
    start_worker_and_meet(w, "fake");
    for (uint64_t job = 1; job <= 8; job++) /* four run for long, four wait for room */
        start_fake(w, job, 3600000, 0);
    until(w, &w->heard[MSG_STARTED], 4);
    end_worker(w, SIGKILL);
    /* The fake executor forgets with its process: all eight were never seen to end. */
    start_worker_and_meet(w, "fake");
    until(w, &w->heard[MSG_NEVER_STARTED], 8);
    assert_int_equal(end_worker(w, SIGTERM), 0);
}

static void masters_of_another_cluster_are_refused(void **state)
{
    struct world *w = *state;
    start_worker_and_meet(w, "fake");
    until(w, &w->heard[MSG_HEARTBEAT], 1);
    struct message m = { .kind = MSG_DRAIN };
    w->cluster[0] ^= 1;
    say(w, &m);
    assert_int_equal(end_worker(w, 0), 78);
}

static void orders_of_a_replaced_master_are_ignored(void **state)
{
    struct world *w = *state;
    start_worker_and_meet(w, "fake");
    w->epoch = 2; /* it has seen 3 */
    start_fake(w, 1, 0, 0);
    w->epoch = 3;
    start_fake(w, 2, 0, 0);
    until(w, &w->heard[MSG_FINISHED], 1);
    assert_int_equal(w->finished.finished.ref.job.n, 2);
    assert_int_equal(end_worker(w, SIGTERM), 0);
}

static void a_refusal_ends_it(void **state)
{
    struct world *w = *state;
    start_worker_and_meet(w, "fake");
    struct message m = { .kind = MSG_GO_AWAY };
    m.go_away.reason = REASON_INFRA;
    m.go_away.text = bytes_str("this node was removed");
    say(w, &m);
    assert_int_equal(end_worker(w, 0), 78);
}

static void garbage_is_survived(void **state)
{
    struct world *w = *state;
    struct err err;
    start_worker_and_meet(w, "fake");
    assert_int_equal(bus_send(w->bus, w->bus_session, bytes_str("\xff\xff\xff not a batch"), &err), 0);
    assert_int_equal(bus_send(w->bus, w->bus_session, bytes_of("", 0), &err), 0);
    start_fake(w, 1, 0, 0);
    until(w, &w->heard[MSG_FINISHED], 1);
    assert_int_equal(end_worker(w, SIGTERM), 0);
}

static void a_spec_that_cannot_be_read_is_the_jobs_fault(void **state)
{
    struct world *w = *state;
    start_worker_and_meet(w, "fake");
    struct bytes argv[] = { bytes_str("work") };
    struct job_spec spec = job_of(argv, 1);
    struct buf encoded = BUF_INIT;
    struct message m = start_message(w, 1, &spec, &encoded);
    m.start.spec = bytes_str("\xff\xff\xff\xff");
    say(w, &m);
    until(w, &w->heard[MSG_FINISHED], 1);
    assert_int_equal(w->finished.finished.result.reason, REASON_SPAWN);
    assert_true(w->finished.finished.stderr_tail.size > 0);
    buf_fini(&encoded);
    assert_int_equal(end_worker(w, SIGTERM), 0);
}

static void damaged_journals(void **state)
{
    struct world *w = *state;
    char path[128];
    snprintf(path, sizeof path, "%s/journal", w->state);
    w->acks = false;
    start_worker_and_meet(w, "fake");
    for (uint64_t job = 1; job <= 3; job++) {
        start_fake(w, job, 0, (int)job);
        until(w, &w->exits[job], 1);
    }
    struct worker_id worker = w->hello.hello.worker;
    end_worker(w, SIGKILL);

    /* A byte in the middle: who it is survives, and the rest is kept as far as it proves itself. */
    int fd = open(path, O_RDWR);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(pwrite(fd, "#", 1, st.st_size / 2), 1);
    close(fd);
    start_worker_and_meet(w, "fake");
    assert_int_equal(w->hello.hello.worker.high, worker.high);
    assert_int_equal(w->hello.hello.incarnation, 2);
    assert_true(w->hello.hello.items_count >= 2);
    end_worker(w, SIGKILL);
    unsigned counts[EV_KINDS];
    struct journal_scan scan = read_journal(w, counts);
    assert_false(scan.damaged);
    snprintf(path, sizeof path, "%s/journal.damaged-2", w->state);
    assert_int_equal(access(path, F_OK), 0);

    /* No identity left: it does not invent one. */
    snprintf(path, sizeof path, "%s/journal", w->state);
    assert_int_equal(truncate(path, 10), 0);
    start_worker(w, "fake");
    assert_int_equal(end_worker(w, 0), 65);
    assert_int_equal(unlink(path), 0);
    start_worker(w, "fake");
    assert_int_equal(end_worker(w, 0), 65);
}

static void a_torn_end_is_cut(void **state)
{
    struct world *w = *state;
    char path[128];
    snprintf(path, sizeof path, "%s/journal", w->state);
    w->acks = false;
    start_worker_and_meet(w, "fake");
    start_fake(w, 1, 0, 1);
    until(w, &w->exits[1], 1);
    end_worker(w, SIGKILL);
    int fd = open(path, O_WRONLY | O_APPEND);
    assert_int_equal(write(fd, "REWJ\x40\0\0\0 half an entry", 22), 22);
    close(fd);
    start_worker_and_meet(w, "fake");
    assert_int_equal(w->hello.hello.items_count, 1);
    end_worker(w, SIGTERM);
    unsigned counts[EV_KINDS];
    struct journal_scan scan = read_journal(w, counts);
    assert_false(scan.damaged);
    assert_int_equal(scan.torn_bytes, 0);
    assert_int_equal(counts[EV_W_IDENTITY], 2);
}

/* --- with real processes --- */

static void processes_their_output_and_tails(void **state)
{
    struct world *w = *state;
    start_worker_and_meet(w, "process");
    w->acks = false;
    start_shell(w, 1, "echo to stdout; echo \"to stderr $ROTA_JOB_ID $ROTA_NODE\" >&2; exit 4");
    until(w, &w->exits[4], 1);
    assert_int_equal(w->finished.finished.result.reason, REASON_EXIT);
    assert_int_equal(w->finished.finished.stdout_tail.size, 10);
    assert_memory_equal(w->finished.finished.stdout_tail.data, "to stdout\n", 10);
    assert_memory_equal(w->finished.finished.stderr_tail.data, "to stderr 1 test-1\n", 19);

    struct message read = { .kind = MSG_LOG_READ };
    read.log_read.request = 5;
    read.log_read.ref = (struct attempt_ref){ { 1 }, TASK_SINGLE, 1 };
    read.log_read.offset = 3;
    read.log_read.bytes_max = 1000;
    say(w, &read);
    until(w, &w->heard[MSG_LOG_CHUNK], 1);
    assert_int_equal(w->chunk.log_chunk.request, 5);
    assert_true(w->chunk.log_chunk.ended);
    assert_memory_equal(w->chunk.log_chunk.data.data, "stdout\n", 7);

    w->acks = true;
    struct bytes argv[] = { bytes_str("no-such-command-anywhere") };
    struct job_spec spec = job_of(argv, 1);
    struct buf encoded = BUF_INIT;
    struct message m = start_message(w, 2, &spec, &encoded);
    unsigned heard = w->heard[MSG_FINISHED];
    say(w, &m);
    int64_t end_ms = clock_now_ms() + PATIENCE_MS;
    while (w->finished.finished.ref.job.n != 2) {
        assert_true(clock_now_ms() < end_ms);
        until(w, &w->heard[MSG_FINISHED], ++heard);
    }
    buf_fini(&encoded);
    assert_int_equal(w->finished.finished.result.reason, REASON_SPAWN);
    char *text = arena_str(&w->arena, w->finished.finished.stderr_tail);
    assert_non_null(strstr(text, "no-such-command-anywhere"));
    assert_int_equal(end_worker(w, SIGTERM), 0);
}

static void processes_outlive_the_worker(void **state)
{
    struct world *w = *state;
    char path[128], script[300];
    start_worker_and_meet(w, "process");
    snprintf(path, sizeof path, "%s/go", w->dir);
    snprintf(script, sizeof script, "echo begun; while [ ! -e %s ]; do sleep 0.02; done; echo ended; exit 9", path);
    start_shell(w, 1, script);
    start_shell(w, 2, "exit 8");
    until(w, &w->heard[MSG_STARTED], 1);
    until(w, &w->exits[8], 1);
    end_worker(w, SIGKILL);
    start_worker_and_meet(w, "process");
    assert_int_equal(w->hello.hello.incarnation, 2);
    bool listed = false;
    for (size_t i = 0; i < w->hello.hello.items_count; i++)
        listed |= w->items[i].ref.job.n == 1 && w->items[i].phase == PHASE_RUNNING;
    assert_true(listed);
    end_worker(w, SIGTERM); /* asked to stop, its jobs run on too */
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    start_worker_and_meet(w, "process");
    w->awaited = 1;
    until(w, &w->exits[9], 1);
    assert_int_equal(w->awaited_report.finished.stdout_tail.size, 12);
    assert_memory_equal(w->awaited_report.finished.stdout_tail.data, "begun\nended\n", 12);
    assert_int_equal(end_worker(w, SIGTERM), 0);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], NURSERY_ARGUMENT) == 0)
        return nursery_main(argc, argv); /* the process executor starts its nursery from the program it runs in */
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(says_who_it_is),
        T(two_cannot_share_a_directory),
        T(jobs_run_and_are_reported_until_acknowledged),
        T(what_was_not_started_is_told_after_a_crash),
        T(masters_of_another_cluster_are_refused),
        T(orders_of_a_replaced_master_are_ignored),
        T(a_refusal_ends_it),
        T(garbage_is_survived),
        T(a_spec_that_cannot_be_read_is_the_jobs_fault),
        T(damaged_journals),
        T(a_torn_end_is_cut),
        T(processes_their_output_and_tails),
        T(processes_outlive_the_worker),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
