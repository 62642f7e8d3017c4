/* mem.h: heap memory that cannot fail, and scope cleanup.
 *
 * Running out of memory aborts the process: bounds are kept by configuration (every table has one), so an allocation
 * failure is a broken machine, and recovery from a crash is the one path that is always tested. */
#ifndef ROTA_BASE_MEM_H
#define ROTA_BASE_MEM_H

#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

void *mem_alloc(size_t bytes);                               /* uninitialised; aborts when there is no memory */
void *mem_zero(size_t count, size_t bytes);                  /* zeroed; checks the product */
void *mem_resize(void *old, size_t count, size_t bytes);     /* like reallocarray */
char *mem_str(const char *text);                             /* strdup; NULL gives NULL */
void *mem_copy(const void *source, size_t bytes);            /* memdup */
/* Makes room for at least `need` elements of `bytes` each in a growing array: doubles *cap and returns the array. */
void *mem_grow(void *array, size_t *cap, size_t need, size_t bytes);

static inline void mem_free_at(void *place) { free(*(void **)place); }
static inline void fd_close_at(int *fd) { if (*fd >= 0) close(*fd); }
#define autofree __attribute__((cleanup(mem_free_at)))
#define autoclose __attribute__((cleanup(fd_close_at)))

#endif
