#include "bus/bus.h"

#include "bus/bus_impl.h"

static struct bus *amqp_open(struct loop *loop, const struct bus_address *address, const char *place,
                             const struct bus_events *events, struct err *err)
{
    (void)loop, (void)place, (void)events;
    err_field(err, ERR_UNAVAILABLE, "bus", "use unix:/path/to/bus.sock, which serves one machine",
              "RabbitMQ (%.40s...) is not built into this rota yet", address->url);
    return NULL;
}

static const struct {
    const char *scheme;
    bus_opener open;
} transports[] = {
    { "unix:", bus_sock_open },
    { "mem:", bus_mem_open },
    { "amqp://", amqp_open },
    { "amqps://", amqp_open },
};

struct bus *bus_open(struct loop *loop, const struct bus_address *address, const struct bus_events *events,
                     struct err *err)
{
    const char *url = address->url ? address->url : "";
    for (size_t i = 0; i < sizeof transports / sizeof *transports; i++) {
        size_t size = strlen(transports[i].scheme);
        if (strncmp(url, transports[i].scheme, size) == 0)
            return transports[i].open(loop, address, url + size, events, err);
    }
    err_field(err, ERR_INVALID, "bus", "write unix:/path/to/bus.sock", "\"%.100s\" names no transport that rota knows",
              url);
    return NULL;
}
