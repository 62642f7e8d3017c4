/* A peer of the unix socket that sends anything. The first byte says who it is (a stranger, or a worker that has proven
 * itself) and in what pieces the rest comes. Frames that come out of the pieces are those of the whole. */
#include "../src/bus/bus_sock.c" /* for its peers */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct loop *the_loop;
static struct sock_bus *the_bus;
static char dir[] = "/tmp/rota-fuzz-XXXXXX";
static uint64_t messages, message_bytes;
static int links;

static void on_message(void *arg, uint64_t session, struct bytes body, uint64_t delivery)
{
    (void)arg, (void)session, (void)delivery;
    uint64_t sum = 0;
    for (size_t i = 0; i < body.size; i++)
        sum += (uint8_t)body.data[i];
    messages += 1 + (sum > UINT64_MAX / 2); /* so that every byte is read */
    message_bytes += body.size;
}

static void on_link(void *arg, uint64_t session, bool up)
{
    (void)arg, (void)session;
    links += up ? 1 : -1;
    check(links >= 0 && links <= 1);
}

static void tidy(void)
{
    char path[64];
    bus_close(&the_bus->bus);
    loop_free(the_loop);
    snprintf(path, sizeof path, "%s/bus.key", dir);
    unlink(path);
    rmdir(dir);
}

static void begin(void)
{
    struct bus_events events = { .on_message = on_message, .on_link = on_link };
    struct bus_address address = { .role = BUS_ROLE_MASTER };
    char path[64];
    check(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/bus.sock", dir);
    log_init("fuzz", LOG_ERROR, false);
    the_loop = loop_new();
    struct bus *bus = bus_sock_open(the_loop, &address, path, &events, NULL);
    check(bus);
    the_bus = sock_of(bus);
    atexit(tidy);
}

/* The plain way to count frames: true if the stream is in order. */
static bool reference(const uint8_t *data, size_t size, uint64_t *count, uint64_t *bytes)
{
    *count = *bytes = 0;
    while (size >= 4) {
        uint64_t n = data[0] | (uint64_t)data[1] << 8 | (uint64_t)data[2] << 16 | (uint64_t)data[3] << 24;
        if (n > BUS_BODY_MAX)
            return false;
        if (n > size - 4)
            break;
        *count += 1;
        *bytes += n;
        data += 4 + n;
        size -= 4 + n;
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!the_bus)
        begin();
    if (size < 1 || size > 65536)
        return 0;
    uint8_t how = *data++;
    size--;
    int fds[2];
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    struct peer *p = peer_new(the_bus, 0, ++the_bus->serial * PEERS_MAX, fds[0]);
    bus_hello_init(&p->hello, BUS_ROLE_MASTER, the_bus->cluster, "fuzz");
    bool proven = how & 1;
    if (proven)
        peer_up(p);
    messages = message_bytes = 0;
    uint64_t refused = the_bus->stats.refused;
    size_t piece = how >> 1 ? (size_t)(how >> 1) * (how >> 1) : size + 1;
    for (size_t at = 0; at < size && the_bus->peers[0]; at += piece) {
        size_t n = size - at < piece ? size - at : piece;
        if (send(fds[1], data + at, n, MSG_NOSIGNAL) != (ssize_t)n)
            break; /* closed already */
        loop_turn(the_loop, 0);
    }
    loop_turn(the_loop, 0);
    close(fds[1]);
    while (the_bus->peers[0])
        loop_turn(the_loop, 100);
    uint64_t count, bytes;
    bool fine = reference(data, size, &count, &bytes);
    if (proven) {
        check(messages == count && message_bytes == bytes);
        check(fine == (the_bus->stats.refused == refused));
    } else {
        check(messages == 0); /* Nobody guesses a proof. */
    }
    check(links == 0 && the_bus->peers_count == 0 && the_bus->proving_count == 0);
    return 0;
}
