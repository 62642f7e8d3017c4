#include "io/http_parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

#define H "Host: localhost\r\n"

/* Text that may hold zero bytes. */
#define RAW(s) bytes_of(s, sizeof(s) - 1)

/* Gate and head: 200 if let pass, else the status of the refusal, 0 if more is needed. The gate gets the bytes in
 * pieces of `piece`. */
static int verdict(struct bytes raw, size_t piece, struct http_head *h, char **text)
{
    struct http_gate g = { 0 };
    struct http_refusal why = { 0 };
    int head = 0;
    for (size_t size = piece < raw.size ? piece : raw.size; head == 0; size += piece) {
        if (size > raw.size)
            size = raw.size;
        char *exact = mem_copy(raw.data, size); /* so that reading beyond is found */
        head = http_gate(&g, exact, size, &why);
        free(exact);
        if (size == raw.size)
            break;
    }
    *text = NULL;
    if (head == 0)
        return 0;
    if (head < 0)
        return why.status;
    *text = mem_copy(raw.data + g.start, (size_t)head - g.start);
    int rc = http_head_parse(h, *text, (size_t)head - g.start, &why);
    return rc < 0 ? why.status : 200;
}

static int verdict_of(struct bytes raw)
{
    struct http_head h;
    char *text;
    int whole = verdict(raw, raw.size, &h, &text);
    free(text);
    const size_t pieces[] = { 1, 2, 3, 7, 64 };
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        int now = verdict(raw, pieces[i], &h, &text);
        free(text);
        if (now != whole)
            print_error("in pieces of %zu: %d, whole: %d: %.60s\n", pieces[i], now, whole, raw.data);
        assert_int_equal(now, whole);
    }
    return whole;
}

static const struct {
    const char *what;
    int status;
    struct bytes raw;
} heads[] = {
#define T(what, status, raw)                                                                                           \
    {                                                                                                                  \
        what, status,                                                                                                  \
        {                                                                                                              \
            raw, sizeof(raw) - 1                                                                                       \
        }                                                                                                              \
    }
    T("plain", 200, "GET / HTTP/1.1\r\n" H "\r\n"),
    T("one empty line before", 200, "\r\nGET / HTTP/1.1\r\n" H "\r\n"),
    T("two empty lines before", 400, "\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n"),
    T("bare LF before", 400, "\nGET / HTTP/1.1\r\n" H "\r\n"),
    T("HTTP/1.0", 200, "GET / HTTP/1.0\r\n" H "\r\n"),
    T("HTTP/0.9", 400, "GET /\r\n\r\n"),
    T("HTTP/0.9 with blank", 400, "GET / \r\n\r\n"),
    T("HTTP/2 preface", 505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    T("HTTP/1.2", 505, "GET / HTTP/1.2\r\n" H "\r\n"),
    T("HTTP/1.10", 400, "GET / HTTP/1.10\r\n" H "\r\n"),
    T("http/1.1", 400, "GET / http/1.1\r\n" H "\r\n"),
    T("two blanks", 400, "GET  / HTTP/1.1\r\n" H "\r\n"),
    T("tab", 400, "GET\t/ HTTP/1.1\r\n" H "\r\n"),
    T("blank at end", 400, "GET / HTTP/1.1 \r\n" H "\r\n"),
    T("blank at begin", 400, " GET / HTTP/1.1\r\n" H "\r\n"),
    T("unknown method", 501, "GETT / HTTP/1.1\r\n" H "\r\n"),
    T("small method", 501, "get / HTTP/1.1\r\n" H "\r\n"),
    T("CONNECT", 501, "CONNECT localhost:80 HTTP/1.1\r\n" H "\r\n"),
    T("TLS hello", 400, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc"),
    T("NUL in target", 400, "GET /a\0b HTTP/1.1\r\n" H "\r\n"),
    T("NUL in value", 400, "GET / HTTP/1.1\r\n" H "X: a\0b\r\n\r\n"),
    T("NUL in name", 400, "GET / HTTP/1.1\r\n" H "X\0Y: a\r\n\r\n"),
    T("DEL in value", 400, "GET / HTTP/1.1\r\n" H "X: a\x7f\r\n\r\n"),
    T("bare LF", 400, "GET / HTTP/1.1\n" H "\r\n"),
    T("bare LF in headers", 400, "GET / HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n"),
    T("bare LF in a value", 400, "GET / HTTP/1.1\r\n" H "X: y\nTransfer-Encoding: chunked\r\n\r\n"),
    T("bare LF at end", 400, "GET / HTTP/1.1\r\n" H "\n"),
    T("bare CR in value", 400, "GET / HTTP/1.1\r\n" H "X: a\rY: b\r\n\r\n"),
    T("CR CR LF", 400, "GET / HTTP/1.1\r\n" H "X: a\r\r\n\r\n"),
    T("blank before colon", 400, "GET / HTTP/1.1\r\n" H "Content-Length : 5\r\n\r\n"),
    T("tab before colon", 400, "GET / HTTP/1.1\r\n" H "Transfer-Encoding\t: chunked\r\n\r\n"),
    T("folded line", 400, "GET / HTTP/1.1\r\n" H "X: a\r\n b\r\n\r\n"),
    T("folded by tab", 400, "GET / HTTP/1.1\r\n" H "X: a\r\n\tb\r\n\r\n"),
    T("first header folded", 400, "GET / HTTP/1.1\r\n Host: localhost\r\n\r\n"),
    T("no colon", 400, "GET / HTTP/1.1\r\n" H "Nonsense\r\n\r\n"),
    T("empty name", 400, "GET / HTTP/1.1\r\n" H ": a\r\n\r\n"),
    T("strange name", 400, "GET / HTTP/1.1\r\n" H "X(Y): a\r\n\r\n"),
    T("empty value", 200, "GET / HTTP/1.1\r\n" H "X:\r\n\r\n"),
    T("latin-1 value", 200, "GET / HTTP/1.1\r\n" H "X: caf\xe9\r\n\r\n"),

    T("CL and TE", 400, "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
    T("TE and CL", 400, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"),
    T("two CL", 400, "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 6\r\n\r\n"),
    T("two equal CL", 400, "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"),
    T("list of CL", 400, "POST / HTTP/1.1\r\n" H "Content-Length: 5, 5\r\n\r\n"),
    T("CL +5", 400, "POST / HTTP/1.1\r\n" H "Content-Length: +5\r\n\r\n"),
    T("CL -5", 400, "POST / HTTP/1.1\r\n" H "Content-Length: -5\r\n\r\n"),
    T("CL 0x5", 400, "POST / HTTP/1.1\r\n" H "Content-Length: 0x5\r\n\r\n"),
    T("CL 5 5", 400, "POST / HTTP/1.1\r\n" H "Content-Length: 5 5\r\n\r\n"),
    T("CL empty", 400, "POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n"),
    T("CL huge", 400, "POST / HTTP/1.1\r\n" H "Content-Length: 18446744073709551617\r\n\r\n"),
    T("CL wraps", 400, "POST / HTTP/1.1\r\n" H "Content-Length: 9999999999999999999\r\n\r\n"),
    T("CL", 200, "POST / HTTP/1.1\r\n" H "Content-Length:  5 \r\n\r\n"),
    T("TE", 200, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: CHUNKED\r\n\r\n"),
    T("TE unknown", 501, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip\r\n\r\n"),
    T("TE identity", 501, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n\r\n"),
    T("TE list", 501, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n"),
    T("TE chunked last but one", 501, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, identity\r\n\r\n"),
    T("TE xchunked", 501, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n"),
    T("TE quoted", 501, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: \"chunked\"\r\n\r\n"),
    T("TE with VT", 400,
      "POST / HTTP/1.1\r\n" H "Transfer-Encoding: \x0b"
      "chunked\r\n\r\n"),
    T("TE empty", 501, "POST / HTTP/1.1\r\n" H "Transfer-Encoding:\r\n\r\n"),
    T("TE twice", 400, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
    T("TE twice, hidden", 400, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n"),
    T("TE in HTTP/1.0", 400, "POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n"),
    T("expectation", 200, "POST / HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"),
    T("odd expectation", 417, "POST / HTTP/1.1\r\n" H "Expect: miracles\r\n\r\n"),
    T("upgrade is not taken", 200, "GET / HTTP/1.1\r\n" H "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),

    T("no Host", 400, "GET / HTTP/1.1\r\n\r\n"),
    T("no Host, HTTP/1.0", 400, "GET / HTTP/1.0\r\n\r\n"),
    T("two Hosts", 400, "GET / HTTP/1.1\r\n" H H "\r\n"),
    T("empty Host", 400, "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    T("Host with port", 200, "GET / HTTP/1.1\r\nHost: localhost:7682\r\n\r\n"),
    T("Host with odd port", 400, "GET / HTTP/1.1\r\nHost: localhost:76x\r\n\r\n"),
    T("Host with long port", 400, "GET / HTTP/1.1\r\nHost: localhost:123456\r\n\r\n"),
    T("Host with user", 400, "GET / HTTP/1.1\r\nHost: localhost@evil\r\n\r\n"),
    T("Host with path", 400, "GET / HTTP/1.1\r\nHost: localhost/evil\r\n\r\n"),
    T("Host list", 400, "GET / HTTP/1.1\r\nHost: localhost, evil\r\n\r\n"),
    T("Host IPv6", 200, "GET / HTTP/1.1\r\nHost: [::1]:7682\r\n\r\n"),
    T("Host IPv6 open", 400, "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
    T("Host IPv6 and more", 400, "GET / HTTP/1.1\r\nHost: [::1]evil\r\n\r\n"),
    T("absolute", 200, "GET http://localhost/x?y HTTP/1.1\r\n" H "\r\n"),
    T("absolute, no path", 200, "GET http://localhost HTTP/1.1\r\n" H "\r\n"),
    T("absolute, case", 200, "GET HTTP://LOCALHOST/ HTTP/1.1\r\n" H "\r\n"),
    T("absolute, other host", 400, "GET http://evil/ HTTP/1.1\r\n" H "\r\n"),
    T("absolute, host of the same length", 400, "GET http://localhosx/ HTTP/1.1\r\n" H "\r\n"),
    T("absolute, prefix", 400, "GET http://localhost.evil/ HTTP/1.1\r\n" H "\r\n"),
    T("absolute, other port", 400, "GET http://localhost:1/ HTTP/1.1\r\n" H "\r\n"),
    T("absolute, user", 400, "GET http://evil@localhost/ HTTP/1.1\r\n" H "\r\n"),
    T("absolute, other scheme", 400, "GET ftp://localhost/ HTTP/1.1\r\n" H "\r\n"),
    T("asterisk", 400, "OPTIONS * HTTP/1.1\r\n" H "\r\n"),
    T("no slash", 400, "GET x HTTP/1.1\r\n" H "\r\n"),
    T("only a query", 400, "GET ?x HTTP/1.1\r\n" H "\r\n"),
    T("two Authorization", 400, "GET / HTTP/1.1\r\n" H "Authorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n"),

    T("escape", 200, "GET /a%20b HTTP/1.1\r\n" H "\r\n"),
    T("%00", 400, "GET /a%00b HTTP/1.1\r\n" H "\r\n"),
    T("%0a", 400, "GET /a%0ab HTTP/1.1\r\n" H "\r\n"),
    T("%7f", 400, "GET /a%7fb HTTP/1.1\r\n" H "\r\n"),
    T("%2f", 400, "GET /a%2fb HTTP/1.1\r\n" H "\r\n"),
    T("%2F", 400, "GET /a%2Fb HTTP/1.1\r\n" H "\r\n"),
    T("%5c", 400, "GET /a%5cb HTTP/1.1\r\n" H "\r\n"),
    T("%252f is decoded once", 200, "GET /a%252fb HTTP/1.1\r\n" H "\r\n"),
    T("short escape", 400, "GET /a%2 HTTP/1.1\r\n" H "\r\n"),
    T("bare %", 400, "GET /% HTTP/1.1\r\n" H "\r\n"),
    T("bad escape", 400, "GET /a%gg HTTP/1.1\r\n" H "\r\n"),
    T("dot segment", 400, "GET /a/../b HTTP/1.1\r\n" H "\r\n"),
    T("dot segment at end", 400, "GET /a/.. HTTP/1.1\r\n" H "\r\n"),
    T("single dot", 400, "GET /./a HTTP/1.1\r\n" H "\r\n"),
    T("escaped dots", 400, "GET /%2e%2E/etc HTTP/1.1\r\n" H "\r\n"),
    T("half escaped dots", 400, "GET /a/.%2e HTTP/1.1\r\n" H "\r\n"),
    T("three dots", 200, "GET /.../.a/a..b/a. HTTP/1.1\r\n" H "\r\n"),
    T("fragment", 400, "GET /a#b HTTP/1.1\r\n" H "\r\n"),
    T("query", 200, "GET /a?b=c&d=%41+x HTTP/1.1\r\n" H "\r\n"),
    T("slashes and dots in query", 200, "GET /a?b=/../x%2f HTTP/1.1\r\n" H "\r\n"),
    T("%00 in query", 400, "GET /a?b=%00 HTTP/1.1\r\n" H "\r\n"),
    T("short escape in query", 400, "GET /a?b=%4 HTTP/1.1\r\n" H "\r\n"),
    T("high byte in target", 400, "GET /\xc3\xa9 HTTP/1.1\r\n" H "\r\n"),
    T("unfinished", 0, "GET / HTTP/1.1\r\n" H "\r"),
#undef T
};

static void head_verdicts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        int got = verdict_of(heads[i].raw);
        if (got != heads[i].status)
            print_error("%s: got %d, want %d\n", heads[i].what, got, heads[i].status);
        assert_int_equal(got, heads[i].status);
    }
}

/* A head with a request line of `line` bytes, `count` more headers, filled up to `size` bytes (0: no filling). */
static int verdict_sized(size_t line, unsigned count, size_t size)
{
    autobuf struct buf b = BUF_INIT;
    buf_str(&b, "GET /");
    while (line > 14 && b.size < line - 9)
        buf_char(&b, 'a');
    buf_str(&b, " HTTP/1.1\r\n" H);
    for (unsigned i = 0; i < count; i++)
        buf_printf(&b, "X%u: y\r\n", i);
    if (size) {
        buf_str(&b, "Fill: ");
        while (b.size < size - 4)
            buf_char(&b, 'f');
        buf_str(&b, "\r\n");
    }
    buf_str(&b, "\r\n");
    return verdict_of(buf_bytes(&b));
}

static void head_limits(void **state)
{
    (void)state;
    assert_int_equal(verdict_sized(HTTP_LINE_BYTES_MAX, 0, 0), 200);
    assert_int_equal(verdict_sized(HTTP_LINE_BYTES_MAX + 1, 0, 0), 414);
    assert_int_equal(verdict_sized(20000, 0, 0), 414);
    assert_int_equal(verdict_sized(0, HTTP_HEADERS_MAX - 1, 0), 200);
    assert_int_equal(verdict_sized(0, HTTP_HEADERS_MAX, 0), 431);
    assert_int_equal(verdict_sized(0, 2000, 0), 431);
    assert_int_equal(verdict_sized(0, 0, HTTP_HEAD_BYTES_MAX), 200);
    assert_int_equal(verdict_sized(0, 0, HTTP_HEAD_BYTES_MAX + 1), 431);
    assert_int_equal(verdict_sized(0, 0, 70000), 431);
    assert_int_equal(verdict_sized(HTTP_LINE_BYTES_MAX, 10, HTTP_HEAD_BYTES_MAX), 200);
}

static void head_contents(void **state)
{
    (void)state;
    struct http_head h;
    char *text;
    struct bytes raw =
        RAW("\r\nPOST /v1/a%20b%2520?x=1&y=a+b%26&z&=q&& HTTP/1.1\r\nhOsT:\tlocalhost:7682 \r\n"
            "Content-Length: 12\r\nX-Empty:\r\nX-Blank: \t \r\nX-Two: a  b \t\r\nConnection: close\r\n\r\n");
    assert_int_equal(verdict(raw, raw.size, &h, &text), 200);
    assert_string_equal(h.method, "POST");
    assert_true(bytes_equal(h.path, bytes_str("/v1/a b%20")));
    assert_int_equal(h.length, 12);
    assert_int_equal(h.framing, HTTP_LENGTH);
    assert_false(h.keep_alive);
    assert_string_equal(http_head_field(&h, "HOST"), "localhost:7682");
    assert_string_equal(http_head_field(&h, "x-empty"), "");
    assert_string_equal(http_head_field(&h, "x-blank"), "");
    assert_string_equal(http_head_field(&h, "x-two"), "a  b");
    assert_null(http_head_field(&h, "x-t"));
    autobuf struct buf query = BUF_INIT;
    assert_int_equal(http_query_decode(h.query, &query), 4);
    assert_true(bytes_equal(buf_bytes(&query), RAW("x\0"
                                                   "1\0y\0a b&\0z\0\0\0q\0")));
    free(text);

    raw = RAW("GET http://localhost?a=b HTTP/1.1\r\n" H "\r\nrest");
    assert_int_equal(verdict(raw, raw.size, &h, &text), 200);
    assert_true(bytes_equal(h.path, bytes_str("/")));
    assert_true(bytes_equal(h.query, bytes_str("a=b")));
    assert_true(h.keep_alive);
    free(text);

    raw = RAW("GET / HTTP/1.0\r\n" H "Connection: keep-alive\r\n\r\n");
    assert_int_equal(verdict(raw, raw.size, &h, &text), 200);
    assert_false(h.keep_alive);
    free(text);
}

/* Decodes a body given in pieces. Returns 0 when it is complete, 1 when more is needed, else the status. `rest` is what
 * was not used. */
static int decode(enum http_framing framing, uint64_t length, struct bytes raw, size_t piece, struct buf *out,
                  size_t *rest)
{
    struct http_head h = { .framing = framing, .length = length };
    struct http_body b;
    http_body_init(&b, &h);
    struct http_refusal why = { 0 };
    size_t at = 0;
    while (at < raw.size && !http_body_done(&b)) {
        size_t size = raw.size - at < piece ? raw.size - at : piece;
        size_t used;
        struct bytes payload;
        if (http_body_next(&b, bytes_of(raw.data + at, size), &used, &payload, &why) < 0)
            return why.status;
        assert_true(used > 0 && used <= size);
        buf_add(out, payload.data, payload.size);
        at += used;
    }
    *rest = raw.size - at;
    return http_body_done(&b) ? 0 : 1;
}

static const struct {
    const char *what;
    int result;
    size_t rest;
    const char *out;
    struct bytes raw;
} bodies[] = {
#define T(what, result, rest, out, raw)                                                                                \
    {                                                                                                                  \
        what, result, rest, out,                                                                                       \
        {                                                                                                              \
            raw, sizeof(raw) - 1                                                                                       \
        }                                                                                                              \
    }
    T("one chunk", 0, 0, "hello", "5\r\nhello\r\n0\r\n\r\n"),
    T("two chunks", 0, 0, "hello world", "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"),
    T("no chunk", 0, 0, "", "0\r\n\r\n"),
    T("next request stays", 0, 3, "a", "1\r\na\r\n0\r\n\r\nGET"),
    T("hex", 0, 0, "0123456789abcdef0123456789", "1A\r\n0123456789abcdef0123456789\r\n000\r\n\r\n"),
    T("extension", 0, 0, "a", "1;name=\"value\"\r\na\r\n0;x\r\n\r\n"),
    T("trailers", 0, 0, "a", "1\r\na\r\n0\r\nX: y\r\nContent-Length: 7\r\n\r\n"),
    T("eight digits", 0, 0, "a", "00000001\r\na\r\n00000000\r\n\r\n"),
    T("nine digits", 400, 0, "", "000000001\r\na\r\n0\r\n\r\n"),
    T("overflow", 400, 0, "", "fffffffff\r\n"),
    T("no digits", 400, 0, "", "\r\na\r\n"),
    T("sign", 400, 0, "", "+1\r\na\r\n"),
    T("minus", 400, 0, "", "-1\r\na\r\n"),
    T("0x", 400, 0, "", "0x1\r\na\r\n"),
    T("blank after size", 400, 0, "", "1 \r\na\r\n"),
    T("blank before size", 400, 0, "", " 1\r\na\r\n"),
    T("bare LF after size", 400, 0, "", "1\na\r\n"),
    T("bare CR after size", 400, 0, "", "1\ra\r\n"),
    T("bare LF in extension", 400, 0, "", "1;x\na\r\n"),
    T("NUL in extension", 400, 0, "", "1;x\0\r\na\r\n"),
    T("bare CR in extension", 400, 0, "", "1;x\rb\r\na\r\n"),
    T("bare LF after data", 400, 0, "a", "1\r\na\n0\r\n\r\n"),
    T("no CRLF after data", 400, 0, "a", "1\r\nab\r\n0\r\n\r\n"),
    T("bare LF in trailers", 400, 0, "", "0\r\nX: y\n\r\n"),
    T("NUL in trailers", 400, 0, "", "0\r\nX\0: y\r\n\r\n"),
    T("bare CR at end", 400, 0, "", "0\r\n\rx"),
    T("unfinished", 1, 0, "a", "1\r\na\r\n0\r\n\r"),
#undef T
};

static void body_verdicts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        for (size_t piece = 1; piece <= bodies[i].raw.size; piece++) {
            autobuf struct buf out = BUF_INIT;
            size_t rest = 0;
            int got = decode(HTTP_CHUNKED, 0, bodies[i].raw, piece, &out, &rest);
            if (got != bodies[i].result)
                print_error("%s in pieces of %zu: got %d\n", bodies[i].what, piece, got);
            assert_int_equal(got, bodies[i].result);
            if (got <= 1) {
                assert_true(bytes_equal(buf_bytes(&out), bytes_str(bodies[i].out)));
                assert_int_equal(rest, bodies[i].rest);
            }
        }
    }
    autobuf struct buf out = BUF_INIT;
    size_t rest = 0;
    assert_int_equal(decode(HTTP_LENGTH, 5, RAW("helloGET"), 3, &out, &rest), 0);
    assert_true(bytes_equal(buf_bytes(&out), bytes_str("hello")));
    assert_int_equal(rest, 3);
    assert_int_equal(decode(HTTP_NO_BODY, 0, RAW("GET"), 3, &out, &rest), 0);
    assert_int_equal(rest, 3);
}

static int decode_made(const struct buf *raw, size_t piece)
{
    autobuf struct buf out = BUF_INIT;
    size_t rest = 0;
    return decode(HTTP_CHUNKED, 0, buf_bytes(raw), piece, &out, &rest);
}

static void body_limits(void **state)
{
    (void)state;
    autobuf struct buf b = BUF_INIT;
    for (size_t extension = 250; extension < 260; extension++) {
        buf_clear(&b);
        buf_str(&b, "1;");
        for (size_t i = 0; i < extension; i++)
            buf_char(&b, 'x');
        buf_str(&b, "\r\na\r\n0\r\n\r\n");
        assert_int_equal(decode_made(&b, 100), extension <= HTTP_CHUNK_EXTENSION_BYTES_MAX ? 0 : 400);
    }
    /* Many small chunks are fine; many with long extensions are framing sold as data. */
    buf_clear(&b);
    for (size_t i = 0; i < 100000; i++)
        buf_str(&b, "1\r\na\r\n");
    buf_str(&b, "0\r\n\r\n");
    assert_int_equal(decode_made(&b, 4096), 0);
    buf_clear(&b);
    for (size_t i = 0; i < 1000; i++)
        buf_str(&b, "1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\na\r\n");
    buf_str(&b, "0\r\n\r\n");
    assert_int_equal(decode_made(&b, 4096), 400);
    buf_clear(&b);
    buf_str(&b, "0\r\n");
    for (size_t i = 0; i < 1000; i++)
        buf_str(&b, "Trailer-Number: something long\r\n");
    buf_str(&b, "\r\n");
    assert_int_equal(decode_made(&b, 4096), 400);
}

static void host_names(void **state)
{
    (void)state;
    struct bytes name;
    assert_true(http_host_name("localhost:80", &name) && bytes_equal(name, bytes_str("localhost")));
    assert_true(http_host_name("[::1]:80", &name) && bytes_equal(name, bytes_str("[::1]")));
    assert_true(http_host_name("a.b", &name) && bytes_equal(name, bytes_str("a.b")));
    assert_true(http_host_name("a:", &name) && bytes_equal(name, bytes_str("a")));
    assert_false(http_host_name("", &name));
    assert_false(http_host_name(":80", &name));
    assert_false(http_host_name("[]", &name));
    assert_false(http_host_name("a b", &name));
    assert_false(http_host_name("::1", &name));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(head_verdicts), cmocka_unit_test(head_limits), cmocka_unit_test(head_contents),
        cmocka_unit_test(body_verdicts), cmocka_unit_test(body_limits), cmocka_unit_test(host_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
