/* top.h: what `rota top` knows and how it is drawn, apart from how it is fetched (top.c) so that each can be read
 * alone. */
#ifndef ROTA_CLI_TOP_H
#define ROTA_CLI_TOP_H

#include <jansson.h>

#include "cli/term.h"

enum top_page { TOP_JOBS, TOP_NODES, TOP_QUEUES, TOP_LOG, TOP_PAGES };
enum top_order { TOP_BY_STATE, TOP_BY_ID, TOP_BY_USER, TOP_BY_CPUS, TOP_BY_MEM, TOP_BY_TIME, TOP_ORDERS };

#define TOP_LOG_LINES 2000u /* kept of a log that is open */

struct top_log {
    int64_t job;
    char **lines;
    size_t count, cap; /* the oldest go when there are TOP_LOG_LINES */
    size_t back;       /* lines above the end that are shown */
    bool ended;
};

struct top {
    /* answers of the API; NULL: none yet */
    json_t *stats, *nodes, *queues, *jobs, *running; /* running: those jobs, however old */
    double ended_per_s;                              /* tasks; negative: not known yet */
    int64_t lost_since_ms;                           /* -1: the last answer came */
    char trouble[200];                               /* why there was none */
    /* what is looked at */
    enum top_page page;
    size_t chosen, scrolled; /* row on the page, first one shown */
    int64_t chosen_job;      /* the row's job, so that it stays chosen when rows move; 0: none */
    enum top_order order;
    bool reverse;
    const char *state;       /* only jobs in it; NULL: all */
    char name[80], user[80]; /* only those; "": all */
    struct top_log log;
    char message[400]; /* for one line at the bottom, until the next key */
    /* the line at the bottom that is being typed; prompt NULL: none */
    const char *prompt;
    char typed[80];
};

void top_fini(struct top *t);
/* Puts running jobs among the others, sorts as asked, and finds the chosen one again. */
void top_arrange(struct top *t);
size_t top_rows(const struct top *t);       /* of the page */
const json_t *top_job(const struct top *t); /* the chosen one, or NULL */
void top_move(struct top *t, int by);       /* the choice, or the log */
void top_log_clear(struct top *t, int64_t job);
void top_log_add(struct top *t, struct bytes line); /* of output; made harmless here */
extern const char *const top_order_names[TOP_ORDERS];

/* Draws all of it on the ncurses screen, whatever its size. */
void top_colours(void); /* after initscr */
void top_draw(const struct top *t, const char *url, int64_t now_ms, int64_t wall_ms);

#endif
