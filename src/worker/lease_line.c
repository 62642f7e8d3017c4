#include "worker/lease_line.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "io/loop.h"
#include "io/poster.h"
#include "obs/log.h"

#define LOOK_MS_MIN 50
#define LOOK_MS_MAX 5000
#define LEASE_PART 8 /* so often in the time of a lease it is looked at, and an answer is waited for */

struct lease_line {
    struct lease_line_port port;
    struct loop *loop;
    struct loop_timer *timer;
    struct poster *poster; /* made when first needed */
    char *url;             /* NULL: there is none */
    struct mac128 token;
    int64_t sent_ms;
    bool asked, kept;      /* an answer is waited for; the last one was a good one */
};

static int64_t part_of(int64_t lease_ms)
{
    int64_t ms = lease_ms / LEASE_PART;
    return ms < LOOK_MS_MIN ? LOOK_MS_MIN : ms > LOOK_MS_MAX ? LOOK_MS_MAX : ms;
}

static void on_answer(void *arg, uint64_t id, long status, const char *why)
{
    struct lease_line *l = arg;
    (void)id;
    l->asked = false;
    bool fine = status == 200;
    if (fine && !l->kept)
        log_info("the bus is silent: the lease of what runs here is renewed at %s", l->url);
    if (!fine && status)
        log_warn("the lease of what runs here was not renewed: %s answers %ld", l->url, status);
    else if (!fine)
        log_warn("the lease of what runs here was not renewed: why=\"%s\"", why);
    l->kept = fine;
    if (fine)
        l->port.renewed(l->port.arg, l->sent_ms);
}

static void ask(struct lease_line *l, const struct agent_stats *stats)
{
    autobuf struct buf body = BUF_INIT;
    buf_printf(&body,
               "{\"worker\":\"%016" PRIx64 "%016" PRIx64 "\",\"incarnation\":%" PRIu64 ",\"epoch\":%" PRIu64
               ",\"token\":\"%016" PRIx64 "%016" PRIx64 "\"}",
               l->port.worker.high, l->port.worker.low, l->port.incarnation, stats->epoch, l->token.high, l->token.low);
    if (!l->poster)
        l->poster = poster_new(l->loop, on_answer, l);
    l->sent_ms = l->port.now_ms(l->port.arg);
    l->asked = poster_post(l->poster, 0, l->url, NULL, buf_bytes(&body), part_of(stats->lease_ms) * 2);
}

static void look(void *arg)
{
    struct lease_line *l = arg;
    struct agent_stats stats;
    agent_view_stats(l->port.agent, &stats);
    int64_t left_ms = stats.lease_until_ms - l->port.now_ms(l->port.arg);
    bool busy = stats.accepted + stats.running > 0;
    if (l->url && busy && !l->asked && left_ms < stats.lease_ms / 2)
        ask(l, &stats);
    loop_timer_set(l->timer, part_of(stats.lease_ms));
}

struct lease_line *lease_line_new(struct loop *loop, const struct lease_line_port *port)
{
    struct lease_line *l = mem_zero(1, sizeof *l);
    l->port = *port;
    l->loop = loop;
    l->timer = loop_timer_add(loop, look, l);
    return l;
}

void lease_line_free(struct lease_line *l)
{
    if (!l)
        return;
    poster_free(l->poster);
    loop_timer_remove(l->timer);
    free(l->url);
    free(l);
}

void lease_line_set(struct lease_line *l, struct bytes url, struct mac128 token)
{
    free(l->url);
    l->url = NULL;
    if (url.size) {
        struct buf text = BUF_INIT;
        buf_add(&text, url.data, url.size);
        l->url = buf_take(&text);
    }
    l->token = token;
    l->kept = false;
    if (l->url)
        loop_timer_set(l->timer, LOOK_MS_MIN);
}
