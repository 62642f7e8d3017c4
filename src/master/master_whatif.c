/* POST /v1/whatif: a thread reads the journal into a second brain, as for a snapshot, twice: as things are, and with the change;
 * the difference of the two plans is the answer. So the brain that decides is neither paused nor touched. One at a time. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/parse.h"
#include "io/clock.h"
#include "io/thread.h"
#include "master/body.h"
#include "master/master_int.h"
#include "master/recovery.h"
#include "master/whatif_words.h"

#define NICE 10
#define LIMIT 20
#define LIMIT_MAX 1000
#define TEXT_MAX 20000

struct whatif_question {
    struct exchange *x;       /* held */
    struct loop_wake *wake;
    pthread_t thread;
    atomic_bool stop;
    struct arena arena;       /* of what is asked */
    struct whatif what;
    struct sched_config then_config; /* the master's but for order and backfill */
    uint64_t seq, limit;
    int64_t wall_ms;
    /* the thread's own while it runs */
    struct whatif_plan now, then;
    int rc;
    struct err err;
};

/* --- the thread --- */

static int plan_of(struct whatif_question *q, const struct sched_config *config, const struct whatif *what, struct whatif_plan *out)
{
    struct recovery r = { .store = q->x->m->store, .config = config, .to_seq = q->seq, .apart = true, .stop = &q->stop };
    struct sched *s = recovery_run(&r, &q->err);
    int rc = s ? sched_whatif(s, what, q->wall_ms, out, &q->err) : -(int)q->err.code;
    sched_free(s);
    return rc;
}

static void *work(void *arg)
{
    struct whatif_question *q = arg;
    setpriority(PRIO_PROCESS, (id_t)gettid(), NICE); /* Of this thread. A failure costs others a little. */
    q->rc = plan_of(q, &q->x->m->sched_config, &(struct whatif){ 0 }, &q->now);
    if (q->rc == 0)
        q->rc = plan_of(q, &q->then_config, &q->what, &q->then);
    loop_wake(q->wake);
    return NULL;
}

/* --- the answer --- */

/* One job in both plans; of one that is in one only the other is NULL. */
struct pair {
    const struct whatif_start *now, *then;
};

static int64_t moved_ms(const struct pair *p)
{
    return p->then->first_wall_ms - p->now->first_wall_ms;
}

static bool placed(const struct whatif_start *s)
{
    return s && s->placed;
}

enum moved { SAME, SOONER, LATER, GAINED, LOST, GONE, AGAIN, MOVED };
static const char *const moved_names[MOVED] = {
    [SAME] = "same", [SOONER] = "sooner", [LATER] = "later", [GAINED] = "gained", [LOST] = "lost",
    [GONE] = "gone",   /* it is cancelled */
    [AGAIN] = "again", /* it runs or is held, and would wait; or it is not there yet */
};

static enum moved moved(const struct pair *p)
{
    if (!p->then || !p->now)
        return p->then ? AGAIN : GONE;
    if (placed(p->now) != placed(p->then))
        return placed(p->then) ? GAINED : LOST;
    int64_t by_ms = placed(p->now) ? moved_ms(p) : 0;
    return by_ms < 0 ? SOONER : by_ms > 0 ? LATER : SAME;
}

/* What changed most comes first: whether it waits or has a place, then by how far the start moved. */
static int64_t weight(const struct pair *p)
{
    enum moved m = moved(p);
    return m == SAME ? 0 : m == SOONER || m == LATER ? llabs(moved_ms(p)) : INT64_MAX;
}

static uint64_t number(const struct pair *p)
{
    return (p->now ? p->now : p->then)->job.n;
}

static int by_weight(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    int64_t xw = weight(x), yw = weight(y);
    if (xw != yw)
        return xw > yw ? -1 : 1;
    return (number(x) > number(y)) - (number(x) < number(y));
}

static struct pair *pairs_of(const struct whatif_plan *now, const struct whatif_plan *then, size_t *count)
{
    struct pair *pairs = mem_zero(now->count + then->count + 1, sizeof *pairs);
    size_t i = 0, k = 0;
    for (*count = 0; i < now->count || k < then->count; (*count)++) {
        struct pair *p = &pairs[*count];
        bool first = k == then->count || (i < now->count && now->starts[i].job.n <= then->starts[k].job.n);
        bool second = i == now->count || (k < then->count && then->starts[k].job.n <= now->starts[i].job.n);
        p->now = first ? &now->starts[i++] : NULL;
        p->then = second ? &then->starts[k++] : NULL;
    }
    qsort(pairs, *count, sizeof *pairs, by_weight);
    return pairs;
}

static void sum_json(struct json_out *j, const char *name, const struct whatif_plan *p, int64_t wall_ms)
{
    uint64_t tasks = 0, places = 0, starting = 0;
    double wait_s = 0;
    int64_t last_ms = 0, end_ms = 0;
    for (size_t i = 0; i < p->count; i++) {
        const struct whatif_start *s = &p->starts[i];
        tasks += s->tasks;
        places += s->placed;
        if (!s->placed)
            continue;
        starting++;
        wait_s += (double)(s->first_wall_ms - wall_ms) / 1000;
        last_ms = s->last_wall_ms > last_ms ? s->last_wall_ms : last_ms;
        end_ms = s->end_wall_ms > end_ms ? s->end_wall_ms : end_ms;
    }
    json_open(j, name, '{');
    json_u64(j, "jobs", p->count);
    json_u64(j, "tasks", tasks);
    json_u64(j, "tasks_placed", places);
    if (starting)
        json_num(j, "wait_mean_s", wait_s / (double)starting, 3);
    else
        json_null(j, "wait_mean_s");
    json_time(j, "last_start_at", last_ms);
    json_time(j, "all_ended_at", end_ms);
    json_bool(j, "more_wait", p->deeper);
    json_close(j, '}');
}

static void start_json(struct json_out *j, const char *name, const struct whatif_start *s)
{
    json_time(j, name, placed(s) ? s->first_wall_ms : 0);
}

static void pair_json(struct whatif_question *q, struct json_out *j, const struct pair *p)
{
    bool trial = number(p) == q->then.trial.n;
    struct job_view v;
    if (trial || !sched_view_job(q->x->m->sched, (job_id){ number(p) }, &v))
        v = (struct job_view){ 0 };
    json_open(j, NULL, '{');
    json_id(j, "job", trial ? 0 : number(p));
    json_bytes(j, "name", v.name);
    json_bytes(j, "user", v.user);
    json_u64(j, "tasks", (p->then ? p->then : p->now)->tasks);
    start_json(j, "start_at", p->now);
    start_json(j, "then_at", p->then);
    json_cstr(j, "change", moved_names[moved(p)]);
    if (placed(p->now) && placed(p->then))
        json_num(j, "moved_s", (double)moved_ms(p) / 1000, 3);
    else
        json_null(j, "moved_s");
    json_close(j, '}');
}

static void answer(struct whatif_question *q)
{
    size_t count, listed = 0, counts[MOVED] = { 0 };
    autofree struct pair *pairs = pairs_of(&q->now, &q->then, &count);
    for (size_t i = 0; i < count; i++)
        counts[moved(&pairs[i])] += number(&pairs[i]) != q->then.trial.n;
    struct json_out j = json_out_to(&q->x->answer);
    json_open(&j, NULL, '{');
    json_time(&j, "made_at", q->wall_ms);
    json_u64(&j, "seq", q->seq);
    sum_json(&j, "now", &q->now, q->wall_ms);
    sum_json(&j, "then", &q->then, q->wall_ms);
    for (int m = SOONER; m < MOVED; m++)
        json_u64(&j, moved_names[m], counts[m]);
    json_open(&j, "jobs", '[');
    for (size_t i = 0; i < count; i++)
        if (number(&pairs[i]) == q->then.trial.n || (weight(&pairs[i]) && listed < q->limit)) {
            listed += number(&pairs[i]) != q->then.trial.n;
            pair_json(q, &j, &pairs[i]);
        }
    json_close(&j, ']');
    json_close(&j, '}');
    buf_char(&q->x->answer, '\n');
    exchange_reply_now(q->x, 200, "application/json");
}

static void question_free(struct whatif_question *q)
{
    q->x->m->whatif = NULL;
    if (q->wake)
        loop_wake_remove(q->wake);
    free(q->now.starts);
    free(q->then.starts);
    arena_fini(&q->arena);
    free(q);
}

static void on_planned(void *arg)
{
    struct whatif_question *q = arg;
    struct exchange *x = q->x;
    pthread_join(q->thread, NULL);
    if (q->rc < 0)
        exchange_error_now(x, &q->err);
    else
        answer(q);
    question_free(q);
    exchange_drop(x);
}

/* --- the question --- */

enum { F_POLICY, F_BACKFILL, F_ADD, F_WITHOUT, F_CANCEL, F_RELEASE, F_PRIORITIES, F_TRIAL, F_LIMIT, FIELDS };

static int choose(const struct body_field *f, const char *words, int *place, struct err *err)
{
    *place = parse_choice(f->text, words);
    return *place >= 0 ? 0 : err_field(err, ERR_INVALID, f->name, words, "\"%.*s\" is not one of these", (int)(f->text.size < 60 ? f->text.size : 60), f->text.data);
}

static int understand(struct whatif_question *q, const struct body_field *f, struct err *err)
{
    struct master *m = q->x->m;
    struct arena *a = &q->arena;
    int place, rc = 0;
    if (f[F_POLICY].given && (rc = choose(&f[F_POLICY], ORDER_WORDS, &place, err)) == 0)
        q->then_config.order = (enum order_kind)place;
    if (rc == 0 && f[F_BACKFILL].given && (rc = choose(&f[F_BACKFILL], BACKFILL_WORDS, &place, err)) == 0)
        q->then_config.backfill = (enum sched_backfill)place;
    if (rc == 0 && f[F_ADD].given)
        rc = whatif_add(a, m->sched, f[F_ADD].text, &q->what, err);
    if (rc == 0 && f[F_WITHOUT].given)
        rc = whatif_without(a, m->sched, f[F_WITHOUT].text, &q->what, err);
    if (rc == 0 && f[F_CANCEL].given)
        rc = whatif_cancel(a, f[F_CANCEL].text, &q->what, err);
    if (rc == 0 && f[F_RELEASE].given)
        rc = whatif_release(a, f[F_RELEASE].text, &q->what, err);
    if (rc == 0 && f[F_PRIORITIES].given)
        rc = whatif_priorities(a, f[F_PRIORITIES].text, &q->what, err);
    if (rc == 0 && f[F_TRIAL].given)
        rc = whatif_trial(a, f[F_TRIAL].text, arena_bytes(a, bytes_str(q->x->who->user)), &q->what, err);
    q->limit = f[F_LIMIT].given ? (uint64_t)f[F_LIMIT].integer : LIMIT;
    return rc;
}

static int asked(const struct master *m, const struct body_field *f, struct err *err)
{
    bool any = false;
    for (int i = 0; i < F_LIMIT; i++)
        any |= f[i].given;
    if (!any)
        return err_field(err, ERR_INVALID, NULL, "give policy, backfill, add_nodes, without, cancel, release, priorities or trial", "nothing would be different");
    if (!m->sched_config.plan_depth)
        return err_field(err, ERR_CONFLICT, NULL, "start the master with --plan-depth 1000", "this master makes no plan");
    if (m->whatif)
        return err_field(err, ERR_CONFLICT, NULL, "try again in a second", "another question is being answered");
    return 0;
}

static struct whatif_question *question(struct exchange *x, const struct body_field *f, struct err *err)
{
    struct master *m = x->m;
    struct whatif_question *q = mem_zero(1, sizeof *q);
    q->x = x;
    q->then_config = m->sched_config;
    q->seq = m->committed_seq;
    q->wall_ms = clock_wall_ms();
    m->whatif = q;
    if (understand(q, f, err) == 0) {
        q->wake = loop_wake_add(m->loop, on_planned, q);
        if (thread_start(&q->thread, NULL, work, q) == 0)
            return q;
        err_field(err, ERR_UNAVAILABLE, NULL, "try again in a second", "no thread for the plan");
    }
    question_free(q);
    return NULL;
}

void api_whatif(struct exchange *x)
{
    struct body_field fields[FIELDS] = {
        [F_POLICY] = { .name = "policy", .type = BODY_TEXT, .max = 100 },
        [F_BACKFILL] = { .name = "backfill", .type = BODY_TEXT, .max = 100 },
        [F_ADD] = { .name = "add_nodes", .type = BODY_TEXT, .max = TEXT_MAX },
        [F_WITHOUT] = { .name = "without", .type = BODY_TEXT, .max = TEXT_MAX },
        [F_CANCEL] = { .name = "cancel", .type = BODY_TEXT, .max = TEXT_MAX },
        [F_RELEASE] = { .name = "release", .type = BODY_TEXT, .max = TEXT_MAX },
        [F_PRIORITIES] = { .name = "priorities", .type = BODY_TEXT, .max = TEXT_MAX },
        [F_TRIAL] = { .name = "trial", .type = BODY_TEXT, .max = 1000 },
        [F_LIMIT] = { .name = "limit", .type = BODY_INTEGER, .min = 0, .max = LIMIT_MAX },
    };
    struct master *m = x->m;
    struct err err;
    int rc = body_read(&m->turn, buf_bytes(&x->body), fields, FIELDS, &err);
    if (rc == 0)
        rc = asked(m, fields, &err);
    if (rc < 0 || !question(x, fields, &err)) {
        exchange_error_now(x, &err);
        return;
    }
    exchange_hold(x);
}

void whatif_end(struct master *m)
{
    struct whatif_question *q = m->whatif;
    if (!q)
        return;
    atomic_store(&q->stop, true);
    pthread_join(q->thread, NULL);
    struct exchange *x = q->x;
    question_free(q);
    exchange_drop(x);
}
