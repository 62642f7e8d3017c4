/* output.h: where the output of attempts is, and how it is held to its cap.
 *
 * A running attempt writes to the files of its slot, logs/slots/K.out and K.err, so that a silent job makes no file at
 * all. When it has ended, a file that is not empty gets its final name, logs/<job / 4096>/<job>[_<task>].<attempt>.out.
 * Beyond the cap the middle is thrown away, while it runs as a hole in the file, at its end for good, with a mark in
 * its place. */
#ifndef ROTA_EXEC_OUTPUT_H
#define ROTA_EXEC_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/model/ids.h"
#include "exec/exec.h"

#define OUTPUT_STREAMS 2
#define OUTPUT_NAME_BYTES 96

/* Names relative to <state>/logs. */
void output_name(char out[OUTPUT_NAME_BYTES], struct attempt_ref ref, enum exec_stream stream);
void output_slot_name(char out[OUTPUT_NAME_BYTES], uint32_t slot, enum exec_stream stream);

#define OUTPUT_MARK_BYTES 96u
/* Whether output is cut: only when the cut form, with its mark, is the shorter one. cap 0: never. */
static inline bool output_over(uint64_t written, uint64_t cap)
{
    return cap && written > cap + OUTPUT_MARK_BYTES;
}

/* How much was written to the slot's file. */
uint64_t output_size(int logs_dir, uint32_t slot, enum exec_stream stream);
/* Gives the slot's file its final name. False with errno: it keeps the old one. */
bool output_publish(int logs_dir, uint32_t slot, enum exec_stream stream, struct attempt_ref ref);
/* The same for a file that is no slot's. */
bool output_publish_file(int dir, const char *name, int logs_dir, enum exec_stream stream, struct attempt_ref ref);
uint64_t output_file_size(int dir, const char *name);
/* While it runs: gives back the space of what lies between the first and the last half cap. hole_end: how far that was
 * done. */
void output_punch(int logs_dir, uint32_t slot, enum exec_stream stream, uint64_t cap, uint64_t *hole_end);
void output_punch_file(int dir, const char *name, uint64_t cap, uint64_t *hole_end);
/* After the end: puts first half, mark and last half in the place of a published file of `written` bytes. Done twice:
 * no harm. */
bool output_squeeze(int logs_dir, struct attempt_ref ref, enum exec_stream stream, uint64_t written, uint64_t cap);

#endif
