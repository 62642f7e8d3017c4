#include "api/session.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/mem.h"

#define USE_MS 60000 /* a use sooner after the last one is not worth writing down */

struct pass {
    uint8_t digest[32], token[TOKEN_DIGEST_BYTES];
    int64_t wall_ms; /* of a session: last used; of a ticket: made; 0: the place is free */
};

struct sessions {
    struct pass open[SESSIONS_MAX], tickets[TICKETS_MAX];
    uint64_t changes;
};

struct sessions *sessions_new(void)
{
    return mem_zero(1, sizeof(struct sessions));
}

void sessions_free(struct sessions *s)
{
    free(s);
}

static bool fresh(const struct pass *p, int64_t wall_ms, int64_t life_ms)
{
    return p->wall_ms && wall_ms - p->wall_ms < life_ms;
}

static struct pass *find(const struct pass *table, size_t count, struct bytes text)
{
    uint8_t digest[32];
    SHA256((const unsigned char *)text.data, text.size, digest);
    for (size_t i = 0; i < count; i++)
        if (table[i].wall_ms && CRYPTO_memcmp(table[i].digest, digest, sizeof digest) == 0)
            return (struct pass *)&table[i];
    return NULL;
}

/* A free place, or that of whoever was not seen for longest. */
static struct pass *place(struct pass *table, size_t count)
{
    struct pass *oldest = &table[0];
    for (size_t i = 0; i < count; i++)
        if (table[i].wall_ms < oldest->wall_ms)
            oldest = &table[i];
    return oldest;
}

static int add(struct pass *table, size_t count, const uint8_t *token, int64_t wall_ms, char *text, struct err *err)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint8_t random[SESSION_TEXT_BYTES - 1];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return err_errno(err, "random bytes for a session");
    for (size_t i = 0; i < sizeof random; i++)
        text[i] = digits[random[i] & 63]; /* 43 x 6 bits */
    text[sizeof random] = 0;
    OPENSSL_cleanse(random, sizeof random);
    struct pass *p = place(table, count);
    SHA256((const unsigned char *)text, strlen(text), p->digest);
    memcpy(p->token, token, sizeof p->token);
    p->wall_ms = wall_ms;
    return 0;
}

int session_open(struct sessions *s, const uint8_t token[TOKEN_DIGEST_BYTES], int64_t wall_ms,
                 char text[SESSION_TEXT_BYTES], struct err *err)
{
    int rc = add(s->open, SESSIONS_MAX, token, wall_ms, text, err);
    s->changes += rc == 0;
    return rc;
}

bool session_check(struct sessions *s, struct bytes text, int64_t wall_ms, uint8_t token[TOKEN_DIGEST_BYTES])
{
    struct pass *p = find(s->open, SESSIONS_MAX, text);
    if (!p || !fresh(p, wall_ms, SESSION_IDLE_MS))
        return false;
    if (wall_ms - p->wall_ms >= USE_MS || wall_ms < p->wall_ms) {
        p->wall_ms = wall_ms;
        s->changes++;
    }
    memcpy(token, p->token, sizeof p->token);
    return true;
}

bool session_alive(const struct sessions *s, struct bytes text, int64_t wall_ms)
{
    const struct pass *p = find(s->open, SESSIONS_MAX, text);
    return p && fresh(p, wall_ms, SESSION_IDLE_MS);
}

void session_close(struct sessions *s, struct bytes text)
{
    struct pass *p = find(s->open, SESSIONS_MAX, text);
    if (!p)
        return;
    *p = (struct pass){ 0 };
    s->changes++;
}

int ticket_make(struct sessions *s, const uint8_t token[TOKEN_DIGEST_BYTES], int64_t wall_ms,
                char text[SESSION_TEXT_BYTES], struct err *err)
{
    return add(s->tickets, TICKETS_MAX, token, wall_ms, text, err);
}

bool ticket_use(struct sessions *s, struct bytes text, int64_t wall_ms, uint8_t token[TOKEN_DIGEST_BYTES])
{
    struct pass *p = find(s->tickets, TICKETS_MAX, text);
    if (!p)
        return false;
    bool good = fresh(p, wall_ms, TICKET_MS);
    memcpy(token, p->token, sizeof p->token);
    *p = (struct pass){ 0 };
    return good;
}

struct bytes cookie_find(const char *header, const char *name)
{
    size_t size = strlen(name);
    for (const char *at = header; at && *at;) {
        at += strspn(at, "; \t");
        size_t length = strcspn(at, ";");
        if (length > size && at[size] == '=' && strncmp(at, name, size) == 0)
            return bytes_of(at + size + 1, length - size - 1);
        at += length;
    }
    return bytes_of("", 0);
}

/* --- keeping --- */

static void write_hex(struct buf *out, const uint8_t *bytes)
{
    for (size_t i = 0; i < 32; i++)
        buf_printf(out, "%02x", bytes[i]);
}

void sessions_write(const struct sessions *s, struct buf *out)
{
    for (size_t i = 0; i < SESSIONS_MAX; i++) {
        const struct pass *p = &s->open[i];
        if (!p->wall_ms)
            continue;
        write_hex(out, p->digest);
        buf_char(out, ' ');
        write_hex(out, p->token);
        buf_printf(out, " %" PRId64 "\n", p->wall_ms);
    }
}

static bool read_hex(const char *text, uint8_t *bytes)
{
    for (size_t i = 0; i < 32; i++) {
        unsigned value;
        if (strspn(text + 2 * i, "0123456789abcdef") < 2 || sscanf(text + 2 * i, "%2x", &value) != 1)
            return false;
        bytes[i] = (uint8_t)value;
    }
    return true;
}

/* "<64 hex> <64 hex> <number>" */
static bool read_line(const char *line, struct pass *p)
{
    char *end;
    if (strlen(line) < 131 || line[64] != ' ' || line[129] != ' ' || !read_hex(line, p->digest) ||
        !read_hex(line + 65, p->token))
        return false;
    p->wall_ms = strtoll(line + 130, &end, 10);
    return *end == 0 && p->wall_ms > 0;
}

void sessions_read(struct sessions *s, struct bytes text)
{
    size_t count = 0;
    for (const char *at = text.data, *end = at + text.size; at < end && count < SESSIONS_MAX;) {
        const char *lf = memchr(at, '\n', (size_t)(end - at));
        if (!lf)
            return;
        char line[192];
        if ((size_t)(lf - at) < sizeof line) {
            memcpy(line, at, (size_t)(lf - at));
            line[lf - at] = 0;
            count += read_line(line, &s->open[count]);
        }
        at = lf + 1;
    }
    if (count < SESSIONS_MAX)
        s->open[count] = (struct pass){ 0 }; /* half a line may have been read there */
}

uint64_t sessions_changes(const struct sessions *s)
{
    return s->changes;
}
