#include "api/page.h"

#include <stdlib.h>
#include <strings.h>

const struct page_file *page_find(struct bytes path)
{
    for (const struct page_file *f = page_files; f->path; f++)
        if (bytes_equal(bytes_str(f->path), path))
            return f;
    return NULL;
}

static struct bytes trimmed(const char *at, size_t size)
{
    while (size && (*at == ' ' || *at == '\t')) {
        at++;
        size--;
    }
    while (size && (at[size - 1] == ' ' || at[size - 1] == '\t'))
        size--;
    return bytes_of(at, size);
}

/* Calls with each element of a comma separated list until it returns true. */
static bool any_element(const char *list, bool (*is)(struct bytes element, const char *wanted), const char *wanted)
{
    for (const char *at = list; at && *at;) {
        size_t size = strcspn(at, ",");
        if (is(trimmed(at, size), wanted))
            return true;
        at += size + (at[size] == ',');
    }
    return false;
}

/* "gzip", "gzip;q=0.5", but not "gzip;q=0". */
static bool is_coding(struct bytes element, const char *wanted)
{
    const char *semicolon = memchr(element.data, ';', element.size);
    size_t size = semicolon ? (size_t)(semicolon - (const char *)element.data) : element.size;
    struct bytes coding = trimmed(element.data, size);
    if (coding.size != strlen(wanted) || strncasecmp(coding.data, wanted, coding.size) != 0)
        return false;
    if (!semicolon)
        return true;
    struct bytes weight = trimmed(semicolon + 1, element.size - size - 1);
    if (weight.size < 3 || strncasecmp(weight.data, "q=", 2) != 0)
        return true;
    for (size_t i = 2; i < weight.size; i++)
        if (((const char *)weight.data)[i] >= '1' && ((const char *)weight.data)[i] <= '9')
            return true;
    return false;
}

bool page_takes_gzip(const char *accept)
{
    return any_element(accept, is_coding, "gzip");
}

static bool is_etag(struct bytes element, const char *wanted)
{
    const char *at = element.data;
    if (element.size > 2 && at[0] == 'W' && at[1] == '/')
        element = bytes_of(at + 2, element.size - 2);
    return bytes_equal(element, bytes_str("*")) || bytes_equal(element, bytes_str(wanted));
}

bool page_matches(const char *if_none_match, const char *etag)
{
    return any_element(if_none_match, is_etag, etag);
}
