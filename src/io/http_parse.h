/* http_parse.h: the bytes of an HTTP/1.1 request, without sockets: gate, head, body framing.
 *
 * A request passes three stages. The gate looks at raw bytes and lets a head pass only when no two readers of it could
 * disagree (line ends, folded lines, blanks, control bytes, sizes). http-parser then reads the grammar, and what the
 * message means (framing, host, target) is checked on top of it. The body's framing is taken apart by http_body_next.
 * Keep http-parser behind this header: its successor shall be able to take its place. */
#ifndef ROTA_IO_HTTP_PARSE_H
#define ROTA_IO_HTTP_PARSE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

enum {
    HTTP_HEAD_BYTES_MAX = 16 * 1024, /* request line, headers and the empty line */
    HTTP_LINE_BYTES_MAX = 8 * 1024,  /* request line */
    HTTP_HEADERS_MAX = 64,
    HTTP_CHUNK_EXTENSION_BYTES_MAX = 256,  /* of one chunk */
    HTTP_CHUNK_OVERHEAD_BYTES_MAX = 16384, /* framing beyond what chunks of a decent size need, in one body */
    HTTP_TRAILER_BYTES_MAX = 16 * 1024
};

/* Why a request is not served. */
struct http_refusal {
    int status;
    const char *text; /* a constant sentence */
};

/* How far the search for the end of a head has come. All zero before each head. */
struct http_gate {
    uint32_t start;   /* where the head begins: after one empty line at most */
    uint32_t line;    /* where the line begins that is being read */
    uint32_t at;      /* bytes before it are looked at */
    uint32_t headers; /* header lines so far */
    bool in_headers;
};

/* data[0..size) is all that came since the head began; it only grows between calls. Returns the length of the head with
 * its empty line, 0 when more is needed, -1 when it is refused. */
int http_gate(struct http_gate *g, const char *data, size_t size, struct http_refusal *why);

enum http_framing { HTTP_NO_BODY, HTTP_LENGTH, HTTP_CHUNKED };

struct http_field {
    uint16_t name, value; /* places in text; both are C strings */
};

/* A head taken apart. Everything points into `text`, which stays the caller's. */
struct http_head {
    char *text;
    const char *method; /* a constant */
    const char *host;   /* value of the Host header, syntax checked */
    struct bytes path;  /* decoded, without dot segments */
    struct bytes query; /* as it came, escapes checked */
    uint64_t length;    /* of the body, when framing is HTTP_LENGTH */
    enum http_framing framing;
    bool http_1_0;
    bool keep_alive;
    bool expects_continue;
    uint8_t fields_count;
    struct http_field fields[HTTP_HEADERS_MAX];
};

/* text[0..size) is a head that the gate has let pass, from its `start`; it is changed in place. Returns 0, or -1 with
 * *why. */
int http_head_parse(struct http_head *h, char *text, size_t size, struct http_refusal *why);
const char *http_head_field(const struct http_head *h, const char *name); /* NULL: absent */
/* The host of "host:port" or "[address]:port", without port. False when the syntax is wrong. */
bool http_host_name(const char *host, struct bytes *name);
/* Appends "name\0value\0" for each parameter of a query that a head was parsed with. Returns how many. */
size_t http_query_decode(struct bytes query, struct buf *out);

/* Where in the body's framing the input stands. */
struct http_body {
    enum http_framing framing;
    uint8_t state;
    uint8_t digits;
    uint32_t line;     /* bytes of the extension or of the trailers */
    uint32_t overhead; /* bytes of framing that were not paid for by data */
    uint64_t left;     /* of the body, or of the chunk */
};

void http_body_init(struct http_body *b, const struct http_head *h);
bool http_body_done(const struct http_body *b);
/* Looks at `in` and sets how many bytes of it are done with, and the payload among them (perhaps empty). Call again
 * with the rest until in is used up or the body is done. Returns 0, or -1 with *why. */
int http_body_next(struct http_body *b, struct bytes in, size_t *used, struct bytes *payload, struct http_refusal *why);

#endif
