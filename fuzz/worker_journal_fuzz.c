/* A worker's journal as a disk may hand it back: whatever the bytes, the scan ends, in order, within its bounds. */
#include <stddef.h>
#include <stdint.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/check.h"
#include "worker/journal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    uint64_t records, last_seq;
};

static void visit(void *arg, const struct record *r)
{
    struct seen *seen = arg;
    check(r->seq == 0 || r->seq > seen->last_seq);
    if (r->seq)
        seen->last_seq = r->seq;
    seen->records++;
    /* Whatever was read can be written again. */
    autobuf struct buf again = BUF_INIT;
    record_encode(&again, r);
}

static void scan_bytes(struct bytes file)
{
    struct seen seen = { 0 };
    struct journal_scan scan;
    journal_scan(file, visit, &seen, &scan);
    check(scan.records == seen.records);
    check(scan.end <= file.size && scan.end + scan.torn_bytes == file.size && scan.damaged_bytes <= scan.end);
    check(scan.next_seq > seen.last_seq);
}

/* Bytes of the fuzzer cannot guess a hash: pieces of them become entries with a true one. */
static void add_true_entries(struct buf *file, const uint8_t *data, size_t size)
{
    while (size > 1) {
        size_t piece = data[0] < size - 1 ? data[0] : size - 1;
        uint32_t head[2] = { 0x4a574552u, (uint32_t)piece };
        uint64_t hash = XXH3_64bits_withSeed(data + 1, piece, piece);
        buf_add(file, head, sizeof head);
        buf_add(file, &hash, sizeof hash);
        buf_add(file, data + 1, piece);
        data += piece + 1;
        size -= piece + 1;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    scan_bytes(bytes_of(data, size));
    autobuf struct buf file = BUF_INIT;
    uint64_t header[4] = { 0, 1, size ? data[0] : 0, 0 };
    memcpy(header, "ROTAWJ01", 8);
    header[3] = XXH3_64bits_withSeed(header, 24, 24);
    buf_add(&file, header, sizeof header);
    add_true_entries(&file, data, size);
    scan_bytes(buf_bytes(&file));
    return 0;
}
