#include "cli/sim_outcome.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/term.h"
#include "wire/json_out.h"

const char *const backfill_names[BACKFILLS] = { "none", "greedy", "easy", "conservative" };

static double wait_avg(const struct trace_metrics *m) { return m->wait_avg_s; }
static double wait_p95(const struct trace_metrics *m) { return (double)m->wait_p95_s; }
static double wait_max(const struct trace_metrics *m) { return (double)m->wait_max_s; }
static double slowdown(const struct trace_metrics *m) { return m->slowdown_avg; }
static double utilisation(const struct trace_metrics *m) { return m->utilisation; }
static double makespan(const struct trace_metrics *m) { return (double)m->makespan_s; }

static const struct {
    const char *column, *name, *title;
    double (*of)(const struct trace_metrics *m);
    int decimals;
    bool more; /* the greatest is the best */
} measures[MEASURES] = {
    [MEASURE_WAIT_AVG] = { "WAIT_AVG_S", "wait_avg_s", "average wait", wait_avg, 2, false },
    [MEASURE_WAIT_P95] = { "WAIT_P95_S", "wait_p95_s", "95th percentile", wait_p95, 0, false },
    [MEASURE_WAIT_MAX] = { "WAIT_MAX_S", "wait_max_s", "longest wait", wait_max, 0, false },
    [MEASURE_SLOWDOWN] = { "SLOWDOWN", "bounded_slowdown_avg", "bounded slowdown", slowdown, 4, false },
    [MEASURE_UTILISATION] = { "UTIL", "utilisation", "utilisation", utilisation, 4, true },
    [MEASURE_MAKESPAN] = { "MAKESPAN_S", "makespan_s", "makespan", makespan, 0, false },
};

static const char *name_of(const struct trace_policy *p) { return orders[p->order].name; }

/* As it is printed: what looks the same is as good. */
static double shown(const struct outcome *o, int measure)
{
    char text[64];
    snprintf(text, sizeof text, "%.*f", measures[measure].decimals, measures[measure].of(&o->metrics));
    double value;
    return sscanf(text, "%lf", &value) == 1 ? value : 0;
}

void outcomes_best(struct outcome *all, size_t count)
{
    for (int m = 0; m < MEASURES; m++) {
        double sign = measures[m].more ? -1 : 1, least = count ? sign * shown(&all[0], m) : 0, most = least;
        for (size_t i = 0; i < count; i++) {
            double value = sign * shown(&all[i], m);
            least = value < least ? value : least;
            most = value > most ? value : most;
        }
        for (size_t i = 0; i < count; i++)
            all[i].best[m] = least < most && sign * shown(&all[i], m) <= least;
    }
}

void outcomes_compared(const struct outcome *all, size_t count)
{
    struct table *t = table_new();
    const char *rest = term_stdout() ? " " : ""; /* keeps digits below each other */
    table_column(t, "POLICY", 0);
    table_column(t, "BACKFILL", 0);
    for (int m = 0; m < MEASURES; m++)
        table_column(t, measures[m].column, TABLE_RIGHT);
    for (size_t i = 0; i < count; i++) {
        table_row(t);
        table_cell(t, "%s", name_of(&all[i].policy));
        table_cell(t, "%s", backfill_names[all[i].policy.backfill]);
        for (int m = 0; m < MEASURES; m++) {
            table_cell(t, "%.*f%s", measures[m].decimals, measures[m].of(&all[i].metrics), all[i].best[m] ? "*" : rest);
            if (all[i].best[m])
                table_colour(t, "green");
        }
    }
    table_print(t);
    table_free(t);
}

static void row(struct table *t, const struct outcome *o)
{
    const struct trace_metrics *m = &o->metrics;
    table_row(t);
    table_cell(t, "%s", name_of(&o->policy));
    table_cell(t, "%s", backfill_names[o->policy.backfill]);
    table_cell(t, "%.2f", m->wait_avg_s);
    table_cell(t, "%" PRId64, m->wait_p95_s);
    table_cell(t, "%" PRId64, m->wait_max_s);
    table_cell(t, "%.4f", m->slowdown_avg);
    table_cell(t, "%.2f", m->slowdown_p95);
    table_cell(t, "%.4f", m->utilisation);
    table_cell(t, "%" PRId64, m->makespan_s);
    table_cell(t, "%" PRIu64, o->stats.queue_most);
    table_cell(t, "%.2f", o->cpu_s);
}

void outcomes_table(const struct outcome *all, size_t count)
{
    static const char *const columns[] = { "POLICY", "BACKFILL", "WAIT_AVG_S", "P95", "MAX", "SLOWDOWN", "P95", "UTIL", "MAKESPAN_S",
                                           "QUEUE_MOST", "CPU_S" };
    struct table *t = table_new();
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        table_column(t, columns[i], i < 2 ? 0 : TABLE_RIGHT);
    for (size_t i = 0; i < count; i++)
        row(t, &all[i]);
    table_print(t);
    table_free(t);
}

static void json_best(struct json_out *j, const bool *best)
{
    json_open(j, "best", '[');
    for (int m = 0; m < MEASURES; m++)
        if (best[m])
            json_cstr(j, NULL, measures[m].name);
    json_close(j, ']');
}

void outcome_json(const struct outcome *o, const char *trace, int64_t procs, const bool *best)
{
    const struct trace_policy *p = &o->policy;
    const struct trace_metrics *m = &o->metrics;
    autobuf struct buf out = BUF_INIT;
    struct json_out j = json_out_to(&out);
    json_open(&j, NULL, '{');
    json_cstr(&j, "trace", trace);
    json_cstr(&j, "policy", name_of(p));
    json_cstr(&j, "backfill", backfill_names[p->backfill]);
    json_cstr(&j, "backfill_order", p->backfill_order < ORDERS ? orders[p->backfill_order].name : "policy");
    json_bool(&j, "predict", p->predict);
    json_u64(&j, "jobs", m->jobs);
    json_i64(&j, "procs", procs);
    json_num(&j, "wait_avg_s", m->wait_avg_s, 6);
    json_i64(&j, "wait_p50_s", m->wait_p50_s);
    json_i64(&j, "wait_p95_s", m->wait_p95_s);
    json_i64(&j, "wait_p99_s", m->wait_p99_s);
    json_i64(&j, "wait_max_s", m->wait_max_s);
    json_num(&j, "bounded_slowdown_avg", m->slowdown_avg, 6);
    json_num(&j, "bounded_slowdown_p95", m->slowdown_p95, 6);
    json_num(&j, "bounded_slowdown_max", m->slowdown_max, 6);
    json_num(&j, "utilisation", m->utilisation, 6);
    json_i64(&j, "makespan_s", m->makespan_s);
    json_u64(&j, "queue_most", o->stats.queue_most);
    json_u64(&j, "cycles", o->stats.cycles);
    json_num(&j, "cpu_s", o->cpu_s, 3);
    if (best)
        json_best(&j, best);
    json_close(&j, '}');
    buf_char(&out, '\n');
    out_flush(&out);
}

/* --- the page --- */

static void human(struct buf *out, int measure, double value)
{
    if (measure == MEASURE_SLOWDOWN)
        buf_printf(out, "%.2f", value);
    else if (measure == MEASURE_UTILISATION)
        buf_printf(out, "%.1f %%", value * 100);
    else if (value < 120)
        buf_printf(out, "%.3g s", value);
    else if (value < 7200)
        buf_printf(out, "%.1f min", value / 60);
    else if (value < 172800)
        buf_printf(out, "%.1f h", value / 3600);
    else
        buf_printf(out, "%.1f d", value / 86400);
    buf_char(out, 0);
}

static int write_page(const char *path, struct bytes page, struct err *err)
{
    FILE *f = fopen(path, "we");
    if (!f)
        return err_errno(err, "%s", path);
    bool short_written = fwrite(page.data, 1, page.size, f) != page.size;
    return fclose(f) | short_written ? err_errno(err, "%s", path) : 0;
}

int outcomes_report(struct outcome *all, size_t count, const char *trace, const struct report_job *jobs, size_t jobs_count,
                    const char *path, struct err *err)
{
    const char *titles[MEASURES], *cells[OUTCOMES_MAX * MEASURES];
    bool best[OUTCOMES_MAX * MEASURES];
    struct report_run runs[OUTCOMES_MAX];
    struct buf texts[OUTCOMES_MAX * MEASURES] = { 0 }, names[OUTCOMES_MAX] = { 0 };
    outcomes_best(all, count);
    for (int m = 0; m < MEASURES; m++)
        titles[m] = measures[m].title;
    for (size_t i = 0; i < count; i++) {
        buf_printf(&names[i], "%s, %s", name_of(&all[i].policy), backfill_names[all[i].policy.backfill]);
        buf_char(&names[i], 0);
        runs[i] = (struct report_run){ names[i].data, all[i].start_s };
        for (size_t m = 0, k = i * MEASURES; m < MEASURES; m++, k++) {
            human(&texts[k], (int)m, measures[m].of(&all[i].metrics));
            cells[k] = texts[k].data;
            best[k] = all[i].best[m];
        }
    }
    autobuf struct buf summary = BUF_INIT, page = BUF_INIT;
    buf_printf(&summary, "%zu jobs, replayed by rota sim; each policy with its backfilling", jobs_count);
    buf_char(&summary, 0);
    const struct report report = { trace, summary.data, jobs, jobs_count, runs, count, { titles, MEASURES, cells, best } };
    trace_report(&report, &page);
    for (size_t i = 0; i < count; i++)
        buf_fini(&names[i]);
    for (size_t k = 0; k < count * MEASURES; k++)
        buf_fini(&texts[k]);
    return write_page(path, buf_bytes(&page), err);
}
