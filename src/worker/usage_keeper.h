/* usage_keeper.h: samples what running attempts use and tells the master.
 *
 * Nothing is looked at before an attempt has run for USAGE_FIRST_MS: short jobs cost nothing. Then it is looked at each
 * second, and less often the longer it runs (a thirtieth of its age, at most every 30 s). One look at everything that
 * is due takes at most USAGE_WORK_NS of a second; what it does not come to has its turn in the next one. */
#ifndef ROTA_WORKER_USAGE_KEEPER_H
#define ROTA_WORKER_USAGE_KEEPER_H

#include "core/agent/agent.h"
#include "exec/exec.h"

#define USAGE_FIRST_MS 1000
#define USAGE_EACH_MS_MAX 30000
#define USAGE_WORK_NS 5000000
#define USAGE_ATTEMPTS_MAX 16384u /* sampled at the same time; others are only measured at their end */

struct loop;
struct usage_keeper;

struct usage_keeper_port {
    void *arg;
    struct exec *exec;
    const struct agent *agent;
    void (*send)(void *arg, const struct message *usage); /* copies */
};

struct usage_keeper *usage_keeper_new(struct loop *loop, const struct usage_keeper_port *port);
void usage_keeper_free(struct usage_keeper *k);
void usage_keeper_wake(struct usage_keeper *k);    /* something runs */
void usage_keeper_tell_all(struct usage_keeper *k); /* the master is a new one: all that is known goes to it */
/* It has ended: what its end tells is completed from its samples. */
void usage_keeper_ended(struct usage_keeper *k, struct attempt_ref ref, struct attempt_result *result);
void usage_keeper_tell(struct usage_keeper *k, struct attempt_ref ref); /* all of one attempt; not sampled: nothing */
void usage_keeper_forget(struct usage_keeper *k, struct attempt_ref ref);

#endif
