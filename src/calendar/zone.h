/* zone.h: time zones by their names ("Europe/Berlin"), from the machine's zone files. */
#ifndef ROTA_CALENDAR_ZONE_H
#define ROTA_CALENDAR_ZONE_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define ZONE_BYTES_MAX 64u
#define ZONE_UTC "UTC"

struct zone;
/* ERR_INVALID, field "zone": there is no such zone on this machine, or this is no name of one. UTC is always there. The caller closes it. */
int zone_open(struct bytes name, struct zone **out, struct err *err);
void zone_close(struct zone *zone); /* NULL: nothing */
/* Seconds to add to UTC for the local time at that second of Unix time. For `struct cron_clock`. */
int64_t zone_offset(const void *zone, int64_t utc_s);

#endif
