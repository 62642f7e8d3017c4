/* How many attempts a second pass through one worker, control only: a master that the program plays keeps it busy with jobs of
 * the fake executor that take no time. Journal and bus are the real ones.
 *
 * usage: worker_bench [JOBS [OPEN]]    prints jobs/s and the CPU time of the worker per job */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "bus/bus.h"
#include "io/clock.h"
#include "io/loop.h"
#include "obs/log.h"
#include "wire/spec.h"
#include "wire/wire.h"
#include "worker/worker.h"

struct bench {
    uint64_t jobs, open_max; /* to run in all; on the worker at the same time */
    uint64_t sent, finished;
    uint64_t bus_session, session, heard_seq;
    struct loop *loop;
    struct bus *bus;
    struct wire_writer *wire;
    struct arena arena;
    struct buf spec;
};

static void begin(struct bench *b)
{
    wire_begin(b->wire, &(struct wire_head){ .epoch = 1, .session = b->session, .cluster = { 1 } });
}

static void flush(struct bench *b)
{
    struct err err;
    if (wire_count(b->wire))
        check(bus_send(b->bus, b->bus_session, wire_end(b->wire), &err) == 0);
    begin(b);
}

static void add(struct bench *b, const struct message *m)
{
    if (wire_add(b->wire, m))
        return;
    flush(b);
    check(wire_add(b->wire, m));
}

static void start_more(struct bench *b)
{
    while (b->session && b->sent < b->jobs && b->sent - b->finished < b->open_max) {
        struct message m = { .kind = MSG_START };
        m.start.ref = (struct attempt_ref){ { ++b->sent }, TASK_SINGLE, 1 };
        m.start.token = (struct mac128){ b->sent, 1 };
        m.start.index = TASK_SINGLE;
        m.start.need.v[RES_CPU] = 1;
        m.start.start_ttl_ms = 60000;
        m.start.heard_seq = b->heard_seq;
        m.start.spec = buf_bytes(&b->spec);
        add(b, &m);
    }
}

static void hear(struct bench *b, const struct message *m)
{
    struct message out = { .kind = MSG_NONE };
    switch (m->kind) {
    case MSG_HELLO:
        b->session++;
        begin(b);
        out.kind = MSG_WELCOME;
        out.welcome.epoch = 1;
        out.welcome.session = b->session;
        out.welcome.heartbeat_ms = 5000;
        out.welcome.lease_ms = 60000;
        out.welcome.nonce = m->hello.nonce;
        break;
    case MSG_HEARTBEAT:
        b->heard_seq = m->heartbeat.seq;
        out.kind = MSG_HEARTBEAT_ACK;
        out.heartbeat_ack.seq = m->heartbeat.seq;
        break;
    case MSG_FINISHED:
        check(m->finished.result.reason == REASON_NONE);
        b->finished++;
        out.kind = MSG_REPORT_ACK;
        out.report_ack.ref = m->finished.ref;
        break;
    default:
        check(m->kind != MSG_NEVER_STARTED);
        return;
    }
    add(b, &out);
}

static void on_message(void *arg, uint64_t session, struct bytes body, uint64_t delivery)
{
    struct bench *b = arg;
    struct wire_batch batch;
    struct err err;
    b->bus_session = session;
    arena_reset(&b->arena);
    check(wire_decode(&b->arena, body, &batch, &err) == 0);
    begin(b);
    for (size_t i = 0; i < batch.count; i++)
        hear(b, &batch.messages[i]);
    start_more(b);
    flush(b);
    bus_ack(b->bus, delivery);
}

static void on_link(void *arg, uint64_t session, bool up)
{
    (void)arg, (void)session, (void)up;
}

static void run_worker(const char *state, const char *url)
{
    struct worker_config c;
    struct err err = { 0 };
    worker_config_default(&c);
    c.state_dir = state;
    c.bus_url = url;
    c.exec = "fake";
    c.capacity.v[RES_CPU] = 1000000;
    c.window = 200000;
    log_init("worker", LOG_WARN, false);
    _exit(worker_run(&c, &err));
}

int main(int argc, char **argv)
{
    struct bench b = { .jobs = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000,
                       .open_max = argc > 2 ? strtoull(argv[2], NULL, 10) : 8000 };
    char dir[] = "/tmp/rota-bench-XXXXXX", state[64], url[64], command[64];
    check(mkdtemp(dir));
    snprintf(state, sizeof state, "%s/state", dir);
    snprintf(url, sizeof url, "unix:%s/bus.sock", dir);
    struct bytes command_line[] = { bytes_str("work"), bytes_str("--input"), bytes_str("some/file") };
    struct job_spec spec = { .command = command_line, .command_count = 3 };
    spec.request.user = bytes_str("somebody");
    spec.request.queue = bytes_str("default");
    spec.request.name = bytes_str("work");
    spec.request.step = 1;
    spec_encode(&b.spec, &spec);
    b.loop = loop_new();
    b.wire = wire_writer_new();
    struct bus_address address = { .role = BUS_ROLE_MASTER, .url = url, .name = "bench", .cluster = { 1 } };
    struct bus_events events = { .arg = &b, .on_message = on_message, .on_link = on_link };
    struct err err;
    b.bus = bus_open(b.loop, &address, &events, &err);
    check(b.bus);
    pid_t pid = fork();
    check(pid >= 0);
    if (pid == 0)
        run_worker(state, url);
    while (!b.sent)
        loop_turn(b.loop, 100);
    int64_t start = clock_now_ns();
    while (b.finished < b.jobs)
        loop_turn(b.loop, 100);
    double seconds = (double)(clock_now_ns() - start) / 1e9;
    kill(pid, SIGTERM);
    int status;
    struct rusage usage;
    check(wait4(pid, &status, 0, &usage) == pid);
    double cpu = (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    printf("%" PRIu64 " jobs in %.2f s: %.0f jobs/s; worker CPU %.2f us/job\n", b.jobs, seconds, (double)b.jobs / seconds,
           cpu * 1e6 / (double)b.jobs);
    bus_close(b.bus);
    wire_writer_free(b.wire);
    loop_free(b.loop);
    arena_fini(&b.arena);
    buf_fini(&b.spec);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}
