/* states.h: the states of jobs and nodes, reasons of failure and of waiting, and their names. */
#ifndef ROTA_CORE_MODEL_STATES_H
#define ROTA_CORE_MODEL_STATES_H

#include <stdbool.h>

#include "core/model/states.def"

enum job_state {
#define STATE(code, name, terminal) code,
    JOB_STATE_LIST(STATE)
#undef STATE
    JOB_STATES
};

enum node_state {
#define STATE(code, name, dispatches) code,
    NODE_STATE_LIST(STATE)
#undef STATE
    NODE_STATES
};

enum reason {
#define REASON(code, name, infra, text) code,
    REASON_LIST(REASON)
#undef REASON
    REASONS
};

enum rule {
#define RULE(code, name, text) code,
    RULE_LIST(RULE)
#undef RULE
    RULES
};

enum why {
#define WHY(code, name, text) code,
    WHY_LIST(WHY)
#undef WHY
    WHYS
};

const char *job_state_name(enum job_state state);
bool job_state_terminal(enum job_state state);
enum job_state job_state_parse(const char *name); /* JOB_STATES if there is no such state */
const char *node_state_name(enum node_state state);
bool node_state_dispatches(enum node_state state);
const char *reason_name(enum reason reason);
const char *reason_text(enum reason reason);
bool reason_infra(enum reason reason);
const char *rule_name(enum rule rule);
const char *rule_text(enum rule rule);
enum rule rule_parse(const char *name); /* RULES if there is no such rule */
const char *why_name(enum why why);
const char *why_text(enum why why);

/* The one table of what may follow what; every change of a task's state is checked against it. */
bool job_state_may(enum job_state from, enum job_state to);
bool node_state_may(enum node_state from, enum node_state to);

#endif
