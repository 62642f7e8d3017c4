#include "master/lines.h"

void lines_keep_last(struct buf *window, uint64_t lines)
{
    if (lines == 0 || window->size == 0) {
        buf_clear(window);
        return;
    }
    size_t at = window->size;
    if (window->data[at - 1] == '\n')
        at--;
    const char *end;
    do {
        end = memrchr(window->data, '\n', at);
        at = end ? (size_t)(end - window->data) : 0;
    } while (end && --lines > 0);
    if (end)
        at++;
    if (window->size - at > LINES_BYTES_MAX)
        at = window->size - LINES_BYTES_MAX;
    buf_consume(window, at);
}
