/* bus_bench.c: bodies per second and round trips through the unix socket, between two processes.
 * Usage: bus_bench [seconds per measurement] */
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

struct side {
    struct loop *loop;
    struct bus *bus;
    uint64_t session;
    bool up, echoes;
    uint64_t received;
};

static void on_message(void *arg, uint64_t session, struct bytes body, uint64_t delivery)
{
    struct side *s = arg;
    s->received++;
    bus_ack(s->bus, delivery);
    if (s->echoes && body.size && body.data[0] == 'e')
        bus_send(s->bus, session, body, NULL);
}

static void on_link(void *arg, uint64_t session, bool up)
{
    struct side *s = arg;
    s->session = session;
    s->up = up;
}

static void side_open(struct side *s, enum bus_role role, const char *url)
{
    struct bus_address address = { .role = role, .url = url, .name = "bench" };
    struct bus_events events = { .arg = s, .on_message = on_message, .on_link = on_link };
    struct err err = { 0 };
    s->loop = loop_new();
    s->bus = bus_open(s->loop, &address, &events, &err);
    if (!s->bus) {
        fprintf(stderr, "bus_bench: %s\n", err.text);
        exit(1);
    }
}

static void worker_run(const char *url)
{
    struct side s = { .echoes = true };
    side_open(&s, BUS_ROLE_WORKER, url);
    while (!s.up)
        loop_turn(s.loop, 100);
    while (s.up)
        loop_turn(s.loop, 1000);
    exit(0);
}

static void one_way(struct side *s, size_t size, size_t per_turn, int64_t run_ns)
{
    char *body = mem_zero(1, size);
    uint64_t sent = 0, refused = 0;
    struct bytes bytes = bytes_of(body, size);
    int64_t start_ns = clock_now_ns(), now_ns;
    while ((now_ns = clock_now_ns()) - start_ns < run_ns) {
        for (size_t i = 0; i < per_turn; i++) {
            if (bus_send(s->bus, s->session, bytes, NULL) == 0)
                sent++;
            else
                refused++;
        }
        loop_turn(s->loop, refused ? 1 : 0);
        refused = 0;
    }
    /* The last one comes back when all before it were read. */
    s->received = 0;
    body[0] = 'e';
    while (bus_send(s->bus, s->session, bytes, NULL) < 0)
        loop_turn(s->loop, 1);
    while (!s->received)
        loop_turn(s->loop, 100);
    double seconds = (double)(clock_now_ns() - start_ns) / 1e9;
    printf("one way   %7zu bytes, %4zu per turn: %10.0f bodies/s %8.0f ns each %8.1f MB/s\n", size, per_turn,
           (double)sent / seconds, seconds * 1e9 / (double)sent, (double)sent * (double)size / seconds / 1e6);
    free(body);
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void round_trips(struct side *s, size_t size)
{
    enum { COUNT = 20000 };
    int64_t *took_ns = mem_alloc(COUNT * sizeof *took_ns);
    char *body = mem_zero(1, size);
    body[0] = 'e';
    for (size_t i = 0; i < COUNT; i++) {
        int64_t start_ns = clock_now_ns();
        s->received = 0;
        check(bus_send(s->bus, s->session, bytes_of(body, size), NULL) == 0);
        while (!s->received)
            loop_turn(s->loop, 100);
        took_ns[i] = clock_now_ns() - start_ns;
    }
    qsort(took_ns, COUNT, sizeof *took_ns, by_value);
    printf("and back  %7zu bytes: p50 %6.1f us  p99 %6.1f us\n", size, (double)took_ns[COUNT / 2] / 1e3,
           (double)took_ns[COUNT * 99 / 100] / 1e3);
    free(body);
    free(took_ns);
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? strtod(argv[1], NULL) : 1;
    char dir[] = "/tmp/rota-bus-bench-XXXXXX", url[64], key[64];
    if (!(seconds > 0) || !mkdtemp(dir)) {
        fprintf(stderr, "usage: bus_bench [seconds]\n");
        return 2;
    }
    snprintf(url, sizeof url, "unix:%s/bus.sock", dir);
    snprintf(key, sizeof key, "%s/bus.key", dir);
    pid_t pid = fork();
    check(pid >= 0);
    if (pid == 0)
        worker_run(url);
    struct side s = { 0 };
    side_open(&s, BUS_ROLE_MASTER, url);
    while (!s.up)
        loop_turn(s.loop, 100);
    static const struct {
        size_t size, per_turn;
    } cases[] = { { 64, 1 }, { 64, 100 }, { 1024, 100 }, { 8192, 16 }, { 65536, 4 }, { 1u << 20, 1 } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        one_way(&s, cases[i].size, cases[i].per_turn, (int64_t)(seconds * 1e9));
    round_trips(&s, 64);
    round_trips(&s, 8192);
    bus_close(s.bus);
    loop_free(s.loop);
    waitpid(pid, NULL, 0);
    struct rusage self, child;
    getrusage(RUSAGE_SELF, &self);
    getrusage(RUSAGE_CHILDREN, &child);
    printf("most memory: %ld KiB sending, %ld KiB receiving\n", self.ru_maxrss, child.ru_maxrss);
    unlink(key);
    rmdir(dir);
    return 0;
}
