#include "core/policy/order.h"

#include <math.h>

static double first_come(const struct order_facts *f)
{
    (void)f;
    return 0; /* The id decides. */
}

static double shortest(const struct order_facts *f)
{
    return f->estimate_s;
}

static double smallest_area(const struct order_facts *f)
{
    return f->estimate_s * f->cpus;
}

static double log10_from_1(double x)
{
    return log10(x > 1 ? x : 1);
}

static double f1(const struct order_facts *f)
{
    return log10_from_1(f->estimate_s) * f->cpus + 870 * log10_from_1(f->submit_s);
}

static double wfp3(const struct order_facts *f)
{
    return -pow(f->wait_s / f->estimate_s, 3) * f->cpus;
}

static double unicep(const struct order_facts *f)
{
    double width = f->cpus > 1 ? log2(f->cpus) : 0;
    return -f->wait_s / ((width > 1e-15 ? width : 1e-15) * f->estimate_s);
}

/* As if it had come so much later, the longer it is; by how much goes with how much there is to do, so that it is bounded where
 * little is waited for, and means the same on every machine. Both numbers are round ones amid a flat optimum. */
static double handicap(const struct order_facts *f)
{
    double length = f->estimate_s / pow(f->cpus, 0.125); /* wide ones find room less often */
    return 0.4 * f->backlog_s * log(length > 1 ? length : 1) - f->wait_s;
}

const struct order orders[ORDERS] = {
    [ORDER_FIFO] = { .name = "fifo", .key = first_come, .formula = "id",
                     .use = "fairness in its plainest form; nothing else is known" },
    [ORDER_PRIORITY] = { .name = "priority", .key = first_come, .ranks = true,
                         .formula = "-priority, then id; with aging: submit - priority * aging",
                         .use = "people say what matters" },
    [ORDER_SJF] = { .name = "sjf", .key = shortest, .ranks = true, .formula = "estimate",
                    .use = "short answers first; long jobs may wait very long" },
    [ORDER_SAF] = { .name = "saf", .key = smallest_area, .ranks = true, .formula = "estimate * cpus",
                    .use = "as sjf, for jobs of very different width" },
    [ORDER_F1] = { .name = "f1", .key = f1, .ranks = true, .formula = "log10(estimate) * cpus + 870 * log10(submit)",
                   .use = "low average slowdown on batch machines; submission time keeps it from starving" },
    [ORDER_WFP3] = { .name = "wfp3", .key = wfp3, .moves = true, .ranks = true, .formula = "-(wait / estimate)^3 * cpus",
                     .use = "favours what waited long for its length, and wide jobs" },
    [ORDER_UNICEP] = { .name = "unicep", .key = unicep, .moves = true, .ranks = true,
                       .formula = "-wait / (log2(cpus) * estimate)",
                       .use = "favours short and narrow jobs that waited" },
    [ORDER_FAIRSHARE] = { .name = "fairshare", .key = first_come, .ranks = true, .shares = true,
                          .formula = "(had + held) / weight of account, then of user; then as priority",
                          .use = "several groups share a cluster, and each is to get its part over days" },
    [ORDER_HANDICAP] = { .name = "handicap", .key = handicap, .moves = true, .ranks = true, .backlog = true,
                         .formula = "0.4 * backlog * ln(estimate / cpus^(1/8)) - wait",
                         .use = "users give estimates: short answers soon, and no job left waiting for much longer than under fifo" },
};
