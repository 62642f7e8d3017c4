#include "worker/worker_serve.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/http.h"
#include "obs/metrics.h"

struct worker_serve {
    struct worker_serve_port port;
    struct http_server *server;
};

static void on_head(void *arg, struct http_request *r)
{
    struct worker_serve *s = arg;
    struct bytes path = http_path(r);
    bool metrics = bytes_equal(path, bytes_str("/metrics"));
    if (!metrics && !bytes_equal(path, bytes_str("/healthz"))) {
        struct err err;
        err_field(&err, ERR_NOT_FOUND, NULL, "a worker serves /metrics and /healthz", "there is no such page");
        http_reply_error(r, &err);
        return;
    }
    if (strcmp(http_method(r), "GET") != 0 && strcmp(http_method(r), "HEAD") != 0) {
        struct err err;
        err_set(&err, ERR_METHOD, "only GET is answered here");
        http_add_header(r, "Allow", "GET");
        http_reply_error(r, &err);
        return;
    }
    if (metrics) {
        autobuf struct buf text = BUF_INIT;
        s->port.refresh(s->port.arg);
        metrics_text(&text);
        http_reply(r, 200, "text/plain; version=0.0.4; charset=utf-8", buf_bytes(&text));
        return;
    }
    const char *why = "ok";
    bool healthy = s->port.healthy(s->port.arg, &why);
    autobuf struct buf text = BUF_INIT;
    buf_printf(&text, "%s\n", why);
    http_reply(r, healthy ? 200 : 503, "text/plain; charset=utf-8", buf_bytes(&text));
}

static void on_body(void *arg, struct http_request *r, struct bytes piece)
{
    (void)arg, (void)r, (void)piece;
}

static void on_end_or_gone(void *arg, struct http_request *r)
{
    (void)arg, (void)r; /* All is answered in on_head, and nothing of a request is kept. */
}

struct worker_serve *worker_serve_new(struct loop *loop, uint16_t port, const struct worker_serve_port *events, struct err *err)
{
    struct worker_serve *s = mem_zero(1, sizeof *s);
    s->port = *events;
    struct http_limits limits;
    http_limits_default(&limits);
    limits.connections = 64;
    limits.body_bytes = 0;
    struct http_events http = { s, on_head, on_body, on_end_or_gone, on_end_or_gone };
    s->server = http_server_new(loop, "127.0.0.1", port, false, &limits, &http, err);
    if (!s->server) {
        free(s);
        return NULL;
    }
    return s;
}

void worker_serve_free(struct worker_serve *s)
{
    if (!s)
        return;
    http_server_free(s->server);
    free(s);
}

uint16_t worker_serve_port_number(const struct worker_serve *s)
{
    return http_server_port(s->server);
}
