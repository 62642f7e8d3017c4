/* What a container engine says: frames of output, lines of a pull, and the JSON of its answers. */
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "exec/engine_json.h"
#include "exec/engine_stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct total {
    size_t payload, lines;
};

static void count_payload(void *arg, enum engine_frame type, struct bytes data)
{
    struct total *t = arg;
    check(type <= FRAME_ENGINE && data.size > 0);
    t->payload += data.size;
}

static void count_line(void *arg, struct bytes line)
{
    struct total *t = arg;
    struct engine_pull_line l;
    check(line.size <= ENGINE_LINE_BYTES_MAX && !memchr(line.data, '\n', line.size));
    if (engine_json_pull(line, &l))
        for (const char *c = l.error; *c; c++)
            check((unsigned char)*c >= ' ');
    t->lines++;
}

/* The same bytes in pieces of any size say the same. */
static void streams(struct bytes text, size_t piece)
{
    struct engine_frames f = { 0 };
    struct engine_lines l = { 0 };
    static size_t payload, lines;
    struct total t = { 0 };
    for (size_t at = 0; at < text.size; at += piece) {
        struct bytes part = bytes_of(text.data + at, text.size - at < piece ? text.size - at : piece);
        engine_frames_take(&f, part, count_payload, &t);
        engine_lines_take(&l, part, count_line, &t);
    }
    engine_lines_end(&l, count_line, &t);
    buf_fini(&l.line);
    check(t.payload <= text.size);
    check(piece == 1 || (t.payload == payload && t.lines == lines));
    payload = t.payload;
    lines = t.lines;
}

static void count_container(void *arg, const char *name, enum engine_status status)
{
    (void)arg;
    check(name && status <= ENGINE_GOING);
}

static void answers(struct bytes text)
{
    struct engine_state state;
    struct engine_info info;
    char message[64], digest[100];
    int code;
    if (engine_json_state(text, &state))
        check(state.status <= ENGINE_GOING && strlen(state.labels.worker) < sizeof state.labels.worker);
    engine_json_list(text, count_container, NULL);
    engine_json_exit(text, &code);
    engine_json_info(text, &info);
    engine_json_image(text, digest, sizeof digest);
    engine_json_message(text, message, sizeof message);
    check(strlen(message) < sizeof message);
    for (const char *c = message; *c; c++)
        check((unsigned char)*c >= ' ' && *c != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes text = bytes_of(data, size);
    if (!size)
        return 0;
    streams(text, 1);
    streams(text, 7);
    streams(text, size);
    answers(text);
    return 0;
}
