/* exit_record.h: the records of the nursery's journal <state>/nursery.log, in memory and as bytes.
 *
 * What the journal is for: an attempt is spawned at most once, and its end is known although nobody was listening.
 *   SPAWNING  is written before the process is made and is not synced. A record in the page cache survives the death of
 * any process; it does not survive the machine, but then neither does the attempt: another boot id means that
 *             everything unfinished is dead, and the worker's own journal knows which attempts those were.
 *   SPAWNED   tells its pid; only written where no cgroup finds the processes again.
 *   EXIT      its end; told to nobody before it is synced.
 *   REMOVED   nobody needs the attempt any more.
 * Each record: u32 bytes (of all of it, a multiple of 8), u32 magic, u64 XXH3 of what follows, body. Numbers are in the
 * byte order of the machine: a journal never leaves it. The file is allocated ahead with zeros; a zero word ends it. */
#ifndef ROTA_EXEC_EXIT_RECORD_H
#define ROTA_EXEC_EXIT_RECORD_H

#include <stddef.h>

#include "core/model/message.h"

#define EXIT_RECORD_TEXT_BYTES 200 /* why it could not be started, with the final zero */
#define EXIT_RECORD_BYTES_MAX 384  /* one record in bytes */
#define EXIT_RECORD_BOOT_BYTES 40

enum exit_record_kind { LOG_BOOT = 1, LOG_SPAWNING, LOG_SPAWNED, LOG_EXIT, LOG_REMOVED };

struct exit_record {
    enum exit_record_kind kind;
    struct attempt_ref ref;            /* all but BOOT */
    char boot[EXIT_RECORD_BOOT_BYTES]; /* BOOT: of the kernel under which the following was written */
    uint32_t slot;                     /* SPAWNING */
    uint64_t fence;                    /* SPAWNING: hash of the job's ROTA_FENCE, 0: it has none */
    int64_t begun_ms;                  /* SPAWNING: CLOCK_BOOTTIME */
    uint64_t output_bytes_max;         /* SPAWNING, EXIT: cap per stream; 0: none */
    uint32_t own_streams;              /* SPAWNING, EXIT: bit per enum exec_stream that goes to our log file */
    uint32_t pid;                      /* SPAWNED */
    bool started;                      /* EXIT */
    struct attempt_result result;      /* EXIT */
    char text[EXIT_RECORD_TEXT_BYTES]; /* EXIT */
};

/* Writes one record; returns its bytes. */
size_t exit_record_encode(const struct exit_record *r, uint8_t out[EXIT_RECORD_BYTES_MAX]);

enum exit_record_found { LOG_FOUND, LOG_END, LOG_BAD };
/* Reads the record at *at and moves *at behind it. LOG_END: nothing follows. LOG_BAD: what is there is no record; *at
 * is moved to the next place that holds one, or to the end: a record that is cut short is followed by nothing. */
enum exit_record_found exit_record_decode(const uint8_t *data, size_t size, size_t *at, struct exit_record *out);

#endif
