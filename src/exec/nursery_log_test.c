#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/model/record.h"
#include "exec/nursery_log.h"
#include "exec/output.h"

struct place {
    char dir[64];
    int fd, logs;
    struct nursery_log log;
};

static int setup(void **state)
{
    static struct place places[16]; /* each its own: the thread of a log lives as long as the process */
    static size_t places_count;
    struct place *p = &places[places_count++];
    struct err err = { 0 };
    assert_in_range(places_count, 1, sizeof places / sizeof *places);
    snprintf(p->dir, sizeof p->dir, "/tmp/nursery_log.XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    p->fd = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(mkdirat(p->fd, "logs", 0700), 0);
    p->logs = openat(p->fd, "logs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(mkdirat(p->logs, "slots", 0700), 0);
    assert_int_equal(nursery_log_open(&p->log, p->fd, p->logs, &err), 0);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct place *p = *state;
    char command[100];
    close(p->fd);
    close(p->logs);
    close(p->log.fd);
    snprintf(command, sizeof command, "rm -rf %s", p->dir);
    return system(command);
}

static struct exit_record end_of(uint64_t job)
{
    return (struct exit_record){ .kind = LOG_EXIT,
                                 .ref = { { job }, TASK_SINGLE, 1 },
                                 .started = true,
                                 .result = { .exit_code = (uint32_t)(job % 256) } };
}

static void emit_two(void *arg, struct nursery_log *l)
{
    for (uint64_t job = 1; job <= 2; job++) {
        struct exit_record r = end_of(job + (uint64_t)(uintptr_t)arg);
        nursery_log_add(l, &r);
    }
}

struct tally {
    uint64_t count, sum;
    bool rebooted;
};

static void count(void *arg, const struct exit_record *r, bool rebooted)
{
    struct tally *t = arg;
    t->count++;
    t->sum += r->ref.job.n;
    t->rebooted |= rebooted;
}

static void add(struct nursery_log *l, uint64_t from, uint64_t until)
{
    for (uint64_t job = from; job < until; job++) {
        struct exit_record r = end_of(job);
        nursery_log_add(l, &r);
    }
}

static void what_is_added_is_read(void **state)
{
    struct place *p = *state;
    struct err err = { 0 };
    struct tally t = { 0 };
    assert_int_equal(nursery_log_read(p->fd, count, &t), 0);
    assert_int_equal(t.count, 0); /* no journal yet */
    assert_int_equal(nursery_log_rewrite(&p->log, 2, emit_two, NULL, &err), 0);
    add(&p->log, 3, 101);
    assert_int_equal(nursery_log_read(p->fd, count, &t), 0);
    assert_int_equal(t.count, 100);
    assert_int_equal(t.sum, 5050);
    assert_false(t.rebooted);
}

static void a_long_journal_is_rewritten_to_what_counts(void **state)
{
    struct place *p = *state;
    struct err err = { 0 };
    struct tally t = { 0 };
    assert_int_equal(nursery_log_rewrite(&p->log, 2, emit_two, NULL, &err), 0);
    for (uint64_t job = 3; !nursery_log_wants_rewrite(&p->log); job += 1000)
        add(&p->log, job, job + 1000);
    assert_in_range(p->log.used, 1 << 20, 64 << 20);
    assert_int_equal(nursery_log_rewrite(&p->log, 2, emit_two, (void *)(uintptr_t)10, &err), 0);
    assert_false(nursery_log_wants_rewrite(&p->log));
    add(&p->log, 100, 101);
    nursery_log_read(p->fd, count, &t);
    assert_int_equal(t.count, 3);
    assert_int_equal(t.sum, 11 + 12 + 100);
}

static void write_slot(struct place *p, size_t size)
{
    int fd = openat(p->logs, "slots/0.out", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    for (size_t i = 0; i < size; i++)
        assert_int_equal(write(fd, i < size / 2 ? "a" : "b", 1), 1);
    close(fd);
}

static void a_sync_also_cuts_output(void **state)
{
    struct place *p = *state;
    struct err err = { 0 };
    struct attempt_ref ref = { { 5000 }, 7, 2 };
    assert_int_equal(nursery_log_rewrite(&p->log, 2, emit_two, NULL, &err), 0);
    write_slot(p, 5000);
    assert_int_equal(output_size(p->logs, 0, EXEC_STDOUT), 5000);
    assert_true(output_publish(p->logs, 0, EXEC_STDOUT, ref));
    p->log.squeezes[p->log.squeezes_count++] = (struct log_squeeze){ ref, EXEC_STDOUT, 5000, 1000 };
    nursery_log_sync(&p->log);
    struct pollfd done = { .fd = p->log.done_fd, .events = POLLIN };
    assert_int_equal(poll(&done, 1, 60000), 1);
    nursery_log_sync_done(&p->log);
    static const char mark[] = "\n[rota: 4000 bytes left out here]\n";
    char text[2000];
    int fd = openat(p->logs, "1/5000_7.2.out", O_RDONLY | O_CLOEXEC);
    assert_int_equal(read(fd, text, sizeof text), 1000 + strlen(mark));
    close(fd);
    assert_memory_equal(text + 500, mark, strlen(mark));
    assert_true(text[499] == 'a' && text[500 + strlen(mark)] == 'b');
    /* Once more, as after a crash: nothing changes. */
    assert_true(output_squeeze(p->logs, ref, EXEC_STDOUT, 5000, 1000));
    struct stat st;
    assert_int_equal(fstatat(p->logs, "1/5000_7.2.out", &st, 0), 0);
    assert_int_equal(st.st_size, 1000 + strlen(mark));
}

static void output_a_little_over_the_cap_stays_whole(void **state)
{
    struct place *p = *state;
    struct attempt_ref ref = { { 1 }, TASK_SINGLE, 1 };
    write_slot(p, 1000 + OUTPUT_MARK_BYTES); /* the mark would be longer than what it stands for */
    uint64_t hole = 0;
    output_punch(p->logs, 0, EXEC_STDOUT, 1000, &hole);
    assert_int_equal(hole, 0);
    assert_true(output_publish(p->logs, 0, EXEC_STDOUT, ref));
    assert_true(output_squeeze(p->logs, ref, EXEC_STDOUT, 1000 + OUTPUT_MARK_BYTES, 1000));
    struct stat st;
    assert_int_equal(fstatat(p->logs, "0/1.1.out", &st, 0), 0);
    assert_int_equal(st.st_size, 1000 + OUTPUT_MARK_BYTES);
}

static void a_hole_spares_what_is_kept(void **state)
{
    struct place *p = *state;
    struct attempt_ref ref = { { 2 }, TASK_SINGLE, 1 };
    enum { CAP = 20001, SIZE = 200003 };
    static char text[SIZE], kept[SIZE];
    uint64_t hole = 0;
    for (size_t i = 0; i < SIZE; i++)
        text[i] = (char)('A' + i % 57);
    int fd = openat(p->logs, "slots/3.err", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    for (size_t at = 0; at < SIZE; at += 25013 < SIZE - at ? 25013 : SIZE - at) { /* while it is being written */
        size_t size = 25013 < SIZE - at ? 25013 : SIZE - at;
        assert_int_equal(write(fd, text + at, size), size);
        output_punch(p->logs, 3, EXEC_STDERR, CAP, &hole);
    }
    close(fd);
    assert_true(hole > SIZE / 2);
    assert_true(output_publish(p->logs, 3, EXEC_STDERR, ref));
    assert_true(output_squeeze(p->logs, ref, EXEC_STDERR, SIZE, CAP));
    fd = openat(p->logs, "0/2.1.err", O_RDONLY | O_CLOEXEC);
    ssize_t size = read(fd, kept, sizeof kept);
    close(fd);
    assert_in_range(size, CAP + 1, CAP + OUTPUT_MARK_BYTES);
    assert_memory_equal(kept, text, CAP / 2);
    assert_memory_equal(kept + size - (CAP - CAP / 2), text + SIZE - (CAP - CAP / 2), CAP - CAP / 2);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(what_is_added_is_read),      CASE(a_long_journal_is_rewritten_to_what_counts),
        CASE(a_sync_also_cuts_output),    CASE(output_a_little_over_the_cap_stays_whole),
        CASE(a_hole_spares_what_is_kept),
    };
    return cmocka_run_group_tests_name("nursery log and output", tests, NULL, NULL);
}
