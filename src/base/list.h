/* list.h: an intrusive doubly linked list. A node that is in no list points to itself. */
#ifndef ROTA_BASE_LIST_H
#define ROTA_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list_node {
    struct list_node *next;
    struct list_node *prev;
};

#define list_entry(node, type, member) ((type *)((char *)(node)-offsetof(type, member)))
#define list_each(node, list) for (struct list_node *node = (list)->next; node != (list); node = node->next)
/* The body may remove `node`. */
#define list_each_safe(node, list)                                                                     \
    for (struct list_node *node = (list)->next, *node##_next = node->next; node != (list);             \
         node = node##_next, node##_next = node->next)

static inline void list_init(struct list_node *n) { n->next = n->prev = n; }
static inline bool list_empty(const struct list_node *list) { return list->next == list; }
static inline bool list_linked(const struct list_node *n) { return n->next != n; }
static inline void list_append(struct list_node *list, struct list_node *n)
{
    n->prev = list->prev;
    n->next = list;
    list->prev->next = n;
    list->prev = n;
}
static inline void list_remove(struct list_node *n)
{
    n->prev->next = n->next;
    n->next->prev = n->prev;
    list_init(n);
}
static inline struct list_node *list_first(const struct list_node *list) { return list_empty(list) ? NULL : list->next; }

#endif
