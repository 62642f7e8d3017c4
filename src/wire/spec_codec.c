#include <stdlib.h>

#include "base/check.h"
#include "base/mem.h"
#include "jobspec.pb-c.h"
#include "wire/spec.h"

#define MEMBERS_TAG (56u << 3 | 2u) /* schema/jobspec.proto: field 56, a length and as many bytes */

/* What unpacking may take from the arena. The lists of a spec within SPEC_BYTES_MAX that passes spec_check need less
 * than a tenth of this; bytes that need more are not a spec. */
#define DECODE_BYTES_MAX (4u * 1024 * 1024)

/* --- encoding: messages that borrow everything, in one block of memory --- */

static ProtobufCBinaryData binary(struct bytes text)
{
    return (ProtobufCBinaryData){ .len = text.size, .data = (uint8_t *)(uintptr_t)text.data };
}

/* Hands out pieces of one block whose size was counted before. */
struct block {
    char *at, *end;
};

static void *block_take(struct block *b, size_t count, size_t bytes)
{
    void *memory = b->at;
    size_t need = (count * bytes + 15) & ~(size_t)15;
    check((size_t)(b->end - b->at) >= need);
    b->at += need;
    return memory;
}

static Rota__SpecPair **encode_pairs(struct block *b, const struct spec_pair *pairs, size_t count)
{
    Rota__SpecPair **list = block_take(b, count, sizeof *list);
    Rota__SpecPair *all = block_take(b, count, sizeof *all);
    for (size_t i = 0; i < count; i++) {
        rota__spec_pair__init(&all[i]);
        all[i].name = binary(pairs[i].name);
        all[i].value = binary(pairs[i].value);
        list[i] = &all[i];
    }
    return list;
}

static Rota__SpecResource **encode_counts(struct block *b, const struct named_resource *counts, size_t count)
{
    Rota__SpecResource **list = block_take(b, count, sizeof *list);
    Rota__SpecResource *all = block_take(b, count, sizeof *all);
    for (size_t i = 0; i < count; i++) {
        rota__spec_resource__init(&all[i]);
        all[i].name = binary(bytes_str(counts[i].name));
        all[i].count = counts[i].count;
        list[i] = &all[i];
    }
    return list;
}

static void encode_resources(struct block *b, const struct job_request *r, Rota__JobSpec *to)
{
    to->n_resources = r->named_count;
    to->resources = encode_counts(b, r->named, r->named_count);
    to->n_tokens = r->tokens_count;
    to->tokens = encode_counts(b, r->tokens, r->tokens_count);
}

static void encode_after(struct block *b, const struct job_request *r, Rota__JobSpec *to)
{
    to->n_after = r->after_count;
    to->after = block_take(b, r->after_count, sizeof *to->after);
    Rota__SpecAfter *all = block_take(b, r->after_count, sizeof *all);
    for (size_t i = 0; i < r->after_count; i++) {
        rota__spec_after__init(&all[i]);
        all[i].job = r->after[i].job.n;
        all[i].when = r->after[i].when;
        to->after[i] = &all[i];
    }
}

static void encode_request(const struct job_request *r, Rota__JobSpec *to)
{
    to->user = binary(r->user);
    to->queue = binary(r->queue);
    if (!bytes_equal(r->account, bytes_str(ACCOUNT_DEFAULT)))
        to->account = binary(r->account);
    to->name = binary(r->name);
    to->where = binary(r->where);
    to->priority = r->priority;
    to->cpu_milli = r->need.v[RES_CPU];
    to->mem_bytes = r->need.v[RES_MEM];
    to->gpu_milli = r->need.v[RES_GPU];
    to->tasks = r->tasks;
    to->first = r->first;
    to->step = r->step;
    to->limit = r->limit;
    to->time_limit_ms = r->time_limit_ms;
    to->grace_ms = r->grace_ms;
    to->lost_after_ms = r->lost_after_ms;
    to->retries = r->retries;
    to->backoff_ms = r->backoff_ms;
    to->backoff_max_ms = r->backoff_max_ms;
    to->begin_wall_ms = r->begin_wall_ms;
    to->deadline_wall_ms = r->deadline_wall_ms;
    to->held = r->held;
    to->overlap_never = r->overlap_never;
    to->retry_of = r->retry_of.n;
}

void spec_add_member(struct buf *encoded, struct bytes name)
{
    buf_varint(encoded, MEMBERS_TAG);
    buf_varint(encoded, name.size);
    buf_add(encoded, name.data, name.size);
}

void spec_encode(struct buf *out, const struct job_spec *spec)
{
    const struct job_request *r = &spec->request;
    size_t pairs = spec->env_count + spec->labels_count;
    size_t bytes = spec->command_count * sizeof(ProtobufCBinaryData) +
                   pairs * (sizeof(Rota__SpecPair) + sizeof(void *)) +
                   (r->named_count + r->tokens_count) * (sizeof(Rota__SpecResource) + sizeof(void *)) +
                   r->after_count * (sizeof(Rota__SpecAfter) + sizeof(void *)) + 11 * 16;
    autofree char *memory = mem_alloc(bytes);
    struct block block = { memory, memory + bytes };
    Rota__JobSpec m = ROTA__JOB_SPEC__INIT;
    encode_request(r, &m);
    encode_resources(&block, r, &m);
    encode_after(&block, r, &m);
    m.n_command = spec->command_count;
    m.command = block_take(&block, spec->command_count, sizeof *m.command);
    for (size_t i = 0; i < spec->command_count; i++)
        m.command[i] = binary(spec->command[i]);
    m.n_env = spec->env_count;
    m.env = encode_pairs(&block, spec->env, spec->env_count);
    m.n_labels = spec->labels_count;
    m.labels = encode_pairs(&block, spec->labels, spec->labels_count);
    m.workdir = binary(spec->workdir);
    m.stdin_path = binary(spec->stdin_path);
    m.stdout_path = binary(spec->stdout_path);
    m.stderr_path = binary(spec->stderr_path);
    m.image = binary(spec->image);
    m.mem_max_bytes = spec->request.mem_max_bytes;
    m.nodes = spec->request.nodes;
    m.cron = binary(spec->cron);
    m.cron_due_wall_ms = spec->cron_due_wall_ms;
    m.notify = binary(spec->notify);
    m.key = binary(spec->key);
    m.output_bytes_max = spec->output_bytes_max;
    m.pull = spec->pull;
    m.mem_auto = spec->mem_auto;
    m.mem_runs = spec->mem_runs;
    m.mem_start_bytes = spec->mem_start_bytes;
    m.simulated_ms = spec->simulated_ms;
    m.simulated_exit = spec->simulated_exit;
    size_t size = rota__job_spec__get_packed_size(&m);
    buf_reserve(out, size);
    size_t packed = rota__job_spec__pack(&m, (uint8_t *)out->data + out->size);
    check(packed == size);
    out->size += size;
    out->data[out->size] = 0;
}

/* --- decoding --- */

struct limited {
    struct arena *arena;
    size_t left;
};

static void *limited_alloc(void *data, size_t size)
{
    struct limited *l = data;
    if (size > l->left)
        return NULL;
    l->left -= size;
    return arena_alloc(l->arena, size);
}

static void limited_free(void *data, void *memory)
{
    (void)data, (void)memory; /* the arena's owner frees all at once */
}

/* Copied once more, so that the final zero is there. */
static struct bytes text(struct arena *arena, ProtobufCBinaryData data)
{
    return bytes_of(arena_str(arena, bytes_of(data.data, data.len)), data.len);
}

static const struct spec_pair *decode_pairs(struct arena *arena, Rota__SpecPair *const *from, size_t count)
{
    struct spec_pair *pairs = arena_alloc(arena, count * sizeof *pairs);
    for (size_t i = 0; i < count; i++)
        pairs[i] = (struct spec_pair){ text(arena, from[i]->name), text(arena, from[i]->value) };
    return pairs;
}

static void decode_request(struct arena *arena, const Rota__JobSpec *m, struct job_request *r)
{
    *r = (struct job_request){
        .user = text(arena, m->user),
        .queue = text(arena, m->queue),
        .account = m->account.len ? text(arena, m->account) : bytes_str(ACCOUNT_DEFAULT),
        .name = text(arena, m->name),
        .where = text(arena, m->where),
        .need.v = { [RES_CPU] = m->cpu_milli, [RES_MEM] = m->mem_bytes, [RES_GPU] = m->gpu_milli },
        .priority = m->priority,
        .tasks = m->tasks,
        .first = m->first,
        .step = m->step ? m->step : 1,
        .limit = m->limit,
        .time_limit_ms = m->time_limit_ms,
        .grace_ms = m->grace_ms,
        .lost_after_ms = m->lost_after_ms,
        .retries = m->retries,
        .backoff_ms = m->backoff_ms,
        .backoff_max_ms = m->backoff_max_ms,
        .begin_wall_ms = m->begin_wall_ms,
        .deadline_wall_ms = m->deadline_wall_ms,
        .held = m->held != 0,
        .overlap_never = m->overlap_never != 0,
        .retry_of = { m->retry_of },
        .mem_max_bytes = m->mem_max_bytes,
        .nodes = m->nodes ? m->nodes : 1,
    };
    struct after *after = arena_alloc(arena, m->n_after * sizeof *after);
    for (size_t i = 0; i < m->n_after; i++)
        after[i] = (struct after){ { m->after[i]->job }, (enum after_when)m->after[i]->when };
    r->after = after;
    r->after_count = m->n_after;
}

/* NULL: a name is too long for a named resource. */
static const struct named_resource *decode_counts(struct arena *arena, Rota__SpecResource *const *list, size_t count)
{
    struct named_resource *named = arena_alloc(arena, (count + 1) * sizeof *named);
    for (size_t i = 0; i < count; i++) {
        named[i] = (struct named_resource){ .count = list[i]->count };
        if (list[i]->name.len >= RES_NAME_BYTES)
            return NULL;
        if (list[i]->name.len)
            memcpy(named[i].name, list[i]->name.data, list[i]->name.len);
    }
    return named;
}

int spec_decode(struct arena *arena, struct bytes encoded, struct job_spec *out, struct err *err)
{
    if (encoded.size > SPEC_BYTES_MAX + SPEC_MEMBERS_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "an encoded job of %zu bytes is longer than %u", encoded.size,
                       SPEC_BYTES_MAX + SPEC_MEMBERS_BYTES_MAX);
    struct limited limited = { arena, DECODE_BYTES_MAX };
    ProtobufCAllocator allocator = { limited_alloc, limited_free, &limited };
    const Rota__JobSpec *m = rota__job_spec__unpack(&allocator, encoded.size, (const uint8_t *)encoded.data);
    struct job_spec spec = { .command = NULL };
    const struct named_resource *named = m ? decode_counts(arena, m->resources, m->n_resources) : NULL;
    const struct named_resource *tokens = m ? decode_counts(arena, m->tokens, m->n_tokens) : NULL;
    if (!named || !tokens)
        return err_set(err, ERR_CORRUPT, "%zu bytes are not an encoded job", encoded.size);
    decode_request(arena, m, &spec.request);
    spec.request.named = named;
    spec.request.named_count = m->n_resources;
    spec.request.tokens = tokens;
    spec.request.tokens_count = m->n_tokens;
    struct bytes *command = arena_alloc(arena, m->n_command * sizeof *command);
    for (size_t i = 0; i < m->n_command; i++)
        command[i] = text(arena, m->command[i]);
    spec.command = command;
    spec.command_count = m->n_command;
    spec.env = decode_pairs(arena, m->env, m->n_env);
    spec.env_count = m->n_env;
    spec.labels = decode_pairs(arena, m->labels, m->n_labels);
    spec.labels_count = m->n_labels;
    spec.workdir = text(arena, m->workdir);
    spec.stdin_path = text(arena, m->stdin_path);
    spec.stdout_path = text(arena, m->stdout_path);
    spec.mem_auto = m->mem_auto != 0;
    spec.mem_runs = m->mem_runs;
    spec.mem_start_bytes = m->mem_start_bytes;
    spec.stderr_path = text(arena, m->stderr_path);
    spec.image = text(arena, m->image);
    struct bytes *members = arena_alloc(arena, m->n_members * sizeof *members);
    for (size_t i = 0; i < m->n_members; i++)
        members[i] = text(arena, m->members[i]);
    spec.members = members;
    spec.members_count = m->n_members;
    spec.cron = text(arena, m->cron);
    spec.cron_due_wall_ms = m->cron_due_wall_ms;
    spec.notify = text(arena, m->notify);
    spec.key = text(arena, m->key);
    spec.output_bytes_max = m->output_bytes_max;
    if (m->pull <= SPEC_PULL_NEVER)
        spec.pull = (enum spec_pull)m->pull;
    spec.simulated_ms = m->simulated_ms;
    spec.simulated_exit = m->simulated_exit;
    struct err inner;
    if (spec_check(&spec, &inner) < 0)
        return err_field(err, ERR_CORRUPT, inner.field, inner.remedy, "the encoded job breaks a rule: %s", inner.text);
    *out = spec;
    return 0;
}
