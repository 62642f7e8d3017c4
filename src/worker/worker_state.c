#include "worker/worker_state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "obs/log.h"
#include "worker/machine.h"

bool cluster_known(const uint8_t cluster[CLUSTER_BYTES])
{
    static const uint8_t none[CLUSTER_BYTES];
    return memcmp(cluster, none, CLUSTER_BYTES) != 0;
}

void cluster_print(const uint8_t cluster[CLUSTER_BYTES], char hex[2 * CLUSTER_BYTES + 1])
{
    for (int i = 0; i < CLUSTER_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", cluster[i]);
}

bool cluster_parse(struct bytes hex, uint8_t cluster[CLUSTER_BYTES])
{
    if (hex.size != 2 * CLUSTER_BYTES)
        return false;
    for (size_t i = 0; i < hex.size; i++) {
        static const char digits[] = "0123456789abcdef";
        const char *digit = memchr(digits, hex.data[i], 16);
        if (!digit)
            return false;
        cluster[i / 2] = (uint8_t)(cluster[i / 2] << 4 | (digit - digits));
    }
    return true;
}

/* --- opening --- */

static int make_directories(const char *path, struct err *err)
{
    autofree char *copy = mem_str(path);
    for (char *slash = strchr(copy + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash)
            *slash = 0;
        if (mkdir(copy, 0700) < 0 && errno != EEXIST)
            return err_errno(err, "create %s", copy);
        if (!slash)
            return 0;
        *slash = '/';
    }
}

static int take_lock(struct worker_state *s, const char *path, struct err *err)
{
    s->lock = openat(s->dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (s->lock < 0)
        return err_errno(err, "open the lock of %s", path);
    struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    if (fcntl(s->lock, F_OFD_SETLK, &whole) == 0)
        return 0;
    if (errno == EAGAIN || errno == EACCES)
        return err_field(err, ERR_LOCKED, "state", "stop it, or give this one another --state directory",
                         "another worker is at work in %s", path);
    return err_errno(err, "lock %s", path);
}

/* Anything but our lock and an unfinished journal says that a worker has lived here. */
static bool was_used(int dir)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d)
        return fd >= 0 && close(fd) == 0;
    bool used = false;
    struct dirent *entry;
    while ((entry = readdir(d)))
        used |= strcmp(entry->d_name, "logs") == 0 || strncmp(entry->d_name, "nursery", 7) == 0 ||
                strncmp(entry->d_name, "journal.damaged", 15) == 0;
    closedir(d);
    return used;
}

static void learn_identity(void *arg, const struct record *r)
{
    struct worker_state *s = arg;
    if (r->kind == EV_W_IDENTITY) {
        s->worker = (struct worker_id){ r->w_identity.worker_high, r->w_identity.worker_low };
        if (r->w_identity.incarnation > s->incarnation)
            s->incarnation = r->w_identity.incarnation;
        snprintf(s->boot_before, sizeof s->boot_before, "%.*s", (int)r->w_identity.boot.size, r->w_identity.boot.data);
        cluster_parse(r->w_identity.cluster, s->cluster);
    } else if (r->kind == EV_W_EPOCH) {
        cluster_parse(r->w_epoch.cluster, s->cluster);
    }
}

static int new_identity(struct worker_state *s, struct err *err)
{
    uint64_t words[2] = { 0, 0 };
    while (!words[0] || !words[1])
        if (getrandom(words, sizeof words, 0) != (ssize_t)sizeof words)
            return err_errno(err, "make an identity");
    s->worker = (struct worker_id){ words[0], words[1] };
    s->incarnation = 1;
    return 0;
}

static int load(struct worker_state *s, const char *path, struct err *err)
{
    struct err why = { 0 };
    if (journal_load(s->dir, &s->file, &why) < 0) {
        if (why.code != ERR_NOT_FOUND) {
            if (err)
                *err = why;
            return err_wrap(err, "%s", path);
        }
        if (was_used(s->dir))
            return err_field(err, ERR_CORRUPT, "state",
                             "put the journal back, or start with an empty directory (its finished attempts are then lost)",
                             "%s has been used by a worker, but its journal is missing", path);
        return new_identity(s, err);
    }
    s->found = true;
    journal_scan(s->file.size ? buf_bytes(&s->file) : bytes_of("", 0), learn_identity, s, &s->scan);
    if (!s->incarnation)
        return err_field(err, ERR_CORRUPT, "state",
                         "restore the journal, or start with an empty directory (its finished attempts are then lost)",
                         "the journal in %s does not tell whose it is (%" PRIu64 " records, %zu bytes)", path,
                         s->scan.records, s->file.size);
    s->incarnation++;
    return 0;
}

int worker_state_open(struct worker_state *s, const char *path, struct err *err)
{
    *s = (struct worker_state){ .dir = -1, .lock = -1 };
    int rc = make_directories(path, err);
    if (rc == 0) {
        s->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        s->path = realpath(path, NULL);
        rc = s->dir < 0 || !s->path ? err_errno(err, "open %s", path) : 0;
    }
    if (rc == 0 && fchmod(s->dir, 0700) < 0)
        rc = err_errno(err, "make %s private", path);
    if (rc == 0)
        rc = take_lock(s, path, err);
    if (rc == 0)
        rc = load(s, path, err);
    if (rc < 0) {
        worker_state_close(s);
        return rc;
    }
    machine_boot_id("", s->boot, sizeof s->boot);
    return 0;
}

void worker_state_close(struct worker_state *s)
{
    buf_fini(&s->file);
    free(s->path);
    s->path = NULL;
    if (s->lock >= 0)
        close(s->lock);
    if (s->dir >= 0)
        close(s->dir);
    s->lock = s->dir = -1;
}

/* --- replay --- */

struct replay {
    struct worker_state *state;
    struct agent *agent;
};

static void replay_record(void *arg, const struct record *r)
{
    struct replay *p = arg;
    struct err why = { 0 };
    if (agent_apply(p->agent, r, &why) == 0)
        return;
    /* One report is enough: behind a hole many records may hang in the air. */
    if (p->state->refused_records++ == 0)
        log_warn("a record of the journal cannot follow those before it: seq=%" PRIu64 " event=%s why=\"%s\"", r->seq,
                 event_name(r->kind), why.text);
}

void worker_state_replay(struct worker_state *s, struct agent *agent)
{
    if (!s->found)
        return;
    struct replay p = { s, agent };
    struct journal_scan again;
    journal_scan(buf_bytes(&s->file), replay_record, &p, &again);
    const struct journal_scan *scan = &s->scan;
    if (scan->damaged)
        log_error("the journal is damaged: %" PRIu64 " bytes unreadable, %" PRIu64 " records missing, %" PRIu64
                  " kept; attempts without evidence are reported as never started",
                  scan->damaged_bytes, scan->missing, scan->records);
    else if (scan->torn_bytes)
        log_warn("the journal ends in %" PRIu64 " torn bytes, cut at %" PRIu64, scan->torn_bytes, scan->end);
    if (s->refused_records)
        log_error("%" PRIu64 " records of the journal were passed over", s->refused_records);
}

/* --- ready for appends --- */

static struct record identity_record(const struct worker_state *s, char hex[2 * CLUSTER_BYTES + 1], int64_t wall_ms)
{
    struct record r = { .kind = EV_W_IDENTITY, .at_wall_ms = wall_ms };
    r.w_identity.worker_high = s->worker.high;
    r.w_identity.worker_low = s->worker.low;
    r.w_identity.incarnation = s->incarnation;
    r.w_identity.boot = bytes_str(s->boot);
    if (cluster_known(s->cluster)) {
        cluster_print(s->cluster, hex);
        r.w_identity.cluster = bytes_of(hex, 2 * CLUSTER_BYTES);
    }
    return r;
}

struct snapshot_to {
    const struct worker_state *state;
    struct journal_snapshot *out;
    char hex[2 * CLUSTER_BYTES + 1];
};

static void snapshot_record(void *arg, const struct record *r)
{
    struct snapshot_to *to = arg;
    if (r->kind == EV_W_IDENTITY)
        return; /* Ours is there already, with the cluster. */
    struct record copy = *r;
    if (r->kind == EV_W_EPOCH && cluster_known(to->state->cluster)) {
        cluster_print(to->state->cluster, to->hex);
        copy.w_epoch.cluster = bytes_of(to->hex, 2 * CLUSTER_BYTES);
    }
    journal_snapshot_add(to->out, &copy);
}

void worker_state_snapshot(const struct worker_state *s, const struct agent *agent, int64_t wall_ms,
                           struct journal_snapshot *out)
{
    struct snapshot_to to = { .state = s, .out = out };
    struct record identity = identity_record(s, to.hex, wall_ms);
    journal_snapshot_add(out, &identity);
    agent_snapshot(agent, snapshot_record, &to);
}

struct journal *worker_state_begin(struct worker_state *s, const struct agent *agent, int64_t wall_ms, uint64_t *next_seq,
                                   uint64_t *snapshot_bytes, struct err *err)
{
    struct journal *j;
    uint64_t seq = s->found ? s->scan.next_seq : 1;
    *snapshot_bytes = 0;
    if (!s->found || s->scan.damaged || s->refused_records || s->scan.end >= JOURNAL_COMPACT_BYTES) {
        struct journal_snapshot snapshot = { .bytes = BUF_INIT };
        worker_state_snapshot(s, agent, wall_ms, &snapshot);
        *snapshot_bytes = snapshot.bytes.size;
        char aside[64] = "";
        if (s->scan.damaged || s->refused_records)
            snprintf(aside, sizeof aside, "journal.damaged-%" PRIu64, s->incarnation);
        j = journal_create(s->dir, &snapshot, seq, aside[0] ? aside : NULL, err);
        if (j && aside[0])
            log_warn("the damaged journal was kept: file=%s", aside);
        journal_snapshot_fini(&snapshot);
    } else {
        j = journal_open(s->dir, &s->scan, err);
        char hex[2 * CLUSTER_BYTES + 1];
        struct record identity = identity_record(s, hex, wall_ms);
        identity.seq = seq;
        if (j && journal_append(j, &identity, 1, err) < 0) {
            journal_close(j);
            j = NULL;
        }
        seq++;
    }
    buf_fini(&s->file);
    *next_seq = seq;
    return j;
}
