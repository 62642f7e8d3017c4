#include "sim/swf.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "sim/trace_file.h"

#define FIELDS 18

static const char *const field_names[FIELDS] = {
    "job number", "submit time", "wait time", "run time", "allocated processors", "average CPU time", "used memory",
    "requested processors", "requested time", "requested memory", "status", "user", "group", "executable", "queue",
    "partition", "preceding job", "think time",
};

struct reader {
    struct swf *out;
    const char *name;
    size_t line;
    bool max_procs; /* the header's MaxProcs was seen: MaxNodes does not count any more */
    struct err *err;
};

static int bad(const struct reader *r, const char *field, const char *remedy, struct bytes text)
{
    return err_field(r->err, ERR_INVALID, field, remedy, "%s:%zu: \"%.*s\" is not a number that can be used", r->name, r->line,
                     (int)(text.size < 40 ? text.size : 40), text.data);
}

static bool space(char c) { return c == ' ' || c == '\t' || c == '\r'; }

static struct bytes trimmed(struct bytes text)
{
    while (text.size && space(text.data[0])) {
        text.data++;
        text.size--;
    }
    while (text.size && space(text.data[text.size - 1]))
        text.size--;
    return text;
}

static bool digits(struct bytes *text, int64_t *value)
{
    size_t count = 0;
    while (text->size && text->data[0] >= '0' && text->data[0] <= '9') {
        *value = *value * 10 + (text->data[0] - '0');
        if (*value > SWF_NUMBER_MAX)
            return false;
        text->data++;
        text->size--;
        count++;
    }
    return count > 0;
}

/* A whole number; what stands behind a decimal point is dropped, as most readers of these logs do. */
static int number(const struct reader *r, struct bytes text, size_t field, int64_t *out)
{
    static const char remedy[] = "write a whole number up to 1e12, -1 where it is not known";
    struct bytes rest = text;
    bool negative = rest.size && rest.data[0] == '-';
    if (negative) {
        rest.data++;
        rest.size--;
    }
    int64_t value = 0, fraction = 0;
    if (!digits(&rest, &value))
        return bad(r, field_names[field], remedy, text);
    if (rest.size && rest.data[0] == '.') {
        rest.data++;
        rest.size--;
        while (rest.size > 12) /* More of them do not matter, but they have to be digits. */
            if (rest.data[--rest.size] < '0' || rest.data[rest.size] > '9')
                return bad(r, field_names[field], remedy, text);
        if (rest.size && !digits(&rest, &fraction))
            return bad(r, field_names[field], remedy, text);
    }
    if (rest.size)
        return bad(r, field_names[field], remedy, text);
    *out = negative ? -value : value;
    return 0;
}

static int header_line(struct reader *r, struct bytes line)
{
    const char *colon = memchr(line.data, ':', line.size);
    if (!colon)
        return 0;
    struct bytes key = trimmed(bytes_of(line.data, (size_t)(colon - line.data)));
    struct bytes value = trimmed(bytes_of(colon + 1, (size_t)(line.data + line.size - colon) - 1));
    bool procs = bytes_equal(key, bytes_str("MaxProcs")), nodes = bytes_equal(key, bytes_str("MaxNodes"));
    if ((!procs && !nodes) || r->max_procs)
        return 0;
    int64_t count = 0;
    if (!digits(&value, &count) || (value.size && !space(value.data[0])) || count == 0)
        return 0; /* "Unknown" and the like; MaxNodes may still say it. */
    if (procs || !r->out->procs)
        r->out->procs = count;
    r->max_procs = procs;
    return 0;
}

static int job_line(struct reader *r, struct bytes line)
{
    int64_t v[FIELDS];
    size_t count = 0;
    for (size_t at = 0; at < line.size && count < FIELDS;) {
        size_t end = at;
        while (end < line.size && !space(line.data[end]))
            end++;
        if (number(r, bytes_of(line.data + at, end - at), count, &v[count]) < 0)
            return -(int)ERR_INVALID;
        count++;
        for (at = end; at < line.size && space(line.data[at]);)
            at++;
    }
    if (count < FIELDS)
        return err_field(r->err, ERR_INVALID, field_names[count], "give all 18 fields, -1 for what is not known",
                         "%s:%zu: the line ends after %zu of 18 fields", r->name, r->line, count);
    struct swf *w = r->out;
    w->rows = mem_grow(w->rows, &w->cap, w->count + 1, sizeof *w->rows);
    w->rows[w->count++] = (struct swf_row){ v[0], v[1], v[3], v[4], v[7], v[8], v[11] };
    return 0;
}

int swf_parse(struct swf *out, const char *name, struct bytes text, struct err *err)
{
    *out = (struct swf){ 0 };
    struct reader r = { .out = out, .name = name, .err = err };
    for (size_t at = 0; at < text.size;) {
        const char *newline = memchr(text.data + at, '\n', text.size - at);
        size_t size = newline ? (size_t)(newline - text.data) - at : text.size - at;
        struct bytes line = trimmed(bytes_of(text.data + at, size));
        at += size + 1;
        r.line++;
        int rc = 0;
        if (line.size && line.data[0] == ';')
            rc = header_line(&r, bytes_of(line.data + 1, line.size - 1));
        else if (line.size)
            rc = job_line(&r, line);
        if (rc < 0) {
            swf_fini(out);
            return rc;
        }
    }
    return 0;
}

int swf_read(struct swf *out, const char *path, struct err *err)
{
    *out = (struct swf){ 0 };
    autobuf struct buf text = BUF_INIT;
    int rc = trace_file_read(&text, path, err);
    return rc < 0 ? rc : swf_parse(out, path, buf_bytes(&text), err);
}

void swf_fini(struct swf *w)
{
    free(w->rows);
    *w = (struct swf){ 0 };
}

/* --- which jobs --- */

/* False: the row is left out, and counted. */
static bool keep(const struct swf_row *row, int64_t procs, const struct swf_choice *choice, struct swf_job *job,
                 struct swf_counts *n)
{
    bool sc15 = choice->filter == SWF_SC15;
    int64_t width = row->procs_asked > 0 ? row->procs_asked : row->procs_used;
    if (row->run_s <= 0)
        n->no_run++;
    else if (width <= 0)
        n->no_procs++;
    else if (width > procs || (sc15 && row->procs_used > procs))
        n->too_wide++;
    else if (row->submit_s < 0)
        n->no_submit++;
    else if (sc15 && row->asked_s <= 0)
        n->no_estimate_dropped++;
    else {
        *job = (struct swf_job){ .id = row->id, .submit_s = row->submit_s, .run_s = row->run_s, .user = row->user,
                                 .estimate_s = row->asked_s > 0 ? row->asked_s : row->run_s, .procs = width, .start_s = -1 };
        n->no_estimate += row->asked_s <= 0;
        n->overrun += job->run_s > job->estimate_s;
        if ((choice->kill || sc15) && job->run_s > job->estimate_s)
            job->run_s = job->estimate_s;
        return true;
    }
    return false;
}

struct placed {
    struct swf_job job;
    size_t place;
};

static int by_submission(const void *a, const void *b)
{
    const struct placed *x = a, *y = b;
    if (x->job.submit_s != y->job.submit_s)
        return x->job.submit_s < y->job.submit_s ? -1 : 1;
    return x->place < y->place ? -1 : x->place > y->place;
}

int swf_choose(const struct swf *w, const struct swf_choice *choice, struct swf_job **jobs, size_t *jobs_count, int64_t *procs,
               struct swf_counts *counts, struct err *err)
{
    *counts = (struct swf_counts){ .read = w->count };
    *procs = choice->procs ? choice->procs : w->procs;
    if (*procs <= 0)
        return err_field(err, ERR_INVALID, "--procs", "give --procs N", "the trace does not say how large the machine is");
    autofree struct placed *kept = mem_zero(w->count + 1, sizeof *kept);
    size_t count = 0;
    for (size_t i = 0; i < w->count; i++) {
        kept[count].place = i;
        count += keep(&w->rows[i], *procs, choice, &kept[count].job, counts);
    }
    counts->kept = count;
    qsort(kept, count, sizeof *kept, by_submission);
    size_t first = choice->first < count ? choice->first : count;
    size_t rest = count - first;
    if (choice->count && choice->count < rest)
        rest = choice->count;
    if (!rest)
        return err_field(err, ERR_INVALID, "trace", "look at the counts of what was left out, and at --start", "no job is left to replay");
    *jobs = mem_alloc(rest * sizeof **jobs);
    *jobs_count = rest;
    int64_t base_s = choice->rebase ? kept[first].job.submit_s : 0;
    for (size_t i = 0; i < rest; i++) {
        (*jobs)[i] = kept[first + i].job;
        (*jobs)[i].submit_s -= base_s;
    }
    return 0;
}
