/* loop.h: the only event loop (libevent), one per thread. Everything runs on the thread that calls loop_run. */
#ifndef ROTA_IO_LOOP_H
#define ROTA_IO_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct loop *loop_new(void);    /* also has the process ignore SIGPIPE: spawn children with it set back */
void loop_free(struct loop *l); /* everything added must have been removed */
void loop_run(struct loop *l);  /* until loop_stop */
/* Waits at most that long (-1: for ever), handles what is ready, and returns. */
void loop_turn(struct loop *l, int64_t timeout_ms);
void loop_stop(struct loop *l);
struct event_base *loop_base(struct loop *l); /* for io/ itself and libraries that need it */

enum { LOOP_READ = 1, LOOP_WRITE = 2 };
struct loop_fd;
/* Level-triggered. cb may remove itself. The fd stays the caller's. */
struct loop_fd *loop_fd_add(struct loop *l, int fd, int events, void (*cb)(void *arg, int fd, int events), void *arg);
void loop_fd_set(struct loop_fd *f, int events); /* 0: wait for nothing */
void loop_fd_remove(struct loop_fd *f);          /* NULL is fine */

struct loop_timer;
struct loop_timer *loop_timer_add(struct loop *l, void (*cb)(void *arg), void *arg); /* not armed */
/* Fires once; replaces an earlier setting; 0: next turn; -1: disarm. */
void loop_timer_set(struct loop_timer *t, int64_t delay_ms);
void loop_timer_remove(struct loop_timer *t); /* NULL is fine */

/* Wakes the loop from another thread or a signal handler; cb runs on the loop's thread, once or more after each wake. */
struct loop_wake;
struct loop_wake *loop_wake_add(struct loop *l, void (*cb)(void *arg), void *arg);
void loop_wake(struct loop_wake *w); /* thread-safe, async-signal-safe, never blocks */
void loop_wake_remove(struct loop_wake *w);

struct loop_signal;
struct loop_signal *loop_signal_add(struct loop *l, int signo, void (*cb)(void *arg, int signo), void *arg);
void loop_signal_remove(struct loop_signal *s);

#endif
