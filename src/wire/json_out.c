#include "wire/json_out.h"

#include <math.h>

#include "base/check.h"
#include "base/parse.h"

static const char hex[] = "0123456789abcdef";

/* The length of the UTF-8 character at text[0], or 0 if there is none. */
static size_t utf8_step(const unsigned char *text, size_t size)
{
    unsigned char c = text[0];
    if (c < 0x80)
        return 1;
    size_t need = c >= 0xc2 && c <= 0xdf ? 2 : c >= 0xe0 && c <= 0xef ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 0;
    if (!need || size < need)
        return 0;
    for (size_t i = 1; i < need; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    if ((c == 0xe0 && text[1] < 0xa0) || (c == 0xed && text[1] > 0x9f) || (c == 0xf0 && text[1] < 0x90) ||
        (c == 0xf4 && text[1] > 0x8f))
        return 0;
    return need;
}

static void escape(struct buf *to, unsigned char c)
{
    char text[6] = { '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] };
    switch (c) {
    case '"':
    case '\\': text[1] = (char)c; break;
    case '\b': text[1] = 'b'; break;
    case '\f': text[1] = 'f'; break;
    case '\n': text[1] = 'n'; break;
    case '\r': text[1] = 'r'; break;
    case '\t': text[1] = 't'; break;
    default: buf_add(to, text, 6); return;
    }
    buf_add(to, text, 2);
}

/* The byte needs more than copying. */
static inline bool special(unsigned char c)
{
    return c < 0x20 || c > 0x7e || c == '"' || c == '\\';
}

/* Everything from `at` on, with what needs it escaped. */
static void quoted_rest(struct buf *to, const unsigned char *text, size_t size, size_t at)
{
    size_t done = 0;
    while (at < size) {
        unsigned char c = text[at];
        if (!special(c)) {
            at++;
            continue;
        }
        size_t step = c < 0x80 ? 0 : utf8_step(text + at, size - at);
        bool separator = step == 3 && c == 0xe2 && text[at + 1] == 0x80 && (text[at + 2] | 1) == 0xa9;
        if (step && !separator) {
            at += step;
            continue;
        }
        buf_add(to, text + done, at - done);
        if (separator)
            buf_str(to, text[at + 2] == 0xa8 ? "\\u2028" : "\\u2029");
        else if (c < 0x80)
            escape(to, c);
        else
            buf_str(to, "\xef\xbf\xbd");
        at += separator ? 3 : 1;
        done = at;
    }
    buf_add(to, text + done, size - done);
}

/* Nearly all text needs nothing but copying, and goes in at one stroke. */
static void quoted(struct buf *to, struct bytes source)
{
    const unsigned char *text = (const unsigned char *)source.data;
    size_t at = 0;
    while (at < source.size && !special(text[at]))
        at++;
    buf_reserve(to, source.size + 2);
    to->data[to->size++] = '"';
    if (at < source.size) {
        quoted_rest(to, text, source.size, at);
        buf_reserve(to, 1);
    } else if (source.size) {
        memcpy(to->data + to->size, text, source.size);
        to->size += source.size;
    }
    to->data[to->size++] = '"';
    to->data[to->size] = 0;
}

static void lead(struct json_out *j, const char *key)
{
    if (j->comma)
        buf_char(j->to, ',');
    j->comma = true;
    if (key) {
        quoted(j->to, bytes_str(key));
        buf_char(j->to, ':');
    }
}

void json_open(struct json_out *j, const char *key, char bracket)
{
    check(bracket == '{' || bracket == '[');
    lead(j, key);
    buf_char(j->to, bracket);
    j->comma = false;
}

void json_close(struct json_out *j, char bracket)
{
    check(bracket == '}' || bracket == ']');
    buf_char(j->to, bracket);
    j->comma = true;
}

void json_str(struct json_out *j, const char *key, struct bytes text)
{
    lead(j, key);
    quoted(j->to, text);
}

void json_pair(struct json_out *j, struct bytes key, struct bytes text)
{
    lead(j, NULL);
    quoted(j->to, key);
    buf_char(j->to, ':');
    quoted(j->to, text);
}

void json_cstr(struct json_out *j, const char *key, const char *text)
{
    if (text)
        json_str(j, key, bytes_str(text));
    else
        json_null(j, key);
}

void json_u64(struct json_out *j, const char *key, uint64_t v)
{
    lead(j, key);
    buf_u64(j->to, v);
}

void json_i64(struct json_out *j, const char *key, int64_t v)
{
    lead(j, key);
    buf_i64(j->to, v);
}

/* Whole numbers and fraction apart: printf would write the decimal point of the user's locale. */
void json_num(struct json_out *j, const char *key, double v, int decimals)
{
    static const uint64_t power[] = { 1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000 };
    check(decimals >= 0 && decimals <= 9);
    if (!isfinite(v)) {
        json_null(j, key);
        return;
    }
    lead(j, key);
    double size = fabs(v);
    if (size * (double)power[decimals] >= 9e15) {
        buf_printf(j->to, "%.0f", v);
        return;
    }
    uint64_t scaled = (uint64_t)llround(size * (double)power[decimals]);
    if (v < 0 && scaled)
        buf_char(j->to, '-');
    buf_u64(j->to, scaled / power[decimals]);
    uint64_t fraction = scaled % power[decimals];
    if (!fraction)
        return;
    char text[10];
    int digits = decimals;
    while (fraction % 10 == 0) {
        fraction /= 10;
        digits--;
    }
    text[0] = '.';
    for (int i = digits; i > 0; i--, fraction /= 10)
        text[i] = (char)('0' + fraction % 10);
    buf_add(j->to, text, (size_t)digits + 1);
}

void json_bool(struct json_out *j, const char *key, bool v)
{
    lead(j, key);
    buf_str(j->to, v ? "true" : "false");
}

void json_raw(struct json_out *j, const char *key, struct bytes json)
{
    lead(j, key);
    buf_add(j->to, json.data, json.size);
}

void json_time(struct json_out *j, const char *key, int64_t wall_ms)
{
    if (!wall_ms) {
        json_null(j, key);
        return;
    }
    lead(j, key);
    buf_char(j->to, '"');
    format_time(j->to, wall_ms);
    buf_char(j->to, '"');
}

void json_choice(struct json_out *j, const char *key, size_t place, const char *choices)
{
    json_bytes(j, key, choice_word(choices, place));
}
