#include "calendar/cron.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/parse.h"

#define DAY_S 86400
#define YEARS_MAX 12 /* 29 February is at most 8 years away */
#define SHIFT_MAX_S (26 * 3600) /* more than clocks were ever put on or back by */

struct field {
    const char *name;
    unsigned min, max;
    const char *words; /* of the values from min on */
};
static const struct field fields[5] = {
    { "minute", 0, 59, NULL },
    { "hour", 0, 23, NULL },
    { "day of the month", 1, 31, NULL },
    { "month", 1, 12, "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec" },
    { "day of the week", 0, 7, "sun|mon|tue|wed|thu|fri|sat" },
};
static const char how[] = "write MINUTE HOUR DAY MONTH WEEKDAY as in '30 2 * * mon-fri', or @hourly, @daily, @weekly, @monthly, @yearly";

static int wrong(struct err *err, const struct field *f, struct bytes text)
{
    return err_field(err, ERR_INVALID, "schedule", how, "\"%.*s\" is no %s: %u to %u%s, lists, ranges, * and /STEP", (int)(text.size < 40 ? text.size : 40),
                     text.data, f->name, f->min, f->max, f->words ? ", names" : "");
}

static bool cut(struct bytes *rest, char mark, struct bytes *part)
{
    if (!rest->data)
        return false;
    const char *end = memchr(rest->data, mark, rest->size);
    size_t size = end ? (size_t)(end - rest->data) : rest->size;
    *part = bytes_of(rest->data, size);
    *rest = end ? bytes_of(end + 1, rest->size - size - 1) : bytes_of(NULL, 0);
    return true;
}

static bool number(const struct field *f, struct bytes text, unsigned *out)
{
    char word[4] = "";
    if (!text.size || text.size > 3)
        return false;
    memcpy(word, text.data, text.size);
    for (size_t i = 0; i < text.size; i++)
        word[i] = (char)tolower((unsigned char)word[i]);
    int place = f->words ? parse_choice(bytes_str(word), f->words) : -1;
    if (place >= 0) {
        *out = f->min + (unsigned)place;
        return true;
    }
    *out = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (!isdigit((unsigned char)word[i]))
            return false;
        *out = *out * 10 + (unsigned)(word[i] - '0');
    }
    return *out >= f->min && *out <= f->max;
}

/* "*", "5", "1-5", each with "/2". */
static bool range(const struct field *f, struct bytes text, uint64_t *bits)
{
    struct bytes rest = text, span, step = { NULL, 0 }, from, to;
    unsigned first = f->min, last = f->max, by = 1;
    bool stepped = memchr(text.data, '/', text.size);
    static const struct field any = { "step", 1, 59, NULL };
    if (!cut(&rest, '/', &span) || (stepped && (!cut(&rest, '/', &step) || rest.data || !number(&any, step, &by))))
        return false;
    if (!bytes_equal(span, bytes_str("*"))) {
        rest = span;
        if (!cut(&rest, '-', &from) || !number(f, from, &first))
            return false;
        last = stepped && !rest.data ? f->max : first;
        if (rest.data && (!cut(&rest, '-', &to) || rest.data || !number(f, to, &last)))
            return false;
        if (last == 0 && first > 0 && f->max == 7) /* fri-sun */
            last = 7;
    }
    for (unsigned i = first; i <= last; i += by)
        *bits |= 1ull << i;
    return first <= last;
}

static int read_field(const struct field *f, struct bytes text, uint64_t *bits, struct err *err)
{
    struct bytes rest = text, one;
    *bits = 0;
    if (!text.size)
        return wrong(err, f, text);
    while (cut(&rest, ',', &one))
        if (!one.size || !range(f, one, bits))
            return wrong(err, f, text);
    return 0;
}

static struct bytes spelled_out(struct bytes text)
{
    static const char *const words[][2] = { { "@hourly", "0 * * * *" },  { "@daily", "0 0 * * *" },   { "@midnight", "0 0 * * *" },
                                            { "@weekly", "0 0 * * 0" },  { "@monthly", "0 0 1 * *" }, { "@yearly", "0 0 1 1 *" },
                                            { "@annually", "0 0 1 1 *" } };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (text.size == strlen(words[i][0]) && strncasecmp(text.data, words[i][0], text.size) == 0)
            return bytes_str(words[i][1]);
    return text;
}

int cron_parse(struct bytes text, struct cron *out, struct err *err)
{
    struct bytes parts[5], rest = spelled_out(text), part;
    size_t count = 0;
    uint64_t bits[5];
    if (text.size > CRON_BYTES_MAX)
        return err_field(err, ERR_INVALID, "schedule", how, "it is longer than %u bytes", CRON_BYTES_MAX);
    for (size_t i = 0; i < rest.size; i++)
        if (rest.data[i] == '\t')
            return err_field(err, ERR_INVALID, "schedule", how, "put blanks between the fields");
    while (cut(&rest, ' ', &part)) {
        if (!part.size)
            continue;
        if (count < 5)
            parts[count] = part;
        count++;
    }
    if (count != 5)
        return err_field(err, ERR_INVALID, "schedule", how, "a schedule has five fields, this one has %zu", count);
    for (size_t i = 0; i < 5; i++)
        if (read_field(&fields[i], parts[i], &bits[i], err) < 0)
            return -(int)err->code;
    if (bits[4] & 1u << 7)
        bits[4] = (bits[4] | 1) & 0x7f;
    *out = (struct cron){ .minutes = bits[0],
                          .hours = (uint32_t)bits[1],
                          .days = (uint32_t)bits[2],
                          .months = (uint32_t)bits[3],
                          .weekdays = (uint32_t)bits[4],
                          .any_hour = parts[1].data[0] == '*',
                          .any_day = parts[2].data[0] == '*',
                          .any_weekday = parts[4].data[0] == '*' };
    return 0;
}

/* --- when --- */

static int64_t floor_day(int64_t s)
{
    return s >= 0 ? s / DAY_S : -((-s + DAY_S - 1) / DAY_S);
}

/* Day of the month and month of so many days after 1 January 1970, in the Gregorian calendar (H. Hinnant, "chrono-Compatible
 * Low-Level Date Algorithms", civil_from_days). */
static void date_of(int64_t days, unsigned *day, unsigned *month)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    unsigned of_era = (unsigned)(days - era * 146097);
    unsigned year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    unsigned of_year = of_era - (365 * year + year / 4 - year / 100);
    unsigned march = (5 * of_year + 2) / 153;
    *day = of_year - (153 * march + 2) / 5 + 1;
    *month = march < 10 ? march + 3 : march - 9;
}

static bool on_day(const struct cron *c, int64_t days)
{
    unsigned day, month;
    date_of(days, &day, &month);
    unsigned weekday = (unsigned)(((days + 4) % 7 + 7) % 7); /* 1 January 1970 was a Thursday */
    bool by_day = c->days >> day & 1, by_weekday = c->weekdays >> weekday & 1;
    if (!(c->months >> month & 1))
        return false;
    return c->any_day || c->any_weekday ? by_day && by_weekday : by_day || by_weekday;
}

/* When the clocks show that local time: 0 to 2 times. 0: *end is when they jump over it. */
static unsigned instants(const struct cron_clock *clock, int64_t local_s, int64_t at[2], int64_t *end)
{
    int64_t before = clock->offset(clock->arg, local_s - DAY_S), after = clock->offset(clock->arg, local_s + DAY_S);
    unsigned count = 0;
    if (clock->offset(clock->arg, local_s - before) == before)
        at[count++] = local_s - before;
    if (after != before && clock->offset(clock->arg, local_s - after) == after)
        at[count++] = local_s - after;
    if (count)
        return count;
    int64_t low = local_s - DAY_S, high = local_s + DAY_S;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (clock->offset(clock->arg, middle) == before)
            low = middle;
        else
            high = middle;
    }
    *end = high;
    return 0;
}

/* The first time of that day after `after_s`. What clocks show before `from_local_s` is not later than that. */
static int64_t within(const struct cron *c, const struct cron_clock *clock, int64_t days, int64_t after_s, int64_t from_local_s)
{
    int64_t best = CRON_NEVER;
    for (unsigned hour = 0; hour < 24; hour++) {
        if (!(c->hours >> hour & 1) || days * DAY_S + (hour + 1) * 3600 < from_local_s)
            continue;
        for (unsigned minute = 0; minute < 60; minute++) {
            if (!(c->minutes >> minute & 1))
                continue;
            int64_t at[2], end = 0;
            unsigned count = instants(clock, days * DAY_S + hour * 3600 + minute * 60, at, &end);
            if (count == 0 && c->any_hour)
                continue;
            int64_t first = count ? at[0] : end;
            if (count == 2 && c->any_hour && at[1] > after_s && at[1] < best)
                best = at[1];
            if (first > after_s)
                return first < best ? first : best; /* Later ones of the day come later, also for the first time. */
        }
    }
    return best;
}

int64_t cron_next(const struct cron *c, const struct cron_clock *clock, int64_t after_s)
{
    int64_t from_local_s = after_s + clock->offset(clock->arg, after_s);
    if (clock->offset(clock->arg, after_s - 2 * DAY_S) != clock->offset(clock->arg, after_s + 2 * DAY_S))
        from_local_s -= SHIFT_MAX_S;
    int64_t first = floor_day(from_local_s);
    for (int64_t days = first; days < first + YEARS_MAX * 366; days++) {
        int64_t at = on_day(c, days) ? within(c, clock, days, after_s, from_local_s) : CRON_NEVER;
        if (at != CRON_NEVER)
            return at;
    }
    return CRON_NEVER;
}
