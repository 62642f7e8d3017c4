/* arena.h: memory with one common end of life. Blocks are kept by arena_reset for the next use. */
#ifndef ROTA_BASE_ARENA_H
#define ROTA_BASE_ARENA_H

#include <stddef.h>

#include "base/buf.h"

struct arena_block;
struct arena {
    struct arena_block *first; /* all blocks, in order of use */
    struct arena_block *now;   /* the one being filled */
    size_t used;               /* bytes of `now` in use */
};
#define ARENA_INIT ((struct arena){ NULL, NULL, 0 })

void arena_fini(struct arena *a);                            /* frees all; a is empty and usable again */
void arena_reset(struct arena *a);                           /* everything given out is gone; memory is kept */
void *arena_alloc(struct arena *a, size_t bytes);            /* 16-byte aligned, uninitialised; aborts without memory */
void *arena_copy(struct arena *a, const void *source, size_t bytes);
struct bytes arena_bytes(struct arena *a, struct bytes source); /* copy; empty stays empty */
char *arena_str(struct arena *a, struct bytes source);       /* copy with a final zero */

#endif
