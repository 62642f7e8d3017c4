/* exec_both: two executors as one: jobs with an image are containers, all others processes. What was started is known
 * to one of them alone, and to what it does not know each says nothing; so every order goes to both. */
#include <stdio.h>

#include "base/mem.h"
#include "exec/exec.h"

struct exec_both {
    struct exec base;
    struct exec *processes, *containers;
    char enforces[800];
};

static struct exec_both *both_of(struct exec *x)
{
    return (struct exec_both *)x;
}

static int both_start(struct exec *x, const struct exec_job *job, struct err *err)
{
    struct exec *to = job->image ? both_of(x)->containers : both_of(x)->processes;
    return to->ops->start(to, job, err);
}

static void both_signal(struct exec *x, struct attempt_ref ref, bool kill)
{
    struct exec_both *b = both_of(x);
    b->processes->ops->signal(b->processes, ref, kill);
    b->containers->ops->signal(b->containers, ref, kill);
}

static void both_line(struct exec *x, struct attempt_ref ref, enum exec_line what)
{
    struct exec_both *b = both_of(x);
    b->processes->ops->line(b->processes, ref, what);
    b->containers->ops->line(b->containers, ref, what);
}

static void both_lease(struct exec *x, int64_t until_ms)
{
    struct exec_both *b = both_of(x);
    b->processes->ops->lease(b->processes, until_ms);
}

static void both_remove(struct exec *x, struct attempt_ref ref)
{
    struct exec_both *b = both_of(x);
    b->processes->ops->remove(b->processes, ref);
    b->containers->ops->remove(b->containers, ref);
}

static bool both_log_path(struct exec *x, struct attempt_ref ref, enum exec_stream stream, char *path, size_t size)
{
    struct exec_both *b = both_of(x);
    return b->processes->ops->log_path(b->processes, ref, stream, path, size) ||
           b->containers->ops->log_path(b->containers, ref, stream, path, size);
}

static bool both_usage(struct exec *x, struct attempt_ref ref, struct exec_usage *out)
{
    struct exec_both *b = both_of(x);
    return b->processes->ops->usage(b->processes, ref, out) || b->containers->ops->usage(b->containers, ref, out);
}

static const char *both_enforces(struct exec *x)
{
    struct exec_both *b = both_of(x);
    snprintf(b->enforces, sizeof b->enforces, "%s; %s", b->processes->ops->enforces(b->processes),
             b->containers->ops->enforces(b->containers));
    return b->enforces;
}

static void both_close(struct exec *x)
{
    struct exec_both *b = both_of(x);
    b->containers->ops->close(b->containers);
    b->processes->ops->close(b->processes);
    free(b);
}

static const struct exec_ops both_ops = {
    .name = "docker",
    .start = both_start,
    .signal = both_signal,
    .line = both_line,
    .lease = both_lease,
    .remove = both_remove,
    .log_path = both_log_path,
    .usage = both_usage,
    .enforces = both_enforces,
    .close = both_close,
};

struct exec *exec_both_open(struct loop *loop, const struct exec_config *config, const struct exec_events *events,
                            struct err *err)
{
    struct exec_both *b = mem_zero(1, sizeof *b);
    b->base.ops = &both_ops;
    b->processes = exec_proc_open(loop, config, events, err);
    if (b->processes)
        b->containers = exec_docker_open(loop, config, events, err);
    if (b->containers)
        return &b->base;
    if (b->processes)
        b->processes->ops->close(b->processes);
    free(b);
    return NULL;
}
