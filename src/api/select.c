#include "api/select.h"

#include <fnmatch.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/parse.h"

/* "7", "7_3", "5-9". False: it is something else (a name). */
static bool parse_part(const char *text, struct select_part *out)
{
    const char *dash = strchr(text, '-');
    *out = (struct select_part){ 0 };
    if (dash) {
        char first[24];
        size_t size = (size_t)(dash - text);
        if (size == 0 || size >= sizeof first)
            return false;
        memcpy(first, text, size);
        first[size] = 0;
        return parse_u64(first, 1, INT64_MAX, &out->first, NULL) == 0 &&
               parse_u64(dash + 1, 1, INT64_MAX, &out->last, NULL) == 0;
    }
    if (parse_job_ref(text, &out->first, &out->has_index, &out->index, NULL) < 0)
        return false;
    out->last = out->first;
    return true;
}

static int part_compare(const void *a, const void *b)
{
    const struct select_part *x = a, *y = b;
    if (x->first != y->first)
        return x->first < y->first ? -1 : 1;
    if (x->has_index != y->has_index)
        return x->has_index ? 1 : -1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* Sorts, merges ranges that touch, and drops tasks of jobs that are meant as a whole: each thing is met once. */
static void normalise(struct selector *s)
{
    qsort(s->parts, s->parts_count, sizeof *s->parts, part_compare);
    size_t kept = 0;
    const struct select_part *whole = NULL;
    uint64_t whole_last = 0;
    for (size_t i = 0; i < s->parts_count; i++) {
        struct select_part p = s->parts[i];
        bool covered = whole && p.first <= whole_last;
        if (!p.has_index && covered) {
            if (p.last > whole_last)
                ((struct select_part *)whole)->last = whole_last = p.last;
            continue;
        }
        if (p.has_index && (covered || (kept && part_compare(&s->parts[kept - 1], &p) == 0)))
            continue;
        s->parts[kept] = p;
        if (!p.has_index) {
            whole = &s->parts[kept];
            whole_last = p.last;
        }
        kept++;
    }
    s->parts_count = kept;
}

/* False: not a list of ids. */
static bool parse_ids(char *text, struct selector *out, struct err *err, int *rc)
{
    size_t cap = 0;
    char *rest = text;
    for (char *word; (word = strsep(&rest, ","));) {
        struct select_part part;
        if (!parse_part(word, &part))
            return false;
        if (part.last < part.first) {
            *rc = err_field(err, ERR_INVALID, "selector", NULL, "the range %.48s ends before it begins", word);
            return true;
        }
        if (out->parts_count == SELECT_PARTS_MAX) {
            *rc = err_field(err, ERR_INVALID, "selector", "use ranges such as 5-9, or several requests",
                            "more than %u parts", SELECT_PARTS_MAX);
            return true;
        }
        out->parts = mem_grow(out->parts, &cap, out->parts_count + 1, sizeof *out->parts);
        out->parts[out->parts_count++] = part;
    }
    normalise(out);
    return true;
}

int selector_parse(struct bytes text, struct selector *out, struct err *err)
{
    *out = (struct selector){ 0 };
    if (text.size == 0)
        return err_field(err, ERR_INVALID, "selector", "write an id, 5-9,12, last, all, a name or a glob",
                         "no job is named");
    if (text.size > SELECT_BYTES_MAX || memchr(text.data, 0, text.size))
        return err_field(err, ERR_INVALID, "selector", NULL, "the selector is longer than %u bytes", SELECT_BYTES_MAX);
    autofree char *copy = mem_alloc(text.size + 1);
    memcpy(copy, text.data, text.size);
    copy[text.size] = 0;
    if (strcmp(copy, "all") == 0 || strcmp(copy, "last") == 0) {
        out->kind = copy[0] == 'a' ? SELECT_ALL : SELECT_LAST;
        return 0;
    }
    autofree char *scratch = mem_str(copy);
    int rc = 0;
    if (parse_ids(scratch, out, err, &rc)) {
        if (rc < 0)
            selector_fini(out);
        return rc;
    }
    selector_fini(out);
    if (!parse_name_ok(text, 256))
        return err_field(err, ERR_INVALID, "selector", "write an id, 5-9,12, last, all, a name or a glob",
                         "this is neither an id nor a name");
    out->kind = strpbrk(copy, "*?[") ? SELECT_GLOB : SELECT_NAME;
    out->name = mem_str(copy);
    return 0;
}

void selector_fini(struct selector *s)
{
    free(s->parts);
    free(s->name);
    *s = (struct selector){ 0 };
}

bool selector_matches_name(const struct selector *s, struct bytes name)
{
    if (s->kind == SELECT_NAME)
        return bytes_equal(bytes_str(s->name), name);
    char text[257];
    if (name.size == 0 || name.size >= sizeof text)
        return false;
    memcpy(text, name.data, name.size);
    text[name.size] = 0;
    return fnmatch(s->name, text, 0) == 0;
}

bool select_task_position(const struct job_view *job, uint32_t index, uint32_t *position)
{
    if (!job->array || index < job->first || job->step == 0 || (index - job->first) % job->step != 0)
        return false;
    *position = (index - job->first) / job->step;
    return *position < job->tasks;
}

void select_walk_start(struct select_walk *w, const struct selector *s, const struct sched *sched, struct bytes user)
{
    *w = (struct select_walk){ .selector = s };
    snprintf(w->user, sizeof w->user, "%.*s", (int)user.size, user.data ? user.data : "");
    w->end = sched_view_next(sched, (job_id){ 0 }, true).n;
}

static enum select_step walk_ended(struct select_walk *w)
{
    w->done = true;
    return SELECT_ENDED;
}

/* The jobs of one range after the other. */
static enum select_step walk_ids(struct select_walk *w, const struct sched *sched, struct job_view *job, uint32_t *task)
{
    if (w->part == w->selector->parts_count)
        return walk_ended(w);
    const struct select_part *p = &w->selector->parts[w->part];
    if (p->has_index) {
        w->part++;
        return sched_view_job(sched, (job_id){ p->first }, job) && select_task_position(job, p->index, task)
                   ? SELECT_FOUND
                   : SELECT_PASSED;
    }
    uint64_t from = w->at >= p->first ? w->at : p->first - 1;
    uint64_t next = p->first == p->last ? p->first : sched_view_next(sched, (job_id){ from }, false).n;
    if (next == 0 || next > p->last || next > w->end || from >= p->last) {
        w->part++;
        return SELECT_PASSED;
    }
    w->at = next;
    if (next == p->last)
        w->part++;
    if (sched_view_job(sched, (job_id){ next }, job))
        return SELECT_FOUND;
    w->missing = next;
    return SELECT_PASSED;
}

enum select_step select_walk_next(struct select_walk *w, const struct sched *sched, struct job_view *job,
                                  uint32_t *task)
{
    *task = TASK_ALL;
    w->missing = 0;
    if (w->done)
        return SELECT_ENDED;
    const struct selector *s = w->selector;
    if (s->kind == SELECT_IDS)
        return walk_ids(w, sched, job, task);
    bool backward = s->kind == SELECT_LAST;
    w->at = sched_view_next(sched, (job_id){ w->at }, backward).n;
    if (w->at == 0 || w->at > w->end)
        return walk_ended(w);
    if (!sched_view_job(sched, (job_id){ w->at }, job))
        return SELECT_PASSED;
    switch (s->kind) {
    case SELECT_ALL:
        return SELECT_FOUND;
    case SELECT_LAST:
        if (w->user[0] && !bytes_equal(job->user, bytes_str(w->user)))
            return SELECT_PASSED;
        w->done = true;
        return SELECT_FOUND;
    default:
        return selector_matches_name(s, job->name) ? SELECT_FOUND : SELECT_PASSED;
    }
}
