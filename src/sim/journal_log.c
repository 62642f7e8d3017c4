#include "sim/journal_log.h"

#include <stdlib.h>

#include "base/mem.h"
#include "core/model/record.h"
#include "core/model/states.h"
#include "store/store.h"

struct known_class { uint64_t cpu_milli; int64_t time_limit_ms; uint32_t user, nodes; };
struct known_job { uint32_t class; int64_t ready_wall_ms, longest_ms; };
struct known_node { uint64_t cpu_milli; bool there; };

struct log {
    struct swf *out;
    struct known_class *classes; size_t classes_count, classes_cap;
    struct known_job *jobs; size_t jobs_count, jobs_cap;        /* by id - 1 */
    struct known_node *nodes; size_t nodes_count, nodes_cap;    /* by id - 1 */
    char **users; size_t users_count, users_cap;
};

static uint32_t user_number(struct log *l, struct bytes name)
{
    for (size_t i = 0; i < l->users_count; i++)
        if (bytes_equal(bytes_str(l->users[i]), name))
            return (uint32_t)i;
    l->users = mem_grow(l->users, &l->users_cap, l->users_count + 1, sizeof *l->users);
    char *copy = mem_alloc(name.size + 1);
    if (name.size)
        memcpy(copy, name.data, name.size);
    copy[name.size] = '\0';
    l->users[l->users_count] = copy;
    return (uint32_t)l->users_count++;
}

static void begin(void *arg)
{
    struct log *l = arg;
    for (size_t i = 0; i < l->users_count; i++)
        free(l->users[i]);
    l->users_count = l->classes_count = l->jobs_count = l->nodes_count = 0;
    l->out->count = 0;
    l->out->procs = 0;
}

static void learn_class(struct log *l, const struct ev_class *e)
{
    l->classes = mem_grow(l->classes, &l->classes_cap, l->classes_count + 1, sizeof *l->classes);
    l->classes[l->classes_count++] = (struct known_class){ e->need.v[RES_CPU], e->time_limit_ms, user_number(l, e->user), e->nodes > 1 ? e->nodes : 1 };
}

static struct known_job *job_of(struct log *l, uint64_t id)
{
    if (id > l->jobs_count) { /* ids may be left out */
        l->jobs = mem_grow(l->jobs, &l->jobs_cap, id, sizeof *l->jobs);
        memset(l->jobs + l->jobs_count, 0, (id - l->jobs_count) * sizeof *l->jobs);
        l->jobs_count = id;
    }
    return &l->jobs[id - 1];
}

static void learn_node(struct log *l, uint32_t id, uint64_t cpu_milli, bool known, bool there)
{
    if (id > l->nodes_count) {
        l->nodes = mem_grow(l->nodes, &l->nodes_cap, id, sizeof *l->nodes);
        memset(l->nodes + l->nodes_count, 0, (id - l->nodes_count) * sizeof *l->nodes);
        l->nodes_count = id;
    }
    struct known_node *n = &l->nodes[id - 1];
    if (known)
        n->cpu_milli = cpu_milli;
    else
        n->there = there;
    uint64_t sum = 0;
    for (size_t i = 0; i < l->nodes_count; i++)
        sum += l->nodes[i].there ? l->nodes[i].cpu_milli : 0;
    if ((int64_t)(sum / 1000) > l->out->procs)
        l->out->procs = (int64_t)(sum / 1000);
}

static void learn_row(struct log *l, uint64_t job, int64_t run_ms)
{
    const struct known_job *j = job_of(l, job);
    if (j->class >= l->classes_count)
        return;
    const struct known_class *c = &l->classes[j->class];
    struct swf *w = l->out;
    w->rows = mem_grow(w->rows, &w->cap, w->count + 1, sizeof *w->rows);
    w->rows[w->count++] = (struct swf_row){ .id = (int64_t)job,
                                            .submit_s = j->ready_wall_ms / 1000,
                                            .run_s = (run_ms + 999) / 1000,
                                            .procs_used = -1,
                                            .procs_asked = (int64_t)((c->cpu_milli * c->nodes + 999) / 1000),
                                            .asked_s = c->time_limit_ms ? (c->time_limit_ms + 999) / 1000 : -1,
                                            .user = c->user };
    if (!w->rows[w->count - 1].procs_asked)
        w->rows[w->count - 1].procs_asked = 1;
}

static void learn_end(struct log *l, const struct ev_ended *e)
{
    int64_t *longest_ms = &job_of(l, e->job)->longest_ms;
    if (e->flags & END_OF_GANG && e->run_ms > *longest_ms)
        *longest_ms = e->run_ms;
    if (e->final && e->reason != REASON_SPAWN)
        learn_row(l, e->job, e->run_ms);
}

/* On several nodes at the same time: one row for all of it, as long as the longest part of the round that was its last. */
static void learn_gang_end(struct log *l, const struct ev_gang_ended *e)
{
    if (e->final && e->reason != REASON_SPAWN)
        learn_row(l, e->job, job_of(l, e->job)->longest_ms);
    job_of(l, e->job)->longest_ms = 0;
}

static int take(void *arg, const struct record *r, struct err *err)
{
    struct log *l = arg;
    (void)err;
    switch (r->kind) {
    case EV_CLASS: learn_class(l, &r->class); break;
    case EV_SUBMITTED: *job_of(l, r->submitted.job) = (struct known_job){ r->submitted.class, r->at_wall_ms, 0 }; break;
    case EV_RELEASED: job_of(l, r->released.job)->ready_wall_ms = r->at_wall_ms; break;
    case EV_UNBLOCKED: job_of(l, r->unblocked.job)->ready_wall_ms = r->at_wall_ms; break;
    case EV_GROWN: job_of(l, r->grown.job)->class = r->grown.class; break;
    case EV_NODE_SEEN: learn_node(l, r->node_seen.node, r->node_seen.capacity.v[RES_CPU], true, false); break;
    case EV_NODE_STATE: learn_node(l, r->node_state.node, 0, false, r->node_state.state == NODE_READY); break;
    case EV_ENDED: learn_end(l, &r->ended); break;
    case EV_GANG_ENDED: learn_gang_end(l, &r->gang_ended); break;
    default: break;
    }
    return 0;
}

int journal_log_read(struct swf *out, const char *dir_or_file, struct err *err)
{
    struct log l = { .out = out };
    struct store_inspector with = { &l, begin, NULL, NULL, take, NULL };
    autobuf struct buf report = BUF_INIT;
    *out = (struct swf){ 0 };
    int rc = store_sqlite_inspect(dir_or_file, &with, &report, false, err);
    for (size_t i = 0; i < l.users_count; i++)
        free(l.users[i]);
    free(l.users);
    free(l.classes);
    free(l.jobs);
    free(l.nodes);
    if (rc < 0)
        swf_fini(out);
    return rc;
}
