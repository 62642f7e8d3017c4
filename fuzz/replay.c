/* replay SEEDS: a fuzz target without a fuzzer, as a test: every input of the file, one in hexadecimal per line, and some thousand
 * inputs made from them, the same in each run. It finds what was found before, and what is near; tools/fuzz looks further. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/prng.h"

#define MADE 4000
#define INPUT_BYTES_MAX 8192u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input { uint8_t *data; size_t size; };
struct inputs { struct input *list; size_t count, cap; };

static void add_line(struct inputs *inputs, const char *line)
{
    size_t size = strspn(line, "0123456789abcdef") / 2;
    check(size <= INPUT_BYTES_MAX);
    inputs->list = mem_grow(inputs->list, &inputs->cap, inputs->count + 1, sizeof *inputs->list);
    struct input *in = &inputs->list[inputs->count++];
    in->data = mem_alloc(size + 1);
    in->size = size;
    for (size_t i = 0; i < size; i++) {
        char pair[3] = { line[2 * i], line[2 * i + 1], 0 };
        in->data[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
}

static int read_inputs(struct inputs *inputs, const char *path)
{
    FILE *f = fopen(path, "re");
    char *line = NULL;
    size_t room = 0;
    if (!f) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }
    while (getline(&line, &room, f) > 0)
        add_line(inputs, line);
    free(line);
    fclose(f);
    return inputs->count > 0 ? 0 : -1;
}

static size_t insert(struct prng *random, uint8_t *data, size_t size, const struct input *from)
{
    if (from->size == 0)
        return size;
    size_t begin = prng_below(random, from->size), length = prng_below(random, from->size - begin) + 1;
    if (length > INPUT_BYTES_MAX - size)
        length = INPUT_BYTES_MAX - size;
    size_t at = prng_below(random, size + 1);
    memmove(data + at + length, data + at, size - at);
    memcpy(data + at, from->data + begin, length);
    return size + length;
}

/* One small change. */
static size_t change(struct prng *random, uint8_t *data, size_t size, const struct input *other)
{
    static const uint8_t odd[] = { 0, 1, 0x7f, 0x80, 0xff, '\n', '"', '%' };
    size_t at = size ? prng_below(random, size) : 0;
    switch (size ? prng_below(random, 6) : 5) {
    case 0:
        data[at] ^= (uint8_t)(1u << prng_below(random, 8));
        return size;
    case 1:
        data[at] = (uint8_t)prng_u64(random);
        return size;
    case 2:
        data[at] = odd[prng_below(random, sizeof odd)];
        return size;
    case 3:
        return at;
    case 4:
        memmove(data + at, data + at + 1, size - at - 1);
        return size - 1;
    default:
        return insert(random, data, size, other);
    }
}

/* The target may look no further than the input goes: it gets its own piece of memory, which the sanitizer watches. */
static void try_input(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size ? size : 1);
    check(exact);
    memcpy(exact, data, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

int main(int argc, char **argv)
{
    static uint8_t made[INPUT_BYTES_MAX];
    struct inputs inputs = { 0 };
    struct prng random;
    if (argc != 2 || read_inputs(&inputs, argv[1]) < 0) {
        fprintf(stderr, "replay: a file with one input per line is needed\n");
        return 1;
    }
    for (size_t i = 0; i < inputs.count; i++)
        try_input(inputs.list[i].data, inputs.list[i].size);
    prng_seed(&random, 1);
    for (int i = 0; i < MADE; i++) {
        const struct input *from = &inputs.list[prng_below(&random, inputs.count)];
        size_t size = from->size;
        memcpy(made, from->data, size);
        for (uint64_t changes = prng_below(&random, 4) + 1; changes; changes--)
            size = change(&random, made, size, &inputs.list[prng_below(&random, inputs.count)]);
        try_input(made, size);
    }
    for (size_t i = 0; i < inputs.count; i++)
        free(inputs.list[i].data);
    free(inputs.list);
    return 0;
}
