#include "cli/supervise.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/daemon.h"

void restarts_started(struct restarts *r, int64_t now_ms)
{
    r->started_ms = now_ms;
}

int64_t restarts_pause_ms(struct restarts *r, int64_t now_ms)
{
    if (r->pause_ms == 0 || now_ms - r->started_ms >= RESTART_CALM_MS)
        r->pause_ms = RESTART_MIN_MS;
    else
        r->pause_ms = r->pause_ms * 2 > RESTART_MAX_MS ? RESTART_MAX_MS : r->pause_ms * 2;
    return r->pause_ms;
}

bool exit_is_final(int status)
{
    if (!WIFEXITED(status))
        return false;
    int code = WEXITSTATUS(status);
    return code == EXIT_STORE || code == EXIT_IN_USE || code == EXIT_SETTINGS || code == 127;
}

const char *exit_meaning(int code)
{
    switch (code) {
    case EXIT_STORE:
        return " (the store is corrupt or not ours)";
    case EXIT_COMMIT:
        return " (a commit is unknown)";
    case EXIT_IN_USE:
        return " (in use by another process)";
    case EXIT_SETTINGS:
        return " (bad settings)";
    default:
        return "";
    }
}

uint64_t process_start(pid_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (got <= 0)
        return 0;
    text[got] = '\0';
    char *at = strrchr(text, ')'); /* the name may hold anything, also blanks and brackets */
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    return at ? strtoull(at + 1, NULL, 10) : 0;
}
