/* Jobs that come again. When one is due is the shell's to know (calendar/cron.h); that each due time is dealt with once, and what is done
 * when the job before it still runs, is decided here: SUBMITTED names the entry and the due time, CRON_PASSED says that none was submitted. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bug.h"
#include "core/sched/sched_state.h"

/* The place of the name among the entries, or where it would be. */
static size_t place_of(const struct sched *s, struct bytes name, bool *there)
{
    size_t low = 0, high = s->crons_count;
    *there = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = bytes_compare(s->crons[middle]->name, name);
        if (order == 0) {
            *there = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct cron_entry *named(const struct sched *s, struct bytes name)
{
    bool there;
    size_t place = place_of(s, name, &there);
    return there ? s->crons[place] : NULL;
}

static void entry_free(struct cron_entry *c)
{
    free((char *)c->name.data);
    free((char *)c->set.user.data);
    free((char *)c->set.schedule.data);
    free((char *)c->set.zone.data);
    free((char *)c->set.spec.data);
    free((char *)c->passed_text.data);
    free(c);
}

void sched_cron_fini(struct sched *s)
{
    for (size_t i = 0; i < s->crons_count; i++)
        entry_free(s->crons[i]);
    free(s->crons);
}

/* --- applying --- */

int sched_cron_apply(struct sched *s, const struct ev_cron *e, struct err *err)
{
    bool there;
    size_t place = place_of(s, e->name, &there);
    if (!e->name.size || e->overlap >= CRON_OVERLAPS || e->missed >= CRON_MISSEDS || e->passed_for >= CRON_PASSES)
        return err_set(err, ERR_CORRUPT, "an entry of jobs that come again is wrong");
    if (!there) {
        s->crons = mem_grow(s->crons, &s->crons_cap, s->crons_count + 1, sizeof *s->crons);
        memmove(s->crons + place + 1, s->crons + place, (s->crons_count - place) * sizeof *s->crons);
        s->crons[place] = mem_zero(1, sizeof **s->crons);
        s->crons_count++;
    }
    struct cron_entry *c = s->crons[place];
    c->name = sched_own(c->name, e->name);
    c->set.user = sched_own(c->set.user, e->user);
    c->set.schedule = sched_own(c->set.schedule, e->schedule);
    c->set.zone = sched_own(c->set.zone, e->zone);
    c->set.spec = sched_own(c->set.spec, e->spec);
    c->set.overlap = (enum cron_overlap)e->overlap;
    c->set.missed = (enum cron_missed)e->missed;
    c->set.paused = e->paused != 0;
    c->last_wall_ms = e->from_wall_ms;
    c->last.n = e->last;
    c->submitted = e->submitted;
    c->passed = e->passed;
    c->passed_for = (enum cron_pass)e->passed_for;
    c->passed_wall_ms = e->passed_wall_ms;
    c->passed_text = sched_own(c->passed_text, e->passed_text);
    s->crons_changed++;
    return 0;
}

int sched_cron_apply_removed(struct sched *s, const struct ev_cron_removed *e, struct err *err)
{
    bool there;
    size_t place = place_of(s, e->name, &there);
    if (!there)
        return err_set(err, ERR_CORRUPT, "an entry that is not there was removed");
    entry_free(s->crons[place]);
    s->crons_count--;
    memmove(s->crons + place, s->crons + place + 1, (s->crons_count - place) * sizeof *s->crons);
    s->crons_changed++;
    return 0;
}

/* Each due time once: they only rise. */
static struct cron_entry *due_entry(struct sched *s, struct bytes name, int64_t due_wall_ms, struct err *err)
{
    struct cron_entry *c = named(s, name);
    if (c && (due_wall_ms > c->last_wall_ms || BUG(due_again)))
        return c;
    err_set(err, ERR_CORRUPT, c ? "a due time of \"%.*s\" was dealt with before" : "there is no entry \"%.*s\" of jobs that come again",
            (int)name.size, name.data);
    return NULL;
}

int sched_cron_apply_passed(struct sched *s, const struct ev_cron_passed *e, struct err *err)
{
    struct cron_entry *c = due_entry(s, e->name, e->due_wall_ms, err);
    if (!c || e->passed_for >= CRON_PASSES)
        return c ? err_set(err, ERR_CORRUPT, "a due time was passed over for nothing") : -(int)err->code;
    c->last_wall_ms = e->due_wall_ms;
    c->passed += e->count;
    c->passed_for = (enum cron_pass)e->passed_for;
    c->passed_wall_ms = e->due_wall_ms;
    c->passed_text = sched_own(c->passed_text, e->text);
    return 0;
}

int sched_cron_apply_submitted(struct sched *s, const struct ev_submitted *e, struct err *err)
{
    struct cron_entry *c = due_entry(s, e->cron, e->due_wall_ms, err);
    if (!c)
        return -(int)err->code;
    c->last_wall_ms = e->due_wall_ms;
    c->last.n = e->job;
    c->submitted++;
    return 0;
}

/* All of it; borrows. */
static struct record record_of(const struct cron_entry *c)
{
    return (struct record){ .kind = EV_CRON,
                            .cron = { .name = c->name,
                                      .user = c->set.user,
                                      .schedule = c->set.schedule,
                                      .zone = c->set.zone,
                                      .overlap = c->set.overlap,
                                      .missed = c->set.missed,
                                      .paused = c->set.paused,
                                      .spec = c->set.spec,
                                      .from_wall_ms = c->last_wall_ms,
                                      .last = c->last.n,
                                      .submitted = c->submitted,
                                      .passed = c->passed,
                                      .passed_for = c->passed_for,
                                      .passed_wall_ms = c->passed_wall_ms,
                                      .passed_text = c->passed_text } };
}

void sched_cron_record(const struct sched *s, size_t i, struct record *r)
{
    *r = record_of(s->crons[i]);
}

/* --- commands --- */

static bool same(const struct cron_settings *a, const struct cron_settings *b)
{
    return bytes_equal(a->user, b->user) && bytes_equal(a->schedule, b->schedule) && bytes_equal(a->zone, b->zone) &&
           bytes_equal(a->spec, b->spec) && a->overlap == b->overlap && a->missed == b->missed && a->paused == b->paused;
}

void sched_cron_set(struct sched *s, const struct sched_event *ev, struct sched_result *result)
{
    const struct cron_settings *set = ev->cron.settings;
    const struct cron_entry *c = named(s, ev->cron.name);
    check(set->overlap < CRON_OVERLAPS && set->missed < CRON_MISSEDS);
    if (!ev->cron.name.size || ev->cron.name.size > 64 || !set->user.size || set->user.size > 64 || !set->schedule.size || set->schedule.size > 256 ||
        !set->zone.size || set->zone.size > 64) {
        err_field(&result->err, ERR_INVALID, "name", NULL, "name, user, schedule and zone are missing or too long");
        return;
    }
    if (set->spec.size > CRON_SPEC_MAX) {
        err_field(&result->err, ERR_TOO_LARGE, "job", "put what is long into a script", "the job is longer than %u bytes", CRON_SPEC_MAX);
        return;
    }
    if (!c && s->crons_count >= CRONS_MAX) {
        err_field(&result->err, ERR_FULL, "name", "remove one, or let one entry submit an array", "there are %zu entries already, more can not be", s->crons_count);
        return;
    }
    if (c && same(&c->set, set))
        return;
    bool from_now = !c || (c->set.paused && !set->paused) || !bytes_equal(c->set.schedule, set->schedule) || !bytes_equal(c->set.zone, set->zone);
    struct cron_entry now = c ? *c : (struct cron_entry){ 0 };
    now.name = arena_bytes(&s->turn, ev->cron.name);
    now.set = *set;
    now.set.user = arena_bytes(&s->turn, set->user);
    now.set.schedule = arena_bytes(&s->turn, set->schedule);
    now.set.zone = arena_bytes(&s->turn, set->zone);
    now.set.spec = arena_bytes(&s->turn, set->spec);
    now.passed_text = arena_bytes(&s->turn, now.passed_text);
    if (from_now && s->wall_ms > now.last_wall_ms)
        now.last_wall_ms = s->wall_ms;
    struct record r = record_of(&now);
    r.cron.actor = arena_bytes(&s->turn, ev->cron.actor);
    sched_emit(s, &r);
    result->changed = true;
}

static struct cron_entry *command_entry(struct sched *s, struct bytes name, struct sched_result *result)
{
    struct cron_entry *c = named(s, name);
    if (!c)
        err_field(&result->err, ERR_NOT_FOUND, "name", "`rota cron ls` lists them", "there is no entry \"%.*s\" of jobs that come again", (int)name.size, name.data);
    return c;
}

void sched_cron_remove(struct sched *s, const struct sched_event *ev, struct sched_result *result)
{
    if (!command_entry(s, ev->cron.name, result))
        return;
    struct record r = { .kind = EV_CRON_REMOVED };
    r.cron_removed = (struct ev_cron_removed){ arena_bytes(&s->turn, ev->cron.name), arena_bytes(&s->turn, ev->cron.actor) };
    sched_emit(s, &r);
    result->changed = true;
}

static bool not_dealt_with(const struct cron_entry *c, int64_t due_wall_ms, struct sched_result *result)
{
    if (!c->set.paused && (due_wall_ms > c->last_wall_ms || BUG(due_again)))
        return true;
    err_field(&result->err, ERR_CONFLICT, "name", NULL, c->set.paused ? "\"%.*s\" is paused" : "this due time of \"%.*s\" was dealt with before",
              (int)c->name.size, c->name.data);
    return false;
}

static void pass(struct sched *s, struct bytes name, int64_t due_wall_ms, uint32_t count, enum cron_pass passed_for, struct bytes text)
{
    struct record r = { .kind = EV_CRON_PASSED };
    r.cron_passed = (struct ev_cron_passed){ arena_bytes(&s->turn, name), due_wall_ms, count, passed_for, arena_bytes(&s->turn, text) };
    sched_emit(s, &r);
}

void sched_cron_pass(struct sched *s, const struct sched_event *ev, struct sched_result *result)
{
    const struct cron_entry *c = command_entry(s, ev->cron_pass.name, result);
    if (!c || !not_dealt_with(c, ev->cron_pass.due_wall_ms, result))
        return;
    pass(s, c->name, ev->cron_pass.due_wall_ms, ev->cron_pass.count, ev->cron_pass.passed_for, ev->cron_pass.text);
    result->changed = true;
}

static struct job *still_there(const struct sched *s, const struct cron_entry *c)
{
    struct job *j = sched_job(s, c->last);
    return j && !job_state_terminal(j->state) ? j : NULL;
}

enum cron_turn sched_cron_turn(struct sched *s, struct job_request *q, job_id *before, struct sched_result *result)
{
    const struct cron_entry *c = command_entry(s, q->cron, result);
    if (!c || !not_dealt_with(c, q->due_wall_ms, result))
        return CRON_TURN_NONE;
    const struct job *last = still_there(s, c);
    if (!last || c->set.overlap == CRON_ALLOW)
        return CRON_TURN_GO;
    *before = last->id;
    if (c->set.overlap == CRON_REPLACE)
        return CRON_TURN_REPLACE;
    if (c->set.overlap == CRON_WAIT) {
        struct after *after = arena_alloc(&s->turn, (q->after_count + 1) * sizeof *after);
        for (size_t i = 0; i < q->after_count; i++)
            after[i] = q->after[i];
        after[q->after_count] = (struct after){ last->id, AFTER_ANY };
        q->after = after;
        q->after_count++;
        return CRON_TURN_GO;
    }
    char text[64];
    snprintf(text, sizeof text, "job %" PRIu64 " has not ended", last->id.n);
    pass(s, c->name, q->due_wall_ms, 1, CRON_PASS_OVERLAP, bytes_str(text));
    result->changed = true;
    return CRON_TURN_NONE;
}

/* --- views --- */

size_t sched_view_crons(const struct sched *s)
{
    return s->crons_count;
}

uint64_t sched_view_crons_changed(const struct sched *s)
{
    return s->crons_changed;
}

void sched_view_cron(const struct sched *s, size_t i, struct cron_view *out)
{
    const struct cron_entry *c = s->crons[i];
    *out = (struct cron_view){ .name = c->name,
                               .settings = c->set,
                               .last_wall_ms = c->last_wall_ms,
                               .last = c->last,
                               .active = still_there(s, c),
                               .submitted = c->submitted,
                               .passed = c->passed,
                               .passed_for = c->passed_for,
                               .passed_wall_ms = c->passed_wall_ms,
                               .passed_text = c->passed_text };
}

bool sched_view_cron_named(const struct sched *s, struct bytes name, struct cron_view *out)
{
    bool there;
    size_t place = place_of(s, name, &there);
    if (there)
        sched_view_cron(s, place, out);
    return there;
}
