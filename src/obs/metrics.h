/* metrics.h: registry made from schema/metrics.def and the Prometheus text of it. One registry per process, used by one
 * thread. METRIC(id, type, "rota_name", "help", "label" or NULL). Label values come from closed sets
 * only, never from users. */
#ifndef ROTA_OBS_METRICS_H
#define ROTA_OBS_METRICS_H

#include <stdint.h>

#include "base/buf.h"

enum metric_id {
#define METRIC(id, type, name, help, label) M_##id,
#include "metrics.def"
#undef METRIC
    METRICS
};

/* What this process shows: a worker has no queue to tell of. All, unless said otherwise. */
enum metrics_role { METRICS_ALL, METRICS_MASTER, METRICS_WORKER };
void metrics_show(enum metrics_role role);

void metric_add(enum metric_id id, double value); /* counter, no label */
void metric_set(enum metric_id id, double value); /* gauge, no label */
/* The label's value is copied; a metric has at most 64, and what goes beyond is counted as "other". */
void metric_add_label(enum metric_id id, const char *label, double value);
void metric_set_label(enum metric_id id, const char *label, double value);
void metric_observe(enum metric_id id, double seconds); /* histogram of seconds, fixed buckets 0.5 ms .. 1 h */
void metrics_text(struct buf *out);                     /* Prometheus text format 0.0.4, with process_* metrics */

#endif
