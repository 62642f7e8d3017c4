#include "exec/engine_json.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/mem.h"

#define OPEN_FILES_MAX 65536 /* or as many as we may, as the engine can not give what it has not */

static void json_free_at(json_t **v)
{
    json_decref(*v);
}
#define autojson __attribute__((cleanup(json_free_at)))

/* --- asking --- */

/* NULL when one of them is not UTF-8. */
static json_t *strings(char *const *list)
{
    json_t *array = json_array();
    for (; list && *list; list++)
        if (json_array_append_new(array, json_string(*list)) < 0) {
            json_decref(array);
            return NULL;
        }
    return array;
}

static json_t *number_label(uint64_t v)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, v);
    return json_string(text);
}

static json_t *labels_of(const struct engine_labels *l)
{
    json_t *labels = json_object();
    json_object_set_new(labels, "rota.worker", json_string(l->worker));
    json_object_set_new(labels, "rota.job", number_label(l->ref.job.n));
    json_object_set_new(labels, "rota.attempt", number_label(l->ref.attempt));
    if (l->ref.task != TASK_SINGLE)
        json_object_set_new(labels, "rota.task", number_label(l->ref.task));
    return labels;
}

static json_t *mounts_of(const struct engine_container *c)
{
    json_t *mounts = json_array();
    for (size_t i = 0; i < c->mounts_count; i++)
        json_array_append_new(mounts,
                              json_pack("{s:s,s:s,s:s,s:b}", "Type", "bind", "Source", c->mounts[i].source, "Target",
                                        c->mounts[i].target, "ReadOnly", (int)c->mounts[i].read_only));
    return mounts;
}

static json_t *log_config(uint64_t bytes)
{
    if (!bytes)
        return json_pack("{s:s}", "Type", "none");
    char size[24];
    snprintf(size, sizeof size, "%" PRIu64, bytes);
    return json_pack("{s:s,s:{s:s,s:s}}", "Type", "json-file", "Config", "max-size", size, "max-file", "1");
}

/* The engine's runtime for GPUs finds them by their numbers. */
static json_t *device_requests(const char *gpus)
{
    json_t *ids = json_array();
    for (const char *at = gpus; *at;) {
        size_t size = strcspn(at, ",");
        json_array_append_new(ids, json_stringn(at, size));
        at += size + (at[size] == ',');
    }
    return json_pack("[{s:s,s:o,s:[[s]]}]", "Driver", "", "DeviceIDs", ids, "Capabilities", "gpu");
}

/* What a job in a container may do, and no more (guarantees: security defaults of a job container). */
static json_t *host_config(const struct engine_container *c)
{
    char tmp[96];
    struct rlimit own;
    int files =
        getrlimit(RLIMIT_NOFILE, &own) == 0 && own.rlim_max < OPEN_FILES_MAX ? (int)own.rlim_max : OPEN_FILES_MAX;
    snprintf(tmp, sizeof tmp, "rw,nosuid,nodev,mode=1777,size=%" PRIu64, c->tmp_bytes);
    json_t *host = json_pack("{s:[s],s:[s],s:b,s:{s:s},s:s,s:s,s:b,s:I,s:i,s:[{s:s,s:i,s:i},{s:s,s:i,s:i}]}", "CapDrop",
                             "ALL", "SecurityOpt", "no-new-privileges", "ReadonlyRootfs", 1, "Tmpfs", "/tmp", tmp,
                             "NetworkMode", c->network, "IpcMode", "private", "Init", (int)c->init, "PidsLimit",
                             (json_int_t)c->pids_max, "OomScoreAdj", 500, "Ulimits", "Name", "core", "Soft", 0, "Hard",
                             0, "Name", "nofile", "Soft", files, "Hard", files);
    if (!host)
        return NULL;
    json_object_set_new(host, "Mounts", mounts_of(c));
    json_object_set_new(host, "LogConfig", log_config(c->log_bytes));
    json_object_set_new(host, "RestartPolicy", json_pack("{s:s}", "Name", "no"));
    if (c->mem_bytes) {
        json_object_set_new(host, "Memory", json_integer((json_int_t)c->mem_bytes));
        json_object_set_new(host, "MemorySwap", json_integer((json_int_t)c->mem_bytes)); /* of both: no swap on top */
    }
    if (c->cpus)
        json_object_set_new(host, "CpusetCpus", json_string(c->cpus));
    if (c->gpus)
        json_object_set_new(host, "DeviceRequests", device_requests(c->gpus));
    if (c->cpu_milli)
        json_object_set_new(host, "NanoCpus", json_integer((json_int_t)(c->cpu_milli * 1000000)));
    return host;
}

int engine_json_create(const struct engine_container *c, struct buf *out, struct err *err)
{
    autojson json_t *host = host_config(c);
    autojson json_t *entrypoint = strings(c->entrypoint);
    autojson json_t *command = strings(c->command);
    autojson json_t *env = strings(c->env);
    autojson json_t *labels = labels_of(&c->labels);
    autojson json_t *body =
        host && entrypoint && command && env
            ? json_pack("{s:s,s:s,s:O,s:O,s:O,s:O,s:O}", "Image", c->image, "User", c->user, "Entrypoint", entrypoint,
                        "Cmd", command, "Env", env, "Labels", labels, "HostConfig", host)
            : NULL;
    if (body && c->workdir)
        json_object_set_new(body, "WorkingDir", json_string(c->workdir));
    autofree char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    if (!text || (c->workdir && !json_object_get(body, "WorkingDir")))
        return err_set(err, ERR_INVALID,
                       "the command, the environment or a path is not UTF-8: a container can not take it");
    buf_str(out, text);
    return 0;
}

/* ["rota.worker=HEX"] as the value of `filters`, its few special characters encoded. */
void engine_json_filter(struct buf *out, const char *worker)
{
    buf_printf(out, "%%7B%%22label%%22%%3A%%5B%%22rota.worker%%3D%s%%22%%5D%%7D", worker);
}

/* --- answers --- */

static json_t *load(struct bytes body)
{
    return body.size ? json_loadb(body.data, body.size, 0, NULL) : NULL;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

/* Decimal digits and nothing else. */
static bool label_number(const json_t *labels, const char *key, uint64_t max, uint64_t *out)
{
    const char *text = text_of(labels, key);
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    *out = strtoull(text, &end, 10);
    return *end == 0 && *out <= max;
}

static void read_labels(const json_t *labels, struct engine_labels *out)
{
    uint64_t job, attempt, task = TASK_SINGLE;
    *out = (struct engine_labels){ 0 };
    snprintf(out->worker, sizeof out->worker, "%s", text_of(labels, "rota.worker"));
    if (!label_number(labels, "rota.job", UINT64_MAX, &job) ||
        !label_number(labels, "rota.attempt", UINT32_MAX, &attempt) ||
        (json_object_get(labels, "rota.task") && !label_number(labels, "rota.task", UINT32_MAX, &task)))
        return;
    out->ref = (struct attempt_ref){ { job }, (uint32_t)task, (uint32_t)attempt };
}

static enum engine_status status_of(const char *text)
{
    static const struct {
        const char *text;
        enum engine_status status;
    } words[] = { { "created", ENGINE_CREATED }, { "running", ENGINE_ALIVE },      { "paused", ENGINE_ALIVE },
                  { "exited", ENGINE_EXITED },   { "dead", ENGINE_EXITED },        { "restarting", ENGINE_ALIVE },
                  { "removing", ENGINE_GOING },  { "configured", ENGINE_CREATED }, { "stopped", ENGINE_EXITED } };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(text, words[i].text) == 0)
            return words[i].status;
    return ENGINE_ALIVE; /* one that we do not know: nothing is concluded from it */
}

bool engine_json_state(struct bytes body, struct engine_state *out)
{
    autojson json_t *v = load(body);
    const json_t *state = json_object_get(v, "State");
    if (!json_is_object(state))
        return false;
    *out = (struct engine_state){
        .status = status_of(text_of(state, "Status")),
        .started = *text_of(state, "StartedAt") && strncmp(text_of(state, "StartedAt"), "0001-", 5) != 0,
        .oom_killed = json_is_true(json_object_get(state, "OOMKilled")),
        .exit_code = (int)json_integer_value(json_object_get(state, "ExitCode")),
        .pid = (int)json_integer_value(json_object_get(state, "Pid")),
    };
    snprintf(out->image_id, sizeof out->image_id, "%s", text_of(v, "Image"));
    read_labels(json_object_get(json_object_get(v, "Config"), "Labels"), &out->labels);
    return true;
}

bool engine_json_list(struct bytes body, void (*visit)(void *arg, const char *name, enum engine_status status),
                      void *arg)
{
    autojson json_t *list = load(body);
    size_t index;
    json_t *item;
    if (!json_is_array(list))
        return false;
    json_array_foreach(list, index, item)
    {
        const char *name = json_string_value(json_array_get(json_object_get(item, "Names"), 0));
        if (name)
            visit(arg, *name == '/' ? name + 1 : name, status_of(text_of(item, "State")));
    }
    return true;
}

bool engine_json_exit(struct bytes body, int *code)
{
    autojson json_t *v = load(body);
    const json_t *status = json_object_get(v, "StatusCode");
    const char *error = text_of(json_object_get(v, "Error"), "Message");
    if (!json_is_integer(status) || *error)
        return false;
    *code = (int)json_integer_value(status);
    return true;
}

bool engine_json_image(struct bytes body, char *digest, size_t size)
{
    autojson json_t *v = load(body);
    const char *in_registry = json_string_value(json_array_get(json_object_get(v, "RepoDigests"), 0));
    const char *at = in_registry ? strchr(in_registry, '@') : NULL;
    snprintf(digest, size, "%s", at ? at + 1 : text_of(v, "Id"));
    return *digest != 0;
}

bool engine_json_info(struct bytes body, struct engine_info *out)
{
    autojson json_t *v = load(body);
    *out = (struct engine_info){ .live_restore = json_is_true(json_object_get(v, "LiveRestoreEnabled")) };
    snprintf(out->version, sizeof out->version, "%s", text_of(v, "ServerVersion"));
    snprintf(out->cgroup, sizeof out->cgroup, "%s", text_of(v, "CgroupVersion"));
    snprintf(out->driver, sizeof out->driver, "%s", text_of(v, "CgroupDriver"));
    return *out->version != 0;
}

static void clean(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = ' ';
}

void engine_json_message(struct bytes body, char *out, size_t size)
{
    autojson json_t *v = load(body);
    const char *message = text_of(v, "message");
    if (*message)
        snprintf(out, size, "%s", message);
    else
        snprintf(out, size, "%.*s", (int)(body.size < size ? body.size : size - 1), body.size ? body.data : "");
    clean(out);
    for (size_t end = strlen(out); end && out[end - 1] == ' '; end--)
        out[end - 1] = 0;
}

bool engine_json_pull(struct bytes line, struct engine_pull_line *out)
{
    autojson json_t *v = load(line);
    const json_t *progress = json_object_get(v, "progressDetail");
    const char *error = text_of(json_object_get(v, "errorDetail"), "message");
    *out = (struct engine_pull_line){ 0 };
    if (!json_is_object(v))
        return false;
    json_int_t current = json_integer_value(json_object_get(progress, "current"));
    json_int_t total = json_integer_value(json_object_get(progress, "total"));
    out->current = current > 0 ? (uint64_t)current : 0;
    out->total = total > 0 ? (uint64_t)total : 0;
    snprintf(out->error, sizeof out->error, "%s", *error ? error : text_of(v, "error"));
    if (!*out->error && (json_object_get(v, "error") || json_object_get(v, "errorDetail")))
        snprintf(out->error, sizeof out->error, "the engine says that it failed, and not why");
    snprintf(out->status, sizeof out->status, "%s", text_of(v, "status"));
    snprintf(out->id, sizeof out->id, "%s", text_of(v, "id"));
    static const char *const there[] = { "Download complete", "Pull complete", "Already exists", "Extracting", "Verifying Checksum" };
    for (size_t i = 0; i < sizeof there / sizeof *there; i++)
        out->done |= strcmp(out->status, there[i]) == 0;
    clean(out->error);
    clean(out->status);
    return true;
}
