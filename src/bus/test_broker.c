#include "bus/test_broker.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"

void test_broker_start(struct test_broker *b)
{
    int in[2], out[2];
    const char *script = getenv("ROTA_BROKER");
    check(script); /* meson names the script */
    strcpy(b->dir, "/tmp/rota-broker-XXXXXX");
    check(mkdtemp(b->dir) && pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
    b->pid = fork();
    check(b->pid >= 0);
    if (b->pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        signal(SIGPIPE, SIG_DFL);
        execl("/usr/bin/python3", "python3", script, "run", b->dir, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    b->input = in[1];
    char line[32] = { 0 };
    size_t have = 0;
    while (have < sizeof line - 1 && !strchr(line, '\n')) {
        ssize_t n = read(out[0], line + have, sizeof line - 1 - have);
        if (n <= 0) {
            fprintf(stderr, "the broker does not start\n");
            exit(1);
        }
        have += (size_t)n;
    }
    close(out[0]);
    b->port = atoi(line);
    check(b->port > 0);
}

void test_broker_stop(struct test_broker *b)
{
    close(b->input);
    check(waitpid(b->pid, NULL, 0) == b->pid);
}
