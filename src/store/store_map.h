/* store_map.h: a hash table from pairs of numbers to numbers, for the store in memory. */
#ifndef ROTA_STORE_MAP_H
#define ROTA_STORE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct store_map_key { uint64_t a, b; };
struct store_map_slot { struct store_map_key key; uint64_t value; uint32_t state; };
struct store_map {
    struct store_map_slot *slots;
    size_t cap;   /* a power of two, or 0 */
    size_t count; /* keys */
    size_t used;  /* keys and graves */
};

void store_map_fini(struct store_map *m);                                        /* empty and usable again */
void store_map_clear(struct store_map *m);                                       /* keeps the memory */
uint64_t *store_map_get(const struct store_map *m, struct store_map_key key);    /* NULL: not there */
bool store_map_put(struct store_map *m, struct store_map_key key, uint64_t value); /* false: it was there; unchanged */
bool store_map_remove(struct store_map *m, struct store_map_key key);            /* false: it was not there */

#endif
