/* bus.h: port for messages between one master and many workers. At-least-once at best: a message may be lost, doubled,
 * late or out of order, and every receiver can stand that.
 *
 * One end is the master, the others are workers. Bodies are opaque. All calls and callbacks happen on the thread of the
 * loop that was given at open; callbacks never happen inside a call. */
#ifndef ROTA_BUS_H
#define ROTA_BUS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define BUS_BODY_MAX (4u * 1024 * 1024)  /* bytes of one body; more is refused by send, and closes a peer that sends it */
#define BUS_QUEUE_MAX (64u * 1024 * 1024) /* bytes that wait for one peer; more: ERR_FULL */
#define BUS_MASTER 0u                    /* the session number workers send to */

struct bus_events {
    void *arg;
    /* Borrowed until it returns. `delivery` is to be acked once what it carries is durable. */
    void (*on_message)(void *arg, uint64_t session, struct bytes body, uint64_t delivery);
    /* Master: a worker's session exists or is gone (numbers are never used again). Worker: session BUS_MASTER: the way
     * to the master is there or not. After `false` nothing more comes from that session. */
    void (*on_link)(void *arg, uint64_t session, bool up);
    /* Master, may be NULL: the transport between the ends works or does not, as a whole: while it does not, silence says
     * nothing about a worker. A transport that needs nobody in the middle never calls it; one that does is not up at open. */
    void (*on_transport)(void *arg, bool up);
    /* Master, may be NULL: somebody who is no worker asks for a job; answer it once with bus_answer. `user` and `key` are
     * "" when not given; the user is one that the broker has checked. All is borrowed until it returns. A request that
     * was not answered comes again after a break. */
    void (*on_request)(void *arg, uint64_t request, const char *user, const char *key, struct bytes body);
};

struct bus;
/* dropped: messages taken by send whose session ended before they left (about). refused: peers closed because they did not
 * prove that they know the key, spoke garbage, or found no free place. reconnects: a worker's links after its first. */
struct bus_stats { uint64_t sent, received, dropped, bytes_sent, bytes_received, reconnects; bool up; uint64_t refused; };

struct bus_ops {
    const char *name;
    /* Copies the body; never blocks. ERR_FULL: the peer does not read; ERR_CLOSED: there is no such session;
     * ERR_TOO_LARGE. On any error nothing was sent. Success promises nothing. */
    int (*send)(struct bus *b, uint64_t session, struct bytes body, struct err *err);
    /* Idempotent. Every delivery must be acked: a transport stops delivering when too many are not. */
    void (*ack)(struct bus *b, uint64_t delivery);
    /* Close that session: nothing more comes from it, send to it is ERR_CLOSED, on_link(false) follows. What was sent before
     * still goes out as far as the peer takes it at once. No such session: nothing happens. */
    void (*kick)(struct bus *b, uint64_t session);
    void (*stats)(const struct bus *b, struct bus_stats *out);
    /* For those who are neither master nor worker; NULL in transports that nobody else can reach. Master only.
     * tell: to whoever listens to that topic (dotted); it may be lost. answer: the request is settled by it. */
    void (*tell)(struct bus *b, const char *topic, struct bytes json);
    void (*answer)(struct bus *b, uint64_t request, struct bytes json);
    /* Frees; no callback in it or after it. May be called in a callback. What was sent before still goes out as
     * far as the peers take it at once. */
    void (*close)(struct bus *b);
};
struct bus { const struct bus_ops *ops; }; /* first member of every implementation */

struct loop;
enum bus_role { BUS_ROLE_MASTER, BUS_ROLE_WORKER };
struct bus_address {
    enum bus_role role;
    const char *url;       /* "unix:/path/to/bus.sock", "mem:name", "amqp[s]://user@host/vhost" (rabbit_target.h) */
    const char *name;      /* worker's name, for people */
    uint8_t cluster[16];   /* bus_sock: both ends must know the same; a 32-byte secret in a 0600 file beside the socket */
};
/* Opens the transport that the URL names. A worker's bus reconnects by itself for ever (full jitter, 0.1 s to 5 s for unix, to
 * 10 s for amqp); so does a master's, if it has something to connect to. ERR_LOCKED: there is another master, where that can
 * be known at once; else the second one stays down until the first is gone. */
struct bus *bus_open(struct loop *loop, const struct bus_address *address, const struct bus_events *events, struct err *err);

/* Whether bus_open would take the URL: nothing is opened. ERR_INVALID says what is wrong with it. */
int bus_check(const char *url, struct err *err);

static inline int bus_send(struct bus *b, uint64_t session, struct bytes body, struct err *err) { return b->ops->send(b, session, body, err); }
static inline void bus_ack(struct bus *b, uint64_t delivery) { b->ops->ack(b, delivery); }
static inline void bus_kick(struct bus *b, uint64_t session) { b->ops->kick(b, session); }
static inline void bus_close(struct bus *b) { if (b) b->ops->close(b); }

#endif
