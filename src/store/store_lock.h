/* store_lock.h: one process per store, and the memory of how far it got.
 *
 * Two locks are held for life, both of the open file description (they end with the process and with nothing else):
 * on store.lock in the directory, and on a byte of store.db itself that SQLite never uses. The first turns a second
 * opener away before it touches the database; it covers the same path, a symbolic link and a bind mount, which lead to
 * the same store.lock. The second covers what does not: a database file linked into another directory, and a store.lock
 * that was deleted.
 *
 * store.lock also holds the number of the last record that was acknowledged, written after each commit without a sync.
 * SQLite drops the end of a damaged or missing log without a word; a store that ends before this number, whatever file
 * it is, has lost what was promised. After a power failure the number may be old, never too high. */
#ifndef ROTA_STORE_LOCK_H
#define ROTA_STORE_LOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct store_lock;
/* dir must exist. ERR_LOCKED at once when another process (or another handle of this one) has it. */
struct store_lock *store_lock_new(const char *dir, struct err *err);
void store_lock_free(struct store_lock *l); /* after every connection to the database is closed */
/* Takes the lock on the database file, too, which must exist. The descriptor stays open until store_lock_free: closing
 * it earlier would end SQLite's own locks on the file. */
int store_lock_database(struct store_lock *l, const char *path, struct err *err);
int store_lock_database_fd(const struct store_lock *l);
bool store_lock_used(const struct store_lock *l);           /* a database has been here before */
uint64_t store_lock_seq(const struct store_lock *l); /* last record acknowledged in this directory; 0: not known */
void store_lock_set_seq(struct store_lock *l, uint64_t seq); /* any thread, one at a time */
uint64_t store_lock_epoch(const struct store_lock *l);       /* a later store than this one has led it; 0: not known */
void store_lock_set_epoch(struct store_lock *l, uint64_t epoch);
/* Is some process holding store.lock in dir? Takes nothing. */
bool store_lock_held(const char *dir);

/* Room kept free by a file, to be given up when the disk is full. */
struct store_reserve { char *path; uint64_t bytes; };
bool store_reserve_use(struct store_reserve *r);   /* true if there was one */
bool store_reserve_fill(struct store_reserve *r);  /* true when it is full; needs as much again to stay free */
bool store_reserve_full(const struct store_reserve *r);

#endif
