/* nursery.h: the process that owns the jobs of a node: their parent, and the reaper of whatever they leave.
 *
 * One per state directory, for life: it is started by the first executor that finds none, belongs to no worker, and
 * serves one worker at a time on <state>/nursery.sock; the newest connection wins. It spawns on request, at most once
 * per attempt; waits; ends what a job left behind; journals the end in <state>/nursery.log, and tells it when that is
 * durable. After a crash of its own the next one resolves what the journal leaves open: nothing is spawned again. Fixed
 * tables, allocated at start; reads nothing but nursery_msg. With no worker and no job for a minute it ends. */
#ifndef ROTA_EXEC_NURSERY_H
#define ROTA_EXEC_NURSERY_H

#define NURSERY_ARGUMENT "__nursery"
#define NURSERY_SOCKET "nursery.sock"
#define NURSERY_LOCK "nursery.lock" /* held (flock) while it lives; holds its pid as text */
#define NURSERY_READY_FD 3

/* `rota __nursery STATE_DIR`, to be called first in main. Returns to its caller in the process that was started, which
 * then exits; the nursery itself goes on in a grandchild. One line is written to NURSERY_READY_FD when it serves: "ok",
 * or "busy" (there is one already), or what is wrong. */
int nursery_main(int argc, char **argv);

#endif
