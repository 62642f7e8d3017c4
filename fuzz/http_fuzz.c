/* Gate, head and body framing of HTTP requests, given in two pieces at every place that the input says.
 * What is decided must not depend on where the pieces end; what is let pass must hold what the rest of the program
 * trusts. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "io/http_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int gate_in_pieces(const char *data, size_t size, size_t first, size_t second, struct http_gate *g, int *status)
{
    struct http_refusal why = { 0 };
    if (first > second) {
        size_t swap = first;
        first = second;
        second = swap;
    }
    const size_t ends[] = { first < size ? first : size, second < size ? second : size, size };
    int rc = 0;
    for (int i = 0; i < 3 && rc == 0; i++) {
        char *exact = mem_copy(data, ends[i]);
        rc = http_gate(g, exact, ends[i], &why);
        free(exact);
    }
    *status = why.status;
    check((rc < 0) == (why.status != 0));
    return rc;
}

static void check_head(const struct http_head *h, size_t size)
{
    const char *end = h->text + size;
    check(h->path.size > 0 && h->path.data[0] == '/');
    check(!memchr(h->path.data, 0, h->path.size));
    check(!memmem(h->path.data, h->path.size, "/../", 4) && !memmem(h->path.data, h->path.size, "/./", 3));
    struct bytes name;
    check(h->host && http_host_name(h->host, &name));
    check(h->fields_count <= HTTP_HEADERS_MAX);
    for (unsigned i = 0; i < h->fields_count; i++) {
        const char *field = h->text + h->fields[i].name, *value = h->text + h->fields[i].value;
        check(field < end && value < end && *field);
        check(!strpbrk(field, " \t\r\n:") && !strpbrk(value, "\r\n"));
    }
    check(!(http_head_field(h, "content-length") && http_head_field(h, "transfer-encoding")));
    autobuf struct buf query = BUF_INIT;
    size_t count = http_query_decode(h->query, &query), zeros = 0;
    for (size_t i = 0; i < query.size; i++)
        zeros += query.data[i] == 0;
    check(zeros == 2 * count);
}

struct decoded {
    struct buf payload;
    size_t used;
    int status; /* 0: complete, 1: more, else refused */
};

static void decode(const struct http_head *h, const char *data, size_t size, size_t piece, struct decoded *d)
{
    struct http_body b;
    http_body_init(&b, h);
    struct http_refusal why = { 0 };
    while (d->used < size && !http_body_done(&b)) {
        size_t left = size - d->used < piece ? size - d->used : piece, used = 0;
        struct bytes payload;
        if (http_body_next(&b, bytes_of(data + d->used, left), &used, &payload, &why) < 0) {
            d->status = why.status;
            return;
        }
        check(used > 0 && used <= left && payload.size <= used);
        buf_add(&d->payload, payload.data, payload.size);
        d->used += used;
    }
    d->status = http_body_done(&b) ? 0 : 1;
}

static void check_body(const struct http_head *h, const char *data, size_t size, size_t piece)
{
    struct decoded whole = { 0 }, cut = { 0 };
    decode(h, data, size, SIZE_MAX, &whole);
    decode(h, data, size, piece, &cut);
    check(whole.status == cut.status);
    if (whole.status <= 1)
        check(whole.used == cut.used && bytes_equal(buf_bytes(&whole.payload), buf_bytes(&cut.payload)));
    buf_fini(&whole.payload);
    buf_fini(&cut.payload);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    size_t first = data[0], second = (size_t)data[1] * 8, piece = data[2] % 64 + 1u;
    const char *text = (const char *)data + 3;
    size -= 3;
    struct http_gate cut = { 0 }, whole = { 0 };
    int status, status_whole;
    int head = gate_in_pieces(text, size, first, second, &cut, &status);
    check(head == gate_in_pieces(text, size, size, size, &whole, &status_whole));
    check(head >= 0 || status == status_whole);
    if (head <= 0) {
        /* The body decoder also sees inputs that have no good head. */
        check_body(&(struct http_head){ .framing = HTTP_CHUNKED }, text, size, piece);
        return 0;
    }
    check(cut.start == whole.start && (size_t)head <= size);
    size_t head_size = (size_t)head - cut.start;
    char *own = mem_copy(text + cut.start, head_size);
    struct http_head h;
    struct http_refusal why = { 0 };
    if (http_head_parse(&h, own, head_size, &why) == 0) {
        check_head(&h, head_size);
        check_body(&h, text + head, size - (size_t)head, piece);
    } else {
        check(why.status >= 400 && why.status <= 505 && why.text);
    }
    free(own);
    return 0;
}
