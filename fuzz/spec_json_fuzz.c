/* The JSON of a job: what is understood is written in the canonical form, encoded, and read back from both, always the
 * same. */
#include <stdint.h>

#include "base/check.h"
#include "wire/json_in.h"
#include "wire/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool find_job(void *arg, struct bytes name, job_id *out)
{
    (void)arg;
    out->n = 1 + name.size;
    return true;
}

/* The lines of a stream do not depend on how it is cut. */
static void split(struct bytes text)
{
    struct ndjson whole, cut;
    struct bytes a, b;
    uint64_t a_number = 0, b_number = 0;
    struct err e;
    size_t at = 0;
    ndjson_init(&whole, 64);
    ndjson_init(&cut, 64);
    ndjson_feed(&whole, text);
    for (;;) {
        int x = ndjson_next(&whole, &a, &a_number, &e), y;
        while ((y = ndjson_next(&cut, &b, &b_number, &e)) == 0 && at < text.size) {
            size_t piece = 1 + at % 5 < text.size - at ? 1 + at % 5 : text.size - at;
            ndjson_feed(&cut, bytes_of(text.data + at, piece));
            at += piece;
        }
        if (x == 0 && y == 0) {
            x = ndjson_end(&whole, &a, &a_number, &e);
            y = ndjson_end(&cut, &b, &b_number, &e);
        }
        check(x == y);
        if (x != 1)
            break;
        check(a_number == b_number && bytes_equal(a, b) && a.size > 0);
    }
    ndjson_fini(&whole);
    ndjson_fini(&cut);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct arena arena;
    struct spec_reader reader = { .now_wall_ms = 1795434000000, .job_by_name = find_job };
    struct job_spec spec, back;
    struct err e;
    split(bytes_of(data, size));
    if (spec_from_json_with(&arena, bytes_of(data, size), &reader, &spec, &e) == 0) {
        autobuf struct buf json = BUF_INIT, again = BUF_INIT, encoded = BUF_INIT;
        check(spec_check(&spec, &e) == 0);
        spec_to_json(&json, &spec);
        check(spec_from_json_with(&arena, buf_bytes(&json), NULL, &back, &e) == 0);
        spec_to_json(&again, &back);
        check(bytes_equal(buf_bytes(&json), buf_bytes(&again)));
        spec_encode(&encoded, &spec);
        check(encoded.size <= SPEC_BYTES_MAX);
        check(spec_decode(&arena, buf_bytes(&encoded), &back, &e) == 0);
        buf_clear(&again);
        spec_to_json(&again, &back);
        check(bytes_equal(buf_bytes(&json), buf_bytes(&again)));
    }
    arena_reset(&arena);
    return 0;
}
