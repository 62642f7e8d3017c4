#include "worker/usage_keeper.h"

#include "base/list.h"
#include "base/mem.h"
#include "exec/ref_table.h"
#include "io/clock.h"
#include "io/loop.h"

#define LOOK_MS 1000

struct sampled {
    struct list_node node; /* in keeper.turns: who was looked at longest ago comes first */
    uint32_t number;       /* in keeper.refs */
    int64_t started_ms, due_ms;
    bool running;
    struct usage_series series;
};

struct usage_keeper {
    struct usage_keeper_port port;
    struct loop_timer *timer;
    bool armed;
    int64_t now_ms;
    struct ref_table refs;    /* made when the first attempt is sampled */
    struct sampled **sampled; /* at the attempt's number */
    struct list_node turns;
    struct buf encoded;
};

static struct sampled *find(struct usage_keeper *k, struct attempt_ref ref)
{
    uint32_t number = k->sampled ? ref_table_find(&k->refs, ref) : REF_NONE;
    return number == REF_NONE ? NULL : k->sampled[number];
}

static void drop(struct usage_keeper *k, struct sampled *s)
{
    ref_table_remove(&k->refs, s->number);
    k->sampled[s->number] = NULL;
    list_remove(&s->node);
    usage_series_fini(&s->series);
    free(s);
}

static void send_points(struct usage_keeper *k, const struct sampled *s, const struct usage_point *points, size_t count)
{
    buf_clear(&k->encoded);
    usage_encode(&k->encoded, points, count);
    struct message m = { .kind = MSG_USAGE, .usage = { k->refs.refs[s->number], buf_bytes(&k->encoded) } };
    k->port.send(k->port.arg, &m);
}

/* Whoever has run for long enough is sampled from now on. */
static void meet(void *arg, const struct agent_attempt_view *v)
{
    struct usage_keeper *k = arg;
    if (!v->spawned || k->now_ms - v->started_ms < USAGE_FIRST_MS)
        return;
    if (!k->sampled) {
        ref_table_init(&k->refs, USAGE_ATTEMPTS_MAX);
        k->sampled = mem_zero(USAGE_ATTEMPTS_MAX, sizeof *k->sampled);
    }
    struct sampled *s = find(k, v->ref);
    uint32_t number = s ? s->number : ref_table_add(&k->refs, v->ref);
    if (number == REF_NONE)
        return;
    if (!s) {
        s = k->sampled[number] = mem_zero(1, sizeof *s);
        s->number = number;
        s->started_ms = v->started_ms;
        s->series = USAGE_SERIES_INIT;
        list_append(&k->turns, &s->node);
    }
    s->running = true;
}

static void look_at(struct usage_keeper *k, struct sampled *s)
{
    struct exec_usage used;
    int64_t age_ms = k->now_ms - s->started_ms, each_ms = age_ms / 30;
    s->due_ms = k->now_ms + (each_ms < USAGE_EACH_MS_MAX ? each_ms : USAGE_EACH_MS_MAX);
    if (!k->port.exec->ops->usage(k->port.exec, k->refs.refs[s->number], &used))
        return;
    struct usage_point p = {
        age_ms, used.cpu_ms, used.rss_bytes, used.rss_bytes, used.read_bytes, used.written_bytes, used.processes,
    };
    usage_series_add(&s->series, &p);
    send_points(k, s, &p, 1);
}

static void arm(struct usage_keeper *k)
{
    loop_timer_set(k->timer, LOOK_MS);
    k->armed = true;
}

static void look(void *arg)
{
    struct usage_keeper *k = arg;
    struct agent_stats stats;
    k->armed = false;
    k->now_ms = clock_now_ms();
    agent_view_stats(k->port.agent, &stats);
    if (!stats.running)
        return; /* usage_keeper_wake begins again */
    arm(k);
    agent_view_attempts(k->port.agent, meet, k);
    int64_t begun_ns = clock_now_ns();
    struct list_node *last = k->turns.prev;
    while (!list_empty(&k->turns) && clock_now_ns() - begun_ns < USAGE_WORK_NS) {
        struct sampled *s = list_entry(k->turns.next, struct sampled, node);
        bool was_last = &s->node == last;
        if (s->running && s->due_ms <= k->now_ms)
            look_at(k, s);
        list_remove(&s->node);
        list_append(&k->turns, &s->node);
        if (was_last)
            return;
    }
}

struct usage_keeper *usage_keeper_new(struct loop *loop, const struct usage_keeper_port *port)
{
    struct usage_keeper *k = mem_zero(1, sizeof *k);
    k->port = *port;
    k->timer = loop_timer_add(loop, look, k);
    list_init(&k->turns);
    usage_keeper_wake(k);
    return k;
}

void usage_keeper_free(struct usage_keeper *k)
{
    if (!k)
        return;
    while (!list_empty(&k->turns))
        drop(k, list_entry(k->turns.next, struct sampled, node));
    if (k->sampled)
        ref_table_fini(&k->refs);
    loop_timer_remove(k->timer);
    buf_fini(&k->encoded);
    free(k->sampled);
    free(k);
}

void usage_keeper_wake(struct usage_keeper *k)
{
    if (!k->armed)
        arm(k);
}

void usage_keeper_tell_all(struct usage_keeper *k)
{
    list_each(node, &k->turns)
    {
        const struct sampled *s = list_entry(node, struct sampled, node);
        if (s->running && s->series.count)
            send_points(k, s, s->series.points, s->series.count);
    }
}

void usage_keeper_ended(struct usage_keeper *k, struct attempt_ref ref, struct attempt_result *result)
{
    struct sampled *s = find(k, ref);
    if (!s)
        return;
    s->running = false;
    /* The system tells the peak of one process and the time of those that were waited for. */
    uint64_t peak = usage_series_peak(&s->series);
    if (s->series.count && s->series.points[s->series.count - 1].cpu_ms > result->cpu_ms)
        result->cpu_ms = s->series.points[s->series.count - 1].cpu_ms;
    if (peak > result->rss_max_bytes)
        result->rss_max_bytes = peak;
}

void usage_keeper_tell(struct usage_keeper *k, struct attempt_ref ref)
{
    const struct sampled *s = find(k, ref);
    if (s && s->series.count)
        send_points(k, s, s->series.points, s->series.count);
}

void usage_keeper_forget(struct usage_keeper *k, struct attempt_ref ref)
{
    struct sampled *s = find(k, ref);
    if (s)
        drop(k, s);
}
