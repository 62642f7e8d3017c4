/* Bytes as the body of a journal chunk with a right checksum, so that the records in it are reached; and once with the
 * sum given by the input. What can be read must survive being written and read again. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "store/store_chunk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int round_trip(void *arg, const struct record *r, struct err *err)
{
    struct buf *scratch = arg;
    struct record again;
    autobuf struct buf text = BUF_INIT;
    (void)err;
    buf_clear(scratch);
    record_encode(scratch, r);
    size_t first = scratch->size;
    const uint8_t *at = (const uint8_t *)scratch->data;
    check(record_decode(&at, at + first, &again, NULL) == 0 && again.kind == r->kind && again.seq == r->seq);
    autobuf struct buf second = BUF_INIT;
    record_encode(&second, &again);
    check(second.size == first && memcmp(second.data, scratch->data, first) == 0);
    check(record_subject(r).job.n == record_subject(&again).job.n);
    record_print(&text, r);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t head[3] = { 1, 1, 0 };
    if (size < 3)
        return 0;
    /* The numbers a chunk starts and counts with are small in seeds and in practice; large ones come with the sum. */
    head[0] = data[0];
    head[1] = data[1];
    autobuf struct buf scratch = BUF_INIT;
    struct store_chunk c = { .first_seq = head[0], .count = head[1], .body = bytes_of(data + 2, size - 2) };
    c.sum = store_chunk_sum(c.first_seq, c.count, c.body);
    struct err err;
    store_chunk_walk(&c, 0, round_trip, &scratch, &err);
    if (size < sizeof head)
        return 0;
    memcpy(head, data, sizeof head);
    c = (struct store_chunk){ head[0], head[1], head[2], bytes_of(data + sizeof head, size - sizeof head) };
    store_chunk_walk(&c, 0, round_trip, &scratch, &err);
    return 0;
}
