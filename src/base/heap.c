#include "base/heap.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/mem.h"

void heap_init(struct heap *h, bool (*before)(const struct heap_node *, const struct heap_node *))
{
    *h = (struct heap){ .before = before };
}

void heap_fini(struct heap *h)
{
    free(h->nodes);
    *h = (struct heap){ .before = h->before };
}

static void put(struct heap *h, size_t at, struct heap_node *n)
{
    h->nodes[at] = n;
    n->index = (uint32_t)at;
}

static void up(struct heap *h, size_t at)
{
    struct heap_node *n = h->nodes[at];
    while (at > 0) {
        size_t parent = (at - 1) / 2;
        if (!h->before(n, h->nodes[parent]))
            break;
        put(h, at, h->nodes[parent]);
        at = parent;
    }
    put(h, at, n);
}

static void down(struct heap *h, size_t at)
{
    struct heap_node *n = h->nodes[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= h->count)
            break;
        if (child + 1 < h->count && h->before(h->nodes[child + 1], h->nodes[child]))
            child++;
        if (!h->before(h->nodes[child], n))
            break;
        put(h, at, h->nodes[child]);
        at = child;
    }
    put(h, at, n);
}

void heap_push(struct heap *h, struct heap_node *n)
{
    check(!heap_has(n));
    check(h->count < HEAP_NOWHERE);
    h->nodes = mem_grow(h->nodes, &h->cap, h->count + 1, sizeof *h->nodes);
    put(h, h->count++, n);
    up(h, n->index);
}

void heap_remove(struct heap *h, struct heap_node *n)
{
    size_t at = n->index;
    check(at < h->count && h->nodes[at] == n);
    n->index = HEAP_NOWHERE;
    struct heap_node *last = h->nodes[--h->count];
    if (last == n)
        return;
    put(h, at, last);
    heap_moved(h, last);
}

void heap_rebuild(struct heap *h)
{
    for (size_t at = h->count / 2; at > 0; at--)
        down(h, at - 1);
}

void heap_moved(struct heap *h, struct heap_node *n)
{
    check(n->index < h->count && h->nodes[n->index] == n);
    up(h, n->index);
    down(h, n->index);
}
