#include "master/recent.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "base/mem.h"

#define MINUTE_MS 60000

/* An attempt of which it was recorded that it started: most that are short end before word of their start comes. */
struct known_start {
    struct key {
        uint64_t job;
        uint32_t task, attempt;
    } key;
    UT_hash_handle hh;
};

struct recent {
    struct known_start *starts;
    struct recent_minute minutes[RECENT_MINUTES]; /* by minute, modulo */
    struct recent_attempt attempts[RECENT_ATTEMPTS_MAX];
    uint64_t attempts_added;
};

struct recent *recent_new(void)
{
    return mem_zero(1, sizeof(struct recent));
}

static void forget_start(struct recent *r, struct known_start *k)
{
    HASH_DEL(r->starts, k);
    free(k);
}

static struct known_start *find_start(const struct recent *r, uint64_t job, uint32_t task, uint32_t attempt)
{
    struct key key = { job, task, attempt };
    struct known_start *k;
    HASH_FIND(hh, r->starts, &key, sizeof key, k);
    return k;
}

static void keep_start(struct recent *r, uint64_t job, uint32_t task, uint32_t attempt)
{
    struct known_start *k = mem_zero(1, sizeof *k);
    k->key = (struct key){ job, task, attempt };
    HASH_ADD(hh, r->starts, key, sizeof k->key, k);
}

void recent_free(struct recent *r)
{
    struct known_start *k, *next;
    HASH_ITER(hh, r->starts, k, next)
    forget_start(r, k);
    free(r);
}

static struct recent_minute *minute_of(struct recent *r, int64_t wall_ms)
{
    static struct recent_minute nowhere; /* late records of a minute that was given up */
    int64_t minute = wall_ms / MINUTE_MS;
    struct recent_minute *m = &r->minutes[(uint64_t)minute % RECENT_MINUTES];
    if (m->minute > minute)
        return &nowhere;
    if (m->minute != minute) {
        memset(m, 0, sizeof *m);
        m->minute = minute;
    }
    return m;
}

static unsigned bucket_of(int64_t wait_ms)
{
    if (wait_ms <= 1)
        return 0;
    double bucket = ceil(4 * log2((double)wait_ms));
    return bucket < WAIT_BUCKETS - 1 ? (unsigned)bucket : WAIT_BUCKETS - 1;
}

static void count_start(struct recent *r, int64_t wall_ms, int64_t eligible_wall_ms)
{
    struct recent_minute *m = minute_of(r, wall_ms);
    m->started++;
    if (!eligible_wall_ms)
        return;
    m->waits[bucket_of(wall_ms - eligible_wall_ms)]++;
    m->waits_count++;
}

static void count_end(struct recent_minute *m, uint32_t final)
{
    switch ((enum job_state) final) {
    case JOB_SUCCEEDED:
        m->succeeded++;
        break;
    case JOB_FAILED:
        m->failed++;
        break;
    case JOB_CANCELLED:
        m->cancelled++;
        break;
    case JOB_NONE:
        m->retried++;
        break;
    default:
        break;
    }
}

static void add_attempt(struct recent *r, const struct record *record)
{
    const struct ev_ended *e = &record->ended;
    r->attempts[r->attempts_added++ % RECENT_ATTEMPTS_MAX] = (struct recent_attempt){
        .ref = { { e->job }, e->task, e->attempt },
        .node = { e->node },
        .start_wall_ms = record->at_wall_ms - e->run_ms,
        .end_wall_ms = record->at_wall_ms,
        .final = attempt_final(e->final, e->reason, e->flags),
        .reason = e->reason < REASONS ? (enum reason)e->reason : REASON_NONE,
        .exit_code = e->exit_code,
        .signal = e->signal,
    };
}

static void add_end(struct recent *r, const struct record *record, int64_t eligible_wall_ms)
{
    const struct ev_ended *e = &record->ended;
    struct known_start *k = find_start(r, e->job, e->task, e->attempt);
    if (k)
        forget_start(r, k);
    else if (e->reason != REASON_NODE_LOST && e->reason != REASON_NODE_REBOOTED)
        count_start(r, record->at_wall_ms - e->run_ms, eligible_wall_ms);
    count_end(minute_of(r, record->at_wall_ms), attempt_final(e->final, e->reason, e->flags));
    add_attempt(r, record);
}

void recent_add(struct recent *r, const struct record *record, int64_t eligible_wall_ms)
{
    struct known_start *k;
    switch (record->kind) {
    case EV_SUBMITTED:
        minute_of(r, record->at_wall_ms)->submitted += record->submitted.tasks ? record->submitted.tasks : 1;
        break;
    case EV_STARTED:
        if (find_start(r, record->started.job, record->started.task, record->started.attempt))
            break;
        keep_start(r, record->started.job, record->started.task, record->started.attempt);
        count_start(r, record->at_wall_ms, eligible_wall_ms);
        break;
    case EV_REVOKED:
        if ((k = find_start(r, record->revoked.job, record->revoked.task, record->revoked.attempt)))
            forget_start(r, k);
        break;
    case EV_ENDED:
        add_end(r, record, eligible_wall_ms);
        break;
    default:
        break;
    }
}

const struct recent_minute *recent_minute(const struct recent *r, int64_t wall_ms, uint32_t ago)
{
    int64_t minute = wall_ms / MINUTE_MS - ago;
    const struct recent_minute *m = &r->minutes[(uint64_t)minute % RECENT_MINUTES];
    return m->minute == minute ? m : NULL;
}

int64_t recent_wait_ms(const struct recent_minute *m, double share)
{
    if (!m->waits_count)
        return -1;
    double wanted = ceil(share * m->waits_count), seen = 0;
    for (unsigned i = 0; i < WAIT_BUCKETS; i++) {
        seen += m->waits[i];
        if (seen >= wanted)
            return (int64_t)llround(exp2(i / 4.0)); /* the bucket's upper end */
    }
    return -1;
}

const struct recent_attempt *recent_attempt(const struct recent *r, size_t index)
{
    if (index >= RECENT_ATTEMPTS_MAX || index >= r->attempts_added)
        return NULL;
    return &r->attempts[(r->attempts_added - 1 - index) % RECENT_ATTEMPTS_MAX];
}
