#include "master/signature.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#define HEX_WORD_MIN 6u

static bool readable(const char *at, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)at[i] > ' ' && at[i] != 0x7f)
            return true;
    return false;
}

struct bytes last_line(struct bytes text)
{
    size_t end = text.size;
    while (end) {
        size_t start = end;
        while (start && text.data[start - 1] != '\n' && text.data[start - 1] != '\r')
            start--;
        if (readable(text.data + start, end - start)) {
            size_t size = end - start;
            return bytes_of(text.data + start, size < SIGNATURE_BYTES_MAX ? size : SIGNATURE_BYTES_MAX);
        }
        end = start ? start - 1 : 0;
    }
    return bytes_of("", 0);
}

/* The size of an escape sequence such as a colour, at its ESC. */
static size_t escape_size(const char *at, size_t left)
{
    size_t size = 1;
    if (left < 2 || at[1] != '[')
        return size;
    for (size = 2; size < left && !(at[size] >= '@' && at[size] <= '~'); size++)
        continue;
    return size < left ? size + 1 : size;
}

/* The size of the word of letters and digits at `at`, and what it is made of. */
static size_t word_size(const char *at, size_t left, bool *hex, bool *digit)
{
    size_t size = 0;
    *hex = true;
    *digit = false;
    for (; size < left && isalnum((unsigned char)at[size]); size++) {
        *hex &= isxdigit((unsigned char)at[size]) != 0;
        *digit |= isdigit((unsigned char)at[size]) != 0;
    }
    return size;
}

static void add_word(struct buf *out, const char *at, size_t size, bool hex, bool digit)
{
    bool prefixed = size > 2 && at[0] == '0' && (at[1] == 'x' || at[1] == 'X');
    if (prefixed || (hex && digit && size >= HEX_WORD_MIN)) {
        buf_char(out, '#');
        return;
    }
    for (size_t i = 0; i < size; i++) {
        if (!isdigit((unsigned char)at[i]))
            buf_char(out, at[i]);
        else if (i == 0 || !isdigit((unsigned char)at[i - 1]))
            buf_char(out, '#');
    }
}

void signature_of(struct bytes line, struct buf *out)
{
    bool blank = true; /* none at the beginning */
    size_t start = out->size;
    for (size_t i = 0; i < line.size;) {
        const char *at = line.data + i;
        size_t left = line.size - i;
        unsigned char c = (unsigned char)*at;
        bool hex, digit;
        size_t size = 1;
        if (c == 0x1b) {
            size = escape_size(at, left);
        } else if (c <= ' ' || c == 0x7f) {
            if (!blank)
                buf_char(out, ' ');
            blank = true;
        } else {
            blank = false;
            if (isalnum(c)) {
                size = word_size(at, left, &hex, &digit);
                add_word(out, at, size, hex, digit);
            } else {
                buf_char(out, (char)c);
            }
        }
        i += size;
    }
    while (out->size > start && out->data[out->size - 1] == ' ')
        out->size--;
}
