#include "base/mem.h"

#include <stdint.h>
#include <string.h>

#include "base/check.h"

void *mem_alloc(size_t bytes)
{
    void *memory = malloc(bytes ? bytes : 1);
    check(memory);
    return memory;
}

void *mem_zero(size_t count, size_t bytes)
{
    void *memory = calloc(count ? count : 1, bytes ? bytes : 1);
    check(memory);
    return memory;
}

void *mem_resize(void *old, size_t count, size_t bytes)
{
    void *memory = reallocarray(old, count ? count : 1, bytes ? bytes : 1);
    check(memory);
    return memory;
}

char *mem_str(const char *text)
{
    return text ? mem_copy(text, strlen(text) + 1) : NULL;
}

void *mem_copy(const void *source, size_t bytes)
{
    void *memory = mem_alloc(bytes);
    if (bytes)
        memcpy(memory, source, bytes);
    return memory;
}

void *mem_grow(void *array, size_t *cap, size_t need, size_t bytes)
{
    if (need <= *cap)
        return array;
    size_t grown = *cap ? *cap : 8;
    while (grown < need) {
        check(grown <= SIZE_MAX / 2);
        grown *= 2;
    }
    array = mem_resize(array, grown, bytes);
    *cap = grown;
    return array;
}
