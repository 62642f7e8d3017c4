/* shim_record.h: what the shim in a container and the worker outside tell each other, through files in one directory.
 *
 *   out, err  the job's output
 *   exit      one struct shim_record, written in place: the file is as long from the start, so that a full disk can not
 *             lose the end of a job. Rewritten at each step; the last one is synced.
 *   ctl       a FIFO: each byte is an order, SHIM_TERM or SHIM_KILL. A signal that reaches the shim any other way comes
 *             from somebody else, and is told as such.
 *
 * The worker makes all four; inside, the directory belongs to somebody else than the job wherever that is possible. The
 * worker believes nothing in it: what does not add up counts as no record. */
#ifndef ROTA_EXEC_SHIM_RECORD_H
#define ROTA_EXEC_SHIM_RECORD_H

#include <stddef.h>
#include <stdint.h>

#define SHIM_MAGIC 0x314d4853u /* "SHM1" */
#define SHIM_TERM 'T'
#define SHIM_KILL 'K'
#define SHIM_NAME_BYTES 128
#define SHIM_HERE "/.rota/attempt" /* where the directory is in the container */
#define SHIM_PROGRAM "/.rota/shim"

enum shim_phase { SHIM_NOTHING, SHIM_BEGUN, SHIM_RUNNING, SHIM_ENDED };
/* Which step of the start failed; 0: none did. */
enum shim_stage {
    SHIM_OK,
    SHIM_STAGE_FILES,
    SHIM_STAGE_FORK,
    SHIM_STAGE_STDIN,
    SHIM_STAGE_STDOUT,
    SHIM_STAGE_STDERR,
    SHIM_STAGE_EXEC
};
enum shim_flag {
    SHIM_FOREIGN_SIGNAL = 1, /* somebody else asked it to end while it ran */
    SHIM_ORDERED_TERM = 2,
    SHIM_ORDERED_KILL = 4,
    SHIM_OOM_KNOWN = 8 /* oom_kills was read from the kernel */
};

struct shim_record {
    uint32_t magic;
    uint32_t phase;
    int64_t begun_ms, ended_ms; /* CLOCK_BOOTTIME of the kernel that the container runs on */
    uint64_t cpu_us;            /* of all its processes that were waited for */
    uint64_t rss_max_bytes;     /* of the largest of them */
    uint64_t mem_max_bytes;     /* of the container, as the kernel counts it; 0: unknown */
    uint32_t exit_code, signal;
    uint32_t flags;
    uint32_t oom_kills;
    uint32_t stage;
    int32_t error;              /* errno of the stage */
    char name[SHIM_NAME_BYTES]; /* what the stage was about, ends in zero */
    uint64_t sum;               /* shim_record_sum of what is before it */
};

/* FNV-1a: tells a record that was written half from a whole one; it is no protection against lies. */
static inline uint64_t shim_record_sum(const struct shim_record *r)
{
    const unsigned char *at = (const unsigned char *)r, *end = at + offsetof(struct shim_record, sum);
    uint64_t sum = 0xcbf29ce484222325u;
    for (; at < end; at++)
        sum = (sum ^ *at) * 0x100000001b3u;
    return sum;
}

#endif
