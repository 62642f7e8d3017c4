#include "base/mem.h"
#include "exec/docker_int.h"
#include "io/loop.h"
#include "io/thread.h"

struct task {
    struct list_node node;
    bool squeeze; /* else: remove */
    struct attempt_ref ref;
    uint64_t bytes[OUTPUT_STREAMS], cap;
    char name[CONTAINER_NAME_BYTES];
};

struct docker_files {
    struct docker *docker;
    void (*squeezed)(void *arg, struct attempt_ref ref);
    struct loop_wake *wake;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct list_node todo, done; /* under the lock */
    bool stop;                   /* under the lock */
};

static void perform(struct docker_files *f, const struct task *t)
{
    if (!t->squeeze) {
        container_dir_remove(&f->docker->home, t->name);
        return;
    }
    for (enum exec_stream stream = 0; stream < OUTPUT_STREAMS; stream++)
        if (output_over(t->bytes[stream], t->cap))
            output_squeeze(f->docker->logs_dir, t->ref, stream, t->bytes[stream], t->cap);
}

static void *files_main(void *arg)
{
    struct docker_files *f = arg;
    pthread_mutex_lock(&f->lock);
    for (;;) {
        while (list_empty(&f->todo) && !f->stop)
            pthread_cond_wait(&f->more, &f->lock);
        if (list_empty(&f->todo))
            break;
        struct task *t = list_entry(list_first(&f->todo), struct task, node);
        list_remove(&t->node);
        pthread_mutex_unlock(&f->lock);
        perform(f, t);
        pthread_mutex_lock(&f->lock);
        list_append(&f->done, &t->node);
        loop_wake(f->wake);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

static struct task *next_done(struct docker_files *f)
{
    pthread_mutex_lock(&f->lock);
    struct list_node *first = list_first(&f->done);
    if (first)
        list_remove(first);
    pthread_mutex_unlock(&f->lock);
    return first ? list_entry(first, struct task, node) : NULL;
}

static void on_wake(void *arg)
{
    struct docker_files *f = arg;
    struct task *t;
    while ((t = next_done(f))) {
        if (t->squeeze)
            f->squeezed(f->docker, t->ref);
        free(t);
    }
}

struct docker_files *docker_files_new(struct docker *d, void (*squeezed)(void *arg, struct attempt_ref ref))
{
    struct docker_files *f = mem_zero(1, sizeof *f);
    f->docker = d;
    f->squeezed = squeezed;
    list_init(&f->todo);
    list_init(&f->done);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->more, NULL);
    f->wake = loop_wake_add(d->loop, on_wake, f);
    if (thread_start(&f->thread, NULL, files_main, f) != 0)
        abort(); /* as when there is no memory */
    return f;
}

static void add(struct docker_files *f, struct task *t)
{
    pthread_mutex_lock(&f->lock);
    list_append(&f->todo, &t->node);
    pthread_cond_signal(&f->more);
    pthread_mutex_unlock(&f->lock);
}

void docker_files_squeeze(struct docker_files *f, struct attempt_ref ref, const uint64_t bytes[OUTPUT_STREAMS],
                          uint64_t cap)
{
    struct task *t = mem_zero(1, sizeof *t);
    t->squeeze = true;
    t->ref = ref;
    t->cap = cap;
    memcpy(t->bytes, bytes, sizeof t->bytes);
    add(f, t);
}

void docker_files_remove(struct docker_files *f, const char *name)
{
    struct task *t = mem_zero(1, sizeof *t);
    memcpy(t->name, name, strnlen(name, sizeof t->name - 1));
    add(f, t);
}

void docker_files_free(struct docker_files *f)
{
    pthread_mutex_lock(&f->lock);
    f->stop = true;
    pthread_cond_signal(&f->more);
    pthread_mutex_unlock(&f->lock);
    pthread_join(f->thread, NULL);
    struct task *t;
    while ((t = next_done(f)))
        free(t);
    loop_wake_remove(f->wake);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->more);
    free(f);
}
