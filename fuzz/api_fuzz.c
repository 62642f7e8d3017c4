/* What of a request the API reads itself: the path, selectors, small bodies, lists of jobs. */
#include <stdint.h>

#include "api/route.h"
#include "api/select.h"
#include "base/check.h"
#include "master/body.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void paths(struct bytes text)
{
    struct route_match match;
    struct err err;
    int rc = route_find("GET", text, &match, &err);
    check((rc == 0) == (match.route != NULL));
    check(rc != -ERR_METHOD || match.allow[0]);
    check(!match.arg.data || (match.arg.data >= text.data && match.arg.data + match.arg.size <= text.data + text.size));
}

static void selectors(struct bytes text)
{
    struct selector s;
    struct err err = { 0 };
    if (selector_parse(text, &s, &err) < 0) {
        check(err.code == ERR_INVALID);
        return;
    }
    check(s.kind != SELECT_IDS || (s.parts_count > 0 && s.parts_count <= SELECT_PARTS_MAX));
    for (size_t i = 0; i < s.parts_count; i++) {
        check(s.parts[i].first >= 1 && s.parts[i].first <= s.parts[i].last);
        check(i == 0 || s.parts[i].first >= s.parts[i - 1].first);
    }
    if (s.name)
        check(s.kind == SELECT_GLOB || selector_matches_name(&s, text));
    selector_fini(&s);
}

static void bodies(struct bytes text)
{
    struct arena arena = ARENA_INIT;
    struct err err;
    struct body_field fields[] = { { .name = "reason", .type = BODY_TEXT, .max = 256 },
                                   { .name = "priority", .type = BODY_INTEGER, .min = -5, .max = 5 } };
    if (body_read(&arena, text, fields, 2, &err) == 0) {
        check(!fields[0].given || fields[0].text.size <= 256);
        check(fields[1].integer >= -5 && fields[1].integer <= 5);
    }
    arena_fini(&arena);
}

static void lists(struct bytes text)
{
    struct body_list list;
    struct bytes element;
    struct err err;
    if (!body_is_list(text))
        return;
    body_list_start(&list, text);
    const char *last = text.data;
    while (body_list_next(&list, &element, &err) > 0) {
        check(element.size > 0 && element.data > last && element.data + element.size <= text.data + text.size);
        last = element.data;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes text = bytes_of(data, size);
    paths(text);
    selectors(text);
    bodies(text);
    lists(text);
    return 0;
}
