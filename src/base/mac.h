/* mac.h: a keyed 128-bit code of a few numbers; nobody without the key can guess one.
 * SipHash-2-4 with 128-bit output (Aumasson and Bernstein, 2012). Numbers count as their bytes on a little-endian
 * machine. */
#ifndef ROTA_BASE_MAC_H
#define ROTA_BASE_MAC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAC_KEY_BYTES 16

struct mac128 {
    uint64_t low;
    uint64_t high;
};

struct mac;
struct mac *mac_new(const uint8_t key[MAC_KEY_BYTES]);
void mac_free(struct mac *m);
struct mac128 mac_numbers(const struct mac *m, const uint64_t *numbers, size_t count);
/* Takes the same time wherever the two differ. */
bool mac_equal(struct mac128 a, struct mac128 b);

#endif
