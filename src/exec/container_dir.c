#include "exec/container_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#define SIGNAL_MAX 64
#define DEPTH_MAX 64

extern const uint8_t shim_program[]; /* made by tools/embed, as is its size */
extern const uint64_t shim_program_size;

static const char *const box_files[] = { "out", "err", "exit" };

/* --- the home --- */

static int make_dir(int at, const char *name, mode_t mode, struct err *err)
{
    if (mkdirat(at, name, mode) < 0 && errno != EEXIST)
        return err_errno(err, "directory %s", name);
    return 0;
}

static bool write_all(int fd, const void *data, size_t size)
{
    for (const char *at = data; size;) {
        ssize_t n = write(fd, at, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

/* Whole or not at all, whatever was there before. */
static int put_file(int dir, const char *name, const void *data, size_t size, mode_t mode, struct err *err)
{
    char fresh[NAME_MAX];
    snprintf(fresh, sizeof fresh, "%s.new", name);
    unlinkat(dir, fresh, 0);
    autoclose int fd = openat(dir, fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0 || !write_all(fd, data, size) || fchmod(fd, mode) < 0 || fsync(fd) < 0 ||
        renameat(dir, fresh, dir, name) < 0)
        return err_errno(err, "%s", name);
    return 0;
}

static bool get_file(int dir, const char *name, char *out, size_t size)
{
    autoclose int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);
    out[n > 0 ? n : 0] = 0;
    return n >= 0;
}

static int know_worker(struct container_home *h, int dir, struct err *err)
{
    char text[64];
    uint64_t words[2];
    if (get_file(dir, "id", text, sizeof text) && strspn(text, "0123456789abcdef") == 32 && strlen(text) == 32) {
        snprintf(h->worker, sizeof h->worker, "%s", text);
        return 0;
    }
    if (getrandom(words, sizeof words, 0) != (ssize_t)sizeof words)
        return err_errno(err, "random numbers");
    snprintf(h->worker, sizeof h->worker, "%016" PRIx64 "%016" PRIx64, words[0], words[1]);
    return put_file(dir, "id", h->worker, 32, 0600, err);
}

int container_home_open(struct container_home *h, const char *state_dir, struct err *err)
{
    h->run = h->gone = -1;
    if (snprintf(h->path, sizeof h->path, "%s/containers", state_dir) >= (int)sizeof h->path)
        return err_set(err, ERR_INVALID, "the path of the state directory is too long");
    autoclose int state = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (state < 0)
        return err_errno(err, "%s", state_dir);
    if (make_dir(state, "containers", 0700, err) < 0)
        return -(int)err->code;
    autoclose int dir = openat(state, "containers", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (dir < 0)
        return err_errno(err, "%s", h->path);
    if (make_dir(dir, "run", 0700, err) < 0 || make_dir(dir, "gone", 0700, err) < 0 || know_worker(h, dir, err) < 0 ||
        put_file(dir, "shim", shim_program, (size_t)shim_program_size, 0555, err) < 0)
        return err_wrap(err, "%s", h->path);
    h->run = openat(dir, "run", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    h->gone = openat(dir, "gone", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (h->run < 0 || h->gone < 0) {
        int rc = err_errno(err, "%s", h->path);
        container_home_close(h);
        return rc;
    }
    return 0;
}

void container_home_close(struct container_home *h)
{
    if (h->run >= 0)
        close(h->run);
    if (h->gone >= 0)
        close(h->gone);
    h->run = h->gone = -1;
}

/* --- names: rota-WORKER-JOB[-tTASK]-ATTEMPT, of [a-z0-9-] alone --- */

void container_name(const struct container_home *h, struct attempt_ref ref, char out[CONTAINER_NAME_BYTES])
{
    if (ref.task == TASK_SINGLE)
        snprintf(out, CONTAINER_NAME_BYTES, "rota-%.8s-%" PRIu64 "-%" PRIu32, h->worker, ref.job.n, ref.attempt);
    else
        snprintf(out, CONTAINER_NAME_BYTES, "rota-%.8s-%" PRIu64 "-t%" PRIu32 "-%" PRIu32, h->worker, ref.job.n,
                 ref.task, ref.attempt);
}

bool container_ref(const struct container_home *h, const char *name, struct attempt_ref *ref)
{
    char again[CONTAINER_NAME_BYTES], worker[9] = "";
    *ref = (struct attempt_ref){ .task = TASK_SINGLE };
    if (sscanf(name, "rota-%8[0-9a-f]-%" SCNu64 "-t%" SCNu32 "-%" SCNu32, worker, &ref->job.n, &ref->task,
               &ref->attempt) != 4) {
        ref->task = TASK_SINGLE;
        if (sscanf(name, "rota-%8[0-9a-f]-%" SCNu64 "-%" SCNu32, worker, &ref->job.n, &ref->attempt) != 3)
            return false;
    }
    container_name(h, *ref, again);
    return ref->job.n && strcmp(again, name) == 0;
}

void container_each(const struct container_home *h, int dir,
                    void (*visit)(void *arg, const char *name, struct attempt_ref ref), void *arg)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    struct attempt_ref ref;
    while (d && (entry = readdir(d)))
        if (container_ref(h, entry->d_name, &ref))
            visit(arg, entry->d_name, ref);
    if (d)
        closedir(d);
}

/* --- one attempt --- */

static int dir_of(const struct container_home *h, const char *name)
{
    return openat(h->run, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

int container_box_open(const struct container_home *h, const char *name)
{
    autoclose int dir = dir_of(h, name);
    return dir < 0 ? -1 : openat(dir, "box", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

/* Any user may write to the files: which one the container has, in our numbering or one of the engine's, does not
 * matter. Nobody but the container gets here: what is above is ours alone. */
static bool make_box(int dir)
{
    if (mkdirat(dir, "box", 0755) < 0)
        return false;
    autoclose int box = openat(dir, "box", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (box < 0 || fchmod(box, 0755) < 0)
        return false;
    for (size_t i = 0; i < sizeof box_files / sizeof *box_files; i++) {
        autoclose int fd = openat(box, box_files[i], O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        struct shim_record none = { 0 };
        if (fd < 0 || fchmod(fd, 0666) < 0)
            return false;
        if (strcmp(box_files[i], "exit") == 0 && write(fd, &none, sizeof none) != (ssize_t)sizeof none)
            return false;
    }
    return mkfifoat(box, "ctl", 0666) == 0 && fchmodat(box, "ctl", 0666, 0) == 0;
}

static void remove_tree(int at, const char *name, int depth)
{
    if (unlinkat(at, name, 0) == 0 || errno == ENOENT || depth > DEPTH_MAX)
        return;
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d)
        return;
    fchmod(dirfd(d), 0700);
    struct dirent *entry;
    while ((entry = readdir(d)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            remove_tree(dirfd(d), entry->d_name, depth + 1);
    closedir(d);
    unlinkat(at, name, AT_REMOVEDIR);
}

int container_dir_make(const struct container_home *h, const char *name, struct err *err)
{
    if (mkdirat(h->run, name, 0700) < 0) {
        if (errno == EEXIST)
            return err_set(err, ERR_CONFLICT, "there is something kept of the container %s", name);
        return err_errno(err, "directory of the container %s", name);
    }
    autoclose int dir = dir_of(h, name);
    if (dir >= 0 && make_box(dir))
        return 0;
    int rc = err_errno(err, "files of the container %s", name);
    remove_tree(h->run, name, 0);
    return rc;
}

bool container_dir_leave(const struct container_home *h, const char *name)
{
    return renameat(h->run, name, h->gone, name) == 0;
}

void container_dir_remove(const struct container_home *h, const char *name)
{
    remove_tree(h->gone, name, 0);
}

bool container_note_set(const struct container_home *h, const char *name, const char *note, const char *text)
{
    char file[64];
    snprintf(file, sizeof file, "note.%s", note);
    autoclose int dir = dir_of(h, name);
    autoclose int fd = dir < 0 ? -1 : openat(dir, file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd >= 0 && write_all(fd, text, strlen(text));
}

bool container_note_get(const struct container_home *h, const char *name, const char *note, char *out, size_t size)
{
    char file[64];
    snprintf(file, sizeof file, "note.%s", note);
    autoclose int dir = dir_of(h, name);
    return dir >= 0 && get_file(dir, file, out, size);
}

/* --- the box --- */

static int open_regular(int box, const char *name, int flags)
{
    struct stat st;
    int fd = openat(box, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static bool adds_up(const struct shim_record *r)
{
    return r->magic == SHIM_MAGIC && r->sum == shim_record_sum(r) && r->phase >= SHIM_BEGUN && r->phase <= SHIM_ENDED &&
           r->exit_code <= 255 && r->signal <= SIGNAL_MAX && r->stage <= SHIM_STAGE_EXEC && r->begun_ms >= 0 &&
           (r->phase != SHIM_ENDED || r->ended_ms >= r->begun_ms) && !r->name[SHIM_NAME_BYTES - 1];
}

bool container_record(const struct container_home *h, const char *name, struct shim_record *out)
{
    autoclose int box = container_box_open(h, name);
    autoclose int fd = box < 0 ? -1 : open_regular(box, "exit", O_RDONLY);
    return fd >= 0 && pread(fd, out, sizeof *out, 0) == (ssize_t)sizeof *out && adds_up(out);
}

bool container_box_clear(const struct container_home *h, const char *name)
{
    struct shim_record none = { 0 };
    autoclose int box = container_box_open(h, name);
    autoclose int fd = box < 0 ? -1 : open_regular(box, "exit", O_WRONLY);
    return fd >= 0 && pwrite(fd, &none, sizeof none, 0) == (ssize_t)sizeof none;
}

bool container_order(const struct container_home *h, const char *name, char order)
{
    struct stat st;
    autoclose int box = container_box_open(h, name);
    autoclose int fd = box < 0 ? -1 : openat(box, "ctl", O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    return fd >= 0 && fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode) && write(fd, &order, 1) == 1;
}
