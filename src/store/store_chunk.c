#include "store/store_chunk.h"

#include <inttypes.h>
#include <xxhash.h>

#include "base/check.h"

size_t store_chunk_encode(struct buf *body, const struct record *records, size_t count)
{
    check(count > 0);
    size_t taken = 0;
    buf_clear(body);
    do
        record_encode(body, &records[taken++]);
    while (taken < count && taken < STORE_CHUNK_RECORDS && body->size < STORE_CHUNK_BYTES);
    return taken;
}

uint64_t store_chunk_sum(uint64_t first_seq, uint64_t count, struct bytes body)
{
    uint64_t place[2] = { first_seq, count };
    return XXH3_64bits_withSeed(body.data, body.size, XXH3_64bits(place, sizeof place));
}

int store_chunk_walk(const struct store_chunk *c, uint64_t from_seq,
                     int (*each)(void *arg, const struct record *r, struct err *err), void *arg, struct err *err)
{
    if (store_chunk_sum(c->first_seq, c->count, c->body) != c->sum)
        return err_set(err, ERR_CORRUPT, "the checksum of records %" PRIu64 " to %" PRIu64 " is wrong", c->first_seq,
                       c->first_seq + c->count - 1);
    const uint8_t *at = (const uint8_t *)c->body.data, *end = at + c->body.size;
    uint64_t seq = c->first_seq;
    for (; at < end; seq++) {
        struct record r;
        if (record_decode(&at, end, &r, err) < 0)
            return err_wrap(err, "record %" PRIu64, seq);
        if (r.seq != seq)
            return err_set(err, ERR_CORRUPT, "record %" PRIu64 " stands where %" PRIu64 " belongs", r.seq, seq);
        if (seq < from_seq || !each)
            continue;
        int rc = each(arg, &r, err);
        if (rc < 0)
            return rc;
    }
    if (seq - c->first_seq != c->count)
        return err_set(err, ERR_CORRUPT, "%" PRIu64 " records at %" PRIu64 " where %" PRIu64 " belong",
                       seq - c->first_seq, c->first_seq, c->count);
    return 0;
}

uint64_t store_sum(uint64_t salt, const struct bytes *parts, size_t parts_count)
{
    uint64_t sum = salt;
    for (size_t i = 0; i < parts_count; i++)
        sum = XXH3_64bits_withSeed(parts[i].data ? parts[i].data : "", parts[i].size, sum ^ parts[i].size << 1);
    return sum;
}
