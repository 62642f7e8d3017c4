#include "sim/pods.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/mem.h"
#include "base/parse.h"
#include "sim/gpu_pool.h"
#include "sim/trace_file.h"

#define MIB (1024u * 1024u)
#define COLUMNS_MAX 64u
#define NUMBER_MAX 1000000000000u

/* --- CSV without quotes --- */

struct csv {
    const char *path;
    struct bytes rest;
    size_t line, count;
    struct bytes cells[COLUMNS_MAX];
    struct err *err;
};

static int bad_cell(const struct csv *c, const char *column, struct bytes text, const char *remedy)
{
    return err_field(c->err, ERR_INVALID, column, remedy, "%s:%zu: \"%.*s\" does not do for %s", c->path, c->line,
                     (int)(text.size < 40 ? text.size : 40), text.data, column);
}

/* False at the end. Empty lines are skipped. */
static bool csv_line(struct csv *c)
{
    while (c->rest.size) {
        const char *newline = memchr(c->rest.data, '\n', c->rest.size);
        size_t size = newline ? (size_t)(newline - c->rest.data) : c->rest.size, skip = newline ? size + 1 : size;
        struct bytes line = bytes_of(c->rest.data, size);
        c->rest = bytes_of(c->rest.data + skip, c->rest.size - skip);
        c->line++;
        if (line.size && line.data[line.size - 1] == '\r')
            line.size--;
        if (!line.size)
            continue;
        c->count = 0;
        for (size_t at = 0; at <= line.size && c->count < COLUMNS_MAX;) {
            const char *comma = memchr(line.data + at, ',', line.size - at);
            size_t end = comma ? (size_t)(comma - line.data) : line.size;
            c->cells[c->count++] = bytes_of(line.data + at, end - at);
            at = end + 1;
        }
        return true;
    }
    return false;
}

/* The places of the columns that `names` says; COLUMNS_MAX: it is not there. The first `needed` have to be. */
static int csv_header(struct csv *c, const char *const *names, size_t count, size_t needed, size_t *places)
{
    if (!csv_line(c))
        return err_field(c->err, ERR_INVALID, "trace", "the first line names the columns", "%s: it is empty", c->path);
    for (size_t i = 0; i < count; i++) {
        places[i] = COLUMNS_MAX;
        for (size_t k = 0; k < c->count; k++)
            if (bytes_equal(c->cells[k], bytes_str(names[i])))
                places[i] = k;
        if (i < needed && places[i] == COLUMNS_MAX)
            return err_field(c->err, ERR_INVALID, names[i], "the first line names the columns, as in the openb traces",
                             "%s: there is no column %s", c->path, names[i]);
    }
    return 0;
}

static struct bytes cell(const struct csv *c, size_t place)
{
    return place < c->count ? c->cells[place] : bytes_of("", 0);
}

static int number(const struct csv *c, const char *column, size_t place, uint64_t most, uint64_t *out)
{
    struct bytes text = cell(c, place);
    *out = 0;
    bool good = text.size > 0 && text.size < 15;
    for (size_t i = 0; good && i < text.size; i++) {
        good = text.data[i] >= '0' && text.data[i] <= '9';
        *out = *out * 10 + (uint64_t)(text.data[i] - '0');
    }
    return good && *out <= most ? 0 : bad_cell(c, column, text, "write a whole number within the bounds");
}

/* --- models --- */

static int model_bit(struct pods *p, const struct csv *c, struct bytes name, uint64_t *bit)
{
    size_t i = 0;
    while (i < p->models_count && !bytes_equal(name, bytes_str(p->models[i])))
        i++;
    if (i == sizeof p->models / sizeof *p->models)
        return bad_cell(c, "model", name, "at most 64 models of GPUs are told apart");
    if (i == p->models_count) {
        p->models[i] = mem_zero(name.size + 1, 1);
        memcpy(p->models[i], name.data, name.size);
        p->models_count++;
    }
    *bit |= UINT64_C(1) << i;
    return 0;
}

static int models_of(struct pods *p, const struct csv *c, struct bytes list, uint64_t *bits)
{
    for (size_t at = 0; at < list.size;) {
        const char *bar = memchr(list.data + at, '|', list.size - at);
        size_t end = bar ? (size_t)(bar - list.data) : list.size;
        if (end > at && model_bit(p, c, bytes_of(list.data + at, end - at), bits) < 0)
            return -(int)ERR_INVALID;
        at = end + 1;
    }
    return 0;
}

/* --- both lists --- */

static int node_line(struct pods *p, const struct csv *c, const char *const *names, const size_t *places)
{
    uint64_t cpu, mem, gpus, model = 0;
    if (number(c, names[0], places[0], NUMBER_MAX, &cpu) < 0 || number(c, names[1], places[1], NUMBER_MAX, &mem) < 0 ||
        number(c, names[2], places[2], GPUS_ON_NODE_MAX, &gpus) < 0 || models_of(p, c, cell(c, places[3]), &model) < 0)
        return -(int)ERR_INVALID;
    struct gpus_node n = { .number = (uint32_t)p->nodes_count, .count = (uint32_t)gpus, .model = model };
    n.capacity.v[RES_CPU] = cpu;
    n.capacity.v[RES_MEM] = mem * MIB;
    n.capacity.v[RES_GPU] = gpus * GPU_WHOLE;
    n.free = n.capacity;
    for (uint32_t d = 0; d < n.count; d++)
        n.free_milli[d] = GPU_WHOLE;
    p->nodes = mem_grow(p->nodes, &p->nodes_cap, p->nodes_count + 1, sizeof *p->nodes);
    p->nodes[p->nodes_count++] = n;
    return 0;
}

static bool same(const struct gpus_need *a, const struct gpus_need *b)
{
    return resources_equal(&a->total, &b->total) && a->count == b->count && a->milli == b->milli && a->models == b->models;
}

static uint32_t need_number(struct pods *p, const struct gpus_need *need)
{
    for (size_t i = 0; i < p->needs_count; i++)
        if (same(&p->needs[i], need))
            return (uint32_t)i;
    p->needs = mem_grow(p->needs, &p->needs_cap, p->needs_count + 1, sizeof *p->needs);
    p->needs[p->needs_count] = *need;
    return (uint32_t)p->needs_count++;
}

static int pod_line(struct pods *p, const struct csv *c, const char *const *names, const size_t *places)
{
    uint64_t cpu, mem, count, milli, at = 0;
    struct gpus_need need = { 0 };
    if (number(c, names[1], places[1], NUMBER_MAX, &cpu) < 0 || number(c, names[2], places[2], NUMBER_MAX, &mem) < 0 ||
        number(c, names[3], places[3], GPUS_ON_NODE_MAX, &count) < 0 || number(c, names[4], places[4], NUMBER_MAX, &milli) < 0 ||
        models_of(p, c, cell(c, places[5]), &need.models) < 0)
        return -(int)ERR_INVALID;
    if (cell(c, places[6]).size && number(c, names[6], places[6], NUMBER_MAX, &at) < 0)
        return -(int)ERR_INVALID;
    need.count = (uint32_t)count;
    need.milli = count == 0 ? 0 : count > 1 || milli == 0 || milli > GPU_WHOLE ? GPU_WHOLE : (uint32_t)milli;
    need.total.v[RES_CPU] = cpu;
    need.total.v[RES_MEM] = mem * MIB;
    need.total.v[RES_GPU] = (uint64_t)need.count * need.milli;
    struct bytes name = cell(c, places[0]);
    struct pod pod = { (int64_t)at, need_number(p, &need), mem_zero(name.size + 1, 1) };
    memcpy(pod.name, name.data, name.size);
    p->pods = mem_grow(p->pods, &p->pods_cap, p->pods_count + 1, sizeof *p->pods);
    p->pods[p->pods_count++] = pod;
    return 0;
}

static const char *const node_columns[] = { "cpu_milli", "memory_mib", "gpu", "model" };
static const char *const pod_columns[] = { "name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "gpu_spec", "creation_time" };

static int read_list(struct pods *p, const char *path, const char *const *columns, size_t count, size_t needed,
                     int (*line)(struct pods *, const struct csv *, const char *const *, const size_t *), struct err *err)
{
    autobuf struct buf text = BUF_INIT;
    size_t places[COLUMNS_MAX];
    if (trace_file_read(&text, path, err) < 0)
        return -(int)err->code;
    struct csv c = { .path = path, .rest = buf_bytes(&text), .err = err };
    if (csv_header(&c, columns, count, needed, places) < 0)
        return -(int)err->code;
    while (csv_line(&c))
        if (line(p, &c, columns, places) < 0)
            return -(int)err->code;
    return 0;
}

static int by_arrival(const void *a, const void *b)
{
    const struct pod *x = a, *y = b;
    if (x->at_s != y->at_s)
        return x->at_s < y->at_s ? -1 : 1;
    return strcmp(x->name, y->name);
}

int pods_read(struct pods *out, const char *nodes_path, const char *pods_path, struct err *err)
{
    *out = (struct pods){ 0 };
    int rc = read_list(out, nodes_path, node_columns, 4, 3, node_line, err);
    if (rc == 0)
        rc = read_list(out, pods_path, pod_columns, 7, 5, pod_line, err);
    if (rc == 0 && (!out->nodes_count || !out->pods_count))
        rc = err_field(err, ERR_INVALID, "trace", "give a list with lines below its first", "%s: nothing is listed",
                       out->nodes_count ? pods_path : nodes_path);
    if (rc < 0) {
        pods_fini(out);
        return rc;
    }
    bool timed = false;
    for (size_t i = 0; i < out->pods_count; i++)
        timed |= out->pods[i].at_s != 0;
    if (timed)
        qsort(out->pods, out->pods_count, sizeof *out->pods, by_arrival);
    return 0;
}

void pods_fini(struct pods *p)
{
    for (size_t i = 0; i < p->pods_count; i++)
        free(p->pods[i].name);
    for (size_t i = 0; i < p->models_count; i++)
        free(p->models[i]);
    free(p->pods);
    free(p->needs);
    free(p->nodes);
    *p = (struct pods){ 0 };
}

/* --- which pods, in which order --- */

static uint64_t gpu_asked(const struct pods *p, uint32_t need)
{
    return p->needs[need].total.v[RES_GPU];
}

static void total_capacity(const struct pods *p, struct resources *out)
{
    *out = (struct resources){ 0 };
    for (size_t i = 0; i < p->nodes_count; i++)
        resources_add(out, &p->nodes[i].capacity);
}

/* The needs, one after the other; yours to free. */
static uint32_t *sequence(const struct pods *p, enum pods_mode mode, double limit, struct prng *prng, size_t *count)
{
    size_t n = p->pods_count, cap = n;
    uint32_t *s = mem_alloc(cap * sizeof *s);
    double total = 0;
    bool any_gpu = false;
    for (size_t i = 0; i < n; i++) {
        s[i] = p->pods[i].need;
        total += (double)gpu_asked(p, s[i]);
        any_gpu |= gpu_asked(p, s[i]) > 0;
    }
    *count = n;
    if (mode == PODS_ARRIVAL || !any_gpu)
        return s;
    for (size_t i = n; i > 1; i--) {
        size_t k = prng_below(prng, i);
        uint32_t keep = s[i - 1];
        s[i - 1] = s[k];
        s[k] = keep;
    }
    while (n > 0 && total > limit) {
        size_t k = prng_below(prng, n);
        total -= (double)gpu_asked(p, s[k]);
        memmove(s + k, s + k + 1, (--n - k) * sizeof *s);
    }
    for (;;) {
        uint32_t drawn = p->pods[prng_below(prng, p->pods_count)].need;
        if (total + (double)p->needs[drawn].milli > limit) /* one GPU of it, as the published protocol has it */
            break;
        s = mem_grow(s, &cap, n + 1, sizeof *s);
        s[n++] = drawn;
        total += (double)gpu_asked(p, drawn);
    }
    *count = n;
    return s;
}

/* --- the replay --- */

static double part(uint64_t used, uint64_t capacity)
{
    return capacity ? (double)used / (double)capacity : 0;
}

void pods_replay(const struct pods *p, enum gpus_policy policy, enum pods_mode mode, double ratio, uint64_t seed, struct pods_result *out,
                 void (*progress)(void *arg, size_t done, size_t all), void *arg)
{
    struct resources capacity, used = { 0 };
    struct prng prng;
    prng_seed(&prng, seed);
    total_capacity(p, &capacity);
    size_t count;
    uint64_t gpus = capacity.v[RES_GPU], asked = 0;
    autofree uint32_t *needs = sequence(p, mode, ratio * (double)gpus, &prng, &count);
    struct gpu_pool pool;
    pool_init(&pool, policy, prng_u64(&prng), p->nodes, (uint32_t)p->nodes_count, p->needs, (uint32_t)p->needs_count);
    *out = (struct pods_result){ .pods = count, .gpu_at_full = -1, .gpu_first_failed = -1 };
    for (size_t i = 0; i < count; i++) {
        uint32_t taken;
        asked += gpu_asked(p, needs[i]);
        pool_asked(&pool, needs[i]);
        if (pool_place(&pool, needs[i], &taken) != POOL_NONE) {
            resources_add(&used, &p->needs[needs[i]].total);
        } else {
            out->failed++;
            out->failed_gpu += gpu_asked(p, needs[i]) > 0;
            if (out->gpu_first_failed < 0)
                out->gpu_first_failed = part(used.v[RES_GPU], gpus);
        }
        if (out->gpu_at_full < 0 && asked >= gpus)
            out->gpu_at_full = part(used.v[RES_GPU], gpus);
        if (progress)
            progress(arg, i + 1, count);
    }
    check(resources_fit(&used, &capacity));
    out->gpu_end = part(used.v[RES_GPU], gpus);
    out->cpu_end = part(used.v[RES_CPU], capacity.v[RES_CPU]);
    out->mem_end = part(used.v[RES_MEM], capacity.v[RES_MEM]);
    pool_fini(&pool);
}
