#include "master/whatif_words.h"

#include <string.h>

#include "base/parse.h"
#include "core/model/where.h"
#include "core/sched/sched_view.h"

#define PRIORITY_MAX 1000000

/* The next item of a list; its text ends where the mark was. NULL: there is none. */
static char *item(char **rest, char mark)
{
    char *at = *rest;
    if (!at)
        return NULL;
    char *end = strchr(at, mark);
    *rest = end ? end + 1 : NULL;
    if (end)
        *end = 0;
    return at;
}

static size_t items(const char *text, char mark)
{
    size_t count = 1;
    for (; *text; text++)
        count += *text == mark;
    return count;
}

/* A copy to cut up, and room for so many elements as it has items. NULL: there are too many. */
static char *list(struct arena *a, struct bytes text, char mark, size_t size, void **room, const char *field, struct err *err)
{
    char *copy = arena_alloc(a, text.size + 1);
    if (text.size)
        memcpy(copy, text.data, text.size);
    copy[text.size] = 0;
    size_t count = items(copy, mark);
    if (count > WHATIF_ITEMS_MAX) {
        err_field(err, ERR_INVALID, field, "ask in parts", "%zu items are more than %u", count, WHATIF_ITEMS_MAX);
        return NULL;
    }
    *room = arena_alloc(a, count * size);
    memset(*room, 0, count * size);
    return copy;
}

static int in_field(struct err *err, const char *field)
{
    struct err inner = *err;
    return err_field(err, inner.code, field, inner.remedy, "%s", inner.text);
}

/* "cpus=4" and the like. 1: it is none of these. */
static int resource(const char *key, const char *value, struct resources *need, struct err *err)
{
    if (strcmp(key, "cpus") == 0)
        return parse_milli(value, &need->v[RES_CPU], err);
    if (strcmp(key, "mem") == 0)
        return parse_size(value, &need->v[RES_MEM], err);
    if (strcmp(key, "gpus") == 0)
        return parse_milli(value, &need->v[RES_GPU], err);
    return 1;
}

/* Cuts "KEY=VALUE". */
static char *value_of(char *pair)
{
    char *mark = strchr(pair, '=');
    if (!mark)
        return NULL;
    *mark = 0;
    return mark + 1;
}

static int shape(char *text, struct resources *capacity, struct err *err)
{
    static const char how[] = "write N*cpus=16,mem=64G,gpus=2, or N*NAME for nodes like that one";
    for (char *pair; (pair = item(&text, ','));) {
        char *value = value_of(pair);
        if (!value)
            return err_field(err, ERR_INVALID, "add_nodes", how, "\"%.60s\" is neither a node's name nor what a node has", pair);
        int rc = resource(pair, value, capacity, err);
        if (rc < 0)
            return in_field(err, "add_nodes");
        if (rc > 0)
            return err_field(err, ERR_INVALID, "add_nodes", how, "\"%.60s\" is not known", pair);
    }
    if (!capacity->v[RES_CPU])
        return err_field(err, ERR_INVALID, "add_nodes", how, "a node without CPUs runs nothing");
    return 0;
}

int whatif_add(struct arena *a, const struct sched *s, struct bytes text, struct whatif *w, struct err *err)
{
    void *room;
    char *rest = list(a, text, ';', sizeof *w->add, &room, "add_nodes", err);
    struct whatif_nodes *nodes = room;
    uint64_t sum = 0;
    if (!rest)
        return -(int)err->code;
    for (char *one; (one = item(&rest, ';')); w->add_count++) {
        uint64_t count = 1;
        char *star = strchr(one, '*');
        if (star) {
            *star = 0;
            if (parse_u64(one, 1, WHATIF_NODES_MAX, &count, err) < 0)
                return in_field(err, "add_nodes");
            one = star + 1;
        }
        struct node_view v;
        struct whatif_nodes *n = &nodes[w->add_count];
        if (!strchr(one, '=') && sched_view_node(s, sched_view_node_named(s, bytes_str(one)), &v))
            n->capacity = v.capacity, n->labels = arena_bytes(a, v.labels);
        else if (shape(one, &n->capacity, err) < 0)
            return -(int)err->code;
        n->count = (uint32_t)count;
        sum += count;
    }
    w->add = nodes;
    return sum <= WHATIF_NODES_MAX ? 0 : err_field(err, ERR_INVALID, "add_nodes", "ask with fewer", "these are more than %u nodes", WHATIF_NODES_MAX);
}

int whatif_without(struct arena *a, const struct sched *s, struct bytes text, struct whatif *w, struct err *err)
{
    void *room;
    char *rest = list(a, text, ',', sizeof *w->without, &room, "without", err);
    node_id *nodes = room;
    if (!rest)
        return -(int)err->code;
    for (char *one; (one = item(&rest, ',')); w->without_count++) {
        nodes[w->without_count] = sched_view_node_named(s, bytes_str(one));
        if (!nodes[w->without_count].n)
            return err_field(err, ERR_NOT_FOUND, "without", "`rota nodes` lists them", "there is no node \"%.60s\"", one);
    }
    w->without = nodes;
    return 0;
}

static int jobs(struct arena *a, struct bytes text, const job_id **out, size_t *count, const char *field, struct err *err)
{
    void *room;
    char *rest = list(a, text, ',', sizeof **out, &room, field, err);
    job_id *ids = room;
    if (!rest)
        return -(int)err->code;
    for (char *one; (one = item(&rest, ',')); (*count)++)
        if (parse_u64(one, 1, INT64_MAX, &ids[*count].n, err) < 0)
            return in_field(err, field);
    *out = ids;
    return 0;
}

int whatif_cancel(struct arena *a, struct bytes text, struct whatif *w, struct err *err)
{
    return jobs(a, text, &w->cancel, &w->cancel_count, "cancel", err);
}

int whatif_release(struct arena *a, struct bytes text, struct whatif *w, struct err *err)
{
    return jobs(a, text, &w->release, &w->release_count, "release", err);
}

int whatif_priorities(struct arena *a, struct bytes text, struct whatif *w, struct err *err)
{
    void *room;
    char *rest = list(a, text, ',', sizeof *w->priorities, &room, "priorities", err);
    struct whatif_priority *all = room;
    if (!rest)
        return -(int)err->code;
    for (char *one; (one = item(&rest, ',')); w->priorities_count++) {
        struct whatif_priority *p = &all[w->priorities_count];
        char *value = value_of(one);
        if (!value)
            return err_field(err, ERR_INVALID, "priorities", "write JOB=PRIORITY, as in 7=5", "\"%.60s\" has no =", one);
        if (parse_u64(one, 1, INT64_MAX, &p->job.n, err) < 0 || parse_i64(value, -PRIORITY_MAX, PRIORITY_MAX, &p->priority, err) < 0)
            return in_field(err, "priorities");
    }
    w->priorities = all;
    return 0;
}

int whatif_trial(struct arena *a, struct bytes text, struct bytes user, struct whatif *w, struct err *err)
{
    void *room;
    char *rest = list(a, text, ',', sizeof *w->trial, &room, "trial", err);
    struct whatif_trial *t = room;
    if (!rest)
        return -(int)err->code;
    *t = (struct whatif_trial){ .user = user, .queue = bytes_str("default"), .account = bytes_str("default"), .need.v[RES_CPU] = 1000 };
    for (char *pair; (pair = item(&rest, ','));) {
        char *value = value_of(pair);
        int rc = value ? resource(pair, value, &t->need, err) : 1;
        if (rc < 0)
            return in_field(err, "trial");
        if (rc == 0)
            continue;
        if (value && strcmp(pair, "where") == 0) {
            t->where = bytes_str(value);
            if (where_check(t->where, err) < 0)
                return in_field(err, "trial");
            continue;
        }
        struct bytes *name = strcmp(pair, "queue") == 0 ? &t->queue : strcmp(pair, "account") == 0 ? &t->account : NULL;
        if (value && name) {
            *name = bytes_str(value);
            rc = parse_name_ok(*name, 64) ? 0 : err_field(err, ERR_INVALID, "trial", "1 to 64 bytes without control characters", "this is no name of a %s", pair);
        } else if (value && strcmp(pair, "time") == 0) {
            rc = parse_duration(value, &t->time_limit_ms, err) < 0 ? in_field(err, "trial") : 0;
        } else if (value && strcmp(pair, "nodes") == 0) {
            uint64_t nodes = 1;
            rc = parse_u64(value, 1, GANG_NODES_MAX, &nodes, err) < 0 ? in_field(err, "trial") : 0;
            t->nodes = (uint32_t)nodes;
        } else if (value && strcmp(pair, "priority") == 0) {
            rc = parse_i64(value, -PRIORITY_MAX, PRIORITY_MAX, &t->priority, err) < 0 ? in_field(err, "trial") : 0;
        } else {
            rc = err_field(err, ERR_INVALID, "trial", "write cpus=4,mem=8G,gpus=1,nodes=2,time=1h,where=EXPR,queue=Q,account=A,priority=N, or some of these",
                           "\"%.60s\" is not known", pair);
        }
        if (rc < 0)
            return rc;
    }
    w->trial = t;
    return 0;
}
