/* http.h: HTTP/1.1 server over libevent bufferevents with http-parser inside; policy-free: who may do what is decided
 * by the `on_head` callback before any body byte is read.
 *
 * Limits and refusals of guarantees 5.2: header block 16 KiB, 64 headers, request line 8 KiB, header deadline 10 s,
 * body rate, body limit per request, idle 60 s, 1,000 requests per connection, connections in all and per source,
 * pipelining one at a time; CL+TE, odd TE, several CL, obs-fold, bare CR/LF, NUL, blank before colon, missing or double
 * Host, absolute-form with another host are refused. */
#ifndef ROTA_IO_HTTP_H
#define ROTA_IO_HTTP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct loop;
struct http_server;
struct http_request; /* one exchange; lives until it is answered or its connection is gone */

/* Callbacks come from the loop only, never from inside one of the functions below. After an answer is complete,
 * leave the exchange alone until its on_gone. A client that closes its sending side is taken as gone.
 *
 * header_ms is also the window over which body_min_bytes_per_s is measured, and idle_ms the one over which a peer with
 * a backlog must take that much of an answer. Deadlines are looked at every header_ms / 8, at most once a second. */
struct http_limits {
    uint32_t connections, connections_per_source, requests_per_connection;
    int64_t header_ms, idle_ms, body_min_bytes_per_s;
    uint64_t body_bytes; /* default for http_body_limit */
};
void http_limits_default(struct http_limits *l);

struct http_events {
    void *arg;
    /* The head is there. Must either answer (then the body is not read) or return; then the body follows. May call
     * http_body_limit. */
    void (*on_head)(void *arg, struct http_request *r);
    void (*on_body)(void *arg, struct http_request *r, struct bytes piece);
    void (*on_end)(void *arg, struct http_request *r); /* the whole body is there; answer now or later */
    /* The exchange is over, answered or broken off: drop every pointer to r. Always called exactly once per on_head. */
    void (*on_gone)(void *arg, struct http_request *r);
};

struct http_server_stats {
    uint64_t requests, refused, connections, accepted, sse_clients, sse_gaps;
};

/* Binds to address:port (port 0: any). Loopback addresses only unless `anywhere`. */
struct http_server *http_server_new(struct loop *loop, const char *address, uint16_t port, bool anywhere,
                                    const struct http_limits *limits, const struct http_events *events,
                                    struct err *err);
void http_server_free(struct http_server *s); /* open exchanges get their on_gone; not from inside a callback */
uint16_t http_server_port(const struct http_server *s);
void http_server_allow_host(struct http_server *s, const char *host); /* beside localhost, 127.0.0.1, [::1]; else 421 */
void http_server_stats(const struct http_server *s, struct http_server_stats *out);

const char *http_method(const struct http_request *r); /* "GET" */
struct bytes http_path(const struct http_request *r);  /* percent-decoded once, no dot segments, starts with / */
/* Value of a query parameter, decoded, as a C string; NULL: absent. Borrowed for the request's life. */
const char *http_query(struct http_request *r, const char *name);
/* Visits every parameter, to refuse unknown ones. */
void http_query_each(struct http_request *r, void (*each)(void *arg, const char *name, const char *value), void *arg);
const char *http_header(const struct http_request *r, const char *name); /* NULL: absent; case does not matter */
const char *http_source(const struct http_request *r);                   /* peer address */
void http_set_context(struct http_request *r, void *context);
void *http_context(const struct http_request *r);
void http_body_limit(struct http_request *r, uint64_t bytes); /* in on_head; more is answered 413 */
void http_pause(struct http_request *r, bool paused); /* stop or go on reading the body (and on_end): back-pressure */

void http_add_header(struct http_request *r, const char *name, const char *value); /* before the answer */
/* The whole answer. Copies the body. Security headers (nosniff, no-referrer, CSP default-src 'none', CORP same-origin,
 * Cache-Control no-store) are added where http_add_header has not set that header. A body that is not read yet is never
 * delivered. */
void http_reply(struct http_request *r, int status, const char *content_type, struct bytes body);
/* application/problem+json: type, title, status, detail, field, remedy. */
void http_reply_error(struct http_request *r, const struct err *err);
/* A chunked answer of unknown length. http_write copies. http_unsent: bytes not yet taken by the peer's kernel. */
void http_reply_start(struct http_request *r, int status, const char *content_type);
void http_write(struct http_request *r, struct bytes piece);
void http_reply_end(struct http_request *r);
size_t http_unsent(const struct http_request *r);
/* Called (from the loop) when http_unsent has fallen below `low` bytes, again after each time it has risen to it; once
 * at first if it is below already. NULL: no more. */
void http_on_drained(struct http_request *r, size_t low, void (*cb)(void *arg, struct http_request *r), void *arg);
/* Counts in http_server_stats.sse_gaps: a slow event stream was told that it missed something. */
void http_count_gap(struct http_request *r);

#endif
