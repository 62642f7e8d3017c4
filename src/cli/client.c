#include "cli/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <curl/curl.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/prng.h"
#include "cli/profile.h"
#include "cli/term.h"
#include "io/clock.h"

#define SILENCE_S 90L /* an answer that stops for this long is given up */
#define REPLY_BYTES_MAX (256u << 20)
#define RETRY_MS 30000

struct client {
    char *url;    /* without a slash at the end */
    char *token;  /* or NULL */
    CURL *easy;   /* one connection, kept */
    CURLM *multi; /* made for the first stream */
};

enum err_code status_error(long status)
{
    switch (status) {
    case 401:
        return ERR_UNAUTH;
    case 403:
        return ERR_DENIED;
    case 404:
        return ERR_NOT_FOUND;
    case 405:
        return ERR_METHOD;
    case 409:
        return ERR_CONFLICT;
    case 413:
        return ERR_TOO_LARGE;
    case 421:
        return ERR_HOST;
    case 429:
        return ERR_FULL;
    case 504:
        return ERR_TIMEOUT;
    default:
        return status >= 500 ? ERR_UNAVAILABLE : ERR_INVALID;
    }
}

struct client *client_new(const char *url, const char *token)
{
    static bool ready;
    if (!ready)
        check(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
    ready = true;
    struct client *c = mem_zero(1, sizeof *c);
    c->url = mem_str(url);
    for (size_t size = strlen(c->url); size && c->url[size - 1] == '/'; size--)
        c->url[size - 1] = '\0';
    c->token = mem_str(token);
    c->easy = curl_easy_init();
    check(c->easy);
    return c;
}

void client_free(struct client *c)
{
    if (!c)
        return;
    curl_easy_cleanup(c->easy);
    if (c->multi)
        curl_multi_cleanup(c->multi);
    free(c->url);
    if (c->token)
        explicit_bzero(c->token, strlen(c->token));
    free(c->token);
    free(c);
}

const char *client_url(const struct client *c)
{
    return c->url;
}

static bool same_url(const char *a, const char *b)
{
    size_t na = strlen(a), nb = strlen(b);
    while (na && a[na - 1] == '/')
        na--;
    while (nb && b[nb - 1] == '/')
        nb--;
    return na == nb && strncasecmp(a, b, na) == 0;
}

int client_open(struct client **out, const struct args *args, struct err *err)
{
    struct profile profile;
    const char *flag = args_text(args, "master", NULL), *env = getenv("ROTA_MASTER");
    int rc = profile_read(&profile, err);
    if (rc < 0)
        return rc;
    const char *url = flag ? flag : env && *env ? env : profile.url;
    const char *token_file = args_text(args, "token-file", NULL), *token_env = getenv("ROTA_TOKEN_FILE");
    if (!token_file)
        token_file = token_env && *token_env ? token_env : NULL;
    if (!token_file && url && profile.url && same_url(url, profile.url))
        token_file = profile.token_file;
    autobuf struct buf token = BUF_INIT;
    if (!url)
        rc = err_field(err, ERR_UNAVAILABLE, NULL,
                       "start one with `rota up`, or name it with --master URL or `rota login URL`",
                       "no master is known here");
    else if (strncasecmp(url, "http://", 7) != 0 && strncasecmp(url, "https://", 8) != 0)
        rc = err_field(err, ERR_INVALID,
                       flag          ? "--master"
                       : env && *env ? "ROTA_MASTER"
                                     : "url",
                       "write http://HOST:7682", "\"%s\" is not a URL", url);
    else if (token_file)
        rc = secret_read(token_file, &token, err);
    if (rc == -ERR_NOT_FOUND) /* a profile outlives its cluster: the answer is not "no such thing" but "no master" */
        rc = err_field(err, ERR_UNAVAILABLE, NULL,
                       "is the cluster gone? start one with `rota up`, or name another with --master URL",
                       "there is no token file %s", token_file);
    if (rc == 0)
        *out = client_new(url, token.size ? token.data : NULL);
    if (token.data)
        explicit_bzero(token.data, token.size);
    profile_fini(&profile);
    return rc;
}

/* --- one call --- */

struct transfer {
    const struct call *call;
    struct reply *reply;
    uint64_t sent;
    bool too_large;
};

static size_t on_reply(char *data, size_t one, size_t size, void *arg)
{
    (void)one;
    struct transfer *t = arg;
    if (t->reply->body.size + size > REPLY_BYTES_MAX) {
        t->too_large = true;
        return 0;
    }
    buf_add(&t->reply->body, data, size);
    return size;
}

static bool header_is(const char *data, size_t size, const char *name, struct bytes *value)
{
    size_t length = strlen(name);
    if (size <= length || data[length] != ':' || strncasecmp(data, name, length) != 0)
        return false;
    const char *from = data + length + 1, *end = data + size;
    while (from < end && (*from == ' ' || *from == '\t'))
        from++;
    while (end > from && strchr("\r\n \t", end[-1]))
        end--;
    *value = bytes_of(from, (size_t)(end - from));
    return true;
}

static size_t on_reply_header(char *data, size_t one, size_t size, void *arg)
{
    (void)one;
    struct transfer *t = arg;
    struct bytes value;
    if (header_is(data, size, "Retry-After", &value) && value.size && value.size < 6 && value.data[0] >= '0' &&
        value.data[0] <= '9')
        t->reply->retry_after_ms = strtol(value.data, NULL, 10) * 1000;
    return size;
}

static size_t on_need(char *data, size_t one, size_t size, void *arg)
{
    (void)one;
    struct transfer *t = arg;
    ssize_t got;
    do
        got = pread(t->call->body_fd, data, size, (off_t)t->sent);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return CURL_READFUNC_ABORT;
    t->sent += (uint64_t)got;
    if (t->call->on_sent)
        t->call->on_sent(t->call->arg, t->sent);
    return (size_t)got;
}

static int on_seek(void *arg, curl_off_t offset, int origin)
{
    struct transfer *t = arg;
    if (origin != SEEK_SET || offset < 0)
        return CURL_SEEKFUNC_CANTSEEK;
    t->sent = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

static struct curl_slist *add_header(struct curl_slist *list, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static struct curl_slist *add_header(struct curl_slist *list, const char *fmt, ...)
{
    autobuf struct buf line = BUF_INIT;
    va_list args;
    va_start(args, fmt);
    buf_vprintf(&line, fmt, args);
    va_end(args);
    struct curl_slist *longer = curl_slist_append(list, line.data);
    check(longer);
    return longer;
}

static struct curl_slist *common_setup(struct client *c, CURL *easy, const char *path)
{
    autobuf struct buf url = BUF_INIT;
    buf_printf(&url, "%s%s", c->url, path);
    curl_easy_setopt(easy, CURLOPT_URL, url.data);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, 5000L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "rota/" ROTA_VERSION);
    struct curl_slist *headers = add_header(NULL, "Expect:");
    if (c->token)
        headers = add_header(headers, "Authorization: Bearer %s", c->token);
    return headers;
}

/* The server's words are data: bounded, and cleaned where they are printed. */
static int problem_error(long status, struct bytes body, struct err *err)
{
    enum err_code code = status_error(status);
    json_t *problem = json_loadb(body.data ? body.data : "", body.size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    const char *detail = json_text(problem, "detail", NULL), *title = json_text(problem, "title", NULL);
    const char *remedy = json_text(problem, "remedy", NULL);
    if (!remedy)
        remedy =
            status == 401
                ? "`rota login URL` stores a token; on the master's machine ROTA_TOKEN_FILE may name STATE/master/token"
                : NULL;
    if (detail || title)
        err_field(err, code, json_text(problem, "field", NULL), remedy, "%s", detail ? detail : title);
    else
        err_field(err, code, NULL, remedy, "the master answered %ld (%s)", status, err_title(code));
    json_decref(problem);
    return -(int)code;
}

static int transport_error(struct client *c, CURL *easy, CURLcode code, const char *text, struct err *err)
{
    const char *why = text && *text ? text : curl_easy_strerror(code);
    long number = 0;
    if (code == CURLE_COULDNT_CONNECT && curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &number) == CURLE_OK && number)
        why = strerror((int)number);
    if (code == CURLE_OPERATION_TIMEDOUT)
        return err_field(err, ERR_UNAVAILABLE, NULL, "try again; `rota stats` shows whether it answers",
                         "the master at %s did not answer in time", c->url);
    if (code == CURLE_GOT_NOTHING || code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR || code == CURLE_PARTIAL_FILE)
        return err_field(err, ERR_UNAVAILABLE, NULL, "try again", "the connection to the master at %s was lost: %s",
                         c->url, why);
    return err_field(err, ERR_UNAVAILABLE, NULL, "start one with `rota up`, or say where it is with --master URL",
                     "the master at %s cannot be reached: %s", c->url, why);
}

void reply_fini(struct reply *r)
{
    buf_fini(&r->body);
    *r = (struct reply){ 0 };
}

int client_call(struct client *c, const struct call *call, struct reply *reply, struct err *err)
{
    struct transfer t = { .call = call, .reply = reply };
    char text[CURL_ERROR_SIZE] = "";
    reply->status = 0;
    reply->retry_after_ms = 0;
    buf_clear(&reply->body);
    CURL *easy = c->easy;
    curl_easy_reset(easy); /* keeps the connection */
    struct curl_slist *headers = common_setup(c, easy, call->path);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, text);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_reply);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &t);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_reply_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, &t);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, SILENCE_S);
    if (call->timeout_ms)
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)call->timeout_ms);
    bool upload = call->body_fd_bytes > 0;
    if (call->body.data || upload || strcmp(call->method, "POST") == 0) {
        headers = add_header(headers, "Content-Type: %s", call->type ? call->type : "application/json");
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                         (curl_off_t)(upload ? call->body_fd_bytes : call->body.size));
        if (upload) {
            curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_need);
            curl_easy_setopt(easy, CURLOPT_READDATA, &t);
            curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek);
            curl_easy_setopt(easy, CURLOPT_SEEKDATA, &t);
            curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, 262144L);
        } else {
            curl_easy_setopt(easy, CURLOPT_POSTFIELDS, call->body.data ? call->body.data : "");
        }
    }
    if (strcmp(call->method, "GET") != 0)
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, call->method);
    if (call->key)
        headers = add_header(headers, "Idempotency-Key: %s", call->key);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    CURLcode code = curl_easy_perform(easy);
    curl_slist_free_all(headers);
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &reply->status);
    /* A server that refuses early answers and closes while we still send: its answer counts. */
    if (code != CURLE_OK && !(code == CURLE_SEND_ERROR && reply->status >= 400)) {
        reply->status = 0;
        if (t.too_large)
            return err_set(err, ERR_TOO_LARGE, "the master's answer is larger than %u MiB", REPLY_BYTES_MAX >> 20);
        return transport_error(c, easy, code, text, err);
    }
    if (reply->status < 200 || reply->status > 299)
        return problem_error(reply->status, buf_bytes(&reply->body), err);
    return 0;
}

static void pause_ms(int64_t ms)
{
    struct timespec t = { ms / 1000, ms % 1000 * 1000000 };
    while (nanosleep(&t, &t) < 0 && errno == EINTR)
        ;
}

int client_call_retry(struct client *c, const struct call *call, struct reply *reply, struct err *err)
{
    int64_t start_ms = clock_now_ms(), wait_ms = 200;
    struct prng random;
    prng_seed(&random, (uint64_t)clock_now_ns() ^ (uint64_t)getpid());
    for (int attempt = 1;; attempt++) {
        struct err why;
        int rc = client_call(c, call, reply, &why);
        bool again = rc < 0 && (reply->status == 0 || (reply->status >= 502 && reply->status <= 504)) &&
                     why.code != ERR_TOO_LARGE;
        int64_t pause = wait_ms / 2 + (int64_t)prng_below(&random, (uint64_t)wait_ms / 2 + 1);
        if (reply->retry_after_ms > pause)
            pause = reply->retry_after_ms;
        if (!again || clock_now_ms() - start_ms + pause > RETRY_MS) {
            if (rc < 0 && err)
                *err = why;
            return rc;
        }
        if (attempt == 1) {
            autobuf struct buf line = BUF_INIT;
            why.remedy[0] = '\0';
            error_line(&line, &why);
            say("%s; trying again for up to 30 s (the same key: it cannot be queued twice)", line.data);
        }
        pause_ms(pause);
        wait_ms = wait_ms < 2500 ? wait_ms * 2 : 5000;
    }
}

int reply_json(const struct reply *r, json_t **out, struct err *err)
{
    json_error_t why;
    *out = json_loadb(r->body.data ? r->body.data : "", r->body.size,
                      JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
    if (*out)
        return 0;
    return err_field(err, ERR_UNAVAILABLE, NULL, "is that address a master of this version?",
                     "the master's answer is not JSON: %s", why.text);
}

int client_json(struct client *c, const char *method, const char *path, struct bytes body, json_t **out,
                struct err *err)
{
    struct reply reply = { 0 };
    int rc = client_call(c, &(struct call){ .method = method, .path = path, .body = body }, &reply, err);
    if (rc == 0)
        rc = reply_json(&reply, out, err);
    reply_fini(&reply);
    return rc;
}

/* --- streams --- */

struct stream_state {
    CURL *easy;
    struct curl_slist *headers;
    struct buf problem; /* body of an answer that is not 2xx */
    char text[CURL_ERROR_SIZE];
};

static size_t on_stream(char *data, size_t one, size_t size, void *arg)
{
    (void)one;
    struct stream *s = arg;
    long status = 0;
    curl_easy_getinfo(s->state->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 200 && status <= 299) {
        s->received += size;
        s->on_bytes(s->arg, bytes_of(data, size));
    } else if (s->state->problem.size < 65536) {
        buf_add(&s->state->problem, data, size);
    }
    return size;
}

static void copy_header(char *to, size_t size, struct bytes value)
{
    snprintf(to, size, "%.*s", (int)(value.size < size ? value.size : size - 1), value.data);
}

static size_t on_stream_header(char *data, size_t one, size_t size, void *arg)
{
    (void)one;
    struct stream *s = arg;
    struct bytes value;
    if (header_is(data, size, "Rota-Attempt", &value))
        copy_header(s->log_attempt, sizeof s->log_attempt, value);
    return size;
}

void client_stream(struct client *c, struct stream *s, const char *path, const char *last_event_id)
{
    if (!c->multi) {
        c->multi = curl_multi_init();
        check(c->multi);
    }
    s->received = 0;
    s->ended = s->complete = false;
    s->err = (struct err){ 0 };
    s->log_attempt[0] = '\0';
    s->state = mem_zero(1, sizeof *s->state);
    CURL *easy = s->state->easy = curl_easy_init();
    check(easy);
    s->state->headers = common_setup(c, easy, path);
    if (last_event_id)
        s->state->headers = add_header(s->state->headers, "Last-Event-ID: %s", last_event_id);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, s->state->headers);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, s->state->text);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_stream);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, s);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_stream_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, s);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, s);
    check(curl_multi_add_handle(c->multi, easy) == CURLM_OK);
}

void client_stream_stop(struct client *c, struct stream *s)
{
    if (!s->state)
        return;
    curl_multi_remove_handle(c->multi, s->state->easy);
    curl_easy_cleanup(s->state->easy);
    curl_slist_free_all(s->state->headers);
    buf_fini(&s->state->problem);
    free(s->state);
    s->state = NULL;
}

static void stream_done(struct client *c, struct stream *s, CURLcode code)
{
    long status = 0;
    curl_easy_getinfo(s->state->easy, CURLINFO_RESPONSE_CODE, &status);
    s->ended = true;
    if (code != CURLE_OK)
        transport_error(c, s->state->easy, code, s->state->text, &s->err);
    else if (status < 200 || status > 299)
        problem_error(status, buf_bytes(&s->state->problem), &s->err);
    else
        s->complete = true;
    client_stream_stop(c, s);
}

static void turn(struct client *c, int fd, int64_t timeout_ms)
{
    int running = 0, left = 0;
    if (!c->multi) {
        pause_ms(timeout_ms);
        return;
    }
    curl_multi_perform(c->multi, &running);
    CURLMsg *message;
    bool any = false;
    while ((message = curl_multi_info_read(c->multi, &left)))
        if (message->msg == CURLMSG_DONE) {
            struct stream *s = NULL;
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&s);
            stream_done(c, s, message->data.result);
            any = true;
        }
    struct curl_waitfd other = { .fd = fd, .events = CURL_WAIT_POLLIN };
    if (!any)
        curl_multi_poll(c->multi, &other, fd >= 0, (int)timeout_ms, NULL);
}

void client_turn(struct client *c, int64_t timeout_ms)
{
    turn(c, -1, timeout_ms);
}

void client_turn_or(struct client *c, int fd, int64_t timeout_ms)
{
    turn(c, fd, timeout_ms);
}

/* --- paths --- */

void url_escape(struct buf *out, const char *text)
{
    static const char hex[] = "0123456789ABCDEF";
    for (; *text; text++) {
        unsigned char b = (unsigned char)*text;
        if ((b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') || (b >= '0' && b <= '9') || strchr("-._~,", b)) {
            buf_char(out, (char)b);
        } else {
            buf_char(out, '%');
            buf_char(out, hex[b >> 4]);
            buf_char(out, hex[b & 15]);
        }
    }
}

void url_query(struct buf *path, const char *name, const char *value)
{
    if (!value)
        return;
    buf_printf(path, "%c%s=", memchr(path->data, '?', path->size) ? '&' : '?', name);
    url_escape(path, value);
}

/* --- server-sent events --- */

static void sse_line(struct sse *s)
{
    const char *line = s->line.data ? s->line.data : "";
    if (s->line.size == 0) {
        if (s->data.size && !s->overflow) {
            s->data.data[--s->data.size] = '\0'; /* the newline after the last line */
            s->on_event(s->arg, s->id, s->event[0] ? s->event : "message", buf_bytes(&s->data));
        }
        buf_clear(&s->data);
        s->event[0] = '\0';
        s->overflow = false;
        return;
    }
    /* Lines may hold zero bytes: sizes count, not terminators. */
    const char *colon = memchr(line, ':', s->line.size), *end = line + s->line.size;
    size_t name = colon ? (size_t)(colon - line) : s->line.size;
    const char *value = colon ? colon + 1 : end;
    if (value < end && *value == ' ')
        value++;
    if (name == 4 && memcmp(line, "data", 4) == 0) {
        buf_add(&s->data, value, (size_t)(end - value));
        buf_char(&s->data, '\n');
        s->overflow |= s->data.size > SSE_EVENT_MAX;
    } else if (name == 5 && memcmp(line, "event", 5) == 0) {
        snprintf(s->event, sizeof s->event, "%s", value);
    } else if (name == 2 && memcmp(line, "id", 2) == 0) {
        snprintf(s->id, sizeof s->id, "%s", value);
    }
}

void sse_feed(struct sse *s, struct bytes piece)
{
    for (size_t i = 0; i < piece.size; i++) {
        char b = piece.data[i];
        if (b == '\n' && s->skip_newline) {
            s->skip_newline = false;
            continue;
        }
        s->skip_newline = b == '\r';
        if (b == '\n' || b == '\r') {
            sse_line(s);
            buf_clear(&s->line);
            if (s->line.data)
                s->line.data[0] = '\0';
        } else if (s->line.size <= SSE_EVENT_MAX) {
            buf_char(&s->line, b);
        } else {
            s->overflow = true;
        }
    }
}

void sse_fini(struct sse *s)
{
    buf_fini(&s->line);
    buf_fini(&s->data);
}

/* --- fields of answers --- */

const char *json_text(const json_t *object, const char *key, const char *fallback)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : fallback;
}

int64_t json_int(const json_t *object, const char *key, int64_t fallback)
{
    const json_t *value = json_object_get(object, key);
    return json_is_integer(value) ? json_integer_value(value)
           : json_is_real(value)  ? (int64_t)json_real_value(value)
                                  : fallback;
}

double json_real_of(const json_t *object, const char *key, double fallback)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : fallback;
}
