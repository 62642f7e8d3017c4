#include "store/store_test_dir.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"

#define FILL_JOBS 120

char *test_dir_make(void)
{
    const char *tmp = getenv("TMPDIR");
    struct buf path = BUF_INIT;
    buf_printf(&path, "%s/store_test-XXXXXX", tmp ? tmp : "/tmp");
    check(mkdtemp(path.data));
    return buf_take(&path);
}

void test_dir_drop(void *dir)
{
    pid_t child = fork();
    check(child >= 0);
    if (child == 0) {
        execlp("rm", "rm", "-rf", "--", (char *)dir, (char *)NULL);
        _exit(127);
    }
    check(waitpid(child, NULL, 0) == child);
    free(dir);
}

static void *world_make(void)
{
    return test_dir_make();
}

static struct store *world_open(void *place, struct loop *loop, const struct store_events *events, struct err *err)
{
    struct store_limits limits = { 0 };
    return store_sqlite_open(loop, place, &limits, events, err);
}

const struct store_world test_sqlite_world = { "sqlite", world_make, test_dir_drop, world_open };

char *test_path(const char *dir, const char *name)
{
    struct buf path = BUF_INIT;
    buf_printf(&path, "%s/%s", dir, name);
    return buf_take(&path);
}

void test_read(const char *path, struct buf *out)
{
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    check(fd >= 0);
    for (;;) {
        buf_reserve(out, 65536);
        ssize_t got = read(fd, out->data + out->size, 65536);
        check(got >= 0);
        if (got == 0)
            return;
        out->size += (size_t)got;
        out->data[out->size] = 0;
    }
}

void test_write(const char *path, struct bytes content)
{
    unlink(path);
    autoclose int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    check(fd >= 0 && write(fd, content.data, content.size) == (ssize_t)content.size);
}

bool test_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static int list(const char *dir, struct dirent ***names)
{
    int count = scandir(dir, names, NULL, alphasort);
    check(count >= 0);
    return count;
}

void test_copy_dir(const char *from, const char *to)
{
    struct dirent **names;
    int count = list(from, &names);
    check(mkdir(to, 0700) == 0);
    for (int i = 0; i < count; i++) {
        if (names[i]->d_name[0] != '.') {
            autofree char *source = test_path(from, names[i]->d_name), *target = test_path(to, names[i]->d_name);
            autobuf struct buf content = BUF_INIT;
            test_read(source, &content);
            test_write(target, buf_bytes(&content));
        }
        free(names[i]);
    }
    free(names);
}

void test_dir_contents(const char *dir, const char *except, struct buf *out)
{
    struct dirent **names;
    int count = list(dir, &names);
    for (int i = 0; i < count; i++) {
        const char *name = names[i]->d_name;
        size_t size = strlen(name), ending = except ? strlen(except) : 0;
        if (name[0] != '.' && !(except && size >= ending && strcmp(name + size - ending, except) == 0)) {
            autofree char *path = test_path(dir, name);
            buf_str(out, name);
            test_read(path, out);
        }
        free(names[i]);
    }
    free(names);
}

/* --- a store with something of everything --- */

static void fill_batch(struct store_rig *rig, uint64_t base, uint64_t count)
{
    autofree struct record *records = mem_zero(count * 6, sizeof *records);
    autofree struct store_job *jobs = mem_zero(count, sizeof *jobs);
    autofree struct store_tail *tails = mem_zero(count, sizeof *tails);
    static char specs[FILL_JOBS][700], keys[FILL_JOBS][32];
    size_t records_count = 0, tails_count = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t job = base + i;
        memset(specs[i], 'a' + (int)(job % 26), sizeof specs[i] - 1);
        snprintf(keys[i], sizeof keys[i], "key-%ju", (uintmax_t)job);
        jobs[i] = t_job(job, specs[i], job % 2 ? "alice" : "bob", job % 3 ? keys[i] : NULL);
        records[records_count++] = t_submitted(job, 0);
        records[records_count++] = t_assigned(job, TASK_SINGLE, 1, (uint32_t)job);
        if (job % 4 == 0)
            records[records_count++] = (struct record){ .kind = EV_HELD, .held = { job, bytes_str("why not") } };
        if (job % 5 == 0)
            continue; /* stays open */
        records[records_count++] = t_started(job, TASK_SINGLE, 1, (uint32_t)job);
        records[records_count++] = t_ended(job, TASK_SINGLE, 1, (uint32_t)job, JOB_SUCCEEDED);
        tails[tails_count++] =
            (struct store_tail){ { { job }, TASK_SINGLE, 1 }, bytes_str(keys[i]), bytes_str(specs[i]), bytes_str("") };
    }
    rig_number(rig, records, records_count);
    struct store_batch batch = { records, records_count, jobs, count, tails, tails_count, rig->epoch };
    check(rig_append(rig, &batch) == STORE_COMMITTED);
}

void test_fill(const char *dir, bool crash)
{
    pid_t child = fork();
    check(child >= 0);
    if (child == 0) {
        struct store_rig rig = { .world = &test_sqlite_world, .place = mem_str(dir) };
        rig_open(&rig);
        rig_lead(&rig, 1);
        for (uint64_t base = 1; base <= FILL_JOBS; base += 40)
            fill_batch(&rig, base, 40);
        if (crash)
            kill(getpid(), SIGKILL);
        rig_close(&rig);
        _exit(0);
    }
    int status;
    check(waitpid(child, &status, 0) == child);
    check(crash ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL : WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static int digest_record(void *arg, const struct record *r, struct err *err)
{
    (void)err;
    record_encode(arg, r);
    return 0;
}

static void digest_event(void *arg, const struct record *r)
{
    record_encode(arg, r);
}

static void digest_attempt(void *arg, const struct store_attempt *a)
{
    buf_printf(arg, "attempt %ju %u %u %u %jd %jd %jd %u", (uintmax_t)a->ref.job.n, a->ref.task, a->ref.attempt,
               a->node.n, (intmax_t)a->assigned_wall_ms, (intmax_t)a->started_wall_ms, (intmax_t)a->ended_wall_ms,
               a->final);
}

static int tolerate(int rc, struct buf *out)
{
    if (rc == -(int)ERR_NOT_FOUND)
        buf_str(out, "none");
    return rc == -(int)ERR_NOT_FOUND ? 0 : rc;
}

int test_digest(struct store *s, struct buf *out, struct err *err)
{
    const struct store_ops *ops = s->ops;
    struct store_meta meta;
    ops->meta(s, &meta);
    buf_add(out, meta.cluster, sizeof meta.cluster);
    buf_add(out, meta.token_key, sizeof meta.token_key);
    buf_printf(out, "%ju %ju", (uintmax_t)meta.epoch, (uintmax_t)meta.last_seq);
    int rc = ops->replay(s, 1, 0, digest_record, out, err);
    for (uint64_t job = 1; job <= FILL_JOBS + 1 && rc == 0; job++) {
        struct attempt_ref ref = { { job }, TASK_SINGLE, 1 };
        autobuf struct buf key = BUF_INIT, errs = BUF_INIT;
        job_id found = { 0 };
        struct bytes owner = bytes_str(job % 2 ? "alice" : "bob");
        buf_printf(&key, "key-%ju", (uintmax_t)job);
        if ((rc = tolerate(ops->spec(s, ref.job, out, err), out)) < 0 ||
            (rc = tolerate(ops->key(s, owner, buf_bytes(&key), &found, out, err), out)) < 0 ||
            (rc = ops->attempts(s, ref, 10, digest_attempt, out, err)) < 0 ||
            (rc = tolerate(ops->tails(s, ref, out, &errs, err), out)) < 0 ||
            (rc = ops->job_events(s, ref.job, 0, 100, digest_event, out, err)) < 0)
            break;
        buf_printf(out, "%ju", (uintmax_t)found.n);
        buf_add(out, errs.data, errs.size);
    }
    return rc;
}
