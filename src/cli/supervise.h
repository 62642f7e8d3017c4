/* supervise.h: when a child is started again, and what its end means. Pure but for process_start. */
#ifndef ROTA_CLI_SUPERVISE_H
#define ROTA_CLI_SUPERVISE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define RESTART_MIN_MS 200
#define RESTART_MAX_MS 5000
#define RESTART_CALM_MS 30000 /* a child that has run for this long is healthy: the next pause is the shortest again */

struct restarts { int64_t started_ms, pause_ms; };
void restarts_started(struct restarts *r, int64_t now_ms);
int64_t restarts_pause_ms(struct restarts *r, int64_t now_ms);  /* it ended now: wait for this long */

/* status as of waitpid. Store corrupt, in use and bad settings do not go away by trying again. */
bool exit_is_final(int status);
const char *exit_meaning(int code);                             /* " (in use)", or "" */
/* When a process began, in ticks since boot: with the pid it names a process for good. 0: there is none. */
uint64_t process_start(pid_t pid);

#endif
