#include "master/master.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/parse.h"
#include "io/clock.h"
#include "master/master_int.h"
#include "master/recovery.h"
#include "obs/log.h"
#include "obs/metrics.h"

enum { EXIT_STOPPED = 0, EXIT_CORRUPT = 65, EXIT_UNKNOWN = 74, EXIT_SECOND = 75, EXIT_CONFIG = 78 };

#define STOP_MS 3000          /* how long a stop waits for what is being written */
#define HOUSEKEEPING_MS 1000
#define APPEND_AGAIN_MS 1000
#define FULL_PATIENCE_MS 3000 /* how long answers wait for room on the disk */

void master_config_default(struct master_config *c)
{
    *c = (struct master_config){
        .port = 7682, .ready_fd = -1, .store_reserve_bytes = 64u * 1024 * 1024, .snapshot_records = 200000
    };
    sched_config_default(&c->sched); /* queue_max 0: sched.jobs_max rules */
}

int64_t master_now_ms(struct master *m)
{
    if (!m->now_ms) {
        m->now_ms = clock_now_ms();
        m->wall_ms = clock_wall_ms();
    }
    return m->now_ms;
}

static void new_turn(struct master *m)
{
    arena_reset(&m->turn);
    m->now_ms = 0;
}

struct ride *master_ride(struct master *m)
{
    return &m->rides[m->ride_filling];
}

bool master_crowded(struct master *m)
{
    return gate_pending(m->gate) >= GATE_RECORDS_MAX || master_ride(m)->bytes >= GATE_BYTES_MAX;
}

bool master_full(struct master *m)
{
    return gate_pending(m->gate) >= GATE_REFUSE * GATE_RECORDS_MAX ||
           master_ride(m)->bytes >= GATE_REFUSE * (size_t)GATE_BYTES_MAX;
}

bool master_quiet(struct master *m)
{
    return !gate_in_flight(m->gate) && gate_pending(m->gate) == 0;
}

void master_fail(struct master *m, int exit_code, const struct err *err)
{
    if (m->exit_code >= 0)
        return;
    m->exit_code = exit_code;
    if (err)
        m->failure = *err;
    loop_stop(m->loop);
}

void master_step(struct master *m, struct sched_event *ev, struct sched_result *result)
{
    struct sched_result unused;
    ev->now_ms = master_now_ms(m);
    ev->wall_ms = m->wall_ms;
    if (!result)
        result = &unused;
    *result = (struct sched_result){ 0 };
    m->fx_last = (struct effects){ .wake_at_ms = INT64_MAX };
    sched_step(m->sched, ev, &m->fx_last, result);
    m->fx = &m->fx_last;
    m->wake_at_ms = m->fx_last.wake_at_ms;
    gate_add(m->gate, &m->fx_last);
    if (live_usage_count(m->usage))
        usage_learn(m, &m->fx_last);
    if (m->fx_last.starts_count)
        metrics_starts(m, &m->fx_last);
}

/* --- the store --- */

static void set_low(struct master *m, bool on)
{
    if (m->store_low == on)
        return;
    m->store_low = on;
    if (on)
        log_error(
            "the disk of the store is full or nearly full: nothing new is accepted or started until there is room");
    else
        log_info("the store has room again");
    struct sched_event ev = { .kind = SCHED_STORE_LOW, .flag.on = on };
    master_step(m, &ev, NULL);
}

static void append(struct master *m)
{
    const struct ride *ride = &m->rides[!m->ride_filling];
    struct store_batch batch = {
        .records = m->batch->records, .records_count = m->batch->records_count,
        .jobs = ride->jobs, .jobs_count = ride->jobs_count,
        .tails = ride->tails, .tails_count = ride->tails_count,
        .epoch = m->epoch,
    };
    m->batch_begun_ns = clock_now_ns();
    m->store->ops->append(m->store, &batch);
}

static void perform(struct master *m, const struct gate_batch *batch)
{
    for (size_t i = 0; i < batch->items_count; i++)
        if (batch->items[i].kind == GATE_SEND)
            outbound_add(m->out, &batch->items[i].send);
    outbound_flush(m);
    for (size_t i = 0; i < batch->items_count; i++) {
        const struct gate_item *item = &batch->items[i];
        if (item->kind != GATE_REPLY)
            continue;
        if (item->reply.context == m)
            bus_ack(m->bus, item->reply.value);
        else if (item->reply.context == &m->requests)
            request_answer(m, item->reply.value);
        else
            exchange_send(item->reply.context);
    }
}

static void ride_clear(struct master *m, struct ride *ride)
{
    keys_remove_all(m->keys, &ride->keys);
    arena_reset(&ride->arena);
    ride->jobs_count = ride->tails_count = ride->bytes = 0;
}

static void announce(struct master *m)
{
    const char *address = m->config->address ? m->config->address : "127.0.0.1";
    bool v6 = strchr(address, ':') != NULL;
    log_info("serving url=http://%s%s%s:%u epoch=%" PRIu64 " jobs=%" PRIu64, v6 ? "[" : "", address, v6 ? "]" : "",
             http_server_port(m->http), m->epoch, m->meta.last_seq);
    if (m->config->ready_fd < 0)
        return;
    char line[160];
    int size = snprintf(line, sizeof line, "http://%s%s%s:%u\n", v6 ? "[" : "", address, v6 ? "]" : "",
                        http_server_port(m->http));
    if (write(m->config->ready_fd, line, (size_t)size) != size)
        log_warn("nobody reads the ready line");
    close(m->config->ready_fd);
}

static void committed(struct master *m)
{
    const struct gate_batch *batch = gate_commit(m->gate);
    struct ride *ride = &m->rides[!m->ride_filling];
    metric_observe(M_STORE_COMMIT_SECONDS, (double)(clock_now_ns() - m->batch_begun_ns) / 1e9);
    m->batch = NULL;
    if (m->batch_full)
        log_info("the records that did not fit are written now");
    m->batch_full = false;
    m->committed_seq = batch->records[batch->records_count - 1].seq;
    ride_clear(m, ride);
    if (!m->ready) {
        m->ready = true;
        metric_set(M_LEADER, 1);
        announce(m);
        snapshots_run(m);
    }
    perform(m, batch);
    metrics_count(m, batch);
    for (size_t i = 0; i < batch->records_count; i++)
        records_learn(m, &batch->records[i]);
    events_publish(m, batch);
    master_told(m, batch);
    logs_committed(m, batch);
    notify_committed(m, batch);
    scans_committed(m, batch);
    submit_resume(m);
}

static void not_fitting(struct master *m, const struct err *err)
{
    if (!m->batch_full)
        log_error("records do not fit on the disk: %s", err ? err->text : "full");
    if (!m->batch_full)
        m->batch_full_since_ms = master_now_ms(m);
    m->batch_full = true;
    bool more = m->store->ops->use_reserve(m->store);
    m->append_again_at_ms = master_now_ms(m) + (more ? 0 : APPEND_AGAIN_MS);
    set_low(m, true);
}

static void on_commit(void *arg, enum store_outcome outcome, const struct err *err)
{
    struct master *m = arg;
    struct err failure = { .code = ERR_IO };
    if (err)
        failure = *err;
    switch (outcome) {
    case STORE_COMMITTED:
        committed(m);
        return;
    case STORE_FULL:
        not_fitting(m, err);
        return;
    case STORE_STALE:
        master_fail(m, EXIT_SECOND, &failure);
        return;
    case STORE_UNKNOWN:
        err_wrap(&failure, "it is not known whether the last records are on disk; start again to find out");
        master_fail(m, EXIT_UNKNOWN, &failure);
        return;
    }
    check_unreachable();
}

/* Closes what has gathered and gives it to the store. A batch without records is durable as it is. */
static void flush(struct master *m)
{
    const struct gate_batch *batch;
    int64_t now_ms = clock_now_ms(), wait_ms = gate_pace(m->gate, now_ms);
    m->flush_at_ms = wait_ms ? now_ms + wait_ms : INT64_MAX;
    if (wait_ms)
        return;
    while (m->exit_code < 0 && (batch = gate_seal(m->gate))) {
        if (batch->records_count == 0) {
            check(master_ride(m)->jobs_count == 0 && master_ride(m)->tails_count == 0);
            perform(m, gate_commit(m->gate));
            continue;
        }
        m->ride_filling = !m->ride_filling;
        m->batch = batch;
        append(m);
    }
}

/* --- the loop --- */

static void housekeeping(struct master *m)
{
    int64_t now_ms = master_now_ms(m);
    if (m->batch_full && m->batch && m->append_again_at_ms <= now_ms) {
        m->append_again_at_ms = INT64_MAX;
        append(m);
    }
    if (now_ms < m->housekeeping_at_ms)
        return;
    m->housekeeping_at_ms = now_ms + HOUSEKEEPING_MS;
    snapshots_run(m);
    sessions_save(m, false);
    if (m->batch_full && now_ms - m->batch_full_since_ms >= FULL_PATIENCE_MS)
        exchanges_tell_unknown(m);
    struct store_stats stats = { 0 };
    m->store->ops->stats(m->store, &stats);
    if (m->store_low && !m->batch_full && m->store->ops->refill_reserve(m->store) && !stats.low)
        set_low(m, false);
    else if (stats.low)
        set_low(m, true);
    sse_tell_health(m);
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t turn_timeout_ms(struct master *m, bool more)
{
    if (more)
        return 0;
    int64_t due_ms = earlier(m->wake_at_ms, m->housekeeping_at_ms);
    due_ms = earlier(due_ms, m->flush_at_ms);
    due_ms = earlier(due_ms, scans_due_ms(m));
    due_ms = earlier(due_ms, logs_due_ms(m));
    due_ms = earlier(due_ms, notify_due_ms(m));
    due_ms = earlier(due_ms, crons_due_ms(m));
    due_ms = earlier(due_ms, earlier(m->heartbeat_at_ms, m->feed_due_ms));
    if (m->batch_full)
        due_ms = earlier(due_ms, m->append_again_at_ms);
    list_each(node, &m->delayed)
        due_ms = earlier(due_ms, list_entry(node, struct exchange, delayed)->delayed_until_ms);
    int64_t left_ms = due_ms - clock_now_ms();
    return left_ms > 0 ? earlier(left_ms, HOUSEKEEPING_MS) : 0;
}

static void run(struct master *m)
{
    bool more = false;
    int64_t stop_at_ms = INT64_MAX;
    while (m->exit_code < 0) {
        new_turn(m);
        loop_turn(m->loop, turn_timeout_ms(m, more));
        if (m->exit_code >= 0)
            break;
        int64_t begun_ns = clock_now_ns();
        housekeeping(m);
        master_delayed_run(m);
        logs_run(m);
        notify_run(m);
        crons_run(m);
        more = sse_run(m);
        more |= scans_run(m);
        if (m->wake_at_ms <= master_now_ms(m)) {
            int64_t cycle_ns = clock_now_ns();
            struct sched_event tick = { .kind = SCHED_TICK };
            master_step(m, &tick, NULL);
            metric_observe(M_SCHEDULER_CYCLE_SECONDS, (double)(clock_now_ns() - cycle_ns) / 1e9);
        }
        flush(m);
        metric_observe(M_LOOP_DELAY_SECONDS, (double)(clock_now_ns() - begun_ns) / 1e9);
        if (m->stopping) {
            if (stop_at_ms == INT64_MAX)
                stop_at_ms = master_now_ms(m) + STOP_MS;
            if (master_quiet(m) || master_now_ms(m) >= stop_at_ms)
                m->exit_code = EXIT_STOPPED;
        }
    }
}

static void on_signal(void *arg, int signo)
{
    struct master *m = arg;
    if (!m->stopping)
        log_info("stopping signal=%d: jobs run on", signo);
    m->stopping = true;
}

/* --- start --- */

static int make_directories(const char *path, struct err *err)
{
    autofree char *copy = mem_str(path);
    for (char *at = copy + 1; *at; at++) {
        if (*at != '/')
            continue;
        *at = 0;
        if (mkdir(copy, 0755) < 0 && errno != EEXIST)
            return err_errno(err, "make the directory %s", copy);
        *at = '/';
    }
    if (mkdir(copy, 0700) < 0 && errno != EEXIST)
        return err_errno(err, "make the state directory %s", copy);
    return 0;
}

static void find_owner(struct master *m)
{
    const struct passwd *pw = getpwuid(geteuid());
    if (pw && pw->pw_name && pw->pw_name[0])
        snprintf(m->owner, sizeof m->owner, "%.64s", pw->pw_name);
    else
        snprintf(m->owner, sizeof m->owner, "uid%u", (unsigned)geteuid());
}

/* Makes the admin's token. It appears under its name whole or not at all. */
static int token_make(const char *path, char token[AUTH_TOKEN_BYTES], struct err *err)
{
    autobuf struct buf temporary = BUF_INIT;
    buf_printf(&temporary, "%s.new", path);
    int rc = auth_token_make(token, err);
    if (rc < 0)
        return rc;
    unlink(temporary.data);
    autoclose int fd = open(temporary.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_errno(err, "make the token file %s", temporary.data);
    size_t size = strlen(token);
    if (write(fd, token, size) != (ssize_t)size || write(fd, "\n", 1) != 1 || fsync(fd) < 0)
        return err_errno(err, "write the token file %s", temporary.data);
    if (rename(temporary.data, path) < 0)
        return err_errno(err, "name the token file %s", path);
    return 0;
}

static int token_load(struct master *m, struct err *err)
{
    autobuf struct buf path = BUF_INIT;
    buf_printf(&path, "%s/token", m->config->state_dir);
    char token[AUTH_TOKEN_BYTES] = "";
    autoclose int fd = open(path.data, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno != ENOENT)
        return err_errno(err, "open the token file %s", path.data);
    if (fd < 0) {
        int rc = token_make(path.data, token, err);
        return rc < 0 ? rc : auth_add(m->auth, token, m->owner, API_ROLE_ADMIN, err);
    }
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_errno(err, "look at the token file %s", path.data);
    if (!S_ISREG(st.st_mode) || st.st_mode & 077)
        return err_field(err, ERR_INVALID, "token", "chmod 600 it, or remove it and a new one is made at start",
                         "the token file %s can be read by others", path.data);
    ssize_t size = read(fd, token, sizeof token - 1);
    if (size < 0)
        return err_errno(err, "read the token file %s", path.data);
    token[strcspn(token, " \t\r\n")] = 0;
    int rc = auth_add(m->auth, token, m->owner, API_ROLE_ADMIN, err);
    return rc < 0 ? err_wrap(err, "token file %s", path.data) : 0;
}

static int open_exit_code(const struct err *err)
{
    switch (err->code) {
    case ERR_CORRUPT:
        return EXIT_CORRUPT;
    case ERR_LOCKED:
    case ERR_STALE:
        return EXIT_SECOND;
    case ERR_INVALID:
        return EXIT_CONFIG;
    default:
        return EXIT_UNKNOWN;
    }
}

static void tell_loss(struct master *m)
{
    autobuf struct buf when = BUF_INIT;
    if (m->meta.lost_seq) {
        format_time(&when, m->meta.last_wall_ms);
        log_warn("records %" PRIu64 " to %" PRIu64 " are lost: the store goes on behind record %" PRIu64 " of %s",
                 m->meta.last_seq + 1, m->meta.lost_seq, m->meta.last_seq, m->meta.last_seq ? when.data : "never");
    } else if (m->meta.restored) {
        log_info("the store is a backup that was put in its place; nothing is known to be lost");
    }
    if (m->config->accept_rollback)
        log_warn(
            "rollback accepted: epochs and job ids go on %u higher; attempts that workers hold and the store does not "
            "know are listed, not killed",
            ROLLBACK_JOBS);
}

static int open_store(struct master *m, struct err *err)
{
    struct store_limits limits = { .reserve_bytes = m->config->store_reserve_bytes,
                                   .accept_loss = m->config->accept_rollback };
    struct store_events events = { m, on_commit };
    m->store = store_sqlite_open(m->loop, m->config->state_dir, &limits, &events, err);
    if (!m->store)
        return open_exit_code(err);
    m->store->ops->meta(m->store, &m->meta);
    m->epoch = m->meta.epoch + 1 + (m->config->accept_rollback ? ROLLBACK_EPOCHS : 0);
    m->committed_seq = m->meta.last_seq;
    m->sched_config = m->config->sched;
    memcpy(m->sched_config.token_key, m->meta.token_key, sizeof m->sched_config.token_key);
    if (m->config->queue_max)
        m->sched_config.jobs_max = m->config->queue_max;
    m->sched_config.rollback_jobs = m->config->accept_rollback ? ROLLBACK_JOBS : 0;
    tell_loss(m);
    int64_t begun_ns = clock_now_ns();
    struct recovery r = { .store = m->store, .config = &m->sched_config, .to_seq = m->meta.last_seq };
    m->sched = recovery_run(&r, err);
    if (!m->sched)
        return err->code == ERR_CORRUPT ? EXIT_CORRUPT : open_exit_code(err);
    if (r.refused.code)
        log_warn("the snapshot is not used, the whole journal was read: %s", r.refused.text);
    if (!m->meta.created)
        log_info("store replayed records=%" PRIu64 " snapshot_seq=%" PRIu64 " ms=%" PRId64,
                 m->meta.last_seq - r.snapshot_seq, r.snapshot_seq, (clock_now_ns() - begun_ns) / 1000000);
    snapshots_begin(m, r.snapshot_seq);
    records_remember(m);
    m->gate = gate_new(m->meta.last_seq + 1);
    return -1;
}

static int open_ports(struct master *m, struct err *err)
{
    const struct master_config *c = m->config;
    struct http_limits limits;
    http_limits_default(&limits);
    struct http_events http;
    master_http_events(m, &http);
    m->http =
        http_server_new(m->loop, c->address ? c->address : "127.0.0.1", c->port, c->anywhere, &limits, &http, err);
    if (!m->http)
        return EXIT_CONFIG;
    for (size_t i = 0; c->hosts && c->hosts[i]; i++)
        http_server_allow_host(m->http, c->hosts[i]);
    autobuf struct buf url = BUF_INIT;
    buf_printf(&url, "unix:%s/bus.sock", c->state_dir);
    struct bus_address address = { .role = BUS_ROLE_MASTER,
                                   .url = c->bus_url ? c->bus_url : url.data,
                                   .name = "master" };
    memcpy(address.cluster, m->meta.cluster, sizeof address.cluster);
    struct bus_events bus;
    master_bus_events(m, &bus);
    m->bus = bus_open(m->loop, &address, &bus, err);
    return m->bus ? -1 : EXIT_CONFIG;
}

static void take_lead(struct master *m)
{
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
        seed = (uint64_t)clock_now_ns();
    struct effects fx = { .wake_at_ms = INT64_MAX };
    int64_t now_ms = master_now_ms(m);
    sched_start(m->sched, m->epoch, ROTA_VERSION, seed, now_ms, m->wall_ms, &fx);
    m->wake_at_ms = fx.wake_at_ms;
    gate_add(m->gate, &fx);
    struct bus_stats bus = { .up = true };
    m->bus->ops->stats(m->bus, &bus);
    if (!bus.up)
        master_transport(m, false);
}

/* -1: all is open; else the exit code. */
static int start(struct master *m, struct err *err)
{
    if (make_directories(m->config->state_dir, err) < 0)
        return EXIT_CONFIG;
    int rc = open_store(m, err);
    if (rc >= 0)
        return rc;
    find_owner(m);
    if (token_load(m, err) < 0)
        return EXIT_CONFIG;
    sessions_load(m);
    rc = open_ports(m, err);
    if (rc >= 0)
        return rc;
    metric_set_label(M_BUILD_INFO, ROTA_VERSION, 1);
    events_init(m);
    take_lead(m);
    notify_look(m);
    flush(m);
    return m->exit_code;
}

/* What the gate still holds is not performed: nobody hears of what may not be durable. */
static void forget_gate(struct master *m)
{
    const struct gate_batch *batch = gate_in_flight(m->gate) ? gate_commit(m->gate) : gate_seal(m->gate);
    while (batch) {
        for (size_t i = 0; i < batch->items_count; i++)
            if (batch->items[i].kind == GATE_REPLY && batch->items[i].reply.context != m &&
                batch->items[i].reply.context != &m->requests)
                exchange_drop(batch->items[i].reply.context);
        if (gate_in_flight(m->gate))
            gate_commit(m->gate);
        batch = gate_seal(m->gate);
    }
}

static void stop(struct master *m)
{
    m->stopping = true;
    sessions_save(m, true);
    http_server_free(m->http);
    if (m->gate)
        forget_gate(m);
    scans_free(m);
    backup_end(m);
    whatif_end(m);
    snapshots_end(m);
    notify_free(m->notify);
    crons_free(m->crons);
    bus_close(m->bus);
    requests_free(m);
    if (m->store)
        m->store->ops->close(m->store);
    if (m->sched)
        sched_free(m->sched);
    gate_free(m->gate);
    for (int i = 0; i < 2; i++) {
        arena_fini(&m->rides[i].arena);
        free(m->rides[i].jobs);
        free(m->rides[i].tails);
    }
    keys_free(m->keys);
    spec_cache_free(m->specs);
    auth_free(m->auth);
    free(m->counts.waits);
    sessions_free(m->sessions);
    live_usage_free(m->usage);
    node_reports_free(m->reports);
    buf_fini(&m->lease_url);
    recent_free(m->recent);
    sizing_free(m->sizing);
    buf_fini(&m->pending);
    outbound_free(m->out);
    wire_writer_free(m->wire);
    feed_fini(&m->feed);
    buf_fini(&m->memo.line);
    buf_fini(&m->memo.encoded);
    arena_fini(&m->memo.arena);
    arena_fini(&m->turn);
    arena_fini(&m->submit);
    arena_fini(&m->inbound);
}

int master_run(const struct master_config *config, struct err *err)
{
    struct master *m = mem_zero(1, sizeof *m);
    m->config = config;
    m->exit_code = -1;
    m->wake_at_ms = m->heartbeat_at_ms = m->feed_due_ms = INT64_MAX;
    m->loop = loop_new();
    m->auth = auth_new();
    m->sessions = sessions_new();
    m->usage = live_usage_new();
    m->reports = node_reports_new();
    m->recent = recent_new();
    m->sizing = sizing_new();
    m->keys = keys_new();
    m->notify = notify_new();
    m->crons = crons_new();
    m->specs = spec_cache_new(SPEC_CACHE_BYTES);
    m->wire = wire_writer_new();
    m->out = outbound_new();
    m->started_wall_ms = clock_wall_ms();
    list_init(&m->rides[0].keys);
    list_init(&m->rides[1].keys);
    list_init(&m->requests);
    list_init(&m->scans);
    list_init(&m->blocked);
    list_init(&m->streams);
    list_init(&m->bulks);
    list_init(&m->logs);
    list_init(&m->delayed);
    list_init(&m->waiting);
    list_init(&m->sse);
    feed_init(&m->feed, NULL, NULL);
    signal(SIGPIPE, SIG_IGN);
    metrics_show(METRICS_MASTER);
    struct loop_signal *term = loop_signal_add(m->loop, SIGTERM, on_signal, m);
    struct loop_signal *interrupt = loop_signal_add(m->loop, SIGINT, on_signal, m);

    struct err failure = { 0 };
    int code = start(m, &failure);
    if (code < 0) {
        run(m);
        code = m->exit_code;
        failure = m->failure;
    } else if (code == m->exit_code) {
        failure = m->failure;
    }
    stop(m);
    loop_signal_remove(term);
    loop_signal_remove(interrupt);
    loop_free(m->loop);
    free(m);
    if (code != EXIT_STOPPED && err)
        *err = failure;
    return code;
}
