#include "io/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "io/clock.h"
#include "io/http_conn.h"

enum { BACKLOG = 4096, ACCEPTS_PER_TURN = 64, ACCEPT_AGAIN_MS = 100, NOTSENT_BYTES = 128 * 1024 };

void http_limits_default(struct http_limits *l)
{
    *l = (struct http_limits){
        .connections = 4096,
        .connections_per_source = 256,
        .requests_per_connection = 1000,
        .header_ms = 10000,
        .idle_ms = 60000,
        .body_min_bytes_per_s = 1024,
        .body_bytes = 1024 * 1024,
    };
}

/* --- accepting --- */

static void source_of(const struct sockaddr_storage *from, struct in6_addr *source, char *text, size_t text_size)
{
    memset(source, 0, sizeof *source);
    text[0] = 0;
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)from;
        source->s6_addr[10] = source->s6_addr[11] = 0xff;
        memcpy(&source->s6_addr[12], &in->sin_addr, 4);
        inet_ntop(AF_INET, &in->sin_addr, text, (socklen_t)text_size);
    } else if (from->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)from;
        /* Whoever has one IPv6 address has 2^64 of them. */
        size_t counted = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr) ? 16 : 8;
        memcpy(source, &in6->sin6_addr, counted);
        inet_ntop(AF_INET6, &in6->sin6_addr, text, (socklen_t)text_size);
    }
}

static int spare_open(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* No descriptor is free: a waiting connection would make the listening socket ready for ever. The spare one is given up
 * to take it and close it; when that fails, the listening socket is left alone for a while. Returns whether more may
 * wait. */
static bool accept_without_fd(struct http_server *s)
{
    if (s->spare_fd >= 0) {
        close(s->spare_fd);
        int fd = accept4(s->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        bool nobody = fd < 0 && errno == EAGAIN; /* the kernel asks for a descriptor before it looks who waits */
        s->stats.refused += fd >= 0;
        if (fd >= 0)
            close(fd);
        s->spare_fd = spare_open();
        if (s->spare_fd >= 0 && (fd >= 0 || nobody))
            return !nobody;
    }
    loop_fd_set(s->listen, 0);
    loop_timer_set(s->listen_again, ACCEPT_AGAIN_MS);
    return false;
}

static void on_accept_again(void *arg)
{
    struct http_server *s = arg;
    if (s->spare_fd < 0)
        s->spare_fd = spare_open();
    loop_fd_set(s->listen, LOOP_READ);
}

static bool accept_one(struct http_server *s)
{
    struct sockaddr_storage from;
    socklen_t size = sizeof from;
    int fd = accept4(s->listen_fd, (struct sockaddr *)&from, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM))
        return accept_without_fd(s);
    if (fd < 0) /* EAGAIN: no more. The others: the connection failed before it was accepted. */
        return errno != EAGAIN && errno != EWOULDBLOCK;
    struct in6_addr source;
    char text[INET6_ADDRSTRLEN];
    source_of(&from, &source, text, sizeof text);
    conn_new(s, fd, &source, text);
    return true;
}

static int64_t sweep_ms(const struct http_server *s)
{
    int64_t least = s->limits.header_ms < s->limits.idle_ms ? s->limits.header_ms : s->limits.idle_ms;
    return least / 8 < 1 ? 1 : least / 8 > 1000 ? 1000 : least / 8;
}

static void on_accept(void *arg, int fd, int events)
{
    (void)fd, (void)events;
    struct http_server *s = arg;
    bool was_empty = s->stats.connections == 0;
    for (int i = 0; i < ACCEPTS_PER_TURN && accept_one(s); i++)
        ;
    if (was_empty && s->stats.connections)
        loop_timer_set(s->sweep, sweep_ms(s));
}

static void on_sweep(void *arg)
{
    struct http_server *s = arg;
    int64_t now_ms = clock_now_ms();
    list_each_safe(node, &s->conns)
        conn_sweep(list_entry(node, struct http_conn, link), now_ms);
    if (s->stats.connections)
        loop_timer_set(s->sweep, sweep_ms(s));
}

void server_conn_gone(struct http_server *s)
{
    if (s->stats.connections == 0)
        loop_timer_set(s->sweep, -1);
}

/* --- server --- */

static bool is_loopback(const struct sockaddr_storage *a)
{
    if (a->ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)a)->sin6_addr);
}

static int read_address(const char *text, uint16_t port, bool anywhere, struct sockaddr_storage *a, socklen_t *size,
                        struct err *err)
{
    memset(a, 0, sizeof *a);
    struct sockaddr_in *in = (struct sockaddr_in *)a;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)a;
    if (strcmp(text, "localhost") == 0)
        text = "127.0.0.1";
    if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
        *size = sizeof *in;
    } else if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
        *size = sizeof *in6;
    } else {
        return err_field(err, ERR_INVALID, "listen", "write an address such as 127.0.0.1 or ::1",
                         "\"%s\" is not an IP address", text);
    }
    if (!anywhere && !is_loopback(a))
        return err_field(err, ERR_INVALID, "listen", "listen on 127.0.0.1, or set up TLS and tokens first",
                         "%s can be reached from other machines", text);
    return 0;
}

/* These are inherited by accepted sockets. */
static void set_options(int fd)
{
    const struct {
        int level, name, value;
    } options[] = {
        { SOL_SOCKET, SO_REUSEADDR, 1 },
        { SOL_SOCKET, SO_KEEPALIVE, 1 },
        { IPPROTO_TCP, TCP_NODELAY, 1 },
        { IPPROTO_TCP, TCP_KEEPIDLE, 60 },
        { IPPROTO_TCP, TCP_KEEPINTVL, 15 },
        { IPPROTO_TCP, TCP_KEEPCNT, 4 },
        { IPPROTO_TCP, TCP_NOTSENT_LOWAT, NOTSENT_BYTES }, /* what a slow reader can pile up in the kernel */
    };
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        check(setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int)) == 0);
}

static int listen_on(const char *address, uint16_t port, bool anywhere, uint16_t *bound, struct err *err)
{
    struct sockaddr_storage a;
    socklen_t size;
    int rc = read_address(address, port, anywhere, &a, &size, err);
    if (rc < 0)
        return rc;
    autoclose int fd = socket(a.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_errno(err, "make a socket to listen on %s", address);
    set_options(fd);
    if (bind(fd, (struct sockaddr *)&a, size) < 0 || listen(fd, BACKLOG) < 0)
        return err_errno(err, "listen on %s port %u", address, port);
    size = sizeof a;
    check(getsockname(fd, (struct sockaddr *)&a, &size) == 0);
    *bound =
        ntohs(a.ss_family == AF_INET ? ((struct sockaddr_in *)&a)->sin_port : ((struct sockaddr_in6 *)&a)->sin6_port);
    int taken = fd;
    fd = -1;
    return taken;
}

struct http_server *http_server_new(struct loop *loop, const char *address, uint16_t port, bool anywhere,
                                    const struct http_limits *limits, const struct http_events *events, struct err *err)
{
    check(events->on_head && events->on_body && events->on_end && events->on_gone);
    uint16_t bound = 0;
    int fd = listen_on(address, port, anywhere, &bound, err);
    if (fd < 0)
        return NULL;
    struct http_server *s = mem_zero(1, sizeof *s);
    s->loop = loop;
    s->limits = *limits;
    s->events = *events;
    s->listen_fd = fd;
    s->port = bound;
    s->spare_fd = spare_open();
    list_init(&s->conns);
    for (size_t i = 0; i < SOURCE_BUCKETS; i++)
        list_init(&s->sources[i]);
    s->listen = loop_fd_add(loop, fd, LOOP_READ, on_accept, s);
    s->listen_again = loop_timer_add(loop, on_accept_again, s);
    s->sweep = loop_timer_add(loop, on_sweep, s);
    http_server_allow_host(s, "localhost");
    http_server_allow_host(s, "127.0.0.1");
    http_server_allow_host(s, "[::1]");
    return s;
}

void http_server_free(struct http_server *s)
{
    if (!s)
        return;
    check(!s->in_callback);
    list_each_safe(node, &s->conns) {
        struct http_conn *c = list_entry(node, struct http_conn, link);
        /* Answers given in this turn have not been tried yet. What the kernel takes now still arrives. */
        struct evbuffer *out = bufferevent_get_output(c->bev);
        evbuffer_unfreeze(out, 1);
        (void)!evbuffer_write(out, bufferevent_getfd(c->bev));
        conn_free(c);
    }
    loop_fd_remove(s->listen);
    loop_timer_remove(s->listen_again);
    loop_timer_remove(s->sweep);
    close(s->listen_fd);
    if (s->spare_fd >= 0)
        close(s->spare_fd);
    for (size_t i = 0; i < s->hosts_count; i++)
        free(s->hosts[i]);
    free(s->hosts);
    buf_fini(&s->scratch);
    free(s);
}

uint16_t http_server_port(const struct http_server *s)
{
    return s->port;
}

void http_server_allow_host(struct http_server *s, const char *host)
{
    s->hosts = mem_grow(s->hosts, &s->hosts_cap, s->hosts_count + 1, sizeof *s->hosts);
    s->hosts[s->hosts_count++] = mem_str(host);
}

bool server_allows_host(const struct http_server *s, struct bytes name)
{
    for (size_t i = 0; i < s->hosts_count; i++)
        if (strlen(s->hosts[i]) == name.size && strncasecmp(s->hosts[i], name.data, name.size) == 0)
            return true;
    return false;
}

void http_server_stats(const struct http_server *s, struct http_server_stats *out)
{
    *out = s->stats;
}

/* --- requests --- */

const char *http_method(const struct http_request *r)
{
    return r->head.method;
}

struct bytes http_path(const struct http_request *r)
{
    return r->head.path;
}

void http_query_each(struct http_request *r, void (*each)(void *arg, const char *name, const char *value), void *arg)
{
    if (!r->query_done)
        r->query_count = http_query_decode(r->head.query, &r->query);
    r->query_done = true;
    const char *at = r->query.data;
    for (size_t i = 0; i < r->query_count; i++) {
        const char *name = at, *value = name + strlen(name) + 1;
        at = value + strlen(value) + 1;
        each(arg, name, value);
    }
}

struct search {
    const char *name, *value;
};

static void search_each(void *arg, const char *name, const char *value)
{
    struct search *s = arg;
    if (!s->value && strcmp(name, s->name) == 0)
        s->value = value;
}

const char *http_query(struct http_request *r, const char *name)
{
    struct search s = { .name = name };
    http_query_each(r, search_each, &s);
    return s.value;
}

const char *http_header(const struct http_request *r, const char *name)
{
    return http_head_field(&r->head, name);
}

const char *http_source(const struct http_request *r)
{
    return r->conn->source_text;
}

void http_set_context(struct http_request *r, void *context)
{
    r->context = context;
}

void *http_context(const struct http_request *r)
{
    return r->context;
}

void http_body_limit(struct http_request *r, uint64_t bytes)
{
    r->body_limit = bytes;
}

void http_pause(struct http_request *r, bool paused)
{
    if (r->answer == ANSWER_NONE)
        conn_pause(r->conn, paused);
}

void http_count_gap(struct http_request *r)
{
    r->conn->server->stats.sse_gaps++;
}
