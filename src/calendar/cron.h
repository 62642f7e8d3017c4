/* cron.h: times that come again, as crontab(5) writes them: "30 2 * * mon-fri". Pure: time zones come in as a function.
 *
 * Five fields: minute (0-59), hour (0-23), day of the month (1-31), month (1-12 or jan-dec), day of the week (0-7 or sun-sat; 0 and 7 are
 * Sunday). A field is a list of *, N, N-M, each with /STEP. If both days are restricted one of them is enough. Or one of @hourly @daily
 * @midnight @weekly @monthly @yearly @annually.
 *
 * When clocks are put forward, what was to run at a time that does not exist runs as soon as it is over, once; when they are put back, what was
 * to run at a time that comes twice runs at the first. Both not with an hour of *: it means each hour that really passes. */
#ifndef ROTA_CALENDAR_CRON_H
#define ROTA_CALENDAR_CRON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define CRON_BYTES_MAX 256u
#define CRON_NEVER INT64_MAX

struct cron {
    uint64_t minutes;              /* bits 0 .. 59 */
    uint32_t hours, days, months;  /* bits 0 .. 23, 1 .. 31, 1 .. 12 */
    uint32_t weekdays;             /* bits 0 (Sunday) .. 6 */
    bool any_hour, any_day, any_weekday; /* the field begins with * */
};

/* Where it is that time. */
struct cron_clock {
    int64_t (*offset)(const void *arg, int64_t utc_s); /* seconds to add to UTC; within a day of 0, changes at most once in two days */
    const void *arg;
};

/* ERR_INVALID, field "schedule": says which of the five is wrong. */
int cron_parse(struct bytes text, struct cron *out, struct err *err);
/* The first time after `after_s` (Unix time); CRON_NEVER: there is none, as on 30 February. O(days until then). */
int64_t cron_next(const struct cron *c, const struct cron_clock *clock, int64_t after_s);

#endif
