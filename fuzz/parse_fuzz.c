/* Every parser of base/parse.h: no crash, no undefined behaviour, and what was understood is written and understood
 * alike. */
#include <stdint.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void round_trips(const char *text)
{
    struct err e;
    autobuf struct buf b = BUF_INIT;
    uint64_t milli = 0, milli_back = 0, size = 0;
    int64_t ms = 0, ms_back = 0, i = 0;
    if (parse_milli(text, &milli, &e) == 0) {
        format_milli(&b, milli);
        check(parse_milli(b.data, &milli_back, &e) == 0 && milli_back == milli);
    }
    buf_clear(&b);
    if (parse_duration(text, &ms, &e) == 0) {
        check(ms >= 0);
        ms -= ms % 1000;
        format_duration(&b, ms);
        check(parse_duration(b.data, &ms_back, &e) == 0 && ms_back == ms);
    }
    buf_clear(&b);
    if (parse_time(text, 1795434000000, &ms, &e) == 0) {
        check(ms >= 0);
        format_time(&b, ms);
        check(parse_time(b.data, 0, &ms_back, &e) == 0 && ms_back == ms);
    }
    buf_clear(&b);
    if (parse_size(text, &size, &e) == 0) {
        check(size <= INT64_MAX);
        format_size(&b, size);
    }
    buf_clear(&b);
    if (parse_i64(text, INT64_MIN, INT64_MAX, &i, &e) == 0) {
        buf_i64(&b, i);
        check(parse_i64(b.data, i, i, &ms, &e) == 0 && ms == i);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    autofree char *text = mem_alloc(size + 1);
    if (size)
        memcpy(text, data, size);
    text[size] = 0;
    struct err e;
    uint64_t u = 0;
    uint32_t first = 0, step = 0, count = 0, limit = 0, index = 0;
    bool has = false;
    round_trips(text);
    parse_u64(text, 0, UINT64_MAX, &u, &e);
    if (parse_array(text, &first, &step, &count, &limit, &e) == 0)
        check(step >= 1 && count >= 1 && first + (uint64_t)(count - 1) * step < UINT32_MAX - 1);
    if (parse_job_ref(text, &u, &has, &index, &e) == 0)
        check(u > 0);
    if (parse_name_ok(bytes_of(data, size), 64))
        check(utf8_valid(bytes_of(data, size)) && size >= 1 && size <= 64);
    parse_distance(text, "command");
    return 0;
}
