/* wire.h: batches of messages <-> bytes (schema/messages.proto). The only code that includes generated protobuf is in wire/.
 *
 * A batch carries who speaks (cluster, epoch, session) and many messages; a spec is written once per batch, however many
 * tasks of an array it starts. Decoding is bounded: the total is checked before unpacking, an allocator with a limit unpacks,
 * and no count in the message is trusted. Unknown message types are skipped and counted. */
#ifndef ROTA_WIRE_H
#define ROTA_WIRE_H

#include "base/arena.h"
#include "base/err.h"
#include "core/model/message.h"
#include "core/model/record.h"

struct wire_head {
    uint8_t cluster[16];
    uint64_t epoch;          /* from the master: its epoch; from a worker: the highest it has seen */
    uint64_t session;        /* from the master: the session as it numbers it, as told in WELCOME; 0 before */
    struct worker_id worker; /* from a worker */
    uint64_t incarnation;
};

#define WIRE_BATCH_MAX (4u * 1024 * 1024)
#define WIRE_MESSAGES_MAX 65536u         /* messages in one batch */
#define WIRE_LOG_MAX (1024u * 1024)      /* bytes of log_chunk.data */
#define WIRE_TEXT_MAX 1024u              /* bytes of name, boot, version and text; longer ones are cut when written */

struct wire_writer;
struct wire_writer *wire_writer_new(void);
void wire_writer_free(struct wire_writer *w);
void wire_begin(struct wire_writer *w, const struct wire_head *head);
/* Copies nothing: strings must live until wire_end. False: the batch is full; end it and begin another. Never false when
 * the batch is empty. Bounds of message.h must hold; START.spec is at most RECORD_SPEC_MAX. */
bool wire_add(struct wire_writer *w, const struct message *m);
size_t wire_count(const struct wire_writer *w);
struct bytes wire_end(struct wire_writer *w);            /* borrowed until the next wire_begin */

/* skipped: messages of a kind, or with a reason or phase, that only a newer version knows. */
struct wire_batch { struct wire_head head; const struct message *messages; size_t count; size_t skipped; };
/* All memory comes from the arena. ERR_CORRUPT, ERR_TOO_LARGE. */
int wire_decode(struct arena *arena, struct bytes body, struct wire_batch *out, struct err *err);

/* What a record names by number and people by words. */
struct record_words {
    const char *(*node)(void *arg, uint32_t node);                     /* NULL, or it returns NULL: the number */
    uint32_t (*index)(void *arg, job_id job, uint32_t position);       /* the index of a task; TASK_SINGLE: not known. NULL: the position */
    void *arg;
};
/* A record as a JSON object: {"seq":..,"at":"2026-..Z","event":"job.started","job":7,...}. Fields by their names in
 * events.def; states and reasons as words, nodes and tasks by `words` (may be NULL). */
void wire_record_json(struct buf *out, const struct record *r, const struct record_words *words);

#endif
