#include "core/model/message.h"

#include "base/check.h"

static const char *const names[MSG_KINDS] = {
    [MSG_NONE] = "NONE",
    [MSG_HELLO] = "HELLO",
    [MSG_HEARTBEAT] = "HEARTBEAT",
    [MSG_INVENTORY] = "INVENTORY",
    [MSG_STARTED] = "STARTED",
    [MSG_FINISHED] = "FINISHED",
    [MSG_NEVER_STARTED] = "NEVER_STARTED",
    [MSG_GOODBYE] = "GOODBYE",
    [MSG_WELCOME] = "WELCOME",
    [MSG_HEARTBEAT_ACK] = "HEARTBEAT_ACK",
    [MSG_START] = "START",
    [MSG_KILL] = "KILL",
    [MSG_REVOKE] = "REVOKE",
    [MSG_REPORT_ACK] = "REPORT_ACK",
    [MSG_DRAIN] = "DRAIN",
    [MSG_GO_AWAY] = "GO_AWAY",
    [MSG_LOG_READ] = "LOG_READ",
    [MSG_LOG_CHUNK] = "LOG_CHUNK",
    [MSG_USAGE] = "USAGE",
    [MSG_NODE_REPORT] = "NODE_REPORT",
    [MSG_NOTE] = "NOTE",
};

const char *message_name(enum message_kind kind)
{
    check(kind < MSG_KINDS);
    return names[kind];
}

/* The finaliser of MurmurHash3 (Appleby, public domain): every input bit reaches every output bit. */
static uint64_t mix(uint64_t x)
{
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdULL;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ULL;
    return x ^ (x >> 33);
}

uint64_t inventory_digest_add(uint64_t digest, struct attempt_ref ref, enum attempt_phase phase)
{
    uint64_t x = mix(ref.job.n + 0x9e3779b97f4a7c15ULL);
    x = mix(x ^ (((uint64_t)ref.task << 32) | ref.attempt));
    return digest + mix(x ^ (uint64_t)phase);
}

static void keep(struct arena *arena, struct bytes *text)
{
    if (text->size)
        *text = arena_bytes(arena, *text);
}

void message_keep(struct arena *arena, struct message *m)
{
    switch (m->kind) {
    case MSG_HELLO:
        keep(arena, &m->hello.name);
        keep(arena, &m->hello.boot);
        keep(arena, &m->hello.version);
        keep(arena, &m->hello.metrics);
        m->hello.named = arena_copy(arena, m->hello.named, m->hello.named_count * sizeof *m->hello.named);
        m->hello.items = arena_copy(arena, m->hello.items, m->hello.items_count * sizeof *m->hello.items);
        break;
    case MSG_INVENTORY:
        m->inventory.items = arena_copy(arena, m->inventory.items, m->inventory.items_count * sizeof *m->inventory.items);
        break;
    case MSG_FINISHED:
        keep(arena, &m->finished.stdout_tail);
        keep(arena, &m->finished.stderr_tail);
        break;
    case MSG_NEVER_STARTED:
        keep(arena, &m->never_started.text);
        break;
    case MSG_START:
        keep(arena, &m->start.spec);
        m->start.named = arena_copy(arena, m->start.named, m->start.named_count * sizeof *m->start.named);
        break;
    case MSG_WELCOME:
        keep(arena, &m->welcome.lease_url);
        break;
    case MSG_GO_AWAY:
        keep(arena, &m->go_away.text);
        break;
    case MSG_NODE_REPORT:
        keep(arena, &m->node_report.name);
        keep(arena, &m->node_report.enforces);
        break;
    case MSG_NOTE:
        keep(arena, &m->note.text);
        break;
    case MSG_USAGE:
        keep(arena, &m->usage.series);
        break;
    case MSG_LOG_CHUNK:
        keep(arena, &m->log_chunk.data);
        break;
    default:
        break; /* No pointers inside. */
    }
}
