/* What comes from a server or a job and ends on a terminal: names (text_clean), JSON (json_clean), output of jobs
 * (log_clean, in pieces), streams of events (sse_feed). The first byte says where pieces are cut. What comes out must
 * be unable to drive a terminal. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/parse.h"
#include "cli/client.h"
#include "cli/term.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Nothing but text, or, where colours may pass, ESC [ digits ; : m. */
static void check_tame(struct bytes text, bool colours)
{
    check(utf8_valid(text));
    for (size_t i = 0; i < text.size; i++) {
        unsigned char b = (unsigned char)text.data[i];
        if (b == 0x1B) {
            check(colours && i + 1 < text.size && text.data[i + 1] == '[');
            for (i += 2; i < text.size && strchr("0123456789;:", text.data[i]) && text.data[i]; i++)
                ;
            check(i < text.size && text.data[i] == 'm');
            continue;
        }
        check((b >= 0x20 || b == '\n' || b == '\t') && b != 0x7F);
        check(!(b == 0xC2 && (unsigned char)text.data[i + 1] <= 0x9F)); /* C1 */
        check(!(b == 0xE2 && (unsigned char)text.data[i + 1] == 0x80 && (unsigned char)text.data[i + 2] >= 0xAA &&
                (unsigned char)text.data[i + 2] <= 0xAE)); /* bidi overrides */
    }
}

static void on_event(void *arg, const char *id, const char *event, struct bytes text)
{
    size_t *events = arg;
    check(strlen(id) < 64 && strlen(event) < 64 && text.size <= SSE_EVENT_MAX && text.data[text.size] == 0);
    ++*events;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    size_t step = data[0] % 16 + 1u, events = 0;
    struct bytes text = bytes_of(data + 1, size - 1);
    autobuf struct buf out = BUF_INIT, pieces = BUF_INIT, whole = BUF_INIT;
    text_clean(&out, text);
    check_tame(buf_bytes(&out), false);
    buf_clear(&out);
    json_clean(&out, text);
    check_tame(buf_bytes(&out), false);
    struct log_clean one = { 0 }, many = { 0 };
    struct sse sse = { .on_event = on_event, .arg = &events };
    log_clean(&one, &whole, text);
    for (size_t at = 0; at < text.size; at += step) {
        struct bytes piece = bytes_of(text.data + at, text.size - at < step ? text.size - at : step);
        log_clean(&many, &pieces, piece);
        sse_feed(&sse, piece);
    }
    sse_fini(&sse);
    log_clean_end(&one, &whole);
    log_clean_end(&many, &pieces);
    check(bytes_equal(buf_bytes(&whole), buf_bytes(&pieces)));
    check_tame(buf_bytes(&whole), true);
    return 0;
}
