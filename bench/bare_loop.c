/* bare_loop.c: the floor for running many short processes: posix_spawn with a fixed number in flight, and nothing else.
 * bare_loop COUNT IN_FLIGHT PROGRAM: prints the seconds it took. */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: bare_loop COUNT IN_FLIGHT PROGRAM\n");
        return 2;
    }
    long left = atol(argv[1]), most = atol(argv[2]), running = 0;
    char *job[] = { argv[3], NULL };
    double start_s = now_s();
    while (left > 0 || running > 0) {
        while (running < most && left > 0) {
            pid_t pid;
            if (posix_spawn(&pid, argv[3], NULL, NULL, job, environ) != 0) {
                perror("posix_spawn");
                return 1;
            }
            running++;
            left--;
        }
        int status;
        if (wait(&status) > 0)
            running--;
    }
    printf("%.3f\n", now_s() - start_s);
    return 0;
}
