#include "io/poster.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>

#include "base/check.h"
#include "base/list.h"
#include "base/mem.h"
#include "io/loop.h"
#include "io/thread.h"

struct post {
    struct list_node node; /* in todo or done */
    uint64_t id;
    char *url;
    struct buf body;
    struct curl_slist *headers;
    CURL *easy;
    long status, takes_ms_max;
    char why[CURL_ERROR_SIZE];
};

struct poster {
    struct loop_wake *wake;
    void (*on_done)(void *arg, uint64_t id, long status, const char *why);
    void *arg;
    unsigned count; /* posted and not told as done; the loop's */
    pthread_t thread;
    CURLM *multi;          /* the thread's, but for curl_multi_wakeup */
    struct list_node open; /* transfers; the thread's */
    pthread_mutex_t lock;  /* of what follows */
    struct list_node todo, done;
    bool stop;
};

static void post_free(struct post *p)
{
    list_remove(&p->node);
    curl_slist_free_all(p->headers);
    buf_fini(&p->body);
    free(p->url);
    free(p);
}

static size_t nobody_reads(char *data, size_t one, size_t size, void *arg)
{
    (void)data, (void)one, (void)arg;
    return size;
}

static void start(struct poster *w, struct post *p)
{
    CURL *easy = p->easy = curl_easy_init();
    check(easy);
    curl_easy_setopt(easy, CURLOPT_URL, p->url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, p->takes_ms_max);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, p->headers);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, p->body.data);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)p->body.size);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "rota/" ROTA_VERSION);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, nobody_reads);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, p->why);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, p);
    check(curl_multi_add_handle(w->multi, easy) == CURLM_OK);
}

/* Moves what has been posted to the transfers. True: it is time to stop. */
static bool take_todo(struct poster *w)
{
    struct list_node mine;
    list_init(&mine);
    pthread_mutex_lock(&w->lock);
    while (!list_empty(&w->todo)) {
        struct list_node *first = list_first(&w->todo);
        list_remove(first);
        list_append(&mine, first);
    }
    bool stop = w->stop;
    pthread_mutex_unlock(&w->lock);
    list_each_safe(at, &mine)
    {
        struct post *p = list_entry(at, struct post, node);
        list_remove(&p->node);
        list_append(&w->open, &p->node);
        start(w, p);
    }
    return stop;
}

static void finish(struct poster *w, CURL *easy, CURLcode code)
{
    struct post *p = NULL;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&p);
    if (code == CURLE_OK)
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &p->status);
    else if (!p->why[0])
        snprintf(p->why, sizeof p->why, "%s", curl_easy_strerror(code));
    curl_multi_remove_handle(w->multi, easy);
    curl_easy_cleanup(easy);
    list_remove(&p->node);
    pthread_mutex_lock(&w->lock);
    list_append(&w->done, &p->node);
    pthread_mutex_unlock(&w->lock);
    loop_wake(w->wake);
}

static void *run(void *arg)
{
    struct poster *w = arg;
    while (!take_todo(w)) {
        int running, left;
        CURLMsg *message;
        curl_multi_perform(w->multi, &running);
        while ((message = curl_multi_info_read(w->multi, &left)))
            if (message->msg == CURLMSG_DONE)
                finish(w, message->easy_handle, message->data.result);
        curl_multi_poll(w->multi, NULL, 0, 60000, NULL);
    }
    return NULL;
}

static void on_wake(void *arg)
{
    struct poster *w = arg;
    struct list_node mine;
    list_init(&mine);
    pthread_mutex_lock(&w->lock);
    while (!list_empty(&w->done)) {
        struct list_node *first = list_first(&w->done);
        list_remove(first);
        list_append(&mine, first);
    }
    pthread_mutex_unlock(&w->lock);
    list_each_safe(at, &mine)
    {
        struct post *p = list_entry(at, struct post, node);
        w->count--;
        w->on_done(w->arg, p->id, p->status, p->why);
        post_free(p);
    }
}

struct poster *poster_new(struct loop *loop, void (*on_done)(void *arg, uint64_t id, long status, const char *why),
                              void *arg)
{
    struct poster *w = mem_zero(1, sizeof *w);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    w->on_done = on_done;
    w->arg = arg;
    w->multi = curl_multi_init();
    check(w->multi);
    list_init(&w->open);
    list_init(&w->todo);
    list_init(&w->done);
    check(pthread_mutex_init(&w->lock, NULL) == 0);
    w->wake = loop_wake_add(loop, on_wake, w);
    check(thread_start(&w->thread, NULL, run, w) == 0);
    return w;
}

void poster_free(struct poster *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_mutex_unlock(&w->lock);
    curl_multi_wakeup(w->multi);
    pthread_join(w->thread, NULL);
    loop_wake_remove(w->wake);
    list_each_safe(at, &w->open)
    {
        struct post *p = list_entry(at, struct post, node);
        curl_multi_remove_handle(w->multi, p->easy);
        curl_easy_cleanup(p->easy);
        post_free(p);
    }
    list_each_safe(at, &w->done) post_free(list_entry(at, struct post, node));
    curl_multi_cleanup(w->multi);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

bool poster_post(struct poster *w, uint64_t id, const char *url, const char *const *headers, struct bytes body, int64_t takes_ms_max)
{
    if (w->count >= POSTS_MAX)
        return false;
    w->count++;
    struct post *p = mem_zero(1, sizeof *p);
    list_init(&p->node);
    p->id = id;
    p->url = mem_str(url);
    buf_add(&p->body, body.data, body.size);
    p->headers = curl_slist_append(NULL, "Content-Type: application/json");
    p->headers = curl_slist_append(p->headers, "Expect:");
    for (; headers && *headers; headers++)
        p->headers = curl_slist_append(p->headers, *headers);
    p->takes_ms_max = (long)takes_ms_max;
    pthread_mutex_lock(&w->lock);
    list_append(&w->todo, &p->node);
    pthread_mutex_unlock(&w->lock);
    curl_multi_wakeup(w->multi);
    return true;
}
