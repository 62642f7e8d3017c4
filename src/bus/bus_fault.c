#include "bus/bus_fault.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/prng.h"
#include "io/clock.h"
#include "io/loop.h"

/* A message that is held back. */
struct held {
    struct list_node node;
    uint64_t session, delivery;
    int64_t due_ms;
    unsigned overtakers; /* that must still pass before it; 0: only time counts */
    size_t size;
    char body[];
};

struct way {
    struct prng prng;
    struct bus_fault_rates rates;
    bool parted;
    struct list_node held;
    size_t held_bytes;
    struct bus_fault_counts counts;
};

struct fault_bus {
    struct bus bus; /* first: struct bus * is converted back */
    struct bus *inner;
    struct loop *loop;
    struct bus_events events;
    struct way ways[BUS_DIRECTIONS];
    struct loop_timer *release;
    uint64_t *sessions; /* that are up */
    size_t sessions_count, sessions_cap;
    unsigned depth;
    bool closed;
};

static const struct bus_ops fault_ops;

static struct fault_bus *fault_of(const struct bus *bus)
{
    check(bus && bus->ops == &fault_ops);
    return (struct fault_bus *)(uintptr_t)bus;
}

static void held_free(struct way *w, struct held *h)
{
    list_remove(&h->node);
    w->held_bytes -= h->size;
    free(h);
}

static void bus_destroy(struct fault_bus *b)
{
    for (int d = 0; d < BUS_DIRECTIONS; d++)
        while (!list_empty(&b->ways[d].held))
            held_free(&b->ways[d], list_entry(b->ways[d].held.next, struct held, node));
    loop_timer_remove(b->release);
    free(b->sessions);
    free(b);
}

static void leave(struct fault_bus *b)
{
    if (--b->depth == 0 && b->closed)
        bus_destroy(b);
}

static size_t session_index(const struct fault_bus *b, uint64_t session)
{
    size_t i = 0;
    while (i < b->sessions_count && b->sessions[i] != session)
        i++;
    return i;
}

static void release_soon(struct fault_bus *b)
{
    int64_t due_ms = INT64_MAX, now_ms = clock_now_ms();
    for (int d = 0; d < BUS_DIRECTIONS; d++)
        list_each(node, &b->ways[d].held)
        {
            const struct held *h = list_entry(node, struct held, node);
            due_ms = h->due_ms < due_ms ? h->due_ms : due_ms;
        }
    loop_timer_set(b->release, due_ms == INT64_MAX ? -1 : due_ms > now_ms ? due_ms - now_ms : 0);
}

static void hold(struct fault_bus *b, struct way *w, uint64_t session, struct bytes body, uint64_t delivery, int64_t ms,
                 unsigned overtakers)
{
    struct held *h = mem_alloc(sizeof *h + body.size);
    h->session = session;
    h->delivery = delivery;
    h->due_ms = clock_now_ms() + ms;
    h->overtakers = overtakers;
    h->size = body.size;
    if (body.size)
        memcpy(h->body, body.data, body.size);
    w->held_bytes += h->size;
    list_append(&w->held, &h->node);
    release_soon(b);
}

static void pass(struct fault_bus *b, enum bus_direction direction, uint64_t session, struct bytes body,
                 uint64_t delivery)
{
    b->ways[direction].counts.passed++;
    if (direction == BUS_OUT)
        bus_send(b->inner, session, body, NULL); /* Too late to refuse: it is lost if there is no room. */
    else
        b->events.on_message(b->events.arg, session, body, delivery);
}

/* Hands on what waited for others to pass, or for its time. */
static void release_due(struct fault_bus *b, enum bus_direction direction, bool one_passed)
{
    struct way *w = &b->ways[direction];
    int64_t now_ms = clock_now_ms();
    bool found = true;
    if (one_passed)
        list_each(node, &w->held)
        {
            struct held *h = list_entry(node, struct held, node);
            if (h->overtakers && --h->overtakers == 0)
                h->due_ms = now_ms;
        }
    /* From the start after each: the user may do anything in a callback. */
    while (found && !b->closed) {
        found = false;
        list_each(node, &w->held)
        {
            struct held *h = list_entry(node, struct held, node);
            if (h->due_ms > now_ms)
                continue;
            list_remove(&h->node);
            w->held_bytes -= h->size;
            pass(b, direction, h->session, bytes_of(h->body, h->size), h->delivery);
            free(h);
            found = true;
            break;
        }
    }
    if (!b->closed)
        release_soon(b);
}

static void released(void *arg)
{
    struct fault_bus *b = arg;
    b->depth++;
    release_due(b, BUS_OUT, false);
    release_due(b, BUS_IN, false);
    leave(b);
}

/* Draws in a fixed order and number, so that a rate that changes does not change the other draws. False: it was taken
 * care of. */
static bool fate(struct fault_bus *b, enum bus_direction direction, uint64_t session, struct bytes body,
                 uint64_t delivery, unsigned *copies)
{
    struct way *w = &b->ways[direction];
    bool lose = prng_chance(&w->prng, w->rates.lose), twice = prng_chance(&w->prng, w->rates.twice);
    bool delay = prng_chance(&w->prng, w->rates.delay), reorder = prng_chance(&w->prng, w->rates.reorder);
    int64_t delay_ms = prng_between(&w->prng, 1, w->rates.delay_ms_max > 1 ? w->rates.delay_ms_max : 1);
    unsigned overtakers = (unsigned)prng_between(&w->prng, 1, 4);
    *copies = 1;
    if (lose || w->parted) {
        w->counts.lost++;
        if (direction == BUS_IN)
            bus_ack(b->inner, delivery); /* Else a broker would bring it again. */
        return false;
    }
    if (twice) {
        w->counts.doubled++;
        *copies = 2;
    }
    if (!delay && !reorder)
        return true;
    if (delay)
        w->counts.delayed++;
    else
        w->counts.reordered++;
    for (unsigned i = 0; i < *copies; i++)
        hold(b, w, session, body, delivery, delay ? delay_ms : BUS_REORDER_MS_MAX, delay ? 0 : overtakers);
    return false;
}

static void inner_message(void *arg, uint64_t session, struct bytes body, uint64_t delivery)
{
    struct fault_bus *b = arg;
    unsigned copies;
    b->depth++;
    if (fate(b, BUS_IN, session, body, delivery, &copies)) {
        for (unsigned i = 0; i < copies && !b->closed && session_index(b, session) < b->sessions_count; i++)
            pass(b, BUS_IN, session, body, delivery);
        if (!b->closed)
            release_due(b, BUS_IN, true);
    }
    leave(b);
}

static void session_gone(struct fault_bus *b, uint64_t session)
{
    size_t i = session_index(b, session);
    if (i < b->sessions_count)
        b->sessions[i] = b->sessions[--b->sessions_count];
    for (int d = 0; d < BUS_DIRECTIONS; d++)
        list_each_safe(node, &b->ways[d].held)
        {
            struct held *h = list_entry(node, struct held, node);
            if (h->session != session)
                continue;
            if (d == BUS_IN)
                bus_ack(b->inner, h->delivery);
            held_free(&b->ways[d], h);
        }
}

static void inner_link(void *arg, uint64_t session, bool up)
{
    struct fault_bus *b = arg;
    b->depth++;
    if (up) {
        b->sessions = mem_grow(b->sessions, &b->sessions_cap, b->sessions_count + 1, sizeof *b->sessions);
        b->sessions[b->sessions_count++] = session;
    } else {
        session_gone(b, session);
    }
    b->events.on_link(b->events.arg, session, up);
    leave(b);
}

static void inner_request(void *arg, uint64_t request, const char *user, const char *key, struct bytes body)
{
    struct fault_bus *b = arg;
    b->depth++;
    if (b->events.on_request)
        b->events.on_request(b->events.arg, request, user, key, body);
    leave(b);
}

static void inner_transport(void *arg, bool up)
{
    struct fault_bus *b = arg;
    b->depth++;
    if (b->events.on_transport)
        b->events.on_transport(b->events.arg, up);
    leave(b);
}

/* --- the port --- */

static int fault_send(struct bus *bus, uint64_t session, struct bytes body, struct err *err)
{
    struct fault_bus *b = fault_of(bus);
    struct way *w = &b->ways[BUS_OUT];
    unsigned copies;
    if (session_index(b, session) == b->sessions_count)
        return err_set(err, ERR_CLOSED, "there is no such session");
    if (body.size > BUS_BODY_MAX)
        return err_set(err, ERR_TOO_LARGE, "a message of %zu bytes; at most %u are allowed", body.size, BUS_BODY_MAX);
    if (w->held_bytes + 2 * body.size > BUS_QUEUE_MAX)
        return err_set(err, ERR_FULL, "%zu bytes are held back", w->held_bytes);
    if (!fate(b, BUS_OUT, session, body, 0, &copies))
        return 0;
    int rc = bus_send(b->inner, session, body, err);
    if (rc < 0)
        return rc;
    w->counts.passed++;
    if (copies == 2)
        pass(b, BUS_OUT, session, body, 0);
    release_due(b, BUS_OUT, true);
    return 0;
}

static void fault_ack(struct bus *bus, uint64_t delivery)
{
    bus_ack(fault_of(bus)->inner, delivery);
}

static void fault_kick(struct bus *bus, uint64_t session)
{
    struct fault_bus *b = fault_of(bus);
    if (session_index(b, session) == b->sessions_count)
        return;
    /* What is held back of that session must not come any more. on_link(false) follows from inside. */
    session_gone(b, session);
    bus_kick(b->inner, session);
}

static void fault_stats(const struct bus *bus, struct bus_stats *out)
{
    const struct fault_bus *b = fault_of(bus);
    b->inner->ops->stats(b->inner, out);
}

static void fault_tell(struct bus *bus, const char *topic, struct bytes json)
{
    struct bus *inner = fault_of(bus)->inner;
    if (inner->ops->tell)
        inner->ops->tell(inner, topic, json);
}

static void fault_answer(struct bus *bus, uint64_t request, struct bytes json)
{
    struct bus *inner = fault_of(bus)->inner;
    if (inner->ops->answer)
        inner->ops->answer(inner, request, json);
}

static void fault_close(struct bus *bus)
{
    struct fault_bus *b = fault_of(bus);
    bus_close(b->inner);
    b->closed = true;
    if (!b->depth)
        bus_destroy(b);
}

static const struct bus_ops fault_ops = {
    .name = "fault", .send = fault_send, .ack = fault_ack, .kick = fault_kick, .stats = fault_stats, .tell = fault_tell,
    .answer = fault_answer, .close = fault_close
};

struct bus *bus_fault_open(struct loop *loop, const struct bus_address *address, const struct bus_events *events,
                           uint64_t seed, struct err *err)
{
    struct fault_bus *b = mem_zero(1, sizeof *b);
    b->bus.ops = &fault_ops;
    b->loop = loop;
    b->events = *events;
    for (int d = 0; d < BUS_DIRECTIONS; d++) {
        prng_seed(&b->ways[d].prng, seed * BUS_DIRECTIONS + (uint64_t)d);
        list_init(&b->ways[d].held);
    }
    b->release = loop_timer_add(loop, released, b);
    struct bus_events inside = { b, inner_message, inner_link, inner_transport, inner_request };
    b->inner = bus_open(loop, address, &inside, err);
    if (!b->inner) {
        bus_destroy(b);
        return NULL;
    }
    return &b->bus;
}

void bus_fault_set(struct bus *bus, enum bus_direction direction, const struct bus_fault_rates *rates)
{
    fault_of(bus)->ways[direction].rates = rates ? *rates : (struct bus_fault_rates){ 0 };
}

void bus_fault_partition(struct bus *bus, enum bus_direction direction, bool on)
{
    fault_of(bus)->ways[direction].parted = on;
}

void bus_fault_counts(const struct bus *bus, enum bus_direction direction, struct bus_fault_counts *out)
{
    *out = fault_of(bus)->ways[direction].counts;
}
