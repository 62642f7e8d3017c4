/* usage.h: what one attempt used over time, in at most USAGE_POINTS_MAX points however long it runs.
 *
 * A reading is added to the last point while that one's step is not over; when there are as many points as fit, pairs
 * become one and the step doubles. So the curve of an hour has about the same number of points as that of a minute. A
 * point tells the counters at its end, and of what goes up and down the value at its end and the most within it. */
#ifndef ROTA_CORE_MODEL_USAGE_H
#define ROTA_CORE_MODEL_USAGE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

#define USAGE_POINTS_MAX 120u
#define USAGE_STEP_MS 1000                                  /* of a new series */
#define USAGE_BYTES_MAX (16u + USAGE_POINTS_MAX * 7u * 10u) /* of an encoded series */

struct usage_point {
    int64_t at_ms;                      /* since the start of the attempt */
    uint64_t cpu_ms;                    /* so far, of all its processes */
    uint64_t mem_bytes, mem_max_bytes;  /* resident, all processes together */
    uint64_t read_bytes, written_bytes; /* from and to disks, so far */
    uint32_t processes;
};

struct usage_series {
    struct usage_point *points;
    size_t count, cap;
    int64_t step_ms;
};
#define USAGE_SERIES_INIT ((struct usage_series){ NULL, 0, 0, USAGE_STEP_MS })

void usage_series_fini(struct usage_series *s); /* it is empty and usable again */
/* A reading, later than those before it: one that is not is dropped. Counters that went back stay where they were. */
void usage_series_add(struct usage_series *s, const struct usage_point *reading);
/* The most memory that any reading told. */
uint64_t usage_series_peak(const struct usage_series *s);

void usage_encode(struct buf *out, const struct usage_point *points, size_t count);
/* At most USAGE_POINTS_MAX points into `out`. False: it is no encoded series. */
bool usage_decode(struct bytes in, struct usage_point out[USAGE_POINTS_MAX], size_t *count);

#endif
