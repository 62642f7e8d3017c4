/* How fast processes are started: exec_proc against a bare posix_spawn loop, in turns, in one run.
 *
 * usage: spawn_bench [JOBS [IN_FLIGHT [ROUNDS]]]      10000 jobs of /bin/true, 2 in flight, 5 rounds
 *   ended    a job is in flight from start() until on_ended: until its end is on the disk
 *   vacated  until on_vacated: its processes are gone, its end is being written
 * The state directory is made below $TMPDIR, which should be on a disk, not in memory. */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/check.h"
#include "exec/exec.h"
#include "exec/nursery.h"
#include "io/clock.h"
#include "io/loop.h"

extern char **environ;

static char program[] = "/bin/true";
static char *program_argv[] = { program, NULL };

struct bench {
    struct exec *exec;
    uint64_t next, ended, jobs;
};

static double bare(uint64_t jobs, uint64_t in_flight)
{
    int64_t begin_ns = clock_now_ns();
    for (uint64_t started = 0, running = 0; started < jobs || running;) {
        for (; running < in_flight && started < jobs; started++, running++) {
            pid_t pid;
            check(posix_spawn(&pid, program, NULL, NULL, program_argv, environ) == 0);
        }
        check(wait(NULL) > 0);
        running--;
    }
    return (double)jobs * 1e9 / (double)(clock_now_ns() - begin_ns);
}

static void start_one(struct bench *b, uint64_t last)
{
    if (b->next > last)
        return;
    struct err err = { 0 };
    struct exec_job job = { .ref = { .job = { b->next++ }, .task = TASK_SINGLE, .attempt = 1 },
                            .argv = program_argv,
                            .env = environ };
    if (b->exec->ops->start(b->exec, &job, &err) == 0)
        return;
    fprintf(stderr, "spawn_bench: %s\n", err.text);
    exit(1);
}

static void on_vacated(void *arg, struct attempt_ref ref, struct attempt_ref passed_to)
{
    struct bench *b = arg;
    (void)ref;
    (void)passed_to;
    start_one(b, b->jobs);
}

static void take_end(struct bench *b, struct attempt_ref ref, const struct attempt_result *result, const char *text)
{
    if (result->reason) {
        fprintf(stderr, "spawn_bench: job %llu: %s\n", (unsigned long long)ref.job.n, text);
        exit(1);
    }
    b->ended++;
    b->exec->ops->remove(b->exec, ref);
}

static void on_ended(void *arg, struct attempt_ref ref, const struct attempt_result *result, bool started,
                     const char *text)
{
    (void)started;
    take_end(arg, ref, result, text);
    start_one(arg, ((struct bench *)arg)->jobs);
}

static void on_ended_only(void *arg, struct attempt_ref ref, const struct attempt_result *result, bool started,
                          const char *text)
{
    (void)started;
    take_end(arg, ref, result, text);
}

static double through_exec(const char *state_dir, uint64_t jobs, uint64_t in_flight, bool vacated)
{
    struct bench b = { .next = 1, .jobs = jobs };
    struct loop *loop = loop_new();
    struct exec_config config = { .state_dir = state_dir, .shutdown_nursery = true };
    struct exec_events events = { .arg = &b,
                                  .on_ended = vacated ? on_ended_only : on_ended,
                                  .on_vacated = vacated ? on_vacated : NULL };
    struct err err = { 0 };
    b.exec = exec_proc_open(loop, &config, &events, &err);
    if (!b.exec) {
        fprintf(stderr, "spawn_bench: %s\n", err.text);
        exit(1);
    }
    int64_t begin_ns = clock_now_ns();
    for (uint64_t i = 0; i < in_flight; i++)
        start_one(&b, jobs);
    while (b.ended < jobs)
        loop_turn(loop, -1);
    double rate = (double)jobs * 1e9 / (double)(clock_now_ns() - begin_ns);
    b.exec->ops->close(b.exec);
    loop_free(loop);
    return rate;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], NURSERY_ARGUMENT) == 0)
        return nursery_main(argc, argv);
    uint64_t jobs = argc > 1 ? strtoull(argv[1], NULL, 10) : 10000;
    uint64_t in_flight = argc > 2 ? strtoull(argv[2], NULL, 10) : 2;
    uint64_t rounds = argc > 3 ? strtoull(argv[3], NULL, 10) : 5;
    const char *tmp = getenv("TMPDIR");
    char dir[256], command[300];
    snprintf(dir, sizeof dir, "%s/spawn_bench.XXXXXX", tmp ? tmp : "/tmp");
    if (!jobs || !in_flight || !rounds || rounds > 99 || !mkdtemp(dir)) {
        fprintf(stderr, "usage: spawn_bench [JOBS [IN_FLIGHT [ROUNDS]]]\n");
        return 2;
    }
    double ended[99], vacated[99];
    for (uint64_t i = 0; i < rounds; i++) {
        double before = bare(jobs, in_flight);
        double a = through_exec(dir, jobs, in_flight, false), b = through_exec(dir, jobs, in_flight, true);
        double reference = (before + bare(jobs, in_flight)) / 2;
        ended[i] = a / reference;
        vacated[i] = b / reference;
        printf("bare %.0f/s  ended %.0f/s (%.2f)  vacated %.0f/s (%.2f)\n", reference, a, ended[i], b, vacated[i]);
        fflush(stdout);
    }
    qsort(ended, rounds, sizeof *ended, by_value);
    qsort(vacated, rounds, sizeof *vacated, by_value);
    printf("median ratio to the bare loop: ended %.2f, vacated %.2f\n", ended[rounds / 2], vacated[rounds / 2]);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command) == 0 ? 0 : 1;
}
