/* thread.h: threads beside the loop. */
#ifndef ROTA_IO_THREAD_H
#define ROTA_IO_THREAD_H

#include <pthread.h>

/* As pthread_create, with all signals blocked in the new thread from its first instruction: signals are the loop's.
 * Returns 0, or the error number, and then *thread is undefined. */
int thread_start(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *arg), void *arg);

#endif
