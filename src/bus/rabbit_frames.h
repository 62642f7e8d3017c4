/* rabbit_frames.h: what a broker's frames say, one fact at a time.
 *
 * The frames come from the library one by one; a delivery or a return is a method, a header and as many pieces of body
 * as the header announced. Nothing that is announced is believed: memory grows with what has come, never beyond
 * RABBIT_BODY_MAX, and a frame out of turn ends the connection. */
#ifndef ROTA_RABBIT_FRAMES_H
#define ROTA_RABBIT_FRAMES_H

#include <amqp.h>
#include <amqp_framing.h>

#include "base/buf.h"
#include "base/list.h"
#include "bus/bus.h"

#define RABBIT_BODY_MAX (BUS_BODY_MAX + 0u)
#define RABBIT_CHANNEL 1

/* What a line tells its owner (rabbit_line.h). */
enum rabbit_note_kind {
    RABBIT_UP,       /* connected, and all is declared; queue: the name of what it consumes */
    RABBIT_DOWN,     /* `err` says why; the last word of this generation */
    RABBIT_MESSAGE,  /* a delivery */
    RABBIT_RETURNED, /* no queue takes what was published to `key` */
    RABBIT_LOST,     /* the broker refused a message (nack), or it was too old to be sent */
    RABBIT_BLOCKED,  /* the broker has an alarm and takes nothing; key: its words */
    RABBIT_UNBLOCKED
};

/* The properties that rota uses. Longer ones are cut: nothing that is rota's is that long. */
struct rabbit_label {
    char type[16];
    char about[256]; /* correlation-id */
    char reply_to[256];
    char key[256];  /* message-id */
    char user[128]; /* user-id: the broker refuses one that is not the publisher's */
};

struct rabbit_note {
    struct list_node node;
    enum rabbit_note_kind kind;
    unsigned task; /* enum rabbit_task: which of the lines tells it */
    uint64_t generation;
    uint64_t tag; /* MESSAGE: of the delivery, 1, 2, ... within a generation */
    struct rabbit_label label;
    char key[256];  /* RETURNED, LOST: routing key; UP: queue; MESSAGE: the consumer's tag */
    struct err err; /* DOWN */
    struct buf body;
};
struct rabbit_note *rabbit_note_new(enum rabbit_note_kind kind);
void rabbit_note_free(struct rabbit_note *n); /* NULL is fine */

struct rabbit_frames {
    struct rabbit_note *note; /* a delivery or return under way; NULL: none */
    bool header_came;
    uint64_t want; /* bytes of body that its header announced */
};
void rabbit_frames_fini(struct rabbit_frames *f); /* f is empty and usable again */

enum rabbit_said {
    RABBIT_SAID_NOTHING,
    RABBIT_SAID_NOTE, /* *note is yours: MESSAGE, RETURNED, BLOCKED or UNBLOCKED */
    RABBIT_SAID_ACK,  /* of published messages: ack->tag, ack->multiple */
    RABBIT_SAID_NACK,
    RABBIT_SAID_CLOSED, /* *err says why: by the broker, or because it speaks nonsense */
};
struct rabbit_ack {
    uint64_t tag;
    bool multiple;
};
enum rabbit_said rabbit_frames_take(struct rabbit_frames *f, const amqp_frame_t *frame, struct rabbit_note **note,
                                    struct rabbit_ack *ack, struct err *err);

/* What the broker says as a string: cut, and without control bytes, for it is compared and logged. */
void rabbit_text(char *out, size_t size, amqp_bytes_t from);

/* Error from the broker's own code and words, with what to do about it. */
int rabbit_refusal(struct err *err, unsigned code, struct bytes text);

#endif
