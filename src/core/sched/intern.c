#include "core/sched/intern.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/mem.h"

void intern_fini(struct intern *t)
{
    arena_fini(&t->arena);
    free(t->items);
    free(t->slots);
    *t = (struct intern){ .arena = ARENA_INIT };
}

/* FNV-1a, 64 bits (Fowler, Noll, Vo). */
static uint64_t hash_of(struct bytes text)
{
    uint64_t hash = 0xcbf29ce484222325ULL;
    for (size_t i = 0; i < text.size; i++)
        hash = (hash ^ (uint8_t)text.data[i]) * 0x100000001b3ULL;
    return hash ^ (hash >> 29);
}

static size_t slot_of(const struct intern *t, struct bytes text)
{
    size_t at = hash_of(text) & (t->slots_count - 1);
    while (t->slots[at] && !bytes_equal(t->items[t->slots[at] - 1], text))
        at = (at + 1) & (t->slots_count - 1);
    return at;
}

static void grow(struct intern *t)
{
    free(t->slots);
    t->slots_count = t->slots_count ? t->slots_count * 2 : 64;
    t->slots = mem_zero(t->slots_count, sizeof *t->slots);
    for (size_t i = 0; i < t->count; i++)
        t->slots[slot_of(t, t->items[i])] = (uint32_t)i + 1;
}

uint32_t intern_find(const struct intern *t, struct bytes text)
{
    if (!t->slots_count)
        return INTERN_NONE;
    uint32_t found = t->slots[slot_of(t, text)];
    return found ? found - 1 : INTERN_NONE;
}

uint32_t intern_add(struct intern *t, struct bytes text)
{
    if (t->count * 4 >= t->slots_count * 3)
        grow(t);
    size_t at = slot_of(t, text);
    if (t->slots[at])
        return t->slots[at] - 1;
    check(t->count < INTERN_NONE - 1);
    t->items = mem_grow(t->items, &t->cap, t->count + 1, sizeof *t->items);
    t->items[t->count] = arena_bytes(&t->arena, text);
    t->slots[at] = (uint32_t)++t->count;
    return t->slots[at] - 1;
}

size_t intern_memory(const struct intern *t)
{
    size_t bytes = t->cap * sizeof *t->items + t->slots_count * sizeof *t->slots;
    for (size_t i = 0; i < t->count; i++)
        bytes += t->items[i].size;
    return bytes;
}
