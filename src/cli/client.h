/* client.h: the HTTP client of the command line, over libcurl.
 *
 * Where the master is: --master, else ROTA_MASTER, else the profile. The token comes from --token-file, else
 * ROTA_TOKEN_FILE, else the profile; the profile's token is sent to the profile's master only. A problem+json answer
 * becomes a struct err with the field, the detail and the remedy of the server. */
#ifndef ROTA_CLI_CLIENT_H
#define ROTA_CLI_CLIENT_H

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"
#include "cli/args.h"

struct client;
int client_open(struct client **out, const struct args *args, struct err *err);
/* For those who know it already (`rota up`, `rota login`); token may be NULL. */
struct client *client_new(const char *url, const char *token);
void client_free(struct client *c);
const char *client_url(const struct client *c);

struct call {
    const char *method, *path;     /* path with query, encoded */
    struct bytes body;             /* data NULL: none */
    int body_fd; uint64_t body_fd_bytes; /* instead of body, when body_fd_bytes > 0: sent from its start */
    const char *type;              /* of the body; NULL: application/json */
    const char *key;               /* Idempotency-Key, or NULL */
    void (*on_sent)(void *arg, uint64_t bytes); void *arg; /* upload progress, or NULL */
    int64_t timeout_ms;            /* 0: 90 s without a byte, no end */
};
struct reply { long status; struct buf body; int64_t retry_after_ms; };
void reply_fini(struct reply *r);
/* 0 for 2xx. Otherwise *err, and reply->status (0: there was no answer). */
int client_call(struct client *c, const struct call *call, struct reply *reply, struct err *err);
/* The same, said again with the same key after a lost connection, 502, 503 and 504, for up to 30 s; says so on stderr.
 */
int client_call_retry(struct client *c, const struct call *call, struct reply *reply, struct err *err);
/* GET (or another method without body, or with this one) and the answer read. *out: yours. */
int client_json(struct client *c, const char *method, const char *path, struct bytes body, json_t **out,
                struct err *err);
/* Reads a reply as JSON. */
int reply_json(const struct reply *r, json_t **out, struct err *err);

/* Answers of unknown length, several at the same time. on_bytes gets the body of a 2xx answer. */
struct stream {
    void (*on_bytes)(void *arg, struct bytes piece);
    void *arg;
    /* filled */
    uint64_t received;
    bool ended;                    /* nothing more comes; then: */
    bool complete;                 /* it ended as the server meant it to */
    struct err err;                /* code ERR_OK, or why there was no (whole) answer */
    char log_attempt[32];          /* the header Rota-Attempt, or "" */
    struct stream_state *state;
};
void client_stream(struct client *c, struct stream *s, const char *path, const char *last_event_id);
void client_stream_stop(struct client *c, struct stream *s); /* idempotent */
/* Waits for up to that long for something to happen and lets it happen. */
void client_turn(struct client *c, int64_t timeout_ms);
void client_turn_or(struct client *c, int fd, int64_t timeout_ms); /* or until there is something to read from fd */

/* Paths: a text as one segment or value of a query. */
void url_escape(struct buf *out, const char *text);
void url_query(struct buf *path, const char *name,
               const char *value); /* ?name=value or &name=value; NULL value: nothing */

/* Server-sent events, piece by piece. */
struct sse {
    struct buf line, data;
    char id[64], event[64];
    bool skip_newline, overflow;
    void (*on_event)(void *arg, const char *id, const char *event, struct bytes data);
    void *arg;
};
#define SSE_EVENT_MAX (1u << 20) /* a longer event is dropped */
void sse_feed(struct sse *s, struct bytes piece);
void sse_fini(struct sse *s);

/* Fields of an answer; absent or of another type: the fallback. */
const char *json_text(const json_t *object, const char *key, const char *fallback);
int64_t json_int(const json_t *object, const char *key, int64_t fallback);
double json_real_of(const json_t *object, const char *key, double fallback);
/* Class of an HTTP status; the exit code follows from it. */
enum err_code status_error(long status);

#endif
