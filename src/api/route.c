#include "api/route.h"

#include <stdio.h>

const struct route routes[API_HANDLERS] = {
#define ROUTE(method, pattern, role, handler, body, query, help)                                                      \
    [API_##handler] = { #method, pattern, API_ROLE_##role, API_##handler, API_BODY_##body, query, help },
#include "api.def"
#undef ROUTE
};

/* Compares segment by segment; a placeholder takes one segment that is not empty. */
static bool matches(const char *pattern, struct bytes path, struct bytes *arg)
{
    size_t at = 0;
    *arg = (struct bytes){ NULL, 0 };
    for (const char *p = pattern; *p;) {
        if (*p == '{') {
            size_t start = at;
            while (at < path.size && path.data[at] != '/')
                at++;
            if (at == start)
                return false;
            *arg = bytes_of(path.data + start, at - start);
            while (*p++ != '}')
                continue;
        } else if (at < path.size && path.data[at] == *p) {
            at++;
            p++;
        } else {
            return false;
        }
    }
    return at == path.size;
}

int route_find(const char *method, struct bytes path, struct route_match *match, struct err *err)
{
    *match = (struct route_match){ 0 };
    size_t used = 0;
    const char *pattern = NULL; /* the first that matches says what the path means */
    for (int i = 0; i < API_HANDLERS; i++) {
        struct bytes arg;
        if (!matches(routes[i].pattern, path, &arg) || (pattern && strcmp(pattern, routes[i].pattern) != 0))
            continue;
        pattern = routes[i].pattern;
        if (strcmp(routes[i].method, method) == 0) {
            match->route = &routes[i];
            match->arg = arg;
            return 0;
        }
        if (!strstr(match->allow, routes[i].method))
            used += (size_t)snprintf(match->allow + used, sizeof match->allow - used, "%s%s", used ? ", " : "",
                                     routes[i].method);
    }
    if (used)
        return err_field(err, ERR_METHOD, NULL, match->allow, "%s is not possible here", method);
    return err_field(err, ERR_NOT_FOUND, "path", "the API begins at /v1/; see openapi.yaml", "there is no such path");
}

bool route_query_known(const struct route *route, const char *name)
{
    size_t size = strlen(name);
    for (const char *at = route->query; size && (at = strstr(at, name)); at += size)
        if ((at == route->query || at[-1] == ' ') && (at[size] == ' ' || !at[size]))
            return !memchr(name, ' ', size);
    return false;
}

const char *api_role_name(enum api_role role)
{
    static const char *const names[] = { "open", "viewer", "submitter", "operator", "admin" };
    return names[role];
}
