#include "bus/rabbit_target.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/mem.h"

#define FORM "write amqp://USER@HOST[,HOST...]/VHOST?password_file=FILE"
_Static_assert(RABBIT_HOSTS_MAX == 8, "the text below says so");
#define CA_OF_SYSTEM "/etc/ssl/certs/ca-certificates.crt"

static int wrong(struct err *err, const char *what, struct bytes where)
{
    return err_field(err, ERR_INVALID, "bus", FORM, "%s: \"%.*s\"", what, (int)(where.size < 80 ? where.size : 80),
                     where.data);
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int decode(struct bytes text, char *out, size_t size, const char *what, struct err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];
        if (c == '%') {
            int high = i + 2 < text.size ? hex(text.data[i + 1]) : -1, low = high < 0 ? -1 : hex(text.data[i + 2]);
            if (low < 0)
                return wrong(err, "% is not followed by two hexadecimal digits", text);
            c = (char)(high << 4 | low);
            i += 2;
        }
        if ((unsigned char)c < 0x20 || n + 1 >= size)
            return wrong(err, what, text);
        out[n++] = c;
    }
    out[n] = 0;
    return 0;
}

/* Cuts `text` at the first `mark`: what stands before it; the rest stays. False: there is none, and all is before it.
 */
static bool cut(struct bytes *text, char mark, struct bytes *before)
{
    const char *at = text->size ? memchr(text->data, mark, text->size) : NULL;
    if (!at) {
        *before = *text;
        *text = bytes_of("", 0);
        return false;
    }
    *before = bytes_of(text->data, (size_t)(at - text->data));
    *text = bytes_of(at + 1, text->size - before->size - 1);
    return true;
}

static int number(struct bytes text, long min, long max, long *out)
{
    long n = 0;
    if (!text.size || text.size > 6)
        return -1;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return -1;
        n = n * 10 + (text.data[i] - '0');
    }
    *out = n;
    return n < min || n > max ? -1 : 0;
}

static int parse_host(struct rabbit_target *t, struct bytes text, struct err *err)
{
    struct bytes whole = text, name;
    long port = t->tls ? 5671 : 5672;
    if (t->hosts_count == RABBIT_HOSTS_MAX)
        return wrong(err, "the URL of the bus names more than 8 hosts", whole);
    if (text.size && text.data[0] == '[') { /* IPv6 */
        text = bytes_of(text.data + 1, text.size - 1);
        if (!cut(&text, ']', &name) || (text.size && text.data[0] != ':'))
            return wrong(err, "this is no address", whole);
        if (text.size && number(bytes_of(text.data + 1, text.size - 1), 1, 65535, &port) < 0)
            return wrong(err, "this is no port", whole);
    } else if (cut(&text, ':', &name) && number(text, 1, 65535, &port) < 0) {
        return wrong(err, "this is no port", whole);
    }
    struct rabbit_host *h = &t->hosts[t->hosts_count];
    if (!name.size)
        return wrong(err, t->hosts_count ? "a host of the bus has no name" : "the URL of the bus names no host", whole);
    int rc = decode(name, h->name, sizeof h->name, "this is no host", err);
    h->port = (uint16_t)port;
    if (rc < 0)
        return rc;
    for (unsigned i = 0; i < t->hosts_count; i++)
        if (t->hosts[i].port == h->port && strcmp(t->hosts[i].name, h->name) == 0)
            return wrong(err, "the URL of the bus names a host twice", whole);
    t->hosts_count++;
    return 0;
}

static int parse_option(struct rabbit_target *t, struct bytes text, struct err *err)
{
    const struct {
        const char *name;
        char *value;
    } files[] = {
        { "password_file", t->password_file }, { "cacert", t->cacert }, { "cert", t->cert }, { "key", t->key }
    };
    struct bytes whole = text, name;
    cut(&text, '=', &name);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (bytes_equal(name, bytes_str(files[i].name)))
            return text.size ? decode(text, files[i].value, sizeof t->cert, "this is no file name", err)
                             : wrong(err, "a file name is missing", whole);
    long seconds;
    if (bytes_equal(name, bytes_str("heartbeat"))) {
        if (number(text, 1, 300, &seconds) < 0)
            return wrong(err, "heartbeat is a number of seconds, 1 to 300", whole);
        t->heartbeat_s = (int)seconds;
        return 0;
    }
    return err_field(err, ERR_INVALID, "bus", "it may have password_file, cacert, cert, key and heartbeat",
                     "the URL of the bus has no option \"%.*s\"", (int)(name.size < 40 ? name.size : 40), name.data);
}

static int parse_user(struct rabbit_target *t, struct bytes text, struct err *err)
{
    if (text.size && memchr(text.data, ':', text.size))
        return err_field(err, ERR_INVALID, "bus", "write ?password_file=FILE, or set ROTA_AMQP_PASSWORD",
                         "the URL of the bus holds a password, which everybody can read in the list of processes");
    return text.size ? decode(text, t->user, sizeof t->user, "this is no user name", err)
                     : wrong(err, "the user name is empty", text);
}

int rabbit_target_parse(bool tls, const char *place, struct rabbit_target *out, struct err *err)
{
    struct rabbit_target t = { .tls = tls, .user = "guest", .vhost = "/", .heartbeat_s = RABBIT_HEARTBEAT_S };
    struct bytes options = bytes_str(place), rest, hosts, part;
    cut(&options, '?', &rest);
    bool has_vhost = cut(&rest, '/', &hosts);
    const char *at = hosts.size ? memrchr(hosts.data, '@', hosts.size) : NULL;
    if (at) {
        int rc = parse_user(&t, bytes_of(hosts.data, (size_t)(at - hosts.data)), err);
        if (rc < 0)
            return rc;
        hosts = bytes_of(at + 1, hosts.size - (size_t)(at - hosts.data) - 1);
    }
    if (has_vhost && rest.size) {
        int rc = decode(rest, t.vhost, sizeof t.vhost, "this is no virtual host", err);
        if (rc < 0)
            return rc;
    }
    bool more;
    do {
        more = cut(&hosts, ',', &part);
        int rc = parse_host(&t, part, err);
        if (rc < 0)
            return rc;
    } while (more);
    while (options.size) {
        cut(&options, '&', &part);
        int rc = parse_option(&t, part, err);
        if (rc < 0)
            return rc;
    }
    if (!t.tls && (t.cacert[0] || t.cert[0] || t.key[0]))
        return err_field(err, ERR_INVALID, "bus", "write amqps://", "certificates are of no use without TLS");
    if (!t.cert[0] != !t.key[0])
        return err_field(err, ERR_INVALID, "bus", "give both cert and key, or none",
                         "a client certificate needs its key");
    if (t.tls && !t.cacert[0])
        memcpy(t.cacert, CA_OF_SYSTEM, sizeof CA_OF_SYSTEM);
    *out = t;
    return 0;
}

static int read_file(const char *path, char out[RABBIT_PASSWORD_BYTES], struct err *err)
{
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_field(err, ERR_DENIED, "bus", "name the file that holds the broker's password", "%.150s: %s", path,
                         strerror(errno));
    if (!S_ISREG(st.st_mode) || (st.st_mode & 007))
        return err_field(err, ERR_DENIED, "bus", "chmod 600 it, and change the password if others had it",
                         "%.150s holds a password and is open to others", path);
    ssize_t n = read(fd, out, RABBIT_PASSWORD_BYTES - 1);
    if (n < 0)
        return err_errno(err, "%.150s", path);
    out[n] = 0;
    out[strcspn(out, "\r\n")] = 0;
    return out[0] ? 0
                  : err_field(err, ERR_DENIED, "bus", "write the broker's password in its first line",
                              "%.150s is empty", path);
}

int rabbit_target_password(const struct rabbit_target *t, char out[RABBIT_PASSWORD_BYTES], struct err *err)
{
    if (t->password_file[0])
        return read_file(t->password_file, out, err);
    const char *text = getenv("ROTA_AMQP_PASSWORD");
    if (!text && strcmp(t->user, "guest") == 0)
        text = "guest";
    if (!text)
        return err_field(err, ERR_DENIED, "bus", "write ?password_file=FILE in the bus URL, or set ROTA_AMQP_PASSWORD",
                         "there is no password for the broker's user %s", t->user);
    if (strlen(text) >= RABBIT_PASSWORD_BYTES)
        return err_field(err, ERR_TOO_LARGE, "bus", NULL, "the password in ROTA_AMQP_PASSWORD is too long");
    memcpy(out, text, strlen(text) + 1);
    return 0;
}
