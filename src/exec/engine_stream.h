/* engine_stream.h: readers of the two streams that a container engine sends: output in frames, and lines of JSON.
 * Both take pieces of any size and hold a bounded rest; no length that is read is allocated. */
#ifndef ROTA_EXEC_ENGINE_STREAM_H
#define ROTA_EXEC_ENGINE_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

/* Frames: a byte of type, three zeros, the length in 4 bytes (the most significant first), and so many bytes. */
enum engine_frame { FRAME_STDIN, FRAME_STDOUT, FRAME_STDERR, FRAME_ENGINE /* words of the engine's, no output */ };
struct engine_frames {
    uint8_t head[8];
    uint32_t head_size, left;
    bool broken; /* what came is no such stream: nothing more is taken from it */
};
void engine_frames_take(struct engine_frames *f, struct bytes piece,
                        void (*payload)(void *arg, enum engine_frame type, struct bytes data), void *arg);

#define ENGINE_LINE_BYTES_MAX 65536u /* a longer line is dropped */
struct engine_lines {
    struct buf line;
    bool dropping;
};
void engine_lines_take(struct engine_lines *l, struct bytes piece, void (*line)(void *arg, struct bytes line),
                       void *arg);
void engine_lines_end(struct engine_lines *l, void (*line)(void *arg, struct bytes line),
                      void *arg); /* a last one without newline */

#endif
