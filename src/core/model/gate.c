#include "core/model/gate.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/check.h"
#include "base/mem.h"

/* What gathers, and what is in flight: the two change places when a batch is sealed. */
struct gathering {
    struct arena arena;
    struct record *records;
    size_t records_count, records_cap;
    struct gate_item *items;
    size_t items_count, items_cap;
};

struct gate {
    struct gathering sides[2];
    int filling;        /* side that gathers; the other one is in flight or was handed out */
    bool in_flight;
    uint64_t next_seq;
    int64_t credits;    /* batches that need not wait, as of credits_ms */
    int64_t credits_ms;
    struct gate_batch batch;
};

struct gate *gate_new(uint64_t next_seq)
{
    struct gate *g = mem_zero(1, sizeof *g);
    g->next_seq = next_seq;
    g->credits = GATE_BURST;
    return g;
}

void gate_free(struct gate *g)
{
    if (!g)
        return;
    for (int i = 0; i < 2; i++) {
        arena_fini(&g->sides[i].arena);
        free(g->sides[i].records);
        free(g->sides[i].items);
    }
    free(g);
}

static void keep_str(struct arena *arena, struct bytes *text)
{
    if (text->size)
        *text = arena_bytes(arena, *text);
}

static void keep_record(struct arena *arena, struct record *r)
{
    switch (r->kind) {
#define KEEP_U64(f)
#define KEEP_U32(f)
#define KEEP_I64(f)
#define KEEP_RES(f)
#define KEEP_MAC(f)
#define KEEP_STR(f) keep_str(arena, f);
#define KEEP(type, field) KEEP_##type(&e->field)
#define EVENT(KIND, kind_, name, FIELDS)                                                                               \
    case EV_##KIND: {                                                                                                  \
        struct ev_##kind_ *e = &r->kind_;                                                                              \
        (void)e;                                                                                                       \
        FIELDS(KEEP)                                                                                                   \
        break;                                                                                                         \
    }
        EVENTS(EVENT)
#undef EVENT
    default:
        check_unreachable();
    }
}

static struct gate_item *add_item(struct gathering *side, enum gate_item_kind kind)
{
    side->items = mem_grow(side->items, &side->items_cap, side->items_count + 1, sizeof *side->items);
    struct gate_item *item = &side->items[side->items_count++];
    item->kind = kind;
    return item;
}

void gate_add(struct gate *g, const struct effects *fx)
{
    struct gathering *side = &g->sides[g->filling];
    side->records = mem_grow(side->records, &side->records_cap, side->records_count + fx->records_count,
                             sizeof *side->records);
    for (size_t i = 0; i < fx->records_count; i++) {
        struct record *r = &side->records[side->records_count++];
        *r = fx->records[i];
        r->seq = g->next_seq++;
        keep_record(&side->arena, r);
    }
    for (size_t i = 0; i < fx->sends_count; i++) {
        struct gate_item *item = add_item(side, GATE_SEND);
        item->send = fx->sends[i];
        message_keep(&side->arena, &item->send.message);
    }
    for (size_t i = 0; i < fx->execs_count; i++) {
        struct gate_item *item = add_item(side, GATE_EXEC);
        item->exec = fx->execs[i];
        keep_str(&side->arena, &item->exec.spec);
        keep_str(&side->arena, &item->exec.gpus);
        keep_str(&side->arena, &item->exec.cpus);
    }
}

void gate_add_reply(struct gate *g, void *context, uint64_t value)
{
    struct gate_item *item = add_item(&g->sides[g->filling], GATE_REPLY);
    item->reply.context = context;
    item->reply.value = value;
}

uint64_t gate_next_seq(const struct gate *g)
{
    return g->next_seq;
}

size_t gate_pending(const struct gate *g)
{
    return g->sides[g->filling].records_count;
}

bool gate_in_flight(const struct gate *g)
{
    return g->in_flight;
}

int64_t gate_pace(struct gate *g, int64_t now_ms)
{
    const size_t much = 512;
    size_t count = gate_pending(g);
    if (!count || g->in_flight)
        return 0;
    int64_t windows = (now_ms - g->credits_ms) / GATE_WINDOW_MS;
    g->credits += windows;
    g->credits_ms += windows * GATE_WINDOW_MS;
    if (g->credits >= GATE_BURST) {
        g->credits = GATE_BURST;
        g->credits_ms = now_ms;
    }
    if (!g->credits && count < much)
        return g->credits_ms + GATE_WINDOW_MS - now_ms;
    if (g->credits)
        g->credits--;
    return 0;
}

const struct gate_batch *gate_seal(struct gate *g)
{
    struct gathering *full = &g->sides[g->filling];
    if (g->in_flight || (!full->records_count && !full->items_count))
        return NULL;
    g->filling = !g->filling;
    struct gathering *next = &g->sides[g->filling];
    next->records_count = next->items_count = 0;
    arena_reset(&next->arena);
    g->in_flight = true;
    g->batch = (struct gate_batch){ full->records, full->records_count, full->items, full->items_count };
    return &g->batch;
}

const struct gate_batch *gate_commit(struct gate *g)
{
    check(g->in_flight);
    g->in_flight = false;
    return &g->batch;
}
