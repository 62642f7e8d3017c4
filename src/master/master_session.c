/* master_session.c: signing in browsers. A browser gives its token (or a ticket) once, and then holds a cookie that no
 * script can read and no other site can use.
 *
 * The cookie is not marked Secure: the master speaks plain HTTP and listens on loopback (or in a network that was
 * declared to be trusted), and a browser would not send a Secure cookie there. Cookies know no ports, so that the port
 * is part of the name: two clusters on one machine do not sign each other out. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "master/body.h"
#include "master/master_int.h"
#include "obs/log.h"

#define SAVE_EVERY_MS 60000
#define FILE_BYTES_MAX (SESSIONS_MAX * 192)

static struct bytes cookie_of(struct master *m, const struct http_request *r)
{
    char name[24];
    snprintf(name, sizeof name, "rota_%u", http_server_port(m->http));
    return cookie_find(http_header(r, "Cookie"), name);
}

static int64_t wall_ms(struct master *m)
{
    master_now_ms(m); /* reads both clocks of this turn */
    return m->wall_ms;
}

const struct auth_identity *session_who(struct master *m, const struct http_request *r)
{
    uint8_t token[TOKEN_DIGEST_BYTES];
    struct bytes text = cookie_of(m, r);
    if (!text.size || !session_check(m->sessions, text, wall_ms(m), token))
        return NULL;
    return auth_find_digest(m->auth, token);
}

bool session_still(struct master *m, const struct http_request *r)
{
    return session_alive(m->sessions, cookie_of(m, r), wall_ms(m));
}

/* Browsers tell where a request comes from in Sec-Fetch-Site; those that do not, in Origin. Whoever tells neither is no
 * browser, and has a token to send. */
int session_own_page(const struct http_request *r, struct err *err)
{
    const char *site = http_header(r, "Sec-Fetch-Site");
    const char *origin = http_header(r, "Origin");
    const char *host = http_header(r, "Host");
    char own[300];
    snprintf(own, sizeof own, "http://%s", host ? host : "");
    bool fine =
        site ? strcmp(site, "same-origin") == 0 || strcmp(site, "none") == 0 : origin && strcasecmp(origin, own) == 0;
    if (fine && (!origin || strcasecmp(origin, own) == 0))
        return 0;
    return err_field(err, ERR_DENIED, site ? "sec-fetch-site" : "origin",
                     "open the dashboard itself, or send the header Authorization: Bearer TOKEN",
                     "this request was not made by the page of this master");
}

/* --- signing in and out --- */

static void set_cookie(struct exchange *x, const char *text)
{
    char value[160];
    snprintf(value, sizeof value, "rota_%u=%s; Path=/; HttpOnly; SameSite=Strict%s", http_server_port(x->m->http), text,
             *text ? "" : "; Max-Age=0");
    http_add_header(x->r, "Set-Cookie", value);
}

static void who_json(struct exchange *x)
{
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    json_cstr(&j, "user", x->who ? x->who->user : NULL);
    json_cstr(&j, "role", x->who ? api_role_name(x->who->role) : NULL);
    json_close(&j, '}');
    buf_char(&x->answer, '\n');
    exchange_reply_now(x, 200, "application/json");
}

/* Whose token or ticket it is; NULL: *err says why not. */
static const struct auth_identity *identity_given(struct exchange *x, struct bytes token, struct bytes ticket,
                                                  struct err *err)
{
    uint8_t digest[TOKEN_DIGEST_BYTES];
    if (ticket.size) {
        const struct auth_identity *who =
            ticket_use(x->m->sessions, ticket, wall_ms(x->m), digest) ? auth_find_digest(x->m->auth, digest) : NULL;
        if (!who)
            err_field(err, ERR_UNAUTH, "ticket", "ask for another one: rota dashboard; or sign in with the token",
                      "this ticket was used already, or is too old");
        return who;
    }
    const struct auth_identity *who = auth_find(x->m->auth, token);
    if (!who)
        err_field(err, ERR_UNAUTH, "token", "the first one is in the file token of the master's state directory",
                  "this token is not known");
    return who;
}

void api_session_open(struct exchange *x)
{
    struct body_field fields[] = { { .name = "token", .type = BODY_TEXT, .max = 256 },
                                   { .name = "ticket", .type = BODY_TEXT, .max = 256 } };
    struct err err;
    if (body_read(&x->m->turn, buf_bytes(&x->body), fields, 2, &err) < 0) {
        exchange_error_now(x, &err);
        return;
    }
    if (fields[0].given == fields[1].given) {
        err_field(&err, ERR_INVALID, "token", "give a token or a ticket", "one of them is needed");
        exchange_error_now(x, &err);
        return;
    }
    x->who = identity_given(x, fields[0].text, fields[1].text, &err);
    if (!x->who) {
        exchange_refuse(x, &err);
        return;
    }
    char text[SESSION_TEXT_BYTES];
    if (session_open(x->m->sessions, x->who->digest, wall_ms(x->m), text, &err) < 0) {
        exchange_error_now(x, &err);
        return;
    }
    sessions_save(x->m, true);
    set_cookie(x, text);
    who_json(x);
}

void api_session_show(struct exchange *x)
{
    struct err err;
    x->who = session_who(x->m, x->r);
    if (!x->who)
        auth_check(x->m->auth, http_header(x->r, "Authorization"), &x->who, &err);
    who_json(x);
}

void api_session_close(struct exchange *x)
{
    session_close(x->m->sessions, cookie_of(x->m, x->r));
    sessions_save(x->m, true);
    set_cookie(x, "");
    who_json(x);
}

void api_session_ticket(struct exchange *x)
{
    char text[SESSION_TEXT_BYTES];
    struct err err;
    if (body_read(&x->m->turn, buf_bytes(&x->body), NULL, 0, &err) < 0 ||
        ticket_make(x->m->sessions, x->who->digest, wall_ms(x->m), text, &err) < 0) {
        exchange_error_now(x, &err);
        return;
    }
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    json_cstr(&j, "ticket", text);
    json_num(&j, "expires_in_s", (double)TICKET_MS / 1000, 3);
    json_close(&j, '}');
    buf_char(&x->answer, '\n');
    exchange_reply_now(x, 200, "application/json");
}

/* --- keeping: a restart of the master signs nobody out --- */

void sessions_load(struct master *m)
{
    autobuf struct buf path = BUF_INIT;
    buf_printf(&path, "%s/sessions", m->config->state_dir);
    autoclose int fd = open(path.data, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return;
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_mode & 077 || st.st_size > FILE_BYTES_MAX) {
        log_warn("sessions not read file=%s: it is not a file of ours", path.data);
        return;
    }
    autofree char *text = mem_alloc(FILE_BYTES_MAX);
    ssize_t size = read(fd, text, FILE_BYTES_MAX);
    if (size > 0)
        sessions_read(m->sessions, bytes_of(text, (size_t)size));
    m->sessions_written = sessions_changes(m->sessions);
}

static int save(struct master *m, struct err *err)
{
    autobuf struct buf path = BUF_INIT;
    autobuf struct buf temporary = BUF_INIT;
    autobuf struct buf text = BUF_INIT;
    buf_printf(&path, "%s/sessions", m->config->state_dir);
    buf_printf(&temporary, "%s.new", path.data);
    sessions_write(m->sessions, &text);
    unlink(temporary.data);
    autoclose int fd = open(temporary.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_errno(err, "make %s", temporary.data);
    if (text.size && write(fd, text.data, text.size) != (ssize_t)text.size)
        return err_errno(err, "write %s", temporary.data);
    return rename(temporary.data, path.data) < 0 ? err_errno(err, "name %s", path.data) : 0;
}

void sessions_save(struct master *m, bool now)
{
    uint64_t changes = sessions_changes(m->sessions);
    if (changes == m->sessions_written || (!now && master_now_ms(m) < m->sessions_due_ms))
        return;
    struct err err;
    if (save(m, &err) < 0)
        log_warn("sessions not written: %s; a restart will sign browsers out", err.text);
    m->sessions_written = changes;
    m->sessions_due_ms = master_now_ms(m) + SAVE_EVERY_MS;
}
