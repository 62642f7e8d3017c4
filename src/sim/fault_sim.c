#include "sim/fault_sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <uthash.h>

#include "base/arena.h"
#include "base/bug.h"
#include "base/check.h"
#include "base/heap.h"
#include "base/mem.h"
#include "base/prng.h"
#include "core/agent/agent.h"
#include "core/model/gate.h"
#include "core/sched/sched_snapshot.h"
#include "core/sched/sched_view.h"

#ifdef ROTA_PLANT_BUGS
enum bug bug_planted;
#endif

#define WORKERS_MAX 4
#define ATTEMPTS_MAX 4096u  /* of one task: an endless retry loop is a finding too */
#define FAULTY_MS 600000    /* how long faults go on */
#define HEALED_MS 7200000   /* how long everything may take to end afterwards */

#define ASK_EACH_MS 7500    /* a worker looks so often whether its lease wants to be renewed over HTTP */

/* --- the world --- */

enum what {
    W_MASTER_PUMP, W_MASTER_COMMIT, W_MASTER_RESTART, W_WORKER_PUMP, W_WORKER_COMMIT, W_WORKER_RESTART, W_LINK, W_DELIVER,
    W_SPAWNED, W_VACATED, W_WITHDRAWN, W_PROC_END, W_LEASE, W_ASK, W_ASKED, W_RENEWED,
    W_BROKER, W_UNBLOCKED, W_CLIENT, W_CRON, W_FAULT, W_HEAL
};

struct happening {
    struct heap_node node;
    int64_t at_ms;
    uint64_t order;
    enum what what;
    int worker;
    uint64_t life;             /* of the process it is for: it is dropped when that has died meanwhile */
    struct packet *packet;
    struct attempt_ref ref, passed_to;
    int64_t sent_ms;           /* W_ASKED, W_RENEWED: on the worker's clock */
    uint64_t incarnation;      /* W_ASKED: who asks */
    bool lost;                 /* W_DELIVER: the broker has lost it meanwhile */
};

struct packet {
    bool to_master;
    uint64_t session, epoch;
    struct arena arena;
    struct message message;
};

/* What a process really did, whoever believes what. */
struct truth {
    struct attempt_ref ref;    /* key */
    unsigned spawns;
    bool ended;
    struct attempt_result result;
    UT_hash_handle hh;
};

#define LINE_MAX_SIM 5u
#define UNACKED_MAX 8u /* messages that a broker may deliver again */

struct process {
    struct attempt_ref ref;
    struct resources need;
    bool running, exclusive;
    bool vacated;                  /* the worker was told that its place is free: its end may be told */
    int64_t started_ms, ends_ms;
    int64_t told_from_ms;          /* nothing is said of it before */
    bool traps_term, ignores_term;
    struct attempt_result result;
};

struct worker {
    int number;
    uint64_t life;
    bool alive, link;
    int64_t paused_until_ms, wake_ms, boot_ms, pump_at_ms;
    struct agent *agent;
    struct gate *gate;
    struct agent_config config;
    uint64_t session;
    struct buf journal, pending;   /* encoded records; pending: being written */
    struct process *processes; size_t processes_count, processes_cap;
    struct exec_command line[LINE_MAX_SIM]; size_t line_count; /* the executor's: exec.h */
    bool leased;                   /* the executor's: until lease_until_ms */
    int64_t lease_until_ms;
    bool cut_up, cut_down;         /* partition: worker -> master, master -> worker */
    bool welcomed;                 /* in this life: it has the token of its lease */
    struct mac128 lease_token;
    struct packet *unacked[2][UNACKED_MAX]; /* the last that were delivered, by direction; owned, newest at unacked_next - 1 */
    unsigned unacked_next[2];
};

struct op {
    enum sched_event_kind kind;
    job_id job;
    bool answered;
    uint64_t life;
    struct op *next;
};

/* What the committed records say about a task: an independent reading of them. */
struct task_book {
    struct { uint64_t job; uint64_t task; } key;
    uint32_t attempt, terminals, counted, retries;
    bool open;
    uint32_t node, reason; /* of its last attempt; reason: how it ended */
    UT_hash_handle hh;
};

/* Who has limits, as the committed records say it. */
#define PARTIES_BOOKED 16
struct party_book {
    enum party_kind kind;
    char name[16];
    uint64_t running_most, cpu_most, total; /* value + 1, 0: none; total as it is */
    bool paused, token_set;
    uint64_t running, cpu, taken;           /* of open attempts */
};

/* The one entry of jobs that come again. */
#define CRON_NAME "each"
#define CRON_EACH_MS 30000  /* its due times are the multiples of this */
#define CRON_AT_ONCE 4      /* of due times that were missed */
struct cron_book {
    bool there;
    enum cron_overlap overlap;
    int64_t last_wall_ms;   /* dealt with up to here */
    uint64_t job;           /* the last one; 0: none */
};

struct class_book {
    uint32_t retries, nodes, tokens; /* of the one token there is */
    uint64_t cpu, mem;
    struct party_book *parties[3]; /* user, queue, account */
};

struct job_book {
    uint64_t id;
    uint32_t terminals, tasks, retries, class;
    uint32_t nodes, parts, counted; /* of a gang: how many, those that the records so far have started, its failures */
    bool cancelled, acked;
    UT_hash_handle hh;
};

struct world {
    struct prng prng;
    struct fault_sim_stats stats;
    const struct fault_sim_options *options;
    struct buf *out;
    int64_t now_ms, wall_step_ms;
    uint64_t order, seed;
    struct heap agenda;
    bool faulty, failed;

    /* master */
    struct sched *sched;
    struct gate *gate;
    struct sched_config config;
    uint64_t life, sessions;
    bool alive, store_low;
    int64_t paused_until_ms, wake_ms, boot_ms, pump_at_ms;
    struct buf journal, pending;   /* committed records, encoded; the batch being written */
    size_t journal_last;           /* where the last committed batch begins */
    uint64_t committed_seq;
    struct prng broker_prng;   /* its own, too */
    bool broker, http;         /* its faults; leases over HTTP */
    double unconfirmed;        /* messages whose confirm is lost: they are published again */
    int64_t blocked_until_ms;  /* an alarm: nothing can be published */
    struct prng cron_prng;     /* likewise */
    struct prng gang_prng;
    uint64_t gang_starting;    /* the gang of which a part was started by the record before */
    struct prng snapshot_prng; /* its own, so that a seed's world is the same whatever is done about snapshots */
    struct buf snapshot;       /* of the journal up to snapshot_at */
    size_t snapshot_at;
    struct sched *shadow; /* read the whole journal where `sched` started from the snapshot; must decide the same */

    struct worker workers[WORKERS_MAX];
    int workers_count;

    struct op *ops;
    struct truth *truths;
    struct task_book *tasks;
    struct job_book *jobs;
    struct class_book classes[256];
    struct cron_book cron;
    struct party_book parties[PARTIES_BOOKED];
    size_t parties_count;
    struct named_resource token; /* of the job that is submitted */
    bool token_there;            /* the cluster has it, as far as clients know */

    /* this seed's faults */
    double loss, doubling, reorder;
    int64_t delay_max_ms, commit_max_ms;
    bool crashes, partitions, pauses, clock_jumps, store_errors, reboots, liars;
    bool sets; /* limits are changed */
    int submits_left;
};

static void violated(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void violated(struct world *w, const char *fmt, ...)
{
    if (w->failed)
        return;
    w->failed = true;
    va_list args;
    va_start(args, fmt);
    buf_printf(w->out, "violated at %" PRId64 " ms: ", w->now_ms);
    buf_vprintf(w->out, fmt, args);
    va_end(args);
    buf_printf(w->out, "; again: rota sim --faults --seed %" PRIu64 " --trace\n", w->seed);
}

static void tell(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void tell(struct world *w, const char *fmt, ...)
{
    if (!w->options->trace)
        return;
    buf_printf(w->out, "[%8" PRId64 "] ", w->now_ms);
    va_list args;
    va_start(args, fmt);
    buf_vprintf(w->out, fmt, args);
    va_end(args);
    buf_char(w->out, '\n');
}

static bool happening_before(const struct heap_node *a, const struct heap_node *b)
{
    const struct happening *x = heap_entry(a, struct happening, node), *y = heap_entry(b, struct happening, node);
    return x->at_ms != y->at_ms ? x->at_ms < y->at_ms : x->order < y->order;
}

static struct happening *plan(struct world *w, int64_t at_ms, enum what what, int worker)
{
    struct happening *h = mem_zero(1, sizeof *h);
    heap_node_init(&h->node);
    h->at_ms = at_ms < w->now_ms ? w->now_ms : at_ms;
    h->order = w->order++;
    h->what = what;
    h->worker = worker;
    h->life = worker < 0 ? w->life : w->workers[worker].life;
    heap_push(&w->agenda, &h->node);
    return h;
}

static int64_t between(struct world *w, int64_t low, int64_t high) { return prng_between(&w->prng, low, high); }
static int64_t cron_between(struct world *w, int64_t low, int64_t high) { return prng_between(&w->cron_prng, low, high); }
static bool chance(struct world *w, double p) { return prng_chance(&w->prng, p); }
static int64_t wall(const struct world *w) { return 1700000000000 + w->now_ms + w->wall_step_ms; }

/* Wakes the master's or a worker's loop, once per instant. */
static void pump_soon(struct world *w, int worker, int64_t at_ms)
{
    int64_t *planned = worker < 0 ? &w->pump_at_ms : &w->workers[worker].pump_at_ms;
    if (at_ms < w->now_ms)
        at_ms = w->now_ms;
    if (*planned >= w->now_ms && *planned <= at_ms)
        return;
    *planned = at_ms;
    plan(w, at_ms, worker < 0 ? W_MASTER_PUMP : W_WORKER_PUMP, worker);
}

/* --- network --- */

static void packet_free(struct packet *p)
{
    arena_fini(&p->arena);
    free(p);
}

static void transmit_once(struct world *w, int worker, bool to_master, uint64_t session, uint64_t epoch, const struct message *m)
{
    struct packet *p = mem_zero(1, sizeof *p);
    p->to_master = to_master;
    p->session = session;
    p->epoch = epoch;
    p->message = *m;
    message_keep(&p->arena, &p->message);
    int64_t delay = between(w, 0, 2);
    if (w->faulty && chance(w, w->reorder))
        delay = between(w, 0, w->delay_max_ms);
    if (w->now_ms < w->blocked_until_ms)
        delay += w->blocked_until_ms - w->now_ms;
    struct happening *h = plan(w, w->now_ms + delay, W_DELIVER, worker);
    h->packet = p;
}

/* Its confirm was lost, or a consumer went away before it acknowledged. */
static void publish_again(struct world *w, int worker, bool to_master, uint64_t session, uint64_t epoch, const struct message *m, int64_t after_ms)
{
    struct packet *p = mem_zero(1, sizeof *p);
    p->to_master = to_master;
    p->session = session;
    p->epoch = epoch;
    p->message = *m;
    message_keep(&p->arena, &p->message);
    w->stats.doubled++;
    plan(w, w->now_ms + after_ms, W_DELIVER, worker)->packet = p;
}

static void transmit(struct world *w, int worker, bool to_master, uint64_t session, uint64_t epoch, const struct message *m)
{
    const struct worker *k = &w->workers[worker];
    w->stats.messages++;
    if ((to_master ? k->cut_up : k->cut_down) || (w->faulty && chance(w, w->loss))) {
        w->stats.lost++;
        return;
    }
    transmit_once(w, worker, to_master, session, epoch, m);
    while (w->faulty && chance(w, w->doubling)) {
        w->stats.doubled++;
        transmit_once(w, worker, to_master, session, epoch, m);
    }
    if (w->broker && w->faulty && prng_chance(&w->broker_prng, w->unconfirmed))
        publish_again(w, worker, to_master, session, epoch, m, prng_between(&w->broker_prng, 1000, 60000));
}

/* --- an independent reading of what is committed --- */

static struct task_book *task_book(struct world *w, uint64_t job, uint32_t task)
{
    struct task_book *t;
    struct { uint64_t job; uint64_t task; } key = { job, task };
    HASH_FIND(hh, w->tasks, &key, sizeof key, t);
    if (!t) {
        t = mem_zero(1, sizeof *t);
        t->key.job = job;
        t->key.task = task;
        HASH_ADD(hh, w->tasks, key, sizeof t->key, t);
    }
    return t;
}

static struct job_book *job_book(struct world *w, uint64_t id)
{
    struct job_book *j;
    HASH_FIND(hh, w->jobs, &id, sizeof id, j);
    if (!j) {
        j = mem_zero(1, sizeof *j);
        j->id = id;
        HASH_ADD(hh, w->jobs, id, sizeof j->id, j);
    }
    return j;
}

static struct truth *truth_of(struct world *w, struct attempt_ref ref)
{
    struct truth *t;
    struct attempt_ref key;
    memset(&key, 0, sizeof key);
    key.job = ref.job;
    key.task = ref.task;
    key.attempt = ref.attempt;
    HASH_FIND(hh, w->truths, &key, sizeof key, t);
    if (!t) {
        t = mem_zero(1, sizeof *t);
        memcpy(&t->ref, &key, sizeof key);
        HASH_ADD(hh, w->truths, ref, sizeof t->ref, t);
    }
    return t;
}

static struct party_book *party_book(struct world *w, enum party_kind kind, struct bytes name)
{
    for (size_t i = 0; i < w->parties_count; i++)
        if (w->parties[i].kind == kind && bytes_equal(bytes_str(w->parties[i].name), name))
            return &w->parties[i];
    check(w->parties_count < PARTIES_BOOKED && name.size < sizeof w->parties->name);
    struct party_book *p = &w->parties[w->parties_count++];
    p->kind = kind;
    memcpy(p->name, name.data, name.size);
    return p;
}

static void read_class(struct world *w, const struct ev_class *e)
{
    if (e->class >= 256)
        return;
    struct class_book *c = &w->classes[e->class];
    c->retries = e->retries;
    c->nodes = e->nodes;
    c->cpu = e->need.v[RES_CPU];
    c->mem = e->need.v[RES_MEM];
    c->parties[0] = party_book(w, PARTY_USER, e->user);
    c->parties[1] = party_book(w, PARTY_QUEUE, e->queue);
    c->parties[2] = party_book(w, PARTY_ACCOUNT, e->account.size ? e->account : bytes_str(ACCOUNT_DEFAULT));
    const uint8_t *at = (const uint8_t *)e->tokens.data, *end = at + e->tokens.size;
    uint64_t number = 0, count = 0;
    if (e->tokens.size && varint_read(&at, end, &number) && varint_read(&at, end, &count))
        c->tokens = (uint32_t)count;
}

static void read_settings(struct world *w, const struct ev_settings *e)
{
    struct party_book *p = party_book(w, (enum party_kind)e->kind, e->name);
    p->running_most = e->running;
    p->cpu_most = e->cpu_milli;
    p->paused = e->paused != 0;
    p->total = e->total;
    p->token_set = e->kind == PARTY_TOKEN;
}

/* An attempt was opened or closed: what is held against limits, and that no limit lets in more. */
static void read_held(struct world *w, uint64_t job, bool opened)
{
    const struct class_book *c = &w->classes[job_book(w, job)->class % 256];
    for (int i = 0; i < 3; i++) {
        struct party_book *p = c->parties[i];
        p->running += opened ? 1 : (uint64_t)-1;
        p->cpu += opened ? c->cpu : (uint64_t)-(int64_t)c->cpu;
        if (!opened)
            continue;
        if (p->paused)
            violated(w, "I13: job %" PRIu64 " was dispatched from the paused queue %s", job, p->name);
        if (p->running_most && p->running > p->running_most - 1)
            violated(w, "I13: %s has %" PRIu64 " attempts open, its limit is %" PRIu64, p->name, p->running, p->running_most - 1);
        if (p->cpu_most && p->cpu > p->cpu_most - 1)
            violated(w, "I13: %s has %" PRIu64 " milli CPUs, its limit is %" PRIu64, p->name, p->cpu, p->cpu_most - 1);
    }
    if (!c->tokens)
        return;
    struct party_book *t = party_book(w, PARTY_TOKEN, bytes_str("lic"));
    t->taken += opened ? c->tokens : (uint64_t)-(int64_t)c->tokens;
    if (opened && t->taken > t->total)
        violated(w, "I13: %" PRIu64 " tokens are taken of %" PRIu64, t->taken, t->total);
}

static void read_ended(struct world *w, const struct ev_ended *e)
{
    struct task_book *t = task_book(w, e->job, e->task);
    struct job_book *j = job_book(w, e->job);
    if (!t->open || t->attempt != e->attempt)
        violated(w, "I2: attempt %u of job %" PRIu64 " ended but was not open", e->attempt, e->job);
    t->open = false;
    t->reason = e->reason;
    read_held(w, e->job, false);
    if ((e->flags & END_OF_GANG ? 1 : 0) != (j->nodes > 1) || (j->nodes > 1 && (e->final || e->counted || e->retry_ms)))
        violated(w, "I14: a part of job %" PRIu64 " ends by itself", e->job);
    t->counted += e->counted != 0;
    if (e->counted && reason_infra((enum reason)e->reason))
        violated(w, "I8: a failure of the infrastructure counts against job %" PRIu64, e->job);
    if (t->counted > j->retries + 1)
        violated(w, "I8: job %" PRIu64 " was tried %u times, its limit is %u", e->job, t->counted, j->retries + 1);
    const struct truth *truth = truth_of(w, (struct attempt_ref){ { e->job }, e->task, e->attempt });
    if (e->reason == REASON_NONE && !(truth->ended && truth->result.reason == REASON_NONE && truth->result.exit_code == 0))
        violated(w, "I3: attempt %u of job %" PRIu64 " was committed as a success it was not", e->attempt, e->job);
    if (e->reason == REASON_EXIT && !(truth->ended && truth->result.exit_code == e->exit_code))
        violated(w, "I3: attempt %u of job %" PRIu64 " was committed with exit code %u, it had %u", e->attempt, e->job,
                 e->exit_code, truth->result.exit_code);
    if (!e->final && j->cancelled && j->nodes <= 1)
        violated(w, "I9: job %" PRIu64 " is tried again after its cancel", e->job);
}

/* The parts of a gang start one record after the other, on nodes that have none of it, when none of it is open. */
static void read_part(struct world *w, const struct ev_assigned *e)
{
    struct job_book *j = job_book(w, e->job);
    if (e->task != j->parts)
        violated(w, "I14: part %u of job %" PRIu64 " starts after %u", e->task, e->job, j->parts);
    for (uint32_t p = 0; p < j->nodes; p++) {
        const struct task_book *t = task_book(w, e->job, p);
        if (p != e->task && (t->open ? p > e->task || t->node == e->node : p < e->task))
            violated(w, "I14: part %u of job %" PRIu64 " starts beside part %u", e->task, e->job, p);
    }
    j->parts = e->task + 1 < j->nodes ? e->task + 1 : 0;
    w->gang_starting = j->parts ? e->job : 0;
}

static void read_gang_ended(struct world *w, const struct ev_gang_ended *e)
{
    struct job_book *j = job_book(w, e->job);
    bool failed = false;
    for (uint32_t p = 0; p < j->nodes; p++) {
        const struct task_book *t = task_book(w, e->job, p);
        failed |= t->reason != REASON_NONE;
        if (t->open)
            violated(w, "I14: job %" PRIu64 " ends while part %u of it is open", e->job, p);
    }
    if (e->final == JOB_SUCCEEDED && failed)
        violated(w, "I14: job %" PRIu64 " succeeds without a part of it", e->job);
    if (!e->final && j->cancelled)
        violated(w, "I9: job %" PRIu64 " is tried again after its cancel", e->job);
    j->counted += e->counted != 0;
    if (e->counted && reason_infra((enum reason)e->reason))
        violated(w, "I8: a failure of the infrastructure counts against job %" PRIu64, e->job);
    if (j->counted > j->retries + 1)
        violated(w, "I8: job %" PRIu64 " was tried %u times, its limit is %u", e->job, j->counted, j->retries + 1);
}

/* Each due time is dealt with once, in order, and none is left out. */
static void read_due(struct world *w, struct bytes name, int64_t due_wall_ms, uint32_t count)
{
    struct cron_book *c = &w->cron;
    if (!c->there || !bytes_equal(name, bytes_str(CRON_NAME)))
        violated(w, "I13: a due time of an entry that is not there");
    if (due_wall_ms <= c->last_wall_ms)
        violated(w, "I13: the due time %" PRId64 " comes after %" PRId64, due_wall_ms, c->last_wall_ms);
    if (due_wall_ms / CRON_EACH_MS - c->last_wall_ms / CRON_EACH_MS != count)
        violated(w, "I13: %u due times between %" PRId64 " and %" PRId64, count, c->last_wall_ms, due_wall_ms);
    c->last_wall_ms = due_wall_ms;
}

static void read_cron(struct world *w, const struct ev_cron *e)
{
    if (w->cron.there && e->from_wall_ms < w->cron.last_wall_ms)
        violated(w, "I13: an entry that was changed would come again");
    w->cron = (struct cron_book){ true, (enum cron_overlap)e->overlap, e->from_wall_ms, e->last };
}

/* A job of the entry. */
static void read_cron_job(struct world *w, const struct ev_submitted *e)
{
    struct cron_book *c = &w->cron;
    read_due(w, e->cron, e->due_wall_ms, 1);
    if (c->job && !job_book(w, c->job)->terminals && c->overlap == CRON_SKIP)
        violated(w, "I13: job %" PRIu64 " came while job %" PRIu64 " had not ended", e->job, c->job);
    if (c->job && !job_book(w, c->job)->terminals && !job_book(w, c->job)->cancelled && c->overlap == CRON_REPLACE)
        violated(w, "I13: job %" PRIu64 " came and job %" PRIu64 " was not cancelled", e->job, c->job);
    c->job = e->job;
}

static void read_record(struct world *w, const struct record *r)
{
    w->stats.records++;
    if (r->seq != w->committed_seq + 1)
        violated(w, "I10: record %" PRIu64 " follows record %" PRIu64, r->seq, w->committed_seq);
    w->committed_seq = r->seq;
    struct record_subject s = record_subject(r);
    if (w->gang_starting && (r->kind != EV_ASSIGNED || s.job.n != w->gang_starting))
        violated(w, "I14: job %" PRIu64 " starts in part", w->gang_starting);
    switch (r->kind) {
    case EV_CLASS:
        read_class(w, &r->class);
        break;
    case EV_SETTINGS: read_settings(w, &r->settings); break;
    case EV_SUBMITTED: {
        struct job_book *j = job_book(w, s.job.n);
        j->tasks = r->submitted.tasks;
        j->class = r->submitted.class;
        j->retries = w->classes[r->submitted.class % 256].retries;
        j->nodes = w->classes[r->submitted.class % 256].nodes;
        if (r->submitted.cron.size)
            read_cron_job(w, &r->submitted);
        break;
    }
    case EV_ASSIGNED: {
        struct task_book *t = task_book(w, s.job.n, s.task);
        if (t->open)
            violated(w, "I2: job %" PRIu64 " has two open attempts of one task", s.job.n);
        if (t->terminals)
            violated(w, "I2: job %" PRIu64 " was dispatched after its end", s.job.n);
        if (job_book(w, s.job.n)->cancelled)
            violated(w, "I9: job %" PRIu64 " was dispatched after its cancel", s.job.n);
        if (s.attempt != t->attempt + 1 || s.attempt > ATTEMPTS_MAX)
            violated(w, "I4: attempt %u of job %" PRIu64 " follows attempt %u", s.attempt, s.job.n, t->attempt);
        t->attempt = s.attempt;
        if (job_book(w, s.job.n)->nodes > 1)
            read_part(w, &r->assigned);
        t->node = s.node.n;
        t->open = true;
        read_held(w, s.job.n, true);
        w->stats.attempts++;
        break;
    }
    case EV_REVOKED: {
        struct task_book *t = task_book(w, s.job.n, s.task);
        if (!t->open || t->attempt != s.attempt)
            violated(w, "I2: attempt %u of job %" PRIu64 " was revoked but was not open", s.attempt, s.job.n);
        t->open = false;
        t->reason = REASON_NEVER_STARTED;
        read_held(w, s.job.n, false);
        break;
    }
    case EV_ENDED: read_ended(w, &r->ended); break;
    case EV_GANG_ENDED: read_gang_ended(w, &r->gang_ended); break;
    case EV_GROWN: {
        struct job_book *j = job_book(w, s.job.n);
        if (task_book(w, s.job.n, TASK_SINGLE)->open)
            violated(w, "I7: job %" PRIu64 " asks for more while it has some of it", s.job.n);
        if (w->classes[r->grown.class % 256].mem <= w->classes[j->class % 256].mem)
            violated(w, "I8: job %" PRIu64 " is tried again with no more memory", s.job.n);
        j->class = r->grown.class;
        break;
    }
    case EV_CRON: read_cron(w, &r->cron); break;
    case EV_CRON_REMOVED: w->cron = (struct cron_book){ 0 }; break;
    case EV_CRON_PASSED: read_due(w, r->cron_passed.name, r->cron_passed.due_wall_ms, r->cron_passed.count); break;
    case EV_CANCEL:
        if (r->cancel.task == TASK_ALL || r->cancel.task == TASK_SINGLE)
            job_book(w, s.job.n)->cancelled = true;
        break;
    default: break;
    }
    if (!s.terminal)
        return;
    if (s.whole_job && ++job_book(w, s.job.n)->terminals > 1)
        violated(w, "I2: job %" PRIu64 " ended twice", s.job.n);
    if (!s.whole_job && ++task_book(w, s.job.n, s.task)->terminals > 1)
        violated(w, "I2: task %u of job %" PRIu64 " ended twice", s.task, s.job.n);
}

static int for_each_record(const struct buf *bytes, int (*each)(void *arg, const struct record *r, struct err *err), void *arg,
                           struct err *err)
{
    const uint8_t *at = (const uint8_t *)bytes->data, *end = at + bytes->size;
    while (at < end) {
        struct record r;
        int rc = record_decode(&at, end, &r, err);
        if (rc == 0)
            rc = each(arg, &r, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int book_record(void *arg, const struct record *r, struct err *err)
{
    (void)err;
    struct world *w = arg;
    if (w->options->trace) {
        struct buf text = BUF_INIT;
        record_print(&text, r);
        tell(w, "  committed %" PRIu64 " %s", r->seq, text.data);
        buf_fini(&text);
    }
    read_record(w, r);
    return 0;
}

static int replay_record(void *arg, const struct record *r, struct err *err)
{
    return sched_apply(arg, r, err);
}

static void replay(struct world *w, struct sched *s, size_t from)
{
    struct buf rest = { w->journal.data + from, w->journal.size - from, 0 };
    struct err err = { 0 };
    if (w->journal.size > from && for_each_record(&rest, replay_record, s, &err) < 0)
        violated(w, "replay: %s", err.text);
}

static struct sched *replayed(struct world *w)
{
    struct sched *s = sched_new(&w->config);
    replay(w, s, 0);
    return s;
}

/* --- snapshots --- */

static void add_piece(void *arg, struct bytes piece)
{
    buf_add(arg, piece.data, piece.size);
}

/* From the snapshot, if there is one, and what came after. */
static struct sched *recovered(struct world *w)
{
    struct sched *s = sched_new(&w->config);
    struct err err = { 0 };
    if (w->snapshot_at > w->journal.size)
        w->snapshot_at = 0; /* Records that were lost though they were committed: a planted bug. */
    if (w->snapshot_at) {
        struct sched_restore *r = sched_restore_new(s);
        if (sched_restore_piece(r, buf_bytes(&w->snapshot), &err) < 0 || sched_restore_end(r, &err) < 0)
            violated(w, "snapshot: %s", err.text);
        sched_restore_free(r);
        sched_check(s);
    }
    replay(w, s, w->snapshot_at);
    return s;
}

/* As the master does it: from the last one and the journal since. */
static void take_snapshot(struct world *w)
{
    struct sched *s = recovered(w);
    buf_clear(&w->snapshot);
    sched_snapshot(s, add_piece, &w->snapshot);
    w->snapshot_at = w->journal.size;
    sched_free(s);
}

static void compare_shadow(struct world *w)
{
    struct buf one = BUF_INIT, other = BUF_INIT;
    struct sched_stats stats, shadow;
    sched_snapshot(w->sched, add_piece, &one);
    sched_snapshot(w->shadow, add_piece, &other);
    sched_view_stats(w->sched, &stats);
    sched_view_stats(w->shadow, &shadow);
    if (memcmp(&stats, &shadow, offsetof(struct sched_stats, cycles)) != 0)
        violated(w, "the snapshot and what came after do not give the numbers that the whole journal gives");
    if (!bytes_equal(buf_bytes(&one), buf_bytes(&other)) || sched_view_hash(w->sched) != sched_view_hash(w->shadow))
        violated(w, "the snapshot and what came after do not give the state that the whole journal gives");
    buf_fini(&one);
    buf_fini(&other);
}

static bool same_records(const struct effects *a, const struct effects *b)
{
    struct buf one = BUF_INIT, other = BUF_INIT;
    bool same = a->records_count == b->records_count;
    for (size_t i = 0; same && i < a->records_count; i++) {
        buf_clear(&one);
        buf_clear(&other);
        record_encode(&one, &a->records[i]);
        record_encode(&other, &b->records[i]);
        same = bytes_equal(buf_bytes(&one), buf_bytes(&other));
    }
    buf_fini(&one);
    buf_fini(&other);
    return same;
}

/* State that a snapshot does not hold would show here, once it matters. */
static void same_decision(struct world *w, const struct effects *fx, const struct effects *shadow)
{
    bool same = same_records(fx, shadow) && fx->sends_count == shadow->sends_count;
    for (size_t i = 0; same && i < fx->sends_count; i++)
        same = fx->sends[i].session == shadow->sends[i].session &&
               fx->sends[i].message.kind == shadow->sends[i].message.kind;
    if (!same)
        violated(w, "a master that started from a snapshot decides otherwise than one that read the whole journal");
}

static void shadow_drop(struct world *w)
{
    sched_free(w->shadow);
    w->shadow = NULL;
}

/* --- master --- */

static void master_effects(struct world *w, const struct effects *fx);

static void master_step(struct world *w, struct sched_event *ev, struct sched_result *result)
{
    ev->now_ms = w->now_ms - w->boot_ms;
    ev->wall_ms = wall(w);
    struct effects fx;
    sched_step(w->sched, ev, &fx, result);
    sched_check(w->sched);
    if (w->shadow) {
        struct effects shadow;
        struct sched_result ignored;
        sched_step(w->shadow, ev, &shadow, &ignored);
        same_decision(w, &fx, &shadow);
    }
    master_effects(w, &fx);
}

static void master_send(struct world *w, const struct send *send)
{
    struct sched_stats stats;
    sched_view_stats(w->sched, &stats);
    for (int i = 0; i < w->workers_count; i++)
        if (w->workers[i].session == send->session)
            transmit(w, i, false, send->session, stats.epoch, &send->message);
}

static void master_effects(struct world *w, const struct effects *fx)
{
    if (BUG(send_before_commit)) {
        struct effects records = *fx;
        records.sends_count = 0;
        gate_add(w->gate, &records);
        for (size_t i = 0; i < fx->sends_count; i++)
            master_send(w, &fx->sends[i]);
    } else {
        gate_add(w->gate, fx);
    }
    w->wake_ms = fx->wake_at_ms + w->boot_ms;
    pump_soon(w, -1, w->now_ms);
}

static void answer(struct world *w, struct op *op)
{
    if (op->answered)
        return;
    op->answered = true;
    if (op->kind == SCHED_SUBMIT) {
        job_book(w, op->job.n)->acked = true;
        tell(w, "client: job %" PRIu64 " accepted", op->job.n);
    }
}

static void master_die(struct world *w, const char *why)
{
    if (!w->alive)
        return;
    tell(w, "master dies: %s", why);
    w->stats.master_crashes++;
    w->alive = false;
    w->life++;
    sched_free(w->sched);
    shadow_drop(w);
    gate_free(w->gate);
    w->sched = NULL;
    w->gate = NULL;
    if (w->pending.size) {
        /* The batch under way: its sync may have been done, or not. Whole or not at all. */
        if (chance(w, 0.5)) {
            struct err err = { 0 };
            for_each_record(&w->pending, book_record, w, &err);
            w->journal_last = w->journal.size;
            buf_add(&w->journal, w->pending.data, w->pending.size);
        }
        buf_clear(&w->pending);
    } else if (BUG(commit_not_synced) && chance(w, 0.5)) {
        w->journal.size = w->journal_last;
    }
    for (int i = 0; i < w->workers_count; i++)
        if (w->workers[i].link) {
            w->workers[i].session = 0;
            plan(w, w->now_ms + between(w, 0, 3000), W_LINK, i);
        }
    plan(w, w->now_ms + between(w, 10, w->faulty ? 60000 : 1000), W_MASTER_RESTART, -1);
}

static void transport_is(struct world *w, bool down);

static void master_start(struct world *w)
{
    if (w->alive)
        return;
    bool from_snapshot = prng_chance(&w->snapshot_prng, 0.5);
    w->sched = from_snapshot ? recovered(w) : replayed(w);
    w->shadow = from_snapshot ? replayed(w) : NULL;
    if (w->failed)
        return;
    sched_check(w->sched);
    if (from_snapshot)
        compare_shadow(w);
    struct sched_stats stats;
    sched_view_stats(w->sched, &stats);
    w->alive = true;
    w->store_low = false;
    w->boot_ms = w->now_ms - between(w, 0, 1000);
    w->paused_until_ms = 0;
    w->pump_at_ms = -1;
    w->gate = gate_new(w->committed_seq + 1);
    struct effects fx;
    uint64_t seed = prng_u64(&w->prng);
    sched_start(w->sched, stats.epoch + 1, "sim", seed, w->now_ms - w->boot_ms, wall(w), &fx);
    sched_check(w->sched);
    if (w->shadow) {
        struct effects shadow;
        sched_start(w->shadow, stats.epoch + 1, "sim", seed, w->now_ms - w->boot_ms, wall(w), &shadow);
        same_decision(w, &fx, &shadow);
    }
    tell(w, "master starts, epoch %" PRIu64, stats.epoch + 1);
    master_effects(w, &fx);
    if (w->now_ms < w->blocked_until_ms)
        transport_is(w, true);
    /* I1: whatever was acknowledged is there. */
    for (struct job_book *j = w->jobs; j; j = j->hh.next) {
        struct job_view view;
        if (j->acked && !sched_view_job(w->sched, (job_id){ j->id }, &view))
            violated(w, "I1: job %" PRIu64 " was acknowledged and is gone", j->id);
    }
    for (int i = 0; i < w->workers_count; i++)
        plan(w, w->now_ms + between(w, 0, 5000), W_LINK, i);
}

static void master_perform(struct world *w, const struct gate_batch *batch)
{
    size_t stop = SIZE_MAX;
    if (w->faulty && w->crashes && chance(w, 0.002))
        stop = (size_t)between(w, 0, (int64_t)batch->items_count);
    for (size_t i = 0; i < batch->items_count && i < stop; i++) {
        const struct gate_item *item = &batch->items[i];
        if (item->kind == GATE_SEND)
            master_send(w, &item->send);
        else if (item->kind == GATE_REPLY)
            answer(w, item->reply.context);
    }
    if (stop != SIZE_MAX)
        master_die(w, "between two effects");
}

static void master_compare(struct world *w)
{
    struct sched *again = replayed(w);
    if (!w->failed && sched_view_hash(again) != sched_view_hash(w->sched)) {
        violated(w, "the journal, replayed, does not give the state that is live");
        if (w->options->trace) {
            buf_str(w->out, "live:\n");
            sched_view_dump(w->sched, w->out);
            buf_str(w->out, "replayed:\n");
            sched_view_dump(again, w->out);
        }
    }
    sched_free(again);
}

static void master_pump(struct world *w)
{
    w->pump_at_ms = -1;
    if (!w->alive)
        return;
    if (w->now_ms < w->paused_until_ms) {
        pump_soon(w, -1, w->paused_until_ms);
        return;
    }
    if (w->now_ms >= w->wake_ms) {
        struct sched_event ev = { .kind = SCHED_TICK };
        master_step(w, &ev, NULL);
    }
    const struct gate_batch *batch = gate_seal(w->gate);
    if (batch && !batch->records_count) {
        gate_commit(w->gate);
        master_perform(w, batch);
    } else if (batch) {
        for (size_t i = 0; i < batch->records_count; i++)
            record_encode(&w->pending, &batch->records[i]);
        plan(w, w->now_ms + between(w, 0, w->commit_max_ms), W_MASTER_COMMIT, -1);
    } else if (!gate_in_flight(w->gate) && chance(w, 0.02)) {
        master_compare(w);
    }
    if (w->alive && w->wake_ms != INT64_MAX)
        pump_soon(w, -1, w->wake_ms);
}

static void master_commit(struct world *w)
{
    if (w->faulty && w->store_errors && chance(w, 0.01)) {
        w->stats.commit_errors++;
        if (chance(w, 0.5)) {
            master_die(w, "a commit that may or may not be there");
            return;
        }
        /* Rolled back for want of space: the same batch again later, nothing new meanwhile. */
        tell(w, "store is full");
        struct sched_event ev = { .kind = SCHED_STORE_LOW, .flag.on = true };
        w->store_low = true;
        master_step(w, &ev, NULL);
        plan(w, w->now_ms + between(w, 100, 5000), W_MASTER_COMMIT, -1);
        return;
    }
    w->stats.commits++;
    struct err err = { 0 };
    for_each_record(&w->pending, book_record, w, &err);
    w->journal_last = w->journal.size;
    buf_add(&w->journal, w->pending.data, w->pending.size);
    buf_clear(&w->pending);
    if (prng_chance(&w->snapshot_prng, 0.02))
        take_snapshot(w);
    const struct gate_batch *batch = gate_commit(w->gate);
    master_perform(w, batch);
    if (!w->alive)
        return;
    if (w->store_low) {
        struct sched_event ev = { .kind = SCHED_STORE_LOW, .flag.on = false };
        w->store_low = false;
        master_step(w, &ev, NULL);
    }
    pump_soon(w, -1, w->now_ms);
}

/* --- worker --- */

static void worker_effects(struct world *w, struct worker *k, const struct effects *fx);

static void worker_step(struct world *w, struct worker *k, struct agent_event *ev)
{
    ev->now_ms = w->now_ms - k->boot_ms;
    ev->wall_ms = wall(w);
    struct effects fx;
    agent_step(k->agent, ev, &fx);
    agent_check(k->agent);
    worker_effects(w, k, &fx);
}

static struct process *process_of(struct worker *k, struct attempt_ref ref)
{
    for (size_t i = 0; i < k->processes_count; i++)
        if (attempt_equal(k->processes[i].ref, ref))
            return &k->processes[i];
    return NULL;
}

/* How a job behaves follows from its number, so that each attempt can be foretold. */
static uint64_t trait(const struct world *w, struct attempt_ref ref, unsigned which)
{
    struct prng p;
    prng_seed(&p, w->seed ^ (ref.job.n * 1000003) ^ ((uint64_t)ref.task << 40) ^ ((uint64_t)which << 56) ^
                      (which >= 8 ? (uint64_t)ref.attempt << 20 : 0));
    return prng_u64(&p);
}

static int64_t run_time(const struct world *w, struct attempt_ref ref)
{
    switch (trait(w, ref, 1) % 4) {
    case 0: return 0;
    case 1: return (int64_t)(trait(w, ref, 9) % 20);
    case 2: return (int64_t)(trait(w, ref, 9) % 5000);
    default: return (int64_t)(trait(w, ref, 9) % 120000);
    }
}

static struct exec_command line_take(struct worker *k, size_t at)
{
    struct exec_command c = k->line[at];
    memmove(&k->line[at], &k->line[at + 1], (--k->line_count - at) * sizeof k->line[0]);
    return c;
}

static void process_start(struct world *w, struct worker *k, const struct exec_command *c, int64_t told_from_ms);

static bool lease_holds(const struct worker *k) { return k->leased || BUG(start_unleased); }

static void withdraw(struct world *w, struct worker *k, size_t at)
{
    struct exec_command c = line_take(k, at);
    plan(w, w->now_ms + between(w, 0, 2), W_WITHDRAWN, k->number)->ref = c.ref;
}

/* The place of an attempt that has just ended goes to the first in line that asks for the same. */
static void line_pass(struct world *w, struct worker *k, struct attempt_ref ended, struct resources need, int64_t told_ms)
{
    struct happening *h = plan(w, told_ms, W_VACATED, k->number);
    h->ref = ended;
    for (size_t i = 0; i < k->line_count; i++)
        if (resources_equal(&k->line[i].need, &need) && (!k->line[i].overlap_never || lease_holds(k))) {
            struct exec_command c = line_take(k, i);
            h->passed_to = c.ref;
            process_start(w, k, &c, told_ms);
            return;
        }
}

static void process_end(struct world *w, struct worker *k, struct process *p, enum reason reason, uint32_t code, uint32_t signal)
{
    p->running = false;
    p->result = (struct attempt_result){ .reason = reason, .exit_code = code, .signal = signal, .run_ms = w->now_ms - p->started_ms };
    struct truth *t = truth_of(w, p->ref);
    t->ended = true;
    t->result = p->result;
    if (!k->alive)
        return;
    struct attempt_ref ref = p->ref;
    struct resources need = p->need;
    int64_t vacated_ms = (p->told_from_ms > w->now_ms ? p->told_from_ms : w->now_ms) + between(w, 0, 2);
    line_pass(w, k, ref, need, vacated_ms);
    struct happening *h = plan(w, vacated_ms + between(w, 0, 2), W_SPAWNED, k->number);
    h->ref = ref;
}

/* I5. What may not overlap runs nowhere else. */
static void check_alone(struct world *w, const struct exec_command *c)
{
    for (int i = 0; i < w->workers_count; i++)
        for (size_t p = 0; p < w->workers[i].processes_count; p++) {
            const struct process *other = &w->workers[i].processes[p];
            if (other->running && other->ref.job.n == c->ref.job.n && other->ref.task == c->ref.task)
                violated(w, "I5: attempts %u and %u of job %" PRIu64 " task %d run at the same time", other->ref.attempt,
                         c->ref.attempt, c->ref.job.n, (int)c->ref.task);
        }
}

/* The executor's: it does not need the worker for it. */
static void lease_due(struct world *w, struct worker *k)
{
    if (!k->leased || w->now_ms < k->lease_until_ms)
        return;
    k->leased = false;
    for (size_t i = k->line_count; i-- > 0;)
        if (k->line[i].overlap_never)
            withdraw(w, k, i);
    for (size_t i = 0; i < k->processes_count; i++)
        if (k->processes[i].running && k->processes[i].exclusive) {
            tell(w, "    worker %d: the lease of job=%" PRIu64 " attempt=%u has run out", k->number, k->processes[i].ref.job.n,
                 k->processes[i].ref.attempt);
            w->stats.fenced++;
            process_end(w, k, &k->processes[i], REASON_LEASE_LOST, 0, 9);
        }
}

static void lease_set(struct world *w, struct worker *k, int64_t until_ms)
{
    lease_due(w, k);
    if (until_ms <= w->now_ms || (k->leased && until_ms <= k->lease_until_ms))
        return;
    k->leased = true;
    k->lease_until_ms = until_ms;
    plan(w, until_ms, W_LEASE, k->number);
}

static void process_start(struct world *w, struct worker *k, const struct exec_command *c, int64_t told_from_ms)
{
    struct truth *t = truth_of(w, c->ref);
    if (c->overlap_never)
        check_alone(w, c);
    if (++t->spawns > 1)
        violated(w, "I4: attempt %u of job %" PRIu64 " task %d was spawned twice", c->ref.attempt, c->ref.job.n, (int)c->ref.task);
    w->stats.spawns++;
    tell(w, "    worker %d spawns job=%" PRIu64 " task=%d attempt=%u", k->number, c->ref.job.n, (int)c->ref.task, c->ref.attempt);
    k->processes = mem_grow(k->processes, &k->processes_cap, k->processes_count + 1, sizeof *k->processes);
    struct process *p = &k->processes[k->processes_count++];
    *p = (struct process){ .ref = c->ref, .need = c->need, .running = true, .exclusive = c->overlap_never,
                           .started_ms = w->now_ms, .told_from_ms = told_from_ms };
    p->traps_term = trait(w, c->ref, 3) % 5 == 0;
    p->ignores_term = trait(w, c->ref, 4) % 7 == 0;
    p->ends_ms = w->now_ms + run_time(w, c->ref) * (p->exclusive ? 4 : 1);
    struct resources used = { 0 };
    for (size_t i = 0; i < k->processes_count; i++)
        if (k->processes[i].running)
            resources_add(&used, &k->processes[i].need);
    if (!resources_fit(&used, &k->config.capacity))
        violated(w, "I7: worker %d runs more than it has", k->number);
    int64_t ends_ms = p->ends_ms;
    struct happening *h = plan(w, told_from_ms + between(w, 0, 2), W_SPAWNED, k->number);
    h->ref = c->ref;
    h = plan(w, ends_ms, W_PROC_END, k->number);
    h->ref = c->ref;
}

static void worker_exec(struct world *w, struct worker *k, const struct exec_command *c)
{
    if (c->verb == EXEC_LEASE) {
        lease_set(w, k, c->lease_until_ms + k->boot_ms);
        return;
    }
    lease_due(w, k);
    if (c->verb == EXEC_START && c->overlap_never && !lease_holds(k)) {
        plan(w, w->now_ms + between(w, 0, 2), W_WITHDRAWN, k->number)->ref = c->ref;
        return;
    }
    if (c->verb == EXEC_START) {
        process_start(w, k, c, w->now_ms);
        return;
    }
    if (c->verb == EXEC_LINE_UP) {
        if (k->line_count == LINE_MAX_SIM) {
            violated(w, "worker %d has more in line than fit", k->number);
            return;
        }
        k->line[k->line_count] = *c;
        k->line[k->line_count++].spec = (struct bytes){ NULL, 0 };
        return;
    }
    for (size_t i = 0; i < k->line_count; i++) {
        if (!attempt_equal(k->line[i].ref, c->ref))
            continue;
        if (c->verb != EXEC_CALL || (c->overlap_never && !lease_holds(k))) {
            withdraw(w, k, i);
            return;
        }
        struct exec_command waiting = line_take(k, i);
        process_start(w, k, &waiting, w->now_ms);
        return;
    }
    if (c->verb == EXEC_CALL || c->verb == EXEC_WITHDRAW)
        return;
    struct process *p = process_of(k, c->ref);
    if (!p)
        return;
    if (c->verb == EXEC_REMOVE) {
        if (!p->running)
            *p = k->processes[--k->processes_count];
    } else if (p->running && (c->verb == EXEC_KILL || !p->ignores_term)) {
        bool trapped = c->verb == EXEC_TERM && p->traps_term;
        process_end(w, k, p, trapped ? REASON_NONE : REASON_SIGNAL, 0, trapped ? 0 : c->verb == EXEC_KILL ? 9 : 15);
    }
}

static void worker_effects(struct world *w, struct worker *k, const struct effects *fx)
{
    if (BUG(spawn_before_journal)) {
        struct effects rest = *fx;
        rest.execs_count = 0;
        gate_add(k->gate, &rest);
        for (size_t i = 0; i < fx->execs_count; i++)
            worker_exec(w, k, &fx->execs[i]);
    } else {
        gate_add(k->gate, fx);
    }
    k->wake_ms = fx->wake_at_ms == INT64_MAX ? INT64_MAX : fx->wake_at_ms + k->boot_ms;
    pump_soon(w, k->number, w->now_ms);
}

/* Keeps the first `records` records of the batch that was being written. */
static void journal_tear(struct worker *k, int64_t records)
{
    const uint8_t *at = (const uint8_t *)k->pending.data, *start = at, *end = at + k->pending.size;
    struct record r;
    while (records-- > 0 && at < end)
        if (record_decode(&at, end, &r, NULL) < 0)
            check_unreachable();
    buf_add(&k->journal, start, (size_t)(at - start));
    buf_clear(&k->pending);
}

static void worker_die(struct world *w, struct worker *k, bool reboot)
{
    if (!k->alive)
        return;
    tell(w, "worker %d %s", k->number, reboot ? "reboots" : "dies");
    if (reboot)
        w->stats.reboots++;
    else
        w->stats.worker_crashes++;
    k->alive = k->link = false;
    k->line_count = 0;
    k->leased &= !reboot;
    k->life++;
    uint64_t session = k->session;
    k->session = 0;
    agent_free(k->agent);
    gate_free(k->gate);
    k->agent = NULL;
    k->gate = NULL;
    if (k->pending.size)
        journal_tear(k, between(w, 0, 8));
    for (size_t i = 0; i < k->processes_count && reboot; i++)
        if (k->processes[i].running) {
            process_end(w, k, &k->processes[i], REASON_NODE_REBOOTED, 0, 0);
            k->processes[i].result.flags = END_MAY_HAVE_RUN;
        }
    if (w->alive && session && chance(w, 0.7)) {
        struct sched_event ev = { .kind = SCHED_SESSION_CLOSED, .session.session = session };
        master_step(w, &ev, NULL);
    }
    plan(w, w->now_ms + between(w, 10, w->faulty ? 400000 : 1000), W_WORKER_RESTART, k->number);
}

static int agent_record(void *arg, const struct record *r, struct err *err)
{
    return agent_apply(arg, r, err);
}

static void worker_start(struct world *w, struct worker *k)
{
    if (k->alive)
        return;
    k->config.incarnation++;
    k->agent = agent_new(&k->config, prng_u64(&w->prng));
    struct err err = { 0 };
    if (for_each_record(&k->journal, agent_record, k->agent, &err) < 0) {
        violated(w, "worker %d: %s", k->number, err.text);
        return;
    }
    k->alive = true;
    k->boot_ms = w->now_ms - between(w, 0, 1000);
    k->paused_until_ms = 0;
    k->pump_at_ms = -1;
    k->gate = gate_new(1);
    k->welcomed = false;
    if (w->http)
        plan(w, w->now_ms + ASK_EACH_MS, W_ASK, k->number);
    tell(w, "worker %d starts, incarnation %" PRIu64, k->number, k->config.incarnation);
    struct effects fx;
    agent_start(k->agent, w->now_ms - k->boot_ms, wall(w), &fx);
    worker_effects(w, k, &fx);
    size_t count = k->processes_count;
    struct process *known = mem_copy(k->processes, count * sizeof *known);
    for (size_t i = 0; i < count; i++) {
        struct agent_event ev = { .kind = AGENT_RECOVERED };
        ev.exec.ref = known[i].ref;
        ev.exec.phase = known[i].running ? PHASE_RUNNING : PHASE_ENDED;
        ev.exec.ran_ms = w->now_ms - known[i].started_ms;
        ev.exec.result = known[i].result;
        worker_step(w, k, &ev);
    }
    free(known);
    struct agent_event ev = { .kind = AGENT_RECOVERY_DONE };
    worker_step(w, k, &ev);
    plan(w, w->now_ms + between(w, 0, 3000), W_LINK, k->number);
}

/* A worker that lies: it claims the success of an attempt that it was never given the token of. */
static void lie(struct world *w, struct worker *k, struct attempt_ref ref)
{
    struct message m = { .kind = MSG_FINISHED };
    m.finished.ref = ref;
    m.finished.token = (struct mac128){ prng_u64(&w->prng), prng_u64(&w->prng) };
    transmit(w, k->number, true, k->session, 0, &m);
}

static void worker_perform(struct world *w, struct worker *k, const struct gate_batch *batch)
{
    size_t stop = SIZE_MAX;
    if (w->faulty && w->crashes && chance(w, 0.002))
        stop = (size_t)between(w, 0, (int64_t)batch->items_count);
    for (size_t i = 0; i < batch->items_count && i < stop; i++) {
        const struct gate_item *item = &batch->items[i];
        if (item->kind == GATE_EXEC)
            worker_exec(w, k, &item->exec);
        else if (item->kind == GATE_SEND && k->link)
            transmit(w, k->number, true, k->session, 0, &item->send.message);
        if (item->kind == GATE_EXEC && item->exec.verb == EXEC_START && k->link && w->faulty && w->liars && chance(w, 0.2))
            lie(w, k, item->exec.ref);
    }
    if (stop != SIZE_MAX)
        worker_die(w, k, false);
}

static void worker_pump(struct world *w, struct worker *k)
{
    k->pump_at_ms = -1;
    if (!k->alive)
        return;
    if (w->now_ms < k->paused_until_ms) {
        pump_soon(w, k->number, k->paused_until_ms);
        return;
    }
    if (w->now_ms >= k->wake_ms) {
        struct agent_event ev = { .kind = AGENT_TICK };
        worker_step(w, k, &ev);
    }
    const struct gate_batch *batch = gate_seal(k->gate);
    if (batch && !batch->records_count) {
        gate_commit(k->gate);
        worker_perform(w, k, batch);
    } else if (batch) {
        for (size_t i = 0; i < batch->records_count; i++)
            record_encode(&k->pending, &batch->records[i]);
        plan(w, w->now_ms + between(w, 0, w->commit_max_ms), W_WORKER_COMMIT, k->number);
    }
    if (k->alive && k->wake_ms != INT64_MAX)
        pump_soon(w, k->number, k->wake_ms);
}

static void worker_commit(struct world *w, struct worker *k)
{
    buf_add(&k->journal, k->pending.data, k->pending.size);
    buf_clear(&k->pending);
    worker_perform(w, k, gate_commit(k->gate));
    if (k->alive)
        pump_soon(w, k->number, w->now_ms);
}

/* The transport makes or finds a way to the master, or notices that there is none. */
static void link_changes(struct world *w, struct worker *k)
{
    if (!k->alive)
        return;
    if (k->link) {
        k->link = false;
        k->session = 0;
        struct agent_event ev = { .kind = AGENT_LINK_DOWN };
        worker_step(w, k, &ev);
    }
    if (!w->alive) {
        return; /* The master's start brings it up. */
    }
    k->link = true;
    k->session = ++w->sessions;
    tell(w, "worker %d has session %" PRIu64, k->number, k->session);
    struct agent_event ev = { .kind = AGENT_LINK_UP };
    worker_step(w, k, &ev);
}

static void proc_event(struct world *w, struct worker *k, struct attempt_ref ref)
{
    struct process *p = process_of(k, ref);
    if (!k->alive || !p)
        return;
    struct agent_event ev = { .kind = AGENT_SPAWNED };
    ev.exec.ref = ref;
    if (!p->running && p->vacated) {
        ev.kind = AGENT_EXITED;
        ev.exec.result = p->result;
    }
    worker_step(w, k, &ev);
}

static void vacated_event(struct world *w, struct worker *k, const struct happening *h)
{
    if (!k->alive)
        return;
    struct agent_event ev = { .kind = AGENT_VACATED };
    struct process *p = process_of(k, h->ref);
    if (p)
        p->vacated = true;
    ev.exec.ref = h->ref;
    ev.exec.passed_to = h->passed_to;
    worker_step(w, k, &ev);
}

static void withdrawn_event(struct world *w, struct worker *k, struct attempt_ref ref)
{
    if (!k->alive)
        return;
    struct agent_event ev = { .kind = AGENT_SPAWN_FAILED };
    ev.exec.ref = ref;
    ev.exec.result.reason = REASON_NEVER_STARTED;
    worker_step(w, k, &ev);
}

static void proc_ends(struct world *w, struct worker *k, struct attempt_ref ref)
{
    struct process *p = process_of(k, ref);
    if (!p || !p->running || p->ends_ms > w->now_ms)
        return;
    uint64_t how = trait(w, ref, 2) % 10;
    if (how < 6)
        process_end(w, k, p, REASON_NONE, 0, 0);
    else if (how < 8)
        process_end(w, k, p, REASON_EXIT, 1 + (uint32_t)(trait(w, ref, 5) % 255), 0);
    else if (how < 9 && trait(w, ref, 10) % 2)
        process_end(w, k, p, REASON_NONE, 0, 0);
    else if (trait(w, ref, 6) % 2)
        process_end(w, k, p, REASON_OOM, 137, 9);
    else
        process_end(w, k, p, REASON_SIGNAL, 0, 11);
}

/* --- deliveries --- */

static void tell_packet(struct world *w, const struct packet *p, int worker)
{
    const struct message *m = &p->message;
    struct attempt_ref ref = { { 0 }, 0, 0 };
    if (m->kind == MSG_START)
        ref = m->start.ref;
    else if (m->kind == MSG_FINISHED)
        ref = m->finished.ref;
    else if (m->kind == MSG_NEVER_STARTED)
        ref = m->never_started.ref;
    else if (m->kind == MSG_STARTED)
        ref = m->started.ref;
    else if (m->kind == MSG_KILL)
        ref = m->kill.ref;
    else if (m->kind == MSG_REPORT_ACK)
        ref = m->report_ack.ref;
    tell(w, "    %s %d: %s of session %" PRIu64 ", job=%" PRIu64 " task=%d attempt=%u", p->to_master ? "from" : "to", worker,
         message_name(m->kind), p->session, ref.job.n, (int)ref.task, ref.attempt);
}

/* A broker keeps what was delivered until it is acknowledged; here: the last few. */
static void unacked_add(struct worker *k, struct packet *p)
{
    unsigned way = p->to_master, at = k->unacked_next[way]++ % UNACKED_MAX;
    if (k->unacked[way][at])
        packet_free(k->unacked[way][at]);
    k->unacked[way][at] = p;
}

static void deliver(struct world *w, struct happening *h)
{
    struct packet *p = h->packet;
    struct worker *k = &w->workers[h->worker];
    if (h->lost) {
        w->stats.lost++;
        packet_free(p);
        return;
    }
    if (w->options->trace)
        tell_packet(w, p, h->worker);
    if (p->to_master) {
        if (w->alive && w->now_ms < w->paused_until_ms) {
            struct happening *later = plan(w, w->paused_until_ms, W_DELIVER, h->worker);
            later->packet = p;
            return;
        }
        if (w->alive) {
            struct sched_event ev = { .kind = SCHED_MESSAGE };
            ev.message.session = p->session;
            ev.message.message = &p->message;
            master_step(w, &ev, NULL);
        }
    } else {
        if (k->alive && w->now_ms < k->paused_until_ms) {
            struct happening *later = plan(w, k->paused_until_ms, W_DELIVER, h->worker);
            later->packet = p;
            return;
        }
        if (k->alive && k->link) {
            struct agent_event ev = { .kind = AGENT_MESSAGE, .epoch = p->epoch, .session = p->session, .message = &p->message };
            worker_step(w, k, &ev);
            if (p->message.kind == MSG_WELCOME) {
                k->welcomed = true;
                k->lease_token = p->message.welcome.lease_token;
            }
        }
    }
    if (w->broker)
        unacked_add(k, p);
    else
        packet_free(p);
}

/* --- leases over HTTP --- */

/* There and back: mostly at once. False: it was lost. */
static bool by_http(struct world *w, int64_t *delay_ms)
{
    *delay_ms = prng_between(&w->broker_prng, 0, w->faulty && prng_chance(&w->broker_prng, 0.2) ? 70000 : 20);
    return !w->faulty || !prng_chance(&w->broker_prng, 0.1);
}

static void lease_ask(struct world *w, struct worker *k)
{
    struct agent_stats stats;
    int64_t delay_ms;
    plan(w, w->now_ms + ASK_EACH_MS, W_ASK, k->number);
    if (!k->alive || w->now_ms < k->paused_until_ms)
        return;
    agent_view_stats(k->agent, &stats);
    int64_t now_ms = w->now_ms - k->boot_ms;
    if (!k->welcomed || stats.accepted + stats.running == 0 || stats.lease_until_ms - now_ms > stats.lease_ms / 2)
        return;
    if (!by_http(w, &delay_ms))
        return;
    struct happening *h = plan(w, w->now_ms + delay_ms, W_ASKED, k->number);
    h->sent_ms = now_ms;
    h->incarnation = k->config.incarnation;
}

static void lease_asked(struct world *w, const struct happening *h)
{
    const struct worker *k = &w->workers[h->worker];
    int64_t delay_ms = w->paused_until_ms - w->now_ms;
    enum what next = W_ASKED;
    if (!w->alive)
        return;
    if (delay_ms <= 0) {
        struct sched_result result;
        struct sched_event ev = { .kind = SCHED_LEASE, .lease = { k->config.worker, h->incarnation, k->lease_token } };
        master_step(w, &ev, &result);
        if (result.err.code != ERR_OK || !by_http(w, &delay_ms))
            return;
        next = W_RENEWED;
    }
    struct happening *then = plan(w, w->now_ms + delay_ms, next, h->worker);
    then->sent_ms = h->sent_ms;
    then->incarnation = h->incarnation;
    then->life = h->life;
}

static void lease_renewed(struct world *w, struct worker *k, const struct happening *h)
{
    if (!k->alive)
        return;
    if (w->now_ms < k->paused_until_ms) {
        struct happening *then = plan(w, k->paused_until_ms, W_RENEWED, h->worker);
        then->sent_ms = h->sent_ms;
        return;
    }
    w->stats.renewed++;
    struct agent_event ev = { .kind = AGENT_LEASE_RENEWED, .lease.sent_ms = h->sent_ms };
    worker_step(w, k, &ev);
}

/* --- the broker --- */

static void transport_is(struct world *w, bool down)
{
    if (!w->alive)
        return;
    struct sched_event ev = { .kind = SCHED_TRANSPORT_DOWN, .flag.on = down };
    master_step(w, &ev, NULL);
}

/* What was delivered and not acknowledged comes once more. */
static void redeliver(struct world *w, struct worker *k)
{
    for (unsigned way = 0; way < 2; way++)
        for (unsigned i = 0; i < UNACKED_MAX; i++) {
            const struct packet *p = k->unacked[way][(k->unacked_next[way] + i) % UNACKED_MAX];
            if (p)
                publish_again(w, k->number, p->to_master, p->session, p->epoch, &p->message, prng_between(&w->broker_prng, 0, 3000));
        }
}

static void lose_all(struct world *w)
{
    for (size_t i = 0; i < w->agenda.count; i++) {
        struct happening *h = heap_entry(w->agenda.nodes[i], struct happening, node);
        h->lost |= h->packet != NULL;
    }
}

static void broker_fault(struct world *w)
{
    if (!w->faulty)
        return;
    struct worker *k = &w->workers[prng_below(&w->broker_prng, (uint64_t)w->workers_count)];
    w->stats.broker_faults++;
    switch (prng_below(&w->broker_prng, 5)) {
    case 0:
        tell(w, "broker: an alarm, nothing can be published");
        w->blocked_until_ms = w->now_ms + prng_between(&w->broker_prng, 1000, 200000);
        transport_is(w, true);
        plan(w, w->blocked_until_ms, W_UNBLOCKED, -1)->life = 0;
        break;
    case 1:
        tell(w, "broker: all queues are lost");
        lose_all(w);
        break;
    case 2:
        tell(w, "broker: redelivers to and from worker %d", k->number);
        redeliver(w, k);
        break;
    case 3:
        tell(w, "broker: killed and started again");
        if (prng_chance(&w->broker_prng, 0.5))
            lose_all(w);
        for (int i = 0; i < w->workers_count; i++) {
            redeliver(w, &w->workers[i]);
            plan(w, w->now_ms + prng_between(&w->broker_prng, 0, 20000), W_LINK, i);
        }
        break;
    default:
        if (!w->alive || !k->session)
            break;
        tell(w, "broker: returns what goes to session %" PRIu64, k->session);
        struct sched_event ev = { .kind = SCHED_SESSION_CLOSED, .session.session = k->session };
        master_step(w, &ev, NULL);
        plan(w, w->now_ms + prng_between(&w->broker_prng, 0, 20000), W_LINK, k->number);
    }
    plan(w, w->now_ms + prng_between(&w->broker_prng, 100, 60000), W_BROKER, -1)->life = 0;
}

/* --- clients --- */

static job_id any_job(struct world *w)
{
    struct sched_stats stats;
    sched_view_stats(w->sched, &stats);
    return (job_id){ stats.job_last.n ? (uint64_t)between(w, 1, (int64_t)stats.job_last.n) : 0 };
}

static void client_submit(struct world *w, struct sched_event *ev, struct after *after)
{
    static const char *const users[] = { "ada", "grace", "alan" };
    ev->kind = SCHED_SUBMIT;
    struct job_request *q = &ev->submit;
    q->user = bytes_str(users[between(w, 0, 2)]);
    q->queue = bytes_str(chance(w, 0.8) ? "default" : "night");
    q->account = bytes_str(chance(w, 0.7) ? ACCOUNT_DEFAULT : "lab");
    if (w->token_there && chance(w, 0.15)) {
        q->tokens = &w->token;
        q->tokens_count = 1;
        w->token = (struct named_resource){ "lic", (uint64_t)between(w, 1, 2) };
    }
    q->name = bytes_str("job");
    q->need.v[RES_CPU] = (uint64_t)between(w, 1, 4) * 500;
    q->need.v[RES_MEM] = (uint64_t)between(w, 0, 4) << 28;
    if (chance(w, 0.02))
        q->need.v[RES_CPU] = 1000000; /* fits nowhere */
    q->priority = between(w, -2, 2);
    if (chance(w, 0.25)) {
        q->tasks = (uint32_t)between(w, 1, 12);
        q->first = 1;
        q->step = 1;
        q->limit = (uint32_t)between(w, 0, 3);
    }
    if (!q->tasks && q->need.v[RES_MEM] && prng_chance(&w->cron_prng, 0.3))
        q->mem_max_bytes = q->need.v[RES_MEM] * (uint64_t)cron_between(w, 1, 8);
    if (prng_chance(&w->gang_prng, 0.15)) {
        q->nodes = (uint32_t)prng_between(&w->gang_prng, 2, w->workers_count > 2 ? w->workers_count : 2);
        q->tasks = q->first = q->step = q->limit = 0;
        q->mem_max_bytes = 0;
    }
    q->retries = (uint32_t)between(w, 0, 2);
    q->time_limit_ms = chance(w, 0.3) ? between(w, 1000, 60000) : 0;
    q->lost_after_ms = chance(w, 0.5) ? 100000 : 0;
    q->held = chance(w, 0.05);
    q->overlap_never = chance(w, 0.3);
    if (q->overlap_never && q->lost_after_ms)
        q->lost_after_ms = w->config.down_ms;
    if (chance(w, 0.1))
        q->begin_wall_ms = wall(w) + between(w, -1000, 120000);
    if (chance(w, 0.1))
        q->deadline_wall_ms = wall(w) + between(w, 10000, 600000);
    if (chance(w, 0.2)) {
        after->job = any_job(w);
        after->when = (enum after_when)between(w, 0, 2);
        q->after = after;
        q->after_count = after->job.n ? 1 : 0;
    }
}

/* An administrator changes a limit, pauses a queue, buys licences. */
static void client_set(struct world *w, struct sched_event *ev, struct party_settings *set)
{
    static const char *const users[] = { "ada", "grace", "alan" };
    party_settings_default(set);
    ev->kind = SCHED_SET;
    ev->set.settings = set;
    ev->set.kind = (enum party_kind)between(w, PARTY_QUEUE, PARTY_TOKEN);
    if (chance(w, 0.7))
        set->limits.most[LIMIT_RUNNING] = (uint64_t)between(w, 1, 4);
    if (chance(w, 0.3))
        set->limits.most[LIMIT_CPUS] = (uint64_t)between(w, 4, 12) * 500;
    set->weight_milli = chance(w, 0.3) ? (uint64_t)between(w, 1, 5) * 1000 : 0;
    switch (ev->set.kind) {
    case PARTY_QUEUE:
        ev->set.name = bytes_str(chance(w, 0.4) ? "default" : "night");
        set->paused = chance(w, 0.3);
        set->priority = chance(w, 0.2) ? between(w, -1, 1) : 0;
        set->order = chance(w, 0.5) ? (enum order_kind)between(w, 0, ORDERS - 1) : ORDERS;
        break;
    case PARTY_USER: ev->set.name = bytes_str(users[between(w, 0, 2)]); break;
    case PARTY_ACCOUNT:
        ev->set.name = bytes_str("lab");
        if (chance(w, 0.3))
            set->parent = bytes_str("house");
        break;
    default:
        *set = (struct party_settings){ .limits = limits_none, .order = ORDERS, .total = (uint64_t)between(w, 1, 3) };
        ev->set.name = bytes_str("lic");
        w->token_there = true;
    }
}

/* What was done is answered when it is durable. */
static void answer_later(struct world *w, const struct sched_event *ev, job_id job)
{
    struct op *op = mem_zero(1, sizeof *op);
    op->kind = ev->kind;
    op->job = job;
    op->next = w->ops;
    w->ops = op;
    if (ev->kind == SCHED_SUBMIT) {
        w->stats.jobs++;
        w->stats.tasks += ev->submit.nodes > 1 ? ev->submit.nodes : ev->submit.tasks ? ev->submit.tasks : 1;
        w->stats.gangs += ev->submit.nodes > 1;
    }
    gate_add_reply(w->gate, op, 0);
    if (BUG(reply_before_commit))
        answer(w, op);
}

/* --- jobs that come again: the master's shell --- */

static void cron_change(struct world *w, bool there)
{
    struct cron_settings set = { .user = bytes_str("ada"), .schedule = bytes_str("each"), .zone = bytes_str("UTC"), .spec = bytes_str("{}") };
    struct sched_event ev = { .kind = there && prng_chance(&w->cron_prng, 0.1) ? SCHED_CRON_REMOVE : SCHED_CRON_SET };
    struct sched_result result;
    set.overlap = (enum cron_overlap)cron_between(w, 0, CRON_OVERLAPS - 1);
    set.paused = prng_chance(&w->cron_prng, 0.2);
    ev.cron.name = bytes_str(CRON_NAME);
    ev.cron.settings = &set;
    master_step(w, &ev, &result);
}

static void cron_due(struct world *w, int64_t due_wall_ms, bool again)
{
    struct sched_event ev = { .kind = SCHED_SUBMIT };
    struct sched_result result;
    ev.submit = (struct job_request){ .user = bytes_str("ada"), .queue = bytes_str("default"), .account = bytes_str(ACCOUNT_DEFAULT), .name = bytes_str(CRON_NAME),
                                      .need.v[RES_CPU] = 500, .cron = bytes_str(CRON_NAME), .due_wall_ms = due_wall_ms };
    master_step(w, &ev, &result);
    if (w->failed || !w->alive)
        return;
    if (again && result.err.code == ERR_OK)
        violated(w, "I13: the due time %" PRId64 " was taken again", due_wall_ms);
    if (result.err.code == ERR_OK && result.job.n)
        answer_later(w, &ev, result.job);
}

static void cron_pass(struct world *w, int64_t due_wall_ms, int64_t count)
{
    struct sched_event ev = { .kind = SCHED_CRON_PASS };
    struct sched_result result;
    ev.cron_pass.name = bytes_str(CRON_NAME);
    ev.cron_pass.due_wall_ms = due_wall_ms;
    ev.cron_pass.count = (uint32_t)count;
    ev.cron_pass.passed_for = CRON_PASS_MISSED;
    master_step(w, &ev, &result);
}

static void cron(struct world *w)
{
    struct cron_view v;
    if (!w->alive || w->now_ms < w->paused_until_ms || w->store_low || gate_pending(w->gate) > 100000)
        return;
    bool there = sched_view_cron_named(w->sched, bytes_str(CRON_NAME), &v);
    if (!there || prng_chance(&w->cron_prng, 0.1)) {
        cron_change(w, there);
        return;
    }
    int64_t last = v.last_wall_ms / CRON_EACH_MS, now = wall(w) / CRON_EACH_MS;
    if (prng_chance(&w->cron_prng, 0.1))
        cron_due(w, last * CRON_EACH_MS, true);
    if (v.settings.paused)
        return;
    if (now - last > CRON_AT_ONCE) {
        cron_pass(w, (now - 1) * CRON_EACH_MS, now - 1 - last);
        last = now - 1;
    }
    for (; last < now && w->alive && !w->failed; last++)
        cron_due(w, (last + 1) * CRON_EACH_MS, false);
}

static void client(struct world *w)
{
    if (!w->alive || w->now_ms < w->paused_until_ms || gate_pending(w->gate) > 100000)
        return;
    struct sched_event ev = { .kind = SCHED_SUBMIT };
    struct after after;
    struct party_settings set;
    int64_t dice = between(w, 0, 99);
    if (w->sets && dice >= 95) {
        client_set(w, &ev, &set);
    } else if (w->submits_left > 0 && dice < 60) {
        w->submits_left--;
        client_submit(w, &ev, &after);
    } else {
        ev.cancel.job = any_job(w);
        ev.cancel.task = TASK_ALL;
        ev.cancel.actor = ev.cancel.reason = bytes_str("sim");
        ev.kind = dice % 10 < 2 ? SCHED_CANCEL : dice % 10 < 4 ? SCHED_HOLD : dice % 10 < 7 ? SCHED_RELEASE
                : dice % 10 < 8 ? SCHED_RETRY_NOW : SCHED_UPDATE;
        struct job_view view;
        if (ev.kind == SCHED_CANCEL && sched_view_job(w->sched, ev.cancel.job, &view) && view.array && chance(w, 0.5))
            ev.cancel.task = (uint32_t)between(w, 0, view.tasks - 1);
        if (ev.kind == SCHED_UPDATE) {
            job_id id = ev.cancel.job;
            ev.update.job = id;
            ev.update.priority = between(w, -5, 5);
        }
    }
    struct sched_result result;
    master_step(w, &ev, &result);
    if (result.err.code != ERR_OK)
        return;
    answer_later(w, &ev, ev.kind == SCHED_SUBMIT ? result.job : (job_id){ 0 });
}

/* --- faults --- */

static void fault(struct world *w)
{
    if (!w->faulty)
        return;
    struct worker *k = &w->workers[between(w, 0, w->workers_count - 1)];
    switch (between(w, 0, 9)) {
    case 0:
        if (w->crashes)
            master_die(w, "kill -9");
        break;
    case 1:
    case 2:
        if (w->crashes)
            worker_die(w, k, false);
        break;
    case 3:
        if (w->reboots)
            worker_die(w, k, true);
        break;
    case 4:
        if (w->partitions) {
            w->stats.partitions++;
            k->cut_up = chance(w, 0.7);
            k->cut_down = chance(w, 0.7);
            tell(w, "worker %d is cut off%s%s", k->number, k->cut_up ? " up" : "", k->cut_down ? " down" : "");
        }
        break;
    case 5:
    case 6: k->cut_up = k->cut_down = false; break;
    case 7:
        if (w->pauses) {
            w->stats.pauses++;
            int64_t until = w->now_ms + between(w, 10, chance(w, 0.2) ? 400000 : 20000);
            if (chance(w, 0.3))
                w->paused_until_ms = until;
            else
                k->paused_until_ms = until;
        }
        break;
    case 8:
        if (w->clock_jumps) {
            w->stats.clock_steps++;
            w->wall_step_ms += between(w, -3600000, 3600000);
        }
        break;
    default:
        if (w->reboots && k->processes_count) { /* The nursery is killed, and what it ran with it. */
            for (size_t i = 0; i < k->processes_count; i++)
                if (k->processes[i].running)
                    process_end(w, k, &k->processes[i], REASON_INFRA, 0, 0);
        } else {
            plan(w, w->now_ms, W_LINK, k->number);
        }
    }
    plan(w, w->now_ms + between(w, 100, 40000), W_FAULT, -1)->life = 0;
}

static void heal(struct world *w)
{
    tell(w, "faults are over");
    w->faulty = false;
    w->blocked_until_ms = 0;
    transport_is(w, false);
    w->wall_step_ms = 0; /* Somebody set the clock right. */
    w->paused_until_ms = 0;
    for (int i = 0; i < w->workers_count; i++) {
        w->workers[i].cut_up = w->workers[i].cut_down = false;
        w->workers[i].paused_until_ms = 0;
        plan(w, w->now_ms, W_WORKER_RESTART, i)->life = 0;
        pump_soon(w, i, w->now_ms);
    }
    plan(w, w->now_ms, W_MASTER_RESTART, -1)->life = 0;
    pump_soon(w, -1, w->now_ms);
}

/* --- the run --- */

static void happen(struct world *w, struct happening *h)
{
    struct worker *k = h->worker >= 0 ? &w->workers[h->worker] : NULL;
    bool same_life = h->life == (k ? k->life : w->life);
    switch (h->what) {
    case W_MASTER_PUMP:
        if (same_life && h->at_ms == w->pump_at_ms) /* else an earlier one took its place */
            master_pump(w);
        break;
    case W_MASTER_COMMIT:
        if (!same_life)
            break;
        if (w->now_ms < w->paused_until_ms)
            plan(w, w->paused_until_ms, W_MASTER_COMMIT, -1);
        else
            master_commit(w);
        break;
    case W_MASTER_RESTART: master_start(w); break;
    case W_WORKER_PUMP:
        if (same_life && h->at_ms == k->pump_at_ms)
            worker_pump(w, k);
        break;
    case W_WORKER_COMMIT:
        if (!same_life)
            break;
        if (w->now_ms < k->paused_until_ms)
            plan(w, k->paused_until_ms, W_WORKER_COMMIT, h->worker);
        else
            worker_commit(w, k);
        break;
    case W_WORKER_RESTART: worker_start(w, k); break;
    case W_LINK: link_changes(w, k); break;
    case W_DELIVER: deliver(w, h); break;
    case W_SPAWNED:
        if (same_life)
            proc_event(w, k, h->ref);
        break;
    case W_VACATED:
        if (same_life)
            vacated_event(w, k, h);
        break;
    case W_WITHDRAWN:
        if (same_life)
            withdrawn_event(w, k, h->ref);
        break;
    case W_PROC_END: proc_ends(w, k, h->ref); break;
    case W_LEASE: lease_due(w, k); break;
    case W_ASK:
        if (same_life)
            lease_ask(w, k);
        break;
    case W_ASKED: lease_asked(w, h); break;
    case W_RENEWED:
        if (same_life)
            lease_renewed(w, k, h);
        break;
    case W_BROKER: broker_fault(w); break;
    case W_UNBLOCKED:
        if (w->now_ms >= w->blocked_until_ms)
            transport_is(w, false);
        break;
    case W_CLIENT:
        client(w);
        if (w->faulty)
            plan(w, w->now_ms + between(w, 0, 6000), W_CLIENT, -1);
        break;
    case W_CRON:
        if (w->faulty) {
            cron(w);
            plan(w, w->now_ms + cron_between(w, 0, 40000), W_CRON, -1);
        }
        break;
    case W_FAULT: fault(w); break;
    case W_HEAL: heal(w); break;
    }
}

/* A paused queue, or a limit that lets a job in never: it is taken away. */
static bool unset(struct world *w, const struct why_report *why)
{
    for (size_t i = 0; i < why->limits_count; i++) {
        const struct why_limit *l = &why->limits[i];
        if (l->why != WHY_PAUSED && l->asked <= l->most)
            continue; /* It will be let in by itself. */
        struct party_settings set;
        party_settings_default(&set);
        set.total = 10;
        struct sched_event ev = { .kind = SCHED_SET };
        ev.set.kind = l->kind;
        ev.set.name = l->name;
        ev.set.settings = &set;
        master_step(w, &ev, NULL);
        return true;
    }
    return false;
}

/* Everything has ended. Held jobs are released and what can not ever run (or, by a clock that was wrong, not for hours) is
 * cancelled, so that they end too. */
static bool all_ended(struct world *w)
{
    if (!w->alive)
        return false;
    bool all = true;
    for (job_id id = sched_view_next(w->sched, (job_id){ 0 }, false); id.n; id = sched_view_next(w->sched, id, false)) {
        struct job_view view;
        sched_view_job(w->sched, id, &view);
        if (job_state_terminal(view.state))
            continue;
        struct why_report why;
        sched_view_why(w->sched, id, TASK_ALL, &why);
        bool held = false, too_big = false;
        for (size_t i = 0; i < why.all_count; i++) {
            held |= why.all[i] == WHY_HELD;
            too_big |= why.all[i] == WHY_TOO_BIG || why.all[i] == WHY_TOO_FEW;
        }
        if (unset(w, &why)) {
            all = false;
        } else if (held) {
            struct sched_event ev = { .kind = SCHED_RELEASE };
            ev.cancel.job = id;
            ev.cancel.task = TASK_ALL;
            master_step(w, &ev, NULL);
            all = false;
        } else if (too_big || (why.primary == WHY_BEGIN && why.due_in_ms > HEALED_MS / 2)) {
            struct sched_event ev = { .kind = SCHED_CANCEL };
            ev.cancel.job = id;
            ev.cancel.task = TASK_ALL;
            ev.cancel.actor = ev.cancel.reason = bytes_str("sim");
            master_step(w, &ev, NULL);
            all = false;
        } else {
            all = false;
        }
    }
    return all && !gate_in_flight(w->gate) && !gate_pending(w->gate);
}

static void draw_faults(struct world *w)
{
    /* Each seed has its own mixture: a fault that is always there hides what happens without it. */
    w->loss = chance(w, 0.5) ? prng_unit(&w->prng) * 0.3 : 0;
    w->doubling = chance(w, 0.5) ? prng_unit(&w->prng) * 0.4 : 0;
    w->reorder = chance(w, 0.6) ? prng_unit(&w->prng) : 0;
    w->delay_max_ms = chance(w, 0.5) ? 100 : chance(w, 0.5) ? 5000 : 60000;
    w->commit_max_ms = chance(w, 0.7) ? 3 : 300;
    w->crashes = chance(w, 0.7);
    w->partitions = chance(w, 0.5);
    w->pauses = chance(w, 0.4);
    w->clock_jumps = chance(w, 0.4);
    w->sets = chance(w, 0.5);
    w->store_errors = chance(w, 0.4);
    w->reboots = chance(w, 0.4);
    w->liars = chance(w, 0.3);
    w->submits_left = (int)between(w, 5, 60);
    w->workers_count = (int)between(w, 1, WORKERS_MAX);
}

static void world_begin(struct world *w)
{
    prng_seed(&w->prng, w->seed);
    prng_seed(&w->snapshot_prng, ~w->seed);
    prng_seed(&w->broker_prng, w->seed ^ 0x62726f6b6572);
    w->broker = prng_chance(&w->broker_prng, 0.5);
    w->http = prng_chance(&w->broker_prng, 0.5);
    w->unconfirmed = prng_chance(&w->broker_prng, 0.5) ? prng_unit(&w->broker_prng) * 0.2 : 0;
    prng_seed(&w->cron_prng, w->seed ^ 0x63726f6e);
    prng_seed(&w->gang_prng, w->seed ^ 0x67616e67);
    heap_init(&w->agenda, happening_before);
    draw_faults(w);
    w->faulty = true;
    w->pump_at_ms = -1;
    sched_config_default(&w->config);
    w->config.order = (enum order_kind)prng_below(&w->prng, ORDERS);
    w->config.place = chance(w, 0.5) ? PLACE_BINPACK : PLACE_SPREAD;
    w->config.backfill = (enum sched_backfill)prng_below(&w->prng, BACKFILLS);
    w->config.predict = prng_chance(&w->gang_prng, 0.3);
    if (chance(w, 0.5)) { /* Nothing to spare between the end of a lease and the next attempt. */
        w->config.kill_grace_ms = 100;
        w->config.down_ms = w->config.lost_after_ms = 60000;
    }
    memset(w->config.token_key, 7, sizeof w->config.token_key);
    for (int i = 0; i < w->workers_count; i++) {
        struct worker *k = &w->workers[i];
        k->number = i;
        k->pump_at_ms = -1;
        agent_config_default(&k->config);
        k->config.line_max = LINE_MAX_SIM;
        k->config.line_spec_bytes = SIZE_MAX;
        k->config.worker = (struct worker_id){ w->seed, (uint64_t)i + 1 };
        snprintf(k->config.name, sizeof k->config.name, "node-%d", i + 1);
        k->config.capacity.v[RES_CPU] = (uint64_t)between(w, 2, 8) * 1000;
        k->config.capacity.v[RES_MEM] = (uint64_t)between(w, 1, 8) << 30;
        plan(w, between(w, 0, 1000), W_WORKER_RESTART, i);
    }
    plan(w, 0, W_MASTER_RESTART, -1);
    plan(w, 10, W_CLIENT, -1);
    plan(w, between(w, 0, 20000), W_FAULT, -1);
    plan(w, FAULTY_MS, W_HEAL, -1);
    if (prng_chance(&w->cron_prng, 0.5))
        plan(w, cron_between(w, 0, 60000), W_CRON, -1);
    if (w->broker)
        plan(w, prng_between(&w->broker_prng, 0, 60000), W_BROKER, -1);
}

static void world_end(struct world *w)
{
    for (size_t i = 0; i < w->agenda.count; i++) {
        struct happening *h = heap_entry(w->agenda.nodes[i], struct happening, node);
        if (h->packet)
            packet_free(h->packet);
        free(h);
    }
    heap_fini(&w->agenda);
    sched_free(w->sched);
    shadow_drop(w);
    gate_free(w->gate);
    buf_fini(&w->snapshot);
    buf_fini(&w->journal);
    buf_fini(&w->pending);
    for (int i = 0; i < w->workers_count; i++) {
        struct worker *k = &w->workers[i];
        agent_free(k->agent);
        gate_free(k->gate);
        buf_fini(&k->journal);
        buf_fini(&k->pending);
        free(k->processes);
        for (unsigned n = 0; n < 2 * UNACKED_MAX; n++)
            if (k->unacked[n / UNACKED_MAX][n % UNACKED_MAX])
                packet_free(k->unacked[n / UNACKED_MAX][n % UNACKED_MAX]);
    }
    for (struct op *op = w->ops, *next; op; op = next) {
        next = op->next;
        free(op);
    }
    struct truth *t, *t_next;
    HASH_ITER(hh, w->truths, t, t_next) {
        HASH_DEL(w->truths, t);
        free(t);
    }
    struct task_book *b, *b_next;
    HASH_ITER(hh, w->tasks, b, b_next) {
        HASH_DEL(w->tasks, b);
        free(b);
    }
    struct job_book *j, *j_next;
    HASH_ITER(hh, w->jobs, j, j_next) {
        HASH_DEL(w->jobs, j);
        free(j);
    }
}

static void tell_open_jobs(struct world *w)
{
    sched_view_dump(w->sched, w->out);
    for (job_id id = sched_view_next(w->sched, (job_id){ 0 }, false); id.n; id = sched_view_next(w->sched, id, false)) {
        struct job_view view;
        struct why_report why;
        sched_view_job(w->sched, id, &view);
        sched_view_why(w->sched, id, TASK_ALL, &why);
        if (!job_state_terminal(view.state))
            buf_printf(w->out, "job %" PRIu64 " %s: %s, due in %" PRId64 " ms, after %u, held up by %" PRIu64 "\n", id.n,
                       job_state_name(view.state), why_name(why.primary), why.due_in_ms, view.after_left, why.blocked_by.n);
    }
}

static void check_end(struct world *w, bool ended)
{
    if (w->failed)
        return;
    if (!ended) {
        violated(w, "I6: not everything ended %d s after the last fault", HEALED_MS / 1000);
        if (w->options->trace && w->alive)
            tell_open_jobs(w);
        return;
    }
    master_compare(w);
    for (struct job_book *j = w->jobs; j; j = j->hh.next) {
        struct job_view view;
        if (j->acked && (!sched_view_job(w->sched, (job_id){ j->id }, &view) || !job_state_terminal(view.state)))
            violated(w, "I1: job %" PRIu64 " was acknowledged and has no end", j->id);
        if (j->acked && j->terminals != 1)
            violated(w, "I2: job %" PRIu64 " has %u terminal states", j->id, j->terminals);
    }
}

int fault_sim_run(const struct fault_sim_options *options, struct fault_sim_stats *stats, struct buf *out)
{
    struct world *w = mem_zero(1, sizeof *w);
    w->options = options;
    w->out = out;
    w->seed = options->seed;
    world_begin(w);
    bool ended = false;
    int64_t look_ms = FAULTY_MS + 1000;
    struct heap_node *first;
    while (!w->failed && !ended && (first = heap_first(&w->agenda))) {
        struct happening *h = heap_entry(first, struct happening, node);
        heap_remove(&w->agenda, first);
        w->now_ms = h->at_ms;
        w->stats.events++;
        if (w->now_ms > FAULTY_MS + HEALED_MS) {
            if (h->packet)
                packet_free(h->packet);
            free(h);
            break;
        }
        happen(w, h);
        free(h);
        if (!w->faulty && w->now_ms >= look_ms) {
            look_ms = w->now_ms + 1000;
            ended = all_ended(w);
        }
    }
    check_end(w, ended);
    w->stats.virtual_ms = w->now_ms;
    if (!w->failed && !options->quiet)
        buf_printf(out, "seed %" PRIu64 " held: %" PRIu64 " events in %" PRId64 " s, %" PRIu64 " jobs (%" PRIu64 " on several nodes), %" PRIu64 " attempts, %" PRIu64
                   " records, %" PRIu64 " messages (%" PRIu64 " lost, %" PRIu64 " doubled), crashes %" PRIu64 "+%" PRIu64
                   ", reboots %" PRIu64 ", broker %" PRIu64 ", leases by HTTP %" PRIu64 ", state %016" PRIx64 "\n", w->seed, w->stats.events, w->now_ms / 1000, w->stats.jobs, w->stats.gangs,
                   w->stats.attempts, w->stats.records, w->stats.messages, w->stats.lost, w->stats.doubled,
                   w->stats.master_crashes, w->stats.worker_crashes, w->stats.reboots, w->stats.broker_faults, w->stats.renewed, sched_view_hash(w->sched));
    if (stats)
        *stats = w->stats;
    int rc = w->failed ? 1 : 0;
    world_end(w);
    free(w);
    return rc;
}
