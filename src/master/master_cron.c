/* Jobs that come again: what is set of them, and submitting them when they are due.
 *
 * The brain keeps the entries and sees to it that each due time is dealt with once (core/sched/sched_cron.c): a master that was killed goes on
 * behind the last one that is in the journal. Here is what needs a clock and time zones. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/parse.h"
#include "calendar/cron.h"
#include "calendar/zone.h"
#include "master/body.h"
#include "master/master_int.h"
#include "obs/log.h"

#define LOOK_MS 60000      /* a jump of the wall clock is noticed within this time */
#define AGAIN_MS 1000      /* the store takes nothing now */
#define LATE_MS 60000      /* what is due is not yet called missed */
#define COUNTED_MAX 1000u  /* missed due times are counted up to this */
#define FIRES_MAX 100u     /* submitted in one turn of the loop */
#define NEXT_TOLD 3

/* Of one entry, by its place among them. */
struct due {
    struct cron cron;
    struct zone *zone;     /* NULL: its schedule or zone is not understood (any more): `err` */
    int64_t next_wall_ms;
    struct err err;
};

struct crons {
    struct due *dues;
    size_t count;
    bool read;
    uint64_t changed;      /* sched_view_crons_changed when they were read */
    int64_t look_at_ms;    /* CLOCK_BOOTTIME */
};

static void dues_free(struct crons *c)
{
    for (size_t i = 0; i < c->count; i++)
        zone_close(c->dues[i].zone);
    free(c->dues);
    c->dues = NULL;
    c->count = 0;
}

struct crons *crons_new(void)
{
    return mem_zero(1, sizeof(struct crons));
}

void crons_free(struct crons *c)
{
    if (!c)
        return;
    dues_free(c);
    free(c);
}

/* --- due times --- */

static int64_t next_after(const struct due *d, int64_t wall_ms)
{
    struct cron_clock clock = { zone_offset, d->zone };
    int64_t second = wall_ms >= 0 ? wall_ms / 1000 : (wall_ms - 999) / 1000, next = cron_next(&d->cron, &clock, second);
    return next == CRON_NEVER ? INT64_MAX : next * 1000;
}

static int due_open(struct due *d, const struct cron_settings *set, int64_t after_wall_ms, struct err *err)
{
    *d = (struct due){ .next_wall_ms = INT64_MAX };
    if (cron_parse(set->schedule, &d->cron, err) < 0 || zone_open(set->zone, &d->zone, err) < 0)
        return -(int)err->code;
    d->next_wall_ms = next_after(d, after_wall_ms);
    return 0;
}

/* Due times in (from, to], counted up to COUNTED_MAX; *last is the last one, *before the one before it or `from`. */
static uint32_t count_due(const struct due *d, int64_t from_ms, int64_t to_ms, int64_t *last, int64_t *before)
{
    uint32_t count = 0;
    *last = *before = from_ms;
    for (int64_t at = next_after(d, from_ms); at <= to_ms && count < COUNTED_MAX; at = next_after(d, at), count++)
        *before = *last, *last = at;
    if (count < COUNTED_MAX)
        return count;
    /* Too many to go through: the last ones are looked for from behind. */
    static const int64_t windows_ms[] = { 3600000, 86400000, 32 * 86400000ll, 400 * 86400000ll };
    for (size_t i = 0; i < sizeof windows_ms / sizeof *windows_ms; i++) {
        const int64_t first = next_after(d, to_ms - windows_ms[i]);
        if (first > to_ms)
            continue;
        *before = first - 1; /* stands for whatever was due before it */
        for (int64_t at = first; at <= to_ms; at = next_after(d, at)) {
            if (at != first)
                *before = *last;
            *last = at;
        }
        break;
    }
    return count;
}

/* --- submitting --- */

static void pass(struct master *m, struct bytes name, int64_t due_wall_ms, uint32_t count, enum cron_pass passed_for, struct bytes text)
{
    struct sched_event ev = { .kind = SCHED_CRON_PASS };
    ev.cron_pass.name = name;
    ev.cron_pass.due_wall_ms = due_wall_ms;
    ev.cron_pass.count = count;
    ev.cron_pass.passed_for = passed_for;
    ev.cron_pass.text = text;
    struct sched_result result;
    master_step(m, &ev, &result);
    if (result.err.code)
        log_error("cron entry=%.*s: %s", (int)name.size, name.data, result.err.text);
}

static void submit(struct master *m, const struct cron_view *v, int64_t due_wall_ms)
{
    struct auth_identity who = { .role = API_ROLE_SUBMITTER };
    struct err err = { 0 };
    job_id job = { 0 };
    memcpy(who.user, v->settings.user.data, v->settings.user.size);
    const struct bytes name = v->name;
    if (submit_cron(m, &who, name, due_wall_ms, v->settings.spec, &job, &err) < 0) {
        log_warn("cron entry=%.*s: its job was refused: %s%s%s", (int)name.size, name.data, err.field, err.field[0] ? ": " : "", err.text);
        pass(m, name, due_wall_ms, 1, CRON_PASS_REFUSED, bytes_str(err.text));
    } else if (job.n) {
        log_info("cron entry=%.*s job=%" PRIu64, (int)name.size, name.data, job.n);
    }
}

/* Deals with what of the entry is due. Returns how many were submitted, at most `most`. */
static uint32_t fire(struct master *m, size_t i, uint32_t most)
{
    struct due *d = &m->crons->dues[i];
    struct cron_view v;
    sched_view_cron(m->sched, i, &v);
    int64_t last = 0, before = 0;
    uint32_t fired = 0, count = v.settings.missed == CRON_ALL ? 0 : count_due(d, v.last_wall_ms, m->wall_ms, &last, &before);
    if (v.settings.missed == CRON_ALL) {
        for (int64_t at = next_after(d, v.last_wall_ms); at <= m->wall_ms && fired < most; at = next_after(d, at), fired++) {
            submit(m, &v, at);
            sched_view_cron(m->sched, i, &v);
        }
    } else if (count && v.settings.missed == CRON_NONE && m->wall_ms - last > LATE_MS) {
        pass(m, v.name, last, count, CRON_PASS_MISSED, bytes_of("", 0));
    } else if (count) {
        if (count > 1)
            pass(m, v.name, before, count - 1, CRON_PASS_MISSED, bytes_of("", 0));
        sched_view_cron(m->sched, i, &v);
        submit(m, &v, last);
        fired = 1;
    }
    sched_view_cron(m->sched, i, &v);
    d->next_wall_ms = next_after(d, v.last_wall_ms);
    return fired;
}

static void read_all(struct master *m)
{
    struct crons *c = m->crons;
    dues_free(c);
    c->changed = sched_view_crons_changed(m->sched);
    c->read = true;
    c->count = sched_view_crons(m->sched);
    c->dues = c->count ? mem_zero(c->count, sizeof *c->dues) : NULL;
    for (size_t i = 0; i < c->count; i++) {
        struct cron_view v;
        sched_view_cron(m->sched, i, &v);
        if (due_open(&c->dues[i], &v.settings, v.last_wall_ms, &c->dues[i].err) < 0)
            log_error("cron entry=%.*s: %s", (int)v.name.size, v.name.data, c->dues[i].err.text);
        if (v.settings.paused)
            c->dues[i].next_wall_ms = INT64_MAX;
    }
}

static void read_changes(struct master *m)
{
    if (!m->crons->read || m->crons->changed != sched_view_crons_changed(m->sched))
        read_all(m);
}

void crons_run(struct master *m)
{
    struct crons *c = m->crons;
    int64_t now_ms = master_now_ms(m), next_wall_ms = INT64_MAX;
    uint32_t fired = 0;
    if (!m->ready || m->stopping || (c->read && c->changed == sched_view_crons_changed(m->sched) && now_ms < c->look_at_ms))
        return;
    read_changes(m);
    c->look_at_ms = now_ms + LOOK_MS;
    if (!c->count)
        return;
    if (m->store_low || master_full(m)) {
        c->look_at_ms = now_ms + AGAIN_MS;
        return;
    }
    for (size_t i = 0; i < c->count; i++) {
        if (c->dues[i].next_wall_ms <= m->wall_ms && fired < FIRES_MAX)
            fired += fire(m, i, FIRES_MAX - fired);
        if (c->dues[i].next_wall_ms < next_wall_ms)
            next_wall_ms = c->dues[i].next_wall_ms;
    }
    int64_t left_ms = next_wall_ms - m->wall_ms;
    if (next_wall_ms != INT64_MAX && left_ms < LOOK_MS)
        c->look_at_ms = now_ms + (left_ms > 0 ? left_ms : 0);
}

int64_t crons_due_ms(const struct master *m)
{
    const struct crons *c = m->crons;
    if (!m->ready || m->stopping)
        return INT64_MAX;
    return c->read && c->changed == sched_view_crons_changed(m->sched) ? (c->count ? c->look_at_ms : INT64_MAX) : 0;
}

/* --- telling --- */

static void next_json(struct json_out *j, const struct due *d, bool paused, int64_t after_wall_ms)
{
    json_open(j, "next", '[');
    int64_t at = after_wall_ms;
    for (int i = 0; i < NEXT_TOLD && d->zone && !paused; i++) {
        at = next_after(d, at);
        if (at == INT64_MAX)
            break;
        json_time(j, NULL, at);
    }
    json_close(j, ']');
    if (d->zone)
        json_null(j, "problem");
    else
        json_cstr(j, "problem", d->err.text);
}

static void cron_json(struct master *m, struct json_out *j, const struct cron_view *v)
{
    const struct cron_settings *set = &v->settings;
    struct due due;
    struct err err = { 0 };
    json_str(j, "name", v->name);
    json_str(j, "user", set->user);
    json_str(j, "schedule", set->schedule);
    json_str(j, "zone", set->zone);
    json_choice(j, "overlap", set->overlap, CRON_OVERLAP_WORDS);
    json_choice(j, "missed", set->missed, CRON_MISSED_WORDS);
    json_bool(j, "paused", set->paused);
    json_id(j, "last_job", v->last.n);
    json_bool(j, "last_job_open", v->active);
    json_u64(j, "submitted", v->submitted);
    json_u64(j, "passed", v->passed);
    if (v->passed_for) {
        json_open(j, "last_passed", '{');
        json_time(j, "due", v->passed_wall_ms);
        json_choice(j, "reason", v->passed_for, CRON_PASS_WORDS);
        json_bytes(j, "text", v->passed_text);
        json_close(j, '}');
    } else {
        json_null(j, "last_passed");
    }
    if (due_open(&due, set, m->wall_ms, &err) < 0)
        due.err = err;
    next_json(j, &due, set->paused, v->last_wall_ms > m->wall_ms ? v->last_wall_ms : m->wall_ms);
    zone_close(due.zone);
    json_raw(j, "job", set->spec);
}

void api_cron_list(struct exchange *x)
{
    struct json_out j = json_out_to(&x->answer);
    master_now_ms(x->m);
    json_open(&j, NULL, '{');
    json_open(&j, "entries", '[');
    for (size_t i = 0; i < sched_view_crons(x->m->sched); i++) {
        struct cron_view v;
        sched_view_cron(x->m->sched, i, &v);
        json_open(&j, NULL, '{');
        cron_json(x->m, &j, &v);
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_close(&j, '}');
    exchange_json(x, 200);
}

static void answer(struct exchange *x, const bool *changed)
{
    struct cron_view v;
    struct err err;
    master_now_ms(x->m);
    if (!sched_view_cron_named(x->m->sched, bytes_str(x->arg), &v)) {
        err_field(&err, ERR_NOT_FOUND, "name", "`rota cron ls` lists them", "there is no entry \"%s\" of jobs that come again", x->arg);
        exchange_error(x, &err);
        return;
    }
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    cron_json(x->m, &j, &v);
    if (changed)
        json_bool(&j, "changed", *changed);
    json_close(&j, '}');
    exchange_json(x, 200);
}

void api_cron_show(struct exchange *x)
{
    answer(x, NULL);
}

/* --- changing --- */

enum { F_SCHEDULE, F_ZONE, F_OVERLAP, F_MISSED, F_PAUSED, F_JOB, FIELDS };

static int choice(const struct body_field *f, const char *words, int *place, struct err *err)
{
    if (f->given && (*place = parse_choice(f->text, words)) < 0)
        return err_field(err, ERR_INVALID, f->name, words, "\"%.32s\" is none of %s", f->text.data, words);
    return 0;
}

/* Whose entry it is may change it; an operator may pause what is another's, an admin may do all. */
static int allowed(const struct exchange *x, const struct cron_view *v, bool only_pause, struct err *err)
{
    if (bytes_equal(v->settings.user, bytes_str(x->who->user)) || x->who->role >= API_ROLE_ADMIN || (only_pause && x->who->role >= API_ROLE_OPERATOR))
        return 0;
    return err_field(err, ERR_DENIED, "name", "ask its owner or an admin", "\"%s\" belongs to %.*s", x->arg, (int)v->settings.user.size,
                     v->settings.user.data);
}

static int check_times(struct master *m, const struct cron_settings *set, struct err *err)
{
    struct due due;
    int rc = due_open(&due, set, m->wall_ms, err);
    if (rc == 0 && due.next_wall_ms == INT64_MAX)
        rc = err_field(err, ERR_INVALID, "schedule", "look at its day and month", "that time never comes");
    zone_close(due.zone);
    return rc;
}

static int read_settings(struct exchange *x, bool there, const struct cron_view *v, struct cron_settings *set, struct err *err)
{
    struct body_field fields[FIELDS] = {
        [F_SCHEDULE] = { .name = "schedule", .type = BODY_TEXT, .required = !there, .max = CRON_BYTES_MAX },
        [F_ZONE] = { .name = "zone", .type = BODY_TEXT, .max = ZONE_BYTES_MAX },
        [F_OVERLAP] = { .name = "overlap", .type = BODY_TEXT, .max = 32 },
        [F_MISSED] = { .name = "missed", .type = BODY_TEXT, .max = 32 },
        [F_PAUSED] = { .name = "paused", .type = BODY_BOOL },
        [F_JOB] = { .name = "job", .type = BODY_OBJECT, .required = !there },
    };
    struct master *m = x->m;
    int overlap = set->overlap, missed = set->missed;
    if (body_read(&m->turn, buf_bytes(&x->body), fields, FIELDS, err) < 0 || choice(&fields[F_OVERLAP], CRON_OVERLAP_WORDS, &overlap, err) < 0 ||
        choice(&fields[F_MISSED], CRON_MISSED_WORDS, &missed, err) < 0)
        return -(int)err->code;
    bool only_pause = true;
    for (int i = 0; i < FIELDS; i++)
        only_pause &= i == F_PAUSED || !fields[i].given;
    if (there && allowed(x, v, only_pause, err) < 0)
        return -(int)err->code;
    set->overlap = (enum cron_overlap)overlap;
    set->missed = (enum cron_missed)missed;
    if (fields[F_SCHEDULE].given)
        set->schedule = fields[F_SCHEDULE].text;
    if (fields[F_ZONE].given)
        set->zone = fields[F_ZONE].text;
    if (fields[F_PAUSED].given)
        set->paused = fields[F_PAUSED].integer != 0;
    if (fields[F_JOB].given) {
        struct auth_identity owner = *x->who;
        if (there)
            snprintf(owner.user, sizeof owner.user, "%.*s", (int)v->settings.user.size, v->settings.user.data);
        set->spec = fields[F_JOB].text;
        if (submit_check(m, &owner, set->spec, &set->user, err) < 0) {
            char field[sizeof err->field];
            snprintf(field, sizeof field, "job%s%.80s", err->field[0] ? "." : "", err->field);
            memcpy(err->field, field, sizeof field);
            return -(int)err->code;
        }
    }
    return check_times(m, set, err);
}

static void step(struct exchange *x, enum sched_event_kind kind, const struct cron_settings *set, struct sched_result *result)
{
    struct sched_event ev = { .kind = kind };
    ev.cron.name = bytes_str(x->arg);
    ev.cron.actor = bytes_str(x->who->user);
    ev.cron.settings = set;
    master_step(x->m, &ev, result);
}

void api_cron_set(struct exchange *x)
{
    struct cron_settings set = { .zone = bytes_str(ZONE_UTC) };
    struct cron_view v;
    struct err err;
    struct sched_result result;
    bool there = sched_view_cron_named(x->m->sched, bytes_str(x->arg), &v);
    master_now_ms(x->m);
    if (there)
        set = v.settings;
    if (!parse_name_ok(bytes_str(x->arg), 64)) {
        err_field(&err, ERR_INVALID, "name", "use 1 to 64 bytes of printable UTF-8", "this is no name of an entry");
        exchange_error(x, &err);
        return;
    }
    if (x->m->store_low ? submit_no_space(&err) < 0 : read_settings(x, there, &v, &set, &err) < 0) {
        exchange_error(x, &err);
        return;
    }
    step(x, SCHED_CRON_SET, &set, &result);
    if (result.err.code)
        exchange_error(x, &result.err);
    else
        answer(x, &result.changed);
}

void api_cron_remove(struct exchange *x)
{
    struct cron_view v;
    struct err err;
    struct sched_result result;
    if (sched_view_cron_named(x->m->sched, bytes_str(x->arg), &v) && allowed(x, &v, false, &err) < 0) {
        exchange_error(x, &err);
        return;
    }
    step(x, SCHED_CRON_REMOVE, NULL, &result);
    if (result.err.code) {
        exchange_error(x, &result.err);
        return;
    }
    struct json_out j = json_out_to(&x->answer);
    json_open(&j, NULL, '{');
    json_bool(&j, "removed", true);
    json_close(&j, '}');
    exchange_json(x, 200);
}
