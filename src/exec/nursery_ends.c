#include "exec/nursery_state.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "exec/procfs.h"
#include "io/clock.h"
#include "obs/log.h"

/* --- making ends durable --- */

static void emit_all(void *arg, struct nursery_log *log)
{
    const struct nursery *n = arg;
    for (uint32_t i = 0; i < n->refs.cap; i++) {
        if (!ref_table_used(&n->refs, i))
            continue;
        const struct attempt *a = &n->attempts[i];
        if (!a->ended && a->slot == REF_NONE)
            continue; /* it waits in line, which is no fact yet */
        struct exit_record r = a->ended ? nursery_exit_record(n, a) : nursery_spawning_record(n, a);
        nursery_log_add(log, &r);
        if (!a->ended && n->slots[a->slot].cgroup.events < 0) {
            r = (struct exit_record){ .kind = LOG_SPAWNED, .ref = nursery_ref_of(n, a), .pid = a->pid };
            nursery_log_add(log, &r);
        }
    }
}

/* The streams of an ended attempt that the cap cut; adds what is to be done. False: no more fits. */
static bool add_squeezes(struct nursery *n, const struct attempt *a)
{
    const uint64_t bytes[OUTPUT_STREAMS] = { a->result.stdout_bytes, a->result.stderr_bytes };
    if (n->log.squeezes_count + OUTPUT_STREAMS > LOG_SQUEEZES_MAX)
        return false;
    for (uint32_t stream = 0; stream < OUTPUT_STREAMS; stream++)
        if (a->own_streams & (1u << stream) && output_over(bytes[stream], a->output_bytes_max))
            n->log.squeezes[n->log.squeezes_count++] =
                (struct log_squeeze){ nursery_ref_of(n, a), stream, bytes[stream], a->output_bytes_max };
    return true;
}

void nursery_sync_ends(struct nursery *n)
{
    if (n->log.syncing || list_empty(&n->undurable))
        return;
    /* A worker that knows that the place is free does not wait for the end: one sync for many of them. */
    const struct attempt *last = list_entry(n->undurable.prev, struct attempt, undurable);
    if (!n->wants_vacated || !last->vacated || n->stopping || n->busy_count == 0)
        n->sync_ms = n->now_ms;
    else if (n->sync_ms == INT64_MAX)
        n->sync_ms = n->now_ms + (n->line_count > LINE_DEEP ? LAZY_DEEP_MS : LAZY_MS);
    if (n->now_ms < n->sync_ms)
        return;
    n->sync_ms = INT64_MAX;
    n->syncing_count = 0;
    list_each(node, &n->undurable)
    {
        if (!add_squeezes(n, list_entry(node, struct attempt, undurable)))
            break;
        n->syncing_count++;
    }
    nursery_log_sync(&n->log);
}

void nursery_synced(struct nursery *n)
{
    nursery_log_sync_done(&n->log);
    for (; n->syncing_count; n->syncing_count--) {
        struct attempt *a = list_entry(n->undurable.next, struct attempt, undurable);
        list_remove(&a->undurable);
        a->durable = true;
        nursery_tell(n, a, TELL_ENDED);
    }
}

void nursery_compact(struct nursery *n)
{
    struct err err = { 0 };
    if (!nursery_log_wants_rewrite(&n->log))
        return;
    if (nursery_log_rewrite(&n->log, 2 * n->refs.count, emit_all, n, &err) < 0) {
        log_warn("nursery.log stays long: %s", err.text);
        n->log.compacted = n->log.used;
    }
}

/* --- recovery --- */

static void load_record(void *arg, const struct exit_record *r, bool rebooted)
{
    struct nursery *n = arg;
    struct attempt *a = nursery_attempt_find(n, r->ref);
    if (r->kind == LOG_REMOVED && a)
        nursery_attempt_remove(n, a);
    if (r->kind == LOG_SPAWNED && a)
        a->pid = r->pid;
    if (r->kind != LOG_SPAWNING && r->kind != LOG_EXIT)
        return;
    if (a && a->ended)
        return; /* the first end is the one that was told */
    if (!a)
        a = nursery_attempt_add(n, r->ref);
    if (!a)
        return;
    a->output_bytes_max = r->output_bytes_max;
    a->own_streams = r->own_streams;
    if (r->kind == LOG_SPAWNING) {
        a->started = true;
        a->rebooted = rebooted;
        a->slot = r->slot < NURSERY_SLOTS_MAX ? r->slot : REF_NONE;
        a->fence = r->fence;
        a->begun_ms = r->begun_ms;
        return;
    }
    a->ended = a->durable = a->vacated = true;
    a->started = r->started;
    a->result = r->result;
    memcpy(a->text, r->text, sizeof a->text);
}

/* Without cgroups: ends what is left of a job whose nursery died. */
static void kill_orphans(const struct attempt *a)
{
    struct proc_job job = {
        .main = (pid_t)a->pid, .started_from_ms = a->begun_ms, .started_until_ms = a->begun_ms + 1000, .fence = a->fence
    };
    int64_t until_ms = clock_now_ms() + CLEAR_MS_MAX;
    while (proc_signal_job(&job, SIGKILL) && clock_now_ms() < until_ms)
        usleep(1000);
}

/* The journal says that it was spawned and not how it ended: nobody will ever know. */
static void resolve(struct nursery *n, struct attempt *a)
{
    if (!a->rebooted && (a->pid || !cgroup_can_kill(&n->cgroups)))
        kill_orphans(a);
    a->result = (struct attempt_result){ .reason = a->rebooted ? REASON_NODE_REBOOTED : REASON_INFRA,
                                         .flags = END_MAY_HAVE_RUN };
    if (a->slot != REF_NONE)
        nursery_collect_output(n, a);
    snprintf(a->text, sizeof a->text, "%s",
             a->rebooted ? "the node was rebooted while it ran" : "the process that watched it died while it ran");
    a->ended = a->durable = a->vacated = true;
}

static void clear_slot_files(struct nursery *n)
{
    int fd = openat(n->logs_dir, "slots", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d)
        return;
    struct dirent *entry;
    while ((entry = readdir(d)))
        if (entry->d_name[0] != '.')
            unlinkat(dirfd(d), entry->d_name, 0);
    closedir(d);
}

int nursery_recover(struct nursery *n, struct err *err)
{
    nursery_log_read(n->state_dir, load_record, n);
    cgroup_home_clear(&n->cgroups, CLEAR_MS_MAX);
    for (uint32_t i = 0; i < n->refs.cap; i++) {
        if (!ref_table_used(&n->refs, i))
            continue;
        struct attempt *a = &n->attempts[i];
        if (!a->ended)
            resolve(n, a);
        a->slot = REF_NONE;
        if (!add_squeezes(n, a))
            continue;
        for (; n->log.squeezes_count; n->log.squeezes_count--) {
            const struct log_squeeze *s = &n->log.squeezes[n->log.squeezes_count - 1];
            output_squeeze(n->logs_dir, s->ref, s->stream, s->written, s->cap);
        }
    }
    clear_slot_files(n);
    return nursery_log_rewrite(&n->log, n->refs.count, emit_all, n, err);
}
