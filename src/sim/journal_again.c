#include "sim/journal_again.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/mem.h"
#include "core/sched/sched_again.h"
#include "store/store.h"

#define CYCLES_MAX 100000u /* for the starts of one moment */

struct again {
    const struct sched_config *config;
    struct sched *s;
    uint64_t epoch;
    struct buf journal;            /* all records so far, encoded */
    struct buf early; size_t early_at; /* what it noted itself when it began to lead, encoded without number and time: the journal has it, too */
    struct buf group;              /* records ASSIGNED of one moment, encoded */
    int64_t group_wall_ms;
    struct record *made; size_t made_count, made_cap; /* started again at that moment */
    struct again_result *result;
};

static int each_of(struct bytes records, int (*visit)(struct again *a, const struct record *r, struct err *err), struct again *a, struct err *err)
{
    const uint8_t *at = (const uint8_t *)records.data, *end = at + records.size;
    while (at < end) {
        struct record r;
        int rc = record_decode(&at, end, &r, err);
        if (rc == 0)
            rc = visit(a, &r, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int apply(struct again *a, const struct record *r, struct err *err)
{
    return sched_apply(a->s, r, err);
}

static void encode_plain(struct buf *out, const struct record *r)
{
    struct record plain = *r;
    plain.seq = 0;
    plain.at_wall_ms = 0;
    record_encode(out, &plain);
}

static bool made_already(struct again *a, const struct record *r)
{
    autobuf struct buf plain = BUF_INIT;
    if (a->early_at == a->early.size)
        return false;
    encode_plain(&plain, r);
    if (a->early.size - a->early_at < plain.size || memcmp(a->early.data + a->early_at, plain.data, plain.size) != 0)
        return false;
    a->early_at += plain.size;
    return true;
}

/* A master that begins: it has read what there is. */
static int lead(struct again *a, int64_t wall_ms, struct err *err)
{
    struct effects fx;
    sched_free(a->s);
    a->s = sched_new(a->config);
    int rc = each_of(buf_bytes(&a->journal), apply, a, err);
    if (rc < 0)
        return rc;
    sched_start(a->s, a->epoch, "again", 1, wall_ms, wall_ms, &fx);
    buf_clear(&a->early);
    a->early_at = 0;
    for (size_t i = 0; i < fx.records_count; i++)
        if (fx.records[i].kind != EV_EPOCH)
            encode_plain(&a->early, &fx.records[i]);
    return 0;
}

static bool same_start(const struct record *x, const struct record *y)
{
    const struct ev_assigned *a = &x->assigned, *b = &y->assigned;
    return a->job == b->job && a->task == b->task && a->attempt == b->attempt && a->node == b->node && a->ahead == b->ahead &&
           (a->rule == b->rule || !a->rule) && (a->over == b->over || !a->rule); /* Older journals do not tell the rule. */
}

static void tell(struct again *a, const struct record *was, const struct record *now)
{
    struct buf *told = &a->result->told;
    if (a->result->starts - a->result->same > AGAIN_TOLD)
        return;
    buf_printf(told, "record %" PRIu64 ": ", was->seq);
    record_print(told, was);
    buf_str(told, "; again: ");
    if (now)
        record_print(told, now);
    else
        buf_str(told, "nothing is started");
    buf_char(told, '\n');
}

/* Returns how many it starts. */
static size_t cycle(struct again *a)
{
    struct effects fx;
    size_t before = a->made_count;
    sched_again_cycle(a->s, &fx);
    for (size_t i = 0; i < fx.records_count; i++)
        if (fx.records[i].kind == EV_ASSIGNED) { /* no text in it */
            a->made = mem_grow(a->made, &a->made_cap, a->made_count + 1, sizeof *a->made);
            a->made[a->made_count++] = fx.records[i];
        }
    return a->made_count - before;
}

/* The starts of one moment, asked for again. */
static int compare_group(struct again *a, struct err *err)
{
    size_t wanted = 0, at_made = 0, matched = 0;
    const uint8_t *at = (const uint8_t *)a->group.data, *end = at + a->group.size;
    struct record r;
    for (const uint8_t *look = at; look < end && record_decode(&look, end, &r, err) == 0;)
        wanted++;
    sched_again_at(a->s, a->group_wall_ms);
    for (unsigned cycles = 0; a->made_count < wanted && cycles < CYCLES_MAX && cycle(a); cycles++)
        ;
    while (at < end && record_decode(&at, end, &r, err) == 0) {
        size_t found = at_made;
        while (found < a->made_count && !same_start(&r, &a->made[found]))
            found++;
        bool same = found < a->made_count;
        *(r.assigned.ahead ? &a->result->ahead : &a->result->starts) += 1;
        *(r.assigned.ahead ? &a->result->ahead_same : &a->result->same) += same;
        matched += same;
        if (!same && !r.assigned.ahead)
            tell(a, &r, at_made < a->made_count ? &a->made[at_made] : NULL);
        at_made = same ? found + 1 : at_made;
    }
    bool differs = matched != wanted || a->made_count != wanted;
    a->made_count = 0;
    buf_add(&a->journal, a->group.data, a->group.size);
    buf_clear(&a->group);
    if (!differs)
        return 0;
    a->epoch++; /* It goes on from what the journal says. */
    return lead(a, a->group_wall_ms, err);
}

static int take(void *arg, const struct record *r, struct err *err)
{
    struct again *a = arg;
    int rc = 0;
    a->result->records++;
    if (a->group.size && (r->kind != EV_ASSIGNED || r->at_wall_ms != a->group_wall_ms))
        rc = compare_group(a, err);
    if (rc < 0)
        return rc;
    if (r->kind == EV_ASSIGNED) {
        a->group_wall_ms = r->at_wall_ms;
        record_encode(&a->group, r);
        return 0;
    }
    record_encode(&a->journal, r);
    if (r->kind == EV_EPOCH) {
        a->result->masters++;
        a->epoch = r->epoch.epoch + 1; /* that of the record is taken by it */
        return lead(a, r->at_wall_ms, err);
    }
    sched_again_at(a->s, r->at_wall_ms);
    return made_already(a, r) ? 0 : sched_apply(a->s, r, err);
}

static void begin(void *arg)
{
    struct again *a = arg;
    buf_clear(&a->journal);
    buf_clear(&a->group);
    buf_clear(&a->result->told);
    *a->result = (struct again_result){ .told = a->result->told };
    sched_free(a->s);
    a->s = sched_new(a->config);
}

static int finish(void *arg, struct err *err)
{
    struct again *a = arg;
    return a->group.size ? compare_group(a, err) : 0;
}

int journal_again(const char *dir_or_file, const struct sched_config *config, struct again_result *out, struct err *err)
{
    struct again a = { .config = config, .result = out };
    struct store_inspector with = { &a, begin, NULL, NULL, take, finish };
    autobuf struct buf report = BUF_INIT;
    *out = (struct again_result){ 0 };
    int rc = store_sqlite_inspect(dir_or_file, &with, &report, false, err);
    sched_free(a.s);
    buf_fini(&a.journal);
    buf_fini(&a.early);
    free(a.made);
    buf_fini(&a.group);
    return rc;
}
