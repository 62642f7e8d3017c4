/* Copying the store takes seconds and syncs: it has a thread of its own, on a connection of its own, one at a time. */
#include <pthread.h>
#include <stdlib.h>

#include "base/mem.h"
#include "io/thread.h"
#include "master/body.h"
#include "master/master_int.h"
#include "obs/log.h"

struct backup {
    struct exchange *x;       /* held */
    struct store *store;
    struct loop_wake *wake;
    pthread_t thread;
    char *path;
    uint64_t last_seq;        /* durable when it began */
    int rc;
    struct err err;
};

static void *copy(void *arg)
{
    struct backup *b = arg;
    b->rc = b->store->ops->backup(b->store, b->path, &b->err);
    loop_wake(b->wake);
    return NULL;
}

static void backup_free(struct backup *b)
{
    b->x->m->backup = NULL;
    loop_wake_remove(b->wake);
    free(b->path);
    free(b);
}

static void on_copied(void *arg)
{
    struct backup *b = arg;
    struct exchange *x = b->x;
    pthread_join(b->thread, NULL);
    if (b->rc < 0) {
        log_warn("no backup: %s", b->err.text);
        exchange_error_now(x, &b->err);
    } else {
        struct json_out j = json_out_to(&x->answer);
        json_open(&j, NULL, '{');
        json_cstr(&j, "path", b->path);
        json_u64(&j, "last_seq", b->last_seq);
        json_close(&j, '}');
        buf_char(&x->answer, '\n');
        exchange_reply_now(x, 201, "application/json");
    }
    backup_free(b);
    exchange_drop(x);
}

static int start(struct backup *b, struct err *err)
{
    int failed = thread_start(&b->thread, NULL, copy, b);
    return failed ? err_field(err, ERR_UNAVAILABLE, NULL, "try again in a second", "no thread for the backup") : 0;
}

void api_backup(struct exchange *x)
{
    struct body_field fields[] = { { .name = "path", .type = BODY_TEXT, .required = true, .max = 4000 } };
    struct master *m = x->m;
    struct err err;
    int rc = body_read(&m->turn, buf_bytes(&x->body), fields, 1, &err);
    if (rc == 0 && (fields[0].text.size == 0 || fields[0].text.data[0] != '/'))
        rc = err_field(&err, ERR_INVALID, "path", "write it from / on", "the path is not absolute");
    if (rc == 0 && m->backup)
        rc = err_field(&err, ERR_CONFLICT, NULL, "wait until it is done", "another backup is under way");
    if (rc < 0) {
        exchange_error_now(x, &err);
        return;
    }
    struct backup *b = mem_zero(1, sizeof *b);
    *b = (struct backup){
        .x = x, .store = m->store, .path = mem_str(fields[0].text.data), .last_seq = m->committed_seq
    };
    b->wake = loop_wake_add(m->loop, on_copied, b);
    m->backup = b;
    if (start(b, &err) < 0) {
        backup_free(b);
        exchange_error_now(x, &err);
        return;
    }
    exchange_hold(x);
}

void backup_end(struct master *m)
{
    struct backup *b = m->backup;
    if (!b)
        return;
    pthread_join(b->thread, NULL);
    struct exchange *x = b->x;
    backup_free(b);
    exchange_drop(x);
}
