#include "base/parse.h"

#include <string.h>

#define DAY_MS 86400000
#define DURATION_MAX_MS (1000 * (int64_t)366 * DAY_MS) /* a thousand years: more is a mistake */
#define WALL_MS_MAX 253402300799999                    /* the end of the year 9999 */
#define INDEX_MAX (UINT32_MAX - 2)                     /* the last two numbers mean "no array" and "all tasks" */
#define SHOW_MAX 48                                    /* bytes of the input repeated in a message */

__extension__ typedef unsigned __int128 u128;

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* What of the input stands in messages: short, one line, no control characters. */
struct shown {
    char text[SHOW_MAX + 8];
};

static struct shown show(const char *text)
{
    struct shown s;
    size_t n = 0;
    for (; n < SHOW_MAX && text[n]; n++)
        s.text[n] = (unsigned char)text[n] < 0x20 || text[n] == 0x7f ? '?' : text[n];
    if (text[n]) {
        while (n && ((unsigned char)text[n] & 0xc0) == 0x80)
            n--; /* not inside a UTF-8 character */
        memcpy(s.text + n, "...", 3);
        n += 3;
    }
    s.text[n] = 0;
    return s;
}

static int refuse(struct err *err, const char *text, const char *what, const char *remedy)
{
    return err_field(err, ERR_INVALID, NULL, remedy, "\"%s\" is not %s", show(text).text, what);
}

enum digits { DIGITS_OK, DIGITS_NONE, DIGITS_OVER };

/* Digits with single underscores between them. */
static enum digits read_digits(const char **at, uint64_t *out)
{
    const char *p = *at;
    uint64_t value = 0;
    if (!is_digit(*p))
        return DIGITS_NONE;
    for (;; p++) {
        if (*p == '_' && is_digit(p[1]))
            continue;
        if (!is_digit(*p))
            break;
        if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
            return DIGITS_OVER;
    }
    *at = p;
    *out = value;
    return DIGITS_OK;
}

int parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *out, struct err *err)
{
    const char *at = text;
    uint64_t value = 0;
    enum digits digits = read_digits(&at, &value);
    if (digits == DIGITS_NONE && *at == '-' && is_digit(at[1]))
        digits = DIGITS_OVER;
    else if (digits == DIGITS_NONE || (digits == DIGITS_OK && *at))
        return refuse(err, text, "a whole number", "write digits, such as 7 or 1_000_000");
    if (digits == DIGITS_OVER || value < min || value > max)
        return err_field(err, ERR_INVALID, NULL, NULL, "\"%s\" is not between %llu and %llu", show(text).text,
                         (unsigned long long)min, (unsigned long long)max);
    *out = value;
    return 0;
}

int parse_i64(const char *text, int64_t min, int64_t max, int64_t *out, struct err *err)
{
    const char *at = text;
    bool negative = *at == '-';
    if (*at == '-' || *at == '+')
        at++;
    uint64_t size = 0;
    enum digits digits = read_digits(&at, &size);
    if (digits == DIGITS_NONE || (digits == DIGITS_OK && *at))
        return refuse(err, text, "a whole number", "write digits, such as 7 or -1_000_000");
    if (digits == DIGITS_OK && size > (uint64_t)INT64_MAX + negative)
        digits = DIGITS_OVER;
    int64_t value = digits == DIGITS_OVER ? 0 : negative ? (int64_t)(0 - size) : (int64_t)size;
    if (digits == DIGITS_OVER || value < min || value > max)
        return err_field(err, ERR_INVALID, NULL, NULL, "\"%s\" is not between %lld and %lld", show(text).text,
                         (long long)min, (long long)max);
    *out = value;
    return 0;
}

/* A decimal number as digits * 10^-places; at most 9 places count, further ones must be zero. */
struct decimal {
    uint64_t whole, fraction;
    uint32_t places;
};

static bool read_decimal(const char **at, struct decimal *out)
{
    struct decimal d = { 0, 0, 0 };
    if (read_digits(at, &d.whole) != DIGITS_OK)
        return false;
    if (**at == '.') {
        const char *p = *at + 1;
        if (!is_digit(*p))
            return false;
        for (; is_digit(*p); p++) {
            if (d.places == 9) {
                if (*p != '0')
                    return false;
                continue;
            }
            d.fraction = d.fraction * 10 + (uint64_t)(*p - '0');
            d.places++;
        }
        *at = p;
    }
    *out = d;
    return true;
}

static uint64_t power10(uint32_t n)
{
    uint64_t value = 1;
    while (n--)
        value *= 10;
    return value;
}

/* d * unit, rounded down; false if it is more than max, or if `exact` and it does not come out even. */
static bool scale(struct decimal d, uint64_t unit, uint64_t max, bool exact, uint64_t *out)
{
    u128 fraction = (u128)d.fraction * unit;
    uint64_t divisor = power10(d.places);
    if (exact && fraction % divisor)
        return false;
    u128 value = (u128)d.whole * unit + fraction / divisor;
    if (value > max)
        return false;
    *out = (uint64_t)value;
    return true;
}

int parse_size(const char *text, uint64_t *bytes, struct err *err)
{
    static const char units[] = "bkmgtp";
    static const char remedy[] = "write 4G or 512M (K, M, G and T are powers of 1024)";
    const char *at = text;
    struct decimal d;
    if (!read_decimal(&at, &d))
        return refuse(err, text, "a size", remedy);
    if (*at == ' ' && at[1])
        at++;
    uint64_t unit = 1;
    if (*at) {
        const char *found = strchr(units, lower(*at));
        if (!found)
            return refuse(err, text, "a size", remedy);
        for (const char *u = units; u < found; u++)
            unit *= 1024;
        at++;
        if (found > units && lower(*at) == 'i' && lower(at[1]) == 'b')
            at += 2;
        else if (found > units && (lower(*at) == 'b' || lower(*at) == 'i'))
            at++;
        if (*at)
            return refuse(err, text, "a size", remedy);
    }
    if (unit == 1 && d.fraction)
        return refuse(err, text, "a whole number of bytes", remedy);
    if (!scale(d, unit, INT64_MAX, false, bytes))
        return err_field(err, ERR_INVALID, NULL, remedy, "\"%s\" is more than any machine has", show(text).text);
    return 0;
}

int parse_mem(const char *text, bool *automatic, uint64_t *bytes, struct err *err)
{
    static const char word[] = "auto";
    bool begins = strncmp(text, word, sizeof word - 1) == 0;
    const char *rest = begins ? text + sizeof word - 1 : text;
    *automatic = begins && (!*rest || *rest == ':');
    *bytes = 0;
    if (!*automatic)
        return parse_size(text, bytes, err);
    return *rest ? parse_size(rest + 1, bytes, err) : 0;
}

static const struct duration_unit {
    const char *name;
    int64_t ms;
} duration_units[] = {
    { "w", 7 * (int64_t)DAY_MS },
    { "week", 7 * (int64_t)DAY_MS },
    { "weeks", 7 * (int64_t)DAY_MS },
    { "d", DAY_MS },
    { "day", DAY_MS },
    { "days", DAY_MS },
    { "h", 3600000 },
    { "hr", 3600000 },
    { "hour", 3600000 },
    { "hours", 3600000 },
    { "m", 60000 },
    { "min", 60000 },
    { "mins", 60000 },
    { "minute", 60000 },
    { "minutes", 60000 },
    { "s", 1000 },
    { "sec", 1000 },
    { "secs", 1000 },
    { "second", 1000 },
    { "seconds", 1000 },
    { "ms", 1 },
};

static const struct duration_unit *duration_unit(const char *name, size_t size)
{
    for (size_t i = 0; i < sizeof duration_units / sizeof *duration_units; i++)
        if (strlen(duration_units[i].name) == size && strncmp(duration_units[i].name, name, size) == 0)
            return &duration_units[i];
    return NULL;
}

int parse_duration(const char *text, int64_t *ms, struct err *err)
{
    static const char remedy[] = "write 90s, 2h30m or 15days";
    const char *at = text;
    uint64_t total = 0;
    int64_t last_unit = INT64_MAX;
    do {
        struct decimal d;
        if (!read_decimal(&at, &d))
            return refuse(err, text, "a duration", remedy);
        if (*at == ' ')
            at++;
        const char *name = at;
        while (lower(*at) >= 'a' && lower(*at) <= 'z')
            at++;
        bool bare = at == name && last_unit == INT64_MAX && !*at && (at == text || at[-1] != ' ');
        const struct duration_unit *unit = duration_unit(name, (size_t)(at - name));
        int64_t unit_ms = bare ? 1000 : unit ? unit->ms : 0;
        if (unit_ms == 0 || unit_ms >= last_unit) /* each unit once, the biggest first */
            return refuse(err, text, "a duration", remedy);
        last_unit = unit_ms;
        uint64_t part = 0;
        if (!scale(d, (uint64_t)unit_ms, DURATION_MAX_MS, false, &part) || (total += part) > DURATION_MAX_MS)
            return err_field(err, ERR_INVALID, NULL, remedy, "\"%s\" is longer than a thousand years", show(text).text);
        if (*at == ' ' && at[1])
            at++;
    } while (*at);
    *ms = (int64_t)total;
    return 0;
}

int parse_milli(const char *text, uint64_t *milli, struct err *err)
{
    static const char remedy[] = "write 4 or 0.5, with at most three decimals";
    const char *at = text;
    struct decimal d;
    if (!read_decimal(&at, &d) || *at || !scale(d, 1000, INT64_MAX, true, milli))
        return refuse(err, text, "an amount", remedy);
    return 0;
}

int parse_choice(struct bytes word, const char *choices)
{
    int place = 0;
    for (const char *at = choices; *at; place++) {
        size_t size = strcspn(at, "|");
        if (word.size && bytes_equal(word, bytes_of(at, size)))
            return place;
        at += size + (at[size] == '|');
    }
    return -1;
}

struct bytes choice_word(const char *choices, size_t place)
{
    const char *at = choices;
    for (size_t size = strcspn(at, "|"); *at; at += size + (at[size] == '|'), size = strcspn(at, "|"))
        if (place-- == 0)
            return bytes_of(at, size);
    return bytes_of("", 0);
}

static const uint16_t days_before_month[13] = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365 };

static bool leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

/* Days from 1970-01-01 to the first day of a year, 1970 <= year. */
static int64_t days_before_year(int64_t year)
{
    int64_t y = year - 1;
    return 365 * (year - 1970) + (y / 4 - 1969 / 4) - (y / 100 - 1969 / 100) + (y / 400 - 1969 / 400);
}

static int days_in_month(int64_t year, int month)
{
    return days_before_month[month] - days_before_month[month - 1] + (month == 2 && leap(year));
}

/* Exactly n digits. */
static bool fixed(const char **at, int n, int *out)
{
    int value = 0;
    for (int i = 0; i < n; i++) {
        if (!is_digit((*at)[i]))
            return false;
        value = value * 10 + ((*at)[i] - '0');
    }
    *at += n;
    *out = value;
    return true;
}

static bool read_char(const char **at, char c)
{
    if (**at != c)
        return false;
    (*at)++;
    return true;
}

/* "Z" or "+01:00", in ms east of UTC; nothing is UTC. */
static bool read_offset(const char **at, int64_t *ms)
{
    *ms = 0;
    if (!**at)
        return true;
    if (read_char(at, 'Z') || read_char(at, 'z'))
        return true;
    int sign = **at == '+' ? 1 : **at == '-' ? -1 : 0, hour, minute;
    if (!sign)
        return false;
    (*at)++;
    if (!fixed(at, 2, &hour) || !read_char(at, ':') || !fixed(at, 2, &minute) || hour > 23 || minute > 59)
        return false;
    *ms = sign * ((int64_t)hour * 3600000 + (int64_t)minute * 60000);
    return true;
}

static bool read_clock(const char **at, int64_t *ms)
{
    int hour, minute, second = 0, thousandths = 0;
    if (!fixed(at, 2, &hour) || !read_char(at, ':') || !fixed(at, 2, &minute) || hour > 23 || minute > 59)
        return false;
    if (read_char(at, ':')) {
        if (!fixed(at, 2, &second) || second > 59)
            return false;
        if (read_char(at, '.')) {
            if (!is_digit(**at))
                return false;
            for (int worth = 100; is_digit(**at); worth /= 10, (*at)++)
                thousandths += (**at - '0') * worth; /* from the fourth on, worth is 0 */
        }
    }
    *ms = (((int64_t)hour * 60 + minute) * 60 + second) * 1000 + thousandths;
    return true;
}

static bool read_time(const char *text, int64_t *wall_ms)
{
    const char *at = text;
    int year, month, day;
    int64_t clock_ms = 0, offset_ms = 0;
    if (!fixed(&at, 4, &year) || !read_char(&at, '-') || !fixed(&at, 2, &month) || !read_char(&at, '-') ||
        !fixed(&at, 2, &day))
        return false;
    if (year < 1970 || month < 1 || month > 12 || day < 1 || day > days_in_month(year, month))
        return false;
    if (*at) {
        if (*at != 'T' && *at != 't' && *at != ' ')
            return false;
        at++;
        if (!read_clock(&at, &clock_ms) || !read_offset(&at, &offset_ms) || *at)
            return false;
    }
    int64_t days = days_before_year(year) + days_before_month[month - 1] + (month > 2 && leap(year)) + day - 1;
    int64_t value = days * DAY_MS + clock_ms - offset_ms;
    if (value < 0 || value > WALL_MS_MAX)
        return false;
    *wall_ms = value;
    return true;
}

int parse_time(const char *text, int64_t now_wall_ms, int64_t *wall_ms, struct err *err)
{
    static const char remedy[] = "write 2026-11-23T10:00:00Z, \"2026-11-23 10:00\" (UTC) or now+2h";
    bool now = strncmp(text, "now", 3) == 0;
    const char *at = now ? text + 3 : text;
    if (now && !*at) {
        *wall_ms = now_wall_ms;
        return 0;
    }
    if (*at == '+' || *at == '-') {
        int64_t ms = 0;
        struct err inner;
        if (parse_duration(at + 1, &ms, &inner) < 0)
            return refuse(err, text, "a time", remedy);
        int64_t value;
        bool over = *at == '+' ? __builtin_add_overflow(now_wall_ms, ms, &value)
                               : __builtin_sub_overflow(now_wall_ms, ms, &value);
        if (over || value < 0 || value > WALL_MS_MAX)
            return refuse(err, text, "a time between the years 1970 and 9999", remedy);
        *wall_ms = value;
        return 0;
    }
    if (now || !read_time(text, wall_ms))
        return refuse(err, text, "a time", remedy);
    return 0;
}

int parse_array(const char *text, uint32_t *first, uint32_t *step, uint32_t *count, uint32_t *limit, struct err *err)
{
    static const char remedy[] = "write 1-1000, 0-9:3 (every third) or 1-1000%50 (at most 50 at once)";
    const char *at = text;
    uint64_t low = 0, high = 0, by = 1, most = 0;
    if (strchr(text, ','))
        return err_field(err, ERR_INVALID, NULL, "submit one array for each range, such as 1-3 and then 7-9",
                         "\"%s\" is a list; an array is one range", show(text).text);
    if (read_digits(&at, &low) != DIGITS_OK)
        return refuse(err, text, "an array", remedy);
    high = low;
    bool range = read_char(&at, '-');
    if (range && read_digits(&at, &high) != DIGITS_OK)
        return refuse(err, text, "an array", remedy);
    if (range && read_char(&at, ':') && read_digits(&at, &by) != DIGITS_OK)
        return refuse(err, text, "an array", remedy);
    bool limited = read_char(&at, '%');
    if ((limited && read_digits(&at, &most) != DIGITS_OK) || *at)
        return refuse(err, text, "an array", remedy);
    if (high < low)
        return refuse(err, text, "an array: its end is before its start", remedy);
    if (high > INDEX_MAX || by > INDEX_MAX || most > INDEX_MAX)
        return err_field(err, ERR_INVALID, NULL, "use smaller numbers", "\"%s\" has a number above %u", show(text).text,
                         INDEX_MAX);
    if (by == 0 || (limited && most == 0))
        return refuse(err, text, by == 0 ? "an array: a step of 0 never ends" : "an array: a limit of 0 never starts",
                      remedy);
    *first = (uint32_t)low;
    *step = (uint32_t)by;
    *count = (uint32_t)((high - low) / by + 1);
    *limit = (uint32_t)most;
    return 0;
}

int parse_job_ref(const char *text, uint64_t *job, bool *has_index, uint32_t *index, struct err *err)
{
    static const char remedy[] = "write a job id such as 12, or 12_7 for task 7 of array 12";
    uint64_t id = 0, task = 0;
    const char *at = text;
    for (; is_digit(*at); at++)
        if (__builtin_mul_overflow(id, (uint64_t)10, &id) || __builtin_add_overflow(id, (uint64_t)(*at - '0'), &id))
            return refuse(err, text, "a job id", remedy);
    bool indexed = at > text && read_char(&at, '_');
    if (indexed) {
        if (!is_digit(*at))
            return refuse(err, text, "a job id", remedy);
        for (; is_digit(*at) && task <= INDEX_MAX; at++)
            task = task * 10 + (uint64_t)(*at - '0');
    }
    if (id == 0 || *at || task > INDEX_MAX)
        return refuse(err, text, "a job id", remedy);
    *job = id;
    *has_index = indexed;
    *index = (uint32_t)task;
    return 0;
}

/* Reads one character; 0 bytes if there is no valid one (overlong, surrogate, above U+10FFFF, cut short). */
static size_t utf8_read(const unsigned char *text, size_t size, uint32_t *out)
{
    static const uint32_t least[5] = { 0, 0, 0x80, 0x800, 0x10000 };
    unsigned char c = text[0];
    if (c < 0x80) {
        *out = c;
        return 1;
    }
    size_t need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 0;
    if (!need || size < need || c > 0xf4)
        return 0;
    uint32_t value = c & (0x7fu >> need);
    for (size_t i = 1; i < need; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        value = value << 6 | (text[i] & 0x3f);
    }
    if (value < least[need] || (value >= 0xd800 && value <= 0xdfff) || value > 0x10ffff)
        return 0;
    *out = value;
    return need;
}

bool utf8_valid(struct bytes text)
{
    uint32_t value;
    for (size_t at = 0, step; at < text.size; at += step) {
        step = utf8_read((const unsigned char *)text.data + at, text.size - at, &value);
        if (!step)
            return false;
    }
    return true;
}

/* C0, DEL, C1; line and paragraph separators; embeddings, overrides and isolates of the text direction. */
static bool harmful(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c <= 0x9f) || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

bool parse_name_ok(struct bytes name, size_t max)
{
    if (name.size == 0 || name.size > max)
        return false;
    uint32_t value;
    for (size_t at = 0, step; at < name.size; at += step) {
        step = utf8_read((const unsigned char *)name.data + at, name.size - at, &value);
        if (!step || harmful(value))
            return false;
    }
    return true;
}

/* whole.fraction with `digits` decimals, without zeros at the end. */
static void format_decimal(struct buf *out, uint64_t whole, uint64_t fraction, int digits)
{
    buf_u64(out, whole);
    if (!fraction)
        return;
    char text[20];
    for (int i = digits; i > 0; i--, fraction /= 10)
        text[i] = (char)('0' + fraction % 10);
    text[0] = '.';
    while (text[digits] == '0')
        digits--;
    buf_add(out, text, (size_t)digits + 1);
}

void format_size(struct buf *out, uint64_t bytes)
{
    static const char units[] = "KMGTPE";
    if (bytes < 1024) {
        buf_u64(out, bytes);
        return;
    }
    int unit = 0;
    /* The next unit is taken as soon as one decimal of this one would round up to 1024.0. */
    while (unit < 5 && (u128)bytes * 20 >= (u128)20479 << 10 * (unit + 1))
        unit++;
    int shift = 10 * (unit + 1);
    uint64_t tenths = (uint64_t)(((u128)bytes * 10 + ((uint64_t)1 << (shift - 1))) >> shift);
    format_decimal(out, tenths / 10, tenths % 10, 1);
    buf_char(out, units[unit]);
}

void format_duration(struct buf *out, int64_t ms)
{
    static const struct {
        uint64_t ms;
        char name;
    } units[] = { { DAY_MS, 'd' }, { 3600000, 'h' }, { 60000, 'm' }, { 1000, 's' } };
    uint64_t left = ms < 0 ? 0 - (uint64_t)ms : (uint64_t)ms;
    if (ms < 0)
        buf_char(out, '-');
    if (left < 1000 && left > 0) {
        buf_u64(out, left);
        buf_str(out, "ms");
        return;
    }
    if (left < 120000) {
        format_decimal(out, left / 1000, left % 1000, 3);
        buf_char(out, 's');
        return;
    }
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (left < units[i].ms)
            continue;
        buf_u64(out, left / units[i].ms);
        buf_char(out, units[i].name);
        left %= units[i].ms;
    }
}

void format_milli(struct buf *out, uint64_t milli)
{
    format_decimal(out, milli / 1000, milli % 1000, 3);
}

static void two(char *to, int64_t value)
{
    to[0] = (char)('0' + value / 10);
    to[1] = (char)('0' + value % 10);
}

void format_time(struct buf *out, int64_t wall_ms)
{
    int64_t ms = wall_ms < 0 ? 0 : wall_ms > WALL_MS_MAX ? WALL_MS_MAX : wall_ms;
    int64_t days = ms / DAY_MS, clock_ms = ms % DAY_MS;
    int64_t year = 1970 + days / 366;
    while (days >= days_before_year(year + 1))
        year++;
    int day = (int)(days - days_before_year(year)), month = 1;
    while (day >= days_in_month(year, month))
        day -= days_in_month(year, month++);
    char text[24];
    memcpy(text, "0000-00-00T00:00:00.000Z", 24);
    two(text, year / 100);
    two(text + 2, year % 100);
    two(text + 5, month);
    two(text + 8, day + 1);
    two(text + 11, clock_ms / 3600000);
    two(text + 14, clock_ms / 60000 % 60);
    two(text + 17, clock_ms / 1000 % 60);
    text[20] = (char)('0' + clock_ms % 1000 / 100);
    two(text + 21, clock_ms % 100);
    buf_add(out, text, sizeof text);
}

unsigned parse_distance(const char *a, const char *b)
{
    enum { MOST = 32 };
    size_t a_size = strnlen(a, MOST), b_size = strnlen(b, MOST);
    unsigned rows[3][MOST + 1]; /* the last row but one, the last, the current */
    unsigned *before = rows[0], *last = rows[1], *now = rows[2];
    for (size_t j = 0; j <= b_size; j++) {
        before[j] = 0;
        last[j] = (unsigned)j;
    }
    for (size_t i = 1; i <= a_size; i++) {
        now[0] = (unsigned)i;
        for (size_t j = 1; j <= b_size; j++) {
            unsigned best = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < best)
                best = last[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
        unsigned *oldest = before;
        before = last;
        last = now;
        now = oldest;
    }
    return last[b_size];
}
