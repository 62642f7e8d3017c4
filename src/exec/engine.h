/* engine.h: HTTP to a container engine's unix socket, on the loop (libcurl). It knows no containers: exec_docker does.
 *
 * No call blocks, and no callback comes inside a call: all come from the loop. A call that has no answer in time is
 * over, but what it asked for may still happen: who must know looks afterwards. */
#ifndef ROTA_EXEC_ENGINE_H
#define ROTA_EXEC_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct loop;

#define ENGINE_SOCKET "/var/run/docker.sock"
#define ENGINE_API_MAX 47 /* 1.47: the newest that we know; an engine that is older decides */
#define ENGINE_API_MIN 30 /* wait?condition=next-exit */
#define ENGINE_REPLY_BYTES_MAX (1u << 20)

struct engine;
/* address: "unix:///path" or a path; NULL: $DOCKER_HOST, else ENGINE_SOCKET. ERR_INVALID: it is no unix socket's. */
struct engine *engine_new(struct loop *loop, const char *address, struct err *err);
void engine_free(struct engine *e); /* cancels what is under way */
const char *engine_address(const struct engine *e);
/* The API version that paths are prefixed with, as in "1.41": minor 41. 0: not agreed on. */
void engine_version_set(struct engine *e, unsigned minor);

struct engine_reply {
    int status;        /* HTTP; 0: there was none */
    bool timed_out;    /* status 0, because nothing came in time */
    unsigned api;      /* minor of the header Api-Version; 0: not sent */
    struct bytes body; /* what on_data did not take; at most ENGINE_REPLY_BYTES_MAX */
    char error[256];   /* status 0: why; else the engine's message when it is one of failure; "" if none */
};

struct engine_request {
    const char *method; /* "GET", "POST", "DELETE" */
    const char *path;   /* "/containers/json": the version is put before it when one is agreed on */
    struct bytes body;  /* JSON; copied */
    int64_t timeout_ms; /* 0: none */
    int64_t stall_ms;   /* 0: none; over when nothing has come for so long */
    bool fresh;         /* on a connection of its own: never repeated by the client, whatever happens */
    void *arg;
    /* May be NULL. The head of the reply is there, the body may take long. */
    void (*on_head)(void *arg, int status);
    /* May be NULL. A piece of the body of a good reply (2xx), which is then not kept. Must not call engine_... */
    void (*on_data)(void *arg, struct bytes piece);
    void (*on_done)(void *arg, const struct engine_reply *reply); /* the last one; the call is gone when it returns */
};

struct engine_call;
struct engine_call *engine_send(struct engine *e, const struct engine_request *request);
void engine_cancel(struct engine_call *call); /* no callback any more; NULL is fine; not from on_data */

#endif
