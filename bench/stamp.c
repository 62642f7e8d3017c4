/* stamp.c: the job of the latency measurement: appends the monotonic time of its start, in ns, to the file it is given. */
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    if (argc < 2)
        return 2;
    int fd = open(argv[1], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    return fd < 0 || dprintf(fd, "%lld\n", (long long)t.tv_sec * 1000000000 + t.tv_nsec) < 0;
}
