/* intern.h: equal byte strings get the same small number, 0 .. count-1, in order of first appearance. Never forgets. */
#ifndef ROTA_CORE_SCHED_INTERN_H
#define ROTA_CORE_SCHED_INTERN_H

#include "base/arena.h"
#include "base/buf.h"

#define INTERN_NONE UINT32_MAX

struct intern {
    struct arena arena;
    struct bytes *items;
    size_t count, cap;
    uint32_t *slots; /* number + 1, or 0; a power of two many */
    size_t slots_count;
};

void intern_fini(struct intern *t);
uint32_t intern_add(struct intern *t, struct bytes text);
uint32_t intern_find(const struct intern *t, struct bytes text); /* INTERN_NONE if it was never added */
static inline struct bytes intern_text(const struct intern *t, uint32_t number) { return t->items[number]; }
size_t intern_memory(const struct intern *t);

#endif
