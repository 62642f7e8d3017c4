/* A hostile broker: what it says is cut at every byte, and changed at random, and nothing of ours may mind. Also the
 * URLs.
 *
 * The false broker does not listen to what is said to it: it writes a whole conversation at once, as a real one would
 * have answered. ROTA_HOSTILE_ROUNDS and ROTA_SEED say how many random changes, and which. */
#include "bus/rabbit_line.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/prng.h"
#include "io/clock.h"
#include "io/loop.h"

/* --- a conversation --- */

static void put_u(struct buf *b, uint64_t value, int bytes)
{
    while (bytes--)
        buf_char(b, (char)(value >> (8 * bytes)));
}

static void put_short(struct buf *b, const char *text)
{
    put_u(b, strlen(text), 1);
    buf_str(b, text);
}

static void put_long(struct buf *b, const char *text)
{
    put_u(b, strlen(text), 4);
    buf_str(b, text);
}

static void put_frame(struct buf *out, unsigned type, unsigned channel, const struct buf *payload)
{
    put_u(out, type, 1);
    put_u(out, channel, 2);
    put_u(out, payload->size, 4);
    buf_add(out, payload->data, payload->size);
    put_u(out, 0xce, 1);
}

static void put_method(struct buf *out, unsigned channel, uint32_t id, const struct buf *arguments)
{
    autobuf struct buf payload = BUF_INIT;
    put_u(&payload, id, 4);
    if (arguments)
        buf_add(&payload, arguments->data, arguments->size);
    put_frame(out, AMQP_FRAME_METHOD, channel, &payload);
}

static void put_greeting(struct buf *out)
{
    autobuf struct buf start = BUF_INIT, table = BUF_INIT, tune = BUF_INIT, short_0 = BUF_INIT;
    put_short(&table, "product");
    buf_char(&table, 'S');
    put_long(&table, "RabbitMQ");
    put_short(&table, "version");
    buf_char(&table, 'S');
    put_long(&table, "3.10.8");
    put_u(&start, 9, 2);
    put_u(&start, table.size, 4);
    buf_add(&start, table.data, table.size);
    put_long(&start, "PLAIN AMQPLAIN");
    put_long(&start, "en_US");
    put_method(out, 0, AMQP_CONNECTION_START_METHOD, &start);
    put_u(&tune, 2047, 2);
    put_u(&tune, 131072, 4);
    put_u(&tune, 60, 2);
    put_method(out, 0, AMQP_CONNECTION_TUNE_METHOD, &tune);
    put_u(&short_0, 0, 1);
    put_method(out, 0, AMQP_CONNECTION_OPEN_OK_METHOD, &short_0);
    autobuf struct buf long_0 = BUF_INIT;
    put_u(&long_0, 0, 4);
    put_method(out, 1, AMQP_CHANNEL_OPEN_OK_METHOD, &long_0);
}

static void put_content(struct buf *out, const char *body)
{
    autobuf struct buf header = BUF_INIT, text = BUF_INIT;
    put_u(&header, AMQP_BASIC_CLASS, 2);
    put_u(&header, 0, 2);
    put_u(&header, strlen(body), 8);
    put_u(&header, AMQP_BASIC_CORRELATION_ID_FLAG | AMQP_BASIC_TYPE_FLAG, 2);
    put_short(&header, "0123456789abcdef");
    put_short(&header, "data");
    put_frame(out, AMQP_FRAME_HEADER, 1, &header);
    buf_str(&text, body);
    if (text.size)
        put_frame(out, AMQP_FRAME_BODY, 1, &text);
}

static void put_publishing(struct buf *out)
{
    autobuf struct buf back = BUF_INIT, reason = BUF_INIT, ack = BUF_INIT;
    put_greeting(out);
    put_method(out, 1, AMQP_CONFIRM_SELECT_OK_METHOD, NULL);
    put_short(&reason, "low on memory");
    put_method(out, 0, AMQP_CONNECTION_BLOCKED_METHOD, &reason);
    put_method(out, 0, AMQP_CONNECTION_UNBLOCKED_METHOD, NULL);
    put_u(&back, 312, 2);
    put_short(&back, "NO_ROUTE");
    put_short(&back, RABBIT_DISPATCH);
    put_short(&back, "key");
    put_method(out, 1, AMQP_BASIC_RETURN_METHOD, &back);
    put_content(out, "a body that came back");
    put_u(&ack, 1, 8);
    put_u(&ack, 1, 1);
    put_method(out, 1, AMQP_BASIC_ACK_METHOD, &ack); /* of what was never sent */
}

static void put_consuming(struct buf *out)
{
    autobuf struct buf queue = BUF_INIT, tag = BUF_INIT, deliver = BUF_INIT;
    put_greeting(out);
    for (int i = 0; i < 3; i++)
        put_method(out, 1, AMQP_EXCHANGE_DECLARE_OK_METHOD, NULL);
    put_short(&queue, "amq.gen-abcdef");
    put_u(&queue, 0, 8);
    put_method(out, 1, AMQP_QUEUE_DECLARE_OK_METHOD, &queue);
    for (int i = 0; i < 2; i++)
        put_method(out, 1, AMQP_QUEUE_BIND_OK_METHOD, NULL);
    put_method(out, 1, AMQP_BASIC_QOS_OK_METHOD, NULL);
    put_short(&tag, "bus");
    put_method(out, 1, AMQP_BASIC_CONSUME_OK_METHOD, &tag);
    for (uint64_t i = 1; i <= 3; i++) {
        buf_clear(&deliver);
        put_short(&deliver, "bus");
        put_u(&deliver, i, 8);
        put_u(&deliver, 0, 1);
        put_short(&deliver, RABBIT_DISPATCH);
        put_short(&deliver, "key");
        put_method(out, 1, AMQP_BASIC_DELIVER_METHOD, &deliver);
        put_content(out, i == 2 ? "" : "the body of a message");
    }
    autobuf struct buf close_it = BUF_INIT;
    put_u(&close_it, 320, 2);
    put_short(&close_it, "CONNECTION_FORCED - \x1b[31mgo\x07 away");
    put_u(&close_it, 0, 4);
    put_method(out, 0, AMQP_CONNECTION_CLOSE_METHOD, &close_it);
}

/* --- the false broker: says its line to each that comes, and hangs up --- */

static struct {
    int listener, port;
    pthread_t thread;
    pthread_mutex_t mutex;
    struct buf line;
    atomic_bool stop;
} broker = { .mutex = PTHREAD_MUTEX_INITIALIZER };

static void *broker_main(void *arg)
{
    (void)arg;
    int fd;
    while ((fd = accept(broker.listener, NULL, NULL)) >= 0 && !broker.stop) {
        pthread_mutex_lock(&broker.mutex);
        struct buf line = BUF_INIT;
        buf_add(&line, broker.line.data, broker.line.size);
        pthread_mutex_unlock(&broker.mutex);
        size_t sent = 0;
        ssize_t n = 0;
        while (sent < line.size && (n = send(fd, line.data + sent, line.size - sent, MSG_NOSIGNAL)) > 0)
            sent += (size_t)n;
        buf_fini(&line);
        shutdown(fd, SHUT_WR);
        /* Read what was said to it: closing with unread data would throw away what it has written. */
        char rest[4096];
        struct timeval limit = { 2, 0 };
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        while (recv(fd, rest, sizeof rest, 0) > 0)
            ;
        close(fd);
    }
    return NULL;
}

static int broker_start(void **state)
{
    (void)state;
    broker.stop = false;
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof at;
    broker.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(broker.listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(broker.listener, 16), 0);
    assert_int_equal(getsockname(broker.listener, (struct sockaddr *)&at, &size), 0);
    broker.port = ntohs(at.sin_port);
    assert_int_equal(pthread_create(&broker.thread, NULL, broker_main, NULL), 0);
    return 0;
}

static int broker_stop(void **state)
{
    (void)state;
    broker.stop = true;
    shutdown(broker.listener, SHUT_RDWR);
    pthread_join(broker.thread, NULL);
    close(broker.listener);
    buf_fini(&broker.line);
    return 0;
}

static void broker_says(const char *data, size_t size)
{
    pthread_mutex_lock(&broker.mutex);
    buf_clear(&broker.line);
    buf_add(&broker.line, data, size);
    pthread_mutex_unlock(&broker.mutex);
}

/* --- one of our lines --- */

struct listener {
    struct loop *loop;
    struct rabbit_line *line;
    uint64_t generation;
    size_t kinds[RABBIT_UNBLOCKED + 1];
    bool over;
    struct err why;
};

static void on_note(void *arg, struct rabbit_note *n)
{
    struct listener *l = arg;
    assert_int_equal(n->generation, l->generation);
    assert_false(l->over);
    assert_true(n->body.size <= RABBIT_BODY_MAX);
    l->kinds[n->kind]++;
    if (n->kind == RABBIT_DOWN) {
        l->over = true;
        l->why = n->err;
        for (const char *at = n->err.text; *at; at++)
            assert_true((unsigned char)*at >= 0x20 && *at != 0x7f); /* It is going to be logged. */
    }
    rabbit_note_free(n);
}

static void listener_open(struct listener *l, bool consumes)
{
    struct rabbit_target target;
    char place[40];
    snprintf(place, sizeof place, "127.0.0.1:%d", broker.port);
    assert_int_equal(rabbit_target_parse(false, place, &target, NULL), 0);
    *l = (struct listener){ .loop = loop_new() };
    l->line = rabbit_line_new(l->loop, &target, BUS_ROLE_WORKER, consumes ? RABBIT_CONSUMES : RABBIT_PUBLISHES, on_note, l);
}

static void listener_close(struct listener *l)
{
    rabbit_line_close(l->line, 2000);
    loop_free(l->loop);
}

static void listen_to(struct listener *l, const char *data, size_t size)
{
    broker_says(data, size);
    l->over = false;
    rabbit_line_connect(l->line, ++l->generation, 0, "m-test");
    int64_t until_ms = clock_now_ms() + 60000;
    while (!l->over && clock_now_ms() < until_ms)
        loop_turn(l->loop, 100);
    assert_true(l->over);
    assert_int_not_equal(l->why.code, ERR_OK); /* It never ends well here, and says why. */
    assert_true(l->why.text[0] != 0);
}

static void conversation(bool consumes, struct buf *out)
{
    if (consumes)
        put_consuming(out);
    else
        put_publishing(out);
}

static void test_whole(void **state)
{
    (void)state;
    for (int consumes = 0; consumes < 2; consumes++) {
        autobuf struct buf says = BUF_INIT;
        struct listener l;
        conversation(consumes, &says);
        listener_open(&l, consumes);
        listen_to(&l, says.data, says.size);
        assert_int_equal(l.kinds[RABBIT_UP], 1);
        assert_int_equal(l.kinds[RABBIT_MESSAGE], consumes ? 3 : 0);
        assert_int_equal(l.kinds[RABBIT_RETURNED], consumes ? 0 : 1);
        assert_int_equal(l.kinds[RABBIT_BLOCKED], consumes ? 0 : 1);
        assert_non_null(strstr(l.why.text, consumes ? "go? away" : "never sent"));
        listener_close(&l);
    }
}

static void test_cut_at_every_byte(void **state)
{
    (void)state;
    for (int consumes = 0; consumes < 2; consumes++) {
        autobuf struct buf says = BUF_INIT;
        struct listener l;
        conversation(consumes, &says);
        listener_open(&l, consumes);
        for (size_t size = 0; size < says.size; size++)
            listen_to(&l, says.data, size);
        listener_close(&l);
    }
}

static size_t setting(const char *name, size_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

/* Bytes changed, pieces doubled, left out and put elsewhere; lengths made large. */
static void spoil(struct buf *says, struct prng *prng)
{
    for (int64_t changes = prng_between(prng, 1, 6); changes > 0; changes--) {
        size_t at = prng_below(prng, says->size), size = 1 + prng_below(prng, 12);
        if (at + size > says->size)
            size = says->size - at;
        switch (prng_below(prng, 5)) {
        case 0:
            says->data[at] = (char)prng_u64(prng);
            break;
        case 1:
            says->data[at] = (char)(says->data[at] ^ (1 << prng_below(prng, 8)));
            break;
        case 2:
            memset(says->data + at, prng_chance(prng, 0.5) ? 0xff : 0, size);
            break;
        case 3: {
            char piece[16];
            memcpy(piece, says->data + at, size);
            buf_add(says, piece, size);
            break;
        }
        default:
            memmove(says->data + at, says->data + at + size, says->size - at - size);
            says->size -= size;
            if (!says->size)
                buf_char(says, 'x');
            break;
        }
    }
}

static void test_spoilt(void **state)
{
    (void)state;
    struct prng prng;
    size_t rounds = setting("ROTA_HOSTILE_ROUNDS", 1000), seed = setting("ROTA_SEED", 1);
    prng_seed(&prng, seed);
    for (int consumes = 0; consumes < 2; consumes++) {
        struct listener l;
        listener_open(&l, consumes);
        for (size_t round = 0; round < rounds; round++) {
            autobuf struct buf says = BUF_INIT;
            conversation(consumes, &says);
            spoil(&says, &prng);
            listen_to(&l, says.data, says.size);
        }
        listener_close(&l);
    }
}

/* --- URLs --- */

static void test_urls(void **state)
{
    (void)state;
    struct rabbit_target t;
    assert_int_equal(rabbit_target_parse(false, "localhost", &t, NULL), 0);
    assert_string_equal(t.user, "guest");
    assert_string_equal(t.vhost, "/");
    assert_int_equal(t.hosts[0].port, 5672);
    assert_int_equal(
        rabbit_target_parse(true, "me%40home@a:1,[::1]:2,c/my%2Fhost?password_file=/p%20q&cacert=/ca&heartbeat=7", &t,
                            NULL),
        0);
    assert_string_equal(t.user, "me@home");
    assert_string_equal(t.vhost, "my/host");
    assert_string_equal(t.password_file, "/p q");
    assert_string_equal(t.cacert, "/ca");
    assert_int_equal(t.heartbeat_s, 7);
    assert_int_equal(t.hosts_count, 3);
    assert_string_equal(t.hosts[1].name, "::1");
    assert_int_equal(t.hosts[1].port, 2);
    assert_int_equal(t.hosts[2].port, 5671);

    static const char *const bad[] = {
        "",
        "@host",
        "me:secret@host",
        "host:0",
        "host:65536",
        "host:x",
        "host,",
        "host,host",
        "a,,b",
        "host/%",
        "host/%4",
        "host/%zz",
        "host/%00",
        "[::1",
        "[::1]x",
        "host?nothing",
        "host?heartbeat=",
        "host?heartbeat=0",
        "host?cacert=/x",
        "host?password_file=",
        "a,b,c,d,e,f,g,h,i",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err err = { 0 };
        assert_int_equal(rabbit_target_parse(false, bad[i], &t, &err), -ERR_INVALID);
        assert_string_equal(err.field, "bus");
        assert_true(err.remedy[0] != 0);
        assert_null(strstr(err.text, "secret"));
    }
    assert_int_equal(rabbit_target_parse(true, "host?cert=/only", &t, NULL), -ERR_INVALID);
}

static void test_passwords(void **state)
{
    (void)state;
    struct rabbit_target t;
    char password[RABBIT_PASSWORD_BYTES], path[] = "/tmp/rota-password-XXXXXX";
    struct err err;
    unsetenv("ROTA_AMQP_PASSWORD");
    assert_int_equal(rabbit_target_parse(false, "me@host", &t, NULL), 0);
    assert_int_equal(rabbit_target_password(&t, password, &err), -ERR_DENIED);
    setenv("ROTA_AMQP_PASSWORD", "by hand", 1);
    assert_int_equal(rabbit_target_password(&t, password, &err), 0);
    assert_string_equal(password, "by hand");
    unsetenv("ROTA_AMQP_PASSWORD");

    int fd = mkstemp(path);
    snprintf(t.password_file, sizeof t.password_file, "%s", path);
    assert_int_equal(rabbit_target_password(&t, password, &err), -ERR_DENIED); /* empty */
    assert_int_equal(write(fd, "in a file\nand more\n", 19), 19);
    assert_int_equal(rabbit_target_password(&t, password, &err), 0);
    assert_string_equal(password, "in a file");
    assert_int_equal(fchmod(fd, 0644), 0);
    assert_int_equal(rabbit_target_password(&t, password, &err), -ERR_DENIED);
    assert_non_null(strstr(err.text, "open to others"));
    close(fd);
    unlink(path);
    assert_int_equal(rabbit_target_password(&t, password, &err), -ERR_DENIED); /* not there */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_passwords),
        cmocka_unit_test_setup_teardown(test_whole, broker_start, broker_stop),
        cmocka_unit_test_setup_teardown(test_cut_at_every_byte, broker_start, broker_stop),
        cmocka_unit_test_setup_teardown(test_spoilt, broker_start, broker_stop),
    };
    return cmocka_run_group_tests_name("rabbit_line", tests, NULL, NULL);
}
