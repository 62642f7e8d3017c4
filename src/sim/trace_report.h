/* trace_report.h: replays of one workload as one HTML page that needs nothing else: no script, no font, no picture from elsewhere.
 *
 * Shows the outcomes as a table, the queue and the use of the machine over time, and how long jobs waited (shares of all jobs, in
 * classes that grow by about three). Light or dark as the reader's system is. Pure: it writes into a buffer. */
#ifndef ROTA_SIM_TRACE_REPORT_H
#define ROTA_SIM_TRACE_REPORT_H

#include <stddef.h>

#include "base/buf.h"

struct report_job {
    double submit_s, run_s; /* since any origin */
    double share;           /* of the machine, while it runs: 0 .. 1 */
};

struct report_run {
    const char *name;       /* of the policy */
    const double *start_s;  /* of each job, in the order of the jobs; not before its submission */
};

/* What stands in the table: text that has been made already, a row for each run. */
struct report_table {
    const char *const *columns; size_t columns_count; /* behind the name of the run */
    const char *const *cells;                         /* runs * columns, row by row */
    const bool *best;                                 /* likewise: shown as such */
};

struct report {
    const char *title, *summary; /* plain text */
    const struct report_job *jobs; size_t jobs_count;
    const struct report_run *runs; size_t runs_count;
    struct report_table table;
};
void trace_report(const struct report *r, struct buf *out);

/* In which class of waits a wait falls (0: none at all), how many classes there are, and what they are called ("30 s - 1 min"). */
#define WAIT_CLASSES 19
size_t wait_class(double wait_s);
const char *wait_class_name(size_t class);

#endif
