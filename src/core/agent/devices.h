/* devices.h: which GPUs, or which CPUs, an attempt has: units with numbers, given out whole and in parts.
 *
 * Who asks for 2.5 has two to itself and half of a third, which it shares with who has other parts of that. Parts go where
 * least is left that is enough, so that whole units stay whole. What was given out is a text, "0,3,1": whole units first, the
 * shared one last; it is what the journal keeps and what the job is told. */
#ifndef ROTA_CORE_AGENT_DEVICES_H
#define ROTA_CORE_AGENT_DEVICES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define DEVICES_MAX 256u
#define DEVICES_TEXT_BYTES (DEVICES_MAX * 5u + 1u)

struct devices {
    uint32_t ids[DEVICES_MAX];      /* rising, below 10,000 */
    uint32_t free_milli[DEVICES_MAX];
    size_t count;
};

/* ids NULL: 0, 1, ... What is above DEVICES_MAX or 9,999 is left out. */
void devices_init(struct devices *d, const uint32_t *ids, size_t count);
bool devices_have(const struct devices *d, uint64_t milli);
/* False, and nothing is taken: so much is not free, or not in one piece. */
bool devices_take(struct devices *d, uint64_t milli, char text[DEVICES_TEXT_BYTES]);
/* Takes just those, which were given out before: of a unit that is not there (any more) or not free, what there is. */
void devices_claim(struct devices *d, struct bytes text, uint64_t milli);
void devices_give_back(struct devices *d, struct bytes text, uint64_t milli);

#endif
