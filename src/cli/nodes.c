#include <stdio.h>
#include <string.h>

#include "base/parse.h"
#include "cli/job_json.h"
#include "cli/verb.h"

/* "3.5/8": of the capacity. */
static void share(struct buf *out, const json_t *part, const json_t *whole, const char *key, bool size)
{
    buf_clear(out);
    if (size) {
        human_size(out, part, key);
        buf_char(out, '/');
        human_size(out, whole, key);
    } else {
        buf_printf(out, "%g/%g", json_real_of(part, key, 0), json_real_of(whole, key, 0));
    }
}

static void add_node(struct table *t, const json_t *node)
{
    const json_t *capacity = json_object_get(node, "capacity"), *allocated = json_object_get(node, "allocated"),
                 *used = json_object_get(node, "used");
    const char *state = json_text(node, "state", "-");
    autobuf struct buf text = BUF_INIT;
    table_row(t);
    table_cell(t, "%s", json_text(node, "name", "-"));
    table_cell(t, "%s", state);
    if (state_colour(state))
        table_colour(t, state_colour(state));
    share(&text, allocated, capacity, "cpus", false);
    table_cell(t, "%s", text.data);
    share(&text, allocated, capacity, "mem_bytes", true);
    table_cell(t, "%s", text.data);
    share(&text, allocated, capacity, "gpus", false);
    table_cell(t, "%s", text.data);
    table_cell(t, "%lld", (long long)json_int(node, "running", 0));
    table_cell(t, "%lld", (long long)json_int(node, "waiting", 0));
    if (json_is_object(used))
        table_cell(t, "%.2f", json_real_of(used, "load", 0));
    else
        table_cell(t, "-");
    buf_clear(&text);
    human_duration(&text, json_real_of(node, "heard_ago_s", -1));
    table_cell(t, "%s", text.data);
    table_cell(t, "%s", json_text(node, "reason", "-"));
}

static struct table *nodes_table(void)
{
    struct table *t = table_new();
    table_column(t, "NAME", 0);
    table_column(t, "STATE", 0);
    table_column(t, "CPUS", TABLE_RIGHT);
    table_column(t, "MEM", TABLE_RIGHT);
    table_column(t, "GPUS", TABLE_RIGHT);
    table_column(t, "RUNNING", TABLE_RIGHT);
    table_column(t, "WAITING", TABLE_RIGHT);
    table_column(t, "LOAD", TABLE_RIGHT);
    table_column(t, "HEARD", TABLE_RIGHT);
    table_column(t, "REASON", TABLE_CUT);
    return t;
}

static void node_path(struct buf *path, const char *name, const char *tail)
{
    buf_clear(path);
    buf_str(path, "/v1/nodes/");
    url_escape(path, name);
    buf_str(path, tail);
}

static void tell_orphans(const json_t *node)
{
    size_t i;
    const json_t *orphan;
    json_array_foreach(json_object_get(node, "orphans"), i, orphan)
    {
        long long task = json_int(orphan, "task", -1);
        char element[32] = "";
        if (task >= 0)
            snprintf(element, sizeof element, " element %lld", task);
        say("%s holds an attempt that the store does not know: job %lld%s, attempt %lld, %s",
            json_text(node, "name", ""), (long long)json_int(orphan, "job", 0), element,
            (long long)json_int(orphan, "attempt", 0), json_text(orphan, "phase", ""));
    }
}

/* What the machine is like, below the table. */
static void tell_machine(const json_t *node, struct buf *out)
{
    const json_t *machine = json_object_get(node, "machine"), *pressure = json_object_get(machine, "pressure_percent");
    const json_t *capacity = json_object_get(node, "capacity"), *used = json_object_get(node, "used");
    if (!json_is_object(machine))
        return;
    buf_printf(out, "\n%s\n  used: ", json_text(node, "name", ""));
    if (json_is_object(used)) {
        buf_printf(out, "%.2f of %g CPUs, ", json_real_of(used, "cpus", 0), json_real_of(capacity, "cpus", 0));
        human_size(out, used, "mem_bytes");
        buf_str(out, " of ");
        human_size(out, capacity, "mem_bytes");
        buf_str(out, " memory");
    } else {
        buf_str(out, "not known now");
    }
    const json_t *gpus = json_object_get(machine, "gpus");
    if (json_is_object(gpus)) {
        buf_printf(out, ", %.2f of %g GPUs with ", json_real_of(gpus, "used", 0), json_real_of(gpus, "count", 0));
        human_size(out, gpus, "mem_used_bytes");
        buf_str(out, " of ");
        human_size(out, gpus, "mem_bytes");
    }
    if (json_is_number(json_object_get(node, "lease_renewed_ago_s"))) {
        buf_str(out, "\n  lease: renewed over HTTP ");
        human_duration(out, json_real_of(node, "lease_renewed_ago_s", 0));
        buf_str(out, " ago; the bus brings nothing from it, what runs there goes on");
    }
    buf_str(out, "\n  disk: ");
    human_size(out, machine, "disk_free_bytes");
    buf_str(out, " free of ");
    human_size(out, machine, "disk_bytes");
    if (json_is_object(pressure))
        buf_printf(out, "\n  pressure: cpu %.1f%%, memory %.1f%%, io %.1f%%", json_real_of(pressure, "cpu", 0),
                   json_real_of(pressure, "memory", 0), json_real_of(pressure, "io", 0));
    if (*json_text(node, "labels", "")) {
        buf_str(out, "\n  labels: ");
        text_clean(out, bytes_str(json_text(node, "labels", "")));
    }
    buf_str(out, "\n  it can do:\n");
    for (const char *at = json_text(machine, "enforces", ""); *at;) {
        size_t size = strcspn(at, ";");
        buf_printf(out, "    %.*s\n", (int)size, at);
        at += size;
        at += strspn(at, "; ");
    }
}

static int run_nodes(const struct args *args)
{
    int code = 0;
    autoclient struct client *c = verb_client(args, &code);
    if (!c)
        return code;
    struct table *t = nodes_table();
    autobuf struct buf path = BUF_INIT, machines = BUF_INIT;
    size_t shown = 0, i;
    if (args->operands_count == 0) {
        autojson json_t *answer = NULL;
        const json_t *node;
        buf_str(&path, "/v1/nodes");
        url_query(&path, "state", args_text(args, "state", NULL));
        code = verb_json(c, args, "GET", path.data, bytes_of(NULL, 0), &answer);
        json_array_foreach(json_object_get(answer, "nodes"), i, node)
        {
            add_node(t, node);
            shown++;
        }
        if (answer && shown == 0)
            say("no nodes");
    }
    for (i = 0; i < args->operands_count; i++) {
        autojson json_t *node = NULL;
        node_path(&path, args->operands[i], "");
        int one = verb_json(c, args, "GET", path.data, bytes_of(NULL, 0), &node);
        if (node) {
            add_node(t, node);
            tell_orphans(node);
            tell_machine(node, &machines);
            shown++;
        }
        code = code ? code : one;
    }
    if (shown)
        table_print(t);
    table_free(t);
    out_flush(&machines);
    return code;
}

static const struct option_row nodes_options[] = {
    { .name = "state",
      .kind = OPTION_CHOICE,
      .argument = "STATE",
      .choices = "joining|ready|suspect|down|draining|drained|quarantined|removed",
      .group = "Options",
      .help = "only nodes in this state" },
    { .name = NULL },
};
const struct command command_nodes = {
    .name = "nodes",
    .group = "Cluster",
    .operands = "[NAME...]",
    .operands_min = 0,
    .operands_max = -1,
    .flags = COMMAND_CLIENT | COMMAND_NODES,
    .summary = "list the nodes and what they have",
    .text = "CPUS, MEM and GPUS are allocated of all; WAITING are attempts that wait on the node for a free place.",
    .examples = "rota nodes\nrota nodes --state down\nrota nodes worker-1 --json",
    .options = nodes_options,
    .run = run_nodes,
};

static int run_node_change(const struct args *args)
{
    int code = 0;
    autoclient struct client *c = verb_client(args, &code);
    autobuf struct buf path = BUF_INIT, body = BUF_INIT, tail = BUF_INIT;
    json_one(&body, "reason", args_text(args, "reason", NULL));
    buf_printf(&tail, "/%s", args->command->name);
    for (size_t i = 0; c && i < args->operands_count; i++) {
        autojson json_t *answer = NULL;
        node_path(&path, args->operands[i], tail.data);
        int one = verb_json(c, args, "POST", path.data, buf_bytes(&body), &answer);
        if (answer)
            say("%s: %s%s", json_text(answer, "name", args->operands[i]), json_text(answer, "state", "?"),
                json_is_false(json_object_get(answer, "changed")) ? ", as it was" : "");
        code = code ? code : one;
    }
    return code;
}

static const struct option_row drain_options[] = {
    { .name = "reason", .kind = OPTION_TEXT, .argument = "TEXT", .group = "Options", .help = "shown by rota nodes" },
    { .name = NULL },
};
const struct command command_drain = {
    .name = "drain",
    .group = "Cluster",
    .operands = "NODE...",
    .operands_min = 1,
    .operands_max = -1,
    .flags = COMMAND_CLIENT | COMMAND_NODES,
    .summary = "start nothing new on a node",
    .text = "What runs there goes on to its end; then the node is drained.",
    .examples = "rota drain worker-1 --reason 'new disk'",
    .options = drain_options,
    .run = run_node_change,
};
const struct command command_resume = {
    .name = "resume",
    .group = "Cluster",
    .operands = "NODE...",
    .operands_min = 1,
    .operands_max = -1,
    .flags = COMMAND_CLIENT | COMMAND_NODES,
    .summary = "use a node again",
    .examples = "rota resume worker-1",
    .run = run_node_change,
};

/* --- queues --- */

static void add_settings(struct table *t, const json_t *settings)
{
    autobuf struct buf text = BUF_INIT;
    const json_t *weight = json_object_get(settings, "weight");
    bool paused = json_is_true(json_object_get(settings, "paused"));
    table_cell(t, "%s", paused ? "paused" : "open");
    if (paused)
        table_colour(t, "yellow");
    table_cell(t, "%s", json_text(settings, "order", "-"));
    table_cell(t, "%lld", (long long)json_int(settings, "priority", 0));
    table_cell(t, json_is_number(weight) ? "%g" : "-", json_number_value(weight));
    limits_text(&text, json_object_get(settings, "limits"));
    if (json_text(settings, "reason", NULL))
        buf_printf(&text, "; %s", json_text(settings, "reason", ""));
    table_cell(t, "%s", text.data);
}

static void add_share(struct table *t, const json_t *row)
{
    table_row(t);
    table_cell(t, "%s", json_text(row, "account", "-"));
    table_cell(t, "%s", json_text(row, "user", "-"));
    table_cell(t, "%s", json_text(row, "queue", "-"));
    table_cell(t, "%g", json_real_of(row, "weight", 0));
    table_cell(t, "%.1f%%", 100 * json_real_of(row, "target_share", 0));
    table_cell(t, "%.1f%%", 100 * json_real_of(row, "used_share", 0));
    table_cell(t, "%.1f%%", 100 * json_real_of(row, "had", 0));
    table_cell(t, "%.1f%%", 100 * json_real_of(row, "held_now", 0));
    table_cell(t, "%lld", (long long)json_int(json_object_get(row, "held"), "running", 0));
    table_cell(t, "%lld", (long long)json_int(row, "waiting", 0));
}

/* What everybody had beside what he should have. */
static int run_shares(struct client *c, const struct args *args)
{
    static const char *const lists[] = { "accounts", "users", "queues" };
    static const char *const heads[] = { "WEIGHT", "TARGET", "USED", "HAD", "HELD", "RUNNING", "WAITING" };
    autojson json_t *answer = NULL;
    int code = verb_json(c, args, "GET", "/v1/shares", bytes_of(NULL, 0), &answer);
    if (code || !answer)
        return code;
    struct table *t = table_new();
    table_column(t, "ACCOUNT", 0);
    table_column(t, "USER", 0);
    table_column(t, "QUEUE", 0);
    for (size_t k = 0; k < sizeof heads / sizeof *heads; k++)
        table_column(t, heads[k], TABLE_RIGHT);
    size_t i, rows = 0;
    const json_t *row;
    for (size_t k = 0; k < sizeof lists / sizeof *lists; k++)
        json_array_foreach(json_object_get(answer, lists[k]), i, row) add_share(t, row), rows++;
    if (rows)
        table_print(t);
    else
        say("nobody has had anything yet");
    table_free(t);
    return 0;
}

static int run_queues(const struct args *args)
{
    static const char *const shown[] = { "queued", "running", "held", "blocked", "succeeded", "failed", "cancelled" };
    int code = 0;
    autoclient struct client *c = verb_client(args, &code);
    autojson json_t *answer = NULL;
    if (c && args_has(args, "shares"))
        return run_shares(c, args);
    if (!c || (code = verb_json(c, args, "GET", "/v1/queues", bytes_of(NULL, 0), &answer)) || !answer)
        return code;
    struct table *t = table_new();
    table_column(t, "QUEUE", 0);
    table_column(t, "JOBS", TABLE_RIGHT);
    static const char *const heads[] = { "QUEUED",    "RUNNING", "HELD",      "BLOCKED",
                                         "SUCCEEDED", "FAILED",  "CANCELLED", "OTHER" };
    for (size_t k = 0; k < sizeof heads / sizeof *heads; k++)
        table_column(t, heads[k], TABLE_RIGHT);
    table_column(t, "STATE", 0);
    table_column(t, "ORDER", 0);
    table_column(t, "PRIORITY", TABLE_RIGHT);
    table_column(t, "WEIGHT", TABLE_RIGHT);
    table_column(t, "LIMITS", TABLE_CUT);
    size_t i;
    const json_t *queue;
    json_array_foreach(json_object_get(answer, "queues"), i, queue)
    {
        const json_t *tasks = json_object_get(queue, "tasks");
        int64_t jobs = 0, other = 0;
        const char *state;
        json_t *count;
        json_object_foreach(json_object_get(queue, "jobs"), state, count) jobs += json_integer_value(count);
        json_object_foreach((json_t *)tasks, state, count) other += json_integer_value(count);
        table_row(t);
        table_cell(t, "%s", json_text(queue, "name", "-"));
        table_cell(t, "%lld", (long long)jobs);
        for (size_t k = 0; k < sizeof shown / sizeof *shown; k++) {
            table_cell(t, "%lld", (long long)json_int(tasks, shown[k], 0));
            other -= json_int(tasks, shown[k], 0);
        }
        table_cell(t, "%lld", (long long)other);
        add_settings(t, json_object_get(queue, "settings"));
    }
    if (i)
        table_print(t);
    else
        say("no queue has jobs");
    table_free(t);
    return 0;
}
static const struct option_row queues_options[] = {
    { .name = "shares", .kind = OPTION_FLAG, .group = "Options",
      .help = "instead: what accounts, users and queues had lately, beside what their weights give them" },
    { .name = NULL },
};
const struct command command_queues = {
    .name = "queues",
    .group = "Cluster",
    .operands = "",
    .operands_min = 0,
    .operands_max = 0,
    .flags = COMMAND_CLIENT,
    .summary = "list the queues, how many tasks are in which state, and what is set of them",
    .text = "With --shares: TARGET is the share by weight among those beside it that have or want anything, USED what it had of what "
            "they had, HAD its mean share of the cluster (older use counts for less), HELD its share now.",
    .examples = "rota queues\nrota queues --shares",
    .options = queues_options,
    .run = run_queues,
};
