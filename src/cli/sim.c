/* rota sim: workload logs and faults, simulated with the scheduler that runs live. */
#include <inttypes.h>
#include <stdio.h>

#include "cli/args.h"
#include "cli/commands.h"
#include "cli/sim_again.h"
#include "cli/sim_pods.h"
#include "cli/sim_trace.h"
#include "cli/term.h"
#include "sim/fault_sim.h"
#include "sim/pods.h"
#include "sim/trace_sim.h"

static int run_faults(const struct args *args)
{
    uint64_t first = args_u64(args, "seed", 1), count = args_u64(args, "seeds", 1);
    struct fault_sim_stats sum = { 0 };
    for (uint64_t seed = first; seed < first + count; seed++) {
        struct fault_sim_options options = { .seed = seed, .trace = args_has(args, "trace"), .quiet = count > 1 };
        struct fault_sim_stats stats;
        autobuf struct buf out = BUF_INIT;
        int rc = fault_sim_run(&options, &stats, &out);
        if (out.size)
            out_flush(&out);
        if (rc)
            return 1;
        sum.events += stats.events;
        sum.virtual_ms += stats.virtual_ms;
    }
    if (count > 1) {
        autobuf struct buf out = BUF_INIT;
        buf_printf(&out, "%" PRIu64 " seeds held: %" PRIu64 " events in %" PRId64 " virtual hours\n", count, sum.events,
                   sum.virtual_ms / 3600000);
        out_flush(&out);
    }
    return 0;
}

static int run_sim(const struct args *args)
{
    if (args_has(args, "faults") + args_has(args, "balance") + (args->operands_count > 0) != 1) {
        say("sim: name a workload log to replay, or write `rota sim --faults --seed 1` or `rota sim --balance`");
        return 2;
    }
    if (!args->operands_count)
        return args_has(args, "balance") ? sim_balance(args) : run_faults(args);
    if (args_has(args, "again"))
        return sim_again(args, args->operands[0]);
    return args_has(args, "nodes") ? sim_pods(args, args->operands[0]) : sim_trace(args, args->operands[0]);
}

static const struct option_row options[] = {
    { .name = "policy", .kind = OPTION_TEXT, .argument = "LIST", .fallback = "all", .group = "Replay", .help = "which job goes first: a list of " ORDER_WORDS "; all is fifo,sjf,f1,wfp3,unicep" },
    { .name = "backfill", .kind = OPTION_TEXT, .argument = "LIST", .fallback = "both", .group = "Replay", .help = "what may pass the first that does not fit: a list of " BACKFILL_WORDS "; both is none,easy" },
    { .name = "backfill-order", .kind = OPTION_TEXT, .argument = "ORDER", .fallback = "policy", .group = "Replay", .help = "in which order those that may pass are tried" },
    { .name = "predict", .kind = OPTION_FLAG, .group = "Replay", .help = "places are kept by what a user's last two jobs took instead of by the estimate, where that is longer" },
    { .name = "compare", .kind = OPTION_TEXT, .argument = "LIST", .group = "Replay", .help = "as --policy, and shows the outcomes side by side: the best of each column has a star, with --json its name is in \"best\"" },
    { .name = "procs", .kind = OPTION_COUNT, .argument = "N", .min = 1, .max = 1000000000, .group = "Replay", .help = "processors of the machine; by default as the log's header says" },
    { .name = "start", .kind = OPTION_COUNT, .argument = "N", .fallback = "0", .min = 0, .max = 1000000000, .group = "Replay", .help = "first job of the window, counted from 0 after cleaning" },
    { .name = "jobs", .kind = OPTION_COUNT, .argument = "N", .min = 1, .max = 1000000000, .group = "Replay", .help = "how many jobs; by default all to the end" },
    { .name = "overrun", .kind = OPTION_CHOICE, .choices = "keep|kill", .argument = "WHAT", .fallback = "keep", .group = "Replay", .help = "jobs longer than their estimate run on, or are cut" },
    { .name = "filter", .kind = OPTION_CHOICE, .choices = "standard|sc15", .argument = "WHICH", .fallback = "standard", .group = "Replay", .help = "which jobs are left out; sc15 as in the experiments of that paper" },
    { .name = "rebase", .kind = OPTION_FLAG, .group = "Replay", .help = "the first job of the window is submitted at 0" },
    { .name = "one-by-one", .kind = OPTION_FLAG, .group = "Replay", .help = "a scheduling cycle after each event of an instant, as the pyss simulator does" },
    { .name = "dump", .kind = OPTION_FILE, .argument = "FILE", .group = "Replay", .help = "write every start: index,id,submit,start,run,est,procs" },
    { .name = "report", .kind = OPTION_FILE, .argument = "FILE", .group = "Replay", .help = "write a page (HTML, complete in itself): the outcomes, the queue and the utilisation over time, and how long jobs waited" },
    { .name = "again", .kind = OPTION_FLAG, .group = "Replay", .help = "TRACE is a master's state directory: each start in its journal is decided again, by the --policy, --backfill and --place that the master used, and compared" },
    { .name = "json", .kind = OPTION_FLAG, .group = "Replay", .help = "one JSON object per replay and line" },
    { .name = "progress", .kind = OPTION_CHOICE, .argument = "HOW", .choices = "auto|plain|none", .fallback = "auto", .group = "Replay", .help = "a line on standard error that shows how far it is; by default on a terminal" },
    { .name = "nodes", .kind = OPTION_FILE, .argument = "FILE", .group = "Placement", .help = "TRACE is a list of pods (CSV, as in the openb traces); place them on the nodes of this list" },
    { .name = "place", .kind = OPTION_TEXT, .argument = "LIST", .fallback = "all", .group = "Placement", .help = "on which node: a list of " GPUS_POLICY_WORDS },
    { .name = "mode", .kind = OPTION_CHOICE, .choices = "arrival|inflate", .argument = "WHICH", .fallback = "arrival", .group = "Placement", .help = "the list as it arrived, or shuffled and drawn from until --asked is reached" },
    { .name = "asked", .kind = OPTION_COUNT, .argument = "PERCENT", .fallback = "130", .min = 1, .max = 1000, .group = "Placement", .help = "with inflate: how much of all GPUs is asked for" },
    { .name = "balance", .kind = OPTION_FLAG, .group = "Placement", .help = "how evenly each policy of --place loads 100 nodes of three sizes with 10,000 mixed jobs, made from --seed" },
    { .name = "faults", .group = "Faults", .kind = OPTION_FLAG, .help = "master, workers, bus and store on a virtual clock, with faults drawn from the seed" },
    { .name = "seed", .group = "Faults", .kind = OPTION_COUNT, .argument = "N", .fallback = "1", .min = 0, .max = INT64_MAX / 2, .help = "the run, also with --nodes and --balance; the same seed is the same run, byte for byte" },
    { .name = "seeds", .group = "Faults", .kind = OPTION_COUNT, .argument = "N", .fallback = "1", .min = 1, .max = 100000000, .help = "how many seeds, from --seed on: with --nodes their mean; faults stop at the first that fails" },
    { .name = "trace", .group = "Faults", .kind = OPTION_FLAG, .help = "tell every event" },
    { 0 },
};

const struct command command_sim = {
    .name = "sim", .group = "This program", .operands = "[TRACE]", .operands_max = 1, .flags = COMMAND_FILES,
    .summary = "replay a workload log, or simulate a cluster with faults, through the scheduler that runs live",
    .text = "TRACE is a log in the Standard Workload Format, plain or gzip. The machine is one pool of processors; a job starts and ends at "
            "whole seconds; ends come before submissions, then one scheduling cycle runs. Prints average and greatest wait, bounded "
            "slowdown (10 s), utilisation and makespan; docs/policies.md has the formulas.\n\n"
            "TRACE may be the state directory of a master, or a backup: then it is what ran there, as far as CPUs go, on all its nodes together. With "
            "--again nothing is left out: a second scheduler is given the journal, and has to start what the first one started. What a journal does not tell "
            "(that a worker was still on its way back to a new master, cycles that started nothing) makes a few differ now and then, and under conservative most.\n\n"
            "With --nodes, TRACE is a list of pods: each is placed once, in order, on GPUs that are counted one by one, and never ends. Prints how "
            "many found no place and how much of GPUs, CPUs and memory is allocated at the end, when all GPUs were asked for (@FULL) and when "
            "the first failed (@FAIL).\n\n"
            "With --balance, jobs come and go; the standard deviation of the dominant share over the nodes and the number of nodes "
            "without a job are means over time.\n\n"
            "With --faults, exit code 1 when an invariant is violated; the last line then says which, and how to see it again.",
    .examples = "rota sim log.swf.gz --policy fifo,wfp3 --backfill easy\nrota sim log.swf --policy f1 --backfill easy --dump starts.csv\n"
                "rota sim log.swf.gz --compare fifo,sjf,saf,f1 --backfill easy --report policies.html\n"
                "rota sim /var/lib/rota/master --compare priority,sjf,fairshare --backfill easy\nrota sim /var/lib/rota/master --again\n"
                "rota sim pods.csv.gz --nodes nodes.csv.gz --place fragmentation --mode inflate --seeds 10\n"
                "rota sim --balance --place spread,random,roundrobin\nrota sim --faults --seed 7 --trace\nrota sim --faults --seeds 1000",
    .options = options, .run = run_sim,
};
