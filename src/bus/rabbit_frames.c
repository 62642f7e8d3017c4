#include "bus/rabbit_frames.h"

#include <stdio.h>

#include "base/mem.h"

struct rabbit_note *rabbit_note_new(enum rabbit_note_kind kind)
{
    struct rabbit_note *n = mem_zero(1, sizeof *n);
    n->kind = kind;
    list_init(&n->node);
    return n;
}

void rabbit_note_free(struct rabbit_note *n)
{
    if (!n)
        return;
    buf_fini(&n->body);
    free(n);
}

void rabbit_frames_fini(struct rabbit_frames *f)
{
    rabbit_note_free(f->note);
    *f = (struct rabbit_frames){ 0 };
}

void rabbit_text(char *out, size_t size, amqp_bytes_t from)
{
    size_t n = from.bytes ? from.len : 0;
    n = n < size - 1 ? n : size - 1;
    for (size_t i = 0; i < n; i++) {
        char c = ((const char *)from.bytes)[i];
        out[i] = (unsigned char)c < 0x20 || c == 0x7f ? '?' : c;
    }
    out[n] = 0;
}

/* --- the broker's refusals --- */

static const struct {
    unsigned code;
    const char *words; /* in its text; NULL: any */
    enum err_code err;
    const char *text; /* instead of the broker's own; NULL: that is good enough */
    const char *remedy;
} refusals[] = {
    { 403, "ogin", ERR_DENIED, "the broker does not accept the user name or the password",
      "mend the user in the bus URL, or its password file (rabbitmqctl change_password)" },
    { 403, NULL, ERR_DENIED, NULL,
      "give the user the rights of its role: see deploy/rabbitmq/definitions.json, rabbitmqctl set_permissions" },
    { 404, "queue", ERR_NOT_FOUND, NULL, "nothing to do: it is declared again" },
    { 404, "exchange", ERR_NOT_FOUND, "no master has declared its exchanges at the broker's virtual host",
      "start rota master with this --bus, or mend the virtual host in the bus URL" },
    { 405, "rota.master", ERR_LOCKED, "another master holds the broker's virtual host",
      "stop it, or give each cluster a virtual host of its own; this one waits" },
    { 406, "timeout", ERR_TIMEOUT, NULL, "this process was stopped for longer than consumer_timeout in rabbitmq.conf" },
    { 406, NULL, ERR_CONFLICT, NULL, "something else declared it with other settings: delete it (rabbitmqctl)" },
    { 320, NULL, ERR_UNAVAILABLE, NULL, "the broker is stopping, or somebody closed the connection" },
    { 530, NULL, ERR_NOT_FOUND, NULL,
      "make the virtual host (rabbitmqctl add_vhost) and give the user rights in it (set_permissions)" },
};

int rabbit_refusal(struct err *err, unsigned code, struct bytes text)
{
    char words[200];
    rabbit_text(words, sizeof words, (amqp_bytes_t){ text.size, (void *)(uintptr_t)text.data });
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++)
        if (refusals[i].code == code && (!refusals[i].words || strstr(words, refusals[i].words)))
            return err_field(err, refusals[i].err, "bus", refusals[i].remedy, "%s%s",
                             refusals[i].text ? "" : "the broker says: ", refusals[i].text ? refusals[i].text : words);
    return err_field(err, ERR_UNAVAILABLE, "bus", "look into the broker's log", "the broker says: %u %s", code, words);
}

static enum rabbit_said closed_by(const amqp_method_t *m, struct err *err)
{
    if (m->id == AMQP_CONNECTION_CLOSE_METHOD) {
        const amqp_connection_close_t *c = m->decoded;
        rabbit_refusal(err, c->reply_code, bytes_of(c->reply_text.bytes, c->reply_text.len));
    } else {
        const amqp_channel_close_t *c = m->decoded;
        rabbit_refusal(err, c->reply_code, bytes_of(c->reply_text.bytes, c->reply_text.len));
    }
    return RABBIT_SAID_CLOSED;
}

static enum rabbit_said nonsense(struct err *err, const char *what)
{
    err_field(err, ERR_CORRUPT, "bus", "is it RabbitMQ that listens there?", "the broker sent %s", what);
    return RABBIT_SAID_CLOSED;
}

/* --- deliveries and returns --- */

static enum rabbit_said done_if_whole(struct rabbit_frames *f, struct rabbit_note **note)
{
    if (f->note->body.size < f->want)
        return RABBIT_SAID_NOTHING;
    *note = f->note;
    f->note = NULL;
    return RABBIT_SAID_NOTE;
}

static enum rabbit_said take_header(struct rabbit_frames *f, const amqp_frame_t *frame, struct rabbit_note **note,
                                    struct err *err)
{
    if (!f->note || f->header_came)
        return nonsense(err, "a header that belongs to no message");
    if (frame->payload.properties.class_id != AMQP_BASIC_CLASS || !frame->payload.properties.decoded)
        return nonsense(err, "properties of another class");
    if (frame->payload.properties.body_size > RABBIT_BODY_MAX)
        return nonsense(err, "a longer message than is allowed");
    const amqp_basic_properties_t *p = frame->payload.properties.decoded;
    struct rabbit_label *label = &f->note->label;
    if (p->_flags & AMQP_BASIC_TYPE_FLAG)
        rabbit_text(label->type, sizeof label->type, p->type);
    if (p->_flags & AMQP_BASIC_CORRELATION_ID_FLAG)
        rabbit_text(label->about, sizeof label->about, p->correlation_id);
    if (p->_flags & AMQP_BASIC_REPLY_TO_FLAG)
        rabbit_text(label->reply_to, sizeof label->reply_to, p->reply_to);
    if (p->_flags & AMQP_BASIC_MESSAGE_ID_FLAG)
        rabbit_text(label->key, sizeof label->key, p->message_id);
    if (p->_flags & AMQP_BASIC_USER_ID_FLAG)
        rabbit_text(label->user, sizeof label->user, p->user_id);
    f->header_came = true;
    f->want = frame->payload.properties.body_size;
    return done_if_whole(f, note);
}

static enum rabbit_said take_body(struct rabbit_frames *f, const amqp_frame_t *frame, struct rabbit_note **note,
                                  struct err *err)
{
    size_t size = frame->payload.body_fragment.len;
    if (!f->note || !f->header_came)
        return nonsense(err, "a body that belongs to no message");
    if (size > f->want - f->note->body.size)
        return nonsense(err, "more of a message than it had announced");
    if (size)
        buf_add(&f->note->body, frame->payload.body_fragment.bytes, size);
    return done_if_whole(f, note);
}

static void begin(struct rabbit_frames *f, enum rabbit_note_kind kind)
{
    f->note = rabbit_note_new(kind);
    f->header_came = false;
    f->want = 0;
}

static enum rabbit_said take_method(struct rabbit_frames *f, const amqp_method_t *m, struct rabbit_note **note,
                                    struct rabbit_ack *ack, struct err *err)
{
    if (!m->decoded)
        return nonsense(err, "an empty method");
    switch (m->id) {
    case AMQP_CONNECTION_CLOSE_METHOD:
    case AMQP_CHANNEL_CLOSE_METHOD:
        return closed_by(m, err);
    case AMQP_CONNECTION_BLOCKED_METHOD: {
        const amqp_connection_blocked_t *blocked = m->decoded;
        *note = rabbit_note_new(RABBIT_BLOCKED);
        rabbit_text((*note)->key, sizeof(*note)->key, blocked->reason);
        return RABBIT_SAID_NOTE;
    }
    case AMQP_CONNECTION_UNBLOCKED_METHOD:
        *note = rabbit_note_new(RABBIT_UNBLOCKED);
        return RABBIT_SAID_NOTE;
    case AMQP_BASIC_CANCEL_METHOD:
        err_field(err, ERR_CLOSED, "bus", "nothing to do: it is declared again", "the queue was deleted at the broker");
        return RABBIT_SAID_CLOSED;
    }
    if (f->note)
        return nonsense(err, "a method in the middle of a message");
    switch (m->id) {
    case AMQP_BASIC_DELIVER_METHOD: {
        const amqp_basic_deliver_t *d = m->decoded;
        begin(f, RABBIT_MESSAGE);
        f->note->tag = d->delivery_tag;
        rabbit_text(f->note->key, sizeof f->note->key, d->consumer_tag);
        return RABBIT_SAID_NOTHING;
    }
    case AMQP_BASIC_RETURN_METHOD: {
        const amqp_basic_return_t *r = m->decoded;
        begin(f, RABBIT_RETURNED);
        rabbit_text(f->note->key, sizeof f->note->key, r->routing_key);
        return RABBIT_SAID_NOTHING;
    }
    case AMQP_BASIC_ACK_METHOD: {
        const amqp_basic_ack_t *a = m->decoded;
        *ack = (struct rabbit_ack){ a->delivery_tag, a->multiple };
        return RABBIT_SAID_ACK;
    }
    case AMQP_BASIC_NACK_METHOD: {
        const amqp_basic_nack_t *a = m->decoded;
        *ack = (struct rabbit_ack){ a->delivery_tag, a->multiple };
        return RABBIT_SAID_NACK;
    }
    default:
        return nonsense(err, "a method that nobody asked for");
    }
}

enum rabbit_said rabbit_frames_take(struct rabbit_frames *f, const amqp_frame_t *frame, struct rabbit_note **note,
                                    struct rabbit_ack *ack, struct err *err)
{
    if (frame->channel != RABBIT_CHANNEL && frame->channel != 0)
        return nonsense(err, "a frame of a channel that was never opened");
    switch (frame->frame_type) {
    case AMQP_FRAME_METHOD:
        return take_method(f, &frame->payload.method, note, ack, err);
    case AMQP_FRAME_HEADER:
        return take_header(f, frame, note, err);
    case AMQP_FRAME_BODY:
        return take_body(f, frame, note, err);
    default:
        return RABBIT_SAID_NOTHING; /* Heartbeats are the library's. */
    }
}
