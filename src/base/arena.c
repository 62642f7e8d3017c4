#include "base/arena.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"

#define BLOCK_BYTES 65536u

struct arena_block {
    struct arena_block *next;
    size_t size;
    _Alignas(16) char data[];
};

void arena_fini(struct arena *a)
{
    for (struct arena_block *b = a->first, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    *a = ARENA_INIT;
}

void arena_reset(struct arena *a)
{
    a->now = a->first;
    a->used = 0;
}

static struct arena_block *block_new(size_t bytes)
{
    size_t size = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
    struct arena_block *b = mem_alloc(sizeof *b + size);
    b->next = NULL;
    b->size = size;
    return b;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
    check(bytes < SIZE_MAX / 2);
    bytes = (bytes + 15) & ~(size_t)15;
    while (!a->now || a->now->size - a->used < bytes) {
        if (!a->now) {
            a->first = a->now = block_new(bytes);
        } else if (a->now->next && a->now->next->size >= bytes) {
            a->now = a->now->next;
        } else {
            struct arena_block *b = block_new(bytes);
            b->next = a->now->next;
            a->now->next = b;
            a->now = b;
        }
        a->used = 0;
    }
    void *memory = a->now->data + a->used;
    a->used += bytes;
    return memory;
}

void *arena_copy(struct arena *a, const void *source, size_t bytes)
{
    void *memory = arena_alloc(a, bytes);
    if (bytes)
        memcpy(memory, source, bytes);
    return memory;
}

struct bytes arena_bytes(struct arena *a, struct bytes source)
{
    return source.size ? bytes_of(arena_copy(a, source.data, source.size), source.size) : (struct bytes){ "", 0 };
}

char *arena_str(struct arena *a, struct bytes source)
{
    char *text = arena_alloc(a, source.size + 1);
    if (source.size)
        memcpy(text, source.data, source.size);
    text[source.size] = 0;
    return text;
}
