/* store_fault.h: a store that fails on demand, around any other store. For the simulator and for tests.
 *
 *     struct store_fault *f = store_fault_new(&my_events);
 *     struct store *s = store_fault_wrap(f, store_mem_open(NULL, "a", store_fault_events(f), &err));
 *
 * `s` is used and closed like any store; that frees f, too. Faults hit appends only, either the k-th from now or by
 * chance from a seed. What a fault has done is what a real store would have left behind: see enum store_fault_kind. */
#ifndef ROTA_STORE_FAULT_H
#define ROTA_STORE_FAULT_H

#include "store/store.h"

enum store_fault_kind {
    STORE_FAULT_NONE,
    STORE_FAULT_FULL,            /* STORE_FULL; not there */
    STORE_FAULT_UNKNOWN_ABSENT,  /* STORE_UNKNOWN; not there. After either unknown the store takes nothing any more */
    STORE_FAULT_UNKNOWN_PRESENT, /* STORE_UNKNOWN; there */
    STORE_FAULT_LATE_ABSENT,  /* outcome held back until store_fault_release; a crash before that finds it not there */
    STORE_FAULT_LATE_PRESENT, /* outcome held back until store_fault_release; a crash before that finds it there */
    STORE_FAULT_KINDS
};

struct store_fault;
struct store_fault *store_fault_new(const struct store_events *events);
const struct store_events *store_fault_events(struct store_fault *f); /* to open the inner store with */
/* Takes the inner store. NULL (it did not open) frees f and gives NULL. */
struct store *store_fault_wrap(struct store_fault *f, struct store *inner);

/* The k-th append from now (1: the next) has this fault. A new one replaces the old; NONE takes it back. */
void store_fault_at(struct store *s, uint64_t k, enum store_fault_kind kind);
/* Each append has each fault with its probability, drawn from the seed. */
void store_fault_chance(struct store *s, uint64_t seed, const double chance[STORE_FAULT_KINDS]);
bool store_fault_held(const struct store *s);  /* an outcome is held back */
void store_fault_release(struct store *s);     /* commits if need be and calls on_commit */
uint64_t store_fault_count(const struct store *s, enum store_fault_kind kind); /* how often each has hit */
/* As kill -9 would leave it: no callback comes any more; crash frees the inner store (store_mem_crash). */
void store_fault_crash(struct store *s, void (*crash)(struct store *inner));

#endif
