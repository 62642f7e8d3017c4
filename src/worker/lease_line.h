/* lease_line.h: keeps the lease by HTTP while the bus is silent.
 *
 * Asks only when attempts are here and half of the lease has passed since the last word that the master has heard on the bus or
 * here. Whether the master heard is known only from its answer, and the lease counts from when it was asked. */
#ifndef ROTA_WORKER_LEASE_LINE_H
#define ROTA_WORKER_LEASE_LINE_H

#include "core/agent/agent.h"
#include "core/model/message.h"

struct loop;
struct lease_line;

struct lease_line_port {
    void *arg;
    const struct agent *agent;
    struct worker_id worker;
    uint64_t incarnation;
    int64_t (*now_ms)(void *arg);                     /* of the agent's clock */
    void (*renewed)(void *arg, int64_t sent_ms);      /* the master heard what was sent then */
};

struct lease_line *lease_line_new(struct loop *loop, const struct lease_line_port *port);
void lease_line_free(struct lease_line *l); /* NULL is fine */
/* What the newest WELCOME says of where, and of the token. Copies. */
void lease_line_set(struct lease_line *l, struct bytes url, struct mac128 token);

#endif
