#include "core/model/states.h"

#include <stdint.h>
#include <string.h>

#include "base/check.h"

static const struct { const char *name; bool terminal; } job_states[JOB_STATES] = {
#define STATE(code, name, terminal) [code] = { name, terminal },
    JOB_STATE_LIST(STATE)
#undef STATE
};

static const struct { const char *name; bool dispatches; } node_states[NODE_STATES] = {
#define STATE(code, name, dispatches) [code] = { name, dispatches },
    NODE_STATE_LIST(STATE)
#undef STATE
};

static const struct { const char *name, *text; } rules[RULES] = {
#define RULE(code, name, text) [code] = { name, text },
    RULE_LIST(RULE)
#undef RULE
};

static const struct { const char *name; bool infra; const char *text; } reasons[REASONS] = {
#define REASON(code, name, infra, text) [code] = { name, infra, text },
    REASON_LIST(REASON)
#undef REASON
};

static const struct { const char *name; const char *text; } whys[WHYS] = {
#define WHY(code, name, text) [code] = { name, text },
    WHY_LIST(WHY)
#undef WHY
};

#define BIT(state) (1u << (state))


static const uint32_t job_next[JOB_STATES] = {
    [JOB_NONE] = BIT(JOB_HELD) | BIT(JOB_BLOCKED) | BIT(JOB_QUEUED),
    [JOB_HELD] = BIT(JOB_BLOCKED) | BIT(JOB_QUEUED) | BIT(JOB_FAILED) | BIT(JOB_CANCELLED) | BIT(JOB_EXPIRED),
    [JOB_BLOCKED] = BIT(JOB_HELD) | BIT(JOB_QUEUED) | BIT(JOB_FAILED) | BIT(JOB_CANCELLED) | BIT(JOB_EXPIRED),
    [JOB_QUEUED] = BIT(JOB_HELD) | BIT(JOB_BLOCKED) | BIT(JOB_DISPATCHED) | BIT(JOB_CANCELLED) | BIT(JOB_EXPIRED) |
                   BIT(JOB_FAILED), /* tasks of an array whose dependency failed */
    [JOB_DISPATCHED] = BIT(JOB_RUNNING) | BIT(JOB_QUEUED) | BIT(JOB_HELD) | BIT(JOB_UNCERTAIN) | BIT(JOB_RETRY_WAIT) |
                       BIT(JOB_CANCELLING) | BIT(JOB_SUCCEEDED) | BIT(JOB_FAILED) | BIT(JOB_CANCELLED),
    [JOB_RUNNING] = BIT(JOB_UNCERTAIN) | BIT(JOB_RETRY_WAIT) | BIT(JOB_QUEUED) | BIT(JOB_CANCELLING) |
                    BIT(JOB_SUCCEEDED) | BIT(JOB_FAILED) | BIT(JOB_CANCELLED),
    [JOB_UNCERTAIN] = BIT(JOB_RUNNING) | BIT(JOB_DISPATCHED) | BIT(JOB_RETRY_WAIT) | BIT(JOB_QUEUED) | BIT(JOB_HELD) |
                      BIT(JOB_CANCELLING) | BIT(JOB_SUCCEEDED) | BIT(JOB_FAILED),
    [JOB_RETRY_WAIT] = BIT(JOB_QUEUED) | BIT(JOB_HELD) | BIT(JOB_CANCELLED) | BIT(JOB_EXPIRED),
    [JOB_CANCELLING] = BIT(JOB_CANCELLED) | BIT(JOB_SUCCEEDED) | BIT(JOB_FAILED),
};

static const uint32_t node_next[NODE_STATES] = {
    [NODE_NONE] = BIT(NODE_JOINING),
    [NODE_JOINING] = BIT(NODE_READY) | BIT(NODE_SUSPECT) | BIT(NODE_DOWN) | BIT(NODE_DRAINING) | BIT(NODE_DRAINED) |
                     BIT(NODE_QUARANTINED) | BIT(NODE_REMOVED),
    [NODE_READY] = BIT(NODE_JOINING) | BIT(NODE_SUSPECT) | BIT(NODE_DOWN) | BIT(NODE_DRAINING) | BIT(NODE_DRAINED) |
                   BIT(NODE_QUARANTINED) | BIT(NODE_REMOVED),
    [NODE_SUSPECT] = BIT(NODE_JOINING) | BIT(NODE_READY) | BIT(NODE_DOWN) | BIT(NODE_DRAINING) | BIT(NODE_DRAINED) |
                     BIT(NODE_QUARANTINED) | BIT(NODE_REMOVED),
    [NODE_DOWN] = BIT(NODE_JOINING) | BIT(NODE_READY) | BIT(NODE_DRAINING) | BIT(NODE_DRAINED) | BIT(NODE_REMOVED),
    [NODE_DRAINING] = BIT(NODE_JOINING) | BIT(NODE_DRAINED) | BIT(NODE_DOWN) | BIT(NODE_READY) | BIT(NODE_REMOVED),
    [NODE_DRAINED] = BIT(NODE_JOINING) | BIT(NODE_DRAINING) | BIT(NODE_DOWN) | BIT(NODE_READY) | BIT(NODE_REMOVED),
    [NODE_QUARANTINED] = BIT(NODE_JOINING) | BIT(NODE_READY) | BIT(NODE_DOWN) | BIT(NODE_DRAINING) | BIT(NODE_REMOVED),
    [NODE_REMOVED] = 0,
};

const char *job_state_name(enum job_state state)
{
    check(state < JOB_STATES);
    return job_states[state].name;
}

bool job_state_terminal(enum job_state state)
{
    check(state < JOB_STATES);
    return job_states[state].terminal;
}

enum job_state job_state_parse(const char *name)
{
    for (int state = JOB_NONE + 1; state < JOB_STATES; state++)
        if (strcmp(name, job_states[state].name) == 0)
            return (enum job_state)state;
    return JOB_STATES;
}

const char *node_state_name(enum node_state state)
{
    check(state < NODE_STATES);
    return node_states[state].name;
}

bool node_state_dispatches(enum node_state state)
{
    check(state < NODE_STATES);
    return node_states[state].dispatches;
}

const char *reason_name(enum reason reason)
{
    check(reason < REASONS);
    return reasons[reason].name;
}

const char *reason_text(enum reason reason)
{
    check(reason < REASONS);
    return reasons[reason].text;
}

bool reason_infra(enum reason reason)
{
    check(reason < REASONS);
    return reasons[reason].infra;
}

const char *rule_name(enum rule rule)
{
    check(rule < RULES);
    return rules[rule].name;
}

const char *rule_text(enum rule rule)
{
    check(rule < RULES);
    return rules[rule].text;
}

enum rule rule_parse(const char *name)
{
    enum rule rule = RULE_NONE;
    while (rule < RULES && strcmp(rules[rule].name, name) != 0)
        rule++;
    return rule;
}

const char *why_name(enum why why)
{
    check(why < WHYS);
    return whys[why].name;
}

const char *why_text(enum why why)
{
    check(why < WHYS);
    return whys[why].text;
}

bool job_state_may(enum job_state from, enum job_state to)
{
    check(from < JOB_STATES && to < JOB_STATES);
    return job_next[from] & BIT(to);
}

bool node_state_may(enum node_state from, enum node_state to)
{
    check(from < NODE_STATES && to < NODE_STATES);
    return node_next[from] & BIT(to);
}
