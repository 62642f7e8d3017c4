#include "io/http_conn.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/check.h"
#include "base/mem.h"
#include "io/clock.h"

static struct evbuffer *input(const struct http_conn *c)
{
    return bufferevent_get_input(c->bev);
}

static struct evbuffer *output(const struct http_conn *c)
{
    return bufferevent_get_output(c->bev);
}

size_t conn_unsent(const struct http_conn *c)
{
    return evbuffer_get_length(output(c));
}

void conn_write(struct http_conn *c, const void *data, size_t size)
{
    check(evbuffer_add(output(c), data, size) == 0);
    c->output_bytes += size;
    conn_process_later(c); /* which flushes */
}

/* Writes at once what the kernel takes: most answers need one system call so, instead of three and another turn of the
 * loop. What is left waits for the socket. */
static void flush(struct http_conn *c)
{
    if (c->writing || conn_unsent(c) == 0)
        return;
    evbuffer_unfreeze(output(c), 1);
    int n = evbuffer_write(output(c), bufferevent_getfd(c->bev));
    int error = errno;
    evbuffer_freeze(output(c), 1);
    if (n < 0 && error != EAGAIN && error != EINTR) {
        c->phase = CONN_OVER;
        return;
    }
    if (conn_unsent(c) > 0) {
        c->writing = true;
        check(bufferevent_enable(c->bev, EV_WRITE) == 0);
    }
}

/* The write callback comes when no more than that is left. It also restarts a connection that waited with a new
 * request. */
void conn_set_write_mark(struct http_conn *c, size_t low)
{
    bufferevent_setwatermark(c->bev, EV_WRITE, low > OUTPUT_BYTES_BUSY ? low : OUTPUT_BYTES_BUSY, 0);
}

/* By a timer: an event made active would run in the same turn, and a connection that always has more to do kept all
 * others out. */
void conn_process_later(struct http_conn *c)
{
    static const struct timeval at_once = { 0 };
    if (!c->processing && !event_pending(&c->later, EV_TIMEOUT, NULL))
        check(event_add(&c->later, &at_once) == 0);
}

/* Reading stops while the handler does not want the body, and while enough is read ahead. Libevent's own high-water
 * mark will not do: above it the read callback comes again and again. */
static void update_reading(struct http_conn *c)
{
    bool wanted = !c->paused && evbuffer_get_length(input(c)) < INPUT_BYTES_MAX;
    if (wanted == c->reading)
        return;
    c->reading = wanted;
    check((wanted ? bufferevent_enable : bufferevent_disable)(c->bev, EV_READ) == 0);
}

void conn_pause(struct http_conn *c, bool paused)
{
    if (c->paused == paused || (paused && c->phase != CONN_BODY))
        return;
    c->paused = paused;
    update_reading(c);
    c->input_bytes = 0;
    c->deadline_ms = paused ? 0 : clock_now_ms() + c->server->limits.header_ms;
    if (!paused)
        conn_process_later(c);
}

bool conn_can_drain(const struct http_conn *c)
{
    return c->body.framing == HTTP_LENGTH && c->body.left <= DRAIN_BYTES_MAX;
}

/* --- exchanges --- */

static void set_phase(struct http_conn *c, enum conn_phase phase, int64_t limit_ms)
{
    c->phase = phase;
    c->input_bytes = 0;
    c->deadline_ms = limit_ms ? clock_now_ms() + limit_ms : 0;
}

static void wait_for_head(struct http_conn *c)
{
    c->gate = (struct http_gate){ 0 };
    c->begun = false;
    set_phase(c, CONN_HEAD, c->server->limits.idle_ms);
}

/* The one place where an exchange ends. */
static void exchange_drop(struct http_conn *c)
{
    struct http_request *r = c->r;
    struct http_server *s = c->server;
    if (!r)
        return;
    s->stats.sse_clients -= r->event_stream;
    bool nested = s->in_callback;
    s->in_callback = true;
    s->events.on_gone(s->events.arg, r);
    s->in_callback = nested;
    c->r = NULL;
    buf_fini(&r->headers);
    buf_fini(&r->query);
    free(r);
    c->paused = false;
    update_reading(c);
    conn_set_write_mark(c, 0);
}

static void close_after_output(struct http_conn *c)
{
    c->keep = false;
    set_phase(c, CONN_CLOSING, 0);
}

static void exchange_over(struct http_conn *c)
{
    exchange_drop(c);
    if (!c->keep)
        close_after_output(c);
    else if (!http_body_done(&c->body))
        set_phase(c, CONN_DRAIN, c->server->limits.header_ms);
    else
        wait_for_head(c);
}

void conn_refuse(struct http_conn *c, const struct http_refusal *why)
{
    c->server->stats.refused++;
    c->keep = false;
    if (!c->r || c->r->answer == ANSWER_NONE)
        reply_refusal(c, why);
    exchange_drop(c);
    close_after_output(c);
}

static void refuse(struct http_conn *c, int status, const char *text)
{
    conn_refuse(c, &(struct http_refusal){ status, text });
}

/* --- reading --- */

static void send_continue(struct http_conn *c)
{
    c->r->continue_due = false;
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    if (evbuffer_get_length(input(c)) == 0) /* else the client has not waited */
        conn_write(c, text, sizeof text - 1);
}

/* A request's head is there and means something. */
static void exchange_begin(struct http_conn *c, struct http_request *r)
{
    struct http_server *s = c->server;
    c->r = r;
    c->served++;
    s->stats.requests++;
    http_body_init(&c->body, &r->head);
    r->continue_due = r->head.expects_continue;
    bool none = r->head.framing == HTTP_NO_BODY;
    set_phase(c, CONN_BODY, none ? 0 : s->limits.header_ms);
    s->events.on_head(s->events.arg, r);
    if (r->answer == ANSWER_NONE && r->head.framing == HTTP_LENGTH && r->head.length > r->body_limit)
        refuse(c, 413, "the body is larger than this route takes");
}

static struct http_request *request_new(struct http_conn *c, const char *head, size_t size)
{
    struct http_request *r = mem_alloc(sizeof *r + size + 1);
    memset(r, 0, offsetof(struct http_request, text));
    r->conn = c;
    r->body_limit = c->server->limits.body_bytes;
    memcpy(r->text, head, size);
    r->text[size] = 0;
    return r;
}

static bool host_allowed(const struct http_conn *c, const struct http_request *r)
{
    struct bytes name;
    return http_host_name(r->head.host, &name) && server_allows_host(c->server, name);
}

static void take_head(struct http_conn *c, const char *data, size_t size)
{
    struct http_request *r = request_new(c, data + c->gate.start, size - c->gate.start);
    check(evbuffer_drain(input(c), size) == 0);
    struct http_refusal why;
    if (http_head_parse(&r->head, r->text, size - c->gate.start, &why) == 0) {
        if (host_allowed(c, r)) {
            exchange_begin(c, r);
            return;
        }
        why = (struct http_refusal){ 421, "this server does not go by the name in the Host header" };
    }
    free(r);
    conn_refuse(c, &why);
}

/* For a connection that can do nothing without its peer: if that is gone, an open exchange is broken off, and what is
 * answered already goes out. */
static bool peer_gone(struct http_conn *c)
{
    if (!c->peer_closed)
        return false;
    exchange_drop(c);
    close_after_output(c);
    return true;
}

/* Looks for the end of the head in what is contiguous, and only then in more: pipelined requests would otherwise have
 * all that is read ahead moved for each of them. Sets *data to where the head is. */
static int find_head(struct http_conn *c, const char **data, struct http_refusal *why)
{
    size_t total = evbuffer_get_length(input(c)), size = evbuffer_get_contiguous_space(input(c));
    if (total > HTTP_HEAD_BYTES_MAX)
        total = HTTP_HEAD_BYTES_MAX;
    for (size = size < total ? size : total;; size = total) {
        *data = (const char *)evbuffer_pullup(input(c), (ev_ssize_t)size);
        check(*data);
        int head = http_gate(&c->gate, *data, size, why);
        if (head != 0 || size == total)
            return head;
    }
}

/* Each step returns whether there may be something left to do at once. */
static bool step_head(struct http_conn *c)
{
    if (conn_unsent(c) > OUTPUT_BYTES_BUSY)
        flush(c);
    if (conn_unsent(c) > OUTPUT_BYTES_BUSY || c->phase == CONN_OVER)
        return false;
    if (evbuffer_get_length(input(c)) == 0)
        return peer_gone(c);
    if (!c->begun) {
        c->begun = true;
        if (c->served > 0) /* the first head's time runs from accept */
            c->deadline_ms = clock_now_ms() + c->server->limits.header_ms;
    }
    const char *data;
    struct http_refusal why;
    int head = find_head(c, &data, &why);
    if (head < 0)
        conn_refuse(c, &why);
    else if (head > 0)
        take_head(c, data, (size_t)head);
    return head != 0 || peer_gone(c);
}

/* Looks at the next piece of the body in the input. False: there is none, or it was refused. */
static bool next_piece(struct http_conn *c, size_t *used, struct bytes *payload)
{
    size_t size = evbuffer_get_contiguous_space(input(c)); /* filled, in spite of its name */
    if (size == 0)
        return false;
    struct http_refusal why;
    struct bytes in = bytes_of(evbuffer_pullup(input(c), (ev_ssize_t)size), size);
    if (http_body_next(&c->body, in, used, payload, &why) < 0) {
        conn_refuse(c, &why);
        return false;
    }
    c->input_bytes += payload->size;
    return true;
}

static bool step_body(struct http_conn *c)
{
    struct http_request *r = c->r;
    struct http_events *ev = &c->server->events;
    if (r->answer != ANSWER_NONE) { /* answered early */
        set_phase(c, CONN_ANSWER, 0);
        return true;
    }
    if (c->paused)
        return peer_gone(c);
    if (http_body_done(&c->body)) {
        set_phase(c, CONN_ANSWER, 0);
        ev->on_end(ev->arg, r);
        return true;
    }
    if (r->continue_due)
        send_continue(c);
    size_t used;
    struct bytes payload;
    if (!next_piece(c, &used, &payload))
        return c->phase != CONN_BODY || peer_gone(c);
    r->body_bytes += payload.size;
    if (r->body_bytes > r->body_limit) {
        refuse(c, 413, "the body is larger than this route takes");
        return true;
    }
    if (payload.size)
        ev->on_body(ev->arg, r, payload);
    check(evbuffer_drain(input(c), used) == 0);
    return true;
}

static bool step_drain(struct http_conn *c)
{
    if (http_body_done(&c->body)) {
        wait_for_head(c);
        return true;
    }
    size_t used;
    struct bytes payload;
    if (!next_piece(c, &used, &payload))
        return c->phase != CONN_DRAIN || peer_gone(c);
    check(evbuffer_drain(input(c), used) == 0);
    return true;
}

static bool step_answer(struct http_conn *c)
{
    struct http_request *r = c->r;
    if (r->answer == ANSWER_DONE) {
        exchange_over(c);
        return true;
    }
    return peer_gone(c);
}

static void discard_input(struct http_conn *c)
{
    size_t size = evbuffer_get_length(input(c));
    c->input_bytes += size;
    check(evbuffer_drain(input(c), size) == 0);
}

static bool step_closing(struct http_conn *c)
{
    discard_input(c);
    flush(c);
    if (conn_unsent(c) > 0 || c->phase == CONN_OVER)
        return false;
    if (c->peer_closed) {
        c->phase = CONN_OVER;
        return false;
    }
    shutdown(bufferevent_getfd(c->bev), SHUT_WR);
    int64_t header_ms = c->server->limits.header_ms;
    set_phase(c, CONN_LINGER, header_ms < LINGER_MS ? header_ms : LINGER_MS);
    return true;
}

static bool step_linger(struct http_conn *c)
{
    discard_input(c);
    if (c->peer_closed || c->input_bytes > LINGER_BYTES_MAX)
        c->phase = CONN_OVER;
    return false;
}

static bool step(struct http_conn *c)
{
    switch (c->phase) {
    case CONN_HEAD:
        return step_head(c);
    case CONN_BODY:
        return step_body(c);
    case CONN_ANSWER:
        return step_answer(c);
    case CONN_DRAIN:
        return step_drain(c);
    case CONN_CLOSING:
        return step_closing(c);
    case CONN_LINGER:
        return step_linger(c);
    case CONN_OVER:
        return false;
    }
    check_unreachable();
}

static bool drained_due(const struct http_conn *c)
{
    const struct http_request *r = c->r;
    return r && r->answer == ANSWER_OPEN && r->drained && r->drained_armed && conn_unsent(c) < r->drained_low &&
           c->phase != CONN_OVER;
}

static void tell_drained(struct http_conn *c)
{
    struct http_request *r = c->r;
    if (!drained_due(c))
        return;
    r->drained_armed = false;
    r->drained(r->drained_arg, r);
}

void conn_process(struct http_conn *c)
{
    check(!c->processing);
    struct http_server *s = c->server;
    uint32_t served = c->served;
    c->processing = s->in_callback = true;
    tell_drained(c);
    bool more;
    do
        more = step(c);
    while (more && (c->phase != CONN_HEAD || c->served - served < REQUESTS_PER_TURN));
    c->processing = s->in_callback = false;
    if (c->phase != CONN_OVER)
        flush(c);
    if (c->phase == CONN_OVER) {
        conn_free(c);
        return;
    }
    update_reading(c);
    if (more || drained_due(c))
        conn_process_later(c);
}

/* --- events of the socket --- */

static void on_readable(struct bufferevent *bev, void *arg)
{
    (void)bev;
    conn_process(arg);
}

static void on_written(struct bufferevent *bev, void *arg)
{
    struct http_conn *c = arg;
    if (conn_unsent(c) == 0) {
        c->writing = false;
        check(bufferevent_disable(bev, EV_WRITE) == 0);
    }
    conn_process(c);
}

static void on_later(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    conn_process(arg);
}

/* A client that has closed its side is gone, but what it has asked before and what is answered already is seen to. */
static void on_event(struct bufferevent *bev, short what, void *arg)
{
    (void)bev;
    struct http_conn *c = arg;
    c->peer_closed = true;
    if (!(what & BEV_EVENT_EOF) || (what & BEV_EVENT_WRITING))
        c->phase = CONN_OVER;
    conn_process(c);
}

/* --- life --- */

static unsigned source_bucket(const struct in6_addr *source)
{
    uint32_t h = 2166136261u; /* FNV-1a; a crowded bucket costs time only, and a source may have but few connections */
    for (size_t i = 0; i < sizeof source->s6_addr; i++)
        h = (h ^ source->s6_addr[i]) * 16777619u;
    return h % SOURCE_BUCKETS;
}

static bool source_full(const struct http_server *s, const struct in6_addr *source)
{
    uint32_t count = 0;
    const struct list_node *bucket = &s->sources[source_bucket(source)];
    list_each(node, bucket) {
        const struct http_conn *c = list_entry(node, struct http_conn, source_link);
        count += memcmp(&c->source, source, sizeof *source) == 0;
    }
    return count >= s->limits.connections_per_source;
}

/* The one place that knows the transport; a TLS filter goes in here. */
static struct bufferevent *transport_new(struct http_server *s, int fd)
{
    struct bufferevent *bev = bufferevent_socket_new(loop_base(s->loop), fd, BEV_OPT_CLOSE_ON_FREE);
    check(bev);
    return bev;
}

static void turn_away(int fd)
{
    static const char text[] = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    char rest[4096];
    (void)!send(fd, text, sizeof text - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)!recv(fd, rest, sizeof rest, MSG_DONTWAIT); /* unread bytes would turn the close into a reset */
    close(fd);
}

void conn_new(struct http_server *s, int fd, const struct in6_addr *source, const char *source_text)
{
    if (s->stats.connections >= s->limits.connections || source_full(s, source)) {
        s->stats.refused++;
        turn_away(fd);
        return;
    }
    struct http_conn *c = mem_zero(1, sizeof *c);
    c->server = s;
    c->source = *source;
    snprintf(c->source_text, sizeof c->source_text, "%s", source_text);
    list_append(&s->conns, &c->link);
    list_append(&s->sources[source_bucket(source)], &c->source_link);
    s->stats.connections++;
    s->stats.accepted++;
    c->bev = transport_new(s, fd);
    check(evtimer_assign(&c->later, loop_base(s->loop), on_later, c) == 0);
    set_phase(c, CONN_HEAD, s->limits.header_ms);
    bufferevent_setcb(c->bev, on_readable, on_written, on_event, c);
    conn_set_write_mark(c, 0);
    check(bufferevent_disable(c->bev, EV_WRITE) == 0); /* flush enables it when there is something to wait for */
    update_reading(c);
}

void conn_free(struct http_conn *c)
{
    check(!c->processing);
    struct http_server *s = c->server;
    exchange_drop(c);
    event_del(&c->later);
    bufferevent_free(c->bev);
    list_remove(&c->link);
    list_remove(&c->source_link);
    s->stats.connections--;
    free(c);
    server_conn_gone(s);
}

/* --- deadlines --- */

/* What the peer has acknowledged. What the kernel took says little: its buffer can hide a peer that reads nothing. */
static uint64_t taken(const struct http_conn *c)
{
    int queued = 0;
    if (ioctl(bufferevent_getfd(c->bev), SIOCOUTQ, &queued) < 0 || queued < 0)
        queued = 0;
    uint64_t to_kernel = c->output_bytes - conn_unsent(c);
    return to_kernel > (uint64_t)queued ? to_kernel - (uint64_t)queued : 0;
}

/* True: there is a backlog and the peer took less of it than the least rate over a whole window. */
static bool too_slow_reader(struct http_conn *c, int64_t now_ms)
{
    const struct http_limits *l = &c->server->limits;
    if (conn_unsent(c) == 0) {
        c->backlog_ms = 0;
        return false;
    }
    if (c->backlog_ms && now_ms < c->backlog_ms)
        return false;
    uint64_t sum = taken(c);
    bool slow = c->backlog_ms && (int64_t)(sum - c->backlog_taken) < l->body_min_bytes_per_s * l->idle_ms / 1000;
    c->backlog_ms = now_ms + l->idle_ms;
    c->backlog_taken = sum;
    return slow;
}

static bool fast_enough(const struct http_conn *c)
{
    const struct http_limits *l = &c->server->limits;
    return (int64_t)c->input_bytes >= l->body_min_bytes_per_s * l->header_ms / 1000;
}

static void deadline_passed(struct http_conn *c)
{
    switch (c->phase) {
    case CONN_HEAD:
        if (c->begun)
            refuse(c, 408, "the head did not come in time");
        else
            c->phase = CONN_OVER; /* nothing was asked */
        break;
    case CONN_BODY:
        if (fast_enough(c))
            set_phase(c, CONN_BODY, c->server->limits.header_ms);
        else
            refuse(c, 408, "the body comes too slowly");
        break;
    case CONN_DRAIN:
        if (fast_enough(c))
            set_phase(c, CONN_DRAIN, c->server->limits.header_ms);
        else
            c->phase = CONN_OVER;
        break;
    case CONN_ANSWER:
    case CONN_CLOSING:
    case CONN_LINGER:
    case CONN_OVER:
        c->phase = CONN_OVER;
        break;
    }
}

void conn_sweep(struct http_conn *c, int64_t now_ms)
{
    if (too_slow_reader(c, now_ms)) {
        struct linger at_once = { .l_onoff = 1 }; /* the kernel shall not keep what nobody reads */
        setsockopt(bufferevent_getfd(c->bev), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        c->phase = CONN_OVER;
        conn_process(c);
    } else if (c->deadline_ms && now_ms >= c->deadline_ms) {
        deadline_passed(c);
        conn_process(c);
    }
}
