/* verb.h: what most verbs share: a client, an answer printed, an error said. */
#ifndef ROTA_CLI_VERB_H
#define ROTA_CLI_VERB_H

#include "cli/args.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/select.h"
#include "cli/term.h"

void print_json(struct bytes body);                 /* as the API sent it, with a newline at the end */
/* Calls, and prints the body when --json was given (*out NULL then); else reads it. On failure the error has been said
 * and the result is its exit code; 0 otherwise. */
int verb_json(struct client *c, const struct args *args, const char *method, const char *path, struct bytes body,
              json_t **out);
/* Opens the client; NULL: it was said, *exit_code is set. */
struct client *verb_client(const struct args *args, int *exit_code);
#define autoclient __attribute__((cleanup(client_free_at)))
#define autojson __attribute__((cleanup(json_free_at)))
static inline void client_free_at(struct client **c) { client_free(*c); }
static inline void json_free_at(json_t **j) { json_decref(*j); }

/* Values of answers as people read them. */
void limits_text(struct buf *out, const json_t *limits);                     /* "running 10, cpus 64"; "-": none (limits.c) */
void human_size(struct buf *out, const json_t *object, const char *key);       /* "1.5G", "-" */
void human_duration(struct buf *out, double seconds);                          /* "2h30m" */
void human_time(struct buf *out, const char *rfc3339);                         /* local time of today or date; "-" */
int64_t time_of(const json_t *object, const char *key);                        /* Unix ms; 0: none */
const char *state_colour(const char *state);                                   /* NULL: plain */
bool state_ended(const char *state);
/* Exit code of a job that has ended, by its object: 0, its own code, 128+signal, 1. */
int job_exit_code(const json_t *job);

/* "failed: ended with exit code 7" */
void mem_auto_text(const json_t *job, struct buf *out); /* " (auto: from 12 runs of this name)", or nothing */
void state_sentence(const json_t *job, struct buf *out);

/* --- wait.c --- */
/* Waits until all that the selector names have ended. timeout_ms -1: for ever. Says errors. Result: 0, the jobs' code,
 * 4 or an error's code. */
struct waiting {
    const char *selector;
    int64_t until_ms;              /* -1: for ever */
    struct progress progress;
    bool json;                     /* print the last answer */
    bool quiet;                    /* do not say which failed */
};
int wait_for(struct client *c, struct waiting *w);
enum progress_mode progress_mode_of(const struct args *args);
extern const char progress_choices[];

/* --- logs.c --- */
struct follow {
    struct client *client;
    struct job_ref ref;
    bool stdout_wanted, stderr_wanted;
    bool go_on;                    /* follow until the job has ended, through all its attempts */
    uint64_t attempt;              /* 0: the last one */
    const char *tail;              /* or NULL */
    const volatile int *interrupts; /* stop when this is not 0; or NULL */
};
/* 0; an exit code (it was said); or FOLLOW_INTERRUPTED. */
#define FOLLOW_INTERRUPTED (-1)
int follow_logs(struct follow *f);

#endif
