#include "cli/sim_trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/mem.h"
#include "base/parse.h"
#include "cli/sim_outcome.h"
#include "cli/term.h"
#include "io/clock.h"
#include "sim/journal_log.h"
#include "sim/trace_sim.h"

struct replay {
    const struct args *args;
    const char *trace;          /* name without its folder */
    struct swf_job *jobs;
    size_t count;
    int64_t procs;
    struct progress progress;
    size_t runs, run;           /* how many replays, and which this is */
};

/* --- which policies --- */

static bool one_word(const char **at, struct bytes *word)
{
    if (!**at)
        return false;
    size_t size = strcspn(*at, ",");
    *word = bytes_of(*at, size);
    *at += size + ((*at)[size] == ',');
    return true;
}

static int order_named(struct bytes word)
{
    if (bytes_equal(word, bytes_str("fcfs")))
        return ORDER_FIFO;
    return parse_choice(word, ORDER_WORDS);
}

static int backfill_named(struct bytes word)
{
    return parse_choice(word, BACKFILL_WORDS);
}

/* Reads a list of words, each by `named`; what is negative there is no word. */
static int words(const char *option, const char *text, int (*named)(struct bytes), const char *remedy, int *out,
                 size_t *count, struct err *err)
{
    struct bytes word;
    for (const char *at = text; one_word(&at, &word);) {
        int value = named(word);
        if (value < 0)
            return err_field(err, ERR_INVALID, option, remedy, "\"%.*s\" is not one of them", (int)(word.size < 40 ? word.size : 40),
                             word.data);
        if (*count == OUTCOMES_MAX)
            return err_field(err, ERR_INVALID, option, "name each once", "too many words");
        out[(*count)++] = value;
    }
    return *count ? 0 : err_field(err, ERR_INVALID, option, remedy, "the list is empty");
}

static int choose_policies(const struct args *args, struct outcome *out, size_t *count, struct err *err)
{
    const char *option = args_has(args, "compare") ? "compare" : "policy", *dashed = args_has(args, "compare") ? "--compare" : "--policy";
    if (args_has(args, "compare") && args_has(args, "policy"))
        return err_field(err, ERR_INVALID, "--compare", "leave --policy out", "it names the policies itself");
    int order[OUTCOMES_MAX], backfill[OUTCOMES_MAX], by[1] = { ORDERS };
    size_t orders_count = 0, backfills_count = 0, by_count = 0;
    const char *text = args_text(args, option, "all"), *modes = args_text(args, "backfill", "both"),
               *candidates = args_text(args, "backfill-order", "policy");
    if (words(dashed, strcmp(text, "all") == 0 ? "fifo,sjf,f1,wfp3,unicep" : text, order_named,
              "write a list of " ORDER_WORDS ", or all", order, &orders_count, err) < 0 ||
        words("--backfill", strcmp(modes, "both") == 0 ? "none,easy" : modes, backfill_named,
              "write a list of " BACKFILL_WORDS ", or both", backfill, &backfills_count, err) < 0)
        return -(int)err->code;
    if (strcmp(candidates, "policy") != 0 && words("--backfill-order", candidates, order_named,
                                                   "write policy or one of " ORDER_WORDS, by, &by_count, err) < 0)
        return -(int)err->code;
    for (size_t k = 0; k < backfills_count && by_count; k++)
        if (backfill[k] == BACKFILL_CONSERVATIVE)
            return err_field(err, ERR_INVALID, "--backfill-order", "leave it out, or take greedy or easy",
                             "conservative backfill gives places in the order of --policy");
    *count = 0;
    for (size_t i = 0; i < orders_count; i++)
        for (size_t k = 0; k < backfills_count && *count < OUTCOMES_MAX; k++)
            out[(*count)++].policy = (struct trace_policy){ (enum order_kind)order[i], (enum sched_backfill)backfill[k],
                                                            (enum order_kind)by[0], args_has(args, "predict"), args_has(args, "one-by-one") };
    return 0;
}

/* --- what came of it --- */

static void dropped(struct buf *out, uint64_t count, const char *why)
{
    if (count)
        buf_printf(out, ", %" PRIu64 " %s", count, why);
}

static void tell_counts(const struct replay *r, const struct swf_counts *n)
{
    autobuf struct buf out = BUF_INIT;
    buf_printf(&out, "%s: %" PRId64 " processors, %" PRIu64 " jobs read", r->trace, r->procs, n->read);
    dropped(&out, n->no_run, "without a run time left out");
    dropped(&out, n->no_procs, "without processors left out");
    dropped(&out, n->too_wide, "wider than the machine left out");
    dropped(&out, n->no_submit, "without a submission time left out");
    dropped(&out, n->no_estimate_dropped, "without an estimate left out");
    dropped(&out, n->no_estimate, "without an estimate (their run time is taken)");
    dropped(&out, n->overrun, "longer than their estimate");
    buf_printf(&out, "; replaying %zu", r->count);
    say("%s", out.data);
}

static int dump(const struct replay *r, const char *path)
{
    FILE *f = fopen(path, "we");
    struct err err;
    if (!f)
        return say_error((err_errno(&err, "%s", path), &err));
    fprintf(f, "index,id,submit,start,run,est,procs\n");
    for (size_t i = 0; i < r->count; i++) {
        const struct swf_job *j = &r->jobs[i];
        fprintf(f, "%zu,%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 "\n", i, j->id, j->submit_s, j->start_s,
                j->run_s, j->estimate_s, j->procs);
    }
    if (ferror(f) | fclose(f))
        return say_error((err_errno(&err, "%s", path), &err));
    return 0;
}

static void on_progress(void *arg, size_t ended)
{
    struct replay *r = arg;
    if (ended % 256 == 0 || ended == r->count)
        progress_set(&r->progress, r->run * r->count + ended, r->runs * r->count, 0, clock_now_ms());
}

/* Replays take seconds to minutes: on a terminal one sees how far they are. */
static enum progress_mode mode_of(const struct args *args)
{
    const char *how = args_text(args, "progress", "auto");
    if (strcmp(how, "plain") == 0)
        return PROGRESS_PLAIN;
    return term_stderr() && strcmp(how, "none") != 0 ? PROGRESS_BAR : PROGRESS_NONE;
}

static double cpu_now_s(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

static void replay_one(struct replay *r, struct outcome *o)
{
    double begin_s = cpu_now_s();
    trace_sim_run(r->jobs, r->count, r->procs, &o->policy, &o->stats, on_progress, r);
    o->cpu_s = cpu_now_s() - begin_s;
    trace_metrics(r->jobs, r->count, r->procs, &o->metrics);
    if (args_has(r->args, "report")) {
        o->start_s = mem_alloc(r->count * sizeof *o->start_s);
        for (size_t i = 0; i < r->count; i++)
            o->start_s[i] = (double)r->jobs[i].start_s;
    }
    r->run++;
}

static int report(const struct replay *r, struct outcome *outcomes, size_t count, const char *path)
{
    autofree struct report_job *jobs = mem_alloc(r->count * sizeof *jobs);
    for (size_t i = 0; i < r->count; i++) {
        const struct swf_job *j = &r->jobs[i];
        jobs[i] = (struct report_job){ (double)j->submit_s, (double)j->run_s, (double)j->procs / (double)r->procs };
    }
    struct err err;
    return outcomes_report(outcomes, count, r->trace, jobs, r->count, path, &err) < 0 ? say_error(&err) : 0;
}

/* One after another; a line of JSON as soon as there is one, unless it has to tell which is best. */
static int replay_all(struct replay *r, struct outcome *outcomes, size_t count)
{
    bool json = args_has(r->args, "json"), compare = args_has(r->args, "compare");
    progress_start(&r->progress, mode_of(r->args), "jobs", clock_now_ms());
    r->runs = count;
    for (size_t i = 0; i < count; i++) {
        replay_one(r, &outcomes[i]);
        if (json && !compare)
            outcome_json(&outcomes[i], r->trace, r->procs, NULL);
    }
    if (r->progress.mode != PROGRESS_NONE)
        progress_end(&r->progress, clock_now_ms());
    if (compare)
        outcomes_best(outcomes, count);
    for (size_t i = 0; i < count && json && compare; i++)
        outcome_json(&outcomes[i], r->trace, r->procs, outcomes[i].best);
    if (!json)
        (compare ? outcomes_compared : outcomes_table)(outcomes, count);
    const char *page = args_text(r->args, "report", NULL), *starts = args_text(r->args, "dump", NULL);
    int code = page ? report(r, outcomes, count, page) : 0;
    return !code && starts ? dump(r, starts) : code;
}

/* Told before the replays, which may take long. What the file holds stays. */
static int can_write(const char *path, struct err *err)
{
    if (!path)
        return 0;
    FILE *f = fopen(path, "ae");
    if (!f)
        return err_errno(err, "%s", path);
    fclose(f);
    return 0;
}

int sim_trace(const struct args *args, const char *path)
{
    struct err err = { 0 };
    struct outcome outcomes[OUTCOMES_MAX] = { 0 };
    size_t count = 0;
    if (choose_policies(args, outcomes, &count, &err) < 0)
        return say_error(&err);
    if (args_has(args, "dump") && count > 1) {
        err_field(&err, ERR_INVALID, "--dump", "give one --policy and one --backfill", "it shows the starts of one replay");
        return say_error(&err);
    }
    if (can_write(args_text(args, "report", NULL), &err) < 0 || can_write(args_text(args, "dump", NULL), &err) < 0)
        return say_error(&err);
    struct swf_choice choice = { .procs = (int64_t)args_u64(args, "procs", 0),
                                 .filter = strcmp(args_text(args, "filter", "standard"), "sc15") == 0 ? SWF_SC15 : SWF_STANDARD,
                                 .kill = strcmp(args_text(args, "overrun", "keep"), "kill") == 0,
                                 .first = args_u64(args, "start", 0),
                                 .count = args_u64(args, "jobs", 0),
                                 .rebase = args_has(args, "rebase") };
    const char *slash = strrchr(path, '/');
    struct replay r = { .args = args, .trace = slash ? slash + 1 : path };
    struct swf log;
    struct swf_counts counts;
    struct stat found;
    bool journal = stat(path, &found) == 0 && S_ISDIR(found.st_mode);
    choice.rebase |= journal; /* It counts from 1970. */
    if ((journal ? journal_log_read(&log, path, &err) : swf_read(&log, path, &err)) < 0)
        return say_error(&err);
    int rc = swf_choose(&log, &choice, &r.jobs, &r.count, &r.procs, &counts, &err);
    swf_fini(&log);
    if (rc < 0)
        return say_error(&err);
    if (!args_has(args, "json"))
        tell_counts(&r, &counts);
    int code = replay_all(&r, outcomes, count);
    for (size_t i = 0; i < count; i++)
        free(outcomes[i].start_s);
    free(r.jobs);
    return code;
}
