#include "worker/environment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"

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

static char **make_env(struct arena *arena, const struct environment *e, const struct job_spec *spec,
                       const struct exec_command *command)
{
    static const char path[] = "PATH=" JOB_PATH;
    size_t own = 9, used = 0;
    char **env = arena_alloc(arena, (e->base_count + spec->env_count + own + 1) * sizeof *env);
    if (!job_sets(spec, path))
        env[used++] = (char *)(uintptr_t)path;
    for (size_t i = 0; i < e->base_count; i++)
        if (!job_sets(spec, e->base[i]))
            env[used++] = e->base[i];
    for (size_t i = 0; i < spec->env_count; i++)
        if (environment_allows(spec->env[i].name))
            env[used++] = pair(arena, spec->env[i].name, spec->env[i].value);
    env[used++] = pair_number(arena, "ROTA_JOB_ID", command->ref.job.n);
    if (command->index != TASK_SINGLE)
        env[used++] = pair_number(arena, "ROTA_TASK_ID", command->index);
    env[used++] = pair_number(arena, "ROTA_ATTEMPT", command->ref.attempt);
    env[used++] = (char *)(uintptr_t)e->node;
    env[used++] = pair_milli(arena, "ROTA_CPUS", command->need.v[RES_CPU]);
    env[used++] = pair_number(arena, "ROTA_MEM_BYTES", command->need.v[RES_MEM]);
    env[used++] = pair_milli(arena, "ROTA_GPUS", command->need.v[RES_GPU]);
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

static const char *path_or_null(struct arena *arena, struct bytes path, uint32_t index)
{
    return path.size ? environment_replace(arena, path, index) : NULL;
}

void environment_job(struct arena *arena, const struct environment *e, const struct job_spec *spec,
                     const struct exec_command *command, struct exec_job *out)
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
        .env = make_env(arena, e, spec, command),
        .workdir = path_or_null(arena, spec->workdir, index),
        .stdin_path = path_or_null(arena, spec->stdin_path, index),
        .stdout_path = path_or_null(arena, spec->stdout_path, index),
        .stderr_path = path_or_null(arena, spec->stderr_path, index),
        .image = path_or_null(arena, spec->image, TASK_SINGLE),
        .need = command->need,
        .output_bytes_max = spec->output_bytes_max,
        .simulated_ms = spec->simulated_ms,
        .simulated_exit = spec->simulated_exit,
    };
}
