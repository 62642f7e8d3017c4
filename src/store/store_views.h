/* store_views.h: what a record does to the views. One place, so that every store keeps the same ones.
 *
 * Views are what makes rules facts of the store and what makes reading fast; all of them follow from the journal. */
#ifndef ROTA_STORE_VIEWS_H
#define ROTA_STORE_VIEWS_H

#include "base/err.h"
#include "core/model/record.h"
#include "store/store.h"

/* Each returns 0 or the error that stops the batch. `seq` is the number of the record. */
struct store_view_ops {
    int (*submitted)(void *arg, job_id job, uint64_t seq, struct err *err);
    /* One open attempt per task: another one is an error. */
    int (*assigned)(void *arg, struct attempt_ref ref, uint64_t seq, struct err *err);
    /* Only the first start of an open attempt counts; *kept is false when this one is none. */
    int (*started)(void *arg, struct attempt_ref ref, uint64_t seq, bool *kept, struct err *err);
    /* The attempt must be open. final: the task's terminal state, of which there is one, or 0. */
    int (*ended)(void *arg, struct attempt_ref ref, uint64_t seq, uint32_t final, struct err *err);
    /* A terminal state that no attempt brought; one per job (task is TASK_SINGLE, for an array too) and per task of an
     * array. */
    int (*terminal)(void *arg, job_id job, uint32_t task, uint32_t state, uint64_t seq, struct err *err);
    /* The job has a record that no other view leads to. */
    int (*mark)(void *arg, job_id job, struct err *err);
};
int store_views_apply(const struct store_view_ops *ops, void *arg, const struct record *r, struct err *err);

/* Adds what an ASSIGNED, STARTED, ENDED or REVOKED record tells to the row of its attempt; a->ref is the caller's. */
void store_attempt_add(struct store_attempt *a, const struct record *r);

#endif
