#include "exec/nursery_state.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "exec/launch.h"
#include "exec/procfs.h"
#include "io/clock.h"
#include "obs/log.h"

#define WATCH_MS 100         /* how often the size of running output is looked at */
#define WATCH_SLOTS_MAX 1024 /* slots looked at each time */
#define SETTLE_RETRY_MS 2
#define SETTLE_MS_MAX 2000      /* what cannot be killed for that long no longer holds the attempt's end back */
#define JOB_OOM_SCORE_ADJ "500" /* of jobs that have a memory limit: they are to go first */

/* --- attempts --- */

struct attempt *nursery_attempt_add(struct nursery *n, struct attempt_ref ref)
{
    uint32_t number = ref_table_add(&n->refs, ref);
    if (number == REF_NONE)
        return NULL;
    struct attempt *a = &n->attempts[number];
    *a = (struct attempt){ .slot = REF_NONE };
    list_init(&a->tell);
    list_init(&a->undurable);
    return a;
}

struct attempt *nursery_attempt_find(struct nursery *n, struct attempt_ref ref)
{
    uint32_t number = ref_table_find(&n->refs, ref);
    return number == REF_NONE ? NULL : &n->attempts[number];
}

void nursery_attempt_remove(struct nursery *n, struct attempt *a)
{
    list_remove(&a->tell);
    list_remove(&a->undurable);
    ref_table_remove(&n->refs, (uint32_t)(a - n->attempts));
}

struct exit_record nursery_spawning_record(const struct nursery *n, const struct attempt *a)
{
    return (struct exit_record){ .kind = LOG_SPAWNING,
                                 .ref = nursery_ref_of(n, a),
                                 .slot = a->slot,
                                 .fence = a->fence,
                                 .begun_ms = a->begun_ms,
                                 .output_bytes_max = a->output_bytes_max,
                                 .own_streams = a->own_streams };
}

struct exit_record nursery_exit_record(const struct nursery *n, const struct attempt *a)
{
    struct exit_record r = { .kind = LOG_EXIT,
                             .ref = nursery_ref_of(n, a),
                             .started = a->started,
                             .result = a->result,
                             .output_bytes_max = a->output_bytes_max,
                             .own_streams = a->own_streams };
    memcpy(r.text, a->text, sizeof r.text);
    return r;
}

/* Its result is filled: journal it. It is told when that is durable. */
static void attempt_ended(struct nursery *n, struct attempt *a)
{
    check(!a->ended);
    a->ended = true;
    struct exit_record r = nursery_exit_record(n, a);
    nursery_log_add(&n->log, &r);
    list_append(&n->undurable, &a->undurable);
}

/* It never had a process. */
static void attempt_refused(struct nursery *n, struct attempt *a, const struct launch_failure *f)
{
    a->started = false;
    a->slot = REF_NONE;
    a->result = (struct attempt_result){ .reason = f->reason };
    memcpy(a->text, f->text, sizeof a->text);
    attempt_ended(n, a);
}

void nursery_collect_output(struct nursery *n, struct attempt *a)
{
    uint64_t *bytes[OUTPUT_STREAMS] = { &a->result.stdout_bytes, &a->result.stderr_bytes };
    static const uint32_t gap[OUTPUT_STREAMS] = { END_STDOUT_GAP, END_STDERR_GAP };
    for (enum exec_stream stream = 0; stream < OUTPUT_STREAMS; stream++) {
        if (!(a->own_streams & (1u << stream)))
            continue;
        *bytes[stream] = output_size(n->logs_dir, a->slot, stream);
        if (*bytes[stream] == 0)
            continue;
        if (output_over(*bytes[stream], a->output_bytes_max))
            a->result.flags |= gap[stream];
        if (output_publish(n->logs_dir, a->slot, stream, nursery_ref_of(n, a)))
            continue;
        log_error("output of job %llu is lost: %s", (unsigned long long)nursery_ref_of(n, a).job.n, strerror(errno));
        char name[OUTPUT_NAME_BYTES];
        output_slot_name(name, a->slot, stream);
        unlinkat(n->logs_dir, name, 0); /* the next job in the slot must not find it */
        a->result.flags |= gap[stream];
    }
}

/* --- slots --- */

static void pid_add(struct nursery *n, struct slot *s)
{
    uint32_t *bucket = &n->pid_buckets[(uint32_t)s->pid % PID_BUCKETS];
    s->pid_next = *bucket;
    *bucket = nursery_slot_number(n, s);
}

/* The slot whose main process it is, taken out of the table of pids. */
static struct slot *pid_take(struct nursery *n, pid_t pid)
{
    uint32_t *place = &n->pid_buckets[(uint32_t)pid % PID_BUCKETS];
    while (*place != REF_NONE && n->slots[*place].pid != pid)
        place = &n->slots[*place].pid_next;
    if (*place == REF_NONE)
        return NULL;
    struct slot *s = &n->slots[*place];
    *place = s->pid_next;
    return s;
}

static struct slot *slot_take(struct nursery *n)
{
    struct slot *s = NULL;
    if (!list_empty(&n->free)) {
        s = list_entry(n->free.next, struct slot, node);
        list_remove(&s->node);
    } else if (n->slots_used < NURSERY_SLOTS_MAX) {
        s = &n->slots[n->slots_used++];
        *s = (struct slot){ .attempt = REF_NONE, .cgroup = CGROUP_SLOT_NONE };
        list_init(&s->node);
    }
    return s;
}

void nursery_slot_free(struct nursery *n, struct slot *s)
{
    list_remove(&s->node);
    s->state = SLOT_FREE;
    list_append(n->free.next, &s->node); /* to the front: the slot used last is the warmest */
}

/* Nothing of its job is left. Without a worker nobody can mistake its files. */
static void slot_cool(struct nursery *n, struct slot *s)
{
    list_remove(&s->node);
    s->state = SLOT_COOLING;
    n->busy_count--;
    if (!n->greeted)
        nursery_slot_free(n, s);
    else if (s->cooled_at != UINT64_MAX)
        list_append(&n->cooling, &s->node);
}

void nursery_slot_told(struct nursery *n, const struct attempt *a)
{
    struct slot *s = a->slot == REF_NONE ? NULL : &n->slots[a->slot];
    if (!s || s->last != (uint32_t)(a - n->attempts) || s->cooled_at != UINT64_MAX || s->state < SLOT_SETTLING)
        return;
    s->cooled_at = n->events_sent;
    if (s->state == SLOT_COOLING)
        list_append(&n->cooling, &s->node);
}

void nursery_slots_cooled(struct nursery *n, uint64_t events_seen)
{
    while (!list_empty(&n->cooling)) {
        struct slot *s = list_entry(n->cooling.next, struct slot, node);
        if (s->cooled_at > events_seen)
            break;
        nursery_slot_free(n, s);
    }
}

/* --- starting --- */

static uint64_t fence_of(char *const *env)
{
    for (; *env; env++)
        if (strncmp(*env, PROC_FENCE, strlen(PROC_FENCE)) == 0)
            return proc_fence_hash(*env);
    return 0;
}

/* A number, and what separates it from the next one. */
static unsigned long number_at(const char **at)
{
    char *end;
    unsigned long number = strtoul(*at, &end, 10);
    *at = *end ? end + 1 : end;
    return number;
}

/* Valid until the next call. */
static const cpu_set_t *cpus_of(const char *list)
{
    static cpu_set_t cpus;
    CPU_ZERO(&cpus);
    while (*list) {
        unsigned long cpu = number_at(&list);
        if (cpu < CPU_SETSIZE)
            CPU_SET(cpu, &cpus);
    }
    return &cpus;
}

/* Lays argv, env and the optional paths out in n->strings, each array with its NULL, and a spare place before argv. */
static void plan_strings(struct nursery *n, const struct nursery_request *r, struct launch_plan *plan)
{
    char **places = n->strings + 1;
    nursery_request_strings(r, places);
    uint32_t paths = (uint32_t)__builtin_popcount(r->paths);
    const char *path[NURSERY_PATHS_COUNT] = { NULL };
    char **at = places + r->argc + r->envc;
    for (int i = 0; i < NURSERY_PATHS_COUNT; i++)
        if (r->paths & (1u << i))
            path[i] = *at++;
    memmove(places + r->argc + 1, places + r->argc, (r->envc + paths) * sizeof *places);
    places[r->argc] = NULL;
    places[r->argc + 1 + r->envc] = NULL;
    plan->argv = places;
    plan->env = places + r->argc + 1;
    plan->workdir = path[0];
    plan->stdin_path = path[1];
    plan->output_paths[0] = path[2];
    plan->output_paths[1] = path[3];
    plan->file_bytes_max = r->file_bytes_max;
    plan->run_as = r->run_as;
    plan->uid = r->uid;
    plan->gid = r->gid;
    for (const char *group = path[4]; group && *group && plan->groups_count < LAUNCH_GROUPS_MAX;)
        plan->groups[plan->groups_count++] = (gid_t)number_at(&group);
    if (path[5])
        plan->cpus = cpus_of(path[5]);
}

/* What is in the slot's group is nobody's job: it is killed, and the slot is free when it has gone. */
static void slot_shelve(struct nursery *n, struct slot *s)
{
    s->state = SLOT_SETTLING;
    s->attempt = REF_NONE;
    s->cooled_at = 0;
    n->busy_count++;
    n->settle_ms = n->now_ms;
    list_append(&n->settling, &s->node);
}

static bool slot_limit(struct nursery *n, struct slot *s, uint32_t number, const struct nursery_request *r)
{
    return cgroup_slot_limit(&n->cgroups, &s->cgroup, number, r->mem_bytes) &&
           cgroup_slot_cpus(&n->cgroups, &s->cgroup, number, r->cpu_weight_milli, r->cpu_quota_milli) &&
           cgroup_slot_pids(&n->cgroups, &s->cgroup, number, r->pids_max);
}

/* A slot with its groups, or NULL with *failure. */
static struct slot *slot_prepare(struct nursery *n, const struct nursery_request *r, struct launch_failure *failure)
{
    struct slot *s;
    while ((s = slot_take(n))) {
        uint32_t number = nursery_slot_number(n, s);
        if (cgroup_slot_open(&n->cgroups, &s->cgroup, number) &&
            slot_limit(n, s, number, r))
            return s;
        if (errno != EBUSY || !s->cgroup.killed) {
            launch_failure_set(failure, REASON_INFRA, "control group", NULL, errno);
            nursery_slot_free(n, s);
            return NULL;
        }
        slot_shelve(n, s);
    }
    launch_failure_set(failure, REASON_INFRA, "place for one more process", NULL, EAGAIN);
    return NULL;
}

static void slot_run(struct nursery *n, struct slot *s, struct attempt *a, pid_t pid)
{
    s->state = SLOT_RUNNING;
    s->attempt = s->last = (uint32_t)(a - n->attempts);
    s->cooled_at = UINT64_MAX;
    s->pid = pid;
    s->hole_end[0] = s->hole_end[1] = 0;
    s->leftovers = false;
    pid_add(n, s);
    list_append(&n->running, &s->node);
    n->busy_count++;
    a->started = true;
    a->pid = (uint32_t)pid;
    if (s->cgroup.events < 0) {
        struct exit_record r = { .kind = LOG_SPAWNED, .ref = nursery_ref_of(n, a), .pid = a->pid };
        nursery_log_add(&n->log, &r);
    }
    nursery_tell(n, a, TELL_STARTED);
}

static void spawn_in(struct nursery *n, struct slot *s, struct attempt *a, struct launch_plan *plan)
{
    plan->ends_with_us = a->exclusive;
    char names[OUTPUT_STREAMS][OUTPUT_NAME_BYTES];
    struct launch_failure failure;
    uint32_t number = nursery_slot_number(n, s);
    for (enum exec_stream stream = 0; stream < OUTPUT_STREAMS; stream++) {
        if (plan->output_paths[stream])
            continue;
        output_slot_name(names[stream], number, stream);
        plan->output_paths[stream] = names[stream];
        plan->own_streams |= 1u << stream;
    }
    plan->logs_dir = n->logs_dir;
    plan->files_max = n->files_max;
    plan->cgroup = s->cgroup.dir;
    plan->cgroup_tasks[0] = s->cgroup.memory_limit ? s->cgroup.memory_tasks : -1;
    for (int i = 0; i < CGROUP_MORE; i++) {
        bool limited = s->cgroup.more[i].limit || s->cgroup.more[i].weight;
        plan->cgroup_tasks[1 + i] = limited ? s->cgroup.more[i].tasks : -1;
    }
    plan->oom_score_adj = s->cgroup.memory_limit ? JOB_OOM_SCORE_ADJ : n->protected ? "0" : NULL;
    a->slot = number;
    a->own_streams = plan->own_streams;
    a->begun_ms = clock_now_ms();
    struct exit_record r = nursery_spawning_record(n, a);
    nursery_log_add(&n->log, &r);
    pid_t pid = launch_process(plan, &failure);
    if (pid > 0) {
        slot_run(n, s, a, pid);
        return;
    }
    attempt_refused(n, a, &failure);
    nursery_slot_free(n, s);
}

static bool lease_holds(const struct nursery *n)
{
    return n->leased && clock_now_ms() < n->lease_until_ms;
}

/* False: it has ended unstarted. */
static bool start(struct nursery *n, struct attempt *a, const struct nursery_request *r)
{
    struct launch_plan plan = { 0 };
    struct launch_failure failure;
    plan_strings(n, r, &plan);
    a->fence = fence_of(plan.env);
    a->exclusive = r->overlap_never;
    a->output_bytes_max = r->output_bytes_max;
    if (n->stopping || !nursery_log_ready(&n->log, n->busy_count)) {
        launch_failure_set(&failure, REASON_INFRA, "state directory", NULL, n->stopping ? ESHUTDOWN : ENOSPC);
        attempt_refused(n, a, &failure);
        return false;
    }
    if (a->exclusive && !lease_holds(n)) {
        failure = (struct launch_failure){ .reason = REASON_NEVER_STARTED, .text = "the lease of its node had run out" };
        attempt_refused(n, a, &failure);
        return false;
    }
    struct slot *s = slot_prepare(n, r, &failure);
    if (s)
        spawn_in(n, s, a, &plan);
    else
        attempt_refused(n, a, &failure);
    return a->started;
}

/* --- the line --- */

static void line_add(struct nursery *n, struct attempt *a, const struct nursery_request *r)
{
    struct launch_failure failure;
    if (list_empty(&n->line_free)) {
        launch_failure_set(&failure, REASON_INFRA, "place in line", NULL, EAGAIN);
        attempt_refused(n, a, &failure);
        return;
    }
    struct waiting *w = list_entry(n->line_free.next, struct waiting, node);
    check(r->strings.size <= sizeof w->strings); /* decoding a request bounds it */
    memcpy(w->strings, r->strings.data, r->strings.size);
    w->request = *r;
    w->request.strings.data = w->strings;
    list_remove(&w->node);
    list_append(&n->line, &w->node);
    n->line_count++;
}

static void line_leave(struct nursery *n, struct waiting *w)
{
    list_remove(&w->node);
    list_append(&n->line_free, &w->node);
    n->line_count--;
}

static struct waiting *line_find(struct nursery *n, struct attempt_ref ref)
{
    list_each(node, &n->line)
    {
        struct waiting *w = list_entry(node, struct waiting, node);
        if (attempt_equal(w->request.ref, ref))
            return w;
    }
    return NULL;
}

/* Its entry is free from here on, but nobody is put in line before the start is over: the request stays readable. */
static bool line_start(struct nursery *n, struct waiting *w)
{
    line_leave(n, w);
    return start(n, nursery_attempt_find(n, w->request.ref), &w->request);
}

/* Who comes next for this place has been started, or *to names nobody. */
static void line_pass(struct nursery *n, uint64_t place, struct attempt_ref *to)
{
    if (n->stopping)
        return;
    list_each_safe(node, &n->line)
    {
        struct waiting *w = list_entry(node, struct waiting, node);
        if (w->request.place != place)
            continue;
        *to = w->request.ref;
        if (line_start(n, w))
            return;
        *to = (struct attempt_ref){ 0 };
    }
}

void nursery_line_call(struct nursery *n, struct attempt_ref ref)
{
    struct waiting *w = line_find(n, ref);
    if (w)
        line_start(n, w);
}

bool nursery_line_withdraw(struct nursery *n, struct attempt_ref ref)
{
    struct waiting *w = line_find(n, ref);
    if (!w)
        return false;
    struct launch_failure failure = { .reason = REASON_NEVER_STARTED, .text = "it was taken out of line" };
    line_leave(n, w);
    attempt_refused(n, nursery_attempt_find(n, ref), &failure);
    return true;
}

void nursery_line_drop(struct nursery *n)
{
    while (!list_empty(&n->line)) {
        struct waiting *w = list_entry(n->line.next, struct waiting, node);
        line_leave(n, w);
        nursery_attempt_remove(n, nursery_attempt_find(n, w->request.ref));
    }
}

bool nursery_spawn(struct nursery *n, const struct nursery_request *r)
{
    if (nursery_attempt_find(n, r->ref)) {
        log_error("job %llu attempt %u is asked for twice", (unsigned long long)r->ref.job.n, r->ref.attempt);
        return true;
    }
    struct attempt *a = nursery_attempt_add(n, r->ref);
    if (!a)
        return false;
    a->place = r->place;
    if (r->in_line)
        line_add(n, a, r);
    else
        start(n, a, r);
    return true;
}

/* --- ending --- */

static void slot_signal(struct slot *s, bool kill_it)
{
    if (s->cgroup.events >= 0 && kill_it) {
        cgroup_slot_kill(&s->cgroup);
    } else if (s->cgroup.events >= 0) {
        cgroup_slot_signal(&s->cgroup, SIGTERM);
        cgroup_slot_signal(&s->cgroup, SIGCONT); /* what is stopped cannot see the TERM */
    } else if (s->state == SLOT_RUNNING) {
        /* Not waited for yet, so the number is still its own; the group of a session's leader has the same number. */
        kill(-s->pid, kill_it ? SIGKILL : SIGTERM);
        kill(-s->pid, SIGCONT);
    }
}

void nursery_signal(struct nursery *n, struct attempt_ref ref, bool kill_it)
{
    struct attempt *a = nursery_attempt_find(n, ref);
    if (a && !a->ended && !nursery_line_withdraw(n, ref))
        slot_signal(&n->slots[a->slot], kill_it);
}

static void result_of(struct nursery *n, struct slot *s, struct attempt *a)
{
    struct attempt_result *r = &a->result;
    *r = (struct attempt_result){ .run_ms = s->ended_ms - a->begun_ms,
                                  .cpu_ms = s->cpu_ms,
                                  .rss_max_bytes = s->rss_max_bytes };
    if (WIFSIGNALED(s->status)) {
        r->reason = a->fenced ? REASON_LEASE_LOST : REASON_SIGNAL;
        r->signal = (uint32_t)WTERMSIG(s->status);
    } else {
        r->exit_code = (uint32_t)WEXITSTATUS(s->status);
        r->reason = r->exit_code ? REASON_EXIT : REASON_NONE;
    }
    if (r->reason == REASON_LEASE_LOST)
        snprintf(a->text, sizeof a->text, "its worker had not heard of the master for the length of the lease");
    if (!cgroup_slot_oom(&n->cgroups, &s->cgroup, nursery_slot_number(n, s)) || r->reason == REASON_LEASE_LOST)
        return;
    r->reason = REASON_OOM;
    /* What was killed is nobody's child that was waited for, and its share may be small: all of it together was this. */
    if (r->rss_max_bytes < s->cgroup.memory_limit)
        r->rss_max_bytes = s->cgroup.memory_limit;
}

static void attempt_vacate(struct nursery *n, struct slot *s)
{
    struct attempt *a = &n->attempts[s->attempt];
    s->attempt = REF_NONE;
    result_of(n, s, a);
    nursery_collect_output(n, a);
    a->vacated = true;
    attempt_ended(n, a);
    if (!n->wants_vacated)
        return;
    /* Told before anything of its successor is. */
    nursery_tell(n, a, TELL_VACATED);
    line_pass(n, a->place, &a->passed_to);
}

/* Without cgroups: processes that came to us because their parents ended belong to the job of their session, or of
 * their fence. What belongs to no job that runs is a leftover. What has covered all its traces is taken when nothing
 * runs. */
static void adopted_visit(void *arg, const struct proc_stat *stat)
{
    struct nursery *n = arg;
    if (stat->state == 'Z')
        return;
    struct slot *owner = NULL;
    struct list_node *lists[] = { &n->running, &n->settling };
    for (int i = 0; i < 2; i++)
        list_each(node, lists[i])
        {
            struct slot *s = list_entry(node, struct slot, node);
            if (s->state == SLOT_RUNNING && s->pid == stat->pid)
                return;
            if (s->pid == stat->session)
                owner = s;
        }
    uint64_t fence = owner ? 0 : proc_fence(stat->pid);
    for (int i = 0; i < 2 && fence; i++)
        list_each(node, lists[i])
        {
            struct slot *s = list_entry(node, struct slot, node);
            if (s->attempt != REF_NONE && n->attempts[s->attempt].fence == fence)
                owner = s;
        }
    if (owner ? owner->state == SLOT_RUNNING : !list_empty(&n->running) && fence == 0)
        return;
    kill(stat->pid, SIGKILL); /* our child: the number is its own until we wait for it */
    if (owner)
        owner->leftovers = true;
}

static void kill_adopted(struct nursery *n)
{
    list_each(node, &n->settling) list_entry(node, struct slot, node)->leftovers = false;
    proc_each_child(adopted_visit, n);
}

/* Whether nothing of the slot's job is left; what is left has been killed and will be gone soon. */
static bool slot_settled(struct slot *s)
{
    if (s->cgroup.events < 0)
        return !s->leftovers;
    if (cgroup_slot_empty(&s->cgroup))
        return true;
    cgroup_slot_kill(&s->cgroup);
    return false;
}

static void settle_slot(struct nursery *n, struct slot *s)
{
    bool settled = slot_settled(s);
    bool patient = s->attempt != REF_NONE && n->attempts[s->attempt].exclusive; /* the next one starts when we say so */
    if (s->attempt != REF_NONE && !settled && !patient && n->now_ms - s->ended_ms > SETTLE_MS_MAX) {
        log_warn("slot %u: processes of job %llu do not end", nursery_slot_number(n, s),
                 (unsigned long long)n->refs.refs[s->attempt].job.n);
        attempt_vacate(n, s);
    } else if (s->attempt != REF_NONE && settled) {
        attempt_vacate(n, s);
    }
    if (settled)
        slot_cool(n, s);
    else
        n->settle_ms = n->now_ms + SETTLE_RETRY_MS;
}

void nursery_settle(struct nursery *n)
{
    n->settle_ms = INT64_MAX;
    if (list_empty(&n->settling))
        return;
    if (!cgroup_can_kill(&n->cgroups))
        kill_adopted(n);
    list_each_safe(node, &n->settling) settle_slot(n, list_entry(node, struct slot, node));
}

static void main_ended(struct nursery *n, struct slot *s, int status, const struct rusage *usage)
{
    s->state = SLOT_SETTLING;
    s->status = status;
    s->ended_ms = n->now_ms;
    s->cpu_ms = (uint64_t)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000 +
                (uint64_t)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) / 1000;
    s->rss_max_bytes = (uint64_t)usage->ru_maxrss * 1024;
    list_remove(&s->node);
    list_append(&n->settling, &s->node);
}

void nursery_reap(struct nursery *n)
{
    int status;
    struct rusage usage;
    pid_t pid;
    while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0) {
        struct slot *s = pid_take(n, pid);
        if (s)
            main_ended(n, s, status, &usage);
    }
}

void nursery_watch(struct nursery *n)
{
    int64_t now_ms = n->now_ms;
    if (list_empty(&n->running)) {
        n->watch_ms = INT64_MAX;
        return;
    }
    if (n->watch_ms == INT64_MAX)
        n->watch_ms = now_ms + WATCH_MS;
    if (now_ms < n->watch_ms)
        return;
    n->watch_ms = now_ms + WATCH_MS;
    struct list_node *last = n->running.prev;
    for (int i = 0; i < WATCH_SLOTS_MAX; i++) {
        struct slot *s = list_entry(n->running.next, struct slot, node);
        const struct attempt *a = &n->attempts[s->attempt];
        for (enum exec_stream stream = 0; stream < OUTPUT_STREAMS; stream++)
            if (a->output_bytes_max && a->own_streams & (1u << stream))
                output_punch(n->logs_dir, nursery_slot_number(n, s), stream, a->output_bytes_max, &s->hole_end[stream]);
        list_remove(&s->node);
        list_append(&n->running, &s->node);
        if (&s->node == last)
            return;
    }
}

/* --- the lease --- */

void nursery_fence(struct nursery *n)
{
    if (!n->leased || n->now_ms < n->lease_until_ms)
        return;
    n->leased = false;
    list_each_safe(node, &n->line)
    {
        struct waiting *w = list_entry(node, struct waiting, node);
        if (w->request.overlap_never)
            line_start(n, w); /* which ends it unstarted */
    }
    list_each(node, &n->running)
    {
        struct slot *s = list_entry(node, struct slot, node);
        struct attempt *a = &n->attempts[s->attempt];
        if (!a->exclusive || a->fenced)
            continue;
        a->fenced = true;
        log_warn("the lease has run out: job %llu attempt %u is ended", (unsigned long long)nursery_ref_of(n, a).job.n,
                 nursery_ref_of(n, a).attempt);
        slot_signal(s, true);
    }
}

void nursery_lease(struct nursery *n, int64_t until_ms)
{
    if (until_ms <= n->now_ms || (n->leased && until_ms <= n->lease_until_ms))
        return;
    n->leased = true;
    n->lease_until_ms = until_ms;
}

void nursery_stop(struct nursery *n)
{
    n->stopping = true;
    list_each(node, &n->running) slot_signal(list_entry(node, struct slot, node), true);
}
