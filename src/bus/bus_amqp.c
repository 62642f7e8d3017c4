/* RabbitMQ: ends on many machines, a broker in the middle (docs/decisions/0031-amqp-sessions.md).
 *
 * Each end has two connections, in threads of their own (rabbit_line.h): one publishes, one consumes. Both are up, or
 * the transport is down, and nothing of it is kept: a session lasts as long as both connections of both its ends. Both
 * go to the same host of the URL; after each failure it is the next one's turn. A third connection of the master takes
 * jobs from others: their queue is replicated and may be without a leader while all else works, so it fails alone.
 *
 * A session is two exclusive queues at the broker that go with their connections: the worker's, named by the broker,
 * and the master's, whose routing key ("instance") is new with each connection. What is sent to a queue that has gone
 * comes back, because everything is published as mandatory: so each end learns that the other has gone.
 *
 *   worker -> any master   knock      its queue and a nonce          the master admits so many in a second
 *   master -> worker       welcome    number and token of the session, or `later` with a time to come again
 *   both                   data       a body of the user's
 *   both                   pulse      nothing: whether the other is there, and credit
 *   both                   bye        the session is over
 *   master -> all workers  beacon     which instance is the master; also comes back to the master itself, on each
 *                                     exchange, which shows that all of them are there and bound
 *   master -> all workers  closing    this instance goes
 *   master -> itself       mark       what a worker sent before its queue went has been read when this comes
 *
 * The broker takes whatever it is given, so a peer that does not read must be seen here: each message carries how many
 * bytes its sender has sent in the session and how far it has read the other's; the difference is what waits. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/prng.h"
#include "bus/bus_impl.h"
#include "bus/rabbit_line.h"
#include "io/clock.h"
#include "io/loop.h"
#include "obs/log.h"

#define SLOTS 16384u        /* workers of one master */
#define OVERHEAD_BYTES 256u /* what a message counts beside its body */
#define CREDIT_BYTES (BUS_QUEUE_MAX / 8)
#define RETRY_MS_MIN 100
#define RETRY_WORKER_MS_MIN 1000
#define RETRY_MS_MAX 10000
#define JOBS_RETRY_MS_MAX 30000
#define SETTLED_MS 5000
#define LOOK_MS 500    /* between looks at all that has a time limit */
#define BEACON_MS 2000 /* floor; grows with the number of workers */
#define BEACON_MS_MAX 20000
#define BEACONS_PER_S 500
#define BEACONS_MISSED 4  /* without any, the other side is gone */
#define KNOCK_MS 3000     /* a knock without an answer is repeated */
#define KNOCKS_MAX 3      /* and after so many all is declared anew */
#define NO_MASTER_MS 3000 /* before the next knock when there is none; a beacon ends the wait */
#define ADMIT_PER_S 100
#define ADMIT_BURST 100
#define LATER_MS_MAX 60000
#define FLUSH_MS 3000
#define LAST_WORDS_MS 2000 /* for what a master that has gone had sent before */
#define KEY_BYTES 256
#define TOPICS 64             /* topics that nobody listens to, as far as that is remembered */
#define EVENTS_FREE_PER_S 500 /* so many are published in any case */
#define DEAF_MS 1000          /* beyond that, a topic that came back is not tried again for so long */

enum { PUBLISH = RABBIT_PUBLISHES, CONSUME = RABBIT_CONSUMES, JOBS = RABBIT_TAKES_JOBS, LINES };

/* What stands in the correlation-id, in hexadecimal. */
struct about {
    uint64_t session, token;
    uint64_t sent; /* bytes sent in this session by its sender, with this message */
    uint64_t read; /* bytes of the other's that it has read */
};
#define ABOUT_DIGITS 64

struct peer {
    uint64_t session; /* the worker's one: as the master numbers it */
    uint64_t token;
    uint64_t nonce;
    char key[KEY_BYTES]; /* routing key to it */
    uint64_t sent, read_by_peer;
    uint64_t read, read_told;
    int64_t heard_ms, pulse_ms;
    bool gone; /* its queue is: nothing to it, but what it sent before may still come */
    int64_t gone_ms;
    bool leaving; /* nothing more from it, nothing to it; on_link(false) is due */
};

/* What a connection has brought, and up to where it is acked. */
struct deliveries {
    uint64_t base; /* delivery = base + tag: numbers are not used again */
    uint64_t last, acked_to;
    bool acked[RABBIT_PREFETCH]; /* beyond the first that is not */
};

struct amqp_bus {
    struct bus bus; /* first: struct bus * is converted back */
    struct loop *loop;
    struct bus_events events;
    enum bus_role role;
    char *name;
    struct prng prng;
    struct rabbit_line *lines[LINES]; /* a worker has none for jobs */
    struct rabbit_target target;

    /* The transport. */
    uint64_t generation;
    unsigned host; /* of this generation, or of the next when it is given up */
    bool line_over[LINES];
    bool up, blocked, told_transport;
    bool deaf;     /* master: what it sends to itself does not come back soon: nobody can be heard */
    bool given_up; /* this generation: it has been told why, and what its lines say about it is of no interest */
    int64_t up_since_ms;
    unsigned attempts;
    struct loop_timer *again, *look, *work;
    char queue[KEY_BYTES];            /* ours */
    char instance[40];                /* master: ours; worker: of the last beacon or welcome */
    char told[RABBIT_HOSTS_MAX][320]; /* why the transport, or the way to the master, is down there: said once */
    struct deliveries in;

    /* Master: workers by slot; session = serial * SLOTS + slot. */
    struct peer **peers;
    size_t peers_count, slot_hint;
    uint64_t serial;
    int64_t beacon_due_ms, self_heard_ms[3];
    int64_t admitted_ms; /* up to when the admissions have been given away */
    int64_t later_ms;    /* and the times to knock again */

    uint64_t jobs_generation;
    bool jobs_up;
    unsigned jobs_attempts;
    struct loop_timer *jobs_again;
    struct deliveries jobs_in;
    char jobs_told[320];
    struct list_node requests;
    struct {
        char name[40];
        int64_t returned_ms;
    } topics[TOPICS];
    int64_t events_second;
    unsigned events_count; /* in that second */

    /* Worker. */
    struct peer *master; /* NULL: no session */
    uint64_t nonce;
    int64_t knock_due_ms; /* 0: none is due */
    unsigned knocks;      /* unanswered */
    int64_t beacon_heard_ms, beacon_every_ms;

    struct bus_stats stats;
    uint64_t lost;
    bool linked_before;
    unsigned depth; /* callbacks of ours that are on the stack */
    bool closed;
};

/* A job from somebody who is no worker; not acked before it is answered. */
struct request {
    struct list_node node;
    uint64_t number; /* the delivery's */
    char reply_to[KEY_BYTES], about[KEY_BYTES];
};

static const struct bus_ops amqp_ops;
static void bus_destroy(struct amqp_bus *b);

static struct amqp_bus *amqp_of(const struct bus *bus)
{
    check(bus && bus->ops == &amqp_ops);
    return (struct amqp_bus *)(uintptr_t)bus;
}

static void enter(struct amqp_bus *b)
{
    b->depth++;
}

static void leave(struct amqp_bus *b)
{
    check(b->depth > 0);
    if (--b->depth == 0 && b->closed)
        bus_destroy(b);
}

static uint64_t random_u64(void)
{
    uint64_t n = 0;
    check(getrandom(&n, sizeof n, 0) == sizeof n);
    return n;
}

/* --- labels --- */

static void about_print(char *out, size_t size, const struct about *a)
{
    snprintf(out, size, "%016llx%016llx%016llx%016llx", (unsigned long long)a->session, (unsigned long long)a->token,
             (unsigned long long)a->sent, (unsigned long long)a->read);
}

static bool about_parse(const char *text, struct about *a)
{
    uint64_t *const numbers[] = { &a->session, &a->token, &a->sent, &a->read };
    if (strlen(text) != ABOUT_DIGITS || strspn(text, "0123456789abcdef") != ABOUT_DIGITS)
        return false;
    for (size_t i = 0; i < 4; i++) {
        char part[17] = { 0 };
        memcpy(part, text + 16 * i, 16);
        *numbers[i] = strtoull(part, NULL, 16);
    }
    return true;
}

static bool hex_parse(const char *text, uint64_t *out)
{
    if (strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
        return false;
    *out = strtoull(text, NULL, 16);
    return true;
}

static bool type_is(const struct rabbit_note *n, const char *type)
{
    return strcmp(n->label.type, type) == 0;
}

/* --- sending --- */

static const char *exchange_to_peer(const struct amqp_bus *b)
{
    return b->role == BUS_ROLE_MASTER ? RABBIT_DISPATCH : RABBIT_REPORT;
}

static bool put(struct amqp_bus *b, struct rabbit_out *o)
{
    if (b->up && rabbit_line_put(b->lines[PUBLISH], o))
        return true;
    free(o);
    return false;
}

static bool say_to(struct amqp_bus *b, struct peer *p, const char *type, struct bytes body, const char *reply_to)
{
    struct rabbit_out *o = rabbit_out_new(exchange_to_peer(b), p->key, type, body);
    struct about about = { p->session, p->token, p->sent + body.size + OVERHEAD_BYTES, p->read };
    about_print(o->label.about, sizeof o->label.about, &about);
    snprintf(o->label.reply_to, sizeof o->label.reply_to, "%s", reply_to);
    if (p->gone) {
        free(o);
        return false;
    }
    if (!put(b, o))
        return false;
    p->sent = about.sent;
    p->read_told = p->read;
    p->pulse_ms = clock_now_ms();
    return true;
}

static struct bytes nothing(void)
{
    return bytes_of("", 0);
}

/* --- sessions: both sides --- */

static struct peer *peer_find(const struct amqp_bus *b, uint64_t session)
{
    if (b->role == BUS_ROLE_WORKER)
        return session == BUS_MASTER ? b->master : NULL;
    struct peer *p = b->peers[session % SLOTS];
    return p && p->session == session ? p : NULL;
}

static struct peer *peer_by_key(const struct amqp_bus *b, const char *key)
{
    if (b->role == BUS_ROLE_WORKER)
        return b->master && strcmp(b->master->key, key) == 0 ? b->master : NULL;
    for (size_t slot = 0, seen = 0; seen < b->peers_count; slot++) {
        if (!b->peers[slot])
            continue;
        seen++;
        if (!b->peers[slot]->leaving && strcmp(b->peers[slot]->key, key) == 0)
            return b->peers[slot];
    }
    return NULL;
}

static void work_soon(struct amqp_bus *b)
{
    loop_timer_set(b->work, 0);
}

static void peer_leave(struct amqp_bus *b, struct peer *p)
{
    if (p->leaving)
        return;
    p->leaving = true;
    work_soon(b);
}

static void knock_in(struct amqp_bus *b, int64_t delay_ms)
{
    int64_t due_ms = clock_now_ms() + delay_ms;
    b->knock_due_ms = due_ms;
    if (delay_ms < LOOK_MS)
        loop_timer_set(b->look, delay_ms);
}

/* Tells the user of a session that is over. The user may do anything then. */
static void peer_end(struct amqp_bus *b, struct peer *p)
{
    uint64_t session = BUS_MASTER;
    if (b->role == BUS_ROLE_MASTER) {
        session = p->session;
        b->peers[session % SLOTS] = NULL;
        b->peers_count--;
    } else {
        b->master = NULL;
        b->stats.up = false;
        if (b->up)
            knock_in(b, prng_between(&b->prng, 0, 100));
    }
    free(p);
    b->events.on_link(b->events.arg, session, false);
}

static bool transport_works(const struct amqp_bus *b)
{
    return b->up && !b->blocked && !b->deaf;
}

static void work(void *arg)
{
    struct amqp_bus *b = arg;
    enter(b);
    if (b->role == BUS_ROLE_WORKER && b->master && b->master->leaving)
        peer_end(b, b->master);
    size_t slots = b->role == BUS_ROLE_MASTER ? SLOTS : 0;
    for (size_t slot = 0; slot < slots && !b->closed && b->peers_count; slot++)
        if (b->peers[slot] && b->peers[slot]->leaving)
            peer_end(b, b->peers[slot]);
    if (!b->closed && b->events.on_transport && b->role == BUS_ROLE_MASTER && b->told_transport != transport_works(b)) {
        b->told_transport = !b->told_transport;
        b->events.on_transport(b->events.arg, b->told_transport);
    }
    leave(b);
}

/* Whatever was sent before and did not arrive is gone by now: all counts go by what the sender says it has sent. */
static void peer_heard(struct amqp_bus *b, struct peer *p, const struct about *a)
{
    p->heard_ms = clock_now_ms();
    if (a->read > p->read_by_peer && a->read <= p->sent)
        p->read_by_peer = a->read;
    if (a->sent > p->read)
        p->read = a->sent;
    if (p->read - p->read_told >= CREDIT_BYTES)
        say_to(b, p, "pulse", nothing(), "");
}

/* --- the transport --- */

/* False: that was the last thing said of it. */
static bool news(char told[320], const struct err *why)
{
    char text[320];
    snprintf(text, sizeof text, "%s%s%s", why->text, why->remedy[0] ? "; " : "", why->remedy);
    if (strcmp(told, text) == 0)
        return false;
    memcpy(told, text, sizeof text);
    return true;
}

static void tell(struct amqp_bus *b, const struct err *why)
{
    char *told = b->told[b->host];
    if (news(told, why))
        log_warn("bus: no way to the %s, trying on: %s", b->role == BUS_ROLE_MASTER ? "workers" : "master", told);
}

static void all_leave(struct amqp_bus *b)
{
    if (b->master)
        peer_leave(b, b->master);
    for (size_t slot = 0; b->role == BUS_ROLE_MASTER && slot < SLOTS; slot++)
        if (b->peers[slot])
            peer_leave(b, b->peers[slot]);
}

static void connect_again(struct amqp_bus *b)
{
    /* Workers are many: they spread from the first time on, or the broker would sign in all of them at once. */
    int64_t first_ms = b->role == BUS_ROLE_MASTER ? RETRY_MS_MIN : RETRY_WORKER_MS_MIN;
    unsigned rounds = b->attempts++ / b->target.hosts_count;
    int64_t limit_ms = first_ms << (rounds < 8 ? rounds : 8);
    loop_timer_set(b->again, prng_between(&b->prng, 1, limit_ms < RETRY_MS_MAX ? limit_ms : RETRY_MS_MAX));
}

static void transport_down(struct amqp_bus *b, const struct err *why)
{
    bool was_up = b->up;
    b->up = b->blocked = b->deaf = false;
    b->knock_due_ms = 0;
    if (b->given_up)
        return;
    b->given_up = true;
    tell(b, why);
    b->host = (b->host + 1) % b->target.hosts_count;
    if (b->role == BUS_ROLE_MASTER)
        b->stats.up = false;
    if (was_up && clock_now_ms() - b->up_since_ms >= SETTLED_MS)
        b->attempts = 0;
    all_leave(b);
    for (int i = 0; i < LINES; i++)
        if (b->lines[i])
            rabbit_line_drop(b->lines[i]);
    work_soon(b);
}

static void deliveries_begin(struct deliveries *d)
{
    d->base += d->last;
    d->last = d->acked_to = 0;
    memset(d->acked, 0, sizeof d->acked);
}

/* False: the broker numbers wrongly. */
static bool deliveries_add(struct deliveries *d, uint64_t tag)
{
    if (tag != d->last + 1)
        return false;
    d->last = tag;
    return true;
}

static void deliveries_ack(struct deliveries *d, uint64_t number, struct rabbit_line *line)
{
    uint64_t tag = number - d->base, before = d->acked_to;
    if (number <= d->base || tag <= d->acked_to || tag > d->last)
        return;
    d->acked[tag % RABBIT_PREFETCH] = true;
    while (d->acked_to < d->last && d->acked[(d->acked_to + 1) % RABBIT_PREFETCH]) {
        d->acked_to++;
        d->acked[d->acked_to % RABBIT_PREFETCH] = false;
    }
    if (d->acked_to != before)
        rabbit_line_ack(line, d->acked_to);
}

static void again(void *arg)
{
    struct amqp_bus *b = arg;
    b->generation++;
    b->given_up = false;
    deliveries_begin(&b->in);
    if (b->role == BUS_ROLE_MASTER)
        snprintf(b->instance, sizeof b->instance, "m-%016llx%016llx", (unsigned long long)random_u64(),
                 (unsigned long long)random_u64());
    /* The one that consumes comes second: what it brings can be answered then. */
    b->line_over[PUBLISH] = false;
    b->line_over[CONSUME] = true;
    rabbit_line_connect(b->lines[PUBLISH], b->generation, b->host, b->instance);
}

static void requests_forget(struct amqp_bus *b)
{
    while (!list_empty(&b->requests)) {
        struct request *r = list_entry(b->requests.next, struct request, node);
        list_remove(&r->node);
        free(r);
    }
}

static void jobs_again(void *arg)
{
    struct amqp_bus *b = arg;
    if (!b->up || !b->line_over[JOBS])
        return;
    requests_forget(b); /* The broker brings them again. */
    deliveries_begin(&b->jobs_in);
    b->line_over[JOBS] = false;
    rabbit_line_connect(b->lines[JOBS], ++b->jobs_generation, b->host, b->instance);
}

static void jobs_over(struct amqp_bus *b, const struct rabbit_note *n)
{
    b->line_over[JOBS] = true;
    if (b->jobs_up)
        b->jobs_attempts = 0;
    b->jobs_up = false;
    if (!b->up)
        return; /* It goes with the rest, and comes back with it. */
    if (n->err.code && news(b->jobs_told, &n->err))
        log_warn("bus: jobs sent to the broker's queue " RABBIT_SUBMIT " wait, trying on: %s", b->jobs_told);
    int64_t limit_ms = 500ll << (b->jobs_attempts < 8 ? b->jobs_attempts : 8);
    b->jobs_attempts++;
    loop_timer_set(b->jobs_again,
                   prng_between(&b->prng, 1, limit_ms < JOBS_RETRY_MS_MAX ? limit_ms : JOBS_RETRY_MS_MAX));
}

static void jobs_are_up(struct amqp_bus *b)
{
    b->jobs_up = true;
    if (b->jobs_told[0])
        log_info("bus: jobs are taken from the broker's queue " RABBIT_SUBMIT " again");
    b->jobs_told[0] = 0;
}

static void told_forget(struct amqp_bus *b)
{
    for (size_t i = 0; i < RABBIT_HOSTS_MAX; i++)
        b->told[i][0] = 0;
}

static void line_is_up(struct amqp_bus *b, const struct rabbit_note *n)
{
    if (b->given_up)
        return;
    const struct rabbit_host *host = &b->target.hosts[b->host];
    if (n->task == PUBLISH) {
        b->line_over[CONSUME] = false;
        rabbit_line_connect(b->lines[CONSUME], b->generation, b->host, b->instance);
        return;
    }
    snprintf(b->queue, sizeof b->queue, "%s", n->key);
    int64_t now_ms = clock_now_ms();
    b->up = true;
    b->up_since_ms = now_ms;
    if (b->role == BUS_ROLE_MASTER) {
        b->stats.up = true;
        b->stats.reconnects += b->linked_before;
        b->linked_before = true;
        log_info("bus: connected to the broker, workers may come: broker=%s:%u", host->name, host->port);
        told_forget(b);
        b->beacon_due_ms = now_ms;
        for (size_t i = 0; i < 3; i++)
            b->self_heard_ms[i] = now_ms;
        loop_timer_set(b->look, 0);
        b->jobs_attempts = 0;
        loop_timer_set(b->jobs_again, 0);
    } else {
        log_info("bus: connected to the broker, looking for the master: broker=%s:%u", host->name, host->port);
        b->beacon_heard_ms = now_ms;
        b->beacon_every_ms = BEACON_MS;
        b->nonce = random_u64();
        b->knocks = 0;
        knock_in(b, prng_between(&b->prng, 0, 50));
    }
    work_soon(b);
}

static void line_is_over(struct amqp_bus *b, const struct rabbit_note *n)
{
    b->line_over[n->task] = true;
    struct err why = n->err;
    if (!why.code)
        err_set(&why, ERR_CLOSED, "the connection to the broker was closed");
    transport_down(b, &why);
    if (b->line_over[PUBLISH] && b->line_over[CONSUME])
        connect_again(b);
}

static void reset(struct amqp_bus *b, const char *text)
{
    struct err why = { 0 };
    err_field(&why, ERR_CLOSED, "bus", "nothing to do: it is declared again", "%s", text);
    transport_down(b, &why);
}

/* --- the master --- */

static int64_t beacon_every_ms(const struct amqp_bus *b)
{
    int64_t ms = (int64_t)b->peers_count * 1000 / BEACONS_PER_S;
    return ms < BEACON_MS ? BEACON_MS : ms > BEACON_MS_MAX ? BEACON_MS_MAX : ms;
}

static void beacon(struct amqp_bus *b)
{
    static const char *const exchanges[3] = { RABBIT_CONTROL, RABBIT_DISPATCH, RABBIT_REPORT };
    char every[17];
    snprintf(every, sizeof every, "%016llx", (unsigned long long)beacon_every_ms(b));
    for (size_t i = 0; i < 3; i++) {
        struct rabbit_out *o = rabbit_out_new(exchanges[i], i ? b->instance : "", "beacon", nothing());
        memcpy(o->label.about, every, sizeof every);
        o->label.about[16] = (char)('0' + i);
        o->label.about[17] = 0;
        snprintf(o->label.reply_to, sizeof o->label.reply_to, "%s", b->instance);
        put(b, o);
    }
}

/* Milliseconds until this worker should knock again; 0: it is let in. Only those who are let in use up what there is of
 * admissions; the others are spread over the time in which there will be more. */
static int64_t admission(struct amqp_bus *b, int64_t now_ms)
{
    const int64_t each_ms = 1000 / ADMIT_PER_S, burst_ms = ADMIT_BURST * each_ms;
    if (b->admitted_ms < now_ms - burst_ms)
        b->admitted_ms = now_ms - burst_ms;
    if (b->admitted_ms + each_ms <= now_ms) {
        b->admitted_ms += each_ms;
        return 0;
    }
    if (b->later_ms < now_ms)
        b->later_ms = now_ms;
    b->later_ms += each_ms;
    if (b->later_ms - now_ms > LATER_MS_MAX)
        b->later_ms = now_ms + each_ms;
    return b->later_ms - now_ms;
}

static void answer_later(struct amqp_bus *b, const struct rabbit_note *n, int64_t delay_ms)
{
    struct rabbit_out *o = rabbit_out_new(RABBIT_DISPATCH, n->label.reply_to, "later", nothing());
    snprintf(o->label.about, sizeof o->label.about, "%016llx", (unsigned long long)delay_ms);
    put(b, o);
}

static struct peer *peer_new(struct amqp_bus *b, const char *key, uint64_t nonce)
{
    size_t slot = b->slot_hint;
    while (b->peers[slot])
        slot = (slot + 1) % SLOTS;
    b->slot_hint = (slot + 1) % SLOTS;
    struct peer *p = mem_zero(1, sizeof *p);
    p->session = ++b->serial * SLOTS + slot;
    p->token = random_u64();
    p->nonce = nonce;
    snprintf(p->key, sizeof p->key, "%s", key);
    p->heard_ms = p->pulse_ms = clock_now_ms();
    b->peers[slot] = p;
    b->peers_count++;
    return p;
}

static void welcome(struct amqp_bus *b, struct peer *p)
{
    char nonce[17];
    snprintf(nonce, sizeof nonce, "%016llx", (unsigned long long)p->nonce);
    say_to(b, p, "welcome", bytes_of(nonce, 16), b->instance);
}

static void on_knock(struct amqp_bus *b, const struct rabbit_note *n)
{
    uint64_t nonce;
    if (!n->label.reply_to[0] || !hex_parse(n->label.about, &nonce)) {
        b->stats.refused++;
        return;
    }
    struct peer *p = peer_by_key(b, n->label.reply_to);
    if (p && p->nonce == nonce) { /* Our answer was late or lost. */
        welcome(b, p);
        return;
    }
    int64_t delay_ms = admission(b, clock_now_ms());
    if (delay_ms > 0 || b->peers_count >= SLOTS - 1) {
        answer_later(b, n, delay_ms > 0 ? delay_ms : 5000);
        return;
    }
    if (p)
        peer_leave(b, p);
    p = peer_new(b, n->label.reply_to, nonce);
    welcome(b, p);
    b->events.on_link(b->events.arg, p->session, true);
}

static void on_own_beacon(struct amqp_bus *b, const struct rabbit_note *n)
{
    size_t which = strlen(n->label.about) == 17 ? (size_t)(n->label.about[16] - '0') : 3;
    if (which < 3 && strcmp(n->label.reply_to, b->instance) == 0)
        b->self_heard_ms[which] = clock_now_ms();
}

static void master_look(struct amqp_bus *b, int64_t now_ms)
{
    int64_t every_ms = beacon_every_ms(b);
    if (now_ms >= b->beacon_due_ms) {
        b->beacon_due_ms = now_ms + every_ms;
        beacon(b);
    }
    int64_t oldest_ms = now_ms;
    for (size_t i = 0; i < 3; i++)
        oldest_ms = b->self_heard_ms[i] < oldest_ms ? b->self_heard_ms[i] : oldest_ms;
    if (!b->blocked && now_ms - oldest_ms > BEACONS_MISSED * every_ms + 4000) {
        reset(b, "what the master sends to itself does not come back");
        return;
    }
    b->deaf = now_ms - oldest_ms > every_ms * 3 / 2 + 1000;
    if (b->told_transport != transport_works(b))
        work_soon(b);
    for (size_t slot = 0, seen = 0; seen < b->peers_count; slot++) {
        struct peer *p = b->peers[slot];
        seen += p != NULL;
        if (p && !p->leaving && now_ms - p->heard_ms >= every_ms && now_ms - p->pulse_ms >= every_ms)
            say_to(b, p, "pulse", nothing(), "");
    }
}

/* --- the worker --- */

static void knock(struct amqp_bus *b)
{
    if (++b->knocks > KNOCKS_MAX) {
        reset(b, "the master does not answer");
        return;
    }
    struct rabbit_out *o = rabbit_out_new(RABBIT_REPORT, RABBIT_ANY_MASTER, "knock", bytes_str(b->name));
    snprintf(o->label.about, sizeof o->label.about, "%016llx", (unsigned long long)b->nonce);
    snprintf(o->label.reply_to, sizeof o->label.reply_to, "%s", b->queue);
    put(b, o);
    knock_in(b, KNOCK_MS);
}

static void on_welcome(struct amqp_bus *b, const struct rabbit_note *n, const struct about *a)
{
    uint64_t nonce;
    char text[17] = { 0 };
    if (n->body.size != 16 || !n->label.reply_to[0])
        return;
    memcpy(text, n->body.data, 16);
    if (b->master || !hex_parse(text, &nonce) || nonce != b->nonce)
        return; /* Of a knock that is no more. */
    struct peer *p = mem_zero(1, sizeof *p);
    p->session = a->session;
    p->token = a->token;
    snprintf(p->key, sizeof p->key, "%s", n->label.reply_to);
    p->heard_ms = p->pulse_ms = clock_now_ms();
    p->read = a->sent;
    b->master = p;
    b->nonce = random_u64(); /* Of the next session. */
    b->knock_due_ms = 0;
    b->knocks = 0;
    b->attempts = 0;
    snprintf(b->instance, sizeof b->instance, "%.39s", n->label.reply_to);
    told_forget(b);
    b->stats.up = true;
    b->stats.reconnects += b->linked_before;
    b->linked_before = true;
    b->events.on_link(b->events.arg, BUS_MASTER, true);
}

static void on_beacon(struct amqp_bus *b, const struct rabbit_note *n)
{
    uint64_t every_ms;
    char text[17] = { 0 };
    memcpy(text, n->label.about, 16);
    if (!hex_parse(text, &every_ms) || every_ms < 1 || every_ms > 600000)
        return;
    b->beacon_every_ms = (int64_t)every_ms;
    b->beacon_heard_ms = clock_now_ms();
    if (b->master && strcmp(b->master->key, n->label.reply_to) != 0)
        peer_leave(b, b->master); /* The master has come back as another instance. */
    else if (b->master)
        b->master->heard_ms = b->beacon_heard_ms;
    else if (b->knock_due_ms && !b->knocks)
        knock_in(b, prng_between(&b->prng, 0, 200)); /* It had waited because there was none. */
}

static void on_closing(struct amqp_bus *b, const struct rabbit_note *n)
{
    if (b->master && strcmp(b->master->key, n->label.reply_to) == 0)
        peer_leave(b, b->master);
}

static void on_later(struct amqp_bus *b, const struct rabbit_note *n)
{
    uint64_t delay_ms;
    if (b->master || !hex_parse(n->label.about, &delay_ms) || delay_ms > 600000)
        return;
    b->knocks = 0;
    knock_in(b, (int64_t)delay_ms + prng_between(&b->prng, 0, 20));
}

static void no_master(struct amqp_bus *b)
{
    struct err why = { 0 };
    err_field(&why, ERR_UNAVAILABLE, "bus", "start rota master with this --bus",
              "no master is connected to the broker's virtual host");
    tell(b, &why);
    b->knocks = 0;
    knock_in(b, prng_between(&b->prng, NO_MASTER_MS / 2, NO_MASTER_MS));
}

static void worker_look(struct amqp_bus *b, int64_t now_ms)
{
    if (b->master && !b->master->leaving && now_ms - b->master->heard_ms > BEACONS_MISSED * b->beacon_every_ms) {
        log_info("bus: nothing is heard of the master");
        peer_leave(b, b->master);
    }
    if (b->master && b->master->gone && now_ms - b->master->gone_ms > LAST_WORDS_MS)
        peer_leave(b, b->master);
    if (b->knock_due_ms && now_ms >= b->knock_due_ms)
        knock(b);
}

/* --- what lines tell --- */

static void deliver(struct amqp_bus *b, struct peer *p, const struct rabbit_note *n, uint64_t delivery)
{
    b->stats.received++;
    b->stats.bytes_received += n->body.size;
    uint64_t session = b->role == BUS_ROLE_MASTER ? p->session : BUS_MASTER;
    b->events.on_message(b->events.arg, session, buf_bytes(&n->body), delivery);
}

/* Its queue has gone, and with it the peer. What it sent before is still on its way: to a master in the one queue where
 * all comes, so a mark in it tells when; a worker waits a while for the master's `closing`. */
static void peer_gone(struct amqp_bus *b, struct peer *p)
{
    if (p->gone || p->leaving)
        return;
    if (b->role == BUS_ROLE_MASTER) {
        struct rabbit_out *o = rabbit_out_new(RABBIT_REPORT, b->instance, "mark", nothing());
        about_print(o->label.about, sizeof o->label.about, &(struct about){ p->session, p->token, 0, 0 });
        if (!put(b, o))
            peer_leave(b, p);
    }
    p->gone = true;
    p->gone_ms = clock_now_ms();
}

/* Of a session that is. True: it is `data`, and the user's to ack. */
static bool session_message(struct amqp_bus *b, const struct rabbit_note *n, const struct about *a, uint64_t delivery)
{
    struct peer *p = b->role == BUS_ROLE_WORKER ? b->master : peer_find(b, a->session);
    if (!p || p->leaving || p->session != a->session || p->token != a->token) {
        b->stats.dropped += type_is(n, "data");
        return false;
    }
    if (type_is(n, "mark")) {
        if (p->gone)
            peer_leave(b, p);
        return false;
    }
    peer_heard(b, p, a);
    if (type_is(n, "data")) {
        deliver(b, p, n, delivery);
        return true;
    }
    if (type_is(n, "bye"))
        peer_leave(b, p);
    return false;
}

static void master_message(struct amqp_bus *b, const struct rabbit_note *n)
{
    if (type_is(n, "knock"))
        on_knock(b, n);
    else if (type_is(n, "beacon"))
        on_own_beacon(b, n);
}

static void worker_message(struct amqp_bus *b, const struct rabbit_note *n, const struct about *a)
{
    if (type_is(n, "welcome") && a)
        on_welcome(b, n, a);
    else if (type_is(n, "later"))
        on_later(b, n);
    else if (type_is(n, "beacon"))
        on_beacon(b, n);
    else if (type_is(n, "closing"))
        on_closing(b, n);
}

static void on_job(struct amqp_bus *b, const struct rabbit_note *n)
{
    if (!deliveries_add(&b->jobs_in, n->tag)) {
        rabbit_line_drop(b->lines[JOBS]);
        return;
    }
    if (!b->events.on_request)
        return;
    struct request *r = mem_zero(1, sizeof *r);
    r->number = b->jobs_in.base + n->tag;
    memcpy(r->reply_to, n->label.reply_to, sizeof r->reply_to);
    memcpy(r->about, n->label.about, sizeof r->about);
    list_append(&b->requests, &r->node);
    b->events.on_request(b->events.arg, r->number, n->label.user, n->label.key, buf_bytes(&n->body));
}

static void on_message(struct amqp_bus *b, const struct rabbit_note *n)
{
    if (!deliveries_add(&b->in, n->tag)) {
        reset(b, "the broker numbers its deliveries wrongly");
        return;
    }
    uint64_t delivery = b->in.base + n->tag;
    struct about about;
    bool has_about = about_parse(n->label.about, &about);
    bool users = false;
    if (has_about && (type_is(n, "data") || type_is(n, "pulse") || type_is(n, "bye") || type_is(n, "mark")))
        users = session_message(b, n, &about, delivery);
    else if (b->role == BUS_ROLE_MASTER)
        master_message(b, n);
    else
        worker_message(b, n, has_about ? &about : NULL);
    if (!users && !b->closed)
        deliveries_ack(&b->in, delivery, b->lines[CONSUME]);
}

static void topic_deaf(struct amqp_bus *b, const char *topic)
{
    size_t at = 0;
    for (size_t i = 0; i < TOPICS; i++) {
        if (strcmp(b->topics[i].name, topic) == 0) {
            at = i;
            break;
        }
        if (b->topics[i].returned_ms < b->topics[at].returned_ms)
            at = i;
    }
    snprintf(b->topics[at].name, sizeof b->topics[at].name, "%s", topic);
    b->topics[at].returned_ms = clock_now_ms();
}

static void on_returned(struct amqp_bus *b, const struct rabbit_note *n)
{
    if (type_is(n, "event")) {
        topic_deaf(b, n->key);
        return;
    }
    if (type_is(n, "beacon")) {
        if (strcmp(n->label.reply_to, b->instance) == 0)
            reset(b, "the master's queue is not bound any more");
        return;
    }
    if (type_is(n, "knock")) {
        if (!b->master)
            no_master(b);
        return;
    }
    struct about about;
    struct peer *p = peer_by_key(b, n->key);
    if (p && about_parse(n->label.about, &about) && about.session == p->session) {
        b->stats.dropped += type_is(n, "data");
        peer_gone(b, p);
    }
}

static void on_blocked(struct amqp_bus *b, const struct rabbit_note *n)
{
    b->blocked = n->kind == RABBIT_BLOCKED;
    if (b->blocked)
        log_warn("bus: the broker takes no messages: %s; give it memory or disk (rabbitmqctl status shows its alarms)",
                 n->key);
    else
        log_info("bus: the broker takes messages again");
    for (size_t i = 0; i < 3; i++)
        b->self_heard_ms[i] = clock_now_ms();
    work_soon(b);
}

static void jobs_note(struct amqp_bus *b, const struct rabbit_note *n)
{
    if (n->generation != b->jobs_generation)
        return;
    if (n->kind == RABBIT_DOWN)
        jobs_over(b, n);
    else if (b->up && n->kind == RABBIT_UP)
        jobs_are_up(b);
    else if (b->up && n->kind == RABBIT_MESSAGE)
        on_job(b, n);
}

static void transport_note(struct amqp_bus *b, const struct rabbit_note *n)
{
    if (n->generation != b->generation)
        return;
    if (n->kind == RABBIT_DOWN)
        line_is_over(b, n);
    else if (n->kind == RABBIT_UP)
        line_is_up(b, n);
    else if (!b->up)
        ; /* Of a connection that is given up. */
    else if (n->kind == RABBIT_MESSAGE)
        on_message(b, n);
    else if (n->kind == RABBIT_RETURNED)
        on_returned(b, n);
    else if (n->kind == RABBIT_LOST)
        b->stats.dropped++;
    else
        on_blocked(b, n);
}

static void on_note(void *arg, struct rabbit_note *n)
{
    struct amqp_bus *b = arg;
    enter(b);
    if (n->task == JOBS)
        jobs_note(b, n);
    else
        transport_note(b, n);
    rabbit_note_free(n);
    leave(b);
}

static void look(void *arg)
{
    struct amqp_bus *b = arg;
    int64_t now_ms = clock_now_ms();
    enter(b);
    loop_timer_set(b->look, LOOK_MS);
    for (int i = 0; i < LINES; i++)
        if (b->lines[i])
            rabbit_line_watch(b->lines[i]);
    if (b->up && b->role == BUS_ROLE_MASTER)
        master_look(b, now_ms);
    else if (b->up)
        worker_look(b, now_ms);
    leave(b);
}

/* --- the port --- */

static int amqp_send(struct bus *bus, uint64_t session, struct bytes body, struct err *err)
{
    struct amqp_bus *b = amqp_of(bus);
    struct peer *p = peer_find(b, session);
    if (!p || p->leaving || p->gone || !b->up)
        return err_set(err, ERR_CLOSED,
                       session == BUS_MASTER ? "there is no connection to the master"
                                             : "the worker's connection is gone");
    if (body.size > BUS_BODY_MAX)
        return err_set(err, ERR_TOO_LARGE, "a message of %zu bytes; at most %u are allowed", body.size, BUS_BODY_MAX);
    uint64_t waits = p->sent - p->read_by_peer;
    if (waits + body.size + OVERHEAD_BYTES > BUS_QUEUE_MAX)
        return err_set(err, ERR_FULL, "the peer does not read: %llu bytes wait for it", (unsigned long long)waits);
    if (!say_to(b, p, "data", body, ""))
        return err_set(err, ERR_FULL, "the broker does not take what is sent");
    b->stats.sent++;
    b->stats.bytes_sent += body.size;
    return 0;
}

static void amqp_ack(struct bus *bus, uint64_t delivery)
{
    struct amqp_bus *b = amqp_of(bus);
    deliveries_ack(&b->in, delivery, b->lines[CONSUME]);
}

static void amqp_kick(struct bus *bus, uint64_t session)
{
    struct amqp_bus *b = amqp_of(bus);
    struct peer *p = peer_find(b, session);
    if (!p || p->leaving)
        return;
    say_to(b, p, "bye", nothing(), "");
    peer_leave(b, p);
}

static void amqp_stats(const struct bus *bus, struct bus_stats *out)
{
    const struct amqp_bus *b = amqp_of(bus);
    *out = b->stats;
    out->dropped += rabbit_line_dropped(b->lines[PUBLISH]);
    out->up = out->up && !b->blocked && !b->deaf;
}

/* Whether it is worth a message: always while there are few; when there are many, only if somebody listened lately. */
static bool topic_wanted(struct amqp_bus *b, const char *topic)
{
    int64_t now_ms = clock_now_ms();
    if (b->events_second != now_ms / 1000) {
        b->events_second = now_ms / 1000;
        b->events_count = 0;
    }
    if (b->events_count++ < EVENTS_FREE_PER_S)
        return true;
    for (size_t i = 0; i < TOPICS; i++)
        if (strcmp(b->topics[i].name, topic) == 0)
            return now_ms - b->topics[i].returned_ms > DEAF_MS;
    return true;
}

static void amqp_tell(struct bus *bus, const char *topic, struct bytes json)
{
    struct amqp_bus *b = amqp_of(bus);
    if (b->role != BUS_ROLE_MASTER || !b->up || b->blocked || rabbit_line_busy(b->lines[PUBLISH]) ||
        !topic_wanted(b, topic))
        return;
    put(b, rabbit_out_new(RABBIT_EVENTS, topic, "event", json));
}

static void amqp_answer(struct bus *bus, uint64_t request, struct bytes json)
{
    struct amqp_bus *b = amqp_of(bus);
    list_each(node, &b->requests)
    {
        struct request *r = list_entry(node, struct request, node);
        if (r->number != request)
            continue;
        if (r->reply_to[0]) {
            struct rabbit_out *o = rabbit_out_new("", r->reply_to, "answer", json);
            memcpy(o->label.about, r->about, sizeof o->label.about);
            o->optional = true; /* Whoever asked may have gone. */
            put(b, o);
        }
        deliveries_ack(&b->jobs_in, request, b->lines[JOBS]);
        list_remove(&r->node);
        free(r);
        return;
    }
}

static void say_good_bye(struct amqp_bus *b)
{
    if (b->master && !b->master->leaving) {
        say_to(b, b->master, "bye", nothing(), "");
    } else if (b->role == BUS_ROLE_MASTER) {
        struct rabbit_out *o = rabbit_out_new(RABBIT_CONTROL, "", "closing", nothing());
        snprintf(o->label.reply_to, sizeof o->label.reply_to, "%s", b->instance);
        o->optional = true;
        put(b, o);
    }
}

static void bus_destroy(struct amqp_bus *b)
{
    loop_timer_remove(b->again);
    loop_timer_remove(b->look);
    loop_timer_remove(b->work);
    loop_timer_remove(b->jobs_again);
    for (size_t slot = 0; b->peers && slot < SLOTS; slot++)
        free(b->peers[slot]);
    requests_forget(b);
    free(b->peers);
    free(b->master);
    free(b->name);
    free(b);
}

static void amqp_close(struct bus *bus)
{
    struct amqp_bus *b = amqp_of(bus);
    check(!b->closed);
    say_good_bye(b);
    int64_t flush_ms = b->up && !b->blocked ? FLUSH_MS : 0; /* To a broker that is not there nothing can be said. */
    b->closed = true;
    for (int i = 0; i < LINES; i++)
        if (b->lines[i])
            rabbit_line_close(b->lines[i], flush_ms);
    if (!b->depth)
        bus_destroy(b);
}

static const struct bus_ops amqp_ops = {
    .name = "amqp",
    .send = amqp_send,
    .ack = amqp_ack,
    .kick = amqp_kick,
    .stats = amqp_stats,
    .tell = amqp_tell,
    .answer = amqp_answer,
    .close = amqp_close,
};

static struct bus *open_at(bool tls, struct loop *loop, const struct bus_address *address, const char *place,
                           const struct bus_events *events, struct err *err)
{
    struct rabbit_target target;
    if (rabbit_target_parse(tls, place, &target, err) < 0)
        return NULL;
    struct amqp_bus *b = mem_zero(1, sizeof *b);
    b->target = target;
    b->bus.ops = &amqp_ops;
    b->loop = loop;
    b->events = *events;
    b->role = address->role;
    b->name = mem_str(address->name ? address->name : "");
    prng_seed(&b->prng, random_u64());
    list_init(&b->requests);
    if (b->role == BUS_ROLE_MASTER)
        b->peers = mem_zero(SLOTS, sizeof *b->peers);
    b->again = loop_timer_add(loop, again, b);
    b->look = loop_timer_add(loop, look, b);
    b->work = loop_timer_add(loop, work, b);
    b->jobs_again = loop_timer_add(loop, jobs_again, b);
    b->line_over[JOBS] = true;
    for (int i = 0; i < LINES; i++)
        if (i != JOBS || b->role == BUS_ROLE_MASTER)
            b->lines[i] = rabbit_line_new(loop, &target, b->role, (enum rabbit_task)i, on_note, b);
    loop_timer_set(b->again, 0);
    loop_timer_set(b->look, LOOK_MS);
    return &b->bus;
}

struct bus *bus_amqp_open(struct loop *loop, const struct bus_address *address, const char *place,
                          const struct bus_events *events, struct err *err)
{
    return open_at(false, loop, address, place, events, err);
}

struct bus *bus_amqps_open(struct loop *loop, const struct bus_address *address, const char *place,
                           const struct bus_events *events, struct err *err)
{
    return open_at(true, loop, address, place, events, err);
}

int bus_amqp_check(const char *place, struct err *err)
{
    struct rabbit_target target;
    return rabbit_target_parse(false, place, &target, err);
}

int bus_amqps_check(const char *place, struct err *err)
{
    struct rabbit_target target;
    return rabbit_target_parse(true, place, &target, err);
}
