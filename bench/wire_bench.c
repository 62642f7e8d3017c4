/* wire_bench.c: what it costs to write and read the messages of jobs: ns per message, bytes per message.
 * Usage: wire_bench [messages per batch] [rounds] */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "io/clock.h"
#include "wire/wire.h"

static struct message message_make(enum message_kind kind, uint64_t n, char *spec, size_t spec_size)
{
    struct message m = { .kind = kind };
    struct attempt_ref ref = { { 1000000 + n }, TASK_SINGLE, 1 };
    struct mac128 token = { n * 0x9e3779b97f4a7c15ULL, ~n };
    switch (kind) {
    case MSG_START:
        m.start.ref = ref;
        m.start.token = token;
        m.start.index = TASK_SINGLE;
        m.start.need.v[RES_CPU] = 1000;
        m.start.need.v[RES_MEM] = 512u << 20;
        m.start.grace_ms = 10000;
        m.start.start_ttl_ms = 30000;
        m.start.spec = bytes_of(spec, spec_size);
        break;
    case MSG_STARTED:
        m.started.ref = ref;
        m.started.token = token;
        break;
    case MSG_FINISHED:
        m.finished.ref = ref;
        m.finished.token = token;
        m.finished.result =
            (struct attempt_result){ .run_ms = 1234, .cpu_ms = 900, .rss_max_bytes = 3000000, .stdout_bytes = 120 };
        break;
    default:
        m.report_ack.ref = ref;
        break;
    }
    return m;
}

struct sum {
    int64_t write_ns, read_ns;
    uint64_t messages, bytes;
};

static void round_run(struct wire_writer *w, struct arena *a, const struct message *messages, size_t count,
                      struct sum *sum)
{
    const struct wire_head head = { .epoch = 1, .session = 4097 };
    int64_t start_ns = clock_now_ns();
    wire_begin(w, &head);
    for (size_t i = 0; i < count; i++)
        check(wire_add(w, &messages[i]));
    struct bytes body = wire_end(w);
    int64_t middle_ns = clock_now_ns();
    struct wire_batch batch;
    arena_reset(a);
    check(wire_decode(a, body, &batch, NULL) == 0 && batch.count == count);
    sum->write_ns += middle_ns - start_ns;
    sum->read_ns += clock_now_ns() - middle_ns;
    sum->messages += count;
    sum->bytes += body.size;
}

static void measure(const char *title, const enum message_kind *kinds, size_t kinds_count, size_t per_batch,
                    size_t rounds, bool shared_spec)
{
    enum { SPEC = 200 };
    char *specs = calloc(per_batch, SPEC);
    struct message *messages = calloc(per_batch, sizeof *messages);
    check(specs && messages);
    for (size_t i = 0; i < per_batch; i++) {
        char *spec = specs + (shared_spec ? 0 : i * SPEC);
        snprintf(spec, SPEC, "job %zu", shared_spec ? 0 : i);
        messages[i] = message_make(kinds[i % kinds_count], i, spec, SPEC);
    }
    struct wire_writer *w = wire_writer_new();
    struct arena a = ARENA_INIT;
    struct sum sum = { 0 }, warm = { 0 };
    for (size_t i = 0; i < rounds / 10 + 1; i++)
        round_run(w, &a, messages, per_batch, &warm);
    for (size_t i = 0; i < rounds; i++)
        round_run(w, &a, messages, per_batch, &sum);
    printf("%-28s write %6.1f ns  read %6.1f ns  %6.1f bytes\n", title, (double)sum.write_ns / (double)sum.messages,
           (double)sum.read_ns / (double)sum.messages, (double)sum.bytes / (double)sum.messages);
    wire_writer_free(w);
    arena_fini(&a);
    free(messages);
    free(specs);
}

int main(int argc, char **argv)
{
    size_t per_batch = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000,
           rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 1000;
    if (!per_batch || per_batch > 10000 || !rounds) {
        fprintf(stderr, "usage: wire_bench [messages per batch, 1..10000] [rounds]\n");
        return 2;
    }
    printf("%zu messages per batch, %zu rounds\n", per_batch, rounds);
    static const enum message_kind start[] = { MSG_START }, started[] = { MSG_STARTED }, finished[] = { MSG_FINISHED },
                                   ack[] = { MSG_REPORT_ACK };
    static const enum message_kind all[] = { MSG_START, MSG_STARTED, MSG_FINISHED, MSG_REPORT_ACK };
    measure("STARTED", started, 1, per_batch, rounds, true);
    measure("FINISHED", finished, 1, per_batch, rounds, true);
    measure("REPORT_ACK", ack, 1, per_batch, rounds, true);
    measure("START, one array", start, 1, per_batch, rounds, true);
    measure("START, 200-byte spec each", start, 1, per_batch, rounds, false);
    measure("life of a job, mixed", all, 4, per_batch, rounds, false);
    return 0;
}
