/* feed.h: a stream of events to many readers, none of which may hold up another. Pure: writing is a callback.
 *
 * Each reader has a bound of bytes that it has not taken yet (feed_bound): FEED_UNSENT_MAX, or less when there are so many
 * readers that together they would hold more than FEED_HELD_MAX. What comes while it is at the bound is not kept for it: when it reads again it is told the gap ("event: gap", first and last sequence number missed) and can
 * ask for the missing part by Last-Event-ID. A reader begins either live or, to catch up, behind (FEED_BEHIND): then
 * its owner feeds it from the journal by feed_catch_up until it is told that live events connect. */
#ifndef ROTA_API_FEED_H
#define ROTA_API_FEED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/list.h"

#define FEED_UNSENT_MAX (256u * 1024)
#define FEED_HELD_MAX (64u * 1024 * 1024) /* by all readers; twice that while ever more of them join and none reads */
#define FEED_READERS_MAX 2048u
#define FEED_UNSENT_LOW 16384u            /* below every bound: a reader with less than this to take reads again */

struct feed_event {
    uint64_t seq;
    uint64_t job;            /* 0: of no job */
    const char *name;
    struct bytes data;       /* one line */
};

struct feed_reader {
    struct list_node node;   /* in feed.readers */
    uint64_t job;            /* only this job's events; 0: all */
    uint64_t next_seq;       /* everything before it was sent or is none of this reader's business */
    bool behind;             /* fed from the journal */
    uint64_t gap_first, gap_last; /* missed; 0: nothing */
    uint64_t gaps;
    void *arg;
};

struct feed {
    struct list_node readers;
    size_t readers_count;
    void (*write)(void *reader_arg, struct bytes text);
    size_t (*unsent)(void *reader_arg);
    struct buf batch;        /* events of this turn as SSE text */
    struct feed_mark { uint64_t seq, job; size_t start; } *marks;
    size_t marks_count, marks_cap;
    uint64_t gaps;           /* of all readers there ever were */
};

void feed_init(struct feed *f, void (*write)(void *, struct bytes), size_t (*unsent)(void *));
void feed_fini(struct feed *f);
/* from_seq: the first event wanted; live when it is `now_seq`, the next one that will be added. False: too many
 * readers. */
bool feed_join(struct feed *f, struct feed_reader *r, uint64_t job, uint64_t from_seq, uint64_t now_seq, void *arg);
void feed_leave(struct feed *f, struct feed_reader *r);
size_t feed_bound(const struct feed *f);
/* True when somebody would get live events: else there is no need to render them. */
bool feed_wanted(const struct feed *f);
/* Gathers one committed event; feed_flush gives what has gathered to the readers, but to each only what comes at or after its
 * next_seq: who joins in between misses nothing and gets nothing twice. */
void feed_add(struct feed *f, const struct feed_event *e);
void feed_flush(struct feed *f);
/* One event from the journal for a reader that is behind. False: it is full, stop; the event was not taken. */
bool feed_catch_up(struct feed *f, struct feed_reader *r, const struct feed_event *e);
/* The journal up to `now_seq` (not included) has been given: from here on it is live. */
void feed_caught_up(struct feed_reader *r, uint64_t now_seq);
/* It has read: tells it the gap if there was one. */
void feed_drained(struct feed *f, struct feed_reader *r);
void feed_heartbeat(struct feed *f); /* a comment line to everyone with room */
/* A word about the present that is no event: it has no sequence number, is not in the journal and is not repeated. To all who read
 * the events of all jobs, but for those at the bound. `data`: one line. */
void feed_notice(struct feed *f, const char *name, struct bytes data);
void feed_render(struct buf *out, const struct feed_event *e);

#endif
