/* Against a real RabbitMQ of its own: the suite, and what only this transport has. */
#include <stdio.h>
#include <stdlib.h>

#include "bus/bus_conformance.h"
#include "bus/test_broker.h"
#include "io/clock.h"
#include "io/loop.h"

static struct test_broker broker;

static void begin(void *arg)
{
    (void)arg; /* One virtual host for all: each test closes what it opened, and nothing of it stays at the broker. */
}

static struct bus *open_end(void *arg, struct loop *loop, enum bus_role role, const char *name,
                            const struct bus_events *events, struct err *err)
{
    (void)arg;
    char url[100];
    const char *user = role == BUS_ROLE_MASTER ? "master" : "worker";
    snprintf(url, sizeof url, "amqp://%s@127.0.0.1:%d?password_file=%s/%s.password", user, broker.port, broker.dir,
             user);
    struct bus_address address = { .role = role, .url = url, .name = name };
    return bus_open(loop, &address, events, err);
}

/* --- more than are let in at once --- */

struct crowd {
    struct test_end *workers;
    size_t count;
};

static size_t up_count(const struct crowd *c)
{
    size_t up = 0;
    for (size_t i = 0; i < c->count; i++)
        up += c->workers[i].up;
    return up;
}

static bool all_up(void *crowd)
{
    return up_count(crowd) == ((struct crowd *)crowd)->count;
}

static bool all_down(void *crowd)
{
    return up_count(crowd) == 0;
}

/* Their master goes and comes back: all find it again. ROTA_CROWD says how many they are. */
static void test_crowd_comes_back(void **state)
{
    struct bus_rig *rig = *state;
    const char *text = getenv("ROTA_CROWD");
    struct crowd crowd = { .count = text ? strtoul(text, NULL, 10) : 150 };
    struct test_end master = { 0 }, first = { 0 };
    crowd.workers = calloc(crowd.count, sizeof *crowd.workers);
    first.loop = loop_new();
    for (int round = 0; round < 2; round++) {
        int64_t begun_ms = clock_now_ms();
        master.ups = master.downs = 0;
        master.up = false;
        end_open(&master, rig, BUS_ROLE_MASTER, "master", NULL);
        for (size_t i = 0; i < crowd.count && round == 0; i++)
            end_open(&crowd.workers[i], rig, BUS_ROLE_WORKER, "worker", first.loop);
        UNTIL(all_up, &crowd, &master, &first);
        printf("# %zu workers up after %lld ms\n", crowd.count, (long long)(clock_now_ms() - begun_ms));
        assert_int_equal(master.ups - master.downs, crowd.count);
        for (size_t i = 0; i < crowd.count; i++)
            assert_int_equal(end_send(&crowd.workers[i], BUS_MASTER, bytes_str("here"), NULL), 0);
        end_close(&master);
        UNTIL(all_down, &crowd, &first);
    }
    for (size_t i = 0; i < crowd.count; i++) {
        end_close(&crowd.workers[i]);
        free(crowd.workers[i].last_data);
    }
    free(master.last_data);
    loop_free(first.loop);
    loop_free(master.loop);
    free(crowd.workers);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    test_broker_start(&broker);
    struct bus_rig rig = { .begin = begin, .end = begin, .open = open_end, .second_master_waits = true };
    struct CMUnitTest tests[BUS_CONFORMANCE_TESTS_MAX + 1];
    size_t count = bus_conformance(tests, &rig);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test_prestate(test_crowd_comes_back, &rig);
    int failed = _cmocka_run_group_tests("bus_amqp", tests, count, NULL, NULL);
    test_broker_stop(&broker);
    return failed;
}
