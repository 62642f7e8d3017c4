#include "worker/gpu_meter.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/clock.h"
#include "io/loop.h"
#include "obs/log.h"

#define TEXT_MAX 65536u
#define REAP_EACH_MS 200

extern char **environ;

struct gpu_meter {
    struct loop *loop;
    struct loop_timer *ask, *limit, *reap;
    struct loop_fd *output; /* NULL: nothing is read */
    int fd;
    pid_t pid; /* 0: none runs */
    struct buf text;
    struct gpu_load load;
    int64_t told_ms;
    bool is_absent_told;
};

/* --- what it prints --- */

static bool number(const char **at, const char *end, uint64_t *out)
{
    while (*at < end && (**at == ' ' || **at == ','))
        (*at)++;
    const char *first = *at;
    uint64_t value = 0;
    while (*at < end && **at >= '0' && **at <= '9' && value < UINT32_MAX)
        value = value * 10 + (uint64_t)(*(*at)++ - '0');
    *out = value;
    if (*at > first)
        return true;
    while (*at < end && **at != ',')
        (*at)++; /* "[N/A]" */
    return false;
}

struct gpu_load gpu_load_parse(struct bytes text)
{
    struct gpu_load load = { 0 };
    const char *at = text.data, *end = at + text.size;
    while (at < end) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        if (!line_end)
            break; /* A line is whole when it is ended. */
        uint64_t percent, used_mib, mib;
        bool tells = number(&at, line_end, &percent);
        if (number(&at, line_end, &used_mib) && number(&at, line_end, &mib) && percent <= 100) {
            load.count++;
            load.used_milli += tells ? percent * 10 : 0;
            load.mem_used_bytes += used_mib << 20;
            load.mem_bytes += mib << 20;
        }
        at = line_end + 1;
    }
    return load;
}

/* --- the tool --- */

static void stop_reading(struct gpu_meter *m)
{
    loop_fd_remove(m->output);
    m->output = NULL;
    if (m->fd >= 0)
        close(m->fd);
    m->fd = -1;
}

/* It hangs with its driver at times, and then even SIGKILL has to wait: nobody else does. */
static void reap(void *arg)
{
    struct gpu_meter *m = arg;
    pid_t done = waitpid(m->pid, NULL, WNOHANG);
    if (done == 0 || (done < 0 && errno == EINTR)) {
        loop_timer_set(m->reap, REAP_EACH_MS);
        return;
    }
    m->pid = 0;
    loop_timer_set(m->ask, GPU_METER_EACH_MS);
}

static void end_tool(struct gpu_meter *m)
{
    stop_reading(m);
    loop_timer_set(m->limit, -1);
    kill(m->pid, SIGKILL); /* It has told all, or will never. */
    reap(m);
}

static void on_limit(void *arg)
{
    log_warn("nvidia-smi takes too long: the use of the GPUs is not known");
    end_tool(arg);
}

static void on_output(void *arg, int fd, int events)
{
    struct gpu_meter *m = arg;
    char part[4096];
    (void)events;
    ssize_t n = read(fd, part, sizeof part);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n > 0 && m->text.size + (size_t)n <= TEXT_MAX) {
        buf_add(&m->text, part, (size_t)n);
        return;
    }
    struct gpu_load load = gpu_load_parse(buf_bytes(&m->text));
    if (load.count) {
        m->load = load;
        m->told_ms = clock_now_ms();
    }
    end_tool(m);
}

static int spawn_tool(struct gpu_meter *m, int out)
{
    static char name[] = "nvidia-smi", query[] = "--query-gpu=utilization.gpu,memory.used,memory.total", format[] = "--format=csv,noheader,nounits";
    char *const argv[] = { name, query, format, NULL };
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    int error = posix_spawnp(&m->pid, argv[0], &actions, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

static void ask(void *arg)
{
    struct gpu_meter *m = arg;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
        loop_timer_set(m->ask, GPU_METER_EACH_MS);
        return;
    }
    int error = spawn_tool(m, ends[1]);
    close(ends[1]);
    m->fd = ends[0];
    buf_clear(&m->text);
    if (error) {
        m->pid = 0;
        stop_reading(m);
        loop_timer_set(m->ask, GPU_METER_EACH_MS);
        if (!m->is_absent_told)
            log_info("nvidia-smi cannot be run, the use of the GPUs is not known: why=\"%s\"", strerror(error));
        m->is_absent_told = true;
        return;
    }
    m->output = loop_fd_add(m->loop, m->fd, LOOP_READ, on_output, m);
    loop_timer_set(m->limit, GPU_METER_TAKES_MS_MAX);
}

struct gpu_meter *gpu_meter_new(struct loop *loop)
{
    struct gpu_meter *m = mem_zero(1, sizeof *m);
    *m = (struct gpu_meter){ .loop = loop, .fd = -1 };
    m->ask = loop_timer_add(loop, ask, m);
    m->limit = loop_timer_add(loop, on_limit, m);
    m->reap = loop_timer_add(loop, reap, m);
    loop_timer_set(m->ask, 0);
    return m;
}

void gpu_meter_free(struct gpu_meter *m)
{
    if (!m)
        return;
    stop_reading(m);
    if (m->pid) {
        kill(m->pid, SIGKILL);
        waitpid(m->pid, NULL, WNOHANG);
    }
    loop_timer_remove(m->ask);
    loop_timer_remove(m->limit);
    loop_timer_remove(m->reap);
    buf_fini(&m->text);
    free(m);
}

struct gpu_load gpu_meter_load(const struct gpu_meter *m)
{
    if (!m || !m->load.count || clock_now_ms() - m->told_ms > 3 * GPU_METER_EACH_MS)
        return (struct gpu_load){ 0 };
    return m->load;
}
