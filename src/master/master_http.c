#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

#include "base/mem.h"
#include "base/parse.h"
#include "io/clock.h"
#include "master/master_int.h"
#include "obs/metrics.h"

static void (*const handlers[API_HANDLERS])(struct exchange *) = {
#define ROUTE(method, pattern, role, handler, body, query, help) [API_##handler] = api_##handler,
#include "api.def"
#undef ROUTE
};

/* --- life of an exchange --- */

static struct exchange *exchange_new(struct master *m, struct http_request *r)
{
    struct exchange *x = mem_zero(1, sizeof *x);
    x->m = m;
    x->r = r;
    x->begun_ns = clock_now_ns();
    list_init(&x->delayed);
    list_init(&x->waiting);
    http_set_context(r, x);
    return x;
}

static void exchange_free_unused(struct exchange *x)
{
    if (x->r || x->holds)
        return;
    list_remove(&x->waiting);
    free(x->arg);
    buf_fini(&x->body);
    buf_fini(&x->answer);
    free(x);
}

void exchange_hold(struct exchange *x)
{
    x->holds++;
}

void exchange_drop(struct exchange *x)
{
    x->holds--;
    exchange_free_unused(x);
}

/* --- answers --- */

void problem_json(struct buf *out, const struct err *err, struct bytes members)
{
    struct json_out j = json_out_to(out);
    const char *title = err_title(err->code);
    autobuf struct buf type = BUF_INIT;
    buf_str(&type, "urn:rota:error:");
    for (const char *at = title; *at; at++)
        buf_char(&type, *at >= 'a' && *at <= 'z' ? *at : '-');
    json_open(&j, NULL, '{');
    json_str(&j, "type", buf_bytes(&type));
    json_cstr(&j, "title", title);
    json_i64(&j, "status", err_http_status(err->code));
    json_cstr(&j, "detail", err->text);
    if (err->field[0])
        json_cstr(&j, "field", err->field);
    if (err->remedy[0])
        json_cstr(&j, "remedy", err->remedy);
    buf_add(out, members.data, members.size);
    json_close(&j, '}');
}

static void count_answer(const struct exchange *x, int status)
{
    if (status >= 100 && status < 600)
        x->m->counts.http_classes[status / 100 - 1]++;
    metric_observe(M_HTTP_REQUEST_SECONDS, (double)(clock_now_ns() - x->begun_ns) / 1e9);
}

static void error_headers(struct http_request *r, const struct err *err)
{
    switch (err->code) {
    case ERR_UNAUTH:
        http_add_header(r, "WWW-Authenticate", "Bearer realm=\"rota\"");
        break;
    case ERR_METHOD:
        http_add_header(r, "Allow", err->remedy);
        break;
    case ERR_UNAVAILABLE:
    case ERR_FULL:
    case ERR_NO_SPACE:
        http_add_header(r, "Retry-After", err->code == ERR_NO_SPACE ? "10" : "1");
        break;
    default:
        break;
    }
}

static void send_error(struct http_request *r, const struct err *err)
{
    error_headers(r, err);
    http_reply_error(r, err);
}

void exchange_send(struct exchange *x)
{
    list_remove(&x->waiting);
    if (x->r && !x->answered) {
        x->answered = true;
        count_answer(x, x->status < 0 ? err_http_status(x->err.code) : x->status);
        if (x->status < 0) {
            send_error(x->r, &x->err);
        } else {
            if (x->location[0])
                http_add_header(x->r, "Location", x->location);
            http_reply(x->r, x->status, x->type, buf_bytes(&x->answer));
        }
        buf_fini(&x->answer);
    }
    exchange_drop(x);
}

void exchanges_tell_unknown(struct master *m)
{
    struct err err;
    err_field(&err, ERR_TIMEOUT, NULL, "free space on the disk of the state directory; to hear of it, send the same "
                                       "again with the same Idempotency-Key",
              "the disk is full: this is decided but not recorded; it takes effect when there is room, and is lost if the "
              "master ends before");
    list_each_safe(node, &m->waiting) {
        struct exchange *x = list_entry(node, struct exchange, waiting);
        list_remove(&x->waiting);
        if (!x->r || x->answered)
            continue;
        x->answered = true;
        count_answer(x, err_http_status(err.code));
        send_error(x->r, &err);
    }
}

/* Nothing is known to be true while records do not fit on the disk: readers are told so, and do not wait for it. */
static bool cannot_tell(struct exchange *x)
{
    return x->m->batch_full && x->route && strcmp(x->route->method, "GET") == 0;
}

static void decide(struct exchange *x)
{
    bool refused_for_room = x->status < 0 && x->err.code == ERR_NO_SPACE; /* waits for no record: there may never be room */
    exchange_hold(x);
    if (master_quiet(x->m) || refused_for_room) {
        exchange_send(x);
    } else if (cannot_tell(x)) {
        err_field(&x->err, ERR_NO_SPACE, NULL, "free space on the disk of the state directory",
                  "the disk is full; what has happened can not be recorded and so not be told");
        x->status = -1;
        exchange_send(x);
    } else {
        gate_add_reply(x->m->gate, x, 0);
        list_append(&x->m->waiting, &x->waiting);
    }
}

void exchange_reply(struct exchange *x, int status, const char *type)
{
    x->status = status;
    x->type = type;
    decide(x);
}

void exchange_json(struct exchange *x, int status)
{
    buf_char(&x->answer, '\n');
    exchange_reply(x, status, status >= 400 ? "application/problem+json" : "application/json");
}

void exchange_error(struct exchange *x, const struct err *err)
{
    x->status = -1;
    x->err = *err;
    decide(x);
}

void exchange_reply_now(struct exchange *x, int status, const char *type)
{
    x->status = status;
    x->type = type;
    exchange_hold(x);
    exchange_send(x);
}

void exchange_error_now(struct exchange *x, const struct err *err)
{
    x->status = -1;
    x->err = *err;
    exchange_hold(x);
    exchange_send(x);
}

int exchange_query_u64(struct exchange *x, const char *name, uint64_t min, uint64_t max, uint64_t missing,
                       uint64_t *out, struct err *err)
{
    const char *text = http_query(x->r, name);
    if (!text) {
        *out = missing;
        return 0;
    }
    int rc = parse_u64(text, min, max, out, err);
    if (rc < 0)
        snprintf(err->field, sizeof err->field, "%s", name);
    return rc;
}

/* --- the choke point: nothing of a request counts before it has passed here --- */

/* Holds back the answer to a wrong token: whoever guesses waits. True: it was held back. */
static bool delay(struct exchange *x, int64_t delay_ms, const struct err *err)
{
    struct master *m = x->m;
    metric_add(M_AUTH_FAILURES, 1);
    if (delay_ms == 0 || m->delayed_count >= DELAYED_MAX) {
        exchange_error_now(x, err);
        return false;
    }
    x->err = *err;
    x->delayed_until_ms = master_now_ms(m) + delay_ms;
    list_append(&m->delayed, &x->delayed);
    m->delayed_count++;
    return true;
}

void exchange_refuse(struct exchange *x, const struct err *err)
{
    delay(x, auth_failed(x->m->auth, http_source(x->r), master_now_ms(x->m)), err);
}

static void undelay(struct exchange *x)
{
    if (!list_linked(&x->delayed))
        return;
    list_remove(&x->delayed);
    x->m->delayed_count--;
}

void master_delayed_run(struct master *m)
{
    list_each_safe(node, &m->delayed) {
        struct exchange *x = list_entry(node, struct exchange, delayed);
        if (x->delayed_until_ms > master_now_ms(m))
            continue;
        undelay(x);
        struct err err = x->err;
        exchange_error_now(x, &err);
    }
}

/* Who it is: by the header, or else by a browser's cookie. */
static int identify(struct exchange *x, const char *authorization, struct err *err)
{
    if (!authorization && (x->who = session_who(x->m, x->r))) {
        x->by_cookie = true;
        return 0;
    }
    return auth_check(x->m->auth, authorization, &x->who, err);
}

/* What a browser sends for some other site must change nothing; a bearer token no other site can make it send. */
static bool own_page(struct exchange *x, const char *authorization)
{
    struct err err;
    if (strcmp(http_method(x->r), "GET") == 0 || (authorization && !x->by_cookie))
        return true;
    if (session_own_page(x->r, &err) == 0)
        return true;
    exchange_error_now(x, &err);
    return false;
}

/* True: may go on. Else it was answered, or will be. */
static bool authorise(struct exchange *x, enum api_role need)
{
    struct err err;
    const char *authorization = http_header(x->r, "Authorization");
    if (need == API_ROLE_OPEN) /* A lease has a token of its own, which no page has. */
        return x->route->handler == API_lease_renew || own_page(x, NULL);
    if (identify(x, authorization, &err) < 0) {
        if (delay(x, authorization ? auth_failed(x->m->auth, http_source(x->r), master_now_ms(x->m)) : 0, &err)) {
            http_body_limit(x->r, UINT64_MAX); /* not read, and not judged before the token */
            http_pause(x->r, true);
        }
        return false;
    }
    if (x->who->role < need) {
        err_set(&err, ERR_DENIED, "this needs the role %s; the token has the role %s", api_role_name(need),
                api_role_name(x->who->role));
        exchange_error_now(x, &err);
        return false;
    }
    return own_page(x, authorization);
}

struct unknown_query { const struct route *route; struct err *err; };

static void check_query(void *arg, const char *name, const char *value)
{
    (void)value;
    struct unknown_query *u = arg;
    if (u->err->code || route_query_known(u->route, name))
        return;
    char remedy[160];
    snprintf(remedy, sizeof remedy, "%s%s", u->route->query[0] ? "known here: " : "none is known here",
             u->route->query);
    err_field(u->err, ERR_INVALID, name, remedy, "unknown query parameter \"%.64s\"", name);
}

static bool has_body(struct http_request *r)
{
    const char *length = http_header(r, "Content-Length");
    return http_header(r, "Transfer-Encoding") || (length && strcmp(length, "0") != 0);
}

static bool is_type(const char *header, const char *type)
{
    size_t size = strlen(type);
    if (!header || strncasecmp(header, type, size) != 0)
        return false;
    header += size;
    while (*header == ' ' || *header == '\t')
        header++;
    return *header == 0 || *header == ';';
}

static int check_body(struct exchange *x, struct err *err)
{
    const char *type = http_header(x->r, "Content-Type");
    bool stream = is_type(type, "application/x-ndjson");
    if (x->route->body == API_BODY_NONE) {
        http_body_limit(x->r, 0);
        return 0;
    }
    if (x->by_cookie && !is_type(type, "application/json"))
        return err_field(err, ERR_DENIED, "content-type", "send application/json",
                         "a browser may send nothing but application/json here");
    if (has_body(x->r) && !is_type(type, "application/json") && !(stream && x->route->body == API_BODY_JOBS))
        return err_field(err, ERR_INVALID, "content-type",
                         x->route->body == API_BODY_JOBS ? "send application/json or application/x-ndjson"
                                                         : "send application/json",
                         "bodies of the type %.64s are not read here", type ? type : "(none)");
    http_body_limit(x->r, x->route->body == API_BODY_JSON ? 65536 : stream ? UINT64_MAX : JOB_BODY_MAX);
    return 0;
}

static int check_state(struct exchange *x, struct err *err)
{
    struct master *m = x->m;
    if (x->route->role == API_ROLE_OPEN)
        return 0;
    if (m->stopping)
        return err_field(err, ERR_UNAVAILABLE, NULL, "try again in a moment", "this master is stopping");
    if (!m->ready)
        return err_field(err, ERR_UNAVAILABLE, NULL, "try again in a moment", "this master is starting");
    if (x->route->handler != API_jobs_submit)
        return 0;
    /* Without a key it can only be new. With one it may be a repeat of what was accepted. */
    if (m->store_low && !http_header(x->r, "Idempotency-Key"))
        return submit_no_space(err);
    if (master_full(m)) {
        metric_add_label(M_JOBS_REJECTED, "busy", 1);
        return err_field(err, ERR_UNAVAILABLE, NULL, "try again in a second", "too much is waiting to be written");
    }
    return 0;
}

static void on_head(void *arg, struct http_request *r)
{
    struct master *m = arg;
    struct exchange *x = exchange_new(m, r);
    struct route_match match;
    struct err err, why;
    int found = route_find(http_method(r), http_path(r), &match, &err);
    x->route = match.route;
    if (!authorise(x, match.route ? match.route->role : API_ROLE_VIEWER))
        return;
    if (found < 0) {
        exchange_error_now(x, &err);
        return;
    }
    if (match.arg.data) {
        x->arg = mem_alloc(match.arg.size + 1);
        memcpy(x->arg, match.arg.data, match.arg.size);
        x->arg[match.arg.size] = 0;
    }
    why.code = ERR_OK;
    struct unknown_query unknown = { x->route, &why };
    http_query_each(r, check_query, &unknown);
    if (why.code || check_body(x, &why) < 0 || check_state(x, &why) < 0)
        exchange_error_now(x, &why);
}

static void on_body(void *arg, struct http_request *r, struct bytes piece)
{
    (void)arg;
    struct exchange *x = http_context(r);
    if (x->answered)
        return;
    if (is_type(http_header(r, "Content-Type"), "application/x-ndjson"))
        submit_body(x, piece);
    else
        buf_add(&x->body, piece.data, piece.size);
}

static void on_end(void *arg, struct http_request *r)
{
    (void)arg;
    struct exchange *x = http_context(r);
    if (!x->answered)
        handlers[x->route->handler](x);
}

static void on_gone(void *arg, struct http_request *r)
{
    (void)arg;
    struct exchange *x = http_context(r);
    x->r = NULL;
    exchange_hold(x);
    undelay(x);
    if (x->bulk)
        submit_gone(x);
    if (x->scan)
        scan_gone(x);
    if (x->log)
        log_gone(x);
    if (x->sse)
        sse_gone(x);
    exchange_drop(x);
}

void master_http_events(struct master *m, struct http_events *events)
{
    *events =
        (struct http_events){ .arg = m, .on_head = on_head, .on_body = on_body, .on_end = on_end, .on_gone = on_gone };
}
