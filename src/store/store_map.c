#include "store/store_map.h"

#include "base/check.h"
#include "base/mem.h"

enum { SLOT_EMPTY, SLOT_FULL, SLOT_GRAVE };

void store_map_fini(struct store_map *m)
{
    free(m->slots);
    *m = (struct store_map){ .slots = NULL };
}

void store_map_clear(struct store_map *m)
{
    for (size_t i = 0; i < m->cap; i++)
        m->slots[i].state = SLOT_EMPTY;
    m->count = m->used = 0;
}

/* The finalizer of splitmix64 (Steele, Lea and Flood, 2014). */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* The slot of the key, or the empty one where the search for it ends; *grave is the first grave on the way. */
static struct store_map_slot *find(const struct store_map *m, struct store_map_key key, struct store_map_slot **grave)
{
    size_t at = (size_t)mix(key.a * 0x9e3779b97f4a7c15u + mix(key.b)) & (m->cap - 1);
    for (;; at = (at + 1) & (m->cap - 1)) {
        struct store_map_slot *slot = &m->slots[at];
        if (slot->state == SLOT_EMPTY || (slot->state == SLOT_FULL && slot->key.a == key.a && slot->key.b == key.b))
            return slot;
        if (slot->state == SLOT_GRAVE && grave && !*grave)
            *grave = slot;
    }
}

static void rehash(struct store_map *m)
{
    struct store_map old = *m;
    m->cap = 16;
    while (m->cap < old.count * 3)
        m->cap *= 2;
    m->slots = mem_zero(m->cap, sizeof *m->slots);
    m->used = m->count;
    for (size_t i = 0; i < old.cap; i++)
        if (old.slots[i].state == SLOT_FULL)
            *find(m, old.slots[i].key, NULL) = old.slots[i];
    free(old.slots);
}

uint64_t *store_map_get(const struct store_map *m, struct store_map_key key)
{
    if (!m->cap)
        return NULL;
    struct store_map_slot *slot = find(m, key, NULL);
    return slot->state == SLOT_FULL ? &slot->value : NULL;
}

bool store_map_put(struct store_map *m, struct store_map_key key, uint64_t value)
{
    if ((m->used + 1) * 3 > m->cap * 2)
        rehash(m);
    struct store_map_slot *grave = NULL, *slot = find(m, key, &grave);
    if (slot->state == SLOT_FULL)
        return false;
    if (grave)
        slot = grave;
    else
        m->used++;
    m->count++;
    *slot = (struct store_map_slot){ key, value, SLOT_FULL };
    return true;
}

bool store_map_remove(struct store_map *m, struct store_map_key key)
{
    if (!m->cap)
        return false;
    struct store_map_slot *slot = find(m, key, NULL);
    if (slot->state != SLOT_FULL)
        return false;
    slot->state = SLOT_GRAVE;
    check(m->count > 0);
    m->count--;
    return true;
}
