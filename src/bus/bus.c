#include "bus/bus.h"

#include "bus/bus_impl.h"

static const struct transport {
    const char *scheme;
    bus_opener open;
    int (*check)(const char *place, struct err *err); /* NULL: any place will do */
} transports[] = {
    { "unix:", bus_sock_open, NULL },
    { "mem:", bus_mem_open, NULL },
    { "amqp://", bus_amqp_open, bus_amqp_check },
    { "amqps://", bus_amqps_open, bus_amqps_check },
};

static const struct transport *transport_of(const char *url, struct err *err)
{
    for (size_t i = 0; i < sizeof transports / sizeof *transports; i++)
        if (strncmp(url, transports[i].scheme, strlen(transports[i].scheme)) == 0)
            return &transports[i];
    err_field(err, ERR_INVALID, "bus", "write unix:/path/to/bus.sock or amqp://USER@HOST/VHOST", "\"%.100s\" names no transport that rota knows",
              url);
    return NULL;
}

struct bus *bus_open(struct loop *loop, const struct bus_address *address, const struct bus_events *events,
                     struct err *err)
{
    const char *url = address->url ? address->url : "";
    const struct transport *t = transport_of(url, err);
    return t ? t->open(loop, address, url + strlen(t->scheme), events, err) : NULL;
}

int bus_check(const char *url, struct err *err)
{
    const struct transport *t = transport_of(url, err);
    if (!t)
        return -ERR_INVALID;
    return t->check ? t->check(url + strlen(t->scheme), err) : 0;
}
