#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "exec/docker_int.h"
#include "io/clock.h"
#include "io/loop.h"
#include "obs/log.h"

struct sweep {
    struct docker *docker;
    struct loop *loop;
    struct engine *engine;
    uint32_t open; /* calls under way */
    uint32_t failed;
};

static void went(void *arg, const struct engine_reply *reply)
{
    struct sweep *s = arg;
    s->open--;
    s->failed += reply->status != 204 && reply->status != 404;
}

static void send_away(void *arg, const char *name, enum engine_status status)
{
    struct sweep *s = arg;
    struct attempt_ref ref;
    char path[160];
    (void)status;
    if (!container_ref(&s->docker->home, name, &ref))
        return;
    snprintf(path, sizeof path, "/containers/%s?force=1&v=1", name);
    s->open++;
    engine_send(s->engine, &(struct engine_request){
                               .method = "DELETE", .path = path, .timeout_ms = CREATE_MS, .arg = s, .on_done = went });
}

static void listed(void *arg, const struct engine_reply *reply)
{
    struct sweep *s = arg;
    s->open--;
    if (reply->status != 200 || !engine_json_list(reply->body, send_away, s)) {
        s->failed++;
        log_error("containers could not be ended: why=\"%s\"", reply->error);
    }
}

static void pinged(void *arg, const struct engine_reply *reply)
{
    struct sweep *s = arg;
    autobuf struct buf path = BUF_INIT;
    s->open--;
    if (reply->status != 200)
        return; /* no engine, no containers that run; what is left of them is met at the next start */
    engine_version_set(s->engine, reply->api < ENGINE_API_MAX ? reply->api : ENGINE_API_MAX);
    buf_str(&path, "/containers/json?all=1&filters=");
    engine_json_filter(&path, s->docker->home.worker);
    s->open++;
    engine_send(s->engine,
                &(struct engine_request){
                    .method = "GET", .path = path.data, .timeout_ms = SHORT_MS, .arg = s, .on_done = listed });
}

void docker_sweep(struct docker *d, int64_t ms_max)
{
    struct sweep s = { .docker = d, .loop = loop_new() };
    s.engine = engine_new(s.loop, engine_address(d->engine), NULL);
    int64_t until_ms = clock_now_ms() + ms_max, left_ms;
    s.open = 1;
    engine_send(s.engine, &(struct engine_request){
                              .method = "GET", .path = "/_ping", .timeout_ms = 3000, .arg = &s, .on_done = pinged });
    while (s.open && (left_ms = until_ms - clock_now_ms()) > 0)
        loop_turn(s.loop, left_ms);
    if (s.open || s.failed)
        log_error("not all containers could be ended: left=%u", s.open + s.failed);
    engine_free(s.engine);
    loop_free(s.loop);
}
