#include "exec/engine.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

#include "base/check.h"
#include "base/list.h"
#include "base/mem.h"
#include "exec/engine_json.h"
#include "io/loop.h"

#define CONNECT_MS 2000
#define CONNECTIONS_KEPT 64L

struct engine {
    struct loop *loop;
    CURLM *multi;
    struct loop_timer *timer;
    char address[sizeof((struct sockaddr_un *)0)->sun_path];
    unsigned minor;
    struct curl_slist *headers;
    struct list_node calls;
    struct list_node heads; /* whose head has come since libcurl was last called */
};

struct engine_call {
    struct list_node node, head_node;
    struct engine *engine;
    CURL *curl;
    struct engine_request request;
    struct buf body, reply;
    bool too_large;
    int head_status;
    unsigned api;
};

static void call_free(struct engine_call *c)
{
    list_remove(&c->node);
    list_remove(&c->head_node);
    curl_multi_remove_handle(c->engine->multi, c->curl);
    curl_easy_cleanup(c->curl);
    buf_fini(&c->body);
    buf_fini(&c->reply);
    free(c);
}

static void call_done(struct engine_call *c, CURLcode code)
{
    struct engine_reply reply = { .api = c->api };
    long status = 0;
    if (c->too_large) {
        snprintf(reply.error, sizeof reply.error, "the answer is larger than %u bytes", ENGINE_REPLY_BYTES_MAX);
    } else if (code != CURLE_OK) {
        reply.timed_out = code == CURLE_OPERATION_TIMEDOUT;
        snprintf(reply.error, sizeof reply.error, "%s: %s", c->engine->address,
                 code == CURLE_OPERATION_TIMEDOUT ? "no answer in time" : curl_easy_strerror(code));
    } else {
        curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
        reply.status = (int)status;
        reply.body = buf_bytes(&c->reply);
        if (status >= 400)
            engine_json_message(reply.body, reply.error, sizeof reply.error);
    }
    struct engine_request request = c->request;
    struct buf body = c->reply; /* outlives the call, which is gone when its owner hears of its end */
    c->reply = BUF_INIT;
    call_free(c);
    request.on_done(request.arg, &reply);
    buf_fini(&body);
}

/* What libcurl has found out since. Its functions may be called again from here on, and are. */
static void deliver(struct engine *e)
{
    while (!list_empty(&e->heads)) {
        struct engine_call *c = list_entry(list_first(&e->heads), struct engine_call, head_node);
        list_remove(&c->head_node);
        if (c->request.on_head)
            c->request.on_head(c->request.arg, c->head_status);
    }
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(e->multi, &left))) {
        if (message->msg != CURLMSG_DONE)
            continue;
        struct engine_call *c = NULL;
        CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&c);
        call_done(c, code);
    }
}

/* --- libcurl's callbacks --- */

static void socket_ready(void *arg, int fd, int events)
{
    struct engine *e = arg;
    int running;
    curl_multi_socket_action(e->multi, fd,
                             (events & LOOP_READ ? CURL_CSELECT_IN : 0) | (events & LOOP_WRITE ? CURL_CSELECT_OUT : 0),
                             &running);
    deliver(e);
}

static int on_socket(CURL *curl, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
    struct engine *e = arg;
    struct loop_fd *watch = socket_arg;
    (void)curl;
    if (what == CURL_POLL_REMOVE) {
        loop_fd_remove(watch);
        curl_multi_assign(e->multi, fd, NULL);
        return 0;
    }
    int events = (what & CURL_POLL_IN ? LOOP_READ : 0) | (what & CURL_POLL_OUT ? LOOP_WRITE : 0);
    if (watch)
        loop_fd_set(watch, events);
    else
        curl_multi_assign(e->multi, fd, loop_fd_add(e->loop, fd, events, socket_ready, e));
    return 0;
}

static int on_timer(CURLM *multi, long ms, void *arg)
{
    struct engine *e = arg;
    (void)multi;
    loop_timer_set(e->timer, ms);
    return 0;
}

static void timer_due(void *arg)
{
    struct engine *e = arg;
    int running;
    curl_multi_socket_action(e->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    deliver(e);
}

static size_t on_header(char *data, size_t size, size_t count, void *arg)
{
    static const char version[] = "api-version: 1.";
    struct engine_call *c = arg;
    size_t bytes = size * count;
    if (bytes > sizeof version - 1 && strncasecmp(data, version, sizeof version - 1) == 0)
        c->api = (unsigned)strtoul(data + sizeof version - 1, NULL, 10); /* ends at the line's end, which is there */
    if (bytes == 2 && data[0] == '\r' && !list_linked(&c->head_node)) {
        long status = 0;
        curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
        c->head_status = (int)status;
        list_append(&c->engine->heads, &c->head_node);
    }
    return bytes;
}

static size_t on_write(char *data, size_t size, size_t count, void *arg)
{
    struct engine_call *c = arg;
    size_t bytes = size * count;
    if (c->request.on_data && c->head_status >= 200 && c->head_status < 300) {
        c->request.on_data(c->request.arg, bytes_of(data, bytes));
        return bytes;
    }
    if (c->reply.size + bytes > ENGINE_REPLY_BYTES_MAX) {
        c->too_large = true;
        return 0;
    }
    buf_add(&c->reply, data, bytes);
    return bytes;
}

/* --- calls --- */

static void set_up(struct engine_call *c, const char *url)
{
    CURL *curl = c->curl;
    const struct engine_request *r = &c->request;
    curl_easy_setopt(curl, CURLOPT_PRIVATE, c);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, c->engine->address);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, r->method);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)r->timeout_ms);
    if (r->stall_ms) {
        curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)((r->stall_ms + 999) / 1000));
    }
    if (r->fresh) {
        curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, 1L);
        curl_easy_setopt(curl, CURLOPT_FORBID_REUSE, 1L);
    }
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, c);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, c);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, c->engine->headers);
    if (strcmp(r->method, "POST") == 0) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)c->body.size);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, c->body.size ? c->body.data : "");
    }
}

struct engine_call *engine_send(struct engine *e, const struct engine_request *request)
{
    struct engine_call *c = mem_zero(1, sizeof *c);
    c->engine = e;
    c->request = *request;
    c->body = c->reply = BUF_INIT;
    buf_add(&c->body, request->body.data, request->body.size);
    list_init(&c->head_node);
    list_init(&c->node);
    c->curl = curl_easy_init();
    check(c->curl);
    autobuf struct buf url = BUF_INIT;
    buf_str(&url, "http://engine");
    if (e->minor)
        buf_printf(&url, "/v1.%u", e->minor);
    buf_str(&url, request->path);
    set_up(c, url.data);
    c->request.method = c->request.path = NULL; /* the caller's */
    list_append(&e->calls, &c->node);
    check(curl_multi_add_handle(e->multi, c->curl) == CURLM_OK);
    return c;
}

void engine_cancel(struct engine_call *c)
{
    if (c)
        call_free(c);
}

/* --- life --- */

static int set_address(struct engine *e, const char *address, struct err *err)
{
    static const char scheme[] = "unix://";
    const char *host = getenv("DOCKER_HOST");
    if (!address || !*address)
        address = host && *host ? host : ENGINE_SOCKET;
    if (strncmp(address, scheme, sizeof scheme - 1) == 0)
        address += sizeof scheme - 1;
    if (address[0] != '/')
        return err_field(err, ERR_INVALID, "engine", "write unix:///path/of/docker.sock",
                         "\"%s\" is not the address of a unix socket; other ways to a container engine are not taken",
                         address);
    if (strlen(address) >= sizeof e->address)
        return err_field(err, ERR_INVALID, "engine", "give it a shorter path, for example by a link",
                         "the path of the container engine's socket is longer than %zu bytes", sizeof e->address - 1);
    snprintf(e->address, sizeof e->address, "%s", address);
    return 0;
}

struct engine *engine_new(struct loop *loop, const char *address, struct err *err)
{
    struct engine *e = mem_zero(1, sizeof *e);
    if (set_address(e, address, err) < 0) {
        free(e);
        return NULL;
    }
    check(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
    e->loop = loop;
    list_init(&e->calls);
    list_init(&e->heads);
    e->headers = curl_slist_append(NULL, "Content-Type: application/json");
    e->headers = curl_slist_append(e->headers, "Expect:");
    e->timer = loop_timer_add(loop, timer_due, e);
    e->multi = curl_multi_init();
    check(e->multi && e->headers);
    curl_multi_setopt(e->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(e->multi, CURLMOPT_SOCKETDATA, e);
    curl_multi_setopt(e->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(e->multi, CURLMOPT_TIMERDATA, e);
    curl_multi_setopt(e->multi, CURLMOPT_MAXCONNECTS, CONNECTIONS_KEPT);
    return e;
}

void engine_free(struct engine *e)
{
    if (!e)
        return;
    while (!list_empty(&e->calls))
        call_free(list_entry(list_first(&e->calls), struct engine_call, node));
    curl_multi_cleanup(e->multi);
    curl_slist_free_all(e->headers);
    loop_timer_remove(e->timer);
    curl_global_cleanup();
    free(e);
}

const char *engine_address(const struct engine *e)
{
    return e->address;
}

void engine_version_set(struct engine *e, unsigned minor)
{
    e->minor = minor;
}
