#include "cli/term.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <libsmartcols.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/parse.h"

bool term_stdout(void)
{
    return isatty(STDOUT_FILENO);
}
bool term_stderr(void)
{
    return isatty(STDERR_FILENO);
}

bool term_colour(void)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return term_stdout() && !(no && *no) && term && strcmp(term, "dumb") != 0;
}

/* --- clean text --- */

/* Length of the UTF-8 character at the start of text, its code point in *code; 0: no valid character begins here;
 * -1: it may become one when more bytes come. */
static int utf8_next(const unsigned char *at, size_t size, uint32_t *code)
{
    if (at[0] < 0x80) {
        *code = at[0];
        return 1;
    }
    int length = at[0] >= 0xC2 && at[0] <= 0xDF   ? 2
                 : (at[0] & 0xF0) == 0xE0         ? 3
                 : at[0] >= 0xF0 && at[0] <= 0xF4 ? 4
                                                  : 0;
    if (length == 0)
        return 0;
    uint32_t value = at[0] & (0xFF >> (length + 1));
    for (int i = 1; i < length; i++) {
        if ((size_t)i >= size)
            return -1;
        if ((at[i] & 0xC0) != 0x80)
            return 0;
        value = value << 6 | (at[i] & 0x3F);
    }
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    if (value < least[length] || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
        return 0;
    *code = value;
    return length;
}

/* Characters that act on the terminal or on the order of what is shown. */
static bool acts(uint32_t c)
{
    return c < 0x20 || (c >= 0x7F && c <= 0x9F) || c == 0x061C || c == 0x200E || c == 0x200F ||
           (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069) || c == 0xFEFF;
}

void text_clean(struct buf *out, struct bytes text)
{
    const unsigned char *at = (const unsigned char *)text.data;
    for (size_t left = text.size; left;) {
        uint32_t code = 0;
        int length = utf8_next(at, left, &code);
        if (length <= 0) {
            buf_printf(out, "\\x%02x", at[0]);
            length = 1;
        } else if (acts(code)) {
            buf_printf(out, code < 0x100 ? "\\x%02x" : "\\u%04x", (unsigned)code);
        } else {
            buf_add(out, at, (size_t)length);
        }
        at += length;
        left -= (size_t)length;
    }
}

void json_clean(struct buf *out, struct bytes json)
{
    const unsigned char *at = (const unsigned char *)json.data;
    for (size_t left = json.size; left;) {
        uint32_t code = 0;
        int length = utf8_next(at, left, &code);
        if (length <= 0) {
            buf_str(out, "\\ufffd");
            length = 1;
        } else if (acts(code) && code != '\n' && code != '\t') {
            buf_printf(out, "\\u%04x", (unsigned)code);
        } else {
            buf_add(out, at, (size_t)length);
        }
        at += length;
        left -= (size_t)length;
    }
}

enum { CLEAN_TEXT, CLEAN_CHARACTER, CLEAN_ESCAPE, CLEAN_CSI, CLEAN_STRING, CLEAN_STRING_ESCAPE, CLEAN_RETURN };

static void clean_character(struct log_clean *c, struct buf *out)
{
    uint32_t code = 0;
    int length = utf8_next((const unsigned char *)c->hold, c->held, &code);
    if (length == -1) {
        c->state = CLEAN_CHARACTER;
        return;
    }
    if (length == 0)
        buf_str(out, "\xEF\xBF\xBD");
    else if (code == 0x9B)
        c->state = CLEAN_CSI;
    else if (code == 0x90 || code == 0x98 || (code >= 0x9D && code <= 0x9F))
        c->state = CLEAN_STRING;
    else if (!acts(code))
        buf_add(out, c->hold, c->held);
    if (c->state == CLEAN_CHARACTER)
        c->state = CLEAN_TEXT;
    c->held = 0;
}

static void clean_byte(struct log_clean *c, struct buf *out, unsigned char b);

static void clean_plain(struct log_clean *c, struct buf *out, unsigned char b)
{
    c->state = CLEAN_TEXT;
    c->held = 0;
    if (b == 0x1B)
        c->state = CLEAN_ESCAPE;
    else if (b == '\r')
        c->state = CLEAN_RETURN;
    else if (b == '\n' || b == '\t' || (b >= 0x20 && b < 0x7F))
        buf_char(out, (char)b);
    else if (b >= 0x80) {
        c->hold[c->held++] = (char)b;
        clean_character(c, out);
    }
}

static void clean_csi(struct log_clean *c, struct buf *out, unsigned char b)
{
    if (b == 0x1B || b == 0x18 || b == 0x1A) { /* cancelled */
        clean_plain(c, out, b == 0x1B ? b : 0);
    } else if (b >= 0x40 && b <= 0x7E) {
        /* SGR with digits, ; and : only; "?" and other private marks are not SGR. A sequence too long to hold is none.
         */
        if (b == 'm' && c->held < sizeof c->hold)
            buf_printf(out, "\x1b[%.*sm", c->held, c->hold);
        c->state = CLEAN_TEXT;
        c->held = 0;
    } else if ((b >= '0' && b <= '9') || b == ';' || b == ':') {
        if (c->held < sizeof c->hold)
            c->hold[c->held++] = (char)b;
    } else {
        c->held = sizeof c->hold;
    }
}

static void clean_byte(struct log_clean *c, struct buf *out, unsigned char b)
{
    switch (c->state) {
    case CLEAN_TEXT:
        clean_plain(c, out, b);
        break;
    case CLEAN_CHARACTER:
        if ((b & 0xC0) == 0x80) {
            c->hold[c->held++] = (char)b;
            clean_character(c, out);
        } else {
            buf_str(out, "\xEF\xBF\xBD");
            clean_plain(c, out, b);
        }
        break;
    case CLEAN_ESCAPE:
        if (b == '[')
            c->state = CLEAN_CSI;
        else if (b == ']' || b == 'P' || b == 'X' || b == '^' || b == '_')
            c->state = CLEAN_STRING;
        else if (b == 0x1B)
            c->state = CLEAN_ESCAPE;
        else if (b < 0x20 || b >= 0x30) /* 0x20..0x2F: an intermediate, the final byte follows */
            b == '\n' || b == '\t' ? clean_plain(c, out, b) : (void)(c->state = CLEAN_TEXT);
        break;
    case CLEAN_CSI:
        clean_csi(c, out, b);
        break;
    case CLEAN_STRING: /* up to ST, BEL or a cancel; C1 ST is 0xC2 0x9C: dropped with the string as far as 0x9C */
        if (b == 0x1B)
            c->state = CLEAN_STRING_ESCAPE;
        else if (b == 0x07 || b == 0x18 || b == 0x1A || b == 0x9C)
            c->state = CLEAN_TEXT;
        else if (b == '\n') /* a job that never ends its string shall not swallow the rest of the log */
            clean_plain(c, out, b);
        break;
    case CLEAN_STRING_ESCAPE:
        c->state = CLEAN_TEXT;
        if (b != '\\') {
            c->state = CLEAN_ESCAPE;
            clean_byte(c, out, b);
        }
        break;
    case CLEAN_RETURN:
        buf_char(out, '\n');
        if (b != '\n')
            clean_plain(c, out, b);
        else
            c->state = CLEAN_TEXT;
        break;
    default:
        check_unreachable();
    }
}

void log_clean(struct log_clean *c, struct buf *out, struct bytes piece)
{
    for (size_t i = 0; i < piece.size; i++)
        clean_byte(c, out, (unsigned char)piece.data[i]);
}

void log_clean_end(struct log_clean *c, struct buf *out)
{
    if (c->state == CLEAN_CHARACTER)
        buf_str(out, "\xEF\xBF\xBD");
    if (c->state == CLEAN_RETURN)
        buf_char(out, '\n');
    buf_str(out, "\x1b[0m");
    *c = (struct log_clean){ 0 };
}

/* --- messages --- */

void error_line(struct buf *out, const struct err *err)
{
    autobuf struct buf line = BUF_INIT;
    if (err->field[0])
        buf_printf(&line, "%s: ", err->field);
    buf_str(&line, err->text[0] ? err->text : err_title(err->code));
    if (err->remedy[0])
        buf_printf(&line, "; %s", err->remedy);
    text_clean(out, buf_bytes(&line));
}

int say_error(const struct err *err)
{
    autobuf struct buf line = BUF_INIT;
    buf_str(&line, "rota: ");
    error_line(&line, err);
    buf_char(&line, '\n');
    fflush(stdout);
    fwrite(line.data, 1, line.size, stderr);
    int code = err_exit_code(err->code);
    return code ? code : 2;
}

void say(const char *fmt, ...)
{
    autobuf struct buf line = BUF_INIT, clean = BUF_INIT;
    va_list args;
    va_start(args, fmt);
    buf_vprintf(&line, fmt, args);
    va_end(args);
    text_clean(&clean, buf_bytes(&line));
    fprintf(stderr, "rota: %s\n", clean.data ? clean.data : "");
}

void out_bytes(struct bytes text)
{
    fflush(stdout);
    while (text.size) {
        ssize_t wrote = write(STDOUT_FILENO, text.data, text.size);
        if (wrote < 0) {
            if (errno == EINTR)
                continue;
            if (errno != EPIPE)
                say("standard output: %s", strerror(errno));
            _exit(errno == EPIPE ? 0 : 2);
        }
        text.data += wrote;
        text.size -= (size_t)wrote;
    }
}

void out_flush(struct buf *b)
{
    if (b->size)
        out_bytes(buf_bytes(b));
    buf_clear(b);
}

/* --- tables --- */

struct cell {
    char *text;
    const char *colour;
};
struct table {
    struct {
        const char *name;
        int flags;
    } columns[16];
    size_t columns_count;
    struct cell *cells;
    size_t cells_count, cells_cap; /* row after row */
    bool named;
};

struct table *table_new(void)
{
    return mem_zero(1, sizeof(struct table));
}

void table_column(struct table *t, const char *name, int flags)
{
    check(t->columns_count < sizeof t->columns / sizeof *t->columns && t->cells_count == 0);
    t->columns[t->columns_count].name = name;
    t->columns[t->columns_count++].flags = flags;
}

void table_row(struct table *t)
{
    check(t->cells_count % t->columns_count == 0);
}

void table_cell_bytes(struct table *t, struct bytes text)
{
    struct buf clean = BUF_INIT;
    buf_reserve(&clean, 1);
    if (term_stdout()) {
        text_clean(&clean, text);
    } else { /* a tab or a new line would be taken for the end of the column or of the row */
        for (size_t i = 0; i < text.size; i++)
            buf_char(&clean, text.data[i] == '\t' || text.data[i] == '\n' || !text.data[i] ? ' ' : text.data[i]);
        buf_str(&clean, "");
    }
    t->cells = mem_grow(t->cells, &t->cells_cap, t->cells_count + 1, sizeof *t->cells);
    t->cells[t->cells_count++] = (struct cell){ clean.size ? buf_take(&clean) : mem_str("-"), NULL };
    buf_fini(&clean);
}

void table_cell(struct table *t, const char *fmt, ...)
{
    autobuf struct buf text = BUF_INIT;
    va_list args;
    va_start(args, fmt);
    buf_vprintf(&text, fmt, args);
    va_end(args);
    table_cell_bytes(t, buf_bytes(&text));
}

void table_colour(struct table *t, const char *colour)
{
    check(t->cells_count);
    t->cells[t->cells_count - 1].colour = colour;
}

static void print_tabs(struct table *t)
{
    autobuf struct buf out = BUF_INIT;
    for (size_t i = 0; !t->named && i < t->columns_count; i++)
        buf_printf(&out, "%s%c", t->columns[i].name, i + 1 < t->columns_count ? '\t' : '\n');
    for (size_t i = 0; i < t->cells_count; i++) {
        buf_str(&out, t->cells[i].text);
        buf_char(&out, (i + 1) % t->columns_count ? '\t' : '\n');
    }
    out_bytes(buf_bytes(&out));
}

static void print_aligned(struct table *t)
{
    scols_init_debug(0);
    struct libscols_table *table = scols_new_table();
    check(table);
    scols_table_enable_colors(table, term_colour());
    scols_table_enable_noheadings(table, t->named);
    for (size_t i = 0; i < t->columns_count; i++) {
        int flags = (t->columns[i].flags & TABLE_RIGHT ? SCOLS_FL_RIGHT : 0) |
                    (t->columns[i].flags & TABLE_CUT ? SCOLS_FL_TRUNC : 0);
        check(scols_table_new_column(table, t->columns[i].name, 1, flags));
    }
    for (size_t i = 0; i < t->cells_count; i += t->columns_count) {
        struct libscols_line *line = scols_table_new_line(table, NULL);
        check(line);
        for (size_t k = 0; k < t->columns_count; k++) {
            check(scols_line_set_data(line, k, t->cells[i + k].text) == 0);
            if (t->cells[i + k].colour)
                scols_cell_set_color(scols_line_get_cell(line, k), t->cells[i + k].colour);
        }
    }
    scols_print_table(table);
    scols_unref_table(table);
    fflush(stdout);
}

void table_print(struct table *t)
{
    if (t->cells_count || !t->named) {
        if (term_stdout() && t->cells_count)
            print_aligned(t);
        else if (!term_stdout())
            print_tabs(t);
        t->named = t->named || t->cells_count || !term_stdout();
    }
    for (size_t i = 0; i < t->cells_count; i++)
        free(t->cells[i].text);
    t->cells_count = 0;
}

void table_free(struct table *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->cells_count; i++)
        free(t->cells[i].text);
    free(t->cells);
    free(t);
}

/* --- progress --- */

void progress_start(struct progress *p, enum progress_mode mode, const char *unit, int64_t now_ms)
{
    *p = (struct progress){ .mode = mode,
                            .unit = unit,
                            .start_ms = now_ms,
                            .drawn_ms = mode == PROGRESS_BAR ? now_ms - 10000 : now_ms,
                            .first = UINT64_MAX };
}

static void rate_text(struct buf *out, double per_s)
{
    buf_printf(out, per_s >= 100 ? "%.0f/s" : "%.1f/s", per_s);
}

void progress_line(const struct progress *p, int64_t now_ms, int width, struct buf *out)
{
    double seconds = (double)(now_ms - p->start_ms) / 1000;
    double rate = seconds > 0 ? (double)(p->done - p->first) / seconds : 0;
    autobuf struct buf text = BUF_INIT;
    if (p->total) {
        /* 100 % only when it is done, never by rounding. */
        buf_printf(&text, "%llu/%llu %s %llu%%", (unsigned long long)p->done, (unsigned long long)p->total, p->unit,
                   (unsigned long long)(p->done * 100 / p->total));
    } else {
        buf_printf(&text, "%llu %s", (unsigned long long)p->done, p->unit);
    }
    buf_str(&text, "  ");
    rate_text(&text, rate);
    if (p->total && p->done < p->total && rate > 0) {
        buf_str(&text, "  ");
        format_duration(&text, (int64_t)((double)(p->total - p->done) / rate + 0.5) * 1000);
        buf_str(&text, " left");
    }
    if (p->failed)
        buf_printf(&text, "  %llu failed", (unsigned long long)p->failed);
    int room = width - (int)text.size - 4;
    if (p->total && room >= 10) {
        int cells = room > 30 ? 30 : room, full = (int)((double)cells * (double)p->done / (double)p->total);
        buf_char(out, '[');
        for (int i = 0; i < cells; i++)
            buf_char(out, i < full ? '#' : '.');
        buf_str(out, "] ");
    }
    buf_add(out, text.data, text.size);
}

static int term_width(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 80;
}

static void progress_draw(struct progress *p, int64_t now_ms)
{
    autobuf struct buf line = BUF_INIT;
    if (p->mode == PROGRESS_BAR)
        buf_str(&line, "\r");
    progress_line(p, now_ms, p->mode == PROGRESS_BAR ? term_width() : 0, &line);
    buf_str(&line, p->mode == PROGRESS_BAR ? "\x1b[K" : "\n");
    fwrite(line.data, 1, line.size, stderr);
    fflush(stderr);
    p->drawn_ms = now_ms;
    p->drawn = true;
}

void progress_set(struct progress *p, uint64_t done, uint64_t total, uint64_t failed, int64_t now_ms)
{
    if (p->first == UINT64_MAX)
        p->first = done;
    bool moved = p->done != done || p->failed != failed;
    p->done = done;
    p->total = total;
    p->failed = failed;
    if (p->mode == PROGRESS_BAR && now_ms - p->drawn_ms >= 100)
        progress_draw(p, now_ms);
    if (p->mode == PROGRESS_PLAIN && moved && now_ms - p->drawn_ms >= 5000)
        progress_draw(p, now_ms);
}

void progress_end(struct progress *p, int64_t now_ms)
{
    if (p->first == UINT64_MAX)
        p->first = p->done;
    if (p->mode != PROGRESS_NONE)
        progress_draw(p, now_ms);
    if (p->mode == PROGRESS_BAR)
        fputc('\n', stderr);
    p->mode = PROGRESS_NONE;
}
