/* A server with a trivial handler, to be measured from outside:
 *
 *     http_bench [SECONDS] &            prints its port, ends by itself
 *     wrk -t1 -c32  -d5 http://127.0.0.1:PORT/
 *     wrk -t1 -c256 -d5 http://127.0.0.1:PORT/
 *     head -c 100M /dev/zero | curl -sT - -X POST -H 'Expect:' http://127.0.0.1:PORT/      streamed upload
 *     wrk ... http://127.0.0.1:PORT/later      answered from the next turn of the loop, as after a group commit
 *
 * At the end it tells the largest resident size and the CPU time. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/check.h"
#include "io/http.h"
#include "io/loop.h"

static struct loop *loop;
static struct loop_timer *later;
static struct http_request *waiting[4096];
static size_t waiting_count;

static void on_head(void *arg, struct http_request *r)
{
    (void)arg;
    http_body_limit(r, UINT64_MAX / 2);
}

static void on_body(void *arg, struct http_request *r, struct bytes piece)
{
    (void)arg, (void)r, (void)piece;
}

static void on_end(void *arg, struct http_request *r)
{
    (void)arg;
    if (http_path(r).size == 1) {
        http_reply(r, 200, "text/plain", bytes_str("ok\n"));
        return;
    }
    check(waiting_count < sizeof waiting / sizeof waiting[0]);
    waiting[waiting_count++] = r;
    loop_timer_set(later, 0);
}

static void on_later(void *arg)
{
    (void)arg;
    for (size_t i = 0; i < waiting_count; i++)
        http_reply(waiting[i], 200, "text/plain", bytes_str("ok\n"));
    waiting_count = 0;
}

static void on_gone(void *arg, struct http_request *r)
{
    (void)arg;
    for (size_t i = 0; i < waiting_count; i++)
        if (waiting[i] == r)
            waiting[i--] = waiting[--waiting_count];
}

static void on_timeout(void *arg)
{
    loop_stop(arg);
}

int main(int argc, char **argv)
{
    int seconds = argc > 1 ? atoi(argv[1]) : 30;
    loop = loop_new();
    later = loop_timer_add(loop, on_later, NULL);
    struct loop_timer *end = loop_timer_add(loop, on_timeout, loop);
    loop_timer_set(end, seconds * 1000);
    struct http_limits limits;
    http_limits_default(&limits);
    limits.connections_per_source = limits.connections;
    limits.requests_per_connection = UINT32_MAX;
    struct http_events events = { NULL, on_head, on_body, on_end, on_gone };
    struct err err;
    struct http_server *s = http_server_new(loop, "127.0.0.1", 0, false, &limits, &events, &err);
    if (!s) {
        fprintf(stderr, "http_bench: %s\n", err.text);
        return 1;
    }
    printf("%u\n", http_server_port(s));
    fflush(stdout);
    loop_run(loop);
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    struct http_server_stats stats;
    http_server_stats(s, &stats);
    printf("requests %llu, max RSS %ld KiB, CPU %.2f s user, %.2f s system\n", (unsigned long long)stats.requests,
           use.ru_maxrss, (double)use.ru_utime.tv_sec + (double)use.ru_utime.tv_usec / 1e6,
           (double)use.ru_stime.tv_sec + (double)use.ru_stime.tv_usec / 1e6);
    http_server_free(s);
    loop_timer_remove(later);
    loop_timer_remove(end);
    loop_free(loop);
    return 0;
}
