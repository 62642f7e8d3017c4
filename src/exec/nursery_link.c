#include "exec/nursery_state.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "obs/log.h"

#define SPAWNS_PER_TURN 8 /* so that ends are seen between the starts of a long packet */
#define SOCKET_BYTES (4 << 20)

void nursery_tell(struct nursery *n, struct attempt *a, unsigned what)
{
    if (!n->greeted)
        return; /* the next worker is told by the list */
    a->tells |= what;
    /* A start is news for people, and so is an end to who knows already that the place is free, and a free place that
     * somebody takes: they go with the next event that is waited for, or after a moment, together. Where nothing runs
     * somebody may wait for the end itself. */
    bool idle = n->busy_count == 0;
    bool lazy = what == TELL_STARTED || (what == TELL_ENDED && n->wants_vacated && a->vacated && !idle) ||
                (what == TELL_VACATED && n->line_count > LINE_DEEP);
    n->urgent |= !lazy;
    if (n->lazy_ms == INT64_MAX)
        n->lazy_ms = n->now_ms + (n->line_count > LINE_DEEP ? LAZY_DEEP_MS : LAZY_MS);
    if (!list_linked(&a->tell))
        list_append(&n->tell, &a->tell);
}

static void worker_drop(struct nursery *n)
{
    if (n->worker < 0)
        return;
    close(n->worker); /* leaves epoll by that; what it asked and was not read is never done */
    n->worker = -1;
    n->greeted = n->wants_vacated = n->writing = n->listed = false;
    n->packet_open = false;
    n->out_size = 0;
    nursery_line_drop(n);
    while (!list_empty(&n->tell)) {
        struct attempt *a = list_entry(n->tell.next, struct attempt, tell);
        a->tells = 0;
        list_remove(&a->tell);
    }
    for (uint32_t i = 0; i < n->slots_used; i++)
        if (n->slots[i].state == SLOT_COOLING)
            nursery_slot_free(n, &n->slots[i]);
}

static void out_event(struct nursery *n, const struct nursery_event *e)
{
    check(n->out_size + NURSERY_EVENT_BYTES_MAX <= sizeof n->out);
    n->out_size += nursery_event_encode(e, n->out + n->out_size);
    n->events_sent++;
}

static void greet(struct nursery *n, const struct nursery_request *r)
{
    n->greeted = true;
    n->wants_vacated = r->wants_vacated;
    n->listed = false;
    n->listing = n->refs.count;
    n->events_sent = 0;
    struct nursery_event e = { .kind = NURSERY_WELCOME };
    e.abilities = (cgroup_can_kill(&n->cgroups) ? NURSERY_CAN_KILL : 0) |
                  (cgroup_can_limit_memory(&n->cgroups) ? NURSERY_CAN_LIMIT_MEMORY : 0) |
                  (cgroup_can_limit(&n->cgroups, CGROUP_CPU) ? NURSERY_CAN_LIMIT_CPUS : 0) |
                  (cgroup_can_limit(&n->cgroups, CGROUP_PIDS) ? NURSERY_CAN_LIMIT_PIDS : 0);
    if (strlen(n->cgroups.path) < sizeof e.text)
        memcpy(e.text, n->cgroups.path, strlen(n->cgroups.path) + 1);
    out_event(n, &e);
    n->urgent = true;
    for (uint32_t i = 0; i < n->refs.cap; i++)
        if (ref_table_used(&n->refs, i))
            nursery_tell(n, &n->attempts[i], TELL_ATTEMPT);
}

static void tell_one(struct nursery *n, struct attempt *a)
{
    unsigned what = a->tells;
    a->tells = 0;
    struct nursery_event e = { .ref = nursery_ref_of(n, a),
                               .started = a->started,
                               .vacated = a->vacated || a->slot == REF_NONE,
                               .slot = a->slot == REF_NONE ? 0 : a->slot,
                               .pid = a->pid,
                               .own_streams = a->own_streams,
                               .begun_ms = a->begun_ms,
                               .output_bytes_max = a->output_bytes_max };
    if (what & TELL_ATTEMPT) {
        e.kind = NURSERY_ATTEMPT;
        e.phase = a->durable ? PHASE_ENDED : PHASE_RUNNING;
        if (a->durable) {
            e.result = a->result;
            memcpy(e.text, a->text, sizeof a->text);
            what &= ~(unsigned)TELL_ENDED;
        }
        what &= ~(unsigned)(TELL_STARTED | (a->vacated ? TELL_VACATED : 0));
        out_event(n, &e);
        n->listing--;
        if (a->vacated)
            nursery_slot_told(n, a);
    }
    if (what & TELL_STARTED) {
        e.kind = NURSERY_STARTED;
        out_event(n, &e);
    }
    if (what & TELL_VACATED) {
        e.kind = NURSERY_VACATED;
        e.result = a->result;
        e.passed_to = a->passed_to;
        out_event(n, &e);
        nursery_slot_told(n, a);
    }
    if (what & TELL_ENDED) {
        e.kind = NURSERY_ENDED;
        e.result = a->result;
        memcpy(e.text, a->text, sizeof a->text);
        out_event(n, &e);
        if (!n->wants_vacated)
            nursery_slot_told(n, a);
    }
}

static void fill_out(struct nursery *n)
{
    while (n->out_size + 5 * NURSERY_EVENT_BYTES_MAX <= sizeof n->out && !list_empty(&n->tell)) {
        struct attempt *a = list_entry(n->tell.next, struct attempt, tell);
        list_remove(&a->tell);
        tell_one(n, a);
    }
    if (n->greeted && !n->listed && n->listing == 0 && n->out_size + NURSERY_EVENT_BYTES_MAX <= sizeof n->out) {
        n->listed = true;
        out_event(n, &(struct nursery_event){ .kind = NURSERY_LISTED });
    }
}

static void worker_epoll(struct nursery *n, bool writing)
{
    if (n->writing == writing)
        return;
    n->writing = writing;
    struct epoll_event ev = { .events = writing ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.fd = n->worker };
    check(epoll_ctl(n->epoll, EPOLL_CTL_MOD, n->worker, &ev) == 0);
}

/* Sends what there is to tell, one packet for all of it if it fits. A worker that does not read is waited for by
 * nobody. */
void nursery_flush(struct nursery *n)
{
    if (!n->urgent && n->now_ms < n->lazy_ms && n->out_size == 0)
        return;
    while (n->greeted) {
        fill_out(n);
        if (n->out_size == 0)
            break;
        ssize_t sent = send(n->worker, n->out, n->out_size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS)) {
            worker_epoll(n, true);
            return;
        }
        if (sent < 0) {
            worker_drop(n);
            return;
        }
        n->out_size = 0;
    }
    n->urgent = false;
    n->lazy_ms = INT64_MAX;
    if (n->worker >= 0)
        worker_epoll(n, false);
}

static void forget(struct nursery *n, struct attempt_ref ref)
{
    struct attempt *a = nursery_attempt_find(n, ref);
    if (!a || !a->durable)
        return;
    struct exit_record r = { .kind = LOG_REMOVED, .ref = ref };
    nursery_log_add(&n->log, &r);
    if (a->tells & TELL_ATTEMPT)
        n->listing--;
    nursery_attempt_remove(n, a);
}

/* False: the worker breaks the rules. */
static bool perform(struct nursery *n, const struct nursery_request *r)
{
    if (!n->greeted && r->verb != NURSERY_HELLO)
        return false;
    switch (r->verb) {
    case NURSERY_HELLO:
        if (n->greeted || r->version != NURSERY_VERSION)
            return false;
        greet(n, r);
        return true;
    case NURSERY_SPAWN:
        return nursery_spawn(n, r);
    case NURSERY_TERM:
    case NURSERY_KILL:
        nursery_signal(n, r->ref, r->verb == NURSERY_KILL);
        return true;
    case NURSERY_REMOVE:
        forget(n, r->ref);
        return true;
    case NURSERY_CALL:
        nursery_line_call(n, r->ref);
        return true;
    case NURSERY_WITHDRAW:
        nursery_line_withdraw(n, r->ref);
        return true;
    case NURSERY_LEASE:
        nursery_lease(n, r->lease_until_ms);
        return true;
    case NURSERY_SHUTDOWN:
        nursery_stop(n);
        return true;
    }
    return false;
}

void nursery_work(struct nursery *n)
{
    struct nursery_request r;
    int more = 0;
    for (int spawns = 0; n->packet_open && spawns < SPAWNS_PER_TURN;) {
        more = nursery_packet_next(&n->packet, &r);
        if (more <= 0)
            n->packet_open = false;
        else if (!perform(n, &r))
            more = -1;
        else
            spawns += (r.verb == NURSERY_SPAWN && !r.in_line) || r.verb == NURSERY_CALL;
        if (more < 0) {
            log_error("the worker sent what is no request; its connection is closed");
            worker_drop(n);
        }
    }
}

void nursery_worker_read(struct nursery *n)
{
    if (n->packet_open)
        return;
    ssize_t size = recv(n->worker, n->in, sizeof n->in, MSG_DONTWAIT | MSG_TRUNC);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (size <= 0 || (size_t)size > sizeof n->in || !nursery_packet_open(&n->packet, n->in, (size_t)size)) {
        worker_drop(n);
        return;
    }
    n->packet_open = true;
    nursery_slots_cooled(n, n->packet.events_seen);
}

void nursery_worker_accept(struct nursery *n)
{
    int fd = accept4(n->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || (peer.uid != geteuid() && peer.uid != 0)) {
        close(fd);
        return;
    }
    int bytes = SOCKET_BYTES;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) < 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    struct epoll_event ev = { .events = EPOLLIN, .data.fd = fd };
    worker_drop(n); /* the newest worker is the one that lives */
    if (epoll_ctl(n->epoll, EPOLL_CTL_ADD, fd, &ev) < 0) {
        close(fd);
        return;
    }
    n->worker = fd;
}
