#include "exec/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#define BLOCK 4096u
#define COPY_BYTES 65536

static const char *const suffix[OUTPUT_STREAMS] = { [EXEC_STDOUT] = "out", [EXEC_STDERR] = "err" };

void output_name(char out[OUTPUT_NAME_BYTES], struct attempt_ref ref, enum exec_stream stream)
{
    unsigned long long job = ref.job.n;
    if (ref.task == TASK_SINGLE)
        snprintf(out, OUTPUT_NAME_BYTES, "%llu/%llu.%u.%s", job / 4096, job, ref.attempt, suffix[stream]);
    else
        snprintf(out, OUTPUT_NAME_BYTES, "%llu/%llu_%u.%u.%s", job / 4096, job, ref.task, ref.attempt, suffix[stream]);
}

void output_slot_name(char out[OUTPUT_NAME_BYTES], uint32_t slot, enum exec_stream stream)
{
    snprintf(out, OUTPUT_NAME_BYTES, "slots/%u.%s", slot, suffix[stream]);
}

static uint64_t size_of(int logs_dir, const char *name)
{
    struct stat st;
    if (fstatat(logs_dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
        return 0;
    return (uint64_t)st.st_size;
}

uint64_t output_size(int logs_dir, uint32_t slot, enum exec_stream stream)
{
    char name[OUTPUT_NAME_BYTES];
    output_slot_name(name, slot, stream);
    return size_of(logs_dir, name);
}

uint64_t output_file_size(int dir, const char *name)
{
    return size_of(dir, name);
}

bool output_publish_file(int dir, const char *name, int logs_dir, enum exec_stream stream, struct attempt_ref ref)
{
    char to[OUTPUT_NAME_BYTES];
    output_name(to, ref, stream);
    if (renameat(dir, name, logs_dir, to) == 0)
        return true;
    if (errno != ENOENT)
        return false;
    char *slash = strchr(to, '/');
    *slash = 0;
    if (mkdirat(logs_dir, to, 0700) < 0 && errno != EEXIST)
        return false;
    *slash = '/';
    return renameat(dir, name, logs_dir, to) == 0;
}

bool output_publish(int logs_dir, uint32_t slot, enum exec_stream stream, struct attempt_ref ref)
{
    char name[OUTPUT_NAME_BYTES];
    output_slot_name(name, slot, stream);
    return output_publish_file(logs_dir, name, logs_dir, stream, ref);
}

/* What is kept of `size` bytes: [0, head) and [size - tail, size). */
static void kept(uint64_t cap, uint64_t *head, uint64_t *tail)
{
    *head = cap / 2;
    *tail = cap - *head;
}

void output_punch_file(int dir, const char *name, uint64_t cap, uint64_t *hole_end)
{
    uint64_t size = size_of(dir, name), head, tail;
    if (!output_over(size, cap))
        return;
    kept(cap, &head, &tail);
    uint64_t from = (head + BLOCK - 1) / BLOCK * BLOCK, end = (size - tail) / BLOCK * BLOCK;
    if (*hole_end > from)
        from = *hole_end;
    if (end <= from)
        return;
    autoclose int fd = openat(dir, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    /* A file system that knows no holes keeps it all until the end. */
    if (fd >= 0 && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(end - from)) == 0)
        *hole_end = end;
}

void output_punch(int logs_dir, uint32_t slot, enum exec_stream stream, uint64_t cap, uint64_t *hole_end)
{
    char name[OUTPUT_NAME_BYTES];
    output_slot_name(name, slot, stream);
    output_punch_file(logs_dir, name, cap, hole_end);
}

static bool copy(int from, off_t at, uint64_t bytes, int to)
{
    static _Thread_local char block[COPY_BYTES];
    while (bytes) {
        ssize_t n = pread(from, block, bytes < sizeof block ? (size_t)bytes : sizeof block, at);
        if (n <= 0)
            return false;
        for (ssize_t done = 0, w; done < n; done += w) {
            w = write(to, block + done, (size_t)(n - done));
            if (w <= 0)
                return false;
        }
        at += n;
        bytes -= (uint64_t)n;
    }
    return true;
}

bool output_squeeze(int logs_dir, struct attempt_ref ref, enum exec_stream stream, uint64_t written, uint64_t cap)
{
    char name[OUTPUT_NAME_BYTES], fresh[OUTPUT_NAME_BYTES + 4], mark[OUTPUT_MARK_BYTES];
    uint64_t head, tail;
    kept(cap, &head, &tail);
    output_name(name, ref, stream);
    if (!output_over(written, cap) || size_of(logs_dir, name) < written)
        return true; /* nothing to do, or done before */
    snprintf(fresh, sizeof fresh, "%s.new", name);
    int mark_bytes =
        snprintf(mark, sizeof mark, "\n[rota: %llu bytes left out here]\n", (unsigned long long)(written - cap));
    autoclose int from = openat(logs_dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    autoclose int to = openat(logs_dir, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (from < 0 || to < 0)
        return false;
    if (copy(from, 0, head, to) && write(to, mark, (size_t)mark_bytes) == mark_bytes &&
        copy(from, (off_t)(written - tail), tail, to) && renameat(logs_dir, fresh, logs_dir, name) == 0)
        return true;
    unlinkat(logs_dir, fresh, 0);
    return false;
}
