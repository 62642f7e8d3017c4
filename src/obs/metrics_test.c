#include "obs/metrics.h"

#include <ctype.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* The value of a sample, by its name and labels as they are written; NAN if it is not there. */
static double sample(const char *series)
{
    autobuf struct buf text = BUF_INIT;
    metrics_text(&text);
    size_t size = strlen(series);
    for (const char *at = text.data; at && *at; at = strchr(at, '\n'), at = at ? at + 1 : NULL)
        if (strncmp(at, series, size) == 0 && at[size] == ' ')
            return strtod(at + size, NULL);
    return NAN;
}

static void values(void **state)
{
    (void)state;
    assert_true(sample("rota_jobs_submitted_total") == 0);
    metric_add(M_JOBS_SUBMITTED, 3);
    metric_add(M_JOBS_SUBMITTED, 4);
    assert_true(sample("rota_jobs_submitted_total") == 7);
    metric_add(M_JOBS_SUBMITTED, 9007199254740000.0);
    assert_true(sample("rota_jobs_submitted_total") == 9007199254740007.0);
    metric_set(M_LEADER, 1);
    metric_set(M_CPU_CAPACITY_CORES, 0.1);
    metric_set(M_MEMORY_CAPACITY_BYTES, 1099511627776.0);
    assert_true(sample("rota_leader") == 1);
    assert_true(sample("rota_cpu_capacity_cores") == 0.1);
    assert_true(sample("rota_memory_capacity_bytes") == 1099511627776.0);
    metric_set(M_CPU_CAPACITY_CORES, -2.5);
    assert_true(sample("rota_cpu_capacity_cores") == -2.5);
}

static void labels(void **state)
{
    (void)state;
    assert_true(isnan(sample("rota_jobs{state=\"queued\"}")));
    metric_set_label(M_JOBS, "queued", 5);
    metric_set_label(M_JOBS, "running", 6);
    metric_set_label(M_JOBS, "queued", 7);
    assert_true(sample("rota_jobs{state=\"queued\"}") == 7);
    assert_true(sample("rota_jobs{state=\"running\"}") == 6);
    metric_add_label(M_HTTP_REQUESTS, "2xx", 1);
    metric_add_label(M_HTTP_REQUESTS, "2xx", 1);
    assert_true(sample("rota_http_requests_total{code=\"2xx\"}") == 2);
    metric_set_label(M_NODES, "a\"b\\c\nd", 1);
    assert_true(sample("rota_nodes{state=\"a\\\"b\\\\c\\nd\"}") == 1);
    /* The 65th value does not make the text longer. */
    for (int i = 0; i < 100; i++) {
        char label[80];
        snprintf(label, sizeof label, "kind-%d", i);
        metric_add_label(M_JOBS_REJECTED, label, 1);
    }
    assert_true(sample("rota_jobs_rejected_total{reason=\"kind-62\"}") == 1);
    assert_true(isnan(sample("rota_jobs_rejected_total{reason=\"kind-63\"}")));
    assert_true(sample("rota_jobs_rejected_total{reason=\"other\"}") == 37);
    /* A label longer than what is kept is one series all the same. */
    char longer[200];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    metric_add_label(M_WORKER_EXITS, longer, 1);
    metric_add_label(M_WORKER_EXITS, longer, 1);
    longer[71] = 0;
    char series[300];
    snprintf(series, sizeof series, "rota_worker_exits_total{reason=\"%s\"}", longer);
    assert_true(sample(series) == 2);
}

static void two_labels(void **state)
{
    (void)state;
    metric_gather(M_PENDING_JOBS, "default", "held", 3);
    metric_gather(M_PENDING_JOBS, "default", "order", 4);
    metric_gather(M_PENDING_JOBS, "night", "held", 5);
    assert_true(sample("rota_pending_jobs{queue=\"default\",reason=\"held\"}") == 3);
    assert_true(sample("rota_pending_jobs{queue=\"default\",reason=\"order\"}") == 4);
    assert_true(sample("rota_pending_jobs{queue=\"night\",reason=\"held\"}") == 5);
    /* What is gone is 0, not what it was. */
    metric_clear(M_PENDING_JOBS);
    metric_gather(M_PENDING_JOBS, "night", "held", 1);
    assert_true(sample("rota_pending_jobs{queue=\"default\",reason=\"held\"}") == 0);
    assert_true(sample("rota_pending_jobs{queue=\"night\",reason=\"held\"}") == 1);
    /* The bound is on the first label: a queue beyond it is "other", with its reasons kept apart. */
    for (int i = 0; i < 100; i++) {
        char queue[20];
        snprintf(queue, sizeof queue, "q%d", i);
        metric_gather(M_PENDING_JOBS, queue, "held", 1);
        metric_gather(M_PENDING_JOBS, queue, "order", 2);
    }
    assert_true(sample("rota_pending_jobs{queue=\"q60\",reason=\"order\"}") == 2);
    assert_true(isnan(sample("rota_pending_jobs{queue=\"q61\",reason=\"order\"}")));
    assert_true(sample("rota_pending_jobs{queue=\"other\",reason=\"order\"}") == 2 * 39);
    assert_true(sample("rota_pending_jobs{queue=\"other\",reason=\"held\"}") == 39);
    metric_gather_max(M_OLDEST_WAIT_SECONDS, "a", 5);
    metric_gather_max(M_OLDEST_WAIT_SECONDS, "a", 3);
    assert_true(sample("rota_oldest_wait_seconds{queue=\"a\"}") == 5);
}

static void totals(void **state)
{
    (void)state;
    metric_total(M_STORE_COMMITS, 5);
    metric_total(M_STORE_COMMITS, 5);
    assert_true(sample("rota_store_commits_total") == 5);
    metric_total_label(M_JOBS_FINISHED, "failed", 7);
    metric_total_label(M_JOBS_FINISHED, "failed", 9);
    assert_true(sample("rota_jobs_finished_total{outcome=\"failed\"}") == 9);
}

static void histograms_by_label(void **state)
{
    (void)state;
    struct metric_series *a = metric_series(M_QUEUE_WAIT_SECONDS, "a"), *b = metric_series(M_QUEUE_WAIT_SECONDS, "b");
    assert_ptr_equal(a, metric_series(M_QUEUE_WAIT_SECONDS, "a"));
    metric_observe_in(a, 0.002);
    metric_observe_in(a, 20);
    metric_observe_in(b, 1);
    assert_true(sample("rota_queue_wait_seconds_bucket{queue=\"a\",le=\"0.0025\"}") == 1);
    assert_true(sample("rota_queue_wait_seconds_bucket{queue=\"a\",le=\"+Inf\"}") == 2);
    assert_true(sample("rota_queue_wait_seconds_sum{queue=\"a\"}") == 20.002);
    assert_true(sample("rota_queue_wait_seconds_count{queue=\"a\"}") == 2);
    assert_true(sample("rota_queue_wait_seconds_count{queue=\"b\"}") == 1);
}

static void histograms(void **state)
{
    (void)state;
    metric_observe(M_STORE_COMMIT_SECONDS, 0.0005); /* bounds belong to their bucket */
    metric_observe(M_STORE_COMMIT_SECONDS, 0.0006);
    metric_observe(M_STORE_COMMIT_SECONDS, 2);
    metric_observe(M_STORE_COMMIT_SECONDS, 3600);
    metric_observe(M_STORE_COMMIT_SECONDS, 5000);
    assert_true(sample("rota_store_commit_seconds_bucket{le=\"0.0005\"}") == 1);
    assert_true(sample("rota_store_commit_seconds_bucket{le=\"0.001\"}") == 2);
    assert_true(sample("rota_store_commit_seconds_bucket{le=\"1\"}") == 2);
    assert_true(sample("rota_store_commit_seconds_bucket{le=\"2.5\"}") == 3);
    assert_true(sample("rota_store_commit_seconds_bucket{le=\"3600\"}") == 4);
    assert_true(sample("rota_store_commit_seconds_bucket{le=\"+Inf\"}") == 5);
    assert_true(sample("rota_store_commit_seconds_count") == 5);
    assert_true(fabs(sample("rota_store_commit_seconds_sum") - 8602.0011) < 1e-6);
}

static void process_values(void **state)
{
    (void)state;
    double fds = sample("process_open_fds");
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(sample("process_open_fds") == fds + 1);
    close(fd);
    assert_true(fds >= 3 && fds < 100);
    assert_true(sample("process_max_fds") >= fds);
    assert_true(sample("process_cpu_seconds_total") >= 0 && sample("process_cpu_seconds_total") < 600);
    double rss = sample("process_resident_memory_bytes");
    assert_true(rss > 500e3 && rss < 4e9);
    assert_true(sample("process_virtual_memory_bytes") > rss);
    double start = sample("process_start_time_seconds");
    assert_true(start <= (double)time(NULL) + 1 && start > (double)time(NULL) - 600);
    assert_true(start == sample("process_start_time_seconds"));
}

/* Every line is a comment or a sample of the family named above it; names are unique; counters end in _total. */
static void grammar(void **state)
{
    (void)state;
    autobuf struct buf text = BUF_INIT;
    metrics_text(&text);
    assert_int_equal(text.data[text.size - 1], '\n');
    char family[100] = "", type[20] = "";
    unsigned families = 0;
    for (char *at = text.data, *end; *at; at = end + 1) {
        end = strchr(at, '\n');
        *end = 0;
        if (strncmp(at, "# HELP ", 7) == 0) {
            char next[100];
            int help = 0;
            assert_int_equal(sscanf(at, "# HELP %99[a-z_] %n", next, &help), 1);
            assert_true(help > 0 && strlen(at + help) > 5);
            autobuf struct buf line = BUF_INIT;
            buf_printf(&line, "\n# HELP %s ", next);
            assert_null(strstr(end + 1, line.data + 1)); /* not defined again below */
            snprintf(family, sizeof family, "%s", next);
            families++;
            continue;
        }
        if (strncmp(at, "# TYPE ", 7) == 0) {
            char name[100];
            assert_int_equal(sscanf(at, "# TYPE %99s %19s", name, type), 2);
            assert_string_equal(name, family);
            bool total = strlen(name) > 6 && strcmp(name + strlen(name) - 6, "_total") == 0;
            assert_int_equal(total, strcmp(type, "counter") == 0);
            continue;
        }
        assert_int_equal(strncmp(at, family, strlen(family)), 0);
        const char *rest = at + strlen(family);
        assert_true(*rest == ' ' || *rest == '{' || (*rest == '_' && strcmp(type, "histogram") == 0));
        char *stop;
        const char *number = strrchr(at, ' ') + 1;
        strtod(number, &stop);
        assert_true(stop > number && *stop == 0);
    }
    assert_true(families > 50);
}

static void shown_by_role(void **state)
{
    (void)state;
    metrics_show(METRICS_WORKER);
    assert_true(isnan(sample("rota_jobs_submitted_total")));
    assert_false(isnan(sample("rota_bus_up")));
    assert_false(isnan(sample("rota_worker_spool_bytes")));
    assert_false(isnan(sample("process_open_fds")));
    metrics_show(METRICS_MASTER);
    assert_false(isnan(sample("rota_jobs_submitted_total")));
    assert_false(isnan(sample("rota_bus_up")));
    assert_true(isnan(sample("rota_worker_spool_bytes")));
    metrics_show(METRICS_ALL);
    assert_false(isnan(sample("rota_worker_spool_bytes")));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),  cmocka_unit_test(labels),         cmocka_unit_test(histograms),
        cmocka_unit_test(grammar), cmocka_unit_test(process_values), cmocka_unit_test(shown_by_role),
        cmocka_unit_test(two_labels), cmocka_unit_test(totals), cmocka_unit_test(histograms_by_label),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (argc > 1 && strcmp(argv[1], "--print") == 0) { /* for promtool check metrics */
        autobuf struct buf text = BUF_INIT;
        metrics_text(&text);
        fputs(text.data, stderr);
    }
    return failed;
}
