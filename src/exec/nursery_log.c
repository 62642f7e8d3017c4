#include "exec/nursery_log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "exec/output.h"
#include "obs/log.h"

#define FILE_NAME "nursery.log"
#define FRESH_NAME "nursery.log.new"
#define DAMAGED_NAME "nursery.log.damaged"
#define ROOM_BYTES (1u << 20)     /* allocated at a time */
#define REWRITE_BYTES (16u << 20) /* smaller journals are left alone */
#define READ_BYTES_MAX (1u << 30)
#define EXIT_IO 74

static _Noreturn void fatal(const char *what)
{
    log_error("%s nursery.log: %s", what, strerror(errno));
    _exit(EXIT_IO);
}

static void read_boot(char boot[EXIT_RECORD_BOOT_BYTES])
{
    autoclose int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, boot, EXIT_RECORD_BOOT_BYTES - 1);
    boot[size < 0 ? 0 : size] = 0;
    boot[strcspn(boot, "\n")] = 0;
}

static uint32_t visit_all(const uint8_t *data, size_t size, void (*visit)(void *, const struct exit_record *, bool),
                          void *arg)
{
    char boot[EXIT_RECORD_BOOT_BYTES];
    read_boot(boot);
    bool rebooted = false;
    uint32_t bad = 0;
    struct exit_record r;
    for (size_t at = 0;;) {
        enum exit_record_found found = exit_record_decode(data, size, &at, &r);
        if (found == LOG_END)
            return bad;
        if (found == LOG_BAD && size - at < 8)
            return bad; /* nothing follows: it was being written when the machine stopped */
        if (found == LOG_BAD)
            bad++;
        else if (r.kind == LOG_BOOT)
            rebooted = strcmp(r.boot, boot) != 0;
        else
            visit(arg, &r, rebooted);
    }
}

uint32_t nursery_log_read(int dir, void (*visit)(void *arg, const struct exit_record *r, bool rebooted), void *arg)
{
    autoclose int fd = openat(dir, FILE_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == 0 || st.st_size > READ_BYTES_MAX)
        return 0;
    size_t size = (size_t)st.st_size;
    void *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return 0;
    uint32_t bad = visit_all(data, size, visit, arg);
    munmap(data, size);
    if (bad) {
        unlinkat(dir, DAMAGED_NAME, 0);
        bool kept = linkat(dir, FILE_NAME, dir, DAMAGED_NAME, 0) == 0;
        log_warn("nursery.log is damaged in %u places%s", bad, kept ? "; kept as " DAMAGED_NAME : "");
    }
    return bad;
}

static bool make_room(struct nursery_log *l, uint64_t bytes)
{
    while (l->used + bytes > l->room) {
        if (posix_fallocate(l->fd, (off_t)l->room, ROOM_BYTES) != 0)
            return false;
        l->room += ROOM_BYTES;
    }
    return true;
}

void nursery_log_add(struct nursery_log *l, const struct exit_record *r)
{
    uint8_t bytes[EXIT_RECORD_BYTES_MAX];
    size_t size = exit_record_encode(r, bytes);
    make_room(l, size); /* without it the write says what is wrong */
    if (pwrite(l->fd, bytes, size, (off_t)l->used) != (ssize_t)size)
        fatal("write");
    l->used += size;
}

bool nursery_log_ready(struct nursery_log *l, uint32_t running)
{
    return make_room(l, ((uint64_t)running + 3) * EXIT_RECORD_BYTES_MAX);
}

bool nursery_log_wants_rewrite(const struct nursery_log *l)
{
    return !l->syncing && l->used > REWRITE_BYTES && l->used > 2 * l->compacted;
}

int nursery_log_rewrite(struct nursery_log *l, uint32_t records, void (*emit)(void *arg, struct nursery_log *l),
                        void *arg, struct err *err)
{
    check(!l->syncing);
    int fd = openat(l->dir, FRESH_NAME, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_errno(err, FRESH_NAME);
    int old_fd = l->fd;
    uint64_t old_used = l->used, old_room = l->room;
    l->fd = fd;
    l->used = l->room = 0;
    if (!make_room(l, ((uint64_t)records + 3) * EXIT_RECORD_BYTES_MAX)) {
        errno = ENOSPC;
        goto failed;
    }
    struct exit_record boot = { .kind = LOG_BOOT };
    memcpy(boot.boot, l->boot, sizeof boot.boot);
    nursery_log_add(l, &boot);
    emit(arg, l);
    if (fdatasync(fd) < 0)
        fatal("sync");
    if (renameat(l->dir, FRESH_NAME, l->dir, FILE_NAME) < 0)
        goto failed;
    if (fsync(l->dir) < 0)
        fatal("sync directory of");
    if (old_fd >= 0)
        close(old_fd);
    l->compacted = l->used;
    return 0;
failed:
    err_errno(err, FRESH_NAME);
    close(fd);
    l->fd = old_fd;
    l->used = old_used;
    l->room = old_room;
    return -(int)err->code;
}

static void *sync_thread(void *arg)
{
    struct nursery_log *l = arg;
    pthread_mutex_lock(&l->lock);
    for (;;) {
        while (!l->asked)
            pthread_cond_wait(&l->wake, &l->lock);
        pthread_mutex_unlock(&l->lock);
        for (uint32_t i = 0; i < l->squeezes_count; i++) {
            const struct log_squeeze *s = &l->squeezes[i];
            if (!output_squeeze(l->logs_dir, s->ref, s->stream, s->written, s->cap))
                log_warn("output of job %llu could not be cut to its cap: %s", (unsigned long long)s->ref.job.n,
                         strerror(errno));
        }
        if (fdatasync(l->fd) < 0)
            fatal("sync");
        pthread_mutex_lock(&l->lock);
        l->asked = false;
        uint64_t one = 1;
        check(write(l->done_fd, &one, sizeof one) == sizeof one);
    }
    return NULL;
}

int nursery_log_open(struct nursery_log *l, int dir, int logs_dir, struct err *err)
{
    *l = (struct nursery_log){ .dir = dir, .logs_dir = logs_dir, .fd = -1 };
    read_boot(l->boot);
    l->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->done_fd < 0)
        return err_errno(err, "eventfd");
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->wake, NULL);
    int error = pthread_create(&l->thread, NULL, sync_thread, l);
    if (error) {
        errno = error;
        return err_errno(err, "thread");
    }
    return 0;
}

void nursery_log_sync(struct nursery_log *l)
{
    check(!l->syncing);
    l->syncing = true;
    pthread_mutex_lock(&l->lock);
    l->asked = true;
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&l->lock);
}

void nursery_log_sync_done(struct nursery_log *l)
{
    uint64_t count;
    check(read(l->done_fd, &count, sizeof count) == sizeof count || errno == EAGAIN);
    l->syncing = false;
    l->squeezes_count = 0;
}
