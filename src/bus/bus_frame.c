#include "bus/bus_frame.h"

#define KEEP_BYTES 65536u /* memory that a reader keeps between frames */

void frame_reader_fini(struct frame_reader *f)
{
    buf_fini(&f->body);
    *f = (struct frame_reader){ 0 };
}

static size_t head_size(const uint8_t head[FRAME_HEAD_BYTES])
{
    return (size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
}

static void start_over(struct frame_reader *f)
{
    f->head_have = 0;
    f->given = false;
    if (f->body.cap > KEEP_BYTES)
        buf_fini(&f->body);
    else
        buf_clear(&f->body);
}

int frame_take(struct frame_reader *f, const uint8_t **at, const uint8_t *end, size_t max, struct bytes *body)
{
    if (f->given)
        start_over(f);
    while (f->head_have < FRAME_HEAD_BYTES) {
        if (*at == end)
            return 0;
        f->head[f->head_have++] = *(*at)++;
    }
    size_t size = head_size(f->head), have = (size_t)(end - *at);
    if (size > max)
        return -1;
    if (f->body.size == 0 && have >= size) {
        *body = bytes_of(*at, size); /* The common case: nothing is copied. */
        *at += size;
        f->given = true;
        return 1;
    }
    size_t more = size - f->body.size < have ? size - f->body.size : have;
    buf_add(&f->body, *at, more);
    *at += more;
    if (f->body.size < size)
        return 0;
    *body = buf_bytes(&f->body);
    f->given = true;
    return 1;
}
