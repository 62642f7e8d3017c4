#include "core/agent/agent.h"

#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/bug.h"
#include "base/check.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/prng.h"

#define HELLO_MS 2000             /* HELLO is repeated about this often until a master answers */
#define INVENTORY_MS 60000        /* the full list goes out at least this often */
#define ANNOUNCE_MS 20            /* a job that ends sooner needs no word of its start */
#define HEARTBEATS_UNHEARD 3      /* without an answer to so many the session counts as lost */
#define START_HEARTBEATS_MAX 6    /* a START that many heartbeats old is refused */
#define DONE_MAX 1000000u         /* acknowledged attempts remembered at most */
#define SKIP_MAX 16u              /* waiting attempts looked at behind one that does not fit */
#define SKIP_MS 1000              /* and not once the first has waited for so long */
#define HOLDERS_MAX 8u            /* running attempts compared with one that might stand in line behind them */
#define WITHDRAW_MS 5000          /* a withdrawal is repeated about this often */
#define CONTACTS 8u               /* greetings and heartbeats whose time is known: more than a START may be behind */
_Static_assert(CONTACTS > START_HEARTBEATS_MAX, "the time of what a START names is known");

enum attempt_state { AT_WAITING, AT_LINED, AT_SPAWNING, AT_RUNNING, AT_ENDED };
enum kill_stage { KILL_NOT, KILL_TERMED, KILL_KILLED };

struct attempt {
    struct attempt *hash_next;
    struct list_node line;        /* waiting: agent.waiting; in line: agent.lined; spawned, not told: agent.announce */
    struct list_node holder;      /* agent.holders, while it holds */
    struct heap_node due;         /* agent.timers */
    int64_t due_ms;
    struct attempt_ref ref;
    struct mac128 token;
    struct resources need;
    struct bytes spec;            /* owned, until it is spawned */
    struct bytes gpus, cpus;      /* owned: what it was given by number */
    int64_t time_limit_ms, grace_ms;
    int64_t accepted_ms, ttl_ms, started_ms;
    uint32_t index;
    enum attempt_state state;
    enum kill_stage kill;
    enum reason kill_reason;
    int64_t kill_grace_ms;
    bool never_started;
    bool recovered;               /* from the journal, not yet seen at the executor */
    bool holds;                   /* its resources are counted in agent.used */
    bool vacated;                 /* its place is free or another's, its end has not been told */
    bool withdrawn;               /* the executor was told to take it out of line */
    bool exclusive;               /* overlap: never. It runs under the lease */
    unsigned reports;
    struct attempt_result result;
};

/* What was acknowledged or refused, so that a START that comes again changes nothing. */
struct done {
    struct done *hash_next;
    struct attempt_ref ref;
    struct mac128 token;
    bool refused;                 /* NEVER_STARTED is the answer, each time */
    uint64_t at_seq;              /* heartbeat_seq when it was added */
};

struct agent {
    struct agent_config config;
    struct resources capacity, used;
    struct devices gpus, cpus;
    char names[RES_NAMED_MAX][RES_NAME_BYTES];
    struct prng prng;
    int64_t now_ms, wall_ms;

    struct attempt **attempts; size_t slots, count;
    struct done **done; size_t done_slots;
    struct done **done_ring; size_t ring_cap, ring_head, ring_count;
    struct list_node waiting, lined, announce;
    struct list_node holders;     /* the latest first */
    uint32_t lined_count;
    bool stirred;                 /* something changed that may let an attempt start */
    struct heap timers;
    uint64_t digest;
    uint32_t phase_counts[PHASE_ENDED + 1];

    bool link, welcome, draining, space_low, recovering;
    uint64_t epoch, session, nonce, inventory_seq;
    uint64_t greeting_seq;        /* the number of the last greeting */
    int64_t heartbeat_ms, heartbeat_at_ms, hello_at_ms, inventory_at_ms;
    uint64_t heartbeat_seq, heartbeat_acked; /* a greeting has a number too */
    int64_t contact_ms[CONTACTS]; /* when each of the last ones was sent, at its number modulo CONTACTS */
    int64_t lease_ms;             /* how long a contact that the master has heard is good for */
    int64_t lease_until_ms, lease_told_ms; /* it ends then; what the executor was told */
    uint32_t exclusive_count;     /* attempts held under it that have not ended */
    uint64_t cpu_used_milli, mem_used_bytes;
    uint32_t load_milli;
    struct agent_stats stats;

    struct arena turn;
    struct record *records; size_t records_count, records_cap;
    struct send *sends; size_t sends_count, sends_cap;
    struct exec_command *execs; size_t execs_count, execs_cap;
};

void agent_config_default(struct agent_config *c)
{
    *c = (struct agent_config){ .window = 8192, .report_min_ms = 1000, .report_max_ms = 30000, .default_grace_ms = 10000 };
}

static bool due_before(const struct heap_node *a, const struct heap_node *b)
{
    const struct attempt *x = heap_entry(a, struct attempt, due), *y = heap_entry(b, struct attempt, due);
    if (x->due_ms != y->due_ms)
        return x->due_ms < y->due_ms;
    if (x->ref.job.n != y->ref.job.n)
        return x->ref.job.n < y->ref.job.n;
    return x->ref.task != y->ref.task ? x->ref.task < y->ref.task : x->ref.attempt < y->ref.attempt;
}

struct agent *agent_new(const struct agent_config *config, uint64_t seed)
{
    check(config->window >= 1);
    struct agent *a = mem_zero(1, sizeof *a);
    a->config = *config;
    a->capacity = config->capacity;
    for (size_t i = 0; i < config->named_count; i++) {
        memcpy(a->names[i], config->named[i].name, RES_NAME_BYTES);
        a->capacity.v[RES_NAMED + i] = config->named[i].count;
    }
    devices_init(&a->gpus, NULL, (size_t)(config->capacity.v[RES_GPU] + 999) / 1000);
    devices_init(&a->cpus, config->cpu_ids, config->cpu_ids_count);
    prng_seed(&a->prng, seed);
    list_init(&a->waiting);
    list_init(&a->lined);
    list_init(&a->holders);
    list_init(&a->announce);
    heap_init(&a->timers, due_before);
    a->slots = a->done_slots = 1024;
    a->attempts = mem_zero(a->slots, sizeof(*a->attempts));
    a->done = mem_zero(a->done_slots, sizeof(*a->done));
    a->recovering = true;
    a->heartbeat_ms = 5000;
    return a;
}

static void free_devices(struct attempt *t)
{
    free((char *)t->gpus.data);
    free((char *)t->cpus.data);
    t->gpus = t->cpus = (struct bytes){ NULL, 0 };
}

void agent_free(struct agent *a)
{
    if (!a)
        return;
    for (size_t i = 0; i < a->slots; i++)
        for (struct attempt *t = a->attempts[i], *next; t; t = next) {
            next = t->hash_next;
            free((char *)t->spec.data);
            free_devices(t);
            free(t);
        }
    for (size_t i = 0; i < a->ring_count; i++)
        free(a->done_ring[(a->ring_head + i) % a->ring_cap]);
    free(a->attempts);
    free(a->done);
    free(a->done_ring);
    free(a->records);
    free(a->sends);
    free(a->execs);
    heap_fini(&a->timers);
    arena_fini(&a->turn);
    free(a);
}

/* --- tables --- */

static uint64_t hash_ref(struct attempt_ref ref)
{
    return inventory_digest_add(0, ref, PHASE_NONE);
}

static struct attempt *find(const struct agent *a, struct attempt_ref ref)
{
    for (struct attempt *t = a->attempts[hash_ref(ref) & (a->slots - 1)]; t; t = t->hash_next)
        if (attempt_equal(t->ref, ref))
            return t;
    return NULL;
}

static void attempts_grow(struct agent *a)
{
    size_t slots = a->slots * 2;
    struct attempt **grown = mem_zero(slots, sizeof(*grown));
    for (size_t i = 0; i < a->slots; i++)
        for (struct attempt *t = a->attempts[i], *next; t; t = next) {
            next = t->hash_next;
            size_t slot = hash_ref(t->ref) & (slots - 1);
            t->hash_next = grown[slot];
            grown[slot] = t;
        }
    free(a->attempts);
    a->attempts = grown;
    a->slots = slots;
}

static enum attempt_phase phase_of(const struct attempt *t)
{
    switch (t->state) {
    case AT_RUNNING: return PHASE_RUNNING;
    case AT_ENDED: return PHASE_ENDED;
    default: return PHASE_ACCEPTED;
    }
}

static void count_in(struct agent *a, const struct attempt *t)
{
    a->digest = inventory_digest_add(a->digest, t->ref, phase_of(t));
    a->phase_counts[phase_of(t)]++;
}

static void count_out(struct agent *a, const struct attempt *t)
{
    a->digest -= inventory_digest_add(0, t->ref, phase_of(t));
    a->phase_counts[phase_of(t)]--;
}

static void set_state(struct agent *a, struct attempt *t, enum attempt_state state)
{
    check(state > t->state); /* The lattice: never back. */
    count_out(a, t);
    t->state = state;
    count_in(a, t);
}

static void hold(struct agent *a, struct attempt *t)
{
    check(!t->holds);
    t->holds = true;
    list_append(a->holders.next, &t->holder); /* to the front */
    resources_add(&a->used, &t->need);
    devices_claim(&a->gpus, t->gpus, t->need.v[RES_GPU]);
    devices_claim(&a->cpus, t->cpus, t->need.v[RES_CPU]);
}

static void let_go(struct agent *a, struct attempt *t)
{
    if (!t->holds)
        return;
    t->holds = false;
    list_remove(&t->holder);
    a->stirred = true;
    resources_sub(&a->used, &t->need);
    devices_give_back(&a->gpus, t->gpus, t->need.v[RES_GPU]);
    devices_give_back(&a->cpus, t->cpus, t->need.v[RES_CPU]);
}

static void set_due(struct agent *a, struct attempt *t, int64_t due_ms)
{
    if (heap_has(&t->due))
        heap_remove(&a->timers, &t->due);
    t->due_ms = due_ms;
    if (due_ms != INT64_MAX)
        heap_push(&a->timers, &t->due);
}

static struct attempt *attempt_new(struct agent *a, struct attempt_ref ref)
{
    if (a->count >= a->slots)
        attempts_grow(a);
    struct attempt *t = mem_zero(1, sizeof *t);
    t->ref = ref;
    list_init(&t->line);
    list_init(&t->holder);
    heap_node_init(&t->due);
    size_t slot = hash_ref(ref) & (a->slots - 1);
    t->hash_next = a->attempts[slot];
    a->attempts[slot] = t;
    a->count++;
    count_in(a, t);
    return t;
}

static void line_leave(struct agent *a, struct attempt *t)
{
    list_remove(&t->line);
    if (t->state == AT_LINED)
        a->lined_count--;
}

static void set_exclusive(struct agent *a, struct attempt *t, bool on)
{
    a->exclusive_count += on && !t->exclusive;
    a->exclusive_count -= !on && t->exclusive;
    t->exclusive = on;
}

static void attempt_drop(struct agent *a, struct attempt *t)
{
    set_exclusive(a, t, false);
    struct attempt **place = &a->attempts[hash_ref(t->ref) & (a->slots - 1)];
    while (*place != t)
        place = &(*place)->hash_next;
    *place = t->hash_next;
    a->count--;
    count_out(a, t);
    let_go(a, t);
    line_leave(a, t);
    if (heap_has(&t->due))
        heap_remove(&a->timers, &t->due);
    free((char *)t->spec.data);
    free_devices(t);
    free(t);
}

static struct done *done_find(const struct agent *a, struct attempt_ref ref)
{
    if (BUG(start_twice))
        return NULL;
    for (struct done *d = a->done[hash_ref(ref) & (a->done_slots - 1)]; d; d = d->hash_next)
        if (attempt_equal(d->ref, ref))
            return d;
    return NULL;
}

static void done_forget_oldest(struct agent *a)
{
    struct done *d = a->done_ring[a->ring_head];
    struct done **place = &a->done[hash_ref(d->ref) & (a->done_slots - 1)];
    while (*place != d)
        place = &(*place)->hash_next;
    *place = d->hash_next;
    free(d);
    a->ring_head = (a->ring_head + 1) % a->ring_cap;
    a->ring_count--;
}

/* A START of what is done was sent before it was done: once it would be refused for its age, memory of it may go. Counted in
 * heartbeats, not in time: a worker that was stopped finds old orders waiting when it goes on. */
static void done_expire(struct agent *a)
{
    while (a->ring_count && a->done_ring[a->ring_head]->at_seq + START_HEARTBEATS_MAX < a->heartbeat_seq)
        done_forget_oldest(a);
}

static void done_add(struct agent *a, struct attempt_ref ref, struct mac128 token, bool refused)
{
    if (done_find(a, ref))
        return;
    if (a->ring_count >= DONE_MAX)
        done_forget_oldest(a);
    if (a->ring_count == a->ring_cap) {
        size_t cap = a->ring_cap ? a->ring_cap * 2 : 1024;
        struct done **grown = mem_zero(cap, sizeof(*grown));
        for (size_t i = 0; i < a->ring_count; i++)
            grown[i] = a->done_ring[(a->ring_head + i) % a->ring_cap];
        free(a->done_ring);
        a->done_ring = grown;
        a->ring_cap = cap;
        a->ring_head = 0;
        free(a->done);
        a->done_slots = cap;
        a->done = mem_zero(cap, sizeof(*a->done));
        for (size_t i = 0; i < a->ring_count; i++) {
            size_t slot = hash_ref(grown[i]->ref) & (cap - 1);
            grown[i]->hash_next = a->done[slot];
            a->done[slot] = grown[i];
        }
    }
    struct done *d = mem_zero(1, sizeof *d);
    *d = (struct done){ .ref = ref, .token = token, .refused = refused, .at_seq = a->heartbeat_seq };
    size_t slot = hash_ref(ref) & (a->done_slots - 1);
    d->hash_next = a->done[slot];
    a->done[slot] = d;
    a->done_ring[(a->ring_head + a->ring_count++) % a->ring_cap] = d;
}

/* --- effects --- */

static struct record *record(struct agent *a, enum event_kind kind)
{
    a->records = mem_grow(a->records, &a->records_cap, a->records_count + 1, sizeof *a->records);
    struct record *r = &a->records[a->records_count++];
    *r = (struct record){ .kind = kind, .at_wall_ms = a->wall_ms };
    return r;
}

static struct message *say(struct agent *a, enum message_kind kind)
{
    a->sends = mem_grow(a->sends, &a->sends_cap, a->sends_count + 1, sizeof *a->sends);
    struct send *s = &a->sends[a->sends_count++];
    *s = (struct send){ .message = { .kind = kind } };
    return &s->message;
}

static struct exec_command *command(struct agent *a, enum exec_verb verb, const struct attempt *t)
{
    a->execs = mem_grow(a->execs, &a->execs_cap, a->execs_count + 1, sizeof *a->execs);
    struct exec_command *c = &a->execs[a->execs_count++];
    *c = (struct exec_command){ .verb = verb, .ref = t->ref, .index = t->index, .need = t->need, .token = t->token,
                                .time_limit_ms = t->time_limit_ms, .overlap_never = t->exclusive };
    return c;
}

static const struct inventory_item *inventory(struct agent *a, size_t *count)
{
    struct inventory_item *items = arena_alloc(&a->turn, a->count * sizeof *items);
    *count = 0;
    for (size_t i = 0; i < a->slots && *count < INVENTORY_MAX; i++)
        for (const struct attempt *t = a->attempts[i]; t && *count < INVENTORY_MAX; t = t->hash_next)
            items[(*count)++] = (struct inventory_item){ t->ref, t->token, phase_of(t) };
    return items;
}

static void say_hello(struct agent *a)
{
    struct message *m = say(a, MSG_HELLO);
    m->hello.worker = a->config.worker;
    m->hello.incarnation = a->config.incarnation;
    m->hello.name = bytes_str(a->config.name);
    m->hello.boot = bytes_str(a->config.boot);
    m->hello.version = bytes_str(a->config.version);
    m->hello.metrics = bytes_str(a->config.metrics);
    m->hello.labels = bytes_str(a->config.labels);
    m->hello.capacity = a->config.capacity;
    m->hello.named = a->config.named;
    m->hello.named_count = a->config.named_count;
    m->hello.items = inventory(a, &m->hello.items_count);
    m->hello.epoch_seen = a->epoch;
    m->hello.window = a->config.window;
    m->hello.draining = a->draining;
    m->hello.nonce = a->nonce;
    m->hello.inventory_seq = ++a->inventory_seq;
    m->hello.heartbeat_seq = a->heartbeat_acked = a->heartbeat_seq;
    a->hello_at_ms = a->now_ms + prng_between(&a->prng, HELLO_MS / 2, HELLO_MS * 3 / 2);
    a->inventory_at_ms = a->now_ms + INVENTORY_MS;
}

static void report(struct agent *a, struct attempt *t)
{
    check(t->state == AT_ENDED);
    int64_t wait = a->config.report_min_ms;
    for (unsigned i = 0; i < t->reports && wait < a->config.report_max_ms; i++)
        wait *= 2;
    wait = wait > a->config.report_max_ms ? a->config.report_max_ms : wait;
    set_due(a, t, a->now_ms + prng_between(&a->prng, wait / 2, wait));
    if (!a->link || !a->welcome)
        return; /* WELCOME sends them all. */
    t->reports++;
    a->stats.reports++;
    if (t->never_started) {
        struct message *m = say(a, MSG_NEVER_STARTED);
        m->never_started.ref = t->ref;
        m->never_started.token = t->token;
        m->never_started.reason = t->result.reason;
        return;
    }
    struct message *m = say(a, MSG_FINISHED);
    m->finished.ref = t->ref;
    m->finished.token = t->token;
    m->finished.result = t->result;
}

static void end(struct agent *a, struct attempt *t, const struct attempt_result *result, bool never_started)
{
    check(t->state != AT_ENDED);
    line_leave(a, t);
    let_go(a, t);
    set_state(a, t, AT_ENDED);
    set_exclusive(a, t, false);
    t->recovered = false;
    t->result = *result;
    t->never_started = never_started;
    free((char *)t->spec.data);
    t->spec = (struct bytes){ NULL, 0 };
    struct record *r = record(a, EV_W_ENDED);
    r->w_ended = (struct ev_w_ended){ t->ref.job.n, t->ref.task, t->ref.attempt, result->reason, result->exit_code,
                                      result->signal, result->run_ms, result->cpu_ms, result->rss_max_bytes,
                                      result->stdout_bytes, result->stderr_bytes, result->flags, never_started };
    report(a, t);
}

static void end_never_started(struct agent *a, struct attempt *t, enum reason reason)
{
    struct attempt_result result = { .reason = reason };
    end(a, t, &result, true);
}

/* --- the lease ---
 *
 * A master that has heard nothing for longer than the lease, and some, gives an attempt that may not overlap up and starts the
 * next. So it is ours only until `lease_ms` after we sent something that the master has heard: it heard it no sooner.
 * What has run out stays so: the executor ends what runs, and what waits is not started (the executor refuses it, too). A
 * later word of the master lets new attempts start and keeps none of the old ones. */

static int64_t contact_ms(const struct agent *a, uint64_t seq)
{
    return seq > a->heartbeat_seq || seq + CONTACTS <= a->heartbeat_seq ? INT64_MIN : a->contact_ms[seq % CONTACTS];
}

static void contact(struct agent *a)
{
    a->contact_ms[++a->heartbeat_seq % CONTACTS] = a->now_ms;
}

static bool leased(const struct agent *a, uint64_t seq)
{
    int64_t from_ms = contact_ms(a, seq);
    return from_ms != INT64_MIN && a->now_ms - from_ms < a->lease_ms;
}

static void tell_lease(struct agent *a)
{
    if (!a->exclusive_count || a->lease_told_ms == a->lease_until_ms)
        return;
    struct attempt none = { .index = TASK_SINGLE };
    command(a, EXEC_LEASE, &none)->lease_until_ms = a->lease_told_ms = a->lease_until_ms;
}

/* The master has heard what we sent then. */
static void lease_from(struct agent *a, int64_t sent_ms)
{
    if (BUG(lease_from_answer))
        sent_ms = a->now_ms;
    if (sent_ms == INT64_MIN || a->now_ms - sent_ms >= a->lease_ms)
        return;
    if (sent_ms + a->lease_ms > a->lease_until_ms)
        a->lease_until_ms = sent_ms + a->lease_ms;
    tell_lease(a);
}

static void renew_lease(struct agent *a, uint64_t seq)
{
    lease_from(a, contact_ms(a, seq));
}

/* What waits when it runs out is not started any more, whatever comes. */
static void lease_due(struct agent *a)
{
    if (!a->exclusive_count || a->now_ms < a->lease_until_ms || BUG(start_unleased))
        return;
    for (size_t i = 0; i < a->slots; i++)
        for (struct attempt *t = a->attempts[i]; t; t = t->hash_next)
            if (t->exclusive && t->state == AT_WAITING && !t->recovered)
                end_never_started(a, t, REASON_NEVER_STARTED);
}

/* --- running --- */

static void translate_named(struct agent *a, const struct message *m, struct resources *need)
{
    /* The master numbers named resources in its own order. */
    for (int d = RES_NAMED; d < RES_DIMS; d++)
        need->v[d] = 0;
    for (size_t i = 0; i < m->start.named_count; i++)
        for (int d = 0; d < RES_NAMED_MAX; d++)
            if (a->names[d][0] && strncmp(a->names[d], m->start.named[i].name, RES_NAME_BYTES) == 0)
                need->v[RES_NAMED + d] = m->start.named[i].count;
}

/* Whether it gets GPUs or CPUs by number. */
static bool needs_devices(const struct agent *a, const struct resources *need)
{
    return (need->v[RES_GPU] && a->gpus.count) || (need->v[RES_CPU] && a->cpus.count);
}

/* Enough may be free and yet not in one piece. */
static bool devices_fit(const struct agent *a, const struct resources *need)
{
    return (!a->gpus.count || devices_have(&a->gpus, need->v[RES_GPU])) && (!a->cpus.count || devices_have(&a->cpus, need->v[RES_CPU]));
}

static bool fits_now(const struct agent *a, const struct resources *need)
{
    for (int d = 0; d < RES_DIMS; d++)
        if (need->v[d] && a->used.v[d] + need->v[d] > a->capacity.v[d])
            return false;
    return !needs_devices(a, need) || devices_fit(a, need);
}

static void give_out(struct agent *a, struct attempt *t, enum exec_verb verb)
{
    struct exec_command *c = command(a, verb, t);
    c->spec = arena_bytes(&a->turn, t->spec);
    c->gpus = arena_bytes(&a->turn, t->gpus);
    c->cpus = arena_bytes(&a->turn, t->cpus);
    free((char *)t->spec.data);
    t->spec = (struct bytes){ NULL, 0 };
}

static struct bytes own(const char *text)
{
    size_t size = strlen(text);
    return bytes_of(mem_copy(text, size), size);
}

/* Chooses its devices and records them, before it is started: who comes after us knows what is in use. */
static void choose_devices(struct agent *a, struct attempt *t)
{
    char text[DEVICES_TEXT_BYTES];
    struct devices gpus = a->gpus, cpus = a->cpus; /* what is chosen is claimed when it takes its place */
    if (t->need.v[RES_GPU] && devices_take(&gpus, t->need.v[RES_GPU], text))
        t->gpus = own(text);
    if (t->need.v[RES_CPU] && devices_take(&cpus, t->need.v[RES_CPU], text))
        t->cpus = own(text);
    struct record *r = record(a, EV_W_DEVICES);
    r->w_devices = (struct ev_w_devices){ t->ref.job.n, t->ref.task, t->ref.attempt, t->gpus, t->cpus };
}

/* It has a place and is being started. */
static void take_place(struct agent *a, struct attempt *t)
{
    line_leave(a, t);
    hold(a, t);
    set_state(a, t, AT_SPAWNING);
    a->stats.starts++;
    if (t->kill == KILL_NOT)
        set_due(a, t, INT64_MAX);
}

/* Not those that are to leave the line. */
static bool may_call(const struct attempt *t)
{
    return t->kill == KILL_NOT && !t->withdrawn;
}

/* False: so much does not fit that there is no use in looking further. */
static bool try_start(struct agent *a, struct attempt *t, size_t *skipped)
{
    if (fits_now(a, &t->need) || (BUG(overbook) && t->state == AT_WAITING)) {
        if (t->state == AT_WAITING && needs_devices(a, &t->need))
            choose_devices(a, t);
        if (t->state == AT_LINED)
            command(a, EXEC_CALL, t);
        else
            give_out(a, t, EXEC_START);
        take_place(a, t);
        return true;
    }
    return ++*skipped < SKIP_MAX && a->now_ms - t->accepted_ms <= SKIP_MS;
}

static bool has_equal_holder(const struct agent *a, const struct attempt *t)
{
    size_t seen = 0;
    list_each(at, &a->holders) {
        const struct attempt *holder = list_entry(at, struct attempt, holder);
        if (resources_equal(&holder->need, &t->need))
            return true;
        if (++seen == HOLDERS_MAX)
            break;
    }
    return false;
}

/* The first that wait go to the executor, as long as one that runs will leave them a place of just their size. */
static void line_up(struct agent *a)
{
    while (a->lined_count < a->config.line_max && !list_empty(&a->waiting)) {
        struct attempt *t = list_entry(list_first(&a->waiting), struct attempt, line);
        if (t->spec.size > a->config.line_spec_bytes || needs_devices(a, &t->need) || !has_equal_holder(a, t))
            return;
        list_remove(&t->line);
        list_append(&a->lined, &t->line);
        a->lined_count++;
        set_state(a, t, AT_LINED);
        give_out(a, t, EXEC_LINE_UP);
    }
}

/* Those in line came first. */
static void start_waiting(struct agent *a)
{
    if (!a->stirred || a->space_low || a->recovering)
        return;
    a->stirred = false;
    size_t skipped = 0;
    bool more = true;
    list_each_safe(at, &a->lined) {
        struct attempt *t = list_entry(at, struct attempt, line);
        if (may_call(t) && !(more = try_start(a, t, &skipped)))
            break;
    }
    if (more)
        list_each_safe(at, &a->waiting) if (!try_start(a, list_entry(at, struct attempt, line), &skipped)) break;
    line_up(a);
}

/* It ends unstarted, unless it was started meanwhile. */
static void withdraw(struct agent *a, struct attempt *t)
{
    t->withdrawn = true;
    command(a, EXEC_WITHDRAW, t);
    set_due(a, t, a->now_ms + WITHDRAW_MS);
}

static void on_space(struct agent *a, bool low)
{
    a->space_low = low;
    a->stirred = true;
    if (low)
        list_each(at, &a->lined) withdraw(a, list_entry(at, struct attempt, line));
}

static void kill_attempt(struct agent *a, struct attempt *t, enum reason reason, int64_t grace_ms)
{
    switch (t->state) {
    case AT_WAITING:
        end_never_started(a, t, reason == REASON_CANCELLED ? REASON_CANCELLED : REASON_NEVER_STARTED);
        break;
    case AT_LINED:
    case AT_SPAWNING:
    case AT_RUNNING:
        if (t->kill != KILL_NOT)
            break;
        t->kill = KILL_TERMED;
        t->kill_reason = reason;
        command(a, EXEC_TERM, t);
        set_due(a, t, a->now_ms + (grace_ms > 0 ? grace_ms : a->config.default_grace_ms));
        break;
    case AT_ENDED:
        report(a, t);
        break;
    }
}

static void running_due(struct agent *a, struct attempt *t)
{
    if (t->kill == KILL_NOT) { /* The time limit. */
        kill_attempt(a, t, REASON_TIME_LIMIT, t->grace_ms);
        return;
    }
    t->kill = KILL_KILLED;
    command(a, EXEC_KILL, t);
    set_due(a, t, a->now_ms + 5000); /* Until it is gone. */
}

static void due(struct agent *a, struct attempt *t)
{
    switch (t->state) {
    case AT_WAITING: end_never_started(a, t, REASON_NEVER_STARTED); break; /* start_ttl */
    case AT_LINED:
        if (t->kill != KILL_NOT)
            running_due(a, t);
        else
            withdraw(a, t);
        break;
    case AT_SPAWNING:
    case AT_RUNNING: running_due(a, t); break;
    case AT_ENDED: report(a, t); break;
    }
}

/* --- messages --- */

static void refuse_start(struct agent *a, struct attempt_ref ref, struct mac128 token)
{
    done_add(a, ref, token, true);
    struct message *m = say(a, MSG_NEVER_STARTED);
    m->never_started.ref = ref;
    m->never_started.token = token;
    m->never_started.reason = REASON_NEVER_STARTED;
}

static bool refuses(const struct agent *a, const struct message *m)
{
    return (m->start.heard_seq + START_HEARTBEATS_MAX < a->heartbeat_seq && !BUG(start_twice)) || a->draining || a->space_low ||
           a->count >= a->config.window || a->recovering ||
           (m->start.overlap_never && !leased(a, m->start.heard_seq) && !BUG(start_unleased));
}

static void on_start(struct agent *a, const struct message *m)
{
    struct attempt_ref ref = m->start.ref;
    struct attempt *t = find(a, ref);
    if (t) {
        if (t->state == AT_ENDED)
            report(a, t);
        return;
    }
    struct done *d = done_find(a, ref);
    if (d) {
        if (d->refused)
            refuse_start(a, ref, m->start.token);
        else
            a->stats.stale_messages++;
        return;
    }
    bool refused = refuses(a, m);
    if (refused && !m->start.overlap_never) {
        refuse_start(a, ref, m->start.token);
        return;
    }
    t = attempt_new(a, ref);
    t->token = m->start.token;
    t->index = m->start.index;
    t->need = m->start.need;
    translate_named(a, m, &t->need);
    t->time_limit_ms = m->start.time_limit_ms;
    t->grace_ms = m->start.grace_ms;
    set_exclusive(a, t, m->start.overlap_never);
    if (t->exclusive && !refused)
        renew_lease(a, m->start.heard_seq); /* who says START has heard it */
    t->accepted_ms = a->now_ms;
    t->spec = bytes_of(mem_copy(m->start.spec.data, m->start.spec.size), m->start.spec.size);
    struct record *r = record(a, EV_W_ACCEPTED);
    r->w_accepted = (struct ev_w_accepted){ .job = ref.job.n, .task = ref.task, .attempt = ref.attempt, .token = t->token,
                                            .need = t->need, .time_limit_ms = t->time_limit_ms, .grace_ms = t->grace_ms,
                                            .index = t->index, .overlap_never = t->exclusive };
    list_append(&a->waiting, &t->line);
    a->stirred = true;
    /* Where the next attempt starts as soon as the master has heard this, it is kept until it was heard: START may come again. */
    if (refused || !resources_fit(&t->need, &a->capacity))
        end_never_started(a, t, REASON_NEVER_STARTED);
    else
        set_due(a, t, a->now_ms + m->start.start_ttl_ms);
}

static void on_kill(struct agent *a, struct attempt_ref ref, struct mac128 token, int64_t grace_ms, bool revoke)
{
    struct attempt *t = find(a, ref);
    if (!t) {
        struct done *d = done_find(a, ref);
        if (!d || d->refused) /* Never seen: it will not be started when it comes. */
            refuse_start(a, ref, token);
        return;
    }
    if (revoke && t->state == AT_LINED)
        withdraw(a, t);
    if (revoke && t->state != AT_WAITING)
        return;
    kill_attempt(a, t, REASON_CANCELLED, grace_ms);
}

static void on_report_ack(struct agent *a, struct attempt_ref ref)
{
    struct attempt *t = find(a, ref);
    if (!t || t->state != AT_ENDED)
        return;
    struct record *r = record(a, EV_W_ACKED);
    r->w_acked = (struct ev_w_acked){ ref.job.n, ref.task, ref.attempt };
    command(a, EXEC_REMOVE, t); /* also what never started: the executor may have heard of it */
    done_add(a, ref, t->token, t->never_started);
    attempt_drop(a, t);
}

static void on_welcome(struct agent *a, const struct agent_event *ev)
{
    const struct message *m = ev->message;
    if (m->welcome.nonce != a->nonce || m->welcome.epoch < a->epoch) { /* To an earlier greeting, or of an older master. */
        a->stats.stale_messages++;
        return;
    }
    if (m->welcome.epoch > a->epoch) {
        a->epoch = m->welcome.epoch;
        record(a, EV_W_EPOCH)->w_epoch.epoch = a->epoch;
    }
    bool again = a->welcome && a->session == m->welcome.session;
    a->welcome = true;
    a->session = m->welcome.session;
    a->heartbeat_ms = m->welcome.heartbeat_ms > 0 ? m->welcome.heartbeat_ms : 5000;
    a->lease_ms = m->welcome.lease_ms;
    if (again)
        return;
    renew_lease(a, a->greeting_seq);
    a->heartbeat_at_ms = a->now_ms + prng_between(&a->prng, a->heartbeat_ms * 8 / 10, a->heartbeat_ms * 12 / 10);
    if (a->now_ms - contact_ms(a, a->greeting_seq) > a->heartbeat_ms)
        a->heartbeat_at_ms = a->now_ms; /* It was greeted long ago: a younger word is needed for a lease. */
    for (size_t i = 0; i < a->slots; i++)
        for (struct attempt *t = a->attempts[i]; t; t = t->hash_next)
            if (t->state == AT_ENDED)
                report(a, t);
}

static void on_message(struct agent *a, const struct agent_event *ev)
{
    const struct message *m = ev->message;
    if (m->kind == MSG_WELCOME) {
        on_welcome(a, ev);
        return;
    }
    if (m->kind == MSG_GO_AWAY) {
        a->stats.refused = true;
        snprintf(a->stats.refusal, sizeof a->stats.refusal, "%.*s", (int)(m->go_away.text.size < 190 ? m->go_away.text.size : 190),
                 m->go_away.text.size ? m->go_away.text.data : "the master refused this worker");
        return;
    }
    /* An order of an older master or of an earlier session: not for us any more. */
    if ((ev->epoch < a->epoch || !a->welcome || ev->session != a->session) && !BUG(old_orders)) {
        a->stats.stale_messages++;
        return;
    }
    switch (m->kind) {
    case MSG_START: on_start(a, m); break;
    case MSG_KILL: on_kill(a, m->kill.ref, m->kill.token, m->kill.grace_ms, false); break;
    case MSG_REVOKE: on_kill(a, m->revoke.ref, m->revoke.token, 0, true); break;
    case MSG_REPORT_ACK: on_report_ack(a, m->report_ack.ref); break;
    case MSG_DRAIN: a->draining = m->drain.on; break;
    case MSG_HEARTBEAT_ACK:
        if (m->heartbeat_ack.seq > a->heartbeat_acked && m->heartbeat_ack.seq <= a->heartbeat_seq)
            a->heartbeat_acked = m->heartbeat_ack.seq;
        renew_lease(a, m->heartbeat_ack.seq);
        if (m->heartbeat_ack.want_inventory) {
            struct message *out = say(a, MSG_INVENTORY);
            out->inventory.items = inventory(a, &out->inventory.items_count);
            out->inventory.seq = ++a->inventory_seq;
            out->inventory.epoch_seen = a->epoch;
            a->inventory_at_ms = a->now_ms + INVENTORY_MS;
        }
        break;
    default: a->stats.stale_messages++; break;
    }
}

/* --- the executor's words --- */

static void on_vacated(struct agent *a, struct attempt *t, struct attempt_ref passed_to)
{
    if (t && t->state != AT_ENDED) {
        if (t->state == AT_LINED)
            take_place(a, t); /* who is gone has had a place */
        t->vacated = true;
        let_go(a, t);
    }
    struct attempt *next = passed_to.job.n ? find(a, passed_to) : NULL;
    if (next && next->state == AT_LINED && !BUG(place_twice))
        take_place(a, next);
}

static void on_spawned(struct agent *a, struct attempt *t)
{
    if (t->state == AT_LINED)
        take_place(a, t);
    if (t->state != AT_SPAWNING)
        return;
    set_state(a, t, AT_RUNNING);
    t->started_ms = a->now_ms;
    list_append(&a->announce, &t->line);
    if (t->kill == KILL_NOT)
        set_due(a, t, t->time_limit_ms > 0 ? a->now_ms + t->time_limit_ms : INT64_MAX);
}

static void on_exited(struct agent *a, struct attempt *t, const struct attempt_result *told)
{
    if (t->state == AT_ENDED || t->state == AT_WAITING)
        return;
    struct attempt_result result = *told;
    if (t->kill != KILL_NOT && result.reason != REASON_INFRA && result.reason != REASON_NODE_REBOOTED)
        result.reason = t->kill_reason;
    end(a, t, &result, false);
}

static void on_spawn_failed(struct agent *a, struct attempt *t, const struct attempt_result *told)
{
    if (t->state != AT_SPAWNING && t->state != AT_LINED)
        return;
    if (told->reason == REASON_NEVER_STARTED)
        end_never_started(a, t, t->kill != KILL_NOT && t->kill_reason == REASON_CANCELLED ? REASON_CANCELLED : REASON_NEVER_STARTED);
    else if (told->reason == REASON_SPAWN || told->reason == REASON_IMAGE)
        end(a, t, told, false); /* The job's own fault is an end like any other. */
    else
        end_never_started(a, t, REASON_INFRA);
}

/* Nobody waits for its end: it was unknown when it was found again, or has been answered for. */
static void let_executor_forget(struct agent *a, struct attempt_ref ref)
{
    struct attempt unknown = { .ref = ref };
    command(a, EXEC_REMOVE, &unknown);
}

static void on_recovered(struct agent *a, const struct agent_event *ev)
{
    struct attempt *t = find(a, ev->exec.ref);
    if (!t) {
        /* The executor knows what the journal does not: its record was acknowledged. Let it go. */
        struct attempt unknown = { .ref = ev->exec.ref };
        if (ev->exec.phase == PHASE_RUNNING)
            command(a, EXEC_KILL, &unknown);
        else
            command(a, EXEC_REMOVE, &unknown);
        return;
    }
    if (!t->recovered)
        return;
    if (BUG(exec_again) && t->state == AT_WAITING && ev->exec.phase == PHASE_RUNNING)
        return;
    t->recovered = false;
    if (t->state == AT_ENDED)
        return;
    hold(a, t);
    set_state(a, t, AT_SPAWNING);
    if (ev->exec.phase == PHASE_ENDED) {
        on_exited(a, t, &ev->exec.result);
        return;
    }
    set_state(a, t, AT_RUNNING);
    t->started_ms = a->now_ms - ev->exec.ran_ms;
    set_due(a, t, t->time_limit_ms > 0 ? t->started_ms + t->time_limit_ms : INT64_MAX);
}

static void on_recovery_done(struct agent *a)
{
    for (size_t i = 0; i < a->slots; i++)
        for (struct attempt *t = a->attempts[i]; t; t = t->hash_next)
            if (t->recovered && t->state == AT_WAITING && BUG(exec_again)) {
                t->recovered = false;
                list_append(&a->waiting, &t->line);
            } else if (t->recovered && t->state == AT_WAITING)
                end_never_started(a, t, REASON_NEVER_STARTED);
    a->recovering = false;
    a->stirred = true;
}

/* --- steps --- */

static void greet(struct agent *a)
{
    a->welcome = false;
    a->nonce = prng_u64(&a->prng);
    a->hello_at_ms = a->now_ms;
    contact(a);
    a->greeting_seq = a->heartbeat_seq;
}

static void on_named(struct agent *a, const struct agent_event *ev)
{
    for (size_t i = 0; i < a->config.named_count; i++) {
        if (strncmp(a->names[i], ev->named.name, RES_NAME_BYTES) != 0 || a->config.named[i].count == ev->named.count)
            continue;
        a->config.named[i].count = a->capacity.v[RES_NAMED + i] = ev->named.count;
        if (a->link)
            greet(a);
    }
}

static void tick(struct agent *a)
{
    struct heap_node *first;
    while ((first = heap_first(&a->timers)) && heap_entry(first, struct attempt, due)->due_ms <= a->now_ms)
        due(a, heap_entry(first, struct attempt, due));
    while (!list_empty(&a->announce)) {
        struct attempt *t = list_entry(list_first(&a->announce), struct attempt, line);
        if (a->now_ms - t->started_ms < ANNOUNCE_MS)
            break;
        list_remove(&t->line);
        if (!a->link || !a->welcome)
            continue; /* HELLO's inventory tells. */
        struct message *m = say(a, MSG_STARTED);
        m->started.ref = t->ref;
        m->started.token = t->token;
        m->started.inventory_seq = a->inventory_seq;
    }
    done_expire(a);
    if (!a->link || a->recovering)
        return;
    if (a->welcome && a->now_ms >= a->heartbeat_at_ms) {
        if (a->heartbeat_seq - a->heartbeat_acked >= HEARTBEATS_UNHEARD) {
            greet(a); /* Nobody answers: perhaps another master leads now. */
        } else {
            struct message *m = say(a, MSG_HEARTBEAT);
            contact(a);
            m->heartbeat.seq = a->heartbeat_seq;
            m->heartbeat.sent_ms = a->now_ms;
            m->heartbeat.digest = a->digest;
            m->heartbeat.count = (uint32_t)a->count;
            m->heartbeat.cpu_used_milli = a->cpu_used_milli;
            m->heartbeat.mem_used_bytes = a->mem_used_bytes;
            m->heartbeat.load_milli = a->load_milli;
            a->heartbeat_at_ms = a->now_ms + prng_between(&a->prng, a->heartbeat_ms * 8 / 10, a->heartbeat_ms * 12 / 10);
        }
    }
    if (a->welcome && a->now_ms >= a->inventory_at_ms) {
        struct message *m = say(a, MSG_INVENTORY);
        m->inventory.items = inventory(a, &m->inventory.items_count);
        m->inventory.seq = ++a->inventory_seq;
        m->inventory.epoch_seen = a->epoch;
        a->inventory_at_ms = a->now_ms + INVENTORY_MS;
    }
    if (!a->welcome && a->now_ms >= a->hello_at_ms)
        say_hello(a);
}

static int64_t earlier(int64_t x, int64_t y) { return x < y ? x : y; }

static void finish(struct agent *a, struct effects *fx)
{
    *fx = (struct effects){ .records = a->records, .records_count = a->records_count, .sends = a->sends,
                            .sends_count = a->sends_count, .execs = a->execs, .execs_count = a->execs_count,
                            .wake_at_ms = INT64_MAX };
    struct heap_node *first = heap_first(&a->timers);
    if (first)
        fx->wake_at_ms = heap_entry(first, struct attempt, due)->due_ms;
    if (!list_empty(&a->announce))
        fx->wake_at_ms = earlier(fx->wake_at_ms, list_entry(list_first(&a->announce), struct attempt, line)->started_ms + ANNOUNCE_MS);
    if (a->exclusive_count && a->lease_until_ms > a->now_ms)
        fx->wake_at_ms = earlier(fx->wake_at_ms, a->lease_until_ms);
    if (a->link && !a->recovering)
        fx->wake_at_ms = earlier(fx->wake_at_ms, a->welcome ? earlier(a->heartbeat_at_ms, a->inventory_at_ms) : a->hello_at_ms);
}

static void begin(struct agent *a, int64_t now_ms, int64_t wall_ms)
{
    check(now_ms >= a->now_ms);
    a->now_ms = now_ms;
    a->wall_ms = wall_ms;
    a->records_count = a->sends_count = a->execs_count = 0;
    arena_reset(&a->turn);
}

void agent_start(struct agent *a, int64_t now_ms, int64_t wall_ms, struct effects *fx)
{
    begin(a, now_ms, wall_ms);
    for (size_t i = 0; i < a->slots; i++)
        for (struct attempt *t = a->attempts[i]; t; t = t->hash_next)
            if (t->state == AT_ENDED)
                set_due(a, t, now_ms);
    finish(a, fx);
}

void agent_step(struct agent *a, const struct agent_event *ev, struct effects *fx)
{
    begin(a, ev->now_ms, ev->wall_ms);
    lease_due(a); /* before any word that could renew it */
    struct attempt *t = NULL;
    if (ev->kind == AGENT_SPAWNED || ev->kind == AGENT_VACATED || ev->kind == AGENT_EXITED || ev->kind == AGENT_SPAWN_FAILED)
        t = find(a, ev->exec.ref);
    switch (ev->kind) {
    case AGENT_TICK:
        a->cpu_used_milli = ev->tick.cpu_used_milli;
        a->mem_used_bytes = ev->tick.mem_used_bytes;
        a->load_milli = ev->tick.load_milli;
        tick(a);
        break;
    case AGENT_LINK_UP:
        a->link = true;
        greet(a);
        break;
    case AGENT_LINK_DOWN: a->link = a->welcome = false; break;
    case AGENT_MESSAGE: on_message(a, ev); break;
    case AGENT_SPAWNED:
        if (t)
            on_spawned(a, t);
        break;
    case AGENT_VACATED: on_vacated(a, t, ev->exec.passed_to); break;
    case AGENT_EXITED:
        if (t)
            on_exited(a, t, &ev->exec.result);
        else
            let_executor_forget(a, ev->exec.ref);
        break;
    case AGENT_SPAWN_FAILED:
        if (t)
            on_spawn_failed(a, t, &ev->exec.result);
        else
            let_executor_forget(a, ev->exec.ref);
        break;
    case AGENT_RECOVERED: on_recovered(a, ev); break;
    case AGENT_RECOVERY_DONE: on_recovery_done(a); break;
    case AGENT_DRAIN: a->draining = true; break;
    case AGENT_NAMED: on_named(a, ev); break;
    case AGENT_SPACE_LOW: on_space(a, ev->flag.on); break;
    case AGENT_LEASE_RENEWED: lease_from(a, ev->lease.sent_ms); break;
    }
    start_waiting(a);
    finish(a, fx);
}

/* --- journal --- */

int agent_apply(struct agent *a, const struct record *r, struct err *err)
{
    struct record_subject s = record_subject(r);
    struct attempt_ref ref = { s.job, s.task, s.attempt };
    struct attempt *t = find(a, ref);
    switch (r->kind) {
    case EV_W_IDENTITY:
    case EV_W_TOMBSTONE: return 0;
    case EV_W_EPOCH:
        if (r->w_epoch.epoch > a->epoch)
            a->epoch = r->w_epoch.epoch;
        return 0;
    case EV_W_ACCEPTED:
        if (t)
            return err_set(err, ERR_CORRUPT, "attempt %u of job %llu was accepted twice", ref.attempt, (unsigned long long)ref.job.n);
        t = attempt_new(a, ref);
        t->token = r->w_accepted.token;
        t->need = r->w_accepted.need;
        t->time_limit_ms = r->w_accepted.time_limit_ms;
        t->grace_ms = r->w_accepted.grace_ms;
        t->index = r->w_accepted.index;
        set_exclusive(a, t, r->w_accepted.overlap_never != 0);
        t->recovered = true;
        return 0;
    case EV_W_DEVICES:
        if (!t || t->state == AT_ENDED)
            return err_set(err, ERR_CORRUPT, "attempt %u of job %llu has devices without having been accepted", ref.attempt,
                           (unsigned long long)ref.job.n);
        free_devices(t);
        t->gpus = bytes_of(mem_copy(r->w_devices.gpus.data, r->w_devices.gpus.size), r->w_devices.gpus.size);
        t->cpus = bytes_of(mem_copy(r->w_devices.cpus.data, r->w_devices.cpus.size), r->w_devices.cpus.size);
        return 0;
    case EV_W_ENDED:
        if (!t || t->state == AT_ENDED)
            return err_set(err, ERR_CORRUPT, "attempt %u of job %llu ended without having been accepted", ref.attempt,
                           (unsigned long long)ref.job.n);
        if (r->w_ended.reason >= REASONS)
            return err_set(err, ERR_CORRUPT, "attempt %u of job %llu ended for an unknown reason", ref.attempt,
                           (unsigned long long)ref.job.n);
        set_state(a, t, AT_ENDED);
        set_exclusive(a, t, false);
        t->never_started = r->w_ended.never_started;
        t->result = (struct attempt_result){ (enum reason)r->w_ended.reason, r->w_ended.exit_code, r->w_ended.signal,
                                             r->w_ended.run_ms, r->w_ended.cpu_ms, r->w_ended.rss_max_bytes,
                                             r->w_ended.stdout_bytes, r->w_ended.stderr_bytes, r->w_ended.flags };
        return 0;
    case EV_W_ACKED:
        if (t)
            attempt_drop(a, t);
        return 0;
    default:
        return err_set(err, ERR_CORRUPT, "a %s record does not belong into a worker's journal", event_name(r->kind));
    }
}

void agent_snapshot(const struct agent *a, void (*emit)(void *arg, const struct record *), void *arg)
{
    struct record r = { .kind = EV_W_EPOCH, .at_wall_ms = a->wall_ms };
    r.w_epoch.epoch = a->epoch;
    emit(arg, &r);
    for (size_t i = 0; i < a->slots; i++)
        for (const struct attempt *t = a->attempts[i]; t; t = t->hash_next) {
            r = (struct record){ .kind = EV_W_ACCEPTED, .at_wall_ms = a->wall_ms };
            r.w_accepted = (struct ev_w_accepted){ .job = t->ref.job.n, .task = t->ref.task, .attempt = t->ref.attempt,
                                                   .token = t->token, .need = t->need, .time_limit_ms = t->time_limit_ms,
                                                   .grace_ms = t->grace_ms, .index = t->index,
                                                   .overlap_never = t->exclusive };
            emit(arg, &r);
            if (t->state != AT_ENDED) {
                if (!t->gpus.size && !t->cpus.size)
                    continue;
                r = (struct record){ .kind = EV_W_DEVICES, .at_wall_ms = a->wall_ms };
                r.w_devices = (struct ev_w_devices){ t->ref.job.n, t->ref.task, t->ref.attempt, t->gpus, t->cpus };
                emit(arg, &r);
                continue;
            }
            r = (struct record){ .kind = EV_W_ENDED, .at_wall_ms = a->wall_ms };
            r.w_ended = (struct ev_w_ended){ t->ref.job.n, t->ref.task, t->ref.attempt, t->result.reason, t->result.exit_code,
                                             t->result.signal, t->result.run_ms, t->result.cpu_ms, t->result.rss_max_bytes,
                                             t->result.stdout_bytes, t->result.stderr_bytes, t->result.flags, t->never_started };
            emit(arg, &r);
        }
}

/* --- views --- */

void agent_view_stats(const struct agent *a, struct agent_stats *out)
{
    *out = a->stats;
    out->accepted = a->phase_counts[PHASE_ACCEPTED];
    out->running = a->phase_counts[PHASE_RUNNING];
    out->ended = a->phase_counts[PHASE_ENDED];
    out->used = a->used;
    out->epoch = a->epoch;
    out->welcome = a->welcome;
    out->lease_ms = a->lease_ms;
    out->lease_until_ms = a->lease_until_ms;
    out->draining = a->draining;
}

void agent_view_attempts(const struct agent *a, void (*visit)(void *arg, const struct agent_attempt_view *), void *arg)
{
    for (size_t i = 0; i < a->slots; i++)
        for (const struct attempt *t = a->attempts[i]; t; t = t->hash_next) {
            struct agent_attempt_view v = { t->ref, phase_of(t), t->state == AT_SPAWNING || t->state == AT_RUNNING,
                                            t->started_ms, t->need };
            visit(arg, &v);
        }
}

void agent_check(const struct agent *a)
{
    struct resources used = { 0 };
    struct devices gpus, cpus;
    uint64_t digest = 0;
    devices_init(&gpus, NULL, a->gpus.count);
    devices_init(&cpus, a->cpus.ids, a->cpus.count);
    size_t count = 0, lined = 0, exclusive = 0;
    for (size_t i = 0; i < a->slots; i++)
        for (const struct attempt *t = a->attempts[i]; t; t = t->hash_next) {
            count++;
            digest = inventory_digest_add(digest, t->ref, phase_of(t));
            check(!t->holds || t->state == AT_SPAWNING || t->state == AT_RUNNING);
            check(t->holds || t->vacated || (t->state != AT_SPAWNING && t->state != AT_RUNNING));
            lined += t->state == AT_LINED;
            exclusive += t->exclusive;
            check(!t->exclusive || t->state != AT_ENDED);
            if (t->holds) {
                resources_add(&used, &t->need);
                devices_claim(&gpus, t->gpus, t->need.v[RES_GPU]);
                devices_claim(&cpus, t->cpus, t->need.v[RES_CPU]);
            }
            check(t->state != AT_WAITING || t->recovered || list_linked(&t->line));
            check(t->state != AT_LINED || list_linked(&t->line));
        }
    check(lined == a->lined_count && exclusive == a->exclusive_count);
    check(count == a->count && digest == a->digest);
    check(resources_equal(&used, &a->used));
    check(memcmp(gpus.free_milli, a->gpus.free_milli, sizeof gpus.free_milli) == 0); /* no unit has two owners */
    check(memcmp(cpus.free_milli, a->cpus.free_milli, sizeof cpus.free_milli) == 0);
    check(resources_fit(&a->used, &a->capacity)); /* I7: what runs never exceeds what there is. */
}
