#include "bus/bus_conformance.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "bus/bus_frame.h"
#include "bus/bus_key.h"
#include "io/loop.h"

/* --- a directory per test --- */

static char dir[64], path[96], key[96], url[112];

static void begin(void *arg)
{
    (void)arg;
    snprintf(dir, sizeof dir, "%s", "/tmp/rota-bus-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/bus.sock", dir);
    snprintf(key, sizeof key, "%s/bus.key", dir);
    snprintf(url, sizeof url, "unix:%s", path);
}

static int remove_one(const char *name, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(name);
}

static void end(void *arg)
{
    (void)arg;
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static uint8_t cluster_of_next_end[16];

static struct bus *open_end(void *arg, struct loop *loop, enum bus_role role, const char *name,
                            const struct bus_events *events, struct err *err)
{
    (void)arg;
    struct bus_address address = { .role = role, .url = url, .name = name };
    memcpy(address.cluster, cluster_of_next_end, sizeof address.cluster);
    return bus_open(loop, &address, events, err);
}

static struct bus_rig rig = { .begin = begin, .end = end, .open = open_end, .queue_slack = 4u << 20 };

static int setup(void **state)
{
    (void)state;
    begin(NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    end(NULL);
    return 0;
}

static void fini(struct test_end *e)
{
    end_close(e);
    if (e->own_loop)
        loop_free(e->loop);
    free(e->last_data);
    *e = (struct test_end){ 0 };
}

static void master_open(struct test_end *master)
{
    end_open(master, &rig, BUS_ROLE_MASTER, "master", NULL);
}

static enum err_code master_refused(void)
{
    struct test_end master = { 0 };
    struct err err = { 0 };
    assert_int_equal(end_try_open(&master, &rig, BUS_ROLE_MASTER, "master", NULL, &err), -1);
    assert_true(err.text[0] != 0);
    fini(&master);
    return err.code;
}

static void file_write(const char *name, const void *data, size_t size, mode_t mode)
{
    unlink(name);
    int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size), (ssize_t)size);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

/* --- raw peers --- */

static int raw_socket(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    return fd;
}

static struct sockaddr_un raw_address(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    return address;
}

static int raw_connect(void)
{
    int fd = raw_socket();
    struct sockaddr_un address = raw_address();
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static int raw_listen(void)
{
    int fd = raw_socket();
    struct sockaddr_un address = raw_address();
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 8), 0);
    return fd;
}

static void raw_write(int fd, const void *data, size_t size)
{
    /* The peer may have closed already: that is what some tests are after. */
    ssize_t n = send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)n;
}

static void raw_frame(int fd, const void *data, size_t size)
{
    uint8_t head[FRAME_HEAD_BYTES];
    frame_head(head, size);
    raw_write(fd, head, sizeof head);
    raw_write(fd, data, size);
}

struct raw_wait {
    int fd;
    bool closed;
    size_t have, need;
    uint8_t *data;
};
static bool raw_got(void *arg)
{
    struct raw_wait *w = arg;
    while (!w->closed && w->have < w->need) {
        ssize_t n = recv(w->fd, w->data + w->have, w->need - w->have, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return false;
        if (n <= 0)
            w->closed = true;
        else
            w->have += (size_t)n;
    }
    return true;
}

/* True: a frame of that size came; false: the connection was closed. */
static bool raw_read_frame(struct test_end *other, int fd, void *data, size_t size)
{
    uint8_t *frame = mem_alloc(FRAME_HEAD_BYTES + size);
    struct raw_wait w = { fd, false, 0, FRAME_HEAD_BYTES + size, frame };
    UNTIL(raw_got, &w, other);
    if (!w.closed) {
        assert_int_equal(frame[0] | frame[1] << 8, size);
        memcpy(data, frame + FRAME_HEAD_BYTES, size);
    }
    free(frame);
    return !w.closed;
}

static void raw_expect_closed(struct test_end *other, int fd)
{
    uint8_t *data = mem_alloc(65536);
    struct raw_wait w = { fd, false, 0, 65536, data };
    UNTIL(raw_got, &w, other);
    assert_true(w.closed);
    free(data);
    close(fd);
}

/* A worker made by hand that proves itself. */
static int raw_worker(struct test_end *master)
{
    struct bus_key secret;
    struct bus_hello theirs, ours;
    assert_int_equal(bus_key_load(path, &secret, NULL), 0);
    int fd = raw_connect();
    assert_true(raw_read_frame(master, fd, &theirs, sizeof theirs));
    bus_hello_init(&ours, BUS_ROLE_WORKER, cluster_of_next_end, "raw");
    uint8_t answer[sizeof ours + BUS_PROOF_BYTES], proof[BUS_PROOF_BYTES];
    memcpy(answer, &ours, sizeof ours);
    bus_prove(&secret, BUS_ROLE_WORKER, &theirs, &ours, answer + sizeof ours);
    raw_frame(fd, answer, sizeof answer);
    assert_true(raw_read_frame(master, fd, proof, sizeof proof));
    assert_true(bus_proof_holds(&secret, BUS_ROLE_MASTER, &theirs, &ours, proof));
    return fd;
}

/* --- files --- */

static void test_files(void **state)
{
    (void)state;
    struct test_end master = { 0 };
    struct stat st;
    mode_t old = umask(0);
    master_open(&master);
    umask(old);
    assert_int_equal(lstat(path, &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(lstat(key, &st), 0);
    assert_true(S_ISREG(st.st_mode));
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(st.st_size, BUS_KEY_BYTES);
    struct bus_key first, second;
    assert_int_equal(bus_key_load(path, &first, NULL), 0);
    fini(&master);
    assert_int_equal(lstat(path, &st), -1);
    master_open(&master);
    assert_int_equal(bus_key_load(path, &second, NULL), 0);
    assert_memory_equal(&first, &second, sizeof first);
    /* A socket that somebody else has put there meanwhile is not ours to remove. */
    assert_int_equal(unlink(path), 0);
    int other = raw_listen();
    fini(&master);
    assert_int_equal(lstat(path, &st), 0);
    close(other);
}

static void test_bad_keys(void **state)
{
    (void)state;
    uint8_t bytes[BUS_KEY_BYTES + 1] = { 1, 2, 3 };
    file_write(key, bytes, BUS_KEY_BYTES, 0640);
    assert_int_equal(master_refused(), ERR_DENIED);
    file_write(key, bytes, BUS_KEY_BYTES - 1, 0600);
    assert_int_equal(master_refused(), ERR_CORRUPT);
    file_write(key, bytes, BUS_KEY_BYTES + 1, 0600);
    assert_int_equal(master_refused(), ERR_CORRUPT);
    char elsewhere[128];
    snprintf(elsewhere, sizeof elsewhere, "%s/elsewhere", dir);
    file_write(elsewhere, bytes, BUS_KEY_BYTES, 0600);
    unlink(key);
    assert_int_equal(symlink(elsewhere, key), 0);
    assert_int_equal(master_refused(), ERR_IO);
    unlink(key);
    assert_int_equal(mkfifo(key, 0600), 0);
    assert_int_equal(master_refused(), ERR_DENIED);
    struct stat st;
    assert_int_equal(lstat(path, &st), -1);
}

static void test_paths(void **state)
{
    (void)state;
    struct stat st;
    char long_url[256];
    struct bus_events events = { 0 };
    struct err err = { 0 };
    struct bus_address address = { .role = BUS_ROLE_WORKER, .url = long_url };
    snprintf(long_url, sizeof long_url, "unix:/%0107d", 0);
    assert_null(bus_open(NULL, &address, &events, &err));
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_non_null(strstr(err.text, "108 bytes"));
    assert_non_null(strstr(err.text, "107"));
    snprintf(long_url, sizeof long_url, "unix:");
    assert_null(bus_open(NULL, &address, &events, &err));
    assert_int_equal(err.code, ERR_INVALID);

    file_write(path, "data", 4, 0600);
    assert_int_equal(master_refused(), ERR_CONFLICT);
    assert_int_equal(lstat(path, &st), 0);
    assert_true(S_ISREG(st.st_mode));
    unlink(path);
    snprintf(url, sizeof url, "unix:%s/none/bus.sock", dir);
    assert_int_equal(master_refused(), ERR_IO);
}

static void test_stale_socket(void **state)
{
    (void)state;
    struct test_end master = { 0 }, worker = { 0 };
    close(raw_listen()); /* The file stays. */
    struct stat st;
    assert_int_equal(lstat(path, &st), 0);
    master_open(&master);
    end_open(&worker, &rig, BUS_ROLE_WORKER, "worker", NULL);
    UNTIL(end_is_up, &master, &master, &worker);
    fini(&worker);
    fini(&master);

    int alive = raw_listen();
    assert_int_equal(master_refused(), ERR_LOCKED);
    assert_int_equal(lstat(path, &st), 0);
    close(alive);
}

/* --- who may speak --- */

struct tries {
    struct test_end *master;
    uint64_t least;
};
static bool refused_often(void *arg)
{
    struct tries *tries = arg;
    return end_stats(tries->master).refused >= tries->least;
}

static void test_wrong_key(void **state)
{
    (void)state;
    struct test_end master = { 0 }, worker = { 0 };
    master_open(&master);
    uint8_t right[BUS_KEY_BYTES], wrong[BUS_KEY_BYTES] = { 42 };
    int fd = open(key, O_RDONLY | O_CLOEXEC);
    assert_int_equal(read(fd, right, sizeof right), sizeof right);
    close(fd);
    file_write(key, wrong, sizeof wrong, 0600);
    end_open(&worker, &rig, BUS_ROLE_WORKER, "worker", NULL);
    struct tries tries = { &master, 3 };
    UNTIL(refused_often, &tries, &master, &worker);
    assert_int_equal(master.ups + worker.ups, 0);
    file_write(key, right, sizeof right, 0600);
    UNTIL(end_is_up, &worker, &master, &worker);
    fini(&worker);
    fini(&master);
}

static void test_false_master(void **state)
{
    (void)state;
    struct test_end worker = { 0 };
    struct bus_key secret;
    int key_fd = -1;
    assert_int_equal(bus_key_ensure(path, &secret, &key_fd, NULL), 0);
    close(key_fd);
    int listener = raw_listen();
    fcntl(listener, F_SETFL, O_NONBLOCK);
    end_open(&worker, &rig, BUS_ROLE_WORKER, "worker", NULL);
    for (int attempt = 0; attempt < 3; attempt++) {
        int fd = -1;
        while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0)
            loop_turn(worker.loop, 1);
        struct bus_hello ours, theirs;
        uint8_t answer[sizeof theirs + BUS_PROOF_BYTES], proof[BUS_PROOF_BYTES];
        bus_hello_init(&ours, BUS_ROLE_MASTER, cluster_of_next_end, "false");
        raw_frame(fd, &ours, sizeof ours);
        assert_true(raw_read_frame(&worker, fd, answer, sizeof answer));
        memcpy(&theirs, answer, sizeof theirs);
        memset(proof, 7, sizeof proof);
        if (attempt == 1)
            memcpy(proof, answer + sizeof theirs, sizeof proof); /* the worker's own, sent back */
        if (attempt == 2)
            bus_prove(&secret, BUS_ROLE_WORKER, &ours, &theirs, proof);
        raw_frame(fd, proof, sizeof proof);
        raw_frame(fd, "order", 5);
        raw_expect_closed(&worker, fd);
        assert_int_equal(worker.ups + worker.messages, 0);
    }
    assert_int_equal(end_stats(&worker).refused, 3);
    fini(&worker);
    close(listener);
}

static void test_clusters(void **state)
{
    (void)state;
    struct test_end master = { 0 }, same = { 0 }, foreign = { 0 }, fresh = { 0 };
    memset(cluster_of_next_end, 1, sizeof cluster_of_next_end);
    master_open(&master);
    end_open(&same, &rig, BUS_ROLE_WORKER, "same", NULL);
    memset(cluster_of_next_end, 2, sizeof cluster_of_next_end);
    end_open(&foreign, &rig, BUS_ROLE_WORKER, "foreign", NULL);
    memset(cluster_of_next_end, 0, sizeof cluster_of_next_end);
    end_open(&fresh, &rig, BUS_ROLE_WORKER, "fresh", NULL);
    UNTIL(end_is_up, &same, &master, &same, &foreign, &fresh);
    UNTIL(end_is_up, &fresh, &master, &same, &foreign, &fresh);
    SETTLE(&master, &same, &foreign, &fresh);
    assert_int_equal(foreign.ups, 0);
    assert_int_equal(master.ups, 2);
    fini(&foreign);
    fini(&fresh);
    fini(&same);
    fini(&master);
}

static void test_other_user(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    struct test_end master = { 0 };
    master_open(&master);
    /* Even if somebody opened all the files. */
    assert_int_equal(chmod(dir, 0755), 0);
    assert_int_equal(chmod(path, 0666), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct sockaddr_un address = raw_address();
        char byte;
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (setgid(65534) < 0 || setuid(65534) < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
            _exit(2);
        _exit(read(fd, &byte, 1) == 0 ? 0 : 1); /* Not even a hello. */
    }
    struct tries tries = { &master, 1 };
    UNTIL(refused_often, &tries, &master);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    fini(&master);
}

/* --- hostile and broken peers --- */

static void test_hostile_bytes(void **state)
{
    (void)state;
    struct test_end master = { 0 }, good = { 0 };
    master_open(&master);
    end_open(&good, &rig, BUS_ROLE_WORKER, "good", NULL);
    UNTIL(end_is_up, &good, &master, &good);
    UNTIL(end_is_up, &master, &master, &good);
    uint64_t refused = 0;
    char noise[4096];
    unsigned random = 12345;
    for (int round = 0; round < 40; round++) {
        int fd = raw_connect();
        for (size_t i = 0; i < sizeof noise; i++)
            noise[i] = (char)((random = random * 1103515245u + 12345u) >> 16);
        uint8_t head[FRAME_HEAD_BYTES];
        switch (round % 5) {
        case 0:
            raw_write(fd, noise, sizeof noise);
            break;
        case 1:
            frame_head(head, 0xffffffff), raw_write(fd, head, sizeof head);
            break;
        case 2:
            raw_frame(fd, noise, sizeof(struct bus_hello) + BUS_PROOF_BYTES);
            break;
        case 3:
            raw_frame(fd, noise, 0);
            break;
        default:
            raw_frame(fd, "GET / HTTP/1.1\r\n\r\n", 18);
            break;
        }
        raw_expect_closed(&master, fd);
        refused++;
    }
    assert_int_equal(end_stats(&master).refused, refused);
    assert_int_equal(master.ups, 1);
    assert_int_equal(master.messages, 0);

    /* One who knows the key but then announces more than is allowed. */
    int fd = raw_worker(&master);
    assert_int_equal(master.ups, 2);
    raw_frame(fd, "hello", 5);
    uint8_t head[FRAME_HEAD_BYTES];
    frame_head(head, BUS_BODY_MAX + 1);
    raw_write(fd, head, sizeof head);
    raw_expect_closed(&master, fd);
    assert_int_equal(master.messages, 1);
    assert_int_equal(master.downs, 1);
    assert_int_equal(end_stats(&master).refused, refused + 1);

    assert_int_equal(end_send(&good, BUS_MASTER, bytes_str("still here"), NULL), 0);
    while (master.messages < 2) {
        loop_turn(good.loop, 0);
        loop_turn(master.loop, 1);
    }
    assert_true(bytes_equal(master.last, bytes_str("still here")));
    assert_int_equal(good.downs, 0);
    fini(&good);
    fini(&master);
}

static void test_frames_in_pieces(void **state)
{
    (void)state;
    struct test_end master = { 0 };
    master_open(&master);
    int fd = raw_worker(&master);
    uint8_t frame[FRAME_HEAD_BYTES + 11];
    frame_head(frame, 11);
    memcpy(frame + FRAME_HEAD_BYTES, "in pieces !", 11);
    for (size_t i = 0; i < sizeof frame; i++) {
        assert_int_equal(master.messages, 0);
        raw_write(fd, frame + i, 1);
        loop_turn(master.loop, 0);
    }
    while (!master.messages)
        loop_turn(master.loop, 1);
    assert_true(bytes_equal(master.last, bytes_str("in pieces !")));
    /* Cut in the middle of the next. */
    raw_write(fd, frame, 7);
    loop_turn(master.loop, 0);
    close(fd);
    UNTIL(end_is_down, &master, &master);
    assert_int_equal(master.messages, 1);
    fini(&master);
}

static void test_silent_peer(void **state)
{
    (void)state;
    struct test_end master = { 0 };
    master_open(&master);
    int fd = raw_connect();
    raw_expect_closed(&master, fd); /* after PROVE_MS */
    assert_int_equal(end_stats(&master).refused, 1);
    fini(&master);
}

static void test_out_of_descriptors(void **state)
{
    (void)state;
    struct test_end master = { 0 }, worker = { 0 };
    struct rlimit old, low;
    master_open(&master);
    loop_turn(master.loop, 0);
    int fds[3];
    for (int i = 0; i < 3; i++)
        fds[i] = raw_connect();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    low = old;
    low.rlim_cur = (rlim_t)fds[2] + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    struct tries tries = { &master, 3 };
    UNTIL(refused_often, &tries, &master);
    /* They are told at once, and not left to wait until there is a descriptor. */
    for (int i = 0; i < 3; i++)
        raw_expect_closed(&master, fds[i]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    end_open(&worker, &rig, BUS_ROLE_WORKER, "worker", NULL);
    UNTIL(end_is_up, &worker, &master, &worker);
    fini(&worker);
    fini(&master);
}

/* --- processes that die --- */

static void echo(struct test_end *e, uint64_t session, struct bytes body, uint64_t delivery)
{
    (void)delivery;
    bus_send(e->bus, session, body, NULL);
}

static pid_t master_process(void)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid)
        return pid;
    struct test_end master = { .on_message = echo };
    master_open(&master);
    for (;;)
        loop_turn(master.loop, 1000);
}

static void kill_and_reap(pid_t pid)
{
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static bool has_message(void *arg)
{
    return ((struct test_end *)arg)->messages > 0;
}

static void test_master_killed(void **state)
{
    (void)state;
    struct test_end worker = { 0 };
    pid_t master = master_process();
    end_open(&worker, &rig, BUS_ROLE_WORKER, "worker", NULL);
    for (int round = 0; round < 3; round++) {
        UNTIL(end_is_up, &worker, &worker);
        worker.messages = 0;
        assert_int_equal(end_send(&worker, BUS_MASTER, bytes_str("echo"), NULL), 0);
        UNTIL(has_message, &worker, &worker);
        assert_true(bytes_equal(worker.last, bytes_str("echo")));
        kill_and_reap(master);
        UNTIL(end_is_down, &worker, &worker);
        struct stat st;
        assert_int_equal(lstat(path, &st), 0); /* left behind */
        master = master_process();
    }
    UNTIL(end_is_up, &worker, &worker);
    assert_int_equal(end_stats(&worker).reconnects, 3);
    fini(&worker);
    kill_and_reap(master);
}

static void test_worker_stopped(void **state)
{
    /* A worker process that is frozen neither blocks the master nor loses what it gets to read later. */
    (void)state;
    struct test_end master = { 0 };
    master_open(&master);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct test_end worker = { .on_message = echo };
        end_open(&worker, &rig, BUS_ROLE_WORKER, "worker", NULL);
        for (;;)
            loop_turn(worker.loop, 1000);
    }
    UNTIL(end_is_up, &master, &master);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    char *body = mem_zero(1, 1u << 20);
    size_t sent = 0;
    while (end_send(&master, master.session, bytes_of(body, 1u << 20), NULL) == 0) {
        sent++;
        loop_turn(master.loop, 0);
    }
    free(body);
    assert_in_range(sent, 32, 80);
    SETTLE(&master);
    assert_int_equal(master.downs, 0);
    assert_int_equal(kill(pid, SIGCONT), 0);
    while (master.messages < sent)
        loop_turn(master.loop, 100);
    kill_and_reap(pid);
    UNTIL(end_is_down, &master, &master);
    fini(&master);
}

#define WITH_DIR(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest own[] = {
        WITH_DIR(test_files),         WITH_DIR(test_bad_keys),
        WITH_DIR(test_paths),         WITH_DIR(test_stale_socket),
        WITH_DIR(test_wrong_key),     WITH_DIR(test_false_master),
        WITH_DIR(test_clusters),      WITH_DIR(test_other_user),
        WITH_DIR(test_hostile_bytes), WITH_DIR(test_frames_in_pieces),
        WITH_DIR(test_silent_peer),   WITH_DIR(test_out_of_descriptors),
        WITH_DIR(test_master_killed), WITH_DIR(test_worker_stopped),
    };
    struct CMUnitTest tests[BUS_CONFORMANCE_TESTS_MAX + sizeof own / sizeof *own];
    size_t count = bus_conformance(tests, &rig);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        tests[count++] = own[i];
    return _cmocka_run_group_tests("bus_sock", tests, count, NULL, NULL);
}
