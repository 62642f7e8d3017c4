#include "worker/log_keeper.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/check.h"
#include "base/mem.h"
#include "io/loop.h"
#include "io/thread.h"

#define DEPTH_MAX 6
#define FILES_LOOKED_AT_MAX 2000000u

struct kept_file {
    const char *path; /* in the arena */
    int64_t changed_ns;
    uint64_t bytes;
};

enum keeper_state { IDLE, LOOKING, LOOKED, REMOVING, REMOVED };

struct log_keeper {
    struct log_keeper_config config;
    char *directory, *skip;
    struct loop_timer *timer;
    struct loop_wake *wake;
    pthread_t thread;
    bool thread_runs;

    /* Owned by the thread while state is LOOKING or REMOVING, else by the loop. */
    struct arena arena;
    struct kept_file *files;
    size_t files_count, files_cap;
    uint64_t bytes, removed;
    struct buf held;

    _Atomic enum keeper_state state;
    uint64_t bytes_shown, removed_shown;
};

static void look_into(struct log_keeper *k, int dir, struct buf *path, int depth)
{
    DIR *d = fdopendir(dir);
    if (!d) {
        close(dir);
        return;
    }
    struct dirent *entry;
    while ((entry = readdir(d)) && k->files_count < FILES_LOOKED_AT_MAX) {
        if (entry->d_name[0] == '.' || (depth == 0 && k->skip && strcmp(entry->d_name, k->skip) == 0))
            continue;
        struct stat st;
        if (fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        size_t size = path->size;
        buf_char(path, '/');
        buf_str(path, entry->d_name);
        if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX) {
            int sub = openat(dirfd(d), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
            if (sub >= 0)
                look_into(k, sub, path, depth + 1);
        } else if (S_ISREG(st.st_mode)) {
            k->files = mem_grow(k->files, &k->files_cap, k->files_count + 1, sizeof *k->files);
            k->files[k->files_count++] = (struct kept_file){
                arena_str(&k->arena, buf_bytes(path)),
                (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec,
                (uint64_t)st.st_blocks * 512,
            };
            k->bytes += (uint64_t)st.st_blocks * 512;
        }
        path->size = size;
        path->data[size] = 0;
    }
    closedir(d);
}

static void *look(void *arg)
{
    struct log_keeper *k = arg;
    autobuf struct buf path = BUF_INIT;
    buf_str(&path, k->directory);
    int dir = open(k->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (dir >= 0)
        look_into(k, dir, &path, 0);
    k->state = LOOKED;
    loop_wake(k->wake);
    return NULL;
}

static int oldest_first(const void *a, const void *b)
{
    const struct kept_file *x = a, *y = b;
    if (x->changed_ns != y->changed_ns)
        return x->changed_ns < y->changed_ns ? -1 : 1;
    return strcmp(x->path, y->path);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void *remove_oldest(void *arg)
{
    struct log_keeper *k = arg;
    size_t held_count = 0, held_cap = 0;
    const char **held = NULL;
    for (size_t at = 0; at < k->held.size; at += strlen(k->held.data + at) + 1) {
        held = mem_grow(held, &held_cap, held_count + 1, sizeof *held);
        held[held_count++] = k->held.data + at;
    }
    if (held_count)
        qsort(held, held_count, sizeof *held, by_text);
    qsort(k->files, k->files_count, sizeof *k->files, oldest_first);
    uint64_t bytes_goal = k->config.bytes_max / 8 * 7, files_goal = k->config.files_max / 8 * 7;
    uint64_t left = k->files_count;
    for (size_t i = 0; i < k->files_count && (k->bytes > bytes_goal || left > files_goal); i++) {
        const struct kept_file *f = &k->files[i];
        if (held_count && bsearch(&f->path, held, held_count, sizeof *held, by_text))
            continue;
        if (unlink(f->path) == 0)
            k->removed++;
        k->bytes -= f->bytes;
        left--;
    }
    free(held);
    k->state = REMOVED;
    loop_wake(k->wake);
    return NULL;
}

static void start(struct log_keeper *k, enum keeper_state state, void *(*run)(void *))
{
    k->state = state;
    k->thread_runs = thread_start(&k->thread, NULL, run, k) == 0;
    if (!k->thread_runs)
        k->state = IDLE; /* No thread to be had: next time. */
}

static void join(struct log_keeper *k)
{
    if (k->thread_runs)
        pthread_join(k->thread, NULL);
    k->thread_runs = false;
}

static void finish(struct log_keeper *k)
{
    k->bytes_shown = k->bytes;
    k->removed_shown = k->removed;
    arena_fini(&k->arena);
    free(k->files);
    k->files = NULL;
    k->files_count = k->files_cap = 0;
    buf_fini(&k->held);
    k->state = IDLE;
    loop_timer_set(k->timer, k->config.every_ms);
}

static void on_wake(void *arg)
{
    struct log_keeper *k = arg;
    if (k->state == LOOKED) {
        join(k);
        if (k->bytes <= k->config.bytes_max && k->files_count <= k->config.files_max) {
            finish(k);
            return;
        }
        /* Asked after the look: an attempt that starts from now on has files that were not seen. */
        k->config.held(k->config.arg, &k->held);
        start(k, REMOVING, remove_oldest);
        if (!k->thread_runs)
            finish(k);
    } else if (k->state == REMOVED) {
        join(k);
        finish(k);
    }
}

void log_keeper_look(struct log_keeper *k)
{
    if (k->state != IDLE)
        return;
    k->bytes = 0;
    start(k, LOOKING, look);
    if (!k->thread_runs)
        loop_timer_set(k->timer, k->config.every_ms);
}

static void on_timer(void *arg)
{
    log_keeper_look(arg);
}

struct log_keeper *log_keeper_new(struct loop *loop, const struct log_keeper_config *config)
{
    struct log_keeper *k = mem_zero(1, sizeof *k);
    k->config = *config;
    k->directory = mem_str(config->directory);
    k->skip = mem_str(config->skip);
    k->arena = ARENA_INIT;
    k->held = BUF_INIT;
    k->timer = loop_timer_add(loop, on_timer, k);
    k->wake = loop_wake_add(loop, on_wake, k);
    k->state = IDLE;
    loop_timer_set(k->timer, config->every_ms);
    return k;
}

void log_keeper_free(struct log_keeper *k)
{
    if (!k)
        return;
    join(k);
    loop_timer_remove(k->timer);
    loop_wake_remove(k->wake);
    arena_fini(&k->arena);
    buf_fini(&k->held);
    free(k->files);
    free(k->directory);
    free(k->skip);
    free(k);
}

uint64_t log_keeper_bytes(const struct log_keeper *k)
{
    return k->bytes_shown;
}

uint64_t log_keeper_removed(const struct log_keeper *k)
{
    return k->removed_shown;
}

bool log_keeper_busy(const struct log_keeper *k)
{
    return k->state != IDLE;
}
