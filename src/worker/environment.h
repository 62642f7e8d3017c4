/* environment.h: from the spec of a job to what is executed: argv with the array index put in, and a clean environment.
 *
 * A job inherits nothing but a few variables of the worker's (who the user is, language, time zone). PATH is fixed unless the
 * job gives its own. Variables that make programs run foreign code behind the user's back (LD_PRELOAD, BASH_ENV, ...) are
 * dropped, and so is every ROTA_* of the job's: those are ours. */
#ifndef ROTA_WORKER_ENVIRONMENT_H
#define ROTA_WORKER_ENVIRONMENT_H

#include "base/arena.h"
#include "exec/exec.h"
#include "wire/spec.h"
#include "worker/account.h"

#define JOB_PATH "/usr/local/bin:/usr/bin:/bin"

struct environment {
    char *base[16];   /* inherited, NAME=VALUE */
    size_t base_count;
    char node[64 + 16];
    bool gpus;        /* this node gives GPUs out: who asked for none sees none */
};
/* Takes the allowed part of the process's environment, once. */
void environment_init(struct environment *e, const char *node_name);
void environment_fini(struct environment *e);

/* Whether a job may set the variable. */
bool environment_allows(struct bytes name);
/* `text` with every {} replaced by the index; the index TASK_SINGLE leaves {} as it is. A C string in the arena. */
char *environment_replace(struct arena *arena, struct bytes text, uint32_t index);
/* Fills *out from spec and command; with an account, for somebody else than the worker's user: their name and home instead of
 * ours, and where the job says nothing it starts in that home. Everything it points to is in the arena, in *e or in *account. */
void environment_job(struct arena *arena, const struct environment *e, const struct job_spec *spec,
                     const struct exec_command *command, const struct account *account, struct exec_job *out);

#endif
