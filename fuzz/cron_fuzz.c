/* Schedules: what is read has times that rise and are shown by the clock, or never comes. */
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "calendar/cron.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Forward by an hour in the second half of each 9,000,000 seconds. */
static int64_t offset(const void *arg, int64_t utc_s)
{
    int64_t in = utc_s % 9000000;
    (void)arg;
    return (in < 0 ? in + 9000000 : in) >= 4500000 ? 7200 : 3600;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cron c;
    struct err err = { 0 };
    const struct cron_clock clock = { offset, NULL };
    if (cron_parse(bytes_of(data, size), &c, &err) < 0) {
        check(err.code == ERR_INVALID && err.field[0] && err.remedy[0]);
        return 0;
    }
    check(c.minutes && c.hours && c.days && c.months && c.weekdays);
    int64_t at = 1795769160;
    for (int i = 0; i < 20; i++) {
        int64_t next = cron_next(&c, &clock, at);
        if (next == CRON_NEVER)
            break;
        check(next > at && next % 60 == 0);
        at = next;
    }
    return 0;
}
