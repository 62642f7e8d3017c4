/* Schedules and zones: what is written, what it means, and each minute of years around changes of the clocks against a clock that is
 * looked at minute by minute. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/parse.h"
#include "base/prng.h"
#include "calendar/cron.h"
#include "calendar/zone.h"

static struct cron read_cron(const char *text)
{
    struct cron c;
    struct err err = { 0 };
    if (cron_parse(bytes_str(text), &c, &err) < 0)
        fail_msg("%s: %s", text, err.text);
    return c;
}

static struct cron_clock clock_of(const char *name)
{
    struct zone *zone = NULL;
    struct err err = { 0 };
    if (zone_open(bytes_str(name), &zone, &err) < 0)
        fail_msg("%s: %s", name, err.text);
    return (struct cron_clock){ zone_offset, zone };
}

static void close_clock(struct cron_clock *clock)
{
    zone_close((struct zone *)(uintptr_t)clock->arg);
}

static int64_t utc(const char *text)
{
    int64_t ms;
    struct err err = { 0 };
    if (parse_time(text, 0, &ms, &err) < 0)
        fail_msg("%s: %s", text, err.text);
    return ms / 1000;
}

static void next_is(const char *zone, const char *schedule, const char *after, const char *then)
{
    struct cron_clock clock = clock_of(zone);
    struct cron c = read_cron(schedule);
    int64_t at = cron_next(&c, &clock, utc(after));
    autobuf struct buf text = BUF_INIT;
    if (at != CRON_NEVER)
        format_time(&text, at * 1000);
    else
        buf_str(&text, "never");
    if (!then ? at != CRON_NEVER : at != utc(then))
        fail_msg("%s %s after %s: %s, not %s", zone, schedule, after, text.data, then ? then : "never");
    close_clock(&clock);
}

static void plain_times(void **state)
{
    (void)state;
    next_is("UTC", "* * * * *", "2026-11-27T08:16:22Z", "2026-11-27T08:17:00Z");
    next_is("UTC", "* * * * *", "2026-11-27T08:17:00Z", "2026-11-27T08:18:00Z");
    next_is("UTC", "*/15 9-17 * * mon-fri", "2026-11-27T17:50:00Z", "2026-11-30T09:00:00Z");
    next_is("UTC", "5,50 23 * * *", "2026-12-31T23:50:00Z", "2027-01-01T23:05:00Z");
    next_is("UTC", "0 0 29 2 *", "2026-11-27T00:00:00Z", "2028-02-29T00:00:00Z");
    next_is("UTC", "0 0 29 2 *", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z");
    next_is("UTC", "0 0 30 2 *", "2026-11-27T00:00:00Z", NULL);
    next_is("UTC", "0 12 13 * fri", "2026-11-27T12:00:00Z", "2026-12-04T12:00:00Z"); /* one of the two days */
    next_is("UTC", "0 12 */2 * fri", "2026-11-27T12:00:00Z", "2026-12-11T12:00:00Z"); /* both */
    next_is("UTC", "0 0 * * 7", "2026-11-27T00:00:00Z", "2026-11-29T00:00:00Z");
    next_is("UTC", "0 0 * * SAT-sun", "2026-11-29T00:00:00Z", "2026-12-05T00:00:00Z");
    next_is("UTC", "@weekly", "2026-11-27T00:00:00Z", "2026-11-29T00:00:00Z");
    next_is("UTC", "@Yearly", "2026-11-27T00:00:00Z", "2027-01-01T00:00:00Z");
    next_is("UTC", "10/20 1 1 JAN *", "2026-11-27T00:00:00Z", "2027-01-01T01:10:00Z");
    next_is("UTC", "  0   6 *  * * ", "1970-01-01T12:00:00Z", "1970-01-02T06:00:00Z");
}

static void clocks_that_change(void **state)
{
    (void)state;
    next_is("Europe/Berlin", "30 2 * * *", "2026-11-27T08:00:00Z", "2026-11-28T01:30:00Z");
    /* Forward at 2:00 on 29 March 2026: 2:30 is not there. */
    next_is("Europe/Berlin", "30 2 * * *", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z");
    next_is("Europe/Berlin", "*/10 2 * * *", "2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z");
    next_is("Europe/Berlin", "30 * * * *", "2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z");
    /* Back at 3:00 on 25 October 2026: 2:30 is there twice. */
    next_is("Europe/Berlin", "30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z");
    next_is("Europe/Berlin", "30 2 * * *", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z");
    next_is("Europe/Berlin", "30 * * * *", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z");
    /* Years for which the file has a rule and no list. */
    next_is("Europe/Berlin", "0 12 1 7 *", "2090-01-01T00:00:00Z", "2090-07-01T10:00:00Z");
    next_is("Australia/Lord_Howe", "15 2 * * *", "2026-10-03T12:00:00Z", "2026-10-03T15:30:00Z"); /* by half an hour */
    next_is("Pacific/Apia", "0 12 30 12 *", "2011-12-01T00:00:00Z", "2011-12-30T10:00:00Z"); /* a day that was left out */
    next_is("Asia/Kolkata", "0 0 * * *", "2026-11-27T00:00:00Z", "2026-11-27T18:30:00Z");
}

/* --- against a clock that is looked at minute by minute --- */

static bool shows(const struct cron *c, int64_t local_s)
{
    time_t at = (time_t)local_s;
    struct tm tm;
    gmtime_r(&at, &tm);
    bool day = c->days >> tm.tm_mday & 1, weekday = c->weekdays >> tm.tm_wday & 1;
    return (c->minutes >> tm.tm_min & 1) && (c->hours >> tm.tm_hour & 1) && (c->months >> (tm.tm_mon + 1) & 1) &&
           (c->any_day || c->any_weekday ? day && weekday : day || weekday);
}

#define DAYS 2
#define BACK 130 /* minutes before the first */
/* offsets: of each minute from BACK before the first on. */
static bool due(const struct cron *c, const int64_t *offsets, int64_t begin_s, unsigned minute)
{
    const int64_t *at = &offsets[BACK + minute];
    int64_t at_s = begin_s + minute * 60;
    if (!c->any_hour && at[0] > at[-1])
        for (int64_t skipped = at_s + at[-1]; skipped < at_s + at[0]; skipped += 60)
            if (shows(c, skipped))
                return true;
    if (!shows(c, at_s + at[0]))
        return false;
    for (int64_t back = 1; !c->any_hour && back <= BACK; back++)
        if (at[-back] - back * 60 == at[0])
            return false; /* It was shown before. */
    return true;
}

static uint64_t some_bits(struct prng *p, unsigned min, unsigned max, bool *any)
{
    uint64_t bits = 0;
    *any = prng_between(p, 0, 2) == 0;
    for (unsigned i = min; i <= max; i++)
        if (*any || prng_between(p, 0, 3) == 0)
            bits |= 1ull << i;
    return bits ? bits : 1ull << min;
}

static void each_minute(void **state)
{
    (void)state;
    static const char *const zones[] = { "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC" };
    static const char *const weeks[] = { "2026-03-07T00:00:00Z", "2026-03-28T00:00:00Z", "2026-04-03T00:00:00Z", "2026-10-02T00:00:00Z",
                                         "2026-10-24T00:00:00Z", "2026-10-31T00:00:00Z" };
    struct prng prng;
    prng_seed(&prng, 7);
    unsigned found = 0;
    for (unsigned round = 0; round < 120; round++) {
        struct cron_clock clock = clock_of(zones[round % 4]);
        struct cron c = { .months = 0x1ffe };
        c.minutes = some_bits(&prng, 0, 59, &c.any_hour);
        c.hours = (uint32_t)some_bits(&prng, 0, 23, &c.any_hour);
        c.days = (uint32_t)some_bits(&prng, 1, 31, &c.any_day);
        c.weekdays = (uint32_t)some_bits(&prng, 0, 6, &c.any_weekday);
        int64_t begin = utc(weeks[round / 4 % 6]), at = begin, offsets[BACK + DAYS * 1440];
        for (int i = 0; i < BACK + DAYS * 1440; i++)
            offsets[i] = clock.offset(clock.arg, begin + (i - BACK) * 60);
        for (unsigned minute = 1; minute < DAYS * 1440; minute++) {
            if (!due(&c, offsets, begin, minute))
                continue;
            at = cron_next(&c, &clock, at);
            if (at != begin + minute * 60)
                fail_msg("round %u, %s: %lld, not %lld", round, zones[round % 4], (long long)at, (long long)begin + minute * 60);
            found++;
        }
        assert_true(cron_next(&c, &clock, at) >= begin + DAYS * 86400);
        close_clock(&clock);
    }
    assert_true(found > 5000);
}

static void refused(void **state)
{
    (void)state;
    static const char *const texts[] = { "",          "* * * *",       "* * * * * *", "60 * * * *", "* 24 * * *",   "* * 0 * *", "* * 32 * *",
                                         "* * * 13 *", "* * * * 8",    "5-1 * * * *", "*/0 * * * *", "a * * * *",   "1, * * * *", ",1 * * * *",
                                         "1--2 * * * *", "-1 * * * *", "1- * * * *",  "*/ * * * *",  "1/2/3 * * * *", "@reboot",  "* * * foo *",
                                         "1.5 * * * *", "*\t* * * *",  "1000 * * * *", "* * * * monday", "*5 * * * *" };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct cron c;
        struct err err = { 0 };
        if (cron_parse(bytes_str(texts[i]), &c, &err) != -ERR_INVALID)
            fail_msg("\"%s\" was taken", texts[i]);
        assert_string_equal(err.field, "schedule");
        assert_true(err.remedy[0]);
    }
    static const char *const zones[] = { "", "Mars/Olympus", "../../../etc/passwd", "/etc/localtime", "+02:00", "a b", "Europe" };
    for (size_t i = 0; i < sizeof zones / sizeof *zones; i++) {
        struct zone *zone = NULL;
        struct err err = { 0 };
        if (zone_open(bytes_str(zones[i]), &zone, &err) != -ERR_INVALID)
            fail_msg("zone \"%s\" was taken", zones[i]);
        assert_string_equal(err.field, "zone");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_times),
        cmocka_unit_test(clocks_that_change),
        cmocka_unit_test(each_minute),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests_name("calendar", tests, NULL, NULL);
}
