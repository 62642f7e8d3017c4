#include "io/http_parse.h"

#include <http_parser.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"

_Static_assert(HTTP_HEAD_BYTES_MAX < UINT16_MAX, "places in a head fit in 16 bits");
_Static_assert(HTTP_HEADERS_MAX < UINT8_MAX, "the number of fields fits in 8 bits");

static int refuse(struct http_refusal *why, int status, const char *text)
{
    why->status = status;
    why->text = text;
    return -1;
}

/* RFC 9110 5.6.2: tchar */
static bool is_token(unsigned char c)
{
    static const char marks[] = "!#$%&'*+-.^_`|~";
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && memchr(marks, c, sizeof marks - 1));
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Bytes that may stand in a line: visible ones, blanks, and those above ASCII that old clients send. */
static bool is_line_byte(unsigned char c)
{
    return (c >= 0x20 && c != 0x7f) || c == '\t';
}

/* --- gate --- */

static int check_version(const char *text, size_t size, struct http_refusal *why)
{
    if (size != 8 || memcmp(text, "HTTP/", 5) != 0 || !is_digit(text[5]) || text[6] != '.' || !is_digit(text[7]))
        return refuse(why, 400, "the request line must end in the HTTP version");
    if (text[5] != '1' || text[7] > '1')
        return refuse(why, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    return 0;
}

/* METHOD SP TARGET SP VERSION with one blank each (RFC 9112 3). HTTP/0.9 has no version and fails here. */
static int check_request_line(const char *line, size_t size, struct http_refusal *why)
{
    size_t at = 0;
    while (at < size && is_token((unsigned char)line[at]))
        at++;
    if (at == 0 || at == size || line[at] != ' ')
        return refuse(why, 400, "the request line must begin with a method and a blank");
    size_t target = ++at;
    while (at < size && line[at] > 0x20 && line[at] < 0x7f)
        at++;
    if (at == target)
        return refuse(why, 400, "the request line has no target");
    if (at == size || line[at] != ' ')
        return refuse(why, 400, "the request line must be METHOD TARGET VERSION with one blank between");
    return check_version(line + at + 1, size - at - 1, why);
}

static int check_header_line(const char *line, size_t size, struct http_refusal *why)
{
    if (is_blank(line[0]))
        return refuse(why, 400, "folded header lines are not accepted");
    size_t at = 0;
    while (at < size && is_token((unsigned char)line[at]))
        at++;
    if (at < size && at > 0 && is_blank(line[at]))
        return refuse(why, 400, "there is a blank before the colon of a header");
    if (at == 0 || at == size || line[at] != ':')
        return refuse(why, 400, "a header line is not NAME: VALUE");
    return 0;
}

static int check_bytes(const char *data, size_t size, struct http_refusal *why)
{
    for (size_t i = 0; i < size; i++) {
        if (is_line_byte((unsigned char)data[i]))
            continue;
        if (data[i] == '\r')
            return refuse(why, 400, "a CR in the head is not followed by LF");
        return refuse(why, 400, "there is a control byte in the head");
    }
    return 0;
}

/* A line without its CRLF. Returns 1 at the end of the head. */
static int gate_line(struct http_gate *g, const char *data, size_t size, struct http_refusal *why)
{
    const char *line = data + g->line;
    if (check_bytes(line, size, why) < 0)
        return -1;
    if (!g->in_headers && size == 0) {
        if (g->line > 0)
            return refuse(why, 400, "there is no request line");
        g->start = 2; /* RFC 9112 2.2: one empty line before a request is to be ignored */
        return 0;
    }
    if (!g->in_headers) {
        g->in_headers = true;
        if (size > HTTP_LINE_BYTES_MAX)
            return refuse(why, 414, "the request line is longer than 8 KiB");
        return check_request_line(line, size, why);
    }
    if (size == 0)
        return 1;
    if (++g->headers > HTTP_HEADERS_MAX)
        return refuse(why, 431, "there are more than 64 header lines");
    return check_header_line(line, size, why);
}

/* What can be said about a line whose end has not come. */
static int gate_rest(struct http_gate *g, const char *data, size_t size, struct http_refusal *why)
{
    size_t end = size && data[size - 1] == '\r' ? size - 1 : size;
    if (end > g->at && check_bytes(data + g->at, end - g->at, why) < 0)
        return -1;
    if (!g->in_headers && size - g->line > HTTP_LINE_BYTES_MAX + 1) /* +1: its CR may be there */
        return refuse(why, 414, "the request line is longer than 8 KiB");
    if (size >= HTTP_HEAD_BYTES_MAX)
        return refuse(why, 431, "the head is larger than 16 KiB");
    g->at = (uint32_t)end;
    return 0;
}

int http_gate(struct http_gate *g, const char *data, size_t size, struct http_refusal *why)
{
    if (size > HTTP_HEAD_BYTES_MAX)
        size = HTTP_HEAD_BYTES_MAX;
    while (g->at < size) {
        const char *lf = memchr(data + g->at, '\n', size - g->at);
        if (!lf)
            return gate_rest(g, data, size, why);
        size_t end = (size_t)(lf - data);
        if (end == g->line || data[end - 1] != '\r')
            return refuse(why, 400, "a line of the head does not end in CRLF");
        int rc = gate_line(g, data, end - 1 - g->line, why);
        if (rc < 0)
            return -1;
        g->line = g->at = (uint32_t)end + 1;
        if (rc > 0)
            return (int)g->at;
    }
    return size >= HTTP_HEAD_BYTES_MAX ? refuse(why, 431, "the head is larger than 16 KiB") : 0;
}

/* --- percent escapes --- */

static int hex_digit(char c)
{
    if (is_digit(c))
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte behind the escape at text, or -1. */
static int escaped_byte(const char *text, size_t left)
{
    if (left < 3 || hex_digit(text[1]) < 0 || hex_digit(text[2]) < 0)
        return -1;
    return hex_digit(text[1]) << 4 | hex_digit(text[2]);
}

static bool has_dot_segment(struct bytes path)
{
    for (size_t at = 0; at < path.size; at++) {
        if (path.data[at] != '/')
            continue;
        size_t left = path.size - at - 1;
        const char *segment = path.data + at + 1;
        size_t dots = left >= 1 && segment[0] == '.' ? (left >= 2 && segment[1] == '.' ? 2 : 1) : 0;
        if (dots && (left == dots || segment[dots] == '/'))
            return true;
    }
    return false;
}

/* Decodes once, in place. What would make two readers see two paths is refused. */
static int decode_path(char *text, size_t *size, struct http_refusal *why)
{
    size_t out = 0;
    for (size_t at = 0; at < *size; at++) {
        int byte = (unsigned char)text[at];
        if (byte == '%') {
            byte = escaped_byte(text + at, *size - at);
            if (byte < 0)
                return refuse(why, 400, "an escape in the path is not % and two hexadecimal digits");
            if (byte == '/' || byte == '\\')
                return refuse(why, 400, "an escaped slash in the path is not accepted");
            if (byte < 0x20 || byte == 0x7f)
                return refuse(why, 400, "an escaped control byte in the path is not accepted");
            at += 2;
        }
        text[out++] = (char)byte;
    }
    *size = out;
    if (has_dot_segment(bytes_of(text, out)))
        return refuse(why, 400, "dot segments in the path are not accepted");
    return 0;
}

static int check_query(struct bytes query, struct http_refusal *why)
{
    for (size_t at = 0; at < query.size; at++) {
        if (query.data[at] != '%')
            continue;
        int byte = escaped_byte(query.data + at, query.size - at);
        if (byte < 0)
            return refuse(why, 400, "an escape in the query is not % and two hexadecimal digits");
        if (byte == 0)
            return refuse(why, 400, "a zero byte in the query is not accepted");
    }
    return 0;
}

static void decode_form(struct bytes text, struct buf *out)
{
    for (size_t at = 0; at < text.size; at++) {
        int byte = text.data[at] == '+' ? ' ' : (unsigned char)text.data[at];
        if (byte == '%') {
            byte = escaped_byte(text.data + at, text.size - at);
            check(byte > 0);
            at += 2;
        }
        buf_char(out, (char)byte);
    }
    buf_char(out, 0);
}

size_t http_query_decode(struct bytes query, struct buf *out)
{
    size_t count = 0;
    const char *at = query.data, *end = query.size ? at + query.size : at;
    while (at < end) {
        const char *stop = memchr(at, '&', (size_t)(end - at));
        if (!stop)
            stop = end;
        const char *equal = memchr(at, '=', (size_t)(stop - at));
        const char *name_end = equal ? equal : stop;
        if (stop > at) {
            decode_form(bytes_of(at, (size_t)(name_end - at)), out);
            decode_form(equal ? bytes_of(equal + 1, (size_t)(stop - equal - 1)) : bytes_of("", 0), out);
            count++;
        }
        at = stop + 1;
    }
    return count;
}

/* --- head --- */

struct parse {
    struct http_head *head;
    size_t target, target_size; /* place of the target in text */
    bool complete;
};

static size_t place(const http_parser *p, const char *at)
{
    return (size_t)(at - ((struct parse *)p->data)->head->text);
}

static int on_url(http_parser *p, const char *at, size_t size)
{
    struct parse *x = p->data;
    if (!x->target_size)
        x->target = place(p, at);
    x->target_size += size;
    return 0;
}

static int on_field(http_parser *p, const char *at, size_t size)
{
    (void)size; /* The head is in one piece, so this is the whole name, and the gate has seen the colon behind it. */
    struct parse *x = p->data;
    struct http_head *h = x->head;
    if (h->fields_count == HTTP_HEADERS_MAX)
        return -1;
    h->fields[h->fields_count++] = (struct http_field){ .name = (uint16_t)place(p, at) };
    return 0;
}

static int on_headers_complete(http_parser *p)
{
    struct parse *x = p->data;
    x->head->keep_alive = http_should_keep_alive(p);
    return 1; /* no body in this parser: its framing is http_body_next's */
}

static int on_complete(http_parser *p)
{
    struct parse *x = p->data;
    x->complete = true;
    return 0;
}

static const http_parser_settings callbacks = {
    .on_url = on_url,
    .on_header_field = on_field,
    .on_headers_complete = on_headers_complete,
    .on_message_complete = on_complete,
};

static int refuse_grammar(enum http_errno e, struct http_refusal *why)
{
    switch (e) {
    case HPE_INVALID_METHOD:
        return refuse(why, 501, "the method is not known");
    case HPE_INVALID_VERSION:
        return refuse(why, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    case HPE_INVALID_TRANSFER_ENCODING:
        return refuse(why, 501, "the only transfer coding is chunked");
    case HPE_UNEXPECTED_CONTENT_LENGTH:
        return refuse(why, 400, "Content-Length is given twice or beside Transfer-Encoding");
    case HPE_INVALID_CONTENT_LENGTH:
        return refuse(why, 400, "Content-Length is not a number");
    case HPE_HEADER_OVERFLOW:
        return refuse(why, 431, "the head is too large");
    default:
        return refuse(why, 400, "the head is not HTTP");
    }
}

/* Makes C strings of names and values, blanks around values cut off. */
static void cut_fields(struct http_head *h, size_t size)
{
    for (unsigned i = 0; i < h->fields_count; i++) {
        struct http_field *f = &h->fields[i];
        char *colon = memchr(h->text + f->name, ':', size - f->name);
        check(colon);
        *colon = 0;
        char *value = colon + 1;
        char *end = memchr(value, '\r', (size_t)(h->text + size - value));
        check(end);
        while (value < end && is_blank(*value))
            value++;
        while (end > value && is_blank(end[-1]))
            end--;
        *end = 0;
        f->value = (uint16_t)(value - h->text);
    }
}

const char *http_head_field(const struct http_head *h, const char *name)
{
    for (unsigned i = 0; i < h->fields_count; i++)
        if (strcasecmp(h->text + h->fields[i].name, name) == 0)
            return h->text + h->fields[i].value;
    return NULL;
}

/* Fields that decide about the message or about rights: two of them would let two readers choose differently. */
static const char *const single_fields[] = {
    "host",   "content-length", "transfer-encoding", "authorization", "content-type",
    "origin", "expect",         "idempotency-key",   "last-event-id", "sec-fetch-site",
};

static int check_single(const struct http_head *h, struct http_refusal *why)
{
    for (size_t s = 0; s < sizeof single_fields / sizeof single_fields[0]; s++) {
        unsigned count = 0;
        for (unsigned i = 0; i < h->fields_count; i++)
            count += strcasecmp(h->text + h->fields[i].name, single_fields[s]) == 0;
        if (count > 1)
            return refuse(why, 400, "a header that may come once comes twice");
    }
    return 0;
}

static int read_length(const char *text, uint64_t *out, struct http_refusal *why)
{
    uint64_t n = 0;
    size_t digits = 0;
    for (; digits < 19 && is_digit(text[digits]); digits++)
        n = n * 10 + (uint64_t)(text[digits] - '0');
    if (digits == 0 || digits > 18 || text[digits])
        return refuse(why, 400, "Content-Length is not a number");
    *out = n;
    return 0;
}

static int read_framing(struct http_head *h, struct http_refusal *why)
{
    const char *coding = http_head_field(h, "transfer-encoding");
    const char *length = http_head_field(h, "content-length");
    if (coding && length)
        return refuse(why, 400, "Content-Length and Transfer-Encoding exclude each other");
    if (coding && h->http_1_0)
        return refuse(why, 400, "HTTP/1.0 has no Transfer-Encoding");
    if (coding && strcasecmp(coding, "chunked") != 0)
        return refuse(why, 501, "the only transfer coding is chunked");
    if (length && read_length(length, &h->length, why) < 0)
        return -1;
    h->framing = coding ? HTTP_CHUNKED : length && h->length ? HTTP_LENGTH : HTTP_NO_BODY;
    const char *expect = http_head_field(h, "expect");
    if (expect && strcasecmp(expect, "100-continue") != 0)
        return refuse(why, 417, "the only expectation that can be met is 100-continue");
    h->expects_continue = expect && !h->http_1_0 && h->framing != HTTP_NO_BODY;
    return 0;
}

bool http_host_name(const char *host, struct bytes *name)
{
    size_t size = strlen(host);
    size_t end;
    if (host[0] == '[') {
        const char *close = strchr(host, ']');
        if (!close || close == host + 1)
            return false;
        end = (size_t)(close - host) + 1;
    } else {
        end = strcspn(host, ":");
    }
    *name = bytes_of(host, end);
    if (end == 0)
        return false;
    for (size_t i = 0; i < end; i++)
        if (!is_token((unsigned char)host[i]) && !(host[0] == '[' && strchr("[]:", host[i])))
            return false;
    if (end == size)
        return true;
    size_t digits = strspn(host + end + 1, "0123456789");
    return host[end] == ':' && digits <= 5 && end + 1 + digits == size;
}

/* For "http://host/path": the length of "http://host", whose host must be the Host header's; 0 if there is none. */
static int skip_authority(const struct http_head *h, const char *target, size_t size, size_t *skip,
                          struct http_refusal *why)
{
    size_t scheme = size >= 7 && strncasecmp(target, "http://", 7) == 0    ? 7
                    : size >= 8 && strncasecmp(target, "https://", 8) == 0 ? 8
                                                                           : 0;
    *skip = 0;
    if (!scheme)
        return 0;
    size_t end = scheme;
    while (end < size && target[end] != '/' && target[end] != '?')
        end++;
    if (end - scheme != strlen(h->host) || strncasecmp(target + scheme, h->host, end - scheme) != 0)
        return refuse(why, 400, "the host in the request line is not the one in the Host header");
    *skip = end;
    return 0;
}

static int read_target(struct http_head *h, char *target, size_t size, struct http_refusal *why)
{
    if (memchr(target, '#', size))
        return refuse(why, 400, "a fragment does not belong in a request");
    size_t skip;
    if (skip_authority(h, target, size, &skip, why) < 0)
        return -1;
    target += skip;
    size -= skip;
    char *mark = memchr(target, '?', size);
    size_t path_size = mark ? (size_t)(mark - target) : size;
    if (mark)
        h->query = bytes_of(mark + 1, size - path_size - 1);
    if (check_query(h->query, why) < 0)
        return -1;
    if (path_size == 0 && skip) {
        h->path = bytes_str("/");
        return 0;
    }
    if (path_size == 0 || target[0] != '/')
        return refuse(why, 400, "the target must be a path that begins with /");
    if (decode_path(target, &path_size, why) < 0)
        return -1;
    h->path = bytes_of(target, path_size);
    return 0;
}

int http_head_parse(struct http_head *h, char *text, size_t size, struct http_refusal *why)
{
    check(size <= HTTP_HEAD_BYTES_MAX);
    memset(h, 0, sizeof *h);
    h->text = text;
    h->query = h->path = bytes_of("", 0);
    struct parse x = { .head = h };
    http_parser parser;
    http_parser_init(&parser, HTTP_REQUEST);
    parser.data = &x;
    size_t done = http_parser_execute(&parser, &callbacks, text, size);
    if (HTTP_PARSER_ERRNO(&parser) != HPE_OK)
        return refuse_grammar(HTTP_PARSER_ERRNO(&parser), why);
    if (done != size || !x.complete || !x.target_size)
        return refuse(why, 400, "the head is not HTTP");
    if (parser.method == HTTP_CONNECT)
        return refuse(why, 501, "CONNECT is not served");
    h->method = http_method_str(parser.method);
    h->http_1_0 = parser.http_minor == 0;
    h->keep_alive = h->keep_alive && !h->http_1_0;
    cut_fields(h, size);
    if (check_single(h, why) < 0 || read_framing(h, why) < 0)
        return -1;
    h->host = http_head_field(h, "host");
    struct bytes name;
    if (!h->host || !http_host_name(h->host, &name))
        return refuse(why, 400, "one Host header with a host name is needed");
    return read_target(h, text + x.target, x.target_size, why);
}

/* --- body --- */

enum chunk_state { SIZE, EXTENSION, SIZE_LF, DATA, DATA_CR, DATA_LF, TRAILER, TRAILER_TEXT, TRAILER_LF, LAST_LF, DONE };

void http_body_init(struct http_body *b, const struct http_head *h)
{
    *b = (struct http_body){ .framing = h->framing };
    b->left = h->framing == HTTP_LENGTH ? h->length : 0;
    b->state = h->framing == HTTP_LENGTH ? DATA : h->framing == HTTP_CHUNKED ? SIZE : DONE;
}

bool http_body_done(const struct http_body *b)
{
    return b->state == DONE;
}

static int chunk_size_byte(struct http_body *b, char c, struct http_refusal *why)
{
    int digit = hex_digit(c);
    if (digit >= 0) {
        if (++b->digits > 8)
            return refuse(why, 400, "a chunk size has more than 8 digits");
        b->left = b->left << 4 | (uint64_t)digit;
        return 0;
    }
    if (b->digits == 0 || (c != '\r' && c != ';'))
        return refuse(why, 400, "a chunk size is not a hexadecimal number");
    b->line = 0;
    b->state = c == '\r' ? SIZE_LF : EXTENSION;
    return 0;
}

/* Each chunk pays for 16 bytes of its framing and for 2 with each byte of data; what is not paid adds up to a bound. */
static int chunk_begin(struct http_body *b, struct http_refusal *why)
{
    uint64_t paid = 16 + 2 * b->left, cost = (uint64_t)b->overhead + b->digits + b->line + 4;
    cost = cost > paid ? cost - paid : 0;
    if (cost > HTTP_CHUNK_OVERHEAD_BYTES_MAX)
        return refuse(why, 400, "the chunks are more framing than data");
    b->overhead = (uint32_t)cost;
    b->line = 0;
    b->state = b->left ? DATA : TRAILER;
    return 0;
}

static int expect_byte(struct http_body *b, char c, char wanted, enum chunk_state next, struct http_refusal *why)
{
    if (c != wanted)
        return refuse(why, 400, "a line of the chunked body does not end in CRLF");
    b->state = (uint8_t)next;
    return 0;
}

/* Text that is skipped, up to CR. */
static int skip_byte(struct http_body *b, char c, uint32_t max, enum chunk_state next, struct http_refusal *why)
{
    if (c == '\r') {
        b->state = (uint8_t)next;
        return 0;
    }
    if (!is_line_byte((unsigned char)c))
        return refuse(why, 400, "there is a control byte in the framing of the chunked body");
    if (++b->line > max)
        return refuse(why, 400, "a chunk extension is longer than 256 bytes, or the trailers than 16 KiB");
    return 0;
}

static int framing_byte(struct http_body *b, char c, struct http_refusal *why)
{
    switch ((enum chunk_state)b->state) {
    case SIZE:
        return chunk_size_byte(b, c, why);
    case EXTENSION:
        return skip_byte(b, c, HTTP_CHUNK_EXTENSION_BYTES_MAX, SIZE_LF, why);
    case SIZE_LF:
        return expect_byte(b, c, '\n', DATA, why) < 0 ? -1 : chunk_begin(b, why);
    case DATA_CR:
        return expect_byte(b, c, '\r', DATA_LF, why);
    case DATA_LF:
        b->digits = 0;
        return expect_byte(b, c, '\n', SIZE, why);
    case TRAILER:
        b->state = TRAILER_TEXT;
        return skip_byte(b, c, HTTP_TRAILER_BYTES_MAX, LAST_LF, why);
    case TRAILER_TEXT:
        return skip_byte(b, c, HTTP_TRAILER_BYTES_MAX, TRAILER_LF, why);
    case TRAILER_LF:
        return expect_byte(b, c, '\n', TRAILER, why);
    case LAST_LF:
        return expect_byte(b, c, '\n', DONE, why);
    case DATA:
    case DONE:
        break;
    }
    check_unreachable();
}

int http_body_next(struct http_body *b, struct bytes in, size_t *used, struct bytes *payload, struct http_refusal *why)
{
    size_t at = 0;
    *payload = bytes_of("", 0);
    while (at < in.size && b->state != DATA && b->state != DONE)
        if (framing_byte(b, in.data[at++], why) < 0)
            return -1;
    if (b->state == DATA) {
        size_t size = in.size - at < b->left ? in.size - at : (size_t)b->left;
        *payload = bytes_of(in.data + at, size);
        at += size;
        b->left -= size;
        if (!b->left)
            b->state = b->framing == HTTP_CHUNKED ? DATA_CR : DONE;
    }
    *used = at;
    return 0;
}
