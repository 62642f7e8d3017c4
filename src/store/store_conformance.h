/* store_conformance.h: what every store must do, as tests. A store's own test calls it with its world. */
#ifndef ROTA_STORE_CONFORMANCE_H
#define ROTA_STORE_CONFORMANCE_H

#include "store/store.h"

struct loop;

struct store_world {
    const char *name; /* of the group of tests */
    void *(*make)(void);              /* a place for one store, e.g. a directory's name */
    void (*drop)(void *place);        /* the place and everything in it; frees */
    struct store *(*open)(void *place, struct loop *loop, const struct store_events *events, struct err *err);
};

/* Runs all, with an event loop and without. Returns the number of failed tests. */
int store_conformance(const struct store_world *world);

/* For tests of more than this suite: a store that is open, and what its appends came to. */
struct store_rig {
    const struct store_world *world;
    void *place;
    struct loop *loop;
    struct store *store;
    unsigned commits;            /* outcomes heard */
    enum store_outcome outcome;  /* the last one */
    struct err err;
    void (*then)(struct store_rig *rig); /* called once inside on_commit */
    uint64_t seq;                /* last record made; rig_reopen sets it to what is stored */
    uint64_t epoch;
};
void rig_open(struct store_rig *rig);
void rig_close(struct store_rig *rig);
void rig_reopen(struct store_rig *rig); /* closes and opens again */
void rig_begin(struct store_rig *rig, const struct store_batch *batch);
enum store_outcome rig_wait(struct store_rig *rig);
enum store_outcome rig_append(struct store_rig *rig, const struct store_batch *batch);
/* Appends the records, which get their numbers, with the jobs and tails; fails the test if they are not committed. */
void rig_commit(struct store_rig *rig, struct record *records, size_t count, const struct store_job *jobs,
                size_t jobs_count);
void rig_lead(struct store_rig *rig, uint64_t epoch);
void rig_number(struct store_rig *rig, struct record *records, size_t count);

struct record t_submitted(uint64_t job, uint32_t tasks);
struct record t_assigned(uint64_t job, uint32_t task, uint32_t attempt, uint32_t node);
struct record t_started(uint64_t job, uint32_t task, uint32_t attempt, uint32_t node);
struct record t_ended(uint64_t job, uint32_t task, uint32_t attempt, uint32_t node, uint32_t final);
struct store_job t_job(uint64_t job, const char *spec, const char *owner, const char *key);

#endif
