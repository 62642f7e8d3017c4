/* docker_int.h: the inside of exec_docker, shared by its files and by nobody else:
 *   exec_docker.c   the port: open, close, orders; the link to the engine; the clock
 *   docker_start.c  from the queue to a running container: pulling, creating, starting
 *   docker_end.c    how an attempt ended, by evidence; its output; removal
 *   docker_files.c  the thread for work on files that takes its time */
#ifndef ROTA_EXEC_DOCKER_INT_H
#define ROTA_EXEC_DOCKER_INT_H

#include <pthread.h>

#include "base/arena.h"
#include "base/list.h"
#include "exec/container_dir.h"
#include "exec/engine.h"
#include "exec/engine_json.h"
#include "exec/engine_stream.h"
#include "exec/exec.h"
#include "exec/output.h"
#include "exec/ref_table.h"

#define DOCKER_ATTEMPTS_MAX 4096u
#define STARTING_MAX                                                                                                   \
    8u /* containers that are made or started at a time: more only wait for each other in the engine                   \
        */
#define REMOVING_MAX 4u
#define SHORT_MS 10000 /* for calls that only look or tell */
#define CREATE_MS 30000
#define START_MS 120000
#define LOOK_AGAIN_MS 1000

/* LINED: until it is called. QUEUED -> PULLING -> CREATING -> OPENING (the wait, before the start) -> STARTING ->
 * RUNNING -> COLLECTING -> ENDED. ABORTING: its container must not come to life any more; then its evidence is read. */
enum box_phase {
    BOX_LINED,
    BOX_QUEUED,
    BOX_PULLING,
    BOX_CREATING,
    BOX_OPENING,
    BOX_STARTING,
    BOX_RUNNING,
    BOX_ABORTING,
    BOX_COLLECTING,
    BOX_ENDED
};

/* One attempt. */
struct box {
    struct list_node node; /* QUEUED: in docker.queue; PULLING: in its pull; else in docker.busy or docker.ended */
    struct docker *docker;
    uint32_t number;
    enum box_phase phase;
    char name[CONTAINER_NAME_BYTES];
    struct exec_job *job; /* a copy, until it runs; NULL: taken over from a worker before us */
    struct arena memory;  /* of the copy */
    struct engine_call *call, *wait, *logs;
    int64_t since_ms; /* of the phase */
    int64_t retry_ms; /* when what failed is tried again; 0: nothing is */
    unsigned tries;
    bool counted; /* it is one of docker.starting */
    bool pulled;  /* in this attempt */
    bool asked;   /* the engine has heard of it */
    bool mine;    /* the engine made it for us, or its labels say that it is ours */
    bool foreign; /* its name is taken by a container of somebody else's, which is left alone */
    bool start_sent;
    bool again; /* ABORTING: it is to be created once more when its container is gone */
    bool told_started, recovered;
    bool plain;      /* without the shim */
    bool continuous; /* plain: our wait was there from before the start and has told the exit code */
    bool other_boot; /* its box was made under another kernel */
    bool termed, killed, withdrawn;
    int orders;         /* the FIFO of the shim, once something was ordered; -1: none */
    int64_t ordered_ms; /* until the shim has confirmed it; 0: nothing is owed */
    char order;
    bool exit_told; /* by the wait */
    int exit_code;  /* as it told */
    uint32_t own_streams;
    uint64_t output_bytes_max, hole_end[OUTPUT_STREAMS];
    int64_t begun_ms; /* 0: unknown */
    int pid;          /* of the container's first process on this machine; 0: unknown */
    int64_t pid_asked_ms;
    /* plain: its output, from the engine. */
    struct engine_frames frames;
    int out_fds[OUTPUT_STREAMS];
    uint32_t gaps; /* enum end_flags: output that could not be kept */
    uint64_t got_bytes[OUTPUT_STREAMS], skip_bytes[OUTPUT_STREAMS];
    struct engine_state last; /* what the engine said of it in the end */
    bool last_known;
    struct attempt_result result;
    bool had_process;
    char text[200];
};

/* An image on its way; attempts that wait for it. */
#define PULL_LAYERS_MAX 128 /* of an image; the Engine allows no more */
struct pull_layer { char id[16]; uint64_t current, total; };
struct pull {
    struct list_node node, boxes;
    struct docker *docker;
    char *image;
    struct engine_call *call;
    struct engine_lines lines;
    char error[200], status[100];
    int64_t told_ms, noted_ms; /* to the log, to who waits */
    struct pull_layer layers[PULL_LAYERS_MAX];
    size_t layers_count;
};

/* An acknowledged attempt whose container is to go. */
struct leaving {
    struct list_node node;
    struct docker *docker;
    struct engine_call *call;
    int64_t retry_ms;
    bool sure; /* it is ours: else it is looked at before it goes */
    char name[CONTAINER_NAME_BYTES];
};

enum link_state { LINK_UNKNOWN, LINK_UP, LINK_DOWN };

struct docker {
    struct exec base;
    struct exec_events events;
    struct loop *loop;
    struct exec_container_config config;
    struct exec_mount mounts[EXEC_MOUNTS_MAX];
    uint64_t log_bytes_max;
    bool shut_down;
    char *state_dir, *user;
    char boot[40];
    int logs_dir;
    struct container_home home;
    struct engine *engine;
    struct loop_timer *tick_timer, *kick_timer;
    int64_t now_ms;

    enum link_state link;
    struct engine_call *ping, *info, *list;
    int64_t ping_ms, list_ms, link_ms;
    char link_why[256]; /* DOWN, or set aside: why */
    unsigned failures;  /* of the engine's to start a container, in a row */
    unsigned set_asides;
    int64_t aside_until_ms; /* 0: it is not set aside */
    bool offered;           /* what on_containers was told last */
    char enforces[400];
    struct engine_info about;

    struct ref_table refs;
    struct box **boxes; /* at the attempt's number */
    struct list_node lined, queue, busy, ended, pulls, leaving;
    uint32_t starting, removing;

    struct docker_files *files;
};

/* docker_sweep.c: at the end of everything: kills and removes all containers of ours, without the loop of the program.
 */
void docker_sweep(struct docker *d, int64_t ms_max);

static inline struct attempt_ref box_ref(const struct box *b)
{
    return b->docker->refs.refs[b->number];
}

/* exec_docker.c */
int64_t docker_now(struct docker *d);
void docker_kick(struct docker *d); /* looks at the queues in the next turn */
/* The engine is there and could not do its work; or could. */
void docker_engine_failed(struct docker *d, const char *why);
void docker_engine_worked(struct docker *d);
static inline bool docker_able(const struct docker *d)
{
    return d->link == LINK_UP && !d->aside_until_ms;
}
void docker_link_suspect(struct docker *d); /* a call had no answer: asks whether the engine is there */
void box_phase_set(struct box *b, enum box_phase phase);
void box_started(struct box *b); /* its process exists */
void box_free(struct box *b);    /* forgets it */
void docker_deliver_orders(struct box *b);

/* docker_start.c */
struct exec_job *docker_job_copy(struct arena *memory, const struct exec_job *job);
void docker_run_queue(struct docker *d);
void docker_retry_start(struct box *b); /* its retry_ms has come */
void docker_wait_open(struct box *b, bool before_start);
/* The container is over, and the shim has not begun: nothing has run. Another one is made, without the shim. */
void box_without_shim(struct box *b, const char *why);

/* docker_end.c */
/* Ends an attempt that has no container, or none that ran. */
void box_end_unstarted(struct box *b, enum reason reason, const char *text);
void box_look(struct box *b); /* at its container; goes on by what is there */
void box_abort(struct box *b);
bool box_settle_by_record(struct box *b); /* true: the shim's record tells its end, which is on its way */
void box_squeezed(struct box *b);         /* its output is down to its cap: that was what its end waited for */
void box_restore(struct box *b);          /* at open: from what is on disk */
void box_publish(struct box *b);          /* its output gets its final names */
void docker_leave(struct docker *d, const char *name, bool sure); /* acknowledged: container and files go; sure: it is ours */
void docker_run_leaving(struct docker *d);
void docker_list(struct docker *d); /* finds containers of ours that nobody knows */

/* docker_files.c */
struct docker_files *docker_files_new(struct docker *d, void (*squeezed)(void *arg, struct attempt_ref ref));
void docker_files_squeeze(struct docker_files *f, struct attempt_ref ref, const uint64_t bytes[OUTPUT_STREAMS],
                          uint64_t cap);
void docker_files_remove(struct docker_files *f, const char *name);
void docker_files_free(struct docker_files *f); /* finishes what it has begun */

#endif
