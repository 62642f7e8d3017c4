#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "base/parse.h"
#include "cli/top.h"
#include "cli/verb.h"

#include <ncurses.h> /* after ours: both have an ERR */

#define NODES_SHOWN 4 /* above the jobs, when there is room */

enum { PAIR_NONE, PAIR_GREEN, PAIR_RED, PAIR_YELLOW, PAIR_BAR };

void top_colours(void)
{
    const char *no = getenv("NO_COLOR");
    if ((no && *no) || !has_colors())
        return;
    start_color();
    use_default_colors();
    init_pair(PAIR_GREEN, COLOR_GREEN, -1);
    init_pair(PAIR_RED, COLOR_RED, -1);
    init_pair(PAIR_YELLOW, COLOR_YELLOW, -1);
    init_pair(PAIR_BAR, COLOR_CYAN, -1);
}

static attr_t state_attribute(const char *state)
{
    const char *colour = state_colour(state);
    if (!colour || !has_colors())
        return A_NORMAL;
    return COLOR_PAIR((short)(strcmp(colour, "green") == 0 ? PAIR_GREEN
                              : strcmp(colour, "red") == 0 ? PAIR_RED
                                                           : PAIR_YELLOW));
}

/* --- one cell: harmless, cut or padded to its width in columns --- */

static void cell(int y, int x, int width, bool right, const char *text)
{
    autobuf struct buf clean = BUF_INIT;
    text_clean(&clean, bytes_str(text));
    const char *at = clean.size ? clean.data : "";
    wchar_t wide[512];
    size_t count = 0;
    int used = 0;
    mbstate_t state = { 0 };
    while (*at && count + 1 < sizeof wide / sizeof *wide) {
        wchar_t c;
        size_t bytes = mbrtowc(&c, at, MB_CUR_MAX, &state);
        int columns = 1;
        if (bytes == (size_t)-1 || bytes == (size_t)-2) {
            c = L'?';
            bytes = 1;
            state = (mbstate_t){ 0 };
        } else {
            columns = wcwidth(c);
        }
        at += bytes;
        if (columns < 0 || used + columns > width)
            break;
        wide[count++] = c;
        used += columns;
    }
    wide[count] = 0;
    if (y >= LINES || x >= COLS || width <= 0)
        return;
    mvaddnwstr(y, x + (right && used < width ? width - used : 0), wide, (int)count);
}

static void cellf(int y, int x, int width, bool right, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
static void cellf(int y, int x, int width, bool right, const char *fmt, ...)
{
    autobuf struct buf text = BUF_INIT;
    va_list args;
    va_start(args, fmt);
    buf_vprintf(&text, fmt, args);
    va_end(args);
    cell(y, x, width, right, text.data);
}

static void size_text(char *out, size_t size, int64_t bytes)
{
    autobuf struct buf text = BUF_INIT;
    format_size(&text, bytes > 0 ? (uint64_t)bytes : 0);
    snprintf(out, size, "%s", text.data);
}

static void age_text(char *out, size_t size, double seconds)
{
    autobuf struct buf text = BUF_INIT;
    human_duration(&text, seconds);
    snprintf(out, size, "%s", text.data);
}

/* "[####..    ]": given to tasks and, beyond that, busy. */
static void bar(int y, int x, int width, double given, double used, double all)
{
    int inside = width - 2;
    if (inside < 3)
        return;
    int full = all > 0 ? (int)((double)inside * given / all + 0.5) : 0,
        busy = all > 0 ? (int)((double)inside * used / all + 0.5) : 0;
    mvaddch(y, x, '[');
    for (int i = 0; i < inside; i++) {
        if (has_colors())
            attron(COLOR_PAIR(PAIR_BAR));
        mvaddch(y, x + 1 + i, i < full ? '#' : i < busy ? '.' : ' ');
        if (has_colors())
            attroff(COLOR_PAIR(PAIR_BAR));
    }
    mvaddch(y, x + width - 1, ']');
}

/* --- the top --- */

static void draw_head(const struct top *t, const char *url, int64_t now_ms)
{
    const json_t *nodes = json_object_get(t->stats, "nodes");
    int64_t known = 0;
    const char *state;
    json_t *count;
    json_object_foreach((json_t *)nodes, state, count) known +=
        strcmp(state, "removed") ? json_integer_value(count) : 0;
    attron(A_BOLD);
    cellf(0, 0, COLS, false, "rota %s  %s", json_text(t->stats, "version", ""), url);
    attroff(A_BOLD);
    if (t->lost_since_ms >= 0) {
        attron(A_REVERSE);
        cellf(0, COLS > 40 ? COLS - 40 : 0, 40, true, "no answer for %llds: %s",
              (long long)((now_ms - t->lost_since_ms) / 1000), t->trouble);
        attroff(A_REVERSE);
        return;
    }
    cellf(0, COLS > 24 ? COLS - 24 : 0, 24, true, "%lld of %lld nodes ready", (long long)json_int(nodes, "ready", 0),
          (long long)known);
}

static void draw_usage(const struct top *t, int y)
{
    const json_t *all = json_object_get(t->stats, "capacity"), *given = json_object_get(t->stats, "allocated"), *node;
    double cpus_used = 0, mem_used = 0;
    size_t i;
    json_array_foreach(json_object_get(t->nodes, "nodes"), i, node)
    {
        if (strcmp(json_text(node, "state", ""), "ready") != 0)
            continue;
        cpus_used += json_real_of(json_object_get(node, "used"), "cpus", 0);
        mem_used += (double)json_int(json_object_get(node, "used"), "mem_bytes", 0);
    }
    double cpus = json_real_of(all, "cpus", 0), mem = (double)json_int(all, "mem_bytes", 0);
    double cpus_given = json_real_of(given, "cpus", 0), mem_given = (double)json_int(given, "mem_bytes", 0);
    int width = COLS / 4 > 30 ? 30 : COLS / 4;
    char a[24], b[24];
    cell(y, 0, 4, false, "CPU");
    bar(y, 4, width, cpus_given, cpus_used, cpus);
    cellf(y, 5 + width, COLS / 2 - 6 - width, false, "%g/%g", cpus_given, cpus);
    size_text(a, sizeof a, (int64_t)mem_given);
    size_text(b, sizeof b, (int64_t)mem);
    cell(y, COLS / 2, 4, false, "MEM");
    bar(y, COLS / 2 + 4, width, mem_given, mem_used, mem);
    double gpus = json_real_of(all, "gpus", 0);
    if (gpus > 0)
        cellf(y, COLS / 2 + 5 + width, COLS - COLS / 2 - 5 - width, false, "%s/%s GPU %g/%g", a, b,
              json_real_of(given, "gpus", 0), gpus);
    else
        cellf(y, COLS / 2 + 5 + width, COLS - COLS / 2 - 5 - width, false, "%s/%s", a, b);
}

static void draw_tasks(const struct top *t, int y)
{
    const json_t *tasks = json_object_get(t->stats, "tasks"), *totals = json_object_get(t->stats, "totals");
    static const char *const shown[] = { "running", "dispatched", "queued",    "held",
                                         "blocked", "retry_wait", "uncertain", "cancelling" };
    autobuf struct buf text = BUF_INIT;
    buf_str(&text, "tasks ");
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        if (json_int(tasks, shown[i], 0) || i == 0 || i == 2)
            buf_printf(&text, " %lld %s", (long long)json_int(tasks, shown[i], 0), shown[i]);
    buf_printf(&text, "   ended  %lld well %lld failed", (long long)json_int(totals, "succeeded", 0),
               (long long)json_int(totals, "failed", 0));
    if (t->ended_per_s >= 0)
        buf_printf(&text, "  %.1f/s", t->ended_per_s);
    cell(y, 0, COLS, false, text.data);
}

/* --- rows --- */

struct column {
    const char *name;
    int width;
    bool right;
}; /* width 0: what is left */

static void heading(int y, const struct column *columns, size_t count, int *left)
{
    int fixed = 0;
    for (size_t i = 0; i < count; i++)
        fixed += columns[i].width + 1;
    *left = COLS - fixed > 4 ? COLS - fixed : 4;
    attron(A_REVERSE);
    mvhline(y, 0, ' ', COLS);
    for (size_t i = 0, x = 0; i < count; i++) {
        int width = columns[i].width ? columns[i].width : *left;
        cell(y, (int)x, width, columns[i].right, columns[i].name);
        x += (size_t)width + 1;
    }
    attroff(A_REVERSE);
}

static const struct column job_columns[] = {
    { "ID", 8, true },     { "USER", 8, false }, { "NAME", 0, false }, { "STATE", 10, false },
    { "NODE", 10, false }, { "CPUS", 4, true },  { "MEM", 5, true },   { "TIME", 6, true },
};
static const struct column node_columns[] = {
    { "NODE", 0, false }, { "STATE", 11, false }, { "RUN", 4, true },  { "CPUS", 9, true },
    { "BUSY", 5, true },  { "MEM", 13, true },    { "LOAD", 5, true }, { "HEARD", 6, true },
};
static const struct column queue_columns[] = {
    { "QUEUE", 0, false }, { "RUNNING", 9, true }, { "WAITING", 9, true },
    { "HELD", 9, true },   { "FAILED", 9, true },  { "DONE", 9, true },
};
#define COUNT(a) (sizeof(a) / sizeof *(a))

static int place(const struct column *columns, size_t count, size_t index, int left, int *width)
{
    int x = 0;
    for (size_t i = 0; i < index && i < count; i++)
        x += (columns[i].width ? columns[i].width : left) + 1;
    *width = columns[index].width ? columns[index].width : left;
    return x;
}

static void put(int y, const struct column *columns, size_t count, size_t index, int left, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));
static void put(int y, const struct column *columns, size_t count, size_t index, int left, const char *fmt, ...)
{
    autobuf struct buf text = BUF_INIT;
    int width, x = place(columns, count, index, left, &width);
    va_list args;
    va_start(args, fmt);
    buf_vprintf(&text, fmt, args);
    va_end(args);
    cell(y, x, width, columns[index].right, text.data);
}
#define PUT(columns, index, ...) put(y, columns, COUNT(columns), index, left, __VA_ARGS__)

static void job_row(const json_t *job, int y, int left, int64_t wall_ms)
{
    const char *state = json_text(job, "state", "");
    int64_t started = time_of(job, "started_at"), ended = time_of(job, "ended_at"),
            submitted = time_of(job, "submitted_at");
    char size[24], age[24];
    size_text(size, sizeof size, json_int(job, "mem_bytes", 0));
    age_text(age, sizeof age, (double)((ended ? ended : wall_ms) - (started ? started : submitted)) / 1000);
    PUT(job_columns, 0, "%lld", (long long)json_int(job, "id", 0));
    PUT(job_columns, 1, "%s", json_text(job, "user", ""));
    if (json_is_true(json_object_get(job, "array")))
        PUT(job_columns, 2, "%s [%lld]", json_text(job, "name", ""), (long long)json_int(job, "tasks", 0));
    else
        PUT(job_columns, 2, "%s", json_text(job, "name", ""));
    attron(state_attribute(state));
    PUT(job_columns, 3, "%s", state);
    attroff(state_attribute(state));
    PUT(job_columns, 4, "%s", json_text(job, "node", "-"));
    PUT(job_columns, 5, "%g", json_real_of(job, "cpus", 0));
    PUT(job_columns, 6, "%s", json_int(job, "mem_bytes", 0) ? size : "-");
    PUT(job_columns, 7, "%s", age);
}

static void node_row(const json_t *node, int y, int left)
{
    const json_t *all = json_object_get(node, "capacity"), *given = json_object_get(node, "allocated"),
                 *used = json_object_get(node, "used");
    const char *state = json_text(node, "state", "");
    char a[24], b[24], age[24];
    size_text(a, sizeof a, json_int(used, "mem_bytes", 0));
    size_text(b, sizeof b, json_int(all, "mem_bytes", 0));
    age_text(age, sizeof age, json_real_of(node, "heard_ago_s", -1));
    PUT(node_columns, 0, "%s", json_text(node, "name", ""));
    attron(state_attribute(state));
    PUT(node_columns, 1, "%s", state);
    attroff(state_attribute(state));
    PUT(node_columns, 2, "%lld", (long long)json_int(node, "running", 0));
    PUT(node_columns, 3, "%g/%g", json_real_of(given, "cpus", 0), json_real_of(all, "cpus", 0));
    if (json_is_object(used)) {
        PUT(node_columns, 4, "%.1f", json_real_of(used, "cpus", 0));
        PUT(node_columns, 5, "%s/%s", a, b);
        PUT(node_columns, 6, "%.2f", json_real_of(used, "load", 0));
    } else {
        PUT(node_columns, 4, "-");
        PUT(node_columns, 5, "-/%s", b);
        PUT(node_columns, 6, "-");
    }
    PUT(node_columns, 7, "%s", age);
}

static void queue_row(const json_t *queue, int y, int left)
{
    const json_t *tasks = json_object_get(queue, "tasks");
    PUT(queue_columns, 0, "%s", json_text(queue, "name", ""));
    PUT(queue_columns, 1, "%lld", (long long)(json_int(tasks, "running", 0) + json_int(tasks, "dispatched", 0)));
    PUT(queue_columns, 2, "%lld",
        (long long)(json_int(tasks, "queued", 0) + json_int(tasks, "blocked", 0) + json_int(tasks, "retry_wait", 0)));
    PUT(queue_columns, 3, "%lld", (long long)json_int(tasks, "held", 0));
    PUT(queue_columns, 4, "%lld", (long long)json_int(tasks, "failed", 0));
    PUT(queue_columns, 5, "%lld", (long long)json_int(tasks, "succeeded", 0));
}

static const char *nothing_text(const struct top *t)
{
    if (t->page != TOP_JOBS)
        return "none";
    return t->state || t->name[0] || t->user[0] ? "no job matches; f, / and u change what is looked for"
                                                : "no jobs; rota submit -- CMD makes one";
}

static void draw_rows(const struct top *t, int y, int height, int64_t wall_ms)
{
    int left = 0;
    size_t rows = top_rows(t);
    if (t->page == TOP_JOBS)
        heading(y, job_columns, COUNT(job_columns), &left);
    else if (t->page == TOP_NODES)
        heading(y, node_columns, COUNT(node_columns), &left);
    else
        heading(y, queue_columns, COUNT(queue_columns), &left);
    size_t shown = height > 1 ? (size_t)height - 1 : 0, first = t->scrolled;
    if (t->chosen < first)
        first = t->chosen;
    if (shown && t->chosen >= first + shown)
        first = t->chosen - shown + 1;
    ((struct top *)(uintptr_t)t)->scrolled = first; /* where the eye is: no part of what is known */
    const char *key = t->page == TOP_JOBS ? "jobs" : t->page == TOP_NODES ? "nodes" : "queues";
    const json_t *answer = t->page == TOP_JOBS    ? t->jobs
                           : t->page == TOP_NODES ? t->nodes
                                                  : t->queues,
                 *list = json_object_get(answer, key);
    for (size_t i = first; i < rows && i < first + shown; i++) {
        int at = y + 1 + (int)(i - first);
        attr_t marked = i == t->chosen ? A_BOLD | A_UNDERLINE : A_NORMAL;
        attron(marked);
        if (t->page == TOP_JOBS)
            job_row(json_array_get(list, i), at, left, wall_ms);
        else if (t->page == TOP_NODES)
            node_row(json_array_get(list, i), at, left);
        else
            queue_row(json_array_get(list, i), at, left);
        attroff(marked);
        if (i == t->chosen)
            mvchgat(at, 0, -1, A_REVERSE, 0, NULL);
    }
    if (!rows && height > 2)
        cell(y + 2, 2, COLS - 4, false, !answer ? "waiting for the master ..." : nothing_text(t));
}

static int draw_nodes_strip(const struct top *t, int y, int room)
{
    const json_t *nodes = json_object_get(t->nodes, "nodes");
    size_t count = json_array_size(nodes);
    int shown = room / 5 < NODES_SHOWN ? room / 5 : NODES_SHOWN;
    shown = (size_t)shown > count ? (int)count : shown;
    for (int i = 0; i < shown; i++) {
        const json_t *node = json_array_get(nodes, (size_t)i), *all = json_object_get(node, "capacity"),
                     *given = json_object_get(node, "allocated"), *used = json_object_get(node, "used");
        const char *state = json_text(node, "state", "");
        int half = COLS / 2, width = half - 24 > 6 ? half - 24 : 0;
        bool more = i == shown - 1 && count > (size_t)shown;
        cell(y + i, 0, 12, false, json_text(node, "name", ""));
        attron(state_attribute(state));
        cell(y + i, 13, 10, false, state);
        attroff(state_attribute(state));
        bar(y + i, 24, width, json_real_of(given, "cpus", 0), json_real_of(used, "cpus", 0),
            json_real_of(all, "cpus", 0));
        cellf(y + i, half + 1, 16, false, "%g/%g CPUs", json_real_of(given, "cpus", 0), json_real_of(all, "cpus", 0));
        cellf(y + i, half + 18, 10, false, "%lld run", (long long)json_int(node, "running", 0));
        if (more)
            cellf(y + i, COLS - 12, 12, true, "+%zu more", count - (size_t)shown);
    }
    return shown;
}

static void draw_log(const struct top *t, int y, int height)
{
    attron(A_REVERSE);
    mvhline(y, 0, ' ', COLS);
    cellf(y, 0, COLS, false, "output of job %lld%s%s", (long long)t->log.job, t->log.ended ? " (ended)" : "",
          t->log.back ? "  [scrolled back]" : "");
    attroff(A_REVERSE);
    size_t shown = height > 1 ? (size_t)height - 1 : 0,
           end = t->log.count - (t->log.back < t->log.count ? t->log.back : t->log.count);
    size_t first = end > shown ? end - shown : 0;
    for (size_t i = first; i < end; i++)
        cell(y + 1 + (int)(i - first), 0, COLS, false, t->log.lines[i]);
    if (!t->log.count)
        cell(y + 2, 2, COLS - 4, false, t->log.ended ? "it has written nothing" : "nothing yet");
}

/* --- the bottom --- */

static void draw_bottom(const struct top *t)
{
    int y = LINES - 1;
    if (t->prompt) {
        cellf(y, 0, COLS, false, "%s%s", t->prompt, t->typed);
        return;
    }
    if (t->message[0]) {
        attron(A_BOLD);
        cell(y, 0, COLS, false, t->message);
        attroff(A_BOLD);
        return;
    }
    attron(A_DIM);
    cell(y, 0, COLS, false,
         t->page == TOP_LOG ? "q back  up/down PgUp/PgDn scroll  End follow"
                            : "q quit Tab page  f state / name u user  o sort r reverse  l log w why c cancel");
    attroff(A_DIM);
}

static void draw_filters(const struct top *t, int y)
{
    static const char *const names[] = { "jobs", "nodes", "queues" };
    int x = 0;
    for (int i = 0; i < 3; i++) {
        attr_t mark = (int)t->page == i ? A_REVERSE : A_NORMAL;
        attron(mark);
        cellf(y, x, 12, false, " %d %s ", i + 1, names[i]);
        attroff(mark);
        x += (int)strlen(names[i]) + 5;
    }
    if (t->page != TOP_JOBS || COLS - x < 10)
        return;
    autobuf struct buf text = BUF_INIT;
    if (t->state)
        buf_printf(&text, "state %s  ", t->state);
    if (t->name[0])
        buf_printf(&text, "name *%s*  ", t->name);
    if (t->user[0])
        buf_printf(&text, "user %s  ", t->user);
    buf_printf(&text, "by %s%s", top_order_names[t->order], t->reverse ? " (reverse)" : "");
    cell(y, x, COLS - x, true, text.data);
}

void top_draw(const struct top *t, const char *url, int64_t now_ms, int64_t wall_ms)
{
    erase();
    int y = 0;
    draw_head(t, url, now_ms);
    y++;
    if (LINES >= 8) {
        draw_usage(t, y++);
        draw_tasks(t, y++);
    }
    if (t->page == TOP_LOG) {
        draw_log(t, y, LINES - 1 - y);
    } else {
        if (t->page == TOP_JOBS)
            y += draw_nodes_strip(t, y, LINES - 1 - y);
        draw_filters(t, y++);
        draw_rows(t, y, LINES - 1 - y, wall_ms);
    }
    draw_bottom(t);
    move(LINES - 1, COLS - 1);
    refresh();
}
