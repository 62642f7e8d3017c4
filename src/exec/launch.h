/* launch.h: makes the process of a job: one vfork, no allocation, and an exact reason when it cannot.
 *
 * The process is made inside its group (clone3, CLONE_INTO_CGROUP): moving one that exists waits 10 to 30 ms for a grace
 * period of the kernel, and every start behind it waits too. */
#ifndef ROTA_EXEC_LAUNCH_H
#define ROTA_EXEC_LAUNCH_H

#include <sched.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "core/model/states.h"
#include "exec/exit_record.h"

#define LAUNCH_TREES 3
#define LAUNCH_GROUPS_MAX 64

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
    int cgroup;                /* directory of the v2 group to start in; -1: none */
    int cgroup_tasks[LAUNCH_TREES]; /* `tasks` of the v1 groups to join; -1: none */
    const char *oom_score_adj; /* as text; NULL: the caller's */
    struct rlimit files_max;   /* RLIMIT_NOFILE of the job */
    uint64_t file_bytes_max;   /* RLIMIT_FSIZE; 0: as the caller's */
    const cpu_set_t *cpus;     /* it may run on; NULL: as the caller */
    /* Who it is. What is ours (groups, log files) is opened before it becomes that, what the job names after. */
    bool run_as;
    uid_t uid;
    gid_t gid;
    gid_t groups[LAUNCH_GROUPS_MAX];
    size_t groups_count;
    bool ends_with_us;         /* its first process is killed when the caller dies */
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
