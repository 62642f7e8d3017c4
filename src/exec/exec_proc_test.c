/* Jobs as processes: what they are given, how they end, what they leave. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "core/model/record.h"
#include "exec/exec_conformance.h"
#include "exec/nursery.h"
#include "exec/procfs.h"
#include "io/clock.h"

#define ARGV(...) ((char *[]){ (char *)(uintptr_t)__VA_ARGS__, NULL })
#define STR(s) ((char *)(uintptr_t)(s))

static int setup(void **state)
{
    unsetenv("ROTA_CGROUP");
    struct world *w = mem_alloc(sizeof *w);
    world_init(w, exec_proc_open);
    *state = w;
    return 0;
}

static int setup_without_cgroups(void **state)
{
    setenv("ROTA_CGROUP", "off", 1);
    struct world *w = mem_alloc(sizeof *w);
    world_init(w, exec_proc_open);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world_fini(*state);
    free(*state);
    return 0;
}

static void read_whole(const char *path, struct buf *out)
{
    buf_clear(out);
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    char block[65536];
    size_t n;
    while ((n = fread(block, 1, sizeof block, f)) > 0)
        buf_add(out, block, n);
    fclose(f);
}

static void read_log(struct world *w, uint64_t job, enum exec_stream stream, struct buf *out)
{
    char path[4096];
    assert_true(w->exec->ops->log_path(w->exec, world_ref(job), stream, path, sizeof path));
    read_whole(path, out);
}

static bool has_log(struct world *w, uint64_t job, enum exec_stream stream)
{
    char path[4096];
    return w->exec->ops->log_path(w->exec, world_ref(job), stream, path, sizeof path);
}

static void assert_log(struct world *w, uint64_t job, enum exec_stream stream, const char *expected)
{
    autobuf struct buf got = BUF_INIT;
    read_log(w, job, stream, &got);
    assert_string_equal(got.data ? got.data : "", expected);
}

/* Path in the test's directory; valid until four more calls. */
static const char *in_dir(struct world *w, const char *name)
{
    static char paths[4][128];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", w->dir, name);
    return path;
}

static void write_file(const char *path, const void *data, size_t size, mode_t mode)
{
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static void wait_for_file(struct world *w, const char *path)
{
    int64_t until_ms = clock_now_ms() + 60000;
    struct stat st;
    while (stat(path, &st) < 0 || st.st_size == 0) {
        assert_true(clock_now_ms() < until_ms);
        loop_turn(w->loop, 5);
    }
}

/* What the executor says of a running job holds from on_started on. */
static void wait_started(struct world *w, uint64_t job)
{
    while (!w->seen[job].started)
        world_turn(w);
}

/* The pids in a file, one per line. */
static size_t read_pids(const char *path, pid_t *pids, size_t max)
{
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    size_t count = 0;
    int pid;
    while (count < max && fscanf(f, "%d", &pid) == 1)
        pids[count++] = pid;
    fclose(f);
    return count;
}

static void assert_all_gone(const char *pids_path, size_t expected)
{
    pid_t pids[64];
    assert_int_equal(read_pids(pids_path, pids, 64), expected);
    for (size_t i = 0; i < expected; i++) {
        struct proc_stat stat;
        /* Reaping may be a moment behind for what was only adopted; a zombie runs no more. */
        assert_true(!proc_stat_read(pids[i], &stat) || stat.state == 'Z');
    }
}

/* --- how it ends --- */

static void tells_the_signal(void **state)
{
    struct world *w = *state;
    static const int signals[] = { SIGTERM, SIGKILL, SIGSEGV, SIGUSR1, SIGABRT, SIGHUP };
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        char script[32];
        snprintf(script, sizeof script, "kill -%d $$; sleep 60", signals[i]);
        struct seen *s = world_wait(w, world_sh(w, script));
        assert_int_equal(s->result.reason, REASON_SIGNAL);
        assert_int_equal(s->result.signal, signals[i]);
        assert_true(s->had_process);
    }
}

static void assert_no_spawn(struct world *w, struct exec_job job, const char *text)
{
    uint64_t number = world_start(w, job);
    struct seen *s = world_wait(w, number);
    if (s->result.reason != REASON_SPAWN || s->had_process || s->started || !strstr(s->text, text))
        fail_msg("reason %d, process %d, started %u, text: %s; wanted: %s", s->result.reason, s->had_process,
                 s->started, s->text, text);
    assert_false(has_log(w, number, EXEC_STDOUT));
}

static void says_why_it_cannot_start(void **state)
{
    struct world *w = *state;
    write_file(in_dir(w, "plain"), "#!/bin/sh\n", 10, 0644);
    write_file(in_dir(w, "lost"), "#!/no/such/interpreter\n", 23, 0755);
    const char *plain = in_dir(w, "plain"), *lost = in_dir(w, "lost");
    assert_no_spawn(w, (struct exec_job){ .argv = ARGV("no-such-command-anywhere") },
                    "command not found in PATH \"no-such-command-anywhere\"");
    assert_no_spawn(w, (struct exec_job){ .argv = ARGV("/no/such/command") }, "\"/no/such/command\": No such file");
    assert_no_spawn(w, (struct exec_job){ .argv = ARGV("") }, "command not found");
    assert_no_spawn(w, (struct exec_job){ .argv = ARGV(plain) }, "not executable");
    assert_no_spawn(w, (struct exec_job){ .argv = ARGV(lost) }, "interpreter");
    assert_no_spawn(w, (struct exec_job){ .argv = ARGV(w->dir) }, "Is a directory");
    assert_no_spawn(w, (struct exec_job){ .argv = ARGV("a\nb\033[31m") }, "a?b?[31m");
    assert_no_spawn(w, (struct exec_job){ .argv = ARGV("true"), .workdir = "/no/such/dir" },
                    "working directory \"/no/such/dir\": No such file");
    assert_no_spawn(w, (struct exec_job){ .argv = ARGV("true"), .workdir = plain }, "Not a directory");
    assert_no_spawn(w, (struct exec_job){ .argv = ARGV("true"), .stdin_path = "/no/input" }, "stdin \"/no/input\"");
    assert_no_spawn(w, (struct exec_job){ .argv = ARGV("true"), .stdout_path = "/no/dir/out" },
                    "stdout \"/no/dir/out\"");
    assert_no_spawn(w, (struct exec_job){ .argv = ARGV("true"), .stderr_path = w->dir }, "stderr");
    /* A PATH of the job's own decides, and a later hit is found after an unfit one. */
    char path[256];
    snprintf(path, sizeof path, "PATH=%s:/bin", w->dir);
    mkdir(in_dir(w, "true"), 0755);
    assert_no_spawn(w, (struct exec_job){ .argv = ARGV("sh"), .env = ARGV("PATH=/no/where") }, "command not found");
    assert_int_equal(
        world_wait(w, world_start(w, (struct exec_job){ .argv = ARGV("true"), .env = ARGV(path) }))->result.reason, 0);
}

static void runs_a_script_without_interpreter_line(void **state)
{
    struct world *w = *state;
    write_file(in_dir(w, "run.sh"), "echo \"$0 $1\"; exit 7\n", 21, 0755);
    uint64_t job = world_start(w, (struct exec_job){ .argv = ARGV("./run.sh", STR("x")), .workdir = w->dir });
    assert_int_equal(world_wait(w, job)->result.exit_code, 7);
    assert_log(w, job, EXEC_STDOUT, "./run.sh x\n");
}

static void term_lets_it_end_itself(void **state)
{
    struct world *w = *state;
    uint64_t job = world_sh(w, "trap 'exit 42' TERM; echo go >ready; while :; do sleep 0.02; done");
    wait_for_file(w, in_dir(w, "ready"));
    w->exec->ops->signal(w->exec, world_ref(job), false);
    struct seen *s = world_wait(w, job);
    assert_int_equal(s->result.exit_code, 42);
    assert_int_equal(s->result.reason, REASON_EXIT);
}

static void term_wakes_what_is_stopped(void **state)
{
    struct world *w = *state;
    uint64_t job = world_sh(w, "echo go >ready; kill -STOP $$; sleep 60");
    wait_for_file(w, in_dir(w, "ready"));
    w->exec->ops->signal(w->exec, world_ref(job), false);
    assert_int_equal(world_wait(w, job)->result.signal, SIGTERM);
}

/* --- what it leaves --- */

static void a_daemon_does_not_outlive_its_job(void **state)
{
    struct world *w = *state;
    /* Forked twice, in a session of its own, with a parent that is gone. */
    char *argv[] = {
        STR("/bin/sh"), STR("-c"),
        STR("(setsid sh -c 'echo $$ >daemon; exec sleep 1000' &) ; while [ ! -s daemon ]; do sleep 0.01; done; exit 3"),
        NULL
    };
    char *env[] = { STR("PATH=/bin:/usr/bin"), STR("ROTA_FENCE=0123456789abcdef"), NULL };
    struct seen *s = world_wait(w, world_start(w, (struct exec_job){ .argv = argv, .env = env, .workdir = w->dir }));
    assert_int_equal(s->result.exit_code, 3);
    assert_all_gone(in_dir(w, "daemon"), 1);
}

static void only_its_own_daemon_is_ended(void **state)
{
    struct world *w = *state;
    char *daemon_a[] = {
        STR("/bin/sh"), STR("-c"),
        STR("(setsid sh -c 'echo $$ >a; exec sleep 1000' &) ; while [ ! -s stop ]; do sleep 0.01; done"), NULL
    };
    char *daemon_b[] = { STR("/bin/sh"), STR("-c"),
                         STR("(setsid sh -c 'echo $$ >b; exec sleep 1000' &) ; while [ ! -s b ]; do sleep 0.01; done"),
                         NULL };
    char *env_a[] = { STR("PATH=/bin:/usr/bin"), STR("ROTA_FENCE=aaaa"), NULL };
    char *env_b[] = { STR("PATH=/bin:/usr/bin"), STR("ROTA_FENCE=bbbb"), NULL };
    uint64_t a = world_start(w, (struct exec_job){ .argv = daemon_a, .env = env_a, .workdir = w->dir });
    wait_for_file(w, in_dir(w, "a"));
    world_wait(w, world_start(w, (struct exec_job){ .argv = daemon_b, .env = env_b, .workdir = w->dir }));
    assert_all_gone(in_dir(w, "b"), 1);
    pid_t pid = 0;
    struct proc_stat stat;
    assert_int_equal(read_pids(in_dir(w, "a"), &pid, 1), 1);
    assert_true(proc_stat_read(pid, &stat) && stat.state != 'Z'); /* job a runs, and so does its daemon */
    write_file(in_dir(w, "stop"), "x", 1, 0644);
    world_wait(w, a);
    assert_all_gone(in_dir(w, "a"), 1);
}

static void kill_ends_all_children(void **state)
{
    struct world *w = *state;
    uint64_t job = world_sh(w, "for i in $(seq 50); do sleep 1000 & echo $! >>pids; done; echo go >ready; wait");
    wait_for_file(w, in_dir(w, "ready"));
    w->exec->ops->signal(w->exec, world_ref(job), true);
    assert_int_equal(world_wait(w, job)->result.signal, SIGKILL);
    assert_all_gone(in_dir(w, "pids"), 50);
}

/* Linux kills at once what is started in a group in which somebody was killed before. */
static void the_slot_of_a_killed_job_can_be_used_again(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < 5; i++) {
        uint64_t job = world_sh(w, "sleep 1000 & echo $! >>pids; echo go >ready; wait");
        wait_for_file(w, in_dir(w, "ready"));
        w->exec->ops->signal(w->exec, world_ref(job), true);
        assert_int_equal(world_wait(w, job)->result.signal, SIGKILL);
        unlink(in_dir(w, "ready"));
        assert_int_equal(world_wait(w, world_sh(w, "sleep 0.01; exit 5"))->result.exit_code, 5);
    }
    assert_all_gone(in_dir(w, "pids"), 5);
}

static void children_end_with_their_job(void **state)
{
    struct world *w = *state;
    uint64_t job = world_sh(w, "for i in $(seq 20); do sleep 1000 & echo $! >>pids; done; exit 5");
    assert_int_equal(world_wait(w, job)->result.exit_code, 5);
    assert_all_gone(in_dir(w, "pids"), 20);
}

/* --- what it is given --- */

static void environment_is_exact(void **state)
{
    struct world *w = *state;
    setenv("LEAK_ME", "not", 1);
    char *env[] = { STR("B=2"), STR("A=1 with space"), STR("EMPTY="), STR("UTF8=\xc3\xa4\xe2\x82\xac"), STR("A=twice"),
                    NULL };
    uint64_t job = world_start(w, (struct exec_job){ .argv = ARGV("/usr/bin/env"), .env = env });
    world_wait(w, job);
    assert_log(w, job, EXEC_STDOUT, "B=2\nA=1 with space\nEMPTY=\nUTF8=\xc3\xa4\xe2\x82\xac\nA=twice\n");
    job = world_start(w, (struct exec_job){ .argv = ARGV("/usr/bin/env"), .env = (char *[]){ NULL } });
    world_wait(w, job);
    assert_false(has_log(w, job, EXEC_STDOUT));
    unsetenv("LEAK_ME");
}

static void arguments_are_exact(void **state)
{
    struct world *w = *state;
    uint64_t job = world_start(w, (struct exec_job){ .argv = ARGV("printf", STR("<%s>"), STR("a b"), STR(""), STR("*"),
                                                                  STR("$x"), STR("\n")) });
    world_wait(w, job);
    assert_log(w, job, EXEC_STDOUT, "<a b><><*><$x><\n>");
}

static void starts_clean(void **state)
{
    struct world *w = *state;
    signal(SIGPIPE, SIG_IGN); /* of ours nothing comes through */
    uint64_t job = world_sh(w, "grep -E '^(SigBlk|SigIgn|NoNewPrivs)' /proc/self/status; cat /proc/self/oom_score_adj; "
                               "umask; ulimit -c; cat; ls /proc/self/fd | wc -l");
    world_wait(w, job);
    assert_log(w, job, EXEC_STDOUT,
               "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nNoNewPrivs:\t1\n0\n0022\n0\n4\n");
    struct proc_stat stat;
    job = world_sh(w, "cat /proc/self/stat >/dev/null; echo $$ >pid; while [ ! -s stop ]; do sleep 0.01; done");
    wait_for_file(w, in_dir(w, "pid"));
    pid_t pid = 0;
    read_pids(in_dir(w, "pid"), &pid, 1);
    assert_true(proc_stat_read(pid, &stat));
    assert_true(stat.session == pid && stat.group == pid);
    write_file(in_dir(w, "stop"), "x", 1, 0644);
    world_wait(w, job);
}

static void files_of_its_own(void **state)
{
    struct world *w = *state;
    write_file(in_dir(w, "input"), "from a file\n", 12, 0644);
    const char *input = in_dir(w, "input");
    uint64_t job = world_start(w, (struct exec_job){ .argv = ARGV("cat"), .stdin_path = input });
    world_wait(w, job);
    assert_log(w, job, EXEC_STDOUT, "from a file\n");
    autobuf struct buf got = BUF_INIT;
    for (int i = 0; i < 2; i++) { /* relative to its directory; appended to */
        job = world_start(w, (struct exec_job){ .argv = ARGV("sh", STR("-c"), STR("cat; echo oops >&2")),
                                                .workdir = w->dir,
                                                .stdin_path = "input",
                                                .stdout_path = "output",
                                                .stderr_path = "errors" });
        struct seen *s = world_wait(w, job);
        assert_int_equal(s->result.reason, REASON_NONE);
        assert_false(has_log(w, job, EXEC_STDOUT) || has_log(w, job, EXEC_STDERR));
    }
    read_whole(in_dir(w, "output"), &got);
    assert_string_equal(got.data, "from a file\nfrom a file\n");
    read_whole(in_dir(w, "errors"), &got);
    assert_string_equal(got.data, "oops\noops\n");
    struct stat st;
    assert_int_equal(stat(in_dir(w, "output"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0644);
}

static void a_pipe_without_reader_stops_nobody(void **state)
{
    struct world *w = *state;
    assert_int_equal(mkfifo(in_dir(w, "fifo"), 0600), 0);
    const char *fifo = in_dir(w, "fifo");
    uint64_t reader = world_start(w, (struct exec_job){ .argv = ARGV("cat"), .stdin_path = fifo });
    assert_no_spawn(w, (struct exec_job){ .argv = ARGV("true"), .workdir = "/", .stdout_path = "/dev/fd/no" },
                    "stdout");
    world_wait(w, world_start(w, (struct exec_job){ .argv = ARGV("true") }));
    w->exec->ops->signal(w->exec, world_ref(reader), true);
    world_wait(w, reader);
}

static void a_large_environment_fits_and_a_larger_is_refused(void **state)
{
    struct world *w = *state;
    size_t size = 128000;
    autofree char *big = mem_alloc(size + 1);
    memset(big, 'x', size);
    memcpy(big, "BIG=", 4);
    big[size] = 0;
    uint64_t job = world_start(w, (struct exec_job){ .argv = ARGV("sh", STR("-c"), STR("echo ${#BIG}")),
                                                     .env = (char *[]){ STR("PATH=/bin"), big, NULL } });
    world_wait(w, job);
    assert_log(w, job, EXEC_STDOUT, "127996\n");
    struct err err = { 0 };
    struct exec_job twice = { .ref = world_ref(5000), .argv = ARGV("true"), .env = (char *[]){ big, big, NULL } };
    assert_int_equal(w->exec->ops->start(w->exec, &twice, &err), -ERR_TOO_LARGE);
}

/* --- its output --- */

static void output_is_equal_to_the_byte(void **state)
{
    struct world *w = *state;
    size_t size = 300001;
    autofree char *data = mem_alloc(size);
    uint32_t x = 1;
    for (size_t i = 0; i < size; i++)
        data[i] = (char)((x = x * 1664525 + 1013904223) >> 24);
    write_file(in_dir(w, "data"), data, size, 0644);
    uint64_t job = world_sh(w, "cat data; head -c 1234 data >&2; printf 'no newline'");
    struct seen *s = world_wait(w, job);
    autobuf struct buf got = BUF_INIT;
    read_log(w, job, EXEC_STDOUT, &got);
    assert_int_equal(got.size, size + 10);
    assert_memory_equal(got.data, data, size);
    assert_string_equal(got.data + size, "no newline");
    read_log(w, job, EXEC_STDERR, &got);
    assert_int_equal(got.size, 1234);
    assert_memory_equal(got.data, data, 1234);
    assert_int_equal(s->result.stdout_bytes, size + 10);
    assert_int_equal(s->result.stderr_bytes, 1234);
    assert_int_equal(s->result.flags, 0);
}

static void output_of_jobs_in_one_slot_is_kept_apart(void **state)
{
    struct world *w = *state;
    for (int i = 1; i <= 30; i++) {
        char script[64];
        snprintf(script, sizeof script, i % 3 == 0 ? "exit 0" : i % 3 == 1 ? "echo out %d" : "echo err %d >&2", i);
        world_wait(w, world_sh(w, script));
    }
    for (uint64_t i = 1; i <= 30; i++) {
        char expected[32];
        snprintf(expected, sizeof expected, i % 3 == 1 ? "out %d\n" : "err %d\n", (int)i);
        assert_int_equal(has_log(w, i, EXEC_STDOUT), i % 3 == 1);
        assert_int_equal(has_log(w, i, EXEC_STDERR), i % 3 == 2);
        if (i % 3)
            assert_log(w, i, i % 3 == 1 ? EXEC_STDOUT : EXEC_STDERR, expected);
        w->exec->ops->remove(w->exec, world_ref(i));
        assert_int_equal(has_log(w, i, EXEC_STDOUT), i % 3 == 1); /* logs stay */
    }
}

static void output_can_be_read_while_it_runs(void **state)
{
    struct world *w = *state;
    uint64_t job = world_sh(w, "echo first; echo go >ready; while [ ! -s stop ]; do sleep 0.01; done; echo last");
    wait_for_file(w, in_dir(w, "ready"));
    wait_started(w, job);
    assert_log(w, job, EXEC_STDOUT, "first\n");
    write_file(in_dir(w, "stop"), "x", 1, 0644);
    world_wait(w, job);
    assert_log(w, job, EXEC_STDOUT, "first\nlast\n");
}

static void output_over_the_cap_loses_its_middle(void **state)
{
    struct world *w = *state;
    const uint64_t cap = 1 << 20, written = 104857600 + 12;
    uint64_t job = world_start(
        w,
        (struct exec_job){ .argv = ARGV("sh", STR("-c"),
                                        STR("printf begin; head -c 104857600 /dev/zero | tr '\\0' x; printf the-end")),
                           .output_bytes_max = cap });
    struct seen *s = world_wait(w, job);
    assert_int_equal(s->result.stdout_bytes, written);
    assert_int_equal(s->result.flags, END_STDOUT_GAP);
    autobuf struct buf got = BUF_INIT;
    read_log(w, job, EXEC_STDOUT, &got);
    char mark[96];
    int mark_size =
        snprintf(mark, sizeof mark, "\n[rota: %llu bytes left out here]\n", (unsigned long long)(written - cap));
    assert_int_equal(got.size, cap + (uint64_t)mark_size);
    assert_memory_equal(got.data, "beginxxx", 8);
    assert_memory_equal(got.data + cap / 2, mark, (size_t)mark_size);
    assert_memory_equal(got.data + got.size - 8, "xthe-end", 8);
    for (size_t i = 5; i < got.size - 7; i++)
        assert_true(got.data[i] == 'x' || (i >= cap / 2 && i < cap / 2 + (size_t)mark_size));
}

static void output_over_the_cap_takes_no_space_while_it_runs(void **state)
{
    struct world *w = *state;
    char path[4096];
    uint64_t job = world_start(
        w, (struct exec_job){ .argv = ARGV("sh", STR("-c"),
                                           STR("head -c 33554432 /dev/zero | tr '\\0' y; echo go >ready; sleep 1000")),
                              .output_bytes_max = 1 << 20,
                              .workdir = w->dir });
    wait_for_file(w, in_dir(w, "ready"));
    wait_started(w, job);
    assert_true(w->exec->ops->log_path(w->exec, world_ref(job), EXEC_STDOUT, path, sizeof path));
    struct stat st = { 0 };
    int64_t until_ms = clock_now_ms() + 60000;
    do {
        loop_turn(w->loop, 10);
        assert_int_equal(stat(path, &st), 0);
        assert_true(clock_now_ms() < until_ms);
    } while (st.st_blocks * 512 > 2 << 20);
    assert_int_equal(st.st_size, 33554432);
    w->exec->ops->signal(w->exec, world_ref(job), true);
    assert_int_equal(world_wait(w, job)->result.flags, END_STDOUT_GAP);
}

/* --- measures and limits --- */

static void usage_counts_all_processes(void **state)
{
    struct world *w = *state;
    uint64_t job = world_sh(w, "sleep 1000 & sleep 1000 & echo go >ready; wait");
    wait_for_file(w, in_dir(w, "ready"));
    wait_started(w, job);
    struct exec_usage usage = { 0 };
    assert_true(w->exec->ops->usage(w->exec, world_ref(job), &usage));
    assert_int_equal(usage.processes, 3);
    assert_true(usage.rss_bytes > 3 * 4096);
    w->exec->ops->signal(w->exec, world_ref(job), true);
    struct seen *s = world_wait(w, job);
    assert_true(s->result.rss_max_bytes > 4096);
    assert_false(w->exec->ops->usage(w->exec, world_ref(job), &usage));
    job = world_sh(w, "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done");
    assert_true(world_wait(w, job)->result.cpu_ms > 0);
}

static void memory_beyond_the_request_is_oom(void **state)
{
    struct world *w = *state;
    if (!strstr(w->exec->ops->enforces(w->exec), "memory: held"))
        skip();
    struct resources need = { .v = { [RES_MEM] = 32 << 20 } };
    uint64_t job = world_start(
        w,
        (struct exec_job){ .argv = ARGV("sh", STR("-c"), STR("head -c 300000000 /dev/zero | tail >/dev/null; exit 0")),
                           .need = need });
    struct seen *s = world_wait(w, job);
    assert_int_equal(s->result.reason, REASON_OOM); /* although the main process ended well */
    assert_in_range(s->result.rss_max_bytes, 32 << 20, 33 << 20);
    /* The next job in the slot starts with a clean slate, limited or not. */
    job = world_start(w, (struct exec_job){ .argv = ARGV("true"), .need = need });
    assert_int_equal(world_wait(w, job)->result.reason, REASON_NONE);
    job = world_sh(w, "head -c 100000000 /dev/zero | tail >/dev/null");
    assert_int_equal(world_wait(w, job)->result.reason, REASON_NONE);
}

static void reopen_with(struct world *w, struct exec_process_config limits)
{
    world_close(w, true);
    exec_world_process = limits;
    world_open(w);
    exec_world_process = (struct exec_process_config){ 0 };
}

/* CPU time that three busy loops get within a second of a job that asked for so much. */
static uint64_t cpu_ms_of(struct world *w, uint64_t milli)
{
    uint64_t job = world_start(w, (struct exec_job){ .argv = ARGV("sh", STR("-c"),
                                                                  STR("for i in 1 2 3; do timeout 2 sh -c 'while :; do :; done' & done; wait")),
                                                     .need = { .v = { [RES_CPU] = milli } } });
    return world_wait(w, job)->result.cpu_ms;
}

static void cpus_beyond_the_request_are_not_had(void **state)
{
    struct world *w = *state;
    if (!strstr(w->exec->ops->enforces(w->exec), "CPUs: held") || sysconf(_SC_NPROCESSORS_ONLN) < 2)
        skip();
    assert_in_range(cpu_ms_of(w, 1000), 100, 2400); /* of 4000 on two CPUs */
    assert_in_range(cpu_ms_of(w, 200), 50, 2400);   /* less than one, which it may use while nobody else wants it */
    reopen_with(w, (struct exec_process_config){ .cpu_limit = EXEC_CPUS_SHARE });
    assert_non_null(strstr(w->exec->ops->enforces(w->exec), "CPUs: by share"));
    assert_in_range(cpu_ms_of(w, 1000), 100, 8000);
    reopen_with(w, (struct exec_process_config){ .cpu_limit = EXEC_CPUS_OFF });
    assert_non_null(strstr(w->exec->ops->enforces(w->exec), "CPUs: counted only"));
    assert_in_range(cpu_ms_of(w, 1000), 100, 8000);
}

static void processes_beyond_the_limit_are_not_made(void **state)
{
    struct world *w = *state;
    reopen_with(w, (struct exec_process_config){ .pids_max = 20 });
    if (!strstr(w->exec->ops->enforces(w->exec), "processes of a job: at most 20"))
        skip();
    uint64_t job = world_sh(w, "b() { b | b & }; b; sleep 1; exit 3");
    struct seen *s = world_wait(w, job);
    assert_true(s->result.reason == REASON_EXIT || s->result.reason == REASON_SIGNAL); /* a shell that can not fork ends */
    job = world_sh(w, "true; /bin/true"); /* the next one in the slot has its own */
    assert_int_equal(world_wait(w, job)->result.reason, REASON_NONE);
}

static void larger_files_are_not_written(void **state)
{
    struct world *w = *state;
    reopen_with(w, (struct exec_process_config){ .file_bytes_max = 65536 });
    uint64_t job = world_sh(w, "exec head -c 100000 /dev/zero >big");
    struct seen *s = world_wait(w, job);
    assert_int_equal(s->result.reason, REASON_SIGNAL);
    assert_int_equal(s->result.signal, SIGXFSZ);
    struct stat st;
    assert_int_equal(stat(in_dir(w, "big"), &st), 0);
    assert_int_equal(st.st_size, 65536);
}

static void runs_on_the_cpus_it_was_given(void **state)
{
    struct world *w = *state;
    uint64_t job = world_start(w, (struct exec_job){ .argv = ARGV("sh", STR("-c"), STR("grep Cpus_allowed_list /proc/self/status")), .cpus = "0" });
    assert_int_equal(world_wait(w, job)->result.reason, REASON_NONE);
    assert_log(w, job, EXEC_STDOUT, "Cpus_allowed_list:\t0\n");
}

/* Every step: groups, group, user, no way back, no capability, no new ones, files of its own. */
static void runs_as_somebody_else(void **state)
{
    struct world *w = *state;
    if (geteuid() != 0)
        skip();
    static const struct exec_account who = { .uid = 54321, .gid = 54322, .groups = { 54322, 54323 }, .groups_count = 2 };
    assert_int_equal(chmod(w->dir, 0755), 0);
    const char *theirs = in_dir(w, "theirs"), *ours = in_dir(w, "ours");
    assert_int_equal(mkdir(theirs, 0700), 0);
    assert_int_equal(chown(theirs, who.uid, who.gid), 0);
    write_file(ours, "secret", 6, 0600);
    char script[700];
    snprintf(script, sizeof script,
             "id -u; id -g; id -G; umask; grep -E '^(Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs):' /proc/self/status; "
             "cat %s 2>/dev/null || echo closed; echo again >/dev/stderr; touch made; stat -c %%u:%%g made; kill -9 $PPID 2>/dev/null || echo no; "
             "ls /proc/self/fd | wc -l", ours);
    uint64_t job = world_start(w, (struct exec_job){ .argv = ARGV("sh", STR("-c"), script), .account = &who, .workdir = theirs });
    struct seen *s = world_wait(w, job);
    assert_int_equal(s->result.reason, REASON_NONE);
    assert_log(w, job, EXEC_STDOUT,
               "54321\n54322\n54322 54323\n0077\n"
               "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\n"
               "CapAmb:\t0000000000000000\nNoNewPrivs:\t1\nclosed\n54321:54322\nno\n4\n");
    assert_log(w, job, EXEC_STDERR, "again\n");
    /* What the job names is opened as them: no file of ours, no directory of ours. */
    job = world_start(w, (struct exec_job){ .argv = ARGV("true"), .account = &who, .workdir = theirs, .stdin_path = ours });
    s = world_wait(w, job);
    assert_int_equal(s->result.reason, REASON_SPAWN);
    assert_non_null(strstr(s->text, "stdin"));
    job = world_start(w, (struct exec_job){ .argv = ARGV("true"), .account = &who, .workdir = theirs, .stdout_path = in_dir(w, "new") });
    assert_int_equal(world_wait(w, job)->result.reason, REASON_SPAWN);
    job = world_start(w, (struct exec_job){ .argv = ARGV("true"), .account = &who, .workdir = w->state_dir });
    s = world_wait(w, job);
    assert_int_equal(s->result.reason, REASON_SPAWN);
    assert_non_null(strstr(s->text, "working directory"));
    /* And the next one is ours again. */
    job = world_sh(w, "id -u");
    assert_int_equal(world_wait(w, job)->result.reason, REASON_NONE);
    assert_log(w, job, EXEC_STDOUT, "0\n");
}

static void keep_two_running(struct world *w, struct attempt_ref ref)
{
    w->exec->ops->remove(w->exec, ref);
    if (w->jobs < 5000)
        world_start(w, (struct exec_job){ .argv = ARGV("/bin/true") });
}

static void many_short_jobs_end_once_each(void **state)
{
    struct world *w = *state;
    w->on_end = keep_two_running;
    world_start(w, (struct exec_job){ .argv = ARGV("/bin/true") });
    world_start(w, (struct exec_job){ .argv = ARGV("/bin/true") });
    for (uint64_t job = 1; job <= 5000; job++) {
        struct seen *s = world_wait(w, job);
        assert_int_equal(s->result.reason, REASON_NONE);
        assert_int_equal(s->started, 1);
    }
    for (uint64_t job = 1; job <= 5000; job++)
        assert_int_equal(w->seen[job].ended, 1);
}

/* --- the lease --- */

static void nothing_leased_starts_without_a_lease(void **state)
{
    struct world *w = *state;
    struct seen *s = world_wait(w, world_start(w, (struct exec_job){ .argv = ARGV("/bin/true"), .overlap_never = true }));
    assert_int_equal(s->started, 0);
    assert_false(s->had_process);
    assert_int_equal(s->result.reason, REASON_NEVER_STARTED);
    assert_non_null(strstr(s->text, "lease"));

    /* Nor who was in line when it ran out, though it is renewed before the place is free. */
    w->exec->ops->lease(w->exec, clock_now_ms() + 500);
    uint64_t first = world_start(w, (struct exec_job){ .argv = ARGV("/bin/sleep", (char *)(uintptr_t) "1.5") });
    uint64_t waits = world_start(w, (struct exec_job){ .argv = ARGV("/bin/true"), .in_line = true, .overlap_never = true });
    s = world_wait(w, waits);
    assert_int_equal(s->result.reason, REASON_NEVER_STARTED);
    assert_int_equal(w->seen[first].ended, 0);
    world_wait(w, first);
}

/* The worker has died, or stands still: it is not needed for it. What the job left in a session of its own goes too. */
static void the_lease_runs_out_without_a_worker(void **state)
{
    struct world *w = *state;
    char script[160];
    w->exec->ops->lease(w->exec, clock_now_ms() + 1000);
    snprintf(script, sizeof script, "setsid sh -c 'while :; do date +%%s%%N >%s/alive; sleep 0.02; done' & sleep 60", w->dir);
    uint64_t job = world_start(
        w, (struct exec_job){ .argv = ARGV("/bin/sh", (char *)(uintptr_t) "-c", script), .workdir = w->dir, .overlap_never = true });
    while (!w->seen[job].started)
        world_turn(w);
    world_close(w, false);
    usleep(2500 * 1000);
    char path[128];
    struct stat before, after;
    snprintf(path, sizeof path, "%s/alive", w->dir);
    assert_int_equal(stat(path, &before), 0);
    usleep(300 * 1000);
    assert_int_equal(stat(path, &after), 0);
    assert_true(before.st_mtim.tv_sec == after.st_mtim.tv_sec && before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);
    world_open(w);
    assert_int_equal(w->seen[job].recovered_as, PHASE_ENDED);
    assert_int_equal(w->seen[job].result.reason, REASON_LEASE_LOST);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], NURSERY_ARGUMENT) == 0)
        return nursery_main(argc, argv);
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define CASE_WITHOUT_CGROUPS(f)                                                                                        \
    {                                                                                                                  \
#f " (without cgroups)", f, setup_without_cgroups, teardown, NULL                                              \
    }
    const struct CMUnitTest own[] = {
        CASE(tells_the_signal),
        CASE(says_why_it_cannot_start),
        CASE(runs_a_script_without_interpreter_line),
        CASE(term_lets_it_end_itself),
        CASE_WITHOUT_CGROUPS(term_lets_it_end_itself),
        CASE(term_wakes_what_is_stopped),
        CASE_WITHOUT_CGROUPS(term_wakes_what_is_stopped),
        CASE(a_daemon_does_not_outlive_its_job),
        CASE_WITHOUT_CGROUPS(a_daemon_does_not_outlive_its_job),
        CASE(only_its_own_daemon_is_ended),
        CASE_WITHOUT_CGROUPS(only_its_own_daemon_is_ended),
        CASE(kill_ends_all_children),
        CASE_WITHOUT_CGROUPS(kill_ends_all_children),
        CASE(the_slot_of_a_killed_job_can_be_used_again),
        CASE(children_end_with_their_job),
        CASE_WITHOUT_CGROUPS(children_end_with_their_job),
        CASE(environment_is_exact),
        CASE(arguments_are_exact),
        CASE(starts_clean),
        CASE(files_of_its_own),
        CASE(a_pipe_without_reader_stops_nobody),
        CASE(a_large_environment_fits_and_a_larger_is_refused),
        CASE(output_is_equal_to_the_byte),
        CASE(output_of_jobs_in_one_slot_is_kept_apart),
        CASE(output_can_be_read_while_it_runs),
        CASE(output_over_the_cap_loses_its_middle),
        CASE(output_over_the_cap_takes_no_space_while_it_runs),
        CASE(usage_counts_all_processes),
        CASE_WITHOUT_CGROUPS(usage_counts_all_processes),
        CASE(memory_beyond_the_request_is_oom),
        CASE(cpus_beyond_the_request_are_not_had),
        CASE(processes_beyond_the_limit_are_not_made),
        CASE(larger_files_are_not_written),
        CASE(runs_on_the_cpus_it_was_given),
        CASE(runs_as_somebody_else),
        CASE(many_short_jobs_end_once_each),
        CASE(nothing_leased_starts_without_a_lease),
        CASE(the_lease_runs_out_without_a_worker),
        CASE_WITHOUT_CGROUPS(the_lease_runs_out_without_a_worker),
    };
    struct CMUnitTest tests[3 * EXEC_CONFORMANCE_TESTS_MAX + sizeof own / sizeof *own];
    size_t count = exec_conformance(exec_proc_open, tests);
    count += exec_conformance_line(exec_proc_open, tests + count);
    count += exec_conformance_lease(exec_proc_open, tests + count);
    memcpy(tests + count, own, sizeof own);
    return _cmocka_run_group_tests("exec_proc", tests, count + sizeof own / sizeof *own, NULL, NULL);
}
