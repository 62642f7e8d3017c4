/* Requests and events between worker and nursery: any bytes are taken or refused, and every string that is taken is
 * there. */
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "exec/nursery_msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *places[NURSERY_STRINGS_MAX + 8];

static void requests(const uint8_t *data, size_t size)
{
    struct nursery_packet p;
    struct nursery_request r;
    if (!nursery_packet_open(&p, data, size))
        return;
    while (nursery_packet_next(&p, &r) == 1) {
        if (r.verb != NURSERY_SPAWN)
            continue;
        uint32_t count = r.argc + r.envc + (uint32_t)__builtin_popcount(r.paths);
        check(r.argc > 0 && count <= NURSERY_STRINGS_MAX + 4);
        nursery_request_strings(&r, places);
        check(places[0] == r.strings.data);
        check(places[count - 1] + strlen(places[count - 1]) + 1 == r.strings.data + r.strings.size);
    }
}

static void events(const uint8_t *data, size_t size)
{
    struct nursery_event e, again;
    uint8_t bytes[NURSERY_EVENT_BYTES_MAX];
    for (size_t at = 0; at < size && nursery_event_decode(data, size, &at, &e);) {
        check(memchr(e.text, 0, sizeof e.text));
        size_t written = nursery_event_encode(&e, bytes), place = 0;
        check(nursery_event_decode(bytes, written, &place, &again) && place == written);
        check(again.kind == e.kind && attempt_equal(again.ref, e.ref) && strcmp(again.text, e.text) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    requests(data, size);
    events(data, size);
    /* Most inputs do not begin as a packet: make one of them. */
    struct buf packet = BUF_INIT;
    nursery_packet_begin(&packet);
    buf_add(&packet, data, size > 4096 ? 4096 : size);
    nursery_packet_seal(&packet, 0);
    requests((uint8_t *)packet.data, packet.size);
    buf_fini(&packet);
    return 0;
}
