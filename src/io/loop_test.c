#include "io/loop.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/clock.h"

static struct loop *loop;
static int calls, order[8];

static int setup(void **state)
{
    (void)state;
    loop = loop_new();
    calls = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    loop_free(loop);
    return 0;
}

static void count(void *arg)
{
    (void)arg;
    calls++;
}

static void stop(void *arg)
{
    calls++;
    loop_stop(arg);
}

static void note(void *arg)
{
    order[calls++] = *(int *)arg;
}

static void clocks(void **state)
{
    (void)state;
    int64_t ms = clock_now_ms(), ns = clock_now_ns(), wall = clock_wall_ms();
    usleep(20000);
    assert_in_range(clock_now_ms() - ms, 20, 20000);
    assert_true(clock_now_ns() - ns >= 20000000);
    assert_true(clock_wall_ms() > INT64_C(1700000000000) && wall > INT64_C(1700000000000));
}

static void turns_end(void **state)
{
    (void)state;
    int64_t from = clock_now_ms();
    loop_turn(loop, 0);
    assert_true(clock_now_ms() - from < 1000);
    loop_turn(loop, 30);
    assert_true(clock_now_ms() - from >= 29); /* with nothing to wait for, too */
    struct loop_timer *t = loop_timer_add(loop, count, NULL);
    loop_timer_set(t, 5);
    loop_turn(loop, -1);
    assert_int_equal(calls, 1);
    loop_timer_remove(t);
}

static void timers(void **state)
{
    (void)state;
    int ids[] = { 1, 2, 3 };
    struct loop_timer *t[3];
    for (int i = 0; i < 3; i++)
        t[i] = loop_timer_add(loop, note, &ids[i]);
    loop_timer_set(t[0], 30);
    loop_timer_set(t[1], 10);
    loop_timer_set(t[2], 20);
    loop_timer_set(t[2], -1);
    loop_timer_set(t[0], 20); /* replaces */
    int64_t from = clock_now_ns();
    while (calls < 2)
        loop_turn(loop, 1000);
    assert_true(clock_now_ns() - from >= 19000000);
    assert_true(order[0] == 2 && order[1] == 1);
    loop_turn(loop, 40); /* once each; the disarmed one never */
    assert_int_equal(calls, 2);
    loop_timer_set(t[2], 0);
    loop_turn(loop, 1000);
    assert_int_equal(calls, 3);
    for (int i = 0; i < 3; i++)
        loop_timer_remove(t[i]);
    loop_timer_remove(NULL);
}

struct watch {
    struct loop_fd *f;
    int events, seen;
    bool remove;
};

static void on_fd(void *arg, int fd, int events)
{
    struct watch *w = arg;
    (void)fd;
    calls++;
    w->seen |= events;
    if (w->remove) {
        loop_fd_remove(w->f);
        w->f = NULL;
    }
}

static void descriptors(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    struct watch w = { 0 };
    w.f = loop_fd_add(loop, ends[0], LOOP_READ, on_fd, &w);
    loop_turn(loop, 5);
    assert_int_equal(calls, 0);
    assert_int_equal(write(ends[1], "x", 1), 1);
    loop_turn(loop, 1000);
    loop_turn(loop, 1000); /* level-triggered: not read, so again */
    assert_int_equal(calls, 2);
    assert_int_equal(w.seen, LOOP_READ);
    loop_fd_set(w.f, 0);
    loop_turn(loop, 5);
    assert_int_equal(calls, 2);
    loop_fd_set(w.f, LOOP_READ | LOOP_WRITE);
    loop_turn(loop, 1000);
    assert_int_equal(w.seen, LOOP_READ | LOOP_WRITE);
    w.remove = true;
    calls = 0;
    loop_turn(loop, 1000);
    loop_turn(loop, 5);
    assert_int_equal(calls, 1);
    assert_null(w.f);
    loop_fd_remove(NULL);
    assert_int_equal(write(ends[0], "y", 1), 1); /* the descriptor is still the caller's */
    close(ends[0]);
    close(ends[1]);
}

/* One callback removes the other, which is ready in the same turn. */
static struct watch pair[2];

static void on_pair(void *arg, int fd, int events)
{
    (void)fd, (void)events;
    calls++;
    int other = arg == &pair[0];
    loop_fd_remove(pair[other].f);
    pair[other].f = NULL;
}

static void removed_while_ready(void **state)
{
    (void)state;
    int a[2], b[2];
    assert_int_equal(pipe(a), 0);
    assert_int_equal(pipe(b), 0);
    assert_int_equal(write(a[1], "x", 1) + write(b[1], "x", 1), 2);
    pair[0].f = loop_fd_add(loop, a[0], LOOP_READ, on_pair, &pair[0]);
    pair[1].f = loop_fd_add(loop, b[0], LOOP_READ, on_pair, &pair[1]);
    loop_turn(loop, 1000);
    assert_int_equal(calls, 1);
    loop_fd_remove(pair[0].f);
    loop_fd_remove(pair[1].f);
    close(a[0]), close(a[1]), close(b[0]), close(b[1]);
}

static void *wake_often(void *arg)
{
    for (int i = 0; i < 10000; i++)
        loop_wake(arg);
    return NULL;
}

static void wakes(void **state)
{
    (void)state;
    struct loop_wake *w = loop_wake_add(loop, count, NULL);
    loop_turn(loop, 5);
    assert_int_equal(calls, 0);
    errno = EDOM;
    loop_wake(w);
    loop_wake(w);
    assert_int_equal(errno, EDOM);
    loop_turn(loop, 1000);
    assert_int_equal(calls, 1);
    loop_turn(loop, 5);
    assert_int_equal(calls, 1);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wake_often, w), 0);
    loop_turn(loop, -1);
    assert_true(calls >= 2);
    pthread_join(thread, NULL);
    int before = calls;
    loop_wake(w);
    loop_turn(loop, 1000);
    assert_true(calls > before);
    loop_wake_remove(w);
    loop_wake_remove(NULL);
}

static void runs_until_stopped(void **state)
{
    (void)state;
    struct loop_timer *t = loop_timer_add(loop, stop, loop);
    loop_timer_set(t, 5);
    loop_run(loop);
    assert_int_equal(calls, 1);
    loop_timer_set(t, 5);
    loop_run(loop); /* can be run again */
    assert_int_equal(calls, 2);
    loop_stop(loop); /* before it runs */
    loop_run(loop);
    loop_timer_remove(t);
}

static void on_signal(void *arg, int signo)
{
    *(int *)arg = signo;
    calls++;
}

static void signals(void **state)
{
    (void)state;
    int seen = 0;
    struct loop_signal *s = loop_signal_add(loop, SIGUSR1, on_signal, &seen);
    kill(getpid(), SIGUSR1);
    for (int i = 0; i < 100 && !calls; i++)
        loop_turn(loop, 100);
    assert_int_equal(seen, SIGUSR1);
    assert_int_equal(calls, 1);
    loop_signal_remove(s);
    loop_signal_remove(NULL);
    struct sigaction now;
    assert_int_equal(sigaction(SIGPIPE, NULL, &now), 0);
    assert_true(now.sa_handler == SIG_IGN);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(clocks), TEST(turns_end),          TEST(timers),  TEST(descriptors), TEST(removed_while_ready),
        TEST(wakes),  TEST(runs_until_stopped), TEST(signals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
