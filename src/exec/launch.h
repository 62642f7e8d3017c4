/* launch.h: makes the process of a job: one vfork, no allocation, and an exact reason when it cannot. */
#ifndef ROTA_EXEC_LAUNCH_H
#define ROTA_EXEC_LAUNCH_H

#include <sys/resource.h>
#include <sys/types.h>

#include "core/model/states.h"
#include "exec/exit_record.h"

struct launch_plan {
    char **argv;            /* NULL-terminated; argv[-1] belongs to it too, and may be written to */
    char *const *env;       /* NULL-terminated; complete */
    const char *workdir;    /* NULL: the caller's */
    const char *stdin_path; /* NULL: the caller's stdin */
    /* Opened for appending. With own_streams' bit set: one of our log files below logs_dir, else a path of the job's.
     */
    const char *output_paths[2];
    uint32_t own_streams;
    int logs_dir;
    int cgroups[2];            /* cgroup.procs to join; -1: none */
    const char *oom_score_adj; /* as text; NULL: the caller's */
    struct rlimit files_max;   /* RLIMIT_NOFILE of the job */
};

struct launch_failure {
    enum reason reason; /* REASON_SPAWN: the job's fault; REASON_INFRA: ours */
    char text[EXIT_RECORD_TEXT_BYTES];
};

/* Starts argv[0], looked up in the job's own PATH, in a session of its own, with all signals as they are by default.
 * Returns its pid, or -1 with *failure: then no process is left. Blocks only until the program is loaded.
 * The caller has one thread that spawns, and closes-on-exec everything it opens. */
pid_t launch_process(const struct launch_plan *plan, struct launch_failure *failure);

/* Why an attempt failed to start, with what cannot be shown replaced: `subject "name": errno text`. */
void launch_failure_set(struct launch_failure *f, enum reason reason, const char *subject, const char *name, int error);

#endif
