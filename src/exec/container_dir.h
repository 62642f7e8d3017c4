/* container_dir.h: what is kept of container attempts on disk, below the worker's state directory.
 *
 *   containers/id            who we are to the engine: a random number, made once
 *   containers/shim          the program that is mounted into containers as their first process
 *   containers/run/NAME/     one attempt that was not acknowledged; made before the engine hears of it, so that no
 *                            container of ours is without one. NAME is the container's name too.
 *     note.*                 facts of the worker's own
 *     box/                   mounted into the container: see shim_record.h
 *   containers/gone/NAME/    acknowledged; the container may still be there, and goes before this does
 *
 * A container that runs as a user other than ours can only write into the files of its box. Where it has our user it
 * may put anything there, so nothing in a box is followed, waited for or believed. */
#ifndef ROTA_EXEC_CONTAINER_DIR_H
#define ROTA_EXEC_CONTAINER_DIR_H

#include <limits.h>

#include "base/err.h"
#include "core/model/ids.h"
#include "exec/shim/shim_record.h"

#define CONTAINER_NAME_BYTES 80
#define CONTAINER_WORKER_BYTES 33

struct container_home {
    char path[PATH_MAX]; /* of containers */
    char worker[CONTAINER_WORKER_BYTES];
    int run, gone; /* directories; -1: not open */
};
int container_home_open(struct container_home *h, const char *state_dir, struct err *err);
void container_home_close(struct container_home *h);

void container_name(const struct container_home *h, struct attempt_ref ref, char out[CONTAINER_NAME_BYTES]);
/* False: that is no name of ours. */
bool container_ref(const struct container_home *h, const char *name, struct attempt_ref *ref);
/* Visits the attempts in run, or in gone. */
void container_each(const struct container_home *h, int dir,
                    void (*visit)(void *arg, const char *name, struct attempt_ref ref), void *arg);

int container_dir_make(const struct container_home *h, const char *name, struct err *err);
/* From run to gone; the one step that makes an attempt an acknowledged one. */
bool container_dir_leave(const struct container_home *h, const char *name);
/* Removes what is in gone; may take long when somebody has put much there. */
void container_dir_remove(const struct container_home *h, const char *name);

/* Facts about an attempt, as text; not synced: they outlive any process, and no machine. */
bool container_note_set(const struct container_home *h, const char *name, const char *note, const char *text);
bool container_note_get(const struct container_home *h, const char *name, const char *note, char *out, size_t size);

/* The directory that is mounted, for reading its files; -1: it is not there. The caller closes it. */
int container_box_open(const struct container_home *h, const char *name);
/* The shim's record. False: there is none that adds up. */
bool container_record(const struct container_home *h, const char *name, struct shim_record *out);
/* Makes the box as it was: nothing has run in it. For a start that is known not to have happened. */
bool container_box_clear(const struct container_home *h, const char *name);
/* Gives the shim an order. False: nobody takes it. */
bool container_order(const struct container_home *h, const char *name, char order);

#endif
