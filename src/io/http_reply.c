/* http_reply.c: answers: heads, whole ones, streamed ones, errors. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <http_parser.h>

#include "base/check.h"
#include "io/clock.h"
#include "io/http_conn.h"

enum { LENGTH_UNKNOWN = -1, LENGTH_NONE = -2 };

static void add_date(struct http_server *s, struct buf *out)
{
    int64_t now_s = clock_wall_ms() / 1000;
    if (now_s != s->date_s || !s->date[0]) {
        time_t t = (time_t)now_s;
        struct tm tm;
        check(gmtime_r(&t, &tm));
        static const char days[] = "SunMonTueWedThuFriSat", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
        snprintf(s->date, sizeof s->date, "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT", days + 3 * tm.tm_wday,
                 (unsigned char)tm.tm_mday, months + 3 * tm.tm_mon, (tm.tm_year + 1900) % 10000,
                 (unsigned char)tm.tm_hour, (unsigned char)tm.tm_min, (unsigned char)tm.tm_sec);
        s->date_s = now_s;
    }
    buf_str(out, s->date);
}

/* True when a line of added headers begins with name. */
static bool has_header(struct bytes headers, const char *name)
{
    size_t size = strlen(name);
    for (const char *at = headers.data, *end = at + headers.size; at && at < end;) {
        if ((size_t)(end - at) > size && strncasecmp(at, name, size) == 0 && at[size] == ':')
            return true;
        const char *lf = memchr(at, '\n', (size_t)(end - at));
        at = lf ? lf + 1 : end;
    }
    return false;
}

/* Sent with each answer unless the caller has set the header: a page needs a wider content policy than data does. */
static const struct {
    const char *name, *value;
} defaults[] = {
    { "X-Content-Type-Options", "nosniff" },
    { "Referrer-Policy", "no-referrer" },
    { "Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'" },
    { "Cross-Origin-Resource-Policy", "same-origin" },
    { "Cache-Control", "no-store" },
};

static void add_head(struct http_conn *c, struct buf *out, int status, const char *content_type, int64_t length,
                     bool http_1_0, struct bytes headers)
{
    buf_str(out, "HTTP/1.1 ");
    buf_u64(out, (uint64_t)status);
    buf_char(out, ' ');
    buf_str(out, http_status_str((enum http_status)status));
    buf_str(out, "\r\nDate: ");
    add_date(c->server, out);
    if (content_type && *content_type) {
        buf_str(out, "\r\nContent-Type: ");
        buf_str(out, content_type);
    }
    if (length >= 0) {
        buf_str(out, "\r\nContent-Length: ");
        buf_u64(out, (uint64_t)length);
    } else if (length == LENGTH_UNKNOWN && !http_1_0) {
        buf_str(out, "\r\nTransfer-Encoding: chunked");
    }
    for (size_t i = 0; i < sizeof defaults / sizeof defaults[0]; i++) {
        if (headers.size && has_header(headers, defaults[i].name))
            continue;
        buf_str(out, "\r\n");
        buf_str(out, defaults[i].name);
        buf_str(out, ": ");
        buf_str(out, defaults[i].value);
    }
    if (!c->keep)
        buf_str(out, "\r\nConnection: close");
    buf_str(out, "\r\n");
    buf_add(out, headers.data, headers.size);
    buf_str(out, "\r\n");
}

void http_add_header(struct http_request *r, const char *name, const char *value)
{
    check(r->answer == ANSWER_NONE);
    for (const char *at = name; *at; at++)
        check(*at > ' ' && *at < 0x7f && *at != ':'); /* names are the program's own */
    buf_str(&r->headers, name);
    buf_str(&r->headers, ": ");
    for (; *value; value++) /* values may come from anywhere: none may end the line */
        buf_char(&r->headers, ((unsigned char)*value < 0x20 && *value != '\t') || *value == 0x7f ? ' ' : *value);
    buf_str(&r->headers, "\r\n");
}

/* An early answer keeps the connection only if what is left of the body is small and certain to come. */
static void decide_keep(struct http_request *r)
{
    struct http_conn *c = r->conn;
    c->keep = r->head.keep_alive && c->served < c->server->limits.requests_per_connection &&
              (http_body_done(&c->body) || (conn_can_drain(c) && !r->continue_due));
}

static void answer_done(struct http_request *r)
{
    r->answer = ANSWER_DONE;
    conn_process_later(r->conn);
}

static void begin(struct http_request *r, int status, const char *content_type, int64_t length)
{
    check(r->answer == ANSWER_NONE && status >= 200 && status <= 599);
    decide_keep(r);
    bool empty = status == 204 || status == 304;
    r->bodiless = empty || strcmp(r->head.method, "HEAD") == 0;
    r->chunked = length == LENGTH_UNKNOWN && !r->head.http_1_0;
    r->answer = ANSWER_OPEN;
    conn_pause(r->conn, false); /* no more body, but the peer's going is to be noticed */
    struct buf *out = &r->conn->server->scratch;
    buf_clear(out);
    add_head(r->conn, out, status, content_type, empty ? LENGTH_NONE : length, r->head.http_1_0,
             buf_bytes(&r->headers));
}

void http_reply(struct http_request *r, int status, const char *content_type, struct bytes body)
{
    begin(r, status, content_type, (int64_t)body.size);
    struct buf *out = &r->conn->server->scratch;
    if (!r->bodiless && body.size <= 4096) { /* one piece: one copy more, one call less */
        buf_add(out, body.data, body.size);
        body.size = 0;
    }
    conn_write(r->conn, out->data, out->size);
    if (!r->bodiless && body.size)
        conn_write(r->conn, body.data, body.size);
    answer_done(r);
}

void http_reply_start(struct http_request *r, int status, const char *content_type)
{
    begin(r, status, content_type, LENGTH_UNKNOWN);
    struct buf *out = &r->conn->server->scratch;
    conn_write(r->conn, out->data, out->size);
    r->event_stream = content_type && strncmp(content_type, "text/event-stream", 17) == 0;
    r->conn->server->stats.sse_clients += r->event_stream;
}

void http_write(struct http_request *r, struct bytes piece)
{
    check(r->answer == ANSWER_OPEN);
    if (r->bodiless || !piece.size) /* a chunk of size 0 would end the body */
        return;
    if (r->chunked) {
        char line[24];
        int size = snprintf(line, sizeof line, "%zx\r\n", piece.size);
        conn_write(r->conn, line, (size_t)size);
    }
    conn_write(r->conn, piece.data, piece.size);
    if (r->chunked)
        conn_write(r->conn, "\r\n", 2);
    if (conn_unsent(r->conn) >= r->drained_low)
        r->drained_armed = true;
}

void http_reply_end(struct http_request *r)
{
    check(r->answer == ANSWER_OPEN);
    if (r->chunked && !r->bodiless)
        conn_write(r->conn, "0\r\n\r\n", 5);
    answer_done(r);
}

size_t http_unsent(const struct http_request *r)
{
    return conn_unsent(r->conn);
}

void http_on_drained(struct http_request *r, size_t low, void (*cb)(void *arg, struct http_request *r), void *arg)
{
    r->drained = cb;
    r->drained_arg = arg;
    r->drained_low = low ? low : 1;
    r->drained_armed = cb;
    conn_set_write_mark(r->conn, cb ? r->drained_low - 1 : 0);
    if (cb && conn_unsent(r->conn) < r->drained_low)
        conn_process_later(r->conn); /* low already: say so from the loop, never from in here */
}

/* --- errors --- */

static void json_text(struct buf *out, const char *text)
{
    buf_char(out, '"');
    for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
        if (*at == '"' || *at == '\\')
            buf_printf(out, "\\%c", *at);
        else if (*at < 0x20 || *at == 0x7f)
            buf_printf(out, "\\u%04x", *at);
        else
            buf_char(out, (char)*at);
    }
    buf_char(out, '"');
}

static void json_member(struct buf *out, const char *name, const char *value)
{
    if (!*value)
        return;
    buf_printf(out, ",\"%s\":", name);
    json_text(out, value);
}

static size_t utf8_size(unsigned char first)
{
    if (first < 0x80)
        return 1;
    if (first < 0xc2 || first > 0xf4)
        return 0;
    return first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/* A text cut at a size may end inside a character, and may quote what a client sent. JSON must be UTF-8 all the same.
 */
static void keep_utf8(char *text)
{
    for (unsigned char *at = (unsigned char *)text; *at;) {
        size_t n = utf8_size(*at);
        size_t have = n > 0;
        while (have && have < n && (at[have] & 0xc0) == 0x80)
            have++;
        bool bad = have < n || n == 0 || (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) ||
                   (at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f);
        if (bad) {
            *at++ = '?';
            continue;
        }
        at += n;
    }
}

void http_reply_error(struct http_request *r, const struct err *err)
{
    struct err clean = *err;
    keep_utf8(clean.text);
    keep_utf8(clean.field);
    keep_utf8(clean.remedy);
    int status = err_http_status(clean.code);
    const char *title = err_title(clean.code);
    autobuf struct buf body = BUF_INIT;
    buf_str(&body, "{\"type\":\"urn:rota:error:");
    for (const char *at = title; *at; at++)
        buf_char(&body, (*at >= 'a' && *at <= 'z') ? *at : '-');
    buf_str(&body, "\",\"title\":");
    json_text(&body, title);
    buf_printf(&body, ",\"status\":%d,\"detail\":", status);
    json_text(&body, clean.text);
    json_member(&body, "field", clean.field);
    json_member(&body, "remedy", clean.remedy);
    buf_str(&body, "}\n");
    if (status == 401 && !has_header(buf_bytes(&r->headers), "WWW-Authenticate"))
        http_add_header(r, "WWW-Authenticate", "Bearer");
    http_reply(r, status, "application/problem+json", buf_bytes(&body));
}

void reply_refusal(struct http_conn *c, const struct http_refusal *why)
{
    autobuf struct buf body = BUF_INIT;
    buf_str(&body, "{\"type\":\"about:blank\",\"title\":");
    json_text(&body, http_status_str((enum http_status)why->status));
    buf_printf(&body, ",\"status\":%d,\"detail\":", why->status);
    json_text(&body, why->text);
    buf_str(&body, "}\n");
    struct buf *out = &c->server->scratch;
    buf_clear(out);
    add_head(c, out, why->status, "application/problem+json", (int64_t)body.size, false, bytes_of("", 0));
    if (!c->r || strcmp(c->r->head.method, "HEAD") != 0)
        buf_add(out, body.data, body.size);
    conn_write(c, out->data, out->size);
}
