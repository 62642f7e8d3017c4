#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cli/job_json.h"
#include "cli/profile.h"
#include "cli/submit.h"
#include "cli/verb.h"
#include "io/clock.h"
#include "wire/spec.h"

#define JOB_FILE_MAX (64u << 20) /* YAML is read whole; more comes as NDJSON */
#define PEEK_BYTES 262144u       /* a first line longer than this is no job */
#define UPLOAD_BAR (1u << 20)
#define LIST_JOBS 500u /* jobs sent as one list: all are read before the first is taken */
#define LIST_BYTES 524288u
#define PRINT_IDS 1000u /* more ids than this are printed as a range */

/* Ids of what was queued, in order, neighbours together. */
struct ids {
    struct {
        uint64_t first, last;
    } * ranges;
    size_t count, cap;
    uint64_t jobs;
};

static void ids_add(struct ids *ids, uint64_t first, uint64_t last)
{
    ids->jobs += last - first + 1;
    if (ids->count && ids->ranges[ids->count - 1].last + 1 == first) {
        ids->ranges[ids->count - 1].last = last;
        return;
    }
    ids->ranges = mem_grow(ids->ranges, &ids->cap, ids->count + 1, sizeof *ids->ranges);
    ids->ranges[ids->count].first = first;
    ids->ranges[ids->count++].last = last;
}

static void ids_text(const struct ids *ids, struct buf *out)
{
    for (size_t i = 0; i < ids->count; i++) {
        buf_printf(out, "%s%llu", i ? "," : "", (unsigned long long)ids->ranges[i].first);
        if (ids->ranges[i].last > ids->ranges[i].first)
            buf_printf(out, "-%llu", (unsigned long long)ids->ranges[i].last);
    }
}

struct submission {
    const struct args *args;
    struct client *client;
    char key[80]; /* of the request; a file that needs several requests adds a number */
    bool own_key; /* the user gave it */
    struct ids ids;
    bool list; /* more than one may have been meant: count them for people */
    struct progress progress;
    uint64_t upload_bytes;
};

static int make_key(struct submission *s, struct err *err)
{
    const char *given = args_text(s->args, "key", NULL);
    if (given) {
        if (strlen(given) > 64)
            return err_field(err, ERR_INVALID, "--key", "write at most 64 bytes", "the key is too long");
        snprintf(s->key, sizeof s->key, "%s", given);
        s->own_key = true;
        return 0;
    }
    unsigned char random[16];
    if (getrandom(random, sizeof random, 0) != sizeof random)
        return err_errno(err, "random numbers");
    memcpy(s->key, "cli-", 5);
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(s->key + 4 + 2 * i, 3, "%02x", random[i]);
    return 0;
}

/* {"id":7} or {"ids":[..]} or {"ranges":[[1,9],..]} or {"first":1,"last":9,"count":9}; a problem has `ranges` or `ids`
 * of what was taken. */
static void take_ids(struct submission *s, const json_t *answer)
{
    const json_t *ids = json_object_get(answer, "ids"), *ranges = json_object_get(answer, "ranges"), *one;
    size_t i;
    if (json_is_integer(json_object_get(answer, "id"))) {
        uint64_t id = (uint64_t)json_int(answer, "id", 0);
        ids_add(&s->ids, id, id);
    } else if (json_is_array(ids)) {
        json_array_foreach(ids, i, one)
        {
            uint64_t id = (uint64_t)json_integer_value(one);
            ids_add(&s->ids, id, id);
        }
    } else if (json_is_array(ranges)) {
        json_array_foreach(ranges, i, one)
        {
            uint64_t first = (uint64_t)json_integer_value(json_array_get(one, 0)),
                     last = (uint64_t)json_integer_value(json_array_get(one, 1));
            if (first && last >= first)
                ids_add(&s->ids, first, last);
        }
    } else if (json_int(answer, "first", 0) > 0) {
        ids_add(&s->ids, (uint64_t)json_int(answer, "first", 0), (uint64_t)json_int(answer, "last", 0));
    }
}

static void on_sent(void *arg, uint64_t bytes)
{
    struct submission *s = arg;
    progress_set(&s->progress, bytes >> 10, (s->upload_bytes + 1023) >> 10, 0, clock_now_ms());
}

/* One request. The error has been said. Result: 0 or an exit code. The master is looked for only now: what is wrong
 * with the job itself has been said before. */
static int post(struct submission *s, const struct call *call)
{
    struct err err;
    int missing = 0;
    if (!s->client && !(s->client = verb_client(s->args, &missing)))
        return missing;
    struct reply reply = { 0 };
    json_t *answer = NULL;
    uint64_t before = s->ids.jobs;
    int rc = client_call_retry(s->client, call, &reply, &err), code = 0;
    if (s->progress.mode != PROGRESS_NONE && call->body_fd_bytes)
        progress_end(&s->progress, clock_now_ms());
    if (rc == 0)
        rc = reply_json(&reply, &answer, &err);
    else if (reply.status)
        answer = json_loadb(reply.body.data ? reply.body.data : "", reply.body.size, JSON_ALLOW_NUL, NULL);
    take_ids(s, answer);
    if (rc == 0 && args_has(s->args, "json"))
        print_json(buf_bytes(&reply.body));
    if (rc < 0) {
        code = say_error(&err);
        if (s->ids.jobs > before || reply.status == 0) {
            autobuf struct buf ids = BUF_INIT;
            ids_text(&s->ids, &ids);
            if (s->ids.jobs)
                say("queued before that: %llu (%s)", (unsigned long long)s->ids.jobs,
                    ids.size < 200 ? ids.data : "see rota ls");
            say("%s: submit the same again with --key %s; what is queued is not queued twice",
                reply.status == 0 ? "whether it arrived is not known" : "to go on after a correction", s->key);
        }
    }
    json_decref(answer);
    reply_fini(&reply);
    return code;
}

/* --- job files --- */

/* Standard input, or a file that can not be read twice, goes to an unnamed file first: a request that is to be repeated
 * needs its body again, and memory stays bounded however long it is. */
static int spool(int from, struct bytes begun, struct err *err)
{
    const char *dir = getenv("TMPDIR");
    dir = dir && *dir ? dir : "/tmp";
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) {
        autobuf struct buf name = BUF_INIT;
        buf_printf(&name, "%s/rota-submit-XXXXXX", dir);
        fd = mkostemp(name.data, O_CLOEXEC);
        if (fd >= 0)
            unlink(name.data);
    }
    if (fd < 0)
        return err_errno(err, "a temporary file in %s", dir);
    autofree char *piece = mem_alloc(1 << 20);
    struct bytes left = begun;
    for (;;) {
        while (left.size) {
            ssize_t wrote = write(fd, left.data, left.size);
            if (wrote < 0 && errno != EINTR) {
                int rc = err_errno(err, "a temporary file in %s", dir);
                close(fd);
                return rc;
            }
            if (wrote > 0)
                left = bytes_of(left.data + wrote, left.size - (size_t)wrote);
        }
        ssize_t got = read(from, piece, 1 << 20);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            int rc = err_errno(err, "read the jobs");
            close(fd);
            return rc;
        }
        if (got == 0)
            return fd;
        left = bytes_of(piece, (size_t)got);
    }
}

/* NDJSON if the first line that holds anything is a JSON object by itself. */
static bool is_ndjson(struct bytes begun)
{
    const char *at = begun.data, *end = begun.data + begun.size;
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n'))
        at++;
    if (at == end || *at != '{')
        return false;
    const char *line = memchr(at, '\n', (size_t)(end - at));
    json_t *job = json_loadb(at, (size_t)((line ? line : end) - at), 0, NULL);
    bool object = json_is_object(job);
    json_decref(job);
    return object;
}

static int send_ndjson(struct submission *s, int fd, struct bytes begun)
{
    struct err err;
    struct stat st;
    autoclose int spooled = -1;
    s->list = true;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || lseek(fd, 0, SEEK_CUR) != (off_t)begun.size) {
        spooled = spool(fd, begun, &err);
        if (spooled < 0)
            return say_error(&err);
        fd = spooled;
        if (fstat(fd, &st) < 0) {
            err_errno(&err, "the temporary file");
            return say_error(&err);
        }
    }
    s->upload_bytes = (uint64_t)st.st_size;
    /* What is sent in a moment needs no bar of its own. */
    progress_start(&s->progress, s->upload_bytes > UPLOAD_BAR ? progress_mode_of(s->args) : PROGRESS_NONE, "KiB sent",
                   clock_now_ms());
    s->progress.first = 0;
    return post(s, &(struct call){ .method = "POST",
                                   .path = "/v1/jobs",
                                   .type = "application/x-ndjson",
                                   .key = s->key,
                                   .body_fd = fd,
                                   .body_fd_bytes = s->upload_bytes,
                                   .on_sent = on_sent,
                                   .arg = s });
}

/* Jobs of a file on their way: names that were given so far and their ids, and the list that is being gathered. */
struct file_jobs {
    struct submission *s;
    struct {
        char *name;
        uint64_t id;
    } * named;
    size_t named_count, named_cap;
    struct buf list;
    char **list_names;
    size_t list_count, list_cap;
    bool list_keyed; /* the last job of the list has a key of its own */
    unsigned requests;
};

static uint64_t id_named(const struct file_jobs *f, const char *name)
{
    for (size_t i = f->named_count; i > 0; i--)
        if (f->named[i - 1].name && strcmp(f->named[i - 1].name, name) == 0)
            return f->named[i - 1].id;
    return 0;
}

static uint64_t id_at(const struct ids *ids, uint64_t index)
{
    for (size_t i = 0; i < ids->count; i++) {
        uint64_t here = ids->ranges[i].last - ids->ranges[i].first + 1;
        if (index < here)
            return ids->ranges[i].first + index;
        index -= here;
    }
    return 0;
}

static int send_list(struct file_jobs *f)
{
    if (f->list_count == 0)
        return 0;
    uint64_t before = f->s->ids.jobs;
    char key[96];
    /* The key belongs to one body: each request of a file has its own. */
    snprintf(key, sizeof key, f->requests ? "%s.%u" : "%s", f->s->key, f->requests);
    f->requests++;
    buf_char(&f->list, ']');
    bool single = f->list_count == 1 && !f->s->list;
    struct bytes body = single ? bytes_of(f->list.data + 1, f->list.size - 2) : buf_bytes(&f->list);
    /* The key of a single job does what ours would do; beside one that the user gave, the master refuses it. */
    bool own = single && f->list_keyed && !f->s->own_key;
    int code =
        post(f->s, &(struct call){ .method = "POST", .path = "/v1/jobs", .body = body, .key = own ? NULL : key });
    for (size_t i = 0; i < f->list_count; i++) {
        if (code == 0) {
            f->named = mem_grow(f->named, &f->named_cap, f->named_count + 1, sizeof *f->named);
            f->named[f->named_count].name = f->list_names[i];
            f->named[f->named_count++].id = id_at(&f->s->ids, before + i);
        } else {
            free(f->list_names[i]);
        }
    }
    f->list_count = 0;
    buf_clear(&f->list);
    return code;
}

/* Puts ids for the names in `after`; what they name must have been sent. */
static int resolve_after(struct file_jobs *f, json_t *job)
{
    json_t *after = json_object_get(job, "after"), *one;
    size_t i;
    bool names = false;
    json_array_foreach(after, i, one) names = names || json_object_get(one, "name");
    if (!names)
        return 0;
    int code = send_list(f);
    if (code)
        return code;
    json_array_foreach(after, i, one)
    {
        const char *name = json_text(one, "name", NULL);
        if (!name)
            continue;
        uint64_t id = id_named(f, name);
        if (id == 0) {
            say("after: \"%s\" is no job that stands before it in the file", name);
            return 2;
        }
        json_object_set_new(one, "job", json_integer((json_int_t)id));
        json_object_del(one, "name");
    }
    return 0;
}

static int add_line(struct file_jobs *f, struct bytes line)
{
    json_t *job = json_loadb(line.data, line.size, 0, NULL);
    check(json_is_object(job)); /* written by spec_from_yaml */
    int code = resolve_after(f, job);
    char *text = code == 0 ? json_dumps(job, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    if (text) {
        buf_char(&f->list, f->list_count ? ',' : '[');
        buf_str(&f->list, text);
        f->list_names = mem_grow(f->list_names, &f->list_cap, f->list_count + 1, sizeof *f->list_names);
        f->list_keyed = json_object_get(job, "key") != NULL;
        f->list_names[f->list_count++] = mem_str(json_text(job, "name", NULL));
    }
    free(text);
    json_decref(job);
    if (code == 0 && (f->list_count >= LIST_JOBS || f->list.size >= LIST_BYTES))
        code = send_list(f);
    return code;
}

static int send_yaml(struct submission *s, const char *file, struct bytes text)
{
    struct err err;
    autobuf struct buf lines = BUF_INIT, faults = BUF_INIT;
    if (spec_from_yaml(strcmp(file, "-") == 0 ? "standard input" : file, text, &lines, &faults, &err) < 0) {
        if (faults.size == 0)
            return say_error(&err);
        autobuf struct buf clean = BUF_INIT;
        for (char *at = faults.data; *at;) {
            size_t size = strcspn(at, "\n");
            buf_str(&clean, "rota: ");
            text_clean(&clean, bytes_of(at, size));
            buf_char(&clean, '\n');
            at += size + (at[size] == '\n');
        }
        fwrite(clean.data, 1, clean.size, stderr);
        return 2;
    }
    struct file_jobs f = { .s = s };
    int code = 0;
    size_t count = 0;
    for (size_t i = 0; i < lines.size; i++)
        count += lines.data[i] == '\n';
    s->list = count > 1;
    if (count == 0) {
        say("%s: there is no job in it; write one job, a list, or jobs: [...]", file);
        code = 2;
    }
    for (const char *at = lines.data; code == 0 && at && at < lines.data + lines.size;) {
        size_t size = strcspn(at, "\n");
        code = add_line(&f, bytes_of(at, size));
        at += size + 1;
    }
    if (code == 0)
        code = send_list(&f);
    for (size_t i = 0; i < f.list_count; i++)
        free(f.list_names[i]);
    for (size_t i = 0; i < f.named_count; i++)
        free(f.named[i].name);
    free(f.named);
    free(f.list_names);
    buf_fini(&f.list);
    return code;
}

static int send_file(struct submission *s, const char *file)
{
    struct err err;
    const char *dot = strrchr(file, '.');
    autoclose int opened = strcmp(file, "-") == 0 ? -1 : open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    int fd = strcmp(file, "-") == 0 ? STDIN_FILENO : opened;
    if (fd < 0) {
        err_errno(&err, "read %s", file);
        err.code = errno == ENOENT ? ERR_NOT_FOUND : ERR_INVALID;
        return say_error(&err);
    }
    autobuf struct buf begun = BUF_INIT;
    bool end = false;
    while (!end && begun.size < PEEK_BYTES) {
        buf_reserve(&begun, PEEK_BYTES);
        ssize_t got = read(fd, begun.data + begun.size, PEEK_BYTES - begun.size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            err_errno(&err, "read %s", file);
            return say_error(&err);
        }
        end = got == 0;
        begun.size += (size_t)got;
        begun.data[begun.size] = '\0';
        if (is_ndjson(buf_bytes(&begun)) || (dot && (strcmp(dot, ".ndjson") == 0 || strcmp(dot, ".jsonl") == 0)))
            return send_ndjson(s, fd, buf_bytes(&begun));
    }
    while (!end && begun.size <= JOB_FILE_MAX) {
        buf_reserve(&begun, 1 << 20);
        ssize_t got = read(fd, begun.data + begun.size, (1 << 20) - 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            err_errno(&err, "read %s", file);
            return say_error(&err);
        }
        end = got == 0;
        begun.size += (size_t)got;
        begun.data[begun.size] = '\0';
    }
    if (begun.size > JOB_FILE_MAX) {
        err_field(&err, ERR_TOO_LARGE, NULL, "write NDJSON: one JSON object per line, without end",
                  "%s is larger than 64 MiB", file);
        return say_error(&err);
    }
    return send_yaml(s, file, buf_bytes(&begun));
}

/* --- submit --- */

static int send_args(struct submission *s)
{
    struct err err;
    autobuf struct buf body = BUF_INIT;
    if (job_json_from(s->args, &body, &err) < 0)
        return say_error(&err);
    return post(s, &(struct call){ .method = "POST", .path = "/v1/jobs", .body = buf_bytes(&body), .key = s->key });
}

static void print_ids(const struct submission *s)
{
    autobuf struct buf out = BUF_INIT;
    if (s->ids.jobs > PRINT_IDS) {
        for (size_t i = 0; i < s->ids.count; i++)
            buf_printf(&out, "%llu-%llu\n", (unsigned long long)s->ids.ranges[i].first,
                       (unsigned long long)s->ids.ranges[i].last);
        say("%llu jobs queued, first %llu, last %llu", (unsigned long long)s->ids.jobs,
            (unsigned long long)s->ids.ranges[0].first, (unsigned long long)s->ids.ranges[s->ids.count - 1].last);
    } else {
        for (size_t i = 0; i < s->ids.count; i++)
            for (uint64_t id = s->ids.ranges[i].first; id <= s->ids.ranges[i].last; id++)
                buf_printf(&out, "%llu\n", (unsigned long long)id);
    }
    out_flush(&out);
}

static int wait_for_ids(struct submission *s)
{
    int code = 0;
    /* The names of many jobs may be longer than one call takes: ranges are asked for in parts. */
    for (size_t i = 0; i < s->ids.count;) {
        autobuf struct buf selector = BUF_INIT;
        struct ids part = { .ranges = s->ids.ranges + i };
        for (; i < s->ids.count && part.count < 40; i++)
            part.count++;
        ids_text(&part, &selector);
        struct waiting w = { .selector = selector.data, .until_ms = -1, .json = args_has(s->args, "json") };
        progress_start(&w.progress, progress_mode_of(s->args), "done", clock_now_ms());
        w.progress.first = 0; /* they are all new */
        int one = wait_for(s->client, &w);
        code = one > code ? one : code;
    }
    return code;
}

static int usage(const struct args *args, const char *what)
{
    say("%s; usage: rota %s %s", what, args->command->name, args->command->operands);
    return 2;
}

static void submission_fini(struct submission *s)
{
    free(s->ids.ranges);
    client_free(s->client);
}

int submit_one(const struct args *args, uint64_t *id)
{
    struct submission s = { .args = args };
    struct err err;
    int code = make_key(&s, &err) < 0 ? say_error(&err) : 0;
    if (code == 0)
        code = send_args(&s);
    *id = s.ids.count ? s.ids.ranges[0].first : 0;
    submission_fini(&s);
    return code;
}

/* What --mem auto came to. */
static void tell_memory(struct client *c, uint64_t id)
{
    autobuf struct buf path = BUF_INIT, text = BUF_INIT;
    autojson json_t *job = NULL;
    buf_printf(&path, "/v1/jobs/%llu", (unsigned long long)id);
    if (client_json(c, "GET", path.data, bytes_of(NULL, 0), &job, NULL) < 0)
        return; /* It is queued all the same; rota show tells it. */
    human_size(&text, job, "mem_bytes");
    buf_str(&text, " memory");
    mem_auto_text(job, &text);
    say("%s", text.data);
}

static int run_submit(const struct args *args)
{
    const char *file = args_text(args, "file", NULL);
    const struct given *job_option = job_option_given(args);
    if (!file && args->operands_count == 0)
        return usage(args, "there is no command");
    if (file && args->operands_count)
        return usage(args, "a job file and a command do not go together");
    if (file && job_option) {
        say("--%s: write it into the job file; it does not go together with --file", job_option->row->name);
        return 2;
    }
    if (args_has(args, "follow") && (file || args_has(args, "array") || args_u64(args, "nodes", 1) > 1))
        return usage(args, "--follow shows the output of one job; use --wait or --progress");
    struct submission s = { .args = args };
    struct err err;
    int code = make_key(&s, &err) < 0 ? say_error(&err) : 0;
    if (code == 0)
        code = file ? send_file(&s, file) : send_args(&s);
    if (code == 0 && !args_has(args, "json"))
        print_ids(&s);
    if (code == 0 && args_mem_auto(args) && s.ids.count)
        tell_memory(s.client, s.ids.ranges[0].first);
    if (code == 0 && args_has(args, "follow")) {
        struct follow f = { .client = s.client,
                            .ref = { .job = s.ids.ranges[0].first },
                            .stdout_wanted = true,
                            .stderr_wanted = true,
                            .go_on = true };
        code = follow_logs(&f);
    }
    if (code == 0 && s.ids.jobs && (args_has(args, "wait") || args_has(args, "follow") || args_has(args, "progress")))
        code = wait_for_ids(&s);
    submission_fini(&s);
    return code;
}

/* --- run --- */

static volatile int interrupts;
static void on_interrupt(int signo)
{
    (void)signo;
    interrupts++;
}

/* Ctrl-C was pressed once: a second one within two seconds cancels the job. */
static int detach(struct client *c, uint64_t job)
{
    fprintf(stderr, "\n");
    say("leaving job %llu to itself; Ctrl-C again within 2 s cancels it", (unsigned long long)job);
    for (int64_t until_ms = clock_now_ms() + 2000; interrupts < 2 && clock_now_ms() < until_ms;)
        client_turn(c, 50);
    if (interrupts < 2) {
        say("job %llu runs on; `rota logs %llu -f` shows its output, `rota cancel %llu` ends it",
            (unsigned long long)job, (unsigned long long)job, (unsigned long long)job);
        return 130;
    }
    struct err err;
    json_t *answer = NULL;
    autobuf struct buf path = BUF_INIT;
    buf_printf(&path, "/v1/jobs/%llu/cancel", (unsigned long long)job);
    if (client_json(c, "POST", path.data, bytes_str("{\"reason\":\"Ctrl-C in rota run\"}"), &answer, &err) < 0)
        return say_error(&err);
    json_decref(answer);
    say("job %llu is being cancelled", (unsigned long long)job);
    return 130;
}

static int run_code(struct client *c, uint64_t id)
{
    struct err err;
    autojson json_t *job = NULL;
    autobuf struct buf path = BUF_INIT;
    buf_printf(&path, "/v1/jobs/%llu", (unsigned long long)id);
    struct waiting w = { .until_ms = -1, .quiet = true };
    char selector[32];
    snprintf(selector, sizeof selector, "%llu", (unsigned long long)id);
    w.selector = selector;
    int code = wait_for(c, &w);
    if (client_json(c, "GET", path.data, bytes_of(NULL, 0), &job, &err) < 0)
        return say_error(&err);
    code = job_exit_code(job);
    if (strcmp(json_text(job, "state", ""), "succeeded") != 0 && strcmp(json_text(job, "reason", ""), "exit") != 0) {
        autobuf struct buf text = BUF_INIT;
        state_sentence(job, &text);
        say("job %llu %s", (unsigned long long)id, text.data);
    }
    return code;
}

static int run_run(const struct args *args)
{
    if (args->operands_count == 0)
        return usage(args, "there is no command");
    struct submission s = { .args = args };
    struct err err;
    int code = make_key(&s, &err) < 0 ? say_error(&err) : 0;
    if (code == 0)
        code = send_args(&s);
    autoclient struct client *c = s.client;
    uint64_t id = s.ids.count ? s.ids.ranges[0].first : 0;
    free(s.ids.ranges);
    if (code || id == 0)
        return code;
    say("job %llu", (unsigned long long)id);
    if (args_mem_auto(args))
        tell_memory(c, id);
    bool gang = args_u64(args, "nodes", 1) > 1;
    char selector[32];
    snprintf(selector, sizeof selector, "%llu", (unsigned long long)id);
    struct waiting w = { .selector = selector, .until_ms = -1 };
    if (args_has(args, "array")) {
        progress_start(&w.progress, term_stderr() ? PROGRESS_BAR : PROGRESS_NONE, "done", clock_now_ms());
        return wait_for(c, &w);
    }
    sigaction(SIGINT, &(struct sigaction){ .sa_handler = on_interrupt }, NULL);
    struct follow f = { .client = c,
                        .ref = { .job = id, .has_index = gang }, /* of a job on several nodes: rank 0 */
                        .stdout_wanted = true,
                        .stderr_wanted = true,
                        .go_on = true,
                        .interrupts = &interrupts };
    code = follow_logs(&f);
    if (code == FOLLOW_INTERRUPTED)
        return detach(c, id);
    if (code > 0)
        return code;
    sigaction(SIGINT, &(struct sigaction){ .sa_handler = SIG_DFL }, NULL);
    return gang ? wait_for(c, &w) : run_code(c, id);
}

static const struct option_row submit_first[] = {
    { .name = "file",
      .letter = 'f',
      .kind = OPTION_FILE,
      .argument = "FILE",
      .group = "How",
      .help = "jobs from a file, YAML, JSON or NDJSON; - reads standard input" },
    { .name = "wait", .kind = OPTION_FLAG, .group = "How", .help = "return when it has ended, with its exit code" },
    { .name = "follow", .kind = OPTION_FLAG, .group = "How", .help = "print its output as it comes, then as --wait" },
    { .name = "progress",
      .kind = OPTION_CHOICE,
      .flags = OPTION_MAYBE,
      .argument = "HOW",
      .choices = progress_choices,
      .group = "How",
      .help = "as --wait, and show on standard error how far it is" },
    { .name = "key",
      .kind = OPTION_NAME,
      .argument = "KEY",
      .group = "How",
      .fallback = "a new random one",
      .help = "idempotency key: the same key again gives the same job" },
    { .name = NULL },
};
static const struct option_row run_first[] = {
    { .name = "key",
      .kind = OPTION_NAME,
      .argument = "KEY",
      .group = "How",
      .fallback = "a new random one",
      .help = "idempotency key: the same key again gives the same job" },
    { .name = NULL },
};

static const struct option_row *submit_options(void)
{
    static struct option_row rows[JOB_OPTIONS_MAX];
    return job_options_after(rows, submit_first);
}

static const struct option_row *run_options(void)
{
    static struct option_row rows[JOB_OPTIONS_MAX];
    return job_options_after(rows, run_first);
}

const struct command command_submit = {
    .name = "submit",
    .group = "Jobs",
    .operands = "-- CMD [ARG...] | -f FILE",
    .operands_min = 0,
    .operands_max = -1,
    .flags = COMMAND_CLIENT | COMMAND_TAIL,
    .summary = "queue a job and print its id",
    .text = "Prints the id alone; of a file one id per line, and for more than 1000 jobs the range. Returns when the "
            "job is on the master's disk. "
            "Every submission carries an idempotency key and is repeated with it when the connection is lost, for up "
            "to 30 s.",
    .examples = "rota submit --cpus 2 --mem 4G --time 2h -- ./train --fast\n"
                "rota submit --array 1-1000%50 -- ./step {}\n"
                "rota submit --after 7,9:any --retries 3 --backoff 10s..5min -- ./collect\n"
                "seq 1000000 | sed 's/.*/{\"command\":[\"true\",\"&\"]}/' | rota submit -f - --progress\n"
                "rota submit -f jobs.yaml --wait",
    .options_made = submit_options,
    .run = run_submit,
};
const struct command command_run = {
    .name = "run",
    .group = "Jobs",
    .operands = "-- CMD [ARG...]",
    .operands_min = 0,
    .operands_max = -1,
    .flags = COMMAND_CLIENT | COMMAND_TAIL,
    .summary = "submit a job, print its output, exit with its code",
    .text = "Its standard output and standard error come out at the same of ours. Ctrl-C leaves the job to itself, a "
            "second Ctrl-C within two "
            "seconds cancels it. With --array it waits without printing output; with --nodes it prints that of rank 0.",
    .examples = "rota run -- echo hello\nrota run --cpus 4 --mem 2G -- make -j4",
    .options_made = run_options,
    .run = run_run,
};
