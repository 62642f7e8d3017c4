/* Batches from another process. What is accepted is within its bounds, can be written again, and then reads the same.
 */
#include <stdlib.h>

#include "base/check.h"
#include "wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void messages_check(const struct wire_batch *b)
{
    check(b->count + b->skipped <= WIRE_MESSAGES_MAX);
    for (size_t i = 0; i < b->count; i++) {
        const struct message *m = &b->messages[i];
        check(m->kind > MSG_NONE && m->kind < MSG_KINDS);
        if (m->kind == MSG_HELLO)
            check(m->hello.items_count <= INVENTORY_MAX && m->hello.named_count <= RES_NAMED_MAX && m->hello.window &&
                  m->hello.name.size >= 1 && m->hello.name.size <= 63);
        if (m->kind == MSG_FINISHED)
            check(m->finished.result.reason < REASONS && m->finished.stdout_tail.size <= ATTEMPT_TAIL_BYTES &&
                  m->finished.stderr_tail.size <= ATTEMPT_TAIL_BYTES && m->finished.ref.attempt &&
                  m->finished.ref.job.n);
        if (m->kind == MSG_START)
            check(m->start.named_count <= RES_NAMED_MAX && m->start.spec.size <= RECORD_SPEC_MAX);
    }
}

/* Writes the first batch of them; how many it took. */
static size_t write_first(struct wire_writer *w, const struct wire_batch *b, struct bytes *body)
{
    size_t n = 0;
    wire_begin(w, &b->head);
    while (n < b->count && wire_add(w, &b->messages[n]))
        n++;
    *body = wire_end(w);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct arena a, again;
    static struct wire_writer *w, *w_again;
    struct wire_batch b, c;
    struct err err = { 0 };
    if (!w) {
        w = wire_writer_new();
        w_again = wire_writer_new();
    }
    arena_reset(&a);
    arena_reset(&again);
    if (wire_decode(&a, bytes_of(data, size), &b, &err) < 0) {
        check(err.code == ERR_CORRUPT || err.code == ERR_TOO_LARGE);
        return 0;
    }
    messages_check(&b);
    struct bytes body, body_again;
    size_t n = write_first(w, &b, &body);
    check(wire_decode(&again, body, &c, &err) == 0);
    check(c.count == n && c.skipped == 0);
    messages_check(&c);
    check(write_first(w_again, &c, &body_again) == n);
    check(bytes_equal(body, body_again));
    return 0;
}
