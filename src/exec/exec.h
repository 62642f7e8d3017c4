/* exec.h: port for running attempts on this machine.
 *
 * An executor outlives the worker process: what it started goes on when the worker dies and is found again by open, with
 * its output and its end. start() is called at most once per attempt in the life of the state directory; as a second wall
 * an executor refuses an attempt it already knows. Output goes straight to files below <state>/logs.
 * All callbacks come on the loop's thread, never inside a call except open (recovered) and close.
 *
 * The line. Between two short jobs nobody should have to be asked: an attempt started with in_line waits inside the executor
 * until one of equal need is vacated, and takes over its place at once; those that came first go first. on_vacated names who
 * got the place, and comes before anything else is said of that one. A place that nobody in line could take is the
 * caller's again: it may `line` somebody forward, which starts it unless it was started meanwhile. A line does not
 * outlive the worker: what still stood in it then was never started, and is not recovered.
 *
 * The lease. Attempts with overlap_never run only until the moment that was last given to lease(): then they are killed with
 * all they started (REASON_LEASE_LOST) by what outlives the worker, whether the worker is well, stopped or dead. The moment may
 * be moved as long as it has not come. Those in line then, and those that come without a lease, are not started
 * (REASON_NEVER_STARTED), also when it is renewed after. The end of such an attempt is told when nothing of it is left. */
#ifndef ROTA_EXEC_H
#define ROTA_EXEC_H

#include "base/err.h"
#include "core/model/effects.h"

struct loop;

enum exec_pull { EXEC_PULL_MISSING, EXEC_PULL_ALWAYS, EXEC_PULL_NEVER };

/* Somebody of this machine. */
#define EXEC_GROUPS_MAX 64
struct exec_account {
    uint32_t uid, gid;
    uint32_t groups[EXEC_GROUPS_MAX]; /* supplementary ones */
    uint32_t groups_count;
};

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
    enum exec_pull pull;               /* of the image */
    struct resources need;
    const struct exec_account *account; /* whom a process runs as; NULL: as the worker */
    const char *gpus, *cpus;           /* the worker's choice, as "0,2": GPUs that it has, CPUs that it may run on; NULL: none, any */
    bool in_line;                      /* see below; only where `line` is there */
    bool overlap_never;                /* runs under the lease, see below; refused where `lease` is not there */
    uint64_t output_bytes_max;         /* cap per stream; beyond it output is thrown away and a mark says how much */
    int64_t simulated_ms;              /* exec_fake only: how long it runs */
    int32_t simulated_exit;
};

struct exec_events {
    void *arg;
    void (*on_started)(void *arg, struct attempt_ref ref);
    /* Its end; durable in the executor before this call. Also for attempts that could not be started:
     * reason REASON_SPAWN (command not found, not executable), REASON_IMAGE, REASON_INFRA (fork failed, no fds) or
     * REASON_NEVER_STARTED (it can not be tried here now, and nothing is wrong with the rest of the node), started false.
     * A container may have been told as started before it shows that its command does not exist: SPAWN, started true. */
    void (*on_ended)(void *arg, struct attempt_ref ref, const struct attempt_result *result, bool started, const char *text);
    /* May be NULL. All its processes are gone and its output is where it stays: its resources are free, or those of
     * passed_to (job 0: of nobody), which was in line. Its end follows by on_ended when it is durable; not called for
     * what was never started, nor for what had ended before open. */
    void (*on_vacated)(void *arg, struct attempt_ref ref, struct attempt_ref passed_to);
    /* During open: phase RUNNING (it will be reported by on_ended) or ENDED. ran_ms: how long it has run. */
    void (*on_recovered)(void *arg, struct attempt_ref ref, enum attempt_phase phase, int64_t ran_ms, const struct attempt_result *result);
    /* May be NULL. Whether jobs with an image can be started here has changed; before the first call they can not. */
    void (*on_containers)(void *arg, bool able);
    /* May be NULL. Why an attempt has not begun yet, for people; empty: nothing keeps it any more. Not often. */
    void (*on_note)(void *arg, struct attempt_ref ref, const char *text);
};

enum exec_stream { EXEC_STDOUT, EXEC_STDERR };
/* Of all live processes of an attempt. A counter can go back when a process ends that nobody of the job waits for. */
struct exec_usage { uint64_t cpu_ms, rss_bytes, read_bytes, written_bytes; uint32_t processes; };

#define EXEC_LINE_MAX 64u              /* attempts in line at once, by the caller's count */
#define EXEC_LINE_SPEC_BYTES 2048u     /* no attempt whose encoded spec is longer may be in line */
enum exec_line { LINE_CALL, LINE_WITHDRAW };

struct exec;
struct exec_ops {
    const char *name;
    /* Never blocks for the job. An error means nothing was started and no callback follows. */
    int (*start)(struct exec *x, const struct exec_job *job, struct err *err);
    void (*signal)(struct exec *x, struct attempt_ref ref, bool kill);     /* TERM or KILL to all of it; in line: withdraw; unknown: no-op */
    /* CALL: start it now. WITHDRAW: it ends unstarted with REASON_NEVER_STARTED. Not in line (any more): nothing happens.
     * NULL: this executor keeps no line. */
    void (*line)(struct exec *x, struct attempt_ref ref, enum exec_line what);
    /* until_ms: CLOCK_BOOTTIME; never moves it back. NULL: this executor cannot fence. */
    void (*lease)(struct exec *x, int64_t until_ms);
    void (*remove)(struct exec *x, struct attempt_ref ref);                /* forget its end; idempotent */
    /* Path of the attempt's log file, also while it runs. False: it has none (yet, or any more). To be opened at once and
     * anew for each read: when the attempt ends the file gets another name. */
    bool (*log_path)(struct exec *x, struct attempt_ref ref, enum exec_stream stream, char *path, size_t size);
    bool (*usage)(struct exec *x, struct attempt_ref ref, struct exec_usage *out);
    const char *(*enforces)(struct exec *x);                               /* for people: what this node can hold jobs to */
    void (*close)(struct exec *x);                                         /* jobs go on */
};
struct exec { const struct exec_ops *ops; };

/* A directory of this machine that containers see, at the same path. */
struct exec_mount {
    const char *path; /* absolute; no part of it may be a symbolic link */
    bool read_only;
};
#define EXEC_MOUNTS_MAX 16

struct exec_container_config {
    const char *engine;    /* "unix:///path"; NULL: $DOCKER_HOST, else the usual socket */
    const char *user;      /* "uid:gid" in containers; NULL: ours, or nobody's when we are root. Not root */
    const char *network;   /* NULL: "none" */
    uint64_t pids_max;     /* 0: 512 */
    uint64_t tmp_bytes;    /* size of /tmp, which counts as memory; 0: 256 MiB */
    const struct exec_mount *mounts;
    size_t mounts_count;
    bool no_shim;          /* as if every image refused it: tests */
};

enum exec_cpu_limit {
    EXEC_CPUS_HOLD,  /* a process never uses more than it asked for, but for one CPU, and that by its share */
    EXEC_CPUS_SHARE, /* its share when CPUs are short */
    EXEC_CPUS_OFF
};

/* Limits of jobs that are processes; where this machine can not enforce one, enforces() says so. */
struct exec_process_config {
    enum exec_cpu_limit cpu_limit;
    uint32_t pids_max;       /* processes and threads of one job; 0: no limit */
    uint64_t file_bytes_max; /* of any file that it writes, its output too; 0: no limit */
};

struct exec_config {
    const char *state_dir;
    uint64_t log_bytes_max;            /* default cap per stream */
    bool shutdown_nursery;             /* close() also ends the nursery and all jobs: tests, `rota up` without --keep */
    struct exec_container_config container;
    struct exec_process_config process;
};
struct exec *exec_proc_open(struct loop *loop, const struct exec_config *config, const struct exec_events *events, struct err *err);
/* Takes only jobs with an image. Does not wait for the engine: without one, attempts wait a while and are given back. */
struct exec *exec_docker_open(struct loop *loop, const struct exec_config *config, const struct exec_events *events, struct err *err);
/* Both: jobs with an image as containers, all others as processes. */
struct exec *exec_both_open(struct loop *loop, const struct exec_config *config, const struct exec_events *events, struct err *err);
struct exec *exec_fake_open(struct loop *loop, const struct exec_config *config, const struct exec_events *events, struct err *err);

#endif
