#include "worker/worker_serve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/http.h"
#include "obs/metrics.h"

struct worker_serve {
    struct worker_serve_port port;
    struct http_server *server;
    char host[72];
    uint64_t answers[5]; /* by hundreds of their status */
};

static void show_http(const struct worker_serve *s)
{
    static const char *const classes[] = { "1xx", "2xx", "3xx", "4xx", "5xx" };
    struct http_server_stats stats;
    http_server_stats(s->server, &stats);
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        metric_total_label(M_HTTP_REQUESTS, classes[i], (double)s->answers[i]);
    metric_total(M_HTTP_REFUSED, (double)stats.refused);
    metric_set(M_HTTP_CONNECTIONS, (double)stats.connections);
}

static void on_head(void *arg, struct http_request *r)
{
    struct worker_serve *s = arg;
    struct bytes path = http_path(r);
    bool metrics = bytes_equal(path, bytes_str("/metrics"));
    if (!metrics && !bytes_equal(path, bytes_str("/healthz"))) {
        struct err err;
        err_field(&err, ERR_NOT_FOUND, NULL, "a worker serves /metrics and /healthz", "there is no such page");
        s->answers[3]++;
        http_reply_error(r, &err);
        return;
    }
    if (strcmp(http_method(r), "GET") != 0 && strcmp(http_method(r), "HEAD") != 0) {
        struct err err;
        err_set(&err, ERR_METHOD, "only GET is answered here");
        http_add_header(r, "Allow", "GET");
        s->answers[3]++;
        http_reply_error(r, &err);
        return;
    }
    if (metrics) {
        autobuf struct buf text = BUF_INIT;
        s->answers[1]++;
        s->port.refresh(s->port.arg);
        show_http(s);
        metrics_text(&text);
        http_reply(r, 200, "text/plain; version=0.0.4; charset=utf-8", buf_bytes(&text));
        return;
    }
    const char *why = "ok";
    bool healthy = s->port.healthy(s->port.arg, &why);
    s->answers[healthy ? 1 : 4]++;
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

struct worker_serve *worker_serve_new(struct loop *loop, const char *address, uint16_t port, bool anywhere,
                                      const struct worker_serve_port *events, struct err *err)
{
    struct worker_serve *s = mem_zero(1, sizeof *s);
    s->port = *events;
    struct http_limits limits;
    http_limits_default(&limits);
    limits.connections = 64;
    limits.body_bytes = 0;
    struct http_events http = { s, on_head, on_body, on_end_or_gone, on_end_or_gone };
    if (!address)
        address = "127.0.0.1";
    s->server = http_server_new(loop, address, port, anywhere, &limits, &http, err);
    if (!s->server) {
        free(s);
        return NULL;
    }
    bool every = strcmp(address, "0.0.0.0") == 0 || strcmp(address, "::") == 0;
    if (every && gethostname(s->host, sizeof s->host - 1) == 0 && s->host[0])
        http_server_allow_host(s->server, s->host);
    else
        snprintf(s->host, sizeof s->host, strchr(address, ':') ? "[%s]" : "%s", address);
    http_server_allow_host(s->server, s->host);
    return s;
}

void worker_serve_free(struct worker_serve *s)
{
    if (!s)
        return;
    http_server_free(s->server);
    free(s);
}

void worker_serve_where(const struct worker_serve *s, char *out, size_t size)
{
    snprintf(out, size, "%s:%u", s->host, http_server_port(s->server));
}
