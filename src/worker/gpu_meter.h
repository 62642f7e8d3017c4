/* gpu_meter.h: how busy the GPUs of this machine are, by asking nvidia-smi every now and then.
 *
 * The tool may take seconds, or hang with its driver: it runs beside the loop, one at a time, and is killed when it takes too
 * long. Where there is no such tool, or what it prints is not understood, nothing is known. */
#ifndef ROTA_WORKER_GPU_METER_H
#define ROTA_WORKER_GPU_METER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

struct gpu_load {
    uint32_t count;                     /* GPUs that told; 0: nothing is known */
    uint64_t used_milli;                /* sum over all, a busy one counts 1000 */
    uint64_t mem_used_bytes, mem_bytes; /* of all together */
};

struct loop;
struct gpu_meter;

#define GPU_METER_EACH_MS 15000
#define GPU_METER_TAKES_MS_MAX 10000

struct gpu_meter *gpu_meter_new(struct loop *loop); /* asks at once, and then each GPU_METER_EACH_MS */
void gpu_meter_free(struct gpu_meter *m);           /* NULL is fine; ends the tool if it runs */
/* As it was last told; older than three times GPU_METER_EACH_MS: nothing is known. NULL as meter: nothing is known. */
struct gpu_load gpu_meter_load(const struct gpu_meter *m);

/* Lines "USED %, MiB used, MiB": numbers without units. A GPU that does not tell its use (it is divided) counts as idle; a line
 * that is none of these is left out. */
struct gpu_load gpu_load_parse(struct bytes text);

#endif
