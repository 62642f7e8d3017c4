/* bus_impl.h: the transports behind bus_open. Each takes what stands after its scheme in the URL. */
#ifndef ROTA_BUS_IMPL_H
#define ROTA_BUS_IMPL_H

#include "bus/bus.h"

typedef struct bus *(*bus_opener)(struct loop *loop, const struct bus_address *address, const char *place,
                                  const struct bus_events *events, struct err *err);

/* In one process: ends that were opened with the same name meet. All ends of a name belong to one thread, each may have
 * a loop of its own. For tests and simulation. */
struct bus *bus_mem_open(struct loop *loop, const struct bus_address *address, const char *name,
                         const struct bus_events *events, struct err *err);
/* Unix stream socket at a path. */
struct bus *bus_sock_open(struct loop *loop, const struct bus_address *address, const char *path,
                          const struct bus_events *events, struct err *err);
/* RabbitMQ (bus_amqp.c); place: what rabbit_target.h says, after the scheme. */
struct bus *bus_amqp_open(struct loop *loop, const struct bus_address *address, const char *place,
                          const struct bus_events *events, struct err *err);
struct bus *bus_amqps_open(struct loop *loop, const struct bus_address *address, const char *place,
                           const struct bus_events *events, struct err *err);

int bus_amqp_check(const char *place, struct err *err);
int bus_amqps_check(const char *place, struct err *err);

#endif
