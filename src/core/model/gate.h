/* gate.h: durable, then speak. The one place that holds effects back until the records before them are on disk.
 *
 * The shell adds the effects of each step, and its own replies, in order. gate_seal() closes what has gathered into a
 * batch whose records go to the store or journal; when they are durable gate_commit() hands out the batch's items in the order
 * in which they were added. One batch is in flight at a time: while it is written the next one gathers (group commit
 * without a timer). Items that came with no record before them still wait for the batch in flight, because what they tell
 * may rest on it. Used alike by master, worker and simulation: what the simulation proves of it holds for the others.
 * Invariant: no item is handed out before every record that was added earlier is committed. */
#ifndef ROTA_CORE_MODEL_GATE_H
#define ROTA_CORE_MODEL_GATE_H

#include "core/model/effects.h"

enum gate_item_kind { GATE_SEND, GATE_EXEC, GATE_REPLY };

struct gate_item {
    enum gate_item_kind kind;
    union {
        struct send send;
        struct exec_command exec;
        struct { void *context; uint64_t value; } reply;
    };
};

struct gate_batch {
    const struct record *records; size_t records_count; /* seq is set; valid until gate_commit's items are handled */
    const struct gate_item *items; size_t items_count;
};

struct gate;
struct gate *gate_new(uint64_t next_seq);                     /* seq of the first record that will be added */
void gate_free(struct gate *g);
void gate_add(struct gate *g, const struct effects *fx);      /* copies; gives the records their seq */
void gate_add_reply(struct gate *g, void *context, uint64_t value);
uint64_t gate_next_seq(const struct gate *g);
size_t gate_pending(const struct gate *g);                    /* records gathered and not sealed */
bool gate_in_flight(const struct gate *g);
/* Group commit: 0 when what has gathered should be sealed now, else for how many ms it may wait for more: at most
 * GATE_WINDOW_MS. A gate that was idle does not wait, not for the few batches in which a job is accepted, placed, started and
 * ended either; when batches go on following each other closely there is one per GATE_WINDOW_MS, unless much gathers. */
#define GATE_WINDOW_MS 2
#define GATE_BURST 8         /* batches without waiting; each window without a batch gives one back */
int64_t gate_pace(struct gate *g, int64_t now_ms);
/* Closes what has gathered. NULL if a batch is in flight or nothing has gathered. A batch without records is durable
 * as it is: the caller commits it at once. Borrowed until the batch is committed and the next one sealed. */
const struct gate_batch *gate_seal(struct gate *g);
/* The batch in flight is durable: its items may now be performed. Valid until the next gate_seal. */
const struct gate_batch *gate_commit(struct gate *g);

#endif
