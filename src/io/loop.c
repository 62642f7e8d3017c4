#include "io/loop.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"

struct loop {
    struct event_base *base;
    struct event turn; /* ends a loop_turn that has a time limit */
    bool stop;
};

struct loop_fd {
    struct event event;
    struct loop *loop;
    void (*cb)(void *arg, int fd, int events);
    void *arg;
    int fd;
    int events; /* what is waited for now */
};

struct loop_timer {
    struct event event;
    void (*cb)(void *arg);
    void *arg;
};

struct loop_wake {
    struct event event;
    void (*cb)(void *arg);
    void *arg;
    int fd;
};

struct loop_signal {
    struct event event;
    void (*cb)(void *arg, int signo);
    void *arg;
    int signo;
};

static void turn_over(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg; /* Having run is its whole effect: the turn had an event and ends. */
}

struct loop *loop_new(void)
{
    signal(SIGPIPE, SIG_IGN); /* libevent writes without MSG_NOSIGNAL */
    struct loop *l = mem_zero(1, sizeof *l);
    struct event_config *config = event_config_new();
    check(config);
    /* The default clock ticks every 4 ms; a group-commit window is 2. */
    event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER);
    l->base = event_base_new_with_config(config);
    event_config_free(config);
    check(l->base);
    check(evtimer_assign(&l->turn, l->base, turn_over, NULL) == 0);
    return l;
}

void loop_free(struct loop *l)
{
    if (!l)
        return;
    event_del(&l->turn);
    event_base_free(l->base);
    free(l);
}

struct event_base *loop_base(struct loop *l)
{
    return l->base;
}

void loop_run(struct loop *l)
{
    while (!l->stop)
        check(event_base_loop(l->base, EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY) >= 0);
    l->stop = false;
}

static struct timeval timeval_ms(int64_t ms)
{
    return (struct timeval){ .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
}

void loop_turn(struct loop *l, int64_t timeout_ms)
{
    int flags = EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY;
    if (timeout_ms == 0) {
        flags = EVLOOP_NONBLOCK;
    } else if (timeout_ms > 0) {
        struct timeval limit = timeval_ms(timeout_ms);
        check(event_add(&l->turn, &limit) == 0);
    }
    check(event_base_loop(l->base, flags) >= 0);
    if (timeout_ms > 0)
        event_del(&l->turn);
}

void loop_stop(struct loop *l)
{
    l->stop = true;
    event_base_loopbreak(l->base);
}

static void fd_ready(evutil_socket_t fd, short what, void *arg)
{
    struct loop_fd *f = arg;
    int events = (what & EV_READ ? LOOP_READ : 0) | (what & EV_WRITE ? LOOP_WRITE : 0);
    f->cb(f->arg, (int)fd, events);
}

struct loop_fd *loop_fd_add(struct loop *l, int fd, int events, void (*cb)(void *arg, int fd, int events), void *arg)
{
    check(fd >= 0 && cb);
    struct loop_fd *f = mem_zero(1, sizeof *f);
    f->loop = l;
    f->fd = fd;
    f->cb = cb;
    f->arg = arg;
    loop_fd_set(f, events);
    return f;
}

void loop_fd_set(struct loop_fd *f, int events)
{
    check((events & ~(LOOP_READ | LOOP_WRITE)) == 0);
    if (events == f->events)
        return;
    if (f->events)
        check(event_del(&f->event) == 0);
    f->events = events;
    if (!events)
        return;
    int what = EV_PERSIST | (events & LOOP_READ ? EV_READ : 0) | (events & LOOP_WRITE ? EV_WRITE : 0);
    check(event_assign(&f->event, f->loop->base, f->fd, (short)what, fd_ready, f) == 0);
    check(event_add(&f->event, NULL) == 0);
}

void loop_fd_remove(struct loop_fd *f)
{
    if (!f)
        return;
    loop_fd_set(f, 0);
    free(f);
}

static void timer_due(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct loop_timer *t = arg;
    t->cb(t->arg);
}

struct loop_timer *loop_timer_add(struct loop *l, void (*cb)(void *arg), void *arg)
{
    check(cb);
    struct loop_timer *t = mem_zero(1, sizeof *t);
    t->cb = cb;
    t->arg = arg;
    check(evtimer_assign(&t->event, l->base, timer_due, t) == 0);
    return t;
}

void loop_timer_set(struct loop_timer *t, int64_t delay_ms)
{
    if (delay_ms < 0) {
        event_del(&t->event);
        return;
    }
    struct timeval delay = timeval_ms(delay_ms);
    check(event_add(&t->event, &delay) == 0);
}

void loop_timer_remove(struct loop_timer *t)
{
    if (!t)
        return;
    event_del(&t->event);
    free(t);
}

static void woken(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct loop_wake *w = arg;
    uint64_t count;
    /* Read before the call: a wake that comes during the call is not lost. EAGAIN: there was none, which is harmless.
     */
    check(read((int)fd, &count, sizeof count) == (ssize_t)sizeof count || errno == EAGAIN || errno == EINTR);
    w->cb(w->arg);
}

struct loop_wake *loop_wake_add(struct loop *l, void (*cb)(void *arg), void *arg)
{
    check(cb);
    struct loop_wake *w = mem_zero(1, sizeof *w);
    w->cb = cb;
    w->arg = arg;
    w->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    check(w->fd >= 0);
    check(event_assign(&w->event, l->base, w->fd, EV_READ | EV_PERSIST, woken, w) == 0);
    check(event_add(&w->event, NULL) == 0);
    return w;
}

void loop_wake(struct loop_wake *w)
{
    int saved = errno; /* A signal handler must leave errno as it was. */
    uint64_t one = 1;
    /* EAGAIN: the counter is at its end, so a wake is pending already. */
    while (write(w->fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
    errno = saved;
}

void loop_wake_remove(struct loop_wake *w)
{
    if (!w)
        return;
    event_del(&w->event);
    close(w->fd);
    free(w);
}

static void signal_came(evutil_socket_t signo, short what, void *arg)
{
    (void)what;
    struct loop_signal *s = arg;
    s->cb(s->arg, (int)signo);
}

struct loop_signal *loop_signal_add(struct loop *l, int signo, void (*cb)(void *arg, int signo), void *arg)
{
    check(cb);
    struct loop_signal *s = mem_zero(1, sizeof *s);
    s->cb = cb;
    s->arg = arg;
    s->signo = signo;
    check(evsignal_assign(&s->event, l->base, signo, signal_came, s) == 0);
    check(evsignal_add(&s->event, NULL) == 0);
    return s;
}

void loop_signal_remove(struct loop_signal *s)
{
    if (!s)
        return;
    event_del(&s->event);
    free(s);
}
