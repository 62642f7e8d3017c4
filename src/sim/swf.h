/* swf.h: workload logs in the Standard Workload Format (Feitelson and others, Parallel Workloads Archive), plain or gzip.
 *
 * One job per line, 18 numbers, -1 = unknown; lines that begin with ';' are a header of "Key: value" and comments. What is
 * no such line is refused with file, line and field. */
#ifndef ROTA_SIM_SWF_H
#define ROTA_SIM_SWF_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define SWF_BYTES_MAX (1u << 30)           /* of the text */
#define SWF_NUMBER_MAX 1000000000000LL     /* 1e12: seconds, processors, ids */

/* The fields that matter here, as they stand in the file. */
struct swf_row {
    int64_t id, submit_s, run_s, procs_used, procs_asked, asked_s, user;
};

struct swf {
    struct swf_row *rows; size_t count, cap; /* in the order of the file */
    int64_t procs;                           /* MaxProcs of the header, else MaxNodes; 0: neither */
};

/* `name` is for messages. On failure *out is empty. */
int swf_parse(struct swf *out, const char *name, struct bytes text, struct err *err);
int swf_read(struct swf *out, const char *path, struct err *err); /* .gz or not: told by its first bytes */
void swf_fini(struct swf *w);

/* One job to replay. */
struct swf_job {
    int64_t id, submit_s, run_s, estimate_s, user;
    int64_t procs;
    int64_t start_s; /* the replay's answer; -1: none yet */
};

enum swf_filter { SWF_STANDARD, SWF_SC15 };

struct swf_choice {
    int64_t procs;            /* of the machine; 0: as the header says */
    enum swf_filter filter;   /* SC15: as the experiments of Gaussier and others (SC'15): no job without an estimate, run cut to it */
    bool kill;                /* run cut to the estimate; else it runs on and the estimate stays what it was */
    size_t first, count;      /* window, after cleaning; count 0: to the end */
    bool rebase;              /* the first job of the window is submitted at 0 */
};

struct swf_counts {
    uint64_t read, kept, no_run, no_procs, too_wide, no_submit, no_estimate_dropped, no_estimate, overrun;
};

/* The jobs in order of (submission, place in the file). ERR_INVALID: no machine size, or no job is left. *jobs is yours to free. */
int swf_choose(const struct swf *w, const struct swf_choice *choice, struct swf_job **jobs, size_t *jobs_count, int64_t *procs,
               struct swf_counts *counts, struct err *err);

#endif
