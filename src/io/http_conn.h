/* http_conn.h: inside of the HTTP server; only http*.c include it.
 *
 * A connection goes round HEAD -> BODY -> ANSWER -> HEAD with at most one exchange open, and ends through CLOSING (what
 * was written goes out) and LINGER (what still comes in is thrown away, or the reset would overtake the answer). DRAIN
 * replaces what is left of BODY when the answer was given early. All callbacks of http_events but the on_gone of a
 * broken connection come from conn_process, and nothing that they may call ends an exchange or a connection under them:
 * ends are marked, and seen to by conn_process afterwards. */
#ifndef ROTA_IO_HTTP_CONN_H
#define ROTA_IO_HTTP_CONN_H

#include <event2/bufferevent.h>
#include <event2/event_struct.h>
#include <netinet/in.h>

#include "base/list.h"
#include "io/http.h"
#include "io/http_parse.h"
#include "io/loop.h"

enum {
    SOURCE_BUCKETS = 1024,
    INPUT_BYTES_MAX = HTTP_HEAD_BYTES_MAX + 4096, /* read ahead of what is being handled */
    OUTPUT_BYTES_BUSY = 32 * 1024,                /* a peer with more than that to take is given no new request */
    REQUESTS_PER_TURN = 16,      /* pipelined requests handled before other connections have their turn */
    DRAIN_BYTES_MAX = 64 * 1024, /* rest of a body that is read to keep a connection */
    LINGER_MS = 2000,
    LINGER_BYTES_MAX = 16 * 1024 * 1024
};

struct http_server {
    struct loop *loop;
    struct http_limits limits;
    struct http_events events;
    struct http_server_stats stats;
    struct loop_fd *listen;
    struct loop_timer *listen_again; /* after a time without a free descriptor */
    struct loop_timer *sweep;        /* looks at deadlines while there are connections */
    int listen_fd;
    int spare_fd; /* given up to accept and close a connection when there is no other descriptor */
    uint16_t port;
    bool in_callback;
    char **hosts;
    size_t hosts_count, hosts_cap;
    struct list_node conns;
    struct list_node sources[SOURCE_BUCKETS]; /* connections by hash of their source */
    struct buf scratch;
    char date[40];
    int64_t date_s;
};

enum conn_phase { CONN_HEAD, CONN_BODY, CONN_ANSWER, CONN_DRAIN, CONN_CLOSING, CONN_LINGER, CONN_OVER };

struct http_conn {
    struct list_node link, source_link;
    struct http_server *server;
    struct bufferevent *bev;
    struct event later; /* conn_process in the next turn */
    struct http_request *r;
    enum conn_phase phase;
    bool processing;
    bool paused;      /* the handler wants no body now */
    bool reading;     /* waits for input */
    bool writing;     /* waits for room in the socket */
    bool keep;        /* serve another request after this one */
    bool peer_closed; /* no more input will come */
    bool begun;       /* the head's first byte is there */
    uint32_t served;
    struct http_gate gate;
    struct http_body body;
    uint64_t input_bytes;   /* of the body in this window, or while lingering */
    int64_t deadline_ms;    /* of the phase; 0: none */
    uint64_t output_bytes;  /* put into the output, ever */
    int64_t backlog_ms;     /* end of the window in which the peer must take something; 0: no backlog */
    uint64_t backlog_taken; /* what it had taken at the window's begin */
    struct in6_addr source; /* IPv6: the /64; IPv4 mapped */
    char source_text[INET6_ADDRSTRLEN];
};

enum answer_state { ANSWER_NONE, ANSWER_OPEN, ANSWER_DONE };

struct http_request {
    struct http_conn *conn;
    void *context;
    struct http_head head;
    enum answer_state answer;
    bool chunked;  /* the answer is */
    bool bodiless; /* the answer is: HEAD, 204, 304 */
    bool event_stream;
    bool continue_due; /* the client waits for 100 */
    uint64_t body_limit, body_bytes;
    struct buf headers; /* added by the caller */
    struct buf query;   /* decoded, made when first asked for */
    size_t query_count;
    bool query_done;
    void (*drained)(void *arg, struct http_request *r);
    void *drained_arg;
    size_t drained_low;
    bool drained_armed;
    char text[]; /* the head */
};

void conn_new(struct http_server *s, int fd, const struct in6_addr *source, const char *source_text);
void conn_free(struct http_conn *c);    /* drops an open exchange */
void conn_process(struct http_conn *c); /* may free c */
void conn_process_later(struct http_conn *c);
void conn_write(struct http_conn *c, const void *data, size_t size);
size_t conn_unsent(const struct http_conn *c);
void conn_set_write_mark(struct http_conn *c, size_t low);
void conn_pause(struct http_conn *c, bool paused); /* the body; nothing happens when there is none to come */
/* Answers what went wrong before or in spite of the handler, and closes. With an answer under way it can only close. */
void conn_refuse(struct http_conn *c, const struct http_refusal *why);
void conn_sweep(struct http_conn *c, int64_t now_ms); /* may free c */
bool conn_can_drain(const struct http_conn *c);       /* the rest of the body is known and small */

bool server_allows_host(const struct http_server *s, struct bytes name);
void server_conn_gone(struct http_server *s);

void reply_refusal(struct http_conn *c, const struct http_refusal *why);

#endif
