#include "base/parse.h"

#include <locale.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/prng.h"

#define NOW 1795434000000 /* 2026-11-23T11:40:00Z */

/* Every refusal says what is wrong; most say how to write it. */
static void assert_refused(int rc, const struct err *e, bool remedy)
{
    assert_int_equal(rc, -ERR_INVALID);
    assert_int_equal(e->code, ERR_INVALID);
    assert_true(*e->text);
    assert_string_equal(e->field, "");
    if (remedy)
        assert_true(*e->remedy);
}

static void whole_numbers(void **state)
{
    (void)state;
    struct err e;
    uint64_t u = 99;
    int64_t i = 99;
    assert_int_equal(parse_u64("1_000_000", 0, UINT64_MAX, &u, &e), 0);
    assert_int_equal(u, 1000000);
    assert_int_equal(parse_u64("18446744073709551615", 0, UINT64_MAX, &u, &e), 0);
    assert_true(u == UINT64_MAX);
    assert_int_equal(parse_u64("0", 0, 0, &u, &e), 0);
    u = 99;
    static const char *const bad[] = { "", " 1", "1 ", "+1", "x", "1x", "1__0", "_1", "1_", "0x10", "1.0", "1e3", "\xd9\xa1" };
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++)
        assert_refused(parse_u64(bad[k], 0, 100, &u, &e), &e, true);
    static const char *const out[] = { "101", "18446744073709551616", "99999999999999999999999999999999999999", "-1" };
    for (size_t k = 0; k < sizeof out / sizeof *out; k++)
        assert_refused(parse_u64(out[k], 0, 100, &u, &e), &e, false);
    assert_int_equal(u, 99); /* a refusal changes nothing */

    assert_int_equal(parse_i64("-9223372036854775808", INT64_MIN, INT64_MAX, &i, &e), 0);
    assert_true(i == INT64_MIN);
    assert_int_equal(parse_i64("9223372036854775807", INT64_MIN, INT64_MAX, &i, &e), 0);
    assert_true(i == INT64_MAX);
    assert_int_equal(parse_i64("+7", 0, 10, &i, &e), 0);
    assert_int_equal(i, 7);
    assert_refused(parse_i64("9223372036854775808", INT64_MIN, INT64_MAX, &i, &e), &e, false);
    assert_refused(parse_i64("-9223372036854775809", INT64_MIN, INT64_MAX, &i, &e), &e, false);
    assert_refused(parse_i64("--1", -5, 5, &i, &e), &e, true);
    assert_refused(parse_i64("-", -5, 5, &i, &e), &e, true);
    assert_refused(parse_i64("6", -5, 5, &i, &e), &e, false);
    assert_int_equal(parse_i64("bad", -5, 5, &i, NULL), -ERR_INVALID); /* nobody needs the reason */
}

static void memory(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool automatic;
        uint64_t bytes;
    } good[] = { { "auto", true, 0 }, { "auto:2G", true, UINT64_C(2) << 30 }, { "512M", false, 512 << 20 }, { "0", false, 0 } };
    static const char *const bad[] = { "", "aut", "automatic", "auto:", "auto:4Q", "auto 2G", "AUTO", "2G:auto" };
    bool automatic;
    uint64_t bytes;
    struct err e;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(parse_mem(good[i].text, &automatic, &bytes, &e), 0);
        assert_int_equal(automatic, good[i].automatic);
        assert_int_equal(bytes, good[i].bytes);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_refused(parse_mem(bad[i], &automatic, &bytes, &e), &e, true);
}

static void sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        { "0", 0 },
        { "4096", 4096 },
        { "4096B", 4096 },
        { "512M", 512ull << 20 },
        { "1.5G", 3ull << 29 },
        { "2KiB", 2048 },
        { "2kb", 2048 },
        { "2Ki", 2048 },
        { "1T", 1ull << 40 },
        { "3P", 3ull << 50 },
        { "4g", 4ull << 30 },
        { "1_024K", 1 << 20 },
        { "0.1G", 107374182 },
        { "1 G", 1 << 30 },
        { "8191P", 8191ull << 50 },
        { "1.000000000000K", 1024 },
    };
    struct err e;
    uint64_t bytes = 7;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(parse_size(good[i].text, &bytes, &e), 0);
        assert_int_equal(bytes, good[i].bytes);
    }
    static const char *const bad[] = { "",
                                       "G",
                                       "4Q",
                                       "-1",
                                       "1.5",
                                       "1..5G",
                                       ".5G",
                                       "5.G",
                                       "4GG",
                                       "4iB",
                                       "4Gi B",
                                       "1e3",
                                       " 4G",
                                       "4G ",
                                       "8192P",
                                       "18446744073709551616",
                                       "99999999999999999999T",
                                       "1.0000000001G",
                                       "4 ",
                                       "NaN",
                                       "inf",
                                       "4G\n",
                                       "0x10" };
    bytes = 7;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_refused(parse_size(bad[i], &bytes, &e), &e, true);
    assert_int_equal(bytes, 7);
    parse_size("4Q", &bytes, &e);
    assert_string_equal(e.text, "\"4Q\" is not a size");
    assert_true(strncmp(e.remedy, "write 4G or 512M", 16) == 0);
}

static void durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {
        { "90s", 90000 },
        { "2h30m", 9000000 },
        { "15days", 1296000000 },
        { "250ms", 250 },
        { "90", 90000 },
        { "1.5", 1500 },
        { "0", 0 },
        { "1.5h", 5400000 },
        { "1w2d3h4m5s6ms", 788645006 },
        { "2h 30m", 9000000 },
        { "15 days", 1296000000 },
        { "1hour", 3600000 },
        { "3min", 180000 },
        { "1_000s", 1000000 },
        { "0.0005s", 0 },
        { "1.25s", 1250 },
        { "365000d", 31536000000000 },
    };
    struct err e;
    int64_t ms = 7;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(parse_duration(good[i].text, &ms, &e), 0);
        assert_int_equal(ms, good[i].ms);
    }
    static const char *const bad[] = { "",
                                       "s",
                                       "-1s",
                                       "30M",
                                       "2h30",
                                       "30m2h",
                                       "1s1s",
                                       "1h1h",
                                       "90 ",
                                       " 90s",
                                       "90s ",
                                       "1:30",
                                       "5y",
                                       "1hm",
                                       "1e3s",
                                       "400000d",
                                       "99999999999999999999s",
                                       "18446744073709551615w",
                                       "nan",
                                       "1..5s",
                                       "2h  30m",
                                       "1_s",
                                       "366000d1ms" };
    ms = 7;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_refused(parse_duration(bad[i], &ms, &e), &e, true);
    assert_int_equal(ms, 7);
}

static void amounts(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t milli;
    } good[] = { { "0.5", 500 }, { "4", 4000 }, { "0", 0 }, { "0.001", 1 }, { "1.2500", 1250 }, { "1_000", 1000000 } };
    struct err e;
    uint64_t milli = 7;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(parse_milli(good[i].text, &milli, &e), 0);
        assert_int_equal(milli, good[i].milli);
    }
    static const char *const bad[] = {
        "", "-1", "0.0005", ".5", "5.", "1,5", "4c", "500m", "99999999999999999999", "9223372036854775807"
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_refused(parse_milli(bad[i], &milli, &e), &e, true);
}

static void times(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {
        { "1970-01-01T00:00:00Z", 0 },
        { "2026-11-23T11:40:00Z", NOW },
        { "2026-11-23T11:40:00.250Z", NOW + 250 },
        { "2026-11-23T12:40:00+01:00", NOW },
        { "2026-11-23T05:10:00-06:30", NOW },
        { "2026-11-23 11:40", NOW },
        { "2026-11-23 11:40:00", NOW },
        { "2026-11-23t11:40:00z", NOW },
        { "2026-11-23T11:40:00.2504999Z", NOW + 250 },
        { "2026-11-23", NOW - 42000000 },
        { "2000-02-29T00:00:00Z", 951782400000 },
        { "2024-02-29", 1709164800000 },
        { "2100-03-01", 4107542400000 },
        { "9999-12-31T23:59:59.999Z", 253402300799999 },
        { "now", NOW },
        { "now+2h", NOW + 7200000 },
        { "+90", NOW + 90000 },
        { "now-1d", NOW - 86400000 },
        { "-1s", NOW - 1000 },
    };
    struct err e;
    int64_t ms = 7;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(parse_time(good[i].text, NOW, &ms, &e), 0);
        assert_int_equal(ms, good[i].ms);
    }
    static const char *const bad[] = { "",
                                       "tomorrow",
                                       "now+",
                                       "now2h",
                                       "now +2h",
                                       "+",
                                       "+x",
                                       "2026-02-29",
                                       "2026-13-01",
                                       "2026-00-10",
                                       "2026-01-00",
                                       "2026-01-32",
                                       "1969-12-31T23:59:59Z",
                                       "2026-11-23T24:00:00Z",
                                       "2026-11-23T10:60:00Z",
                                       "2026-11-23T10:00:60Z",
                                       "2026-11-23T10",
                                       "2026-11-23T10:00Zx",
                                       "2026-11-23T10:00:00+25:00",
                                       "2026-11-23T10:00:00.Z",
                                       "26-11-23",
                                       "2100-02-29",
                                       "1970-01-01T00:00:00+00:01",
                                       "now+1000000d",
                                       "-60w100000d",
                                       "10:00",
                                       "1795434000" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_refused(parse_time(bad[i], NOW, &ms, &e), &e, true);
    assert_int_equal(parse_time("-1d", 1000, &ms, &e), -ERR_INVALID);
}

static void arrays(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t first, step, count, limit;
    } good[] = {
        { "1-1000%50", 1, 1, 1000, 50 },
        { "0-9:3", 0, 3, 4, 0 },
        { "7", 7, 1, 1, 0 },
        { "7%1", 7, 1, 1, 1 },
        { "0-0", 0, 1, 1, 0 },
        { "0-1_000_000_000", 0, 1, 1000000001, 0 },
        { "0-10:3%2", 0, 3, 4, 2 },
        { "4294967293", UINT32_MAX - 2, 1, 1, 0 },
        { "0-4294967293", 0, 1, UINT32_MAX - 1, 0 },
    };
    struct err e;
    uint32_t first = 0, step = 0, count = 0, limit = 9;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(parse_array(good[i].text, &first, &step, &count, &limit, &e), 0);
        assert_int_equal(first, good[i].first);
        assert_int_equal(step, good[i].step);
        assert_int_equal(count, good[i].count);
        assert_int_equal(limit, good[i].limit);
    }
    static const char *const bad[] = { "",
                                       "-",
                                       "1-",
                                       "-5",
                                       "5-1",
                                       "1-5:0",
                                       "1-5%0",
                                       "1-5%",
                                       "1-5:",
                                       "1:2",
                                       "a",
                                       "1-5 ",
                                       "1--5",
                                       "1-5%2%3",
                                       "1,2",
                                       "1-3,7-9",
                                       "4294967294",
                                       "0-99999999999999999999",
                                       "0-5:99999999999",
                                       "1-5%99999999999999999999" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_refused(parse_array(bad[i], &first, &step, &count, &limit, &e), &e, true);
    parse_array("1-3,7-9", &first, &step, &count, &limit, &e);
    assert_non_null(strstr(e.remedy, "one array for each range"));
}

static void job_references(void **state)
{
    (void)state;
    struct err e;
    uint64_t job = 0;
    bool has = true;
    uint32_t index = 9;
    assert_int_equal(parse_job_ref("12", &job, &has, &index, &e), 0);
    assert_true(job == 12 && !has && index == 0);
    assert_int_equal(parse_job_ref("12_7", &job, &has, &index, &e), 0);
    assert_true(job == 12 && has && index == 7);
    assert_int_equal(parse_job_ref("18446744073709551615_0", &job, &has, &index, &e), 0);
    assert_true(job == UINT64_MAX && has && index == 0);
    static const char *const bad[] = { "",
                                       "0",
                                       "_7",
                                       "12_",
                                       "A_7",
                                       "12_x",
                                       "12-3",
                                       "18446744073709551616",
                                       "1_4294967294",
                                       "1_99999999999999999999999",
                                       " 1",
                                       "1 ",
                                       "-1" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_refused(parse_job_ref(bad[i], &job, &has, &index, &e), &e, true);
}

static void choices(void **state)
{
    (void)state;
    static const struct { const char *word; int place; } cases[] = { { "a", 0 }, { "bc", 1 }, { "d", 2 }, { "b", -1 }, { "bcd", -1 }, { "", -1 }, { "a|bc", -1 } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(parse_choice(bytes_str(cases[i].word), "a|bc|d"), cases[i].place);
    assert_int_equal(parse_choice(bytes_str("a"), ""), -1);
    assert_true(bytes_equal(choice_word("a|bc|d", 0), bytes_str("a")) && bytes_equal(choice_word("a|bc|d", 2), bytes_str("d")));
    assert_int_equal(choice_word("a|bc|d", 3).size, 0);
    assert_true(bytes_compare(bytes_str("ab"), bytes_str("abc")) < 0 && bytes_compare(bytes_str("b"), bytes_str("abc")) > 0);
    assert_int_equal(bytes_compare(bytes_str("b"), bytes_str("b")), 0);
}

static void names(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool ok, utf8;
    } cases[] = {
        { "build", true, true },
        { "d\xc3\xa9j\xc3\xa0 vu", true, true },
        { "\xf0\x9f\x98\x80", true, true },
        { "a/b c;d\"e'", true, true },
        { "", false, true },
        { "a\nb", false, true },
        { "a\x1b[2J", false, true },
        { "a\x7f", false, true },
        { "\xc2\x9b"
          "2J",
          false, true },
        { "a\xe2\x80\xae"
          "b",
          false, true },
        { "\xe2\x81\xa6x", false, true },
        { "\xe2\x80\xa8", false, true },
        { "\xff", false, false },
        { "\xc0\x80", false, false },
        { "\xe0\x80\xaf", false, false },
        { "\xed\xa0\x80", false, false },
        { "\xf4\x90\x80\x80", false, false },
        { "\xf8\x88\x80\x80\x80", false, false },
        { "a\xc3", false, false },
        { "\x80", false, false },
        { "\xf0\x82\x82\xac", false, false },
        { "\xe2\x82", false, false },
        { "\xf0\x9f\x98", false, false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(parse_name_ok(bytes_str(cases[i].text), 64), cases[i].ok);
        assert_int_equal(utf8_valid(bytes_str(cases[i].text)), cases[i].utf8);
    }
    assert_false(parse_name_ok(bytes_of("a\0b", 3), 64));
    assert_true(utf8_valid(bytes_of("a\0b", 3)));
    assert_true(parse_name_ok(bytes_str("1234"), 4));
    assert_false(parse_name_ok(bytes_str("12345"), 4));
    assert_true(utf8_valid(bytes_of(NULL, 0)));
}

static const char *formatted(void (*format)(struct buf *, uint64_t), uint64_t value, struct buf *b)
{
    buf_clear(b);
    format(b, value);
    return b->data;
}

static void duration_u(struct buf *b, uint64_t ms)
{
    format_duration(b, (int64_t)ms);
}

static void formats(void **state)
{
    (void)state;
    autobuf struct buf b = BUF_INIT;
    assert_string_equal(formatted(format_size, 0, &b), "0");
    assert_string_equal(formatted(format_size, 1023, &b), "1023");
    assert_string_equal(formatted(format_size, 1024, &b), "1K");
    assert_string_equal(formatted(format_size, 1536, &b), "1.5K");
    assert_string_equal(formatted(format_size, 3ull << 29, &b), "1.5G");
    assert_string_equal(formatted(format_size, (1ull << 20) - 1, &b), "1M"); /* not 1024K */
    assert_string_equal(formatted(format_size, (1ull << 20) - 60, &b), "1023.9K");
    assert_string_equal(formatted(format_size, UINT64_MAX, &b), "16E");
    assert_string_equal(formatted(format_milli, 500, &b), "0.5");
    assert_string_equal(formatted(format_milli, 4000, &b), "4");
    assert_string_equal(formatted(format_milli, 1, &b), "0.001");
    assert_string_equal(formatted(duration_u, 0, &b), "0s");
    assert_string_equal(formatted(duration_u, 250, &b), "250ms");
    assert_string_equal(formatted(duration_u, 1250, &b), "1.25s");
    assert_string_equal(formatted(duration_u, 90000, &b), "90s");
    assert_string_equal(formatted(duration_u, 9000000, &b), "2h30m");
    assert_string_equal(formatted(duration_u, 15ull * 86400000, &b), "15d");
    assert_string_equal(formatted(duration_u, 90061000, &b), "1d1h1m1s");
    buf_clear(&b);
    format_duration(&b, -90000);
    assert_string_equal(b.data, "-90s");
    buf_clear(&b);
    format_duration(&b, INT64_MIN); /* any value is printed, none breaks */
    buf_clear(&b);
    format_time(&b, NOW + 7);
    assert_string_equal(b.data, "2026-11-23T11:40:00.007Z");
    buf_clear(&b);
    format_time(&b, INT64_MAX);
    format_time(&b, INT64_MIN);
    assert_string_equal(b.data, "9999-12-31T23:59:59.999Z1970-01-01T00:00:00.000Z");
}

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    struct prng p;
    struct err e;
    prng_seed(&p, 9);
    for (int i = 0; i < 50000; i++) {
        autobuf struct buf b = BUF_INIT;
        int64_t wall = prng_between(&p, 0, 253402300799999), back = 0, seconds = prng_between(&p, 0, 1000000) * 1000;
        uint64_t milli = prng_below(&p, 10000000), milli_back = 0,
                 size = prng_below(&p, 1000) << 10 * prng_below(&p, 5), size_back = 0;
        format_time(&b, wall);
        assert_int_equal(parse_time(b.data, 0, &back, &e), 0);
        assert_int_equal(back, wall);
        buf_clear(&b);
        format_duration(&b, seconds);
        assert_int_equal(parse_duration(b.data, &back, &e), 0);
        assert_int_equal(back, seconds);
        buf_clear(&b);
        format_milli(&b, milli);
        assert_int_equal(parse_milli(b.data, &milli_back, &e), 0);
        assert_int_equal(milli_back, milli);
        buf_clear(&b);
        format_size(&b, size);
        assert_int_equal(parse_size(b.data, &size_back, &e), 0);
        assert_int_equal(size_back, size);
    }
}

/* The calendar against the C library's, for every day until 2200. */
static void every_day(void **state)
{
    (void)state;
    for (int64_t day = 0; day < 84000; day++) {
        time_t t = day * 86400;
        struct tm tm;
        char expected[40];
        gmtime_r(&t, &tm);
        strftime(expected, sizeof expected, "%Y-%m-%dT%H:%M:%S.000Z", &tm);
        autobuf struct buf b = BUF_INIT;
        format_time(&b, day * 86400000);
        assert_string_equal(b.data, expected);
        int64_t back = -1;
        assert_int_equal(parse_time(b.data, 0, &back, NULL), 0);
        assert_int_equal(back, day * 86400000);
    }
}

static void no_locale(void **state)
{
    (void)state;
    setlocale(LC_ALL, "de_DE.UTF-8"); /* where it is installed; nothing may change either way */
    autobuf struct buf b = BUF_INIT;
    uint64_t milli = 0;
    format_milli(&b, 1500);
    assert_string_equal(b.data, "1.5");
    assert_int_equal(parse_milli("1.5", &milli, NULL), 0);
    assert_int_equal(parse_milli("1,5", &milli, NULL), -ERR_INVALID);
    setlocale(LC_ALL, "C");
}

static void distances(void **state)
{
    (void)state;
    assert_int_equal(parse_distance("", ""), 0);
    assert_int_equal(parse_distance("cpus", "cpus"), 0);
    assert_int_equal(parse_distance("cpu", "cpus"), 1);
    assert_int_equal(parse_distance("", "abc"), 3);
    assert_int_equal(parse_distance("pcus", "cpus"), 1); /* a swap is one step */
    assert_int_equal(parse_distance("kitten", "sitting"), 3);
    assert_int_equal(parse_distance("ab", "ba"), 1);
    assert_int_equal(parse_distance("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaXXXX", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaYY"),
                     0); /* after 32 bytes */
}

static void messages_are_one_harmless_line(void **state)
{
    (void)state;
    struct err e;
    uint64_t bytes = 0;
    autobuf struct buf b = BUF_INIT;
    buf_str(&b, "\x1b[2J\n");
    for (int i = 0; i < 1000000; i++)
        buf_char(&b, 'x');
    parse_size(b.data, &bytes, &e);
    for (const char *at = e.text; *at; at++)
        assert_true((unsigned char)*at >= 0x20);
    assert_true(strlen(e.text) < 100);
    buf_clear(&b);
    for (int i = 0; i < 100; i++)
        buf_str(&b, "\xc3\xa9");
    parse_size(b.data, &bytes, &e);
    assert_true(utf8_valid(bytes_str(e.text)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_numbers),  cmocka_unit_test(sizes),
        cmocka_unit_test(memory),
        cmocka_unit_test(durations),      cmocka_unit_test(amounts),
        cmocka_unit_test(times),          cmocka_unit_test(arrays),
        cmocka_unit_test(job_references), cmocka_unit_test(choices),
        cmocka_unit_test(names),
        cmocka_unit_test(formats),        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(every_day),      cmocka_unit_test(no_locale),
        cmocka_unit_test(distances),      cmocka_unit_test(messages_are_one_harmless_line),
    };
    return cmocka_run_group_tests_name("parse", tests, NULL, NULL);
}
