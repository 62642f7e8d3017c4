/* node_index.h: the nodes that take work, in an order in which the best one for a request is found without looking at
 * all.
 *
 * A treap in order of (alike in capacity, how full, number): neighbours are much alike. Each of its nodes knows what
 * holds for everything below it (struct node_span): a part where nothing has room, or nothing scores more than what was
 * found, is not entered. What is found is what a look at every node would find. Finding and updating take O(log n)
 * where nodes are of a few kinds; never more than one look at each node. The shape of the tree depends on its content
 * only. */
#ifndef ROTA_CORE_SCHED_NODE_INDEX_H
#define ROTA_CORE_SCHED_NODE_INDEX_H

#include <stddef.h>

#include "core/policy/place.h"

/* Part of a node; it holds a copy of what the order is made from. */
struct index_node {
    struct index_node *left, *right;
    uint32_t number; /* of the node: decides between equals */
    bool in;
    uint64_t kind;   /* equal for nodes of about the same capacity */
    double fullness; /* dominant share of what is allocated */
    struct resources capacity, allocated;
    struct node_span span; /* of this one and all below */
};

struct node_index {
    struct index_node *root;
};

#define index_entry(node, type, member) ((type *)((char *)(node)-offsetof(type, member)))

/* Puts the node in, or where it belongs now. */
void node_index_put(struct node_index *x, struct index_node *n, uint32_t number, const struct resources *capacity,
                    const struct resources *allocated);
void node_index_remove(struct node_index *x, struct index_node *n); /* one that is not in is fine */
/* The best node with room for `need` that `accepts` (NULL: all do); NULL: there is none. */
struct index_node *node_index_best(const struct node_index *x, const struct scorer *scorer,
                                   const struct resources *need, bool (*accepts)(void *arg, const struct index_node *n),
                                   void *arg);
/* True if a node would have room when it is empty. */
bool node_index_fits_empty(const struct node_index *x, const struct resources *need);
size_t node_index_check(const struct node_index *x); /* verifies order and spans; how many there are */

#endif
