/* bus_frame.h: messages on a stream: u32 length, little-endian, then so many bytes.
 * The reader trusts no length: memory grows with what has come, never with what was announced. */
#ifndef ROTA_BUS_FRAME_H
#define ROTA_BUS_FRAME_H

#include "base/buf.h"

#define FRAME_HEAD_BYTES 4u

static inline void frame_head(uint8_t head[FRAME_HEAD_BYTES], size_t size)
{
    for (unsigned i = 0; i < FRAME_HEAD_BYTES; i++)
        head[i] = (uint8_t)(size >> (8 * i));
}

struct frame_reader {
    uint8_t head[FRAME_HEAD_BYTES];
    size_t head_have; /* bytes of head that have come */
    bool given;       /* the frame in `body` was handed out and goes at the next call */
    struct buf body;  /* of a frame that came in pieces */
};

void frame_reader_fini(struct frame_reader *f); /* f is empty and usable again */
/* Takes the next frame out of what has come, *at .. end, and moves *at. 1: *body is a frame, borrowed until the next
 * call and as long as the input lives; 0: all input is used up and more is needed; -1: the frame is longer than `max`,
 * the stream is lost. */
int frame_take(struct frame_reader *f, const uint8_t **at, const uint8_t *end, size_t max, struct bytes *body);

#endif
