/* order.h: which waiting job goes first, as a table of small functions.
 *
 * A job's place in the queue is (rank, key, id), smallest first: total, so that two runs never differ.
 *   rank  whole number: what people said (priority, with aging where it is set); 0 under `fifo`
 *   key   what the order says, from the facts below; the smaller the sooner
 *   id    earlier submission first
 * Jobs of one shape ask the same and have the same estimate. An order must keep such jobs in the order of submission, at
 * every moment: then only the first job of each shape needs a key. All orders here do; order_test.c holds them to it.
 *
 * Sources: F1 Carastan-Santos and de Camargo, SC'17 (the function their regression found). WFP3 and UNICEP: Tang et al.,
 * Cluster 2009 and 2010, as restated in RLScheduler (Zhang et al., SC'20). SJF and SAF (smallest area) are folklore. HANDICAP is
 * ours: docs/decisions/0064. */
#ifndef ROTA_CORE_POLICY_ORDER_H
#define ROTA_CORE_POLICY_ORDER_H

#include <stdbool.h>
#include <stdint.h>

/* What an order may look at. Seconds as fractions: whole seconds stay exact. */
struct order_facts {
    double submit_s;     /* since the origin of the store's time: its first submission; in a simulation 0 of the trace */
    double wait_s;       /* since submission; never negative */
    double estimate_s;   /* how long it will run as far as anybody knows; > 0 */
    double cpus;         /* how many it asks for, over all its nodes; > 0 */
    double backlog_s;    /* how long all CPUs together would need for what waits and what is left of what runs, by estimates; >= 0.
                          * 0 where no order in use looks at it */
};

/* Numbers are positions: settings and journals keep them; append only. */
enum order_kind {
    ORDER_FIFO,
    ORDER_PRIORITY,
    ORDER_SJF,
    ORDER_SAF,
    ORDER_F1,
    ORDER_WFP3,
    ORDER_UNICEP,
    ORDER_FAIRSHARE,
    ORDER_HANDICAP,
    ORDERS
};
#define ORDER_WORDS "fifo|priority|sjf|saf|f1|wfp3|unicep|fairshare|handicap" /* by their places; for settings and options */

struct order {
    const char *name;
    double (*key)(const struct order_facts *f);
    bool moves;          /* the key depends on wait_s: it changes while the job waits */
    bool ranks;          /* priorities count; false: every rank is 0 */
    bool backlog;        /* the key looks at backlog_s */
    bool shares;         /* before all that: what account and user had and have, by weight (fairshare.h) */
    const char *formula; /* for people */
    const char *use;     /* when it is the right one */
};
extern const struct order orders[ORDERS];

#endif
