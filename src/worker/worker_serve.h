/* worker_serve.h: GET /metrics and GET /healthz of a worker. */
#ifndef ROTA_WORKER_SERVE_H
#define ROTA_WORKER_SERVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct loop;
struct worker_serve;

struct worker_serve_port {
    void *arg;
    void (*refresh)(void *arg); /* before the text of the metrics is made */
    bool (*healthy)(void *arg, const char **why);
};
/* address NULL: 127.0.0.1; port 0: any free one; anywhere: the address need not be a loopback. */
struct worker_serve *worker_serve_new(struct loop *loop, const char *address, uint16_t port, bool anywhere,
                                      const struct worker_serve_port *events, struct err *err);
void worker_serve_free(struct worker_serve *s); /* NULL is fine */
/* HOST:PORT for those who come from elsewhere: the host's name where it listens on all addresses. */
void worker_serve_where(const struct worker_serve *s, char *out, size_t size);

#endif
