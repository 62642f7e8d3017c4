/* clock.h: the only place that reads a clock. */
#ifndef ROTA_IO_CLOCK_H
#define ROTA_IO_CLOCK_H

#include <stdint.h>

int64_t clock_now_ms(void);   /* CLOCK_BOOTTIME: never jumps, runs during suspend; for every timer and lease */
int64_t clock_now_ns(void);   /* CLOCK_MONOTONIC in ns, for measuring */
int64_t clock_wall_ms(void);  /* Unix time: for people and calendar times only */

#endif
