/* bus_conformance.h: what every implementation of bus.h is held to.
 *
 * A rig makes the ends; the suite does the rest. Each end gets a loop of its own unless the test says otherwise, so
 * that "does not read" is a loop that is not turned. */
#ifndef ROTA_BUS_CONFORMANCE_H
#define ROTA_BUS_CONFORMANCE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bus/bus.h"

struct bus_rig {
    void *arg;
    /* Begins a world of its own: a fresh path, name or virtual host. ends(): removes it again. */
    void (*begin)(void *arg);
    void (*end)(void *arg);
    struct bus *(*open)(void *arg, struct loop *loop, enum bus_role role, const char *name,
                        const struct bus_events *events, struct err *err);
    size_t queue_slack; /* bytes beyond BUS_QUEUE_MAX that may be under way to a peer that does not read */
    bool second_master_waits; /* it is not refused at open, but stays down until the first is gone */
};

#define BUS_CONFORMANCE_TESTS_MAX 32
/* Fills in the tests of the suite for this rig and returns how many there are. */
size_t bus_conformance(struct CMUnitTest tests[BUS_CONFORMANCE_TESTS_MAX], struct bus_rig *rig);

/* --- what tests of one implementation can use as well --- */

/* One end, and all that it was told. */
struct test_end {
    struct loop *loop;
    bool own_loop;
    struct bus *bus;
    bool keeps;   /* acks nothing by itself */
    bool in_call; /* a call is on the stack: no callback may come */
    size_t ups, downs, messages;
    uint64_t session; /* the last that came up */
    bool up;
    size_t body_bytes; /* of all messages */
    struct bytes last; /* copy of the last body */
    char *last_data;
    uint64_t last_delivery, last_from;
    void (*on_message)(struct test_end *end, uint64_t session, struct bytes body, uint64_t delivery); /* may be NULL */
    void (*on_link)(struct test_end *end, uint64_t session, bool up);                                 /* may be NULL */
    void *arg;
    size_t errors;
};

void end_open(struct test_end *end, struct bus_rig *rig, enum bus_role role, const char *name, struct loop *loop);
int end_try_open(struct test_end *end, struct bus_rig *rig, enum bus_role role, const char *name, struct loop *loop,
                 struct err *err);
void end_close(struct test_end *end); /* NULL bus is fine */
int end_send(struct test_end *end, uint64_t session, struct bytes body, struct err *err);
void end_kick(struct test_end *end, uint64_t session);
struct bus_stats end_stats(struct test_end *end);
/* Turns the loops of the ends until `done` says so; fails the test after a time no machine needs. */
void ends_until(struct test_end *const *ends, size_t count, bool (*done)(void *arg), void *arg);
/* Turns for a while in which something that must not happen would have happened. */
void ends_settle(struct test_end *const *ends, size_t count);
#define UNTIL(done, arg, ...)                                                                                          \
    ends_until((struct test_end *const[]){ __VA_ARGS__ },                                                              \
               sizeof((struct test_end *const[]){ __VA_ARGS__ }) / sizeof(struct test_end *), done, arg)
#define SETTLE(...)                                                                                                    \
    ends_settle((struct test_end *const[]){ __VA_ARGS__ },                                                             \
                sizeof((struct test_end *const[]){ __VA_ARGS__ }) / sizeof(struct test_end *))
bool end_is_up(void *end); /* for UNTIL */
bool end_is_down(void *end);

#endif
