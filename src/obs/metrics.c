#include "obs/metrics.h"

#include <dirent.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "io/clock.h"

enum kind { COUNTER, GAUGE, HISTOGRAM };
enum role { BOTH = METRICS_ALL, MASTER = METRICS_MASTER, WORKER = METRICS_WORKER };

static const struct metric {
    enum role role;
    enum kind kind;
    const char *name;
    const char *help;
    const char *labels; /* NULL: one series without a label */
} metrics[METRICS] = {
#define METRIC(id, role, type, name, help, labels) [M_##id] = { role, type, name, help, labels },
#include "metrics.def"
#undef METRIC
};

#define LABEL_VALUES_MAX 64u /* different values of a metric's first label */
#define LABEL_BYTES 72u
#define OTHER "other"

/* Upper bounds in seconds; a last bucket without bound follows. */
static const double bounds[] = { 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,
                                 2.5,    5,     10,     30,    60,   120,   300,  600, 1800, 3600 };
#define BOUNDS (sizeof bounds / sizeof bounds[0])

struct metric_series {
    char labels[2][LABEL_BYTES];
    double value;                 /* of a histogram: the sum */
    uint64_t buckets[BOUNDS + 1]; /* of a histogram, not cumulated */
};

static struct value {
    struct metric_series plain;    /* without labels */
    struct metric_series **series; /* with labels */
    size_t series_count, series_cap;
    unsigned firsts_count; /* values of the first label, "other" left out */
} values[METRICS];

static enum metrics_role shown = METRICS_ALL;

void metrics_show(enum metrics_role role)
{
    shown = role;
}

static bool has_two(const struct metric *m)
{
    return m->labels && strchr(m->labels, ',');
}

static struct metric_series *plain(enum metric_id id, enum kind kind)
{
    check(id < METRICS && metrics[id].kind == kind && !metrics[id].labels);
    return &values[id].plain;
}

static bool same_label(const char *kept, const char *label)
{
    return strncmp(kept, label, LABEL_BYTES - 1) == 0;
}

static struct metric_series *find(const struct value *v, const char *first, const char *second)
{
    for (size_t i = 0; i < v->series_count; i++)
        if (same_label(v->series[i]->labels[0], first) && same_label(v->series[i]->labels[1], second))
            return v->series[i];
    return NULL;
}

static bool knows_first(const struct value *v, const char *first)
{
    for (size_t i = 0; i < v->series_count; i++)
        if (same_label(v->series[i]->labels[0], first))
            return true;
    return false;
}

/* A caller's mistake, or a cluster with hundreds of queues, must not make the text grow without end. */
static struct metric_series *labelled(enum metric_id id, enum kind kind, const char *first, const char *second)
{
    check(id < METRICS && metrics[id].kind == kind && metrics[id].labels && has_two(&metrics[id]) == (*second != 0));
    struct value *v = &values[id];
    struct metric_series *s = find(v, first, second);
    if (s)
        return s;
    if (!knows_first(v, first)) {
        bool other = strcmp(first, OTHER) == 0;
        if (!other && v->firsts_count == LABEL_VALUES_MAX - 1)
            return labelled(id, kind, OTHER, second);
        v->firsts_count += !other;
    }
    v->series = mem_grow(v->series, &v->series_cap, v->series_count + 1, sizeof *v->series);
    s = v->series[v->series_count++] = mem_zero(1, sizeof *s);
    snprintf(s->labels[0], LABEL_BYTES, "%s", first);
    snprintf(s->labels[1], LABEL_BYTES, "%s", second);
    return s;
}

void metric_add(enum metric_id id, double value)
{
    check(value >= 0);
    plain(id, COUNTER)->value += value;
}

void metric_set(enum metric_id id, double value)
{
    plain(id, GAUGE)->value = value;
}

void metric_total(enum metric_id id, double total)
{
    plain(id, COUNTER)->value = total;
}

void metric_observe(enum metric_id id, double seconds)
{
    metric_observe_in(plain(id, HISTOGRAM), seconds);
}

void metric_add_label(enum metric_id id, const char *label, double value)
{
    check(value >= 0);
    labelled(id, COUNTER, label, "")->value += value;
}

void metric_set_label(enum metric_id id, const char *label, double value)
{
    labelled(id, GAUGE, label, "")->value = value;
}

void metric_total_label(enum metric_id id, const char *label, double total)
{
    labelled(id, COUNTER, label, "")->value = total;
}

void metric_gather(enum metric_id id, const char *first, const char *second, double value)
{
    labelled(id, GAUGE, first, second)->value += value;
}

void metric_gather_max(enum metric_id id, const char *label, double value)
{
    struct metric_series *s = labelled(id, GAUGE, label, "");
    s->value = value > s->value ? value : s->value;
}

void metric_clear(enum metric_id id)
{
    check(id < METRICS && metrics[id].kind == GAUGE && metrics[id].labels);
    for (size_t i = 0; i < values[id].series_count; i++)
        values[id].series[i]->value = 0;
}

struct metric_series *metric_series(enum metric_id id, const char *label)
{
    return labelled(id, HISTOGRAM, label, "");
}

void metric_observe_in(struct metric_series *s, double seconds)
{
    size_t i = 0;
    while (i < BOUNDS && !(seconds <= bounds[i]))
        i++;
    s->buckets[i]++;
    s->value += seconds;
}

static void add_number(struct buf *out, double value)
{
    if (isnan(value))
        buf_str(out, "NaN");
    else if (isinf(value))
        buf_str(out, value > 0 ? "+Inf" : "-Inf");
    else if (value == floor(value) && fabs(value) < 1e15)
        buf_i64(out, (int64_t)value);
    else {
        char text[32];
        snprintf(text, sizeof text, "%.15g", value); /* 0.1 rather than 0.10000000000000001 where that is the same */
        buf_printf(out, strtod(text, NULL) == value ? "%.15g" : "%.17g", value);
    }
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

/* `queue="a",state="b"`: what stands between the braces, without them. */
static void add_labels(struct buf *out, const struct metric *m, const struct metric_series *s)
{
    const char *name = m->labels;
    for (int i = 0; name && i < 2; i++) {
        size_t size = strcspn(name, ",");
        buf_printf(out, "%s%.*s=\"", i ? "," : "", (int)size, name);
        add_label_value(out, s->labels[i]);
        buf_char(out, '"');
        name = name[size] ? name + size + 1 : NULL;
    }
}

static void add_histogram(struct buf *out, const struct metric *m, const struct metric_series *s)
{
    autobuf struct buf labels = BUF_INIT;
    uint64_t below = 0;
    add_labels(&labels, m, s);
    const char *text = labels.size ? labels.data : "", *comma = labels.size ? "," : "";
    for (size_t i = 0; i < BOUNDS; i++) {
        below += s->buckets[i];
        buf_printf(out, "%s_bucket{%s%sle=\"%g\"} %llu\n", m->name, text, comma, bounds[i], (unsigned long long)below);
    }
    below += s->buckets[BOUNDS];
    buf_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", m->name, text, comma, (unsigned long long)below);
    const char *open = labels.size ? "{" : "", *close = labels.size ? "}" : "";
    buf_printf(out, "%s_sum%s%s%s ", m->name, open, text, close);
    add_number(out, s->value);
    buf_printf(out, "%s_count%s%s%s %llu\n", m->name, open, text, close, (unsigned long long)below);
}

static void add_series(struct buf *out, const struct metric *m, const struct metric_series *s)
{
    if (m->kind == HISTOGRAM) {
        add_histogram(out, m, s);
        return;
    }
    buf_str(out, m->name);
    if (m->labels) {
        buf_char(out, '{');
        add_labels(out, m, s);
        buf_char(out, '}');
    }
    buf_char(out, ' ');
    add_number(out, s->value);
}

static void add_metric(struct buf *out, const struct metric *m, const struct value *v)
{
    add_head(out, m->name, m->help, m->kind);
    if (!m->labels)
        add_series(out, m, &v->plain);
    for (size_t i = 0; i < v->series_count; i++)
        add_series(out, m, v->series[i]);
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
    for (size_t i = 0; i < METRICS; i++)
        if (shown == METRICS_ALL || metrics[i].role == BOTH || metrics[i].role == (enum role)shown)
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
