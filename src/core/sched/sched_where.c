/* sched_where.c: each constraint that some class has is held against each node once, and again when the node changes. */
#include <stdlib.h>

#include "core/model/where.h"
#include "core/sched/sched_state.h"

static bool set(struct node *n, uint64_t number, bool on)
{
    size_t word = number / 64;
    uint64_t bit = 1ull << (number % 64);
    struct traits *t = &n->traits;
    if (word >= t->words) {
        if (!on)
            return false;
        t->bits = mem_resize(t->bits, word + 1, sizeof *t->bits);
        for (; t->words <= word; t->words++)
            t->bits[t->words] = 0;
    }
    bool was = t->bits[word] & bit;
    t->bits[word] = on ? t->bits[word] | bit : t->bits[word] & ~bit;
    return was != on;
}

static bool look(const struct sched *s, struct node *n, uint32_t place)
{
    struct where_node as = { n->name, n->labels, &n->capacity };
    return set(n, place + 1ull, where_meets(intern_text(&s->wheres, place), &as));
}

void sched_where_fini(struct sched *s)
{
    for (size_t i = 0; i < s->nodes_count; i++)
        free(s->nodes[i]->traits.bits);
    intern_fini(&s->wheres);
}

uint64_t sched_where(struct sched *s, struct bytes where)
{
    if (!where.size)
        return 0;
    size_t known = s->wheres.count;
    uint32_t place = intern_add(&s->wheres, where);
    for (size_t i = 0; place >= known && i < s->nodes_count; i++)
        look(s, s->nodes[i], place);
    return place + 1ull;
}

struct bytes sched_where_text(const struct sched *s, uint64_t number)
{
    return number ? intern_text(&s->wheres, (uint32_t)(number - 1)) : bytes_of(NULL, 0);
}

bool sched_where_node(struct sched *s, struct node *n)
{
    bool changed = false;
    n->capacity.traits = &n->traits;
    for (uint32_t place = 0; place < s->wheres.count; place++)
        changed |= look(s, n, place);
    return changed;
}
