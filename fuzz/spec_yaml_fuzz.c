/* Job files: either faults and no output, or lines each of which is a job in the canonical form. */
#include <stdint.h>

#include "base/check.h"
#include "wire/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool find_job(void *arg, struct bytes name, job_id *out)
{
    (void)arg, (void)name;
    out->n = 1;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct arena arena;
    struct spec_reader reader = { .job_by_name = find_job };
    autobuf struct buf out = BUF_INIT, faults = BUF_INIT;
    struct err e;
    int rc = spec_from_yaml("f", bytes_of(data, size), &out, &faults, &e);
    check(rc == 0 || out.size == 0);
    check((rc == 0) == (faults.size == 0) || rc == -ERR_TOO_LARGE);
    for (char *line = out.data, *end; line && (end = strchr(line, '\n')); line = end + 1) {
        struct job_spec spec;
        check(spec_from_json_with(&arena, bytes_of(line, (size_t)(end - line)), &reader, &spec, &e) == 0);
    }
    arena_reset(&arena);
    return 0;
}
