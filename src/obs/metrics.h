/* metrics.h: registry made from schema/metrics.def and the Prometheus text of it. One registry per process, used by one
 * thread.
 *
 * What is counted often is counted by its owner in plain numbers and shown by metric_total when somebody asks; a series
 * of a histogram is found once and kept. Label values are copied; they come from closed sets or from the cluster's
 * configuration. A metric has at most 64 values of its first label, and what goes beyond is counted as "other". */
#ifndef ROTA_OBS_METRICS_H
#define ROTA_OBS_METRICS_H

#include <stdint.h>

#include "base/buf.h"

enum metric_id {
#define METRIC(id, role, type, name, help, labels) M_##id,
#include "metrics.def"
#undef METRIC
    METRICS
};

/* What this process shows: a worker has no queue to tell of. All, unless said otherwise. */
enum metrics_role { METRICS_ALL, METRICS_MASTER, METRICS_WORKER };
void metrics_show(enum metrics_role role);

void metric_add(enum metric_id id, double value);       /* counter, no label; value >= 0 */
void metric_set(enum metric_id id, double value);       /* gauge, no label */
void metric_total(enum metric_id id, double total);     /* counter that is counted elsewhere: what it has come to */
void metric_observe(enum metric_id id, double seconds); /* histogram, no label; fixed buckets 0.5 ms .. 1 h */

void metric_add_label(enum metric_id id, const char *label, double value);
void metric_set_label(enum metric_id id, const char *label, double value);
void metric_total_label(enum metric_id id, const char *label, double total);
/* A gauge with labels that is made anew each time: all its series to 0, then added up, so that what is beyond the bound
 * comes together under "other". Those that get nothing stay shown, as 0. */
void metric_clear(enum metric_id id);
void metric_gather(enum metric_id id, const char *first, const char *second, double value); /* second "": one label */
void metric_gather_max(enum metric_id id, const char *label, double value); /* the largest, not the sum */

/* A series of a histogram with a label; valid for the life of the process. */
struct metric_series;
struct metric_series *metric_series(enum metric_id id, const char *label);
void metric_observe_in(struct metric_series *series, double seconds);

void metrics_text(struct buf *out); /* Prometheus text format 0.0.4, with process_* metrics */

#endif
