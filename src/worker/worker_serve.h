/* worker_serve.h: GET /metrics and GET /healthz of a worker. */
#ifndef ROTA_WORKER_SERVE_H
#define ROTA_WORKER_SERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct loop;
struct worker_serve;

struct worker_serve_port {
    void *arg;
    void (*refresh)(void *arg); /* before the text of the metrics is made */
    bool (*healthy)(void *arg, const char **why);
};
struct worker_serve *worker_serve_new(struct loop *loop, uint16_t port, const struct worker_serve_port *events, struct err *err);
void worker_serve_free(struct worker_serve *s);
uint16_t worker_serve_port_number(const struct worker_serve *s);

#endif
