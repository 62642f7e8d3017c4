#include "worker/worker_logs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "io/clock.h"
#include "io/loop.h"

#define LOOK_MS_MIN 50
#define LOOK_MS_MAX 200

struct log_wait {
    uint64_t request;
    struct attempt_ref ref;
    enum exec_stream stream;
    uint64_t offset;
    uint32_t bytes_max;
    int64_t until_ms;
};

struct worker_logs {
    struct worker_logs_port port;
    struct loop_timer *timer;
    int64_t look_ms;
    struct log_wait waits[LOG_WAITS_MAX];
    size_t waits_count;
    char *chunk; /* LOG_CHUNK_MAX bytes */
};

int log_file_open(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))) {
        close(fd);
        return -1;
    }
    return fd;
}

static size_t read_at(int fd, char *out, size_t max, uint64_t offset)
{
    size_t used = 0;
    while (used < max) {
        ssize_t n = pread(fd, out + used, max - used, (off_t)(offset + used));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        used += (size_t)n;
    }
    return used;
}

void log_tail(struct exec *exec, struct attempt_ref ref, enum exec_stream stream, size_t max, struct buf *out)
{
    char path[PATH_MAX];
    buf_clear(out);
    if (!exec->ops->log_path(exec, ref, stream, path, sizeof path))
        return;
    autoclose int fd = log_file_open(path);
    off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    if (size <= 0)
        return;
    size_t want = (uint64_t)size < max ? (size_t)size : max;
    buf_reserve(out, want);
    out->size = read_at(fd, out->data, want, (uint64_t)size - want);
    out->data[out->size] = 0;
}

/* Answers the read if there is an answer; with `now` whatever there is. */
static bool answer(struct worker_logs *l, const struct log_wait *wait, enum attempt_phase phase, bool now)
{
    char path[PATH_MAX];
    struct exec *exec = l->port.exec;
    /* The phase was read before the file: what has ended by then writes no more. */
    bool over = phase == PHASE_NONE || phase == PHASE_ENDED;
    bool has_file = exec->ops->log_path(exec, wait->ref, wait->stream, path, sizeof path);
    autoclose int fd = has_file ? log_file_open(path) : -1;
    size_t size = 0;
    uint64_t end = 0;
    if (fd >= 0 && wait->offset <= INT64_MAX - LOG_CHUNK_MAX) {
        size = read_at(fd, l->chunk, wait->bytes_max, wait->offset);
        off_t found = lseek(fd, 0, SEEK_END);
        end = found > 0 ? (uint64_t)found : 0;
    }
    if (!size && !over && !now)
        return false;
    struct message m = { .kind = MSG_LOG_CHUNK };
    m.log_chunk.request = wait->request;
    m.log_chunk.ref = wait->ref;
    m.log_chunk.stream = (uint32_t)wait->stream;
    m.log_chunk.offset = wait->offset;
    m.log_chunk.data = bytes_of(l->chunk, size);
    m.log_chunk.ended = over && wait->offset + size >= end;
    m.log_chunk.unknown = phase == PHASE_NONE && fd < 0;
    l->port.send(l->port.arg, &m);
    return true;
}

static void look(void *arg)
{
    struct worker_logs *l = arg;
    int64_t now_ms = clock_now_ms();
    struct attempt_ref refs[LOG_WAITS_MAX];
    enum attempt_phase phases[LOG_WAITS_MAX];
    size_t kept = 0, count = l->waits_count;
    for (size_t i = 0; i < count; i++)
        refs[i] = l->waits[i].ref;
    l->port.phases(l->port.arg, refs, phases, count);
    for (size_t i = 0; i < count; i++)
        if (!answer(l, &l->waits[i], phases[i], now_ms >= l->waits[i].until_ms))
            l->waits[kept++] = l->waits[i];
    l->waits_count = kept;
    l->look_ms = kept < count ? LOOK_MS_MIN : l->look_ms * 3 / 2;
    if (l->look_ms > LOOK_MS_MAX)
        l->look_ms = LOOK_MS_MAX;
    if (kept)
        loop_timer_set(l->timer, l->look_ms);
}

struct worker_logs *worker_logs_new(struct loop *loop, const struct worker_logs_port *port)
{
    struct worker_logs *l = mem_zero(1, sizeof *l);
    l->port = *port;
    l->timer = loop_timer_add(loop, look, l);
    l->chunk = mem_alloc(LOG_CHUNK_MAX);
    return l;
}

void worker_logs_free(struct worker_logs *l)
{
    if (!l)
        return;
    loop_timer_remove(l->timer);
    free(l->chunk);
    free(l);
}

void worker_logs_read(struct worker_logs *l, const struct message *log_read, int64_t now_ms)
{
    check(log_read->kind == MSG_LOG_READ);
    struct log_wait wait = {
        .request = log_read->log_read.request,
        .ref = log_read->log_read.ref,
        .stream = log_read->log_read.stream == EXEC_STDERR ? EXEC_STDERR : EXEC_STDOUT,
        .offset = log_read->log_read.offset,
        .bytes_max = log_read->log_read.bytes_max < LOG_CHUNK_MAX ? log_read->log_read.bytes_max : LOG_CHUNK_MAX,
    };
    int64_t wait_ms = log_read->log_read.wait_ms;
    bool now = wait_ms <= 0 || l->waits_count == LOG_WAITS_MAX;
    wait.until_ms = now_ms + (wait_ms < LOG_WAIT_MS_MAX ? wait_ms : LOG_WAIT_MS_MAX);
    enum attempt_phase phase;
    l->port.phases(l->port.arg, &wait.ref, &phase, 1);
    if (answer(l, &wait, phase, now))
        return;
    l->waits[l->waits_count++] = wait;
    l->look_ms = LOOK_MS_MIN;
    loop_timer_set(l->timer, l->look_ms);
}

void worker_logs_forget(struct worker_logs *l)
{
    l->waits_count = 0;
    loop_timer_set(l->timer, -1);
}

size_t worker_logs_waiting(const struct worker_logs *l)
{
    return l->waits_count;
}
