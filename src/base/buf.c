#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/mem.h"

void buf_fini(struct buf *b)
{
    free(b->data);
    *b = BUF_INIT;
}

void buf_clear(struct buf *b)
{
    b->size = 0;
    if (b->data)
        b->data[0] = 0;
}

void buf_reserve(struct buf *b, size_t more)
{
    check(more < SIZE_MAX / 4 && b->size < SIZE_MAX / 4);
    if (b->size + more + 1 > b->cap)
        b->data = mem_grow(b->data, &b->cap, b->size + more + 1 < 64 ? 64 : b->size + more + 1, 1);
}

void buf_add(struct buf *b, const void *data, size_t size)
{
    buf_reserve(b, size);
    if (size)
        memcpy(b->data + b->size, data, size);
    b->size += size;
    b->data[b->size] = 0;
}

void buf_str(struct buf *b, const char *text)
{
    buf_add(b, text, strlen(text));
}

void buf_char(struct buf *b, char c)
{
    buf_add(b, &c, 1);
}

void buf_vprintf(struct buf *b, const char *fmt, va_list args)
{
    va_list again;
    va_copy(again, args);
    int need = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    check(need >= 0);
    buf_reserve(b, (size_t)need);
    vsnprintf(b->data + b->size, (size_t)need + 1, fmt, args);
    b->size += (size_t)need;
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    buf_vprintf(b, fmt, args);
    va_end(args);
}

void buf_u64(struct buf *b, uint64_t value)
{
    char text[20];
    size_t at = sizeof text;
    do {
        text[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    buf_add(b, text + at, sizeof text - at);
}

void buf_i64(struct buf *b, int64_t value)
{
    if (value < 0)
        buf_char(b, '-');
    buf_u64(b, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

void buf_consume(struct buf *b, size_t size)
{
    check(size <= b->size);
    if (!size)
        return;
    memmove(b->data, b->data + size, b->size - size);
    b->size -= size;
    b->data[b->size] = 0;
}

char *buf_take(struct buf *b)
{
    buf_reserve(b, 0);
    b->data[b->size] = 0;
    char *data = b->data;
    *b = BUF_INIT;
    return data;
}

#define VARINT_BYTES 10

void buf_varint(struct buf *b, uint64_t value)
{
    if (b->cap - b->size < VARINT_BYTES + 1)
        buf_reserve(b, VARINT_BYTES);
    uint8_t *at = (uint8_t *)b->data + b->size;
    while (value >= 0x80) {
        *at++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *at++ = (uint8_t)value;
    *at = 0;
    b->size = (size_t)((char *)at - b->data);
}

bool varint_read(const uint8_t **at, const uint8_t *end, uint64_t *out)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (*at == end)
            return false;
        uint8_t byte = *(*at)++;
        if (shift == 63 && byte > 1)
            return false;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *out = value;
            return true;
        }
    }
    return false;
}
