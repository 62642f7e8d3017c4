#include "api/feed.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/mem.h"

_Static_assert(FEED_HELD_MAX / FEED_READERS_MAX > FEED_UNSENT_LOW, "whoever was at its bound can be told that it has drained");

void feed_init(struct feed *f, void (*write)(void *, struct bytes), size_t (*unsent)(void *))
{
    *f = (struct feed){ .write = write, .unsent = unsent };
    list_init(&f->readers);
}

void feed_fini(struct feed *f)
{
    check(list_empty(&f->readers));
    buf_fini(&f->batch);
    free(f->marks);
}

bool feed_join(struct feed *f, struct feed_reader *r, uint64_t job, uint64_t from_seq, uint64_t now_seq, void *arg)
{
    if (f->readers_count == FEED_READERS_MAX)
        return false;
    *r = (struct feed_reader){ .job = job, .next_seq = from_seq, .behind = from_seq < now_seq, .arg = arg };
    list_append(&f->readers, &r->node);
    f->readers_count++;
    return true;
}

void feed_leave(struct feed *f, struct feed_reader *r)
{
    list_remove(&r->node);
    f->readers_count--;
}

size_t feed_bound(const struct feed *f)
{
    size_t share = FEED_HELD_MAX / (f->readers_count ? f->readers_count : 1);
    return share < FEED_UNSENT_MAX ? share : FEED_UNSENT_MAX;
}

bool feed_wanted(const struct feed *f)
{
    list_each(node, &f->readers)
        if (!list_entry(node, struct feed_reader, node)->behind)
            return true;
    return false;
}

void feed_render(struct buf *out, const struct feed_event *e)
{
    buf_str(out, "id: ");
    buf_u64(out, e->seq);
    buf_str(out, "\nevent: ");
    buf_str(out, e->name);
    buf_str(out, "\ndata: ");
    buf_add(out, e->data.data, e->data.size);
    buf_str(out, "\n\n");
}

void feed_add(struct feed *f, const struct feed_event *e)
{
    f->marks = mem_grow(f->marks, &f->marks_cap, f->marks_count + 1, sizeof *f->marks);
    f->marks[f->marks_count++] = (struct feed_mark){ e->seq, e->job, f->batch.size };
    feed_render(&f->batch, e);
}

static bool concerns(const struct feed_reader *r, uint64_t job)
{
    return r->job == 0 || r->job == job;
}

static void missed(struct feed *f, struct feed_reader *r, uint64_t first, uint64_t last)
{
    if (!r->gap_first) {
        r->gap_first = first;
        r->gaps++;
        f->gaps++;
    }
    r->gap_last = last;
}

/* The batch as one piece, for a reader of everything that has room for all of it or for nothing: most of them, and there may be
 * thousands. False: event by event. */
static bool give_whole(struct feed *f, struct feed_reader *r, size_t room)
{
    uint64_t first = f->marks[0].seq, last = f->marks[f->marks_count - 1].seq;
    if (r->job != 0 || first < r->next_seq)
        return false;
    if (r->gap_first || !room)
        missed(f, r, first, last);
    else if (f->batch.size <= room)
        f->write(r->arg, buf_bytes(&f->batch));
    else
        return false;
    return true;
}

/* The events of the batch from `i` on that go out in one piece: all that concern the reader and fit. */
static void give(struct feed *f, struct feed_reader *r)
{
    size_t room = 0, unsent = f->unsent(r->arg), bound = feed_bound(f);
    if (unsent < bound && !r->gap_first)
        room = bound - unsent;
    size_t start = 0, size = 0;
    bool whole = give_whole(f, r, room);
    for (size_t i = 0; !whole && i < f->marks_count; i++) {
        const struct feed_mark *m = &f->marks[i];
        size_t end = i + 1 < f->marks_count ? f->marks[i + 1].start : f->batch.size;
        if (m->seq < r->next_seq || !concerns(r, m->job))
            continue;
        if (r->gap_first || size + (end - m->start) > room) {
            missed(f, r, m->seq, m->seq);
            continue;
        }
        if (size && start + size != m->start) {
            f->write(r->arg, bytes_of(f->batch.data + start, size));
            room -= size;
            size = 0;
        }
        if (!size)
            start = m->start;
        size = end - start;
    }
    if (size)
        f->write(r->arg, bytes_of(f->batch.data + start, size));
    if (f->marks[f->marks_count - 1].seq >= r->next_seq)
        r->next_seq = f->marks[f->marks_count - 1].seq + 1;
}

void feed_flush(struct feed *f)
{
    list_each_safe(node, &f->readers) {
        struct feed_reader *r = list_entry(node, struct feed_reader, node);
        if (!r->behind && f->marks_count)
            give(f, r);
    }
    f->marks_count = 0;
    buf_clear(&f->batch);
}

bool feed_catch_up(struct feed *f, struct feed_reader *r, const struct feed_event *e)
{
    if (e->seq < r->next_seq)
        return true;
    if (concerns(r, e->job)) {
        if (f->unsent(r->arg) >= feed_bound(f) / 2)
            return false;
        struct buf text = BUF_INIT;
        feed_render(&text, e);
        f->write(r->arg, buf_bytes(&text));
        buf_fini(&text);
    }
    r->next_seq = e->seq + 1;
    return true;
}

void feed_caught_up(struct feed_reader *r, uint64_t now_seq)
{
    check(r->behind && r->next_seq <= now_seq);
    r->next_seq = now_seq;
    r->behind = false;
}

void feed_drained(struct feed *f, struct feed_reader *r)
{
    if (!r->gap_first)
        return;
    struct buf text = BUF_INIT;
    buf_printf(&text, "event: gap\ndata: {\"first\":%" PRIu64 ",\"last\":%" PRIu64 "}\n\n", r->gap_first, r->gap_last);
    r->gap_first = r->gap_last = 0;
    f->write(r->arg, buf_bytes(&text));
    buf_fini(&text);
}

void feed_notice(struct feed *f, const char *name, struct bytes data)
{
    struct buf text = BUF_INIT;
    buf_printf(&text, "event: %s\ndata: %.*s\n\n", name, (int)data.size, data.data);
    list_each_safe(node, &f->readers) {
        struct feed_reader *r = list_entry(node, struct feed_reader, node);
        if (!r->job && f->unsent(r->arg) < feed_bound(f))
            f->write(r->arg, buf_bytes(&text));
    }
    buf_fini(&text);
}

void feed_heartbeat(struct feed *f)
{
    list_each_safe(node, &f->readers) {
        struct feed_reader *r = list_entry(node, struct feed_reader, node);
        if (f->unsent(r->arg) < feed_bound(f) / 2)
            f->write(r->arg, bytes_str(": alive\n\n"));
    }
}
