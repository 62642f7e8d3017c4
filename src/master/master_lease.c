/* master_lease.c: workers that the bus does not bring here keep their attempts by asking over HTTP.
 *
 * With WELCOME a worker is told where, and a token that is good for its own lease and nothing else. Asking gives no
 * orders and reports nothing: the node stays SUSPECT, and gets nothing new, until it is heard on the bus again. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "master/body.h"
#include "master/master_int.h"

#define HALF_DIGITS 16

/* 32 hexadecimal digits, the first half first. */
static int two_halves(const char *name, struct bytes text, uint64_t *first, uint64_t *second, struct err *err)
{
    uint64_t halves[2] = { 0, 0 };
    bool fine = text.size == 2 * (size_t)HALF_DIGITS;
    for (size_t i = 0; fine && i < text.size; i++) {
        static const char digits[] = "0123456789abcdef";
        const char *at = memchr(digits, text.data[i], 16);
        fine = at != NULL;
        halves[i / HALF_DIGITS] = halves[i / HALF_DIGITS] << 4 | (fine ? (uint64_t)(at - digits) : 0);
    }
    if (!fine)
        return err_field(err, ERR_INVALID, name, "write 32 hexadecimal digits", "it is not of 32 hexadecimal digits");
    *first = halves[0];
    *second = halves[1];
    return 0;
}

struct bytes lease_url(struct master *m)
{
    const char *base = m->config->advertise;
    struct buf *url = &m->lease_url;
    if (!base || !*base)
        return bytes_of("", 0);
    if (!url->size) {
        size_t size = strlen(base);
        while (size && base[size - 1] == '/')
            size--;
        buf_printf(url, "%.*s/v1/lease", (int)size, base);
    }
    return buf_bytes(url);
}

void api_lease_renew(struct exchange *x)
{
    struct body_field fields[] = {
        { .name = "worker", .type = BODY_TEXT, .required = true, .max = 64 },
        { .name = "token", .type = BODY_TEXT, .required = true, .max = 64 },
        { .name = "incarnation", .type = BODY_INTEGER, .required = true, .min = 1, .max = INT64_MAX },
        { .name = "epoch", .type = BODY_INTEGER, .required = true, .min = 1, .max = INT64_MAX },
    };
    struct sched_event ev = { .kind = SCHED_LEASE };
    struct sched_result result = { .err.code = ERR_OK };
    struct err err;
    if (body_read(&x->m->turn, buf_bytes(&x->body), fields, sizeof fields / sizeof *fields, &err) < 0 ||
        two_halves("worker", fields[0].text, &ev.lease.worker.high, &ev.lease.worker.low, &err) < 0 ||
        two_halves("token", fields[1].text, &ev.lease.token.high, &ev.lease.token.low, &err) < 0) {
        exchange_error_now(x, &err);
        return;
    }
    ev.lease.incarnation = (uint64_t)fields[2].integer;
    if ((uint64_t)fields[3].integer > x->m->epoch) { /* What we say does not count any more. */
        err_field(&err, ERR_STALE, "epoch", "ask the master that leads now", "this master leads epoch %" PRIu64 ", another one was seen that leads a later one",
                  x->m->epoch);
        exchange_error_now(x, &err);
        return;
    }
    master_step(x->m, &ev, &result);
    if (result.err.code == ERR_UNAUTH) {
        exchange_refuse(x, &result.err);
        return;
    }
    if (result.err.code != ERR_OK) {
        exchange_error_now(x, &result.err);
        return;
    }
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    json_u64(&j, "epoch", x->m->epoch);
    json_num(&j, "lease_s", (double)x->m->sched_config.lease_ms / 1000, 3);
    json_close(&j, '}');
    exchange_reply_now(x, 200, "application/json");
}
