/* bus_fault.h: any bus, with a network that loses, doubles, delays and reorders. For tests.
 *
 * What happens to the n-th message of a direction follows from the seed alone. Rates are probabilities, 0 .. 1. A bus
 * without rates and partition behaves as the one inside. Messages that are held back end with their session. */
#ifndef ROTA_BUS_FAULT_H
#define ROTA_BUS_FAULT_H

#include "bus/bus.h"

enum bus_direction { BUS_IN, BUS_OUT, BUS_DIRECTIONS };

struct bus_fault_rates {
    double lose;
    double twice;
    double delay; /* held for 1 .. delay_ms_max */
    int64_t delay_ms_max;
    double reorder; /* held until 1 .. 4 later messages of its direction have passed, or REORDER_MS_MAX */
};
#define BUS_REORDER_MS_MAX 20

struct bus_fault_counts {
    uint64_t passed, lost, doubled, delayed, reordered;
};

struct bus *bus_fault_open(struct loop *loop, const struct bus_address *address, const struct bus_events *events,
                           uint64_t seed, struct err *err);
/* These take a bus of bus_fault_open. */
void bus_fault_set(struct bus *b, enum bus_direction direction,
                   const struct bus_fault_rates *rates); /* NULL: no faults */
/* All messages of that direction are lost, silently; sessions stay. */
void bus_fault_partition(struct bus *b, enum bus_direction direction, bool on);
void bus_fault_counts(const struct bus *b, enum bus_direction direction, struct bus_fault_counts *out);

#endif
