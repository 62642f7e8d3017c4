#include "cli/select.h"

#include <string.h>

#include "base/parse.h"
#include "cli/client.h"

bool select_is_list(const char *text)
{
    /* Digits, then _DIGITS or -DIGITS, then a comma or the end: what is finer than that the API says better. */
    for (const char *at = text;;) {
        size_t digits = strspn(at, "0123456789");
        if (digits == 0)
            return false;
        at += digits;
        if (*at == '_' || *at == '-') {
            digits = strspn(++at, "0123456789");
            if (digits == 0)
                return false;
            at += digits;
        }
        if (*at == '\0')
            return true;
        if (*at++ != ',')
            return false;
    }
}

size_t select_join(struct buf *out, char *const *operands, size_t count)
{
    size_t selectors = 0;
    bool open = false; /* the last line is a list that may grow */
    size_t start = 0;
    for (size_t i = 0; i < count; i++) {
        bool list = select_is_list(operands[i]);
        if (list && open && out->size - start + strlen(operands[i]) < SELECT_TEXT_MAX) {
            out->data[out->size - 1] = ',';
        } else {
            start = out->size;
            selectors++;
        }
        buf_str(out, operands[i]);
        buf_char(out, '\n');
        open = list;
    }
    return selectors;
}

bool select_next(struct buf *lines, size_t *at, const char **selector)
{
    if (*at >= lines->size)
        return false;
    char *line = lines->data + *at;
    char *end = strchr(line, '\n');
    *at = end ? (size_t)(end - lines->data) + 1 : lines->size;
    if (end)
        *end = '\0';
    *selector = line;
    return true;
}

int select_one(struct client *c, const char *text, struct job_ref *out, struct err *err)
{
    *out = (struct job_ref){ 0 };
    if (*text >= '0' && *text <= '9' && parse_job_ref(text, &out->job, &out->has_index, &out->index, NULL) == 0)
        return 0;
    autobuf struct buf cursor = BUF_INIT;
    size_t found = 0;
    /* A page may be empty and yet not the last one: the master looks at so many jobs at a time. */
    do {
        autobuf struct buf path = BUF_INIT;
        buf_str(&path, "/v1/jobs");
        url_query(&path, "selector", text);
        url_query(&path, "limit", "2");
        url_query(&path, "cursor", cursor.size ? cursor.data : NULL);
        json_t *answer = NULL;
        int rc = client_json(c, "GET", path.data, bytes_of(NULL, 0), &answer, err);
        if (rc < 0)
            return rc;
        const json_t *jobs = json_object_get(answer, "jobs");
        if (found == 0 && json_array_size(jobs))
            out->job = (uint64_t)json_int(json_array_get(jobs, 0), "id", 0);
        found += json_array_size(jobs);
        buf_clear(&cursor);
        buf_str(&cursor, json_text(answer, "next", ""));
        json_decref(answer);
    } while (found < 2 && cursor.size && !(found && strcmp(text, "last") == 0));
    if (found == 1)
        return 0;
    if (found == 0)
        return err_field(err, ERR_NOT_FOUND, NULL, "`rota ls` lists them", "there is no job \"%s\"", text);
    return err_field(err, ERR_INVALID, NULL, "name one, by its id; `rota ls` lists them", "\"%s\" means several jobs",
                     text);
}

void job_ref_text(struct buf *out, const struct job_ref *ref)
{
    buf_u64(out, ref->job);
    if (ref->has_index)
        buf_printf(out, "_%u", ref->index);
}
