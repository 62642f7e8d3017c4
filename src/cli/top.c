/* top.c: the verb. Everything is fetched side by side while keys are read, so that a slow line stops nobody: one round
 * of answers is under way at a time, and the next begins when the stream of events said that something changed, not
 * sooner than the last round took twice over. */
#include "cli/top.h"

#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/verb.h"
#include "core/model/states.h"
#include "io/clock.h"

#include <ncurses.h> /* after ours: both have an ERR */

#define ROUND_MIN_MS 500   /* between two rounds, however much happens */
#define ROUND_IDLE_MS 5000 /* usage of nodes changes without an event: a new round after this long */
#define AGAIN_MS 1000      /* after a lost connection */
#define DRAW_MS 1000       /* times on the screen go on */
#define LINE_BYTES_MAX 4096u
#define JOBS_MIN 100
#define JOBS_MAX 500

/* One answer on its way. */
struct fetch {
    struct stream stream;
    struct buf body;
    json_t **into;
    bool open;
};

struct log_stream {
    struct stream stream;
    struct buf line;
    struct top *top;
    bool open;
};

enum { FETCH_STATS, FETCH_NODES, FETCH_QUEUES, FETCH_JOBS, FETCH_RUNNING, FETCHES };

struct session {
    struct client *client;
    struct top top;
    struct fetch fetches[FETCHES];
    struct stream events;
    struct sse sse;
    struct log_stream logs[2];
    bool events_open, dirty, round_failed, quit;
    int64_t round_began_ms, round_ended_ms, events_at_ms, drawn_ms;
    double ended_before; /* tasks ended at the round before, and when that was */
    int64_t ended_at_ms;
    void (*confirmed)(struct session *s); /* what y does now */
    int64_t asked_job;
};

/* --- answers --- */

static void on_body(void *arg, struct bytes piece)
{
    struct fetch *f = arg;
    buf_add(&f->body, piece.data, piece.size);
}

static void fetch_start(struct session *s, int which, const char *path, json_t **into)
{
    struct fetch *f = &s->fetches[which];
    buf_clear(&f->body);
    f->into = into;
    f->stream = (struct stream){ .on_bytes = on_body, .arg = f };
    f->open = true;
    client_stream(s->client, &f->stream, path, NULL);
}

static void jobs_path(const struct top *t, const char *state, struct buf *path)
{
    int limit = LINES * 3 < JOBS_MIN ? JOBS_MIN : LINES * 3 > JOBS_MAX ? JOBS_MAX : LINES * 3;
    char number[16];
    autobuf struct buf glob = BUF_INIT;
    snprintf(number, sizeof number, "%d", limit);
    buf_str(path, "/v1/jobs");
    url_query(path, "limit", number);
    url_query(path, "state", state);
    url_query(path, "user", t->user[0] ? t->user : NULL);
    if (t->name[0])
        buf_printf(&glob, "*%s*", t->name);
    url_query(path, "name", glob.size ? glob.data : NULL);
}

static void round_begin(struct session *s, int64_t now_ms)
{
    autobuf struct buf jobs = BUF_INIT, running = BUF_INIT;
    jobs_path(&s->top, s->top.state, &jobs);
    jobs_path(&s->top, "running", &running);
    s->dirty = s->round_failed = false;
    s->round_began_ms = now_ms;
    fetch_start(s, FETCH_STATS, "/v1/stats", &s->top.stats);
    fetch_start(s, FETCH_NODES, "/v1/nodes", &s->top.nodes);
    fetch_start(s, FETCH_JOBS, jobs.data, &s->top.jobs);
    if (!s->top.state)
        fetch_start(s, FETCH_RUNNING, running.data, &s->top.running);
    if (s->top.page == TOP_QUEUES)
        fetch_start(s, FETCH_QUEUES, "/v1/queues", &s->top.queues);
}

static void fetch_done(struct session *s, struct fetch *f, int64_t now_ms)
{
    f->open = false;
    struct err err = f->stream.err;
    json_t *answer =
        f->stream.complete ? json_loadb(f->body.data ? f->body.data : "", f->body.size, JSON_ALLOW_NUL, NULL) : NULL;
    if (answer) {
        json_decref(*f->into);
        *f->into = answer;
        return;
    }
    s->round_failed = true;
    struct top *t = &s->top;
    err.remedy[0] = '\0';
    autobuf struct buf line = BUF_INIT;
    error_line(&line, &err);
    snprintf(t->trouble, sizeof t->trouble, "%s", line.size ? line.data : "the answer makes no sense");
    bool lost = err.code == ERR_UNAVAILABLE || err.code == ERR_TIMEOUT || err.code == ERR_OK;
    if (!lost)
        snprintf(t->message, sizeof t->message, "%s", t->trouble);
    else if (t->lost_since_ms < 0)
        t->lost_since_ms = now_ms;
}

static void count_ended(struct session *s, int64_t now_ms)
{
    const json_t *totals = json_object_get(s->top.stats, "totals");
    double ended =
        (double)(json_int(totals, "succeeded", 0) + json_int(totals, "failed", 0) + json_int(totals, "cancelled", 0));
    if (s->ended_at_ms && now_ms > s->ended_at_ms && ended >= s->ended_before)
        s->top.ended_per_s = (ended - s->ended_before) * 1000 / (double)(now_ms - s->ended_at_ms);
    s->ended_before = ended;
    s->ended_at_ms = now_ms;
}

/* True: a round is under way. */
static bool round_turn(struct session *s, int64_t now_ms)
{
    bool open = false, closed = false;
    for (int i = 0; i < FETCHES; i++) {
        struct fetch *f = &s->fetches[i];
        if (f->open && f->stream.ended) {
            fetch_done(s, f, now_ms);
            closed = true;
        }
        open |= f->open;
    }
    if (open || !closed)
        return open;
    s->round_ended_ms = now_ms;
    if (!s->round_failed) {
        s->top.lost_since_ms = -1;
        count_ended(s, now_ms);
    }
    top_arrange(&s->top);
    s->drawn_ms = 0;
    return false;
}

static int64_t round_due_ms(const struct session *s)
{
    int64_t took_ms = s->round_ended_ms - s->round_began_ms,
            pause_ms = 2 * took_ms < ROUND_MIN_MS ? ROUND_MIN_MS : 2 * took_ms;
    if (s->round_failed)
        return s->round_ended_ms + AGAIN_MS;
    return s->round_ended_ms + (s->dirty || pause_ms > ROUND_IDLE_MS ? pause_ms : ROUND_IDLE_MS);
}

/* --- the stream of events: it only says that there is something new --- */

static void on_event(void *arg, const char *id, const char *event, struct bytes data)
{
    (void)id, (void)event, (void)data;
    struct session *s = arg;
    s->dirty = true;
}

static void on_events(void *arg, struct bytes piece)
{
    struct session *s = arg;
    sse_feed(&s->sse, piece);
}

static void events_turn(struct session *s, int64_t now_ms)
{
    if (s->events_open && s->events.ended) {
        s->events_open = false;
        s->dirty = true;
        s->events_at_ms = now_ms + AGAIN_MS;
    }
    if (s->events_open || now_ms < s->events_at_ms)
        return;
    sse_fini(&s->sse);
    s->sse = (struct sse){ .on_event = on_event, .arg = s };
    s->events = (struct stream){ .on_bytes = on_events, .arg = s };
    s->events_open = true;
    client_stream(s->client, &s->events, "/v1/events", NULL);
}

/* --- a log --- */

static void on_log(void *arg, struct bytes piece)
{
    struct log_stream *l = arg;
    for (size_t i = 0; i < piece.size; i++) {
        if (piece.data[i] != '\n')
            buf_char(&l->line, piece.data[i]);
        if (piece.data[i] == '\n' || l->line.size >= LINE_BYTES_MAX) {
            top_log_add(l->top, buf_bytes(&l->line));
            buf_clear(&l->line);
        }
    }
}

static void log_close(struct session *s)
{
    for (int i = 0; i < 2; i++) {
        client_stream_stop(s->client, &s->logs[i].stream);
        s->logs[i].open = false;
        buf_fini(&s->logs[i].line);
    }
}

static void log_open(struct session *s)
{
    const json_t *job = top_job(&s->top);
    if (!job)
        return;
    int64_t id = json_int(job, "id", 0);
    log_close(s);
    top_log_clear(&s->top, id);
    s->top.page = TOP_LOG;
    for (int i = 0; i < 2; i++) {
        struct log_stream *l = &s->logs[i];
        char path[120];
        snprintf(path, sizeof path, "/v1/jobs/%lld/logs?stream=%s&tail=%d&follow=1", (long long)id,
                 i ? "stderr" : "stdout", LINES * 2);
        *l = (struct log_stream){ .top = &s->top, .open = true };
        l->stream = (struct stream){ .on_bytes = on_log, .arg = l };
        client_stream(s->client, &l->stream, path, NULL);
    }
}

static void logs_turn(struct session *s)
{
    for (int i = 0; i < 2; i++) {
        struct log_stream *l = &s->logs[i];
        if (!l->open || !l->stream.ended)
            continue;
        l->open = false;
        if (l->line.size)
            top_log_add(&s->top, buf_bytes(&l->line));
        buf_fini(&l->line);
        if (l->stream.err.code) {
            autobuf struct buf line = BUF_INIT;
            error_line(&line, &l->stream.err);
            snprintf(s->top.message, sizeof s->top.message, "%s", line.data);
        }
        s->top.log.ended = !s->logs[0].open && !s->logs[1].open;
    }
}

/* --- keys --- */

static void say_here(struct top *t, const struct err *err)
{
    autobuf struct buf line = BUF_INIT;
    error_line(&line, err);
    snprintf(t->message, sizeof t->message, "%s", line.data);
}

static void cancel_now(struct session *s)
{
    struct err err;
    autojson json_t *answer = NULL;
    char path[64];
    snprintf(path, sizeof path, "/v1/jobs/%lld/cancel", (long long)s->asked_job);
    if (client_json(s->client, "POST", path, bytes_str("{\"reason\":\"rota top\"}"), &answer, &err) < 0)
        say_here(&s->top, &err);
    else
        snprintf(s->top.message, sizeof s->top.message, "job %lld: cancelled", (long long)s->asked_job);
    s->dirty = true;
    s->round_ended_ms = 0;
}

static void ask_cancel(struct session *s)
{
    static char question[200];
    const json_t *job = top_job(&s->top);
    if (!job)
        return;
    s->asked_job = json_int(job, "id", 0);
    if (state_ended(json_text(job, "state", ""))) {
        snprintf(s->top.message, sizeof s->top.message, "job %lld has ended", (long long)s->asked_job);
        return;
    }
    snprintf(question, sizeof question, "cancel job %lld (%.60s)? y or n: ", (long long)s->asked_job,
             json_text(job, "name", ""));
    s->top.prompt = question;
    s->top.typed[0] = '\0';
    s->confirmed = cancel_now;
}

static void why(struct session *s)
{
    const json_t *job = top_job(&s->top);
    struct err err;
    autojson json_t *answer = NULL;
    char path[64];
    if (!job)
        return;
    snprintf(path, sizeof path, "/v1/jobs/%lld/why", (long long)json_int(job, "id", 0));
    if (client_json(s->client, "GET", path, bytes_of(NULL, 0), &answer, &err) < 0)
        say_here(&s->top, &err);
    else
        snprintf(s->top.message, sizeof s->top.message, "job %lld: %s", (long long)json_int(job, "id", 0),
                 json_text(answer, "text", "?"));
}

static void next_state(struct top *t)
{
    static const char *const states[] = { NULL,         "running", "queued",    "held",     "blocked",
                                          "retry_wait", "failed",  "succeeded", "cancelled" };
    const size_t count = sizeof states / sizeof *states;
    size_t i = 0;
    while (i < count && states[i] != t->state)
        i++;
    t->state = states[(i + 1) % count];
}

static void turn_to(struct session *s, enum top_page page)
{
    log_close(s);
    s->top.page = page;
    s->top.chosen = s->top.scrolled = 0;
    top_arrange(&s->top);
    s->dirty = true;
    s->round_ended_ms = 0;
}

static void ask_text(struct top *t, const char *prompt, const char *now)
{
    t->prompt = prompt;
    snprintf(t->typed, sizeof t->typed, "%s", now);
}

static const char ask_name[] = "name has (empty: any): ", ask_user[] = "user (empty: any): ";

/* The line at the bottom takes all keys until Enter, or Esc. */
static void typed_key(struct session *s, int key)
{
    struct top *t = &s->top;
    size_t length = strlen(t->typed);
    bool question = t->prompt != ask_name && t->prompt != ask_user;
    if (question) {
        t->prompt = NULL;
        if (key == 'y' || key == 'Y')
            s->confirmed(s);
        else
            snprintf(t->message, sizeof t->message, "not cancelled");
    } else if (key == 27) {
        t->prompt = NULL;
    } else if (key == '\n' || key == '\r' || key == KEY_ENTER) {
        snprintf(t->prompt == ask_name ? t->name : t->user, sizeof t->name, "%s", t->typed);
        t->prompt = NULL;
        s->dirty = true;
        s->round_ended_ms = 0;
        t->chosen = t->scrolled = 0;
        t->chosen_job = 0;
    } else if ((key == KEY_BACKSPACE || key == 127 || key == 8) && length) {
        do
            t->typed[--length] = '\0';
        while (length && (t->typed[length - 1] & 0xc0) == 0x80);
    } else if (key >= ' ' && key < 256 && key != 127 && length + 1 < sizeof t->typed) {
        t->typed[length] = (char)key;
        t->typed[length + 1] = '\0';
    }
}

static void move_key(struct top *t, int key)
{
    int screen = LINES > 8 ? LINES - 8 : 1, all = 1 << 24;
    switch (key) {
    case KEY_DOWN:
    case 'j':
        top_move(t, 1);
        break;
    case KEY_UP:
    case 'k':
        top_move(t, -1);
        break;
    case KEY_NPAGE:
    case ' ':
        top_move(t, screen);
        break;
    case KEY_PPAGE:
        top_move(t, -screen);
        break;
    case KEY_HOME:
    case 'g':
        top_move(t, -all);
        break;
    case KEY_END:
    case 'G':
        top_move(t, all);
        break;
    default:
        break;
    }
}

static void job_key(struct session *s, int key)
{
    struct top *t = &s->top;
    switch (key) {
    case 'f':
        next_state(t);
        break;
    case '/':
        ask_text(t, ask_name, t->name);
        return;
    case 'u':
        ask_text(t, ask_user, t->user);
        return;
    case 'o':
        t->order = (t->order + 1) % TOP_ORDERS;
        top_arrange(t);
        return;
    case 'r':
        t->reverse = !t->reverse;
        top_arrange(t);
        return;
    case 'l':
    case '\n':
    case '\r':
    case KEY_ENTER:
        log_open(s);
        return;
    case 'w':
        why(s);
        return;
    case 'c':
        ask_cancel(s);
        return;
    default:
        move_key(t, key);
        return;
    }
    t->chosen = t->scrolled = 0;
    t->chosen_job = 0;
    s->dirty = true;
    s->round_ended_ms = 0;
}

static void on_key(struct session *s, int key)
{
    struct top *t = &s->top;
    t->message[0] = '\0';
    if (key == KEY_RESIZE || key == 12) {
        clear();
        return;
    }
    if (t->prompt) {
        typed_key(s, key);
        return;
    }
    bool back = key == 'q' || key == 'Q' || key == 27;
    if (t->page == TOP_LOG && (back || key == KEY_LEFT))
        turn_to(s, TOP_JOBS);
    else if (back && key != 27)
        s->quit = true;
    else if (t->page == TOP_LOG)
        move_key(t, key);
    else if (key == '\t')
        turn_to(s, (t->page + 1) % TOP_LOG);
    else if (key >= '1' && key <= '3')
        turn_to(s, (enum top_page)(key - '1'));
    else if (t->page == TOP_JOBS)
        job_key(s, key);
    else
        move_key(t, key);
}

/* --- life --- */

static void run(struct session *s)
{
    while (!s->quit) {
        int64_t now_ms = clock_now_ms();
        bool under_way = round_turn(s, now_ms);
        events_turn(s, now_ms);
        logs_turn(s);
        if (!under_way && now_ms >= round_due_ms(s))
            round_begin(s, now_ms);
        int key;
        while ((key = getch()) != ERR) {
            on_key(s, key);
            s->drawn_ms = 0;
        }
        if (s->top.page == TOP_LOG || now_ms - s->drawn_ms >= DRAW_MS) {
            top_draw(&s->top, client_url(s->client), now_ms, clock_wall_ms());
            s->drawn_ms = now_ms;
        }
        client_turn_or(s->client, STDIN_FILENO, 200);
    }
}

/* Names may have any letters; a terminal without a locale gets them as UTF-8, which is what terminals take today. */
static void set_locale(void)
{
    setlocale(LC_CTYPE, "");
    if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        setlocale(LC_CTYPE, "C.UTF-8");
}

static int run_top(const struct args *args)
{
    int code = 0;
    if (!term_stdout() || !isatty(STDIN_FILENO)) {
        say("rota top needs a terminal; rota ls, rota nodes and rota stats print the same");
        return 2;
    }
    autoclient struct client *c = verb_client(args, &code);
    if (!c)
        return code;
    struct session *s = mem_zero(1, sizeof *s);
    s->client = c;
    s->top.lost_since_ms = -1;
    s->top.ended_per_s = -1;
    set_locale();
    set_escdelay(50);
    if (!newterm(NULL, stdout, stdin)) {
        const char *term = getenv("TERM");
        say("TERM: this terminal (%s) is not known here; set TERM to xterm or vt100", term ? term : "not set");
        free(s);
        return 2;
    }
    top_colours();
    cbreak();
    noecho();
    nonl();
    keypad(stdscr, TRUE);
    nodelay(stdscr, TRUE);
    curs_set(0);
    run(s);
    endwin();
    log_close(s);
    for (int i = 0; i < FETCHES; i++) {
        client_stream_stop(c, &s->fetches[i].stream);
        buf_fini(&s->fetches[i].body);
    }
    client_stream_stop(c, &s->events);
    sse_fini(&s->sse);
    top_fini(&s->top);
    free(s);
    return 0;
}

const struct command command_top = {
    .name = "top",
    .group = "Cluster",
    .operands = "",
    .operands_min = 0,
    .operands_max = 0,
    .flags = COMMAND_CLIENT,
    .summary = "watch nodes, queues and jobs live on a terminal",
    .text = "Three pages: jobs (with the nodes above), nodes, queues; Tab goes round. Arrows choose a job; l opens its "
            "output, w says why it "
            "waits, c cancels it after a question. f goes through the states, / asks for a part of the name, u for a "
            "user, o chooses the order, r turns it "
            "round, q ends.\n\nThe newest jobs that match are shown, a few screens of them: rota ls lists all.",
    .examples = "rota top",
    .run = run_top,
};
