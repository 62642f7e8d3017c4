/* Unix stream sockets: one machine, one user.
 *
 * The file mode, SO_PEERCRED and the key of bus_key.h decide who may speak. After connecting the master says hello, the
 * worker answers with its hello and proof, the master with its proof; from then on each frame (bus_frame.h) is a body.
 *
 * Writes are gathered: send() appends to the peer's queue, and a timer of delay 0 writes out all queues once per turn
 * of the loop. Reads take at most one buffer per peer and turn, so no peer keeps others waiting. Peers are freed by
 * that timer alone, never inside a callback of the user's; a bus that is closed in a callback is freed when the
 * callback has returned. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/check.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/prng.h"
#include "bus/bus_frame.h"
#include "bus/bus_impl.h"
#include "bus/bus_key.h"
#include "io/clock.h"
#include "io/loop.h"
#include "obs/log.h"

#define PEERS_MAX 4096u
#define PEERS_PROVING_MAX 1024u
#define PROVE_MS 5000 /* from connecting to proven */
#define PROVE_FRAME_MAX 256u
#define SCRATCH_BYTES (256u * 1024)
#define CHUNK_BYTES (64u * 1024)
#define CHUNKS_KEPT 64u
#define WRITE_VECTORS 32
#define WRITE_ROUNDS 16 /* writes to one peer per turn */
#define ACCEPTS_PER_TURN 64
#define BACKLOG 1024
#define PAUSE_MS 100 /* before accepting again when the system has run out of something */
#define RETRY_MS_MIN 100
#define RETRY_MS_MAX 5000
#define SETTLED_MS 2000 /* a link that held this long was good: the next retry is quick again */
#define PATH_BYTES_MAX (sizeof((struct sockaddr_un *)0)->sun_path - 1)

struct chunk {
    struct chunk *next;
    size_t from, to; /* bytes in use */
    size_t frames;   /* that begin in it */
    char data[CHUNK_BYTES];
};

enum peer_state {
    PEER_PROVING,
    PEER_UP,
    PEER_LEAVING /* the work timer closes it and tells */
};

struct sock_bus;
struct peer {
    struct sock_bus *bus;
    uint64_t session;
    enum peer_state state;
    bool was_up;
    bool proof_due; /* worker: it has proven itself and waits for the master's proof */
    int fd;
    struct loop_fd *watch;
    bool write_blocked;
    struct loop_timer *deadline;
    int64_t since_ms;
    struct bus_hello hello, theirs;
    struct frame_reader in;
    struct chunk *first, *last;
    size_t queued;
    struct list_node todo; /* in bus->todo: has something to write, or leaves */
};

struct sock_bus {
    struct bus bus; /* first: struct bus * is converted back */
    struct loop *loop;
    struct bus_events events;
    enum bus_role role;
    char *path, *name;
    uint8_t cluster[16];
    struct bus_key key;
    struct prng prng;

    struct peer *peers[PEERS_MAX]; /* the worker has one, at 0 */
    size_t peers_count, proving_count, slot_hint;
    uint64_t serial; /* makes session numbers that are never used again */
    struct list_node todo;
    struct loop_timer *work;
    bool work_set;
    struct chunk *spare_chunks;
    size_t spare_chunks_count;
    uint8_t *scratch;

    int listener, spare_fd;
    dev_t device; /* of the socket file that is ours */
    ino_t inode;
    struct loop_fd *listen_watch;
    struct loop_timer *again; /* master: accept again; worker: connect again */
    unsigned attempts;
    int64_t logged_ms;
    char told[320]; /* worker: the last reason for not being connected, said once */

    uint64_t delivery;
    struct bus_stats stats;
    unsigned depth; /* callbacks of ours that are on the stack */
    bool closed;
};

static void bus_destroy(struct sock_bus *b);

static void enter(struct sock_bus *b)
{
    b->depth++;
}

static void leave(struct sock_bus *b)
{
    check(b->depth > 0);
    if (--b->depth == 0 && b->closed)
        bus_destroy(b);
}

static const struct bus_ops sock_ops;

static struct sock_bus *sock_of(const struct bus *bus)
{
    check(bus && bus->ops == &sock_ops);
    return (struct sock_bus *)(uintptr_t)bus;
}

static void work_soon(struct sock_bus *b)
{
    if (!b->work_set)
        loop_timer_set(b->work, 0);
    b->work_set = true;
}

static void todo_add(struct peer *p)
{
    if (!list_linked(&p->todo))
        list_append(&p->bus->todo, &p->todo);
    work_soon(p->bus);
}

/* Worker: why there is no link, said once and not at every try. */
static void tell(struct sock_bus *b, const char *why)
{
    if (strncmp(b->told, why, sizeof b->told - 1) == 0)
        return;
    snprintf(b->told, sizeof b->told, "%s", why);
    log_info("bus: no master yet, trying on: %s", why);
}

/* The master says it at most once a second: whoever can connect can be refused as often as it likes. */
static void refuse(struct sock_bus *b, const char *why)
{
    int64_t now_ms = clock_now_ms();
    b->stats.refused++;
    if (b->role == BUS_ROLE_WORKER) {
        tell(b, why);
        return;
    }
    if (b->logged_ms && now_ms - b->logged_ms < 1000)
        return;
    b->logged_ms = now_ms;
    log_warn("bus: closed a peer: %s refused=%llu", why, (unsigned long long)b->stats.refused);
}

/* --- the queue of what is to be written --- */

static struct chunk *chunk_new(struct sock_bus *b)
{
    struct chunk *c = b->spare_chunks;
    if (c) {
        b->spare_chunks = c->next;
        b->spare_chunks_count--;
    } else {
        c = mem_alloc(sizeof *c);
    }
    c->next = NULL;
    c->from = c->to = c->frames = 0;
    return c;
}

static void chunk_free(struct sock_bus *b, struct chunk *c)
{
    if (b->spare_chunks_count >= CHUNKS_KEPT) {
        free(c);
        return;
    }
    c->next = b->spare_chunks;
    b->spare_chunks = c;
    b->spare_chunks_count++;
}

static void queue_clear(struct peer *p)
{
    while (p->first) {
        struct chunk *c = p->first;
        p->first = c->next;
        p->bus->stats.dropped += c->frames;
        chunk_free(p->bus, c);
    }
    p->last = NULL;
    p->queued = 0;
}

static void queue_add(struct peer *p, const void *data, size_t size)
{
    const char *from = data;
    p->queued += size;
    while (size) {
        if (!p->last || p->last->to == CHUNK_BYTES) {
            struct chunk *c = chunk_new(p->bus);
            if (p->last)
                p->last->next = c;
            else
                p->first = c;
            p->last = c;
        }
        size_t room = CHUNK_BYTES - p->last->to, n = size < room ? size : room;
        memcpy(p->last->data + p->last->to, from, n);
        p->last->to += n;
        from += n;
        size -= n;
    }
}

static void queue_frame(struct peer *p, struct bytes body)
{
    uint8_t head[FRAME_HEAD_BYTES];
    frame_head(head, body.size);
    queue_add(p, head, sizeof head);
    p->last->frames++;
    if (body.size)
        queue_add(p, body.data, body.size);
    todo_add(p);
}

static void queue_drop(struct peer *p, size_t size)
{
    p->queued -= size;
    while (size) {
        struct chunk *c = p->first;
        size_t have = c->to - c->from;
        if (size < have) {
            c->from += size;
            return;
        }
        size -= have;
        p->first = c->next;
        if (!p->first)
            p->last = NULL;
        chunk_free(p->bus, c);
    }
}

static ssize_t queue_write(struct peer *p)
{
    struct iovec vectors[WRITE_VECTORS];
    int count = 0;
    for (struct chunk *c = p->first; c && count < WRITE_VECTORS; c = c->next)
        vectors[count++] = (struct iovec){ c->data + c->from, c->to - c->from };
    struct msghdr out = { .msg_iov = vectors, .msg_iovlen = (size_t)count };
    return sendmsg(p->fd, &out, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void watch_update(struct peer *p)
{
    loop_fd_set(p->watch, p->state == PEER_LEAVING ? 0 : LOOP_READ | (p->write_blocked ? LOOP_WRITE : 0));
}

/* Writes what the socket takes; what is left waits until it can be written. */
static void queue_flush(struct peer *p)
{
    bool blocked = false;
    for (int round = 0; p->first && !blocked && round < WRITE_ROUNDS; round++) {
        ssize_t written = queue_write(p);
        if (written >= 0) {
            queue_drop(p, (size_t)written);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS || errno == ENOMEM) {
            blocked = true;
        } else if (errno != EINTR) {
            /* The peer is gone, but what it wrote before may still wait to be read: end the stream, read on to its end.
             */
            queue_clear(p);
            shutdown(p->fd, SHUT_RDWR);
        }
    }
    p->write_blocked = p->first != NULL;
    watch_update(p);
}

/* --- the life of a peer --- */

static struct peer *peer_find(struct sock_bus *b, uint64_t session)
{
    struct peer *p = b->peers[b->role == BUS_ROLE_WORKER ? 0 : session % PEERS_MAX];
    return p && p->session == session ? p : NULL;
}

static void peer_leave(struct peer *p)
{
    if (p->state == PEER_LEAVING)
        return;
    if (p->state == PEER_PROVING)
        p->bus->proving_count--;
    p->state = PEER_LEAVING;
    watch_update(p);
    todo_add(p);
}

static void deadline_passed(void *arg)
{
    struct peer *p = arg;
    struct sock_bus *b = p->bus;
    enter(b);
    if (p->state == PEER_PROVING) {
        refuse(b, "it did not say who it is in time");
        peer_leave(p);
    }
    leave(b);
}

static void peer_ready(void *arg, int fd, int events);

static struct peer *peer_new(struct sock_bus *b, size_t slot, uint64_t session, int fd)
{
    struct peer *p = mem_zero(1, sizeof *p);
    p->bus = b;
    p->session = session;
    p->state = PEER_PROVING;
    p->fd = fd;
    list_init(&p->todo);
    p->since_ms = clock_now_ms();
    p->watch = loop_fd_add(b->loop, fd, LOOP_READ, peer_ready, p);
    p->deadline = loop_timer_add(b->loop, deadline_passed, p);
    loop_timer_set(p->deadline, PROVE_MS);
    b->peers[slot] = p;
    b->peers_count++;
    b->proving_count++;
    return p;
}

static void peer_free(struct peer *p)
{
    struct sock_bus *b = p->bus;
    queue_clear(p);
    list_remove(&p->todo);
    loop_fd_remove(p->watch);
    loop_timer_remove(p->deadline);
    close(p->fd);
    frame_reader_fini(&p->in);
    if (p->state == PEER_PROVING)
        b->proving_count--;
    b->peers[b->role == BUS_ROLE_WORKER ? 0 : p->session % PEERS_MAX] = NULL;
    b->peers_count--;
    free(p);
}

static void peer_up(struct peer *p)
{
    struct sock_bus *b = p->bus;
    p->state = PEER_UP;
    p->was_up = true;
    p->since_ms = clock_now_ms();
    b->proving_count--;
    loop_timer_remove(p->deadline);
    p->deadline = NULL;
    if (b->role == BUS_ROLE_WORKER) {
        b->stats.up = true;
        b->stats.reconnects += b->serial++ ? 1 : 0;
        b->told[0] = 0;
    }
    b->events.on_link(b->events.arg, p->session, true);
}

static void send_raw(struct peer *p, const void *data, size_t size)
{
    queue_frame(p, bytes_of(data, size));
    p->last->frames--; /* Not one of the user's. */
}

/* NULL, or why the other end is not let in. */
static const char *prove_to_master(struct peer *p, struct bytes body)
{
    struct sock_bus *b = p->bus;
    if (body.size != sizeof p->theirs + BUS_PROOF_BYTES)
        return "it does not speak rota's bus protocol";
    memcpy(&p->theirs, body.data, sizeof p->theirs);
    p->theirs.name[sizeof p->theirs.name - 1] = 0;
    const char *wrong = bus_hello_wrong(&p->hello, &p->theirs);
    if (wrong)
        return wrong;
    if (!bus_proof_holds(&b->key, BUS_ROLE_WORKER, &p->hello, &p->theirs, body.data + sizeof p->theirs))
        return "it does not know the key";
    uint8_t proof[BUS_PROOF_BYTES];
    bus_prove(&b->key, BUS_ROLE_MASTER, &p->hello, &p->theirs, proof);
    send_raw(p, proof, sizeof proof);
    peer_up(p);
    return NULL;
}

static const char *prove_to_worker(struct peer *p, struct bytes body)
{
    struct sock_bus *b = p->bus;
    if (p->proof_due) {
        if (body.size != BUS_PROOF_BYTES ||
            !bus_proof_holds(&b->key, BUS_ROLE_MASTER, &p->theirs, &p->hello, body.data))
            return "the master does not know the key";
        peer_up(p);
        return NULL;
    }
    if (body.size != sizeof p->theirs)
        return "the master does not speak rota's bus protocol";
    memcpy(&p->theirs, body.data, sizeof p->theirs);
    p->theirs.name[sizeof p->theirs.name - 1] = 0;
    const char *wrong = bus_hello_wrong(&p->hello, &p->theirs);
    if (wrong)
        return wrong;
    uint8_t answer[sizeof p->hello + BUS_PROOF_BYTES];
    memcpy(answer, &p->hello, sizeof p->hello);
    bus_prove(&b->key, BUS_ROLE_WORKER, &p->theirs, &p->hello, answer + sizeof p->hello);
    send_raw(p, answer, sizeof answer);
    p->proof_due = true;
    return NULL;
}

static void peer_frame(struct peer *p, struct bytes body)
{
    struct sock_bus *b = p->bus;
    if (p->state == PEER_UP) {
        b->stats.received++;
        b->stats.bytes_received += body.size;
        b->events.on_message(b->events.arg, p->session, body, ++b->delivery);
        return;
    }
    const char *wrong = b->role == BUS_ROLE_MASTER ? prove_to_master(p, body) : prove_to_worker(p, body);
    if (wrong) {
        refuse(b, wrong);
        peer_leave(p);
    }
}

static void peer_read(struct peer *p)
{
    struct sock_bus *b = p->bus;
    ssize_t got = read(p->fd, b->scratch, SCRATCH_BYTES);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return;
    if (got <= 0) {
        peer_leave(p);
        return;
    }
    const uint8_t *at = b->scratch, *end = at + got;
    while (p->state != PEER_LEAVING && !b->closed) {
        struct bytes body;
        int rc = frame_take(&p->in, &at, end, p->state == PEER_UP ? BUS_BODY_MAX : PROVE_FRAME_MAX, &body);
        if (rc == 0)
            return;
        if (rc > 0) {
            peer_frame(p, body);
            continue;
        }
        refuse(b, p->state == PEER_UP ? "it sent a longer message than is allowed"
                                      : "it does not speak rota's bus protocol");
        peer_leave(p);
    }
}

static void peer_ready(void *arg, int fd, int events)
{
    (void)fd;
    struct peer *p = arg;
    struct sock_bus *b = p->bus;
    enter(b);
    if ((events & LOOP_WRITE) && p->state != PEER_LEAVING)
        queue_flush(p);
    if ((events & LOOP_READ) && p->state != PEER_LEAVING)
        peer_read(p);
    leave(b);
}

static void worker_retry(struct sock_bus *b);

/* Once per turn in which there was something to do. The user may do anything in on_link. */
static void work(void *arg)
{
    struct sock_bus *b = arg;
    enter(b);
    b->work_set = false;
    while (!b->closed && !list_empty(&b->todo)) {
        struct peer *p = list_entry(b->todo.next, struct peer, todo);
        list_remove(&p->todo);
        queue_flush(p);
        if (p->state != PEER_LEAVING)
            continue;
        uint64_t session = p->session;
        bool was_up = p->was_up;
        if (b->role == BUS_ROLE_WORKER) {
            b->stats.up = false;
            if (!was_up && !b->told[0])
                tell(b, "the master closed the connection before it was proven: do both use the same bus.key?");
            if (was_up && clock_now_ms() - p->since_ms >= SETTLED_MS)
                b->attempts = 0;
        }
        peer_free(p);
        if (b->role == BUS_ROLE_WORKER)
            worker_retry(b);
        if (was_up)
            b->events.on_link(b->events.arg, session, false);
    }
    leave(b);
}

/* --- worker: connecting --- */

static void worker_retry(struct sock_bus *b)
{
    int64_t limit_ms = (int64_t)RETRY_MS_MIN << (b->attempts < 6 ? b->attempts : 6);
    b->attempts++;
    loop_timer_set(b->again, prng_between(&b->prng, 1, limit_ms < RETRY_MS_MAX ? limit_ms : RETRY_MS_MAX));
}

static void address_of(const struct sock_bus *b, struct sockaddr_un *out)
{
    *out = (struct sockaddr_un){ .sun_family = AF_UNIX };
    memcpy(out->sun_path, b->path, strlen(b->path) + 1);
}

static bool same_user(int fd)
{
    struct ucred who;
    socklen_t size = sizeof who;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 && (who.uid == geteuid() || who.uid == 0);
}

static int worker_connect(struct sock_bus *b, struct err *err)
{
    int rc = bus_key_load(b->path, &b->key, err);
    if (rc < 0)
        return rc;
    autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un address;
    address_of(b, &address);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return err_errno(err, "%s", b->path);
    if (!same_user(fd))
        return err_set(err, ERR_DENIED, "%s is served by another user", b->path);
    struct peer *p = peer_new(b, 0, BUS_MASTER, fd);
    fd = -1;
    bus_hello_init(&p->hello, BUS_ROLE_WORKER, b->cluster, b->name);
    return 0;
}

static void worker_again(void *arg)
{
    struct sock_bus *b = arg;
    struct err err = { 0 };
    enter(b);
    if (!b->peers[0] && worker_connect(b, &err) < 0) {
        tell(b, err.text);
        worker_retry(b);
    }
    leave(b);
}

/* --- master: accepting --- */

static void refuse_one(struct sock_bus *b)
{
    /* Out of descriptors: without this the connection would stay in the backlog and wake the loop for ever. */
    if (b->spare_fd >= 0)
        close(b->spare_fd);
    int fd = accept4(b->listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        close(fd);
    b->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    refuse(b, "out of file descriptors");
}

static void accept_pause(struct sock_bus *b)
{
    loop_fd_set(b->listen_watch, 0);
    loop_timer_set(b->again, PAUSE_MS);
}

static void master_again(void *arg)
{
    struct sock_bus *b = arg;
    loop_fd_set(b->listen_watch, LOOP_READ);
}

static void accept_peer(struct sock_bus *b, int fd)
{
    const char *wrong = NULL;
    if (!same_user(fd))
        wrong = "it is another user's";
    else if (b->peers_count == PEERS_MAX || b->proving_count >= PEERS_PROVING_MAX)
        wrong = "there are too many";
    if (wrong) {
        refuse(b, wrong);
        close(fd);
        return;
    }
    size_t slot = b->slot_hint;
    while (b->peers[slot])
        slot = (slot + 1) % PEERS_MAX;
    b->slot_hint = (slot + 1) % PEERS_MAX;
    struct peer *p = peer_new(b, slot, ++b->serial * PEERS_MAX + slot, fd);
    bus_hello_init(&p->hello, BUS_ROLE_MASTER, b->cluster, b->name);
    send_raw(p, &p->hello, sizeof p->hello);
}

static void listener_ready(void *arg, int fd, int events)
{
    (void)events;
    struct sock_bus *b = arg;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (peer >= 0) {
            accept_peer(b, peer);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (errno == EMFILE || errno == ENFILE) {
            refuse_one(b);
            accept_pause(b);
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            accept_pause(b);
            return;
        }
    }
}

/* A socket file that nobody listens on is what a master that was killed leaves behind. */
static int stale_remove(struct sock_bus *b, struct err *err)
{
    struct stat st;
    if (lstat(b->path, &st) < 0)
        return errno == ENOENT ? 0 : err_errno(err, "%s", b->path);
    if (!S_ISSOCK(st.st_mode))
        return err_field(err, ERR_CONFLICT, "bus", "name another path, or remove it", "%s is there and is no socket",
                         b->path);
    autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un address;
    address_of(b, &address);
    if (fd < 0)
        return err_errno(err, "socket");
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0 || errno == EAGAIN)
        return err_field(err, ERR_LOCKED, "bus", "stop it, or use another --state directory",
                         "another master listens on %s", b->path);
    if (errno != ECONNREFUSED)
        return err_errno(err, "%s", b->path);
    return unlink(b->path) < 0 && errno != ENOENT ? err_errno(err, "%s", b->path) : 0;
}

static int listen_at(struct sock_bus *b, struct err *err)
{
    b->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un address;
    address_of(b, &address);
    /* The mode of the socket before bind is the mode of the file: it is never wider, not even for a moment. */
    if (b->listener < 0 || fchmod(b->listener, 0600) < 0)
        return err_errno(err, "socket");
    if (bind(b->listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(b->listener, BACKLOG) < 0)
        return err_errno(err, "%s", b->path);
    struct stat st;
    if (lstat(b->path, &st) < 0)
        return err_errno(err, "%s", b->path);
    b->device = st.st_dev;
    b->inode = st.st_ino;
    if (st.st_mode & 077)
        return err_set(err, ERR_DENIED, "%s is open to others", b->path);
    return 0;
}

static int master_open(struct sock_bus *b, struct err *err)
{
    autoclose int key_fd = -1;
    int rc = bus_key_ensure(b->path, &b->key, &key_fd, err);
    if (rc < 0)
        return rc;
    /* Of two masters that start at once the second must not take the first one's socket for a stale one. */
    if (flock(key_fd, LOCK_EX) < 0)
        return err_errno(err, "bus.key");
    rc = stale_remove(b, err);
    if (rc == 0)
        rc = listen_at(b, err);
    if (rc < 0)
        return rc;
    b->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    b->again = loop_timer_add(b->loop, master_again, b);
    b->listen_watch = loop_fd_add(b->loop, b->listener, LOOP_READ, listener_ready, b);
    b->stats.up = true;
    return 0;
}

/* --- the port --- */

static int sock_send(struct bus *bus, uint64_t session, struct bytes body, struct err *err)
{
    struct sock_bus *b = sock_of(bus);
    struct peer *p = peer_find(b, session);
    if (!p || p->state != PEER_UP)
        return err_set(err, ERR_CLOSED,
                       session == BUS_MASTER ? "there is no connection to the master"
                                             : "the worker's connection is gone");
    if (body.size > BUS_BODY_MAX)
        return err_set(err, ERR_TOO_LARGE, "a message of %zu bytes; at most %u are allowed", body.size, BUS_BODY_MAX);
    if (p->queued + FRAME_HEAD_BYTES + body.size > BUS_QUEUE_MAX)
        return err_set(err, ERR_FULL, "the peer does not read: %zu bytes wait for it", p->queued);
    queue_frame(p, body);
    b->stats.sent++;
    b->stats.bytes_sent += body.size;
    return 0;
}

static void sock_ack(struct bus *bus, uint64_t delivery)
{
    (void)sock_of(bus), (void)delivery; /* A stream delivers nothing again. */
}

static void sock_kick(struct bus *bus, uint64_t session)
{
    struct peer *p = peer_find(sock_of(bus), session);
    if (p && p->state == PEER_UP)
        peer_leave(p);
}

static void sock_stats(const struct bus *bus, struct bus_stats *out)
{
    *out = sock_of(bus)->stats;
}

/* Our own file, and not that of a master which took the path over. */
static void socket_unlink(struct sock_bus *b)
{
    struct stat st;
    if (b->inode && lstat(b->path, &st) == 0 && st.st_dev == b->device && st.st_ino == b->inode)
        unlink(b->path);
}

static void bus_destroy(struct sock_bus *b)
{
    for (size_t i = 0; i < PEERS_MAX; i++) {
        if (!b->peers[i])
            continue;
        queue_flush(b->peers[i]);
        peer_free(b->peers[i]);
    }
    socket_unlink(b);
    loop_fd_remove(b->listen_watch);
    loop_timer_remove(b->again);
    loop_timer_remove(b->work);
    if (b->listener >= 0)
        close(b->listener);
    if (b->spare_fd >= 0)
        close(b->spare_fd);
    while (b->spare_chunks) {
        struct chunk *c = b->spare_chunks;
        b->spare_chunks = c->next;
        free(c);
    }
    OPENSSL_cleanse(&b->key, sizeof b->key);
    free(b->scratch);
    free(b->path);
    free(b->name);
    free(b);
}

static void sock_close(struct bus *bus)
{
    struct sock_bus *b = sock_of(bus);
    b->closed = true;
    if (!b->depth)
        bus_destroy(b);
}

static const struct bus_ops sock_ops = {
    .name = "sock", .send = sock_send, .ack = sock_ack, .kick = sock_kick, .stats = sock_stats, .close = sock_close
};

static int path_valid(const char *path, struct err *err)
{
    size_t size = strlen(path);
    if (!size)
        return err_field(err, ERR_INVALID, "bus", "write unix:/path/to/bus.sock", "the URL of the bus names no path");
    if (size > PATH_BYTES_MAX)
        return err_field(err, ERR_TOO_LARGE, "bus", "use a shorter --state directory",
                         "the socket path %.120s is %zu bytes long; the system allows %zu", path, size, PATH_BYTES_MAX);
    return 0;
}

struct bus *bus_sock_open(struct loop *loop, const struct bus_address *address, const char *path,
                          const struct bus_events *events, struct err *err)
{
    if (path_valid(path, err) < 0)
        return NULL;
    struct sock_bus *b = mem_zero(1, sizeof *b);
    b->bus.ops = &sock_ops;
    b->loop = loop;
    b->events = *events;
    b->role = address->role;
    b->path = mem_str(path);
    b->name = mem_str(address->name);
    memcpy(b->cluster, address->cluster, sizeof b->cluster);
    b->listener = b->spare_fd = -1;
    list_init(&b->todo);
    uint64_t seed = 0;
    check(getrandom(&seed, sizeof seed, 0) == sizeof seed);
    prng_seed(&b->prng, seed);
    b->scratch = mem_alloc(SCRATCH_BYTES);
    b->work = loop_timer_add(loop, work, b);
    if (b->role == BUS_ROLE_WORKER) {
        b->again = loop_timer_add(loop, worker_again, b);
        loop_timer_set(b->again, 0);
    } else if (master_open(b, err) < 0) {
        bus_destroy(b);
        return NULL;
    }
    return &b->bus;
}
