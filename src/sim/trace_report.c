#include "sim/trace_report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define TIME_PARTS 300 /* of the time axis; each shows the mean over it */
#define COLOURS 8      /* then they are taken again, dashed */

/* Of every chart, in the units of its viewBox. */
enum { LEFT = 62, RIGHT = 14, TOP = 12, BOTTOM = 40, WIDTH = 960 };
#define INNER (WIDTH - LEFT - RIGHT)

static const double bounds_s[WAIT_CLASSES - 1] = {
    0, 1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10800, 36000, 86400, 259200, 864000, 2592000, 8640000, 25920000
};
static const char *const bound_names[WAIT_CLASSES - 1] = { "0",     "1 s",    "3 s",    "10 s", "30 s",  "1 min",
                                                           "3 min", "10 min", "30 min", "1 h",  "3 h",   "10 h",
                                                           "1 d",   "3 d",    "10 d",   "30 d", "100 d", "300 d" };
static const char *const class_names[WAIT_CLASSES] = {
    "none",          "less than 1 s",  "1 s to 3 s",      "3 s to 10 s",      "10 s to 30 s",
    "30 s to 1 min", "1 min to 3 min", "3 min to 10 min", "10 min to 30 min", "30 min to 1 h",
    "1 h to 3 h",    "3 h to 10 h",    "10 h to 1 d",     "1 d to 3 d",       "3 d to 10 d",
    "10 d to 30 d",  "30 d to 100 d",  "100 d to 300 d",  "300 d or more",
};

size_t wait_class(double wait_s)
{
    if (wait_s <= 0)
        return 0;
    size_t class = 1;
    while (class < WAIT_CLASSES - 1 && wait_s >= bounds_s[class])
        class++;
    return class;
}

const char *wait_class_name(size_t class)
{
    return class_names[class];
}

/* --- small parts --- */

static void escaped(struct buf *out, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '<':
            buf_str(out, "&lt;");
            break;
        case '>':
            buf_str(out, "&gt;");
            break;
        case '&':
            buf_str(out, "&amp;");
            break;
        case '"':
            buf_str(out, "&quot;");
            break;
        default:
            buf_char(out, *text);
        }
    }
}

/* 1, 2 or 5 times a power of ten, so that `span` has at most `parts` of them. */
static double nice_step(double span, int parts)
{
    double raw = span > 0 ? span / parts : 1, ten = pow(10, floor(log10(raw))), left = raw / ten;
    return (left <= 1 ? 1 : left <= 2 ? 2 : left <= 5 ? 5 : 10) * ten;
}

struct time_axis {
    double first_s, span_s;
    double unit_s, step_s; /* of the labels */
    const char *unit;
};

static struct time_axis time_axis(const struct report *r)
{
    struct time_axis x = { .first_s = r->jobs_count ? r->jobs[0].submit_s : 0 };
    double last_s = x.first_s;
    for (size_t i = 0; i < r->jobs_count; i++) {
        x.first_s = fmin(x.first_s, r->jobs[i].submit_s);
        for (size_t k = 0; k < r->runs_count; k++)
            last_s = fmax(last_s, r->runs[k].start_s[i] + r->jobs[i].run_s);
    }
    x.span_s = last_s > x.first_s ? last_s - x.first_s : 1;
    x.unit = x.span_s > 3 * 86400 ? "days" : x.span_s > 3 * 3600 ? "hours" : x.span_s > 300 ? "minutes" : "seconds";
    x.unit_s = *x.unit == 'd' ? 86400 : *x.unit == 'h' ? 3600 : *x.unit == 'm' ? 60 : 1;
    x.step_s = nice_step(x.span_s / x.unit_s, 10) * x.unit_s;
    return x;
}

/* Adds `weight` to each part of the time axis, for as much of the part as lies within [from, to). */
static void spread(const struct time_axis *x, double *parts, double from_s, double to_s, double weight)
{
    double part_s = x->span_s / TIME_PARTS, from = (from_s - x->first_s) / part_s, to = (to_s - x->first_s) / part_s;
    for (size_t i = from > 0 ? (size_t)from : 0; i < TIME_PARTS && (double)i < to; i++)
        parts[i] += weight * (fmin(to, (double)i + 1) - fmax(from, (double)i));
}

static double greatest(const double *values, size_t count)
{
    double most = 0;
    for (size_t i = 0; i < count; i++)
        most = fmax(most, values[i]);
    return most;
}

/* --- charts --- */

struct chart {
    struct buf *out;
    double height; /* of the plot, without what stands below it */
    double most;   /* what the top stands for */
};

static double y_of(const struct chart *c, double value)
{
    return TOP + c->height * (1 - value / c->most);
}

static void chart_begin(struct chart *c, const char *name, const char *y_label)
{
    buf_printf(c->out, "<svg viewBox=\"0 0 %d %.0f\" role=\"img\" aria-label=\"", WIDTH, TOP + c->height + BOTTOM);
    escaped(c->out, name);
    buf_printf(c->out, "\">\n<text class=\"unit\" transform=\"translate(13 %.1f) rotate(-90)\">%s</text>\n",
               TOP + c->height / 2, y_label);
}

static void chart_end(struct chart *c)
{
    buf_str(c->out, "</svg>\n");
}

static void y_axis(struct chart *c, double step)
{
    for (double v = 0; v <= c->most * 1.0001; v += step) {
        buf_printf(c->out, "<line class=\"%s\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", v > 0 ? "grid" : "base",
                   LEFT, WIDTH - RIGHT, y_of(c, v), y_of(c, v));
        buf_printf(c->out, "<text class=\"right\" x=\"%d\" y=\"%.1f\">%.10g</text>\n", LEFT - 7, y_of(c, v) + 4, v);
    }
}

static void x_axis_of_time(struct chart *c, const struct time_axis *x)
{
    double foot = TOP + c->height;
    for (double at_s = 0; at_s <= x->span_s * 1.0001; at_s += x->step_s) {
        double px = LEFT + INNER * at_s / x->span_s;
        buf_printf(c->out, "<line class=\"base\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", px, px, foot,
                   foot + 4);
        buf_printf(c->out, "<text class=\"middle\" x=\"%.1f\" y=\"%.1f\">%.10g</text>\n", px, foot + 17,
                   at_s / x->unit_s);
    }
    buf_printf(c->out, "<text class=\"unit\" x=\"%d\" y=\"%.1f\">%s since the first submission</text>\n",
               LEFT + INNER / 2, foot + 34, x->unit);
}

static void line(struct chart *c, const double *parts, bool area)
{
    double foot = TOP + c->height;
    buf_printf(c->out, area ? "M%d %.1f" : "M", LEFT, foot);
    for (size_t i = 0; i < TIME_PARTS; i++)
        buf_printf(c->out, "%s%.1f %.1f", i || area ? "L" : "", LEFT + INNER * ((double)i + 0.5) / TIME_PARTS,
                   y_of(c, parts[i]));
    if (area)
        buf_printf(c->out, "L%d %.1fZ", LEFT + INNER, foot);
}

static void series_class(struct buf *out, size_t run)
{
    buf_printf(out, "c%zu%s", run % COLOURS, run >= COLOURS ? " dashed" : "");
}

static void legend(const struct report *r, struct buf *out)
{
    if (r->runs_count < 2)
        return;
    buf_str(out, "<p class=\"legend\">");
    for (size_t k = 0; k < r->runs_count; k++) {
        buf_str(out, "<span><svg viewBox=\"0 0 24 8\"><path class=\"line ");
        series_class(out, k);
        buf_str(out, "\" d=\"M1 4H23\"/></svg>");
        escaped(out, r->runs[k].name);
        buf_str(out, "</span>\n");
    }
    buf_str(out, "</p>\n");
}

static void panel_name(const struct report *r, size_t run, struct buf *out)
{
    if (r->runs_count < 2)
        return;
    buf_str(out, "<h3>");
    escaped(out, r->runs[run].name);
    buf_str(out, "</h3>\n");
}

/* --- the three pictures --- */

static void queue_chart(const struct report *r, const struct time_axis *x, struct buf *out)
{
    autofree double *parts = mem_zero(r->runs_count * TIME_PARTS, sizeof *parts);
    for (size_t k = 0; k < r->runs_count; k++)
        for (size_t i = 0; i < r->jobs_count; i++)
            spread(x, parts + k * TIME_PARTS, r->jobs[i].submit_s, r->runs[k].start_s[i], 1);
    double most = greatest(parts, r->runs_count * TIME_PARTS), step = nice_step(most, 6);
    struct chart c = { out, 260, most > 0 ? ceil(most / step) * step : 1 };
    buf_str(out, "<h2>Queue length over time</h2>\n");
    legend(r, out);
    chart_begin(&c, "Queue length over time", "jobs that wait");
    y_axis(&c, most > 0 ? step : 1);
    x_axis_of_time(&c, x);
    for (size_t k = 0; k < r->runs_count; k++) {
        buf_str(out, "<path class=\"line ");
        series_class(out, k);
        buf_str(out, "\" d=\"");
        line(&c, parts + k * TIME_PARTS, false);
        buf_str(out, "\"><title>");
        escaped(out, r->runs[k].name);
        buf_str(out, "</title></path>\n");
    }
    chart_end(&c);
}

static void use_chart(const struct report *r, const struct time_axis *x, struct buf *out)
{
    buf_str(out, "<h2>Utilisation over time</h2>\n");
    for (size_t k = 0; k < r->runs_count; k++) {
        double parts[TIME_PARTS] = { 0 };
        for (size_t i = 0; i < r->jobs_count; i++)
            spread(x, parts, r->runs[k].start_s[i], r->runs[k].start_s[i] + r->jobs[i].run_s, r->jobs[i].share * 100);
        struct chart c = { out, r->runs_count > 1 ? 110 : 200, 100 };
        panel_name(r, k, out);
        chart_begin(&c, "Utilisation over time", "% in use");
        y_axis(&c, 25);
        x_axis_of_time(&c, x);
        buf_printf(out, "<path class=\"area c%zu\" d=\"", k % COLOURS);
        line(&c, parts, true);
        buf_str(out, "\"/>\n");
        chart_end(&c);
    }
}

static size_t classes_used(const struct report *r)
{
    size_t most = 0;
    for (size_t k = 0; k < r->runs_count; k++)
        for (size_t i = 0; i < r->jobs_count; i++) {
            size_t class = wait_class(r->runs[k].start_s[i] - r->jobs[i].submit_s);
            most = class > most ? class : most;
        }
    return most + 1;
}

static void bars(struct chart *c, const double *percent, const double *jobs, size_t count, size_t run)
{
    double wide = (double)INNER / (double)count, foot = TOP + c->height;
    for (size_t i = 0; i < count; i++) {
        double px = LEFT + wide * (double)i;
        buf_printf(c->out,
                   "<rect class=\"area c%zu\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"><title>%s: %.0f "
                   "jobs, %.1f %%</title></rect>",
                   run % COLOURS, px + 1.5, y_of(c, percent[i]), wide - 3, foot - y_of(c, percent[i]), class_names[i],
                   jobs[i], percent[i]);
        if (percent[i] >= 0.05)
            buf_printf(c->out, "<text class=\"middle small\" x=\"%.1f\" y=\"%.1f\">%.1f</text>", px + wide / 2,
                       y_of(c, percent[i]) - 3, percent[i]);
        if (i == 0)
            buf_printf(c->out, "<text class=\"middle\" x=\"%.1f\" y=\"%.1f\">none</text>\n", px + wide / 2, foot + 17);
        else if (i + 1 < count) /* Its upper bound, where it stands. */
            buf_printf(c->out, "<text class=\"middle\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", px + wide, foot + 17,
                       bound_names[i]);
    }
    buf_printf(c->out, "<text class=\"unit\" x=\"%d\" y=\"%.1f\">wait before the start</text>\n", LEFT + INNER / 2,
               foot + 34);
}

static void wait_chart(const struct report *r, struct buf *out)
{
    size_t classes = classes_used(r);
    autofree double *jobs = mem_zero(r->runs_count * WAIT_CLASSES, sizeof *jobs),
                    *percent = mem_zero(r->runs_count * WAIT_CLASSES, sizeof *percent);
    for (size_t k = 0; k < r->runs_count; k++)
        for (size_t i = 0; i < r->jobs_count; i++)
            jobs[k * WAIT_CLASSES + wait_class(r->runs[k].start_s[i] - r->jobs[i].submit_s)]++;
    for (size_t i = 0; i < r->runs_count * WAIT_CLASSES && r->jobs_count; i++)
        percent[i] = 100 * jobs[i] / (double)r->jobs_count;
    double most = greatest(percent, r->runs_count * WAIT_CLASSES), step = nice_step(most * 1.1, 5);
    buf_str(out, "<h2>How long jobs waited</h2>\n");
    for (size_t k = 0; k < r->runs_count; k++) {
        struct chart c = { out, r->runs_count > 1 ? 120 : 200, most > 0 ? ceil(most * 1.1 / step) * step : 1 };
        panel_name(r, k, out);
        chart_begin(&c, "How long jobs waited", "% of jobs");
        y_axis(&c, most > 0 ? step : 1);
        bars(&c, percent + k * WAIT_CLASSES, jobs + k * WAIT_CLASSES, classes, k);
        chart_end(&c);
    }
}

/* --- the page --- */

static void table(const struct report *r, struct buf *out)
{
    const struct report_table *t = &r->table;
    buf_str(out, "<div class=\"wide\"><table>\n<thead><tr><th>policy</th>");
    for (size_t c = 0; c < t->columns_count; c++) {
        buf_str(out, "<th>");
        escaped(out, t->columns[c]);
        buf_str(out, "</th>");
    }
    buf_str(out, "</tr></thead>\n<tbody>\n");
    for (size_t k = 0; k < r->runs_count; k++) {
        buf_str(out, "<tr><td>");
        escaped(out, r->runs[k].name);
        buf_str(out, "</td>");
        for (size_t c = 0; c < t->columns_count; c++) {
            size_t cell = k * t->columns_count + c;
            buf_str(out, t->best[cell] ? "<td class=\"best\">" : "<td>");
            escaped(out, t->cells[cell]);
            buf_str(out, t->best[cell] ? " ★</td>" : "</td>");
        }
        buf_str(out, "</tr>\n");
    }
    buf_str(out, "</tbody></table></div>\n");
}

static const char style[] =
    ":root{color-scheme:light "
    "dark;--ground:#fff;--text:#1c2430;--faint:#5d6875;--grid:#e3e7ec;--base:#9aa4b0;--best:#0b7a3b;"
    "--c0:#1f6fd6;--c1:#d1600b;--c2:#138a55;--c3:#a23fb0;--c4:#b3261e;--c5:#0f8b9d;--c6:#8a6a00;--c7:#5a6472}\n"
    "@media(prefers-color-scheme:dark){:root{--ground:#14181e;--text:#e4e8ee;--faint:#9aa6b4;--grid:#29313b;--base:#"
    "5c6876;--best:#58d28c;"
    "--c0:#6aa9ff;--c1:#ff9e57;--c2:#4ecb92;--c3:#d98ae6;--c4:#ff7d74;--c5:#4fd0e3;--c6:#dcb945;--c7:#a9b4c2}}\n"
    "body{background:var(--ground);color:var(--text);font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem "
    "auto;padding:0 1rem}\n"
    "h1{font-size:1.5rem;margin:0;overflow-wrap:anywhere}h2{font-size:1.15rem;margin:2.2rem 0 "
    ".3rem}h3{font-size:.95rem;margin:.6rem 0 0;font-weight:600}\n"
    ".summary,footer{color:var(--faint);margin:.2rem 0 1.2rem}footer{margin-top:2rem;font-size:.85rem}\n"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;width:100%}\n"
    "th,td{padding:.3rem .6rem;text-align:right;border-bottom:1px solid var(--grid);white-space:nowrap}"
    "th{color:var(--faint);font-weight:500;font-size:.85rem}th:first-child,td:first-child{text-align:left}.best{color:"
    "var(--best);font-weight:600}\n"
    ".legend{margin:.2rem 0;display:flex;flex-wrap:wrap;gap:.2rem 1.2rem}.legend "
    "svg{width:24px;height:8px;margin-right:.4rem;display:inline-block;vertical-align:middle}\n"
    "svg{display:block;width:100%;height:auto}svg text{fill:var(--faint);font:12px system-ui,sans-serif}\n"
    ".right{text-anchor:end}.middle,.unit{text-anchor:middle}svg "
    ".small{font-size:10.5px}.grid{stroke:var(--grid)}.base{stroke:var(--base)}\n"
    ".line{fill:none;stroke-width:1.8;stroke-linejoin:round}.dashed{stroke-dasharray:6 "
    "3}.area{fill-opacity:.75;stroke:none}\n";

static void colours(struct buf *out)
{
    for (int i = 0; i < COLOURS; i++)
        buf_printf(out, ".line.c%d{stroke:var(--c%d)}.area.c%d{fill:var(--c%d)}\n", i, i, i, i);
}

void trace_report(const struct report *r, struct buf *out)
{
    struct time_axis x = time_axis(r);
    buf_str(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                 "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>");
    escaped(out, r->title);
    buf_str(out, "</title>\n<style>\n");
    buf_str(out, style);
    colours(out);
    buf_str(out, "</style>\n</head>\n<body>\n<h1>");
    escaped(out, r->title);
    buf_str(out, "</h1>\n<p class=\"summary\">");
    escaped(out, r->summary);
    buf_str(out, "</p>\n");
    table(r, out);
    queue_chart(r, &x, out);
    use_chart(r, &x, out);
    wait_chart(r, out);
    static const struct { const char *name; double s; } units[] = { { "days", 86400 }, { "hours", 3600 }, { "minutes", 60 }, { "seconds", 1 } };
    double part_s = x.span_s / TIME_PARTS;
    size_t unit = 0;
    while (unit < 3 && part_s < 2 * units[unit].s)
        unit++;
    buf_printf(out,
               "<footer>Lines over time show the mean of every %.3g %s. Bounded slowdown: max(1, (wait + run) / "
               "max(run, 10 s)). "
               "★ the best of its column. Made by rota sim.</footer>\n</body>\n</html>\n",
               part_s / units[unit].s, units[unit].name);
}
