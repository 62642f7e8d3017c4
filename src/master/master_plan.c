/* master_plan.c: when what waits is to start, as the plan has it. */
#include "master/master_int.h"

#include "core/sched/sched_view.h"
#include "wire/json_out.h"

#define PLAN_LIMIT 1000u
#define PLAN_LIMIT_MAX 20000u

#define FAR_MS 253402300799000 /* the end of the year 9999: later times have no text */

static void time_json(struct json_out *j, const char *key, int64_t wall_ms)
{
    json_time(j, key, wall_ms < FAR_MS ? wall_ms : FAR_MS);
}

static void history_json(struct json_out *j, const struct estimate_view *v)
{
    json_open(j, "history", '[');
    for (size_t i = 0; i < v->notes_count; i++) {
        json_open(j, NULL, '{');
        json_time(j, "made_at", v->notes[i].made_wall_ms);
        time_json(j, "start_at", v->notes[i].start_wall_ms);
        json_close(j, '}');
    }
    json_close(j, ']');
    json_u64(j, "changes", v->changes);
    if (v->notes_count && v->started_wall_ms)
        json_num(j, "error_s", (double)(v->started_wall_ms - v->notes[0].start_wall_ms) / 1000, 3);
    else
        json_null(j, "error_s");
}

void estimate_json(struct master *m, struct json_out *j, const struct estimate_view *v)
{
    static const char *const basis[BASES] = { "limits", "usual", "assumed" };
    bool known = v->none == NO_ESTIMATE_KNOWN;
    time_json(j, "start_at", known ? v->start_wall_ms : 0);
    time_json(j, "end_at", known ? v->end_wall_ms : 0);
    json_cstr(j, "node", known ? node_name_text(m, v->node.n) : NULL);
    json_cstr(j, "basis", known ? basis[v->basis] : NULL);
    json_id(j, "basis_job", v->basis_job.n);
    json_time(j, "made_at", v->made_wall_ms);
    if (known) {
        json_null(j, "because");
    } else {
        json_open(j, "because", '{');
        json_cstr(j, "reason", no_estimate_name(v->none));
        json_cstr(j, "text", no_estimate_text(v->none));
        json_close(j, '}');
    }
    json_u64(j, "depth", v->depth);
    history_json(j, v);
}

void api_estimate(struct exchange *x)
{
    job_id job;
    uint32_t task;
    struct job_view v;
    struct err err;
    if (job_ref_parse(x, &job, &task, &v, &err) < 0) {
        exchange_error(x, &err);
        return;
    }
    struct estimate_view e;
    sched_view_estimate(x->m->sched, job, task, &e); /* Of one that is only in the store it says that it does not wait. */
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    json_u64(&j, "id", job.n);
    json_cstr(&j, "state", job_state_name(v.state));
    estimate_json(x->m, &j, &e);
    json_close(&j, '}');
    exchange_json(x, 200);
}

void api_plan(struct exchange *x)
{
    struct master *m = x->m;
    uint64_t limit;
    struct err err;
    if (exchange_query_u64(x, "limit", 1, PLAN_LIMIT_MAX, PLAN_LIMIT, &limit, &err) < 0) {
        exchange_error(x, &err);
        return;
    }
    struct planned *planned = arena_alloc(&m->turn, limit * sizeof *planned);
    int64_t made_wall_ms;
    bool more;
    size_t count = sched_view_plan(m->sched, planned, limit, &made_wall_ms, &more);
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    json_time(&j, "made_at", made_wall_ms);
    json_open(&j, "slots", '[');
    for (size_t i = 0; i < count; i++) {
        json_open(&j, NULL, '{');
        json_u64(&j, "job", planned[i].job.n);
        json_bool(&j, "array", planned[i].array);
        json_cstr(&j, "node", node_name_text(m, planned[i].node.n));
        time_json(&j, "start_at", planned[i].start_wall_ms);
        time_json(&j, "end_at", planned[i].end_wall_ms);
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_bool(&j, "more", more);
    json_close(&j, '}');
    exchange_json(x, 200);
}
