/* wallclock.so, for LD_PRELOAD: a wall clock that a test moves while the program runs.
 *
 *   WALLCLOCK_FILE=PATH   needed: eight bytes, how many milliseconds clock_gettime(CLOCK_REALTIME) is to be ahead. All other clocks are
 *                         left alone, as they are when somebody sets the time. */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static _Atomic int64_t *ahead_ms;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("WALLCLOCK_FILE");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *map = fd >= 0 ? mmap(NULL, sizeof *ahead_ms, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (map == MAP_FAILED)
        abort();
    ahead_ms = map;
    close(fd);
}

int clock_gettime(clockid_t id, struct timespec *t)
{
    int rc = (int)syscall(SYS_clock_gettime, id, t);
    if (rc == 0 && id == CLOCK_REALTIME && ahead_ms) {
        int64_t ns = t->tv_nsec + *ahead_ms % 1000 * 1000000;
        t->tv_sec += *ahead_ms / 1000 + ns / 1000000000;
        t->tv_nsec = ns % 1000000000;
    }
    return rc;
}
