/* where.h: which nodes a job may run on: terms over a node's labels, its name and what it has.
 *
 * Labels of a node are "zone=a,ssd": names with or without a value. A constraint is terms, all of which must hold, with & or , between:
 *   zone=a        zone=a|b (one of these)        zone!=a (a node without zone, too)        ssd (it has the label)        !ssd
 *   rack>=3       compares numbers, with > >= < <=; a node without the label, or with a value that is no number, does not meet it
 *   node cpus mem gpus are its name and what it offers in all: node=a|b, cpus>=16, mem>=64G. No label has such a name. */
#ifndef ROTA_CORE_MODEL_WHERE_H
#define ROTA_CORE_MODEL_WHERE_H

#include "base/err.h"
#include "base/buf.h"
#include "core/model/resources.h"

#define WHERE_MAX 256u  /* bytes of a constraint */
#define LABELS_MAX 1024u /* bytes of the labels of a node */

struct where_node {
    struct bytes name, labels;
    const struct resources *has;
};

/* Whether it can be read; err->field is left to the caller. The empty one is met by all. */
int where_check(struct bytes where, struct err *err);
int labels_check(struct bytes labels, struct err *err);
/* Of a constraint that can be read. */
bool where_meets(struct bytes where, const struct where_node *node);

#endif
