#include "cli/why.h"

#include <string.h>

#include "base/parse.h"
#include "cli/verb.h"

struct dim {
    const char *one, *many;
    bool milli, size;
};

static struct dim dim_of(const char *name)
{
    if (strcmp(name, "cpus") == 0)
        return (struct dim){ "CPU", "CPUs", true, false };
    if (strcmp(name, "gpus") == 0)
        return (struct dim){ "GPU", "GPUs", true, false };
    if (strcmp(name, "mem_bytes") == 0)
        return (struct dim){ "of memory", "of memory", false, true };
    return (struct dim){ name, name, false, false };
}

static void amount(struct buf *out, const struct dim *d, int64_t value)
{
    if (d->size)
        format_size(out, (uint64_t)value);
    else if (d->milli)
        format_milli(out, (uint64_t)value);
    else
        buf_i64(out, value);
}

static void dim_sentence(struct buf *out, const json_t *dim, int64_t ready)
{
    struct dim d = dim_of(json_text(dim, "name", "?"));
    int64_t need = json_int(dim, "need", 0), refused = json_int(dim, "nodes_refused", 0);
    int64_t free_most = json_int(dim, "free_most", 0), capacity_most = json_int(dim, "capacity_most", 0);
    if (strcmp(json_text(dim, "name", ""), "containers") == 0 && !capacity_most) {
        buf_printf(out,
                   "It has an image and needs a container engine; %s. `rota worker --exec docker` uses one, and its log says what is "
                   "wrong with it.\n",
                   ready == 1 ? "the one ready node has none that answers" : "no ready node has one that answers");
        return;
    }
    buf_str(out, "It needs ");
    amount(out, &d, need);
    buf_printf(out, " %s; ", d.milli && need == 1000 ? d.one : d.many);
    if (need > capacity_most) {
        buf_str(out, "the largest node has ");
        amount(out, &d, capacity_most);
    } else {
        buf_str(out, "the most that is free on one node is ");
        amount(out, &d, free_most);
        buf_str(out, " (the largest has ");
        amount(out, &d, capacity_most);
        buf_char(out, ')');
    }
    if (refused == ready)
        buf_str(out, ready == 1 ? "; the one ready node refuses it for that.\n"
                                : "; every ready node refuses it for that.\n");
    else
        buf_printf(out, "; %lld of %lld ready nodes refuse%s it for that.\n", (long long)refused, (long long)ready,
                   refused == 1 ? "s" : "");
}

static void nodes_sentence(struct buf *out, const json_t *why)
{
    int64_t ready = json_int(why, "nodes_ready", 0), total = json_int(why, "nodes_total", 0);
    if (total == 0)
        buf_str(out, "No worker has ever joined: `rota worker --bus URL` starts one.\n");
    else
        buf_printf(out, "%lld of %lld nodes %s ready; `rota nodes` shows them.\n", (long long)ready, (long long)total,
                   ready == 1 ? "is" : "are");
}

/* "User ann runs 10 of at most 10 jobs." */
static void limit_sentence(struct buf *out, const json_t *limit)
{
    const char *kind = json_text(limit, "kind", "?"), *what = json_text(limit, "limit", "");
    struct dim d = dim_of(what);
    int64_t used = json_int(limit, "used", 0), asked = json_int(limit, "asked", 0), most = json_int(limit, "most", 0);
    bool token = strcmp(kind, "token") == 0;
    buf_printf(out, "%c%s ", kind[0] - 'a' + 'A', kind + 1);
    text_clean(out, bytes_str(json_text(limit, "name", "?")));
    if (!*what) {
        const char *text = json_text(limit, "text", NULL);
        buf_str(out, " is paused");
        if (text) {
            buf_str(out, ": ");
            text_clean(out, bytes_str(text));
        }
        buf_str(out, ".\n");
        return;
    }
    if (token) {
        buf_printf(out, ": %lld of %lld are taken, and it needs %lld.\n", (long long)used, (long long)most, (long long)asked);
        return;
    }
    if (strcmp(what, "running") == 0) {
        buf_printf(out, " runs %lld of at most %lld job%s.\n", (long long)used, (long long)most, most == 1 ? "" : "s");
        return;
    }
    buf_str(out, " has ");
    amount(out, &d, used);
    buf_str(out, " of at most ");
    amount(out, &d, most);
    buf_printf(out, " %s at the same time, and it needs ", d.many);
    amount(out, &d, asked);
    buf_str(out, ".\n");
}

static void limit_sentences(struct buf *out, const json_t *why, const char *reason)
{
    size_t i;
    const json_t *limit;
    json_array_foreach(json_object_get(why, "limits"), i, limit)
        if (strcmp(json_text(limit, "reason", ""), reason) == 0)
            limit_sentence(out, limit);
}

static bool is_one_of(const char *word, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(word, words[i]) == 0)
            return true;
    return false;
}

/* "2 of 3 ready nodes do not meet its --where: zone=a." */
static void unsuited_sentence(struct buf *out, const json_t *why)
{
    int64_t unsuited = json_int(why, "nodes_unsuited", 0), ready = json_int(why, "nodes_ready", 0);
    if (unsuited == ready)
        buf_str(out, ready == 1 ? "The one ready node does not meet" : "No ready node meets");
    else
        buf_printf(out, "%lld of %lld ready nodes do%s not meet", (long long)unsuited, (long long)ready, unsuited == 1 ? "es" : "");
    buf_str(out, " its --where: ");
    text_clean(out, bytes_str(json_text(why, "where", "?")));
    buf_str(out, ".\n");
}

/* "It needs 4 nodes at the same time; 2 have room for it now, 6 would have it when they are empty." */
static void gang_sentence(struct buf *out, const json_t *why)
{
    int64_t now = json_int(why, "nodes_now", 0), ever = json_int(why, "nodes_ever", 0);
    buf_printf(out, "It needs %lld nodes at the same time; %lld %s room for it now, %lld would have it when they are empty.\n",
               (long long)json_int(why, "nodes_asked", 1), (long long)now, now == 1 ? "has" : "have", (long long)ever);
}

static void details(struct buf *out, const json_t *why, const char *reason)
{
    static const char *const about_dims[] = { "resources", "too_big", "gang", "too_few" }, *const about_time[] = { "begin", "backoff" };
    static const char *const about_nodes[] = { "no_nodes", "contact" };
    int64_t blocked_by = json_int(why, "blocked_by", 0), before = json_int(why, "jobs_before", 0),
            ready = json_int(why, "nodes_ready", 0);
    const json_t *dim;
    size_t i;
    if (is_one_of(reason, about_dims, 4) && json_int(why, "nodes_asked", 1) > 1)
        gang_sentence(out, why);
    if (is_one_of(reason, about_dims, 4))
        json_array_foreach(json_object_get(why, "dims"), i, dim) dim_sentence(out, dim, ready);
    if (is_one_of(reason, about_dims, 4) && json_int(why, "nodes_unsuited", 0))
        unsuited_sentence(out, why);
    limit_sentences(out, why, reason);
    if (is_one_of(reason, about_nodes, 2))
        nodes_sentence(out, why);
    if (is_one_of(reason, about_time, 2) && json_real_of(why, "due_in_s", 0) > 0) {
        buf_str(out, "That is over in ");
        human_duration(out, json_real_of(why, "due_in_s", 0));
        buf_str(out, ".\n");
    }
    if (strcmp(reason, "dependency") == 0 && blocked_by)
        buf_printf(out, "The first that has not ended as asked is job %lld; `rota why %lld` goes on from there.\n",
                   (long long)blocked_by, (long long)blocked_by);
    if (strcmp(reason, "order") == 0 && blocked_by)
        buf_printf(out, "Job %lld goes before it and does not fit yet; `rota why %lld` says why.\n",
                   (long long)blocked_by, (long long)blocked_by);
    if (strcmp(reason, "gang") == 0 && json_real_of(why, "room_in_s", 0) > 0) {
        buf_str(out, "As many have room for it in ");
        human_duration(out, json_real_of(why, "room_in_s", 0));
        buf_str(out, ", if what runs there takes its time limit or its usual time.\n");
    }
    if (strcmp(reason, "resources") == 0 && json_text(why, "room_node", NULL) && json_real_of(why, "room_in_s", 0) > 0) {
        buf_str(out, "Node ");
        text_clean(out, bytes_str(json_text(why, "room_node", "?")));
        buf_str(out, " has room for it first, in ");
        human_duration(out, json_real_of(why, "room_in_s", 0));
        buf_str(out, ", if what runs there takes its time limit or its usual time.\n");
    }
    if (before && (strcmp(reason, "order") == 0 || strcmp(reason, "resources") == 0))
        buf_printf(out, "%lld job%s with the same needs %s first.\n", (long long)before, before == 1 ? "" : "s",
                   before == 1 ? "goes" : "go");
}

/* "in 12m on node n1 (2026-01-01T00:00:00.000Z)" */
static void start_words(const json_t *estimate, struct buf *out)
{
    int64_t in_ms = time_of(estimate, "start_at") - time_of(estimate, "made_at");
    const char *node = json_text(estimate, "node", NULL);
    if (in_ms > 1000) {
        buf_str(out, "in ");
        human_duration(out, (double)in_ms / 1000);
    } else {
        buf_str(out, "now");
    }
    if (node) {
        buf_str(out, " on node ");
        text_clean(out, bytes_str(node));
    }
    buf_printf(out, " (%s)", json_text(estimate, "start_at", "?"));
}

void estimate_words(const json_t *estimate, struct buf *out)
{
    const json_t *because = json_object_get(estimate, "because");
    if (json_is_object(because)) {
        buf_printf(out, "no estimate, because %s", json_text(because, "text", "?"));
        if (strcmp(json_text(because, "reason", ""), "depth") == 0)
            buf_printf(out, ": %lld", (long long)json_int(estimate, "depth", 0));
        return;
    }
    const char *basis = json_text(estimate, "basis", "");
    start_words(estimate, out);
    if (strcmp(basis, "usual") == 0)
        buf_str(out, ", if what is before it takes its time limit or its usual time");
    else if (strcmp(basis, "assumed") == 0)
        buf_printf(out, ", but nothing is known of how long job %lld takes", (long long)json_int(estimate, "basis_job", 0));
    else
        buf_str(out, " at the latest, if nobody comes who goes before it");
}

/* ' --cpus 2 --mem 4G': all that it may ask for. */
static void less_options(const json_t *change, struct buf *out)
{
    static const char *const keys[][2] = { { "cpus", "--cpus" }, { "mem_bytes", "--mem" }, { "gpus", "--gpus" } };
    for (size_t i = 0; i < 3; i++) {
        double value = json_real_of(change, keys[i][0], 0);
        if (value <= 0)
            continue;
        buf_printf(out, " %s ", keys[i][1]);
        if (i == 1)
            format_size(out, (uint64_t)value);
        else
            buf_printf(out, "%g", value);
    }
    const char *name;
    json_t *count;
    json_object_foreach(json_object_get(change, "resources"), name, count)
        buf_printf(out, " --resource %s=%lld", name, (long long)json_integer_value(count));
}

static void change_sentence(const json_t *why, const json_t *change, struct buf *out)
{
    const char *kind = json_text(change, "kind", "");
    long long id = (long long)json_int(why, "id", 0);
    bool release = json_is_true(json_object_get(change, "release"));
    buf_str(out, "It would start now: ");
    if (json_is_true(json_object_get(change, "raise_limits"))) {
        const json_t *limit;
        size_t i;
        json_array_foreach(json_object_get(why, "limits"), i, limit)
        {
            struct dim d = dim_of(json_text(limit, "limit", ""));
            buf_printf(out, "%s%s ", i ? ", and " : "", json_text(limit, "kind", "?"));
            text_clean(out, bytes_str(json_text(limit, "name", "?")));
            if (!*json_text(limit, "limit", "")) {
                buf_str(out, " resumed");
                continue;
            }
            buf_printf(out, " with %s raised to ", json_text(limit, "limit", "?"));
            amount(out, &d, json_int(limit, "used", 0) + json_int(limit, "asked", 0));
        }
        buf_str(out, release ? ", and " : "");
    }
    if (release)
        buf_printf(out, "released (`rota release %lld`)", id);
    if (strcmp(kind, "priority") == 0)
        buf_printf(out, "%swith a higher priority (`rota update %lld --priority %lld`)", release ? ", " : "", id,
                   (long long)json_int(change, "priority", 0));
    if (json_is_true(json_object_get(change, "submit_again"))) {
        buf_str(out, "submitted again with");
        less_options(change, out);
        if (json_int(change, "nodes", 0))
            buf_printf(out, " --nodes %lld", (long long)json_int(change, "nodes", 0));
        double limit_s = json_real_of(change, "time_limit_s", 0);
        buf_str(out, limit_s > 0 ? " --time " : "");
        if (limit_s > 0)
            format_duration(out, (int64_t)(limit_s * 1000));
        buf_printf(out, ", and `rota cancel %lld` after that", id);
    }
    buf_str(out, ".\n");
}

static void nodes_out_sentence(const json_t *out_of_work, struct buf *out)
{
    const char *state;
    json_t *count;
    bool first = true;
    json_object_foreach((json_t *)(uintptr_t)out_of_work, state, count)
    {
        buf_printf(out, "%s%lld %s", first ? "Nodes that take no work: " : ", ", (long long)json_integer_value(count), state);
        first = false;
    }
    if (!first)
        buf_str(out, ".\n");
}

void why_sentences(const json_t *why, struct buf *out)
{
    const char *state = json_text(why, "state", "?"), *reason = json_text(why, "reason", "nothing");
    if (strcmp(reason, "nothing") == 0)
        buf_printf(out, "Job %lld is %s: %s.\n", (long long)json_int(why, "id", 0), state,
                   json_text(why, "text", reason));
    else
        buf_printf(out, "Job %lld waits: %s.\n", (long long)json_int(why, "id", 0), json_text(why, "text", reason));
    if (json_text(why, "note", NULL))
        buf_printf(out, "Its node says: %s.\n", json_text(why, "note", ""));
    details(out, why, reason);
    const json_t *one;
    size_t i;
    json_array_foreach(json_object_get(why, "all"), i, one)
    {
        const char *also = json_text(one, "reason", "");
        if (strcmp(also, reason) == 0)
            continue;
        buf_printf(out, "Also: %s.\n", json_text(one, "text", also));
        details(out, why, also);
    }
    nodes_out_sentence(json_object_get(why, "nodes_out"), out);
    const json_t *change = json_object_get(why, "change");
    if (json_is_object(change))
        change_sentence(why, change, out);
    const json_t *estimate = json_object_get(why, "estimate");
    if (json_is_object(estimate) && strcmp(reason, "nothing") != 0) {
        buf_str(out, "Start: ");
        estimate_words(estimate, out);
        buf_str(out, ".\n");
    }
}
