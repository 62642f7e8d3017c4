/* store_chunk.h: a run of records as one piece of bytes with a checksum; the journal is made of such pieces.
 *
 * A chunk is written once, with the batch it belongs to, and never changed. Its checksum (XXH3) covers its place, its
 * count and its bytes, so that a chunk in the wrong place is as wrong as a chunk with a flipped bit. Chunks are bounded
 * so that finding one record never costs more than reading this much. */
#ifndef ROTA_STORE_CHUNK_H
#define ROTA_STORE_CHUNK_H

#include "base/buf.h"
#include "base/err.h"
#include "core/model/record.h"

#define STORE_CHUNK_BYTES 32768u   /* a chunk takes no further record once it is this long */
#define STORE_CHUNK_RECORDS 512u

struct store_chunk {
    uint64_t first_seq;
    uint64_t count;
    uint64_t sum;
    struct bytes body; /* records as record_encode writes them */
};

/* Encodes records from the first on into body (cleared before) up to the bounds; at least one. Returns how many it
 * took. */
size_t store_chunk_encode(struct buf *body, const struct record *records, size_t count);
uint64_t store_chunk_sum(uint64_t first_seq, uint64_t count, struct bytes body);

/* Checks the sum, then that the body is `count` records numbered without holes from first_seq and nothing else; calls
 * each (if not NULL) for those from from_seq on. A record is valid during the call. ERR_CORRUPT, or the error of each,
 * which stops it. */
int store_chunk_walk(const struct store_chunk *c, uint64_t from_seq,
                     int (*each)(void *arg, const struct record *r, struct err *err), void *arg, struct err *err);

/* Checksum of several byte strings, each with its length. `salt` says what they belong to (job id, record number). */
uint64_t store_sum(uint64_t salt, const struct bytes *parts, size_t parts_count);

#endif
