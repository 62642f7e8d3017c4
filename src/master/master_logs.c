/* The output of an attempt, pulled from its worker piece by piece at the speed of the reader: one request is under way
 * per reader, and none while the reader has LOG_UNSENT_MAX bytes to take. When the node can not be asked, what the
 * store kept with the attempt's end is served, with a mark in the text for what is missing. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/parse.h"
#include "master/history.h"
#include "master/lines.h"
#include "master/master_int.h"

#define LOG_CHUNK_BYTES (128u * 1024)
#define LOG_UNSENT_MAX (512u * 1024)
#define LOG_WAIT_MS 10000        /* how long a worker waits for something new before it answers with nothing */
#define LOG_ANSWER_MS 5000       /* an answer later than that is taken for lost */
#define LOG_TRIES_MAX 3u
#define LOG_AGAIN_MS 1000        /* node out of reach: look again */
#define LOG_SOON_MS 200          /* output file not there yet */
#define LOG_TAIL_LINES_MAX 1000000u

enum { STREAM_STDOUT, STREAM_STDERR };

struct log_reader {
    struct list_node node;       /* in m->logs */
    struct exchange *x;
    struct attempt_ref ref;      /* attempt 0: the task has none yet */
    uint32_t stream;
    bool follow, started;
    bool lined;                  /* a number of last lines was asked for, and they are being gathered */
    uint64_t lines;
    struct buf window;           /* what may be the last lines */
    uint64_t offset;             /* of the next byte wanted */
    uint64_t request;            /* under way; 0: none */
    uint64_t session;
    uint32_t tries;
    bool full;                   /* waits until the client has read */
    int64_t asked_at_ms, wake_at_ms;
};

static void reader_free(struct log_reader *l)
{
    struct exchange *x = l->x;
    list_remove(&l->node);
    x->m->logs_count--;
    buf_fini(&l->window);
    free(l);
    x->log = NULL;
}

static void on_drained(void *arg, struct http_request *r)
{
    (void)r;
    struct log_reader *l = arg;
    if (l->full) {
        l->full = false;
        l->wake_at_ms = 0;
    }
}

/* From here on errors can only be told in the text. */
static void start(struct log_reader *l)
{
    if (l->started)
        return;
    l->started = true;
    struct http_request *r = l->x->r;
    char text[128];
    snprintf(text, sizeof text, "attachment; filename=\"job-%" PRIu64 "-%u.%s.txt\"", l->ref.job.n, l->ref.attempt,
             l->stream == STREAM_STDOUT ? "stdout" : "stderr");
    http_add_header(r, "Content-Disposition", text);
    http_add_header(r, "Content-Security-Policy", "default-src 'none'; sandbox");
    snprintf(text, sizeof text, "%u", l->ref.attempt);
    http_add_header(r, "Rota-Attempt", text);
    l->x->answered = true;
    http_reply_start(r, 200, "text/plain; charset=utf-8");
    http_on_drained(r, LOG_UNSENT_MAX / 2, on_drained, l);
}

static void give(struct log_reader *l, struct bytes data)
{
    if (data.size == 0)
        return;
    if (l->lined) {
        buf_add(&l->window, data.data, data.size);
        if (l->window.size > 2 * (size_t)LINES_BYTES_MAX)
            lines_keep_last(&l->window, l->lines);
        return;
    }
    start(l);
    http_write(l->x->r, data);
}

static void flush_lines(struct log_reader *l)
{
    if (!l->lined)
        return;
    l->lined = false;
    lines_keep_last(&l->window, l->lines);
    give(l, buf_bytes(&l->window));
    buf_fini(&l->window);
}

static void finish(struct log_reader *l)
{
    flush_lines(l);
    start(l);
    http_reply_end(l->x->r);
    reader_free(l);
}

static void refuse(struct log_reader *l, const struct err *err)
{
    struct exchange *x = l->x;
    if (l->started) {
        char text[400];
        int size =
            snprintf(text, sizeof text, "\n[rota: %s; output ends here at byte %" PRIu64 "]\n", err->text, l->offset);
        give(l, bytes_of(text, (size_t)size));
        finish(l);
        return;
    }
    reader_free(l);
    exchange_error(x, err);
}

/* --- what the store kept --- */

struct found_attempt { bool found; struct store_attempt row; };

static void keep_attempt(void *arg, const struct store_attempt *a)
{
    struct found_attempt *f = arg;
    f->found = true;
    f->row = *a;
}

static bool find_attempt(struct master *m, struct attempt_ref ref, struct store_attempt *row)
{
    struct found_attempt f = { 0 };
    struct err err;
    if (ref.attempt == 0 || m->store->ops->attempts(m->store, ref, 1, keep_attempt, &f, &err) < 0 || !f.found)
        return false;
    *row = f.row;
    return attempt_equal(row->ref, ref);
}

/* Serves the rest from the store. */
static void serve_stored(struct log_reader *l, const struct store_attempt *row)
{
    struct master *m = l->x->m;
    autobuf struct buf out = BUF_INIT;
    autobuf struct buf errs = BUF_INIT;
    struct err err;
    uint64_t total = l->stream == STREAM_STDOUT ? row->stdout_bytes : row->stderr_bytes;
    m->store->ops->tails(m->store, l->ref, &out, &errs, &err);
    struct bytes tail = buf_bytes(l->stream == STREAM_STDOUT ? &out : &errs);
    uint64_t begin = total > tail.size ? total - tail.size : 0;
    if (l->offset > begin) {
        uint64_t skip = l->offset - begin < tail.size ? l->offset - begin : tail.size;
        tail = bytes_of(tail.data + skip, tail.size - skip);
    } else if (begin > l->offset) {
        char text[200];
        int size = snprintf(text, sizeof text,
                            "[rota: the node can not be asked; bytes %" PRIu64 " to %" PRIu64 " of %" PRIu64
                            " are missing here]\n", l->offset, begin, total);
        give(l, bytes_of(text, (size_t)size));
    }
    give(l, tail);
    finish(l);
}

/* --- asking the worker --- */

static void ask(struct log_reader *l, uint64_t session)
{
    struct master *m = l->x->m;
    int64_t wait_ms = l->follow && !l->lined ? LOG_WAIT_MS : 0;
    l->session = session;
    l->request = ++m->log_request_last;
    l->asked_at_ms = master_now_ms(m);
    l->wake_at_ms = l->asked_at_ms + wait_ms + LOG_ANSWER_MS;
    struct message msg = { .kind = MSG_LOG_READ,
                           .log_read = { .request = l->request,
                                         .ref = l->ref,
                                         .stream = l->stream,
                                         .offset = l->offset,
                                         .bytes_max = LOG_CHUNK_BYTES,
                                         .wait_ms = wait_ms } };
    master_send(m, session, &msg);
}

/* The node can not be asked now. */
static void out_of_reach(struct log_reader *l, const struct store_attempt *row, const struct node_view *node)
{
    if (row->ended_wall_ms) {
        serve_stored(l, row);
    } else if (l->follow) {
        start(l);
        l->wake_at_ms = master_now_ms(l->x->m) + LOG_AGAIN_MS;
    } else {
        struct err err;
        err_field(&err, ERR_UNAVAILABLE, NULL, "try again when it is back", "the node %.*s is out of reach",
                  (int)node->name.size, node->name.data ? node->name.data : "");
        refuse(l, &err);
    }
}

/* Goes on from wherever it is. May free l. */
static void advance(struct log_reader *l)
{
    struct master *m = l->x->m;
    struct store_attempt row;
    l->wake_at_ms = INT64_MAX;
    if (l->started && http_unsent(l->x->r) >= LOG_UNSENT_MAX) {
        l->full = true;
        return;
    }
    if (l->ref.attempt == 0) {
        struct task_view t;
        bool here = sched_view_task(m->sched, l->ref.job, l->ref.task, &t);
        uint32_t last = here ? t.attempt : history_last_attempt(m->store, l->ref.job, l->ref.task);
        if (last)
            l->ref.attempt = last;
        else if (!here || job_state_terminal(t.state) || !l->follow) {
            finish(l);
            return;
        }
    }
    if (!find_attempt(m, l->ref, &row)) {
        /* Decided and not durable yet, or not decided: a commit wakes this up. */
        if (!l->follow)
            finish(l);
        return;
    }
    struct node_view node = { 0 };
    if (!sched_view_node(m->sched, row.node, &node) || node.session == 0)
        out_of_reach(l, &row, &node);
    else
        ask(l, node.session);
}

static struct log_reader *reader_of(struct master *m, uint64_t request)
{
    list_each(node, &m->logs) {
        struct log_reader *l = list_entry(node, struct log_reader, node);
        if (l->request == request)
            return l;
    }
    return NULL;
}

static void no_output(struct log_reader *l)
{
    struct store_attempt row;
    if (find_attempt(l->x->m, l->ref, &row) && row.ended_wall_ms)
        serve_stored(l, &row);
    else if (l->follow)
        l->wake_at_ms = master_now_ms(l->x->m) + LOG_SOON_MS;
    else
        finish(l);
}

void logs_chunk(struct master *m, uint64_t session, const struct message *msg)
{
    struct log_reader *l = msg->log_chunk.request ? reader_of(m, msg->log_chunk.request) : NULL;
    if (!l || l->session != session || !attempt_equal(l->ref, msg->log_chunk.ref) || l->stream != msg->log_chunk.stream)
        return;
    l->request = 0;
    l->tries = 0;
    if (msg->log_chunk.unknown) {
        no_output(l);
        return;
    }
    if (msg->log_chunk.offset != l->offset && msg->log_chunk.data.size) {
        advance(l);
        return;
    }
    give(l, msg->log_chunk.data);
    l->offset += msg->log_chunk.data.size;
    bool at_end = msg->log_chunk.ended || msg->log_chunk.data.size == 0;
    if (at_end)
        flush_lines(l);
    bool hurried = at_end && master_now_ms(m) - l->asked_at_ms < LOG_SOON_MS;
    if (msg->log_chunk.ended || (at_end && !l->follow))
        finish(l);
    else if (hurried)
        l->wake_at_ms = master_now_ms(m) + LOG_SOON_MS; /* the worker would not wait: do not ask without end */
    else
        advance(l);
}

static void lost(struct log_reader *l)
{
    l->request = 0;
    if (++l->tries <= LOG_TRIES_MAX) {
        advance(l);
        return;
    }
    struct err err;
    err_set(&err, ERR_UNAVAILABLE, "the node does not answer");
    refuse(l, &err);
}

void logs_session_gone(struct master *m, uint64_t session)
{
    list_each_safe(node, &m->logs) {
        struct log_reader *l = list_entry(node, struct log_reader, node);
        if (l->request && l->session == session)
            lost(l);
    }
}

void logs_committed(struct master *m, const struct gate_batch *batch)
{
    if (list_empty(&m->logs))
        return;
    for (size_t i = 0; i < batch->records_count; i++) {
        struct record_subject subject = record_subject(&batch->records[i]);
        list_each(node, &m->logs) {
            struct log_reader *l = list_entry(node, struct log_reader, node);
            if (l->ref.job.n == subject.job.n && !l->request && !l->full)
                l->wake_at_ms = 0;
        }
    }
}

int64_t logs_due_ms(struct master *m)
{
    int64_t due_ms = INT64_MAX;
    list_each(node, &m->logs) {
        const struct log_reader *l = list_entry(node, struct log_reader, node);
        if (l->wake_at_ms < due_ms)
            due_ms = l->wake_at_ms;
    }
    return due_ms;
}

void logs_run(struct master *m)
{
    list_each_safe(node, &m->logs) {
        struct log_reader *l = list_entry(node, struct log_reader, node);
        if (l->wake_at_ms > master_now_ms(m))
            continue;
        if (l->request)
            lost(l);
        else
            advance(l);
    }
}

void log_gone(struct exchange *x)
{
    reader_free(x->log);
}

/* --- handler --- */

static int read_query(struct exchange *x, struct log_reader *l, uint64_t *attempt, struct err *err)
{
    const char *stream = http_query(x->r, "stream");
    const char *follow = http_query(x->r, "follow");
    l->lined = http_query(x->r, "tail") != NULL;
    l->stream = stream && strcmp(stream, "stderr") == 0 ? STREAM_STDERR : STREAM_STDOUT;
    if (stream && l->stream == STREAM_STDOUT && strcmp(stream, "stdout") != 0)
        return err_field(err, ERR_INVALID, "stream", "stdout or stderr", "there is no stream \"%.16s\"", stream);
    l->follow = follow && strcmp(follow, "1") == 0;
    if (follow && !l->follow && strcmp(follow, "0") != 0)
        return err_field(err, ERR_INVALID, "follow", "1 or 0", "follow is neither 1 nor 0");
    int rc = exchange_query_u64(x, "tail", 0, LOG_TAIL_LINES_MAX, 0, &l->lines, err);
    if (rc == 0)
        rc = exchange_query_u64(x, "offset", 0, UINT64_MAX, 0, &l->offset, err);
    if (rc == 0)
        rc = exchange_query_u64(x, "attempt", 1, UINT32_MAX - 1, 0, attempt, err);
    return rc;
}

void api_job_logs(struct exchange *x)
{
    struct master *m = x->m;
    struct log_reader asked = { 0 };
    struct job_view v;
    struct err err;
    uint64_t attempt = 0;
    int rc = job_ref_parse(x, &asked.ref.job, &asked.ref.task, &v, &err);
    if (rc == 0 && asked.ref.task == TASK_ALL)
        rc = err_field(&err, ERR_INVALID, "task", "write 7_3 for task 3 of array 7, or ?task=3",
                       "job %" PRIu64 " is an array: its tasks have the output", v.id.n);
    if (rc == 0)
        rc = read_query(x, &asked, &attempt, &err);
    struct store_attempt row;
    asked.ref.attempt = (uint32_t)attempt;
    if (rc == 0 && attempt && !find_attempt(m, asked.ref, &row))
        rc = err_field(&err, ERR_NOT_FOUND, "attempt", NULL, "there is no attempt %" PRIu64 " of it", attempt);
    if (rc == 0 && m->logs_count >= LOG_READERS_MAX)
        rc = err_field(&err, ERR_UNAVAILABLE, NULL, "try again in a second", "too much output is being read");
    if (rc < 0) {
        exchange_error(x, &err);
        return;
    }
    struct log_reader *l = mem_copy(&asked, sizeof asked);
    l->x = x;
    x->log = l;
    list_append(&m->logs, &l->node);
    m->logs_count++;
    advance(l);
}
