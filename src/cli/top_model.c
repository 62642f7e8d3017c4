#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/top.h"
#include "cli/verb.h"

const char *const top_order_names[TOP_ORDERS] = { "state", "id", "user", "cpus", "memory", "time" };

void top_fini(struct top *t)
{
    json_decref(t->stats);
    json_decref(t->nodes);
    json_decref(t->queues);
    json_decref(t->jobs);
    json_decref(t->running);
    top_log_clear(t, 0);
    free(t->log.lines);
}

/* --- order --- */

static const struct top *sorting; /* qsort has no argument; one thread, and not kept */

/* What happens now first, then what waits, then what is over. */
static int rank_of(const json_t *job)
{
    static const char *const ranks[] = {
        "running", "dispatched", "uncertain", "cancelling", "retry_wait", "queued",
        "blocked", "held",       "failed",    "expired",    "cancelled",  "succeeded"
    };
    const char *state = json_text(job, "state", "");
    int rank = 0;
    while (rank < (int)(sizeof ranks / sizeof *ranks) && strcmp(ranks[rank], state) != 0)
        rank++;
    return rank;
}

static double number_of(const json_t *job, enum top_order order)
{
    switch (order) {
    case TOP_BY_CPUS:
        return json_real_of(job, "cpus", 0);
    case TOP_BY_MEM:
        return (double)json_int(job, "mem_bytes", 0);
    case TOP_BY_TIME:
        return (double)-time_of(job, "started_at");
    default:
        return (double)json_int(job, "id", 0);
    }
}

static int before(const void *a, const void *b)
{
    const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
    int order = 0;
    if (sorting->order == TOP_BY_STATE)
        order = rank_of(x) - rank_of(y);
    else if (sorting->order == TOP_BY_USER)
        order = strcmp(json_text(x, "user", ""), json_text(y, "user", ""));
    else
        order = (number_of(x, sorting->order) < number_of(y, sorting->order)) -
                (number_of(x, sorting->order) > number_of(y, sorting->order));
    if (order == 0)
        order = json_int(x, "id", 0) < json_int(y, "id", 0) ? 1 : -1;
    return sorting->reverse ? -order : order;
}

static bool has_job(const json_t *jobs, int64_t id)
{
    size_t i;
    const json_t *job;
    json_array_foreach(jobs, i, job) if (json_int(job, "id", 0) == id) return true;
    return false;
}

static void add_running(struct top *t, json_t *jobs)
{
    size_t i;
    json_t *job;
    if (t->state && strcmp(t->state, "running") != 0)
        return;
    json_array_foreach(json_object_get(t->running, "jobs"), i, job) if (jobs && !has_job(jobs, json_int(job, "id", 0)))
        json_array_append(jobs, job);
}

void top_arrange(struct top *t)
{
    json_t *jobs = json_object_get(t->jobs, "jobs");
    add_running(t, jobs);
    json_decref(t->running);
    t->running = NULL;
    size_t count = json_array_size(jobs);
    if (count) {
        json_t **rows = mem_alloc(count * sizeof *rows), *sorted = json_array();
        for (size_t i = 0; i < count; i++)
            rows[i] = json_array_get(jobs, i);
        sorting = t;
        qsort(rows, count, sizeof *rows, before);
        for (size_t i = 0; i < count; i++)
            json_array_append(sorted, rows[i]);
        free(rows);
        json_object_set_new(t->jobs, "jobs", sorted);
        jobs = sorted;
    }
    if (t->page != TOP_JOBS)
        return;
    for (size_t i = 0; i < count && t->chosen_job; i++)
        if (json_int(json_array_get(jobs, i), "id", 0) == t->chosen_job)
            t->chosen = i;
    top_move(t, 0);
}

/* --- rows --- */

static const json_t *list_of(const struct top *t)
{
    switch (t->page) {
    case TOP_JOBS:
        return json_object_get(t->jobs, "jobs");
    case TOP_NODES:
        return json_object_get(t->nodes, "nodes");
    case TOP_QUEUES:
        return json_object_get(t->queues, "queues");
    default:
        return NULL;
    }
}

size_t top_rows(const struct top *t)
{
    return json_array_size(list_of(t));
}

const json_t *top_job(const struct top *t)
{
    return t->page == TOP_JOBS ? json_array_get(list_of(t), t->chosen) : NULL;
}

static size_t moved(size_t at, int by, size_t count)
{
    int64_t to = (int64_t)at + by;
    if (to >= (int64_t)count)
        to = (int64_t)count - 1;
    return to < 0 ? 0 : (size_t)to;
}

void top_move(struct top *t, int by)
{
    if (t->page == TOP_LOG) {
        t->log.back = moved(t->log.back, -by, t->log.count);
        return;
    }
    t->chosen = moved(t->chosen, by, top_rows(t));
    if (t->page == TOP_JOBS)
        t->chosen_job = json_int(top_job(t), "id", 0);
}

/* --- the log --- */

void top_log_clear(struct top *t, int64_t job)
{
    for (size_t i = 0; i < t->log.count; i++)
        free(t->log.lines[i]);
    t->log.count = t->log.back = 0;
    t->log.job = job;
    t->log.ended = false;
}

/* Colours that a job gave its output: the screen has its own. */
static void without_colours(struct buf *out, struct bytes text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] != '\x1b') {
            buf_char(out, text.data[i] == '\t' ? ' ' : text.data[i]);
            continue;
        }
        while (i < text.size && text.data[i] != 'm')
            i++;
    }
}

void top_log_add(struct top *t, struct bytes line)
{
    struct top_log *log = &t->log;
    struct log_clean clean = { 0 };
    autobuf struct buf text = BUF_INIT, plain = BUF_INIT, shown = BUF_INIT;
    log_clean(&clean, &text, line);
    log_clean_end(&clean, &text);
    without_colours(&plain, buf_bytes(&text));
    text_clean(&shown, buf_bytes(&plain));
    if (log->count == TOP_LOG_LINES) {
        free(log->lines[0]);
        memmove(log->lines, log->lines + 1, --log->count * sizeof *log->lines);
    }
    log->lines = mem_grow(log->lines, &log->cap, log->count + 1, sizeof *log->lines);
    log->lines[log->count++] = mem_str(shown.size ? shown.data : "");
    if (log->back && log->back < log->count - 1)
        log->back++; /* What is looked at stays where it is. */
}
