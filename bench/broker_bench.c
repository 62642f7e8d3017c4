/* broker_bench PORT COUNT: what RabbitMQ itself does here: COUNT persistent messages of 200 bytes into a quorum queue, published
 * with confirms in windows of 1,000, by a client that does nothing else. Prints messages/s. */
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "io/clock.h"

#define WINDOW 1000u

static uint64_t confirmed;

static void take_confirms(amqp_connection_state_t conn, bool wait)
{
    amqp_frame_t frame;
    struct timeval limit = { wait ? 30 : 0, 0 };
    while (amqp_simple_wait_frame_noblock(conn, &frame, &limit) == AMQP_STATUS_OK) {
        check(frame.frame_type == AMQP_FRAME_METHOD && frame.payload.method.id == AMQP_BASIC_ACK_METHOD);
        const amqp_basic_ack_t *ack = frame.payload.method.decoded;
        /* In order here: one queue, one channel. */
        confirmed = ack->delivery_tag > confirmed ? ack->delivery_tag : confirmed;
        amqp_maybe_release_buffers(conn);
        limit = (struct timeval){ 0, 0 };
    }
}

int main(int argc, char **argv)
{
    check(argc == 3);
    int port = atoi(argv[1]);
    uint64_t count = strtoull(argv[2], NULL, 10);
    amqp_connection_state_t conn = amqp_new_connection();
    amqp_socket_t *s = amqp_tcp_socket_new(conn);
    check(amqp_socket_open(s, "127.0.0.1", port) == AMQP_STATUS_OK);
    check(amqp_login(conn, "/", 2, 131072, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest").reply_type == AMQP_RESPONSE_NORMAL);
    amqp_channel_open(conn, 1);
    amqp_table_entry_t kind = { .key = amqp_cstring_bytes("x-queue-type") };
    kind.value.kind = AMQP_FIELD_KIND_UTF8;
    kind.value.value.bytes = amqp_cstring_bytes("quorum");
    amqp_bytes_t queue = amqp_cstring_bytes("bench");
    check(amqp_queue_declare(conn, 1, queue, 0, 1, 0, 0, (amqp_table_t){ 1, &kind }));
    check(amqp_confirm_select(conn, 1));

    char body[200] = { 0 };
    amqp_basic_properties_t persistent = { ._flags = AMQP_BASIC_DELIVERY_MODE_FLAG, .delivery_mode = 2 };
    int64_t begun_ns = clock_now_ns();
    for (uint64_t sent = 0; sent < count; sent++) {
        while (sent - confirmed >= WINDOW)
            take_confirms(conn, true);
        check(amqp_basic_publish(conn, 1, amqp_empty_bytes, queue, 1, 0, &persistent, (amqp_bytes_t){ sizeof body, body }) ==
              AMQP_STATUS_OK);
        if (sent % 100 == 0)
            take_confirms(conn, false);
    }
    while (confirmed < count)
        take_confirms(conn, true);
    printf("%.0f\n", (double)count * 1e9 / (double)(clock_now_ns() - begun_ns));
    amqp_queue_delete(conn, 1, queue, 0, 0);
    amqp_connection_close(conn, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(conn);
    return 0;
}
