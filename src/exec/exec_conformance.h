/* exec_conformance.h: what every executor must do, and the world in which the tests of executors live. */
#ifndef ROTA_EXEC_CONFORMANCE_H
#define ROTA_EXEC_CONFORMANCE_H

#include "exec/exec.h"
#include "io/loop.h"

typedef struct exec *exec_open_fn(struct loop *loop, const struct exec_config *config, const struct exec_events *events,
                                  struct err *err);

struct CMUnitTest;
#define EXEC_CONFORMANCE_TESTS_MAX 16
/* Writes the tests of the suite for an executor to *out; how many they are. Only one executor per process. */
size_t exec_conformance(exec_open_fn *open, struct CMUnitTest *out);
/* What an executor with a line must do besides. */
size_t exec_conformance_line(exec_open_fn *open, struct CMUnitTest *out);

/* What an executor that can fence must do besides. */
size_t exec_conformance_lease(exec_open_fn *open, struct CMUnitTest *out);

#define WORLD_JOBS_MAX 8192

/* For executors of containers, whose jobs cost much more: the image of every job; of the many jobs of a test only each
 * so manieth. */
extern const char *exec_world_image; /* NULL: processes */
extern int exec_world_thrift;        /* 1: all */
extern struct exec_container_config exec_world_container;
extern struct exec_process_config exec_world_process;

/* Everything that was reported of one attempt; at its job's number. */
struct seen {
    uint32_t started, vacated, ended, recovered; /* how often */
    uint64_t got_place_of; /* the job whose place it was given in line; 0: none */
    enum attempt_phase recovered_as;
    int64_t ran_ms;
    bool had_process;
    struct attempt_result result;
    char text[256];
};

struct world {
    exec_open_fn *open;
    struct loop *loop;
    struct exec *exec;
    char dir[64];       /* made by world_init, removed by world_fini */
    char state_dir[80]; /* in it */
    uint64_t jobs;      /* numbers given to jobs so far */
    struct seen seen[WORLD_JOBS_MAX];
    void (*on_end)(struct world *w, struct attempt_ref ref); /* may be NULL */
};

void world_init(struct world *w, exec_open_fn *open);
void world_open(struct world *w);                  /* fails the test when it cannot */
void world_close(struct world *w, bool shut_down); /* shut_down: ends nursery and jobs too */
void world_fini(struct world *w);                  /* closes and shuts down what is open */
struct attempt_ref world_ref(uint64_t job);
/* Starts one more job; its number. ref is filled in; an env of NULL becomes a small one. */
uint64_t world_start(struct world *w, struct exec_job job);
uint64_t world_sh(struct world *w, const char *script); /* sh -c SCRIPT in w->dir */
struct seen *world_wait(struct world *w, uint64_t job); /* until it has ended */
void world_turn(struct world *w); /* one turn; fails the test when nothing has come for a minute */

#endif
