/* The whole server on loopback sockets, with raw clients in the same thread. */
#include "io/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "io/clock.h"
#include "io/http_parse.h"
#include "io/loop.h"

#define H "Host: localhost\r\n"
#define CLIENTS_MAX 64

/* --- the application: what it does depends on the path --- */

static struct app {
    struct loop *loop;
    struct http_server *server;
    struct http_limits limits;
    unsigned heads, ends, gones;
    uint64_t body_bytes;
    size_t biggest_piece;
    uint64_t body_sum;         /* of all bytes: order does not matter, loss and doubling do */
    struct http_request *held; /* the last /hold, /sse or /paused request, until it is gone */
    bool pump_on;              /* /pump: filled by on_drained */
    uint64_t pumped, pump_goal;
    size_t unsent_max;
    unsigned drains;
} app;

enum { PUMP_HIGH = 256 * 1024, PUMP_LOW = 64 * 1024 };

static bool path_is(const struct http_request *r, const char *path)
{
    return bytes_equal(http_path(r), bytes_str(path));
}

static void pump(void *arg, struct http_request *r)
{
    (void)arg;
    static char piece[16384];
    memset(piece, 'p', sizeof piece);
    app.drains++;
    assert_true(http_unsent(r) < PUMP_LOW);
    while (app.pumped < app.pump_goal && http_unsent(r) < PUMP_HIGH) {
        http_write(r, bytes_of(piece, sizeof piece));
        app.pumped += sizeof piece;
        if (http_unsent(r) > app.unsent_max)
            app.unsent_max = http_unsent(r);
    }
    if (app.pumped >= app.pump_goal) {
        http_on_drained(r, 0, NULL, NULL);
        http_reply_end(r);
    }
}

struct exchange {
    struct buf body;
    bool gone;
};

static void on_head(void *arg, struct http_request *r)
{
    assert_ptr_equal(arg, &app);
    app.heads++;
    http_set_context(r, mem_zero(1, sizeof(struct exchange)));
    if (path_is(r, "/early")) {
        struct err err;
        err_set(&err, ERR_UNAUTH, "no token");
        http_reply_error(r, &err);
    } else if (path_is(r, "/early-stream")) {
        http_reply_start(r, 200, "text/plain");
        http_write(r, bytes_str("early"));
        http_reply_end(r);
    } else if (path_is(r, "/count")) {
        http_body_limit(r, UINT64_C(1) << 40);
    } else if (path_is(r, "/small")) {
        http_body_limit(r, 10);
    } else if (path_is(r, "/paused")) {
        http_pause(r, true);
        app.held = r;
    } else if (path_is(r, "/early-hold")) {
        http_reply_start(r, 200, "text/event-stream");
        app.held = r;
    }
}

static void on_body(void *arg, struct http_request *r, struct bytes piece)
{
    (void)arg;
    struct exchange *x = http_context(r);
    assert_true(piece.size > 0);
    app.body_bytes += piece.size;
    if (piece.size > app.biggest_piece)
        app.biggest_piece = piece.size;
    if (path_is(r, "/count")) {
        for (size_t i = 0; i < piece.size; i++)
            app.body_sum += (unsigned char)piece.data[i];
        return;
    }
    buf_add(&x->body, piece.data, piece.size);
    if (path_is(r, "/refuse-in-body"))
        http_reply(r, 403, "text/plain", bytes_str("enough"));
    if (path_is(r, "/pause-in-body")) {
        http_pause(r, true);
        app.held = r;
    }
}

static void add_param(void *arg, const char *name, const char *value)
{
    buf_printf(arg, "[%s=%s]", name, value);
}

static void on_end(void *arg, struct http_request *r)
{
    (void)arg;
    struct exchange *x = http_context(r);
    app.ends++;
    if (path_is(r, "/hold")) {
        app.held = r;
    } else if (path_is(r, "/sse")) {
        http_reply_start(r, 200, "text/event-stream");
        http_write(r, bytes_str(": hello\n\n"));
        app.held = r;
    } else if (path_is(r, "/pump")) {
        http_reply_start(r, 200, "text/plain");
        http_on_drained(r, PUMP_LOW, pump, NULL);
        app.held = r;
    } else if (path_is(r, "/big")) {
        autobuf struct buf big = BUF_INIT;
        for (size_t i = 0; i < 40000; i++)
            buf_str(&big, "0123456789abcdefghijklmno");
        http_reply(r, 200, "text/plain", buf_bytes(&big));
    } else if (path_is(r, "/stream")) {
        http_reply_start(r, 200, "text/plain");
        http_write(r, bytes_str("one "));
        http_write(r, bytes_str(""));
        http_write(r, bytes_str("two"));
        http_reply_end(r);
    } else if (path_is(r, "/nothing")) {
        http_reply(r, 204, NULL, bytes_of("", 0));
    } else if (path_is(r, "/headers")) {
        http_add_header(r, "X-Made", "a\r\nX-Injected: b\n\x7f");
        http_add_header(r, "Content-Security-Policy", "default-src 'self'");
        http_reply(r, 200, "text/html", bytes_str("x"));
    } else if (path_is(r, "/error")) {
        struct err err;
        err_field(&err, ERR_INVALID, "jobs[3].\"mem\"", "write 4G\nor 512M", "\"4Q\xff\" is not a size \\");
        http_reply_error(r, &err);
    } else if (path_is(r, "/error-cut")) {
        struct err err;
        char text[400] = "";
        for (size_t i = 0; i < 390; i += 3)
            memcpy(text + i, i % 2 ? "\xe2\x82\xac" : "a\xc3\xa9", 4);
        err_set(&err, ERR_NOT_FOUND, "xy%s", text);
        http_reply_error(r, &err);
    } else if (path_is(r, "/query")) {
        autobuf struct buf out = BUF_INIT;
        http_query_each(r, add_param, &out);
        const char *b = http_query(r, "b"), *none = http_query(r, "none");
        buf_printf(&out, " b=%s none=%s %s %s from %s", b ? b : "NULL", none ? none : "NULL", http_method(r),
                   http_header(r, "x-mine"), http_source(r));
        http_reply(r, 200, "text/plain", buf_bytes(&out));
    } else if (x->body.size) {
        http_reply(r, 200, "text/plain", buf_bytes(&x->body));
    } else {
        http_reply(r, 200, "text/plain", bytes_str("hello"));
    }
}

static void on_gone(void *arg, struct http_request *r)
{
    (void)arg;
    app.gones++;
    struct exchange *x = http_context(r);
    assert_non_null(x);
    assert_false(x->gone); /* a second call would find freed memory or this */
    x->gone = true;
    buf_fini(&x->body);
    free(x);
    http_set_context(r, NULL);
    if (app.held == r)
        app.held = NULL;
}

static int start(void **state)
{
    (void)state;
    struct http_limits limits = app.limits;
    memset(&app, 0, sizeof app);
    app.limits = limits;
    app.loop = loop_new();
    struct http_events events = { &app, on_head, on_body, on_end, on_gone };
    struct err err;
    app.server = http_server_new(app.loop, "127.0.0.1", 0, false, &limits, &events, &err);
    assert_non_null(app.server);
    return 0;
}

static int setup(void **state)
{
    http_limits_default(&app.limits);
    return start(state);
}

/* Deadlines short enough to wait for. */
static int setup_short(void **state)
{
    http_limits_default(&app.limits);
    app.limits.header_ms = 60;
    app.limits.idle_ms = 150;
    return start(state);
}

static int teardown(void **state)
{
    (void)state;
    http_server_free(app.server);
    assert_int_equal(app.heads, app.gones);
    loop_free(app.loop);
    return 0;
}

/* --- raw clients --- */

struct client {
    int fd;
    struct buf in;
    bool closed; /* the server has closed */
    bool reset;
};

static struct client client_new(void)
{
    struct client c = { .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
    assert_true(c.fd >= 0);
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(http_server_port(app.server)) };
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(c.fd, (struct sockaddr *)&to, sizeof to), 0);
    assert_int_equal(fcntl(c.fd, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)), 0);
    return c;
}

static void client_free(struct client *c)
{
    close(c->fd);
    buf_fini(&c->in);
}

static void turn(void)
{
    loop_turn(app.loop, 1);
}

static void turns(unsigned count)
{
    while (count--)
        turn();
}

static void client_send(struct client *c, struct bytes data)
{
    while (data.size) {
        ssize_t n = send(c->fd, data.data, data.size, MSG_NOSIGNAL);
        if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) {
            c->reset = true;
            return;
        }
        if (n > 0)
            data = bytes_of(data.data + n, data.size - (size_t)n);
        turn();
    }
}

static void client_read(struct client *c)
{
    char piece[65536];
    ssize_t n;
    while ((n = recv(c->fd, piece, sizeof piece, 0)) > 0)
        buf_add(&c->in, piece, (size_t)n);
    if (n == 0)
        c->closed = true;
    else if (errno != EAGAIN)
        c->closed = c->reset = true;
}

static bool has(const struct client *c, const char *text)
{
    return c->in.size && memmem(c->in.data, c->in.size, text, strlen(text));
}

static unsigned count_of(const struct client *c, const char *text)
{
    unsigned count = 0;
    for (const char *at = c->in.data; at && (at = strstr(at, text)); at++)
        count++;
    return count;
}

/* Waits until the text has come, or the server has closed; a server that does nothing runs into the limit. */
static void client_wait(struct client *c, const char *text)
{
    for (int i = 0; i < 20000 && !c->closed && !(text && has(c, text)); i++) {
        turn();
        client_read(c);
    }
    if (text && !has(c, text))
        fail_msg("\"%s\" has not come, but: %.300s", text, c->in.data ? c->in.data : "nothing");
}

static void client_wait_closed(struct client *c)
{
    for (int i = 0; i < 20000 && !c->closed; i++) {
        turn();
        client_read(c);
    }
    assert_true(c->closed);
}

static int status_of(const struct client *c)
{
    int status = 0;
    if (c->in.size > 12)
        sscanf(c->in.data, "HTTP/1.1 %d", &status);
    return status;
}

static void wait_gones(unsigned count)
{
    for (int i = 0; i < 20000 && app.gones < count; i++)
        turn();
    assert_int_equal(app.gones, count);
}

static void wait_connections(uint64_t count)
{
    struct http_server_stats stats;
    for (int i = 0; i < 20000; i++) {
        http_server_stats(app.server, &stats);
        if (stats.connections == count)
            return;
        turn();
    }
    fail_msg("%llu connections", (unsigned long long)stats.connections);
}

static size_t rss_kib(void)
{
    FILE *f = fopen("/proc/self/status", "re");
    assert_non_null(f);
    char line[256];
    size_t kib = 0;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "VmRSS: %zu", &kib) == 1)
            break;
    fclose(f);
    return kib;
}

static void assert_rss_below(size_t before, size_t more_kib)
{
#if defined(__SANITIZE_ADDRESS__)
    (void)before, (void)more_kib; /* freed memory is kept back there */
#else
    size_t now = rss_kib();
    if (now > before + more_kib)
        fail_msg("RSS has grown by %zu KiB", now - before);
#endif
}

#define SEND(c, text) client_send(c, bytes_of(text, sizeof(text) - 1))

/* One request on a connection of its own; the server must answer with this status and close. */
static void refused(const char *what, struct bytes raw, int status)
{
    struct client c = client_new();
    client_send(&c, raw);
    client_wait_closed(&c);
    if (status_of(&c) != status || c.reset)
        print_error("%s: %d%s\n", what, status_of(&c), c.reset ? ", reset" : "");
    assert_int_equal(status_of(&c), status);
    assert_false(c.reset);
    assert_true(has(&c, "\r\nConnection: close\r\n"));
    assert_true(has(&c, "\r\nX-Content-Type-Options: nosniff\r\n"));
    assert_true(has(&c, "\r\nContent-Type: application/problem+json\r\n"));
    client_free(&c);
}

/* --- tests --- */

static void plain_get(void **state)
{
    (void)state;
    struct client c = client_new();
    SEND(&c, "GET / HTTP/1.1\r\n" H "\r\n");
    client_wait(&c, "hello");
    assert_int_equal(status_of(&c), 200);
    assert_true(has(&c, "\r\nDate: "));
    assert_true(has(&c, " GMT\r\n"));
    assert_true(has(&c, "\r\nContent-Length: 5\r\n"));
    assert_true(has(&c, "\r\nX-Content-Type-Options: nosniff\r\n"));
    assert_true(has(&c, "\r\nReferrer-Policy: no-referrer\r\n"));
    assert_true(has(&c, "\r\nContent-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n"));
    assert_true(has(&c, "\r\nCross-Origin-Resource-Policy: same-origin\r\n"));
    assert_false(has(&c, "Connection: close"));
    assert_int_equal(app.gones, 1);
    client_free(&c);
    wait_connections(0);
}

static void keep_alive_and_close(void **state)
{
    (void)state;
    struct client c = client_new();
    for (unsigned i = 1; i <= 5; i++) {
        buf_clear(&c.in);
        SEND(&c, "GET / HTTP/1.1\r\n" H "\r\n");
        client_wait(&c, "hello");
        assert_int_equal(app.gones, i);
    }
    SEND(&c, "GET / HTTP/1.1\r\n" H "Connection: close\r\n\r\n");
    client_wait_closed(&c);
    assert_true(has(&c, "\r\nConnection: close\r\n"));
    client_free(&c);

    c = client_new();
    SEND(&c, "GET / HTTP/1.0\r\n" H "Connection: keep-alive\r\n\r\n");
    client_wait_closed(&c);
    assert_int_equal(status_of(&c), 200);
    assert_true(has(&c, "\r\nConnection: close\r\n"));
    client_free(&c);

    c = client_new(); /* a stream to HTTP/1.0 is not chunked; its end is the connection's */
    SEND(&c, "GET /stream HTTP/1.0\r\n" H "\r\n");
    client_wait_closed(&c);
    assert_true(has(&c, "\r\n\r\none two"));
    assert_false(has(&c, "chunked"));
    client_free(&c);
}

static void answers(void **state)
{
    (void)state;
    struct client c = client_new();
    SEND(&c, "HEAD / HTTP/1.1\r\n" H "\r\nHEAD /stream HTTP/1.1\r\n" H "\r\nGET /nothing HTTP/1.1\r\n" H "\r\n"
             "GET /stream HTTP/1.1\r\n" H "\r\n");
    client_wait(&c, "\r\n0\r\n\r\n");
    assert_int_equal(count_of(&c, "HTTP/1.1 "), 4);
    assert_true(has(&c, "HTTP/1.1 204 No Content\r\n"));
    assert_false(has(&c, "hello"));
    assert_int_equal(count_of(&c, "Content-Length"), 1); /* of the first HEAD: 204 and streams have none */
    assert_true(has(&c, "Content-Length: 5\r\n"));
    assert_true(has(&c, "\r\n\r\n4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n"));
    assert_int_equal(count_of(&c, "one \r\n"), 1);

    buf_clear(&c.in);
    SEND(&c, "GET /headers HTTP/1.1\r\n" H "\r\n");
    client_wait(&c, "\r\n\r\nx");
    assert_true(has(&c, "\r\nX-Made: a  X-Injected: b  \r\n"));
    assert_true(has(&c, "\r\nContent-Security-Policy: default-src 'self'\r\n"));
    assert_int_equal(count_of(&c, "Content-Security-Policy"), 1);

    buf_clear(&c.in);
    SEND(&c, "GET /error HTTP/1.1\r\n" H "\r\n");
    client_wait(&c, "}\n");
    assert_int_equal(status_of(&c), 400);
    assert_true(has(&c, "{\"type\":\"urn:rota:error:invalid-request\",\"title\":\"invalid request\",\"status\":400,"
                        "\"detail\":\"\\\"4Q?\\\" is not a size \\\\\",\"field\":\"jobs[3].\\\"mem\\\"\","
                        "\"remedy\":\"write 4G\\u000aor 512M\"}\n"));

    buf_clear(&c.in);
    SEND(&c, "GET /error-cut HTTP/1.1\r\n" H "\r\n");
    client_wait(&c, "}\n");
    assert_int_equal(status_of(&c), 404);
    assert_true(has(&c, "a\xc3\xa9\xe2\x82\xac"
                        "a")); /* whole characters stay, a cut one does not */
    assert_true(has(&c, "?\"}\n"));

    buf_clear(&c.in);
    SEND(&c, "PUT /query?a=1&b=x%20y+z&b=2&c HTTP/1.1\r\n" H "X-MINE:  my own \r\n\r\n");
    client_wait(&c, "127.0.0.1");
    assert_true(has(&c, "[a=1][b=x y z][b=2][c=] b=x y z none=NULL PUT my own from 127.0.0.1"));
    client_free(&c);
}

static void posts(void **state)
{
    (void)state;
    struct client c = client_new();
    SEND(&c, "POST /echo HTTP/1.1\r\n" H "Content-Length: 11\r\n\r\nlength body");
    client_wait(&c, "length body");
    SEND(&c, "POST /echo HTTP/1.1\r\n" H
             "Transfer-Encoding: chunked\r\n\r\n7\r\nchunked\r\n5;x=y\r\n body\r\n0\r\nTrailer: z\r\n\r\n");
    client_wait(&c, "chunked body");
    SEND(&c, "POST / HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n");
    client_wait(&c, "hello");
    assert_int_equal(app.gones, 3);
    client_free(&c);
}

static void continue_100(void **state)
{
    (void)state;
    struct client c = client_new();
    SEND(&c, "POST /echo HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    client_wait(&c, "HTTP/1.1 100 Continue\r\n\r\n");
    assert_int_equal(app.ends, 0);
    SEND(&c, "body");
    client_wait(&c, "\r\n\r\nbody");
    buf_clear(&c.in);
    /* A client that does not wait gets no 100. */
    SEND(&c, "POST /echo HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 4\r\n\r\nmore");
    client_wait(&c, "more");
    assert_false(has(&c, "100 Continue"));
    buf_clear(&c.in);
    /* A refusal comes instead of 100; whether the body still comes is unknown then, so the connection ends. */
    SEND(&c, "POST /early HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    client_wait_closed(&c);
    assert_int_equal(status_of(&c), 401);
    assert_true(has(&c, "Connection: close"));
    assert_false(has(&c, "100 Continue"));
    client_free(&c);
}

static void split_everywhere(void **state)
{
    (void)state;
    static const char *const raws[] = {
        "POST /echo?x=y HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nfirst",
        "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3;e\r\nfir\r\n2\r\nst\r\n0\r\nT: u\r\n\r\n",
    };
    for (size_t k = 0; k < 2; k++) {
        struct client c = client_new();
        for (size_t cut = 1; cut < strlen(raws[k]); cut++) {
            buf_clear(&c.in);
            client_send(&c, bytes_of(raws[k], cut));
            turns(2);
            assert_int_equal(app.ends + 1, app.heads + (app.heads == app.ends));
            client_send(&c, bytes_str(raws[k] + cut));
            client_wait(&c, "\r\n\r\nfirst");
            assert_int_equal(app.heads, app.gones);
        }
        client_free(&c);
        c = client_new(); /* byte by byte */
        for (size_t i = 0; i < strlen(raws[k]); i++)
            client_send(&c, bytes_of(raws[k] + i, 1));
        client_wait(&c, "\r\n\r\nfirst");
        client_free(&c);
    }
}

static void pipelining(void **state)
{
    (void)state;
    struct client c = client_new();
    autobuf struct buf raw = BUF_INIT;
    for (int i = 0; i < 200; i++)
        buf_printf(&raw, "POST /echo HTTP/1.1\r\n" H "Content-Length: 9\r\n\r\nnumber%03d", i);
    client_send(&c, buf_bytes(&raw));
    client_wait(&c, "number199");
    const char *at = c.in.data;
    for (int i = 0; i < 200; i++) { /* in order, each once */
        char text[16];
        snprintf(text, sizeof text, "number%03d", i);
        at = strstr(at, text);
        assert_non_null(at);
    }
    assert_int_equal(count_of(&c, "number"), 200);
    assert_int_equal(app.gones, 200);
    client_free(&c);

    /* The second is not begun before the first is answered. */
    c = client_new();
    app.heads = app.gones = app.ends = 0;
    SEND(&c, "GET /hold HTTP/1.1\r\n" H "\r\nGET /x HTTP/1.1\r\n" H "\r\n");
    turns(5);
    assert_int_equal(app.heads, 1);
    http_reply(app.held, 200, "text/plain", bytes_str("first"));
    assert_int_equal(app.gones, 0); /* never from inside the call */
    client_wait(&c, "hello");
    assert_true(strstr(c.in.data, "first") < strstr(c.in.data, "hello"));
    client_free(&c);
}

/* A client that has said all it wants and closed its side still gets the answers that need no waiting. */
static void half_closed(void **state)
{
    (void)state;
    struct client c = client_new();
    for (int i = 0; i < 40; i++) /* more than one turn handles */
        assert_int_equal(send(c.fd, "GET / HTTP/1.1\r\n" H "\r\n", 35, MSG_NOSIGNAL), 35);
    shutdown(c.fd, SHUT_WR);
    client_wait_closed(&c);
    assert_int_equal(count_of(&c, "hello"), 40);
    assert_false(c.reset);
    client_free(&c);
    /* One that would have to wait is broken off, and what comes behind it is not begun. */
    app.heads = app.gones = 0;
    c = client_new();
    assert_int_equal(send(c.fd, "GET /hold HTTP/1.1\r\n" H "\r\nGET / HTTP/1.1\r\n" H "\r\n", 74, MSG_NOSIGNAL), 74);
    shutdown(c.fd, SHUT_WR);
    client_wait_closed(&c);
    assert_int_equal(app.heads, 1);
    assert_int_equal(app.gones, 1);
    assert_int_equal(c.in.size, 0);
    client_free(&c);
}

/* However many requests one connection has sent, another gets its turn. */
static void fairness(void **state)
{
    (void)state;
    app.limits.requests_per_connection = 100000;
    teardown(state);
    start(state);
    struct client greedy = client_new(), modest = client_new();
    turns(3);
    autobuf struct buf raw = BUF_INIT;
    for (int i = 0; i < 400; i++)
        buf_str(&raw, "GET / HTTP/1.1\r\n" H "\r\n");
    assert_int_equal(send(greedy.fd, raw.data, raw.size, MSG_NOSIGNAL), raw.size);
    SEND(&modest, "GET / HTTP/1.1\r\n" H "\r\n");
    client_wait(&modest, "hello");
    assert_true(app.heads < 200);
    while (count_of(&greedy, "hello") < 400) {
        turn();
        client_read(&greedy);
        assert_false(greedy.closed);
    }
    client_free(&greedy);
    client_free(&modest);
}

/* What comes behind a request that is not answered yet is read ahead up to a bound, then left to the sender. */
static void flood_behind_a_waiting_request(void **state)
{
    (void)state;
    enum { MANY = 64 * 1024 * 1024 };
    static char piece[65536];
    memset(piece, 'x', sizeof piece);
    struct client c = client_new();
    SEND(&c, "GET /hold HTTP/1.1\r\n" H "\r\n");
    turns(3);
    size_t before = rss_kib(), sent = 0;
    for (int stuck = 0; stuck < 100 && sent < MANY; turn()) {
        ssize_t n = send(c.fd, piece, sizeof piece, MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        stuck = n > 0 ? 0 : stuck + 1;
    }
    assert_true(sent < MANY); /* the kernel's buffers are full, ours are not */
    assert_rss_below(before, 1024);
    http_reply(app.held, 200, "text/plain", bytes_str("at last"));
    client_wait_closed(&c); /* what came behind was no request */
    assert_true(has(&c, "at last"));
    client_free(&c);
}

/* A client that sends requests and takes no answers is stopped, not served from memory without end. */
static void pipelining_without_reading(void **state)
{
    (void)state;
    app.limits.requests_per_connection = 100000;
    teardown(state);
    start(state);
    struct client c = client_new();
    int small = 4096;
    setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    size_t sent = 0;
    for (int i = 0; i < 3000; i++) {
        ssize_t n = send(c.fd, "GET /big HTTP/1.1\r\n" H "\r\n", 38, MSG_NOSIGNAL);
        sent += n > 0;
        turn();
    }
    assert_true(app.heads < 20); /* a megabyte each */
    client_free(&c);
    wait_connections(0);
}

static void refusals(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        int status;
        struct bytes raw;
    } cases[] = {
#define T(what, status, raw)                                                                                           \
    {                                                                                                                  \
        what, status,                                                                                                  \
        {                                                                                                              \
            raw, sizeof(raw) - 1                                                                                       \
        }                                                                                                              \
    }
        T("CL and TE", 400,
          "POST / HTTP/1.1\r\n" H "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x"),
        T("odd TE", 501, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        T("two CL", 400, "POST / HTTP/1.1\r\n" H "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd"),
        T("CL with sign", 400, "POST / HTTP/1.1\r\n" H "Content-Length: +4\r\n\r\nabcd"),
        T("obs-fold", 400, "GET / HTTP/1.1\r\n" H "X: a\r\n b\r\n\r\n"),
        T("bare LF", 400, "GET / HTTP/1.1\n" H "\n"),
        T("bare CR", 400, "GET / HTTP/1.1\r\n" H "X: a\rb\r\n\r\n"),
        T("NUL", 400, "GET / HTTP/1.1\r\n" H "X: a\0b\r\n\r\n"),
        T("blank before colon", 400, "GET / HTTP/1.1\r\n" H "X : a\r\n\r\n"),
        T("HTTP/0.9", 400, "GET /\r\n\r\n"),
        T("HTTP/2", 505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        T("no Host", 400, "GET / HTTP/1.1\r\n\r\n"),
        T("two Hosts", 400, "GET / HTTP/1.1\r\n" H H "\r\n"),
        T("foreign Host", 421, "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
        T("foreign Host with port", 421, "GET / HTTP/1.1\r\nHost: evil.example:80\r\n\r\n"),
        T("Host with final dot", 421, "GET / HTTP/1.1\r\nHost: localhost.\r\n\r\n"),
        T("Host as prefix", 421, "GET / HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n"),
        T("absolute-form, other host", 400, "GET http://evil.example/ HTTP/1.1\r\n" H "\r\n"),
        T("%00", 400, "GET /%00 HTTP/1.1\r\n" H "\r\n"),
        T("encoded slash", 400, "GET /a%2fb HTTP/1.1\r\n" H "\r\n"),
        T("dot segments", 400, "GET /a/../b HTTP/1.1\r\n" H "\r\n"),
        T("TLS hello", 400, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        T("unknown method", 501, "BREW / HTTP/1.1\r\n" H "\r\n"),
        T("Expect", 417, "POST / HTTP/1.1\r\n" H "Expect: x\r\nContent-Length: 1\r\n\r\na"),
        T("chunk size of 9 digits", 400,
          "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n000000001\r\na\r\n0\r\n\r\n"),
        T("chunk with bare LF", 400, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n"),
        T("chunk without CRLF", 400, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n"),
        T("body too long", 413, "POST /small HTTP/1.1\r\n" H "Content-Length: 11\r\n\r\n"),
        T("chunked body too long", 413,
          "POST /small HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nb\r\nabcdefghijk\r\n"),
#undef T
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        refused(cases[i].what, cases[i].raw, cases[i].status);
        assert_int_equal(app.ends, 0);
    }
    struct http_server_stats stats;
    http_server_stats(app.server, &stats);
    assert_int_equal(stats.refused, sizeof cases / sizeof cases[0]);

    autobuf struct buf raw = BUF_INIT;
    buf_str(&raw, "GET /");
    for (int i = 0; i < 70000; i++)
        buf_char(&raw, 'a');
    refused("endless target", buf_bytes(&raw), 414);
    buf_clear(&raw);
    buf_str(&raw, "GET / HTTP/1.1\r\n" H "X: ");
    for (int i = 0; i < 64 * 1024; i++)
        buf_char(&raw, 'a');
    refused("64 KiB header", buf_bytes(&raw), 431);
    buf_clear(&raw);
    buf_str(&raw, "GET / HTTP/1.1\r\n" H);
    for (int i = 0; i < 10000; i++)
        buf_printf(&raw, "X%d: a\r\n", i);
    refused("10,000 headers", buf_bytes(&raw), 431);
    buf_clear(&raw);
    buf_str(&raw, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1;");
    for (int i = 0; i < 257; i++)
        buf_char(&raw, 'x');
    refused("long chunk extension", buf_bytes(&raw), 400);
    /* What comes after a refused request is never read as a request. */
    assert_int_equal(app.ends, 0);
    refused(
        "smuggled",
        bytes_str("POST / HTTP/1.1\r\n" H "Content-Length: 4\r\nContent-Length: 4\r\n\r\nGET /x HTTP/1.1\r\n" H "\r\n"),
        400);
    assert_int_equal(app.ends, 0);
}

static void hosts(void **state)
{
    (void)state;
    http_server_allow_host(app.server, "rota.example");
    static const char *const good[] = { "localhost", "LOCALHOST:1234", "127.0.0.1", "[::1]:80", "Rota.Example:443" };
    for (size_t i = 0; i < 5; i++) {
        struct client c = client_new();
        autobuf struct buf raw = BUF_INIT;
        buf_printf(&raw, "GET http://%s/ HTTP/1.1\r\nHost: %s\r\n\r\n", good[i], good[i]);
        client_send(&c, buf_bytes(&raw));
        client_wait(&c, "hello");
        client_free(&c);
    }
}

/* The answer reaches a client that goes on sending. */
static void early_answers(void **state)
{
    (void)state;
    static char piece[65536];
    static const struct {
        const char *path;
        int status;
    } cases[] = { { "/early", 401 }, { "/big-body", 413 }, { "/refuse-in-body", 403 }, { "/early-stream", 200 } };
    for (size_t k = 0; k < 4; k++) {
        struct client c = client_new();
        autobuf struct buf head = BUF_INIT;
        buf_printf(&head, "POST %s HTTP/1.1\r\n" H "Content-Length: %d\r\n\r\n", cases[k].path,
                   k == 1 ? 5000000 : 1000000);
        client_send(&c, buf_bytes(&head));
        uint64_t before = app.body_bytes;
        for (int i = 0; i < 15 && !c.reset; i++) /* not quite all of it */
            client_send(&c, bytes_of(piece, sizeof piece));
        client_wait_closed(&c);
        assert_int_equal(status_of(&c), cases[k].status);
        assert_false(c.reset);
        assert_true(has(&c, "Connection: close"));
        assert_true(app.body_bytes - before <= 65536);
        client_free(&c);
    }
    assert_int_equal(app.ends, 0);
    /* A small rest is read, and the connection kept. */
    struct client c = client_new();
    SEND(&c, "POST /early HTTP/1.1\r\n" H "Content-Length: 6\r\n\r\nab");
    client_wait(&c, "no token");
    assert_true(has(&c, "WWW-Authenticate: Bearer"));
    SEND(&c, "cdefGET / HTTP/1.1\r\n" H "\r\n");
    client_wait(&c, "hello");
    assert_false(has(&c, "Connection: close"));
    client_free(&c);
}

static void big_upload(bool chunked)
{
    enum { TOTAL = 100 * 1000 * 1000, PIECE = 50000 };
    static char piece[PIECE + 16];
    uint64_t sum = 0;
    for (size_t i = 0; i < PIECE; i++)
        sum += (unsigned char)(piece[i + 6] = (char)(i * 7));
    memcpy(piece, "c350\r\n", 6);
    memcpy(piece + 6 + PIECE, "\r\n", 2);
    struct client c = client_new();
    autobuf struct buf head = BUF_INIT;
    buf_printf(&head, "POST /count HTTP/1.1\r\n" H "%s%s\r\n\r\n",
               chunked ? "Transfer-Encoding: chunked" : "Content-Length: ", chunked ? "" : "100000000");
    client_send(&c, buf_bytes(&head));
    size_t before = rss_kib();
    app.body_bytes = app.body_sum = 0;
    for (uint64_t sent = 0; sent < TOTAL; sent += PIECE)
        client_send(&c, chunked ? bytes_of(piece, PIECE + 8) : bytes_of(piece + 6, PIECE));
    if (chunked)
        SEND(&c, "0\r\n\r\n");
    client_wait(&c, "hello");
    assert_int_equal(app.body_bytes, TOTAL);
    assert_int_equal(app.body_sum, sum * (TOTAL / PIECE));
    assert_true(app.biggest_piece <= 64 * 1024);
    assert_rss_below(before, 8 * 1024);
    client_free(&c);
}

static void uploads(void **state)
{
    (void)state;
    big_upload(false);
    big_upload(true);
}

/* While paused, the kernel's buffers fill and the client stops; nothing is lost. */
static void back_pressure(void **state)
{
    (void)state;
    struct client c = client_new();
    SEND(&c, "POST /paused HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 900000\r\n\r\n");
    turns(5);
    assert_non_null(app.held);
    client_read(&c);
    assert_false(has(&c, "100 Continue")); /* not asked for before it is wanted */
    http_pause(app.held, false);
    client_wait(&c, "100 Continue");
    static char piece[10000];
    memset(piece, 'x', sizeof piece);
    size_t sent = 0;
    size_t before = rss_kib();
    for (int i = 0; sent < 900000; i++) {
        size_t size = sizeof piece < 900000 - sent ? sizeof piece : 900000 - sent;
        ssize_t n = send(c.fd, piece, size, MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        if (i % 20 == 0 && app.held) {
            http_pause(app.held, true);
            uint64_t seen = app.body_bytes;
            turns(3);
            assert_int_equal(app.body_bytes, seen);
            http_pause(app.held, false);
        }
        turn();
    }
    client_wait(&c, "\r\n\r\nxxxx");
    assert_int_equal(app.body_bytes, 900000);
    assert_rss_below(before, 16 * 1024); /* /paused keeps its body and answers with it */
    client_free(&c);

    /* Pausing from inside on_body; an answer from outside while paused. */
    c = client_new();
    app.body_bytes = 0;
    SEND(&c, "POST /pause-in-body HTTP/1.1\r\n" H "Content-Length: 6\r\n\r\nabc");
    turns(5);
    SEND(&c, "def");
    turns(5);
    assert_int_equal(app.body_bytes, 3);
    http_pause(app.held, false);
    turns(5);
    assert_int_equal(app.body_bytes, 6);
    unsigned ends = app.ends;
    turns(5);
    assert_int_equal(app.ends, ends); /* paused again by the second piece: the end waits as well */
    http_reply(app.held, 202, "text/plain", bytes_str("later"));
    client_wait(&c, "later");
    SEND(&c, "GET / HTTP/1.1\r\n" H "\r\n");
    client_wait(&c, "hello");
    client_free(&c);
}

static void slow_reader(void **state)
{
    (void)state;
    struct client c = client_new();
    int small = 128 * 1024;
    setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    app.pump_goal = 20 * 1000 * 1000;
    SEND(&c, "GET /pump HTTP/1.1\r\n" H "\r\n");
    size_t before = rss_kib();
    turns(300); /* the client reads nothing */
    uint64_t stuck = app.pumped;
    turns(100);
    assert_int_equal(app.pumped, stuck);
    assert_true(stuck < 8 * 1000 * 1000); /* the kernel's buffers and one fill */
    assert_non_null(app.held);
    assert_true(http_unsent(app.held) > 0);
    assert_rss_below(before, 4 * 1024);
    uint64_t got = 0;
    char piece[65536];
    while (app.gones == 0) {
        ssize_t n = recv(c.fd, piece, sizeof piece, 0);
        got += n > 0 ? (uint64_t)n : 0;
        turn();
    }
    turns(3);
    for (ssize_t n; (n = recv(c.fd, piece, sizeof piece, 0)) > 0; turn())
        got += (uint64_t)n;
    assert_true(got > app.pump_goal && got < app.pump_goal + app.pump_goal / 100);
    assert_true(app.unsent_max < PUMP_HIGH + 32768);
    assert_true(app.drains > 20);
    client_free(&c);
}

static void event_stream(void **state)
{
    (void)state;
    struct http_server_stats stats;
    struct client c = client_new();
    SEND(&c, "GET /sse HTTP/1.1\r\n" H "\r\n");
    client_wait(&c, ": hello");
    http_server_stats(app.server, &stats);
    assert_int_equal(stats.sse_clients, 1);
    http_count_gap(app.held);
    for (int i = 0; i < 100; i++) {
        http_write(app.held, bytes_str("data: x\n\n"));
        turn();
    }
    client_wait(&c, "x");
    client_read(&c);
    assert_int_equal(count_of(&c, "data: x"), 100);
    client_free(&c); /* noticed without writing */
    wait_gones(1);
    http_server_stats(app.server, &stats);
    assert_int_equal(stats.sse_clients, 0);
    assert_int_equal(stats.sse_gaps, 1);
}

static void disconnects(void **state)
{
    (void)state;
    static const struct {
        const char *raw;
        unsigned heads; /* how many exchanges must have been begun and ended */
    } cases[] = {
        { "", 0 },
        { "GET / HT", 0 },
        { "GET / HTTP/1.1\r\n" H "\r", 0 },
        { "POST /echo HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\n", 1 },
        { "POST /echo HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nabc", 1 },
        { "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\nab", 1 },
        { "POST /early HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nabc", 1 },
        { "GET /hold HTTP/1.1\r\n" H "\r\n", 1 },
        { "GET /hold HTTP/1.1\r\n" H "\r\nGET / HTTP/1.1\r\n" H "\r\n", 1 },
        { "GET /sse HTTP/1.1\r\n" H "\r\n", 1 },
        { "GET /early-hold HTTP/1.1\r\n" H "\r\n", 1 },
        { "GET /pump HTTP/1.1\r\n" H "\r\n", 1 },
        { "GET /big HTTP/1.1\r\n" H "\r\n", 1 },
        { "GET / HTTP/1.1\r\n" H "Connection: close\r\n\r\n", 1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int way = 0; way < 3; way++) {
            app.heads = app.gones = 0;
            app.pumped = 0;
            app.pump_goal = 50 * 1000 * 1000;
            struct client c = client_new();
            client_send(&c, bytes_str(cases[i].raw));
            turns(3);
            if (way == 0) {
                client_free(&c);
            } else if (way == 1) { /* reset */
                struct linger now = { .l_onoff = 1 };
                setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
                client_free(&c);
            } else { /* half: what is answered already still comes */
                shutdown(c.fd, SHUT_WR);
                client_wait_closed(&c);
                client_free(&c);
            }
            wait_connections(0);
            assert_int_equal(app.heads, cases[i].heads);
            assert_int_equal(app.gones, cases[i].heads);
            assert_null(app.held);
        }
    }
}

/* The peer goes in the turn in which the answer is given. */
static void answer_to_nobody(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        app.heads = app.gones = 0;
        struct client c = client_new();
        SEND(&c, "GET /hold HTTP/1.1\r\n" H "\r\n");
        turns(3);
        close(c.fd);
        usleep(2000);
        assert_non_null(app.held);
        if (way == 0) {
            http_reply(app.held, 200, "text/plain", bytes_str("x"));
        } else {
            http_reply_start(app.held, 200, "text/plain");
            http_write(app.held, bytes_str("x"));
        }
        wait_gones(1);
        wait_connections(0);
        buf_fini(&c.in);
    }
}

static void requests_per_connection(void **state)
{
    (void)state;
    app.limits.requests_per_connection = 3;
    teardown(state);
    start(state);
    struct client c = client_new();
    for (int i = 0; i < 5; i++)
        SEND(&c, "GET / HTTP/1.1\r\n" H "\r\n");
    client_wait_closed(&c);
    assert_int_equal(count_of(&c, "hello"), 3);
    assert_int_equal(count_of(&c, "Connection: close"), 1);
    client_free(&c);
}

static void connection_limits(void **state)
{
    (void)state;
    app.limits.connections = 5;
    app.limits.connections_per_source = 8;
    teardown(state);
    for (int round = 0; round < 2; round++) {
        start(state);
        struct client c[10];
        for (int i = 0; i < 10; i++) {
            c[i] = client_new();
            turns(2);
        }
        struct http_server_stats stats;
        http_server_stats(app.server, &stats);
        assert_int_equal(stats.connections, 5);
        assert_int_equal(stats.refused, 5);
        client_wait_closed(&c[9]);
        assert_int_equal(status_of(&c[9]), 503);
        client_free(&c[0]); /* one leaves, one may come */
        wait_connections(4);
        c[0] = client_new();
        SEND(&c[0], "GET / HTTP/1.1\r\n" H "\r\n");
        client_wait(&c[0], "hello");
        for (int i = 0; i < 10; i++)
            client_free(&c[i]);
        wait_connections(0);
        if (round == 0)
            teardown(state);
        app.limits.connections = 100; /* in the second round it is the source that is full */
        app.limits.connections_per_source = 5;
    }
}

/* Neither a spin nor a standstill when there is no descriptor left. */
static void out_of_descriptors(void **state)
{
    (void)state;
    struct client live = client_new();
    SEND(&live, "GET / HTTP/1.1\r\n" H "\r\n");
    client_wait(&live, "hello");
    struct client c[CLIENTS_MAX];
    for (int i = 0; i < 40; i++)
        c[i] = client_new(); /* these wait in the backlog */
    int first = dup(0);
    assert_true(first >= 0);
    close(first);
    struct rlimit old, low;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    low = old;
    low.rlim_cur = (rlim_t)first + 10;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    /* 40 wait, at most 10 fit: the others are accepted and closed, and the loop comes to rest. */
    turns(50);
    unsigned busy = 0;
    int64_t from = clock_now_ms();
    for (int i = 0; i < 20; i++) {
        int64_t before = clock_now_ns();
        loop_turn(app.loop, 20);
        busy += clock_now_ns() - before < 5000000;
    }
    if (busy > 5)
        fail_msg("the loop was busy in %u of 20 turns within %lld ms", busy, (long long)(clock_now_ms() - from));
    struct http_server_stats stats;
    http_server_stats(app.server, &stats);
    assert_true(stats.connections > 1 && stats.connections <= 12);
    assert_int_equal(stats.connections + stats.refused, 41);
    buf_clear(&live.in);
    SEND(&live, "GET / HTTP/1.1\r\n" H "\r\n"); /* those who are in are served */
    client_wait(&live, "hello");
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    for (int i = 0; i < 40; i++)
        client_free(&c[i]);
    wait_connections(1);
    struct client again = client_new();
    SEND(&again, "GET / HTTP/1.1\r\n" H "\r\n");
    client_wait(&again, "hello");
    client_free(&again);
    client_free(&live);
}

/* Even the spare descriptor is lost: the listening socket is left alone for a while, and then taken up again. */
static void out_of_descriptors_without_spare(void **state)
{
    (void)state;
    struct client c[4];
    for (int i = 0; i < 4; i++)
        c[i] = client_new();
    struct rlimit old, low;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    low = old;
    low.rlim_cur = 3; /* below all that are open: not even a freed one can be had again */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    unsigned busy = 0;
    turns(5);
    for (int i = 0; i < 10; i++) {
        int64_t before = clock_now_ns();
        loop_turn(app.loop, 20);
        busy += clock_now_ns() - before < 5000000;
    }
    assert_true(busy <= 4);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    for (int i = 0; i < 4; i++) {
        SEND(&c[i], "GET / HTTP/1.1\r\n" H "\r\n");
        client_wait(&c[i], "hello");
        client_free(&c[i]);
    }
}

static void deadlines(void **state)
{
    (void)state;
    struct client drain = client_new(), linger = client_new();
    SEND(&drain, "POST /early HTTP/1.1\r\n" H "Content-Length: 60000\r\n\r\n");
    SEND(&linger, "GET / HTTP/1.1\r\n" H "Connection: close\r\n\r\n");
    client_wait(&linger, "hello"); /* and does not close its side */
    struct client silent = client_new(), head = client_new(), drip = client_new(), body = client_new(),
                  idle = client_new(), hold = client_new(), steady = client_new();
    int64_t from = clock_now_ms();
    SEND(&head, "GET / HTTP/1.1\r\n");
    SEND(&body, "POST /echo HTTP/1.1\r\n" H "Content-Length: 1000\r\n\r\na");
    SEND(&idle, "GET / HTTP/1.1\r\n" H "\r\n");
    SEND(&hold, "GET /hold HTTP/1.1\r\n" H "\r\n");
    SEND(&steady, "POST /count HTTP/1.1\r\n" H "Content-Length: 100000\r\n\r\n");
    client_wait(&idle, "hello");
    char chunk[100] = { 0 };
    for (int i = 0; clock_now_ms() - from < 400; i++) { /* one byte at a time makes no difference */
        if (!drip.closed)
            client_send(&drip, bytes_of("GET / HTTP/1.1\r\nX: aaaaaaaaaaaaaaaaaaaaaaa" + (i < 20 ? i : 20), 1));
        client_send(&steady, bytes_of(chunk, sizeof chunk));
        client_read(&silent), client_read(&head), client_read(&drip), client_read(&body), client_read(&idle);
        loop_turn(app.loop, 2);
    }
    assert_true(silent.closed && silent.in.size == 0); /* nothing asked, nothing said */
    assert_true(head.closed && status_of(&head) == 408);
    assert_true(drip.closed && (status_of(&drip) == 408 || drip.reset));
    assert_true(body.closed && status_of(&body) == 408);
    assert_true(idle.closed);
    client_read(&hold);
    assert_false(hold.closed); /* the time of the handler is its own affair */
    client_read(&steady);
    assert_false(steady.closed);
    http_reply(app.held, 200, "text/plain", bytes_str("at last"));
    client_wait(&hold, "at last");
    client_free(&silent), client_free(&head), client_free(&drip), client_free(&body), client_free(&idle);
    client_free(&hold), client_free(&steady);
    client_read(&drain);
    assert_true(drain.closed && status_of(&drain) == 401);
    wait_connections(0); /* the lingering one is given up as well */
    client_free(&drain), client_free(&linger);
}

/* The time of the second head runs from its first byte, not from its last. */
static void deadline_of_second_head(void **state)
{
    (void)state;
    app.limits.idle_ms = 100000;
    teardown(state);
    start(state);
    struct client c = client_new();
    SEND(&c, "GET / HTTP/1.1\r\n" H "\r\n");
    client_wait(&c, "hello");
    int64_t from = clock_now_ms();
    for (int i = 0; !c.closed && clock_now_ms() - from < 2000; i++) {
        client_send(&c, bytes_of("GET / HTTP/1.1\r\nX: aaa" + (i < 20 ? i : 20), 1));
        client_read(&c);
        loop_turn(app.loop, 3);
    }
    assert_true(c.closed);
    assert_int_equal(count_of(&c, "HTTP/1.1 "), 2);
    assert_true(has(&c, "HTTP/1.1 408 "));
    client_free(&c);
}

/* A peer that takes nothing of its answer is cut off; one that takes little, but steadily, is not. */
static void deadline_of_reader(void **state)
{
    (void)state;
    struct client stuck = client_new(), slow = client_new();
    int small = 64 * 1024;
    setsockopt(stuck.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    setsockopt(slow.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    app.pump_goal = UINT64_MAX;
    SEND(&stuck, "GET /pump HTTP/1.1\r\n" H "\r\n");
    SEND(&slow, "GET /pump HTTP/1.1\r\n" H "\r\n");
    int64_t from = clock_now_ms();
    char piece[4096];
    uint64_t got = 0;
    while (app.gones < 1 && clock_now_ms() - from < 5000) {
        ssize_t n = recv(slow.fd, piece, sizeof piece, 0);
        assert_true(n != 0 && (n > 0 || errno == EAGAIN));
        got += n > 0 ? (uint64_t)n : 0;
        loop_turn(app.loop, 2);
    }
    assert_int_equal(app.gones, 1);
    assert_true(got > 0);
    for (int i = 0; i < 100; i++) {
        ssize_t n = recv(slow.fd, piece, sizeof piece, 0);
        assert_true(n != 0 && (n > 0 || errno == EAGAIN));
        loop_turn(app.loop, 2);
    }
    assert_int_equal(app.gones, 1);
    client_free(&stuck);
    client_free(&slow);
}

/* The body deadline does not run while the handler does not want the body. */
static void deadline_while_paused(void **state)
{
    (void)state;
    struct client c = client_new();
    SEND(&c, "POST /paused HTTP/1.1\r\n" H "Content-Length: 4\r\n\r\nab");
    int64_t from = clock_now_ms();
    while (clock_now_ms() - from < 300)
        loop_turn(app.loop, 5);
    assert_int_equal(app.gones, 0);
    http_pause(app.held, false);
    SEND(&c, "cd");
    client_wait(&c, "abcd");
    client_free(&c);
}

static void freed_with_open_exchanges(void **state)
{
    (void)state;
    struct client answered = client_new(), hold = client_new(), sse = client_new(), body = client_new(),
                  late = client_new();
    SEND(&hold, "GET /hold HTTP/1.1\r\n" H "\r\n");
    SEND(&sse, "GET /sse HTTP/1.1\r\n" H "\r\n");
    SEND(&body, "POST /echo HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nab");
    turns(5);
    SEND(&answered, "GET /hold HTTP/1.1\r\n" H "\r\n");
    turns(5);
    assert_int_equal(app.heads, 4);
    http_reply(app.held, 200, "text/plain", bytes_str("just in time"));
    http_server_free(app.server);
    app.server = NULL;
    assert_int_equal(app.gones, 4);
    client_read(&answered);
    assert_true(has(&answered, "just in time"));
    client_wait_closed(&hold); /* libevent closes in its next turn */
    client_free(&answered), client_free(&hold), client_free(&sse), client_free(&body), client_free(&late);
}

static void over_ipv6(void **state)
{
    (void)state;
    struct http_events events = { &app, on_head, on_body, on_end, on_gone };
    struct err err;
    struct http_server *s = http_server_new(app.loop, "::1", 0, false, &app.limits, &events, &err);
    if (!s) { /* a machine without IPv6 */
        assert_int_equal(err.code, ERR_IO);
        return;
    }
    struct client c = { .fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0) };
    struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_port = htons(http_server_port(s)) };
    to.sin6_addr = in6addr_loopback;
    assert_int_equal(connect(c.fd, (struct sockaddr *)&to, sizeof to), 0);
    assert_int_equal(fcntl(c.fd, F_SETFL, O_NONBLOCK), 0);
    SEND(&c, "GET /query HTTP/1.1\r\nHost: [::1]:1\r\nX-Mine: x\r\n\r\n");
    client_wait(&c, "from ::1");
    client_free(&c);
    http_server_free(s);
}

static void addresses(void **state)
{
    (void)state;
    struct http_events events = { &app, on_head, on_body, on_end, on_gone };
    struct err err;
    assert_null(http_server_new(app.loop, "0.0.0.0", 0, false, &app.limits, &events, &err));
    assert_int_equal(err.code, ERR_INVALID);
    assert_string_equal(err.field, "listen");
    assert_null(http_server_new(app.loop, "::", 0, false, &app.limits, &events, &err));
    assert_null(http_server_new(app.loop, "nonsense", 0, true, &app.limits, &events, &err));
    assert_null(
        http_server_new(app.loop, "127.0.0.1", http_server_port(app.server), false, &app.limits, &events, &err));
    assert_non_null(strstr(err.text, "in use"));
    struct http_server *s = http_server_new(app.loop, "0.0.0.0", 0, true, &app.limits, &events, &err);
    assert_non_null(s);
    http_server_free(s);
    s = http_server_new(app.loop, "localhost", 0, false, &app.limits, &events, &err);
    assert_non_null(s);
    http_server_free(s);
    http_server_free(NULL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_SHORT(name) cmocka_unit_test_setup_teardown(name, setup_short, teardown)
    const struct CMUnitTest tests[] = {
        TEST(plain_get),
        TEST(keep_alive_and_close),
        TEST(answers),
        TEST(posts),
        TEST(continue_100),
        TEST(split_everywhere),
        TEST(pipelining),
        TEST(half_closed),
        TEST(fairness),
        TEST(flood_behind_a_waiting_request),
        TEST(pipelining_without_reading),
        TEST(refusals),
        TEST(hosts),
        TEST(early_answers),
        TEST(uploads),
        TEST(back_pressure),
        TEST(slow_reader),
        TEST(event_stream),
        TEST(disconnects),
        TEST(answer_to_nobody),
        TEST(requests_per_connection),
        TEST(connection_limits),
        TEST(out_of_descriptors),
        TEST(out_of_descriptors_without_spare),
        TEST_SHORT(deadlines),
        TEST_SHORT(deadline_of_second_head),
        TEST_SHORT(deadline_of_reader),
        TEST_SHORT(deadline_while_paused),
        TEST(freed_with_open_exchanges),
        TEST(over_ipv6),
        TEST(addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
