/* route.h: the table of routes (schema/api.def) and finding the one that a request means. Pure. */
#ifndef ROTA_API_ROUTE_H
#define ROTA_API_ROUTE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

/* Each role may do what the ones before it may. */
enum api_role { API_ROLE_OPEN, API_ROLE_VIEWER, API_ROLE_SUBMITTER, API_ROLE_OPERATOR, API_ROLE_ADMIN };
enum api_body { API_BODY_NONE, API_BODY_JSON, API_BODY_JOBS };

enum api_handler {
#define ROUTE(method, pattern, role, handler, body, query, help) API_##handler,
#include "api.def"
#undef ROUTE
    API_HANDLERS
};

struct route {
    const char *method, *pattern;
    enum api_role role;
    enum api_handler handler;
    enum api_body body;
    const char *query; /* known parameters, separated by blanks */
    const char *help;
};
extern const struct route routes[API_HANDLERS];

struct route_match {
    const struct route *route;
    struct bytes arg;  /* what the placeholder stands for; borrowed from the path */
    char allow[64];    /* ERR_METHOD: "GET, POST" */
};

/* 0; ERR_NOT_FOUND: no such path; ERR_METHOD: the path is known, the method is not: match->allow is filled. */
int route_find(const char *method, struct bytes path, struct route_match *match, struct err *err);
bool route_query_known(const struct route *route, const char *name);
const char *api_role_name(enum api_role role); /* "viewer" */

#endif
