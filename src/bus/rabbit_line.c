#include "bus/rabbit_line.h"

#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#include <errno.h>
#include <linux/sockios.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/check.h"
#include "base/mem.h"
#include "io/clock.h"
#include "io/loop.h"
#include "io/thread.h"
#include "obs/log.h"

#define CONNECT_S 5
#define HANDSHAKE_S 20 /* a broker that signs in a thousand workers takes its time */
#define RPC_S 5
#define STUCK_MS 8000 /* in one call of the library, and not a byte taken by the other side */
#define BURST 64      /* published before the frames that came are looked at */
#define FRAME_MAX 131072
#define STACK_BYTES (256u * 1024)
#define NOTES_BYTES_PER_TURN (256u * 1024)
#define NOTES_PER_TURN 256
#define QUEUE_BYTES_MAX (4ll * BUS_QUEUE_MAX) /* at the broker; credit keeps each peer far below */

struct rabbit_line {
    struct rabbit_target target;
    enum bus_role role;
    enum rabbit_task task;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int wake_fd;

    /* Under the mutex. */
    uint64_t order; /* generation that is wanted; 0: none */
    uint64_t begun; /* the last one that was begun */
    unsigned host;  /* where it is to be */
    char instance[64];
    bool stop, done, orphan;
    bool asleep;
    int fd; /* of the connection, for shutdown(); -1: none */
    struct list_node out;
    uint64_t ack_tag;       /* acked up to here by the owner */
    struct list_node notes; /* to the owner */
    struct loop_wake *wake;

    atomic_size_t waiting, waiting_bytes; /* to be published */
    atomic_uint_fast64_t dropped;
    _Atomic int64_t calling_since_ms; /* in a call of the library that may block; 0: not */

    /* The thread's own. */
    amqp_connection_state_t conn;
    uint64_t generation;
    struct rabbit_frames frames;
    struct list_node sending;
    uint64_t next_tag, first_open; /* publishing: next_tag - first_open <= RABBIT_WINDOW */
    bool open[RABBIT_WINDOW];
    char (*keys)[256]; /* RABBIT_WINDOW routing keys, of a line that publishes */
    bool blocked;
    uint64_t acked_tag;
    const struct rabbit_host *at;

    /* The owner's own. */
    void (*tell)(void *arg, struct rabbit_note *note);
    void *arg;
    struct loop_timer *more;
    struct list_node inbox; /* taken over from `notes` */
    unsigned depth;
    bool closed;
    int stuck_bytes;
    int64_t stuck_since_ms;
};

struct rabbit_out *rabbit_out_new(const char *exchange, const char *key, const char *type, struct bytes body)
{
    struct rabbit_out *o = mem_alloc(sizeof *o + body.size);
    *o = (struct rabbit_out){ .exchange = exchange, .size = body.size };
    list_init(&o->node);
    snprintf(o->key, sizeof o->key, "%s", key);
    snprintf(o->label.type, sizeof o->label.type, "%s", type);
    if (body.size)
        memcpy(o->body, body.data, body.size);
    return o;
}

static void poke(struct rabbit_line *l)
{
    uint64_t one = 1;
    while (write(l->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

/* --- the thread: talking to the owner --- */

static void post(struct rabbit_line *l, struct rabbit_note *n)
{
    n->task = l->task;
    n->generation = l->generation;
    pthread_mutex_lock(&l->mutex);
    bool lost = l->orphan || l->stop;
    if (!lost) {
        list_append(&l->notes, &n->node);
        loop_wake(l->wake);
    }
    pthread_mutex_unlock(&l->mutex);
    if (lost)
        rabbit_note_free(n);
}

static void outs_free(struct rabbit_line *l, struct list_node *outs)
{
    while (!list_empty(outs)) {
        struct rabbit_out *o = list_entry(outs->next, struct rabbit_out, node);
        list_remove(&o->node);
        atomic_fetch_sub(&l->waiting, 1);
        atomic_fetch_sub(&l->waiting_bytes, o->size);
        atomic_fetch_add(&l->dropped, 1);
        free(o);
    }
}

static void list_move(struct list_node *to, struct list_node *from)
{
    if (list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

/* --- the thread: connecting --- */

static int status_err(struct rabbit_line *l, int status, const char *what, struct err *err)
{
    const struct rabbit_host *h = l->at;
    const char *remedy = "is the broker running, and is the way to it open?";
    enum err_code code = ERR_UNAVAILABLE;
    const char *text = amqp_error_string2(status);
    switch (status) {
    case AMQP_STATUS_SSL_PEER_VERIFY_FAILED:
    case AMQP_STATUS_SSL_CONNECTION_FAILED:
        code = ERR_DENIED;
        text = status == AMQP_STATUS_SSL_CONNECTION_FAILED ? "the TLS handshake failed"
                                                           : "the broker's certificate is not signed by a CA we trust";
        remedy =
            "name the CA of the broker's certificate with ?cacert=FILE, and see that it is in date; port 5671 is TLS";
        break;
    case AMQP_STATUS_SSL_HOSTNAME_VERIFY_FAILED:
        code = ERR_DENIED;
        text = "the broker's certificate is for another host name";
        remedy = "write the host as the certificate names it";
        break;
    case AMQP_STATUS_HOSTNAME_RESOLUTION_FAILED:
        text = "the host name is not known";
        remedy = "mend the host in the bus URL, or the name service";
        break;
    case AMQP_STATUS_TIMEOUT:
        text = "it does not answer";
        break;
    case AMQP_STATUS_CONNECTION_CLOSED:
    case AMQP_STATUS_SOCKET_ERROR:
        text = "the connection was closed";
        break;
    default:
        break;
    }
    return err_field(err, code, "bus", remedy, "%s %.100s:%u: %s", what, h->name, h->port, text);
}

static int reply_err(struct rabbit_line *l, amqp_rpc_reply_t reply, const char *what, struct err *err)
{
    if (reply.reply_type == AMQP_RESPONSE_NORMAL)
        return 0;
    if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION && reply.reply.decoded) {
        if (reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD) {
            const amqp_connection_close_t *c = reply.reply.decoded;
            return rabbit_refusal(err, c->reply_code, bytes_of(c->reply_text.bytes, c->reply_text.len));
        }
        if (reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
            const amqp_channel_close_t *c = reply.reply.decoded;
            return rabbit_refusal(err, c->reply_code, bytes_of(c->reply_text.bytes, c->reply_text.len));
        }
    }
    int status =
        reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION ? reply.library_error : AMQP_STATUS_UNEXPECTED_STATE;
    return status_err(l, status, what, err);
}

static int open_socket(struct rabbit_line *l, struct err *err)
{
    const struct rabbit_target *t = &l->target;
    const struct rabbit_host *h = l->at;
    amqp_socket_t *s = t->tls ? amqp_ssl_socket_new(l->conn) : amqp_tcp_socket_new(l->conn);
    check(s);
    if (t->tls) {
        amqp_ssl_socket_set_verify_peer(s, 1);
        amqp_ssl_socket_set_verify_hostname(s, 1);
        if (amqp_ssl_socket_set_ssl_versions(s, AMQP_TLSv1_2, AMQP_TLSvLATEST) != AMQP_STATUS_OK)
            return err_set(err, ERR_INTERNAL, "TLS 1.2 can not be had");
        if (amqp_ssl_socket_set_cacert(s, t->cacert) != AMQP_STATUS_OK)
            return err_field(err, ERR_INVALID, "bus", "name a file with ?cacert=FILE", "%.200s holds no CA certificate",
                             t->cacert);
        if (t->cert[0] && amqp_ssl_socket_set_key(s, t->cert, t->key) != AMQP_STATUS_OK)
            return err_field(err, ERR_INVALID, "bus", "mend cert and key in the bus URL",
                             "the client certificate and its key can not be used");
    }
    struct timeval limit = { CONNECT_S, 0 };
    int status = amqp_socket_open_noblock(s, h->name, h->port, &limit);
    if (status != AMQP_STATUS_OK)
        return status_err(l, status, "connecting to", err);
    pthread_mutex_lock(&l->mutex);
    l->fd = amqp_get_sockfd(l->conn);
    pthread_mutex_unlock(&l->mutex);
    return 0;
}

static bool table_text(const amqp_table_t *table, const char *name, char *out, size_t size)
{
    for (int i = 0; table && i < table->num_entries; i++) {
        const amqp_table_entry_t *e = &table->entries[i];
        if (e->key.len != strlen(name) || memcmp(e->key.bytes, name, e->key.len) != 0 ||
            e->value.kind != AMQP_FIELD_KIND_UTF8)
            continue;
        rabbit_text(out, size, e->value.value.bytes);
        return true;
    }
    return false;
}

static int check_version(struct rabbit_line *l, struct err *err)
{
    char product[32] = "?", version[32] = "?";
    const amqp_table_t *table = amqp_get_server_properties(l->conn);
    table_text(table, "product", product, sizeof product);
    table_text(table, "version", version, sizeof version);
    unsigned major = 0, minor = 0;
    if (strcmp(product, "RabbitMQ") != 0 || sscanf(version, "%u.%u", &major, &minor) != 2)
        return err_field(err, ERR_INVALID, "bus", "rota needs RabbitMQ 3.10 or newer", "the broker is %s %s", product,
                         version);
    if (major < 3 || (major == 3 && minor < 10))
        return err_field(err, ERR_STALE, "bus", "upgrade it to 3.10 or newer", "the broker is RabbitMQ %s: too old",
                         version);
    return 0;
}

/* As rabbitmqctl list_connections shows them. */
static const char *const connection_names[2][3] = { { "rota master out", "rota master in", "rota master jobs" },
                                                    { "rota worker out", "rota worker in", "" } };

static int login(struct rabbit_line *l, struct err *err)
{
    const struct rabbit_target *t = &l->target;
    char password[RABBIT_PASSWORD_BYTES];
    int rc = rabbit_target_password(t, password, err);
    if (rc < 0)
        return rc;
    amqp_set_handshake_timeout(l->conn, &(struct timeval){ HANDSHAKE_S, 0 });
    amqp_set_rpc_timeout(l->conn, &(struct timeval){ RPC_S, 0 });
    amqp_table_entry_t can[3], properties[2];
    static const char *const names[3] = { "connection.blocked", "consumer_cancel_notify",
                                          "authentication_failure_close" };
    for (size_t i = 0; i < 3; i++) {
        can[i] = (amqp_table_entry_t){ .key = amqp_cstring_bytes(names[i]) };
        can[i].value.kind = AMQP_FIELD_KIND_BOOLEAN;
        can[i].value.value.boolean = 1;
    }
    properties[0] = (amqp_table_entry_t){ .key = amqp_cstring_bytes("capabilities") };
    properties[0].value.kind = AMQP_FIELD_KIND_TABLE;
    properties[0].value.value.table = (amqp_table_t){ 3, can };
    properties[1] = (amqp_table_entry_t){ .key = amqp_cstring_bytes("connection_name") };
    properties[1].value.kind = AMQP_FIELD_KIND_UTF8;
    properties[1].value.value.bytes = amqp_cstring_bytes(connection_names[l->role == BUS_ROLE_WORKER][l->task]);
    amqp_table_t table = { 2, properties };
    amqp_rpc_reply_t reply = amqp_login_with_properties(l->conn, t->vhost, 2, FRAME_MAX, t->heartbeat_s, &table,
                                                        AMQP_SASL_METHOD_PLAIN, t->user, password);
    OPENSSL_cleanse(password, sizeof password);
    rc = reply_err(l, reply, "signing in at", err);
    return rc < 0 ? rc : check_version(l, err);
}

/* --- the thread: what each role needs at the broker --- */

#define RPC(call)                                                                                                      \
    do {                                                                                                               \
        call;                                                                                                          \
        int rpc_rc = reply_err(l, amqp_get_rpc_reply(l->conn), "declaring at", err);                                   \
        if (rpc_rc < 0)                                                                                                \
            return rpc_rc;                                                                                             \
    } while (0)

static int declare_exchanges(struct rabbit_line *l, struct err *err)
{
    static const struct {
        const char *name, *type;
    } exchanges[] = { { RABBIT_DISPATCH, "direct" }, { RABBIT_REPORT, "direct" }, { RABBIT_CONTROL, "fanout" } };
    for (size_t i = 0; i < sizeof exchanges / sizeof *exchanges; i++)
        RPC(amqp_exchange_declare(l->conn, RABBIT_CHANNEL, amqp_cstring_bytes(exchanges[i].name),
                                  amqp_cstring_bytes(exchanges[i].type), l->role == BUS_ROLE_WORKER, 1, 0, 0,
                                  amqp_empty_table));
    return 0;
}

static int declare_queue(struct rabbit_line *l, char queue[256], struct err *err)
{
    amqp_table_entry_t limits[2] = { { .key = amqp_cstring_bytes("x-max-length-bytes") },
                                     { .key = amqp_cstring_bytes("x-overflow") } };
    limits[0].value.kind = AMQP_FIELD_KIND_I64;
    limits[0].value.value.i64 = QUEUE_BYTES_MAX;
    limits[1].value.kind = AMQP_FIELD_KIND_UTF8;
    limits[1].value.value.bytes = amqp_cstring_bytes("reject-publish");
    amqp_table_t arguments = { 2, limits };
    amqp_bytes_t name = l->role == BUS_ROLE_MASTER ? amqp_cstring_bytes(RABBIT_MASTER) : amqp_empty_bytes;
    amqp_queue_declare_ok_t *ok;
    RPC(ok = amqp_queue_declare(l->conn, RABBIT_CHANNEL, name, 0, 0, 1, 1, arguments));
    if (!ok || ok->queue.len >= 256)
        return err_set(err, ERR_CORRUPT, "the broker gave a queue an impossible name");
    rabbit_text(queue, 256, ok->queue);
    return 0;
}

static int bind_queue(struct rabbit_line *l, const char *queue, const char *exchange, const char *key, struct err *err)
{
    RPC(amqp_queue_bind(l->conn, RABBIT_CHANNEL, amqp_cstring_bytes(queue), amqp_cstring_bytes(exchange),
                        amqp_cstring_bytes(key), amqp_empty_table));
    return 0;
}

/* The master hears itself on each exchange: so it learns when one of them is gone. */
static int bind_all(struct rabbit_line *l, const char *queue, const char *instance, struct err *err)
{
    bool master = l->role == BUS_ROLE_MASTER;
    int rc = bind_queue(l, queue, RABBIT_DISPATCH, master ? instance : queue, err);
    if (rc == 0)
        rc = bind_queue(l, queue, RABBIT_CONTROL, "", err);
    if (rc == 0 && master)
        rc = bind_queue(l, queue, RABBIT_REPORT, instance, err);
    if (rc == 0 && master)
        rc = bind_queue(l, queue, RABBIT_REPORT, RABBIT_ANY_MASTER, err);
    return rc;
}

/* What others use. */
static int declare_for_others(struct rabbit_line *l, struct err *err)
{
    static const struct {
        const char *name, *type;
    } exchanges[] = { { RABBIT_EVENTS, "topic" }, { RABBIT_SUBMIT, "fanout" } };
    for (size_t i = 0; i < sizeof exchanges / sizeof *exchanges; i++)
        RPC(amqp_exchange_declare(l->conn, RABBIT_CHANNEL, amqp_cstring_bytes(exchanges[i].name),
                                  amqp_cstring_bytes(exchanges[i].type), 0, 1, 0, 0, amqp_empty_table));
    return 0;
}

static int consume(struct rabbit_line *l, const char *queue, const char *tag, bool exclusive, struct err *err)
{
    RPC(amqp_basic_qos(l->conn, RABBIT_CHANNEL, 0, RABBIT_PREFETCH, 0));
    RPC(amqp_basic_consume(l->conn, RABBIT_CHANNEL, amqp_cstring_bytes(queue), amqp_cstring_bytes(tag), 0, 0, exclusive,
                           amqp_empty_table));
    return 0;
}

/* The queue that takes jobs even while there is no master. It is of the broker's replicated kind: without a majority of
 * its nodes the broker does not answer here. */
static int prepare_jobs(struct rabbit_line *l, struct err *err)
{
    amqp_table_entry_t kind = { .key = amqp_cstring_bytes("x-queue-type") };
    kind.value.kind = AMQP_FIELD_KIND_UTF8;
    kind.value.value.bytes = amqp_cstring_bytes("quorum");
    amqp_table_t arguments = { 1, &kind };
    int rc = declare_for_others(l, err);
    if (rc < 0)
        return rc;
    RPC(amqp_queue_declare(l->conn, RABBIT_CHANNEL, amqp_cstring_bytes(RABBIT_SUBMIT), 0, 1, 0, 0, arguments));
    rc = bind_queue(l, RABBIT_SUBMIT, RABBIT_SUBMIT, "", err);
    return rc < 0 ? rc : consume(l, RABBIT_SUBMIT, RABBIT_SUBMIT, false, err);
}

static int prepare(struct rabbit_line *l, char queue[256], struct err *err)
{
    char instance[sizeof l->instance];
    pthread_mutex_lock(&l->mutex);
    memcpy(instance, l->instance, sizeof instance);
    pthread_mutex_unlock(&l->mutex);
    RPC(amqp_channel_open(l->conn, RABBIT_CHANNEL));
    if (l->task == RABBIT_PUBLISHES) {
        RPC(amqp_confirm_select(l->conn, RABBIT_CHANNEL));
        return 0;
    }
    if (l->task == RABBIT_TAKES_JOBS)
        return prepare_jobs(l, err);
    int rc = declare_exchanges(l, err);
    if (rc == 0)
        rc = declare_queue(l, queue, err);
    if (rc == 0)
        rc = bind_all(l, queue, instance, err);
    if (rc == 0 && l->role == BUS_ROLE_MASTER)
        rc = declare_for_others(l, err);
    return rc < 0 ? rc : consume(l, queue, "bus", true, err);
}

/* --- the thread: serving --- */

static int take_ack(struct rabbit_line *l, struct rabbit_ack ack, bool lost, struct err *err)
{
    if (l->task != RABBIT_PUBLISHES || ack.tag >= l->next_tag || ack.tag == 0)
        return err_set(err, ERR_CORRUPT, "the broker confirms what was never sent");
    uint64_t from = ack.multiple ? l->first_open : ack.tag;
    for (uint64_t tag = from; tag <= ack.tag; tag++) {
        if (tag < l->first_open || !l->open[tag % RABBIT_WINDOW])
            continue;
        l->open[tag % RABBIT_WINDOW] = false;
        if (lost) {
            struct rabbit_note *n = rabbit_note_new(RABBIT_LOST);
            memcpy(n->key, l->keys[tag % RABBIT_WINDOW], sizeof n->key);
            post(l, n);
        }
    }
    while (l->first_open < l->next_tag && !l->open[l->first_open % RABBIT_WINDOW])
        l->first_open++;
    return 0;
}

static int take_frame(struct rabbit_line *l, const amqp_frame_t *frame, struct err *err)
{
    struct rabbit_note *note = NULL;
    struct rabbit_ack ack;
    switch (rabbit_frames_take(&l->frames, frame, &note, &ack, err)) {
    case RABBIT_SAID_NOTHING:
        return 0;
    case RABBIT_SAID_NOTE:
        if (note->kind == RABBIT_BLOCKED || note->kind == RABBIT_UNBLOCKED)
            l->blocked = note->kind == RABBIT_BLOCKED;
        post(l, note);
        return 0;
    case RABBIT_SAID_ACK:
        return take_ack(l, ack, false, err);
    case RABBIT_SAID_NACK:
        return take_ack(l, ack, true, err);
    case RABBIT_SAID_CLOSED:
        return -(int)err->code;
    }
    return 0;
}

static void call_begins(struct rabbit_line *l)
{
    atomic_store(&l->calling_since_ms, clock_now_ms());
}

static void call_ends(struct rabbit_line *l)
{
    atomic_store(&l->calling_since_ms, 0);
}

/* Takes what has come until there is nothing more: only so the library sends and checks heartbeats, and data that it
 * or OpenSSL holds already is not waited for. */
static int drain(struct rabbit_line *l, struct err *err)
{
    for (;;) {
        amqp_frame_t frame;
        call_begins(l);
        int status = amqp_simple_wait_frame_noblock(l->conn, &frame, &(struct timeval){ 0, 0 });
        call_ends(l);
        if (status == AMQP_STATUS_TIMEOUT)
            return 0;
        if (status != AMQP_STATUS_OK)
            return status_err(l, status, "lost", err);
        int rc = take_frame(l, &frame, err);
        amqp_maybe_release_buffers_on_channel(l->conn, frame.channel);
        if (rc < 0)
            return rc;
    }
}

static int publish(struct rabbit_line *l, const struct rabbit_out *o, struct err *err)
{
    amqp_basic_properties_t p = { ._flags = AMQP_BASIC_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG,
                                  .type = amqp_cstring_bytes(o->label.type),
                                  .delivery_mode = o->durable ? 2 : 1 };
    if (o->label.about[0]) {
        p._flags |= AMQP_BASIC_CORRELATION_ID_FLAG;
        p.correlation_id = amqp_cstring_bytes(o->label.about);
    }
    if (o->label.reply_to[0]) {
        p._flags |= AMQP_BASIC_REPLY_TO_FLAG;
        p.reply_to = amqp_cstring_bytes(o->label.reply_to);
    }
    if (!o->durable) {
        p._flags |= AMQP_BASIC_EXPIRATION_FLAG;
        p.expiration = amqp_cstring_bytes("60000");
    }
    amqp_bytes_t body = { o->size, (void *)(uintptr_t)o->body };
    call_begins(l);
    int status = amqp_basic_publish(l->conn, RABBIT_CHANNEL, amqp_cstring_bytes(o->exchange),
                                    amqp_cstring_bytes(o->key), !o->optional, 0, &p, body);
    call_ends(l);
    if (status != AMQP_STATUS_OK)
        return status_err(l, status, "lost", err); /* Half a message may be under way: the stream is broken. */
    l->open[l->next_tag % RABBIT_WINDOW] = true;
    memcpy(l->keys[l->next_tag % RABBIT_WINDOW], o->key, sizeof o->key);
    l->next_tag++;
    return 0;
}

static bool window_open(const struct rabbit_line *l)
{
    return !l->blocked && l->next_tag - l->first_open < RABBIT_WINDOW;
}

static int publish_some(struct rabbit_line *l, struct err *err)
{
    int64_t now_ms = clock_now_ms();
    for (int i = 0; i < BURST && window_open(l) && !list_empty(&l->sending); i++) {
        struct rabbit_out *o = list_entry(l->sending.next, struct rabbit_out, node);
        if (now_ms - o->since_ms > RABBIT_TTL_MS) {
            struct rabbit_note *n = rabbit_note_new(RABBIT_LOST);
            memcpy(n->key, o->key, sizeof n->key);
            post(l, n);
            atomic_fetch_add(&l->dropped, 1);
        } else {
            int rc = publish(l, o, err);
            if (rc < 0)
                return rc;
        }
        list_remove(&o->node);
        atomic_fetch_sub(&l->waiting, 1);
        atomic_fetch_sub(&l->waiting_bytes, o->size);
        free(o);
    }
    return 0;
}

static int ack_some(struct rabbit_line *l, uint64_t tag, struct err *err)
{
    if (tag <= l->acked_tag)
        return 0;
    call_begins(l);
    int status = amqp_basic_ack(l->conn, RABBIT_CHANNEL, tag, 1);
    call_ends(l);
    l->acked_tag = tag;
    return status == AMQP_STATUS_OK ? 0 : status_err(l, status, "lost", err);
}

/* Sleeps until there is something to do. False: this generation is over. */
static bool sleep_or_end(struct rabbit_line *l, uint64_t *ack_tag)
{
    pthread_mutex_lock(&l->mutex);
    list_move(&l->sending, &l->out);
    *ack_tag = l->ack_tag;
    bool over = l->order != l->generation, stop = l->stop;
    bool to_do = *ack_tag > l->acked_tag || (!list_empty(&l->sending) && window_open(l));
    if (stop && list_empty(&l->sending))
        over =
            true; /* Else what is left is sent first; the owner shuts the socket when it has waited for long enough. */
    l->asleep = !over && !to_do;
    pthread_mutex_unlock(&l->mutex);
    if (over)
        return false;
    if (to_do)
        return true;
    struct pollfd fds[2] = { { l->fd, POLLIN, 0 }, { l->wake_fd, POLLIN, 0 } };
    poll(fds, 2, l->target.heartbeat_s * 1000 / 4);
    uint64_t count;
    if (fds[1].revents && read(l->wake_fd, &count, sizeof count) < 0)
        check(errno == EAGAIN || errno == EINTR);
    pthread_mutex_lock(&l->mutex);
    l->asleep = false;
    pthread_mutex_unlock(&l->mutex);
    return true;
}

static int serve(struct rabbit_line *l, struct err *err)
{
    uint64_t ack_tag = 0;
    int rc = 0;
    do {
        rc = drain(l, err);
        if (rc == 0)
            rc = publish_some(l, err);
        if (rc == 0)
            rc = ack_some(l, ack_tag, err);
        if (rc < 0)
            return rc;
    } while (sleep_or_end(l, &ack_tag));
    return 0;
}

/* --- the thread: its life --- */

static uint64_t next_order(struct rabbit_line *l)
{
    pthread_mutex_lock(&l->mutex);
    while (!l->stop && l->order <= l->begun)
        pthread_cond_wait(&l->changed, &l->mutex);
    uint64_t order = l->stop ? 0 : l->order;
    l->begun = order;
    l->at = &l->target.hosts[l->host];
    l->ack_tag = 0;
    outs_free(l, &l->out); /* Put before it was known that the last generation had ended. */
    pthread_mutex_unlock(&l->mutex);
    return order;
}

static int line_open(struct rabbit_line *l, char queue[256], struct err *err)
{
    l->next_tag = l->first_open = 1;
    l->acked_tag = 0;
    l->blocked = false;
    l->conn = amqp_new_connection();
    check(l->conn);
    int rc = open_socket(l, err);
    if (rc == 0)
        rc = login(l, err);
    return rc < 0 ? rc : prepare(l, queue, err);
}

static void line_shut(struct rabbit_line *l, bool polite)
{
    if (polite) {
        /* The broker answers when it has taken all that came before; exclusive queues are gone then. */
        amqp_set_rpc_timeout(l->conn, &(struct timeval){ 1, 0 });
        amqp_connection_close(l->conn, AMQP_REPLY_SUCCESS);
    }
    pthread_mutex_lock(&l->mutex);
    l->fd = -1; /* From here on the number may be another's. */
    pthread_mutex_unlock(&l->mutex);
    amqp_destroy_connection(l->conn);
    l->conn = NULL;
    rabbit_frames_fini(&l->frames);
    outs_free(l, &l->sending);
}

static void generation_run(struct rabbit_line *l)
{
    struct rabbit_note *down = rabbit_note_new(RABBIT_DOWN);
    char queue[256] = "";
    int rc = line_open(l, queue, &down->err);
    if (rc == 0) {
        struct rabbit_note *up = rabbit_note_new(RABBIT_UP);
        memcpy(up->key, queue, sizeof up->key);
        post(l, up);
        rc = serve(l, &down->err);
    }
    line_shut(l, rc == 0);
    post(l, down);
}

static void line_free(struct rabbit_line *l)
{
    outs_free(l, &l->out);
    pthread_mutex_destroy(&l->mutex);
    pthread_cond_destroy(&l->changed);
    close(l->wake_fd);
    free(l->keys);
    free(l);
}

static void *line_main(void *arg)
{
    struct rabbit_line *l = arg;
    while ((l->generation = next_order(l)) != 0)
        generation_run(l);
    pthread_mutex_lock(&l->mutex);
    l->done = true;
    bool orphan = l->orphan;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->mutex);
    if (orphan)
        line_free(l);
    return NULL;
}

/* --- the owner --- */

static void notes_free(struct list_node *notes)
{
    while (!list_empty(notes)) {
        struct rabbit_note *n = list_entry(notes->next, struct rabbit_note, node);
        list_remove(&n->node);
        rabbit_note_free(n);
    }
}

static void line_release(struct rabbit_line *l);

/* So much and no more: others have their turn. */
static void hand_out(void *arg)
{
    struct rabbit_line *l = arg;
    pthread_mutex_lock(&l->mutex);
    list_move(&l->inbox, &l->notes);
    pthread_mutex_unlock(&l->mutex);
    size_t bytes = 0;
    l->depth++;
    for (int i = 0; i < NOTES_PER_TURN && bytes < NOTES_BYTES_PER_TURN && !l->closed && !list_empty(&l->inbox); i++) {
        struct rabbit_note *n = list_entry(l->inbox.next, struct rabbit_note, node);
        list_remove(&n->node);
        bytes += n->body.size;
        l->tell(l->arg, n);
    }
    l->depth--;
    if (l->closed)
        line_release(l);
    else if (!list_empty(&l->inbox))
        loop_timer_set(l->more, 0);
}

struct rabbit_line *rabbit_line_new(struct loop *loop, const struct rabbit_target *target, enum bus_role role,
                                    enum rabbit_task task, void (*tell)(void *arg, struct rabbit_note *note), void *arg)
{
    struct rabbit_line *l = mem_zero(1, sizeof *l);
    l->target = *target;
    l->role = role;
    l->task = task;
    l->at = &l->target.hosts[0];
    l->tell = tell;
    l->arg = arg;
    l->fd = -1;
    l->keys = task == RABBIT_PUBLISHES ? mem_zero(RABBIT_WINDOW, sizeof *l->keys) : NULL;
    list_init(&l->out);
    list_init(&l->sending);
    list_init(&l->notes);
    list_init(&l->inbox);
    l->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    check(l->wake_fd >= 0);
    l->wake = loop_wake_add(loop, hand_out, l);
    l->more = loop_timer_add(loop, hand_out, l);
    pthread_attr_t attr;
    check(pthread_mutex_init(&l->mutex, NULL) == 0 && pthread_cond_init(&l->changed, NULL) == 0);
    check(pthread_attr_init(&attr) == 0 && pthread_attr_setstacksize(&attr, STACK_BYTES) == 0);
    check(thread_start(&l->thread, &attr, line_main, l) == 0);
    pthread_attr_destroy(&attr);
    return l;
}

void rabbit_line_connect(struct rabbit_line *l, uint64_t generation, unsigned host, const char *instance)
{
    pthread_mutex_lock(&l->mutex);
    check(generation > l->begun && host < l->target.hosts_count);
    l->host = host;
    l->order = generation;
    snprintf(l->instance, sizeof l->instance, "%s", instance);
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->mutex);
}

void rabbit_line_drop(struct rabbit_line *l)
{
    pthread_mutex_lock(&l->mutex);
    l->order = 0;
    if (l->fd >= 0)
        shutdown(l->fd, SHUT_RDWR);
    pthread_mutex_unlock(&l->mutex);
    poke(l);
}

bool rabbit_line_put(struct rabbit_line *l, struct rabbit_out *out)
{
    check(l->task == RABBIT_PUBLISHES);
    if (atomic_load(&l->waiting) >= RABBIT_OUT_MAX || atomic_load(&l->waiting_bytes) + out->size > RABBIT_OUT_BYTES_MAX)
        return false;
    out->since_ms = clock_now_ms();
    atomic_fetch_add(&l->waiting, 1);
    atomic_fetch_add(&l->waiting_bytes, out->size);
    pthread_mutex_lock(&l->mutex);
    list_append(&l->out, &out->node);
    bool asleep = l->asleep;
    l->asleep = false;
    pthread_mutex_unlock(&l->mutex);
    if (asleep)
        poke(l);
    return true;
}

void rabbit_line_ack(struct rabbit_line *l, uint64_t tag)
{
    check(l->task != RABBIT_PUBLISHES);
    pthread_mutex_lock(&l->mutex);
    if (tag > l->ack_tag)
        l->ack_tag = tag;
    bool asleep = l->asleep;
    l->asleep = false;
    pthread_mutex_unlock(&l->mutex);
    if (asleep)
        poke(l);
}

void rabbit_line_watch(struct rabbit_line *l)
{
    int64_t now_ms = clock_now_ms(), since_ms = atomic_load(&l->calling_since_ms);
    pthread_mutex_lock(&l->mutex);
    int unsent = 0;
    if (l->fd >= 0 && since_ms && ioctl(l->fd, SIOCOUTQ, &unsent) == 0) {
        /* A slow line that still takes bytes is not stuck. */
        if (unsent != l->stuck_bytes || !l->stuck_since_ms || l->stuck_since_ms < since_ms)
            l->stuck_since_ms = now_ms;
        l->stuck_bytes = unsent;
        if (now_ms - l->stuck_since_ms >= STUCK_MS) {
            log_warn("bus: the broker has taken nothing for %d s, the connection is given up", STUCK_MS / 1000);
            shutdown(l->fd, SHUT_RDWR);
            l->stuck_since_ms = 0;
        }
    } else {
        l->stuck_since_ms = 0;
    }
    pthread_mutex_unlock(&l->mutex);
}

bool rabbit_line_busy(const struct rabbit_line *l)
{
    return atomic_load(&l->waiting) > RABBIT_OUT_MAX / 2 || atomic_load(&l->waiting_bytes) > RABBIT_OUT_BYTES_MAX / 2;
}

uint64_t rabbit_line_dropped(const struct rabbit_line *l)
{
    return atomic_load(&l->dropped);
}

static void line_release(struct rabbit_line *l)
{
    notes_free(&l->inbox);
    notes_free(&l->notes);
    loop_wake_remove(l->wake);
    loop_timer_remove(l->more);
    pthread_mutex_lock(&l->mutex);
    bool done = l->done;
    l->orphan = !done;
    pthread_mutex_unlock(&l->mutex);
    if (!done) {
        pthread_detach(
            l->thread); /* It sits in a call that nothing can end, like looking up a name; it frees itself. */
        return;
    }
    pthread_join(l->thread, NULL);
    line_free(l);
}

static bool done_within(struct rabbit_line *l, int64_t limit_ms)
{
    int64_t until_ms = clock_wall_ms() + limit_ms;
    struct timespec until = { until_ms / 1000, until_ms % 1000 * 1000000 };
    while (!l->done && pthread_cond_timedwait(&l->changed, &l->mutex, &until) != ETIMEDOUT)
        ;
    return l->done;
}

void rabbit_line_close(struct rabbit_line *l, int64_t flush_ms)
{
    check(!l->closed);
    l->closed = true;
    pthread_mutex_lock(&l->mutex);
    l->stop = true;
    pthread_cond_broadcast(&l->changed);
    poke(l);
    if (!done_within(l, flush_ms)) {
        if (l->fd >= 0)
            shutdown(l->fd, SHUT_RDWR);
        done_within(l, 500);
    }
    pthread_mutex_unlock(&l->mutex);
    if (!l->depth)
        line_release(l);
}
