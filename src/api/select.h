/* select.h: naming jobs: "7", "7_3", "5-9,12", "last", "all", a name, or a glob; and walking over the jobs that are
 * meant. Reads the brain through sched_view.h; never changes it. Jobs may be added and may end between two steps of a
 * walk: it sees the jobs that were there when it began. */
#ifndef ROTA_API_SELECT_H
#define ROTA_API_SELECT_H

#include "base/err.h"
#include "core/sched/sched_view.h"

#define SELECT_BYTES_MAX 4096u
#define SELECT_PARTS_MAX 1000u

enum select_kind { SELECT_IDS, SELECT_ALL, SELECT_LAST, SELECT_NAME, SELECT_GLOB };

/* Jobs first .. last; or, with has_index, the task of job `first` that has this index. */
struct select_part {
    uint64_t first, last;
    bool has_index;
    uint32_t index;
};

struct selector {
    enum select_kind kind;
    struct select_part *parts; size_t parts_count; /* SELECT_IDS: in order of id, whole jobs merged */
    char *name;                                    /* SELECT_NAME, SELECT_GLOB */
};

int selector_parse(struct bytes text, struct selector *out, struct err *err);
void selector_fini(struct selector *s);
bool selector_matches_name(const struct selector *s, struct bytes name);
/* True when the selector names jobs one by one: then a job that is not there is worth an answer. */
static inline bool selector_explicit(const struct selector *s)
{
    return s->kind == SELECT_IDS || s->kind == SELECT_LAST;
}

struct select_walk {
    const struct selector *selector; /* borrowed */
    char user[65];                   /* whose last job is meant by "last" */
    size_t part;
    uint64_t at, end;                /* the last job looked at; the highest that counts */
    uint64_t missing;                /* SELECT_PASSED: the job named by its id that is not in memory; 0: none */
    bool done;
};

enum select_step { SELECT_FOUND, SELECT_PASSED, SELECT_ENDED };

void select_walk_start(struct select_walk *w, const struct selector *s, const struct sched *sched, struct bytes user);
/* Looks at one job. SELECT_FOUND: *job is meant, and of it *task (a position, or TASK_ALL). SELECT_PASSED: it is not.
 * */
enum select_step select_walk_next(struct select_walk *w, const struct sched *sched, struct job_view *job,
                                  uint32_t *task);

/* The position of the task that users call `index`; false if the job has no such task. */
bool select_task_position(const struct job_view *job, uint32_t index, uint32_t *position);

#endif
