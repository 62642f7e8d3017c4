#include "core/agent/devices.h"

#include <stdio.h>

#include "base/check.h"

#define WHOLE 1000u
#define ID_MAX 9999u

void devices_init(struct devices *d, const uint32_t *ids, size_t count)
{
    *d = (struct devices){ .count = 0 };
    for (size_t i = 0; i < count && d->count < DEVICES_MAX; i++) {
        uint32_t id = ids ? ids[i] : (uint32_t)i;
        if (id > ID_MAX)
            continue;
        d->ids[d->count] = id;
        d->free_milli[d->count++] = WHOLE;
    }
}

/* The unit in which least is left that is enough for the part, or count. */
static size_t best_for(const struct devices *d, uint64_t part_milli)
{
    size_t best = d->count;
    for (size_t i = 0; i < d->count; i++)
        if (d->free_milli[i] >= part_milli && (best == d->count || d->free_milli[i] < d->free_milli[best]))
            best = i;
    return best;
}

bool devices_have(const struct devices *d, uint64_t milli)
{
    uint64_t whole = milli / WHOLE, part = milli % WHOLE, wholes_free = 0;
    for (size_t i = 0; i < d->count; i++)
        wholes_free += d->free_milli[i] == WHOLE;
    if (wholes_free < whole)
        return false;
    size_t best = part ? best_for(d, part) : 0;
    return !part || (best < d->count && (d->free_milli[best] < WHOLE || wholes_free > whole));
}

static size_t add(char *text, size_t used, uint32_t id)
{
    return used + (size_t)snprintf(text + used, DEVICES_TEXT_BYTES - used, used ? ",%u" : "%u", id);
}

bool devices_take(struct devices *d, uint64_t milli, char text[DEVICES_TEXT_BYTES])
{
    uint64_t whole = milli / WHOLE, part = milli % WHOLE;
    size_t used = 0, shared = d->count;
    text[0] = 0;
    if (!devices_have(d, milli))
        return false;
    if (part) { /* first, so that it does not come to be one of the whole ones */
        shared = best_for(d, part);
        d->free_milli[shared] -= (uint32_t)part;
    }
    for (size_t i = 0; i < d->count && whole; i++) {
        if (d->free_milli[i] != WHOLE)
            continue;
        d->free_milli[i] = 0;
        used = add(text, used, d->ids[i]);
        whole--;
    }
    check(!whole);
    if (part)
        add(text, used, d->ids[shared]);
    return true;
}

static void change(struct devices *d, struct bytes text, uint64_t milli, bool take)
{
    uint64_t whole = milli / WHOLE, part = milli % WHOLE;
    const char *at = text.data, *end = text.data + text.size;
    while (at < end) {
        uint32_t id = 0;
        for (; at < end && *at >= '0' && *at <= '9' && id <= ID_MAX; at++)
            id = id * 10 + (uint32_t)(*at - '0');
        at += at < end;
        uint32_t amount = whole ? WHOLE : (uint32_t)part;
        whole -= whole > 0;
        for (size_t i = 0; i < d->count; i++) {
            if (d->ids[i] != id)
                continue;
            uint32_t left = d->free_milli[i];
            if (take)
                d->free_milli[i] = left > amount ? left - amount : 0;
            else
                d->free_milli[i] = left + amount < WHOLE ? left + amount : WHOLE;
        }
    }
}

void devices_claim(struct devices *d, struct bytes text, uint64_t milli)
{
    change(d, text, milli, true);
}

void devices_give_back(struct devices *d, struct bytes text, uint64_t milli)
{
    change(d, text, milli, false);
}
