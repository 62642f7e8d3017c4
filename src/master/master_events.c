#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/parse.h"
#include "master/master_int.h"
#include "obs/metrics.h"

#define HEARTBEAT_MS 15000
/* A write for each stream and commit is most of what many streams cost: for more than a few, events of several commits go out
 * together, each stream making that wait 1 ms longer. */
#define TOGETHER_STREAMS 8u
#define TOGETHER_MS 100
#define TOGETHER_BYTES 65536u
#define CATCH_UP_RECORDS 500u   /* read from the journal for one reader in one turn */
#define CATCH_UP_READERS 4u     /* in one turn of the loop: it has other things to do */

struct sse_client {
    struct list_node node;      /* in m->sse */
    struct feed_reader reader;
    struct exchange *x;
    bool ended;                 /* the answer is over */
};

static void sse_write(void *arg, struct bytes text)
{
    struct sse_client *c = arg;
    if (!c->ended)
        http_write(c->x->r, text);
}

static size_t sse_unsent(void *arg)
{
    const struct sse_client *c = arg;
    return http_unsent(c->x->r);
}

void events_init(struct master *m)
{
    feed_init(&m->feed, sse_write, sse_unsent);
    m->heartbeat_at_ms = master_now_ms(m) + HEARTBEAT_MS;
}

static void note_numbers(void *arg, const struct record *r)
{
    struct master *m = arg;
    if (r->kind != EV_SUBMITTED)
        return;
    m->numbered.first = r->submitted.first;
    m->numbered.step = r->submitted.step;
}

static uint32_t index_of(void *arg, job_id job, uint32_t position)
{
    struct master *m = arg;
    uint32_t index;
    if (sched_view_index(m->sched, job, position, &index))
        return index;
    struct err err;
    if (m->numbered.job != job.n) { /* Its first event is that it was submitted. */
        m->numbered.job = job.n;
        m->numbered.first = m->numbered.step = 0;
        if (m->store->ops->job_events(m->store, job, 0, 1, note_numbers, m, &err) < 0)
            m->numbered.job = 0;
    }
    return m->numbered.job && m->numbered.step ? m->numbered.first + position * m->numbered.step : TASK_SINGLE;
}

struct record_words master_words(struct master *m)
{
    return (struct record_words){ node_name_text, index_of, m };
}

static struct feed_event event_of(struct master *m, const struct record *r, struct buf *text)
{
    struct record_words words = master_words(m);
    buf_clear(text);
    wire_record_json(text, r, &words);
    return (struct feed_event){ .seq = r->seq, .job = record_subject(r).job.n, .name = event_name(r->kind),
                                .data = buf_bytes(text) };
}

static void flush_feed(struct master *m)
{
    feed_flush(&m->feed);
    m->feed_due_ms = INT64_MAX;
}

void events_publish(struct master *m, const struct gate_batch *batch)
{
    if (!feed_wanted(&m->feed))
        return;
    autobuf struct buf text = BUF_INIT;
    for (size_t i = 0; i < batch->records_count; i++) {
        struct feed_event e = event_of(m, &batch->records[i], &text);
        feed_add(&m->feed, &e);
    }
    size_t streams = m->feed.readers_count;
    if (streams <= TOGETHER_STREAMS || m->feed.batch.size > TOGETHER_BYTES)
        flush_feed(m);
    else if (m->feed_due_ms == INT64_MAX)
        m->feed_due_ms = master_now_ms(m) + (streams < TOGETHER_MS ? (int64_t)streams : TOGETHER_MS);
}

/* --- readers that are behind --- */

/* What is read is kept until reading is over: to tell the index of a task the store may have to be asked, and it must
 * not be asked while it reads. */
static int keep_record(void *arg, const struct record *r, struct err *err)
{
    (void)err;
    record_encode(arg, r);
    return 0;
}

/* False: the reader is full. */
static bool catch_up_one(struct sse_client *c, const struct record *r, struct buf *text)
{
    struct master *m = c->x->m;
    struct feed_event e = { .seq = r->seq, .job = record_subject(r).job.n };
    if (c->reader.job == 0 || c->reader.job == e.job)
        e = event_of(m, r, text);
    return feed_catch_up(&m->feed, &c->reader, &e);
}

static bool catch_up_all(struct sse_client *c, struct bytes records)
{
    const uint8_t *at = (const uint8_t *)records.data, *end = at + records.size;
    autobuf struct buf text = BUF_INIT;
    bool room = true;
    while (room && at < end) {
        struct record r;
        struct err err;
        int rc = record_decode(&at, end, &r, &err);
        check(rc == 0); /* We encoded it. */
        if (r.seq > c->x->m->committed_seq)
            break; /* The store has written it, but has not said so yet: it comes with the feed. */
        room = catch_up_one(c, &r, &text);
    }
    return room;
}

static bool may_catch_up(const struct sse_client *c)
{
    return c->reader.behind && !c->ended && http_unsent(c->x->r) < feed_bound(&c->x->m->feed) / 2;
}

/* True: there is more for it at once. */
static bool catch_up(struct sse_client *c)
{
    struct master *m = c->x->m;
    bool room = true;
    struct err err;
    if (c->reader.next_seq <= m->committed_seq) {
        autobuf struct buf records = BUF_INIT;
        if (m->store->ops->replay(m->store, c->reader.next_seq, CATCH_UP_RECORDS, keep_record, &records, &err) < 0) {
            c->ended = true;
            http_reply_end(c->x->r); /* it may connect again */
            return false;
        }
        room = catch_up_all(c, buf_bytes(&records));
    }
    if (c->reader.next_seq <= m->committed_seq)
        return room;
    feed_caught_up(&c->reader, m->committed_seq + 1);
    return false;
}

static void on_drained(void *arg, struct http_request *r)
{
    (void)r;
    struct sse_client *c = arg;
    feed_drained(&c->x->m->feed, &c->reader);
}

/* Who has signed out, or was idle for too long, hears no more. */
static void end_signed_out(struct master *m)
{
    list_each_safe(node, &m->sse) {
        struct sse_client *c = list_entry(node, struct sse_client, node);
        if (c->ended || !c->x->by_cookie || session_still(m, c->x->r))
            continue;
        c->ended = true;
        http_reply_end(c->x->r);
    }
}

/* Of a broker that went away, or a disk that filled up, there is no event: nothing of it is in the journal. */
void sse_tell_health(struct master *m)
{
    struct bus_stats bus = { .up = true };
    m->bus->ops->stats(m->bus, &bus);
    const char *store = master_store_word(m);
    bool first = !m->told.store;
    if (!first && m->told.bus_up == bus.up && strcmp(m->told.store, store) == 0)
        return;
    m->told.bus_up = bus.up;
    m->told.store = store;
    if (first)
        return;
    struct buf data = BUF_INIT;
    struct json_out j = json_out_to(&data);
    json_open(&j, NULL, '{');
    json_cstr(&j, "transport", bus.up ? "up" : "down");
    json_cstr(&j, "store", store);
    json_close(&j, '}');
    feed_notice(&m->feed, "health", buf_bytes(&data));
    buf_fini(&data);
}

bool sse_run(struct master *m)
{
    bool more = false;
    unsigned turn = 0;
    struct list_node given;
    list_init(&given);
    list_each_safe(node, &m->sse) {
        struct sse_client *c = list_entry(node, struct sse_client, node);
        if (!may_catch_up(c))
            continue;
        if (turn++ == CATCH_UP_READERS) {
            more = true;
            break;
        }
        list_remove(&c->node); /* The next turn begins with others. */
        list_append(&given, &c->node);
        more |= catch_up(c);
    }
    while (!list_empty(&given)) {
        struct list_node *node = given.next;
        list_remove(node);
        list_append(&m->sse, node);
    }
    if (master_now_ms(m) >= m->feed_due_ms)
        flush_feed(m);
    if (master_now_ms(m) >= m->heartbeat_at_ms) {
        end_signed_out(m);
        feed_heartbeat(&m->feed);
        m->heartbeat_at_ms = master_now_ms(m) + HEARTBEAT_MS;
    }
    return more;
}

void sse_gone(struct exchange *x)
{
    struct sse_client *c = x->sse;
    feed_leave(&x->m->feed, &c->reader);
    list_remove(&c->node);
    free(c);
    x->sse = NULL;
}

/* Where to begin: after the last event the client has seen, or with the next one. */
static int first_wanted(struct exchange *x, uint64_t *seq, struct err *err)
{
    struct master *m = x->m;
    const char *last = http_header(x->r, "Last-Event-ID");
    const char *since = http_query(x->r, "since");
    const char *text = last ? last : since;
    *seq = m->committed_seq + 1;
    if (!text)
        return 0;
    uint64_t seen;
    if (parse_u64(text, 0, UINT64_MAX - 1, &seen, err) < 0) {
        snprintf(err->field, sizeof err->field, "%s", last ? "Last-Event-ID" : "since");
        return -(int)err->code;
    }
    if (seen < m->committed_seq)
        *seq = seen + 1;
    return 0;
}

void api_events(struct exchange *x)
{
    struct master *m = x->m;
    struct err err;
    uint64_t job, from;
    if (exchange_query_u64(x, "job", 1, UINT64_MAX, 0, &job, &err) < 0 || first_wanted(x, &from, &err) < 0) {
        exchange_error_now(x, &err);
        return;
    }
    struct sse_client *c = mem_zero(1, sizeof *c);
    if (!feed_join(&m->feed, &c->reader, job, from, m->committed_seq + 1, c)) {
        free(c);
        err_field(&err, ERR_UNAVAILABLE, NULL, "close some of them", "there are %u event streams already",
                  FEED_READERS_MAX);
        exchange_error_now(x, &err);
        return;
    }
    c->x = x;
    x->sse = c;
    x->answered = true;
    list_append(&m->sse, &c->node);
    http_reply_start(x->r, 200, "text/event-stream");
    http_write(x->r, bytes_str("retry: 1000\n\n"));
    http_on_drained(x->r, FEED_UNSENT_LOW, on_drained, c);
}
