/* Workload logs: whatever is in them is read or refused with its line; what is read stays within its bounds. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/check.h"
#include "sim/swf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct swf w;
    struct err err = { 0 };
    if (swf_parse(&w, "f", bytes_of(data, size), &err) < 0) {
        check(err.code == ERR_INVALID && err.field[0] && err.remedy[0] && !w.rows);
        return 0;
    }
    struct swf_choice choice = { .procs = w.procs ? 0 : 64, .rebase = size % 2 };
    struct swf_job *jobs;
    struct swf_counts n;
    size_t count;
    int64_t procs;
    if (swf_choose(&w, &choice, &jobs, &count, &procs, &n, &err) == 0) {
        check(count == n.kept && n.read == w.count);
        for (size_t i = 0; i < count; i++) {
            check(jobs[i].run_s > 0 && jobs[i].estimate_s > 0 && jobs[i].procs > 0 && jobs[i].procs <= procs);
            check(jobs[i].submit_s >= 0 && (i == 0 || jobs[i - 1].submit_s <= jobs[i].submit_s));
        }
        free(jobs);
    }
    swf_fini(&w);
    return 0;
}
