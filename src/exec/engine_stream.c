#include "exec/engine_stream.h"

#include <string.h>

static size_t take_head(struct engine_frames *f, struct bytes piece)
{
    size_t want = sizeof f->head - f->head_size, size = piece.size < want ? piece.size : want;
    memcpy(f->head + f->head_size, piece.data, size);
    f->head_size += (uint32_t)size;
    if (f->head_size < sizeof f->head)
        return size;
    f->left = (uint32_t)f->head[4] << 24 | (uint32_t)f->head[5] << 16 | (uint32_t)f->head[6] << 8 | f->head[7];
    f->broken = f->head[0] > FRAME_ENGINE || f->head[1] || f->head[2] || f->head[3];
    if (!f->left)
        f->head_size = 0;
    return size;
}

void engine_frames_take(struct engine_frames *f, struct bytes piece,
                        void (*payload)(void *arg, enum engine_frame type, struct bytes data), void *arg)
{
    while (piece.size && !f->broken) {
        size_t size;
        if (f->head_size < sizeof f->head) {
            size = take_head(f, piece);
        } else {
            size = piece.size < f->left ? piece.size : f->left;
            payload(arg, (enum engine_frame)f->head[0], bytes_of(piece.data, size));
            f->left -= (uint32_t)size;
            if (!f->left)
                f->head_size = 0;
        }
        piece = bytes_of(piece.data + size, piece.size - size);
    }
}

void engine_lines_end(struct engine_lines *l, void (*line)(void *arg, struct bytes line), void *arg)
{
    if (l->line.size && !l->dropping)
        line(arg, buf_bytes(&l->line));
    buf_clear(&l->line);
    l->dropping = false;
}

void engine_lines_take(struct engine_lines *l, struct bytes piece, void (*line)(void *arg, struct bytes line),
                       void *arg)
{
    while (piece.size) {
        const char *end = memchr(piece.data, '\n', piece.size);
        size_t size = end ? (size_t)(end - piece.data) : piece.size;
        if (l->line.size + size > ENGINE_LINE_BYTES_MAX) {
            l->dropping = true;
            buf_clear(&l->line);
        }
        if (!l->dropping)
            buf_add(&l->line, piece.data, size);
        if (end) {
            engine_lines_end(l, line, arg);
            size++;
        }
        piece = bytes_of(piece.data + size, piece.size - size);
    }
}
