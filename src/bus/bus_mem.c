/* In one process. Each end has an inbox that a timer of its loop empties, so that nothing is delivered inside a call.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/list.h"
#include "base/mem.h"
#include "bus/bus_impl.h"
#include "io/loop.h"

#define RECONNECT_MS 10 /* a worker that was kicked stays away for so long */

struct mem_bus;

/* A connection between the master and one worker. Each end forgets it when it has told its user that it is over. */
struct link {
    uint64_t session;
    struct mem_bus *master, *worker; /* NULL: that end has forgotten it */
    bool over;                       /* nothing is sent any more; what was sent before is still delivered */
    bool deaf[2];                    /* but not to the end that closed it */
    struct list_node by_master;      /* in master->links */
    size_t queued[2];                /* bytes in the inbox of enum bus_role */
    unsigned waiting;                /* items in inboxes that point here */
};

enum item_kind { ITEM_UP, ITEM_DOWN, ITEM_MESSAGE };
struct item {
    struct list_node node;
    enum item_kind kind;
    struct link *link;
    size_t size;
    char body[];
};

struct hub {
    struct list_node node; /* in hubs */
    char *name;
    struct mem_bus *master;
    struct list_node workers;
    uint64_t sessions; /* numbers given so far */
};

struct mem_bus {
    struct bus bus; /* first: struct bus * is converted back */
    struct loop *loop;
    struct bus_events events;
    enum bus_role role;
    struct hub *hub;
    struct list_node by_hub; /* worker: in hub->workers */
    struct list_node links;  /* master */
    struct link *link;       /* worker: the one that its user knows of, or will be told of */
    struct list_node inbox;
    struct loop_timer *pump, *again;
    uint64_t delivery, links_made;
    struct bus_stats stats;
    unsigned depth;
    bool closed;
};

/* The hubs of this process; they meet by name. */
static struct list_node hubs = { &hubs, &hubs };

static void bus_destroy(struct mem_bus *b);
static const struct bus_ops mem_ops;

static struct mem_bus *mem_of(const struct bus *bus)
{
    check(bus && bus->ops == &mem_ops);
    return (struct mem_bus *)(uintptr_t)bus;
}

static struct hub *hub_get(const char *name)
{
    list_each(node, &hubs)
    {
        struct hub *h = list_entry(node, struct hub, node);
        if (strcmp(h->name, name) == 0)
            return h;
    }
    struct hub *h = mem_zero(1, sizeof *h);
    h->name = mem_str(name);
    list_init(&h->workers);
    list_append(&hubs, &h->node);
    return h;
}

static void hub_put(struct hub *h)
{
    if (h->master || !list_empty(&h->workers))
        return;
    list_remove(&h->node);
    free(h->name);
    free(h);
}

static void inbox_add(struct mem_bus *to, enum item_kind kind, struct link *link, struct bytes body)
{
    struct item *i = mem_alloc(sizeof *i + body.size);
    i->kind = kind;
    i->link = link;
    i->size = body.size;
    if (body.size)
        memcpy(i->body, body.data, body.size);
    link->waiting++;
    link->queued[to->role] += body.size;
    list_append(&to->inbox, &i->node);
    loop_timer_set(to->pump, 0);
}

static void link_free_if_done(struct link *link)
{
    if (!link->master && !link->worker && !link->waiting)
        free(link);
}

static void item_free(struct mem_bus *b, struct item *i)
{
    struct link *link = i->link;
    list_remove(&i->node);
    link->waiting--;
    link->queued[b->role] -= i->size;
    free(i);
    link_free_if_done(link);
}

/* One end closes the link: nothing more comes to it, and both are told. */
static void link_end(struct link *link, enum bus_role by)
{
    link->deaf[by] = true;
    if (link->over)
        return;
    link->over = true;
    inbox_add(link->master, ITEM_DOWN, link, bytes_of("", 0));
    inbox_add(link->worker, ITEM_DOWN, link, bytes_of("", 0));
}

static void link_new(struct mem_bus *worker)
{
    struct hub *h = worker->hub;
    if (!h->master || worker->link)
        return;
    struct link *link = mem_zero(1, sizeof *link);
    link->session = ++h->sessions;
    link->master = h->master;
    link->worker = worker;
    list_append(&h->master->links, &link->by_master);
    worker->link = link;
    inbox_add(h->master, ITEM_UP, link, bytes_of("", 0));
    inbox_add(worker, ITEM_UP, link, bytes_of("", 0));
}

static void link_forget(struct mem_bus *b, struct link *link)
{
    if (b->role == BUS_ROLE_MASTER) {
        list_remove(&link->by_master);
        link->master = NULL;
    } else {
        b->link = NULL;
        link->worker = NULL;
    }
    link_free_if_done(link);
}

static uint64_t session_seen_by(const struct mem_bus *b, const struct link *link)
{
    return b->role == BUS_ROLE_MASTER ? link->session : BUS_MASTER;
}

static void item_handle(struct mem_bus *b, struct item *i)
{
    struct link *link = i->link;
    uint64_t session = session_seen_by(b, link);
    switch (i->kind) {
    case ITEM_MESSAGE:
        if (link->deaf[b->role]) {
            b->stats.dropped++;
            return;
        }
        b->stats.received++;
        b->stats.bytes_received += i->size;
        b->events.on_message(b->events.arg, session, bytes_of(i->body, i->size), ++b->delivery);
        return;
    case ITEM_UP:
        if (b->role == BUS_ROLE_WORKER) {
            b->stats.up = true;
            b->stats.reconnects += b->links_made++ ? 1 : 0;
        }
        b->events.on_link(b->events.arg, session, true);
        return;
    case ITEM_DOWN:
        if (b->role == BUS_ROLE_WORKER) {
            b->stats.up = false;
            loop_timer_set(b->again, RECONNECT_MS);
        }
        link_forget(b, link);
        b->events.on_link(b->events.arg, session, false);
        return;
    }
    check_unreachable();
}

/* Only what was there when it began: what callbacks add waits for the next turn. */
static void pump(void *arg)
{
    struct mem_bus *b = arg;
    struct list_node *last = b->inbox.prev;
    bool more = !list_empty(&b->inbox);
    b->depth++;
    while (more && !b->closed) {
        struct list_node *node = b->inbox.next;
        struct item *i = list_entry(node, struct item, node);
        more = node != last;
        item_handle(b, i);
        item_free(b, i);
    }
    if (!b->closed && !list_empty(&b->inbox))
        loop_timer_set(b->pump, 0);
    if (--b->depth == 0 && b->closed)
        bus_destroy(b);
}

static void again(void *arg)
{
    link_new(arg);
}

static struct link *link_find(const struct mem_bus *b, uint64_t session)
{
    if (b->role == BUS_ROLE_WORKER)
        return session == BUS_MASTER ? b->link : NULL;
    list_each(node, &b->links)
    {
        struct link *link = list_entry(node, struct link, by_master);
        if (link->session == session)
            return link;
    }
    return NULL;
}

static int mem_send(struct bus *bus, uint64_t session, struct bytes body, struct err *err)
{
    struct mem_bus *b = mem_of(bus);
    struct link *link = link_find(b, session);
    if (!link || link->over)
        return err_set(err, ERR_CLOSED, "there is no such session");
    if (body.size > BUS_BODY_MAX)
        return err_set(err, ERR_TOO_LARGE, "a message of %zu bytes; at most %u are allowed", body.size, BUS_BODY_MAX);
    struct mem_bus *to = b->role == BUS_ROLE_MASTER ? link->worker : link->master;
    check(to);
    if (link->queued[to->role] + body.size > BUS_QUEUE_MAX)
        return err_set(err, ERR_FULL, "the peer does not read: %zu bytes wait for it", link->queued[to->role]);
    inbox_add(to, ITEM_MESSAGE, link, body);
    b->stats.sent++;
    b->stats.bytes_sent += body.size;
    return 0;
}

static void mem_ack(struct bus *bus, uint64_t delivery)
{
    (void)mem_of(bus), (void)delivery; /* Memory delivers nothing again. */
}

static void mem_kick(struct bus *bus, uint64_t session)
{
    struct link *link = link_find(mem_of(bus), session);
    if (link)
        link_end(link, mem_of(bus)->role);
}

static void mem_stats(const struct bus *bus, struct bus_stats *out)
{
    *out = mem_of(bus)->stats;
}

static void bus_destroy(struct mem_bus *b)
{
    while (!list_empty(&b->inbox))
        item_free(b, list_entry(b->inbox.next, struct item, node));
    if (b->role == BUS_ROLE_MASTER)
        b->hub->master = NULL;
    else
        list_remove(&b->by_hub);
    hub_put(b->hub);
    loop_timer_remove(b->pump);
    loop_timer_remove(b->again);
    free(b);
}

static void mem_close(struct bus *bus)
{
    struct mem_bus *b = mem_of(bus);
    check(!b->closed);
    b->closed = true;
    list_each_safe(node, &b->links)
    {
        struct link *link = list_entry(node, struct link, by_master);
        link_end(link, b->role);
        link_forget(b, link);
    }
    if (b->link) {
        link_end(b->link, b->role);
        link_forget(b, b->link);
    }
    if (!b->depth)
        bus_destroy(b);
}

static const struct bus_ops mem_ops = {
    .name = "mem", .send = mem_send, .ack = mem_ack, .kick = mem_kick, .stats = mem_stats, .close = mem_close
};

struct bus *bus_mem_open(struct loop *loop, const struct bus_address *address, const char *name,
                         const struct bus_events *events, struct err *err)
{
    struct hub *h = hub_get(name);
    if (address->role == BUS_ROLE_MASTER && h->master) {
        err_set(err, ERR_LOCKED, "another master is at mem:%s", name);
        return NULL;
    }
    struct mem_bus *b = mem_zero(1, sizeof *b);
    b->bus.ops = &mem_ops;
    b->loop = loop;
    b->events = *events;
    b->role = address->role;
    b->hub = h;
    list_init(&b->inbox);
    list_init(&b->links);
    list_init(&b->by_hub);
    b->pump = loop_timer_add(loop, pump, b);
    b->again = loop_timer_add(loop, again, b);
    if (b->role == BUS_ROLE_WORKER) {
        list_append(&h->workers, &b->by_hub);
        link_new(b);
        return &b->bus;
    }
    h->master = b;
    b->stats.up = true;
    list_each(node, &h->workers) link_new(list_entry(node, struct mem_bus, by_hub));
    return &b->bus;
}
