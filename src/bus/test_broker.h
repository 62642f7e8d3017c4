/* test_broker.h: a real RabbitMQ for tests in C, started and ended by test/e2e/broker.py. */
#ifndef ROTA_TEST_BROKER_H
#define ROTA_TEST_BROKER_H

#include <sys/types.h>

struct test_broker {
    char dir[64];
    pid_t pid; /* of the script */
    int input; /* the broker lives as long as this is open */
    int port;
};

/* Ends the program with a message when the broker does not start. Users: master, worker and peer, each with its name as
 * password, and guest. */
void test_broker_start(struct test_broker *b);
void test_broker_stop(struct test_broker *b);

#endif
