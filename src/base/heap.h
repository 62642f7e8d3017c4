/* heap.h: a binary min-heap of pointers whose elements know their place, so that leaving is O(log n) and cannot fail.
 * The element embeds a `struct heap_node`; `before(a, b)` is a strict total order on elements. */
#ifndef ROTA_BASE_HEAP_H
#define ROTA_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEAP_NOWHERE UINT32_MAX

struct heap_node {
    uint32_t index; /* place in the heap, or HEAP_NOWHERE */
};

struct heap {
    struct heap_node **nodes;
    size_t count;
    size_t cap;
    bool (*before)(const struct heap_node *a, const struct heap_node *b);
};

#define heap_entry(node, type, member) ((type *)((char *)(node)-offsetof(type, member)))

void heap_init(struct heap *h, bool (*before)(const struct heap_node *, const struct heap_node *));
void heap_fini(struct heap *h);
static inline void heap_node_init(struct heap_node *n) { n->index = HEAP_NOWHERE; }
static inline bool heap_has(const struct heap_node *n) { return n->index != HEAP_NOWHERE; }
static inline struct heap_node *heap_first(const struct heap *h) { return h->count ? h->nodes[0] : NULL; }
void heap_push(struct heap *h, struct heap_node *n);   /* n must be nowhere */
void heap_remove(struct heap *h, struct heap_node *n); /* n must be in h; then nowhere */
void heap_rebuild(struct heap *h);                    /* any keys changed: restore the order, O(n) */
void heap_moved(struct heap *h, struct heap_node *n);  /* n's key changed: restore the order */

#endif
