#include "master/sizing.h"

#include <stdlib.h>

#include "base/list.h"
#include "base/mem.h"

#define BUCKETS 4096u
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define BYTES_MOST (UINT64_C(1) << 53) /* of one run: more can not be asked for */

struct peak {
    uint64_t mem_bytes;
    uint32_t cpu_milli; /* mean */
    bool oom, cpu_known;
};

/* What is known of one user's jobs of one name. */
struct history {
    struct list_node bucket, age;
    uint64_t hash;
    struct bytes user, name; /* one piece of memory, owned: user.data */
    struct peak runs[SIZING_RUNS]; /* a ring */
    uint32_t count, next;
};

struct sizing {
    struct list_node buckets[BUCKETS];
    struct list_node ages; /* of struct history, the one that was added to last at the end */
    size_t count;
};

struct sizing *sizing_new(void)
{
    struct sizing *z = mem_zero(1, sizeof *z);
    for (size_t i = 0; i < BUCKETS; i++)
        list_init(&z->buckets[i]);
    list_init(&z->ages);
    return z;
}

static void forget(struct sizing *z, struct history *h)
{
    list_remove(&h->bucket);
    list_remove(&h->age);
    z->count--;
    free((char *)h->user.data);
    free(h);
}

void sizing_free(struct sizing *z)
{
    if (!z)
        return;
    list_each_safe(node, &z->ages)
        forget(z, list_entry(node, struct history, age));
    free(z);
}

/* FNV-1a. There are at most SIZING_NAMES_MAX: names that were made to collide cost a walk of that many. */
static uint64_t hash_of(struct bytes user, struct bytes name)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < user.size; i++)
        hash = (hash ^ (uint8_t)user.data[i]) * 0x100000001b3u;
    hash = (hash ^ 0xff) * 0x100000001b3u;
    for (size_t i = 0; i < name.size; i++)
        hash = (hash ^ (uint8_t)name.data[i]) * 0x100000001b3u;
    return hash;
}

static struct history *find(const struct sizing *z, uint64_t hash, struct bytes user, struct bytes name)
{
    const struct list_node *bucket = &z->buckets[hash % BUCKETS];
    list_each(node, bucket)
    {
        struct history *h = list_entry(node, struct history, bucket);
        if (h->hash == hash && bytes_equal(h->user, user) && bytes_equal(h->name, name))
            return h;
    }
    return NULL;
}

static struct history *begin(struct sizing *z, uint64_t hash, struct bytes user, struct bytes name)
{
    if (z->count == SIZING_NAMES_MAX)
        forget(z, list_entry(z->ages.next, struct history, age));
    struct history *h = mem_zero(1, sizeof *h);
    char *text = mem_alloc(user.size + name.size + 1);
    memcpy(text, user.data, user.size);
    memcpy(text + user.size, name.data, name.size);
    h->hash = hash;
    h->user = bytes_of(text, user.size);
    h->name = bytes_of(text + user.size, name.size);
    list_append(&z->buckets[hash % BUCKETS], &h->bucket);
    list_init(&h->age);
    z->count++;
    return h;
}

static struct peak peak_of(const struct sizing_run *run)
{
    struct peak p = { .mem_bytes = run->mem_max_bytes, .oom = run->oom };
    if (run->oom && p.mem_bytes < run->mem_asked_bytes)
        p.mem_bytes = run->mem_asked_bytes;
    if (p.mem_bytes > BYTES_MOST)
        p.mem_bytes = BYTES_MOST;
    if (!run->oom && run->run_ms >= SIZING_CPU_RUN_MS) {
        uint64_t milli = run->cpu_ms < UINT64_MAX / 1000 ? run->cpu_ms * 1000 / (uint64_t)run->run_ms : UINT32_MAX;
        p.cpu_known = true;
        p.cpu_milli = milli < UINT32_MAX ? (uint32_t)milli : UINT32_MAX;
    }
    return p;
}

void sizing_add(struct sizing *z, struct bytes user, struct bytes name, const struct sizing_run *run)
{
    if (!run->mem_max_bytes || !name.size)
        return;
    uint64_t hash = hash_of(user, name);
    struct history *h = find(z, hash, user, name);
    if (!h)
        h = begin(z, hash, user, name);
    h->runs[h->next] = peak_of(run);
    h->next = (h->next + 1) % SIZING_RUNS;
    if (h->count < SIZING_RUNS)
        h->count++;
    list_remove(&h->age);
    list_append(&z->ages, &h->age);
}

static uint64_t up_to(uint64_t value, uint64_t step)
{
    return (value + step - 1) / step * step;
}

static uint64_t neat_bytes(uint64_t bytes)
{
    return up_to(bytes, bytes < 256 * MIB ? 16 * MIB : bytes < GIB ? 64 * MIB : bytes < 8 * GIB ? 512 * MIB : GIB);
}

static uint64_t neat_milli(uint64_t milli)
{
    milli = milli * 95 / 100;
    return milli ? up_to(milli, milli <= 1000 ? 100 : milli <= 4000 ? 500 : 1000) : 100;
}

bool sizing_find(const struct sizing *z, struct bytes user, struct bytes name, struct sizing_advice *out)
{
    *out = (struct sizing_advice){ 0 };
    const struct history *h = find(z, hash_of(user, name), user, name);
    uint64_t wanted = 0;
    uint32_t cpu_runs = 0;
    for (uint32_t i = 0; h && i < h->count; i++) {
        const struct peak *p = &h->runs[i];
        uint64_t wants = p->oom ? p->mem_bytes + p->mem_bytes / 2 : p->mem_bytes + p->mem_bytes * 15 / 100;
        wanted = wants > wanted ? wants : wanted;
        out->ooms += p->oom;
        cpu_runs += p->cpu_known;
        if (p->mem_bytes > out->mem_max_bytes)
            out->mem_max_bytes = p->mem_bytes;
        if (p->cpu_known && p->cpu_milli > out->cpu_max_milli)
            out->cpu_max_milli = p->cpu_milli;
    }
    out->runs = h ? h->count : 0;
    if (out->runs < SIZING_RUNS_MIN)
        return false;
    out->mem_bytes = neat_bytes(wanted);
    out->cpu_milli = cpu_runs >= SIZING_RUNS_MIN ? neat_milli(out->cpu_max_milli) : 0;
    return true;
}
