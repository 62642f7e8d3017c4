/* Encoded jobs, as they come from the store and from the wire: refused, or a job within all bounds that encodes to the
 * same meaning. */
#include <stdint.h>

#include "base/check.h"
#include "wire/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct arena arena;
    struct job_spec spec, back;
    struct err e;
    if (spec_decode(&arena, bytes_of(data, size), &spec, &e) == 0) {
        autobuf struct buf encoded = BUF_INIT, again = BUF_INIT;
        spec_encode(&encoded, &spec);
        check(spec_decode(&arena, buf_bytes(&encoded), &back, &e) == 0);
        spec_encode(&again, &back);
        check(bytes_equal(buf_bytes(&encoded), buf_bytes(&again)));
    }
    arena_reset(&arena);
    return 0;
}
