/* notify.c: tells a URL that a job has ended, for jobs that were submitted with one.
 *
 * The brain remembers which jobs still owe word (SUBMITTED.notify until NOTIFIED, both in the journal), so a master
 * that starts again goes on where the last one was: at least once, and a receiver knows a repeat by the header
 * Rota-Delivery. Word that cannot be given is tried again with growing pauses and then given up, with a record that
 * says so. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include <curl/curl.h>

#include "base/check.h"
#include "base/mem.h"
#include "io/poster.h"
#include "master/master_int.h"
#include "obs/log.h"

#define NOTICES_MAX 10000u /* known at the same time; the others stay with the brain until there is room */
#define TRIES_MAX 10u      /* 1 s, 2 s, 4 s ...: about 17 minutes */
#define PAUSE_MS 1000
#define POST_MS 15000      /* how long one may take */

struct notice {
    struct list_node node; /* in notify.notices */
    job_id job;
    unsigned tries;
    int64_t due_ms;
    bool under_way;
};

struct notify {
    struct poster *hooks; /* made when first needed */
    struct list_node notices;
    size_t count;
    bool more; /* ended jobs beyond NOTICES_MAX: look for them when there is room */
    uint64_t delivered, failed;
};

static void on_done(void *arg, uint64_t id, long status, const char *why);

static char *text_of(struct bytes text)
{
    char *copy = mem_alloc(text.size + 1);
    memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    return copy;
}

struct notify *notify_new(void)
{
    struct notify *n = mem_zero(1, sizeof *n);
    list_init(&n->notices);
    return n;
}

static void notice_free(struct notify *n, struct notice *one)
{
    list_remove(&one->node);
    n->count--;
    free(one);
}

void notify_free(struct notify *n)
{
    if (!n)
        return;
    poster_free(n->hooks);
    list_each_safe(at, &n->notices) notice_free(n, list_entry(at, struct notice, node));
    free(n);
}

/* The host of an http or https URL without user and password, as libcurl reads it. */
static int url_host(const char *url, char *host, size_t size, struct err *err)
{
    CURLU *u = curl_url();
    char *scheme = NULL, *name = NULL, *user = NULL;
    check(u);
    int rc = 0;
    if (curl_url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK ||
        curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
        curl_url_get(u, CURLUPART_HOST, &name, 0) != CURLUE_OK)
        rc = err_field(err, ERR_INVALID, "notify", "write http://HOST/PATH", "\"%.100s\" is no URL", url);
    else if (strcasecmp(scheme, "http") != 0 && strcasecmp(scheme, "https") != 0)
        rc = err_field(err, ERR_INVALID, "notify", "write http://HOST/PATH or https://", "%.20s is not spoken", scheme);
    else if (curl_url_get(u, CURLUPART_USER, &user, 0) == CURLUE_OK)
        rc = err_field(err, ERR_INVALID, "notify", "leave it out", "the URL holds a user, which everybody could read");
    else
        snprintf(host, size, "%s", name);
    curl_free(scheme);
    curl_free(name);
    curl_free(user);
    curl_url_cleanup(u);
    return rc;
}

int notify_check(const struct master *m, struct bytes url, struct err *err)
{
    char host[256];
    autofree char *text = text_of(url);
    int rc = url_host(text, host, sizeof host, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; m->config->notify_hosts && m->config->notify_hosts[i]; i++)
        if (strcmp(m->config->notify_hosts[i], "*") == 0 || strcasecmp(m->config->notify_hosts[i], host) == 0)
            return 0;
    return err_field(err, ERR_DENIED, "notify", "ask the operator to add it to notify_hosts of the master",
                     "this master does not call %.200s", host);
}

static void add(struct master *m, job_id job)
{
    struct notify *n = m->notify;
    if (n->count == NOTICES_MAX) {
        n->more = true;
        return;
    }
    struct notice *one = mem_zero(1, sizeof *one);
    one->job = job;
    one->due_ms = master_now_ms(m);
    list_append(&n->notices, &one->node);
    n->count++;
}

/* After a start, and when there is room again: ended jobs that still owe word. */
void notify_look(struct master *m)
{
    struct job_view v;
    m->notify->more = false;
    for (job_id id = sched_view_next(m->sched, (job_id){ 0 }, false); id.n; id = sched_view_next(m->sched, id, false))
        if (sched_view_owes_word(m->sched, id) && sched_view_job(m->sched, id, &v) && job_state_terminal(v.state))
            add(m, id);
}

void notify_committed(struct master *m, const struct gate_batch *batch)
{
    for (size_t i = 0; i < batch->records_count; i++) {
        struct record_subject s = record_subject(&batch->records[i]);
        struct job_view v;
        if (s.terminal && s.whole_job && sched_view_owes_word(m->sched, s.job) && sched_view_job(m->sched, s.job, &v) &&
            job_state_terminal(v.state))
            add(m, s.job);
    }
}

static void settled(struct master *m, struct notice *one, long status, const char *why)
{
    struct sched_event ev = { .kind = SCHED_NOTIFIED };
    ev.notified.job = one->job;
    ev.notified.status = (uint32_t)status;
    ev.notified.tries = one->tries;
    ev.notified.text = bytes_str(why);
    bool good = status >= 200 && status <= 299;
    if (good)
        m->notify->delivered++;
    else
        m->notify->failed++;
    if (!good)
        log_warn("nobody was told of the end of a job: job=%" PRIu64 " tries=%u status=%ld why=\"%s\"", one->job.n,
                 one->tries, status, why);
    notice_free(m->notify, one);
    master_step(m, &ev, NULL);
    if (m->notify->more && m->notify->count == 0)
        notify_look(m);
}

static bool worth_another_try(long status)
{
    return status == 0 || status == 408 || status == 429 || status >= 500;
}

static struct notice *notice_of(struct notify *n, uint64_t job)
{
    list_each(at, &n->notices)
    {
        struct notice *one = list_entry(at, struct notice, node);
        if (one->job.n == job && one->under_way)
            return one;
    }
    return NULL;
}

static void on_done(void *arg, uint64_t id, long status, const char *why)
{
    struct master *m = arg;
    struct notice *one = notice_of(m->notify, id);
    if (!one)
        return;
    one->under_way = false;
    one->tries++;
    if (!worth_another_try(status) || one->tries == TRIES_MAX) {
        settled(m, one, status, why);
        return;
    }
    one->due_ms = master_now_ms(m) + ((int64_t)PAUSE_MS << (one->tries - 1));
    list_remove(&one->node); /* behind those that have not been tried */
    list_append(&m->notify->notices, &one->node);
}

static void body_of(struct master *m, const struct job_view *v, const char *delivery, struct buf *out)
{
    struct json_out j = json_out_to(out);
    json_open(&j, NULL, '{');
    json_cstr(&j, "event", "job.ended");
    json_cstr(&j, "delivery", delivery);
    json_open(&j, "job", '{');
    job_json(m, &j, v);
    json_close(&j, '}');
    json_close(&j, '}');
}

/* False: no more can be under way now. */
static bool try_one(struct master *m, struct notice *one)
{
    struct job_view v;
    struct job_spec spec;
    struct err err;
    if (!sched_view_job(m->sched, one->job, &v) || master_spec(m, one->job, &spec, &err) < 0 || !spec.notify.size) {
        settled(m, one, 0, "the job is no longer known");
        return true;
    }
    if (!m->notify->hooks)
        m->notify->hooks = poster_new(m->loop, on_done, m);
    char delivery[60];
    int size = 0;
    for (size_t i = 0; i < sizeof m->meta.cluster; i++)
        size += snprintf(delivery + size, sizeof delivery - (size_t)size, "%02x", m->meta.cluster[i]);
    snprintf(delivery + size, sizeof delivery - (size_t)size, "-%" PRIu64, one->job.n);
    autobuf struct buf body = BUF_INIT;
    autofree char *url = text_of(spec.notify);
    body_of(m, &v, delivery, &body);
    if (notify_check(m, spec.notify, &err) < 0) { /* the operator has changed his mind */
        settled(m, one, 0, err.text);
        return true;
    }
    char header[100];
    snprintf(header, sizeof header, "Rota-Delivery: %s", delivery);
    const char *const headers[] = { "Rota-Event: job.ended", header, NULL };
    one->under_way = poster_post(m->notify->hooks, one->job.n, url, headers, buf_bytes(&body), POST_MS);
    return one->under_way;
}

void notify_run(struct master *m)
{
    int64_t now_ms = master_now_ms(m);
    unsigned under_way = 0;
    list_each_safe(at, &m->notify->notices)
    {
        struct notice *one = list_entry(at, struct notice, node);
        under_way += one->under_way;
        if (under_way >= POSTS_MAX)
            break;
        if (!one->under_way && one->due_ms <= now_ms && !try_one(m, one))
            break;
    }
}

int64_t notify_due_ms(const struct master *m)
{
    int64_t due_ms = INT64_MAX;
    unsigned under_way = 0;
    list_each(at, &m->notify->notices)
    {
        const struct notice *one = list_entry(at, struct notice, node);
        under_way += one->under_way;
        if (!one->under_way && one->due_ms < due_ms)
            due_ms = one->due_ms;
    }
    return under_way >= POSTS_MAX ? INT64_MAX : due_ms;
}

void notify_metrics(const struct master *m)
{
    metric_set(M_NOTICES, (double)m->notify->count);
    metric_total_label(M_NOTIFIED, "delivered", (double)m->notify->delivered);
    metric_total_label(M_NOTIFIED, "given_up", (double)m->notify->failed);
}
