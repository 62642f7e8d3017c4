#include "cli/sim_pods.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "cli/term.h"
#include "io/clock.h"
#include "sim/balance.h"
#include "sim/pods.h"
#include "wire/json_out.h"

struct packing {
    const char *list, *mode;    /* the list's name without its folder */
    uint64_t seeds;
    struct progress progress;
    size_t run, runs;           /* which replay this is, of how many */
    double percent;             /* GPUs asked, under `inflate` */
};

/* Means over the seeds. */
struct packed {
    struct pods_result mean;
    double pods, failed, failed_gpu, gpu_sd;
};

/* Reads a list of words of GPUS_POLICY_WORDS, or "all"; says what is wrong and gives 0 if it can not. */
static size_t places_named(const char *text, enum gpus_policy *out, size_t most)
{
    size_t count = 0;
    if (strcmp(text, "all") == 0)
        text = "binpack,spread,dotprod,fragmentation,random,roundrobin";
    while (*text) {
        size_t size = strcspn(text, ","), i = 0;
        while (i < GPUS_POLICIES && !bytes_equal(bytes_of(text, size), bytes_str(gpus_policy_names[i])))
            i++;
        if (i == GPUS_POLICIES || count == most)
            break;
        out[count++] = (enum gpus_policy)i;
        text += size + (text[size] == ',');
    }
    if (!*text && count)
        return count;
    struct err err = { 0 };
    err_field(&err, ERR_INVALID, "--place", "write a list of " GPUS_POLICY_WORDS ", each once, or all", "\"%.40s\" is not one of them", text);
    say_error(&err);
    return 0;
}

static void on_progress(void *arg, size_t done, size_t all)
{
    struct packing *k = arg;
    if (done % 64 == 0 || done == all)
        progress_set(&k->progress, k->run * all + done, k->runs * all, 0, clock_now_ms());
}

static void one_policy(struct packing *k, const struct pods *pods, enum gpus_policy policy, enum pods_mode mode, uint64_t seed,
                       struct packed *out)
{
    double each = 1 / (double)k->seeds, squares = 0;
    *out = (struct packed){ 0 };
    for (uint64_t i = 0; i < k->seeds; i++, k->run++) {
        struct pods_result r;
        pods_replay(pods, policy, mode, k->percent / 100, seed + i, &r, on_progress, k);
        out->pods += each * (double)r.pods;
        out->failed += each * (double)r.failed;
        out->failed_gpu += each * (double)r.failed_gpu;
        out->mean.gpu_end += each * r.gpu_end;
        out->mean.cpu_end += each * r.cpu_end;
        out->mean.mem_end += each * r.mem_end;
        out->mean.gpu_at_full += each * (r.gpu_at_full < 0 ? NAN : r.gpu_at_full);
        out->mean.gpu_first_failed += each * (r.gpu_first_failed < 0 ? NAN : r.gpu_first_failed);
        squares += each * r.gpu_end * r.gpu_end;
    }
    double variance = squares - out->mean.gpu_end * out->mean.gpu_end;
    out->gpu_sd = variance > 0 ? sqrt(variance) : 0;
}

static void json_line(const struct packing *k, enum gpus_policy policy, const struct packed *p)
{
    autobuf struct buf out = BUF_INIT;
    struct json_out j = json_out_to(&out);
    json_open(&j, NULL, '{');
    json_cstr(&j, "trace", k->list);
    json_cstr(&j, "place", gpus_policy_names[policy]);
    json_cstr(&j, "mode", k->mode);
    json_u64(&j, "seeds", k->seeds);
    json_num(&j, "pods", p->pods, 3);
    json_num(&j, "failed", p->failed, 3);
    json_num(&j, "failed_gpu", p->failed_gpu, 3);
    json_num(&j, "gpu_percent", 100 * p->mean.gpu_end, 4);
    json_num(&j, "gpu_percent_sd", 100 * p->gpu_sd, 4);
    json_num(&j, "cpu_percent", 100 * p->mean.cpu_end, 4);
    json_num(&j, "mem_percent", 100 * p->mean.mem_end, 4);
    json_num(&j, "gpu_percent_at_full", 100 * p->mean.gpu_at_full, 4);
    json_num(&j, "gpu_percent_first_failed", 100 * p->mean.gpu_first_failed, 4);
    json_close(&j, '}');
    buf_char(&out, '\n');
    out_flush(&out);
}

static void percent_cell(struct table *t, double share)
{
    if (isnan(share))
        table_cell(t, "-");
    else
        table_cell(t, "%.2f", 100 * share);
}

static void row(struct table *t, const struct packing *k, enum gpus_policy policy, const struct packed *p)
{
    table_row(t);
    table_cell(t, "%s", gpus_policy_names[policy]);
    table_cell(t, "%s", k->mode);
    table_cell(t, "%.0f", p->pods);
    table_cell(t, "%.1f", p->failed);
    percent_cell(t, p->mean.gpu_end);
    percent_cell(t, p->gpu_sd);
    percent_cell(t, p->mean.cpu_end);
    percent_cell(t, p->mean.mem_end);
    percent_cell(t, p->mean.gpu_at_full);
    percent_cell(t, p->mean.gpu_first_failed);
}

static enum progress_mode progress_of(const struct args *args)
{
    const char *how = args_text(args, "progress", "auto");
    if (strcmp(how, "plain") == 0)
        return PROGRESS_PLAIN;
    return term_stderr() && strcmp(how, "none") != 0 ? PROGRESS_BAR : PROGRESS_NONE;
}

static void pack_all(struct packing *k, const struct args *args, const struct pods *pods, const enum gpus_policy *policies, size_t count)
{
    static const char *const columns[] = { "PLACE", "MODE", "PODS", "FAILED", "GPU_%", "SD", "CPU_%", "MEM_%", "GPU_%@FULL", "GPU_%@FAIL" };
    struct table *t = table_new();
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        table_column(t, columns[i], i < 2 ? 0 : TABLE_RIGHT);
    enum pods_mode mode = strcmp(k->mode, "inflate") == 0 ? PODS_INFLATE : PODS_ARRIVAL;
    bool json = args_has(args, "json");
    progress_start(&k->progress, progress_of(args), "pods", clock_now_ms());
    for (size_t i = 0; i < count; i++) {
        struct packed p;
        one_policy(k, pods, policies[i], mode, args_u64(args, "seed", 1), &p);
        if (json)
            json_line(k, policies[i], &p);
        else
            row(t, k, policies[i], &p);
    }
    if (k->progress.mode != PROGRESS_NONE)
        progress_end(&k->progress, clock_now_ms());
    if (!json)
        table_print(t);
    table_free(t);
}

int sim_pods(const struct args *args, const char *path)
{
    struct err err = { 0 };
    struct pods pods;
    enum gpus_policy policies[GPUS_POLICIES];
    size_t count = places_named(args_text(args, "place", "all"), policies, GPUS_POLICIES);
    if (!count)
        return 2;
    if (pods_read(&pods, args_text(args, "nodes", ""), path, &err) < 0)
        return say_error(&err);
    const char *slash = strrchr(path, '/');
    struct packing k = { .list = slash ? slash + 1 : path, .mode = args_text(args, "mode", "arrival"), .seeds = args_u64(args, "seeds", 1),
                         .percent = (double)args_u64(args, "asked", 130) };
    k.runs = count * k.seeds;
    if (!args_has(args, "json"))
        say("%s: %zu nodes, %zu pods of %zu different requests", k.list, pods.nodes_count, pods.pods_count, pods.needs_count);
    pack_all(&k, args, &pods, policies, count);
    pods_fini(&pods);
    return 0;
}

/* --- balance --- */

#define BALANCE_NODES 100u
#define BALANCE_JOBS 10000u

static void balance_json(enum gpus_policy policy, const struct balance_result *r)
{
    autobuf struct buf out = BUF_INIT;
    struct json_out j = json_out_to(&out);
    json_open(&j, NULL, '{');
    json_cstr(&j, "place", gpus_policy_names[policy]);
    json_u64(&j, "nodes", BALANCE_NODES);
    json_u64(&j, "jobs", r->jobs);
    json_u64(&j, "waited", r->waited);
    json_num(&j, "share_mean", r->share_mean, 6);
    json_num(&j, "share_sd", r->share_sd, 6);
    json_num(&j, "nodes_empty", r->nodes_empty, 3);
    json_close(&j, '}');
    buf_char(&out, '\n');
    out_flush(&out);
}

static void balance_row(struct table *t, enum gpus_policy policy, const struct balance_result *r)
{
    table_row(t);
    table_cell(t, "%s", gpus_policy_names[policy]);
    table_cell(t, "%.4f", r->share_sd);
    table_cell(t, "%.4f", r->share_mean);
    table_cell(t, "%.2f", r->nodes_empty);
    table_cell(t, "%" PRIu64, r->waited);
}

int sim_balance(const struct args *args)
{
    static const char *const columns[] = { "PLACE", "SHARE_SD", "SHARE_MEAN", "NODES_EMPTY", "WAITED" };
    enum gpus_policy policies[GPUS_POLICIES];
    size_t count = places_named(args_text(args, "place", "all"), policies, GPUS_POLICIES);
    if (!count)
        return 2;
    struct table *t = table_new();
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        table_column(t, columns[i], i < 1 ? 0 : TABLE_RIGHT);
    bool json = args_has(args, "json");
    for (size_t i = 0; i < count; i++) {
        struct balance_result r;
        balance_run(policies[i], BALANCE_NODES, BALANCE_JOBS, args_u64(args, "seed", 1), &r);
        if (json)
            balance_json(policies[i], &r);
        else
            balance_row(t, policies[i], &r);
    }
    if (!json)
        table_print(t);
    table_free(t);
    return 0;
}
