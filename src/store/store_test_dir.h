/* store_test_dir.h: places for SQLite stores in tests, and what tests do to their files. */
#ifndef ROTA_STORE_TEST_DIR_H
#define ROTA_STORE_TEST_DIR_H

#include "store/store_conformance.h"

extern const struct store_world test_sqlite_world;

char *test_dir_make(void);                     /* a new directory below $TMPDIR or /tmp; free with test_dir_drop */
void test_dir_drop(void *dir);                 /* removes it with everything in it; frees the name */
char *test_path(const char *dir, const char *name);        /* "dir/name"; yours to free */
void test_read(const char *path, struct buf *out);         /* the whole file */
void test_write(const char *path, struct bytes content);   /* makes or replaces it */
bool test_exists(const char *path);
void test_copy_dir(const char *from, const char *to);      /* the files in it; makes `to` */
/* Names and contents of all files in the directory, except those whose name ends in `except` (NULL: none). */
void test_dir_contents(const char *dir, const char *except, struct buf *out);

/* A store in dir with some jobs, attempts, keys, tails and marks in several batches, and whose end is not in the
 * database file but in its log when `crash`. In a child process; returns when that has ended. */
void test_fill(const char *dir, bool crash);
/* Everything that can be read of what test_fill wrote, as bytes. A negative code if some of it can not. */
int test_digest(struct store *s, struct buf *out, struct err *err);

#endif
