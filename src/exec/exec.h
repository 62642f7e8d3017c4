/* exec.h: port for running attempts on this machine.
 *
 * An executor outlives the worker process: what it started goes on when the worker dies and is found again by open, with
 * its output and its end. start() is called at most once per attempt in the life of the state directory; as a second wall
 * an executor refuses an attempt it already knows. Output goes straight to files below <state>/logs.
 * All callbacks come on the loop's thread, never inside a call except open (recovered) and close. */
#ifndef ROTA_EXEC_H
#define ROTA_EXEC_H

#include "base/err.h"
#include "core/model/effects.h"

struct loop;

/* The decoded part of a job spec that an executor needs. Strings end in zero; borrowed during start(). */
struct exec_job {
    struct attempt_ref ref;
    uint32_t index;                    /* array index the user sees; TASK_SINGLE: none */
    char *const *argv;                 /* NULL-terminated, argv[0] looked up in the job's PATH; {} is already replaced */
    char *const *env;                  /* NULL-terminated NAME=VALUE: complete, nothing is inherited */
    const char *workdir;               /* NULL: a scratch directory of the worker's */
    const char *stdin_path;            /* NULL: /dev/null */
    const char *stdout_path, *stderr_path; /* NULL: the attempt's own log files; else appended to there */
    const char *image;                 /* NULL: a process */
    struct resources need;
    uint64_t output_bytes_max;         /* cap per stream; beyond it output is thrown away and a mark says how much */
    int64_t simulated_ms;              /* exec_fake only: how long it runs */
    int32_t simulated_exit;
};

struct exec_events {
    void *arg;
    void (*on_started)(void *arg, struct attempt_ref ref);
    /* Its end; durable in the executor before this call. Also for attempts that could not be started:
     * reason REASON_SPAWN (command not found, not executable) or REASON_INFRA (fork failed, no fds), started false. */
    void (*on_ended)(void *arg, struct attempt_ref ref, const struct attempt_result *result, bool started, const char *text);
    /* May be NULL. All its processes are gone and its output is where it stays: its resources are free. Its end follows
     * by on_ended when it is durable; not called for what was never started, nor for what had ended before open. */
    void (*on_vacated)(void *arg, struct attempt_ref ref);
    /* During open: phase RUNNING (it will be reported by on_ended) or ENDED. ran_ms: how long it has run. */
    void (*on_recovered)(void *arg, struct attempt_ref ref, enum attempt_phase phase, int64_t ran_ms, const struct attempt_result *result);
};

enum exec_stream { EXEC_STDOUT, EXEC_STDERR };
struct exec_usage { uint64_t cpu_ms, rss_bytes; uint32_t processes; };

struct exec;
struct exec_ops {
    const char *name;
    /* Never blocks for the job. An error means nothing was started and no callback follows. */
    int (*start)(struct exec *x, const struct exec_job *job, struct err *err);
    void (*signal)(struct exec *x, struct attempt_ref ref, bool kill);     /* TERM or KILL to all of it; unknown: no-op */
    void (*remove)(struct exec *x, struct attempt_ref ref);                /* forget its end; idempotent */
    /* Path of the attempt's log file, also while it runs. False: it has none (yet, or any more). To be opened at once and
     * anew for each read: when the attempt ends the file gets another name. */
    bool (*log_path)(struct exec *x, struct attempt_ref ref, enum exec_stream stream, char *path, size_t size);
    bool (*usage)(struct exec *x, struct attempt_ref ref, struct exec_usage *out);
    const char *(*enforces)(struct exec *x);                               /* for people: what this node can hold jobs to */
    void (*close)(struct exec *x);                                         /* jobs go on */
};
struct exec { const struct exec_ops *ops; };

struct exec_config {
    const char *state_dir;
    uint64_t log_bytes_max;            /* default cap per stream */
    bool shutdown_nursery;             /* close() also ends the nursery and all jobs: tests, `rota up` without --keep */
};
struct exec *exec_proc_open(struct loop *loop, const struct exec_config *config, const struct exec_events *events, struct err *err);
struct exec *exec_fake_open(struct loop *loop, const struct exec_config *config, const struct exec_events *events, struct err *err);

#endif
