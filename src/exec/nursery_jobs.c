#include "exec/nursery_state.h"

#include <errno.h>
#include <signal.h>
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

/* Lays argv, env and the optional paths out in n->strings, each array with its NULL, and a spare place before argv. */
static void plan_strings(struct nursery *n, const struct nursery_request *r, struct launch_plan *plan)
{
    char **places = n->strings + 1;
    nursery_request_strings(r, places);
    uint32_t paths = (uint32_t)__builtin_popcount(r->paths);
    const char *path[4] = { NULL };
    char **at = places + r->argc + r->envc;
    for (int i = 0; i < 4; i++)
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
}

/* A slot with its groups, or NULL with *failure. */
static struct slot *slot_prepare(struct nursery *n, uint64_t mem_bytes, struct launch_failure *failure)
{
    struct slot *s = slot_take(n);
    if (!s) {
        launch_failure_set(failure, REASON_INFRA, "place for one more process", NULL, EAGAIN);
        return NULL;
    }
    uint32_t number = nursery_slot_number(n, s);
    if (cgroup_slot_open(&n->cgroups, &s->cgroup, number) &&
        cgroup_slot_limit(&n->cgroups, &s->cgroup, number, mem_bytes))
        return s;
    launch_failure_set(failure, REASON_INFRA, "control group", NULL, errno);
    nursery_slot_free(n, s);
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
    plan->cgroups[0] = s->cgroup.procs;
    plan->cgroups[1] = s->cgroup.memory_limit ? s->cgroup.memory_procs : -1;
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

bool nursery_spawn(struct nursery *n, const struct nursery_request *r)
{
    if (nursery_attempt_find(n, r->ref)) {
        log_error("job %llu attempt %u is asked for twice", (unsigned long long)r->ref.job.n, r->ref.attempt);
        return true;
    }
    struct attempt *a = nursery_attempt_add(n, r->ref);
    if (!a)
        return false;
    struct launch_plan plan = { 0 };
    struct launch_failure failure;
    plan_strings(n, r, &plan);
    a->fence = fence_of(plan.env);
    a->output_bytes_max = r->output_bytes_max;
    if (n->stopping || !nursery_log_ready(&n->log, n->busy_count)) {
        launch_failure_set(&failure, REASON_INFRA, "state directory", NULL, n->stopping ? ESHUTDOWN : ENOSPC);
        attempt_refused(n, a, &failure);
        return true;
    }
    struct slot *s = slot_prepare(n, r->mem_bytes, &failure);
    if (s)
        spawn_in(n, s, a, &plan);
    else
        attempt_refused(n, a, &failure);
    return true;
}

/* --- ending --- */

static void slot_signal(struct nursery *n, struct slot *s, bool kill_it)
{
    if (s->cgroup.events >= 0 && kill_it) {
        cgroup_slot_kill(&n->cgroups, &s->cgroup, nursery_slot_number(n, s));
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
    if (a && !a->ended)
        slot_signal(n, &n->slots[a->slot], kill_it);
}

static void result_of(struct nursery *n, struct slot *s, struct attempt *a)
{
    struct attempt_result *r = &a->result;
    *r = (struct attempt_result){ .run_ms = s->ended_ms - a->begun_ms,
                                  .cpu_ms = s->cpu_ms,
                                  .rss_max_bytes = s->rss_max_bytes };
    if (WIFSIGNALED(s->status)) {
        r->reason = REASON_SIGNAL;
        r->signal = (uint32_t)WTERMSIG(s->status);
    } else {
        r->exit_code = (uint32_t)WEXITSTATUS(s->status);
        r->reason = r->exit_code ? REASON_EXIT : REASON_NONE;
    }
    if (cgroup_slot_oom(&n->cgroups, &s->cgroup, nursery_slot_number(n, s)))
        r->reason = REASON_OOM;
}

static void attempt_vacate(struct nursery *n, struct slot *s)
{
    struct attempt *a = &n->attempts[s->attempt];
    s->attempt = REF_NONE;
    result_of(n, s, a);
    nursery_collect_output(n, a);
    a->vacated = true;
    attempt_ended(n, a);
    if (n->wants_vacated)
        nursery_tell(n, a, TELL_VACATED);
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
static bool slot_settled(struct nursery *n, struct slot *s)
{
    if (s->cgroup.events < 0)
        return !s->leftovers;
    if (cgroup_slot_empty(&s->cgroup))
        return true;
    cgroup_slot_kill(&n->cgroups, &s->cgroup, nursery_slot_number(n, s));
    return false;
}

static void settle_slot(struct nursery *n, struct slot *s)
{
    bool settled = slot_settled(n, s);
    if (s->attempt != REF_NONE && !settled && n->now_ms - s->ended_ms > SETTLE_MS_MAX) {
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

void nursery_stop(struct nursery *n)
{
    n->stopping = true;
    list_each(node, &n->running) slot_signal(n, list_entry(node, struct slot, node), true);
}
