/* Against a real engine: test/e2e/dockerd.py starts one and says where it is in ROTA_TEST_ENGINE. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "exec/container_dir.h"
#include "exec/exec_conformance.h"
#include "obs/log.h"

static int setup(void **state)
{
    struct world *w = mem_alloc(sizeof *w);
    world_init(w, exec_docker_open);
    *state = w;
    return 0;
}

static int setup_plain(void **state)
{
    exec_world_container.no_shim = true;
    return setup(state);
}

static int teardown(void **state)
{
    world_fini(*state);
    free(*state);
    exec_world_container = (struct exec_container_config){ 0 };
    return 0;
}

static uint64_t sh(struct world *w, const char *script, struct exec_job job)
{
    char *argv[] = { (char *)(uintptr_t) "/bin/sh", (char *)(uintptr_t) "-c", (char *)(uintptr_t)script, NULL };
    job.argv = argv;
    return world_start(w, job);
}

static void until_started(struct world *w, uint64_t job)
{
    while (!w->seen[job].started)
        world_turn(w);
}

static void read_log(struct world *w, uint64_t job, enum exec_stream stream, struct buf *out)
{
    char path[4096], block[65536];
    ssize_t n = 0;
    buf_clear(out);
    if (!w->exec->ops->log_path(w->exec, world_ref(job), stream, path, sizeof path))
        return;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    while ((n = read(fd, block, sizeof block)) > 0)
        buf_add(out, block, (size_t)n);
    close(fd);
}

static void says(struct world *w, uint64_t job, enum exec_stream stream, const char *text)
{
    autobuf struct buf out = BUF_INIT;
    read_log(w, job, stream, &out);
    assert_string_equal(out.size ? out.data : "", text);
}

static void ends_as(const struct seen *s, enum reason reason, uint32_t exit_code)
{
    if (s->result.reason != reason)
        fail_msg("reason %s, not %s: %s", reason_name(s->result.reason), reason_name(reason), s->text);
    assert_int_equal(s->result.exit_code, exit_code);
}

/* --- output --- */

static void output_is_equal_to_the_byte(void **state)
{
    struct world *w = *state;
    uint64_t two = sh(w, "printf 'a\\nb'; printf 'c\\000d\\377' >&2", (struct exec_job){ 0 });
    uint64_t none = sh(w, "true", (struct exec_job){ 0 });
    uint64_t many = sh(w, "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done", (struct exec_job){ 0 });
    ends_as(world_wait(w, two), REASON_NONE, 0);
    says(w, two, EXEC_STDOUT, "a\nb");
    autobuf struct buf out = BUF_INIT;
    read_log(w, two, EXEC_STDERR, &out);
    assert_int_equal(out.size, 4);
    assert_memory_equal(out.data, "c\0d\377", 4);
    assert_int_equal(w->seen[two].result.stdout_bytes, 3);
    assert_int_equal(w->seen[two].result.stderr_bytes, 4);
    world_wait(w, none);
    says(w, none, EXEC_STDOUT, "");
    world_wait(w, many);
    read_log(w, many, EXEC_STDOUT, &out);
    autobuf struct buf want = BUF_INIT;
    for (int i = 0; i < 20000; i++)
        buf_printf(&want, "line %d\n", i);
    assert_int_equal(out.size, want.size);
    assert_memory_equal(out.data, want.data, want.size);
    assert_int_equal(w->seen[many].result.stdout_bytes, want.size);
}

static void output_can_be_read_while_it_runs(void **state)
{
    struct world *w = *state;
    uint64_t job = sh(w, "echo now; sleep 3600", (struct exec_job){ 0 });
    autobuf struct buf out = BUF_INIT;
    while (!out.size) {
        world_turn(w);
        read_log(w, job, EXEC_STDOUT, &out);
    }
    assert_string_equal(out.data, "now\n");
    w->exec->ops->signal(w->exec, world_ref(job), true);
    ends_as(world_wait(w, job), REASON_SIGNAL, 0);
    says(w, job, EXEC_STDOUT, "now\n");
}

static void output_over_the_cap_loses_its_middle(void **state)
{
    struct world *w = *state;
    uint64_t job =
        sh(w, "echo first; head -c 300000 /dev/zero; echo last", (struct exec_job){ .output_bytes_max = 10000 });
    struct seen *s = world_wait(w, job);
    autobuf struct buf out = BUF_INIT;
    ends_as(s, REASON_NONE, 0);
    assert_int_equal(s->result.stdout_bytes, 300011);
    assert_int_equal(s->result.flags, END_STDOUT_GAP);
    read_log(w, job, EXEC_STDOUT, &out);
    assert_in_range(out.size, 10000, 10000 + 96);
    assert_memory_equal(out.data, "first\n", 6);
    assert_memory_equal(out.data + out.size - 5, "last\n", 5);
    assert_non_null(memmem(out.data, out.size, "290011 bytes left out here", 26));
}

/* --- what can not be started --- */

static void says_why_it_cannot_start(void **state)
{
    struct world *w = *state;
    char *missing[] = { (char *)(uintptr_t) "/bin/there-is-none", NULL };
    char *not_executable[] = { (char *)(uintptr_t) "/bin/not-executable", NULL };
    struct seen *s = world_wait(w, world_start(w, (struct exec_job){ .argv = missing }));
    ends_as(s, REASON_SPAWN, 0);
    assert_non_null(strstr(s->text, "/bin/there-is-none"));
    assert_non_null(strstr(s->text, "No such file"));
    s = world_wait(w, world_start(w, (struct exec_job){ .argv = not_executable }));
    ends_as(s, REASON_SPAWN, 0);
    assert_non_null(strstr(s->text, "Permission denied"));
    s = world_wait(w, sh(w, "true", (struct exec_job){ .stdout_path = "/nowhere/out" }));
    ends_as(s, REASON_SPAWN, 0);
    assert_non_null(strstr(s->text, "stdout"));
}

static void an_image_that_is_not_there(void **state)
{
    struct world *w = *state;
    struct seen *s =
        world_wait(w, sh(w, "true", (struct exec_job){ .image = "rota-nobody:has", .pull = EXEC_PULL_NEVER }));
    ends_as(s, REASON_IMAGE, 0);
    assert_false(s->had_process);
    assert_non_null(strstr(s->text, "rota-nobody:has"));
    s = world_wait(w, sh(w, "true", (struct exec_job){ .image = "Not A Name", .pull = EXEC_PULL_NEVER }));
    ends_as(s, REASON_IMAGE, 0);
    s = world_wait(
        w, sh(w, "true", (struct exec_job){ .image = "localhost:1/rota-nobody:has" })); /* nobody listens there */
    ends_as(s, REASON_IMAGE, 0);
    assert_true(strlen(s->text) > 0);
}

/* --- how it ends --- */

static void memory_beyond_the_request_is_oom(void **state)
{
    struct world *w = *state;
    struct exec_job job = { .need.v[RES_MEM] = 32ull << 20 };
    struct seen *s = world_wait(w, sh(w, "exec tail -c 200000000 /dev/zero", job));
    ends_as(s, REASON_OOM, 0);
    assert_in_range(s->result.rss_max_bytes, 16ull << 20, 33ull << 20);
    /* A child dies of it, and the job ends well all the same. */
    s = world_wait(w, sh(w, "tail -c 200000000 /dev/zero; exit 0", job));
    ends_as(s, REASON_OOM, 0);
    s = world_wait(w, sh(w, "true", job));
    ends_as(s, REASON_NONE, 0);
}

static void term_lets_it_end_itself(void **state)
{
    struct world *w = *state;
    uint64_t job =
        sh(w, "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.1; done", (struct exec_job){ 0 });
    autobuf struct buf out = BUF_INIT;
    while (!out.size) {
        world_turn(w);
        read_log(w, job, EXEC_STDOUT, &out);
    }
    w->exec->ops->signal(w->exec, world_ref(job), false);
    ends_as(world_wait(w, job), REASON_EXIT, 7);
    says(w, job, EXEC_STDOUT, "ready\nbye\n");
}

static void children_end_with_their_job(void **state)
{
    struct world *w = *state;
    uint64_t job = sh(w, "setsid sh -c 'echo away; sleep 3600' & sleep 1; exit 3", (struct exec_job){ 0 });
    struct seen *s = world_wait(w, job);
    ends_as(s, REASON_EXIT, 3);
    assert_in_range(s->result.run_ms, 900, 3000000);
    says(w, job, EXEC_STDOUT, "away\n");
}

static void a_fork_bomb_is_held(void **state)
{
    struct world *w = *state;
    exec_world_container.pids_max = 40;
    uint64_t job = sh(w, "b() { b | b & }; b; sleep 1; exit 0", (struct exec_job){ 0 });
    world_wait(w, job);
    ends_as(world_wait(w, sh(w, "echo still here", (struct exec_job){ 0 })), REASON_NONE, 0);
}

static void the_job_has_little_power(void **state)
{
    struct world *w = *state;
    struct exec_job job = { .need.v[RES_CPU] = 500 };
    uint64_t who = sh(w, "id -u; grep -h CapEff /proc/self/status; grep NoNewPrivs /proc/self/status 2>/dev/null", job);
    uint64_t write = sh(w, "touch /x 2>/dev/null || echo no; touch /tmp/x && echo yes", job);
    uint64_t shim = sh(w,
                       "kill -9 1; kill -TERM 1; ls /.rota/attempt; rm -f /.rota/attempt/exit 2>/dev/null; cat "
                       "/proc/1/environ 2>/dev/null; echo end",
                       job);
    world_wait(w, who);
    char want[128];
    snprintf(want, sizeof want, "%u\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n", geteuid() == 0 ? 65534 : geteuid());
    says(w, who, EXEC_STDOUT, want);
    world_wait(w, write);
    says(w, write, EXEC_STDOUT, "no\nyes\n");
    ends_as(world_wait(w, shim), REASON_NONE, 0);
    if (geteuid() == 0)
        says(w, shim, EXEC_STDOUT, "ctl\nerr\nexit\nout\nend\n");
}

/* --- without the shim --- */

static void without_the_shim(void **state)
{
    struct world *w = *state;
    uint64_t good = sh(w, "printf 'out'; printf 'err' >&2", (struct exec_job){ 0 });
    uint64_t bad = sh(w, "echo five; exit 5", (struct exec_job){ 0 });
    uint64_t trap = sh(w, "sleep 3600", (struct exec_job){ 0 });
    ends_as(world_wait(w, good), REASON_NONE, 0);
    says(w, good, EXEC_STDOUT, "out");
    says(w, good, EXEC_STDERR, "err");
    ends_as(world_wait(w, bad), REASON_EXIT, 5);
    says(w, bad, EXEC_STDOUT, "five\n");
    until_started(w, trap);
    w->exec->ops->signal(w->exec, world_ref(trap), false);
    ends_as(world_wait(w, trap), REASON_SIGNAL, 0);
    char *missing[] = { (char *)(uintptr_t) "/bin/there-is-none", NULL };
    ends_as(world_wait(w, world_start(w, (struct exec_job){ .argv = missing })), REASON_EXIT,
            127); /* the engine's init says so */
}

/* An engine that can not run our program: here because it is none. */
static void a_shim_that_does_not_run_is_left_out(void **state)
{
    struct world *w = *state;
    char path[200];
    snprintf(path, sizeof path, "%s/containers/shim", w->state_dir);
    chmod(path, 0755);
    int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    assert_true(write(fd, "no program", 10) == 10);
    close(fd);
    log_init("test", LOG_ERROR, false);
    uint64_t job = sh(w, "echo all the same", (struct exec_job){ 0 });
    ends_as(world_wait(w, job), REASON_NONE, 0);
    says(w, job, EXEC_STDOUT, "all the same\n");
    log_init("test", LOG_WARN, false);
}

/* --- a worker that ends, and the next --- */

static void it_is_found_again(void **state)
{
    struct world *w = *state;
    uint64_t runs = sh(w, "echo before; sleep 2; echo after; exit 4", (struct exec_job){ 0 });
    uint64_t long_one = sh(w, "sleep 3600", (struct exec_job){ 0 });
    uint64_t over = sh(w, "exit 6", (struct exec_job){ 0 });
    until_started(w, runs);
    until_started(w, long_one);
    world_wait(w, over);
    uint64_t queued = sh(w, "echo never", (struct exec_job){ 0 }); /* the engine never hears of it */
    world_close(w, false);
    struct seen before = w->seen[over];
    w->seen[runs].ended = w->seen[over].ended = 0;
    world_open(w);
    assert_int_equal(w->seen[runs].recovered, 1);
    assert_int_equal(w->seen[runs].recovered_as, PHASE_RUNNING);
    assert_int_equal(w->seen[over].recovered_as, PHASE_ENDED);
    assert_memory_equal(&w->seen[over].result, &before.result, sizeof before.result);
    assert_int_equal(w->seen[queued].recovered, 0);
    ends_as(world_wait(w, runs), REASON_EXIT, 4);
    says(w, runs, EXEC_STDOUT, "before\nafter\n");
    assert_int_equal(w->seen[runs].started, 1);
    w->exec->ops->signal(w->exec, world_ref(long_one), true);
    struct seen *s = world_wait(w, long_one);
    ends_as(s, REASON_SIGNAL, 0);
    assert_int_equal(s->result.signal, 9);
}

static void it_ends_while_nobody_looks(void **state)
{
    struct world *w = *state;
    uint64_t good = sh(w, "sleep 1; echo done", (struct exec_job){ 0 });
    uint64_t bad = sh(w, "sleep 1; exit 5", (struct exec_job){ 0 });
    until_started(w, good);
    until_started(w, bad);
    world_close(w, false);
    sleep(3);
    world_open(w);
    ends_as(world_wait(w, good), REASON_NONE, 0);
    says(w, good, EXEC_STDOUT, "done\n");
    ends_as(world_wait(w, bad), REASON_EXIT, 5);
}

/* --- in line --- */

static void who_is_in_line_waits_for_a_call(void **state)
{
    struct world *w = *state;
    uint64_t called = sh(w, "echo called", (struct exec_job){ .in_line = true });
    uint64_t withdrawn = sh(w, "echo never", (struct exec_job){ .in_line = true });
    uint64_t killed = sh(w, "echo never", (struct exec_job){ .in_line = true });
    world_wait(w, sh(w, "true", (struct exec_job){ 0 }));
    assert_int_equal(w->seen[called].started + w->seen[called].ended, 0);
    w->exec->ops->line(w->exec, world_ref(withdrawn), LINE_WITHDRAW);
    w->exec->ops->line(w->exec, world_ref(withdrawn), LINE_CALL); /* too late */
    w->exec->ops->signal(w->exec, world_ref(killed), true);
    w->exec->ops->line(w->exec, world_ref(called), LINE_CALL);
    ends_as(world_wait(w, withdrawn), REASON_NEVER_STARTED, 0);
    ends_as(world_wait(w, killed), REASON_NEVER_STARTED, 0);
    ends_as(world_wait(w, called), REASON_NONE, 0);
    says(w, called, EXEC_STDOUT, "called\n");
    assert_int_equal(w->seen[withdrawn].started + w->seen[killed].started, 0);
    assert_false(w->seen[withdrawn].had_process);
}

/* --- what is refused --- */

static void refuses(struct world *w, struct exec_container_config config, const char *text)
{
    struct err err = { 0 };
    struct exec_events events = { .arg = w };
    struct exec_config c = { .state_dir = w->state_dir, .container = config };
    assert_null(exec_docker_open(w->loop, &c, &events, &err));
    if (!strstr(err.text, text))
        fail_msg("\"%s\" does not say \"%s\"", err.text, text);
    assert_true(strlen(err.remedy) > 0);
}

static void dangerous_settings_are_refused(void **state)
{
    struct world *w = *state;
    char link[200], target[200];
    snprintf(link, sizeof link, "%s/link", w->dir);
    snprintf(target, sizeof target, "%s/target", w->dir);
    mkdir(target, 0755);
    assert_int_equal(symlink(target, link), 0);
    struct exec_mount mount = { link, false };
    struct exec_container_config c = { .mounts = &mount, .mounts_count = 1 };
    refuses(w, c, "symbolic link");
    mount.path = "/";
    refuses(w, c, "can not be shown");
    mount.path = w->dir; /* the state directory is in it */
    refuses(w, c, "power over this machine");
    mount.path = "/tmp"; /* the engine's socket is in it */
    refuses(w, c, "power over this machine");
    refuses(w, (struct exec_container_config){ .user = "0:0" }, "root");
    refuses(w, (struct exec_container_config){ .user = "me" }, "no user");
    refuses(w, (struct exec_container_config){ .network = "host" }, "network of the machine");
    refuses(w, (struct exec_container_config){ .engine = "tcp://127.0.0.1:1" }, "unix socket");
}

static void a_mount_is_seen(void **state)
{
    struct world *w = *state;
    static struct exec_mount mounts[2];
    char read_only[200], writable[200], script[600];
    snprintf(read_only, sizeof read_only, "%s/ro", w->dir);
    snprintf(writable, sizeof writable, "%s/rw", w->dir);
    mkdir(read_only, 0755);
    mkdir(writable, 0755);
    chmod(writable, 0777);
    world_close(w, false);
    mounts[0] = (struct exec_mount){ read_only, true };
    mounts[1] = (struct exec_mount){ writable, false };
    exec_world_container.mounts = mounts;
    exec_world_container.mounts_count = 2;
    world_open(w);
    snprintf(script, sizeof script, "touch %s/x 2>/dev/null || echo ro; echo to the file; pwd", read_only);
    char out[260];
    snprintf(out, sizeof out, "%s/out", writable);
    uint64_t job = sh(w, script, (struct exec_job){ .workdir = writable, .stdout_path = out });
    ends_as(world_wait(w, job), REASON_NONE, 0);
    char text[600] = "", want[300];
    int fd = open(out, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
    close(fd);
    snprintf(want, sizeof want, "ro\nto the file\n%s\n", writable);
    assert_string_equal(text, want);
    assert_int_equal(w->seen[job].result.stdout_bytes, 0);
}

int main(void)
{
    const char *engine = getenv("ROTA_TEST_ENGINE"), *image = getenv("ROTA_TEST_IMAGE");
    if (!engine || !image) {
        fprintf(stderr, "run it by test/e2e/dockerd.py run -- PROGRAM: there is no container engine\n");
        return 1;
    }
    setenv("DOCKER_HOST", engine, 1);
    exec_world_image = image;
    exec_world_thrift = 10;
    log_init("test", LOG_WARN, false);
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest own[] = {
        CASE(output_is_equal_to_the_byte),
        CASE(output_can_be_read_while_it_runs),
        CASE(output_over_the_cap_loses_its_middle),
        CASE(says_why_it_cannot_start),
        CASE(an_image_that_is_not_there),
        CASE(memory_beyond_the_request_is_oom),
        CASE(term_lets_it_end_itself),
        CASE(children_end_with_their_job),
        CASE(a_fork_bomb_is_held),
        CASE(the_job_has_little_power),
        cmocka_unit_test_setup_teardown(without_the_shim, setup_plain, teardown),
        CASE(a_shim_that_does_not_run_is_left_out),
        CASE(it_is_found_again),
        CASE(it_ends_while_nobody_looks),
        CASE(who_is_in_line_waits_for_a_call),
        CASE(dangerous_settings_are_refused),
        CASE(a_mount_is_seen),
    };
    struct CMUnitTest tests[EXEC_CONFORMANCE_TESTS_MAX + sizeof own / sizeof *own];
    size_t count = exec_conformance(exec_docker_open, tests);
    memcpy(tests + count, own, sizeof own);
    return _cmocka_run_group_tests("exec_docker", tests, count + sizeof own / sizeof *own, NULL, NULL);
}
