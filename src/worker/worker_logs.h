/* worker_logs.h: answers LOG_READ from the files of the executor.
 *
 * A read that asks to wait is answered when there is something new, when the attempt has ended, or when its time is up; until
 * then the file is looked at every 50 to 200 ms. At most LOG_WAITS_MAX reads wait; one more is answered at once. */
#ifndef ROTA_WORKER_LOGS_H
#define ROTA_WORKER_LOGS_H

#include "core/model/message.h"
#include "exec/exec.h"

#define LOG_WAITS_MAX 64u
#define LOG_CHUNK_MAX 262144u
#define LOG_WAIT_MS_MAX 60000

struct loop;
struct worker_logs;

struct worker_logs_port {
    void *arg;
    struct exec *exec;
    /* Fills the phases of the attempts; PHASE_NONE: not held (any more). */
    void (*phases)(void *arg, const struct attempt_ref *refs, enum attempt_phase *out, size_t count);
    void (*send)(void *arg, const struct message *chunk); /* copies */
};

struct worker_logs *worker_logs_new(struct loop *loop, const struct worker_logs_port *port);
void worker_logs_free(struct worker_logs *l); /* reads that wait are dropped */
void worker_logs_read(struct worker_logs *l, const struct message *log_read, int64_t now_ms);
void worker_logs_forget(struct worker_logs *l); /* drops all reads that wait */
size_t worker_logs_waiting(const struct worker_logs *l);

/* Opens a file that a job may have had a hand in: no link, no device, no pipe that blocks. -1: there is no such regular file. */
int log_file_open(const char *path);
/* The last `max` bytes of the attempt's stream into *out; empty if it has none. */
void log_tail(struct exec *exec, struct attempt_ref ref, enum exec_stream stream, size_t max, struct buf *out);

#endif
