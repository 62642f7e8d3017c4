#include "obs/metrics.h"

#include <dirent.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "io/clock.h"

enum kind { COUNTER, GAUGE, HISTOGRAM };

static const struct metric {
    enum kind kind;
    const char *name;
    const char *help;
    const char *label; /* NULL: one value without a label */
} metrics[METRICS] = {
#define METRIC(id, type, name, help, label) [M_##id] = { type, name, help, label },
#include "metrics.def"
#undef METRIC
};

#define LABELS_MAX 64

struct series {
    char label[64];
    double value;
};

/* Upper bounds in seconds; a last bucket without bound follows. */
static const double bounds[] = { 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,
                                 2.5,    5,     10,     30,    60,   120,   300,  600, 1800, 3600 };
#define BOUNDS (sizeof bounds / sizeof bounds[0])

static struct value {
    double value;          /* without label */
    struct series *series; /* with label */
    size_t series_count, series_cap;
    uint64_t buckets[BOUNDS + 1]; /* of a histogram, not cumulated */
    double sum;
} values[METRICS];

static size_t shown_from = 0, shown_to = METRICS;

void metrics_show(enum metrics_role role)
{
    shown_from = role == METRICS_WORKER ? M_BUILD_INFO : 0;
    shown_to = role == METRICS_MASTER ? M_WORKER_ATTEMPTS : METRICS;
}

static struct value *value_of(enum metric_id id, enum kind kind, bool with_label)
{
    check(id < METRICS && metrics[id].kind == kind && !metrics[id].label == !with_label);
    return &values[id];
}

/* A 65th label value is counted under "other": a caller's mistake must not make the text grow without end. */
static struct series *series_of(struct value *v, const char *label)
{
    for (size_t i = 0; i < v->series_count; i++)
        if (strncmp(v->series[i].label, label, sizeof v->series[i].label - 1) == 0)
            return &v->series[i];
    if (v->series_count == LABELS_MAX)
        return &v->series[LABELS_MAX - 1];
    v->series = mem_grow(v->series, &v->series_cap, v->series_count + 1, sizeof *v->series);
    struct series *s = &v->series[v->series_count++];
    *s = (struct series){ .value = 0 };
    snprintf(s->label, sizeof s->label, "%s", v->series_count == LABELS_MAX ? "other" : label);
    return s;
}

void metric_add(enum metric_id id, double value)
{
    check(value >= 0);
    value_of(id, COUNTER, false)->value += value;
}

void metric_set(enum metric_id id, double value)
{
    value_of(id, GAUGE, false)->value = value;
}

void metric_add_label(enum metric_id id, const char *label, double value)
{
    check(value >= 0);
    series_of(value_of(id, COUNTER, true), label)->value += value;
}

void metric_set_label(enum metric_id id, const char *label, double value)
{
    series_of(value_of(id, GAUGE, true), label)->value = value;
}

void metric_observe(enum metric_id id, double seconds)
{
    struct value *v = value_of(id, HISTOGRAM, false);
    size_t i = 0;
    while (i < BOUNDS && !(seconds <= bounds[i]))
        i++;
    v->buckets[i]++;
    v->sum += seconds;
}

static void add_number(struct buf *out, double value)
{
    if (isnan(value))
        buf_str(out, "NaN");
    else if (isinf(value))
        buf_str(out, value > 0 ? "+Inf" : "-Inf");
    else if (value == floor(value) && fabs(value) < 1e15)
        buf_i64(out, (int64_t)value);
    else
        buf_printf(out, "%.17g", value);
    buf_char(out, '\n');
}

static void add_head(struct buf *out, const char *name, const char *help, enum kind kind)
{
    static const char *const kinds[] = { "counter", "gauge", "histogram" };
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kinds[kind]);
}

static void add_label_value(struct buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\\' || *text == '"')
            buf_char(out, '\\');
        if (*text == '\n')
            buf_str(out, "\\n");
        else
            buf_char(out, *text);
    }
}

static void add_histogram(struct buf *out, const char *name, const struct value *v)
{
    uint64_t below = 0;
    for (size_t i = 0; i < BOUNDS; i++) {
        below += v->buckets[i];
        buf_printf(out, "%s_bucket{le=\"%g\"} %llu\n", name, bounds[i], (unsigned long long)below);
    }
    below += v->buckets[BOUNDS];
    buf_printf(out, "%s_bucket{le=\"+Inf\"} %llu\n", name, (unsigned long long)below);
    buf_printf(out, "%s_sum ", name);
    add_number(out, v->sum);
    buf_printf(out, "%s_count %llu\n", name, (unsigned long long)below);
}

static void add_metric(struct buf *out, const struct metric *m, const struct value *v)
{
    add_head(out, m->name, m->help, m->kind);
    if (m->kind == HISTOGRAM) {
        add_histogram(out, m->name, v);
        return;
    }
    if (!m->label) {
        buf_printf(out, "%s ", m->name);
        add_number(out, v->value);
    }
    for (size_t i = 0; i < v->series_count; i++) {
        buf_printf(out, "%s{%s=\"", m->name, m->label);
        add_label_value(out, v->series[i].label);
        buf_str(out, "\"} ");
        add_number(out, v->series[i].value);
    }
}

static void add_process(struct buf *out, const char *name, const char *help, enum kind kind, double value)
{
    add_head(out, name, help, kind);
    buf_printf(out, "%s ", name);
    add_number(out, value);
}

static double open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    if (!dir)
        return NAN;
    int count = -3; /* ".", ".." and the directory itself */
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static double max_fds(void)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? (double)limit.rlim_cur : NAN;
}

static double cpu_seconds(void)
{
    struct rusage use;
    check(getrusage(RUSAGE_SELF, &use) == 0);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

/* Field `index` (counted from 1, man 5 proc) of /proc/self/stat; fields up to 2 cannot be asked for. */
static double stat_field(int index)
{
    FILE *f = fopen("/proc/self/stat", "re");
    if (!f)
        return NAN;
    char text[1024];
    size_t size = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[size] = 0;
    char *at = strrchr(text, ')'); /* the name before it may hold blanks and brackets */
    for (int i = 2; at && i < index; i++)
        at = strchr(at + 1, ' ');
    return at ? strtod(at, NULL) : NAN;
}

static double start_time(void)
{
    static double start;
    if (start == 0) {
        double since_boot = stat_field(22) / (double)sysconf(_SC_CLK_TCK);
        start = (double)(clock_wall_ms() - clock_now_ms()) / 1000 + since_boot;
    }
    return start;
}

void metrics_text(struct buf *out)
{
    for (size_t i = shown_from; i < shown_to; i++)
        add_metric(out, &metrics[i], &values[i]);
    add_process(out, "process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", COUNTER,
                cpu_seconds());
    add_process(out, "process_resident_memory_bytes", "Resident memory size in bytes.", GAUGE,
                stat_field(24) * (double)sysconf(_SC_PAGESIZE));
    add_process(out, "process_virtual_memory_bytes", "Virtual memory size in bytes.", GAUGE, stat_field(23));
    add_process(out, "process_open_fds", "Number of open file descriptors.", GAUGE, open_fds());
    add_process(out, "process_max_fds", "Maximum number of open file descriptors.", GAUGE, max_fds());
    add_process(out, "process_start_time_seconds", "Start time of the process since unix epoch in seconds.", GAUGE,
                start_time());
}
