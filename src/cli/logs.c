#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/verb.h"
#include "io/clock.h"

#define AGAIN_MIN_MS 20
#define AGAIN_MAX_MS 500
#define LOST_MS 60000

/* One stream of output on its way to one of ours. */
struct pipe_end {
    struct stream stream;
    const char *name; /* "stdout" */
    int fd;
    bool terminal, wanted;
    uint64_t offset; /* bytes of this attempt that we have */
    bool tailed;     /* the last lines were asked for already, or nobody wants only them */
    bool unplaced;   /* since the last lines were printed nobody knows how far into the output we are */
    struct log_clean clean;
    bool open_line; /* the last byte was not the end of a line */
    struct buf text;
};

static void write_all(int fd, struct bytes text)
{
    while (text.size) {
        ssize_t wrote = write(fd, text.data, text.size);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            _exit(errno == EPIPE ? 0 : 2);
        text.data += wrote;
        text.size -= (size_t)wrote;
    }
}

static void on_output(void *arg, struct bytes piece)
{
    struct pipe_end *p = arg;
    p->offset += piece.size;
    p->open_line = piece.size ? piece.data[piece.size - 1] != '\n' : p->open_line;
    if (!p->terminal) {
        write_all(p->fd, piece);
        return;
    }
    log_clean(&p->clean, &p->text, piece);
    if (p->text.size)
        write_all(p->fd, buf_bytes(&p->text));
    buf_clear(&p->text);
}

static void pipe_open(struct follow *f, struct pipe_end *p, uint64_t attempt)
{
    char number[32];
    autobuf struct buf path = BUF_INIT;
    buf_printf(&path, "/v1/jobs/%llu/logs", (unsigned long long)f->ref.job);
    url_query(&path, "stream", p->name);
    if (f->ref.has_index) {
        snprintf(number, sizeof number, "%u", f->ref.index);
        url_query(&path, "task", number);
    }
    if (attempt) {
        snprintf(number, sizeof number, "%llu", (unsigned long long)attempt);
        url_query(&path, "attempt", number);
    }
    if (!p->tailed) {
        url_query(&path, "tail", f->tail);
        p->tailed = p->unplaced = true;
    } else if (p->unplaced) {
        url_query(&path, "tail", "0"); /* only what is new */
    } else if (p->offset) {
        snprintf(number, sizeof number, "%llu", (unsigned long long)p->offset);
        url_query(&path, "offset", number);
    }
    if (f->go_on)
        url_query(&path, "follow", "1");
    p->stream.on_bytes = on_output;
    p->stream.arg = p;
    client_stream(f->client, &p->stream, path.data, NULL);
}

static bool interrupted(const struct follow *f)
{
    return f->interrupts && *f->interrupts;
}

static void stop_both(struct follow *f, struct pipe_end *ends)
{
    for (int i = 0; i < 2; i++)
        client_stream_stop(f->client, &ends[i].stream);
}

/* Both streams of one attempt, to their present end. 0; FOLLOW_INTERRUPTED; or -2: no answer, *err. */
static int one_round(struct follow *f, struct pipe_end *ends, uint64_t attempt, struct err *err)
{
    for (int i = 0; i < 2; i++)
        if (ends[i].wanted)
            pipe_open(f, &ends[i], attempt);
    for (;;) {
        bool open = false;
        for (int i = 0; i < 2; i++)
            open = open || (ends[i].wanted && !ends[i].stream.ended);
        if (!open)
            break;
        if (interrupted(f)) {
            stop_both(f, ends);
            return FOLLOW_INTERRUPTED;
        }
        client_turn(f->client, 200);
    }
    int rc = 0;
    for (int i = 0; i < 2; i++) {
        if (!ends[i].wanted)
            continue;
        if (ends[i].stream.err.code) {
            *err = ends[i].stream.err;
            rc = -2;
        }
    }
    return rc;
}

static int job_now(struct follow *f, json_t **job, struct err *err)
{
    autobuf struct buf path = BUF_INIT;
    buf_str(&path, "/v1/jobs/");
    job_ref_text(&path, &f->ref);
    return client_json(f->client, "GET", path.data, bytes_of(NULL, 0), job, err);
}

static void round_off(struct pipe_end *ends)
{
    for (int i = 0; i < 2; i++) {
        struct pipe_end *p = &ends[i];
        if (p->terminal && p->stream.on_bytes)
            log_clean_end(&p->clean, &p->text);
        if (p->terminal && p->open_line) /* what is said next begins a line of its own */
            buf_char(&p->text, '\n');
        if (p->text.size)
            write_all(p->fd, buf_bytes(&p->text));
        buf_fini(&p->text);
    }
}

struct lost {
    int64_t since_ms;
};

/* True: the master is away, but not for long: go on. */
static bool bear(struct lost *l, const struct err *err, int64_t now_ms)
{
    if (err->code != ERR_UNAVAILABLE && err->code != ERR_TIMEOUT)
        return false;
    if (l->since_ms < 0) {
        autobuf struct buf line = BUF_INIT;
        struct err plain = *err;
        plain.remedy[0] = '\0';
        error_line(&line, &plain);
        say("%s; waiting for it to come back", line.data);
        l->since_ms = now_ms;
    }
    return now_ms - l->since_ms < LOST_MS;
}

/* What the job's attempts say about going on. */
enum next_round { ROUND_LAST, ROUND_AGAIN, ROUND_NEW };

static enum next_round look_at_job(const struct follow *f, const json_t *job, uint64_t *attempt, bool whole)
{
    uint64_t last = (uint64_t)json_int(job, "attempts", 0);
    if (f->attempt && (last > f->attempt || state_ended(json_text(job, "state", ""))))
        return whole ? ROUND_LAST : ROUND_AGAIN;
    if (last > *attempt && !f->attempt) {
        if (*attempt)
            say("attempt %llu", (unsigned long long)*attempt + 1);
        ++*attempt;
        return ROUND_NEW;
    }
    return whole && state_ended(json_text(job, "state", "")) ? ROUND_LAST : ROUND_AGAIN;
}

static int follow_rounds(struct follow *f, struct pipe_end *ends)
{
    uint64_t attempt = f->attempt;
    struct lost lost = { -1 };
    int64_t pause_ms = AGAIN_MIN_MS;
    bool ended = false;
    for (;;) {
        struct err err;
        uint64_t before = ends[0].offset + ends[1].offset;
        int rc = one_round(f, ends, attempt, &err);
        bool whole = rc == 0;
        if (rc == FOLLOW_INTERRUPTED || (whole && !f->go_on))
            return rc;
        if (!whole && (!f->go_on || !bear(&lost, &err, clock_now_ms())))
            return say_error(&err);
        for (int i = 0; i < 2; i++)
            if (attempt == 0 && ends[i].stream.log_attempt[0])
                attempt = strtoull(ends[i].stream.log_attempt, NULL, 10);
        autojson json_t *job = NULL;
        rc = job_now(f, &job, &err);
        if (rc < 0 && !bear(&lost, &err, clock_now_ms()))
            return say_error(&err);
        if (rc == 0 && whole)
            lost.since_ms = -1;
        enum next_round next = rc < 0 ? ROUND_AGAIN : look_at_job(f, job, &attempt, whole);
        if (next == ROUND_LAST && (ended || before || ends[0].offset + ends[1].offset))
            return 0;
        if (next == ROUND_LAST) {
            ended = true; /* Nothing at all: it may have been asked for before the end was recorded. */
            continue;
        }
        if (next == ROUND_NEW) {
            ends[0].offset = ends[1].offset = 0;
            ends[0].unplaced = ends[1].unplaced = false;
            ends[0].tailed = ends[1].tailed = true; /* the tail was of the attempt before */
            pause_ms = AGAIN_MIN_MS;
            continue;
        }
        pause_ms = ends[0].offset + ends[1].offset != before ? AGAIN_MIN_MS
                   : pause_ms * 2 > AGAIN_MAX_MS             ? AGAIN_MAX_MS
                                                             : pause_ms * 2;
        client_turn(f->client, pause_ms);
        if (interrupted(f))
            return FOLLOW_INTERRUPTED;
    }
}

int follow_logs(struct follow *f)
{
    struct pipe_end ends[2] = {
        { .name = "stdout",
          .fd = STDOUT_FILENO,
          .terminal = term_stdout(),
          .wanted = f->stdout_wanted,
          .tailed = !f->tail },
        { .name = "stderr",
          .fd = STDERR_FILENO,
          .terminal = term_stderr(),
          .wanted = f->stderr_wanted,
          .tailed = !f->tail },
    };
    int rc = follow_rounds(f, ends);
    round_off(ends);
    return rc;
}

static int run_logs(const struct args *args)
{
    int code = 0;
    autoclient struct client *c = verb_client(args, &code);
    if (!c)
        return code;
    struct err err;
    bool out = args_has(args, "stdout"), errs = args_has(args, "stderr");
    struct follow f = { .client = c,
                        .stdout_wanted = out || !errs,
                        .stderr_wanted = errs || !out,
                        .go_on = args_has(args, "follow"),
                        .attempt = args_u64(args, "attempt", 0),
                        .tail = args_text(args, "tail", NULL) };
    if (select_one(c, args->operands[0], &f.ref, &err) < 0)
        return say_error(&err);
    return follow_logs(&f);
}

static const struct option_row logs_options[] = {
    { .name = "follow",
      .letter = 'f',
      .kind = OPTION_FLAG,
      .group = "Options",
      .help = "go on until the job has ended" },
    { .name = "stdout", .kind = OPTION_FLAG, .group = "Options", .help = "only standard output" },
    { .name = "stderr", .kind = OPTION_FLAG, .group = "Options", .help = "only standard error" },
    { .name = "attempt",
      .kind = OPTION_COUNT,
      .argument = "N",
      .min = 1,
      .max = 1000000,
      .group = "Options",
      .fallback = "the last",
      .help = "output of this attempt" },
    { .name = "tail",
      .kind = OPTION_COUNT,
      .argument = "N",
      .min = 0,
      .max = 1000000000,
      .group = "Options",
      .fallback = "all",
      .help = "only the last N lines" },
    { .name = NULL },
};
const struct command command_logs = {
    .name = "logs",
    .group = "Jobs",
    .operands = "JOB",
    .operands_min = 1,
    .operands_max = 1,
    .flags = COMMAND_CLIENT | COMMAND_JOBS,
    .summary = "print the output of a job",
    .text = "What the job wrote to its standard output goes to standard output, its standard error to standard error. "
            "On a terminal, "
            "control sequences other than colours are taken out.",
    .examples = "rota logs 7\nrota logs 7_3 -f\nrota logs last --stderr --tail 20",
    .options = logs_options,
    .run = run_logs,
};
