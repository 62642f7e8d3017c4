/* What is left when somebody dies: the worker, the nursery, the machine; and when the machine has nothing left to give.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "core/model/record.h"
#include "exec/cgroup.h"
#include "exec/exec_conformance.h"
#include "exec/nursery.h"
#include "exec/nursery_log.h"
#include "exec/nursery_msg.h"
#include "exec/procfs.h"
#include "io/clock.h"

#define ARGV(...) ((char *[]){ (char *)(uintptr_t)__VA_ARGS__, NULL })
#define STR(s) ((char *)(uintptr_t)(s))
#define NOBODY 65534

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

static void touch(struct world *w, const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", w->dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_true(fd >= 0 && write(fd, "x", 1) == 1);
    close(fd);
}

static bool exists(struct world *w, const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", w->dir, name);
    return access(path, F_OK) == 0;
}

/* Waits, without the loop, until `done`. */
static void wait_until(struct world *w, bool (*done)(struct world *w, int n), int n)
{
    int64_t until_ms = clock_now_ms() + 60000;
    while (!done(w, n)) {
        assert_true(clock_now_ms() < until_ms);
        usleep(5000);
    }
}

static pid_t nursery_pid(struct world *w)
{
    char path[160], text[32] = "";
    snprintf(path, sizeof path, "%s/" NURSERY_LOCK, w->state_dir);
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    assert_non_null(fgets(text, sizeof text, f));
    fclose(f);
    return (pid_t)strtol(text, NULL, 10);
}

static pid_t pid_in(struct world *w, const char *name)
{
    char path[160];
    int pid = 0;
    snprintf(path, sizeof path, "%s/%s", w->dir, name);
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%d", &pid), 1);
    fclose(f);
    return pid;
}

static bool alive(pid_t pid)
{
    struct proc_stat stat;
    return proc_stat_read(pid, &stat) && stat.state != 'Z';
}

static void kill_nursery(struct world *w)
{
    pid_t pid = nursery_pid(w);
    assert_int_equal(kill(pid, SIGKILL), 0);
    while (alive(pid))
        usleep(1000);
}

static void count_exit(void *arg, const struct exit_record *r, bool rebooted)
{
    (void)rebooted;
    *(int *)arg += r->kind == LOG_EXIT;
}

static bool ends_journalled(struct world *w, int n)
{
    int count = 0, dir = open(w->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    nursery_log_read(dir, count_exit, &count);
    close(dir);
    return count >= n;
}

/* --- the worker dies --- */

#define ADOPTED 20

/* The life of a worker that starts jobs and is killed: runs in a process of its own. */
static _Noreturn void doomed_worker(struct world *w, int ready)
{
    world_open(w);
    for (int i = 1; i <= ADOPTED; i++) {
        char script[128];
        snprintf(script, sizeof script, "echo begin %d; while [ ! -e go.%d ]; do sleep 0.02; done; echo end; exit %d",
                 i, i, i);
        world_sh(w, script);
    }
    for (int i = 1; i <= ADOPTED; i++)
        while (!w->seen[i].started)
            world_turn(w);
    if (write(ready, "r", 1) != 1)
        _exit(1);
    for (;;)
        pause();
}

static void jobs_outlive_their_worker(void **state)
{
    struct world *w = *state;
    world_close(w, false);
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        setenv("CMOCKA_TEST_ABORT", "1", 1);
        doomed_worker(w, ready[1]);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    pid_t nursery = nursery_pid(w);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    char name[32];
    for (int i = 1; i <= ADOPTED / 2; i++) {
        snprintf(name, sizeof name, "go.%d", i);
        touch(w, name);
    }
    wait_until(w, ends_journalled, ADOPTED / 2);
    world_open(w); /* in this process nothing was seen yet */
    assert_int_equal(nursery_pid(w), nursery);
    for (uint32_t i = 1; i <= ADOPTED; i++) {
        assert_int_equal(w->seen[i].recovered, 1);
        assert_true(w->seen[i].ran_ms >= 0);
        /* One that has ended is told so at once, or as soon as its end is durable. */
        if (w->seen[i].recovered_as == PHASE_ENDED)
            assert_in_range(i, 1, ADOPTED / 2);
        else
            assert_int_equal(w->seen[i].recovered_as, PHASE_RUNNING);
    }
    for (int i = ADOPTED / 2 + 1; i <= ADOPTED; i++) {
        snprintf(name, sizeof name, "go.%d", i);
        touch(w, name);
    }
    for (uint32_t i = 1; i <= ADOPTED; i++) {
        struct seen *s = w->seen[i].recovered_as == PHASE_ENDED ? &w->seen[i] : world_wait(w, i);
        char path[4096], text[64] = "", expected[64];
        assert_int_equal(s->ended, s->recovered_as == PHASE_RUNNING);
        assert_int_equal(s->result.exit_code, i);
        assert_true(w->exec->ops->log_path(w->exec, world_ref(i), EXEC_STDOUT, path, sizeof path));
        FILE *f = fopen(path, "re");
        assert_non_null(f);
        assert_true(fread(text, 1, sizeof text - 1, f) > 0);
        fclose(f);
        snprintf(expected, sizeof expected, "begin %u\nend\n", i);
        assert_string_equal(text, expected);
    }
}

static void an_end_is_kept_until_it_is_removed(void **state)
{
    struct world *w = *state;
    for (int round = 0; round < 3; round++) {
        if (round == 0)
            world_wait(w, world_sh(w, "exit 9"));
        world_close(w, round == 1); /* also when the nursery was ended in between */
        world_open(w);
        assert_int_equal(w->seen[1].recovered, round + 1);
        assert_int_equal(w->seen[1].recovered_as, PHASE_ENDED);
        assert_int_equal(w->seen[1].result.exit_code, 9);
        struct err err = { 0 };
        struct exec_job again = { .ref = world_ref(1), .argv = ARGV("true"), .env = (char *[]){ NULL } };
        assert_int_equal(w->exec->ops->start(w->exec, &again, &err), -ERR_CONFLICT);
    }
    w->exec->ops->remove(w->exec, world_ref(1));
    w->jobs = 1;
    world_wait(w, world_sh(w, "exit 0")); /* the remove has been sent before it */
    world_close(w, true);
    world_open(w);
    assert_int_equal(w->seen[1].recovered, 3);
    assert_int_equal(w->seen[2].recovered, 1);
}

/* Speaks to the nursery without the executor's own checks. */
static void the_nursery_itself_spawns_no_attempt_twice(void **state)
{
    struct world *w = *state;
    world_wait(w, world_sh(w, "exit 0"));
    uint64_t running = world_sh(w, "while [ ! -e go ]; do sleep 0.02; done; exit 4");
    while (!w->seen[running].started)
        world_turn(w);
    world_close(w, false);
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof address.sun_path, "%s/" NURSERY_SOCKET, w->state_dir);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    autobuf struct buf b = BUF_INIT, strings = BUF_INIT;
    buf_printf(&strings, "/bin/sh%c-c%cecho twice >%s/twice", 0, 0, w->dir);
    buf_char(&strings, 0);
    struct nursery_request r = {
        .verb = NURSERY_SPAWN, .ref = world_ref(1), .argc = 3, .strings = buf_bytes(&strings)
    };
    nursery_packet_begin(&b);
    nursery_request_add(&b, &(struct nursery_request){ .verb = NURSERY_HELLO, .version = NURSERY_VERSION });
    nursery_request_add(&b, &r); /* has ended */
    r.ref = world_ref(running);
    nursery_request_add(&b, &r); /* runs */
    nursery_packet_seal(&b, 0);
    assert_int_equal(send(fd, b.data, b.size, 0), b.size);
    uint8_t in[65536];
    bool listed = false;
    while (!listed) {
        ssize_t size = recv(fd, in, sizeof in, 0);
        assert_true(size > 0);
        struct nursery_event e;
        for (size_t at = 0; nursery_event_decode(in, (size_t)size, &at, &e);)
            listed = listed || e.kind == NURSERY_LISTED;
    }
    close(fd);
    world_open(w);
    touch(w, "go");
    assert_int_equal(world_wait(w, running)->result.exit_code, 4);
    assert_false(exists(w, "twice"));
}

static void nonsense_closes_the_connection_and_harms_nobody(void **state)
{
    struct world *w = *state;
    uint64_t job = world_sh(w, "while [ ! -e go ]; do sleep 0.02; done; exit 4");
    while (!w->seen[job].started)
        world_turn(w);
    world_close(w, false);
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof address.sun_path, "%s/" NURSERY_SOCKET, w->state_dir);
    static char nonsense[65536];
    for (size_t size = 1; size <= sizeof nonsense; size *= 4) {
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
        memset(nonsense, (int)size | 7, sizeof nonsense);
        assert_int_equal(send(fd, nonsense, size, 0), size);
        char in[16];
        assert_true(recv(fd, in, sizeof in, 0) <= 0);
        close(fd);
    }
    world_open(w);
    assert_int_equal(w->seen[job].recovered_as, PHASE_RUNNING);
    touch(w, "go");
    assert_int_equal(world_wait(w, job)->result.exit_code, 4);
}

/* --- the nursery dies --- */

static char *const fenced[] = { STR("PATH=/bin:/usr/bin"), STR("ROTA_FENCE=fence-of-a-job"), NULL };

static uint64_t start_with_daemon(struct world *w)
{
    char *argv[] = { STR("/bin/sh"), STR("-c"),
                     STR("echo $$ >main; (setsid sh -c 'echo $$ >daemon; exec sleep 1000' &) ; "
                         "while [ ! -s daemon ]; do sleep 0.01; done; echo go >ready; sleep 1000"),
                     NULL };
    uint64_t job = world_start(w, (struct exec_job){ .argv = argv, .env = fenced, .workdir = w->dir });
    int64_t until_ms = clock_now_ms() + 60000;
    while (!exists(w, "ready")) {
        assert_true(clock_now_ms() < until_ms);
        loop_turn(w->loop, 5);
    }
    return job;
}

static void a_dead_nursery_is_replaced_and_its_jobs_end_honestly(void **state)
{
    struct world *w = *state;
    uint64_t before = world_sh(w, "exit 6"), job;
    world_wait(w, before);
    job = start_with_daemon(w);
    pid_t old = nursery_pid(w), main_pid = pid_in(w, "main"), daemon = pid_in(w, "daemon");
    kill_nursery(w);
    struct seen *s = world_wait(w, job);
    assert_int_equal(s->result.reason, REASON_INFRA);
    assert_int_equal(s->result.flags, END_MAY_HAVE_RUN);
    assert_true(s->had_process);
    assert_false(alive(main_pid) || alive(daemon));
    assert_int_equal(w->seen[before].ended, 1);
    assert_int_not_equal(nursery_pid(w), old);
    assert_int_equal(world_wait(w, world_sh(w, "exit 8"))->result.exit_code, 8);
}

static void what_was_asked_of_a_dead_nursery_was_never_started(void **state)
{
    struct world *w = *state;
    pid_t pid = nursery_pid(w);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    uint64_t job = world_sh(w, "echo ran >ran");
    loop_turn(w->loop, 20); /* it is in the socket now */
    kill_nursery(w);
    struct seen *s = world_wait(w, job);
    assert_int_equal(s->result.reason, REASON_INFRA);
    assert_false(s->had_process);
    assert_int_equal(s->started, 0);
    world_wait(w, world_sh(w, "exit 0"));
    assert_false(exists(w, "ran"));
}

static void worker_and_nursery_both_die(void **state)
{
    struct world *w = *state;
    world_wait(w, world_sh(w, "exit 6"));
    uint64_t job = start_with_daemon(w);
    pid_t main_pid = pid_in(w, "main"), daemon = pid_in(w, "daemon");
    world_close(w, false);
    kill_nursery(w);
    world_open(w);
    assert_int_equal(w->seen[1].recovered_as, PHASE_ENDED);
    assert_int_equal(w->seen[1].result.exit_code, 6);
    assert_int_equal(w->seen[job].recovered_as, PHASE_ENDED);
    assert_int_equal(w->seen[job].result.reason, REASON_INFRA);
    assert_int_equal(w->seen[job].result.flags, END_MAY_HAVE_RUN);
    assert_false(alive(main_pid) || alive(daemon));
}

static void output_of_a_lost_job_is_kept(void **state)
{
    struct world *w = *state;
    uint64_t job = world_sh(w, "echo words; echo go >ready; sleep 1000");
    int64_t until_ms = clock_now_ms() + 60000;
    while (!exists(w, "ready")) {
        assert_true(clock_now_ms() < until_ms);
        loop_turn(w->loop, 5);
    }
    kill_nursery(w);
    assert_int_equal(world_wait(w, job)->result.stdout_bytes, 6);
    char path[4096];
    struct stat st;
    assert_true(w->exec->ops->log_path(w->exec, world_ref(job), EXEC_STDOUT, path, sizeof path));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 6);
    uint64_t silent = world_sh(w, "exit 0"); /* in the same slot */
    world_wait(w, silent);
    assert_false(w->exec->ops->log_path(w->exec, world_ref(silent), EXEC_STDOUT, path, sizeof path));
}

/* --- the journal --- */

struct whole_log {
    uint8_t *data;
    size_t size;
    char path[160];
};

static struct whole_log read_journal(struct world *w)
{
    struct whole_log l = { 0 };
    snprintf(l.path, sizeof l.path, "%s/nursery.log", w->state_dir);
    FILE *f = fopen(l.path, "re");
    assert_non_null(f);
    struct stat st;
    assert_int_equal(fstat(fileno(f), &st), 0);
    l.size = (size_t)st.st_size;
    l.data = mem_alloc(l.size);
    assert_int_equal(fread(l.data, 1, l.size, f), l.size);
    fclose(f);
    return l;
}

static void write_journal(struct whole_log *l)
{
    FILE *f = fopen(l->path, "we");
    assert_non_null(f);
    assert_int_equal(fwrite(l->data, 1, l->size, f), l->size);
    fclose(f);
    free(l->data);
}

/* Where the record of that kind of the job begins; with job 0, where the records end. */
static size_t find_record(const struct whole_log *l, enum exit_record_kind kind, uint64_t job)
{
    struct exit_record r;
    for (size_t at = 0, before = 0;; before = at) {
        if (exit_record_decode(l->data, l->size, &at, &r) != LOG_FOUND)
            return job ? SIZE_MAX : before;
        if (job && r.kind == kind && r.ref.job.n == job)
            return before;
    }
}

static bool kept_damaged(struct world *w)
{
    return exists(w, "state/nursery.log.damaged");
}

static void run_three_and_stop(struct world *w)
{
    for (int i = 1; i <= 3; i++) {
        char script[16];
        snprintf(script, sizeof script, "exit %d", i);
        world_wait(w, world_sh(w, script));
    }
    world_close(w, true);
}

static void a_torn_tail_of_the_journal_is_cut(void **state)
{
    struct world *w = *state;
    run_three_and_stop(w);
    struct whole_log l = read_journal(w);
    size_t end = find_record(&l, LOG_EXIT, 0), first = find_record(&l, LOG_EXIT, 1);
    memcpy(l.data + end, l.data + first, 40); /* the beginning of a record */
    l.size = end + 40;
    write_journal(&l);
    world_open(w);
    for (uint32_t i = 1; i <= 3; i++)
        assert_true(w->seen[i].recovered == 1 && w->seen[i].result.exit_code == i);
    assert_false(kept_damaged(w));
}

static void a_flipped_byte_of_the_journal_costs_one_end(void **state)
{
    struct world *w = *state;
    run_three_and_stop(w);
    struct whole_log l = read_journal(w);
    l.data[find_record(&l, LOG_EXIT, 2) + 60] ^= 1;
    write_journal(&l);
    world_open(w);
    assert_true(w->seen[1].recovered == 1 && w->seen[1].result.exit_code == 1);
    assert_true(w->seen[3].recovered == 1 && w->seen[3].result.exit_code == 3);
    assert_int_equal(w->seen[2].recovered, 1);
    assert_int_equal(w->seen[2].result.reason, REASON_INFRA); /* never a success */
    assert_int_equal(w->seen[2].result.flags, END_MAY_HAVE_RUN);
    assert_true(kept_damaged(w));
    w->jobs = 3;
    assert_int_equal(world_wait(w, world_sh(w, "exit 4"))->result.exit_code, 4);
}

static void garbage_instead_of_a_journal_is_survived(void **state)
{
    struct world *w = *state;
    run_three_and_stop(w);
    struct whole_log l = read_journal(w);
    memset(l.data, 0xa5, l.size);
    write_journal(&l);
    world_open(w);
    assert_int_equal(w->seen[1].recovered, 0);
    w->jobs = 3;
    assert_int_equal(world_wait(w, world_sh(w, "exit 4"))->result.exit_code, 4);
    world_close(w, true);
    l = read_journal(w);
    l.size = 0;
    write_journal(&l);
    world_open(w);
    assert_int_equal(w->seen[4].recovered, 0);
}

static void after_a_reboot_nothing_runs_and_ends_are_kept(void **state)
{
    struct world *w = *state;
    run_three_and_stop(w);
    struct whole_log l = read_journal(w);
    memset(l.data, 0, l.size);
    struct exit_record records[] = {
        { .kind = LOG_BOOT, .boot = "another-boot" },
        { .kind = LOG_SPAWNING, .ref = world_ref(7), .slot = 1, .begun_ms = 5, .own_streams = 3 },
        { .kind = LOG_SPAWNED, .ref = world_ref(7), .pid = (uint32_t)getpid() }, /* the number is ours now: hands off */
        { .kind = LOG_EXIT, .ref = world_ref(8), .started = true, .result = { .reason = REASON_EXIT, .exit_code = 3 } },
    };
    size_t at = 0;
    for (size_t i = 0; i < 4; i++) {
        uint8_t bytes[EXIT_RECORD_BYTES_MAX];
        size_t size = exit_record_encode(&records[i], bytes);
        memcpy(l.data + at, bytes, size);
        at += size;
    }
    write_journal(&l);
    world_open(w);
    assert_int_equal(w->seen[7].recovered_as, PHASE_ENDED);
    assert_int_equal(w->seen[7].result.reason, REASON_NODE_REBOOTED);
    assert_int_equal(w->seen[8].result.exit_code, 3);
}

/* A journal that names a process which is not the job's, as its number was given away: it is not signalled. */
static void a_number_used_again_is_not_signalled(void **state)
{
    struct world *w = *state;
    run_three_and_stop(w);
    pid_t bystander = fork();
    if (bystander == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* also when an assertion fails below */
        setsid();
        for (;;)
            pause();
    }
    struct whole_log l = read_journal(w);
    size_t at = find_record(&l, LOG_EXIT, 0);
    struct exit_record records[] = {
        { .kind = LOG_SPAWNING,
          .ref = world_ref(7),
          .slot = 1,
          .begun_ms = clock_now_ms() / 2, /* long before the bystander, and not before this machine was started */
          .own_streams = 3 },
        { .kind = LOG_SPAWNED, .ref = world_ref(7), .pid = (uint32_t)bystander },
    };
    for (size_t i = 0; i < 2; i++) {
        uint8_t bytes[EXIT_RECORD_BYTES_MAX];
        size_t size = exit_record_encode(&records[i], bytes);
        memcpy(l.data + at, bytes, size);
        at += size;
    }
    write_journal(&l);
    world_open(w);
    assert_int_equal(w->seen[7].result.reason, REASON_INFRA);
    assert_int_equal(waitpid(bystander, NULL, WNOHANG), 0);
    kill(bystander, SIGKILL);
    waitpid(bystander, NULL, 0);
}

/* --- nothing left to give --- */

static int count_fds(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *d = opendir(path);
    assert_non_null(d);
    int count = 0;
    while (readdir(d))
        count++;
    closedir(d);
    return count - 2;
}

static void assert_infra(struct world *w, uint64_t job)
{
    struct seen *s = world_wait(w, job);
    assert_int_equal(s->result.reason, REASON_INFRA);
    assert_false(s->had_process);
    assert_true(strlen(s->text) > 0);
}

static void without_descriptors_it_says_so_and_recovers(void **state)
{
    struct world *w = *state;
    world_wait(w, world_sh(w, "exit 0"));
    pid_t pid = nursery_pid(w);
    struct rlimit none = { (rlim_t)count_fds(pid), 20000 }, old;
    assert_int_equal(prlimit(pid, RLIMIT_NOFILE, &none, &old), 0);
    uint64_t first = world_sh(w, "exit 0"), second = world_sh(w, "exit 0");
    world_wait(w, first);
    assert_infra(w, second);
    assert_int_equal(prlimit(pid, RLIMIT_NOFILE, &old, NULL), 0);
    assert_int_equal(world_wait(w, world_sh(w, "exit 3"))->result.exit_code, 3);
}

/* As somebody whose number of processes can be limited: root's cannot. */
static void without_processes(struct world *w)
{
    world_open(w);
    world_wait(w, world_sh(w, "exit 0"));
    struct rlimit one = { 1, 10000 }, old;
    pid_t pid = nursery_pid(w);
    assert_int_equal(prlimit(pid, RLIMIT_NPROC, NULL, &old), 0);
    one.rlim_max = old.rlim_max;
    assert_int_equal(prlimit(pid, RLIMIT_NPROC, &one, NULL), 0);
    assert_infra(w, world_sh(w, "exit 0"));
    assert_infra(w, world_sh(w, "exit 0"));
    assert_int_equal(prlimit(pid, RLIMIT_NPROC, &old, NULL), 0);
    assert_int_equal(world_wait(w, world_sh(w, "exit 3"))->result.exit_code, 3);
    world_close(w, true);
}

/* Runs f in a child; a failed assertion there ends it by exit code. */
static void in_child(struct world *w, void (*f)(struct world *w), bool as_nobody, bool own_mounts)
{
    pid_t pid = fork();
    if (pid == 0) {
        setenv("CMOCKA_TEST_ABORT", "1", 1); /* a failure must not go on with the other tests here */
        if (own_mounts && (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
                           mount("tmpfs", w->state_dir, "tmpfs", 0, "size=3m,mode=700") < 0))
            _exit(77);
        if (as_nobody && (setgid(NOBODY) < 0 || setuid(NOBODY) < 0))
            _exit(77);
        f(w);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip();
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void without_processes_it_says_so_and_recovers(void **state)
{
    struct world *w = *state;
    if (geteuid() != 0)
        skip();
    world_close(w, true);
    char command[200];
    snprintf(command, sizeof command, "chown -R %d:%d %s", NOBODY, NOBODY, w->dir);
    assert_int_equal(system(command), 0);
    in_child(w, without_processes, true, false);
}

static void fill_disk(struct world *w)
{
    char path[160];
    static char block[65536];
    snprintf(path, sizeof path, "%s/filler", w->state_dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    memset(block, 1, sizeof block);
    for (size_t size = sizeof block; size; size /= 2)
        while (write(fd, block, size) == (ssize_t)size)
            ;
    close(fd);
}

static void on_a_full_disk(struct world *w)
{
    world_open(w);
    uint64_t job = world_sh(w, "while [ ! -e go ]; do sleep 0.02; done; exit 5");
    while (!w->seen[job].started)
        world_turn(w);
    fill_disk(w);
    touch(w, "go");
    assert_int_equal(world_wait(w, job)->result.exit_code, 5); /* its end found room */
    w->exec->ops->remove(w->exec, world_ref(job));
    uint64_t last = 0;
    /* Journal space is used up in the end: then nothing is started any more, and that is said. */
    for (int i = 0; i < 6000 && (!last || w->seen[last].result.reason != REASON_INFRA); i++) {
        last = world_start(w, (struct exec_job){ .argv = ARGV("/no/such") });
        world_wait(w, last);
        w->exec->ops->remove(w->exec, world_ref(last));
    }
    assert_int_equal(w->seen[last].result.reason, REASON_INFRA);
    char path[160];
    snprintf(path, sizeof path, "%s/filler", w->state_dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(world_wait(w, world_sh(w, "exit 3"))->result.exit_code, 3);
    world_close(w, true);
}

static void on_a_full_disk_ends_are_journalled(void **state)
{
    struct world *w = *state;
    world_close(w, true);
    in_child(w, on_a_full_disk, false, true);
}

/* --- nothing left behind --- */

static void count_child(void *arg, const struct proc_stat *stat)
{
    int *count = arg;
    count[1] += stat->parent == count[0];
}

static void run_many(struct world *w, int n)
{
    for (int i = 0; i < n; i++) {
        uint64_t a = world_sh(w, "echo x; sleep 0.01 &"),
                 b = world_start(w, (struct exec_job){ .argv = ARGV("/no/such") });
        uint64_t c =
            world_start(w, (struct exec_job){ .argv = ARGV("true"), .need = { .v = { [RES_MEM] = 64 << 20 } } });
        world_wait(w, a);
        world_wait(w, b);
        world_wait(w, c);
        w->exec->ops->remove(w->exec, world_ref(a));
        w->exec->ops->remove(w->exec, world_ref(b));
        w->exec->ops->remove(w->exec, world_ref(c));
    }
}

static void nothing_is_left_behind(void **state)
{
    struct world *w = *state;
    int own_fds = count_fds(getpid());
    run_many(w, 10);
    pid_t pid = nursery_pid(w);
    int fds = count_fds(pid);
    run_many(w, 60);
    assert_true(count_fds(pid) < fds + 30); /* slots keep theirs; 180 jobs would leave more */
    int children[2] = { pid, 0 };
    proc_each(count_child, children);
    assert_int_equal(children[1], 0);
    world_close(w, true);
    for (int ms = 0; ms < 30000 && alive(pid); ms++) /* it was told, and ends by itself */
        usleep(1000);
    assert_false(alive(pid));
    world_open(w);
    assert_true(count_fds(getpid()) <= own_fds);
}

static void groups_are_removed(void **state)
{
    struct world *w = *state;
    struct cgroup_home home;
    cgroup_home_open(&home, w->state_dir); /* where the nursery has its own */
    if (!cgroup_can_kill(&home))
        skip();
    cgroup_home_close(&home);
    run_many(w, 3);
    assert_int_equal(access(home.path, F_OK), 0);
    world_close(w, true);
    assert_int_equal(access(home.path, F_OK), -1);
    assert_true(!*home.memory_path || access(home.memory_path, F_OK) == -1);
    world_open(w);
}

static void strangers_in_a_group_are_ended_before_it_is_used(void **state)
{
    struct world *w = *state;
    struct cgroup_home home;
    char slot[PATH_MAX + 16], file[PATH_MAX + 32], text[32];
    cgroup_home_open(&home, w->state_dir);
    if (!cgroup_can_kill(&home))
        skip();
    snprintf(slot, sizeof slot, "%s/slot0", home.path);
    snprintf(file, sizeof file, "%s/cgroup.procs", slot);
    cgroup_home_close(&home);
    pid_t stranger = fork();
    if (stranger == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    assert_int_equal(mkdir(slot, 0755), 0);
    int procs = open(file, O_WRONLY | O_CLOEXEC);
    int size = snprintf(text, sizeof text, "%d", (int)stranger);
    assert_int_equal(write(procs, text, (size_t)size), size);
    close(procs);
    for (int i = 0; i < 3; i++)
        assert_int_equal(world_wait(w, world_sh(w, "exit 7"))->result.exit_code, 7);
    int status;
    assert_int_equal(waitpid(stranger, &status, 0), stranger);
    assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void groups_of_the_dead_are_removed(void **state)
{
    struct world *w = *state;
    struct cgroup_home home;
    cgroup_home_open(&home, w->state_dir);
    if (!cgroup_can_kill(&home))
        skip();
    static const char *const names[] = { "abandoned", "locked", "young" };
    char path[3][512], slot[528];
    int locked = -1;
    for (int i = 0; i < 3; i++) {
        snprintf(path[i], sizeof path[i], "%.*s/rota-test-%d-%s", (int)(strrchr(home.path, '/') - home.path), home.path,
                 (int)getpid(), names[i]);
        snprintf(slot, sizeof slot, "%.500s/slot0", path[i]);
        assert_true(mkdir(path[i], 0755) == 0 && mkdir(slot, 0755) == 0);
        if (i == 1)
            assert_int_equal(flock(locked = open(path[i], O_RDONLY | O_CLOEXEC), LOCK_SH), 0);
        if (i < 2)
            assert_int_equal(utimensat(AT_FDCWD, path[i], (struct timespec[2]){ { 1, 0 }, { 1, 0 } }, 0), 0);
    }
    cgroup_home_close(&home);
    world_close(w, true);
    world_open(w);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(access(path[i], F_OK), i == 0 ? -1 : 0);
        snprintf(slot, sizeof slot, "%.500s/slot0", path[i]);
        rmdir(slot);
        rmdir(path[i]);
    }
    close(locked);
    assert_int_equal(world_wait(w, world_sh(w, "exit 3"))->result.exit_code, 3);
}

static void closed_without_shutdown_the_nursery_goes_on(void **state)
{
    struct world *w = *state;
    pid_t pid = nursery_pid(w);
    world_close(w, false);
    assert_true(alive(pid));
    world_open(w);
    assert_int_equal(nursery_pid(w), pid);
}

static void a_long_state_directory_works(void **state)
{
    struct world *w = *state;
    world_close(w, true);
    char deep[256];
    snprintf(deep, sizeof deep, "%s/%0100d", w->dir, 7);
    assert_int_equal(mkdir(deep, 0700), 0);
    struct exec_config config = { .state_dir = deep, .shutdown_nursery = true };
    struct exec_events events = { .arg = w };
    struct err err = { 0 };
    w->loop = loop_new();
    struct exec *x = exec_proc_open(w->loop, &config, &events, &err);
    if (!x)
        fail_msg("%s", err.text);
    x->ops->close(x);
    loop_free(w->loop);
    world_open(w);
}

static void a_state_directory_that_cannot_be_is_an_error(void **state)
{
    (void)state;
    struct exec_config config = { .state_dir = "/no/such/place/state" };
    struct exec_events events = { 0 };
    struct err err = { 0 };
    struct loop *loop = loop_new();
    assert_null(exec_proc_open(loop, &config, &events, &err));
    assert_true(strstr(err.text, "/no/such/place/state") != NULL);
    loop_free(loop);
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
    const struct CMUnitTest tests[] = {
        CASE(jobs_outlive_their_worker),
        CASE_WITHOUT_CGROUPS(jobs_outlive_their_worker),
        CASE(an_end_is_kept_until_it_is_removed),
        CASE(the_nursery_itself_spawns_no_attempt_twice),
        CASE(nonsense_closes_the_connection_and_harms_nobody),
        CASE(a_dead_nursery_is_replaced_and_its_jobs_end_honestly),
        CASE_WITHOUT_CGROUPS(a_dead_nursery_is_replaced_and_its_jobs_end_honestly),
        CASE(what_was_asked_of_a_dead_nursery_was_never_started),
        CASE(worker_and_nursery_both_die),
        CASE_WITHOUT_CGROUPS(worker_and_nursery_both_die),
        CASE(output_of_a_lost_job_is_kept),
        CASE(a_torn_tail_of_the_journal_is_cut),
        CASE(a_flipped_byte_of_the_journal_costs_one_end),
        CASE(garbage_instead_of_a_journal_is_survived),
        CASE(after_a_reboot_nothing_runs_and_ends_are_kept),
        CASE(a_number_used_again_is_not_signalled),
        CASE_WITHOUT_CGROUPS(a_number_used_again_is_not_signalled),
        CASE(without_descriptors_it_says_so_and_recovers),
        CASE(without_processes_it_says_so_and_recovers),
        CASE(on_a_full_disk_ends_are_journalled),
        CASE(nothing_is_left_behind),
        CASE(groups_are_removed),
        CASE(strangers_in_a_group_are_ended_before_it_is_used),
        CASE(groups_of_the_dead_are_removed),
        CASE(closed_without_shutdown_the_nursery_goes_on),
        CASE(a_long_state_directory_works),
        CASE(a_state_directory_that_cannot_be_is_an_error),
    };
    return cmocka_run_group_tests_name("exec_proc crashes", tests, NULL, NULL);
}
