/* engine_json.h: what is said to a container engine and what it answers, between JSON and structs.
 * Unknown fields of answers are ignored; of what is asked every field is made here, none is passed through. */
#ifndef ROTA_EXEC_ENGINE_JSON_H
#define ROTA_EXEC_ENGINE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "core/model/ids.h"

/* Whose a container is: the labels by which it is known. */
struct engine_labels {
    char worker[40];        /* hex; "": not one of ours */
    struct attempt_ref ref; /* job 0: the labels do not add up */
};

struct engine_mount {
    const char *source, *target;
    bool read_only;
};

struct engine_container {
    const char *image, *workdir, *user, *network;          /* workdir NULL: the image's */
    char *const *entrypoint, *const *command, *const *env; /* NULL-terminated */
    struct engine_labels labels;
    const struct engine_mount *mounts;
    size_t mounts_count;
    const char *gpus, *cpus; /* by number, "0,2"; NULL: none, any */
    uint64_t mem_bytes; /* 0: no limit */
    uint64_t cpu_milli; /* 0: no limit */
    uint64_t pids_max, tmp_bytes;
    uint64_t log_bytes; /* kept by the engine per container; 0: none, output does not go through it */
    bool init;          /* the engine puts its own first process before the command */
};
/* The body of /containers/create. ERR_INVALID: some text is not UTF-8. */
int engine_json_create(const struct engine_container *c, struct buf *out, struct err *err);

enum engine_status { ENGINE_CREATED, ENGINE_ALIVE, ENGINE_EXITED, ENGINE_GOING };
struct engine_state {
    enum engine_status status; /* ALIVE: running, paused; GOING: being removed */
    bool started;              /* it has been started at some time */
    bool oom_killed;
    int exit_code;
    int pid; /* of its first process, on the engine's machine; 0: none */
    char image_id[80];
    struct engine_labels labels;
};
bool engine_json_state(struct bytes body, struct engine_state *out); /* of /containers/NAME/json */
/* Of /containers/json: each container's name, without the slash, and status. False: that is no such list. */
bool engine_json_list(struct bytes body, void (*visit)(void *arg, const char *name, enum engine_status status),
                      void *arg);
/* The filter for that list: all containers of one worker, percent-encoded. */
void engine_json_filter(struct buf *out, const char *worker);
bool engine_json_exit(struct bytes body, int *code); /* of /containers/NAME/wait */
/* Of /images/NAME/json: its digest in a registry, or else its id. */
bool engine_json_image(struct bytes body, char *digest, size_t size);

struct engine_info {
    char version[40], cgroup[8], driver[16];
    bool live_restore;
    unsigned api; /* minor of the version that was agreed on; not from /info */
};
bool engine_json_info(struct bytes body, struct engine_info *out); /* of /info */

/* {"message": ...}, with control characters replaced; what is no JSON counts as the message itself. */
void engine_json_message(struct bytes body, char *out, size_t size);

/* One line of the stream that /images/create answers with. */
struct engine_pull_line {
    char error[200];  /* "": none */
    char status[100]; /* "Downloading", "Digest: sha256:..." */
    char id[16];      /* of the layer it is about, "": of none */
    uint64_t current, total; /* bytes of it */
    bool done;        /* it is there */
};
bool engine_json_pull(struct bytes line, struct engine_pull_line *out);

#endif
