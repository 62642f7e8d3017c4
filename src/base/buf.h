/* buf.h: a growing byte buffer, and borrowed pieces of text or bytes.
 * Invariant: data[size] == 0 whenever data is not NULL, so data is also a C string. */
#ifndef ROTA_BASE_BUF_H
#define ROTA_BASE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Borrowed bytes: somebody else owns them and says how long they live. Not terminated by zero. */
struct bytes {
    const char *data;
    size_t size;
};

static inline struct bytes bytes_of(const void *data, size_t size) { return (struct bytes){ data, size }; }
static inline struct bytes bytes_str(const char *text) { return (struct bytes){ text, text ? strlen(text) : 0 }; }
static inline bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}
/* By bytes: negative, 0, positive; what begins with the other comes after it. */
static inline int bytes_compare(struct bytes a, struct bytes b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common ? memcmp(a.data, b.data, common) : 0;
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

struct buf {
    char *data;
    size_t size;
    size_t cap;
};
#define BUF_INIT ((struct buf){ NULL, 0, 0 })

void buf_fini(struct buf *b);                               /* frees; b is empty and usable again */
void buf_clear(struct buf *b);                              /* size 0, keeps the memory */
void buf_reserve(struct buf *b, size_t more);               /* room for `more` bytes after size */
void buf_add(struct buf *b, const void *data, size_t size);
void buf_str(struct buf *b, const char *text);
void buf_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *fmt, va_list args) __attribute__((format(printf, 2, 0)));
void buf_u64(struct buf *b, uint64_t value);                /* decimal text */
void buf_i64(struct buf *b, int64_t value);                 /* decimal text */
void buf_consume(struct buf *b, size_t size);               /* drops the first `size` bytes */
char *buf_take(struct buf *b);                              /* moves the data out: yours to free(); b is empty */
static inline struct bytes buf_bytes(const struct buf *b) { return (struct bytes){ b->data, b->size }; }

/* LEB128 varints and zigzag, for records and journals. */
void buf_varint(struct buf *b, uint64_t value);
static inline uint64_t zigzag(int64_t v) { return ((uint64_t)v << 1) ^ (0 - (uint64_t)(v < 0)); }
static inline int64_t unzigzag(uint64_t v) { return (int64_t)(v >> 1) ^ -(int64_t)(v & 1); }
/* Reads a varint at *at (before end) and moves *at. False if cut short or longer than 10 bytes; *at is then undefined. */
bool varint_read(const uint8_t **at, const uint8_t *end, uint64_t *out);

#define autobuf __attribute__((cleanup(buf_fini)))

#endif
