#include "obs/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/check.h"
#include "io/clock.h"

#define LINE_BYTES_MAX 8192 /* a message longer than that is cut and marked */

static const char *const names[] = {
    [LOG_DEBUG] = "DEBUG", [LOG_INFO] = "INFO", [LOG_WARN] = "WARN", [LOG_ERROR] = "ERROR"
};

static struct {
    char role[32];
    enum log_level level;
    bool json;
} config = { .role = "rota", .level = LOG_INFO };

void log_init(const char *role, enum log_level level, bool json)
{
    snprintf(config.role, sizeof config.role, "%s", role);
    config.level = level;
    config.json = json;
}

/* The code point at text, its length in *size; -1 (with *size 1) where the text is not UTF-8. */
static int32_t code_point(const unsigned char *text, size_t left, size_t *size)
{
    *size = 1;
    if (text[0] < 0x80)
        return text[0];
    size_t n = text[0] >= 0xf0 ? 4 : text[0] >= 0xe0 ? 3 : 2;
    if (text[0] < 0xc2 || text[0] > 0xf4 || n > left)
        return -1;
    int32_t point = text[0] & (0xff >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return -1;
        point = point << 6 | (text[i] & 0x3f);
    }
    static const int32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    if (point < least[n] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))
        return -1;
    *size = n;
    return point;
}

/* What could move the cursor, start a line, or turn the direction of the text around: C0, DEL, C1, separators, bidi. */
static bool harmful(int32_t point)
{
    return point < 0x20 || (point >= 0x7f && point <= 0x9f) || point == 0x61c || point == 0x200e || point == 0x200f ||
           (point >= 0x2028 && point <= 0x202e) || (point >= 0x2066 && point <= 0x2069) || point == 0xfeff;
}

/* Copies text so that it is one line of harmless UTF-8; for JSON, what goes between the quotes. */
static void add_clean(struct buf *out, const char *text, size_t size, bool json)
{
    const unsigned char *at = (const unsigned char *)text, *end = at + size;
    while (at < end) {
        size_t n;
        int32_t point = code_point(at, (size_t)(end - at), &n);
        if (point < 0 && json)
            buf_str(out, "\\ufffd");
        else if (point < 0)
            buf_printf(out, "\\x%02x", *at);
        else if (json && (point == '"' || point == '\\'))
            buf_printf(out, "\\%c", (int)point);
        else if (point == '\n' || point == '\t' || point == '\r')
            buf_str(out, point == '\n' ? "\\n" : point == '\t' ? "\\t" : "\\r");
        else if (harmful(point))
            buf_printf(out, json || point > 0xff ? "\\u%04x" : "\\x%02x", (unsigned)point);
        else
            buf_add(out, at, n);
        at += n;
    }
}

static void add_time(struct buf *out, int64_t wall_ms)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm t;
    check(gmtime_r(&seconds, &t));
    buf_printf(out, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", t.tm_year + 1900, t.tm_mon + 1, t.tm_mday, t.tm_hour,
               t.tm_min, t.tm_sec, (int)(wall_ms % 1000));
}

/* --- key=value pairs at the end of a message, which become members of their own in JSON --- */

struct pair { const char *key, *value; size_t key_size, value_size; };

/* Reads one pair and moves *at behind it and its blank. */
static bool take_pair(const char **at, struct pair *p)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz_", more[] = "abcdefghijklmnopqrstuvwxyz_0123456789";
    static const char *const ours[] = { "time", "level", "role", "message" };
    p->key = *at;
    p->key_size = strspn(p->key, more);
    if (!p->key_size || !strchr(letters, *p->key) || p->key[p->key_size] != '=')
        return false;
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (strlen(ours[i]) == p->key_size && memcmp(ours[i], p->key, p->key_size) == 0)
            return false;
    p->value = p->key + p->key_size + 1;
    bool quoted = *p->value == '"';
    p->value += quoted;
    p->value_size = strcspn(p->value, quoted ? "\"" : " ");
    const char *end = p->value + p->value_size;
    if (quoted ? *end++ != '"' : p->value_size == 0)
        return false;
    if (*end && *end != ' ')
        return false;
    *at = end + (*end == ' ');
    return true;
}

static bool has_key(const char *from, const char *to, const struct pair *p)
{
    struct pair q;
    while (from < to && take_pair(&from, &q))
        if (from <= to && q.key_size == p->key_size && memcmp(q.key, p->key, q.key_size) == 0)
            return true;
    return false;
}

static bool all_pairs(const char *text)
{
    struct pair p;
    for (const char *at = text, *before = text; *at; before = at)
        if (!take_pair(&at, &p) || has_key(text, before, &p))
            return false;
    return true;
}

/* Where the pairs begin; the end of the text if it does not end in pairs. */
static const char *find_pairs(const char *text)
{
    for (const char *at = text; *at; at++)
        if ((at == text || at[-1] == ' ') && all_pairs(at))
            return at;
    return text + strlen(text);
}

static void add_members(struct buf *out, const char *at)
{
    struct pair p;
    while (*at && take_pair(&at, &p)) {
        bool number = p.value_size && p.value_size < 16 && strspn(p.value, "0123456789") >= p.value_size &&
                      (*p.value != '0' || p.value_size == 1);
        buf_printf(out, ",\"%.*s\":%s", (int)p.key_size, p.key, number ? "" : "\"");
        add_clean(out, p.value, p.value_size, true);
        buf_str(out, number ? "" : "\"");
    }
}

bool log_shows(enum log_level level)
{
    return level >= config.level;
}

void log_write(enum log_level level, const char *fmt, ...)
{
    check(level >= LOG_DEBUG && level <= LOG_ERROR);
    if (level < config.level)
        return;
    int saved = errno;
    char message[LINE_BYTES_MAX];
    va_list args;
    va_start(args, fmt);
    int need = vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    check(need >= 0);
    autobuf struct buf line = BUF_INIT;
    if (config.json)
        buf_str(&line, "{\"time\":\"");
    add_time(&line, clock_wall_ms());
    buf_str(&line, config.json ? "\",\"level\":\"" : " ");
    buf_str(&line, names[level]);
    buf_str(&line, config.json ? "\",\"role\":\"" : " ");
    add_clean(&line, config.role, strlen(config.role), config.json);
    buf_str(&line, config.json ? "\",\"message\":\"" : " ");
    bool cut = (size_t)need >= sizeof message;
    const char *pairs = config.json && !cut ? find_pairs(message) : message + strlen(message);
    size_t words = (size_t)(pairs - message);
    while (*pairs && words && (message[words - 1] == ' ' || message[words - 1] == ':'))
        words--;
    add_clean(&line, message, words, config.json);
    if (cut)
        buf_str(&line, " [cut]");
    if (config.json) {
        buf_char(&line, '"');
        add_members(&line, pairs);
        buf_char(&line, '}');
    }
    buf_char(&line, '\n');
    /* One call, so that lines of several threads and processes do not mix. A log that cannot be written stops nobody.
     */
    while (write(STDERR_FILENO, line.data, line.size) < 0 && errno == EINTR)
        ;
    errno = saved;
}
