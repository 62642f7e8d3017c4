#include "exec/exit_record.h"

#include <assert.h>
#include <string.h>
#include <xxhash.h>

#include "base/check.h"
#include "core/model/record.h"

#define MAGIC 0x314c4e52u /* "RNL1" */
#define BODY_BYTES_MAX (EXIT_RECORD_BYTES_MAX - sizeof(struct frame))
#define END_FLAGS_KNOWN (END_STDOUT_GAP | END_STDERR_GAP | END_MAY_HAVE_RUN | END_CANCEL_LOST_RACE)
#define SIGNAL_MAX 64

struct frame {
    uint32_t bytes;
    uint32_t magic;
    uint64_t hash; /* of everything behind the frame */
};

struct body_head {
    uint32_t kind;
    uint32_t task;
    uint64_t job;
    uint32_t attempt;
    uint32_t flags; /* SPAWNING, EXIT: own_streams; EXIT: STARTED */
};
#define FLAG_STARTED 4u

struct body_boot {
    struct body_head head;
    char boot[EXIT_RECORD_BOOT_BYTES];
};
struct body_spawning {
    struct body_head head;
    uint64_t fence;
    int64_t begun_ms;
    uint64_t output_bytes_max;
    uint32_t slot;
    uint32_t zero;
};
struct body_spawned {
    struct body_head head;
    uint32_t pid;
    uint32_t zero;
};
struct body_exit {
    struct body_head head;
    uint32_t reason, exit_code, signal, end_flags;
    int64_t run_ms;
    uint64_t cpu_ms, rss_max_bytes, stdout_bytes, stderr_bytes, output_bytes_max;
    char text[]; /* padded with zeros to a multiple of 8, at least one */
};

static_assert(sizeof(struct frame) == 16 && sizeof(struct body_head) == 24, "no padding");
static_assert(sizeof(struct body_boot) == 64 && sizeof(struct body_spawning) == 56, "no padding");
static_assert(sizeof(struct body_spawned) == 32 && sizeof(struct body_exit) == 88, "no padding");
static_assert(sizeof(struct body_exit) + EXIT_RECORD_TEXT_BYTES + 8 <= BODY_BYTES_MAX, "the longest record fits");

static size_t encode_exit(const struct exit_record *r, struct body_head head, uint8_t *out)
{
    const struct attempt_result *e = &r->result;
    head.flags |= r->started ? FLAG_STARTED : 0;
    struct body_exit body = {
        .head = head,
        .reason = e->reason,
        .exit_code = e->exit_code,
        .signal = e->signal,
        .end_flags = e->flags,
        .run_ms = e->run_ms,
        .cpu_ms = e->cpu_ms,
        .rss_max_bytes = e->rss_max_bytes,
        .stdout_bytes = e->stdout_bytes,
        .stderr_bytes = e->stderr_bytes,
        .output_bytes_max = r->output_bytes_max,
    };
    size_t text = strnlen(r->text, sizeof r->text - 1);
    size_t padded = (text + 8) & ~(size_t)7;
    memcpy(out, &body, sizeof body);
    memset(out + sizeof body, 0, padded);
    memcpy(out + sizeof body, r->text, text);
    return sizeof body + padded;
}

static size_t encode_body(const struct exit_record *r, uint8_t *out)
{
    struct body_head head = {
        .kind = r->kind, .task = r->ref.task, .job = r->ref.job.n, .attempt = r->ref.attempt, .flags = r->own_streams
    };
    switch (r->kind) {
    case LOG_BOOT: {
        struct body_boot body = { .head = head };
        memcpy(body.boot, r->boot, strnlen(r->boot, sizeof body.boot - 1));
        memcpy(out, &body, sizeof body);
        return sizeof body;
    }
    case LOG_SPAWNING: {
        struct body_spawning body = { .head = head,
                                      .fence = r->fence,
                                      .begun_ms = r->begun_ms,
                                      .output_bytes_max = r->output_bytes_max,
                                      .slot = r->slot };
        memcpy(out, &body, sizeof body);
        return sizeof body;
    }
    case LOG_SPAWNED: {
        struct body_spawned body = { .head = head, .pid = r->pid };
        memcpy(out, &body, sizeof body);
        return sizeof body;
    }
    case LOG_EXIT:
        return encode_exit(r, head, out);
    case LOG_REMOVED:
        memcpy(out, &head, sizeof head);
        return sizeof head;
    }
    check_unreachable();
}

size_t exit_record_encode(const struct exit_record *r, uint8_t out[EXIT_RECORD_BYTES_MAX])
{
    struct frame frame = { .magic = MAGIC };
    size_t body = encode_body(r, out + sizeof frame);
    frame.bytes = (uint32_t)(sizeof frame + body);
    frame.hash = XXH3_64bits(out + sizeof frame, body);
    check(frame.bytes <= EXIT_RECORD_BYTES_MAX && frame.bytes % 8 == 0);
    memcpy(out, &frame, sizeof frame);
    return frame.bytes;
}

static bool decode_exit(const uint8_t *data, size_t size, struct exit_record *out)
{
    struct body_exit body;
    if (size < sizeof body + 8 || size > sizeof body + EXIT_RECORD_TEXT_BYTES)
        return false;
    memcpy(&body, data, sizeof body);
    size_t text = size - sizeof body;
    if (body.reason >= REASONS || body.exit_code > 255 || body.signal > SIGNAL_MAX || body.run_ms < 0 ||
        (body.end_flags & ~(uint32_t)END_FLAGS_KNOWN) || data[size - 1] != 0)
        return false;
    out->started = body.head.flags & FLAG_STARTED;
    out->output_bytes_max = body.output_bytes_max;
    out->result = (struct attempt_result){
        .reason = body.reason,
        .exit_code = body.exit_code,
        .signal = body.signal,
        .flags = body.end_flags,
        .run_ms = body.run_ms,
        .cpu_ms = body.cpu_ms,
        .rss_max_bytes = body.rss_max_bytes,
        .stdout_bytes = body.stdout_bytes,
        .stderr_bytes = body.stderr_bytes,
    };
    memcpy(out->text, data + sizeof body, text);
    return true;
}

static bool decode_rest(const uint8_t *data, size_t size, struct exit_record *out)
{
    switch (out->kind) {
    case LOG_BOOT: {
        struct body_boot body;
        if (size != sizeof body)
            return false;
        memcpy(&body, data, sizeof body);
        memcpy(out->boot, body.boot, sizeof out->boot);
        return body.boot[sizeof body.boot - 1] == 0;
    }
    case LOG_SPAWNING: {
        struct body_spawning body;
        if (size != sizeof body)
            return false;
        memcpy(&body, data, sizeof body);
        out->fence = body.fence;
        out->begun_ms = body.begun_ms;
        out->output_bytes_max = body.output_bytes_max;
        out->slot = body.slot;
        return body.begun_ms >= 0;
    }
    case LOG_SPAWNED: {
        struct body_spawned body;
        if (size != sizeof body)
            return false;
        memcpy(&body, data, sizeof body);
        out->pid = body.pid;
        return body.pid > 0 && body.pid <= INT32_MAX;
    }
    case LOG_EXIT:
        return decode_exit(data, size, out);
    case LOG_REMOVED:
        return size == sizeof(struct body_head);
    }
    return false;
}

static bool decode_body(const uint8_t *data, size_t size, struct exit_record *out)
{
    struct body_head head;
    memcpy(&head, data, sizeof head);
    *out = (struct exit_record){ .kind = head.kind,
                                 .ref = { .job = { head.job }, .task = head.task, .attempt = head.attempt },
                                 .own_streams = head.flags & 3u };
    if (head.flags & ~7u || (head.kind != LOG_BOOT && head.job == 0))
        return false;
    return decode_rest(data, size, out);
}

/* The bytes of the record at data, or 0 if there is none. */
static size_t decode_one(const uint8_t *data, size_t size, struct exit_record *out)
{
    struct frame frame;
    if (size < sizeof frame)
        return 0;
    memcpy(&frame, data, sizeof frame);
    if (frame.magic != MAGIC || frame.bytes % 8 != 0 || frame.bytes < sizeof frame + sizeof(struct body_head) ||
        frame.bytes > EXIT_RECORD_BYTES_MAX || frame.bytes > size)
        return 0;
    size_t body = frame.bytes - sizeof frame;
    if (frame.hash != XXH3_64bits(data + sizeof frame, body) || !decode_body(data + sizeof frame, body, out))
        return 0;
    return frame.bytes;
}

static bool zero_word(const uint8_t *data, size_t size)
{
    static const uint8_t zeros[8];
    return size < sizeof zeros || memcmp(data, zeros, sizeof zeros) == 0;
}

enum exit_record_found exit_record_decode(const uint8_t *data, size_t size, size_t *at, struct exit_record *out)
{
    check(*at <= size && *at % 8 == 0);
    size_t bytes = decode_one(data + *at, size - *at, out);
    if (bytes) {
        *at += bytes;
        return LOG_FOUND;
    }
    /* Zeros may also stand where a record was torn out of the middle: it is the end only if no record follows. */
    bool zeros = zero_word(data + *at, size - *at);
    size_t next = *at;
    while (next + sizeof(struct frame) <= size && !decode_one(data + next, size - next, out))
        next += 8;
    bool more = next + sizeof(struct frame) <= size;
    *at = more ? next : size - size % 8;
    return more || !zeros ? LOG_BAD : LOG_END;
}
