#include "worker/environment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/parse.h"

/* Of these a container takes only what does not speak of this machine: language and time zone. */
static const char *const inherited[] = {
    "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR",
};

/* Names a job may not set. A trailing * stands for any rest. */
static const char *const refused[] = {
    "ROTA_*", "LD_PRELOAD", "LD_AUDIT", "GCONV_PATH", "BASH_ENV", "BASH_FUNC_*", "ENV", "IFS", "SHELLOPTS", "PS4",
};

void environment_init(struct environment *e, const char *node_name)
{
    *e = (struct environment){ 0 };
    snprintf(e->node, sizeof e->node, "ROTA_NODE=%s", node_name);
    for (size_t i = 0; i < sizeof inherited / sizeof *inherited; i++) {
        const char *value = getenv(inherited[i]);
        if (!value)
            continue;
        struct buf pair = BUF_INIT;
        buf_printf(&pair, "%s=%s", inherited[i], value);
        check(e->base_count < sizeof e->base / sizeof *e->base);
        e->base[e->base_count++] = buf_take(&pair);
    }
}

void environment_fini(struct environment *e)
{
    for (size_t i = 0; i < e->base_count; i++)
        free(e->base[i]);
    *e = (struct environment){ 0 };
}

bool environment_allows(struct bytes name)
{
    if (!name.size || memchr(name.data, '=', name.size) || memchr(name.data, 0, name.size))
        return false;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        size_t size = strlen(refused[i]);
        bool prefix = refused[i][size - 1] == '*';
        size -= prefix;
        if (name.size >= size && memcmp(name.data, refused[i], size) == 0 && (prefix || name.size == size))
            return false;
    }
    return true;
}

/* Decimal digits of v, without a final zero, at the end of out[20]; returns where they begin. */
static const char *digits(uint64_t v, char out[20])
{
    char *at = out + 20;
    do {
        *--at = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    return at;
}

char *environment_replace(struct arena *arena, struct bytes text, uint32_t index)
{
    size_t places = 0;
    if (index != TASK_SINGLE)
        for (size_t i = 0; i + 1 < text.size; i++)
            if (text.data[i] == '{' && text.data[i + 1] == '}')
                places++, i++;
    if (!places)
        return arena_str(arena, text);
    char room[20];
    const char *number = digits(index, room);
    size_t number_size = (size_t)(room + sizeof room - number);
    char *out = arena_alloc(arena, text.size + places * number_size + 1), *to = out;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] == '{' && i + 1 < text.size && text.data[i + 1] == '}') {
            memcpy(to, number, number_size);
            to += number_size;
            i++;
        } else {
            *to++ = text.data[i];
        }
    }
    *to = 0;
    return out;
}

static char *pair(struct arena *arena, struct bytes name, struct bytes value)
{
    char *out = arena_alloc(arena, name.size + value.size + 2);
    memcpy(out, name.data, name.size);
    out[name.size] = '=';
    if (value.size)
        memcpy(out + name.size + 1, value.data, value.size);
    out[name.size + 1 + value.size] = 0;
    return out;
}

static char *pair_number(struct arena *arena, const char *name, uint64_t v)
{
    char room[20];
    const char *number = digits(v, room);
    return pair(arena, bytes_str(name), bytes_of(number, (size_t)(room + sizeof room - number)));
}

/* Thousandths as people write them: 1500 -> 1.5 */
static char *pair_milli(struct arena *arena, const char *name, uint64_t milli)
{
    char text[32], room[20];
    const char *whole = digits(milli / 1000, room);
    size_t size = (size_t)(room + sizeof room - whole);
    memcpy(text, whole, size);
    text[size++] = '.';
    for (unsigned rest = (unsigned)(milli % 1000), unit = 100; rest; rest %= unit, unit /= 10)
        text[size++] = (char)('0' + rest / unit);
    if (text[size - 1] == '.')
        size--;
    return pair(arena, bytes_str(name), bytes_of(text, size));
}

static bool job_sets(const struct job_spec *spec, const char *name_value)
{
    size_t size = (size_t)(strchr(name_value, '=') - name_value);
    for (size_t i = 0; i < spec->env_count; i++)
        if (spec->env[i].name.size == size && memcmp(spec->env[i].name.data, name_value, size) == 0)
            return true;
    return false;
}

/* What tells of the worker's user is not for somebody else, and not for a container. */
static bool goes_along(const struct job_spec *spec, const struct account *account, const char *pair)
{
    return (!spec->image.size && !account) || strncmp(pair, "LANG", 4) == 0 || strncmp(pair, "LC_", 3) == 0 || strncmp(pair, "TZ=", 3) == 0;
}

static size_t account_env(struct arena *arena, const struct job_spec *spec, const struct account *account, char **env)
{
    const char *const values[][2] = {
        { "USER", account->name }, { "LOGNAME", account->name }, { "HOME", account->home }, { "SHELL", account->shell },
    };
    size_t used = 0;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char *one = pair(arena, bytes_str(values[i][0]), bytes_str(values[i][1]));
        if (!job_sets(spec, one))
            env[used++] = one;
    }
    return used;
}

/* "n1,n2,n3", by rank. */
static struct bytes members_text(struct arena *arena, const struct job_spec *spec)
{
    autobuf struct buf text = BUF_INIT;
    for (size_t i = 0; i < spec->members_count; i++) {
        buf_str(&text, i ? "," : "");
        buf_add(&text, spec->members[i].data, spec->members[i].size);
    }
    return arena_bytes(arena, buf_bytes(&text));
}

static char **make_env(struct arena *arena, const struct environment *e, const struct job_spec *spec,
                       const struct exec_command *command, const struct account *account)
{
    static const char path[] = "PATH=" JOB_PATH;
    size_t own = 24, used = 0;
    char **env = arena_alloc(arena, (e->base_count + spec->env_count + own + 1) * sizeof *env);
    if (!spec->image.size && !job_sets(spec, path)) /* an image has its own */
        env[used++] = (char *)(uintptr_t)path;
    for (size_t i = 0; i < e->base_count; i++)
        if (!job_sets(spec, e->base[i]) && goes_along(spec, account, e->base[i]))
            env[used++] = e->base[i];
    if (account && !spec->image.size)
        used += account_env(arena, spec, account, env + used);
    for (size_t i = 0; i < spec->env_count; i++)
        if (environment_allows(spec->env[i].name) && !(command->gpus.size && bytes_equal(spec->env[i].name, bytes_str("CUDA_VISIBLE_DEVICES"))))
            env[used++] = pair(arena, spec->env[i].name, spec->env[i].value);
    env[used++] = pair_number(arena, "ROTA_JOB_ID", command->ref.job.n);
    if (command->index != TASK_SINGLE)
        env[used++] = pair_number(arena, "ROTA_TASK_ID", command->index);
    env[used++] = pair_number(arena, "ROTA_ATTEMPT", command->ref.attempt);
    env[used++] = (char *)(uintptr_t)e->node;
    env[used++] = pair_milli(arena, "ROTA_CPUS", command->need.v[RES_CPU]);
    env[used++] = pair_number(arena, "ROTA_MEM_BYTES", command->need.v[RES_MEM]);
    /* By number; who asked for none has none, and sees none. */
    env[used++] = pair(arena, bytes_str("ROTA_GPUS"), command->gpus);
    if (e->gpus && (command->gpus.size || !job_sets(spec, "CUDA_VISIBLE_DEVICES=")))
        env[used++] = pair(arena, bytes_str("CUDA_VISIBLE_DEVICES"), command->gpus);
    env[used++] = pair_milli(arena, "ROTA_GPU_COUNT", command->need.v[RES_GPU]);
    if (command->cpus.size)
        env[used++] = pair(arena, bytes_str("ROTA_CPU_LIST"), command->cpus);
    if (spec->request.nodes > 1) {
        env[used++] = pair_number(arena, "ROTA_NODE_COUNT", spec->request.nodes);
        env[used++] = pair_number(arena, "ROTA_NODE_RANK", command->index);
        env[used++] = pair(arena, bytes_str("ROTA_NODES"), members_text(arena, spec));
    }
    if (spec->cron.size) {
        autobuf struct buf due = BUF_INIT;
        format_time(&due, spec->cron_due_wall_ms);
        env[used++] = pair(arena, bytes_str("ROTA_CRON"), spec->cron);
        env[used++] = pair(arena, bytes_str("ROTA_CRON_DUE"), buf_bytes(&due));
    }
    static const char hex[] = "0123456789abcdef";
    char fence[32];
    for (int i = 0; i < 16; i++) {
        fence[i] = hex[command->token.high >> (60 - 4 * i) & 15];
        fence[16 + i] = hex[command->token.low >> (60 - 4 * i) & 15];
    }
    env[used++] = pair(arena, bytes_str("ROTA_FENCE"), bytes_of(fence, sizeof fence));
    env[used] = NULL;
    return env;
}

_Static_assert((int)EXEC_PULL_MISSING == (int)SPEC_PULL_MISSING && (int)EXEC_PULL_ALWAYS == (int)SPEC_PULL_ALWAYS &&
                   (int)EXEC_PULL_NEVER == (int)SPEC_PULL_NEVER,
               "the same words");

static const char *path_or_null(struct arena *arena, struct bytes path, uint32_t index)
{
    return path.size ? environment_replace(arena, path, index) : NULL;
}

static const char *text_or_null(struct arena *arena, struct bytes text)
{
    return text.size ? arena_str(arena, text) : NULL;
}

void environment_job(struct arena *arena, const struct environment *e, const struct job_spec *spec,
                     const struct exec_command *command, const struct account *account, struct exec_job *out)
{
    uint32_t index = command->index;
    char **argv = arena_alloc(arena, (spec->command_count + 1) * sizeof *argv);
    for (size_t i = 0; i < spec->command_count; i++)
        argv[i] = environment_replace(arena, spec->command[i], index);
    argv[spec->command_count] = NULL;
    *out = (struct exec_job){
        .ref = command->ref,
        .index = index,
        .argv = argv,
        .env = make_env(arena, e, spec, command, account),
        .workdir = path_or_null(arena, spec->workdir, index),
        .stdin_path = path_or_null(arena, spec->stdin_path, index),
        .stdout_path = path_or_null(arena, spec->stdout_path, index),
        .stderr_path = path_or_null(arena, spec->stderr_path, index),
        .image = path_or_null(arena, spec->image, TASK_SINGLE),
        .pull = (enum exec_pull)spec->pull,
        .need = command->need,
        .gpus = text_or_null(arena, command->gpus),
        .cpus = text_or_null(arena, command->cpus),
        .account = account ? &account->who : NULL,
        .overlap_never = command->overlap_never,
        .output_bytes_max = spec->output_bytes_max,
        .simulated_ms = spec->simulated_ms,
        .simulated_exit = spec->simulated_exit,
    };
    if (account && !out->workdir && !out->image)
        out->workdir = account->home;
}
