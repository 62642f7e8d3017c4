#include "exec/nursery_msg.h"

#include <assert.h>
#include <string.h>

#include "base/check.h"
#include "core/model/states.h"

#define MAGIC 0x314d4e52u /* "RNM1" */

struct packet_head {
    uint32_t magic;
    uint32_t bytes; /* of the whole packet */
    uint64_t events_seen;
};

struct request_head {
    uint32_t bytes; /* of the request with its strings, a multiple of 8 */
    uint32_t verb;
    uint64_t job;
    uint32_t task, attempt;
    uint32_t version;
    uint8_t wants_vacated, in_line, overlap_never, none;
    int64_t lease_until_ms;
    uint64_t mem_bytes, output_bytes_max, place, file_bytes_max;
    uint32_t argc, envc, paths, strings_bytes;
    uint32_t cpu_weight_milli, cpu_quota_milli, pids_max, run_as, uid, gid;
};
static_assert(sizeof(struct packet_head) == 16 && sizeof(struct request_head) == 112, "no padding");

static size_t round8(size_t n)
{
    return (n + 7) & ~(size_t)7;
}

void nursery_packet_begin(struct buf *packet)
{
    check(packet->size == 0);
    buf_add(packet, &(struct packet_head){ .magic = MAGIC }, sizeof(struct packet_head));
}

void nursery_packet_seal(struct buf *packet, uint64_t events_seen)
{
    check(packet->size >= sizeof(struct packet_head) && packet->size <= NURSERY_PACKET_BYTES_MAX);
    struct packet_head head = { .magic = MAGIC, .bytes = (uint32_t)packet->size, .events_seen = events_seen };
    memcpy(packet->data, &head, sizeof head);
}

size_t nursery_request_bytes(const struct nursery_request *r)
{
    return sizeof(struct request_head) + round8(r->strings.size);
}

void nursery_request_add(struct buf *packet, const struct nursery_request *r)
{
    static const char zeros[8];
    size_t bytes = nursery_request_bytes(r);
    check(bytes <= NURSERY_REQUEST_BYTES_MAX);
    struct request_head head = {
        .bytes = (uint32_t)bytes,
        .verb = r->verb,
        .job = r->ref.job.n,
        .task = r->ref.task,
        .attempt = r->ref.attempt,
        .version = r->version,
        .wants_vacated = r->wants_vacated,
        .mem_bytes = r->mem_bytes,
        .output_bytes_max = r->output_bytes_max,
        .place = r->place,
        .in_line = r->in_line,
        .overlap_never = r->overlap_never,
        .lease_until_ms = r->lease_until_ms,
        .argc = r->argc,
        .envc = r->envc,
        .paths = r->paths,
        .strings_bytes = (uint32_t)r->strings.size,
        .file_bytes_max = r->file_bytes_max,
        .cpu_weight_milli = r->cpu_weight_milli,
        .cpu_quota_milli = r->cpu_quota_milli,
        .pids_max = r->pids_max,
        .run_as = r->run_as,
        .uid = r->uid,
        .gid = r->gid,
    };
    buf_add(packet, &head, sizeof head);
    buf_add(packet, r->strings.data, r->strings.size);
    buf_add(packet, zeros, bytes - sizeof head - r->strings.size);
}

bool nursery_packet_open(struct nursery_packet *p, const uint8_t *data, size_t size)
{
    struct packet_head head;
    if (size < sizeof head || size > NURSERY_PACKET_BYTES_MAX)
        return false;
    memcpy(&head, data, sizeof head);
    if (head.magic != MAGIC || head.bytes != size)
        return false;
    *p = (struct nursery_packet){ .at = data + sizeof head, .end = data + size, .events_seen = head.events_seen };
    return true;
}

static uint32_t path_count(uint32_t paths)
{
    return (uint32_t)__builtin_popcount(paths & NURSERY_PATHS);
}

/* A spawn request has a command, and exactly as many strings as it says. */
static bool strings_valid(const struct nursery_request *r)
{
    if (r->argc == 0 || r->argc > NURSERY_STRINGS_MAX || r->envc > NURSERY_STRINGS_MAX - r->argc ||
        r->paths & ~(uint32_t)NURSERY_PATHS || r->strings.size == 0 || r->strings.data[r->strings.size - 1] != 0)
        return false;
    uint64_t count = 0;
    const char *end = r->strings.data + r->strings.size;
    for (const char *at = r->strings.data; at < end; at += strlen(at) + 1)
        count++;
    return count == (uint64_t)r->argc + r->envc + path_count(r->paths);
}

static bool request_valid(const struct request_head *head, const struct nursery_request *r)
{
    switch (r->verb) {
    case NURSERY_SPAWN:
        return head->job != 0 && head->in_line <= 1 && head->overlap_never <= 1 && head->run_as <= 1 &&
               (head->run_as ? head->uid != UINT32_MAX && head->gid != UINT32_MAX : !(r->paths & NURSERY_GROUPS)) &&
               (!head->in_line || head->bytes <= NURSERY_LINE_BYTES_MAX) &&
               strings_valid(r);
    case NURSERY_TERM:
    case NURSERY_KILL:
    case NURSERY_CALL:
    case NURSERY_WITHDRAW:
    case NURSERY_REMOVE:
        return head->job != 0 && head->strings_bytes == 0;
    case NURSERY_HELLO:
    case NURSERY_SHUTDOWN:
        return head->strings_bytes == 0 && head->wants_vacated <= 1;
    case NURSERY_LEASE:
        return head->strings_bytes == 0 && head->lease_until_ms > 0;
    }
    return false;
}

int nursery_packet_next(struct nursery_packet *p, struct nursery_request *out)
{
    struct request_head head;
    size_t left = (size_t)(p->end - p->at);
    if (left == 0)
        return 0;
    if (left < sizeof head)
        return -1;
    memcpy(&head, p->at, sizeof head);
    if (head.bytes > left || head.bytes > NURSERY_REQUEST_BYTES_MAX || head.strings_bytes > NURSERY_REQUEST_BYTES_MAX ||
        head.bytes != sizeof head + round8(head.strings_bytes))
        return -1;
    *out = (struct nursery_request){
        .verb = head.verb,
        .ref = { .job = { head.job }, .task = head.task, .attempt = head.attempt },
        .version = head.version,
        .wants_vacated = head.wants_vacated,
        .mem_bytes = head.mem_bytes,
        .output_bytes_max = head.output_bytes_max,
        .place = head.place,
        .in_line = head.in_line != 0,
        .overlap_never = head.overlap_never != 0,
        .lease_until_ms = head.lease_until_ms,
        .argc = head.argc,
        .envc = head.envc,
        .paths = head.paths,
        .file_bytes_max = head.file_bytes_max,
        .cpu_weight_milli = head.cpu_weight_milli,
        .cpu_quota_milli = head.cpu_quota_milli,
        .pids_max = head.pids_max,
        .run_as = head.run_as != 0,
        .uid = head.uid,
        .gid = head.gid,
        .strings = { (const char *)p->at + sizeof head, head.strings_bytes },
    };
    if (!request_valid(&head, out))
        return -1;
    p->at += head.bytes;
    return 1;
}

void nursery_request_strings(const struct nursery_request *r, char **places)
{
    char *at = (char *)(uintptr_t)r->strings.data; /* exec wants char *const[]; nobody writes to them */
    for (uint32_t i = 0; i < r->argc + r->envc + path_count(r->paths); i++) {
        places[i] = at;
        at += strlen(at) + 1;
    }
}

struct event_head {
    uint32_t bytes;
    uint16_t kind, phase;
    uint64_t job;
    uint32_t task, attempt;
    uint32_t abilities, flags; /* 1: started, 2: vacated, 4 and 8: own_streams */
    uint32_t slot, pid;
    int64_t begun_ms;
    uint64_t output_bytes_max;
    uint32_t reason, exit_code, signal, end_flags;
    int64_t run_ms;
    uint64_t cpu_ms, rss_max_bytes, stdout_bytes, stderr_bytes;
    uint64_t passed_job;
    uint32_t passed_task, passed_attempt;
};
static_assert(sizeof(struct event_head) == 128, "no padding");
static_assert(sizeof(struct event_head) + NURSERY_TEXT_BYTES <= NURSERY_EVENT_BYTES_MAX, "the longest event fits");

size_t nursery_event_encode(const struct nursery_event *e, uint8_t out[NURSERY_EVENT_BYTES_MAX])
{
    const struct attempt_result *r = &e->result;
    size_t text = strnlen(e->text, sizeof e->text - 1);
    size_t padded = text ? round8(text + 1) : 0;
    struct event_head head = {
        .bytes = (uint32_t)(sizeof head + padded),
        .kind = (uint16_t)e->kind,
        .phase = (uint16_t)e->phase,
        .job = e->ref.job.n,
        .task = e->ref.task,
        .attempt = e->ref.attempt,
        .abilities = e->abilities,
        .flags = (e->started ? 1u : 0) | (e->vacated ? 2u : 0) | (e->own_streams & 3u) << 2,
        .slot = e->slot,
        .pid = e->pid,
        .begun_ms = e->begun_ms,
        .output_bytes_max = e->output_bytes_max,
        .reason = r->reason,
        .exit_code = r->exit_code,
        .signal = r->signal,
        .end_flags = r->flags,
        .run_ms = r->run_ms,
        .cpu_ms = r->cpu_ms,
        .rss_max_bytes = r->rss_max_bytes,
        .stdout_bytes = r->stdout_bytes,
        .stderr_bytes = r->stderr_bytes,
        .passed_job = e->passed_to.job.n,
        .passed_task = e->passed_to.task,
        .passed_attempt = e->passed_to.attempt,
    };
    memcpy(out, &head, sizeof head);
    memset(out + sizeof head, 0, padded);
    memcpy(out + sizeof head, e->text, text);
    return sizeof head + padded;
}

bool nursery_event_decode(const uint8_t *data, size_t size, size_t *at, struct nursery_event *out)
{
    struct event_head head;
    if (size - *at < sizeof head)
        return false;
    memcpy(&head, data + *at, sizeof head);
    size_t text = head.bytes - sizeof head;
    if (head.bytes < sizeof head || head.bytes > size - *at || head.bytes % 8 != 0 || text > sizeof out->text ||
        (text && data[*at + head.bytes - 1] != 0) || head.kind < NURSERY_WELCOME || head.kind > NURSERY_ENDED ||
        head.phase > PHASE_ENDED || head.reason >= REASONS || head.slot >= NURSERY_SLOTS_MAX)
        return false;
    *out = (struct nursery_event){
        .kind = head.kind,
        .ref = { .job = { head.job }, .task = head.task, .attempt = head.attempt },
        .abilities = head.abilities,
        .phase = head.phase,
        .started = head.flags & 1,
        .vacated = head.flags & 2,
        .own_streams = head.flags >> 2 & 3u,
        .slot = head.slot,
        .pid = head.pid,
        .begun_ms = head.begun_ms,
        .output_bytes_max = head.output_bytes_max,
        .passed_to = { .job = { head.passed_job }, .task = head.passed_task, .attempt = head.passed_attempt },
        .result = { .reason = head.reason,
                    .exit_code = head.exit_code,
                    .signal = head.signal,
                    .run_ms = head.run_ms,
                    .cpu_ms = head.cpu_ms,
                    .rss_max_bytes = head.rss_max_bytes,
                    .stdout_bytes = head.stdout_bytes,
                    .stderr_bytes = head.stderr_bytes,
                    .flags = head.end_flags },
    };
    memcpy(out->text, data + *at + sizeof head, text);
    *at += head.bytes;
    return true;
}
