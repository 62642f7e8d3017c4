/* rabbit_line.h: one connection to the broker, and the thread that owns it.
 *
 * The library blocks, and may not be shared between threads: so each connection lives in a thread of its own that does
 * nothing else, and the owner of the line never calls the library. A line that publishes takes messages from a bounded
 * queue, keeps at most RABBIT_WINDOW of them unconfirmed and publishes nothing while the broker is blocked. A line that
 * consumes declares what its role needs, hands on deliveries and acks them up to the tag it was told; one that takes jobs
 * does so with the queue RABBIT_SUBMIT, which may be out of order while all else works. All that happens
 * comes as notes, on the loop's thread. Nothing of a connection outlives it: the owner begins a new generation.
 *
 * All functions are for the loop's thread. */
#ifndef ROTA_RABBIT_LINE_H
#define ROTA_RABBIT_LINE_H

#include "bus/rabbit_frames.h"
#include "bus/rabbit_target.h"

#define RABBIT_WINDOW 1024u                       /* published and not confirmed */
#define RABBIT_PREFETCH 1024u                     /* delivered and not acked */
#define RABBIT_OUT_BYTES_MAX (128u * 1024 * 1024) /* waiting to be published */
#define RABBIT_OUT_MAX 65536u
#define RABBIT_TTL_MS 60000 /* what waited for longer is not sent any more */

/* Exchanges. The master declares them, workers only look whether they are there. */
#define RABBIT_DISPATCH "rota.dispatch" /* direct: master -> one worker's session, by the name of its queue */
#define RABBIT_REPORT "rota.report"     /* direct: worker -> the master, by its instance; or to whoever is master */
#define RABBIT_CONTROL "rota.control"   /* fanout: master -> all workers */
#define RABBIT_MASTER "rota.master"     /* the master's queue: exclusive, so a virtual host has one master */
#define RABBIT_ANY_MASTER "master"      /* routing key of RABBIT_REPORT */
#define RABBIT_EVENTS "rota.events"     /* topic: master -> whoever listens */
#define RABBIT_SUBMIT "rota.submit"     /* fanout, and the durable queue behind it: anybody -> the master */

struct rabbit_out {
    struct list_node node;
    const char *exchange; /* static */
    struct rabbit_label label;
    char key[256];
    bool optional; /* not mandatory: nobody needs to take it */
    bool durable;
    int64_t since_ms; /* set by rabbit_line_put */
    size_t size;
    char body[];
};
struct rabbit_out *rabbit_out_new(const char *exchange, const char *key, const char *type, struct bytes body);

enum rabbit_task { RABBIT_PUBLISHES, RABBIT_CONSUMES, RABBIT_TAKES_JOBS };

struct rabbit_line;
struct loop;
/* `tell` is called in turns of the loop, never inside a call; the note is yours. The target is copied. */
struct rabbit_line *rabbit_line_new(struct loop *loop, const struct rabbit_target *target, enum bus_role role,
                                    enum rabbit_task task, void (*tell)(void *arg, struct rabbit_note *note), void *arg);
/* Connects once, to the target's host of that number; RABBIT_UP may follow, and RABBIT_DOWN ends it in every case.
 * `instance`: the master's routing key. */
void rabbit_line_connect(struct rabbit_line *l, uint64_t generation, unsigned host, const char *instance);
void rabbit_line_drop(struct rabbit_line *l); /* RABBIT_DOWN follows, if there was a generation */
/* Takes the message; false: there is no room, and it is still yours. */
bool rabbit_line_put(struct rabbit_line *l, struct rabbit_out *out);
void rabbit_line_ack(struct rabbit_line *l, uint64_t tag); /* this delivery and all before it */
/* Ends a connection that has been stuck in a call of the library for too long. Call it about once a second. */
void rabbit_line_watch(struct rabbit_line *l);
bool rabbit_line_busy(const struct rabbit_line *l);        /* half full: no room for what can as well be lost */
uint64_t rabbit_line_dropped(const struct rabbit_line *l); /* messages that were taken and never published */
/* What waits is still published, for at most flush_ms; then frees. No note after it begins. May be called by `tell`. */
void rabbit_line_close(struct rabbit_line *l, int64_t flush_ms);

#endif
