/* The nursery's journal: any bytes are read to their end, and what is found comes out of the writer the same. */
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "exec/exit_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Puts the input into a frame that is right, so that the bodies are reached and not only the checksum. */
static void framed(const uint8_t *data, size_t size)
{
    uint8_t log[2 * EXIT_RECORD_BYTES_MAX] = { 0 };
    struct exit_record r = { .kind = LOG_REMOVED, .ref = { .job = { 1 } } }, got, again;
    size_t at = 0;
    if (size < sizeof r)
        return;
    memcpy(&r, data, sizeof r);
    if (r.kind < LOG_BOOT || r.kind > LOG_REMOVED)
        return;
    r.text[sizeof r.text - 1] = 0;
    r.boot[sizeof r.boot - 1] = 0;
    r.started = data[0] & 1;
    exit_record_encode(&r, log);
    if (exit_record_decode(log, sizeof log, &at, &got) != LOG_FOUND)
        return; /* a record that no nursery would write */
    uint8_t once[EXIT_RECORD_BYTES_MAX], twice[EXIT_RECORD_BYTES_MAX];
    size_t bytes = exit_record_encode(&got, once), place = 0;
    memset(log, 0, sizeof log);
    memcpy(log, once, bytes);
    check(exit_record_decode(log, sizeof log, &place, &again) == LOG_FOUND && place == bytes);
    check(exit_record_encode(&again, twice) == bytes && memcmp(once, twice, bytes) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct exit_record r;
    enum exit_record_found found;
    size_t at = 0;
    while ((found = exit_record_decode(data, size, &at, &r)) != LOG_END && size - at >= 8) {
        check(at <= size && r.kind >= LOG_BOOT && r.kind <= LOG_REMOVED);
        check(r.kind != LOG_EXIT || memchr(r.text, 0, sizeof r.text));
    }
    framed(data, size);
    return 0;
}
