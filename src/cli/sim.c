/* rota sim: the fault simulator from the command line. Traces come with the scheduling policies. */
#include <inttypes.h>
#include <stdio.h>

#include "cli/args.h"
#include "cli/commands.h"
#include "cli/term.h"
#include "sim/fault_sim.h"

static int run_sim(const struct args *args)
{
    if (!args_has(args, "faults")) {
        say("sim: only the simulation of faults is there yet; write `rota sim --faults --seed 1`");
        return 2;
    }
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

static const struct option_row options[] = {
    { .name = "faults", .kind = OPTION_FLAG, .help = "master, workers, bus and store on a virtual clock, with faults drawn from the seed" },
    { .name = "seed", .kind = OPTION_COUNT, .argument = "N", .fallback = "1", .min = 0, .max = INT64_MAX / 2, .help = "the run; the same seed is the same run, byte for byte" },
    { .name = "seeds", .kind = OPTION_COUNT, .argument = "N", .fallback = "1", .min = 1, .max = 100000000, .help = "how many seeds, from --seed on; stops at the first that fails" },
    { .name = "trace", .kind = OPTION_FLAG, .help = "tell every event" },
    { 0 },
};

const struct command command_sim = {
    .name = "sim", .group = "This program", .operands = "", .summary = "simulate a cluster with faults and check that it keeps its promises",
    .text = "Exit code 1 when an invariant is violated; the last line then says which, and how to see it again.",
    .examples = "rota sim --faults --seed 7 --trace\nrota sim --faults --seeds 1000",
    .options = options, .run = run_sim,
};
